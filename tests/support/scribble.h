/* scribble.h: damages what processes share, as an accident would, and worse: fields at their extremes, stale laps,
 * lengths that wrap, numbers out of range, positions beyond limits, bits, and stretches of anything.
 *
 * The robust mutexes of slots are left alone: who writes into those has glibc and the kernel
 * write to an address of his choice in others [R18]. */
#ifndef SCRIBBLE_H
#define SCRIBBLE_H

#include "memory.h"

/* One ring, whoever has it mapped. */
struct scribble_ring {
    struct ring_head *head;
    _Atomic uint64_t *words;
    _Atomic uint64_t *cells;
    uint64_t n_cells;
    size_t n_bytes; /* from head on */
};

struct scribble_ring scribble_ring_of(const struct ring *ring);

/* A number that is at some edge, or close to one of these. */
uint64_t scribble_edge(uint64_t *seed, uint64_t near);

/* One thing in a ring. */
void scribble_on_ring(const struct scribble_ring *ring, uint64_t *seed);

/* One thing anywhere in a bus: its rings, the groups' places, heads of logs, control object. */
void scribble_on_bus(const struct memory *memory, uint64_t *seed);

/* A copy of all of a bus; and a part of it put back, whatever happened since. To be freed. */
struct scribble_copy;
struct scribble_copy *scribble_copy_make(const struct memory *memory);
void scribble_copy_back(const struct scribble_copy *copy, const struct memory *memory);
void scribble_copy_free(struct scribble_copy *copy);

#endif
