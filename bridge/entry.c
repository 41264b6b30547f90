/* entry.c: an event as fields with names, as every broker has it.
 *
 *     eventId    0198c0de-0000-7000-8000-0123456789ab   the ADR's envelope: who knows it alone reads and writes entries
 *     eventType  lomash.orders.created
 *     timestamp  2026-02-01T09:30:00.123Z               UTC; what is below a millisecond is cut
 *     version    2.0                                    the highest
 *     payload    {"total":19.99}                        of that version, byte for byte
 *     key        10248                                  empty: it has none
 *     origin     4f0c...                                the bus that it was published on ...
 *     partition  2                                      ... and where; numbers are decimal texts, for Lua's are doubles
 *     position   123456
 *     prev       123400                                 of the event before it in stream and partition; 0: none known
 *     traceparent tracestate correlationId causationId expiresAt      those that it has
 *     version.2 payload.2 version.3 ...                 its other versions, the highest first
 *
 *   out   one place for the order: programs print entries as they come, and people read the first five.
 *   in    any order, since clients of other languages write maps. Strict wherever a lenient reading would bring in
 *         another event than was meant: a field twice, half an origin, a version without its payload, a number with
 *         something behind it. Zero means "none" in the API, so what would be zero there and is said here (the nil
 *         UUID, the first millisecond of 1970, an empty payload) is refused; an empty text of those that may be missing
 *         is none.
 * No origin: a program that is no evbus wrote it, and it has no partition and position either. Some of the three is a
 * mistake.
 *
 * Source: ADR 003 "Event Envelope Schema". Checked by tests/broker/test_entry.c, tests/fuzz/entry.c. */
#include "entry.h"

#include "decimal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

#define NS_PER_S      UINT64_C(1000000000)
#define NS_PER_MS     UINT64_C(1000000)
#define S_PER_DAY     86400u
#define POSITION_ENDS (UINT64_C(1) << 48) /* positions have 48 bits */

enum field {
    EVENT_ID,
    EVENT_TYPE,
    TIMESTAMP,
    VERSION,
    PAYLOAD,
    KEY,
    ORIGIN,
    PARTITION,
    POSITION,
    PREV,
    TRACEPARENT,
    TRACESTATE,
    CORRELATION_ID,
    CAUSATION_ID,
    EXPIRES_AT,
    MORE, /* pairs: version.2 payload.2, version.3 ... */
    N_FIELDS = MORE + 2 * (EVBUS_VERSIONS_MAX - 1)
};
static_assert((int)TRACEPARENT == ENTRY_COMMON, "the common ones come first");
static_assert((int)ORIGIN == ENTRY_ORIGIN, "entry.h says so");
static_assert((int)N_FIELDS <= ENTRY_FIELDS_MAX, "all fit");
static_assert(sizeof((struct entry *)NULL)->texts >= UUID_STR_LEN + 2 * sizeof "2026-02-01T09:30:00.123Z" +
                                                         EVBUS_VERSIONS_MAX * sizeof "65535.65535" +
                                                         3 * (DECIMAL_MAX + 1),
              "and so do the longest texts that are made for an event");
static_assert(EVBUS_VERSIONS_MAX == 8, "names below");

static const char *const names[N_FIELDS] = {
    "eventId",   "eventType", "timestamp",   "version",    "payload",       "key",         "origin",    "partition",
    "position",  "prev",      "traceparent", "tracestate", "correlationId", "causationId", "expiresAt", "version.2",
    "payload.2", "version.3", "payload.3",   "version.4",  "payload.4",     "version.5",   "payload.5", "version.6",
    "payload.6", "version.7", "payload.7",   "version.8",  "payload.8",
};

/* --- out ---------------------------------------------------------------------------------------------------------- */

static void put(struct entry *out, enum field field, const void *value, size_t len)
{
    out->fields[out->n++] = (struct entry_field){
        .name = names[field],
        .name_len = strlen(names[field]),
        .value = value,
        .value_len = len,
    };
}

/* A text that the event has no bytes for is written behind the others, and put when it ends there. */
static char *begin_text(struct entry *out, const size_t *used)
{
    return out->texts + *used;
}

static void put_text(struct entry *out, size_t *used, enum field field, char *end)
{
    char *text = out->texts + *used;
    *end++ = '\0';
    assert(end <= out->texts + sizeof out->texts);
    put(out, field, text, (size_t)(end - text) - 1);
    *used = (size_t)(end - out->texts);
}

static void put_number(struct entry *out, size_t *used, enum field field, uint64_t number)
{
    put_text(out, used, field, decimal_put(begin_text(out, used), number));
}

/* 8-4-4-4-12 hexadecimal digits; uuid_unparse_lower() takes twice as long. */
static void put_id(struct entry *out, size_t *used, const uint8_t id[16])
{
    static const char digits[] = "0123456789abcdef";
    char *to = begin_text(out, used);
    for (size_t i = 0; i < sizeof(uuid_t); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = digits[id[i] >> 4];
        *to++ = digits[id[i] & 15];
    }
    put_text(out, used, EVENT_ID, to);
}

struct date {
    uint32_t year, month, day;
};

/* Of a day since 1970, in years that begin with March: so the leap day is a year's last. gmtime_r() knows it as well, and
 * looks at time zones first: it was a tenth of what an event costs us. */
static struct date date_of(uint32_t days)
{
    const uint32_t from_0 = 719468, of_400_years = 146097; /* 1970-01-01, since 0000-03-01 */
    uint32_t era = (days + from_0) / of_400_years, day = (days + from_0) % of_400_years;
    uint32_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    uint32_t month = (5 * day + 2) / 153; /* 0: March */
    return (struct date){.year = era * 400 + year + (month >= 10),
                         .month = month < 10 ? month + 3 : month - 9,
                         .day = day - (153 * month + 2) / 5 + 1};
}

/* "2026-02-01T09:30:00." */
static void make_second(struct entry *out, uint64_t second)
{
    struct date date = date_of((uint32_t)(second / S_PER_DAY)); /* 64 bits of ns end in 2554 */
    uint32_t of_day = (uint32_t)(second % S_PER_DAY);
    char *to = decimal_put_padded(out->second, date.year, 4);
    *to++ = '-';
    to = decimal_put_padded(to, date.month, 2);
    *to++ = '-';
    to = decimal_put_padded(to, date.day, 2);
    *to++ = 'T';
    to = decimal_put_padded(to, of_day / 3600, 2);
    *to++ = ':';
    to = decimal_put_padded(to, of_day / 60 % 60, 2);
    *to++ = ':';
    to = decimal_put_padded(to, of_day % 60, 2);
    *to = '.';
    out->second_behind = second + 1;
}

/* 2026-02-01T09:30:00.123Z. The first millisecond of 1970 would be read as "none". */
static void put_time(struct entry *out, size_t *used, enum field field, uint64_t ns)
{
    uint64_t ms = ns < NS_PER_MS ? 1 : ns / NS_PER_MS;
    if (out->second_behind != ms / 1000 + 1)
        make_second(out, ms / 1000);
    char *to = begin_text(out, used);
    memcpy(to, out->second, sizeof out->second - 1);
    to = decimal_put_padded(to + sizeof out->second - 1, ms % 1000, 3);
    *to++ = 'Z';
    put_text(out, used, field, to);
}

static void put_version(struct entry *out, size_t *used, enum field field, const struct evbus_version *version)
{
    char *to = decimal_put(begin_text(out, used), version->major);
    *to++ = '.';
    put_text(out, used, field, decimal_put(to, version->minor));
    put(out, field + 1, version->payload, version->payload_len);
}

static void put_given(struct entry *out, enum field field, const char *text)
{
    if (text != NULL && text[0] != '\0')
        put(out, field, text, strlen(text));
}

void entry_write(const struct evbus_delivery *event, const char *origin, uint64_t prev, struct entry *out)
{
    assert(event->n_versions >= 1 && event->n_versions <= EVBUS_VERSIONS_MAX);
    const struct evbus_version *highest = &event->versions[event->n_versions - 1];
    size_t used = 0;
    out->n = 0;
    put_id(out, &used, event->id);
    put(out, EVENT_TYPE, event->topic, strlen(event->topic));
    put_time(out, &used, TIMESTAMP, event->timestamp_ns);
    put_version(out, &used, VERSION, highest);
    put(out, KEY, event->key, event->key_len);
    put(out, ORIGIN, origin, strlen(origin));
    put_number(out, &used, PARTITION, event->partition);
    put_number(out, &used, POSITION, event->position);
    put_number(out, &used, PREV, prev);
    put_given(out, TRACEPARENT, event->traceparent);
    put_given(out, TRACESTATE, event->tracestate);
    put_given(out, CORRELATION_ID, event->correlation_id);
    put_given(out, CAUSATION_ID, event->causation_id);
    if (event->expires_at_ns != 0)
        put_time(out, &used, EXPIRES_AT, event->expires_at_ns);
    for (unsigned i = 1; i < event->n_versions; i++)
        put_version(out, &used, MORE + 2 * (i - 1), highest - i);
}

/* --- in ----------------------------------------------------------------------------------------------------------- */

struct reading {
    const struct entry_field *found[N_FIELDS];
    char *error;
};

#define SHOWN_MAX 60

/* "name "what was found": what is wrong, and the mend". What was found may be anything, and goes to logs
 * and terminals. */
__attribute__((format(printf, 3, 4))) static bool refuse(char *error, const struct entry_field *field,
                                                         const char *format, ...)
{
    char shown[SHOWN_MAX + 1], wrong[300];
    size_t len = field->value_len < SHOWN_MAX ? field->value_len : SHOWN_MAX;
    for (size_t i = 0; i < len; i++)
        shown[i] = (char)(field->value[i] >= ' ' && field->value[i] <= '~' ? field->value[i] : '?');
    va_list args;
    va_start(args, format);
    vsnprintf(wrong, sizeof wrong, format, args);
    va_end(args);
    snprintf(error, EVBUS_ERROR_MAX, "%.*s \"%.*s\"%s: %s", (int)field->name_len, field->name, (int)len, shown,
             len < field->value_len ? "..." : "", wrong);
    return false;
}

static bool is_missing(char *error, enum field field, const char *mend)
{
    snprintf(error, EVBUS_ERROR_MAX, "%s is missing: %s", names[field], mend);
    return false;
}

/* Is it the name of a version that no event of ours can have: version.9, payload.1, version.02? */
static bool is_odd_version(const struct entry_field *field)
{
    size_t prefix = strlen(names[MORE]) - 1;
    if (field->name_len <= prefix ||
        (memcmp(field->name, names[MORE], prefix) != 0 && memcmp(field->name, names[MORE + 1], prefix) != 0))
        return false;
    for (size_t i = prefix; i < field->name_len; i++)
        if (field->name[i] < '0' || field->name[i] > '9')
            return false;
    return true;
}

static bool is_named(const struct entry_field *field, size_t at)
{
    return strlen(names[at]) == field->name_len && memcmp(names[at], field->name, field->name_len) == 0;
}

/* Which field is which. Those that we have written ourselves stand in their order. */
static bool sort_out(struct reading *in, const struct entry_field *fields, size_t n)
{
    static_assert(sizeof "version" == sizeof "payload", "is_odd_version() relies on it");
    for (size_t i = 0; i < n; i++) {
        size_t at = i < N_FIELDS && is_named(&fields[i], i) ? i : 0;
        while (at < N_FIELDS && !is_named(&fields[i], at))
            at++;
        if (at < N_FIELDS && in->found[at] != NULL)
            return refuse(in->error, &fields[i], "this field stands there twice; leave one out");
        if (at < N_FIELDS)
            in->found[at] = &fields[i];
        else if (is_odd_version(&fields[i])) {
            snprintf(in->error, EVBUS_ERROR_MAX,
                     "%.*s is no field of an event: it may have %d versions, and those beside the first are .2 to .%d",
                     fields[i].name_len < SHOWN_MAX ? (int)fields[i].name_len : SHOWN_MAX, fields[i].name,
                     EVBUS_VERSIONS_MAX, EVBUS_VERSIONS_MAX);
            return false;
        }
    }
    return true;
}

/* Digits alone, no leading zero; *at moves behind them. */
static bool read_digits(const char **at, const char *end, uint64_t *out_number)
{
    const char *begin = *at;
    uint64_t number = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at)
        if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
            __builtin_add_overflow(number, (uint64_t)(**at - '0'), &number))
            return false;
    *out_number = number;
    return *at > begin && (*begin != '0' || *at - begin == 1);
}

static bool read_number(const struct entry_field *field, uint64_t below, uint64_t *out_number, char *error)
{
    const char *at = field->value, *end = at + field->value_len;
    if (read_digits(&at, end, out_number) && at == end && *out_number < below)
        return true;
    return refuse(error, field, "it must be a decimal number below %" PRIu64 ", no sign, no leading zero", below);
}

/* -1: none. */
static int hex_digit(char c)
{
    char lower = (char)(c | 0x20);
    return c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* 8-4-4-4-12 hexadecimal digits. Each entry has two of them, and uuid_parse() takes ten times as long. */
static bool parse_uuid(const char *text, size_t len, uint8_t out_id[16])
{
    if (len != UUID_STR_LEN - 1)
        return false;
    for (size_t i = 0, n = 0; i < len; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text[i] != '-')
                return false;
            continue;
        }
        int digit = hex_digit(text[i]);
        if (digit < 0)
            return false;
        out_id[n / 2] = (uint8_t)(n % 2 == 0 ? digit << 4 : out_id[n / 2] | digit);
        n++;
    }
    return true;
}

static bool read_uuid(const struct entry_field *field, uint8_t out_id[16], char *error)
{
    uuid_t id;
    if (!parse_uuid(field->value, field->value_len, id))
        return refuse(error, field, "it must be a UUID, as in 0198c0de-0000-7000-8000-0123456789ab");
    if (uuid_is_null(id))
        return refuse(error, field, "the nil UUID names nothing; give it one of its own");
    memcpy(out_id, id, sizeof id);
    return true;
}

static bool read_version(const struct entry_field *field, uint16_t *out_major, uint16_t *out_minor, char *error)
{
    const char *at = field->value, *end = at + field->value_len;
    uint64_t major = 0, minor = 0;
    bool is_good = read_digits(&at, end, &major);
    if (is_good && at < end)
        is_good = *at++ == '.' && read_digits(&at, end, &minor) && at == end;
    if (!is_good || major == 0 || major > UINT16_MAX || minor > UINT16_MAX)
        return refuse(error, field,
                      "it must be MAJOR.MINOR, as in 1.0; major 1 to 65535, minor 0 to 65535, no leading zeros");
    *out_major = (uint16_t)major;
    *out_minor = (uint16_t)minor;
    return true;
}

static bool read_payload(const struct entry_field *field, const void **out_payload, size_t *out_len, char *error)
{
    if (field->value_len == 0) /* which would mean: up to its NUL */
        return refuse(error, field, "it must be one JSON text; an empty payload is null");
    *out_payload = field->value;
    *out_len = field->value_len;
    return true;
}

static int two_digits(const char *at)
{
    return (at[0] - '0') * 10 + at[1] - '0';
}

/* Does the text begin with this shape, in which d is a digit? */
static bool has_shape(const char *text, size_t len, const char *shape)
{
    if (len < strlen(shape))
        return false;
    for (size_t i = 0; shape[i] != '\0'; i++)
        if (shape[i] == 'd' ? text[i] < '0' || text[i] > '9'
                            : text[i] != shape[i] && !(shape[i] == 'T' && text[i] == 't'))
            return false;
    return true;
}

/* "Z", "+02:00": seconds east of UTC. */
static bool read_offset(const char *text, size_t len, int64_t *out_east_s)
{
    *out_east_s = 0;
    if (len == 1 && (*text == 'Z' || *text == 'z'))
        return true;
    if (len != strlen("+dd:dd") || (!has_shape(text, len, "+dd:dd") && !has_shape(text, len, "-dd:dd")))
        return false;
    int hours = two_digits(text + 1), minutes = two_digits(text + 4);
    *out_east_s = (hours * 60 + minutes) * (*text == '+' ? 60 : -60);
    return hours <= 23 && minutes <= 59;
}

/* NULL, or what is wrong: RFC 3339, from 1970 to what 64 bits of nanoseconds hold. What is below a nanosecond is
 * cut. */
static const char *time_fault(const char *text, size_t len, uint64_t *out_ns)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    if (!has_shape(text, len, shape))
        return "date and time are not of this shape";
    struct tm said = {
        .tm_year = two_digits(text) * 100 + two_digits(text + 2) - 1900,
        .tm_mon = two_digits(text + 5) - 1,
        .tm_mday = two_digits(text + 8),
        .tm_hour = two_digits(text + 11),
        .tm_min = two_digits(text + 14),
        .tm_sec = two_digits(text + 17),
    };
    bool is_leap = said.tm_sec == 60; /* the second after 59, at the end of a day of UTC */
    said.tm_sec -= is_leap;
    struct tm made = said;
    int64_t seconds = (int64_t)timegm(&made) + is_leap;
    if (made.tm_year != said.tm_year || made.tm_mon != said.tm_mon || made.tm_mday != said.tm_mday ||
        made.tm_hour != said.tm_hour || made.tm_min != said.tm_min || made.tm_sec != said.tm_sec)
        return "there is no such day, or no such time of day"; /* the 31st of February */
    const char *at = text + sizeof shape - 1, *end = text + len;
    uint64_t fraction_ns = 0, place = NS_PER_S / 10;
    if (at < end && *at == '.') {
        const char *begin = ++at;
        for (; at < end && *at >= '0' && *at <= '9'; at++, place /= 10)
            fraction_ns += (uint64_t)(*at - '0') * place;
        if (at == begin)
            return "no digit follows the point";
    }
    int64_t east_s;
    if (!read_offset(at, (size_t)(end - at), &east_s))
        return "it must end with Z, or an offset of -23:59 to +23:59";
    seconds -= east_s;
    if (is_leap && seconds % (24 * 60 * 60) != 0)
        return "second 60 exists only at 23:59 UTC";
    uint64_t ns;
    if (seconds < 0 || __builtin_mul_overflow((uint64_t)seconds, NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, fraction_ns, &ns))
        return "it is not within 1970 to July 2554";
    if (ns == 0)
        return "this instant stands for none";
    *out_ns = ns;
    return NULL;
}

static bool read_time(const struct entry_field *field, uint64_t *out_ns, char *error)
{
    const char *fault = time_fault(field->value, field->value_len, out_ns);
    return fault == NULL || refuse(error, field, "%s; it must be RFC 3339, as in 2026-02-01T09:30:00.123Z", fault);
}

/* A text that may be missing, and is then NULL. size: of out_text, with its NUL. */
static bool read_text(const struct reading *in, enum field field, char *out_text, size_t size, const char **out)
{
    const struct entry_field *found = in->found[field];
    if (found == NULL || found->value_len == 0)
        return true;
    if (found->value_len >= size)
        return refuse(in->error, found, "it has %zu bytes; at most %zu are kept", found->value_len, size - 1);
    if (memchr(found->value, '\0', found->value_len) != NULL)
        return refuse(in->error, found, "there is a NUL in it; leave it out");
    memcpy(out_text, found->value, found->value_len);
    out_text[found->value_len] = '\0';
    *out = out_text;
    return true;
}

static bool read_topic(const struct reading *in, struct entry_event *out)
{
    const struct entry_field *found = in->found[EVENT_TYPE];
    const char *topic = NULL;
    if (!read_text(in, EVENT_TYPE, out->topic, sizeof out->topic, &topic))
        return false;
    if (topic == NULL || strspn(topic, "abcdefghijklmnopqrstuvwxyz0123456789.-") != found->value_len)
        return refuse(in->error, found, "it must be a topic of a-z 0-9 - in segments, as in lomash.orders.created");
    out->event.topic = out->topic;
    return true;
}

/* A NUL may stand in a key. */
static bool read_key(const struct reading *in, struct entry_event *out)
{
    const struct entry_field *found = in->found[KEY];
    if (found == NULL || found->value_len == 0)
        return true;
    if (found->value_len >= sizeof out->key)
        return refuse(in->error, found, "it has %zu bytes; a key has at most %zu", found->value_len,
                      sizeof out->key - 1);
    memcpy(out->key, found->value, found->value_len);
    out->key[found->value_len] = '\0';
    out->event.key = out->key;
    out->event.key_len = found->value_len;
    return true;
}

static bool read_origin(const struct reading *in, struct entry_event *out)
{
    const struct entry_field *origin = in->found[ORIGIN], *partition = in->found[PARTITION],
                             *position = in->found[POSITION], *prev = in->found[PREV];
    uint64_t number = 0;
    out->is_foreign = origin == NULL;
    if ((origin == NULL) != (partition == NULL) || (origin == NULL) != (position == NULL))
        return is_missing(
            in->error,
            origin == NULL      ? ORIGIN
            : partition == NULL ? PARTITION
                                : POSITION,
            "origin, partition and position come together, or none of them where no evbus wrote the entry");
    if (origin == NULL)
        return true;
    if (!read_uuid(origin, out->origin.bus, in->error) ||
        !read_number(partition, (uint64_t)UINT32_MAX + 1, &number, in->error) ||
        !read_number(position, POSITION_ENDS, &out->origin.position, in->error))
        return false;
    out->origin.partition = (uint32_t)number;
    if (out->origin.position == 0)
        return refuse(in->error, position, "no event stands at position 0");
    if (prev != NULL && !read_number(prev, POSITION_ENDS, &out->prev, in->error))
        return false;
    if (out->prev >= out->origin.position)
        return refuse(in->error, prev, "the event before it must stand below its position, %" PRIu64,
                      out->origin.position);
    return true;
}

static bool read_versions(const struct reading *in, struct entry_event *out)
{
    struct evbus_event *event = &out->event;
    event->version_major = 1;
    if ((in->found[VERSION] != NULL &&
         !read_version(in->found[VERSION], &event->version_major, &event->version_minor, in->error)) ||
        !read_payload(in->found[PAYLOAD], &event->payload, &event->payload_len, in->error))
        return false;
    for (unsigned i = 0; i < EVBUS_VERSIONS_MAX - 1; i++) {
        const struct entry_field *version = in->found[MORE + 2 * i], *payload = in->found[MORE + 2 * i + 1];
        if (version == NULL && payload == NULL)
            continue;
        if (version == NULL || payload == NULL)
            return is_missing(in->error, MORE + 2 * i + (version != NULL), "each version comes with its payload");
        if (event->n_more_versions != i)
            return is_missing(in->error, MORE + 2 * (i - 1), "versions beside the first are counted from .2 on");
        struct evbus_version *more = &out->more[i];
        if (!read_version(version, &more->major, &more->minor, in->error) ||
            !read_payload(payload, &more->payload, &more->payload_len, in->error))
            return false;
        bool is_twice = more->major == event->version_major && more->minor == event->version_minor;
        for (unsigned k = 0; k < i; k++)
            is_twice = is_twice || (more->major == out->more[k].major && more->minor == out->more[k].minor);
        if (is_twice)
            return refuse(in->error, version, "this version stands there twice; leave one out");
        event->n_more_versions++;
    }
    event->more_versions = event->n_more_versions != 0 ? out->more : NULL;
    return true;
}

bool entry_read(const struct entry_field *fields, size_t n, struct entry_event *out, char *error)
{
    static const struct {
        enum field field;
        const char *mend;
    } needed[] = {
        {EVENT_ID, "give each event a UUID of its own; repeats of it are known by it"},
        {EVENT_TYPE, "say its topic, as in lomash.orders.created"},
        {TIMESTAMP, "say when it happened, as in 2026-02-01T09:30:00.123Z"},
        {PAYLOAD, "give one JSON text; an empty payload is null"},
    };
    struct reading in = {.error = error};
    *out = (struct entry_event){.event = {.size = sizeof out->event}};
    if (!sort_out(&in, fields, n))
        return false;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (in.found[needed[i].field] == NULL)
            return is_missing(error, needed[i].field, needed[i].mend);
    struct evbus_event *event = &out->event;
    event->origin = &out->origin;
    return read_uuid(in.found[EVENT_ID], event->id, error) && read_topic(&in, out) &&
           read_time(in.found[TIMESTAMP], &event->timestamp_ns, error) && read_versions(&in, out) &&
           read_key(&in, out) && read_origin(&in, out) &&
           read_text(&in, TRACEPARENT, out->traceparent, sizeof out->traceparent, &event->traceparent) &&
           read_text(&in, TRACESTATE, out->tracestate, sizeof out->tracestate, &event->tracestate) &&
           read_text(&in, CORRELATION_ID, out->correlation_id, sizeof out->correlation_id, &event->correlation_id) &&
           read_text(&in, CAUSATION_ID, out->causation_id, sizeof out->causation_id, &event->causation_id) &&
           (in.found[EXPIRES_AT] == NULL || read_time(in.found[EXPIRES_AT], &event->expires_at_ns, error));
}
