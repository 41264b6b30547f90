/* letter.c: one dead letter, taken apart; and the event in it, as it was.
 *
 * The payload of a letter is ours (deadletter.c), but it comes from memory or a file, so nothing of it is believed: it is checked to be
 * JSON, members are looked up by name, numbers bounded. What no JSON can say stands in the header area: the event's time to the
 * nanosecond, its own header fields. Older letters have none: then the text's milliseconds must do.
 * Payloads are slices of the text, byte for byte. Checked by tests/unit/test_letters.c. */
#include "letter.h"

#include "envelope.h"
#include "json.h"
#include "uuid7.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool text_of(struct json_slice slice, char *out, size_t cap)
{
    ptrdiff_t len = slice.at != NULL ? json_string_decode(slice.at, slice.len, out, cap - 1) : -1;
    if (len < 0 || memchr(out, '\0', (size_t)len) != NULL)
        return false;
    out[len] = '\0';
    return true;
}

/* A number, or a text that is one. */
static bool number_of(struct json_slice slice, uint64_t most, uint64_t *out)
{
    char text[24];
    if (slice.at == NULL)
        return false;
    if (slice.len > 0 && slice.at[0] == '"') {
        slice.at++;
        slice.len -= 2;
    }
    if (slice.len == 0 || slice.len >= sizeof text)
        return false;
    memcpy(text, slice.at, slice.len);
    text[slice.len] = '\0';
    if (strspn(text, "0123456789") != slice.len)
        return false;
    *out = strtoull(text, NULL, 10);
    return *out <= most;
}

static bool time_of(struct json_slice slice, uint64_t *out_ns)
{
    char text[40];
    return text_of(slice, text, sizeof text) && envelope_time_parse(text, strlen(text), out_ns, NULL) == EVBUS_OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Blanks around a payload are its own: the letter has none there. */
static struct json_slice with_blanks(struct json_slice payload, struct json_slice object)
{
    while (payload.at > object.at && is_blank(payload.at[-1])) {
        payload.at--;
        payload.len++;
    }
    while (payload.at + payload.len < object.at + object.len && is_blank(payload.at[payload.len]))
        payload.len++;
    return payload;
}

/* Of an object that has them. */
static bool version_of(struct json_slice object, struct json_slice version, struct json_slice payload,
                       struct frame_version *out)
{
    char text[16], *end;
    if (payload.at == NULL || !text_of(version, text, sizeof text))
        return false;
    unsigned long major = strtoul(text, &end, 10);
    unsigned long minor = *end == '.' ? strtoul(end + 1, &end, 10) : UINT32_MAX;
    if (*end != '\0' || major > UINT16_MAX || minor > UINT16_MAX)
        return false;
    payload = with_blanks(payload, object);
    *out = (struct frame_version){(uint16_t)major, (uint16_t)minor, (uint32_t)payload.len, payload.at};
    return true;
}

/* The elements of an array, one after the other. inout_at: its bytes behind the one before; NULL: none yet. */
static bool next_element(struct json_slice array, const char **inout_at, struct json_slice *out)
{
    const char *end = array.at + array.len;
    const char *at = *inout_at != NULL ? *inout_at : array.at;
    while (at < end && strchr(" \t\r\n[,", *at) != NULL && (*at != '[' || at == array.at))
        at++;
    if (at >= end || *at != '{') /* all of ours are objects */
        return false;
    unsigned depth = 0;
    out->at = at;
    for (bool is_text = false; at < end; at++) {
        if (is_text) {
            is_text = *at != '"';
            at += *at == '\\'; /* what is escaped ends nothing */
            continue;
        }
        is_text = *at == '"';
        depth += *at == '{' || *at == '[';
        if ((*at == '}' || *at == ']') && --depth == 0) {
            out->len = (size_t)(at + 1 - out->at);
            *inout_at = at + 1;
            return true;
        }
    }
    return false;
}

static bool read_event(struct json_slice event, struct letter *out)
{
    static const char *const names[] = {"eventId", "timestamp", "version", "payload"};
    struct json_slice found[4];
    char id[40];
    struct frame_version first;
    if (event.at == NULL || !json_members(event.at, event.len, names, 4, found) || !text_of(found[0], id, sizeof id) ||
        !uuid7_parse(id, strlen(id), out->event.id) || !version_of(event, found[2], found[3], &first))
        return false;
    time_of(found[1], &out->event.timestamp_ns); /* to the millisecond */
    out->event.major = first.major;
    out->event.minor = first.minor;
    out->event.payload = first.payload;
    out->event.payload_len = first.len;
    return true;
}

static bool read_versions(struct json_slice versions, struct letter *out)
{
    static const char *const names[] = {"version", "payload"};
    struct json_slice one, found[2];
    const char *at = NULL;
    unsigned n = 0;
    for (; versions.at != NULL && next_element(versions, &at, &one); n++)
        if (n == FRAME_VERSIONS_MAX - 1 || !json_members(one.at, one.len, names, 2, found) ||
            !version_of(one, found[0], found[1], &out->more[n]))
            return false;
    out->event.n_versions = (uint8_t)(1 + n);
    out->event.more = out->more;
    return true;
}

/* Where it stands: on the bus; or at a broker, and then the header area alone says which of all letters it is. */
static bool read_place(const struct frame *frame, const struct json_slice found[5], struct letter *out)
{
    enum { LOG, PARTITION, POSITION, STREAM, ENTRY };
    uint64_t partition = 0;
    struct area_source source;
    if (found[STREAM].at == NULL) {
        bool is_read = text_of(found[LOG], out->log, sizeof out->log) &&
                       number_of(found[PARTITION], PARTITIONS_MAX - 1, &partition) &&
                       number_of(found[POSITION], UINT64_MAX, &out->position);
        out->partition = (uint32_t)partition;
        return is_read;
    }
    if (!text_of(found[STREAM], out->stream, sizeof out->stream) || out->stream[0] == '\0' ||
        !text_of(found[ENTRY], out->entry, sizeof out->entry) || !area_source(frame, &source))
        return false;
    memcpy(out->log, source.log, sizeof out->log);
    out->log[sizeof out->log - 1] = '\0';
    out->partition = source.partition;
    out->position = source.position;
    return true;
}

int letter_parse(const struct frame *frame, struct letter *out, struct error *err)
{
    enum { GROUP, TOPIC, PLACE, CAUSE = PLACE + 5, REPLAYED, ERROR, ATTEMPTS, EVENT, VERSIONS, MEMBERS };
    static const char *const names[] = {"group", "topic",    "log",   "partition", "position", "stream",  "entry",
                                        "cause", "replayed", "error", "attempts",  "event",    "versions"};
    struct json_slice found[MEMBERS];
    uint64_t n_replays = 0;
    struct area_death death;
    memset(out, 0, offsetof(struct letter, area));
    out->area.len = 0;
    memcpy(out->id, frame->id, sizeof out->id);
    out->at_ns = frame->timestamp_ns;
    if (frame->kind != FRAME_DEAD || !json_check_wrapped(frame->payload, frame->payload_len) ||
        !json_members(frame->payload, frame->payload_len, names, MEMBERS, found) ||
        !text_of(found[GROUP], out->group, sizeof out->group) ||
        !text_of(found[TOPIC], out->topic, sizeof out->topic) || !read_place(frame, &found[PLACE], out) ||
        !text_of(found[CAUSE], out->cause, sizeof out->cause) || !read_event(found[EVENT], out) ||
        !read_versions(found[VERSIONS], out))
        return error_set(err, EVBUS_ECORRUPT, "a dead letter that no evbus wrote: its text lacks something");
    if (number_of(found[REPLAYED], UINT32_MAX, &n_replays))
        out->n_replays = (uint32_t)n_replays;
    text_of(found[ERROR], out->error, sizeof out->error);
    if (found[ATTEMPTS].at != NULL) {
        out->attempts = found[ATTEMPTS].at;
        out->attempts_len = found[ATTEMPTS].len;
    }
    if (area_death(frame, &death))
        out->event.timestamp_ns = death.timestamp_ns;
    area_add_own(&out->area, frame);
    out->event.kind = FRAME_EVENT;
    out->event.publisher = frame->publisher;
    out->event.key = frame->key;
    out->event.key_len = frame->key_len;
    out->event.key_hash = frame->key_hash;
    return EVBUS_OK;
}

size_t letter_attempts(const struct letter *letter, struct letter_attempt out[LETTER_ATTEMPTS_MAX])
{
    enum { N, AT, MEMBER, MS, CAUSE, ERROR, MEMBERS };
    static const char *const names[] = {"n", "at", "member", "ms", "cause", "error"};
    struct json_slice all = {letter->attempts, letter->attempts_len}, one, found[MEMBERS];
    const char *at = NULL;
    size_t n = 0;
    while (all.len > 0 && n < LETTER_ATTEMPTS_MAX && next_element(all, &at, &one)) {
        struct letter_attempt *attempt = &out[n];
        uint64_t number = 0;
        *attempt = (struct letter_attempt){0};
        if (!json_members(one.at, one.len, names, MEMBERS, found) || !number_of(found[N], UINT32_MAX, &number) ||
            !time_of(found[AT], &attempt->at_ns))
            continue;
        attempt->n = (uint32_t)number;
        number_of(found[MS], UINT64_MAX, &attempt->ms);
        text_of(found[MEMBER], attempt->member, sizeof attempt->member);
        text_of(found[CAUSE], attempt->cause, sizeof attempt->cause);
        text_of(found[ERROR], attempt->error, sizeof attempt->error);
        n++;
    }
    return n;
}
