/* cursor.c: read on in one partition.
 *
 *     stamped at pos?  -> copy the header, check; unwanted: step over it; wanted: copy the rest, check, parse
 *     else, now and then, before sleeping, and near the ring's end, where a pad may be: the word
 *         COMMITTED (its writer died before the stamp)   as stamped
 *         PAD, CANCELLED                                 step over it
 *         CLAIMED by the dead                            PAD it
 *         CLAIMED for longer than its patience           cancel it
 *         overtaken                                      count what is lost, go on at `released`
 *         anything else                                  EVBUS_ECORRUPT, go on at the next whole frame
 *
 * So a reader waits for nobody longer than that patience [keeps PROGRESS] and gives out only bytes that were checked after
 * they were copied [keeps NEVER-TORN]. A pin moves after the copy: what is given out lies in private memory.
 * Rules R4 R10 R12 R19. Checked by tests/unit/test_reader.c, test_corrupt.c and tests/crash/. */
#include "cursor.h"

#include "clock.h"
#include "slot.h"

#include <inttypes.h>

/* A pad fills the last cells of the ring where the next frame did not fit; frames are mostly shorter than this. */
#define NEAR_END 32
#define SKIP_MAX 1024 /* frames that nobody wants, before we ask how far they go */

static void move_to(struct cursor *cursor, uint64_t pos)
{
    atomic_store_explicit(&cursor->pos, pos, memory_order_relaxed);
    if (cursor->pin != CURSOR_NO_PIN)
        ring_pin_move(cursor->ring, cursor->pin, pos, false);
}

static enum cursor_found corrupt(struct cursor *cursor, uint64_t pos, const char *what, struct error *err)
{
    error_set(err, EVBUS_ECORRUPT, "%s/%u at %" PRIu64 ": %s; run `evbus doctor`", cursor->ring->name,
              cursor->ring->partition, pos, what);
    uint64_t next = ring_resync(cursor->ring, pos);
    if (next > pos)
        cursor->lost += next - pos;
    move_to(cursor, next);
    return CURSOR_CORRUPT;
}

/* A committed frame at pos: step over it, or give it out. */
static enum ring_seen take(struct cursor *cursor, uint64_t pos, uint64_t *buffer, bool *out_is_wanted)
{
    struct frame_header *header = (struct frame_header *)buffer;
    enum ring_seen seen = ring_copy_header(cursor->ring, pos, header);
    if (seen != RING_COMMITTED)
        return seen;
    *out_is_wanted = (header->kind == FRAME_EVENT || header->kind == FRAME_DEAD) &&
                     cursor_wants(cursor, header->topic) && header->timestamp_ns >= cursor->from_time_ns;
    return *out_is_wanted ? ring_copy_rest(cursor->ring, pos, buffer) : seen;
}

enum cursor_found cursor_next(struct cursor *cursor, uint64_t *buffer, bool look, struct frame *out_frame,
                              uint64_t *out_wait_ns, struct error *err)
{
    struct ring *ring = cursor->ring;
    uint64_t limit = UINT64_MAX;
    for (unsigned n_skipped = 0;; n_skipped++) {
        uint64_t pos = cursor_pos(cursor);
        if (n_skipped == SKIP_MAX) /* producers may be faster than we skip: no further than they are now */
            limit = ring_tail(ring);
        if (pos >= limit)
            return CURSOR_NOTHING;
        enum ring_seen seen = RING_COMMITTED;
        uint64_t word = 0;
        if (!ring_is_stamped(ring, pos)) {
            if (!look && ring->capacity - ring_index(ring, pos) > NEAR_END)
                return CURSOR_NOTHING;
            seen = ring_look(ring, pos, &word);
        }
        bool is_wanted = false;
        if (seen == RING_COMMITTED)
            seen = take(cursor, pos, buffer, &is_wanted);
        switch (seen) {
        case RING_NOTHING:
            return CURSOR_NOTHING;
        case RING_CLAIMED:
            if (ring_clear_claim(ring, pos, word, &cursor->blocked, out_wait_ns) == RING_BLOCKED)
                return CURSOR_NOTHING;
            continue;
        case RING_SKIP:
            move_to(cursor, pos + word_cells(word));
            continue;
        case RING_OVERTAKEN: {
            uint64_t next = ring_behind_overtaken(ring, ++cursor->n_overtaken);
            if (next > ring_tail(ring))
                return corrupt(cursor, pos, "released lies beyond the tail", err);
            cursor->lost += next - pos;
            move_to(cursor, next);
            continue;
        }
        case RING_CORRUPT:
            return corrupt(cursor, pos, "no evbus wrote this word or header", err);
        case RING_COMMITTED:
            break;
        }
        cursor->n_overtaken = 0;
        uint32_t n_cells = ((const struct frame_header *)buffer)->n_cells;
        if (is_wanted && frame_parse(buffer, out_frame, err) != EVBUS_OK) {
            struct error found = *err;
            return corrupt(cursor, pos, found.text, err);
        }
        if (is_wanted)
            cursor->from_time_ns = 0;
        move_to(cursor, pos + n_cells);
        if (is_wanted)
            return CURSOR_EVENT;
    }
}

bool cursor_is_ready(const struct cursor *cursor)
{
    uint64_t word;
    uint64_t pos = cursor_pos(cursor);
    return ring_is_stamped(cursor->ring, pos) || ring_look(cursor->ring, pos, &word) != RING_NOTHING;
}
