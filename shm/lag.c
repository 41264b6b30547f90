/* lag.c: how far a group is behind in a partition, in events.
 *
 * The cursor and the tail count cells, and the events between may be of any length and of other topics: so the headers are
 * walked. What that costs is bounded: FRAMES_MAX headers of the ring, 64 bytes each (a few ms; a ring of 1 MiB has 8,192
 * at most, so it is counted whole), and FILE_CELLS_MAX cells of the files, read from where the group is. What lies
 * beyond is taken to be as dense as what was counted, and the caller is told so. A frame that is claimed is not an event yet; one
 * that was lost is none any more.
 * Checked by tests/unit/test_lag.c. */
#include "lag.h"

#include "frame.h"

#define FRAMES_MAX     65536
#define FILE_CELLS_MAX 65536 /* 4 MiB */
#define EVENT_CELLS    2     /* the fewest that an event takes: where nothing was counted */

enum step { STEP_FRAME, STEP_ON, STEP_PAST, STEP_END };

static enum step look_in_ring(const struct ring *ring, uint64_t pos, struct frame_header *out_header,
                              uint64_t *out_next)
{
    uint64_t word;
    enum ring_seen seen = ring_look(ring, pos, &word);
    if (seen == RING_COMMITTED)
        seen = ring_copy_header(ring, pos, out_header);
    switch (seen) {
    case RING_COMMITTED:
        *out_next = pos + out_header->n_cells;
        return STEP_FRAME;
    case RING_CLAIMED:
    case RING_SKIP:
        *out_next = pos + word_cells(word);
        return STEP_ON;
    case RING_CORRUPT:
        *out_next = ring_resync(ring, pos);
        return STEP_ON;
    case RING_OVERTAKEN:
        return STEP_PAST;
    default:
        return STEP_END;
    }
}

static enum step look_in_files(struct partition_past **inout_past, const struct memory *memory, const struct ring *ring,
                               uint64_t pos, uint64_t *buffer, struct frame_header *out_header, uint64_t *out_next)
{
    switch (buffer != NULL ? partition_fetch(inout_past, memory, ring, pos, buffer, out_next, NULL)
                           : PARTITION_NOTHING) {
    case PARTITION_FRAME:
        *out_header = *(const struct frame_header *)buffer;
        return STEP_FRAME;
    case PARTITION_SKIP:
    case PARTITION_LOST:
        return STEP_ON;
    default:
        return STEP_END;
    }
}

void lag_count(const struct memory *memory, const struct ring *ring, const struct topic_set *topics, uint64_t pos,
               uint64_t *buffer, struct lag *out_lag)
{
    struct lag lag = {0};
    struct partition_past *past = NULL;
    uint64_t tail = ring_tail(ring);
    uint64_t walked = 0, left_out = 0; /* cells */
    uint64_t in_files = 0;
    uint32_t n_frames = 0;
    while (pos < tail) {
        struct frame_header header;
        uint64_t next = pos;
        if (n_frames == FRAMES_MAX) {
            left_out += ring_cells_between(ring, pos, tail);
            break;
        }
        enum step step = look_in_ring(ring, pos, &header, &next);
        if (step == STEP_PAST) {
            step = in_files < FILE_CELLS_MAX ? look_in_files(&past, memory, ring, pos, buffer, &header, &next)
                                             : STEP_END;
            if (step == STEP_END) { /* enough of them, or they cannot be read: on in the ring */
                uint64_t released = ring_released(ring);
                if (released <= pos)
                    break;
                left_out += ring_cells_between(ring, pos, released < tail ? released : tail);
                pos = released;
                continue;
            }
            in_files += ring_cells_between(ring, pos, next);
        } else {
            n_frames++;
        }
        if (step == STEP_END || next <= pos)
            break;
        if (step == STEP_FRAME && header.kind == FRAME_EVENT && header.topic >= 1 && header.topic <= TOPICS_MAX &&
            topic_set_has(topics, header.topic)) {
            lag.first_ns = lag.events == 0 ? header.timestamp_ns : lag.first_ns;
            lag.events++;
        }
        walked += ring_cells_between(ring, pos, next);
        pos = next;
    }
    partition_past_close(past);
    if (left_out > 0) {
        double density = walked > 0 ? (double)lag.events / (double)walked : 1.0 / EVENT_CELLS;
        lag.events += (uint64_t)((double)left_out * density);
        lag.is_estimated = true;
    }
    *out_lag = lag;
}
