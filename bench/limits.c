/* limits.c: what the machine itself costs: no bus that moves the same bytes the same way can be faster.
 *
 *   H  hop     two processes write one cache line by turns. A round trip is two hops; the mean of 1,000 round trips
 *              is one sample, so the clock (some 25 ns) is not in it.
 *   W  wake    two processes sleep on a futex each and wake each other: store, FUTEX_WAKE, FUTEX_WAIT. Half a round
 *              trip, begun SETTLE_NS after the last: two that answer at once find each other awake and never sleep.
 *   S  stream  one writer, one reader, a ring of cells:
 *
 *                  cell  | word 8 | body 56 |      word = position + 1 once the body is there (release, acquire)
 *
 *              The writer copies a body in and stores the word, the reader waits for the word and copies the body
 *              out. The reader tells how far it is once per eighth of the ring, so both sides run apart: one that
 *              lags streams, one that is at the other's heels pays hops. An event of 64 bytes is one cell, of 512
 *              bytes eight: word included, so it carries a little less than an event of ours. Nothing else: no
 *              header, no second writer, no death, no topic. The ring is as large as a log's by default (1 MiB).
 *
 *   R  ring    half a round trip over two such rings, by as many cells each way as an event takes in a ring of cells with a header
 *              of its own: 2 for 64 bytes (a frame of 128), 9 for 512. One cell, without a header, stands beside them.
 *
 * All of it between the processors that the benchmark itself uses. No limit for two writers is measured: S has one. What
 * is copied wrongly fails the run. */
#include "limits.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdalign.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CELLS = 16384, BODY = 7, LAG = CELLS / 8, HOPS_PER_SAMPLE = 1000 };

struct cell {
    alignas(64) _Atomic uint64_t word; /* writer: the ring's writer. position + 1 */
    uint64_t body[BODY];
};

struct bare_ring {
    alignas(64) _Atomic uint64_t released; /* writer: the ring's reader. cells that may be overwritten */
    struct cell cells[CELLS];
};

struct bench {
    struct barrier barrier;
    const struct placement *placement;
    size_t n;         /* round trips or events */
    uint32_t n_cells; /* of an event */
    uint64_t took_ns; /* stream: from the first tenth to the end */
    alignas(64) _Atomic uint64_t line;
    alignas(64) _Atomic uint32_t bells[2];
    alignas(64) struct bare_ring rings[2];
};

/* What only the measurement keeps while its children run; inherited by them. */
struct job {
    struct bench *bench;
    struct samples *samples, *caller_samples;
};

/* One processor: the other side runs only when we step aside. */
static inline void step_aside(const struct bench *bench)
{
    if (bench->placement->n < 2)
        sched_yield();
}

static void start(struct bench *bench, int index)
{
    placement_pin(bench->placement, index);
    barrier_wait(&bench->barrier, 2);
}

/* Role 0 makes the line odd, role 1 even. */
static int hop_role(void *shared, int index)
{
    struct job *job = shared;
    _Atomic uint64_t *line = &job->bench->line;
    start(job->bench, index);
    uint64_t turn = (uint64_t)index, since = now_ns();
    for (size_t i = 1; i <= job->bench->n * HOPS_PER_SAMPLE; i++) {
        while (atomic_load_explicit(line, memory_order_acquire) != turn)
            ;
        atomic_store_explicit(line, turn + 1, memory_order_release);
        turn += 2;
        if (index == 0 && i % HOPS_PER_SAMPLE == 0) {
            uint64_t now = now_ns();
            samples_add(job->samples, (now - since) / (2 * HOPS_PER_SAMPLE));
            since = now;
        }
    }
    return 0;
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_await(_Atomic uint32_t *word, uint32_t wanted)
{
    for (uint32_t seen; (seen = atomic_load_explicit(word, memory_order_acquire)) != wanted;)
        syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static int wake_role(void *shared, int index)
{
    struct job *job = shared;
    _Atomic uint32_t *mine = &job->bench->bells[index], *other = &job->bench->bells[1 - index];
    start(job->bench, index);
    for (uint32_t i = 1; i <= job->bench->n; i++) {
        if (index == 1)
            futex_await(mine, i);
        else
            spin_until(now_ns() + SETTLE_NS);
        uint64_t sent = now_ns();
        atomic_store_explicit(other, i, memory_order_release);
        futex_wake(other);
        uint64_t woken = now_ns();
        if (index == 1)
            continue;
        futex_await(mine, i);
        samples_add(job->samples, (now_ns() - sent) / 2);
        samples_add(job->caller_samples, woken - sent);
    }
    return 0;
}

/* A side's place in a ring. `limit`: what the writer knows of the reader. */
struct place {
    uint64_t pos, limit;
};

static void put_event(struct bench *bench, struct bare_ring *ring, struct place *at, uint64_t number, uint32_t n_cells)
{
    uint64_t body[BODY] = {number};
    for (uint32_t i = 0; i < n_cells; i++, at->pos++) {
        while (at->pos >= at->limit) {
            at->limit = atomic_load_explicit(&ring->released, memory_order_acquire) + CELLS;
            if (at->pos >= at->limit)
                step_aside(bench);
        }
        struct cell *cell = &ring->cells[at->pos % CELLS];
        memcpy(cell->body, body, sizeof body);
        atomic_store_explicit(&cell->word, at->pos + 1, memory_order_release);
    }
}

/* Returns whether it is event `number`. */
static bool take_event(struct bench *bench, struct bare_ring *ring, struct place *at, uint64_t number, uint32_t n_cells)
{
    uint64_t body[BODY];
    bool is_right = true;
    for (uint32_t i = 0; i < n_cells; i++) {
        struct cell *cell = &ring->cells[at->pos % CELLS];
        while (atomic_load_explicit(&cell->word, memory_order_acquire) != at->pos + 1)
            step_aside(bench);
        memcpy(body, cell->body, sizeof body);
        __asm__ volatile("" : : "r"(body) : "memory"); /* the copy is what we measure: it must not be left out */
        is_right = is_right && body[0] == number;
        at->pos++;
        if (at->pos % LAG == 0)
            atomic_store_explicit(&ring->released, at->pos, memory_order_release);
    }
    return is_right;
}

static int ring_role(void *shared, int index)
{
    struct job *job = shared;
    struct bench *bench = job->bench;
    struct bare_ring *to = &bench->rings[index], *from = &bench->rings[1 - index];
    struct place writing = {.limit = CELLS}, reading = {0};
    start(bench, index);
    for (uint64_t i = 1; i <= bench->n; i++) {
        uint64_t sent = now_ns();
        if (index == 0)
            put_event(bench, to, &writing, i, bench->n_cells);
        if (!take_event(bench, from, &reading, i, bench->n_cells))
            return fails("bare ring: another event than number %llu", (unsigned long long)i);
        if (index == 1)
            put_event(bench, to, &writing, i, bench->n_cells);
        else
            samples_add(job->samples, (now_ns() - sent) / 2);
    }
    return 0;
}

static int stream_role(void *shared, int index)
{
    struct job *job = shared;
    struct bench *bench = job->bench;
    struct place at = {.limit = CELLS};
    uint64_t since = 0;
    start(bench, index);
    if (index == 0) {
        for (uint64_t i = 1; i <= bench->n; i++)
            put_event(bench, &bench->rings[0], &at, i, bench->n_cells);
        return 0;
    }
    for (uint64_t i = 1; i <= bench->n; i++) {
        if (!take_event(bench, &bench->rings[0], &at, i, bench->n_cells))
            return fails("bare stream: another event than number %llu", (unsigned long long)i);
        if (i == bench->n / 10)
            since = now_ns();
    }
    bench->took_ns = now_ns() - since;
    return 0;
}

static int measure_job(struct job *job, int (*role)(void *, int), size_t n, uint32_t n_cells,
                       const struct placement *placement)
{
    job->bench = shared_new(sizeof *job->bench);
    job->samples = samples_new(n);
    job->caller_samples = samples_new(n);
    if (job->bench == NULL || job->samples == NULL || job->caller_samples == NULL)
        return fails("no memory for the limits");
    job->bench->n = n;
    job->bench->n_cells = n_cells;
    job->bench->placement = placement;
    return children_run(2, role, job);
}

static void job_free(struct job *job)
{
    shared_free(job->bench, sizeof *job->bench);
    samples_free(job->samples);
    samples_free(job->caller_samples);
    *job = (struct job){0};
}

/* Two processes that hand samples back. *out, which may be NULL: the p50. */
static int latency_limit(const char *name, int (*role)(void *, int), size_t n, uint32_t n_cells, enum unit unit,
                         double *out, const struct placement *placement, const struct bench_options *options,
                         struct table *table, int run)
{
    struct job job = {0};
    int rc = measure_job(&job, role, n, n_cells, placement);
    if (rc == 0) {
        samples_save(options->raw, job.samples, name, run);
        struct summary summary = samples_summary(job.samples);
        figure_add_summary(table_figure(table, name, unit, 0), &summary, 0);
        if (out != NULL)
            *out = summary.p50;
    }
    if (rc == 0 && job.caller_samples->n > 0) {
        struct summary summary = samples_summary(job.caller_samples);
        figure_add_summary(table_figure(table, "bare futex wake, what it costs the waker", unit, 0), &summary, 0);
    }
    job_free(&job);
    return rc;
}

int limits_stream(double *out, size_t payload_len, size_t n, const struct placement *placement,
                  const struct bench_options *options, struct table *table, int run)
{
    struct job job = {0};
    char name[BENCH_NAME_MAX];
    snprintf(name, sizeof name, "S: bare stream, %zu B", payload_len);
    int rc = measure_job(&job, stream_role, n, (uint32_t)(payload_len / sizeof(struct cell)), placement);
    if (rc == 0) {
        *out = (double)(n - n / 10) * 1e9 / (double)job.bench->took_ns;
        figure_add(table_figure(table, name, UNIT_MILLIONS_PER_S, 0), *out, 0, n);
        if (options->raw != NULL)
            fprintf(options->raw, "%s\trun %d\tevents/s\t%.0f\n", name, run + 1, *out);
    }
    job_free(&job);
    return rc;
}

int limits_measure(struct limits *out, unsigned which, const struct placement *placement,
                   const struct bench_options *options, struct table *table, int run)
{
    size_t share = options->quick ? 4 : 1;
    bool can_spin = placement_is_enough(placement, 2);
    const struct {
        const char *name;
        uint32_t n_cells;
        double *out;
    } rings[] = {{"bare ring, 1 cell, half a round trip", 1, NULL},
                 {"R: bare ring, 2 cells, half a round trip", 2, &out->ring_64_ns},
                 {"R: bare ring, 9 cells, half a round trip", 9, &out->ring_512_ns}};
    int rc = 0;
    *out = (struct limits){0};
    if (can_spin)
        rc = latency_limit("H: bare hop of a cache line", hop_role, 200 / share, 0, UNIT_NS, &out->hop_ns, placement,
                           options, table, run);
    for (size_t i = 0; i < sizeof rings / sizeof rings[0]; i++)
        if (rc == 0 && can_spin && (which & LIMITS_LATENCY))
            rc = latency_limit(rings[i].name, ring_role, 100000 / share, rings[i].n_cells, UNIT_NS, rings[i].out,
                               placement, options, table, run);
    if (rc == 0 && (which & LIMITS_LATENCY))
        rc = latency_limit("W: bare futex wake", wake_role, 4000 / share, 0, UNIT_US, &out->wake_ns, placement, options,
                           table, run);
    if (rc == 0 && (which & LIMITS_STREAM))
        rc = limits_stream(&out->stream_64, 64, 3000000 / share, placement, options, table, run);
    if (rc == 0 && (which & LIMITS_STREAM))
        rc = limits_stream(&out->stream_512, 512, 1500000 / share, placement, options, table, run);
    return rc;
}
