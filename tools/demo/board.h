/* board.h: what the processes of the demo tell each other beside the bus: counts, times, and the cues of the conductor.
 *
 *   where     a file in the demo's folder, mapped by all; zero is the beginning of every field
 *   counts    written by the services, read by the conductor while they run: atomics, each a sum for itself, so relaxed
 *   cues      one writer each; they carry no data but themselves
 *
 * No effect depends on it: what the services do, and what is checked at the end, is in their databases and folders. */
#ifndef DEMO_BOARD_H
#define DEMO_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLES_MAX 2048 /* more than the 830 of the busiest flow, and than the 1723 publishes */
#define EVENTS_MAX  4096 /* a flow has 830 at most: its set is sparse */
#define N_BOOKINGS  60
#define N_POSTS     2
#define N_MEMBERS   2 /* of product-service */

enum topic { ORDERS, PAYMENTS, BOOKINGS, POSTS, N_TOPICS };
enum group { PRODUCT, CUSTOMER, NOTIFICATION, ANALYTICS, SITEMAP, N_GROUPS };

extern const char *const topic_names[N_TOPICS];
extern const char *const group_names[N_GROUPS];

enum topic topic_of(const char *name); /* N_TOPICS: none of ours */

/* Every single time, so that percentiles are exact. */
struct samples {
    _Atomic uint32_t n;
    _Atomic uint64_t ns[SAMPLES_MAX];
};

/* One topic to one group. */
struct flow {
    _Atomic uint64_t done[EVENTS_MAX]; /* a set of 8 bytes of their ids: a handler said EVBUS_DONE */
    _Atomic uint64_t again;            /* and these times it had said so before */
    _Atomic uint64_t redelivered;      /* attempts beyond the first */
    struct samples latency;            /* of first attempts: from the event's timestamp to the handler's begin */
};

struct member {
    _Atomic uint64_t handled;
    _Atomic bool holds_database; /* between begin and commit */
};

struct board {
    _Atomic uint64_t published[N_TOPICS];
    struct samples publish; /* how long the calls took */
    struct flow flows[N_GROUPS][N_TOPICS];
    struct member members[N_MEMBERS];
    _Atomic uint64_t mails;         /* written, again ones too */
    _Atomic bool kill_me;           /* cue by notification-service: I am in a handler, half done */
    _Atomic bool restart_me;        /* cue by order-payment-service: an order is out, and I have not noted that */
    _Atomic uint32_t back_pid;      /* who has brought the bus back from its journal */
    _Atomic uint64_t back_ns;       /* and how long that took; written last */
    _Atomic bool sitemap_runs;      /* cue by the conductor, for content-service */
    _Atomic bool address_is_mended; /* likewise, for notification-service: of MAIL_BOUNCES */
};

struct board *board_open(const char *dir); /* NULL: it has complained */
void board_close(struct board *board);

/* A flow's set of events. flow_add(): false: it is there already. */
bool flow_has(struct flow *flow, const uint8_t id[16]);
bool flow_add(struct flow *flow, const uint8_t id[16]);
uint64_t flow_handled(struct flow *flow);

void sample(struct samples *samples, uint64_t ns);

/* Those from a place on and before another, as a list of their own. */
void samples_between(const struct samples *samples, uint32_t from, uint32_t to, struct samples *out);

/* Of n lists together: the p-th percentile of their times, 0 when there is none. */
uint64_t percentile(struct samples *const *lists, size_t n, unsigned p);

static inline void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline uint64_t value(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
