/* sweep.c: how do events per second change with the size of the payload, with producers, groups and keys? And what does one more group cost?
 *
 *   size       64 B to 8 KiB: evbus_publish_batch() to a reader, and one call per event to a group; in S of that size
 *   producers  1, 2, 4 to a reader, 64 B
 *   groups     a reader (0), then 1 to 8 groups that each get every event, a process each, 64 B. Events published per second: each is handled
 *              once per group
 *   keys       1 to 10,000 of them over N_PARTITIONS, to a group of one member, 64 B
 *              These four run as stream.c has it. Where the longest of a row has more processes than there are processors, the whole row is
 *              "crowded", so that its figures differ in one thing alone
 *   one more   one thread on one processor publishes GROUP_ROUND events, then lets each of N groups handle them, again and again. CPU time of that
 *              thread, per event: of publish(), and of all groups together. No hand-over from core to core is in it, nor anybody's wait; told in H
 *   skip       a group that wants one of the six topics of a log. Another process publishes SKIP_ROUND events of the five others, then one of
 *              that topic; the time from then until the group's handler has it. All of the cells lie in the producer's cache, or further away
 *
 * All are ready: the caller gives id and time, and says that the payload is JSON. No time fails this program; an event that is lost, repeated, misplaced,
 * changed, or handled twice does. */
#include "limits.h"
#include "stream.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    GROUP_ROUND = 512,
    SKIP_ROUND = 30000,
    SKIP_EVENTS = 32
}; /* SKIP_ROUND: of 2 cells each, in a ring of 131,072 */

struct context {
    const struct placement *placement;
    const struct bench_options *options;
    struct table *table;
    int run;
};

/* A quarter of it with --quick. */
static size_t share(const struct context *context, size_t n)
{
    return n / (context->options->quick ? 4 : 1);
}

static int measure_stream(const struct context *context, const struct stream *stream, const char *name, size_t n,
                          double limit)
{
    double per_s = 0;
    uint64_t n_full = 0;
    int rc = stream_run(stream, n, context->placement, &per_s, &n_full);
    if (rc != 0)
        return rc;
    figure_add(table_figure(context->table, name, UNIT_MILLIONS_PER_S, limit > 0 ? 'S' : 0), per_s, limit, n);
    if (context->options->raw != NULL)
        fprintf(context->options->raw, "%s\trun %d\tevents/s\t%.1f\tring found full %llu times\n", name,
                context->run + 1, per_s, (unsigned long long)n_full);
    return 0;
}

static bool is_crowded(const struct context *context, const struct stream *longest)
{
    return !placement_is_enough(context->placement, stream_n_processes(longest));
}

static const char *crowded(const struct stream *stream)
{
    return stream->is_crowded ? " (crowded)" : "";
}

static int sweep_sizes(const struct context *context)
{
    static const size_t sizes[] = {64, 128, 256, 512, 1024, 4096, 8192};
    char name[BENCH_NAME_MAX];
    int rc = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && rc == 0; i++) {
        struct stream stream = {.n_producers = 1, .is_batch = true, .variant = {sizes[i], READY}};
        size_t fitting = (UINT64_C(256) << 20) / sizes[i], n = share(context, fitting < 400000 ? fitting : 400000);
        double limit = 0;
        rc = limits_stream(&limit, sizes[i], 4 * n, context->placement, context->options, context->table, context->run);
        if (rc != 0)
            break;
        stream.is_crowded = is_crowded(context, &stream);
        snprintf(name, sizeof name, "size %zu B: batch to a reader%s", sizes[i], crowded(&stream));
        rc = measure_stream(context, &stream, name, n, limit);
        stream.is_batch = false;
        stream.n_groups = stream.n_members = 1;
        snprintf(name, sizeof name, "size %zu B: publish to a group%s", sizes[i], crowded(&stream));
        if (rc == 0)
            rc = measure_stream(context, &stream, name, n, limit);
    }
    return rc;
}

static int sweep_producers(const struct context *context)
{
    char name[BENCH_NAME_MAX];
    struct stream stream = {.n_producers = STREAM_PRODUCERS_MAX, .variant = {PAYLOAD_MIN, READY}};
    stream.is_crowded = is_crowded(context, &stream);
    int rc = 0;
    for (stream.n_producers = 1; stream.n_producers <= STREAM_PRODUCERS_MAX && rc == 0; stream.n_producers *= 2) {
        snprintf(name, sizeof name, "producers %u: publish to a reader%s", stream.n_producers, crowded(&stream));
        rc = measure_stream(context, &stream, name, share(context, 800000), 0);
    }
    return rc;
}

static int sweep_groups(const struct context *context)
{
    static const unsigned n_groups[] = {0, 1, 2, 4, STREAM_GROUPS_MAX};
    char name[BENCH_NAME_MAX];
    struct stream stream = {
        .n_producers = 1, .n_groups = STREAM_GROUPS_MAX, .n_members = 1, .variant = {PAYLOAD_MIN, READY}};
    stream.is_crowded = is_crowded(context, &stream);
    int rc = 0;
    for (size_t i = 0; i < sizeof n_groups / sizeof n_groups[0] && rc == 0; i++) {
        stream.n_groups = n_groups[i];
        snprintf(name, sizeof name, "groups %u: events published%s", n_groups[i], crowded(&stream));
        rc = measure_stream(context, &stream, name, share(context, 400000), 0);
    }
    return rc;
}

static int sweep_keys(const struct context *context)
{
    char name[BENCH_NAME_MAX];
    struct stream stream = {
        .n_producers = 1, .n_groups = 1, .n_members = 1, .is_spread = true, .variant = {PAYLOAD_MIN, READY}};
    stream.is_crowded = is_crowded(context, &stream);
    int rc = 0;
    for (stream.n_keys = 1; stream.n_keys <= STREAM_KEYS_MAX && rc == 0; stream.n_keys *= 10) {
        snprintf(name, sizeof name, "keys %u: publish to a group%s", stream.n_keys, crowded(&stream));
        rc = measure_stream(context, &stream, name, share(context, 400000), 0);
    }
    return rc;
}

/* --- one more group ----------------------------------------------------------------------------------------------- */

struct groups_job {
    const struct placement *placement;
    unsigned n_groups;
    size_t n_rounds;                /* the first tenth is not counted */
    uint64_t publish_ns, handle_ns; /* CPU */
    _Atomic uint64_t n_full;
};

struct group {
    struct payload due;
    uint64_t n_handled;
    int rc;
};

static enum evbus_outcome handle(void *context, const struct evbus_delivery *delivery, char *error)
{
    struct group *group = context;
    (void)error;
    payload_next(&group->due);
    group->n_handled++;
    if (!payload_equals(&group->due, delivery) || delivery->attempt != 1)
        group->rc = fails("attempt %u of an event that is not the one that was due: %.*s", delivery->attempt,
                          (int)delivery->payload_len, (const char *)delivery->payload);
    return EVBUS_DONE;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int handle_round(struct evbus *bus, struct evbus_subscription *subscription, struct group *group, uint64_t until)
{
    while (group->n_handled < until) {
        int rc = evbus_run_once(subscription, PATIENCE_NS);
        if (rc != EVBUS_OK)
            return fails("event %llu: %s: %s", (unsigned long long)group->n_handled + 1, evbus_strerror(rc),
                         evbus_message(bus));
    }
    return group->rc;
}

static int groups_role(void *shared, int index)
{
    struct groups_job *job = shared;
    static struct group groups[STREAM_GROUPS_MAX];
    struct evbus_subscription *subscriptions[STREAM_GROUPS_MAX] = {NULL};
    static struct payload payload;
    static const struct variant variant = {PAYLOAD_MIN, READY};
    struct evbus *bus = own_bus_open(EVBUS_WAIT_SPIN);
    if (bus == NULL)
        return 1;
    for (unsigned g = 0; g < job->n_groups; g++) {
        char name[16];
        snprintf(name, sizeof name, "group%u", g);
        payload_make(&groups[g].due, variant.payload_len, 0);
        subscriptions[g] = own_bus_join(bus, name, "bench.ping.sent", handle, &groups[g]);
        if (subscriptions[g] == NULL)
            return 1;
    }
    payload_make(&payload, variant.payload_len, 0);
    struct evbus_event event = event_make(&variant, "bench.ping.sent", payload.text);
    placement_pin(job->placement, index);
    for (size_t round = 1; round <= job->n_rounds; round++) {
        uint64_t start = thread_cpu_ns();
        for (size_t i = 0; i < GROUP_ROUND; i++) {
            payload_next(&payload);
            event_next(&event, &variant);
            if (stream_publish(bus, false, &event, 1, &job->n_full) != 0)
                return 1;
        }
        uint64_t published = thread_cpu_ns();
        for (unsigned g = 0; g < job->n_groups; g++)
            if (handle_round(bus, subscriptions[g], &groups[g], round * GROUP_ROUND) != 0)
                return 1;
        uint64_t handled = thread_cpu_ns();
        if (round > job->n_rounds / 10) {
            job->publish_ns += published - start;
            job->handle_ns += handled - published;
        }
    }
    for (unsigned g = 0; g < job->n_groups; g++) {
        if (evbus_run_once(subscriptions[g], 0) != EVBUS_ETIMEOUT)
            return fails("more events than were sent, or one again");
        evbus_unsubscribe(subscriptions[g]);
    }
    evbus_close(bus);
    return 0;
}

static int measure_groups(const struct context *context, unsigned n_groups, double hop_ns)
{
    char name[BENCH_NAME_MAX];
    struct groups_job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    job->placement = context->placement;
    job->n_groups = n_groups;
    job->n_rounds = share(context, 160);
    size_t n = (job->n_rounds - job->n_rounds / 10) * GROUP_ROUND;
    int rc = children_run(1, groups_role, job);
    if (rc == 0) {
        snprintf(name, sizeof name, "one processor, %u groups: CPU of publish()", n_groups);
        figure_add(table_figure(context->table, name, UNIT_NS, 'H'), (double)job->publish_ns / (double)n, hop_ns, n);
    }
    if (rc == 0 && n_groups != 0) {
        snprintf(name, sizeof name, "one processor, %u groups: CPU of all their handling", n_groups);
        figure_add(table_figure(context->table, name, UNIT_NS, 'H'), (double)job->handle_ns / (double)n, hop_ns, n);
    }
    shared_free(job, sizeof *job);
    return rc;
}

/* --- skip --------------------------------------------------------------------------------------------------------- */

#define OWN_TOPIC "bench.many.six"

struct skip_job {
    struct barrier barrier;
    const struct placement *placement;
    uint64_t n_rounds;                     /* the first is not counted */
    _Atomic uint64_t n_published, n_taken; /* rounds */
    uint64_t took_ns;
    _Atomic uint64_t n_full;
};

/* One processor: the other side runs only when we step aside. */
static void await_round(const struct skip_job *job, const _Atomic uint64_t *rounds, uint64_t round)
{
    while (atomic_load_explicit(rounds, memory_order_acquire) < round)
        if (!placement_is_enough(job->placement, 2))
            sched_yield();
}

static int skip_producer(struct skip_job *job)
{
    static const char *const others[] = {"bench.many.one", "bench.many.two", "bench.many.three", "bench.many.four",
                                         "bench.many.five"};
    static const struct variant variant = {PAYLOAD_MIN, READY};
    static struct payload payload;
    struct evbus_event own, events[SKIP_EVENTS];
    struct evbus *bus = own_bus_open(EVBUS_WAIT_SPIN);
    if (bus == NULL)
        return 1;
    payload_make(&payload, PAYLOAD_MIN, 0);
    own = event_make(&variant, OWN_TOPIC, payload.text);
    for (size_t i = 0; i < SKIP_EVENTS; i++)
        events[i] = event_make(&variant, others[i % (sizeof others / sizeof others[0])], payload.text);
    placement_pin(job->placement, 0);
    barrier_wait(&job->barrier, 2);
    for (uint64_t round = 1; round <= job->n_rounds; round++) {
        for (size_t sent = 0; sent < SKIP_ROUND; sent += SKIP_EVENTS)
            if (stream_publish(bus, true, events, SKIP_EVENTS, &job->n_full) != 0)
                return 1;
        payload_next(&payload);
        if (stream_publish(bus, false, &own, 1, &job->n_full) != 0)
            return 1;
        atomic_store_explicit(&job->n_published, round, memory_order_release);
        await_round(job, &job->n_taken, round);
    }
    evbus_close(bus);
    return 0;
}

static int skip_consumer(struct skip_job *job)
{
    static struct group group;
    struct evbus *bus = own_bus_open(EVBUS_WAIT_SPIN);
    struct evbus_subscription *subscription = bus != NULL ? own_bus_join(bus, "skipping", OWN_TOPIC, handle, &group)
                                                          : NULL;
    if (subscription == NULL)
        return 1;
    payload_make(&group.due, PAYLOAD_MIN, 0);
    placement_pin(job->placement, 1);
    barrier_wait(&job->barrier, 2);
    for (uint64_t round = 1; round <= job->n_rounds; round++) {
        await_round(job, &job->n_published, round);
        uint64_t start = now_ns();
        if (handle_round(bus, subscription, &group, round) != 0)
            return 1;
        if (round > 1)
            job->took_ns += now_ns() - start;
        atomic_store_explicit(&job->n_taken, round, memory_order_release);
    }
    evbus_unsubscribe(subscription);
    evbus_close(bus);
    return 0;
}

static int skip_role(void *shared, int index)
{
    return index == 0 ? skip_producer(shared) : skip_consumer(shared);
}

static int measure_skip(const struct context *context)
{
    struct skip_job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    job->placement = context->placement;
    job->n_rounds = 1 + share(context, 40);
    size_t n = (job->n_rounds - 1) * SKIP_ROUND;
    int rc = children_run(2, skip_role, job);
    if (rc == 0)
        figure_add(
            table_figure(context->table, "skip: a group of 1 of 6 topics, events skipped", UNIT_MILLIONS_PER_S, 0),
            (double)n * 1e9 / (double)job->took_ns, 0, n);
    shared_free(job, sizeof *job);
    return rc;
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

static int sweep(const struct context *context)
{
    static const unsigned n_groups[] = {0, 1, 2, 4, STREAM_GROUPS_MAX};
    struct limits limits;
    int rc = limits_measure(&limits, 0, context->placement, context->options, context->table, context->run);
    if (rc == 0)
        rc = sweep_sizes(context);
    if (rc == 0)
        rc = sweep_producers(context);
    if (rc == 0)
        rc = sweep_groups(context);
    if (rc == 0)
        rc = sweep_keys(context);
    for (size_t i = 0; i < sizeof n_groups / sizeof n_groups[0] && rc == 0; i++)
        rc = measure_groups(context, n_groups[i], limits.hop_ns);
    return rc == 0 ? measure_skip(context) : rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    for (int run = options->first_run; run < options->first_run + options->n_runs && rc == 0; run++)
        rc = sweep(&(struct context){placement, options, table, run});
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(
        argc, argv,
        "How do events per second change with size, producers, groups and keys? What does one more "
        "group cost?",
        false, measure_all);
}
