/* share_outage.c: a share's part in its group's pause (outage.c): which failures are the event's own, who has the probe, what is due when
 * it is over. Checked by tests/unit/test_outcomes.c, tests/unit/test_outage.c. */
#include "share_entry.h"

#include "clock.h"
#include "group.h"
#include "outage.h"

#include <stdio.h>

bool share_is_paused(const struct share *share)
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
bool share_is_own_fault(const struct share *share, const struct retry *retry, uint64_t pos, enum pending_cause cause,
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

void share_tell_resumed(const struct share *share)
{
    group_ring_members(share->of->memory, share->of->group); /* all of it is due again */
    if (share->of->log != NULL)
        log_line(share->of->log, LOG_GROUP, EVBUS_LOG_WARNING, "state=resumed group=%s", share->of->name);
}

void share_end_probe(const struct share *share, uint64_t probe, bool has_failed, uint64_t now_ns)
{
    if (probe != 0 && has_failed)
        outage_probe_failed(share->of->outage, probe, now_ns);
    else if (probe != 0)
        outage_probe_pass(share->of->outage, probe, now_ns);
}

/* The pause is over: what has failed is tried again within a second, not after its wait. */
void share_make_due(struct share *share, uint64_t now_ns)
{
    for (uint64_t bits = share->held_back; bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(bits);
        uint64_t note = share_note(share, i);
        uint64_t soon_ns = now_ns + CLOCK_NS_PER_S / PENDING_MAX * i;
        bool has_failed = NOTE_CAUSE(note) == CAUSE_FAILED || NOTE_CAUSE(note) == CAUSE_TIMEOUT;
        if (has_failed && (note & NOTE_DEFERRED) == 0 && share_time(share, i) > soon_ns)
            share_set_side(share, i, soon_ns, note);
    }
    share->held_back = 0;
}
