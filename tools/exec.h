/* exec.h: a shell command as the handler of an event. See exec.c. */
#ifndef EVBUS_TOOLS_EXEC_H
#define EVBUS_TOOLS_EXEC_H

#include <evbus/evbus.h>

/* How long a running command may take when we are asked to stop, where nothing else is said. */
#define EXEC_STOP_TIMEOUT_NS UINT64_C(25000000000)

/* How it ended, and why, for the dead letter; "" when it ended well. */
struct exec_result {
    enum evbus_outcome outcome;
    uint64_t defer_ns; /* EVBUS_DEFER: for how long; 0: it has not said */
    bool is_missing;   /* there was nothing that could be run: not the event's fault */
    char error[EVBUS_ERROR_MAX + 1];
};

/* Runs `/bin/sh -c command` with the event's envelope on its standard input, and waits for its end. Returns 0; or the
 * exit code after the message, when it could not be run; or EXIT_TRY_AGAIN without one, when we were asked to stop at
 * once, or stop_timeout_ns before: then it is killed. The result is EVBUS_RELEASE in both. */
int exec_command(const char *command, const struct evbus_delivery *event, const char *envelope, size_t envelope_len,
                 uint64_t stop_timeout_ns, struct exec_result *out_result);

/* Likewise, with a payload on its standard input and EVBUS_VERSION in its environment. Where it is DONE, what it printed is *out_text, to
 * be freed; a NUL stands behind it. */
int exec_filter(const char *command, const struct evbus_version *from, char **out_text, size_t *out_len,
                struct exec_result *out_result);

#endif
