/* stream.h: events from producers to whoever reads them, as fast as they go, each of them checked. See stream.c. */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include "own_bus.h"

#define STREAM_BATCH         32
#define STREAM_PRODUCERS_MAX 4
#define STREAM_GROUPS_MAX    8
#define STREAM_KEYS_MAX      10000

struct stream {
    unsigned n_producers; /* of groups: 1 */
    unsigned n_groups;    /* 0: a reader; each gets all events */
    unsigned n_members;   /* of each group, a process each */
    unsigned n_keys;      /* given by turns; 0: none */
    bool is_spread;       /* over N_PARTITIONS */
    bool is_batch;        /* evbus_publish_batch() of STREAM_BATCH, else one call per event */
    bool is_crowded;      /* not a processor for each process: none is pinned, and they wait as services do */
    struct variant variant;
};

int stream_n_processes(const struct stream *stream);

/* n_all events, over all producers. *out_per_s: of them, from the first tenth to the last; *out_n_full: EVBUS_EFULL that producers met.
 * As children_run(). */
int stream_run(const struct stream *stream, size_t n_all, const struct placement *placement, double *out_per_s,
               uint64_t *out_n_full);

/* Publishes events[0 .. n-1], whatever it takes: a full ring is met again and again until it has been full for too long. 0 or 1 */
int stream_publish(struct evbus *bus, bool is_batch, const struct evbus_event *events, size_t n,
                   _Atomic uint64_t *n_full);

#endif
