/* notify.c: what the service manager is told: sd_notify(3)'s protocol, which is a datagram of NAME=VALUE lines to the socket that
 * $NOTIFY_SOCKET names. So short that a library for it would be longer.
 *
 *     (start) STATUS= EXTEND_TIMEOUT_USEC=  ->  READY=1  ->  RELOADING=1 MONOTONIC_USEC=  ->  READY=1  ->  STOPPING=1
 *
 * WATCHDOG=1 comes from the loop, each time after half of what $WATCHDOG_USEC grants: from a thread of its own it would be told as well while
 * the loop hangs. Nothing waits: who does not take our datagrams misses them, and must not stop the bridge by that.
 * Source: sd_notify(3), sd_watchdog_enabled(3). Checked by tests/broker/test_notify.c. */
#include "notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t read_number(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    if (text == NULL || *text < '0' || *text > '9')
        return 0;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' ? number : 0;
}

static void send_text(const struct notify *notify, const char *text)
{
    if (notify->fd < 0)
        return;
    ssize_t sent = sendto(notify->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)&notify->address, notify->address_len);
    (void)sent; /* there is nobody to be told that */
}

void notify_open(struct notify *out)
{
    struct notify notify = {.fd = -1};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t len = path != NULL ? strlen(path) : 0;
    if (len > 1 && len < sizeof notify.address.sun_path && (*path == '/' || *path == '@')) {
        notify.address.sun_family = AF_UNIX;
        memcpy(notify.address.sun_path, path, len);
        if (*path == '@')
            notify.address.sun_path[0] = '\0'; /* an abstract one */
        notify.address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
        notify.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    }
    uint64_t usec = read_number("WATCHDOG_USEC"), pid = read_number("WATCHDOG_PID");
    bool is_ours = getenv("WATCHDOG_PID") == NULL || pid == (uint64_t)getpid();
    if (notify.fd >= 0 && is_ours && usec <= UINT64_MAX / 1000)
        notify.watchdog_ns = usec * 1000;
    (void)unsetenv("NOTIFY_SOCKET"); /* cannot fail: they are names */
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    *out = notify;
}

void notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        (void)close(notify->fd);
    notify->fd = -1;
    notify->watchdog_ns = 0;
}

void notify_ready(struct notify *notify)
{
    send_text(notify, "READY=1");
}

void notify_reloading(struct notify *notify)
{
    char text[80];
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail: it exists */
    (void)snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                   (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
    send_text(notify, text);
}

void notify_stopping(struct notify *notify)
{
    send_text(notify, "STOPPING=1");
}

void notify_starting(struct notify *notify, uint64_t more_ns)
{
    char text[64];
    (void)snprintf(text, sizeof text, "EXTEND_TIMEOUT_USEC=%" PRIu64, more_ns / 1000);
    send_text(notify, text);
}

void notify_status(struct notify *notify, const char *format, ...)
{
    char text[sizeof notify->status], line[sizeof text + 8];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20)
            *at = ' '; /* a newline would begin another variable */
    if (strcmp(text, notify->status) == 0)
        return;
    memcpy(notify->status, text, sizeof text);
    (void)snprintf(line, sizeof line, "STATUS=%s", text);
    send_text(notify, line);
}

int notify_watchdog(struct notify *notify, uint64_t now_ns)
{
    if (notify->watchdog_ns == 0)
        return -1;
    if (now_ns >= notify->watchdog_due_ns) {
        send_text(notify, "WATCHDOG=1");
        notify->watchdog_due_ns = now_ns + notify->watchdog_ns / 2;
    }
    return (int)((notify->watchdog_due_ns - now_ns) / 1000000 + 1);
}
