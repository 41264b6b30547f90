/* share_dead.c: what becomes of the dead, and of what follows them.
 *
 *   order    the word says DEAD; its letter is published; the word moves on: to what waits behind it, or, where the group parks, to
 *            PARKED, and the key waits [P10]
 *   parked   an operator writes the letter's resolution, and nothing else (replay.c); whoever has the lease, or takes it later, reads it
 *            (gaps.c) and moves the word on: replayed, it is tried again where it stands, before its followers; discarded, they go on
 *
 * So a parked word has one writer, the lease's holder, as every other; an operator who is killed leaves nothing half done.
 * [keeps ORDER] Rules P10 P14. Checked by tests/unit/test_gaps.c, tests/unit/test_share.c, tests/crash/test_groups.c. */
#include "share_entry.h"

#include "area.h"
#include "clock.h"
#include "deadletter.h"
#include "point.h"

#include <stdio.h>
#include <string.h>

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

void share_letter_id(const struct share *share, const struct frame *frame, uint64_t pos, uint8_t out_id[16])
{
    struct deadletter letter;
    struct area_source source;
    char topic[NAME_BYTES] = "";
    describe(share, frame, pos, &source, topic, &letter);
    deadletter_id(share->of->memory, &letter, out_id);
}

/* Dead: its letter, then as if it were done; or its key waits until somebody settles the letter. */
bool share_bury_event(struct share *share, uint32_t i, const struct pending *dead, uint64_t *buffer, uint64_t now_ns)
{
    struct error err = {""};
    struct frame frame;
    char topic[NAME_BYTES] = "";
    if (now_ns < share->dead_after_ns)
        return true;
    enum share_read read = share_read(share, dead->pos, buffer, &frame);
    if (read == SHARE_READ_FAILED) {
        share->dead_after_ns = now_ns + SHARE_RETRY_NS;
        return true;
    }
    if (read == SHARE_READ_EVENT) {
        struct deadletter letter;
        struct area_source source;
        uint64_t note = share_note(share, i);
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
    bool is_to_park = read == SHARE_READ_EVENT && share->of->retry->parks && share->of->gaps != NULL &&
                      frame.key_len > 0; /* behind one without a key nobody waits */
    next.state = is_to_park ? PENDING_PARKED : PENDING_SCAN;
    if (is_to_park)
        share_letter_id(share, &frame, dead->pos, share_own(share, i)->id);
    else if (!dead->followers)
        next = share_emptied(dead);
    return pending_step(share->part, i, dead, &next);
}

void share_bury_dead(struct share *share, uint64_t *buffer, uint64_t now_ns)
{
    for (uint64_t bits = share->busy; bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        struct pending found = share_entry(share, i);
        if (found.epoch == share->epoch && found.state == PENDING_DEAD)
            share_bury_event(share, i, &found, buffer, now_ns);
    }
}

/* Has somebody settled its letter? Replayed: it is tried again where it stands, before what waits behind it. false: we are fenced. */
bool share_look_at_parked(struct share *share, uint32_t i, const struct pending *parked, uint64_t now_ns)
{
    struct gaps *gaps = share->of->gaps;
    struct pending next = *parked;
    if (gaps == NULL || (gaps_has_news(gaps) && !gaps_follow(gaps)))
        return true;
    /* Not there: it was settled, and who did was killed before the record said how (replay.c); or it is damaged. Nobody could settle it
     * any more, so it is tried again. */
    const struct letters_row *row = letters_find(&gaps->letters, share_own(share, i)->id);
    bool is_discarded = row != NULL && row->is_discarded;
    if (row != NULL && row->is_open)
        return true;
    next.attempts = 0;
    next.state = is_discarded ? PENDING_SCAN : PENDING_WAIT;
    if (is_discarded && !parked->followers)
        next = share_emptied(parked);
    share_set_side(share, i, now_ns, 0);
    return pending_step(share->part, i, parked, &next);
}

/* How often an event has been replayed where it stands: it was parked. */
uint32_t share_replays(const struct share *share, const struct frame *frame, uint64_t pos)
{
    const struct gaps *gaps = share->of->gaps;
    uint8_t id[16];
    if (gaps == NULL || gaps->letters.n == 0 || (frame->flags & FRAME_REPLAY) != 0)
        return 0;
    share_letter_id(share, frame, pos, id);
    const struct letters_row *row = letters_find(&gaps->letters, id);
    return row != NULL ? row->n_replays : 0;
}

void share_mark_gap_if(struct share *share, struct item *item)
{
    struct gaps *gaps = share->of->gaps;
    struct frame *frame = &item->frame;
    if (gaps_has_news(gaps))
        gaps_follow(gaps);
    if (gaps_has(gaps, share->log->index, share->ring->partition, frame->key_hash))
        frame->flags |= FRAME_AFTER_GAP;
}
