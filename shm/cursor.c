/* cursor.c: read on in one partition.
 *
 *     stamped at pos, wanted, in the ring  -> cursor_next_stamped(): copy all of it, then one check of both copies, parse. Where anything
 *                                             is otherwise, as if it had not been looked at:
 *     stamped at pos?  -> copy the header, check; unwanted: step over it; wanted: copy the rest, check, parse
 *     else, now and then, before sleeping, and near the ring's end, where a pad may be: the word
 *         COMMITTED (its writer died before the stamp)   as stamped
 *         PAD, CANCELLED                                 step over it
 *         CLAIMED by the dead                            PAD it
 *         CLAIMED for longer than its patience           cancel it
 *         overtaken                                      go on in the files, at the same position, until the ring has it;
 *                                                        without a journal: count what is lost, go on at `released`
 *         anything else                                  EVBUS_ECORRUPT, go on at the next whole frame
 *
 * Of a log that shows what is on disk nothing is given out at or behind `synced`, in the ring as in the files [J6]. What was retired from
 * the files is counted as lost, what is damaged there is told with its position; files that cannot be read now are tried again.
 * So a reader waits for nobody longer than that patience [keeps PROGRESS] and gives out only bytes that were checked after
 * they were copied [keeps NEVER-TORN]. A pin moves after the copy: what is given out lies in private memory.
 * Rules R4 R10 R12 R19. Checked by tests/unit/test_reader.c, test_corrupt.c and tests/crash/. */
#include "cursor.h"

#include "clock.h"
#include "slot.h"

#include <inttypes.h>
#include <string.h>

/* A pad fills the last cells of the ring where the next frame did not fit; frames are mostly shorter than this. */
#define NEAR_END   32
#define SKIP_MAX   1024 /* frames that nobody wants, before we ask how far they go */
#define SKIP_AHEAD 8    /* of them: how far ahead a header's line is asked for */

#define BACK_EVERY 64 /* frames in the files, before we ask whether the ring has the next one */
#define UNWANTED_MAX \
    16384 /* frames there that nobody wants, before others have their turn: a member must say that it lives */
#define RETRY_NS CLOCK_NS_PER_S /* until files that cannot be read are tried again */

static inline void move_to(struct cursor *cursor, uint64_t pos)
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

/* Behind what is damaged in the files. */
static enum cursor_found corrupt_past(struct cursor *cursor, uint64_t next, const char *what, struct error *err)
{
    uint64_t pos = cursor_pos(cursor);
    error_set(err, EVBUS_ECORRUPT, "%s/%u at %" PRIu64 ": %s", cursor->ring->name, cursor->ring->partition, pos, what);
    cursor->lost += next - pos;
    move_to(cursor, next);
    return CURSOR_CORRUPT;
}

/* Does it give this frame out? */
static inline bool is_asked_for(const struct cursor *cursor, const struct frame_header *header)
{
    return (header->kind == FRAME_EVENT || header->kind == FRAME_DEAD) && cursor_wants(cursor, header->topic) &&
           header->timestamp_ns >= cursor->from_time_ns;
}

/* A committed frame at pos: step over it, or give it out. */
static enum ring_seen take(struct cursor *cursor, uint64_t pos, uint64_t *buffer, bool *out_is_wanted)
{
    struct frame_header *header = (struct frame_header *)buffer;
    enum ring_seen seen = ring_copy_header(cursor->ring, pos, header);
    if (seen != RING_COMMITTED)
        return seen;
    *out_is_wanted = is_asked_for(cursor, header);
    return *out_is_wanted ? ring_copy_rest(cursor->ring, pos, buffer) : seen;
}

/* A frame in the files: step over it, or give it out. */
static enum cursor_found take_past(struct cursor *cursor, const uint64_t *from, uint64_t next, uint64_t *buffer,
                                   struct frame *out_frame, struct error *err)
{
    const struct frame_header *header = (const struct frame_header *)from;
    bool is_wanted = is_asked_for(cursor, header);
    if (is_wanted && header->n_cells > cursor->ring->frame_cells_max)
        return corrupt_past(cursor, next, "a frame that is larger than the bus's rings", err);
    if (is_wanted) {
        memcpy(buffer, from, (size_t)header->n_cells * CELL_BYTES);
        if (frame_parse(buffer, out_frame, err) != EVBUS_OK) {
            struct error found = *err;
            return corrupt_past(cursor, next, found.text, err);
        }
        cursor->from_time_ns = 0;
    }
    move_to(cursor, next);
    return is_wanted ? CURSOR_EVENT : CURSOR_NOTHING;
}

/* The files cannot be read now. */
static enum cursor_found fail(struct cursor *cursor)
{
    atomic_store_explicit(&cursor->retry_ns, clock_mono_ns() + RETRY_NS, memory_order_relaxed);
    return CURSOR_FAILED;
}

/* How long until they are tried again? */
static uint64_t until_retry(const struct cursor *cursor)
{
    uint64_t retry = atomic_load_explicit(&cursor->retry_ns, memory_order_relaxed);
    uint64_t now = retry != 0 ? clock_mono_ns() : 0;
    return now < retry ? retry - now : 0;
}

/* The next wanted event in the files. CURSOR_NOTHING: the ring has what comes next, or nobody has it yet; or, where *out_wait_ns is 0,
 * there is more to look at. */
static enum cursor_found next_in_past(struct cursor *cursor, uint64_t *buffer, struct frame *out_frame,
                                      uint64_t *out_wait_ns, struct error *err)
{
    struct ring *ring = cursor->ring;
    for (unsigned n = 1;; n++) {
        const uint64_t *frame;
        uint64_t pos = cursor_pos(cursor);
        uint64_t next = pos;
        if (n % BACK_EVERY == 0 && ring_released(ring) <= pos)
            break;
        if (n > UNWANTED_MAX) {
            *out_wait_ns = 0;
            return CURSOR_NOTHING;
        }
        int seen = partition_past_read(cursor->past, pos, &frame, &next, err);
        if (seen == JOURNAL_FRAME) {
            enum cursor_found found = take_past(cursor, frame, next, buffer, out_frame, err);
            if (found != CURSOR_NOTHING)
                return found;
        } else if (seen == JOURNAL_SKIP) {
            move_to(cursor, next);
        } else if (seen == JOURNAL_GONE) {
            cursor->lost += next - pos;
            move_to(cursor, next);
        } else if (seen == JOURNAL_DAMAGED) {
            struct error found = *err;
            return corrupt_past(cursor, next > pos ? next : pos + 1, found.text, err);
        } else if (seen == JOURNAL_END) {
            break;
        } else {
            return fail(cursor);
        }
    }
    cursor_close(cursor); /* back in the ring */
    return CURSOR_NOTHING;
}

void cursor_close(struct cursor *cursor)
{
    partition_past_close(cursor->past);
    cursor->past = NULL;
}

/* Overtaken: where it goes on. */
static enum cursor_found go_on(struct cursor *cursor, uint64_t pos, struct error *err)
{
    struct ring *ring = cursor->ring;
    if (ring->has_journal)
        return partition_past_open(&cursor->past, cursor->memory, ring, err) == EVBUS_OK ? CURSOR_NOTHING
                                                                                         : fail(cursor);
    uint64_t next = ring_behind_overtaken(ring, ++cursor->n_overtaken);
    if (next > ring_tail(ring))
        return corrupt(cursor, pos, "released lies beyond the tail", err);
    cursor->lost += next - pos;
    move_to(cursor, next);
    return CURSOR_NOTHING;
}

/* Is the position on disk, in a log whose readers see nothing else? */
static bool is_shown(struct cursor *cursor, uint64_t pos)
{
    if (pos >= cursor->shown)
        cursor->shown = ring_synced(cursor->ring); /* edge SYNC, to: its readers */
    return pos < cursor->shown;
}

/* The event at pos is in the buffer. */
static inline enum cursor_found give_out(struct cursor *cursor, uint64_t pos, const uint64_t *buffer)
{
    cursor->n_overtaken = 0;
    cursor->from_time_ns = 0;
    move_to(cursor, pos + ((const struct frame_header *)buffer)->n_cells);
    return CURSOR_EVENT;
}

/* Wherever and whatever it is. */
static __attribute__((noinline)) enum cursor_found look_on(struct cursor *cursor, uint64_t *buffer, bool look,
                                                           struct frame *out_frame, uint64_t *out_wait_ns,
                                                           struct error *err)
{
    struct ring *ring = cursor->ring;
    uint64_t limit = UINT64_MAX;
    if (atomic_load_explicit(&cursor->retry_ns, memory_order_relaxed) != 0) {
        uint64_t pause_ns = until_retry(cursor);
        if (*out_wait_ns > pause_ns && pause_ns != 0)
            *out_wait_ns = pause_ns;
        if (pause_ns != 0)
            return CURSOR_NOTHING;
        atomic_store_explicit(&cursor->retry_ns, 0, memory_order_relaxed);
    }
    for (unsigned n_skipped = 0;; n_skipped++) {
        if (cursor->past != NULL) {
            enum cursor_found found = next_in_past(cursor, buffer, out_frame, out_wait_ns, err);
            if (found != CURSOR_NOTHING || cursor->past != NULL)
                return found;
        }
        uint64_t pos = cursor_pos(cursor);
        if (n_skipped == SKIP_MAX) /* producers may be faster than we skip: no further than they are now */
            limit = ring_tail(ring);
        if (pos >= limit || (ring->is_visible_synced && !is_shown(cursor, pos)))
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
            enum cursor_found found = go_on(cursor, pos, err);
            if (found != CURSOR_NOTHING)
                return found;
            continue;
        }
        case RING_CORRUPT:
            return corrupt(cursor, pos, "no evbus wrote this word or header", err);
        case RING_COMMITTED:
            break;
        }
        cursor->n_overtaken = 0;
        if (is_wanted && frame_parse(buffer, out_frame, err) != EVBUS_OK) {
            struct error found = *err;
            return corrupt(cursor, pos, found.text, err);
        }
        if (is_wanted)
            return give_out(cursor, pos, buffer);
        uint32_t n_cells = ((const struct frame_header *)buffer)->n_cells;
        if (n_skipped >= SKIP_AHEAD) /* not at once: near the tail those lines are a producer's */
            ring_prefetch(ring, pos + SKIP_AHEAD * n_cells);
        move_to(cursor, pos + n_cells);
    }
}

bool cursor_next_stamped(struct cursor *cursor, uint64_t *buffer, struct frame *out_frame)
{
    const struct ring *ring = cursor->ring;
    const struct frame_header *header = (const struct frame_header *)buffer;
    uint64_t pos = cursor_pos(cursor);
    if (atomic_load_explicit(&cursor->retry_ns, memory_order_relaxed) != 0 || cursor->past != NULL ||
        ring->is_visible_synced || !ring_is_stamped(ring, pos))
        return false;
    ring_load(ring, pos, 0, 1, buffer);
    if (header->position != pos || !ring_is_length(ring, pos, header->n_cells) || !is_asked_for(cursor, header))
        return false; /* or it was overwritten just now */
    ring_load(ring, pos, 1, header->n_cells, buffer);
    if (ring_is_overtaken(ring, pos) || frame_parse(buffer, out_frame, NULL) != EVBUS_OK)
        return false;
    give_out(cursor, pos, buffer);
    return true;
}

enum cursor_found cursor_next(struct cursor *cursor, uint64_t *buffer, bool look, struct frame *out_frame,
                              uint64_t *out_wait_ns, struct error *err)
{
    if (cursor_next_stamped(cursor, buffer, out_frame))
        return CURSOR_EVENT;
    return look_on(cursor, buffer, look, out_frame, out_wait_ns, err);
}

bool cursor_is_quiet(const struct cursor *cursor)
{
    const struct ring *ring = cursor->ring;
    uint64_t pos = cursor_pos(cursor);
    return cursor->past == NULL && !ring_is_stamped(ring, pos) && ring->capacity - ring_index(ring, pos) > NEAR_END;
}

bool cursor_is_ready(const struct cursor *cursor)
{
    uint64_t word;
    const struct ring *ring = cursor->ring;
    uint64_t pos = cursor_pos(cursor);
    if (!ring_is_visible(ring, pos) || until_retry(cursor) != 0)
        return false;
    return ring_is_stamped(ring, pos) || ring_look(ring, pos, &word) != RING_NOTHING;
}
