/* share_next.c: one partition of a group, in the hands of its lease's holder: what goes into a handler next.
 *
 *     take   the lease, and what was left (share_take.c)
 *     next   entries first: SCAN finds the key's next event, DEAD gets its letter, WAIT that is due runs
 *            then the cursor: an event whose key is held is skipped (followers bit, then the cursor); else it is taken:
 *            word RUN with attempt 1, then the cursor: nobody has begun it where the cursor has not moved, and a takeover drops it.
 *            Where no handler may get it: word TAKEN, cursor, word DEAD, and no attempt is begun
 *     chain  what the lease thread has handled itself, and is done, alone in flight and at its first attempt, is finished by the CAS that
 *            takes the next event: the same word goes from one to the other, then the cursor. Counted as done later, with
 *            others, at the next tick or the chain's end: whoever is killed may owe up to 15. Else finish, and next
 *     finish one CAS of the entry's word, by whoever handled it: EMPTY or SCAN; WAIT; DEAD. RELEASE and DEFER take the attempt back
 *            (share_finish.c); then the dead (share_dead.c)
 *
 * An attempt that ends badly is first written down (notes.c), then the word says so: whoever is killed between the two leaves a run
 * whose note is there already, and who takes over writes no second one.
 * So several events are in flight and never two of one key; a held key holds nobody else. What was in a handler when others
 * were, and its process died, comes back alone (SOLO): while it runs, or is due to, nothing else of the partition starts.
 * Scanning, skipping and taking are the lease thread's alone [P2]; a word's change by another thread is seen by its next look.
 * While the group pauses (outage.c) one event at a time goes into a handler, of whichever member has the probe, and what fails is
 * not charged.
 * [keeps ORDER] [keeps ONE-HOLDER] [keeps OUTAGE] Rules P1-P8. Checked by tests/unit/test_share.c, tests/unit/test_outcomes.c, tests/crash/test_groups.c. */
#include "share_entry.h"

#include "clock.h"
#include "group.h"
#include "outage.h"
#include "point.h"

#include <string.h>

#define LOW_EVERY 64                     /* events */
#define LOW_NS    (10 * CLOCK_NS_PER_MS) /* as long as a producer's round of waiting for room */
#define PROBE_NS  (60 * CLOCK_NS_PER_S)  /* at least so long a paused group's one event may be in a handler */

/* Everything before pos is taken, skipped or not ours. false: we are fenced. */
static inline bool move_cursor(struct share *share, uint64_t pos)
{
    if (pos == share->moved_to)
        return true;
    if (!pending_move_cursor(share->part, share->epoch, share->moved_to, pos))
        return false;
    share->moved_to = pos;
    return true;
}

/* The least position that the group needs here, behind what nobody wanted. */
static uint64_t low_of(const struct share *share)
{
    uint64_t low = cursor_pos(&share->cursor);
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        struct pending found = share_entry(share, (uint32_t)__builtin_ctzll(bits));
        if (found.state != PENDING_EMPTY && found.pos < low)
            low = found.pos;
    }
    return low;
}

bool share_has_news(const struct share *share, uint64_t now_ns, bool idle)
{
    uint64_t pos = cursor_pos(&share->cursor);
    return share->n_since_low >= LOW_EVERY || (share->n_since_low != 0 && now_ns >= share->low_after_ns) ||
           pos - share->told >= share->ring->capacity / 8 || (idle && low_of(share) != share->low);
}

void share_tell_low(struct share *share, bool idle)
{
    uint32_t low = group_low_index(share->of->group);
    if (!move_cursor(share, cursor_pos(&share->cursor)))
        return;                                     /* fenced: it is the next holder's to tell */
    ring_stamp_low(share->ring, low, share->epoch); /* who was fenced before us may have stamped it late */
    if (!lease_is_held(share->part, share->epoch, share->of->slot))
        return; /* behind the stamp: else it is another's that we move, whom a seek may have sent back [P12] */
    share->n_since_low = 0;
    share->low_after_ns = clock_coarse_ns() + LOW_NS;
    share->told = share->moved_to;
    share->low = low_of(share);
    ring_move_low(share->ring, low, share->epoch, share->low, idle);
}

/* The item's event goes into a handler, as its entry says. Field by field: a copy of the whole would wait for each of its stores. */
static inline void begin_run(struct share *share, uint32_t i, struct share_own *own, const struct pending *running,
                             struct item *item, uint64_t now_ns)
{
    uint64_t run = share->n_runs += 2;
    memcpy(own->id, item->frame.id, sizeof own->id);
    atomic_store_explicit(&own->run, run, memory_order_release);
    item->share = share;
    item->index = i;
    item->run = run;
    item->probe = 0;
    item->running.pos = running->pos;
    item->running.epoch = running->epoch;
    item->running.attempts = running->attempts;
    item->running.state = running->state;
    item->running.followers = running->followers;
    item->since_ns = now_ns;
    item->retry = share->of->retry;
}

bool share_is_running(const struct share *share)
{
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        struct pending found = share_entry(share, (uint32_t)__builtin_ctzll(bits));
        if (found.epoch == share->epoch && (found.state == PENDING_RUN || found.state == PENDING_SOLO))
            return true;
    }
    return false;
}

/* --- entries ---------------------------------------------------------------------------------------------------------------- */

/* Done: the next event of the key between it and the cursor, if there is one, is what the same word stands for now [P1]. */
static bool scan(struct share *share, uint32_t i, const struct pending *done, uint64_t *buffer)
{
    uint64_t pos = done->pos;
    struct pending next = share_emptied(done);
    while (pos < share->moved_to) {
        uint64_t behind;
        struct frame frame;
        struct error err;
        int found = partition_fetch(&share->past, share->of->memory, share->ring, pos, buffer, &behind, &err);
        report_unread(&share->report, found < 0, found < 0 ? err.text : "");
        if (found < 0) {
            share->scan_after_ns = clock_mono_ns() + SHARE_RETRY_NS;
            return true;
        }
        if (found == PARTITION_NOTHING)
            break;
        if (found == PARTITION_FRAME && pos != done->pos && share_is_ours(share, (const struct frame_header *)buffer) &&
            frame_parse(buffer, &frame, NULL) == EVBUS_OK && share_key(&frame) == share_own(share, i)->key) {
            next = (struct pending){.pos = pos, .epoch = done->epoch, .state = PENDING_WAIT, .followers = true};
            break;
        }
        pos = behind;
    }
    if (!pending_step(share->part, i, done, &next))
        return false;
    share_set_side(share, i, 0, 0);
    return true;
}

/* An entry that is due goes into a handler. */
static enum share_step run_again(struct share *share, uint32_t i, const struct pending *waiting, bool solo,
                                 struct item *item, uint64_t now_ns)
{
    char why[NOTES_TEXT_MAX + 1];
    struct pending next = *waiting;
    enum share_read read = share_read(share, waiting->pos, item->buffer, &item->frame);
    if (read == SHARE_READ_FAILED) {
        share_set_side(share, i, now_ns + SHARE_RETRY_NS, share_note(share, i));
        return SHARE_NOTHING;
    }
    if (read == SHARE_READ_LOST ||
        !share_is_ours(share, (const struct frame_header *)item->buffer)) { /* damaged: nobody could ever handle it */
        next.state = PENDING_SCAN;
        if (!waiting->followers)
            next = share_emptied(waiting);
        if (read == SHARE_READ_LOST)
            report_lost(&share->report, waiting->pos, "an event that was to be tried again is damaged or gone");
        return pending_step(share->part, i, waiting, &next) ? SHARE_NOTHING : SHARE_LOST;
    }
    item->n_replays = share_replays(share, &item->frame, waiting->pos);
    enum pending_cause cause = share_unfit(share, item, why, sizeof why);
    if (cause != CAUSE_NONE)
        return share_end_unhandled(share, i, waiting, item->frame.id, cause, why, now_ns) ? SHARE_NOTHING : SHARE_LOST;
    next.state = solo ? PENDING_SOLO : PENDING_RUN;
    next.attempts++;
    share_set_side(share, i, now_ns, share_note(share, i) & ~NOTE_DEFERRED);
    if (!pending_step(share->part, i, waiting, &next))
        return SHARE_LOST;
    point_pass(POINT_GROUP_RUNNING, NULL);
    if (next.attempts > 1)
        atomic_fetch_add_explicit(&share->part->n_redelivered, 1, memory_order_relaxed);
    share_mark_gap(share, item);
    begin_run(share, i, share_own(share, i), &next, item, now_ns);
    return SHARE_EVENT;
}

/* A handler that takes too long: its entry is fenced, its neighbours go on [P8]. */
static bool fence_entry(struct share *share, uint32_t i, const struct pending *running, uint64_t now_ns)
{
    const struct retry *retry = share->of->retry;
    struct pending next = *running;
    next.state = running->attempts >= retry_attempts(retry) ? PENDING_DEAD : PENDING_WAIT;
    if (!share_end_any_run(share, i))
        return false; /* it is being finished */
    if (share->probe_index == i)
        share_end_probe(share, share->probe, true, now_ns);
    if (!share_is_own_fault(share, retry, running->pos, CAUSE_TIMEOUT, NULL)) {
        next.state = PENDING_WAIT;
        next.attempts--;
        share_set_side(share, i, now_ns, share_note(share, i));
        return pending_step(share->part, i, running, &next);
    }
    struct report_attempt late = {.entry = running,
                                  .id = share_own(share, i)->id,
                                  .cause = CAUSE_TIMEOUT,
                                  .took_ns = now_ns - share_time(share, i),
                                  .slot = share->of->slot,
                                  .member = share->of->member};
    uint64_t note = report_attempt(&share->report, &late, share->of->claim, NOTE_POSITION(share_note(share, i)));
    share_set_side(share, i, now_ns + retry_wait_ns(retry, running->attempts, (uint32_t)now_ns * 2654435761u),
                   NOTE(note, CAUSE_TIMEOUT, false));
    if (!pending_step(share->part, i, running, &next))
        return false; /* so are we */
    share_count(share, CAUSE_TIMEOUT);
    return true;
}

void share_watch(struct share *share, uint64_t now_ns)
{
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        struct pending found = share_entry(share, i);
        uint64_t since = share_time(share, i);
        if (found.epoch == share->epoch && (found.state == PENDING_RUN || found.state == PENDING_SOLO) &&
            now_ns >= since + share->of->retry->handler_timeout_ns)
            fence_entry(share, i, &found, now_ns);
    }
}

/* --- the cursor --------------------------------------------------------------------------------------------------------------- */

/* The entry that holds a key, or -1. */
static int holder_of(const struct share *share, uint64_t key)
{
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        int i = __builtin_ctzll(bits);
        if (share_own(share, (uint32_t)i)->key == key)
            return i;
    }
    return -1;
}

enum held { HELD, FREE, FENCED };

/* Somebody waits behind entry i [P2]. FREE: it has just been finished. */
static enum held follow(struct share *share, uint32_t i)
{
    for (;;) {
        struct pending found = share_entry(share, i);
        struct pending next = found;
        if (found.epoch != share->epoch)
            return FENCED;
        if (found.state == PENDING_EMPTY)
            return FREE;
        next.followers = true;
        if (found.followers || pending_step(share->part, i, &found, &next))
            return HELD;
    }
}

/* As read_next(), whatever it is. */
static __attribute__((noinline)) enum share_step read_on(struct share *share, struct item *item, bool look,
                                                         uint64_t now_ns, uint64_t *out_due_ns, struct error *err)
{
    for (;;) {
        uint64_t wait_ns = UINT64_MAX;
        uint64_t before = cursor_pos(&share->cursor);
        enum cursor_found found = cursor_next(&share->cursor, item->buffer, look, &item->frame, &wait_ns, err);
        if (wait_ns != UINT64_MAX && now_ns + wait_ns < *out_due_ns)
            *out_due_ns = now_ns + wait_ns;
        if (found == CURSOR_CORRUPT && cursor_pos(&share->cursor) != before) {
            if (share->cursor.past != NULL) /* in the ring: the keeper has told of it */
                report_lost(&share->report, before, err->text);
            share->cursor.lost = 0;
            continue;
        }
        if (found == CURSOR_FAILED)
            report_unread(&share->report, true, err->text);
        if (found != CURSOR_EVENT)
            return SHARE_NOTHING; /* or the ring's own positions are damaged; or the files cannot be read now */
        report_unread(&share->report, false, "");
        if (share->cursor.lost != 0) {
            report_lost(&share->report, ((const struct frame_header *)item->buffer)->position,
                        "what stood before it was retired, or its file is lost");
            share->cursor.lost = 0;
        }
        item->n_replays = 0;
        return SHARE_EVENT;
    }
}

/* The next event that the group has asked for, into the item. SHARE_EVENT: it is still to be entered. */
static inline enum share_step read_next(struct share *share, struct item *item, bool look, uint64_t now_ns,
                                        uint64_t *out_due_ns, struct error *err)
{
    if (share->cursor.lost != 0 || share->report.is_unread ||
        !cursor_next_stamped(&share->cursor, item->buffer, &item->frame))
        return read_on(share, item, look, now_ns, out_due_ns, err);
    item->n_replays = 0;
    return SHARE_EVENT;
}

/* The word of the event that was read is stored: the cursor, then its handler. */
static inline enum share_step begin_new(struct share *share, uint32_t i, struct share_own *own,
                                        const struct pending *taken, uint64_t key, struct item *item, uint64_t now_ns)
{
    point_pass(POINT_GROUP_TAKEN, NULL);
    if (!move_cursor(share, cursor_pos(&share->cursor)))
        return SHARE_LOST;
    share->busy |= UINT64_C(1) << i;
    own->key = key;
    if (taken->state != PENDING_RUN)
        return SHARE_NOTHING;
    point_pass(POINT_GROUP_RUNNING, NULL);
    share_mark_gap(share, item);
    begin_run(share, i, own, taken, item, now_ns);
    return SHARE_EVENT;
}

/* The event that was read has its entry, and the cursor is moved behind it. SHARE_NOTHING: its key is held, or no handler may get it. */
static enum share_step enter(struct share *share, struct item *item, uint64_t now_ns, uint64_t *out_due_ns)
{
    char why[NOTES_TEXT_MAX + 1];
    uint64_t pos = ((const struct frame_header *)item->buffer)->position;
    uint64_t key = share_key(&item->frame);
    int holder = holder_of(share, key);
    enum held held = holder >= 0 ? follow(share, (uint32_t)holder) : FREE;
    if (held == FENCED)
        return SHARE_LOST;
    if (held == HELD)
        return move_cursor(share, cursor_pos(&share->cursor)) ? SHARE_NOTHING : SHARE_LOST;
    uint32_t i = (uint32_t)__builtin_ctzll(~share->busy);
    if (holder >= 0)
        i = (uint32_t)holder; /* EMPTY by now */
    enum pending_cause cause = share_unfit(share, item, why, sizeof why);
    bool is_fit = cause == CAUSE_NONE;
    struct pending empty = {.epoch = share->epoch};
    struct pending taken = {
        .pos = pos, .epoch = share->epoch, .state = is_fit ? PENDING_RUN : PENDING_TAKEN, .attempts = is_fit ? 1 : 0};
    share_set_side(share, i, now_ns, 0);
    atomic_store_explicit(&share->part->side[i].key, key, memory_order_relaxed);
    if (!pending_step(share->part, i, &empty, &taken))
        return SHARE_LOST;
    enum share_step step = begin_new(share, i, share_own(share, i), &taken, key, item, now_ns);
    if (step != SHARE_NOTHING)
        return step;
    *out_due_ns = now_ns; /* its letter */
    return share_end_unhandled(share, i, &taken, item->frame.id, cause, why, now_ns) ? SHARE_NOTHING : SHARE_LOST;
}

static enum share_step take(struct share *share, struct item *item, bool look, uint64_t now_ns, uint64_t *out_due_ns,
                            struct error *err)
{
    enum share_step step = SHARE_NOTHING;
    while (step == SHARE_NOTHING) {
        if (share->busy == UINT64_MAX)
            return SHARE_NOTHING; /* 64 in flight or waiting: the partition waits */
        if (read_next(share, item, look, now_ns, out_due_ns, err) != SHARE_EVENT)
            return SHARE_NOTHING;
        step = enter(share, item, now_ns, out_due_ns);
    }
    return step;
}

/* The entry that is due. */
struct candidate {
    int index; /* -1: none */
    struct pending entry;
    bool is_beside; /* others, in handlers */
};

static enum share_step run_due(struct share *share, const struct candidate *due, struct item *item, uint64_t now_ns,
                               uint64_t *out_due_ns)
{
    bool solo = NOTE_IS_SOLO(share_note(share, (uint32_t)due->index));
    if (solo && due->is_beside)
        return SHARE_NOTHING;
    enum share_step step = run_again(share, (uint32_t)due->index, &due->entry, solo, item, now_ns);
    if (step == SHARE_NOTHING)
        *out_due_ns = now_ns; /* another may be due, and what this one has become is to be seen to */
    return step;
}

/* The group pauses: one event at a time is tried, one that waits or a new one. */
static enum share_step try_one(struct share *share, const struct candidate *due, struct item *item, bool look,
                               uint64_t now_ns, uint64_t *out_due_ns, struct error *err)
{
    const struct share_group *of = share->of;
    uint64_t handler_ns = of->retry->handler_timeout_ns + CLOCK_NS_PER_S;
    struct outage_prober prober = {.slots = of->memory->control->slots,
                                   .members = of->memory->control->groups[of->group].members,
                                   .place = of->place,
                                   .owner = of->owner,
                                   .limit_ns = handler_ns > PROBE_NS ? handler_ns : PROBE_NS};
    uint64_t probe = outage_probe(of->outage, &prober, now_ns, out_due_ns);
    if (probe == 0)
        return SHARE_NOTHING;
    bool is_alone = due->index >= 0 &&
                    NOTE_IS_SOLO(share_note(share, (uint32_t)due->index)); /* nothing else may start */
    bool is_new = !is_alone && outage_probe_is_new(probe);
    enum share_step step = is_new ? take(share, item, look, now_ns, out_due_ns, err) : SHARE_NOTHING;
    if (step == SHARE_NOTHING && due->index >= 0) {
        struct candidate now = *due;
        now.entry = share_entry(share, (uint32_t)due->index); /* it may have followers since */
        step = run_due(share, &now, item, now_ns, out_due_ns);
    }
    if (step == SHARE_NOTHING && !is_new && !is_alone)
        step = take(share, item, look, now_ns, out_due_ns, err);
    if (step != SHARE_EVENT) {
        outage_probe_pass(of->outage, probe, now_ns);
        return step;
    }
    item->probe = share->probe = probe;
    share->probe_index = item->index;
    share->held_back &= ~(UINT64_C(1) << item->index);
    return step;
}

enum share_step share_next(struct share *share, struct item *item, bool look, uint64_t now_ns, uint64_t *out_due_ns,
                           struct error *err)
{
    const struct retry *retry = share->of->retry;
    int due = -1;
    struct pending due_entry = {0};
    bool is_running = false;
    bool is_solo_running = false;
    bool pauses = share_is_paused(share);
    if (share->held_back != 0 && !pauses)
        share_make_due(share, now_ns);
    share->held_back = 0;
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        struct pending found = share_entry(share, i);
        if (found.epoch != share->epoch)
            return SHARE_LOST;
        uint64_t time_ns = share_time(share, i);
        switch (found.state) {
        case PENDING_EMPTY:
            share->busy &= ~(UINT64_C(1) << i);
            break;
        case PENDING_SCAN:
            if (now_ns < share->scan_after_ns) {
                if (share->scan_after_ns < *out_due_ns)
                    *out_due_ns = share->scan_after_ns;
                break;
            }
            if (!scan(share, i, &found, item->buffer) && share_entry(share, i).epoch != share->epoch)
                return SHARE_LOST;
            *out_due_ns = now_ns; /* look again: it waits or is empty now */
            break;
        case PENDING_DEAD:
            if (!share_bury_event(share, i, &found, item->buffer, now_ns) &&
                share_entry(share, i).epoch != share->epoch)
                return SHARE_LOST;
            if (share->dead_after_ns > now_ns ? share->dead_after_ns < *out_due_ns : now_ns < *out_due_ns)
                *out_due_ns = share->dead_after_ns > now_ns ? share->dead_after_ns : now_ns;
            break;
        case PENDING_PARKED:
            if (!share_look_at_parked(share, i, &found, now_ns))
                return SHARE_LOST;
            if (share_entry(share, i).state != PENDING_PARKED)
                *out_due_ns = now_ns;
            break;
        case PENDING_SOLO:
            is_solo_running = true; /* fall through */
        case PENDING_RUN:
            is_running = true;
            if (retry->handler_timeout_ns == 0)
                break;
            if (now_ns >= time_ns + retry->handler_timeout_ns)
                fence_entry(share, i, &found, now_ns); /* or it has just been finished */
            else if (time_ns + retry->handler_timeout_ns < *out_due_ns)
                *out_due_ns = time_ns + retry->handler_timeout_ns;
            break;
        default:
            share->held_back |= pauses ? UINT64_C(1) << i : 0; /* it waits until we look again */
            if (time_ns > now_ns)
                *out_due_ns = time_ns < *out_due_ns ? time_ns : *out_due_ns;
            else if (due < 0 || (pauses ? time_ns < share_time(share, (uint32_t)due) : found.pos < due_entry.pos)) {
                due = (int)i; /* in a pause by turns: one that never works must not be all that is tried */
                due_entry = found;
            }
        }
    }
    if (is_solo_running || share->leaving)
        return SHARE_NOTHING;
    if (due < 0 && !pauses)
        return take(share, item, look, now_ns, out_due_ns, err);
    struct candidate candidate = {due, due_entry, is_running};
    return pauses ? try_one(share, &candidate, item, look, now_ns, out_due_ns, err)
                  : run_due(share, &candidate, item, now_ns, out_due_ns);
}

/* --- the chain ---------------------------------------------------------------------------------------------------------------- */

/* The word of an event at its first attempt, behind which nobody waits. */
static inline struct pending first_run(const struct share *share, uint64_t pos)
{
    return (struct pending){.pos = pos, .epoch = share->epoch, .state = PENDING_RUN, .attempts = 1};
}

/* Is there something to chain, and nothing else of the partition to be seen to? Only we set a followers bit, or end our own run: what is
 * seen here is so until the chain's CAS, unless we are fenced. */
static inline bool may_chain(const struct share *share, const struct item *done)
{
    const struct share_own *own = share_own(share, done->index);
    struct pending first = first_run(share, done->running.pos);
    uint64_t word = atomic_load_explicit(&share->part->pending[done->index], memory_order_relaxed);
    return share->busy == UINT64_C(1) << done->index && share->held && !share->leaving && done->probe == 0 &&
           word == pending_pack(&first) && atomic_load_explicit(&own->run, memory_order_relaxed) == done->run &&
           atomic_load_explicit(&own->note, memory_order_relaxed) == 0 && /* it is overwritten before the word */
           !share_is_paused(share) && ring_is_stamped(share->ring, cursor_pos(&share->cursor));
}

/* `done` is finished and `next`, which was read, taken, both by one CAS of the word. SHARE_NOTHING: we are fenced, and it is not; what we
 * have written beside the word is bounded by who trusts it, as ever [P3]. */
static inline enum share_step chain(struct share *share, const struct item *done, struct item *next, uint64_t now_ns)
{
    uint32_t i = done->index;
    uint64_t key = share_key(&next->frame);
    struct pending first = first_run(share, done->running.pos);
    struct pending taken = first_run(share, ((const struct frame_header *)next->buffer)->position);
    struct share_own *own = share_own(share, i);
    share_set_side(share, i, now_ns, 0);
    atomic_store_explicit(&share->part->side[i].key, key, memory_order_relaxed);
    point_pass(POINT_GROUP_FINISHING, NULL);
    if (!pending_step(share->part, i, &first, &taken))
        return SHARE_NOTHING;
    point_pass(POINT_GROUP_FINISHED, NULL);
    share->n_chained++;
    if (now_ns != share->chained_ns) /* of slow handlers each */
        share_tell_chained(share);
    share->chained_ns = now_ns;
    share_tell_success(share);
    return begin_new(share, i, own, &taken, key, next, now_ns);
}

enum share_step share_finish_and_next(const struct item *done, struct item *next, uint64_t now_ns, int *out_rc,
                                      struct error *err)
{
    struct share *share = done->share;
    char why[NOTES_TEXT_MAX + 1];
    uint64_t due_ns = UINT64_MAX; /* the next look finds what is */
    enum share_step read = may_chain(share, done) ? read_next(share, next, false, now_ns, &due_ns, err) : SHARE_NOTHING;
    *out_rc = EVBUS_OK;
    if (read == SHARE_EVENT && share_unfit(share, next, why, sizeof why) == CAUSE_NONE) {
        enum share_step step = chain(share, done, next, now_ns);
        if (step == SHARE_LOST) /* nobody comes here again */
            share_tell_chained(share);
        if (step != SHARE_NOTHING)
            return step;
    }
    *out_rc = share_finish(done, EVBUS_DONE, NULL, share->of->claim, err);
    return read == SHARE_EVENT ? enter(share, next, now_ns, &due_ns) : SHARE_NOTHING;
}
