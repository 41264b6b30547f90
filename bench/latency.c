/* latency.c: how long from publish() to a reader in another process?
 *
 *   round trip  ping publishes on bench.ping.sent, pong reads it and publishes the same payload on
 *               bench.pong.sent, ping reads that: two publishes, two hand-overs, two reads. Half of it is one sample.
 *
 *                   ping  |publish|......................|read|      now - sent
 *                   pong           |read|publish|                    ---------- = publish + hand-over + read
 *                                                                         2
 *     spin      both sides EVBUS_WAIT_SPIN, told in H, hops of a cache line
 *     block     both sides EVBUS_WAIT_BLOCK, told in W, bare futex wakes. Ping lets SETTLE_NS pass between two round
 *               trips, as the bare wake does: otherwise two that are quick never sleep.
 *   paced       block, 20,000 events a second, one way: from the *intended* send time, which stands in the payload,
 *               to the return of evbus_reader_next(). A sender that is late, or is kept waiting, makes the figure
 *               worse, as it would make a service worse. The reader is pinned, so that a pause of its own loses
 *               nothing.
 *   ready       the caller gives id and time and says that the payload is JSON: what the bus itself costs
 *   full        the library makes the id, takes the time, checks the JSON: what a service pays
 *
 * 64 and 512 bytes of payload. The first tenth warms up and is not counted. A sample carries half a clock_gettime().
 *
 * Not measured: handlers, groups, acks; several readers; threads of one process; a loaded machine. No time fails this
 * program; a lost, repeated or changed event does. */
#include "limits.h"
#include "own_bus.h"

#include <sys/prctl.h>
#include <time.h>

enum { PERIOD_NS = 50000 };

struct job {
    struct barrier barrier;
    const struct placement *placement;
    enum evbus_wait wait;
    struct variant variant;
    size_t n; /* without the warm-up */
    size_t n_warm;
    uint64_t settle_ns;
    uint64_t budget_ns; /* ends it earlier on a slow machine */
    uint64_t epoch_ns;  /* what `at` counts from */
};

/* What a role is handed: both point into memory that the roles share. */
struct task {
    struct job *job;
    struct samples *samples;
};

/* One side of either measurement: opens, pins itself, waits for the other. */
struct side {
    struct evbus *bus;
    struct evbus_reader *reader;
    struct payload payload;
    struct evbus_delivery delivery;
    struct evbus_event event;
};

static int side_open(struct side *side, struct job *job, int index, const char *reads, const char *writes, bool pin)
{
    *side = (struct side){.delivery = {.size = sizeof side->delivery}};
    side->bus = own_bus_open(job->wait);
    if (side->bus == NULL)
        return 1;
    side->reader = reads != NULL ? own_bus_read(side->bus, reads, pin) : NULL;
    if (reads != NULL && side->reader == NULL)
        return 1;
    payload_make(&side->payload, job->variant.payload_len, 0);
    if (writes != NULL)
        side->event = event_make(&job->variant, writes, side->payload.text);
    placement_pin(job->placement, index);
    barrier_wait(&job->barrier, 2);
    return 0;
}

static int side_close(struct side *side)
{
    int rc = 0;
    if (side->reader != NULL && evbus_reader_lost(side->reader) != 0)
        rc = fails("%llu cells were lost", (unsigned long long)evbus_reader_lost(side->reader));
    evbus_reader_close(side->reader);
    evbus_close(side->bus);
    return rc;
}

static int side_publish(struct side *side, const struct variant *variant)
{
    int rc = evbus_publish(side->bus, &side->event, NULL);
    event_next(&side->event, variant);
    return rc == EVBUS_OK ? 0 : fails("publish: %s: %s", evbus_strerror(rc), evbus_message(side->bus));
}

static int side_next(struct side *side)
{
    int rc = evbus_reader_next(side->reader, &side->delivery, PATIENCE_NS);
    return rc == EVBUS_OK ? 0 : fails("reader_next: %s: %s", evbus_strerror(rc), evbus_message(side->bus));
}

static int wrong_event(const struct side *side)
{
    return fails("another event than was due: found %.*s, due %.*s", (int)side->delivery.payload_len,
                 (const char *)side->delivery.payload, (int)side->payload.len, side->payload.text);
}

static int ping(struct job *job, struct samples *samples)
{
    struct side side;
    if (side_open(&side, job, 0, "bench.pong.sent", "bench.ping.sent", false) != 0)
        return 1;
    uint64_t deadline = now_ns() + job->budget_ns, now = 0;
    for (size_t i = 0; i < job->n_warm + job->n && now < deadline; i++) {
        payload_next(&side.payload);
        if (job->settle_ns != 0)
            spin_until(now_ns() + job->settle_ns);
        uint64_t sent = now_ns();
        if (side_publish(&side, &job->variant) != 0 || side_next(&side) != 0)
            return 1;
        now = now_ns();
        if (!payload_equals(&side.payload, &side.delivery))
            return wrong_event(&side);
        if (i >= job->n_warm)
            samples_add(samples, (now - sent) / 2);
    }
    payload_set_last(&side.payload);
    return side_publish(&side, &job->variant) != 0 ? 1 : side_close(&side);
}

static int pong(struct job *job)
{
    struct side side;
    if (side_open(&side, job, 1, "bench.ping.sent", "bench.pong.sent", false) != 0)
        return 1;
    for (;;) {
        if (side_next(&side) != 0)
            return 1;
        if (payload_is_last(side.delivery.payload, side.delivery.payload_len))
            return side_close(&side);
        side.event.payload = side.delivery.payload; /* lives until the next call on the reader */
        side.event.payload_len = side.delivery.payload_len;
        if (side_publish(&side, &job->variant) != 0)
            return 1;
        payload_next(&side.payload);
        if (!payload_equals(&side.payload, &side.delivery))
            return wrong_event(&side);
    }
}

static int round_trip_role(void *arg, int index)
{
    struct task *task = arg;
    return index == 0 ? ping(task->job, task->samples) : pong(task->job);
}

/* With a processor of its own the sender spins, so that it is late only when the host takes that away. */
static void await_time(const struct job *job, uint64_t then_ns)
{
    struct timespec then = {(time_t)(then_ns / 1000000000u), (long)(then_ns % 1000000000u)};
    if (placement_is_enough(job->placement, 2))
        spin_until(then_ns);
    else
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL);
}

static int paced_sender(struct job *job)
{
    struct side side;
    if (side_open(&side, job, 0, NULL, "bench.ping.sent", false) != 0)
        return 1;
    prctl(PR_SET_TIMERSLACK, 1); /* for who cannot spin: else a sleep ends up to 50 us late */
    uint64_t intended = now_ns() + 20 * PERIOD_NS;
    for (size_t i = 0; i < job->n_warm + job->n; i++, intended += PERIOD_NS) {
        payload_next(&side.payload);
        payload_set_at(&side.payload, intended - job->epoch_ns);
        await_time(job, intended);
        if (side_publish(&side, &job->variant) != 0)
            return 1;
    }
    return side_close(&side);
}

static int paced_reader(struct job *job, struct samples *samples)
{
    struct side side;
    if (side_open(&side, job, 1, "bench.ping.sent", NULL, true) != 0)
        return 1;
    for (size_t i = 0; i < job->n_warm + job->n; i++) {
        if (side_next(&side) != 0)
            return 1;
        uint64_t now = now_ns();
        if (side.delivery.payload_len != side.payload.len)
            return wrong_event(&side);
        uint64_t at = payload_at(side.delivery.payload);
        payload_next(&side.payload);
        payload_set_at(&side.payload, at);
        if (!payload_equals(&side.payload, &side.delivery))
            return wrong_event(&side);
        if (i >= job->n_warm)
            samples_add(samples, now - job->epoch_ns - at);
    }
    if (evbus_reader_next(side.reader, &side.delivery, 0) != EVBUS_ETIMEOUT)
        return fails("more events than were sent");
    return side_close(&side);
}

static int paced_role(void *arg, int index)
{
    struct task *task = arg;
    return index == 0 ? paced_sender(task->job) : paced_reader(task->job, task->samples);
}

/* What is measured, line by line of the table. */
static const struct kind {
    const char *name;
    int (*role)(void *, int);
    enum evbus_wait wait;
    enum unit unit;
    char in;
    size_t n;
    uint64_t settle_ns;
} kinds[] = {
    {"spin", round_trip_role, EVBUS_WAIT_SPIN, UNIT_NS, 'H', 100000, 0},
    {"block", round_trip_role, EVBUS_WAIT_BLOCK, UNIT_US, 'W', 4000, SETTLE_NS},
    {"block, paced 20,000/s", paced_role, EVBUS_WAIT_BLOCK, UNIT_US, 'W', 10000, 0},
};

static const struct variant variants[] = {{64, true}, {64, false}, {512, true}, {512, false}};

static int measure(const struct kind *kind, const struct variant *variant, const struct limits *limits,
                   const struct placement *placement, const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX];
    size_t n = kind->n / (options->quick ? 4 : 1);
    struct task task = {shared_new(sizeof *task.job), samples_new(n)};
    int rc = 1;
    snprintf(name, sizeof name, "evbus %s, %zu B, %s", kind->name, variant->payload_len,
             variant->is_ready ? "ready" : "full");
    if (task.job == NULL || task.samples == NULL) {
        fails("no memory for samples");
        goto done;
    }
    task.job->placement = placement;
    task.job->wait = kind->wait;
    task.job->variant = *variant;
    task.job->n = n;
    task.job->n_warm = n / 10;
    task.job->settle_ns = kind->settle_ns;
    task.job->budget_ns = 3000000000u;
    task.job->epoch_ns = now_ns();
    rc = children_run(2, kind->role, &task);
    if (rc == 0) {
        samples_save(options->raw, task.samples, name, run);
        struct summary summary = samples_summary(task.samples);
        figure_add_summary(table_figure(table, name, kind->unit, kind->in), &summary,
                           kind->in == 'H' ? limits->hop_ns : limits->wake_ns);
    }
done:
    shared_free(task.job, sizeof *task.job);
    samples_free(task.samples);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    for (int run = 0; run < options->n_runs && rc == 0; run++) {
        struct limits limits;
        rc = limits_measure(&limits, LIMITS_LATENCY, placement, options, table, run);
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
            for (size_t v = 0; v < sizeof variants / sizeof variants[0] && rc == 0; v++)
                if (kinds[k].wait != EVBUS_WAIT_SPIN || placement_is_enough(placement, 2))
                    rc = measure(&kinds[k], &variants[v], &limits, placement, options, table, run);
    }
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(argc, argv, "How long from publish() to a reader in another process?", measure_all);
}
