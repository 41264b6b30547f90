/* memory_make.c: the objects of a bus are made, and what a catalogue adds to them while all runs.
 *
 *   make     control (O_EXCL: one maker wins) and a lock on it; logs; everything written; ready = 1 (release); unlock
 *   add      by who has the admin's hold: a log's object, whole, then n_logs; a topic's name, its id on disk, then n_topics
 * A maker that died half way leaves `ready` 0 and its lock free: the next one clears it away.
 * Checked by tests/unit/test_memory.c, test_apply.c. */
#include "memory_make.h"

#include "clock.h"
#include "slot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* The bus's own rings are as large as the largest of the catalogue: a dead letter holds a whole event, and a replay is one. For what
 * stands there beside the payload the catalogue has kept room, but in tests (catalogue.c: frame_extra). */
static uint64_t internal_cells(const struct catalogue *catalogue)
{
    uint64_t most = RING_CELLS_MIN;
    for (size_t i = 0; i < catalogue->n_logs; i++)
        if (most < catalogue->logs[i].ring_bytes / CELL_BYTES)
            most = catalogue->logs[i].ring_bytes / CELL_BYTES;
    return most;
}

uint64_t memory_bytes(const struct catalogue *catalogue)
{
    uint64_t sum = sizeof(struct control) + 3 * memory_log_bytes(internal_cells(catalogue), 1);
    for (size_t i = 0; i < catalogue->n_logs; i++)
        sum += memory_log_bytes(catalogue->logs[i].ring_bytes / CELL_BYTES, catalogue->logs[i].n_partitions);
    return sum;
}

static int random_bytes(void *to, size_t len, struct error *err)
{
    ssize_t n;
    do
        n = getrandom(to, len, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)len)
        return error_set(err, EVBUS_EIO, "no randomness: getrandom: %s%s", strerror(errno), error_mend(errno));
    return EVBUS_OK;
}

void memory_keep_for(struct log_head *head, const struct catalogue_log *wanted)
{
    atomic_store_explicit(&head->retention_ns, wanted->retention_ns, memory_order_relaxed);
    atomic_store_explicit(&head->retention_bytes, wanted->retention_bytes, memory_order_relaxed);
}

/* What stands in a new log's object; it has no topics yet. */
static int fill_log(struct memory *memory, uint32_t index, const struct catalogue_log *wanted, struct error *err)
{
    struct memory_log *log = &memory->logs[index];
    struct log_head *head = log->region.base;
    head->magic = LOG_MAGIC;
    head->fingerprint = LAYOUT_FINGERPRINT;
    memcpy(head->uuid, memory->control->uuid, sizeof head->uuid);
    head->bytes = log->region.len_bytes;
    uint64_t n_cells = wanted->ring_bytes / CELL_BYTES;
    head->n_cells = n_cells;
    head->n_partitions = wanted->n_partitions;
    head->has_journal = wanted->journal && memory->control->incarnation != 0;
    head->is_visible_synced = head->has_journal && wanted->visible_synced;
    head->ack = (uint8_t)wanted->ack;
    memory_keep_for(log->region.base, wanted);
    snprintf(head->name, sizeof head->name, "%s", wanted->name);
    char *at = (char *)(head + 1);
    for (uint32_t i = 0; i < wanted->n_partitions; i++, at += memory_partition_bytes(n_cells)) {
        uint64_t salt;
        int rc = random_bytes(&salt, sizeof salt, err);
        if (rc != EVBUS_OK)
            return rc;
        ring_make(at, salt);
    }
    return memory_view_log(memory, index, wanted->name, n_cells, wanted->n_partitions, err);
}

/* A new object for a log, mapped as the index-th. Nothing of it is left when it fails. */
static int create_log(struct memory *memory, uint32_t index, const struct catalogue_log *wanted, mode_t mode,
                      gid_t group, struct error *err)
{
    struct memory_log *log = &memory->logs[index];
    char name[256];
    if (region_is_unlinked(&memory->control_region))
        return error_set(err, EVBUS_EBUSY, "bus %s was removed while it was made: try again", memory->bus);
    region_name(memory->bus, wanted->name, name);
    shm_unlink(name); /* ours to clear: we are the only maker, so it is of a bus, or of a maker, that is gone */
    int rc = region_create(&log->region, name, memory_log_bytes(wanted->ring_bytes / CELL_BYTES, wanted->n_partitions),
                           mode, group, err);
    if (rc != EVBUS_OK)
        return rc;
    close(log->region.fd);
    log->region.fd = -1;
    if ((rc = fill_log(memory, index, wanted, err)) != EVBUS_OK) {
        shm_unlink(name);
        region_close(&log->region);
        *log = (struct memory_log){.region = REGION_NONE};
        return rc;
    }
    snprintf(memory->control->logs[index], NAME_BYTES, "%s", wanted->name);
    return EVBUS_OK;
}

/* The ids of a log's topics, and of one more, where `more` is of this log. NULL: no memory: an id left out would move those behind it. */
static json_t *ids_of(const struct memory_log *log, const struct memory_log *more)
{
    json_t *ids = json_array();
    uint32_t n = atomic_load_explicit(&log->head->n_topics, memory_order_acquire) + (log == more);
    for (uint32_t i = 0; i < n && i < TOPICS_MAX; i++)
        if (json_array_append_new(ids, json_stringn(log->head->topics[i], strnlen(log->head->topics[i], NAME_BYTES))) !=
            0) {
            json_decref(ids);
            return NULL;
        }
    return ids;
}

static int save_applied(struct memory *memory, const struct memory_log *more, const char *text, size_t len,
                        struct error *err)
{
    struct applied applied = {.ids = json_object(), .text = malloc(len + 1), .len = len};
    bool is_whole = applied.ids != NULL && applied.text != NULL;
    for (uint32_t l = 0; is_whole && l < LOGS_MAX; l++) /* also one that is not known yet */
        if (memory->logs[l].head != NULL)
            is_whole = json_object_set_new(applied.ids, memory->logs[l].name, ids_of(&memory->logs[l], more)) == 0;
    if (!is_whole) {
        applied_free(&applied);
        return error_no_memory(err, "the catalogue's file");
    }
    memcpy(applied.text, text, len);
    struct state *state = &memory->state;
    int rc = EVBUS_ESTALE;
    if (state_use(state)) { /* else somebody else's life may have begun there */
        rc = applied_write(state->folder, memory->control->uuid, &applied, err);
        state_used(state);
    } else {
        error_set(err, rc, "bus %s was removed or made anew: close this handle and open again", memory->bus);
    }
    applied_free(&applied);
    return rc;
}

int memory_save_applied(struct memory *memory, const char *text, size_t len, struct error *err)
{
    return memory_remembers(memory) ? save_applied(memory, NULL, text, len, err) : EVBUS_OK;
}

int memory_add_topic(struct memory *memory, struct memory_log *log, const char *topic, uint32_t *out_id,
                     struct error *err)
{
    const struct control *control = memory->control;
    uint32_t n = atomic_load_explicit(&log->head->n_topics, memory_order_acquire);
    uint32_t generation = atomic_load_explicit(&control->generation, memory_order_relaxed);
    if (n >= TOPICS_MAX)
        return EVBUS_ELIMIT;
    snprintf(log->head->topics[n], NAME_BYTES, "%s", topic);
    /* before `ready` the maker saves them all */
    if (memory_remembers(memory) && atomic_load_explicit(&control->ready, memory_order_relaxed) != 0) {
        uint32_t len = atomic_load_explicit(&control->catalogue_len[generation % 2], memory_order_relaxed);
        int rc = save_applied(memory, log, control->catalogue[generation % 2],
                              len < CATALOGUE_BYTES ? len : CATALOGUE_BYTES, err);
        if (rc != EVBUS_OK)
            return rc;
    }
    atomic_store_explicit(&log->head->n_topics, n + 1, memory_order_release);
    *out_id = n + 1;
    return EVBUS_OK;
}

int memory_add_log(struct memory *memory, const struct catalogue_log *wanted, struct memory_log **out_log,
                   struct error *err)
{
    struct stat like;
    uint32_t index = memory_n_logs(memory);
    if (index >= LOGS_MAX)
        return error_set(err, EVBUS_ELIMIT, "bus %s has %d logs, no more fit: make a new bus with fewer", memory->bus,
                         LOGS_MAX);
    char control[256];
    region_name(memory->bus, "control", control);
    int fd = region_descriptor(&memory->control_region, control);
    int number = fd < 0 || fstat(fd, &like) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    if (number != 0)
        return error_set(err, EVBUS_EIO, "/dev/shm%s: fstat: %s%s", control, strerror(number), error_mend(number));
    int rc = create_log(memory, index, wanted, like.st_mode & 0777, like.st_gid, err);
    if (rc != EVBUS_OK)
        return rc;
    *out_log = &memory->logs[index];
    return EVBUS_OK;
}

void memory_publish_log(struct memory *memory)
{
    uint32_t n = memory_n_logs(memory) + 1;
    atomic_store_explicit(&memory->n_logs, n, memory_order_release);          /* ours first: it is mapped already */
    atomic_store_explicit(&memory->control->n_logs, n, memory_order_release); /* edge LOGS, from: the new log's bytes */
}

/* What the bus itself notes about events is kept as long as any of them. */
static uint64_t longest_retention(const struct catalogue *catalogue)
{
    uint64_t most = 0;
    for (size_t i = 0; i < catalogue->n_logs; i++)
        if (most < catalogue->logs[i].retention_ns)
            most = catalogue->logs[i].retention_ns;
    return most;
}

/* The topics that a log had before its memory was lost, with the ids that they had. */
static int bring_back_topics(struct memory *memory, struct memory_log *log, const json_t *ids, struct error *err)
{
    uint32_t id;
    int rc = EVBUS_OK;
    const json_t *topics = json_object_get(ids, log->name);
    for (size_t i = 0; rc == EVBUS_OK && i < json_array_size(topics); i++) {
        const char *name = json_string_value(json_array_get(topics, i));
        rc = name != NULL && strlen(name) < NAME_BYTES
                 ? memory_add_topic(memory, log, name, &id, err)
                 : error_set(err, EVBUS_ECORRUPT, "%s: its catalogue has an impossible topic in log %s",
                             memory->state.folder, log->name);
    }
    return rc;
}

static int add_topic_once(struct memory *memory, struct memory_log *log, const char *topic, struct error *err)
{
    uint32_t n = atomic_load_explicit(&log->head->n_topics, memory_order_relaxed);
    uint32_t id;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(log->head->topics[i], topic) == 0)
            return EVBUS_OK;
    return memory_add_topic(memory, log, topic, &id, err);
}

/* Logs of the catalogue, then the bus's own. */
static int create_logs(struct memory *memory, const struct catalogue *catalogue, mode_t mode, gid_t group,
                       const struct memory_before *before, struct error *err)
{
    static const char *const internal[] = {MEMORY_DLQ_LOG, MEMORY_NOTES_LOG, MEMORY_REPLAY_LOG};
    uint32_t n = 0;
    for (; n < catalogue->n_logs; n++) {
        const struct catalogue_log *wanted = &catalogue->logs[n];
        int rc = create_log(memory, n, wanted, mode, group, err);
        if (rc == EVBUS_OK && before != NULL)
            rc = bring_back_topics(memory, &memory->logs[n], before->ids, err);
        for (size_t i = 0; rc == EVBUS_OK && i < catalogue->n_topics; i++)
            if (catalogue->topics[i].log == n)
                rc = add_topic_once(memory, &memory->logs[n], catalogue->topics[i].name, err);
        if (rc != EVBUS_OK)
            return rc;
    }
    for (size_t i = 0; i < sizeof internal / sizeof internal[0]; i++, n++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%s.%s", catalogue->name_space, internal[i]);
        struct catalogue_log wanted = {.name = name,
                                       .n_partitions = 1,
                                       .ring_bytes = internal_cells(catalogue) * CELL_BYTES,
                                       .journal = true, /* where any log has one */
                                       .retention_ns = longest_retention(catalogue)};
        int rc = create_log(memory, n, &wanted, mode, group, err);
        if (rc == EVBUS_OK && before != NULL)
            rc = bring_back_topics(memory, &memory->logs[n], before->ids, err);
        if (rc != EVBUS_OK)
            return rc;
    }
    char topic[NAME_BYTES];
    snprintf(topic, sizeof topic, "%s.%s.notes", catalogue->name_space, MEMORY_NOTES_LOG);
    int rc = add_topic_once(memory, &memory->logs[n - 2], topic, err);
    if (rc != EVBUS_OK)
        return rc;
    struct memory_log *dlq = &memory->logs[n - 3];
    atomic_store_explicit(&dlq->head->pin_owners[0], PIN_OWNER(1, 0), memory_order_relaxed); /* nobody's: for ever */
    ring_pin(&dlq->rings[0], 0, 0);                                                          /* nothing is released */
    memory->n_logs = n;
    return EVBUS_OK;
}

static int fill_control(struct memory *memory, const char *text, size_t text_len, const struct catalogue *catalogue,
                        const struct memory_before *before, struct error *err)
{
    struct control *control = memory->control;
    control->magic = CONTROL_MAGIC;
    control->fingerprint = LAYOUT_FINGERPRINT;
    control->created_ns = clock_wall_ns();
    control->bytes = memory->control_region.len_bytes;
    snprintf(control->bus, sizeof control->bus, "%s", memory->bus);
    for (size_t i = 0; i < catalogue->n_logs; i++)
        if (catalogue->logs[i].journal)
            control->incarnation = before != NULL ? before->identity.incarnation : 1;
    int rc = random_bytes(control->uuid, sizeof control->uuid, err);
    if (rc != EVBUS_OK)
        return rc;
    control->uuid[6] = (uint8_t)((control->uuid[6] & 0x0f) | 0x40); /* version 4 */
    control->uuid[8] = (uint8_t)((control->uuid[8] & 0x3f) | 0x80);
    if (before != NULL)
        memcpy(control->uuid, before->identity.uuid, sizeof control->uuid);
    for (int i = 1; i <= SLOTS_MAX && rc == EVBUS_OK; i++)
        rc = slot_mutex_init(&control->slots[i].mutex, err);
    memcpy(control->catalogue[1], text, text_len);
    atomic_store_explicit(&control->catalogue_len[1], (uint32_t)text_len, memory_order_relaxed);
    atomic_store_explicit(&control->generation, 1, memory_order_release); /* edge CATALOGUE, from: the text */
    return rc;
}

/* The object that found no room is not all that needs some. */
static int unmade(int rc, const char *bus, const struct catalogue *catalogue, struct error *err)
{
    return rc != EVBUS_ENOSPC ? rc
                              : error_prefix(err, rc, "making bus %s, %zu bytes in all", bus, memory_bytes(catalogue));
}

void memory_unmake(const struct memory *memory)
{
    char name[256];
    for (uint32_t i = 0; memory->logs != NULL && i < LOGS_MAX; i++)
        if (memory->logs[i].head != NULL && !region_is_unlinked(&memory->control_region)) {
            region_name(memory->bus, memory->logs[i].name, name);
            shm_unlink(name);
        }
    region_name(memory->bus, "control", name);
    if (!region_is_unlinked(&memory->control_region)) /* else the name is somebody else's bus's by now */
        shm_unlink(name);
}

int memory_create(struct memory *out_memory, const char *bus, const struct catalogue *catalogue, const char *text,
                  size_t text_len, mode_t mode, gid_t group, const struct memory_before *before, struct error *err)
{
    struct memory memory = {.control_region = REGION_NONE};
    int rc = memory_check_name(bus, err);
    if (rc != EVBUS_OK)
        return rc;
    if (text_len > CATALOGUE_BYTES)
        return error_set(err, EVBUS_ECATALOGUE, "the catalogue has %zu bytes; at most %d fit", text_len,
                         CATALOGUE_BYTES);
    snprintf(memory.bus, sizeof memory.bus, "%s", bus);
    char name[256];
    region_name(bus, "control", name);
    memory_is_half_made(name, true);
    rc = region_create(&memory.control_region, name, sizeof(struct control), mode, group, err);
    if (rc == EVBUS_EDUPLICATE)
        return error_set(err, rc, "bus %s exists already: `evbus rm -b %s` removes it", bus, bus);
    if (rc != EVBUS_OK)
        return unmade(rc, bus, catalogue, err);
    int number;
    do
        number = flock(memory.control_region.fd, LOCK_EX) == 0 ? 0 : errno;
    while (number == EINTR);
    if (number != 0 && !region_is_unlinked(&memory.control_region)) {
        shm_unlink(name);
        memory_close(&memory);
        return error_set(err, EVBUS_EIO, "/dev/shm%s: cannot lock: %s%s", name, strerror(number), error_mend(number));
    }
    if (number != 0 || region_is_unlinked(&memory.control_region)) {
        memory_close(&memory); /* somebody took it for half made before we had the lock: theirs is the name now */
        return error_set(err, EVBUS_EBUSY, "bus %s is being made by somebody else at the same time: try again", bus);
    }
    memory.control = memory.control_region.base; /* the lock is freed by memory_ready() or our death */
    rc = memory_prepare_logs(&memory, err);
    if (rc == EVBUS_OK)
        rc = fill_control(&memory, text, text_len, catalogue, before, err);
    if (rc == EVBUS_OK)
        rc = create_logs(&memory, catalogue, mode, group, before, err);
    if (rc == EVBUS_OK)
        rc = witness_open(&memory.witness, &memory.control_region, name, &memory.control->witnesses, err);
    if (rc != EVBUS_OK) {
        memory_unmake(&memory);
        memory_close(&memory);
        return unmade(rc, bus, catalogue, err);
    }
    atomic_store_explicit(&memory.control->n_logs, memory.n_logs, memory_order_relaxed);
    *out_memory = memory;
    return EVBUS_OK;
}

void memory_ready(struct memory *memory)
{
    atomic_store_explicit(&memory->control->ready, 1, memory_order_release); /* edge READY, from: all that init wrote */
    flock(memory->control_region.fd, LOCK_UN);
}
