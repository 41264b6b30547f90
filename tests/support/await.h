/* await.h: wait for a condition under a generous deadline. The only thing in the tests that sleeps. */
#ifndef AWAIT_H
#define AWAIT_H

#include "sanitizer.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Far beyond what a loaded machine needs: a test that gets here has failed. A sanitizer's build takes six steps for one. */
#define AWAIT_MS (HAS_SANITIZER ? 60000 : 20000)

/* Looks at the condition again and again; false when it has not come true in AWAIT_MS. */
bool await(bool (*condition)(void *context), void *context);

/* The same while an expression is false: await_that(ring_tail(ring) > 5). */
#define await_that(expression)                                                 \
    __extension__({                                                            \
        uint64_t await_until_ = await_now_ms() + AWAIT_MS;                     \
        bool await_came_ = false;                                              \
        while (!(await_came_ = (expression)) && await_now_ms() < await_until_) \
            await_pause();                                                     \
        await_came_;                                                           \
    })

uint64_t await_now_ms(void);

/* For who looks again and again whether others go on: ms less those for which nobody let us look, as the machine was busy. */
struct await_watch {
    uint64_t awake_us;
    uint64_t last_us;
};
uint64_t await_awake_ms(struct await_watch *watch);

/* How long a process has been ready to run and had to wait for a processor, in its life: that is no fault of its own. */
uint64_t await_kept_waiting_ms(pid_t pid);

void await_pause(void); /* 0.2 ms */

#endif
