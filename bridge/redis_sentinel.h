/* redis_sentinel.h: where the master is, as sentinels know it. See redis_sentinel.c. */
#ifndef EVBUS_BRIDGE_REDIS_SENTINEL_H
#define EVBUS_BRIDGE_REDIS_SENTINEL_H

#include "broker_url.h"

struct redis_conn;
struct redis_sentinel;

/* Both from within redis_sentinel_service(), redis_sentinel_ask() never. */
struct redis_sentinel_callbacks {
    /* The master is there, as one of them says now: each time that it is asked */
    void (*found)(void *context, const struct broker_address *master);
    /* One of them could not be asked, or does not know it; the next one is */
    void (*failed)(void *context, const char *why);
};

/* url: whose sentinels and master; lives as long as this. NULL: no memory. */
struct redis_sentinel *redis_sentinel_open(const struct broker_url *url, uint64_t connect_timeout_ns,
                                           uint64_t reply_timeout_ns, const struct redis_sentinel_callbacks *callbacks,
                                           void *context);
void redis_sentinel_close(struct redis_sentinel *sentinel); /* NULL is fine */

/* At once, and not only in a second. */
void redis_sentinel_ask(struct redis_sentinel *sentinel);

/* Where it leads nobody is, or no master: the next one is asked, if there are several. */
void redis_sentinel_doubt(struct redis_sentinel *sentinel);

/* To be waited for, served and changed as any other. */
struct redis_conn *redis_sentinel_conn(const struct redis_sentinel *sentinel);
void redis_sentinel_until(const struct redis_sentinel *sentinel, uint64_t *inout_until_ns);
void redis_sentinel_service(struct redis_sentinel *sentinel, short revents);

#endif
