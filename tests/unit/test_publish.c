/* test_publish.c: what evbus_publish() and evbus_publish_batch() do, refuse and cost.
 *
 * A refusal must name the field, what was found and the mend, publish nothing and leave the receipt alone. Cost is counted:
 * allocations by our own malloc(), system calls by a seccomp filter that traps each of them. */
#include "allocations.h"
#include "archive.h"
#include "await.h"
#include "bus.h"
#include "doorbell.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MS      UINT64_C(1000000)
#define S       UINT64_C(1000000000)

static bool is_quick(void)
{
    return getenv("EVBUS_QUICK") != NULL;
}

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * S + (uint64_t)now.tv_nsec;
}

/* --- helpers ---------------------------------------------------------------------------------------------------------- */

static struct evbus_event event(const char *topic, const char *key, const char *payload)
{
    return (struct evbus_event){.size = sizeof(struct evbus_event), .topic = topic, .key = key, .payload = payload};
}

static struct evbus_reader *reader_open(struct evbus *bus, enum evbus_from from, bool pin)
{
    struct evbus_reader *reader = NULL;
    int rc = evbus_reader_open(
        &reader, bus,
        &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options), .from = from, .pin = pin});
    cr_assert_eq(rc, EVBUS_OK, "evbus_reader_open: %s", evbus_message(bus));
    return reader;
}

static struct evbus_delivery next(struct evbus_reader *reader)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_reader_next(reader, &got, 10 * S);
    cr_assert_eq(rc, EVBUS_OK, "evbus_reader_next: %s", evbus_message(NULL));
    return got;
}

static void nothing_more(struct evbus_reader *reader)
{
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_ETIMEOUT, "something was published");
}

static void has(const char *label, const char *message, const char *fragment)
{
    if (fragment != NULL)
        cr_expect_not_null(strstr(message, fragment), "%s: the message does not say \"%s\": %s", label, fragment,
                           message);
}

/* Publishes until the ring is full, without waiting; how many went in. */
static unsigned fill(struct evbus *bus)
{
    unsigned n = 0;
    struct evbus_event one = event("test.a.one", NULL, "\"to the brim\"");
    int rc;
    while ((rc = evbus_publish(bus, &one, NULL)) == EVBUS_OK && n < 100000)
        n++;
    cr_assert_eq(rc, EVBUS_EFULL, "%s", evbus_message(bus));
    return n;
}

static bool is_anybody_asleep(const struct evbus *bus)
{
    const struct log_head *head = bus->memory.logs[0].head;
    return atomic_load_explicit(&head->sleeping[0], memory_order_acquire) != 0;
}

/* --- what is published ------------------------------------------------------------------------------------------------ */

Test(publish, what_was_published_is_read_byte_for_byte)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    cr_assert_eq(fixture_publish(f.bus, "k1", "{\"price\": 1.10}"), EVBUS_OK, "%s", evbus_message(f.bus));
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_next(reader, &got, 1000000000), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_str_eq(got.payload, "{\"price\": 1.10}");
    cr_expect_str_eq(got.key, "k1");
    cr_expect_str_eq(got.topic, "test.a.one");
    cr_expect_str_eq(got.service, "tester");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, every_json_text_is_a_payload_and_blanks_stay)
{
    static const char *const payloads[] = {
        "null",
        "0",
        "-1.10e+5",
        "\"a string\"",
        "true",
        "[]",
        "{}",
        " \r\n\t{ \"a\" : 1 ,\n\"a\" : 2 } ",
        "\"\\ud800 alone\"",
        "\"Gr\xc3\xbc\xc3\x9f Gott \xe2\x82\xac \xf0\x9f\x98\x80\"",
    };
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    for (size_t i = 0; i < N(payloads); i++) {
        cr_assert_eq(fixture_publish(f.bus, NULL, payloads[i]), EVBUS_OK, "%s: %s", payloads[i], evbus_message(f.bus));
        struct evbus_delivery got = next(reader);
        cr_expect_eq(got.payload_len, strlen(payloads[i]), "%s", payloads[i]);
        cr_expect_str_eq(got.payload, payloads[i]);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, strings_may_be_given_by_length_or_by_their_nul)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    static const char payload[] = {'[', '1', ']', 'x'}; /* no NUL anywhere near */
    static const char key[] = {'k', 'e', 'y', 'x'};
    static const struct {
        const char *label;
        size_t payload_len, key_len;
        const char *payload, *key;
        const char *expected_payload, *expected_key;
    } rows[] = {
        {"both by length", 3, 3, payload, key, "[1]", "key"},
        {"both by NUL", 0, 0, "[2]", "key", "[2]", "key"},
        {"payload by length, key by NUL", 3, 0, payload, "other", "[1]", "other"},
        {"a length shorter than the NUL", 1, 2, "123", "abc", "1", "ab"},
        {"no key", 0, 0, "4", NULL, "4", ""},
        {"no key, whatever its length says", 0, 7, "5", NULL, "5", ""},
        {"an empty key is no key", 0, 0, "6", "", "6", ""},
        {"a key of 15 bytes by NUL", 0, 0, "7", "0123456789abcde", "7", "0123456789abcde"},
        {"of 16", 0, 0, "8", "0123456789abcdef", "8", "0123456789abcdef"},
        {"of 17", 0, 0, "9", "0123456789abcdefg", "9", "0123456789abcdefg"},
        {"of two bytes a letter", 0, 0, "10", "gr\u00fc\u00df", "10", "gr\u00fc\u00df"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_event one = event("test.a.one", rows[i].key, rows[i].payload);
        one.payload_len = rows[i].payload_len;
        one.key_len = rows[i].key_len;
        cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK, "%s: %s", rows[i].label, evbus_message(f.bus));
        struct evbus_delivery got = next(reader);
        cr_expect_str_eq(got.payload, rows[i].expected_payload, "%s", rows[i].label);
        cr_expect_str_eq(got.key, rows[i].expected_key, "%s", rows[i].label);
        cr_expect_eq(got.key_len, strlen(rows[i].expected_key), "%s", rows[i].label);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, the_longest_key_and_the_largest_payload_go_through)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "1MiB"});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    const size_t len = 240 * 1024;
    char key[256];
    char *payload = malloc(len);
    memset(key, 'k', 255);
    key[255] = '\0';
    memset(payload, 'p', len);
    payload[0] = payload[len - 1] = '"';
    struct evbus_event one = event("test.a.one", key, payload);
    one.payload_len = len;
    for (int lap = 0; lap < 12; lap++) { /* more than the ring: it goes round, with pads at its end */
        cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
        struct evbus_delivery got = next(reader);
        cr_assert_eq(got.payload_len, len);
        cr_assert_eq(memcmp(got.payload, payload, len), 0, "lap %d", lap);
        cr_assert_eq(((const char *)got.payload)[len], '\0', "a NUL stands behind the payload");
        cr_assert_str_eq(got.key, key);
    }
    one.payload_len = len + 1;
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_EINVAL);
    has("one byte more", evbus_message(f.bus), "245761");
    has("one byte more", evbus_message(f.bus), "245760");
    free(payload);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, what_is_passed_is_copied_before_the_call_returns)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    char topic[] = "test.a.two", key[] = "key", payload[] = "[\"mine\"]";
    struct evbus_event one = event(topic, key, payload);
    cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK);
    memset(topic, 'x', sizeof topic - 1);
    memset(key, 'x', sizeof key - 1);
    memset(payload, 'x', sizeof payload - 1);
    struct evbus_delivery got = next(reader);
    cr_expect_str_eq(got.topic, "test.a.two");
    cr_expect_str_eq(got.key, "key");
    cr_expect_str_eq(got.payload, "[\"mine\"]");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, an_id_that_is_given_is_kept)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    struct evbus_event one = event("test.a.one", NULL, "1");
    struct evbus_receipt receipt = {.size = sizeof receipt};
    for (unsigned i = 0; i < 16; i++)
        one.id[i] = (uint8_t)(i == 15 ? 1 : 0); /* all but nil; and no version 7 */
    cr_assert_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_OK);
    cr_expect_arr_eq(receipt.id, one.id, 16);
    cr_expect_arr_eq(next(reader).id, one.id, 16);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, ids_that_we_make_are_of_version_7_and_grow_within_a_thread)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 4});
    uint8_t last[16] = {0};
    for (int i = 0; i < 5000; i++) {
        struct evbus_event one = event(i % 2 == 0 ? "test.a.one" : "test.b.one", i % 3 == 0 ? "key" : NULL, "1");
        struct evbus_receipt receipt = {.size = sizeof receipt};
        cr_assert_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_OK, "%s", evbus_message(f.bus));
        cr_assert_eq(receipt.id[6] >> 4, 7, "event %d: its version is %d", i, receipt.id[6] >> 4);
        cr_assert_eq(receipt.id[8] >> 6, 2, "event %d: its variant", i);
        cr_assert_gt(memcmp(receipt.id, last, 16), 0, "event %d: its id is not above the one before", i);
        memcpy(last, receipt.id, 16);
    }
    fixture_end(&f);
}

Test(publish, a_timestamp_that_is_given_is_kept_and_zero_means_now)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    struct evbus_event one = event("test.a.one", NULL, "1");
    struct evbus_receipt receipt = {.size = sizeof receipt};
    uint64_t before = wall_ns();
    cr_assert_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_OK);
    uint64_t after = wall_ns();
    cr_expect(before <= receipt.timestamp_ns && receipt.timestamp_ns <= after, "%" PRIu64 " <= %" PRIu64 " <= %" PRIu64,
              before, receipt.timestamp_ns, after);
    cr_expect_eq(next(reader).timestamp_ns, receipt.timestamp_ns);
    one.timestamp_ns = 1;
    cr_assert_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_OK);
    cr_expect_eq(receipt.timestamp_ns, 1);
    cr_expect_eq(next(reader).timestamp_ns, 1);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, a_version_is_kept_and_none_means_1_0)
{
    static const struct {
        const char *label;
        uint16_t major, minor, expected_major, expected_minor;
    } rows[] = {
        {"none", 0, 0, 1, 0},
        {"1.0", 1, 0, 1, 0},
        {"1.7", 1, 7, 1, 7},
        {"65535.65535", 65535, 65535, 65535, 65535},
    };
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_event one = event("test.a.one", NULL, "1");
        one.version_major = rows[i].major;
        one.version_minor = rows[i].minor;
        cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK, "%s", rows[i].label);
        struct evbus_delivery got = next(reader);
        cr_expect_eq(got.version_major, rows[i].expected_major, "%s", rows[i].label);
        cr_expect_eq(got.version_minor, rows[i].expected_minor, "%s", rows[i].label);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, a_receipt_tells_where_the_event_went)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 4});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    for (int i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%d", i);
        struct evbus_event one = event("test.b.one", key, "1");
        struct evbus_receipt receipt = {.size = sizeof receipt, .duplicate = true};
        cr_assert_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_OK);
        struct evbus_delivery got = next(reader);
        cr_expect_eq(receipt.size, sizeof receipt);
        cr_expect_str_eq(receipt.log, "test.b");
        cr_expect_str_eq(got.log, "test.b");
        cr_expect_eq(receipt.partition, got.partition);
        cr_expect_eq(receipt.position, got.position);
        cr_expect_eq(receipt.timestamp_ns, got.timestamp_ns);
        cr_expect_arr_eq(receipt.id, got.id, 16);
        cr_expect_eq(receipt.ack, EVBUS_ACK_MEMORY);
        cr_expect_not(receipt.duplicate);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, a_receipt_of_an_older_size_is_written_as_far_as_it_goes)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_event one = event("test.a.one", NULL, "1");
    struct evbus_receipt receipt;
    memset(&receipt, 0xaa, sizeof receipt);
    receipt.size = offsetof(struct evbus_receipt, log);
    cr_assert_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_OK);
    cr_expect_eq(receipt.id[6] >> 4, 7);
    for (size_t i = offsetof(struct evbus_receipt, log); i < sizeof receipt; i++)
        cr_assert_eq(((unsigned char *)&receipt)[i], 0xaa, "byte %zu of the receipt was written", i);
    struct evbus_receipt whole = {.size = 0}; /* as of 1.0 */
    cr_assert_eq(evbus_publish(f.bus, &one, &whole), EVBUS_OK);
    cr_expect_str_eq(whole.log, "test.a");
    cr_expect_eq(whole.ack, EVBUS_ACK_MEMORY);
    fixture_end(&f);
}

/* --- where it goes ---------------------------------------------------------------------------------------------------- */

Test(publish, a_key_always_goes_to_the_partition_that_its_hash_says)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 7});
    bool used[7] = {false};
    for (int i = 0; i < 400; i++) {
        char key[16];
        snprintf(key, sizeof key, "order-%d", i % 200);
        struct evbus_event one = event(i < 200 ? "test.a.one" : "test.a.two", key, "1");
        struct evbus_receipt receipt = {.size = sizeof receipt};
        cr_assert_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_OK, "%s", evbus_message(f.bus));
        uint32_t expected = (uint32_t)(XXH3_64bits(key, strlen(key)) >> 32) % 7;
        cr_assert_eq(receipt.partition, expected, "key %s: partition %u, not %u", key, receipt.partition, expected);
        used[receipt.partition] = true;
    }
    for (int p = 0; p < 7; p++)
        cr_expect(used[p], "partition %d got none of 200 keys", p);
    fixture_end(&f);
}

Test(publish, events_without_a_key_are_spread_by_their_id)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 7});
    unsigned n[7] = {0};
    for (int i = 0; i < 700; i++) {
        struct evbus_event one = event("test.a.one", i % 2 == 0 ? NULL : "", "1");
        struct evbus_receipt receipt = {.size = sizeof receipt};
        cr_assert_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_OK, "%s", evbus_message(f.bus));
        uint32_t expected = (uint32_t)(XXH3_64bits(receipt.id, 16) >> 32) % 7;
        cr_assert_eq(receipt.partition, expected);
        n[receipt.partition]++;
    }
    for (int p = 0; p < 7; p++)
        cr_expect_gt(n[p], 40u, "partition %d got %u of 700", p, n[p]);
    fixture_end(&f);
}

/* --- refusals ----------------------------------------------------------------------------------------------------------- */

#define LETTERS_16  "0123456789abcdef"
#define LETTERS_256 LETTERS_64 LETTERS_64 LETTERS_64 LETTERS_64
#define LETTERS_64  LETTERS_16 LETTERS_16 LETTERS_16 LETTERS_16

static const struct refusal {
    const char *label;
    struct evbus_event event;
    enum evbus_code code;
    const char *says[3];
} refusals[] = {
    {"no topic", {.payload = "1"}, EVBUS_EINVAL, {"event.topic", "NULL"}},
    {"no payload", {.topic = "test.a.one"}, EVBUS_EINVAL, {"event.payload", "NULL", "null"}},
    {"an empty payload", {.topic = "test.a.one", .payload = ""}, EVBUS_EINVAL, {"event.payload", "empty", "JSON"}},
    {"no JSON", {.topic = "test.a.one", .payload = "hello"}, EVBUS_EINVAL, {"event.payload", "not JSON", "at byte 0"}},
    {"JSON that ends early", {.topic = "test.a.one", .payload = "{\"a\":1"}, EVBUS_EINVAL, {"not JSON", "at byte 6"}},
    {"two JSON texts", {.topic = "test.a.one", .payload = "{} {}"}, EVBUS_EINVAL, {"not JSON", "at byte 3"}},
    {"a NUL in the payload", {.topic = "test.a.one", .payload = "1\0", .payload_len = 2}, EVBUS_EINVAL, {"at byte 1"}},
    {"a BOM", {.topic = "test.a.one", .payload = "\xef\xbb\xbf{}"}, EVBUS_EINVAL, {"not JSON", "at byte 0"}},
    {"bad UTF-8 in the payload",
     {.topic = "test.a.one", .payload = "\"\xff\""},
     EVBUS_EINVAL,
     {"not JSON", "at byte 1"}},
    {"a key of 256 bytes",
     {.topic = "test.a.one", .payload = "1", .key = LETTERS_256},
     EVBUS_EINVAL,
     {"event.key", "255"}},
    {"a key_len of 256",
     {.topic = "test.a.one", .payload = "1", .key = LETTERS_256, .key_len = 256},
     EVBUS_EINVAL,
     {"event.key", "255"}},
    {"a huge key_len",
     {.topic = "test.a.one", .payload = "1", .key = "k", .key_len = SIZE_MAX},
     EVBUS_EINVAL,
     {"event.key", "255"}},
    {"bad UTF-8 in the key",
     {.topic = "test.a.one", .payload = "1", .key = "a\xff"},
     EVBUS_EINVAL,
     {"event.key", "UTF-8"}},
    {"bad UTF-8 at the end of a long key",
     {.topic = "test.a.one", .payload = "1", .key = "0123456789abcdefg\xff"},
     EVBUS_EINVAL,
     {"event.key", "UTF-8"}},
    {"half a letter in the key",
     {.topic = "test.a.one", .payload = "1", .key = "\xc3\xbc", .key_len = 1},
     EVBUS_EINVAL,
     {"event.key", "UTF-8"}},
    {"version 0.3",
     {.topic = "test.a.one", .payload = "1", .version_minor = 3},
     EVBUS_EINVAL,
     {"event.version", "0.3", "1 or more"}},
    {"ack disk",
     {.topic = "test.a.one", .payload = "1", .ack = EVBUS_ACK_DISK},
     EVBUS_EINVAL,
     {"event.ack", "disk", "memory"}},
    {"ack broker",
     {.topic = "test.a.one", .payload = "1", .ack = EVBUS_ACK_BROKER},
     EVBUS_EINVAL,
     {"event.ack", "no bridge", "memory"}},
    {"no ack at all", {.topic = "test.a.one", .payload = "1", .ack = 99}, EVBUS_EINVAL, {"event.ack", "99"}},
    {"a topic that is not there",
     {.topic = "test.a.three", .payload = "1"},
     EVBUS_ENOTFOUND,
     {"test.a.three", "not in the catalogue", "evbus catalogue show"}},
    {"a topic of two segments",
     {.topic = "test.a", .payload = "1"},
     EVBUS_EINVAL,
     {"\"test.a\"", "2 segments", "3 or 4"}},
    {"a topic in capitals", {.topic = "test.a.One", .payload = "1"}, EVBUS_EINVAL, {"test.a.One", "segment 3", "'O'"}},
    {"an empty topic", {.topic = "", .payload = "1"}, EVBUS_EINVAL, {"topic", "segment 1 is empty"}},
    {"a pattern as topic", {.topic = "test.a.*", .payload = "1"}, EVBUS_EINVAL, {"test.a.*", "'*'"}},
    {"a topic that another one begins with",
     {.topic = "test.a.onee", .payload = "1"},
     EVBUS_ENOTFOUND,
     {"test.a.onee"}},
    {"too large",
     {.topic = "test.a.one", .payload = "1", .payload_len = 16057, .payload_is_checked = true},
     EVBUS_EINVAL,
     {"event.payload", "16057", "16056"}},
    {"a size of garbage",
     {.size = 5000, .topic = "test.a.one", .payload = "1"},
     EVBUS_EINVAL,
     {"size", "5000", "sizeof"}},
    {"a size that ends before the payload",
     {.size = 16, .topic = "test.a.one", .payload = "1"},
     EVBUS_EINVAL,
     {"event.payload", "NULL"}},
};

Test(publish, what_is_wrong_is_refused_by_name_and_nothing_is_published)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    for (size_t i = 0; i < N(refusals); i++) {
        const struct refusal *row = &refusals[i];
        struct evbus_receipt receipt, before;
        memset(&receipt, 0xaa, sizeof receipt);
        receipt.size = sizeof receipt;
        before = receipt;
        int rc = evbus_publish(f.bus, &row->event, &receipt);
        cr_expect_eq(rc, row->code, "%s: %d (%s)", row->label, rc, rc != EVBUS_OK ? evbus_message(f.bus) : "taken");
        for (size_t k = 0; k < N(row->says); k++)
            has(row->label, evbus_message(f.bus), row->says[k]);
        cr_expect_arr_eq((char *)&receipt, (char *)&before, sizeof receipt, "%s: the receipt was touched", row->label);
        nothing_more(reader);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* Nothing of the batch is published, and the message says which event it is about, and what a single publish says. */
static void refuses_batch(struct evbus *bus, struct evbus_reader *reader, const struct refusal *row,
                          const struct evbus_event *events, size_t n, const char *which)
{
    size_t n_published = 77;
    int rc = evbus_publish_batch(bus, events, n, NULL, &n_published);
    cr_expect_eq(rc, row->code, "%s: %d", row->label, rc);
    cr_expect_eq(n_published, 0, "%s: %zu were published", row->label, n_published);
    has(row->label, evbus_message(bus), which);
    for (size_t k = 0; k < N(row->says); k++)
        has(row->label, evbus_message(bus), row->says[k]);
    nothing_more(reader);
}

Test(publish, what_is_refused_alone_is_refused_in_a_batch_with_its_number)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    for (size_t i = 0; i < N(refusals); i++) {
        const struct refusal *row = &refusals[i];
        if (row->event.size != 0) /* all of a batch have the size of the first */
            continue;
        struct evbus_event events[4] = {
            event("test.a.one", NULL, "1"),
            event("test.b.one", "k", "2"),
            row->event,
            event("test.a.one", NULL, "4"),
        };
        refuses_batch(f.bus, reader, row, events, 4, "event 3 of 4");
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* A batch checks less of an event that differs from the one before in key and payload alone. */
Test(publish, what_is_wrong_is_refused_behind_an_event_that_is_the_same_but_for_its_key_and_payload)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    unsigned n_tried = 0;
    for (size_t i = 0; i < N(refusals); i++) {
        const struct refusal *row = &refusals[i];
        struct evbus_event events[2] = {row->event, row->event};
        events[0].payload = "1";
        events[0].payload_len = 0;
        events[0].key = "k";
        events[0].key_len = 0;
        if (row->event.size != 0 || evbus_publish(f.bus, &events[0], NULL) != EVBUS_OK)
            continue; /* something else of it is wrong */
        struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
        refuses_batch(f.bus, reader, row, events, 2, "event 2 of 2");
        evbus_reader_close(reader);
        n_tried++;
    }
    cr_expect_geq(n_tried, 14u, "only %u of the refusals are about a key or a payload", n_tried);
    fixture_end(&f);
}

Test(publish, null_arguments_are_refused)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_event one = event("test.a.one", NULL, "1");
    size_t n_published = 77;
    cr_expect_eq(evbus_publish(NULL, &one, NULL), EVBUS_EINVAL);
    has("bus", evbus_message(NULL), "the bus is NULL");
    cr_expect_eq(evbus_publish(f.bus, NULL, NULL), EVBUS_EINVAL);
    has("event", evbus_message(f.bus), "event is NULL");
    cr_expect_eq(evbus_publish_batch(NULL, &one, 1, NULL, NULL), EVBUS_EINVAL);
    has("bus of a batch", evbus_message(NULL), "the bus is NULL");
    cr_expect_eq(evbus_publish_batch(f.bus, NULL, 1, NULL, &n_published), EVBUS_EINVAL);
    has("events", evbus_message(f.bus), "events is NULL");
    cr_expect_eq(n_published, 0);
    fixture_end(&f);
}

Test(publish, a_receipt_of_an_impossible_size_is_refused_before_anything_is_published)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    struct evbus_event one = event("test.a.one", NULL, "1");
    struct evbus_receipt receipt = {.size = 1 << 20};
    size_t n_published = 77;
    cr_expect_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_EINVAL);
    has("one", evbus_message(f.bus), "receipt.size is 1048576");
    cr_expect_eq(evbus_publish_batch(f.bus, &one, 1, &receipt, &n_published), EVBUS_EINVAL);
    has("batch", evbus_message(f.bus), "receipt.size is 1048576");
    cr_expect_eq(n_published, 0);
    nothing_more(reader);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, a_field_that_only_a_newer_library_knows_is_refused_unless_it_is_zero)
{
    struct newer {
        struct evbus_event event;
        uint64_t more;
    } newer = {event("test.a.one", NULL, "1"), 0};
    struct fixture f = fixture_make((struct fixture_options){0});
    newer.event.size = sizeof newer;
    cr_expect_eq(evbus_publish(f.bus, &newer.event, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    newer.more = 1;
    cr_expect_eq(evbus_publish(f.bus, &newer.event, NULL), EVBUS_EINVAL);
    has("newer", evbus_message(f.bus), "struct evbus_event");
    has("newer", evbus_message(f.bus), "newer library");
    newer.event.size = 0; /* as of 1.0: the rest is not ours to look at */
    cr_expect_eq(evbus_publish(f.bus, &newer.event, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    newer.event.size = offsetof(struct evbus_event, timeout_ns); /* an older caller's */
    cr_expect_eq(evbus_publish(f.bus, &newer.event, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    fixture_end(&f);
}

static const char closed_catalogue[] =
    "{\"namespace\":\"test\",\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"64KiB\"},\"topics\":{"
    "\"test.a.one\":{\"producers\":[\"shop\",\"billing\"]},\"test.a.two\":{\"producers\":[\"tester\"]}}}";

Test(publish, who_may_not_is_denied_and_told_who_may)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = closed_catalogue});
    struct evbus_event one = event("test.a.one", NULL, "1");
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_EDENIED);
    has("topic", evbus_message(f.bus), "test.a.one");
    has("who asked", evbus_message(f.bus), "tester may not");
    has("who may", evbus_message(f.bus), "shop, billing");
    one.topic = "test.a.two";
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    struct evbus *shop = fixture_open(&f, "shop", EVBUS_KEEPER_NEVER);
    one.topic = "test.a.one";
    cr_expect_eq(evbus_publish(shop, &one, NULL), EVBUS_OK, "%s", evbus_message(shop));
    evbus_close(shop);
    fixture_end(&f);
}

Test(publish, who_says_no_service_may_read_only)
{
    static const struct {
        const char *label, *catalogue;
    } rows[] = {{"closed", closed_catalogue}, {"open", NULL}};
    unsetenv("EVBUS_SERVICE");
    for (size_t i = 0; i < N(rows); i++) {
        struct fixture f = fixture_make((struct fixture_options){.catalogue = rows[i].catalogue});
        struct evbus *nobody = fixture_open(&f, NULL, EVBUS_KEEPER_NEVER);
        struct evbus_event one = event("test.a.two", NULL, "1");
        struct evbus_reader *reader = reader_open(nobody, EVBUS_FROM_LATEST, false);
        cr_expect_eq(evbus_publish(nobody, &one, NULL), EVBUS_EDENIED, "%s", rows[i].label);
        has(rows[i].label, evbus_message(nobody), "EVBUS_SERVICE");
        cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
        cr_expect_str_eq(next(reader).service, "tester");
        evbus_reader_close(reader);
        evbus_close(nobody);
        fixture_end(&f);
    }
}

Test(publish, a_payload_that_the_caller_has_checked_is_not_checked_again)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    struct evbus_event events[2] = {event("test.a.one", NULL, "no JSON"), event("test.a.one", NULL, "{}")};
    events[0].payload_is_checked = true;
    cr_assert_eq(evbus_publish(f.bus, &events[0], NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_str_eq(next(reader).payload, "no JSON");
    cr_assert_eq(evbus_publish_batch(f.bus, events, 2, NULL, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_str_eq(next(reader).payload, "no JSON");
    cr_expect_str_eq(next(reader).payload, "{}");
    events[0].payload = ""; /* but never an empty one */
    cr_expect_eq(evbus_publish(f.bus, &events[0], NULL), EVBUS_EINVAL);
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* --- batches ------------------------------------------------------------------------------------------------------------ */

Test(publish, a_batch_is_published_in_order_with_a_receipt_each)
{
    enum { COUNT = 50 };
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    struct evbus_event events[COUNT];
    struct evbus_receipt receipts[COUNT];
    char payloads[COUNT][8];
    size_t n_published = 0;
    for (int i = 0; i < COUNT; i++) {
        snprintf(payloads[i], sizeof payloads[i], "%d", i);
        events[i] = event(i % 3 == 0 ? "test.a.two" : "test.a.one", NULL, payloads[i]);
    }
    receipts[0].size = sizeof receipts[0];
    cr_assert_eq(evbus_publish_batch(f.bus, events, COUNT, receipts, &n_published), EVBUS_OK, "%s",
                 evbus_message(f.bus));
    cr_expect_eq(n_published, (size_t)COUNT);
    for (int i = 0; i < COUNT; i++) {
        struct evbus_delivery got = next(reader);
        cr_assert_str_eq(got.payload, payloads[i]);
        cr_expect_arr_eq(receipts[i].id, got.id, 16);
        cr_expect_eq(receipts[i].position, got.position, "event %d", i);
        cr_expect_str_eq(receipts[i].log, "test.a");
        cr_expect_eq(receipts[i].ack, EVBUS_ACK_MEMORY);
        if (i > 0)
            cr_expect_gt(memcmp(receipts[i].id, receipts[i - 1].id, 16), 0, "ids grow");
    }
    nothing_more(reader);
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* More than a batch keeps of its checks; some like the one before, some not; keys by pointer, by length, by content. */
Test(publish, each_event_of_a_batch_goes_where_it_would_go_alone)
{
    enum { COUNT = 600 };
    static struct evbus_event events[COUNT];
    static struct evbus_receipt receipts[COUNT];
    static char payloads[COUNT][16], keys[COUNT][16];
    struct fixture f = fixture_make((struct fixture_options){.partitions = 4, .ring = "1MiB"});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
    for (int i = 0; i < COUNT; i++) {
        snprintf(payloads[i], sizeof payloads[i], "%d", i);
        snprintf(keys[i], sizeof keys[i], "key-%d", i % 50);
        events[i] = event(i % 100 < 90 ? "test.a.one" : "test.b.one", i % 3 == 0 ? keys[i] : "abcdefgh", payloads[i]);
        events[i].key_len = i % 3 == 1 ? 1 + (size_t)i / 3 % 8 : 0;
        events[i].id[15] = (uint8_t)(i + 1);
        events[i].id[14] = (uint8_t)((i + 1) >> 8);
        events[i].version_major = i % 200 < 100 ? 1 : 2;
        if (i % 7 == 0)
            events[i].key = NULL;
        if (i % 11 == 0)
            events[i].correlation_id = payloads[i];
    }
    receipts[0].size = sizeof receipts[0];
    cr_assert_eq(evbus_publish_batch(f.bus, events, COUNT, receipts, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    for (int i = 0; i < COUNT; i++) {
        struct evbus_delivery got = next(reader);
        int n = got.id[15] + 256 * got.id[14] - 1;
        cr_assert(n >= 0 && n < COUNT);
        const struct evbus_event *given = &events[n];
        size_t key_len = given->key == NULL ? 0 : given->key_len != 0 ? given->key_len : strlen(given->key);
        cr_expect_str_eq(got.topic, given->topic, "event %d", n);
        cr_expect_str_eq(got.payload, payloads[n], "event %d", n);
        cr_expect_eq(got.key_len, key_len, "event %d", n);
        cr_expect(key_len == 0 || memcmp(got.key, given->key, key_len) == 0, "event %d", n);
        cr_expect_eq(got.version_major, given->version_major, "event %d", n);
        cr_expect_eq(got.correlation_id == NULL || *got.correlation_id == '\0', given->correlation_id == NULL,
                     "event %d", n);
        cr_expect_eq(got.partition, receipts[n].partition, "event %d", n);
        cr_expect_eq(got.position, receipts[n].position, "event %d", n);
    }
    nothing_more(reader);
    for (int i = 0; i < COUNT; i++) {
        struct evbus_receipt alone = {.size = sizeof alone};
        cr_assert_eq(evbus_publish(f.bus, &events[i], &alone), EVBUS_OK, "%s", evbus_message(f.bus));
        cr_expect_eq(receipts[i].partition, alone.partition, "event %d", i);
        cr_expect_str_eq(receipts[i].log, alone.log, "event %d", i);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* What batches are made of. */
static const struct mix {
    const char *label, *ring;
    unsigned partitions;
    int count;
    unsigned longest; /* bytes of a payload, about */
    bool has_keys, has_topics, has_areas, has_versions;
} mixes[] = {
    {"one", "64KiB", 1, 1, 1, false, false, false, false},
    {"alike", "64KiB", 1, 100, 1, false, false, false, false},
    {"of many lengths", "1MiB", 1, 300, 2000, false, false, false, false},
    {"longer than a run may be", "256KiB", 1, 20, 12000, false, false, false, false},
    {"in a small ring", "4KiB", 1, 20, 1, false, false, false, false},
    {"in a small ring, of many lengths", "8KiB", 1, 9, 500, false, false, false, false},
    {"of many keys", "256KiB", 4, 200, 100, true, false, false, false},
    {"of many topics and logs", "256KiB", 1, 200, 100, false, true, false, false},
    {"with header areas here and there", "256KiB", 1, 200, 100, false, false, true, false},
    {"with further versions here and there", "256KiB", 1, 200, 100, false, false, false, true},
    {"more than is kept of checks", "1MiB", 1, 600, 100, false, false, false, false},
    {"all of that", "1MiB", 3, 600, 500, true, true, true, true},
};

enum { MIX_MAX = 600 };
static char mix_payloads[MIX_MAX][12200];

static void make_mix(const struct mix *mix, int round, struct evbus_event *events)
{
    static const char *const keys[] = {"ab", "cd", "ef", "gh", "ij"};
    static const char *const topics[] = {"test.a.one", "test.b.one", "test.a.two"};
    static const struct evbus_version more = {2, 0, "\"two\"", 5};
    for (int i = 0; i < mix->count; i++) {
        unsigned drawn = (unsigned)(i + 1) * 2654435761u >> 8;
        int len = 1 + (int)(drawn % mix->longest);
        snprintf(mix_payloads[i], sizeof mix_payloads[i], "[%d,%d,\"%0*d\"]", round, i, len, 0);
        events[i] = event(topics[mix->has_topics ? drawn / 5 % 3 : 0], mix->has_keys ? keys[drawn / 7 % 5] : NULL,
                          mix_payloads[i]);
        if (mix->has_areas && drawn % 4 == 0)
            events[i].correlation_id = "c-1";
        if (mix->has_versions && drawn % 6 == 0) {
            events[i].more_versions = &more;
            events[i].n_more_versions = 1;
        }
    }
}

static struct ring *ring_of(const struct evbus *bus, const struct evbus_receipt *receipt)
{
    return &bus->memory.logs[strcmp(receipt->log, "test.a") == 0 ? 0 : 1].rings[receipt->partition];
}

/* One behind the other; a pad lies only where the next one had no room before the end of a lap. inout_next: of its ring; 0: any. */
static void assert_joins(const struct evbus *bus, const struct evbus_receipt *receipt, const char *label,
                         uint64_t *inout_next)
{
    const struct ring *ring = ring_of(bus, receipt);
    uint64_t n_cells = word_cells(atomic_load(ring_word(ring, receipt->position)));
    uint64_t left = ring->capacity - ring_index(ring, *inout_next);
    if (*inout_next != 0)
        cr_assert_eq(receipt->position, n_cells <= left ? *inout_next : *inout_next + left, "%s: at %" PRIu64, label,
                     receipt->position);
    *inout_next = receipt->position + n_cells;
}

/* [R20] */
Test(publish, a_batch_is_read_in_its_order_where_its_receipts_say_whatever_it_is_made_of)
{
    static struct evbus_event events[MIX_MAX];
    static struct evbus_receipt receipts[MIX_MAX];
    for (const struct mix *mix = mixes; mix < mixes + N(mixes); mix++) {
        struct fixture f = fixture_make((struct fixture_options){.partitions = mix->partitions, .ring = mix->ring});
        struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, false);
        uint64_t next_pos[2][4] = {{0}};
        for (int round = 0; round < 12; round++) { /* the ends of laps are elsewhere each time */
            int last[2][4] = {{0}};                /* number of the last event that was read, from 1 on */
            size_t n_published = 0;
            make_mix(mix, round, events);
            receipts[0].size = sizeof receipts[0];
            int rc = evbus_publish_batch(f.bus, events, (size_t)mix->count, receipts, &n_published);
            cr_assert_eq(rc, EVBUS_OK, "%s: %s", mix->label, evbus_message(f.bus));
            cr_assert_eq(n_published, (size_t)mix->count, "%s", mix->label);
            for (int i = 0; i < mix->count; i++) {
                struct evbus_delivery got = next(reader);
                int of_round = -1, n = -1;
                cr_assert_eq(sscanf(got.payload, "[%d,%d,", &of_round, &n), 2, "%s: %s", mix->label,
                             (const char *)got.payload);
                cr_assert(of_round == round && n >= 0 && n < mix->count, "%s: %d of round %d", mix->label, n, of_round);
                int log = strcmp(receipts[n].log, "test.a") == 0 ? 0 : 1;
                cr_assert_gt(n + 1, last[log][got.partition], "%s: event %d too late", mix->label, n);
                last[log][got.partition] = n + 1;
                cr_assert_str_eq(got.payload, mix_payloads[n], "%s", mix->label);
                cr_assert_str_eq(got.topic, events[n].topic, "%s", mix->label);
                cr_assert_arr_eq(got.id, receipts[n].id, 16, "%s: event %d", mix->label, n);
                cr_assert_eq(got.partition, receipts[n].partition, "%s: event %d", mix->label, n);
                cr_assert_eq(got.position, receipts[n].position, "%s: event %d", mix->label, n);
            }
            nothing_more(reader);
            for (int i = 0; i < mix->count; i++)
                assert_joins(f.bus, &receipts[i], mix->label,
                             &next_pos[strcmp(receipts[i].log, "test.a") == 0 ? 0 : 1][receipts[i].partition]);
        }
        evbus_reader_close(reader);
        fixture_end(&f);
    }
}

Test(publish, events_and_receipts_of_a_batch_have_the_size_of_the_first)
{
    struct newer_event {
        struct evbus_event event;
        uint64_t more[3];
    } events[3] = {{event("test.a.one", NULL, "1"), {0}},
                   {event("test.a.two", NULL, "2"), {0}},
                   {event("test.b.one", NULL, "3"), {0}}};
    struct newer_receipt {
        struct evbus_receipt receipt;
        uint64_t more;
    } receipts[3];
    struct fixture f = fixture_make((struct fixture_options){0});
    memset(receipts, 0xaa, sizeof receipts);
    events[0].event.size = sizeof events[0];
    receipts[0].receipt.size = sizeof receipts[0];
    cr_assert_eq(evbus_publish_batch(f.bus, &events[0].event, 3, &receipts[0].receipt, NULL), EVBUS_OK, "%s",
                 evbus_message(f.bus));
    cr_expect_str_eq(receipts[0].receipt.log, "test.a");
    cr_expect_str_eq(receipts[1].receipt.log, "test.a");
    cr_expect_str_eq(receipts[2].receipt.log, "test.b");
    events[2].more[2] = 1;
    cr_expect_eq(evbus_publish_batch(f.bus, &events[0].event, 3, NULL, NULL), EVBUS_EINVAL);
    has("newer", evbus_message(f.bus), "event 3 of 3");
    has("newer", evbus_message(f.bus), "newer library");
    struct old_event {
        char bytes[offsetof(struct evbus_event, version_minor)];
    } old[2];
    struct evbus_event last = event("test.a.one", NULL, "5");
    last.size = sizeof old[0];
    memcpy(&old[0], &last, sizeof old[0]);
    memcpy(&old[1], &last, sizeof old[1]);
    cr_expect_eq(evbus_publish_batch(f.bus, (const struct evbus_event *)(const void *)old, 2, NULL, NULL), EVBUS_OK,
                 "%s", evbus_message(f.bus));
    fixture_end(&f);
}

Test(publish, an_empty_batch_is_fine)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    size_t n_published = 77;
    cr_expect_eq(evbus_publish_batch(f.bus, NULL, 0, NULL, &n_published), EVBUS_OK);
    cr_expect_eq(n_published, 0);
    cr_expect_eq(evbus_publish_batch(f.bus, NULL, 0, NULL, NULL), EVBUS_OK);
    fixture_end(&f);
}

struct waiting_reader {
    struct evbus_reader *reader;
    unsigned n_wanted;
    _Atomic unsigned n_read;
    _Atomic int rc;
};

static void *read_some(void *context)
{
    struct waiting_reader *waiting = context;
    int rc = EVBUS_OK;
    while (rc == EVBUS_OK && atomic_load(&waiting->n_read) < waiting->n_wanted) {
        struct evbus_delivery got = {.size = sizeof got};
        rc = evbus_reader_next(waiting->reader, &got, 20 * S);
        if (rc == EVBUS_OK)
            atomic_fetch_add(&waiting->n_read, 1);
    }
    atomic_store(&waiting->rc, rc);
    return NULL;
}

Test(publish, a_batch_wakes_a_sleeper_once) /* [guards WOKEN] */
{
    enum { COUNT = 30 };
    struct fixture f = fixture_make((struct fixture_options){.wait = EVBUS_WAIT_BLOCK});
    struct waiting_reader waiting = {.reader = reader_open(f.bus, EVBUS_FROM_LATEST, false), .n_wanted = COUNT};
    struct evbus_event events[COUNT];
    for (int i = 0; i < COUNT; i++)
        events[i] = event("test.a.one", NULL, "1");
    cr_assert_eq(evbus_publish_batch(f.bus, NULL, 0, NULL, NULL), EVBUS_OK);
    pthread_t thread;
    pthread_create(&thread, NULL, read_some, &waiting);
    cr_assert(await_that(is_anybody_asleep(f.bus)), "the reader never went to sleep");
    uint32_t sum_before = 0, sum_after = 0;
    for (int i = 1; i <= SLOTS_MAX; i++)
        sum_before += doorbell_read(&f.bus->memory.control->slots[i]);
    cr_assert_eq(evbus_publish_batch(f.bus, events, COUNT, NULL, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    pthread_join(thread, NULL);
    for (int i = 1; i <= SLOTS_MAX; i++)
        sum_after += doorbell_read(&f.bus->memory.control->slots[i]);
    cr_expect_eq(waiting.rc, EVBUS_OK);
    cr_expect_eq(waiting.n_read, (unsigned)COUNT);
    cr_expect_leq(sum_after - sum_before, 1u, "%u bells were rung for a batch", sum_after - sum_before);
    evbus_reader_close(waiting.reader);
    fixture_end(&f);
}

/* --- a full ring ---------------------------------------------------------------------------------------------------------- */

Test(publish, a_full_ring_refuses_at_once_and_goes_on_when_its_reader_has_read)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, true);
    for (int round = 0; round < 5; round++) {
        unsigned n = fill(f.bus);
        cr_assert_geq(n, 20u, "only %u events of two cells fit a ring of 64", n);
        struct evbus_event one = event("test.a.one", NULL, "\"late\"");
        struct evbus_receipt receipt = {.size = sizeof receipt, .position = 4711};
        uint64_t before = await_now_ms();
        cr_assert_eq(evbus_publish(f.bus, &one, &receipt), EVBUS_EFULL);
        cr_expect_lt(await_now_ms() - before, 1000u, "timeout 0 means at once");
        cr_expect_eq(receipt.position, 4711u, "the receipt was touched");
        has("full", evbus_message(f.bus), "test.a/0 is full");
        has("full", evbus_message(f.bus), "64 cells");
        has("full", evbus_message(f.bus), "a reader that pins");
        for (unsigned i = 0; i < n; i++)
            cr_assert_str_eq(next(reader).payload, "\"to the brim\"", "event %u of %u", i, n);
        nothing_more(reader); /* EFULL: nothing was published */
    }
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
    cr_expect_eq(stat.partitions[0].full, 10u);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, a_full_ring_keeps_us_as_long_as_we_allow)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, true);
    fill(f.bus);
    struct evbus_event one = event("test.a.one", NULL, "1");
    one.timeout_ns = 60 * MS;
    uint64_t before = await_now_ms();
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_EFULL);
    uint64_t took = await_now_ms() - before;
    cr_expect(took >= 59 && took < 5000, "it took %" PRIu64 " ms", took);
    has("waited", evbus_message(f.bus), "waited 6");
    evbus_reader_close(reader);
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK, "closing the reader gives its room back: %s",
                 evbus_message(f.bus));
    fixture_end(&f);
}

struct waiting_publisher {
    struct evbus *bus;
    struct evbus_event event;
    _Atomic int rc; /* 1: not yet */
};

static void *publish_one(void *context)
{
    struct waiting_publisher *waiting = context;
    atomic_store(&waiting->rc, evbus_publish(waiting->bus, &waiting->event, NULL));
    return NULL;
}

static bool waits_for_room(const struct evbus *bus)
{
    return atomic_load(&bus->memory.logs[0].rings[0].head->space_wanted) != 0;
}

Test(publish, a_producer_that_waits_for_room_goes_on_when_the_pin_moves) /* [guards PROGRESS] [R7] */
{
    static const struct {
        const char *label;
        enum evbus_wait wait;
    } rows[] = {{"hybrid", EVBUS_WAIT_HYBRID}, {"spin", EVBUS_WAIT_SPIN}, {"block", EVBUS_WAIT_BLOCK}};
    for (size_t i = 0; i < N(rows); i++) {
        struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB", .wait = rows[i].wait});
        struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, true);
        unsigned n = fill(f.bus);
        struct waiting_publisher waiting = {.bus = f.bus, .event = event("test.a.one", NULL, "\"late\""), .rc = 1};
        waiting.event.timeout_ns = 20 * S;
        pthread_t thread;
        pthread_create(&thread, NULL, publish_one, &waiting);
        if (rows[i].wait != EVBUS_WAIT_SPIN)
            cr_assert(await_that(waits_for_room(f.bus)), "%s: nobody waits", rows[i].label);
        cr_expect_eq(atomic_load(&waiting.rc), 1, "%s: it did not wait", rows[i].label);
        for (unsigned k = 0; k < n; k++)
            cr_assert_str_eq(next(reader).payload, "\"to the brim\"", "%s", rows[i].label);
        cr_assert_str_eq(next(reader).payload, "\"late\"", "%s", rows[i].label);
        pthread_join(thread, NULL);
        cr_expect_eq(waiting.rc, EVBUS_OK, "%s", rows[i].label);
        evbus_reader_close(reader);
        fixture_end(&f);
    }
}

Test(publish, a_producer_that_waits_for_room_hears_that_the_bus_is_gone)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, true);
    fill(f.bus);
    struct waiting_publisher waiting = {.bus = f.bus, .event = event("test.a.one", NULL, "1"), .rc = 1};
    waiting.event.timeout_ns = 5 * S;
    pthread_t thread;
    pthread_create(&thread, NULL, publish_one, &waiting);
    cr_assert(await_that(waits_for_room(f.bus)));
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    uint64_t before = await_now_ms();
    pthread_join(thread, NULL);
    cr_expect_eq(waiting.rc, EVBUS_ESTALE, "it got %d", waiting.rc);
    cr_expect_lt(await_now_ms() - before, 2000u, "it waited its whole timeout for a bus that is gone");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(publish, a_batch_that_does_not_fit_tells_how_much_of_it_did)
{
    enum { COUNT = 100 };
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, true);
    struct evbus_event events[COUNT];
    struct evbus_receipt receipts[COUNT];
    memset(receipts, 0xaa, sizeof receipts);
    receipts[0].size = sizeof receipts[0];
    for (int i = 0; i < COUNT; i++)
        events[i] = event("test.a.one", NULL, "1");
    size_t n_published = 0;
    cr_assert_eq(evbus_publish_batch(f.bus, events, COUNT, receipts, &n_published), EVBUS_EFULL);
    cr_assert(n_published >= 20 && n_published < COUNT, "%zu were published", n_published);
    char expected[64];
    snprintf(expected, sizeof expected, "event %zu of %d", n_published + 1, COUNT);
    has("full", evbus_message(f.bus), expected);
    has("full", evbus_message(f.bus), "test.a/0 is full");
    for (size_t i = 0; i < n_published; i++)
        cr_assert_eq(next(reader).position, receipts[i].position, "event %zu", i);
    nothing_more(reader);
    for (size_t i = 0; i < sizeof receipts[0]; i++)
        cr_assert_eq(((unsigned char *)&receipts[n_published])[i], 0xaa, "a receipt for what was not published");
    cr_expect_eq(evbus_publish_batch(f.bus, events, 5, NULL, &n_published), EVBUS_OK, "%s", evbus_message(f.bus));
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* A run of all has no room: as many of its events as have go all the same. [R20] */
Test(publish, of_a_batch_as_much_goes_into_a_ring_as_there_is_room_for)
{
    enum { COUNT = 16 };
    struct fixture f = fixture_make((struct fixture_options){.ring = "16KiB"});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, true);
    const struct ring *ring = &f.bus->memory.logs[0].rings[0];
    struct evbus_event events[COUNT];
    char payloads[COUNT][24];
    for (int i = 0; i < COUNT; i++) {
        snprintf(payloads[i], sizeof payloads[i], "\"to the brim, %d\"", i);
        events[i] = event("test.a.one", NULL, payloads[i]);
    }
    for (unsigned room = 1; room <= COUNT + 2; room++) {
        unsigned n_before = fill(f.bus);
        for (unsigned i = 0; i < room; i++)
            next(reader);
        uint64_t n_full = atomic_load(&ring->head->full);
        size_t n_published = 99;
        int rc = evbus_publish_batch(f.bus, events, COUNT, NULL, &n_published);
        cr_assert_eq(rc, n_published < COUNT ? EVBUS_EFULL : EVBUS_OK, "room for %u: %s", room, evbus_message(f.bus));
        cr_expect(n_published + 1 >= room || n_published == COUNT, "room for %u: %zu", room, n_published);
        cr_expect_leq(n_published, room + 1, "room for %u: %zu", room, n_published);
        cr_expect_eq(atomic_load(&ring->head->full) - n_full, rc != EVBUS_OK, "it is refused once");
        if (rc != EVBUS_OK) {
            char expected[64];
            snprintf(expected, sizeof expected, "event %zu of %d: ", n_published + 1, COUNT);
            has("some", evbus_message(f.bus), expected);
            has("some", evbus_message(f.bus), "test.a/0 is full");
        }
        for (unsigned i = room; i < n_before; i++)
            cr_assert_str_eq(next(reader).payload, "\"to the brim\"");
        for (size_t i = 0; i < n_published; i++)
            cr_assert_str_eq(next(reader).payload, payloads[i], "room for %u", room);
        nothing_more(reader);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

struct ordered_reader {
    struct evbus_reader *reader;
    int n_wanted;
    int n_read; /* in order */
};

static void *read_in_order(void *context)
{
    struct ordered_reader *ordered = context;
    for (int number = -1; ordered->n_read < ordered->n_wanted; ordered->n_read++) {
        struct evbus_delivery got = {.size = sizeof got};
        if (evbus_reader_next(ordered->reader, &got, 20 * S) != EVBUS_OK ||
            sscanf(got.payload, "[0,%d,", &number) != 1 || number != ordered->n_read)
            break;
    }
    return NULL;
}

/* [guards PROGRESS] [R7] [R20] */
Test(publish, a_batch_of_many_rings_comes_in_order_while_a_reader_makes_room)
{
    static struct evbus_event events[MIX_MAX];
    static const struct mix rows[] = {
        {"alike", "4KiB", 1, MIX_MAX, 1, false, false, false, false},
        {"of many lengths", "8KiB", 1, MIX_MAX, 1500, false, false, false, false},
        {"with areas and versions", "8KiB", 1, MIX_MAX, 500, false, false, true, true},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct fixture f = fixture_make((struct fixture_options){.ring = rows[i].ring});
        struct ordered_reader ordered = {.reader = reader_open(f.bus, EVBUS_FROM_LATEST, true), .n_wanted = MIX_MAX};
        make_mix(&rows[i], 0, events);
        for (int k = 0; k < MIX_MAX; k++)
            events[k].timeout_ns = 20 * S;
        size_t n_published = 0;
        pthread_t thread;
        pthread_create(&thread, NULL, read_in_order, &ordered);
        cr_expect_eq(evbus_publish_batch(f.bus, events, MIX_MAX, NULL, &n_published), EVBUS_OK, "%s: event %zu: %s",
                     rows[i].label, n_published, evbus_message(f.bus));
        pthread_join(thread, NULL);
        cr_expect_eq(n_published, (size_t)MIX_MAX, "%s", rows[i].label);
        cr_expect_eq(ordered.n_read, (int)MIX_MAX, "%s: in order up to %d", rows[i].label, ordered.n_read);
        evbus_reader_close(ordered.reader);
        fixture_end(&f);
    }
}

struct batch_in_thread {
    struct evbus *bus;
    const struct evbus_event *events;
    size_t n;
    size_t *n_published;
    _Atomic int rc; /* 1: not yet */
};

static void *publish_all_of(void *context)
{
    struct batch_in_thread *batch = context;
    atomic_store(&batch->rc, evbus_publish_batch(batch->bus, batch->events, batch->n, NULL, batch->n_published));
    return NULL;
}

/* A handle's first event of a partition stands behind its names, which need room, too. [guards PROGRESS] [R7] */
Test(publish, the_first_batch_of_a_handle_waits_for_room_as_long_as_its_event_allows)
{
    for (int has_area = 0; has_area < 2; has_area++) {
        struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
        struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, true);
        struct evbus *newcomer = fixture_open(&f, "newcomer", EVBUS_KEEPER_NEVER);
        struct waiting_reader waiting = {.reader = reader, .n_wanted = fill(f.bus)};
        struct evbus_event events[2] = {event("test.a.one", NULL, "1"), event("test.a.one", NULL, "2")};
        for (int i = 0; i < 2; i++) {
            events[i].timeout_ns = 20 * S;
            events[i].correlation_id = has_area != 0 ? "c-1" : NULL;
        }
        pthread_t thread;
        size_t n_published = 0;
        struct batch_in_thread batch = {newcomer, events, 2, &n_published, 1};
        pthread_create(&thread, NULL, publish_all_of, &batch);
        cr_expect(await_that(waits_for_room(f.bus) || atomic_load(&batch.rc) != 1));
        read_some(&waiting);
        pthread_join(thread, NULL);
        cr_expect_eq(batch.rc, EVBUS_OK, "has_area %d: %d", has_area, batch.rc);
        cr_expect_eq(n_published, 2u, "has_area %d", has_area);
        evbus_close(newcomer);
        evbus_reader_close(reader);
        fixture_end(&f);
    }
}

/* [guards DURABLE] [R20] */
Test(publish, a_batch_with_ack_disk_is_on_disk_when_it_returns)
{
    enum { COUNT = 400 }; /* more than the ring holds */
    static struct evbus_event events[COUNT];
    static struct evbus_receipt receipts[COUNT];
    static char payloads[COUNT][16];
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    for (int i = 0; i < COUNT; i++) {
        snprintf(payloads[i], sizeof payloads[i], "{\"seq\":%d}", i);
        events[i] = event("test.a.one", NULL, payloads[i]);
        events[i].ack = EVBUS_ACK_DISK;
        events[i].timeout_ns = 20 * S;
    }
    receipts[0].size = sizeof receipts[0];
    cr_assert_eq(evbus_publish_batch(archive.bus, events, COUNT, receipts, NULL), EVBUS_OK, "%s",
                 evbus_message(archive.bus));
    cr_expect_gt(ring_synced(archive_ring(archive.bus, "test.a")), receipts[COUNT - 1].position);
    for (int i = 0; i < COUNT; i++)
        cr_expect_eq(receipts[i].ack, EVBUS_ACK_DISK, "event %d", i);
    uint64_t n_lost = 0;
    cr_expect_eq(archive_read(archive.bus, &n_lost), (unsigned)COUNT);
    cr_expect_eq(n_lost, 0);
    evbus_close(archive.bus);
    evbus_remove(archive.name);
}

Test(publish, a_batch_that_fills_the_ring_wakes_the_reader_that_can_empty_it) /* [guards WOKEN] [R7] */
{
    enum { COUNT = 300 };
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB", .wait = EVBUS_WAIT_BLOCK});
    struct waiting_reader waiting = {.reader = reader_open(f.bus, EVBUS_FROM_LATEST, true), .n_wanted = COUNT};
    struct evbus_event events[COUNT];
    for (int i = 0; i < COUNT; i++) {
        events[i] = event("test.a.one", NULL, "1");
        events[i].timeout_ns = 200 * MS; /* less than the reader's longest sleep */
    }
    pthread_t thread;
    pthread_create(&thread, NULL, read_some, &waiting);
    cr_assert(await_that(is_anybody_asleep(f.bus)), "the reader never went to sleep");
    size_t n_published = 0;
    cr_expect_eq(evbus_publish_batch(f.bus, events, COUNT, NULL, &n_published), EVBUS_OK, "event %zu: %s", n_published,
                 evbus_message(f.bus));
    cr_expect_eq(n_published, (size_t)COUNT);
    waiting.n_wanted = (unsigned)n_published;
    pthread_join(thread, NULL);
    cr_expect_eq(waiting.n_read, (unsigned)COUNT);
    evbus_reader_close(waiting.reader);
    fixture_end(&f);
}

Test(publish, a_removed_bus_is_stale)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_event one = event("test.a.one", NULL, "1");
    size_t n_published = 77;
    cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK);
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_ESTALE);
    has("stale", evbus_message(f.bus), f.name);
    has("stale", evbus_message(f.bus), "open again");
    cr_expect_eq(evbus_publish_batch(f.bus, &one, 1, NULL, &n_published), EVBUS_ESTALE);
    cr_expect_eq(n_published, 0);
    fixture_end(&f);
}

Test(publish, a_partition_whose_positions_are_used_up_refuses)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct ring *ring = &f.bus->memory.logs[0].rings[0];
    struct evbus_event event_of_b = event("test.b.one", NULL, "1"), one = event("test.a.one", NULL, "1");
    atomic_store(&ring->head->released, RELEASED(ring->limit, 1));
    atomic_store(&ring->head->tail, ring->limit);
    one.timeout_ns = 20 * S;
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_EEXHAUSTED);
    has("exhausted", evbus_message(f.bus), "test.a/0");
    has("exhausted", evbus_message(f.bus), "make a new bus");
    cr_expect_eq(evbus_publish(f.bus, &event_of_b, NULL), EVBUS_OK, "the others go on: %s", evbus_message(f.bus));
    fixture_end(&f);
}

Test(publish, a_damaged_partition_refuses)
{
    static const struct {
        const char *label;
        bool is_word; /* else the tail */
        uint64_t value;
    } rows[] = {{"a claim across the end at the tail", true, 30000},
                {"a tail from nowhere", false, UINT64_MAX},
                {"a tail of long ago", false, 0}};
    for (size_t i = 0; i < N(rows); i++) {
        struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
        struct ring *ring = &f.bus->memory.logs[0].rings[0];
        struct evbus_event one = event("test.a.one", NULL, "1");
        for (int k = 0; k < 200; k++)
            cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK);
        uint64_t tail = ring_tail(ring);
        if (rows[i].is_word)
            atomic_store(&ring->words[ring_index(ring, tail)],
                         word_make(ring_lap(ring, tail), WORD_CLAIMED, 5, (uint32_t)rows[i].value));
        else
            atomic_store(&ring->head->tail, rows[i].value);
        int rc = evbus_publish(f.bus, &one, NULL);
        cr_expect_eq(rc, EVBUS_ECORRUPT, "%s: %d", rows[i].label, rc);
        has(rows[i].label, evbus_message(f.bus), "test.a/0");
        has(rows[i].label, evbus_message(f.bus), "evbus doctor");
        fixture_end(&f);
    }
}

/* --- threads ---------------------------------------------------------------------------------------------------------------- */

enum { PRODUCERS = 6 };

struct producer {
    struct evbus *bus;
    int number;
    unsigned n_events;
    int rc;
};

/* A payload whose every byte tells whose it is: torn or mixed ones do not look like this. */
static size_t make_payload(char *to, int producer, unsigned i)
{
    size_t len = (size_t)sprintf(to, "[%d,%u,\"", producer, i);
    size_t n_letters = i * 37 % 400;
    memset(to + len, 'a' + producer, n_letters);
    len += n_letters;
    to[len++] = '"';
    to[len++] = ']';
    to[len] = '\0';
    return len;
}

static void *produce(void *context)
{
    struct producer *self = context;
    char key[16], payload[512];
    snprintf(key, sizeof key, "producer-%d", self->number);
    for (unsigned i = 0; i < self->n_events && self->rc == EVBUS_OK; i++) {
        struct evbus_event one = event("test.a.one", key, payload);
        one.payload_len = make_payload(payload, self->number, i);
        one.timeout_ns = 20 * S;
        self->rc = evbus_publish(self->bus, &one, NULL);
    }
    return NULL;
}

/* [guards WHOLE] [guards ONE-WRITER] [guards NEVER-TORN] */
Test(publish, many_threads_publish_on_one_handle_and_every_event_comes_whole_and_in_order_of_its_key, .timeout = 60)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "16KiB", .partitions = 2});
    struct evbus_reader *reader = reader_open(f.bus, EVBUS_FROM_LATEST, true);
    const unsigned n_events = is_quick() ? 1000 : 8000;
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    unsigned seen[PRODUCERS] = {0};
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.bus = f.bus, .number = i, .n_events = n_events};
        pthread_create(&threads[i], NULL, produce, &producers[i]);
    }
    for (unsigned n = 0; n < n_events * PRODUCERS; n++) {
        struct evbus_delivery got = next(reader);
        int producer = -1;
        unsigned i = 0;
        char expected[512];
        cr_assert_eq(sscanf(got.payload, "[%d,%u,", &producer, &i), 2, "%s", (const char *)got.payload);
        cr_assert(producer >= 0 && producer < PRODUCERS);
        cr_assert_eq(i, seen[producer], "producer %d: event %u where %u is next", producer, i, seen[producer]);
        seen[producer]++;
        cr_assert_eq(got.payload_len, make_payload(expected, producer, i));
        cr_assert_str_eq(got.payload, expected);
        cr_assert_eq(got.lost, 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(producers[i].rc, EVBUS_OK, "producer %d: %d", i, producers[i].rc);
    }
    nothing_more(reader);
    evbus_reader_close(reader);
    fixture_end(&f);
}

static void *make_ids(void *context)
{
    struct producer *self = context;
    uint8_t(*ids)[16] = calloc(self->n_events, sizeof *ids);
    for (unsigned i = 0; i < self->n_events && self->rc == EVBUS_OK; i++) {
        struct evbus_event one = event("test.a.one", NULL, "1");
        struct evbus_receipt receipt = {.size = sizeof receipt};
        one.timeout_ns = 20 * S; /* a neighbour that is not running for a moment may make the ring full for as long */
        self->rc = evbus_publish(self->bus, &one, &receipt);
        memcpy(ids[i], receipt.id, 16);
    }
    return ids;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

Test(publish, no_two_threads_make_the_same_id)
{
    enum { COUNT = 2000 };
    struct fixture f = fixture_make((struct fixture_options){0});
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    static uint8_t ids[PRODUCERS * COUNT][16];
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.bus = f.bus, .n_events = COUNT};
        pthread_create(&threads[i], NULL, make_ids, &producers[i]);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        void *made;
        pthread_join(threads[i], &made);
        cr_assert_eq(producers[i].rc, EVBUS_OK);
        memcpy(ids[i * COUNT], made, COUNT * 16);
        free(made);
    }
    qsort(ids, N(ids), 16, compare_ids);
    for (size_t i = 1; i < N(ids); i++)
        cr_assert_neq(memcmp(ids[i], ids[i - 1], 16), 0, "an id was made twice");
    fixture_end(&f);
}

/* --- cost ------------------------------------------------------------------------------------------------------------------- */

Test(publish, nothing_is_allocated_after_a_threads_first_call)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 4});
    struct evbus_event events[3] = {event("test.a.one", NULL, "1"), event("test.b.one", "k", "[2]"),
                                    event("test.a.two", "other", "{}")};
    struct evbus_receipt receipts[3];
    receipts[0].size = sizeof receipts[0];
    count_allocations();
    cr_assert_eq(evbus_publish(f.bus, &events[0], NULL), EVBUS_OK);
    unsigned before = n_allocations;
    void *volatile probe = malloc(1);
    free(probe);
    cr_assert_gt(n_allocations, before, "allocations are not counted");
    before = n_allocations;
    int wrong = 0;
    for (int i = 0; i < 500; i++)
        wrong += evbus_publish(f.bus, &events[i % 3], &receipts[0]) != EVBUS_OK;
    cr_expect_eq(n_allocations - before, 0u, "publish: %u allocations", n_allocations - before);
    before = n_allocations;
    for (int i = 0; i < 100; i++)
        wrong += evbus_publish_batch(f.bus, events, 3, receipts, NULL) != EVBUS_OK;
    cr_expect_eq(n_allocations - before, 0u, "batch: %u allocations", n_allocations - before);
    before = n_allocations;
    events[1].payload = "no JSON";
    for (int i = 0; i < 100; i++)
        wrong += evbus_publish(f.bus, &events[1], NULL) != EVBUS_EINVAL;
    cr_expect_eq(n_allocations - before, 0u, "a refusal: %u allocations", n_allocations - before);
    cr_expect_eq(wrong, 0);
    fixture_end(&f);
}

#if !HAS_SANITIZER /* it makes system calls of its own */
static _Atomic int n_getrandom, n_others, first_other;

static void on_syscall(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_syscall == SYS_getrandom)
        atomic_fetch_add(&n_getrandom, 1);
    else if (atomic_fetch_add(&n_others, 1) == 0)
        atomic_store(&first_other, info->si_syscall);
}

/* From here on every system call of this thread but its end is trapped. */
static int trap_syscalls(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {N(filter), filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

enum { TRAPPED = 5000 }; /* publishes */

struct trapped {
    struct evbus *bus;
    bool has_ids; /* given by the caller */
    int rc;
    bool is_trapped;
};

static void *publish_trapped(void *context)
{
    struct trapped *self = context;
    struct evbus_event one = event("test.a.one", "key", "{\"a\":1}");
    struct evbus_receipt receipt = {.size = sizeof receipt};
    one.id[0] = self->has_ids;
    for (int i = 0; i < 200 && self->rc == EVBUS_OK; i++)
        self->rc = evbus_publish(self->bus, &one, &receipt);
    self->is_trapped = trap_syscalls() == 0;
    for (int i = 0; i < TRAPPED && self->rc == EVBUS_OK && self->is_trapped; i++)
        self->rc = evbus_publish(self->bus, &one, &receipt);
    syscall(SYS_exit, 0); /* the rest of a thread's end would be trapped */
    return NULL;
}

static void check_syscalls(bool has_ids)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct trapped trapped = {.bus = f.bus, .has_ids = has_ids};
    struct sigaction action = {.sa_sigaction = on_syscall, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, publish_trapped, &trapped);
    pthread_join(thread, NULL);
    if (!trapped.is_trapped)
        cr_skip_test("seccomp is not allowed here");
    cr_expect_eq(trapped.rc, EVBUS_OK, "%d", trapped.rc);
    cr_expect_eq(n_others, 0, "%d system calls in %d publishes; the first was number %d", n_others, TRAPPED,
                 first_other);
    fixture_end(&f);
}

Test(publish, no_system_call_is_made_while_nobody_sleeps_and_there_is_room)
{
    check_syscalls(true);
    cr_expect_eq(n_getrandom, 0, "%d for ids that were given", n_getrandom);
}

Test(publish, ids_that_we_make_cost_a_getrandom_per_64)
{
    check_syscalls(false);
    cr_expect_leq(n_getrandom, TRAPPED / 40, "%d for %d ids", n_getrandom,
                  TRAPPED); /* each new millisecond takes two more */
}
#endif
