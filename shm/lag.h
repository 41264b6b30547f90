/* lag.h: how far a group is behind in a partition, in events. See lag.c. */
#ifndef EVBUS_LAG_H
#define EVBUS_LAG_H

#include "doorbell.h"
#include "partition.h"

struct lag {
    uint64_t events;
    uint64_t first_ns; /* timestamp of the first of them; 0: none was seen */
    bool is_estimated;
};

/* The events of these topics from a frame's start on, up to the tail. buffer: room for the largest frame; NULL: files are not read. */
void lag_count(const struct memory *memory, const struct ring *ring, const struct topic_set *topics, uint64_t pos,
               uint64_t *buffer, struct lag *out_lag);

#endif
