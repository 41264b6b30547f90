/* journal.h: a partition's segments: find, read, retire. See journal.c. */
#ifndef EVBUS_JOURNAL_H
#define EVBUS_JOURNAL_H

#include "segment.h"

/* The base positions of a partition's segments, rising; to be freed. A partition without a folder has none. */
int journal_list(const struct segment_place *place, uint64_t **out_bases, size_t *out_n, struct error *err);

/* Where a reader of files stands. Zeroed but for the place: at nothing. */
struct journal_reader {
    const struct segment_place *place;
    struct segment segment;
    uint64_t *chunk; /* cells, from chunk_pos on */
    uint64_t chunk_pos;
    size_t chunk_cells;
};

void journal_reader_init(struct journal_reader *reader, const struct segment_place *place);
void journal_reader_close(struct journal_reader *reader);

enum journal_seen {
    JOURNAL_FRAME,  /* *out_frame is it: in the reader's memory, until its next call */
    JOURNAL_SKIP,   /* a pad, or positions that a restart skipped */
    JOURNAL_END,    /* nothing is written there (yet) */
    JOURNAL_GONE,   /* it was retired: *out_next is the oldest position that is there */
    JOURNAL_DAMAGED /* no whole frame: *out_next is where the next one stands, the message tells */
};

/* What stands at a position, and at which position the next thing does. until: no further than this (what was written, as memory
 * says). Negative: a code, the file cannot be read. */
int journal_read(struct journal_reader *reader, uint64_t pos, uint64_t until, const uint64_t **out_frame,
                 uint64_t *out_next, struct error *err);

#endif
