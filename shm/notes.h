/* notes.h: what happened to an event, kept for dead letters and whoever asks why. See notes.c. */
#ifndef EVBUS_NOTES_H
#define EVBUS_NOTES_H

#include "frame.h"
#include "memory.h"
#include "pending.h"

#define NOTES_TEXT_MAX 512 /* bytes of a handler's error text */

/* One attempt that ended badly: whose, of which event. */
struct note {
    char group[SERVICE_BYTES];
    char log[NAME_BYTES]; /* where the event stands */
    uint32_t partition;
    uint64_t position;
    uint32_t attempt;
    enum pending_cause cause;
    uint64_t at_ns; /* wall clock */
    uint64_t took_ns;
    uint32_t slot; /* the member's thread */
    char member[SERVICE_BYTES];
    char error[NOTES_TEXT_MAX + 1];
};

/* Publishes it on <namespace>.evbus.notes, chained to the event's note before. Returns its position + 1, or `before` when there
 * is no room for it now: a note is never worth an event. */
uint64_t notes_add(struct memory *memory, struct claim *claim, const struct note *note, const uint8_t event_id[16],
                   uint64_t before);

/* Reads back up to n notes, the newest first, from position + 1 `last` on: as long as they are kept. Returns how many. */
uint32_t notes_read(struct memory *memory, uint64_t last, const uint8_t event_id[16], struct note *out_notes,
                    uint32_t n);

/* What a note's frame says; before: position + 1 of the one before. false: it is none. */
bool notes_parse(const struct frame *frame, struct note *out_note, uint64_t *out_before);

#endif
