/* upcast.h: shell commands as upcasters. See upcast.c. */
#ifndef EVBUS_TOOLS_UPCAST_H
#define EVBUS_TOOLS_UPCAST_H

#include "args.h"

struct upcast_command {
    const char *text;
    int exit_code; /* EXIT_DONE; else what `consume` is to end with: it could not be run, or we are to stop at once */
};

struct upcasts {
    struct upcast_command commands[ARG_TEXTS_MAX];
    struct evbus_upcaster upcasters[ARG_TEXTS_MAX];
    size_t n;
};

/* From --upcast MAJOR=CMD; lives as long as the subscription. Returns 0, or 2 after the message. */
int upcasts_make(const struct arg_texts *given, struct upcasts *out);

/* What is to be ended with, if any. */
int upcasts_exit_code(const struct upcasts *upcasts);

#endif
