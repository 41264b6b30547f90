/* deadletter.c: the record of an event that a group could not handle.
 *
 *   order    the entry's word says DEAD (so no crash runs it again); the letter is committed; the word moves on
 *
 * A crash between the last two publishes it twice, with the same deadLetterId: whoever reads the letters keeps one [P10]. The log
 * of dead letters releases nothing: when it is full the entry stays DEAD, holds its key, and is tried again later.
 * No power cut loses one: a state of the groups that says of an event that it is done with is written after the journals are synced that
 * had the letter before the word moved on [J3]; with an older state the entry is there, and dies once more. So nobody waits for the
 * disk here, and the letter has at least the ack level of its event's log.
 * The letter holds the event's payloads byte for byte, and its header area what is needed for a replay (area.h). An event that dies in a
 * replay is a letter of the same id, whose source is where it stood first: what belongs to one event and group is one letter's story.
 * Checked by tests/unit/test_deadletter.c. */
#include "deadletter.h"

#include "area.h"
#include "clock.h"
#include "doorbell.h"
#include "envelope.h"
#include "notes.h"
#include "partition.h"
#include "uuid7.h"

#include <evbus/evbus.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define NOTES_MAX (PENDING_ATTEMPTS_MAX + 1) /* an attempt each, and why the next was not made */
/* A letter has 8 KiB beside its event (catalogue.c: frame_extra), of which its other members and eight versions take less than 2. Of
 * more attempts the newest are shown. */
#define ATTEMPTS_BYTES 6144

void deadletter_id(const struct memory *memory, const struct deadletter *letter, uint8_t out_id[16])
{
    char text[SERVICE_BYTES + NAME_BYTES + 96];
    char uuid[37];
    uuid7_format(memory->control->uuid, uuid);
    int len = snprintf(text, sizeof text, "%s/%s/%s/%u/%" PRIu64, uuid, letter->group_name, letter->log,
                       letter->partition, letter->position);
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(text, (size_t)len));
    memcpy(out_id, hash.digest, 16);
    out_id[6] = (uint8_t)((out_id[6] & 0x0f) | 0x80); /* version 8 */
    out_id[8] = (uint8_t)((out_id[8] & 0x3f) | 0x80);
}

/* A text that grows; `failed` once memory is out. */
struct text {
    char *bytes;
    size_t len;
    size_t cap;
    bool failed;
};

static void add(struct text *text, const char *bytes, size_t len)
{
    if (!text->failed && text->len + len > text->cap) {
        size_t cap = (text->len + len) * 2 + 256;
        char *more = realloc(text->bytes, cap);
        text->failed = more == NULL;
        if (more != NULL) {
            text->bytes = more;
            text->cap = cap;
        }
    }
    if (text->failed)
        return;
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
}

__attribute__((format(printf, 2, 3))) static void addf(struct text *text, const char *format, ...)
{
    char piece[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    add(text, piece, n < (int)sizeof piece ? (size_t)n : sizeof piece - 1);
}

/* A JSON string; bytes that are no part of one become "?". */
static void add_string(struct text *text, const char *from)
{
    add(text, "\"", 1);
    for (; *from != '\0'; from++) {
        unsigned char c = (unsigned char)*from;
        if (c == '"' || c == '\\')
            addf(text, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            addf(text, "\\u%04x", c);
        else
            add(text, from, 1);
    }
    add(text, "\"", 1);
}

static void add_attempt(struct text *text, const struct note *note)
{
    char at[32];
    envelope_time_format(note->at_ns, at);
    addf(text, "{\"n\":%u,\"at\":\"%s\",\"member\":", note->attempt, at);
    add_string(text, note->member);
    addf(text, ",\"ms\":%" PRIu64 ",\"cause\":\"%s\",\"error\":", note->took_ns / CLOCK_NS_PER_MS,
         pending_cause_name(note->cause));
    add_string(text, note->error);
    add(text, "}", 1);
}

/* room: for them, in bytes. The newest is shown in any case where there is all of it. */
static void add_attempts(struct memory *memory, const struct deadletter *letter, size_t room, struct text *text)
{
    struct note *notes = calloc(NOTES_MAX, sizeof *notes);
    uint32_t n = notes != NULL ? notes_read(memory, letter->note, letter->event->id, notes, NOTES_MAX) : 0;
    uint32_t n_shown = 0;
    struct text measured = {0};
    uint32_t n_attempts = 0;
    char why[NOTES_TEXT_MAX + 1] = "";
    if (n > 0 && notes[0].attempt == 0)
        memcpy(why, notes[0].error, sizeof why);
    add_string(&measured, why);
    for (uint32_t i = 0; i < n; i++) /* why no handler got it is no attempt: the letter itself says it */
        if (notes[i].attempt != 0)
            notes[n_attempts++] = notes[i];
    while (n_shown < n_attempts && !measured.failed) { /* the newest first */
        add_attempt(&measured, &notes[n_shown]);
        if (measured.len > room && (n_shown > 0 || room < ATTEMPTS_BYTES))
            break;
        n_shown++;
    }
    add(text, "[", 1);
    for (uint32_t i = n_shown; i-- > 0;) {
        add_attempt(text, &notes[i]);
        if (i > 0)
            add(text, ",", 1);
    }
    add(text, "]", 1);
    if (why[0] != '\0' && (measured.len <= room || room == ATTEMPTS_BYTES)) {
        add(text, ",\"error\":", 9);
        add_string(text, why);
    }
    text->failed = text->failed || notes == NULL || measured.failed;
    free(measured.bytes);
    free(notes);
}

/* The lowest version, then the others: verbatim, so that a replay has all that was published. */
static void add_event(const struct deadletter *letter, struct text *text)
{
    const struct frame *event = letter->event;
    struct frame_version versions[FRAME_VERSIONS_MAX];
    char id[37];
    char at[32];
    unsigned n_more = 0;
    uuid7_format(event->id, id);
    envelope_time_format(event->timestamp_ns, at);
    addf(text, ",\"event\":{\"eventId\":\"%s\",\"eventType\":\"%s\",\"timestamp\":\"%s\",", id, letter->topic, at);
    addf(text, "\"version\":\"%u.%u\",\"payload\":", event->major, event->minor);
    add(text, event->payload, event->payload_len);
    add(text, "}", 1);
    unsigned n = event->n_versions > 1 ? frame_versions(event, versions) : 0;
    for (unsigned i = 0; i < n; i++) {
        if (versions[i].payload == event->payload)
            continue;
        addf(text, "%s{\"version\":\"%u.%u\",\"payload\":", n_more++ == 0 ? ",\"versions\":[" : ",", versions[i].major,
             versions[i].minor);
        add(text, versions[i].payload, versions[i].len);
        add(text, "}", 1);
    }
    if (n_more > 0)
        add(text, "]", 1);
}

static void add_letter(struct memory *memory, const struct deadletter *letter, const uint8_t id[16], size_t room,
                       struct text *text)
{
    char id_text[37];
    uuid7_format(id, id_text);
    addf(text, "{\"deadLetterId\":\"%s\",\"group\":\"%s\",\"topic\":\"%s\",", id_text, letter->group_name,
         letter->topic);
    if (letter->stream != NULL) {
        add(text, "\"stream\":", 9);
        add_string(text, letter->stream);
        add(text, ",\"entry\":", 9);
        add_string(text, letter->stream_entry);
    } else {
        addf(text, "\"log\":\"%s\",\"partition\":%u,\"position\":\"%" PRIu64 "\"", letter->log, letter->partition,
             letter->position);
    }
    addf(text, ",\"cause\":\"%s\",", pending_cause_name(letter->cause));
    if (letter->n_replays > 0)
        addf(text, "\"replayed\":%u,", letter->n_replays);
    add(text, "\"attempts\":", 11);
    add_attempts(memory, letter, room, text);
    add_event(letter, text);
    add(text, "}", 1);
}

void deadletter_area(const struct deadletter *letter, const uint8_t id[16], struct area *out)
{
    struct area_source source = {
        .position = letter->position, .partition = letter->partition, .n_replays = letter->n_replays};
    memcpy(source.letter, id, sizeof source.letter);
    snprintf(source.log, sizeof source.log, "%s", letter->log);
    out->len = 0;
    area_add(out, AREA_SOURCE, &source, sizeof source);
    if (letter->topic[0] != '\0')
        area_add(out, AREA_TOPIC, letter->topic, strlen(letter->topic));
}

int deadletter_publish(struct memory *memory, struct claim *claim, const struct deadletter *letter, struct error *err)
{
    struct memory_log *log = memory_internal_log(memory, MEMORY_DLQ_LOG);
    struct text text = {0};
    struct area area;
    uint8_t id[16];
    if (log == NULL)
        return error_set(err, EVBUS_ECORRUPT, "bus %s has lost its log of dead letters; run `evbus doctor`",
                         memory->bus);
    deadletter_id(memory, letter, id);
    deadletter_area(letter, id, &area);
    struct area_death death = {
        .note = letter->note, .position = letter->entry, .timestamp_ns = letter->event->timestamp_ns};
    area_add(&area, AREA_DEATH, &death, sizeof death);
    area_add_own(&area, letter->event);              /* of what evbus publishes all fits */
    for (size_t room = ATTEMPTS_BYTES;; room /= 4) { /* a ring of a test has less than 8 KiB: then it says less */
        text.len = 0;
        add_letter(memory, letter, id, room, &text);
        uint32_t n = frame_cells(letter->event->key_len, area.len, text.len);
        if (room == 0 || text.failed || (n != 0 && n <= log->rings[0].frame_cells_max))
            break;
    }
    struct frame frame = {
        .kind = FRAME_DEAD,
        .timestamp_ns = clock_wall_ns(),
        .publisher = letter->event->publisher, /* a replay is from him, too */
        .topic = (uint16_t)(letter->topic_id),
        .key_hash = letter->event->key_hash,
        .key = letter->event->key,
        .key_len = letter->event->key_len,
        .area = area.bytes,
        .area_len = (uint16_t)area.len,
        .major = 1,
        .payload = text.bytes,
        .payload_len = (uint32_t)text.len,
    };
    memcpy(frame.id, id, sizeof frame.id);
    uint32_t n_cells = frame_cells(frame.key_len, area.len, text.len);
    uint64_t *buffer = text.failed ? NULL : malloc((size_t)n_cells * CELL_BYTES);
    int rc;
    uint64_t pos;
    if (buffer == NULL) {
        rc = error_no_memory(err, "a dead letter");
    } else if (n_cells == 0 || n_cells > log->rings[0].frame_cells_max) {
        rc = error_set(err, EVBUS_EINVAL, "a dead letter of %zu bytes fits no frame of %s", text.len, log->name);
    } else {
        frame_build(&frame, buffer);
        rc = partition_append(&log->rings[0], claim, buffer, n_cells, &(struct partition_wait){0}, &pos, err);
    }
    if (rc == EVBUS_OK)
        partition_wake(memory, log, &log->rings[0], letter->topic_id, pos);
    free(buffer);
    free(text.bytes);
    return rc;
}
