/* group.c: who wants which topics, from where.
 *
 *   who      one maker at a time, who has the admin's hold; members join and leave by one CAS each
 *   order    make: state MAKING, name; in each partition: words empty, low pinned (R8), cursor; topics; state LIVE (release)
 *            remove: state FREE; then topics and lows
 *
 * Why that is enough. A group's low is pinned before its start is promised (ring_pin) [R8, P11; model pin.pml], and its state
 * says LIVE after all of it: a maker that dies leaves MAKING, which the next holder clears away. Nobody reads a
 * group that is not LIVE. Lows hold `released` for a group whoever dies: an absent group fills its log.
 * Checked by tests/unit/test_group.c. */
#include "group.h"

#include "burial.h"
#include "clock.h"
#include "frame.h"
#include "futex.h"
#include "hold.h"
#include "memory_make.h"
#include "outage.h"
#include "partition.h"
#include "pending.h"
#include "slot.h"
#include "topic.h"

#include <stdio.h>
#include <string.h>

#define WAIT_NS  (5 * CLOCK_NS_PER_S)   /* for the admin's hold */
#define ROUND_NS (50 * CLOCK_NS_PER_MS) /* between two looks whether its holder is dead */

static struct group_entry *entry_of(const struct memory *memory, uint32_t group)
{
    return &memory->control->groups[group];
}

bool group_is_live(const struct memory *memory, uint32_t group)
{
    return atomic_load_explicit(&entry_of(memory, group)->state, memory_order_acquire) == GROUP_LIVE;
}

struct topic_set group_topics(const struct memory_log *log, uint32_t group)
{
    struct topic_set topics;
    for (int i = 0; i < DOORBELL_TOPIC_WORDS; i++)
        topics.bits[i] = atomic_load_explicit(&log->head->group_topics[group][i], memory_order_acquire);
    return topics;
}

static void set_topics(struct memory_log *log, uint32_t group, const struct topic_set *topics)
{
    for (int i = 0; i < DOORBELL_TOPIC_WORDS; i++)
        atomic_store_explicit(&log->head->group_topics[group][i], topics->bits[i], memory_order_release);
}

/* --- the admin's hold --------------------------------------------------------------------------------------------- */

static void clear(struct memory *memory, uint32_t group)
{
    static const struct topic_set none;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        struct memory_log *log = &memory->logs[l];
        set_topics(log, group, &none);
        for (uint32_t p = 0; p < log->n_partitions; p++)
            ring_unpin(&log->rings[p], group_low_index(group));
    }
    atomic_store_explicit(&entry_of(memory, group)->state, GROUP_FREE, memory_order_release);
}

int group_lock(struct memory *memory, uint32_t slot, bool wait, struct error *err)
{
    _Atomic uint32_t *admin = &memory->control->admin;
    uint64_t until = clock_real_ns() + (wait ? WAIT_NS : 0);
    while (!hold_take(admin, memory->control->slots, slot)) {
        uint32_t seen = atomic_load_explicit(admin, memory_order_acquire);
        uint64_t now = clock_real_ns();
        if (now >= until)
            return error_set(
                err, EVBUS_EBUSY,
                "bus %s: somebody else changes its groups or catalogue for 5 s already (slot %u); if he is stopped, "
                "`evbus doctor` names him",
                memory->bus, HOLD_SLOT(seen));
        if (HOLD_SLOT(seen) != 0)
            futex_wait(admin, seen, clock_left(until, now, ROUND_NS));
        burial_ask_one(memory, HOLD_SLOT(seen)); /* nobody wakes us when he dies */
    }
    int rc = memory_map_new_logs(memory, err); /* what a dead maker left may lie in any of them */
    for (uint32_t i = 0; i < GROUPS_MAX && rc == EVBUS_OK; i++)
        if (atomic_load_explicit(&entry_of(memory, i)->state, memory_order_acquire) == GROUP_MAKING)
            clear(memory, i);
    if (rc != EVBUS_OK)
        group_unlock(memory, slot);
    return rc;
}

void group_unlock(struct memory *memory, uint32_t slot)
{
    hold_leave(&memory->control->admin, slot);
}

/* --- make and remove -------------------------------------------------------------------------------------------------- */

uint32_t group_find(const struct memory *memory, const char *name)
{
    for (uint32_t i = 0; i < GROUPS_MAX; i++)
        if (group_is_live(memory, i) && strncmp(entry_of(memory, i)->name, name, SERVICE_BYTES) == 0)
            return i;
    return GROUP_NONE;
}

/* The group's place in every partition of one log. */
static int make_parts(const struct memory *memory, struct memory_log *log, uint32_t group, enum evbus_from from,
                      uint64_t position, struct error *err)
{
    int rc = EVBUS_OK;
    for (uint32_t p = 0; p < log->n_partitions && rc == EVBUS_OK; p++) {
        struct group_part *part = memory_part(log, p, group);
        struct ring *ring = &log->rings[p];
        uint64_t wish = from == EVBUS_FROM_LATEST ? ring_tail(ring) : 0;
        uint64_t start = ring_pin(ring, group_low_index(group), wish);
        uint64_t tail = ring_tail(ring);
        if (start > tail)
            start = tail;
        if (from == EVBUS_FROM_TIME)
            rc = partition_first(memory, ring, start, position, UINT64_MAX, &start, err);
        if (from == EVBUS_FROM_POSITION) /* it may point into a frame */
            rc = partition_first(memory, ring, start, UINT64_MAX, position, &start, err);
        ring_pin_move(ring, group_low_index(group), start, false);
        /* Epochs go on over a group's lives in a place: whoever held it in the last one stays fenced. */
        uint16_t epoch = (uint16_t)(LEASE_EPOCH(atomic_load_explicit(&part->lease, memory_order_relaxed)) + 1);
        for (uint32_t i = 0; i < PENDING_MAX; i++)
            atomic_store_explicit(&part->pending[i], (uint64_t)epoch << 8, memory_order_relaxed);
        atomic_store_explicit(&part->seek, SEEK_NONE(epoch), memory_order_relaxed);
        atomic_store_explicit(&part->start, CURSOR_WORD(start, epoch), memory_order_relaxed);
        atomic_store_explicit(&part->lease, LEASE_WORD(epoch, 0), memory_order_relaxed);
        ring_stamp_low(ring, group_low_index(group), epoch);
        atomic_store_explicit(&part->n_done, 0, memory_order_relaxed);
        atomic_store_explicit(&part->n_redelivered, 0, memory_order_relaxed);
        atomic_store_explicit(&part->n_dead, 0, memory_order_relaxed);
        atomic_store_explicit(&part->n_takeovers, 0, memory_order_relaxed);
        for (int i = 0; i < CAUSES; i++)
            atomic_store_explicit(&part->n_causes[i], 0, memory_order_relaxed);
        atomic_store_explicit(&part->cursor, CURSOR_WORD(start, epoch), memory_order_release);
    }
    return rc;
}

/* The id of <namespace>.dlq.<group>, or .replay.: once given it is never another group's. 0: there is none yet. */
static uint32_t find_own_topic(const struct memory *memory, const struct memory_log *own, const char *name,
                               char out_topic[NAME_BYTES])
{
    uint32_t log;
    uint32_t id;
    snprintf(out_topic, NAME_BYTES, "%.62s.%.63s", own->name, name);
    return memory_find_topic(memory, out_topic, &log, &id) ? id : 0;
}

bool group_has_dead_letter_topic(struct memory *memory, const char *name)
{
    const struct memory_log *dlq = memory_internal_log(memory, MEMORY_DLQ_LOG);
    char topic[NAME_BYTES];
    return dlq != NULL && find_own_topic(memory, dlq, name, topic) != 0;
}

int group_no_dead_letter_topic(struct error *err)
{
    return error_set(err, EVBUS_ELIMIT,
                     "the log of dead letters has had %d groups' topics, no more fit: make a new bus", TOPICS_MAX);
}

/* In one of the bus's own logs. There are as many in each: who has no topic of dead letters has none of replays. */
static int own_topic(struct memory *memory, const char *segment, const char *name, uint32_t *out_id, struct error *err)
{
    struct memory_log *own = memory_internal_log(memory, segment);
    char topic[NAME_BYTES];
    *out_id = own != NULL ? find_own_topic(memory, own, name, topic) : 0;
    if (*out_id != 0 || own == NULL)
        return *out_id != 0 ? EVBUS_OK : group_no_dead_letter_topic(err);
    int rc = memory_add_topic(memory, own, topic, out_id, err);
    return rc == EVBUS_ELIMIT ? group_no_dead_letter_topic(err) : rc;
}

/* Every group hears its replays: from now on, or, where a bus comes back, from the oldest on, unless its saved state says better. */
static int hear_replays(struct memory *memory, uint32_t group, struct error *err)
{
    struct memory_log *replay = memory_internal_log(memory, MEMORY_REPLAY_LOG);
    struct topic_set wanted = {{0}};
    bool is_back = atomic_load_explicit(&memory->control->ready, memory_order_relaxed) == 0;
    topic_set_add(&wanted, entry_of(memory, group)->replay_topic);
    int rc = make_parts(memory, replay, group, is_back ? EVBUS_FROM_EARLIEST : EVBUS_FROM_LATEST, 0, err);
    if (rc == EVBUS_OK)
        set_topics(replay, group, &wanted);
    return rc;
}

/* A mirror holds its checkpoint as it holds an event: from where its cursor stands. */
static int hold_saves(struct memory *memory, uint32_t group, struct error *err)
{
    struct topic_set wanted = {{0}};
    uint32_t id;
    bool is_back = atomic_load_explicit(&memory->control->ready, memory_order_relaxed) == 0;
    int rc = own_topic(memory, MEMORY_NOTES_LOG, entry_of(memory, group)->name, &id, err);
    if (rc != EVBUS_OK)
        return rc;
    struct memory_log *notes = memory_internal_log(memory, MEMORY_NOTES_LOG);
    topic_set_add(&wanted, id);
    rc = make_parts(memory, notes, group, is_back ? EVBUS_FROM_EARLIEST : EVBUS_FROM_LATEST, 0, err);
    if (rc == EVBUS_OK)
        set_topics(notes, group, &wanted);
    return rc;
}

uint32_t group_save_topic(struct memory *memory, uint32_t group)
{
    const struct memory_log *notes = memory_internal_log(memory, MEMORY_NOTES_LOG);
    char topic[NAME_BYTES];
    return notes != NULL ? find_own_topic(memory, notes, entry_of(memory, group)->name, topic) : 0;
}

/* Leaders of a mirror count on, also where it is made again in another place: a broker knows the highest. */
static void count_leaders_on(struct memory *memory, uint32_t group)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < GROUPS_MAX; i++) {
        uint32_t number = HOLD_NUMBER(atomic_load_explicit(&entry_of(memory, i)->leader, memory_order_relaxed));
        most = number > most ? number : most;
    }
    atomic_store_explicit(&entry_of(memory, group)->leader, HOLD_WORD(most, 0), memory_order_relaxed);
    atomic_store_explicit(&entry_of(memory, group)->paused, 0, memory_order_relaxed);
    for (int i = 0; i < MIRROR_TEXT_BYTES / 8; i++)
        atomic_store_explicit(&entry_of(memory, group)->told[i], 0, memory_order_relaxed);
}

int group_make(struct memory *memory, const struct group_plan *plan, uint32_t *out_group, struct error *err)
{
    uint32_t group = group_find(memory, plan->name);
    if (group != GROUP_NONE) {
        *out_group = group;
        return error_set(err, EVBUS_EDUPLICATE, "group %s exists already", plan->name);
    }
    for (group = 0; group < GROUPS_MAX; group++)
        if (atomic_load_explicit(&entry_of(memory, group)->state, memory_order_acquire) == GROUP_FREE)
            break;
    if (group == GROUPS_MAX)
        return error_set(err, EVBUS_ELIMIT,
                         "bus %s has %d groups, no more fit: `evbus group ls` lists them, rm removes one", memory->bus,
                         GROUPS_MAX);
    struct group_entry *entry = entry_of(memory, group);
    atomic_store_explicit(&entry->state, GROUP_MAKING, memory_order_release);
    snprintf(entry->name, sizeof entry->name, "%s", plan->name);
    entry->flags = plan->flags;
    for (uint32_t i = 0; i < MEMBERS_MAX; i++)
        atomic_store_explicit(&entry->members[i].owner, 0, memory_order_relaxed);
    outage_clear(&entry->outage);
    int rc = own_topic(memory, MEMORY_DLQ_LOG, plan->name, &entry->dlq_topic, err);
    if (rc == EVBUS_OK)
        rc = own_topic(memory, MEMORY_REPLAY_LOG, plan->name, &entry->replay_topic, err);
    atomic_store_explicit(&entry->was_joined, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->seen_ns, clock_wall_ns(), memory_order_relaxed);
    if (rc != EVBUS_OK) {
        atomic_store_explicit(&entry->state, GROUP_FREE, memory_order_release);
        return rc;
    }
    for (uint32_t l = 0; l < plan->n_logs && l < memory_n_logs(memory) && rc == EVBUS_OK; l++) {
        if (topic_set_is_empty(&plan->wanted[l]) || memory_is_internal(&memory->logs[l]))
            continue;
        rc = make_parts(memory, &memory->logs[l], group, plan->from, plan->position, err);
        if (rc == EVBUS_OK)
            set_topics(&memory->logs[l], group, &plan->wanted[l]);
    }
    if (rc == EVBUS_OK)
        rc = hear_replays(memory, group, err);
    if (rc == EVBUS_OK && (plan->flags & GROUP_MIRROR) != 0) {
        rc = hold_saves(memory, group, err);
        count_leaders_on(memory, group);
    }
    if (rc != EVBUS_OK) {
        clear(memory, group);
        return rc;
    }
    atomic_store_explicit(&entry->state, GROUP_LIVE, memory_order_release); /* edge GROUP, from: its places */
    *out_group = group;
    return EVBUS_OK;
}

/* Adds the topics that fit; NULL: all. false: none does. */
static bool cover(const struct memory *memory, const char *pattern, struct topic_set *covered)
{
    bool has_match = false;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        const struct memory_log *log = &memory->logs[l];
        uint32_t n = atomic_load_explicit(&log->head->n_topics, memory_order_acquire);
        for (uint32_t t = 0; t < n && t < TOPICS_MAX && !memory_is_internal(log); t++) {
            char name[NAME_BYTES] = "";
            memcpy(name, log->head->topics[t], sizeof name - 1);
            if (pattern != NULL && !topic_matches(pattern, name))
                continue;
            topic_set_add(&covered[l], t + 1);
            has_match = true;
        }
    }
    return has_match;
}

int group_cover(const struct memory *memory, const char *const *patterns, size_t n_patterns,
                struct topic_set out_covered[LOGS_MAX], struct error *err)
{
    memset(out_covered, 0, LOGS_MAX * sizeof *out_covered);
    if (n_patterns == 0)
        cover(memory, NULL, out_covered);
    for (size_t i = 0; i < n_patterns; i++)
        if (!cover(memory, patterns[i], out_covered))
            return error_set(err, EVBUS_ENOTFOUND,
                             "pattern %s fits no topic of bus %s; `evbus catalogue show` lists them", patterns[i],
                             memory->bus);
    return EVBUS_OK;
}

uint32_t group_add_topics(struct memory *memory, uint32_t group, const struct topic_set *wanted, uint32_t n_logs,
                          enum evbus_from from)
{
    bool has_changed = false;
    for (uint32_t l = 0; l < n_logs && l < memory_n_logs(memory); l++) {
        struct topic_set before = group_topics(&memory->logs[l], group);
        struct topic_set after = before;
        for (int i = 0; i < DOORBELL_TOPIC_WORDS; i++)
            after.bits[i] |= wanted[l].bits[i];
        if (memcmp(&before, &after, sizeof after) == 0)
            continue;
        if (topic_set_is_empty(&before))
            make_parts(memory, &memory->logs[l], group, from, 0, NULL); /* which reads nothing */
        set_topics(&memory->logs[l], group, &after);
        has_changed = true;
    }
    if (has_changed)
        atomic_fetch_add_explicit(&entry_of(memory, group)->changes, 1, memory_order_release);
    return has_changed;
}

void group_ring_members(struct memory *memory, uint32_t group)
{
    uint32_t slots[MEMBERS_MAX];
    uint32_t n = group_members(memory, group, slots);
    for (uint32_t i = 0; i < n; i++)
        doorbell_ring_slot(&memory->control->slots[slots[i]]);
}

void group_tell_members(struct memory *memory, uint32_t group)
{
    atomic_fetch_add_explicit(&entry_of(memory, group)->changes, 1, memory_order_release);
    group_ring_members(memory, group);
}

int group_remove(struct memory *memory, uint32_t group, struct error *err)
{
    if (!group_is_live(memory, group))
        return error_set(err, EVBUS_ENOTFOUND, "there is no such group");
    struct group_entry *entry = entry_of(memory, group);
    atomic_store_explicit(&entry->state, GROUP_MAKING, memory_order_release); /* half done: cleared whoever dies */
    group_tell_members(memory, group);
    clear(memory, group);
    return EVBUS_OK;
}

/* --- members ----------------------------------------------------------------------------------------------------------- */

int group_join(struct memory *memory, uint32_t group, uint32_t slot, uint64_t logs, uint32_t *out_member,
               uint32_t *out_owner, struct error *err)
{
    struct group_entry *entry = entry_of(memory, group);
    if (!group_is_live(memory, group)) /* edge GROUP, to: its members */
        return error_set(err, EVBUS_ENOTFOUND, "the group has been removed");
    uint32_t number = atomic_fetch_add_explicit(&entry->member_numbers, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < MEMBERS_MAX; i++) {
        uint32_t nobody = 0;
        if (!atomic_compare_exchange_strong_explicit(&entry->members[i].owner, &nobody, PIN_OWNER(number, slot),
                                                     memory_order_acq_rel, memory_order_relaxed))
            continue;
        atomic_store_explicit(&entry->members[i].logs, logs, memory_order_relaxed);
        atomic_store_explicit(&entry->members[i].progress_ns, clock_mono_ns(), memory_order_relaxed);
        atomic_store_explicit(&entry->was_joined, 1, memory_order_release);
        atomic_fetch_add_explicit(&entry->changes, 1, memory_order_release);
        group_ring_members(memory, group);
        *out_member = i;
        *out_owner = PIN_OWNER(number, slot);
        return EVBUS_OK;
    }
    return error_set(err, EVBUS_ELIMIT,
                     "group %.63s has %d members, no more fit: end one (`evbus group show %.63s` lists them)",
                     entry->name, MEMBERS_MAX, entry->name);
}

void group_leave(struct memory *memory, uint32_t group, uint32_t member, uint32_t owner)
{
    struct group_entry *entry = entry_of(memory, group);
    if (!atomic_compare_exchange_strong_explicit(&entry->members[member].owner, &owner, 0, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return; /* of another life */
    atomic_fetch_add_explicit(&entry->changes, 1, memory_order_release);
    if (group_is_live(memory, group))
        group_ring_members(memory, group);
}

uint32_t group_members(const struct memory *memory, uint32_t group, uint32_t out_slots[MEMBERS_MAX])
{
    uint32_t n = 0;
    const struct group_entry *entry = entry_of(memory, group);
    for (uint32_t i = 0; i < MEMBERS_MAX; i++) {
        uint32_t slot = PIN_SLOT(atomic_load_explicit(&entry->members[i].owner, memory_order_acquire));
        if (slot != 0 && !slot_is_dead(&memory->control->slots[slot]))
            out_slots[n++] = slot;
    }
    return n;
}

bool group_is_orphan(const struct memory *memory, uint32_t group)
{
    const struct group_entry *entry = entry_of(memory, group);
    uint32_t slots[MEMBERS_MAX];
    return group_is_live(memory, group) && (entry->flags & GROUP_EPHEMERAL) != 0 &&
           atomic_load_explicit(&entry->was_joined, memory_order_acquire) != 0 &&
           group_members(memory, group, slots) == 0;
}
