/* futex.c: sleep until a word of shared memory changes, and wake who sleeps on it.
 *
 * The operations are the shared ones (no FUTEX_PRIVATE_FLAG): the same word is mapped at another address in each process.
 * Nobody relies on being woken: each sleep is bounded, and whoever wakes looks at the words again. So errors (EINTR,
 * EAGAIN, ETIMEDOUT) need no telling apart. */
#include "futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

struct futex_waitv_entry { /* as the kernel has it; Debian 12's headers may lack it */
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};

#define WAITV_32 2u /* FUTEX_32: a word of 32 bits, shared */

void futex_wait(const _Atomic uint32_t *word, uint32_t seen, struct timespec timeout)
{
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

void futex_wait_any(const struct futex_watch *watches, size_t n, struct timespec timeout)
{
    struct futex_waitv_entry entries[FUTEX_WATCHES_MAX];
    if (n == 0)
        return;
    if (n > FUTEX_WATCHES_MAX)
        n = FUTEX_WATCHES_MAX;
    for (size_t i = 0; i < n; i++)
        entries[i] = (struct futex_waitv_entry){
            .value = watches[i].seen, .address = (uintptr_t)watches[i].word, .flags = WAITV_32};
    struct timespec until; /* this call takes a point in time */
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout.tv_sec;
    until.tv_nsec += timeout.tv_nsec;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    if (syscall(SYS_futex_waitv, entries, (unsigned)n, 0u, &until, CLOCK_MONOTONIC) < 0 &&
        (errno == ENOSYS || errno == EPERM)) {
        const struct timespec round = {.tv_nsec = 50000000};
        futex_wait(watches[n - 1].word, watches[n - 1].seen,
                   timeout.tv_sec == 0 && timeout.tv_nsec < round.tv_nsec ? timeout : round);
    }
}

unsigned futex_wake(const _Atomic uint32_t *word, int n)
{
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
    return woken > 0 ? (unsigned)woken : 0;
}
