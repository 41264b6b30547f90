/* bridge_latency.c: how long from publish() on one host to the handler of another, by two bridges and a Redis?
 *
 *   B        a client XADDs an entry, another one waits for it in XREAD BLOCK: the least that anybody pays who goes by Redis Streams
 *   bridges  publish() on a bus, its evbus-bridge, Redis, the evbus-bridge of another bus, a group's handler there. Both as they come: out and in,
 *            so each of them reads as well what it has sent itself
 *
 *                B        XADD -----------------------> Redis --> XREAD                             now - intended
 *                bridges  publish --> bus --> bridge -> Redis --> bridge --> bus --> handler        now - intended
 *
 * 1,000 events a second, of 300 bytes, with the ten fields that the bridge gives them. A sample begins at the *intended* send time, which stands in
 * the payload: a sender that is late, or kept waiting, makes it worse. What the bridges add is the difference of the two lines. Both sides sleep
 * between two events, as services do; nothing is pinned: there are six processes and their keepers. The first event shows that all is connected,
 * the first tenth behind it is not counted.
 *
 * Both hosts are this one: a network adds what it adds, to both. Each is measured with a redis-server of its own (appendfsync everysec). No time fails this
 * program; an event that is lost, repeated, changed or out of order does. */
#include "bare_redis.h"
#include "daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum { PAYLOAD = 300, PERIOD_NS = 1000000, READ_COUNT = 256, BLOCK_MS = 20000 };

#define TOPIC "bench.ping.sent"

struct job {
    struct barrier is_up;
    const struct redis *redis;
    const char *buses[2]; /* NULL: bare */
    size_t n_warm, n;     /* behind the first one */
    uint64_t epoch_ns;    /* what `at` counts from */
    struct samples *samples;
};

/* --- who sends ---------------------------------------------------------------------------------------------------- */

struct sender {
    struct job *job;
    struct bare bare;
    struct evbus *bus; /* NULL: bare */
    struct daemon bridge;
    struct payload payload;
    struct evbus_event event;
};

static const struct variant variant = {.payload_len = PAYLOAD, .envelope = READY};

static int send_bare(struct sender *sender, uint64_t seq)
{
    static char words[BARE_WORDS][BARE_WORD_MAX];
    const char *texts[BARE_WORDS];
    char *bytes = NULL;
    bare_words(TOPIC, PAYLOAD, seq, words);
    memcpy(words[BARE_PAYLOAD], sender->payload.text, PAYLOAD);
    for (size_t i = 0; i < BARE_WORDS; i++)
        texts[i] = words[i];
    int len = redisFormatCommandArgv(&bytes, BARE_WORDS, texts, NULL);
    if (len < 0)
        return fails("no memory");
    int rc = bare_send(&sender->bare, bytes, (size_t)len);
    redisFreeCommand(bytes);
    redisReply *reply = rc == 0 ? bare_reply(&sender->bare) : NULL;
    if (reply == NULL)
        return 1;
    freeReplyObject(reply);
    return 0;
}

static int send_one(struct sender *sender, uint64_t seq, uint64_t at_ns)
{
    payload_set_number(&sender->payload, seq);
    payload_set_at(&sender->payload, at_ns);
    if (sender->bus == NULL)
        return send_bare(sender, seq);
    char key[BARE_KEY_LEN + 1];
    bare_key(seq, key);
    sender->event.key = key;
    event_next(&sender->event, &variant);
    int rc = evbus_publish(sender->bus, &sender->event, NULL);
    return rc == EVBUS_OK ? 0 : fails("publish: %s: %s", evbus_strerror(rc), evbus_message(sender->bus));
}

static void sleep_until(uint64_t then_ns)
{
    struct timespec then = {.tv_sec = (time_t)(then_ns / 1000000000), .tv_nsec = (long)(then_ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL) == EINTR)
        ;
}

static int be_sender(struct job *job)
{
    struct sender sender = {.job = job};
    payload_make(&sender.payload, PAYLOAD, 0);
    sender.event = event_make(&variant, TOPIC, sender.payload.text);
    sender.event.timeout_ns = PATIENCE_NS;
    prctl(PR_SET_TIMERSLACK, 1ul); /* woken when we want to be */
    if (job->buses[0] == NULL && bare_connect(&sender.bare, job->redis->socket) != 0)
        return 1;
    if (job->buses[0] != NULL &&
        ((sender.bus = own_bus_open(EVBUS_WAIT_HYBRID)) == NULL ||
         bridge_start(&sender.bridge, job->buses[0], job->redis->socket, job->redis->folder, 1, 1) != 0))
        return 1;
    if (send_one(&sender, 1, 0) != 0)
        return 1;
    barrier_wait(&job->is_up, 2);
    uint64_t start = now_ns() + PERIOD_NS;
    for (uint64_t i = 0; i < job->n_warm + job->n; i++) {
        uint64_t at = start + i * PERIOD_NS;
        sleep_until(at);
        if (send_one(&sender, i + 2, at - job->epoch_ns) != 0)
            return daemon_fails(&sender.bridge, "evbus-bridge");
    }
    int rc = sender.bus != NULL ? bridge_stop(&sender.bridge) : 0;
    evbus_close(sender.bus);
    return rc;
}

/* --- who receives ------------------------------------------------------------------------------------------------- */

struct receiver {
    struct job *job;
    struct payload expected;
    uint64_t n;
    int rc;
};

static int take(struct receiver *receiver, const char *text, size_t len)
{
    struct job *job = receiver->job;
    uint64_t now = now_ns() - job->epoch_ns, at = len >= PAYLOAD_MIN ? payload_at(text) : 0;
    payload_set_number(&receiver->expected, ++receiver->n);
    payload_set_at(&receiver->expected, at);
    if (len != PAYLOAD || memcmp(text, receiver->expected.text, len) != 0)
        return receiver->rc = fails("event %llu is not the one that was due: %.*s", (unsigned long long)receiver->n,
                                    (int)len, text);
    if (receiver->n == 1)
        barrier_wait(&job->is_up, 2);
    if (receiver->n > 1 + job->n_warm)
        samples_add(job->samples, now - at);
    return 0;
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct receiver *receiver = context;
    (void)error;
    if (receiver->rc == 0 && (event->attempt != 1 || event->origin == NULL))
        receiver->rc = fails("event %llu comes again, or from here", (unsigned long long)receiver->n + 1);
    if (receiver->rc == 0)
        receiver->rc = take(receiver, event->payload, event->payload_len);
    return EVBUS_DONE;
}

static int look_at_entry(void *context, const struct bare_entry *entry)
{
    const redisReply *payload = bare_field(entry, "payload");
    return payload != NULL ? take(context, payload->str, payload->len) : fails("an entry without a payload");
}

static int receive_bare(struct receiver *receiver, uint64_t n)
{
    struct bare bare;
    char id[BARE_ID_SIZE] = "0-0";
    if (bare_connect(&bare, receiver->job->redis->socket) != 0)
        return 1;
    while (receiver->n < n) {
        int rc = bare_read(&bare, TOPIC, READ_COUNT, BLOCK_MS, id, look_at_entry, receiver);
        if (rc != 0)
            return fails("%llu of %llu entries came", (unsigned long long)receiver->n, (unsigned long long)n);
    }
    bare_close(&bare);
    return 0;
}

static int receive(struct receiver *receiver, uint64_t n)
{
    const struct job *job = receiver->job;
    struct daemon bridge = {0};
    struct evbus *bus = own_bus_open_twin(EVBUS_WAIT_HYBRID);
    struct evbus_subscription *subscription = bus != NULL ? own_bus_join(bus, "members", TOPIC, handle, receiver)
                                                          : NULL;
    if (subscription == NULL || bridge_start(&bridge, job->buses[1], job->redis->socket, job->redis->folder, 1, 1) != 0)
        return 1;
    while (receiver->n < n && receiver->rc == 0) {
        int rc = evbus_run_once(subscription, 3 * PATIENCE_NS);
        if (rc != EVBUS_OK)
            receiver->rc = fails("event %llu: %s: %s", (unsigned long long)receiver->n + 1, evbus_strerror(rc),
                                 evbus_message(bus));
    }
    if (receiver->rc == 0 && evbus_run_once(subscription, 0) != EVBUS_ETIMEOUT)
        receiver->rc = fails("more events than the %llu that were sent, or one again", (unsigned long long)n);
    if (receiver->rc != 0)
        return daemon_fails(&bridge, "evbus-bridge");
    int rc = bridge_stop(&bridge);
    evbus_unsubscribe(subscription);
    evbus_close(bus);
    return rc;
}

static int role(void *shared, int index)
{
    struct job *job = shared;
    struct receiver receiver = {.job = job};
    if (index == 0)
        return be_sender(job);
    payload_make(&receiver.expected, PAYLOAD, 0);
    return job->buses[0] == NULL ? receive_bare(&receiver, 1 + job->n_warm + job->n)
                                 : receive(&receiver, 1 + job->n_warm + job->n);
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

/* *inout_bare: the p50 of the bare pair, found or told in. */
static int measure(bool is_bare, double *inout_bare, const struct bench_options *options, struct table *table, int run)
{
    const char *name = is_bare ? "B: XADD to XREAD BLOCK" : "publish to a handler, by two bridges";
    struct redis redis;
    struct job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    if (own_bus_anew() != 0)
        return 1;
    if (!is_bare) {
        job->buses[0] = own_bus_name();
        job->buses[1] = own_bus_twin_anew();
        if (job->buses[1] == NULL)
            return 1;
    }
    if (redis_start(&redis, "everysec") != 0)
        return 1;
    job->redis = &redis;
    job->n = options->quick ? 1000u : 3000u;
    job->n_warm = job->n / 9; /* the first tenth of both */
    job->epoch_ns = now_ns();
    job->samples = samples_new(job->n);
    int rc = job->samples != NULL ? children_run(2, role, job) : fails("no memory");
    if (redis_stop(&redis) != 0 && rc == 0)
        rc = 1;
    if (rc == 0) {
        samples_save(options->raw, job->samples, name, run);
        struct summary summary = samples_summary(job->samples);
        if (is_bare)
            *inout_bare = summary.p50;
        figure_add_summary(table_figure(table, name, UNIT_US, is_bare ? 0 : 'B'), &summary, *inout_bare);
    }
    samples_free(job->samples);
    shared_free(job, sizeof *job);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    (void)placement;
    for (int run = options->first_run; run < options->first_run + options->n_runs && rc == 0; run++) {
        double bare = 0;
        rc = measure(true, &bare, options, table, run);
        if (rc == 0)
            rc = measure(false, &bare, options, table, run);
    }
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(
        argc, argv,
        "How long from publish() on one host to a handler on another, by two bridges and a Redis? Nothing is pinned.",
        true, measure_all);
}
