/* metrics.h: a bus in numbers, for Prometheus: the table. See metrics.c. */
#ifndef EVBUS_METRICS_H
#define EVBUS_METRICS_H

#include <evbus/admin.h>

/* Of what there is one sample each, and so which labels it has beside `bus`. */
enum metrics_of {
    METRICS_INFO,       /* version, uuid */
    METRICS_BUS,        /* struct evbus_stat */
    METRICS_SERVICE,    /* service; struct metrics_service */
    METRICS_LOG,        /* log; struct evbus_partition_stat of its first */
    METRICS_PARTITION,  /* log, partition; struct evbus_partition_stat */
    METRICS_JOURNAL,    /* likewise, where there is one */
    METRICS_GROUP,      /* group; struct evbus_group_stat */
    METRICS_CAUSE,      /* group, cause; struct evbus_group_stat, the first of an array by enum evbus_cause */
    METRICS_GROUP_PART, /* group, log, partition; struct evbus_group_part_stat */
};

/* What stands in the field, and so how it becomes a number of the base unit. */
enum metrics_kind {
    METRICS_U32,
    METRICS_U64,
    METRICS_IS,       /* bool: 0 or 1 */
    METRICS_IS_SET,   /* 32 bits: 1 where it is not 0 */
    METRICS_NS,       /* seconds */
    METRICS_CELLS,    /* bytes */
    METRICS_TO_TAIL,  /* a position, UINT64_MAX: none; bytes from there to the partition's tail */
    METRICS_CONSTANT, /* 1 */
};

enum metrics_type { METRICS_GAUGE, METRICS_COUNTER };

struct metrics_row {
    enum metrics_of of;
    enum metrics_type type;
    const char *name;
    enum metrics_kind kind;
    const char *field; /* its name, for who compares */
    size_t offset;
    const char *help; /* one line; no backslash */
};

/* The threads that are attached as one service. */
struct metrics_service {
    const char *service;
    uint32_t n_threads;
    uint32_t n_dead;
    uint64_t cancels;
};

extern const struct metrics_row metrics_rows[];
extern const size_t metrics_n_rows;

#endif
