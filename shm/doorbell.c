/* doorbell.c: sleep until an event, wake the sleepers.
 *
 *     sleeper                                   producer
 *     1  seen = bell                            1  commit (a CAS on the word)
 *     2  sleeps + 1, set my bit                 2  full fence (x86-64: the CAS was one)
 *     3  full fence                             3  bits? for each sleeper that wants the topic:
 *     4  look at the words again                4      bell + 1, futex wake
 *     5  futex wait while bell == seen
 *     6  clear my bit
 *
 * Why that is enough. Of 2-3-4 and 1-2-3 one side sees the other (Dekker, edge DOORBELL): either the sleeper finds the event
 * or the producer finds the bit [D1, D2; model doorbell.pml, -DNOFENCEP, -DNOFENCES fail]. A bell that is rung between 4 and
 * 5 has another value, so the kernel does not put the sleeper to sleep [-DNOBELL fails]. A bit belongs to one sleeper, and
 * only it or its burial clears it: a waker that is stopped between 3 and 4 takes nothing from the next one [D3, D4;
 * -DSHARED, -DWAKERCLEARS fail]. A waker that dies there is covered by its burial, which rings all bells, one that is
 * stopped by the keeper [D5]; and no sleep is longer than 250 ms [keeps WOKEN].
 *
 * A sleep is ended by one wake: its number is stored in `rung` after the wake, so whoever finds it there knows that the bell has
 * been rung and the futex woken since the bell was read; stored before it, a waker that stops in between would keep the others
 * from waking. A stopped sleeper costs producers one wake, not one each.
 * A producer that finds the line empty makes no system call. */
#include "doorbell.h"

#include "cell.h"
#include "futex.h"

#include <limits.h>

int doorbell_join(struct log_head *log, uint32_t slot, uint32_t *out_place, struct error *err)
{
    for (uint32_t place = 0; place < SLEEPERS_MAX; place++) {
        uint32_t nobody = 0;
        if (atomic_load_explicit(&log->sleepers[place].slot, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&log->sleepers[place].slot, &nobody, slot, memory_order_acq_rel,
                                                    memory_order_relaxed)) {
            *out_place = place;
            return EVBUS_OK;
        }
    }
    return error_set(err, EVBUS_ELIMIT, "log %.127s has %d sleeping threads, no more fit: read it from fewer threads",
                     log->name, SLEEPERS_MAX);
}

void doorbell_leave(struct log_head *log, uint32_t place)
{
    struct sleeper *sleeper = &log->sleepers[place];
    doorbell_clear(log, place);
    for (int i = 0; i < DOORBELL_TOPIC_WORDS; i++)
        atomic_store_explicit(&sleeper->topics[i], 0, memory_order_relaxed);
    atomic_store_explicit(&sleeper->slot, 0, memory_order_release);
}

void doorbell_want(struct log_head *log, uint32_t place, const struct topic_set *topics)
{
    for (int i = 0; i < DOORBELL_TOPIC_WORDS; i++)
        atomic_store_explicit(&log->sleepers[place].topics[i], topics->bits[i], memory_order_relaxed);
}

void doorbell_set(struct log_head *log, uint32_t place)
{
    struct sleeper *sleeper = &log->sleepers[place];
    atomic_fetch_add_explicit(&sleeper->sleeps, 1, memory_order_relaxed);
    atomic_fetch_or_explicit(&log->sleeping[place / 64], UINT64_C(1) << (place % 64), memory_order_release);
}

void doorbell_clear(struct log_head *log, uint32_t place)
{
    atomic_fetch_and_explicit(&log->sleeping[place / 64], ~(UINT64_C(1) << (place % 64)), memory_order_relaxed);
}

uint32_t doorbell_read(const struct slot *slot)
{
    return atomic_load_explicit(&slot->bell, memory_order_acquire);
}

void doorbell_sleep(const struct slot *slot, uint32_t seen, struct timespec timeout)
{
    futex_wait(&slot->bell, seen, timeout);
}

void doorbell_ring_slot(struct slot *slot)
{
    atomic_fetch_add_explicit(&slot->bell, 1, memory_order_release);
    futex_wake(&slot->bell, INT_MAX);
}

static bool wants(const struct sleeper *sleeper, const struct topic_set *topics)
{
    for (int i = 0; i < DOORBELL_TOPIC_WORDS; i++)
        if ((atomic_load_explicit(&sleeper->topics[i], memory_order_relaxed) & topics->bits[i]) != 0)
            return true;
    return false;
}

uint32_t doorbell_ring(struct log_head *log, struct slot *slots, const struct topic_set *topics)
{
    uint32_t woken = 0;
    if (!doorbell_is_wanted(log))
        return 0;
    for (uint32_t i = 0; i < SLEEPERS_MAX / 64; i++) {
        uint64_t bits = atomic_load_explicit(&log->sleeping[i], memory_order_acquire);
        for (; bits != 0; bits &= bits - 1) {
            uint32_t place = i * 64 + (uint32_t)__builtin_ctzll(bits);
            struct sleeper *sleeper = &log->sleepers[place];
            uint32_t slot = atomic_load_explicit(&sleeper->slot, memory_order_relaxed);
            uint32_t sleeps = atomic_load_explicit(&sleeper->sleeps, memory_order_relaxed);
            if (slot < 1 || slot > SLOTS_MAX || !wants(sleeper, topics) ||
                atomic_load_explicit(&sleeper->rung, memory_order_relaxed) == sleeps)
                continue;
            doorbell_ring_slot(&slots[slot]);
            atomic_store_explicit(&sleeper->rung, sleeps, memory_order_release); /* after the wake, never before */
            woken = (place + 1) << 16 | slot;
        }
    }
    return woken;
}

void doorbell_expect(const struct log_head *log, const struct slot *slots, uint32_t woken)
{
    cell_expect(log->sleeping);
    cell_expect(&log->sleepers[(woken >> 16) - 1]);
    cell_expect(&slots[woken & 0xffff].bell);
}

void doorbell_bury(struct log_head *log, uint32_t slot)
{
    for (uint32_t place = 0; place < SLEEPERS_MAX; place++)
        if (atomic_load_explicit(&log->sleepers[place].slot, memory_order_relaxed) == slot)
            doorbell_leave(log, place);
}
