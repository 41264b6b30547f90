/* doorbell.h: sleep until an event, wake the sleepers. See doorbell.c. */
#ifndef EVBUS_DOORBELL_H
#define EVBUS_DOORBELL_H

#include "error.h"
#include "layout.h"

#include <string.h>
#include <time.h>

#define DOORBELL_TOPIC_WORDS (TOPICS_MAX / 64)

/* Topic ids as a set: bit id - 1. */
struct topic_set {
    uint64_t bits[DOORBELL_TOPIC_WORDS];
};

static inline void topic_set_add(struct topic_set *set, uint32_t id)
{
    set->bits[(id - 1) / 64 % DOORBELL_TOPIC_WORDS] |= UINT64_C(1) << ((id - 1) % 64);
}

static inline bool topic_set_has(const struct topic_set *set, uint32_t id)
{
    return set->bits[(id - 1) / 64 % DOORBELL_TOPIC_WORDS] >> ((id - 1) % 64) & 1;
}

static inline bool topic_set_is_empty(const struct topic_set *set)
{
    static const struct topic_set none;
    return memcmp(set, &none, sizeof none) == 0;
}

/* A place among the sleepers of a log, for the thread that owns `slot`. EVBUS_OK; EVBUS_ELIMIT. */
int doorbell_join(struct log_head *log, uint32_t slot, uint32_t *out_place, struct error *err);
void doorbell_leave(struct log_head *log, uint32_t place);

/* Which topics may wake the place. */
void doorbell_want(struct log_head *log, uint32_t place, const struct topic_set *topics);

/* About to sleep, and awake again. Between them: a full fence, a look at the words, doorbell_sleep(). */
void doorbell_set(struct log_head *log, uint32_t place);
void doorbell_clear(struct log_head *log, uint32_t place);

/* Our slot's bell, read before doorbell_set(). */
uint32_t doorbell_read(const struct slot *slot);

/* Sleeps unless the bell has been rung since it was read. */
void doorbell_sleep(const struct slot *slot, uint32_t seen, struct timespec timeout);

/* May anybody be asleep? The commit stands before it. */
static inline bool doorbell_is_wanted(const struct log_head *log)
{
#if defined(__x86_64__)
    atomic_signal_fence(memory_order_seq_cst); /* edge DOORBELL, from: the commit's LOCK CMPXCHG was the fence */
#else
    atomic_thread_fence(memory_order_seq_cst); /* edge DOORBELL, from: the commit */
#endif
    const _Atomic uint64_t *words = log->sleeping; /* written out: a loop over atomics stays one */
    return (atomic_load_explicit(&words[0], memory_order_relaxed) |
            atomic_load_explicit(&words[1], memory_order_relaxed) |
            atomic_load_explicit(&words[2], memory_order_relaxed) |
            atomic_load_explicit(&words[3], memory_order_relaxed) |
            atomic_load_explicit(&words[4], memory_order_relaxed) |
            atomic_load_explicit(&words[5], memory_order_relaxed) |
            atomic_load_explicit(&words[6], memory_order_relaxed) |
            atomic_load_explicit(&words[7], memory_order_relaxed)) != 0;
}
static_assert(SLEEPERS_MAX / 64 == 8, "written out");

/* Wakes the log's sleepers that want one of these topics. The commit stands before it. Returns whom it has woken last: {place + 1:16,
 * slot:16}; 0: nobody. */
uint32_t doorbell_ring(struct log_head *log, struct slot *slots, const struct topic_set *topics);

/* Asks for the lines that it takes to wake him again. */
void doorbell_expect(const struct log_head *log, const struct slot *slots, uint32_t woken);

/* Rings one slot's bell. */
void doorbell_ring_slot(struct slot *slot);

/* Clears what a dead thread left among the sleepers of a log. */
void doorbell_bury(struct log_head *log, uint32_t slot);

#endif
