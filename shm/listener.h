/* listener.h: one slot's places among the sleepers of the logs whose topics it wants. See doorbell.c for the protocol.
 * One thread's; burial gives the places back. */
#ifndef EVBUS_LISTENER_H
#define EVBUS_LISTENER_H

#include "doorbell.h"
#include "memory.h"

struct listener {
    uint32_t places[LOGS_MAX]; /* + 1; 0: none yet */
};

/* A place in each log of which `wanted` (one set per log) has topics, and what may wake it there. EVBUS_OK; EVBUS_ELIMIT. */
int listener_join(struct listener *listener, const struct memory *memory, uint32_t slot, const struct topic_set *wanted,
                  struct error *err);

/* Our bits in these logs: set before the look that precedes a sleep, clear after it. */
void listener_set(const struct listener *listener, const struct memory *memory, const struct topic_set *wanted);
void listener_clear(const struct listener *listener, const struct memory *memory, const struct topic_set *wanted);

#endif
