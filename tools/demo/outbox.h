/* outbox.h: a producer's database: what has happened, and which events of it are out. */
#ifndef DEMO_OUTBOX_H
#define DEMO_OUTBOX_H

#include "ledger.h"
#include "service.h"

/* One event, before it has an id. */
struct note {
    enum topic topic;
    const char *key; /* of its topic it is the only one with this key */
    const char *payload;
    size_t len;
    const char *payload_2; /* the same in version 2.0; NULL: there is none */
};

struct outbox {
    struct service *service;
    const char *killed_at; /* may be NULL: behind the publish of this key we wait to be killed, once */
    struct ledger ledger;
    sqlite3_stmt *put, *next, *sent;
};

/* Opens it, and publishes what a life before has left in it. */
bool outbox_open(struct outbox *outbox, struct service *service, const char *killed_at);
void outbox_close(struct outbox *outbox);

/* Notes what has happened, all n or none, and publishes it. out_is_new false: it was noted before, so it is out. */
bool outbox_publish(struct outbox *outbox, const struct note *notes, size_t n, bool *out_is_new);

#endif
