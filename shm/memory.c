/* memory.c: the objects of a bus: made, mapped, checked. How they end is retire.c's.
 *
 *   make     control (O_EXCL: one maker wins) and a lock on it; logs; everything written; ready = 1 (release); unlock
 *   open     ready? fingerprint, magic, uuid and sizes of every object are checked before anything else is read
 * A maker that died half way leaves `ready` 0 and its lock free: open says so, the next init clears it away.
 * Checked by tests/unit/test_memory.c. */
#include "memory.h"

#include "clock.h"
#include "slot.h"
#include "topic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* One partition: its ring, then a struct group_part for each group. */
static uint64_t partition_bytes(uint64_t n_cells)
{
    return ring_bytes(n_cells) + GROUPS_MAX * sizeof(struct group_part);
}

static uint64_t log_bytes(uint64_t n_cells, uint32_t n_partitions)
{
    return sizeof(struct log_head) + (uint64_t)n_partitions * partition_bytes(n_cells);
}

/* The bus's own rings are as large as the largest of the catalogue: a dead letter holds a whole event. */
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
    uint64_t sum = sizeof(struct control) + 2 * log_bytes(internal_cells(catalogue), 1);
    for (size_t i = 0; i < catalogue->n_logs; i++)
        sum += log_bytes(catalogue->logs[i].ring_bytes / CELL_BYTES, catalogue->logs[i].n_partitions);
    return sum;
}

const char *memory_bus_name(const char *given)
{
    const char *set = given != NULL ? given : getenv("EVBUS_BUS");
    return set != NULL && (given != NULL || set[0] != '\0') ? set : "lomash";
}

int memory_check_name(const char *bus, struct error *err)
{
    size_t len = strlen(bus);
    if (len < 1 || len >= SERVICE_BYTES)
        return error_set(err, EVBUS_EINVAL, "a bus's name has 1..%d bytes, this one has %zu", SERVICE_BYTES - 1, len);
    size_t good = strspn(bus, "abcdefghijklmnopqrstuvwxyz0123456789-_");
    if (good != len || bus[0] == '-' || bus[0] == '_')
        return error_set(err, EVBUS_EINVAL,
                         "bus \"%.63s\": a bus's name is made of a-z 0-9 - _ and begins with a letter or digit", bus);
    return EVBUS_OK;
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

/* What we keep of a log that is mapped and whole. The sizes are the checked ones: the head can change at any time. */
static int view_log(struct memory *memory, uint32_t index, const char *name, uint64_t n_cells, uint32_t n_partitions,
                    struct error *err)
{
    struct memory_log *log = &memory->logs[index];
    log->head = log->region.base;
    snprintf(log->name, sizeof log->name, "%s", name);
    log->index = index;
    log->n_partitions = n_partitions;
    log->rings = calloc(n_partitions, sizeof *log->rings);
    if (log->rings == NULL)
        return error_no_memory(err, "the rings of %s", log->name);
    char *at = (char *)(log->head + 1);
    for (uint32_t i = 0; i < n_partitions; i++, at += partition_bytes(n_cells)) {
        ring_view(&log->rings[i], at, n_cells, memory->control->slots, log->name, i);
        log->rings[i].pin_owners = log->head->pin_owners;
        log->rings[i].has_journal = log->head->has_journal != 0;
        log->rings[i].is_visible_synced = log->head->is_visible_synced != 0;
    }
    log->part_stride = partition_bytes(n_cells);
    log->parts = (struct group_part *)((char *)(log->head + 1) + ring_bytes(n_cells));
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
    head->is_ack_disk = head->has_journal && wanted->ack == EVBUS_ACK_DISK;
    memory_keep_for(log->region.base, wanted);
    snprintf(head->name, sizeof head->name, "%s", wanted->name);
    char *at = (char *)(head + 1);
    for (uint32_t i = 0; i < wanted->n_partitions; i++, at += partition_bytes(n_cells)) {
        uint64_t salt;
        int rc = random_bytes(&salt, sizeof salt, err);
        if (rc != EVBUS_OK)
            return rc;
        ring_make(at, salt);
    }
    return view_log(memory, index, wanted->name, n_cells, wanted->n_partitions, err);
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
    int rc = region_create(&log->region, name, log_bytes(wanted->ring_bytes / CELL_BYTES, wanted->n_partitions), mode,
                           group, err);
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

static int save_applied(const struct memory *memory, const struct memory_log *more, const char *text, size_t len,
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
    struct state *state = (struct state *)(uintptr_t)&memory->state;
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

int memory_save_applied(const struct memory *memory, const char *text, size_t len, struct error *err)
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
    static const char *const internal[] = {MEMORY_DLQ_LOG, MEMORY_NOTES_LOG};
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
    int rc = add_topic_once(memory, &memory->logs[n - 1], topic, err);
    if (rc != EVBUS_OK)
        return rc;
    struct memory_log *dlq = &memory->logs[n - 2];
    atomic_store_explicit(&dlq->head->pin_owners[0], PIN_OWNER(1, 0), memory_order_relaxed); /* nobody's: for ever */
    ring_pin(&dlq->rings[0], 0, 0);                                                          /* nothing is released */
    memory->n_logs = n;
    return EVBUS_OK;
}

void memory_publisher_name(const struct memory *memory, uint32_t publisher, char out_service[SERVICE_BYTES])
{
    const struct publisher *from = &memory->control->publisher_names[publisher % PUBLISHERS_MAX];
    out_service[0] = '\0';
    if (publisher == 0 ||
        atomic_load_explicit(&from->id, memory_order_acquire) != publisher) /* edge NAME, to: readers */
        return;
    uint64_t name[SERVICE_BYTES / 8];
    for (size_t i = 0; i < SERVICE_BYTES / 8; i++)
        name[i] = atomic_load_explicit(&from->service[i], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&from->id, memory_order_relaxed) != publisher)
        return;
    memcpy(out_service, name, SERVICE_BYTES);
    out_service[SERVICE_BYTES - 1] = '\0';
}

bool memory_find_topic(const struct memory *memory, const char *topic, uint32_t *out_log, uint32_t *out_id)
{
    char name[TOPIC_LEN_MAX + 1];
    topic_log(topic, name);
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        const struct log_head *head = memory->logs[l].head;
        if (strcmp(memory->logs[l].name, name) != 0)
            continue;
        uint32_t n = atomic_load_explicit(&head->n_topics, memory_order_acquire);
        for (uint32_t i = 0; i < n && i < TOPICS_MAX; i++)
            if (strncmp(head->topics[i], topic, NAME_BYTES) == 0) {
                *out_log = l;
                *out_id = i + 1;
                return true;
            }
    }
    return false;
}

bool memory_is_internal(const struct memory_log *log)
{
    const char *segment = strchr(log->name, '.');
    return segment != NULL && (strcmp(segment + 1, MEMORY_DLQ_LOG) == 0 || strcmp(segment + 1, MEMORY_NOTES_LOG) == 0);
}

struct memory_log *memory_internal_log(struct memory *memory, const char *segment)
{
    for (uint32_t i = 0; i < memory_n_logs(memory); i++) {
        const char *found = strchr(memory->logs[i].name, '.');
        if (found != NULL && strcmp(found + 1, segment) == 0)
            return &memory->logs[i];
    }
    return NULL;
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

/* Places for all the logs that a bus can have: they are added while it runs, and nothing moves. */
static int prepare_logs(struct memory *memory, struct error *err)
{
    memory->logs = calloc(LOGS_MAX, sizeof *memory->logs);
    if (memory->logs == NULL)
        return error_no_memory(err, "%d logs", LOGS_MAX);
    for (uint32_t i = 0; i < LOGS_MAX; i++)
        memory->logs[i].region = REGION_NONE;
    return EVBUS_OK;
}

/* A control object that no maker holds and that never became ready: its maker died. `clear`: unlink it, under its lock, so
 * that two who clear do not take each other's new one away. */
static bool is_half_made(const char *name, bool clear)
{
    int fd = shm_open(name, O_RDWR, 0);
    if (fd < 0)
        return false;
    struct stat found;
    bool half = flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &found) == 0 && found.st_nlink > 0;
    if (half && (size_t)found.st_size >= offsetof(struct control, seat)) {
        const struct control *control = mmap(NULL, offsetof(struct control, seat), PROT_READ, MAP_SHARED, fd, 0);
        half = control != MAP_FAILED && atomic_load_explicit(&control->ready, memory_order_acquire) == 0 &&
               (control->magic == CONTROL_MAGIC || control->magic == 0) &&
               (control->fingerprint == LAYOUT_FINGERPRINT || control->fingerprint == 0);
        if (control != MAP_FAILED)
            munmap((void *)(uintptr_t)control, offsetof(struct control, seat));
    }
    if (half && clear)
        shm_unlink(name);
    close(fd);
    return half;
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
    is_half_made(name, true);
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
    rc = prepare_logs(&memory, err);
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

static int foreign(const char *bus, const char *what, struct error *err)
{
    return error_set(err, EVBUS_ELAYOUT,
                     "bus %s: %s was made by another build of evbus (this is %s): use that one, or `evbus rm` and "
                     "`evbus init`; but a "
                     "bus that remembers comes back where its processes end and /dev/shm/evbus.%s.* is removed, `evbus "
                     "rm` forgets it",
                     bus, what, evbus_version(), bus);
}

static int half_made(const char *bus, struct error *err)
{
    return error_set(err, EVBUS_ENOBUS, "bus %s is half made, its maker died: `evbus -b %s init` makes it anew", bus,
                     bus);
}

static int being_made(const char *bus, struct error *err)
{
    return error_set(err, EVBUS_ENOBUS, "bus %s is just being made: try again", bus);
}

/* What helps, but for `evbus rm` where that would remove a journal, too. */
static int retired(const char *bus, const struct control *control, struct error *err)
{
    char folder[FOLDER_BYTES];
    memcpy(folder, control->folder, sizeof folder);
    folder[sizeof folder - 1] = '\0';
    if (control->incarnation == 0 || !applied_is_there(folder))
        return error_set(err, EVBUS_ESTALE,
                         "bus %s has just been removed: try again; if it stays, it has lost one of its names in "
                         "/dev/shm: `evbus -b %s rm` and make it anew",
                         bus, bus);
    return error_set(err, EVBUS_ESTALE,
                     "bus %s is just being removed, or has lost its memory: then it comes back from %s when it is "
                     "opened (with EVBUS_STATE_DIR as its maker had it) and who has it open has let go",
                     bus, folder);
}

/* What helps where the objects in memory are damaged. */
static void mend_damaged(const struct memory *memory, char out[200])
{
    snprintf(out, 200,
             memory_remembers(memory)
                 ? "end its processes and rm /dev/shm/evbus.%s.*, and it comes back from its folder"
                 : "`evbus -b %s rm` and make it anew",
             memory->bus);
}

static int open_control(struct memory *memory, struct error *err)
{
    char name[256];
    region_name(memory->bus, "control", name);
    int rc = region_open(&memory->control_region, name, offsetof(struct control, seat), err);
    if (rc == EVBUS_ENOBUS)
        return error_set(err, rc, "there is no bus %s on this host: `evbus -b %s init` makes it", memory->bus,
                         memory->bus);
    if (rc == EVBUS_ECORRUPT) /* too short: begun and left, or just begun */
        return is_half_made(name, false) ? half_made(memory->bus, err) : being_made(memory->bus, err);
    if (rc != EVBUS_OK)
        return rc;
    struct control *control = memory->control_region.base;
    if (control->magic == CONTROL_MAGIC && control->fingerprint != 0 && control->fingerprint != LAYOUT_FINGERPRINT)
        return foreign(memory->bus, "its control object", err);
    if (atomic_load_explicit(&control->ready, memory_order_acquire) != 1) { /* edge READY, to: whoever opens */
        if (is_half_made(name, false))
            return half_made(memory->bus, err);
        if (control->magic != 0 && control->magic != CONTROL_MAGIC)
            return error_set(err, EVBUS_ECORRUPT, "/dev/shm%s is not a bus's control object: rm it", name);
        return being_made(memory->bus, err);
    }
    if (control->magic != CONTROL_MAGIC)
        return error_set(err, EVBUS_ECORRUPT, "/dev/shm%s is not a bus's control object: rm it", name);
    if (control->fingerprint != LAYOUT_FINGERPRINT)
        return foreign(memory->bus, "its control object", err);
    if (memory->control_region.len_bytes < sizeof(struct control))
        return error_set(err, EVBUS_ECORRUPT, "/dev/shm%s is too short: rm it", name);
    if (atomic_load_explicit(&control->retired, memory_order_acquire) != 0)
        return retired(memory->bus, control, err);
    memory->control = control;
    return EVBUS_OK;
}

/* A log's object, mapped: is it this bus's, and whole? Then it can be used. */
static int check_log(struct memory *memory, uint32_t index, const char *log_name, const char *name, struct error *err)
{
    const struct memory_log *log = &memory->logs[index];
    const struct log_head *head = log->region.base;
    uint64_t n_cells = head->n_cells;
    uint32_t n_partitions = head->n_partitions;
    if (head->magic == LOG_MAGIC && head->fingerprint != LAYOUT_FINGERPRINT)
        return foreign(memory->bus, log_name, err);
    if (head->magic != LOG_MAGIC || memcmp(head->uuid, memory->control->uuid, sizeof head->uuid) != 0 ||
        n_cells < RING_CELLS_MIN || n_cells > RING_CELLS_MAX || (n_cells & (n_cells - 1)) != 0 || n_partitions < 1 ||
        n_partitions > PARTITIONS_MAX || log->region.len_bytes < log_bytes(n_cells, n_partitions) ||
        head->name[NAME_BYTES - 1] != '\0' || strcmp(head->name, log_name) != 0) {
        char mend[200];
        mend_damaged(memory, mend);
        return error_set(err, EVBUS_ECORRUPT, "/dev/shm%s does not belong to bus %s, or is damaged: %s", name,
                         memory->bus, mend);
    }
    return view_log(memory, index, log_name, n_cells, n_partitions, err);
}

/* Nothing of it is left when it fails: it is tried again. */
static int open_log(struct memory *memory, uint32_t index, struct error *err)
{
    struct memory_log *log = &memory->logs[index];
    char log_name[NAME_BYTES];
    char name[256];
    memcpy(log_name, memory->control->logs[index], sizeof log_name);
    log_name[NAME_BYTES - 1] = '\0';
    region_name(memory->bus, log_name, name);
    int rc = region_open(&log->region, name, sizeof(struct log_head), err);
    if (rc == EVBUS_ENOBUS && memory_remembers(memory))
        return error_set(
            err, EVBUS_ECORRUPT,
            "bus %s has lost its log %s in /dev/shm: end its processes and rm /dev/shm/evbus.%s.*, and it comes "
            "back from its folder",
            memory->bus, log_name, memory->bus);
    if (rc == EVBUS_ENOBUS)
        return error_set(err, EVBUS_ECORRUPT, "bus %s has lost its log %s: `evbus -b %s rm` and make it anew",
                         memory->bus, log_name, memory->bus);
    if (rc != EVBUS_OK)
        return rc;
    close(log->region.fd);
    log->region.fd = -1;
    if ((rc = check_log(memory, index, log_name, name, err)) != EVBUS_OK) {
        region_close(&log->region);
        *log = (struct memory_log){.region = REGION_NONE};
    }
    return rc;
}

int memory_map_new_logs(struct memory *memory, struct error *err)
{
    static pthread_mutex_t mapping = PTHREAD_MUTEX_INITIALIZER; /* the threads of this process, one after the other */
    uint32_t n_logs = atomic_load_explicit(&memory->control->n_logs,
                                           memory_order_acquire); /* edge LOGS, to: who maps */
    if (n_logs < 1 || n_logs > LOGS_MAX) {
        char mend[200];
        mend_damaged(memory, mend);
        return error_set(err, EVBUS_ECORRUPT, "bus %s says it has %u logs: %s", memory->bus, n_logs, mend);
    }
    if (n_logs <= memory_n_logs(memory))
        return EVBUS_OK;
    int rc = EVBUS_OK;
    pthread_mutex_lock(&mapping);
    for (uint32_t i = memory_n_logs(memory); i < n_logs && rc == EVBUS_OK; i++)
        if ((rc = open_log(memory, i, err)) == EVBUS_OK)
            atomic_store_explicit(&memory->n_logs, i + 1, memory_order_release);
    pthread_mutex_unlock(&mapping);
    if (rc != EVBUS_OK && (memory_is_retired(memory) || region_is_unlinked(&memory->control_region)))
        rc = error_set(err, EVBUS_ESTALE, "bus %s was removed or made anew: close this handle and open again",
                       memory->bus); /* what stands under its logs' names is not its own */
    return rc;
}

int memory_open_state(struct memory *memory, struct error *err)
{
    struct state_identity identity;
    char folder[FOLDER_BYTES];
    memcpy(folder, memory->control->folder, sizeof folder);
    folder[sizeof folder - 1] = '\0';
    int rc = state_open(&memory->state, folder, false, &identity, err);
    if (rc == EVBUS_ENOTFOUND)
        return error_set(err, EVBUS_ECONFLICT,
                         "bus %s is in memory, but %s, where it remembers, is gone: put it back, or `evbus -b %s rm` "
                         "and make the bus anew",
                         memory->bus, folder, memory->bus);
    if (rc == EVBUS_OK && memcmp(identity.uuid, memory->control->uuid, sizeof identity.uuid) != 0)
        rc = error_set(err, EVBUS_ECONFLICT,
                       "%s is where bus %s remembers, but another bus's: put the right one there, or `evbus -b %s rm`",
                       folder, memory->bus, memory->bus);
    else if (rc == EVBUS_OK && identity.incarnation != memory->control->incarnation)
        rc = error_set(
            err, EVBUS_ECONFLICT,
            "%s is of life %llu of bus %s, its memory of life %llu: a backup was put there while the bus was "
            "in memory. End its processes and rm /dev/shm/evbus.%s.* to go on from the backup",
            folder, (unsigned long long)identity.incarnation, memory->bus,
            (unsigned long long)memory->control->incarnation, memory->bus);
    if (rc != EVBUS_OK)
        state_close(&memory->state);
    return rc;
}

bool memory_is_there(const char *bus)
{
    struct region region;
    char name[256];
    region_name(bus, "control", name);
    if (region_open(&region, name, offsetof(struct control, seat), NULL) != EVBUS_OK)
        return false;
    const struct control *control = region.base;
    bool is_there = atomic_load_explicit(&control->ready, memory_order_acquire) != 0 &&
                    atomic_load_explicit(&control->retired, memory_order_acquire) == 0;
    region_close(&region);
    return is_there;
}

bool memory_folder(const char *bus, char out_folder[FILE_PATH_MAX])
{
    struct region region;
    char name[256];
    region_name(bus, "control", name);
    if (region_open(&region, name, sizeof(struct control), NULL) != EVBUS_OK)
        return false;
    const struct control *control = region.base;
    bool remembers = control->magic == CONTROL_MAGIC && control->fingerprint == LAYOUT_FINGERPRINT &&
                     control->incarnation != 0 && control->folder[0] == '/';
    if (remembers)
        snprintf(out_folder, FILE_PATH_MAX, "%.*s", FOLDER_BYTES - 1, control->folder);
    region_close(&region);
    return remembers;
}

int memory_open(struct memory *out_memory, const char *bus, struct error *err)
{
    struct memory memory = {.control_region = REGION_NONE};
    int rc = memory_check_name(bus, err);
    if (rc != EVBUS_OK)
        return rc;
    snprintf(memory.bus, sizeof memory.bus, "%s", bus);
    rc = open_control(&memory, err);
    bool is_told = rc == EVBUS_ESTALE;
    if (rc == EVBUS_OK)
        rc = prepare_logs(&memory, err);
    if (rc == EVBUS_OK)
        rc = memory_map_new_logs(&memory, err);
    if (rc == EVBUS_OK) {
        char name[256];
        region_name(memory.bus, "control", name);
        rc = witness_open(&memory.witness, &memory.control_region, name, &memory.control->witnesses, err);
        if (rc != EVBUS_OK && region_is_unlinked(&memory.control_region))
            rc = EVBUS_ESTALE;
    }
    if (rc == EVBUS_OK && memory_remembers(&memory))
        rc = memory_open_state(&memory, err);
    if (rc == EVBUS_ESTALE && !is_told)
        rc = error_set(err, rc, "bus %s has just been removed: try again", bus);
    if (rc != EVBUS_OK) {
        memory_close(&memory);
        return rc;
    }
    atomic_store_explicit(&memory.looked_ns, clock_mono_ns(), memory_order_relaxed);
    *out_memory = memory;
    return EVBUS_OK;
}

void memory_close(struct memory *memory)
{
    witness_close(&memory->witness); /* its slots have all been given back */
    state_close(&memory->state);
    for (uint32_t i = 0; memory->logs != NULL && i < LOGS_MAX; i++) {
        region_close(&memory->logs[i].region);
        free(memory->logs[i].rings);
    }
    free(memory->logs);
    if (memory->control_region.len_bytes != 0 || memory->control_region.base != NULL)
        region_close(&memory->control_region);
    *memory = (struct memory){.control_region = REGION_NONE};
}

void memory_prefault_now(struct memory_log *log)
{
    if (!atomic_exchange_explicit(&log->prefaulted, true, memory_order_relaxed))
        region_prefault(&log->region);
}
