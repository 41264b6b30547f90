/* subscribe.c: become a member of a group, or make one; leave it.
 *
 * What a group receives belongs to the group: patterns make a new group, or say which of its logs a member takes; a log that they
 * cover in part is refused by name. Checked by tests/unit/test_subscribe.c. */
#include "clock.h"
#include "member.h"
#include "provide.h"
#include "topic.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATTERNS_MAX 64

static int check_patterns(const struct evbus_subscribe_options *options, struct error *err)
{
    if (options->n_patterns > PATTERNS_MAX)
        return error_set(err, EVBUS_EINVAL, "%zu patterns; at most %d are allowed", options->n_patterns, PATTERNS_MAX);
    for (size_t i = 0; i < options->n_patterns; i++) {
        int rc = options->patterns[i] != NULL ? topic_pattern_check(options->patterns[i], err)
                                              : error_set(err, EVBUS_EINVAL, "patterns[%zu] is NULL", i);
        if (rc != EVBUS_OK)
            return rc;
    }
    return EVBUS_OK;
}

/* A member takes a log only if its patterns cover all that the group wants of it. */
static int may_take(struct evbus_subscription *sub, const struct topic_set *covered, struct error *err)
{
    struct memory *memory = &sub->bus->memory;
    sub->takes = 0;
    uint64_t replays = 0;
    char left_out[256] = "";
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        struct topic_set topics = group_topics(&memory->logs[l], sub->of.group);
        if (memory_is_internal(&memory->logs[l])) { /* every member takes part in its group's replays */
            replays |= UINT64_C(1) << l;
            continue;
        }
        bool has_some = false;
        bool has_all = true;
        for (uint32_t id = 1; id <= TOPICS_MAX; id++) {
            if (!topic_set_has(&topics, id))
                continue;
            has_some = has_some || topic_set_has(&covered[l], id);
            has_all = has_all && topic_set_has(&covered[l], id);
        }
        if (has_some && has_all)
            sub->takes |= UINT64_C(1) << l;
        for (uint32_t id = 1; has_some && !has_all && id <= TOPICS_MAX; id++) {
            size_t len = strlen(left_out);
            if (topic_set_has(&topics, id) && !topic_set_has(&covered[l], id))
                snprintf(left_out + len, sizeof left_out - len, "%s%.127s", len == 0 ? "" : ", ",
                         memory->logs[l].head->topics[id - 1]);
        }
    }
    if (left_out[0] != '\0')
        return error_set(
            err, EVBUS_EINVAL,
            "what group %s receives belongs to the group: the patterns leave out %s; add them, or name a new group",
            sub->of.name, left_out);
    if (sub->takes == 0)
        return error_set(err, EVBUS_EINVAL, "group %s receives none of these topics; name a new group for them",
                         sub->of.name);
    sub->takes |= replays;
    return EVBUS_OK;
}

static int find_or_make(struct evbus_subscription *sub, const struct evbus_subscribe_options *options,
                        bool *out_is_made, struct error *err)
{
    struct memory *memory = &sub->bus->memory;
    struct topic_set covered[LOGS_MAX];
    struct bus_thread *thread;
    int rc = check_patterns(options, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(sub->bus, &thread, err);
    if (rc == EVBUS_OK)
        rc = group_cover(memory, options->patterns, options->n_patterns, covered, err);
    if (rc != EVBUS_OK)
        return rc;
    sub->of.group = group_find(memory, sub->of.name);
    if (sub->of.group != GROUP_NONE && (memory->control->groups[sub->of.group].flags & GROUP_MIRROR) != 0)
        return error_set(err, EVBUS_EINVAL, "group %s is a mirror's: what it receives goes to a broker", sub->of.name);
    if (sub->of.group != GROUP_NONE)
        return options->n_patterns > 0 ? may_take(sub, covered, err) : EVBUS_OK;
    if (options->n_patterns == 0)
        return error_set(err, EVBUS_ENOTFOUND,
                         "there is no group %s; `evbus group ls` lists them, patterns of topics make a new one",
                         sub->of.name);
    struct group_plan plan = {
        .name = sub->of.name,
        .flags = GROUP_AD_HOC | (options->ephemeral ? GROUP_EPHEMERAL : 0),
        .wanted = covered,
        .n_logs = memory_n_logs(memory),
        .from = options->from,
        .position = options->from == EVBUS_FROM_POSITION ? options->from_position : options->from_time_ns,
    };
    if ((rc = group_lock(memory, thread->claim.slot, true, err)) != EVBUS_OK)
        return rc;
    uint32_t n_before = provide_n_dead_letter_topics(memory);
    rc = group_make(memory, &plan, &sub->of.group, err);
    *out_is_made = rc == EVBUS_OK;
    if (rc == EVBUS_OK)
        rc = provide_dead_letter_names(memory, n_before, thread->claim.slot, err);
    group_unlock(memory, thread->claim.slot);
    return rc == EVBUS_EDUPLICATE ? EVBUS_OK : rc;
}

/* A group that we have just made and cannot join: nobody would be left to forget it. */
static void unmake(struct evbus *bus, uint32_t group)
{
    struct bus_thread *thread;
    uint32_t slots[MEMBERS_MAX];
    if (bus_thread(bus, &thread, NULL) != EVBUS_OK ||
        group_lock(&bus->memory, thread->claim.slot, true, NULL) != EVBUS_OK)
        return;
    if (group_members(&bus->memory, group, slots) == 0)
        group_remove(&bus->memory, group, NULL);
    group_unlock(&bus->memory, thread->claim.slot);
}

/* What this member accepts, and what it can make. */
static int take_versions(struct evbus_subscription *sub, const struct evbus_subscribe_options *options,
                         struct error *err)
{
    uint32_t log;
    uint32_t id;
    size_t n = options->accepts != NULL ? options->n_accepts : 0;
    int rc = EVBUS_OK;
    if (n > VERSION_ACCEPTS_MAX)
        return error_set(err, EVBUS_EINVAL, "options.accepts: %zu versions; at most %d are allowed", n,
                         VERSION_ACCEPTS_MAX);
    for (size_t i = 0; i < n; i++) {
        const char *text = options->accepts[i];
        rc = text != NULL ? version_accept_parse(text, strlen(text), &sub->accepts.list[i], err)
                          : error_set(err, EVBUS_EINVAL, "it is NULL");
        if (rc != EVBUS_OK)
            return error_prefix(err, rc, "options.accepts[%zu]", i);
    }
    sub->accepts.n = (uint32_t)n;
    if (options->n_upcasters == 0)
        return EVBUS_OK;
    rc = upcasters_make(options->upcasters, options->n_upcasters, &sub->upcasters, err);
    sub->of.upcasters = sub->upcasters;
    for (size_t i = 0; rc == EVBUS_OK && i < options->n_upcasters; i++)
        if (options->upcasters[i].topic != NULL &&
            !memory_find_topic(&sub->bus->memory, options->upcasters[i].topic, &log, &id))
            return error_set(err, EVBUS_EINVAL,
                             "options.upcasters[%zu]: there is no topic %s; `evbus catalogue show` lists them", i,
                             options->upcasters[i].topic);
    return rc;
}

/* Upcasters make what is accepted. */
static int check_versions(const struct evbus_subscription *sub, struct error *err)
{
    return sub->upcasters == NULL || sub->of.accepts->n != 0
               ? EVBUS_OK
               : error_set(err, EVBUS_EINVAL,
                           "options.upcasters: neither options.accepts nor the catalogue says which version group %s "
                           "accepts, so nothing is to be made",
                           sub->of.name);
}

static int check_name(const char *name, struct error *err)
{
    size_t len = strlen(name);
    if (len < 1 || len >= SERVICE_BYTES || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != len ||
        name[0] < 'a')
        return error_set(err, EVBUS_EINVAL, "group \"%.63s\": a name has 1..63 of a-z 0-9 - _ and begins with a letter",
                         name);
    return EVBUS_OK;
}

/* Which keys have dead letters, and what is done about them. */
static void follow_letters(struct evbus_subscription *sub)
{
    struct memory *memory = &sub->bus->memory;
    const struct memory_log *letters = memory_internal_log(memory, MEMORY_DLQ_LOG);
    if (letters == NULL) /* the bus is damaged: `evbus doctor` tells */
        return;
    sub->gaps = (struct gaps){.memory = memory, .ring = &letters->rings[0], .topic = sub->of.dlq_topic};
    sub->of.gaps = &sub->gaps;
}

EVBUS_API int evbus_subscribe(struct evbus_subscription **out_subscription, struct evbus *bus,
                              const struct evbus_subscribe_options *given)
{
    struct error *err = error_of_thread();
    struct evbus_subscribe_options options = {0};
    bool is_made = false;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && given != NULL)
        rc = bus_take_struct(&options, sizeof options, given, given->size, "struct evbus_subscribe_options", err);
    if (rc == EVBUS_OK && out_subscription == NULL)
        rc = error_set(err, EVBUS_EINVAL, "out_subscription is NULL");
    if (rc == EVBUS_OK && (unsigned)options.from > EVBUS_FROM_POSITION)
        rc = error_set(err, EVBUS_EINVAL, "options.from is %d, which is no enum evbus_from", (int)options.from);
    if (options.patterns == NULL)
        options.n_patterns = 0;
    const char *name = options.group != NULL ? options.group : bus != NULL ? bus->service : "";
    if (rc == EVBUS_OK)
        rc = check_name(name, err);
    if (rc != EVBUS_OK)
        return rc;
    struct evbus_subscription *sub = calloc(1, sizeof *sub);
    if (sub == NULL)
        return error_no_memory(err, "a subscription");
    sub->bus = bus;
    sub->handler = options.handler;
    sub->context = options.context;
    sub->of.memory = &bus->memory;
    sub->of.log = &bus->log;
    sub->of.group = GROUP_NONE;
    memcpy(sub->of.name, name, strlen(name) + 1);
    memcpy(sub->of.member, bus->service, sizeof sub->of.member);
    sub->takes = UINT64_MAX;
    rc = memory_map_new_logs(&bus->memory, err);
    if (rc == EVBUS_OK)
        rc = take_versions(sub, &options, err);
    if (rc == EVBUS_OK)
        rc = find_or_make(sub, &options, &is_made, err);
    if (rc == EVBUS_OK) {
        sub->of.dlq_topic = bus->memory.control->groups[sub->of.group].dlq_topic;
        follow_letters(sub);
        sub->of.outage = &bus->memory.control->groups[sub->of.group].outage;
        rc = member_read_settings(sub, err);
    }
    if (rc == EVBUS_OK)
        rc = check_versions(sub, err);
    if (rc == EVBUS_OK) {
        sub->changes = group_changes(&bus->memory, sub->of.group);
        rc = member_make_shares(sub, err);
    }
    if (rc == EVBUS_OK)
        rc = member_check_thread(sub, err);
    if (rc != EVBUS_OK) {
        if (is_made)
            unmake(bus, sub->of.group);
        evbus_unsubscribe(sub);
        return rc;
    }
    *out_subscription = sub;
    return EVBUS_OK;
}

/* By whichever thread: what it stores is stored for the slot that has the leases. */
void member_leave(struct evbus_subscription *sub, struct bus_thread *thread)
{
    if (sub->of.claim != &thread->claim) /* handlers that evbus_run() has left may read it */
        sub->of.claim = &thread->claim;
    struct memory *memory = &sub->bus->memory;
    struct error err = {""};
    for (size_t i = 0; i < sub->n_shares; i++) {
        struct hand *hand = sub->shares[i]->held ? member_free_hand(sub, &err) : NULL;
        if (hand != NULL)
            share_bury_dead(sub->shares[i], hand->item.buffer, clock_mono_ns());
        if (sub->shares[i]->held)
            share_give(sub->shares[i]);
    }
    group_leave(memory, sub->of.group, sub->member, sub->owner);
    if (group_is_orphan(memory, sub->of.group) && group_lock(memory, thread->claim.slot, true, &err) == EVBUS_OK) {
        if (group_is_orphan(memory, sub->of.group))
            group_remove(memory, sub->of.group, &err);
        group_unlock(memory, thread->claim.slot);
    }
    sub->thread_number = 0; /* whoever uses it next joins again */
}

EVBUS_API void evbus_unsubscribe(struct evbus_subscription *sub)
{
    if (sub == NULL)
        return;
    member_join_left(sub, true);
    if (sub->thread_number != 0 && bus_check(sub->bus, NULL) == EVBUS_OK) {
        struct bus_thread *thread;
        struct error err = {""};
        if (bus_thread(sub->bus, &thread, NULL) == EVBUS_OK) {
            for (struct hand *hand = sub->hands; hand != NULL; hand = hand->next)
                if (atomic_load_explicit(&hand->item.is_used, memory_order_acquire))
                    member_finish(sub, hand, EVBUS_RELEASE, NULL, &thread->claim, &err);
            member_leave(sub, thread);
        }
    }
    gaps_close(&sub->gaps);
    while (sub->hands != NULL) {
        struct hand *next = sub->hands->next;
        free(sub->hands->item.buffer);
        free(sub->hands->raised);
        free(sub->hands);
        sub->hands = next;
    }
    while (sub->settings != NULL) {
        struct settings_of *next = sub->settings->next;
        free(sub->settings);
        sub->settings = next;
    }
    member_free_shares(sub);
    upcasters_free(sub->upcasters);
    free(sub);
}
