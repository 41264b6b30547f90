/* ledger.h: what a group's members did with each event, written down outside the bus, in memory that all processes share.
 *
 * An event is {producer, number}, which make every byte of its payload; its key is number % keys. Its producer enters it before
 * and after its publish, a member when its handler begins, when that is over, and when its finish has returned. Each entry is
 * checked on the spot. What is wrong is counted, and the first of it kept in `what` and printed; nothing asserts, since members are
 * processes of their own, which may be killed at any time: whoever kills one says so before (`doomed`). */
#ifndef LEDGER_H
#define LEDGER_H

#include <evbus/evbus.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LEDGER_PRODUCERS 8
#define LEDGER_KEYS      1000   /* at most */
#define LEDGER_EVENTS    125000 /* of one producer, at most */
#define LEDGER_BATCH     3
#define LEDGER_MEMBERS   32768 /* that are ever born; each has a number of its own, from 1 on */

/* What can be wrong. */
enum ledger_wrong {
    LEDGER_LOST,     /* acknowledged, and neither handled nor a dead letter */
    LEDGER_TORN,     /* not every byte as it was published, or nobody published it */
    LEDGER_DISORDER, /* before an earlier one of its key */
    LEDGER_TWO,      /* in the hands of two, neither of whom is dead */
    LEDGER_AGAIN,    /* begun again though it was over, or asked for by nobody */
    LEDGER_ATTEMPTS, /* miscounted; or dead after more or fewer than attempts_max */
    LEDGER_WRONGS
};

struct ledger {
    uint32_t keys;                                         /* 0: LEDGER_KEYS */
    uint32_t attempts_max;                                 /* after which an event is dead; 0: this is not looked at */
    _Atomic uint16_t hand[LEDGER_KEYS];                    /* member that has an event of the key in hand; 0: nobody */
    _Atomic uint64_t behind[LEDGER_KEYS];                  /* position + 1 of the key's last event that was begun */
    _Atomic uint32_t last[LEDGER_PRODUCERS][LEDGER_KEYS];  /* number + 1, likewise */
    _Atomic uint8_t sent[LEDGER_PRODUCERS][LEDGER_EVENTS]; /* 1: its publish has begun; 2: is acknowledged */
    _Atomic uint8_t starts[LEDGER_PRODUCERS][LEDGER_EVENTS];    /* handlers that have begun */
    _Atomic uint8_t uncounted[LEDGER_PRODUCERS][LEDGER_EVENTS]; /* attempts beyond them */
    _Atomic uint8_t released[LEDGER_PRODUCERS][LEDGER_EVENTS];  /* attempts that were given back */
    _Atomic uint8_t meant[LEDGER_PRODUCERS][LEDGER_EVENTS];     /* what its last handler has returned + 1 */
    _Atomic uint8_t
        over[LEDGER_PRODUCERS][LEDGER_EVENTS]; /* outcome + 1 of the finish after which it never comes again */
    _Atomic uint8_t crashed[LEDGER_PRODUCERS][LEDGER_EVENTS]; /* some member died with it */
    _Atomic uint8_t letters[LEDGER_PRODUCERS][LEDGER_EVENTS]; /* dead letters of it */
    _Atomic uint32_t letter[LEDGER_PRODUCERS][LEDGER_EVENTS]; /* a piece of their id */
    _Atomic uint16_t holder[LEDGER_PRODUCERS][LEDGER_EVENTS]; /* member that began it last */
    _Atomic uint8_t doomed[LEDGER_MEMBERS];                   /* it is going to be killed, or has been */
    _Atomic uint64_t handled[LEDGER_MEMBERS];                 /* by each member */
    _Atomic uint64_t n_first;                                 /* events that were begun; about, where members die */
    _Atomic uint64_t n_repeats;
    _Atomic uint64_t n_cut_off;   /* of them, after a handler that died */
    _Atomic uint64_t n_uncounted; /* attempts whose handler had not begun yet when its member was killed */
    _Atomic uint64_t n_letters;   /* events that have one */
    _Atomic uint64_t n_letters_twice;
    _Atomic uint64_t wrong[LEDGER_WRONGS];
    _Atomic int failed;
    char what[512];
};

/* Publishes an event on test.a.one and enters it in n ledgers, which lie in a row: one per group. */
int ledger_publish(struct ledger *ledgers, unsigned n, struct evbus *bus, uint32_t producer, uint32_t number,
                   uint64_t timeout_ns);

/* The same with LEDGER_BATCH events, from number `first` on, by one call. */
int ledger_publish_batch(struct ledger *ledgers, unsigned n, struct evbus *bus, uint32_t producer, uint32_t first,
                         uint64_t timeout_ns);

/* A handler begins. Returns how often one has, with this one; 0: a rule is broken. */
unsigned ledger_enter(struct ledger *ledger, unsigned member, const struct evbus_delivery *event);

/* Its work is over, its finish is not made yet. */
void ledger_leave(struct ledger *ledger, unsigned member, const struct evbus_delivery *event,
                  enum evbus_outcome outcome);

/* Its finish has returned rc. */
void ledger_finished(struct ledger *ledger, const struct evbus_delivery *event, int rc);

/* All of that around a finish. */
int ledger_finish(struct ledger *ledger, unsigned member, struct evbus_subscription *sub,
                  const struct evbus_delivery *event, enum evbus_outcome outcome);

/* A dead letter of the group. */
void ledger_letter(struct ledger *ledger, const struct evbus_delivery *letter);

/* Events of a producer, from..to, that must still come. */
uint64_t ledger_open(const struct ledger *ledger, uint32_t producer, uint32_t from, uint32_t to);

/* Events of all producers, n_each of them, that no handler has begun. */
uint64_t ledger_missing(const struct ledger *ledger, uint32_t n_each);

/* What is wrong, as a table on stderr: 0 in each line but for `lost`, which is given, and `wedged`. true: all are 0. */
bool ledger_print(const struct ledger *ledgers, unsigned n, uint64_t lost, uint64_t wedged);

#endif
