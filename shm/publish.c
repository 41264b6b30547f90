/* publish.c: one call, from check to commit.
 *
 *     check     handle, topic, who may (topics.c), key, version, ack, payload (json.c): nothing is shared yet
 *     name      our first event in a partition is preceded by a NAMES frame that says who we are
 *     build     the frame, in the thread's own memory: between claim and commit there is one copy and no user's code
 *     append    claim, write, commit (partition.c); then wake who sleeps on the topic
 * What the check finds is small (struct parcel), and the frame is built from that and the event, by no struct in between. What seldom
 * runs stands apart (noinline), or it would take the registers of what always does.
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

/* --- one publish of a thread at a time ------------------------------------------------------------------------------- */

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

/* The thread has another publish open. */
static __attribute__((noinline)) int settle(struct bus_thread *thread, uintptr_t frame, struct error *err)
{
    if (!is_left_behind(thread, frame))
        return error_set(err, EVBUS_EBUSY,
                         "evbus_publish() was called from a signal handler that had interrupted it; set a flag there "
                         "and publish outside");
    topics_abandon(&thread->recent);
    ring_abandon(&thread->claim);
    return EVBUS_OK;
}

int publish_begin_first(struct evbus *bus, uintptr_t frame, struct bus_thread **out_thread)
{
    struct error *err = error_of_thread();
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(bus, out_thread, err);
    if (rc == EVBUS_OK && (*out_thread)->inside != 0)
        rc = settle(*out_thread, frame, err);
    return rc;
}

/* --- check ----------------------------------------------------------------------------------------------------------- */

#define SHORT_KEY_BYTES 16 /* a longer one is measured by strnlen() */
#define NULL_PAYLOAD    "event.payload is NULL; an empty payload is the JSON text null"

static __attribute__((noinline)) int check_payload(const void *payload, size_t len, bool is_checked, size_t payload_max,
                                                   struct error *err)
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

/* The versions beside the first. left: bytes that payloads may still have. *out_len: what they take in the frame. */
static __attribute__((noinline)) int check_more(const struct evbus_event *event, struct frame_version *out, size_t left,
                                                size_t *out_len, struct error *err)
{
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
        bool is_twice = version->major == publish_major(event) && version->minor == event->version_minor;
        for (size_t k = 0; k < i; k++)
            is_twice = is_twice || (version->major == out[k].major && version->minor == out[k].minor);
        if (is_twice)
            return error_set(err, EVBUS_EINVAL, "event.more_versions[%zu]: version %u.%u is there twice", i,
                             version->major, version->minor);
        size_t len = version->payload_len != 0 ? version->payload_len : strlen(version->payload);
        int rc = check_payload(version->payload, len, event->payload_is_checked, left, err);
        if (rc != EVBUS_OK)
            return error_prefix(err, rc, "version %u.%u (%zu bytes are left to it by the other versions)",
                                version->major, version->minor, left);
        left -= len;
        *out_len += sizeof(struct representation_header) + frame_to8(len);
        out[i] = (struct frame_version){version->major, version->minor, (uint32_t)len, version->payload};
    }
    return EVBUS_OK;
}

/* Does any mirror take the topic to a broker? */
static bool is_mirrored(const struct memory *memory, const struct parcel *parcel)
{
    for (uint32_t g = 0; g < GROUPS_MAX; g++) {
        if (!group_is_live(memory, g) || (memory->control->groups[g].flags & GROUP_MIRROR) == 0)
            continue;
        struct topic_set topics = group_topics(parcel->log, g);
        if (topic_set_has(&topics, parcel->topic))
            return true;
    }
    return false;
}

/* A publish may ask for more than its log's, never for less. */
static __attribute__((noinline)) int check_ack(const struct evbus_event *event, const struct memory *memory,
                                               struct parcel *out, struct error *err)
{
    const struct memory_log *log = out->log;
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
    if (out->ack == EVBUS_ACK_BROKER && !is_mirrored(memory, out))
        return error_set(err, EVBUS_EINVAL,
                         "%s is \"broker\", and no bridge takes topic %s to one: run evbus-bridge, or ask for \"%s\"",
                         event->ack == EVBUS_ACK_BROKER ? "event.ack" : "the ack of its log", event->topic,
                         has_journal ? "disk" : "memory");
    return EVBUS_OK;
}

/* Bytes of a key without a length; more than FRAME_KEY_MAX: it is too long. Most are short and of ASCII, *out_is_ascii: one walk. */
static inline size_t measure_key(const char *key, bool *out_is_ascii)
{
    size_t len = 0;
    while (len < SHORT_KEY_BYTES && (signed char)key[len] > 0)
        len++;
    *out_is_ascii = key[len] == '\0';
    return *out_is_ascii ? len : strnlen(key, FRAME_KEY_MAX + 1);
}

static inline int check_key(const struct evbus_event *event, struct parcel *out, struct error *err)
{
    bool is_ascii = event->key == NULL;
    size_t len = is_ascii ? 0 : event->key_len != 0 ? event->key_len : measure_key(event->key, &is_ascii);
    if (len > FRAME_KEY_MAX)
        return error_set(err, EVBUS_EINVAL, "event.key has more than %d bytes", FRAME_KEY_MAX);
    if (!is_ascii && !json_is_utf8(event->key, len))
        return error_set(err, EVBUS_EINVAL, "event.key is not valid UTF-8");
    out->key_len = (uint8_t)len;
    return EVBUS_OK;
}

static inline int check_first_payload(const struct evbus_event *event, struct parcel *out, struct error *err)
{
    size_t len = event->payload_len != 0 ? event->payload_len : strlen(event->payload);
    out->payload_len = (uint32_t)len;
    return event->payload_is_checked && len - 1 < out->payload_max
               ? EVBUS_OK
               : check_payload(event->payload, len, event->payload_is_checked, out->payload_max, err);
}

static __attribute__((noinline)) int too_large(const struct parcel *parcel, struct error *err)
{
    return error_set(err, EVBUS_EINVAL,
                     "event.payload has %" PRIu32 " bytes: a frame may take a quarter of its ring, %u bytes in "
                     "log %s",
                     parcel->payload_len, parcel->log->rings[0].frame_cells_max * CELL_BYTES, parcel->log->name);
}

/* more_len: what the versions beside the first take. */
static inline int check_size(struct parcel *out, size_t more_len, struct error *err)
{
    out->n_cells = frame_cells(out->key_len, out->area_len, frame_to8(out->payload_len) + more_len);
    return out->n_cells - 1 < out->log->rings[0].frame_cells_max ? EVBUS_OK : too_large(out, err); /* 0: of any ring */
}

static inline __attribute__((always_inline)) int check(const struct publish *publish, const struct evbus_event *event,
                                                       struct parcel *out)
{
    struct bus_thread *thread = publish->thread;
    const struct partition_fence *fence = publish->wait->fence;
    struct error *err = publish->err;
    struct topics_place place;
    size_t more_len = 0;
    if (event->topic == NULL)
        return error_set(err, EVBUS_EINVAL, "event.topic is NULL");
    if (event->payload == NULL)
        return error_set(err, EVBUS_EINVAL, NULL_PAYLOAD);
    if ((event->origin != NULL) != (fence != NULL))
        return error_set(err, EVBUS_EINVAL, "event.origin is %s",
                         fence == NULL ? "for evbus_mirror_bring() alone" : "NULL");
    int rc = topics_find(publish->bus->topics, event->topic, fence == NULL ? &thread->recent : NULL, &place, err);
    if (rc != EVBUS_OK)
        return rc;
    out->log = place.log;
    out->topic = place.id;
    out->payload_max = (uint32_t)place.payload_max;
    out->area_len = 0;
    /* What is brought: nobody waits for it, and whoever keeps a checkpoint of it asks what is on disk. */
    out->is_disk = false;
    out->ack = EVBUS_ACK_MEMORY;
    if (fence == NULL && ((unsigned)event->ack > EVBUS_ACK_MEMORY || out->log->ack != EVBUS_ACK_MEMORY) &&
        (rc = check_ack(event, &publish->bus->memory, out, err)) != EVBUS_OK)
        return rc;
    if ((rc = check_key(event, out, err)) != EVBUS_OK)
        return rc;
    if (event->version_major == 0 && event->version_minor != 0)
        return error_set(err, EVBUS_EINVAL, "event.version is 0.%u; a major version is 1 or more",
                         event->version_minor);
    if ((rc = check_first_payload(event, out, err)) != EVBUS_OK)
        return rc;
    if (event->n_more_versions != 0 &&
        (rc = check_more(event, thread->more, out->payload_max - out->payload_len, &more_len, err)) != EVBUS_OK)
        return rc;
    if (header_is_wanted(event, thread)) {
        if ((rc = header_build(event, thread, err)) != EVBUS_OK)
            return rc;
        out->area_len = (uint16_t)thread->area.len;
    }
    return check_size(out, more_len, err);
}

int publish_check(const struct publish *publish, const struct evbus_event *event, struct parcel *out)
{
    return check(publish, event, out); /* for who checks many likewise; a publish of one has it inline */
}

int publish_check_like(const struct publish *publish, const struct evbus_event *event, const struct evbus_event *before,
                       const struct parcel *found, struct parcel *out)
{
    int rc = EVBUS_OK;
    if (event->payload == NULL)
        return error_set(publish->err, EVBUS_EINVAL, NULL_PAYLOAD);
    *out = *found;
    if (event->key != before->key || event->key_len != before->key_len)
        rc = check_key(event, out, publish->err);
    if (rc == EVBUS_OK)
        rc = check_first_payload(event, out, publish->err);
    return rc == EVBUS_OK ? check_size(out, 0, publish->err) : rc;
}

/* --- append ------------------------------------------------------------------------------------------------------------ */

int publish_announce(const struct publish *publish, struct memory_log *log, struct ring *ring)
{
    struct evbus *bus = publish->bus;
    memory_prefault(log);
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
    if (n_cells <= ring->frame_cells_max) { /* else a ring of a test: nobody reads it without its bus */
        uint64_t pos;
        uint64_t cells[(sizeof text / CELL_BYTES + 2) * CELL_WORDS]; /* ours: the thread's may have a run of others */
        frame_build(&frame, cells);
        struct partition_wait without_points = *publish->wait;
        without_points.has_points = false;
        int rc = partition_append(ring, &publish->thread->claim, cells, n_cells, &without_points, &pos, publish->err);
        if (rc != EVBUS_OK)
            return rc;
    }
    atomic_store_explicit(&bus->announced[log->index][ring->partition], true, memory_order_release);
    return EVBUS_OK;
}

int publish_check_receipt(const struct evbus_receipt *receipt)
{
    if (receipt != NULL && receipt->size > 4096)
        return error_set(error_of_thread(), EVBUS_EINVAL, "receipt.size is %zu: it must be sizeof the struct, or 0",
                         receipt->size);
    return EVBUS_OK;
}

void publish_write_receipt(const struct parcel *parcel, const struct sent *sent, size_t size, struct evbus_receipt *out)
{
    struct evbus_receipt receipt = {
        .size = size,
        .timestamp_ns = sent->timestamp_ns,
        .log = sent->ring->name,
        .partition = sent->ring->partition,
        .position = sent->pos,
        .ack = parcel->ack,
    };
    memcpy(receipt.id, sent->id, sizeof receipt.id);
    memcpy(out, &receipt, size != 0 && size < sizeof receipt ? size : sizeof receipt);
}

EVBUS_API IN_PUBLISH_SECTION int evbus_publish(struct evbus *bus, const struct evbus_event *event,
                                               struct evbus_receipt *receipt)
{
    struct evbus_event copy;
    struct publish publish;
    if (event == NULL)
        return error_set(error_of_thread(), EVBUS_EINVAL, "event is NULL");
    int rc = publish_check_receipt(receipt);
    if (rc == EVBUS_OK && event->size != 0 && event->size != sizeof copy) {
        rc = bus_take_struct(&copy, sizeof copy, event, event->size, "struct evbus_event", error_of_thread());
        event = &copy;
    }
    if (rc == EVBUS_OK)
        rc = publish_begin(&publish, bus, (uintptr_t)__builtin_dwarf_cfa());
    if (rc != EVBUS_OK)
        return rc;
    struct parcel parcel;
    struct sent sent;
    struct span_of_publish span;
    sent.ring = NULL;
    if (bus->hook != NULL)
        event = span_publish(bus, publish.thread, event, &span);
    rc = check(&publish, event, &parcel);
    if (rc == EVBUS_OK)
        rc = bus_check_names(bus, clock_coarse_ns(), publish.err);
    publish.wait->timeout_ns = event->timeout_ns;
    if (rc == EVBUS_OK)
        rc = publish_place(&publish, event, &parcel, &sent);
    if (rc == EVBUS_OK)
        rc = publish_build(&publish, event, &parcel, &sent, publish.thread->frame);
    if (rc == EVBUS_OK)
        rc = publish_append(&publish, sent.ring, publish.thread->frame, parcel.n_cells, &sent.pos);
    if (rc == EVBUS_OK) {
        partition_wake(&bus->memory, parcel.log, sent.ring, parcel.topic, sent.pos);
        if (parcel.is_disk)
            rc = partition_await_disk(&bus->memory, sent.ring, sent.pos, sent.pos + parcel.n_cells,
                                      sent.ring->is_visible_synced, publish.err);
        if (rc == EVBUS_OK && parcel.ack == EVBUS_ACK_BROKER)
            rc = partition_await_broker(&bus->memory, sent.ring, sent.pos, event->timeout_ns, publish.err);
        if (rc == EVBUS_OK && receipt != NULL)
            publish_write_receipt(&parcel, &sent, receipt->size, receipt);
    } else if (rc == EVBUS_EFULL) {
        log_line(&bus->log, LOG_FULL, EVBUS_LOG_WARNING, "log=%s partition=%u", sent.ring->name, sent.ring->partition);
    }
    if (rc == EVBUS_ESTALE)
        bus_check(bus, NULL); /* heard while we waited: whoever brings it back need not wait for our next call */
    publish_end(&publish);
    if (bus->hook != NULL)
        span_published(bus, event, &span,
                       &(struct span_end){sent.id, sent.ring, sent.pos, publish.thread->area.bytes,
                                          rc == EVBUS_OK ? parcel.area_len : 0, rc});
    return rc;
}
