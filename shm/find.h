/* find.h: where the frames of an id stand, in files and rings. See find.c. */
#ifndef EVBUS_FIND_H
#define EVBUS_FIND_H

#include "memory.h"

struct find_id {
    uint8_t bytes[16];
};

/* A frame that was found. */
struct find_hit {
    struct memory_log *log;
    const struct ring *ring;
    uint64_t pos;
    bool is_in_ring; /* and perhaps in a file; else in a file alone */
    size_t which;    /* of the ids */
    const struct frame_header *header;
    const struct frame *frame;
};

/* Calls each() for every frame in one partition whose id is one of these, rising by position. Publishers' NAMES frames have the id that
 * index_publisher_id() tells. What each() answers, unless EVBUS_OK, ends it. Files that are gone or damaged have nothing; *out_damaged
 * is set then (never cleared). */
int find_in(struct memory *memory, struct memory_log *log, uint32_t partition, const struct find_id *ids, size_t n_ids,
            int (*each)(void *context, const struct find_hit *hit), void *context, bool *out_damaged,
            struct error *err);

#endif
