/* limits.h: what the machine itself costs, in the same run. See limits.c. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include "measure.h"
#include "roles.h"

/* What figures are told in; 0: not measured (one processor). The table shows more than these. */
struct limits {
    double hop_ns;      /* H  a cache line from core to core, one way                   */
    double ring_64_ns;  /* R  half a round trip by a bare ring, 64 bytes and a header   */
    double ring_512_ns; /* R  the same with 512 bytes                                   */
    double wake_ns;     /* W  futex wake of a sleeping process, one way, p50            */
    double stream_64;   /* S  bare stream, events of 64 bytes (1 cell) per s            */
    double stream_512;  /* S  the same with 512 bytes (8 cells)                         */
};

enum limits_which { LIMITS_LATENCY = 1, LIMITS_STREAM = 2 }; /* hop is in both */

/* Measures, keeps raw samples, adds the lines to the table. As children_run() returns. */
int limits_measure(struct limits *out, unsigned which, const struct placement *placement,
                   const struct bench_options *options, struct table *table, int run);

/* S of any size, of n events. Adds its line. */
int limits_stream(double *out, size_t payload_len, size_t n, const struct placement *placement,
                  const struct bench_options *options, struct table *table, int run);

#endif
