/* touch.h: kill or stop a process where it has just changed a bus's shared memory, or made a system call.
 *
 * Between two such points nobody else, and no kernel, can tell one instruction from the next: so these are all the points at which
 * a death or a stop can make a difference. They are found by the machine: the bus's objects are mapped read-only, so a store
 * faults; its page is opened, one instruction is stepped (step.h), and the page is closed again. Only our own stores count, at
 * full speed in between, whatever others do meanwhile. A compare-and-swap that loses counts, too.
 *
 * A point is written {stores, calls}: after so many stores, and then so many system calls. x86-64 only, see STEP_WORKS. */
#ifndef TOUCH_H
#define TOUCH_H

#include "step.h"

#define TOUCH_POINTS_MAX 4000

struct touch_point {
    uint32_t stores;
    uint32_t calls; /* since the last of them */
};

/* What is done, in which order, as it is found by going through it once. */
struct touch_points {
    uint32_t n;
    uint64_t n_steps; /* instructions */
    struct touch_point at[TOUCH_POINTS_MAX];
};

/* What happens at the point; before and after it nothing is watched. May kill or stop the process. */
typedef void touch_action(void *context);

/* Notes all points from here on; or, from the next call of a function on, when there is one. */
void touch_note(struct touch_points *points, uintptr_t function);

/* Acts at a point; {0, 0} is the beginning. */
void touch_at(struct touch_point point, uintptr_t function, touch_action *action, void *context);

/* Sets *gate when the watching begins, or after so many stores. Before touch_note() or touch_at(). */
void touch_opens(_Atomic int *gate, uint32_t stores);

/* Stops watching. false: touch_at() has not come to its point. */
bool touch_end(void);

#endif
