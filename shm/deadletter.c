/* deadletter.c: the record of an event that a group could not handle.
 *
 *   order    the entry's word says DEAD (so no crash runs it again); the letter is committed; the word moves on
 *
 * A crash between the last two publishes it twice, with the same deadLetterId: whoever reads the letters keeps one [P10]. The log
 * of dead letters releases nothing: when it is full the entry stays DEAD, holds its key, and is tried again later.
 * The letter holds the event's payload byte for byte. Checked by tests/unit/test_deadletter.c. */
#include "deadletter.h"

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

#define NOTES_MAX      (PENDING_ATTEMPTS_MAX + 1) /* an attempt each, and why the next was not made */
#define ATTEMPTS_BYTES 8192 /* a letter has room for them beside the largest event; of more, the newest are shown */

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

static void add_attempts(struct memory *memory, const struct deadletter *letter, struct text *text)
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
        if (measured.len > ATTEMPTS_BYTES && n_shown > 0)
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
    if (why[0] != '\0') {
        add(text, ",\"error\":", 9);
        add_string(text, why);
    }
    text->failed = text->failed || notes == NULL || measured.failed;
    free(measured.bytes);
    free(notes);
}

static void add_event(const struct deadletter *letter, struct text *text)
{
    struct evbus_delivery delivery = {
        .topic = letter->topic,
        .timestamp_ns = letter->event->timestamp_ns,
        .version_major = letter->event->major,
        .version_minor = letter->event->minor,
        .payload = letter->event->payload,
        .payload_len = letter->event->payload_len,
    };
    memcpy(delivery.id, letter->event->id, sizeof delivery.id);
    size_t len = evbus_envelope_format(&delivery, NULL, 0);
    char *envelope = malloc(len);
    text->failed = text->failed || envelope == NULL;
    if (envelope != NULL) {
        evbus_envelope_format(&delivery, envelope, len);
        add(text, envelope, len);
        free(envelope);
    }
}

int deadletter_publish(struct memory *memory, struct claim *claim, const struct deadletter *letter, struct error *err)
{
    struct memory_log *log = memory_internal_log(memory, MEMORY_DLQ_LOG);
    struct text text = {0};
    uint8_t id[16];
    char id_text[37];
    if (log == NULL)
        return error_set(err, EVBUS_ECORRUPT, "bus %s has lost its log of dead letters; run `evbus doctor`",
                         memory->bus);
    deadletter_id(memory, letter, id);
    uuid7_format(id, id_text);
    addf(&text, "{\"deadLetterId\":\"%s\",\"group\":\"%s\",\"topic\":\"%s\",\"log\":\"%s\",", id_text,
         letter->group_name, letter->topic, letter->log);
    addf(&text, "\"partition\":%u,\"position\":\"%" PRIu64 "\",\"cause\":\"%s\",\"attempts\":", letter->partition,
         letter->position, pending_cause_name(letter->cause));
    add_attempts(memory, letter, &text);
    add(&text, ",\"event\":", 9);
    add_event(letter, &text);
    add(&text, "}", 1);
    struct frame frame = {
        .kind = FRAME_DEAD,
        .timestamp_ns = clock_wall_ns(),
        .topic = (uint16_t)(letter->topic_id),
        .key_hash = letter->event->key_hash,
        .key = letter->event->key,
        .key_len = letter->event->key_len,
        .major = 1,
        .payload = text.bytes,
        .payload_len = (uint32_t)text.len,
    };
    memcpy(frame.id, id, sizeof frame.id);
    uint32_t n_cells = frame_cells(frame.key_len, 0, text.len);
    uint64_t *buffer = text.failed ? NULL : malloc((size_t)n_cells * CELL_BYTES);
    int rc;
    uint64_t pos;
    if (buffer == NULL) {
        rc = error_no_memory(err, "a dead letter");
    } else if (n_cells == 0 || n_cells > log->rings[0].frame_cells_max) {
        rc = error_set(err, EVBUS_EINVAL, "a dead letter of %zu bytes fits no frame of %s", text.len, log->name);
    } else {
        frame_build(&frame, buffer);
        rc = partition_append(&log->rings[0], claim, buffer, n_cells, (struct partition_wait){0}, &pos, err);
    }
    if (rc == EVBUS_OK) {
        struct topic_set topics = {{0}};
        topic_set_add(&topics, letter->topic_id);
        partition_wake(memory, log, &log->rings[0], &topics, pos);
    }
    free(buffer);
    free(text.bytes);
    return rc;
}
