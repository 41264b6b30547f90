/* test_letters.c: dead letters are looked at, replayed and discarded: which are open, who gets what, what is on the record. */
#include <evbus/history.h>

#include "archive.h"
#include "await.h"
#include "bus.h"
#include "clock.h"
#include "crew.h"
#include "deadletters.h"
#include "group.h"
#include "hold.h"
#include "json.h"
#include "shown.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       CLOCK_NS_PER_S
#define MS      CLOCK_NS_PER_MS

/* --- a bus with letters --------------------------------------------------------------------------------------------------- */

/* Groups crew and other both receive test.a.one. */
struct office {
    struct fixture f;
    struct evbus_subscription *member; /* of crew */
};

static struct office office_make(const char *ring)
{
    struct office o = {
        .f = crew_bus((struct crew_options){.ring = ring, .more = ",\"other\"", .settings = "\"retry\":[\"1ms\"]"})};
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    cr_assert_not_null(o.member);
    return o;
}

static void office_end(struct office *o)
{
    evbus_unsubscribe(o->member);
    fixture_end(&o->f);
}

static struct evbus_receipt publish(struct evbus *bus, const char *key, const char *payload)
{
    struct evbus_receipt receipt = {.size = sizeof receipt};
    cr_assert_eq(evbus_publish(
                     bus, &(struct evbus_event){.topic = "test.a.one", .key = key, .payload = payload, .timeout_ns = S},
                     &receipt),
                 EVBUS_OK, "%s", evbus_message(bus));
    return receipt;
}

static struct evbus_delivery take(struct evbus_subscription *sub)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_receive(sub, &got, AWAIT_MS * MS);
    cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, evbus_message(NULL));
    return got;
}

static void gets_nothing(struct evbus_subscription *sub)
{
    struct evbus_delivery got = {.size = sizeof got};
    cr_expect_eq(evbus_receive(sub, &got, 0), EVBUS_ETIMEOUT);
}

static void give_up(struct evbus_subscription *sub, const char *error)
{
    struct evbus_delivery got = take(sub);
    cr_assert_eq(evbus_finish(sub, &got, EVBUS_REJECT, error), EVBUS_OK);
    gets_nothing(sub); /* the next look publishes the letter */
}

static struct evbus_receipt make_letter(struct office *o, const char *key, const char *payload)
{
    struct evbus_receipt receipt = publish(o->f.bus, key, payload);
    give_up(o->member, "no");
    return receipt;
}

/* --- what is there --------------------------------------------------------------------------------------------------------- */

#define SEEN_MAX 600

struct seen {
    unsigned n;
    struct one {
        uint8_t id[16];
        uint8_t event[16];
        char payload[32];
        char key[8];
        enum evbus_dead_letter_state state;
        uint32_t n_replays;
        uint64_t at_ns;
        bool is_skipped;
        char skipped[100];
        char by[64];
        char reason[64];
    } of[SEEN_MAX];
    unsigned most; /* after so many each() says so; 0: never */
};

static int see(void *context, const struct evbus_dead_letter *letter)
{
    struct seen *seen = context;
    cr_assert_lt(seen->n, (unsigned)SEEN_MAX);
    struct one *one = &seen->of[seen->n++];
    memcpy(one->id, letter->id, 16);
    memcpy(one->event, letter->event->id, 16);
    snprintf(one->payload, sizeof one->payload, "%s", (const char *)letter->event->payload);
    snprintf(one->key, sizeof one->key, "%s", letter->event->key);
    one->state = letter->state;
    one->n_replays = letter->n_replays;
    one->at_ns = letter->at_ns;
    one->is_skipped = letter->skipped != NULL;
    snprintf(one->skipped, sizeof one->skipped, "%s", letter->skipped != NULL ? letter->skipped : "");
    snprintf(one->by, sizeof one->by, "%s", letter->settled_service);
    snprintf(one->reason, sizeof one->reason, "%s", letter->settled_reason);
    return seen->n == seen->most ? 7 : 0;
}

static const struct seen *letters(struct evbus *bus, struct evbus_dead_letters_filter filter)
{
    static struct seen seen;
    seen = (struct seen){.n = 0};
    filter.size = sizeof filter;
    cr_assert_eq(evbus_dead_letters(bus, &filter, see, &seen), EVBUS_OK, "%s", evbus_message(bus));
    return &seen;
}

static unsigned n_open(struct evbus *bus)
{
    return letters(bus, (struct evbus_dead_letters_filter){0})->n;
}

/* The payloads, in their order: "1 2 3 ". */
static const char *payloads(const struct seen *seen)
{
    static char text[SEEN_MAX * 33];
    size_t len = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < seen->n; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s ", seen->of[i].payload);
    return text;
}

static struct evbus_settle_result replay(struct evbus *bus, struct evbus_settle_options options, struct seen *seen)
{
    struct evbus_settle_result result = {.size = sizeof result};
    options.size = sizeof options;
    if (seen != NULL)
        *seen = (struct seen){.n = 0};
    int rc = evbus_dead_letters_replay(bus, &options, seen != NULL ? see : NULL, seen, &result);
    cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, evbus_message(bus));
    return result;
}

/* --- looking --------------------------------------------------------------------------------------------------------------- */

static int see_all_fields(void *context, const struct evbus_dead_letter *letter)
{
    const struct evbus_receipt *receipt = context;
    cr_expect_eq(letter->state, EVBUS_LETTER_OPEN);
    cr_expect_str_eq(letter->group, "crew");
    cr_expect_str_eq(letter->topic, "test.a.one");
    cr_expect_str_eq(letter->log, "test.a");
    cr_expect_eq(letter->partition, 0u);
    cr_expect_eq(letter->position, receipt->position);
    cr_expect_str_eq(letter->cause, "failed");
    cr_expect_eq(letter->n_replays, 0u);
    cr_expect_eq(letter->settled_ns, 0u);
    cr_assert_eq(letter->n_attempts, 2u);
    cr_expect_eq(letter->attempts[0].n, 1u);
    cr_expect_eq(letter->attempts[1].n, 2u);
    cr_expect_str_eq(letter->attempts[0].error, "it said \"no\",\n{twice} ]}");
    cr_expect_str_eq(letter->attempts[1].error, "");
    cr_expect_str_eq(letter->attempts[1].member, "tester");
    cr_expect_str_eq(letter->attempts[1].cause, "failed");
    cr_expect_geq(letter->attempts[1].at_ns + S, letter->attempts[0].at_ns);
    const struct evbus_delivery *event = letter->event;
    cr_expect_arr_eq(event->id, receipt->id, 16);
    cr_expect_eq(event->timestamp_ns, 1769938200 * S + 123456789, "to the nanosecond");
    cr_expect_str_eq(event->topic, "test.a.one");
    cr_expect_str_eq(event->service, "tester");
    cr_expect_str_eq(event->key, "k-1");
    cr_expect_str_eq(event->payload, "{ \"price\":19.90,\r\n \"e\":1E400 }", "byte for byte");
    cr_expect_eq(event->version_major, 1);
    cr_assert_eq(event->n_versions, 3u);
    cr_expect_eq(event->versions[1].major, 1);
    cr_expect_eq(event->versions[1].minor, 7);
    cr_expect_str_eq(event->versions[1].payload, "[\"}\\\"\",{}]");
    cr_expect_eq(event->versions[2].major, 3);
    cr_expect_str_eq(event->versions[2].payload, "\n3 ");
    cr_expect_str_eq(event->traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    cr_expect_str_eq(event->tracestate, "vendor=x");
    cr_expect_str_eq(event->correlation_id, "corr");
    cr_expect_eq(event->expires_at_ns, 4102444800 * S);
    cr_expect_not_null(strstr(letter->json, "\"event\":{\"eventId\""));
    cr_expect_eq(strlen(letter->json), letter->json_len);
    return 0;
}

static struct evbus_receipt publish_all_fields(struct evbus *bus)
{
    struct evbus_receipt receipt = {.size = sizeof receipt};
    struct evbus_version more[] = {{3, 0, "\n3 ", 0}, {1, 7, "[\"}\\\"\",{}]", 0}};
    cr_assert_eq(evbus_publish(bus,
                               &(struct evbus_event){
                                   .size = sizeof(struct evbus_event),
                                   .topic = "test.a.one",
                                   .key = "k-1",
                                   .payload = "{ \"price\":19.90,\r\n \"e\":1E400 }",
                                   .timestamp_ns = 1769938200 * S + 123456789,
                                   .more_versions = more,
                                   .n_more_versions = 2,
                                   .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                   .tracestate = "vendor=x",
                                   .correlation_id = "corr",
                                   .expires_at_ns = 4102444800 * S,
                               },
                               &receipt),
                 EVBUS_OK, "%s", evbus_message(bus));
    return receipt;
}

Test(letters, a_letter_tells_everything_about_its_event_byte_for_byte)
{
    struct office o = office_make("64KiB");
    struct evbus_receipt receipt = publish_all_fields(o.f.bus);
    struct evbus_delivery got = take(o.member);
    cr_assert_eq(evbus_finish(o.member, &got, EVBUS_RETRY, "it said \"no\",\n{twice} ]}"), EVBUS_OK);
    got = take(o.member);
    cr_assert_eq(evbus_finish(o.member, &got, EVBUS_RETRY, NULL), EVBUS_OK);
    gets_nothing(o.member);
    for (int i = 0; i < 2; i++) /* looking consumes nothing */
        cr_expect_eq(evbus_dead_letters(o.f.bus, NULL, see_all_fields, &receipt), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(n_open(o.f.bus), 1u);
    office_end(&o);
}

Test(letters, each_filter_shows_what_it_says)
{
    struct office o = office_make("64KiB");
    struct evbus_subscription *other = crew_join(o.f.bus, "other", NULL, NULL);
    struct evbus_receipt one = make_letter(&o, "a", "1");
    publish(o.f.bus, "b", "2");
    for (int i = 0; i < 2; i++) {
        struct evbus_delivery got = take(o.member);
        cr_assert_eq(evbus_finish(o.member, &got, EVBUS_RETRY, "no"), EVBUS_OK);
    }
    gets_nothing(o.member);
    struct evbus_delivery got = take(other);
    evbus_finish(other, &got, EVBUS_DONE, NULL);
    give_up(other, "no");
    const struct seen *all = letters(o.f.bus, (struct evbus_dead_letters_filter){0});
    cr_assert_str_eq(payloads(all), "1 2 2 ");
    uint64_t second_ns = all->of[1].at_ns, third_ns = all->of[2].at_ns;
    uint8_t third_id[16];
    memcpy(third_id, all->of[2].id, 16);
    struct {
        const char *label;
        struct evbus_dead_letters_filter filter;
        const char *expected;
    } rows[] = {
        {"a group", {.group = "crew"}, "1 2 "},
        {"another group", {.group = "other"}, "2 "},
        {"no such group", {.group = "nobody"}, ""},
        {"a topic", {.topic = "test.a.*"}, "1 2 2 "},
        {"another topic", {.topic = "test.b.**"}, ""},
        {"a cause", {.cause = "failed"}, "2 "},
        {"another cause", {.cause = "rejected"}, "1 2 "},
        {"a key", {.key = "b"}, "2 2 "},
        {"the front of a key", {.key = ""}, ""},
        {"from a time", {.from_ns = second_ns}, "2 2 "},
        {"until a time", {.to_ns = second_ns}, "1 "},
        {"between", {.from_ns = second_ns, .to_ns = third_ns}, "2 "},
        {"a state", {.state = EVBUS_LETTER_OPEN}, "1 2 2 "},
        {"another state", {.state = EVBUS_LETTER_DISCARDED}, ""},
        {"two of them", {.group = "crew", .key = "b"}, "2 "},
    };
    for (size_t i = 0; i < N(rows); i++)
        cr_expect_str_eq(payloads(letters(o.f.bus, rows[i].filter)), rows[i].expected, "%s", rows[i].label);
    struct evbus_dead_letters_filter by_id = {.has_id = true};
    memcpy(by_id.id, one.id, 16);
    cr_expect_str_eq(payloads(letters(o.f.bus, by_id)), "1 ", "by eventId");
    memcpy(by_id.id, third_id, 16);
    cr_expect_str_eq(payloads(letters(o.f.bus, by_id)), "2 ", "by deadLetterId");
    evbus_unsubscribe(other);
    office_end(&o);
}

Test(letters, what_is_wrong_with_a_call_is_named)
{
    struct office o = office_make("64KiB");
    static char long_reason[600];
    memset(long_reason, 'x', sizeof long_reason - 1);
    static const struct {
        struct evbus_dead_letters_filter filter;
        const char *text;
    } rows[] = {
        {{.cause = "bored"}, "cause \"bored\": there are failed, "},
        {{.topic = "a"}, "segment"},
        {{.state = (enum evbus_dead_letter_state)9}, "filter.state is 9"},
    };
    struct seen seen;
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_settle_options options = {.filter = &rows[i].filter};
        cr_expect_eq(evbus_dead_letters(o.f.bus, &rows[i].filter, see, &seen), EVBUS_EINVAL);
        cr_expect_not_null(strstr(evbus_message(NULL), rows[i].text), "%s", evbus_message(NULL));
        cr_expect_eq(evbus_dead_letters_replay(o.f.bus, &options, NULL, NULL, NULL), EVBUS_EINVAL);
    }
    static const char *const reasons[] = {long_reason, "\xff"};
    for (size_t i = 0; i < N(reasons); i++)
        cr_expect_eq(
            evbus_dead_letters_discard(o.f.bus, &(struct evbus_settle_options){.reason = reasons[i]}, NULL, NULL, NULL),
            EVBUS_EINVAL);
    cr_expect_eq(evbus_dead_letters(o.f.bus, NULL, NULL, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_dead_letters(NULL, NULL, see, &seen), EVBUS_EINVAL);
    office_end(&o);
}

/* --- replay ---------------------------------------------------------------------------------------------------------------- */

Test(letters, a_replay_is_the_same_event_for_the_group_that_gave_it_up_alone)
{
    struct office o = office_make("64KiB");
    struct evbus_subscription *other = crew_join(o.f.bus, "other", NULL, NULL);
    struct evbus_receipt receipt = publish_all_fields(o.f.bus);
    struct evbus_delivery got = take(other);
    evbus_finish(other, &got, EVBUS_DONE, NULL);
    give_up(o.member, "no");
    static struct seen seen;
    struct evbus_settle_result result = replay(o.f.bus, (struct evbus_settle_options){0}, &seen);
    cr_expect(result.n_done == 1 && result.n_skipped == 0 && result.n_completed == 0 && !result.is_stopped);
    cr_expect(seen.n == 1 && seen.of[0].state == EVBUS_LETTER_REPLAYED && seen.of[0].n_replays == 1);
    got = take(o.member);
    cr_expect_arr_eq(got.id, receipt.id, 16);
    cr_expect_eq(got.timestamp_ns, 1769938200 * S + 123456789);
    cr_expect_str_eq(got.topic, "test.a.one");
    cr_expect_str_eq(got.service, "tester");
    cr_expect_str_eq(got.key, "k-1");
    cr_expect_str_eq(got.payload, "{ \"price\":19.90,\r\n \"e\":1E400 }");
    cr_assert_eq(got.n_versions, 3u);
    cr_expect_str_eq(got.versions[2].payload, "\n3 ");
    cr_expect_str_eq(got.traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    cr_expect_str_eq(got.correlation_id, "corr");
    cr_expect_eq(got.expires_at_ns, 4102444800 * S);
    cr_expect_eq(got.attempt, 1u);
    cr_expect_eq(got.replayed, 1u);
    cr_expect_str_eq(got.log, "test.replay", "where the replay stands");
    cr_assert_eq(evbus_finish(o.member, &got, EVBUS_DONE, NULL), EVBUS_OK);
    gets_nothing(o.member);
    gets_nothing(other);
    cr_expect_eq(n_open(o.f.bus), 0u);
    const struct seen *all = letters(o.f.bus, (struct evbus_dead_letters_filter){.with_settled = true});
    cr_assert_eq(all->n, 1u);
    cr_expect_eq(all->of[0].state, EVBUS_LETTER_REPLAYED);
    cr_expect_eq(all->of[0].n_replays, 1u);
    cr_expect_str_eq(all->of[0].by, "tester", "who did it is on the record");
    result = replay(o.f.bus, (struct evbus_settle_options){0}, NULL);
    cr_expect_eq(result.n_done, 0u, "what is replayed is not replayed again");
    gets_nothing(o.member);
    evbus_unsubscribe(other);
    office_end(&o);
}

Test(letters, what_dies_again_is_the_same_letter_and_after_three_replays_only_force_replays_it)
{
    struct office o = office_make("64KiB");
    uint8_t id[16];
    make_letter(&o, "k", "1");
    memcpy(id, letters(o.f.bus, (struct evbus_dead_letters_filter){0})->of[0].id, 16);
    for (uint32_t n = 1; n <= 3; n++) {
        cr_assert_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
        cr_assert_eq(n_open(o.f.bus), 0u);
        struct evbus_delivery got = take(o.member);
        cr_expect_eq(got.replayed, n);
        cr_expect_eq(got.attempt, 1u, "its attempts begin anew");
        cr_assert_eq(evbus_finish(o.member, &got, EVBUS_RETRY, "no"), EVBUS_OK);
        give_up(o.member, "no again");
        const struct seen *open = letters(o.f.bus, (struct evbus_dead_letters_filter){0});
        cr_assert_eq(open->n, 1u, "after %u replays", n);
        cr_expect_arr_eq(open->of[0].id, id, 16);
        cr_expect_eq(open->of[0].n_replays, n);
        cr_expect_eq(open->of[0].state, n == 3 ? EVBUS_LETTER_QUARANTINED : EVBUS_LETTER_OPEN);
    }
    static struct seen seen;
    struct evbus_settle_result result = replay(o.f.bus, (struct evbus_settle_options){0}, &seen);
    cr_expect(result.n_done == 0 && result.n_skipped == 1);
    cr_assert_eq(seen.n, 1u);
    cr_expect_not_null(strstr(seen.of[0].skipped, "replayed 3 times already: --force"), "%s", seen.of[0].skipped);
    gets_nothing(o.member);
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){.force = true}, NULL).n_done, 1u);
    cr_expect_eq(take(o.member).replayed, 4u);
    office_end(&o);
}

Test(letters, those_of_a_key_come_in_the_order_of_their_events)
{
    struct office o = office_make("64KiB");
    struct evbus_delivery events[6];
    for (unsigned i = 0; i < 6; i++) {
        char payload[8], key[8];
        snprintf(payload, sizeof payload, "%u", i);
        snprintf(key, sizeof key, "k%u", i); /* in hand at the same time, so that they can die in any order */
        publish(o.f.bus, key, payload);
    }
    for (unsigned i = 0; i < 6; i++)
        events[i] = take(o.member);
    static const unsigned order[] = {3, 1, 5, 0, 4, 2};
    for (unsigned i = 0; i < 6; i++) {
        cr_assert_eq(evbus_finish(o.member, &events[order[i]], EVBUS_REJECT, "no"), EVBUS_OK);
        gets_nothing(o.member);
    }
    cr_assert_str_eq(payloads(letters(o.f.bus, (struct evbus_dead_letters_filter){0})), "3 1 5 0 4 2 ");
    static struct seen seen;
    replay(o.f.bus, (struct evbus_settle_options){0}, &seen);
    cr_expect_str_eq(payloads(&seen), "0 1 2 3 4 5 ");
    for (unsigned i = 0; i < 6; i++)
        cr_expect_eq(strtoul(take(o.member).payload, NULL, 10), i);
    office_end(&o);
}

Test(letters, one_of_a_key_is_handled_behind_the_one_before)
{
    struct office o = office_make("64KiB");
    for (unsigned i = 0; i < 4; i++)
        make_letter(&o, i % 2 == 0 ? "a" : "b", (const char *[]){"0", "1", "2", "3"}[i]);
    replay(o.f.bus, (struct evbus_settle_options){0}, NULL);
    struct evbus_delivery first = take(o.member), second = take(o.member);
    cr_expect_str_eq(first.payload, "0");
    cr_expect_str_eq(second.payload, "1");
    gets_nothing(o.member);
    evbus_finish(o.member, &first, EVBUS_DONE, NULL);
    cr_expect_str_eq(take(o.member).payload, "2");
    gets_nothing(o.member);
    office_end(&o);
}

Test(letters, a_dry_run_changes_nothing_and_tells_what_would_be)
{
    struct office o = office_make("64KiB");
    static struct seen seen;
    make_letter(&o, "a", "1");
    make_letter(&o, "b", "2");
    struct ring *rings[] = {&memory_internal_log(&o.f.bus->memory, MEMORY_DLQ_LOG)->rings[0],
                            &memory_internal_log(&o.f.bus->memory, MEMORY_REPLAY_LOG)->rings[0]};
    uint64_t tails[] = {ring_tail(rings[0]), ring_tail(rings[1])};
    struct evbus_settle_result result = replay(o.f.bus, (struct evbus_settle_options){.dry_run = true}, &seen);
    cr_expect_eq(result.n_done, 2u);
    cr_expect_str_eq(payloads(&seen), "1 2 ");
    cr_expect_eq(seen.of[0].state, EVBUS_LETTER_OPEN);
    result = replay(o.f.bus, (struct evbus_settle_options){.dry_run = true, .max = 1}, &seen);
    cr_expect(result.n_done == 1 && result.is_stopped);
    for (size_t i = 0; i < 2; i++)
        cr_expect_eq(ring_tail(rings[i]), tails[i]);
    cr_expect_eq(n_open(o.f.bus), 2u);
    gets_nothing(o.member);
    office_end(&o);
}

static int n_asked;

static bool stop_at_second(void *context)
{
    (void)context;
    return ++n_asked > 1;
}

Test(letters, a_run_ends_after_so_many_or_when_it_is_told_to_and_the_next_goes_on)
{
    struct office o = office_make("64KiB");
    static struct seen seen;
    for (unsigned i = 0; i < 6; i++)
        make_letter(&o, "k", (const char *[]){"0", "1", "2", "3", "4", "5"}[i]);
    struct evbus_settle_result result = replay(o.f.bus, (struct evbus_settle_options){.max = 2}, &seen);
    cr_expect(result.n_done == 2 && result.is_stopped);
    cr_expect_str_eq(payloads(&seen), "0 1 ");
    seen = (struct seen){.most = 1};
    cr_expect_eq(evbus_dead_letters_replay(o.f.bus, NULL, see, &seen, &result), 7, "what each() says is returned");
    cr_expect_str_eq(payloads(&seen), "2 ");
    cr_expect_eq(n_open(o.f.bus), 3u, "and is on the record");
    n_asked = 0;
    result = replay(o.f.bus, (struct evbus_settle_options){.stop = stop_at_second}, &seen);
    cr_expect(result.is_stopped);
    cr_expect_str_eq(payloads(&seen), "3 ");
    replay(o.f.bus, (struct evbus_settle_options){0}, &seen);
    cr_expect_str_eq(payloads(&seen), "4 5 ");
    for (unsigned i = 0; i < 6; i++) {
        struct evbus_delivery got = take(o.member);
        cr_expect_eq(strtoul(got.payload, NULL, 10), i, "each once, in their order");
        evbus_finish(o.member, &got, EVBUS_DONE, NULL);
    }
    gets_nothing(o.member);
    office_end(&o);
}

Test(letters, no_more_are_replayed_in_a_second_than_the_rate_says)
{
    struct office o = office_make("64KiB");
    for (unsigned i = 0; i < 5; i++)
        make_letter(&o, "k", "1");
    uint64_t before = await_now_ms();
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){.rate = 20}, NULL).n_done, 5u);
    cr_expect_geq(await_now_ms() - before, 195u, "the first at once, then one every 50 ms");
    office_end(&o);
}

Test(letters, one_replays_at_a_time_and_the_others_are_told_who)
{
    struct office o = office_make("64KiB");
    make_letter(&o, "k", "1");
    struct evbus *elsewhere = fixture_open(&o.f, "operator", EVBUS_KEEPER_NEVER);
    struct bus_thread *thread;
    cr_assert_eq(bus_thread(elsewhere, &thread, NULL), EVBUS_OK);
    struct control *control = o.f.bus->memory.control;
    cr_assert(hold_take(&control->settler, control->slots, thread->claim.slot));
    cr_expect_eq(evbus_dead_letters_replay(o.f.bus, NULL, NULL, NULL, NULL), EVBUS_EBUSY);
    char expected[64];
    snprintf(expected, sizeof expected, "operator (process %d) replays or discards", (int)getpid());
    cr_expect_not_null(strstr(evbus_message(NULL), expected), "%s", evbus_message(NULL));
    cr_expect_eq(evbus_dead_letters_discard(o.f.bus, NULL, NULL, NULL, NULL), EVBUS_EBUSY);
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){.dry_run = true}, NULL).n_done, 1u, "a look is free");
    hold_leave(&control->settler, thread->claim.slot);
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
    cr_expect_eq(hold_slot(&control->settler), 0u, "it is left again");
    evbus_close(elsewhere);
    office_end(&o);
}

Test(letters, the_letters_of_a_group_that_is_gone_are_left)
{
    struct office o = office_make("64KiB");
    static struct seen seen;
    make_letter(&o, "k", "1");
    evbus_unsubscribe(o.member);
    o.member = NULL;
    cr_assert_eq(evbus_group_remove(o.f.bus, "crew"), EVBUS_OK);
    struct evbus_settle_result result = replay(o.f.bus, (struct evbus_settle_options){0}, &seen);
    cr_expect(result.n_done == 0 && result.n_skipped == 1);
    cr_expect_not_null(strstr(seen.of[0].skipped, "its group is not there any more"), "%s", seen.of[0].skipped);
    cr_assert_eq(evbus_dead_letters_discard(o.f.bus, NULL, NULL, NULL, &result), EVBUS_OK);
    cr_expect_eq(result.n_done, 1u);
    office_end(&o);
}

/* A member that comes later may publish the letter once more: nothing is done about it before. [P13] */
Test(letters, one_whose_entry_still_says_dead_is_left)
{
    struct office o = office_make("64KiB");
    static struct seen seen;
    make_letter(&o, "k", "1");
    struct evbus_receipt receipt = publish(o.f.bus, "k", "2");
    struct evbus_delivery got = take(o.member);
    cr_assert_eq(got.position, receipt.position);
    struct group_part *part = crew_part(o.f.bus, "crew", 0);
    uint64_t word = atomic_load(&part->pending[0]);
    struct pending entry = pending_unpack(word, pending_cursor(part));
    cr_assert_eq(entry.pos, receipt.position);
    struct pending dead = entry;
    dead.state = PENDING_DEAD;
    cr_assert_eq(evbus_finish(o.member, &got, EVBUS_REJECT, "no"), EVBUS_OK);
    gets_nothing(o.member);
    cr_assert_eq(n_open(o.f.bus), 2u);
    atomic_store(&part->pending[0], pending_pack(&dead));
    struct evbus_settle_result result = replay(o.f.bus, (struct evbus_settle_options){0}, &seen);
    cr_expect(result.n_done == 1 && result.n_skipped == 1);
    cr_expect_str_eq(payloads(&seen), "1 2 ");
    cr_expect_not_null(strstr(seen.of[1].skipped, "not done with it yet"), "%s", seen.of[1].skipped);
    cr_assert_eq(evbus_dead_letters_discard(o.f.bus, NULL, NULL, NULL, &result), EVBUS_OK);
    cr_expect(result.n_done == 0 && result.n_skipped == 1);
    dead.state = PENDING_EMPTY;
    atomic_store(&part->pending[0], (uint64_t)dead.epoch << 8);
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
    office_end(&o);
}

/* Its time was over before a handler had it; who replays it knows that. */
Test(letters, what_has_expired_is_handled_when_it_is_replayed)
{
    struct office o = office_make("64KiB");
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "1", .expires_at_ns = 5};
    cr_assert_eq(evbus_publish(o.f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    gets_nothing(o.member);
    gets_nothing(o.member);
    cr_assert_eq(letters(o.f.bus, (struct evbus_dead_letters_filter){.cause = "expired"})->n, 1u);
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
    struct evbus_delivery got = take(o.member);
    cr_expect_eq(got.expires_at_ns, 5u, "it is told");
    cr_assert_eq(evbus_finish(o.member, &got, EVBUS_DONE, NULL), EVBUS_OK);
    gets_nothing(o.member);
    cr_expect_eq(n_open(o.f.bus), 0u);
    office_end(&o);
}

static char *make_two(void *context, const struct evbus_version *from, size_t *out_len, char *error)
{
    (void)context;
    (void)from;
    (void)out_len;
    (void)error;
    return strdup("\"two\"");
}

Test(letters, a_replay_is_made_the_version_that_its_group_takes_by_its_topics_upcaster)
{
    struct office o = office_make("64KiB");
    make_letter(&o, "k", "1");
    evbus_unsubscribe(o.member);
    static const char *const two[] = {"2"};
    const struct evbus_upcaster upcaster = {.topic = "test.a.one", .from_major = 1, .upcast = make_two};
    struct evbus_subscribe_options options = {.size = sizeof options,
                                              .group = "crew",
                                              .accepts = two,
                                              .n_accepts = 1,
                                              .upcasters = &upcaster,
                                              .n_upcasters = 1};
    cr_assert_eq(evbus_subscribe(&o.member, o.f.bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    replay(o.f.bus, (struct evbus_settle_options){0}, NULL);
    cr_expect_str_eq(take(o.member).payload, "\"two\"");
    office_end(&o);
}

Test(letters, a_member_that_takes_a_part_of_its_group_hears_replays_too)
{
    struct office o = office_make("64KiB");
    static const char *const one[] = {"test.a.one"};
    make_letter(&o, "k", "1");
    evbus_unsubscribe(o.member);
    struct evbus_subscribe_options options = {
        .size = sizeof options, .group = "crew", .patterns = one, .n_patterns = 1};
    cr_assert_eq(evbus_subscribe(&o.member, o.f.bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    replay(o.f.bus, (struct evbus_settle_options){0}, NULL);
    cr_expect_eq(take(o.member).replayed, 1u);
    office_end(&o);
}

Test(letters, a_seek_of_the_group_brings_its_events_again_and_not_its_replays)
{
    struct office o = office_make("64KiB");
    make_letter(&o, "k", "1");
    replay(o.f.bus, (struct evbus_settle_options){0}, NULL);
    struct evbus_delivery got = take(o.member);
    evbus_finish(o.member, &got, EVBUS_DONE, NULL);
    evbus_unsubscribe(o.member);
    struct evbus_seek_options options = {.size = sizeof options, .group = "crew", .from = EVBUS_FROM_EARLIEST};
    cr_assert_eq(evbus_group_seek(o.f.bus, &options, NULL, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    o.member = crew_join(o.f.bus, "crew", NULL, NULL);
    got = take(o.member);
    cr_expect_eq(got.replayed, 0u);
    evbus_finish(o.member, &got, EVBUS_REJECT, "no");
    gets_nothing(o.member);
    cr_expect_eq(n_open(o.f.bus), 1u, "it has died once more");
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
    cr_expect_eq(take(o.member).replayed, 2u);
    office_end(&o);
}

/* --- discard --------------------------------------------------------------------------------------------------------------- */

Test(letters, what_is_discarded_says_who_and_why_and_is_never_replayed)
{
    struct office o = office_make("64KiB");
    make_letter(&o, "a", "1");
    make_letter(&o, "b", "2");
    struct evbus *operator= fixture_open(&o.f, "operator", EVBUS_KEEPER_NEVER);
    struct evbus_dead_letters_filter filter = {.key = "a"};
    struct evbus_settle_result result = {.size = sizeof result};
    struct evbus_settle_options options = {
        .filter = &filter, .reason = "sold out \xe2\x80\x94 \"ask\" shop", .dry_run = true};
    cr_assert_eq(evbus_dead_letters_discard(operator, & options, NULL, NULL, &result), EVBUS_OK);
    cr_expect_eq(result.n_done, 1u);
    cr_expect_eq(n_open(o.f.bus), 2u, "a dry run changes nothing");
    options.dry_run = false;
    cr_assert_eq(evbus_dead_letters_discard(operator, & options, NULL, NULL, &result), EVBUS_OK);
    evbus_close(operator);
    cr_expect_eq(result.n_done, 1u);
    cr_expect_eq(n_open(o.f.bus), 1u);
    const struct seen *gone = letters(o.f.bus, (struct evbus_dead_letters_filter){.state = EVBUS_LETTER_DISCARDED});
    cr_assert_eq(gone->n, 1u);
    cr_expect_str_eq(gone->of[0].payload, "1");
    cr_expect_str_eq(gone->of[0].by, "operator");
    cr_expect_str_eq(gone->of[0].reason, "sold out \xe2\x80\x94 \"ask\" shop");
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u, "the other one");
    cr_expect_str_eq(take(o.member).payload, "2");
    gets_nothing(o.member);
    office_end(&o);
}

/* --- why -------------------------------------------------------------------------------------------------------------------- */

static void why_says(struct evbus *bus, const uint8_t id[16], const char *const *lines, size_t n)
{
    struct shown told = {.text = NULL};
    cr_assert_eq(evbus_why(bus, id, shown_keep, &told), EVBUS_OK, "%s", evbus_message(bus));
    for (size_t i = 0; i < n; i++)
        shown_expect(&told, "%s", lines[i]);
    shown_forget(&told);
}

#define WHY(...) \
    why_says(o.f.bus, receipt.id, (const char *const[]){__VA_ARGS__}, N(((const char *const[]){__VA_ARGS__})))

Test(letters, why_tells_of_a_letter_who_replayed_it_and_what_became_of_that)
{
    struct office o = office_make("64KiB");
    struct evbus_receipt receipt = make_letter(&o, "k", "1");
    WHY("\ngroup group=crew state=dead deadLetterId=", "\ngroup group=other state=waiting ");
    replay(o.f.bus, (struct evbus_settle_options){.reason = "try"}, NULL);
    WHY("\ngroup group=crew state=replayed deadLetterId=", "\nsettled what=replayed n=1 at=", " service=tester user=",
        " reason=try letter=", "\nreplay n=1 deadLetterId=", " topic=test.a.one log=test.replay partition=0 position=",
        "\ngroup group=crew state=waiting ");
    struct evbus_delivery got = take(o.member);
    WHY("\ngroup group=crew state=running attempts=1 member=tester ");
    cr_assert_eq(evbus_finish(o.member, &got, EVBUS_REJECT, "again"), EVBUS_OK);
    gets_nothing(o.member);
    WHY("\ngroup group=crew state=dead deadLetterId=", " cause=rejected error=again\n");
    replay(o.f.bus, (struct evbus_settle_options){0}, NULL);
    got = take(o.member);
    cr_assert_eq(evbus_finish(o.member, &got, EVBUS_DONE, NULL), EVBUS_OK);
    WHY("\ngroup group=crew state=replayed ", "\nsettled what=replayed n=2 ", "\nreplay n=1 ",
        "\ngroup group=crew state=dead ", "\nreplay n=2 ", "\ngroup group=crew state=done\n");
    office_end(&o);
}

Test(letters, why_tells_that_a_letter_was_discarded)
{
    struct office o = office_make("64KiB");
    struct evbus_receipt receipt = make_letter(&o, "k", "1");
    cr_assert_eq(evbus_dead_letters_discard(o.f.bus, NULL, NULL, NULL, NULL), EVBUS_OK);
    WHY("\ngroup group=crew state=discarded deadLetterId=", "\nsettled what=discarded n=0 ");
    office_end(&o);
}

/* --- what the log says ------------------------------------------------------------------------------------------------------ */

/* One death told twice, as by P10; another one of the same event, as after a seek; and resolutions, in any order that can be. */
struct told {
    bool is_settled;
    enum settled_what what;
    uint32_t n;    /* replays: it had had when it died, or with this one */
    uint64_t note; /* of the last attempt */
};

static void tell(struct office *o, const struct told *told)
{
    struct bus_thread *thread;
    struct memory *memory = &o->f.bus->memory;
    struct frame event = {
        .kind = FRAME_EVENT, .id = {1}, .key = "k", .key_len = 1, .major = 1, .payload = "1", .payload_len = 1};
    struct deadletter letter = {.topic_id = memory->control->groups[group_find(memory, "crew")].dlq_topic,
                                .group_name = "crew",
                                .topic = "test.a.one",
                                .log = "test.a",
                                .position = 77,
                                .n_replays = told->n,
                                .entry = 77,
                                .cause = CAUSE_FAILED,
                                .note = told->note,
                                .event = &event};
    struct settled settled = {.what = told->what, .n = told->n};
    uint8_t id[16];
    uint64_t pos, end;
    struct error err = {""};
    cr_assert_eq(bus_thread(o->f.bus, &thread, NULL), EVBUS_OK);
    deadletter_id(memory, &letter, id);
    settled_by_us("tester", &settled);
    int rc = told->is_settled ? settled_publish(memory, &thread->claim, &letter, id, &settled, &pos, &end, &err)
                              : deadletter_publish(memory, &thread->claim, &letter, &err);
    cr_assert_eq(rc, EVBUS_OK, "%s", err.text);
}

/* [P10] [P13] */
Test(letters, which_is_open_follows_from_the_log_alone)
{
#define DEAD(n, note)                    \
    {                                    \
        false, SETTLED_REPLAYED, n, note \
    }
#define REPLAYED(n)                  \
    {                                \
        true, SETTLED_REPLAYED, n, 0 \
    }
#define DISCARDED(n)                  \
    {                                 \
        true, SETTLED_DISCARDED, n, 0 \
    }
    static const struct {
        const char *label;
        struct told told[6];
        size_t n;
        bool is_open;
        uint32_t n_replays;
    } rows[] = {
        {"dead", {DEAD(0, 5)}, 1, true, 0},
        {"told twice", {DEAD(0, 5), DEAD(0, 5)}, 2, true, 0},
        {"replayed", {DEAD(0, 5), REPLAYED(1)}, 2, false, 1},
        {"told again behind its replay", {DEAD(0, 5), REPLAYED(1), DEAD(0, 5)}, 3, false, 1},
        {"died in its replay", {DEAD(0, 5), REPLAYED(1), DEAD(1, 6)}, 3, true, 1},
        {"its replay is put on the record late", {DEAD(0, 5), DEAD(1, 6), REPLAYED(1)}, 3, true, 1},
        {"and is replayed then", {DEAD(0, 5), DEAD(1, 6), REPLAYED(1), REPLAYED(2)}, 4, false, 2},
        {"its group was moved back", {DEAD(0, 5), REPLAYED(1), DEAD(0, 9)}, 3, true, 1},
        {"and it is replayed", {DEAD(0, 5), REPLAYED(1), DEAD(0, 9), REPLAYED(2)}, 4, false, 2},
        {"died without a note", {DEAD(0, 0), REPLAYED(1), DEAD(0, 0)}, 3, true, 1},
        {"discarded", {DEAD(0, 5), DISCARDED(0)}, 2, false, 0},
        {"discarded after replays", {DEAD(0, 5), REPLAYED(1), DEAD(1, 6), DISCARDED(1)}, 4, false, 1},
        {"moved back behind that", {DEAD(0, 5), DISCARDED(0), DEAD(0, 9)}, 3, true, 0},
        {"settled twice", {DEAD(0, 5), REPLAYED(1), REPLAYED(1)}, 3, false, 1},
        {"only its end is kept", {REPLAYED(1)}, 1, false, 1},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct office o = office_make("64KiB");
        for (size_t k = 0; k < rows[i].n; k++)
            tell(&o, &rows[i].told[k]);
        struct letters found;
        cr_assert_eq(letters_read(&o.f.bus->memory, &found, NULL), EVBUS_OK);
        cr_assert_eq(found.n, 1u, "%s", rows[i].label);
        cr_expect_eq(found.rows[0].is_open, rows[i].is_open, "%s", rows[i].label);
        cr_expect_eq(found.rows[0].n_replays, rows[i].n_replays, "%s", rows[i].label);
        letters_free(&found);
        cr_expect_eq(n_open(o.f.bus), rows[i].is_open, "%s", rows[i].label);
        office_end(&o);
    }
}

static void put(struct evbus *bus, const char *text, bool has_area)
{
    struct bus_thread *thread;
    struct area area = {.len = 0};
    uint64_t buffer[64 * CELL_WORDS], pos;
    struct memory_log *log = memory_internal_log(&bus->memory, MEMORY_DLQ_LOG);
    struct area_source source = {.position = 3, .log = "test.a"};
    struct area_death death = {.position = 3};
    area_add(&area, AREA_SOURCE, &source, sizeof source);
    area_add(&area, AREA_DEATH, &death, sizeof death);
    struct frame frame = {.kind = FRAME_DEAD,
                          .id = {(uint8_t)ring_tail(&log->rings[0]), 3},
                          .timestamp_ns = 5,
                          .topic = 1,
                          .key = "k",
                          .key_len = 1,
                          .area = area.bytes,
                          .area_len = has_area ? (uint16_t)area.len : 0,
                          .major = 1,
                          .payload = text,
                          .payload_len = (uint32_t)strlen(text)};
    cr_assert_eq(bus_thread(bus, &thread, NULL), EVBUS_OK);
    frame_build(&frame, buffer);
    cr_assert_eq(partition_append(&log->rings[0], &thread->claim, buffer, frame_cells_of(&frame),
                                  &(struct partition_wait){0}, &pos, NULL),
                 EVBUS_OK);
}

#define HEAD  "\"deadLetterId\":\"01020304-0506-8708-890a-0b0c0d0e0f10\",\"group\":\"crew\",\"topic\":\"test.a.one\","
#define PLACE "\"log\":\"test.a\",\"partition\":0,\"position\":\"3\",\"cause\":\"failed\","
#define EVENT                                                                                                     \
    "\"event\":{\"eventId\":\"01020304-0506-7708-890a-0b0c0d0e0f10\",\"eventType\":\"test.a.one\",\"timestamp\":" \
    "\"2026-02-01T09:30:00.123Z\",\"version\":\"2.1\",\"payload\":[1 ]}"

/* As evbus wrote them before letters had a header area. */
Test(letters, a_letter_without_a_header_area_is_replayed_too)
{
    struct office o = office_make("64KiB");
    put(o.f.bus, "{" HEAD PLACE "\"attempts\":[]," EVENT "}", false);
    cr_assert_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
    struct evbus_delivery got = take(o.member);
    cr_expect_str_eq(got.payload, "[1 ]");
    cr_expect_str_eq(got.topic, "test.a.one");
    cr_expect(got.version_major == 2 && got.version_minor == 1);
    cr_expect_eq(got.timestamp_ns, 1769938200 * S + 123 * MS, "as far as its text tells");
    cr_expect_eq(n_open(o.f.bus), 0u);
    office_end(&o);
}

/* [R18] */
Test(letters, what_is_no_letter_is_left_out)
{
    static const char *const rows[] = {
        "",
        "x",
        "{}",
        "[1]",
        "{" HEAD PLACE "\"attempts\":[]",
        "{" HEAD PLACE "\"attempts\":[]}",
        "{" HEAD EVENT "}",
        "{" PLACE EVENT "}",
        "{" HEAD "\"log\":\"test.a\",\"partition\":64,\"position\":\"3\",\"cause\":\"failed\"," EVENT "}",
        "{" HEAD "\"log\":\"test.a\",\"partition\":0,\"position\":\"-3\",\"cause\":\"failed\"," EVENT "}",
        "{" HEAD "\"log\":\"test.a\",\"partition\":0,\"position\":3e5,\"cause\":\"failed\"," EVENT "}",
        "{" HEAD "\"log\":\"test.a\",\"partition\":0,\"position\":\"\",\"cause\":\"failed\"," EVENT "}",
        "{" HEAD "\"log\":\"test.a\",\"partition\":0,\"position\":\"3\",\"cause\":\"a cause of many letters\"," EVENT
        "}",
        "{" HEAD PLACE "\"event\":{\"eventId\":\"\",\"version\":\"1.0\",\"payload\":1}}",
        "{" HEAD PLACE
        "\"event\":{\"eventId\":\"01020304-0506-7708-890a-0b0c0d0e0f10\",\"version\":\"1.70000\",\"payload\":1}}",
        "{" HEAD PLACE
        "\"event\":{\"eventId\":\"01020304-0506-7708-890a-0b0c0d0e0f10\",\"version\":\"1\",\"payload\":1}}",
        "{" HEAD PLACE EVENT ",\"versions\":[{\"version\":\"1.0\"}]}",
    };
    struct office o = office_make("64KiB");
    for (size_t i = 0; i < N(rows); i++)
        for (int has_area = 0; has_area < 2; has_area++) {
            put(o.f.bus, rows[i], has_area == 1);
            cr_expect_eq(n_open(o.f.bus), 0u, "%s", rows[i]);
        }
    put(o.f.bus, "{" HEAD PLACE "\"attempts\":[{\"n\":1},7,[{\"]}", true);
    put(o.f.bus, "{" HEAD PLACE "\"attempts\":[{\"n\":1},7]," EVENT "}", true);
    cr_expect_eq(n_open(o.f.bus), 1u);
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
    office_end(&o);
}

/* Within a letter a payload stands two or three brackets deeper than it was published. */
Test(letters, an_event_as_deep_as_may_be_published_is_seen_and_replayed)
{
    struct office o = office_make("64KiB");
    char deep[2 * JSON_DEPTH_MAX + 1];
    memset(deep, '[', JSON_DEPTH_MAX);
    memset(deep + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    deep[2 * JSON_DEPTH_MAX] = '\0';
    struct evbus_version more = {.major = 2, .payload = deep};
    struct evbus_event event = {.topic = "test.a.one",
                                .key = "k",
                                .payload = deep,
                                .more_versions = &more,
                                .n_more_versions = 1,
                                .timeout_ns = S};
    cr_assert_eq(evbus_publish(o.f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    give_up(o.member, "no");
    cr_expect_eq(n_open(o.f.bus), 1u);
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
    struct evbus_delivery got = take(o.member);
    cr_expect_str_eq(got.payload, deep);
    cr_assert_eq(got.n_versions, 2u);
    cr_expect_str_eq(got.versions[1].payload, deep);
    evbus_finish(o.member, &got, EVBUS_DONE, NULL);
    office_end(&o);
}

static int see_backslashes(void *context, const struct evbus_dead_letter *letter)
{
    (void)context;
    cr_expect_eq(letter->n_attempts, 1u);
    if (letter->n_attempts == 1)
        cr_expect_str_eq(letter->attempts[0].error, "C:\\");
    return 0;
}

Test(letters, a_string_that_ends_with_a_backslash_ends)
{
    struct office o = office_make("64KiB");
    struct evbus_version more[] = {{.major = 2, .payload = "{\"path\":\"C:\\\\\"}"},
                                   {.major = 3, .payload = "[\"\\\\\\\\\",\"\\\"]\",\"\\\\\\\"\"]"}};
    struct evbus_event event = {.topic = "test.a.one",
                                .key = "k",
                                .payload = "1",
                                .more_versions = more,
                                .n_more_versions = 2,
                                .timeout_ns = S};
    cr_assert_eq(evbus_publish(o.f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    give_up(o.member, "C:\\");
    cr_expect_eq(n_open(o.f.bus), 1u);
    cr_expect_eq(evbus_dead_letters(o.f.bus, NULL, see_backslashes, NULL), EVBUS_OK);
    cr_expect_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
    struct evbus_delivery got = take(o.member);
    cr_assert_eq(got.n_versions, 3u, "%u", (unsigned)got.n_versions);
    cr_expect_str_eq(got.versions[1].payload, more[0].payload);
    cr_expect_str_eq(got.versions[2].payload, more[1].payload);
    evbus_finish(o.member, &got, EVBUS_DONE, NULL);
    office_end(&o);
}

/* --- room ------------------------------------------------------------------------------------------------------------------- */

/* Without a journal nothing of the log of dead letters is released but what is settled. */
Test(letters, what_is_settled_makes_room_for_letters_that_have_none)
{
    struct office o = office_make("16KiB");
    unsigned n = 0;
    for (; n < SEEN_MAX && crew_stat(o.f.bus, "crew").n_dead == 0; n++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", n);
        make_letter(&o, key, "1");
        struct evbus_subscription *other = crew_join(o.f.bus, "other", NULL, NULL); /* or it holds the events */
        struct evbus_delivery got = take(other);
        evbus_finish(other, &got, EVBUS_DONE, NULL);
        evbus_unsubscribe(other);
    }
    cr_assert(n > 5 && n < SEEN_MAX, "%u", n);
    cr_expect_eq(n_open(o.f.bus), n - 1, "the last has found no room");
    unsigned n_done = 0;
    for (int i = 0; i < 3 && n_done < n; i++) {
        n_done += (unsigned)replay(o.f.bus, (struct evbus_settle_options){.timeout_ns = S}, NULL).n_done;
        struct evbus_delivery got = {.size = sizeof got};
        for (unsigned k = 0; k < n && evbus_receive(o.member, &got, 1500 * MS) == EVBUS_OK; k++)
            evbus_finish(o.member, &got, EVBUS_DONE, NULL);
    }
    cr_expect_eq(n_done, n, "also the one that had no room");
    cr_expect_eq(crew_stat(o.f.bus, "crew").n_dead, 0u);
    office_end(&o);
}

/* The group `other` has no member, and reads the same log of replays. */
Test(letters, an_absent_group_holds_up_nobodys_replays)
{
    struct office o = office_make("16KiB");
    for (unsigned i = 0; i < 60; i++) {
        make_letter(&o, "k", "1");
        struct evbus_subscription *other = crew_join(o.f.bus, "other", NULL, NULL);
        struct evbus_delivery got = take(other);
        evbus_finish(other, &got, EVBUS_DONE, NULL);
        evbus_unsubscribe(other);
        cr_assert_eq(replay(o.f.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u, "replay %u: %s", i,
                     evbus_message(NULL));
        got = take(o.member);
        evbus_finish(o.member, &got, EVBUS_DONE, NULL);
        gets_nothing(o.member);
    }
    office_end(&o);
}

/* --- over a restart ---------------------------------------------------------------------------------------------------------- */

Test(letters, over_a_restart_letters_replays_and_the_record_stay)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true, .settings = "\"retry\":[\"1ms\"],"});
    struct evbus_subscription *member = archive_join(archive.bus, "team");
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", i, 0), EVBUS_OK);
        give_up(member, "no");
    }
    struct evbus_settle_result result = replay(archive.bus, (struct evbus_settle_options){.max = 2}, NULL);
    cr_expect_eq(result.n_done, 2u);
    struct evbus_delivery got = take(member);
    cr_assert_eq(evbus_finish(member, &got, EVBUS_DONE, NULL), EVBUS_OK);
    evbus_unsubscribe(member);
    evbus_close(archive.bus);
    archive_forget_memory(&archive);
    archive.bus = archive_open(&archive, true);
    cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
    cr_expect_eq(n_open(archive.bus), 1u);
    cr_expect_eq(letters(archive.bus, (struct evbus_dead_letters_filter){.state = EVBUS_LETTER_REPLAYED})->n, 2u);
    member = archive_join(archive.bus, "team");
    got = take(member);
    cr_expect(archive_seq(got.payload) == 1 && got.replayed == 1, "the one that was not done comes, and no other");
    cr_assert_eq(evbus_finish(member, &got, EVBUS_DONE, NULL), EVBUS_OK);
    gets_nothing(member);
    cr_expect_eq(replay(archive.bus, (struct evbus_settle_options){0}, NULL).n_done, 1u);
    got = take(member);
    cr_expect_eq(archive_seq(got.payload), 2u);
    cr_assert_eq(evbus_finish(member, &got, EVBUS_DONE, NULL), EVBUS_OK);
    evbus_unsubscribe(member);
    evbus_close(archive.bus);
    evbus_remove(archive.name);
}

/* A record on disk of a replay that is not there would lose the letter with the power. [P13] */
Test(letters, nothing_is_on_the_record_that_is_not_on_disk)
{ /* [guards DURABLE] */
    struct archive archive = archive_make((struct archive_options){.keeper = false});
    struct evbus_subscription *member = archive_join(archive.bus, "team");
    cr_assert_eq(archive_publish(archive.bus, "test.a.one", 0, 0), EVBUS_OK);
    give_up(member, "no");
    struct ring *replays = &memory_internal_log(&archive.bus->memory, MEMORY_REPLAY_LOG)->rings[0];
    atomic_store(&replays->head->write_failed, (uint32_t)-EVBUS_EIO);
    struct evbus_settle_result result = {.size = sizeof result};
    cr_expect_eq(evbus_dead_letters_replay(archive.bus, NULL, NULL, NULL, &result), EVBUS_EIO);
    cr_expect_eq(result.n_done, 1u, "it is replayed");
    cr_expect_eq(n_open(archive.bus), 1u, "and not on the record");
    struct evbus_delivery got = take(member);
    cr_assert_eq(evbus_finish(member, &got, EVBUS_DONE, NULL), EVBUS_OK);
    evbus_unsubscribe(member);
    evbus_close(archive.bus);
    archive.bus = archive_open(&archive, true); /* a keeper, and a disk that works */
    cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
    result = replay(archive.bus, (struct evbus_settle_options){.dry_run = true}, NULL);
    cr_expect(result.n_completed == 1 && result.n_done == 0);
    result = replay(archive.bus, (struct evbus_settle_options){0}, NULL);
    cr_expect(result.n_completed == 1 && result.n_done == 0);
    cr_expect_eq(n_open(archive.bus), 0u);
    member = archive_join(archive.bus, "team");
    gets_nothing(member);
    evbus_unsubscribe(member);
    evbus_close(archive.bus);
    evbus_remove(archive.name);
}
