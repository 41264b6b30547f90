/* admin.c: make, remove and list buses, and what their catalogues say.
 *
 * A new bus's first frames are its names: in each partition a NAMES frame per topic says what its id means, before its first
 * use, so that whatever is kept of a partition can be read alone. Checked by tests/unit/test_admin.c. */
#include <evbus/admin.h>

#include "burial.h"
#include "bus.h"
#include "catalogue_shipped.h"
#include "clock.h"
#include "group.h"
#include "memory_make.h"
#include "provide.h"
#include "recover.h"
#include "retire.h"
#include "slot.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- init -------------------------------------------------------------------------------------------------------------- */

static int find_group(const char *name, gid_t *out_group, struct error *err)
{
    if (name == NULL) {
        *out_group = (gid_t)-1;
        return EVBUS_OK;
    }
    char *end;
    errno = 0;
    unsigned long number = strtoul(name, &end, 10);
    if (errno == 0 && end != name && *end == '\0' && number < (gid_t)-1) {
        *out_group = (gid_t)number;
        return EVBUS_OK;
    }
    struct group group;
    struct group *found = NULL;
    char buffer[4096];
    getgrnam_r(name, &group, buffer, sizeof buffer, &found);
    if (found == NULL)
        return error_set(err, EVBUS_EINVAL, "there is no group \"%s\" on this host", name);
    *out_group = found->gr_gid;
    return EVBUS_OK;
}

EVBUS_API int evbus_init(const struct evbus_init_options *given)
{
    struct error *err = error_of_thread();
    struct evbus_init_options options = {0};
    struct catalogue *catalogue = NULL;
    struct memory memory = {.control_region = REGION_NONE};
    gid_t group = (gid_t)-1;
    uint32_t slot = 0;
    int rc = given == NULL
                 ? EVBUS_OK
                 : bus_take_struct(&options, sizeof options, given, given->size, "struct evbus_init_options", err);
    if (rc == EVBUS_OK && (options.mode & ~0777u) != 0)
        rc = error_set(err, EVBUS_EINVAL, "options.mode is %#o; 0..0777 are allowed", options.mode);
    if (rc == EVBUS_OK)
        rc = find_group(options.group, &group, err);
    const char *text = options.catalogue != NULL ? options.catalogue : catalogue_shipped;
    size_t len = options.catalogue != NULL && options.catalogue_len != 0 ? options.catalogue_len : strlen(text);
    if (rc == EVBUS_OK)
        rc = catalogue_parse(text, len, &catalogue, err);
    if (rc == EVBUS_OK)
        rc = memory_create(&memory, memory_bus_name(options.bus), catalogue, text, len,
                           options.mode != 0 ? options.mode : 0660, group, NULL, err);
    if (rc == EVBUS_OK) {
        rc = recover_begin(&memory, options.mode != 0 ? options.mode : 0660, group, err);
        if (rc == EVBUS_OK)
            rc = burial_take_slot(&memory, "evbus-init", &slot, err);
        for (uint32_t i = 0; i < memory_n_logs(&memory) && rc == EVBUS_OK; i++)
            rc = provide_names(&memory.logs[i], 0, slot, err);
        if (rc == EVBUS_OK) /* behind the names: nobody has to skip them */
            rc = provide_groups(&memory, catalogue, EVBUS_FROM_LATEST, NULL, err);
        if (rc == EVBUS_OK)
            rc = provide_dead_letter_names(&memory, 0, slot, err);
        if (slot != 0)
            burial_leave_slot(&memory, slot);
        if (rc == EVBUS_OK)
            rc = memory_save_applied(&memory, text, len, err); /* from here on the folder is whole */
        if (rc == EVBUS_OK) {
            memory_ready(&memory);
        } else {
            recover_give_up(&memory);
            memory_unmake(&memory);
        }
        memory_close(&memory); /* and with it a maker's locks */
    }
    catalogue_free(catalogue);
    return rc;
}

#define LET_GO_NS     5000000 /* 5 ms */
#define LET_GO_ROUNDS 400

/* The folder of a bus that has been retired. Killed before its catalogue is gone, the bus is there as it was, and comes back; killed
 * behind that, it is not, and what is left goes with the next one who makes or removes a bus of its name. */
static int remove_folder(const char *bus, const char *folder, struct error *err)
{
    struct state state = {.lock = NULL};
    struct state_identity identity;
    int opened = EVBUS_EBUSY, retired = EVBUS_OK;
    for (int i = 0; opened == EVBUS_EBUSY && i < LET_GO_ROUNDS; i++) {
        if (i > 0) { /* who has it open hears that it is retired, and lets go; also who has brought it back since */
            nanosleep(&(struct timespec){.tv_nsec = LET_GO_NS}, NULL);
            retired = retire_remove(bus, err);
        }
        opened = state_open(&state, folder, true, &identity, NULL);
    }
    if (opened == EVBUS_EBUSY && retired == EVBUS_EBUSY) /* it is brought back, and that takes long */
        return retired;
    /* Else we have the lock; or somebody is stopped who has it: he keeps others from bringing the bus back, and what he has open
     * lives on until he ends. */
    int rc = opened != EVBUS_ENOTFOUND ? applied_remove(folder, err) : EVBUS_OK;
    if (rc == EVBUS_OK) {
        retire_remove(bus, NULL); /* brought back between retiring and the lock */
        rc = state_remove(folder, err);
    }
    state_close(&state);
    return rc;
}

/* Its memory, and the folder where it remembers, which may be all that there is of it. */
EVBUS_API int evbus_remove(const char *given)
{
    struct error *err = error_of_thread();
    const char *bus = memory_bus_name(given);
    char folder[FILE_PATH_MAX];
    char path[FILE_PATH_MAX];
    int rc = memory_check_name(bus, err);
    if (rc == EVBUS_OK && !memory_folder(bus, folder))
        rc = state_folder(bus, folder, err);
    if (rc != EVBUS_OK)
        return rc;
    file_path(path, folder, "bus");
    bool is_kept = access(path, F_OK) == 0;
    rc = retire_remove(bus, err);
    if (rc != EVBUS_OK && rc != EVBUS_ENOBUS)
        return rc;
    if (is_kept)
        rc = remove_folder(bus, folder, err);
    state_clear(folder);
    return rc;
}

/* --- list -------------------------------------------------------------------------------------------------------------- */

/* The bus of an object "evbus.<bus>.control", or false. */
static bool is_control(const char *file, char out_bus[SERVICE_BYTES])
{
    static const char prefix[] = "evbus.";
    static const char suffix[] = ".control";
    size_t len = strlen(file);
    if (len <= sizeof prefix - 1 + sizeof suffix - 1 || strncmp(file, prefix, sizeof prefix - 1) != 0 ||
        strcmp(file + len - (sizeof suffix - 1), suffix) != 0)
        return false;
    size_t bus_len = len - (sizeof prefix - 1) - (sizeof suffix - 1);
    if (bus_len >= SERVICE_BYTES)
        return false;
    memcpy(out_bus, file + sizeof prefix - 1, bus_len);
    out_bus[bus_len] = '\0';
    return memory_check_name(out_bus, NULL) == EVBUS_OK;
}

static uint32_t count_processes(const struct memory *memory)
{
    uint32_t n = 0;
    for (uint32_t i = 1; i <= SLOTS_MAX; i++)
        n += slot_is_first_of_process(memory->control->slots, i);
    return n;
}

static uint64_t bytes_of(const char *bus)
{
    char prefix[SERVICE_BYTES + 8];
    int len = snprintf(prefix, sizeof prefix, "evbus.%s.", bus);
    uint64_t sum = 0;
    DIR *dir = opendir("/dev/shm");
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        struct stat found;
        if (strncmp(entry->d_name, prefix, (size_t)len) == 0 && fstatat(dirfd(dir), entry->d_name, &found, 0) == 0)
            sum += (uint64_t)found.st_size;
    }
    if (dir != NULL)
        closedir(dir);
    return sum;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Buses whose memory is gone, and that come back from their folders. */
static int add_on_disk(char (**inout_names)[SERVICE_BYTES], size_t *inout_n, struct error *err)
{
    char folder[FILE_PATH_MAX];
    size_t n_memory = *inout_n;
    int rc = EVBUS_OK;
    if (state_folder("x", folder, NULL) != EVBUS_OK)
        return EVBUS_OK;
    *strrchr(folder, '/') = '\0';
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir != NULL && (entry = file_next_name(dir, folder, &rc, err)) != NULL;) {
        char path[FILE_PATH_MAX];
        bool is_there = memory_check_name(entry->d_name, NULL) != EVBUS_OK;
        for (size_t i = 0; i < n_memory && !is_there; i++)
            is_there = strcmp((*inout_names)[i], entry->d_name) == 0;
        file_path(path, folder, entry->d_name);
        if (is_there || !applied_is_there(path))
            continue;
        void *more = realloc(*inout_names, (*inout_n + 1) * sizeof **inout_names);
        if (more == NULL) {
            rc = error_no_memory(err, "the names of buses");
            continue;
        }
        *inout_names = more;
        snprintf((*inout_names)[(*inout_n)++], SERVICE_BYTES, "%.63s", entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    return rc;
}

EVBUS_API int evbus_list(int (*each)(void *context, const struct evbus_listed *listed), void *context)
{
    struct error *err = error_of_thread();
    char(*names)[SERVICE_BYTES] = NULL;
    size_t n = 0;
    if (each == NULL)
        return error_set(err, EVBUS_EINVAL, "each is NULL");
    DIR *dir = opendir("/dev/shm");
    if (dir == NULL)
        return error_set(err, EVBUS_EIO, "/dev/shm: %s%s", strerror(errno), error_mend(errno));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char name[SERVICE_BYTES];
        if (!is_control(entry->d_name, name))
            continue;
        void *more = realloc(names, (n + 1) * sizeof *names);
        if (more == NULL) {
            free(names);
            closedir(dir);
            return error_no_memory(err, "the names of buses");
        }
        names = more;
        memcpy(names[n++], name, sizeof name);
    }
    closedir(dir);
    int on_disk = add_on_disk(&names, &n, err);
    if (on_disk != EVBUS_OK) {
        free(names);
        return on_disk;
    }
    if (n > 1)
        qsort(names, n, sizeof *names, compare_names);
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct evbus_listed listed = {.size = sizeof listed, .bytes = bytes_of(names[i])};
        struct memory memory;
        memcpy(listed.bus, names[i], sizeof listed.bus);
        listed.state = memory_open(&memory, names[i], err);
        if (listed.state == EVBUS_OK) {
            listed.created_ns = memory.control->created_ns;
            listed.n_processes = count_processes(&memory);
            memory_close(&memory);
        }
        rc = each(context, &listed);
    }
    free(names);
    return rc;
}

/* --- catalogues ---------------------------------------------------------------------------------------------------------- */

EVBUS_API const char *evbus_shipped_catalogue(void)
{
    return catalogue_shipped;
}

EVBUS_API int evbus_catalogue_check(const char *text, size_t len, uint64_t *out_bytes)
{
    struct catalogue *catalogue;
    int rc = catalogue_parse(text, len, &catalogue, error_of_thread());
    if (rc == EVBUS_OK) {
        if (out_bytes != NULL)
            *out_bytes = memory_bytes(catalogue);
        catalogue_free(catalogue);
    }
    return rc;
}

EVBUS_API int evbus_catalogue_text(struct evbus *bus, const char **out_text, size_t *out_len)
{
    struct error *err = error_of_thread();
    char *text;
    size_t len;
    uint32_t generation;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && out_text == NULL)
        rc = error_set(err, EVBUS_EINVAL, "out_text is NULL");
    if (rc == EVBUS_OK)
        rc = topics_copy_text(&bus->memory, &text, &len, &generation, err);
    if (rc != EVBUS_OK)
        return rc;
    pthread_mutex_lock(&bus->admin_mutex);
    free(bus->catalogue_text);
    bus->catalogue_text = text;
    pthread_mutex_unlock(&bus->admin_mutex);
    *out_text = text;
    if (out_len != NULL)
        *out_len = len;
    return EVBUS_OK;
}

EVBUS_API int evbus_catalogue_topics(const char *text, size_t len,
                                     int (*each)(void *context, const struct evbus_topic_info *info), void *context)
{
    struct catalogue *catalogue;
    if (text == NULL || each == NULL)
        return error_set(error_of_thread(), EVBUS_EINVAL, "%s is NULL", text == NULL ? "text" : "each");
    int rc = catalogue_parse(text, len, &catalogue, error_of_thread());
    if (rc != EVBUS_OK)
        return rc;
    for (size_t i = 0; i < catalogue->n_topics && rc == 0; i++) {
        const struct catalogue_topic *topic = &catalogue->topics[i];
        struct evbus_topic_info info = {
            .size = sizeof info,
            .topic = topic->name,
            .log = catalogue->logs[topic->log].name,
            .n_partitions = catalogue->logs[topic->log].n_partitions,
            .ack = catalogue->logs[topic->log].ack,
            .producers = topic->producers,
            .n_producers = topic->n_producers,
            .groups = topic->groups,
            .n_groups = topic->n_groups,
            .retention_ns = catalogue->logs[topic->log].retention_ns,
            .retention_bytes = catalogue->logs[topic->log].retention_bytes,
            .has_journal = catalogue->logs[topic->log].journal,
            .payload_max = catalogue->payload_max,
        };
        rc = each(context, &info);
    }
    catalogue_free(catalogue);
    return rc;
}
