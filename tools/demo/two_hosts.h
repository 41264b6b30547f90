/* two_hosts.h: what the second act knows of itself. */
#ifndef DEMO_TWO_HOSTS_H
#define DEMO_TWO_HOSTS_H

#include "conductor.h"
#include "records.h"
#include "redis.h"

/* How far all was at a moment. */
struct moment {
    uint64_t at_ns;
    uint64_t published, in_redis, arrived; /* events */
    uint64_t mails;
    uint64_t stock;       /* orders whose units product-service has taken */
    uint32_t n_publishes; /* places in their lists of times */
    uint32_t n_receipts, n_confirmations;
};

struct two_hosts {
    struct redis redis;
    char bridge[PATH_BYTES]; /* the program */
    size_t n_orders;         /* that will be published */
    uint64_t patience_ns;    /* until then we wait for what has not arrived */
    struct records published, in_redis, arrived;
    struct moment killed, started; /* Redis, and Redis again */
    bool is_done;                  /* all had arrived, and no group had anything left */
};

/* two_hosts_table.c */
void two_hosts_print(struct demo *demo, struct two_hosts *two);
unsigned two_hosts_check(struct demo *demo, struct two_hosts *two);

#endif
