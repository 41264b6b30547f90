/* Where users live: in PID namespaces with equal thread ids, in processes that close all their descriptors, in more threads than
 * there are slots, many at once; held by a debugger, frozen by a cgroup. */
#include "await.h"
#include "child.h"
#include "load.h"
#include "town.h"
#include "trial.h"

#include "bus.h"
#include "hold.h"
#include "slot.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct town *town;

static void await_ms(uint64_t ms)
{
    for (uint64_t until = await_now_ms() + ms; await_now_ms() < until;)
        await_pause();
}

/* --- PID namespaces -------------------------------------------------------------------------------------------------------- */

enum { SPACES = 3, SPACE_THREADS = 3 };

/* A process that is number 1 where it lives, as its main thread's id is, too. */
struct space {
    struct citizen citizen;
    _Atomic int pid;     /* as we see it */
    _Atomic int refused; /* errno: a namespace of its own is not to be had */
};

static int live_in_space(void *context)
{
    struct space *space = context;
    if (unshare(CLONE_NEWPID) != 0) {
        space->refused = errno;
        return 0;
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(town_live(&space->citizen));
    }
    space->pid = pid;
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static struct child bear_in_space(struct space *space, uint32_t producer, unsigned member)
{
    space->pid = 0;
    space->citizen = (struct citizen){.town = town, .producer = producer, .member = member, .keeper = true};
    uint32_t before = town_stat(town).n_slots;
    struct child child = child_start(live_in_space, space);
    cr_assert(await_that(space->refused != 0 ||
                         (town->acked[producer] > 20 && town_stat(town).n_slots >= before + SPACE_THREADS)));
    if (space->refused != 0) {
        child_join(&child);
        fixture_end(&town->f);
        cr_skip_test("no PID namespaces here (%s): B5 is not tested", strerror(space->refused));
    }
    return child;
}

/* Threads that are attached, and the pairs of them with one id. */
static unsigned count_namesakes(void)
{
    unsigned n = 0;
    struct evbus_stat stat = town_stat(town);
    for (uint32_t i = 0; i < stat.n_slots; i++)
        for (uint32_t j = 0; j < i; j++)
            n += stat.slots[i].tid == stat.slots[j].tid;
    return n;
}

Test(places, namesakes_in_other_pid_namespaces_are_taken_for_who_they_are, .timeout = 120)
{ /* B5 [guards ONE-WRITER] */
    town = town_make(4, "64KiB");
    struct space *spaces = child_shared(SPACES * sizeof *spaces);
    struct child children[SPACES];
    unsigned n_members = 0, n_namesakes = 0;
    for (uint32_t i = 0; i < SPACES; i++)
        children[i] = bear_in_space(&spaces[i], i + 1, ++n_members);
    town_goes_on(town, "the beginning");
    uint32_t at_home = town_stat(town).n_slots;
    unsigned rounds = (unsigned)trial_count(5, 2);
    for (unsigned round = 0; round < rounds; round++) {
        unsigned victim = round % SPACES; /* the keeper of the first round is one of them */
        n_namesakes += count_namesakes();
        town_doom(&spaces[victim].citizen);
        uint32_t producer = 4 + round;
        cr_assert_eq(kill(spaces[victim].pid, SIGKILL), 0);
        cr_assert_eq(child_join(&children[victim]), 128 + SIGKILL);
        cr_assert(await_that(town_stat(town).n_slots == at_home - SPACE_THREADS), "the dead are not buried");
        town_goes_on(town, "the end of a namespace");
        children[victim] = bear_in_space(&spaces[victim], producer, ++n_members);
        cr_assert(await_that(town_stat(town).n_slots == at_home), "%u slots are taken, not %u", town_stat(town).n_slots,
                  at_home);
    }
    cr_assert_gt(n_namesakes, 0u, "no two threads had the same id: this test has lost its point");
    cr_expect_eq(town_stat(town).n_retired, 0u);
    town_end(town, children, SPACES);
}

/* --- descriptors ----------------------------------------------------------------------------------------------------------- */

enum { OTHERS = 64 };

struct closer {
    struct citizen citizen;
    _Atomic int step; /* 1: it has closed all; 2: it may end */
};

static void *close_all_at_once(void *context)
{
    struct closer *closer = context;
    await_that(town->acked[closer->citizen.producer] > 20);
    syscall(SYS_close_range, 3u, ~0u, 0u);
    for (int i = 0; i < OTHERS; i++) /* files without a name, under the numbers that ours had */
        if (memfd_create("other", 0) != 3 + i)
            return NULL;
    closer->step = 1;
    return NULL;
}

static int live_without_descriptors(void *context)
{
    struct closer *closer = context;
    pthread_t thread;
    struct stat found;
    if (pthread_create(&thread, NULL, close_all_at_once, closer) != 0)
        return 90;
    int rc = town_live(&closer->citizen);
    pthread_join(thread, NULL);
    for (int i = 0; i < OTHERS; i++)
        if (fstat(3 + i, &found) != 0)
            return 91; /* evbus_close() has closed a stranger's file */
    return rc;
}

Test(places, a_process_that_closes_all_its_descriptors_lives_on_and_keeps_the_bus, .timeout = 120)
{ /* B4 R16 [guards ONE-WRITER] */
    struct child children[2];
    town = town_make(2, "64KiB");
    struct closer *closer = child_shared(sizeof *closer);
    closer->citizen = (struct citizen){.town = town, .producer = 1, .member = 1, .keeper = true};
    children[0] = child_start(live_without_descriptors, closer);
    cr_assert(await_that(closer->step == 1));
    uint32_t keeper = hold_slot(&town->f.bus->memory.control->seat);
    cr_assert_neq(keeper, 0u);
    children[1] = town_bear(&(struct citizen){.town = town, .producer = 2, .member = 2, .keeper = true});
    await_ms(2500); /* it has looked at the names twice, and asked for witnesses ten times */
    town_goes_on(town, "closefrom");
    cr_expect_not(memory_is_retired(&town->f.bus->memory), "it took another file for ours");
    cr_expect_eq(hold_slot(&town->f.bus->memory.control->seat), keeper, "it is not dead");
    cr_expect_eq(town_stat(town).burials, 0u);
    struct citizen victim = {.town = town, .producer = 3, .member = 3};
    struct child child = town_bear(&victim);
    cr_assert(await_that(town->acked[3] > 20));
    town_doom(&victim);
    child_kill(&child);
    town_goes_on(town, "a death that it buries");
    town_end(town, children, 2);
}

/* --- threads that come and go ------------------------------------------------------------------------------------------------ */

struct comers {
    struct evbus *bus;
    uint32_t producer;
    uint32_t n;
    _Atomic int rc;
};

static void *publish_once(void *context)
{
    struct comers *comers = context;
    comers->rc = ledger_publish(town->ledger, 1, comers->bus, comers->producer - 1, comers->n, 20000000000u);
    return NULL;
}

static void *come_and_go(void *context)
{
    struct comers *comers = context;
    uint64_t n_each = trial_is_soak() ? 10000 : trial_count(600, 300);
    for (comers->n = 0; comers->n < n_each && comers->rc == EVBUS_OK; comers->n++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, publish_once, comers) != 0 || pthread_join(thread, NULL) != 0)
            comers->rc = EVBUS_EIO;
        if (comers->rc == EVBUS_OK)
            town->acked[comers->producer] = comers->n + 1;
    }
    return NULL;
}

static int have_many_threads(void *context)
{
    struct comers comers[4];
    pthread_t threads[4];
    struct evbus *bus = fixture_open(&town->f, "many", EVBUS_KEEPER_NEVER);
    uint32_t first = *(uint32_t *)context;
    for (uint32_t i = 0; i < 4; i++) {
        comers[i] = (struct comers){.bus = bus, .producer = first + i};
        if (pthread_create(&threads[i], NULL, come_and_go, &comers[i]) != 0)
            return 90;
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        if (comers[i].rc != EVBUS_OK)
            return 91;
    }
    evbus_close(bus);
    return 0;
}

Test(places, more_threads_come_and_go_than_there_are_slots, .timeout = 300)
{ /* B7 */
    struct child children[3];
    town = town_make(4, "64KiB");
    uint32_t first[2] = {1, 5};
    children[0] = town_bear(&(struct citizen){.town = town, .member = 1, .keeper = true});
    children[1] = child_start(have_many_threads, &first[0]);
    children[2] = child_start(have_many_threads, &first[1]);
    for (int i = 1; i < 3; i++) {
        int status = child_join(&children[i]);
        cr_assert_eq(status, 0, "status %d", status);
    }
    uint64_t n = 0;
    for (uint32_t p = 1; p <= LEDGER_PRODUCERS; p++)
        n += town->acked[p];
    fprintf(stderr, "%lu threads\n", (unsigned long)n);
    cr_assert_gt(n, (uint64_t)SLOTS_MAX);
    cr_expect_eq(town_stat(town).burials, 0u, "each has given its slot back");
    town_end(town, children, 1);
}

/* --- many at once ------------------------------------------------------------------------------------------------------------- */

enum { CROWD = 100, EVENTS_EACH = 20 };

struct gate {
    struct fixture f;
    _Atomic int n_waiting;
    _Atomic int open;
    _Atomic int n_done;
};

struct comer {
    struct gate *gate;
    uint32_t number;
};

static int attach_with_all_others(void *context)
{
    struct comer *comer = context;
    struct gate *gate = comer->gate;
    gate->n_waiting++;
    await_that(gate->open == 1);
    struct evbus *bus = fixture_open(&gate->f, "comer",
                                     comer->number % 2 == 0 ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER);
    for (uint64_t n = 1; n <= EVENTS_EACH; n++)
        if (load_publish(bus, comer->number, n, 5000000000u) != EVBUS_OK)
            return 1;
    gate->n_done++;
    for (;;)
        pause(); /* they are killed at once, too */
    return 0;
}

Test(places, a_hundred_processes_attach_at_once_and_die_at_once, .timeout = 120)
{ /* B10 [guards WHOLE] [guards PROGRESS] */
    struct gate *gate = child_shared(sizeof *gate);
    struct child children[CROWD];
    uint64_t last[CROWD] = {0};
    gate->f = fixture_make((struct fixture_options){.partitions = 4, .ring = "1MiB"});
    struct fixture *f = &gate->f;
    struct evbus_reader *reader;
    struct evbus_reader_options options = {.size = sizeof options, .pin = true};
    cr_assert_eq(evbus_reader_open(&reader, f->bus, &options), EVBUS_OK);
    for (uint32_t i = 0; i < CROWD; i++)
        children[i] = child_start(attach_with_all_others, &(struct comer){gate, i});
    cr_assert(await_that(gate->n_waiting == CROWD));
    gate->open = 1;
    for (unsigned n = 0; n < CROWD * EVENTS_EACH; n++) {
        struct evbus_delivery got = {.size = sizeof got};
        uint32_t producer;
        uint64_t number;
        cr_assert_eq(evbus_reader_next(reader, &got, 20000000000u), EVBUS_OK, "event %u: %s", n, evbus_message(f->bus));
        cr_assert(load_read(&got, &producer, &number) && producer < CROWD, "not as it was published");
        cr_assert_lt(last[producer] >> number & 1, 1u, "producer %u's event %lu came twice", producer,
                     (unsigned long)number);
        last[producer] |= UINT64_C(1) << number;
    }
    cr_assert(await_that(gate->n_done == CROWD));
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(f->bus, &stat), EVBUS_OK);
    cr_expect_eq(stat.n_processes, CROWD + 1u);
    uint64_t start = await_now_ms();
    for (uint32_t i = 0; i < CROWD; i++)
        kill(children[i].pid, SIGKILL);
    for (uint32_t i = 0; i < CROWD; i++)
        child_join(&children[i]);
    struct evbus *keeper = fixture_open(f, "keeper", EVBUS_KEEPER_VOLUNTEER);
    cr_expect(await_that(evbus_stat(f->bus, &stat) == EVBUS_OK && stat.n_slots == 2 && stat.keeper_slot != 0),
              "%u slots are taken", stat.n_slots);
    fprintf(stderr, "100 processes: all are buried %lu ms after their death\n",
            (unsigned long)(await_now_ms() - start));
    evbus_close(keeper);
    evbus_reader_close(reader);
    fixture_end(f);
}

/* --- a debugger ---------------------------------------------------------------------------------------------------------------- */

/* A thread of that name in a process. */
static pid_t thread_named(pid_t pid, const char *name)
{
    char path[64], comm[32];
    pid_t found = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && found == 0 && (entry = readdir(dir)) != NULL;) {
        char file_name[400];
        snprintf(file_name, sizeof file_name, "%s/%s/comm", path, entry->d_name);
        FILE *file = fopen(file_name, "re");
        if (file != NULL && fgets(comm, sizeof comm, file) != NULL && strncmp(comm, name, strlen(name)) == 0)
            found = (pid_t)strtol(entry->d_name, NULL, 10);
        if (file != NULL)
            fclose(file);
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

static bool hold_thread(pid_t tid)
{
    int status;
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0)
        return false;
    return ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0 && waitpid(tid, &status, __WALL) == tid;
}

static uint64_t hold_ms(void)
{
    return trial_is_soak() ? 60000 : trial_ms(2000, 500);
}

/* The others, meanwhile. */
static void check_held(const char *what, uint32_t producer, uint64_t ms)
{
    uint32_t before = town->acked[producer];
    await_ms(ms);
    fprintf(stderr, "%s for %lu ms: another producer has published %u events\n", what, (unsigned long)ms,
            town->acked[producer] - before);
    cr_assert_gt(town->acked[producer], before + 20, "%s: another producer stands", what);
    cr_assert_eq(town->failed, 0, "%s: %s", what, town->what);
    cr_assert_eq(town->ledger->failed, 0, "%s: %s", what, town->ledger->what);
    cr_assert_eq(town_stat(town).burials, 0u, "%s: who is held is not dead", what);
}

/* Is there a finding with this text? */
static void look_for(void *context, const struct evbus_finding *finding)
{
    const char **wanted = context;
    if (*wanted != NULL && strstr(finding->what, *wanted) != NULL)
        *wanted = NULL;
}

static void doctor_says(const char *text)
{
    const char *wanted = text;
    evbus_doctor(town->f.bus, look_for, &wanted);
    cr_expect_null(wanted, "doctor does not say \"%s\"", text);
}

/* Large enough for all that is published while the held member's partitions stand [P9]. */
static void make_held_town(struct child children[2])
{
    town = town_make(4, "4MiB");
    town->pace = trial_is_soak() ? 10 : 1;
    for (unsigned i = 0; i < 2; i++)
        children[i] = town_bear(&(struct citizen){.town = town, .producer = i + 1, .member = i + 1, .keeper = i == 0});
    cr_assert(await_that(town->acked[1] > 20 && town->acked[2] > 20 && town->n_in_hand[1] > 0));
    town_goes_on(town, "the beginning");
}

Test(places, a_thread_that_a_debugger_holds_holds_up_nobody_else, .timeout = 600)
{ /* B6 P9 [guards PROGRESS] */
    struct child children[2];
    make_held_town(children);
    const struct {
        const char *what;
        pid_t tid;
    } rows[] = {
        {"a debugger holds a producer", town->tid[1]},
        {"a debugger holds the keeper", thread_named(children[0].pid, "evbus-keeper")},
        {"a debugger holds a member", town->member_tid[1]},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_assert_gt(rows[i].tid, 0, "%s", rows[i].what);
        if (!hold_thread(rows[i].tid) && errno == EPERM) {
            town_end(town, children, 2);
            cr_skip_test("no ptrace here: a debugger is not tested");
        }
        doctor_says("by a debugger");
        check_held(rows[i].what, 2, hold_ms());
        cr_assert_eq(ptrace(PTRACE_DETACH, rows[i].tid, NULL, NULL), 0);
        town_goes_on(town, rows[i].what);
    }
    town_end(town, children, 2);
}

/* --- the freezer --------------------------------------------------------------------------------------------------------------- */

static char cgroup_root[64];

/* Whatever becomes of the test: nobody stays frozen, nothing mounted. */
static void leave_freezer(void)
{
    char path[128];
    if (cgroup_root[0] == '\0')
        return;
    snprintf(path, sizeof path, "%s/evbus-%d/freezer.state", cgroup_root, (int)getpid());
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        fputs("THAWED", file);
        fclose(file);
    }
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup_root); /* those that live go back */
    char from[160];
    snprintf(from, sizeof from, "%s/evbus-%d/cgroup.procs", cgroup_root, (int)getpid());
    FILE *procs = fopen(from, "re");
    for (int pid; procs != NULL && fscanf(procs, "%d", &pid) == 1;) {
        FILE *to = fopen(path, "we");
        if (to != NULL) {
            fprintf(to, "%d", pid);
            fclose(to);
        }
    }
    if (procs != NULL)
        fclose(procs);
    snprintf(path, sizeof path, "%s/evbus-%d", cgroup_root, (int)getpid());
    await_that(rmdir(path) == 0 || errno != EBUSY);
    umount2(cgroup_root, MNT_DETACH);
    rmdir(cgroup_root);
    cgroup_root[0] = '\0';
}

static bool enter_freezer(pid_t pid)
{
    char path[128];
    snprintf(cgroup_root, sizeof cgroup_root, "/tmp/evbus-freezer-XXXXXX");
    if (mkdtemp(cgroup_root) == NULL) {
        cgroup_root[0] = '\0';
        return false;
    }
    if (mount("none", cgroup_root, "cgroup", 0, "freezer") != 0) {
        rmdir(cgroup_root);
        cgroup_root[0] = '\0';
        return false;
    }
    snprintf(path, sizeof path, "%s/evbus-%d", cgroup_root, (int)getpid());
    if (mkdir(path, 0700) != 0)
        return false;
    snprintf(path, sizeof path, "%s/evbus-%d/cgroup.procs", cgroup_root, (int)getpid());
    FILE *file = fopen(path, "we");
    bool is_in = file != NULL && fprintf(file, "%d", pid) > 0;
    return file != NULL && fclose(file) == 0 && is_in;
}

/* true: it has become so. */
static bool set_freezer(const char *state)
{
    char path[128], text[32] = "";
    snprintf(path, sizeof path, "%s/evbus-%d/freezer.state", cgroup_root, (int)getpid());
    for (uint64_t until = await_now_ms() + AWAIT_MS; await_now_ms() < until; await_pause()) {
        FILE *file = fopen(path, "r+e");
        if (file == NULL)
            return false;
        fputs(state, file);
        fflush(file);
        rewind(file);
        char *got = fgets(text, sizeof text, file);
        fclose(file);
        if (got != NULL && strncmp(text, state, strlen(state)) == 0)
            return true;
    }
    return false;
}

Test(places, a_frozen_container_holds_up_nobody_else, .timeout = 600, .fini = leave_freezer)
{ /* B9 P9 [guards PROGRESS] */
    struct child children[2];
    make_held_town(children);
    if (!enter_freezer(children[0].pid)) {
        leave_freezer();
        town_end(town, children, 2);
        cr_skip_test("the cgroup freezer (v1) cannot be mounted: docker pause is not tested here");
    }
    for (unsigned i = 0; i < (trial_is_soak() ? 5 : trial_count(3, 1)); i++) {
        cr_assert(set_freezer("FROZEN"));
        check_held("the freezer holds the keeper, a producer and a member", 2, hold_ms());
        cr_assert(set_freezer("THAWED"));
        town_goes_on(town, "the freezer");
    }
    cr_assert(set_freezer("FROZEN")); /* and killed while it is frozen: it dies when it thaws */
    town_doom(&(struct citizen){.town = town, .producer = 1, .member = 1});
    kill(children[0].pid, SIGKILL);
    check_held("the freezer holds a killed process", 2, 200);
    cr_assert(set_freezer("THAWED"));
    cr_assert_eq(child_join(&children[0]), 128 + SIGKILL);
    town_goes_on(town, "the death of a frozen process");
    leave_freezer();
    town_end(town, &children[1], 1);
}
