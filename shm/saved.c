/* saved.c: what the groups have done, on disk.
 *
 *     groups.<incarnation, 8 hex>.<keeper's number, 6 hex>.<n, 8 hex>
 *     first line (sealed.c), then JSON: of each group its topics, and in each partition its cursor and what is pending
 *
 *   order    snapshot in memory; all journals synced; the file written beside, synced, renamed; older ones removed [J3]
 *   snapshot of a partition: the cursor first, then the words, as `low` is read [P5]: what is taken meanwhile lies at or beyond
 *            that cursor, and is taken again. Of a seek it is before or behind, never in the middle: `seek` is read before the cursor
 *            and behind the words, until both are the same; one that is set stands for the seek's end, target and nothing
 *            pending, as whoever takes the lease next will make it (pending_look) [P12]
 *   restart  cursors of what is not there any more go to where this life begins; what was in a handler when the host went down was not
 *            at fault: its attempt is not charged. What waited waits on
 *   idle     a snapshot costs a millisecond of a bus of 43 partitions, its digest a twentieth: the keeper asks for the digest first
 *
 * Why that is enough. A saved state says done only of what was done before the snapshot, and what its handlers had published by then is on
 * disk before the state is [J3, P10]. Of several files the highest counts; a keeper that was deposed writes lower ones [J4g].
 * [keeps DURABLE] Rules J3 J4 P10 P12. Checked by tests/unit/test_saved.c and tests/crash/test_power.c. */
#include "saved.h"

#include "clock.h"
#include "pending.h"
#include "sealed.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define WHAT       "groups"
#define NAME_LEN   (sizeof "groups.00000000.000000.00000000" - 1)
#define ROUND_MS   100
#define PUBLISHERS 65536 /* openers that may have come since the last save */

/* --- snapshot ---------------------------------------------------------------------------------------------------------------- */

/* Wall clock, ms, rounded so that the text stays the same while nothing changes; 0: now. */
static uint64_t due_ms(uint64_t time_ns, uint64_t mono_ns, uint64_t wall_ns)
{
    if (time_ns <= mono_ns)
        return 0;
    return (wall_ns + (time_ns - mono_ns)) / CLOCK_NS_PER_MS / ROUND_MS * ROUND_MS;
}

/* NULL where not all of it found room: what is left out would count as done. */
static json_t *whole_or_none(json_t *value, bool is_whole)
{
    if (is_whole)
        return value;
    json_decref(value);
    return NULL;
}

static json_t *snapshot_part(const struct group_part *part, uint64_t mono_ns, uint64_t wall_ns)
{
    struct pending_view view;
    pending_look(part, &view);
    uint64_t cursor = view.cursor;
    json_t *pending = json_array();
    bool is_whole = true;
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending found = pending_unpack(view.words[i], cursor);
        const struct pending_side *side = &part->side[i];
        uint64_t note = atomic_load_explicit(&side->note, memory_order_relaxed);
        uint64_t time_ns = atomic_load_explicit(&side->time_ns, memory_order_relaxed);
        uint64_t key = atomic_load_explicit(&side->key, memory_order_relaxed);
        if (found.state == PENDING_EMPTY || found.pos >= cursor)
            continue;
        bool waits = found.state == PENDING_WAIT;
        is_whole = is_whole && json_array_append_new(
                                   pending, json_pack("[I,i,i,b,I,I,I]", (json_int_t)found.pos, (int)found.attempts,
                                                      (int)found.state, (int)found.followers, (json_int_t)note,
                                                      (json_int_t)(waits ? due_ms(time_ns, mono_ns, wall_ns) : 0),
                                                      (json_int_t)key)) == 0;
    }
    json_t *causes = json_array();
    for (int i = 0; i < CAUSES; i++)
        is_whole = is_whole && json_array_append_new(causes, json_integer((json_int_t)atomic_load_explicit(
                                                                 &part->n_causes[i], memory_order_relaxed))) == 0;
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "cursor", (json_int_t)cursor, "start", (json_int_t)view.start,
                     "done", (json_int_t)atomic_load_explicit(&part->n_done, memory_order_relaxed), "redelivered",
                     (json_int_t)atomic_load_explicit(&part->n_redelivered, memory_order_relaxed), "dead",
                     (json_int_t)atomic_load_explicit(&part->n_dead, memory_order_relaxed), "causes", causes, "pending",
                     whole_or_none(pending, is_whole));
}

static json_t *snapshot_log(const struct memory_log *log, uint32_t group, const struct topic_set *topics)
{
    uint64_t mono_ns = clock_mono_ns();
    uint64_t wall_ns = clock_wall_ns();
    json_t *names = json_array();
    json_t *parts = json_array();
    bool is_whole = true;
    for (uint32_t id = 1; id <= TOPICS_MAX; id++)
        if (topic_set_has(topics, id))
            is_whole = is_whole &&
                       json_array_append_new(names, json_stringn(log->head->topics[id - 1],
                                                                 strnlen(log->head->topics[id - 1], NAME_BYTES))) == 0;
    for (uint32_t p = 0; p < log->n_partitions; p++)
        is_whole = is_whole &&
                   json_array_append_new(parts, snapshot_part(memory_part(log, p, group), mono_ns, wall_ns)) == 0;
    return json_pack("{s:o,s:o}", "topics", names, "partitions", whole_or_none(parts, is_whole));
}

static json_t *snapshot_group(const struct memory *memory, uint32_t group)
{
    const struct group_entry *entry = &memory->control->groups[group];
    json_t *logs = json_object();
    bool is_whole = true;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        struct topic_set topics = group_topics(&memory->logs[l], group);
        if (!topic_set_is_empty(&topics))
            is_whole = is_whole && json_object_set_new(logs, memory->logs[l].name,
                                                       snapshot_log(&memory->logs[l], group, &topics)) == 0;
    }
    return json_pack("{s:o,s:b,s:b,s:o}", "name", json_stringn(entry->name, strnlen(entry->name, SERVICE_BYTES)),
                     "adHoc", (int)((entry->flags & GROUP_AD_HOC) != 0), "mirror",
                     (int)((entry->flags & GROUP_MIRROR) != 0), "logs", whole_or_none(logs, is_whole));
}

int saved_snapshot(const struct memory *memory, char **out_text, size_t *out_len, struct error *err)
{
    json_t *groups = json_array();
    bool is_whole = true;
    for (uint32_t g = 0; g < GROUPS_MAX; g++) /* an ephemeral one ends with its members */
        if (group_is_live(memory, g) && (memory->control->groups[g].flags & GROUP_EPHEMERAL) == 0)
            is_whole = is_whole && json_array_append_new(groups, snapshot_group(memory, g)) == 0;
    json_t *root = json_pack("{s:I,s:o}", "publishers",
                             (json_int_t)atomic_load_explicit(&memory->control->publishers, memory_order_relaxed),
                             "groups", whole_or_none(groups, is_whole));
    char *text = root != NULL ? sealed_text(root, out_len) : NULL;
    json_decref(root);
    if (text == NULL)
        return error_no_memory(err, "the groups' states");
    *out_text = text;
    return EVBUS_OK;
}

static uint64_t mix(uint64_t digest, uint64_t word)
{
    digest = (digest ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return digest ^ digest >> 32;
}

/* All of it, more than stands in the text: no field can be forgotten here. */
static uint64_t digest_part(uint64_t digest, const struct group_part *part)
{
    const _Atomic uint64_t *words = (const void *)part; /* it has no other fields */
    for (size_t i = 0; i < sizeof *part / sizeof *words; i++)
        digest = mix(digest, atomic_load_explicit(&words[i], memory_order_relaxed));
    return digest;
}

uint64_t saved_digest(const struct memory *memory)
{
    /* what waits is due by the wall clock there: another one when that has been set */
    uint64_t digest = mix(atomic_load_explicit(&memory->control->publishers, memory_order_relaxed),
                          (clock_wall_ns() - clock_mono_ns()) / CLOCK_NS_PER_S);
    for (uint32_t g = 0; g < GROUPS_MAX; g++) {
        const struct group_entry *entry = &memory->control->groups[g];
        if (!group_is_live(memory, g) || (entry->flags & GROUP_EPHEMERAL) != 0)
            continue;
        digest = XXH3_64bits_withSeed(entry->name, sizeof entry->name, mix(digest, entry->flags));
        for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
            struct topic_set topics = group_topics(&memory->logs[l], g);
            if (topic_set_is_empty(&topics))
                continue;
            digest = XXH3_64bits_withSeed(&topics, sizeof topics, mix(digest, (uint64_t)g << 8 | l));
            for (uint32_t p = 0; p < memory->logs[l].n_partitions; p++)
                digest = digest_part(digest, memory_part(&memory->logs[l], p, g));
        }
    }
    return digest;
}

/* --- files ------------------------------------------------------------------------------------------------------------------- */

bool saved_is(const char *name)
{
    return strncmp(name, "groups.", 7) == 0 && strlen(name) == NAME_LEN &&
           strspn(name + 7, "0123456789abcdef.") == NAME_LEN - 7;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(b, a);
}

/* The names of all that are there, the highest first; to be freed. */
static int list(const char *folder, char (**out_names)[NAME_LEN + 1], size_t *out_n, struct error *err)
{
    char(*names)[NAME_LEN + 1] = NULL;
    size_t n = 0;
    int rc = EVBUS_OK;
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return file_failed(err, folder, "cannot open it", errno);
    for (struct dirent *entry; (entry = file_next_name(dir, folder, &rc, err)) != NULL;) {
        if (!saved_is(entry->d_name))
            continue;
        void *more = realloc(names, (n + 1) * sizeof *names);
        if (more == NULL) {
            rc = error_no_memory(err, "the names of groups' states");
            continue;
        }
        names = more;
        memcpy(names[n++], entry->d_name, sizeof *names);
    }
    closedir(dir);
    if (rc != EVBUS_OK) {
        free(names);
        return rc;
    }
    if (n > 1)
        qsort(names, n, sizeof *names, by_name);
    *out_names = names;
    *out_n = n;
    return EVBUS_OK;
}

static void name_of(struct term term, uint32_t n, char out[64])
{
    snprintf(out, 64, "groups.%08" PRIx64 ".%06x.%08x", term.incarnation, term.number, n);
}

int saved_put(const char *folder, const uint8_t uuid[16], struct term term, uint32_t n, const char *text, size_t len,
              struct error *err)
{
    char name[64], path[FILE_PATH_MAX];
    name_of(term, n, name);
    file_path(path, folder, name);
    return sealed_write(path, WHAT, uuid, text, len, err);
}

int saved_write(const struct memory *memory, struct term term, uint32_t n, const char *text, size_t len,
                struct error *err)
{
    char name[64], path[FILE_PATH_MAX];
    char(*names)[NAME_LEN + 1];
    size_t n_names;
    if (memory_is_retired(memory))
        return error_set(err, EVBUS_ESTALE, "bus %s was removed", memory->bus);
    name_of(term, n, name);
    int rc = saved_put(memory->state.folder, memory->control->uuid, term, n, text, len, err);
    if (rc != EVBUS_OK || list(memory->state.folder, &names, &n_names, NULL) != EVBUS_OK)
        return rc;
    for (size_t i = 0, n_lower = 0; i < n_names; i++) {
        if (strcmp(names[i], name) >= 0 || ++n_lower == 1) /* the one before is kept, should this one rot */
            continue;
        file_path(path, memory->state.folder, names[i]);
        unlink(path);
    }
    free(names);
    return EVBUS_OK;
}

/* --- restart ----------------------------------------------------------------------------------------------------------------- */

/* Is what stands at a position still there? */
static bool is_kept(const struct ring *ring, uint64_t pos)
{
    return pos >= ring_oldest(ring) && pos < ring->head->prev_end;
}

static void restore_part(const struct memory_log *log, uint32_t p, uint32_t group, const json_t *saved,
                         struct saved_report *report)
{
    struct ring *ring = &log->rings[p];
    struct group_part *part = memory_part(log, p, group);
    uint16_t epoch = LEASE_EPOCH(atomic_load_explicit(&part->lease, memory_order_relaxed));
    uint64_t cursor = (uint64_t)json_integer_value(json_object_get(saved, "cursor"));
    uint64_t mono_ns = clock_mono_ns();
    uint64_t wall_ms = clock_wall_ns() / CLOCK_NS_PER_MS;
    if (!ring->has_journal || cursor >= ring->head->prev_end)
        cursor = ring->head->start;
    else if (cursor < ring_oldest(ring))
        cursor = ring_oldest(ring);
    uint64_t start = (uint64_t)json_integer_value(json_object_get(saved, "start")); /* older files: 0 */
    if (start > cursor)
        start = cursor;
    atomic_store_explicit(&part->start, CURSOR_WORD(start, epoch), memory_order_relaxed);
    atomic_store_explicit(&part->cursor, CURSOR_WORD(cursor, epoch), memory_order_relaxed);
    uint32_t n = 0;
    const json_t *pending = json_object_get(saved, "pending");
    for (size_t i = 0; i < json_array_size(pending) && n < PENDING_MAX; i++) {
        const json_t *entry = json_array_get(pending, i);
        uint64_t due = (uint64_t)json_integer_value(json_array_get(entry, 5));
        struct pending found = {
            .pos = (uint64_t)json_integer_value(json_array_get(entry, 0)),
            .epoch = epoch,
            .attempts = (uint32_t)json_integer_value(json_array_get(entry, 1)),
            .state = (enum pending_state)json_integer_value(json_array_get(entry, 2)),
            .followers = json_is_true(json_array_get(entry, 3)),
        };
        if (!is_kept(ring, found.pos) || found.pos >= cursor) {
            report->n_dropped++;
            continue;
        }
        if (found.state == PENDING_RUN || found.state == PENDING_SOLO) {
            found.state = PENDING_WAIT;
            found.attempts -= found.attempts > 0;
        } else if (found.state != PENDING_SCAN && found.state != PENDING_DEAD && found.state != PENDING_PARKED) {
            found.state = PENDING_WAIT;
        }
        atomic_store_explicit(&part->pending[n], pending_pack(&found), memory_order_relaxed);
        atomic_store_explicit(&part->side[n].note, (uint64_t)json_integer_value(json_array_get(entry, 4)),
                              memory_order_relaxed);
        atomic_store_explicit(&part->side[n].key,
                              (uint64_t)json_integer_value(json_array_get(entry, 6)), /* older files: 0 */
                              memory_order_relaxed);
        atomic_store_explicit(&part->side[n].time_ns, due > wall_ms ? mono_ns + (due - wall_ms) * CLOCK_NS_PER_MS : 0,
                              memory_order_relaxed);
        n++;
        report->n_pending++;
    }
    atomic_store_explicit(&part->n_done, (uint64_t)json_integer_value(json_object_get(saved, "done")),
                          memory_order_relaxed);
    atomic_store_explicit(&part->n_redelivered, (uint64_t)json_integer_value(json_object_get(saved, "redelivered")),
                          memory_order_relaxed);
    atomic_store_explicit(&part->n_dead, (uint64_t)json_integer_value(json_object_get(saved, "dead")),
                          memory_order_relaxed);
    const json_t *causes = json_object_get(saved, "causes"); /* older files: none */
    for (size_t i = 0; i < CAUSES; i++)
        atomic_store_explicit(&part->n_causes[i], (uint64_t)json_integer_value(json_array_get(causes, i)),
                              memory_order_relaxed);
    ring_move_low(ring, group_low_index(group), epoch, pending_low(part), false);
}

/* Which topics of which logs; what the bus has no more is left out. */
static void wanted_of(const struct memory *memory, const json_t *logs, struct topic_set wanted[LOGS_MAX])
{
    memset(wanted, 0, LOGS_MAX * sizeof *wanted);
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        const json_t *topics = json_object_get(json_object_get(logs, memory->logs[l].name), "topics");
        for (size_t i = 0; i < json_array_size(topics); i++) {
            const char *name = json_string_value(json_array_get(topics, i));
            uint32_t log, id;
            if (name != NULL && memory_find_topic(memory, name, &log, &id) && log == l)
                topic_set_add(&wanted[l], id);
        }
    }
}

static int restore_group(struct memory *memory, const json_t *saved, struct saved_report *report, struct error *err)
{
    struct topic_set wanted[LOGS_MAX];
    const json_t *logs = json_object_get(saved, "logs");
    const char *name = json_string_value(json_object_get(saved, "name"));
    uint32_t group;
    if (name == NULL || name[0] == '\0' || strlen(name) >= SERVICE_BYTES)
        return EVBUS_OK;
    wanted_of(memory, logs, wanted);
    struct group_plan plan = {.name = name,
                              .flags = (json_is_true(json_object_get(saved, "adHoc")) ? GROUP_AD_HOC : 0) |
                                       (json_is_true(json_object_get(saved, "mirror")) ? GROUP_MIRROR : 0),
                              .wanted = wanted,
                              .n_logs = memory_n_logs(memory),
                              .from = EVBUS_FROM_EARLIEST};
    int rc = group_make(memory, &plan, &group, err);
    if (rc != EVBUS_OK)
        return rc;
    report->n_groups++;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        const struct memory_log *log = &memory->logs[l];
        const json_t *parts = json_object_get(json_object_get(logs, log->name), "partitions");
        for (uint32_t p = 0; !topic_set_is_empty(&wanted[l]) && p < log->n_partitions; p++)
            if (json_array_get(parts, p) != NULL)
                restore_part(log, p, group, json_array_get(parts, p), report);
    }
    return EVBUS_OK;
}

/* One file's tree. */
static int read_tree(const char *path, const uint8_t uuid[16], json_t **out_root, struct error *err)
{
    char *text;
    size_t len;
    int rc = sealed_read(path, WHAT, uuid, &text, &len, err);
    if (rc != EVBUS_OK)
        return rc;
    json_t *root = json_loadb(text, len, 0, NULL);
    free(text);
    if (!json_is_array(json_object_get(root, "groups"))) {
        json_decref(root);
        return error_set(err, EVBUS_ECORRUPT, "%s: it is not what evbus writes there", path);
    }
    *out_root = root;
    return EVBUS_OK;
}

int saved_check(const char *path, const uint8_t uuid[16], struct error *err)
{
    json_t *root = NULL;
    int rc = read_tree(path, uuid, &root, err);
    json_decref(root);
    return rc;
}

/* The newest file that is whole. */
static int load(const struct memory *memory, void (*each)(void *context, const char *what), void *context,
                json_t **out_root, struct error *err)
{
    char(*names)[NAME_LEN + 1];
    size_t n;
    json_t *root = NULL;
    const char *folder = memory->state.folder;
    int rc = list(folder, &names, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = error_set(err, EVBUS_ENOTFOUND, "%s has no groups' states", folder);
    for (size_t i = 0; i < n && root == NULL; i++) {
        char path[FILE_PATH_MAX];
        char aside[FILE_PATH_MAX + 16];
        file_path(path, folder, names[i]);
        rc = read_tree(path, memory->control->uuid, &root, err);
        if (rc == EVBUS_ECORRUPT) {
            each(context, err->text);
            snprintf(aside, sizeof aside, "%s.damaged", path);
            rename(path, aside);
        } else if (rc != EVBUS_OK) {
            break; /* it may be read another time */
        }
    }
    free(names);
    *out_root = root;
    return root != NULL ? EVBUS_OK : rc == EVBUS_ECORRUPT ? EVBUS_ENOTFOUND : rc;
}

int saved_restore(struct memory *memory, void (*each)(void *context, const char *what), void *context,
                  struct saved_report *out, struct error *err)
{
    json_t *root;
    int rc = load(memory, each, context, &root, err);
    if (rc != EVBUS_OK)
        return rc;
    const json_t *groups = json_object_get(root, "groups");
    for (size_t i = 0; rc == EVBUS_OK && i < json_array_size(groups); i++)
        rc = restore_group(memory, json_array_get(groups, i), out, err);
    uint64_t publishers = (uint64_t)json_integer_value(json_object_get(root, "publishers"));
    atomic_store_explicit(&memory->control->publishers, (uint32_t)publishers + PUBLISHERS, memory_order_relaxed);
    json_decref(root);
    return rc;
}
