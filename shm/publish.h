/* publish.h: an event on its way, from check to commit: what publish_batch.c needs of publish.c. Inline is what each event goes through. */
#ifndef EVBUS_PUBLISH_H
#define EVBUS_PUBLISH_H

#include "bus.h"
#include "clock.h"
#include "frame.h"
#include "partition.h"
#include "topic.h"

#include <string.h>

/* The calls that publish lie in a section of their own, so that the unwinder's frames can be told to be theirs. */
#define IN_PUBLISH_SECTION __attribute__((section("evbus_entry"), noinline))

/* A call that publishes, from publish_begin() to publish_end(). */
struct publish {
    struct evbus *bus;
    struct bus_thread *thread;
    struct error *err;
    uint64_t now_ns;             /* wall clock; 0: to be read where it is needed */
    struct partition_wait *wait; /* the thread's. fence: NULL, or that of a mirror's leader */
};

/* What the check of an event has found: what its sending needs beside the event itself. */
struct parcel {
    struct memory_log *log;
    uint32_t payload_max; /* bytes */
    uint32_t payload_len; /* bytes */
    uint32_t n_cells;
    uint16_t topic;     /* its id in the log */
    uint16_t area_len;  /* bytes of the thread's header area that are this event's */
    uint8_t key_len;    /* bytes */
    bool is_disk;       /* it must be on disk */
    enum evbus_ack ack; /* what we return at */
};

/* Where an event went, and as what. */
struct sent {
    struct ring *ring; /* NULL: it did not come so far */
    uint64_t pos;
    uint64_t timestamp_ns;
    uint32_t key_hash;
    uint8_t id[16];
};

/* The thread's record, where it has none yet or cannot begin at once. As publish_begin(). */
int publish_begin_first(struct evbus *bus, uintptr_t frame, struct bus_thread **out_thread);

/* frame: where the frame of the call ends [R11]. EVBUS_OK; EVBUS_EBUSY: a signal handler's, inside another one; or as bus_check() and
 * bus_thread(). */
static inline int publish_begin(struct publish *publish, struct evbus *bus, uintptr_t frame)
{
    struct bus_thread *thread = bus_ready_thread(bus);
    if (thread == NULL || thread->inside != 0) {
        int rc = publish_begin_first(bus, frame, &thread);
        if (rc != EVBUS_OK)
            return rc;
    }
    thread->inside = frame;
    atomic_signal_fence(memory_order_seq_cst);
    publish->bus = bus;
    publish->thread = thread;
    publish->err = thread->err;
    publish->now_ns = 0;
    publish->wait = &thread->wait;
    thread->wait.timeout_ns = 0;
    thread->wait.fence = NULL;
    return EVBUS_OK;
}

static inline void publish_end(const struct publish *publish)
{
    atomic_signal_fence(memory_order_seq_cst);
    publish->thread->inside = 0;
}

int publish_check_receipt(const struct evbus_receipt *receipt);

/* Everything about an event but its id and time. Header area and further versions are left in the thread, which has one place for
 * them: until the next check. */
int publish_check(const struct publish *publish, const struct evbus_event *event, struct parcel *out);

/* Likewise, of an event that differs from `before` in id, time, key, payload and timeout alone, after a check of that in the same call, which has
 * *found neither header area nor further versions. The same pointer is the same text still. */
int publish_check_like(const struct publish *publish, const struct evbus_event *event, const struct evbus_event *before,
                       const struct parcel *found, struct parcel *out);

/* A checked event, unchanged since: its id, its time, and where it goes. */
static inline int publish_place(struct publish *publish, const struct evbus_event *event, const struct parcel *parcel,
                                struct sent *out)
{
    static const uint8_t nil[16];
    bool is_id_given = memcmp(event->id, nil, sizeof nil) != 0;
    int rc = EVBUS_OK;
    if (publish->now_ns == 0 && (!is_id_given || event->timestamp_ns == 0))
        publish->now_ns = clock_wall_ns();
    out->timestamp_ns = event->timestamp_ns != 0 ? event->timestamp_ns : publish->now_ns;
    /* An id is of now, whatever time its event has: ids of a thread never step back. */
    if (is_id_given)
        memcpy(out->id, event->id, sizeof out->id);
    else if ((rc = uuid7_make(&publish->thread->uuid, publish->now_ns, out->id, publish->err)) != EVBUS_OK)
        return rc;
    uint64_t hash = topic_key_hash(event->key, parcel->key_len, out->id);
    out->key_hash = (uint32_t)hash;
    out->ring = &parcel->log->rings[topic_partition(hash, parcel->log->n_partitions)];
    return EVBUS_OK;
}

/* Says, before our first event in a partition, what our publisher id means: whoever reads it later reads that first. */
int publish_announce(const struct publish *publish, struct memory_log *log, struct ring *ring);

static inline uint16_t publish_major(const struct evbus_event *event)
{
    return event->version_major != 0 ? event->version_major : 1;
}

/* Its frame, parcel->n_cells, behind the one that says who we are. EVBUS_OK, or as publish_append(). */
static inline int publish_build(struct publish *publish, const struct evbus_event *event, const struct parcel *parcel,
                                const struct sent *sent, uint64_t *out_frame)
{
    struct memory_log *log = parcel->log;
    int rc;
    if (!atomic_load_explicit(&publish->bus->announced[log->index][sent->ring->partition], memory_order_acquire) &&
        (rc = publish_announce(publish, log, sent->ring)) != EVBUS_OK)
        return rc;
    partition_expect(log, sent->ring);
    struct frame frame = {
        .kind = FRAME_EVENT,
        .timestamp_ns = sent->timestamp_ns,
        .publisher = publish->bus->publisher,
        .topic = parcel->topic,
        .key_hash = sent->key_hash,
        .key = event->key,
        .key_len = parcel->key_len,
        .area = publish->thread->area.bytes,
        .area_len = parcel->area_len,
        .major = publish_major(event),
        .minor = event->version_minor,
        .payload = event->payload,
        .payload_len = parcel->payload_len,
        .more = publish->thread->more,
        .n_versions = (uint8_t)(1 + event->n_more_versions),
    };
    memcpy(frame.id, sent->id, sizeof frame.id);
    frame_put(&frame, parcel->n_cells, out_frame);
    return EVBUS_OK;
}

/* Claim, write, commit, of a frame or a run. As partition_append(). */
static inline int publish_append(struct publish *publish, struct ring *ring, const uint64_t *frames, uint32_t n_cells,
                                 uint64_t *out_pos)
{
    int rc = partition_append(ring, &publish->thread->claim, frames, n_cells, publish->wait, out_pos, publish->err);
#if !defined(__x86_64__)
    atomic_thread_fence(memory_order_seq_cst); /* where the commit's CAS is no full fence */
#endif
    /* A bus is retired before another one of its name is made: what is acknowledged was committed before [R16]. */
    return rc == EVBUS_OK && memory_is_retired(&publish->bus->memory) ? bus_check(publish->bus, publish->err) : rc;
}

/* size: of the receipt's struct as the caller has it; 0: ours. */
void publish_write_receipt(const struct parcel *parcel, const struct sent *sent, size_t size,
                           struct evbus_receipt *out);

#endif
