/* backup_draft.c: the folder in which a backup grows, until it has its name.
 *
 *     <dir>/<bus>.tmp-XXXXXX      locked by who makes it; renamed to <dir>/<bus> when all of it is on disk
 *
 * So whoever finds <dir>/<bus> finds it whole, and a draft whose lock is free is a dead one's: the next backup clears it away. A name that
 * may not be there after a power cut is taken back. Nothing is written over, nor below the folder that is copied.
 * Checked by tests/unit/test_backup.c and tests/crash/test_backup.c. */
#include "backup_draft.h"

#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DRAFT        ".tmp-"
#define DRAFT_RANDOM "XXXXXX"

/* What is there of a path, in its one true form; to be freed. */
static char *real_of(const char *path)
{
    char above[FILE_PATH_MAX];
    snprintf(above, sizeof above, "%s", path);
    for (;;) {
        char *real = realpath(above, NULL);
        char *slash = strrchr(above, '/');
        if (real != NULL || (errno != ENOENT && errno != ENOTDIR) || strcmp(above, "/") == 0 || strcmp(above, ".") == 0)
            return real;
        if (slash == NULL)
            snprintf(above, sizeof above, ".");
        else
            slash[slash == above ? 1 : 0] = '\0';
    }
}

static int check_is_elsewhere(const struct backup_draft *draft, const char *dir, struct error *err)
{
    char *own = realpath(draft->source, NULL);
    if (own == NULL)
        return file_failed(err, draft->source, "cannot find it", errno);
    char *real = real_of(dir);
    int rc = real != NULL ? EVBUS_OK : file_failed(err, dir, "cannot find it", errno);
    size_t len = strlen(own);
    if (rc == EVBUS_OK && strncmp(real, own, len) == 0 && (real[len] == '/' || real[len] == '\0'))
        rc = error_set(err, EVBUS_EINVAL, "%s lies in %s, which is to be copied: name a folder elsewhere", dir,
                       draft->source);
    free(real);
    free(own);
    return rc;
}

/* The folder that is given, made where it is not there. */
static int find_dir(struct backup_draft *draft, const char *given, struct error *err)
{
    char dir[FILE_PATH_MAX];
    size_t len = strlen(given);
    size_t len_max = FILE_PATH_MAX - 256 - sizeof draft->bus - sizeof DRAFT DRAFT_RANDOM;
    while (len > 1 && given[len - 1] == '/')
        len--;
    if (len >= len_max)
        return error_set(err, EVBUS_EINVAL, "dir is %.60s..., of %zu bytes; %zu at most", given, len, len_max - 1);
    memcpy(dir, given, len);
    dir[len] = '\0';
    int rc = check_is_elsewhere(draft, dir, err);
    if (rc == EVBUS_OK)
        rc = file_make_folder(dir, 0755, (gid_t)-1, err);
    if (rc == EVBUS_OK) /* ".." behind what was not there may lead back */
        rc = check_is_elsewhere(draft, dir, err);
    if (rc != EVBUS_OK)
        return rc;
    char *real = realpath(dir, NULL); /* whoever changes the working directory meanwhile */
    if (real == NULL)
        return file_failed(err, dir, "cannot find it", errno);
    len = strlen(real);
    if (len < len_max)
        memcpy(draft->dir, real, len + 1);
    else
        rc = error_set(err, EVBUS_EINVAL, "dir is %.60s..., of %zu bytes; %zu at most", real, len, len_max - 1);
    free(real);
    if (rc == EVBUS_OK)
        file_path(draft->target, draft->dir, draft->bus);
    return rc;
}

static int check_is_free(const struct backup_draft *draft, struct error *err)
{
    struct stat found;
    if (lstat(draft->target, &found) != 0)
        return errno == ENOENT ? EVBUS_OK : file_failed(err, draft->target, "cannot look at it", errno);
    return error_set(err, EVBUS_EDUPLICATE,
                     "%s is there: a backup is never written over. Name another folder, or move it away",
                     draft->target);
}

/* Drafts whose makers are dead: their locks are free. */
static void sweep(const struct backup_draft *draft)
{
    char prefix[sizeof draft->bus + sizeof DRAFT];
    int rc = EVBUS_OK;
    size_t len = (size_t)snprintf(prefix, sizeof prefix, "%s" DRAFT, draft->bus);
    DIR *dir = opendir(draft->dir);
    for (struct dirent *entry; dir != NULL && (entry = file_next_name(dir, draft->dir, &rc, NULL)) != NULL;) {
        char path[FILE_PATH_MAX];
        int fd;
        if (strncmp(entry->d_name, prefix, len) != 0 || strlen(entry->d_name) != len + sizeof DRAFT_RANDOM - 1)
            continue;
        file_path(path, draft->dir, entry->d_name);
        if (file_open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, &fd, NULL) != EVBUS_OK)
            continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            state_remove_folder(path, NULL);
        close(fd);
    }
    if (dir != NULL)
        closedir(dir);
}

static int make(struct backup_draft *draft, struct error *err)
{
    char path[FILE_PATH_MAX], name[sizeof draft->bus + sizeof DRAFT DRAFT_RANDOM];
    struct stat of_bus, ours, named;
    if (stat(draft->source, &of_bus) != 0)
        return file_failed(err, draft->source, "cannot look at it", errno);
    draft->mode = of_bus.st_mode & 0777;
    draft->group = of_bus.st_gid;
    snprintf(name, sizeof name, "%s" DRAFT DRAFT_RANDOM, draft->bus);
    file_path(path, draft->dir, name);
    if (mkdtemp(path) == NULL)
        return file_failed(err, draft->target, "cannot make a draft of it", errno);
    memcpy(draft->path, path, sizeof draft->path);
    int rc = file_open(path, O_RDONLY | O_DIRECTORY, &draft->fd, err);
    if (rc == EVBUS_OK && flock(draft->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        rc = EVBUS_EBUSY; /* where there are no locks nobody else can have it, nor take it for a dead one's */
    if (rc == EVBUS_OK && (fstat(draft->fd, &ours) != 0 || stat(path, &named) != 0 || ours.st_ino != named.st_ino ||
                           ours.st_dev != named.st_dev))
        rc = EVBUS_EBUSY;
    if (rc == EVBUS_EBUSY || rc == EVBUS_ENOTFOUND)
        return error_set(err, EVBUS_EBUSY, "%s: another backup has just cleared it away: try again", path);
    if (rc == EVBUS_OK && chown(path, (uid_t)-1, draft->group) != 0)
        rc = file_failed(err, path, "cannot set its group", errno);
    if (rc == EVBUS_OK && chmod(path, draft->mode) != 0)
        rc = file_failed(err, path, "cannot set its mode", errno);
    return rc;
}

int backup_draft_give_name(struct backup_draft *draft, struct error *err)
{
    int rc = check_is_free(draft, err);
    if (rc == EVBUS_OK && rename(draft->path, draft->target) != 0)
        rc = errno == ENOTEMPTY || errno == EEXIST ? check_is_free(draft, err)
                                                   : file_failed(err, draft->target, "cannot give it its name", errno);
    if (rc != EVBUS_OK)
        return rc;
    if ((rc = file_sync_folder(draft->dir, err)) == EVBUS_OK)
        draft->path[0] = '\0';
    else if (rename(draft->target, draft->path) != 0) /* what may not be there after a power cut must not look whole */
        memcpy(draft->path, draft->target, sizeof draft->path);
    return rc;
}

int backup_draft_make(struct backup_draft *out_draft, const char *bus, const char *source, const char *dir,
                      struct error *err)
{
    struct backup_draft *draft = out_draft;
    *draft = (struct backup_draft){.fd = -1};
    snprintf(draft->bus, sizeof draft->bus, "%s", bus);
    snprintf(draft->source, sizeof draft->source, "%s", source);
    int rc = find_dir(draft, dir, err);
    if (rc == EVBUS_OK)
        rc = check_is_free(draft, err);
    if (rc != EVBUS_OK)
        return rc;
    sweep(draft);
    return make(draft, err);
}

void backup_draft_end(struct backup_draft *draft)
{
    if (draft->path[0] != '\0')
        state_remove_folder(draft->path, NULL);
    if (draft->fd >= 0)
        close(draft->fd);
    draft->fd = -1;
}
