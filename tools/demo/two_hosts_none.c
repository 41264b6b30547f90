/* two_hosts_none.c: the second act of a build without the bridge. */
#include "conductor.h"

static bool is_possible(struct demo *demo)
{
    (void)demo;
    complain("act 2 needs evbus-bridge, and this build has none: it wants libhiredis-dev, libmicrohttpd-dev and "
             "libssl-dev. Act 1 goes without: --act 1");
    return false;
}

const struct act second_act = {
    .title = "Act 2: two hosts, and the Redis between them", .n_hosts = 2, .is_possible = is_possible};
