/* test_seek.c: a group goes back, or on, to another position: what comes then, and who may. What dies half way is
 * crash/test_seek.c's. */
#include "archive.h"
#include "await.h"
#include "clock.h"
#include "crew.h"
#include "retention.h"
#include "saved.h"

#include "group.h"
#include "lease.h"

#include <criterion/criterion.h>
#include <evbus/history.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define EVENTS  12
#define DAY_NS  (UINT64_C(86400) * CLOCK_NS_PER_S)

static const char *const keys[] = {"a", "b", "c"};

/* What a seek told. */
struct told {
    unsigned n;
    struct evbus_seek_part parts[8];
    char logs[8][64];
};

static int note(void *context, const struct evbus_seek_part *part)
{
    struct told *told = context;
    cr_assert_lt(told->n, N(told->parts));
    snprintf(told->logs[told->n], sizeof told->logs[0], "%s", part->log);
    told->parts[told->n++] = *part;
    return 0;
}

static int seek(struct evbus *bus, struct evbus_seek_options options, struct told *out)
{
    struct told told = {0};
    options.size = sizeof options;
    int rc = evbus_group_seek(bus, &options, note, &told);
    if (out != NULL)
        *out = told;
    return rc;
}

static struct fixture bus_of(unsigned partitions, const char *ring)
{
    return crew_bus(
        (struct crew_options){.partitions = partitions, .ring = ring, .settings = "\"retry\":[\"1h\",\"1h\",\"1h\"]"});
}

/* Numbers from `first` on, their keys in turn; when and where each stands. */
static void publish(struct evbus *bus, unsigned first, unsigned n, uint64_t time_ns, uint64_t *out_positions)
{
    for (unsigned i = first; i < first + n; i++) {
        char payload[16];
        struct evbus_receipt receipt = {.size = sizeof receipt};
        snprintf(payload, sizeof payload, "%u", i);
        cr_assert_eq(evbus_publish(bus,
                                   &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                         .topic = "test.a.one",
                                                         .key = keys[i % N(keys)],
                                                         .payload = payload,
                                                         .timestamp_ns = time_ns != 0 ? time_ns + i : 0},
                                   &receipt),
                     EVBUS_OK, "%s", evbus_message(bus));
        if (out_positions != NULL)
            out_positions[i - first] = receipt.position;
    }
}

static struct evbus_subscription *join(struct evbus *bus)
{
    struct evbus_subscription *sub = crew_join(bus, "crew", NULL, NULL);
    cr_assert_not_null(sub);
    return sub;
}

/* Does what comes, until nothing does: of each key one after the other. How many; *out_first: the least number. */
static unsigned work_off(struct evbus_subscription *sub, unsigned *out_first)
{
    unsigned n = 0;
    unsigned next[N(keys)] = {0};
    *out_first = UINT32_MAX;
    for (;; n++) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, 0);
        if (rc == EVBUS_ETIMEOUT)
            return n;
        cr_assert_eq(rc, EVBUS_OK);
        unsigned number = (unsigned)strtoul(event.payload, NULL, 10);
        unsigned key = number % N(keys);
        cr_assert(next[key] == 0 || number == next[key], "key %s: %u comes, %u is due", keys[key], number, next[key]);
        next[key] = number + N(keys);
        *out_first = number < *out_first ? number : *out_first;
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
}

/* By a member that comes and goes. */
static unsigned comes(struct evbus *bus, unsigned *out_first)
{
    struct evbus_subscription *sub = join(bus);
    unsigned n = work_off(sub, out_first);
    evbus_unsubscribe(sub);
    return n;
}

static void do_all(struct evbus *bus, unsigned n)
{
    unsigned first;
    cr_assert_eq(comes(bus, &first), n);
}

static void take(struct evbus_subscription *sub, struct evbus_delivery *out)
{
    *out = (struct evbus_delivery){.size = sizeof *out};
    cr_assert_eq(evbus_receive(sub, out, 0), EVBUS_OK);
}

/* A member that leaves with one event of each key waiting, others of them behind. */
static void leave_waiting(struct evbus *bus)
{
    struct evbus_subscription *sub = join(bus);
    for (size_t i = 0; i < N(keys); i++) {
        struct evbus_delivery event;
        take(sub, &event);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_RETRY, "later"), EVBUS_OK);
    }
    struct evbus_delivery none = {.size = sizeof none};
    cr_assert_eq(evbus_receive(sub, &none, 0), EVBUS_ETIMEOUT);
    evbus_unsubscribe(sub);
    cr_assert_eq(crew_stat(bus, "crew").n_pending, N(keys));
}

static uint64_t low_of(struct evbus *bus)
{
    return LOW_BEHIND(atomic_load(
               &bus->memory.logs[0].rings[0].head->lows[group_low_index(group_find(&bus->memory, "crew"))])) -
           1;
}

/* --- where to ------------------------------------------------------------------------------------------------------- */

Test(seek, back_to_the_earliest_brings_all_again_in_order_per_key)
{ /* [guards ORDER] */
    struct fixture f = bus_of(1, "64KiB");
    struct told told;
    unsigned first;
    publish(f.bus, 0, EVENTS, 0, NULL);
    do_all(f.bus, EVENTS);
    cr_assert_eq(seek(f.bus, (struct evbus_seek_options){.group = "crew", .from = EVBUS_FROM_EARLIEST}, &told),
                 EVBUS_OK, "%s", evbus_message(f.bus));
    cr_assert_eq(told.n, 1u);
    cr_expect_eq(told.parts[0].way, EVBUS_SEEK_AGAIN);
    cr_expect_str_eq(told.logs[0], "test.a");
    cr_expect_eq(told.parts[0].cells, told.parts[0].from_position - told.parts[0].to_position);
    cr_expect_eq(low_of(f.bus), told.parts[0].to_position, "and they are kept");
    cr_expect_eq(pending_start(crew_part(f.bus, "crew", 0)), told.parts[0].to_position);
    cr_expect_eq(comes(f.bus, &first), (unsigned)EVENTS);
    cr_expect_eq(first, 0u);
    cr_expect_null(crew_pins(f.bus, "crew"), "%s", crew_pins(f.bus, "crew"));
    fixture_end(&f);
}

Test(seek, to_the_latest_skips_what_was_not_taken)
{
    struct fixture f = bus_of(1, "64KiB");
    struct told told;
    unsigned first;
    publish(f.bus, 0, EVENTS, 0, NULL);
    cr_assert_eq(seek(f.bus, (struct evbus_seek_options){.group = "crew", .force = true}, &told), EVBUS_OK, "%s",
                 evbus_message(f.bus));
    cr_expect_eq(told.parts[0].way, EVBUS_SEEK_SKIPS);
    cr_expect_geq(told.parts[0].cells, (uint64_t)EVENTS);
    cr_expect_null(crew_pins(f.bus, "crew"), "what it skips is not kept: %s", crew_pins(f.bus, "crew"));
    publish(f.bus, EVENTS, 2, 0, NULL);
    cr_expect_eq(comes(f.bus, &first), 2u);
    cr_expect_eq(first, (unsigned)EVENTS);
    fixture_end(&f);
}

Test(seek, to_a_time_goes_on_at_the_first_event_that_is_not_older)
{
    struct fixture f = bus_of(1, "64KiB");
    uint64_t now_ns = clock_wall_ns();
    unsigned first;
    publish(f.bus, 0, EVENTS, now_ns, NULL);
    do_all(f.bus, EVENTS);
    struct evbus_seek_options options = {.group = "crew", .from = EVBUS_FROM_TIME, .from_time_ns = now_ns + 5};
    cr_assert_eq(seek(f.bus, options, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_eq(comes(f.bus, &first), EVENTS - 5u);
    cr_expect_eq(first, 5u);
    options.from_time_ns = now_ns + DAY_NS;
    struct told told;
    cr_assert_eq(seek(f.bus, options, &told), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_eq(told.parts[0].to_position, ring_tail(&f.bus->memory.logs[0].rings[0]), "none is as young as that");
    fixture_end(&f);
}

Test(seek, to_a_position_moves_that_partition_alone_and_may_point_into_a_frame)
{
    struct fixture f = bus_of(2, "64KiB");
    uint64_t positions[4];
    unsigned n = 0;
    char key[16];
    crew_key(1, key);
    for (; n < 4; n++) {
        struct evbus_receipt receipt = {.size = sizeof receipt};
        char payload[200] = "";
        memset(payload, '1', 150); /* several cells */
        cr_assert_eq(evbus_publish(
                         f.bus,
                         &(struct evbus_event){
                             .size = sizeof(struct evbus_event), .topic = "test.a.one", .key = key, .payload = payload},
                         &receipt),
                     EVBUS_OK);
        cr_assert_eq(receipt.partition, 1u);
        positions[n] = receipt.position;
    }
    struct evbus_subscription *sub = join(f.bus);
    struct evbus_delivery event;
    for (unsigned i = 0; i < n; i++) {
        take(sub, &event);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
    uint64_t other = atomic_load(&crew_part(f.bus, "crew", 0)->cursor);
    struct evbus_seek_options options = {.group = "crew",
                                         .from = EVBUS_FROM_POSITION,
                                         .from_position = positions[1] + 1,
                                         .log = "test.a",
                                         .has_partition = true,
                                         .partition = 1};
    struct told told;
    cr_assert_eq(seek(f.bus, options, &told), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_assert_eq(told.n, 1u);
    cr_expect_eq(told.parts[0].to_position, positions[2], "the first event behind it");
    cr_expect_not(told.parts[0].is_oldest);
    cr_expect_eq(atomic_load(&crew_part(f.bus, "crew", 0)->cursor), other);
    options.from_position = positions[1];
    cr_assert_eq(seek(f.bus, options, &told), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_eq(told.parts[0].to_position, positions[1]);
    sub = join(f.bus);
    take(sub, &event);
    cr_expect_eq(event.position, positions[1]);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(seek, to_a_position_beyond_the_tail_is_refused_with_the_tail)
{
    struct fixture f = bus_of(1, "64KiB");
    char expected[64];
    publish(f.bus, 0, EVENTS, 0, NULL);
    do_all(f.bus, EVENTS);
    uint64_t tail = ring_tail(&f.bus->memory.logs[0].rings[0]);
    struct evbus_seek_options options = {
        .group = "crew", .from = EVBUS_FROM_POSITION, .from_position = tail, .log = "test.a", .has_partition = true};
    cr_expect_eq(seek(f.bus, options, NULL), EVBUS_OK, "the tail itself is the latest: %s", evbus_message(f.bus));
    options.from_position = tail + 1;
    uint64_t cursor = pending_cursor(crew_part(f.bus, "crew", 0));
    for (int dry = 0; dry < 2; dry++) {
        options.dry_run = dry == 1;
        cr_expect_eq(seek(f.bus, options, NULL), EVBUS_EINVAL);
        snprintf(expected, sizeof expected, "tail, which is %" PRIu64, tail);
        cr_expect_not_null(strstr(evbus_message(f.bus), expected), "%s", evbus_message(f.bus));
    }
    cr_expect_eq(pending_cursor(crew_part(f.bus, "crew", 0)), cursor);
    cr_expect_eq(lease_holder(crew_part(f.bus, "crew", 0)), 0u, "nothing stays held");
    cr_expect_null(crew_pins(f.bus, "crew"), "nothing stays pinned: %s", crew_pins(f.bus, "crew"));
    fixture_end(&f);
}

Test(seek, to_a_position_that_is_not_kept_any_more_goes_on_at_the_oldest_and_says_so)
{
    struct fixture f = bus_of(1, "4KiB");
    unsigned first;
    for (unsigned i = 0; i < 40; i++) { /* several laps of 64 cells */
        publish(f.bus, i * 3, 3, 0, NULL);
        do_all(f.bus, 3);
    }
    uint64_t oldest = ring_released(&f.bus->memory.logs[0].rings[0]);
    cr_assert_gt(oldest, 0u);
    struct evbus_seek_options options = {
        .group = "crew", .from = EVBUS_FROM_POSITION, .from_position = 0, .log = "test.a", .has_partition = true};
    struct told told;
    cr_assert_eq(seek(f.bus, options, &told), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect(told.parts[0].is_oldest);
    cr_expect_eq(told.parts[0].to_position, oldest);
    cr_expect_gt(comes(f.bus, &first), 0u);
    fixture_end(&f);
}

/* --- who may -------------------------------------------------------------------------------------------------------- */

Test(seek, by_a_dry_run_changes_nothing_and_shows_what_would_move)
{
    struct fixture f = bus_of(1, "64KiB");
    struct group_part before;
    publish(f.bus, 0, EVENTS, 0, NULL);
    leave_waiting(f.bus);
    struct evbus_subscription *member = join(f.bus);
    struct evbus_delivery none = {.size = sizeof none};
    cr_assert_eq(evbus_receive(member, &none, 0), EVBUS_ETIMEOUT);
    memcpy(&before, crew_part(f.bus, "crew", 0), sizeof before);
    uint64_t low = low_of(f.bus);
    struct told told;
    cr_assert_eq(seek(f.bus, (struct evbus_seek_options){.group = "crew", .dry_run = true}, &told), EVBUS_OK,
                 "though a member lives and events would be dropped: %s", evbus_message(f.bus));
    cr_expect_eq(told.parts[0].n_in_hand, N(keys));
    cr_expect_eq(told.parts[0].n_dropped, N(keys));
    cr_assert_eq(
        seek(f.bus, (struct evbus_seek_options){.group = "crew", .from = EVBUS_FROM_EARLIEST, .dry_run = true}, &told),
        EVBUS_OK);
    cr_expect_eq(told.parts[0].way, EVBUS_SEEK_AGAIN);
    cr_expect_eq(told.parts[0].n_dropped, 0u, "they come again");
    cr_expect_eq(memcmp(&before, crew_part(f.bus, "crew", 0), sizeof before), 0);
    cr_expect_eq(low_of(f.bus), low);
    evbus_unsubscribe(member);
    fixture_end(&f);
}

Test(seek, is_refused_while_a_member_lives_and_says_who)
{
    struct fixture f = bus_of(1, "64KiB");
    struct group_part before;
    publish(f.bus, 0, EVENTS, 0, NULL);
    do_all(f.bus, EVENTS);
    struct evbus *bus = fixture_open(&f, "worker", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *member = join(bus);
    memcpy(&before, crew_part(f.bus, "crew", 0), sizeof before);
    cr_expect_eq(seek(f.bus, (struct evbus_seek_options){.group = "crew", .from = EVBUS_FROM_EARLIEST}, NULL),
                 EVBUS_EBUSY);
    cr_expect_not_null(strstr(evbus_message(f.bus), "group crew has 1 living member, worker (process "), "%s",
                       evbus_message(f.bus));
    cr_expect_eq(memcmp(&before, crew_part(f.bus, "crew", 0), sizeof before), 0);
    evbus_unsubscribe(member);
    evbus_close(bus);
    fixture_end(&f);
}

Test(seek, is_refused_where_what_is_not_done_would_be_skipped_and_says_how_much)
{
    struct fixture f = bus_of(1, "64KiB");
    unsigned first;
    publish(f.bus, 0, EVENTS, 0, NULL);
    leave_waiting(f.bus);
    struct group_part *part = crew_part(f.bus, "crew", 0);
    uint64_t low = low_of(f.bus);
    publish(f.bus, EVENTS, 2, 0, NULL);
    cr_expect_eq(seek(f.bus, (struct evbus_seek_options){.group = "crew"}, NULL), EVBUS_EBUSY);
    char expected[64];
    snprintf(expected, sizeof expected, "%" PRIu64 " cells",
             ring_tail(&f.bus->memory.logs[0].rings[0]) - pending_cursor(part));
    cr_expect_not_null(strstr(evbus_message(f.bus), expected), "%s", evbus_message(f.bus));
    cr_expect_not_null(strstr(evbus_message(f.bus), "3 events in hand"), "%s", evbus_message(f.bus));
    cr_expect_eq(crew_stat(f.bus, "crew").n_pending, N(keys), "nothing is changed");
    cr_expect_eq(low_of(f.bus), low, "and kept is what was");
    cr_expect_eq(lease_holder(part), 0u);
    cr_assert_eq(seek(f.bus, (struct evbus_seek_options){.group = "crew", .force = true}, NULL), EVBUS_OK, "%s",
                 evbus_message(f.bus));
    cr_expect_eq(crew_stat(f.bus, "crew").n_pending, 0u);
    cr_expect_eq(comes(f.bus, &first), 0u, "neither they, nor what waited behind them");
    cr_expect_null(crew_pins(f.bus, "crew"), "%s", crew_pins(f.bus, "crew"));
    fixture_end(&f);
}

Test(seek, back_before_what_waits_is_not_refused_and_its_attempts_begin_anew)
{
    struct fixture f = bus_of(1, "64KiB");
    publish(f.bus, 0, EVENTS, 0, NULL);
    leave_waiting(f.bus);
    struct told told;
    cr_assert_eq(seek(f.bus, (struct evbus_seek_options){.group = "crew", .from = EVBUS_FROM_EARLIEST}, &told),
                 EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_eq(told.parts[0].n_in_hand, N(keys));
    struct evbus_subscription *sub = join(f.bus);
    struct evbus_delivery event;
    take(sub, &event); /* at once, not in an hour */
    cr_expect_eq(event.attempt, 1u);
    cr_expect_str_eq(event.payload, "0");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(seek, by_force_fences_a_living_member_which_goes_on_from_there_by_itself)
{
    struct fixture f = bus_of(1, "64KiB");
    struct evbus *bus = fixture_open(&f, "worker", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *member = join(bus);
    struct evbus_delivery event;
    unsigned first;
    publish(f.bus, 0, EVENTS, 0, NULL);
    take(member, &event);
    cr_assert_eq(evbus_finish(member, &event, EVBUS_DONE, NULL), EVBUS_OK);
    take(member, &event);
    cr_assert_eq(
        seek(f.bus, (struct evbus_seek_options){.group = "crew", .from = EVBUS_FROM_EARLIEST, .force = true}, NULL),
        EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_eq(evbus_finish(member, &event, EVBUS_DONE, NULL), EVBUS_EFENCED, "what was in a handler");
    cr_expect_eq(work_off(member, &first), (unsigned)EVENTS, "the same member, all of it");
    cr_expect_eq(first, 0u);
    cr_expect_null(crew_pins(f.bus, "crew"), "%s", crew_pins(f.bus, "crew"));
    evbus_unsubscribe(member);
    evbus_close(bus);
    fixture_end(&f);
}

/* A member that runs, and by whose handler the group is sent back once, in the middle of what it takes from one event to the next. */
struct runner {
    struct evbus *admin;
    struct evbus_subscription *sub;
    unsigned n, numbers[2 * EVENTS];
};

static enum evbus_outcome go_back_once(void *context, const struct evbus_delivery *event, char *error)
{
    struct runner *runner = context;
    (void)error;
    cr_assert_lt(runner->n, (unsigned)(2 * EVENTS));
    runner->numbers[runner->n++] = (unsigned)strtoul(event->payload, NULL, 10);
    if (runner->n == EVENTS / 2)
        cr_assert_eq(seek(runner->admin,
                          (struct evbus_seek_options){.group = "crew", .from = EVBUS_FROM_EARLIEST, .force = true},
                          NULL),
                     EVBUS_OK, "%s", evbus_message(runner->admin));
    if (runner->n == EVENTS / 2 + EVENTS)
        evbus_stop(runner->sub);
    return EVBUS_DONE;
}

Test(seek, by_force_in_the_middle_of_a_run_begins_anew_with_the_next_event)
{ /* [guards ONE-HOLDER] */
    struct fixture f = bus_of(1, "64KiB");
    struct evbus *bus = fixture_open(&f, "worker", EVBUS_KEEPER_NEVER);
    struct runner runner = {.admin = f.bus};
    runner.sub = crew_join(bus, "crew", go_back_once, &runner);
    cr_assert_not_null(runner.sub);
    publish(f.bus, 0, EVENTS, 0, NULL);
    cr_assert_eq(evbus_run(runner.sub, NULL), EVBUS_OK, "%s", evbus_message(bus));
    cr_assert_eq(runner.n, (unsigned)(EVENTS / 2 + EVENTS));
    for (unsigned i = 0; i < runner.n; i++)
        cr_expect_eq(runner.numbers[i], i < EVENTS / 2 ? i : i - EVENTS / 2, "the %u. event is %u", i + 1,
                     runner.numbers[i]);
    cr_expect_eq(crew_stat(f.bus, "crew").n_pending, 0u);
    evbus_unsubscribe(runner.sub);
    evbus_close(bus);
    fixture_end(&f);
}

struct worker_of {
    struct fixture *f;
    _Atomic unsigned n;
    _Atomic bool may_end;
};

static void *receive_in_thread(void *context)
{
    struct worker_of *of = context;
    struct evbus *bus = fixture_open(of->f, "worker", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = crew_join(bus, "crew", NULL, NULL);
    while (!of->may_end) {
        struct evbus_delivery event = {.size = sizeof event};
        if (evbus_receive(sub, &event, 100 * CLOCK_NS_PER_MS) == EVBUS_OK &&
            evbus_finish(sub, &event, EVBUS_DONE, NULL) == EVBUS_OK)
            of->n++;
    }
    evbus_unsubscribe(sub);
    evbus_close(bus);
    return NULL;
}

Test(seek, by_force_again_and_again_under_a_member_that_works_loses_nothing)
{ /* [guards ONE-HOLDER] */
    struct fixture f = bus_of(1, "64KiB");
    struct worker_of of = {.f = &f};
    pthread_t thread;
    publish(f.bus, 0, EVENTS, 0, NULL);
    cr_assert_eq(pthread_create(&thread, NULL, receive_in_thread, &of), 0);
    for (int i = 0; i < 50; i++) {
        unsigned before = of.n;
        cr_assert_eq(
            seek(f.bus, (struct evbus_seek_options){.group = "crew", .from = EVBUS_FROM_EARLIEST, .force = true}, NULL),
            EVBUS_OK, "%s", evbus_message(f.bus));
        cr_assert(await_that(of.n >= before + EVENTS), "seek %d: only %u of %d have come again", i, of.n - before,
                  EVENTS);
    }
    of.may_end = true;
    pthread_join(thread, NULL);
    cr_expect_eq(crew_stat(f.bus, "crew").n_pending, 0u);
    fixture_end(&f);
}

Test(seek, refuses_what_it_does_not_know)
{
    struct fixture f = bus_of(2, "64KiB");
    const struct {
        const char *label;
        struct evbus_seek_options options;
        int rc;
        const char *says;
    } rows[] = {
        {"no group", {0}, EVBUS_EINVAL, "options.group"},
        {"no such group", {.group = "nobody"}, EVBUS_ENOTFOUND, "no group nobody"},
        {"no such log", {.group = "crew", .log = "test.z"}, EVBUS_ENOTFOUND, "nothing of log test.z"},
        {"a partition of no log", {.group = "crew", .has_partition = true}, EVBUS_EINVAL, "options.log"},
        {"no such partition",
         {.group = "crew", .log = "test.a", .has_partition = true, .partition = 2},
         EVBUS_EINVAL,
         "partitions 0..1"},
        {"a position of no partition", {.group = "crew", .from = EVBUS_FROM_POSITION}, EVBUS_EINVAL, "partition"},
        {"no such place", {.group = "crew", .from = (enum evbus_from)9}, EVBUS_EINVAL, "options.from"},
    };
    for (size_t i = 0; i < N(rows); i++)
        for (int dry = 0; dry < 2; dry++) {
            struct evbus_seek_options options = rows[i].options;
            options.dry_run = dry == 1;
            cr_expect_eq(seek(f.bus, options, NULL), rows[i].rc, "%s", rows[i].label);
            cr_expect_not_null(strstr(evbus_message(f.bus), rows[i].says), "%s: %s", rows[i].label,
                               evbus_message(f.bus));
        }
    fixture_end(&f);
}

/* --- what lasts ----------------------------------------------------------------------------------------------------- */

/* What the member of a bus that remembers is given first; UINT32_MAX: nothing. Then all up to the end. */
static unsigned team_gets(struct evbus *bus, unsigned *out_n)
{
    struct evbus_subscription *sub = crew_join(bus, "team", NULL, NULL);
    struct evbus_delivery event = {.size = sizeof event};
    unsigned first = UINT32_MAX;
    for (*out_n = 0; evbus_receive(sub, &event, 0) == EVBUS_OK; ++*out_n) {
        first = *out_n == 0 ? archive_seq(event.payload) : first;
        cr_assert_eq(archive_seq(event.payload), first + *out_n, "in order");
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
    return first;
}

Test(seek, still_holds_after_a_restart)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct told told;
    unsigned n;
    for (unsigned i = 0; i < 20; i++)
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", i, 100), EVBUS_OK);
    cr_assert_eq(team_gets(archive.bus, &n), 0u);
    cr_assert_eq(n, 20u);
    struct evbus_seek_options options = {.group = "team", .from = EVBUS_FROM_EARLIEST, .log = "test.a"};
    cr_assert_eq(seek(archive.bus, options, &told), EVBUS_OK, "%s", evbus_message(archive.bus));
    uint64_t start = told.parts[0].to_position;
    const struct ring *ring = archive_ring(archive.bus, "test.a");
    cr_assert(await_that(ring_journaled(ring) == ring_tail(ring)),
              "no keeper"); /* which saves what groups do, when it goes */
    evbus_close(archive.bus);
    archive_forget_memory(&archive);
    archive.bus = archive_open(&archive, true);
    cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
    struct memory *memory = &archive.bus->memory;
    uint32_t group = group_find(memory, "team");
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        if (strcmp(memory->logs[l].name, "test.a") == 0)
            cr_expect_eq(pending_start(memory_part(&memory->logs[l], 0, group)), start);
    cr_expect_eq(team_gets(archive.bus, &n), 0u);
    cr_expect_eq(n, 20u);
    cr_expect_eq(seek(archive.bus, options, &told), EVBUS_OK, "%s", evbus_message(archive.bus));
    cr_expect_eq(team_gets(archive.bus, &n), 0u, "from the life before");
    cr_expect_eq(n, 20u);
    evbus_close(archive.bus);
    evbus_remove(archive.name);
}

Test(seek, keeps_from_retention_what_is_to_come_again)
{ /* P11 */
    struct archive archive = archive_make((struct archive_options){.settings = "\"retention_bytes\":\"1KiB\","});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *writer = archive_writer(archive.bus, 1);
    struct memory *memory = &archive.bus->memory;
    struct error err = {""};
    unsigned n_events = 0, n;
    for (; ring_tail(ring) < 5 * 4096; n_events++) { /* five files */
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", n_events, 2000), EVBUS_OK);
        archive_look(writer);
    }
    cr_assert_eq(writer_sync_all(writer), WRITER_WROTE);
    cr_assert_eq(team_gets(archive.bus, &n), 0u);
    cr_assert_eq(n, n_events);
    cr_assert_eq(seek(archive.bus, (struct evbus_seek_options){.group = "team", .from = EVBUS_FROM_EARLIEST}, NULL),
                 EVBUS_OK, "%s", evbus_message(archive.bus));
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        cr_assert_eq(retention_look(memory, &memory->logs[l], 0, clock_wall_ns() + 400 * DAY_NS, &err), EVBUS_OK);
    cr_expect_eq(ring_oldest(ring), 0u);
    cr_expect_eq(team_gets(archive.bus, &n), 0u);
    cr_expect_eq(n, n_events);
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        cr_assert_eq(retention_look(memory, &memory->logs[l], 0, clock_wall_ns() + 400 * DAY_NS, &err), EVBUS_OK);
    cr_expect_gt(ring_oldest(ring), 0u, "and lets it go then");
    writer_close(writer);
    evbus_close(archive.bus);
    evbus_remove(archive.name);
}

Test(seek, that_is_begun_stands_in_a_saved_state_as_done)
{ /* P12 */
    struct fixture f = bus_of(1, "64KiB");
    struct error err = {""};
    char *text;
    size_t len;
    publish(f.bus, 0, EVENTS, 0, NULL);
    leave_waiting(f.bus);
    struct group_part *part = crew_part(f.bus, "crew", 0);
    uint16_t epoch = LEASE_EPOCH(atomic_load(&part->lease));
    atomic_store(&part->seek, SEEK_WORD(7, epoch)); /* as one that was killed then leaves it */
    cr_assert_eq(saved_snapshot(&f.bus->memory, &text, &len, &err), EVBUS_OK, "%s", err.text);
    cr_expect_not_null(strstr(text, "\"cursor\":7,\"start\":7,"), "%s", text);
    cr_expect_not_null(strstr(text, "\"pending\":[]"), "%s", text);
    free(text);
    fixture_end(&f);
}
