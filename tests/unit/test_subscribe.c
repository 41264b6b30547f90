/* test_subscribe.c: what a member of a group is promised, sentence by sentence. */
#include "allocations.h"
#include "await.h"
#include "bus.h"
#include "child.h"
#include "clock.h"
#include "fixture.h"
#include "group.h"
#include "lease.h"

#include <criterion/criterion.h>
#include <evbus/testing.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MS      UINT64_C(1000000)
#define S       UINT64_C(1000000000)
#define SOON    (10 * S)

/* Groups mailer (test.a and test.b) and slow (test.b); waits of 10 and 20 ms; further settings of mailer. */
static const char *catalogue_of(unsigned partitions, const char *ring, const char *mailer)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
             "\"defaults\":{\"partitions\":%u,\"ring\":\"%s\",\"retry\":[\"10ms\",\"20ms\"]},"
             "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]},\"test.a.two\":{\"groups\":[\"mailer\"]},"
             "\"test.b.one\":{\"groups\":[\"mailer\",\"slow\"]},\"test.c.one\":{}},"
             "\"logs\":{\"test.c\":{\"ring\":\"64KiB\"}},\"groups\":{\"mailer\":{%s}}}",
             partitions, ring, mailer);
    return text;
}

static struct fixture bus_of(unsigned partitions, const char *ring, const char *mailer)
{
    return fixture_make((struct fixture_options){.catalogue = catalogue_of(partitions, ring, mailer)});
}

static struct fixture one_partition(void)
{
    return bus_of(1, "64KiB", "");
}

static struct evbus_subscription *join_with(struct evbus *bus, struct evbus_subscribe_options options)
{
    struct evbus_subscription *sub = NULL;
    options.size = sizeof options;
    int rc = evbus_subscribe(&sub, bus, &options);
    cr_assert_eq(rc, EVBUS_OK, "evbus_subscribe: %d, %s", rc, evbus_message(bus));
    return sub;
}

static struct evbus_subscription *join(struct evbus *bus, const char *group)
{
    return join_with(bus, (struct evbus_subscribe_options){.group = group});
}

static int subscribe(struct evbus *bus, struct evbus_subscribe_options options)
{
    struct evbus_subscription *sub = NULL;
    options.size = sizeof options;
    int rc = evbus_subscribe(&sub, bus, &options);
    if (rc == EVBUS_OK)
        evbus_unsubscribe(sub);
    else
        cr_expect_null(sub, "untouched on failure");
    return rc;
}

static void publish_on(struct evbus *bus, const char *topic, const char *key, const char *payload)
{
    struct evbus_event event = {
        .size = sizeof event, .topic = topic, .key = key, .payload = payload, .timeout_ns = SOON};
    int rc = evbus_publish(bus, &event, NULL);
    cr_assert_eq(rc, EVBUS_OK, "%s: %s", payload, evbus_message(bus));
}

static void publish(struct evbus *bus, const char *key, const char *payload)
{
    publish_on(bus, "test.a.one", key, payload);
}

static struct evbus_delivery receive(struct evbus_subscription *sub)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_receive(sub, &got, SOON);
    cr_assert_eq(rc, EVBUS_OK, "evbus_receive: %d, %s", rc, evbus_message(NULL));
    return got;
}

static struct evbus_delivery receive_this(struct evbus_subscription *sub, const char *payload)
{
    struct evbus_delivery got = receive(sub);
    cr_assert_str_eq(got.payload, payload);
    return got;
}

static void nothing(struct evbus_subscription *sub)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_receive(sub, &got, 5 * MS);
    cr_assert_eq(rc, EVBUS_ETIMEOUT, "%d: %s", rc, rc == EVBUS_OK ? (const char *)got.payload : evbus_message(NULL));
}

static void done(struct evbus_subscription *sub, const struct evbus_delivery *event)
{
    int rc = evbus_finish(sub, event, EVBUS_DONE, NULL);
    cr_assert_eq(rc, EVBUS_OK, "evbus_finish: %d, %s", rc, evbus_message(NULL));
}

static void has(const char *label, const char *message, const char *fragment)
{
    cr_expect_not_null(strstr(message, fragment), "%s: it does not say \"%s\": %s", label, fragment, message);
}

struct wanted_stat {
    const char *group;
    struct evbus_group_stat stat;
    bool is_there;
};

static int keep_stat(void *context, const struct evbus_group_stat *group)
{
    struct wanted_stat *wanted = context;
    if (strcmp(group->group, wanted->group) == 0) {
        wanted->stat = *group;
        wanted->is_there = true;
    }
    return 0;
}

static struct evbus_group_stat stat_of(struct evbus *bus, const char *group)
{
    struct wanted_stat wanted = {.group = group};
    cr_assert_eq(evbus_groups(bus, keep_stat, &wanted), EVBUS_OK, "%s", evbus_message(bus));
    cr_assert(wanted.is_there, "no group %s", group);
    return wanted.stat;
}

static uint64_t takeovers_of_all(struct evbus *bus)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(bus, &stat), EVBUS_OK, "%s", evbus_message(bus));
    return stat.takeovers;
}

static bool is_group(struct evbus *bus, const char *group)
{
    struct wanted_stat wanted = {.group = group};
    cr_assert_eq(evbus_groups(bus, keep_stat, &wanted), EVBUS_OK, "%s", evbus_message(bus));
    return wanted.is_there;
}

/* The n-th letter of a group, "" where there are fewer. Lives until the next call. */
static const char *letter(struct evbus *bus, const char *group, int n)
{
    static char text[8192];
    char topic[64];
    const char *const letters[] = {topic};
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    snprintf(topic, sizeof topic, "test.dlq.%s", group);
    cr_assert_eq(evbus_reader_open(&reader, bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = letters,
                                                                  .n_patterns = 1,
                                                                  .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK);
    int rc = EVBUS_OK;
    text[0] = '\0';
    for (int i = 0; i <= n && rc == EVBUS_OK; i++)
        rc = evbus_reader_next(reader, &got, 0);
    if (rc == EVBUS_OK)
        snprintf(text, sizeof text, "%s", (const char *)got.payload);
    evbus_reader_close(reader);
    return text;
}

/* A handler that does what it is told, and remembers. */
struct told {
    struct evbus_subscription *sub;
    enum evbus_outcome outcomes[16]; /* of its n-th call; DONE behind them */
    const char *error;
    unsigned stop_after; /* calls; 0: never */
    _Atomic unsigned n;
    char payloads[64][16];
    uint32_t attempts[64];
};

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct told *told = context;
    unsigned n = atomic_fetch_add(&told->n, 1);
    if (n < N(told->payloads)) {
        snprintf(told->payloads[n], sizeof told->payloads[n], "%s", (const char *)event->payload);
        told->attempts[n] = event->attempt;
    }
    if (told->error != NULL)
        snprintf(error, EVBUS_ERROR_MAX, "%s %u", told->error, n + 1);
    if (told->stop_after != 0 && n + 1 >= told->stop_after)
        evbus_stop(told->sub);
    return n < N(told->outcomes) ? told->outcomes[n] : EVBUS_DONE;
}

/* --- what is handed over -------------------------------------------------------------------------------------------------- */

Test(subscribe, an_event_comes_as_it_was_published)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    struct evbus_receipt receipt = {.size = sizeof receipt};
    struct evbus_event event = {.size = sizeof event,
                                .topic = "test.a.two",
                                .key = "10248",
                                .payload = "{ \"n\": 1.10 }",
                                .timestamp_ns = 123456789,
                                .version_major = 2,
                                .version_minor = 3};
    cr_assert_eq(evbus_publish(f.bus, &event, &receipt), EVBUS_OK);
    struct evbus_delivery got = receive(sub);
    cr_expect_str_eq(got.topic, "test.a.two");
    cr_expect_str_eq(got.key, "10248");
    cr_expect_eq(got.key_len, 5u);
    cr_expect_str_eq(got.payload, "{ \"n\": 1.10 }");
    cr_expect_eq(got.payload_len, 13u);
    cr_expect_eq(got.timestamp_ns, 123456789u);
    cr_expect(got.version_major == 2 && got.version_minor == 3);
    cr_expect_arr_eq(got.id, receipt.id, 16);
    cr_expect_str_eq(got.log, "test.a");
    cr_expect_eq(got.position, receipt.position);
    cr_expect_eq(got.attempt, 1u);
    cr_expect_eq(got.lost, 0u);
    done(sub, &got);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* "who published it; "" when its name is no longer in memory": it is in memory. */
Test(subscribe, an_event_says_who_published_it)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    publish(f.bus, "k", "1");
    cr_expect_str_eq(receive(sub).service, "tester");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, each_event_comes_once_and_in_order)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    char payload[16];
    for (unsigned i = 0; i < 300; i++) {
        snprintf(payload, sizeof payload, "%u", i);
        publish(f.bus, i % 3 == 0 ? NULL : "k", payload);
        if (i % 2 == 0)
            continue;
        for (unsigned k = i - 1; k <= i; k++) {
            struct evbus_delivery got = receive(sub);
            cr_assert_eq(strtoul(got.payload, NULL, 10), k);
            done(sub, &got);
        }
    }
    nothing(sub);
    cr_expect_eq(stat_of(f.bus, "mailer").done, 300u);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, a_group_of_the_catalogue_has_missed_nothing_before_its_first_member)
{
    struct fixture f = bus_of(4, "64KiB", "");
    char payload[16];
    for (unsigned i = 0; i < 50; i++) {
        snprintf(payload, sizeof payload, "%u", i);
        publish_on(f.bus, i % 2 == 0 ? "test.a.one" : "test.b.one", payload, payload);
    }
    struct evbus_subscription *sub = join(f.bus, "mailer");
    bool seen[50] = {false};
    for (unsigned i = 0; i < 50; i++) {
        struct evbus_delivery got = receive(sub);
        unsigned n = (unsigned)strtoul(got.payload, NULL, 10);
        cr_expect_not(seen[n]);
        seen[n] = true;
        done(sub, &got);
    }
    nothing(sub);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, groups_do_not_see_each_other)
{
    struct fixture f = one_partition();
    struct evbus_subscription *mailer = join(f.bus, "mailer");
    struct evbus_subscription *slow = join(f.bus, "slow");
    publish_on(f.bus, "test.b.one", "k", "1");
    struct evbus_delivery a = receive_this(mailer, "1");
    struct evbus_delivery b = receive_this(slow, "1");
    cr_expect_eq(evbus_finish(slow, &b, EVBUS_REJECT, NULL), EVBUS_OK);
    done(mailer, &a);
    nothing(mailer);
    nothing(slow);
    publish(f.bus, "k", "2");
    nothing(slow); /* it has not asked for test.a */
    evbus_unsubscribe(mailer);
    evbus_unsubscribe(slow);
    fixture_end(&f);
}

Test(subscribe, the_service_is_the_group_where_none_is_named)
{
    struct fixture f = one_partition();
    struct evbus *bus = fixture_open(&f, "mailer", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub;
    cr_assert_eq(evbus_subscribe(&sub, bus, NULL), EVBUS_OK, "%s", evbus_message(bus));
    publish(f.bus, "k", "1");
    receive_this(sub, "1");
    evbus_unsubscribe(sub);
    evbus_close(bus);
    fixture_end(&f);
}

/* --- outcomes ---------------------------------------------------------------------------------------------------------------- */

Test(subscribe, three_attempts_then_a_dead_letter_with_cause_and_errors)
{
    struct fixture f = one_partition();
    struct told told = {.outcomes = {EVBUS_RETRY, EVBUS_RETRY, EVBUS_RETRY}, .error = "no connection"};
    struct evbus_subscription *sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    publish(f.bus, "k", "\"a1\"");
    publish(f.bus, "k", "\"a2\"");
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(evbus_run_once(sub, SOON), EVBUS_OK);
    cr_expect_eq(evbus_run_once(sub, 5 * MS), EVBUS_ETIMEOUT);
    for (unsigned i = 0; i < 3; i++) {
        cr_expect_str_eq(told.payloads[i], "\"a1\"");
        cr_expect_eq(told.attempts[i], i + 1);
    }
    cr_expect_str_eq(told.payloads[3], "\"a2\"");
    cr_expect_eq(told.attempts[3], 1u);
    const char *text = letter(f.bus, "mailer", 0);
    has("letter", text, "\"cause\":\"failed\"");
    has("letter", text, "\"error\":\"no connection 1\"");
    has("letter", text, "\"error\":\"no connection 2\"");
    has("letter", text, "\"error\":\"no connection 3\"");
    has("letter", text, "\"member\":\"tester\"");
    has("letter", text, "\"payload\":\"a1\"");
    cr_expect_str_eq(letter(f.bus, "mailer", 1), "");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, the_waits_are_the_catalogues)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    publish(f.bus, "k", "1");
    static const uint64_t waits_ms[] = {10, 20};
    struct evbus_delivery got = receive(sub);
    for (size_t i = 0; i < N(waits_ms); i++) {
        uint64_t before = clock_mono_ns();
        cr_assert_eq(evbus_finish(sub, &got, EVBUS_RETRY, NULL), EVBUS_OK);
        got = receive(sub);
        uint64_t waited = clock_mono_ns() - before;
        cr_expect_geq(waited, waits_ms[i] * MS * 4 / 5, "%" PRIu64 " ms", waited / MS);
        cr_expect_eq(got.attempt, i + 2);
    }
    done(sub, &got);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, a_rejected_event_is_a_dead_letter_at_once)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    publish(f.bus, "k", "1");
    struct evbus_delivery got = receive(sub);
    cr_assert_eq(evbus_finish(sub, &got, EVBUS_REJECT, "no such customer"), EVBUS_OK);
    nothing(sub);
    has("letter", letter(f.bus, "mailer", 0), "\"cause\":\"rejected\"");
    has("letter", letter(f.bus, "mailer", 0), "no such customer");
    cr_expect_eq(stat_of(f.bus, "mailer").dead_letters, 1u);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, a_released_event_comes_again_uncharged)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    publish(f.bus, "k", "1");
    for (int i = 0; i < 6; i++) {
        struct evbus_delivery got = receive(sub);
        cr_expect_eq(got.attempt, 1u);
        cr_assert_eq(evbus_finish(sub, &got, EVBUS_RELEASE, "not now"), EVBUS_OK);
    }
    struct evbus_delivery got = receive(sub);
    done(sub, &got);
    cr_expect_str_eq(letter(f.bus, "mailer", 0), "");
    cr_expect_eq(stat_of(f.bus, "mailer").redelivered, 0u);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

struct deferring {
    unsigned n;
    bool is_charged;
};

static enum evbus_outcome defer_twice(void *context, const struct evbus_delivery *event, char *error)
{
    struct deferring *seen = context;
    (void)error;
    seen->is_charged = seen->is_charged || event->attempt != 1;
    return seen->n++ < 2 ? evbus_defer(event, 3600 * S) : EVBUS_DONE;
}

Test(subscribe, a_handler_puts_an_event_off_for_as_long_as_it_says)
{
    struct fixture f = one_partition();
    struct deferring seen = {0};
    struct evbus_subscription *sub;
    cr_assert_eq(evbus_subscribe(&sub, f.bus,
                                 &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                   .group = "mailer",
                                                                   .handler = defer_twice,
                                                                   .context = &seen}),
                 EVBUS_OK);
    publish(f.bus, "k", "1");
    evbus_test_clock_freeze();
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(evbus_run_once(sub, 0), EVBUS_OK);
        evbus_test_clock_advance(f.bus, 3600 * S - 1);
        cr_assert_eq(evbus_run_once(sub, 0), EVBUS_ETIMEOUT, "too early");
        evbus_test_clock_advance(f.bus, 1);
    }
    cr_assert_eq(evbus_run_once(sub, 0), EVBUS_OK);
    cr_expect_eq(seen.n, 3u);
    cr_expect_not(seen.is_charged);
    cr_expect_eq(stat_of(f.bus, "mailer").done, 1u);
    cr_expect_eq(stat_of(f.bus, "mailer").redelivered, 0u);
    evbus_unsubscribe(sub);
    evbus_test_clock_release();
    fixture_end(&f);
}

/* [guards ORDER] */
Test(subscribe, a_failing_event_holds_its_key_and_no_other)
{
    struct fixture f = one_partition();
    struct told told = {.outcomes = {EVBUS_RETRY}};
    struct evbus_subscription *sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    static const char *const payloads[] = {"\"a1\"", "\"a2\"", "\"b1\"", "\"a3\"", "\"b2\""};
    for (size_t i = 0; i < N(payloads); i++)
        publish(f.bus, payloads[i][1] == 'a' ? "a" : "b", payloads[i]);
    evbus_test_clock_freeze();
    for (size_t i = 0; i < 6; i++) {
        if (i == 3)
            evbus_test_clock_advance(f.bus, 20 * MS);
        cr_assert_eq(evbus_run_once(sub, 0), EVBUS_OK, "%zu", i);
    }
    evbus_test_clock_release();
    static const char *const expected[] = {"\"a1\"", "\"b1\"", "\"b2\"", "\"a1\"", "\"a2\"", "\"a3\""};
    for (size_t i = 0; i < 6; i++)
        cr_expect_str_eq(told.payloads[i], expected[i], "%zu: %s", i, told.payloads[i]);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, an_outcome_that_is_none_is_a_failure)
{
    struct fixture f = one_partition();
    struct told told = {.outcomes = {(enum evbus_outcome)77}};
    struct evbus_subscription *sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    publish(f.bus, "k", "1");
    cr_assert_eq(evbus_run_once(sub, SOON), EVBUS_OK);
    cr_assert_eq(evbus_run_once(sub, SOON), EVBUS_OK);
    cr_expect_eq(told.attempts[1], 2u);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

static enum evbus_outcome fill_the_error(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    (void)event;
    memset(error, 'e', EVBUS_ERROR_MAX);
    return EVBUS_REJECT;
}

Test(subscribe, an_error_text_of_512_bytes_is_kept)
{
    struct fixture f = one_partition();
    char longest[EVBUS_ERROR_MAX + 1];
    memset(longest, 'e', EVBUS_ERROR_MAX);
    longest[EVBUS_ERROR_MAX] = '\0';
    struct evbus_subscription *sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = fill_the_error});
    publish(f.bus, "k", "1");
    cr_assert_eq(evbus_run_once(sub, SOON), EVBUS_OK);
    cr_expect_eq(evbus_run_once(sub, 5 * MS), EVBUS_ETIMEOUT);
    has("letter", letter(f.bus, "mailer", 0), longest);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

static enum evbus_outcome publish_on_c(void *context, const struct evbus_delivery *event, char *error)
{
    (void)error;
    struct evbus_event next = {.topic = "test.c.one", .key = event->key, .payload = event->payload};
    return evbus_publish(context, &next, NULL) == EVBUS_OK ? EVBUS_DONE : EVBUS_REJECT;
}

Test(subscribe, a_handler_may_publish)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = publish_on_c, .context = f.bus});
    struct evbus_reader *reader;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    publish(f.bus, "k", "1");
    cr_assert_eq(evbus_run_once(sub, SOON), EVBUS_OK);
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_next(reader, &got, SOON), EVBUS_OK);
    cr_assert_eq(evbus_reader_next(reader, &got, SOON), EVBUS_OK);
    evbus_reader_close(reader);
    cr_expect_eq(stat_of(f.bus, "mailer").done, 1u);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* --- several in flight --------------------------------------------------------------------------------------------------- */

/* [guards ORDER] */
Test(subscribe, sixty_four_of_a_partition_may_be_in_hand_and_never_two_of_one_key)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    struct evbus_delivery in_hand[64];
    char key[8];
    for (int i = 0; i < 70; i++) {
        snprintf(key, sizeof key, "%d", i);
        publish(f.bus, key, "1");
        publish(f.bus, key, "2");
    }
    for (int i = 0; i < 64; i++) {
        in_hand[i] = receive_this(sub, "1");
        for (int k = 0; k < i; k++)
            cr_expect_str_neq(in_hand[i].key, in_hand[k].key);
    }
    nothing(sub);
    for (int i = 63; i >= 0; i--)
        done(sub, &in_hand[i]);
    for (int i = 64; i < 140; i++) {
        struct evbus_delivery got = receive(sub);
        done(sub, &got);
    }
    nothing(sub);
    cr_expect_eq(stat_of(f.bus, "mailer").done, 140u);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, finishing_twice_is_refused)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    publish(f.bus, "a", "1");
    struct evbus_delivery got = receive(sub);
    done(sub, &got);
    cr_expect_eq(evbus_finish(sub, &got, EVBUS_DONE, NULL), EVBUS_EINVAL);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* The pointers of a delivery end with its finish; the next event may live in the same place. */
Test(subscribe, a_second_finish_finishes_no_other_event)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    publish(f.bus, "a", "1");
    publish(f.bus, "b", "2");
    struct evbus_delivery first = receive_this(sub, "1");
    done(sub, &first);
    struct evbus_delivery second = receive_this(sub, "2");
    cr_expect_eq(evbus_finish(sub, &first, EVBUS_DONE, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_finish(sub, &second, EVBUS_DONE, NULL), EVBUS_OK, "it was taken for finished: it is lost");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, arguments_that_make_no_sense_are_named)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    struct evbus_delivery got = {.size = sizeof got};
    static const char *const bad[] = {"test..one"};
    static const char *const none[] = {NULL};
    static const char *const nowhere[] = {"test.x.*"};
    static const char *const letters[] = {"test.dlq.*"};
    cr_expect_eq(evbus_subscribe(NULL, f.bus, NULL), EVBUS_EINVAL);
    cr_expect_eq(subscribe(NULL, (struct evbus_subscribe_options){.group = "mailer"}), EVBUS_EINVAL);
    cr_expect_eq(subscribe(f.bus, (struct evbus_subscribe_options){.group = ""}), EVBUS_EINVAL);
    cr_expect_eq(subscribe(f.bus, (struct evbus_subscribe_options){.group = "Mailer"}), EVBUS_EINVAL);
    has("name", evbus_message(f.bus), "Mailer");
    cr_expect_eq(subscribe(f.bus, (struct evbus_subscribe_options){.group = "mailer", .from = 9}), EVBUS_EINVAL);
    cr_expect_eq(subscribe(f.bus, (struct evbus_subscribe_options){.group = "new"}), EVBUS_ENOTFOUND);
    has("no group", evbus_message(f.bus), "new");
    cr_expect_eq(subscribe(f.bus, (struct evbus_subscribe_options){.group = "new", .patterns = bad, .n_patterns = 1}),
                 EVBUS_EINVAL);
    cr_expect_eq(subscribe(f.bus, (struct evbus_subscribe_options){.group = "new", .patterns = none, .n_patterns = 1}),
                 EVBUS_EINVAL);
    cr_expect_eq(
        subscribe(f.bus, (struct evbus_subscribe_options){.group = "new", .patterns = nowhere, .n_patterns = 1}),
        EVBUS_ENOTFOUND);
    has("pattern", evbus_message(f.bus), "test.x.*");
    cr_expect_eq(
        subscribe(f.bus, (struct evbus_subscribe_options){.group = "new", .patterns = letters, .n_patterns = 1}),
        EVBUS_ENOTFOUND, "the bus's own logs are nobody's to consume");
    cr_expect_not(is_group(f.bus, "new"));
    cr_expect_eq(evbus_run(sub, NULL), EVBUS_EINVAL, "no handler");
    cr_expect_eq(evbus_run_once(sub, 0), EVBUS_EINVAL);
    cr_expect_eq(evbus_run(NULL, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_receive(NULL, &got, 0), EVBUS_EINVAL);
    cr_expect_eq(evbus_receive(sub, NULL, 0), EVBUS_EINVAL);
    cr_expect_eq(evbus_finish(sub, NULL, EVBUS_DONE, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_finish(sub, &got, EVBUS_DONE, NULL), EVBUS_EINVAL, "it came from nowhere");
    publish(f.bus, "k", "1");
    got = receive(sub);
    cr_expect_eq(evbus_finish(sub, &got, (enum evbus_outcome)5, NULL), EVBUS_EINVAL);
    done(sub, &got);
    evbus_unsubscribe(sub);
    evbus_unsubscribe(NULL);
    fixture_end(&f);
}

Test(subscribe, a_handler_is_run_by_at_most_64_threads)
{
    struct fixture f = one_partition();
    struct told told = {0};
    struct evbus_subscription *sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    cr_expect_eq(evbus_run(sub, &(struct evbus_run_options){.size = sizeof(struct evbus_run_options), .threads = 65}),
                 EVBUS_EINVAL);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* --- run and stop ------------------------------------------------------------------------------------------------------- */

static void *run_member(void *context)
{
    struct told *told = context;
    return (void *)(intptr_t)evbus_run(told->sub, NULL);
}

Test(subscribe, run_ends_when_another_thread_says_stop)
{
    struct fixture f = one_partition();
    struct told told = {0};
    pthread_t thread;
    void *rc;
    told.sub = join_with(f.bus,
                         (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    for (int i = 0; i < 3; i++) { /* and may be called again */
        unsigned before = atomic_load(&told.n);
        cr_assert_eq(pthread_create(&thread, NULL, run_member, &told), 0);
        publish(f.bus, "k", "1");
        cr_expect(await_that(atomic_load(&told.n) > before));
        evbus_stop(told.sub);
        pthread_join(thread, &rc);
        cr_expect_eq((intptr_t)rc, EVBUS_OK);
    }
    evbus_unsubscribe(told.sub);
    fixture_end(&f);
}

/* Handlers that return when they are let go. */
struct held {
    struct evbus_subscription *sub;
    uint64_t stop_timeout_ns;
    _Atomic unsigned n_begun;
    _Atomic bool may_go;
    int rc;
};

static enum evbus_outcome handle_until_let_go(void *context, const struct evbus_delivery *event, char *error)
{
    struct held *held = context;
    (void)event;
    (void)error;
    atomic_fetch_add(&held->n_begun, 1);
    while (!atomic_load(&held->may_go))
        await_pause();
    return EVBUS_DONE;
}

static void *run_three(void *context)
{
    struct held *held = context;
    held->rc = evbus_run(held->sub, &(struct evbus_run_options){.size = sizeof(struct evbus_run_options),
                                                                .threads = 4,
                                                                .stop_timeout_ns = held->stop_timeout_ns});
    return NULL;
}

/* Three events in handlers, and stopped. */
static pthread_t stop_in_handlers(struct fixture *f, struct held *held)
{
    pthread_t thread;
    held->sub = join_with(
        f->bus, (struct evbus_subscribe_options){.group = "mailer", .handler = handle_until_let_go, .context = held});
    publish(f->bus, "a", "1");
    publish(f->bus, "b", "2");
    publish(f->bus, "c", "3");
    publish(f->bus, "d", "4");
    cr_assert_eq(pthread_create(&thread, NULL, run_three, held), 0);
    cr_assert(await_that(atomic_load(&held->n_begun) == 3));
    evbus_stop(held->sub);
    return thread;
}

Test(subscribe, run_finishes_what_its_handlers_have_and_begins_nothing_more)
{
    struct fixture f = one_partition();
    struct held held = {0};
    pthread_t thread = stop_in_handlers(&f, &held);
    atomic_store(&held.may_go, true);
    pthread_join(thread, NULL);
    cr_expect_eq(held.rc, EVBUS_OK);
    cr_expect_eq(atomic_load(&held.n_begun), 3u);
    cr_expect_eq(stat_of(f.bus, "mailer").done, 3u);
    evbus_unsubscribe(held.sub);
    fixture_end(&f);
}

Test(subscribe, run_leaves_handlers_that_take_too_long_and_others_have_their_events_at_once)
{
    struct fixture f = one_partition();
    struct held held = {.stop_timeout_ns = 20 * MS};
    pthread_t thread = stop_in_handlers(&f, &held);
    pthread_join(thread, NULL);
    cr_expect_eq(held.rc, EVBUS_ETIMEOUT);
    struct evbus_group_stat stat = stat_of(f.bus, "mailer");
    cr_expect(stat.n_members == 0 && stat.n_running == 0 && stat.n_waiting == 3 && stat.attempts_max == 0);
    cr_expect_eq(evbus_run(held.sub, NULL), EVBUS_EBUSY, "its handlers still run");
    struct evbus_subscription *other = join(f.bus, "mailer");
    for (unsigned i = 0; i < 4; i++) {
        struct evbus_delivery got = receive(other);
        cr_expect_eq(got.attempt, 1u, "%s", (const char *)got.payload);
        done(other, &got);
    }
    atomic_store(&held.may_go, true);
    evbus_unsubscribe(held.sub); /* waits for them */
    stat = stat_of(f.bus, "mailer");
    cr_expect_eq(stat.done, 4u, "what a handler says too late changes nothing: %" PRIu64, stat.done);
    cr_expect_eq(stat.redelivered, 0u);
    cr_expect_eq(stat.n_pending, 0u);
    evbus_unsubscribe(other);
    fixture_end(&f);
}

Test(subscribe, who_leaves_releases_what_was_received_and_not_finished)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    publish(f.bus, "a", "1");
    publish(f.bus, "b", "2");
    receive_this(sub, "1");
    receive_this(sub, "2");
    evbus_unsubscribe(sub);
    struct evbus_group_stat stat = stat_of(f.bus, "mailer");
    cr_expect(stat.n_waiting == 2 && stat.attempts_max == 0);
    sub = join(f.bus, "mailer");
    for (unsigned i = 0; i < 2; i++) {
        struct evbus_delivery got = receive(sub);
        cr_expect_eq(got.attempt, 1u);
        done(sub, &got);
    }
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, run_ends_when_its_handler_says_stop)
{
    struct fixture f = one_partition();
    struct told told = {.stop_after = 2};
    told.sub = join_with(f.bus,
                         (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    for (int i = 0; i < 5; i++)
        publish(f.bus, "k", "1");
    cr_expect_eq(evbus_run(told.sub, NULL), EVBUS_OK);
    cr_expect_eq(atomic_load(&told.n), 2u);
    cr_expect_eq(stat_of(f.bus, "mailer").done, 2u, "what was in the handler is finished");
    evbus_unsubscribe(told.sub);
    fixture_end(&f);
}

/* What stands there is handled in a row, each finish taking the next event along. */
static struct told run_all(const char *const *payloads, size_t n, struct told told, struct fixture *f)
{
    told.sub = join_with(f->bus,
                         (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    for (size_t i = 0; i < n; i++) {
        char payload[16];
        char key[2] = {payloads[i][0], '\0'};
        snprintf(payload, sizeof payload, "\"%s\"", payloads[i]);
        publish(f->bus, key, payload);
    }
    cr_assert_eq(evbus_run(told.sub, NULL), EVBUS_OK, "%s", evbus_message(f->bus));
    nothing(told.sub);
    evbus_unsubscribe(told.sub);
    return told;
}

/* [guards ORDER] More than a turn of one partition, and more than a round. */
Test(subscribe, run_handles_what_is_there_in_order_and_once)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub;
    struct told told = {.stop_after = 200};
    sub = told.sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    for (unsigned i = 0; i < 200; i++) {
        char payload[16];
        snprintf(payload, sizeof payload, "%u", i);
        publish(f.bus, i % 3 == 0 ? "a" : "b", payload);
    }
    cr_expect_eq(evbus_run(sub, NULL), EVBUS_OK);
    nothing(sub);
    cr_expect_eq(atomic_load(&told.n), 200u);
    for (unsigned i = 0; i < N(told.payloads); i++)
        cr_expect(strtoul(told.payloads[i], NULL, 10) == i && told.attempts[i] == 1, "%u: %s", i, told.payloads[i]);
    cr_expect_eq(stat_of(f.bus, "mailer").done, 200u);
    cr_expect_eq(stat_of(f.bus, "mailer").redelivered, 0u);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* [guards ORDER] The third has another outcome. */
Test(subscribe, run_goes_on_behind_whatever_outcome)
{
    static const char *const payloads[] = {"a1", "b1", "c1", "c2", "d1"};
    static const struct {
        enum evbus_outcome outcome;
        uint32_t attempt; /* when it comes again; 0: it does not */
        uint64_t failed;
    } rows[] = {{EVBUS_RETRY, 2, 1}, {EVBUS_RELEASE, 1, 0}, {EVBUS_REJECT, 0, 0}};
    for (size_t i = 0; i < N(rows); i++) {
        struct fixture f = one_partition();
        unsigned n = rows[i].attempt != 0 ? 6 : 5;
        struct told told = run_all(payloads, N(payloads),
                                   (struct told){.outcomes = {[2] = rows[i].outcome}, .stop_after = n}, &f);
        unsigned at = 0; /* c1's last, before c2 */
        for (unsigned k = 0; k < n; k++)
            at = strcmp(told.payloads[k], "\"c1\"") == 0 ? k : at;
        cr_expect_str_eq(told.payloads[2], "\"c1\"");
        cr_expect_eq(told.attempts[at], rows[i].attempt != 0 ? rows[i].attempt : 1, "%zu", i);
        cr_expect_str_eq(told.payloads[at == 2 ? 3 : at + 1], "\"c2\"", "%zu", i);
        cr_expect_eq(stat_of(f.bus, "mailer").done, rows[i].attempt != 0 ? 5u : 4u);
        cr_expect_eq(stat_of(f.bus, "mailer").attempts_failed[EVBUS_CAUSE_FAILED], rows[i].failed);
        cr_expect_eq(letter(f.bus, "mailer", 0)[0] != '\0', rows[i].attempt == 0, "%zu", i);
        fixture_end(&f);
    }
}

static struct evbus_subscription *to_stop;

static void on_alarm(int number)
{
    (void)number;
    evbus_stop(to_stop);
}

Test(subscribe, run_ends_when_a_signal_handler_says_stop)
{
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        struct fixture f = one_partition();
        struct told told = {0};
        struct sigaction action = {.sa_handler = on_alarm};
        sigaction(SIGALRM, &action, NULL);
        to_stop = told.sub = join_with(
            f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
        setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_usec = 30000}}, NULL); /* asleep by then */
        uint64_t before = await_now_ms();
        struct evbus_run_options options = {.size = sizeof options, .threads = threads};
        cr_expect_eq(evbus_run(told.sub, &options), EVBUS_OK);
        cr_expect_lt(await_now_ms() - before, 5000u);
        evbus_unsubscribe(told.sub);
        fixture_end(&f);
    }
}

/* Handlers that are in it at the same time. */
struct crowd {
    struct evbus_subscription *sub;
    _Atomic int n_inside;
    _Atomic int n_most;
    _Atomic int of_key[16];
    _Atomic unsigned n;
    _Atomic unsigned last[16]; /* payload, of each key */
    _Atomic unsigned n_wrong;
    unsigned stop_after;
};

static enum evbus_outcome handle_together(void *context, const struct evbus_delivery *event, char *error)
{
    struct crowd *crowd = context;
    (void)error;
    unsigned key = (unsigned)strtoul(event->key, NULL, 10) % 16;
    unsigned number = (unsigned)strtoul(event->payload, NULL, 10);
    int inside = atomic_fetch_add(&crowd->n_inside, 1) + 1;
    for (int most = atomic_load(&crowd->n_most);
         most < inside && !atomic_compare_exchange_weak(&crowd->n_most, &most, inside);) {
    }
    if (atomic_fetch_add(&crowd->of_key[key], 1) != 0 || number <= atomic_load(&crowd->last[key]))
        atomic_fetch_add(&crowd->n_wrong, 1);
    atomic_store(&crowd->last[key], number);
    await_pause();
    atomic_fetch_sub(&crowd->of_key[key], 1);
    atomic_fetch_sub(&crowd->n_inside, 1);
    if (atomic_fetch_add(&crowd->n, 1) + 1 == crowd->stop_after)
        evbus_stop(crowd->sub);
    return EVBUS_DONE;
}

/* [guards ORDER] */
Test(subscribe, threads_handle_side_by_side_and_in_order_per_key)
{
    struct fixture f = bus_of(2, "64KiB", "");
    struct crowd crowd = {.stop_after = 400};
    char key[8];
    char payload[8];
    crowd.sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = handle_together, .context = &crowd});
    for (unsigned i = 1; i <= 400; i++) {
        snprintf(key, sizeof key, "%u", i % 16);
        snprintf(payload, sizeof payload, "%u", i);
        publish(f.bus, key, payload);
    }
    cr_assert_eq(
        evbus_run(crowd.sub, &(struct evbus_run_options){.size = sizeof(struct evbus_run_options), .threads = 5}),
        EVBUS_OK);
    cr_expect_eq(atomic_load(&crowd.n), 400u);
    cr_expect_eq(atomic_load(&crowd.n_wrong), 0u);
    cr_expect(atomic_load(&crowd.n_most) > 1 && atomic_load(&crowd.n_most) <= 4, "%d at once",
              atomic_load(&crowd.n_most));
    cr_expect_eq(stat_of(f.bus, "mailer").done, 400u);
    evbus_unsubscribe(crowd.sub);
    fixture_end(&f);
}

Test(subscribe, a_sleeping_member_is_woken_by_an_event)
{
    struct fixture f = one_partition();
    struct told told = {0};
    pthread_t thread;
    told.sub = join_with(f.bus,
                         (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    cr_assert_eq(pthread_create(&thread, NULL, run_member, &told), 0);
    const struct memory *memory = &f.bus->memory;
    const struct log_head *head = memory->logs[0].head;
    uint32_t slots[MEMBERS_MAX];
    unsigned n_rung = 0;
    for (unsigned i = 1; i <= 10; i++) {
        cr_assert(await_that(atomic_load(&head->sleeping[0]) != 0));
        cr_assert_eq(group_members(memory, group_find(memory, "mailer"), slots), 1u);
        uint32_t bell = doorbell_read(&memory->control->slots[slots[0]]);
        publish(f.bus, "k", "1");
        n_rung += doorbell_read(&memory->control->slots[slots[0]]) != bell;
        cr_expect(await_that(atomic_load(&told.n) == i));
    }
    cr_expect_geq(n_rung, 1u, "it was never woken, it always looked by itself"); /* a busy machine may wake it first */
    evbus_stop(told.sub);
    pthread_join(thread, NULL);
    evbus_unsubscribe(told.sub);
    fixture_end(&f);
}

/* --- ad hoc groups -------------------------------------------------------------------------------------------------------- */

Test(subscribe, an_ad_hoc_group_starts_where_it_is_asked_to_and_stays)
{
    static const struct {
        const char *label;
        enum evbus_from from;
        uint64_t time_ns;
        const char *expected;
    } rows[] = {
        {"latest", EVBUS_FROM_LATEST, 0, "9"},
        {"earliest", EVBUS_FROM_EARLIEST, 0, "0"},
        {"a time", EVBUS_FROM_TIME, 300, "2"},
        {"a time that is none's", EVBUS_FROM_TIME, 301, "3"},
        {"a time after all", EVBUS_FROM_TIME, UINT64_MAX / 2, "9"},
    };
    static const char *const one[] = {"test.a.*"};
    struct fixture f = one_partition();
    char payload[2] = "0";
    for (unsigned i = 0; i < 5; i++, payload[0]++)
        cr_assert_eq(
            evbus_publish(f.bus,
                          &(struct evbus_event){
                              .topic = "test.a.one", .key = "k", .payload = payload, .timestamp_ns = 100 * (i + 1)},
                          NULL),
            EVBUS_OK);
    struct evbus_subscription *subs[N(rows)];
    char name[16];
    for (size_t i = 0; i < N(rows); i++) {
        snprintf(name, sizeof name, "adhoc-%zu", i);
        subs[i] = join_with(f.bus, (struct evbus_subscribe_options){.group = name,
                                                                    .patterns = one,
                                                                    .n_patterns = 1,
                                                                    .from = rows[i].from,
                                                                    .from_time_ns = rows[i].time_ns});
    }
    publish_on(f.bus, "test.b.one", "k", "\"not asked for\"");
    publish(f.bus, "k", "9");
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_delivery got = receive(subs[i]);
        cr_expect_str_eq(got.payload, rows[i].expected, "%s: %s", rows[i].label, (const char *)got.payload);
        snprintf(name, sizeof name, "adhoc-%zu", i);
        cr_expect(stat_of(f.bus, name).is_ad_hoc);
        cr_expect_not(stat_of(f.bus, name).is_ephemeral);
        evbus_unsubscribe(subs[i]);
        cr_expect(is_group(f.bus, name), "it stays without members");
    }
    cr_expect_not(stat_of(f.bus, "mailer").is_ad_hoc);
    fixture_end(&f);
}

Test(subscribe, an_ephemeral_group_ends_with_its_last_member)
{
    static const char *const all[] = {"test.**"};
    struct fixture f = one_partition();
    struct evbus *other = fixture_open(&f, "other", EVBUS_KEEPER_NEVER);
    struct evbus_subscribe_options options = {.group = "watch", .patterns = all, .n_patterns = 1, .ephemeral = true};
    struct evbus_subscription *a = join_with(f.bus, options);
    struct evbus_subscription *b = join_with(other, options);
    cr_expect(stat_of(f.bus, "watch").is_ephemeral);
    cr_expect_eq(stat_of(f.bus, "watch").n_members, 2u);
    evbus_unsubscribe(a);
    cr_expect(is_group(f.bus, "watch"));
    evbus_unsubscribe(b);
    cr_expect_not(is_group(f.bus, "watch"));
    a = join_with(f.bus, (struct evbus_subscribe_options){.group = "mailer", .ephemeral = true});
    evbus_unsubscribe(a);
    cr_expect(is_group(f.bus, "mailer"), "one that was there is not ephemeral");
    evbus_close(other);
    fixture_end(&f);
}

Test(subscribe, patterns_that_cover_a_log_in_part_are_refused_by_name)
{
    static const char *const part[] = {"test.a.one"};
    static const char *const whole[] = {"test.a.*"};
    static const char *const foreign[] = {"test.c.one"};
    static const char *const mixed[] = {"test.b.*", "test.a.two"};
    struct fixture f = one_partition();
    cr_expect_eq(
        subscribe(f.bus, (struct evbus_subscribe_options){.group = "mailer", .patterns = part, .n_patterns = 1}),
        EVBUS_EINVAL);
    has("one", evbus_message(f.bus), "test.a.two");
    cr_expect_eq(
        subscribe(f.bus, (struct evbus_subscribe_options){.group = "mailer", .patterns = mixed, .n_patterns = 2}),
        EVBUS_EINVAL);
    has("two", evbus_message(f.bus), "test.a.one");
    cr_expect_eq(
        subscribe(f.bus, (struct evbus_subscribe_options){.group = "mailer", .patterns = foreign, .n_patterns = 1}),
        EVBUS_EINVAL, "it receives none of these");
    cr_expect_eq(stat_of(f.bus, "mailer").n_members, 0u);
    struct evbus_subscription *sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .patterns = whole, .n_patterns = 1});
    publish_on(f.bus, "test.b.one", "k", "\"another member's\"");
    publish_on(f.bus, "test.a.two", "k", "\"ours\"");
    struct evbus_delivery got = receive_this(sub, "\"ours\"");
    done(sub, &got);
    nothing(sub);
    struct evbus *other = fixture_open(&f, "other", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *rest = join(other, "mailer");
    receive_this(rest, "\"another member's\"");
    evbus_unsubscribe(rest);
    evbus_unsubscribe(sub);
    evbus_close(other);
    fixture_end(&f);
}

/* --- several members --------------------------------------------------------------------------------------------------------- */

static unsigned n_held(struct evbus *bus, const char *group, uint32_t log)
{
    const struct memory_log *found = &bus->memory.logs[log];
    struct bus_thread *thread;
    unsigned n = 0;
    cr_assert_eq(bus_thread(bus, &thread, NULL), EVBUS_OK);
    for (uint32_t p = 0; p < found->n_partitions; p++)
        n += lease_holder(memory_part(found, p, group_find(&bus->memory, group))) == thread->claim.slot;
    return n;
}

static void settle(struct evbus_subscription **subs, size_t n)
{
    struct evbus_delivery got = {.size = sizeof got};
    for (int round = 0; round < 4; round++)
        for (size_t i = 0; i < n; i++)
            cr_assert_eq(evbus_receive(subs[i], &got, 0), EVBUS_ETIMEOUT);
}

/* [guards ONE-HOLDER] */
Test(subscribe, members_share_the_partitions_fairly)
{
    struct fixture f = bus_of(8, "16KiB", "");
    struct evbus *buses[4] = {f.bus};
    struct evbus_subscription *subs[4];
    for (size_t i = 0; i < 4; i++) {
        if (i > 0)
            buses[i] = fixture_open(&f, "member", EVBUS_KEEPER_NEVER);
        subs[i] = join(buses[i], "mailer");
        settle(subs, i + 1);
        for (size_t k = 0; k <= i; k++) {
            unsigned n = n_held(buses[k], "mailer", 0) + n_held(buses[k], "mailer", 1);
            cr_expect(n >= 16 / (i + 1) && n <= 16 / (i + 1) + 1, "%zu of %zu has %u of 16", k, i + 1, n);
        }
    }
    evbus_unsubscribe(subs[1]);
    subs[1] = subs[3];
    settle(subs, 3);
    cr_expect_eq(n_held(buses[1], "mailer", 0), 0u);
    for (size_t k = 0; k < 4; k++)
        if (k != 1) {
            unsigned n = n_held(buses[k], "mailer", 0) + n_held(buses[k], "mailer", 1);
            cr_expect(n >= 5 && n <= 6, "%zu has %u of 16", k, n);
        }
    cr_expect_eq(stat_of(f.bus, "mailer").takeovers, 0u, "each was given");
    for (size_t i = 0; i < 3; i++)
        evbus_unsubscribe(subs[i]);
    for (size_t i = 1; i < 4; i++)
        evbus_close(buses[i]);
    fixture_end(&f);
}

/* [guards ONE-HOLDER] */
Test(subscribe, a_partition_changes_hands_between_two_events)
{
    struct fixture f = one_partition();
    struct evbus *other = fixture_open(&f, "other", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *a = join(f.bus, "mailer");
    struct evbus_subscription *b = NULL;
    publish(f.bus, "k", "1");
    publish(f.bus, "k", "2");
    publish(f.bus, "l", "3");
    struct evbus_delivery first = receive_this(a, "1");
    b = join(other, "mailer");
    evbus_unsubscribe(a); /* leaves while it has one in hand: it is released */
    char came[4] = "";
    for (int i = 0; i < 3; i++) { /* what was released waits: "3" comes before it, or behind it where all is slow */
        struct evbus_delivery got = receive(b);
        came[i] = ((const char *)got.payload)[0];
        cr_expect_eq(got.attempt, 1u, "%s: released, not failed", (const char *)got.payload);
        done(b, &got);
    }
    cr_expect(strchr(came, '2') > strchr(came, '1') && strchr(came, '3') != NULL, "\"%s\": 2 waits behind 1", came);
    (void)first;
    evbus_unsubscribe(b);
    evbus_close(other);
    fixture_end(&f);
}

/* One member has always something of the partition in hand, as several threads have under load; the other is due to have it. */
Test(subscribe, a_member_that_is_never_idle_hands_over_too)
{
    struct fixture f = one_partition();
    struct evbus *other = fixture_open(&f, "other", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *a = join(f.bus, "mailer");
    struct evbus_delivery in_hand[2];
    struct evbus_delivery got = {.size = sizeof got};
    char key[8];
    unsigned n = 0;
    for (; n < 4; n++) {
        snprintf(key, sizeof key, "%u", n);
        publish_on(f.bus, "test.b.one", key, "1");
    }
    in_hand[0] = receive(a);
    struct evbus_subscription *b = join(other, "mailer"); /* of two partitions the second, test.b's, is due to it */
    for (; n < 500; n++) {
        snprintf(key, sizeof key, "%u", n);
        publish_on(f.bus, "test.b.one", key, "1");
        in_hand[1].size = sizeof in_hand[1];
        if (evbus_receive(a, &in_hand[1], 0) != EVBUS_OK)
            break;
        done(a, &in_hand[0]);
        in_hand[0] = in_hand[1];
        cr_expect_eq(evbus_receive(b, &got, 0), EVBUS_ETIMEOUT, "while another holds it");
    }
    cr_expect_lt(n, 500u, "it takes on and on");
    done(a, &in_hand[0]);
    cr_assert_eq(evbus_receive(a, &got, 0), EVBUS_ETIMEOUT);
    got = receive(b);
    done(b, &got);
    evbus_unsubscribe(a);
    evbus_unsubscribe(b);
    evbus_close(other);
    fixture_end(&f);
}

/* [guards ORDER] [guards ONE-HOLDER] */
Test(subscribe, members_in_threads_lose_nothing_and_keep_the_order_per_key)
{
    struct fixture f = bus_of(4, "16KiB", "");
    struct crowd crowd = {0};
    struct evbus *buses[3];
    struct told members[3];
    pthread_t threads[3];
    char key[8];
    char payload[8];
    for (int i = 0; i < 3; i++) {
        buses[i] = fixture_open(&f, "member", EVBUS_KEEPER_NEVER);
        members[i].sub = join_with(buses[i], (struct evbus_subscribe_options){
                                                 .group = "mailer", .handler = handle_together, .context = &crowd});
        cr_assert_eq(pthread_create(&threads[i], NULL, run_member, &members[i]), 0);
    }
    unsigned n = getenv("EVBUS_QUICK") != NULL ? 400 : 2000;
    for (unsigned i = 1; i <= n; i++) {
        snprintf(key, sizeof key, "%u", i % 16);
        snprintf(payload, sizeof payload, "%u", i);
        publish(f.bus, key, payload);
    }
    cr_expect(await_that(atomic_load(&crowd.n) == n), "%u of %u", atomic_load(&crowd.n), n);
    cr_expect_eq(atomic_load(&crowd.n_wrong), 0u);
    for (int i = 0; i < 3; i++) {
        evbus_stop(members[i].sub);
        pthread_join(threads[i], NULL);
    }
    cr_expect_eq(stat_of(f.bus, "mailer").done, n);
    for (int i = 0; i < 3; i++) {
        evbus_unsubscribe(members[i].sub);
        evbus_close(buses[i]);
    }
    fixture_end(&f);
}

/* --- the thread changes ------------------------------------------------------------------------------------------------------ */

static void *receive_elsewhere(void *context)
{
    struct evbus_delivery *out = context;
    struct evbus_subscription *sub = out->token;
    for (int i = 0; i < 2; i++) {
        out[i] = (struct evbus_delivery){.size = sizeof *out};
        if (evbus_receive(sub, &out[i], SOON) != EVBUS_OK)
            return NULL;
    }
    return out;
}

/* "the subscription is used by one thread at a time": another one goes on when nothing is in hand any more. */
Test(subscribe, what_one_thread_received_another_may_finish_before_it_goes_on)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    pthread_t thread;
    struct evbus_delivery got[2] = {{.token = sub}};
    struct evbus_delivery third = {.size = sizeof third};
    void *rc;
    publish(f.bus, "a", "1");
    publish(f.bus, "b", "2");
    publish(f.bus, "c", "3");
    cr_assert_eq(pthread_create(&thread, NULL, receive_elsewhere, got), 0);
    cr_assert_eq(pthread_join(thread, &rc), 0);
    cr_assert_not_null(rc);
    int taken = evbus_receive(sub, &third, 0); /* nobody is given what is in hand, nor loses it */
    cr_expect(taken == EVBUS_EBUSY || taken == EVBUS_OK, "%d: %s", taken, evbus_message(f.bus));
    for (int i = 0; i < 2; i++)
        cr_expect_eq(evbus_finish(sub, &got[i], EVBUS_DONE, NULL), EVBUS_OK, "%d: %s", i, evbus_message(f.bus));
    if (taken != EVBUS_OK)
        third = receive(sub);
    cr_expect_str_eq(third.payload, "3");
    done(sub, &third);
    nothing(sub);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* --- a group is removed ---------------------------------------------------------------------------------------------------------- */

Test(subscribe, members_of_a_group_that_is_removed_are_told)
{
    struct fixture f = one_partition();
    struct told told = {0};
    pthread_t thread;
    void *rc;
    told.sub = join_with(f.bus,
                         (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    cr_assert_eq(pthread_create(&thread, NULL, run_member, &told), 0);
    publish(f.bus, "k", "1");
    cr_assert(await_that(atomic_load(&told.n) == 1));
    cr_assert_eq(evbus_group_remove(f.bus, "mailer"), EVBUS_OK);
    pthread_join(thread, &rc);
    cr_expect_eq((intptr_t)rc, EVBUS_ENOTFOUND);
    struct evbus_delivery got = {.size = sizeof got};
    cr_expect_eq(evbus_receive(told.sub, &got, 0), EVBUS_ENOTFOUND);
    has("message", evbus_message(f.bus), "mailer");
    cr_expect_eq(evbus_run_once(told.sub, SOON), EVBUS_ENOTFOUND);
    cr_expect_eq(evbus_group_remove(f.bus, "mailer"), EVBUS_ENOTFOUND);
    evbus_unsubscribe(told.sub);
    fixture_end(&f);
}

Test(subscribe, who_leaves_a_removed_group_does_not_leave_the_next_of_its_name)
{
    static const char *const one[] = {"test.a.*"};
    struct evbus_subscribe_options options = {.group = "adhoc", .patterns = one, .n_patterns = 1, .ephemeral = true};
    struct fixture f = one_partition();
    struct evbus_subscription *old = join_with(f.bus, options);
    publish(f.bus, "k", "\"old\"");
    struct evbus_delivery in_hand = receive_this(old, "\"old\"");
    cr_assert_eq(evbus_group_remove(f.bus, "adhoc"), EVBUS_OK);
    struct evbus_subscription *sub = join_with(f.bus, options);
    struct evbus_delivery got = {.size = sizeof got};
    cr_expect_eq(evbus_receive(old, &got, 0), EVBUS_ENOTFOUND, "its group was removed");
    cr_expect_neq(evbus_finish(old, &in_hand, EVBUS_DONE, NULL), EVBUS_OK);
    evbus_unsubscribe(old);
    cr_expect(is_group(f.bus, "adhoc"), "it has a member");
    publish(f.bus, "k", "\"new\"");
    int rc = evbus_receive(sub, &got, SOON);
    cr_expect_eq(rc, EVBUS_OK, "%d: %s", rc, evbus_message(f.bus));
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, two_subscriptions_of_one_thread_are_two_members)
{
    struct fixture f = bus_of(4, "16KiB", "");
    struct evbus_subscription *a = join(f.bus, "mailer");
    struct evbus_subscription *b = join(f.bus, "mailer");
    char key[8];
    for (unsigned i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "%u", i);
        publish(f.bus, key, "1");
    }
    struct evbus_delivery got = {.size = sizeof got};
    unsigned n_a = 0, n_b = 0;
    for (unsigned i = 0; i < 400 && n_a + n_b < 40; i++) {
        struct evbus_subscription *sub = i % 2 == 0 ? a : b;
        if (evbus_receive(sub, &got, 0) == EVBUS_OK) {
            done(sub, &got);
            *(sub == a ? &n_a : &n_b) += 1;
        }
    }
    cr_expect_eq(n_a + n_b, 40u, "%u + %u", n_a, n_b);
    evbus_unsubscribe(a);
    publish(f.bus, "k", "\"last\"");
    receive_this(b, "\"last\"");
    evbus_unsubscribe(b);
    fixture_end(&f);
}

/* --- a handler that takes too long ---------------------------------------------------------------------------------------- */

/* [guards ONE-HOLDER] [P8] */
Test(subscribe, a_finish_that_comes_too_late_is_fenced)
{
    struct fixture f = bus_of(1, "64KiB", "\"handler_timeout\":\"30ms\"");
    struct evbus_subscription *sub = join(f.bus, "mailer");
    publish(f.bus, "a", "1");
    struct evbus_delivery slow = receive_this(sub, "1");
    struct evbus_delivery again = receive_this(sub, "1");
    cr_expect_eq(again.attempt, 2u);
    cr_expect_eq(evbus_finish(sub, &slow, EVBUS_DONE, NULL), EVBUS_EFENCED);
    cr_expect_eq(evbus_finish(sub, &slow, EVBUS_DONE, NULL), EVBUS_EINVAL, "and over");
    done(sub, &again);
    nothing(sub);
    cr_expect_eq(stat_of(f.bus, "mailer").done, 1u);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* [guards ONE-HOLDER] */
Test(subscribe, the_events_of_a_member_that_hangs_go_to_another)
{
    struct fixture f = bus_of(1, "64KiB", "\"handler_timeout\":\"20ms\"");
    struct evbus *other = fixture_open(&f, "other", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *a = join(f.bus, "mailer");
    publish(f.bus, "k", "1");
    publish(f.bus, "k", "2");
    struct evbus_delivery hung = receive_this(a, "1"); /* and a is not heard of again */
    struct evbus_subscription *b = join(other, "mailer");
    struct evbus_delivery got = receive_this(b, "1");
    cr_expect_eq(got.attempt, 2u);
    cr_expect_eq(evbus_finish(a, &hung, EVBUS_DONE, NULL), EVBUS_EFENCED);
    done(b, &got);
    got = receive_this(b, "2");
    done(b, &got);
    cr_expect_geq(stat_of(f.bus, "mailer").takeovers, 1u, "the partition with the event");
    cr_expect_eq(stat_of(f.bus, "slow").takeovers, 0u);
    cr_expect_geq(takeovers_of_all(f.bus), 1u);
    evbus_unsubscribe(a);
    evbus_unsubscribe(b);
    evbus_close(other);
    fixture_end(&f);
}

/* --- rings that fill ------------------------------------------------------------------------------------------------------------ */

Test(subscribe, an_absent_group_fills_its_log_and_a_removed_one_frees_it)
{
    struct fixture f = bus_of(1, "16KiB", "");
    struct evbus_event event = {.topic = "test.a.one", .key = "k", .payload = "1"};
    int rc = EVBUS_OK;
    for (int i = 0; i < 1000 && rc == EVBUS_OK; i++)
        rc = evbus_publish(f.bus, &event, NULL);
    cr_assert_eq(rc, EVBUS_EFULL);
    cr_expect_gt(stat_of(f.bus, "mailer").lag, 200u);
    publish_on(f.bus, "test.c.one", "k", "1"); /* a log that nobody needs has room */
    cr_assert_eq(evbus_group_remove(f.bus, "mailer"), EVBUS_OK);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(evbus_publish(f.bus, &event, NULL), EVBUS_OK, "%d: %s", i, evbus_message(f.bus));
    fixture_end(&f);
}

Test(subscribe, a_member_that_consumes_lets_a_small_ring_go_on)
{
    static const enum evbus_wait waits[] = {EVBUS_WAIT_HYBRID, EVBUS_WAIT_BLOCK, EVBUS_WAIT_SPIN};
    for (size_t w = 0; w < N(waits); w++) {
        struct fixture f = fixture_make(
            (struct fixture_options){.catalogue = catalogue_of(1, "4KiB", ""), .wait = waits[w]});
        struct told told = {0};
        pthread_t thread;
        told.sub = join_with(f.bus,
                             (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
        cr_assert_eq(pthread_create(&thread, NULL, run_member, &told), 0);
        char payload[500];
        memset(payload, ' ', sizeof payload - 1);
        payload[0] = '1';
        payload[sizeof payload - 1] = '\0';
        struct evbus_event event = {
            .size = sizeof event, .topic = "test.a.one", .key = "k", .payload = payload, .timeout_ns = 2 * S};
        int rc = EVBUS_OK;
        unsigned n = 0;
        for (; n < 100 && rc == EVBUS_OK; n++)
            rc = evbus_publish(f.bus, &event, NULL);
        cr_expect_eq(rc, EVBUS_OK, "wait %d, event %u of 100, %u handled: %s", (int)waits[w], n, atomic_load(&told.n),
                     evbus_message(f.bus));
        if (rc == EVBUS_OK)
            cr_expect(await_that(atomic_load(&told.n) == 100));
        evbus_stop(told.sub);
        pthread_join(thread, NULL);
        evbus_unsubscribe(told.sub);
        fixture_end(&f);
    }
}

Test(subscribe, a_member_with_a_loop_of_its_own_holds_no_more_than_it_needs)
{
    static const char *const two[] = {"test.a.two"};
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct evbus_subscription *sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "adhoc", .patterns = two, .n_patterns = 1});
    struct evbus_delivery got = {.size = sizeof got};
    struct evbus_event unwanted = {.topic = "test.a.one", .key = "k", .payload = "1"};
    struct evbus_event wanted = {.topic = "test.a.two", .key = "k", .payload = "2"};
    int rc = EVBUS_OK;
    unsigned i = 0;
    for (; i < 300 && rc == EVBUS_OK; i++) { /* what it does not want */
        rc = evbus_publish(f.bus, &unwanted, NULL);
        cr_assert_eq(evbus_receive(sub, &got, 0), EVBUS_ETIMEOUT);
    }
    cr_expect_eq(rc, EVBUS_OK, "%u events that it has passed by fill the ring: %s", i, evbus_message(f.bus));
    cr_assert(rc == EVBUS_OK || evbus_receive(sub, &got, 5 * MS) == EVBUS_ETIMEOUT); /* idle: that tells */
    rc = EVBUS_OK;
    char payload[600];
    memset(payload, ' ', sizeof payload - 1);
    payload[0] = '1';
    payload[sizeof payload - 1] = '\0';
    wanted.payload = payload;
    for (i = 0; i < 100 && rc == EVBUS_OK; i++) { /* what it wants, and is done with */
        rc = evbus_publish(f.bus, &wanted, NULL);
        if (rc == EVBUS_OK) {
            cr_assert_eq(evbus_receive(sub, &got, 0), EVBUS_OK);
            done(sub, &got);
            cr_assert_eq(evbus_receive(sub, &got, 0), EVBUS_ETIMEOUT);
        }
    }
    cr_expect_eq(rc, EVBUS_OK, "%u events that are done fill the ring: %s", i, evbus_message(f.bus));
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, a_full_log_of_dead_letters_stops_only_what_is_dead)
{
    struct fixture f = fixture_make((struct fixture_options){
        .catalogue = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                     "\"defaults\":{\"partitions\":1,\"ring\":\"16KiB\",\"retry\":[\"10ms\",\"20ms\"]},"
                     "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]}}}"});
    struct evbus_subscription *sub = join(f.bus, "mailer");
    struct memory_log *dlq = memory_internal_log(&f.bus->memory, MEMORY_DLQ_LOG);
    struct evbus_delivery got = {.size = sizeof got};
    uint64_t n = 0;
    for (; n < 300 && stat_of(f.bus, "mailer").n_dead == 0; n++) {
        publish(f.bus, "a", "1");
        got = receive(sub);
        cr_assert_eq(evbus_finish(sub, &got, EVBUS_REJECT, NULL), EVBUS_OK);
        cr_assert_eq(evbus_receive(sub, &got, 0), EVBUS_ETIMEOUT);
        if (n > 100)
            nothing(sub);
    }
    cr_assert_lt(n, 300u, "it never gets full");
    cr_expect_eq(stat_of(f.bus, "mailer").n_dead, 1u);
    cr_expect_eq(stat_of(f.bus, "mailer").dead_letters, n - 1);
    publish(f.bus, "a", "2");
    publish(f.bus, "b", "3");
    got = receive_this(sub, "3");
    done(sub, &got);
    nothing(sub);
    ring_unpin(&dlq->rings[0], 0); /* as whoever has settled them will do */
    got = receive_this(sub, "2");
    done(sub, &got);
    cr_expect_eq(stat_of(f.bus, "mailer").n_dead, 0u);
    cr_expect_eq(stat_of(f.bus, "mailer").dead_letters, n);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* --- in numbers ------------------------------------------------------------------------------------------------------------------- */

Test(subscribe, a_group_is_shown_in_numbers)
{
    struct fixture f = one_partition();
    struct evbus_group_stat stat = stat_of(f.bus, "mailer");
    cr_expect(stat.n_members == 0 && stat.n_pending == 0 && stat.done == 0 && stat.oldest_ns == 0);
    cr_expect_eq(stat.n_topics, 3u);
    cr_expect_eq(stat.n_partitions, 2u, "test.a and test.b, one each");
    struct evbus_subscription *sub = join(f.bus, "mailer");
    struct evbus_event old = {
        .topic = "test.a.one", .key = "a", .payload = "1", .timestamp_ns = clock_wall_ns() - 60 * S};
    cr_assert_eq(evbus_publish(f.bus, &old, NULL), EVBUS_OK);
    publish(f.bus, "b", "2");
    publish(f.bus, "c", "3");
    stat = stat_of(f.bus, "mailer");
    cr_expect_eq(stat.n_members, 1u);
    cr_expect_geq(stat.lag, 6u);
    struct evbus_delivery a = receive(sub);
    struct evbus_delivery b = receive(sub);
    struct evbus_delivery c = receive_this(sub, "3"); /* before the first is due again */
    stat = stat_of(f.bus, "mailer");
    cr_expect(stat.n_pending == 3 && stat.n_running == 3 && stat.n_waiting == 0 && stat.attempts_max == 1);
    cr_expect(stat.oldest_ns >= 60 * S && stat.oldest_ns < 120 * S, "%" PRIu64 " s", stat.oldest_ns / S);
    done(sub, &b);
    done(sub, &c);
    cr_assert_eq(evbus_finish(sub, &a, EVBUS_RETRY, "x"), EVBUS_OK);
    stat = stat_of(f.bus, "mailer");
    cr_expect(stat.n_pending == 1 && stat.n_running == 0 && stat.n_waiting == 1 && stat.done == 2);
    cr_expect_eq(stat_of(f.bus, "mailer").lag, 0u);
    a = receive_this(sub, "1");
    stat = stat_of(f.bus, "mailer");
    cr_expect(stat.redelivered == 1 && stat.attempts_max == 2 && stat.n_running == 1);
    cr_assert_eq(evbus_finish(sub, &a, EVBUS_REJECT, "x"), EVBUS_OK);
    nothing(sub);
    stat = stat_of(f.bus, "mailer");
    cr_expect(stat.done == 2 && stat.dead_letters == 1 && stat.n_pending == 0 && stat.n_dead == 0);
    cr_expect_eq(stat.oldest_ns, 0u, "all is done");
    evbus_unsubscribe(sub);
    cr_expect_eq(stat_of(f.bus, "mailer").n_members, 0u);
    fixture_end(&f);
}

static int stop_at_first(void *context, const struct evbus_group_stat *group)
{
    snprintf(context, 64, "%s", group->group);
    return 7;
}

Test(subscribe, groups_are_made_listed_and_forgotten_by_hand)
{
    static const char *const one[] = {"test.a.*"};
    static const char *const nowhere[] = {"test.x.*"};
    struct fixture f = one_partition();
    struct evbus_group_options options = {
        .size = sizeof options, .group = "audit", .patterns = one, .n_patterns = 1, .from = EVBUS_FROM_EARLIEST};
    publish(f.bus, "k", "1");
    cr_assert_eq(evbus_group_add(f.bus, &options), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_eq(evbus_group_add(f.bus, &options), EVBUS_EDUPLICATE);
    cr_expect_eq(evbus_group_add(f.bus, NULL), EVBUS_EINVAL);
    options.group = "other";
    options.patterns = nowhere;
    cr_expect_eq(evbus_group_add(f.bus, &options), EVBUS_ENOTFOUND);
    struct evbus_group_stat stat = stat_of(f.bus, "audit");
    cr_expect(stat.is_ad_hoc && !stat.is_ephemeral && stat.n_members == 0 && stat.n_topics == 2);
    char first[64];
    cr_expect_eq(evbus_groups(f.bus, stop_at_first, first), 7);
    cr_expect_str_eq(first, "audit", "by name");
    struct evbus_subscription *sub = join(f.bus, "audit");
    receive_this(sub, "1");
    evbus_unsubscribe(sub);
    cr_expect_eq(evbus_group_remove(f.bus, "audit"), EVBUS_OK);
    cr_expect_not(is_group(f.bus, "audit"));
    cr_expect_eq(evbus_group_remove(f.bus, "audit"), EVBUS_ENOTFOUND);
    cr_expect_eq(evbus_group_remove(f.bus, NULL), EVBUS_EINVAL);
    fixture_end(&f);
}

Test(subscribe, a_bus_that_is_removed_ends_its_members)
{
    struct fixture f = one_partition();
    struct told told = {0};
    pthread_t thread;
    void *rc;
    told.sub = join_with(f.bus,
                         (struct evbus_subscribe_options){.group = "mailer", .handler = handle, .context = &told});
    cr_assert_eq(pthread_create(&thread, NULL, run_member, &told), 0);
    publish(f.bus, "k", "1");
    cr_assert(await_that(atomic_load(&told.n) == 1));
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    pthread_join(thread, &rc);
    cr_expect_eq((intptr_t)rc, EVBUS_ESTALE);
    evbus_unsubscribe(told.sub);
    fixture_end(&f);
}

static int use_the_parents(void *context)
{
    struct evbus_subscription *sub = context;
    struct evbus_delivery got = {.size = sizeof got};
    if (evbus_receive(sub, &got, 0) != EVBUS_EFORKED)
        return 1;
    evbus_unsubscribe(sub);
    return 0;
}

Test(subscribe, a_forked_child_is_no_member)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    struct child child = child_start(use_the_parents, sub);
    cr_expect_eq(child_join(&child), 0);
    publish(f.bus, "k", "1");
    struct evbus_delivery got = receive_this(sub, "1");
    done(sub, &got);
    cr_expect_eq(stat_of(f.bus, "mailer").n_members, 1u, "the child's unsubscribe touches nothing of the parent's");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

static int receive_three_and_die(void *context)
{
    struct evbus *bus = fixture_open(context, "doomed", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub;
    struct evbus_delivery got = {.size = sizeof got};
    if (evbus_subscribe(&sub, bus, &(struct evbus_subscribe_options){.group = "mailer"}) != EVBUS_OK)
        return 1;
    for (int i = 0; i < 3; i++)
        if (evbus_receive(sub, &got, SOON) != EVBUS_OK)
            return 2;
    return 42; /* _exit(): as if it had been killed */
}

/* [guards ORDER] [P7] */
Test(subscribe, what_a_dead_member_had_in_hand_comes_to_another_one_by_one)
{
    struct fixture f = one_partition();
    static const char *const keys[] = {"a", "b", "c", "a", "d"};
    static const char *const payloads[] = {"1", "2", "3", "4", "5"};
    for (size_t i = 0; i < N(keys); i++)
        publish(f.bus, keys[i], payloads[i]);
    struct child child = child_start(receive_three_and_die, &f);
    cr_assert_eq(child_join(&child), 42);
    struct evbus_subscription *sub = join(f.bus, "mailer");
    uint64_t before = await_now_ms();
    for (size_t i = 0; i < 3; i++) {
        struct evbus_delivery got = receive_this(sub, payloads[i]);
        cr_expect_eq(got.attempt, 2u);
        nothing(sub); /* nothing runs beside it */
        done(sub, &got);
    }
    cr_expect_lt(await_now_ms() - before, 2000u, "within milliseconds");
    for (size_t i = 3; i < 5; i++) {
        struct evbus_delivery got = receive_this(sub, payloads[i]);
        cr_expect_eq(got.attempt, 1u);
        done(sub, &got);
    }
    nothing(sub);
    cr_expect_eq(stat_of(f.bus, "mailer").takeovers, 3u, "it held test.a/0, test.b/0 and its replays");
    cr_expect_eq(takeovers_of_all(f.bus), 3u);
    cr_assert_eq(evbus_group_remove(f.bus, "mailer"), EVBUS_OK);
    cr_expect_eq(takeovers_of_all(f.bus), 0u, "of the groups that there are");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

static void *join_and_end(void *context)
{
    struct evbus *bus = context;
    struct evbus_subscription *sub = join(bus, "mailer");
    nothing(sub); /* has the leases now */
    return sub;
}

Test(subscribe, a_thread_that_ends_gives_its_partitions_and_nobody_has_taken_them)
{
    struct fixture f = one_partition();
    pthread_t thread;
    void *left;
    cr_assert_eq(pthread_create(&thread, NULL, join_and_end, f.bus), 0);
    pthread_join(thread, &left);
    struct evbus_subscription *sub = join(f.bus, "mailer");
    publish(f.bus, "a", "1");
    struct evbus_delivery got = receive_this(sub, "1");
    done(sub, &got);
    cr_expect_eq(takeovers_of_all(f.bus), 0u);
    evbus_unsubscribe(sub);
    evbus_unsubscribe(left);
    fixture_end(&f);
}

/* A key whose events go to this partition. */
static const char *key_of(struct evbus *bus, uint32_t partition)
{
    static char keys[100][8];
    for (unsigned i = 0; i < N(keys); i++) {
        struct evbus_receipt receipt = {.size = sizeof receipt};
        snprintf(keys[i], sizeof keys[i], "k%u", i);
        cr_assert_eq(
            evbus_publish(bus, &(struct evbus_event){.topic = "test.a.one", .payload = "1", .key = keys[i]}, &receipt),
            EVBUS_OK);
        if (receipt.partition == partition)
            return keys[i];
    }
    cr_assert_fail("no key of partition %u", partition);
    return NULL;
}

/* Large events leave a pad of more than 32 cells at the ring's end, which has no stamp. */
Test(subscribe, a_partition_that_stands_before_a_pad_has_its_turn_beside_a_busy_one)
{
    struct fixture f = bus_of(2, "256KiB", "");
    struct evbus_subscription *sub = join(f.bus, "mailer");
    static char large[10001];
    memset(large, '1', sizeof large - 1);
    const char *busy = key_of(f.bus, 0), *rare = key_of(f.bus, 1);
    struct evbus_delivery got = {.size = sizeof got};
    unsigned n_published = 0, n_got = 0;
    for (int i = 0; i < 100; i++) {
        for (int k = 0; k < 34; k++)
            cr_assert_eq(
                evbus_publish(f.bus, &(struct evbus_event){.topic = "test.a.one", .payload = "2", .key = busy}, NULL),
                EVBUS_OK, "%s", evbus_message(f.bus));
        cr_assert_eq(
            evbus_publish(f.bus, &(struct evbus_event){.topic = "test.a.one", .payload = large, .key = rare}, NULL),
            EVBUS_OK, "after %d large ones, of which %d were taken: %s", n_published, n_got, evbus_message(f.bus));
        n_published++;
        for (int k = 0; k < 34; k++) { /* so that there is always something in the busy one */
            cr_assert_eq(evbus_receive(sub, &got, SOON), EVBUS_OK);
            n_got += got.payload_len > 1;
            cr_assert_eq(evbus_finish(sub, &got, EVBUS_DONE, NULL), EVBUS_OK);
        }
    }
    cr_expect_gt(n_got, n_published - 5);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* --- cost ------------------------------------------------------------------------------------------------------------------- */

static enum evbus_outcome count_it(void *context, const struct evbus_delivery *event, char *error)
{
    (void)event;
    (void)error;
    ++*(unsigned *)context;
    return EVBUS_DONE;
}

/* Eight events one by one, eight in a batch, ready and full by turns; half of them handled, half taken and finished. Returns how many
 * allocations that were. */
static unsigned publish_and_handle_16(struct evbus *bus, struct evbus_subscription *sub, int *inout_wrong)
{
    static const char *const keys[] = {NULL, "k", "other"};
    struct evbus_event events[8];
    struct evbus_delivery got = {.size = sizeof got};
    for (unsigned i = 0; i < N(events); i++) {
        events[i] = (struct evbus_event){
            .size = sizeof events[i], .topic = "test.a.one", .key = keys[i % 3], .payload = "{\"n\":[1,2]}"};
        if (i % 2 == 0) {
            events[i].timestamp_ns = 1;
            events[i].payload_is_checked = true;
            events[i].id[0] = (uint8_t)(i + 1);
        }
    }
    unsigned before = n_allocations;
    for (unsigned i = 0; i < N(events); i++)
        *inout_wrong += evbus_publish(bus, &events[i], NULL) != EVBUS_OK;
    *inout_wrong += evbus_publish_batch(bus, events, N(events), NULL, NULL) != EVBUS_OK;
    for (unsigned i = 0; i < N(events); i++) {
        *inout_wrong += evbus_run_once(sub, SOON) != EVBUS_OK;
        *inout_wrong += evbus_receive(sub, &got, SOON) != EVBUS_OK;
        *inout_wrong += evbus_finish(sub, &got, EVBUS_DONE, NULL) != EVBUS_OK;
    }
    *inout_wrong += evbus_run_once(sub, 0) != EVBUS_ETIMEOUT;
    return n_allocations - before;
}

Test(subscribe, nothing_is_allocated_after_a_members_first_events)
{
    struct fixture f = bus_of(4, "64KiB", "");
    unsigned n_handled = 0;
    struct evbus_subscription *sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = count_it, .context = &n_handled});
    int wrong = 0;
    count_allocations();
    cr_assert_gt(publish_and_handle_16(f.bus, sub, &wrong), 0u, "allocations are not counted");
    unsigned n = 0;
    for (int i = 0; i < 100; i++) /* a few laps of the ring */
        n += publish_and_handle_16(f.bus, sub, &wrong);
    cr_expect_eq(n, 0u, "%u allocations", n);
    cr_expect_eq(wrong, 0);
    cr_expect_eq(n_handled, 101u * 8);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(subscribe, shows_each_event_with_its_own_topic)
{
    struct fixture f = one_partition();
    struct evbus_subscription *sub = join(f.bus, "mailer");
    static const char *const topics[] = {"test.a.one", "test.a.one", "test.a.two", "test.a.one",
                                         "test.b.one", "test.a.one", "test.b.one"};
    for (size_t i = 0; i < N(topics); i++) { /* by one hand: test.b.one has the id of test.a.one, in another log */
        publish_on(f.bus, topics[i], "k", "\"x\"");
        struct evbus_delivery event = receive(sub);
        cr_expect_str_eq(event.topic, topics[i], "%zu: %s", i, event.topic);
        done(sub, &event);
    }
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

struct slow {
    struct fixture *f;
    struct evbus_subscription *sub;
    uint64_t lows[4]; /* as each handler finds it */
    unsigned n;
};

static enum evbus_outcome handle_slowly(void *context, const struct evbus_delivery *event, char *error)
{
    struct slow *slow = context;
    (void)error;
    const struct memory *memory = &slow->f->bus->memory;
    uint32_t log, id, low = group_low_index(group_find(memory, "mailer"));
    cr_assert(memory_find_topic(memory, event->topic, &log, &id));
    const struct ring *ring = &memory->logs[log].rings[event->partition];
    slow->lows[slow->n++] = LOW_BEHIND(atomic_load(&ring->head->lows[low])) - 1;
    evbus_test_clock_advance(slow->f->bus, 6 * MS);
    if (slow->n == N(slow->lows))
        evbus_stop(slow->sub);
    return EVBUS_DONE;
}

Test(subscribe, a_producer_hears_within_ten_milliseconds_what_slow_handlers_have_done)
{
    struct fixture f = one_partition();
    struct slow slow = {.f = &f};
    slow.sub = join_with(
        f.bus, (struct evbus_subscribe_options){.group = "mailer", .handler = handle_slowly, .context = &slow});
    evbus_test_clock_freeze();
    for (size_t i = 0; i < N(slow.lows); i++)
        publish(f.bus, NULL, "1");
    cr_expect_eq(evbus_run(slow.sub, NULL), EVBUS_OK);
    evbus_test_clock_release();
    cr_expect_eq(slow.lows[1], slow.lows[0], "6 ms behind the first");
    cr_expect_gt(slow.lows[2], slow.lows[1], "12 ms");
    cr_expect_eq(slow.lows[3], slow.lows[2], "6 ms more");
    evbus_unsubscribe(slow.sub);
    fixture_end(&f);
}
