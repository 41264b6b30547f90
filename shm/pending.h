/* pending.h: events of a group and partition that are taken and not finished. See pending.c. */
#ifndef EVBUS_PENDING_H
#define EVBUS_PENDING_H

#include "error.h"
#include "layout.h"

enum pending_state {
    PENDING_EMPTY = 0,
    PENDING_TAKEN = 1, /* no handler may get it: stored, the cursor perhaps not moved yet */
    PENDING_RUN = 2,   /* in a handler, or, at or beyond the cursor, about to be */
    PENDING_SOLO = 3,  /* in a handler, and nothing else of its group and partition is */
    PENDING_WAIT = 4,  /* to be tried (again) */
    PENDING_SCAN = 5,  /* done, its followers are still to be found */
    PENDING_DEAD = 6,  /* spent or rejected; its dead letter is still to be published */
    PENDING_PARKED = 7 /* its letter is published; its key waits until somebody settles it */
};

/* Why an attempt ended badly, in a note's and dead letter's words. */
enum pending_cause {
    CAUSE_NONE = 0,
    CAUSE_FAILED = 1,
    CAUSE_CRASHED = 2,
    CAUSE_TIMEOUT = 3,
    CAUSE_REJECTED = 4,
    CAUSE_NO_VERSION = 5, /* the group accepts none of its versions */
    CAUSE_EXPIRED = 6     /* its time was over before a handler had it */
};
#define CAUSES 7
static_assert(CAUSES <= sizeof((struct group_part *)0)->n_causes / sizeof(uint64_t), "a cause, a place");
const char *pending_cause_name(enum pending_cause cause);

#define PENDING_ATTEMPTS_MAX 15 /* what the word can count */

/* A word taken apart. */
struct pending {
    uint64_t pos; /* 0 where the state is EMPTY */
    uint16_t epoch;
    uint32_t attempts; /* begun */
    enum pending_state state;
    bool followers; /* events of its key stand between it and the cursor, and were skipped */
};

#define POSITION_LOW_BITS 40
#define POSITION_LOW_MASK ((UINT64_C(1) << POSITION_LOW_BITS) - 1)

/* cursor: any position of this partition within 2^39 cells of the entry: the group's cursor [P6]. */
static inline struct pending pending_unpack(uint64_t word, uint64_t cursor)
{
    struct pending pending = {
        .epoch = (uint16_t)(word >> 8),
        .attempts = (uint32_t)(word >> 4) & 15,
        .state = (enum pending_state)(word >> 1 & 7),
        .followers = (word & 1) != 0,
    };
    if (pending.state == PENDING_EMPTY)
        return pending;
    uint64_t apart = ((word >> 24) - cursor) & POSITION_LOW_MASK; /* forwards; more than half of it is backwards */
    bool is_behind = apart > POSITION_LOW_MASK / 2;
    pending.pos = is_behind ? cursor - (POSITION_LOW_MASK + 1 - apart) : cursor + apart;
    return pending;
}

static inline uint64_t pending_pack(const struct pending *pending)
{
    uint64_t pos = pending->state == PENDING_EMPTY ? 0 : pending->pos & POSITION_LOW_MASK;
    uint32_t attempts = pending->attempts < PENDING_ATTEMPTS_MAX ? pending->attempts : PENDING_ATTEMPTS_MAX;
    return pos << 24 | (uint64_t)pending->epoch << 8 | (uint64_t)attempts << 4 | (uint64_t)pending->state << 1 |
           (pending->followers ? 1 : 0);
}

#define CURSOR_POSITION(word)        ((word) >> 16)
#define CURSOR_EPOCH(word)           ((uint16_t)(word))
#define CURSOR_WORD(position, epoch) ((uint64_t)(position) << 16 | (uint16_t)(epoch))

/* Where a seek wants the cursor. Not set: nowhere, it stays [P12]. */
#define SEEK_IS_SET(word)        (CURSOR_POSITION(word) != 0)
#define SEEK_TARGET(word)        (CURSOR_POSITION(word) - 1)
#define SEEK_WORD(target, epoch) CURSOR_WORD((target) + 1, epoch)
#define SEEK_NONE(epoch)         CURSOR_WORD(UINT64_C(0), epoch)

static inline uint64_t pending_cursor(const struct group_part *part)
{
    return CURSOR_POSITION(atomic_load_explicit(&part->cursor, memory_order_acquire));
}

static inline struct pending pending_load(const struct group_part *part, uint32_t index, uint64_t cursor)
{
    return pending_unpack(atomic_load_explicit(&part->pending[index], memory_order_acquire), cursor);
}

#define PENDING_FOLLOWERS UINT64_C(1) /* of a word */

/* One step of an entry: from exactly this to that. false: somebody else has changed it, or fenced us. */
static inline bool pending_step(struct group_part *part, uint32_t index, const struct pending *from,
                                const struct pending *to)
{
    uint64_t word = pending_pack(from);
    return atomic_compare_exchange_strong_explicit(&part->pending[index], &word, pending_pack(to), memory_order_acq_rel,
                                                   memory_order_acquire);
}

/* Moves the cursor on. false: we are fenced. */
static inline bool pending_move_cursor(struct group_part *part, uint16_t epoch, uint64_t from, uint64_t to)
{
    uint64_t word = CURSOR_WORD(from, epoch);
    return atomic_compare_exchange_strong_explicit(&part->cursor, &word, CURSOR_WORD(to, epoch), memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* The least position that the group still needs: its cursor, read first, or an entry's [P5]. */
uint64_t pending_low(const struct group_part *part);

/* Where the group began in the partition, or was moved to last. */
static inline uint64_t pending_start(const struct group_part *part)
{
    return CURSOR_POSITION(atomic_load_explicit(&part->start, memory_order_acquire));
}

/* What a partition's state is, for who is not its holder: as it was before a seek or as it is behind it [P12]. */
struct pending_view {
    uint64_t cursor;
    uint64_t start;
    uint64_t words[PENDING_MAX];
};
void pending_look(const struct group_part *part, struct pending_view *out);

/* side.note taken apart */
#define NOTE_POSITION(note)          ((note) >> 16) /* + 1; 0: none */
#define NOTE_CAUSE(note)             ((enum pending_cause)((note) >> 8 & 0xff))
#define NOTE_IS_SOLO(note)           (((note)&1) != 0)
#define NOTE_DEFERRED                UINT64_C(2) /* its handler has named the time until which it waits */
#define NOTE(position1, cause, solo) ((uint64_t)(position1) << 16 | (uint64_t)(cause) << 8 | ((solo) ? 1 : 0))

#endif
