/* group.h: who wants which topics, from where. See group.c. */
#ifndef EVBUS_GROUP_H
#define EVBUS_GROUP_H

#include "doorbell.h"
#include "memory.h"

#define GROUP_NONE UINT32_MAX

/* A group to be made. */
struct group_plan {
    const char *name;
    uint32_t flags;                 /* GROUP_AD_HOC, GROUP_EPHEMERAL, GROUP_MIRROR */
    const struct topic_set *wanted; /* by log index; n_logs of them */
    uint32_t n_logs;
    enum evbus_from from;
    uint64_t position; /* for EVBUS_FROM_POSITION: in every partition; for EVBUS_FROM_TIME: ns since 1970 */
};

/* The topics that the patterns cover, by log; of no patterns: all but the bus's own. EVBUS_ENOTFOUND: one fits none. */
int group_cover(const struct memory *memory, const char *const *patterns, size_t n_patterns,
                struct topic_set out_covered[LOGS_MAX], struct error *err);

/* Makes the group's number and its place in every partition of its logs; from here on they hold their events for it. One maker
 * at a time. EVBUS_OK; EVBUS_EDUPLICATE (out_group is it); EVBUS_ELIMIT; EVBUS_EBUSY (somebody else is at it). */
int group_make(struct memory *memory, const struct group_plan *plan, uint32_t *out_group, struct error *err);

/* Gives a group that is there the topics that it lacks: in logs that are new to it from the latest position on. 1: it has changed. */
uint32_t group_add_topics(struct memory *memory, uint32_t group, const struct topic_set *wanted, uint32_t n_logs,
                          enum evbus_from from);

/* The topic of a group's dead letters stays when the group is gone. Has one of this name had it, and what is said when no more
 * fit: EVBUS_ELIMIT. */
bool group_has_dead_letter_topic(struct memory *memory, const char *name);
int group_no_dead_letter_topic(struct error *err);

/* Lets go of everything that the group holds. Its members hear it. */
int group_remove(struct memory *memory, uint32_t group, struct error *err);

/* The number of a live group, or GROUP_NONE. */
uint32_t group_find(const struct memory *memory, const char *name);

/* Is it ephemeral, had members, and has none any more? */
bool group_is_orphan(const struct memory *memory, uint32_t group);

bool group_is_live(const struct memory *memory, uint32_t group);

/* Which topics of a log it receives. */
struct topic_set group_topics(const struct memory_log *log, uint32_t group);

/* The calling thread's slot becomes a member that takes these logs, a bit each. out_owner: who it is in this life
 * of the group, and in no other. EVBUS_OK; EVBUS_ELIMIT; EVBUS_ENOTFOUND (the group is gone). */
int group_join(struct memory *memory, uint32_t group, uint32_t slot, uint64_t logs, uint32_t *out_member,
               uint32_t *out_owner, struct error *err);
void group_leave(struct memory *memory, uint32_t group, uint32_t member, uint32_t owner);

/* The id of the topic of a mirror's checkpoints, in the log of notes; 0: there is none. */
uint32_t group_save_topic(struct memory *memory, uint32_t group);

/* The living members' slots, in their order; at most MEMBERS_MAX. Returns how many. */
uint32_t group_members(const struct memory *memory, uint32_t group, uint32_t out_slots[MEMBERS_MAX]);

/* Members and leases have changed: its members look. */
void group_tell_members(struct memory *memory, uint32_t group);

/* Wakes them. */
void group_ring_members(struct memory *memory, uint32_t group);

/* Counts up whenever members or leases have changed. */
static inline uint32_t group_changes(const struct memory *memory, uint32_t group)
{
    return atomic_load_explicit(&memory->control->groups[group].changes, memory_order_acquire);
}

/* The index of a group's low in its partitions' lows. */
static inline uint32_t group_low_index(uint32_t group)
{
    return PINS_MAX + group;
}

/* The admin's hold: one at a time, the owner of this slot, makes or removes groups, or applies a catalogue. What a dead
 * one left half done is undone. EVBUS_OK; EVBUS_EBUSY (after 5 s, or at once where wait is false). */
int group_lock(struct memory *memory, uint32_t slot, bool wait, struct error *err);
void group_unlock(struct memory *memory, uint32_t slot);

#endif
