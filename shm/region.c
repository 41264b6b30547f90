/* region.c: create, size, map and check a shared object.
 *
 *   create   shm_open(O_EXCL), mode and group as asked whatever the umask, posix_fallocate ALL pages, then map. A tmpfs
 *            without room says so here, as EVBUS_ENOSPC; with ftruncate alone it would be a SIGBUS at some later store in
 *            some service [R15].
 *   map      never inherited by fork (MADV_DONTFORK: a child that touched the bus would not be who its slot says [B8]) and
 *            not in core dumps (the death notice waits until the dump is written; a ring would be most of it).
 *   fd       belongs to a process that may close it with all the others (closefrom), and use its number for another
 *            file: so nobody trusts it before it has looked whether it is still this object's
 * The mode and its group are all that protects a bus: who may write into it is trusted not to mean harm [R18].
 * Nothing of the content is looked at here: whoever maps an object bounds what it reads. */
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Returns the new end. Not snprintf(): whoever uses a bus makes the names of its objects once a second, and that would take as long as to look
 * what they stand for. */
static char *append(char *end, const char *text, size_t len_max)
{
    size_t len = strnlen(text, len_max);
    memcpy(end, text, len);
    end[len] = '\0';
    return end + len;
}

void region_name(const char *bus, const char *part, char *out_name)
{
    append(append(append(append(out_name, "/evbus.", 7), bus, 63), ".", 1), part, 127);
}

static int code_of_errno(int number)
{
    switch (number) {
    case ENOENT:
        return EVBUS_ENOBUS;
    case EEXIST:
        return EVBUS_EDUPLICATE;
    case EACCES:
    case EPERM:
    case EROFS:
        return EVBUS_EPERM;
    case ENOSPC:
    case ENOMEM:
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case EFBIG:
        return EVBUS_ENOSPC;
    default:
        return EVBUS_EIO;
    }
}

static int failed(struct error *err, const char *name, const char *what, int number)
{
    return error_set(err, code_of_errno(number), "/dev/shm%s: %s: %s%s", name, what, strerror(number),
                     error_mend(number));
}

/* Which object fd is: from here on region_close() closes it. */
static int identify(struct region *region, const char *name, struct stat *out_stat, struct error *err)
{
    if (fstat(region->fd, out_stat) != 0) {
        int rc = failed(err, name, "fstat", errno);
        close(region->fd);
        region->fd = -1;
        return rc;
    }
    region->device = out_stat->st_dev;
    region->inode = out_stat->st_ino;
    return EVBUS_OK;
}

static int map(struct region *region, const char *name, struct error *err)
{
    void *base = mmap(NULL, region->len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
    if (base == MAP_FAILED)
        return failed(err, name, "mmap", errno);
    region->base = base;
    if (madvise(base, region->len_bytes, MADV_DONTFORK) != 0)
        return failed(err, name, "madvise(MADV_DONTFORK)", errno);
    madvise(base, region->len_bytes, MADV_DONTDUMP); /* a convenience: nothing depends on it */
    return EVBUS_OK;
}

/* Every page, in pieces: a signal may interrupt a piece (kernels before 6.8), which is then begun again. */
static int allocate(int fd, size_t len_bytes)
{
    const size_t piece = 1 << 20;
    for (size_t at = 0; at < len_bytes; at += piece) {
        size_t len = len_bytes - at < piece ? len_bytes - at : piece;
        int number;
        do
            number = posix_fallocate(fd, (off_t)at, (off_t)len);
        while (number == EINTR);
        if (number != 0)
            return number;
    }
    return 0;
}

int region_create(struct region *out_region, const char *name, size_t len_bytes, mode_t mode, gid_t group,
                  struct error *err)
{
    struct region region = {.len_bytes = len_bytes};
    region.fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, mode); /* sets FD_CLOEXEC */
    if (region.fd < 0)
        return failed(err, name, "cannot create", errno);
    flock(region.fd, LOCK_EX | LOCK_NB); /* while its maker lives: nobody else knows it yet, so it is free */
    struct stat stat;
    int number = 0;
    int rc = identify(&region, name, &stat, err);
    if (rc == EVBUS_OK && fchmod(region.fd, mode) != 0)
        rc = failed(err, name, "cannot set its mode", errno);
    if (rc == EVBUS_OK && group != (gid_t)-1 && fchown(region.fd, (uid_t)-1, group) != 0)
        rc = failed(err, name, "cannot set its group", errno);
    if (rc == EVBUS_OK && (number = allocate(region.fd, len_bytes)) != 0)
        rc = error_prefix(err, failed(err, name, "no room", number), "%zu bytes", len_bytes);
    if (rc == EVBUS_OK)
        rc = map(&region, name, err);
    if (rc != EVBUS_OK) {
        shm_unlink(name);
        region_close(&region);
        return rc;
    }
    *out_region = region;
    return EVBUS_OK;
}

int region_open(struct region *out_region, const char *name, size_t len_bytes_min, struct error *err)
{
    struct region region = REGION_NONE;
    region.fd = shm_open(name, O_RDWR, 0);
    if (region.fd < 0)
        return failed(err, name, "cannot open", errno);
    struct stat stat;
    int rc = identify(&region, name, &stat, err);
    if (rc == EVBUS_OK && (uint64_t)stat.st_size < len_bytes_min) {
        rc = error_set(err, EVBUS_ECORRUPT,
                       "/dev/shm%s has %lld bytes, %zu are needed: remove the bus and make it anew", name,
                       (long long)stat.st_size, len_bytes_min);
    } else if (rc == EVBUS_OK) {
        region.len_bytes = (size_t)stat.st_size;
        rc = map(&region, name, err);
    }
    if (rc != EVBUS_OK) {
        region_close(&region);
        return rc;
    }
    *out_region = region;
    return EVBUS_OK;
}

void region_prefault(const struct region *region)
{
#ifdef MADV_POPULATE_WRITE
    if (madvise(region->base, region->len_bytes, MADV_POPULATE_WRITE) == 0)
        return;
#endif
    for (size_t at = 0; at < region->len_bytes; at += 4096) /* kernels before 5.14: reading maps what is allocated */
        (void)*((volatile const char *)region->base + at);
}

static bool is_object(const struct region *region, const struct stat *found)
{
    return found->st_dev == region->device && found->st_ino == region->inode;
}

bool region_has_fd(const struct region *region)
{
    struct stat found;
    if (region->fd < 0)
        return false;
    if (fstat(region->fd, &found) == 0)
        return is_object(region, &found);
    return errno != EBADF; /* it cannot be told: then it is ours as ever */
}

int region_reopen(const struct region *region, const char *name, int *out_fd, struct error *err)
{
    struct stat found;
    int fd = shm_open(name, O_RDWR, 0);
    if (fd < 0)
        return failed(err, name, "cannot open", errno);
    int rc = fstat(fd, &found) != 0 ? failed(err, name, "fstat", errno) : EVBUS_OK;
    if (rc == EVBUS_OK && !is_object(region, &found))
        rc = error_set(err, EVBUS_ESTALE, "/dev/shm%s was removed and made anew: try again", name);
    if (rc != EVBUS_OK) {
        close(fd);
        return rc;
    }
    *out_fd = fd;
    return EVBUS_OK;
}

int region_descriptor(const struct region *region, const char *name)
{
    int fd = -1;
    if (region_has_fd(region))
        return fcntl(region->fd, F_DUPFD_CLOEXEC, 0);
    return region_reopen(region, name, &fd, NULL) == EVBUS_OK ? fd : -1;
}

bool region_is_unlinked(const struct region *region)
{
    struct stat found;
    return region->fd >= 0 && fstat(region->fd, &found) == 0 && is_object(region, &found) && found.st_nlink == 0;
}

enum region_found region_find(const struct region *region, const char *name)
{
    struct stat found;
    char path[300];
    append(append(path, "/dev/shm", 8), name, 255);
    if (stat(path, &found) != 0)
        return errno == ENOENT ? REGION_IS_LOST : REGION_IS_HIDDEN;
    return is_object(region, &found) ? REGION_IS_THERE : REGION_IS_LOST;
}

void region_close(struct region *region)
{
    if (region->base != NULL)
        munmap(region->base, region->len_bytes);
    if (region_has_fd(region))
        close(region->fd);
    *region = REGION_NONE;
}
