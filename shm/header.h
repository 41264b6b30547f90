/* header.h: what a publish puts into a frame's header area. See header.c. */
#ifndef EVBUS_HEADER_H
#define EVBUS_HEADER_H

#include "bus.h"

/* Has the event anything for it? Most have not. */
static inline bool header_is_wanted(const struct evbus_event *event, const struct bus_thread *thread)
{
    /* one branch */
    return (thread->handling != NULL) | (event->cause != NULL) | (event->traceparent != NULL) |
           (event->tracestate != NULL) | (event->correlation_id != NULL) | (event->causation_id != NULL) |
           (event->expires_at_ns != 0) | (event->origin != NULL);
}

/* Into thread->area. EVBUS_OK; EVBUS_EINVAL: the message names the field; EVBUS_EIO: the kernel gives no randomness. */
int header_build(const struct evbus_event *event, struct bus_thread *thread, struct error *err);

#endif
