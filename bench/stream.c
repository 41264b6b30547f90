/* stream.c: events from producers to whoever reads them, as fast as they go, each of them checked.
 *
 *   producers  a process each, publish a given number of events each on one topic. Nothing is lost: a full ring keeps them waiting
 *              (timeout_ns), and after EVBUS_EFULL they try again
 *   reader     one process with a pinned reader takes them all and compares each byte
 *   groups     each gets all events. A member is a process with one thread in evbus_run(), which acknowledges each event. Each
 *              key's events must come in order and once, whichever member gets them; without keys, all of them
 *   time       from the first tenth to the last event, at the reader, or over all members of all groups
 *
 * With a processor for each, processes are pinned and spin (EVBUS_WAIT_SPIN). Crowded, they are not pinned and wait as services do by default
 * (EVBUS_WAIT_HYBRID): that shows how the processors are shared out rather than what the ring can do. */
#include "stream.h"

#include <stdlib.h>

enum { KEY_LEN = 5 };

struct group_state {
    struct barrier end;
    _Atomic uint64_t n_of[STREAM_KEYS_MAX]; /* events of this key that were handled; without keys [0] */
};

struct job {
    struct barrier barrier;
    const struct placement *placement;
    struct stream plan;
    size_t n;                /* per producer */
    uint64_t took_ns;        /* for all events but the first tenth */
    _Atomic uint64_t n_full; /* EVBUS_EFULL that producers met */

    /* Of groups. */
    _Atomic uint64_t n_handled;
    _Atomic uint64_t since_ns; /* when the first tenth was handled */
    struct group_state groups[STREAM_GROUPS_MAX];
};

static unsigned n_consumers(const struct stream *plan)
{
    return plan->n_groups == 0 ? 1 : plan->n_groups * plan->n_members;
}

int stream_n_processes(const struct stream *stream)
{
    return (int)(stream->n_producers + n_consumers(stream));
}

static const char *topic_of(const struct job *job)
{
    return job->plan.is_spread ? TOPIC_OF_KEYS : "bench.ping.sent";
}

static void join_in(struct job *job, int index)
{
    if (!job->plan.is_crowded)
        placement_pin(job->placement, index);
    barrier_wait(&job->barrier, (uint32_t)stream_n_processes(&job->plan));
}

static enum evbus_wait wait_of(const struct job *job)
{
    return job->plan.is_crowded ? EVBUS_WAIT_HYBRID : EVBUS_WAIT_SPIN;
}

static int consume(struct job *job)
{
    static struct payload expected[STREAM_PRODUCERS_MAX];
    struct evbus_delivery delivery = {.size = sizeof delivery};
    struct evbus *bus = own_bus_open(wait_of(job));
    struct evbus_reader *reader = bus != NULL ? own_bus_read(bus, topic_of(job), true) : NULL;
    unsigned n_producers = job->plan.n_producers;
    if (reader == NULL)
        return 1;
    for (unsigned p = 0; p < n_producers; p++)
        payload_make(&expected[p], job->plan.variant.payload_len, p);
    join_in(job, 0);

    size_t n = job->n * n_producers;
    uint64_t since = 0;
    for (size_t i = 1; i <= n; i++) {
        int rc = evbus_reader_next(reader, &delivery, PATIENCE_NS);
        if (rc != EVBUS_OK)
            return fails("event %zu of %zu: %s: %s", i, n, evbus_strerror(rc), evbus_message(bus));
        unsigned p = delivery.payload_len >= PAYLOAD_MIN ? payload_producer(delivery.payload) : n_producers;
        if (p < n_producers)
            payload_next(&expected[p]);
        if (p >= n_producers || !payload_equals(&expected[p], &delivery))
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
    struct group_state *group;
    struct payload expected;
    _Atomic int failed;
};

static uint64_t n_to_handle(const struct job *job)
{
    return job->n * job->plan.n_groups;
}

/* Of n keys, key k's events are numbered k, k + n, ... (from 1): the next one, whole, for the first time? */
static enum evbus_outcome handle(void *context, const struct evbus_delivery *delivery, char *error)
{
    struct member *member = context;
    struct job *job = member->job;
    (void)error;
    unsigned n_keys = job->plan.n_keys, n_turns = n_keys != 0 ? n_keys : 1;
    uint64_t seq = delivery->payload_len >= PAYLOAD_MIN ? payload_seq(delivery->payload) : 0;
    _Atomic uint64_t *n_of = &member->group->n_of[seq % n_turns];
    uint64_t n_before = atomic_load_explicit(n_of, memory_order_relaxed);
    payload_set_seq(&member->expected, delivery->payload, delivery->payload_len);
    if (!payload_equals(&member->expected, delivery) || delivery->attempt != 1 ||
        (n_keys != 0 && strtoull(delivery->key + 1, NULL, 10) != seq % n_keys) || n_before != (seq - 1) / n_turns) {
        member->failed = fails("attempt %u of an event of key %s that is not the one that was due: %.*s",
                               delivery->attempt, n_keys != 0 ? delivery->key : "none", (int)delivery->payload_len,
                               (const char *)delivery->payload);
        return EVBUS_DONE;
    }
    atomic_store_explicit(n_of, n_before + 1,
                          memory_order_relaxed); /* the group orders it before the next of the key */
    uint64_t n = n_to_handle(job);
    uint64_t i = atomic_fetch_add_explicit(&job->n_handled, 1, memory_order_relaxed) + 1;
    if (i == n / 10)
        atomic_store_explicit(&job->since_ns, now_ns(), memory_order_relaxed);
    if (i == n)
        job->took_ns = now_ns() - atomic_load_explicit(&job->since_ns, memory_order_relaxed);
    return EVBUS_DONE;
}

static int be_member(struct job *job, int index)
{
    static struct member member;
    char name[16];
    unsigned group = (unsigned)index / job->plan.n_members;
    member = (struct member){.job = job, .group = &job->groups[group]};
    snprintf(name, sizeof name, "members%u", group);
    struct evbus *bus = own_bus_open(wait_of(job));
    struct evbus_subscription *subscription = bus != NULL ? own_bus_join(bus, name, topic_of(job), handle, &member)
                                                          : NULL;
    if (subscription == NULL)
        return 1;
    payload_make(&member.expected, job->plan.variant.payload_len, 0);
    join_in(job, index);

    if (own_bus_run(bus, subscription, &job->n_handled, n_to_handle(job), &member.failed) != 0)
        return 1;
    if (evbus_run_once(subscription, 0) != EVBUS_ETIMEOUT)
        return fails("more events than were sent, or one again");
    barrier_wait(&member.group->end, job->plan.n_members); /* who leaves first gives its partitions to the others */
    evbus_unsubscribe(subscription);
    evbus_close(bus);
    return 0;
}

int stream_publish(struct evbus *bus, bool is_batch, const struct evbus_event *events, size_t n,
                   _Atomic uint64_t *n_full)
{
    uint64_t full_since = 0;
    for (size_t done = 0; done < n;) {
        size_t published = 0;
        int rc = is_batch ? evbus_publish_batch(bus, events + done, n - done, NULL, &published)
                          : evbus_publish(bus, events + done, NULL);
        if (!is_batch)
            published = rc == EVBUS_OK;
        done += published;
        if (rc == EVBUS_OK)
            continue;
        if (rc != EVBUS_EFULL)
            return fails("publish: %s: %s", evbus_strerror(rc), evbus_message(bus));
        atomic_fetch_add_explicit(n_full, 1, memory_order_relaxed);
        if (full_since == 0 || published > 0)
            full_since = now_ns();
        else if (now_ns() - full_since > PATIENCE_NS)
            return fails("the ring stayed full for 10 s: %s", evbus_message(bus));
    }
    return 0;
}

static int produce(struct job *job, int index)
{
    const struct stream *plan = &job->plan;
    size_t step = plan->is_batch ? STREAM_BATCH : 1;
    static struct payload count, payloads[STREAM_BATCH];
    struct evbus_event events[STREAM_BATCH];
    static char keys[STREAM_KEYS_MAX][KEY_LEN + 7]; /* as the compiler knows no bound of a number */
    struct evbus *bus = own_bus_open(wait_of(job));
    if (bus == NULL)
        return 1;
    for (unsigned k = 0; k < plan->n_keys; k++)
        snprintf(keys[k], sizeof keys[k], "k%04u", k);
    payload_make(&count, plan->variant.payload_len, (unsigned)index - n_consumers(plan));
    for (size_t k = 0; k < step; k++) {
        payloads[k] = count;
        events[k] = event_make(&plan->variant, topic_of(job), payloads[k].text);
    }
    join_in(job, index);
    for (size_t sent = 0; sent < job->n; sent += step) {
        for (size_t k = 0; k < step; k++) {
            payload_next(&count);
            payload_copy_seq(&payloads[k], &count);
            if (plan->n_keys != 0) {
                events[k].key = keys[(sent + k + 1) % plan->n_keys];
                events[k].key_len = KEY_LEN;
            }
            event_next(&events[k], &plan->variant);
        }
        if (stream_publish(bus, plan->is_batch, events, step, &job->n_full) != 0)
            return 1;
    }
    evbus_close(bus);
    return 0;
}

static int role(void *shared, int index)
{
    struct job *job = shared;
    if (index >= (int)n_consumers(&job->plan))
        return produce(job, index);
    return job->plan.n_groups == 0 ? consume(job) : be_member(job, index);
}

int stream_run(const struct stream *stream, size_t n_all, const struct placement *placement, double *out_per_s,
               uint64_t *out_n_full)
{
    struct job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    size_t unit = stream->n_producers * STREAM_BATCH; /* whole batches */
    job->placement = placement;
    job->plan = *stream;
    job->n = (n_all + unit - 1) / unit * STREAM_BATCH;
    size_t n = job->n * stream->n_producers;
    int rc = children_run(stream_n_processes(stream), role, job);
    if (rc == 0 && job->took_ns == 0)
        rc = fails("a stream of %zu events took no time", n);
    if (rc == 0) {
        *out_per_s = (double)(n - n / 10) * 1e9 / (double)job->took_ns;
        *out_n_full = atomic_load_explicit(&job->n_full, memory_order_relaxed);
    }
    shared_free(job, sizeof *job);
    return rc;
}
