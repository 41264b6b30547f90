/* test_backup.c: a backup whose maker dies at any system call, or meets a failure at any: a copy is whole or not there, and the
 * next one is made. The copies are on a tmpfs: each is synced, and there are some hundred. */
#include "archive.h"
#include "await.h"
#include "child.h"
#include "fault.h"

#include <evbus/history.h>

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_EVENTS 1500 /* three files of the first log */

static struct {
    struct archive archive;
    char above[64];
    char whole[80];  /* a copy that nothing happened to */
    char copies[80]; /* where others are made */
} scene;

static void shell(const char *format, ...)
{
    char command[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    cr_assert_eq(system(command), 0, "%s", command);
}

static int backup(struct evbus *bus, const char *dir)
{
    return evbus_backup(bus, &(struct evbus_backup_options){.size = sizeof(struct evbus_backup_options), .dir = dir});
}

static void arrange(void)
{
    scene.archive = archive_make((struct archive_options){.keeper = true});
    snprintf(scene.above, sizeof scene.above, "/dev/shm/evbus-test-backup.XXXXXX");
    cr_assert_not_null(mkdtemp(scene.above));
    snprintf(scene.whole, sizeof scene.whole, "%s/whole", scene.above);
    snprintf(scene.copies, sizeof scene.copies, "%s/copies", scene.above);
    for (unsigned i = 0; i < N_EVENTS; i++)
        cr_assert_eq(archive_publish(scene.archive.bus, "test.a.one", i, 300), EVBUS_OK);
    cr_assert_eq(backup(scene.archive.bus, scene.whole), EVBUS_OK, "%s", evbus_message(scene.archive.bus));
}

static unsigned n_names(const char *path)
{
    unsigned n = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.';
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* DIR/<bus> is there, and then it is whole. */
static bool is_whole(void)
{
    char command[400];
    snprintf(command, sizeof command, "%s/%s", scene.copies, scene.archive.name);
    if (access(command, F_OK) != 0)
        return false;
    snprintf(command, sizeof command, "diff -r %s/%s %s/%s >&2", scene.whole, scene.archive.name, scene.copies,
             scene.archive.name);
    cr_assert_eq(system(command), 0, "%s", command);
    return true;
}

/* What is whole brings the bus back. */
static void end(void)
{
    evbus_close(scene.archive.bus);
    archive_forget_memory(&scene.archive);
    setenv("EVBUS_STATE_DIR", scene.whole, 1);
    scene.archive.bus = archive_open(&scene.archive, false);
    cr_assert_not_null(scene.archive.bus, "%s", evbus_message(NULL));
    cr_expect_eq(archive_read(scene.archive.bus, NULL), N_EVENTS);
    evbus_close(scene.archive.bus);
    evbus_remove(scene.archive.name);
    shell("rm -rf %s", scene.above);
}

/* 0: done. 3: refused, and why is told. */
static int make_copy(void *context)
{
    (void)context;
    struct evbus *bus = NULL;
    struct evbus_options nobody = {.size = sizeof nobody, .bus = scene.archive.name, .keeper = EVBUS_KEEPER_NEVER};
    if (evbus_open(&bus, &nobody) != EVBUS_OK) /* each service that opens is counted, in the copy, too */
        return 4;
    fault_begin();
    int rc = backup(bus, scene.copies);
    fault_end();
    bool is_told = strlen(evbus_message(bus)) > 10;
    evbus_close(bus);
    return rc == EVBUS_OK ? 0 : is_told ? 3 : 5;
}

Test(backup, is_whole_or_not_there_wherever_its_maker_is_killed_and_the_next_one_clears_it_away, .timeout = 600)
{
    arrange();
    unsigned n_killed = 0, n_whole = 0;
    unsigned step = getenv("EVBUS_QUICK") != NULL ? 7 : 1;
    for (unsigned k = 1; FAULT_WORKS && getenv("EVBUS_SLOW") == NULL; k += step) {
        shell("rm -rf %s", scene.copies);
        if (!child_kill_at_call(make_copy, NULL, k))
            break;
        n_killed++;
        if (is_whole()) {
            n_whole++;
            continue;
        }
        cr_assert_eq(backup(scene.archive.bus, scene.copies), EVBUS_OK, "killed at call %u: %s", k,
                     evbus_message(scene.archive.bus));
        cr_assert(is_whole(), "killed at call %u", k);
        cr_assert_eq(n_names(scene.copies), 1, "killed at call %u: the draft is still there", k);
    }
    fprintf(stderr, "killed at %u calls, whole behind %u of them\n", n_killed, n_whole);
    if (FAULT_WORKS && getenv("EVBUS_SLOW") == NULL)
        cr_expect_gt(n_killed, 200 / step);
    end();
}

static void clear(void *context)
{
    (void)context;
    shell("rm -rf %s", scene.copies);
}

static void check(void *context, const struct fault *fault, int status)
{
    (void)context;
    if (status == 0) {
        cr_expect(is_whole(), "%s, error %d, call %u: EVBUS_OK, and nothing is there", fault->call, fault->error,
                  fault->nth);
        cr_expect_eq(n_names(scene.copies), 1, "%s, error %d, call %u", fault->call, fault->error, fault->nth);
    } else {
        cr_expect_eq(status, 3, "%s, error %d, call %u: %d", fault->call, fault->error, fault->nth, status);
        cr_expect_eq(n_names(scene.copies), 0, "%s, error %d, call %u: something is left", fault->call, fault->error,
                     fault->nth);
    }
}

Test(backup, is_whole_or_nothing_is_left_whichever_of_its_calls_fails, .timeout = 1000)
{
    arrange();
    unsigned n = fault_each(&(struct fault_case){clear, make_copy, check, NULL});
    fprintf(stderr, "%u faults\n", n);
    end();
}
