/* ring.h: claim, write, commit, cancel, read. See ring.c. */
#ifndef EVBUS_RING_H
#define EVBUS_RING_H

#include "cell.h"
#include "error.h"
#include "word.h"

/* The bytes that one ring takes in its log's object. */
size_t ring_bytes(uint64_t n_cells);

/* Makes a zeroed stretch of memory a ring, with a fresh salt. */
void ring_make(void *at, uint64_t salt);

/* A view of a ring of n_cells that stands at `at`. */
void ring_view(struct ring *out_ring, void *at, uint64_t n_cells, struct slot *slots, const char *name,
               uint32_t partition);

/* --- producers -------------------------------------------------------------------------------------------------- */

/* What a thread has claimed and not committed yet: at most one thing [R11]. ring NULL: nothing. */
struct claim {
    struct ring *ring;
    uint64_t pos;
    uint32_t n_cells;
    uint32_t n_first; /* of them, those of the first frame: all of them, by ring_claim(), or a run's */
    uint32_t slot;    /* ours */
    /* what follows from that, by ring_claim() */
    _Atomic uint64_t *word_at;
    uint64_t word;           /* as claimed */
    _Atomic uint64_t *cells; /* from pos on */
};

/* Claims n_cells (1..frame_cells_max) for the thread whose slot is claim->slot. EVBUS_OK; EVBUS_EFULL (no message);
 * EVBUS_EEXHAUSTED; EVBUS_ECORRUPT. */
int ring_claim(struct ring *ring, uint32_t n_cells, struct claim *claim, struct error *err);

/* Asks for the lines that the next claim and its frame's head are written to. */
static inline void ring_expect(const struct ring *ring)
{
    uint64_t pos = atomic_load_explicit(&ring->head->tail, memory_order_relaxed);
    const _Atomic uint64_t *cell = ring->cells + ring_index(ring, pos) * CELL_WORDS;
    cell_expect(&ring->head->tail);
    cell_expect(ring_word(ring, pos));
    cell_expect(cell);
    cell_expect(cell + CELL_WORDS);
}

/* Cells from the tail to the end of its lap: a longer claim begins with a pad. */
static inline uint64_t ring_left_of_lap(const struct ring *ring)
{
    return ring->capacity - ring_index(ring, atomic_load_explicit(&ring->head->tail, memory_order_relaxed));
}

/* Puts the frames, one behind the other, into the claimed cells: n_cells * CELL_WORDS words. Stamps and positions of their headers are
 * set here. */
void ring_write(const struct claim *claim, const uint64_t *frames);

/* EVBUS_OK: everybody can see it. EVBUS_EAGAIN: it was cancelled; claim again. EVBUS_ECORRUPT. The claim is over. */
int ring_commit(struct claim *claim, struct error *err);

/* Gives up a claim whose publish will never go on: its cells become a pad. Fine when there is none. */
void ring_abandon(struct claim *claim);

/* Moves `released`, which is as the word says, on by an eighth of the ring. One producer does it for all. */
void ring_release_once(struct ring *ring, uint64_t word);

/* After a commit: makes room when less than a quarter is free. */
static inline void ring_make_room(struct ring *ring, uint64_t pos)
{
    uint64_t word = atomic_load_explicit(&ring->head->released, memory_order_relaxed);
    if (pos >= RELEASED_POSITION(word) + ring->capacity - ring->capacity / 4)
        ring_release_once(ring, word);
}

/* --- readers ---------------------------------------------------------------------------------------------------- */

/* What stands at a position. */
enum ring_seen {
    RING_NOTHING,   /* not claimed yet */
    RING_CLAIMED,   /* somebody is writing */
    RING_COMMITTED, /* a frame */
    RING_SKIP,      /* a pad, or a cancelled claim: go on behind it */
    RING_OVERTAKEN, /* it was overwritten: go on at `released` */
    RING_CORRUPT    /* no evbus wrote this, or the position is no frame's start [R12] */
};

/* Committed for sure? One load of a line that the reader needs next; false proves nothing [R19]. */
static inline bool ring_is_stamped(const struct ring *ring, uint64_t pos)
{
    const _Atomic uint64_t *cell = ring->cells + ring_index(ring, pos) * CELL_WORDS;
    return atomic_load_explicit(cell, memory_order_acquire) == ring_stamp(ring, pos); /* edge COMMIT, to: the reader */
}

/* Asks for the line of a header that we shall read, if a frame begins there. */
static inline void ring_prefetch(const struct ring *ring, uint64_t pos)
{
    __builtin_prefetch((const void *)(uintptr_t)(ring->cells + ring_index(ring, pos) * CELL_WORDS));
}

/* Looks at the word, which decides. out_word is set but for RING_NOTHING; its length is bounded but for RING_CORRUPT. */
enum ring_seen ring_look(const struct ring *ring, uint64_t pos, uint64_t *out_word);

/* Cells [first, end) of a frame, as they are now: ring_is_overtaken() afterwards says whether that was it. Within the ring. */
static inline void ring_load(const struct ring *ring, uint64_t pos, uint32_t first, uint32_t end, uint64_t *frame)
{
    const _Atomic uint64_t *from = ring->cells + ring_index(ring, pos) * CELL_WORDS;
    for (uint32_t cell = first; cell < end; cell++)
        cell_load(frame + cell * CELL_WORDS, from + cell * CELL_WORDS);
}

/* After a copy: was it overwritten meanwhile? [R14] */
static inline bool ring_is_overtaken(const struct ring *ring, uint64_t pos)
{
    atomic_thread_fence(memory_order_acquire); /* edge GATE: our copy was made before we look */
    return RELEASED_POSITION(atomic_load_explicit(&ring->head->released, memory_order_relaxed)) > pos;
}

/* Copies a committed frame's first cell out, checked. RING_COMMITTED, RING_OVERTAKEN or RING_CORRUPT. */
enum ring_seen ring_copy_header(const struct ring *ring, uint64_t pos, struct frame_header *out_header);

/* Copies its further cells behind the header's copy at the front of `frame`, checked. As ring_copy_header(). */
enum ring_seen ring_copy_rest(const struct ring *ring, uint64_t pos, uint64_t *frame);

/* Copies all of a committed frame, as long as the word says that ring_look() gave, checked. As ring_copy_header(). */
enum ring_seen ring_copy(const struct ring *ring, uint64_t pos, uint32_t n_cells, uint64_t *frame);

/* How long a claim may block before it is cancelled, ns: doubled for each cancel in a row of its slot [R10]. */
uint64_t ring_patience_ns(const struct ring *ring, uint64_t word);

/* A CLAIMED or CANCELLED word whose writer is dead becomes a pad [B6]. true: it is one now. */
bool ring_pad_if_dead(struct ring *ring, uint64_t pos, uint64_t word);

/* Takes a claim from a writer that was too slow. Its cells stay its own until it has said PAD. */
void ring_cancel(struct ring *ring, uint64_t pos, uint64_t word);

/* The claim that somebody stands before. Zeroed: none. */
struct ring_blocked {
    uint64_t pos;
    uint64_t since_ns; /* monotonic; 0: nobody stands there */
};
enum ring_cleared { RING_BLOCKED, RING_BURIED, RING_CANCELLED };

/* A claim stands in the way at pos: padded if its writer is dead, cancelled if it has taken longer than our patience: its cells
 * stay its writer's then. RING_BLOCKED: not yet; *out_wait_ns is lowered to what is left of the patience. */
enum ring_cleared ring_clear_claim(struct ring *ring, uint64_t pos, uint64_t word, struct ring_blocked *blocked,
                                   uint64_t *out_wait_ns);

/* Where a reader goes on that was overtaken: the oldest frame; in a row: half way to the newest, or it would never catch up
 * with a producer that laps a small ring in the time of a copy. */
uint64_t ring_behind_overtaken(const struct ring *ring, unsigned n_in_row);

/* The next position after a corrupt one where a whole frame or pad starts, at most tail. Of a run that was cancelled, and whose word is
 * what is corrupt, that may be a frame which is published once more elsewhere. */
uint64_t ring_resync(const struct ring *ring, uint64_t pos);

/* --- who keeps and who needs room ---------------------------------------------------------------------------------- */

/* Sleeps until there may be room, 10 ms at most. A claim that stands in the way is buried or, after our patience, cancelled. */
void ring_wait_for_room(struct ring *ring, uint64_t left_ns, struct ring_blocked *blocked);

/* Moves `released` on by a step or a little more, never beyond a pin or a claim; a cancelled claim of a living writer is fenced
 * first (fence.c). true: it has moved, by us or by somebody else. */
bool ring_release(struct ring *ring, uint64_t step);

/* The least position that a group or a pin needs; at most the tail. */
uint64_t ring_needed_from(const struct ring *ring);

/* Keeps everything from max(wish, released) on from being overwritten; returns that position [R8]. index: ours. */
uint64_t ring_pin(struct ring *ring, uint32_t index, uint64_t wish);

/* Everything before pos is read. Wakes producers that wait for room now and then, `idle` at once. */
void ring_pin_move(struct ring *ring, uint32_t index, uint64_t pos, bool idle);
/* The same for a group, whose low carries its lease's epoch: only who has that epoch moves it. */
void ring_stamp_low(struct ring *ring, uint32_t index, uint16_t tag);
void ring_move_low(struct ring *ring, uint32_t index, uint16_t tag, uint64_t pos, bool idle);
void ring_unpin(struct ring *ring, uint32_t index);

/* Wakes producers that wait for room. How many slept. */
unsigned ring_wake_producers(struct ring *ring);

#endif
