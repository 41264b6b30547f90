/* test_slot.c: a slot is its owner's as long as that thread lives, and only the kernel says that it is dead.
 *
 * [no tsan] Owners are other processes. */
#include "slot.h"

#include "await.h"
#include "child.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define OURS    7 /* the number of a witness */

/* What a test shares with its children. */
struct shared {
    struct slot slots[8];
    _Atomic int step; /* of the child */
};

static struct shared *shared_make(void)
{
    struct shared *shared = child_shared(sizeof *shared);
    for (size_t i = 0; i < N(shared->slots); i++) {
        struct error err = {""};
        cr_assert_eq(slot_mutex_init(&shared->slots[i].mutex, &err), EVBUS_OK, "%s", err.text);
    }
    return shared;
}

static int own_until_killed(void *context)
{
    struct shared *shared = context;
    if (slot_take(&shared->slots[1]) != SLOT_FREE)
        return 1;
    slot_enter(&shared->slots[1], "owner", OURS);
    atomic_store(&shared->step, 1);
    for (;;)
        pause();
    return 0;
}

static int own_without_a_name(void *context)
{
    struct shared *shared = context;
    if (slot_take(&shared->slots[1]) != SLOT_FREE)
        return 1;
    atomic_store(&shared->step, 1);
    for (;;)
        pause();
    return 0;
}

static int bury_until_killed(void *context)
{
    struct shared *shared = context;
    if (slot_take(&shared->slots[1]) != SLOT_DIED)
        return 1;
    atomic_store(&shared->step, 2);
    for (;;)
        pause();
    return 0;
}

static struct child started(int (*body)(void *context), struct shared *shared, int step)
{
    struct child child = child_start(body, shared);
    cr_assert(await_that(atomic_load(&shared->step) == step || !child_is_running(&child)));
    cr_assert_eq(atomic_load(&shared->step), step, "the child has ended");
    return child;
}

Test(slot, a_free_one_is_taken_entered_and_given_back)
{
    struct shared *shared = shared_make();
    struct slot *slot = &shared->slots[1];
    cr_expect_not(slot_is_used(slot));
    cr_expect_not(slot_is_dead(slot));
    cr_assert_eq(slot_take(slot), SLOT_FREE);
    cr_expect_not(slot_is_used(slot), "words may carry it from slot_enter() on");
    slot_enter(slot, "order-service", OURS);
    cr_expect(slot_is_used(slot));
    cr_expect_not(slot_is_dead(slot));
    cr_expect_str_eq(slot->service, "order-service");
    cr_expect_eq(atomic_load(&slot->pid), getpid());
    cr_expect_eq(atomic_load(&slot->tid), (int32_t)syscall(SYS_gettid));
    cr_expect_neq(atomic_load(&slot->pid_ns), 0);
    cr_expect_neq(atomic_load(&slot->since_ns), 0);
    slot_leave(slot);
    cr_expect_not(slot_is_used(slot));
    cr_expect_eq(slot_take(slot), SLOT_FREE);
}

Test(slot, entering_forgets_the_cancels_of_the_last_owner)
{
    struct shared *shared = shared_make();
    struct slot *slot = &shared->slots[1];
    atomic_store(&slot->cancels, 5);
    atomic_store(&slot->cancels_in_row, 5);
    cr_assert_eq(slot_take(slot), SLOT_FREE);
    slot_enter(slot, NULL, OURS);
    cr_expect_eq(atomic_load(&slot->cancels), 0);
    cr_expect_eq(atomic_load(&slot->cancels_in_row), 0);
    cr_expect_str_empty(slot->service);
}

Test(slot, a_name_that_is_too_long_is_cut)
{
    struct shared *shared = shared_make();
    char name[200];
    memset(name, 's', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    cr_assert_eq(slot_take(&shared->slots[1]), SLOT_FREE);
    slot_enter(&shared->slots[1], name, OURS);
    cr_expect_eq(strlen(shared->slots[1].service), SERVICE_BYTES - 1);
}

/* [B5] */
Test(slot, our_own_is_not_taken_twice)
{
    struct shared *shared = shared_make();
    cr_assert_eq(slot_take(&shared->slots[1]), SLOT_FREE);
    cr_expect_eq(slot_take(&shared->slots[1]), SLOT_BUSY, "before it is entered");
    slot_enter(&shared->slots[1], "x", OURS);
    cr_expect_eq(slot_take(&shared->slots[1]), SLOT_BUSY, "after it");
}

/* A thread of another PID namespace may have our number; glibc would take it for us. [B5] */
Test(slot, a_namesakes_slot_is_left_alone)
{
    struct shared *shared = shared_make();
    uint32_t self = (uint32_t)syscall(SYS_gettid);
    _Atomic uint32_t *word = (_Atomic uint32_t *)slot_lock_word(&shared->slots[1]);
    static const uint32_t bits[] = {0, SLOT_WAITERS};
    for (size_t i = 0; i < N(bits); i++) {
        atomic_store(word, self | bits[i]);
        cr_expect_eq(slot_take(&shared->slots[1]), SLOT_BUSY);
        cr_expect_eq(atomic_load(word), self | bits[i], "it is not even touched");
    }
    atomic_store(word, 0); /* dead, but its tid is ours */
    atomic_store(&shared->slots[1].tid, (int32_t)self);
    cr_expect_eq(slot_take(&shared->slots[1]), SLOT_BUSY);
}

/* Else nobody would, where the keeper is the only one. [B5] [guards PROGRESS] */
Test(slot, a_dead_namesakes_slot_is_the_keepers_once_it_is_gone)
{
    struct shared *shared = shared_make();
    struct slot *slot = &shared->slots[1];
    int32_t self = (int32_t)syscall(SYS_gettid);
    atomic_store((_Atomic uint32_t *)slot_lock_word(slot), SLOT_DIED_BIT);
    atomic_store(&slot->witness, 12);
    atomic_store(&slot->tid, self);
    cr_expect_eq(slot_take_gone(slot), SLOT_BUSY, "while we bury it nobody would see that it is dead");
    slot_tell_gone(slot, 12);
    cr_expect_eq(slot_take(slot), SLOT_BUSY, "not by any other");
    cr_assert_eq(slot_take_gone(slot), SLOT_DIED);
    cr_expect(slot_is_dead(slot), "until all is clean");
    slot_buried(slot);
    cr_expect_not(slot_is_dead(slot));
    slot_enter(slot, "next", OURS);
    cr_expect_not(slot_is_dead(slot));
    cr_expect_eq(slot_take_gone(slot), SLOT_BUSY, "alive");
    slot_leave(slot);
}

/* [guards PROGRESS] [B1] [B6] */
Test(slot, its_owners_death_is_seen_by_two_loads_and_told_once_by_taking_it)
{
    struct shared *shared = shared_make();
    struct slot *slot = &shared->slots[1];
    struct child owner = started(own_until_killed, shared, 1);
    cr_expect_eq(slot_take(slot), SLOT_BUSY);
    cr_expect_not(slot_is_dead(slot));
    child_kill(&owner);
    cr_expect(await_that(slot_is_dead(slot)));
    cr_assert_eq(slot_take(slot), SLOT_DIED);
    cr_expect(slot_is_dead(slot), "dead until all is clean");
    slot_buried(slot);
    cr_expect_not(slot_is_dead(slot));
    slot_enter(slot, "next", OURS);
    cr_expect_not(slot_is_dead(slot));
    slot_leave(slot);
    cr_expect_eq(slot_take(slot), SLOT_FREE);
}

/* Never a timeout: who is stopped may go on at any moment. [B6] [guards ONE-WRITER] */
Test(slot, a_stopped_owner_is_not_dead)
{
    struct shared *shared = shared_make();
    struct child owner = started(own_until_killed, shared, 1);
    child_stop(&owner);
    cr_expect_not(slot_is_dead(&shared->slots[1]));
    cr_expect_eq(slot_take(&shared->slots[1]), SLOT_BUSY);
    child_kill(&owner);
    cr_expect(await_that(slot_is_dead(&shared->slots[1])));
}

Test(slot, an_owner_that_died_before_it_said_who_it_is_is_found_too)
{
    struct shared *shared = shared_make();
    struct slot *slot = &shared->slots[1];
    struct child owner = started(own_without_a_name, shared, 1);
    child_kill(&owner);
    cr_expect(await_that((atomic_load(slot_lock_word(slot)) & SLOT_DIED_BIT) != 0));
    cr_expect_not(slot_is_dead(slot), "no word can carry it");
    cr_expect_eq(slot_take(slot), SLOT_DIED);
}

/* [R2] */
Test(slot, a_dead_undertaker_is_followed_by_the_next)
{
    struct shared *shared = shared_make();
    struct slot *slot = &shared->slots[1];
    struct child owner = started(own_until_killed, shared, 1);
    child_kill(&owner);
    for (int i = 0; i < 3; i++) {
        atomic_store(&shared->step, 1);
        struct child undertaker = started(bury_until_killed, shared, 2);
        cr_expect(slot_is_dead(slot), "during a burial it stays dead for all");
        cr_expect_eq(slot_take(slot), SLOT_BUSY);
        child_kill(&undertaker);
        cr_expect(await_that((atomic_load(slot_lock_word(slot)) & SLOT_TID_MASK) == 0));
        cr_expect(slot_is_dead(slot));
    }
    cr_expect_eq(slot_take(slot), SLOT_DIED);
}

static void *own_and_end(void *context)
{
    struct slot *slot = context;
    if (slot_take(slot) == SLOT_FREE)
        slot_enter(slot, "thread", OURS);
    return NULL;
}

/* [B1] */
Test(slot, a_thread_that_ends_without_leaving_is_dead)
{
    struct shared *shared = shared_make();
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, own_and_end, &shared->slots[1]), 0);
    pthread_join(thread, NULL);
    cr_expect(await_that(slot_is_dead(&shared->slots[1])));
    cr_expect_eq(slot_take(&shared->slots[1]), SLOT_DIED);
}

/* [B1] */
Test(slot, one_that_was_unlocked_without_burial_is_lost_and_nobody_waits_for_it)
{
    struct shared *shared = shared_make();
    struct child owner = started(own_until_killed, shared, 1);
    child_kill(&owner);
    cr_assert(await_that(slot_is_dead(&shared->slots[1])));
    cr_assert_eq(slot_take(&shared->slots[1]), SLOT_DIED);
    slot_leave(&shared->slots[1]);
    cr_expect_eq(slot_take(&shared->slots[1]), SLOT_BUSY);
    cr_expect_not(slot_is_dead(&shared->slots[1]));
}

static void *own_and_stay(void *context)
{
    struct slot *slot = context;
    if (slot_take(slot) == SLOT_FREE)
        slot_enter(slot, "thread", OURS);
    for (;;)
        pause();
    return NULL;
}

static int own_32_in_threads(void *context)
{
    struct slot *slots = context;
    pthread_t thread;
    for (int i = 0; i < 32; i++)
        if (pthread_create(&thread, NULL, own_and_stay, &slots[i]) != 0)
            return 1;
    for (;;)
        pause();
    return 0;
}

/* [B1] */
Test(slot, of_a_killed_process_every_thread_is_dead)
{
    struct slot *slots = child_shared(32 * sizeof *slots);
    struct error err = {""};
    for (int i = 0; i < 32; i++)
        cr_assert_eq(slot_mutex_init(&slots[i].mutex, &err), EVBUS_OK, "%s", err.text);
    struct child child = child_start(own_32_in_threads, slots);
    for (int i = 0; i < 32; i++)
        cr_assert(await_that(slot_is_used(&slots[i])));
    child_kill(&child);
    for (int i = 0; i < 32; i++) {
        cr_assert(await_that(slot_is_dead(&slots[i])), "%d", i);
        cr_assert_eq(slot_take(&slots[i]), SLOT_DIED, "%d", i);
    }
}

Test(slot, the_first_slot_of_each_living_process_counts_for_it)
{
    enum { FREE, ALIVE, DEAD };
    static const struct {
        const char *label;
        int32_t pid;
        uint64_t pid_ns;
        int life;
        bool is_first;
    } rows[] = {
        {"0 is nobody's", 0, 0, FREE, false},
        {"a free one", 10, 1, FREE, false},
        {"a dead one", 10, 1, DEAD, false},
        {"the first of process 10", 10, 1, ALIVE, true},
        {"the second of process 10", 10, 1, ALIVE, false},
        {"process 10 of another namespace", 10, 2, ALIVE, true},
        {"process 11", 11, 1, ALIVE, true},
        {"the third of process 10", 10, 1, ALIVE, false},
    };
    struct shared *shared = shared_make();
    for (size_t i = 0; i < N(rows); i++) {
        struct slot *slot = &shared->slots[i];
        atomic_store(&slot->pid, rows[i].pid);
        atomic_store(&slot->pid_ns, rows[i].pid_ns);
        if (rows[i].life != FREE)
            atomic_store(&slot->tid, 100);
        atomic_store((_Atomic uint32_t *)slot_lock_word(slot), rows[i].life == ALIVE ? 100 : 0);
    }
    for (uint32_t i = 1; i < N(rows); i++)
        cr_expect_eq(slot_is_first_of_process(shared->slots, i), rows[i].is_first, "%s", rows[i].label);
}

/* --- the second witness ------------------------------------------------------------------------------------------------ */

/* As it is when the kernel has forgotten to say that its owner, of this witness, is dead. */
static struct slot *lost_slot(struct shared *shared)
{
    struct slot *slot = &shared->slots[1];
    atomic_store((_Atomic uint32_t *)slot_lock_word(slot), 4711);
    atomic_store(&slot->witness, 12);
    atomic_store(&slot->tid, 4711);
    cr_assert_not(slot_is_dead(slot));
    cr_assert_eq(slot_take(slot), SLOT_BUSY);
    return slot;
}

Test(slot, one_whose_process_is_gone_is_dead_for_everybody)
{ /* B2 B3 B4 [guards PROGRESS] */
    struct slot *slot = lost_slot(shared_make());
    slot_tell_gone(slot, 11);
    cr_expect_not(slot_is_dead(slot), "that was another process");
    cr_expect_eq(atomic_load(&slot->gone), 0u);
    slot_tell_gone(slot, 12);
    cr_expect(slot_is_dead(slot));
    slot_tell_gone(slot, 11);
    cr_expect(slot_is_dead(slot), "once gone it stays so");
}

Test(slot, a_late_word_of_the_last_owners_end_does_not_hit_the_next_one)
{ /* B4 [guards ONE-WRITER] */
    struct shared *shared = shared_make();
    struct slot *slot = &shared->slots[1];
    atomic_store(&slot->gone, 6); /* somebody has told the truth about the last owner, after it was buried */
    cr_assert_eq(slot_take(slot), SLOT_FREE);
    atomic_store(&slot->witness, 6);
    slot_enter(slot, "next", OURS);
    cr_expect_not(slot_is_dead(slot));
    cr_expect_not(slot_is_lost(slot));
    atomic_store(&slot->gone, 6);
    cr_expect_not(slot_is_dead(slot));
    slot_leave(slot);
}

Test(slot, the_owners_number_stands_there_before_its_tid)
{ /* B4 */
    struct shared *shared = shared_make();
    struct slot *slot = &shared->slots[1];
    cr_assert_eq(slot_take(slot), SLOT_FREE);
    slot_enter(slot, "owner", OURS);
    cr_expect_eq(atomic_load(&slot->witness), (uint64_t)OURS);
    slot_leave(slot);
}

Test(slot, one_that_is_lost_is_retired_and_never_given_again)
{ /* B4 */
    struct slot *slot = lost_slot(shared_make());
    cr_expect_not(slot_is_lost(slot));
    slot_tell_gone(slot, 12);
    cr_expect(slot_is_lost(slot));
    slot_retire(slot);
    cr_expect_not(slot_is_lost(slot), "once");
    cr_expect_not(slot_is_dead(slot));
    cr_expect_not(slot_is_used(slot), "nobody rings it, watches it, or counts it");
    cr_expect_eq(atomic_load(&slot->retired), 1u);
    cr_expect_eq(slot_take(slot), SLOT_BUSY);
}

Test(slot, one_that_the_kernel_has_told_of_is_not_lost)
{ /* B4: its mutex is to be had, so it is buried under that */
    struct slot *slot = lost_slot(shared_make());
    slot_tell_gone(slot, 12);
    static const uint32_t words[] = {SLOT_DIED_BIT, SLOT_DIED_BIT | SLOT_WAITERS, 99};
    for (size_t i = 0; i < N(words); i++) { /* the last: an undertaker has it */
        atomic_store((_Atomic uint32_t *)slot_lock_word(slot), words[i]);
        cr_expect_not(slot_is_lost(slot), "%#x", words[i]);
        cr_expect(slot_is_dead(slot), "%#x", words[i]);
    }
    atomic_store((_Atomic uint32_t *)slot_lock_word(slot), 4711 | SLOT_WAITERS);
    cr_expect(slot_is_lost(slot), "somebody waits for it in vain");
}
