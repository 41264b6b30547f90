/* redis_resolve.h: a host's addresses, without waiting for them. See redis_resolve.c. */
#ifndef EVBUS_BRIDGE_REDIS_RESOLVE_H
#define EVBUS_BRIDGE_REDIS_RESOLVE_H

#include <netdb.h>
#include <stdbool.h>

struct redis_resolve;

/* NULL: no memory, no descriptor or no thread. */
struct redis_resolve *redis_resolve_start(const char *host, const char *port);

/* Readable when the answer is there. */
int redis_resolve_fd(const struct redis_resolve *resolve);

/* false: not yet. Else *out_error is 0 or as of getaddrinfo(), and the addresses are the caller's: freeaddrinfo(). */
bool redis_resolve_take(struct redis_resolve *resolve, struct addrinfo **out_addresses, int *out_error);

/* Not wanted any more, whether it was taken or not. NULL is fine. */
void redis_resolve_end(struct redis_resolve *resolve);

#endif
