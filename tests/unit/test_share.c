/* test_share.c: one partition of a group: take, hold the key, finish, scan, run alone, take over. Time is an argument here. */
#include "share_entry.h"

#include "bus.h"
#include "clock.h"
#include "fixture.h"
#include "group.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define ADMIN   1000 /* a slot that nobody has: whose hold the next one may take */
#define MS      UINT64_C(1000000)
#define S       UINT64_C(1000000000)

enum { ITEMS = 80 };

/* The desk of a member of group "mailer", which receives test.a.one; its only share, and its hands. */
struct desk {
    struct evbus *bus;
    struct share_group of;
    struct retry retry; /* what of.retry points to */
    struct share share;
    struct item items[ITEMS];
    uint64_t due_ns; /* as the last next() said */
};

struct bed {
    struct fixture f;
    struct memory *memory;
    uint32_t group;
    uint64_t now_ns; /* beyond every wait that share_finish() stores by the real clock, when it is stepped */
};

static struct bed bed_make(const char *ring)
{
    struct bed bed = {.f = fixture_make((struct fixture_options){.ring = ring}), .now_ns = clock_mono_ns()};
    struct topic_set wanted = {{0}};
    bed.memory = &bed.f.bus->memory;
    topic_set_add(&wanted, 1);
    struct group_plan plan = {.name = "mailer", .wanted = &wanted, .n_logs = 1, .from = EVBUS_FROM_EARLIEST};
    cr_assert_eq(group_lock(bed.memory, ADMIN, true, NULL), EVBUS_OK);
    cr_assert_eq(group_make(bed.memory, &plan, &bed.group, NULL), EVBUS_OK);
    group_unlock(bed.memory, ADMIN);
    return bed;
}

static void bed_end(struct bed *bed)
{
    fixture_end(&bed->f);
}

/* Attempts 3, waits 1 s and 10 s, unless changed. */
static struct desk *member_make(struct bed *bed, const char *name)
{
    struct desk *member = calloc(1, sizeof *member);
    struct bus_thread *thread;
    member->bus = fixture_open(&bed->f, name, EVBUS_KEEPER_NEVER);
    cr_assert_eq(bus_thread(member->bus, &thread, NULL), EVBUS_OK);
    struct memory *memory = &member->bus->memory;
    member->of = (struct share_group){
        .memory = memory, .group = bed->group, .name = "mailer", .slot = thread->claim.slot, .claim = &thread->claim};
    member->retry = retry_default;
    member->of.retry = &member->retry;
    member->of.dlq_topic = memory->control->groups[bed->group].dlq_topic;
    snprintf(member->of.member, sizeof member->of.member, "%s", name);
    member->share = (struct share){.of = &member->of,
                                   .log = &memory->logs[0],
                                   .ring = &memory->logs[0].rings[0],
                                   .part = memory_part(&memory->logs[0], 0, bed->group),
                                   .own = aligned_alloc(64, PENDING_MAX * sizeof(struct share_own)),
                                   .n_beside = 1};
    for (int i = 0; i < ITEMS; i++)
        member->items[i].buffer = malloc(((size_t)FRAME_CELLS_MAX + 1) * CELL_BYTES);
    return member;
}

static bool takes(struct desk *member, uint32_t from)
{
    return share_take(&member->share, from, member->items[0].buffer);
}

static struct desk *member_with_lease(struct bed *bed, const char *name)
{
    struct desk *member = member_make(bed, name);
    cr_assert(takes(member, 0));
    return member;
}

static void member_end(struct desk *member)
{
    for (int i = 0; i < ITEMS; i++)
        free(member->items[i].buffer);
    free(member->share.own);
    evbus_close(member->bus);
    free(member);
}

/* As its burial leaves it. */
static void crash(struct desk *member)
{
    _Atomic uint64_t *lease = &member->share.part->lease;
    atomic_store(lease, LEASE_WORD(LEASE_EPOCH(atomic_load(lease)), 0));
}

static void publish(struct bed *bed, const char *key, const char *payload)
{
    cr_assert_eq(fixture_publish(bed->f.bus, key, payload), EVBUS_OK, "%s", evbus_message(bed->f.bus));
}

static void publish_all(struct bed *bed, const char *keys_and_payloads) /* "a1 b1 a2": key is the letter */
{
    char text[256];
    snprintf(text, sizeof text, "%s", keys_and_payloads);
    for (char *rest = text, *word; (word = strtok_r(rest, " ", &rest)) != NULL;) {
        char key[2] = {word[0], '\0'};
        char payload[32];
        snprintf(payload, sizeof payload, "\"%s\"", word);
        publish(bed, key, payload);
    }
}

static enum share_step step(struct bed *bed, struct desk *member, int i)
{
    struct error err = {""};
    member->due_ns = UINT64_MAX;
    return share_next(&member->share, &member->items[i], true, bed->now_ns, &member->due_ns, &err);
}

/* Its looks go on while there is something to do at once. */
static enum share_step next(struct bed *bed, struct desk *member, int i)
{
    enum share_step found = step(bed, member, i);
    for (int n = 0; n < 10 && found == SHARE_NOTHING && member->due_ns <= bed->now_ns; n++)
        found = step(bed, member, i);
    return found;
}

static bool is_payload(const struct item *item, const char *payload)
{
    size_t len = strlen(payload);
    return item->frame.payload_len == len + 2 && memcmp((const char *)item->frame.payload + 1, payload, len) == 0;
}

#define gets(bed, member, i, wanted, attempt)                                                                         \
    do {                                                                                                              \
        enum share_step found_ = next(bed, member, i);                                                                \
        cr_assert_eq(found_, SHARE_EVENT, "%s: step %d", wanted, (int)found_);                                        \
        cr_assert(is_payload(&(member)->items[i], wanted), "%.*s instead of %s",                                      \
                  (int)(member)->items[i].frame.payload_len, (const char *)(member)->items[i].frame.payload, wanted); \
        cr_assert_eq((member)->items[i].running.attempts, (uint32_t)(attempt), "%s: attempt %u", wanted,              \
                     (member)->items[i].running.attempts);                                                            \
    } while (0)

#define gets_nothing(bed, member, i)                                                                                 \
    do {                                                                                                             \
        enum share_step found_ = next(bed, member, i);                                                               \
        cr_assert_eq(found_, SHARE_NOTHING, "step %d: %.*s", (int)found_, (int)(member)->items[i].frame.payload_len, \
                     (const char *)(member)->items[i].frame.payload);                                                \
    } while (0)

static int finish(struct desk *member, int i, enum evbus_outcome outcome, const char *error)
{
    struct error err = {""};
    return share_finish(&member->items[i], (int)outcome, error, member->of.claim, &err);
}

static void done(struct desk *member, int i)
{
    cr_assert_eq(finish(member, i, EVBUS_DONE, NULL), EVBUS_OK);
}

static struct pending entry(struct desk *member, int i)
{
    return pending_load(member->share.part, member->items[i].index, pending_cursor(member->share.part));
}

/* The n-th dead letter's text, "" where there are fewer. Lives until the next call. */
static const char *letter(struct bed *bed, int n)
{
    static char text[8192];
    static const char *const letters[] = {"test.dlq.mailer"};
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_open(&reader, bed->f.bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = letters,
                                                                  .n_patterns = 1,
                                                                  .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK);
    text[0] = '\0';
    int rc = EVBUS_OK;
    for (int i = 0; i <= n && rc == EVBUS_OK; i++)
        rc = evbus_reader_next(reader, &got, 0);
    if (rc == EVBUS_OK)
        snprintf(text, sizeof text, "%s", (const char *)got.payload);
    evbus_reader_close(reader);
    return text;
}

static uint64_t low(const struct bed *bed)
{
    return LOW_BEHIND(atomic_load(&bed->memory->logs[0].rings[0].head->lows[group_low_index(bed->group)])) - 1;
}

/* --- taking -------------------------------------------------------------------------------------------------------------- */

Test(share, an_event_is_taken_run_and_done)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish(&bed, "k", "\"one\"");
    gets(&bed, a, 0, "one", 1);
    struct pending found = entry(a, 0);
    cr_expect_eq(found.state, PENDING_RUN);
    cr_expect_eq(found.epoch, a->share.epoch);
    cr_expect_gt(pending_cursor(a->share.part), found.pos, "the cursor stands behind it");
    cr_expect(share_is_running(&a->share));
    done(a, 0);
    cr_expect_eq(entry(a, 0).state, PENDING_EMPTY);
    cr_expect_not(share_is_running(&a->share));
    cr_expect_eq(atomic_load(&a->share.part->n_done), 1u);
    gets_nothing(&bed, a, 0);
    cr_expect_eq(a->due_ns, UINT64_MAX, "nothing falls due");
    member_end(a);
    bed_end(&bed);
}

/* [guards ORDER] */
Test(share, a_key_that_is_in_a_handler_holds_its_later_events_and_no_others)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 b1 a2 a3 c1 b2");
    gets(&bed, a, 0, "a1", 1);
    gets(&bed, a, 1, "b1", 1);
    gets(&bed, a, 2, "c1", 1);
    gets_nothing(&bed, a, 3);
    cr_expect(entry(a, 0).followers && entry(a, 1).followers && !entry(a, 2).followers);
    done(a, 1);
    gets(&bed, a, 1, "b2", 1);
    done(a, 0);
    gets(&bed, a, 0, "a2", 1);
    gets_nothing(&bed, a, 3);
    done(a, 0);
    gets(&bed, a, 0, "a3", 1);
    done(a, 0);
    done(a, 1);
    done(a, 2);
    gets_nothing(&bed, a, 3);
    cr_expect_eq(atomic_load(&a->share.part->n_done), 6u);
    member_end(a);
    bed_end(&bed);
}

/* [guards ORDER] */
Test(share, a_follower_that_comes_while_others_are_found_keeps_its_turn)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 a2");
    gets(&bed, a, 0, "a1", 1);
    gets_nothing(&bed, a, 1);
    done(a, 0);
    publish_all(&bed, "a3");
    gets(&bed, a, 0, "a2", 1);
    publish_all(&bed, "a4");
    gets_nothing(&bed, a, 1);
    done(a, 0);
    gets(&bed, a, 0, "a3", 1);
    done(a, 0);
    gets(&bed, a, 0, "a4", 1);
    done(a, 0);
    gets_nothing(&bed, a, 0);
    publish_all(&bed, "a5");
    gets(&bed, a, 0, "a5", 1);
    member_end(a);
    bed_end(&bed);
}

Test(share, events_without_a_key_hold_nobody)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    for (int i = 0; i < 10; i++)
        publish(&bed, NULL, "\"x\"");
    for (int i = 0; i < 10; i++)
        gets(&bed, a, i, "x", 1);
    for (int i = 9; i >= 0; i--)
        done(a, i);
    member_end(a);
    bed_end(&bed);
}

Test(share, sixty_four_are_in_flight_and_the_next_waits_for_a_place)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    char key[8];
    for (int i = 0; i < 66; i++) {
        snprintf(key, sizeof key, "k%d", i);
        publish(&bed, key, "\"x\"");
    }
    for (int i = 0; i < 64; i++)
        gets(&bed, a, i, "x", 1);
    gets_nothing(&bed, a, 64);
    done(a, 40);
    gets(&bed, a, 64, "x", 1);
    gets_nothing(&bed, a, 65);
    for (int i = 0; i < 65; i++)
        if (i != 40)
            done(a, i);
    gets(&bed, a, 65, "x", 1);
    done(a, 65);
    cr_expect_eq(atomic_load(&a->share.part->n_done), 66u);
    member_end(a);
    bed_end(&bed);
}

Test(share, what_the_group_has_not_asked_for_is_skipped_also_by_a_scan)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "k1");
    struct evbus_event unwanted = {.topic = "test.a.two", .key = "k", .payload = "\"no\""};
    cr_assert_eq(evbus_publish(bed.f.bus, &unwanted, NULL), EVBUS_OK);
    publish_all(&bed, "k2");
    cr_assert_eq(evbus_publish(bed.f.bus, &unwanted, NULL), EVBUS_OK);
    gets(&bed, a, 0, "k1", 1);
    gets_nothing(&bed, a, 1);
    done(a, 0);
    gets(&bed, a, 0, "k2", 1);
    done(a, 0);
    gets_nothing(&bed, a, 0);
    share_tell_low(&a->share, true);
    cr_expect_eq(low(&bed), ring_tail(a->share.ring), "nor is it needed");
    member_end(a);
    bed_end(&bed);
}

/* --- outcomes ------------------------------------------------------------------------------------------------------------ */

/* [guards ORDER] */
Test(share, a_failed_event_waits_with_its_key_and_the_others_go_on)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 a2 b1");
    gets(&bed, a, 0, "a1", 1);
    cr_assert_eq(finish(a, 0, EVBUS_RETRY, "no connection"), EVBUS_OK);
    bed.now_ns = clock_mono_ns();
    cr_expect_eq(entry(a, 0).state, PENDING_WAIT);
    cr_expect_eq(entry(a, 0).attempts, 1u);
    gets(&bed, a, 1, "b1", 1);
    gets_nothing(&bed, a, 2);
    cr_expect(a->due_ns > bed.now_ns + 500 * MS && a->due_ns < bed.now_ns + 1300 * MS, "due in %" PRIu64 " ms",
              (a->due_ns - bed.now_ns) / MS);
    done(a, 1);
    bed.now_ns = a->due_ns;
    gets(&bed, a, 0, "a1", 2);
    done(a, 0);
    gets(&bed, a, 0, "a2", 1);
    done(a, 0);
    cr_expect_eq(atomic_load(&a->share.part->n_redelivered), 1u);
    cr_expect_str_eq(letter(&bed, 0), "");
    member_end(a);
    bed_end(&bed);
}

Test(share, three_attempts_then_a_dead_letter_and_the_key_goes_on)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 a2");
    static const char *const errors[] = {"first", "second", "third"};
    for (int i = 0; i < 3; i++) {
        gets(&bed, a, 0, "a1", i + 1);
        cr_assert_eq(finish(a, 0, EVBUS_RETRY, errors[i]), EVBUS_OK);
        cr_expect_eq(entry(a, 0).state, i < 2 ? PENDING_WAIT : PENDING_DEAD);
        bed.now_ns += 13 * S;
    }
    gets(&bed, a, 0, "a2", 1);
    const char *text = letter(&bed, 0);
    cr_expect_not_null(strstr(text, "\"cause\":\"failed\""), "%s", text);
    const char *at = text;
    for (int i = 0; i < 3; i++) {
        at = strstr(at, errors[i]);
        cr_assert_not_null(at, "%s: %s", errors[i], text);
    }
    cr_expect_not_null(strstr(text, "\"payload\":\"a1\""), "%s", text);
    cr_expect_not_null(strstr(text, "\"member\":\"a\""), "%s", text);
    cr_expect_str_eq(letter(&bed, 1), "");
    cr_expect_eq(atomic_load(&a->share.part->n_dead), 1u);
    cr_expect_eq(atomic_load(&a->share.part->n_redelivered), 2u);
    cr_expect_eq(atomic_load(&a->share.part->n_done), 0u);
    member_end(a);
    bed_end(&bed);
}

Test(share, a_rejected_event_is_dead_at_once)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1");
    gets(&bed, a, 0, "a1", 1);
    cr_assert_eq(finish(a, 0, EVBUS_REJECT, "no such order"), EVBUS_OK);
    cr_expect_eq(entry(a, 0).state, PENDING_DEAD, "before its letter is published");
    cr_expect_str_eq(letter(&bed, 0), "");
    gets_nothing(&bed, a, 0);
    const char *text = letter(&bed, 0);
    cr_expect_not_null(strstr(text, "\"cause\":\"rejected\""), "%s", text);
    cr_expect_not_null(strstr(text, "no such order"), "%s", text);
    cr_expect_eq(entry(a, 0).state, PENDING_EMPTY);
    member_end(a);
    bed_end(&bed);
}

Test(share, a_released_event_is_not_charged)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 a2");
    for (int i = 0; i < 20; i++) {
        gets(&bed, a, 0, "a1", 1);
        cr_assert_eq(finish(a, 0, EVBUS_RELEASE, NULL), EVBUS_OK);
        bed.now_ns = clock_mono_ns();
        gets_nothing(&bed, a, 1);
        cr_expect(a->due_ns > bed.now_ns + 500 * MS && a->due_ns <= bed.now_ns + 1200 * MS, "after the first wait");
        bed.now_ns = a->due_ns;
    }
    gets(&bed, a, 0, "a1", 1);
    cr_assert_eq(finish(a, 0, EVBUS_RETRY, "x"), EVBUS_OK);
    bed.now_ns = clock_mono_ns() + 2 * S;
    gets(&bed, a, 0, "a1", 2);
    cr_assert_eq(finish(a, 0, EVBUS_RELEASE, NULL), EVBUS_OK);
    bed.now_ns = clock_mono_ns() + 2 * S;
    gets(&bed, a, 0, "a1", 2);
    done(a, 0);
    cr_expect_str_eq(letter(&bed, 0), "");
    member_end(a);
    bed_end(&bed);
}

static int defer(struct desk *member, int i, uint64_t delay_ns)
{
    member->items[i].defer_ns = delay_ns;
    return finish(member, i, EVBUS_DEFER, NULL);
}

Test(share, a_deferred_event_comes_when_its_handler_has_said_uncharged_however_often)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 a2 b1");
    gets(&bed, a, 1, "a1", 1);
    done(a, 1);
    for (int i = 0; i < 20; i++) {
        gets(&bed, a, 0, "a2", 1);
        uint64_t before = clock_mono_ns();
        cr_assert_eq(defer(a, 0, 3600 * S), EVBUS_OK);
        if (i == 0)
            gets(&bed, a, 1, "b1", 1); /* it holds its key and no other */
        bed.now_ns = clock_mono_ns();
        gets_nothing(&bed, a, 2);
        cr_expect(a->due_ns >= before + 3600 * S && a->due_ns <= bed.now_ns + 3600 * S, "when it has said");
        bed.now_ns = a->due_ns - 1;
        gets_nothing(&bed, a, 2);
        bed.now_ns = a->due_ns;
    }
    gets(&bed, a, 0, "a2", 1);
    cr_assert_eq(finish(a, 0, EVBUS_RETRY, "x"), EVBUS_OK);
    bed.now_ns = clock_mono_ns() + 2 * S;
    gets(&bed, a, 0, "a2", 2);
    cr_assert_eq(defer(a, 0, 1), EVBUS_OK);
    bed.now_ns = clock_mono_ns();
    gets(&bed, a, 0, "a2", 2);
    cr_assert_eq(defer(a, 0, 0), EVBUS_OK);
    bed.now_ns = clock_mono_ns();
    gets_nothing(&bed, a, 2);
    cr_expect(a->due_ns > bed.now_ns + 500 * MS && a->due_ns <= bed.now_ns + 1200 * MS, "as a released one");
    bed.now_ns = a->due_ns;
    gets(&bed, a, 0, "a2", 2);
    cr_assert_eq(defer(a, 0, UINT64_MAX), EVBUS_OK);
    bed.now_ns = clock_mono_ns();
    gets_nothing(&bed, a, 2);
    cr_expect(a->due_ns > bed.now_ns + 604799 * S && a->due_ns <= bed.now_ns + 604800 * S, "seven days at most");
    bed.now_ns = a->due_ns;
    gets(&bed, a, 0, "a2", 2);
    done(a, 0);
    done(a, 1);
    cr_expect_str_eq(letter(&bed, 0), "");
    member_end(a);
    bed_end(&bed);
}

Test(share, a_deferred_event_waits_on_when_its_member_has_died)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    struct desk *b = member_make(&bed, "b");
    publish_all(&bed, "a1 b1");
    gets(&bed, a, 0, "a1", 1);
    gets(&bed, a, 1, "b1", 1);
    uint64_t before = clock_mono_ns();
    cr_assert_eq(defer(a, 0, 3600 * S), EVBUS_OK);
    crash(a);
    cr_assert(takes(b, 0));
    bed.now_ns = clock_mono_ns();
    gets(&bed, b, 1, "b1", 2);
    done(b, 1);
    gets_nothing(&bed, b, 0);
    cr_expect(b->due_ns >= before + 3600 * S && b->due_ns <= bed.now_ns + 3600 * S, "%" PRIu64 " s",
              (b->due_ns - bed.now_ns) / S);
    bed.now_ns = b->due_ns;
    gets(&bed, b, 0, "a1", 1);
    /* what it said holds once: a crash now is one that is tried again at once */
    crash(b);
    cr_assert(takes(a, 0));
    bed.now_ns = clock_mono_ns();
    gets(&bed, a, 0, "a1", 2);
    done(a, 0);
    member_end(a);
    member_end(b);
    bed_end(&bed);
}

Test(share, without_waits_the_first_failure_is_the_last)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    a->retry = (struct retry){0};
    publish_all(&bed, "a1");
    gets(&bed, a, 0, "a1", 1);
    cr_assert_eq(finish(a, 0, EVBUS_RETRY, "only"), EVBUS_OK);
    gets_nothing(&bed, a, 0);
    cr_expect_not_null(strstr(letter(&bed, 0), "only"));
    member_end(a);
    bed_end(&bed);
}

Test(share, fourteen_waits_are_fifteen_attempts)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    a->retry.n_waits = 14;
    for (int i = 0; i < 14; i++)
        a->retry.waits_ns[i] = MS;
    publish_all(&bed, "a1");
    for (int i = 0; i < 15; i++) {
        gets(&bed, a, 0, "a1", i + 1);
        cr_assert_eq(finish(a, 0, EVBUS_RETRY, NULL), EVBUS_OK);
        bed.now_ns = clock_mono_ns() + 2 * MS;
    }
    gets_nothing(&bed, a, 0);
    cr_expect_not_null(strstr(letter(&bed, 0), "\"payload\":\"a1\""));
    member_end(a);
    bed_end(&bed);
}

static void publish_until(struct bed *bed, const char *key, const char *payload, uint64_t expires_at_ns)
{
    struct evbus_event event = {
        .size = sizeof event, .topic = "test.a.one", .key = key, .payload = payload, .expires_at_ns = expires_at_ns};
    cr_assert_eq(evbus_publish(bed->f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(bed->f.bus));
}

Test(share, an_event_whose_time_is_over_is_a_dead_letter_without_an_attempt_and_its_key_goes_on)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_until(&bed, "k", "\"late\"", clock_wall_ns() - 1);
    publish_until(&bed, "k", "\"next\"", clock_wall_ns() + 3600 * S);
    gets(&bed, a, 0, "next", 1);
    const char *late = letter(&bed, 0);
    cr_expect_not_null(strstr(late, "\"cause\":\"expired\",\"attempts\":[]"), "%s", late);
    cr_expect_not_null(strstr(late, "\"late\""), "%s", late);
    cr_expect_eq(atomic_load(&a->share.part->n_causes[CAUSE_EXPIRED]), 1u);
    cr_expect_eq(atomic_load(&a->share.part->n_dead), 1u);
    done(a, 0);
    member_end(a);
    bed_end(&bed);
}

Test(share, an_event_whose_time_is_over_before_its_next_attempt_is_a_dead_letter_with_those_it_had)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    clock_freeze();
    publish_until(&bed, "k", "\"late\"", clock_wall_ns() + S / 2);
    gets(&bed, a, 0, "late", 1);
    cr_assert_eq(finish(a, 0, EVBUS_RETRY, "once"), EVBUS_OK);
    clock_advance(2 * S);
    bed.now_ns = clock_mono_ns();
    gets_nothing(&bed, a, 0);
    const char *late = letter(&bed, 0);
    cr_expect_not_null(strstr(late, "\"cause\":\"expired\",\"attempts\":[{\"n\":1,"), "%s", late);
    cr_expect_not_null(strstr(late, "\"cause\":\"failed\",\"error\":\"once\"}]"), "one attempt: %s", late);
    cr_expect_eq(entry(a, 0).state, PENDING_EMPTY);
    clock_release();
    member_end(a);
    bed_end(&bed);
}

Test(share, an_attempt_whose_note_is_there_already_is_told_once)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    struct desk *b = member_make(&bed, "b");
    publish_all(&bed, "a1");
    gets(&bed, a, 0, "a1", 1);
    struct report_attempt ended = {.entry = &a->items[0].running,
                                   .id = a->items[0].frame.id,
                                   .cause = CAUSE_FAILED,
                                   .member = "a",
                                   .error = "written, and killed"};
    atomic_store(&a->share.part->side[a->items[0].index].note,
                 NOTE(report_attempt(&a->share.report, &ended, a->of.claim, 0), CAUSE_FAILED, false));
    crash(a);
    cr_assert(takes(b, 0));
    bed.now_ns = clock_mono_ns();
    gets(&bed, b, 0, "a1", 2);
    cr_assert_eq(finish(b, 0, EVBUS_REJECT, "x"), EVBUS_OK);
    gets_nothing(&bed, b, 0);
    const char *attempts = strstr(letter(&bed, 0), "\"attempts\":");
    cr_assert_not_null(attempts);
    const char *first = strstr(attempts, "{\"n\":1,");
    cr_assert_not_null(first);
    cr_expect_null(strstr(first + 1, "{\"n\":1,"), "%s", attempts);
    cr_expect_not_null(strstr(first, "written, and killed"));
    cr_expect_not_null(strstr(first, "{\"n\":2,"));
    cr_expect_eq(atomic_load(&b->share.part->n_causes[CAUSE_CRASHED]), 1u);
    cr_expect_eq(atomic_load(&b->share.part->n_causes[CAUSE_REJECTED]), 1u);
    member_end(a);
    member_end(b);
    bed_end(&bed);
}

Test(share, an_error_text_that_is_no_utf8_is_kept_as_question_marks)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1");
    gets(&bed, a, 0, "a1", 1);
    cr_assert_eq(finish(a, 0, EVBUS_REJECT, "caf\xe9!"), EVBUS_OK);
    gets_nothing(&bed, a, 0);
    cr_expect_not_null(strstr(letter(&bed, 0), "caf?!"), "%s", letter(&bed, 0));
    member_end(a);
    bed_end(&bed);
}

Test(share, finishing_twice_changes_nothing)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 a2");
    gets(&bed, a, 0, "a1", 1);
    done(a, 0);
    cr_expect_eq(finish(a, 0, EVBUS_REJECT, "late"), EVBUS_EFENCED);
    gets(&bed, a, 1, "a2", 1);
    cr_expect_eq(finish(a, 0, EVBUS_DONE, NULL), EVBUS_EFENCED, "the place is another event's");
    cr_expect_eq(entry(a, 1).state, PENDING_RUN);
    member_end(a);
    bed_end(&bed);
}

/* --- the chain: a finish that takes the next event along --------------------------------------------------------------------- */

static int chain_rc; /* what the finish has come to */

/* Item i is done; what comes next goes into item i + 1. */
static enum share_step chain(struct bed *bed, struct desk *member, int i)
{
    struct error err = {""};
    return share_finish_and_next(&member->items[i], &member->items[i + 1], bed->now_ns, &chain_rc, &err);
}

static bool has_chained(const struct desk *member, int i)
{
    return member->items[i + 1].running.pos != member->items[i].running.pos &&
           member->items[i + 1].index == member->items[i].index;
}

Test(share, a_finish_takes_the_next_event_along_in_the_same_entry)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    static const char *const along[] = {"b1", "b2", "c1"}; /* of the same key as well */
    static const uint64_t n_counted[] = {1, 1, 3}; /* of one tick all at once, with the next one or at the end */
    publish_all(&bed, "a1 b1 b2 c1");
    gets(&bed, a, 0, "a1", 1);
    for (int i = 0; i < 3; i++) {
        bed.now_ns += i == 2;
        cr_assert_eq(chain(&bed, a, i), SHARE_EVENT);
        cr_expect_eq(chain_rc, EVBUS_OK);
        cr_expect(has_chained(a, i), "in another entry");
        cr_expect(is_payload(&a->items[i + 1], along[i]));
        struct pending found = entry(a, i + 1);
        cr_expect(found.state == PENDING_RUN && found.attempts == 1 && found.pos == a->items[i + 1].running.pos);
        cr_expect_gt(pending_cursor(a->share.part), found.pos, "the cursor stands behind it");
        cr_expect_eq(atomic_load(&a->share.part->n_done), n_counted[i]);
        cr_expect_eq(entry(a, i + 1).state, PENDING_RUN);
    }
    cr_expect_eq(finish(a, 0, EVBUS_DONE, NULL), EVBUS_EFENCED, "it is finished already");
    cr_expect_eq(entry(a, 3).state, PENDING_RUN);
    cr_expect_eq(chain(&bed, a, 3), SHARE_NOTHING, "nothing comes next");
    cr_expect_eq(chain_rc, EVBUS_OK);
    cr_expect_eq(entry(a, 3).state, PENDING_EMPTY);
    cr_expect_eq(atomic_load(&a->share.part->n_done), 4u);
    share_tell_low(&a->share, true);
    cr_expect_eq(low(&bed), ring_tail(a->share.ring));
    member_end(a);
    bed_end(&bed);
}

Test(share, a_chain_that_is_fenced_between_word_and_cursor_has_counted_all_that_is_done)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 b1 c1 d1");
    gets(&bed, a, 0, "a1", 1);
    cr_assert_eq(chain(&bed, a, 0), SHARE_EVENT);
    cr_assert_eq(chain(&bed, a, 1), SHARE_EVENT);
    uint64_t cursor = atomic_load(&a->share.part->cursor);
    atomic_store(&a->share.part->cursor, CURSOR_WORD(CURSOR_POSITION(cursor), CURSOR_EPOCH(cursor) + 1));
    cr_expect_eq(chain(&bed, a, 2), SHARE_LOST);
    cr_expect_eq(atomic_load(&a->share.part->n_done), 3u);
    member_end(a);
    bed_end(&bed);
}

Test(share, what_a_chain_has_done_ends_a_streak_of_failures)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    struct outage *outage = &bed.memory->control->groups[bed.group].outage;
    publish_all(&bed, "a1 b1");
    gets(&bed, a, 0, "a1", 1);
    a->of.outage = outage;
    a->retry.outage_events = 5;
    atomic_store(&outage->streak, UINT64_C(1) << 32 | UINT64_C(1));
    cr_assert_eq(chain(&bed, a, 0), SHARE_EVENT);
    cr_expect_eq(OUTAGE_WAY(outage_streak(outage)), 0u);
    member_end(a);
    bed_end(&bed);
}

Test(share, what_was_chained_has_all_outcomes_and_holds_its_key)
{
    static const struct {
        enum evbus_outcome outcome;
        enum pending_state state;
        uint32_t attempt; /* when it comes again; 0: it does not */
    } rows[] = {{EVBUS_RETRY, PENDING_WAIT, 2},
                {EVBUS_RELEASE, PENDING_WAIT, 1},
                {EVBUS_DEFER, PENDING_WAIT, 1},
                {EVBUS_REJECT, PENDING_DEAD, 0}};
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make(NULL);
        struct desk *a = member_with_lease(&bed, "a");
        publish_all(&bed, "a1 b1 b2 a2");
        gets(&bed, a, 0, "a1", 1);
        cr_assert_eq(chain(&bed, a, 0), SHARE_EVENT);
        cr_assert_eq(finish(a, 1, rows[i].outcome, "so it is"), EVBUS_OK);
        cr_expect_eq(entry(a, 1).state, rows[i].state, "%zu", i);
        if (rows[i].attempt != 0) {
            gets(&bed, a, 2, "a2", 1); /* b2 waits */
            done(a, 2);
            gets_nothing(&bed, a, 2);
            bed.now_ns = clock_mono_ns() + 20 * S;
            gets(&bed, a, 1, "b1", rows[i].attempt);
            done(a, 1);
            gets(&bed, a, 1, "b2", 1);
        } else {
            gets(&bed, a, 1, "b2", 1);
            cr_expect_not_null(strstr(letter(&bed, 0), "\"b1\""));
            done(a, 1);
            gets(&bed, a, 1, "a2", 1);
        }
        done(a, 1);
        gets_nothing(&bed, a, 1);
        member_end(a);
        bed_end(&bed);
    }
}

/* [guards ORDER] [P2] */
Test(share, what_others_wait_behind_is_finished_by_itself)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 a2");
    gets(&bed, a, 0, "a1", 1);
    gets_nothing(&bed, a, 1);
    publish_all(&bed, "b1");
    cr_expect_eq(chain(&bed, a, 0), SHARE_NOTHING);
    cr_expect_eq(chain_rc, EVBUS_OK);
    cr_expect_eq(entry(a, 0).state, PENDING_SCAN);
    gets(&bed, a, 1, "b1", 1);
    gets(&bed, a, 0, "a2", 1);
    member_end(a);
    bed_end(&bed);
}

Test(share, what_is_not_alone_or_not_at_its_first_attempt_is_finished_by_itself)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 b1 c1 d1");
    gets(&bed, a, 0, "a1", 1);
    gets(&bed, a, 4, "b1", 1);
    cr_expect_eq(chain(&bed, a, 0), SHARE_NOTHING);
    cr_expect_eq(entry(a, 0).state, PENDING_EMPTY);
    cr_assert_eq(finish(a, 4, EVBUS_RETRY, "once"), EVBUS_OK);
    bed.now_ns = clock_mono_ns() + 2 * S;
    gets(&bed, a, 0, "b1", 2);
    cr_expect_eq(chain(&bed, a, 0), SHARE_NOTHING, "its notes would be overwritten");
    cr_expect_eq(chain_rc, EVBUS_OK);
    gets(&bed, a, 0, "c1", 1);
    cr_expect_eq(chain(&bed, a, 0), SHARE_EVENT, "alone, and for the first time");
    cr_expect(is_payload(&a->items[1], "d1"));
    member_end(a);
    bed_end(&bed);
}

Test(share, a_chain_ends_before_what_no_handler_gets)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1");
    publish_until(&bed, "a", "\"late\"", clock_wall_ns() - 1);
    publish_all(&bed, "a2");
    gets(&bed, a, 0, "a1", 1);
    cr_expect_eq(chain(&bed, a, 0), SHARE_NOTHING);
    cr_expect_eq(chain_rc, EVBUS_OK);
    cr_expect_eq(atomic_load(&a->share.part->n_done), 1u);
    gets(&bed, a, 0, "a2", 1);
    cr_expect_not_null(strstr(letter(&bed, 0), "\"cause\":\"expired\",\"attempts\":[]"));
    cr_expect_eq(atomic_load(&a->share.part->n_causes[CAUSE_EXPIRED]), 1u);
    member_end(a);
    bed_end(&bed);
}

Test(share, nothing_is_chained_while_its_partition_is_to_be_given_or_its_group_pauses)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    struct outage *outage = &bed.memory->control->groups[bed.group].outage;
    publish_all(&bed, "a1 b1 c1 d1");
    gets(&bed, a, 0, "a1", 1);
    a->share.leaving = true;
    cr_expect_eq(chain(&bed, a, 0), SHARE_NOTHING);
    cr_expect_eq(entry(a, 0).state, PENDING_EMPTY);
    a->share.leaving = false;
    gets(&bed, a, 0, "b1", 1);
    a->of.outage = outage;
    a->retry.outage_events = 5;
    atomic_store(&outage->streak, UINT64_C(1) << 32 | UINT64_C(1)
                                                          << 31); /* others' failures have paused it meanwhile */
    cr_expect(share_is_paused(&a->share));
    cr_expect_eq(chain(&bed, a, 0), SHARE_NOTHING);
    cr_expect_eq(entry(a, 0).state, PENDING_EMPTY);
    cr_expect_not(share_is_paused(&a->share), "it works again");
    gets(&bed, a, 0, "c1", 1);
    a->items[0].probe = 1; /* the one event of a pause */
    cr_expect_eq(chain(&bed, a, 0), SHARE_NOTHING);
    cr_expect_eq(entry(a, 0).state, PENDING_EMPTY);
    member_end(a);
    bed_end(&bed);
}

/* [guards ONE-HOLDER] [P3] [P4] Another takes the partition before a chain's CAS, or between that and the cursor. */
Test(share, a_chain_of_a_fenced_member_finishes_and_takes_nothing)
{
    for (int is_behind_the_word = 0; is_behind_the_word < 2; is_behind_the_word++) {
        struct bed bed = bed_make(NULL);
        struct desk *a = member_with_lease(&bed, "a");
        struct desk *b = member_make(&bed, "b");
        publish_all(&bed, "a1 b1");
        gets(&bed, a, 0, "a1", 1);
        if (is_behind_the_word) { /* as a chain leaves it there */
            struct pending found = entry(a, 0);
            uint64_t behind = pending_cursor(a->share.part);
            cr_assert_eq(chain(&bed, a, 0), SHARE_EVENT);
            cr_assert_gt(a->items[1].running.pos, found.pos);
            atomic_store(&a->share.part->cursor, CURSOR_WORD(behind, a->share.epoch));
            cr_assert(takes(b, a->of.slot));
            cr_expect_eq(finish(a, 1, EVBUS_DONE, NULL), EVBUS_EFENCED);
        } else {
            cr_assert(takes(b, a->of.slot));
            cr_expect_neq(chain(&bed, a, 0), SHARE_EVENT);
            cr_expect_eq(chain_rc, EVBUS_EFENCED);
            gets(&bed, b, 0, "a1", 2);
            done(b, 0);
        }
        gets(&bed, b, 0, "b1", 1);
        done(b, 0);
        gets_nothing(&bed, b, 0);
        cr_expect_eq(atomic_load(&b->share.part->n_done), 2u);
        member_end(a);
        member_end(b);
        bed_end(&bed);
    }
}

/* --- what is needed ---------------------------------------------------------------------------------------------------------- */

Test(share, low_is_the_oldest_event_that_is_not_done)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    publish_all(&bed, "a1 b1 c1");
    gets(&bed, a, 0, "a1", 1);
    gets(&bed, a, 1, "b1", 1);
    gets(&bed, a, 2, "c1", 1);
    done(a, 0);
    done(a, 2);
    share_tell_low(&a->share, false);
    cr_expect_eq(low(&bed), entry(a, 1).pos);
    cr_assert_eq(finish(a, 1, EVBUS_RETRY, NULL), EVBUS_OK);
    share_tell_low(&a->share, true);
    cr_expect_eq(low(&bed), entry(a, 1).pos, "it waits");
    bed.now_ns = clock_mono_ns() + 2 * S;
    gets(&bed, a, 1, "b1", 2);
    done(a, 1);
    share_give(&a->share);
    cr_expect_eq(low(&bed), ring_tail(a->share.ring), "all is done");
    cr_expect_not(a->share.held);
    cr_expect_eq(lease_holder(a->share.part), 0u);
    member_end(a);
    bed_end(&bed);
}

/* --- taking over ------------------------------------------------------------------------------------------------------------ */

/* [guards ONE-HOLDER] [P3] */
Test(share, who_was_fenced_finishes_takes_and_tells_nothing)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    struct desk *b = member_make(&bed, "b");
    publish_all(&bed, "a1 b1 c1");
    gets(&bed, a, 0, "a1", 1);
    gets(&bed, a, 1, "b1", 1);
    cr_expect_not(takes(b, 0), "a is alive");
    cr_assert(takes(b, a->of.slot));
    static const enum evbus_outcome outcomes[] = {EVBUS_DONE, EVBUS_RETRY, EVBUS_REJECT, EVBUS_RELEASE};
    for (size_t i = 0; i < N(outcomes); i++)
        cr_expect_eq(finish(a, 0, outcomes[i], "late"), EVBUS_EFENCED, "%d", (int)outcomes[i]);
    cr_expect_eq(step(&bed, a, 2), SHARE_LOST);
    uint64_t before = low(&bed);
    uint64_t cursor = pending_cursor(a->share.part);
    a->share.busy = 0;
    cr_expect_eq(step(&bed, a, 2), SHARE_LOST, "also when it thinks that nothing is pending");
    share_tell_low(&a->share, true);
    cr_expect_eq(low(&bed), before);
    cr_expect_eq(pending_cursor(b->share.part), cursor);
    share_give(&a->share);
    cr_expect(lease_is_held(b->share.part, b->share.epoch, b->of.slot));
    gets(&bed, b, 0, "a1", 2);
    gets_nothing(&bed, b, 1);
    done(b, 0);
    gets(&bed, b, 1, "b1", 2);
    done(b, 1);
    gets(&bed, b, 2, "c1", 1);
    done(b, 2);
    member_end(a);
    member_end(b);
    bed_end(&bed);
}

/* [P7] */
Test(share, what_ran_together_at_a_crash_comes_back_one_by_one)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    struct desk *b = member_make(&bed, "b");
    publish_all(&bed, "a1 b1 c1 a2 d1");
    gets(&bed, a, 0, "a1", 1);
    gets(&bed, a, 1, "b1", 1);
    gets(&bed, a, 2, "c1", 1);
    crash(a);
    cr_assert(takes(b, 0));
    static const char *const payloads[] = {"a1", "b1", "c1"};
    for (int i = 0; i < 3; i++) {
        gets(&bed, b, 0, payloads[i], 2);
        cr_expect_eq(entry(b, 0).state, PENDING_SOLO);
        gets_nothing(&bed, b, 1); /* nothing starts beside it, neither new nor old */
        done(b, 0);
    }
    gets(&bed, b, 0, "a2", 1);
    gets(&bed, b, 1, "d1", 1);
    cr_expect_eq(entry(b, 0).state, PENDING_RUN, "and then all is as always");
    done(b, 0);
    done(b, 1);
    cr_expect_str_eq(letter(&bed, 0), "");
    member_end(a);
    member_end(b);
    bed_end(&bed);
}

/* [P7] */
Test(share, one_that_is_to_run_alone_waits_for_what_runs)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    struct desk *b = member_make(&bed, "b");
    publish_all(&bed, "a1 b1");
    gets(&bed, a, 0, "a1", 1);
    cr_assert_eq(finish(a, 0, EVBUS_RELEASE, NULL), EVBUS_OK);
    gets(&bed, a, 1, "b1", 1);
    crash(a);
    cr_assert(takes(b, 0)); /* b1, alone, is due then; a1 before */
    bed.now_ns += 4 * S;
    gets(&bed, b, 0, "a1", 1);
    bed.now_ns += 2 * S;
    gets_nothing(&bed, b, 1);
    done(b, 0);
    gets(&bed, b, 1, "b1", 2);
    cr_expect_eq(entry(b, 1).state, PENDING_SOLO);
    done(b, 1);
    member_end(a);
    member_end(b);
    bed_end(&bed);
}

/* [P7] */
Test(share, only_an_event_that_was_alone_is_dead_of_crashes)
{
    struct bed bed = bed_make(NULL);
    struct desk *members[5];
    publish_all(&bed, "a1 b1");
    for (int i = 0; i < 5; i++)
        members[i] = member_make(&bed, "m");
    struct desk *m = members[0];
    cr_assert(takes(m, 0));
    gets(&bed, m, 0, "a1", 1);
    gets(&bed, m, 1, "b1", 1);
    crash(m);
    for (int i = 1; i < 3; i++) { /* a1 kills whoever runs it */
        m = members[i];
        cr_assert(takes(m, 0));
        gets(&bed, m, 0, "a1", i + 1);
        crash(m);
    }
    m = members[3];
    cr_assert(takes(m, 0));
    gets(&bed, m, 0, "b1", 2);
    const char *text = letter(&bed, 0);
    cr_expect_not_null(strstr(text, "\"cause\":\"crashed\",\"attempts\":["), "%s", text);
    cr_expect_not_null(strstr(text, "\"payload\":\"a1\""), "%s", text);
    done(m, 0);
    cr_expect_str_eq(letter(&bed, 1), "", "b1 was there each time, and never alone");
    for (int i = 0; i < 5; i++)
        member_end(members[i]);
    bed_end(&bed);
}

/* [P1] [P4] Each step of a member that dies there. */
Test(share, a_successor_goes_on_from_wherever_it_died)
{
    static const struct {
        const char *label;
        enum pending_state state;
        bool behind_cursor;
        bool followers;
        const char *expected; /* its first event; a1 stands at the entry, a2 behind it */
        uint32_t attempt;
        bool has_letter;
    } rows[] = {
        {"TAKEN, cursor not moved", PENDING_TAKEN, false, false, "a1", 1, false},
        {"TAKEN, cursor moved", PENDING_TAKEN, true, false, "a1", 1, false},
        {"RUN, cursor not moved", PENDING_RUN, false, false, "a1", 1, false},
        {"RUN", PENDING_RUN, true, false, "a1", 2, false},
        {"RUN, a2 was skipped", PENDING_RUN, true, true, "a1", 2, false},
        {"SCAN, a2 was skipped", PENDING_SCAN, true, true, "a2", 1, false},
        {"DEAD, a2 was skipped", PENDING_DEAD, true, true, "a2", 1, true},
        {"DEAD, nobody was", PENDING_DEAD, true, false, "a2", 1, true},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make(NULL);
        struct desk *a = member_with_lease(&bed, "a");
        struct desk *b = member_make(&bed, "b");
        publish_all(&bed, "a1 a2");
        gets(&bed, a, 0, "a1", 1);
        struct pending found = entry(a, 0);
        uint64_t first = found.pos;
        if (rows[i].followers)
            gets_nothing(&bed, a, 1);
        found = entry(a, 0);
        found.state = rows[i].state;
        if (rows[i].state == PENDING_TAKEN)
            found.attempts = 0;
        atomic_store(&a->share.part->pending[a->items[0].index], pending_pack(&found));
        if (!rows[i].behind_cursor)
            atomic_store(&a->share.part->cursor, CURSOR_WORD(first, a->share.epoch));
        crash(a);
        cr_assert(takes(b, 0), "%s", rows[i].label);
        enum share_step got = next(&bed, b, 0);
        cr_assert_eq(got, SHARE_EVENT, "%s: step %d", rows[i].label, (int)got);
        cr_expect(is_payload(&b->items[0], rows[i].expected), "%s: %.*s", rows[i].label,
                  (int)b->items[0].frame.payload_len, (const char *)b->items[0].frame.payload);
        cr_expect_eq(b->items[0].running.attempts, rows[i].attempt, "%s: attempt %u", rows[i].label,
                     b->items[0].running.attempts);
        cr_expect_eq(letter(&bed, 0)[0] != '\0', rows[i].has_letter, "%s", rows[i].label);
        done(b, 0);
        if (strcmp(rows[i].expected, "a1") == 0) {
            got = next(&bed, b, 0);
            cr_assert(got == SHARE_EVENT && is_payload(&b->items[0], "a2"), "%s: a2 is lost", rows[i].label);
            done(b, 0);
        }
        gets_nothing(&bed, b, 0);
        share_give(&b->share);
        cr_expect_eq(low(&bed), ring_tail(b->share.ring), "%s: nothing is pinned", rows[i].label);
        member_end(a);
        member_end(b);
        bed_end(&bed);
    }
}

/* [guards ORDER] Its key cannot be read any more. */
Test(share, what_waits_behind_a_damaged_event_is_found_by_a_successor)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    struct desk *b = member_make(&bed, "b");
    publish_all(&bed, "a1 a2 b1");
    gets(&bed, a, 0, "a1", 1);
    gets(&bed, a, 1, "b1", 1);
    done(a, 1);
    uint64_t pos = entry(a, 0).pos;
    crash(a);
    struct ring *ring = b->share.ring;
    ((struct frame_header *)(ring->cells + (pos & (ring->capacity - 1)) * CELL_WORDS))->format = 99;
    cr_assert(takes(b, 0));
    gets(&bed, b, 0, "a2", 1);
    done(b, 0);
    gets_nothing(&bed, b, 0);
    member_end(a);
    member_end(b);
    bed_end(&bed);
}

/* [guards ORDER] [P3] A zombie may write to the sides of entries at any time: they are read anew from the frames. */
Test(share, a_side_that_a_zombie_has_scribbled_on_is_not_believed)
{
    static const struct {
        const char *label;
        uint64_t time_ns; /* 0: as it was */
        uint64_t note;    /* likewise */
    } rows[] = {
        {"nothing", 0, 0},         {"a time far away", UINT64_MAX, 0},
        {"a time long ago", 1, 0}, {"a note that is nowhere", 0, UINT64_MAX & ~UINT64_C(1)},
        {"alone", 0, 1},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make(NULL);
        struct desk *a = member_with_lease(&bed, "a");
        struct desk *b = member_make(&bed, "b");
        publish_all(&bed, "a1 a2");
        gets(&bed, a, 0, "a1", 1);
        cr_assert_eq(finish(a, 0, EVBUS_RETRY, NULL), EVBUS_OK);
        gets_nothing(&bed, a, 1); /* a2 is skipped */
        struct pending_side *side = &a->share.part->side[a->items[0].index];
        if (rows[i].note != 0)
            atomic_store(&side->note, rows[i].note);
        if (rows[i].time_ns != 0)
            atomic_store(&side->time_ns, rows[i].time_ns);
        crash(a);
        publish_all(&bed, "a3");
        bed.now_ns = clock_mono_ns();
        cr_assert(takes(b, 0));
        if (rows[i].time_ns == 0) /* a1 waits, and a3 must not pass it */
            cr_expect_eq(next(&bed, b, 1), SHARE_NOTHING, "%s: %.*s passed its key's first", rows[i].label,
                         (int)b->items[1].frame.payload_len, (const char *)b->items[1].frame.payload);
        bed.now_ns += 2 * S;
        static const char *const payloads[] = {"a1", "a2", "a3"};
        for (int k = 0; k < 3; k++) {
            enum share_step got = next(&bed, b, 0);
            cr_expect(got == SHARE_EVENT && is_payload(&b->items[0], payloads[k]), "%s: step %d, %.*s instead of %s",
                      rows[i].label, (int)got, (int)b->items[0].frame.payload_len,
                      (const char *)b->items[0].frame.payload, payloads[k]);
            if (got == SHARE_EVENT)
                finish(b, 0, EVBUS_DONE, NULL);
        }
        member_end(a);
        member_end(b);
        bed_end(&bed);
    }
}

/* --- a handler that takes too long --------------------------------------------------------------------------------------- */

/* [guards ONE-HOLDER] [P8] */
Test(share, a_handler_that_takes_too_long_loses_its_event_and_its_neighbours_keep_theirs)
{
    for (int watch = 0; watch <= 1; watch++) { /* by share_next(), or where all threads are busy by share_watch() */
        struct bed bed = bed_make(NULL);
        struct desk *a = member_with_lease(&bed, "a");
        a->retry.handler_timeout_ns = S;
        publish_all(&bed, "a1 b1 a2");
        gets(&bed, a, 0, "a1", 1);
        bed.now_ns += 600 * MS;
        gets(&bed, a, 1, "b1", 1);
        gets_nothing(&bed, a, 2);
        cr_expect_eq(a->due_ns, bed.now_ns + 400 * MS, "it looks again then");
        bed.now_ns += 400 * MS;
        if (watch != 0)
            share_watch(&a->share, bed.now_ns);
        else
            gets_nothing(&bed, a, 2);
        cr_expect_eq(entry(a, 0).state, PENDING_WAIT);
        cr_expect_eq(entry(a, 1).state, PENDING_RUN);
        cr_expect_eq(finish(a, 0, EVBUS_DONE, NULL), EVBUS_EFENCED);
        done(a, 1);
        bed.now_ns += 1300 * MS;
        gets(&bed, a, 2, "a1", 2);
        cr_expect_eq(finish(a, 0, EVBUS_DONE, NULL), EVBUS_EFENCED, "it runs again, elsewhere");
        done(a, 2);
        gets(&bed, a, 0, "a2", 1);
        done(a, 0);
        member_end(a);
        bed_end(&bed);
    }
}

Test(share, the_last_attempt_that_takes_too_long_is_a_dead_letter)
{
    struct bed bed = bed_make(NULL);
    struct desk *a = member_with_lease(&bed, "a");
    a->retry.handler_timeout_ns = S;
    publish_all(&bed, "a1");
    for (int i = 0; i < 3; i++) {
        gets(&bed, a, i, "a1", i + 1);
        bed.now_ns += S;
        gets_nothing(&bed, a, 5);
        bed.now_ns += 13 * S;
    }
    gets_nothing(&bed, a, 5);
    const char *text = letter(&bed, 0);
    cr_expect_not_null(strstr(text, "\"cause\":\"timeout\""), "%s", text);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(finish(a, i, EVBUS_DONE, NULL), EVBUS_EFENCED);
    member_end(a);
    bed_end(&bed);
}

/* --- a full log of dead letters ------------------------------------------------------------------------------------------------ */

Test(share, a_letter_without_room_leaves_its_event_dead_and_is_published_later)
{
    struct bed bed = bed_make("16KiB");
    struct desk *a = member_with_lease(&bed, "a");
    struct memory_log *dlq = memory_internal_log(bed.memory, MEMORY_DLQ_LOG);
    uint64_t n_letters = 0;
    for (; n_letters < 200; n_letters++) {
        publish_all(&bed, "a1");
        gets(&bed, a, 0, "a1", 1);
        cr_assert_eq(finish(a, 0, EVBUS_REJECT, NULL), EVBUS_OK);
        next(&bed, a, 1);
        if (entry(a, 0).state == PENDING_DEAD)
            break;
    }
    cr_assert_lt(n_letters, 200u, "the log of dead letters never gets full");
    cr_expect_eq(atomic_load(&a->share.part->n_dead), n_letters);
    publish_all(&bed, "a2 b1");
    gets(&bed, a, 1, "b1", 1);
    gets_nothing(&bed, a, 2); /* a2 stays behind a1 */
    cr_expect(a->due_ns > bed.now_ns && a->due_ns <= bed.now_ns + S, "it is tried again");
    bed.now_ns += S;
    gets_nothing(&bed, a, 2);
    cr_expect_eq(entry(a, 0).state, PENDING_DEAD);
    ring_unpin(&dlq->rings[0], 0); /* as whoever has settled them will do */
    bed.now_ns += S;
    gets(&bed, a, 2, "a2", 1);
    cr_expect_eq(atomic_load(&a->share.part->n_dead), n_letters + 1);
    done(a, 1);
    done(a, 2);
    member_end(a);
    bed_end(&bed);
}

/* --- damage ---------------------------------------------------------------------------------------------------------------------- */

Test(share, a_damaged_ring_is_no_reason_to_hang, .timeout = 3)
{
    static const struct {
        const char *label;
        uint64_t tail;
        uint64_t released;
        uint64_t cursor;
    } rows[] = {
        {"released beyond the tail", 0, UINT64_C(1) << 40, 0},
        {"a cursor far beyond the tail", 0, 0, UINT64_C(1) << 40},
        {"a cursor inside a frame", 0, 0, 1},
        {"a tail beyond all positions", (UINT64_C(1) << 60), UINT64_C(1) << 40, 0},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make(NULL);
        struct desk *a = member_make(&bed, "a");
        publish_all(&bed, "a1 b1 c1 d1");
        struct ring_head *head = a->share.ring->head;
        if (rows[i].tail != 0)
            atomic_store(&head->tail, rows[i].tail);
        if (rows[i].released != 0)
            atomic_store(&head->released, RELEASED(rows[i].released, 0));
        if (rows[i].cursor != 0)
            atomic_store(&a->share.part->cursor, CURSOR_WORD(rows[i].cursor, 0));
        cr_assert(takes(a, 0), "%s", rows[i].label);
        fprintf(stderr, "%s\n", rows[i].label); /* should it hang */
        for (int k = 0; k < 4; k++)
            step(&bed, a, k);
        member_end(a);
        bed_end(&bed);
    }
}

Test(share, words_that_no_evbus_wrote_lead_nowhere_bad, .timeout = 60)
{
    const char *given = getenv("EVBUS_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : 20261;
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 "\n", seed);
    for (int round = 0; round < 20; round++) {
        struct bed bed = bed_make("16KiB");
        struct desk *a = member_make(&bed, "a");
        publish_all(&bed, "a1 b1 c1 d1 a2 b2");
        unsigned char *bytes = (unsigned char *)a->share.part;
        for (size_t i = 0; i < 200; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            bytes[(seed >> 33) % sizeof *a->share.part] = (unsigned char)(seed >> 20);
        }
        atomic_store(&a->share.part->lease, 0);
        if (round % 2 == 0)
            atomic_store(&a->share.part->cursor, CURSOR_WORD(0, 0));
        cr_assert(takes(a, 0));
        for (int k = 0; k < 40; k++) {
            bed.now_ns += S;
            if (step(&bed, a, k) == SHARE_EVENT)
                finish(a, k, (enum evbus_outcome)(k % 4), "x");
        }
        share_tell_low(&a->share, true);
        member_end(a);
        bed_end(&bed);
    }
}
