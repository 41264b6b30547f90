/* child.h: other processes of a test. A child dies with its parent, never asserts, and leaves with _exit(). */
#ifndef CHILD_H
#define CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct child {
    pid_t pid;
};

/* Forks; the child runs body(context) and leaves with _exit(what it returns). */
struct child child_start(int (*body)(void *context), void *context);

/* Its exit status; a signal that ended it as 128 + its number; -1 when it does not end in AWAIT_MS (it is killed then). */
int child_join(struct child *child);

void child_kill(struct child *child);     /* SIGKILL, and waits for the end */
void child_stop(struct child *child);     /* SIGSTOP, and waits until it is stopped */
void child_continue(struct child *child); /* SIGCONT */
bool child_is_running(struct child *child);

/* Kills a child before or after a system call, at the k-th such moment. body asks to be traced, then stops itself. true: it
 * was killed; false: it had ended well before. */
bool child_kill_at_call(int (*body)(void *context), void *context, unsigned k);

/* The calling thread of a child, whichever it is, runs another program, which does nothing until it is killed or the child's
 * parent ends. Returns only where that fails. */
void child_execute(void);

/* Zeroed memory that children share with their parent. */
void *child_shared(size_t len);

#endif
