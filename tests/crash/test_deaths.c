/* Threads and processes that die in ways in which the kernel does not tell, or not to all: exec, process_mrelease, with forked
 * children alive. Others go on, and what can never be had again is retired. */
#include "await.h"
#include "child.h"
#include "town.h"
#include "trial.h"

#include "bus.h"
#include "hold.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif

#define END_S 60 /* who must outlive his parent ends by himself, if the test fails before it ends him */

static struct town *town;

/* The living: two that produce and consume, one of them a candidate for the keeper's seat, and two that are nothing else. */
enum { LIVING = 4, LIVING_THREADS = 7 };

static void live_there(struct child living[LIVING])
{
    uint32_t before = town_stat(town).n_slots;
    for (unsigned i = 0; i < 2; i++) {
        living[i] = town_bear(&(struct citizen){.town = town, .producer = i + 1, .member = i + 1, .keeper = i == 0});
        living[2 + i] = town_bear(&(struct citizen){.town = town, .keeper = true, .stays = true});
    }
    cr_assert(await_that(town_stat(town).n_slots == before + LIVING_THREADS));
    cr_assert(await_that(hold_slot(&town->f.bus->memory.control->seat) != 0));
    cr_assert(await_that(town->acked[1] > 20 && town->acked[2] > 20));
    town_goes_on(town, "the beginning");
}

/* --- exec ------------------------------------------------------------------------------------------------------------------ */

/* A thread with events in hand, and with them leases, and an open claim, runs another program. */
struct last {
    struct citizen citizen;
    bool is_leader; /* the thread that does it is the process's first */
    bool forks;     /* it has a forked child that lives on */
    struct evbus *bus;
    _Atomic uint64_t pos;
    _Atomic int step; /* 1: it has all of it; 2: it may go on; -1: it has failed */
    _Atomic int forked;
};

static void *take_all_and_execute(void *context)
{
    struct last *last = context;
    struct evbus_subscription *sub;
    struct bus_thread *thread;
    struct error err = {""};
    struct evbus_subscribe_options options = {.size = sizeof options, .group = "crew"};
    struct evbus_delivery got = {.size = sizeof got};
    unsigned member = last->citizen.member;
    if (evbus_subscribe(&sub, last->bus, &options) != EVBUS_OK || bus_thread(last->bus, &thread, &err) != EVBUS_OK) {
        last->step = -1;
        return NULL;
    }
    while (town->n_in_hand[member] < 3)
        if (evbus_receive(sub, &got, 20000000) == EVBUS_OK) {
            ledger_enter(town->ledger, member, &got);
            town->n_in_hand[member]++;
        }
    if (ring_claim(&last->bus->memory.logs[0].rings[0], 2, &thread->claim, &err) != EVBUS_OK) {
        last->step = -1;
        return NULL;
    }
    last->pos = thread->claim.pos;
    last->step = 1;
    await_that(last->step == 2);
    town_doom(&last->citizen);
    child_execute();
    last->step = -1;
    return NULL;
}

static int have_all_and_execute(void *context)
{
    struct last *last = context;
    pthread_t thread;
    last->bus = fixture_open(&town->f, "last", EVBUS_KEEPER_NEVER);
    if (last->forks) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(END_S);
            for (;;)
                pause();
        }
        last->forked = pid;
    }
    if (last->is_leader)
        take_all_and_execute(last);
    else if (pthread_create(&thread, NULL, take_all_and_execute, last) == 0)
        pthread_join(thread, NULL);
    return 90;
}

static void check_exec(bool is_leader, bool forks)
{
    struct child living[LIVING];
    town = town_make(4, "16KiB");
    struct last *last = child_shared(sizeof *last);
    last->is_leader = is_leader;
    last->forks = forks;
    live_there(living);
    struct ring *ring = &town->f.bus->memory.logs[0].rings[0];
    unsigned rounds = (unsigned)trial_count(5, 2);
    for (unsigned i = 0; i < rounds; i++) {
        last->citizen = (struct citizen){.town = town, .member = 10 + i};
        last->step = 0;
        last->forked = 0;
        struct child child = child_start(have_all_and_execute, last);
        cr_assert(await_that(last->step != 0));
        cr_assert_eq(last->step, 1);
        uint64_t start = await_now_ms();
        last->step = 2;
        cr_assert(await_that(ring_released(ring) > last->pos), "its claim holds the ring");
        fprintf(stderr, "its claim is over after %lu ms\n", (unsigned long)(await_now_ms() - start));
        town_goes_on(town, is_leader ? "exec by the leader" : "exec by another thread");
        cr_assert_eq(last->step, 2, "exec has failed");
        cr_assert(child_is_running(&child));
        cr_assert(await_that(town_stat(town).n_retired == (is_leader ? 0 : i + 1)), "%u slots are retired, not %u",
                  town_stat(town).n_retired, is_leader ? 0 : i + 1);
        child_kill(&child);
        if (last->forked != 0)
            kill(last->forked, SIGKILL);
    }
    town_end(town, living, LIVING);
}

Test(deaths, what_a_leader_had_that_runs_another_program_goes_to_others, .timeout = 120)
{ /* B6 [guards PROGRESS] */
    check_exec(true, false);
}

Test(deaths, what_another_thread_had_that_runs_a_program_goes_to_others, .timeout = 120)
{ /* B2 B4 [guards PROGRESS] [guards ONE-HOLDER] */
    check_exec(false, false);
}

Test(deaths, also_where_a_forked_child_lives_on, .timeout = 120)
{ /* B2 B4 */
    check_exec(false, true);
}

/* --- exec of the keeper ---------------------------------------------------------------------------------------------------- */

static _Atomic int *seat_step; /* 1: the keeper is elected; 2: it may go on */

/* In the keeper's own thread. */
static void execute_in_keeper(void *context, enum evbus_level level, const char *line)
{
    (void)context;
    (void)level;
    if (strstr(line, "state=elected") == NULL)
        return;
    *seat_step = 1;
    await_that(*seat_step == 2);
    child_execute();
}

static int keep_and_execute(void *context)
{
    struct evbus *bus;
    (void)context;
    int rc = evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                      .bus = town->f.name,
                                                      .service = "keeper",
                                                      .log = execute_in_keeper,
                                                      .log_level = EVBUS_LOG_DEBUG});
    if (rc != EVBUS_OK)
        return 90;
    for (;;)
        pause();
    return 0;
}

Test(deaths, the_seat_of_a_keeper_whose_thread_runs_a_program_is_taken_by_another, .timeout = 120)
{ /* B2 B9 [guards PROGRESS] */
    struct child living[LIVING];
    town = town_make(4, "16KiB");
    seat_step = child_shared(sizeof *seat_step);
    struct child keeper = child_start(keep_and_execute, NULL);
    cr_assert(await_that(*seat_step == 1));
    uint32_t first = hold_slot(&town->f.bus->memory.control->seat);
    cr_assert_neq(first, 0u);
    live_there(living);
    cr_assert_eq(hold_slot(&town->f.bus->memory.control->seat), first);
    uint64_t start = await_now_ms();
    *seat_step = 2;
    const _Atomic uint32_t *seat = &town->f.bus->memory.control->seat;
    cr_assert(await_that(hold_slot(seat) != first && hold_slot(seat) != 0), "nobody takes the seat");
    fprintf(stderr, "the seat is taken after %lu ms\n", (unsigned long)(await_now_ms() - start));
    cr_assert(child_is_running(&keeper), "exec has failed");
    cr_assert(await_that(town_stat(town).n_retired == 1));
    town_goes_on(town, "exec of the keeper");
    child_kill(&keeper);
    town_end(town, living, LIVING);
}

static int hold_admin_and_execute(void *context)
{
    struct last *last = context;
    struct evbus *bus = fixture_open(&town->f, "admin", EVBUS_KEEPER_NEVER);
    struct bus_thread *thread;
    if (bus_thread(bus, &thread, NULL) != EVBUS_OK ||
        !hold_take(&bus->memory.control->admin, bus->memory.control->slots, thread->claim.slot))
        return 90;
    last->step = 1;
    await_that(last->step == 2);
    child_execute();
    return 91;
}

static void *hold_admin_and_execute_here(void *context)
{
    hold_admin_and_execute(context);
    return NULL;
}

static int hold_admin_in_a_thread(void *context)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, hold_admin_and_execute_here, context) == 0 ? pthread_join(thread, NULL) : 92;
}

Test(deaths, who_waits_for_a_change_of_groups_goes_on_when_the_other_one_runs_a_program, .timeout = 60)
{ /* B2: nobody keeps this bus */
    town = town_make(1, "16KiB");
    struct last *last = child_shared(sizeof *last);
    struct child child = child_start(hold_admin_in_a_thread, last);
    cr_assert(await_that(last->step == 1));
    const char *patterns[] = {"test.a.two"};
    struct evbus_group_options options = {
        .size = sizeof options, .group = "new", .patterns = patterns, .n_patterns = 1};
    last->step = 2;
    cr_expect_eq(evbus_group_add(town->f.bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(evbus_group_remove(town->f.bus, "new"), EVBUS_OK, "%s", evbus_message(NULL));
    child_kill(&child);
    fixture_end(&town->f);
}

/* --- process_mrelease ------------------------------------------------------------------------------------------------------- */

enum { CROWD = 64 };

static void *publish_on(void *context)
{
    struct evbus *bus = context;
    for (;;) {
        evbus_publish(
            bus,
            &(struct evbus_event){
                .size = sizeof(struct evbus_event), .topic = "test.a.two", .payload = "1", .timeout_ns = 1000000000},
            NULL);
        await_pause();
    }
    return NULL;
}

/* 64 threads that publish on and on, and one that consumes, in one process. */
static int be_crowd(void *context)
{
    struct citizen *citizen = context;
    struct evbus *bus = fixture_open(&town->f, "crowd", EVBUS_KEEPER_NEVER);
    pthread_t thread;
    for (int i = 0; i < CROWD; i++)
        if (pthread_create(&thread, NULL, publish_on, bus) != 0)
            return 90;
    return town_live_on(citizen, bus);
}

/* Takes the memory of a process that has just been killed, as the user's out-of-memory killers do. */
static int kill_and_release(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return -errno;
    kill(pid, SIGKILL);
    long rc = syscall(SYS_process_mrelease, fd, 0);
    int number = rc == 0 || errno == ESRCH ? 0 : -errno; /* ESRCH: it had ended before */
    close(fd);
    return number;
}

Test(deaths, of_threads_whose_memory_is_taken_first_nothing_is_left_but_retired_slots, .timeout = 300)
{ /* B3 B4 [guards PROGRESS] */
    struct child living[LIVING];
    town = town_make(4, "64KiB");
    live_there(living);
    uint32_t at_home = town_stat(town).n_slots;
    uint64_t rounds = trial_count(10, 3); /* a lost slot is lost: at most 640 of 1023 */
    for (unsigned i = 0; i < rounds; i++) {
        struct citizen citizen = {.town = town, .member = 10 + i};
        struct child crowd = child_start(be_crowd, &citizen);
        cr_assert(await_that(town_stat(town).n_slots >= at_home + CROWD + 1 && town->n_in_hand[citizen.member] > 0));
        town_doom(&citizen);
        int rc = kill_and_release(crowd.pid);
        waitpid(crowd.pid, NULL, 0);
        if (rc == -ENOSYS)
            cr_skip_test("the kernel has no process_mrelease: B3 is not tested here");
        cr_assert_eq(rc, 0, "process_mrelease: %s", strerror(-rc));
        town_goes_on(town, "process_mrelease");
        cr_assert(await_that(town_stat(town).n_slots == at_home), "%u slots are taken, %u live here",
                  town_stat(town).n_slots, at_home);
    }
    fprintf(stderr, "process_mrelease: %u of %u slots were lost by the kernel, and are retired\n",
            town_stat(town).n_retired, (unsigned)rounds * (CROWD + 1));
    town_end(town, living, LIVING);
}

/* --- fork ------------------------------------------------------------------------------------------------------------------ */

struct parent {
    struct citizen citizen;
    bool executes; /* the child runs another program */
    _Atomic int forked;
};

static int live_with_a_child(void *context)
{
    struct parent *parent = context;
    struct evbus *bus = fixture_open(&town->f, "parent", EVBUS_KEEPER_NEVER);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(END_S);
        if (parent->executes) /* without a parent whose death ends it */
            execl("/bin/sleep", "sleep", "1000", (char *)NULL);
        for (;;)
            pause();
    }
    parent->forked = pid;
    return town_live_on(&parent->citizen, bus);
}

Test(deaths, a_killed_parent_is_dead_although_its_children_live, .timeout = 120)
{ /* B4 B8 */
    struct child living[LIVING];
    town = town_make(4, "64KiB");
    live_there(living);
    uint32_t at_home = town_stat(town).n_slots;
    struct parent *parent = child_shared(sizeof *parent);
    for (unsigned i = 0; i < 4; i++) {
        parent->citizen = (struct citizen){.town = town, .producer = 3 + i, .member = 10 + i};
        parent->executes = i % 2 != 0;
        struct child child = child_start(live_with_a_child, parent);
        cr_assert(await_that(town->acked[3 + i] > 20 && town->n_in_hand[10 + i] > 0));
        cr_assert_eq(kill(parent->forked, 0), 0);
        town_doom(&parent->citizen);
        child_kill(&child);
        town_goes_on(town, parent->executes ? "the death of a parent (fork, exec)" : "the death of a parent (fork)");
        cr_assert(await_that(town_stat(town).n_slots == at_home));
        cr_assert_eq(kill(parent->forked, 0), 0, "the child must be alive for this test");
        kill(parent->forked, SIGKILL);
    }
    cr_expect_eq(town_stat(town).n_retired, 0u);
    town_end(town, living, LIVING);
}
