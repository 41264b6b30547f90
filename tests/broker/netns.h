/* netns.h: hosts of a test's own: network namespaces, each with one link to the test's own namespace, which can be cut. */
#ifndef NETNS_H
#define NETNS_H

#include <stdbool.h>
#include <stddef.h>

struct netns_host {
    int fd;        /* the namespace: it is gone when this is closed and nobody lives there */
    char link[16]; /* our end of its link */
    char hub[16];  /* our address, as it has to call us */
};

/* The calling thread, and those that it makes from now on, get a network namespace of their own, in which the hosts' links end.
 * NULL: so it is; else why that is not permitted here. */
const char *netns_begin(void);

/* A host; number: 0..99. Fails the test where that is impossible. */
struct netns_host netns_make(unsigned number);

/* The calling process, which does nothing else yet, moves there. false: errno. */
bool netns_enter(const struct netns_host *host);

/* Its link is down: what is sent gets lost, and nobody is told. Connections live, until somebody loses patience. */
void netns_cut(const struct netns_host *host);
void netns_mend(const struct netns_host *host);

#endif
