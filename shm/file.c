/* file.c: whole reads and writes of files, each failure told.
 *
 *   write     pwrite() until all is there: a short write says nothing yet, the next one says why
 *   replace   a file of another name, all of it written, fdatasync; rename over the old one; fsync of the folder. Whoever reads
 *             meanwhile, and whoever reads after a power cut, finds the old file or the new one
 *   draft     its name is nobody else's: a process id would not do, two threads have one, and so have two containers
 *   modes     what a bus keeps on disk is its group's, as its memory is: a new file takes group and mode of its folder
 * A failed fsync is never repeated here: what was not written then may be gone from the page cache, and the next call would say
 * that all is well. Checked by tests/unit/test_file.c. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES (1u << 20) /* a piece */

void file_path(char out_path[FILE_PATH_MAX], const char *folder, const char *name)
{
    size_t len = strnlen(folder, FILE_PATH_MAX - 1);
    memcpy(out_path, folder, len);
    snprintf(out_path + len, FILE_PATH_MAX - len, "/%s", name);
}

int file_failed(struct error *err, const char *path, const char *call, int number)
{
    enum evbus_code code = number == ENOSPC || number == EDQUOT || number == EMFILE || number == ENFILE ||
                                   number == ENOMEM || number == EFBIG
                               ? EVBUS_ENOSPC
                           : number == EACCES || number == EPERM || number == EROFS ? EVBUS_EPERM
                           : number == ENOENT                                       ? EVBUS_ENOTFOUND
                           : number == EEXIST                                       ? EVBUS_EDUPLICATE
                                                                                    : EVBUS_EIO;
    const char *mend = number == ENOSPC || number == EDQUOT || number == EFBIG
                           ? "; free space there, or shorten the catalogue's retention"
                           : error_mend(number);
    return error_set(err, code, "%s: %s: %s%s", path, call, strerror(number), mend);
}

static void folder_of(const char *path, char out[FILE_PATH_MAX])
{
    snprintf(out, FILE_PATH_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    if (slash == NULL)
        snprintf(out, FILE_PATH_MAX, ".");
    else
        slash[slash == out ? 1 : 0] = '\0';
}

/* A new file is its folder's group's. */
static void take_after_folder(int fd, const char *path)
{
    char folder[FILE_PATH_MAX];
    struct stat of_folder, own;
    folder_of(path, folder);
    if (stat(folder, &of_folder) != 0 || fstat(fd, &own) != 0)
        return;
    if (own.st_gid != of_folder.st_gid && fchown(fd, (uid_t)-1, of_folder.st_gid) != 0)
        return; /* then only its owner may use it, and whoever else tries is told */
    if (fchmod(fd, of_folder.st_mode & 0666) != 0)
        return;
}

int file_open(const char *path, int flags, int *out_fd, struct error *err)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, 0600);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return file_failed(err, path, (flags & O_CREAT) != 0 ? "cannot make it" : "cannot open it", errno);
    if ((flags & O_CREAT) != 0)
        take_after_folder(fd, path);
    *out_fd = fd;
    return EVBUS_OK;
}

int file_draft(const char *path, char out_draft[FILE_PATH_MAX], int *out_fd, struct error *err)
{
    int fd = -1;
    if (strlen(path) + sizeof ".XXXXXX.tmp" > FILE_PATH_MAX)
        return error_set(err, EVBUS_EINVAL, "the path %.60s... has %zu bytes; %zu at most", path, strlen(path),
                         FILE_PATH_MAX - sizeof ".XXXXXX.tmp");
    do {
        snprintf(out_draft, FILE_PATH_MAX, "%s.XXXXXX.tmp", path);
        fd = mkostemps(out_draft, 4, O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return file_failed(err, path, "cannot make a draft of it", errno);
    take_after_folder(fd, out_draft);
    *out_fd = fd;
    return EVBUS_OK;
}

int file_write(int fd, const char *path, const void *bytes, size_t len, uint64_t offset, struct error *err)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = pwrite(fd, (const char *)bytes + at, len - at, (off_t)(offset + at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return file_failed(err, path, "cannot write to it", n < 0 ? errno : EIO);
        at += (size_t)n;
    }
    return EVBUS_OK;
}

int file_read(int fd, const char *path, void *bytes, size_t len, uint64_t offset, size_t *out_len, struct error *err)
{
    size_t at = 0;
    while (at < len) {
        ssize_t n = pread(fd, (char *)bytes + at, len - at, (off_t)(offset + at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_failed(err, path, "cannot read it", errno);
        if (n == 0)
            break;
        at += (size_t)n;
    }
    *out_len = at;
    return EVBUS_OK;
}

int file_copy(int from, const char *from_path, int to, const char *to_path, uint64_t at, uint64_t until,
              struct error *err)
{
    size_t room = COPY_BYTES;
    char *buffer = malloc(room);
    int rc = buffer != NULL ? EVBUS_OK : error_no_memory(err, "a copy of %s", from_path);
    while (rc == EVBUS_OK && at < until) {
        size_t n = 0;
        rc = file_read(from, from_path, buffer, until - at < room ? until - at : room, at, &n, err);
        if (rc == EVBUS_OK && n == 0)
            rc = error_set(err, EVBUS_EIO, "%s: it has been cut at %" PRIu64, from_path, at);
        if (rc == EVBUS_OK)
            rc = file_write(to, to_path, buffer, n, at, err);
        at += n;
    }
    free(buffer);
    return rc;
}

void file_begin_sync(int fd, size_t len, uint64_t offset)
{
    /* It neither waits nor takes an error from fdatasync(), which tells all that went wrong; so its own result says nothing. */
    (void)sync_file_range(fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
}

int file_sync(int fd, const char *path, struct error *err)
{
    int rc;
    do
        rc = fdatasync(fd);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? EVBUS_OK : file_failed(err, path, "cannot bring it to disk (fdatasync)", errno);
}

int file_sync_folder(const char *path, struct error *err)
{
    int fd = -1;
    int rc = file_open(path, O_RDONLY | O_DIRECTORY, &fd, err);
    if (rc != EVBUS_OK)
        return rc;
    int failed;
    do
        failed = fsync(fd);
    while (failed != 0 && errno == EINTR);
    if (failed != 0)
        rc = file_failed(err, path, "cannot bring it to disk (fsync)", errno);
    close(fd);
    return rc;
}

bool file_has_ending(const char *name, const char *ending)
{
    size_t len = strlen(name), ending_len = strlen(ending);
    return len > ending_len && strcmp(name + len - ending_len, ending) == 0;
}

struct dirent *file_next_name(DIR *dir, const char *path, int *inout_rc, struct error *err)
{
    if (*inout_rc != EVBUS_OK)
        return NULL;
    errno = 0;
    struct dirent *entry = readdir(dir);
    if (entry == NULL && errno != 0)
        *inout_rc = file_failed(err, path, "cannot read it", errno);
    return entry;
}

int file_make_folder(const char *path, mode_t mode, gid_t group, struct error *err)
{
    char above[FILE_PATH_MAX];
    struct stat found;
    if (stat(path, &found) == 0)
        return S_ISDIR(found.st_mode) ? EVBUS_OK : file_failed(err, path, "must be a folder", ENOTDIR);
    folder_of(path, above);
    int rc = strcmp(above, path) != 0 ? file_make_folder(above, 0755, (gid_t)-1, err) : EVBUS_OK;
    if (rc != EVBUS_OK)
        return rc;
    bool is_ours = mkdir(path, 0700) == 0;
    if (!is_ours && errno != EEXIST)
        return file_failed(err, path, "cannot make it", errno);
    if (group != (gid_t)-1 && chown(path, (uid_t)-1, group) != 0)
        rc = file_failed(err, path, "cannot set its group", errno);
    else if (chmod(path, mode) != 0) /* whatever the umask */
        rc = file_failed(err, path, "cannot set its mode", errno);
    else
        rc = file_sync_folder(above, err);
    if (rc != EVBUS_OK && is_ours)
        rmdir(path); /* the next one to come would take it for made as asked */
    return rc;
}

int file_replace(const char *path, const void *bytes, size_t len, struct error *err)
{
    char folder[FILE_PATH_MAX];
    char draft[FILE_PATH_MAX];
    int fd = -1;
    int rc = file_draft(path, draft, &fd, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = file_write(fd, draft, bytes, len, 0, err);
    if (rc == EVBUS_OK)
        rc = file_sync(fd, draft, err);
    if (close(fd) != 0 && rc == EVBUS_OK)
        rc = file_failed(err, draft, "close", errno);
    if (rc == EVBUS_OK && rename(draft, path) != 0)
        rc = file_failed(err, path, "cannot replace it", errno);
    if (rc != EVBUS_OK) {
        unlink(draft);
        return rc;
    }
    folder_of(path, folder);
    return file_sync_folder(folder, err);
}

int file_read_all(const char *path, size_t max, char **out_bytes, size_t *out_len, struct error *err)
{
    int fd = -1;
    struct stat found;
    int rc = file_open(path, O_RDONLY, &fd, err);
    if (rc != EVBUS_OK)
        return rc;
    char *bytes = NULL;
    size_t len = 0;
    if (fstat(fd, &found) != 0)
        rc = file_failed(err, path, "fstat", errno);
    else if ((uint64_t)found.st_size > max)
        rc = error_set(err, EVBUS_ECORRUPT, "%s has %lld bytes, more than %zu: no evbus wrote it", path,
                       (long long)found.st_size, max);
    else if ((bytes = malloc((size_t)found.st_size + 1)) == NULL)
        rc = error_no_memory(err, "%s", path);
    else
        rc = file_read(fd, path, bytes, (size_t)found.st_size, 0, &len, err);
    close(fd);
    if (rc != EVBUS_OK) {
        free(bytes);
        return rc;
    }
    bytes[len] = '\0';
    *out_bytes = bytes;
    *out_len = len;
    return EVBUS_OK;
}
