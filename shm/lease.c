/* lease.c: which member has which partition of a group.
 *
 *     CAS lease {e, nobody or dead} -> {e+1, me}; stamp cursor, seek, start with e+1, then all 64 words, empty ones too; is it still
 *     ours? Finish a seek that was begun; only then read
 *
 * Why that is enough. Whoever held it before (dead, or slow and fenced) still stores by CAS with its own epoch, and after the
 * stamp each of those fails: so from the first read on nothing changes but by us [P3] [keeps ONE-HOLDER]. The words are
 * stamped after the cursor: an entry that the old holder stores between the two lies at or beyond our cursor, and is dropped.
 * The dead are told by two loads (slot.c): a takeover waits for no undertaker.
 * Who is stopped between the CAS and his stamps, and taken from, stamps words that are another's: so he looks at the lease again
 * behind them, and goes without it. The other finds that he is fenced, as by a damaged word, and takes it again.
 *
 * A seek that was begun (seek.c) is finished by whoever takes the lease next, before anything else: entries emptied, cursor, start,
 * and `seek` last. So killed at any step it is done again from the first, and nobody sees the cursor moved and old entries, or the
 * entries gone and the cursor where it was [P12].
 *
 * What a takeover finds
 *   at or beyond the cursor     was never in a handler: dropped, it is taken again [P4]
 *   TAKEN                       nobody may handle it, and it is not told yet: WAIT, uncharged
 *   RUN                         was in a handler, or about to be, perhaps with others: WAIT, and it runs alone next time [P7]
 *   SOLO                        was in a handler alone: it counts; spent: DEAD, crashed
 * Checked by tests/model/lease.pml, tests/unit/test_lease.c, tests/crash/test_takeover.c, tests/crash/test_seek.c. */
#include "lease.h"

#include "slot.h"

#define TRIES_MAX 8 /* at a seek whose words others stamp meanwhile */

static void stamp(_Atomic uint64_t *word, uint64_t clear, uint64_t set)
{
    uint64_t seen = atomic_load_explicit(word, memory_order_acquire);
    while (!atomic_compare_exchange_weak_explicit(word, &seen, (seen & ~clear) | set, memory_order_acq_rel,
                                                  memory_order_acquire)) {
    }
}

/* What a seek began, or was killed at. false: a word has been stamped by another since we did. */
static bool finish_seek(struct group_part *part, uint16_t epoch)
{
    uint64_t seek = atomic_load_explicit(&part->seek, memory_order_acquire);
    uint64_t target = CURSOR_WORD(SEEK_TARGET(seek), epoch);
    if (!SEEK_IS_SET(seek))
        return true;
    if (CURSOR_EPOCH(seek) != epoch)
        return false;
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        uint64_t word = atomic_load_explicit(&part->pending[i], memory_order_acquire);
        if ((uint16_t)(word >> 8) != epoch ||
            !atomic_compare_exchange_strong_explicit(&part->pending[i], &word, (uint64_t)epoch << 8,
                                                     memory_order_acq_rel, memory_order_relaxed))
            return false;
    }
    uint64_t cursor = atomic_load_explicit(&part->cursor, memory_order_acquire);
    if (CURSOR_EPOCH(cursor) != epoch ||
        !atomic_compare_exchange_strong_explicit(&part->cursor, &cursor, target, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    uint64_t start = atomic_load_explicit(&part->start, memory_order_acquire);
    if (CURSOR_EPOCH(start) != epoch || !atomic_compare_exchange_strong_explicit(
                                            &part->start, &start, target, memory_order_acq_rel, memory_order_relaxed))
        return false;
    return atomic_compare_exchange_strong_explicit(&part->seek, &seek, SEEK_NONE(epoch), memory_order_acq_rel,
                                                   memory_order_relaxed); /* last */
}

static bool take_once(struct group_part *part, const struct slot *slots, uint32_t slot, uint32_t from,
                      uint16_t *out_epoch)
{
    uint64_t word = atomic_load_explicit(&part->lease, memory_order_acquire);
    uint32_t holder = LEASE_SLOT(word);
    if (holder != 0 && holder != from && !slot_is_dead(&slots[holder]))
        return false;
    uint16_t epoch = (uint16_t)(LEASE_EPOCH(word) + 1);
    if (!atomic_compare_exchange_strong_explicit(&part->lease, &word, LEASE_WORD(epoch, slot), memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    if (holder != 0 && holder != slot) /* else it was given, or its burial has counted it */
        atomic_fetch_add_explicit(&part->n_takeovers, 1, memory_order_relaxed);
    stamp(&part->cursor, 0xffff, epoch);
    stamp(&part->seek, 0xffff, epoch);
    stamp(&part->start, 0xffff, epoch);
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        stamp(&part->pending[i], UINT64_C(0xffff) << 8, (uint64_t)epoch << 8);
    *out_epoch = epoch;
    return lease_is_held(part, epoch, slot); /* behind the stamps: whoever takes it from now on stamps behind us */
}

bool lease_take(struct group_part *part, const struct slot *slots, uint32_t slot, uint32_t from, uint16_t *out_epoch)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        uint16_t epoch;
        if (!take_once(part, slots, slot, i == 0 ? from : slot, &epoch))
            return false;
        if (finish_seek(part, epoch)) {
            *out_epoch = epoch;
            return true;
        }
        if (i == TRIES_MAX - 1)
            lease_give(part, epoch, slot);
    }
    return false;
}

void lease_give(struct group_part *part, uint16_t epoch, uint32_t slot)
{
    uint64_t word = LEASE_WORD(epoch, slot);
    atomic_compare_exchange_strong_explicit(&part->lease, &word, LEASE_WORD(epoch, 0), memory_order_release,
                                            memory_order_relaxed);
}

unsigned lease_recover(struct group_part *part, uint16_t epoch, uint64_t due_ns, uint32_t attempts_max,
                       enum pending_cause cause)
{
    uint64_t cursor = pending_cursor(part);
    unsigned n_ran = 0;
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending found = pending_load(part, i, cursor);
        struct pending next = found;
        struct pending_side *side = &part->side[i];
        uint64_t note = atomic_load_explicit(&side->note, memory_order_relaxed);
        if (found.epoch != epoch || found.state == PENDING_EMPTY)
            continue;
        if (found.pos >= cursor) {
            next = (struct pending){.epoch = epoch};
        } else if (found.state == PENDING_TAKEN) {
            next.state = PENDING_WAIT;
        } else if (found.state == PENDING_RUN || found.state == PENDING_SOLO) {
            bool is_spent = found.state == PENDING_SOLO && found.attempts >= attempts_max;
            n_ran++;
            next.state = is_spent ? PENDING_DEAD : PENDING_WAIT;
            atomic_store_explicit(&side->note, NOTE(NOTE_POSITION(note), cause, !is_spent), memory_order_relaxed);
        } else {
            continue;
        }
        if (next.state == PENDING_WAIT)
            atomic_store_explicit(&side->time_ns, due_ns, memory_order_relaxed);
        pending_step(part, i, &found, &next);
    }
    return n_ran;
}
