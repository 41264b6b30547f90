/* retry.h: when an event is tried again. Pure functions. */
#ifndef EVBUS_RETRY_H
#define EVBUS_RETRY_H

#include "catalogue.h"

#define RETRY_DEFER_MAX_NS (UINT64_C(7) * 24 * 3600 * 1000000000) /* the longest that a handler may put an event off */

/* How a group tries. */
struct retry {
    uint64_t waits_ns[14]; /* before attempts 2, 3, ... */
    uint32_t n_waits;
    uint64_t handler_timeout_ns; /* 0: none */
    bool parks;                  /* a dead letter's key waits until it is settled; else it goes on */
    uint32_t outage_events;      /* so many different ones that fail the same way pause the group; 0: never */
};

/* 1 s, 10 s: three attempts; no timeout; five events. */
extern const struct retry retry_default;

/* Attempts before an event is dead. */
uint32_t retry_attempts(const struct retry *retry);

/* The wait after `attempts` attempts, +- 20 % by random (any 32 bits). */
uint64_t retry_wait_ns(const struct retry *retry, uint32_t attempts, uint32_t random);

/* A stored not-before, bounded: further away than the longest wait (and its jitter), or, where a handler has named it, than
 * the longest that it may name, means that it was scribbled on, or is of another boot: now. */
uint64_t retry_bound_ns(const struct retry *retry, bool is_deferred, uint64_t not_before_ns, uint64_t now_ns);

#endif
