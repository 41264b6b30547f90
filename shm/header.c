/* header.c: what a publish puts into a frame's header area.
 *
 * What the caller names is checked and taken. What he does not name follows from what the event was caused by: the same trace with a
 * span id of its own, the same correlationId (or, where there is none, its eventId: there the chain begins), and its eventId as
 * causationId. The cause is the one that the caller names, else what the thread's handler is at.
 * Checked by tests/unit/test_header.c. */
#include "header.h"

#include "json.h"
#include "trace.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* Not 0; unlike any other's but by chance. */
static int make_span(struct bus_thread *thread, uint64_t *out_span, struct error *err)
{
    while (thread->span == 0)
        if (getrandom(&thread->span, sizeof thread->span, 0) < 0 && errno != EINTR)
            return error_set(err, EVBUS_EIO, "the kernel gives no random bytes: %s", strerror(errno));
    uint64_t x = thread->span += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64: a permutation, so 0 comes once in 2^64 */
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    *out_span = x != 0 ? x : 1;
    return EVBUS_OK;
}

static int put(struct area *area, enum area_tag tag, const void *bytes, size_t len, struct error *err)
{
    return area_add(area, tag, bytes, len)
               ? EVBUS_OK
               : error_set(err, EVBUS_EINVAL, "event: its header fields together have more than %d bytes",
                           FRAME_AREA_MAX);
}

/* A cause that was delivered is sound; one that a caller has made of what he was told may be anything, and what is malformed ends the
 * trace, as the standard asks, not the publish. */
static bool is_traced(const struct evbus_delivery *cause)
{
    return cause != NULL && cause->traceparent != NULL &&
           trace_check_parent(cause->traceparent, strnlen(cause->traceparent, TRACE_PARENT_MAX + 1), NULL) == EVBUS_OK;
}

static int put_trace(const struct evbus_event *event, const struct evbus_delivery *cause, struct bus_thread *thread,
                     struct error *err)
{
    char child[TRACE_PARENT_LEN + 1];
    const char *parent = event->traceparent;
    const char *state = event->tracestate;
    int rc = EVBUS_OK;
    if (parent == NULL && state != NULL)
        return error_set(err, EVBUS_EINVAL, "event.tracestate is set and event.traceparent is not: give both");
    if (parent != NULL)
        rc = trace_check_parent(parent, strnlen(parent, TRACE_PARENT_MAX + 1), err);
    if (rc == EVBUS_OK && state != NULL)
        rc = trace_check_state(state, strnlen(state, TRACE_STATE_MAX + 1), err);
    if (rc != EVBUS_OK)
        return error_prefix(err, rc, "event");
    if (parent == NULL && is_traced(cause)) {
        uint64_t span = 0;
        if ((rc = make_span(thread, &span, err)) != EVBUS_OK)
            return rc;
        trace_child(cause->traceparent, span, child);
        parent = child;
        state = cause->tracestate != NULL &&
                        trace_check_state(cause->tracestate, strnlen(cause->tracestate, TRACE_STATE_MAX + 1), NULL) ==
                            EVBUS_OK
                    ? cause->tracestate
                    : NULL;
    }
    if (parent != NULL)
        rc = put(&thread->area, AREA_TRACEPARENT, parent, strlen(parent), err);
    if (rc == EVBUS_OK && parent != NULL && state != NULL && state[0] != '\0')
        rc = put(&thread->area, AREA_TRACESTATE, state, strlen(state), err);
    return rc;
}

static int put_id(struct bus_thread *thread, enum area_tag tag, const char *text, const char *name, struct error *err)
{
    size_t len = strnlen(text, TRACE_ID_MAX + 1);
    if (len == 0)
        return EVBUS_OK;
    if (len > TRACE_ID_MAX)
        return error_set(err, EVBUS_EINVAL, "event.%s has more than %d bytes", name, TRACE_ID_MAX);
    if (!json_is_utf8(text, len))
        return error_set(err, EVBUS_EINVAL, "event.%s is not valid UTF-8", name);
    return put(&thread->area, tag, text, len, err);
}

#define BROKER_ID_MAX 63

static int put_origin(struct area *area, const struct evbus_origin *origin, struct error *err)
{
    struct area_origin at = {.position = origin->position, .partition = origin->partition};
    const char *id = origin->broker_id != NULL ? origin->broker_id : "";
    size_t len = strnlen(id, BROKER_ID_MAX + 1);
    if (len > BROKER_ID_MAX || !json_is_utf8(id, len))
        return error_set(err, EVBUS_EINVAL, "event.origin.broker_id is no UTF-8 of at most %d bytes", BROKER_ID_MAX);
    memcpy(at.bus, origin->bus, sizeof at.bus);
    int rc = put(area, AREA_ORIGIN, &at, sizeof at, err);
    return rc == EVBUS_OK && len != 0 ? put(area, AREA_BROKER, id, len, err) : rc;
}

__attribute__((noinline)) int header_build(const struct evbus_event *event, struct bus_thread *thread,
                                           struct error *err)
{
    const struct evbus_delivery *cause = event->cause != NULL ? event->cause : thread->handling;
    char cause_id[37] = "";
    static const uint8_t nil[16];
    if (cause != NULL && memcmp(cause->id, nil, sizeof nil) != 0)
        uuid7_format(cause->id, cause_id);
    bool has_chain = cause != NULL && cause->correlation_id != NULL && cause->correlation_id[0] != '\0';
    const char *correlation = event->correlation_id != NULL ? event->correlation_id
                              : has_chain                   ? cause->correlation_id
                                                            : cause_id;
    thread->area.len = 0;
    int rc = put_trace(event, cause, thread, err);
    if (rc == EVBUS_OK)
        rc = put_id(thread, AREA_CORRELATION, correlation, "correlation_id", err);
    if (rc == EVBUS_OK)
        rc = put_id(thread, AREA_CAUSATION, event->causation_id != NULL ? event->causation_id : cause_id,
                    "causation_id", err);
    if (rc == EVBUS_OK && event->expires_at_ns != 0)
        rc = put(&thread->area, AREA_EXPIRES, &event->expires_at_ns, sizeof event->expires_at_ns, err);
    if (rc == EVBUS_OK && event->origin != NULL)
        rc = put_origin(&thread->area, event->origin, err);
    return rc;
}
