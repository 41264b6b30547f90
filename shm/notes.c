/* notes.c: what happened to an event, kept for dead letters and whoever asks why.
 *
 * A note is a frame of kind NOTE in the bus's own log <namespace>.evbus, published before its entry's word says WAIT, and chained:
 * the entry's side field holds the position of the newest, each note that of the one before. Without a journal the ring
 * may overwrite old notes; a dead letter then says less, never something wrong: what is read is checked like any frame, and must
 * be a note of the same event. Checked by tests/unit/test_notes.c. */
#include "notes.h"

#include "clock.h"
#include "frame.h"
#include "partition.h"

#include <stdlib.h>
#include <string.h>

/* A note's payload, little-endian as all frames. It is read by evbus alone: `evbus why` shows it. */
struct note_payload {
    uint64_t before; /* position + 1 of the event's note before; 0: none */
    uint64_t took_ns;
    uint64_t position;
    uint32_t partition;
    uint32_t attempt;
    uint32_t cause;
    uint32_t slot;
    char member[SERVICE_BYTES];
    char group[SERVICE_BYTES];
    char log[NAME_BYTES];
    char error[NOTES_TEXT_MAX];
};
static_assert(offsetof(struct note_payload, error) == 296, "format 1: nothing stands between its fields");

uint64_t notes_add(struct memory *memory, struct claim *claim, const struct note *note, const uint8_t event_id[16],
                   uint64_t before)
{
    struct memory_log *log = memory_internal_log(memory, MEMORY_NOTES_LOG);
    if (log == NULL)
        return before;
    struct note_payload payload = {
        .before = before,
        .took_ns = note->took_ns,
        .position = note->position,
        .partition = note->partition,
        .attempt = note->attempt,
        .cause = (uint32_t)note->cause,
        .slot = note->slot,
    };
    memcpy(payload.member, note->member, sizeof payload.member);
    memcpy(payload.group, note->group, sizeof payload.group);
    memcpy(payload.log, note->log, sizeof payload.log);
    size_t error_len = strnlen(note->error, NOTES_TEXT_MAX);
    memcpy(payload.error, note->error, error_len);
    struct frame frame = {
        .kind = FRAME_NOTE,
        .timestamp_ns = note->at_ns,
        .topic = MEMORY_NOTES_TOPIC,
        .major = 1,
        .payload = &payload,
        .payload_len = (uint32_t)(offsetof(struct note_payload, error) + error_len),
    };
    memcpy(frame.id, event_id, sizeof frame.id);
    uint64_t buffer[16 * CELL_WORDS];
    uint64_t pos;
    uint32_t n_cells = frame_cells(0, 0, frame.payload_len);
    if (n_cells > log->rings[0].frame_cells_max)
        return before;
    frame_build(&frame, buffer);
    int rc = partition_append(&log->rings[0], claim, buffer, n_cells, &(struct partition_wait){0}, &pos, NULL);
    return rc == EVBUS_OK ? pos + 1 : before;
}

bool notes_parse(const struct frame *frame, struct note *out_note, uint64_t *out_before)
{
    struct note_payload payload = {0};
    if (frame->kind != FRAME_NOTE || frame->payload_len < offsetof(struct note_payload, error) ||
        frame->payload_len > sizeof payload)
        return false;
    memcpy(&payload, frame->payload, frame->payload_len);
    *out_note = (struct note){
        .partition = payload.partition,
        .position = payload.position,
        .attempt = payload.attempt,
        .cause = (enum pending_cause)payload.cause,
        .at_ns = frame->timestamp_ns,
        .took_ns = payload.took_ns,
        .slot = payload.slot,
    };
    memcpy(out_note->group, payload.group, sizeof out_note->group - 1);
    memcpy(out_note->log, payload.log, sizeof out_note->log - 1);
    memcpy(out_note->member, payload.member, sizeof out_note->member - 1);
    memcpy(out_note->error, payload.error, sizeof out_note->error - 1);
    *out_before = payload.before;
    return true;
}

uint32_t notes_read(struct memory *memory, uint64_t last, const uint8_t event_id[16], struct note *out_notes,
                    uint32_t n)
{
    struct memory_log *log = memory_internal_log(memory, MEMORY_NOTES_LOG);
    struct partition_past *past = NULL;
    uint64_t *buffer = log != NULL ? malloc((size_t)log->rings[0].frame_cells_max * CELL_BYTES) : NULL;
    uint32_t n_read = 0;
    while (buffer != NULL && last != 0 && n_read < n) {
        uint64_t next;
        struct frame frame;
        uint64_t before;
        if (partition_fetch(&past, memory, &log->rings[0], last - 1, buffer, &next, NULL) != PARTITION_FRAME ||
            frame_parse(buffer, &frame, NULL) != EVBUS_OK || memcmp(frame.id, event_id, sizeof frame.id) != 0 ||
            !notes_parse(&frame, &out_notes[n_read], &before))
            break;
        n_read++;
        if (before >= last) /* a chain goes backwards */
            break;
        last = before;
    }
    partition_past_close(past);
    free(buffer);
    return n_read;
}
