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

/* A slice of JSON. */
struct slice {
    const char *at;
    size_t len;
};

static bool member(struct slice object, const char *name, struct slice *out)
{
    return json_member(object.at, object.len, name, &out->at, &out->len);
}

static bool text_of(struct slice object, const char *name, char *out, size_t cap)
{
    struct slice slice;
    if (!member(object, name, &slice))
        return false;
    ptrdiff_t len = json_string_decode(slice.at, slice.len, out, cap - 1);
    if (len < 0 || memchr(out, '\0', (size_t)len) != NULL)
        return false;
    out[len] = '\0';
    return true;
}

/* A number, or a text that is one. */
static bool number_of(struct slice object, const char *name, uint64_t most, uint64_t *out)
{
    struct slice slice;
    char text[24];
    if (!member(object, name, &slice))
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

static bool time_of(struct slice object, const char *name, uint64_t *out_ns)
{
    char text[40];
    return text_of(object, name, text, sizeof text) &&
           envelope_time_parse(text, strlen(text), out_ns, NULL) == EVBUS_OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Blanks around a payload are its own: the letter has none there. */
static struct slice with_blanks(struct slice payload, struct slice object)
{
    while (payload.at > object.at && is_blank(payload.at[-1])) {
        payload.at--;
        payload.len++;
    }
    while (payload.at + payload.len < object.at + object.len && is_blank(payload.at[payload.len]))
        payload.len++;
    return payload;
}

/* "version" and "payload". */
static bool version_of(struct slice object, struct frame_version *out)
{
    char text[16], *end;
    struct slice payload;
    if (!text_of(object, "version", text, sizeof text) || !member(object, "payload", &payload))
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
static bool next_element(struct slice array, const char **inout_at, struct slice *out)
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
            at += *at == '\\';
            is_text = at >= end || *at != '"' || at[-1] == '\\';
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

static bool read_event(struct slice event, struct letter *out)
{
    char id[40];
    struct frame_version first;
    if (!text_of(event, "eventId", id, sizeof id) || !uuid7_parse(id, strlen(id), out->event.id) ||
        !version_of(event, &first))
        return false;
    out->event.major = first.major;
    out->event.minor = first.minor;
    out->event.payload = first.payload;
    out->event.payload_len = first.len;
    return true;
}

static bool read_versions(struct slice all, struct letter *out)
{
    struct slice versions, one;
    const char *at = NULL;
    unsigned n = 0;
    out->event.n_versions = 1;
    if (!member(all, "versions", &versions))
        return true;
    for (; next_element(versions, &at, &one); n++)
        if (n == FRAME_VERSIONS_MAX - 1 || !version_of(one, &out->more[n]))
            return false;
    out->event.n_versions = (uint8_t)(1 + n);
    out->event.more = out->more;
    return true;
}

int letter_parse(const struct frame *frame, struct letter *out, struct error *err)
{
    struct slice all = {frame->payload, frame->payload_len}, event = {"", 0}, attempts = {"", 0};
    uint64_t partition = 0, n_replays = 0;
    struct area_death death;
    memset(out, 0, offsetof(struct letter, area));
    out->area.len = 0;
    memcpy(out->id, frame->id, sizeof out->id);
    out->at_ns = frame->timestamp_ns;
    if (frame->kind != FRAME_DEAD || !json_check(all.at, all.len, NULL) ||
        !text_of(all, "group", out->group, sizeof out->group) ||
        !text_of(all, "topic", out->topic, sizeof out->topic) || !text_of(all, "log", out->log, sizeof out->log) ||
        !text_of(all, "cause", out->cause, sizeof out->cause) ||
        !number_of(all, "partition", PARTITIONS_MAX - 1, &partition) ||
        !number_of(all, "position", UINT64_MAX, &out->position) || !member(all, "event", &event) ||
        !read_event(event, out) || !read_versions(all, out))
        return error_set(err, EVBUS_ECORRUPT, "a dead letter that no evbus wrote: its text lacks something");
    out->partition = (uint32_t)partition;
    if (number_of(all, "replayed", UINT32_MAX, &n_replays))
        out->n_replays = (uint32_t)n_replays;
    if (member(all, "attempts", &attempts)) {
        out->attempts = attempts.at;
        out->attempts_len = attempts.len;
    }
    if (area_death(frame, &death))
        out->event.timestamp_ns = death.timestamp_ns;
    else
        time_of(event, "timestamp", &out->event.timestamp_ns);
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
    struct slice all = {letter->attempts, letter->attempts_len}, one;
    const char *at = NULL;
    size_t n = 0;
    while (all.len > 0 && n < LETTER_ATTEMPTS_MAX && next_element(all, &at, &one)) {
        struct letter_attempt *attempt = &out[n];
        uint64_t number = 0;
        *attempt = (struct letter_attempt){0};
        if (!number_of(one, "n", UINT32_MAX, &number) || !time_of(one, "at", &attempt->at_ns))
            continue;
        attempt->n = (uint32_t)number;
        number_of(one, "ms", UINT64_MAX, &attempt->ms);
        text_of(one, "member", attempt->member, sizeof attempt->member);
        text_of(one, "cause", attempt->cause, sizeof attempt->cause);
        text_of(one, "error", attempt->error, sizeof attempt->error);
        n++;
    }
    return n;
}
