/* partition.h: one ring (and, once there is one, its journal): append. See partition.c. */
#ifndef EVBUS_PARTITION_H
#define EVBUS_PARTITION_H

#include "doorbell.h"
#include "memory.h"
#include "ring.h"

/* How a producer waits for room. */
struct partition_wait {
    uint64_t timeout_ns;   /* 0: not at all */
    uint64_t spin_ns;      /* before it sleeps; UINT64_MAX: it never sleeps */
    bool has_points;       /* a publish of the user's: tests may crash it or make it fail (point.h) */
    struct memory *memory; /* once it is gone there is nothing to wait for. NULL: it cannot go */
};

/* Claims, writes and commits a frame of n_cells for the thread that owns `claim`. Nobody is woken: partition_wake().
 * EVBUS_OK; EVBUS_EFULL; EVBUS_ESTALE; EVBUS_EEXHAUSTED; EVBUS_ECORRUPT. */
int partition_append(struct ring *ring, struct claim *claim, const uint64_t *frame, uint32_t n_cells,
                     struct partition_wait wait, uint64_t *out_pos, struct error *err);

/* Wakes who sleeps on these topics of the log, then makes room where it gets scarce. */
void partition_wake(struct ring *ring, struct log_head *log, const struct topic_set *topics, uint64_t pos);

#endif
