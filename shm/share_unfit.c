/* share_unfit.c: what no handler gets: an event whose time is over, or of which the member accepts no version. It becomes a dead letter,
 * and no attempt is made of it. Who replays one wants it handled all the same. Checked by tests/unit/test_share.c,
 * tests/unit/test_upcast.c. */
#include "share_entry.h"

#include "area.h"
#include "clock.h"

#include <stdio.h>
#include <string.h>

void share_topic(const struct share *share, const struct frame *frame, char out_topic[NAME_BYTES])
{
    out_topic[NAME_BYTES - 1] = '\0';
    if ((frame->flags & FRAME_REPLAY) == 0 || !area_text(frame, AREA_TOPIC, out_topic, NAME_BYTES))
        memcpy(out_topic, share->log->head->topics[frame->topic - 1], NAME_BYTES - 1);
}

/* Which of its versions the member gets, which says what it accepts. false: none, and why is said. */
static bool choose_accepted(const struct share *share, struct item *item, char *why, size_t why_cap)
{
    const struct share_group *of = share->of;
    const struct frame *frame = &item->frame;
    struct frame_version versions[FRAME_VERSIONS_MAX];
    struct version published[FRAME_VERSIONS_MAX];
    struct version_accepts there = {.n = 0};
    char topic[NAME_BYTES], there_text[128], accepted[256];
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

enum pending_cause share_judge(const struct share *share, struct item *item, char *why, size_t why_cap)
{
    const struct frame *frame = &item->frame;
    uint64_t expires_ns = area_number(frame, AREA_EXPIRES);
    why[0] = '\0';
    bool is_replayed = (frame->flags & FRAME_REPLAY) != 0 || item->n_replays > 0; /* somebody wants it all the same */
    if (expires_ns != 0 && !is_replayed && expires_ns <= clock_wall_ns())
        return CAUSE_EXPIRED;
    share_choose_lowest(item);
    return share_accepts_all(share) || choose_accepted(share, item, why, why_cap) ? CAUSE_NONE : CAUSE_NO_VERSION;
}

/* It may not: dead, and no attempt is made of it. from: its entry, TAKEN or WAIT. false: we are fenced. */
bool share_end_unhandled(struct share *share, uint32_t i, const struct pending *from, const uint8_t *id,
                         enum pending_cause cause, const char *why, uint64_t now_ns)
{
    struct pending next = *from;
    struct pending unmade = {.pos = from->pos}; /* attempt 0: none */
    struct report_attempt told = {
        .entry = &unmade, .id = id, .cause = cause, .slot = share->of->slot, .member = share->of->member, .error = why};
    uint64_t note = report_attempt(&share->report, &told, share->of->claim, NOTE_POSITION(share_note(share, i)));
    next.state = PENDING_DEAD;
    share_set_side(share, i, now_ns, NOTE(note, cause, false));
    if (!pending_step(share->part, i, from, &next))
        return false;
    share_count(share, cause);
    return true;
}
