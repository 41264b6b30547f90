/* copier.c: what stands in a ring, or stood there, as it is to stand in a file.
 *
 *     word decided: COMMITTED             copied, then `released` is looked at, then sealed
 *                   PAD, CANCELLED        a pad of its length
 *                   damaged               a gap
 *     the ring has it no more             read back from the file in which it was appended before it was synced; lost there, too: a gap,
 *                                         and told
 *
 * Out of the ring into our memory, never written from the ring itself [J4a]; what is read back is checked. So whoever writes it, and
 * however late, writes the same bytes [J5]. What is lost is told by `not_synced` before `synced` passes it [J4d].
 * Rules R3 J4 J5. Checked by tests/model/keeper.pml, tests/unit/test_writer.c. */
#include "copier.h"

#include <inttypes.h>
#include <string.h>

void copier_say_lost(const struct ring *ring, uint64_t pos)
{
    _Atomic uint64_t *word = &ring->head->not_synced;
    uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);
    while (seen < pos &&
           !atomic_compare_exchange_weak_explicit(word, &seen, pos, memory_order_release, memory_order_relaxed)) {
    }
}

static void put_hollow(uint64_t *out, enum frame_kind kind, uint64_t pos, uint32_t n_cells)
{
    frame_seal_pad(kind, pos, n_cells, out);
    memset(out + CELL_WORDS, 0, (n_cells - 1) * (size_t)CELL_BYTES);
}

/* Cells that hold nothing that can be read, from pos on up to `end`. */
static enum copier_got get_gap(uint64_t pos, uint64_t end, size_t room, uint64_t *out, uint32_t *out_cells)
{
    uint64_t n_cells = end - pos < FRAME_CELLS_MAX ? end - pos : FRAME_CELLS_MAX;
    if (n_cells > room)
        return COPIER_NO_ROOM;
    put_hollow(out, FRAME_GAP, pos, (uint32_t)n_cells);
    *out_cells = (uint32_t)n_cells;
    return COPIER_CELLS;
}

/* What stood at a position that the ring has no more: written by the keeper before us, or by us before a sync that failed. */
static enum copier_got get_back(struct copier *copier, uint64_t pos, size_t room, uint64_t *out, uint32_t *out_cells,
                                struct error *err)
{
    const uint64_t *frame = NULL;
    uint64_t next = 0;
    uint64_t until = ring_journaled(copier->ring);
    struct error why = {""};
    int seen = journal_read(&copier->back, pos, until, &frame, &next, &why);
    if (seen < 0) {
        *err = why;
        return COPIER_FAILED;
    }
    if ((seen == JOURNAL_FRAME || seen == JOURNAL_SKIP) && frame != NULL) {
        uint32_t n_cells = ((const struct frame_header *)frame)->n_cells;
        if (n_cells > room)
            return COPIER_NO_ROOM;
        if (seen == JOURNAL_SKIP)
            put_hollow(out, (enum frame_kind)((const struct frame_header *)frame)->kind, pos, n_cells);
        else
            memcpy(out, frame, (size_t)n_cells * CELL_BYTES);
        *out_cells = n_cells;
        return COPIER_CELLS;
    }
    /* Lost: appended, never synced, and gone from the ring and from the file. Who waits for it must not take it for synced. */
    uint64_t released = ring_released(copier->ring);
    if (seen == JOURNAL_END || next > released || next <= pos)
        next = released;
    uint64_t end = pos - pos % copier->segment_cells + copier->segment_cells;
    if (next > end)
        next = end;
    copier_say_lost(copier->ring, next);
    log_line(copier->log, LOG_CORRUPT, EVBUS_LOG_ERROR,
             "log=%s partition=%u position=%" PRIu64 " until=%" PRIu64 " reason=\"appended, not synced, and lost: %s\"",
             copier->ring->name, copier->ring->partition, pos, next, why.text);
    return get_gap(pos, next, room, out, out_cells);
}

static enum copier_got get(struct copier *copier, uint64_t pos, size_t room, uint64_t *out, uint32_t *out_cells,
                           struct error *err)
{
    struct ring *ring = copier->ring;
    uint64_t word;
    enum ring_seen seen = ring_look(ring, pos, &word);
    if (seen == RING_COMMITTED) {
        if (word_cells(word) > room)
            return COPIER_NO_ROOM;
        seen = ring_copy(ring, pos, word_cells(word), out);
    }
    switch (seen) {
    case RING_COMMITTED:
        topic_set_add(&copier->unseen,
                      ((const struct frame_header *)out)->topic != 0 ? ((const struct frame_header *)out)->topic : 1);
        frame_seal(out);
        *out_cells = word_cells(word);
        return COPIER_CELLS;
    case RING_SKIP:
        if (word_cells(word) > room)
            return COPIER_NO_ROOM;
        put_hollow(out, FRAME_PAD, pos, word_cells(word));
        *out_cells = word_cells(word);
        return COPIER_CELLS;
    case RING_OVERTAKEN:
        return get_back(copier, pos, room, out, out_cells, err);
    case RING_CORRUPT: {
        uint64_t next = ring_resync(ring, pos); /* follow() tells of it */
        uint64_t end = pos - pos % copier->segment_cells + copier->segment_cells;
        if (ring_released(ring) > pos) /* overtaken since */
            return get_back(copier, pos, room, out, out_cells, err);
        next = next < end ? next : end;
        return next > pos ? get_gap(pos, next, room, out, out_cells) : COPIER_NOTHING;
    }
    default:
        return COPIER_NOTHING;
    }
}

enum copier_got copier_run(struct copier *copier, uint64_t pos, uint64_t end, uint64_t *out, size_t *out_cells,
                           struct error *err)
{
    size_t n = 0;
    enum copier_got got = COPIER_CELLS;
    while (n < COPIER_CELLS_MAX && pos + n < end) {
        uint32_t n_cells = 0;
        uint64_t left = end - (pos + n);
        size_t room = COPIER_CELLS_MAX + FRAME_CELLS_MAX - n;
        got = get(copier, pos + n, room < left ? room : left, out + n * CELL_WORDS, &n_cells, err);
        if (got != COPIER_CELLS)
            break;
        n += n_cells;
    }
    *out_cells = n;
    return got == COPIER_FAILED ? COPIER_FAILED : n > 0 ? COPIER_CELLS : COPIER_NOTHING;
}
