/* publish.h: an event on its way, from check to commit: what publish_batch.c needs of publish.c. */
#ifndef EVBUS_PUBLISH_H
#define EVBUS_PUBLISH_H

#include "bus.h"
#include "partition.h"

/* The calls that publish lie in a section of their own, so that the unwinder's frames can be told to be theirs. */
#define IN_PUBLISH_SECTION __attribute__((section("evbus_entry"), noinline))

/* A call that publishes, from publish_begin() to publish_end(). */
struct publish {
    struct evbus *bus;
    struct bus_thread *thread;
    struct error *err;
    uint64_t now_ns;            /* wall clock; 0: to be read where it is needed */
    struct partition_wait wait; /* for room; its timeout_ns is 0 at first. fence: NULL, or that of a mirror's leader */
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

/* frame: where the frame of the call ends [R11]. EVBUS_OK; EVBUS_EBUSY: a signal handler's, inside another one; or as bus_check() and
 * bus_thread(). */
int publish_begin(struct publish *publish, struct evbus *bus, uintptr_t frame, struct error *err);
void publish_end(const struct publish *publish);

int publish_check_receipt(const struct evbus_receipt *receipt, struct error *err);

/* Everything about an event but its id and time. Header area and further versions are left in the thread, which has one place for
 * them: until the next check. */
int publish_check(const struct publish *publish, const struct evbus_event *event, struct parcel *out);

/* Likewise, of an event that differs from `before` in id, time, key and payload alone, after a check of that in the same call, which has
 * *found neither header area nor further versions. The same pointer is the same text still. */
int publish_check_like(const struct publish *publish, const struct evbus_event *event, const struct evbus_event *before,
                       const struct parcel *found, struct parcel *out);

/* A checked event, unchanged since: its id, its time, and where it goes. */
int publish_place(struct publish *publish, const struct evbus_event *event, const struct parcel *parcel,
                  struct sent *out);

/* Its frame, parcel->n_cells, behind the one that says who we are. EVBUS_OK, or as publish_append(). */
int publish_build(struct publish *publish, const struct evbus_event *event, const struct parcel *parcel,
                  const struct sent *sent, uint64_t *out_frame);

/* Claim, write, commit, of a frame or a run. As partition_append(). */
int publish_append(struct publish *publish, struct ring *ring, const uint64_t *frames, uint32_t n_cells,
                   uint64_t *out_pos);

/* size: of the receipt's struct as the caller has it; 0: ours. */
void publish_write_receipt(const struct parcel *parcel, const struct sent *sent, size_t size,
                           struct evbus_receipt *out);

#endif
