/* find.c: where the frames of an id stand, in files and rings.
 *
 *     closed segments     by their indexes (index.c), frame by frame compared
 *     the last segment,   read from its front up to the ring's tail: nobody has an index of what is still written
 *     and the ring
 *
 * So what is read is, of each partition, a page of each segment and one segment. A segment that is begun meanwhile is read to its end by
 * position; one that is retired meanwhile has gone. Checked by tests/unit/test_history.c. */
#include "find.h"

#include "index.h"
#include "partition.h"

#include <stdlib.h>
#include <string.h>

struct find {
    struct memory *memory;
    struct memory_log *log;
    const struct ring *ring;
    const struct find_id *ids;
    size_t n_ids;
    int (*each)(void *context, const struct find_hit *hit);
    void *context;
    uint64_t *buffer;              /* room for the largest frame */
    const struct segment *segment; /* that the index is of */
    size_t which;                  /* of the ids, likewise */
    bool is_damaged;
};

static bool has_id(const struct frame_header *header, const uint8_t id[16])
{
    uint8_t publisher[16];
    if (header->kind != FRAME_NAMES)
        return header->kind != FRAME_PAD && header->kind != FRAME_GAP && memcmp(header->id, id, 16) == 0;
    index_publisher_id(header->publisher, publisher);
    return header->publisher != 0 && memcmp(publisher, id, 16) == 0;
}

/* A whole frame is in the buffer. */
static int give(struct find *find, uint64_t pos, bool is_in_ring, size_t which)
{
    struct frame frame;
    if (frame_parse(find->buffer, &frame, NULL) != EVBUS_OK) {
        find->is_damaged = true;
        return EVBUS_OK;
    }
    struct find_hit hit = {.log = find->log,
                           .ring = find->ring,
                           .pos = pos,
                           .is_in_ring = is_in_ring,
                           .which = which,
                           .header = (const struct frame_header *)find->buffer,
                           .frame = &frame};
    return find->each(find->context, &hit);
}

/* The index says that it may stand here. */
static int look_at(void *context, uint64_t pos)
{
    struct find *find = context;
    const struct frame_header *header = (const struct frame_header *)find->buffer;
    size_t n = 0;
    int rc = segment_read(find->segment, pos, find->buffer, 1, &n, NULL);
    if (rc != EVBUS_OK || n != 1 || header->n_cells == 0 || header->n_cells > find->ring->frame_cells_max) {
        find->is_damaged = true;
        return EVBUS_OK;
    }
    if (!has_id(header, find->ids[find->which].bytes))
        return EVBUS_OK; /* another id with the same front */
    uint32_t n_cells = header->n_cells;
    rc = segment_read(find->segment, pos, find->buffer, n_cells, &n, NULL);
    if (rc != EVBUS_OK || n != n_cells || frame_sealed_cells(find->buffer, n, pos) != n_cells) {
        find->is_damaged = true;
        return EVBUS_OK;
    }
    return give(find, pos, false, find->which);
}

static int look_into(struct find *find, const struct segment_place *place, uint64_t base, struct error *err)
{
    struct segment segment;
    int rc = segment_open(&segment, place, base, false, NULL);
    if (rc != EVBUS_OK) { /* retired since; or its reader is told why */
        find->is_damaged = find->is_damaged || rc != EVBUS_ENOTFOUND;
        return EVBUS_OK;
    }
    find->segment = &segment;
    for (find->which = 0; find->which < find->n_ids && rc == EVBUS_OK; find->which++)
        rc = index_find(place, &segment, find->ids[find->which].bytes, look_at, find, err);
    segment_close(&segment);
    return rc;
}

/* Frame by frame from pos on, up to what nobody has written yet. */
static int read_on(struct find *find, uint64_t pos, struct error *err)
{
    struct partition_past *past = NULL;
    uint64_t until = ring_tail(find->ring);
    int rc = EVBUS_OK;
    while (rc == EVBUS_OK && pos < until) {
        uint64_t next = pos;
        bool is_in_ring = pos >= ring_released(find->ring);
        int found = partition_fetch(&past, find->memory, find->ring, pos, find->buffer, &next, err);
        if (found == PARTITION_NOTHING || (found >= 0 && next <= pos))
            break;
        if (found < 0)
            rc = found;
        find->is_damaged = find->is_damaged || found == PARTITION_LOST;
        for (size_t i = 0; found == PARTITION_FRAME && i < find->n_ids && rc == EVBUS_OK; i++)
            if (has_id((const struct frame_header *)find->buffer, find->ids[i].bytes))
                rc = give(find, pos, is_in_ring, i);
        pos = next;
    }
    partition_past_close(past);
    return rc;
}

int find_in(struct memory *memory, struct memory_log *log, uint32_t partition, const struct find_id *ids, size_t n_ids,
            int (*each)(void *context, const struct find_hit *hit), void *context, bool *out_damaged, struct error *err)
{
    struct find find = {.memory = memory,
                        .log = log,
                        .ring = &log->rings[partition],
                        .ids = ids,
                        .n_ids = n_ids,
                        .each = each,
                        .context = context};
    struct segment_place place;
    uint64_t *bases = NULL;
    size_t n = 0;
    uint64_t from = ring_released(find.ring);
    uint64_t journaled = ring_journaled(
        find.ring); /* before names are read: these may miss a file that is made meanwhile */
    find.buffer = malloc(((size_t)find.ring->frame_cells_max + 1) * CELL_BYTES); /* and a byte, see delivery.h */
    int rc = find.buffer != NULL ? EVBUS_OK : error_no_memory(err, "a frame");
    if (rc == EVBUS_OK && find.ring->has_journal) {
        partition_place(memory, find.ring, &place);
        rc = journal_list(&place, &bases, &n, err);
    }
    while (n > 0 && bases[n - 1] >= journaled)
        n--;
    for (size_t i = 0; i + 1 < n && rc == EVBUS_OK; i++)
        rc = look_into(&find, &place, bases[i], err);
    if (n > 0)
        from = bases[n - 1];
    if (rc == EVBUS_OK)
        rc = read_on(&find, from, err);
    *out_damaged = *out_damaged || find.is_damaged;
    free(bases);
    free(find.buffer);
    return rc;
}
