/* test_mirror.c: what a bridge needs of a bus: out in order and held until it is out, in once, one leader. */
#include "archive.h"
#include "await.h"
#include "fixture.h"

#include "bus.h"
#include "group.h"

#include <criterion/criterion.h>
#include <evbus/admin.h>
#include <evbus/mirror.h>
#include <evbus/testing.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

static const struct evbus_mirror_rejected rejected = {
    .size = sizeof rejected,
    .id = {9, 8, 7, 6, 5, 4, 3, 2, 1},
    .stream = "\"odd\" stream",
    .entry = "5-1",
    .topic = "test.a.one",
    .what = "{\"x\":\"y\"}",
    .what_len = 9,
    .why = "eventId is missing",
};

static struct evbus_mirror *open_mirror(struct evbus *bus, enum evbus_from from)
{
    struct evbus_mirror *mirror;
    cr_assert_eq(evbus_mirror_open(&mirror, bus,
                                   &(struct evbus_mirror_options){.size = sizeof(struct evbus_mirror_options),
                                                                  .name = "redis",
                                                                  .from = from,
                                                                  .patience_ns = 100 * MS}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    return mirror;
}

static int pass_over(void *context, const struct evbus_delivery *event)
{
    (void)context;
    (void)event;
    return 0;
}

static int read_part(void *context, const struct evbus_mirror_part *part)
{
    return evbus_mirror_brought(context, part->log, part->partition, 0, pass_over, NULL);
}

static struct evbus_mirror *lead(struct evbus *bus, enum evbus_from from)
{
    struct evbus_mirror *mirror = open_mirror(bus, from);
    uint64_t epoch;
    cr_assert_eq(evbus_mirror_lead(mirror, &epoch), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_mirror_parts(mirror, read_part, mirror), EVBUS_OK);
    return mirror;
}

static int keep_part(void *context, const struct evbus_mirror_part *part)
{
    struct evbus_mirror_part *kept = context;
    if (strcmp(part->log, "test.a") == 0 && part->partition == 0)
        *kept = *part;
    return 0;
}

static struct evbus_mirror_part part_of(struct evbus_mirror *mirror)
{
    struct evbus_mirror_part part = {0};
    cr_assert_eq(evbus_mirror_parts(mirror, keep_part, &part), EVBUS_OK);
    cr_assert_eq(part.size, sizeof part);
    return part;
}

static struct evbus_origin from_elsewhere(uint64_t position)
{
    return (struct evbus_origin){.bus = {1, 2, 3}, .partition = 2, .position = position, .broker_id = "1700-0"};
}

static int bring(struct evbus_mirror *mirror, uint64_t position, const char *topic, const char *payload,
                 size_t *out_brought)
{
    struct evbus_origin origin = from_elsewhere(position);
    return evbus_mirror_bring(
        mirror,
        &(struct evbus_event){
            .size = sizeof(struct evbus_event), .topic = topic, .key = "k", .payload = payload, .origin = &origin},
        1, out_brought);
}

static bool next(struct evbus_mirror *mirror, struct evbus_delivery *got)
{
    *got = (struct evbus_delivery){.size = sizeof *got};
    int rc = evbus_mirror_next(mirror, got, 0);
    cr_assert(rc == EVBUS_OK || rc == EVBUS_ETIMEOUT, "%d, %s", rc, evbus_message(NULL));
    return rc == EVBUS_OK;
}

/* --- out ------------------------------------------------------------------------------------------------------------- */

Test(mirror, gives_events_in_order_from_where_it_was_rewound_to_and_nothing_before)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    struct evbus_delivery got;
    uint64_t second = 0;
    for (int i = 0; i < 3; i++) {
        char payload[16];
        snprintf(payload, sizeof payload, "%d", i);
        cr_assert_eq(fixture_publish(f.bus, "k", payload), EVBUS_OK);
    }
    cr_expect_not(next(mirror, &got), "it was not rewound");
    cr_expect_eq(part_of(mirror).next, UINT64_MAX);
    cr_assert_eq(evbus_mirror_rewind(mirror, "test.a", 0, 0), EVBUS_OK);
    for (int i = 0; i < 3; i++) {
        cr_assert(next(mirror, &got));
        cr_expect_eq(atoi(got.payload), i);
        cr_expect_null(got.origin);
        second = i == 1 ? got.position : second;
    }
    cr_expect_not(next(mirror, &got));
    cr_assert_eq(evbus_mirror_rewind(mirror, "test.a", 0, second), EVBUS_OK);
    cr_assert(next(mirror, &got));
    cr_expect_eq(atoi(got.payload), 1);
    cr_assert_eq(evbus_mirror_rewind(mirror, "test.a", 0, UINT64_MAX), EVBUS_OK);
    cr_expect_not(next(mirror, &got));
    cr_expect_eq(evbus_mirror_rewind(mirror, "test.a", 0, UINT64_C(1) << 40), EVBUS_EINVAL, "beyond the tail");
    cr_expect_eq(evbus_mirror_rewind(mirror, "test.x", 0, 0), EVBUS_ENOTFOUND);
    cr_expect_eq(evbus_mirror_rewind(mirror, "test.a", 1, 0), EVBUS_ENOTFOUND);
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

Test(mirror, what_is_not_out_is_held)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_LATEST);
    unsigned n = 0;
    int rc;
    while ((rc = evbus_publish(
                f.bus,
                &(struct evbus_event){.size = sizeof(struct evbus_event), .topic = "test.a.one", .payload = "\"x\""},
                NULL)) == EVBUS_OK &&
           n < 1000)
        n++;
    cr_assert_eq(rc, EVBUS_EFULL, "after %u: nothing may be overwritten that is not out", n);
    struct evbus_mirror_part part = part_of(mirror);
    cr_assert_eq(evbus_mirror_advance(mirror, "test.a", 0, part.tail), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(part_of(mirror).held, part.tail);
    cr_expect_eq(fixture_publish(f.bus, NULL, "\"y\""), EVBUS_OK);
    cr_expect_eq(evbus_mirror_advance(mirror, "test.a", 0, part.held), EVBUS_OK, "back: it is told already");
    cr_expect_eq(part_of(mirror).held, part.tail);
    cr_expect_eq(evbus_mirror_advance(mirror, "test.a", 0, UINT64_C(1) << 40), EVBUS_EINVAL);
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

Test(mirror, hears_of_topics_that_are_added)
{
    static const char before[] =
        "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"64KiB\"},"
        "\"topics\":{\"test.a.one\":{}}}";
    static const char after[] =
        "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"64KiB\"},"
        "\"topics\":{\"test.a.one\":{},\"test.a.two\":{},\"test.c.one\":{}}}";
    struct fixture f = fixture_make((struct fixture_options){.catalogue = before});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    struct evbus_delivery got;
    cr_assert_eq(evbus_mirror_rewind(mirror, "test.a", 0, 0), EVBUS_OK);
    cr_assert_eq(evbus_catalogue_apply(f.bus, after, strlen(after), NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(evbus_mirror_rewind(mirror, "test.c", 0, 0), EVBUS_ENOTFOUND, "it has not looked yet");
    cr_assert_eq(evbus_mirror_lead(mirror, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_mirror_rewind(mirror, "test.c", 0, 0), EVBUS_OK, "%s", evbus_message(NULL));
    static const char *const topics[] = {"test.a.two", "test.c.one"};
    for (int i = 0; i < 2; i++)
        cr_assert_eq(
            evbus_publish(f.bus,
                          &(struct evbus_event){.size = sizeof(struct evbus_event), .topic = topics[i], .payload = "1"},
                          NULL),
            EVBUS_OK);
    unsigned n = 0;
    while (next(mirror, &got))
        n += strcmp(got.topic, topics[0]) == 0 || strcmp(got.topic, topics[1]) == 0;
    cr_expect_eq(n, 2u);
    cr_expect_eq(evbus_mirror_advance(mirror, "test.c", 0, got.position), EVBUS_OK, "%s", evbus_message(NULL));
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

struct waiter {
    struct evbus *bus;
    struct evbus_receipt receipt;
    _Atomic int rc;
};

static void *publish_to_broker(void *context)
{
    struct waiter *publisher = context;
    publisher->receipt = (struct evbus_receipt){.size = sizeof publisher->receipt};
    publisher->rc = evbus_publish(
        publisher->bus,
        &(struct evbus_event){
            .size = sizeof(struct evbus_event), .topic = "test.a.one", .payload = "1", .ack = EVBUS_ACK_BROKER},
        &publisher->receipt);
    return NULL;
}

Test(mirror, who_asks_for_it_waits_until_the_broker_has_its_event)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    struct waiter publisher = {.bus = f.bus, .rc = 1};
    struct evbus_delivery got;
    pthread_t thread;
    cr_assert_eq(evbus_mirror_rewind(mirror, "test.a", 0, 0), EVBUS_OK);
    cr_assert_eq(pthread_create(&thread, NULL, publish_to_broker, &publisher), 0);
    cr_assert(await_that(next(mirror, &got)));
    cr_expect_eq(publisher.rc, 1, "it waits");
    cr_assert_eq(evbus_mirror_told(mirror, "test.a", 0, got.position), EVBUS_OK, "%s", evbus_message(NULL));
    pthread_join(thread, NULL);
    cr_expect_eq(publisher.rc, EVBUS_OK);
    cr_expect_eq(publisher.receipt.ack, EVBUS_ACK_BROKER);
    cr_expect_eq(publisher.receipt.position, got.position);
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

Test(mirror, who_waits_for_a_broker_that_is_away_is_told_that_the_event_is_on_the_bus)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    struct waiter publisher = {.bus = f.bus, .rc = 1};
    struct evbus_delivery got;
    pthread_t thread;
    evbus_test_clock_freeze();
    cr_assert_eq(evbus_mirror_rewind(mirror, "test.a", 0, 0), EVBUS_OK);
    cr_assert_eq(pthread_create(&thread, NULL, publish_to_broker, &publisher), 0);
    cr_assert(await_that(next(mirror, &got)));
    cr_assert(await_that((evbus_test_clock_advance(f.bus, S), publisher.rc != 1)));
    pthread_join(thread, NULL);
    evbus_test_clock_release();
    cr_expect_eq(publisher.rc, EVBUS_EIO);
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

/* --- lead ------------------------------------------------------------------------------------------------------------ */

/* [guards FENCE] */
Test(mirror, one_leads_and_who_has_stopped_is_deposed_and_changes_nothing)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus *other = fixture_open(&f, "other", EVBUS_KEEPER_NEVER);
    struct evbus_mirror *first = open_mirror(f.bus, EVBUS_FROM_EARLIEST);
    uint64_t epoch, later;
    size_t n = 7;
    cr_assert_eq(evbus_mirror_lead(first, &epoch), EVBUS_OK);
    cr_assert_eq(fixture_publish(f.bus, "k", "1"), EVBUS_OK);
    cr_expect_eq(bring(first, 1, "test.a.one", "1", &n), EVBUS_EBUSY, "it has not read what is there");
    cr_expect(strstr(evbus_message(NULL), "test.a/0 was not read") != NULL, "%s", evbus_message(NULL));
    struct evbus_mirror *second = NULL;
    /* another thread would be another slot; here the second is another handle of this thread, with a slot of its own */
    cr_assert_eq(evbus_mirror_open(&second, other,
                                   &(struct evbus_mirror_options){.size = sizeof(struct evbus_mirror_options),
                                                                  .name = "redis",
                                                                  .patience_ns = 100 * MS}),
                 EVBUS_OK);
    cr_expect_eq(evbus_mirror_lead(second, &later), EVBUS_EBUSY);
    cr_expect(strstr(evbus_message(NULL), "tester of process") != NULL, "%s", evbus_message(NULL));
    cr_expect_eq(bring(second, 1, "test.a.one", "1", &n), EVBUS_EFENCED);
    cr_expect_eq(n, 0u);
    cr_assert_eq(evbus_mirror_lead(first, &later), EVBUS_OK, "it goes on leading");
    cr_expect_eq(later, epoch);
    cr_assert(await_that(evbus_mirror_lead(second, &later) == EVBUS_OK), "the first says nothing any more");
    cr_expect_gt(later, epoch);
    uint64_t tail = part_of(second).tail;
    cr_expect_eq(bring(first, 1, "test.a.one", "1", &n), EVBUS_EFENCED);
    cr_expect_eq(evbus_mirror_advance(first, "test.a", 0, tail), EVBUS_EFENCED);
    cr_expect_eq(evbus_mirror_save(first, "{}", 2), EVBUS_EFENCED);
    cr_expect_eq(evbus_mirror_reject(first, &rejected), EVBUS_EFENCED);
    cr_expect_eq(part_of(second).tail, tail, "nothing was published");
    cr_expect_lt(part_of(second).held, tail);
    cr_expect_eq(evbus_mirror_lead(first, &epoch), EVBUS_EFENCED, "once");
    cr_expect_eq(evbus_mirror_lead(first, &epoch), EVBUS_EBUSY, "then it stands by");
    cr_expect_eq(evbus_mirror_advance(second, "test.a", 0, tail), EVBUS_OK, "%s", evbus_message(NULL));
    evbus_mirror_close(second);
    cr_expect_eq(evbus_mirror_lead(first, &epoch), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_gt(epoch, later);
    evbus_mirror_close(first);
    evbus_close(other);
    fixture_end(&f);
}

Test(mirror, its_group_is_nobody_elses)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_mirror *mirror = open_mirror(f.bus, EVBUS_FROM_LATEST);
    struct evbus_subscription *sub;
    cr_expect_eq(evbus_subscribe(&sub, f.bus,
                                 &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                   .group = "bridge-redis"}),
                 EVBUS_EINVAL);
    cr_expect(strstr(evbus_message(NULL), "mirror") != NULL, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_group_remove(f.bus, "bridge-redis"), EVBUS_OK);
    cr_expect_eq(evbus_mirror_lead(mirror, NULL), EVBUS_ENOTFOUND);
    evbus_mirror_close(mirror);
    mirror = lead(f.bus, EVBUS_FROM_LATEST);
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

static const struct bad {
    const char *what;
    struct evbus_mirror_options options;
    const char *says;
} bads[] = {
    {"no name", {.name = NULL}, "options.name is NULL"},
    {"an empty name", {.name = ""}, "options.name is \"\""},
    {"capitals", {.name = "Redis"}, "options.name is \"Redis\""},
    {"from a position", {.name = "redis", .from = EVBUS_FROM_POSITION}, "options.from is 3"},
    {"a bad pattern", {.name = "redis", .patterns = (const char *const[]){"a..b"}, .n_patterns = 1}, "a..b"},
    {"a pattern without topics",
     {.name = "redis", .patterns = (const char *const[]){"test.z.*"}, .n_patterns = 1},
     "test.z.* fits no topic"},
};

Test(mirror, options_that_are_wrong_are_told_by_name)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
        struct evbus_mirror *mirror = NULL;
        struct evbus_mirror_options options = bads[i].options;
        options.size = sizeof options;
        int rc = evbus_mirror_open(&mirror, f.bus, &options);
        cr_expect(rc == EVBUS_EINVAL || rc == EVBUS_ENOTFOUND, "%s: %d", bads[i].what, rc);
        cr_expect(strstr(evbus_message(NULL), bads[i].says) != NULL, "%s: %s", bads[i].what, evbus_message(NULL));
        cr_expect_null(mirror);
    }
    fixture_end(&f);
}

/* --- in -------------------------------------------------------------------------------------------------------------- */

struct brought {
    unsigned n;
    uint64_t positions[16];
};

static int keep_brought(void *context, const struct evbus_delivery *event)
{
    struct brought *brought = context;
    cr_expect_eq(event->origin->bus[1], 2);
    cr_expect_eq(event->origin->partition, 2u);
    cr_expect_str_eq(event->origin->broker_id, "1700-0");
    cr_expect_str_eq(event->topic, "test.a.one");
    if (brought->n < 16)
        brought->positions[brought->n++] = event->origin->position;
    return 0;
}

Test(mirror, what_is_brought_in_says_where_it_comes_from)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    struct brought brought = {0};
    size_t n;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    cr_assert_eq(bring(mirror, 41, "test.a.one", "1", &n), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(n, 1u);
    cr_assert_eq(fixture_publish(f.bus, "k", "2"), EVBUS_OK);
    cr_assert_eq(evbus_reader_next(reader, &got, S), EVBUS_OK);
    cr_assert_not_null(got.origin);
    cr_expect_eq(got.origin->position, 41u);
    cr_assert_eq(evbus_reader_next(reader, &got, S), EVBUS_OK);
    cr_expect_null(got.origin);
    uint64_t second = got.position;
    cr_assert_eq(bring(mirror, 42, "test.a.one", "3", &n), EVBUS_OK);
    cr_assert_eq(evbus_mirror_brought(mirror, "test.a", 0, 0, keep_brought, &brought), EVBUS_OK);
    cr_expect_eq(brought.n, 2u);
    brought.n = 0;
    cr_assert_eq(evbus_mirror_brought(mirror, "test.a", 0, second, keep_brought, &brought), EVBUS_OK);
    cr_expect_eq(brought.n, 1u);
    cr_expect_eq(brought.positions[0], 42u);
    evbus_reader_close(reader);
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

Test(mirror, any_topic_may_be_brought_in_but_nothing_that_is_no_event)
{
    static const char catalogue[] =
        "{\"namespace\":\"test\",\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"64KiB\"},"
        "\"topics\":{\"test.a.one\":{\"producers\":[\"somebody\"]}}}";
    struct fixture f = fixture_make((struct fixture_options){.catalogue = catalogue});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    size_t n = 7;
    cr_expect_eq(bring(mirror, 1, "test.a.one", "1", &n), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(fixture_publish(f.bus, NULL, "1"), EVBUS_EDENIED, "and that is not remembered for who publishes");
    cr_expect_eq(bring(mirror, 2, "test.x.one", "1", &n), EVBUS_ENOTFOUND);
    cr_expect_eq(bring(mirror, 2, "test.a.one", "{", &n), EVBUS_EINVAL);
    cr_expect_eq(n, 0u);
    cr_expect_eq(evbus_mirror_bring(
                     mirror,
                     &(struct evbus_event){.size = sizeof(struct evbus_event), .topic = "test.a.one", .payload = "1"},
                     1, &n),
                 EVBUS_EINVAL, "it has no origin");
    struct evbus_origin origin = from_elsewhere(3);
    cr_expect_eq(
        evbus_publish(f.bus,
                      &(struct evbus_event){
                          .size = sizeof(struct evbus_event), .topic = "test.a.one", .payload = "1", .origin = &origin},
                      NULL),
        EVBUS_EINVAL);
    cr_expect(strstr(evbus_message(NULL), "evbus_mirror_bring") != NULL, "%s", evbus_message(NULL));
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

static int keep_letter(void *context, const struct evbus_dead_letter *letter)
{
    char *text = context;
    size_t at = strlen(text);
    snprintf(text + at, 1024 - at, "%s %s %s %s@%s %s/%u@%" PRIu64 " %s %.*s%s%s\n", letter->group, letter->cause,
             letter->topic, letter->stream, letter->entry, letter->log, letter->partition, letter->position,
             letter->error, (int)letter->event->payload_len, (const char *)letter->event->payload,
             letter->skipped != NULL ? ": " : "", letter->skipped != NULL ? letter->skipped : "");
    return 0;
}

Test(mirror, what_is_no_event_becomes_a_dead_letter_once)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    char text[1024] = "";
    for (int i = 0; i < 2; i++)
        cr_assert_eq(evbus_mirror_reject(mirror, &rejected), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_dead_letters(f.bus, NULL, keep_letter, text), EVBUS_OK);
    cr_expect_str_eq(text,
                     "bridge-redis rejected test.a.one \"odd\" stream@5-1 /0@0 eventId is missing {\"x\":\"y\"}\n");
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

Test(mirror, what_is_no_event_is_not_replayed_and_can_be_discarded)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    struct evbus_settle_result result = {.size = sizeof result};
    struct evbus_dead_letters_filter all = {.size = sizeof all, .with_settled = true};
    char text[1024] = "";
    cr_assert_eq(evbus_mirror_reject(mirror, &rejected), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_dead_letters_replay(f.bus, NULL, keep_letter, text, &result), EVBUS_OK, "%s",
                 evbus_message(NULL));
    cr_expect_eq(result.n_done, 0);
    cr_expect_eq(result.n_skipped, 1);
    cr_expect(strstr(text, ": it is no event, but an entry at the broker: put it right there") != NULL, "%s", text);
    cr_assert_eq(evbus_dead_letters_discard(f.bus, NULL, NULL, NULL, &result), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(result.n_done, 1);
    text[0] = '\0';
    cr_assert_eq(evbus_dead_letters(f.bus, NULL, keep_letter, text), EVBUS_OK);
    cr_expect_str_eq(text, "", "it is open");
    cr_assert_eq(evbus_dead_letters(f.bus, &all, keep_letter, text), EVBUS_OK);
    cr_expect(strstr(text, "stream@5-1") != NULL, "%s", text);
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

Test(mirror, what_is_rejected_is_checked)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    char long_text[200];
    memset(long_text, 'x', sizeof long_text);
    long_text[sizeof long_text - 1] = '\0';
    struct {
        const char *names;
        struct evbus_mirror_rejected given;
    } rows[] = {{"rejected.id", rejected},    {"rejected.stream", rejected}, {"rejected.stream", rejected},
                {"rejected.entry", rejected}, {"rejected.entry", rejected},  {"rejected.what", rejected},
                {"rejected.what", rejected}};
    memset(rows[0].given.id, 0, 16);
    rows[1].given.stream = NULL;
    rows[2].given.stream = long_text;
    rows[3].given.entry = NULL;
    rows[4].given.entry = long_text;
    rows[5].given.what_len = 0;
    rows[6].given.what_len = 204801;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_expect_eq(evbus_mirror_reject(mirror, &rows[i].given), EVBUS_EINVAL, "row %zu", i);
        cr_expect(strstr(evbus_message(NULL), rows[i].names) != NULL, "row %zu: %s", i, evbus_message(NULL));
    }
    cr_expect_eq(evbus_mirror_reject(mirror, NULL), EVBUS_EINVAL);
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

/* --- checkpoints ------------------------------------------------------------------------------------------------------- */

Test(mirror, the_text_that_was_kept_last_is_there_for_the_next_leader)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_mirror *mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    const char *text;
    size_t len;
    cr_expect_eq(evbus_mirror_load(mirror, &text, &len), EVBUS_ENOTFOUND);
    for (int i = 0; i < 5000; i++) { /* more than the ring of notes holds: each takes the place of the one before */
        char kept[32];
        int n = snprintf(kept, sizeof kept, "{\"n\":%d}", i);
        cr_assert_eq(evbus_mirror_save(mirror, kept, (size_t)n), EVBUS_OK, "%d: %s", i, evbus_message(NULL));
    }
    cr_assert_eq(evbus_mirror_load(mirror, &text, &len), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_str_eq(text, "{\"n\":4999}");
    cr_expect_eq(len, strlen(text));
    evbus_mirror_close(mirror);
    mirror = lead(f.bus, EVBUS_FROM_EARLIEST);
    cr_assert_eq(evbus_mirror_load(mirror, &text, &len), EVBUS_OK);
    cr_expect_str_eq(text, "{\"n\":4999}");
    cr_expect_eq(evbus_mirror_save(mirror, "", 0), EVBUS_EINVAL);
    evbus_mirror_close(mirror);
    fixture_end(&f);
}

Test(mirror, all_of_it_comes_back_with_the_bus)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct evbus_mirror *mirror = lead(archive.bus, EVBUS_FROM_EARLIEST);
    const char *text;
    size_t len;
    size_t n;
    uint64_t epoch, later;
    cr_assert_eq(evbus_mirror_lead(mirror, &epoch), EVBUS_OK);
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", i, 100), EVBUS_OK);
    cr_assert_eq(bring(mirror, 17, "test.a.one", "1", &n), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert(await_that(part_of(mirror).synced == part_of(mirror).tail));
    struct evbus_mirror_part before = part_of(mirror);
    cr_assert_eq(evbus_mirror_advance(mirror, "test.a", 0, before.tail), EVBUS_OK);
    cr_assert_eq(evbus_mirror_save(mirror, "{\"n\":1}", 7), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert(await_that(part_of(mirror).synced == part_of(mirror).tail));
    evbus_mirror_close(mirror);
    evbus_close(archive.bus); /* saves the groups' states */
    archive_forget_memory(&archive);
    archive.bus = archive_open(&archive, true);
    cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
    mirror = lead(archive.bus, EVBUS_FROM_EARLIEST);
    cr_assert_eq(evbus_mirror_lead(mirror, &later), EVBUS_OK);
    cr_expect_gt(later, epoch);
    cr_assert_eq(evbus_mirror_load(mirror, &text, &len), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_str_eq(text, "{\"n\":1}");
    cr_expect_geq(part_of(mirror).held, before.tail);
    struct brought brought = {0};
    cr_assert_eq(evbus_mirror_brought(mirror, "test.a", 0, 0, keep_brought, &brought), EVBUS_OK);
    cr_expect_eq(brought.n, 1u);
    cr_expect_eq(brought.positions[0], 17u);
    evbus_mirror_close(mirror);
    evbus_close(archive.bus);
}
