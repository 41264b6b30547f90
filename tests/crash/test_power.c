/* test_power.c: the power is cut at any point of a bus's life. What was acknowledged with DISK is there afterwards, in order, and no
 * position is used twice.
 *
 * The disk is disk.c's: what was not synced is lost, or kept, or each sector of it is diced. Then the bus is brought back from what is
 * left, by evbus_open() as any service calls it. [guards DURABLE] */
#include "await.h"
#include "clock.h"
#include "disk.h"
#include "folder.h"
#include "sanitizer.h"

#include <criterion/criterion.h>
#include <evbus/admin.h>
#include <evbus/evbus.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EVENTS     640 /* 1 MiB of frames */
#define PARTITIONS 2
#define PAYLOAD    1500

static const char catalogue[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                                "\"defaults\":{\"partitions\":2,\"ring\":\"16KiB\",\"journal\":true,\"ack\":\"disk\"},"
                                "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]},\"test.b.one\":{}},"
                                "\"logs\":{\"test.b\":{\"ack\":\"memory\",\"partitions\":1}}}";

static char bus_name[64];

/* What the publisher knows. */
struct told {
    unsigned seq;
    uint32_t partition;
    uint64_t position;
    size_t steps;          /* that the disk had made when publish returned */
    size_t finished;       /* likewise when the group had done it; SIZE_MAX: it has not */
    uint64_t out_position; /* then: of what its handler published before, in memory alone */
};

struct history {
    struct told told[EVENTS];
    unsigned n;
    struct disk *disk;
};

static struct evbus *opened(enum evbus_keeper keeper)
{
    struct evbus *bus = NULL;
    int rc = evbus_open(
        &bus, &(struct evbus_options){
                  .size = sizeof(struct evbus_options), .bus = bus_name, .service = "tester", .keeper = keeper});
    return rc == EVBUS_OK ? bus : NULL;
}

static void payload_of(unsigned seq, char out[PAYLOAD + 1])
{
    memset(out, 'x', PAYLOAD);
    int n = snprintf(out, 32, "{\"seq\":%06u,\"x\":\"", 100000 + seq);
    out[n] = 'x';
    memcpy(out + PAYLOAD - 2, "\"}", 3);
}

static unsigned seq_of(const char *payload)
{
    return (unsigned)strtoul(payload + 7, NULL, 10) - 100000;
}

static void publish(struct evbus *bus, struct history *history)
{
    char payload[PAYLOAD + 1], key[16];
    struct evbus_receipt receipt = {.size = sizeof receipt};
    unsigned seq = history->n;
    payload_of(seq, payload);
    snprintf(key, sizeof key, "k%u", seq % 7);
    int rc = evbus_publish(bus,
                           &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                 .topic = "test.a.one",
                                                 .payload = payload,
                                                 .key = key,
                                                 .timeout_ns = 5000000000},
                           &receipt);
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(bus));
    cr_assert_eq(receipt.ack, EVBUS_ACK_DISK);
    history->told[history->n++] = (struct told){.seq = seq,
                                                .partition = receipt.partition,
                                                .position = receipt.position,
                                                .steps = disk_steps(history->disk),
                                                .finished = SIZE_MAX};
}

/* A third of what the group is given it finishes. */
static void work_off(struct evbus *bus, struct evbus_subscription *sub, struct history *history, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct evbus_delivery delivery = {.size = sizeof delivery};
        if (evbus_receive(sub, &delivery, 1000000000) != EVBUS_OK)
            return;
        unsigned seq = seq_of(delivery.payload);
        size_t before = disk_steps(history->disk);
        struct evbus_receipt receipt = {.size = sizeof receipt};
        cr_assert_eq(evbus_publish(bus,
                                   &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                         .topic = "test.b.one",
                                                         .payload = delivery.payload,
                                                         .timeout_ns = 5000000000},
                                   &receipt),
                     EVBUS_OK, "%s", evbus_message(bus));
        cr_assert_eq(receipt.ack, EVBUS_ACK_MEMORY);
        cr_assert_eq(evbus_finish(sub, &delivery, EVBUS_DONE, NULL), EVBUS_OK);
        if (seq < history->n) {
            history->told[seq].finished = before;
            history->told[seq].out_position = receipt.position;
        }
    }
}

static void forget_memory(void)
{
    static const char *const parts[] = {"control", "test.a", "test.b", "test.dlq", "test.evbus", "test.replay"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char name[128];
        snprintf(name, sizeof name, "/evbus.%s.%s", bus_name, parts[i]);
        shm_unlink(name);
    }
}

/* A bus is made, and lives: two keepers one after the other, several files, groups' states. */
static void live(struct history *history)
{
    cr_assert_eq(evbus_init(&(struct evbus_init_options){
                     .size = sizeof(struct evbus_init_options), .bus = bus_name, .catalogue = catalogue}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    clock_freeze();
    for (int life = 0; life < 2; life++) {
        struct evbus *bus = opened(EVBUS_KEEPER_VOLUNTEER);
        struct evbus_subscription *sub = NULL;
        cr_assert_not_null(bus, "%s", evbus_message(NULL));
        cr_assert_eq(evbus_subscribe(&sub, bus,
                                     &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                       .group = "mailer"}),
                     EVBUS_OK, "%s", evbus_message(bus));
        for (unsigned i = 0; i < EVENTS / 2; i++) {
            publish(bus, history);
            if (i % 30 == 29) {
                clock_advance(CLOCK_NS_PER_S); /* the groups' states are saved while they work */
                work_off(bus, sub, history, 10);
            }
        }
        evbus_unsubscribe(sub);
        evbus_close(bus);
    }
    clock_release();
}

/* What a cut left, as a new process finds it. */
struct found {
    bool is_there[EVENTS];
    bool has_output[EVENTS];   /* of its handler */
    uint64_t last[PARTITIONS]; /* the highest position */
};

static void complain(const struct history *history, size_t n, const char *how, const char *what, unsigned seq)
{
    char step[256] = "";
    if (n < disk_steps(history->disk))
        disk_tell(history->disk, n, step);
    cr_expect_fail("cut before %s (%s): event %u %s", step, how, seq, what);
}

static void see(const struct history *history, size_t n, const char *how, const struct evbus_delivery *delivery,
                struct found *found)
{
    char expected[PAYLOAD + 1];
    unsigned seq = seq_of(delivery->payload);
    payload_of(seq, expected);
    if (seq >= EVENTS || strcmp(expected, delivery->payload) != 0) {
        complain(history, n, how, "is not what was published", seq);
        return;
    }
    if (strcmp(delivery->topic, "test.b.one") == 0) {
        found->has_output[seq] = true;
        return;
    }
    if (found->is_there[seq])
        complain(history, n, how, "is there twice", seq);
    if (delivery->position < found->last[delivery->partition])
        complain(history, n, how, "is out of order", seq);
    if (history->told[seq].position != delivery->position && history->told[seq].steps <= n)
        complain(history, n, how, "is at another position", seq);
    found->is_there[seq] = true;
    found->last[delivery->partition] = delivery->position;
}

static void read_all(struct evbus *bus, const struct history *history, size_t n, const char *how, struct found *found)
{
    struct evbus_reader *reader = NULL;
    cr_assert_eq(evbus_reader_open(&reader, bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK);
    for (;;) {
        struct evbus_delivery delivery = {.size = sizeof delivery};
        int rc = evbus_reader_next(reader, &delivery, 0);
        if (rc == EVBUS_ECORRUPT)
            continue; /* a torn frame between whole ones: nobody was told of it */
        if (rc != EVBUS_OK)
            break;
        see(history, n, how, &delivery, found);
    }
    evbus_reader_close(reader);
}

/* What the group is given after the restart, and what it had finished, are all that was acknowledged. */
static void check_group(struct evbus *bus, const struct history *history, size_t n, const char *how,
                        const struct found *found)
{
    struct evbus_subscription *sub = NULL;
    static bool is_given[EVENTS];
    memset(is_given, 0, sizeof is_given);
    cr_assert_eq(evbus_subscribe(&sub, bus,
                                 &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                   .group = "mailer"}),
                 EVBUS_OK, "%s", evbus_message(bus));
    for (;;) {
        struct evbus_delivery delivery = {.size = sizeof delivery};
        if (evbus_receive(sub, &delivery, 0) != EVBUS_OK)
            break;
        if (seq_of(delivery.payload) < EVENTS)
            is_given[seq_of(delivery.payload)] = true;
        evbus_finish(sub, &delivery, EVBUS_DONE, NULL);
    }
    evbus_unsubscribe(sub);
    for (unsigned i = 0; i < history->n; i++)
        if (history->told[i].steps <= n && history->told[i].finished > n && found->is_there[i] && !is_given[i])
            complain(history, n, how, "was acknowledged, not handled, and is not given to its group", i);
    for (unsigned i = 0; i < history->n; i++)
        if (history->told[i].finished != SIZE_MAX && found->is_there[i] && !is_given[i] && !found->has_output[i])
            complain(history, n, how, "counts as done, and what its handler published is lost", i);
}

/* What was told to anybody is not used again, be it on disk or not. */
static void check_positions(struct evbus *bus, const struct history *history, size_t n, const char *how)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(bus, &stat), EVBUS_OK);
    for (size_t i = 0; i < stat.n_partitions; i++) {
        const struct evbus_partition_stat *p = &stat.partitions[i];
        bool is_a = strcmp(p->log, "test.a") == 0, is_b = strcmp(p->log, "test.b") == 0;
        for (unsigned k = 0; k < history->n; k++) {
            const struct told *told = &history->told[k];
            if (is_a && told->steps <= n && told->partition == p->partition && told->position >= p->released)
                complain(history, n, how, "has a position that is used again", k);
            if (is_b && told->finished <= n && told->out_position >= p->released)
                complain(history, n, how, "has an output whose position is used again", k);
        }
    }
}

/* true: there was a bus to bring back. */
static bool check_cut(const struct history *history, size_t n, enum disk_unsynced unsynced, size_t sector,
                      uint64_t seed, const struct folder *folder)
{
    static const char *const names[] = {"what was not synced is lost", "kept", "diced"};
    char how[128];
    static struct found found;
    memset(&found, 0, sizeof found);
    snprintf(how, sizeof how, "%s, sectors of %zu, seed %" PRIu64, names[unsynced], sector, seed);
    folder_clear(folder);
    disk_cut(history->disk, n, unsynced, sector, seed, folder->path);
    struct evbus *bus = opened(EVBUS_KEEPER_NEVER);
    if (bus == NULL) {
        char why[600];
        snprintf(why, sizeof why, "cannot be brought back: %s", evbus_message(NULL));
        if (n >= history->told[0].steps)
            complain(history, n, how, why, 0);
        forget_memory();
        return false;
    }
    read_all(bus, history, n, how, &found);
    for (unsigned i = 0; i < history->n; i++)
        if (history->told[i].steps <= n && !found.is_there[i])
            complain(history, n, how, "was acknowledged and is lost", i);
    if (n % 8 == 0)
        check_group(bus, history, n, how, &found);
    check_positions(bus, history, n, how);
    evbus_close(bus);
    forget_memory();
    return true;
}

static void history_make(struct history *history, struct folder *folder)
{
    *folder = folder_make();
    snprintf(bus_name, sizeof bus_name, "test-%d-power", (int)getpid());
    setenv("EVBUS_STATE_DIR", folder->path, 1);
    forget_memory();
    history->disk = disk_begin(folder->path);
    live(history);
    disk_end(history->disk);
    forget_memory();
}

/* Samples only: the cuts are the same in every build. */
static bool is_brief(void)
{
    return HAS_SANITIZER || getenv("EVBUS_QUICK") != NULL || getenv("EVBUS_SLOW") != NULL;
}

static uint64_t seed_of_test(void)
{
    const char *given = getenv("EVBUS_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)getpid() * 2654435761u;
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 "\n", seed);
    return seed;
}

Test(power, is_cut_anywhere_and_nothing_that_was_acknowledged_is_lost)
{
    static struct history history;
    struct folder folder;
    history_make(&history, &folder);
    size_t n_steps = disk_steps(history.disk);
    size_t step = is_brief() ? 17 : 1;
    unsigned n_back = 0;
    for (size_t n = 0; n <= n_steps; n += step) {
        n_back += check_cut(&history, n, DISK_LOST, 512, 0, &folder);
        n_back += check_cut(&history, n, DISK_KEPT, 512, 0, &folder);
    }
    fprintf(stderr, "%zu steps, brought back %u times\n", n_steps, n_back);
    cr_expect_gt(n_back, n_steps / step);
    disk_free(history.disk);
}

Test(power, tears_what_was_not_synced_and_nothing_that_was_acknowledged_is_lost)
{
    static struct history history;
    struct folder folder;
    history_make(&history, &folder);
    size_t n_steps = disk_steps(history.disk);
    uint64_t seed = seed_of_test();
    unsigned n_back = 0;
    unsigned n_cuts = is_brief() ? 60 : getenv("EVBUS_SOAK") != NULL ? 20000 : 1000;
    for (unsigned i = 0; i < n_cuts; i++, seed = seed * 6364136223846793005 + 1442695040888963407)
        n_back += check_cut(&history, (size_t)(seed >> 33) % (n_steps + 1), DISK_DICED, i % 2 == 0 ? 512 : 4096, seed,
                            &folder);
    cr_expect_gt(n_back, n_cuts / 2);
    disk_free(history.disk);
}

#define UNSYNCED 8 /* events, which the ring has room for */

/* The last syncs of a life fail; then its memory is lost, and not the host's: the files are read as they stand in the page cache. */
Test(power, is_cut_after_a_life_began_from_files_whose_sync_had_failed)
{
    static struct history history;
    static struct found seen, found;
    struct folder folder = folder_make();
    snprintf(bus_name, sizeof bus_name, "test-%d-power", (int)getpid());
    setenv("EVBUS_STATE_DIR", folder.path, 1);
    forget_memory();
    history.disk = disk_begin(folder.path);
    cr_assert_eq(evbus_init(&(struct evbus_init_options){
                     .size = sizeof(struct evbus_init_options), .bus = bus_name, .catalogue = catalogue}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    struct evbus *bus = opened(EVBUS_KEEPER_VOLUNTEER);
    cr_assert_not_null(bus, "%s", evbus_message(NULL));
    for (unsigned i = 0; i < UNSYNCED; i++) {
        char payload[PAYLOAD + 1];
        payload_of(i, payload);
        disk_break(history.disk, i > 0); /* the file must have been made */
        cr_assert_eq(evbus_publish(bus,
                                   &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                         .topic = "test.b.one",
                                                         .payload = payload,
                                                         .ack = i == 0 ? EVBUS_ACK_DISK : EVBUS_ACK_LOG,
                                                         .timeout_ns = 5000000000},
                                   NULL),
                     EVBUS_OK, "%s", evbus_message(bus));
    }
    cr_assert(await_that(disk_failures(history.disk) > 0));
    evbus_close(bus);
    forget_memory();
    disk_break(history.disk, false);
    bus = opened(EVBUS_KEEPER_NEVER);
    cr_assert_not_null(bus, "%s", evbus_message(NULL));
    size_t n_shown = disk_steps(history.disk);
    read_all(bus, &history, n_shown, "no cut", &seen);
    evbus_close(bus);
    forget_memory();
    disk_end(history.disk);
    unsigned n_seen = 0;
    for (unsigned i = 0; i < UNSYNCED; i++)
        n_seen += seen.has_output[i];
    cr_expect_gt(n_seen, 0, "the test has lost its point");
    uint64_t seed = seed_of_test();
    for (unsigned k = 0; k < 20; k++, seed = seed * 6364136223846793005 + 1442695040888963407) {
        memset(&found, 0, sizeof found);
        folder_clear(&folder);
        disk_cut(history.disk, n_shown, k == 0 ? DISK_LOST : DISK_DICED, 512, seed, folder.path);
        bus = opened(EVBUS_KEEPER_NEVER);
        cr_assert_not_null(bus, "%s", evbus_message(NULL));
        read_all(bus, &history, n_shown, "after the restart", &found);
        for (unsigned i = 0; i < UNSYNCED; i++)
            if (seen.has_output[i] && !found.has_output[i])
                complain(&history, n_shown, "after the restart", "was shown, and is lost", i);
        evbus_close(bus);
        forget_memory();
    }
    disk_free(history.disk);
}
