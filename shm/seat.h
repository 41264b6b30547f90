/* seat.h: who keeps the bus: one candidate of all that are attached. See seat.c. */
#ifndef EVBUS_SEAT_H
#define EVBUS_SEAT_H

#include "log.h"
#include "memory.h"

/* A candidate. Zeroed but for the first three. */
struct seat {
    struct memory *memory;
    struct log *log;
    uint32_t slot;
    uint32_t word;     /* as it is while it is ours */
    uint64_t stand_ns; /* after a term that could not begin: not before */
    /* what we saw of a keeper that does nothing */
    uint32_t seen_word, seen_progress;
    uint64_t seen_ns;
    unsigned n_deposed;
};

/* true: it is ours. A keeper has no state of its own to mend. */
bool seat_try(struct seat *seat);

/* Sleeps until it may be free, or `stop` (private futex) is not 0, or half a second has passed. true: it is ours, taken from one that is
 * stopped. */
bool seat_wait(struct seat *seat, const _Atomic uint32_t *stop);

bool seat_is_ours(const struct seat *seat);
void seat_leave(struct seat *seat);

#endif
