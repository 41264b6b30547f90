/* loop.h: what the bridge does until it is told to end. See loop.c. */
#ifndef EVBUS_BRIDGE_LOOP_H
#define EVBUS_BRIDGE_LOOP_H

#include "config.h"
#include "notify.h"

#include <evbus/evbus.h>

struct loop_options {
    struct notify *notify;
    /* Readable when one of SIGTERM, SIGINT, SIGHUP has come; main.c has blocked them before the first thread was made */
    int signal_fd;
    /* SIGHUP: reads the config anew, puts what may change into the one that loop_run() was given, and says all that there is to say. true: the new
     * one is in use; false: it is wrong, the old one stays */
    bool (*reload)(void *context);
    void *context;
};

/* config: changes by reload() alone, in place. Returns the exit code. */
int loop_run(const struct config *config, struct evbus *bus, const struct loop_options *options);

#endif
