/* test_header.c: what a publish says beside its envelope comes back, and what follows from an event continues its trace. */
#include "fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define PARENT  "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static struct evbus_reader *reader_of(struct evbus *bus)
{
    struct evbus_reader *reader;
    struct evbus_reader_options options = {.from = EVBUS_FROM_EARLIEST};
    cr_assert_eq(evbus_reader_open(&reader, bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    return reader;
}

static struct evbus_delivery next(struct evbus_reader *reader)
{
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK, "%s", evbus_message(NULL));
    return got;
}

static bool same(const char *left, const char *right)
{
    return left == right || (left != NULL && right != NULL && strcmp(left, right) == 0);
}

Test(header, comes_back_as_it_was_published)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_event events[] = {
        {.topic = "test.a.one", .payload = "1"},
        {.topic = "test.a.one", .payload = "2", .key = "k", .traceparent = PARENT, .tracestate = "congo=t61rcWkgMzE"},
        {.topic = "test.a.one", .payload = "3", .correlation_id = "order 10248", .causation_id = "\u00e9"},
        {.topic = "test.a.one", .payload = "4", .expires_at_ns = UINT64_C(1790000000123456789)},
        {.topic = "test.a.one", .payload = "5", .traceparent = PARENT, .tracestate = "", .correlation_id = ""},
    };
    struct evbus_reader *reader = reader_of(f.bus);
    cr_assert_eq(evbus_publish_batch(f.bus, events, N(events), NULL, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    for (size_t i = 0; i < N(events); i++) {
        struct evbus_delivery got = next(reader);
        const char *state = i == 4 ? NULL : events[i].tracestate,
                   *correlation = i == 4 ? NULL : events[i].correlation_id;
        cr_expect(same(got.traceparent, events[i].traceparent), "%zu: %s", i, got.traceparent);
        cr_expect(same(got.tracestate, state), "%zu: %s", i, got.tracestate);
        cr_expect(same(got.correlation_id, correlation), "%zu: %s", i, got.correlation_id);
        cr_expect(same(got.causation_id, events[i].causation_id), "%zu: %s", i, got.causation_id);
        cr_expect_eq(got.expires_at_ns, events[i].expires_at_ns, "%zu", i);
        cr_expect(got.payload_len == 1 && ((const char *)got.payload)[0] == '1' + (int)i, "%zu", i);
        cr_expect(!got.is_after_gap && got.replayed == 0);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(header, what_is_malformed_is_refused_by_name)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    static char long_text[300];
    memset(long_text, 'x', sizeof long_text - 1);
    const struct {
        struct evbus_event event;
        const char *message;
    } rows[] = {
        {{.traceparent = "00-1-2-3"}, "event: traceparent \"00-1-2-3\": it is too short"},
        {{.traceparent = long_text}, "too long"},
        {{.tracestate = "a=b"}, "event.tracestate is set and event.traceparent is not"},
        {{.traceparent = PARENT, .tracestate = "nothing"}, "event: tracestate: \"nothing\""},
        {{.correlation_id = long_text}, "event.correlation_id has more than 255 bytes"},
        {{.causation_id = long_text}, "event.causation_id has more than 255 bytes"},
        {{.correlation_id = "\xff"}, "event.correlation_id is not valid UTF-8"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_event event = rows[i].event;
        event.topic = "test.a.one";
        event.payload = "1";
        cr_expect_eq(evbus_publish(f.bus, &event, NULL), EVBUS_EINVAL, "%zu", i);
        cr_expect_not_null(strstr(evbus_message(NULL), rows[i].message), "%zu: %s", i, evbus_message(NULL));
    }
    fixture_end(&f);
}

static void format(const uint8_t id[16], char out[37])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        *out++ = digits[id[i] >> 4];
        *out++ = digits[id[i] & 15];
        if (i == 3 || i == 5 || i == 7 || i == 9)
            *out++ = '-';
    }
    *out = '\0';
}

struct handling {
    struct evbus *bus;
    char id[37]; /* of the event that was handled */
};

static enum evbus_outcome publish_more(void *context, const struct evbus_delivery *event, char *error)
{
    struct handling *handling = context;
    struct evbus_event follows = {.topic = "test.b.one", .payload = "\"by default\""};
    struct evbus_event named = {.topic = "test.b.one",
                                .payload = "\"named\"",
                                .traceparent = "00-00000000000000000000000000000001-0000000000000002-00",
                                .correlation_id = "mine",
                                .causation_id = "other"};
    (void)error;
    format(event->id, handling->id);
    cr_assert_eq(evbus_publish(handling->bus, &follows, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_publish(handling->bus, &named, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    return EVBUS_DONE;
}

static void handle_one(struct fixture *f, const struct evbus_event *event, struct handling *handling)
{
    static const char *const patterns[] = {"test.a.**"};
    struct evbus_subscription *sub;
    struct evbus_subscribe_options options = {
        .group = "chain", .patterns = patterns, .n_patterns = 1, .handler = publish_more, .context = handling};
    cr_assert_eq(evbus_subscribe(&sub, f->bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_publish(f->bus, event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_run_once(sub, UINT64_C(5000000000)), EVBUS_OK, "%s", evbus_message(NULL));
    evbus_unsubscribe(sub);
}

Test(header, what_a_handler_publishes_continues_the_trace)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct handling handling = {.bus = f.bus};
    struct evbus_reader *reader = reader_of(f.bus);
    struct evbus_event event = {.topic = "test.a.one",
                                .payload = "1",
                                .traceparent = PARENT,
                                .tracestate = "congo=t61rcWkgMzE",
                                .correlation_id = "order 10248"};
    handle_one(&f, &event, &handling);
    next(reader);
    struct evbus_delivery got = next(reader);
    cr_assert_not_null(got.traceparent);
    cr_expect(strncmp(got.traceparent, PARENT, 36) == 0, "of the same trace: %s", got.traceparent);
    cr_expect(strncmp(got.traceparent + 36, &PARENT[36], 16) != 0, "with a span of its own: %s", got.traceparent);
    cr_expect_str_eq(got.traceparent + 52, "-01");
    cr_expect_str_eq(got.tracestate, "congo=t61rcWkgMzE");
    cr_expect_str_eq(got.correlation_id, "order 10248");
    cr_expect_str_eq(got.causation_id, handling.id);
    got = next(reader);
    cr_expect_str_eq(got.traceparent, "00-00000000000000000000000000000001-0000000000000002-00");
    cr_expect_null(got.tracestate, "of another trace");
    cr_expect_str_eq(got.correlation_id, "mine");
    cr_expect_str_eq(got.causation_id, "other");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(header, a_chain_begins_with_the_first_events_id)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct handling handling = {.bus = f.bus};
    struct evbus_reader *reader = reader_of(f.bus);
    struct evbus_event event = {.topic = "test.a.one", .payload = "1"};
    handle_one(&f, &event, &handling);
    next(reader);
    struct evbus_delivery got = next(reader);
    cr_expect_null(got.traceparent, "nobody traces it");
    cr_expect_str_eq(got.correlation_id, handling.id);
    cr_expect_str_eq(got.causation_id, handling.id);
    struct evbus_delivery cause = {.traceparent = PARENT};
    struct evbus_event outside = {.topic = "test.b.one", .payload = "2"};
    cr_assert_eq(evbus_publish(f.bus, &outside, NULL), EVBUS_OK);
    outside.cause = &cause;
    cr_assert_eq(evbus_publish(f.bus, &outside, NULL), EVBUS_OK);
    next(reader);
    got = next(reader);
    cr_expect(got.causation_id == NULL && got.correlation_id == NULL, "outside of a handler nothing follows");
    got = next(reader);
    cr_expect(got.traceparent != NULL && strncmp(got.traceparent, PARENT, 36) == 0, "or from what is named");
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* ---- versions ---- */

Test(header, one_publish_carries_several_versions_and_who_says_nothing_gets_the_lowest)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    const struct evbus_version more[] = {{3, 0, "{\"v\":\"3.0!\"}", 0}, {1, 1, "\"1.1 is 8\"", 5 + 5}, {1, 0, "10", 0}};
    struct evbus_event event = {.topic = "test.a.one",
                                .payload = "\"two\"",
                                .version_major = 2,
                                .key = "key",
                                .correlation_id = "c",
                                .more_versions = more,
                                .n_more_versions = N(more)};
    struct evbus_reader *reader = reader_of(f.bus);
    cr_assert_eq(evbus_publish(f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    struct evbus_delivery got = next(reader);
    static const struct evbus_version expected[] = {
        {1, 0, "10", 2}, {1, 1, "\"1.1 is 8\"", 10}, {2, 0, "\"two\"", 5}, {3, 0, "{\"v\":\"3.0!\"}", 12}};
    cr_expect(got.version_major == 1 && got.version_minor == 0 && got.payload_len == 2);
    cr_expect_str_eq(got.payload, "10");
    cr_assert_eq(got.n_versions, N(expected));
    for (size_t i = 0; i < N(expected); i++) {
        cr_expect(got.versions[i].major == expected[i].major && got.versions[i].minor == expected[i].minor, "%zu", i);
        cr_expect_eq(got.versions[i].payload_len, expected[i].payload_len, "%zu", i);
        cr_expect_str_eq(got.versions[i].payload, expected[i].payload, "%zu: with its NUL", i);
    }
    cr_expect_str_eq(got.correlation_id, "c");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(header, an_event_of_one_version_has_one)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader = reader_of(f.bus);
    cr_assert_eq(fixture_publish(f.bus, NULL, "\"12345678\""), EVBUS_OK);
    struct evbus_delivery got = next(reader);
    cr_assert_eq(got.n_versions, 1);
    cr_expect(got.versions[0].payload == got.payload && got.versions[0].payload_len == 10);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(header, versions_that_cannot_be_are_refused_by_name)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    static char large[200 * 1024];
    memset(large, ' ', sizeof large - 1);
    large[0] = '1';
    static const struct evbus_version nothing[1] = {{2, 0, NULL, 0}}, unset[1] = {{0, 0, "1", 0}},
                                      same_as_first[1] = {{1, 0, "1", 0}}, twice[2] = {{2, 0, "1", 0}, {2, 0, "2", 0}},
                                      broken[1] = {{2, 0, "{", 0}}, too_much[2] = {{2, 0, large, 0}, {3, 0, large, 0}},
                                      many[8] = {{2, 0, "1", 0}};
    const struct {
        const struct evbus_version *more;
        size_t n;
        const char *message;
    } rows[] = {
        {NULL, 1, "event.more_versions: 1 versions"},
        {many, 8, "8 versions beside the first; at most 7"},
        {nothing, 1, "event.more_versions[0]: its payload is NULL"},
        {unset, 1, "its version is not set"},
        {same_as_first, 1, "version 1.0 is there twice"},
        {twice, 2, "event.more_versions[1]: version 2.0 is there twice"},
        {broken, 1, "version 2.0"},
        {too_much, 2, "are left to it by the other versions"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_event event = {
            .topic = "test.a.one", .payload = "1", .more_versions = rows[i].more, .n_more_versions = rows[i].n};
        cr_expect_eq(evbus_publish(f.bus, &event, NULL), EVBUS_EINVAL, "%zu", i);
        cr_expect_not_null(strstr(evbus_message(NULL), rows[i].message), "%zu: %s", i, evbus_message(NULL));
    }
    fixture_end(&f);
}
