/* test_deadletter.c: the record of an event that a group could not handle, byte by byte. */
#include "deadletter.h"

#include "bus.h"
#include "fixture.h"
#include "group.h"
#include "json.h"
#include "notes.h"
#include "uuid7.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       UINT64_C(1000000000)

static struct claim *own_claim(struct evbus *bus)
{
    struct bus_thread *thread;
    cr_assert_eq(bus_thread(bus, &thread, NULL), EVBUS_OK);
    return &thread->claim;
}

/* A group "mailer", whose letters a reader sees. */
struct office {
    struct fixture f;
    struct evbus_subscription *member;
    struct evbus_reader *reader;
    struct frame event;
    struct deadletter letter;
};

static struct office office_make(struct fixture_options options, const char *payload)
{
    struct office o = {.f = fixture_make(options)};
    static const char *const one[] = {"test.a.one"};
    static const char *const letters[] = {"test.dlq.mailer"};
    cr_assert_eq(evbus_subscribe(&o.member, o.f.bus,
                                 &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                   .group = "mailer",
                                                                   .patterns = one,
                                                                   .n_patterns = 1}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_reader_open(&o.reader, o.f.bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = letters,
                                                                  .n_patterns = 1}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    o.event = (struct frame){
        .kind = FRAME_EVENT,
        .id = {1, 2, 3, 4, 5, 6, 0x77, 8, 0x89, 10, 11, 12, 13, 14, 15, 16},
        .timestamp_ns = 1769938200 * S + 123456789,
        .topic = 1,
        .key_hash = 5,
        .key = "k-1",
        .key_len = 3,
        .major = 2,
        .minor = 1,
        .payload = payload,
        .payload_len = (uint32_t)strlen(payload),
    };
    o.letter = (struct deadletter){
        .topic_id = o.f.bus->memory.control->groups[group_find(&o.f.bus->memory, "mailer")].dlq_topic,
        .group_name = "mailer",
        .topic = "test.a.one",
        .log = "test.a",
        .partition = 3,
        .position = 281474976710000,
        .cause = CAUSE_FAILED,
    };
    return o;
}

static void office_end(struct office *o)
{
    evbus_reader_close(o->reader);
    evbus_unsubscribe(o->member);
    fixture_end(&o->f);
}

static int publish(struct office *o, struct error *err)
{
    o->letter.event = &o->event;
    return deadletter_publish(&o->f.bus->memory, own_claim(o->f.bus), &o->letter, err);
}

static struct evbus_delivery next(struct office *o)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_reader_next(o->reader, &got, 10 * S);
    cr_assert_eq(rc, EVBUS_OK, "%d, %s", rc, evbus_message(NULL));
    return got;
}

static void add_note(struct office *o, uint32_t attempt, enum pending_cause cause, const char *member,
                     const char *error)
{
    struct note note = {
        .attempt = attempt, .cause = cause, .at_ns = (1769938200 + attempt) * S, .took_ns = attempt * 1000000 + 999};
    snprintf(note.member, sizeof note.member, "%s", member);
    snprintf(note.error, sizeof note.error, "%s", error);
    o->letter.note = notes_add(&o->f.bus->memory, own_claim(o->f.bus), &note, o->event.id, o->letter.note);
}

static void id_text(const struct office *o, char out[37])
{
    uint8_t id[16];
    deadletter_id(&o->f.bus->memory, &o->letter, id);
    uuid7_format(id, out);
}

Test(deadletter, its_json_is_this_byte_for_byte)
{
    struct office o = office_make((struct fixture_options){0}, "{ \"price\":19.90,\r\n \"e\":1E400 }");
    char id[37];
    char expected[2048];
    add_note(&o, 1, CAUSE_FAILED, "mailer", "no connection");
    add_note(&o, 2, CAUSE_FAILED, "mailer", "");
    add_note(&o, 3, CAUSE_REJECTED, "mailer-2", "no \"address\"");
    o.letter.cause = CAUSE_REJECTED;
    id_text(&o, id);
    snprintf(expected, sizeof expected,
             "{\"deadLetterId\":\"%s\",\"group\":\"mailer\",\"topic\":\"test.a.one\",\"log\":\"test.a\","
             "\"partition\":3,\"position\":\"281474976710000\",\"cause\":\"rejected\",\"attempts\":["
             "{\"n\":1,\"at\":\"2026-02-01T09:30:01.000Z\",\"member\":\"mailer\",\"ms\":1,\"cause\":\"failed\","
             "\"error\":\"no connection\"},"
             "{\"n\":2,\"at\":\"2026-02-01T09:30:02.000Z\",\"member\":\"mailer\",\"ms\":2,\"cause\":\"failed\","
             "\"error\":\"\"},"
             "{\"n\":3,\"at\":\"2026-02-01T09:30:03.000Z\",\"member\":\"mailer-2\",\"ms\":3,\"cause\":\"rejected\","
             "\"error\":\"no \\\"address\\\"\"}],"
             "\"event\":{\"eventId\":\"01020304-0506-7708-890a-0b0c0d0e0f10\",\"eventType\":\"test.a.one\","
             "\"timestamp\":\"2026-02-01T09:30:00.123Z\",\"version\":\"2.1\","
             "\"payload\":{ \"price\":19.90,\r\n \"e\":1E400 }}}",
             id);
    cr_assert_eq(publish(&o, NULL), EVBUS_OK);
    struct evbus_delivery got = next(&o);
    cr_expect_str_eq(got.payload, expected);
    cr_expect_str_eq(got.topic, "test.dlq.mailer");
    cr_expect_str_eq(got.key, "k-1", "its key is its event's");
    cr_expect_eq(got.version_major, 1);
    cr_expect_eq(got.version_minor, 0);
    office_end(&o);
}

/* Of long texts so many of the last as a letter of the largest event has room for. */
Test(deadletter, all_attempts_are_told_where_there_is_room)
{
    static char longest[NOTES_TEXT_MAX + 1];
    memset(longest, '"', NOTES_TEXT_MAX);
    static const struct {
        const char *error;
        uint32_t first; /* that is told */
    } rows[] = {{"e", 1}, {longest, 11}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct office o = office_make((struct fixture_options){0}, "1");
        for (uint32_t n = 1; n <= PENDING_ATTEMPTS_MAX; n++)
            add_note(&o, n, CAUSE_FAILED, "m", rows[i].error);
        cr_assert_eq(publish(&o, NULL), EVBUS_OK);
        const char *at = next(&o).payload;
        for (uint32_t n = rows[i].first; n <= PENDING_ATTEMPTS_MAX; n++) {
            at = strstr(at, "{\"n\":");
            cr_assert_not_null(at, "attempt %u is not told", n);
            cr_expect_eq(strtoul(at + 5, NULL, 10), n, "%.20s", at);
            at++;
        }
        cr_expect_null(strstr(at, "{\"n\":"));
        office_end(&o);
    }
}

Test(deadletter, without_notes_it_says_less_and_never_something_wrong)
{
    struct office o = office_make((struct fixture_options){0}, "1");
    static const struct {
        const char *label;
        uint64_t note;
    } rows[] = {{"none", 0}, {"lost", 40000}, {"damaged", UINT64_MAX >> 16}};
    for (size_t i = 0; i < N(rows); i++) {
        o.letter.note = rows[i].note;
        cr_assert_eq(publish(&o, NULL), EVBUS_OK, "%s", rows[i].label);
        struct evbus_delivery got = next(&o);
        cr_expect_not_null(strstr(got.payload, "\"attempts\":[],\"event\""), "%s", (const char *)got.payload);
        cr_expect(json_check(got.payload, got.payload_len, NULL), "%s", rows[i].label);
    }
    office_end(&o);
}

/* A note's place may hold another event's note by now: whoever read it must see that it is not his. */
Test(deadletter, another_events_note_is_not_told_as_its_own)
{
    struct office o = office_make((struct fixture_options){0}, "1");
    uint8_t other[16] = {9};
    struct note note = {.attempt = 1, .cause = CAUSE_FAILED, .member = "m", .error = "somebody else's trouble"};
    o.letter.note = notes_add(&o.f.bus->memory, own_claim(o.f.bus), &note, other, 0);
    cr_assert_eq(publish(&o, NULL), EVBUS_OK);
    struct evbus_delivery got = next(&o);
    cr_expect_null(strstr(got.payload, "somebody else's trouble"), "%s", (const char *)got.payload);
    office_end(&o);
}

Test(deadletter, each_cause_has_its_word)
{
    static const struct {
        enum pending_cause cause;
        const char *word;
    } rows[] = {{CAUSE_FAILED, "\"cause\":\"failed\""},
                {CAUSE_CRASHED, "\"cause\":\"crashed\""},
                {CAUSE_TIMEOUT, "\"cause\":\"timeout\""},
                {CAUSE_REJECTED, "\"cause\":\"rejected\""}};
    struct office o = office_make((struct fixture_options){0}, "null");
    for (size_t i = 0; i < N(rows); i++) {
        o.letter.cause = rows[i].cause;
        cr_assert_eq(publish(&o, NULL), EVBUS_OK);
        struct evbus_delivery got = next(&o);
        cr_expect_not_null(strstr(got.payload, rows[i].word), "%s", (const char *)got.payload);
    }
    office_end(&o);
}

/* [P10] */
Test(deadletter, its_id_is_the_same_each_time_and_another_for_each_event_group_and_bus)
{
    struct office o = office_make((struct fixture_options){0}, "1");
    uint8_t first[16];
    uint8_t again[16];
    struct deadletter others[] = {o.letter, o.letter, o.letter, o.letter};
    deadletter_id(&o.f.bus->memory, &o.letter, first);
    o.letter.n_replays = 7;
    o.letter.entry = 8;
    o.letter.note = 99;
    o.letter.cause = CAUSE_CRASHED;
    deadletter_id(&o.f.bus->memory, &o.letter, again);
    cr_expect_arr_eq(first, again, 16, "what happened to it does not count");
    cr_expect_eq(first[6] >> 4, 8, "version 8");
    cr_expect_eq(first[8] >> 6, 2, "variant");
    others[0].group_name = "mailer2";
    others[1].log = "test.b";
    others[2].partition = 4;
    others[3].position++;
    for (size_t i = 0; i < N(others); i++) {
        deadletter_id(&o.f.bus->memory, &others[i], again);
        cr_expect_neq(memcmp(first, again, 16), 0, "%zu", i);
    }
    o.f.bus->memory.control->uuid[0] ^= 1;
    deadletter_id(&o.f.bus->memory, &o.letter, again);
    cr_expect_neq(memcmp(first, again, 16), 0, "another bus");
    o.f.bus->memory.control->uuid[0] ^= 1;
    cr_assert_eq(publish(&o, NULL), EVBUS_OK);
    cr_assert_eq(publish(&o, NULL), EVBUS_OK);
    uint8_t published[16];
    memcpy(published, next(&o).id, 16);
    cr_expect_arr_eq(published, first, 16);
    cr_expect_arr_eq(next(&o).id, first, 16, "published twice, recognised");
    office_end(&o);
}

Test(deadletter, any_error_text_gives_json)
{
    static const struct {
        const char *label;
        const char *error;
        const char *expected;
    } rows[] = {
        {"quotes and backslashes", "a\"b\\c", "\"error\":\"a\\\"b\\\\c\""},
        {"control characters", "\x01\t\n\x1f\x7f", "\"error\":\"\\u0001\\u0009\\u000a\\u001f\\u007f\""},
        {"UTF-8", "caf\xc3\xa9 \xf0\x9f\x98\x80", "\"error\":\"caf\xc3\xa9 \xf0\x9f\x98\x80\""},
        {"JSON", "{\"a\":[1]}", "\"error\":\"{\\\"a\\\":[1]}\""},
        {"format characters", "%s%n%d 100%", "\"error\":\"%s%n%d 100%\""},
    };
    struct office o = office_make((struct fixture_options){0}, "1");
    for (size_t i = 0; i < N(rows); i++) {
        o.letter.note = 0;
        add_note(&o, 1, CAUSE_FAILED, "m", rows[i].error);
        cr_assert_eq(publish(&o, NULL), EVBUS_OK);
        struct evbus_delivery got = next(&o);
        cr_expect_not_null(strstr(got.payload, rows[i].expected), "%s: %s", rows[i].label, (const char *)got.payload);
        cr_expect(json_check(got.payload, got.payload_len, NULL), "%s", rows[i].label);
    }
    office_end(&o);
}

Test(deadletter, the_largest_event_with_the_worst_errors_has_its_letter)
{
    static const char catalogue[] = "{\"namespace\":\"test\",\"open\":true,\"defaults\":{\"partitions\":1},"
                                    "\"topics\":{\"test.a.one\":{}}}";
    size_t len = 240 * 1024;
    char *payload = malloc(len + 1);
    char worst[NOTES_TEXT_MAX + 1];
    char member[SERVICE_BYTES];
    memset(payload, 'x', len);
    payload[0] = payload[len - 1] = '"';
    payload[len] = '\0';
    memset(worst, 1, NOTES_TEXT_MAX);
    worst[NOTES_TEXT_MAX] = '\0';
    memset(member, 'm', sizeof member - 1);
    member[sizeof member - 1] = '\0';
    struct office o = office_make((struct fixture_options){.catalogue = catalogue}, payload);
    for (uint32_t i = 1; i <= 3; i++)
        add_note(&o, i, CAUSE_FAILED, member, worst);
    char key[255];
    memset(key, 'k', sizeof key);
    o.event.key = key;
    o.event.key_len = sizeof key;
    struct error err = {""};
    cr_assert_eq(publish(&o, &err), EVBUS_OK, "%s", err.text);
    struct evbus_delivery got = next(&o);
    cr_expect_not_null(strstr(got.payload, payload), "byte for byte");
    cr_expect(json_check(got.payload, got.payload_len, NULL));
    office_end(&o);
    free(payload);
}

Test(deadletter, a_full_log_keeps_what_it_has_and_refuses)
{
    struct office o = office_make((struct fixture_options){.ring = "16KiB"}, "\"kept\"");
    int rc;
    uint64_t n = 0;
    struct error err = {""};
    for (; (rc = publish(&o, &err)) == EVBUS_OK && n < 1000; n++)
        o.letter.position = n + 1;
    cr_expect_eq(rc, EVBUS_EFULL, "after %" PRIu64 ": %d %s", n, rc, err.text);
    cr_expect_gt(n, 10u);
    for (uint64_t i = 0; i < n; i++)
        cr_expect_not_null(strstr(next(&o).payload, "\"kept\""), "none has been overwritten");
    office_end(&o);
}

Test(deadletter, one_that_fits_no_frame_is_refused_by_name)
{
    struct office o = office_make((struct fixture_options){.ring = "4KiB"}, "1");
    char payload[1024];
    memset(payload, ' ', sizeof payload);
    payload[0] = '1';
    o.event.payload = payload;
    o.event.payload_len = sizeof payload;
    struct error err = {""};
    cr_expect_eq(publish(&o, &err), EVBUS_EINVAL);
    cr_expect_not_null(strstr(err.text, "test.dlq"), "%s", err.text);
    office_end(&o);
}

Test(deadletter, in_a_ring_that_is_too_small_for_its_attempts_it_says_less)
{
    struct office o = office_make((struct fixture_options){.ring = "4KiB"}, "\"the event\"");
    char error[NOTES_TEXT_MAX + 1];
    memset(error, 'e', NOTES_TEXT_MAX);
    error[NOTES_TEXT_MAX] = '\0';
    add_note(&o, 1, CAUSE_FAILED, "mailer", error);
    add_note(&o, 2, CAUSE_FAILED, "mailer", "short");
    struct error err = {""};
    cr_assert_eq(publish(&o, &err), EVBUS_OK, "%s", err.text);
    struct evbus_delivery got = next(&o);
    cr_expect_not_null(strstr(got.payload, "\"payload\":\"the event\""), "%s", (const char *)got.payload);
    cr_expect(json_check(got.payload, got.payload_len, NULL));
    cr_expect_not_null(strstr(got.payload, "\"error\":\"short\""), "%s", (const char *)got.payload);
    cr_expect_null(strstr(got.payload, "eeee"));
    office_end(&o);
}
