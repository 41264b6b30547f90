/* Readers that are killed or stopped, and what that costs producers. */
#include "await.h"
#include "child.h"
#include "fixture.h"

#include "bus.h"
#include "clock.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a reading child does, and how far it is. */
struct reading {
    struct fixture *f;
    bool pin;
    enum evbus_wait wait;
    enum evbus_keeper keeper;
    uint64_t n_max; /* it reads so many, then stands still without reading; 0: it reads for ever */
    _Atomic uint64_t n_read;
    _Atomic int is_ready;
};

static int read_on(void *context)
{
    struct reading *reading = context;
    struct evbus *bus;
    struct evbus_reader *reader;
    struct evbus_options options = {
        .size = sizeof options, .bus = reading->f->name, .keeper = reading->keeper, .wait = reading->wait};
    struct evbus_reader_options how = {.size = sizeof how, .pin = reading->pin};
    if (evbus_open(&bus, &options) != EVBUS_OK || evbus_reader_open(&reader, bus, &how) != EVBUS_OK)
        return 90;
    reading->is_ready = 1;
    while (reading->n_max == 0 || reading->n_read < reading->n_max) {
        struct evbus_delivery got = {.size = sizeof got};
        if (evbus_reader_next(reader, &got, UINT64_MAX) != EVBUS_OK)
            return 91;
        reading->n_read++;
    }
    reading->is_ready = 2;
    for (;;)
        pause();
}

static struct reading *make_reading(struct fixture *f)
{
    struct reading *reading = child_shared(sizeof *reading);
    reading->f = f;
    reading->keeper = EVBUS_KEEPER_NEVER;
    return reading;
}

static struct child start_reading(struct reading *reading)
{
    struct child child = child_start(read_on, reading);
    cr_assert(await_that(reading->is_ready != 0), "the reader does not start");
    return child;
}

static int publish_at_once(struct fixture *f)
{
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "\"at once\""};
    return evbus_publish(f->bus, &event, NULL);
}

/* Publishes until the pin makes the ring full. */
static void fill(struct fixture *f)
{
    int rc = EVBUS_OK;
    for (int i = 0; i < 10000 && rc == EVBUS_OK; i++)
        rc = publish_at_once(f);
    cr_assert_eq(rc, EVBUS_EFULL, "a pin that stands still must make the ring full: %d", rc);
}

static uint32_t pins(struct fixture *f)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(f->bus, &stat), EVBUS_OK);
    return stat.partitions[0].n_pins;
}

static uint32_t sleepers(struct fixture *f)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(f->bus, &stat), EVBUS_OK);
    return stat.partitions[0].n_sleepers;
}

static uint32_t places_taken(struct fixture *f)
{
    uint32_t n = 0;
    for (int i = 0; i < SLEEPERS_MAX; i++)
        n += atomic_load(&f->bus->memory.logs[0].head->sleepers[i].slot) != 0;
    return n;
}

static void kill_pinned(bool keeper, bool attach)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB", .keeper = keeper});
    struct reading *reading = make_reading(&f);
    reading->pin = true;
    reading->n_max = 1;
    struct child child = start_reading(reading);
    cr_assert_eq(publish_at_once(&f), EVBUS_OK);
    cr_assert(await_that(reading->is_ready == 2));
    fill(&f);
    child_kill(&child);
    uint64_t start = clock_mono_ns();
    if (attach)
        evbus_close(fixture_open(&f, "newcomer", EVBUS_KEEPER_NEVER));
    int rc = fixture_publish(f.bus, NULL, "\"goes on\"");
    double ms = (double)(clock_mono_ns() - start) / 1e6;
    cr_assert_eq(rc, EVBUS_OK, "the ring of a dead pin is still full after %.1f ms: %s", ms, evbus_message(f.bus));
    fprintf(stderr, "a producer goes on %.2f ms after the death of the reader that pinned (%s)\n", ms,
            keeper   ? "a keeper"
            : attach ? "a newcomer"
                     : "nobody else");
    for (int i = 0; i < 200; i++)
        cr_assert_eq(publish_at_once(&f), EVBUS_OK, "%s", evbus_message(f.bus));
    fixture_end(&f);
}

Test(readers, a_pin_ends_with_its_reader_where_there_is_a_keeper, .timeout = 60)
{ /* [guards PROGRESS] B10 */
    kill_pinned(true, false);
}

Test(readers, a_pin_ends_with_its_reader_when_somebody_attaches, .timeout = 60)
{ /* [guards PROGRESS] B10 */
    kill_pinned(false, true);
}

Test(readers, a_pin_ends_with_its_reader_for_a_producer_that_is_alone, .timeout = 60)
{ /* [guards PROGRESS] B6: whoever is blocked by the dead notices at once */
    kill_pinned(false, false);
}

Test(readers, a_reader_killed_in_its_sleep_leaves_no_bit_and_no_place, .timeout = 60)
{ /* D6 */
    struct fixture f = fixture_make((struct fixture_options){.keeper = true});
    struct reading *reading = make_reading(&f);
    reading->wait = EVBUS_WAIT_BLOCK;
    uint32_t places = places_taken(&f);
    for (int i = 0; i < 10; i++) {
        reading->is_ready = 0;
        cr_assert_eq(publish_at_once(&f),
                     EVBUS_OK); /* the keeper is busy now: it does not sleep by a bit for a second */
        cr_assert(await_that(sleepers(&f) == 0));
        struct child child = start_reading(reading);
        cr_assert(await_that(sleepers(&f) == 1), "the reader does not go to sleep");
        child_kill(&child);
        cr_assert(await_that(sleepers(&f) == 0), "its bit is still set");
        cr_assert(await_that(places_taken(&f) <= places + 1), "%u places are taken", places_taken(&f));
    }
    fixture_end(&f);
}

Test(readers, a_stopped_reader_without_a_pin_costs_producers_nothing, .timeout = 60)
{ /* [guards PROGRESS] */
    static const struct {
        const char *name;
        enum evbus_wait wait;
    } rows[] = {{"asleep", EVBUS_WAIT_BLOCK}, {"spinning", EVBUS_WAIT_SPIN}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
        struct reading *reading = make_reading(&f);
        reading->wait = rows[i].wait;
        struct child child = start_reading(reading);
        if (rows[i].wait == EVBUS_WAIT_BLOCK)
            cr_assert(await_that(sleepers(&f) == 1));
        child_stop(&child);
        for (int n = 0; n < 1000; n++) /* no waiting: a full ring would fail at once */
            cr_assert_eq(publish_at_once(&f), EVBUS_OK, "%s, event %d: %s", rows[i].name, n, evbus_message(f.bus));
        child_continue(&child);
        cr_assert(await_that(reading->n_read > 0), "%s: it does not read on", rows[i].name);
        child_kill(&child);
        fixture_end(&f);
    }
}

Test(readers, a_stopped_reader_with_a_pin_holds_producers_until_it_goes_on, .timeout = 60)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct reading *reading = make_reading(&f);
    reading->pin = true;
    struct child child = start_reading(reading);
    child_stop(&child);
    fill(&f);
    uint64_t n_before = reading->n_read;
    child_continue(&child);
    cr_assert_eq(fixture_publish(f.bus, NULL, "\"goes on\""), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_assert(await_that(reading->n_read > n_before + 10));
    child_kill(&child);
    fixture_end(&f);
}

/* A keeper that is stopped, and a reader with a pin that is killed: somebody else must free the producers. */
Test(readers, a_pin_ends_with_its_reader_though_the_keeper_is_stopped, .timeout = 60)
{ /* [guards PROGRESS] B6 B9 */
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct reading *keeping = make_reading(&f);
    keeping->keeper = EVBUS_KEEPER_VOLUNTEER;
    struct child keeper = start_reading(keeping);
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert(await_that(evbus_stat(f.bus, &stat) == EVBUS_OK && stat.keeper_slot != 0), "nobody keeps");
    struct reading *reading = make_reading(&f);
    reading->pin = true;
    reading->n_max = 1;
    struct child child = start_reading(reading);
    cr_assert_eq(publish_at_once(&f), EVBUS_OK);
    cr_assert(await_that(reading->is_ready == 2));
    fill(&f);
    child_stop(&keeper);
    child_kill(&child);
    int rc = fixture_publish(f.bus, NULL, "\"goes on\"");
    cr_assert_eq(rc, EVBUS_OK, "%u pins: %s", pins(&f), evbus_message(f.bus));
    child_continue(&keeper);
    child_kill(&keeper);
    fixture_end(&f);
}
