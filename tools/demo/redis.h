/* redis.h: the second act's Redis: started, looked at, killed, started again, read. */
#ifndef DEMO_REDIS_H
#define DEMO_REDIS_H

#include "conductor.h"
#include "records.h"

struct redisContext;

struct redis {
    struct demo *demo; /* the host whose child it is */
    char program[PATH_BYTES];
    char socket[PATH_BYTES];
    char url[PATH_BYTES + 16];    /* for bridges */
    struct child *child;          /* the one of this life */
    struct redisContext *context; /* NULL: it does not answer */
    uint64_t n_entries;           /* of our topics' streams, when it answered last */
};

/* Starts it, in a folder beside those of the hosts; again after a kill: with what is on its disk. false: it has complained. */
bool redis_start(struct redis *redis, struct demo *demo);
void redis_kill(struct redis *redis); /* SIGKILL */
bool redis_look(struct redis *redis); /* does it answer? Then n_entries is of now */

/* Adds all that stands in the streams, one after the other. false: it has complained. */
bool redis_read(struct redis *redis, struct records *records);

void redis_close(struct redis *redis);

#endif
