/* test_region.c: an object is as large, as open and as private as asked for, or nothing of it is left behind.
 *
 * The calls that may fail are defined here, so the library calls ours: the n-th call of a test fails, for every n.
 * [no tsan] Children are forked, and mappings of one object at two addresses are compared. */
#include "region.h"

#include "child.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MIB     ((size_t)1 << 20)
#define NOBODY  65534

/* ---- faults ---- */

enum call { NONE, FCHMOD, FCHOWN, FALLOCATE, MADVISE };

static struct {
    enum call fails;
    int number; /* errno */
    int times;  /* how often; then it works */
    int n_calls;
} fault;

static bool is_failing(enum call call)
{
    if (fault.fails != call)
        return false;
    return fault.n_calls++ < fault.times;
}

int fchmod(int fd, mode_t mode)
{
    errno = fault.number;
    return is_failing(FCHMOD) ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

int fchown(int fd, uid_t owner, gid_t group)
{
    errno = fault.number;
    return is_failing(FCHOWN) ? -1 : (int)syscall(SYS_fchown, fd, owner, group);
}

int posix_fallocate(int fd, off_t offset, off_t len)
{
    if (is_failing(FALLOCATE))
        return fault.number;
    return syscall(SYS_fallocate, fd, 0, offset, len) == 0 ? 0 : errno;
}

int madvise(void *at, size_t len, int advice)
{
    errno = fault.number;
    return is_failing(MADVISE) ? -1 : (int)syscall(SYS_madvise, at, len, advice);
}

/* The name of an object of this test alone. */
static const char *own_name(const char *part)
{
    static char name[256];
    char bus[64];
    snprintf(bus, sizeof bus, "test-region-%d", (int)getpid());
    region_name(bus, part, name);
    return name;
}

static struct region created(const char *name, size_t len)
{
    struct region region;
    struct error err = {""};
    shm_unlink(name);
    int rc = region_create(&region, name, len, 0600, (gid_t)-1, &err);
    cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, err.text);
    return region;
}

static bool exists(const char *name)
{
    struct stat found;
    char path[300];
    snprintf(path, sizeof path, "/dev/shm%s", name);
    return stat(path, &found) == 0;
}

static int count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir != NULL && readdir(dir) != NULL)
        n++;
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* ---- names ---- */

Test(region, a_name_is_made_of_bus_and_part_and_never_overruns)
{
    char bus[300], part[300];
    struct {
        char name[256];
        char guard[8];
    } held;
    memset(bus, 'b', sizeof bus - 1);
    memset(part, 'p', sizeof part - 1);
    bus[sizeof bus - 1] = part[sizeof part - 1] = '\0';
    memset(held.guard, 0x7f, sizeof held.guard);
    region_name("lomash", "lomash.orders", held.name);
    cr_expect_str_eq(held.name, "/evbus.lomash.lomash.orders");
    region_name(bus, part, held.name);
    cr_expect_eq(strlen(held.name), 7 + 63 + 1 + 127);
    cr_expect_eq(held.guard[0], 0x7f);
}

/* ---- create and open ---- */

/* Later, a page that is missing would be a SIGBUS in some service. [R15] */
Test(region, every_page_of_a_new_object_is_there)
{
    static const size_t lens[] = {1, 4096, 4097, MIB, 3 * MIB + 5};
    for (size_t i = 0; i < N(lens); i++) {
        struct stat found;
        const char *name = own_name("pages");
        struct region region = created(name, lens[i]);
        cr_assert_eq(fstat(region.fd, &found), 0);
        cr_expect_eq((size_t)found.st_size, lens[i]);
        cr_expect_geq((size_t)found.st_blocks * 512, lens[i], "%zu bytes: %ld blocks", lens[i], (long)found.st_blocks);
        cr_expect_eq(region.len_bytes, lens[i]);
        for (size_t at = 0; at < lens[i]; at += 511)
            cr_assert_eq(((char *)region.base)[at], 0, "%zu", at);
        region_close(&region);
        shm_unlink(name);
    }
}

Test(region, mode_is_as_asked_whatever_the_umask)
{
    static const mode_t modes[] = {0600, 0660, 0666, 0640};
    static const mode_t masks[] = {0, 022, 077, 0777};
    for (size_t m = 0; m < N(modes); m++)
        for (size_t u = 0; u < N(masks); u++) {
            struct region region;
            struct error err = {""};
            struct stat found;
            const char *name = own_name("mode");
            shm_unlink(name);
            mode_t before = umask(masks[u]);
            int rc = region_create(&region, name, 4096, modes[m], (gid_t)-1, &err);
            umask(before);
            cr_assert_eq(rc, EVBUS_OK, "%s", err.text);
            cr_assert_eq(fstat(region.fd, &found), 0);
            cr_expect_eq(found.st_mode & 07777, modes[m], "mode %o umask %o: %o", modes[m], masks[u], found.st_mode);
            region_close(&region);
            shm_unlink(name);
        }
}

Test(region, group_is_as_asked)
{
    struct region region;
    struct error err = {""};
    struct stat found;
    const char *name = own_name("group");
    gid_t wanted = geteuid() == 0 ? NOBODY : getegid();
    shm_unlink(name);
    cr_assert_eq(region_create(&region, name, 4096, 0660, wanted, &err), EVBUS_OK, "%s", err.text);
    cr_assert_eq(fstat(region.fd, &found), 0);
    cr_expect_eq(found.st_gid, wanted);
    cr_expect_eq(found.st_mode & 07777, 0660);
    region_close(&region);
    shm_unlink(name);
}

Test(region, what_exists_is_not_made_again)
{
    const char *name = own_name("twice");
    struct region first = created(name, 4096);
    struct region second = REGION_NONE;
    struct error err = {""};
    strcpy(first.base, "mine");
    cr_expect_eq(region_create(&second, name, 8192, 0600, (gid_t)-1, &err), EVBUS_EDUPLICATE);
    cr_expect_not_null(strstr(err.text, name), "%s", err.text);
    cr_expect_null(second.base);
    cr_assert_eq(region_open(&second, name, 1, &err), EVBUS_OK, "%s", err.text);
    cr_expect_str_eq(second.base, "mine");
    cr_expect_eq(second.len_bytes, 4096);
    region_close(&first);
    region_close(&second);
    shm_unlink(name);
}

Test(region, two_mappings_of_it_are_the_same_memory)
{
    const char *name = own_name("same");
    struct region left = created(name, 2 * 4096);
    struct region right;
    struct error err = {""};
    cr_assert_eq(region_open(&right, name, 2 * 4096, &err), EVBUS_OK, "%s", err.text);
    cr_expect_neq(left.base, right.base);
    ((char *)left.base)[5000] = 'x';
    cr_expect_eq(((char *)right.base)[5000], 'x');
    region_prefault(&right);
    cr_expect_eq(((char *)right.base)[5000], 'x');
    region_close(&left);
    region_close(&right);
    shm_unlink(name);
}

Test(region, what_cannot_be_opened_says_why)
{
    const char *name = own_name("open");
    struct error err = {""};
    struct region region = {.len_bytes = 77, .fd = -1};
    shm_unlink(name);
    cr_expect_eq(region_open(&region, name, 1, &err), EVBUS_ENOBUS, "%s", err.text);
    struct region made = created(name, 4096);
    cr_expect_eq(region_open(&region, name, 4097, &err), EVBUS_ECORRUPT);
    cr_expect_not_null(strstr(err.text, "4096 bytes, 4097 are needed"), "%s", err.text);
    cr_assert_eq(ftruncate(made.fd, 0), 0);
    cr_expect_eq(region_open(&region, name, 1, &err), EVBUS_ECORRUPT, "%s", err.text);
    cr_expect_eq(region.len_bytes, 77, "the result is untouched on failure");
    region_close(&made);
    shm_unlink(name);
}

static int open_as_nobody(void *context)
{
    struct region region;
    struct error err = {""};
    if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        return 77;
    int rc = region_open(&region, context, 1, &err);
    return rc == EVBUS_EPERM && strstr(err.text, "group") != NULL ? 0 : 1;
}

Test(region, who_may_not_open_it_is_told_what_to_do)
{
    char name[256];
    strcpy(name, own_name("perm"));
    struct region region = created(name, 4096);
    struct child child = child_start(open_as_nobody, name);
    int status = child_join(&child);
    region_close(&region);
    shm_unlink(name);
    if (status == 77)
        cr_skip_test("needs root, to become somebody else");
    cr_expect_eq(status, 0);
}

Test(region, its_descriptor_is_closed_on_exec)
{
    const char *name = own_name("cloexec");
    struct region made = created(name, 4096), opened;
    struct error err = {""};
    cr_assert_eq(region_open(&opened, name, 1, &err), EVBUS_OK, "%s", err.text);
    cr_expect(fcntl(made.fd, F_GETFD) & FD_CLOEXEC);
    cr_expect(fcntl(opened.fd, F_GETFD) & FD_CLOEXEC);
    region_close(&made);
    region_close(&opened);
    shm_unlink(name);
}

/* Does /proc/self/maps show anything at this address? */
static int is_mapped(void *context)
{
    unsigned long at = (unsigned long)context, from, to;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    if (maps == NULL)
        return 2;
    int found = 0;
    while (fgets(line, sizeof line, maps) != NULL)
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && at >= from && at < to)
            found = 1;
    fclose(maps);
    return found;
}

/* A child that touched the bus would not be who its slot says. [B8] */
Test(region, a_forked_child_does_not_have_it)
{
    const char *name = own_name("fork");
    struct region region = created(name, 4096);
    cr_assert_eq(is_mapped(region.base), 1);
    struct child child = child_start(is_mapped, region.base);
    cr_expect_eq(child_join(&child), 0);
    region_close(&region);
    shm_unlink(name);
}

/* [R16] */
Test(region, it_is_noticed_when_its_name_is_gone)
{
    const char *name = own_name("gone");
    struct region region = created(name, 4096);
    cr_expect_not(region_is_unlinked(&region));
    shm_unlink(name);
    cr_expect(region_is_unlinked(&region));
    struct region other = created(name, 4096);
    cr_expect(region_is_unlinked(&region), "another object of that name is not ours");
    cr_expect_not(region_is_unlinked(&other));
    region_close(&region);
    region_close(&other);
    cr_expect_not(region_is_unlinked(&region), "a closed one says nothing");
    shm_unlink(name);
}

/* closefrom(3) closes it, and its number is another file's at the next open(). [B4] */
Test(region, a_descriptor_that_somebody_else_has_closed_is_not_trusted)
{
    const char *name = own_name("closed");
    struct region region = created(name, 4096);
    cr_expect(region_has_fd(&region));
    int other = memfd_create("other", 0), fd = -1; /* it has no name: as an object that was unlinked */
    cr_assert_eq(dup2(other, region.fd), region.fd);
    cr_expect_not(region_has_fd(&region));
    cr_expect_not(region_is_unlinked(&region), "that file has no name, but it is not ours");
    fd = region_descriptor(&region, name);
    cr_assert_geq(fd, 0, "the name leads there");
    struct stat found, ours;
    cr_expect(fstat(fd, &found) == 0 && found.st_ino == region.inode && found.st_dev == region.device);
    close(fd);
    shm_unlink(name);
    cr_expect_eq(region_descriptor(&region, name), -1);
    struct region next = created(name, 4096);
    cr_expect_eq(region_descriptor(&region, name), -1, "the name is another object's");
    struct error err = {""};
    cr_expect_eq(region_reopen(&region, name, &fd, &err), EVBUS_ESTALE);
    region_close(&next);
    int number = region.fd;
    region_close(&region);
    cr_expect_eq(fstat(number, &ours), 0, "what is not ours is not closed");
    shm_unlink(name);
}

Test(region, closing_frees_memory_and_descriptor_and_may_be_done_twice)
{
    const char *name = own_name("close");
    int before = count_fds();
    struct region region = created(name, MIB);
    void *base = region.base;
    region_close(&region);
    cr_expect_eq(is_mapped(base), 0);
    cr_expect_eq(count_fds(), before);
    region_close(&region);
    struct region none = REGION_NONE;
    region_close(&none);
    shm_unlink(name);
}

/* ---- faults ---- */

/* [R15] */
Test(region, when_a_step_fails_nothing_is_left_behind)
{
    static const struct {
        const char *label;
        enum call call;
        int number, code;
    } rows[] = {
        {"chmod", FCHMOD, EPERM, EVBUS_EPERM},
        {"chown", FCHOWN, EPERM, EVBUS_EPERM},
        {"no room", FALLOCATE, ENOSPC, EVBUS_ENOSPC},
        {"larger than a file may be", FALLOCATE, EFBIG, EVBUS_ENOSPC},
        {"an error of the file system", FALLOCATE, EIO, EVBUS_EIO},
        {"a kernel that cannot keep it from children", MADVISE, EINVAL, EVBUS_EIO},
    };
    for (size_t i = 0; i < N(rows); i++) {
        const char *name = own_name("fault");
        struct region region = {.len_bytes = 77, .fd = -1};
        struct error err = {""};
        int before = count_fds();
        shm_unlink(name);
        fault.fails = rows[i].call;
        fault.number = rows[i].number;
        fault.times = 1;
        fault.n_calls = 0;
        int rc = region_create(&region, name, 4096, 0600, getegid(), &err);
        fault.fails = NONE;
        cr_expect_eq(rc, rows[i].code, "%s: %d %s", rows[i].label, rc, err.text);
        cr_expect_not_null(strstr(err.text, strerror(rows[i].number)), "%s: %s", rows[i].label, err.text);
        cr_expect_not_null(strstr(err.text, name), "%s: %s", rows[i].label, err.text);
        cr_expect_not(exists(name), "%s: it is left behind", rows[i].label);
        cr_expect_eq(count_fds(), before, "%s: a descriptor is left open", rows[i].label);
        cr_expect_eq(region.len_bytes, 77, "%s: the result is untouched on failure", rows[i].label);
    }
}

/* posix_fallocate(3) may be interrupted by any signal of the caller, e.g. a profiler's timer. */
Test(region, a_signal_during_the_allocation_does_not_end_it)
{
    const char *name = own_name("signal");
    struct region region;
    struct error err = {""};
    shm_unlink(name);
    fault.fails = FALLOCATE;
    fault.number = EINTR;
    fault.times = 3;
    fault.n_calls = 0;
    int rc = region_create(&region, name, 4096, 0600, (gid_t)-1, &err);
    fault.fails = NONE;
    cr_expect_eq(rc, EVBUS_OK, "%d %s", rc, err.text);
    if (rc == EVBUS_OK)
        region_close(&region);
    shm_unlink(name);
}

enum { CANNOT = 77 };

/* In a mount namespace of our own /dev/shm has room for 1 MiB. */
static int fill_a_small_shm(void *context)
{
    struct region small, large = REGION_NONE;
    struct error err = {""};
    (void)context;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m") != 0)
        return CANNOT;
    if (region_create(&small, "/evbus.small.control", MIB / 2, 0600, (gid_t)-1, &err) != EVBUS_OK)
        return 1;
    if (region_create(&large, "/evbus.small.large", 2 * MIB, 0600, (gid_t)-1, &err) != EVBUS_ENOSPC)
        return 2;
    if (strstr(err.text, "larger") == NULL || strstr(err.text, "2097152 bytes") == NULL)
        return 3;
    if (exists("/evbus.small.large"))
        return 4;
    if (region_create(&large, "/evbus.small.large", MIB / 2, 0600, (gid_t)-1, &err) != EVBUS_OK)
        return 5; /* what the failed one took was given back */
    memset(small.base, 1, MIB / 2);
    memset(large.base, 1, MIB / 2);
    return 0;
}

/* [R15] */
Test(region, a_full_dev_shm_is_told_and_not_died_of)
{
    struct child child = child_start(fill_a_small_shm, NULL);
    int status = child_join(&child);
    if (status == CANNOT)
        cr_skip_test("needs a mount namespace of its own");
    cr_expect_eq(status, 0, "step %d", status);
}
