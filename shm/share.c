/* share.c: one partition of a group, in the hands of its lease's holder.
 *
 *     next   entries first: SCAN finds the key's next event, DEAD gets its letter, WAIT that is due runs
 *            then the cursor: an event whose key is held is skipped (followers bit, then the cursor); else it is taken:
 *            word TAKEN, cursor, word RUN with attempts + 1; or DEAD, where no handler may get it, and no attempt is begun
 *     finish one CAS of the entry's word, by whoever handled it: EMPTY or SCAN; WAIT; DEAD. RELEASE and DEFER take the attempt back
 *
 * An attempt that ends badly is first written down (notes.c), then the word says so: whoever is killed between the two leaves a run
 * whose note is there already, and who takes over writes no second one.
 * So several events are in flight and never two of one key; a held key holds nobody else. What was in a handler when others
 * were, and its process died, comes back alone (SOLO): while it runs, or is due to, nothing else of the partition starts.
 * Scanning, skipping and taking are the lease thread's alone [P2]; a word's change by another thread is seen by its next look.
 * While the group pauses (outage.c) one event at a time goes into a handler, of whichever member has the probe, and what fails is
 * not charged.
 * [keeps ORDER] [keeps ONE-HOLDER] [keeps OUTAGE] Rules P1-P8. Checked by tests/unit/test_share.c, tests/unit/test_outcomes.c, tests/crash/test_groups.c. */
#include "share.h"

#include "area.h"
#include "clock.h"
#include "deadletter.h"
#include "group.h"
#include "point.h"
#include "report.h"
#include "slot.h"
#include "topic.h"

#include <evbus/evbus.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOW_EVERY 16                    /* events */
#define RETRY_NS  CLOCK_NS_PER_S        /* until files that cannot be read are tried again */
#define PROBE_NS  (60 * CLOCK_NS_PER_S) /* at least so long a paused group's one event may be in a handler */

/* A side field: private for us, shared for whoever takes over. */
static void set_side(struct share *share, uint32_t i, uint64_t time_ns, uint64_t note)
{
    atomic_store_explicit(&share->times[i], time_ns, memory_order_relaxed);
    atomic_store_explicit(&share->notes[i], note, memory_order_relaxed);
    atomic_store_explicit(&share->part->side[i].time_ns, time_ns, memory_order_relaxed);
    atomic_store_explicit(&share->part->side[i].note, note, memory_order_relaxed);
}

static uint64_t time_of(const struct share *share, uint32_t i)
{
    return atomic_load_explicit(&share->times[i], memory_order_relaxed);
}

static uint64_t note_of(const struct share *share, uint32_t i)
{
    return atomic_load_explicit(&share->notes[i], memory_order_relaxed);
}

static struct pending entry(const struct share *share, uint32_t i)
{
    return pending_load(share->part, i, share->moved_to);
}

/* Everything before pos is taken, skipped or not ours. false: we are fenced. */
static bool move_cursor(struct share *share, uint64_t pos)
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
        struct pending found = entry(share, (uint32_t)__builtin_ctzll(bits));
        if (found.state != PENDING_EMPTY && found.pos < low)
            low = found.pos;
    }
    return low;
}

bool share_has_news(const struct share *share, bool idle)
{
    uint64_t pos = cursor_pos(&share->cursor);
    return share->n_since_low >= LOW_EVERY || pos - share->told >= share->ring->capacity / 8 ||
           (idle && low_of(share) != share->low);
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
    share->told = share->moved_to;
    share->low = low_of(share);
    ring_move_low(share->ring, low, share->epoch, share->low, idle);
}

static void count(struct share *share, enum pending_cause cause)
{
    atomic_fetch_add_explicit(&share->part->n_causes[cause], 1, memory_order_relaxed);
}

/* --- runs ------------------------------------------------------------------------------------------------------------------- */

/* An entry's word may be the same in two runs of its event: an attempt that was taken back is made again. So each run has a number, in
 * memory that is ours alone, and is ended once: by its handler, or by the lease thread, too late for the handler [P8]. */
static bool end_run(struct share *share, uint32_t i, uint64_t run)
{
    return (run & 1) == 0 && atomic_compare_exchange_strong_explicit(&share->runs[i], &run, run | 1,
                                                                     memory_order_acq_rel, memory_order_relaxed);
}

static bool end_any_run(struct share *share, uint32_t i)
{
    return end_run(share, i, atomic_load_explicit(&share->runs[i], memory_order_acquire));
}

/* The item's event goes into a handler. */
static void begin_run(struct share *share, uint32_t i, const struct pending *running, struct item *item,
                      uint64_t now_ns)
{
    share->n_runs += 2;
    atomic_store_explicit(&share->runs[i], share->n_runs, memory_order_release);
    memcpy(share->ids[i], item->frame.id, sizeof share->ids[i]);
    item->share = share;
    item->index = i;
    item->run = share->n_runs;
    item->probe = 0;
    item->running = *running;
    item->since_ns = now_ns;
    item->retry = share->of->retry;
}

/* --- outages ---------------------------------------------------------------------------------------------------------------- */

static bool is_paused(const struct share *share)
{
    const struct share_group *of = share->of;
    return of->outage != NULL && of->retry->outage_events != 0 && OUTAGE_IS_PAUSED(outage_streak(of->outage));
}

/* To a line of the log: one line, and its quotes end where it does. */
static void say_paused(const struct share *share, const char *error)
{
    char text[OUTAGE_TEXT_BYTES];
    snprintf(text, sizeof text, "%s", error != NULL ? error : "");
    for (char *at = text; *at != '\0'; at++)
        *at = (unsigned char)*at < 0x20 || *at == '"' || *at == 0x7f ? ' ' : *at;
    if (share->of->log != NULL)
        log_line(share->of->log, LOG_GROUP, EVBUS_LOG_WARNING, "state=paused group=%s events=%u reason=\"%s\"",
                 share->of->name, share->of->retry->outage_events, text);
}

/* An attempt has failed. true: that is charged. */
static bool is_own_fault(const struct share *share, const struct retry *retry, uint64_t pos, enum pending_cause cause,
                         const char *error)
{
    if (share->of->outage == NULL || retry->outage_events == 0)
        return true;
    struct outage_failure failure = {
        .way = outage_way(cause, error),
        .event = outage_event((uint32_t)(share->log - share->of->memory->logs), share->ring->partition, pos),
        .n_events = retry->outage_events,
        .error = cause == CAUSE_TIMEOUT ? "its handlers take too long" : error,
        .wall_ns = clock_wall_ns(),
    };
    enum outage_verdict verdict = outage_failed(share->of->outage, &failure);
    if (verdict == OUTAGE_BEGUN)
        say_paused(share, failure.error);
    return verdict == OUTAGE_CHARGE;
}

static void tell_success(const struct share *share)
{
    if (share->of->outage == NULL || !outage_succeeded(share->of->outage))
        return;
    group_ring_members(share->of->memory, share->of->group); /* all of it is due again */
    if (share->of->log != NULL)
        log_line(share->of->log, LOG_GROUP, EVBUS_LOG_WARNING, "state=resumed group=%s", share->of->name);
}

static void end_probe(const struct share *share, uint64_t probe, bool has_failed, uint64_t now_ns)
{
    if (probe != 0 && has_failed)
        outage_probe_failed(share->of->outage, probe, now_ns);
    else if (probe != 0)
        outage_probe_pass(share->of->outage, probe, now_ns);
}

/* The pause is over: what has failed is tried again within a second, not after its wait. */
static void make_due(struct share *share, uint64_t now_ns)
{
    for (uint64_t bits = share->held_back; bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        uint64_t note = note_of(share, i);
        uint64_t soon_ns = now_ns + CLOCK_NS_PER_S / PENDING_MAX * i;
        bool has_failed = NOTE_CAUSE(note) == CAUSE_FAILED || NOTE_CAUSE(note) == CAUSE_TIMEOUT;
        if (has_failed && (note & NOTE_DEFERRED) == 0 && time_of(share, i) > soon_ns)
            set_side(share, i, soon_ns, note);
    }
    share->held_back = 0;
}

/* --- reading an entry's event ------------------------------------------------------------------------------------------- */

enum read { READ_EVENT, READ_LOST /* for good */, READ_FAILED /* now: the files cannot be read */ };

/* A committed frame copied and parsed, from the ring or the files. */
static enum read read_event(struct share *share, uint64_t pos, uint64_t *buffer, struct frame *out)
{
    uint64_t next;
    struct error err;
    int found = partition_fetch(&share->past, share->of->memory, share->ring, pos, buffer, &next, &err);
    report_unread(&share->report, found < 0, found < 0 ? err.text : "");
    if (found < 0)
        return READ_FAILED;
    return found == PARTITION_FRAME && frame_parse(buffer, out, NULL) == EVBUS_OK ? READ_EVENT : READ_LOST;
}

void share_close(struct share *share)
{
    cursor_close(&share->cursor);
    partition_past_close(share->past);
    share->past = NULL;
}

static uint64_t key_of(const struct frame *frame)
{
    return topic_key_hash(frame->key, frame->key_len, frame->id);
}

static bool is_ours(const struct share *share, const struct frame_header *header)
{
    return header->kind == FRAME_EVENT && cursor_wants(&share->cursor, header->topic);
}

/* What its letter says. A replay's tells where the event stood before. */
static void describe(const struct share *share, const struct frame *frame, uint64_t pos, struct area_source *source,
                     char topic[NAME_BYTES], struct deadletter *out)
{
    if ((frame->flags & FRAME_REPLAY) == 0 || !area_source(frame, source)) {
        *source = (struct area_source){.position = pos, .partition = share->ring->partition};
        snprintf(source->log, sizeof source->log, "%s", share->ring->name);
        if (frame->topic >= 1 && frame->topic <= TOPICS_MAX)
            memcpy(topic, share->log->head->topics[frame->topic - 1], NAME_BYTES - 1);
    } else {
        area_text(frame, AREA_TOPIC, topic, NAME_BYTES);
    }
    *out = (struct deadletter){
        .topic_id = share->of->dlq_topic,
        .group_name = share->of->name,
        .topic = topic,
        .log = source->log,
        .partition = source->partition,
        .position = source->position,
        .n_replays = source->n_replays,
        .entry = pos,
        .event = frame,
    };
}

static void letter_id_of(const struct share *share, const struct frame *frame, uint64_t pos, uint8_t out_id[16])
{
    struct deadletter letter;
    struct area_source source;
    char topic[NAME_BYTES] = "";
    describe(share, frame, pos, &source, topic, &letter);
    deadletter_id(share->of->memory, &letter, out_id);
}

/* --- taking over and handing over ------------------------------------------------------------------------------------------ */

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
        enum read read = read_event(share, found.pos, buffer, &frame);
        if (read == READ_FAILED)
            return false;
        if (read == READ_LOST || report_has(&share->report, &found, frame.id, NOTE_POSITION(note)))
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
    share->take_after_ns = clock_mono_ns() + RETRY_NS;
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
        struct pending found = entry(share, i);
        struct frame frame;
        if (found.state == PENDING_EMPTY)
            continue;
        share->busy |= UINT64_C(1) << i;
        /* The key from the frame, never from the side, where a fenced holder may have written; the rest is bounded [P3]. */
        enum read read = read_event(share, found.pos, buffer, &frame);
        if (read == READ_FAILED) {
            leave_unread(share);
            return false;
        }
        share->keys[i] = read == READ_EVENT ? key_of(&frame) : 0;
        if (found.state == PENDING_PARKED && read == READ_EVENT)
            letter_id_of(share, &frame, found.pos, share->ids[i]);
        uint64_t note = atomic_load_explicit(&share->part->side[i].note, memory_order_relaxed);
        set_side(share, i,
                 retry_bound_ns(of->retry, (note & NOTE_DEFERRED) != 0,
                                atomic_load_explicit(&share->part->side[i].time_ns, memory_order_relaxed), now_ns),
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

bool share_is_running(const struct share *share)
{
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        struct pending found = entry(share, (uint32_t)__builtin_ctzll(bits));
        if (found.epoch == share->epoch && (found.state == PENDING_RUN || found.state == PENDING_SOLO))
            return true;
    }
    return false;
}

/* --- entries ---------------------------------------------------------------------------------------------------------------- */

static struct pending emptied(const struct pending *from)
{
    return (struct pending){.epoch = from->epoch};
}

/* Done: the next event of the key between it and the cursor, if there is one, is what the same word stands for now [P1]. */
static bool scan(struct share *share, uint32_t i, const struct pending *done, uint64_t *buffer)
{
    uint64_t pos = done->pos;
    struct pending next = emptied(done);
    while (pos < share->moved_to) {
        uint64_t behind;
        struct frame frame;
        struct error err;
        int found = partition_fetch(&share->past, share->of->memory, share->ring, pos, buffer, &behind, &err);
        report_unread(&share->report, found < 0, found < 0 ? err.text : "");
        if (found < 0) {
            share->scan_after_ns = clock_mono_ns() + RETRY_NS;
            return true;
        }
        if (found == PARTITION_NOTHING)
            break;
        if (found == PARTITION_FRAME && pos != done->pos && is_ours(share, (const struct frame_header *)buffer) &&
            frame_parse(buffer, &frame, NULL) == EVBUS_OK && key_of(&frame) == share->keys[i]) {
            next = (struct pending){.pos = pos, .epoch = done->epoch, .state = PENDING_WAIT, .followers = true};
            break;
        }
        pos = behind;
    }
    if (!pending_step(share->part, i, done, &next))
        return false;
    set_side(share, i, 0, 0);
    return true;
}

/* Dead: its letter, then as if it were done; or its key waits until somebody settles the letter. */
static bool bury_event(struct share *share, uint32_t i, const struct pending *dead, uint64_t *buffer, uint64_t now_ns)
{
    struct error err = {""};
    struct frame frame;
    char topic[NAME_BYTES] = "";
    if (now_ns < share->dead_after_ns)
        return true;
    enum read read = read_event(share, dead->pos, buffer, &frame);
    if (read == READ_FAILED) {
        share->dead_after_ns = now_ns + RETRY_NS;
        return true;
    }
    if (read == READ_EVENT) {
        struct deadletter letter;
        struct area_source source;
        uint64_t note = note_of(share, i);
        describe(share, &frame, dead->pos, &source, topic, &letter);
        letter.cause = NOTE_CAUSE(note) != CAUSE_NONE ? NOTE_CAUSE(note) : CAUSE_FAILED;
        letter.note = NOTE_POSITION(note);
        if (deadletter_publish(share->of->memory, share->of->claim, &letter, &err) != EVBUS_OK ||
            point_pass(POINT_DEAD_PUBLISHED, &err) != EVBUS_OK) {
            share->dead_after_ns = now_ns + CLOCK_NS_PER_S; /* it stays DEAD, and holds its key */
            return true;
        }
        atomic_fetch_add_explicit(&share->part->n_dead, 1, memory_order_relaxed);
    } else {
        report_lost(&share->report, dead->pos, "a dead event is damaged or gone: no dead letter can be made of it");
    }
    struct pending next = *dead;
    next.state = read == READ_EVENT && share->of->retry->parks && share->of->gaps != NULL ? PENDING_PARKED
                                                                                          : PENDING_SCAN;
    if (next.state == PENDING_PARKED)
        letter_id_of(share, &frame, dead->pos, share->ids[i]);
    else if (!dead->followers)
        next = emptied(dead);
    return pending_step(share->part, i, dead, &next);
}

/* Has somebody settled its letter? Replayed: it is tried again where it stands, before what waits behind it. false: we are fenced. */
static bool look_at_parked(struct share *share, uint32_t i, const struct pending *parked, uint64_t now_ns)
{
    struct gaps *gaps = share->of->gaps;
    struct pending next = *parked;
    if (gaps == NULL || (gaps_has_news(gaps) && !gaps_follow(gaps)))
        return true;
    const struct letters_row *row = letters_find(&gaps->letters, share->ids[i]);
    if (row == NULL || row->is_open)
        return true;
    next.attempts = 0;
    next.state = row->is_discarded ? PENDING_SCAN : PENDING_WAIT;
    if (row->is_discarded && !parked->followers)
        next = emptied(parked);
    set_side(share, i, now_ns, 0);
    return pending_step(share->part, i, parked, &next);
}

/* How often an event has been replayed where it stands: it was parked. */
static uint32_t replays_of(const struct share *share, const struct frame *frame, uint64_t pos)
{
    const struct gaps *gaps = share->of->gaps;
    uint8_t id[16];
    if (gaps == NULL || gaps->letters.n == 0 || (frame->flags & FRAME_REPLAY) != 0)
        return 0;
    letter_id_of(share, frame, pos, id);
    const struct letters_row *row = letters_find(&gaps->letters, id);
    return row != NULL ? row->n_replays : 0;
}

/* An event of the key is a dead letter that nobody has settled: the handler is told. */
static void mark_gap(struct share *share, struct item *item)
{
    struct gaps *gaps = share->of->gaps;
    struct frame *frame = &item->frame;
    if (gaps == NULL)
        return;
    if (gaps_has_news(gaps))
        gaps_follow(gaps);
    if (gaps_has(gaps, share->log->index, share->ring->partition, frame->key_hash))
        frame->flags |= FRAME_AFTER_GAP;
}

void share_bury_dead(struct share *share, uint64_t *buffer, uint64_t now_ns)
{
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        struct pending found = entry(share, i);
        if (found.epoch == share->epoch && found.state == PENDING_DEAD)
            bury_event(share, i, &found, buffer, now_ns);
    }
}

/* --- what no handler gets --------------------------------------------------------------------------------------------------- */

void share_topic(const struct share *share, const struct frame *frame, char out_topic[NAME_BYTES])
{
    out_topic[NAME_BYTES - 1] = '\0';
    if ((frame->flags & FRAME_REPLAY) == 0 || !area_text(frame, AREA_TOPIC, out_topic, NAME_BYTES))
        memcpy(out_topic, share->log->head->topics[frame->topic - 1], NAME_BYTES - 1);
}

/* Which version of it the member gets. false: none that it accepts, and why is said. */
static bool choose_version(const struct share *share, struct item *item, char *why, size_t why_cap)
{
    const struct share_group *of = share->of;
    const struct frame *frame = &item->frame;
    struct frame_version versions[FRAME_VERSIONS_MAX];
    struct version published[FRAME_VERSIONS_MAX];
    struct version_accepts there = {.n = 0};
    char topic[NAME_BYTES], there_text[128], accepted[256];
    item->choice = (struct version_choice){.from = {frame->major, frame->minor}};
    if (of->accepts == NULL || of->accepts->n == 0)
        return true;
    unsigned n = frame_versions(frame, versions);
    for (; there.n < n; there.n++) {
        struct version one = {versions[there.n].major, versions[there.n].minor};
        published[there.n] = one;
        there.list[there.n] = (struct version_accept){one.major, one.minor, one.minor};
    }
    share_topic(share, frame, topic);
    if (upcasters_choose(of->upcasters, of->accepts, topic, published, n, &item->choice))
        return true;
    snprintf(why, why_cap, "published as %s; accepted are %s",
             version_accepts_text(&there, there_text, sizeof there_text),
             version_accepts_text(of->accepts, accepted, sizeof accepted));
    return false;
}

/* May a handler get this event at all? Asked each time that one is about to. CAUSE_NONE: it may. why: more than the cause says. */
static enum pending_cause unfit(const struct share *share, struct item *item, char *why, size_t why_cap)
{
    const struct frame *frame = &item->frame;
    uint64_t expires_ns = frame->area_len != 0 ? area_number(frame, AREA_EXPIRES) : 0;
    why[0] = '\0';
    bool is_replayed = (frame->flags & FRAME_REPLAY) != 0 || item->n_replays > 0; /* somebody wants it all the same */
    if (expires_ns != 0 && !is_replayed && expires_ns <= clock_wall_ns())
        return CAUSE_EXPIRED;
    return choose_version(share, item, why, why_cap) ? CAUSE_NONE : CAUSE_NO_VERSION;
}

/* It may not: dead, and no attempt is made of it. from: its entry, TAKEN or WAIT. false: we are fenced. */
static bool end_unhandled(struct share *share, uint32_t i, const struct pending *from, const uint8_t *id,
                          enum pending_cause cause, const char *why, uint64_t now_ns)
{
    struct pending next = *from;
    struct pending unmade = {.pos = from->pos}; /* attempt 0: none */
    struct report_attempt told = {
        .entry = &unmade, .id = id, .cause = cause, .slot = share->of->slot, .member = share->of->member, .error = why};
    uint64_t note = report_attempt(&share->report, &told, share->of->claim, NOTE_POSITION(note_of(share, i)));
    next.state = PENDING_DEAD;
    set_side(share, i, now_ns, NOTE(note, cause, false));
    if (!pending_step(share->part, i, from, &next))
        return false;
    count(share, cause);
    return true;
}

/* An entry that is due goes into a handler. */
static enum share_step run_again(struct share *share, uint32_t i, const struct pending *waiting, bool solo,
                                 struct item *item, uint64_t now_ns)
{
    char why[NOTES_TEXT_MAX + 1];
    struct pending next = *waiting;
    enum read read = read_event(share, waiting->pos, item->buffer, &item->frame);
    if (read == READ_FAILED) {
        set_side(share, i, now_ns + RETRY_NS, note_of(share, i));
        return SHARE_NOTHING;
    }
    if (read == READ_LOST ||
        !is_ours(share, (const struct frame_header *)item->buffer)) { /* damaged: nobody could ever handle it */
        next.state = PENDING_SCAN;
        if (!waiting->followers)
            next = emptied(waiting);
        if (read == READ_LOST)
            report_lost(&share->report, waiting->pos, "an event that was to be tried again is damaged or gone");
        return pending_step(share->part, i, waiting, &next) ? SHARE_NOTHING : SHARE_LOST;
    }
    item->n_replays = replays_of(share, &item->frame, waiting->pos);
    enum pending_cause cause = unfit(share, item, why, sizeof why);
    if (cause != CAUSE_NONE)
        return end_unhandled(share, i, waiting, item->frame.id, cause, why, now_ns) ? SHARE_NOTHING : SHARE_LOST;
    next.state = solo ? PENDING_SOLO : PENDING_RUN;
    next.attempts++;
    set_side(share, i, now_ns, note_of(share, i) & ~NOTE_DEFERRED);
    if (!pending_step(share->part, i, waiting, &next))
        return SHARE_LOST;
    point_pass(POINT_GROUP_RUNNING, NULL);
    if (next.attempts > 1)
        atomic_fetch_add_explicit(&share->part->n_redelivered, 1, memory_order_relaxed);
    mark_gap(share, item);
    begin_run(share, i, &next, item, now_ns);
    return SHARE_EVENT;
}

/* A handler that takes too long: its entry is fenced, its neighbours go on [P8]. */
static bool fence_entry(struct share *share, uint32_t i, const struct pending *running, uint64_t now_ns)
{
    const struct retry *retry = share->of->retry;
    struct pending next = *running;
    next.state = running->attempts >= retry_attempts(retry) ? PENDING_DEAD : PENDING_WAIT;
    if (!end_any_run(share, i))
        return false; /* it is being finished */
    if (share->probe_index == i)
        end_probe(share, share->probe, true, now_ns);
    if (!is_own_fault(share, retry, running->pos, CAUSE_TIMEOUT, NULL)) {
        next.state = PENDING_WAIT;
        next.attempts--;
        set_side(share, i, now_ns, note_of(share, i));
        return pending_step(share->part, i, running, &next);
    }
    struct report_attempt late = {.entry = running,
                                  .id = share->ids[i],
                                  .cause = CAUSE_TIMEOUT,
                                  .took_ns = now_ns - time_of(share, i),
                                  .slot = share->of->slot,
                                  .member = share->of->member};
    uint64_t note = report_attempt(&share->report, &late, share->of->claim, NOTE_POSITION(note_of(share, i)));
    set_side(share, i, now_ns + retry_wait_ns(retry, running->attempts, (uint32_t)now_ns * 2654435761u),
             NOTE(note, CAUSE_TIMEOUT, false));
    if (!pending_step(share->part, i, running, &next))
        return false; /* so are we */
    count(share, CAUSE_TIMEOUT);
    return true;
}

void share_watch(struct share *share, uint64_t now_ns)
{
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        struct pending found = entry(share, i);
        uint64_t since = time_of(share, i);
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
        if (share->keys[i] == key)
            return i;
    }
    return -1;
}

enum held { HELD, FREE, FENCED };

/* Somebody waits behind entry i [P2]. FREE: it has just been finished. */
static enum held follow(struct share *share, uint32_t i)
{
    for (;;) {
        struct pending found = entry(share, i);
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

static enum share_step take(struct share *share, struct item *item, bool look, uint64_t now_ns, uint64_t *out_due_ns,
                            struct error *err)
{
    char why[NOTES_TEXT_MAX + 1];
    for (;;) {
        uint64_t wait_ns = UINT64_MAX;
        uint64_t before = cursor_pos(&share->cursor);
        if (share->busy == UINT64_MAX)
            return SHARE_NOTHING; /* 64 in flight or waiting: the partition waits */
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
        if (found == CURSOR_CORRUPT || found == CURSOR_FAILED)
            return SHARE_NOTHING; /* the ring's own positions are damaged; or the files cannot be read now */
        if (found == CURSOR_NOTHING)
            return SHARE_NOTHING;
        uint64_t pos = ((const struct frame_header *)item->buffer)->position;
        uint64_t key = key_of(&item->frame);
        report_unread(&share->report, false, "");
        if (share->cursor.lost != 0) {
            report_lost(&share->report, pos, "what stood before it was retired, or its file is lost");
            share->cursor.lost = 0;
        }
        int holder = holder_of(share, key);
        enum held held = holder >= 0 ? follow(share, (uint32_t)holder) : FREE;
        if (held == FENCED)
            return SHARE_LOST;
        if (held == HELD) {
            if (!move_cursor(share, cursor_pos(&share->cursor)))
                return SHARE_LOST;
            continue;
        }
        uint32_t i = (uint32_t)__builtin_ctzll(~share->busy);
        if (holder >= 0)
            i = (uint32_t)holder; /* EMPTY by now */
        struct pending empty = {.epoch = share->epoch};
        struct pending taken = {.pos = pos, .epoch = share->epoch, .state = PENDING_TAKEN};
        struct pending running = {.pos = pos, .epoch = share->epoch, .state = PENDING_RUN, .attempts = 1};
        set_side(share, i, now_ns, 0);
        if (!pending_step(share->part, i, &empty, &taken))
            return SHARE_LOST;
        point_pass(POINT_GROUP_TAKEN, NULL);
        if (!move_cursor(share, cursor_pos(&share->cursor)))
            return SHARE_LOST;
        share->busy |= UINT64_C(1) << i;
        share->keys[i] = key;
        item->n_replays = 0;
        enum pending_cause cause = unfit(share, item, why, sizeof why);
        if (cause != CAUSE_NONE) {
            if (!end_unhandled(share, i, &taken, item->frame.id, cause, why, now_ns))
                return SHARE_LOST;
            *out_due_ns = now_ns; /* its letter */
            continue;
        }
        if (!pending_step(share->part, i, &taken, &running))
            return SHARE_LOST;
        point_pass(POINT_GROUP_RUNNING, NULL);
        mark_gap(share, item);
        begin_run(share, i, &running, item, now_ns);
        return SHARE_EVENT;
    }
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
    bool solo = NOTE_IS_SOLO(note_of(share, (uint32_t)due->index));
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
    bool is_new = outage_probe_is_new(probe);
    enum share_step step = is_new ? take(share, item, look, now_ns, out_due_ns, err) : SHARE_NOTHING;
    if (step == SHARE_NOTHING && due->index >= 0)
        step = run_due(share, due, item, now_ns, out_due_ns);
    if (step == SHARE_NOTHING && !is_new)
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
    bool pauses = is_paused(share);
    if (share->held_back != 0 && !pauses)
        make_due(share, now_ns);
    share->held_back = 0;
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        struct pending found = entry(share, i);
        if (found.epoch != share->epoch)
            return SHARE_LOST;
        uint64_t time_ns = time_of(share, i);
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
            if (!scan(share, i, &found, item->buffer) && entry(share, i).epoch != share->epoch)
                return SHARE_LOST;
            *out_due_ns = now_ns; /* look again: it waits or is empty now */
            break;
        case PENDING_DEAD:
            if (!bury_event(share, i, &found, item->buffer, now_ns) && entry(share, i).epoch != share->epoch)
                return SHARE_LOST;
            if (share->dead_after_ns > now_ns ? share->dead_after_ns < *out_due_ns : now_ns < *out_due_ns)
                *out_due_ns = share->dead_after_ns > now_ns ? share->dead_after_ns : now_ns;
            break;
        case PENDING_PARKED:
            if (!look_at_parked(share, i, &found, now_ns))
                return SHARE_LOST;
            if (entry(share, i).state != PENDING_PARKED)
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
            else if (due < 0 || (pauses ? time_ns < time_of(share, (uint32_t)due) : found.pos < due_entry.pos)) {
                due = (int)i; /* in a pause by turns: one that never works must not be all that is tried */
                due_entry = found;
            }
        }
    }
    if (is_solo_running || share->leaving)
        return SHARE_NOTHING;
    struct candidate candidate = {due, due_entry, is_running};
    if (pauses)
        return try_one(share, &candidate, item, look, now_ns, out_due_ns, err);
    return due >= 0 ? run_due(share, &candidate, item, now_ns, out_due_ns)
                    : take(share, item, look, now_ns, out_due_ns, err);
}

/* --- finish -------------------------------------------------------------------------------------------------------------------- */

/* Keeps the text of a bad attempt; returns the entry's new side note. */
static uint64_t keep_note(const struct item *item, enum pending_cause cause, const char *error, struct claim *claim,
                          uint64_t now_ns)
{
    const struct share *share = item->share;
    struct pending entry = item->running;
    if (cause == CAUSE_NO_VERSION)
        entry.attempts = 0; /* as of what no handler gets */
    struct report_attempt attempt = {.entry = &entry,
                                     .id = item->frame.id,
                                     .cause = cause,
                                     .took_ns = now_ns - item->since_ns,
                                     .slot = claim->slot,
                                     .member = share->of->member,
                                     .error = error};
    return NOTE(report_attempt(&share->report, &attempt, claim, NOTE_POSITION(note_of(share, item->index))), cause,
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

int share_finish(struct item *item, int outcome, const char *error, struct claim *claim, struct error *err)
{
    struct share *share = item->share;
    const struct retry *retry = item->retry;
    bool is_charged = outcome == EVBUS_RETRY || outcome == EVBUS_REJECT;
    bool is_deferred = outcome == EVBUS_DEFER && item->defer_ns != 0;
    bool is_told = is_charged || outcome == SHARE_NO_VERSION;
    enum pending_cause cause = outcome == EVBUS_REJECT       ? CAUSE_REJECTED
                               : outcome == SHARE_NO_VERSION ? CAUSE_NO_VERSION
                                                             : CAUSE_FAILED;
    bool is_ended = false;
    bool is_judged = false;
    bool is_held = false; /* failed, and the group pauses: due at once, when that is over */
    uint64_t note = 0;
    uint64_t now_ns = 0;
    point_pass(POINT_GROUP_FINISHING, NULL);
    for (;;) {
        struct pending found = pending_load(share->part, item->index, item->running.pos);
        struct pending expected = item->running;
        expected.followers = found.followers;
        if (pending_pack(&found) != pending_pack(&expected) || (!is_ended && !end_run(share, item->index, item->run))) {
            end_probe(share, item->probe, true, clock_mono_ns());
            return error_set(
                err, EVBUS_EFENCED,
                "%s/%u: the event is somebody else's now: its handler took too long, or its member was taken for "
                "hung",
                share->ring->name, share->ring->partition);
        }
        is_ended = true;
        struct pending next = found;
        if (outcome == EVBUS_RETRY && !is_judged) {
            is_charged = is_told = is_own_fault(share, retry, found.pos, cause, error);
            is_held = !is_charged;
            is_judged = true;
        }
        if (outcome == EVBUS_DONE) {
            next.state = PENDING_SCAN;
            if (!found.followers)
                next = emptied(&found);
        } else {
            bool is_spent = is_charged && found.attempts >= retry_attempts(retry);
            bool is_dead = outcome == EVBUS_REJECT || outcome == SHARE_NO_VERSION || is_spent;
            next.state = is_dead ? PENDING_DEAD : PENDING_WAIT;
            if (now_ns == 0) {
                now_ns = clock_mono_ns();
                if (is_told)
                    note = keep_note(item, cause, error, claim, now_ns);
                else
                    note = note_of(share, item->index) | (is_deferred ? NOTE_DEFERRED : 0);
                set_side(share, item->index, is_held ? now_ns : now_ns + wait_of(item, is_charged, is_deferred, now_ns),
                         note);
            }
            if (!is_charged)
                next.attempts--;
        }
        if (pending_step(share->part, item->index, &found, &next))
            break;
    }
    point_pass(POINT_GROUP_FINISHED, NULL);
    if (outcome == EVBUS_DONE) {
        atomic_fetch_add_explicit(&share->part->n_done, 1, memory_order_relaxed);
        tell_success(share);
    } else {
        end_probe(share, item->probe, outcome != EVBUS_REJECT && outcome != SHARE_NO_VERSION, now_ns);
        if (is_told)
            count(share, cause);
    }
    return EVBUS_OK;
}

bool share_abandon(struct item *item)
{
    struct share *share = item->share;
    uint64_t now_ns = clock_mono_ns();
    struct pending found = pending_load(share->part, item->index, item->running.pos);
    struct pending expected = item->running;
    expected.followers = found.followers;
    if (!end_run(share, item->index, item->run) || pending_pack(&found) != pending_pack(&expected))
        return false;
    struct pending next = found;
    next.state = PENDING_WAIT;
    next.attempts--;
    set_side(share, item->index, now_ns + wait_of(item, false, false, now_ns), note_of(share, item->index));
    end_probe(share, item->probe, true, now_ns);
    return pending_step(share->part, item->index, &found, &next);
}

void share_put_back(struct item *item)
{
    if (share_abandon(item) && item->running.attempts > 1)
        atomic_fetch_sub_explicit(&item->share->part->n_redelivered, 1, memory_order_relaxed);
}
