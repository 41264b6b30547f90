/* file.h: whole reads and writes of files, each failure told. See file.c. */
#ifndef EVBUS_FILE_H
#define EVBUS_FILE_H

#include "error.h"

#include <dirent.h>

#include <sys/types.h>

#define FILE_PATH_MAX 512 /* bytes, with the NUL */

/* "<folder>/<name>", cut where it is too long: state_folder() leaves room for all that a bus has below it. */
void file_path(char out_path[FILE_PATH_MAX], const char *folder, const char *name);

/* A failed call: which file, which call, why, and what helps. EVBUS_ENOSPC, EVBUS_EPERM, EVBUS_ENOTFOUND,
 * EVBUS_EDUPLICATE (it is there) or EVBUS_EIO. */
int file_failed(struct error *err, const char *path, const char *call, int number);

/* Opens it with O_CLOEXEC. A file that is made has the folder's group, and its mode without the right to enter. */
int file_open(const char *path, int flags, int *out_fd, struct error *err);

/* Makes a file beside this one, for writing, of a name that nobody else has; to be renamed, linked or removed. */
int file_draft(const char *path, char out_draft[FILE_PATH_MAX], int *out_fd, struct error *err);

/* All bytes at this offset, after interruptions and short writes, too. EVBUS_OK, or what file_failed() says. */
int file_write(int fd, const char *path, const void *bytes, size_t len, uint64_t offset, struct error *err);

/* As many bytes as are there, at most len. */
int file_read(int fd, const char *path, void *bytes, size_t len, uint64_t offset, size_t *out_len, struct error *err);

/* Bytes [at, until) of one file to the same place in another, in pieces. EVBUS_EIO where the first one ends before. */
int file_copy(int from, const char *from_path, int to, const char *to_path, uint64_t at, uint64_t until,
              struct error *err);

/* Bytes that have been written set out for the disk, and nobody waits: a file_sync() later has less to do. */
void file_begin_sync(int fd, size_t len, uint64_t offset);

/* On disk, with what is needed to read it again. */
int file_sync(int fd, const char *path, struct error *err);

/* The names in a folder are on disk. */
int file_sync_folder(const char *path, struct error *err);

/* Does a name end so, with something before it? */
bool file_has_ending(const char *name, const char *ending);

/* The next name in a folder that is read, NULL: no more; or its code is in *inout_rc, with which nothing is done where it is one. */
struct dirent *file_next_name(DIR *dir, const char *path, int *inout_rc, struct error *err);

/* A folder, and those above it; mode and group (or -1) of the new last one. Fine when it is there. */
int file_make_folder(const char *path, mode_t mode, gid_t group, struct error *err);

/* All of a file is these bytes, or what it was before, whatever happens on the way. On return they are on disk. */
int file_replace(const char *path, const void *bytes, size_t len, struct error *err);

/* All of a file, NUL-terminated; to be freed. EVBUS_ENOTFOUND; EVBUS_ECORRUPT where it has more than max bytes. */
int file_read_all(const char *path, size_t max, char **out_bytes, size_t *out_len, struct error *err);

#endif
