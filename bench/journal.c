/* journal.c: what does the journal cost, and what does the disk?
 *
 *   disk      1 and 8 threads publish with ack disk, one by one: they share fdatasyncs; 1 and 4 threads publish batches. Beside it, in the
 *             same run: a bare loop of pwrite and fdatasync of as many bytes as an event has into a file of the same folder (D). Events per
 *             fdatasync are the bus's own count
 *   append    one producer, ack memory, as fast as it goes: the keeper appends behind it
 *   replay    a reader, then a group, over a history that the page cache holds
 *   paced     one producer, ack memory, 100,000 a second, from the intended time to publish()'s return: on a log without a journal, on one with
 *             it, and while a group replays that one's history
 *
 * The folder is $EVBUS_STATE_DIR's, or one in the current folder: a tmpfs would measure nothing. */
#include "measure.h"
#include "roles.h"

#include <evbus/admin.h>
#include <evbus/evbus.h>

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAYLOAD     512
#define THREADS_MAX 8
#define BATCH_MAX   256

static const char catalogue[] =
    "{\"namespace\":\"bench\",\"open\":true,\"defaults\":{\"partitions\":1,\"ring\":\"4MiB\",\"payload_max\":\"64KiB\"}"
    ","
    "\"topics\":{\"bench.disk.sent\":{},\"bench.memory.sent\":{},\"bench.plain.sent\":{}},"
    "\"logs\":{\"bench.disk\":{\"ack\":\"disk\"},\"bench.plain\":{\"journal\":false}}}";

static char bus_name[64], folder[512];

static struct evbus *open_bus(void)
{
    struct evbus *bus = NULL;
    int rc = evbus_open(
        &bus, &(struct evbus_options){.size = sizeof(struct evbus_options), .bus = bus_name, .service = "bench"});
    if (rc != EVBUS_OK)
        fails("evbus_open %s: %s", bus_name, evbus_message(NULL));
    return bus;
}

static char *payload_of(void)
{
    static char text[PAYLOAD + 1];
    memset(text, 'x', PAYLOAD);
    text[0] = text[PAYLOAD - 1] = '"';
    return text;
}

static struct evbus_event event_of(const char *topic)
{
    return (struct evbus_event){.size = sizeof(struct evbus_event),
                                .topic = topic,
                                .payload = payload_of(),
                                .payload_is_checked = true,
                                .key = "k",
                                .timeout_ns = 10000000000};
}

static int publish(struct evbus *bus, const char *topic)
{
    struct evbus_event event = event_of(topic);
    return evbus_publish(bus, &event, NULL);
}

static uint64_t syncs_of(struct evbus *bus)
{
    struct evbus_stat stat = {.size = sizeof stat};
    uint64_t n = 0;
    if (evbus_stat(bus, &stat) == EVBUS_OK)
        for (size_t i = 0; i < stat.n_partitions; i++)
            n += strcmp(stat.partitions[i].log, "bench.disk") == 0 ? stat.partitions[i].syncs : 0;
    return n;
}

/* --- disk ---------------------------------------------------------------------------------------------------------------- */

/* What is measured, line by line of the table: so many threads, each so many events at a time. */
static const struct load {
    int n_threads;
    size_t batch;
    size_t n; /* batches per thread */
} loads[] = {{1, 1, 2000}, {8, 1, 2000}, {1, 32, 1000}, {1, BATCH_MAX, 800}, {4, BATCH_MAX, 400}};

struct writer {
    struct evbus *bus;
    struct samples *samples;
    size_t n, batch;
    int rc;
};

static void *write_events(void *context)
{
    struct writer *writer = context;
    struct evbus_event events[BATCH_MAX];
    for (size_t i = 0; i < writer->batch; i++)
        events[i] = event_of("bench.disk.sent");
    for (size_t i = 0; i < writer->n && writer->rc == 0; i++) {
        uint64_t start = now_ns();
        writer->rc = writer->batch == 1 ? evbus_publish(writer->bus, events, NULL)
                                        : evbus_publish_batch(writer->bus, events, writer->batch, NULL, NULL);
        samples_add(writer->samples, now_ns() - start);
    }
    return NULL;
}

static int measure_bare(const struct bench_options *options, struct table *table, int run, size_t n, double *out_p50)
{
    char path[600];
    static char bytes[PAYLOAD + 128];
    struct samples *samples = samples_new(n);
    snprintf(path, sizeof path, "%s/bare", folder);
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || samples == NULL)
        return fails("%s: cannot make it", path);
    for (size_t i = 0; i < n; i++) {
        uint64_t start = now_ns();
        if (pwrite(fd, bytes, sizeof bytes, (off_t)(i * sizeof bytes)) != (ssize_t)sizeof bytes || fdatasync(fd) != 0)
            return fails("%s: cannot write it", path);
        samples_add(samples, now_ns() - start);
    }
    close(fd);
    unlink(path);
    samples_save(options->raw, samples, "bare fdatasync", run);
    struct summary summary = samples_summary(samples);
    figure_add_summary(table_figure(table, "D: bare pwrite + fdatasync, one thread", UNIT_US, 0), &summary, 0);
    *out_p50 = summary.p50;
    samples_free(samples);
    return 0;
}

static int measure_disk(struct evbus *bus, const struct bench_options *options, struct table *table, int run,
                        const struct load *load, double bare_p50)
{
    int n_threads = load->n_threads;
    size_t n = load->n / (options->quick ? 4 : 1);
    struct writer writers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    struct samples *all = samples_new(n * (size_t)n_threads);
    char name[BENCH_NAME_MAX], what[80], batches[40] = "";
    if (all == NULL)
        return fails("no memory");
    if (load->batch > 1)
        snprintf(batches, sizeof batches, ", batches of %zu", load->batch);
    snprintf(what, sizeof what, "ack disk, %d thread%s%s", n_threads, n_threads == 1 ? "" : "s", batches);
    uint64_t syncs = syncs_of(bus), start = now_ns();
    for (int i = 0; i < n_threads; i++) {
        writers[i] = (struct writer){.bus = bus, .samples = samples_new(n), .n = n, .batch = load->batch};
        if (writers[i].samples == NULL || pthread_create(&threads[i], NULL, write_events, &writers[i]) != 0)
            return fails("no thread");
    }
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        if (writers[i].rc != 0)
            return fails("publish: %s", evbus_strerror(writers[i].rc));
        for (size_t k = 0; k < writers[i].samples->n; k++)
            samples_add(all, writers[i].samples->ns[k]);
        samples_free(writers[i].samples);
    }
    double took_s = (double)(now_ns() - start) / 1e9;
    uint64_t n_syncs = syncs_of(bus) - syncs;
    size_t n_events = all->n * load->batch;
    snprintf(name, sizeof name, "publish, %s", what);
    samples_save(options->raw, all, name, run);
    struct summary summary = samples_summary(all);
    figure_add_summary(table_figure(table, name, UNIT_US, 'D'), &summary, bare_p50);
    snprintf(name, sizeof name, "events/s, %s", what);
    figure_add(table_figure(table, name, UNIT_MILLIONS_PER_S, 0), (double)n_events / took_s, 0, n_events);
    fprintf(stderr, "run %d: %s: %.1f events per fdatasync\n", run + 1, what,
            n_syncs != 0 ? (double)n_events / (double)n_syncs : 0.0);
    samples_free(all);
    return 0;
}

/* --- append and replay ----------------------------------------------------------------------------------------------------- */

static int measure_append(struct evbus *bus, struct table *table, size_t n)
{
    uint64_t start = now_ns();
    for (size_t i = 0; i < n; i++)
        if (publish(bus, "bench.memory.sent") != EVBUS_OK)
            return fails("publish: %s", evbus_message(bus));
    double took_s = (double)(now_ns() - start) / 1e9;
    figure_add(
        table_figure(table, "append: events/s of one producer, 512 B, ack memory, journal on", UNIT_MILLIONS_PER_S, 0),
        (double)n / took_s, 0, n);
    return 0;
}

static int measure_replay(struct evbus *bus, struct table *table, size_t n)
{
    struct evbus_reader *reader = NULL;
    const char *pattern = "bench.memory.sent";
    if (evbus_reader_open(&reader, bus,
                          &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                         .patterns = &pattern,
                                                         .n_patterns = 1,
                                                         .from = EVBUS_FROM_EARLIEST}) != EVBUS_OK)
        return fails("evbus_reader_open: %s", evbus_message(bus));
    size_t n_read = 0;
    uint64_t start = now_ns();
    for (; n_read < n; n_read++) {
        struct evbus_delivery delivery = {.size = sizeof delivery};
        if (evbus_reader_next(reader, &delivery, 1000000000) != EVBUS_OK || delivery.lost != 0)
            return fails("event %zu did not come: %s", n_read, evbus_message(bus));
    }
    double took_s = (double)(now_ns() - start) / 1e9;
    fprintf(stderr, "replay: %.2f GB/s of cells, checked and copied\n", (double)n * 640 / took_s / 1e9);
    figure_add(table_figure(table, "replay: events/s of a reader through the files, 512 B", UNIT_MILLIONS_PER_S, 0),
               (double)n / took_s, 0, n);
    evbus_reader_close(reader);
    return 0;
}

struct replaying {
    _Atomic bool is_over;
    _Atomic uint64_t n;
};

static enum evbus_outcome count_event(void *context, const struct evbus_delivery *event, char *error)
{
    struct replaying *replaying = context;
    (void)event;
    (void)error;
    atomic_fetch_add_explicit(&replaying->n, 1, memory_order_relaxed);
    return EVBUS_DONE;
}

/* A group that was absent works off all that there is. */
static int measure_group(struct evbus *bus, struct table *table, size_t n)
{
    struct replaying handled = {.n = 0};
    struct evbus_subscription *sub = NULL;
    const char *pattern = "bench.memory.sent";
    if (evbus_subscribe(&sub, bus,
                        &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                          .group = "absent",
                                                          .patterns = &pattern,
                                                          .n_patterns = 1,
                                                          .from = EVBUS_FROM_EARLIEST,
                                                          .handler = count_event,
                                                          .context = &handled,
                                                          .ephemeral = true}) != EVBUS_OK)
        return fails("evbus_subscribe: %s", evbus_message(bus));
    uint64_t start = now_ns();
    while (atomic_load_explicit(&handled.n, memory_order_relaxed) < n)
        if (evbus_run_once(sub, 1000000000) != EVBUS_OK)
            return fails("event %" PRIu64 " did not come: %s", atomic_load(&handled.n), evbus_message(bus));
    double took_s = (double)(now_ns() - start) / 1e9;
    fprintf(stderr, "replay: %.2f GB/s of cells through a group, each acknowledged\n", (double)n * 640 / took_s / 1e9);
    figure_add(table_figure(table, "replay: events/s of a group through the files, 512 B", UNIT_MILLIONS_PER_S, 0),
               (double)n / took_s, 0, n);
    evbus_unsubscribe(sub);
    return 0;
}

static void *replay(void *context)
{
    struct replaying *replaying = context;
    const char *pattern = "bench.memory.sent";
    while (!atomic_load(&replaying->is_over)) { /* again from the beginning, as long as it is wanted */
        struct evbus *bus = open_bus();
        struct evbus_subscription *sub = NULL;
        if (bus == NULL ||
            evbus_subscribe(&sub, bus,
                            &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                              .group = "replaying",
                                                              .patterns = &pattern,
                                                              .n_patterns = 1,
                                                              .from = EVBUS_FROM_EARLIEST,
                                                              .handler = count_event,
                                                              .context = replaying,
                                                              .ephemeral = true}) != EVBUS_OK)
            return NULL;
        while (!atomic_load(&replaying->is_over) && evbus_run_once(sub, 10000000) == EVBUS_OK) {
        }
        evbus_unsubscribe(sub);
        evbus_close(bus);
    }
    return NULL;
}

static int measure_beside(struct evbus *bus, const struct bench_options *options, struct table *table, int run,
                          size_t n, const char *topic, bool has_group)
{
    struct replaying replaying = {.n = 0};
    pthread_t thread;
    struct samples *samples = samples_new(n);
    bool has_journal = strcmp(topic, "bench.memory.sent") == 0;
    const char *name = has_group     ? "publish, paced, while a group replays history"
                       : has_journal ? "publish, paced, journal on"
                                     : "publish, paced, no journal";
    if (samples == NULL || (has_group && pthread_create(&thread, NULL, replay, &replaying) != 0))
        return fails("no thread");
    while (has_group && atomic_load(&replaying.n) < 1000)
        usleep(1000);
    uint64_t then = now_ns();
    for (size_t i = 0; i < n; i++) {
        then += 10000; /* 100,000 a second */
        spin_until(then);
        if (publish(bus, topic) != EVBUS_OK)
            return fails("publish: %s", evbus_message(bus));
        samples_add(samples, now_ns() - then);
    }
    atomic_store(&replaying.is_over, true);
    if (has_group)
        pthread_join(thread, NULL);
    samples_save(options->raw, samples, name, run);
    struct summary summary = samples_summary(samples);
    figure_add_summary(table_figure(table, name, UNIT_NS, 0), &summary, 0);
    if (has_group)
        fprintf(stderr, "run %d: the group handled %" PRIu64 " events meanwhile\n", run + 1, atomic_load(&replaying.n));
    samples_free(samples);
    return 0;
}

/* --- all of it --------------------------------------------------------------------------------------------------------------- */

static int measure_run(const struct bench_options *options, struct table *table, int run)
{
    size_t divide = options->quick ? 4 : 1;
    double bare_p50 = 0;
    struct evbus *bus = open_bus();
    if (bus == NULL)
        return 1;
    int rc = measure_bare(options, table, run, 2000 / divide, &bare_p50);
    for (size_t i = 0; i < sizeof loads / sizeof loads[0] && rc == 0; i++)
        rc = measure_disk(bus, options, table, run, &loads[i], bare_p50);
    if (rc == 0)
        rc = measure_append(bus, table, 400000 / divide);
    if (rc == 0)
        rc = measure_replay(bus, table, 400000 / divide);
    if (rc == 0)
        rc = measure_group(bus, table, 400000 / divide);
    if (rc == 0)
        rc = measure_beside(bus, options, table, run, 100000 / divide, "bench.plain.sent", false);
    if (rc == 0)
        rc = measure_beside(bus, options, table, run, 100000 / divide, "bench.memory.sent", false);
    if (rc == 0)
        rc = measure_beside(bus, options, table, run, 100000 / divide, "bench.memory.sent", true);
    evbus_close(bus);
    return rc;
}

int main(int argc, char **argv)
{
    static struct table table;
    static const char question[] = "What does the journal cost, and what does the disk?";
    struct bench_options options;
    struct placement placement;
    int rc = 0;
    if (bench_options_parse(&options, argc, argv, question, &rc) != 0)
        return rc;
    placement_choose(&placement);
    snprintf(bus_name, sizeof bus_name, "bench-%d", (int)getpid());
    const char *given = getenv("EVBUS_STATE_DIR");
    snprintf(folder, sizeof folder, "%s/evbus-bench-%d", given != NULL ? given : ".", (int)getpid());
    if (mkdir(folder, 0700) != 0 || realpath(folder, NULL) == NULL)
        return fails("%s: cannot make it", folder);
    setenv("EVBUS_STATE_DIR", folder, 1);
    for (int run = options.first_run; run < options.first_run + options.n_runs && rc == 0; run++) {
        struct evbus_init_options made = {.size = sizeof made, .bus = bus_name, .catalogue = catalogue};
        rc = evbus_init(&made) == EVBUS_OK ? measure_run(&options, &table, run)
                                           : fails("evbus_init: %s", evbus_message(NULL));
        evbus_remove(bus_name);
    }
    rmdir(folder);
    if (rc != 0)
        return rc;
    return table_report(&table, &options, &placement, evbus_version(), question);
}
