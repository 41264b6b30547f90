/* crew.h: groups of a test, their members, and what is left of them. */
#ifndef CREW_H
#define CREW_H

#include "fixture.h"

/* Log test.a; topic test.a.one is crew's, which has these settings, and that of `more`, e.g. ",\"other\""; test.a.two is that of
 * `others`, e.g. "\"other\"". */
struct crew_options {
    const char *more;
    const char *others;
    unsigned partitions;
    const char *ring;
    const char *settings;
    bool keeper;
};
struct fixture crew_bus(struct crew_options options);

/* NULL: it failed, and that is printed. handler NULL: evbus_receive(). */
struct evbus_subscription *crew_join(struct evbus *bus, const char *group, evbus_handler *handler, void *context);

struct evbus_group_stat crew_stat(struct evbus *bus, const char *group);

struct group_part *crew_part(struct evbus *bus, const char *group, uint32_t partition);

/* Nothing is pinned once all is handled: the group's low is the tail. NULL: so it is. */
const char *crew_pins(struct evbus *bus, const char *group);

/* The dead letters of a group, from now on. */
struct evbus_reader *crew_letters(struct evbus *bus, const char *group);

/* Threads on the bus, once those that have died are buried. */
uint32_t crew_slots(struct fixture *f);

/* A key of this one of two partitions. */
void crew_key(uint32_t partition, char out_key[16]);

#endif
