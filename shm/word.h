/* word.h: one partition as this process sees it, and the word that governs a cell. See layout.h for its bits. */
#ifndef EVBUS_WORD_H
#define EVBUS_WORD_H

#include "layout.h"

#include <stdbool.h>

/* One partition as this process sees it. Everything but what `head`, `words` and `cells` point to is private. */
struct ring {
    struct ring_head *head;
    _Atomic uint64_t *words;            /* capacity of them */
    _Atomic uint64_t *cells;            /* CELL_WORDS for each cell */
    struct slot *slots;                 /* of the bus, by number */
    const _Atomic uint32_t *pin_owners; /* of its log; NULL: they live for ever */
    const char *name;                   /* of its log */
    uint32_t partition;
    uint32_t shift; /* capacity is 1 << shift */
    uint64_t capacity;
    uint64_t salt;
    uint64_t limit;           /* first position that is never claimed */
    uint32_t frame_cells_max; /* a quarter of the ring */
    bool has_journal;
    bool is_visible_synced;
};

enum word_state { WORD_CLAIMED = 0, WORD_COMMITTED = 1, WORD_PAD = 2, WORD_CANCELLED = 3 };

static inline uint64_t word_make(uint64_t lap, enum word_state state, uint32_t slot, uint32_t n_cells)
{
    return lap << (64 - WORD_LAP_BITS) | (uint64_t)state << (WORD_SLOT_BITS + WORD_LEN_BITS) |
           (uint64_t)slot << WORD_LEN_BITS | n_cells;
}
/* A claimed word, committed. */
static inline uint64_t word_committed(uint64_t claimed)
{
    return claimed + ((uint64_t)(WORD_COMMITTED - WORD_CLAIMED) << (WORD_SLOT_BITS + WORD_LEN_BITS));
}
static inline uint64_t word_lap(uint64_t word)
{
    return word >> (64 - WORD_LAP_BITS);
}
static inline enum word_state word_state(uint64_t word)
{
    return (enum word_state)(word >> (WORD_SLOT_BITS + WORD_LEN_BITS) & 3);
}
static inline uint32_t word_slot(uint64_t word)
{
    return (uint32_t)(word >> WORD_LEN_BITS) & ((1u << WORD_SLOT_BITS) - 1);
}
static inline uint32_t word_cells(uint64_t word)
{
    return (uint32_t)word & FRAME_CELLS_MAX;
}

static inline uint64_t ring_index(const struct ring *ring, uint64_t pos)
{
    return pos & (ring->capacity - 1);
}
static inline uint64_t ring_lap(const struct ring *ring, uint64_t pos)
{
    return (pos >> ring->shift) + 1;
}
static inline uint64_t ring_pre(const struct ring *ring, uint64_t pos)
{
    return ring->salt ^ 2 * pos;
}
static inline uint64_t ring_stamp(const struct ring *ring, uint64_t pos)
{
    return ring->salt ^ (2 * pos + 1);
}
static inline uint64_t ring_tail(const struct ring *ring)
{
    return atomic_load_explicit(&ring->head->tail, memory_order_acquire);
}
static inline uint64_t ring_released(const struct ring *ring)
{
    return RELEASED_POSITION(atomic_load_explicit(&ring->head->released, memory_order_acquire));
}
/* The first position that is still to be read somewhere. */
static inline uint64_t ring_oldest(const struct ring *ring)
{
    return ring->has_journal ? RELEASED_POSITION(atomic_load_explicit(&ring->head->oldest, memory_order_acquire))
                             : ring_released(ring);
}
/* What stands in the journal's files, and what of it is on disk. */
static inline uint64_t ring_journaled(const struct ring *ring)
{
    return TERM_POSITION(
        atomic_load_explicit(&ring->head->journaled, memory_order_acquire)); /* edge FILE, to: readers */
}
static inline uint64_t ring_synced(const struct ring *ring)
{
    return TERM_POSITION(atomic_load_explicit(&ring->head->synced, memory_order_acquire));
}
/* Cells from one position to a later one, without those that a restart skipped. */
static inline uint64_t ring_cells_between(const struct ring *ring, uint64_t from, uint64_t to)
{
    const struct ring_head *head = ring->head;
    uint64_t skipped = from < head->prev_end && to >= head->start ? head->start - head->prev_end : 0;
    return to > from + skipped ? to - from - skipped : 0;
}
/* May it be shown to readers? */
static inline bool ring_is_visible(const struct ring *ring, uint64_t pos)
{
    return !ring->is_visible_synced || pos < ring_synced(ring);
}

static inline _Atomic uint64_t *ring_word(const struct ring *ring, uint64_t pos)
{
    return ring->words + ring_index(ring, pos);
}

/* A frame's length as a word tells it: at least a cell, not across the end. */
static inline bool ring_is_length(const struct ring *ring, uint64_t pos, uint32_t n_cells)
{
    return n_cells >= 1 && n_cells <= ring->frame_cells_max && ring_index(ring, pos) + n_cells <= ring->capacity;
}

#endif
