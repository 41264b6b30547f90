/* delivery.c: a frame as its reader sees it. What is copied is what needs a NUL; payloads lie where they were read.
 * Checked by tests/unit/test_header.c. */
#include "delivery.h"

#include "area.h"

#include <string.h>

/* A text of the header area; NULL: there is none, or it is longer than any that is published. */
static const char *text_of(const struct frame *frame, enum area_tag tag, char *to, size_t max)
{
    return area_text(frame, tag, to, max + 1) ? to : NULL;
}

static __attribute__((noinline)) void fill_area(const struct frame *frame, struct delivery_texts *texts,
                                                struct evbus_delivery *out)
{
    struct area_source source;
    struct area_origin origin;
    out->traceparent = text_of(frame, AREA_TRACEPARENT, texts->traceparent, TRACE_PARENT_MAX);
    if (out->traceparent != NULL && trace_check_parent(out->traceparent, strlen(out->traceparent), NULL) !=
                                        EVBUS_OK) /* who continues it relies on it */
        out->traceparent = NULL;
    if (out->traceparent != NULL)
        out->tracestate = text_of(frame, AREA_TRACESTATE, texts->tracestate, TRACE_STATE_MAX);
    out->correlation_id = text_of(frame, AREA_CORRELATION, texts->correlation_id, TRACE_ID_MAX);
    out->causation_id = text_of(frame, AREA_CAUSATION, texts->causation_id, TRACE_ID_MAX);
    out->expires_at_ns = area_number(frame, AREA_EXPIRES);
    if ((frame->flags & FRAME_REPLAY) != 0 && area_source(frame, &source))
        out->replayed = source.n_replays;
    if (area_origin(frame, &origin)) {
        texts->origin = (struct evbus_origin){
            .partition = origin.partition,
            .position = origin.position,
            .broker_id = text_of(frame, AREA_BROKER, texts->broker_id, sizeof texts->broker_id - 1)};
        memcpy(texts->origin.bus, origin.bus, sizeof origin.bus);
        out->origin = &texts->origin;
    }
}

/* By their versions: there are few of them. */
static void sort(struct evbus_version *versions, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = i;
             k > 0 && (versions[k - 1].major > versions[k].major ||
                       (versions[k - 1].major == versions[k].major && versions[k - 1].minor > versions[k].minor));
             k--) {
            struct evbus_version higher = versions[k - 1];
            versions[k - 1] = versions[k];
            versions[k] = higher;
        }
}

/* Apart, as most events have one. */
static __attribute__((noinline)) void fill_more_versions(const struct frame *frame, struct delivery_texts *texts)
{
    struct frame_version versions[FRAME_VERSIONS_MAX];
    frame_versions(frame, versions);
    for (size_t i = 0; i < frame->n_versions; i++)
        texts->versions[i] = (struct evbus_version){versions[i].major, versions[i].minor, versions[i].payload,
                                                    versions[i].len};
    sort(texts->versions, frame->n_versions);
}

static inline void fill_versions(const struct frame *frame, struct delivery_texts *texts, struct evbus_delivery *out)
{
    unsigned n_versions = frame->n_versions;
    out->versions = texts->versions;
    out->n_versions = n_versions;
    texts->versions[0] = (struct evbus_version){frame->major, frame->minor, frame->payload, frame->payload_len};
    if (n_versions > 1)
        fill_more_versions(frame, texts);
    for (unsigned i = 0; i < n_versions; i++) { /* behind it stands padding, or a header that has been read */
        const char *payload = texts->versions[i].payload;
        *((char *)(uintptr_t)payload + texts->versions[i].payload_len) = '\0';
    }
}

void delivery_fill(const struct frame *frame, struct delivery_texts *texts, struct evbus_delivery *out)
{
    if (frame->key_len != 0)
        memcpy(texts->key, frame->key, frame->key_len);
    texts->key[frame->key_len] = '\0';
    out->timestamp_ns = frame->timestamp_ns;
    out->version_major = frame->major;
    out->version_minor = frame->minor;
    out->key = texts->key;
    out->key_len = frame->key_len;
    out->payload = frame->payload;
    out->payload_len = frame->payload_len;
    out->is_after_gap = (frame->flags & FRAME_AFTER_GAP) != 0;
    memcpy(out->id, frame->id, sizeof out->id);
    fill_versions(frame, texts, out);
    if (frame->area_len != 0)
        fill_area(frame, texts, out);
}

void delivery_give(const struct evbus_delivery *delivery, struct evbus_delivery *out)
{
    size_t size = out->size != 0 ? out->size : sizeof *out;
    size_t given = out->size;
    memcpy(out, delivery, size < sizeof *delivery ? size : sizeof *delivery);
    out->size = given;
}
