/* proc.h: what /proc says of a thread. See proc.c. */
#ifndef EVBUS_PROC_H
#define EVBUS_PROC_H

#include "layout.h"

#include <stdbool.h>

enum proc_halt {
    PROC_GOES_ON, /* or it cannot be told: of another PID namespace, ended */
    PROC_STOPPED, /* by a signal */
    PROC_TRACED,  /* by a debugger */
    PROC_FROZEN   /* by the cgroup freezer: docker pause, systemctl freeze */
};

/* Is it a thread of our PID namespace, so that its numbers mean the same here? */
bool proc_is_here(const struct slot *slot);

/* Does something hold the thread that has the slot? */
enum proc_halt proc_look(const struct slot *slot);

/* " by a debugger" and the like, behind "is stopped". */
const char *proc_by(enum proc_halt halt);

#endif
