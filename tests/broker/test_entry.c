/* test_entry.c: fields to event and back: order, strictness, and what a foreign program may leave out.
 *
 * Entries are written here as lines name=value. The random test prints its seed; EVBUS_SEED=<number> takes it back. */
#include "entry.h"

#include "trial.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows)   (sizeof(rows) / sizeof(rows)[0])
#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define ID        "0198c0de-0000-7000-8000-0123456789ab"
#define ORIGIN    "4f0c2b7e-1c1d-4b52-9d3e-0123456789ab"
#define ID_LINE   "eventId=" ID "\n"
#define REST      "eventType=lomash.orders.created\ntimestamp=2026-02-01T09:30:00.123Z\npayload={\"total\":19.99}\n"
#define FIVE      ID_LINE REST "version=1.0\n"
#define PLACE     "origin=" ORIGIN "\npartition=2\nposition=123456\n"
#define NOON      UINT64_C(1769938200) /* 2026-02-01T09:30:00Z */

/* Its fields, in memory of exactly its size, so that a sanitizer sees any read behind it. To be freed. */
static char *fields_of(const char *lines, struct entry_field fields[ENTRY_FIELDS_MAX], size_t *out_n)
{
    size_t len = strlen(lines);
    char *exact = malloc(len > 0 ? len : 1);
    cr_assert_not_null(exact);
    memcpy(exact, lines, len);
    *out_n = 0;
    for (char *at = exact, *end = exact + len; at < end;) {
        char *equals = memchr(at, '=', (size_t)(end - at)), *newline = memchr(at, '\n', (size_t)(end - at));
        cr_assert(equals != NULL && newline != NULL && *out_n < ENTRY_FIELDS_MAX, "%s", lines);
        fields[(*out_n)++] = (struct entry_field){at, (size_t)(equals - at), equals + 1,
                                                  (size_t)(newline - equals - 1)};
        at = newline + 1;
    }
    return exact;
}

/* Payloads in *out are gone afterwards. */
static bool read(const char *lines, struct entry_event *out, char *error)
{
    struct entry_field fields[ENTRY_FIELDS_MAX];
    size_t n;
    char *exact = fields_of(lines, fields, &n);
    bool is_event = entry_read(fields, n, out, error);
    free(exact);
    return is_event;
}

/* ---- out ---- */

static const struct evbus_version three[] = {{1, 0, "null", 4}, {1, 10, "[1]", 3}, {65535, 65535, "{\"b\": 1e2}", 10}};

static struct evbus_delivery whole(void)
{
    struct evbus_delivery event = {
        .size = sizeof event,
        .id = {0x01, 0x98, 0xc0, 0xde, 0, 0, 0x70, 0, 0x80, 0, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab},
        .topic = "lomash.orders.created",
        .service = "order-payment-service",
        .timestamp_ns = NOON * NS_PER_S + 123999999,
        .version_major = 1,
        .key = "10248",
        .key_len = 5,
        .payload = "null",
        .payload_len = 4,
        .log = "lomash.orders",
        .partition = UINT32_MAX,
        .position = (UINT64_C(1) << 48) - 1,
        .versions = three,
        .n_versions = 3,
        .traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        .tracestate = "a=1,b=2",
        .correlation_id = "c-1",
        .causation_id = "c-2",
        .expires_at_ns = UINT64_MAX,
    };
    return event;
}

static void check_fields(const struct evbus_delivery *event, const char *const (*rows)[2], size_t n)
{
    struct entry entry = {0};
    entry_write(event, ORIGIN, 123400, &entry);
    cr_assert_eq(entry.n, n);
    for (size_t i = 0; i < n; i++) {
        const struct entry_field *field = &entry.fields[i];
        cr_expect(field->name_len == strlen(rows[i][0]) && memcmp(field->name, rows[i][0], field->name_len) == 0,
                  "field %zu is %.*s", i, (int)field->name_len, field->name);
        cr_expect(field->value_len == strlen(rows[i][1]) && memcmp(field->value, rows[i][1], field->value_len) == 0,
                  "%s is %.*s", rows[i][0], (int)field->value_len, field->value);
    }
}

Test(entry, writes_all_fields_in_the_order_of_the_format)
{
    static const char *const rows[][2] = {
        {"eventId", ID},
        {"eventType", "lomash.orders.created"},
        {"timestamp", "2026-02-01T09:30:00.123Z"}, /* cut, not rounded */
        {"version", "65535.65535"},                /* the highest */
        {"payload", "{\"b\": 1e2}"},
        {"key", "10248"},
        {"origin", ORIGIN},
        {"partition", "4294967295"},
        {"position", "281474976710655"},
        {"prev", "123400"},
        {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {"tracestate", "a=1,b=2"},
        {"correlationId", "c-1"},
        {"causationId", "c-2"},
        {"expiresAt", "2554-07-21T23:34:33.709Z"},
        {"version.2", "1.10"}, /* numbers, not texts: 1.10 is above 1.0, and would be above 1.9 */
        {"payload.2", "[1]"},
        {"version.3", "1.0"},
        {"payload.3", "null"},
    };
    struct evbus_delivery event = whole();
    check_fields(&event, rows, N(rows));
}

Test(entry, writes_the_ten_that_are_always_there_and_no_other)
{
    static const char *const rows[][2] = {
        {"eventId", ID},
        {"eventType", "lomash.orders.created"},
        {"timestamp", "1970-01-01T00:00:00.001Z"}, /* .000 would say that there is none */
        {"version", "1.0"},
        {"payload", "null"},
        {"key", ""},
        {"origin", ORIGIN},
        {"partition", "0"},
        {"position", "1"},
        {"prev", "123400"},
    };
    struct evbus_delivery event = whole();
    event.timestamp_ns = 1;
    event.n_versions = 1;
    event.key = "";
    event.key_len = event.partition = 0;
    event.position = 1;
    event.traceparent = event.tracestate = event.correlation_id = event.causation_id = NULL;
    event.expires_at_ns = 0;
    check_fields(&event, rows, N(rows));
}

Test(entry, has_room_for_eight_versions_with_the_longest_of_everything)
{
    struct evbus_version versions[EVBUS_VERSIONS_MAX];
    for (unsigned i = 0; i < EVBUS_VERSIONS_MAX; i++)
        versions[i] = (struct evbus_version){65535, (uint16_t)(65528 + i), "1", 1};
    struct evbus_delivery event = whole();
    event.versions = versions;
    event.n_versions = EVBUS_VERSIONS_MAX;
    struct entry entry = {0};
    struct entry_event back;
    char error[EVBUS_ERROR_MAX] = "";
    entry_write(&event, ORIGIN, event.position - 1, &entry);
    cr_assert_eq(entry.n, 29);
    cr_assert(entry_read(entry.fields, entry.n, &back, error), "%s", error);
    cr_assert_eq(back.event.n_more_versions, EVBUS_VERSIONS_MAX - 1);
}

/* ---- in ---- */

Test(entry, reads_the_five_fields_of_a_foreign_program)
{
    struct entry_field fields[ENTRY_FIELDS_MAX];
    struct entry_event out;
    char error[EVBUS_ERROR_MAX] = "";
    size_t n;
    char *exact = fields_of(FIVE, fields, &n);
    cr_assert(entry_read(fields, n, &out, error), "%s", error);
    static const uint8_t id[] = {0x01, 0x98, 0xc0, 0xde, 0, 0, 0x70, 0, 0x80, 0, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab};
    static const uint8_t nobody[16];
    cr_expect(out.is_foreign && out.prev == 0);
    cr_expect_eq(out.event.size, sizeof out.event);
    cr_expect_arr_eq(out.event.id, id, sizeof id);
    cr_expect_str_eq(out.event.topic, "lomash.orders.created");
    cr_expect_eq(out.event.timestamp_ns, NOON * NS_PER_S + 123000000);
    cr_expect(out.event.version_major == 1 && out.event.version_minor == 0);
    cr_expect_eq(out.event.payload, fields[3].value, "it lies where the field is");
    cr_expect_eq(out.event.payload_len, 15);
    cr_expect(out.event.key == NULL && out.event.more_versions == NULL && out.event.n_more_versions == 0);
    cr_expect(out.event.traceparent == NULL && out.event.tracestate == NULL && out.event.correlation_id == NULL &&
              out.event.causation_id == NULL && out.event.expires_at_ns == 0);
    cr_expect_eq(out.event.origin, &out.origin);
    cr_expect_arr_eq(out.origin.bus, nobody, sizeof nobody);
    cr_expect(out.origin.position == 0 && out.origin.broker_id == NULL);
    cr_expect(!out.event.payload_is_checked);
    free(exact);
}

Test(entry, reads_what_is_an_event)
{
    static const char *const rows[] = {
        ID_LINE REST,                                 /* a missing version is 1.0 */
        REST ID_LINE,                                 /* any order */
        FIVE "colour=red\nversion.x=1\nversion.=1\n", /* unknown ones are left out */
        FIVE "Version=9.9\npayload.two=1\ncolour=red\ncolour=blue\n",
        FIVE "key=\ntraceparent=\ntracestate=\ncorrelationId=\ncausationId=\n",
        FIVE "key=10248\ntraceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
        FIVE "prev=anything\n", /* only with an origin it is ours */
        FIVE PLACE,             /* prev: none known */
        FIVE PLACE "prev=0\n",
        FIVE PLACE "prev=123455\n",
        FIVE "payload.2=1\nversion.2=2.0\nversion.3=1.1\npayload.3=2\n",
        "eventId=0198C0DE-0000-7000-8000-0123456789AB\n" REST "version=7\n",
        FIVE "expiresAt=2026-02-01t10:30:00.5+01:00\n",
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct entry_event out;
        char error[EVBUS_ERROR_MAX] = "";
        cr_expect(read(rows[i], &out, error), "%s: %s", rows[i], error);
    }
}

Test(entry, refuses_what_would_be_another_event)
{
    static const struct {
        const char *lines, *message;
    } rows[] = {
        {"", "eventId is missing: give each event a UUID"},
        {REST, "eventId is missing"},
        {ID_LINE "timestamp=2026-02-01T09:30:00Z\npayload=1\n", "eventType is missing"},
        {ID_LINE "eventType=lomash.orders.created\npayload=1\n", "timestamp is missing"},
        {ID_LINE "eventType=lomash.orders.created\ntimestamp=2026-02-01T09:30:00Z\n", "payload is missing"},
        {ID_LINE FIVE, "eventId \"" ID "\": this field stands there twice"},
        {FIVE "key=a\nkey=a\n", "key \"a\": this field stands there twice"},
        {"eventId=\n" REST, "eventId \"\": it must be a UUID"},
        {"eventId=0198c0de-0000-7000-8000-0123456789a\n" REST, "it must be a UUID"},
        {"eventId=0198c0de-0000-7000-8000-0123456789abc\n" REST, "it must be a UUID"},
        {"eventId={198c0de-0000-7000-8000-0123456789a}\n" REST, "it must be a UUID"},
        {"eventId=0198c0de-0000-7000-8000-0123456789ag\n" REST, "it must be a UUID"},
        {"eventId=0198c0de0-000-7000-8000-0123456789ab\n" REST, "it must be a UUID"},
        {"eventId=0198c0de-0000-7000-80000-123456789ab\n" REST, "it must be a UUID"},
        {"eventId=0198c0de-0000-7000-8000-0123456789a@\n" REST, "it must be a UUID"},
        {"eventId=0198c0de-0000-7000-8000-0123456789a:\n" REST, "it must be a UUID"},
        {"eventId=00000000-0000-0000-0000-000000000000\n" REST, "the nil UUID names nothing"},
        {ID_LINE "eventType=\ntimestamp=2026-02-01T09:30:00Z\npayload=1\n", "eventType \"\": it must be a topic"},
        {ID_LINE "eventType=Lomash.orders\ntimestamp=2026-02-01T09:30:00Z\npayload=1\n", "it must be a topic"},
        {ID_LINE "eventType=a/../b\ntimestamp=2026-02-01T09:30:00Z\npayload=1\n", "it must be a topic"},
        {ID_LINE "eventType=a.b.c\ntimestamp=2026-02-01T09:30:00Z\npayload=\n", "payload \"\": it must be one JSON"},
        {ID_LINE REST "version=\n", "version \"\": it must be MAJOR.MINOR"},
        {ID_LINE REST "version=0.1\n", "it must be MAJOR.MINOR"},
        {ID_LINE REST "version=1.\n", "it must be MAJOR.MINOR"},
        {ID_LINE REST "version=1.0.0\n", "it must be MAJOR.MINOR"},
        {ID_LINE REST "version=01.0\n", "it must be MAJOR.MINOR"},
        {ID_LINE REST "version=1.00\n", "it must be MAJOR.MINOR"},
        {ID_LINE REST "version=65536.0\n", "it must be MAJOR.MINOR"},
        {ID_LINE REST "version=1.65536\n", "it must be MAJOR.MINOR"},
        {ID_LINE REST "version=v1\n", "it must be MAJOR.MINOR"},
        {ID_LINE REST "version=1.0 \n", "it must be MAJOR.MINOR"},
        {FIVE "version.2=2.0\n", "payload.2 is missing: each version comes with its payload"},
        {FIVE "payload.2=1\n", "version.2 is missing: each version"},
        {FIVE "version.2=2.0\npayload.2=\n", "payload.2 \"\": it must be one JSON text"},
        {FIVE "version.2=x\npayload.2=1\n", "version.2 \"x\": it must be MAJOR.MINOR"},
        {FIVE "version.3=2.0\npayload.3=1\n", "version.2 is missing: versions beside the first"},
        {FIVE "version.2=1\npayload.2=1\n", "version.2 \"1\": this version stands there twice"},
        {FIVE "version.2=2.0\npayload.2=1\nversion.3=2.0\npayload.3=1\n", "version.3 \"2.0\": this version stands"},
        {FIVE "version.9=2.0\n", "version.9 is no field of an event: it may have 8 versions"},
        {FIVE "payload.1=2.0\n", "payload.1 is no field of an event"},
        {FIVE "version.02=2.0\n", "version.02 is no field of an event"},
        {FIVE "origin=" ORIGIN "\n", "partition is missing: origin, partition and position come together"},
        {FIVE "origin=" ORIGIN "\npartition=1\n", "position is missing: origin"},
        {FIVE "origin=" ORIGIN "\nposition=1\n", "partition is missing: origin"},
        {FIVE "partition=1\nposition=1\n", "origin is missing: origin"},
        {FIVE "position=1\n", "origin is missing: origin"},
        {FIVE "origin=x\npartition=1\nposition=1\n", "origin \"x\": it must be a UUID"},
        {FIVE "origin=00000000-0000-0000-0000-000000000000\npartition=1\nposition=1\n", "the nil UUID"},
        {FIVE "origin=" ORIGIN "\npartition=\nposition=1\n",
         "partition \"\": it must be a decimal number below 4294967296"},
        {FIVE "origin=" ORIGIN "\npartition=4294967296\nposition=1\n", "it must be a decimal number below"},
        {FIVE "origin=" ORIGIN "\npartition=-1\nposition=1\n", "it must be a decimal number below"},
        {FIVE "origin=" ORIGIN "\npartition=1\nposition=1x\n", "position \"1x\": it must be a decimal number below"},
        {FIVE "origin=" ORIGIN "\npartition=1\nposition=01\n", "it must be a decimal number below"},
        {FIVE "origin=" ORIGIN "\npartition=1\nposition=281474976710656\n", "it must be a decimal number below"},
        {FIVE "origin=" ORIGIN "\npartition=1\nposition=18446744073709551617\n", "it must be a decimal number below"},
        {FIVE "origin=" ORIGIN "\npartition=1\nposition=0\n", "no event stands at position 0"},
        {FIVE PLACE "prev=\n", "prev \"\": it must be a decimal number"},
        {FIVE PLACE "prev=123456\n", "prev \"123456\": the event before it must stand below its position, 123456"},
        {FIVE "expiresAt=\n", "expiresAt \"\": date and time are not of this shape; it must be RFC 3339"},
        {FIVE "expiresAt=1970-01-01T00:00:00Z\n", "expiresAt \"1970-01-01T00:00:00Z\": this instant stands for none"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct entry_event out;
        char error[EVBUS_ERROR_MAX] = "";
        cr_expect(!read(rows[i].lines, &out, error), "passed: %s", rows[i].lines);
        cr_expect_not_null(strstr(error, rows[i].message), "%s: %s", rows[i].lines, error);
    }
}

static bool read_time(const char *text, struct entry_event *out, char *error)
{
    char lines[200];
    snprintf(lines, sizeof lines, ID_LINE "eventType=lomash.orders.created\npayload=1\ntimestamp=%s\n", text);
    return read(lines, out, error);
}

Test(entry, reads_timestamps)
{
    static const struct {
        const char *text;
        uint64_t s, ns;
    } rows[] = {
        {"1970-01-01T00:00:00.000000001Z", 0, 1},
        {"2026-02-01T09:30:00Z", NOON, 0},
        {"2026-02-01t09:30:00.5z", NOON, 500000000},
        {"2026-02-01T09:30:00.1234567899999999999999Z", NOON, 123456789},
        {"2026-02-01T10:30:00+01:00", NOON, 0},
        {"2026-01-31T23:30:00-10:00", NOON, 0},
        {"2024-02-29T12:00:00Z", 1709208000, 0},
        {"2100-03-01T00:00:00Z", 4107542400, 0},
        {"2016-12-31T23:59:60Z", 1483228800, 0},
        {"2017-01-01T05:29:60+05:30", 1483228800, 0},
        {"2554-07-21T23:34:33.709551615Z", 18446744073, 709551615},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct entry_event out;
        char error[EVBUS_ERROR_MAX] = "";
        cr_expect(read_time(rows[i].text, &out, error), "%s: %s", rows[i].text, error);
        cr_expect_eq(out.event.timestamp_ns, rows[i].s * NS_PER_S + rows[i].ns, "%s became %" PRIu64, rows[i].text,
                     out.event.timestamp_ns);
    }
}

Test(entry, refuses_what_is_no_timestamp)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "not of this shape"},
        {"2026-02-01", "not of this shape"},
        {"2026-02-01 09:30:00Z", "not of this shape"},
        {"2026-2-01T09:30:00ZZ", "not of this shape"},
        {"1769938200", "not of this shape"},
        {"2026-02-01T09:30:00", "must end with Z"},
        {"2026-02-01T09:30:00Zx", "must end with Z"},
        {"2026-02-01T09:30:00+0100", "must end with Z"},
        {"2026-02-01T09:30:00+24:00", "must end with Z"},
        {"2026-02-01T09:30:00-01:60", "must end with Z"},
        {"2026-02-01T09:30:00.Z", "no digit follows"},
        {"2026-02-01T09:30:00,5Z", "must end with Z"},
        {"2026-00-01T09:30:00Z", "no such day"},
        {"2026-13-01T09:30:00Z", "no such day"},
        {"2026-02-29T09:30:00Z", "no such day"},
        {"2100-02-29T09:30:00Z", "no such day"},
        {"2026-02-01T24:00:00Z", "no such time"},
        {"2026-02-01T09:60:00Z", "no such time"},
        {"2026-02-01T09:30:61Z", "no such time"},
        {"2026-02-01T09:30:60Z", "second 60 exists only at 23:59 UTC"},
        {"1969-12-31T23:59:59Z", "not within 1970"},
        {"1970-01-01T00:59:59+01:00", "not within 1970"},
        {"0000-01-01T00:00:00Z", "not within 1970"},
        {"2554-07-21T23:34:33.709551616Z", "not within 1970"},
        {"9999-12-31T23:59:59Z", "not within 1970"},
        {"1970-01-01T00:00:00Z", "stands for none"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct entry_event out;
        char error[EVBUS_ERROR_MAX] = "";
        cr_expect(!read_time(rows[i].text, &out, error), "%s passed", rows[i].text);
        cr_expect_not_null(strstr(error, rows[i].message), "%s: %s", rows[i].text, error);
    }
}

Test(entry, keeps_texts_up_to_their_limits_and_no_longer)
{
    static const struct {
        const char *name;
        size_t most;
    } rows[] = {{"key", 255},         {"traceparent", EVBUS_TRACEPARENT_SIZE - 1},
                {"tracestate", 512},  {"correlationId", 255},
                {"causationId", 255}, {"eventType", 127}};
    for (size_t i = 0; i < N(rows); i++)
        for (size_t more = 0; more < 2; more++) {
            char value[600];
            memset(value, 'a', sizeof value);
            struct entry_field fields[ENTRY_FIELDS_MAX];
            struct entry_event out;
            char error[EVBUS_ERROR_MAX] = "";
            size_t n, at = 0;
            char *exact = fields_of(FIVE, fields, &n);
            while (at < n && (fields[at].name_len != strlen(rows[i].name) ||
                              memcmp(fields[at].name, rows[i].name, fields[at].name_len) != 0))
                at++;
            fields[at] = (struct entry_field){rows[i].name, strlen(rows[i].name), value, rows[i].most + more};
            bool is_event = entry_read(fields, at == n ? n + 1 : n, &out, error);
            cr_expect_eq(is_event, more == 0, "%s of %zu bytes: %s", rows[i].name, rows[i].most + more, error);
            cr_expect(is_event || strstr(error, " bytes; ") != NULL, "%s", error);
            free(exact);
        }
}

Test(entry, takes_a_nul_in_a_key_and_in_no_other_text)
{
    static const struct {
        const char *name;
        bool is_fine;
    } rows[] = {{"key", true}, {"tracestate", false}, {"correlationId", false}, {"causationId", false}};
    for (size_t i = 0; i < N(rows); i++) {
        struct entry_field fields[ENTRY_FIELDS_MAX];
        struct entry_event out;
        char error[EVBUS_ERROR_MAX] = "";
        size_t n;
        char *exact = fields_of(FIVE, fields, &n);
        fields[n] = (struct entry_field){rows[i].name, strlen(rows[i].name), "\0b", 2};
        cr_expect_eq(entry_read(fields, n + 1, &out, error), rows[i].is_fine, "%s: %s", rows[i].name, error);
        if (rows[i].is_fine)
            cr_expect(out.event.key_len == 2 && memcmp(out.event.key, "\0b", 3) == 0);
        else
            cr_expect_not_null(strstr(error, "there is a NUL in it"), "%s", error);
        free(exact);
    }
}

Test(entry, shows_what_was_found_shortened_and_without_control_characters)
{
    struct entry_event out;
    char error[EVBUS_ERROR_MAX] = "";
    cr_assert(!read(
        "eventId=\x1b[31m\x07\xff\xc3\xa4 0123456789-0123456789-0123456789-0123456789-0123456789-0123456789\n" REST,
        &out, error));
    cr_expect_eq(strncmp(error, "eventId \"?[31m???? 0123456789", 28), 0, "%s", error);
    cr_expect_not_null(strstr(error, "-012345\"...: it must be a UUID"), "%s", error);
    for (const char *at = error; *at != '\0'; at++)
        cr_expect(*at >= ' ' && *at <= '~');
}

/* ---- there and back ---- */

static size_t random_text(uint64_t *state, char *out, size_t size)
{
    static const char *const letters[] = {"a",    "Z", "0", " ", "\"",   "\\", "\n",
                                          "\x01", "ä", "€", "😀", "\x7f", "/",  "\xed\x9f\xbf"};
    size_t len = 0, most = trial_random(state) % size;
    for (;;) {
        const char *letter = letters[trial_random(state) % N(letters)];
        if (len + strlen(letter) > most)
            break;
        memcpy(out + len, letter, strlen(letter));
        len += strlen(letter);
    }
    out[len] = '\0';
    return len;
}

static uint64_t cut(uint64_t ns)
{
    return ns == 0 ? 0 : ns < NS_PER_MS ? NS_PER_MS : ns / NS_PER_MS * NS_PER_MS;
}

static const char *optional(uint64_t *state, char *out, size_t size)
{
    return trial_random(state) % 2 == 0 || random_text(state, out, size) == 0 ? NULL : out;
}

static bool is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

Test(entry, gives_back_any_event_that_it_has_written)
{
    uint64_t state = trial_seed("entry/gives_back_any_event_that_it_has_written");
    uint64_t before_ns = 1;
    struct entry entry = {0};
    for (uint64_t round = 0; round < trial_count(20000, 2000); round++) {
        static char key[256], traceparent[EVBUS_TRACEPARENT_SIZE], tracestate[513], correlation[256], causation[256],
            payloads[EVBUS_VERSIONS_MAX][300];
        struct evbus_version versions[EVBUS_VERSIONS_MAX];
        struct evbus_delivery event = {
            .topic = round % 2 == 0 ? "lomash.content.blog.published" : "a.b.c",
            .timestamp_ns = round % 2 == 0
                                ? trial_random(&state) >> trial_random(&state) % 64 | 1
                                : before_ns + trial_random(&state) % (2 * NS_PER_S), /* the same second, or not */
            .key = key,
            .key_len = random_text(&state, key, sizeof key),
            .partition = (uint32_t)(trial_random(&state) >> (32 + trial_random(&state) % 32)),
            .position = (trial_random(&state) >> (16 + trial_random(&state) % 47)) | 1,
            .versions = versions,
            .n_versions = 1 + trial_random(&state) % EVBUS_VERSIONS_MAX,
            .traceparent = optional(&state, traceparent, sizeof traceparent),
            .tracestate = optional(&state, tracestate, sizeof tracestate),
            .correlation_id = optional(&state, correlation, sizeof correlation),
            .causation_id = optional(&state, causation, sizeof causation),
            .expires_at_ns = trial_random(&state) % 2 == 0 ? 0 : trial_random(&state) >> trial_random(&state) % 64,
        };
        for (size_t i = 0; i < sizeof event.id; i++)
            event.id[i] = (uint8_t)(trial_random(&state) | 1);
        unsigned version = 0x10000 + (unsigned)(trial_random(&state) % 0xfffffe);
        for (size_t i = 0; i < event.n_versions; i++) {
            versions[i] = (struct evbus_version){(uint16_t)(version >> 16), (uint16_t)version, payloads[i],
                                                 random_text(&state, payloads[i], sizeof payloads[i] - 1) + 1};
            payloads[i][versions[i].payload_len - 1] = '1'; /* never empty */
            version += 1 + (unsigned)(trial_random(&state) % 0x8000);
        }
        uint64_t prev = trial_random(&state) % event.position;
        before_ns = event.timestamp_ns < UINT64_MAX - 2 * NS_PER_S ? event.timestamp_ns : 1;

        struct entry_event back;
        char error[EVBUS_ERROR_MAX] = "";
        entry_write(&event, ORIGIN, prev, &entry);
        for (size_t i = entry.n - 1; i > 0; i--) { /* as a client in another language hands them on */
            size_t k = trial_random(&state) % (i + 1);
            struct entry_field other = entry.fields[i];
            entry.fields[i] = entry.fields[k];
            entry.fields[k] = other;
        }
        cr_assert(entry_read(entry.fields, entry.n, &back, error), "round %" PRIu64 ": %s", round, error);
        const struct evbus_event *is = &back.event;
        cr_assert(memcmp(is->id, event.id, sizeof event.id) == 0 && strcmp(is->topic, event.topic) == 0,
                  "round %" PRIu64, round);
        cr_assert(is->key_len == event.key_len && is_same(is->key, event.key_len > 0 ? key : NULL), "round %" PRIu64,
                  round);
        cr_assert(is->timestamp_ns == cut(event.timestamp_ns) && is->expires_at_ns == cut(event.expires_at_ns),
                  "round %" PRIu64, round);
        cr_assert(!back.is_foreign && back.origin.partition == event.partition &&
                      back.origin.position == event.position && back.prev == prev,
                  "round %" PRIu64, round);
        cr_assert(is_same(is->traceparent, event.traceparent) && is_same(is->tracestate, event.tracestate) &&
                      is_same(is->correlation_id, event.correlation_id) &&
                      is_same(is->causation_id, event.causation_id),
                  "round %" PRIu64, round);
        cr_assert_eq(is->n_more_versions, event.n_versions - 1);
        for (size_t i = 0; i < event.n_versions; i++) {
            struct evbus_version got = {is->version_major, is->version_minor, is->payload, is->payload_len};
            if (i > 0)
                got = is->more_versions[i - 1];
            const struct evbus_version *was = &versions[event.n_versions - 1 - i];
            cr_assert(got.major == was->major && got.minor == was->minor && got.payload == was->payload &&
                          got.payload_len == was->payload_len,
                      "round %" PRIu64 ": version %zu", round, i);
        }
    }
}

Test(entry, bears_any_bytes)
{
    static const char *const names[] = {
        "eventId",   "eventType", "timestamp", "version",     "payload",    "key",           "origin",
        "partition", "position",  "prev",      "traceparent", "tracestate", "correlationId", "causationId",
        "expiresAt", "version.2", "payload.2", "version.8",   "payload.8",  "version.99",    "x"};
    static const char good[] = FIVE PLACE;
    uint64_t state = trial_seed("entry/bears_any_bytes"), n_events = 0;
    for (uint64_t round = 0; round < trial_count(100000, 10000); round++) {
        struct entry_field fields[ENTRY_FIELDS_MAX];
        size_t n;
        char *exact = fields_of(good, fields, &n), *values[4];
        for (size_t i = 0; i < N(values); i++) { /* in memory of exactly their size */
            size_t len = trial_random(&state) % 40;
            values[i] = malloc(len > 0 ? len : 1);
            cr_assert_not_null(values[i]);
            for (size_t k = 0; k < len; k++)
                values[i][k] = (char)trial_random(&state);
            struct entry_field *field = &fields[trial_random(&state) % (n + 1)];
            bool is_new = field == &fields[n];
            if (is_new) {
                field->name = names[trial_random(&state) % N(names)];
                field->name_len = strlen(field->name);
                n++;
            }
            if (is_new || trial_random(&state) % 8 == 0) {
                field->value = values[i];
                field->value_len = len;
            }
        }
        struct entry_event out;
        char error[EVBUS_ERROR_MAX];
        memset(error, 'x', sizeof error);
        bool is_event = entry_read(fields, n, &out, error);
        n_events += is_event;
        cr_assert(is_event || (memchr(error, '\0', sizeof error) != NULL && error[0] != '\0'));
        for (size_t i = 0; i < N(values); i++)
            free(values[i]);
        free(exact);
    }
    cr_expect_gt(n_events, 0, "nothing passed: the test only sees refusals");
}
