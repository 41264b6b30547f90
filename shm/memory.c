/* memory.c: the objects of a bus: mapped, checked, looked up. How they are made is memory_make.c's, how they end retire.c's.
 *
 *   open     ready? fingerprint, magic, uuid and sizes of every object are checked before anything else is read
 * A maker that died half way leaves `ready` 0 and its lock free: open says so.
 * Checked by tests/unit/test_memory.c. */
#include "memory.h"

#include "clock.h"
#include "topic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* One partition: its ring, then a struct group_part for each group. */
uint64_t memory_partition_bytes(uint64_t n_cells)
{
    return ring_bytes(n_cells) + GROUPS_MAX * sizeof(struct group_part);
}

uint64_t memory_log_bytes(uint64_t n_cells, uint32_t n_partitions)
{
    return sizeof(struct log_head) + (uint64_t)n_partitions * memory_partition_bytes(n_cells);
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

/* What we keep of a log that is mapped and whole. The sizes are the checked ones: the head can change at any time. */
int memory_view_log(struct memory *memory, uint32_t index, const char *name, uint64_t n_cells, uint32_t n_partitions,
                    struct error *err)
{
    struct memory_log *log = &memory->logs[index];
    log->head = log->region.base;
    snprintf(log->name, sizeof log->name, "%s", name);
    log->index = index;
    log->n_partitions = n_partitions;
    log->ack = (enum evbus_ack)log->head->ack;
    if (log->ack != EVBUS_ACK_DISK && log->ack != EVBUS_ACK_BROKER)
        log->ack = EVBUS_ACK_MEMORY;
    log->rings = calloc(n_partitions, sizeof *log->rings);
    if (log->rings == NULL)
        return error_no_memory(err, "the rings of %s", log->name);
    char *at = (char *)(log->head + 1);
    for (uint32_t i = 0; i < n_partitions; i++, at += memory_partition_bytes(n_cells)) {
        ring_view(&log->rings[i], at, n_cells, memory->control->slots, log->name, i);
        log->rings[i].pin_owners = log->head->pin_owners;
        log->rings[i].has_journal = log->head->has_journal != 0;
        log->rings[i].is_visible_synced = log->head->is_visible_synced != 0;
    }
    log->part_stride = memory_partition_bytes(n_cells);
    log->parts = (struct group_part *)((char *)(log->head + 1) + ring_bytes(n_cells));
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
    return segment != NULL && (strcmp(segment + 1, MEMORY_DLQ_LOG) == 0 || strcmp(segment + 1, MEMORY_NOTES_LOG) == 0 ||
                               strcmp(segment + 1, MEMORY_REPLAY_LOG) == 0);
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

/* Places for all the logs that a bus can have: they are added while it runs, and nothing moves. */
int memory_prepare_logs(struct memory *memory, struct error *err)
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
bool memory_is_half_made(const char *name, bool clear)
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
        return memory_is_half_made(name, false) ? half_made(memory->bus, err) : being_made(memory->bus, err);
    if (rc != EVBUS_OK)
        return rc;
    struct control *control = memory->control_region.base;
    if (control->magic == CONTROL_MAGIC && control->fingerprint != 0 && control->fingerprint != LAYOUT_FINGERPRINT)
        return foreign(memory->bus, "its control object", err);
    if (atomic_load_explicit(&control->ready, memory_order_acquire) != 1) { /* edge READY, to: whoever opens */
        if (memory_is_half_made(name, false))
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
        n_partitions > PARTITIONS_MAX || log->region.len_bytes < memory_log_bytes(n_cells, n_partitions) ||
        head->name[NAME_BYTES - 1] != '\0' || strcmp(head->name, log_name) != 0) {
        char mend[200];
        mend_damaged(memory, mend);
        return error_set(err, EVBUS_ECORRUPT, "/dev/shm%s does not belong to bus %s, or is damaged: %s", name,
                         memory->bus, mend);
    }
    return memory_view_log(memory, index, log_name, n_cells, n_partitions, err);
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
        rc = memory_prepare_logs(&memory, err);
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
