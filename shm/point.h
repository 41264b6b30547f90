/* point.h: places where a test may crash the process or make a call fail. See point.c. */
#ifndef EVBUS_POINT_H
#define EVBUS_POINT_H

#include "error.h"

#include <stdatomic.h>

/* In the order in which an event passes them; their names are in point.c and in <evbus/testing.h>. */
enum point {
    POINT_PUBLISH_CLAIMED,   /* the cells are ours, nothing is written */
    POINT_PUBLISH_WRITTEN,   /* written, not committed */
    POINT_PUBLISH_COMMITTED, /* committed, nobody woken */
    POINT_GROUP_TAKEN,       /* the entry is there, the cursor has not moved */
    POINT_GROUP_RUNNING,     /* about to be handed to a handler */
    POINT_GROUP_FINISHING,   /* handled, not acknowledged */
    POINT_GROUP_FINISHED,    /* acknowledged */
    POINT_DEAD_PUBLISHED,    /* the dead letter is there, its entry is still DEAD */
    POINTS
};

extern _Atomic unsigned point_armed; /* how many points are; 0: each costs one load */

int point_hit(enum point point, struct error *err);

static inline bool point_is_any(void)
{
    return atomic_load_explicit(&point_armed, memory_order_relaxed) != 0;
}

/* EVBUS_OK; or the code with which a test makes the call fail here. Does not come back where a test crashes the process. */
static inline int point_pass(enum point point, struct error *err)
{
    return point_is_any() ? point_hit(point, err) : EVBUS_OK;
}

/* By name; countdown 1: the next time. code EVBUS_OK: SIGKILL. countdown 0: disarm. EVBUS_OK, EVBUS_ENOTFOUND. */
int point_arm(const char *name, unsigned countdown, int code);

#endif
