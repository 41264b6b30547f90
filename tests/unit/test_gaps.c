/* test_gaps.c: what follows a dead letter of its key: it is told of the gap, or waits behind it until somebody settles the letter [P14]. */
#include "gaps.h"

#include "await.h"
#include "bus.h"
#include "clock.h"
#include "crew.h"

#include <evbus/admin.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS CLOCK_NS_PER_MS
#define S  CLOCK_NS_PER_S

/* A bus whose group crew receives test.a.one, and a member of it. */
struct office {
    struct fixture f;
    struct evbus_subscription *member;
};

static struct office office_with(bool parks, const char *ring)
{
    struct office o = {
        .f = crew_bus((struct crew_options){
            .ring = ring, .settings = parks ? "\"retry\":[\"1ms\"],\"on_dead\":\"park\"" : "\"retry\":[\"1ms\"]"})};
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    cr_assert_not_null(o.member);
    return o;
}

static struct office office_make(bool parks)
{
    return office_with(parks, "64KiB");
}

static void office_end(struct office *o)
{
    evbus_unsubscribe(o->member);
    fixture_end(&o->f);
}

static void publish(struct office *o, const char *key, const char *payload)
{
    struct evbus_event event = {.topic = "test.a.one", .key = key, .payload = payload, .timeout_ns = S};
    cr_assert_eq(evbus_publish(o->f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
}

/* The next event is this one; it is finished so. */
static struct evbus_delivery handle(struct office *o, const char *payload, enum evbus_outcome outcome)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_receive(o->member, &got, AWAIT_MS * MS);
    cr_assert_eq(rc, EVBUS_OK, "instead of %s: %d %s", payload, rc, evbus_message(NULL));
    cr_assert_str_eq(got.payload, payload);
    cr_assert_eq(evbus_finish(o->member, &got, outcome, "why"), EVBUS_OK, "%s", evbus_message(NULL));
    return got;
}

static void gets_nothing(struct office *o)
{
    struct evbus_delivery got = {.size = sizeof got};
    for (int i = 0; i < 3; i++)
        cr_assert_eq(evbus_receive(o->member, &got, 0), EVBUS_ETIMEOUT, "%s", (const char *)got.payload);
}

static void make_letter(struct office *o, const char *key, const char *payload)
{
    publish(o, key, payload);
    handle(o, payload, EVBUS_REJECT);
    gets_nothing(o); /* a look publishes it */
}

static void settle(struct office *o, bool is_replay, bool force)
{
    struct evbus_settle_options options = {.size = sizeof options, .force = force, .timeout_ns = S};
    struct evbus_settle_result result = {.size = sizeof result};
    int rc = is_replay ? evbus_dead_letters_replay(o->f.bus, &options, NULL, NULL, &result)
                       : evbus_dead_letters_discard(o->f.bus, &options, NULL, NULL, &result);
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(result.n_done, 1, "%u done, %u skipped", (unsigned)result.n_done, (unsigned)result.n_skipped);
}

static int count_parked(void *context, const struct evbus_group_stat *group)
{
    *(unsigned *)context += group->n_parked;
    return 0;
}

static unsigned n_parked(struct office *o)
{
    unsigned n = 0;
    cr_assert_eq(evbus_groups(o->f.bus, count_parked, &n), EVBUS_OK);
    return n;
}

/* ---- continue ---- */

Test(gaps, later_events_of_a_dead_letters_key_are_told)
{
    struct office o = office_make(false);
    publish(&o, "a", "0");
    cr_expect_not(handle(&o, "0", EVBUS_DONE).is_after_gap);
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    publish(&o, "b", "3");
    cr_expect(handle(&o, "2", EVBUS_DONE).is_after_gap);
    cr_expect_not(handle(&o, "3", EVBUS_DONE).is_after_gap, "another key");
    publish(&o, "a", "4");
    cr_expect(handle(&o, "4", EVBUS_RETRY).is_after_gap);
    cr_expect(handle(&o, "4", EVBUS_DONE).is_after_gap, "at its second attempt, too");
    office_end(&o);
}

Test(gaps, who_waited_behind_it_is_told_too)
{
    struct office o = office_make(false);
    struct evbus_delivery first = {.size = sizeof first};
    publish(&o, "a", "1");
    cr_assert_eq(evbus_receive(o.member, &first, AWAIT_MS * MS), EVBUS_OK);
    publish(&o, "a", "2");
    gets_nothing(&o);
    cr_assert_eq(evbus_finish(o.member, &first, EVBUS_REJECT, "why"), EVBUS_OK);
    cr_expect(handle(&o, "2", EVBUS_DONE).is_after_gap);
    office_end(&o);
}

Test(gaps, a_gap_ends_when_its_letter_is_discarded)
{
    struct office o = office_make(false);
    make_letter(&o, "a", "1");
    settle(&o, false, false);
    publish(&o, "a", "2");
    cr_expect_not(handle(&o, "2", EVBUS_DONE).is_after_gap);
    office_end(&o);
}

Test(gaps, a_gap_of_two_letters_ends_with_the_second)
{
    struct office o = office_make(false);
    struct evbus_settle_options one = {.size = sizeof one, .max = 1};
    make_letter(&o, "a", "1");
    make_letter(&o, "a", "2");
    cr_assert_eq(evbus_dead_letters_discard(o.f.bus, &one, NULL, NULL, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    publish(&o, "a", "3");
    cr_expect(handle(&o, "3", EVBUS_DONE).is_after_gap);
    cr_assert_eq(evbus_dead_letters_discard(o.f.bus, &one, NULL, NULL, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    publish(&o, "a", "4");
    cr_expect_not(handle(&o, "4", EVBUS_DONE).is_after_gap);
    office_end(&o);
}

Test(gaps, a_new_member_knows_of_the_letters_before_it)
{
    struct office o = office_make(false);
    make_letter(&o, "a", "1");
    make_letter(&o, "b", "2");
    evbus_unsubscribe(o.member);
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    publish(&o, "a", "3");
    cr_expect(handle(&o, "3", EVBUS_DONE).is_after_gap);
    office_end(&o);
}

Test(gaps, knows_thousands_of_keys)
{
    struct office o = office_with(false, "4MiB");
    struct evbus_settle_options options = {.size = sizeof options, .max = 1900};
    struct evbus_settle_result result = {.size = sizeof result};
    char key[16];
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        publish(&o, key, "1");
        handle(&o, "1", EVBUS_REJECT);
        if (i % 10 == 9)
            gets_nothing(&o);
    }
    cr_assert_eq(evbus_dead_letters_discard(o.f.bus, &options, NULL, NULL, &result), EVBUS_OK, "%s",
                 evbus_message(NULL));
    cr_assert_eq(result.n_done, 1900);
    for (int i = 0; i < 2000; i += 37) {
        snprintf(key, sizeof key, "k%d", i);
        publish(&o, key, "2");
        cr_expect_eq(handle(&o, "2", EVBUS_DONE).is_after_gap, i >= 1900, "%s", key);
    }
    office_end(&o);
}

/* ---- park ---- */

Test(gaps, a_parked_key_waits_and_the_others_go_on)
{
    struct office o = office_make(true);
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    publish(&o, "b", "3");
    publish(&o, "a", "4");
    handle(&o, "3", EVBUS_DONE);
    gets_nothing(&o);
    cr_expect_eq(n_parked(&o), 1);
    office_end(&o);
}

Test(gaps, what_is_parked_is_replayed_where_it_stands_before_what_waits_behind_it)
{
    struct office o = office_make(true);
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    publish(&o, "a", "3");
    gets_nothing(&o);
    settle(&o, true, false);
    struct evbus_delivery got = handle(&o, "1", EVBUS_DONE);
    cr_expect(got.attempt == 1 && got.replayed == 1 && !got.is_after_gap, "%u %u", got.attempt, got.replayed);
    cr_expect_str_eq(got.log, "test.a");
    cr_expect_not(handle(&o, "2", EVBUS_DONE).is_after_gap);
    handle(&o, "3", EVBUS_DONE);
    gets_nothing(&o);
    cr_expect_eq(n_parked(&o), 0);
    office_end(&o);
}

Test(gaps, what_waits_behind_a_parked_event_goes_on_when_it_is_discarded)
{
    struct office o = office_make(true);
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    gets_nothing(&o);
    settle(&o, false, false);
    handle(&o, "2", EVBUS_DONE);
    make_letter(&o, "b", "3"); /* with nobody behind it */
    settle(&o, false, false);
    gets_nothing(&o);
    cr_expect_eq(n_parked(&o), 0);
    publish(&o, "b", "4");
    handle(&o, "4", EVBUS_DONE);
    office_end(&o);
}

Test(gaps, a_parked_event_that_is_damaged_is_replayed_out_of_its_letter)
{
    struct office o = office_make(true);
    const struct ring *ring = &o.f.bus->memory.logs[0].rings[0];
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    gets_nothing(&o);
    struct group_part *part = crew_part(o.f.bus, "crew", 0);
    uint64_t pos = pending_low(part);
    ((struct frame_header *)(ring->cells + (pos & (ring->capacity - 1)) * CELL_WORDS))->format = 99;
    settle(&o, true, false);
    unsigned n_seen[3] = {0}; /* of different logs: in any order */
    for (int i = 0; i < 2; i++) {
        struct evbus_delivery got = {.size = sizeof got};
        cr_assert_eq(evbus_receive(o.member, &got, AWAIT_MS * MS), EVBUS_OK, "%s", evbus_message(NULL));
        n_seen[((const char *)got.payload)[0] - '0']++;
        cr_assert_eq(evbus_finish(o.member, &got, EVBUS_DONE, NULL), EVBUS_OK);
    }
    cr_expect(n_seen[1] == 1 && n_seen[2] == 1);
    gets_nothing(&o);
    cr_expect_eq(n_parked(&o), 0);
    office_end(&o);
}

/* Or 64 of them would hold up their partition, and nobody waits behind them. */
Test(gaps, events_without_a_key_are_not_parked)
{
    struct office o = office_make(true);
    for (int i = 0; i < PENDING_MAX + 3; i++)
        make_letter(&o, NULL, "1");
    cr_expect_eq(n_parked(&o), 0);
    publish(&o, "a", "2");
    handle(&o, "2", EVBUS_DONE);
    gets_nothing(&o);
    struct evbus_settle_options options = {.size = sizeof options, .max = 1};
    cr_assert_eq(evbus_dead_letters_replay(o.f.bus, &options, NULL, NULL, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(handle(&o, "1", EVBUS_REJECT).replayed, 1);
    gets_nothing(&o);
    cr_expect_eq(n_parked(&o), 0);
    office_end(&o);
}

Test(gaps, what_dies_again_is_parked_again)
{
    struct office o = office_make(true);
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    gets_nothing(&o);
    for (uint32_t n = 1; n <= 4; n++) { /* the fourth by force */
        settle(&o, true, n > 3);
        cr_expect_eq(handle(&o, "1", EVBUS_RETRY).replayed, n);
        cr_expect_eq(handle(&o, "1", EVBUS_RETRY).attempt, 2, "two attempts, as the group has it");
        gets_nothing(&o);
        cr_expect_eq(n_parked(&o), 1);
    }
    settle(&o, true, true);
    handle(&o, "1", EVBUS_DONE);
    handle(&o, "2", EVBUS_DONE);
    office_end(&o);
}

Test(gaps, what_was_settled_while_nobody_was_there_is_seen_by_who_comes)
{
    struct office o = office_make(true);
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    make_letter(&o, "b", "3");
    publish(&o, "b", "4");
    gets_nothing(&o);
    evbus_unsubscribe(o.member);
    static const struct evbus_dead_letters_filter only_b = {.size = sizeof only_b, .key = "b"};
    struct evbus_settle_options discard_b = {.size = sizeof discard_b, .filter = &only_b};
    cr_assert_eq(evbus_dead_letters_discard(o.f.bus, &discard_b, NULL, NULL, NULL), EVBUS_OK, "%s",
                 evbus_message(NULL));
    settle(&o, true, false);
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    cr_expect_eq(handle(&o, "1", EVBUS_DONE).replayed, 1);
    unsigned n_seen[5] = {0}; /* of different keys: in any order */
    for (int i = 0; i < 2; i++) {
        struct evbus_delivery got = {.size = sizeof got};
        cr_assert_eq(evbus_receive(o.member, &got, AWAIT_MS * MS), EVBUS_OK, "%s", evbus_message(NULL));
        n_seen[((const char *)got.payload)[0] - '0']++;
        cr_assert_eq(evbus_finish(o.member, &got, EVBUS_DONE, NULL), EVBUS_OK);
    }
    cr_expect(n_seen[2] == 1 && n_seen[4] == 1);
    gets_nothing(&o);
    office_end(&o);
}

Test(gaps, a_sleeping_member_hears_that_a_letter_was_settled)
{
    struct office o = office_make(true);
    make_letter(&o, "a", "1");
    evbus_unsubscribe(o.member);
    struct evbus_settle_options options = {.size = sizeof options};
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    gets_nothing(&o);
    cr_assert_eq(evbus_dead_letters_replay(o.f.bus, &options, NULL, NULL, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    handle(&o, "1", EVBUS_DONE); /* which may sleep */
    office_end(&o);
}

/* Letters of the group `other`, discarded, until the log of dead letters has gone once round. */
static void go_round(struct office *o)
{
    const struct ring *letters = &memory_internal_log(&o->f.bus->memory, MEMORY_DLQ_LOG)->rings[0];
    static const struct evbus_dead_letters_filter of_other = {.size = sizeof of_other, .group = "other"};
    struct evbus_settle_options options = {.size = sizeof options, .filter = &of_other};
    struct evbus_subscription *other = crew_join(o->f.bus, "other", NULL, NULL);
    uint64_t from = ring_tail(letters);
    bool has_room = true;
    cr_assert_not_null(other);
    while (ring_tail(letters) < from + letters->capacity * 2 && has_room) {
        struct evbus_delivery got = {.size = sizeof got};
        struct evbus_event event = {.topic = "test.a.two", .key = "o", .payload = "0", .timeout_ns = S};
        cr_assert_eq(evbus_publish(o->f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
        cr_assert_eq(evbus_receive(other, &got, AWAIT_MS * MS), EVBUS_OK, "%s", evbus_message(NULL));
        cr_assert_eq(evbus_finish(other, &got, EVBUS_REJECT, "why"), EVBUS_OK);
        evbus_receive(other, &got, 0);
        has_room = crew_stat(o->f.bus, "other").n_dead == 0; /* what holds it is somebody's letter */
        if (has_room)
            cr_assert_eq(evbus_dead_letters_discard(o->f.bus, &options, NULL, NULL, NULL), EVBUS_OK, "%s",
                         evbus_message(NULL));
    }
    evbus_unsubscribe(other);
}

static struct office office_of_two(bool parks)
{
    struct office o = {.f = crew_bus((struct crew_options){
                           .ring = "16KiB",
                           .others = "\"other\"",
                           .settings = parks ? "\"retry\":[\"1ms\"],\"on_dead\":\"park\"" : "\"retry\":[\"1ms\"]"})};
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    cr_assert_not_null(o.member);
    return o;
}

Test(gaps, a_resolution_is_kept_until_a_member_has_read_it)
{
    struct office o = office_of_two(true);
    const struct ring *letters = &memory_internal_log(&o.f.bus->memory, MEMORY_DLQ_LOG)->rings[0];
    struct evbus_settle_options options = {.size = sizeof options};
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    gets_nothing(&o);
    evbus_unsubscribe(o.member);
    uint64_t end = ring_tail(letters);
    settle(&o, false, false);
    cr_assert_eq(evbus_dead_letters_discard(o.f.bus, &options, NULL, NULL, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_lt(LOW_BEHIND(atomic_load(&letters->head->lows[0])), end);
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    handle(&o, "2", EVBUS_DONE);
    cr_expect_eq(n_parked(&o), 0);
    cr_assert_eq(evbus_dead_letters_discard(o.f.bus, &options, NULL, NULL, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(LOW_BEHIND(atomic_load(&letters->head->lows[0])), ring_tail(letters) + 1);
    office_end(&o);
}

/* Who settles it moves the log's low first where that is full, and may be killed then: no resolution is left, and no letter. */
Test(gaps, a_parked_event_whose_letter_has_gone_is_tried_again)
{
    struct office o = office_of_two(true);
    struct ring *letters = &memory_internal_log(&o.f.bus->memory, MEMORY_DLQ_LOG)->rings[0];
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    gets_nothing(&o);
    evbus_unsubscribe(o.member);
    ring_pin_move(letters, 0, ring_tail(letters), true);
    go_round(&o);
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    handle(&o, "1", EVBUS_DONE);
    handle(&o, "2", EVBUS_DONE);
    gets_nothing(&o);
    cr_expect_eq(n_parked(&o), 0);
    office_end(&o);
}

Test(gaps, a_gap_ends_also_for_who_was_busy_until_its_resolution_had_gone)
{
    struct office o = office_of_two(false);
    make_letter(&o, "a", "1");
    publish(&o, "a", "2");
    cr_expect(handle(&o, "2", EVBUS_DONE).is_after_gap);
    settle(&o, false, false);
    go_round(&o);
    publish(&o, "a", "3");
    cr_expect_not(handle(&o, "3", EVBUS_DONE).is_after_gap);
    office_end(&o);
}

/* Each resolution needs the room of a letter that is settled, and nobody is there to read it. */
Test(gaps, parked_events_whose_letters_fill_their_log_are_replayed_while_nobody_is_there)
{
    struct office o = office_of_two(true);
    struct evbus_settle_options options = {.size = sizeof options, .timeout_ns = S};
    struct evbus_settle_result result = {.size = sizeof result};
    unsigned n = 0;
    for (; n < 100 && crew_stat(o.f.bus, "crew").n_dead == 0; n++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", n);
        make_letter(&o, key, "1");
    }
    cr_assert(n > 5 && n < 60, "%u", n);
    evbus_unsubscribe(o.member);
    cr_assert_eq(evbus_dead_letters_replay(o.f.bus, &options, NULL, NULL, &result), EVBUS_OK, "%s",
                 evbus_message(NULL));
    cr_expect_eq(result.n_done, n - 1, "the last has found no room: %u", (unsigned)result.n_done);
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    for (unsigned i = 0; i < n - 1; i++)
        handle(&o, "1", EVBUS_DONE);
    gets_nothing(&o);
    cr_expect_eq(n_parked(&o), 1, "the last, which has room now");
    office_end(&o);
}

/* ---- any schedule ---- */

#define EVENTS 400

enum stage { WAITS, IN_HAND, ENDED };

struct storm {
    enum stage stages[EVENTS];
    bool was_given[EVENTS];
    int keys[EVENTS];
    unsigned n;
    uint64_t random;
};

static unsigned chance(struct storm *storm, unsigned n)
{
    storm->random = storm->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(storm->random >> 33) % n;
}

static int note_discard(void *context, const struct evbus_dead_letter *letter)
{
    struct storm *storm = context;
    unsigned i = (unsigned)atoi(letter->event->payload);
    if (letter->skipped == NULL && i < EVENTS) {
        cr_assert_eq(storm->stages[i], WAITS, "%u is discarded in stage %d", i, storm->stages[i]);
        storm->stages[i] = ENDED;
    }
    return 0;
}

static void settle_some(struct office *o, struct storm *storm, bool is_replay, uint64_t max)
{
    struct evbus_settle_options options = {.size = sizeof options, .force = true, .timeout_ns = S, .max = max};
    int rc = is_replay ? evbus_dead_letters_replay(o->f.bus, &options, NULL, NULL, NULL)
                       : evbus_dead_letters_discard(o->f.bus, &options, note_discard, storm, NULL);
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(NULL));
}

static bool storm_receive(struct storm *storm, struct evbus_subscription *sub, struct evbus_delivery *got)
{
    *got = (struct evbus_delivery){.size = sizeof *got};
    if (evbus_receive(sub, got, 0) != EVBUS_OK) {
        got->token = NULL;
        return false;
    }
    unsigned i = (unsigned)atoi(got->payload);
    cr_assert_lt(i, storm->n);
    cr_assert_eq(storm->stages[i], WAITS, "%u is given in stage %d", i, storm->stages[i]);
    for (unsigned k = 0; k < storm->n; k++) {
        if (k == i || storm->keys[k] != storm->keys[i])
            continue;
        cr_assert_neq(storm->stages[k], IN_HAND, "%u beside %u", i, k);
        if (k < i)
            cr_assert_eq(storm->stages[k], ENDED, "%u before %u", i, k);
    }
    storm->stages[i] = IN_HAND;
    return true;
}

/* Events of a parked key come in their order, one at a time, and each ends; whoever comes, leaves, replays or discards. */
Test(gaps, any_schedule_keeps_parked_keys_in_order_and_loses_nothing, .timeout = 240)
{
    const char *given = getenv("EVBUS_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : 1;
    fprintf(stderr, "EVBUS_SEED=%llu\n", (unsigned long long)seed);
    unsigned n_rounds = getenv("EVBUS_QUICK") != NULL ? 2 : getenv("EVBUS_SOAK") != NULL ? 60 : 5;
    for (unsigned round = 0; round < n_rounds; round++) {
        struct fixture f = crew_bus((struct crew_options){
            .ring = "64KiB",
            .partitions = 2,
            .settings = round % 2 == 0 ? "\"retry\":[\"1ms\"],\"on_dead\":\"park\""
                                       : "\"retry\":[\"1ms\"],\"on_dead\":\"park\",\"outage\":2"});
        struct office o = {.f = f};
        struct storm *storm = calloc(1, sizeof *storm);
        struct evbus *buses[2] = {f.bus, fixture_open(&o.f, "second", EVBUS_KEEPER_NEVER)};
        struct evbus_subscription *subs[2] = {NULL, NULL};
        struct evbus_delivery hands[4] = {0};
        int owners[4];
        storm->random = seed + round;
        for (unsigned step = 0; step < 2500; step++) {
            unsigned what = chance(storm, 40);
            unsigned m = chance(storm, 2), h = chance(storm, 4);
            if (what < 8 && storm->n < EVENTS - 1) {
                char payload[16], key[8];
                storm->keys[storm->n] = (int)chance(storm, 6);
                snprintf(payload, sizeof payload, "%u", storm->n);
                snprintf(key, sizeof key, "k%d", storm->keys[storm->n]);
                struct evbus_event event = {.topic = "test.a.one", .key = key, .payload = payload, .timeout_ns = S};
                storm->n++;
                cr_assert_eq(evbus_publish(f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
            } else if (what < 22) {
                if (subs[m] == NULL)
                    subs[m] = crew_join(buses[m], "crew", NULL, NULL);
                if (hands[h].token == NULL && storm_receive(storm, subs[m], &hands[h]))
                    owners[h] = (int)m;
            } else if (what < 36 && hands[h].token != NULL) {
                static const enum evbus_outcome outcomes[] = {EVBUS_DONE,  EVBUS_DONE,   EVBUS_DONE,   EVBUS_RETRY,
                                                              EVBUS_RETRY, EVBUS_REJECT, EVBUS_RELEASE};
                enum evbus_outcome outcome = outcomes[chance(storm, 7)];
                unsigned i = (unsigned)atoi(hands[h].payload);
                storm->stages[i] = outcome == EVBUS_DONE ? ENDED : WAITS;
                cr_assert_eq(evbus_finish(subs[owners[h]], &hands[h], outcome, "why"), EVBUS_OK, "%s",
                             evbus_message(NULL));
                hands[h].token = NULL;
            } else if (what < 38) {
                settle_some(&o, storm, what == 36, 1 + chance(storm, 3));
            } else if (what == 38 && subs[m] != NULL) {
                for (int k = 0; k < 4; k++)
                    if (hands[k].token != NULL && owners[k] == (int)m) {
                        storm->stages[atoi(hands[k].payload)] = WAITS;
                        hands[k].token = NULL;
                    }
                evbus_unsubscribe(subs[m]);
                subs[m] = NULL;
            }
        }
        for (int k = 0; k < 4; k++)
            if (hands[k].token != NULL) {
                storm->stages[atoi(hands[k].payload)] = ENDED;
                cr_assert_eq(evbus_finish(subs[owners[k]], &hands[k], EVBUS_DONE, NULL), EVBUS_OK);
            }
        uint64_t until = clock_mono_ns() + 20 * S;
        unsigned n_left = 1;
        while (n_left > 0 && clock_mono_ns() < until) {
            settle_some(&o, storm, true, 0);
            for (int m = 0; m < 2; m++) {
                struct evbus_delivery got;
                if (subs[m] == NULL)
                    subs[m] = crew_join(buses[m], "crew", NULL, NULL);
                while (storm_receive(storm, subs[m], &got)) {
                    storm->stages[atoi(got.payload)] = ENDED;
                    cr_assert_eq(evbus_finish(subs[m], &got, EVBUS_DONE, NULL), EVBUS_OK);
                }
            }
            n_left = 0;
            for (unsigned i = 0; i < storm->n; i++)
                n_left += storm->stages[i] != ENDED;
        }
        cr_assert_eq(n_left, 0, "seed %llu: %u of %u have not ended", (unsigned long long)(seed + round), n_left,
                     storm->n);
        for (int m = 0; m < 2; m++)
            evbus_unsubscribe(subs[m]);
        evbus_close(buses[1]);
        cr_expect_eq(n_parked(&o), 0);
        free(storm);
        fixture_end(&o.f);
    }
}
