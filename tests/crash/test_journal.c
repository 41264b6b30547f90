/* test_journal.c: whoever keeps is killed or stopped at whatever instruction of its work on the files: another one goes on at once, or
 * after a second; each event that was acknowledged stands there once, whole, at its position. [guards DURABLE] [guards PROGRESS] */
#include "archive.h"
#include "await.h"
#include "child.h"
#include "clock.h"
#include "hold.h"
#include "sanitizer.h"
#include "step.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A child that keeps, until it is told to end. */
struct keeping {
    struct archive archive;
    _Atomic bool is_over;
};

static int keep(void *context)
{
    struct keeping *keeping = context;
    struct evbus *bus = archive_open(&keeping->archive, true);
    if (bus == NULL)
        return 1;
    while (!atomic_load(&keeping->is_over))
        await_pause();
    evbus_close(bus);
    return 0;
}

static uint32_t keeper_of(const struct evbus *bus)
{
    return hold_slot(&bus->memory.control->seat);
}

static struct keeping *keeping_make(const char *settings)
{
    struct keeping *keeping = child_shared(sizeof *keeping);
    keeping->archive = archive_make((struct archive_options){.settings = settings});
    return keeping;
}

static void end(struct keeping *keeping)
{
    evbus_close(keeping->archive.bus);
    evbus_remove(keeping->archive.name);
}

Test(journal, goes_on_after_a_second_where_its_keeper_is_stopped, .timeout = 60)
{
    struct keeping *keeping = keeping_make("\"ack\":\"disk\",");
    struct evbus *bus = keeping->archive.bus;
    struct child first = child_start(keep, keeping);
    cr_assert(await_that(keeper_of(bus) != 0));
    cr_assert_eq(archive_publish(bus, "test.a.one", 0, 100), EVBUS_OK, "%s", evbus_message(bus));
    uint32_t stopped = keeper_of(bus);
    struct child second = child_start(keep, keeping);
    child_stop(&first);
    uint64_t start = clock_mono_ns();
    cr_assert_eq(archive_publish(bus, "test.a.one", 1, 100), EVBUS_OK, "%s", evbus_message(bus));
    uint64_t took = clock_mono_ns() - start;
    cr_expect_neq(keeper_of(bus), stopped);
    cr_expect_gt(took, CLOCK_NS_PER_S / 2, "a second of patience");
    fprintf(stderr, "deposed after %lu ms\n", (unsigned long)(took / CLOCK_NS_PER_MS));
    for (unsigned i = 2; i < 50; i++)
        cr_assert_eq(archive_publish(bus, "test.a.one", i, 100), EVBUS_OK, "%s", evbus_message(bus));
    child_continue(&first); /* does no harm, and lets go */
    for (unsigned i = 50; i < 100; i++)
        cr_assert_eq(archive_publish(bus, "test.a.one", i, 100), EVBUS_OK, "%s", evbus_message(bus));
    cr_expect_eq(archive_read(bus, NULL), 100);
    atomic_store(&keeping->is_over, true);
    cr_expect_eq(child_join(&first), 0);
    cr_expect_eq(child_join(&second), 0);
    end(keeping);
}

Test(journal, goes_on_at_once_where_its_keeper_is_killed, .timeout = 120)
{
    struct keeping *keeping = keeping_make("\"ack\":\"disk\",");
    struct evbus *bus = keeping->archive.bus;
    unsigned n = 0;
    struct child one = child_start(keep, keeping);
    for (int round = 0; round < 20; round++) {
        struct child other = child_start(keep, keeping);
        cr_assert(await_that(keeper_of(bus) != 0));
        for (int i = 0; i < 20; i++, n++)
            cr_assert_eq(archive_publish(bus, "test.a.one", n, 100), EVBUS_OK, "%s", evbus_message(bus));
        uint64_t start = clock_mono_ns();
        child_kill(&one);
        cr_assert_eq(archive_publish(bus, "test.a.one", n++, 100), EVBUS_OK, "%s", evbus_message(bus));
        cr_expect_lt(clock_mono_ns() - start, 5 * CLOCK_NS_PER_S);
        one = other;
    }
    cr_expect_eq(archive_read(bus, NULL), n);
    atomic_store(&keeping->is_over, true);
    cr_expect_eq(child_join(&one), 0);
    end(keeping);
}

Test(journal, has_no_keeper_that_may_not_write_its_folder, .timeout = 60)
{
    struct keeping *keeping = keeping_make(NULL);
    struct evbus *bus = keeping->archive.bus;
    if (geteuid() != 0) {
        end(keeping);
        cr_skip_test("needs root, to become somebody else");
    }
    cr_assert_eq(chmod(keeping->archive.folder.path, 0755), 0);
    char command[700];
    snprintf(command, sizeof command, "chmod -R o+rX %s && chmod o+rw /dev/shm/evbus.%s.*",
             keeping->archive.folder.path, keeping->archive.name);
    cr_assert_eq(system(command), 0);
    struct child child;
    child.pid = fork();
    if (child.pid == 0) /* it dies with us: who becomes somebody else must say so again */
        _exit(setgid(65534) != 0 || setuid(65534) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ? 9 : keep(keeping));
    const struct control *control = bus->memory.control;
    cr_assert(await_that(atomic_load(&control->publishers) >= 2), "it is attached");
    uint64_t until = clock_mono_ns() + CLOCK_NS_PER_S;
    while (clock_mono_ns() < until) {
        cr_assert_eq(keeper_of(bus), 0);
        await_pause();
    }
    atomic_store(&keeping->is_over, true);
    cr_expect_eq(child_join(&child), 0);
    end(keeping);
}

/* --- at every instruction ------------------------------------------------------------------------------------------------------ */

struct stepped {
    struct archive archive;
    struct step_ours at;
    uint32_t number;          /* of its term */
    bool is_killed;           /* there; else stopped */
    _Atomic uint64_t n_steps; /* of our own instructions, where it went through */
};

static bool kill_in_ours(void *context, uint64_t n, uintptr_t pc)
{
    struct step_ours *at = context;
    (void)n;
    if (step_is_ours(pc) && ++at->n == at->wanted)
        raise(SIGKILL);
    return true;
}

/* Appends, syncs, goes to the next file, saves its marks: what a keeper does. */
static int write_stepped(void *context)
{
    struct stepped *stepped = context;
    struct evbus *bus = archive_open(&stepped->archive, false);
    struct writer *writer = NULL;
    struct error err = {""};
    if (bus == NULL || writer_open(&writer, &bus->memory, &bus->log, stepped->number, &err) != EVBUS_OK)
        return 1;
    step_begin(stepped->is_killed ? kill_in_ours : step_stop_in_ours, &stepped->at);
    archive_look(writer);
    writer_end(writer);
    step_end();
    atomic_store(&stepped->n_steps, stepped->at.n);
    return 0;
}

static bool is_stopped(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return true;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 0;
    fclose(file);
    return state == 'T' || state == 'Z' || state == 'X';
}

/* One try. true: it ended before that instruction. */
static bool try_at(struct stepped *stepped, uint64_t wanted, unsigned n_events)
{
    struct evbus *bus = stepped->archive.bus;
    struct ring *ring = archive_ring(bus, "test.a");
    stepped->at = (struct step_ours){.wanted = wanted};
    atomic_store(&stepped->n_steps, 0);
    stepped->number += 2;
    for (unsigned i = 0; i < 6; i++) /* something to do, across the ring's end now and then */
        cr_assert_eq(archive_publish(bus, "test.a.one", n_events + i, 700 + (n_events * 37 + i * 113) % 1500), EVBUS_OK,
                     "%s", evbus_message(bus));
    n_events += 6;
    struct child child = child_start(write_stepped, stepped);
    cr_assert(await_that(is_stopped(child.pid)), "step %lu", (unsigned long)wanted);
    bool is_through = atomic_load(&stepped->n_steps) != 0;
    struct writer *next = archive_writer(bus, stepped->number + 1);
    cr_assert_neq(archive_look(next), WRITER_DEPOSED);
    cr_assert_eq(writer_sync_all(next), WRITER_WROTE);
    cr_assert_eq(ring_synced(ring), ring_tail(ring), "step %lu", (unsigned long)wanted);
    if (!stepped->is_killed)
        child_continue(&child);
    int status = child_join(&child);
    cr_assert_eq(status, stepped->is_killed && !is_through ? 128 + SIGKILL : 0, "step %lu: %d", (unsigned long)wanted,
                 status);
    cr_assert_eq(ring_synced(ring), ring_tail(ring));
    cr_assert_eq(archive_read(bus, NULL), n_events, "step %lu", (unsigned long)wanted);
    writer_close(next);
    return is_through;
}

static void try_all(bool is_killed)
{
    struct stepped *stepped = child_shared(sizeof *stepped);
    stepped->archive = archive_make((struct archive_options){0});
    stepped->is_killed = is_killed;
    unsigned n = 0;
    bool is_quick = HAS_SANITIZER || getenv("EVBUS_QUICK") != NULL || getenv("EVBUS_SLOW") != NULL;
    uint64_t stride = HAS_SANITIZER ? 29989 : is_quick ? 2999 : getenv("EVBUS_SOAK") != NULL ? 29 : 251;
    for (uint64_t wanted = 1; STEP_WORKS; wanted += stride, n++)
        if (try_at(stepped, wanted, n * 6))
            break;
    fprintf(stderr, "%s at %u of %lu instructions\n", is_killed ? "killed" : "stopped", n,
            (unsigned long)atomic_load(&stepped->n_steps));
    if (STEP_WORKS)
        cr_expect_gt(n, is_quick ? 1u : 20u);
    evbus_close(stepped->archive.bus);
    evbus_remove(stepped->archive.name);
}

Test(journal, of_a_keeper_that_is_killed_at_any_instruction_is_whole, .timeout = 300)
{
    try_all(true);
}

Test(journal, of_a_keeper_that_is_stopped_at_any_instruction_and_wakes_late_is_whole, .timeout = 300)
{
    try_all(false);
}
