/* test_file.c: all of a file is read and written, or the failure is told by name and nothing is left behind.
 *
 * The n-th system call of a child fails, for every n (fault.h). Where a call must be interrupted again and again, or another process
 * must come in between, it is defined here, so the library calls ours.
 * [no tsan] Children are forked and traced. */
#include "file.h"

#include "allocations.h"
#include "child.h"
#include "fault.h"
#include "folder.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define NOBODY  65534

/* ---- calls of ours ---- */

enum call { NONE, OPEN, PWRITE, PREAD, FSYNC, FDATASYNC };

static enum call interrupted;
static int times;                   /* how often; then it works */
static size_t longest_write;        /* bytes at once; 0: any */
static bool writes_nothing;         /* pwrite() returns 0 */
static void (*before_rename)(void); /* what another process does then */

static bool is_interrupted(enum call call)
{
    errno = EINTR;
    return interrupted == call && times-- > 0;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return is_interrupted(OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    if (is_interrupted(PWRITE))
        return -1;
    if (writes_nothing)
        return 0;
    return syscall(SYS_pwrite64, fd, bytes, longest_write != 0 && len > longest_write ? longest_write : len, at);
}

ssize_t pread(int fd, void *bytes, size_t len, off_t at)
{
    return is_interrupted(PREAD) ? -1 : syscall(SYS_pread64, fd, bytes, len, at);
}

int fsync(int fd)
{
    return is_interrupted(FSYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return is_interrupted(FDATASYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int rename(const char *from, const char *to)
{
    void (*act)(void) = before_rename;
    before_rename = NULL;
    if (act != NULL)
        act();
    return (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}

/* ---- the desk ---- */

static struct folder folder;
static char path[FILE_PATH_MAX]; /* of a file in it */
static struct error err;

static void set_up(void)
{
    folder = folder_make();
    file_path(path, folder.path, "it");
}

TestSuite(file, .init = set_up);

static bool holds(const char *text)
{
    char *bytes = NULL;
    size_t len = 0;
    bool is_so = file_read_all(path, 4096, &bytes, &len, &err) == EVBUS_OK && strcmp(bytes, text) == 0;
    free(bytes);
    return is_so;
}

/* ---- paths, codes ---- */

Test(file, a_path_is_folder_and_name_and_never_overruns)
{
    char long_name[2 * FILE_PATH_MAX];
    struct {
        char path[FILE_PATH_MAX];
        char guard[8];
    } held;
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    memset(held.guard, 0x7f, sizeof held.guard);
    file_path(held.path, "/var/lib/evbus", "bus");
    cr_expect_str_eq(held.path, "/var/lib/evbus/bus");
    file_path(held.path, "/var", long_name);
    cr_expect_eq(strlen(held.path), FILE_PATH_MAX - 1);
    file_path(held.path, long_name, "bus");
    cr_expect_eq(strlen(held.path), FILE_PATH_MAX - 1);
    cr_expect_eq(held.guard[0], 0x7f);
}

Test(file, a_failure_names_the_file_the_call_and_what_helps)
{
    static const struct {
        const char *label;
        int number, code;
        const char *mend;
    } rows[] = {
        {"a full disk", ENOSPC, EVBUS_ENOSPC, "free space there"},
        {"a quota", EDQUOT, EVBUS_ENOSPC, "free space there"},
        {"a limit on files", EFBIG, EVBUS_ENOSPC, "free space there"},
        {"no memory", ENOMEM, EVBUS_ENOSPC, "free memory"},
        {"no descriptor", EMFILE, EVBUS_ENOSPC, "ulimit -n"},
        {"no descriptor on the host", ENFILE, EVBUS_ENOSPC, "fs.file-max"},
        {"not allowed", EACCES, EVBUS_EPERM, "group"},
        {"not permitted", EPERM, EVBUS_EPERM, "group"},
        {"a disk for reading only", EROFS, EVBUS_EPERM, "remount it"},
        {"not there", ENOENT, EVBUS_ENOTFOUND, ""},
        {"there already", EEXIST, EVBUS_EDUPLICATE, ""},
        {"a broken disk", EIO, EVBUS_EIO, ""},
    };
    for (size_t i = 0; i < N(rows); i++) {
        cr_expect_eq(file_failed(&err, "/some/file", "cannot do it", rows[i].number), rows[i].code, "%s",
                     rows[i].label);
        cr_expect_not_null(strstr(err.text, "/some/file: cannot do it: "), "%s: %s", rows[i].label, err.text);
        cr_expect_not_null(strstr(err.text, strerror(rows[i].number)), "%s: %s", rows[i].label, err.text);
        cr_expect_not_null(strstr(err.text, rows[i].mend), "%s: %s", rows[i].label, err.text);
    }
}

/* ---- bytes ---- */

Test(file, what_is_written_is_read_back_from_any_offset)
{
    char read[64] = "";
    size_t len = 77;
    int fd;
    cr_assert_eq(file_open(path, O_RDWR | O_CREAT, &fd, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(file_write(fd, path, "behind", 6, 5000, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(file_write(fd, path, "", 0, 9000, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(file_sync(fd, path, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(folder_len(path), 5006, "nothing is written where there is nothing to write");
    cr_expect_eq(file_read(fd, path, read, sizeof read, 5002, &len, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(len, 4, "as much as is there");
    cr_expect_str_eq(read, "hind");
    cr_expect_eq(file_read(fd, path, read, sizeof read, 6000, &len, &err), EVBUS_OK);
    cr_expect_eq(len, 0, "behind the end there is nothing");
    cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
}

Test(file, what_is_copied_stands_at_the_same_place_and_a_file_that_ends_before_is_told)
{
    static char bytes[3 << 20], read[sizeof bytes];
    char other[FILE_PATH_MAX];
    size_t len;
    int from, to;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7 + i / 1000);
    file_path(other, folder.path, "other");
    cr_assert_eq(file_open(path, O_RDWR | O_CREAT, &from, &err), EVBUS_OK, "%s", err.text);
    cr_assert_eq(file_open(other, O_RDWR | O_CREAT, &to, &err), EVBUS_OK, "%s", err.text);
    cr_assert_eq(file_write(from, path, bytes, sizeof bytes, 0, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(file_copy(from, path, to, other, 1000, sizeof bytes - 5, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(folder_len(other), sizeof bytes - 5);
    cr_expect_eq(file_read(to, other, read, sizeof read, 0, &len, &err), EVBUS_OK);
    cr_expect_eq(memcmp(read + 1000, bytes + 1000, sizeof bytes - 1005), 0);
    cr_expect(read[0] == 0 && memcmp(read, read + 1, 999) == 0, "nothing is written before");
    cr_expect_eq(file_copy(from, path, to, other, 50, 50, &err), EVBUS_OK, "nothing is as well as something");
    cr_expect_eq(file_copy(from, path, to, other, 0, sizeof bytes + 1, &err), EVBUS_EIO);
    cr_expect_not_null(strstr(err.text, "it has been cut at 3145728"), "%s", err.text);
    close(from);
    close(to);
}

Test(file, a_write_goes_on_until_all_is_there)
{
    static const size_t longest[] = {1, 2, 7, 29, 30};
    for (size_t i = 0; i < N(longest); i++) {
        longest_write = longest[i];
        cr_expect_eq(file_replace(path, "thirty bytes, in small pieces.", 30, &err), EVBUS_OK, "%s", err.text);
        cr_expect(holds("thirty bytes, in small pieces."), "at most %zu at once", longest[i]);
    }
}

Test(file, a_write_that_writes_nothing_is_a_failure_and_no_endless_loop)
{
    writes_nothing = true;
    cr_expect_eq(file_replace(path, "text", 4, &err), EVBUS_EIO);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
    cr_expect_eq(folder_count(&folder, ""), 0);
}

/* A profiler's timer, for one. */
Test(file, a_signal_is_no_failure)
{
    static const struct {
        const char *label;
        enum call call;
    } rows[] = {{"open", OPEN}, {"pwrite", PWRITE}, {"pread", PREAD}, {"fdatasync", FDATASYNC}, {"fsync", FSYNC}};
    for (size_t i = 0; i < N(rows); i++) {
        interrupted = rows[i].call;
        times = 3;
        cr_expect_eq(file_replace(path, rows[i].label, strlen(rows[i].label), &err), EVBUS_OK, "%s: %s", rows[i].label,
                     err.text);
        cr_expect(holds(rows[i].label), "%s: %s", rows[i].label, err.text);
        cr_expect_lt(times, 0, "%s: it was not called", rows[i].label);
    }
}

/* ---- modes ---- */

Test(file, a_new_file_has_its_folders_mode_and_group_whatever_the_umask)
{
    static const struct {
        mode_t folder, umask, file;
    } rows[] = {{0700, 0, 0600},    {0770, 077, 0660}, {0777, 0777, 0666}, {0750, 022, 0640},
                {02770, 022, 0660}, {01777, 0, 0666},  {0500, 0, 0400}};
    gid_t group = geteuid() == 0 ? NOBODY : getegid();
    for (size_t i = 0; i < N(rows); i++) {
        struct stat found = {0};
        char inner[FILE_PATH_MAX];
        int fd = -1;
        if (geteuid() != 0 && (rows[i].folder & 0200) == 0)
            continue;
        folder_clear(&folder);
        file_path(inner, folder.path, "inner");
        cr_assert_eq(mkdir(inner, 0700), 0);
        cr_assert_eq(chown(inner, (uid_t)-1, group), 0);
        cr_assert_eq(chmod(inner, rows[i].folder), 0);
        file_path(path, inner, "it");
        mode_t before = umask(rows[i].umask);
        int rc = file_open(path, O_WRONLY | O_CREAT, &fd, &err);
        umask(before);
        cr_assert_eq(rc, EVBUS_OK, "%s", err.text);
        cr_assert_eq(fstat(fd, &found), 0);
        close(fd);
        cr_expect_eq(found.st_mode & 07777, rows[i].file, "%o: %o", rows[i].folder, found.st_mode);
        cr_expect_eq(found.st_gid, group, "%o", rows[i].folder);
    }
}

/* ---- replace ---- */

Test(file, what_is_replaced_is_the_new_bytes_alone)
{
    cr_expect_eq(file_replace(path, "a longer text", 13, &err), EVBUS_OK, "%s", err.text);
    cr_expect(holds("a longer text"));
    cr_expect_eq(file_replace(path, "short", 5, &err), EVBUS_OK, "%s", err.text);
    cr_expect(holds("short"));
    cr_expect_eq(file_replace(path, "", 0, &err), EVBUS_OK, "%s", err.text);
    cr_expect(holds(""));
    cr_expect_eq(folder_count(&folder, ""), 1, "no other file is left");
}

static void replace_as_another(void)
{
    struct error of_another = {""};
    cr_expect_eq(file_replace(path, "another's", 9, &of_another), EVBUS_OK, "%s", of_another.text);
}

/* Two handles of one process, or two containers: each has a process 1. */
Test(file, two_that_replace_it_at_once_under_one_process_number_do_not_meet)
{
    before_rename = replace_as_another;
    cr_expect_eq(file_replace(path, "ours", 4, &err), EVBUS_OK, "%s", err.text);
    cr_expect(holds("ours"), "who is last wins, with all bytes");
    cr_expect_eq(folder_count(&folder, ""), 1);
}

Test(file, a_path_that_is_too_long_is_refused)
{
    char too_long[FILE_PATH_MAX];
    memset(too_long, 'p', sizeof too_long - 1);
    too_long[0] = '/';
    too_long[sizeof too_long - 1] = '\0';
    cr_expect_eq(file_replace(too_long, "text", 4, &err), EVBUS_EINVAL);
    cr_expect_not_null(strstr(err.text, "511 bytes; 500 at most"), "%s", err.text);
}

/* What a child with a fault says. */
struct outcome {
    int rc;
    int n_descriptors; /* more than before */
    struct error err;
};
static struct outcome *outcome;

static int run_with_fault(int (*act)(struct error *err))
{
    int before = folder_descriptors();
    outcome->err.text[0] = '\0';
    fault_begin();
    outcome->rc = act(&outcome->err);
    fault_end();
    outcome->n_descriptors = folder_descriptors() - before;
    return 0;
}

/* What holds after any fault; EINTR and a short call are none. */
static void expect_told(const struct fault *fault, int status)
{
    const char *error = fault->error == FAULT_SHORT ? "short" : strerror(fault->error);
    bool is_harmless = fault->error == FAULT_SHORT || (fault->error == EINTR && strcmp(fault->call, "close") != 0);
    cr_expect_eq(status, 0, "%s %u (%s): status %d", fault->call, fault->nth, error, status);
    cr_expect_eq(outcome->n_descriptors, 0, "%s %u (%s): a descriptor is left open", fault->call, fault->nth, error);
    if (is_harmless)
        cr_expect_eq(outcome->rc, EVBUS_OK, "%s %u (%s): %s", fault->call, fault->nth, error, outcome->err.text);
    if (outcome->rc != EVBUS_OK)
        cr_expect_not_null(strstr(outcome->err.text, folder.path), "%s %u (%s): \"%s\"", fault->call, fault->nth, error,
                           outcome->err.text);
}

static void arrange_old(void *context)
{
    (void)context;
    folder_put(path, 0, "old", 3);
    cr_assert_eq(truncate(path, 3), 0);
}

static int replace_by_new(struct error *of_child)
{
    return file_replace(path, "newer", 5, of_child);
}

static int act_replace(void *context)
{
    (void)context;
    return run_with_fault(replace_by_new);
}

static void check_replaced(void *context, const struct fault *fault, int status)
{
    (void)context;
    expect_told(fault, status);
    cr_expect(holds("newer") || (outcome->rc != EVBUS_OK && holds("old")), "%s %u: neither old nor new", fault->call,
              fault->nth);
    cr_expect_eq(folder_count(&folder, ""), 1, "%s %u (%s): a draft is left behind", fault->call, fault->nth,
                 strerror(fault->error));
}

Test(file, whatever_fails_it_is_old_or_new_and_nothing_is_left_behind)
{
    outcome = child_shared(sizeof *outcome);
    if (fault_each(&(struct fault_case){arrange_old, act_replace, check_replaced, NULL}) == 0)
        cr_skip_test("needs ptrace");
}

static int replace_traced(void *context)
{
    struct error of_child;
    (void)context;
    fault_begin();
    return -file_replace(path, "newer", 5, &of_child);
}

Test(file, whoever_is_killed_while_replacing_it_leaves_the_old_one_or_the_new)
{
    if (!FAULT_WORKS || getenv("EVBUS_SLOW") != NULL)
        cr_skip_test("needs ptrace");
    unsigned n = 1;
    for (bool was_killed = true; was_killed; n++) {
        arrange_old(NULL);
        was_killed = child_kill_at_call(replace_traced, NULL, n);
        cr_expect(holds("newer") || (was_killed && holds("old")), "killed at call %u", n);
    }
    cr_expect_gt(n, 10, "%u calls: the test has lost its point", n);
}

/* ---- read all ---- */

Test(file, all_of_it_is_read_up_to_a_limit)
{
    char *bytes = NULL;
    size_t len = 77;
    cr_expect_eq(file_read_all(path, 10, &bytes, &len, &err), EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
    folder_put(path, 0, "12345\0 789", 10);
    cr_assert_eq(file_read_all(path, 10, &bytes, &len, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(len, 10);
    cr_expect_arr_eq(bytes, "12345\0 789", 11, "with a NUL behind it");
    free(bytes);
    bytes = NULL;
    len = 77;
    cr_expect_eq(file_read_all(path, 9, &bytes, &len, &err), EVBUS_ECORRUPT);
    cr_expect_not_null(strstr(err.text, "10 bytes, more than 9"), "%s", err.text);
    cr_expect_eq(len, 77, "the result is untouched on failure");
    cr_expect_eq(file_read_all(folder.path, 1 << 20, &bytes, &len, &err), EVBUS_EIO, "a folder is no file: %s",
                 err.text);
    cr_expect_null(bytes);
}

Test(file, without_memory_it_is_not_read_and_stays_closed)
{
    char *bytes = NULL;
    size_t len = 77;
    folder_put(path, 0, "text", 4);
    int before = folder_descriptors();
    if (!CAN_FAIL_ALLOCATIONS)
        cr_skip_test("needs allocations that fail");
    fail_allocation(1);
    int rc = file_read_all(path, 10, &bytes, &len, &err);
    fail_allocation(0);
    cr_expect_eq(rc, EVBUS_ENOSPC, "%d", rc);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
    cr_expect_eq(folder_descriptors(), before);
}

/* ---- folders ---- */

Test(file, a_folder_is_made_with_those_above_it)
{
    struct stat found;
    char above[FILE_PATH_MAX], inner[FILE_PATH_MAX];
    gid_t group = geteuid() == 0 ? NOBODY : getegid();
    file_path(above, folder.path, "a");
    file_path(inner, folder.path, "a/b/c");
    mode_t before = umask(0077);
    int rc = file_make_folder(inner, 0770, group, &err);
    umask(before);
    cr_assert_eq(rc, EVBUS_OK, "%s", err.text);
    cr_assert_eq(stat(inner, &found), 0);
    cr_expect_eq(found.st_mode & 07777, 0770);
    cr_expect_eq(found.st_gid, group);
    cr_assert_eq(stat(above, &found), 0);
    cr_expect_eq(found.st_mode & 07777, 0755);
    cr_expect_eq(file_make_folder(inner, 0700, (gid_t)-1, &err), EVBUS_OK, "it is there: %s", err.text);
    cr_assert_eq(stat(inner, &found), 0);
    cr_expect_eq(found.st_mode & 07777, 0770, "and stays as it is");
}

Test(file, a_file_where_a_folder_must_be_is_named)
{
    char inner[FILE_PATH_MAX];
    folder_put(path, 0, "text", 4);
    file_path(inner, path, "inner");
    cr_expect_eq(file_make_folder(path, 0700, (gid_t)-1, &err), EVBUS_EIO);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
    cr_expect_eq(file_make_folder(inner, 0700, (gid_t)-1, &err), EVBUS_EIO);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
}

Test(file, names_of_a_folder_that_is_not_there_cannot_be_synced)
{
    cr_expect_eq(file_sync_folder(path, &err), EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
}

static void arrange_nothing(void *context)
{
    (void)context;
    folder_clear(&folder);
}

static int make_one(struct error *of_child)
{
    return file_make_folder(path, 0750, getegid(), of_child);
}

static int act_make_folder(void *context)
{
    (void)context;
    return run_with_fault(make_one);
}

static void check_made(void *context, const struct fault *fault, int status)
{
    struct stat found = {0};
    (void)context;
    expect_told(fault, status);
    cr_expect_eq(make_one(&err), EVBUS_OK, "%s %u: %s", fault->call, fault->nth, err.text);
    cr_expect_eq(stat(path, &found), 0);
    cr_expect_eq(found.st_mode & 07777, 0750, "%s %u (%s): done again, it has mode %o", fault->call, fault->nth,
                 strerror(fault->error), found.st_mode & 07777);
}

Test(file, a_folder_that_could_not_be_made_as_asked_is_made_anew_the_next_time)
{
    outcome = child_shared(sizeof *outcome);
    if (fault_each(&(struct fault_case){arrange_nothing, act_make_folder, check_made, NULL}) == 0)
        cr_skip_test("needs ptrace");
}
