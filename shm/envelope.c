/* envelope.c: JSON <-> event, strict, the payload kept verbatim.
 *
 *     {"eventId":"0198...","eventType":"lomash.orders.created","timestamp":"2026-02-01T09:30:00.123Z","version":"1.0",
 *      "payload":{"total":19.99}}
 *
 *   in    json_check() says that the whole text is one JSON value; after that a walk over the top-level members needs
 * no bounds, because the text's own brackets end it. The payload is the slice between its first and last byte: no
 *         parser's number type ever sees it, so 19.99, 1e2, -0 and 30 digits stay what they were. Strict: each member
 *         once, none but the five. A misspelt "eventid" that was let through would cost its event the deduplication.
 *   out   the five members in the ADR's order, no blanks, one line. A raw CR or LF of the payload becomes a blank; both
 *         can only stand between tokens there, so the meaning is the same and the length too.
 *
 * Zero means "none" for id and time (evbus.h), so the nil UUID and 1970-01-01T00:00:00Z are refused in an envelope:
 * they would quietly become another id and now.
 *
 * Days are counted as days_of() does since calendars are computed: a year that begins in March has its leap day at the
 * end, so the days before month m are (153 m + 2) / 5, and 400 years have 146,097 days.
 * Source: ADR 003 "Event Envelope Schema", RFC 3339. Checked by tests/unit/test_envelope.c. */
#include "envelope.h"

#include <string.h>

#include "json.h"
#include "nearest.h"
#include "topic.h"
#include "uuid7.h"
#include "version.h"

#define NS_PER_S UINT64_C(1000000000)

enum { S_PER_DAY = 86400, DAYS_PER_400_YEARS = 146097, DAYS_BEFORE_1970 = 719468 /* since 0000-03-01 */ };

/* ---- timestamps ---- */

/* n digits as a number, -1 when they are none. */
static int digits(const char *at, unsigned n)
{
    int value = 0;
    for (unsigned i = 0; i < n; i++) {
        if (at[i] < '0' || at[i] > '9')
            return -1;
        value = value * 10 + (at[i] - '0');
    }
    return value;
}

static int64_t days_of(int year, int month, int day)
{
    year -= month <= 2;
    int of_era = year % 400;
    int of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return (int64_t)(year / 400) * DAYS_PER_400_YEARS + of_era * 365 + of_era / 4 - of_era / 100 + of_year -
           DAYS_BEFORE_1970;
}

static int days_in(int year, int month)
{
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 ? 28 + is_leap : 30 + ((month + month / 8) & 1);
}

/* NULL, or what is wrong with it. */
static const char *time_fault(const char *text, size_t len, uint64_t *out_ns)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    enum { SHAPE_LEN = sizeof shape - 1 };
    if (len <= SHAPE_LEN)
        return "it is too short";
    for (size_t i = 0; i < SHAPE_LEN; i++)
        if (shape[i] == 'd' ? digits(text + i, 1) < 0 : text[i] != shape[i] && !(shape[i] == 'T' && text[i] == 't'))
            return "date and time are not of this shape";
    int year = digits(text, 4), month = digits(text + 5, 2), day = digits(text + 8, 2);
    int hour = digits(text + 11, 2), minute = digits(text + 14, 2), second = digits(text + 17, 2);
    if (year < 1970 || year > 2553)
        return "the year is not in 1970..2553";
    if (month < 1 || month > 12)
        return "there is no such month";
    if (day < 1 || day > days_in(year, month))
        return "there is no such day in that month";
    if (hour > 23 || minute > 59 || second > 60)
        return "there is no such time of day";

    const char *at = text + SHAPE_LEN, *end = text + len;
    uint64_t fraction_ns = 0;
    if (*at == '.') {
        const char *begin = ++at;
        for (uint32_t unit = NS_PER_S / 10; at < end && digits(at, 1) >= 0; at++, unit /= 10)
            fraction_ns += (uint64_t)digits(at, 1) * unit;
        if (at == begin)
            return "no digit follows the decimal point";
    }
    int offset_s = 0;
    if (end - at == 6 && (*at == '+' || *at == '-') && at[3] == ':') {
        int hours = digits(at + 1, 2), minutes = digits(at + 4, 2);
        if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
            return "the offset is not one of -23:59..+23:59";
        offset_s = (hours * 60 + minutes) * (*at == '+' ? 60 : -60);
    } else if (end - at != 1 || (*at != 'Z' && *at != 'z')) {
        return "it must end with Z or an offset";
    }
    int64_t s = days_of(year, month, day) * S_PER_DAY + hour * 3600 + minute * 60 + second - offset_s;
    if (s < 0)
        return "it is before 1970";
    if (s >= days_of(2554, 1, 1) * S_PER_DAY)
        return "it is after 2553";
    if (second == 60 && s % S_PER_DAY != 0)
        return "second 60 exists only at 23:59 UTC";
    *out_ns = (uint64_t)s * NS_PER_S + fraction_ns;
    return NULL;
}

int envelope_time_parse(const char *text, size_t len, uint64_t *out_ns, struct error *err)
{
    const char *fault = time_fault(text, len, out_ns);
    if (fault == NULL)
        return EVBUS_OK;
    return error_set(err, EVBUS_EINVAL, "timestamp \"%.*s\" is not RFC 3339, as in \"2026-02-01T09:30:00.123Z\": %s",
                     len < 40 ? (int)len : 40, text, fault);
}

static void put_digits(char *at, uint64_t value, unsigned n)
{
    for (unsigned i = n; i-- > 0; value /= 10)
        at[i] = (char)('0' + value % 10);
}

void envelope_time_format(uint64_t ns, char out_text[32])
{
    uint64_t s = ns / NS_PER_S;
    uint32_t of_day = (uint32_t)(s % S_PER_DAY);
    uint32_t days = (uint32_t)(s / S_PER_DAY) + DAYS_BEFORE_1970;
    uint32_t of_era = days % DAYS_PER_400_YEARS;
    uint32_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365; /* days less leap days */
    uint32_t of_year = of_era - (365 * year + year / 4 - year / 100);
    uint32_t month = (5 * of_year + 2) / 153;
    uint32_t day = of_year - (153 * month + 2) / 5 + 1;
    month += month < 10 ? 3 : -9U;
    year += days / DAYS_PER_400_YEARS * 400 + (month <= 2);

    memcpy(out_text, "yyyy-mm-ddThh:mm:ss.mmmZ", sizeof "yyyy-mm-ddThh:mm:ss.mmmZ");
    put_digits(out_text, year, 4);
    put_digits(out_text + 5, month, 2);
    put_digits(out_text + 8, day, 2);
    put_digits(out_text + 11, of_day / 3600, 2);
    put_digits(out_text + 14, of_day / 60 % 60, 2);
    put_digits(out_text + 17, of_day % 60, 2);
    put_digits(out_text + 20, ns % NS_PER_S / 1000000, 3);
}

/* ---- in: text that json_check() has passed, so that every walk ends inside it ---- */

static const char *blanks_end(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')
        at++;
    return at;
}

static const char *string_end(const char *at)
{
    for (at++; *at != '"'; at++)
        at += *at == '\\';
    return at + 1;
}

/* Of a value inside the top-level object. Over a container we go token by token, over a scalar to what follows it. */
static const char *value_end(const char *at)
{
    unsigned depth = 0;
    for (;;) {
        char c = *at;
        if (c == '"') {
            at = string_end(at);
            if (depth == 0)
                return at;
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || blanks_end(at) != at))
            return at;
        at++;
        depth += c == '{' || c == '[';
        if ((c == '}' || c == ']') && --depth == 0)
            return at;
    }
}

enum member { EVENT_ID, EVENT_TYPE, TIMESTAMP, VERSION, PAYLOAD, N_MEMBERS };
static const char *const member_names[N_MEMBERS] = {"eventId", "eventType", "timestamp", "version", "payload"};

static int member_unknown(const char *name, const char *slice, size_t slice_len, struct error *err)
{
    struct nearest nearest = {.wanted = name};
    for (size_t i = 0; i < N_MEMBERS; i++)
        nearest_try(&nearest, member_names[i]);
    char hint[NEAREST_TEXT_MAX];
    return error_set(err, EVBUS_EINVAL, "envelope: unknown member %.*s%s", slice_len < 60 ? (int)slice_len : 60, slice,
                     nearest.name != NULL ? nearest_text(&nearest, hint)
                                          : "; eventId, eventType, timestamp, version and payload are allowed");
}

static int member_read(struct envelope *envelope, enum member member, const char *slice, size_t slice_len,
                       struct error *err)
{
    if (member == PAYLOAD) {
        envelope->payload = slice;
        envelope->payload_len = slice_len;
        return EVBUS_OK;
    }
    char text[256];
    ptrdiff_t len = json_string_decode(slice, slice_len, text, sizeof text - 1);
    if (*slice != '"')
        return error_set(err, EVBUS_EINVAL, "envelope: %s must be a string; found %.*s", member_names[member],
                         slice_len < 40 ? (int)slice_len : 40, slice);
    if (len < 0 || memchr(text, '\0', (size_t)len) != NULL)
        return error_set(err, EVBUS_EINVAL, "envelope: %s is too long or no text", member_names[member]);
    text[len] = '\0';
    static const uint8_t nil[16];
    int rc = EVBUS_OK;
    switch (member) {
    case EVENT_ID:
        if (!uuid7_parse(text, (size_t)len, envelope->id) || memcmp(envelope->id, nil, sizeof nil) == 0)
            return error_set(err, EVBUS_EINVAL,
                             "envelope: eventId \"%.64s\" is no UUID, or the nil UUID; leave it out and one is made",
                             text);
        break;
    case EVENT_TYPE:
        rc = topic_check(text, err);
        if (rc == EVBUS_OK)
            memcpy(envelope->topic, text, (size_t)len + 1);
        break;
    case TIMESTAMP:
        rc = envelope_time_parse(text, (size_t)len, &envelope->timestamp_ns, err);
        if (rc == EVBUS_OK && envelope->timestamp_ns == 0)
            rc = error_set(err, EVBUS_EINVAL, "timestamp \"%.64s\" is zero; leave it out and it is now", text);
        break;
    default:
        rc = version_parse(text, (size_t)len, &envelope->version_major, &envelope->version_minor, err);
    }
    return rc == EVBUS_OK ? rc : error_prefix(err, rc, "envelope");
}

int envelope_parse(const char *text, size_t len, struct envelope *out_envelope, struct error *err)
{
    struct json_fault fault;
    if (!json_check(text, len, &fault))
        return error_set(err, EVBUS_EINVAL, "envelope: no JSON: %s at byte %zu", fault.what, fault.at + 1);
    const char *at = blanks_end(text);
    if (*at != '{')
        return error_set(err, EVBUS_EINVAL, "envelope: it must be a JSON object");

    struct envelope envelope = {.version_major = 1};
    bool seen[N_MEMBERS] = {false};
    at = blanks_end(at + 1);
    while (*at != '}') {
        const char *slice = at;
        at = string_end(at);
        char name[64];
        ptrdiff_t name_len = json_string_decode(slice, (size_t)(at - slice), name, sizeof name - 1);
        name[name_len < 0 ? 0 : name_len] = '\0';
        size_t member = 0;
        while (member < N_MEMBERS && strcmp(name, member_names[member]) != 0)
            member++;
        if (member == N_MEMBERS || strlen(name) != (size_t)name_len) /* "payload\u0000" is another name */
            return member_unknown(name, slice, (size_t)(at - slice), err);
        if (seen[member])
            return error_set(err, EVBUS_EINVAL, "envelope: %s stands there twice", member_names[member]);
        seen[member] = true;
        slice = blanks_end(blanks_end(at) + 1); /* over the colon */
        at = value_end(slice);
        int rc = member_read(&envelope, (enum member)member, slice, (size_t)(at - slice), err);
        if (rc != EVBUS_OK)
            return rc;
        at = blanks_end(at);
        if (*at == ',')
            at = blanks_end(at + 1);
    }
    for (size_t i = 0; i < N_MEMBERS; i++)
        if (!seen[i] && (i == EVENT_TYPE || i == PAYLOAD))
            return error_set(err, EVBUS_EINVAL, "envelope: %s is missing", member_names[i]);
    *out_envelope = envelope;
    return EVBUS_OK;
}

/* ---- out ---- */

static void blank_out(char *text, size_t len, char c)
{
    for (char *end = text + len; (text = memchr(text, c, (size_t)(end - text))) != NULL;)
        *text++ = ' ';
}

static char *put_number(char *at, uint16_t value)
{
    unsigned n = 1U + (value > 9) + (value > 99) + (value > 999) + (value > 9999);
    put_digits(at, value, n);
    return at + n;
}

size_t evbus_envelope_format(const struct evbus_delivery *delivery, char *buffer, size_t cap)
{
    char id[37], timestamp[32], version[12];
    uuid7_format(delivery->id, id);
    envelope_time_format(delivery->timestamp_ns, timestamp);
    char *at = put_number(version, delivery->version_major);
    *at++ = '.';
    *put_number(at, delivery->version_minor) = '\0';

    const char *parts[] = {"{\"eventId\":\"",
                           id,
                           "\",\"eventType\":\"",
                           delivery->topic,
                           "\",\"timestamp\":\"",
                           timestamp,
                           "\",\"version\":\"",
                           version,
                           "\",\"payload\":",
                           delivery->payload,
                           "}"};
    enum { N_PARTS = sizeof parts / sizeof parts[0], PAYLOAD_PART = N_PARTS - 2 };
    size_t len = 0; /* goes on beyond cap: what would have been written */
    for (size_t i = 0; i < N_PARTS; i++) {
        size_t part_len = i == PAYLOAD_PART ? delivery->payload_len : strlen(parts[i]);
        size_t room = len < cap ? cap - len : 0, n = part_len < room ? part_len : room;
        if (n > 0) {
            memcpy(buffer + len, parts[i], n);
            if (i == PAYLOAD_PART) {
                blank_out(buffer + len, n, '\n');
                blank_out(buffer + len, n, '\r');
            }
        }
        len += part_len;
    }
    return len;
}
