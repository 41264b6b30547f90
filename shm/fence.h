/* fence.h: the cells of a writer that sleeps are left out of each lap. See fence.c. */
#ifndef EVBUS_FENCE_H
#define EVBUS_FENCE_H

#include "word.h"

/* A CANCELLED word of a living writer stands before `released`: fences its cells off, so that it can be passed. false: all
 * entries are in use. */
bool fence_put(struct ring *ring, uint64_t pos, uint64_t word);

/* For who claims *n_cells at pos, once it has loaded `released`. true: a fence is there, and the claim must be a pad of
 * *n_cells, now less, with *out_slot in its word. */
bool fence_meet(struct ring *ring, uint64_t pos, uint32_t *n_cells, uint32_t *out_slot);

/* Is there room for a frame of n_cells beside the fences? If not, it waits, or its producer would pad for ever. */
bool fence_leaves_room(struct ring *ring, uint32_t n_cells);

/* For the writer whose claim at pos was fenced: it will write into these cells no more. */
void fence_end(struct ring *ring, uint64_t pos, uint32_t slot);

/* The same for all fences of a dead slot, once its words are pads [R2]. */
void fence_bury(struct ring *ring, uint32_t slot);

#endif
