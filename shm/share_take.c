/* share_take.c: a share's lease is taken, and what its holder before has left is mended; or given.
 *
 * Keys come from the frames, never from the side fields, where a fenced holder may have written [P3]; what was in a handler is first
 * written down, then told by its word (lease.c). Rules P3 P6 P12. Checked by tests/unit/test_share.c, tests/crash/test_takeover.c. */
#include "share_entry.h"

#include "clock.h"
#include "group.h"

#include <string.h>

/* The entries that are in a handler, a bit each. */
static uint64_t running_of(const struct share *share)
{
    uint64_t bits = 0;
    uint64_t cursor = pending_cursor(share->part);
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending found = pending_load(share->part, i, cursor);
        bool is_running = found.state == PENDING_RUN || found.state == PENDING_SOLO;
        bits |= (uint64_t)(is_running && found.epoch == share->epoch && found.pos < cursor) << i;
    }
    return bits;
}

/* The service that had the lease before; ours stands there now. */
static void change_taker(const struct share *share, char out_before[SERVICE_BYTES])
{
    uint64_t before[SERVICE_BYTES / 8], ours[SERVICE_BYTES / 8];
    memcpy(ours, share->of->member, sizeof ours);
    for (size_t i = 0; i < SERVICE_BYTES / 8; i++)
        before[i] = atomic_exchange_explicit(&share->part->taker[i], ours[i], memory_order_relaxed);
    memcpy(out_before, before, sizeof before);
    out_before[SERVICE_BYTES - 1] = '\0';
}

/* The attempts that a takeover ends, in writing before their words say so: who is killed here leaves them as they were, and the next
 * finds what is written already. false: the files cannot be read now. */
static bool note_runs(struct share *share, uint64_t running, struct report_attempt ended, uint64_t *buffer)
{
    uint64_t cursor = pending_cursor(share->part);
    for (uint64_t bits = running; bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        struct pending found = pending_load(share->part, i, cursor);
        uint64_t note = atomic_load_explicit(&share->part->side[i].note, memory_order_relaxed);
        struct frame frame;
        enum share_read read = share_read(share, found.pos, buffer, &frame);
        if (read == SHARE_READ_FAILED)
            return false;
        if (read == SHARE_READ_LOST || report_has(&share->report, &found, frame.id, NOTE_POSITION(note)))
            continue;
        ended.entry = &found;
        ended.id = frame.id;
        note = NOTE(report_attempt(&share->report, &ended, share->of->claim, NOTE_POSITION(note)), NOTE_CAUSE(note),
                    NOTE_IS_SOLO(note));
        atomic_store_explicit(&share->part->side[i].note, note, memory_order_relaxed);
    }
    return true;
}

/* Without the events' keys nobody can say what must wait behind them. */
static void leave_unread(struct share *share)
{
    share_close(share);
    lease_give(share->part, share->epoch, share->of->slot);
    share->held = false;
    share->take_after_ns = clock_mono_ns() + SHARE_RETRY_NS;
}

bool share_take(struct share *share, uint32_t from, uint64_t *buffer)
{
    const struct share_group *of = share->of;
    if (share->take_after_ns != 0 &&
        clock_mono_ns() < share->take_after_ns) /* each time costs one of 65536 epochs [P6] */
        return false;
    uint32_t holder = lease_holder(share->part);
    char member[SERVICE_BYTES];
    if (!lease_take(share->part, of->memory->control->slots, of->slot, from, &share->epoch))
        return false;
    share->report = (struct report){.memory = of->memory,
                                    .log = of->log,
                                    .group = of->name,
                                    .ring = share->ring,
                                    .is_unread = share->report.is_unread};
    uint64_t now_ns = clock_mono_ns(); /* not before: waits that are stored meanwhile would look far away */
    ring_stamp_low(share->ring, PINS_MAX + of->group, share->epoch);
    enum pending_cause cause = from != 0 && from != of->slot ? CAUSE_TIMEOUT : CAUSE_CRASHED;
    uint64_t running = running_of(share);
    change_taker(share, member);
    share_close(share);
    if (!note_runs(share, running, (struct report_attempt){.cause = cause, .slot = holder, .member = member}, buffer)) {
        leave_unread(share);
        return false;
    }
    uint64_t n_ran = lease_recover(share->part, share->epoch, 0, retry_attempts(of->retry), cause);
    atomic_fetch_add_explicit(&share->part->n_causes[cause], n_ran, memory_order_relaxed);
    if (of->gaps != NULL)
        gaps_follow(of->gaps);
    share->held = true;
    share->leaving = false;
    share->busy = 0;
    share->held_back = 0;
    share->dead_after_ns = 0;
    share->scan_after_ns = 0;
    share->moved_to = pending_cursor(share->part);
    share->cursor = (struct cursor){.ring = share->ring,
                                    .memory = of->memory,
                                    .live = share->log->head->group_topics[of->group],
                                    .pin = CURSOR_NO_PIN};
    atomic_store_explicit(&share->cursor.pos, share->moved_to, memory_order_relaxed);
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending found = share_entry(share, i);
        struct frame frame;
        if (found.state == PENDING_EMPTY)
            continue;
        share->busy |= UINT64_C(1) << i;
        /* The key from the frame, never from the side, where a fenced holder may have written, unless
         * that frame is damaged: then what waits behind it would be lost for certain. The rest is bounded [P3]. */
        enum share_read read = share_read(share, found.pos, buffer, &frame);
        if (read == SHARE_READ_FAILED) {
            leave_unread(share);
            return false;
        }
        struct share_own *own = share_own(share, i);
        own->key = read == SHARE_READ_EVENT ? share_key(&frame)
                                            : atomic_load_explicit(&share->part->side[i].key, memory_order_relaxed);
        memset(own->id, 0, sizeof own->id); /* of what is lost: no letter, so it does not stay parked */
        if (found.state == PENDING_PARKED && read == SHARE_READ_EVENT)
            share_letter_id(share, &frame, found.pos, own->id);
        uint64_t note = atomic_load_explicit(&share->part->side[i].note, memory_order_relaxed);
        share_set_side(share, i,
                       retry_bound_ns(of->retry, (note & NOTE_DEFERRED) != 0,
                                      atomic_load_explicit(&share->part->side[i].time_ns, memory_order_relaxed),
                                      now_ns),
                       note);
    }
    share_tell_low(share, false);
    return true;
}

void share_give(struct share *share)
{
    share_tell_low(share, true);
    share_close(share);
    lease_give(share->part, share->epoch, share->of->slot);
    share->held = false;
}
