/* footprint.c: what does a bus take while nothing happens, and what does it take for ever?
 *
 *   idle      the bus of the shipped catalogue: ten services, each a member of one of its groups and a volunteer for keeper, asleep; and an
 *             evbus-bridge both ways, where it is built, whose Redis is not counted. CPU time of them all, user and system, over WINDOW_NS
 *   memory    what the shared objects have on tmpfs. A group more finds its places there already; what it takes besides, in its member's
 *             process, is told by N_GROUPS more of them in one, each of which has handled an event
 *   heap      how often the thread that publishes or takes asks for memory, when all has run once: counted by malloc() of our own
 *
 * There is nothing to compare it with: no figure is told in limits. */
#include "own_bus.h"

#include "allocations.h"

#if HAS_BRIDGE
#include "daemon.h"
#endif

#include <evbus/admin.h>

#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SETTLE_S 3 /* the keeper looks every 10 ms until a second after the last event */
#define WINDOW_S 4

enum {
    N_MEMBERS = 10,
    N_GROUPS = 16,
    ROUND = 64,
    HEAP_BYTES = 512
}; /* of a payload: the events of a round stay in the ring */

static const char *const groups[] = {"product-service", "notification-service", "analytics-service",
                                     "customer-service"};
static const char *const group_topics[] = {"lomash.products.updated", "lomash.**"}; /* of 4 partitions, and of 40 */
static char shipped[80]; /* the name of the bus of the shipped catalogue */

struct job {
    struct barrier barrier;
    pid_t members[N_MEMBERS];
    double cpu_percent, wakes_per_s; /* out */
    double bytes_per_group[2];       /* out, as group_topics[] */
    size_t n_rounds;
    unsigned n_publish, n_batch, n_read, n_handled; /* out: allocations in n_rounds * ROUND events each */
#if HAS_BRIDGE
    struct redis *redis;
#endif
};

/* --- the idle bus ---------------------------------------------------------------------------------------------------- */

static struct evbus_subscription *own; /* of a member's process */

static void on_signal(int number)
{
    (void)number;
    evbus_stop(own);
}

static enum evbus_outcome on_event(void *context, const struct evbus_delivery *event, char *error)
{
    (void)event;
    (void)error;
    if (context != NULL)
        ++*(unsigned *)context;
    return EVBUS_DONE;
}

static struct evbus *open_shipped(const char *service)
{
    struct evbus *bus = NULL;
    int rc = evbus_open(
        &bus, &(struct evbus_options){.size = sizeof(struct evbus_options), .bus = shipped, .service = service});
    if (rc != EVBUS_OK)
        fails("evbus_open %s: %s", shipped, evbus_message(NULL));
    return bus;
}

static int subscribe(struct evbus_subscription **out, struct evbus *bus, struct evbus_subscribe_options options)
{
    options.size = sizeof options;
    options.handler = on_event;
    int rc = evbus_subscribe(out, bus, &options);
    return rc == EVBUS_OK ? 0 : fails("evbus_subscribe %s: %s", options.group, evbus_message(bus));
}

static int sleep_as_member(struct job *job, int index)
{
    const char *group = groups[(size_t)index % (sizeof groups / sizeof groups[0])];
    struct evbus *bus = open_shipped(group);
    if (bus == NULL || subscribe(&own, bus, (struct evbus_subscribe_options){.group = group}) != 0)
        return 1;
    signal(SIGTERM, on_signal);
    job->members[index] = getpid();
    barrier_wait(&job->barrier, N_MEMBERS + 1);
    int rc = evbus_run(own, NULL);
    if (rc != EVBUS_OK)
        return fails("evbus_run: %s", evbus_message(bus));
    evbus_unsubscribe(own);
    evbus_close(bus);
    return 0;
}

struct usage {
    uint64_t cpu_ns;
    uint64_t n_wakes; /* of all threads */
};

static int usage_add(struct usage *usage, pid_t pid)
{
    clockid_t clock;
    struct timespec cpu;
    char pattern[64], line[128];
    glob_t tasks;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &cpu) != 0)
        return fails("process %d is gone", (int)pid);
    usage->cpu_ns += (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
    snprintf(pattern, sizeof pattern, "/proc/%d/task/*/status", (int)pid);
    if (glob(pattern, 0, NULL, &tasks) != 0)
        return fails("%s: nothing there", pattern);
    for (size_t i = 0; i < tasks.gl_pathc; i++) {
        FILE *in = fopen(tasks.gl_pathv[i], "r");
        unsigned long long n = 0;
        while (in != NULL && fgets(line, sizeof line, in) != NULL)
            if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1)
                usage->n_wakes += n;
        if (in != NULL)
            fclose(in);
    }
    globfree(&tasks);
    return 0;
}

static int usage_of_all(struct usage *usage, const struct job *job, pid_t bridge)
{
    int rc = bridge != 0 ? usage_add(usage, bridge) : 0;
    for (int i = 0; i < N_MEMBERS && rc == 0; i++)
        rc = usage_add(usage, job->members[i]);
    return rc;
}

static int watch(struct job *job)
{
    struct usage before = {0}, after = {0};
    pid_t bridge_pid = 0;
    barrier_wait(&job->barrier, N_MEMBERS + 1);
#if HAS_BRIDGE
    struct daemon bridge = {0};
    if (bridge_start(&bridge, shipped, job->redis->socket, job->redis->folder, 1, 1) != 0)
        return 1;
    bridge_pid = bridge.pid;
#endif
    sleep(SETTLE_S);
    uint64_t since = now_ns();
    if (usage_of_all(&before, job, bridge_pid) != 0)
        return 1;
    sleep(WINDOW_S);
    double took_s = (double)(now_ns() - since) / 1e9;
    if (usage_of_all(&after, job, bridge_pid) != 0)
        return 1;
    job->cpu_percent = 100 * (double)(after.cpu_ns - before.cpu_ns) / 1e9 / took_s;
    job->wakes_per_s = (double)(after.n_wakes - before.n_wakes) / took_s;
    for (int i = 0; i < N_MEMBERS; i++)
        kill(job->members[i], SIGTERM);
#if HAS_BRIDGE
    return bridge_stop(&bridge);
#else
    return 0;
#endif
}

static int idle_role(void *shared, int index)
{
    return index == 0 ? watch(shared) : sleep_as_member(shared, index - 1);
}

/* --- memory ---------------------------------------------------------------------------------------------------------- */

/* Of the bus's objects, as tmpfs has them; 0: none. */
static uint64_t shared_bytes(void)
{
    char pattern[128];
    glob_t objects;
    uint64_t sum = 0;
    snprintf(pattern, sizeof pattern, "/dev/shm/evbus.%s.*", shipped);
    if (glob(pattern, 0, NULL, &objects) != 0)
        return 0;
    for (size_t i = 0; i < objects.gl_pathc; i++) {
        struct stat status;
        if (stat(objects.gl_pathv[i], &status) == 0)
            sum += (uint64_t)status.st_blocks * 512;
    }
    globfree(&objects);
    return sum;
}

/* Of this process; what it shares is not in it. */
static uint64_t private_bytes(void)
{
    FILE *in = fopen("/proc/self/status", "r");
    char line[128];
    unsigned long long kib = 0;
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1)
            break;
    if (in != NULL)
        fclose(in);
    return kib * 1024;
}

/* Joins a group that is new, and handles an event. */
static int join_one(struct evbus *bus, int kind, int number)
{
    char group[32];
    unsigned n_handled = 0;
    struct evbus_subscription *subscription;
    snprintf(group, sizeof group, "bench-%d-%d", kind, number);
    struct evbus_subscribe_options options = {
        .group = group, .patterns = &group_topics[kind], .n_patterns = 1, .ephemeral = true, .context = &n_handled};
    int rc = subscribe(&subscription, bus, options);
    if (rc != 0)
        return rc;
    rc = evbus_publish(bus,
                       &(struct evbus_event){.size = sizeof(struct evbus_event),
                                             .topic = group_topics[0],
                                             .payload = "{\"productId\":\"11\"}",
                                             .timeout_ns = PATIENCE_NS},
                       NULL);
    while (rc == EVBUS_OK && n_handled == 0)
        rc = evbus_run_once(subscription, PATIENCE_NS);
    return rc == EVBUS_OK ? 0 : fails("group %s: %s", group, evbus_message(bus));
}

/* Its memory goes with the process, its groups with the bus. */
static int groups_role(void *shared, int kind)
{
    struct job *job = shared;
    struct evbus *bus = open_shipped("product-service");
    int rc = bus != NULL ? join_one(bus, kind, 0) : 1;
    uint64_t before = private_bytes() + shared_bytes();
    for (int i = 1; i <= N_GROUPS && rc == 0; i++)
        rc = join_one(bus, kind, i);
    job->bytes_per_group[kind] = (double)(private_bytes() + shared_bytes() - before) / N_GROUPS;
    return rc;
}

/* --- heap ------------------------------------------------------------------------------------------------------------ */

static int publish_round(struct evbus *bus, const struct evbus_event *events, struct job *job)
{
    int rc = EVBUS_OK;
    unsigned before = n_allocations;
    for (int i = 0; i < ROUND && rc == EVBUS_OK; i++)
        rc = evbus_publish(bus, &events[i], NULL);
    job->n_publish += n_allocations - before;
    before = n_allocations;
    if (rc == EVBUS_OK)
        rc = evbus_publish_batch(bus, events, ROUND, NULL, NULL);
    job->n_batch += n_allocations - before;
    return rc == EVBUS_OK ? 0 : fails("publish: %s", evbus_message(bus));
}

static int take_round(struct evbus *bus, struct evbus_reader *reader, struct evbus_subscription *subscription,
                      struct job *job)
{
    int rc = EVBUS_OK;
    struct evbus_delivery delivery = {.size = sizeof delivery};
    unsigned before = n_allocations;
    for (int i = 0; i < 2 * ROUND && rc == EVBUS_OK; i++)
        rc = evbus_reader_next(reader, &delivery, PATIENCE_NS);
    job->n_read += n_allocations - before;
    before = n_allocations;
    for (int i = 0; i < 2 * ROUND && rc == EVBUS_OK; i++)
        rc = evbus_run_once(subscription, PATIENCE_NS);
    job->n_handled += n_allocations - before;
    return rc == EVBUS_OK ? 0 : fails("take: %s", evbus_message(bus));
}

static int heap_role(void *shared, int index)
{
    struct job *job = shared;
    struct payload payload;
    struct evbus_event events[ROUND];
    (void)index;
    struct evbus *bus = own_bus_open(EVBUS_WAIT_BLOCK);
    struct evbus_reader *reader = bus != NULL ? own_bus_read(bus, TOPIC_OF_KEYS, false) : NULL;
    struct evbus_subscription *subscription = reader != NULL ? own_bus_join(bus, "bench", TOPIC_OF_KEYS, on_event, NULL)
                                                             : NULL;
    if (subscription == NULL)
        return 1;
    payload_make(&payload, HEAP_BYTES, 0);
    for (int i = 0; i < ROUND; i++) {
        events[i] = event_make(&(struct variant){HEAP_BYTES, i % 2 == 0 ? READY : FULL}, TOPIC_OF_KEYS, payload.text);
        events[i].key = i % 3 == 0 ? NULL : "10248";
        events[i].timeout_ns = PATIENCE_NS;
    }
    for (size_t i = 0; i <= job->n_rounds; i++) {
        if (publish_round(bus, events, job) != 0 || take_round(bus, reader, subscription, job) != 0)
            return 1;
        if (i == 0) /* the first calls may ask for what they keep */
            job->n_publish = job->n_batch = job->n_read = job->n_handled = 0;
    }
    evbus_unsubscribe(subscription);
    evbus_reader_close(reader);
    evbus_close(bus);
    return 0;
}

/* --- all of it ------------------------------------------------------------------------------------------------------- */

static int measure_idle(struct job *job, struct table *table)
{
    int rc;
#if HAS_BRIDGE
    static const char with[] = ", keeper, bridge";
    static struct redis redis;
    if (redis_start(&redis, "everysec") != 0)
        return 1;
    job->redis = &redis;
    rc = children_run(N_MEMBERS + 1, idle_role, job);
    if (redis_stop(&redis) != 0 && rc == 0)
        rc = 1;
#else
    static const char with[] = ", keeper";
    rc = children_run(N_MEMBERS + 1, idle_role, job);
#endif
    char name[BENCH_NAME_MAX];
    snprintf(name, sizeof name, "idle: CPU of %d members%s", N_MEMBERS, with);
    if (rc == 0)
        figure_add(table_figure(table, name, UNIT_PERCENT, 0), job->cpu_percent, 0, 1);
    snprintf(name, sizeof name, "idle: wake-ups of %d members%s", N_MEMBERS, with);
    if (rc == 0)
        figure_add(table_figure(table, name, UNIT_PER_S, 0), job->wakes_per_s, 0, 1);
    return rc;
}

static int measure_memory(struct job *job, struct table *table)
{
    uint64_t bytes = shared_bytes();
    int rc = bytes > 0 ? children_run(2, groups_role, job) : fails("bus %s has no memory", shipped);
    if (rc != 0)
        return rc;
    figure_add(table_figure(table, "memory: the shipped catalogue's bus", UNIT_MEBIBYTES, 0), (double)bytes, 0, 1);
    figure_add(table_figure(table, "memory: a group more and its member, of one topic", UNIT_KIBIBYTES, 0),
               job->bytes_per_group[0], 0, N_GROUPS);
    figure_add(table_figure(table, "memory: a group more and its member, of all topics", UNIT_KIBIBYTES, 0),
               job->bytes_per_group[1], 0, N_GROUPS);
    return 0;
}

static int measure_heap(struct job *job, struct table *table)
{
    int rc = children_run(1, heap_role, job);
    const struct {
        const char *name;
        unsigned n;
        size_t n_rounds; /* of ROUND events */
    } of[] = {{"allocations of a publish", job->n_publish, job->n_rounds},
              {"allocations of a publish in a batch", job->n_batch, job->n_rounds},
              {"allocations of a reader's event", job->n_read, 2 * job->n_rounds},
              {"allocations of a group's event", job->n_handled, 2 * job->n_rounds}};
    for (size_t i = 0; i < sizeof of / sizeof of[0] && rc == 0; i++)
        figure_add(table_figure(table, of[i].name, UNIT_PER_EVENT, 0),
                   (double)of[i].n / (double)(of[i].n_rounds * ROUND), 0, of[i].n_rounds * ROUND);
    return rc;
}

static int measure(const struct bench_options *options, struct table *table)
{
    struct evbus_init_options init = {.size = sizeof init, .bus = shipped};
    struct job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    job->n_rounds = 1600u / (options->quick ? 4 : 1);
    snprintf(shipped, sizeof shipped, "%.50s-shipped", own_bus_name());
    if (evbus_init(&init) != EVBUS_OK)
        return fails("evbus_init %s: %s", shipped, evbus_message(NULL));
    int rc = measure_idle(job, table);
    if (rc == 0)
        rc = measure_memory(job, table);
    if (evbus_remove(shipped) != EVBUS_OK)
        rc = fails("evbus_remove %s: %s", shipped, evbus_message(NULL));
    if (rc == 0)
        rc = measure_heap(job, table);
    shared_free(job, sizeof *job);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    (void)placement;
    for (int run = 0; run < options->n_runs && rc == 0; run++)
        rc = measure(options, table);
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(argc, argv, "What does a bus take while nothing happens, and what does it take for ever?",
                             true, measure_all);
}
