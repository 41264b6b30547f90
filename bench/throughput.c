/* throughput.c: how many events per second pass from producers to one consumer, or to a group?
 *
 *   stream   1 or 2 producer processes publish a given number of events each on one topic of one partition, as fast
 *            as they can; one consumer process with a pinned reader takes them all and compares each byte. Nothing is
 *            lost: a full ring keeps producers waiting (timeout_ns), and after EVBUS_EFULL they try again. Counted at
 *            the consumer, from the first tenth to the last event, in S, the bare stream of the same event size.
 *   publish  one call per event;  batch: evbus_publish_batch() of 32
 *   group    1 producer; 1 or 2 member processes of a group call evbus_run_once(), one thread each, and acknowledge each
 *            event. 1 partition, as above; or N_PARTITIONS of them, which 2 members share. Counted over all members.
 *   keys     the producer gives N_KEYS keys by turns: always with groups, and once with a reader to compare with; each
 *            key's events must come in order and once, whichever member gets them
 *   cost     the plain cost of publish() in a process that is alone with the bus: nobody reads, nobody sleeps, nothing
 *            is pinned, so the ring never stays full. ns per call, in H: what it costs to have spoken to nobody.
 *   ready    the caller gives id and time and says that the payload is JSON;  full: the library does all three
 *
 * With a processor for each, processes are pinned and spin (EVBUS_WAIT_SPIN). With fewer processors than processes
 * they are not pinned and wait as services do by default (EVBUS_WAIT_HYBRID), and the figure says "crowded": it then
 * shows how the processors are shared out rather than what the ring can do.
 *
 * Not measured: several readers, handlers that fail or do anything, a member's threads, payloads of mixed sizes. No time
 * fails this program; an event that is lost, repeated, misplaced, changed, or handled twice does. */
#include "limits.h"
#include "own_bus.h"

#include <stdlib.h>

enum { BATCH = 32, PRODUCERS_MAX = 2, N_KEYS = 1000, KEY_LEN = 4 };

struct job {
    struct barrier barrier;
    const struct placement *placement;
    unsigned n_producers;
    unsigned n_members; /* 0: a reader */
    bool is_spread;     /* over N_PARTITIONS */
    bool has_keys;
    bool is_crowded;
    bool is_batch;
    struct variant variant;
    size_t n;                /* per producer */
    uint64_t took_ns;        /* for all events but the first tenth */
    _Atomic uint64_t n_full; /* EVBUS_EFULL that producers met */

    /* Of a group. */
    _Atomic uint64_t n_handled;
    _Atomic uint64_t since_ns; /* when the first tenth was handled */
    struct barrier end;
    _Atomic uint64_t n_of[N_KEYS]; /* events of this key that were handled */
};

static unsigned n_consumers(const struct job *job)
{
    return job->n_members == 0 ? 1 : job->n_members;
}

static const char *topic_of(const struct job *job)
{
    return job->is_spread ? TOPIC_OF_KEYS : "bench.ping.sent";
}

static void join_in(struct job *job, int index)
{
    if (!job->is_crowded)
        placement_pin(job->placement, index);
    barrier_wait(&job->barrier, job->n_producers + n_consumers(job));
}

static enum evbus_wait wait_of(const struct job *job)
{
    return job->is_crowded ? EVBUS_WAIT_HYBRID : EVBUS_WAIT_SPIN;
}

static int consume(struct job *job)
{
    struct payload expected[PRODUCERS_MAX];
    struct evbus_delivery delivery = {.size = sizeof delivery};
    struct evbus *bus = own_bus_open(wait_of(job));
    struct evbus_reader *reader = bus != NULL ? own_bus_read(bus, topic_of(job), true) : NULL;
    if (reader == NULL)
        return 1;
    for (unsigned p = 0; p < job->n_producers; p++)
        payload_make(&expected[p], job->variant.payload_len, p);
    join_in(job, 0);

    size_t n = job->n * job->n_producers;
    uint64_t since = 0;
    for (size_t i = 1; i <= n; i++) {
        int rc = evbus_reader_next(reader, &delivery, PATIENCE_NS);
        if (rc != EVBUS_OK)
            return fails("event %zu of %zu: %s: %s", i, n, evbus_strerror(rc), evbus_message(bus));
        unsigned p = delivery.payload_len >= PAYLOAD_MIN ? payload_producer(delivery.payload) : PRODUCERS_MAX;
        if (p < job->n_producers)
            payload_next(&expected[p]);
        if (p >= job->n_producers || !payload_equals(&expected[p], &delivery))
            return fails("event %zu of %zu is not the one that was due: %.*s", i, n, (int)delivery.payload_len,
                         (const char *)delivery.payload);
        if (i == n / 10)
            since = now_ns();
    }
    job->took_ns = now_ns() - since;
    if (evbus_reader_next(reader, &delivery, 0) != EVBUS_ETIMEOUT)
        return fails("more events than the %zu that were sent", n);
    if (evbus_reader_lost(reader) != 0)
        return fails("%llu cells were lost", (unsigned long long)evbus_reader_lost(reader));
    evbus_reader_close(reader);
    evbus_close(bus);
    return 0;
}

/* What a member's handler knows. */
struct member {
    struct job *job;
    struct payload expected;
    int rc;
};

/* A key's events are numbered k, k + N_KEYS, ... (from 1): the next one, whole, for the first time? */
static enum evbus_outcome handle(void *context, const struct evbus_delivery *delivery, char *error)
{
    struct member *member = context;
    struct job *job = member->job;
    (void)error;
    uint64_t seq = delivery->payload_len >= PAYLOAD_MIN ? payload_seq(delivery->payload) : 0;
    _Atomic uint64_t *n_of = &job->n_of[seq % N_KEYS];
    uint64_t n_before = atomic_load_explicit(n_of, memory_order_relaxed);
    payload_set_seq(&member->expected, delivery->payload, delivery->payload_len);
    if (!payload_equals(&member->expected, delivery) || delivery->attempt != 1 ||
        strtoull(delivery->key + 1, NULL, 10) != seq % N_KEYS || n_before != (seq - 1) / N_KEYS) {
        member->rc = fails("attempt %u of an event of key %s that is not the one that was due: %.*s", delivery->attempt,
                           delivery->key, (int)delivery->payload_len, (const char *)delivery->payload);
        return EVBUS_DONE;
    }
    atomic_store_explicit(n_of, n_before + 1,
                          memory_order_relaxed); /* the group orders it before the next of the key */
    uint64_t n = job->n * job->n_producers;
    uint64_t i = atomic_fetch_add_explicit(&job->n_handled, 1, memory_order_relaxed) + 1;
    if (i == n / 10)
        atomic_store_explicit(&job->since_ns, now_ns(), memory_order_relaxed);
    if (i == n)
        job->took_ns = now_ns() - atomic_load_explicit(&job->since_ns, memory_order_relaxed);
    return EVBUS_DONE;
}

static int be_member(struct job *job, int index)
{
    struct member member = {.job = job};
    struct evbus *bus = own_bus_open(wait_of(job));
    struct evbus_subscription *subscription = bus != NULL ? own_bus_join(bus, "members", topic_of(job), handle, &member)
                                                          : NULL;
    if (subscription == NULL)
        return 1;
    payload_make(&member.expected, job->variant.payload_len, 0);
    join_in(job, index);

    uint64_t n = job->n * job->n_producers, n_seen = 0, seen_ns = now_ns();
    for (;;) {
        uint64_t n_handled = atomic_load_explicit(&job->n_handled, memory_order_relaxed);
        if (n_handled >= n)
            break;
        int rc = evbus_run_once(subscription, PATIENCE_NS / 1000);
        if (member.rc != 0)
            return 1;
        if (rc == EVBUS_OK)
            continue;
        if (rc != EVBUS_ETIMEOUT)
            return fails("run_once: %s: %s", evbus_strerror(rc), evbus_message(bus));
        if (n_handled != n_seen)
            n_seen = n_handled, seen_ns = now_ns();
        else if (now_ns() - seen_ns > PATIENCE_NS)
            return fails("%llu of %llu events were handled", (unsigned long long)n_handled, (unsigned long long)n);
    }
    if (evbus_run_once(subscription, 0) != EVBUS_ETIMEOUT)
        return fails("more events than the %llu that were sent, or one again", (unsigned long long)n);
    barrier_wait(&job->end, job->n_members); /* who leaves first gives its partitions to the others */
    evbus_unsubscribe(subscription);
    evbus_close(bus);
    return 0;
}

/* Publishes events[0 .. n-1], whatever it takes. A full ring is met again and again until it has been full for too
 * long. */
static int publish_all(struct evbus *bus, struct job *job, const struct evbus_event *events, size_t n)
{
    uint64_t full_since = 0;
    for (size_t done = 0; done < n;) {
        size_t published = 0;
        int rc = job->is_batch ? evbus_publish_batch(bus, events + done, n - done, NULL, &published)
                               : evbus_publish(bus, events + done, NULL);
        if (!job->is_batch)
            published = rc == EVBUS_OK;
        done += published;
        if (rc == EVBUS_OK)
            continue;
        if (rc != EVBUS_EFULL)
            return fails("publish: %s: %s", evbus_strerror(rc), evbus_message(bus));
        atomic_fetch_add_explicit(&job->n_full, 1, memory_order_relaxed);
        if (full_since == 0 || published > 0)
            full_since = now_ns();
        else if (now_ns() - full_since > PATIENCE_NS)
            return fails("the ring stayed full for 10 s: %s", evbus_message(bus));
    }
    return 0;
}

static int produce(struct job *job, int index)
{
    size_t step = job->is_batch ? BATCH : 1;
    struct payload count, *payloads = calloc(step, sizeof *payloads);
    struct evbus_event events[BATCH];
    static char keys[N_KEYS][KEY_LEN + 1];
    struct evbus *bus = own_bus_open(wait_of(job));
    if (bus == NULL || payloads == NULL)
        return 1;
    for (unsigned k = 0; k < N_KEYS; k++)
        snprintf(keys[k], sizeof keys[k], "k%03u", k);
    payload_make(&count, job->variant.payload_len, (unsigned)index - n_consumers(job));
    for (size_t k = 0; k < step; k++) {
        payloads[k] = count;
        events[k] = event_make(&job->variant, topic_of(job), payloads[k].text);
    }
    join_in(job, index);
    for (size_t sent = 0; sent < job->n; sent += step) {
        for (size_t k = 0; k < step; k++) {
            payload_next(&count);
            payload_copy_seq(&payloads[k], &count);
            if (job->has_keys) {
                events[k].key = keys[(sent + k + 1) % N_KEYS];
                events[k].key_len = KEY_LEN;
            }
            event_next(&events[k], &job->variant);
        }
        if (publish_all(bus, job, events, step) != 0)
            return 1;
    }
    evbus_close(bus);
    free(payloads);
    return 0;
}

static int stream_role(void *shared, int index)
{
    struct job *job = shared;
    if (index >= (int)n_consumers(job))
        return produce(job, index);
    return job->n_members == 0 ? consume(job) : be_member(job, index);
}

static int cost_role(void *shared, int index)
{
    struct job *job = shared;
    struct payload payload;
    struct evbus *bus = own_bus_open(EVBUS_WAIT_SPIN);
    if (bus == NULL)
        return 1;
    payload_make(&payload, job->variant.payload_len, 0);
    struct evbus_event event = event_make(&job->variant, "bench.ping.sent", payload.text);
    join_in(job, index);
    uint64_t since = 0;
    for (size_t i = 1; i <= job->n; i++) {
        payload_next(&payload);
        event_next(&event, &job->variant);
        if (publish_all(bus, job, &event, 1) != 0)
            return 1;
        if (i == job->n / 10)
            since = now_ns();
    }
    job->took_ns = now_ns() - since;
    evbus_close(bus);
    return 0;
}

/* What is measured, line by line of the table. n_producers 0: the cost of publish(), alone. */
static const struct kind {
    unsigned n_producers;
    bool is_batch;
    struct variant variant;
    unsigned n_members; /* 0: a reader */
    bool has_keys;
    bool is_spread;
} kinds[] = {
    {.variant = {64, true}},
    {.variant = {64, false}},
    {.variant = {512, true}},
    {.variant = {512, false}},
    {.n_producers = 1, .variant = {64, true}},
    {.n_producers = 1, .variant = {64, false}},
    {.n_producers = 1, .variant = {512, true}},
    {.n_producers = 1, .variant = {512, false}},
    {.n_producers = 1, .is_batch = true, .variant = {64, true}},
    {.n_producers = 1, .is_batch = true, .variant = {512, true}},
    {.n_producers = 2, .variant = {64, true}},
    {.n_producers = 2, .variant = {512, true}},
    {.n_producers = 2, .is_batch = true, .variant = {64, true}},
    {.n_producers = 2, .is_batch = true, .variant = {512, true}},
    {.n_producers = 1, .has_keys = true, .variant = {64, true}},
    {.n_producers = 1, .has_keys = true, .variant = {512, true}},
    {.n_producers = 1, .has_keys = true, .n_members = 1, .variant = {64, true}},
    {.n_producers = 1, .has_keys = true, .n_members = 1, .variant = {64, false}},
    {.n_producers = 1, .has_keys = true, .n_members = 1, .variant = {512, true}},
    {.n_producers = 1, .has_keys = true, .n_members = 1, .variant = {512, false}},
    {.n_producers = 1, .has_keys = true, .n_members = 1, .is_spread = true, .variant = {64, true}},
    {.n_producers = 1, .has_keys = true, .n_members = 1, .is_spread = true, .variant = {512, true}},
    {.n_producers = 1, .has_keys = true, .n_members = 2, .is_spread = true, .variant = {64, true}},
    {.n_producers = 1, .has_keys = true, .n_members = 2, .is_spread = true, .variant = {512, true}},
};

static void name_figure(char *name, size_t cap, const struct kind *kind, bool is_crowded)
{
    const char *envelope = kind->variant.is_ready ? "ready" : "full", *crowded = is_crowded ? " (crowded)" : "";
    if (kind->n_producers == 0)
        snprintf(name, cap, "cost of publish, %zu B, %s", kind->variant.payload_len, envelope);
    else if (kind->n_members != 0)
        snprintf(name, cap, "evbus group, %u member%s%s, %d partition%s, %zu B, %s", kind->n_members,
                 kind->n_members == 1 ? "" : "s", crowded, kind->is_spread ? N_PARTITIONS : 1,
                 kind->is_spread ? "s" : "", kind->variant.payload_len, envelope);
    else
        snprintf(name, cap, "evbus %s%s, %u producer%s%s, %zu B, %s", kind->is_batch ? "batch" : "publish",
                 kind->has_keys ? " of keys" : "", kind->n_producers, kind->n_producers == 1 ? "" : "s", crowded,
                 kind->variant.payload_len, envelope);
}

static int measure(const struct kind *kind, const struct limits *limits, const struct placement *placement,
                   const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX];
    struct job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    bool is_cost = kind->n_producers == 0, is_small = kind->variant.payload_len == PAYLOAD_MIN;
    size_t n_all = (is_small ? 640000u : 320000u) / (options->quick ? 4 : 1);
    job->placement = placement;
    job->n_producers = kind->n_producers;
    job->n_members = kind->n_members;
    job->is_spread = kind->is_spread;
    job->has_keys = kind->has_keys;
    int n_roles = is_cost ? 1 : (int)(kind->n_producers + n_consumers(job));
    job->is_crowded = !placement_is_enough(placement, n_roles);
    job->is_batch = kind->is_batch;
    job->variant = kind->variant;
    job->n = n_all / (is_cost ? 1 : kind->n_producers); /* whole batches, in each case */
    name_figure(name, sizeof name, kind, job->is_crowded);

    int rc = children_run(n_roles, is_cost ? cost_role : stream_role, job);
    if (rc == 0 && job->took_ns == 0)
        rc = fails("%s: took no time", name);
    if (rc == 0) {
        double n_timed = (double)(n_all - n_all / 10), took_ns = (double)job->took_ns;
        double value = is_cost ? took_ns / n_timed : n_timed * 1e9 / took_ns;
        if (is_cost)
            figure_add(table_figure(table, name, UNIT_NS, 'H'), value, limits->hop_ns, n_all);
        else
            figure_add(table_figure(table, name, UNIT_MILLIONS_PER_S, 'S'), value,
                       is_small ? limits->stream_64 : limits->stream_512, n_all);
        if (options->raw != NULL)
            fprintf(options->raw, "%s\trun %d\t%s\t%.1f\tring found full %llu times\n", name, run + 1,
                    is_cost ? "ns per call" : "events/s", value,
                    (unsigned long long)atomic_load_explicit(&job->n_full, memory_order_relaxed));
    }
    shared_free(job, sizeof *job);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    for (int run = 0; run < options->n_runs && rc == 0; run++) {
        struct limits limits;
        rc = limits_measure(&limits, LIMITS_STREAM, placement, options, table, run);
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0] && rc == 0; k++)
            rc = measure(&kinds[k], &limits, placement, options, table, run);
    }
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(argc, argv,
                             "How many events per second pass from producers to one consumer, or to a group?", false,
                             measure_all);
}
