/* groups.c: groups in numbers, made, moved and forgotten by hand. For the CLI and dashboards.
 * Checked by tests/unit/test_subscribe.c, test_apply.c, test_seek.c. */
#include <evbus/admin.h>
#include <evbus/history.h>

#include "bus.h"
#include "clock.h"
#include "frame.h"
#include "group.h"
#include "lag.h"
#include "outage.h"
#include "partition.h"
#include "pending.h"
#include "seek.h"
#include "slot.h"
#include "stat.h"

#include <stdlib.h>
#include <string.h>

#define TOPICS_SHOWN 512

static_assert(sizeof((struct evbus_group_stat *)0)->paused_error == OUTAGE_TEXT_BYTES,
              "an error is told as it is kept");
static_assert((int)EVBUS_CAUSE_FAILED == (int)CAUSE_FAILED && (int)EVBUS_CAUSE_CRASHED == (int)CAUSE_CRASHED &&
                  (int)EVBUS_CAUSE_TIMEOUT == (int)CAUSE_TIMEOUT && (int)EVBUS_CAUSE_REJECTED == (int)CAUSE_REJECTED &&
                  (int)EVBUS_CAUSE_NO_VERSION == (int)CAUSE_NO_VERSION &&
                  (int)EVBUS_CAUSE_EXPIRED == (int)CAUSE_EXPIRED && CAUSES <= EVBUS_CAUSES,
              "causes are told as they are");

/* What one call of each() is shown. */
struct shown {
    struct evbus_group_stat stat;
    char name[SERVICE_BYTES];
    const char *topics[TOPICS_SHOWN];
    char topic_names[TOPICS_SHOWN][NAME_BYTES];
    struct evbus_slot_stat members[MEMBERS_MAX];
    struct evbus_group_part_stat parts[LOGS_MAX * PARTITIONS_MAX];
    const char *accepts[VERSION_ACCEPTS_MAX];
    char accept_texts[VERSION_ACCEPTS_MAX][VERSION_TEXT_MAX];
};

/* With what events are looked at. */
struct sight {
    const struct memory *memory;
    uint64_t now_ns;
    uint64_t *buffer; /* room for the largest frame */
};

static void see_age(const struct sight *sight, uint64_t timestamp_ns, uint64_t *inout_oldest_ns)
{
    if (timestamp_ns < sight->now_ns && sight->now_ns - timestamp_ns > *inout_oldest_ns)
        *inout_oldest_ns = sight->now_ns - timestamp_ns;
}

/* What an entry's event says: its age, and whether it has a key that it holds. */
static bool see_entry(struct sight *sight, const struct ring *ring, uint64_t pos, uint64_t *inout_oldest_ns)
{
    struct partition_past *past = NULL;
    const struct frame_header *header = (const struct frame_header *)sight->buffer;
    uint64_t next;
    bool is_event = partition_fetch(&past, sight->memory, ring, pos, sight->buffer, &next, NULL) == PARTITION_FRAME &&
                    header->kind == FRAME_EVENT;
    partition_past_close(past);
    if (is_event)
        see_age(sight, header->timestamp_ns, inout_oldest_ns);
    return is_event && header->key_len > 0;
}

static void add_part(struct sight *sight, const struct memory_log *log, uint32_t partition,
                     const struct topic_set *topics, const struct group_part *part, struct evbus_group_stat *stat,
                     struct evbus_group_part_stat *out_row)
{
    const struct ring *ring = &log->rings[partition];
    uint64_t cursor = pending_cursor(part);
    uint64_t tail = ring_tail(ring);
    uint64_t low = pending_low(part);
    struct lag lag;
    lag_count(sight->memory, ring, topics, cursor, sight->buffer, &lag);
    *out_row = (struct evbus_group_part_stat){
        .size = sizeof *out_row,
        .log = log->name,
        .partition = partition,
        .lag_events = lag.events,
        .is_lag_estimated = lag.is_estimated,
    };
    stat->lag += ring_cells_between(ring, cursor, tail);
    stat->held_bytes += ring_cells_between(ring, low, tail) * CELL_BYTES;
    stat->done += atomic_load_explicit(&part->n_done, memory_order_relaxed);
    stat->redelivered += atomic_load_explicit(&part->n_redelivered, memory_order_relaxed);
    stat->dead_letters += atomic_load_explicit(&part->n_dead, memory_order_relaxed);
    stat->lag_events += lag.events;
    stat->is_lag_estimated = stat->is_lag_estimated || lag.is_estimated;
    if (lag.first_ns != 0)
        see_age(sight, lag.first_ns, &out_row->oldest_ns);
    for (int i = 0; i < CAUSES; i++)
        stat->attempts_failed[i] += atomic_load_explicit(&part->n_causes[i], memory_order_relaxed);
    stat->takeovers += atomic_load_explicit(&part->n_takeovers, memory_order_relaxed);
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending found = pending_load(part, i, cursor);
        if (found.state == PENDING_EMPTY || found.pos >= cursor)
            continue;
        out_row->n_pending++;
        stat->n_pending++;
        stat->n_running += found.state == PENDING_RUN || found.state == PENDING_SOLO;
        stat->n_waiting += found.state == PENDING_WAIT;
        stat->n_dead += found.state == PENDING_DEAD;
        stat->n_parked += found.state == PENDING_PARKED;
        if (found.attempts > stat->attempts_max)
            stat->attempts_max = found.attempts;
        bool has_key = see_entry(sight, ring, found.pos, &out_row->oldest_ns);
        stat->n_held_keys += has_key && (found.state == PENDING_WAIT || found.state == PENDING_DEAD ||
                                         found.state == PENDING_PARKED);
        stat->n_blocked_keys += found.followers;
    }
    if (out_row->oldest_ns > stat->oldest_ns)
        stat->oldest_ns = out_row->oldest_ns;
}

static void fill(const struct memory *memory, uint32_t group, uint64_t *buffer, struct shown *shown)
{
    const struct group_entry *entry = &memory->control->groups[group];
    struct evbus_group_stat *stat = &shown->stat;
    uint64_t now_ns = clock_wall_ns();
    struct sight sight = {memory, now_ns, buffer};
    uint32_t slots[MEMBERS_MAX];
    memset(stat, 0, sizeof *stat);
    memcpy(shown->name, entry->name, sizeof shown->name - 1);
    stat->size = sizeof *stat;
    stat->group = shown->name;
    stat->is_ad_hoc = (entry->flags & GROUP_AD_HOC) != 0;
    stat->is_ephemeral = (entry->flags & GROUP_EPHEMERAL) != 0;
    stat->topics = shown->topics;
    stat->members = shown->members;
    stat->parts = shown->parts;
    uint32_t n = group_members(memory, group, slots);
    for (uint32_t i = 0; i < n; i++)
        stat->n_members += stat_fill_slot(memory->control, slots[i], &shown->members[stat->n_members]);
    struct outage_view outage;
    outage_look(&entry->outage, &outage);
    uint64_t mono_ns = clock_mono_ns();
    stat->is_paused = outage.is_paused;
    stat->n_same_failures = outage.n_events;
    stat->paused_since_ns = outage.since_ns;
    stat->next_probe_ns = outage.probe_ns > mono_ns ? outage.probe_ns - mono_ns : 0;
    memcpy(stat->paused_error, outage.text, sizeof stat->paused_error);
    uint64_t seen_ns = atomic_load_explicit(&entry->seen_ns, memory_order_relaxed);
    if (stat->n_members == 0 && seen_ns < now_ns)
        stat->absent_ns = now_ns - seen_ns;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        const struct memory_log *log = &memory->logs[l];
        struct topic_set topics = group_topics(log, group);
        bool reads = false;
        for (uint32_t id = 1; id <= TOPICS_MAX; id++) {
            if (!topic_set_has(&topics, id))
                continue;
            reads = true;
            if (stat->n_topics == TOPICS_SHOWN || memory_is_internal(log)) /* its replays go without saying */
                continue;
            char *name = shown->topic_names[stat->n_topics]; /* our copy ends, whatever stands there */
            memcpy(name, log->head->topics[id - 1], NAME_BYTES - 1);
            shown->topics[stat->n_topics++] = name;
        }
        for (uint32_t p = 0; reads && p < log->n_partitions; p++)
            add_part(&sight, log, p, &topics, memory_part(log, p, group), stat, &shown->parts[stat->n_parts++]);
        if (!memory_is_internal(log) && reads)
            stat->n_partitions += log->n_partitions;
    }
}

static void fill_accepts(struct topics *topics, struct shown *shown)
{
    size_t payload_max;
    struct version_accepts accepts = topics_accepts(topics, shown->name, &payload_max);
    for (uint32_t i = 0; i < accepts.n; i++)
        shown->accepts[i] = version_accept_text(&accepts.list[i], shown->accept_texts[i]);
    shown->stat.accepts = shown->accepts;
    shown->stat.n_accepts = accepts.n;
}

EVBUS_API int evbus_groups(struct evbus *bus, int (*each)(void *context, const struct evbus_group_stat *group),
                           void *context)
{
    struct error *err = error_of_thread();
    uint32_t groups[GROUPS_MAX];
    uint32_t n = 0;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && each == NULL)
        rc = error_set(err, EVBUS_EINVAL, "each is NULL");
    if (rc == EVBUS_OK)
        rc = topics_enter_thread(err); /* what they accept is looked up */
    if (rc == EVBUS_OK)
        rc = memory_map_new_logs(&bus->memory, err);
    struct shown *shown = rc == EVBUS_OK ? calloc(1, sizeof *shown) : NULL;
    uint64_t *buffer = shown != NULL ? malloc((size_t)FRAME_CELLS_MAX * CELL_BYTES) : NULL;
    if (rc == EVBUS_OK && buffer == NULL)
        rc = error_no_memory(err, "a group");
    for (uint32_t g = 0; rc == EVBUS_OK && g < GROUPS_MAX; g++) {
        if (!group_is_live(&bus->memory, g))
            continue;
        uint32_t at = n++;
        for (; at > 0 && strncmp(bus->memory.control->groups[groups[at - 1]].name, bus->memory.control->groups[g].name,
                                 SERVICE_BYTES) > 0;
             at--)
            groups[at] = groups[at - 1];
        groups[at] = g;
    }
    for (uint32_t i = 0; i < n && rc == EVBUS_OK; i++) {
        fill(&bus->memory, groups[i], buffer, shown);
        fill_accepts(bus->topics, shown);
        rc = each(context, &shown->stat);
    }
    free(buffer);
    free(shown);
    return rc;
}

EVBUS_API int evbus_group_add(struct evbus *bus, const struct evbus_group_options *given)
{
    struct error *err = error_of_thread();
    struct evbus_group_options options = {0};
    struct evbus_subscription *member;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && given != NULL)
        rc = bus_take_struct(&options, sizeof options, given, given->size, "struct evbus_group_options", err);
    if (rc == EVBUS_OK && (options.group == NULL || options.patterns == NULL || options.n_patterns == 0))
        rc = error_set(err, EVBUS_EINVAL, "options.%s is missing", options.group == NULL ? "group" : "patterns");
    if (rc == EVBUS_OK && group_find(&bus->memory, options.group) != GROUP_NONE)
        rc = error_set(err, EVBUS_EDUPLICATE, "group %s exists already", options.group);
    if (rc != EVBUS_OK)
        return rc;
    rc = evbus_subscribe(&member, bus, /* made by its first member, who leaves again */
                         &(struct evbus_subscribe_options){
                             .size = sizeof(struct evbus_subscribe_options),
                             .group = options.group,
                             .patterns = options.patterns,
                             .n_patterns = options.n_patterns,
                             .from = options.from,
                             .from_time_ns = options.from_time_ns,
                             .from_position = options.from_position,
                         });
    if (rc == EVBUS_OK)
        evbus_unsubscribe(member);
    return rc;
}

EVBUS_API int evbus_group_remove(struct evbus *bus, const char *name)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread = NULL;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && name == NULL)
        rc = error_set(err, EVBUS_EINVAL, "group is NULL");
    if (rc == EVBUS_OK)
        rc = memory_map_new_logs(&bus->memory, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(bus, &thread, err);
    if (rc == EVBUS_OK)
        rc = group_lock(&bus->memory, thread->claim.slot, true, err);
    if (rc != EVBUS_OK)
        return rc;
    uint32_t group = group_find(&bus->memory, name);
    rc = group != GROUP_NONE
             ? group_remove(&bus->memory, group, err)
             : error_set(err, EVBUS_ENOTFOUND, "there is no group %s; `evbus group ls` lists them", name);
    group_unlock(&bus->memory, thread->claim.slot);
    return rc;
}

/* --- seek ------------------------------------------------------------------------------------------------------------ */

static int check_seek(const struct evbus_seek_options *options, struct error *err)
{
    if (options->group == NULL)
        return error_set(err, EVBUS_EINVAL, "options.group is missing");
    if ((unsigned)options->from > EVBUS_FROM_POSITION)
        return error_set(err, EVBUS_EINVAL, "options.from is %d, which is no enum evbus_from", (int)options->from);
    if (options->has_partition && options->log == NULL)
        return error_set(err, EVBUS_EINVAL, "options.partition is one of a log: options.log is missing");
    if (options->from == EVBUS_FROM_POSITION && !options->has_partition)
        return error_set(err, EVBUS_EINVAL, "a position is one of a partition: options.log and partition are missing");
    return EVBUS_OK;
}

static int show_part(const struct seek_part *part, int (*each)(void *context, const struct evbus_seek_part *part),
                     void *context)
{
    struct evbus_seek_part shown = {
        .size = sizeof shown,
        .log = part->log->name,
        .partition = part->partition,
        .from_position = part->from,
        .to_position = part->to,
        .way = part->to > part->from   ? EVBUS_SEEK_SKIPS
               : part->to < part->from ? EVBUS_SEEK_AGAIN
                                       : EVBUS_SEEK_STAYS,
        .cells = part->cells,
        .n_in_hand = part->n_in_hand,
        .n_dropped = part->n_dropped,
        .is_oldest = part->is_oldest,
    };
    return each(context, &shown);
}

EVBUS_API int evbus_group_seek(struct evbus *bus, const struct evbus_seek_options *given,
                               int (*each)(void *context, const struct evbus_seek_part *part), void *context)
{
    struct error *err = error_of_thread();
    struct evbus_seek_options options = {0};
    struct bus_thread *thread = NULL;
    struct seek_part *parts = NULL;
    size_t n = 0;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && given != NULL)
        rc = bus_take_struct(&options, sizeof options, given, given->size, "struct evbus_seek_options", err);
    if (rc == EVBUS_OK)
        rc = check_seek(&options, err);
    if (rc == EVBUS_OK && options.dry_run)
        rc = memory_map_new_logs(&bus->memory, err);
    if (rc == EVBUS_OK && !options.dry_run)
        rc = bus_thread(bus, &thread, err);
    if (rc == EVBUS_OK && !options.dry_run)
        rc = group_lock(&bus->memory, thread->claim.slot, true, err);
    if (rc != EVBUS_OK)
        return rc;
    struct seek_plan plan = {
        .group = group_find(&bus->memory, options.group),
        .to = options.from,
        .value = options.from == EVBUS_FROM_POSITION ? options.from_position : options.from_time_ns,
        .log = options.log,
        .has_partition = options.has_partition,
        .partition = options.partition,
        .force = options.force,
    };
    if (plan.group == GROUP_NONE)
        rc = error_set(err, EVBUS_ENOTFOUND, "there is no group %s; `evbus group ls` lists them", options.group);
    else if (options.dry_run)
        rc = seek_look(&bus->memory, &plan, &parts, &n, err);
    else
        rc = seek_move(&bus->memory, thread->claim.slot, &plan, &parts, &n, err);
    if (!options.dry_run)
        group_unlock(&bus->memory, thread->claim.slot);
    for (size_t i = 0; each != NULL && rc == EVBUS_OK && i < n; i++)
        rc = show_part(&parts[i], each, context);
    free(parts);
    return rc;
}
