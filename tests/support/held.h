/* held.h: what a process and a bus hold, counted: to see whether a call has left something behind. */
#ifndef HELD_H
#define HELD_H

#include "memory.h"

enum {
    HELD_DESCRIPTORS, /* of this process */
    HELD_MAPPINGS,    /* of the bus's objects */
    HELD_THREADS,
    HELD_OBJECTS, /* of the bus, in /dev/shm */
    HELD_SLOTS,   /* from here on: places on the bus */
    HELD_SLEEPERS,
    HELD_PINS,
    HELD_MEMBERS,
    HELD_LEASES,
    HELD_GROUPS,
    HELD_THINGS
};

struct held {
    unsigned n[HELD_THINGS];
};

/* observer: the bus, mapped by memory_open(), which takes no place on it; NULL: there is none. n_threads: so many are waited for; 0:
 * whatever there are. */
struct held held_look(const char *bus, const struct memory *observer, unsigned n_threads);

#define HELD_TEXT_BYTES 128

/* false: out_text says what differs first. */
bool held_is_same(const struct held *before, const struct held *after, char out_text[HELD_TEXT_BYTES]);

#endif
