/* cursor.h: read on in one partition. See cursor.c. */
#ifndef EVBUS_CURSOR_H
#define EVBUS_CURSOR_H

#include "doorbell.h"
#include "frame.h"
#include "partition.h"

#define CURSOR_NO_PIN UINT32_MAX

struct cursor {
    struct ring *ring;
    const struct memory *memory;    /* where the files of a log with a journal are; NULL: of one without */
    const struct topic_set *wanted; /* ids of the log; NULL: as `live` says */
    const _Atomic uint64_t *live;   /* a group's topics in shared memory: they grow while all runs */
    _Atomic uint64_t pos;           /* the reader's thread; evbus-fd looks */
    uint64_t lost;                  /* cells overwritten before we could read them, since the last event */
    unsigned n_overtaken;           /* in a row, without a frame between */
    uint64_t from_time_ns;          /* skip what is older, until something is not */
    struct ring_blocked blocked;    /* the claim that we stand before */
    uint32_t pin;                   /* index of our pin, or CURSOR_NO_PIN */
    struct partition_past *past;    /* we read in the files; NULL: in the ring */
    uint64_t shown;                 /* of a log that shows what is on disk: as far as we know it is */
    _Atomic uint64_t retry_ns;      /* the files cannot be read: not before. As pos: evbus-fd looks */
};

enum cursor_found {
    CURSOR_EVENT,   /* *out_frame is it; it lies in the buffer */
    CURSOR_NOTHING, /* not yet */
    CURSOR_CORRUPT, /* the message tells; the cursor stands behind it */
    CURSOR_FAILED   /* the files cannot be read now, the message tells why; told once a second */
};

/* The next wanted event at or after the cursor. buffer: room for the ring's largest frame. Without `look` only stamps are
 * polled: NOTHING proves nothing. With it the words decide, and who blocks is buried or, after its patience, cancelled;
 * *out_wait_ns is then lowered to what is left of that patience. */
enum cursor_found cursor_next(struct cursor *cursor, uint64_t *buffer, bool look, struct frame *out_frame,
                              uint64_t *out_wait_ns, struct error *err);

/* The same by the shortest way, for what stands there nearly always: a stamped event in the ring. false: cursor_next() knows. */
bool cursor_next_stamped(struct cursor *cursor, uint64_t *buffer, struct frame *out_frame);

/* Would cursor_next() without `look` find nothing? Two loads. */
bool cursor_is_quiet(const struct cursor *cursor);

/* Lets go of files. */
void cursor_close(struct cursor *cursor);

/* Is a frame of this topic one that the cursor gives out? */
static inline bool cursor_wants(const struct cursor *cursor, uint16_t topic)
{
    if (topic < 1 || topic > TOPICS_MAX)
        return false;
    if (cursor->wanted != NULL)
        return topic_set_has(cursor->wanted, topic);
    return (atomic_load_explicit(&cursor->live[(topic - 1) / 64], memory_order_acquire) >> ((topic - 1) % 64) & 1) != 0;
}

/* May there be something to read? For whoever sleeps on another's behalf. */
bool cursor_is_ready(const struct cursor *cursor);

static inline uint64_t cursor_pos(const struct cursor *cursor)
{
    return atomic_load_explicit(&cursor->pos, memory_order_relaxed);
}

#endif
