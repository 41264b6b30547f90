/* backend.h: what the bridge needs of a broker. Egress and ingress know this header, and no broker's name.
 *
 *     bridge                                     broker
 *     open                                       connects by itself, for ever; state() tells each change
 *     ask(log, partition)                    ->  marks()     how much of ours it has, and where the streams ended then
 *     begin, add..., send                    ->  appended()  all of the batch, or nothing, and why
 *     listen(stream, id), more(stream)       ->  arrived()   what stands behind the id, in order
 *     report(stream, id)                         how far this host has read
 *     trim(stream)                           ->  trimmed()   what nobody needs any more is gone
 *
 * A stream is a topic, or with layout=log a log; a partition of ours is appended to in the order of its positions, and each stream has a mark
 * {position, epoch, incarnation} for each partition of each origin: the broker moves it in the same step in which it appends.
 *
 * append   A batch is of one partition. The broker, in one step that nobody sees half of: refuses an epoch (incarnation, epoch) that is older than the
 *          mark's (FENCED); refuses a batch of which some stream's first event that is not there yet says a `prev` that is not that stream's mark
 *          (GAP: it has lost our tail, or was emptied); leaves out what is there (position <= mark); appends the rest in order; moves the marks
 *          of the streams that it appended to. Several batches of a partition may be under way; they are answered in order. A batch that is
 *          repeated changes nothing, no mark's epoch either.
 * away     When the broker is gone, all that is under way is answered AWAY: nobody knows what became of it; whoever asks for the marks learns it. The
 *          backend connects anew, after 50 ms, doubled up to 5 s, with jitter, for ever.
 *
 * One thread. No call blocks for longer than it takes to write to a socket or file; what is to be waited for are descriptors: fds(). Callbacks are made
 * from within service() alone, never from the other calls. What they are shown lives until they return. They may call begin, add, send, ask, more, report. */
#ifndef EVBUS_BRIDGE_BACKEND_H
#define EVBUS_BRIDGE_BACKEND_H

#include "entry.h"

#include <poll.h>

enum backend_result {
    BACKEND_OK,
    BACKEND_FENCED,  /* another bridge of this bus has a higher epoch */
    BACKEND_GAP,     /* a mark is not where the batch begins: ask */
    BACKEND_REFUSED, /* nothing was done; `why` is the broker's word: again later */
    BACKEND_AWAY     /* nobody knows: ask */
};

/* How far a stream has a partition of ours. position 0: it has none of it. */
struct backend_mark {
    const char *topic;    /* layout=topic: the stream's; layout=log: NULL */
    uint64_t position;    /* of the last event of it that was appended */
    uint64_t epoch;       /* of the bridge that appended it */
    uint64_t incarnation; /* of the bus then */
    const char *
        end; /* an id: what stood in the stream when this was its mark is not behind it, what comes later is. "": nothing did */
};

/* What stands in a stream. */
struct backend_entry {
    const char *
        id; /* as the broker calls it: opaque, at most 63 bytes; in one stream later ones are greater for id_compare() */
    const struct entry_field *fields;
    size_t n_fields;
};

struct backend_trimmed {
    uint64_t n;            /* entries that went */
    const char *kept_from; /* the lowest id that is kept, and why */
    const char
        *kept_for; /* "age", "host <uuid>", "group <name>"; "ever": this broker removes nothing, and n is always 0 */
    const char *dropped; /* a host that was gone for too long and is not waited for any more; NULL: none */
};

struct backend_callbacks {
    /* is_here: from now on there is a broker that answers; with a why: but something is wrong there, told likewise (a stream that cannot be read, a policy
     * that evicts). else why: what is wrong. Told once for each change */
    void (*state)(void *context, bool is_here, const char *why);
    /* OK: a mark for each topic that was asked for, in that order; layout=log: one. Else none, and why */
    void (*marks)(void *context, const char *log, uint32_t partition, enum backend_result result,
                  const struct backend_mark *marks, size_t n, const char *why);
    void (*appended)(void *context, uint64_t ticket, enum backend_result result, const char *why);
    /* n 0: nothing is there now; told once, and what comes then is given out without another more(). false: it could not be taken: it comes again with the
     * next more(). An entry without fields: it is larger than what the backend takes in */
    bool (*arrived)(void *context, const char *stream, const struct backend_entry *entries, size_t n);
    /* The stream has been reset: ids that we know are not there any more, and new ones may be lower. Reading goes on behind `id` */
    void (*reset)(void *context, const char *stream, const char *id);
    void (*trimmed)(void *context, const char *stream, const struct backend_trimmed *trimmed);
};

struct config;
struct backend;

/* A partition's streams: with layout=topic the topics of its log; with layout=log the log itself. */
struct backend_class {
    const char *name; /* "redis" */
    /* Blanks around a payload are lost, and raw CR and LF between its tokens become blanks; else it is kept byte for byte */
    bool is_by_line;

    /* origin: the bus's uuid as text; lives as long as the backend, as config does. EVBUS_OK, or what is wrong with the config: then error
     * (EVBUS_ERROR_MAX bytes) tells it */
    int (*open)(struct backend **out, const struct config *config, const char *origin,
                const struct backend_callbacks *callbacks, void *context, char *error);
    void (*close)(struct backend *backend);

    /* To be waited for: up to `cap` descriptors; and no longer than *inout_timeout_ms (-1: for ever). How many */
    size_t (*fds)(struct backend *backend, struct pollfd *fds, size_t cap, int *inout_timeout_ms);
    /* What poll() said. Makes the callbacks */
    void (*service)(struct backend *backend, const struct pollfd *fds, size_t n);

    /* topics: of the log, n of them; with layout=log nobody looks at them. false: it is away, state() will tell */
    bool (*ask)(struct backend *backend, const char *log, uint32_t partition, const char *const *topics, size_t n);

    /* One batch at a time is made. add: false: it does not fit any more: send, and begin another with this event. The event may go once it returns */
    bool (*begin)(struct backend *backend, const char *log, uint32_t partition, uint64_t epoch, uint64_t incarnation);
    bool (*add)(struct backend *backend, const struct evbus_delivery *event, uint64_t prev);
    /* ticket: comes back with appended(). false: it is away: nothing was sent, nothing will be answered, the batch is gone */
    bool (*send)(struct backend *backend, uint64_t ticket);

    /* Read a stream behind an id; "": from its beginning; once more: from there instead. Nothing is given out until more() is called, and then one arrived()
     * with entries, now or when there are some; more() while one waits changes nothing. It outlives reconnects */
    int (*listen)(struct backend *backend, const char *stream, const char *id);
    void (*more)(struct backend *backend, const char *stream);
    int (*id_compare)(const char *left, const char *right);

    /* For trim: this host has done with what stands at or before id. Kept by the broker with the broker's time */
    void (*report)(struct backend *backend, const char *stream, const char *id);
    /* What is older than config's trim_age, and done with by every host and by every group of the broker's own, goes. A host that has not reported for
     * host_timeout is not waited for */
    void (*trim)(struct backend *backend, const char *stream);
};

/* One instance. A backend's own struct begins with it. */
struct backend {
    const struct backend_class *class;
};

extern const struct backend_class backend_redis;
extern const struct backend_class backend_file;

#endif
