/* test_witness.c: a byte that is locked as long as its process lives, however that ends, and whatever it closes.
 *
 * [no tsan] Owners are other processes. */
#include "witness.h"

#include "await.h"
#include "child.h"
#include "fixture.h"

#include "bus.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a test shares with its children. */
struct shared {
    struct fixture f;
    _Atomic uint64_t number; /* the child's */
    _Atomic int pid;         /* of a child's child */
    _Atomic int step;
};

static struct shared *shared;
static struct fixture f;
static char control_name[256];

static void before(void)
{
    f = fixture_make((struct fixture_options){0});
    shared = child_shared(sizeof *shared);
    shared->f = f;
    region_name(f.name, "control", control_name);
}

static void after(void)
{
    fixture_end(&f);
}

TestSuite(witness, .init = before, .fini = after, .timeout = 60);

static bool is_gone(uint64_t number)
{
    struct memory *memory = &f.bus->memory;
    struct witness_asked asked = witness_ask(&memory->witness, &memory->control_region, control_name);
    bool gone = witness_says_gone(&asked, number);
    witness_thank(&asked);
    return gone;
}

/* --- children ---------------------------------------------------------------------------------------------------------- */

static void attach(void)
{
    struct evbus *bus = fixture_open(&shared->f, "owner", EVBUS_KEEPER_NEVER);
    atomic_store(&shared->number, bus->memory.witness.number);
}

static int pause_for_ever(void)
{
    atomic_store(&shared->step, 1);
    for (;;)
        pause();
    return 0;
}

static int attach_and_stay(void *context)
{
    (void)context;
    attach();
    return pause_for_ever();
}

static int close_all_and_stay(void *context)
{
    (void)context;
    attach();
    if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
        return 1;
    return pause_for_ever();
}

static int attach_to_nothing(void *context)
{
    (void)context;
    for (;;)
        pause();
    return 0;
}

static int fork_and_stay(void *context)
{
    (void)context;
    attach();
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60); /* it must outlive us, but not a test that fails */
        return pause_for_ever();
    }
    atomic_store(&shared->pid, pid);
    for (;;)
        pause();
}

static int close_and_stay(void *context)
{
    (void)context;
    struct evbus *bus = fixture_open(&shared->f, "owner", EVBUS_KEEPER_NEVER);
    atomic_store(&shared->number, bus->memory.witness.number);
    evbus_close(bus);
    return pause_for_ever();
}

static void *execute(void *context)
{
    (void)context;
    child_execute();
    return NULL;
}

static int execute_in_leader(void *context)
{
    attach();
    atomic_store(&shared->step, 1);
    execute(context);
    return 1;
}

static int execute_in_thread(void *context)
{
    pthread_t thread;
    attach();
    atomic_store(&shared->step, 1);
    if (pthread_create(&thread, NULL, execute, context) != 0)
        return 1;
    for (;;)
        pause();
}

static struct child started(int (*body)(void *context))
{
    struct child child = child_start(body, NULL);
    cr_assert(await_that(atomic_load(&shared->step) == 1 || !child_is_running(&child)));
    cr_assert_eq(atomic_load(&shared->step), 1, "the child has ended");
    cr_assert_neq(atomic_load(&shared->number), 0);
    return child;
}

/* --- alive ------------------------------------------------------------------------------------------------------------- */

Test(witness, it_testifies_for_who_lives_and_against_who_was_killed)
{ /* B4 */
    struct child owner = started(attach_and_stay);
    cr_expect_not(is_gone(shared->number));
    child_stop(&owner);
    cr_expect_not(is_gone(shared->number), "stopped is not dead");
    child_continue(&owner);
    child_kill(&owner);
    cr_expect(await_that(is_gone(shared->number)));
}

Test(witness, who_closes_all_its_descriptors_lives)
{ /* B4 [guards ONE-WRITER] */
    struct child owner = started(close_all_and_stay);
    cr_expect_not(is_gone(shared->number));
    child_kill(&owner);
    cr_expect(await_that(is_gone(shared->number)));
}

Test(witness, a_forked_child_does_not_testify_for_its_dead_parent)
{ /* B4 */
    struct child owner = started(fork_and_stay);
    cr_assert(await_that(atomic_load(&shared->pid) != 0));
    cr_expect_not(is_gone(shared->number));
    child_kill(&owner);
    cr_expect(await_that(is_gone(shared->number)));
    kill(atomic_load(&shared->pid), SIGKILL);
}

Test(witness, exec_by_the_leader_is_a_death)
{
    struct child owner = started(execute_in_leader);
    cr_expect(await_that(is_gone(shared->number)));
    cr_expect(child_is_running(&owner));
    child_kill(&owner);
}

Test(witness, exec_by_another_thread_is_a_death)
{ /* B2 */
    struct child owner = started(execute_in_thread);
    cr_expect(await_that(is_gone(shared->number)));
    cr_expect(child_is_running(&owner));
    child_kill(&owner);
}

Test(witness, a_closed_handle_is_gone_in_a_living_process)
{
    struct child owner = started(close_and_stay);
    cr_expect(is_gone(shared->number));
    child_kill(&owner);
}

Test(witness, each_handle_has_a_number_of_its_own)
{
    struct evbus *first = fixture_open(&f, "one", EVBUS_KEEPER_NEVER);
    struct evbus *second = fixture_open(&f, "one", EVBUS_KEEPER_NEVER);
    uint64_t number = second->memory.witness.number;
    cr_expect_neq(first->memory.witness.number, number);
    cr_expect_not(is_gone(first->memory.witness.number), "its own process sees it, too");
    cr_expect_not(is_gone(number));
    evbus_close(second);
    cr_expect(is_gone(number));
    cr_expect_not(is_gone(first->memory.witness.number), "the other one is alive");
    second = fixture_open(&f, "one", EVBUS_KEEPER_NEVER);
    cr_expect_gt(second->memory.witness.number, number, "no number is given twice");
    evbus_close(first);
    evbus_close(second);
}

Test(witness, one_is_never_gone_for_itself_and_nobody_is_zero)
{
    cr_expect_not(is_gone(f.bus->memory.witness.number));
    cr_expect_not(is_gone(0));
    cr_expect_not(is_gone(UINT64_MAX));
    cr_expect_not(is_gone(UINT64_C(1) << 62));
}

/* Forks as long as a round goes on; the children live until it is over. */
struct forks {
    _Atomic int round; /* even: pause; -1: end */
    _Atomic int begun; /* the last round that forks */
    _Atomic int over;  /* the last one whose children are no more */
    uint64_t n;
};

static void *fork_on_and_on(void *context)
{
    struct forks *forks = context;
    for (;;) {
        await_that(atomic_load(&forks->round) % 2 != 0);
        int round = atomic_load(&forks->round); /* stays until we say that it has begun */
        struct child children[16];
        size_t n = 0;
        if (round < 0)
            return NULL;
        atomic_store(&forks->begun, round);
        while (atomic_load(&forks->round) == round && n < sizeof children / sizeof children[0])
            children[n++] = child_start(attach_to_nothing, NULL);
        await_that(atomic_load(&forks->round) != round);
        forks->n += n;
        while (n > 0)
            child_kill(&children[--n]);
        atomic_store(&forks->over, round);
    }
}

/* A child that got the lock would keep its parent alive for everybody. */
Test(witness, a_fork_at_any_moment_of_an_attach_does_not_inherit_it)
{ /* B4 B8 */
    struct forks forks = {0};
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, fork_on_and_on, &forks), 0);
    for (int round = 1; round < 300; round += 2) {
        atomic_store(&forks.round, round);
        cr_assert(await_that(atomic_load(&forks.begun) == round));
        for (int i = 0; i < 5; i++) {
            struct evbus *bus = fixture_open(&f, "one", EVBUS_KEEPER_NEVER);
            uint64_t number = bus->memory.witness.number;
            evbus_close(bus);
            cr_assert(is_gone(number), "round %d: a child has it", round);
        }
        atomic_store(&forks.round, round + 1);
        cr_assert(await_that(atomic_load(&forks.over) == round));
    }
    atomic_store(&forks.round, -1);
    pthread_join(thread, NULL);
    cr_expect_gt(forks.n, 150u, "hardly any fork: %lu", (unsigned long)forks.n);
}

/* --- nothing is proven --------------------------------------------------------------------------------------------------- */

static int other_file(void)
{
    int fd = memfd_create("other", 0);
    cr_assert_geq(fd, 0);
    return fd;
}

Test(witness, a_descriptor_that_became_another_files_proves_nothing)
{ /* B4 [guards ONE-WRITER] */
    struct child owner = started(attach_and_stay);
    struct memory *memory = &f.bus->memory;
    struct witness_asked asked = witness_ask(&memory->witness, &memory->control_region, control_name);
    cr_assert_eq(dup2(other_file(), asked.fd), asked.fd, "as if closefrom() and open() came between");
    cr_expect_not(witness_says_gone(&asked, shared->number));
    witness_thank(&asked);
    close(memory->control_region.fd);
    cr_assert_eq(dup2(other_file(), memory->control_region.fd), memory->control_region.fd);
    cr_expect_not(is_gone(shared->number));
    child_kill(&owner);
    cr_expect(await_that(is_gone(shared->number)), "it is asked by the name then");
}

/* --- where byte locks do not work ---------------------------------------------------------------------------------------- */

static _Atomic int setlk_errno; /* 0: as the kernel says */
static _Atomic int setlk_calls;

int fcntl64(int fd, int command, ...);
int fcntl64(int fd, int command, ...)
{
    va_list values;
    va_start(values, command);
    void *value = va_arg(values, void *);
    va_end(values);
    if (command == F_OFD_SETLK) {
        setlk_calls++;
        if (setlk_errno != 0) {
            errno = setlk_errno;
            return -1;
        }
    }
    return (int)syscall(SYS_fcntl, fd, command, value);
}

static int open_fails_with(int number)
{
    struct evbus *bus = NULL;
    atomic_store(&setlk_errno, number);
    atomic_store(&setlk_calls, 0);
    int rc = evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options), .bus = f.name});
    atomic_store(&setlk_errno, 0);
    cr_assert_gt(atomic_load(&setlk_calls), 0, "this test does not see the call");
    cr_expect_null(bus);
    return rc;
}

Test(witness, open_says_clearly_that_bytes_cannot_be_locked)
{
    cr_expect_eq(open_fails_with(EINVAL), EVBUS_EIO);
    cr_expect(strstr(evbus_message(NULL), "cannot lock a byte") != NULL && strstr(evbus_message(NULL), f.name) != NULL,
              "%s", evbus_message(NULL));
    cr_expect_eq(open_fails_with(ENOLCK), EVBUS_EIO);
    cr_expect_eq(open_fails_with(EAGAIN), EVBUS_EIO, "all of them are taken");
    cr_expect(strstr(evbus_message(NULL), "lslocks") != NULL, "%s", evbus_message(NULL));
    struct evbus *bus = fixture_open(&f, "later", EVBUS_KEEPER_NEVER);
    cr_expect_eq(fixture_publish(bus, "k", "1"), EVBUS_OK, "it works again");
    evbus_close(bus);
}

Test(witness, a_number_that_somebody_holds_is_not_taken)
{
    struct control *control = f.bus->memory.control;
    uint64_t last = atomic_load(&control->witnesses);
    struct evbus *one = fixture_open(&f, "one", EVBUS_KEEPER_NEVER);
    atomic_store(&control->witnesses, last); /* scribbled on */
    struct evbus *two = fixture_open(&f, "two", EVBUS_KEEPER_NEVER);
    cr_expect_eq(one->memory.witness.number, last + 1);
    cr_expect_eq(two->memory.witness.number, last + 2);
    evbus_close(one);
    evbus_close(two);
    struct evbus *bus = NULL;
    atomic_store(&control->witnesses, UINT64_MAX - 1);
    cr_expect_eq(evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options), .bus = f.name}),
                 EVBUS_ECORRUPT);
    atomic_store(&control->witnesses, last + 2);
}
