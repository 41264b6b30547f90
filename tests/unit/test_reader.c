/* test_reader.c: where a reader starts, what it is given, what it may lose, what a pin keeps, how it waits. */
#include "allocations.h"
#include "await.h"
#include "bus.h"
#include "doorbell.h"
#include "fixture.h"
#include "frame.h"
#include "sanitizer.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MS      UINT64_C(1000000)
#define S       UINT64_C(1000000000)

static bool is_quick(void)
{
    return getenv("EVBUS_QUICK") != NULL;
}

/* --- helpers ---------------------------------------------------------------------------------------------------------- */

static void publish(struct evbus *bus, const char *topic, const char *key, const char *payload)
{
    struct evbus_event event = {
        .size = sizeof event, .topic = topic, .key = key, .payload = payload, .timeout_ns = 10 * S};
    int rc = evbus_publish(bus, &event, NULL);
    cr_assert_eq(rc, EVBUS_OK, "%s %s: %s", topic, payload, evbus_message(bus));
}

static void publish_number(struct evbus *bus, unsigned i)
{
    char payload[16];
    snprintf(payload, sizeof payload, "%u", i);
    publish(bus, "test.a.one", NULL, payload);
}

static struct evbus_reader *open_with(struct evbus *bus, struct evbus_reader_options options)
{
    struct evbus_reader *reader = NULL;
    options.size = sizeof options;
    int rc = evbus_reader_open(&reader, bus, &options);
    cr_assert_eq(rc, EVBUS_OK, "evbus_reader_open: %s", evbus_message(bus));
    return reader;
}

static struct evbus_delivery next(struct evbus_reader *reader)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_reader_next(reader, &got, 10 * S);
    cr_assert_eq(rc, EVBUS_OK, "evbus_reader_next: %d, %s", rc, evbus_message(NULL));
    return got;
}

static void nothing_more(struct evbus_reader *reader, const char *label)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_reader_next(reader, &got, 0);
    cr_assert_eq(rc, EVBUS_ETIMEOUT, "%s: %d, %s", label, rc, rc == EVBUS_OK ? (const char *)got.payload : "");
}

static void has(const char *label, const char *message, const char *fragment)
{
    if (fragment != NULL)
        cr_expect_not_null(strstr(message, fragment), "%s: the message does not say \"%s\": %s", label, fragment,
                           message);
}

static unsigned fill(struct evbus *bus)
{
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "\"to the brim\""};
    unsigned n = 0;
    int rc;
    while ((rc = evbus_publish(bus, &event, NULL)) == EVBUS_OK && n < 10000)
        n++;
    cr_assert_eq(rc, EVBUS_EFULL, "%u events and the ring is not full: %d", n, rc);
    return n;
}

static struct evbus_partition_stat partition(struct evbus *bus, size_t i)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(bus, &stat), EVBUS_OK);
    cr_assert_lt(i, stat.n_partitions);
    return stat.partitions[i];
}

static bool is_asleep(const struct evbus *bus, int log)
{
    const struct log_head *head = bus->memory.logs[log].head;
    return atomic_load_explicit(&head->sleeping[0], memory_order_acquire) != 0;
}

/* --- where it starts -------------------------------------------------------------------------------------------------- */

Test(reader, latest_is_what_is_published_after_it_was_opened)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 4});
    for (unsigned i = 0; i < 40; i++)
        publish_number(f.bus, i);
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){.from = EVBUS_FROM_LATEST});
    struct evbus_reader *by_default = NULL;
    cr_assert_eq(evbus_reader_open(&by_default, f.bus, NULL), EVBUS_OK);
    nothing_more(reader, "latest");
    nothing_more(by_default, "no options");
    publish_number(f.bus, 40);
    cr_expect_str_eq(next(reader).payload, "40");
    cr_expect_str_eq(next(by_default).payload, "40");
    nothing_more(reader, "latest");
    evbus_reader_close(reader);
    evbus_reader_close(by_default);
    fixture_end(&f);
}

Test(reader, earliest_is_the_oldest_that_is_still_in_memory)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    for (unsigned i = 0; i < 3; i++)
        publish_number(f.bus, i);
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){.from = EVBUS_FROM_EARLIEST});
    for (unsigned i = 0; i < 3; i++)
        cr_expect_eq(strtoul(next(reader).payload, NULL, 10), i);
    nothing_more(reader, "three");
    evbus_reader_close(reader);
    for (unsigned i = 3; i < 200; i++)
        publish_number(f.bus, i);
    uint64_t released = partition(f.bus, 0).released;
    reader = open_with(f.bus, (struct evbus_reader_options){.from = EVBUS_FROM_EARLIEST});
    struct evbus_delivery got = next(reader);
    unsigned i = (unsigned)strtoul(got.payload, NULL, 10);
    cr_expect(got.position >= released && got.position < released + 8, "%" PRIu64 " where %" PRIu64 " is left",
              got.position, released);
    cr_expect_eq(got.lost, 0u, "what was gone before it was opened is not lost");
    while (++i < 200)
        cr_assert_eq(strtoul(next(reader).payload, NULL, 10), i);
    nothing_more(reader, "all");
    cr_expect_eq(evbus_reader_lost(reader), 0u);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, from_a_time_is_the_oldest_at_or_after_it_and_all_behind_it)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    static const struct {
        uint64_t timestamp_ns;
        const char *payload;
    } events[] = {{100, "\"a\""}, {200, "\"b\""}, {300, "\"c\""}, {150, "\"late\""}, {300, "\"d\""}};
    static const struct {
        const char *label;
        uint64_t from_time_ns;
        const char *expected[6];
    } rows[] = {
        {"before all", 1, {"\"a\"", "\"b\"", "\"c\"", "\"late\"", "\"d\""}},
        {"0", 0, {"\"a\"", "\"b\"", "\"c\"", "\"late\"", "\"d\""}},
        {"exactly an event's", 200, {"\"b\"", "\"c\"", "\"late\"", "\"d\""}},
        {"between two", 201, {"\"c\"", "\"late\"", "\"d\""}},
        {"after all", 301, {NULL}},
    };
    for (size_t i = 0; i < N(events); i++) {
        struct evbus_event event = {.size = sizeof event,
                                    .topic = "test.a.one",
                                    .payload = events[i].payload,
                                    .timestamp_ns = events[i].timestamp_ns};
        cr_assert_eq(evbus_publish(f.bus, &event, NULL), EVBUS_OK);
    }
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_reader *reader = open_with(
            f.bus, (struct evbus_reader_options){.from = EVBUS_FROM_TIME, .from_time_ns = rows[i].from_time_ns});
        for (size_t k = 0; rows[i].expected[k] != NULL; k++)
            cr_expect_str_eq(next(reader).payload, rows[i].expected[k], "%s", rows[i].label);
        nothing_more(reader, rows[i].label);
        evbus_reader_close(reader);
    }
    fixture_end(&f);
}

/* --- what it wants ------------------------------------------------------------------------------------------------------- */

static const char three_logs[] =
    "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":2,\"ring\":\"16KiB\"},"
    "\"topics\":{\"test.a.one\":{},\"test.a.two\":{},\"test.b.one\":{},\"test.c.deep.one\":{}}}";

Test(reader, patterns_choose_topics)
{
    static const char *const topics[] = {"test.a.one", "test.a.two", "test.b.one", "test.c.deep.one"};
    static const struct {
        const char *label;
        const char *patterns[3];
        size_t n_patterns;
        bool expected[4];
    } rows[] = {
        {"none", {NULL}, 0, {true, true, true, true}},
        {"one topic", {"test.a.two"}, 1, {false, true, false, false}},
        {"a topic twice", {"test.a.two", "test.a.two"}, 2, {false, true, false, false}},
        {"* for a segment", {"test.*.one"}, 1, {true, false, true, false}},
        {"* at the end", {"test.a.*"}, 1, {true, true, false, false}},
        {"** for one or more", {"test.c.**"}, 1, {false, false, false, true}},
        {"** for one", {"test.a.**"}, 1, {true, true, false, false}},
        {"** for all", {"**"}, 1, {true, true, true, true}},
        {"four segments", {"*.*.*.*"}, 1, {false, false, false, true}},
        {"several", {"test.b.one", "test.c.deep.*", "test.a.one"}, 3, {true, false, true, true}},
    };
    struct fixture f = fixture_make((struct fixture_options){.catalogue = three_logs});
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_reader *reader = open_with(
            f.bus, (struct evbus_reader_options){.patterns = rows[i].n_patterns > 0 ? rows[i].patterns : NULL,
                                                 .n_patterns = rows[i].n_patterns});
        bool seen[4] = {false};
        for (size_t t = 0; t < N(topics); t++)
            publish(f.bus, topics[t], "key", "1");
        struct evbus_delivery got = {.size = sizeof got};
        while (evbus_reader_next(reader, &got, 0) == EVBUS_OK)
            for (size_t t = 0; t < N(topics); t++)
                if (strcmp(got.topic, topics[t]) == 0) {
                    cr_expect_not(seen[t], "%s: %s came twice", rows[i].label, topics[t]);
                    seen[t] = true;
                }
        for (size_t t = 0; t < N(topics); t++)
            cr_expect_eq(seen[t], rows[i].expected[t], "%s: %s %s", rows[i].label, topics[t],
                         seen[t] ? "came" : "did not come");
        evbus_reader_close(reader);
    }
    fixture_end(&f);
}

Test(reader, a_pattern_that_is_wrong_or_fits_nothing_is_refused)
{
    static const struct {
        const char *label, *pattern;
        enum evbus_code code;
        const char *says[2];
    } rows[] = {
        {"NULL", NULL, EVBUS_EINVAL, {"patterns[1]", "NULL"}},
        {"empty", "", EVBUS_EINVAL, {"pattern", "empty"}},
        {"** in the middle", "test.**.one", EVBUS_EINVAL, {"test.**.one", "at the end"}},
        {"too short", "test.*", EVBUS_EINVAL, {"2 segments", ".**"}},
        {"too long", "a.b.c.d.e", EVBUS_EINVAL, {"5 segments", NULL}},
        {"half a star", "test.a.o*", EVBUS_EINVAL, {"'*'", NULL}},
        {"capitals", "Test.a.one", EVBUS_EINVAL, {"'T'", NULL}},
        {"a topic that is not there", "test.a.three", EVBUS_ENOTFOUND, {"test.a.three", "catalogue show"}},
        {"stars that fit nothing", "test.*.three", EVBUS_ENOTFOUND, {"test.*.three", "fits no topic"}},
    };
    struct fixture f = fixture_make((struct fixture_options){0});
    for (size_t i = 0; i < N(rows); i++) {
        const char *const patterns[2] = {"test.a.one", rows[i].pattern};
        struct evbus_reader *reader = (struct evbus_reader *)&f;
        int rc = evbus_reader_open(
            &reader, f.bus,
            &(struct evbus_reader_options){
                .size = sizeof(struct evbus_reader_options), .patterns = patterns, .n_patterns = 2, .pin = true});
        cr_expect_eq(rc, rows[i].code, "%s: %d", rows[i].label, rc);
        cr_expect_eq((void *)reader, (void *)&f, "%s: the result was touched", rows[i].label);
        for (size_t k = 0; k < N(rows[i].says); k++)
            has(rows[i].label, evbus_message(f.bus), rows[i].says[k]);
    }
    cr_expect_eq(partition(f.bus, 0).n_pins, 0u, "a pin was left behind");
    fixture_end(&f);
}

Test(reader, more_than_64_patterns_are_refused)
{
    const char *patterns[65];
    struct evbus_reader *reader;
    struct fixture f = fixture_make((struct fixture_options){0});
    for (size_t i = 0; i < N(patterns); i++)
        patterns[i] = "test.a.one";
    struct evbus_reader_options options = {.size = sizeof options, .patterns = patterns, .n_patterns = 65};
    cr_expect_eq(evbus_reader_open(&reader, f.bus, &options), EVBUS_EINVAL);
    has("65", evbus_message(f.bus), "65 patterns");
    options.n_patterns = 64;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, &options), EVBUS_OK, "%s", evbus_message(f.bus));
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, what_is_wrong_with_its_options_is_named)
{
    struct newer {
        struct evbus_reader_options options;
        uint64_t more;
    } newer = {{.size = sizeof newer}, 1};
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = NULL;
    cr_expect_eq(evbus_reader_open(&reader, NULL, NULL), EVBUS_EINVAL);
    has("no bus", evbus_message(NULL), "the bus is NULL");
    struct evbus_reader_options options = {.size = 5000};
    cr_expect_eq(evbus_reader_open(&reader, f.bus, &options), EVBUS_EINVAL);
    has("size", evbus_message(f.bus), "size is 5000");
    options = (struct evbus_reader_options){.size = sizeof options, .from = 3};
    cr_expect_eq(evbus_reader_open(&reader, f.bus, &options), EVBUS_EINVAL);
    has("from", evbus_message(f.bus), "options.from is 3");
    cr_expect_eq(evbus_reader_open(&reader, f.bus, &newer.options), EVBUS_EINVAL);
    has("newer", evbus_message(f.bus), "newer library");
    newer.more = 0;
    cr_expect_eq(evbus_reader_open(&reader, f.bus, &newer.options), EVBUS_OK, "%s", evbus_message(f.bus));
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, nowhere_to_put_it_is_refused)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    cr_expect_eq(evbus_reader_open(NULL, f.bus, NULL), EVBUS_EINVAL);
    fixture_end(&f);
}

/* --- what it is given ----------------------------------------------------------------------------------------------------- */

Test(reader, a_delivery_tells_all_of_the_event)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 2});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    struct evbus_event event = {
        .size = sizeof event,
        .topic = "test.b.one",
        .payload = " {\"a\": 1}\n",
        .key = "a\0b",
        .key_len = 3,
        .id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
        .timestamp_ns = 1234567890123456789,
        .version_major = 2,
        .version_minor = 5,
    };
    struct evbus_receipt receipt = {.size = sizeof receipt};
    cr_assert_eq(evbus_publish(f.bus, &event, &receipt), EVBUS_OK, "%s", evbus_message(f.bus));
    struct evbus_delivery got = next(reader);
    cr_expect_eq(got.size, sizeof got);
    cr_expect_arr_eq(got.id, event.id, 16);
    cr_expect_str_eq(got.topic, "test.b.one");
    cr_expect_str_eq(got.service, "tester");
    cr_expect_eq(got.timestamp_ns, 1234567890123456789u);
    cr_expect_eq(got.version_major, 2);
    cr_expect_eq(got.version_minor, 5);
    cr_expect_eq(got.key_len, 3u);
    cr_expect_arr_eq(got.key, "a\0b", 4, "the key, and a NUL behind it");
    cr_expect_eq(got.payload_len, 10u);
    cr_expect_arr_eq(got.payload, " {\"a\": 1}\n", 11, "the payload, and a NUL behind it");
    cr_expect_str_eq(got.log, "test.b");
    cr_expect_eq(got.partition, receipt.partition);
    cr_expect_eq(got.position, receipt.position);
    cr_expect_eq(got.lost, 0u);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, a_nul_stands_behind_payloads_of_every_length)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "16KiB"});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    char payload[400];
    for (size_t len = 1; len < 300; len++) {
        memset(payload, '1', len);
        payload[len] = '\0';
        publish(f.bus, "test.a.one", len % 2 == 0 ? "k" : NULL, payload);
        struct evbus_delivery got = next(reader);
        cr_assert_eq(got.payload_len, len);
        cr_assert_str_eq(got.payload, payload);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, a_delivery_of_an_older_size_is_written_as_far_as_it_goes)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    struct evbus_delivery got;
    publish(f.bus, "test.a.one", NULL, "1");
    publish(f.bus, "test.a.one", NULL, "2");
    memset(&got, 0xaa, sizeof got);
    got.size = offsetof(struct evbus_delivery, service);
    cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK);
    cr_expect_str_eq(got.topic, "test.a.one");
    for (size_t i = offsetof(struct evbus_delivery, service); i < sizeof got; i++)
        cr_assert_eq(((unsigned char *)&got)[i], 0xaa, "byte %zu was written", i);
    struct evbus_delivery whole = {.size = 0};
    cr_assert_eq(evbus_reader_next(reader, &whole, 0), EVBUS_OK);
    cr_expect_str_eq(whole.payload, "2");
    cr_expect_str_eq(whole.log, "test.a");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, what_is_wrong_with_a_call_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    struct evbus_delivery got = {.size = 5000};
    cr_expect_eq(evbus_reader_next(NULL, &got, 0), EVBUS_EINVAL);
    has("reader", evbus_message(NULL), "reader is NULL");
    cr_expect_eq(evbus_reader_next(reader, NULL, 0), EVBUS_EINVAL);
    has("delivery", evbus_message(NULL), "out_delivery is NULL");
    cr_expect_eq(evbus_reader_next(reader, &got, 0), EVBUS_EINVAL);
    has("size", evbus_message(NULL), "size");
    evbus_reader_close(NULL); /* fine */
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, nothing_leaves_the_delivery_alone)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    struct evbus_delivery got, before;
    memset(&got, 0xaa, sizeof got);
    got.size = sizeof got;
    before = got;
    cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_ETIMEOUT);
    cr_expect_arr_eq((char *)&got, (char *)&before, sizeof got);
    cr_expect_neq(evbus_message(f.bus)[0], '\0');
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, the_publishers_name_is_told_as_long_as_it_is_in_memory)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus *shop = fixture_open(&f, "shop", EVBUS_KEEPER_NEVER);
    struct evbus *other = fixture_open(&f, "other", EVBUS_KEEPER_NEVER);
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    publish(shop, "test.a.one", NULL, "1");
    publish(other, "test.a.one", NULL, "2");
    publish(f.bus, "test.a.one", NULL, "3");
    publish(shop, "test.a.one", NULL, "4");
    cr_expect_str_eq(next(reader).service, "shop");
    cr_expect_str_eq(next(reader).service, "other");
    cr_expect_str_eq(next(reader).service, "tester");
    evbus_close(shop);
    cr_expect_str_eq(next(reader).service, "shop", "it is gone, its name is not");
    evbus_reader_close(reader);
    for (int i = 0; i < PUBLISHERS_MAX; i++)
        evbus_close(fixture_open(&f, "many", EVBUS_KEEPER_NEVER));
    reader = open_with(f.bus, (struct evbus_reader_options){.from = EVBUS_FROM_EARLIEST});
    cr_expect_str_eq(next(reader).service, "", "its place is another's now");
    evbus_reader_close(reader);
    evbus_close(other);
    fixture_end(&f);
}

Test(reader, any_number_of_readers_see_all_events)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 2});
    struct evbus_reader *readers[50];
    for (size_t i = 0; i < N(readers); i++)
        readers[i] = open_with(f.bus, (struct evbus_reader_options){0});
    for (unsigned i = 0; i < 20; i++)
        publish(f.bus, "test.a.one", "key", "1");
    for (size_t i = 0; i < N(readers); i++) {
        for (unsigned k = 0; k < 20; k++)
            next(readers[i]);
        nothing_more(readers[i], "20");
        evbus_reader_close(readers[i]);
    }
    fixture_end(&f);
}

/* --- order and turns ------------------------------------------------------------------------------------------------------ */

Test(reader, order_holds_within_a_partition_and_so_among_events_of_one_key)
{
    enum { KEYS = 20, COUNT = 2000 };
    struct fixture f = fixture_make((struct fixture_options){.partitions = 4, .ring = "256KiB"});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    for (int i = 0; i < COUNT; i++) {
        char key[8], payload[16];
        snprintf(key, sizeof key, "%d", i % KEYS);
        snprintf(payload, sizeof payload, "%d", i);
        publish(f.bus, i % 3 == 0 ? "test.a.two" : "test.a.one", key, payload);
    }
    int last[KEYS];
    uint64_t positions[4] = {0};
    for (int k = 0; k < KEYS; k++)
        last[k] = k - KEYS;
    for (int n = 0; n < COUNT; n++) {
        struct evbus_delivery got = next(reader);
        int i = atoi(got.payload), k = atoi(got.key);
        cr_assert_eq(i, last[k] + KEYS, "key %d: %d behind %d", k, i, last[k]);
        last[k] = i;
        cr_assert_gt(got.position, positions[got.partition]);
        positions[got.partition] = got.position;
    }
    nothing_more(reader, "all");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, partitions_are_served_by_turns)
{
    enum { TURN = 16 };
    struct fixture f = fixture_make((struct fixture_options){.partitions = 4, .ring = "256KiB"});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    unsigned left[4] = {0}, in_a_row = 0, all = 0;
    for (unsigned i = 0; i < 1600; i++) {
        struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "1"};
        struct evbus_receipt receipt = {.size = sizeof receipt};
        cr_assert_eq(evbus_publish(f.bus, &event, &receipt), EVBUS_OK);
        left[receipt.partition]++;
        all++;
    }
    uint32_t current = UINT32_MAX;
    while (all-- > 0) {
        struct evbus_delivery got = next(reader);
        in_a_row = got.partition == current ? in_a_row + 1 : 1;
        current = got.partition;
        left[current]--;
        bool others = false;
        for (uint32_t p = 0; p < 4; p++)
            others = others || (p != current && left[p] > 0);
        cr_assert(!others || in_a_row <= TURN, "%u events in a row of partition %u while others wait", in_a_row,
                  current);
    }
    nothing_more(reader, "all");
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* --- waiting ---------------------------------------------------------------------------------------------------------------- */

struct late_publisher {
    struct evbus *bus;
    int log; /* that the reader must sleep on first; -1: none */
    const char *topic;
    _Atomic bool go; /* when there is none: after this */
    int rc;
};

static void *publish_late(void *context)
{
    struct late_publisher *late = context;
    if (late->log >= 0)
        late->rc = await_that(is_asleep(late->bus, late->log)) ? EVBUS_OK : EVBUS_ETIMEOUT;
    else
        late->rc = await_that(atomic_load(&late->go)) ? EVBUS_OK : EVBUS_ETIMEOUT;
    if (late->rc == EVBUS_OK)
        late->rc = evbus_publish(
            late->bus,
            &(struct evbus_event){.size = sizeof(struct evbus_event), .topic = late->topic, .payload = "\"late\""},
            NULL);
    return NULL;
}

static const struct mode {
    const char *label;
    enum evbus_wait wait;
    uint64_t spin_ns;
    bool sleeps;
} modes[] = {
    {"hybrid", EVBUS_WAIT_HYBRID, 0, true},
    {"hybrid that spins long", EVBUS_WAIT_HYBRID, 5 * MS, true},
    {"spin", EVBUS_WAIT_SPIN, 0, false},
    {"block", EVBUS_WAIT_BLOCK, 0, true},
};

static struct evbus *open_in_mode(const struct fixture *f, const struct mode *mode)
{
    struct evbus *bus;
    int rc = evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                      .bus = f->name,
                                                      .service = "reader",
                                                      .keeper = EVBUS_KEEPER_NEVER,
                                                      .wait = mode->wait,
                                                      .spin_ns = mode->spin_ns});
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(NULL));
    return bus;
}

Test(reader, a_timeout_is_kept_in_every_mode)
{
    static const uint64_t timeouts_ms[] = {0, 1, 30, 300};
    struct fixture f = fixture_make((struct fixture_options){0});
    for (size_t m = 0; m < N(modes); m++) {
        struct evbus *bus = open_in_mode(&f, &modes[m]);
        struct evbus_reader *reader = open_with(bus, (struct evbus_reader_options){0});
        for (size_t i = 0; i < N(timeouts_ms); i++) {
            struct evbus_delivery got = {.size = sizeof got};
            uint64_t before = await_now_ms();
            cr_expect_eq(evbus_reader_next(reader, &got, timeouts_ms[i] * MS), EVBUS_ETIMEOUT, "%s", modes[m].label);
            uint64_t took = await_now_ms() - before;
            cr_expect(took + 1 >= timeouts_ms[i] && took < timeouts_ms[i] + 3000,
                      "%s: a timeout of %" PRIu64 " ms took %" PRIu64, modes[m].label, timeouts_ms[i], took);
        }
        evbus_reader_close(reader);
        evbus_close(bus);
    }
    fixture_end(&f);
}

Test(reader, a_publish_ends_the_wait_in_every_mode) /* [guards WOKEN] [D1] */
{
    static const struct {
        const char *label;
        uint64_t timeout_ns;
    } timeouts[] = {{"for ever", UINT64_MAX}, {"almost for ever", UINT64_MAX - 1}, {"20 s", 20 * S}};
    struct fixture f = fixture_make((struct fixture_options){0});
    for (size_t m = 0; m < N(modes); m++)
        for (size_t t = 0; t < N(timeouts); t++) {
            struct evbus *bus = open_in_mode(&f, &modes[m]);
            struct evbus_reader *reader = open_with(bus, (struct evbus_reader_options){0});
            struct late_publisher late = {.bus = f.bus, .log = modes[m].sleeps ? 0 : -1, .topic = "test.a.one"};
            pthread_t thread;
            pthread_create(&thread, NULL, publish_late, &late);
            atomic_store(&late.go, true);
            struct evbus_delivery got = {.size = sizeof got};
            cr_expect_eq(evbus_reader_next(reader, &got, timeouts[t].timeout_ns), EVBUS_OK, "%s, %s", modes[m].label,
                         timeouts[t].label);
            cr_expect_str_eq(got.payload, "\"late\"");
            pthread_join(thread, NULL);
            cr_expect_eq(late.rc, EVBUS_OK);
            evbus_reader_close(reader);
            evbus_close(bus);
        }
    fixture_end(&f);
}

Test(reader, who_sleeps_in_two_logs_is_woken_by_either) /* [guards WOKEN] */
{
    static const char *const topics[] = {"test.a.one", "test.b.one"};
    struct fixture f = fixture_make((struct fixture_options){.wait = EVBUS_WAIT_BLOCK});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    for (int i = 0; i < 6; i++) {
        struct late_publisher late = {.bus = f.bus, .log = 1, .topic = topics[i % 2]};
        pthread_t thread;
        pthread_create(&thread, NULL, publish_late, &late);
        struct evbus_delivery got = {.size = sizeof got};
        cr_assert_eq(evbus_reader_next(reader, &got, 20 * S), EVBUS_OK);
        cr_expect_str_eq(got.topic, topics[i % 2]);
        pthread_join(thread, NULL);
        cr_expect_eq(late.rc, EVBUS_OK);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

static void *bell_rings(void *context)
{
    struct late_publisher *late = context;
    uint32_t before = 0, after = 0;
    if (!await_that(is_asleep(late->bus, 0)))
        return NULL;
    for (int i = 1; i <= SLOTS_MAX; i++)
        before += doorbell_read(&late->bus->memory.control->slots[i]);
    for (int i = 0; i < 10; i++)
        late->rc |= evbus_publish(
            late->bus, &(struct evbus_event){.size = sizeof(struct evbus_event), .topic = "test.a.two", .payload = "1"},
            NULL);
    for (int i = 1; i <= SLOTS_MAX; i++)
        after += doorbell_read(&late->bus->memory.control->slots[i]);
    late->log = (int)(after - before);
    late->rc |= evbus_publish(
        late->bus,
        &(struct evbus_event){.size = sizeof(struct evbus_event), .topic = "test.a.one", .payload = "\"mine\""}, NULL);
    return NULL;
}

Test(reader, who_sleeps_is_not_woken_for_topics_that_it_did_not_ask_for)
{
    const char *const patterns[] = {"test.a.one"};
    struct fixture f = fixture_make((struct fixture_options){.wait = EVBUS_WAIT_BLOCK});
    struct evbus_reader *reader = open_with(f.bus,
                                            (struct evbus_reader_options){.patterns = patterns, .n_patterns = 1});
    struct late_publisher late = {.bus = f.bus, .log = -1};
    pthread_t thread;
    pthread_create(&thread, NULL, bell_rings, &late);
    cr_expect_str_eq(next(reader).payload, "\"mine\"");
    pthread_join(thread, NULL);
    cr_expect_eq(late.rc, EVBUS_OK);
    cr_expect_eq(late.log, 0, "%d bells were rung for a topic that nobody waits for", late.log);
    evbus_reader_close(reader);
    fixture_end(&f);
}

struct round_trip {
    struct evbus *bus;
    struct evbus_reader *reader;
    const char *answer; /* topic */
    unsigned n_rounds;
    int rc;
};

static void *answer(void *context)
{
    struct round_trip *trip = context;
    for (unsigned i = 0; i < trip->n_rounds && trip->rc == EVBUS_OK; i++) {
        struct evbus_delivery got = {.size = sizeof got};
        trip->rc = evbus_reader_next(trip->reader, &got, 20 * S);
        if (trip->rc == EVBUS_OK)
            trip->rc = evbus_publish(trip->bus,
                                     &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                           .topic = trip->answer,
                                                           .payload = got.payload},
                                     NULL);
    }
    return NULL;
}

Test(reader, no_wake_up_is_lost_in_thousands_of_round_trips) /* [guards WOKEN] [D1] */
{
    const char *const ping[] = {"test.a.one"}, *const pong[] = {"test.b.one"};
    struct fixture f = fixture_make((struct fixture_options){.wait = EVBUS_WAIT_BLOCK});
    struct round_trip trip = {
        .bus = f.bus,
        .reader = open_with(f.bus, (struct evbus_reader_options){.patterns = ping, .n_patterns = 1}),
        .answer = "test.b.one",
        .n_rounds = is_quick() ? 1000 : 10000,
    };
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){.patterns = pong, .n_patterns = 1});
    pthread_t thread;
    pthread_create(&thread, NULL, answer, &trip);
    unsigned n_slow = 0;
    for (unsigned i = 0; i < trip.n_rounds; i++) {
        uint64_t before = await_now_ms();
        publish_number(f.bus, i);
        cr_assert_eq(strtoul(next(reader).payload, NULL, 10), i);
        n_slow += await_now_ms() - before >= 249; /* then the sleep ended by itself: nobody rang */
    }
    pthread_join(thread, NULL);
    cr_expect_eq(trip.rc, EVBUS_OK);
    cr_expect_leq(n_slow, 1u, "%u of %u rounds took a whole sleep: the bell was not heard", n_slow, trip.n_rounds);
    evbus_reader_close(trip.reader);
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* --- a bus that is removed ---------------------------------------------------------------------------------------------------- */

static void *remove_late(void *context)
{
    struct late_publisher *late = context;
    if (late->log >= 0)
        await_that(is_asleep(late->bus, late->log));
    else
        await_that(atomic_load(&late->go));
    late->rc = evbus_remove(late->topic);
    return NULL;
}

Test(reader, a_reader_that_waits_hears_within_a_second_that_the_bus_is_gone) /* [R16] */
{
    for (size_t m = 0; m < N(modes); m++) {
        struct fixture f = fixture_make((struct fixture_options){0});
        struct evbus *bus = open_in_mode(&f, &modes[m]);
        struct evbus_reader *reader = open_with(bus, (struct evbus_reader_options){0});
        struct late_publisher late = {.bus = bus, .log = modes[m].sleeps ? 0 : -1, .topic = f.name};
        pthread_t thread;
        pthread_create(&thread, NULL, remove_late, &late);
        atomic_store(&late.go, true);
        struct evbus_delivery got = {.size = sizeof got};
        uint64_t before = await_now_ms();
        cr_expect_eq(evbus_reader_next(reader, &got, 20 * S), EVBUS_ESTALE, "%s", modes[m].label);
        cr_expect_lt(await_now_ms() - before, 1500u, "%s: it took long", modes[m].label);
        has(modes[m].label, evbus_message(bus), f.name);
        pthread_join(thread, NULL);
        cr_expect_eq(late.rc, EVBUS_OK);
        cr_expect_eq(evbus_reader_next(reader, &got, 0), EVBUS_ESTALE, "%s: and it stays so", modes[m].label);
        struct evbus_reader *another;
        cr_expect_eq(evbus_reader_open(&another, bus, NULL), EVBUS_ESTALE);
        evbus_reader_close(reader);
        evbus_close(bus);
        fixture_end(&f);
    }
}

/* --- what it loses ---------------------------------------------------------------------------------------------------------------- */

Test(reader, who_is_overtaken_is_told_exactly_how_much_is_lost)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    publish_number(f.bus, 0); /* with it, who we are */
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    uint64_t at = partition(f.bus, 0).tail, sum = 0;
    for (int round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 100; i++)
            publish_number(f.bus, i);
        struct evbus_partition_stat now = partition(f.bus, 0);
        struct evbus_delivery got = next(reader);
        cr_assert_eq(got.lost, now.released - at, "round %d: lost %" PRIu64 ", not %" PRIu64, round, got.lost,
                     now.released - at);
        cr_assert(got.position >= now.released && got.position <= now.released + 1); /* a pad of a cell at the end */
        sum += got.lost;
        cr_assert_eq(evbus_reader_lost(reader), sum);
        unsigned i = (unsigned)strtoul(got.payload, NULL, 10);
        while (++i < 100) {
            got = next(reader);
            cr_assert_eq(strtoul(got.payload, NULL, 10), i);
            cr_assert_eq(got.lost, 0u, "it is told once");
        }
        nothing_more(reader, "all that is left");
        at = now.tail;
        cr_assert_eq(partition(f.bus, 0).tail, at);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

struct fast_publisher {
    struct evbus *bus;
    _Atomic bool stop;
    unsigned n_published;
    int rc;
};

/* Every byte of the payload follows from its number. */
static size_t make_payload(char *to, unsigned i)
{
    size_t len = (size_t)sprintf(to, "[%u,\"", i);
    size_t n_letters = i * 31 % 500;
    memset(to + len, 'a' + (int)(i % 26), n_letters);
    len += n_letters;
    to[len++] = '"';
    to[len++] = ']';
    to[len] = '\0';
    return len;
}

static void *publish_fast(void *context)
{
    struct fast_publisher *fast = context;
    char payload[600];
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = payload};
    for (unsigned i = 0; !atomic_load(&fast->stop) && fast->rc == EVBUS_OK; i++) {
        event.payload_len = make_payload(payload, i);
        fast->rc = evbus_publish(fast->bus, &event, NULL);
        fast->n_published += fast->rc == EVBUS_OK;
    }
    return NULL;
}

Test(reader, who_is_overtaken_all_the_time_never_sees_a_wrong_byte) /* [guards NEVER-TORN] [R14] */
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB", .wait = EVBUS_WAIT_SPIN});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    struct fast_publisher fast = {.bus = f.bus};
    pthread_t thread;
    pthread_create(&thread, NULL, publish_fast, &fast);
    unsigned n_read = 0, n_gaps = 0, last = 0;
    uint64_t end = await_now_ms() + (is_quick() ? 400 : 2000), lost = 0, end_of_last = 0;
    while (await_now_ms() < end || n_read == 0) {
        char expected[600];
        unsigned i = 0;
        struct evbus_delivery got = next(reader);
        cr_assert_eq(sscanf(got.payload, "[%u,", &i), 1, "%s", (const char *)got.payload);
        cr_assert_eq(got.payload_len, make_payload(expected, i));
        cr_assert_str_eq(got.payload, expected);
        if (n_read > 0) { /* a pad may be lost, too, and a pad may stand behind what was lost */
            cr_assert_gt(i, last, "%u behind %u", i, last);
            cr_assert_geq(got.position, end_of_last + got.lost);
            cr_assert(i == last + 1 || got.lost > 0, "event %u behind %u and nothing lost", i, last);
        }
        cr_assert_leq(got.lost, got.position);
        n_gaps += got.lost > 0;
        lost += got.lost;
        last = i;
        end_of_last = got.position + frame_cells(0, 0, got.payload_len);
        n_read++;
        if (n_read % 50 == 0) /* now and then we are slow */
            await_pause();
    }
    atomic_store(&fast.stop, true);
    pthread_join(thread, NULL);
    cr_expect_eq(fast.rc, EVBUS_OK);
    cr_expect_gt(n_gaps, 0u, "%u events, never overtaken: the test tests nothing", n_read);
    cr_expect_eq(evbus_reader_lost(reader), lost);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, what_no_evbus_wrote_is_told_with_its_place_and_stepped_over)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    struct evbus_receipt receipts[3];
    struct evbus_delivery got = {.size = sizeof got};
    static const char *const payloads[] = {"1", "2", "3"};
    for (int i = 0; i < 3; i++) {
        struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = payloads[i]};
        receipts[i].size = sizeof receipts[i];
        cr_assert_eq(evbus_publish(f.bus, &event, &receipts[i]), EVBUS_OK);
    }
    struct ring *ring = &f.bus->memory.logs[0].rings[0];
    struct frame_header *header = (struct frame_header *)(void *)(ring->cells +
                                                                  ring_index(ring, receipts[1].position) * CELL_WORDS);
    header->n_cells = 4000;
    cr_expect_str_eq(next(reader).payload, "1");
    cr_expect_eq(evbus_reader_next(reader, &got, 0), EVBUS_ECORRUPT);
    char place[64];
    snprintf(place, sizeof place, "test.a/0 at %" PRIu64, receipts[1].position);
    has("place", evbus_message(f.bus), place);
    has("mend", evbus_message(f.bus), "evbus doctor");
    got = next(reader);
    cr_expect_str_eq(got.payload, "3", "at the next whole frame");
    cr_expect_eq(got.lost, receipts[2].position - receipts[1].position);
    nothing_more(reader, "all");
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* --- pins --------------------------------------------------------------------------------------------------------------------------- */

Test(reader, a_reader_that_pins_loses_nothing_and_producers_find_the_ring_full)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){.pin = true});
    struct evbus_reader *idle = open_with(f.bus, (struct evbus_reader_options){0});
    for (int round = 0; round < 30; round++) {
        unsigned n = fill(f.bus);
        cr_assert_eq(partition(f.bus, 0).n_pins, 1u);
        for (unsigned i = 0; i < n; i++)
            cr_assert_eq(next(reader).lost, 0u);
        nothing_more(reader, "all");
    }
    cr_expect_eq(evbus_reader_lost(reader), 0u);
    struct evbus_delivery got = next(idle);
    cr_expect_gt(got.lost, 0u, "who does not pin is overtaken");
    evbus_reader_close(idle);
    evbus_reader_close(reader);
    cr_expect_eq(partition(f.bus, 0).n_pins, 0u);
    cr_expect_eq(partition(f.bus, 0).low, UINT64_MAX);
    for (unsigned i = 0; i < 200; i++)
        publish_number(f.bus, i);
    fixture_end(&f);
}

Test(reader, only_the_logs_that_are_read_are_pinned)
{
    const char *const patterns[] = {"test.b.one"};
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct evbus_reader *reader = open_with(
        f.bus, (struct evbus_reader_options){.patterns = patterns, .n_patterns = 1, .pin = true});
    cr_expect_eq(partition(f.bus, 0).n_pins, 0u);
    cr_expect_eq(partition(f.bus, 1).n_pins, 1u);
    for (unsigned i = 0; i < 200; i++)
        publish_number(f.bus, i);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(reader, the_33rd_pin_of_a_log_is_refused_until_one_is_given_back)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *readers[PINS_MAX], *more = NULL;
    struct evbus_reader_options options = {.size = sizeof options, .pin = true};
    for (size_t i = 0; i < N(readers); i++)
        readers[i] = open_with(f.bus, options);
    cr_expect_eq(evbus_reader_open(&more, f.bus, &options), EVBUS_ELIMIT);
    has("33rd", evbus_message(f.bus), "log test.a");
    has("33rd", evbus_message(f.bus), "32 pinning readers");
    has("33rd", evbus_message(f.bus), "without .pin");
    cr_expect_eq(partition(f.bus, 0).n_pins, (uint32_t)PINS_MAX);
    options.pin = false;
    cr_expect_eq(evbus_reader_open(&more, f.bus, &options), EVBUS_OK, "%s", evbus_message(f.bus));
    evbus_reader_close(more);
    evbus_reader_close(readers[7]);
    options.pin = true;
    cr_expect_eq(evbus_reader_open(&readers[7], f.bus, &options), EVBUS_OK, "%s", evbus_message(f.bus));
    for (size_t i = 0; i < N(readers); i++)
        evbus_reader_close(readers[i]);
    cr_expect_eq(partition(f.bus, 0).n_pins, 0u);
    cr_expect_eq(partition(f.bus, 1).n_pins, 0u, "what it had got in other logs before it failed");
    fixture_end(&f);
}

struct pinner {
    struct evbus *bus;
    struct evbus_reader *reader;
    enum evbus_from from;
    bool dies; /* by raw exit: nothing of it is cleaned up */
    _Atomic bool is_open, may_end;
    unsigned n_to_read, n_read;
    int rc;
};

static void *pin(void *context)
{
    struct pinner *self = context;
    if (self->reader == NULL)
        self->rc = evbus_reader_open(&self->reader, self->bus,
                                     &(struct evbus_reader_options){
                                         .size = sizeof(struct evbus_reader_options), .from = self->from, .pin = true});
    atomic_store(&self->is_open, true);
    await_that(atomic_load(&self->may_end));
    while (self->rc == EVBUS_OK && self->n_read < self->n_to_read) {
        struct evbus_delivery got = {.size = sizeof got};
        self->rc = evbus_reader_next(self->reader, &got, 0);
        self->n_read += self->rc == EVBUS_OK;
    }
    if (self->dies)
        syscall(SYS_exit, 0);
    return NULL;
}

static pthread_t start(struct pinner *pinner)
{
    pthread_t thread;
    pthread_create(&thread, NULL, pin, pinner);
    cr_assert(await_that(atomic_load(&pinner->is_open)));
    cr_assert_eq(pinner->rc, EVBUS_OK);
    return thread;
}

static void end(struct pinner *pinner, pthread_t thread)
{
    atomic_store(&pinner->may_end, true);
    pthread_join(thread, NULL);
}

Test(reader, a_pin_ends_with_the_thread_that_used_the_reader_last)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct pinner pinner = {.bus = f.bus};
    pthread_t thread = start(&pinner);
    fill(f.bus);
    cr_expect_eq(partition(f.bus, 0).n_pins, 1u);
    end(&pinner, thread);
    cr_expect_eq(partition(f.bus, 0).n_pins, 0u, "the thread has ended, its pin holds on");
    for (unsigned i = 0; i < 200; i++) {
        int rc = fixture_publish(f.bus, NULL, "1");
        cr_assert_eq(rc, EVBUS_OK, "event %u: %s", i, evbus_message(f.bus));
    }
    evbus_reader_close(pinner.reader);
    fixture_end(&f);
}

Test(reader, threads_that_have_ended_leave_their_places_to_others)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    for (int i = 0; i < PINS_MAX + 8; i++) {
        struct pinner pinner = {.bus = f.bus};
        end(&pinner, start(&pinner));
        cr_assert_eq(pinner.rc, EVBUS_OK, "thread %d", i);
        evbus_reader_close(pinner.reader);
    }
    struct pinner open[PINS_MAX + 8] = {0};
    for (size_t i = 0; i < N(open); i++) { /* and when the reader is not even closed yet */
        pthread_t thread;
        open[i].bus = f.bus;
        atomic_store(&open[i].may_end, true);
        pthread_create(&thread, NULL, pin, &open[i]);
        pthread_join(thread, NULL);
        cr_assert_eq(open[i].rc, EVBUS_OK, "thread %zu: no pin is left, though every thread has ended", i);
    }
    for (size_t i = 0; i < N(open); i++)
        evbus_reader_close(open[i].reader);
    fixture_end(&f);
}

static void *sleep_once(void *context)
{
    struct pinner *self = context;
    struct evbus_delivery got = {.size = sizeof got};
    self->rc = evbus_reader_open(&self->reader, self->bus, NULL);
    if (self->rc == EVBUS_OK) {
        self->rc = evbus_reader_next(self->reader, &got, MS); /* it sleeps, but for an instant */
        evbus_reader_close(self->reader);
    }
    return NULL;
}

Test(reader, threads_that_have_ended_leave_their_sleepers_places_to_others)
{
    struct fixture f = fixture_make((struct fixture_options){.wait = EVBUS_WAIT_BLOCK});
    for (int i = 0; i < SLEEPERS_MAX + 8; i++) {
        struct pinner pinner = {.bus = f.bus};
        pthread_t thread;
        pthread_create(&thread, NULL, sleep_once, &pinner);
        pthread_join(thread, NULL);
        cr_assert_eq(pinner.rc, EVBUS_ETIMEOUT, "thread %d: no place is left, though every thread has ended", i);
    }
    fixture_end(&f);
}

Test(reader, a_pin_moves_to_the_thread_that_uses_the_reader_now)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct pinner first = {.bus = f.bus};
    pthread_t thread = start(&first);
    publish_number(f.bus, 0);
    cr_expect_str_eq(next(first.reader).payload, "0", "now we have it");
    end(&first, thread);
    cr_expect_eq(partition(f.bus, 0).n_pins, 1u, "the first thread's end does not take it away");
    unsigned n = fill(f.bus);
    for (unsigned i = 0; i < n; i++)
        cr_assert_eq(next(first.reader).lost, 0u);
    nothing_more(first.reader, "all");
    evbus_reader_close(first.reader);
    cr_expect_eq(partition(f.bus, 0).n_pins, 0u);
    fixture_end(&f);
}

Test(reader, who_takes_over_after_the_pins_thread_has_ended_pins_what_is_left)
{
    static const struct {
        const char *label;
        bool dies;
    } rows[] = {{"it ended", false}, {"it died", true}};
    for (size_t r = 0; r < N(rows); r++) {
        if (rows[r].dies && HAS_SANITIZER)
            continue;
        struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
        struct pinner first = {.bus = f.bus, .dies = rows[r].dies};
        pthread_t thread = start(&first);
        publish_number(f.bus, 0);
        end(&first, thread);
        struct evbus *sweeper = fixture_open(&f, "sweeper", EVBUS_KEEPER_NEVER); /* who opens buries */
        cr_expect_eq(partition(f.bus, 0).n_pins, 0u, "%s", rows[r].label);
        cr_expect_str_eq(next(first.reader).payload, "0");
        cr_expect_eq(partition(f.bus, 0).n_pins, 1u, "%s", rows[r].label);
        unsigned n = fill(f.bus);
        for (unsigned i = 0; i < n; i++)
            cr_assert_eq(next(first.reader).lost, 0u);
        evbus_reader_close(first.reader);
        cr_expect_eq(partition(f.bus, 0).n_pins, 0u, "%s", rows[r].label);
        evbus_close(sweeper);
        fixture_end(&f);
    }
}

/* A thread that begins gets the slot, and then the pin, of the one that has ended. Nobody may take them for the old ones. */
static void check_namesake(bool dies, const char *label, bool old_reader_is_used)
{
    if (dies && HAS_SANITIZER) /* it leaves memory behind, and a sanitizer that waits for it */
        cr_skip_test("no thread may die under a sanitizer");
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    publish_number(f.bus, 0); /* main has its slot */
    struct pinner old = {.bus = f.bus, .dies = dies};
    end(&old, start(&old));
    struct evbus *sweeper = fixture_open(&f, "sweeper", EVBUS_KEEPER_NEVER); /* who opens buries */
    struct pinner namesake = {.bus = f.bus};
    pthread_t thread = start(&namesake);
    cr_assert_eq(partition(f.bus, 0).n_pins, 1u, "%s", label);
    if (old_reader_is_used)
        nothing_more(old.reader, label);
    else
        evbus_reader_close(old.reader);
    cr_expect_eq(partition(f.bus, 0).n_pins, old_reader_is_used ? 2u : 1u, "%s: it is another reader's pin", label);
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "\"to the brim\""};
    unsigned n = 0;
    while (n < 200 && evbus_publish(f.bus, &event, NULL) == EVBUS_OK) {
        n++;
        if (old_reader_is_used)
            next(old.reader);
    }
    cr_expect_lt(n, 200u, "%s: the ring does not fill: nothing is pinned", label);
    namesake.n_to_read = n;
    end(&namesake, thread);
    cr_expect_eq(namesake.n_read, n, "%s: %u of %u events", label, namesake.n_read, n);
    cr_expect_eq(evbus_reader_lost(namesake.reader), 0u, "%s: a reader that pins has lost something", label);
    evbus_reader_close(namesake.reader);
    if (old_reader_is_used)
        evbus_reader_close(old.reader);
    evbus_close(sweeper);
    fixture_end(&f);
}

Test(reader, closing_a_reader_whose_thread_has_ended_leaves_the_next_ones_pin_alone)
{
    check_namesake(false, "it ended", false);
}

Test(reader, closing_a_reader_whose_thread_has_died_leaves_the_next_ones_pin_alone)
{
    check_namesake(true, "it died", false);
}

Test(reader, using_a_reader_whose_thread_has_ended_leaves_the_next_ones_pin_alone)
{
    check_namesake(false, "it ended", true);
}

Test(reader, using_a_reader_whose_thread_has_died_leaves_the_next_ones_pin_alone)
{
    check_namesake(true, "it died", true);
}

Test(reader, a_thread_in_the_slot_of_the_one_that_ended_pins_anew)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    publish_number(f.bus, 0);
    struct pinner old = {.bus = f.bus};
    end(&old, start(&old));
    for (unsigned i = 0; i < 3; i++)
        publish_number(f.bus, i);
    struct pinner heir = {.bus = f.bus, .reader = old.reader, .n_to_read = 1, .may_end = true};
    pthread_t thread;
    struct pinner stays = {.bus = f.bus};
    pthread_create(&thread, NULL, pin, &heir);
    pthread_join(thread, NULL);
    cr_expect_eq(heir.n_read, 1u);
    cr_expect_eq(partition(f.bus, 0).n_pins, 0u, "the heir has ended, too");
    thread = start(&stays);
    cr_expect_eq(partition(f.bus, 0).n_pins, 1u);
    cr_expect_eq(strtoul(next(old.reader).payload, NULL, 10), 1u);
    cr_expect_eq(partition(f.bus, 0).n_pins, 2u, "two readers, two pins");
    end(&stays, thread);
    cr_expect_eq(partition(f.bus, 0).n_pins, 1u);
    evbus_reader_close(stays.reader);
    evbus_reader_close(old.reader);
    cr_expect_eq(partition(f.bus, 0).n_pins, 0u);
    fixture_end(&f);
}

/* --- limits and cost ------------------------------------------------------------------------------------------------------------------ */

enum { HANDLES = 16, THREADS = 32 };
static_assert(HANDLES * THREADS == SLEEPERS_MAX, "they take all places");

struct sleeper_thread {
    struct evbus **handles;
    _Atomic bool *may_end;
    _Atomic unsigned *n_ready;
    int rc;
};

static void *sleep_on_all(void *context)
{
    struct sleeper_thread *self = context;
    struct evbus_reader *readers[HANDLES] = {NULL};
    struct evbus_delivery got = {.size = sizeof got};
    for (int i = 0; i < HANDLES && self->rc == EVBUS_OK; i++) {
        self->rc = evbus_reader_open(&readers[i], self->handles[i], NULL);
        if (self->rc == EVBUS_OK &&
            evbus_reader_next(readers[i], &got, 100 * MS) != EVBUS_ETIMEOUT) /* long enough to fall asleep in */
            self->rc = EVBUS_ELIMIT;
    }
    atomic_fetch_add(self->n_ready, 1);
    await_that(atomic_load(self->may_end));
    for (int i = 0; i < HANDLES; i++)
        evbus_reader_close(readers[i]);
    return NULL;
}

Test(reader, the_513th_sleeper_of_a_log_is_refused)
{
    struct fixture f = fixture_make((struct fixture_options){.wait = EVBUS_WAIT_BLOCK});
    struct evbus *handles[HANDLES];
    struct sleeper_thread sleepers[THREADS];
    pthread_t threads[THREADS];
    _Atomic bool may_end = false;
    _Atomic unsigned n_ready = 0;
    for (int i = 0; i < HANDLES; i++)
        handles[i] = open_in_mode(&f, &modes[3]);
    for (int i = 0; i < THREADS; i++) {
        sleepers[i] = (struct sleeper_thread){handles, &may_end, &n_ready, EVBUS_OK};
        pthread_create(&threads[i], NULL, sleep_on_all, &sleepers[i]);
    }
    cr_assert(await_that(atomic_load(&n_ready) == THREADS));
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){0});
    struct evbus_delivery got = {.size = sizeof got};
    cr_expect_eq(evbus_reader_next(reader, &got, 5000 * MS), EVBUS_ELIMIT);
    has("513th", evbus_message(f.bus), "log test.a");
    has("513th", evbus_message(f.bus), "512 sleeping threads");
    publish_number(f.bus, 1);
    cr_expect_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK, "who need not sleep may read");
    atomic_store(&may_end, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(sleepers[i].rc, EVBUS_OK, "thread %d", i);
    }
    cr_expect_eq(evbus_reader_next(reader, &got, MS), EVBUS_ETIMEOUT, "all have ended: %s", evbus_message(f.bus));
    evbus_reader_close(reader);
    for (int i = 0; i < HANDLES; i++)
        evbus_close(handles[i]);
    fixture_end(&f);
}

Test(reader, nothing_is_allocated_after_a_threads_first_call)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 2});
    struct evbus_reader *reader = open_with(f.bus, (struct evbus_reader_options){.pin = true});
    struct evbus_delivery got = {.size = sizeof got};
    count_allocations();
    publish(f.bus, "test.a.one", "k", "1");
    cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK);
    unsigned before = n_allocations;
    void *volatile probe = malloc(1);
    free(probe);
    cr_assert_gt(n_allocations, before, "allocations are not counted");
    before = n_allocations;
    int wrong = 0;
    for (int i = 0; i < 300; i++) {
        wrong += fixture_publish(f.bus, i % 2 == 0 ? "k" : NULL, "[1]") != EVBUS_OK;
        wrong += evbus_reader_next(reader, &got, MS) != EVBUS_OK;
        if (i % 10 == 0)
            wrong += evbus_reader_next(reader, &got, i % 20 == 0 ? 0 : MS) != EVBUS_ETIMEOUT;
    }
    cr_expect_eq(n_allocations - before, 0u, "%u allocations", n_allocations - before);
    cr_expect_eq(wrong, 0);
    evbus_reader_close(reader);
    fixture_end(&f);
}
