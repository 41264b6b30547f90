/* state.c: the folder in which a bus remembers.
 *
 *     <state dir>/<bus>/bus                       which bus, its incarnation: two slots, written in turns; and the lock
 *                       catalogue                 the applied text, and the ids of topics (applied.c)
 *                       groups.<term>.<n>         what the groups have done (saved.c)
 *                       marks.<term>              of each partition: ceiling, synced (marks.c)
 *                       <log>/<partition>/<base>.seg   the cells (segment.c)
 *
 *   lock     every member holds it shared, who makes memory from the folder alone. It is kept by a mapping: closefrom() does not
 *            free it, fork does not inherit it, death does [B4]. So there are never two rings behind one journal, even
 *            where two containers have a /dev/shm each and this folder in common
 *   make     `bus` is locked and whole before link() gives it its name: nobody finds it half made, nor in somebody else's hand
 *   bus      each slot has a checksum; the one of the higher incarnation counts, the other is written next
 * Rules J1 J4 J7. Checked by tests/unit/test_state.c. */
#include "state.h"

#include "frame.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_MAGIC   UINT64_C(0x6575627375627665) /* "evbusbue" */
#define STATE_VERSION 1
#define SLOT_BYTES    512
#define LOCK_BYTES    4096
#define STATE_LEFT    (UINT32_C(1) << 31)

struct state_slot {
    uint64_t magic;
    uint32_t version;
    uint32_t unused;
    struct state_identity identity;
    uint8_t unused_too[468];
    uint32_t crc32c; /* of the slot, with this field 0 */
};
static_assert(sizeof(struct state_slot) <= SLOT_BYTES, "a sector");
static_assert(FILE_PATH_MAX == FOLDER_BYTES, "memory says where");

int state_folder(const char *bus, char out_folder[FILE_PATH_MAX], struct error *err)
{
    const char *set = getenv("EVBUS_STATE_DIR");
    const char *home = getenv("HOME");
    const char *xdg = getenv("XDG_STATE_HOME");
    char here[FILE_PATH_MAX] = "";
    int len;
    if (set != NULL && set[0] != '\0' && set[0] != '/' &&
        getcwd(here, sizeof here) == NULL) /* others stand elsewhere */
        return error_set(err, EVBUS_EINVAL, "EVBUS_STATE_DIR is \"%.60s\": give it from / on", set);
    if (set != NULL && set[0] != '\0')
        len = snprintf(out_folder, FILE_PATH_MAX, "%s%s%s/%s", here, here[0] != '\0' ? "/" : "", set, bus);
    else if (geteuid() == 0)
        len = snprintf(out_folder, FILE_PATH_MAX, "/var/lib/evbus/%s", bus);
    else if (xdg != NULL && xdg[0] == '/')
        len = snprintf(out_folder, FILE_PATH_MAX, "%s/evbus/%s", xdg, bus);
    else if (home != NULL && home[0] == '/')
        len = snprintf(out_folder, FILE_PATH_MAX, "%s/.local/state/evbus/%s", home, bus);
    else
        return error_set(err, EVBUS_EINVAL, "no folder to remember in: set EVBUS_STATE_DIR, or HOME");
    if (len >= FILE_PATH_MAX - 256) /* a log's, partition's and segment's name come behind it */
        return error_set(err, EVBUS_EINVAL, "the state folder %.60s... has %d bytes; %d at most", out_folder, len,
                         FILE_PATH_MAX - 257);
    return EVBUS_OK;
}

/* --- the file `bus` ------------------------------------------------------------------------------------------------------ */

static uint32_t crc_of(struct state_slot slot)
{
    slot.crc32c = 0;
    return frame_crc(&slot, sizeof slot);
}

static int write_slot(int fd, const char *path, const struct state_identity *identity, struct error *err)
{
    struct state_slot slot = {.magic = STATE_MAGIC, .version = STATE_VERSION, .identity = *identity};
    slot.crc32c = crc_of(slot);
    int rc = file_write(fd, path, &slot, sizeof slot, identity->incarnation % 2 * SLOT_BYTES, err);
    return rc == EVBUS_OK ? file_sync(fd, path, err) : rc;
}

static int read_slots(int fd, const char *path, struct state_identity *out, uint64_t *out_damaged, struct error *err)
{
    static const struct state_slot zero;
    struct state_slot slots[2];
    bool found = false;
    memset(slots, 0, sizeof slots);
    *out_damaged = UINT64_MAX;
    for (int i = 0; i < 2; i++) {
        size_t n;
        int rc = file_read(fd, path, &slots[i], sizeof slots[i], (uint64_t)i * SLOT_BYTES, &n, err);
        if (rc != EVBUS_OK)
            return rc;
        if (n < sizeof slots[i] || slots[i].magic != STATE_MAGIC || slots[i].crc32c != crc_of(slots[i])) {
            if (memcmp(&slots[i], &zero, sizeof zero) != 0 && *out_damaged == UINT64_MAX)
                *out_damaged = (uint64_t)i * SLOT_BYTES;
            continue;
        }
        if (slots[i].version > STATE_VERSION)
            return error_set(err, EVBUS_ELAYOUT, "%s is of format %u, this build reads %u: use a newer evbus", path,
                             slots[i].version, STATE_VERSION);
        if (!found || slots[i].identity.incarnation > out->incarnation)
            *out = slots[i].identity;
        found = true;
    }
    if (!found)
        return error_set(err, EVBUS_ECORRUPT,
                         "%s is damaged, or no evbus wrote it: restore it from a backup, or move the folder away",
                         path);
    return EVBUS_OK;
}

/* --- the lock ------------------------------------------------------------------------------------------------------------ */

static int lock(struct state *state, int fd, const char *path, bool alone, struct error *err)
{
    int rc;
    do
        rc = flock(fd, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno == EWOULDBLOCK)
        return alone
                   ? error_set(err, EVBUS_EBUSY,
                               "%s is in use by processes that have its memory, perhaps in another /dev/shm: end them, "
                               "or share that /dev/shm",
                               state->folder)
                   : error_set(err, EVBUS_EBUSY, "%s is just being made or brought back by somebody else: try again",
                               state->folder);
    if (rc != 0)
        return file_failed(err, path, "cannot lock it", errno);
    void *page = mmap(NULL, LOCK_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return file_failed(err, path, "mmap", errno);
    if (madvise(page, LOCK_BYTES, MADV_DONTFORK) != 0) {
        rc = file_failed(err, path, "madvise(MADV_DONTFORK)", errno);
        munmap(page, LOCK_BYTES);
        return rc;
    }
    state->lock = page;
    return EVBUS_OK;
}

/* Does the name still stand for what we have open? Between open and lock it may have been removed. */
static bool has_name(int fd, const char *path)
{
    struct stat ours, named;
    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 && ours.st_ino == named.st_ino &&
           ours.st_dev == named.st_dev;
}

int state_share(struct state *state, struct error *err)
{
    struct state_identity identity;
    struct state shared;
    state_close(state); /* nobody can be alone in between but to do what we have done: our memory is there */
    int rc = state_open(&shared, state->folder, false, &identity, err);
    if (rc == EVBUS_OK)
        *state = shared;
    return rc;
}

/* --- making, opening ------------------------------------------------------------------------------------------------------- */

static int is_there(const char *folder, struct error *err)
{
    return error_set(err, EVBUS_EDUPLICATE,
                     "%s is there: a bus remembers in it. Opening that brings it back, `evbus rm` removes it", folder);
}

/* Is anything in this folder, but drafts of a maker that died? */
static bool is_somebody_elses(const char *folder)
{
    bool has_more = false;
    int rc = EVBUS_OK;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir != NULL && (entry = file_next_name(dir, folder, &rc, NULL)) != NULL;)
        has_more = has_more || (entry->d_name[0] != '.' && strncmp(entry->d_name, "bus", 3) != 0);
    if (dir != NULL)
        closedir(dir);
    return has_more;
}

int state_create(struct state *out_state, const char *folder, const struct state_identity *identity, mode_t mode,
                 gid_t group, struct error *err)
{
    struct state state = {.lock = NULL};
    char path[FILE_PATH_MAX];
    char draft[FILE_PATH_MAX];
    int fd;
    snprintf(state.folder, sizeof state.folder, "%s", folder);
    file_path(path, folder, "bus");
    if (access(path, F_OK) == 0)
        return is_there(folder, err);
    /* who may read and write there may enter */
    int rc = is_somebody_elses(folder) ? error_set(err, EVBUS_ECONFLICT,
                                                   "%s is there and holds no bus: move it away, or choose another "
                                                   "EVBUS_STATE_DIR",
                                                   folder)
                                       : file_make_folder(folder, mode | (mode & 0444) >> 2, group, err);
    if (rc == EVBUS_OK)
        rc = file_draft(path, draft, &fd, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = lock(&state, fd, draft, true, err);
    if (rc == EVBUS_OK)
        rc = write_slot(fd, draft, identity, err);
    close(fd);
    if (rc == EVBUS_OK && link(draft, path) != 0)
        rc = errno == EEXIST ? is_there(folder, err) : file_failed(err, path, "cannot make it (link)", errno);
    unlink(draft);
    if (rc == EVBUS_OK && (rc = file_sync_folder(folder, err)) != EVBUS_OK)
        unlink(path);
    if (rc != EVBUS_OK) {
        state_close(&state);
        return rc;
    }
    *out_state = state;
    return EVBUS_OK;
}

int state_open(struct state *out_state, const char *folder, bool alone, struct state_identity *out_identity,
               struct error *err)
{
    struct state state = {.lock = NULL};
    char path[FILE_PATH_MAX];
    int fd;
    snprintf(state.folder, sizeof state.folder, "%s", folder);
    file_path(path, folder, "bus");
    int rc = file_open(path, O_RDONLY, &fd, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = lock(&state, fd, path, alone, err);
    if (rc == EVBUS_OK && !has_name(fd, path))
        rc = error_set(err, EVBUS_EBUSY, "%s has just been removed: try again", folder);
    if (rc == EVBUS_OK)
        rc = read_slots(fd, path, out_identity, &(uint64_t){0}, err);
    close(fd);
    if (rc != EVBUS_OK) {
        state_close(&state);
        return rc;
    }
    *out_state = state;
    return EVBUS_OK;
}

int state_look(const char *folder, struct state_identity *out_identity, uint64_t *out_damaged, struct error *err)
{
    char path[FILE_PATH_MAX];
    int fd;
    file_path(path, folder, "bus");
    int rc = file_open(path, O_RDONLY, &fd, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = read_slots(fd, path, out_identity, out_damaged, err);
    close(fd);
    return rc;
}

int state_count_up(const struct state *state, struct state_identity *identity, struct error *err)
{
    char path[FILE_PATH_MAX];
    int fd;
    struct state_identity next = *identity;
    next.incarnation++;
    file_path(path, state->folder, "bus");
    int rc = file_open(path, O_RDWR, &fd, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = write_slot(fd, path, &next, err);
    close(fd);
    if (rc == EVBUS_OK)
        *identity = next;
    return rc;
}

int state_put(const char *folder, const struct state_identity *identity, struct error *err)
{
    char path[FILE_PATH_MAX];
    int fd;
    file_path(path, folder, "bus");
    int rc = file_open(path, O_RDWR | O_CREAT | O_EXCL, &fd, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = write_slot(fd, path, identity, err);
    close(fd);
    return rc == EVBUS_OK ? file_sync_folder(folder, err) : rc;
}

bool state_is_writable(const struct state *state)
{
    char path[FILE_PATH_MAX];
    file_path(path, state->folder, "bus");
    return access(path, W_OK) == 0 && access(state->folder, W_OK | X_OK) == 0;
}

/* --- the end --------------------------------------------------------------------------------------------------------------- */

/* `bus` last of its own, so that a remove that is killed is done again. */
int state_remove_folder(const char *folder, struct error *err)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return errno == ENOENT ? EVBUS_OK : file_failed(err, folder, "cannot open it", errno);
    int rc = EVBUS_OK;
    for (struct dirent *entry; (entry = file_next_name(dir, folder, &rc, err)) != NULL;) {
        char path[FILE_PATH_MAX + 256];
        struct stat found;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || strcmp(entry->d_name, "bus") == 0)
            continue;
        if (lstat(path, &found) == 0 && S_ISDIR(found.st_mode))
            rc = strlen(path) < FILE_PATH_MAX ? state_remove_folder(path, err) : EVBUS_OK;
        else if (unlink(path) != 0 && errno != ENOENT)
            rc = file_failed(err, path, "cannot remove it", errno);
    }
    closedir(dir);
    if (rc != EVBUS_OK)
        return rc;
    char path[FILE_PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/bus", folder);
    unlink(path);
    return rmdir(folder) == 0 || errno == ENOENT ? EVBUS_OK : file_failed(err, folder, "cannot remove it", errno);
}

/* Folders that were renamed by a remove, which was killed then. */
static void clear_removed(const char *folder)
{
    char above[FILE_PATH_MAX], prefix[FILE_PATH_MAX + 16];
    int rc = EVBUS_OK;
    snprintf(above, sizeof above, "%s", folder);
    char *slash = strrchr(above, '/');
    if (slash == NULL)
        return;
    snprintf(prefix, sizeof prefix, "%s.removed-", slash + 1);
    *slash = '\0';
    DIR *dir = opendir(above);
    for (struct dirent *entry; dir != NULL && (entry = file_next_name(dir, above, &rc, NULL)) != NULL;) {
        char path[FILE_PATH_MAX];
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        file_path(path, above, entry->d_name);
        state_remove_folder(path, NULL);
    }
    if (dir != NULL)
        closedir(dir);
}

/* Whoever makes `bus` has its draft locked. */
static bool clear_draft(const char *path)
{
    int fd;
    if (file_open(path, O_RDONLY, &fd, NULL) != EVBUS_OK)
        return false;
    bool is_cleared = flock(fd, LOCK_EX | LOCK_NB) == 0 && unlink(path) == 0;
    close(fd);
    return is_cleared;
}

void state_clear(const char *folder)
{
    char path[FILE_PATH_MAX];
    int rc = EVBUS_OK;
    bool is_a_makers = false;
    clear_removed(folder);
    file_path(path, folder, "bus");
    DIR *dir = access(path, F_OK) != 0 ? opendir(folder) : NULL;
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = file_next_name(dir, folder, &rc, NULL)) != NULL;) {
        size_t len = strlen(entry->d_name);
        file_path(path, folder, entry->d_name);
        if (len > 8 && strncmp(entry->d_name, "bus.", 4) == 0 && strcmp(entry->d_name + len - 4, ".tmp") == 0)
            is_a_makers = clear_draft(path) || is_a_makers;
    }
    closedir(dir);
    if (is_a_makers)
        rmdir(folder); /* where nothing else is in it */
}

int state_remove(const char *folder, struct error *err)
{
    char path[FILE_PATH_MAX], away[FILE_PATH_MAX];
    file_path(path, folder, "bus");
    if (access(path, F_OK) != 0)
        return EVBUS_OK;
    clear_removed(folder); /* one may have our name: containers' process ids are low */
    /* First its name: nobody finds it half removed, and who still writes there by name finds nothing */
    snprintf(away, sizeof away, "%.*s.removed-%d", FILE_PATH_MAX - 32, folder, (int)getpid());
    if (rename(folder, away) != 0)
        return file_failed(err, folder, "cannot remove it (rename)", errno);
    return state_remove_folder(away, err);
}

bool state_use(struct state *state)
{
    uint32_t uses = atomic_load_explicit(&state->uses, memory_order_relaxed);
    do
        if ((uses & STATE_LEFT) != 0)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&state->uses, &uses, uses + 1, memory_order_acquire,
                                                  memory_order_relaxed));
    return true;
}

void state_used(struct state *state)
{
    atomic_fetch_sub_explicit(&state->uses, 1, memory_order_release);
}

void state_let_go(struct state *state)
{
    uint32_t uses = 0;
    if (atomic_compare_exchange_strong_explicit(&state->uses, &uses, STATE_LEFT, memory_order_acq_rel,
                                                memory_order_relaxed))
        state_close(state);
}

void state_close(struct state *state)
{
    void *page = atomic_exchange_explicit(&state->lock, NULL, memory_order_acq_rel); /* several threads may let go */
    if (page != NULL)
        munmap(page, LOCK_BYTES);
}

void state_forget(struct state *state)
{
    atomic_store_explicit(&state->lock, NULL, memory_order_relaxed);
}
