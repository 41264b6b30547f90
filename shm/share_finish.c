/* share_finish.c: what became of an event, by whoever handled it: one CAS of its word, any thread. (One that is done may be finished by the
 * take of the next instead: share_finish_and_next().)
 *
 * An attempt that ends badly is first written down (notes.c), then the word says so [P10]. Checked by tests/unit/test_share.c,
 * tests/unit/test_outcomes.c, tests/crash/test_groups.c. */
#include "share_entry.h"

#include "clock.h"
#include "point.h"

#include <evbus/evbus.h>

/* Keeps the text of a bad attempt; returns the entry's new side note. */
static uint64_t keep_note(const struct item *item, enum pending_cause cause, const char *error, struct claim *claim)
{
    const struct share *share = item->share;
    struct pending entry = item->running;
    uint64_t now_ns = clock_coarse_ns(); /* as its beginning */
    if (cause == CAUSE_NO_VERSION)
        entry.attempts = 0; /* as of what no handler gets */
    struct report_attempt attempt = {.entry = &entry,
                                     .id = item->frame.id,
                                     .cause = cause,
                                     .took_ns = now_ns > item->since_ns ? now_ns - item->since_ns : 0,
                                     .slot = claim->slot,
                                     .member = share->of->member,
                                     .error = error};
    return NOTE(report_attempt(&share->report, &attempt, claim, NOTE_POSITION(share_note(share, item->index))), cause,
                false);
}

/* Until an event comes again. */
static uint64_t wait_of(const struct item *item, bool is_charged, bool is_deferred, uint64_t now_ns)
{
    uint32_t random = (uint32_t)((now_ns ^ item->running.pos) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
    if (is_deferred)
        return item->defer_ns < RETRY_DEFER_MAX_NS ? item->defer_ns : RETRY_DEFER_MAX_NS;
    return retry_wait_ns(item->retry, is_charged ? item->running.attempts : 1, random);
}

static int refuse(const struct item *item, struct error *err)
{
    const struct ring *ring = item->share->ring;
    share_end_probe(item->share, item->probe, true, clock_mono_ns());
    return error_set(err, EVBUS_EFENCED,
                     "%s/%u: the event is somebody else's now: its handler took too long, or its member was taken for "
                     "hung",
                     ring->name, ring->partition);
}

static _Atomic uint64_t *entry_of(const struct item *item)
{
    return &item->share->part->pending[item->index];
}

/* Does the entry say what it said when its handler began? Others may have come to wait behind it. */
static bool is_ours(const struct item *item, uint64_t word)
{
    return (word | PENDING_FOLLOWERS) == (pending_pack(&item->running) | PENDING_FOLLOWERS);
}

/* From this word, which is ours, to that state. false: it has changed. */
static bool step(const struct item *item, uint64_t *inout_word, struct pending next)
{
    next.followers = next.state != PENDING_EMPTY && (*inout_word & PENDING_FOLLOWERS) != 0;
    return atomic_compare_exchange_strong_explicit(entry_of(item), inout_word, pending_pack(&next),
                                                   memory_order_acq_rel, memory_order_acquire);
}

static int finish_done(const struct item *item, uint64_t word, struct error *err)
{
    struct share *share = item->share;
    for (;;) {
        struct pending next = item->running;
        next.state = PENDING_SCAN;
        if ((word & PENDING_FOLLOWERS) == 0)
            next = share_emptied(&next);
        if (step(item, &word, next))
            break;
        if (!is_ours(item, word))
            return refuse(item, err);
    }
    share_tell_done(share);
    return EVBUS_OK;
}

static int finish_undone(const struct item *item, uint64_t word, int outcome, const char *error, struct claim *claim,
                         struct error *err)
{
    struct share *share = item->share;
    const struct retry *retry = item->retry;
    bool is_charged = outcome == EVBUS_RETRY || outcome == EVBUS_REJECT;
    bool is_deferred = outcome == EVBUS_DEFER && item->defer_ns != 0;
    bool is_told = is_charged || outcome == SHARE_NO_VERSION;
    enum pending_cause cause = outcome == EVBUS_REJECT       ? CAUSE_REJECTED
                               : outcome == SHARE_NO_VERSION ? CAUSE_NO_VERSION
                                                             : CAUSE_FAILED;
    bool is_held = false; /* failed, and the group pauses: due at once, when that is over */
    if (outcome == EVBUS_RETRY) {
        is_charged = is_told = share_is_own_fault(share, retry, item->running.pos, cause, error);
        is_held = !is_charged;
    }
    uint64_t now_ns = clock_mono_ns();
    uint64_t note = is_told ? keep_note(item, cause, error, claim)
                            : share_note(share, item->index) | (is_deferred ? NOTE_DEFERRED : 0);
    share_set_side(share, item->index, is_held ? now_ns : now_ns + wait_of(item, is_charged, is_deferred, now_ns),
                   note);
    bool is_spent = is_charged && item->running.attempts >= retry_attempts(retry);
    bool is_dead = outcome == EVBUS_REJECT || outcome == SHARE_NO_VERSION || is_spent;
    struct pending next = item->running;
    next.state = is_dead ? PENDING_DEAD : PENDING_WAIT;
    next.attempts -= !is_charged;
    while (!step(item, &word, next))
        if (!is_ours(item, word))
            return refuse(item, err);
    point_pass(POINT_GROUP_FINISHED, NULL);
    share_end_probe(share, item->probe, outcome != EVBUS_REJECT && outcome != SHARE_NO_VERSION, now_ns);
    if (is_told)
        share_count(share, cause);
    return EVBUS_OK;
}

int share_finish(const struct item *item, int outcome, const char *error, struct claim *claim, struct error *err)
{
    struct share *share = item->share;
    bool is_lease_thread = claim == share->of->claim;
    point_pass(POINT_GROUP_FINISHING, NULL);
    if (is_lease_thread)
        share_tell_chained(share);
    uint64_t word = atomic_load_explicit(entry_of(item), memory_order_acquire);
    if (!is_ours(item, word) || !(is_lease_thread ? share_end_own_run(share, item->index, item->run)
                                                  : share_end_run(share, item->index, item->run)))
        return refuse(item, err);
    return outcome == EVBUS_DONE ? finish_done(item, word, err) : finish_undone(item, word, outcome, error, claim, err);
}

bool share_abandon(struct item *item)
{
    struct share *share = item->share;
    uint64_t now_ns = clock_mono_ns();
    uint64_t word = atomic_load_explicit(entry_of(item), memory_order_acquire);
    if (!share_end_run(share, item->index, item->run) || !is_ours(item, word))
        return false;
    struct pending next = item->running;
    next.state = PENDING_WAIT;
    next.attempts--;
    share_set_side(share, item->index, now_ns + wait_of(item, false, false, now_ns), share_note(share, item->index));
    share_end_probe(share, item->probe, true, now_ns);
    return step(item, &word, next);
}

void share_put_back(struct item *item)
{
    if (share_abandon(item) && item->running.attempts > 1)
        atomic_fetch_sub_explicit(&item->share->part->n_redelivered, 1, memory_order_relaxed);
}
