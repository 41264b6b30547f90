/* apply.c: a catalogue becomes what the bus is, at init and while all runs.
 *
 *   who      one at a time, who has the admin's hold
 *   order    check all of it against the bus (nothing is changed when anything is refused)
 *            logs that are new: made whole, then known (n_logs)    topics that are new: named, then counted (n_topics)
 *            groups: made, or given topics                         the other text; generation + 1 (release)
 *
 * Why that is enough. Everything before the generation only adds what nobody uses yet: a maker that dies leaves places that the
 * next apply of the same text finds and goes on from. Publishers look at the generation with each publish and read the text anew
 * when it has changed; the old table serves them meanwhile, so none of them waits. A text that is half written is nobody's: the
 * generation still says the other one.
 * A group is there before anybody may publish on its new topic: it misses nothing of it.
 * Checked by tests/unit/test_apply.c, tests/crash/test_apply.c. */
#include <evbus/admin.h>

#include "bus.h"
#include "memory_make.h"
#include "partition.h"
#include "provide.h"
#include "retire.h"
#include "topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- while all runs ------------------------------------------------------------------------------------------------------ */

static const struct catalogue_log *log_named(const struct catalogue *catalogue, const char *name)
{
    for (size_t i = 0; i < catalogue->n_logs; i++)
        if (strcmp(catalogue->logs[i].name, name) == 0)
            return &catalogue->logs[i];
    return NULL;
}

/* What a bus cannot change, by name. */
static int check_against(struct memory *memory, const struct catalogue *old, const struct catalogue *new,
                         struct error *err)
{
    if (strcmp(old->name_space, new->name_space) != 0)
        return error_set(err, EVBUS_ECATALOGUE, "namespace is \"%s\" and was \"%s\": that needs a new bus",
                         new->name_space, old->name_space);
    for (size_t i = 0; i < old->n_topics; i++)
        if (catalogue_find_topic(new, old->topics[i].name) < 0)
            return error_set(err, EVBUS_ECATALOGUE,
                             "topic %s is missing: a bus keeps its topics; take its producers away, or make a new bus",
                             old->topics[i].name);
    for (size_t i = 0; i < old->n_groups; i++) {
        bool is_there = group_find(memory, old->groups[i].name) == GROUP_NONE; /* forgotten by hand */
        for (size_t j = 0; j < new->n_groups; j++)
            is_there = is_there || strcmp(old->groups[i].name, new->groups[j].name) == 0;
        if (!is_there)
            return error_set(
                err, EVBUS_ECATALOGUE,
                "group %s is missing: the bus still holds its events for it; `evbus group rm %s` forgets it",
                old->groups[i].name, old->groups[i].name);
    }
    uint32_t n_groups = 0;
    for (uint32_t g = 0; g < GROUPS_MAX; g++)
        n_groups += atomic_load_explicit(&memory->control->groups[g].state, memory_order_acquire) != GROUP_FREE;
    uint32_t n_dead_letter_topics = provide_n_dead_letter_topics(memory);
    for (size_t i = 0; i < new->n_groups; i++) {
        bool is_made = provide_is_here(new, new->groups[i].name) &&
                       group_find(memory, new->groups[i].name) == GROUP_NONE;
        n_groups += is_made;
        n_dead_letter_topics += is_made && !group_has_dead_letter_topic(memory, new->groups[i].name);
    }
    if (n_dead_letter_topics > TOPICS_MAX)
        return group_no_dead_letter_topic(err);
    if (n_groups > GROUPS_MAX)
        return error_set(err, EVBUS_ELIMIT,
                         "the bus would have %u groups; at most %d fit: `evbus group ls` lists them, rm removes one",
                         n_groups, GROUPS_MAX);
    size_t n_new = 0;
    for (size_t i = 0; i < new->n_logs; i++) {
        const struct catalogue_log *log = &new->logs[i];
        const struct catalogue_log *before = log_named(old, log->name);
        n_new += before == NULL;
        if (before != NULL && before->n_partitions != log->n_partitions)
            return error_set(err, EVBUS_ECATALOGUE, "log %s: partitions is %u and was %u: that needs a new bus",
                             log->name, log->n_partitions, before->n_partitions);
        if (before != NULL && before->ring_bytes != log->ring_bytes)
            return error_set(err, EVBUS_ECATALOGUE, "log %s: ring is %llu bytes and was %llu: that needs a new bus",
                             log->name, (unsigned long long)log->ring_bytes, (unsigned long long)before->ring_bytes);
        if (before != NULL && (before->journal != log->journal || before->ack != log->ack ||
                               before->visible_synced != log->visible_synced))
            return error_set(err, EVBUS_ECATALOGUE, "log %s: %s has changed: that needs a new bus", log->name,
                             before->journal != log->journal ? "journal"
                             : before->ack != log->ack       ? "ack"
                                                             : "visible");
    }
    if (memory_n_logs(memory) + n_new > LOGS_MAX)
        return error_set(err, EVBUS_ELIMIT, "the bus would have %zu logs; at most %d fit: leave some out",
                         memory_n_logs(memory) + n_new, LOGS_MAX);
    return EVBUS_OK;
}

/* Logs that are new, and topics that are new in logs that are there. */
static int add_topics(struct memory *memory, const struct catalogue *new, uint32_t slot, uint32_t *inout_n,
                      struct error *err)
{
    for (size_t l = 0; l < new->n_logs; l++) {
        struct memory_log *log = NULL;
        for (uint32_t i = 0; i < memory_n_logs(memory); i++)
            if (strcmp(memory->logs[i].name, new->logs[l].name) == 0)
                log = &memory->logs[i];
        bool is_new = log == NULL;
        int rc = is_new ? memory_add_log(memory, &new->logs[l], &log, err) : EVBUS_OK;
        if (rc != EVBUS_OK)
            return rc;
        uint32_t before = atomic_load_explicit(&log->head->n_topics, memory_order_acquire);
        for (size_t t = 0; t < new->n_topics; t++) {
            uint32_t found_log;
            uint32_t found_id;
            if (new->topics[t].log != l ||
                (!is_new && memory_find_topic(memory, new->topics[t].name, &found_log, &found_id)))
                continue;
            rc = memory_add_topic(memory, log, new->topics[t].name, &found_id, err);
            if (rc == EVBUS_ELIMIT)
                return error_set(err, EVBUS_ELIMIT,
                                 "log %s has %d topics, no more fit: give the new ones another service segment",
                                 new->logs[l].name, TOPICS_MAX);
            if (rc != EVBUS_OK)
                return rc;
            *inout_n += 1;
        }
        rc = provide_names(log, before, slot, err);
        if (rc != EVBUS_OK && rc != EVBUS_EFULL) /* a full ring's readers know the name from memory */
            return rc;
        if (is_new) {
            *inout_n += 1;
            memory_publish_log(memory);
        }
    }
    return EVBUS_OK;
}

static void write_text(struct control *control, const char *text, size_t len)
{
    uint32_t generation = atomic_load_explicit(&control->generation, memory_order_relaxed) + 1;
    memcpy(control->catalogue[generation % 2], text, len);
    atomic_store_explicit(&control->catalogue_len[generation % 2], (uint32_t)len, memory_order_relaxed);
    atomic_store_explicit(&control->generation, generation, memory_order_release); /* edge CATALOGUE, from: the text */
}

/* The catalogue as it was. */
static int old_catalogue(const struct memory *memory, struct catalogue **out_old, struct error *err)
{
    char *text;
    size_t len;
    uint32_t generation;
    int rc = topics_copy_text(memory, &text, &len, &generation, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = catalogue_parse(text, len, out_old, err);
    free(text);
    return rc;
}

static int apply(struct memory *memory, const struct catalogue *new, const char *text, size_t len, uint32_t slot,
                 uint32_t *out_n, struct error *err)
{
    struct catalogue *old = NULL;
    int rc = memory_map_new_logs(memory, err);
    if (rc != EVBUS_OK)
        return rc;
    if ((rc = old_catalogue(memory, &old, err)) == EVBUS_OK)
        rc = check_against(memory, old, new, err);
    catalogue_free(old);
    if (rc == EVBUS_OK)
        rc = add_topics(memory, new, slot, out_n, err);
    uint32_t n_before = provide_n_dead_letter_topics(memory);
    if (rc == EVBUS_OK)
        rc = provide_groups(memory, new, EVBUS_FROM_LATEST, out_n, err);
    if (rc == EVBUS_OK)
        rc = provide_dead_letter_names(memory, n_before, slot, err);
    if (rc == EVBUS_OK)
        rc = memory_save_applied(memory, text, len, err);
    if (rc == EVBUS_OK) {
        for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
            const struct catalogue_log *log = log_named(new, memory->logs[l].name);
            if (log != NULL)
                memory_keep_for(memory->logs[l].head, log);
        }
        write_text(memory->control, text, len);
        for (uint32_t g = 0; g < GROUPS_MAX; g++) /* members read their group's settings anew */
            atomic_fetch_add_explicit(&memory->control->groups[g].changes, 1, memory_order_release);
    }
    return rc;
}

EVBUS_API int evbus_catalogue_apply(struct evbus *bus, const char *text, size_t len, uint32_t *out_changes)
{
    struct error *err = error_of_thread();
    struct catalogue *catalogue = NULL;
    struct bus_thread *thread = NULL;
    uint32_t n = 0;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && text == NULL)
        rc = error_set(err, EVBUS_EINVAL, "text is NULL");
    if (rc == EVBUS_OK && len == 0)
        len = strlen(text);
    if (rc == EVBUS_OK)
        rc = catalogue_parse(text, len, &catalogue, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(bus, &thread, err);
    if (rc == EVBUS_OK)
        rc = group_lock(&bus->memory, thread->claim.slot, true, err);
    if (rc == EVBUS_OK) {
        retire_check_names(&bus->memory); /* no new log under a name that another bus may have by now */
        if ((rc = bus_check(bus, err)) == EVBUS_OK)
            rc = apply(&bus->memory, catalogue, text, len, thread->claim.slot, &n, err);
        group_unlock(&bus->memory, thread->claim.slot);
        bus_check(bus, NULL); /* retired meanwhile: nobody could let go of its folder while we wrote there */
    }
    catalogue_free(catalogue);
    if (rc == EVBUS_OK && out_changes != NULL)
        *out_changes = n;
    return rc;
}
