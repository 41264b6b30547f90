/* redis_reply.h: what hiredis makes of the bytes that come, in memory that is used again. See redis_reply.c. */
#ifndef EVBUS_BRIDGE_REDIS_REPLY_H
#define EVBUS_BRIDGE_REDIS_REPLY_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

struct redis_chunk;

/* Zeroed: nothing yet. One for each connection; it lives as long as its readers do. */
struct redis_replies {
    struct redis_chunk *chunks; /* the one that is filled first */
    size_t elements_max;        /* of an array */
    bool is_too_large;          /* an array had more */
    redisReplyObjectFunctions functions;
};

/* A reader whose replies lie there. NULL: no memory. */
redisReader *redis_replies_reader(struct redis_replies *replies);
void redis_replies_forget(struct redis_replies *replies); /* the reply that it has made last; or begun */
void redis_replies_free(struct redis_replies *replies);

#endif
