/* copier.h: what stands in a ring, or stood there, as it is to stand in a file. See copier.c. */
#ifndef EVBUS_COPIER_H
#define EVBUS_COPIER_H

#include "doorbell.h"
#include "journal.h"
#include "log.h"
#include "ring.h"

#define COPIER_CELLS_MAX (UINT64_C(1) << 11)                  /* 128 KiB: one pwrite of what is in the cache still */
#define COPIER_ROOM      (COPIER_CELLS_MAX + FRAME_CELLS_MAX) /* cells of a buffer for a run */

/* Of one partition. */
struct copier {
    struct ring *ring;
    struct log *log;
    uint64_t segment_cells;
    struct journal_reader back; /* what the ring has no more */
    struct topic_set unseen;    /* topics of what has been copied; whoever tells their readers empties it */
};

enum copier_got { COPIER_CELLS, COPIER_NOTHING, COPIER_NO_ROOM /* not of a run */, COPIER_FAILED };

/* Cells from pos on, up to `end`, which lies in the same file; about COPIER_CELLS_MAX at most, whole frames. out: COPIER_ROOM cells. */
enum copier_got copier_run(struct copier *copier, uint64_t pos, uint64_t end, uint64_t *out, size_t *out_cells,
                           struct error *err);

/* What lies below pos may be lost: told before `synced` passes it. */
void copier_say_lost(const struct ring *ring, uint64_t pos);

#endif
