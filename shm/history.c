/* history.c: an event by its id, and what became of it.
 *
 *     find   all logs are searched (find.c)
 *     why    the event; who published it, by its NAMES frame; each group that receives its topic, by what stands in memory:
 *              an entry of its own        running, retrying, deferred, dying
 *              at or beyond the cursor    waiting
 *              an entry of its key before it, which has followers    held [P2]
 *              else                       dead where its letter is found, whose id follows from (bus, group, log, partition,
 *                                         position), or what was done about that; before `start`: before; done
 *            and the notes that its attempts left, and who did what about its letter. Each replay is told like an event, of its group
 *
 * Numbers of a group that works meanwhile are each right, but not of one moment. Checked by tests/unit/test_history.c. */
#include <evbus/history.h>

#include "area.h"
#include "bus.h"
#include "clock.h"
#include "deadletter.h"
#include "delivery.h"
#include "fate.h"
#include "find.h"
#include "group.h"
#include "index.h"
#include "lease.h"
#include "notes.h"
#include "partition.h"
#include "record.h"
#include "topic.h"
#include "uuid7.h"
#include "version.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 64  /* of one id */
#define NOTES_MAX  256 /* of one id */
static_assert((size_t)EVENTS_MAX * GROUPS_MAX <= FATE_LETTERS_MAX, "each may be given up by each group");

/* --- who published ------------------------------------------------------------------------------------------------------ */

struct publisher_name {
    uint64_t before; /* position of its event */
    char service[SERVICE_BYTES];
    char host[65];
    int64_t pid; /* 0: not known */
};

static int read_publisher(void *context, const struct find_hit *hit)
{
    struct publisher_name *name = context;
    if (hit->pos > name->before)
        return EVBUS_OK;
    json_t *root = json_loadb(hit->frame->payload, hit->frame->payload_len, JSON_REJECT_DUPLICATES, NULL);
    const char *service = "", *host = "";
    json_int_t pid = 0;
    if (root != NULL &&
        json_unpack(root, "{s:{s:s,s:s,s:I}}", "publisher", "service", &service, "host", &host, "pid", &pid) == 0) {
        snprintf(name->service, sizeof name->service, "%s", service);
        snprintf(name->host, sizeof name->host, "%s", host);
        name->pid = pid;
    }
    json_decref(root);
    return EVBUS_OK;
}

/* As its NAMES frame says, or, where that is gone, memory. */
static int find_publisher(struct memory *memory, struct memory_log *log, uint32_t partition, uint32_t publisher,
                          uint64_t pos, struct publisher_name *out, struct error *err)
{
    struct find_id id;
    bool is_damaged = false;
    *out = (struct publisher_name){.before = pos};
    if (publisher == 0)
        return EVBUS_OK;
    index_publisher_id(publisher, id.bytes);
    int rc = find_in(memory, log, partition, &id, 1, read_publisher, out, &is_damaged, err);
    if (rc == EVBUS_OK && out->service[0] == '\0')
        memory_publisher_name(memory, publisher, out->service);
    return rc;
}

/* --- all logs ----------------------------------------------------------------------------------------------------------- */

static int find_everywhere(struct memory *memory, const uint8_t id[16],
                           int (*each)(void *context, const struct find_hit *hit), void *context, bool *out_damaged,
                           struct error *err)
{
    struct find_id wanted;
    memcpy(wanted.bytes, id, sizeof wanted.bytes);
    int rc = EVBUS_OK;
    for (uint32_t l = 0; l < memory_n_logs(memory) && rc == EVBUS_OK; l++)
        for (uint32_t p = 0; p < memory->logs[l].n_partitions && rc == EVBUS_OK; p++)
            rc = find_in(memory, &memory->logs[l], p, &wanted, 1, each, context, out_damaged, err);
    return rc;
}

static int not_found(const struct evbus *bus, const uint8_t id[16], bool is_damaged, struct error *err)
{
    char text[37];
    uuid7_format(id, text);
    return error_set(err, EVBUS_ENOTFOUND, "bus %s keeps no event %s%s", bus->memory.bus, text,
                     is_damaged ? "; but some of its files could not be read: `evbus journal verify` tells which" : "");
}

static int begin(struct evbus *bus, const uint8_t id[16], bool has_each, struct error *err)
{
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && (id == NULL || !has_each))
        rc = error_set(err, EVBUS_EINVAL, "%s is NULL", id == NULL ? "id" : "each");
    return rc == EVBUS_OK ? memory_map_new_logs(&bus->memory, err) : rc;
}

static void topic_of(const struct find_hit *hit, char out_topic[NAME_BYTES])
{
    out_topic[0] = '\0';
    if (hit->header->topic >= 1 && hit->header->topic <= TOPICS_MAX)
        snprintf(out_topic, NAME_BYTES, "%.127s", hit->log->head->topics[hit->header->topic - 1]);
}

/* --- find --------------------------------------------------------------------------------------------------------------- */

struct finding {
    struct evbus *bus;
    int (*each)(void *context, const struct evbus_delivery *event);
    void *context;
    size_t n;
};

static int show_event(void *context, const struct find_hit *hit)
{
    struct finding *finding = context;
    struct publisher_name publisher = {.before = hit->pos};
    char topic[NAME_BYTES];
    if (hit->header->kind != FRAME_EVENT && hit->header->kind != FRAME_DEAD)
        return EVBUS_OK;
    struct delivery_texts texts;
    topic_of(hit, topic);
    struct evbus_delivery event = {.size = sizeof event,
                                   .topic = topic,
                                   .service = publisher.service,
                                   .log = hit->log->name,
                                   .partition = hit->ring->partition,
                                   .position = hit->pos};
    delivery_fill(hit->frame, &texts, &event);
    int rc = EVBUS_OK;
    memory_publisher_name(&finding->bus->memory, hit->frame->publisher, publisher.service);
    if (publisher.service[0] == '\0') /* of an earlier life */
        rc = find_publisher(&finding->bus->memory, hit->log, hit->ring->partition, hit->frame->publisher, hit->pos,
                            &publisher, error_of_thread());
    if (rc == EVBUS_OK) {
        finding->n++;
        rc = finding->each(finding->context, &event);
    }
    return rc;
}

EVBUS_API int evbus_find(struct evbus *bus, const uint8_t id[16],
                         int (*each)(void *context, const struct evbus_delivery *event), void *context)
{
    struct error *err = error_of_thread();
    struct finding finding = {.bus = bus, .each = each, .context = context};
    bool is_damaged = false;
    int rc = begin(bus, id, each != NULL, err);
    if (rc == EVBUS_OK)
        rc = find_everywhere(&bus->memory, id, show_event, &finding, &is_damaged, err);
    return rc == EVBUS_OK && finding.n == 0 ? not_found(bus, id, is_damaged, err) : rc;
}

/* --- why: what there is ------------------------------------------------------------------------------------------------- */

/* An event of this id. */
struct seen {
    struct memory_log *log;
    uint32_t partition;
    uint64_t pos;
    uint16_t topic; /* id in its log */
    char topic_name[NAME_BYTES];
    uint64_t timestamp_ns;
    uint64_t key_hash; /* all of it */
    char key[FRAME_KEY_MAX];
    uint8_t key_len;
    uint32_t publisher;
    bool is_in_ring;
    char versions[FRAME_VERSIONS_MAX * VERSION_TEXT_MAX]; /* "1.0,2.0", in their order */
    bool is_replay;
    struct area_source source; /* of a replay: where its event stands, and how often it has been replayed */
};

struct why {
    struct evbus *bus;
    struct memory *memory;
    struct record *record;
    struct error *err;
    uint64_t *buffer; /* room for the largest frame of any log */
    struct seen seen[EVENTS_MAX];
    size_t n_seen;
    struct note notes[NOTES_MAX];
    size_t n_notes;
    struct fate fate;
};

static void list_versions(const struct evbus_delivery *event, char *out, size_t cap)
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < event->n_versions && len < cap; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s%u.%u", i > 0 ? "," : "", event->versions[i].major,
                                event->versions[i].minor);
}

static int see(void *context, const struct find_hit *hit)
{
    struct why *why = context;
    uint64_t before;
    if (hit->header->kind == FRAME_NOTE && why->n_notes < NOTES_MAX)
        why->n_notes += notes_parse(hit->frame, &why->notes[why->n_notes], &before);
    if ((hit->header->kind != FRAME_EVENT && hit->header->kind != FRAME_DEAD) || why->n_seen == EVENTS_MAX)
        return EVBUS_OK;
    struct seen *seen = &why->seen[why->n_seen++];
    *seen = (struct seen){.log = hit->log,
                          .partition = hit->ring->partition,
                          .pos = hit->pos,
                          .topic = hit->header->topic,
                          .timestamp_ns = hit->frame->timestamp_ns,
                          .key_hash = topic_key_hash(hit->frame->key, hit->frame->key_len, hit->frame->id),
                          .key_len = hit->frame->key_len,
                          .publisher = hit->frame->publisher,
                          .is_in_ring = hit->is_in_ring};
    memcpy(seen->key, hit->frame->key, hit->frame->key_len);
    seen->is_replay = (hit->frame->flags & FRAME_REPLAY) != 0 && area_source(hit->frame, &seen->source);
    if (!seen->is_replay || !area_text(hit->frame, AREA_TOPIC, seen->topic_name, sizeof seen->topic_name))
        topic_of(hit, seen->topic_name);
    struct delivery_texts texts;
    struct evbus_delivery event = {.size = sizeof event};
    delivery_fill(hit->frame, &texts, &event);
    list_versions(&event, seen->versions, sizeof seen->versions);
    return EVBUS_OK;
}

/* Does the group receive this event's topic? */
static bool receives(const struct why *why, const struct seen *seen, uint32_t group)
{
    struct topic_set topics = group_topics(seen->log, group);
    return group_is_live(why->memory, group) && topic_set_has(&topics, seen->topic);
}

/* The id of the letter that the group would have made of it. */
static void letter_id(const struct why *why, const struct seen *seen, uint32_t group, uint8_t out_id[16])
{
    struct deadletter letter = {.group_name = why->memory->control->groups[group].name,
                                .log = seen->log->name,
                                .partition = seen->partition,
                                .position = seen->pos};
    if (seen->is_replay)
        memcpy(out_id, seen->source.letter, 16);
    else
        deadletter_id(why->memory, &letter, out_id);
}

static int find_letters(struct why *why, bool *out_damaged)
{
    uint8_t id[16];
    for (size_t i = 0; i < why->n_seen; i++)
        for (uint32_t g = 0; g < GROUPS_MAX; g++)
            if (receives(why, &why->seen[i], g)) {
                letter_id(why, &why->seen[i], g, id);
                fate_want(&why->fate, id);
            }
    return fate_look(&why->fate, out_damaged);
}

/* --- why: one group ----------------------------------------------------------------------------------------------------- */

/* The position of an entry of the same key that the event waits behind; UINT64_MAX: none. */
static uint64_t held_by(const struct why *why, const struct seen *seen, const struct group_part *part)
{
    uint64_t cursor = pending_cursor(part);
    uint64_t first = UINT64_MAX;
    struct partition_past *past = NULL;
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending found = pending_load(part, i, cursor);
        struct frame frame;
        uint64_t next;
        if (found.state == PENDING_EMPTY || !found.followers || found.pos >= seen->pos)
            continue;
        if (partition_fetch(&past, why->memory, &seen->log->rings[seen->partition], found.pos, why->buffer, &next,
                            NULL) == PARTITION_FRAME &&
            frame_parse(why->buffer, &frame, NULL) == EVBUS_OK &&
            topic_key_hash(frame.key, frame.key_len, frame.id) == seen->key_hash && found.pos < first)
            first = found.pos;
    }
    partition_past_close(past);
    return first;
}

/* Wall clock of a monotonic time. */
static uint64_t wall_of(uint64_t mono_ns)
{
    return clock_wall_ns() + mono_ns - clock_mono_ns();
}

static void show_entry(struct why *why, const struct group_part *part, uint32_t index, const struct pending *entry)
{
    struct record *record = why->record;
    const struct pending_side *side = &part->side[index];
    uint64_t time_ns = atomic_load_explicit(&side->time_ns, memory_order_relaxed);
    bool is_running = entry->state == PENDING_RUN || entry->state == PENDING_SOLO || entry->state == PENDING_TAKEN;
    uint32_t holder = lease_holder(part);
    if (is_running && holder != 0) {
        record_word(record, "state", "running");
        record_number(record, "attempts", entry->attempts);
        record_text(record, "member", why->memory->control->slots[holder].service, SERVICE_BYTES);
        record_time(record, "since", wall_of(time_ns));
        return;
    }
    bool is_deferred = entry->state == PENDING_WAIT &&
                       (atomic_load_explicit(&side->note, memory_order_relaxed) & NOTE_DEFERRED) != 0;
    record_word(record, "state",
                entry->state == PENDING_DEAD     ? "dying"
                : entry->state == PENDING_PARKED ? "parked"
                : is_deferred                    ? "deferred"
                                                 : "retrying");
    record_number(record, "attempts", entry->attempts);
    if (entry->state == PENDING_WAIT)
        record_time(record, "due", time_ns > clock_mono_ns() ? wall_of(time_ns) : clock_wall_ns());
}

static void show_letter_id(struct record *record, const uint8_t id[16])
{
    char text[37];
    uuid7_format(id, text);
    record_word(record, "deadLetterId", text);
}

/* It is a letter, or was. */
static void show_letter(struct why *why, const struct seen *seen, const uint8_t id[16],
                        const struct letters_row *letter, const struct fate_death *death)
{
    struct record *record = why->record;
    record_word(record, "state",
                seen->is_replay || letter->is_open ? "dead"
                : letter->is_discarded             ? "discarded"
                                                   : "replayed");
    show_letter_id(record, id);
    record_position(record, "letter", death->pos);
    record_time(record, "at", death->at_ns);
}

static void show_place(struct why *why, const struct seen *seen, const struct group_part *part, const uint8_t id[16])
{
    struct record *record = why->record;
    uint64_t cursor = pending_cursor(part); /* first [P5] */
    const struct letters_row *letter = fate_letter(&why->fate, id);
    const struct fate_death *death = fate_death(&why->fate, id, seen->is_replay ? seen->source.n_replays : 0);
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending entry = pending_load(part, i, cursor);
        if (entry.state != PENDING_EMPTY && entry.state != PENDING_SCAN && entry.pos == seen->pos &&
            entry.pos < cursor) {
            show_entry(why, part, i, &entry);
            if (entry.state == PENDING_PARKED)
                show_letter_id(record, id);
            return;
        }
    }
    uint64_t behind = UINT64_MAX;
    if (seen->pos >= cursor) { /* also what was dead, where the group has been moved back */
        record_word(record, "state", "waiting");
        record_number(record, "ahead", (seen->pos - cursor) * CELL_BYTES);
    } else if (letter != NULL && death != NULL) {
        show_letter(why, seen, id, letter, death);
    } else if ((behind = held_by(why, seen, part)) != UINT64_MAX) {
        record_word(record, "state", "held");
        record_position(record, "behind", behind);
    } else {
        record_word(record, "state", seen->pos < pending_start(part) ? "before" : "done");
    }
}

static void show_attempts(struct why *why, const struct seen *seen, const char *group)
{
    struct record *record = why->record;
    for (size_t i = 0; i < why->n_notes; i++) {
        const struct note *note = &why->notes[i];
        if (strcmp(note->group, group) != 0 || strcmp(note->log, seen->log->name) != 0 ||
            note->partition != seen->partition || note->position != seen->pos)
            continue;
        record_begin(record, "attempt", 2);
        record_number(record, "n", note->attempt);
        record_time(record, "at", note->at_ns);
        record_text(record, "member", note->member, sizeof note->member);
        if (note->cause == CAUSE_CRASHED) /* nobody knows */
            record_none(record, "ms");
        else
            record_number(record, "ms", note->took_ns / CLOCK_NS_PER_MS);
        record_word(record, "cause", pending_cause_name(note->cause));
        record_text(record, "error", note->error, sizeof note->error);
        record_end(record);
    }
}

static int show_seen(struct why *why, size_t i)
{
    const struct seen *seen = &why->seen[i];
    struct record *record = why->record;
    struct publisher_name publisher;
    int rc = find_publisher(why->memory, seen->log, seen->partition, seen->publisher, seen->pos, &publisher, why->err);
    if (rc != EVBUS_OK)
        return rc;
    record_begin(record, seen->is_replay ? "replay" : "event", 0);
    if (seen->is_replay) {
        char id[37];
        uuid7_format(seen->source.letter, id);
        record_number(record, "n", seen->source.n_replays);
        record_word(record, "deadLetterId", id);
    }
    record_word(record, "topic", seen->topic_name);
    record_word(record, "log", seen->log->name);
    record_number(record, "partition", seen->partition);
    record_position(record, "position", seen->pos);
    record_text(record, "key", seen->key, seen->key_len);
    record_time(record, "timestamp", seen->timestamp_ns);
    record_word(record, "versions", seen->versions);
    record_word(record, "service", publisher.service);
    record_word(record, "host", publisher.host);
    if (publisher.pid != 0)
        record_number(record, "pid", (uint64_t)publisher.pid);
    else
        record_none(record, "pid");
    record_flag(record, "in_memory", seen->is_in_ring);
    record_end(record);
    for (uint32_t g = 0; g < GROUPS_MAX && record->rc == 0; g++) {
        char name[SERVICE_BYTES];
        uint8_t id[16];
        if (!receives(why, seen, g))
            continue;
        snprintf(name, sizeof name, "%.63s", why->memory->control->groups[g].name);
        letter_id(why, seen, g, id);
        record_begin(record, "group", 1);
        record_word(record, "group", name);
        show_place(why, seen, memory_part(seen->log, seen->partition, g), id);
        record_end(record);
        show_attempts(why, seen, name);
        if (!seen->is_replay && fate_letter(&why->fate, id) != NULL)
            rc = fate_show_settled(&why->fate, id, record);
        if (rc != EVBUS_OK)
            return rc;
    }
    return record->rc;
}

EVBUS_API int evbus_why(struct evbus *bus, const uint8_t id[16],
                        int (*each)(void *context, const struct evbus_record *record), void *context)
{
    struct error *err = error_of_thread();
    bool is_damaged = false;
    int rc = begin(bus, id, each != NULL, err);
    if (rc != EVBUS_OK)
        return rc;
    struct why *why = calloc(1, sizeof *why);
    struct record *record = calloc(1, sizeof *record);
    if (why == NULL || record == NULL || (why->buffer = malloc((size_t)FRAME_CELLS_MAX * CELL_BYTES)) == NULL)
        rc = error_no_memory(err, "an event's history");
    if (rc == EVBUS_OK) {
        why->bus = bus;
        why->memory = &bus->memory;
        why->record = record;
        why->err = err;
        why->fate.memory = &bus->memory;
        why->fate.err = err;
        record->each = each;
        record->context = context;
        rc = find_everywhere(&bus->memory, id, see, why, &is_damaged, err);
    }
    if (rc == EVBUS_OK && why->n_seen == 0)
        rc = not_found(bus, id, is_damaged, err);
    if (rc == EVBUS_OK)
        rc = find_letters(why, &is_damaged);
    for (size_t i = 0; rc == EVBUS_OK && i < why->n_seen; i++)
        rc = show_seen(why, i);
    if (why != NULL) {
        fate_end(&why->fate);
        free(why->buffer);
    }
    free(why);
    free(record);
    return rc;
}
