/* folder.c: a folder of the test's own on disk, and what lies in it. */
#include "folder.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct folder made[8]; /* of this process */
static unsigned n_made;
static pid_t maker;

static int remove_one(const char *path, const struct stat *found, int kind, struct FTW *walk)
{
    (void)found;
    (void)kind;
    return walk->level > 0 ? remove(path) : 0;
}

void folder_clear(const struct folder *folder)
{
    nftw(folder->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_all(void)
{
    for (unsigned i = 0; i < n_made && getpid() == maker; i++) {
        folder_clear(&made[i]);
        rmdir(made[i].path);
    }
}

struct folder folder_make(void)
{
    const char *above = getenv("TMPDIR");
    struct folder folder;
    snprintf(folder.path, sizeof folder.path, "%.200s/evbus-test.XXXXXX", above != NULL ? above : "/tmp");
    cr_assert_not_null(mkdtemp(folder.path), "%s", folder.path);
    if (maker != getpid()) {
        maker = getpid();
        n_made = 0;
        atexit(remove_all);
    }
    cr_assert_lt(n_made, sizeof made / sizeof made[0]);
    made[n_made++] = folder;
    return folder;
}

static const char *wanted_ending;
static size_t n_counted;

static int count_one(const char *path, const struct stat *found, int kind, struct FTW *walk)
{
    size_t len = strlen(path), of_ending = strlen(wanted_ending);
    (void)found;
    (void)walk;
    if (kind == FTW_F && len >= of_ending && strcmp(path + len - of_ending, wanted_ending) == 0)
        n_counted++;
    return 0;
}

size_t folder_count(const struct folder *folder, const char *ending)
{
    wanted_ending = ending;
    n_counted = 0;
    nftw(folder->path, count_one, 16, FTW_PHYS);
    return n_counted;
}

void folder_put(const char *path, uint64_t at, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "r+b");
    if (file == NULL)
        file = fopen(path, "wb");
    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fseek(file, (long)at, SEEK_SET), 0);
    cr_assert_eq(fwrite(bytes, 1, len, file), len);
    cr_assert_eq(fclose(file), 0);
}

void folder_flip(const char *path, uint64_t at, uint8_t bits)
{
    FILE *file = fopen(path, "r+b");
    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fseek(file, (long)at, SEEK_SET), 0);
    int byte = fgetc(file);
    cr_assert_neq(byte, EOF, "%s has no byte %zu", path, (size_t)at);
    cr_assert_eq(fclose(file), 0);
    folder_put(path, at, &(uint8_t){(uint8_t)(byte ^ bits)}, 1);
}

size_t folder_len(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 ? (size_t)found.st_size : 0;
}

int folder_descriptors(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir != NULL && readdir(dir) != NULL)
        n++;
    if (dir != NULL)
        closedir(dir);
    return n;
}
