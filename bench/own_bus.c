/* own_bus.c: the private bus of a benchmark, and the payloads that go through it.
 *
 *   bus       made from the catalogue below, rings of the default size, one partition per log but for TOPIC_OF_KEYS; groups
 *             are made by their first member and end with the last. The log bench.many has six topics and a ring of 8 MiB. Removed by
 *             who made it. Its name carries the pid, so benchmarks run side by side and never touch a bus in use.
 *             Every process opens it as a service does, volunteering for keeper; only `wait` differs.
 *   journal   none, but where the benchmark asks for one: then in a folder of its own in $EVBUS_STATE_DIR, or in the current
 *             folder, as a tmpfs would measure nothing
 *   payload   numbered per producer, so that the reader knows each byte it must find:
 *
 *                 {"p":0,"seq":"0000000000000001","at":"0000000000000000","x":"xxxx..."}
 *                      ^5       ^14                     ^38
 *
 *             Numbers are decimal digits, counted up in place: a few ns on both sides, part of each figure.
 *
 * What comes twice, out of order, changed or not at all ends the benchmark with exit code 1. */
#include "own_bus.h"

#include <evbus/admin.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* %s: has it a journal? */
static const char catalogue[] = "{\"namespace\":\"bench\","
                                "\"defaults\":{\"partitions\":1,\"ring\":\"1MiB\",\"journal\":%s},"
                                "\"topics\":{"
                                "\"bench.ping.sent\":{\"producers\":[\"bench\"],\"groups\":[]},"
                                "\"bench.pong.sent\":{\"producers\":[\"bench\"],\"groups\":[]},"
                                "\"" TOPIC_OF_KEYS "\":{\"producers\":[\"bench\"],\"groups\":[]},"
                                "\"bench.many.one\":{\"producers\":[\"bench\"],\"groups\":[]},"
                                "\"bench.many.two\":{\"producers\":[\"bench\"],\"groups\":[]},"
                                "\"bench.many.three\":{\"producers\":[\"bench\"],\"groups\":[]},"
                                "\"bench.many.four\":{\"producers\":[\"bench\"],\"groups\":[]},"
                                "\"bench.many.five\":{\"producers\":[\"bench\"],\"groups\":[]},"
                                "\"bench.many.six\":{\"producers\":[\"bench\"],\"groups\":[]}},"
                                "\"logs\":{\"bench.keys\":{\"partitions\":4}," /* N_PARTITIONS */
                                "\"bench.many\":{\"ring\":\"8MiB\"}}}";

static char bus_name[64];  /* these are set before the children are forked */
static char twin_name[64]; /* "": there is none */
static char folder[512];   /* "": no journal */

static int make_bus(const char *name)
{
    char text[sizeof catalogue + 8];
    snprintf(text, sizeof text, catalogue, folder[0] != '\0' ? "true" : "false");
    struct evbus_init_options options = {.size = sizeof options, .bus = name, .catalogue = text};
    int rc = evbus_init(&options);
    return rc == EVBUS_OK ? 0 : fails("evbus_init %s: %s: %s", name, evbus_strerror(rc), evbus_message(NULL));
}

static int remove_bus(const char *name)
{
    int rc = evbus_remove(name);
    return rc == EVBUS_OK ? 0 : fails("evbus_remove %s: %s: %s", name, evbus_strerror(rc), evbus_message(NULL));
}

static void clear_away(void)
{
    remove_bus(bus_name);
    if (twin_name[0] != '\0')
        remove_bus(twin_name);
    if (folder[0] != '\0' && rmdir(folder) != 0)
        fails("%s: cannot be removed: %s", folder, strerror(errno));
}

static int make(bool has_journal)
{
    const char *given = getenv("EVBUS_STATE_DIR");
    snprintf(bus_name, sizeof bus_name, "bench-%d", (int)getpid());
    if (!has_journal)
        return make_bus(bus_name);
    snprintf(folder, sizeof folder, "%s/evbus-bench-%d", given != NULL ? given : ".", (int)getpid());
    if (mkdir(folder, 0700) != 0)
        return fails("%s: cannot make it: %s", folder, strerror(errno));
    setenv("EVBUS_STATE_DIR", folder, 1);
    if (make_bus(bus_name) == 0)
        return 0;
    rmdir(folder);
    return 1;
}

const char *own_bus_folder(void)
{
    return folder;
}

const char *own_bus_name(void)
{
    return bus_name;
}

int own_bus_anew(void)
{
    return remove_bus(bus_name) == 0 ? make_bus(bus_name) : 1;
}

const char *own_bus_twin_anew(void)
{
    if (twin_name[0] != '\0' && remove_bus(twin_name) != 0)
        return NULL;
    snprintf(twin_name, sizeof twin_name, "%.56s-twin", bus_name);
    if (make_bus(twin_name) == 0)
        return twin_name;
    twin_name[0] = '\0';
    return NULL;
}

int own_bus_benchmark(int argc, char **argv, const char *question, bool has_journal,
                      int (*measure_all)(const struct placement *, const struct bench_options *, struct table *))
{
    static struct table table;
    struct bench_options options;
    struct placement placement;
    int rc = 0;
    if (bench_options_parse(&options, argc, argv, question, &rc) != 0)
        return rc;
    placement_choose(&placement);
    if (options.raw != NULL)
        machine_print(options.raw, &placement, "# ", evbus_version());
    children_prepare();
    if (make(has_journal) != 0)
        return 1;
    rc = measure_all(&placement, &options, &table);
    clear_away();
    return rc == 0 ? table_report(&table, &options, &placement, evbus_version(), question) : rc;
}

static struct evbus *open_bus(const char *name, enum evbus_wait wait)
{
    struct evbus *bus = NULL;
    struct evbus_options options = {.size = sizeof options, .bus = name, .service = "bench", .wait = wait};
    int rc = evbus_open(&bus, &options);
    if (rc != EVBUS_OK)
        fails("evbus_open %s: %s: %s", name, evbus_strerror(rc), evbus_message(NULL));
    return bus;
}

struct evbus *own_bus_open(enum evbus_wait wait)
{
    return open_bus(bus_name, wait);
}

struct evbus *own_bus_open_twin(enum evbus_wait wait)
{
    return open_bus(twin_name, wait);
}

struct evbus_reader *own_bus_read(struct evbus *bus, const char *topic, bool pin)
{
    struct evbus_reader *reader = NULL;
    struct evbus_reader_options options = {.size = sizeof options, .patterns = &topic, .n_patterns = 1, .pin = pin};
    int rc = evbus_reader_open(&reader, bus, &options);
    if (rc != EVBUS_OK)
        fails("evbus_reader_open %s: %s: %s", topic, evbus_strerror(rc), evbus_message(bus));
    return reader;
}

struct evbus_subscription *own_bus_join(struct evbus *bus, const char *group, const char *topic, evbus_handler *handler,
                                        void *context)
{
    struct evbus_subscription *subscription = NULL;
    struct evbus_subscribe_options options = {.size = sizeof options,
                                              .group = group,
                                              .handler = handler,
                                              .context = context,
                                              .patterns = &topic,
                                              .n_patterns = 1,
                                              .ephemeral = true};
    int rc = evbus_subscribe(&subscription, bus, &options);
    if (rc != EVBUS_OK)
        fails("evbus_subscribe %s to %s: %s: %s", group, topic, evbus_strerror(rc), evbus_message(bus));
    return subscription;
}

#define WATCH_NS 10000000

/* What a thread beside evbus_run() looks at now and then, to stop it. */
struct watch {
    struct evbus_subscription *subscription;
    const _Atomic uint64_t *n_handled;
    uint64_t n;
    const _Atomic int *failed;
    _Atomic bool is_late;
    sem_t is_over;
};

static bool is_done(const struct watch *watch)
{
    return *watch->n_handled >= watch->n || *watch->failed != 0 || watch->is_late;
}

static void *watch_over(void *context)
{
    struct watch *watch = context;
    uint64_t n_seen = 0, seen_ns = now_ns();
    struct timespec until;
    do {
        uint64_t n_handled = *watch->n_handled;
        if (n_handled != n_seen)
            n_seen = n_handled, seen_ns = now_ns();
        else if (now_ns() - seen_ns > PATIENCE_NS)
            watch->is_late = true;
        if (is_done(watch))
            evbus_stop(watch->subscription);
        uint64_t then_ns = now_ns() + WATCH_NS;
        until = (struct timespec){(time_t)(then_ns / 1000000000), (long)(then_ns % 1000000000)};
    } while (sem_clockwait(&watch->is_over, CLOCK_MONOTONIC, &until) != 0);
    return NULL;
}

int own_bus_run(struct evbus *bus, struct evbus_subscription *subscription, const _Atomic uint64_t *n_handled,
                uint64_t n, const _Atomic int *failed)
{
    pthread_t thread;
    struct watch watch = {.subscription = subscription, .n_handled = n_handled, .n = n, .failed = failed};
    if (sem_init(&watch.is_over, 0, 0) != 0 || pthread_create(&thread, NULL, watch_over, &watch) != 0)
        return fails("cannot start a thread");
    int rc = EVBUS_OK;
    while (rc == EVBUS_OK && !is_done(&watch))
        rc = evbus_run(subscription, NULL);
    sem_post(&watch.is_over);
    pthread_join(thread, NULL);
    sem_destroy(&watch.is_over);
    if (rc != EVBUS_OK)
        return fails("evbus_run: %s: %s", evbus_strerror(rc), evbus_message(bus));
    if (*n_handled < n && *failed == 0)
        return fails("%llu of %llu events were handled", (unsigned long long)*n_handled, (unsigned long long)n);
    return *failed;
}

enum { PRODUCER_AT = 5, SEQ_AT = 14, AT_AT = 38 };

void payload_make(struct payload *payload, size_t len, unsigned producer)
{
    static const char head[] = "{\"p\":0,\"seq\":\"0000000000000000\",\"at\":\"0000000000000000\",\"x\":\"";
    payload->len = len;
    memset(payload->text, 'x', len);
    memcpy(payload->text, head, sizeof head - 1);
    memcpy(payload->text + len - 2, "\"}", 2);
    payload->text[PRODUCER_AT] = (char)('0' + producer);
}

void payload_next(struct payload *payload)
{
    char *digit = payload->text + SEQ_AT + DIGITS - 1;
    while (*digit == '9')
        *digit-- = '0';
    ++*digit;
}

void payload_copy_seq(struct payload *to, const struct payload *from)
{
    memcpy(to->text + SEQ_AT, from->text + SEQ_AT, DIGITS);
}

void payload_set_seq(struct payload *to, const char *text, size_t len)
{
    if (len >= PAYLOAD_MIN)
        memcpy(to->text + SEQ_AT, text + SEQ_AT, DIGITS);
}

void payload_set_last(struct payload *payload)
{
    memset(payload->text + SEQ_AT, '9', DIGITS);
}

static void put_number(char *digits, uint64_t number)
{
    for (int i = DIGITS; i-- > 0; number /= 10)
        digits[i] = (char)('0' + number % 10);
}

void payload_set_number(struct payload *payload, uint64_t seq)
{
    put_number(payload->text + SEQ_AT, seq);
}

void payload_set_at(struct payload *payload, uint64_t at_ns)
{
    put_number(payload->text + AT_AT, at_ns);
}

static uint64_t number_at(const char *digits)
{
    uint64_t number = 0;
    for (int i = 0; i < DIGITS; i++)
        number = number * 10 + (uint64_t)(digits[i] - '0');
    return number;
}

uint64_t payload_at(const char *text)
{
    return number_at(text + AT_AT);
}

uint64_t payload_seq(const char *text)
{
    return number_at(text + SEQ_AT);
}

unsigned payload_producer(const char *text)
{
    return (unsigned)(text[PRODUCER_AT] - '0');
}

bool payload_is_last(const char *text, size_t len)
{
    return len >= PAYLOAD_MIN && text[SEQ_AT] == '9'; /* 10^15 events later than any we send */
}

bool payload_equals(const struct payload *expected, const struct evbus_delivery *delivery)
{
    return delivery->lost == 0 && delivery->payload_len == expected->len &&
           memcmp(delivery->payload, expected->text, expected->len) == 0;
}

const char *envelope_name(enum envelope envelope)
{
    static const char *const names[] = {[FULL] = "full", [READY] = "ready", [STAMPED] = "stamped"};
    return names[envelope];
}

struct evbus_event event_make(const struct variant *variant, const char *topic, const char *payload_text)
{
    struct timespec now;
    struct evbus_event event = {.size = sizeof event,
                                .topic = topic,
                                .payload = payload_text,
                                .payload_len = variant->payload_len,
                                .timeout_ns = PATIENCE_NS / 100};
    event.payload_is_checked = variant->envelope != FULL;
    if (variant->envelope == READY) {
        clock_gettime(CLOCK_REALTIME, &now);
        event.timestamp_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        event_next(&event, variant);
    }
    return event;
}

void event_next(struct evbus_event *event, const struct variant *variant)
{
    uint64_t number;
    if (variant->envelope != READY)
        return; /* all zero stays all zero: the library makes one */
    memcpy(&number, event->id + 8, sizeof number);
    number++;
    memcpy(event->id + 8, &number, sizeof number);
    event->id[6] = 0x70; /* looks like a version 7 */
}
