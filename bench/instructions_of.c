/* instructions_of.c: what bench/instructions counts: each operation some thousand times, under callgrind.
 *
 *   counted     a call of the library between two toggles. callgrind writes a file per row; its description says which row it is, and of
 *               how many events. Who reads it leaves out what is this program's own
 *   repeatable  one thread, no keeper, nobody sleeps, nothing is waited for, and the clock stands still: no branch hangs on time
 *   journal     publishes only, as many as the ring takes: nobody appends them, as a keeper's thread would meanwhile
 *
 * Run by bench/instructions, which names the rows' operations; without callgrind it does the same, and counts nothing. */
#include "measure.h"

#include <evbus/admin.h>
#include <evbus/evbus.h>
#include <evbus/testing.h>

#include <gnu/libc-version.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

enum { ROUND = 128, N_ROUNDS = 64, N_ROUNDS_JOURNAL = 16, LEN_MAX = 4096 };

#define TOPIC "bench.ping.sent"

/* %s: the ring, and has it a journal? One that has takes all that is published while nobody appends it: 17 rounds of 67 cells each. */
static const char catalogue[] = "{\"namespace\":\"bench\",\"open\":true,\"topics\":{\"" TOPIC "\":{}},"
                                "\"defaults\":{\"partitions\":1,\"ring\":\"%s\",\"journal\":%s}}";

static char bus_name[64];
static struct evbus *bus;
static struct evbus_reader *reader;
static struct evbus_subscription *subscription;
static struct evbus_delivery delivery = {.size = sizeof delivery};
static struct evbus_event events[ROUND];
static char payload[LEN_MAX];

static void must(int rc, const char *what)
{
    if (rc == EVBUS_OK)
        return;
    fails("%s: %s: %s", what, evbus_strerror(rc), evbus_message(bus));
    exit(1);
}

/* From its first instruction to its last. */
#define COUNTED(call)             \
    do {                          \
        CALLGRIND_TOGGLE_COLLECT; \
        int rc = (call);          \
        CALLGRIND_TOGGLE_COLLECT; \
        must(rc, #call);          \
    } while (0)

static void publish_round(void)
{
    for (int i = 0; i < ROUND; i++)
        must(evbus_publish(bus, &events[i], NULL), "evbus_publish");
}

static void publish(void)
{
    for (int i = 0; i < ROUND; i++)
        COUNTED(evbus_publish(bus, &events[i], NULL));
}

static void publish_batch(void)
{
    COUNTED(evbus_publish_batch(bus, events, ROUND, NULL, NULL));
}

static void reader_next(void)
{
    publish_round();
    for (int i = 0; i < ROUND; i++)
        COUNTED(evbus_reader_next(reader, &delivery, 0));
}

static void run_once(void)
{
    publish_round();
    for (int i = 0; i < ROUND; i++)
        COUNTED(evbus_run_once(subscription, 0));
}

static int n_to_run; /* events that evbus_run() is still to handle; 0: nobody counts them */

static void run(void)
{
    publish_round();
    n_to_run = ROUND;
    COUNTED(evbus_run(subscription, NULL));
}

static void receive(void)
{
    publish_round();
    for (int i = 0; i < ROUND; i++) {
        COUNTED(evbus_receive(subscription, &delivery, 0));
        must(evbus_finish(subscription, &delivery, EVBUS_DONE, NULL), "evbus_finish");
    }
}

static void finish(void)
{
    publish_round();
    for (int i = 0; i < ROUND; i++) {
        must(evbus_receive(subscription, &delivery, 0), "evbus_receive");
        COUNTED(evbus_finish(subscription, &delivery, EVBUS_DONE, NULL));
    }
}

/* taker: of the events. To it ready and full ones are the same. */
static const struct operation {
    const char *name;
    void (*round)(void);
    enum { NOBODY, READER, MEMBER } taker;
    bool has_journal;
} operations[] = {
    {"publish", publish, NOBODY, false},        {"publish_batch", publish_batch, NOBODY, false},
    {"publish_journal", publish, NOBODY, true}, {"reader_next", reader_next, READER, false},
    {"run_once", run_once, MEMBER, false},      {"run", run, MEMBER, false},
    {"receive", receive, MEMBER, false},        {"finish", finish, MEMBER, false},
};

static enum evbus_outcome on_event(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    (void)event;
    (void)error;
    if (n_to_run > 0 && --n_to_run == 0)
        evbus_stop(subscription);
    return EVBUS_DONE;
}

/* A payload as a service has it, in which a string is as long as it takes. */
static void make_events(size_t len, bool is_ready)
{
    static const char head[] = "{\"orderId\":\"10248\",\"total\":19.99,\"items\":3,\"note\":\"";
    memset(payload, 'x', len);
    memcpy(payload, head, sizeof head - 1);
    memcpy(payload + len - 2, "\"}", 2);
    for (int i = 0; i < ROUND; i++) {
        events[i] = (struct evbus_event){.size = sizeof events[i],
                                         .topic = TOPIC,
                                         .key = "10248",
                                         .payload = payload,
                                         .payload_len = len,
                                         .payload_is_checked = is_ready,
                                         .timestamp_ns = is_ready ? 1 : 0};
        if (is_ready)
            events[i].id[15] = (uint8_t)(i + 1);
    }
}

static void remove_bus(void)
{
    evbus_remove(bus_name);
}

static void open_bus(const struct operation *operation)
{
    char text[sizeof catalogue + 16];
    snprintf(text, sizeof text, catalogue, operation->has_journal ? "16MiB" : "1MiB",
             operation->has_journal ? "true" : "false");
    must(evbus_init(&(struct evbus_init_options){
             .size = sizeof(struct evbus_init_options), .bus = bus_name, .catalogue = text}),
         "evbus_init");
    must(evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                  .bus = bus_name,
                                                  .service = "bench",
                                                  .keeper = EVBUS_KEEPER_NEVER}),
         "evbus_open");
    const char *topic = TOPIC;
    if (operation->taker == READER)
        must(evbus_reader_open(&reader, bus,
                               &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options)}),
             "evbus_reader_open");
    if (operation->taker == MEMBER)
        must(evbus_subscribe(&subscription, bus,
                             &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                               .group = "bench",
                                                               .handler = on_event,
                                                               .patterns = &topic,
                                                               .n_patterns = 1}),
             "evbus_subscribe");
}

static void close_bus(void)
{
    evbus_reader_close(reader);
    evbus_unsubscribe(subscription);
    evbus_close(bus);
    reader = NULL;
    subscription = NULL;
    bus = NULL;
    must(evbus_remove(bus_name), "evbus_remove");
}

static void count(const struct operation *operation, size_t len, bool is_ready)
{
    char row[BENCH_NAME_MAX];
    int n_rounds = operation->has_journal ? N_ROUNDS_JOURNAL : N_ROUNDS;
    snprintf(row, sizeof row, "%s %zu %s %d", operation->name, len,
             operation->taker != NOBODY ? "-"
             : is_ready                 ? "ready"
                                        : "full",
             n_rounds * ROUND);
    make_events(len, is_ready);
    open_bus(operation);
    operation->round(); /* what a thread's first call does, and no later one */
    CALLGRIND_ZERO_STATS;
    for (int i = 0; i < n_rounds; i++)
        operation->round();
    CALLGRIND_DUMP_STATS_AT(row);
    close_bus();
}

static bool is_wanted(const char *name, int argc, char **argv)
{
    bool found = argc == 1;
    for (int i = 1; i < argc; i++)
        found = found || strcmp(argv[i], name) == 0;
    return found;
}

int main(int argc, char **argv)
{
    static const size_t lens[] = {64, 512, LEN_MAX};
    struct utsname machine;
    uname(&machine);
#ifdef __clang__
    const char *compiler = "";
#else
    const char *compiler = "gcc ";
#endif
    /* what the counts depend on, besides the source */
    printf("%s%s, glibc %s, %s\n", compiler, __VERSION__, gnu_get_libc_version(), machine.machine);
    fflush(stdout);
    snprintf(bus_name, sizeof bus_name, "bench-%07d", (int)getpid());
    atexit(remove_bus);
    json_object_seed(1); /* or the heap would be another one in each run, and with it what strcmp() has to do */
    evbus_test_clock_freeze();
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        for (size_t k = 0; is_wanted(operations[i].name, argc, argv) && k < sizeof lens / sizeof lens[0]; k++) {
            count(&operations[i], lens[k], true);
            if (operations[i].taker == NOBODY)
                count(&operations[i], lens[k], false);
        }
    return 0;
}
