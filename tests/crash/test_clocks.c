/* The wall clock is set by an hour and a year, forward and back, while all run: it decides nothing but timestamps. */
#include "await.h"
#include "child.h"
#include "town.h"
#include "trial.h"

#include "bus.h"
#include "hold.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HOUR_S INT64_C(3600)
#define YEAR_S (365 * 24 * HOUR_S)

/* --- a wall clock that can be set --------------------------------------------------------------------------------------------- */

static _Atomic int64_t *step_s; /* shared by all processes of a test; NULL: real time */
static _Atomic uint64_t *n_asked;

/* Instead of the C library's. */
int clock_gettime(clockid_t id, struct timespec *now)
{
    int rc = (int)syscall(SYS_clock_gettime, id, now);
    if (rc == 0 && step_s != NULL && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += *step_s;
        ++*n_asked;
    }
    return rc;
}

static void make_clock(void)
{
    n_asked = child_shared(sizeof *n_asked);
    step_s = child_shared(sizeof *step_s);
}

static const struct {
    const char *label;
    int64_t s;
} steps[] = {
    {"an hour forward", HOUR_S}, {"and back", 0},
    {"an hour back", -HOUR_S},   {"and forward", 0},
    {"a year forward", YEAR_S},  {"and back", 0},
    {"a year back", -YEAR_S},    {"and forward", 0},
    {"a year forward", YEAR_S},  {"two years back", -YEAR_S},
    {"and to the truth", 0},
};

/* --- services ----------------------------------------------------------------------------------------------------------------- */

Test(clocks, a_wall_clock_that_is_set_loses_delays_and_kills_nothing, .timeout = 120)
{ /* [guards PROGRESS] [guards ORDER] */
    struct child children[3];
    struct town *town = town_make(4, "64KiB");
    make_clock();
    for (unsigned i = 0; i < 2; i++)
        children[i] = town_bear(&(struct citizen){.town = town, .producer = i + 1, .member = i + 1, .keeper = true});
    cr_assert(await_that(town->acked[1] > 20 && town->acked[2] > 20));
    town_goes_on(town, "the beginning");
    uint32_t keeper = hold_slot(&town->f.bus->memory.control->seat);
    const char *patterns[] = {"test.a.two"};
    struct evbus_group_options group = {.size = sizeof group, .group = "new", .patterns = patterns, .n_patterns = 1};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        *step_s = steps[i].s;
        town_goes_on(town, steps[i].label);
        cr_expect_eq(evbus_group_add(town->f.bus, &group), EVBUS_OK, "%s: %s", steps[i].label, evbus_message(NULL));
        cr_expect_eq(evbus_group_remove(town->f.bus, "new"), EVBUS_OK, "%s: %s", steps[i].label, evbus_message(NULL));
        struct citizen victim = {.town = town, .producer = 3 + (uint32_t)i, .member = 3 + (unsigned)i};
        if (victim.producer > LEDGER_PRODUCERS) /* the ledger knows no more of them */
            victim.producer = 0;
        children[2] = town_bear(&victim); /* attaches, is killed and buried at this time */
        cr_assert(await_that((victim.producer == 0 || town->acked[victim.producer] > 20) &&
                             town->n_in_hand[victim.member] > 0));
        uint32_t before = town_stat(town).n_slots;
        town_doom(&victim);
        child_kill(&children[2]);
        cr_assert(await_that(town_stat(town).n_slots < before), "%s: the dead are not buried", steps[i].label);
        town_goes_on(town, steps[i].label);
    }
    cr_expect_eq(hold_slot(&town->f.bus->memory.control->seat), keeper, "nobody took its keeper for dead");
    cr_expect_gt(*n_asked, 100u, "this test does not see who asks for the time");
    town_end(town, children, 2);
}

/* --- who waits ------------------------------------------------------------------------------------------------------------------ */

struct waiter {
    struct evbus *bus;
    _Atomic int rc;
    _Atomic int is_done;
};

static void *add_a_group(void *context)
{
    struct waiter *waiter = context;
    const char *patterns[] = {"test.a.two"};
    struct evbus_group_options group = {.size = sizeof group, .group = "new", .patterns = patterns, .n_patterns = 1};
    waiter->rc = evbus_group_add(waiter->bus, &group);
    waiter->is_done = 1;
    return NULL;
}

/* Somebody else changes groups meanwhile, for a second; the clock is set right at the beginning of the wait. */
Test(clocks, who_waits_for_another_ones_change_waits_as_long_as_ever, .timeout = 120)
{ /* [guards PROGRESS] */
    static const int64_t rows[] = {HOUR_S, -HOUR_S, YEAR_S, -YEAR_S};
    struct town *town = town_make(1, "16KiB");
    struct evbus *bus = town->f.bus;
    struct control *control = bus->memory.control;
    struct bus_thread *self;
    make_clock();
    cr_assert_eq(bus_thread(bus, &self, NULL), EVBUS_OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct waiter waiter = {.bus = bus};
        pthread_t thread;
        uint64_t start = await_now_ms();
        cr_assert(hold_take(&control->admin, control->slots, self->claim.slot));
        cr_assert_eq(pthread_create(&thread, NULL, add_a_group, &waiter), 0);
        for (uint64_t until = start + 200; await_now_ms() < until;)
            await_pause();
        *step_s = rows[i];
        for (uint64_t until = start + 1000; await_now_ms() < until;)
            await_pause();
        cr_expect_eq(waiter.is_done, 0, "%ld s: it waits, or says that it does not", (long)rows[i]);
        if (i % 2 == 0)
            hold_leave(&control->admin, self->claim.slot);
        cr_assert(await_that(waiter.is_done != 0), "%ld s: it waits for that long", (long)rows[i]);
        pthread_join(thread, NULL);
        cr_expect_eq(waiter.rc, i % 2 == 0 ? EVBUS_OK : EVBUS_EBUSY, "%ld s: %d", (long)rows[i], waiter.rc);
        if (i % 2 != 0)
            hold_leave(&control->admin, self->claim.slot);
        else
            cr_expect_eq(evbus_group_remove(bus, "new"), EVBUS_OK);
        *step_s = 0;
    }
    fixture_end(&town->f);
}

/* --- ids ------------------------------------------------------------------------------------------------------------------------- */

enum { WRITERS = 4, IDS_MAX = 20000 };

struct writer {
    struct evbus *bus;
    uint8_t (*ids)[16];
    _Atomic uint32_t n;
    uint32_t wanted;
    _Atomic int *stop;
    _Atomic int rc;
};

static void *write_on(void *context)
{
    struct writer *writer = context;
    while (*writer->stop == 0 && writer->n < IDS_MAX && writer->rc == EVBUS_OK) {
        struct evbus_receipt receipt = {.size = sizeof receipt};
        writer->rc = evbus_publish(
            writer->bus,
            &(struct evbus_event){.size = sizeof(struct evbus_event), .topic = "test.a.two", .payload = "1"}, &receipt);
        memcpy(writer->ids[writer->n++], receipt.id, 16);
        await_pause();
    }
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

Test(clocks, ids_are_unique_and_each_threads_in_order, .timeout = 120)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    _Atomic int stop = 0;
    uint8_t(*all)[16] = calloc(WRITERS * IDS_MAX, 16);
    cr_assert_not_null(all);
    make_clock();
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.bus = f.bus, .ids = &all[i * IDS_MAX], .stop = &stop};
        cr_assert_eq(pthread_create(&threads[i], NULL, write_on, &writers[i]), 0);
    }
    for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
        for (int i = 0; i < WRITERS; i++)
            writers[i].wanted = writers[i].n + 100;
        for (int i = 0; i < WRITERS; i++)
            cr_assert(await_that(writers[i].n >= writers[i].wanted || writers[i].rc != EVBUS_OK), "%d", writers[i].rc);
        *step_s = steps[s].s;
    }
    stop = 1;
    uint32_t n = 0;
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(writers[i].rc, EVBUS_OK);
        for (uint32_t k = 1; k < writers[i].n; k++)
            cr_assert_lt(memcmp(writers[i].ids[k - 1], writers[i].ids[k], 16), 0, "thread %d: id %u is not behind %u",
                         i, k, k - 1);
        memmove(all[n], writers[i].ids, 16 * (size_t)writers[i].n);
        n += writers[i].n;
    }
    qsort(all, n, 16, compare_ids);
    for (uint32_t k = 1; k < n; k++)
        cr_assert_neq(memcmp(all[k - 1], all[k], 16), 0, "an id came twice");
    fprintf(stderr, "%u ids\n", n);
    free(all);
    fixture_end(&f);
}
