/* town.h: a bus on which processes publish and consume as long as a test runs, and what must hold whatever happens to some of
 * them: no acknowledged event is lost, order per key, nothing in the hands of two (ledger.h), and everybody goes on. */
#ifndef TOWN_H
#define TOWN_H

#include "child.h"
#include "fixture.h"
#include "ledger.h"

/* Topic test.a.one is the group crew's; test.a.two, in the same log, nobody's. */
struct town {
    struct fixture f;
    struct ledger *ledger;
    _Atomic uint32_t acked[LEDGER_PRODUCERS + 1]; /* by producer: events that evbus_publish() has acknowledged */
    _Atomic int is_gone[LEDGER_PRODUCERS + 1];    /* it publishes no more: it is going to be killed */
    _Atomic int tid[LEDGER_PRODUCERS + 1];        /* of the producer's thread */
    _Atomic int has_ended[LEDGER_PRODUCERS + 1];  /* it has been told to stop, and what it published is acknowledged */
    _Atomic int member_tid[LEDGER_MEMBERS];
    _Atomic uint32_t n_in_hand[LEDGER_MEMBERS]; /* of a member, now */
    _Atomic int stop;                           /* publish no more */
    _Atomic int over;                           /* consume no more */
    _Atomic int failed;                         /* what some call returned */
    char what[256];
    unsigned pace; /* how long a producer pauses between two events: about so many 0.2 ms */
};

/* A process, or what it does. */
struct citizen {
    struct town *town;
    uint32_t producer; /* 1..LEDGER_PRODUCERS; 0: it publishes nothing */
    unsigned member;   /* 1.. each that is ever born has another one; 0: it consumes nothing */
    bool keeper;       /* a candidate */
    bool stays;        /* until the town is over, also where it does nothing */
};

/* In memory that all processes share. ring: NULL: "256KiB". */
struct town *town_make(unsigned partitions, const char *ring);

/* Does what a citizen does, in threads of the calling process, until the town is over. 0: all went well. */
int town_live(const struct citizen *citizen);
int town_live_on(const struct citizen *citizen, struct evbus *bus); /* on this handle, which it does not close */

/* The same in a child. */
struct child town_bear(const struct citizen *citizen);

/* A citizen is going to die: what it had may come again. */
void town_doom(const struct citizen *citizen);

/* What has been acknowledged by now is handled, and each producer that is not gone publishes on. Ends the test when it does not
 * become true; prints how long that took, after what. */
void town_goes_on(struct town *town, const char *after);

/* Producers end, all is handled, members end; the children are joined and must have ended well. Then the record is checked. */
void town_end(struct town *town, struct child *children, unsigned n_children);

/* Slots of threads that are attached; those that nobody can have any more. */
struct evbus_stat town_stat(struct town *town);

#endif
