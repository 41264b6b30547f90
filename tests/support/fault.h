/* fault.h: the n-th system call of a child fails, with each of the errors that it is likely to have.
 *
 * The child is traced between fault_begin() and fault_end(), its threads that begin there, too. The call is not made, but for
 * close(), which is over even when it fails, and for a read or write of a part (FAULT_SHORT). Calls that cannot fail, or only by a bug of ours, do not count; nor do those that a
 * sanitizer makes for itself. x86-64 only: elsewhere FAULT_WORKS is 0. */
#ifndef FAULT_H
#define FAULT_H

#include <stdbool.h>

#if defined(__x86_64__)
#define FAULT_WORKS 1
#else
#define FAULT_WORKS 0
#endif

#define FAULT_SHORT 9999 /* no errno: the call is made with half of its length, and succeeds */

struct fault {
    unsigned nth;         /* 1, 2 ... of the calls that count */
    unsigned which_error; /* 0, 1 ... of those that it is likely to have */
    bool of_others;       /* of the threads that the child's first one begins, not of itself */
    /* set by fault_run() */
    bool has_struck;
    bool has_more_errors; /* which_error + 1 is another one */
    const char *call;     /* its name */
    int error;            /* errno, or FAULT_SHORT */
};

/* Runs body(context) in a child with this fault; what child_join() gives for its end. It calls fault_begin(), later fault_end(). */
int fault_run(struct fault *fault, int (*body)(void *context), void *context);

/* In the child. */
void fault_begin(void);
void fault_end(void);

/* What is tried with every fault that it can have. */
struct fault_case {
    void (*arrange)(void *context); /* before each, in the test's process */
    int (*act)(void *context);      /* as body above */
    void (*check)(void *context, const struct fault *fault, int status);
    void *context;
};

/* Tries each, with EVBUS_QUICK=1 those of every seventh call, and returns how many faults struck; 0 where there are none to be had: FAULT_WORKS is
 * 0, or valgrind's (EVBUS_SLOW=1). */
unsigned fault_each(const struct fault_case *trial);

#endif
