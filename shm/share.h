/* share.h: one partition of a group, in the hands of its lease's holder: take, hold the key, finish, scan. See share_next.c. */
#ifndef EVBUS_SHARE_H
#define EVBUS_SHARE_H

#include "cursor.h"
#include "gaps.h"
#include "lease.h"
#include "log.h"
#include "memory.h"
#include "outage.h"
#include "report.h"
#include "retry.h"
#include "upcast.h"

/* What all shares of a subscription have in common. */
struct share_group {
    struct memory *memory;
    struct log *log; /* NULL: say nothing */
    uint32_t group;  /* number */
    char name[SERVICE_BYTES];
    char member[SERVICE_BYTES];            /* our service, for notes */
    uint32_t dlq_topic;                    /* id of its dead letters' topic */
    uint32_t slot;                         /* the lease thread's */
    struct claim *claim;                   /* the lease thread's, for dead letters */
    struct gaps *gaps;                     /* likewise: those that nobody has settled; NULL: nobody looks */
    const struct retry *retry;             /* never changes; the lease thread puts another one in its place */
    const struct version_accepts *accepts; /* likewise; NULL: it says nothing */
    const struct upcasters *upcasters;     /* NULL: none */
    struct outage *outage;                 /* of the group; NULL: nobody guards it */
    uint32_t place, owner;                 /* ours among its members */
};

/* What we know of an entry, in memory that nobody else writes [P3]. */
struct share_own {
    alignas(64) uint64_t key; /* of one that is not EMPTY */
    uint8_t id[16];           /* of one in a handler; of one that is parked, of its letter */
    _Atomic uint64_t time_ns; /* what side.time_ns and side.note say */
    _Atomic uint64_t note;
    _Atomic uint64_t run; /* its last run: a number, + 1 when it is ended */
};

struct share {
    const struct share_group *of;
    struct memory_log *log;
    struct ring *ring;
    struct group_part *part;
    struct cursor cursor;        /* where we read; at or beyond the group's own cursor */
    struct partition_past *past; /* entries' events that the ring has no more; NULL: not needed yet */
    bool held;
    bool leaving; /* due to somebody else: takes no more */
    uint16_t epoch;
    uint64_t moved_to;     /* the group's cursor, as we stored it last */
    uint64_t busy;         /* entries that are not EMPTY, as we know */
    struct share_own *own; /* entry 0; see share_own() */
    uint32_t n_beside;     /* partitions of the log, whose entries stand beside ours */
    uint64_t n_runs;
    uint64_t probe; /* of the group's outage, that our entry `probe_index` is; 0: none */
    uint32_t probe_index;
    uint64_t held_back;     /* entries that waited when we looked last, and the group paused */
    uint64_t told;          /* how far we had read when we told our low last */
    uint64_t low;           /* as we told it last */
    unsigned n_since_low;   /* events since the low was told */
    uint64_t low_after_ns;  /* by then it is told of fewer events: a producer may wait for room behind slow handlers */
    unsigned n_chained;     /* done, and not counted yet */
    uint64_t chained_ns;    /* when the last of them was */
    uint64_t dead_after_ns; /* a full log of dead letters, or files that cannot be read: not before */
    uint64_t scan_after_ns; /* files that cannot be read: not before */
    uint64_t take_after_ns; /* the same, for the lease itself */
    struct report report;   /* what is left in writing of it */
};

/* An event in a handler. */
struct item {
    struct share *share;
    uint32_t index;               /* of its entry */
    uint64_t run;                 /* its number there */
    uint64_t probe;               /* of the group's outage, that it is; 0: none */
    struct pending running;       /* the entry as we made it; its followers bit says nothing */
    uint64_t since_ns;            /* monotonic, at most a tick early */
    const struct retry *retry;    /* as it was when the event was handed over */
    uint32_t n_replays;           /* of what was parked: how often it has been replayed */
    uint64_t defer_ns;            /* its handler: how long EVBUS_DEFER is; 0: it has not said */
    struct version_choice choice; /* which version of it the handler gets */
    struct frame frame;           /* lies in buffer */
    uint64_t *buffer;             /* room for the largest frame, and a cell */
    _Atomic bool is_used;
};

/* Beside those of enum evbus_outcome, for share_finish(): no upcaster could make a version that is accepted. */
#define SHARE_NO_VERSION 100

enum share_step { SHARE_EVENT, SHARE_NOTHING, SHARE_LOST };

/* Takes the lease if it is free, dead, or `from`'s, and mends what was left. true: we hold it. */
bool share_take(struct share *share, uint32_t from, uint64_t *buffer);

/* Tells how far we are and gives the lease back. Nothing may be in a handler. */
void share_give(struct share *share);

/* Lets go of files. */
void share_close(struct share *share);

/* Is anything of it in a handler? */
bool share_is_running(const struct share *share);

/* The next event to handle, whose entry is RUN or SOLO then. *out_due_ns is lowered to when an entry falls due (monotonic).
 * SHARE_LOST: somebody has taken the lease. */
enum share_step share_next(struct share *share, struct item *item, bool look, uint64_t now_ns, uint64_t *out_due_ns,
                           struct error *err);

/* Has share_next() without `look` nothing to do? For who spins. */
static inline bool share_is_quiet(const struct share *share)
{
    return share->busy == 0 && cursor_is_quiet(&share->cursor);
}

/* The topic where it was published: of a replay the one of its event. The frame is of an entry of this share. */
void share_topic(const struct share *share, const struct frame *frame, char out_topic[NAME_BYTES]);

/* Any thread. outcome: enum evbus_outcome, or SHARE_NO_VERSION. EVBUS_OK; EVBUS_EFENCED: it is somebody else's now. */
int share_finish(const struct item *item, int outcome, const char *error, struct claim *claim, struct error *err);

/* The lease thread's, of an event that it has handled itself, and is done: finished, and what comes next of its share, if it is there
 * already, is in `next` as by share_next(). Both by one CAS where that can be. *out_rc: as of share_finish(). */
enum share_step share_finish_and_next(const struct item *done, struct item *next, uint64_t now_ns, int *out_rc,
                                      struct error *err);

/* Its handler is waited for no longer: fenced, and released. false: it has just been finished. */
bool share_abandon(struct item *item);

/* It has not begun: likewise, and as if nobody had been given it. */
void share_put_back(struct item *item);

/* Fences the entries whose handlers take too long. For a lease thread whose handlers are all busy. */
void share_watch(struct share *share, uint64_t now_ns);

/* Publishes the dead letters that are due. buffer: room for the largest frame. */
void share_bury_dead(struct share *share, uint64_t *buffer, uint64_t now_ns);

/* Is there something to tell the ring? Asked for each event. */
bool share_has_news(const struct share *share, uint64_t now_ns, bool idle);

/* Tells the ring what the group still needs. */
void share_tell_low(struct share *share, bool idle);

#endif
