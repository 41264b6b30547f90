/* publish.c: one call, from check to commit.
 *
 *     check     handle, topic, who may (topics.c), key, version, ack, payload (json.c): nothing is shared yet
 *     build     the frame, in the thread's own memory: between claim and commit there is one copy and no user's code
 *     name      our first event in a partition is preceded by a NAMES frame that says who we are
 *     append    claim, write, commit (partition.c); then wake who sleeps on the topic
 *
 * A publish that is left by longjmp (out of a signal handler) has left its claim open: the next publish of the thread settles it
 * [R11]. A publish inside a publish (a signal handler's) must not: the outer one still writes. They are told apart by the
 * stack: the new call's frame is above the old one's, or the unwinder walks past where the old one was and does not find it.
 * Checked by tests/unit/test_publish.c, tests/crash/test_publish.c and tests/crash/test_threads.c. */
#include "publish.h"
#include "bus.h"
#include "clock.h"
#include "frame.h"
#include "group.h"
#include "header.h"
#include "json.h"
#include "partition.h"
#include "span.h"
#include "topic.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <unwind.h>

/* An event on its way: all that is known before the claim. */
struct parcel {
    struct topics_place place;
    struct ring *ring;
    struct frame frame;
    struct frame_version more[FRAME_VERSIONS_MAX - 1];
    uint32_t n_cells;
    uint64_t now_ns;    /* wall clock; 0: not read yet */
    enum evbus_ack ack; /* what we return at */
    bool is_disk;       /* so it must be on disk */
    struct partition_wait wait;
};

/* --- one publish of a thread at a time ------------------------------------------------------------------------------- */

/* The two calls that publish lie in a section of their own, so that the unwinder's frames can be told to be theirs. */
#define IN_PUBLISH_SECTION __attribute__((section("evbus_entry"), noinline))
extern const char __start_evbus_entry[] __attribute__((visibility("hidden")));
extern const char __stop_evbus_entry[] __attribute__((visibility("hidden")));

/* A walk up the stack: is there a frame of a publish whose end is where the open one's was? */
struct search {
    uintptr_t frame;  /* end of the open publish's frame */
    bool was_publish; /* the frame below is a publish's */
    bool is_alive;
    bool went_past; /* two frames, one below and one above where it was: it is not there */
    uintptr_t last; /* end of the frame before */
    bool is_inner;  /* the frames of the call that asks are behind us */
};

static _Unwind_Reason_Code look_at_frame(struct _Unwind_Context *context, void *argument)
{
    struct search *search = argument;
    uintptr_t ip = (uintptr_t)_Unwind_GetIP(context);
    uintptr_t end_below = (uintptr_t)_Unwind_GetCFA(context); /* where the frame below this one ends */
    if (search->was_publish && search->is_inner && end_below == search->frame)
        search->is_alive = true;
    search->is_inner = search->is_inner || search->was_publish;
    if (search->last != 0 && search->last <= search->frame && end_below > search->frame)
        search->went_past = true;
    search->last = end_below;
    search->was_publish = ip >= (uintptr_t)__start_evbus_entry && ip <= (uintptr_t)__stop_evbus_entry;
    return search->is_alive ? _URC_END_OF_STACK : _URC_NO_REASON;
}

/* In doubt: no. */
static bool is_left_behind(const struct bus_thread *thread, uintptr_t frame)
{
    struct search search = {.frame = thread->inside};
    if (frame == thread->inside) /* we stand where it stood */
        return true;
    _Unwind_Backtrace(look_at_frame, &search);
    if (search.is_alive)
        return false;
    stack_t alternate;
    bool is_on_own_stack = sigaltstack(NULL, &alternate) == 0 && (alternate.ss_flags & SS_ONSTACK) == 0;
    return search.went_past ||
           (is_on_own_stack && frame >= thread->inside); /* a handler on this stack would be below */
}

static int enter(struct bus_thread *thread, uintptr_t frame, struct error *err)
{
    if (thread->inside != 0) {
        if (!is_left_behind(thread, frame))
            return error_set(
                err, EVBUS_EBUSY,
                "evbus_publish() was called from a signal handler that had interrupted it; set a flag there and "
                "publish outside");
        topics_abandon(&thread->recent);
        ring_abandon(&thread->claim);
    }
    thread->inside = frame;
    atomic_signal_fence(memory_order_seq_cst);
    return EVBUS_OK;
}

static void leave(struct bus_thread *thread)
{
    atomic_signal_fence(memory_order_seq_cst);
    thread->inside = 0;
}

/* --- check ----------------------------------------------------------------------------------------------------------- */

static int check_payload(const void *payload, size_t len, bool is_checked, size_t payload_max, struct error *err)
{
    if (len == 0)
        return error_set(err, EVBUS_EINVAL, "event.payload is empty; it must be one JSON text");
    if (len > payload_max)
        return error_set(err, EVBUS_EINVAL, "event.payload has %zu bytes; the catalogue's payload_max is %zu", len,
                         payload_max);
    struct json_fault fault;
    if (!is_checked && !json_check(payload, len, &fault))
        return error_set(err, EVBUS_EINVAL, "event.payload is not JSON: %s at byte %zu", fault.what, fault.at);
    return EVBUS_OK;
}

/* The versions beside the first. inout_left: bytes that payloads may still have. */
static int check_more(const struct evbus_event *event, struct parcel *out, size_t left, struct error *err)
{
    struct frame *frame = &out->frame;
    if (event->n_more_versions > FRAME_VERSIONS_MAX - 1 || event->more_versions == NULL)
        return error_set(err, EVBUS_EINVAL,
                         "event.more_versions: %zu versions beside the first; at most %d are allowed",
                         event->n_more_versions, FRAME_VERSIONS_MAX - 1);
    for (size_t i = 0; i < event->n_more_versions; i++) {
        const struct evbus_version *version = &event->more_versions[i];
        if (version->payload == NULL || version->major == 0)
            return error_set(err, EVBUS_EINVAL, "event.more_versions[%zu]: %s", i,
                             version->payload == NULL ? "its payload is NULL"
                                                      : "its version is not set; a major version is 1 or more");
        bool is_twice = version->major == frame->major && version->minor == frame->minor;
        for (size_t k = 0; k < i; k++)
            is_twice = is_twice || (version->major == out->more[k].major && version->minor == out->more[k].minor);
        if (is_twice)
            return error_set(err, EVBUS_EINVAL, "event.more_versions[%zu]: version %u.%u is there twice", i,
                             version->major, version->minor);
        size_t len = version->payload_len != 0 ? version->payload_len : strlen(version->payload);
        int rc = check_payload(version->payload, len, event->payload_is_checked, left, err);
        if (rc != EVBUS_OK)
            return error_prefix(err, rc, "version %u.%u (%zu bytes are left to it by the other versions)",
                                version->major, version->minor, left);
        left -= len;
        out->more[i] = (struct frame_version){version->major, version->minor, (uint32_t)len, version->payload};
    }
    frame->more = out->more;
    frame->n_versions = (uint8_t)(1 + event->n_more_versions);
    return EVBUS_OK;
}

/* Does any mirror take the topic to a broker? */
static bool is_mirrored(const struct memory *memory, const struct topics_place *place)
{
    for (uint32_t g = 0; g < GROUPS_MAX; g++) {
        if (!group_is_live(memory, g) || (memory->control->groups[g].flags & GROUP_MIRROR) == 0)
            continue;
        struct topic_set topics = group_topics(place->log, g);
        if (topic_set_has(&topics, place->id))
            return true;
    }
    return false;
}

/* A publish may ask for more than its log's, never for less. */
static int check_ack(const struct evbus_event *event, const struct memory *memory, struct parcel *out,
                     struct error *err)
{
    const struct memory_log *log = out->place.log;
    bool has_journal = log->rings[0].has_journal;
    if ((unsigned)event->ack > EVBUS_ACK_BROKER)
        return error_set(err, EVBUS_EINVAL, "event.ack is %d, which is no enum evbus_ack", (int)event->ack);
    out->ack = event->ack > log->ack ? event->ack : log->ack;
    out->is_disk = has_journal && out->ack >= EVBUS_ACK_DISK;
    if (out->ack == EVBUS_ACK_DISK && !has_journal)
        return error_set(
            err, EVBUS_EINVAL,
            "event.ack is \"disk\", but log %s has no journal (the catalogue says \"journal\": false): ask "
            "for \"memory\", which survives kill -9 but no power cut",
            log->name);
    if (out->ack == EVBUS_ACK_BROKER && !is_mirrored(memory, &out->place))
        return error_set(err, EVBUS_EINVAL,
                         "%s is \"broker\", and no bridge takes topic %s to one: run evbus-bridge, or ask for \"%s\"",
                         event->ack == EVBUS_ACK_BROKER ? "event.ack" : "the ack of its log", event->topic,
                         has_journal ? "disk" : "memory");
    return EVBUS_OK;
}

static bool is_nil(const uint8_t id[16])
{
    static const uint8_t nil[16];
    return memcmp(id, nil, sizeof nil) == 0;
}

/* Everything about an event but its id and time. */
static int check(struct evbus *bus, struct bus_thread *thread, const struct evbus_event *event,
                 const struct partition_fence *fence, struct parcel *out, struct error *err)
{
    if (event->topic == NULL)
        return error_set(err, EVBUS_EINVAL, "event.topic is NULL");
    if (event->payload == NULL)
        return error_set(err, EVBUS_EINVAL, "event.payload is NULL; an empty payload is the JSON text null");
    if ((event->origin != NULL) != (fence != NULL))
        return error_set(err, EVBUS_EINVAL, "event.origin is %s",
                         fence == NULL ? "for evbus_mirror_bring() alone" : "NULL");
    int rc = topics_find(bus->topics, event->topic, fence == NULL ? &thread->recent : NULL, &out->place, err);
    if (rc == EVBUS_OK && fence == NULL)
        rc = check_ack(event, &bus->memory, out, err);
    if (rc != EVBUS_OK)
        return rc;
    size_t key_len = event->key == NULL    ? 0
                     : event->key_len != 0 ? event->key_len
                                           : strnlen(event->key, FRAME_KEY_MAX + 1);
    if (key_len > FRAME_KEY_MAX)
        return error_set(err, EVBUS_EINVAL, "event.key has more than %d bytes", FRAME_KEY_MAX);
    if (!json_is_utf8(event->key, key_len))
        return error_set(err, EVBUS_EINVAL, "event.key is not valid UTF-8");
    if (event->version_major == 0 && event->version_minor != 0)
        return error_set(err, EVBUS_EINVAL, "event.version is 0.%u; a major version is 1 or more",
                         event->version_minor);
    size_t len = event->payload_len != 0 ? event->payload_len : strlen(event->payload);
    rc = check_payload(event->payload, len, event->payload_is_checked, out->place.payload_max, err);
    if (rc != EVBUS_OK)
        return rc;
    out->now_ns = 0;
    out->wait = (struct partition_wait){
        .timeout_ns = event->timeout_ns,
        .spin_ns = bus_spin_ns(bus),
        .has_points = true,
        .memory = &bus->memory,
        .fence = fence,
    };
    if (fence != NULL) { /* nobody waits for it, and whoever keeps a checkpoint of it asks what is on disk */
        out->ack = EVBUS_ACK_MEMORY;
        out->is_disk = false;
    }
    out->frame = (struct frame){
        .kind = FRAME_EVENT,
        .timestamp_ns = event->timestamp_ns,
        .publisher = bus->publisher,
        .topic = out->place.id,
        .key = event->key,
        .key_len = (uint8_t)key_len,
        .major = event->version_major != 0 ? event->version_major : 1,
        .minor = event->version_minor,
        .payload = event->payload,
        .payload_len = (uint32_t)len,
    };
    memcpy(out->frame.id, event->id, sizeof out->frame.id);
    if (event->n_more_versions != 0 && (rc = check_more(event, out, out->place.payload_max - len, err)) != EVBUS_OK)
        return rc;
    if (header_is_wanted(event, thread)) {
        if ((rc = header_build(event, thread, err)) != EVBUS_OK)
            return rc;
        out->frame.area = thread->area.bytes;
        out->frame.area_len = (uint16_t)thread->area.len;
    }
    out->n_cells = frame_cells_of(&out->frame);
    uint32_t most = out->place.log->rings[0].frame_cells_max;
    if (out->n_cells == 0 || out->n_cells > most)
        return error_set(err, EVBUS_EINVAL,
                         "event.payload has %zu bytes: a frame may take a quarter of its ring, %u bytes in "
                         "log %s",
                         len, most * CELL_BYTES, out->place.log->name);
    return EVBUS_OK;
}

/* --- append ------------------------------------------------------------------------------------------------------------ */

/* Says, before our first event in a partition, what our publisher id means: whoever reads it later reads that first. */
static int announce(struct evbus *bus, struct bus_thread *thread, const struct parcel *parcel, struct error *err)
{
    char host[65] = ""; /* Linux: at most 64 */
    gethostname(host, sizeof host - 1);
    char text[512];
    int len = snprintf(text, sizeof text,
                       "{\"publisher\":{\"id\":%u,\"service\":\"%s\",\"host\":\"%s\",\"pid\":%d,\"uid\":%u}}",
                       bus->publisher, bus->service, host, (int)getpid(), (unsigned)getuid());
    struct frame frame = {
        .kind = FRAME_NAMES,
        .timestamp_ns = clock_wall_ns(),
        .publisher = bus->publisher,
        .major = 1,
        .payload = text,
        .payload_len = (uint32_t)len,
    };
    uint32_t n_cells = frame_cells(0, 0, frame.payload_len);
    if (n_cells <= parcel->ring->frame_cells_max) { /* else a ring of a test: nobody reads it without its bus */
        uint64_t pos;
        frame_build(&frame, thread->frame);
        struct partition_wait wait = parcel->wait;
        wait.has_points = false;
        int rc = partition_append(parcel->ring, &thread->claim, thread->frame, n_cells, &wait, &pos, err);
        if (rc != EVBUS_OK)
            return rc;
    }
    atomic_store_explicit(&bus->announced[parcel->place.log->index][parcel->ring->partition], true,
                          memory_order_release);
    return EVBUS_OK;
}

static int send(struct evbus *bus, struct bus_thread *thread, struct parcel *parcel, uint64_t *out_pos,
                struct error *err)
{
    struct frame *frame = &parcel->frame;
    struct memory_log *log = parcel->place.log;
    bool is_id_given = !is_nil(frame->id);
    int rc = bus_check_names(bus, clock_coarse_ns(), err);
    if (rc != EVBUS_OK)
        return rc;
    if (parcel->now_ns == 0 && (!is_id_given || frame->timestamp_ns == 0))
        parcel->now_ns = clock_wall_ns();
    if (frame->timestamp_ns == 0)
        frame->timestamp_ns = parcel->now_ns;
    /* An id is of now, whatever time its event has: ids of a thread never step back. */
    rc = is_id_given ? EVBUS_OK : uuid7_make(&thread->uuid, parcel->now_ns, frame->id, err);
    if (rc != EVBUS_OK)
        return rc;
    uint64_t hash = topic_key_hash(frame->key, frame->key_len, frame->id);
    frame->key_hash = (uint32_t)hash;
    parcel->ring = &log->rings[topic_partition(hash, log->n_partitions)];
    memory_prefault(log);
    if (!atomic_load_explicit(&bus->announced[log->index][parcel->ring->partition], memory_order_acquire) &&
        (rc = announce(bus, thread, parcel, err)) != EVBUS_OK)
        return rc;
    frame_build(frame, thread->frame);
    rc = partition_append(parcel->ring, &thread->claim, thread->frame, parcel->n_cells, &parcel->wait, out_pos, err);
#if !defined(__x86_64__)
    atomic_thread_fence(memory_order_seq_cst); /* where the commit's CAS is no full fence */
#endif
    /* A bus is retired before another one of its name is made: what is acknowledged was committed before [R16]. */
    return rc == EVBUS_OK ? bus_check_names(bus, 0, err) : rc;
}

static int check_receipt(const struct evbus_receipt *receipt, struct error *err)
{
    if (receipt != NULL && receipt->size > 4096)
        return error_set(err, EVBUS_EINVAL, "receipt.size is %zu: it must be sizeof the struct, or 0", receipt->size);
    return EVBUS_OK;
}

static void write_receipt(const struct parcel *parcel, uint64_t pos, size_t size, struct evbus_receipt *out)
{
    struct evbus_receipt receipt = {
        .size = size,
        .timestamp_ns = parcel->frame.timestamp_ns,
        .log = parcel->ring->name,
        .partition = parcel->ring->partition,
        .position = pos,
        .ack = parcel->ack,
    };
    memcpy(receipt.id, parcel->frame.id, sizeof receipt.id);
    memcpy(out, &receipt, size != 0 && size < sizeof receipt ? size : sizeof receipt);
}

static int begin(struct evbus *bus, struct bus_thread **out_thread, uintptr_t frame, struct error *err)
{
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(bus, out_thread, err);
    return rc == EVBUS_OK ? enter(*out_thread, frame, err) : rc;
}

EVBUS_API IN_PUBLISH_SECTION int evbus_publish(struct evbus *bus, const struct evbus_event *event,
                                               struct evbus_receipt *receipt)
{
    struct error *err = error_of_thread();
    struct evbus_event copy;
    struct bus_thread *thread;
    if (event == NULL)
        return error_set(err, EVBUS_EINVAL, "event is NULL");
    int rc = check_receipt(receipt, err);
    if (rc == EVBUS_OK && event->size != 0 && event->size != sizeof copy) {
        rc = bus_take_struct(&copy, sizeof copy, event, event->size, "struct evbus_event", err);
        event = &copy;
    }
    if (rc == EVBUS_OK)
        rc = begin(bus, &thread, (uintptr_t)__builtin_dwarf_cfa(), err);
    if (rc != EVBUS_OK)
        return rc;
    struct parcel parcel;
    struct span_of_publish span;
    uint64_t pos = 0;
    event = span_publish(bus, thread, event, &span);
    rc = check(bus, thread, event, NULL, &parcel, err);
    if (rc == EVBUS_OK)
        rc = send(bus, thread, &parcel, &pos, err);
    if (rc == EVBUS_OK) {
        partition_wake(&bus->memory, parcel.place.log, parcel.ring, parcel.place.id, pos);
        if (parcel.is_disk)
            rc = partition_await_disk(&bus->memory, parcel.ring, pos, pos + parcel.n_cells,
                                      parcel.ring->is_visible_synced, err);
        if (rc == EVBUS_OK && parcel.ack == EVBUS_ACK_BROKER)
            rc = partition_await_broker(&bus->memory, parcel.ring, pos, event->timeout_ns, err);
        if (rc == EVBUS_OK && receipt != NULL)
            write_receipt(&parcel, pos, receipt->size, receipt);
    } else if (rc == EVBUS_EFULL) {
        log_line(&bus->log, LOG_FULL, EVBUS_LOG_WARNING, "log=%s partition=%u", parcel.ring->name,
                 parcel.ring->partition);
    }
    if (rc == EVBUS_ESTALE)
        bus_check(bus, NULL); /* heard while we waited: whoever brings it back need not wait for our next call */
    leave(thread);
    span_published(bus, event, &span, &(struct span_end){parcel.frame.id, parcel.ring, pos, &parcel.frame, rc});
    return rc;
}

/* The i-th of an array whose elements have the size of the first. */
static const void *element(const void *array, size_t size, size_t i)
{
    return (const char *)array + i * size;
}

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

static void ring_for(struct evbus *bus, struct unrung *unrung)
{
    for (uint32_t log = 0; log < memory_n_logs(&bus->memory); log++)
        if (!topic_set_is_empty(&unrung->topics[log]))
            partition_ring(&bus->memory, &bus->memory.logs[log], &unrung->topics[log]);
    memset(unrung->topics, 0, sizeof unrung->topics);
}

static void add_span(struct unrung *unrung, const struct parcel *parcel, uint64_t pos)
{
    if (!unrung->has_spans)
        memset(unrung->spans, 0, sizeof unrung->spans);
    unrung->has_spans = true;
    struct span *span = &unrung->spans[parcel->place.log->index][parcel->ring->partition];
    if (span->end == 0)
        span->pos = pos;
    span->end = pos + parcel->n_cells;
    span->last = pos;
    span->is_disk = span->is_disk || parcel->is_disk;
    span->is_broker = span->is_broker || parcel->ack == EVBUS_ACK_BROKER;
    span->timeout_ns = parcel->wait.timeout_ns;
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

/* One of a batch. A full ring: its readers may be asleep since we have not rung yet. */
static int send_one(struct evbus *bus, struct bus_thread *thread, struct parcel *parcel, struct unrung *unrung,
                    uint64_t *out_pos, struct error *err)
{
    struct partition_wait wait = parcel->wait;
    parcel->wait.timeout_ns = 0;
    int rc = send(bus, thread, parcel, out_pos, err);
    if (rc == EVBUS_EFULL && wait.timeout_ns > 0) {
        ring_for(bus, unrung);
        parcel->wait = wait;
        rc = send(bus, thread, parcel, out_pos, err);
        parcel->now_ns = 0; /* it has passed since */
    }
    if (rc == EVBUS_OK) {
        topic_set_add(&unrung->topics[parcel->place.log->index], parcel->place.id);
        if (parcel->ack != EVBUS_ACK_MEMORY)
            add_span(unrung, parcel, *out_pos);
        partition_make_room(&bus->memory, parcel->ring, *out_pos);
    }
    return rc;
}

/* What the checks of a batch have made of its first events; of the others, and where a frame points into what the thread has once (the
 * header area) or a hook may change the event, it is made again when its turn comes. */
#define KEPT_MAX 32

/* The checks of all come before the first is published. fence: NULL, or that of a mirror's leader. */
static int publish_all(struct evbus *bus, struct bus_thread *thread, const struct evbus_event *events, size_t n,
                       const struct partition_fence *fence, struct evbus_receipt *receipts, size_t *out_published,
                       struct error *err)
{
    int rc = EVBUS_OK;
    size_t n_done = 0;
    size_t size = n > 0 && events->size != 0 ? events->size : sizeof *events;
    size_t receipt_size = receipts != NULL && receipts->size != 0 ? receipts->size : sizeof *receipts;
    struct unrung unrung; /* large: its spans are not cleared unless they are needed */
    memset(unrung.topics, 0, sizeof unrung.topics);
    unrung.has_spans = false;
    struct evbus_event event;
    struct parcel kept[KEPT_MAX], again;
    bool is_kept[KEPT_MAX];
    uint64_t now_ns = 0;
    struct span_of_publish span;
    size_t at = 0;                                     /* the event that rc is about */
    for (size_t i = 0; i < n && rc == EVBUS_OK; i++) { /* all are checked before the first is published */
        struct parcel *parcel = i < KEPT_MAX ? &kept[i] : &again;
        const struct evbus_event *given = element(events, size, i);
        at = i;
        if (size != sizeof event) {
            rc = bus_take_struct(&event, sizeof event, given, size, "struct evbus_event", err);
            given = &event;
        }
        if (rc == EVBUS_OK)
            rc = check(bus, thread, given, fence, parcel, err);
        if (i < KEPT_MAX)
            is_kept[i] = rc == EVBUS_OK && parcel->frame.area_len == 0 && bus->hook == NULL;
    }
    while (n_done < n && rc == EVBUS_OK) {
        uint64_t pos = 0;
        at = n_done;
        struct parcel *parcel = at < KEPT_MAX && is_kept[at] ? &kept[at] : &again;
        if (at % KEPT_MAX == 0)
            now_ns = 0;
        if (parcel != &again) {
            parcel->now_ns = now_ns;
            rc = send_one(bus, thread, parcel, &unrung, &pos, err);
        } else {
            bus_take_struct(&event, sizeof event, element(events, size, at), size, "struct evbus_event", err);
            event.payload_is_checked = true;
            const struct evbus_event *sent = span_publish(bus, thread, &event, &span);
            rc = check(bus, thread, sent, fence, parcel, err);
            parcel->now_ns = now_ns;
            if (rc == EVBUS_OK)
                rc = send_one(bus, thread, parcel, &unrung, &pos, err);
            span_published(bus, sent, &span,
                           &(struct span_end){parcel->frame.id, parcel->ring, pos, &parcel->frame, rc});
        }
        now_ns = parcel->now_ns;
        if (rc == EVBUS_OK) {
            n_done++;
            if (receipts != NULL) /* their places are as large as the first says */
                write_receipt(parcel, pos, receipt_size,
                              (struct evbus_receipt *)((char *)receipts + at * receipt_size));
        }
    }
    ring_for(bus, &unrung);
    if (n_done > 0 && unrung.has_spans) { /* those that came before one that failed, too */
        struct error late = {""};
        int disk = await_spans(bus, &unrung, &late);
        if (rc == EVBUS_OK && disk != EVBUS_OK) {
            *err = late;
            rc = disk;
        }
    }
    *out_published = n_done;
    if (rc == EVBUS_ESTALE)
        bus_check(bus, NULL);
    return rc == EVBUS_OK ? rc : error_prefix(err, rc, "event %zu of %zu", at + 1, n);
}

EVBUS_API IN_PUBLISH_SECTION int evbus_publish_batch(struct evbus *bus, const struct evbus_event *events, size_t n,
                                                     struct evbus_receipt *receipts, size_t *out_published)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    size_t n_done = 0;
    if (out_published != NULL)
        *out_published = 0;
    if (events == NULL && n > 0)
        return error_set(err, EVBUS_EINVAL, "events is NULL");
    int rc = check_receipt(receipts, err);
    if (rc == EVBUS_OK)
        rc = begin(bus, &thread, (uintptr_t)__builtin_dwarf_cfa(), err);
    if (rc != EVBUS_OK)
        return rc;
    rc = publish_all(bus, thread, events, n, NULL, receipts, &n_done, err);
    if (out_published != NULL)
        *out_published = n_done;
    leave(thread);
    return rc;
}

IN_PUBLISH_SECTION int publish_brought(struct evbus *bus, const struct evbus_event *events, size_t n,
                                       const struct partition_fence *fence, size_t *out_brought, struct error *err)
{
    struct bus_thread *thread;
    *out_brought = 0;
    int rc = begin(bus, &thread, (uintptr_t)__builtin_dwarf_cfa(), err);
    if (rc != EVBUS_OK)
        return rc;
    rc = publish_all(bus, thread, events, n, fence, NULL, out_brought, err);
    leave(thread);
    return rc;
}
