/* proxy.h: stands between a bridge and its Redis, on a unix socket of its own, and cuts, delays or swallows what they
 * say. A child of the test. */
#ifndef PROXY_H
#define PROXY_H

#include "child.h"

#include <stdint.h>

struct proxy_control;

struct proxy {
    char url[200]; /* unix://... */
    struct proxy_control *control;
    struct child child;
};

/* Between its own socket in `dir` and the one at `to`. */
struct proxy proxy_start(const char *dir, const char *to);
void proxy_end(struct proxy *proxy);

/* n further bytes pass in that direction, then all connections are ended, once; new ones live. */
void proxy_cut_replies(struct proxy *proxy, uint64_t n);
void proxy_cut_requests(struct proxy *proxy, uint64_t n);
bool proxy_has_cut(const struct proxy *proxy);

/* Bytes that have passed, of all connections. */
uint64_t proxy_replies(const struct proxy *proxy);
uint64_t proxy_requests(const struct proxy *proxy);

/* What comes passes so much later; 0: at once. */
void proxy_delay(struct proxy *proxy, uint64_t ms);
/* Nothing passes any more, and nobody is told. */
void proxy_swallow(struct proxy *proxy, bool does);

#endif
