/* metrics.h: the bridge in numbers. See metrics.c. */
#ifndef EVBUS_BRIDGE_METRICS_H
#define EVBUS_BRIDGE_METRICS_H

#include <evbus/evbus.h>

#define METRICS_BUCKETS 16 /* the last has no bound */

/* How long something took. */
struct metrics_times {
    uint64_t n[METRICS_BUCKETS]; /* of this bucket alone */
    uint64_t sum_ns;
};

void metrics_time(struct metrics_times *times, uint64_t ns);

/* Filled in by whoever does it: egress, ingress, the backend, the loop; one thread. Each field is a row of metrics.c. */
struct metrics {
    /* how it is */
    uint64_t started_ns; /* since 1970 */
    uint64_t bus_here;   /* 0, 1 */
    uint64_t connected;  /* 0, 1 */
    uint64_t leader;     /* 0, 1 */
    uint64_t paused;     /* 0, 1: by `evbus bridge pause` */
    uint64_t epoch;      /* of our leadership; 0: none yet */
    uint64_t connects;   /* connections made, the first one included */
    uint64_t connect_failures;
    uint64_t reloads;
    uint64_t reload_failures;
    uint64_t checkpoints;

    /* out */
    uint64_t out_events; /* that the broker has said it has */
    uint64_t out_bytes;  /* of their payloads */
    uint64_t out_batches;
    uint64_t out_under_way; /* batches that are not answered yet */
    uint64_t out_lag_ns;    /* how long, at least, the oldest event that is not there has waited; 0: all is there */
    uint64_t out_gaps;      /* the broker had lost our tail */
    uint64_t out_refilled_events; /* sent once more for that */
    uint64_t out_fenced;          /* batches refused, as another bridge leads */
    uint64_t out_refused;         /* batches refused by the broker for another reason */
    uint64_t out_lost_cells;      /* were gone from the bus before they could be read */
    struct metrics_times append;  /* from send to its answer */

    /* in */
    uint64_t in_events;         /* published on the bus */
    uint64_t in_bytes;          /* of their payloads */
    uint64_t in_own;            /* entries of this bus, left out */
    uint64_t in_repeated;       /* entries that the bus has already, left out */
    uint64_t in_rejected;       /* dead letters: no event, or one that the bus refuses */
    uint64_t in_resets;         /* streams that began anew */
    uint64_t in_gaps;           /* streams read anew, as events of another bus were missing */
    struct metrics_times bring; /* from the broker's answer to the bus */

    /* trim */
    uint64_t trims;
    uint64_t trimmed_entries;
    uint64_t dropped_hosts; /* not waited for any more */
};

/* The text for Prometheus, 0.0.4: the bridge's own, then that of the bus (NULL: none). backend, mirror: labels. Returned: what write() does. */
int metrics_write(const struct metrics *metrics, const char *bus_name, const char *mirror, const char *backend,
                  struct evbus *bus, int (*write)(void *context, const char *text, size_t len), void *context);

/* --- for tests: the table */

enum metrics_kind { METRICS_GAUGE, METRICS_COUNTER, METRICS_HISTOGRAM };
enum metrics_unit { METRICS_ONE, METRICS_FLAG, METRICS_BYTES, METRICS_NS, METRICS_CELLS };

struct metrics_row {
    enum metrics_kind kind;
    enum metrics_unit unit; /* of the field; seconds and bytes in the text */
    const char *name;       /* without the evbus_bridge_ in front */
    const char *field;
    size_t offset;
    const char *help;
};
extern const struct metrics_row metrics_table[];
extern const size_t metrics_n;

#endif
