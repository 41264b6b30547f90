/* latency.c: how long from publish() to a reader, or a group's handler, in another process?
 *
 *   round trip  ping publishes on bench.ping.sent, pong reads it and publishes the same payload on
 *               bench.pong.sent, ping reads that: two publishes, two hand-overs, two reads. Half of it is one sample.
 *
 *                   ping  |publish|......................|read|      now - sent
 *                   pong           |read|publish|                    ---------- = publish + hand-over + read
 *                                                                         2
 *     spin      both sides EVBUS_WAIT_SPIN, told in H, hops of a cache line, and in R, a bare ring of cells
 *     block     both sides EVBUS_WAIT_BLOCK, told in W, bare futex wakes. Ping lets SETTLE_NS pass between two round
 *               trips, as the bare wake does: otherwise two that are quick never sleep.
 *   paced       block, 20,000 events a second, one way: from the *intended* send time, which stands in the payload,
 *               to the return of evbus_reader_next(). A sender that is late, or is kept waiting, makes the figure
 *               worse, as it would make a service worse. The reader is pinned, so that a pause of its own loses
 *               nothing.
 *   group       the same, but each side that reads is the one member of a group and calls evbus_run_once(): "read" ends
 *               where the handler begins, and pong publishes in its handler. Each event is acknowledged when its handler
 *               returns, before the next is taken: behind the figure where ping waits, in it where events queue.
 *   ready       the caller gives id and time and says that the payload is JSON: what the bus itself costs
 *   stamped     the library makes the id and takes the time
 *   full        it checks the JSON, too: what a service pays
 *
 * 64 and 512 bytes of payload. The first tenth warms up and is not counted. A sample carries half a clock_gettime().
 *
 * Not measured: several readers or members; threads of one process; a loaded machine. No time fails this program; an event
 * that is lost, repeated, changed, or handled twice does. */
#include "limits.h"
#include "own_bus.h"

#include <sys/prctl.h>
#include <time.h>

enum { PERIOD_NS = 50000 };

struct job {
    struct barrier barrier;
    const struct placement *placement;
    bool is_group; /* handlers of groups; else readers */
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

struct side;
typedef int take_event(struct side *side, const struct evbus_delivery *delivery); /* 0; 1: it is wrong */

/* One side of any measurement: opens, pins itself, waits for the other. Reads by its reader, or as a member of a group. */
struct side {
    struct job *job;
    struct samples *samples;
    struct evbus *bus;
    struct evbus_reader *reader;
    struct evbus_subscription *subscription;
    take_event *take;
    int rc;                 /* of the last take */
    struct payload payload; /* sent, or due */
    struct evbus_event event;
    uint64_t taken_ns;
    bool is_last; /* nothing comes behind what was taken */
    size_t n_taken;
};

static enum evbus_outcome handle(void *context, const struct evbus_delivery *delivery, char *error)
{
    struct side *side = context;
    (void)error;
    side->rc = side->take(side, delivery);
    return EVBUS_DONE;
}

/* index: also the role's processor. reads, writes: topics, or NULL. */
static int side_open(struct side *side, const struct task *task, int index, const char *reads, take_event *take,
                     const char *writes, bool pin)
{
    struct job *job = task->job;
    *side = (struct side){.job = job, .samples = task->samples, .take = take};
    side->bus = own_bus_open(job->wait);
    if (side->bus == NULL)
        return 1;
    if (reads != NULL && job->is_group)
        side->subscription = own_bus_join(side->bus, index == 0 ? "ping" : "pong", reads, handle, side);
    else if (reads != NULL)
        side->reader = own_bus_read(side->bus, reads, pin);
    if (reads != NULL && side->subscription == NULL && side->reader == NULL)
        return 1;
    payload_make(&side->payload, job->variant.payload_len, 0);
    if (writes != NULL)
        side->event = event_make(&job->variant, writes, side->payload.text);
    placement_pin(job->placement, index);
    barrier_wait(&job->barrier, 2);
    return 0;
}

/* Takes one event, which comes within timeout_ns. The library's code. */
static int side_try(struct side *side, uint64_t timeout_ns)
{
    struct evbus_delivery delivery = {.size = sizeof delivery};
    if (side->subscription != NULL)
        return evbus_run_once(side->subscription, timeout_ns);
    int rc = evbus_reader_next(side->reader, &delivery, timeout_ns);
    if (rc == EVBUS_OK)
        side->rc = side->take(side, &delivery);
    return rc;
}

static int side_next(struct side *side)
{
    int rc = side_try(side, PATIENCE_NS);
    return rc == EVBUS_OK ? side->rc : fails("no event: %s: %s", evbus_strerror(rc), evbus_message(side->bus));
}

static int side_close(struct side *side)
{
    int rc = 0;
    bool reads = side->reader != NULL || side->subscription != NULL;
    if (reads && side_try(side, 0) != EVBUS_ETIMEOUT)
        rc = fails("more events than were sent, or one again");
    if (side->reader != NULL && evbus_reader_lost(side->reader) != 0)
        rc = fails("%llu cells were lost", (unsigned long long)evbus_reader_lost(side->reader));
    evbus_reader_close(side->reader);
    evbus_unsubscribe(side->subscription);
    evbus_close(side->bus);
    return rc;
}

static int side_publish(struct side *side)
{
    int rc = evbus_publish(side->bus, &side->event, NULL);
    event_next(&side->event, &side->job->variant);
    return rc == EVBUS_OK ? 0 : fails("publish: %s: %s", evbus_strerror(rc), evbus_message(side->bus));
}

/* Is it the event that was due, for the first time? */
static int check_event(const struct side *side, const struct evbus_delivery *delivery)
{
    uint32_t attempt = side->subscription != NULL ? 1 : 0;
    if (payload_equals(&side->payload, delivery) && delivery->attempt == attempt)
        return 0;
    return fails("another event than was due: found %.*s, attempt %u, due %.*s", (int)delivery->payload_len,
                 (const char *)delivery->payload, delivery->attempt, (int)side->payload.len, side->payload.text);
}

static int take_answer(struct side *side, const struct evbus_delivery *delivery)
{
    side->taken_ns = now_ns();
    return check_event(side, delivery);
}

static int ping(const struct task *task)
{
    struct job *job = task->job;
    struct side side;
    if (side_open(&side, task, 0, "bench.pong.sent", take_answer, "bench.ping.sent", false) != 0)
        return 1;
    uint64_t deadline = now_ns() + job->budget_ns;
    for (size_t i = 0; i < job->n_warm + job->n && side.taken_ns < deadline; i++) {
        payload_next(&side.payload);
        if (job->settle_ns != 0)
            spin_until(now_ns() + job->settle_ns);
        uint64_t sent = now_ns();
        if (side_publish(&side) != 0 || side_next(&side) != 0)
            return 1;
        if (i >= job->n_warm)
            samples_add(side.samples, (side.taken_ns - sent) / 2);
    }
    payload_set_last(&side.payload);
    return side_publish(&side) != 0 ? 1 : side_close(&side);
}

static int take_and_answer(struct side *side, const struct evbus_delivery *delivery)
{
    side->is_last = payload_is_last(delivery->payload, delivery->payload_len);
    if (side->is_last)
        return 0;
    side->event.payload = delivery->payload;
    side->event.payload_len = delivery->payload_len;
    if (side_publish(side) != 0)
        return 1;
    payload_next(&side->payload);
    return check_event(side, delivery);
}

static int pong(const struct task *task)
{
    struct side side;
    if (side_open(&side, task, 1, "bench.ping.sent", take_and_answer, "bench.pong.sent", false) != 0)
        return 1;
    while (!side.is_last)
        if (side_next(&side) != 0)
            return 1;
    return side_close(&side);
}

static int round_trip_role(void *arg, int index)
{
    return index == 0 ? ping(arg) : pong(arg);
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

static int paced_sender(const struct task *task)
{
    struct job *job = task->job;
    struct side side;
    if (side_open(&side, task, 0, NULL, NULL, "bench.ping.sent", false) != 0)
        return 1;
    prctl(PR_SET_TIMERSLACK, 1); /* for who cannot spin: else a sleep ends up to 50 us late */
    uint64_t intended = now_ns() + 20 * PERIOD_NS;
    for (size_t i = 0; i < job->n_warm + job->n; i++, intended += PERIOD_NS) {
        payload_next(&side.payload);
        payload_set_at(&side.payload, intended - job->epoch_ns);
        await_time(job, intended);
        if (side_publish(&side) != 0)
            return 1;
    }
    return side_close(&side);
}

static int take_paced(struct side *side, const struct evbus_delivery *delivery)
{
    uint64_t now = now_ns();
    uint64_t at = delivery->payload_len == side->payload.len ? payload_at(delivery->payload) : 0;
    payload_next(&side->payload);
    payload_set_at(&side->payload, at);
    if (side->n_taken++ >= side->job->n_warm)
        samples_add(side->samples, now - side->job->epoch_ns - at);
    return check_event(side, delivery);
}

static int paced_reader(const struct task *task)
{
    struct side side;
    if (side_open(&side, task, 1, "bench.ping.sent", take_paced, NULL, true) != 0)
        return 1;
    for (size_t i = 0; i < task->job->n_warm + task->job->n; i++)
        if (side_next(&side) != 0)
            return 1;
    return side_close(&side);
}

static int paced_role(void *arg, int index)
{
    return index == 0 ? paced_sender(arg) : paced_reader(arg);
}

/* What is measured, line by line of the table. */
static const struct kind {
    const char *name;
    bool is_group;
    int (*role)(void *, int);
    enum evbus_wait wait;
    enum unit unit;
    char in;
    size_t n;
    uint64_t settle_ns;
} kinds[] = {
    {"spin", false, round_trip_role, EVBUS_WAIT_SPIN, UNIT_NS, 'H', 100000, 0},
    {"group spin", true, round_trip_role, EVBUS_WAIT_SPIN, UNIT_NS, 'H', 100000, 0},
    {"block", false, round_trip_role, EVBUS_WAIT_BLOCK, UNIT_US, 'W', 4000, SETTLE_NS},
    {"group block", true, round_trip_role, EVBUS_WAIT_BLOCK, UNIT_US, 'W', 4000, SETTLE_NS},
    {"block, paced 20,000/s", false, paced_role, EVBUS_WAIT_BLOCK, UNIT_US, 'W', 10000, 0},
    {"group block, paced 20,000/s", true, paced_role, EVBUS_WAIT_BLOCK, UNIT_US, 'W', 10000, 0},
};

static const struct variant variants[] = {{64, READY}, {64, STAMPED}, {64, FULL}, {512, READY}, {512, FULL}};

static int measure(const struct kind *kind, const struct variant *variant, const struct limits *limits,
                   const struct placement *placement, const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX];
    size_t n = kind->n / (options->quick ? 4 : 1);
    struct task task = {shared_new(sizeof *task.job), samples_new(n)};
    int rc = 1;
    snprintf(name, sizeof name, "evbus %s, %zu B, %s", kind->name, variant->payload_len,
             envelope_name(variant->envelope));
    if (task.job == NULL || task.samples == NULL) {
        fails("no memory for samples");
        goto done;
    }
    task.job->placement = placement;
    task.job->is_group = kind->is_group;
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
        struct figure *figure = table_figure(table, name, kind->unit, kind->in);
        figure_add_summary(figure, &summary, kind->in == 'H' ? limits->hop_ns : limits->wake_ns);
        if (kind->in == 'H')
            figure_also(figure, 'R', variant->payload_len == PAYLOAD_MIN ? limits->ring_64_ns : limits->ring_512_ns);
    }
done:
    shared_free(task.job, sizeof *task.job);
    samples_free(task.samples);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    for (int run = options->first_run; run < options->first_run + options->n_runs && rc == 0; run++) {
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
    return own_bus_benchmark(argc, argv,
                             "How long from publish() to a reader, or a group's handler, in another process?", false,
                             measure_all);
}
