/* notify.h: what the service manager is told. See notify.c. */
#ifndef EVBUS_BRIDGE_NOTIFY_H
#define EVBUS_BRIDGE_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1: nobody wants to know */
    struct sockaddr_un address;
    socklen_t address_len;
    uint64_t watchdog_ns; /* how often it wants to hear of us; 0: not at all */
    uint64_t watchdog_due_ns;
    char status[256]; /* as told last */
};

/* Looks into the environment, and takes out what is there for us alone. */
void notify_open(struct notify *out);
void notify_close(struct notify *notify);

/* We have come up, or have reloaded; each is told at once. */
void notify_ready(struct notify *notify);
void notify_reloading(struct notify *notify);
void notify_stopping(struct notify *notify);

/* We are not up yet, and need up to so long for the next step. */
void notify_starting(struct notify *notify, uint64_t more_ns);

/* One line for `systemctl status`; told when it is another one than before. */
__attribute__((format(printf, 2, 3))) void notify_status(struct notify *notify, const char *format, ...);

/* From a loop's every turn: tells the watchdog that the loop turns, when it is time to. Returns in how many ms it is; -1: there is none. */
int notify_watchdog(struct notify *notify, uint64_t now_ns);

#endif
