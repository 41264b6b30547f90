/* test_testing.c: the engine as test double: a bus of the test's own, time that stands still, faults at each point, and waiting
 * until a group has handled everything. [no tsan]: it forks. */
#include "await.h"
#include "bus.h"
#include "child.h"
#include "cursor.h"
#include "doorbell.h"
#include "slot.h"

#include <evbus/testing.h>

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       UINT64_C(1000000000)
#define KILLED  (128 + SIGKILL)

/* Group alpha receives test.a.one and waits 1 s and 10 s; a handler of beta may take 30 s. */
static const char catalogue[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                                "\"defaults\":{\"partitions\":1,\"ring\":\"64KiB\",\"retry\":[\"1s\",\"10s\"]},"
                                "\"topics\":{\"test.a.one\":{\"groups\":[\"alpha\"]},"
                                "\"test.b.one\":{\"groups\":[\"beta\"]}},"
                                "\"groups\":{\"alpha\":{},\"beta\":{\"handler_timeout\":\"30s\"}}}";

/* --- helpers ---------------------------------------------------------------------------------------------------------- */

static uint64_t real_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * S + (uint64_t)now.tv_nsec;
}

/* So that standing still can be told from being quick. */
static void let_time_pass(void)
{
    uint64_t since = real_ns(CLOCK_MONOTONIC);
    cr_assert(await_that(real_ns(CLOCK_MONOTONIC) - since > 3000000));
}

static struct evbus *make_bus(void)
{
    struct evbus *bus = NULL;
    int rc = evbus_test_open(&bus, catalogue, "tester");
    cr_assert_eq(rc, EVBUS_OK, "evbus_test_open: %s", evbus_message(NULL));
    return bus;
}

/* Another handle, in a child too: NULL when that fails. */
static struct evbus *open_name(const char *name, enum evbus_wait wait)
{
    struct evbus *bus = NULL;
    struct evbus_options options = {.size = sizeof options, .bus = name, .service = "other", .wait = wait};
    return evbus_open(&bus, &options) == EVBUS_OK ? bus : NULL;
}

static bool is_there(const char *name)
{
    struct evbus *bus = open_name(name, EVBUS_WAIT_HYBRID);
    evbus_close(bus);
    return bus != NULL;
}

static int send(struct evbus *bus, const char *topic, const char *payload, struct evbus_receipt *receipt)
{
    struct evbus_event event = {.size = sizeof event, .topic = topic, .key = "k", .payload = payload};
    return evbus_publish(bus, &event, receipt);
}

static struct evbus_receipt publish(struct evbus *bus, const char *payload)
{
    struct evbus_receipt receipt = {.size = sizeof receipt};
    int rc = send(bus, "test.a.one", payload, &receipt);
    cr_assert_eq(rc, EVBUS_OK, "%s: %s", payload, evbus_message(bus));
    return receipt;
}

/* All payloads on the bus, with a blank behind each. */
static const char *all_of(struct evbus *bus)
{
    static char found[256];
    struct evbus_reader *reader = NULL;
    struct evbus_reader_options options = {.size = sizeof options, .from = EVBUS_FROM_EARLIEST};
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_open(&reader, bus, &options), EVBUS_OK, "%s", evbus_message(bus));
    for (found[0] = '\0'; evbus_reader_next(reader, &got, 0) == EVBUS_OK;)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s ", (const char *)got.payload);
    evbus_reader_close(reader);
    return found;
}

/* What a handler has seen, perhaps in another process, and how it ends. */
struct seen {
    char name[64]; /* of the bus, for children, who wait until it is told */
    _Atomic bool is_told;
    enum evbus_outcome outcome;
    _Atomic unsigned n;
    char said[256];        /* payload:attempt, with a blank behind each */
    unsigned crash_number; /* for children: die at the n-th time ... */
    const char *point;     /* ... that this is passed */
    struct evbus_subscription *subscription;
};

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct seen *seen = context;
    strcpy(error, "as told");
    snprintf(seen->said + strlen(seen->said), sizeof seen->said - strlen(seen->said), "%s:%u ",
             (const char *)event->payload, event->attempt);
    atomic_fetch_add(&seen->n, 1);
    return seen->outcome;
}

/* Children are forked before there is a bus: its keeper is a thread, which could hold a lock of malloc() then. */
static struct seen *seen_by_child(enum evbus_outcome outcome, const char *point, unsigned crash_number)
{
    struct seen *seen = child_shared(sizeof *seen);
    seen->outcome = outcome;
    seen->point = point;
    seen->crash_number = crash_number;
    return seen;
}

static void tell(struct seen *seen, struct evbus *bus)
{
    snprintf(seen->name, sizeof seen->name, "%s", evbus_test_name(bus));
    atomic_store(&seen->is_told, true);
}

static struct evbus *open_told(struct seen *seen)
{
    return await_that(atomic_load(&seen->is_told)) ? open_name(seen->name, EVBUS_WAIT_HYBRID) : NULL;
}

static struct evbus_subscription *join(struct evbus *bus, const char *group, evbus_handler *handler, void *context)
{
    struct evbus_subscription *subscription = NULL;
    struct evbus_subscribe_options options = {
        .size = sizeof options, .group = group, .handler = handler, .context = context};
    int rc = evbus_subscribe(&subscription, bus, &options);
    cr_assert_eq(rc, EVBUS_OK, "evbus_subscribe %s: %s", group, evbus_message(bus));
    return subscription;
}

struct asked {
    const char *group;
    struct evbus_group_stat stat;
};

static int keep_stat(void *context, const struct evbus_group_stat *stat)
{
    struct asked *asked = context;
    if (strcmp(stat->group, asked->group) == 0)
        asked->stat = *stat;
    return 0;
}

static struct evbus_group_stat stat_of(struct evbus *bus, const char *group)
{
    struct asked asked = {.group = group};
    cr_assert_eq(evbus_groups(bus, keep_stat, &asked), EVBUS_OK, "%s", evbus_message(bus));
    cr_assert_gt(asked.stat.size, 0, "there is no group %s", group);
    return asked.stat;
}

/* The ids of all dead letters on the bus; returns how many. */
static unsigned letters_of(struct evbus *bus, uint8_t out_ids[8][16])
{
    struct memory_log *log = memory_internal_log(&bus->memory, MEMORY_DLQ_LOG);
    struct topic_set all;
    struct error err = {""};
    struct frame frame;
    uint64_t wait_ns = UINT64_MAX;
    unsigned n = 0;
    memset(&all, 0xff, sizeof all);
    cr_assert_not_null(log);
    struct cursor cursor = {.ring = &log->rings[0], .wanted = &all, .pin = CURSOR_NO_PIN};
    uint64_t *buffer = malloc(((size_t)log->rings[0].frame_cells_max + 1) * CELL_BYTES);
    while (n < 8 && cursor_next(&cursor, buffer, true, &frame, &wait_ns, &err) == CURSOR_EVENT)
        memcpy(out_ids[n++], frame.id, 16);
    free(buffer);
    return n;
}

/* --- a bus of the test's own ------------------------------------------------------------------------------------------ */

Test(testing, a_bus_is_made_opened_as_the_service_and_removed)
{
    struct evbus *bus = NULL;
    char name[64];
    cr_assert_eq(evbus_test_open(&bus, NULL, "order-payment-service"), EVBUS_OK, "%s", evbus_message(NULL));
    snprintf(name, sizeof name, "%s", evbus_test_name(bus));
    cr_expect(is_there(name), "another handle can be opened by its name, %s", name);
    cr_expect_eq(send(bus, "lomash.orders.created", "1", NULL), EVBUS_OK, "the shipped catalogue lets the service: %s",
                 evbus_message(bus));
    cr_expect_eq(send(bus, "lomash.products.updated", "1", NULL), EVBUS_EDENIED);
    evbus_test_close(bus);
    cr_expect(!is_there(name), "%s is still there", name);
}

static int publish_one(void *context)
{
    struct seen *seen = context;
    struct evbus *bus = open_told(seen);
    return bus != NULL && send(bus, "test.a.one", "1", NULL) == EVBUS_OK ? 0 : 1;
}

Test(testing, other_processes_open_it_by_its_name)
{
    struct seen *seen = seen_by_child(EVBUS_DONE, NULL, 0);
    struct child child = child_start(publish_one, seen);
    struct evbus *bus = make_bus();
    tell(seen, bus);
    cr_expect_eq(child_join(&child), 0);
    cr_expect_str_eq(all_of(bus), "1 ");
    evbus_test_close(bus);
}

Test(testing, rings_may_be_4_KiB_where_the_catalogue_says_tests)
{
    static const struct {
        const char *label, *catalogue;
        int rc;
    } rows[] = {
        {"with tests",
         "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"ring\":\"4KiB\"},"
         "\"topics\":{\"test.a.one\":{}}}",
         EVBUS_OK},
        {"without",
         "{\"namespace\":\"test\",\"open\":true,\"defaults\":{\"ring\":\"4KiB\"},\"topics\":{\"test.a.one\":{}}}",
         EVBUS_ECATALOGUE},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus *bus = NULL;
        cr_expect_eq(evbus_test_open(&bus, rows[i].catalogue, "tester"), rows[i].rc, "%s: %s", rows[i].label,
                     evbus_message(NULL));
        if (bus != NULL)
            cr_expect_eq(bus->memory.logs[0].rings[0].capacity, 4096 / CELL_BYTES, "%s", rows[i].label);
        evbus_test_close(bus);
    }
}

static int count_ours(void *context, const struct evbus_listed *listed)
{
    char ours[32];
    snprintf(ours, sizeof ours, "test-%d-", (int)getpid());
    *(unsigned *)context += strncmp(listed->bus, ours, strlen(ours)) == 0;
    return 0;
}

Test(testing, a_bus_that_cannot_be_made_or_opened_leaves_nothing)
{
    static const struct {
        const char *label, *catalogue, *service;
        int rc;
    } rows[] = {
        {"no JSON", "{", "tester", EVBUS_ECATALOGUE},
        {"no topics", "{\"namespace\":\"test\"}", "tester", EVBUS_ECATALOGUE},
        {"a service without a name", catalogue, "", EVBUS_EINVAL},
        {"a name that is too long", catalogue, "a123456789b123456789c123456789d123456789e123456789f123456789g123456789",
         EVBUS_EINVAL},
    };
    struct evbus *const untouched = (struct evbus *)&rows;
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus *bus = untouched;
        unsigned n = 0;
        cr_expect_eq(evbus_test_open(&bus, rows[i].catalogue, rows[i].service), rows[i].rc, "%s: %s", rows[i].label,
                     evbus_message(NULL));
        cr_expect_eq(bus, untouched, "%s", rows[i].label);
        cr_expect_str_neq(evbus_message(NULL), "", "%s", rows[i].label);
        cr_expect_eq(evbus_list(count_ours, &n), 0);
        cr_expect_eq(n, 0, "%s: a bus is left", rows[i].label);
    }
}

Test(testing, two_at_once_know_nothing_of_each_other)
{
    struct evbus *one = make_bus();
    struct evbus *two = make_bus();
    cr_expect_str_neq(evbus_test_name(one), evbus_test_name(two));
    publish(one, "1");
    publish(two, "2");
    cr_expect_str_eq(all_of(one), "1 ");
    evbus_test_close(one);
    cr_expect_str_eq(all_of(two), "2 ", "it outlives the first");
    publish(two, "3");
    cr_expect_str_eq(all_of(two), "2 3 ");
    evbus_test_close(two);
}

Test(testing, to_close_nothing_is_fine)
{
    evbus_test_close(NULL);
}

/* Names that a child tells its parent. */
struct names {
    char of[3][64];
};

/* A sanitizer looks for leaks at exit(), and hangs where a child of a process with threads does that: it asks here. */
static bool is_child_that_exits;
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return is_child_that_exits;
}

static void leave_by_exit(void)
{
    is_child_that_exits = true;
    fclose(stdout); /* what the parent has not written yet is not ours to write */
    exit(0);
}

static int make_three_and_exit(void *context)
{
    struct names *names = context;
    for (int i = 0; i < 3; i++) {
        struct evbus *bus = NULL;
        if (evbus_test_open(&bus, catalogue, "tester") != EVBUS_OK)
            return 1;
        snprintf(names->of[i], sizeof names->of[i], "%s", evbus_test_name(bus));
        if (i == 1)
            evbus_test_close(bus);
        else if (!is_there(names->of[i]))
            return 2;
    }
    leave_by_exit();
    return 3;
}

Test(testing, a_process_that_ends_by_exit_removes_its_buses)
{
    struct names *names = child_shared(sizeof *names);
    struct child child = child_start(make_three_and_exit, names);
    cr_assert_eq(child_join(&child), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_str_neq(names->of[i], "");
        cr_expect(!is_there(names->of[i]), "%s, number %d, is still there", names->of[i], i);
    }
}

static int just_exit(void *context)
{
    (void)context;
    leave_by_exit();
    return 3;
}

Test(testing, a_forked_child_that_ends_by_exit_removes_nothing_of_its_parent)
{
    struct evbus *bus = make_bus();
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert(await_that(evbus_stat(bus, &stat) == EVBUS_OK && stat.keeper_slot != 0)); /* its thread has begun */
    let_time_pass();
    struct child child = child_start(just_exit, NULL);
    cr_assert_eq(child_join(&child), 0);
    cr_expect(is_there(evbus_test_name(bus)));
    publish(bus, "1");
    evbus_test_close(bus);
}

/* --- time ----------------------------------------------------------------------------------------------------------------- */

/* Of a UUIDv7. */
static uint64_t id_ms(const uint8_t id[16])
{
    uint64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id[i];
    return ms;
}

Test(testing, timestamps_and_ids_stand_still_until_time_is_let_go_on)
{
    struct evbus *bus = make_bus();
    uint64_t before = real_ns(CLOCK_REALTIME);
    evbus_test_clock_freeze();
    uint64_t after = real_ns(CLOCK_REALTIME);
    struct evbus_receipt first = publish(bus, "1");
    cr_expect(before <= first.timestamp_ns && first.timestamp_ns <= after, "frozen when asked");
    let_time_pass();
    struct evbus_receipt second = publish(bus, "2");
    cr_expect_eq(second.timestamp_ns, first.timestamp_ns);
    cr_expect_eq(id_ms(second.id), id_ms(first.id));

    evbus_test_clock_advance(bus, 5 * S + 7);
    struct evbus_receipt third = publish(bus, "3");
    cr_expect_eq(third.timestamp_ns, first.timestamp_ns + 5 * S + 7);
    cr_expect_eq(id_ms(third.id), third.timestamp_ns / 1000000);
    evbus_test_clock_advance(bus, 0);
    cr_expect_eq(publish(bus, "4").timestamp_ns, third.timestamp_ns);

    evbus_test_clock_release();
    before = real_ns(CLOCK_REALTIME);
    struct evbus_receipt last = publish(bus, "5");
    cr_expect(before <= last.timestamp_ns && last.timestamp_ns <= real_ns(CLOCK_REALTIME), "real time again");
    let_time_pass();
    cr_expect_gt(publish(bus, "6").timestamp_ns, last.timestamp_ns);
    evbus_test_close(bus);
}

/* Waits have a jitter of 20 %. */
Test(testing, a_groups_waits_of_1_s_and_10_s_pass_only_by_advance)
{
    uint64_t since = real_ns(CLOCK_MONOTONIC);
    struct evbus *bus = make_bus();
    struct seen seen = {.outcome = EVBUS_RETRY};
    struct evbus_subscription *subscription = join(bus, "alpha", handle, &seen);
    evbus_test_clock_freeze();
    publish(bus, "1");
    cr_assert_eq(evbus_run_once(subscription, 0), EVBUS_OK);
    static const uint64_t waits[] = {S, 10 * S};
    for (size_t i = 0; i < N(waits); i++) {
        let_time_pass();
        cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_ETIMEOUT, "wait %zu: real time counts", i);
        evbus_test_clock_advance(bus, waits[i] * 79 / 100);
        cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_ETIMEOUT, "wait %zu: too early", i);
        cr_expect_eq(stat_of(bus, "alpha").n_waiting, 1);
        evbus_test_clock_advance(bus, waits[i] * 42 / 100);
        seen.outcome = i == 0 ? EVBUS_RETRY : EVBUS_DONE;
        cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_OK, "wait %zu: it is due", i);
    }
    cr_expect_str_eq(seen.said, "1:1 1:2 1:3 ");
    cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_ETIMEOUT);
    evbus_unsubscribe(subscription);
    evbus_test_close(bus);
    cr_expect_lt(real_ns(CLOCK_MONOTONIC) - since, 5 * S, "far less than 11 s of real time");
}

static void *run(void *context)
{
    struct seen *seen = context;
    return (void *)(intptr_t)evbus_run(seen->subscription, NULL);
}

Test(testing, a_member_that_sleeps_until_its_next_attempt_wakes_when_time_is_let_go_on)
{
    struct evbus *bus = make_bus();
    struct evbus *member = open_name(evbus_test_name(bus), EVBUS_WAIT_BLOCK);
    struct seen seen = {.outcome = EVBUS_RETRY};
    seen.subscription = join(member, "alpha", handle, &seen);
    evbus_test_clock_freeze();
    publish(bus, "1");
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, run, &seen), 0);
    static const uint64_t waits[] = {2 * S, 13 * S};
    for (size_t i = 0; i < N(waits); i++) {
        cr_assert(await_that(stat_of(bus, "alpha").n_waiting == 1 && atomic_load(&seen.n) == i + 1));
        seen.outcome = i == 0 ? EVBUS_RETRY : EVBUS_DONE;
        evbus_test_clock_advance(bus, waits[i]);
        cr_assert(await_that(atomic_load(&seen.n) == i + 2), "attempt %zu does not come", i + 2);
    }
    cr_expect_eq(evbus_test_await_handled(bus, "alpha", 20 * S), EVBUS_OK);
    evbus_stop(seen.subscription);
    void *rc;
    pthread_join(thread, &rc);
    cr_expect_eq((intptr_t)rc, EVBUS_OK);
    cr_expect_str_eq(seen.said, "1:1 1:2 1:3 ");
    evbus_unsubscribe(seen.subscription);
    evbus_close(member);
    evbus_test_close(bus);
}

struct waiting {
    struct evbus *bus;
    uint64_t timeout_ns;
    _Atomic uint32_t slot; /* of its thread */
    _Atomic bool has_ended;
    int rc;
};

static void *wait_for_nothing(void *context)
{
    struct waiting *waiting = context;
    struct evbus_reader *reader = NULL;
    struct bus_thread *thread = NULL;
    struct evbus_delivery got = {.size = sizeof got};
    struct error err = {""};
    waiting->rc = evbus_reader_open(&reader, waiting->bus, NULL);
    if (waiting->rc == EVBUS_OK)
        waiting->rc = bus_thread(waiting->bus, &thread, &err);
    atomic_store(&waiting->slot, thread != NULL ? thread->claim.slot : UINT32_MAX);
    if (waiting->rc == EVBUS_OK)
        waiting->rc = evbus_reader_next(reader, &got, waiting->timeout_ns);
    evbus_reader_close(reader);
    atomic_store(&waiting->has_ended, true);
    return NULL;
}

Test(testing, a_timeout_passes_only_by_advance_and_whoever_sleeps_is_woken)
{
    struct evbus *bus = make_bus();
    struct waiting waiting = {.bus = open_name(evbus_test_name(bus), EVBUS_WAIT_BLOCK), .timeout_ns = 2000000};
    pthread_t thread;
    evbus_test_clock_freeze();
    cr_assert_eq(pthread_create(&thread, NULL, wait_for_nothing, &waiting), 0);
    cr_assert(await_that(atomic_load(&waiting.slot) != 0));
    let_time_pass();
    cr_expect(!atomic_load(&waiting.has_ended), "real time counts");
    const struct slot *slot = &bus->memory.control->slots[atomic_load(&waiting.slot)];
    uint32_t bell = doorbell_read(slot);
    evbus_test_clock_advance(bus, 1000000);
    cr_expect_neq(doorbell_read(slot), bell, "nobody has rung");
    let_time_pass();
    cr_expect(!atomic_load(&waiting.has_ended), "half of it");
    evbus_test_clock_advance(bus, 1000000);
    cr_expect(await_that(atomic_load(&waiting.has_ended)));
    pthread_join(thread, NULL);
    cr_expect_eq(waiting.rc, EVBUS_ETIMEOUT);
    evbus_close(waiting.bus);
    evbus_test_close(bus);
}

static void *publish_behind(void *context)
{
    return (void *)(intptr_t)send(context, "test.a.one", "2", NULL);
}

Test(testing, the_patience_for_a_claim_that_is_not_written_passes_only_by_advance)
{
    struct evbus *bus = make_bus();
    struct bus_thread *self;
    struct error err = {""};
    struct evbus_reader *reader = NULL;
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_open(&reader, bus, NULL), EVBUS_OK);
    evbus_test_clock_freeze();
    cr_assert_eq(bus_thread(bus, &self, &err), EVBUS_OK);
    cr_assert_eq(ring_claim(&bus->memory.logs[0].rings[0], 2, &self->claim, &err), EVBUS_OK);
    pthread_t thread;
    void *rc;
    cr_assert_eq(pthread_create(&thread, NULL, publish_behind, bus), 0);
    pthread_join(thread, &rc);
    cr_assert_eq((intptr_t)rc, EVBUS_OK);
    cr_expect_eq(evbus_reader_next(reader, &got, 0), EVBUS_ETIMEOUT);
    let_time_pass();
    cr_expect_eq(evbus_reader_next(reader, &got, 0), EVBUS_ETIMEOUT, "real time counts");
    evbus_test_clock_advance(bus, 3600 * S);
    cr_expect_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK, "it waits for ever");
    evbus_reader_close(reader);
    evbus_test_close(bus);
}

Test(testing, a_handler_takes_too_long_only_by_advance)
{
    struct evbus *bus = make_bus();
    struct evbus_subscription *subscription = join(bus, "beta", NULL, NULL);
    struct evbus_delivery first = {.size = sizeof first};
    struct evbus_delivery again = {.size = sizeof again};
    evbus_test_clock_freeze();
    cr_assert_eq(send(bus, "test.b.one", "1", NULL), EVBUS_OK);
    cr_assert_eq(evbus_receive(subscription, &first, 0), EVBUS_OK);
    evbus_test_clock_advance(bus, 30 * S - 1);
    cr_expect_eq(evbus_receive(subscription, &again, 0), EVBUS_ETIMEOUT);
    cr_expect_eq(stat_of(bus, "beta").n_running, 1, "there is 1 ns left");
    evbus_test_clock_advance(bus, 1);
    cr_expect_eq(evbus_receive(subscription, &again, 0), EVBUS_ETIMEOUT, "it waits for its second attempt");
    cr_expect_eq(stat_of(bus, "beta").n_waiting, 1);
    evbus_test_clock_advance(bus, 2 * S);
    cr_assert_eq(evbus_receive(subscription, &again, 0), EVBUS_OK);
    cr_expect_eq(again.attempt, 2);
    cr_expect_eq(evbus_finish(subscription, &first, EVBUS_DONE, NULL), EVBUS_EFENCED);
    cr_expect_eq(evbus_finish(subscription, &again, EVBUS_DONE, NULL), EVBUS_OK);
    evbus_unsubscribe(subscription);
    evbus_test_close(bus);
}

/* --- crashes -------------------------------------------------------------------------------------------------------------- */

static int publish_until_it_dies(void *context)
{
    struct seen *seen = context;
    struct evbus *bus = open_told(seen);
    char payload[8];
    if (bus == NULL || send(bus, "test.a.one", "2", NULL) != EVBUS_OK ||
        evbus_test_crash_at(seen->point, seen->crash_number) != EVBUS_OK)
        return 1;
    for (int i = 3; i < 7; i++) {
        snprintf(payload, sizeof payload, "%d", i);
        if (send(bus, "test.a.one", payload, NULL) != EVBUS_OK)
            return 2;
    }
    evbus_close(bus);
    return 0;
}

/* A handle's first publish in a partition passes the points twice: it tells its service's name first. So one goes ahead. */
Test(testing, a_publisher_dies_at_the_nth_time_at_a_point_and_others_go_on)
{
    static const struct {
        const char *point;
        unsigned n;
        int status;
        const char *left; /* by the child, and the parent's own */
    } rows[] = {
        {"publish.claimed", 1, KILLED, "1 2 7 "},     {"publish.claimed", 3, KILLED, "1 2 3 4 7 "},
        {"publish.written", 1, KILLED, "1 2 7 "},     {"publish.written", 2, KILLED, "1 2 3 7 "},
        {"publish.committed", 1, KILLED, "1 2 3 7 "}, {"publish.committed", 4, KILLED, "1 2 3 4 5 6 7 "},
        {"publish.claimed", 0, 0, "1 2 3 4 5 6 7 "},  {"publish.claimed", 5, 0, "1 2 3 4 5 6 7 "},
        {"group.taken", 1, 0, "1 2 3 4 5 6 7 "},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct seen seen = {.outcome = EVBUS_DONE};
        struct seen *dead = seen_by_child(EVBUS_DONE, rows[i].point, rows[i].n);
        struct child child = child_start(publish_until_it_dies, dead);
        struct evbus *bus = make_bus();
        publish(bus, "1");
        tell(dead, bus);
        cr_expect_eq(child_join(&child), rows[i].status, "%s, %u", rows[i].point, rows[i].n);
        publish(bus, "7");
        const char *found = all_of(bus);
        cr_assert_str_eq(found, rows[i].left, "%s, %u: %s", rows[i].point, rows[i].n, found);

        struct evbus_subscription *subscription = join(bus, "alpha", handle, &seen);
        for (size_t left = strlen(rows[i].left) / 2; left > 0; left--)
            cr_expect_eq(evbus_run_once(subscription, 10 * S), EVBUS_OK, "%s, %u: %zu are still due", rows[i].point,
                         rows[i].n, left);
        cr_expect_eq(evbus_test_await_handled(bus, "alpha", 20 * S), EVBUS_OK);
        evbus_unsubscribe(subscription);
        evbus_test_close(bus);
    }
}

Test(testing, a_crash_that_was_called_off_does_not_come)
{
    struct evbus *bus = make_bus();
    cr_expect_eq(evbus_test_crash_at("publish.written", 1), EVBUS_OK);
    cr_expect_eq(evbus_test_crash_at("publish.written", 0), EVBUS_OK);
    publish(bus, "1");
    cr_expect_str_eq(all_of(bus), "1 ");
    evbus_test_close(bus);
}

static int handle_until_it_dies(void *context)
{
    struct seen *seen = context;
    struct evbus *bus = open_told(seen);
    struct evbus_subscription *subscription = NULL;
    struct evbus_subscribe_options options = {
        .size = sizeof options, .group = "alpha", .handler = handle, .context = seen};
    if (bus == NULL || evbus_subscribe(&subscription, bus, &options) != EVBUS_OK ||
        evbus_test_crash_at(seen->point, seen->crash_number) != EVBUS_OK)
        return 1;
    while (evbus_run_once(subscription, 10 * S) == EVBUS_OK) {
    }
    return 2;
}

/* Three events of one key; a member dies at the second one's point; the next gets what was not done, in order. */
Test(testing, a_member_dies_at_a_point_and_the_next_gets_what_was_not_done)
{
    static const struct {
        const char *point, *by_the_dead, *by_the_next;
    } rows[] = {
        {"group.taken", "1:1 ", "2:1 3:1 "},
        {"group.running", "1:1 ", "2:2 3:1 "},
        {"group.finishing", "1:1 2:1 ", "2:2 3:1 "},
        {"group.finished", "1:1 2:1 ", "3:1 "},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct seen next = {.outcome = EVBUS_DONE};
        struct seen *dead = seen_by_child(EVBUS_DONE, rows[i].point, 2);
        struct child child = child_start(handle_until_it_dies, dead);
        struct evbus *bus = make_bus();
        publish(bus, "1");
        publish(bus, "2");
        publish(bus, "3");
        tell(dead, bus);
        cr_expect_eq(child_join(&child), KILLED, "%s", rows[i].point);
        cr_expect_str_eq(dead->said, rows[i].by_the_dead, "%s: %s", rows[i].point, dead->said);

        struct evbus_subscription *subscription = join(bus, "alpha", handle, &next);
        for (size_t left = strlen(rows[i].by_the_next) / 4; left > 0; left--)
            cr_expect_eq(evbus_run_once(subscription, 10 * S), EVBUS_OK, "%s", rows[i].point);
        cr_expect_str_eq(next.said, rows[i].by_the_next, "%s: %s", rows[i].point, next.said);
        cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_ETIMEOUT, "%s: one more", rows[i].point);
        cr_expect_eq(evbus_test_await_handled(bus, "alpha", 20 * S), EVBUS_OK, "%s", rows[i].point);
        cr_expect_eq(stat_of(bus, "alpha").dead_letters, 0, "%s", rows[i].point);
        evbus_unsubscribe(subscription);
        evbus_test_close(bus);
    }
}

Test(testing, a_member_dies_behind_a_dead_letter_and_the_next_publishes_the_same_again)
{
    struct seen next = {.outcome = EVBUS_DONE};
    struct seen *dead = seen_by_child(EVBUS_REJECT, "dead.published", 1);
    uint8_t ids[8][16];
    struct child child = child_start(handle_until_it_dies, dead);
    struct evbus *bus = make_bus();
    publish(bus, "1");
    tell(dead, bus);
    cr_expect_eq(child_join(&child), KILLED);
    cr_expect_eq(letters_of(bus, ids), 1, "the letter is there");
    cr_expect_eq(stat_of(bus, "alpha").n_dead, 1, "its entry, too");

    publish(bus, "2");
    struct evbus_subscription *subscription = join(bus, "alpha", handle, &next);
    cr_expect_eq(evbus_run_once(subscription, 10 * S), EVBUS_OK);
    cr_expect_str_eq(next.said, "2:1 ", "the rejected one came again: %s", next.said);
    cr_expect_eq(evbus_test_await_handled(bus, "alpha", 20 * S), EVBUS_OK);
    cr_assert_eq(letters_of(bus, ids), 2);
    cr_expect_arr_eq(ids[0], ids[1], 16, "whoever reads them keeps one");
    evbus_unsubscribe(subscription);
    evbus_test_close(bus);
}

/* --- calls that fail ---------------------------------------------------------------------------------------------------- */

Test(testing, a_publish_that_is_told_to_fails_with_the_code_and_publishes_nothing)
{
    static const enum evbus_code codes[] = {EVBUS_EFULL, EVBUS_ESTALE, EVBUS_ELIMIT, EVBUS_ECORRUPT, EVBUS_EEXHAUSTED};
    struct evbus *bus = make_bus();
    publish(bus, "1");
    for (size_t i = 0; i < N(codes); i++) {
        struct evbus_receipt receipt = {.size = sizeof receipt, .position = 4711};
        cr_assert_eq(evbus_test_fail_at("publish.claimed", 1, codes[i]), EVBUS_OK);
        cr_expect_eq(send(bus, "test.a.one", "2", &receipt), codes[i]);
        cr_expect_eq(receipt.position, 4711, "the receipt was touched");
        cr_expect_not_null(strstr(evbus_message(bus), "publish.claimed"), "%s", evbus_message(bus));
        cr_expect_str_eq(all_of(bus), "1 ");
    }
    publish(bus, "3");
    cr_expect_str_eq(all_of(bus), "1 3 ", "only the one call fails");
    evbus_test_close(bus);
}

Test(testing, the_nth_publish_fails_and_no_other)
{
    struct evbus *bus = make_bus();
    publish(bus, "0");
    cr_assert_eq(evbus_test_fail_at("publish.claimed", 3, EVBUS_EFULL), EVBUS_OK);
    publish(bus, "1");
    publish(bus, "2");
    cr_expect_eq(send(bus, "test.a.one", "3", NULL), EVBUS_EFULL);
    publish(bus, "4");
    cr_assert_eq(evbus_test_fail_at("publish.claimed", 1, EVBUS_EFULL), EVBUS_OK);
    cr_assert_eq(evbus_test_fail_at("publish.claimed", 0, EVBUS_EFULL), EVBUS_OK, "called off");
    publish(bus, "5");
    cr_expect_str_eq(all_of(bus), "0 1 2 4 5 ");
    evbus_test_close(bus);
}

Test(testing, a_batch_tells_how_many_went_before_the_one_that_fails)
{
    struct evbus *bus = make_bus();
    struct evbus_event events[100]; /* some runs: each of them comes to the point once */
    char payloads[N(events)][4];
    char expected[8 + 4 * N(events)] = "0 ";
    size_t n = 0;
    for (size_t i = 0; i < N(events); i++) {
        snprintf(payloads[i], sizeof payloads[i], "%zu", i % 10);
        events[i] = (struct evbus_event){.size = sizeof events[0], .topic = "test.a.one", .payload = payloads[i]};
    }
    publish(bus, "0");
    cr_assert_eq(evbus_test_fail_at("publish.claimed", 3, EVBUS_EFULL), EVBUS_OK);
    cr_expect_eq(evbus_publish_batch(bus, events, N(events), NULL, &n), EVBUS_EFULL);
    cr_expect(n >= 2 && n < N(events), "%zu", n);
    for (size_t i = 0; i < n; i++)
        strcat(strcat(expected, payloads[i]), " ");
    cr_expect_str_eq(all_of(bus), expected);
    evbus_test_close(bus);
}

Test(testing, a_dead_letter_that_is_told_to_fail_is_there_and_comes_again)
{
    struct evbus *bus = make_bus();
    struct seen seen = {.outcome = EVBUS_REJECT};
    uint8_t ids[8][16];
    struct evbus_subscription *subscription = join(bus, "alpha", handle, &seen);
    evbus_test_clock_freeze();
    cr_assert_eq(evbus_test_fail_at("dead.published", 1, EVBUS_EFULL), EVBUS_OK);
    publish(bus, "1");
    cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_OK);
    cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_ETIMEOUT);
    cr_expect_eq(letters_of(bus, ids), 1);
    cr_expect_eq(stat_of(bus, "alpha").n_dead, 1, "its entry is there, too");
    evbus_test_clock_advance(bus, 2 * S);
    cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_ETIMEOUT);
    cr_expect_eq(evbus_test_await_handled(bus, "alpha", 20 * S), EVBUS_OK);
    cr_assert_eq(letters_of(bus, ids), 2);
    cr_expect_arr_eq(ids[0], ids[1], 16);
    cr_expect_eq(stat_of(bus, "alpha").dead_letters, 1);
    evbus_unsubscribe(subscription);
    evbus_test_close(bus);
}

Test(testing, only_the_points_that_there_are_can_be_named)
{
    static const struct {
        const char *point;
        int rc;
    } rows[] = {
        {"publish.claimed", EVBUS_OK},   {"publish.written", EVBUS_OK},
        {"publish.committed", EVBUS_OK}, {"group.taken", EVBUS_OK},
        {"group.running", EVBUS_OK},     {"group.finishing", EVBUS_OK},
        {"group.finished", EVBUS_OK},    {"dead.published", EVBUS_OK},
        {"publish", EVBUS_ENOTFOUND},    {"publish.claimed ", EVBUS_ENOTFOUND},
        {"", EVBUS_ENOTFOUND},           {NULL, EVBUS_ENOTFOUND},
    };
    for (size_t i = 0; i < N(rows); i++) {
        const char *label = rows[i].point != NULL ? rows[i].point : "NULL";
        cr_expect_eq(evbus_test_crash_at(rows[i].point, 0), rows[i].rc, "%s", label);
        cr_expect_eq(evbus_test_fail_at(rows[i].point, 0, EVBUS_EFULL), rows[i].rc, "%s", label);
        if (rows[i].rc != EVBUS_OK)
            cr_expect_not_null(strstr(evbus_message(NULL), label), "%s: %s", label, evbus_message(NULL));
    }
}

/* --- until all is handled ------------------------------------------------------------------------------------------------- */

Test(testing, all_is_handled_once_nothing_lags_or_waits)
{
    struct evbus *bus = make_bus();
    struct seen seen = {.outcome = EVBUS_RETRY};
    struct evbus_subscription *subscription = join(bus, "alpha", handle, &seen);
    cr_expect_eq(evbus_run_once(subscription, 1000000), EVBUS_ETIMEOUT); /* it tells how far it is before it sleeps */
    cr_expect_eq(evbus_test_await_handled(bus, "alpha", 0), EVBUS_OK, "nothing was published");
    publish(bus, "1");
    cr_expect_eq(evbus_test_await_handled(bus, "alpha", 1000000), EVBUS_ETIMEOUT, "it has not been taken");
    cr_expect_not_null(strstr(evbus_message(NULL), "alpha"), "%s", evbus_message(NULL));
    evbus_test_clock_freeze();
    cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_OK);
    cr_expect_eq(evbus_test_await_handled(bus, "alpha", 1000000), EVBUS_ETIMEOUT, "it is to be tried again");
    seen.outcome = EVBUS_DONE;
    evbus_test_clock_advance(bus, 2 * S);
    cr_expect_eq(evbus_run_once(subscription, 0), EVBUS_OK);
    cr_expect_eq(evbus_test_await_handled(bus, "alpha", 20 * S), EVBUS_OK);
    cr_expect_eq(evbus_test_await_handled(bus, "gamma", 20 * S), EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(evbus_message(NULL), "gamma"), "%s", evbus_message(NULL));
    evbus_unsubscribe(subscription);
    evbus_test_close(bus);
}

Test(testing, it_waits_in_real_time_though_the_clock_stands_still)
{
    struct evbus *bus = make_bus();
    publish(bus, "1");
    evbus_test_clock_freeze();
    uint64_t since = real_ns(CLOCK_MONOTONIC);
    cr_expect_eq(evbus_test_await_handled(bus, "alpha", 5000000), EVBUS_ETIMEOUT);
    cr_expect_geq(real_ns(CLOCK_MONOTONIC) - since, 5000000);
    evbus_test_close(bus);
}

static int handle_three(void *context)
{
    struct seen *seen = context;
    struct evbus *bus = open_told(seen);
    struct evbus_subscription *subscription = NULL;
    struct evbus_subscribe_options options = {
        .size = sizeof options, .group = "alpha", .handler = handle, .context = seen};
    int rc = bus != NULL ? evbus_subscribe(&subscription, bus, &options) : EVBUS_ENOBUS;
    for (int i = 0; i < 3 && rc == EVBUS_OK; i++)
        rc = evbus_run_once(subscription, 20 * S);
    evbus_unsubscribe(subscription);
    evbus_close(bus);
    return rc == EVBUS_OK ? 0 : 1;
}

Test(testing, it_waits_for_members_in_other_processes)
{
    struct seen *seen = seen_by_child(EVBUS_DONE, NULL, 0);
    struct child child = child_start(handle_three, seen);
    struct evbus *bus = make_bus();
    tell(seen, bus);
    publish(bus, "1");
    publish(bus, "2");
    publish(bus, "3");
    cr_expect_eq(evbus_test_await_handled(bus, "alpha", 20 * S), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_str_eq(seen->said, "1:1 2:1 3:1 ");
    cr_expect_eq(child_join(&child), 0);
    evbus_test_close(bus);
}
