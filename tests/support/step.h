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

#define STEP_PATH_MAX 65536u

/* The instructions of our own text to which a thread has come, in that order: offsets in it. */
struct step_path {
    uint32_t n; /* may be more than there is room for */
    uint32_t at[STEP_PATH_MAX];
};

/* Notes them from the next call of a function until step_end(); what is called elsewhere runs at full speed. A thread that blocks
 * SIGTRAP and comes to where that is waited for ends the process: try again. */
void step_note(struct step_path *path, uintptr_t function);

/* SIGKILL before the i-th of them, if this thread goes that way again; at full speed until there, for the processor stops only where
 * that instruction is. A thread that slips through beside another one is not killed, and one that blocks SIGTRAP ends the process by that: try again. */
void step_kill_at(const struct step_path *path, uint32_t i);

/* What becomes of a child at a step of our own text. As context of step_stop_in_ours(). */
struct step_ours {
    uint64_t wanted; /* 1, 2 ...; 0: none */
    uint64_t n;      /* so far */
};

/* A callback; context: struct step_ours. SIGSTOP before the wanted instruction of our own, then without stepping. */
bool step_stop_in_ours(void *context, uint64_t n, uintptr_t pc);

#endif
