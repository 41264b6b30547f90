/* point.c: places where a test may crash the process or make a call fail.
 *
 * The engine of a test double is the engine itself: what a test wants to see is what happens when it dies, or is refused, at a
 * certain step. A crash is a SIGKILL of ourselves, so that nothing is cleaned up. Of the process, since a test has one: armed
 * by <evbus/testing.h> alone, and each point costs one load while none is. Checked by tests/unit/test_testing.c. */
#include "point.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static const char *const names[POINTS] = {
    [POINT_PUBLISH_CLAIMED] = "publish.claimed",     [POINT_PUBLISH_WRITTEN] = "publish.written",
    [POINT_PUBLISH_COMMITTED] = "publish.committed", [POINT_GROUP_TAKEN] = "group.taken",
    [POINT_GROUP_RUNNING] = "group.running",         [POINT_GROUP_FINISHING] = "group.finishing",
    [POINT_GROUP_FINISHED] = "group.finished",       [POINT_DEAD_PUBLISHED] = "dead.published",
};

_Atomic unsigned point_armed;
static _Atomic unsigned left[POINTS]; /* times until it fires; 0: disarmed */
static _Atomic int codes[POINTS];

int point_arm(const char *name, unsigned countdown, int code)
{
    for (int i = 0; i < POINTS; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        atomic_store_explicit(&codes[i], code, memory_order_relaxed);
        unsigned before = atomic_exchange_explicit(&left[i], countdown, memory_order_acq_rel);
        if (before == 0 && countdown != 0)
            atomic_fetch_add_explicit(&point_armed, 1, memory_order_acq_rel);
        else if (before != 0 && countdown == 0)
            atomic_fetch_sub_explicit(&point_armed, 1, memory_order_acq_rel);
        return EVBUS_OK;
    }
    return EVBUS_ENOTFOUND;
}

int point_hit(enum point point, struct error *err)
{
    unsigned before = atomic_load_explicit(&left[point], memory_order_acquire);
    do {
        if (before == 0)
            return EVBUS_OK;
    } while (!atomic_compare_exchange_weak_explicit(&left[point], &before, before - 1, memory_order_acq_rel,
                                                    memory_order_acquire));
    if (before != 1)
        return EVBUS_OK;
    atomic_fetch_sub_explicit(&point_armed, 1, memory_order_acq_rel);
    int code = atomic_load_explicit(&codes[point], memory_order_relaxed);
    if (code == EVBUS_OK)
        kill(getpid(), SIGKILL);
    return error_set(err, (enum evbus_code)code, "a test lets it fail at %s", names[point]);
}
