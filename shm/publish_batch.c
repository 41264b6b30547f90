/* publish_batch.c: many events by one call: what is the same for all of them is done once.
 *
 *     check    all, before the first is published. Of the first KEPT_MAX that is kept which their sending needs
 *     send     one by one, each with a claim of its own: a batch that is claimed as a whole would let an event that is cancelled be
 *              overtaken by the one behind it [R11]. The clock is read, and the bus's names are looked at, once in SHARE_MAX events
 *     ring     whoever sleeps on a topic of them is woken once: at the end, or where a full ring makes us wait, since its readers may
 *              be asleep
 *     await    at the end, once for each partition: the disk, the broker
 *
 * An event is checked a second time, but for its payload, when its turn comes, where what was found cannot be kept: beyond KEPT_MAX;
 * where its frame points into what the thread has once (header area, further versions); where the handle has a hook, which may
 * change it; where the caller's struct is another release's, so that it is read through a copy.
 * Checked by tests/unit/test_publish.c and tests/crash/test_publish.c. */
#include "publish_batch.h"

#include "clock.h"
#include "publish.h"
#include "span.h"

#include <stddef.h>
#include <string.h>

#define KEPT_MAX  256
#define SHARE_MAX 32

/* Of one partition: what is to be on disk before a batch returns. */
struct span {
    uint64_t pos;
    uint64_t end; /* 0: nothing */
    bool is_disk;
    bool is_broker; /* likewise at the broker */
    uint64_t last;  /* position of its last event */
    uint64_t timeout_ns;
};

/* What a batch has published: nobody has been woken for it yet, or it is not known to be on disk. */
struct unrung {
    struct topic_set topics[LOGS_MAX];
    bool has_spans;
    struct span spans[LOGS_MAX][PARTITIONS_MAX]; /* only where it has */
};

/* One that is under way. Large: only what is said to be set is. */
struct batch {
    struct publish *publish;
    const struct evbus_event *events;
    size_t n;
    size_t size;                  /* of each event's struct */
    struct parcel kept[KEPT_MAX]; /* log NULL: not kept */
    struct unrung unrung;
};

/* The i-th event, as a struct of ours. copy: room for it. */
static int take(const struct batch *batch, size_t i, struct evbus_event *copy, const struct evbus_event **out_event)
{
    *out_event = (const struct evbus_event *)(const void *)((const char *)batch->events + i * batch->size);
    if (batch->size == sizeof *copy)
        return EVBUS_OK;
    int rc = bus_take_struct(copy, sizeof *copy, *out_event, batch->size, "struct evbus_event", batch->publish->err);
    *out_event = copy;
    return rc;
}

/* Do they differ in id, time, key and payload alone? */
static bool is_like(const struct evbus_event *event, const struct evbus_event *before)
{
    enum { /* two stretches without padding */
           VERSION = offsetof(struct evbus_event, version_major),
           VERSION_END = offsetof(struct evbus_event, payload_is_checked) + sizeof event->payload_is_checked,
           TIMEOUT = offsetof(struct evbus_event, timeout_ns),
    };
    const char *a = (const char *)event, *b = (const char *)before;
    return event->topic == before->topic && memcmp(a + VERSION, b + VERSION, VERSION_END - VERSION) == 0 &&
           memcmp(a + TIMEOUT, b + TIMEOUT, sizeof *event - TIMEOUT) == 0;
}

static int check_all(struct batch *batch, size_t *out_at)
{
    bool may_keep = batch->size == sizeof(struct evbus_event) && batch->publish->bus->hook == NULL;
    const struct evbus_event *before = NULL; /* what was found of it is *found */
    const struct parcel *found = NULL;
    struct parcel beyond;
    int rc = EVBUS_OK;
    for (size_t i = 0; i < batch->n && rc == EVBUS_OK; i++) {
        struct evbus_event copy;
        const struct evbus_event *event;
        struct parcel *parcel = i < KEPT_MAX ? &batch->kept[i] : &beyond;
        *out_at = i;
        if ((rc = take(batch, i, &copy, &event)) != EVBUS_OK)
            break;
        if (before != NULL && is_like(event, before))
            rc = publish_check_like(batch->publish, event, before, found, parcel);
        else
            rc = publish_check(batch->publish, event, parcel);
        bool is_kept = rc == EVBUS_OK && may_keep && parcel->area_len == 0 && event->n_more_versions == 0;
        before = is_kept ? event : NULL;
        found = parcel;
        if (!is_kept)
            parcel->log = NULL;
    }
    return rc;
}

static void ring_for(struct evbus *bus, struct unrung *unrung)
{
    for (uint32_t log = 0; log < memory_n_logs(&bus->memory); log++)
        if (!topic_set_is_empty(&unrung->topics[log]))
            partition_ring(&bus->memory, &bus->memory.logs[log], &unrung->topics[log]);
    memset(unrung->topics, 0, sizeof unrung->topics);
}

static void add_span(struct unrung *unrung, const struct parcel *parcel, const struct sent *sent, uint64_t timeout_ns)
{
    if (!unrung->has_spans)
        memset(unrung->spans, 0, sizeof unrung->spans);
    unrung->has_spans = true;
    struct span *span = &unrung->spans[parcel->log->index][sent->ring->partition];
    if (span->end == 0)
        span->pos = sent->pos;
    span->end = sent->pos + parcel->n_cells;
    span->last = sent->pos;
    span->is_disk = span->is_disk || parcel->is_disk;
    span->is_broker = span->is_broker || parcel->ack == EVBUS_ACK_BROKER;
    span->timeout_ns = timeout_ns;
}

static int await_spans(struct evbus *bus, const struct unrung *unrung, struct error *err)
{
    int rc = EVBUS_OK;
    for (uint32_t l = 0; unrung->has_spans && l < memory_n_logs(&bus->memory); l++)
        for (uint32_t p = 0; rc == EVBUS_OK && p < bus->memory.logs[l].n_partitions; p++) {
            const struct span *span = &unrung->spans[l][p];
            struct ring *ring = &bus->memory.logs[l].rings[p];
            if (span->end != 0 && span->is_disk)
                rc = partition_await_disk(&bus->memory, ring, span->pos, span->end, ring->is_visible_synced, err);
            if (rc == EVBUS_OK && span->end != 0 && span->is_broker)
                rc = partition_await_broker(&bus->memory, ring, span->last, span->timeout_ns, err);
        }
    return rc;
}

/* One that is checked. A full ring: its readers may be asleep since we have not rung yet. */
static int send(struct batch *batch, const struct evbus_event *event, const struct parcel *parcel,
                struct sent *out_sent)
{
    struct publish *publish = batch->publish;
    struct evbus *bus = publish->bus;
    int rc = publish_send(publish, event, parcel, out_sent);
    if (rc == EVBUS_EFULL && event->timeout_ns > 0) {
        ring_for(bus, &batch->unrung);
        publish->wait.timeout_ns = event->timeout_ns;
        rc = publish_append(publish, event, parcel, out_sent);
        publish->wait.timeout_ns = 0;
        publish->now_ns = 0; /* it has passed since */
    }
    if (rc == EVBUS_OK) {
        topic_set_add(&batch->unrung.topics[parcel->log->index], parcel->topic);
        if (parcel->ack != EVBUS_ACK_MEMORY)
            add_span(&batch->unrung, parcel, out_sent, event->timeout_ns);
        partition_make_room(&bus->memory, out_sent->ring, out_sent->pos);
    }
    return rc;
}

/* One of which nothing was kept, from our copy: its payload was checked, all else is again. */
static int check_again(const struct batch *batch, size_t i, struct evbus_event *copy, struct span_of_publish *span,
                       const struct evbus_event **out_event, struct parcel *out_parcel)
{
    const struct publish *publish = batch->publish;
    bus_take_struct(copy, sizeof *copy, (const char *)batch->events + i * batch->size, batch->size,
                    "struct evbus_event", publish->err);
    copy->payload_is_checked = true;
    *out_event = publish->bus->hook == NULL ? copy : span_publish(publish->bus, publish->thread, copy, span);
    return publish_check(publish, *out_event, out_parcel);
}

static int send_all(struct batch *batch, struct evbus_receipt *receipts, size_t *out_done)
{
    struct publish *publish = batch->publish;
    struct evbus *bus = publish->bus;
    size_t receipt_size = receipts != NULL && receipts->size != 0 ? receipts->size : sizeof *receipts;
    int rc = EVBUS_OK;
    for (size_t i = 0; i < batch->n; i++) {
        struct evbus_event copy;
        struct span_of_publish span;
        struct parcel again;
        struct sent sent;
        const struct evbus_event *event = &batch->events[i];
        const struct parcel *parcel = i < KEPT_MAX && batch->kept[i].log != NULL ? &batch->kept[i] : &again;
        if (i % SHARE_MAX == 0) {
            publish->now_ns = 0;
            if ((rc = bus_check_names(bus, clock_coarse_ns(), publish->err)) != EVBUS_OK)
                break;
        }
        sent.ring = NULL;
        if (parcel == &again)
            rc = check_again(batch, i, &copy, &span, &event, &again);
        if (rc == EVBUS_OK)
            rc = send(batch, event, parcel, &sent);
        if (bus->hook != NULL)
            span_published(bus, event, &span,
                           &(struct span_end){sent.id, sent.ring, sent.pos, publish->thread->area.bytes,
                                              rc == EVBUS_OK ? parcel->area_len : 0, rc});
        if (rc != EVBUS_OK)
            break;
        if (receipts != NULL) /* their places are as large as the first says */
            publish_write_receipt(parcel, &sent, receipt_size,
                                  (struct evbus_receipt *)(void *)((char *)receipts + i * receipt_size));
        *out_done = i + 1;
    }
    return rc;
}

static int publish_all(struct publish *publish, const struct evbus_event *events, size_t n,
                       struct evbus_receipt *receipts, size_t *out_published)
{
    struct evbus *bus = publish->bus;
    struct batch batch;
    size_t at = 0; /* the event that rc is about */
    batch.publish = publish;
    batch.events = events;
    batch.n = n;
    batch.size = n > 0 && events->size != 0 ? events->size : sizeof *events;
    memset(batch.unrung.topics, 0, sizeof batch.unrung.topics);
    batch.unrung.has_spans = false;
    int rc = check_all(&batch, &at);
    if (rc == EVBUS_OK) {
        rc = send_all(&batch, receipts, out_published);
        at = *out_published;
    }
    ring_for(bus, &batch.unrung);
    if (batch.unrung.has_spans) { /* those that came before one that failed, too */
        struct error late = {""};
        int disk = await_spans(bus, &batch.unrung, &late);
        if (rc == EVBUS_OK && disk != EVBUS_OK) {
            *publish->err = late;
            rc = disk;
            at = n - 1;
        }
    }
    if (rc == EVBUS_ESTALE)
        bus_check(bus, NULL);
    return rc == EVBUS_OK ? rc : error_prefix(publish->err, rc, "event %zu of %zu", at + 1, n);
}

EVBUS_API IN_PUBLISH_SECTION int evbus_publish_batch(struct evbus *bus, const struct evbus_event *events, size_t n,
                                                     struct evbus_receipt *receipts, size_t *out_published)
{
    struct error *err = error_of_thread();
    struct publish publish;
    size_t n_done = 0;
    if (out_published != NULL)
        *out_published = 0;
    if (events == NULL && n > 0)
        return error_set(err, EVBUS_EINVAL, "events is NULL");
    int rc = publish_check_receipt(receipts, err);
    if (rc == EVBUS_OK)
        rc = publish_begin(&publish, bus, (uintptr_t)__builtin_dwarf_cfa(), err);
    if (rc != EVBUS_OK)
        return rc;
    rc = publish_all(&publish, events, n, receipts, &n_done);
    if (out_published != NULL)
        *out_published = n_done;
    publish_end(&publish);
    return rc;
}

IN_PUBLISH_SECTION int publish_brought(struct evbus *bus, const struct evbus_event *events, size_t n,
                                       const struct partition_fence *fence, size_t *out_brought, struct error *err)
{
    struct publish publish;
    *out_brought = 0;
    int rc = publish_begin(&publish, bus, (uintptr_t)__builtin_dwarf_cfa(), err);
    if (rc != EVBUS_OK)
        return rc;
    publish.wait.fence = fence;
    rc = publish_all(&publish, events, n, NULL, out_brought);
    publish_end(&publish);
    return rc;
}
