/* gaps.h: the dead letters of a group that nobody has settled, by key; for the group's members. See gaps.c. */
#ifndef EVBUS_GAPS_H
#define EVBUS_GAPS_H

#include "letters.h"

struct gaps_key {
    uint64_t key; /* + 1; 0: the place is free */
    uint64_t n;   /* letters that are open */
};

/* Zeroed but for `memory`, `ring` and `topic`: nothing has been read yet. To be closed. One thread at a time. */
struct gaps {
    struct memory *memory;
    struct ring *ring;      /* of the log of dead letters */
    uint32_t topic;         /* id of the group's dead letters */
    struct letters letters; /* of that topic; .end: all before it has been read */
    bool is_begun;
    uint64_t *buffer;
    struct partition_past *past;
    struct ring_blocked blocked; /* the claim that we stand before */
    struct gaps_key *keys;       /* open addressing, a power of two of places */
    size_t n_keys, n_places;
};

void gaps_close(struct gaps *gaps);

/* Is there anything that gaps_follow() has not read? One load. */
static inline bool gaps_has_news(const struct gaps *gaps)
{
    return !gaps->is_begun || ring_tail(gaps->ring) != gaps->letters.end;
}

/* Nothing that was read is open. */
static inline bool gaps_is_empty(const struct gaps *gaps)
{
    return gaps->n_keys == 0;
}

/* Reads what has been published of letters since. false: not all of it could be (no memory; files that cannot be read now; it is being
 * written): the next call goes on. */
bool gaps_follow(struct gaps *gaps);

/* Is an event of this key and partition a dead letter that nobody has settled? */
bool gaps_has(const struct gaps *gaps, uint32_t log, uint32_t partition, uint32_t key_hash);

#endif
