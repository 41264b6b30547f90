/* measure.h: the clock, samples, and the table that a benchmark prints. See measure.c. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BENCH_RUNS_MAX    64
#define BENCH_FIGURES_MAX 96
#define BENCH_NAME_MAX    96

/* As given on the command line, the same for every benchmark. */
struct bench_options {
    int n_runs;    /* repetitions, each with its own limits */
    int first_run; /* what the first of them is called, from 0: bench/run calls a program once per repetition */
    bool quick;    /* fewer repetitions of a quarter of the events */
    bool markdown; /* print the table as Markdown */
    FILE *raw;     /* NULL: keep no samples */
    FILE *figures; /* NULL; else what the table shows, for bench/report.py */
};

/* 0; else the program's exit code is in *out_exit: it printed its usage. */
int bench_options_parse(struct bench_options *options, int argc, char **argv, const char *what, int *out_exit);

uint64_t now_ns(void); /* CLOCK_MONOTONIC: the same in every process */
void spin_until(uint64_t then_ns);

#define SETTLE_NS 60000 /* after which the other side of a round trip sleeps, if it sleeps at all */

/* Prints one line to stderr and returns 1: what a role or a measurement returns. */
int fails(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Times in the order in which they were taken; in shared memory, as a child takes them. */
struct samples {
    size_t n, cap;
    uint64_t ns[];
};

struct samples *samples_new(size_t cap);
void samples_free(struct samples *samples);

static inline void samples_add(struct samples *samples, uint64_t ns)
{
    if (samples->n < samples->cap)
        samples->ns[samples->n++] = ns;
}

struct summary {
    double p50, p99, p999, max;
    size_t n;
};

struct summary samples_summary(struct samples *samples); /* sorts them: save the raw ones first */
void samples_save(FILE *raw, const struct samples *samples, const char *figure, int run); /* raw NULL: does nothing */

enum unit {
    UNIT_NS,
    UNIT_US,
    UNIT_THOUSANDS_PER_S,
    UNIT_MILLIONS_PER_S,
    UNIT_GIGABYTES_PER_S,
    UNIT_PERCENT, /* of a core */
    UNIT_PER_S,
    UNIT_MEBIBYTES, /* and the next: values are bytes */
    UNIT_KIBIBYTES,
    UNIT_PER_EVENT,
};

/* One line of the table: a value per run, each with its ratio to the limit of the same run. */
struct figure {
    char name[BENCH_NAME_MAX];
    enum unit unit;
    char in;   /* the limit it is told in: 'H', 'R', 'W', 'S', 'A', 'B', 'M', 'E'; 0: none */
    char also; /* another one; 0: none */
    int n_runs;
    size_t count; /* samples behind it, all runs */
    bool has_tail;
    double value[BENCH_RUNS_MAX], ratio[BENCH_RUNS_MAX], also_ratio[BENCH_RUNS_MAX];
    double p99[BENCH_RUNS_MAX], p999[BENCH_RUNS_MAX], max[BENCH_RUNS_MAX];
};

struct table {
    struct figure figures[BENCH_FIGURES_MAX];
    size_t n;
};

/* The figure of this name, made when it is new. Values are in ns, or events or bytes per second. limit 0: it was not measured. */
struct figure *table_figure(struct table *table, const char *name, enum unit unit, char in);
void figure_add(struct figure *figure, double value, double limit, size_t count);
void figure_add_summary(struct figure *figure, const struct summary *summary, double limit);
void figure_also(struct figure *figure, char in, double limit); /* what was added last, told in another limit, too */

struct placement;

/* Prints question, machine and table; writes the figures. 0, or 1: they, or the raw samples, could not be written. */
int table_report(const struct table *table, const struct bench_options *options, const struct placement *placement,
                 const char *version, const char *question);

#endif
