/* ledger.h: what a group's members did with each event, written down outside the bus, in memory that all processes share.
 *
 * An event is {producer, number}; its key is number % LEDGER_KEYS. A member enters it when its handler begins and leaves it when
 * that is over. Each entry is checked on the spot: nobody else has an event of the key in hand, order per key, repeats, attempts.
 * A broken rule is kept in `what` (the first one) and printed; it never asserts, since members are processes of their own. */
#ifndef LEDGER_H
#define LEDGER_H

#include <evbus/evbus.h>

#include <stdatomic.h>
#include <stdint.h>

#define LEDGER_PRODUCERS 8
#define LEDGER_KEYS      1000
#define LEDGER_EVENTS    125000 /* of one producer, at most */
#define LEDGER_MEMBERS   4096   /* that are ever born; each has a number of its own, from 1 on */

struct ledger {
    _Atomic uint16_t hand[LEDGER_KEYS];                   /* member that has an event of the key in hand; 0: nobody */
    _Atomic uint64_t behind[LEDGER_KEYS];                 /* position + 1 of the key's last event that was begun */
    _Atomic uint32_t last[LEDGER_PRODUCERS][LEDGER_KEYS]; /* number + 1, likewise */
    _Atomic uint8_t starts[LEDGER_PRODUCERS][LEDGER_EVENTS];    /* handlers that have begun */
    _Atomic uint8_t uncounted[LEDGER_PRODUCERS][LEDGER_EVENTS]; /* attempts beyond them */
    _Atomic uint8_t asked[LEDGER_PRODUCERS][LEDGER_EVENTS];     /* a handler has asked for another attempt */
    _Atomic uint8_t done[LEDGER_PRODUCERS][LEDGER_EVENTS];      /* evbus_finish() has returned EVBUS_OK */
    _Atomic uint16_t holder[LEDGER_PRODUCERS][LEDGER_EVENTS];   /* member that began it last */
    _Atomic uint8_t doomed[LEDGER_MEMBERS];                     /* it is going to be killed, or has been */
    _Atomic uint64_t handled[LEDGER_MEMBERS];                   /* by each member */
    _Atomic uint64_t n_first;                                   /* events that were begun; about, where members die */
    _Atomic uint64_t n_repeats;
    _Atomic uint64_t n_uncounted; /* attempts whose handler had not begun yet when its member was killed */
    _Atomic int failed;
    char what[512];
};

/* Publishes an event on test.a.one. */
int ledger_publish(struct evbus *bus, uint32_t producer, uint32_t number, uint64_t timeout_ns);

/* A handler begins. Returns how often one has, with this one; 0: a rule is broken. */
unsigned ledger_enter(struct ledger *ledger, unsigned member, const struct evbus_delivery *event);

/* Its work is over, its finish is not made yet. asks: for another attempt. */
void ledger_leave(struct ledger *ledger, unsigned member, const struct evbus_delivery *event, bool asks);

/* Its finish has returned rc. */
void ledger_finished(struct ledger *ledger, const struct evbus_delivery *event, int rc);

/* Events of all producers, n_each of them, that no handler has begun. */
uint64_t ledger_missing(const struct ledger *ledger, uint32_t n_each);

#endif
