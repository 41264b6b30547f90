/* fd.h: a descriptor that becomes readable when a reader may have something to read. See fd.c. */
#ifndef EVBUS_FD_H
#define EVBUS_FD_H

#include "cursor.h"
#include "memory.h"

struct fd;

/* What is watched. All of it must outlive the thread. */
struct fd_target {
    const struct cursor *cursors;
    size_t n_cursors;
    const struct topic_set *wanted; /* per log of memory; empty: not read */
};

/* Starts the thread `evbus-fd`, armed. EVBUS_OK, EVBUS_EIO, EVBUS_ENOSPC, EVBUS_ELIMIT. */
int fd_start(struct fd **out_fd, struct memory *memory, struct fd_target target, struct error *err);

/* The eventfd. */
int fd_number(const struct fd *fd);

/* The reader has found nothing: make it unreadable, and readable again as soon as there is something. */
void fd_arm(struct fd *fd);

/* Ends the thread and closes the descriptor. NULL is fine. alive false: in a forked child, where there is no thread. */
void fd_stop(struct fd *fd, bool alive);

#endif
