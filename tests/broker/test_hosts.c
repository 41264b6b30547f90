/* test_hosts.c: three buses, each in a network of its own, one Redis that all reach by a link that breaks: what is published on one is
 * seen on each, once, in order.
 *
 *     bus 0 -- bridge 0 --.
 *     bus 1 -- bridge 1 ---- Redis      publishers and readers are threads of the test, one of each for a bus; bridges are the real
 *     bus 2 -- bridge 2 --'             program, in the host's namespace
 *
 * Where a network namespace is not permitted, what needs one is skipped, with a line.
 *
 *   faults   at random, while the events are published: a link is cut (what is sent gets lost, connections live on), a bridge is killed
 *            or stopped, Redis drops all connections, or all of that at once. Each lasts for a random while, so they overlap.
 *   counted  by eventId, which tells host and number: on each bus each one once; and of each host, in each key, in the order of the
 *            numbers. When all is there the bridges are told to end, which they must do well, and started again: what is
 *            published then stands behind everything else in every stream and partition, so when it is there and nothing has come twice,
 *            nothing will.
 *
 * Three processes on a host share /dev/shm, in whatever network they are: so the buses have names and folders of their own. */
#include "netns.h"
#include "redis.h"

#include "await.h"
#include "child.h"
#include "folder.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <evbus/admin.h>
#include <evbus/mirror.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_HOSTS     3
#define N_KEYS      24
#define EVENTS_MAX  400000 /* of one host */
#define PATIENCE_MS (3 * AWAIT_MS)
#define NS_PER_S    UINT64_C(1000000000)

struct world;

struct host {
    struct world *world;
    unsigned number;
    char name[64];
    struct evbus *bus;
    uint8_t uuid[16];
    struct netns_host net;
    char url[200];
    const char *setting; /* of its bridge */
    char log_path[300];  /* of its bridge */
    struct child bridge;
    bool is_running, is_stopped, is_cut;
    uint64_t start_ms, continue_ms, mend_ms; /* when what was done to it is undone */
    pthread_t publisher, consumer;
    _Atomic uint64_t quota;       /* it publishes so many in all */
    _Atomic uint64_t n_published; /* by it */
    _Atomic uint64_t n_seen;      /* events of all hosts, on its bus; twice counts twice */
    uint8_t *seen[N_HOSTS];       /* how often; by host and number */
    uint64_t next[N_HOSTS][N_KEYS];
    uint64_t n_twice, n_disordered, n_wrong;
    char first[300]; /* of what is wrong */
};

struct world {
    struct host hosts[N_HOSTS];
    struct redis_server redis;
    struct folder folder;
    const char *layout;
    const char *program;
    _Atomic bool is_over;
    uint64_t random;
    unsigned n_cuts, n_kills, n_stops, n_drops;
};

static char to_remove[N_HOSTS][64];
static pid_t made_by;

static void remove_at_exit(void)
{
    for (unsigned i = 0; i < N_HOSTS && made_by == getpid(); i++)
        if (to_remove[i][0] != '\0')
            evbus_remove(to_remove[i]);
}

/* --- buses ------------------------------------------------------------------------------------------------------------------- */

static void make_bus(struct host *host, const char *catalogue)
{
    snprintf(host->name, sizeof host->name, "test-%d-host%u", (int)getpid(), host->number);
    if (made_by != getpid())
        atexit(remove_at_exit);
    made_by = getpid();
    memcpy(to_remove[host->number], host->name, sizeof host->name);
    cr_assert_eq(evbus_init(&(struct evbus_init_options){
                     .size = sizeof(struct evbus_init_options), .bus = host->name, .catalogue = catalogue}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_open(&host->bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                                .bus = host->name,
                                                                .service = "tester"}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(host->bus, &stat), EVBUS_OK);
    memcpy(host->uuid, stat.uuid, sizeof host->uuid);
}

static void end_bus(struct host *host)
{
    evbus_close(host->bus);
    evbus_remove(host->name);
    to_remove[host->number][0] = '\0';
    for (unsigned i = 0; i < N_HOSTS; i++)
        free(host->seen[i]);
}

/* --- bridges ----------------------------------------------------------------------------------------------------------------- */

/* BRIDGE, as meson has it; by hand the one beside the test. */
static const char *bridge_program(void)
{
    static char path[4200];
    const char *given = getenv("BRIDGE");
    if (given != NULL)
        return given;
    ssize_t len = readlink("/proc/self/exe", path, 4096);
    cr_assert_gt(len, 0);
    path[len] = '\0';
    for (unsigned i = 0; i < 2; i++)
        *strrchr(path, '/') = '\0';
    strcat(path, "/bridge/evbus-bridge");
    return path;
}

/* Between fork and exec: nothing that takes a lock. */
static int be_bridge(void *context)
{
    const struct host *host = context;
    int fd = open(host->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if ((host->net.fd > 0 && !netns_enter(&host->net)) || fd < 0 || dup2(fd, STDERR_FILENO) < 0)
        return 126;
    execl(host->world->program, "evbus-bridge", "--redis", host->url, "--bus", host->name, "--set", host->world->layout,
          "--set", host->setting, "--set", "connect_timeout=1s", "--set", "reply_timeout=2s", (char *)NULL);
    return 127;
}

static void start_bridge(struct host *host)
{
    host->bridge = child_start(be_bridge, host);
    host->is_running = true;
    host->is_stopped = false;
}

static void kill_bridge(struct host *host)
{
    if (host->is_running)
        child_kill(&host->bridge);
    host->is_running = false;
}

static void show_log(const struct host *host)
{
    char command[400];
    snprintf(command, sizeof command, "tail -n 15 %.300s >&2", host->log_path);
    fprintf(stderr, "the bridge of host %u said:\n", host->number);
    if (system(command) != 0)
        fprintf(stderr, "nothing\n");
}

/* Told to end it ends well, whatever it was doing. */
static void end_bridge(struct host *host)
{
    kill(host->bridge.pid, SIGTERM);
    int status = child_join(&host->bridge);
    host->is_running = false;
    if (status != 0)
        show_log(host);
    cr_assert_eq(status, 0, "the bridge of host %u, told to end, ended by %d", host->number, status);
}

static int is_led(void *context, const struct evbus_mirror_stat *stat)
{
    *(bool *)context = stat->is_led;
    return EVBUS_OK;
}

static bool leads(const struct host *host)
{
    bool does = false;
    return evbus_mirrors(host->bus, is_led, &does) == EVBUS_OK && does;
}

/* --- events ------------------------------------------------------------------------------------------------------------------ */

/* Number n of a host: its key is n % N_KEYS. Where a stream is of a log, a key has events in both topics of one; else a key is of one topic. */
static const char *topic_of(const struct world *world, uint64_t n)
{
    static const char *const topics[] = {"test.a.one", "test.a.two", "test.b.one"};
    uint64_t key = n % N_KEYS;
    bool is_log = strcmp(world->layout, "layout=log") == 0;
    return is_log && key % 3 != 2 ? topics[n / N_KEYS % 2] : topics[key % 3];
}

static void make_id(unsigned host, uint64_t n, uint8_t out_id[16])
{
    memset(out_id, 0, 16);
    for (unsigned i = 0; i < 4; i++)
        out_id[i] = (uint8_t)(n >> (24 - 8 * i));
    out_id[6] = 0x80; /* a UUID made of something else */
    out_id[8] = 0x80;
    out_id[15] = (uint8_t)host;
}

static size_t make_payload(unsigned host, uint64_t n, char out[128])
{
    return (size_t)snprintf(out, 128, "{\"host\": %u, \"n\": %" PRIu64 ", \"total\": 19.90}", host, n);
}

static void *publish(void *context)
{
    struct host *host = context;
    for (uint64_t n = 0; !atomic_load(&host->world->is_over);) {
        if (n == atomic_load(&host->quota)) {
            await_pause();
            continue;
        }
        char key[16], payload[128];
        snprintf(key, sizeof key, "h%u-%" PRIu64, host->number, n % N_KEYS);
        struct evbus_event event = {.size = sizeof event,
                                    .topic = topic_of(host->world, n),
                                    .key = key,
                                    .payload = payload,
                                    .payload_len = make_payload(host->number, n, payload),
                                    .timeout_ns = NS_PER_S};
        make_id(host->number, n, event.id);
        int rc = evbus_publish(host->bus, &event, NULL);
        if (rc == EVBUS_EFULL) /* nobody's fault: the disk is slow */
            continue;
        if (rc != EVBUS_OK) {
            fprintf(stderr, "host %u cannot publish: %d %s\n", host->number, rc, evbus_message(host->bus));
            return NULL;
        }
        atomic_store(&host->n_published, ++n);
    }
    return NULL;
}

__attribute__((format(printf, 3, 4))) static void complain(struct host *host, uint64_t *count, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    if (host->first[0] == '\0')
        vsnprintf(host->first, sizeof host->first, format, list);
    va_end(list);
    ++*count;
}

static void see(struct host *host, const struct evbus_delivery *event)
{
    const uint8_t *id = event->id;
    unsigned from = id[15];
    uint64_t n = (uint64_t)id[0] << 24 | (uint64_t)id[1] << 16 | (uint64_t)id[2] << 8 | id[3];
    uint8_t again[16];
    char payload[128];
    make_id(from, n, again);
    bool is_ours = from < N_HOSTS && n < EVENTS_MAX && memcmp(id, again, 16) == 0;
    size_t len = is_ours ? make_payload(from, n, payload) : 0;
    bool is_own = from == host->number;
    if (!is_ours || event->payload_len != len || memcmp(event->payload, payload, len) != 0 ||
        strcmp(event->topic, topic_of(host->world, n)) != 0 || (event->origin == NULL) != is_own ||
        (!is_own && memcmp(event->origin->bus, host->world->hosts[from].uuid, 16) != 0)) {
        complain(host, &host->n_wrong, "wrong: %s %.*s, host %u, number %" PRIu64, event->topic,
                 (int)event->payload_len, (const char *)event->payload, from, n);
        return;
    }
    uint64_t *next = &host->next[from][n % N_KEYS];
    if (host->seen[from][n] != 0)
        complain(host, &host->n_twice, "twice: number %" PRIu64 " of host %u", n, from);
    else if (n < *next)
        complain(host, &host->n_disordered, "number %" PRIu64 " of host %u behind %" PRIu64, n, from, *next - N_KEYS);
    if (host->seen[from][n] < UINT8_MAX)
        host->seen[from][n]++;
    *next = n + N_KEYS;
    atomic_fetch_add(&host->n_seen, 1);
}

static void *consume(void *context)
{
    struct host *host = context;
    struct evbus_reader *reader;
    if (evbus_reader_open(&reader, host->bus,
                          &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                         .from = EVBUS_FROM_EARLIEST}) != EVBUS_OK) {
        complain(host, &host->n_wrong, "no reader: %s", evbus_message(host->bus));
        return NULL;
    }
    while (!atomic_load(&host->world->is_over)) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_reader_next(reader, &event, NS_PER_S / 10);
        if (rc == EVBUS_OK)
            see(host, &event);
        else if (rc != EVBUS_ETIMEOUT)
            complain(host, &host->n_wrong, "evbus_reader_next: %d %s", rc, evbus_message(host->bus));
    }
    evbus_reader_close(reader);
    return NULL;
}

/* --- faults ------------------------------------------------------------------------------------------------------------------ */

static uint64_t below(struct world *world, uint64_t n)
{
    return trial_random(&world->random) % n;
}

static void cut(struct world *world, struct host *host)
{
    netns_cut(&host->net);
    host->is_cut = true;
    host->mend_ms = await_now_ms() + 20 + below(world, 1500);
    world->n_cuts++;
}

static void kill_one(struct world *world, struct host *host)
{
    if (!host->is_running)
        return;
    kill_bridge(host);
    host->start_ms = await_now_ms() + below(world, 300);
    world->n_kills++;
}

static void stop(struct world *world, struct host *host)
{
    if (!host->is_running || host->is_stopped)
        return;
    child_stop(&host->bridge);
    host->is_stopped = true;
    host->continue_ms = await_now_ms() + 20 + below(world, 700);
    world->n_stops++;
}

static void drop(struct world *world)
{
    (void)redis_server_ask(&world->redis, "CLIENT KILL TYPE normal SKIPME yes");
    world->n_drops++;
}

/* The first is a cut, the second a kill; then by chance. */
static void do_fault(struct world *world, uint64_t round)
{
    struct host *host = &world->hosts[below(world, N_HOSTS)];
    uint64_t which = round == 1 ? 0 : round == 2 ? 3 : below(world, 8);
    bool is_all = which == 7;
    for (unsigned i = 0; i < N_HOSTS; i++)
        if (is_all || &world->hosts[i] == host) {
            if (is_all || which < 3)
                cut(world, &world->hosts[i]);
            if (is_all || which == 3 || which == 4)
                kill_one(world, &world->hosts[i]);
            if (which == 5)
                stop(world, &world->hosts[i]);
        }
    if (which >= 6)
        drop(world);
}

/* What its time is for is undone; and nobody has ended by himself. */
static void look(struct world *world, bool at_once)
{
    uint64_t now = at_once ? UINT64_MAX : await_now_ms();
    for (unsigned i = 0; i < N_HOSTS; i++) {
        struct host *host = &world->hosts[i];
        if (host->is_cut && host->mend_ms <= now) {
            netns_mend(&host->net);
            host->is_cut = false;
        }
        if (host->is_running && host->is_stopped && host->continue_ms <= now) {
            child_continue(&host->bridge);
            host->is_stopped = false;
        }
        int status = 0;
        if (host->is_running && waitpid(host->bridge.pid, &status, WNOHANG) != 0) {
            host->is_running = false;
            show_log(host);
            cr_assert_fail("the bridge of host %u has ended by itself: status %#x", i, (unsigned)status);
        }
        if (!host->is_running && host->start_ms <= now)
            start_bridge(host);
    }
}

/* --- the story --------------------------------------------------------------------------------------------------------------- */

static uint64_t n_seen_in_all(const struct world *world)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < N_HOSTS; i++)
        n += atomic_load(&world->hosts[i].n_seen);
    return n;
}

/* Each bus has seen so many; as long as it goes on we wait. */
static void await_all(struct world *world, uint64_t n_each, const char *what)
{
    uint64_t n_before = UINT64_MAX, until_ms = 0;
    for (;;) {
        uint64_t n = n_seen_in_all(world), n_done = 0;
        for (unsigned i = 0; i < N_HOSTS; i++)
            n_done += atomic_load(&world->hosts[i].n_seen) >= n_each;
        if (n_done == N_HOSTS)
            return;
        if (n != n_before)
            until_ms = await_now_ms() + PATIENCE_MS;
        n_before = n;
        if (await_now_ms() >= until_ms)
            break;
        look(world, false);
        await_pause();
    }
    for (unsigned i = 0; i < N_HOSTS; i++)
        show_log(&world->hosts[i]);
    cr_assert_fail("%s: of %" PRIu64 " events bus 0 has seen %" PRIu64 ", bus 1 %" PRIu64 ", bus 2 %" PRIu64
                   "; nothing goes on",
                   what, n_each, atomic_load(&world->hosts[0].n_seen), atomic_load(&world->hosts[1].n_seen),
                   atomic_load(&world->hosts[2].n_seen));
}

static void allow(struct world *world, uint64_t n_each)
{
    for (unsigned i = 0; i < N_HOSTS; i++)
        atomic_store(&world->hosts[i].quota, n_each);
}

/* Each of the first buses has seen each event of them, once, in order. */
static void settle(const struct world *world, unsigned n_hosts, uint64_t n_each)
{
    for (unsigned i = 0; i < n_hosts; i++) {
        const struct host *host = &world->hosts[i];
        uint64_t n_missing = 0;
        for (unsigned from = 0; from < n_hosts; from++)
            for (uint64_t n = 0; n < n_each; n++)
                n_missing += host->seen[from][n] == 0;
        if (n_missing + host->n_twice + host->n_disordered + host->n_wrong != 0)
            show_log(host);
        cr_assert_eq(n_missing + host->n_twice + host->n_disordered + host->n_wrong, 0,
                     "bus %u: %" PRIu64 " missing, %" PRIu64 " twice, %" PRIu64 " out of order, %" PRIu64
                     " wrong; first: %s",
                     i, n_missing, host->n_twice, host->n_disordered, host->n_wrong, host->first);
    }
}

/* Its Redis is reached by TCP from the hosts' networks, else by its socket. */
static void begin(struct world *world, const char *layout, bool has_networks)
{
    world->layout = layout;
    world->program = bridge_program();
    world->folder = folder_make();
    setenv("EVBUS_STATE_DIR", world->folder.path, 1);
    world->redis = has_networks ? redis_server_start_tcp("bind 0.0.0.0\nprotected-mode no") : redis_server_start(NULL);
}

static void make_host(struct world *world, unsigned number, bool has_network, const char *catalogue)
{
    struct host *host = &world->hosts[number];
    const struct redis_server redis = world->redis; /* copies: else gcc takes them for what is written to */
    const struct folder folder = world->folder;
    host->world = world;
    host->number = number;
    host->setting = "checkpoint=1s";
    const struct netns_host net = has_network ? netns_make(number) : (struct netns_host){.fd = 0};
    host->net = net;
    if (has_network)
        snprintf(host->url, sizeof host->url, "redis://%s:%u", net.hub, (unsigned)redis.port);
    else
        snprintf(host->url, sizeof host->url, "%s", redis.url);
    snprintf(host->log_path, sizeof host->log_path, "%.250s/bridge%u.log", folder.path, number);
    for (unsigned from = 0; from < N_HOSTS; from++)
        cr_assert_not_null(host->seen[from] = calloc(EVENTS_MAX, 1));
    make_bus(host, catalogue);
}

static const char plain[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                            "\"defaults\":{\"partitions\":2,\"ring\":\"1MiB\",\"journal\":true},"
                            "\"topics\":{\"test.a.one\":{},\"test.a.two\":{},\"test.b.one\":{}}}";

static void go(struct host *host)
{
    cr_assert_eq(pthread_create(&host->consumer, NULL, consume, host), 0);
    cr_assert_eq(pthread_create(&host->publisher, NULL, publish, host), 0);
}

static void end(struct world *world, unsigned n_hosts)
{
    for (unsigned i = 0; i < n_hosts; i++)
        end_bridge(&world->hosts[i]);
    atomic_store(&world->is_over, true);
    for (unsigned i = 0; i < n_hosts; i++) {
        pthread_join(world->hosts[i].publisher, NULL);
        pthread_join(world->hosts[i].consumer, NULL);
    }
}

static void tell(const struct world *world, uint64_t n, uint64_t at_ms, uint64_t faults_ms)
{
    uint64_t ms = await_now_ms() - at_ms;
    fprintf(stderr,
            "%" PRIu64 " events on three buses, %s: %u cuts, %u kills, %u stops, %u drops in %" PRIu64
            " ms; all is everywhere in %" PRIu64 " ms: %" PRIu64 " events/s in, %" PRIu64 " to each\n",
            n, world->layout, world->n_cuts, world->n_kills, world->n_stops, world->n_drops, faults_ms, ms,
            2 * n * 1000 / (ms + 1), n * 1000 / (ms + 1));
}

static void live_through(const char *name, const char *layout, uint64_t n_in_all, uint64_t n_rounds)
{
    static struct world world;
    world.random = trial_seed(name);
    const char *why_not = netns_begin();
    if (why_not != NULL) {
        fprintf(stderr, "skipped: %s\n", why_not);
        cr_skip_test("%s", why_not);
    }
    begin(&world, layout, true);
    for (unsigned i = 0; i < N_HOSTS; i++)
        make_host(&world, i, true, plain);
    for (unsigned i = 0; i < N_HOSTS; i++) {
        start_bridge(&world.hosts[i]);
        go(&world.hosts[i]);
    }
    uint64_t n_each = n_in_all / N_HOSTS, start_ms = await_now_ms();
    for (uint64_t round = 1; round <= n_rounds; round++) {
        uint64_t until_ms = await_now_ms() + 50 + below(&world, 250);
        allow(&world, n_each * round / n_rounds);
        do_fault(&world, round);
        while (await_now_ms() < until_ms) {
            look(&world, false);
            await_pause();
        }
    }
    uint64_t faults_ms = await_now_ms() - start_ms;
    await_all(&world, n_each * N_HOSTS, "with faults");
    tell(&world, n_each * N_HOSTS, start_ms, faults_ms);
    cr_assert(world.n_cuts > 0 && world.n_kills > 0, "there were no faults");
    look(&world, true);
    for (unsigned i = 0; i < N_HOSTS; i++) {
        cr_assert(await_that(leads(&world.hosts[i])), "bridge %u does not lead", i);
        end_bridge(&world.hosts[i]);
        start_bridge(&world.hosts[i]);
    }
    allow(&world, n_each + N_KEYS); /* behind everything, in each stream and partition */
    await_all(&world, (n_each + N_KEYS) * N_HOSTS, "when all went well again");
    end(&world, N_HOSTS);
    settle(&world, N_HOSTS, n_each + N_KEYS);
    long long n_entries = 0;
    for (const char *const *stream =
             (const char *const[]){"test.a.one", "test.a.two", "test.b.one", "{test.a}", "{test.b}", NULL};
         *stream != NULL; stream++)
        n_entries += redis_server_number(&world.redis, "XLEN %s", *stream);
    cr_assert_eq((uint64_t)n_entries, (n_each + N_KEYS) * N_HOSTS, "%lld entries at Redis", n_entries);
    for (unsigned i = 0; i < N_HOSTS; i++)
        end_bus(&world.hosts[i]);
}

Test(hosts, see_each_event_of_all_once_and_in_order_whatever_is_cut_and_killed, .timeout = 580)
{
    live_through("hosts/see_each_event_of_all_once_and_in_order_whatever_is_cut_and_killed", "layout=topic",
                 trial_count(200000, 6000), trial_count(60, 12));
}

Test(hosts, see_the_topics_of_a_log_in_one_order_where_a_stream_is_a_log, .timeout = 580)
{
    live_through("hosts/see_the_topics_of_a_log_in_one_order_where_a_stream_is_a_log", "layout=log",
                 trial_count(50000, 3000), trial_count(30, 6));
}

/* A bridge knows of what came in since the last checkpoint by the events themselves. What it says in a checkpoint of its own, before it has read that
 * again at the broker, must not be less. */
Test(hosts, see_an_event_once_when_a_bridge_ends_before_it_has_read_again_what_the_killed_one_brought_in,
     .timeout = 300)
{
    static struct world world;
    begin(&world, "layout=topic", false);
    for (unsigned i = 0; i < 2; i++) {
        make_host(&world, i, false, plain);
        world.hosts[i].setting = "checkpoint=1m"; /* but the first, and the last of a bridge that ends */
        start_bridge(&world.hosts[i]);
        go(&world.hosts[i]);
    }
    struct host *host = &world.hosts[1];
    cr_assert(await_that(leads(&world.hosts[0]) && leads(host)));
    allow(&world, 5 * N_KEYS);
    cr_assert(await_that(atomic_load(&host->n_seen) == 10 * N_KEYS));
    kill_bridge(host);
    redis_server_pause(&world.redis);
    start_bridge(host);
    cr_assert(await_that(leads(host)));
    end_bridge(host);
    redis_server_continue(&world.redis);
    start_bridge(host);
    allow(&world, 6 * N_KEYS);
    cr_assert(await_that(atomic_load(&host->n_seen) >= 12 * N_KEYS));
    cr_assert(await_that(atomic_load(&world.hosts[0].n_seen) >= 12 * N_KEYS));
    end(&world, 2);
    settle(&world, 2, 6 * N_KEYS);
    for (unsigned i = 0; i < 2; i++)
        end_bus(&world.hosts[i]);
}

/* --- who handles what --------------------------------------------------------------------------------------------------------- */

#define ORDER "test.orders.created"

static void order(struct host *host, unsigned n)
{
    char key[16], payload[32];
    snprintf(key, sizeof key, "%u", n % 7);
    snprintf(payload, sizeof payload, "%u", n);
    cr_assert_eq(evbus_publish(host->bus,
                               &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                     .topic = ORDER,
                                                     .key = key,
                                                     .payload = payload,
                                                     .timeout_ns = 10 * NS_PER_S},
                               NULL),
                 EVBUS_OK, "%s", evbus_message(host->bus));
}

/* A member that does what comes, until it has done so many; how often each order came. */
static void handle(struct evbus_subscription *member, unsigned n, uint8_t *inout_handled)
{
    for (unsigned i = 0; i < n; i++) {
        struct evbus_delivery event = {.size = sizeof event};
        cr_assert_eq(evbus_receive(member, &event, AWAIT_MS * UINT64_C(1000000)), EVBUS_OK, "after %u: %s", i,
                     evbus_message(NULL));
        inout_handled[strtoul(event.payload, NULL, 10)]++;
        cr_assert_eq(evbus_finish(member, &event, EVBUS_DONE, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    }
}

Test(hosts, handle_an_order_once_in_all_where_each_has_its_services_here, .timeout = 300)
{
    static struct world world;
    static const char *const services[] = {"mail", "stock"};
    static uint8_t handled[2][1000];
    struct evbus_subscription *members[2];
    unsigned n = (unsigned)trial_count(400, 100);
    begin(&world, "layout=topic", false);
    for (unsigned i = 0; i < 2; i++) {
        char catalogue[400];
        snprintf(catalogue, sizeof catalogue,
                 "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"here\":[\"%s\"],"
                 "\"defaults\":{\"partitions\":2,\"ring\":\"256KiB\",\"journal\":true},"
                 "\"topics\":{\"" ORDER "\":{\"groups\":[\"mail\",\"stock\"]}}}",
                 services[i]);
        make_host(&world, i, false, catalogue);
        start_bridge(&world.hosts[i]);
        for (unsigned k = 0; k < 2; k++) {
            struct evbus_subscription *member = NULL;
            int rc = evbus_subscribe(&member, world.hosts[i].bus,
                                     &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                       .group = services[k]});
            cr_assert_eq(rc, k == i ? EVBUS_OK : EVBUS_ENOTFOUND, "bus %u, %s: %s", i, services[k],
                         evbus_message(NULL));
            if (k == i)
                members[i] = member;
        }
    }
    for (unsigned k = 0; k < n; k++)
        order(&world.hosts[k % 2], k);
    for (unsigned i = 0; i < 2; i++) {
        handle(members[i], n / 2, handled[i]); /* at least its own bus's half; the bridges are in the middle of it */
        kill_bridge(&world.hosts[i]);
        start_bridge(&world.hosts[i]);
    }
    for (unsigned i = 0; i < 2; i++)
        handle(members[i], n - n / 2, handled[i]);
    for (unsigned k = n; k < n + 14; k++) /* behind all others, in each key */
        order(&world.hosts[k / 7 % 2], k);
    for (unsigned i = 0; i < 2; i++) {
        handle(members[i], 14, handled[i]);
        for (unsigned k = 0; k < n + 14; k++)
            cr_assert_eq(handled[i][k], 1, "%s has handled order %u %u times", services[i], k, handled[i][k]);
    }
    for (unsigned i = 0; i < 2; i++) {
        evbus_unsubscribe(members[i]);
        end_bridge(&world.hosts[i]);
        end_bus(&world.hosts[i]);
    }
}
