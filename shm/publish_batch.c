/* publish_batch.c: many events by one call: what is the same for all of them is done once.
 *
 *     check    all, before the first is published. Of the first KEPT_MAX that is kept which their sending needs
 *     send     in runs, one claim each: neighbours that go to the same partition, at most SHARE_MAX events or RUN_CELLS; each run is seen
 *              as a whole, so an event that is cancelled is not overtaken by the one behind it [R11, R20]. What finds no room as a run
 *              goes one by one. The clock is read, and the bus's names are looked at, once in SHARE_MAX events
 *     ring     whoever sleeps on a topic of them is woken once: at the end, or where a full ring makes us wait, since its readers may
 *              be asleep
 *     await    at the end, once for each partition: the disk, the broker
 *
 * An event is checked a second time, but for its payload, when its turn comes, where what was found was not kept: beyond KEPT_MAX; and goes
 * by itself, in no run, where it cannot be: where its frame points into what the thread has once (header area, further versions); where the handle has a hook, which may
 * change it; where the caller's struct is another release's, so that it is read through a copy.
 * Checked by tests/unit/test_publish.c and tests/crash/test_publish.c. */
#include "publish_batch.h"

#include "clock.h"
#include "header.h"
#include "publish.h"
#include "span.h"

#include <string.h>

#define KEPT_MAX  256
#define SHARE_MAX 32
#define RUN_CELLS 256 /* 16 KiB, and an eighth of a ring at most: what a claim takes is nobody's while it is written */

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

/* Events of one partition whose frames stand in the thread's memory, one behind the other. */
struct run {
    struct ring *ring;            /* NULL: there are none */
    size_t first;                 /* of the batch */
    const struct parcel *parcels; /* of each */
    size_t n;
    uint32_t n_cells;
    struct sent sent[SHARE_MAX]; /* it is sent where so many may have come together: send_all() */
};

/* One that is under way. Large: only what is said to be set is. */
struct batch {
    struct publish *publish;
    const struct evbus_event *events;
    size_t n;
    size_t size;                    /* of each event's struct */
    bool may_keep;                  /* what is found of an event that has neither header area nor further versions */
    struct evbus_receipt *receipts; /* NULL: not wanted */
    size_t receipt_size;            /* of each */
    size_t n_sent;
    struct parcel kept[KEPT_MAX]; /* of the i-th event: see kept(); log NULL: not kept */
    struct unrung unrung;
    struct run run;
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

/* Of one that is keepable: does this one differ in id, time, key, payload and timeout alone? */
static bool is_like(const struct batch *batch, const struct evbus_event *event, const struct evbus_event *before)
{
    return event->topic == before->topic && event->version_major == before->version_major &&
           event->version_minor == before->version_minor && event->ack == before->ack && event->n_more_versions == 0 &&
           !header_is_wanted(event, batch->publish->thread);
}

/* Its place. Those of a run stand side by side. */
static struct parcel *kept(struct batch *batch, size_t i)
{
    static_assert(KEPT_MAX % SHARE_MAX == 0, "a run ends where the places do, and before they are taken again");
    return &batch->kept[i % KEPT_MAX];
}

static bool is_keepable(const struct batch *batch, const struct evbus_event *event, const struct parcel *parcel)
{
    return batch->may_keep && parcel->area_len == 0 && event->n_more_versions == 0;
}

static int check_all(struct batch *batch, size_t *out_at)
{
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
        bool is_alike = before != NULL && is_like(batch, event, before);
        rc = is_alike ? publish_check_like(batch->publish, event, before, found, parcel)
                      : publish_check(batch->publish, event, parcel);
        before = rc == EVBUS_OK && (is_alike || is_keepable(batch, event, parcel)) ? event : NULL;
        found = parcel;
        if (before == NULL)
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

static void note_sent(struct batch *batch, size_t i, const struct evbus_event *event, const struct parcel *parcel,
                      const struct sent *sent)
{
    topic_set_add(&batch->unrung.topics[parcel->log->index], parcel->topic);
    if (parcel->ack != EVBUS_ACK_MEMORY)
        add_span(&batch->unrung, parcel, sent, event->timeout_ns);
    if (batch->receipts != NULL) /* their places are as large as the first says */
        publish_write_receipt(parcel, sent, batch->receipt_size,
                              (struct evbus_receipt *)(void *)((char *)batch->receipts + i * batch->receipt_size));
    batch->n_sent = i + 1;
}

/* A full ring: its readers may be asleep since we have not rung yet; then the event waits for them. false: it does not. */
static bool may_wait(struct batch *batch, const struct evbus_event *event)
{
    struct publish *publish = batch->publish;
    if (event->timeout_ns == 0)
        return false;
    ring_for(publish->bus, &batch->unrung);
    publish->wait->timeout_ns = event->timeout_ns;
    publish->now_ns = 0; /* it will have passed since */
    return true;
}

/* Its frame. A partition's first of ours stands behind our names, which need room, too. */
static int build(struct batch *batch, const struct evbus_event *event, const struct parcel *parcel,
                 const struct sent *sent, uint64_t *out_frame)
{
    struct publish *publish = batch->publish;
    int rc = publish_build(publish, event, parcel, sent, out_frame);
    if (rc == EVBUS_EFULL && may_wait(batch, event))
        rc = publish_build(publish, event, parcel, sent, out_frame);
    publish->wait->timeout_ns = 0;
    return rc;
}

/* One whose frame is built. */
static int append_one(struct batch *batch, const struct evbus_event *event, const struct parcel *parcel,
                      const uint64_t *frame, struct sent *inout_sent)
{
    struct publish *publish = batch->publish;
    int rc = publish_append(publish, inout_sent->ring, frame, parcel->n_cells, &inout_sent->pos);
    if (rc == EVBUS_EFULL && may_wait(batch, event))
        rc = publish_append(publish, inout_sent->ring, frame, parcel->n_cells, &inout_sent->pos);
    publish->wait->timeout_ns = 0;
    if (rc == EVBUS_OK)
        partition_make_room(&publish->bus->memory, inout_sent->ring, inout_sent->pos);
    return rc;
}

/* From the i-th of the run on, all that are left by one claim. What finds no room goes one by one until there is. */
static int append_run(struct batch *batch, size_t i, const uint64_t *frames, uint32_t n_cells, size_t *out_n)
{
    struct run *run = &batch->run;
    size_t at = run->first + i;
    uint64_t pos;
    *out_n = run->n - i;
    int rc = *out_n > 1 ? publish_append(batch->publish, run->ring, frames, n_cells, &pos) : EVBUS_EAGAIN;
    if (rc == EVBUS_EAGAIN) {
        *out_n = 1;
        return append_one(batch, &batch->events[at], &run->parcels[i], frames, &run->sent[i]);
    }
    if (rc != EVBUS_OK)
        return rc;
    for (size_t k = i; k < run->n; pos += run->parcels[k].n_cells, k++)
        run->sent[k].pos = pos;
    partition_make_room(&batch->publish->bus->memory, run->ring, run->sent[run->n - 1].pos);
    return EVBUS_OK;
}

static int send_run(struct batch *batch)
{
    struct run *run = &batch->run;
    const uint64_t *frames = batch->publish->thread->frame;
    int rc = EVBUS_OK;
    size_t n;
    for (size_t i = 0; run->ring != NULL && i < run->n && rc == EVBUS_OK; i += n) {
        rc = append_run(batch, i, frames, run->n_cells, &n);
        for (size_t k = i; rc == EVBUS_OK && k < i + n; k++) {
            size_t at = run->first + k;
            const struct parcel *parcel = &run->parcels[k];
            note_sent(batch, at, &batch->events[at], parcel, &run->sent[k]);
            frames += parcel->n_cells * (size_t)CELL_WORDS;
            run->n_cells -= parcel->n_cells;
        }
    }
    run->ring = NULL;
    return rc;
}

/* May this one stand behind those that the run has? Not across the end of the ring: a claim of all of them would leave a pad there. */
static bool fits(const struct run *run, const struct ring *ring, uint32_t n_cells)
{
    uint32_t most = ring->frame_cells_max / 2 < RUN_CELLS ? ring->frame_cells_max / 2 : RUN_CELLS;
    return run->ring == ring && run->n_cells + n_cells <= most && run->n_cells + n_cells <= ring_left_of_lap(ring);
}

/* The i-th, of which all is kept, becomes the last of a run. */
static int add_to_run(struct batch *batch, size_t i)
{
    struct publish *publish = batch->publish;
    struct run *run = &batch->run;
    const struct evbus_event *event = &batch->events[i];
    const struct parcel *parcel = kept(batch, i);
    struct sent sent;
    int rc = publish_place(publish, event, parcel, &sent);
    if (rc == EVBUS_OK && !fits(run, sent.ring, parcel->n_cells)) {
        rc = send_run(batch);
        run->first = i;
        run->parcels = parcel;
        run->n = run->n_cells = 0;
    }
    if (rc == EVBUS_OK)
        rc = build(batch, event, parcel, &sent, publish->thread->frame + run->n_cells * (size_t)CELL_WORDS);
    if (rc != EVBUS_OK)
        return rc;
    run->ring = sent.ring;
    run->sent[run->n++] = sent;
    run->n_cells += parcel->n_cells;
    return EVBUS_OK;
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

/* One of which nothing was kept goes by itself; but where that was for want of a place it has one now. */
static int send_again(struct batch *batch, size_t i, bool *out_is_kept)
{
    struct publish *publish = batch->publish;
    struct evbus *bus = publish->bus;
    struct evbus_event copy;
    const struct evbus_event *event = &copy;
    struct span_of_publish span;
    struct parcel parcel;
    struct sent sent = {.ring = NULL};
    int rc = check_again(batch, i, &copy, &span, &event, &parcel);
    *out_is_kept = rc == EVBUS_OK && is_keepable(batch, event, &parcel);
    if (*out_is_kept) {
        *kept(batch, i) = parcel;
        return EVBUS_OK;
    }
    if (rc == EVBUS_OK)
        rc = send_run(batch);
    if (rc == EVBUS_OK)
        rc = publish_place(publish, event, &parcel, &sent);
    if (rc == EVBUS_OK)
        rc = build(batch, event, &parcel, &sent, publish->thread->frame);
    if (rc == EVBUS_OK)
        rc = append_one(batch, event, &parcel, publish->thread->frame, &sent);
    if (bus->hook != NULL)
        span_published(bus, event, &span,
                       &(struct span_end){sent.id, sent.ring, sent.pos, publish->thread->area.bytes,
                                          rc == EVBUS_OK ? parcel.area_len : 0, rc});
    if (rc == EVBUS_OK)
        note_sent(batch, i, event, &parcel, &sent);
    return rc;
}

static int send_all(struct batch *batch)
{
    struct publish *publish = batch->publish;
    int rc = EVBUS_OK;
    for (size_t i = 0; i < batch->n && rc == EVBUS_OK; i++) {
        if (i % SHARE_MAX == 0 && (rc = send_run(batch)) == EVBUS_OK) {
            publish->now_ns = 0;
            rc = bus_check_names(publish->bus, clock_coarse_ns(), publish->err);
        }
        bool is_kept = i < KEPT_MAX && batch->kept[i].log != NULL;
        if (rc == EVBUS_OK && !is_kept)
            rc = send_again(batch, i, &is_kept);
        if (rc == EVBUS_OK && is_kept)
            rc = add_to_run(batch, i);
    }
    struct error *err = publish->err;
    struct error before = {""};
    publish->err = &before;
    int rc_before = send_run(batch); /* those before the one that failed */
    publish->err = err;
    if (rc_before != EVBUS_OK)
        *err = before;
    return rc_before != EVBUS_OK ? rc_before : rc;
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
    batch.may_keep = batch.size == sizeof(struct evbus_event) && publish->bus->hook == NULL;
    batch.receipts = receipts;
    batch.receipt_size = receipts != NULL && receipts->size != 0 ? receipts->size : sizeof *receipts;
    batch.n_sent = 0;
    memset(batch.unrung.topics, 0, sizeof batch.unrung.topics);
    batch.unrung.has_spans = false;
    batch.run.ring = NULL;
    int rc = check_all(&batch, &at);
    if (rc == EVBUS_OK) {
        rc = send_all(&batch);
        *out_published = at = batch.n_sent;
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
    struct publish publish;
    size_t n_done = 0;
    if (out_published != NULL)
        *out_published = 0;
    if (events == NULL && n > 0)
        return error_set(error_of_thread(), EVBUS_EINVAL, "events is NULL");
    int rc = publish_check_receipt(receipts);
    if (rc == EVBUS_OK)
        rc = publish_begin(&publish, bus, (uintptr_t)__builtin_dwarf_cfa());
    if (rc != EVBUS_OK)
        return rc;
    rc = publish_all(&publish, events, n, receipts, &n_done);
    if (out_published != NULL)
        *out_published = n_done;
    publish_end(&publish);
    return rc;
}

IN_PUBLISH_SECTION int publish_brought(struct evbus *bus, const struct evbus_event *events, size_t n,
                                       const struct partition_fence *fence, size_t *out_brought)
{
    struct publish publish;
    *out_brought = 0;
    int rc = publish_begin(&publish, bus, (uintptr_t)__builtin_dwarf_cfa());
    if (rc != EVBUS_OK)
        return rc;
    publish.wait->fence = fence;
    rc = publish_all(&publish, events, n, NULL, out_brought);
    publish.wait->fence = NULL; /* the caller's */
    publish_end(&publish);
    return rc;
}
