/* step.h: do something at a thread's n-th machine instruction: kill, stop, or jump out.
 *
 * The processor's trap flag makes each instruction end in a SIGTRAP; its handler counts and asks. A system call counts as
 * one. One thread at a time, with SIGTRAP unblocked; pthread_create() and whatever else blocks all signals cannot be
 * stepped. 10 to 20 us a step. x86-64 only: elsewhere STEP_WORKS is 0. */
#ifndef STEP_H
#define STEP_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__)
#define STEP_WORKS 1
#else
#define STEP_WORKS 0
#endif

/* Called between two instructions: n of them are done, pc is the next. false: go on without stepping. May leave by
 * siglongjmp(). */
typedef bool step_callback(void *context, uint64_t n, uintptr_t pc);

void step_begin(step_callback *at, void *context);

/* The same from the next call of this function on: what comes before it runs at full speed. Once. */
void step_begin_at(uintptr_t function, step_callback *at, void *context);

/* Returns how many instructions there were. Fine when the stepping has ended before. */
uint64_t step_end(void);

/* Is it in this program's own text, which holds the library's, and not in the C library? */
bool step_is_ours(uintptr_t pc);

/* A callback; context: uint64_t, the step. SIGKILL there. */
bool step_kill(void *context, uint64_t n, uintptr_t pc);

/* A callback that never stops: it counts. */
bool step_count(void *context, uint64_t n, uintptr_t pc);

/* What becomes of a child at a step of our own text. As context of step_stop_in_ours(). */
struct step_ours {
    uint64_t wanted; /* 1, 2 ...; 0: none */
    uint64_t n;      /* so far */
};

/* A callback; context: struct step_ours. SIGSTOP before the wanted instruction of our own, then without stepping. */
bool step_stop_in_ours(void *context, uint64_t n, uintptr_t pc);

#endif
