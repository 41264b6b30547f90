/* span.h: what the hook of a handle is told of. See span.c. */
#ifndef EVBUS_SPAN_H
#define EVBUS_SPAN_H

#include "bus.h"
#include "trace.h"

/* Of one publish. */
struct span_of_publish {
    uint64_t start_ns;
    struct evbus_event event; /* with what the hook has injected */
    char inject[EVBUS_TRACEPARENT_SIZE];
};

/* It begins, and there is a hook, as its caller has seen; returns the event to be published: the caller's, or ours with what was injected. */
const struct evbus_event *span_publish(struct evbus *bus, const struct bus_thread *thread,
                                       const struct evbus_event *event, struct span_of_publish *span);

/* Where the event went, or why not. ring: NULL, where it came to none. */
struct span_end {
    const uint8_t *id;
    const struct ring *ring;
    uint64_t pos;
    const uint8_t *area; /* of its frame */
    uint16_t area_len;
    int rc;
};
void span_published(struct evbus *bus, const struct evbus_event *event, const struct span_of_publish *span,
                    const struct span_end *end);

/* A handler's, from its beginning to its end. */
struct span_of_group {
    const char *group;
    const struct evbus_delivery *event;
    uint64_t start_ns;
};
void span_begin(struct evbus *bus, struct span_of_group *span);
void span_end(struct evbus *bus, const struct span_of_group *span, enum evbus_outcome outcome, const char *error);

/* error may be NULL. rc: was the outcome stored? */
void span_received(struct evbus *bus, const char *group, const struct evbus_delivery *event);
void span_settled(struct evbus *bus, const char *group, const struct evbus_delivery *event, enum evbus_outcome outcome,
                  const char *error, int rc);

#endif
