/* mirror.h: what a bridge needs of a bus: read it out in order and hold what is not out yet; bring in what happened elsewhere, once.
 * For bridges to brokers; a service needs none of it. Conventions (sizes, times, errors) are those of evbus.h.
 *
 * A mirror is a place in a bus that has a name: of its group bridge-<name>, which holds in every partition what has not been
 * mirrored, as any group does. Any number of processes may open the same mirror; one of them leads, the others stand by. Who
 * leads is told an epoch, higher than that of every leader before in the bus's life: a broker refuses what comes with an older one,
 * and so does the bus. Whoever is stopped, is deposed, and wakes does no harm: evbus_mirror_bring(), _advance() and _save() say EVBUS_EFENCED and have done
 * nothing.
 *
 * All calls on one mirror are made by one thread. That thread must not publish to the same bus by other calls while it leads. */
#ifndef EVBUS_MIRROR_H
#define EVBUS_MIRROR_H

#include <evbus/evbus.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evbus_mirror;

struct evbus_mirror_options {
    size_t size;
    const char *name;            /**< "redis": its group is bridge-redis; 1..32 of a-z 0-9 - */
    const char *const *patterns; /**< topics that are mirrored. NULL: all, but the bus's own */
    size_t n_patterns;
    enum evbus_from from;  /**< where a mirror begins that is not there yet; default EVBUS_FROM_LATEST */
    uint64_t from_time_ns; /**< for EVBUS_FROM_TIME */
    uint64_t patience_ns;  /**< with a leader that does nothing, until it is deposed; 0: 10 s */
};

/** Open a mirror, make its group where it is not there. Returns EVBUS_OK; EVBUS_EINVAL; EVBUS_ENOTFOUND (a pattern fits no topic);
 *  EVBUS_ELIMIT; EVBUS_ENOSPC; EVBUS_EBUSY; EVBUS_ESTALE; EVBUS_EFORKED. Since 0.1. */
EVBUS_API int evbus_mirror_open(struct evbus_mirror **out_mirror, struct evbus *bus,
                                const struct evbus_mirror_options *options);

/** Leave; another one may lead at once. NULL is fine. */
EVBUS_API void evbus_mirror_close(struct evbus_mirror *mirror);

/** Lead, or go on leading: to be called at least once a second, by whoever stands by as well.
 *
 *  out_epoch  of this leadership: higher than any before, 1..2^53 - 1
 *  Returns    EVBUS_OK: we lead, and nobody else does; EVBUS_EBUSY: somebody else (the message tells who); EVBUS_EFENCED: we led, and
 *             do not any more: the next call stands by again; EVBUS_ESTALE. */
EVBUS_API int evbus_mirror_lead(struct evbus_mirror *mirror, uint64_t *out_epoch);

/** Do operators want nothing to go out or in? See evbus_mirror_pause(). */
EVBUS_API bool evbus_mirror_is_paused(struct evbus_mirror *mirror);

/** How it is, in a line of UTF-8 (what is beyond 255 bytes is cut), for who asks evbus_mirrors(). Of the leader alone. */
EVBUS_API void evbus_mirror_describe(struct evbus_mirror *mirror, const char *text);

/** Which bus it is: the origin of its events. incarnation: its how-manieth life; it never goes back but by a restored backup. */
EVBUS_API int evbus_mirror_origin(struct evbus_mirror *mirror, uint8_t out_bus[16], uint64_t *out_incarnation);

/** One partition that is mirrored. */
struct evbus_mirror_part {
    size_t size;
    const char *log; /**< lives as long as the mirror */
    uint32_t partition;
    uint64_t held;   /**< everything before it is out, as evbus_mirror_advance() was told; what lies behind is kept */
    uint64_t oldest; /**< the first position that is kept */
    uint64_t next;   /**< where evbus_mirror_next() goes on */
    uint64_t tail;   /**< where the next event will be published */
    uint64_t synced; /**< what lies below is on disk; of a log without a journal: tail */
};
/** Calls each() for every partition, log by log; a non-zero answer ends it and is returned. */
EVBUS_API int evbus_mirror_parts(struct evbus_mirror *mirror,
                                 int (*each)(void *context, const struct evbus_mirror_part *part), void *context);

/** The next event to be mirrored: of one partition in the order of positions, of all by turns; of a partition that was never
 *  evbus_mirror_rewind()-ed: nothing. Events that were brought in from elsewhere come too: event->origin is not NULL.
 *  Returns as evbus_reader_next(). */
EVBUS_API int evbus_mirror_next(struct evbus_mirror *mirror, struct evbus_delivery *out_event, uint64_t timeout_ns);

/** A descriptor for poll(): as evbus_fd(). */
EVBUS_API int evbus_mirror_fd(struct evbus_mirror *mirror, int *out_fd);

/** Go on in one partition with the first event at or behind a position; what is not kept any more is skipped (event->lost tells).
 *  UINT64_MAX: stop giving events of it, until it is rewound again.
 *  Returns EVBUS_OK; EVBUS_ENOTFOUND (no such partition); EVBUS_EINVAL (a position beyond the tail: the message tells both). */
EVBUS_API int evbus_mirror_rewind(struct evbus_mirror *mirror, const char *log, uint32_t partition, uint64_t position);

/** The events up to and with the one at this position are at the broker: who waits for ack BROKER of them waits no longer. Forward
 *  only. Returns EVBUS_OK; EVBUS_EFENCED; EVBUS_ENOTFOUND; EVBUS_EINVAL (beyond the tail). */
EVBUS_API int evbus_mirror_told(struct evbus_mirror *mirror, const char *log, uint32_t partition, uint64_t position);

/** Everything before the position is out, and need not be kept for us. Forward only; what lies before is told already: EVBUS_OK.
 *  position: of a frame: of an event, or where evbus_mirror_parts() says that it goes on.
 *  Returns EVBUS_EFENCED; EVBUS_ENOTFOUND; EVBUS_EINVAL (beyond the tail). */
EVBUS_API int evbus_mirror_advance(struct evbus_mirror *mirror, const char *log, uint32_t partition, uint64_t position);

/** Bring in events that happened elsewhere: each event->origin is set, and any topic of the catalogue may be published. In order,
 *  until one fails; they are not published twice by two leaders, whoever is stopped where.
 *
 *  out_brought  how many; also where one fails
 *  Returns      as evbus_publish_batch(); EVBUS_EFENCED (another leads: none of the rest is published, now or later); EVBUS_EBUSY: a partition
 *               was not read, see evbus_mirror_brought() */
EVBUS_API int evbus_mirror_bring(struct evbus_mirror *mirror, const struct evbus_event *events, size_t n,
                                 size_t *out_brought);

/** Calls each() for every event that was brought in and stands at or behind `position` in a partition, in its order: for whoever takes
 *  over, and has to know what his checkpoint does not. As far as the tail at the call: nothing is brought in before that was
 *  done of every partition in a leadership, also of those that a new catalogue has added. A non-zero answer ends it and is returned. */
EVBUS_API int evbus_mirror_brought(struct evbus_mirror *mirror, const char *log, uint32_t partition, uint64_t position,
                                   int (*each)(void *context, const struct evbus_delivery *event), void *context);

/** Keep a text (one JSON text of at most 200 KiB) for whoever leads next: a checkpoint. It takes the place of the one before; it is
 *  as durable as the bus. Returns EVBUS_OK; EVBUS_EFENCED; EVBUS_EFULL; EVBUS_EINVAL; EVBUS_EIO. */
EVBUS_API int evbus_mirror_save(struct evbus_mirror *mirror, const char *text, size_t len);

/** The text that was kept last; lives until the next call on the mirror. EVBUS_OK; EVBUS_ENOTFOUND (none was); EVBUS_EIO. */
EVBUS_API int evbus_mirror_load(struct evbus_mirror *mirror, const char **out_text, size_t *out_len);

/** What came from elsewhere and is no event, or none for this bus. */
struct evbus_mirror_rejected {
    size_t size;
    uint8_t id[16];     /**< of it, the same each time that the same thing comes: so it is one letter */
    const char *stream; /**< where it stands at the broker; at most 127 bytes */
    const char *entry;  /**< and what the broker calls it; at most 63 bytes */
    const char *topic;  /**< where it was to go, if it is one of the bus's, else NULL */
    const char *what;   /**< a JSON text that shows it: the letter's payload, of 1 to 204800 bytes */
    size_t what_len;
    const char *why; /**< at most EVBUS_ERROR_MAX bytes */
};

/** It becomes a dead letter of the mirror's group, cause rejected. It cannot be replayed, since nothing of the bus was given up: who puts it
 *  right does that at the broker, where it comes in from, and discards the letter. Returns EVBUS_OK; EVBUS_EFENCED; EVBUS_EFULL;
 *  EVBUS_EINVAL; EVBUS_ENOSPC (memory). */
EVBUS_API int evbus_mirror_reject(struct evbus_mirror *mirror, const struct evbus_mirror_rejected *rejected);

/* --- for operators ------------------------------------------------------------------------------------------------------ */

struct evbus_mirror_stat {
    size_t size;
    const char *name;                      /**< "redis" */
    bool is_led;                           /**< somebody leads */
    bool is_paused;                        /**< nothing goes out or in */
    const char *service;                   /**< who leads; "" */
    int32_t pid;                           /**< in its own PID namespace; 0 */
    uint32_t n_others;                     /**< stand by */
    const char *text;                      /**< how it is, as the leader has said last; "" */
    const struct evbus_mirror_part *parts; /**< next says nothing here */
    const uint64_t
        *told; /**< of each: events before it are at the broker, as far as was told in this life of the bus */
    size_t n_parts;
};

/** Calls each() for every mirror of a bus; a non-zero answer ends it and is returned. What it is shown lives until it returns. */
EVBUS_API int evbus_mirrors(struct evbus *bus, int (*each)(void *context, const struct evbus_mirror_stat *stat),
                            void *context);

/** Let nothing go out or in, or go on: its leader hears it within a second. Of a bus that comes back after a restart of the host nothing is
 *  paused. name NULL: the first there is. Returns EVBUS_OK; EVBUS_ENOTFOUND. */
EVBUS_API int evbus_mirror_pause(struct evbus *bus, const char *name, bool is_paused);

#ifdef __cplusplus
}
#endif

#endif
