/* testing.c: the engine as test double. Nothing here knows how the engine works: it makes a bus, moves the clock that all of it
 * reads, and arms the points that it passes. Checked by tests/unit/test_testing.c. */
#include <evbus/testing.h>

#include "bus.h"
#include "clock.h"
#include "doorbell.h"
#include "point.h"
#include "slot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUSES_MAX 64

/* Names of the buses that this process has made and not removed yet. */
static char made[BUSES_MAX][SERVICE_BYTES];
static pid_t made_by;
static pthread_mutex_t made_mutex = PTHREAD_MUTEX_INITIALIZER;

static void remove_all(void)
{
    for (int i = 0; getpid() == made_by && i < BUSES_MAX; i++)
        if (made[i][0] != '\0')
            evbus_remove(made[i]);
}

static bool remember(const char *name)
{
    bool has_room = false;
    pthread_mutex_lock(&made_mutex);
    if (made_by != getpid()) { /* a forked child's are not ours to remove */
        memset(made, 0, sizeof made);
        made_by = getpid();
        atexit(remove_all);
    }
    for (int i = 0; i < BUSES_MAX && !has_room; i++)
        if (made[i][0] == '\0') {
            memcpy(made[i], name, strlen(name) + 1);
            has_room = true;
        }
    pthread_mutex_unlock(&made_mutex);
    return has_room;
}

/* false: it is not ours: a forked child's copy of its parent's. */
static bool forget(const char *name)
{
    bool was_ours = false;
    pthread_mutex_lock(&made_mutex);
    for (int i = 0; i < BUSES_MAX && made_by == getpid(); i++)
        if (strcmp(made[i], name) == 0) {
            made[i][0] = '\0';
            was_ours = true;
        }
    pthread_mutex_unlock(&made_mutex);
    return was_ours;
}

EVBUS_API int evbus_test_open(struct evbus **out_bus, const char *catalogue, const char *service)
{
    static _Atomic unsigned count;
    char name[SERVICE_BYTES];
    snprintf(name, sizeof name, "test-%d-%u", (int)getpid(),
             atomic_fetch_add_explicit(&count, 1, memory_order_relaxed));
    evbus_remove(name); /* of a process of this number that was killed */
    int rc = evbus_init(
        &(struct evbus_init_options){.size = sizeof(struct evbus_init_options), .bus = name, .catalogue = catalogue});
    if (rc != EVBUS_OK)
        return rc;
    if (!remember(name)) {
        evbus_remove(name);
        return error_set(error_of_thread(), EVBUS_ELIMIT, "this process has %d test buses open, no more fit",
                         BUSES_MAX);
    }
    rc = evbus_open(out_bus,
                    &(struct evbus_options){.size = sizeof(struct evbus_options), .bus = name, .service = service});
    if (rc != EVBUS_OK && forget(name))
        evbus_remove(name);
    return rc;
}

EVBUS_API const char *evbus_test_name(const struct evbus *bus)
{
    return bus->memory.bus;
}

EVBUS_API void evbus_test_close(struct evbus *bus)
{
    if (bus == NULL)
        return;
    char name[SERVICE_BYTES];
    memcpy(name, bus->memory.bus, sizeof name);
    evbus_close(bus);
    if (forget(name))
        evbus_remove(name);
}

EVBUS_API void evbus_test_clock_freeze(void)
{
    clock_freeze();
}

EVBUS_API void evbus_test_clock_advance(struct evbus *bus, uint64_t ns)
{
    clock_advance(ns);
    struct slot *slots = bus->memory.control->slots;
    for (int i = 1; i <= SLOTS_MAX; i++)
        if (slot_is_used(&slots[i]))
            doorbell_ring_slot(&slots[i]);
}

EVBUS_API void evbus_test_clock_release(void)
{
    clock_release();
}

EVBUS_API int evbus_test_crash_at(const char *point, unsigned n)
{
    return evbus_test_fail_at(point, n, EVBUS_OK);
}

EVBUS_API int evbus_test_fail_at(const char *point, unsigned n, enum evbus_code code)
{
    if (point == NULL || point_arm(point, n, code) != EVBUS_OK)
        return error_set(error_of_thread(), EVBUS_ENOTFOUND, "there is no point \"%s\"; evbus/testing.h lists them",
                         point != NULL ? point : "NULL");
    return EVBUS_OK;
}

struct handled {
    const char *group;
    bool is_there;
    bool is_done;
};

static int look_at(void *context, const struct evbus_group_stat *stat)
{
    struct handled *handled = context;
    if (strcmp(stat->group, handled->group) != 0)
        return 0;
    handled->is_there = true;
    handled->is_done = stat->lag == 0 && stat->n_pending == 0;
    return 0;
}

EVBUS_API int evbus_test_await_handled(struct evbus *bus, const char *group, uint64_t timeout_ns)
{
    uint64_t until = clock_deadline(clock_real_ns(), timeout_ns);
    for (;;) {
        struct handled handled = {.group = group};
        int rc = evbus_groups(bus, look_at, &handled);
        if (rc != EVBUS_OK || handled.is_done)
            return rc;
        if (!handled.is_there)
            return error_set(error_of_thread(), EVBUS_ENOTFOUND, "there is no group %s", group);
        if (clock_real_ns() > until)
            return error_set(error_of_thread(), EVBUS_ETIMEOUT, "group %s has not handled all in time", group);
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
}
