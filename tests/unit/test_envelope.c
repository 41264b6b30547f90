/* test_envelope.c: JSON to event and back: timestamps, strictness, and a payload that nobody touches. */
#include "envelope.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N(rows)  (sizeof(rows) / sizeof(rows)[0])
#define NS_PER_S UINT64_C(1000000000)
#define ID       "0198c0de-0000-7000-8000-0123456789ab"
#define HEAD \
    "{\"eventId\":\"" ID "\",\"eventType\":\"lomash.orders.created\",\"timestamp\":\"2026-02-01T09:30:00.123Z\","
#define LINE HEAD "\"version\":\"1.0\",\"payload\":"

/* From memory of exactly its size, so that a sanitizer sees any read behind it. */
static int parse(const char *text, struct envelope *out, char out_payload[256], struct error *err)
{
    size_t len = strlen(text);
    char *exact = malloc(len > 0 ? len : 1);
    cr_assert_not_null(exact);
    memcpy(exact, text, len);
    int rc = envelope_parse(exact, len, out, err);
    if (rc == EVBUS_OK && out_payload != NULL)
        snprintf(out_payload, 256, "%.*s", (int)out->payload_len, out->payload);
    free(exact);
    return rc;
}

/* ---- timestamps ---- */

Test(envelope, reads_timestamps)
{
    static const struct {
        const char *text;
        uint64_t s, ns;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0, 0},
        {"1970-01-01T00:00:00.000000001Z", 0, 1},
        {"2026-02-01T09:30:00Z", 1769938200, 0},
        {"2026-02-01T09:30:00.123Z", 1769938200, 123000000},
        {"2026-02-01t09:30:00.5z", 1769938200, 500000000},
        {"2026-02-01T09:30:00.123456789Z", 1769938200, 123456789},
        {"2026-02-01T09:30:00.1234567899999999999999Z", 1769938200, 123456789}, /* cut, not rounded */
        {"2026-02-01T10:30:00+01:00", 1769938200, 0},
        {"2026-02-01T04:00:00-05:30", 1769938200, 0},
        {"2026-01-31T23:30:00-10:00", 1769938200, 0}, /* yesterday there */
        {"2026-02-01T09:30:00-00:00", 1769938200, 0},
        {"1970-01-01T23:59:00+23:59", 0, 0},
        {"2000-02-29T00:00:00Z", 951782400, 0}, /* divisible by 400 */
        {"2024-02-29T12:00:00Z", 1709208000, 0},
        {"2024-03-01T00:00:00Z", 1709251200, 0},
        {"2100-03-01T00:00:00Z", 4107542400, 0}, /* 2100 has no leap day */
        {"2016-12-31T23:59:60Z", 1483228800, 0}, /* leap second: the second after */
        {"2017-01-01T05:29:60+05:30", 1483228800, 0},
        {"2553-12-31T23:59:59.999999999Z", 18429292799, 999999999},
    };
    for (size_t i = 0; i < N(rows); i++) {
        uint64_t ns = 7;
        struct error err = {""};
        int rc = envelope_time_parse(rows[i].text, strlen(rows[i].text), &ns, &err);
        cr_expect_eq(rc, EVBUS_OK, "%s: %s", rows[i].text, err.text);
        cr_expect_eq(ns, rows[i].s * NS_PER_S + rows[i].ns, "%s became %" PRIu64, rows[i].text, ns);
    }
}

Test(envelope, refuses_what_is_no_timestamp)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "too short"},
        {"2026-02-01", "too short"},
        {"2026-02-01T09:30:00", "too short"},
        {"2026-02-01 09:30:00Z", "not of this shape"},
        {"2026-2-01T09:30:00ZZ", "not of this shape"},
        {"20260201T093000.000000Z", "not of this shape"},
        {" 2026-02-01T09:30:00Z", "not of this shape"},
        {"2026-02-01T09:30Z....", "not of this shape"},
        {"+026-02-01T09:30:00Z", "not of this shape"},
        {"1969-12-31T23:59:59Z", "the year is not in 1970..2553"},
        {"2554-01-01T00:00:00Z", "the year is not in 1970..2553"},
        {"0000-01-01T00:00:00Z", "the year is not in 1970..2553"},
        {"1970-01-01T00:59:59+01:00", "before 1970"},
        {"2553-12-31T23:59:59.999999999-23:59", "after 2553"}, /* as text it would be of a year that is refused */
        {"2553-12-31T23:59:60Z", "after 2553"},
        {"2026-00-01T09:30:00Z", "no such month"},
        {"2026-13-01T09:30:00Z", "no such month"},
        {"2026-02-00T09:30:00Z", "no such day"},
        {"2026-02-29T09:30:00Z", "no such day"},
        {"2100-02-29T09:30:00Z", "no such day"},
        {"2024-02-30T09:30:00Z", "no such day"},
        {"2026-04-31T09:30:00Z", "no such day"},
        {"2026-06-31T09:30:00Z", "no such day"},
        {"2026-09-31T09:30:00Z", "no such day"},
        {"2026-11-31T09:30:00Z", "no such day"},
        {"2026-12-32T09:30:00Z", "no such day"},
        {"2026-02-01T24:00:00Z", "no such time"},
        {"2026-02-01T09:60:00Z", "no such time"},
        {"2026-02-01T09:30:61Z", "no such time"},
        {"2026-02-01T09:30:60Z", "second 60 exists only at 23:59 UTC"},
        {"2016-12-31T23:59:60+01:00", "second 60 exists only at 23:59 UTC"},
        {"2026-02-01T09:30:00.Z", "no digit follows"},
        {"2026-02-01T09:30:00,5Z", "must end with Z"},
        {"2026-02-01T09:30:00.5", "must end with Z"},
        {"2026-02-01T09:30:00Zx", "must end with Z"},
        {"2026-02-01T09:30:00+01", "must end with Z"},
        {"2026-02-01T09:30:00+0100", "must end with Z"},
        {"2026-02-01T09:30:00+01:00Z", "must end with Z"},
        {"2026-02-01T09:30:00+24:00", "the offset is not one of"},
        {"2026-02-01T09:30:00+01:60", "the offset is not one of"},
        {"2026-02-01T09:30:00+-1:00", "the offset is not one of"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        uint64_t ns = 7;
        struct error err = {""};
        int rc = envelope_time_parse(rows[i].text, strlen(rows[i].text), &ns, &err);
        cr_expect_eq(rc, EVBUS_EINVAL, "%s passed as %" PRIu64, rows[i].text, ns);
        cr_expect(strstr(err.text, rows[i].message) != NULL, "%s: \"%s\" must say \"%s\"", rows[i].text, err.text,
                  rows[i].message);
        cr_expect_eq(ns, 7, "%s: the result must be untouched on failure", rows[i].text);
    }
}

Test(envelope, counts_days_as_the_c_library_does)
{
    for (uint64_t day = 0; day < 213300; day++) { /* 1970..2553 */
        time_t s = (time_t)(day * 86400 + day % 86400);
        struct tm tm;
        cr_assert_not_null(gmtime_r(&s, &tm));
        char expected[64], made[32];
        snprintf(expected, sizeof expected, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(day % 1000));
        uint64_t ns = (uint64_t)s * NS_PER_S + day % 1000 * 1000000, back = 0;
        envelope_time_format(ns, made);
        cr_assert_str_eq(made, expected, "day %" PRIu64, day);
        cr_assert_eq(envelope_time_parse(made, strlen(made), &back, NULL), EVBUS_OK, "%s", made);
        cr_assert_eq(back, ns, "%s went there and came back as another", made);
    }
}

Test(envelope, cuts_timestamps_to_milliseconds)
{
    char text[32];
    envelope_time_format(999999999, text);
    cr_assert_str_eq(text, "1970-01-01T00:00:00.999Z");
    envelope_time_format(UINT64_MAX, text);
    cr_assert_str_eq(text, "2554-07-21T23:34:33.709Z");
}

/* ---- in ---- */

Test(envelope, reads_the_five_fields)
{
    static const uint8_t id[16] = {0x01, 0x98, 0xc0, 0xde, 0, 0, 0x70, 0, 0x80, 0, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab};
    struct envelope e;
    struct error err = {""};
    char payload[256];
    cr_assert_eq(parse(HEAD "\"version\":\"2.1\",\"payload\":{\"total\":19.99}}", &e, payload, &err), EVBUS_OK, "%s",
                 err.text);
    cr_expect_arr_eq(e.id, id, 16);
    cr_expect_str_eq(e.topic, "lomash.orders.created");
    cr_expect_eq(e.timestamp_ns, 1769938200 * NS_PER_S + 123000000);
    cr_expect(e.version_major == 2 && e.version_minor == 1);
    cr_expect_str_eq(payload, "{\"total\":19.99}");
}

Test(envelope, takes_any_order_blanks_and_escaped_names)
{
    struct envelope e;
    struct error err = {""};
    char payload[256];
    cr_assert_eq(parse(" \r\n{ \"payload\"\t:\n[1 , 2] ,\"v\\u0065rsion\" : \"3\" , \"eventType\":\"a\\u002eb.c\"}\n",
                       &e, payload, &err),
                 EVBUS_OK, "%s", err.text);
    cr_expect_str_eq(payload, "[1 , 2]", "blanks around the payload are not part of it, blanks in it are");
    cr_expect_str_eq(e.topic, "a.b.c");
    cr_expect(e.version_major == 3 && e.version_minor == 0);
}

Test(envelope, fills_in_what_may_be_missing)
{
    static const uint8_t none[16] = {0};
    struct envelope e;
    char payload[256];
    cr_assert_eq(parse("{\"eventType\":\"a.b.c\",\"payload\":null}", &e, payload, NULL), EVBUS_OK);
    cr_expect_arr_eq(e.id, none, 16);
    cr_expect_eq(e.timestamp_ns, 0);
    cr_expect(e.version_major == 1 && e.version_minor == 0);
    cr_expect_str_eq(payload, "null");
}

/* What a JSON library would have rewritten, or mistaken for the payload's end. */
static const char *const payloads[] = {
    "19.99",
    "1.10",
    "1e2",
    "-0",
    "1E400",
    "123456789012345678901234567890",
    "0.1000000000000000055511151231257827",
    "\"\"",
    "\"text with } ] , : and \\\" \\\\\"",
    "\"\\u00e9 \\ud800 \\/ \xc3\xa9\"",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    "[ ]",
    "{ \"a\" : 1 , \"a\" : 2 }",
    "{\"payload\":{\"payload\":\"}\"},\"eventId\":1}",
    "[[[{\"a\":[1,\"]\",{}]}]], \"\\\\\"]",
    "{\"a\":\t1.0,   \"b\":[ 1e+2 ,-0.0 ]}",
};

Test(envelope, keeps_the_payload_byte_for_byte)
{
    static const char *const after[] = {"}", " }", ",\"version\":\"1.0\"}", " , \"version\":\"1.0\"}"};
    for (size_t i = 0; i < N(payloads); i++)
        for (size_t k = 0; k < N(after); k++) {
            char text[512], payload[256] = "";
            struct envelope e;
            struct error err = {""};
            snprintf(text, sizeof text, "{\"eventType\":\"a.b.c\",\"payload\":%s%s", payloads[i], after[k]);
            cr_expect_eq(parse(text, &e, payload, &err), EVBUS_OK, "%s: %s", text, err.text);
            cr_expect_str_eq(payload, payloads[i]);
        }
}

Test(envelope, says_what_is_wrong)
{
    static const struct {
        const char *label, *text, *message;
    } rows[] = {
        {"nothing", "", "envelope: no JSON"},
        {"half of it", LINE "{\"a\":", "no JSON"},
        {"two of them", LINE "1}" LINE "1}", "no JSON"},
        {"a list", "[1]", "must be a JSON object"},
        {"a number", "17", "must be a JSON object"},
        {"an empty object", "{}", "eventType is missing"},
        {"no topic", "{\"payload\":1}", "eventType is missing"},
        {"no payload", "{\"eventType\":\"a.b.c\"}", "payload is missing"},
        {"a misspelt member", "{\"eventid\":\"" ID "\"}", "unknown member \"eventid\"; did you mean \"eventId\"?"},
        {"a foreign member", "{\"traceparent\":\"\"}", "unknown member \"traceparent\"; eventId, eventType,"},
        {"an empty name", "{\"\":1}", "unknown member \"\""},
        {"a lone surrogate as a name", "{\"\\ud800\":1}", "unknown member \"\\ud800\""},
        {"a name that goes on behind a NUL", "{\"payload\\u0000x\":1}", "unknown member \"payload\\u0000x\""},
        {"the payload twice", "{\"payload\":1,\"payload\":1}", "payload stands there twice"},
        {"a name twice, once escaped", "{\"payload\":1,\"pa\\u0079load\":1}", "payload stands there twice"},
        {"the id as a number", "{\"eventId\":17}", "eventId must be a string; found 17"},
        {"the version as a number", "{\"version\":1.0}", "version must be a string; found 1.0"},
        {"null for a timestamp", "{\"timestamp\":null}", "timestamp must be a string; found null"},
        {"an object for a topic", "{\"eventType\":{}}", "eventType must be a string; found {}"},
        {"an id that is none", "{\"eventId\":\"17\"}", "eventId \"17\" is no UUID"},
        {"an id in braces", "{\"eventId\":\"{" ID "}\"}", "is no UUID"},
        {"the nil id", "{\"eventId\":\"00000000-0000-0000-0000-000000000000\"}", "the nil UUID; leave it out"},
        {"a bad topic", "{\"eventType\":\"orders\"}", "envelope: topic \"orders\" has 1 segment"},
        {"a NUL in a topic", "{\"eventType\":\"a.b.c\\u0000\"}", "eventType is too long or no text"},
        {"a lone surrogate in a topic", "{\"eventType\":\"a.b.\\ud800\"}", "eventType is too long or no text"},
        {"a bad time", "{\"timestamp\":\"yesterday\"}", "envelope: timestamp \"yesterday\" is not RFC 3339"},
        {"1970 itself", "{\"timestamp\":\"1970-01-01T00:00:00Z\"}",
         "envelope: timestamp \"1970-01-01T00:00:00Z\" is zero; leave it out"},
        {"a bad version", "{\"version\":\"01\"}", "envelope: version \"01\" is not MAJOR.MINOR"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct envelope e = {.version_major = 77};
        struct error err = {""};
        cr_expect_eq(parse(rows[i].text, &e, NULL, &err), EVBUS_EINVAL, "%s passed", rows[i].label);
        cr_expect(strstr(err.text, rows[i].message) != NULL, "%s: \"%s\" must say \"%s\"", rows[i].label, err.text,
                  rows[i].message);
        cr_expect_eq(e.version_major, 77, "%s: the result must be untouched on failure", rows[i].label);
    }
}

Test(envelope, takes_no_part_of_itself)
{
    const char *whole = LINE "{\"a\":[1,\"\\u0041\"]}}";
    for (size_t len = 0; len < strlen(whole); len++) {
        char part[512];
        struct envelope e;
        snprintf(part, sizeof part, "%.*s", (int)len, whole);
        cr_expect_eq(parse(part, &e, NULL, NULL), EVBUS_EINVAL, "%s passed", part);
    }
}

/* ---- out ---- */

static struct evbus_delivery delivery(const char *payload)
{
    struct evbus_delivery d = {
        .size = sizeof d,
        .id = {0x01, 0x98, 0xc0, 0xde, 0, 0, 0x70, 0, 0x80, 0, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab},
        .topic = "lomash.orders.created",
        .timestamp_ns = 1769938200 * NS_PER_S + 123999999,
        .version_major = 1,
        .payload = payload,
        .payload_len = strlen(payload),
    };
    return d;
}

Test(envelope, writes_one_line)
{
    static const char *const rows[][2] = {
        {"{\"total\":19.99}", LINE "{\"total\":19.99}}"},
        {"{\r\n  \"a\" : 1,\n\n \"b\":\t\"\\n\" }", LINE "{    \"a\" : 1,   \"b\":\t\"\\n\" }}"},
        {"\n\n", LINE "  }"},
        {"\r1\n", LINE " 1 }"},
        {"-0", LINE "-0}"},
        {"\"\xc3\xa9\"", LINE "\"\xc3\xa9\"}"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_delivery d = delivery(rows[i][0]);
        char text[512];
        size_t len = evbus_envelope_format(&d, text, sizeof text - 1);
        text[len] = '\0';
        cr_expect_str_eq(text, rows[i][1]);
    }
}

Test(envelope, writes_every_version)
{
    static const struct {
        uint16_t major, minor;
        const char *text;
    } rows[] = {{1, 0, "\"1.0\""}, {10, 9, "\"10.9\""}, {123, 4567, "\"123.4567\""}, {65535, 65535, "\"65535.65535\""}};
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_delivery d = delivery("1");
        d.version_major = rows[i].major;
        d.version_minor = rows[i].minor;
        char text[512];
        text[evbus_envelope_format(&d, text, sizeof text - 1)] = '\0';
        cr_expect(strstr(text, rows[i].text) != NULL, "%s must be in %s", rows[i].text, text);
    }
}

Test(envelope, never_writes_beyond_the_buffer_and_says_what_it_needs)
{
    const char *whole = LINE "{   \"a\":1}}";
    struct evbus_delivery d = delivery("{\n\r \"a\":1}");
    cr_expect_eq(evbus_envelope_format(&d, NULL, 0), strlen(whole), "a first call may ask for the length");
    for (size_t cap = 0; cap <= strlen(whole) + 1; cap++) {
        char text[512];
        memset(text, '#', sizeof text);
        size_t n_written = cap < strlen(whole) ? cap : strlen(whole);
        cr_expect_eq(evbus_envelope_format(&d, text, cap), strlen(whole), "cap %zu", cap);
        cr_expect(memcmp(text, whole, n_written) == 0, "cap %zu: what fits must be right", cap);
        cr_expect_eq(text[n_written], '#', "cap %zu: nothing behind it", cap);
    }
}

Test(envelope, reads_what_it_wrote)
{
    for (size_t i = 0; i < N(payloads); i++) {
        struct evbus_delivery d = delivery(payloads[i]);
        struct envelope e;
        struct error err = {""};
        char text[512], payload[256] = "";
        text[evbus_envelope_format(&d, text, sizeof text - 1)] = '\0';
        cr_assert_eq(parse(text, &e, payload, &err), EVBUS_OK, "%s: %s", text, err.text);
        cr_expect_arr_eq(e.id, d.id, 16);
        cr_expect_str_eq(e.topic, d.topic);
        cr_expect_eq(e.timestamp_ns, d.timestamp_ns / 1000000 * 1000000);
        cr_expect_str_eq(payload, payloads[i]);
    }
}
