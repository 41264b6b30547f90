/* span.c: what the hook of a handle is told of: publish, receive, process, settle, with the attributes that OpenTelemetry's
 * conventions for messaging name. A handle without a hook pays one branch for each.
 *
 * The hook may start a span of its tracer's when a publish begins, and inject its context, which then travels with the event; and
 * when a handler begins, so that what the handler does is within it. Ids of spans are the tracer's; where nobody injects one,
 * header.c makes one, so that a trace goes on through services that have no tracer. Checked by tests/unit/test_span.c. */
#include "span.h"

#include "area.h"
#include "clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ATTRIBUTES_MAX 20

struct attributes {
    struct evbus_attribute list[ATTRIBUTES_MAX];
    size_t n;
    char id[37];
    char partition[16];
};

static void add_text(struct attributes *attributes, const char *name, const char *text)
{
    if (text != NULL && text[0] != '\0')
        attributes->list[attributes->n++] = (struct evbus_attribute){.name = name, .text = text};
}

static void add_number(struct attributes *attributes, const char *name, uint64_t number)
{
    attributes->list[attributes->n++] = (struct evbus_attribute){.name = name, .number = (int64_t)number};
}

static void add_place(struct attributes *attributes, uint32_t partition, uint64_t position, const uint8_t id[16])
{
    uuid7_format(id, attributes->id);
    snprintf(attributes->partition, sizeof attributes->partition, "%" PRIu32, partition);
    add_text(attributes, "messaging.message.id", attributes->id);
    add_text(attributes, "messaging.destination.partition.id", attributes->partition);
    add_number(attributes, "evbus.message.position", position);
}

static void begin(struct attributes *attributes, const struct evbus *bus, enum evbus_operation operation,
                  const char *topic)
{
    static const char *const names[] = {"publish", "receive", "process", "settle"};
    static const char *const types[] = {"send", "receive", "process", "settle"};
    attributes->n = 0;
    add_text(attributes, "messaging.system", "evbus");
    add_text(attributes, "messaging.operation.name", names[operation]);
    add_text(attributes, "messaging.operation.type", types[operation]);
    add_text(attributes, "messaging.destination.name", topic);
    add_text(attributes, "messaging.client.id", bus->service);
    add_text(attributes, "server.address", bus->memory.bus);
}

static void tell(struct evbus *bus, const struct attributes *attributes, struct evbus_span span)
{
    span.size = sizeof span;
    span.attributes = attributes->list;
    span.n_attributes = attributes->n;
    bus->hook(bus->hook_context, &span);
}

/* --- publish ---------------------------------------------------------------------------------------------------------- */

static void add_event(struct attributes *attributes, const struct evbus_event *event)
{
    add_text(attributes, "messaging.message.conversation_id", event->correlation_id);
    if (event->payload != NULL)
        add_number(attributes, "messaging.message.body.size",
                   event->payload_len != 0 ? event->payload_len : strlen(event->payload));
}

const struct evbus_event *span_publish(struct evbus *bus, const struct bus_thread *thread,
                                       const struct evbus_event *event, struct span_of_publish *span)
{
    struct attributes attributes;
    const struct evbus_delivery *cause = event->cause != NULL ? event->cause : thread->handling;
    bool is_given = event->traceparent != NULL;
    span->start_ns = clock_wall_ns();
    span->inject[0] = '\0';
    begin(&attributes, bus, EVBUS_OPERATION_PUBLISH, event->topic);
    add_event(&attributes, event);
    tell(bus, &attributes,
         (struct evbus_span){.operation = EVBUS_OPERATION_PUBLISH,
                             .start_ns = span->start_ns,
                             .traceparent = is_given        ? event->traceparent
                                            : cause != NULL ? cause->traceparent
                                                            : NULL,
                             .tracestate = is_given        ? event->tracestate
                                           : cause != NULL ? cause->tracestate
                                                           : NULL,
                             .inject = span->inject});
    span->inject[sizeof span->inject - 1] = '\0';
    if (span->inject[0] == '\0')
        return event;
    span->event = *event;
    span->event.traceparent = span->inject;
    if (event->tracestate == NULL && cause != NULL)
        span->event.tracestate = cause->tracestate;
    return &span->event;
}

/* The field of a frame that was built, in memory of its length and a NUL; NULL: it has none. */
static const char *text_of(const struct span_end *end, enum area_tag tag, char *to, size_t size)
{
    const struct frame frame = {.area = end->area, .area_len = end->area_len};
    const uint8_t *bytes;
    size_t len;
    if (end->area_len == 0 || !area_find(&frame, tag, &bytes, &len) || len >= size)
        return NULL;
    memcpy(to, bytes, len);
    to[len] = '\0';
    return to;
}

void span_published(struct evbus *bus, const struct evbus_event *event, const struct span_of_publish *span,
                    const struct span_end *end)
{
    struct attributes attributes;
    char parent[TRACE_PARENT_MAX + 1];
    char state[TRACE_STATE_MAX + 1];
    bool is_there = end->rc == EVBUS_OK;
    begin(&attributes, bus, EVBUS_OPERATION_PUBLISH, event->topic);
    add_event(&attributes, event);
    if (is_there)
        add_place(&attributes, end->ring->partition, end->pos, end->id);
    else
        add_text(&attributes, "error.type", evbus_strerror(end->rc));
    tell(bus, &attributes,
         (struct evbus_span){
             .operation = EVBUS_OPERATION_PUBLISH,
             .is_end = true,
             .start_ns = span->start_ns,
             .end_ns = clock_wall_ns(),
             .code = end->rc,
             .traceparent = is_there ? text_of(end, AREA_TRACEPARENT, parent, sizeof parent) : event->traceparent,
             .tracestate = is_there ? text_of(end, AREA_TRACESTATE, state, sizeof state) : event->tracestate});
}

/* --- a group's ---------------------------------------------------------------------------------------------------------- */

static void add_delivery(struct attributes *attributes, const char *group, const struct evbus_delivery *event)
{
    add_text(attributes, "messaging.consumer.group.name", group);
    add_place(attributes, event->partition, event->position, event->id);
    add_text(attributes, "messaging.message.conversation_id", event->correlation_id);
    add_number(attributes, "messaging.message.body.size", event->payload_len);
    add_number(attributes, "evbus.attempt", event->attempt);
}

static void add_outcome(struct attributes *attributes, enum evbus_outcome outcome, const char *error, int rc)
{
    static const char *const outcomes[] = {"done", "retry", "reject", "release", "defer"};
    bool has_failed = outcome == EVBUS_RETRY || outcome == EVBUS_REJECT;
    if ((unsigned)outcome < sizeof outcomes / sizeof outcomes[0])
        add_text(attributes, "evbus.outcome", outcomes[outcome]);
    if (rc != EVBUS_OK || has_failed) /* one of few, as the conventions ask; the text is ours */
        add_text(attributes, "error.type",
                 rc != EVBUS_OK            ? evbus_strerror(rc)
                 : outcome == EVBUS_REJECT ? "rejected"
                                           : "failed");
    if (has_failed)
        add_text(attributes, "evbus.error", error);
}

static struct evbus_span span_of(enum evbus_operation operation, const struct evbus_delivery *event, uint64_t start_ns,
                                 uint64_t end_ns, int rc)
{
    return (struct evbus_span){.operation = operation,
                               .is_end = end_ns != 0,
                               .start_ns = start_ns,
                               .end_ns = end_ns,
                               .code = rc,
                               .traceparent = event->traceparent,
                               .tracestate = event->tracestate};
}

void span_begin(struct evbus *bus, struct span_of_group *span)
{
    struct attributes attributes;
    if (bus->hook == NULL)
        return;
    span->start_ns = clock_wall_ns();
    begin(&attributes, bus, EVBUS_OPERATION_PROCESS, span->event->topic);
    add_delivery(&attributes, span->group, span->event);
    tell(bus, &attributes, span_of(EVBUS_OPERATION_PROCESS, span->event, span->start_ns, 0, EVBUS_OK));
}

void span_end(struct evbus *bus, const struct span_of_group *span, enum evbus_outcome outcome, const char *error)
{
    struct attributes attributes;
    if (bus->hook == NULL)
        return;
    begin(&attributes, bus, EVBUS_OPERATION_PROCESS, span->event->topic);
    add_delivery(&attributes, span->group, span->event);
    add_outcome(&attributes, outcome, error, EVBUS_OK);
    tell(bus, &attributes, span_of(EVBUS_OPERATION_PROCESS, span->event, span->start_ns, clock_wall_ns(), EVBUS_OK));
}

void span_received(struct evbus *bus, const char *group, const struct evbus_delivery *event)
{
    struct attributes attributes;
    if (bus->hook == NULL)
        return;
    uint64_t now_ns = clock_wall_ns();
    begin(&attributes, bus, EVBUS_OPERATION_RECEIVE, event->topic);
    add_delivery(&attributes, group, event);
    tell(bus, &attributes, span_of(EVBUS_OPERATION_RECEIVE, event, now_ns, now_ns, EVBUS_OK));
}

void span_settled(struct evbus *bus, const char *group, const struct evbus_delivery *event, enum evbus_outcome outcome,
                  const char *error, int rc)
{
    struct attributes attributes;
    if (bus->hook == NULL)
        return;
    uint64_t now_ns = clock_wall_ns();
    begin(&attributes, bus, EVBUS_OPERATION_SETTLE, event->topic);
    add_delivery(&attributes, group, event);
    add_outcome(&attributes, outcome, error, rc);
    tell(bus, &attributes, span_of(EVBUS_OPERATION_SETTLE, event, now_ns, now_ns, rc));
}
