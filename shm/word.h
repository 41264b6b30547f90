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
};

enum word_state { WORD_CLAIMED = 0, WORD_COMMITTED = 1, WORD_PAD = 2, WORD_CANCELLED = 3 };

static inline uint64_t word_make(uint64_t lap, enum word_state state, uint32_t slot, uint32_t n_cells)
{
    return lap << (64 - WORD_LAP_BITS) | (uint64_t)state << (WORD_SLOT_BITS + WORD_LEN_BITS) |
           (uint64_t)slot << WORD_LEN_BITS | n_cells;
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
