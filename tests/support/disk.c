/* disk.c: a disk that remembers in which order it was written.
 *
 * The calls are ours by name (the 64-bit ones: that is what _FILE_OFFSET_BITS makes of them): a test's program defines them before the C library does. A file is known by a number that it gets when it
 * is made, since a name may become another file's, and so may an inode. What is promised by a disk is what POSIX promises: bytes after
 * fsync or fdatasync of their file, names after fsync of their folder; nothing else, and in no order. */
#include "disk.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { WRITE, SYNC, FAILED_SYNC, NAME, UNNAME, FOLDER, SYNC_FOLDER };

struct step {
    enum kind kind;
    unsigned file;  /* WRITE, SYNC, FAILED_SYNC, NAME */
    char path[200]; /* below the folder; NAME, UNNAME, FOLDER, SYNC_FOLDER */
    uint64_t offset;
    size_t len;
    uint8_t *bytes;
    size_t synced_by;  /* the first step that brings it to disk; SIZE_MAX: none */
    size_t moved_from; /* NAME by rename: the step of the UNNAME that is one with it; else SIZE_MAX */
};

struct disk {
    char folder[256];
    pthread_mutex_t mutex;
    struct step *steps;
    size_t n, room;
    ino_t inodes[4096]; /* by a file's number */
    unsigned n_files;
    bool is_broken;
    unsigned n_failures;
};

static struct disk *recorded;

/* --- recording ---------------------------------------------------------------------------------------------------------- */

/* A path below the folder, or NULL. */
static const char *below(const struct disk *disk, const char *path)
{
    size_t len = strlen(disk->folder);
    if (strncmp(path, disk->folder, len) != 0 || (path[len] != '/' && path[len] != '\0'))
        return NULL;
    return path[len] == '/' ? path + len + 1 : path + len;
}

static struct step *add(struct disk *disk, enum kind kind, const char *path)
{
    if (disk->n == disk->room) {
        disk->room = disk->room == 0 ? 1024 : 2 * disk->room;
        disk->steps = realloc(disk->steps, disk->room * sizeof *disk->steps);
        cr_assert_not_null(disk->steps);
    }
    struct step *step = &disk->steps[disk->n++];
    *step = (struct step){.kind = kind, .moved_from = SIZE_MAX};
    snprintf(step->path, sizeof step->path, "%s", path != NULL ? path : "");
    return step;
}

static bool find_file(const struct disk *disk, ino_t inode, unsigned *out)
{
    for (unsigned i = disk->n_files; i-- > 0;)
        if (disk->inodes[i] == inode) {
            *out = i;
            return true;
        }
    return false;
}

static bool file_of(const struct disk *disk, int fd, unsigned *out)
{
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && find_file(disk, found.st_ino, out);
}

static void made(struct disk *disk, int fd, const char *path)
{
    struct stat found;
    if (fd < 0 || below(disk, path) == NULL || fstat(fd, &found) != 0)
        return;
    pthread_mutex_lock(&disk->mutex);
    cr_assert_lt(disk->n_files, 4096u);
    disk->inodes[disk->n_files] = found.st_ino;
    add(disk, NAME, below(disk, path))->file = disk->n_files++;
    pthread_mutex_unlock(&disk->mutex);
}

static int open_it(const char *path, int flags, mode_t mode)
{
    bool is_new = recorded != NULL && (flags & O_CREAT) != 0 && access(path, F_OK) != 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (is_new)
        made(recorded, fd, path);
    return fd;
}

int open(const char *path, int flags, ...);
int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_it(path, flags, mode);
}

static int make_draft(char *path, int suffix, int flags)
{
    static unsigned count;
    size_t len = strlen(path);
    for (;;) {
        char digits[8];
        snprintf(digits, sizeof digits, "%06x", __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED) & 0xffffff);
        memcpy(path + len - (size_t)suffix - 6, digits, 6);
        int fd = open_it(path, O_RDWR | O_CREAT | O_EXCL | flags, 0600);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
}

int mkostemps(char *path, int suffix, int flags);
int mkostemps(char *path, int suffix, int flags)
{
    return make_draft(path, suffix, flags);
}

static ssize_t write_it(int fd, const void *bytes, size_t len, uint64_t offset)
{
    ssize_t n = syscall(SYS_pwrite64, fd, bytes, len, offset);
    unsigned file;
    struct disk *disk = recorded;
    if (disk == NULL || n <= 0 || !file_of(disk, fd, &file))
        return n;
    pthread_mutex_lock(&disk->mutex);
    struct step *step = add(disk, WRITE, NULL);
    step->file = file;
    step->offset = offset;
    step->len = (size_t)n;
    step->bytes = malloc((size_t)n);
    cr_assert_not_null(step->bytes);
    memcpy(step->bytes, bytes, (size_t)n);
    pthread_mutex_unlock(&disk->mutex);
    return n;
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    return write_it(fd, bytes, len, (uint64_t)offset);
}

/* The sync is over when it is recorded: what is written meanwhile may or may not be there. So it is noted where it begins: that counts
 * as synced only what had been written before. */
static int sync_it(long call, int fd)
{
    char link[64], path[256];
    unsigned file = 0;
    struct disk *disk = recorded;
    struct stat found;
    size_t at = SIZE_MAX;
    if (disk != NULL && fstat(fd, &found) == 0) {
        pthread_mutex_lock(&disk->mutex);
        if (S_ISREG(found.st_mode) && find_file(disk, found.st_ino, &file)) {
            at = disk->n;
            if (disk->is_broken) {
                struct step *step = add(disk, FAILED_SYNC, NULL);
                step->file = file;
                step->offset = at;
                disk->n_failures++;
                pthread_mutex_unlock(&disk->mutex);
                errno = EIO;
                return -1;
            }
        } else if (S_ISDIR(found.st_mode)) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            ssize_t n = readlink(link, path, sizeof path - 1);
            path[n > 0 ? n : 0] = '\0';
            if (n > 0 && below(disk, path) != NULL)
                at = disk->n;
        }
        pthread_mutex_unlock(&disk->mutex);
    }
    int rc = (int)syscall(call, fd);
    if (rc == 0 && at != SIZE_MAX) {
        pthread_mutex_lock(&disk->mutex);
        bool is_folder = S_ISDIR(found.st_mode);
        struct step *step = add(disk, is_folder ? SYNC_FOLDER : SYNC, is_folder ? below(disk, path) : NULL);
        step->file = file;
        step->offset = at; /* steps before this one are synced by it */
        pthread_mutex_unlock(&disk->mutex);
    }
    return rc;
}

int fsync(int fd)
{
    return sync_it(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_it(SYS_fdatasync, fd);
}

static void named(struct disk *disk, const char *path, ino_t inode, size_t moved_from)
{
    unsigned file;
    if (below(disk, path) == NULL || !find_file(disk, inode, &file))
        return;
    struct step *step = add(disk, NAME, below(disk, path));
    step->file = file;
    step->moved_from = moved_from;
}

int link(const char *from, const char *to)
{
    struct stat found = {0};
    struct disk *disk = recorded;
    stat(from, &found);
    int rc = (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (rc == 0 && disk != NULL) {
        pthread_mutex_lock(&disk->mutex);
        named(disk, to, found.st_ino, SIZE_MAX);
        pthread_mutex_unlock(&disk->mutex);
    }
    return rc;
}

int rename(const char *from, const char *to)
{
    struct stat found = {0};
    struct disk *disk = recorded;
    stat(from, &found);
    int rc = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (rc == 0 && disk != NULL && below(disk, from) != NULL) {
        pthread_mutex_lock(&disk->mutex);
        size_t at = disk->n;
        add(disk, UNNAME, below(disk, from));
        named(disk, to, found.st_ino, at);
        pthread_mutex_unlock(&disk->mutex);
    }
    return rc;
}

int unlink(const char *path)
{
    struct disk *disk = recorded;
    int rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (rc == 0 && disk != NULL && below(disk, path) != NULL) {
        pthread_mutex_lock(&disk->mutex);
        add(disk, UNNAME, below(disk, path));
        pthread_mutex_unlock(&disk->mutex);
    }
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    struct disk *disk = recorded;
    int rc = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (rc == 0 && disk != NULL && below(disk, path) != NULL) {
        pthread_mutex_lock(&disk->mutex);
        add(disk, FOLDER, below(disk, path));
        pthread_mutex_unlock(&disk->mutex);
    }
    return rc;
}

struct disk *disk_begin(const char *folder)
{
    struct disk *disk = calloc(1, sizeof *disk);
    cr_assert(disk != NULL && recorded == NULL);
    snprintf(disk->folder, sizeof disk->folder, "%s", folder);
    pthread_mutex_init(&disk->mutex, NULL);
    recorded = disk;
    return disk;
}

static void folder_of(const char *path, char out[200])
{
    const char *slash = strrchr(path, '/');
    snprintf(out, 200, "%.*s", slash != NULL ? (int)(slash - path) : 0, path);
}

/* The first step that brings step i to disk. */
static size_t synced_by(const struct disk *disk, size_t i)
{
    const struct step *step = &disk->steps[i];
    char folder[200];
    folder_of(step->path, folder);
    for (size_t j = i + 1; j < disk->n; j++) {
        const struct step *sync = &disk->steps[j];
        if (step->kind == WRITE && sync->kind == FAILED_SYNC && sync->file == step->file)
            return SIZE_MAX; /* its pages count as clean */
        if (step->kind == WRITE ? sync->kind == SYNC && sync->file == step->file && sync->offset > i
                                : sync->kind == SYNC_FOLDER && sync->offset > i && strcmp(sync->path, folder) == 0)
            return j;
    }
    return SIZE_MAX;
}

void disk_end(struct disk *disk)
{
    cr_assert_eq(recorded, disk);
    recorded = NULL;
    for (size_t i = 0; i < disk->n; i++)
        disk->steps[i].synced_by = synced_by(disk, i);
}

void disk_free(struct disk *disk)
{
    for (size_t i = 0; i < disk->n; i++)
        free(disk->steps[i].bytes);
    free(disk->steps);
    pthread_mutex_destroy(&disk->mutex);
    free(disk);
}

void disk_break(struct disk *disk, bool is_broken)
{
    pthread_mutex_lock(&disk->mutex);
    disk->is_broken = is_broken;
    pthread_mutex_unlock(&disk->mutex);
}

unsigned disk_failures(const struct disk *disk)
{
    struct disk *locked = (struct disk *)(uintptr_t)disk;
    pthread_mutex_lock(&locked->mutex);
    unsigned n = disk->n_failures;
    pthread_mutex_unlock(&locked->mutex);
    return n;
}

size_t disk_steps(const struct disk *disk)
{
    struct disk *locked = (struct disk *)(uintptr_t)disk;
    pthread_mutex_lock(&locked->mutex);
    size_t n = disk->n;
    pthread_mutex_unlock(&locked->mutex);
    return n;
}

void disk_tell(const struct disk *disk, size_t n, char out[256])
{
    static const char *const kinds[] = {"write", "sync", "failed sync", "name", "unname", "folder", "sync of folder"};
    const struct step *step = &disk->steps[n];
    snprintf(out, 256, "step %zu: %s file %u %s at %llu, %zu bytes", n, kinds[step->kind], step->file, step->path,
             (unsigned long long)step->offset, step->len);
}

/* --- the cut -------------------------------------------------------------------------------------------------------------- */

struct content {
    uint8_t *bytes;
    size_t len;
};

struct entry {
    char path[200];
    unsigned file;
    bool is_folder;
};

static uint32_t dice(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

static void put(struct content *content, uint64_t offset, const uint8_t *bytes, size_t len)
{
    if (offset + len > content->len) {
        content->bytes = realloc(content->bytes, offset + len);
        cr_assert_not_null(content->bytes);
        memset(content->bytes + content->len, 0, offset + len - content->len);
        content->len = offset + len;
    }
    memcpy(content->bytes + offset, bytes, len);
}

/* Each sector of it is there or not; one that is not may leave the file shorter, or zero there. */
static void put_torn(struct content *content, const struct step *step, size_t sector, uint64_t *state)
{
    for (size_t at = 0; at < step->len;) {
        size_t left = sector - (step->offset + at) % sector;
        size_t n = left < step->len - at ? left : step->len - at;
        if (dice(state) % 2 == 0)
            put(content, step->offset + at, step->bytes + at, n);
        at += n;
    }
}

static void do_names(struct entry *entries, size_t *n, const struct step *step)
{
    size_t at = 0;
    while (at < *n && strcmp(entries[at].path, step->path) != 0)
        at++;
    if (step->kind == UNNAME) {
        if (at < *n)
            entries[at] = entries[--*n];
        return;
    }
    cr_assert_lt(at, 1024u);
    if (at == *n)
        ++*n;
    entries[at] = (struct entry){.file = step->file, .is_folder = step->kind == FOLDER};
    memcpy(entries[at].path, step->path, sizeof entries[at].path);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

static void make(const char *folder, const struct entry *entries, size_t n, const struct content *contents)
{
    for (size_t i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i].path);
        if (entries[i].is_folder) {
            syscall(SYS_mkdirat, AT_FDCWD, path, 0770);
            continue;
        }
        const struct content *content = &contents[entries[i].file];
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0660);
        if (fd < 0)
            continue; /* its folder's name was lost, and with it all below */
        cr_assert_eq(content->len,
                     0u + (size_t)(content->len > 0 ? syscall(SYS_pwrite64, fd, content->bytes, content->len, 0) : 0));
        close(fd);
    }
}

void disk_cut(const struct disk *disk, size_t n, enum disk_unsynced unsynced, size_t sector, uint64_t seed,
              const char *folder)
{
    struct content *contents = calloc(disk->n_files + 1, sizeof *contents);
    struct entry *entries = calloc(1024, sizeof *entries);
    size_t n_entries = 0;
    uint64_t state = seed;
    bool was_kept = false;
    cr_assert(contents != NULL && entries != NULL);
    for (size_t i = 0; i < n; i++) {
        const struct step *step = &disk->steps[i];
        if (step->kind == SYNC || step->kind == FAILED_SYNC || step->kind == SYNC_FOLDER)
            continue;
        bool is_kept = step->synced_by < n || unsynced == DISK_KEPT;
        if (step->kind == WRITE) {
            if (is_kept)
                put(&contents[step->file], step->offset, step->bytes, step->len);
            else if (unsynced == DISK_DICED)
                put_torn(&contents[step->file], step, sector, &state);
            continue;
        }
        if (!is_kept && unsynced == DISK_DICED)
            is_kept = dice(&state) % 2 == 0;
        if (step->moved_from != SIZE_MAX) /* a rename is there whole or not at all */
            is_kept = was_kept;
        was_kept = is_kept;
        if (is_kept)
            do_names(entries, &n_entries, step);
    }
    qsort(entries, n_entries, sizeof *entries, by_path); /* folders before what is in them */
    make(folder, entries, n_entries, contents);
    for (unsigned i = 0; i < disk->n_files; i++)
        free(contents[i].bytes);
    free(contents);
    free(entries);
}
