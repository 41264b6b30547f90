/* member.h: a subscription from inside: what it holds, and what its three files do with it. See member.c, receive.c, run.c. */
#ifndef EVBUS_MEMBER_H
#define EVBUS_MEMBER_H

#include "bus.h"
#include "delivery.h"
#include "group.h"
#include "share.h"

#define MEMBER_THREADS_MAX 64 /* that handle */

/* What an item shows its handler. */
struct hand {
    struct item item;
    struct evbus_delivery shown; /* as the handler sees it */
    bool is_plain;               /* that has nothing which only some events have */
    struct delivery_texts texts;
    char topic[NAME_BYTES];
    const struct memory_log *topic_log; /* that it is a name in, of this id; 0: of none */
    uint16_t topic_id;
    char service[SERVICE_BYTES]; /* of `publisher` */
    uint32_t publisher;          /* 0: of nobody yet */
    char error[EVBUS_ERROR_MAX + 1];
    char *raised;       /* what upcasters have made of its payload; NULL: it is as published */
    size_t payload_max; /* of that; as it was when the event was handed over */
    struct hand *next;  /* of all of this subscription */
};

/* A group's settings as they were at some time; freed with the subscription. */
struct settings_of {
    struct retry retry;
    struct version_accepts accepts;
    struct settings_of *next;
};

enum worker_state { WORKER_BEGINS, WORKER_IDLE, WORKER_HAS_HAND, WORKER_STOP };

struct worker {
    struct evbus_subscription *of;
    pthread_t thread;
    _Atomic uint32_t state; /* futex: enum worker_state */
    struct hand *hand;
    _Atomic bool is_left; /* its handler took longer than its evbus_run(): still to be joined */
    _Atomic bool is_over;
    int rc;            /* has it its place on the bus? Set before it is idle */
    struct error *err; /* who waits for that has it */
};

struct evbus_subscription {
    struct evbus *bus;
    struct share_group of;
    struct gaps gaps;
    struct settings_of *settings;   /* every one that of.retry has pointed to: handlers may still read them */
    struct version_accepts accepts; /* our own; none: the group's */
    struct upcasters *upcasters;
    size_t payload_max;
    evbus_handler *handler;
    void *context;
    uint32_t member;
    uint32_t owner;            /* our word there: of this life of the group */
    struct bus_thread *thread; /* the lease thread's record */
    uint64_t thread_number;
    uint64_t takes;                 /* logs that we may take, a bit each */
    struct share *by_log[LOGS_MAX]; /* of each log that the group reads, its partitions; NULL: none */
    struct share **shares;          /* those that we may take */
    size_t n_shares;
    struct topic_set wanted[LOGS_MAX];
    uint32_t n_logs;    /* that shares were made for */
    uint32_t changes;   /* of the group, when we looked last */
    uint64_t looked_ns; /* at the members, last */
    bool is_settled;    /* nothing is left to take or to give */
    size_t turn;
    unsigned n_events; /* since the last round */
    unsigned n_of_run; /* since the last time that there was none */
    struct hand *hands;
    struct worker workers[MEMBER_THREADS_MAX];
    _Atomic uint32_t stop;
};

/* An event's memory that is not in use; its buffer has room for the largest frame. NULL: no memory, the message is set. */
struct hand *member_free_hand(struct evbus_subscription *sub, struct error *err);

/* The group's settings as the catalogue has them now. */
int member_read_settings(struct evbus_subscription *sub, struct error *err);

/* The shares of the group's logs that we may take; again whenever the group has changed. */
int member_make_shares(struct evbus_subscription *sub, struct error *err);
void member_free_shares(struct evbus_subscription *sub);

/* The thread that calls becomes the lease thread. EVBUS_EBUSY: another one has events in hand. */
int member_check_thread(struct evbus_subscription *sub, struct error *err);

/* We are alive; the group's changes are heard; what is due to us is taken, what is due to others given. EVBUS_ENOTFOUND: the
 * group has been removed. */
int member_round(struct evbus_subscription *sub, uint64_t now_ns, struct error *err);
void member_say_alive(struct evbus_subscription *sub, uint64_t now_ns);

/* Gives all partitions back, and its place. Nothing of it may be in a handler. */
void member_leave(struct evbus_subscription *sub, struct bus_thread *thread);

/* Joins threads that an evbus_run() has left; false: one still runs its handler (never with wait). */
bool member_join_left(struct evbus_subscription *sub, bool wait);

/* The next event into a hand. EVBUS_OK; EVBUS_ETIMEOUT; EVBUS_EAGAIN (stopped); as evbus_receive(). */
int member_receive(struct evbus_subscription *sub, uint64_t timeout_ns, struct hand **out, struct error *err);

/* Makes hand->shown, once of each event. EVBUS_DONE; else no handler gets it, and member_refuse() is to be told this outcome. */
int member_show(struct evbus_subscription *sub, struct hand *hand);
int member_refuse(struct hand *hand, int outcome, struct claim *claim, struct error *err);

/* The handler's outcome, by the thread that owns `claim`. EVBUS_OK; EVBUS_EFENCED. The hand is free then. */
int member_finish(struct evbus_subscription *sub, struct hand *hand, enum evbus_outcome outcome, const char *error,
                  struct claim *claim, struct error *err);

/* The lease thread's, of an event that it has handled itself, and is done: as member_finish(); and *out is the next one, where that is
 * there, and is its share's turn; NULL: none, member_receive() looks around. */
int member_finish_and_receive(struct evbus_subscription *sub, struct hand *hand, struct hand **out, struct error *err);

#endif
