/* http.c: GET /metrics, /healthz, /readyz.
 *
 * libmicrohttpd speaks HTTP. It has no thread here: its epoll descriptor is one of the loop's, and http_service() does what there is to do, so
 * pages read the loop's numbers without a lock, and whoever asks slowly costs nobody time. The socket is ours: bound to this host alone, a unix
 * socket with mode 0660 from its first moment on.
 *
 *   a unix socket that is there already   is somebody's who listens: refused. Nobody does: left by who was killed, taken away
 *   limits                                16 connections, 10 s each without a word, 16 KiB of memory for its head; GET and HEAD alone
 *
 * Checked by tests/broker/test_http.c, with real connections. */
#include "http.h"

#include "config.h"
#include "http_address.h"

#include <evbus/evbus.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 16, IDLE_S = 10, HEAD_BYTES = 16384, BACKLOG = 16 };

struct http {
    struct http_pages pages;
    struct MHD_Daemon *daemon;
    struct http_address address;
    dev_t device; /* of the unix socket that is ours to remove */
    ino_t inode;
    char where[300];
};

/* --- pages -------------------------------------------------------------------------------------------------------- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type, const char *text,
                              size_t len)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(len, (void *)(uintptr_t)text,
                                                                    MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return MHD_NO;
    (void)MHD_add_response_header(response, "Content-Type", type);
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(response, "Allow", "GET, HEAD");
    enum MHD_Result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
}

static enum MHD_Result answer_line(struct MHD_Connection *connection, unsigned status, const char *line)
{
    char text[HEALTH_WHY_MAX + 2];
    int len = snprintf(text, sizeof text, "%s\n", line);
    return answer(connection, status, "text/plain; charset=utf-8", text,
                  (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
}

struct written {
    struct MHD_Connection *connection;
    enum MHD_Result queued;
};

static int write_metrics(void *context, const char *text, size_t len)
{
    struct written *written = context;
    written->queued = answer(written->connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, len);
    return EVBUS_OK;
}

static enum MHD_Result answer_metrics(struct http *http, struct MHD_Connection *connection)
{
    struct written written = {.connection = connection, .queued = MHD_NO};
    int rc = http->pages.metrics(http->pages.context, write_metrics, &written);
    return rc == EVBUS_OK ? written.queued : answer_line(connection, MHD_HTTP_SERVICE_UNAVAILABLE, evbus_strerror(rc));
}

static enum MHD_Result serve(void *context, struct MHD_Connection *connection, const char *path, const char *method,
                             const char *version, const char *upload, size_t *upload_len, void **request)
{
    static int is_begun; /* its address marks a request whose head we have seen */
    struct http *http = context;
    char why[HEALTH_WHY_MAX] = "";
    (void)version;
    (void)upload;
    if (*request == NULL) {
        *request = &is_begun;
        return MHD_YES; /* answered now, a request with a body would be cut off */
    }
    if (*upload_len != 0) {
        *upload_len = 0; /* nobody wants it */
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_line(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "there is nothing but GET and HEAD");
    if (strcmp(path, "/metrics") == 0)
        return answer_metrics(http, connection);
    if (strcmp(path, "/healthz") == 0) {
        bool is_alive = http->pages.is_alive(http->pages.context, why);
        return answer_line(connection, is_alive ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, why);
    }
    if (strcmp(path, "/readyz") == 0) {
        bool is_ready = http->pages.is_ready(http->pages.context, why);
        return answer_line(connection, is_ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, why);
    }
    return answer_line(connection, MHD_HTTP_NOT_FOUND, "there are /metrics, /healthz and /readyz");
}

/* --- the socket --------------------------------------------------------------------------------------------------- */

/* Who was killed has left its socket: nobody answers at it. true: the name is free now. */
static bool clear_stale(const struct http_address *address)
{
    struct stat found;
    if (lstat(address->path, &found) != 0 || !S_ISSOCK(found.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* who listens may not accept: EAGAIN */
    bool is_stale = fd >= 0 && connect(fd, (const struct sockaddr *)&address->socket, address->len) != 0 &&
                    errno == ECONNREFUSED;
    if (fd >= 0)
        (void)close(fd);
    return is_stale && unlink(address->path) == 0;
}

static bool bind_to(int fd, const struct http_address *address)
{
    const struct sockaddr *name = (const struct sockaddr *)&address->socket;
    int yes = 1;
    if (address->path[0] == '\0') {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes); /* without: a restart would have to wait */
        return bind(fd, name, address->len) == 0;
    }
    (void)fchmod(fd, 0660); /* what bind() makes has this mode, less the umask: at no time is it everybody's */
    int rc = bind(fd, name, address->len);
    if (rc != 0 && errno == EADDRINUSE) {
        bool is_free = clear_stale(address);
        errno = EADDRINUSE;
        rc = is_free ? bind(fd, name, address->len) : -1;
    }
    return rc == 0 && chmod(address->path, 0660) == 0;
}

static void note_where(struct http *http, int fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    struct stat made;
    char host[INET6_ADDRSTRLEN] = "";
    memset(&name, 0, sizeof name);
    if (http->address.path[0] != '\0') {
        (void)snprintf(http->where, sizeof http->where, "unix:%s", http->address.path);
        if (lstat(http->address.path, &made) == 0) {
            http->device = made.st_dev;
            http->inode = made.st_ino;
        }
        return;
    }
    (void)getsockname(fd, (struct sockaddr *)&name, &len); /* cannot fail: it is bound */
    if (name.ss_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, &name, sizeof six);
        (void)inet_ntop(AF_INET6, &six.sin6_addr, host, sizeof host);
        (void)snprintf(http->where, sizeof http->where, "[%s]:%u", host, (unsigned)ntohs(six.sin6_port));
    } else {
        struct sockaddr_in four;
        memcpy(&four, &name, sizeof four);
        (void)inet_ntop(AF_INET, &four.sin_addr, host, sizeof host);
        (void)snprintf(http->where, sizeof http->where, "%s:%u", host, (unsigned)ntohs(four.sin_port));
    }
}

static int refuse(char why[HTTP_WHY_MAX], const char *address, const char *what)
{
    (void)snprintf(
        why, HTTP_WHY_MAX, "metrics = %s: %s%s", address, what,
        strcmp(what, strerror(EADDRINUSE)) == 0 ? "; another bridge? Give each its own port or socket, or none" : "");
    return EVBUS_EIO;
}

int http_open(struct http **out, const char *address, const struct http_pages *pages, char why[HTTP_WHY_MAX])
{
    char what[CONFIG_PROBLEM_MAX] = "";
    struct http *http = calloc(1, sizeof *http);
    if (http == NULL)
        return refuse(why, address, strerror(ENOMEM));
    http->pages = *pages;
    int rc = EVBUS_OK, fd = -1;
    if (!http_address_read(address, &http->address, what)) {
        rc = refuse(why, address, what);
        goto fail;
    }
    fd = socket(http->address.socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || !bind_to(fd, &http->address) || listen(fd, BACKLOG) != 0) {
        rc = refuse(why, address, strerror(errno));
        goto fail;
    }
    note_where(http, fd);
    http->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, serve, http, MHD_OPTION_LISTEN_SOCKET, fd,
                                    MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                                    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                    (size_t)HEAD_BYTES, MHD_OPTION_END);
    if (http->daemon == NULL) {
        rc = refuse(why, address, "libmicrohttpd does not start");
        goto fail;
    }
    *out = http;
    return EVBUS_OK;
fail:
    if (fd >= 0)
        (void)close(fd);
    http_close(http);
    return rc;
}

/* Removes the socket, if it is still the one that we have made. */
void http_close(struct http *http)
{
    struct stat found;
    if (http == NULL)
        return;
    if (http->daemon != NULL)
        MHD_stop_daemon(http->daemon); /* closes the socket */
    if (http->inode != 0 && lstat(http->address.path, &found) == 0 && found.st_dev == http->device &&
        found.st_ino == http->inode)
        (void)unlink(http->address.path);
    free(http);
}

const char *http_where(const struct http *http)
{
    return http->where;
}

int http_fd(const struct http *http)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return info != NULL ? info->epoll_fd : -1;
}

int http_timeout_ms(const struct http *http)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;
    if (MHD_get_timeout(http->daemon, &ms) != MHD_YES)
        return -1;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

void http_service(struct http *http)
{
    (void)MHD_run(http->daemon); /* fails where its epoll does; then the next one may not */
}
