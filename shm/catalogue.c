/* catalogue.c: who may publish, who must receive.
 *
 *     { "namespace": "lomash", "open": false, "here": ["*"],
 *       "defaults": { "partitions": 4, "ring": "1MiB", "ack": "memory", "visible": "memory", "journal": true,
 *                     "retention": "7d", "retention_bytes": 0, "payload_max": "240KiB",
 *                     "retry": ["1s", "10s"], "handler_timeout": "30s", "outage": 5, "on_dead": "continue" },
 *       "topics": { "lomash.orders.created": { "producers": ["order-payment-service"], "groups": ["mailer"] } },
 *       "logs":   { "lomash.orders": { "ring": "8MiB" } },
 *       "groups": { "mailer": { "retry": ["100ms"], "on_dead": "continue", "accepts": ["1", "2.0"] } } }
 *
 * It decides who gets which event, so nothing in it is guessed and nothing skipped: settings.c reads it strictly. A log
 * takes its settings from `defaults`, then from its own entry; so does a group. An entry, or a service in `here`, that
 * no topic knows is an error: a mistyped name would cost somebody's events.
 *
 *   ack           "memory", "disk" or "broker" (at a broker, and on disk where the log has a journal; needs a bridge that runs).
 *   visible       "memory" or "synced": left out, what is on disk where ack is "disk", else what is in memory.
 *   journal       true, but with "tests": true; false leaves the log's events in memory alone.
 *   ring          Power of two, 512 KiB to 1 GiB. With "tests": true from 4 KiB, so that tests soon reach a ring's end.
 *   accepts       Versions of payloads that a group takes, see version.c; left out, the lowest that there is. A group's alone: there
 *                 is no version that all groups could accept of all topics.
 *   payload_max   One for all logs. A whole frame takes at most a quarter of its ring (one fence never blocks it), and
 *                 frame_extra() is what may stand there beside the payload, so that a dead letter always fits, too.
 *                 With "tests": true nothing is kept free for header area and dead letter, and the default shrinks to
 *                 what the smallest ring holds.
 *   retry         The waits before attempts 2, 3, ...: attempts = waits + 1.
 *   outage        So many different events that fail the same way, and none done between them, pause the group: 2 to 16.
 *                 1 would pause for a lone bad event, which must end in the dead letters. 0: it never pauses.
 *
 * Memory. jansson's tree stays, since all names but the logs' point into it; the rest is one block (struct held), sized
 * by counting first. So half-made is freed like whole, and jansson's own rules hold for who changes its allocator.
 * Checked by tests/unit/test_catalogue.c: a row for each rule, a good text cut anywhere, each allocation failing. */
#include "catalogue.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nearest.h"
#include "settings.h"
#include "topic.h"

enum { NAMES_MAX = 256 /* in one list */, RETRY_MAX = 14, OUTAGE_MAX = 16 };

static_assert(RETRY_MAX == sizeof((struct catalogue_group *)0)->retry_ns / sizeof(uint64_t), "a wait, a place");

#define PAYLOAD_MAX_DEFAULT (240 * KIB)

struct held {
    struct catalogue catalogue; /* first: catalogue_free() finds the rest behind it */
    json_t *root;
    size_t n_names;     /* used of names */
    const char **names; /* all lists of producers, groups and here, one behind the other */
    char (*log_names)[CATALOGUE_NAME_MAX + 1];
};

struct parse {
    struct settings s;
    struct held *held;
    json_t *root;
    bool tests;
    struct catalogue_log log_defaults;
    struct catalogue_group group_defaults;
};

/* ---- names ---- */

static bool service_check(struct settings *s, const char *name)
{
    size_t len = strlen(name);
    bool is_good = len >= 1 && len <= CATALOGUE_SERVICE_MAX && name[0] >= 'a' && name[0] <= 'z';
    return (is_good && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == len) ||
           settings_wrong(s, "\"%.*s\" is no name: 1 to %d of a-z 0-9 - _ that begin with a letter",
                          settings_short_len(name), name, CATALOGUE_SERVICE_MAX);
}

static bool group_check(struct settings *s, const char *name)
{
    bool is_reserved = strncmp(name, "bridge", 6) == 0 || strncmp(name, "evbus", 5) == 0;
    return service_check(s, name) &&
           (!is_reserved || settings_wrong(s, "\"%s\" is reserved, as all groups bridge* and evbus* are", name));
}

static bool here_check(struct settings *s, const char *name)
{
    return strcmp(name, "*") == 0 || service_check(s, name);
}

static bool names_read(struct parse *p, json_t *value, bool (*check)(struct settings *s, const char *name),
                       const char ***out_names, size_t *out_n)
{
    if (json_array_size(value) > NAMES_MAX)
        return settings_wrong(&p->s, "has %zu names; at most %d are allowed", json_array_size(value), NAMES_MAX);
    const char **names = p->held->names + p->held->n_names;
    size_t n = 0;
    if (!settings_names(&p->s, value, check, names, &n))
        return false;
    p->held->n_names += n;
    *out_names = names;
    *out_n = n;
    return true;
}

static size_t log_find(const struct catalogue *catalogue, const char *name)
{
    size_t i = 0;
    while (i < catalogue->n_logs && strcmp(catalogue->logs[i].name, name) != 0)
        i++;
    return i;
}

static size_t group_find(const struct catalogue *catalogue, const char *name)
{
    size_t i = 0;
    while (i < catalogue->n_groups && strcmp(catalogue->groups[i].name, name) != 0)
        i++;
    return i;
}

/* ---- settings of a log, of a group ---- */

static bool ring_read(struct parse *p, const json_t *value, uint64_t *out_bytes)
{
    uint64_t bytes = *out_bytes;
    if (!settings_size(&p->s, value, p->tests ? 4 * KIB : 512 * KIB, 1024 * MIB, &bytes))
        return false;
    uint64_t below = UINT64_C(1) << (63 - __builtin_clzll(bytes));
    char one[SETTINGS_SIZE_MAX], two[SETTINGS_SIZE_MAX];
    if (bytes != below)
        return settings_wrong(&p->s, "must be a power of two, as %s or %s; found %s", settings_size_text(below, one),
                              settings_size_text(2 * below, two), settings_found(&p->s, value));
    *out_bytes = bytes;
    return true;
}

static bool ack_read(struct parse *p, const json_t *value, enum evbus_ack *out_ack)
{
    static const struct {
        const char *name;
        enum evbus_ack ack;
    } rows[] = {{"memory", EVBUS_ACK_MEMORY}, {"disk", EVBUS_ACK_DISK}, {"broker", EVBUS_ACK_BROKER}};
    const char *text = json_string_value(value);
    if (value == NULL)
        return true;
    for (size_t i = 0; text != NULL && i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(text, rows[i].name) == 0) {
            *out_ack = rows[i].ack;
            return true;
        }
    return settings_wrong(&p->s, "must be \"memory\", \"disk\" or \"broker\"; found %s", settings_found(&p->s, value));
}

static bool visible_read(struct parse *p, const json_t *value, struct catalogue_log *log)
{
    log->visible_is_said = log->visible_is_said || value != NULL;
    return settings_word(&p->s, value, "memory", "synced", &log->visible_synced);
}

#define LOG_KEYS   "partitions", "ring", "ack", "visible", "journal", "retention", "retention_bytes"
#define GROUP_KEYS "retry", "handler_timeout", "outage", "on_dead"
static const char *const top_keys[] = {"namespace", "open", "here", "tests", "defaults", "topics", "logs", "groups"};
static const char *const default_keys[] = {LOG_KEYS, GROUP_KEYS, "payload_max"};
static const char *const topic_keys[] = {"producers", "groups"};
static const char *const log_keys[] = {LOG_KEYS};
static const char *const group_keys[] = {GROUP_KEYS, "accepts"};
#define KEYS(table) (table), sizeof(table) / sizeof((table)[0])

static bool log_read(struct parse *p, const json_t *object, struct catalogue_log *log)
{
    struct settings *s = &p->s;
    return settings_count(s, settings_go(s, object, "partitions"), 1, CATALOGUE_PARTITIONS_MAX, &log->n_partitions) &&
           ring_read(p, settings_go(s, object, "ring"), &log->ring_bytes) &&
           ack_read(p, settings_go(s, object, "ack"), &log->ack) &&
           visible_read(p, settings_go(s, object, "visible"), log) &&
           settings_bool(s, settings_go(s, object, "journal"), &log->journal) &&
           settings_duration(s, settings_go(s, object, "retention"), S, 36500 * DAY, "1s to 36500d",
                             &log->retention_ns) &&
           settings_size(s, settings_go(s, object, "retention_bytes"), 0, INT64_MAX, &log->retention_bytes);
}

static bool group_read(struct parse *p, const json_t *object, struct catalogue_group *group)
{
    struct settings *s = &p->s;
    const json_t *retry = settings_go(s, object, "retry");
    size_t n = json_array_size(retry);
    if (!settings_kind(s, retry, json_is_array(retry), "a list of waits, as in [\"1s\", \"10s\"]"))
        return false;
    if (n > RETRY_MAX)
        return settings_wrong(s, "has %zu waits; at most %d are allowed", n, RETRY_MAX);
    for (size_t i = 0; i < n; i++) {
        s->index = (ptrdiff_t)i;
        if (!settings_duration(s, json_array_get(retry, i), MS, 7 * DAY, "1ms to 7d", &group->retry_ns[i]))
            return false;
    }
    s->index = -1;
    if (retry != NULL)
        group->n_retry = (uint32_t)n;
    if (!settings_count(s, settings_go(s, object, "outage"), 0, OUTAGE_MAX, &group->outage_events))
        return false;
    if (group->outage_events == 1)
        return settings_wrong(s, "is 1: a lone bad event would pause the group; 2 to %d, or 0 for never", OUTAGE_MAX);
    return settings_duration(s, settings_go(s, object, "handler_timeout"), MS, 7 * DAY,
                             "1ms to 7d, or left out for none", &group->handler_timeout_ns) &&
           settings_word(s, settings_go(s, object, "on_dead"), "continue", "park", &group->parks);
}

static bool accepts_read(struct parse *p, const json_t *object, struct version_accepts *out)
{
    struct settings *s = &p->s;
    const json_t *value = settings_go(s, object, "accepts");
    size_t n = json_array_size(value);
    struct error fault;
    if (!settings_kind(s, value, json_is_array(value), "a list of versions, as in [\"1\", \"2.0\"]"))
        return false;
    if (value != NULL && n == 0)
        return settings_wrong(s, "must name a version; left out, it is the lowest that an event has");
    if (n > VERSION_ACCEPTS_MAX)
        return settings_wrong(s, "has %zu versions; at most %d are allowed", n, VERSION_ACCEPTS_MAX);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        s->index = (ptrdiff_t)i;
        if (!settings_kind(s, item, json_is_string(item), "a string, as in \"1\" for any 1.x or \"2.0\""))
            return false;
        if (version_accept_parse(json_string_value(item), json_string_length(item), &out->list[i], &fault) != EVBUS_OK)
            return settings_wrong(s, "%s", fault.text);
        for (size_t k = 0; k < i; k++)
            if (memcmp(&out->list[k], &out->list[i], sizeof out->list[k]) == 0)
                return settings_wrong(s, "\"%s\" stands there twice", json_string_value(item));
    }
    s->index = -1;
    out->n = (uint32_t)n;
    return true;
}

/* ---- sections, in the order in which they are read ---- */

static bool namespace_read(struct parse *p)
{
    p->s.section = "namespace";
    const json_t *value = json_object_get(p->root, "namespace");
    const char *name = json_string_value(value);
    if (value == NULL)
        return settings_wrong(&p->s, "is missing; it is the first segment of every topic");
    if (!settings_kind(&p->s, value, name != NULL, "a string"))
        return false;
    char probe[CATALOGUE_SERVICE_MAX + sizeof ".a.a"];
    struct error fault;
    bool fits = snprintf(probe, sizeof probe, "%s.a.a", name) < (int)sizeof probe;
    if (!fits || strchr(name, '.') != NULL || topic_check(probe, &fault) != EVBUS_OK)
        return settings_wrong(&p->s, "must be one segment, 1 to %d of a-z 0-9 - that begin with a letter; found %s",
                              CATALOGUE_SERVICE_MAX, settings_found(&p->s, value));
    p->held->catalogue.name_space = name;
    return true;
}

static bool flag_read(struct parse *p, const char *key, bool *out)
{
    p->s.section = key;
    return settings_bool(&p->s, json_object_get(p->root, key), out);
}

static bool defaults_read(struct parse *p)
{
    p->log_defaults = (struct catalogue_log){
        .n_partitions = 4, .ring_bytes = MIB, .ack = EVBUS_ACK_MEMORY, .journal = !p->tests, .retention_ns = 7 * DAY};
    p->group_defaults = (struct catalogue_group){.retry_ns = {S, 10 * S}, .n_retry = 2, .outage_events = 5};
    p->s.section = "defaults";
    json_t *object = json_object_get(p->root, "defaults");
    uint64_t payload_max = 0;
    if (!settings_keys(&p->s, object, KEYS(default_keys)) || !log_read(p, object, &p->log_defaults) ||
        !group_read(p, object, &p->group_defaults) ||
        !settings_size(&p->s, settings_go(&p->s, object, "payload_max"), 1, MIB, &payload_max))
        return false;
    p->held->catalogue.payload_max = payload_max; /* 0: none given, payload_max_check() will */
    return true;
}

static bool topic_name_check(struct parse *p, const char *name)
{
    static const char *const reserved[] = {"dlq", "replay", "evbus"};
    struct error fault;
    if (topic_check(name, &fault) != EVBUS_OK)
        return settings_wrong(&p->s, "%s", fault.text);
    const char *name_space = p->held->catalogue.name_space;
    size_t len = strlen(name_space);
    if (strncmp(name, name_space, len) != 0 || name[len] != '.')
        return settings_wrong(&p->s, "must begin with the namespace, \"%s.\"", name_space);
    const char *second = name + len + 1;
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (strncmp(second, reserved[i], strlen(reserved[i])) == 0 && second[strlen(reserved[i])] == '.')
            return settings_wrong(&p->s, "the second segment \"%s\" is reserved for the bus itself", reserved[i]);
    return true;
}

/* Finds or makes the log of a topic. */
static bool topic_log_read(struct parse *p, struct catalogue_topic *topic)
{
    struct catalogue *catalogue = &p->held->catalogue;
    char name[CATALOGUE_NAME_MAX + 1];
    topic_log(topic->name, name);
    size_t i = log_find(catalogue, name);
    if (i == CATALOGUE_LOGS_MAX)
        return settings_wrong(&p->s, "needs a log \"%s\" of its own; a bus has at most %d", name, CATALOGUE_LOGS_MAX);
    struct catalogue_log *log = &catalogue->logs[i];
    if (i == catalogue->n_logs) {
        *log = p->log_defaults;
        log->name = strcpy(p->held->log_names[i], name);
        catalogue->n_logs++;
    }
    if (++log->n_topics > CATALOGUE_TOPICS_MAX)
        return settings_wrong(&p->s, "the log \"%s\" has more than %d topics", name, CATALOGUE_TOPICS_MAX);
    topic->log = (uint32_t)i;
    return true;
}

static bool topic_entry(struct parse *p, json_t *object)
{
    struct catalogue *catalogue = &p->held->catalogue;
    struct catalogue_topic *topic = &catalogue->topics[catalogue->n_topics];
    topic->name = p->s.name;
    if (!topic_name_check(p, topic->name) || !topic_log_read(p, topic) ||
        !settings_keys(&p->s, object, KEYS(topic_keys)) ||
        !names_read(p, settings_go(&p->s, object, "groups"), group_check, &topic->groups, &topic->n_groups) ||
        !names_read(p, settings_go(&p->s, object, "producers"), service_check, &topic->producers, &topic->n_producers))
        return false;
    if (topic->n_producers == 0 && !catalogue->open)
        return settings_wrong(&p->s, "nobody may publish here; name a service, or say \"open\": true at the top");
    for (size_t i = 0; i < topic->n_groups; i++) {
        size_t k = group_find(catalogue, topic->groups[i]);
        if (k < catalogue->n_groups)
            continue;
        catalogue->groups[k] = p->group_defaults;
        catalogue->groups[k].name = topic->groups[i];
        catalogue->n_groups++;
    }
    catalogue->n_topics++;
    return true;
}

/* Reads each entry of a section by `entry`, which finds its name in p->s.name. */
static bool section_read(struct parse *p, const char *section, bool (*entry)(struct parse *p, json_t *object))
{
    json_t *objects = json_object_get(p->root, section);
    p->s.section = section;
    p->s.key = NULL;
    if (!settings_kind(&p->s, objects, json_is_object(objects), "an object"))
        return false;
    for (void *at = json_object_iter(objects); at != NULL; at = json_object_iter_next(objects, at)) {
        p->s.name = json_object_iter_key(at);
        p->s.key = NULL;
        if (!entry(p, json_object_iter_value(at)))
            return false;
    }
    p->s.name = p->s.key = NULL;
    return true;
}

static bool log_entry(struct parse *p, json_t *object)
{
    struct catalogue *catalogue = &p->held->catalogue;
    size_t i = log_find(catalogue, p->s.name);
    if (i < catalogue->n_logs)
        return settings_keys(&p->s, object, KEYS(log_keys)) && log_read(p, object, &catalogue->logs[i]);
    struct nearest nearest = {.wanted = p->s.name};
    char hint[NEAREST_TEXT_MAX];
    for (i = 0; i < catalogue->n_logs; i++)
        nearest_try(&nearest, catalogue->logs[i].name);
    return settings_wrong(&p->s, "no topic is in this log%s", nearest_text(&nearest, hint));
}

static bool group_entry(struct parse *p, json_t *object)
{
    struct catalogue *catalogue = &p->held->catalogue;
    size_t i = group_find(catalogue, p->s.name);
    if (i < catalogue->n_groups)
        return settings_keys(&p->s, object, KEYS(group_keys)) && group_read(p, object, &catalogue->groups[i]) &&
               accepts_read(p, object, &catalogue->groups[i].accepts);
    struct nearest nearest = {.wanted = p->s.name};
    char hint[NEAREST_TEXT_MAX];
    for (i = 0; i < catalogue->n_groups; i++)
        nearest_try(&nearest, catalogue->groups[i].name);
    return settings_wrong(&p->s, "no topic names this group%s", nearest_text(&nearest, hint));
}

/* Bytes of a frame beside the payload: first cell, representation, key, and but in tests header area and what a dead
 * letter adds. */
static uint64_t frame_extra(const struct parse *p)
{
    return 64 + 8 + 256 + (p->tests ? 0 : 4 * KIB + 8 * KIB);
}

static bool payload_max_check(struct parse *p)
{
    struct catalogue *catalogue = &p->held->catalogue;
    bool is_given = catalogue->payload_max != 0;
    if (!is_given)
        catalogue->payload_max = PAYLOAD_MAX_DEFAULT;
    p->s.section = "defaults";
    p->s.key = "payload_max";
    for (size_t i = 0; i < catalogue->n_logs; i++) {
        const struct catalogue_log *log = &catalogue->logs[i];
        uint64_t room = log->ring_bytes / 4 - frame_extra(p), needed = log->ring_bytes;
        if (catalogue->payload_max <= room)
            continue;
        if (p->tests && !is_given) {
            catalogue->payload_max = room;
            continue;
        }
        while (needed / 4 < catalogue->payload_max + frame_extra(p))
            needed *= 2;
        char payload[SETTINGS_SIZE_MAX], has[SETTINGS_SIZE_MAX], needs[SETTINGS_SIZE_MAX];
        return settings_wrong(&p->s,
                              "%s needs a ring of %s, as a frame takes at most a quarter of its ring; log \"%s\" has "
                              "%s: enlarge that, or make payload_max %" PRIu64 " or less",
                              settings_size_text(catalogue->payload_max, payload), settings_size_text(needed, needs),
                              log->name, settings_size_text(log->ring_bytes, has), room);
    }
    return true;
}

/* What is on disk is visible by default where a publish waits for it [J6]. Neither is to be had without a journal. */
static bool journal_check(struct parse *p)
{
    struct catalogue *catalogue = &p->held->catalogue;
    for (size_t i = 0; i < catalogue->n_logs; i++) {
        struct catalogue_log *log = &catalogue->logs[i];
        if (!log->visible_is_said)
            log->visible_synced = log->ack == EVBUS_ACK_DISK || (log->ack == EVBUS_ACK_BROKER && log->journal);
        if (log->journal || (log->ack != EVBUS_ACK_DISK && !log->visible_synced))
            continue;
        p->s.section = "logs";
        p->s.name = log->name;
        p->s.key = log->ack == EVBUS_ACK_DISK ? "ack" : "visible";
        return settings_wrong(&p->s, "\"%s\" needs the log's journal: leave \"journal\": false away, or say \"memory\"",
                              log->ack == EVBUS_ACK_DISK ? "disk" : "synced");
    }
    return true;
}

static bool service_is_known(const struct catalogue *catalogue, struct nearest *nearest)
{
    for (size_t i = 0; i < catalogue->n_topics; i++) {
        const struct catalogue_topic *topic = &catalogue->topics[i];
        for (size_t k = 0; k < topic->n_producers + topic->n_groups; k++) {
            const char *name = k < topic->n_producers ? topic->producers[k] : topic->groups[k - topic->n_producers];
            if (strcmp(name, nearest->wanted) == 0)
                return true;
            nearest_try(nearest, name);
        }
    }
    return false;
}

static bool here_read(struct parse *p)
{
    static const char *everybody[] = {"*"};
    struct catalogue *catalogue = &p->held->catalogue;
    json_t *here = json_object_get(p->root, "here");
    p->s.section = "here";
    p->s.key = NULL;
    catalogue->here = everybody;
    catalogue->n_here = 1;
    if (here != NULL && !names_read(p, here, here_check, &catalogue->here, &catalogue->n_here))
        return false;
    for (size_t i = 0; i < catalogue->n_here; i++) {
        struct nearest nearest = {.wanted = catalogue->here[i]};
        char hint[NEAREST_TEXT_MAX];
        p->s.index = (ptrdiff_t)i;
        bool is_everybody = strcmp(nearest.wanted, "*") == 0;
        if (is_everybody && catalogue->n_here > 1)
            return settings_wrong(&p->s, "\"*\" means every service, so it must stand alone");
        if (!is_everybody && !service_is_known(catalogue, &nearest))
            return settings_wrong(&p->s, "no topic names the service \"%s\"%s", nearest.wanted,
                                  nearest_text(&nearest, hint));
    }
    return true;
}

static bool catalogue_read(struct parse *p)
{
    struct catalogue *catalogue = &p->held->catalogue;
    p->s.section = "top level";
    if (!settings_keys(&p->s, p->root, KEYS(top_keys)) || !namespace_read(p) ||
        !flag_read(p, "open", &catalogue->open) || !flag_read(p, "tests", &p->tests) || !defaults_read(p) ||
        !section_read(p, "topics", topic_entry))
        return false;
    p->s.section = "topics";
    if (catalogue->n_topics == 0)
        return settings_wrong(&p->s, "must be an object with at least one topic");
    return section_read(p, "logs", log_entry) && section_read(p, "groups", group_entry) && journal_check(p) &&
           payload_max_check(p) && here_read(p);
}

/* ---- memory ---- */

/* One zeroed block for everything but jansson's tree, which it takes over; NULL: no memory. */
static struct held *held_make(json_t *root)
{
    json_t *topics = json_object_get(root, "topics");
    size_t n_topics = json_object_size(topics), n_groups = 0, n_names = json_array_size(json_object_get(root, "here"));
    for (void *at = json_object_iter(topics); at != NULL; at = json_object_iter_next(topics, at)) {
        json_t *topic = json_object_iter_value(at);
        n_groups += json_array_size(json_object_get(topic, "groups"));
        n_names += json_array_size(json_object_get(topic, "producers"));
    }
    n_names += n_groups;
    size_t n_logs = n_topics < CATALOGUE_LOGS_MAX ? n_topics : CATALOGUE_LOGS_MAX;
    struct held *held;
    size_t topics_at = sizeof *held;
    size_t groups_at = topics_at + n_topics * sizeof *held->catalogue.topics;
    size_t logs_at = groups_at + n_groups * sizeof *held->catalogue.groups;
    size_t names_at = logs_at + n_logs * sizeof *held->catalogue.logs;
    size_t log_names_at = names_at + n_names * sizeof *held->names;
    char *block = calloc(1, log_names_at + n_logs * sizeof *held->log_names);
    if (block == NULL)
        return NULL;
    held = (void *)block;
    held->root = root;
    held->catalogue.topics = (void *)(block + topics_at);
    held->catalogue.groups = (void *)(block + groups_at);
    held->catalogue.logs = (void *)(block + logs_at);
    held->names = (void *)(block + names_at);
    held->log_names = (void *)(block + log_names_at);
    return held;
}

int catalogue_parse(const char *text, size_t len_bytes, struct catalogue **out_catalogue, struct error *err)
{
    struct parse parse = {.s = {.err = err, .code = EVBUS_ECATALOGUE, .index = -1}};
    if (len_bytes > CATALOGUE_BYTES_MAX)
        return error_set(err, EVBUS_ECATALOGUE, "the catalogue has %zu bytes; at most %d are allowed", len_bytes,
                         CATALOGUE_BYTES_MAX);
    int rc = settings_load(&parse.s, text, len_bytes, &parse.root);
    if (rc != EVBUS_OK)
        return rc;
    parse.held = held_make(parse.root);
    if (parse.held == NULL) {
        json_decref(parse.root);
        return error_no_memory(err, "the catalogue");
    }
    if (!catalogue_read(&parse)) {
        catalogue_free(&parse.held->catalogue);
        return EVBUS_ECATALOGUE;
    }
    *out_catalogue = &parse.held->catalogue;
    return EVBUS_OK;
}

void catalogue_free(struct catalogue *catalogue)
{
    struct held *held = (void *)catalogue;
    if (held == NULL)
        return;
    json_decref(held->root);
    free(held);
}

ptrdiff_t catalogue_find_topic(const struct catalogue *catalogue, const char *topic)
{
    for (size_t i = 0; i < catalogue->n_topics; i++)
        if (strcmp(catalogue->topics[i].name, topic) == 0)
            return (ptrdiff_t)i;
    return -1;
}

bool catalogue_may_publish(const struct catalogue *catalogue, const struct catalogue_topic *topic, const char *service)
{
    bool may = service != NULL && catalogue->open;
    for (size_t i = 0; service != NULL && i < topic->n_producers && !may; i++)
        may = strcmp(topic->producers[i], service) == 0;
    return may;
}
