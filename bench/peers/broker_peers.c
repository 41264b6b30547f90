/* broker_peers.c: who remembers events and hands them to groups, in the order of the table. HAS_...: its headers were there. */
#include "peers.h"

extern const struct peer peer_evbus_journal, peer_evbus_disk;

#ifdef HAS_REDIS
extern const struct peer peer_redis_off, peer_redis_everysec, peer_redis_always;
#define REDIS(name) &peer_redis_##name
#else
#define REDIS(name) NULL
#endif
#ifdef HAS_NATS
extern const struct peer peer_nats;
#define NATS &peer_nats
#else
#define NATS NULL
#endif

#define REDIS_HEADERS "libhiredis-dev, and libmicrohttpd-dev for evbus-bridge, whose script it shares"

const struct peer_choice broker_peers[] = {
    {&peer_evbus_journal, NULL, NULL},
    {&peer_evbus_disk, NULL, NULL},
    {REDIS(off), "Redis Streams, appendonly off", REDIS_HEADERS},
    {REDIS(everysec), "Redis Streams, everysec", REDIS_HEADERS},
    {REDIS(always), "Redis Streams, always", REDIS_HEADERS},
    {NATS, "NATS JetStream, file", "libnats-dev"},
    {NULL, NULL, NULL},
};
