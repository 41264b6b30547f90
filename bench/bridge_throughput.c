/* bridge_throughput.c: how many events per second go to Redis and come from there, beside a client that does nothing else?
 *
 *   out      one producer publishes events of 300 bytes, with keys, as fast as it can; evbus-bridge brings them to a Redis. Time begins when a first
 *            part is there, and ends when evbus_mirrors() tells that the last event is. The journal is on, as for services: what the
 *            producer is ahead the bridge reads from there
 *   B        the bare client of bare_redis.c: the same script, batches as large, as many under way, fields as long, made before time begins.
 *            Nobody who sends this script can be faster. MULTI and plain XADD promise less; so does redis-benchmark, which shows that this
 *            client of ours is none of the slow ones. M: in MULTI, since that is what others would use
 *   both     evbus-bridge as it comes: it reads its streams as well, so Redis gives it back all that it has sent
 *   spread   a topic of N_PARTITIONS, over which the keys go
 *   in       events of another bus stand in the stream, evbus-bridge starts; time begins when a first part can be read on the bus, and ends with
 *            the last. B here: a client that reads the stream by XREAD COUNT 256, as the bridge does, and looks at each entry
 *   CPU      of the whole process evbus-bridge, threads of the library's included, by the kernel's clock of it; and of redis-server, likewise, which is
 *            what all of them wait for where a processor is idle
 *   fsync    each setting of Redis' appendfsync: no, everysec, always
 *
 * Each measurement has a bus, a redis-server and a file of its own, and the order goes round by one with each run. Nothing is pinned: bridge,
 * Redis, producer, keeper and Redis' fsync share the processors as they would elsewhere. What is in the stream, or comes from the reader, is compared with
 * what was sent, byte by byte, each event once, in order within its partition, each joined to the one before; so a figure is only printed of work that
 * was done.
 *
 * A line on stderr tells of each how many processors were idle meanwhile. Where none is, others' work is in the figure, and the
 * bridge, with its bus's keeper and producer beside it, falls behind a client that needs less of a processor; where one is, Redis is what all of them wait for.
 *
 * Not measured: a network; replicas; other payloads; several producers. No time fails this program. */
#include "bare_redis.h"
#include "daemon.h"

#include <evbus/mirror.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAYLOAD = 300, READ_COUNT = 256, LOOK_US = 100 };

#define TOPIC "bench.ping.sent"

enum kind {
    OUT_BARE,
    OUT_MULTI,
    OUT_XADD,
    OUT_BENCHMARK,
    OUT,
    OUT_BOTH,
    OUT_SPREAD,
    N_OUT,
    IN_BARE = N_OUT,
    IN,
    IN_BOTH,
    N_KINDS
};

static const char *const names[N_KINDS] = {
    [OUT_BARE] = "B: bare client, the bridge's script",
    [OUT_MULTI] = "M: bare client, MULTI",
    [OUT_XADD] = "bare client, XADD",
    [OUT_BENCHMARK] = "redis-benchmark, XADD",
    [OUT] = "bridge out",
    [OUT_BOTH] = "bridge out, and in",
    [OUT_SPREAD] = "bridge out, 4 partitions",
    [IN_BARE] = "B: bare client, XREAD",
    [IN] = "bridge in",
    [IN_BOTH] = "bridge in, and out",
};

struct job {
    const struct redis *redis;
    enum kind kind;
    size_t n_warm, n;

    /* Found by the role, without the first part. */
    double per_s;
    double n_idle;         /* processors */
    uint64_t cpu_ns;       /* of the bridge, or the client */
    uint64_t redis_cpu_ns; /* of Redis */
};

/* What time and the processors have done since then. */
struct watch {
    const struct daemon *bridge; /* NULL: this process */
    uint64_t ns, cpu_ns, redis_cpu_ns, idle_ns;
};

static uint64_t own_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Of all processors together. A machine on which others are busy gives each of us a part, and more processes of ours get no more. */
static uint64_t idle_ns(void)
{
    unsigned long long idle = 0;
    FILE *in = fopen("/proc/stat", "r");
    if (in == NULL || fscanf(in, "cpu %*u %*u %*u %llu", &idle) != 1)
        idle = 0;
    if (in != NULL)
        fclose(in);
    return idle * (1000000000u / (unsigned long long)sysconf(_SC_CLK_TCK));
}

static struct watch watch_start(const struct job *job, const struct daemon *bridge)
{
    return (struct watch){.bridge = bridge,
                          .cpu_ns = bridge != NULL ? daemon_cpu_ns(bridge) : own_cpu_ns(),
                          .redis_cpu_ns = daemon_cpu_ns(&job->redis->daemon),
                          .idle_ns = idle_ns(),
                          .ns = now_ns()};
}

static void watch_stop(const struct watch *watch, struct job *job)
{
    uint64_t took_ns = now_ns() - watch->ns;
    job->per_s = took_ns > 0 ? (double)job->n * 1e9 / (double)took_ns : 0;
    job->n_idle = took_ns > 0 ? (double)(idle_ns() - watch->idle_ns) / (double)took_ns : 0;
    job->cpu_ns = (watch->bridge != NULL ? daemon_cpu_ns(watch->bridge) : own_cpu_ns()) - watch->cpu_ns;
    job->redis_cpu_ns = daemon_cpu_ns(&job->redis->daemon) - watch->redis_cpu_ns;
}

/* --- is it what was sent? ----------------------------------------------------------------------------------------- */

struct look {
    struct payload expected;
    uint64_t n, sum; /* of events, of their numbers */
    uint64_t seq[N_PARTITIONS], position[N_PARTITIONS];
    struct job *job; /* NULL, or its time is taken: of all behind the first part */
    struct watch watch;
};

static struct look look_begin(struct job *job)
{
    struct look look = {.job = job};
    payload_make(&look.expected, PAYLOAD, 0);
    return look;
}

/* The one that is due of its partition? */
static bool is_due(struct look *look, uint64_t partition, const char *payload, size_t len, const char *key)
{
    char expected_key[BARE_KEY_LEN + 1];
    payload_set_seq(&look->expected, payload, len);
    if (partition >= N_PARTITIONS || len != PAYLOAD || memcmp(payload, look->expected.text, len) != 0)
        return false;
    uint64_t seq = payload_seq(payload), last = look->seq[partition];
    bare_key(seq, expected_key);
    look->seq[partition] = seq;
    look->sum += seq;
    look->n++;
    return seq > last && strcmp(key, expected_key) == 0;
}

static uint64_t number(const redisReply *reply)
{
    return reply != NULL ? strtoull(reply->str, NULL, 10) : UINT64_MAX;
}

static int look_at_entry(void *context, const struct bare_entry *entry)
{
    struct look *look = context;
    const redisReply *payload = bare_field(entry, "payload"), *key = bare_field(entry, "key");
    uint64_t partition = number(bare_field(entry, "partition")), position = number(bare_field(entry, "position"));
    if (payload == NULL || key == NULL || !is_due(look, partition, payload->str, payload->len, key->str) ||
        position <= look->position[partition] || number(bare_field(entry, "prev")) != look->position[partition])
        return fails("entry %s is not the one that was due: %s", entry->id, payload != NULL ? payload->str : "");
    look->position[partition] = position;
    if (look->job != NULL && look->n == look->job->n_warm)
        look->watch = watch_start(look->job, NULL);
    return 0;
}

static int look_end(const struct look *look, uint64_t n)
{
    if (look->n == n && look->sum == n * (n + 1) / 2)
        return 0;
    return fails("%" PRIu64 " events, of numbers that make %" PRIu64 ", where 1 to %" PRIu64 " were sent", look->n,
                 look->sum, n);
}

static int read_all(const struct bare *bare, const char *stream, struct look *look, uint64_t n)
{
    char id[BARE_ID_SIZE] = "0-0";
    int rc = 0;
    while (rc == 0 && look->n < n)
        rc = bare_read(bare, stream, READ_COUNT, 0, id, look_at_entry, look);
    if (rc == 1)
        return 1;
    if (look->job != NULL)
        watch_stop(&look->watch, look->job);
    if (rc == 0 && bare_read(bare, stream, READ_COUNT, 0, id, look_at_entry, look) != BARE_NOTHING)
        return fails("more in the stream than was sent");
    return look_end(look, n);
}

/* --- bare --------------------------------------------------------------------------------------------------------- */

/* Events first.. on, sent by this client; watch: its time is taken. */
static int send_bare(struct job *job, const struct bare *bare, enum bare_way way, const char *sha, uint64_t first,
                     size_t n, bool is_watched)
{
    struct bare_requests requests;
    if (!bare_prepare(&requests, way, TOPIC, sha, PAYLOAD, first, n))
        return fails("no memory");
    struct watch watch = watch_start(job, NULL);
    int rc = bare_run(bare, &requests);
    if (is_watched)
        watch_stop(&watch, job);
    bare_forget(&requests);
    return rc;
}

static int be_bare(struct job *job, const struct bare *bare, enum bare_way way)
{
    char sha[41];
    struct look look = look_begin(NULL);
    if (bare_load_script(bare, sha) != 0 || send_bare(job, bare, way, sha, 1, job->n_warm, false) != 0 ||
        send_bare(job, bare, way, sha, job->n_warm + 1, job->n, true) != 0)
        return 1;
    return read_all(bare, TOPIC, &look, job->n_warm + job->n);
}

static int run_benchmark(struct job *job, const struct bare *bare)
{
    static char words[BARE_WORDS][BARE_WORD_MAX];
    const char *texts[BARE_WORDS];
    bare_words(TOPIC, PAYLOAD, job->n, words);
    for (size_t i = 0; i < BARE_WORDS; i++)
        texts[i] = words[i];
    double per_s = 0;
    struct watch watch = watch_start(job, NULL);
    if (redis_benchmark(job->redis, job->n, BARE_UNDER_WAY, BARE_BATCH, texts, BARE_WORDS, &per_s) != 0)
        return 1;
    watch_stop(&watch, job);
    job->per_s = per_s; /* its own word, which leaves out how it starts */
    redisReply *reply = bare_ask(bare, "XLEN %s", TOPIC);
    if (reply == NULL)
        return 1;
    long long len = reply->integer;
    freeReplyObject(reply);
    return len == (long long)job->n ? 0 : fails("redis-benchmark: %lld entries of %zu", len, job->n);
}

/* --- out ---------------------------------------------------------------------------------------------------------- */

struct sender {
    struct evbus *bus;
    const char *topic;
    struct payload payload;
    struct evbus_event event;
    uint64_t seq;
    uint64_t last[N_PARTITIONS];
};

static const struct variant variant = {.payload_len = PAYLOAD, .envelope = READY};

static int publish(struct sender *sender, size_t n)
{
    char key[BARE_KEY_LEN + 1];
    struct evbus_receipt receipt = {.size = sizeof receipt};
    for (size_t i = 0; i < n; i++) {
        payload_next(&sender->payload);
        event_next(&sender->event, &variant);
        bare_key(++sender->seq, key);
        sender->event.key = key;
        int rc = evbus_publish(sender->bus, &sender->event, &receipt);
        if (rc != EVBUS_OK)
            return fails("publish: %s: %s", evbus_strerror(rc), evbus_message(sender->bus));
        if (receipt.partition < N_PARTITIONS)
            sender->last[receipt.partition] = receipt.position;
    }
    return 0;
}

/* 1: all that was published is at the broker. */
static int look_whether_told(void *context, const struct evbus_mirror_stat *stat)
{
    const struct sender *sender = context;
    for (size_t i = 0; i < stat->n_parts; i++)
        if (strncmp(stat->parts[i].log, sender->topic, strlen(stat->parts[i].log)) == 0 &&
            sender->last[stat->parts[i].partition] != 0 && stat->told[i] <= sender->last[stat->parts[i].partition])
            return 0;
    return 1;
}

static int await_told(struct sender *sender)
{
    for (uint64_t since = now_ns(); evbus_mirrors(sender->bus, look_whether_told, sender) != 1; usleep(LOOK_US))
        if (now_ns() - since > 3 * PATIENCE_NS)
            return fails("not all of %" PRIu64 " events are at the broker after 30 s", sender->seq);
    return 0;
}

static int be_out(struct job *job, const struct bare *bare)
{
    struct sender sender = {.topic = job->kind == OUT_SPREAD ? TOPIC_OF_KEYS : TOPIC};
    struct daemon bridge = {0};
    struct look look = look_begin(NULL);
    payload_make(&sender.payload, PAYLOAD, 0);
    sender.event = event_make(&variant, sender.topic, sender.payload.text);
    sender.event.timeout_ns = PATIENCE_NS;
    sender.bus = own_bus_open(EVBUS_WAIT_HYBRID); /* its keeper is ours, then, and not the bridge's */
    if (sender.bus == NULL ||
        bridge_start(&bridge, own_bus_name(), job->redis->socket, job->redis->folder, 1, job->kind == OUT_BOTH) != 0)
        return 1;
    if (publish(&sender, job->n_warm) != 0 || await_told(&sender) != 0)
        return daemon_fails(&bridge, "evbus-bridge");
    struct watch watch = watch_start(job, &bridge);
    if (publish(&sender, job->n) != 0 || await_told(&sender) != 0)
        return daemon_fails(&bridge, "evbus-bridge");
    watch_stop(&watch, job);
    if (read_all(bare, sender.topic, &look, sender.seq) != 0)
        return daemon_fails(&bridge, "evbus-bridge");
    int rc = bridge_stop(&bridge);
    evbus_close(sender.bus);
    return rc;
}

/* --- in ----------------------------------------------------------------------------------------------------------- */

static int read_bus(struct job *job, struct evbus *bus, struct evbus_reader *reader, const struct daemon *bridge)
{
    struct evbus_delivery event = {.size = sizeof event};
    struct look look = look_begin(NULL);
    struct watch watch = {0};
    while (look.n < job->n_warm + job->n) {
        int rc = evbus_reader_next(reader, &event, 3 * PATIENCE_NS);
        if (rc != EVBUS_OK)
            return fails("event %" PRIu64 ": %s: %s", look.n + 1, evbus_strerror(rc), evbus_message(bus));
        if (event.lost != 0 || event.origin == NULL ||
            !is_due(&look, 0, event.payload, event.payload_len, event.key != NULL ? event.key : ""))
            return fails("event %" PRIu64 " is not the one that was due: %.*s", look.n, (int)event.payload_len,
                         (const char *)event.payload);
        if (look.n == job->n_warm)
            watch = watch_start(job, bridge);
    }
    watch_stop(&watch, job);
    if (evbus_reader_next(reader, &event, 0) != EVBUS_ETIMEOUT)
        return fails("more events than stand in the stream");
    return look_end(&look, job->n_warm + job->n);
}

static int be_in(struct job *job, const struct bare *bare)
{
    struct daemon bridge = {0};
    struct look look = look_begin(job);
    if (send_bare(job, bare, BARE_XADD, "", 1, job->n_warm + job->n, false) != 0)
        return 1;
    if (job->kind == IN_BARE)
        return read_all(bare, TOPIC, &look, job->n_warm + job->n);
    struct evbus *bus = own_bus_open(EVBUS_WAIT_HYBRID);
    struct evbus_reader *reader = bus != NULL ? own_bus_read(bus, TOPIC, false) : NULL;
    if (reader == NULL ||
        bridge_start(&bridge, own_bus_name(), job->redis->socket, job->redis->folder, job->kind == IN_BOTH, 1) != 0)
        return 1;
    if (read_bus(job, bus, reader, &bridge) != 0)
        return daemon_fails(&bridge, "evbus-bridge");
    int rc = bridge_stop(&bridge);
    evbus_reader_close(reader);
    evbus_close(bus);
    return rc;
}

static int role(void *shared, int index)
{
    struct job *job = shared;
    struct bare bare;
    (void)index;
    if (bare_connect(&bare, job->redis->socket) != 0)
        return 1;
    switch (job->kind) {
    case OUT_BARE:
        return be_bare(job, &bare, BARE_SCRIPT);
    case OUT_MULTI:
        return be_bare(job, &bare, BARE_MULTI);
    case OUT_XADD:
        return be_bare(job, &bare, BARE_XADD);
    case OUT_BENCHMARK:
        return run_benchmark(job, &bare);
    case OUT:
    case OUT_BOTH:
    case OUT_SPREAD:
        return be_out(job, &bare);
    default:
        return be_in(job, &bare);
    }
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

/* One of them, with a bus and a Redis of its own. */
static int measure(struct job *out, const char *fsync, const struct bench_options *options, int run)
{
    struct redis redis;
    struct job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    if (own_bus_anew() != 0 || redis_start(&redis, fsync) != 0)
        return 1;
    job->redis = &redis;
    job->kind = out->kind;
    job->n = options->quick ? 25600u : 51200u; /* whole batches: redis-benchmark sends nothing else */
    job->n_warm = job->n / 8;
    int rc = children_run(1, role, job);
    if (redis_stop(&redis) != 0 && rc == 0)
        rc = 1;
    if (rc == 0 && job->per_s <= 0)
        rc = fails("%s: took no time", names[job->kind]);
    if (rc == 0) {
        fprintf(stderr, "run %d: %s, %s: %.1f k/s, CPU per event: %.2f us, of Redis %.2f us; processors idle: %.2f\n",
                run + 1, names[job->kind], fsync, job->per_s / 1e3, (double)job->cpu_ns / 1e3 / (double)job->n,
                (double)job->redis_cpu_ns / 1e3 / (double)job->n, job->n_idle);
        if (options->raw != NULL)
            fprintf(options->raw, "%s, %s\trun %d\tevents/s\t%.1f\tCPU ns per event\t%.1f\tof Redis\t%.1f\n",
                    names[job->kind], fsync, run + 1, job->per_s, (double)job->cpu_ns / (double)job->n,
                    (double)job->redis_cpu_ns / (double)job->n);
    }
    *out = *job;
    shared_free(job, sizeof *job);
    return rc;
}

static bool is_of_bridge(enum kind kind)
{
    return kind != OUT_BENCHMARK && kind >= OUT && kind != IN_BARE;
}

/* What the goals speak of. */
static bool is_goal(enum kind kind)
{
    return kind == OUT_BARE || kind == OUT_MULTI || kind == OUT;
}

static void add_figures(const struct job *jobs, enum kind first, enum kind end, const char *fsync, struct table *table)
{
    char name[BENCH_NAME_MAX];
    for (enum kind kind = first; kind < end; kind++) {
        if (jobs[kind].per_s <= 0) /* left out */
            continue;
        snprintf(name, sizeof name, "%s, %s", names[kind], fsync);
        figure_add(table_figure(table, name, UNIT_THOUSANDS_PER_S, kind == first ? 0 : 'B'), jobs[kind].per_s,
                   jobs[first].per_s, jobs[kind].n);
    }
    if (first == OUT_BARE) {
        snprintf(name, sizeof name, "%s, %s, in MULTI", names[OUT], fsync);
        figure_add(table_figure(table, name, UNIT_THOUSANDS_PER_S, 'M'), jobs[OUT].per_s, jobs[OUT_MULTI].per_s,
                   jobs[OUT].n);
    }
    for (enum kind kind = first; kind < end; kind++)
        if (is_of_bridge(kind) && jobs[kind].per_s > 0) {
            snprintf(name, sizeof name, "%s, %s: CPU per event", names[kind], fsync);
            figure_add(table_figure(table, name, UNIT_NS, 0), (double)jobs[kind].cpu_ns / (double)jobs[kind].n, 0,
                       jobs[kind].n);
        }
    for (enum kind kind = first; kind < end; kind++)
        if (is_goal(kind)) {
            snprintf(name, sizeof name, "%s, %s: CPU of Redis per event", names[kind], fsync);
            figure_add(table_figure(table, name, UNIT_NS, 0), (double)jobs[kind].redis_cpu_ns / (double)jobs[kind].n, 0,
                       jobs[kind].n);
        }
}

/* Of `no`, and with --quick of `always`: what the goals speak of. */
static bool is_left_out(enum kind kind, const char *fsync, const struct bench_options *options)
{
    return !is_goal(kind) && (strcmp(fsync, "no") == 0 || (options->quick && strcmp(fsync, "always") == 0));
}

static int measure_group(enum kind first, enum kind end, const char *fsync, const struct bench_options *options,
                         struct table *table, int run)
{
    struct job jobs[N_KINDS] = {{0}};
    int n = (int)end - (int)first, rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        enum kind kind = (enum kind)((int)first + (i + run) % n);
        if (is_left_out(kind, fsync, options))
            continue;
        jobs[kind].kind = kind;
        rc = measure(&jobs[kind], fsync, options, run);
    }
    if (rc == 0)
        add_figures(jobs, first, end, fsync, table);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    (void)placement;
    for (int run = options->first_run; run < options->first_run + options->n_runs && rc == 0; run++) {
        rc = measure_group(OUT_BARE, N_OUT, "no", options, table, run);
        if (rc == 0)
            rc = measure_group(OUT_BARE, N_OUT, "everysec", options, table, run);
        if (rc == 0)
            rc = measure_group(OUT_BARE, N_OUT, "always", options, table, run);
        if (rc == 0)
            rc = measure_group(IN_BARE, N_KINDS, "everysec", options, table, run);
    }
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(argc, argv,
                             "How many events per second go to Redis and come from there, beside a client that does "
                             "nothing else? Nothing is pinned.",
                             true, measure_all);
}
