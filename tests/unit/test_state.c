/* test_state.c: a bus remembers in one folder, which one of that name has, and who makes memory from it is alone.
 *
 * Locks are tried from other processes. Where another process must come in between, or another user must be asked, the call is
 * defined here, so the library calls ours.
 * [no tsan] Children are forked and traced. */
#include "state.h"

#include "await.h"
#include "child.h"
#include "fault.h"
#include "folder.h"
#include "frame.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N(rows)    (sizeof(rows) / sizeof(rows)[0])
#define NOBODY     65534
#define SLOT_BYTES 512
#define CRC_AT     508 /* in a slot, as the format says */

/* ---- calls of ours ---- */

static bool is_lying;          /* access(): it is not there */
static uid_t user = (uid_t)-1; /* geteuid(); -1: who we are */

int access(const char *path, int mode)
{
    errno = ENOENT;
    return is_lying ? -1 : (int)syscall(SYS_faccessat, AT_FDCWD, path, mode);
}

uid_t geteuid(void)
{
    return user != (uid_t)-1 ? user : (uid_t)syscall(SYS_geteuid);
}

/* ---- the desk ---- */

static const struct state_identity first_life = {.uuid = "0123456789abcde", .incarnation = 1};
static struct folder above;
static char folder[FILE_PATH_MAX]; /* of the bus */
static char bus[FILE_PATH_MAX];    /* its file */
static struct error err;

static void set_up(void)
{
    above = folder_make();
    file_path(folder, above.path, "lomash");
    file_path(bus, folder, "bus");
}

TestSuite(state, .init = set_up);

static struct state created(mode_t mode)
{
    struct state state;
    int rc = state_create(&state, folder, &first_life, mode, (gid_t)-1, &err);
    cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, err.text);
    return state;
}

static int open_as(bool alone)
{
    struct state state;
    struct state_identity identity;
    int rc = state_open(&state, folder, alone, &identity, &err);
    if (rc == EVBUS_OK)
        state_close(&state);
    return rc;
}

/* The incarnation that the folder tells, or a code. */
static int told(void)
{
    struct state state;
    struct state_identity identity = first_life;
    int rc = state_open(&state, folder, false, &identity, &err);
    if (rc != EVBUS_OK)
        return rc;
    state_close(&state);
    return (int)identity.incarnation;
}

/* ---- which folder ---- */

Test(state, its_folder_is_the_first_of_those_that_are_set)
{
    static const struct {
        const char *label, *dir, *xdg, *home;
        uid_t user;
        const char *folder; /* NULL: refused */
    } rows[] = {
        {"all set", "/data", "/xdg", "/home/me", 7, "/data/lomash"},
        {"all set, root", "/data", "/xdg", "/root", 0, "/data/lomash"},
        {"root", NULL, "/xdg", "/root", 0, "/var/lib/evbus/lomash"},
        {"a directory that is empty", "", "/xdg", "/home/me", 7, "/xdg/evbus/lomash"},
        {"XDG", NULL, "/xdg", "/home/me", 7, "/xdg/evbus/lomash"},
        {"XDG that is empty", NULL, "", "/home/me", 7, "/home/me/.local/state/evbus/lomash"},
        {"XDG that is relative", NULL, "xdg", "/home/me", 7, "/home/me/.local/state/evbus/lomash"},
        {"home", NULL, NULL, "/home/me", 7, "/home/me/.local/state/evbus/lomash"},
        {"home that is relative", NULL, NULL, "me", 7, NULL},
        {"none", NULL, NULL, NULL, 7, NULL},
    };
    for (size_t i = 0; i < N(rows); i++) {
        char out[FILE_PATH_MAX] = "";
        (void)(rows[i].dir != NULL ? setenv("EVBUS_STATE_DIR", rows[i].dir, 1) : unsetenv("EVBUS_STATE_DIR"));
        (void)(rows[i].xdg != NULL ? setenv("XDG_STATE_HOME", rows[i].xdg, 1) : unsetenv("XDG_STATE_HOME"));
        (void)(rows[i].home != NULL ? setenv("HOME", rows[i].home, 1) : unsetenv("HOME"));
        user = rows[i].user;
        int rc = state_folder("lomash", out, &err);
        cr_expect_eq(rc, rows[i].folder != NULL ? EVBUS_OK : EVBUS_EINVAL, "%s: %d", rows[i].label, rc);
        if (rows[i].folder != NULL)
            cr_expect_str_eq(out, rows[i].folder, "%s: %s", rows[i].label, out);
        else
            cr_expect_not_null(strstr(err.text, "EVBUS_STATE_DIR"), "%s: %s", rows[i].label, err.text);
    }
}

Test(state, a_folder_that_is_relative_is_told_from_the_root_on)
{
    char out[FILE_PATH_MAX];
    cr_assert_eq(chdir("/usr"), 0);
    setenv("EVBUS_STATE_DIR", "state", 1);
    cr_assert_eq(state_folder("lomash", out, &err), EVBUS_OK, "%s", err.text);
    cr_expect_str_eq(out, "/usr/state/lomash");
}

Test(state, a_folder_leaves_room_for_what_is_below_it)
{
    char dir[FILE_PATH_MAX], out[FILE_PATH_MAX];
    for (size_t len = 240; len < 260; len++) { /* with "/lomash" 7 more */
        memset(dir, 'd', len);
        dir[0] = '/';
        dir[len] = '\0';
        setenv("EVBUS_STATE_DIR", dir, 1);
        int rc = state_folder("lomash", out, &err);
        cr_expect_eq(rc, len + 7 <= 255 ? EVBUS_OK : EVBUS_EINVAL, "%zu bytes: %d", len + 7, rc);
        if (rc != EVBUS_OK)
            cr_expect_not_null(strstr(err.text, "255 at most"), "%s", err.text);
    }
}

/* ---- make, open ---- */

Test(state, what_was_made_is_opened_as_the_same_bus)
{
    struct state state = created(0600), opened;
    struct state_identity identity = {.incarnation = 0};
    state_close(&state);
    cr_assert_eq(state_open(&opened, folder, false, &identity, &err), EVBUS_OK, "%s", err.text);
    cr_expect_arr_eq(identity.uuid, first_life.uuid, sizeof identity.uuid);
    cr_expect_eq(identity.incarnation, 1);
    cr_expect_str_eq(opened.folder, folder);
    cr_expect_not_null(opened.lock);
    state_close(&opened);
    cr_expect_null(opened.lock);
    state_close(&opened); /* fine twice */
}

Test(state, there_is_none_before_it_is_made)
{
    struct state state = {.lock = folder};
    struct state_identity identity;
    cr_expect_eq(state_open(&state, folder, false, &identity, &err), EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(err.text, folder), "%s", err.text);
    cr_expect_eq(state.lock, folder, "the result is untouched on failure");
}

Test(state, a_second_one_of_a_name_is_not_made)
{
    struct state state = created(0600), second;
    cr_expect_eq(state_create(&second, folder, &first_life, 0600, (gid_t)-1, &err), EVBUS_EDUPLICATE);
    cr_expect_not_null(strstr(err.text, folder), "%s", err.text);
    state_close(&state);
    cr_expect_eq(state_create(&second, folder, &first_life, 0600, (gid_t)-1, &err), EVBUS_EDUPLICATE, "in use or not");
    cr_expect_eq(told(), 1, "the first is as it was");
}

/* Both have looked, and it was not there. */
Test(state, of_two_that_make_it_at_once_one_is_told_that_it_is_there)
{
    struct state state = created(0600), second;
    is_lying = true;
    cr_expect_eq(state_create(&second, folder, &first_life, 0600, (gid_t)-1, &err), EVBUS_EDUPLICATE, "%s", err.text);
    is_lying = false;
    state_close(&state);
    cr_expect_eq(told(), 1, "the first one's is not removed");
}

Test(state, folder_and_file_are_as_open_as_the_memory_is)
{
    static const struct {
        mode_t memory, folder, file;
    } rows[] = {{0600, 0700, 0600}, {0660, 0770, 0660}, {0666, 0777, 0666}, {0640, 0750, 0640}};
    gid_t group = geteuid() == 0 ? NOBODY : getegid();
    for (size_t i = 0; i < N(rows); i++) {
        struct state state;
        struct stat found = {0};
        folder_clear(&above);
        mode_t before = umask(0077);
        int rc = state_create(&state, folder, &first_life, rows[i].memory, group, &err);
        umask(before);
        cr_assert_eq(rc, EVBUS_OK, "%s", err.text);
        state_close(&state);
        cr_assert_eq(stat(folder, &found), 0);
        cr_expect_eq(found.st_mode & 07777, rows[i].folder, "%o: a folder of %o", rows[i].memory, found.st_mode);
        cr_expect_eq(found.st_gid, group, "%o", rows[i].memory);
        cr_assert_eq(stat(bus, &found), 0);
        cr_expect_eq(found.st_mode & 07777, rows[i].file, "%o: a file of %o", rows[i].memory, found.st_mode);
        cr_expect_eq(found.st_gid, group, "%o", rows[i].memory);
    }
}

static int is_writable_as_nobody(void *context)
{
    const struct state *state = context;
    if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        return 77;
    return state_is_writable(state) ? 1 : 0;
}

/* [J7] */
Test(state, who_may_write_there_is_its_owner_and_its_group)
{
    static const struct {
        mode_t mode;
        gid_t group;
        int nobody_may;
    } rows[] = {{0600, 0, 0}, {0660, 0, 0}, {0660, NOBODY, 1}, {0640, NOBODY, 0}, {0666, 0, 1}};
    if (geteuid() != 0)
        cr_skip_test("needs root, to become somebody else");
    cr_assert_eq(chmod(above.path, 0755), 0);
    for (size_t i = 0; i < N(rows); i++) {
        struct state state;
        folder_clear(&above);
        cr_assert_eq(state_create(&state, folder, &first_life, rows[i].mode, rows[i].group, &err), EVBUS_OK);
        cr_expect(state_is_writable(&state));
        struct child child = child_start(is_writable_as_nobody, &state);
        cr_expect_eq(child_join(&child), rows[i].nobody_may, "mode %o group %d", rows[i].mode, (int)rows[i].group);
        state_close(&state);
    }
}

/* ---- the lock ---- */

static int open_in_child(void *context)
{
    const bool *alone = context;
    return -open_as(*alone);
}

static int from_a_child(bool alone)
{
    struct child child = child_start(open_in_child, &alone);
    return -child_join(&child);
}

Test(state, one_alone_or_many_together)
{
    static const struct {
        const char *label;
        bool holder, asker; /* alone? */
        int code;
    } rows[] = {
        {"a member beside a member", false, false, EVBUS_OK},
        {"alone beside a member", false, true, EVBUS_EBUSY},
        {"a member beside one alone", true, false, EVBUS_EBUSY},
        {"alone beside one alone", true, true, EVBUS_EBUSY},
    };
    struct state state = created(0600);
    state_close(&state);
    for (size_t i = 0; i < N(rows); i++) {
        struct state_identity identity;
        cr_assert_eq(state_open(&state, folder, rows[i].holder, &identity, &err), EVBUS_OK, "%s", err.text);
        cr_expect_eq(from_a_child(rows[i].asker), rows[i].code, "%s", rows[i].label);
        cr_expect_eq(open_as(rows[i].asker), rows[i].code, "%s, in one process", rows[i].label);
        if (rows[i].code != EVBUS_OK)
            cr_expect_not_null(strstr(err.text, folder), "%s: %s", rows[i].label, err.text);
        state_close(&state);
        cr_expect_eq(from_a_child(true), EVBUS_OK, "%s: it is free again", rows[i].label);
    }
}

Test(state, its_maker_is_alone_until_it_shares)
{
    struct state state = created(0600);
    cr_expect_eq(from_a_child(false), EVBUS_EBUSY);
    cr_assert_eq(state_share(&state, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(from_a_child(false), EVBUS_OK);
    cr_expect_eq(from_a_child(true), EVBUS_EBUSY, "it is a member now");
    state_close(&state);
}

Test(state, who_cannot_share_has_no_lock)
{
    struct state state = created(0600);
    cr_assert_eq(unlink(bus), 0);
    cr_expect_eq(state_share(&state, &err), EVBUS_ENOTFOUND, "%s", err.text);
    cr_expect_null(state.lock);
    state_close(&state);
}

static int live_on(void *context)
{
    atomic_bool *has_begun = context;
    atomic_store(has_begun, true);
    while (pause() != 0)
        ;
    return 0;
}

/* A child that lives on, as a daemon's, would keep the lock of a parent that has ended. [B4] */
Test(state, a_forked_child_does_not_inherit_it)
{
    atomic_bool *has_begun = child_shared(sizeof *has_begun);
    struct state state = created(0600);
    struct child child = child_start(live_on, has_begun);
    cr_assert(await_that(atomic_load(has_begun)));
    state_close(&state);
    cr_expect_eq(open_as(true), EVBUS_OK, "%s", err.text);
    child_kill(&child);
}

static int close_all(void *context)
{
    struct state state;
    struct state_identity identity;
    if (state_open(&state, folder, true, &identity, &err) != EVBUS_OK)
        return 1;
    closefrom(3);
    return live_on(context);
}

/* [B4] */
Test(state, closing_all_descriptors_does_not_free_it_and_death_does)
{
    atomic_bool *has_begun = child_shared(sizeof *has_begun);
    struct state state = created(0600);
    state_close(&state);
    struct child child = child_start(close_all, has_begun);
    cr_assert(await_that(atomic_load(has_begun)));
    cr_expect_eq(open_as(false), EVBUS_EBUSY);
    child_kill(&child);
    cr_expect_eq(open_as(true), EVBUS_OK, "%s", err.text);
}

Test(state, it_takes_no_descriptor)
{
    int before = folder_descriptors();
    struct state state = created(0600);
    cr_expect_eq(folder_descriptors(), before);
    state_close(&state);
    cr_expect_eq(folder_descriptors(), before);
}

static int forget_in_child(void *context)
{
    struct state *state = context;
    state_forget(state);
    state_close(state);
    return state->lock == NULL ? 0 : 1;
}

Test(state, a_forked_child_forgets_what_it_has_not)
{
    struct state state = created(0600);
    struct child child = child_start(forget_in_child, &state);
    cr_expect_eq(child_join(&child), 0);
    cr_expect_eq(from_a_child(true), EVBUS_EBUSY, "the parent has it still");
    state_close(&state);
}

/* ---- lives ---- */

static struct state with_lives(unsigned n)
{
    struct state state = created(0600);
    struct state_identity identity = first_life;
    for (unsigned i = 1; i < n; i++)
        cr_assert_eq(state_count_up(&state, &identity, &err), EVBUS_OK, "%s", err.text);
    cr_assert_eq(identity.incarnation, n);
    return state;
}

Test(state, each_life_counts_one_up)
{
    for (unsigned n = 1; n < 7; n++) {
        folder_clear(&above);
        struct state state = with_lives(n);
        state_close(&state);
        cr_expect_eq(told(), (int)n);
    }
}

/* Lives 2 and 3 are in the slots 0 and 1. */
Test(state, a_torn_slot_is_passed_over)
{
    struct state state = with_lives(3);
    state_close(&state);
    for (uint64_t at = 0; at < SLOT_BYTES; at++)
        for (unsigned slot = 0; slot < 2; slot++) {
            uint8_t bits = (uint8_t)(1u << at % 8);
            folder_flip(bus, slot * SLOT_BYTES + at, bits);
            cr_expect_eq(told(), slot == 0 ? 3 : 2, "byte %zu of slot %u", (size_t)at, slot);
            folder_flip(bus, slot * SLOT_BYTES + at, bits);
        }
}

Test(state, with_both_slots_damaged_it_is_never_used)
{
    struct state state = with_lives(3);
    state_close(&state);
    folder_flip(bus, 100, 1);
    folder_flip(bus, SLOT_BYTES + 100, 1);
    cr_expect_eq(told(), EVBUS_ECORRUPT);
    cr_expect_not_null(strstr(err.text, bus), "%s", err.text);
    cr_expect_eq(open_as(true), EVBUS_ECORRUPT, "and stays unlocked");
}

Test(state, a_file_that_was_cut_tells_what_is_left_of_it)
{
    struct state state = with_lives(2); /* 2 in slot 0, 1 in slot 1 */
    state_close(&state);
    for (int len = 2 * SLOT_BYTES; len >= 0; len--) {
        cr_assert_eq(truncate(bus, len), 0);
        cr_expect_eq(told(), len >= SLOT_BYTES ? 2 : EVBUS_ECORRUPT, "%d bytes", len);
    }
}

Test(state, a_newer_format_is_told)
{
    struct state state = created(0600);
    char slot[SLOT_BYTES];
    state_close(&state);
    FILE *file = fopen(bus, "rb");
    cr_assert_not_null(file);
    cr_assert_eq(fseek(file, SLOT_BYTES, SEEK_SET), 0);
    cr_assert_eq(fread(slot, 1, sizeof slot, file), sizeof slot);
    fclose(file);
    memcpy(slot + 8, &(uint32_t){2}, 4);
    memset(slot + CRC_AT, 0, 4);
    memcpy(slot + CRC_AT, &(uint32_t){frame_crc(slot, sizeof slot)}, 4);
    folder_put(bus, SLOT_BYTES, slot, sizeof slot);
    cr_expect_eq(told(), EVBUS_ELAYOUT);
    cr_expect_not_null(strstr(err.text, "format 2"), "%s", err.text);
}

/* ---- the end ---- */

Test(state, all_of_it_is_removed_and_nothing_else)
{
    char path[FILE_PATH_MAX], outside[FILE_PATH_MAX];
    struct state state = created(0600);
    state_close(&state);
    file_path(outside, above.path, "outside");
    cr_assert_eq(mkdir(outside, 0700), 0);
    file_path(path, outside, "kept");
    folder_put(path, 0, "text", 4);
    file_path(path, folder, "lomash.orders/0");
    cr_assert_eq(file_make_folder(path, 0700, (gid_t)-1, &err), EVBUS_OK);
    file_path(path, path, "0000000000000000.seg");
    folder_put(path, 0, "cells", 5);
    file_path(path, folder, "elsewhere");
    cr_assert_eq(symlink(outside, path), 0);
    cr_expect_eq(state_remove(folder, &err), EVBUS_OK, "%s", err.text);
    cr_expect_neq(access(folder, F_OK), 0);
    cr_expect_eq(folder_count(&above, ""), 1, "what a link leads to is not its own");
    cr_expect_eq(state_remove(folder, &err), EVBUS_OK, "fine where there is none: %s", err.text);
}

/* Whoever was killed at a remove, or before the name of what it made. */
Test(state, what_the_dead_have_left_is_cleared_and_nothing_else)
{
    char path[FILE_PATH_MAX], draft[FILE_PATH_MAX];
    static const char *const folders[] = {"lomash.removed-7", "lomash.removed-7/a/0", "lomash2.removed-7", "lomash"};
    for (size_t i = 0; i < N(folders); i++) {
        file_path(path, above.path, folders[i]);
        cr_assert_eq(file_make_folder(path, 0700, (gid_t)-1, &err), EVBUS_OK);
        file_path(path, path, "file");
        if (i < 3)
            folder_put(path, 0, "text", 4);
    }
    file_path(draft, folder, "bus.abcdef.tmp");
    folder_put(draft, 0, "text", 4);
    int fd = open(draft, O_RDONLY | O_CLOEXEC);
    cr_assert_eq(flock(fd, LOCK_EX), 0);
    state_clear(folder);
    cr_expect_eq(folder_count(&above, ""), 2, "the other bus's, and a draft whose maker lives");
    cr_expect_eq(access(draft, F_OK), 0);
    close(fd);
    state_clear(folder);
    cr_expect_neq(access(folder, F_OK), 0);
    struct state state = created(0600);
    state_close(&state);
    state_clear(folder);
    cr_expect_eq(told(), 1, "a bus is not touched");
}

Test(state, a_folder_of_somebody_else_is_not_removed)
{
    char path[FILE_PATH_MAX];
    cr_assert_eq(mkdir(folder, 0700), 0);
    file_path(path, folder, "letters");
    folder_put(path, 0, "text", 4);
    cr_expect_eq(state_remove(folder, &err), EVBUS_OK);
    cr_expect_eq(folder_count(&above, "letters"), 1);
}

Test(state, who_uses_what_was_removed_keeps_a_lock_that_nobody_meets)
{
    struct state state = created(0600), next;
    cr_expect_eq(state_remove(folder, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(state_create(&next, folder, &first_life, 0600, (gid_t)-1, &err), EVBUS_OK, "%s", err.text);
    state_close(&state);
    cr_expect_eq(from_a_child(false), EVBUS_EBUSY, "the next one's lock is its own");
    state_close(&next);
}

/* ---- faults ---- */

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

static void expect_told(const struct fault *fault, int status)
{
    cr_expect_eq(status, 0, "%s %u: status %d", fault->call, fault->nth, status);
    cr_expect_eq(outcome->n_descriptors, 0, "%s %u: a descriptor is left open", fault->call, fault->nth);
    if (fault->error == FAULT_SHORT || fault->error == EINTR)
        cr_expect_eq(outcome->rc, EVBUS_OK, "%s %u: %s", fault->call, fault->nth, outcome->err.text);
    if (outcome->rc != EVBUS_OK)
        cr_expect_not_null(strstr(outcome->err.text, above.path), "%s %u: \"%s\"", fault->call, fault->nth,
                           outcome->err.text);
}

static void arrange_nothing(void *context)
{
    (void)context;
    folder_clear(&above);
}

static int create(struct error *of_child)
{
    struct state state;
    int rc = state_create(&state, folder, &first_life, 0660, getegid(), of_child);
    if (rc == EVBUS_OK)
        state_close(&state);
    return rc;
}

static int act_create(void *context)
{
    (void)context;
    return run_with_fault(create);
}

static void check_created(void *context, const struct fault *fault, int status)
{
    struct stat found = {0};
    (void)context;
    expect_told(fault, status);
    unsigned n_drafts = strcmp(fault->call, "unlink") == 0 ? 1 : 0; /* it could not be removed */
    cr_expect_eq(folder_count(&above, ".tmp"), n_drafts, "%s %u (%d): drafts", fault->call, fault->nth, fault->error);
    cr_expect_eq(folder_count(&above, "/bus"), outcome->rc == EVBUS_OK ? 1 : 0, "%s %u (%d): %d %s", fault->call,
                 fault->nth, fault->error, outcome->rc, outcome->err.text);
    if (outcome->rc != EVBUS_OK)
        cr_expect_eq(create(&err), EVBUS_OK, "%s %u: not the next time, either: %s", fault->call, fault->nth, err.text);
    cr_expect_eq(told(), 1, "%s %u", fault->call, fault->nth);
    cr_expect_eq(stat(folder, &found), 0);
    cr_expect_eq(found.st_mode & 07777, 0770, "%s %u: mode %o", fault->call, fault->nth, found.st_mode & 07777);
}

Test(state, whatever_fails_while_it_is_made_it_is_made_the_next_time)
{
    outcome = child_shared(sizeof *outcome);
    if (fault_each(&(struct fault_case){arrange_nothing, act_create, check_created, NULL}) == 0)
        cr_skip_test("needs ptrace");
}

static int create_traced(void *context)
{
    struct error of_child;
    (void)context;
    fault_begin();
    return -create(&of_child);
}

Test(state, whoever_is_killed_while_making_it_leaves_a_bus_or_none)
{
    if (!FAULT_WORKS || getenv("EVBUS_SLOW") != NULL)
        cr_skip_test("needs ptrace");
    unsigned n = 1;
    for (bool was_killed = true; was_killed; n++) {
        folder_clear(&above);
        was_killed = child_kill_at_call(create_traced, NULL, n);
        int life = told();
        cr_expect(life == 1 || (was_killed && life == EVBUS_ENOTFOUND), "killed at call %u: %d %s", n, life, err.text);
        int rc = create(&err);
        cr_expect_eq(rc, life == 1 ? EVBUS_EDUPLICATE : EVBUS_OK, "killed at call %u: %d %s", n, rc, err.text);
    }
    cr_expect_gt(n, 10, "%u calls: the test has lost its point", n);
}

static void arrange_first_life(void *context)
{
    (void)context;
    folder_clear(&above);
    struct state state = created(0600);
    state_close(&state);
}

static int count_up(struct error *of_child)
{
    struct state state;
    struct state_identity identity;
    int rc = state_open(&state, folder, true, &identity, of_child);
    if (rc != EVBUS_OK)
        return rc;
    rc = state_count_up(&state, &identity, of_child);
    state_close(&state);
    if (rc != EVBUS_OK && identity.incarnation != 1)
        _exit(1); /* it must be untouched on failure */
    return rc;
}

static int act_count_up(void *context)
{
    (void)context;
    return run_with_fault(count_up);
}

static void check_counted_up(void *context, const struct fault *fault, int status)
{
    (void)context;
    expect_told(fault, status);
    int life = told();
    cr_expect(life == 2 || (life == 1 && outcome->rc != EVBUS_OK), "%s %u: life %d", fault->call, fault->nth, life);
}

Test(state, whatever_fails_while_it_is_counted_up_it_is_this_life_or_the_next)
{
    outcome = child_shared(sizeof *outcome);
    if (fault_each(&(struct fault_case){arrange_first_life, act_count_up, check_counted_up, NULL}) == 0)
        cr_skip_test("needs ptrace");
}
