/* test_cloudevents.c: our lines to CloudEvents and back, nothing lost.
 *
 *     ours    from(to(line)) is the line, byte for byte, where it is written as we write it
 *     theirs  to(from(line)) has the same members with the same bytes as values, and no others; what `to` writes comes back byte
 *             for byte
 *
 * Random lines have payloads with numbers that no double holds, members twice, blanks, escapes, 128 levels; keys, times, versions and
 * extensions of every kind. A random test prints its seed; EVBUS_SEED=<number> takes it back. What a time, a version, a UUID is,
 * the library and the tool must agree on. */
#include "envelope.h"
#include "json.h"
#include "uuid7.h"
#include "version.h"

#include "../../tools/cloudevents.c"
#include "../../tools/slices.c"
#include "../../tools/values.c"

#include <criterion/criterion.h>
#include <evbus/evbus.h>
#include <inttypes.h>

enum { ROUNDS = 20000, ROUNDS_QUICK = 2000 };

#define ID_1     "0198c6f2-7d1e-7a44-9b5f-3e6a0c1d2b4f"
#define ENVELOPE "{\"eventId\":\"" ID_1 "\",\"eventType\":\"lomash.orders.created\",\"payload\":1}"
#define CLOUD                                \
    "\"specversion\":\"1.0\",\"id\":\"" ID_1 \
    "\",\"source\":\"/lomash/lomash.orders\",\"type\":\"lomash.orders.created\""

/* --- random ---------------------------------------------------------------------------------------------------------- */

struct chance {
    uint64_t state;
};

static uint32_t any(struct chance *chance, uint32_t n)
{
    chance->state = chance->state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)((chance->state >> 33) % n);
}

static struct chance seeded(void)
{
    const char *given = getenv("EVBUS_SEED");
    struct chance chance = {given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL)};
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 "\n", chance.state);
    return chance;
}

static int rounds(void)
{
    return getenv("EVBUS_QUICK") != NULL ? ROUNDS_QUICK : ROUNDS;
}

struct text {
    char at[16384];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text->len += (size_t)vsnprintf(text->at + text->len, sizeof text->at - text->len, format, args);
    va_end(args);
    cr_assert_lt(text->len, sizeof text->at);
}

static struct slice whole(const struct text *text)
{
    return (struct slice){.at = text->at, .len = text->len};
}

#define ONE_OF(chance, ...) \
    ((const char *const[]){__VA_ARGS__}[any(chance, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))])

static void say_blanks(struct text *text, struct chance *chance)
{
    if (any(chance, 4) == 0)
        say(text, "%s", ONE_OF(chance, " ", "\t", "  ", "\r"));
}

static void say_string(struct text *text, struct chance *chance)
{
    say(text, "\"");
    for (uint32_t n = any(chance, 5); n > 0; n--)
        say(text, "%s",
            ONE_OF(chance, "a", "\\u0041", "\\\"", "\\\\", "\\/", "ü", "\xf0\x9f\x9a\x80", "\\ud83d\\ude80", "\\n", "{",
                   "}", "[", ",", ":", "\\u0000", "\\udead", "\x7f", "null"));
    say(text, "\"");
}

static void say_value(struct text *text, struct chance *chance, unsigned depth)
{
    uint32_t kind = any(chance, depth > 0 && text->len < 4000 ? 8 : 4);
    if (kind < 3) {
        say(text, "%s",
            ONE_OF(chance, "19.99", "1e2", "1E+400", "-0", "-0.0", "123456789012345678901234567890", "0", "true",
                   "false", "null", "0.1000", "\"\"", "{}", "[]", "[ ]", "\"data\""));
    } else if (kind == 3) {
        say_string(text, chance);
    } else {
        bool is_object = kind < 6;
        say(text, is_object ? "{" : "[");
        for (uint32_t i = 0, n = any(chance, 4); i < n; i++) {
            say(text, i > 0 ? "," : "");
            say_blanks(text, chance);
            if (is_object) {
                say(text, "%s:", ONE_OF(chance, "\"a\"", "\"id\"", "\"a\"", "\"payload\"", "\"\"", "\"\\u0061\""));
                say_blanks(text, chance);
            }
            say_value(text, chance, depth - 1);
            say_blanks(text, chance);
        }
        say(text, is_object ? "}" : "]");
    }
}

static void say_payload(struct text *text, struct chance *chance)
{
    if (any(chance, 50) > 0) {
        say_value(text, chance, 5);
        return;
    }
    uint32_t depth = 120 + any(chance, 9);
    for (uint32_t i = 0; i < depth; i++)
        say(text, i % 2 == 0 ? "[" : "{\"a\":");
    say(text, "1");
    for (uint32_t i = depth; i-- > 0;)
        say(text, i % 2 == 0 ? "]" : "}");
}

static void say_uuid(struct text *text, struct chance *chance)
{
    say(text, any(chance, 9) == 0 ? "\"%08X-%04X-7%03X-9%03X-%012X\"" : "\"%08x-%04x-7%03x-9%03x-%012x\"",
        any(chance, UINT32_MAX), any(chance, 0x10000), any(chance, 0x1000), any(chance, 0x1000),
        any(chance, UINT32_MAX) | 1);
}

static void say_topic(struct text *text, struct chance *chance)
{
    say(text, "%s",
        ONE_OF(chance, "\"lomash.orders.created\"", "\"lomash.content.blog.published\"", "\"lomash.dlq.mailer\"",
               "\"a.b.c\"", "\"a.b-1.c.d-e\""));
}

/* A good one; n_days before 1970 begin at n_kinds 3 and 4. */
static void say_time(struct text *text, struct chance *chance, bool is_ours)
{
    say(text, "\"%04u-%02u-%02u%c%02u:%02u:%02u",
        is_ours || any(chance, 2) ? 1971 + any(chance, 582) : any(chance, 10000), 1 + any(chance, 12),
        1 + any(chance, 28), any(chance, 9) == 0 ? 't' : 'T', any(chance, 24), any(chance, 60), any(chance, 60));
    if (any(chance, 2) == 0)
        say(text, "%s", ONE_OF(chance, ".1", ".123", ".123456789", ".000", ".123456789012", ".000000000"));
    say(text, "%s\"", ONE_OF(chance, "Z", "z", "+00:00", "-00:00", "+02:00", "-23:59", "+05:30"));
}

static void say_version(struct text *text, struct chance *chance)
{
    say(text, "%s", ONE_OF(chance, "\"1.0\"", "\"2\"", "\"65535.65535\"", "\"1.\\u0030\"", "\"10.7\""));
}

/* --- ours ------------------------------------------------------------------------------------------------------------ */

static void say_envelope(struct text *text, struct chance *chance)
{
    say(text, "{\"eventId\":");
    say_uuid(text, chance);
    say(text, ",\"eventType\":");
    say_topic(text, chance);
    if (any(chance, 10) > 0) {
        say(text, ",\"timestamp\":");
        say_time(text, chance, true);
    }
    if (any(chance, 10) > 0) {
        say(text, ",\"version\":");
        say_version(text, chance);
    }
    say(text, ",\"payload\":");
    say_payload(text, chance);
    say(text, "}");
}

/* As we write it. */
static void say_our_line(struct text *text, struct chance *chance)
{
    bool has_place = any(chance, 2) == 0;
    if (any(chance, 3) == 0) {
        say_envelope(text, chance);
        return;
    }
    say(text, "{\"envelope\":");
    say_envelope(text, chance);
    say(text, ",\"key\":%s", has_place ? ONE_OF(chance, "\"10248\"", "\"\"", "\"\\u0007 \\\" ü\"") : "\"k\"");
    if (has_place) {
        say(text, ",\"log\":\"lomash.orders\",\"partition\":%u,\"position\":\"%u\",\"service\":", any(chance, 64),
            any(chance, UINT32_MAX));
        say_string(text, chance);
    }
    if (any(chance, 3) == 0)
        say(text, ",\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"");
    if (any(chance, 3) == 0)
        say(text, ",\"tracestate\":\"rojo=00f067aa0ba902b7\"");
    if (any(chance, 3) == 0)
        say(text, ",\"correlationId\":\"c-1\"");
    if (any(chance, 3) == 0)
        say(text, ",\"causationId\":\"" ID_1 "\"");
    if (any(chance, 3) == 0) {
        say(text, ",\"expiresAt\":");
        say_time(text, chance, true);
    }
    if (any(chance, 5) == 0)
        say(text, ",\"afterGap\":true");
    if (any(chance, 5) == 0)
        say(text, ",\"replayed\":%u", 1 + any(chance, 3));
    if (has_place && any(chance, 2) == 0)
        say(text, ",\"attempt\":%u", 1 + any(chance, 3));
    else if (has_place)
        say(text, ",\"lost\":%s", ONE_OF(chance, "0", "2147483647", "2147483648", "18446744073709551615"));
    say(text, "}");
}

static void expect_json(const struct converted *out)
{
    struct json_fault fault = {0, ""};
    size_t ends = 0;
    while (ends < out->len && out->text[ends] != '\n')
        ends++;
    cr_assert_eq(ends, out->len, "more than a line: %.*s", (int)out->len, out->text);
    if (!json_check(out->text, out->len, &fault))
        cr_assert(strstr(fault.what, "inside each other") != NULL, "%s at %zu of %.*s", fault.what, fault.at,
                  (int)out->len, out->text);
}

Test(cloudevents, there_and_back_is_the_same_line)
{
    struct chance chance = seeded();
    struct converted there = {.text = NULL}, back = {.text = NULL}, again = {.text = NULL};
    static struct text line;
    for (int i = 0; i < rounds(); i++) {
        line.len = 0;
        say_our_line(&line, &chance);
        cr_assert(cloudevents_to(whole(&line), &there), "%d: %s: %s", i, there.fault, line.at);
        expect_json(&there);
        cr_assert(cloudevents_from((struct slice){.at = there.text, .len = there.len}, &back), "%d: %s: %.*s", i,
                  back.fault, (int)there.len, there.text);
        expect_json(&back);
        cr_assert(back.len == line.len && memcmp(back.text, line.at, line.len) == 0, "%d:\n%s\n%.*s\n%.*s", i, line.at,
                  (int)there.len, there.text, (int)back.len, back.text);
        cr_assert(cloudevents_to((struct slice){.at = back.text, .len = back.len}, &again), "%d: %s", i, again.fault);
        cr_assert(again.len == there.len && memcmp(again.text, there.text, there.len) == 0, "%d", i);
    }
    converted_end(&there);
    converted_end(&back);
    converted_end(&again);
}

/* --- theirs ---------------------------------------------------------------------------------------------------------- */

static void say_attribute(struct text *text, struct chance *chance)
{
    if (any(chance, 3) == 0)
        say(text, "%s",
            ONE_OF(chance, "0", "-2147483648", "2147483647", "true", "false", "5", "\"5\"", "\"007\"",
                   "\"9999999999\""));
    else
        say_string(text, chance);
}

/* Each attribute is there or not, in any order, with blanks between. */
static void say_their_line(struct text *text, struct chance *chance)
{
    struct text parts[40];
    size_t n = 0;
    for (size_t i = 0; i < 40; i++)
        parts[i].len = 0;
    say(&parts[n++], "\"specversion\"\t:\"1.%s\"", any(chance, 9) == 0 ? "\\u0030" : "0");
    say(&parts[n], "\"id\":");
    if (any(chance, 2) == 0)
        say_uuid(&parts[n++], chance);
    else
        say(&parts[n++], "%s",
            ONE_OF(chance, "\"A234-1234-1234\"", "\"1\"", "\"\\udead\"", "\"ü \\u0000\"",
                   "\"00000000-0000-0000-0000-000000000000\""));
    say(&parts[n++], "\"source\": %s",
        ONE_OF(chance, "\"/mycontext\"", "\"/lomash/lomash.orders\"", "\"/evbus\"",
               "\"https://github.com/cloudevents\"", "\"\\/x\""));
    say(&parts[n], "\"type\":");
    if (any(chance, 2) == 0)
        say_topic(&parts[n++], chance);
    else
        say(&parts[n++], "%s",
            ONE_OF(chance, "\"com.github.pull_request.opened\"", "\"x\"", "\"a..b\"", "\".\"", "\"Ü\"", "\"a.b\""));
    if (any(chance, 3) > 0) {
        say(&parts[n], "\"time\":");
        say_time(&parts[n++], chance, false);
    }
    if (any(chance, 3) > 0)
        say(&parts[n++], "\"datacontenttype\":%s",
            ONE_OF(chance, "\"application/json\"", "\"text/xml\"", "\"application\\/json\"",
                   "\"application/cloudevents+json\""));
    if (any(chance, 3) == 0)
        say(&parts[n++], "\"dataversion\":%s", ONE_OF(chance, "\"1.0\"", "\"draft\"", "7", "true", "\"01.0\"", "\"\""));
    for (size_t i = BESIDE; i < BESIDE_END; i++)
        if (any(chance, 6) == 0) {
            say(&parts[n], "\"%s\":", attributes[i]);
            if (i == EXPIRYTIME && any(chance, 2) == 0)
                say_time(&parts[n++], chance, false);
            else
                say_attribute(&parts[n++], chance);
        }
    for (uint32_t i = 0, n_more = any(chance, 4); i < n_more; i++) {
        say(&parts[n], "\"%s%u\":", ONE_OF(chance, "x", "subject", "1", "comexampleextension"), i);
        say_attribute(&parts[n++], chance);
    }
    if (any(chance, 4) == 0)
        say(&parts[n++], "\"dataschema\":null");
    uint32_t data = any(chance, 4);
    if (data > 1) {
        say(&parts[n], "\"data\":");
        say_payload(&parts[n++], chance);
    } else if (data == 1) {
        say(&parts[n++], "\"data_base64\":%s", ONE_OF(chance, "\"AAEC\"", "\"\"", "\"YQ\\u003d=\""));
    }
    say(text, "{");
    for (size_t i = n; i > 0; i--) {
        size_t pick = any(chance, (uint32_t)i);
        say_blanks(text, chance);
        say(text, "%.*s", (int)parts[pick].len, parts[pick].at);
        say_blanks(text, chance);
        say(text, i > 1 ? "," : "}");
        parts[pick] = parts[i - 1];
    }
}

/* Does each member of the one that is not null stand in the other, byte for byte? */
static void expect_members_of(struct slice one, struct slice other)
{
    const char *at = NULL;
    struct slice name, value;
    while (slice_next(one, &at, &name, &value)) {
        char text[64];
        const char *found = NULL;
        size_t found_len = 0;
        cr_assert(value_text(name, text, sizeof text));
        if (slice_is(value, "null") && strcmp(text, "data") != 0)
            continue;
        bool has = json_member(other.at, other.len, text, &found, &found_len);
        cr_assert(has && found_len == value.len && memcmp(found, value.at, value.len) == 0, "%s of\n%.*s\n%.*s", text,
                  (int)one.len, one.at, (int)other.len, other.at);
    }
}

/* The library takes the envelope, where it is of a topic. */
static void expect_envelope(struct slice line)
{
    struct envelope envelope;
    struct error err;
    const char *at = line.at;
    size_t len = line.len;
    (void)json_member(line.at, line.len, "envelope", &at, &len);
    bool is_taken = envelope_parse(at, len, &envelope, &err) == EVBUS_OK;
    cr_assert(is_taken || strstr(err.text, "inside each other") != NULL || strstr(err.text, "topic") != NULL ||
                  strstr(err.text, "eventType") != NULL,
              "%s: %.*s", err.text, (int)len, at);
}

Test(cloudevents, back_and_there_keeps_every_attribute)
{
    struct chance chance = seeded();
    struct converted back = {.text = NULL}, there = {.text = NULL}, again = {.text = NULL};
    static struct text line;
    for (int i = 0; i < rounds(); i++) {
        line.len = 0;
        say_their_line(&line, &chance);
        cr_assert(cloudevents_from(whole(&line), &back), "%d: %s: %s", i, back.fault, line.at);
        expect_json(&back);
        expect_envelope((struct slice){.at = back.text, .len = back.len});
        cr_assert(cloudevents_to((struct slice){.at = back.text, .len = back.len}, &there), "%d: %s: %.*s", i,
                  there.fault, (int)back.len, back.text);
        expect_json(&there);
        expect_members_of(whole(&line), (struct slice){.at = there.text, .len = there.len});
        expect_members_of((struct slice){.at = there.text, .len = there.len}, whole(&line));
        cr_assert(cloudevents_from((struct slice){.at = there.text, .len = there.len}, &again), "%d: %s", i,
                  again.fault);
        cr_assert(again.len == back.len && memcmp(again.text, back.text, back.len) == 0, "%d:\n%.*s\n%.*s", i,
                  (int)back.len, back.text, (int)again.len, again.text);
    }
    converted_end(&back);
    converted_end(&there);
    converted_end(&again);
}

/* --- one by one ------------------------------------------------------------------------------------------------------ */

static struct slice slice_of(const char *text)
{
    return (struct slice){.at = text, .len = strlen(text)};
}

Test(cloudevents, lines_become_what_they_should)
{
    static const struct {
        const char *label, *ours, *theirs;
    } rows[] = {
        {"an envelope",
         "{\"eventId\":\"" ID_1 "\",\"eventType\":\"lomash.orders.created\",\"timestamp\":\"2026-02-01T09:30:00.123Z\","
         "\"version\":\"1.0\",\"payload\":{\"total\": 19.99, \"a\":1e2,\"a\":2}}",
         "{" CLOUD
         ",\"time\":\"2026-02-01T09:30:00.123Z\",\"datacontenttype\":\"application/json\",\"dataversion\":\"1.0\","
         "\"data\":{\"total\": 19.99, \"a\":1e2,\"a\":2}}"},
        {"the least", ENVELOPE, "{" CLOUD ",\"datacontenttype\":\"application/json\",\"data\":1}"},
        {"what tail --json --meta prints",
         "{\"envelope\":" ENVELOPE ",\"key\":\"10248\",\"log\":\"lomash.orders\",\"partition\":2,\"position\":\"64\","
         "\"service\":\"s\",\"lost\":9999999999}",
         "{" CLOUD
         ",\"datacontenttype\":\"application/json\",\"partitionkey\":\"10248\",\"evbuslog\":\"lomash.orders\","
         "\"evbuspartition\":2,\"evbusposition\":\"64\",\"evbusservice\":\"s\",\"evbuslost\":\"9999999999\",\"data\":"
         "1}"},
        {"what it follows from, and its end",
         "{\"envelope\":" ENVELOPE ",\"traceparent\":\"00-1\",\"correlationId\":\"c\",\"causationId\":\"d\","
         "\"expiresAt\":\"2026-02-01T09:30:00.123Z\",\"afterGap\":true,\"replayed\":1}",
         "{" CLOUD ",\"datacontenttype\":\"application/"
         "json\",\"traceparent\":\"00-1\",\"correlationid\":\"c\",\"causationid\":\"d\","
         "\"expirytime\":\"2026-02-01T09:30:00.123Z\",\"evbusaftergap\":true,\"evbusreplayed\":1,\"data\":1}"},
        {"its place, but no key",
         "{\"envelope\":" ENVELOPE
         ",\"key\":\"\",\"log\":\"l\",\"partition\":0,\"position\":\"1\",\"service\":\"\",\"attempt\":1}",
         "{" CLOUD
         ",\"datacontenttype\":\"application/json\",\"evbuslog\":\"l\",\"evbuspartition\":0,\"evbusposition\":\"1\","
         "\"evbusservice\":\"\",\"evbusattempt\":1,\"data\":1}"},
        {"an id that is no UUID",
         "{\"envelope\":{\"eventId\":\"d38007cc-0fc9-5bc9-8adf-c8d2997bf754\",\"eventType\":\"a.b.c\",\"payload\":1},"
         "\"cloudEvents\":{\"id\":\"1\",\"source\":\"/s\"}}",
         "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"a.b.c\",\"datacontenttype\":\"application/"
         "json\",\"data\":1}"},
        {"before 1970", "{\"envelope\":" ENVELOPE ",\"cloudEvents\":{\"time\":\"1969-12-31T23:59:59Z\"}}",
         "{" CLOUD ",\"time\":\"1969-12-31T23:59:59Z\",\"datacontenttype\":\"application/json\",\"data\":1}"},
        {"no JSON",
         "{\"envelope\":{\"eventId\":\"" ID_1 "\",\"eventType\":\"lomash.orders.created\",\"payload\":\"AAEC\"},"
         "\"cloudEvents\":{\"datacontenttype\":\"image/png\",\"data_base64\":true,\"subject\":\"x\"}}",
         "{" CLOUD ",\"datacontenttype\":\"image/png\",\"subject\":\"x\",\"data_base64\":\"AAEC\"}"},
        {"no data",
         "{\"envelope\":{\"eventId\":\"" ID_1 "\",\"eventType\":\"lomash.orders.created\",\"payload\":null},"
         "\"cloudEvents\":{\"datacontenttype\":null,\"data\":null}}",
         "{" CLOUD "}"},
        {"data that is null", "{\"eventId\":\"" ID_1 "\",\"eventType\":\"lomash.orders.created\",\"payload\":null}",
         "{" CLOUD ",\"datacontenttype\":\"application/json\",\"data\":null}"},
    };
    struct converted out = {.text = NULL};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool is_good = cloudevents_to(slice_of(rows[i].ours), &out);
        cr_expect(is_good && out.len == strlen(rows[i].theirs) && memcmp(out.text, rows[i].theirs, out.len) == 0,
                  "%s, to: %s%.*s", rows[i].label, is_good ? "" : out.fault, (int)out.len, out.text);
        is_good = cloudevents_from(slice_of(rows[i].theirs), &out);
        cr_expect(is_good && out.len == strlen(rows[i].ours) && memcmp(out.text, rows[i].ours, out.len) == 0,
                  "%s, from: %s%.*s", rows[i].label, is_good ? "" : out.fault, (int)out.len, out.text);
    }
    converted_end(&out);
}

#define KEPT(text) "{\"envelope\":" ENVELOPE ",\"cloudEvents\":{" text "}}"

Test(cloudevents, what_is_no_event_is_refused_with_its_reason)
{
    static const struct {
        const char *line, *reason;
        bool is_from;
    } rows[] = {
        {"{\"eventId\":", "no JSON: the end of the text where a value must begin at byte 12", false},
        {"[]", "it must be a JSON object, one event a line; found []", false},
        {" 1", "it must be a JSON object", true},
        {"{}", "envelope: eventId is missing", false},
        {"{\"eventId\":\"x\",\"eventType\":\"a.b.c\",\"payload\":1}", "eventId is \"x\"; it must be a UUID", false},
        {"{\"eventId\":\"" ID_1 "\",\"eventType\":5,\"payload\":1}", "eventType is 5; it must be a topic", false},
        {"{\"eventId\":\"" ID_1 "\",\"eventType\":\"a.b.c\"}", "payload is missing", false},
        {"{\"eventid\":1}",
         "unknown member \"eventid\"; eventId, eventType, timestamp, version and payload are allowed", false},
        {"{\"eventId\":\"" ID_1 "\",\"eventId\":1}", "eventId stands there twice", false},
        {"{\"eventId\":\"" ID_1 "\",\"eventType\":\"a\",\"payload\":1,\"timestamp\":\"yesterday\"}",
         "timestamp is \"yesterday\"", false},
        {"{\"eventId\":\"" ID_1 "\",\"eventType\":\"a\",\"payload\":1,\"version\":\"01\"}",
         "version is \"01\"; it must be MAJOR.MINOR", false},
        {"{\"envelope\":1}", "envelope is 1; it must be an object", false},
        {"{\"envelope\":" ENVELOPE ",\"envelope\":" ENVELOPE "}", "envelope stands there twice", false},
        {"{\"envelope\":" ENVELOPE ",\"extra\":1}", "unknown member \"extra\" beside the envelope", false},
        {"{\"envelope\":" ENVELOPE ",\"key\":1}", "key is 1; it must be a string", false},
        {"{\"envelope\":" ENVELOPE ",\"lost\":\"1\"}", "lost is \"1\"; it must be a whole number", false},
        {"{\"envelope\":" ENVELOPE ",\"expiresAt\":\"never\"}", "expiresAt is \"never\"; it must be RFC 3339", false},
        {"{\"envelope\":" ENVELOPE ",\"afterGap\":1}", "afterGap is 1; it must be true or false", false},
        {"{\"envelope\":" ENVELOPE ",\"key\":\"a\",\"key\":\"a\"}", "key stands there twice", false},
        {"{\"envelope\":" ENVELOPE ",\"cloudEvents\":[]}", "cloudEvents is []; it must be an object", false},
        {KEPT("\"type\":\"x\""), "type says something else than eventType does", false},
        {KEPT("\"id\":\"x\""), "source and id make the eventId ", false},
        {KEPT("\"data\":null"), "data says something else than payload does", false},
        {KEPT("\"data_base64\":true"), "payload 1; it must be true, and payload a string", false},
        {KEPT("\"data_base64\":\"AA\""), "data_base64 is \"AA\", payload 1; it must be true", false},
        {KEPT("\"time\":null"), "time says something else than timestamp does", false},
        {"{\"envelope\":" ENVELOPE ",\"key\":\"a\",\"cloudEvents\":{\"partitionkey\":\"b\"}}",
         "partitionkey says something else than key does", false},
        {"{\"id\":\"1\"}", "specversion is missing; is it a CloudEvent 1.0", true},
        {"{\"specversion\":\"0.3\",\"id\":\"1\"}", "specversion is \"0.3\"; it must be \"1.0\"", true},
        {"{\"specversion\":\"1.0\",\"source\":\"/\",\"type\":\"t\"}", "id is missing", true},
        {"{\"specversion\":\"1.0\",\"id\":\"\"}", "id is \"\"; it must be a string, not empty", true},
        {"{" CLOUD ",\"time\":\"now\"}", "time is \"now\"; it must be a time as in RFC 3339", true},
        {"{" CLOUD ",\"time\":\"2026-02-31T00:00:00Z\"}", "it must be a time as in RFC 3339", true},
        {"{" CLOUD ",\"data\":1,\"data_base64\":\"\"}", "data and data_base64 are both there", true},
        {"{" CLOUD ",\"data_base64\":1}", "data_base64 is 1; it must be a string", true},
        {"{" CLOUD ",\"Subject\":\"x\"}", "\"Subject\" is no attribute: CloudEvents names them with a-z and 0-9 alone",
         true},
        {"{" CLOUD ",\"x\":1.5}", "x is 1.5; it must be a string, a whole number of 32 bits, true or false", true},
        {"{" CLOUD ",\"x\":2147483648}", "x is 2147483648; it must be a string, a whole number", true},
        {"{" CLOUD ",\"x\":{}}", "x is {}; it must be", true},
        {"{" CLOUD ",\"x\":1,\"x\":1}", "x stands there twice", true},
        {"{" CLOUD ",\"type\":\"t\"}", "type stands there twice", true},
        {"{" CLOUD ",\"datacontenttype\":1}", "datacontenttype is 1; it must be a string", true},
        {"{" CLOUD ",\"data\":\"\xff\"}", "no JSON: invalid UTF-8 in a string at byte", true},
    };
    struct converted out = {.text = NULL};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool is_good = (rows[i].is_from ? cloudevents_from : cloudevents_to)(slice_of(rows[i].line), &out);
        cr_expect(!is_good, "%s is taken", rows[i].line);
        cr_expect(strstr(out.fault, rows[i].reason) != NULL, "%s: \"%s\" does not say \"%s\"", rows[i].line, out.fault,
                  rows[i].reason);
    }
    converted_end(&out);
}

Test(cloudevents, a_payload_is_as_deep_as_the_bus_takes_it_both_ways)
{
    struct converted there = {.text = NULL}, back = {.text = NULL};
    static struct text line;
    for (int depth = 128; depth <= 129; depth++)
        for (int is_meta = 0; is_meta < 2; is_meta++) {
            line.len = 0;
            say(&line,
                "%s{\"eventId\":\"" ID_1 "\",\"eventType\":\"a.b.c\",\"payload\":", is_meta ? "{\"envelope\":" : "");
            for (int i = 0; i < depth; i++)
                say(&line, "[");
            for (int i = 0; i < depth; i++)
                say(&line, "]");
            say(&line, is_meta ? "},\"key\":\"k\"}" : "}");
            bool is_good = cloudevents_to(whole(&line), &there);
            cr_expect_eq(is_good, depth == 128, "%d: %s", depth, there.fault);
            if (is_good)
                cr_expect(cloudevents_from((struct slice){.at = there.text, .len = there.len}, &back) &&
                              back.len == line.len,
                          "%d: %s", depth, back.fault);
        }
    converted_end(&there);
    converted_end(&back);
}

/* --- what the library says, too -------------------------------------------------------------------------------------- */

Test(cloudevents, times_versions_and_ids_are_those_of_the_library)
{
    struct chance chance = seeded();
    static const char letters[] = "0123456789012345678901234567890123456789:::---..TtZz+ ,x";
    for (int i = 0; i < rounds() * 10; i++) {
        struct text text;
        text.len = 0;
        if (any(&chance, 2) == 0)
            say_time(&text, &chance, false);
        else if (any(&chance, 2) == 0)
            say(&text, "\"%s\"",
                ONE_OF(&chance, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000000Z",
                       "1970-01-01T00:00:00.0000000001Z", "1970-01-01T01:00:00+01:00", "2016-12-31T23:59:60Z",
                       "2016-12-31T23:59:60.5+00:00", "2016-12-31T22:59:60Z", "2553-12-31T23:59:59Z",
                       "2553-12-31T23:59:60Z", "2554-01-01T00:00:00+00:01", "2000-02-29T00:00:00Z",
                       "1900-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "1.0", "01.0", "65536",
                       "0.1", "1.65536"));
        else
            say_uuid(&text, &chance);
        for (uint32_t n = any(&chance, 3); n > 0; n--)
            text.at[1 + any(&chance, (uint32_t)text.len - 2)] = letters[any(&chance, sizeof letters - 1)];
        const char *inside = text.at + 1;
        size_t len = text.len - 2;
        uint64_t ns = 0;
        uint8_t id[16];
        uint16_t major, minor;
        static const uint8_t nil[16];
        bool is_time = envelope_time_parse(inside, len, &ns, NULL) == EVBUS_OK && ns != 0;
        cr_assert_eq(value_time(whole(&text)) == VALUE_OUR_TIME, is_time, "%.*s", (int)text.len, text.at);
        cr_assert_eq(value_is_uuid(whole(&text)), uuid7_parse(inside, len, id) && memcmp(id, nil, 16) != 0, "%.*s",
                     (int)text.len, text.at);
        cr_assert_eq(value_is_version(whole(&text)), version_parse(inside, len, &major, &minor, NULL) == EVBUS_OK,
                     "%.*s", (int)text.len, text.at);
    }
}
