/* fixture.h: a bus of the test's own, removed when the test ends in whatever way. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <evbus/admin.h>
#include <evbus/evbus.h>

#include <stdbool.h>

/* One log `test.a` with topics test.a.one and test.a.two, one log `test.b` with test.b.one; any service may publish. */
struct fixture {
    char name[64];     /* of the bus */
    struct evbus *bus; /* opened as service "tester", without a keeper unless asked */
};

/* What the bus is like. Zeroes are the defaults. */
struct fixture_options {
    unsigned partitions; /* 0: 1 */
    const char *ring;    /* "4KiB" ... ; NULL: "64KiB" */
    bool keeper;         /* our handle's thread volunteers */
    enum evbus_wait wait;
    const char *catalogue; /* NULL: the one above */
};

/* Makes the bus and opens it; ends the test with a message when that fails. A bus of the same name left by a crashed run is
 * removed first. The bus is removed at the end of the process, too. */
struct fixture fixture_make(struct fixture_options options);

/* Closes and removes. */
void fixture_end(struct fixture *fixture);

/* Another handle on the same bus, as this service; in a forked child, too. Exits the process with 99 when that fails. */
struct evbus *fixture_open(const struct fixture *fixture, const char *service, enum evbus_keeper keeper);

/* A /dev/shm of this process's own from here on, of that size ("64m"), gone with it and its children. Others' buses do not show. false:
 * it may not (no root); everything is as it was then. */
bool fixture_own_shm(const char *size);

/* Publishes a payload (JSON) on test.a.one with a key (NULL: none), waiting up to a second for room. */
int fixture_publish(struct evbus *bus, const char *key, const char *payload);

#endif
