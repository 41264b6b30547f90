/* doctor_group.c: what is wrong with a group: nobody takes what waits, a member that does not go on, a pause, dead letters.
 * Checked by tests/unit/test_doctor.c. */
#include "doctor_group.h"

#include "bus.h"
#include "clock.h"
#include "group.h"
#include "hold.h"
#include "lease.h"
#include "letters.h"
#include "outage.h"
#include "proc.h"
#include "slot.h"

#include <inttypes.h>
#include <string.h>

#define LONG_NS  (3600 * CLOCK_NS_PER_S) /* without a member: worth a look, whether it ever had one or not */
#define HANGS_NS (30 * CLOCK_NS_PER_S)   /* without a round, and with events that wait: worth a look */

/* A bridge's: no service consumes it. */
static bool is_mirror(const struct group_entry *entry)
{
    return (entry->flags & GROUP_MIRROR) != 0;
}

/* What waits for a group in a partition: cells that it has not taken, and events that it has not finished. */
static uint64_t waiting(const struct ring *ring, const struct group_part *part)
{
    uint64_t cursor = pending_cursor(part);
    uint64_t tail = ring_tail(ring);
    uint64_t n = ring_cells_between(ring, cursor, tail);
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        n += pending_load(part, i, cursor).state != PENDING_EMPTY;
    return n;
}

/* The partitions of a group that a slot holds: their names, how many, and what waits there. */
static uint32_t held_by(const struct memory *memory, uint32_t group, uint32_t slot, char *names, size_t cap,
                        uint64_t *out_waiting)
{
    uint32_t n = 0;
    names[0] = '\0';
    *out_waiting = 0;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        struct topic_set topics = group_topics(&memory->logs[l], group);
        for (uint32_t p = 0; !topic_set_is_empty(&topics) && p < memory->logs[l].n_partitions; p++) {
            const struct group_part *part = memory_part(&memory->logs[l], p, group);
            if (lease_holder(part) != slot)
                continue;
            uint64_t n_here = waiting(&memory->logs[l].rings[p], part);
            if (memory_is_internal(&memory->logs[l]) && n_here == 0) /* there are hardly ever replays */
                continue;
            n++;
            *out_waiting += n_here;
            if (n <= 4)
                finding_append(names, cap, "%s%.127s/%u", n > 1 ? " " : "", memory->logs[l].name, p);
        }
    }
    if (n > 4)
        finding_append(names, cap, " ...");
    return n;
}

/* How long a member's lease thread has made no round, s. */
static uint64_t silent_s(const struct group_entry *entry, uint32_t slot)
{
    uint64_t now = clock_mono_ns();
    for (uint32_t i = 0; i < MEMBERS_MAX; i++) {
        uint64_t progress = atomic_load_explicit(&entry->members[i].progress_ns, memory_order_relaxed);
        if (PIN_SLOT(atomic_load_explicit(&entry->members[i].owner, memory_order_acquire)) == slot)
            return now > progress ? (now - progress) / CLOCK_NS_PER_S : 0;
    }
    return 0;
}

/* What depends on a thread that does not go on. */
void doctor_append_duties(const struct visit *visit, uint32_t number, char *text, size_t cap)
{
    const struct memory *memory = &visit->bus->memory;
    const struct control *control = memory->control;
    if (hold_slot(&control->seat) == number)
        finding_append(text, cap,
                       "; it is the keeper: nobody buries the dead or cancels claims but who is blocked by them");
    if (hold_slot(&control->admin) == number)
        finding_append(text, cap, "; it is changing groups or the catalogue: nobody else can");
    if (hold_slot(&control->settler) == number)
        finding_append(text, cap, "; it is replaying or discarding dead letters: nobody else can");
    for (uint32_t g = 0; g < GROUPS_MAX; g++) {
        char names[200];
        uint64_t n_waiting;
        uint32_t n = group_is_live(memory, g) ? held_by(memory, g, number, names, sizeof names, &n_waiting) : 0;
        if (n > 0)
            finding_append(text, cap,
                           "; it holds %u partitions of group %.63s (%s), where %" PRIu64
                           " cells or events wait, and made its last round %" PRIu64 " s ago",
                           n, control->groups[g].name, names, n_waiting, silent_s(&control->groups[g], number));
    }
}

/* A member that makes no rounds although nothing stops it. */
static void examine_members(struct visit *visit, uint32_t group, const uint32_t *slots, uint32_t n)
{
    const struct memory *memory = &visit->bus->memory;
    const struct group_entry *entry = &memory->control->groups[group];
    for (uint32_t i = 0; i < n; i++) {
        const struct slot *slot = &memory->control->slots[slots[i]];
        char names[200];
        uint64_t n_waiting;
        uint64_t s = silent_s(entry, slots[i]);
        uint32_t n_held = held_by(memory, group, slots[i], names, sizeof names, &n_waiting);
        int32_t pid = atomic_load_explicit(&slot->pid, memory_order_relaxed);
        if (s < HANGS_NS / CLOCK_NS_PER_S || n_waiting == 0 || proc_look(slot) != PROC_GOES_ON)
            continue; /* the stopped are told with their slots */
        if (proc_is_here(slot))
            finding_mend(visit,
                         "see where it is: gdb -p %d -batch -ex 'thread apply all bt'; if it hangs: kill -KILL %d", pid,
                         pid);
        else /* it may be stopped or frozen, which cannot be seen from here */
            finding_mend(visit,
                         "see whether it hangs, is stopped or frozen in its own PID namespace, pid:[%" PRIu64
                         "]: lsns -t pid lists them",
                         atomic_load_explicit(&slot->pid_ns, memory_order_relaxed));
        finding_tell(visit, EVBUS_FINDING_WARNING,
                     "group %.63s: its member %.63s (process %d) has made no round for %" PRIu64
                     " s, and holds %u partitions (%s), where %" PRIu64 " cells or events wait",
                     entry->name, slot->service, pid, s, n_held, names, n_waiting);
    }
}

/* What waits and nobody takes: of a group without members, or in a log that no member takes. */
static void examine_absence(struct visit *visit, uint32_t group, uint32_t n_members)
{
    const struct memory *memory = &visit->bus->memory;
    const struct group_entry *entry = &memory->control->groups[group];
    uint64_t n_waiting = 0;
    uint64_t held_bytes = 0;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        const struct memory_log *log = &memory->logs[l];
        struct topic_set topics = group_topics(log, group);
        uint64_t n = 0;
        bool is_taken = topic_set_is_empty(&topics);
        for (uint32_t p = 0; !is_taken && p < log->n_partitions; p++)
            n += waiting(&log->rings[p], memory_part(log, p, group));
        for (uint32_t p = 0; !is_taken && p < log->n_partitions; p++)
            held_bytes += ring_cells_between(&log->rings[p], pending_low(memory_part(log, p, group)),
                                             ring_tail(&log->rings[p])) *
                          CELL_BYTES;
        n_waiting += n;
        for (uint32_t i = 0; i < MEMBERS_MAX && !is_taken; i++) {
            uint32_t slot = PIN_SLOT(atomic_load_explicit(&entry->members[i].owner, memory_order_acquire));
            is_taken = slot != 0 && !slot_is_dead(&memory->control->slots[slot]) &&
                       (atomic_load_explicit(&entry->members[i].logs, memory_order_relaxed) >> l & 1) != 0;
        }
        if (n_members == 0 || is_taken || n == 0)
            continue;
        finding_mend(visit, "start a member that takes it: evbus -b %s consume %.63s", memory->bus, entry->name);
        finding_tell(visit, EVBUS_FINDING_WARNING,
                     "group %.63s: none of its %u members takes log %.127s, where %" PRIu64 " cells or events wait",
                     entry->name, n_members, log->name, n);
    }
    if (n_members > 0 || n_waiting == 0)
        return;
    bool was_joined = atomic_load_explicit(&entry->was_joined, memory_order_relaxed) != 0;
    if (is_mirror(entry))
        finding_mend(
            visit,
            "start a bridge: evbus-bridge --bus %s --redis URL; or, where there is to be none any more: evbus -b "
            "%s group rm %.63s",
            memory->bus, memory->bus, entry->name);
    else
        finding_mend(visit,
                     "start a member: evbus -b %s consume %.63s; or forget the group: evbus -b %s group rm %.63s",
                     memory->bus, entry->name, memory->bus, entry->name);
    uint64_t seen_ns = atomic_load_explicit(&entry->seen_ns, memory_order_relaxed);
    uint64_t now_ns = clock_wall_ns();
    uint64_t absent_ns = seen_ns != 0 && now_ns > seen_ns ? now_ns - seen_ns : 0;
    finding_tell(visit, was_joined || absent_ns >= LONG_NS ? EVBUS_FINDING_WARNING : EVBUS_FINDING_NOTE,
                 "group %.63s has no living member%s, and %" PRIu64 " cells or events wait in its partitions: %" PRIu64
                 " KiB are kept for it, since %" PRIu64 " s",
                 entry->name, was_joined ? " any more" : "", n_waiting, held_bytes / 1024, absent_ns / CLOCK_NS_PER_S);
}

static void examine_pause(struct visit *visit, uint32_t group)
{
    const struct memory *memory = &visit->bus->memory;
    const struct group_entry *entry = &memory->control->groups[group];
    if (!is_mirror(entry) || atomic_load_explicit(&entry->paused, memory_order_relaxed) == 0)
        return;
    const char *name = entry->name + strlen("bridge-");
    finding_mend(visit, "evbus -b %s bridge resume %.63s", memory->bus, name);
    finding_tell(visit, EVBUS_FINDING_WARNING,
                 "mirror %.63s is paused by an operator: nothing goes to the broker or comes from it", name);
}

static void examine_outage(struct visit *visit, uint32_t group)
{
    const struct memory *memory = &visit->bus->memory;
    const struct group_entry *entry = &memory->control->groups[group];
    struct outage_view outage;
    uint64_t now_ns = clock_wall_ns();
    outage_look(&entry->outage, &outage);
    if (!outage.is_paused)
        return;
    finding_mend(visit,
                 "see to what its handlers need; one event at a time is tried, and the first that is done ends the "
                 "pause: evbus -b %s group show %.63s",
                 memory->bus, entry->name);
    finding_tell(visit, EVBUS_FINDING_WARNING,
                 "group %.63s pauses since %" PRIu64 " s: %u different events failed the same way: \"%s\"", entry->name,
                 outage.since_ns != 0 && now_ns > outage.since_ns ? (now_ns - outage.since_ns) / CLOCK_NS_PER_S : 0,
                 outage.n_events, outage.text);
}

/* Of a group, of those that could be read. */
static uint64_t count_open(const struct letters *letters, uint32_t topic)
{
    uint64_t n = 0;
    for (size_t i = 0; i < letters->n; i++)
        n += letters->rows[i].is_open && letters->rows[i].topic == topic;
    return n;
}

static void examine_letters(struct visit *visit, uint32_t group, const struct letters *letters)
{
    struct memory *memory = &visit->bus->memory;
    const struct group_entry *entry = &memory->control->groups[group];
    uint64_t n_open = count_open(letters, entry->dlq_topic);
    uint64_t n_unwritten = 0;
    uint64_t n_parked = 0;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        struct topic_set topics = group_topics(&memory->logs[l], group);
        for (uint32_t p = 0; !topic_set_is_empty(&topics) && p < memory->logs[l].n_partitions; p++) {
            const struct group_part *part = memory_part(&memory->logs[l], p, group);
            uint64_t cursor = pending_cursor(part);
            for (uint32_t i = 0; i < PENDING_MAX; i++) {
                enum pending_state state = pending_load(part, i, cursor).state;
                n_unwritten += state == PENDING_DEAD;
                n_parked += state == PENDING_PARKED;
            }
        }
    }
    if (n_open > 0) {
        finding_mend(visit, "look at them: evbus -b %s dlq ls --group %.63s; %s", memory->bus, entry->name,
                     is_mirror(entry) ? "put right at the broker what each tells, and discard it"
                                      : "replay or discard them");
        finding_tell(visit, EVBUS_FINDING_NOTE, "group %.63s: %" PRIu64 " dead letters are open", entry->name, n_open);
    }
    if (n_parked > 0) {
        finding_mend(visit, "replay or discard them: evbus -b %s dlq ls --group %.63s", memory->bus, entry->name);
        finding_tell(visit, EVBUS_FINDING_WARNING,
                     "group %.63s: %" PRIu64 " keys wait behind their dead letters (\"on_dead\": \"park\")",
                     entry->name, n_parked);
    }
    if (n_unwritten > 0) {
        finding_mend(visit,
                     "is a member there, and room in the log of dead letters? evbus -b %s stat; what is replayed or "
                     "discarded makes room: evbus -b %s dlq ls",
                     memory->bus, memory->bus);
        finding_tell(visit, EVBUS_FINDING_WARNING,
                     "group %.63s: %" PRIu64
                     " spent events still wait for their dead letters to be written, and hold their keys",
                     entry->name, n_unwritten);
    }
}

void doctor_examine_groups(struct visit *visit)
{
    struct memory *memory = &visit->bus->memory;
    uint32_t n_groups = 0;
    struct letters letters = {.rows = NULL};
    letters_read(memory, &letters, NULL); /* where they cannot be, others tell of it */
    for (uint32_t g = 0; g < GROUPS_MAX; g++) {
        uint32_t slots[MEMBERS_MAX];
        if (!group_is_live(memory, g))
            continue;
        n_groups++;
        uint32_t n = group_members(memory, g, slots);
        examine_members(visit, g, slots, n);
        examine_absence(visit, g, n);
        examine_pause(visit, g);
        examine_outage(visit, g);
        examine_letters(visit, g, &letters);
        if (finding_is_scarce(n, MEMBERS_MAX)) {
            finding_mend(visit, "run fewer members, with more threads each; evbus -b %s group show %.63s lists them",
                         memory->bus, memory->control->groups[g].name);
            finding_tell(visit, EVBUS_FINDING_WARNING, "group %.63s: %u of %d members are there",
                         memory->control->groups[g].name, n, MEMBERS_MAX);
        }
    }
    if (finding_is_scarce(n_groups, GROUPS_MAX)) {
        finding_mend(visit, "forget those that nobody needs: evbus -b %s group ls; evbus -b %s group rm GROUP",
                     memory->bus, memory->bus);
        finding_tell(visit, EVBUS_FINDING_WARNING, "%u of %d groups are there", n_groups, GROUPS_MAX);
    }
    letters_free(&letters);
}
