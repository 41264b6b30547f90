/* index.h: which frames of a closed segment have which id. See index.c. */
#ifndef EVBUS_INDEX_H
#define EVBUS_INDEX_H

#include "journal.h"

struct index_entry {
    uint64_t key;  /* the first 8 bytes of an id */
    uint32_t cell; /* of the segment, where its frame begins */
};

/* An index on its way: made of the segment's frames, piece by piece. */
struct index_draft {
    struct segment_place place;
    struct journal_reader reader;
    struct segment segment;
    uint64_t pos;
    struct index_entry *entries; /* sorted when it is complete */
    size_t n;
    size_t room;
};

/* The segment that begins at base; nobody writes to it any more. */
int index_begin(struct index_draft *out_draft, const struct segment_place *place, uint64_t base, struct error *err);

/* Reads on in so many cells. true: it is complete. Negative: a code. */
int index_go_on(struct index_draft *draft, uint64_t n_cells, struct error *err);

/* Puts it beside its segment. */
int index_save(const struct index_draft *draft, struct error *err);
void index_end(struct index_draft *draft); /* fine on a zeroed one */

/* What is looked for, to find the NAMES frame that tells who a publisher is. */
void index_publisher_id(uint32_t publisher, uint8_t out_id[16]);

/* Calls each() with the position of each frame of a closed segment that may have the id: its first 8 bytes are the same. The index beside it
 * is used; where there is none that is whole, one is made, and put there if it may be. each() answers a code. */
int index_find(const struct segment_place *place, const struct segment *segment, const uint8_t id[16],
               int (*each)(void *context, uint64_t pos), void *context, struct error *err);

/* The path of the index of the segment that begins at base. */
void index_path(const struct segment_place *place, uint64_t base, char out_path[FILE_PATH_MAX]);

#endif
