/* cloudevents.c: our lines to CloudEvents 1.0 and back, nothing lost.
 *
 *     ours                                       CloudEvents, structured JSON
 *     ------------------------------------------+----------------------------------------------------------
 *     eventId                                    id
 *     eventType                                  type
 *     timestamp, version (may be missing)        time, dataversion
 *     payload                                    data
 *     (follows from the topic)                   source: /NAMESPACE/LOG
 *     (always)                                   specversion "1.0", datacontenttype "application/json"
 *     key                                        partitionkey (none where the key is empty)
 *     log partition position service             evbuslog evbuspartition evbusposition evbusservice
 *     traceparent tracestate                     the same
 *     correlationId causationId                  correlationid causationid
 *     expiresAt                                  expirytime
 *     versions                                   evbusversions
 *     afterGap replayed attempt lost             evbusaftergap evbusreplayed evbusattempt evbuslost
 *
 *   line      an envelope with the ADR's five members and no other; or {"envelope":...,"key":...,...} with what is known beside it, as
 *             `tail --json --meta` prints it
 *   kept      what a CloudEvent has and `to` would not make by itself stands beside the envelope, in "cloudEvents": attributes that
 *             are not above; a source that is another; an id that is no UUID; a time that an envelope cannot say (before 1970); a
 *             version that is none. null there: the CloudEvent has it not. "data_base64":true: the payload is its data_base64.
 *             The envelope itself stays the ADR's
 *   values    are slices of the line from end to end (slices.c): a payload, a time, a string with escapes come out byte for byte
 *   id        one that is no UUID becomes the version 5 UUID (name space URL) of "SOURCE ID": CloudEvents says that these two
 *             are what makes an event the same, so whoever sees it twice knows it again
 *
 * So each way and back gives the same line, where it is written as we write it; else the same but for the order of members, blanks
 * between them, escapes in names, attributes that are null (CloudEvents: they are unset), and a key that is there and empty.
 * What cannot be so is refused: a name twice, an attribute that CloudEvents does not allow, a "cloudEvents" that says something
 * else than the envelope.
 * Source: CloudEvents 1.0.2, its JSON format and the extensions Partitioning, Distributed Tracing and Expiry Time; ADR 003. Checked by
 * tests/unit/test_cloudevents.c, tests/fuzz/cloudevents.c and, with CloudEvents' own library, by tests/npm/run. */
#include "cloudevents.h"
#include "values.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

/* In the order in which we write them; from PARTITIONKEY to LOST: what stands beside an envelope. */
enum attribute {
    SPECVERSION,
    ID,
    SOURCE,
    TYPE,
    TIME,
    DATACONTENTTYPE,
    DATAVERSION,
    PARTITIONKEY,
    LOG,
    PARTITION,
    POSITION,
    SERVICE,
    TRACEPARENT,
    TRACESTATE,
    CORRELATIONID,
    CAUSATIONID,
    EXPIRYTIME,
    VERSIONS,
    AFTERGAP,
    REPLAYED,
    ATTEMPT,
    LOST,
    DATA,
    DATA_BASE64,
    N_ATTRIBUTES
};
enum { BESIDE = PARTITIONKEY, BESIDE_END = DATA };

static const char *const attributes[N_ATTRIBUTES] = {[SPECVERSION] = "specversion",
                                                     [ID] = "id",
                                                     [SOURCE] = "source",
                                                     [TYPE] = "type",
                                                     [TIME] = "time",
                                                     [DATACONTENTTYPE] = "datacontenttype",
                                                     [DATAVERSION] = "dataversion",
                                                     [PARTITIONKEY] = "partitionkey",
                                                     [LOG] = "evbuslog",
                                                     [PARTITION] = "evbuspartition",
                                                     [POSITION] = "evbusposition",
                                                     [SERVICE] = "evbusservice",
                                                     [TRACEPARENT] = "traceparent",
                                                     [TRACESTATE] = "tracestate",
                                                     [CORRELATIONID] = "correlationid",
                                                     [CAUSATIONID] = "causationid",
                                                     [EXPIRYTIME] = "expirytime",
                                                     [VERSIONS] = "evbusversions",
                                                     [AFTERGAP] = "evbusaftergap",
                                                     [REPLAYED] = "evbusreplayed",
                                                     [ATTEMPT] = "evbusattempt",
                                                     [LOST] = "evbuslost",
                                                     [DATA] = "data",
                                                     [DATA_BASE64] = "data_base64"};

enum kind { TEXT, COUNT, FLAG, MOMENT };

/* What may stand beside an envelope. */
static const struct {
    const char *name;
    enum kind kind;
} beside[BESIDE_END] = {
    [PARTITIONKEY] = {"key", TEXT},
    [LOG] = {"log", TEXT},
    [PARTITION] = {"partition", COUNT},
    [POSITION] = {"position", TEXT},
    [SERVICE] = {"service", TEXT},
    [TRACEPARENT] = {"traceparent", TEXT},
    [TRACESTATE] = {"tracestate", TEXT},
    [CORRELATIONID] = {"correlationId", TEXT},
    [CAUSATIONID] = {"causationId", TEXT},
    [EXPIRYTIME] = {"expiresAt", MOMENT},
    [VERSIONS] = {"versions", TEXT},
    [AFTERGAP] = {"afterGap", FLAG},
    [REPLAYED] = {"replayed", COUNT},
    [ATTEMPT] = {"attempt", COUNT},
    [LOST] = {"lost", COUNT},
};

enum member { EVENT_ID, EVENT_TYPE, TIMESTAMP, VERSION, PAYLOAD, N_MEMBERS };
static const char *const members[N_MEMBERS] = {"eventId", "eventType", "timestamp", "version", "payload"};

enum {
    NAME_MAX_BYTES = 64, /* of an attribute, with its NUL; CloudEvents asks for 20 */
    MORE_MAX = 128,
    PAYLOAD_DEPTH_MAX = 128, /* as the bus has it */
    SHOWN_MAX = 40
};

/* A CloudEvent: what we know by name, and the rest. */
struct event {
    struct slice of[N_ATTRIBUTES];
    struct {
        char name[NAME_MAX_BYTES];
        struct slice value;
    } more[MORE_MAX];
    size_t n_more;
};

#define LITERAL(text) ((struct slice){.at = (text), .len = sizeof(text) - 1})

/* --- what is wrong, and what comes out ---------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static bool refuse(struct converted *out, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(out->fault, sizeof out->fault, format, args);
    va_end(args);
    for (char *at = out->fault; *at != '\0'; ++at)
        if ((unsigned char)*at < ' ')
            *at = ' ';
    return false;
}

/* The front of a value, for a message. */
static int shown(struct slice value)
{
    return value.len < SHOWN_MAX ? (int)value.len : SHOWN_MAX;
}

static void put(struct converted *out, const char *text, size_t len)
{
    if (out->cap - out->len < len) {
        size_t cap = (out->cap + len) * 2;
        char *larger = realloc(out->text, cap);
        if (larger == NULL) {
            out->is_memory_short = true;
            return;
        }
        out->text = larger;
        out->cap = cap;
    }
    memcpy(out->text + out->len, text, len);
    out->len += len;
}

/* "name":value, with a comma where something stands before it. */
static void put_member(struct converted *out, const char *name, struct slice value)
{
    if (out->len > 0 && out->text[out->len - 1] != '{')
        put(out, ",", 1);
    put(out, "\"", 1);
    put(out, name, strlen(name));
    put(out, "\":", 2);
    put(out, value.at, value.len);
}

void converted_end(struct converted *converted)
{
    free(converted->text);
    *converted = (struct converted){.text = NULL};
}

/* --- what the one says of the other ---------------------------------------------------------------------------------- */

/* The source of a topic's events: "/lomash/lomash.orders". Of what is no topic: "/evbus". */
static struct slice source_of(struct slice type, char out_text[300])
{
    char topic[128];
    size_t n_segments = 1, len[2] = {0, 0};
    bool is_topic = value_text(type, topic, sizeof topic);
    for (const char *at = topic; is_topic && *at != '\0'; ++at) {
        bool is_dot = *at == '.';
        is_topic = is_dot ? at > topic && at[-1] != '.' && at[1] != '\0'
                          : strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", *at) != NULL;
        if (is_dot && n_segments < 3)
            len[n_segments - 1] = (size_t)(at - topic);
        n_segments += is_dot;
    }
    int n = is_topic && n_segments >= 3
                ? snprintf(out_text, 300, "\"/%.*s/%.*s\"", (int)len[0], topic, (int)len[1], topic)
                : snprintf(out_text, 300, "\"/evbus\"");
    return (struct slice){.at = out_text, .len = (size_t)n};
}

/* Appends a string's text; of one that is no text (half a surrogate pair): as it is written. */
static size_t append(char *to, struct slice string)
{
    ssize_t len = slice_text(string, to, string.len);
    if (len >= 0)
        return (size_t)len;
    memcpy(to, string.at, string.len);
    return string.len;
}

/* The eventId, in quotes, of an id that is no UUID. false: no memory. */
static bool make_id(struct slice source, struct slice id, char out_text[UUID_STR_LEN + 2])
{
    char *name = malloc(source.len + id.len + 1);
    uuid_t made;
    if (name == NULL)
        return false;
    size_t len = append(name, source);
    name[len++] = ' ';
    len += append(name + len, id);
    uuid_generate_sha1(made, *uuid_get_template("url"), name, len);
    free(name);
    uuid_unparse_lower(made, out_text + 1);
    out_text[0] = '"';
    memcpy(out_text + UUID_STR_LEN, "\"", 2);
    return true;
}

static bool is_flag(struct slice value)
{
    return slice_is(value, "true") || slice_is(value, "false");
}

/* Is it what `to` makes of the member that stands beside the envelope? */
static bool fits_beside(size_t number, struct slice value)
{
    switch (beside[number].kind) {
    case TEXT:
        return value_is_string(value) && !(number == PARTITIONKEY && value_is_empty(value));
    case FLAG:
        return is_flag(value);
    case MOMENT:
        return value_time(value) == VALUE_OUR_TIME;
    default:
        if (!value_is_string(value))
            return value_is_integer(value) && *value.at != '-';
        struct slice inside = {.at = value.at + 1, .len = value.len - 2};
        return value_is_number(inside.at, inside.len, 20) && !value_is_integer(inside);
    }
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

static bool check_object(struct slice line, size_t *out_depth, struct converted *out)
{
    size_t at = 0;
    out->len = 0;
    const char *what = slice_fault(line, &at, out_depth);
    if (what != NULL)
        return refuse(out, "no JSON: %s at byte %zu; a line is one event, as `jq -c .` writes it", what, at + 1);
    at = 0;
    while (at < line.len && strchr(" \t\r\n", line.at[at]) != NULL)
        ++at;
    return line.at[at] == '{' ||
           refuse(out, "it must be a JSON object, one event a line; found %.*s", shown(line), line.at);
}

static bool refuse_value(struct converted *out, const char *name, struct slice value, const char *expected)
{
    return refuse(out, "%s is %.*s; it must be %s", name, shown(value), value.at, expected);
}

/* null is none; but in "cloudEvents" it says so. */
static bool check_attribute(size_t number, const char *name, struct slice value, bool is_kept, struct converted *out)
{
    bool is_null = slice_is(value, "null");
    if (number == DATA || (is_kept && (is_null || (number == DATA_BASE64 && slice_is(value, "true")))))
        return true;
    if (number == DATA_BASE64 && !value_is_string(value))
        return refuse_value(out, name, value, "a string");
    if (number == SPECVERSION) {
        char text[8];
        if (!value_text(value, text, sizeof text) || strcmp(text, "1.0") != 0)
            return refuse_value(out, name, value, "\"1.0\", the version that we know");
    } else if (number == ID || number == SOURCE || number == TYPE) {
        if (!value_is_string(value) || value_is_empty(value))
            return refuse_value(out, name, value, "a string, not empty");
    } else if (number == TIME) {
        if (value_time(value) == VALUE_NO_TIME)
            return refuse_value(out, name, value, "a time as in RFC 3339, e.g. \"2026-02-01T09:30:00Z\"");
    } else if (number == DATACONTENTTYPE) {
        if (!value_is_string(value))
            return refuse_value(out, name, value, "a string, e.g. \"application/json\"");
    } else if (!value_is_string(value) && !value_is_integer(value) && !is_flag(value)) {
        return refuse_value(out, name, value, "a string, a whole number of 32 bits, true or false");
    }
    return true;
}

static bool add_more(struct event *event, const char *name, struct slice value, struct converted *out)
{
    if (*name == '\0' || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") != strlen(name))
        return refuse(out, "\"%s\" is no attribute: CloudEvents names them with a-z and 0-9 alone", name);
    for (size_t i = 0; i < event->n_more; ++i)
        if (strcmp(event->more[i].name, name) == 0)
            return refuse(out, "%s stands there twice", name);
    if (event->n_more == MORE_MAX)
        return refuse(out, "more than %d extension attributes", MORE_MAX);
    memcpy(event->more[event->n_more].name, name, strlen(name) + 1);
    event->more[event->n_more++].value = value;
    return true;
}

/* n_around: of what stands around the payload. Else the way there would be open, and the way back not. */
static bool check_depth(size_t depth, size_t n_around, struct converted *out)
{
    return depth <= PAYLOAD_DEPTH_MAX + n_around ||
           refuse(out, "more than %d arrays and objects inside each other", PAYLOAD_DEPTH_MAX);
}

/* The members of a CloudEvent; is_kept: of "cloudEvents". Its bytes are JSON, and an object. */
static bool read_event(struct slice object, bool is_kept, struct event *event, struct converted *out)
{
    const char *at = NULL;
    struct slice quoted, value;
    uint32_t seen = 0; /* those that are null, too */
    while (slice_next(object, &at, &quoted, &value)) {
        char name[NAME_MAX_BYTES];
        size_t number = 0;
        if (!value_text(quoted, name, sizeof name))
            return refuse(out, "%.*s is no attribute: CloudEvents names them with a-z and 0-9, we take %d of them",
                          shown(quoted), quoted.at, NAME_MAX_BYTES - 1);
        while (number < N_ATTRIBUTES && strcmp(attributes[number], name) != 0)
            ++number;
        bool is_unset = !is_kept && number != DATA && slice_is(value, "null");
        if (number < N_ATTRIBUTES && (seen & UINT32_C(1) << number) != 0)
            return refuse(out, "%s stands there twice", name);
        if (!is_unset && !check_attribute(number, name, value, is_kept, out))
            return false;
        if (number == N_ATTRIBUTES) {
            if (!is_unset && !add_more(event, name, value, out))
                return false;
            continue;
        }
        seen |= UINT32_C(1) << number;
        if (!is_unset)
            event->of[number] = value;
    }
    return true;
}

/* --- from CloudEvents ------------------------------------------------------------------------------------------------ */

static bool check_whole(const struct event *event, struct converted *out)
{
    for (size_t i = SPECVERSION; i <= TYPE; ++i)
        if (event->of[i].at == NULL)
            return refuse(out, "%s is missing; is it a CloudEvent 1.0 in structured JSON?", attributes[i]);
    if (event->of[DATA].at != NULL && event->of[DATA_BASE64].at != NULL)
        return refuse(out, "data and data_base64 are both there; it must be one of them");
    return true;
}

/* What `to` would not make by itself: each in its place, {NULL} where it would. */
static void keep(const struct event *event, struct slice kept[N_ATTRIBUTES])
{
    const struct slice *of = event->of;
    char source[300];
    struct slice made = source_of(of[TYPE], source);
    if (!slice_is(of[SPECVERSION], "\"1.0\""))
        kept[SPECVERSION] = of[SPECVERSION];
    if (!value_is_uuid(of[ID]))
        kept[ID] = of[ID];
    if (of[SOURCE].len != made.len || memcmp(of[SOURCE].at, made.at, made.len) != 0)
        kept[SOURCE] = of[SOURCE];
    if (of[TIME].at != NULL && value_time(of[TIME]) != VALUE_OUR_TIME)
        kept[TIME] = of[TIME];
    if (of[DATACONTENTTYPE].at == NULL)
        kept[DATACONTENTTYPE] = LITERAL("null");
    else if (!slice_is(of[DATACONTENTTYPE], "\"application/json\""))
        kept[DATACONTENTTYPE] = of[DATACONTENTTYPE];
    if (of[DATAVERSION].at != NULL && !value_is_version(of[DATAVERSION]))
        kept[DATAVERSION] = of[DATAVERSION];
    for (size_t i = BESIDE; i < BESIDE_END; ++i)
        if (of[i].at != NULL && !fits_beside(i, of[i]))
            kept[i] = of[i];
    if (of[DATA_BASE64].at != NULL)
        kept[DATA_BASE64] = LITERAL("true");
    else if (of[DATA].at == NULL)
        kept[DATA] = LITERAL("null");
}

static void put_envelope(struct converted *out, const struct event *event, const struct slice kept[N_ATTRIBUTES],
                         struct slice id)
{
    const struct slice *of = event->of;
    put(out, "{", 1);
    put_member(out, "eventId", id);
    put_member(out, "eventType", of[TYPE]);
    if (of[TIME].at != NULL && kept[TIME].at == NULL)
        put_member(out, "timestamp", of[TIME]);
    if (of[DATAVERSION].at != NULL && kept[DATAVERSION].at == NULL)
        put_member(out, "version", of[DATAVERSION]);
    put_member(out, "payload",
               of[DATA].at != NULL          ? of[DATA]
               : of[DATA_BASE64].at != NULL ? of[DATA_BASE64]
                                            : LITERAL("null"));
    put(out, "}", 1);
}

/* What stands beside the envelope, if something does; its first byte stands there already. */
static void put_beside(struct converted *out, const struct event *event, const struct slice kept[N_ATTRIBUTES])
{
    const struct slice *of = event->of;
    bool keeps = event->n_more > 0;
    for (size_t i = BESIDE; i < BESIDE_END; ++i) {
        struct slice value = kept[i].at != NULL ? (struct slice){.at = NULL} : of[i];
        if (i == PARTITIONKEY && value.at == NULL && of[LOG].at != NULL && kept[LOG].at == NULL)
            value = LITERAL("\"\"");
        else if (value.at != NULL && beside[i].kind == COUNT && value_is_string(value))
            value = (struct slice){.at = value.at + 1, .len = value.len - 2};
        if (value.at != NULL)
            put_member(out, beside[i].name, value);
    }
    for (size_t i = 0; i < N_ATTRIBUTES; ++i)
        keeps = keeps || kept[i].at != NULL;
    if (!keeps)
        return;
    put_member(out, "cloudEvents", LITERAL("{"));
    for (size_t i = 0; i < N_ATTRIBUTES; ++i)
        if (kept[i].at != NULL)
            put_member(out, attributes[i], kept[i]);
    for (size_t i = 0; i < event->n_more; ++i)
        put_member(out, event->more[i].name, event->more[i].value);
    put(out, "}", 1);
}

bool cloudevents_from(struct slice line, struct converted *out)
{
    struct event event = {.n_more = 0};
    struct slice kept[N_ATTRIBUTES] = {{.at = NULL}};
    char made[UUID_STR_LEN + 2];
    size_t depth = 0;
    if (!check_object(line, &depth, out) || !check_depth(depth, 1, out) || !read_event(line, false, &event, out) ||
        !check_whole(&event, out))
        return false;
    keep(&event, kept);
    struct slice id = event.of[ID];
    if (kept[ID].at != NULL) {
        out->is_memory_short |= !make_id(event.of[SOURCE], event.of[ID], made);
        id = (struct slice){.at = made, .len = UUID_STR_LEN + 1};
    }
    if (out->is_memory_short)
        return refuse(out, "out of memory");
    bool is_alone = event.n_more == 0;
    for (size_t i = 0; i < N_ATTRIBUTES; ++i)
        is_alone = is_alone && kept[i].at == NULL && (i < BESIDE || i >= BESIDE_END || event.of[i].at == NULL);
    if (!is_alone)
        put(out, "{\"envelope\":", strlen("{\"envelope\":"));
    put_envelope(out, &event, kept, id);
    if (!is_alone) {
        put_beside(out, &event, kept);
        put(out, "}", 1);
    }
    return !out->is_memory_short || refuse(out, "out of memory");
}

/* --- to CloudEvents -------------------------------------------------------------------------------------------------- */

/* A line of ours, in its parts. */
struct line {
    struct slice envelope;
    struct slice of[N_MEMBERS];
    struct slice beside[BESIDE_END];
    struct slice kept; /* "cloudEvents" */
    bool is_alone;     /* an envelope, and nothing beside it */
};

static bool read_envelope(struct line *line, struct converted *out)
{
    const char *at = NULL;
    struct slice quoted, value;
    if (*line->envelope.at != '{')
        return refuse_value(out, "envelope", line->envelope, "an object");
    while (slice_next(line->envelope, &at, &quoted, &value)) {
        char name[NAME_MAX_BYTES];
        size_t number = 0;
        if (!value_text(quoted, name, sizeof name))
            name[0] = '\0';
        while (number < N_MEMBERS && strcmp(members[number], name) != 0)
            ++number;
        if (number == N_MEMBERS)
            return refuse(
                out, "envelope: unknown member %.*s; eventId, eventType, timestamp, version and payload are allowed",
                shown(quoted), quoted.at);
        if (line->of[number].at != NULL)
            return refuse(out, "envelope: %s stands there twice", members[number]);
        line->of[number] = value;
    }
    if (line->of[EVENT_ID].at == NULL || line->of[EVENT_TYPE].at == NULL || line->of[PAYLOAD].at == NULL)
        return refuse(out, "envelope: %s is missing",
                      line->of[EVENT_ID].at == NULL     ? "eventId"
                      : line->of[EVENT_TYPE].at == NULL ? "eventType"
                                                        : "payload");
    if (!value_is_uuid(line->of[EVENT_ID]))
        return refuse_value(out, "envelope: eventId", line->of[EVENT_ID], "a UUID, not the nil one");
    if (!value_is_string(line->of[EVENT_TYPE]) || value_is_empty(line->of[EVENT_TYPE]))
        return refuse_value(out, "envelope: eventType", line->of[EVENT_TYPE], "a topic");
    if (line->of[TIMESTAMP].at != NULL && value_time(line->of[TIMESTAMP]) != VALUE_OUR_TIME)
        return refuse_value(out, "envelope: timestamp", line->of[TIMESTAMP], "RFC 3339, from 1970 to 2553");
    if (line->of[VERSION].at != NULL && !value_is_version(line->of[VERSION]))
        return refuse_value(out, "envelope: version", line->of[VERSION], "MAJOR.MINOR, e.g. \"1.0\"");
    return true;
}

/* One member beside the envelope. */
static bool read_beside(struct line *line, size_t number, struct slice value, struct converted *out)
{
    static const char *const expected[] = {[TEXT] = "a string",
                                           [COUNT] = "a whole number",
                                           [FLAG] = "true or false",
                                           [MOMENT] = "RFC 3339, from 1970 to 2553"};
    enum kind kind = beside[number].kind;
    bool is_good = kind == TEXT    ? value_is_string(value)
                   : kind == COUNT ? value_is_number(value.at, value.len, 20)
                   : kind == FLAG  ? is_flag(value)
                                   : value_time(value) == VALUE_OUR_TIME;
    if (line->beside[number].at != NULL)
        return refuse(out, "%s stands there twice", beside[number].name);
    if (!is_good)
        return refuse_value(out, beside[number].name, value, expected[kind]);
    line->beside[number] = value;
    return true;
}

static bool read_line(struct slice text, struct line *line, struct converted *out)
{
    const char *at = NULL;
    struct slice quoted, value;
    while (slice_next(text, &at, &quoted, &value))
        if (slice_is(quoted, "\"envelope\""))
            line->envelope = value;
    if (line->envelope.at == NULL) {
        while (*text.at != '{') {
            ++text.at;
            --text.len;
        }
        line->envelope = text;
        line->is_alone = true;
        return read_envelope(line, out);
    }
    bool has_envelope = false;
    for (at = NULL; slice_next(text, &at, &quoted, &value);) {
        char name[NAME_MAX_BYTES];
        size_t number = BESIDE;
        if (!value_text(quoted, name, sizeof name))
            name[0] = '\0';
        while (number < BESIDE_END && strcmp(beside[number].name, name) != 0)
            ++number;
        if (number < BESIDE_END) {
            if (!read_beside(line, number, value, out))
                return false;
        } else if (strcmp(name, "envelope") == 0) {
            if (has_envelope)
                return refuse(out, "envelope stands there twice");
            has_envelope = true;
        } else if (strcmp(name, "cloudEvents") == 0) {
            if (line->kept.at != NULL)
                return refuse(out, "cloudEvents stands there twice");
            if (*value.at != '{')
                return refuse_value(out, "cloudEvents", value, "an object");
            line->kept = value;
        } else {
            return refuse(out, "unknown member %.*s beside the envelope; see evbus(1), evbus convert", shown(quoted),
                          quoted.at);
        }
    }
    return read_envelope(line, out);
}

static bool contradicts(struct converted *out, const char *name, const char *other)
{
    return refuse(out, "cloudEvents: %s says something else than %s does; leave it out of cloudEvents", name, other);
}

/* Those of what was kept that the envelope says, too. */
static bool merge_envelope(const struct line *line, struct event *event, struct converted *out)
{
    struct slice *of = event->of;
    const struct slice *from = line->of;
    if (of[TYPE].at != NULL)
        return contradicts(out, "type", "eventType");
    if (of[ID].at != NULL) {
        char made[UUID_STR_LEN + 2], given[UUID_STR_LEN] = "";
        if (slice_is(of[ID], "null") || value_is_uuid(of[ID]))
            return contradicts(out, "id", "eventId");
        if (!make_id(of[SOURCE], of[ID], made)) {
            out->is_memory_short = true;
            return refuse(out, "out of memory");
        }
        made[UUID_STR_LEN] = '\0';
        if (!value_text(from[EVENT_ID], given, sizeof given) || strcmp(given, made + 1) != 0)
            return refuse(out, "cloudEvents: source and id make the eventId %s, not %s; leave id out of cloudEvents",
                          made + 1, given);
    } else {
        of[ID] = from[EVENT_ID];
    }
    of[TYPE] = from[EVENT_TYPE];
    if (of[TIME].at != NULL && (from[TIMESTAMP].at != NULL || slice_is(of[TIME], "null")))
        return contradicts(out, "time", "timestamp");
    if (of[TIME].at == NULL)
        of[TIME] = from[TIMESTAMP];
    if (of[DATAVERSION].at != NULL && (from[VERSION].at != NULL || slice_is(of[DATAVERSION], "null")))
        return contradicts(out, "dataversion", "version");
    if (of[DATAVERSION].at == NULL)
        of[DATAVERSION] = from[VERSION];
    return true;
}

static bool merge_data(const struct line *line, struct event *event, struct converted *out)
{
    struct slice *of = event->of, payload = line->of[PAYLOAD];
    bool has_no_data = of[DATA].at != NULL, is_base64 = of[DATA_BASE64].at != NULL;
    if (has_no_data && (!slice_is(of[DATA], "null") || !slice_is(payload, "null") || is_base64))
        return contradicts(out, "data", "payload");
    if (is_base64 && (!slice_is(of[DATA_BASE64], "true") || !value_is_string(payload)))
        return refuse(out, "cloudEvents: data_base64 is %.*s, payload %.*s; it must be true, and payload a string",
                      shown(of[DATA_BASE64]), of[DATA_BASE64].at, shown(payload), payload.at);
    of[DATA] = has_no_data || is_base64 ? (struct slice){.at = NULL} : payload;
    of[DATA_BASE64] = is_base64 ? payload : (struct slice){.at = NULL};
    return true;
}

/* Quotes a number that CloudEvents has no integer for. */
static struct slice counted(struct slice number, char room[24])
{
    if (value_is_integer(number))
        return number;
    int len = snprintf(room, 24, "\"%.*s\"", (int)number.len, number.at);
    return (struct slice){.at = room, .len = (size_t)len};
}

static bool merge_beside(const struct line *line, struct event *event, char rooms[BESIDE_END][24],
                         struct converted *out)
{
    for (size_t i = BESIDE; i < BESIDE_END; ++i) {
        struct slice value = line->beside[i];
        if (i == PARTITIONKEY && value_is_empty(value))
            value = (struct slice){.at = NULL};
        if (event->of[i].at != NULL && (value.at != NULL || slice_is(event->of[i], "null")))
            return contradicts(out, attributes[i], beside[i].name);
        if (value.at != NULL)
            event->of[i] = beside[i].kind == COUNT ? counted(value, rooms[i]) : value;
    }
    return true;
}

bool cloudevents_to(struct slice line, struct converted *out)
{
    struct line parts = {.envelope = {.at = NULL}};
    struct event event = {.n_more = 0};
    char source[300], rooms[BESIDE_END][24];
    size_t depth = 0;
    if (!check_object(line, &depth, out) || !read_line(line, &parts, out) ||
        !check_depth(depth, parts.is_alone ? 1 : 2, out) ||
        (parts.kept.at != NULL && !read_event(parts.kept, true, &event, out)))
        return false;
    struct slice *of = event.of;
    if (of[SPECVERSION].at == NULL || slice_is(of[SPECVERSION], "null"))
        of[SPECVERSION] = LITERAL("\"1.0\"");
    if (of[SOURCE].at == NULL || slice_is(of[SOURCE], "null"))
        of[SOURCE] = source_of(parts.of[EVENT_TYPE], source);
    if (!merge_envelope(&parts, &event, out) || !merge_data(&parts, &event, out) ||
        !merge_beside(&parts, &event, rooms, out))
        return false;
    if (of[DATACONTENTTYPE].at == NULL)
        of[DATACONTENTTYPE] = LITERAL("\"application/json\"");
    else if (slice_is(of[DATACONTENTTYPE], "null"))
        of[DATACONTENTTYPE] = (struct slice){.at = NULL};

    put(out, "{", 1);
    for (size_t i = 0; i < DATA; ++i)
        if (of[i].at != NULL)
            put_member(out, attributes[i], of[i]);
    for (size_t i = 0; i < event.n_more; ++i)
        if (!slice_is(event.more[i].value, "null"))
            put_member(out, event.more[i].name, event.more[i].value);
    for (size_t i = DATA; i < N_ATTRIBUTES; ++i)
        if (of[i].at != NULL)
            put_member(out, attributes[i], of[i]);
    put(out, "}", 1);
    return !out->is_memory_short || refuse(out, "out of memory");
}
