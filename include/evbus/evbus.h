/* evbus.h: publish events to, and read them from, an event bus in shared memory. The one header a service includes.
 *
 *     struct evbus *bus;
 *     evbus_open(&bus, &(struct evbus_options){.service = "order-payment-service"});
 *     evbus_publish(bus, &(struct evbus_event){.topic = "lomash.orders.created", .key = "10248",
 *                                              .payload = "{\"orderId\":\"10248\"}"}, NULL);
 *     evbus_close(bus);
 *
 * Which calls may run at the same time
 *
 *     call                                   | at the same time as
 *     ---------------------------------------+--------------------------------------------------------------
 *     evbus_open, evbus_reader_open          | anything else
 *     evbus_publish, evbus_publish_batch     | anything on the same bus but evbus_close; any number of threads
 *     evbus_reader_next                      | anything but another call on the same reader: one thread at a time
 *     evbus_fd, evbus_reader_lost            | as evbus_reader_next
 *     evbus_reader_close                     | anything but a call on the same reader
 *     evbus_run, _run_once, _receive, _finish | anything but another of them on the same subscription
 *     evbus_stop                             | anything but evbus_unsubscribe on the same subscription
 *     evbus_close                            | nothing on the same bus, nor on a reader of it
 *     evbus_message, evbus_strerror, _version,
 *     evbus_envelope_format, evbus_key_of_member | anything: they touch nothing shared
 *
 * No call may be made from a signal handler. After fork() the child must not use a handle of its parent: every call but
 * evbus_close answers EVBUS_EFORKED there; the child opens its own. A thread that publishes or reads holds one of the
 * bus's 1,023 slots until it ends; a thread that is killed, or ends without cleaning up, is found and its slot is freed.
 *
 * Sizes. `size` in a struct you fill in is sizeof of it, so that it may grow without breaking you; 0 means "as of 1.0".
 * Every other field's zero is the good default. Times are nanoseconds: points in time since 1970 (UTC), waits as a
 * length. Strings are NUL-terminated UTF-8, copied before the call returns unless said otherwise.
 *
 * Errors. A call that can fail returns enum evbus_code, EVBUS_OK is 0, the others are negative. evbus_message() tells
 * which thing, what was found, and the mend. Beside the codes that stand at a call, each may answer EVBUS_ENOSPC (no memory is
 * left), EVBUS_EIO (the system has refused something) and, as a thread's first call on a handle, EVBUS_ELIMIT (all slots are
 * taken). What has failed has left nothing behind, and may be tried again. */
#ifndef EVBUS_EVBUS_H
#define EVBUS_EVBUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EVBUS_API __attribute__((visibility("default")))

#define EVBUS_VERSION_MAJOR 0
#define EVBUS_VERSION_MINOR 1
#define EVBUS_VERSION_PATCH 0

/** What went wrong, in kind. New codes are added at the end; no value ever changes. */
enum evbus_code {
    EVBUS_OK = 0,
    EVBUS_ENOTFOUND = -1,   /**< no such thing */
    EVBUS_ETIMEOUT = -2,    /**< nothing came in time */
    EVBUS_EINVAL = -3,      /**< an argument is wrong; evbus_message() names it */
    EVBUS_ENOBUS = -4,      /**< no such bus on this host: run `evbus init` */
    EVBUS_ESTALE = -5,      /**< this bus was removed or made anew: close, open again */
    EVBUS_ELAYOUT = -6,     /**< the bus was made by a build with another memory layout */
    EVBUS_ECORRUPT = -7,    /**< shared memory holds what no evbus wrote; evbus_message() tells where */
    EVBUS_ENOSPC = -8,      /**< no room in memory or /dev/shm */
    EVBUS_ELIMIT = -9,      /**< a fixed number of places is used up; evbus_message() tells which */
    EVBUS_EIO = -10,        /**< the operating system refused; evbus_message() tells what */
    EVBUS_EFULL = -11,      /**< the ring is full and stayed full until the timeout; nothing was published */
    EVBUS_EAGAIN = -12,     /**< try again */
    EVBUS_EPAUSED = -13,    /**< paused */
    EVBUS_EDENIED = -14,    /**< the catalogue does not let this service do this; the message says who may */
    EVBUS_EPERM = -15,      /**< the operating system's permissions on the bus do not let this user */
    EVBUS_ECATALOGUE = -16, /**< the catalogue is wrong; evbus_message() tells where */
    EVBUS_ECONFIG = -17,    /**< the configuration is wrong */
    EVBUS_EBUSY = -18,      /**< this thread is inside another call already (signal handler) */
    EVBUS_EFORKED = -19,    /**< this handle belongs to the parent process: open one of your own */
    EVBUS_EFENCED = -20,    /**< somebody else has taken over */
    EVBUS_EDUPLICATE = -21, /**< it is there already */
    EVBUS_ECONFLICT = -22,  /**< something else is there already */
    EVBUS_EEXHAUSTED = -23  /**< a partition has used up its 2^48 positions */
};

/** When publish returns, how safe is the event? Belongs to the topic's log; a publish may ask for more, never for less.
 *  DISK needs the log's journal ("journal": false in the catalogue: refused by name); BROKER needs a bridge (evbus-bridge) that takes
 *  the topic. */
enum evbus_ack {
    EVBUS_ACK_LOG = 0,    /**< whatever the catalogue says for the topic's log */
    EVBUS_ACK_MEMORY = 1, /**< every process of this host can see it; it survives kill -9 of all of them */
    EVBUS_ACK_DISK = 2,   /**< it survives a power cut */
    EVBUS_ACK_BROKER = 3  /**< it is at the broker as well; and on disk, where its log has a journal */
};

/** How a call waits for an event or for room. */
enum evbus_wait {
    EVBUS_WAIT_HYBRID = 0, /**< spin for spin_ns, then sleep. The default */
    EVBUS_WAIT_SPIN = 1,   /**< never sleep: lowest latency, one core busy */
    EVBUS_WAIT_BLOCK = 2   /**< sleep at once: lowest cost */
};

/** Does a thread of this process (`evbus-keeper`) stand for keeper of the bus? One is needed, somewhere on the host. */
enum evbus_keeper { EVBUS_KEEPER_VOLUNTEER = 0, EVBUS_KEEPER_NEVER = 1 };

enum evbus_level { EVBUS_LOG_ERROR = 0, EVBUS_LOG_WARNING = 1, EVBUS_LOG_INFO = 2, EVBUS_LOG_DEBUG = 3 };

/** One line of text for the operator, `key=value` pairs, without a newline. Called from any thread of the library, never
 *  by two at once for one bus; must not call the library. */
typedef void evbus_log_callback(void *context, enum evbus_level level, const char *line);

/* --- tracing. Source: OpenTelemetry semantic conventions, "Messaging spans". Since 0.1. */

/** What is done with an event. */
enum evbus_operation {
    EVBUS_OPERATION_PUBLISH = 0, /**< evbus_publish(); of a batch each event */
    EVBUS_OPERATION_RECEIVE = 1, /**< a group's member has got it */
    EVBUS_OPERATION_PROCESS = 2, /**< its handler */
    EVBUS_OPERATION_SETTLE = 3   /**< its outcome, as it was stored */
};

/** A property of a span: a text, or a number where text is NULL. */
struct evbus_attribute {
    const char *name; /**< "messaging.destination.name", ...; "evbus.attempt" and others of our own */
    const char *text;
    int64_t number;
};

#define EVBUS_TRACEPARENT_SIZE 56 /**< with its NUL */

/** One call of a hook. Pointers live until it returns. */
struct evbus_span {
    size_t size;
    enum evbus_operation operation;
    /** false: it begins (PUBLISH and PROCESS alone: what is done in between is within it); true: it has ended */
    bool is_end;
    uint64_t start_ns; /**< since 1970 */
    uint64_t end_ns;   /**< since 1970; 0: it begins */
    int code;          /**< at its end: enum evbus_code of the call */
    /** Of the event: W3C Trace Context that travels with it; NULL: none. A PUBLISH that begins: what the caller gave, else that of
     *  what the event follows from. A PROCESS: the parent, or the link, of the span */
    const char *traceparent;
    const char *tracestate;
    /** A PUBLISH that begins: room for EVBUS_TRACEPARENT_SIZE bytes; what the hook writes there (e.g. of the span that it has started)
     *  travels with the event. Otherwise NULL */
    char *inject;
    const struct evbus_attribute
        *attributes; /**< by OpenTelemetry's conventions, at the end a few more than at the beginning */
    size_t n_attributes;
};

/** Called in the thread that publishes, receives or handles, for each operation. Must not call the library. */
typedef void evbus_hook(void *context, const struct evbus_span *span);

struct evbus;        /**< one process's handle on a bus */
struct evbus_reader; /**< one place to read on from */

struct evbus_options {
    size_t size;                /**< sizeof(struct evbus_options) */
    const char *bus;            /**< NULL: $EVBUS_BUS, else "lomash" */
    const char *service;        /**< who we are, 1..63 bytes. NULL: $EVBUS_SERVICE, else nobody: may read only */
    enum evbus_keeper keeper;   /**< default: volunteer */
    enum evbus_wait wait;       /**< how publish waits for room and readers for events */
    uint64_t spin_ns;           /**< for EVBUS_WAIT_HYBRID; 0: 20 us where there is more than one processor, else 0 */
    evbus_log_callback *log;    /**< NULL: say nothing */
    void *log_context;          /**< handed to log */
    enum evbus_level log_level; /**< the least serious level that is reported; default: errors only */
    evbus_hook *hook;           /**< told of each operation, for tracing; NULL: nobody, at no cost */
    void *hook_context;         /**< handed to hook */
};

/** Attach to a bus. It must exist (`evbus init`): a service never creates one by a mistyped name.
 *
 *  out_bus  out: the handle, to be closed by evbus_close(). Untouched on failure.
 *  Threads  any.
 *  Fork     the library registers liburcu-bp's fork handlers (urcu_bp_before_fork ...); a host that uses liburcu-bp itself must
 *           not do so once more.
 *  Returns  EVBUS_OK; EVBUS_ENOBUS; EVBUS_ELAYOUT; EVBUS_EPERM; EVBUS_ENOSPC; EVBUS_EINVAL; EVBUS_ECORRUPT; EVBUS_ESTALE (it is
 *           just being removed); EVBUS_ECATALOGUE (its text is damaged); EVBUS_ELIMIT (1,024 handles in one process); EVBUS_EIO.
 *  Source   DESIGN "The idea in one picture". Since 0.1. */
EVBUS_API int evbus_open(struct evbus **out_bus, const struct evbus_options *options);

/** Detach. NULL is fine. No reader of it may be left open, no call on it under way. In a forked child: frees memory only.
 *  The mapping and the slots of other threads that have used the handle go when those threads end. */
EVBUS_API void evbus_close(struct evbus *bus);

/** A payload and the version of its schema. */
struct evbus_version {
    uint16_t major;
    uint16_t minor;
    const void *payload; /**< one JSON text in UTF-8 */
    size_t payload_len;  /**< bytes; when published, 0: payload is NUL-terminated */
};

#define EVBUS_VERSIONS_MAX 8 /**< of one event */

/** Where an event was published that a bridge has brought in. */
struct evbus_origin {
    uint8_t bus[16];    /**< its bus, by its uuid; all zero: it was put into the broker by a program that is no evbus */
    uint32_t partition; /**< there, of the log of its topic */
    uint64_t position;  /**< there */
    const char *broker_id; /**< what the broker calls it, at most 63 bytes; NULL: nothing */
};

struct evbus_delivery;

struct evbus_event {
    size_t size;            /**< sizeof(struct evbus_event) */
    const char *topic;      /**< e.g. "lomash.orders.created" */
    const void *payload;    /**< one JSON text in UTF-8, kept byte for byte */
    size_t payload_len;     /**< bytes; 0: payload is NUL-terminated. At most the catalogue's payload_max (240 KiB) */
    const char *key;        /**< order holds among events of one key; NULL or "": no key, the id spreads them */
    size_t key_len;         /**< bytes, at most 255; 0: key is NUL-terminated */
    uint8_t id[16];         /**< the eventId; all zero: we make a UUIDv7 */
    uint64_t timestamp_ns;  /**< ns since 1970; 0: now */
    uint16_t version_major; /**< of the payload's schema; 0.0 means 1.0 */
    uint16_t version_minor;
    enum evbus_ack ack;      /**< at least this; 0: as the log has it */
    bool payload_is_checked; /**< the caller has just serialised it: do not check again that it is JSON */
    uint64_t
        timeout_ns; /**< how long a full ring may keep us; 0: not at all, but up to 20 ms for the journal to be appended */
    /** The same event in further versions, none twice: each group gets one of them all, see struct evbus_subscribe_options. All payloads
     *  together have at most payload_max bytes */
    const struct evbus_version *more_versions;
    size_t n_more_versions; /**< at most EVBUS_VERSIONS_MAX - 1 */
    /** W3C Trace Context, checked. NULL: that of `cause`, with a span id of its own */
    const char *traceparent;
    const char *tracestate;     /**< likewise; only with a traceparent */
    const char *correlation_id; /**< any text, at most 255 bytes. NULL: that of `cause`, else the eventId of `cause` */
    const char *causation_id;   /**< likewise. NULL: the eventId of `cause` */
    /** What this event follows from. NULL: what this thread's handler has been given, where it is in one; else nothing */
    const struct evbus_delivery *cause;
    /** ns since 1970; a group that has not handled it by then makes it a dead letter (expired), which is handled when it is replayed.
     *  0: never */
    uint64_t expires_at_ns;
    const struct evbus_origin *origin; /**< of evbus_mirror_bring() alone; else NULL */
};

/** Where an event went. Printed as lomash.orders/2@123456. */
struct evbus_receipt {
    size_t size; /**< sizeof(struct evbus_receipt) */
    uint8_t id[16];
    uint64_t timestamp_ns; /**< as stored */
    const char *log;       /**< lives as long as the bus handle */
    uint32_t partition;
    uint64_t position;  /**< of the event's first cell; cells are 64 bytes */
    enum evbus_ack ack; /**< what was reached */
    bool duplicate;     /**< always false in this version */
};

/** Put one event on its topic. On return it is at its log's ack level (receipt->ack says which).
 *
 *  event    topic and payload required; payload: one JSON text, 1..245760 bytes. Copied: free it at once.
 *  receipt  out, may be NULL. Untouched on failure.
 *  Threads  any, on one handle; from a handler too; not from a signal handler (EVBUS_EBUSY where it interrupts a publish).
 *  Disk     with ack disk it returns when the event is synced: one fdatasync, which it shares with whoever publishes at the same
 *           time. EVBUS_EIO: the event is in memory, may be delivered, and is not known to be on disk, since the disk has failed for
 *           a second, or did not answer for ten; publish it again with the same id.
 *  Broker   with ack broker it returns when the bridge has told that the broker has the event. EVBUS_EIO: it is on the bus, and not known to be
 *           there after 10 s, or timeout_ns if that is longer; it goes there when it can.
 *  Cost     without that, no system call unless somebody sleeps or the ring is full, but one per 64 ids that we make (getrandom), and once a
 *           second a look whether the bus still has its names; no memory is allocated after a thread's first call.
 *  Returns  EVBUS_OK; EVBUS_EINVAL (evbus_message() names the field); EVBUS_EDENIED (who may is in the message);
 *           EVBUS_ENOTFOUND (no such topic); EVBUS_EFULL (nothing was published); EVBUS_EIO (see Disk); EVBUS_ESTALE (a bus that
 *           remembers may have the event when it comes back: open, and publish it again with the same id); EVBUS_EFORKED;
 *           EVBUS_ELIMIT (no slot left); EVBUS_EEXHAUSTED; EVBUS_ECORRUPT (run `evbus doctor`).
 *  Source   ADR 003, "Event Envelope Schema". Since 0.1. */
EVBUS_API int evbus_publish(struct evbus *bus, const struct evbus_event *event, struct evbus_receipt *receipt);

/** Publish n events in order. All are checked before the first is published; sleepers are woken once, at the end.
 *
 *  events         n of them, all with the size of the first
 *  receipts       out, n of them (all with the size of the first), or NULL
 *  out_published  out, may be NULL: how many are on the bus; less than n only on failure
 *  Returns        as evbus_publish(), for the first event that failed; the message names it by its index.
 *  Since 0.1. */
EVBUS_API int evbus_publish_batch(struct evbus *bus, const struct evbus_event *events, size_t n,
                                  struct evbus_receipt *receipts, size_t *out_published);

/** Where a reader starts. */
enum evbus_from {
    EVBUS_FROM_LATEST = 0,   /**< with what is published after evbus_reader_open() has returned */
    EVBUS_FROM_EARLIEST = 1, /**< with the oldest event that is still kept, in files or in memory */
    EVBUS_FROM_TIME = 2, /**< with the oldest that is kept whose timestamp is at or after from_time_ns; of files, from
                              *   the first on that was not begun after that time */
    /** Groups only: in each partition with the first event at or after from_position, as long as it is kept */
    EVBUS_FROM_POSITION = 3
};

struct evbus_reader_options {
    size_t size;                 /**< sizeof(struct evbus_reader_options) */
    const char *const *patterns; /**< topics; `*` stands for one segment, a last `**` for one or more. NULL: all */
    size_t n_patterns;
    enum evbus_from from;
    uint64_t from_time_ns;
    /** Keep what we have not read from being overwritten: a reader that stands still then makes producers' rings full
     *  (EVBUS_EFULL). Without: we may be overtaken, and are told how much we lost. A pin lasts as long as the thread that
     *  used the reader last. */
    bool pin;
};

/** Start to read. A reader consumes nothing: any number of them see all events.
 *
 *  Returns  EVBUS_OK; EVBUS_EINVAL (a pattern); EVBUS_ENOTFOUND (a pattern that no topic of the catalogue fits);
 *           EVBUS_ELIMIT (32 pins per log, 1,023 slots); EVBUS_ENOSPC; EVBUS_EFORKED; EVBUS_ESTALE.
 *  Since 0.1. */
EVBUS_API int evbus_reader_open(struct evbus_reader **out_reader, struct evbus *bus,
                                const struct evbus_reader_options *options);

/** One event, as it is read. Pointers live until the next call on the same reader. */
struct evbus_delivery {
    size_t size; /**< sizeof(struct evbus_delivery): set it before the call */
    uint8_t id[16];
    const char *topic;
    const char *service; /**< who published it; "" when its name is no longer in memory */
    uint64_t timestamp_ns;
    /** Of payload: the lowest of `versions`; a group's: the one that it accepts, or that its upcasters have made */
    uint16_t version_major;
    uint16_t version_minor;
    const char *key; /**< NUL-terminated as well; "" when there is none */
    size_t key_len;
    const void *payload; /**< byte for byte as published, or as upcasters made it; a NUL stands behind it */
    size_t payload_len;
    const char *log;
    uint32_t partition;
    uint64_t position;
    /** Cells of this partition that were overwritten, retired or damaged before we could read them, right before this event; 0: none. Of
     *  a group always 0: its handle's log tells of them. */
    uint64_t lost;
    uint32_t attempt; /**< a group's: this is the how-manieth time that a handler gets it, from 1; a reader's: 0 */
    void *token;      /**< a group's: for evbus_finish(); not yours to look at */
    const struct evbus_version
        *versions; /**< all that were published, in the order of their versions; each payload byte for byte */
    size_t n_versions;
    const char *traceparent;    /**< W3C Trace Context, checked; NULL: none */
    const char *tracestate;     /**< NULL: none */
    const char *correlation_id; /**< NULL: none */
    const char *causation_id;   /**< NULL: none */
    uint64_t
        expires_at_ns; /**< ns since 1970; 0: never. No handler gets it from then on: a dead letter of cause expired */
    bool is_after_gap; /**< an earlier event of its key is a dead letter of this group */
    /** How often it has been replayed out of the dead letters, this time included; 0: never. Of a replay topic, id, timestamp, key and
     *  payloads are those of the event, and attempt counts from 1; log, partition and position are where the replay stands, as of each
     *  delivery: `evbus why` tells where the event stood. */
    uint32_t replayed;
    uint64_t *defer_ns;                /**< a group's: evbus_defer() writes there; a reader's: NULL */
    const struct evbus_origin *origin; /**< a bridge has brought it in from there; NULL: it was published here */
};

/** The next event. Order holds within a partition, so among events of one key; partitions are served by turns.
 *
 *  timeout_ns  how long to wait; 0: not at all; UINT64_MAX: for ever
 *  Returns     EVBUS_OK; EVBUS_ETIMEOUT; EVBUS_ESTALE; EVBUS_EFORKED; EVBUS_ELIMIT (no slot, or 512 sleepers in this log);
 *              EVBUS_ECORRUPT (the message names log, partition and position; the next call goes on behind it, at the
 *              next whole frame).
 *  Since 0.1. */
EVBUS_API int evbus_reader_next(struct evbus_reader *reader, struct evbus_delivery *out_delivery, uint64_t timeout_ns);

/** A descriptor for poll(), epoll, libuv: readable when there may be something to read. Read with timeout 0 until
 *  EVBUS_ETIMEOUT, which also makes it unreadable again. It is the reader's: never close, read or write it yourself. The
 *  first call starts a thread (`evbus-fd`) that sleeps on the reader's behalf; evbus_reader_close() ends it.
 *
 *  Returns  EVBUS_OK; EVBUS_EIO; EVBUS_ELIMIT; EVBUS_EFORKED. Since 0.1. */
EVBUS_API int evbus_fd(struct evbus_reader *reader, int *out_fd);

/** Cells that this reader has lost since it was opened, over all partitions. */
EVBUS_API uint64_t evbus_reader_lost(const struct evbus_reader *reader);

/** Frees the reader and what it pinned. NULL is fine. */
EVBUS_API void evbus_reader_close(struct evbus_reader *reader);

/* --- groups ------------------------------------------------------------------------------------------------------------ */

/** How the handling of an event ended. */
enum evbus_outcome {
    EVBUS_DONE = 0, /**< acknowledged: after your database has committed */
    /** failed: again after the group's wait; the last attempt makes it a dead letter. Many different events that fail the same way, and
     *  none done between them, pause the group: then no attempt is charged */
    EVBUS_RETRY = 1,
    EVBUS_REJECT = 2,  /**< can never work: a dead letter now */
    EVBUS_RELEASE = 3, /**< not the event's fault: again after the first wait, and no attempt is charged */
    EVBUS_DEFER =
        4 /**< not now: again when evbus_defer() said, and no attempt is charged; not said: as EVBUS_RELEASE */
};

/** Not now: the event comes again after delay_ns (at most 7 days; longer is 7 days), however often that is said. Its key waits behind
 *  it, as behind one that is tried again; the time goes on while the group has no member, and over a restart of the host where the
 *  log has a journal. In a handler: `return evbus_defer(event, delay_ns);`; with a loop of your own:
 *  `evbus_finish(subscription, &event, evbus_defer(&event, delay_ns), NULL)`. */
static inline enum evbus_outcome evbus_defer(const struct evbus_delivery *event, uint64_t delay_ns)
{
    if (event->defer_ns != NULL)
        *event->defer_ns = delay_ns != 0 ? delay_ns : 1; /* 0: nothing was said */
    return EVBUS_DEFER;
}

#define EVBUS_ERROR_MAX 512 /**< bytes of an attempt's error text that are kept */

/** Handles one event of a group. The delivery lives until it returns.
 *
 *  error  may be given a NUL-terminated text of at most EVBUS_ERROR_MAX bytes: why it failed, for the dead letter */
typedef enum evbus_outcome evbus_handler(void *context, const struct evbus_delivery *event, char *error);

/** Makes, of a payload of one major version, one of the next: (major + 1).0. A pure function: it is called before the handler, at each
 *  attempt anew, by several threads at once where evbus_run() has them.
 *
 *  from     as published, or as the upcaster before has made it; a NUL stands behind its payload
 *  out_len  bytes of the result; left at 0: it is NUL-terminated
 *  error    may be given a NUL-terminated text of at most EVBUS_ERROR_MAX bytes: why it cannot
 *  Returns  one JSON text of at most the catalogue's payload_max bytes, from malloc(): the library frees it. NULL: it cannot,
 *           and the event becomes a dead letter (no_version); NULL with errno ENOMEM or EAGAIN: not now, and the event comes
 *           again as after EVBUS_RELEASE. */
typedef char *evbus_upcast(void *context, const struct evbus_version *from, size_t *out_len, char *error);

struct evbus_upcaster {
    const char *topic;   /**< NULL: every topic that has none of its own for this version */
    uint16_t from_major; /**< what it takes: from_major.x */
    evbus_upcast *upcast;
    void *context; /**< handed to upcast */
};

struct evbus_subscription; /**< this process's membership of a group */

struct evbus_subscribe_options {
    size_t size;            /**< sizeof(struct evbus_subscribe_options) */
    const char *group;      /**< NULL: the handle's service */
    evbus_handler *handler; /**< NULL: you call evbus_receive() and evbus_finish() */
    void *context;          /**< handed to handler */
    const char *const
        *patterns; /**< a group that is not there yet is made of these topics (ad hoc); of one that is there
                                    you take only logs in which they cover all of the group's topics. NULL: all of it */
    size_t n_patterns;
    enum evbus_from from;   /**< where a group that is made starts */
    uint64_t from_time_ns;  /**< for EVBUS_FROM_TIME */
    bool ephemeral;         /**< a group that is made ends with its last member */
    uint64_t from_position; /**< for EVBUS_FROM_POSITION */
    /** Which versions of a payload this member takes: "1" is any 1.x, "2.0" exactly that; at most 16. It gets one of an event's:
     *  the highest that fits; where none fits, what `upcasters` make of the highest below; else the event is a dead letter
     *  (no_version), and no attempt is charged. NULL: what the catalogue says of the group ("accepts"); where that says nothing,
     *  the lowest that there is. Members of a group may differ, as they are switched one by one. Publish both versions meanwhile:
     *  an event goes to one member, and what that one does not take is not offered to the others */
    const char *const *accepts;
    size_t n_accepts;
    /** Copied; at most 64. Only where versions are accepted, here or in the catalogue: they are what is made */
    const struct evbus_upcaster *upcasters;
    size_t n_upcasters;
};

/** Become a member of a group: each event of its topics goes to one member, in order per key, again until it is done. The
 *  partitions are shared fairly among the members; those of a member that dies go to the others within milliseconds.
 *
 *  Threads  the subscription is used by one thread at a time: its evbus_run(), or its evbus_receive() and _finish().
 *  Returns  EVBUS_OK; EVBUS_ENOTFOUND (no such group and no patterns; a pattern fits no topic); EVBUS_EINVAL (patterns that cover
 *           a log's topics in part: the message names those left out; versions, upcasters); EVBUS_ELIMIT; EVBUS_ENOSPC;
 *           EVBUS_EFORKED; EVBUS_ESTALE.
 *  Source   ADR 003, "Consumers", "Reliability Guarantees". Since 0.1. */
EVBUS_API int evbus_subscribe(struct evbus_subscription **out_subscription, struct evbus *bus,
                              const struct evbus_subscribe_options *options);

struct evbus_run_options {
    size_t size; /**< sizeof(struct evbus_run_options) */
    unsigned
        threads; /**< how many handlers may run at once; 0, 1: the caller's thread alone; n: it hands out, n - 1 handle */
    uint64_t stop_timeout_ns; /**< how long to wait for handlers that run when it is stopped; 0: 25 s */
};

/** Handle events until evbus_stop(). Then none is begun any more, and what is in a handler is finished first, for as long as
 *  stop_timeout_ns. Handlers that still run behind that are left alone: their events are released, no attempt charged, the
 *  member leaves its group, so that others go on at once, and EVBUS_ETIMEOUT is returned. What such a handler returns changes
 *  nothing; evbus_unsubscribe() waits for its end, and until then the subscription is EVBUS_EBUSY. With one thread the handler runs
 *  in the caller's, so it is waited for, however long; others go on when the group's handler_timeout is over.
 *  Returns  EVBUS_OK; EVBUS_ETIMEOUT; EVBUS_ENOTFOUND (the group was removed); EVBUS_ESTALE; EVBUS_EINVAL (no handler); EVBUS_EIO;
 *           EVBUS_EBUSY. */
EVBUS_API int evbus_run(struct evbus_subscription *subscription, const struct evbus_run_options *options);

/** Handle at most one event. EVBUS_OK: one was handled; EVBUS_ETIMEOUT; otherwise as evbus_run(). */
EVBUS_API int evbus_run_once(struct evbus_subscription *subscription, uint64_t timeout_ns);

/** Makes evbus_run() return. Any thread; from a signal handler, too. */
EVBUS_API void evbus_stop(struct evbus_subscription *subscription);

/** The next event, for people with a loop of their own. It is in your hands until evbus_finish(); up to 64 per partition may
 *  be, never two of one key. EVBUS_OK; EVBUS_ETIMEOUT; EVBUS_ENOTFOUND (the group was removed); EVBUS_ESTALE; EVBUS_EFORKED. */
EVBUS_API int evbus_receive(struct evbus_subscription *subscription, struct evbus_delivery *out_event,
                            uint64_t timeout_ns);

/** What became of it. The delivery's pointers end here. error: NULL, or why. EVBUS_OK; EVBUS_EFENCED (it took too long, it is
 *  somebody else's now: nothing was changed); EVBUS_EINVAL. */
EVBUS_API int evbus_finish(struct evbus_subscription *subscription, const struct evbus_delivery *event,
                           enum evbus_outcome outcome, const char *error);

/** Leave the group. What was received and not finished is released, no attempt charged. Waits for handlers that an evbus_run() has
 *  left running (EVBUS_ETIMEOUT). NULL is fine. */
EVBUS_API void evbus_unsubscribe(struct evbus_subscription *subscription);

/** The ADR's envelope of an event as one line of JSON, without a newline:
 *  {"eventId":...,"eventType":...,"timestamp":...,"version":...,"payload":...}; the payload byte for byte, but a raw CR
 *  or LF between its tokens becomes a blank. Returns its length in bytes; writes at most cap bytes, no NUL.
 *  Source   ADR 003, "Event Envelope Schema". Since 0.1. */
EVBUS_API size_t evbus_envelope_format(const struct evbus_delivery *delivery, char *buffer, size_t cap);

/** The partition key that stands in a payload: the member `name` of its top-level object; a string's decoded text, a
 *  number's or boolean's text as it stands there.
 *
 *  out_key  at least 256 bytes; NUL-terminated
 *  Returns  EVBUS_OK; EVBUS_EINVAL (no JSON, no object, no such member, of another type, or over 255 bytes: see the
 *           message of evbus_message(NULL)). Since 0.1. */
EVBUS_API int evbus_key_of_member(const void *payload, size_t payload_len, const char *name, char *out_key,
                                  size_t *out_key_len);

/** A short text for a code, e.g. "the ring is full". Static. */
EVBUS_API const char *evbus_strerror(int code);

/** This thread's last failure on any handle (bus may be NULL, e.g. after a failed open): the thing, what was found, the
 *  mend. Lives until this thread's next failing call. "" when nothing has failed yet. */
EVBUS_API const char *evbus_message(const struct evbus *bus);

/** "0.1.0", of the library that is loaded. */
EVBUS_API const char *evbus_version(void);

#ifdef __cplusplus
}
#endif

#endif
