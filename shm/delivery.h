/* delivery.h: a frame as its reader sees it: struct evbus_delivery. See delivery.c. */
#ifndef EVBUS_DELIVERY_H
#define EVBUS_DELIVERY_H

#include "frame.h"
#include "trace.h"

#include <evbus/evbus.h>

/* What a delivery points to beside its frame. */
struct delivery_texts {
    char key[FRAME_KEY_MAX + 1];
    char traceparent[TRACE_PARENT_MAX + 1];
    char tracestate[TRACE_STATE_MAX + 1];
    char correlation_id[TRACE_ID_MAX + 1];
    char causation_id[TRACE_ID_MAX + 1];
    char broker_id[64];
    struct evbus_origin origin;
    struct evbus_version versions[FRAME_VERSIONS_MAX];
};

/* Fills in what the frame says; where it was read, by whom, and the topic are the caller's to add. The frame lies in memory that
 * may be written, and goes on for a byte behind it: there stands a NUL behind each payload then, and it cannot be parsed again. */
void delivery_fill(const struct frame *frame, struct delivery_texts *texts, struct evbus_delivery *out);

/* Gives it to a caller whose struct may be an older one, as its size says. */
void delivery_give(const struct evbus_delivery *delivery, struct evbus_delivery *out);

#endif
