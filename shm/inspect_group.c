/* inspect_group.c: what groups have: members, leases, cursors, events that were taken and not finished.
 * Checked by tests/unit/test_inspect.c. */
#include "inspect_group.h"

#include "outage.h"
#include "pending.h"
#include "ring.h"

#include <inttypes.h>

static const char *state_name(uint32_t state)
{
    static const char *const names[] = {"free", "being made", "live"};
    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

static void show_members(const struct remains *remains, uint32_t group, struct record *out)
{
    const struct group_entry *entry = &remains->control->groups[group];
    for (uint32_t i = 0; i < MEMBERS_MAX && out->rc == 0; i++) {
        uint32_t owner = remains_u32(&entry->members[i].owner);
        if (owner == 0)
            continue;
        record_begin(out, "member", 1);
        record_text(out, "group", entry->name, sizeof entry->name);
        record_number(out, "place", i);
        remains_tell_who(remains, out, PIN_SLOT(owner));
        record_number(out, "number", owner >> WORD_SLOT_BITS);
        record_hex(out, "logs", remains_u64(&entry->members[i].logs));
        record_position(out, "progress_ns", remains_u64(&entry->members[i].progress_ns));
        record_end(out);
    }
}

static void show_pending(const struct remains_ring *ring, const struct group_part *part, const char *group,
                         struct record *out)
{
    static const char *const states[] = {"empty", "taken", "run", "solo", "wait", "scan", "dead", "parked"};
    uint64_t cursor = CURSOR_POSITION(remains_u64(&part->cursor));
    for (uint32_t i = 0; i < PENDING_MAX && out->rc == 0; i++) {
        struct pending found = pending_unpack(remains_u64(&part->pending[i]), cursor);
        uint64_t note = remains_u64(&part->side[i].note);
        if (found.state == PENDING_EMPTY)
            continue;
        record_begin(out, "pending", 2);
        record_word(out, "group", group);
        record_word(out, "log", ring->log->file->part);
        record_number(out, "partition", ring->partition);
        record_position(out, "position", found.pos);
        record_word(out, "state", states[(unsigned)found.state & 7]);
        record_number(out, "attempts", found.attempts);
        record_flag(out, "followers", found.followers);
        record_number(out, "epoch", found.epoch);
        record_position(out, "time_ns", remains_u64(&part->side[i].time_ns));
        record_word(out, "cause", pending_cause_name(NOTE_CAUSE(note)));
        record_flag(out, "alone", NOTE_IS_SOLO(note));
        if (NOTE_POSITION(note) != 0)
            record_position(out, "note", NOTE_POSITION(note) - 1);
        else
            record_none(out, "note");
        record_flag(out, "deferred", (note & NOTE_DEFERRED) != 0);
        record_flag(out, "beyond_cursor", found.pos >= cursor); /* no handler has had it: it is taken again */
        record_end(out);
    }
}

static void show_lease(const struct remains_ring *ring, uint32_t group, struct record *out)
{
    struct group_part part;
    char name[SERVICE_BYTES];
    const char *log = ring->log->file->part;
    remains_group_name(ring->of, group, name);
    if (!ring->is_there || !remains_part(ring, group, &part)) {
        record_differs(out, 1, "%s/%u, group %s: the file ends before it", log, ring->partition, name);
        return;
    }
    uint64_t cursor = remains_u64(&part.cursor);
    uint64_t lease = remains_u64(&part.lease);
    uint64_t low = LOW_BEHIND(remains_u64(&ring->head.lows[PINS_MAX + group]));
    uint64_t pos = CURSOR_POSITION(cursor);
    record_begin(out, "lease", 1);
    record_word(out, "group", name);
    record_word(out, "log", log);
    record_number(out, "partition", ring->partition);
    record_position(out, "cursor", pos);
    record_position(out, "behind", ring->tail > pos ? ring->tail - pos : 0);
    if (low != 0)
        record_position(out, "low", low - 1);
    else
        record_none(out, "low");
    record_number(out, "epoch", LEASE_EPOCH(lease));
    remains_tell_who(ring->of, out, LEASE_SLOT(lease));
    record_number(out, "done", remains_u64(&part.n_done));
    record_number(out, "redelivered", remains_u64(&part.n_redelivered));
    record_number(out, "dead_letters", remains_u64(&part.n_dead));
    record_number(out, "takeovers", remains_u64(&part.n_takeovers));
    for (unsigned i = CAUSE_FAILED; i < CAUSES; i++)
        record_number(out, pending_cause_name((enum pending_cause)i), remains_u64(&part.n_causes[i]));
    record_end(out);
    if (CURSOR_EPOCH(cursor) != LEASE_EPOCH(lease))
        record_differs(out, 2, "%s/%u, group %s: the cursor's epoch is %u, the lease's %u: a takeover was cut short",
                       log, ring->partition, name, CURSOR_EPOCH(cursor), LEASE_EPOCH(lease));
    uint64_t seek = remains_u64(&part.seek);
    if (SEEK_IS_SET(seek))
        record_differs(out, 2,
                       "%s/%u, group %s: a seek to %" PRIu64
                       " was cut short: whoever takes the lease next finishes it, and what is pending here is dropped",
                       log, ring->partition, name, SEEK_TARGET(seek));
    show_pending(ring, &part, name, out);
}

static void show_entry(const struct remains *remains, uint32_t group, struct record *out)
{
    const struct group_entry *entry = &remains->control->groups[group];
    record_begin(out, "group", 0);
    record_text(out, "group", entry->name, sizeof entry->name);
    record_number(out, "number", group);
    record_word(out, "state", state_name(remains_u32(&entry->state)));
    record_word(out, "made_by",
                (entry->flags & GROUP_EPHEMERAL) != 0 ? "ephemeral"
                : (entry->flags & GROUP_AD_HOC) != 0  ? "ad hoc"
                                                      : "catalogue");
    record_flag(out, "was_joined", remains_u32(&entry->was_joined) != 0);
    record_number(out, "changes", remains_u32(&entry->changes));
    record_number(out, "dead_letter_topic", entry->dlq_topic);
    record_number(out, "replay_topic", entry->replay_topic);
    record_flag(out, "is_paused", OUTAGE_IS_PAUSED(remains_u64(&entry->outage.streak)));
    record_hex(out, "outage", remains_u64(&entry->outage.streak));
    record_hex(out, "probe", remains_u64(&entry->outage.probe));
    record_end(out);
}

void inspect_group(struct remains *remains, uint32_t group, const struct remains_log *logs, size_t n_logs,
                   uint32_t partition, struct record *out)
{
    if (remains_has(remains, offsetof(struct control, groups) + (group + 1) * sizeof(struct group_entry))) {
        show_entry(remains, group, out);
        show_members(remains, group, out);
    }
    for (size_t l = 0; l < n_logs; l++)
        for (uint32_t p = 0; p < logs[l].n_partitions && remains_reads(&logs[l], group, 0) && out->rc == 0; p++) {
            struct remains_ring ring = remains_ring(remains, &logs[l], p);
            if (partition == UINT32_MAX || partition == p)
                show_lease(&ring, group, out);
        }
}
