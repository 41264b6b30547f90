/* bridgehead.h: a backend of a test's own, without a bus: what a bridge would say to it, and all that it has told. */
#ifndef BRIDGEHEAD_H
#define BRIDGEHEAD_H

#include "await.h"

#include <backend.h>
#include <config.h>

#define BRIDGEHEAD_ORIGIN "0198c0de-0000-7000-8000-0123456789ab"
#define BRIDGEHEAD_LOG    "lomash.orders"
#define BRIDGEHEAD_TOPIC  "lomash.orders.created"
#define BRIDGEHEAD_MARK   "evbus:{" BRIDGEHEAD_TOPIC "}:mark:" BRIDGEHEAD_ORIGIN ":3"
#define BRIDGEHEAD_SECOND "lomash.orders.cancelled"

struct bridgehead {
    struct config config;
    struct backend *backend;
    uint64_t epoch, incarnation; /* of its batches: 1, 1 */
    bool is_here;
    unsigned n_states;
    char why[EVBUS_ERROR_MAX];  /* of the last state; "": none */
    char whys[4096];            /* of all that have room, by newlines */
    size_t n_appended;          /* answers to batches */
    uint64_t ticket;            /* of the last */
    enum backend_result result; /* of the last */
    char append_why[EVBUS_ERROR_MAX];
    char results[512]; /* of all that have room: "ticket:result " */
    unsigned n_marks;  /* answers to asks */
    enum backend_result marks_result;
    struct backend_mark marks[8]; /* of the last; topics and ends are not kept */
    char marks_why[EVBUS_ERROR_MAX];
    size_t n_arrived;     /* entries */
    size_t n_empty;       /* arrived() without any */
    char values[1 << 18]; /* of what has arrived: "<stream>=<position, payload, or (none)> " */
    char last_id[64];
    bool refuses;     /* arrived() says false */
    bool is_lazy;     /* it does not say more() by itself */
    char resets[256]; /* "<stream>@<id> " */
    unsigned n_trimmed;
    struct backend_trimmed trimmed;
    char kept_from[64], kept_for[128], dropped[256];
};

/* For a broker; timeouts of 1 s, batches of 100 events. Nothing is opened yet, so that config can be changed. */
struct bridgehead *bridgehead_make(const char *broker);
void bridgehead_open(struct bridgehead *head);
void bridgehead_close(struct bridgehead *head);

/* Made, opened, and here. */
struct bridgehead *bridgehead_start(const char *broker);
struct bridgehead *bridgehead_start_reading(const char *broker);

void bridgehead_pump(struct bridgehead *head); /* one turn of its loop */
#define bridgehead_await(head, expression) await_that((bridgehead_pump(head), (expression)))

/* One batch in partition 3: events of n positions of a topic, each with the one before as prev, the first with
 * `prev`. Its ticket is the first position. false: it is away. */
bool bridgehead_send(struct bridgehead *head, const char *topic, uint64_t prev, size_t n, const uint64_t *positions);
/* And waits for the answer. */
enum backend_result bridgehead_append(struct bridgehead *head, const char *topic, uint64_t prev, size_t n,
                                      const uint64_t *positions);
bool bridgehead_add(struct bridgehead *head, const char *topic, uint64_t prev, uint64_t position, const char *payload,
                    size_t len);

/* Asks for the mark of one topic and waits; its position. Fails the test where it is refused. */
uint64_t bridgehead_mark(struct bridgehead *head, const char *topic);

#endif
