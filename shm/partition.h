/* partition.h: one ring and its journal: append, read what the ring has no more. See partition.c. */
#ifndef EVBUS_PARTITION_H
#define EVBUS_PARTITION_H

#include "doorbell.h"
#include "journal.h"
#include "memory.h"
#include "ring.h"

/* What a producer has that may be taken from it: while it is `value` it may publish. See mirror.c. */
struct partition_fence {
    const _Atomic uint32_t *word;
    uint32_t value;
};

/* How a producer waits for room. */
struct partition_wait {
    uint64_t timeout_ns;                 /* 0: not at all */
    uint64_t spin_ns;                    /* before it sleeps; UINT64_MAX: it never sleeps */
    bool has_points;                     /* a publish of the user's: tests may crash it or make it fail (point.h) */
    struct memory *memory;               /* once it is gone there is nothing to wait for. NULL: it cannot go */
    const struct partition_fence *fence; /* NULL: nobody can take anything from it */
};

/* Before a frame is built: where our last publish had to wake somebody, the lines that this one writes set out at once; one by one they are
 * waited for, 100 to 300 ns each from a processor that sleeps. Elsewhere who polls these lines would be robbed of them. */
void partition_expect_now(const struct memory_log *log, const struct ring *ring, uint32_t woken);
static inline void partition_expect(const struct memory_log *log, const struct ring *ring)
{
    uint32_t woken = atomic_load_explicit(&log->woken, memory_order_relaxed);
    if (woken != 0)
        partition_expect_now(log, ring, woken);
}

/* One attempt of partition_append(): its code, or what may be better next time. */
enum { PARTITION_FULL = 1, PARTITION_CANCELLED = 2 };
int partition_try(struct ring *ring, struct claim *claim, const uint64_t *frames, uint32_t n_cells,
                  const struct partition_wait *wait, uint64_t *out_pos, struct error *err);

/* Those behind a first one that came to `tried`. */
int partition_append_on(int tried, struct ring *ring, struct claim *claim, const uint64_t *frames, uint32_t n_cells,
                        const struct partition_wait *wait, uint64_t *out_pos, struct error *err);

/* Claims, writes and commits a frame, or a run of them, one behind the other, n_cells in all (1 to ring->frame_cells_max), for the thread
 * that owns `claim`: everybody sees all of them or none. Nobody is woken: partition_wake(). EVBUS_OK; EVBUS_EFULL; EVBUS_EAGAIN (no
 * message): there is no room for a run, which waits for none; one by one its frames may have it, and do; EVBUS_ESTALE;
 * EVBUS_EEXHAUSTED; EVBUS_ECORRUPT; EVBUS_EFENCED: its fence is another's, and it is published neither now nor later. */
static inline int partition_append(struct ring *ring, struct claim *claim, const uint64_t *frames, uint32_t n_cells,
                                   const struct partition_wait *wait, uint64_t *out_pos, struct error *err)
{
    int tried = partition_try(ring, claim, frames, n_cells, wait, out_pos, err);
    return tried <= 0 ? tried : partition_append_on(tried, ring, claim, frames, n_cells, wait, out_pos, err);
}

/* Wakes who sleeps on these topics of the log, or on this one. */
void partition_ring(struct memory *memory, struct memory_log *log, const struct topic_set *topics);
void partition_ring_one(struct memory *memory, struct memory_log *log, uint32_t topic);

/* Hurries the keeper where it is behind. */
void partition_hurry(struct memory *memory, struct ring *ring, uint64_t pos);

/* Makes room where it gets scarce, and hurries the keeper where it is behind. */
static inline __attribute__((always_inline)) void partition_make_room(struct memory *memory, struct ring *ring,
                                                                      uint64_t pos)
{
    if (ring->has_journal)
        partition_hurry(memory, ring, pos);
    ring_make_room(ring, pos);
}

/* Wakes who sleeps on this topic of the log, then makes room where it gets scarce. */
static inline __attribute__((always_inline)) void partition_wake(struct memory *memory, struct memory_log *log,
                                                                 struct ring *ring, uint32_t topic, uint64_t pos)
{
    if (log->rings[0].is_visible_synced || doorbell_is_wanted(log->head) ||
        atomic_load_explicit(&log->woken, memory_order_relaxed) != 0) /* the last time; that is over */
        partition_ring_one(memory, log, topic);
    partition_make_room(memory, ring, pos);
}

/* Waits until what stands in [pos, end) is on disk. is_rung: partition_ring() has rung the keeper since it was committed. EVBUS_OK;
 * EVBUS_EIO: it is not, and why; EVBUS_ESTALE. */
int partition_await_disk(struct memory *memory, struct ring *ring, uint64_t pos, uint64_t end, bool is_rung,
                         struct error *err);

/* Waits until the event at pos is at the broker; timeout_ns: 10 s at least. EVBUS_OK; EVBUS_EIO: it is not known to be; EVBUS_ESTALE. */
int partition_await_broker(struct memory *memory, struct ring *ring, uint64_t pos, uint64_t timeout_ns,
                           struct error *err);

/* Where the journal of a ring stands. */
void partition_place(const struct memory *memory, const struct ring *ring, struct segment_place *out_place);

/* Reads a partition's journal: what was overwritten in its ring, or was there before this life of the bus. */
struct partition_past {
    const struct ring *ring;
    struct segment_place place;
    struct journal_reader reader;
};

/* To be closed. EVBUS_ENOSPC (memory). */
int partition_past_open(struct partition_past **out_past, const struct memory *memory, const struct ring *ring,
                        struct error *err);
void partition_past_close(struct partition_past *past); /* NULL is fine */

/* What stands at a position; see journal_read(). JOURNAL_END: look into the ring. Where that has it no more, the file has been cut:
 * JOURNAL_DAMAGED. */
int partition_past_read(struct partition_past *past, uint64_t pos, const uint64_t **out_frame, uint64_t *out_next,
                        struct error *err);

enum partition_found {
    PARTITION_FRAME,   /* a whole frame, copied and checked */
    PARTITION_SKIP,    /* nothing for anybody */
    PARTITION_NOTHING, /* nothing yet */
    PARTITION_LOST     /* it was retired, or is damaged */
};

/* What stands at a position, in the ring or in the files. buffer: room for the ring's largest frame. inout_past: opened when it is
 * needed, to be closed; NULL: none. *out_next is set but for PARTITION_NOTHING. Negative: a code, the file cannot be read now. */
int partition_fetch(struct partition_past **inout_past, const struct memory *memory, const struct ring *ring,
                    uint64_t pos, uint64_t *buffer, uint64_t *out_next, struct error *err);

/* The first position from pos on where an event stands that is not older than time_ns, or whatever stands at or behind
 * `position`; of a log with a journal, from the first file on that was not begun after that time. */
int partition_first(const struct memory *memory, const struct ring *ring, uint64_t pos, uint64_t time_ns,
                    uint64_t position, uint64_t *out_pos, struct error *err);

#endif
