/* inspect_ring.h: what stands in one ring. See inspect_ring.c. */
#ifndef EVBUS_INSPECT_RING_H
#define EVBUS_INSPECT_RING_H

#include "remains.h"

/* The partition, what holds it back, and its words: n_words at either end (UINT32_MAX: all), and whatever is no sound frame. */
void inspect_ring(const struct remains_ring *ring, uint32_t n_words, struct record *out);

/* The frame at a position. false: nothing of that position is left. */
bool inspect_frame(const struct remains_ring *ring, uint64_t pos, struct record *out);

#endif
