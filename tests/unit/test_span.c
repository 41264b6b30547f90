/* test_span.c: a handle's hook is told of each operation, with the attributes that OpenTelemetry's conventions name. */
#include "bus.h"
#include "fixture.h"
#include "group.h"
#include "pending.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARENT   "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define INJECTED "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-01"

/* What a hook was told, a line a call: its operation and end, then "name=value " of each attribute. */
struct told {
    char lines[16][1024];
    char parents[16][64];
    uint64_t start_ns[16], end_ns[16];
    int codes[16];
    size_t n;
    const char *inject;
};

static void hook(void *context, const struct evbus_span *span)
{
    struct told *told = context;
    cr_assert_lt(told->n, 16);
    cr_assert_eq(span->size, sizeof *span);
    char *line = told->lines[told->n];
    int at = snprintf(line, 1024, "%d%s ", (int)span->operation, span->is_end ? "" : " begins");
    for (size_t i = 0; i < span->n_attributes && at < 1024; i++) {
        const struct evbus_attribute *attribute = &span->attributes[i];
        at += attribute->text != NULL
                  ? snprintf(line + at, 1024 - (size_t)at, "%s=%s ", attribute->name, attribute->text)
                  : snprintf(line + at, 1024 - (size_t)at, "%s=%lld ", attribute->name, (long long)attribute->number);
    }
    snprintf(told->parents[told->n], 64, "%s", span->traceparent != NULL ? span->traceparent : "");
    told->start_ns[told->n] = span->start_ns;
    told->end_ns[told->n] = span->end_ns;
    told->codes[told->n] = span->code;
    told->n++;
    if (span->inject != NULL && told->inject != NULL)
        snprintf(span->inject, EVBUS_TRACEPARENT_SIZE, "%s", told->inject);
}

static struct evbus *open_with_hook(const struct fixture *f, struct told *told)
{
    struct evbus *bus;
    struct evbus_options options = {.size = sizeof options,
                                    .bus = f->name,
                                    .service = "traced",
                                    .keeper = EVBUS_KEEPER_NEVER,
                                    .hook = hook,
                                    .hook_context = told};
    cr_assert_eq(evbus_open(&bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    return bus;
}

static void expect_in(const char *line, const char *const *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cr_expect_not_null(strstr(line, parts[i]), "no %s in: %s", parts[i], line);
}
#define EXPECT_IN(line, ...) \
    expect_in(line, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

Test(span, a_publish_begins_and_ends)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct told *told = calloc(1, sizeof *told);
    struct evbus *bus = open_with_hook(&f, told);
    struct evbus_receipt receipt;
    struct evbus_event event = {.topic = "test.a.one",
                                .payload = "[1,2]",
                                .id = {0x01, 0x9a, [6] = 0x70, [8] = 0x80},
                                .correlation_id = "order 10248",
                                .traceparent = PARENT};
    receipt.size = sizeof receipt;
    cr_assert_eq(evbus_publish(bus, &event, &receipt), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(told->n, 2);
    EXPECT_IN(told->lines[0], "0 begins ", "messaging.system=evbus ", "messaging.operation.name=publish ",
              "messaging.operation.type=send ", "messaging.destination.name=test.a.one ", "messaging.client.id=traced ",
              "messaging.message.body.size=5 ", "messaging.message.conversation_id=order 10248 ");
    EXPECT_IN(told->lines[1], "0 messaging.system=evbus ", "messaging.message.id=019a0000-0000-7000-8000-000000000000 ",
              "messaging.destination.partition.id=0 ", "evbus.message.position=");
    cr_expect_str_eq(told->parents[0], PARENT);
    cr_expect_str_eq(told->parents[1], PARENT);
    cr_expect(told->start_ns[0] != 0 && told->end_ns[0] == 0);
    cr_expect(told->start_ns[1] == told->start_ns[0] && told->end_ns[1] >= told->start_ns[1]);
    evbus_close(bus);
    free(told);
    fixture_end(&f);
}

Test(span, what_the_hook_injects_travels_with_the_event)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct told *told = calloc(1, sizeof *told);
    struct evbus *bus = open_with_hook(&f, told);
    struct evbus_reader *reader;
    struct evbus_reader_options options = {.from = EVBUS_FROM_EARLIEST};
    struct evbus_event events[2] = {{.topic = "test.a.one", .payload = "1", .traceparent = PARENT, .tracestate = "a=b"},
                                    {.topic = "test.a.one", .payload = "2"}};
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_open(&reader, f.bus, &options), EVBUS_OK);
    told->inject = INJECTED;
    cr_assert_eq(evbus_publish(bus, &events[0], NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_publish_batch(bus, events, 2, NULL, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK);
        cr_expect_str_eq(got.traceparent, INJECTED);
        cr_expect(i == 2 ? got.tracestate == NULL : strcmp(got.tracestate, "a=b") == 0);
    }
    cr_expect_eq(told->n, 6);
    cr_expect_str_eq(told->parents[1], INJECTED, "the end tells what has travelled");
    evbus_reader_close(reader);
    evbus_close(bus);
    free(told);
    fixture_end(&f);
}

Test(span, a_publish_that_fails_says_why)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct told *told = calloc(1, sizeof *told);
    struct evbus *bus = open_with_hook(&f, told);
    struct evbus_event event = {.topic = "test.a.none", .payload = "1"};
    cr_assert_eq(evbus_publish(bus, &event, NULL), EVBUS_ENOTFOUND);
    cr_assert_eq(told->n, 2);
    EXPECT_IN(told->lines[1], "messaging.destination.name=test.a.none ", "error.type=");
    cr_expect_eq(told->codes[1], EVBUS_ENOTFOUND);
    evbus_close(bus);
    free(told);
    fixture_end(&f);
}

static enum evbus_outcome fail_once(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    if (event->attempt > 1)
        return EVBUS_DONE;
    strcpy(error, "no address");
    return EVBUS_REJECT;
}

Test(span, a_handler_is_received_begun_ended_and_settled)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct told *told = calloc(1, sizeof *told);
    static const char *const patterns[] = {"test.a.**"};
    struct evbus *bus = open_with_hook(&f, told);
    struct evbus_subscription *sub;
    struct evbus_subscribe_options options = {
        .group = "mailers", .patterns = patterns, .n_patterns = 1, .handler = fail_once};
    struct evbus_event event = {.topic = "test.a.one", .payload = "1", .traceparent = PARENT};
    cr_assert_eq(evbus_subscribe(&sub, bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_publish(f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_run_once(sub, UINT64_C(5000000000)), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(told->n, 4);
    static const char *const firsts[] = {"1 ", "2 begins ", "2 ", "3 "};
    static const char *const types[] = {"receive", "process", "process", "settle"};
    for (size_t i = 0; i < 4; i++) {
        char type[64];
        snprintf(type, sizeof type, "messaging.operation.type=%s ", types[i]);
        cr_expect_eq(strncmp(told->lines[i], firsts[i], strlen(firsts[i])), 0, "%zu: %s", i, told->lines[i]);
        EXPECT_IN(told->lines[i], type, "messaging.consumer.group.name=mailers ",
                  "messaging.destination.name=test.a.one ", "evbus.attempt=1 ", "messaging.message.id=");
        cr_expect_str_eq(told->parents[i], PARENT);
    }
    EXPECT_IN(told->lines[2], "evbus.outcome=reject ", "error.type=rejected ", "evbus.error=no address ");
    EXPECT_IN(told->lines[3], "evbus.outcome=reject ", "error.type=rejected ");
    evbus_unsubscribe(sub);
    evbus_close(bus);
    free(told);
    fixture_end(&f);
}

struct settled {
    const struct evbus *bus; /* whose memory it looks at */
    struct evbus_subscription *sub;
    unsigned n_handled, n_settled, n_in_hand; /* entries, when something was settled */
};

static void look_when_settled(void *context, const struct evbus_span *span)
{
    struct settled *settled = context;
    if (span->operation != EVBUS_OPERATION_SETTLE)
        return;
    settled->n_settled++;
    const struct memory *memory = &settled->bus->memory;
    uint32_t group = group_find(memory, "mailers");
    for (uint32_t p = 0; p < memory->logs[0].n_partitions; p++)
        for (uint32_t i = 0; i < PENDING_MAX; i++)
            settled->n_in_hand += pending_load(memory_part(&memory->logs[0], p, group), i, 0).state != PENDING_EMPTY;
}

static enum evbus_outcome handle_three(void *context, const struct evbus_delivery *event, char *error)
{
    struct settled *settled = context;
    (void)event;
    (void)error;
    if (++settled->n_handled == 3)
        evbus_stop(settled->sub);
    return EVBUS_DONE;
}

/* What a hook costs, or breaks, is not charged to the next event. [guards ORDER] P7 */
Test(span, nothing_is_in_hand_while_a_hook_is_told_what_was_settled)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct settled settled = {.bus = f.bus};
    static const char *const patterns[] = {"test.a.**"};
    struct evbus *bus;
    struct evbus_options options = {.size = sizeof options,
                                    .bus = f.name,
                                    .service = "traced",
                                    .keeper = EVBUS_KEEPER_NEVER,
                                    .hook = look_when_settled,
                                    .hook_context = &settled};
    struct evbus_subscribe_options group = {
        .group = "mailers", .patterns = patterns, .n_patterns = 1, .handler = handle_three, .context = &settled};
    struct evbus_event event = {.topic = "test.a.one", .key = "k", .payload = "1"};
    cr_assert_eq(evbus_open(&bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_subscribe(&settled.sub, bus, &group), EVBUS_OK, "%s", evbus_message(NULL));
    for (int i = 0; i < 3; i++)
        cr_assert_eq(evbus_publish(f.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_run(settled.sub, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(settled.n_handled, 3);
    cr_expect_eq(settled.n_settled, 3);
    cr_expect_eq(settled.n_in_hand, 0);
    evbus_unsubscribe(settled.sub);
    evbus_close(bus);
    fixture_end(&f);
}

Test(span, so_is_what_is_received_and_finished_by_hand)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct told *told = calloc(1, sizeof *told);
    static const char *const patterns[] = {"test.a.**"};
    struct evbus *bus = open_with_hook(&f, told);
    struct evbus_subscription *sub;
    struct evbus_subscribe_options options = {.group = "mailers", .patterns = patterns, .n_patterns = 1};
    struct evbus_delivery got = {.size = offsetof(struct evbus_delivery, versions)}; /* of an older caller */
    cr_assert_eq(evbus_subscribe(&sub, bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(fixture_publish(f.bus, "k", "1"), EVBUS_OK);
    cr_assert_eq(evbus_receive(sub, &got, UINT64_C(5000000000)), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(told->n, 1);
    cr_assert_eq(evbus_finish(sub, &got, EVBUS_DONE, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(told->n, 2);
    EXPECT_IN(told->lines[1], "messaging.operation.name=settle ", "evbus.outcome=done ");
    cr_expect_null(strstr(told->lines[1], "error.type"));
    evbus_unsubscribe(sub);
    evbus_close(bus);
    free(told);
    fixture_end(&f);
}
