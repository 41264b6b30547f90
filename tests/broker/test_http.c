/* test_http.c: metrics and health are served on this host alone, to whoever asks well or badly, without a thread. */
#include "http.h"

#include "await.h"
#include "child.h"
#include "config.h"
#include "folder.h"
#include "http_address.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <evbus/evbus.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])

/* --- addresses ----------------------------------------------------------------------------------------------------- */

Test(http, listens_on_addresses_of_this_host_alone)
{
    static const struct {
        const char *text;
        bool is_fine;
    } rows[] = {{"127.0.0.1:9640", true},
                {"127.9.9.9:1", true},
                {"localhost:0", true},
                {"[::1]:65535", true},
                {"unix:/run/x.sock", true},
                {"unix:///run/x.sock", true},
                {"0.0.0.0:9640", false},
                {"10.0.0.5:9640", false},
                {"[::]:9640", false},
                {"[::2]:9640", false},
                {"::1:9640", false},
                {"[::ffff:127.0.0.1]:1", false},
                {"*:9640", false},
                {":9640", false},
                {"9640", false},
                {"127.0.0.1", false},
                {"127.0.0.1:65536", false},
                {"127.0.0.1:-1", false},
                {"127.0.0.1: 1", false},
                {"127.1:9640", false},
                {"example.org:9640", false},
                {"unix:run/x", false},
                {"unix:/", false},
                {"[::1:9640", false},
                {"localhost.evil:1", false},
                {"", false}};
    for (size_t i = 0; i < N(rows); i++) {
        struct http_address address;
        char why[CONFIG_PROBLEM_MAX] = "";
        cr_expect_eq(http_address_read(rows[i].text, &address, why), rows[i].is_fine, "\"%s\": %s", rows[i].text, why);
        cr_expect(rows[i].is_fine || strstr(why, "write 127.0.0.1:9640") != NULL, "\"%s\" without a mend: %s",
                  rows[i].text, why);
    }
    char path[200] = "unix:/";
    struct http_address address;
    char why[CONFIG_PROBLEM_MAX];
    memset(path + 6, 'x', 107);
    cr_assert_not(http_address_read(path, &address, why));
    path[6 + 106] = '\0';
    cr_assert(http_address_read(path, &address, why));
}

/* --- answers ------------------------------------------------------------------------------------------------------- */

static int metrics(void *context, int (*write)(void *write_context, const char *text, size_t len), void *write_context)
{
    return *(int *)context != 0 ? *(int *)context : write(write_context, "a_metric 1\n", 11);
}

static bool is_alive(void *context, char why[HEALTH_WHY_MAX])
{
    (void)context;
    (void)snprintf(why, HEALTH_WHY_MAX, "mirrors");
    return true;
}

static bool is_ready(void *context, char why[HEALTH_WHY_MAX])
{
    (void)context;
    (void)snprintf(why, HEALTH_WHY_MAX, "the broker is away");
    return false;
}

static int fault; /* of metrics() */
static struct http *http;
static char where[400];
static char why_not[CONFIG_PROBLEM_MAX];

static int open_at(const char *address)
{
    return http_open(&http, address, &(struct http_pages){metrics, is_alive, is_ready, &fault}, why_not);
}

static void open_unix(void)
{
    static struct folder folder;
    folder = folder_make();
    snprintf(where, sizeof where, "unix:%s/metrics.sock", folder.path);
    cr_assert_eq(open_at(where), EVBUS_OK, "%s", why_not);
    cr_assert_str_eq(http_where(http), where);
}

static int connected(const char *address)
{
    struct http_address to;
    char why[CONFIG_PROBLEM_MAX];
    cr_assert(http_address_read(address, &to, why));
    int fd = socket(to.socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = connect(fd, (const struct sockaddr *)&to.socket, to.len);
    cr_assert(rc == 0 || errno == EINPROGRESS, "%s: %s", address, strerror(errno));
    return fd;
}

/* One turn of a loop. */
static void turn(void)
{
    int timeout_ms = http_timeout_ms(http);
    struct pollfd fd = {.fd = http_fd(http), .events = POLLIN};
    (void)poll(&fd, 1, timeout_ms >= 0 && timeout_ms < 5 ? timeout_ms : 5);
    http_service(http);
}

static void send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        cr_assert(n > 0 || errno == EAGAIN, "%s", strerror(errno));
        text += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
        turn();
    }
}

/* All that comes until the other end closes. */
static const char *received(int fd)
{
    static char text[20000];
    size_t len = 0;
    ssize_t n = -1;
    bool is_closed = await_that((turn(), n = recv(fd, text + len, sizeof text - 1 - len, 0),
                                 len += n > 0 ? (size_t)n : 0, n == 0 || (n < 0 && errno == ECONNRESET)));
    text[len] = '\0';
    cr_assert(is_closed, "it does not close; so far: %s", text);
    close(fd);
    return text;
}

static const char *asked(const char *request)
{
    char text[600];
    int fd = connected(http_where(http));
    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", request);
    send_all(fd, text, strlen(text));
    return received(fd);
}

static bool answers(const char *request, const char *status, const char *end)
{
    const char *text = asked(request);
    size_t len = strlen(text), end_len = strlen(end);
    bool is_so = strncmp(text, "HTTP/1.1 ", 9) == 0 && strncmp(text + 9, status, 3) == 0 && len >= end_len &&
                 strcmp(text + len - end_len, end) == 0;
    if (!is_so)
        fprintf(stderr, "%s: not %s %s but:\n%s\n", request, status, end, text);
    return is_so;
}

static void answers_well(void)
{
    cr_assert(answers("GET /metrics", "200", "\r\n\r\na_metric 1\n"));
    cr_assert(answers("GET /metrics?x=1", "200", "\r\n\r\na_metric 1\n"));
    cr_assert(answers("HEAD /metrics", "200", "\r\n\r\n"));
    cr_assert(answers("GET /healthz", "200", "\r\n\r\nmirrors\n"));
    cr_assert(answers("GET /readyz", "503", "\r\n\r\nthe broker is away\n"));
    cr_assert(answers("GET /", "404", "/metrics, /healthz and /readyz\n"));
    cr_assert(answers("GET /metrics/", "404", "/metrics, /healthz and /readyz\n"));
    cr_assert(answers("DELETE /metrics", "405", "GET and HEAD\n"));
    cr_assert_not_null(strstr(asked("GET /metrics"), "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    cr_assert_not_null(strstr(asked("PUT /metrics"), "\r\nAllow: GET, HEAD\r\n"));
    fault = EVBUS_ENOSPC;
    cr_assert(answers("GET /metrics", "503", "\n"));
    fault = 0;
}

Test(http, answers_on_a_unix_socket_that_is_not_everybody_s)
{
    struct stat made;
    umask(022);
    open_unix();
    cr_assert_eq(stat(where + 5, &made), 0);
    cr_assert_eq(made.st_mode & 07777, 0660);
    answers_well();
    http_close(http);
    cr_assert_neq(stat(where + 5, &made), 0, "its name goes with it");
}

Test(http, answers_on_loopback)
{
    cr_assert_eq(open_at("127.0.0.1:0"), EVBUS_OK, "%s", why_not);
    cr_assert_eq(strncmp(http_where(http), "127.0.0.1:", 10), 0);
    cr_assert_str_neq(http_where(http), "127.0.0.1:0", "it says which port was free");
    answers_well();
    http_close(http);
}

Test(http, answers_on_loopback_of_ipv6)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct http_address address;
    if (fd < 0 || !http_address_read("[::1]:0", &address, why_not) ||
        bind(fd, (const struct sockaddr *)&address.socket, address.len) != 0)
        cr_skip_test("this host has no IPv6");
    close(fd);
    cr_assert_eq(open_at("[::1]:0"), EVBUS_OK, "%s", why_not);
    answers_well();
    http_close(http);
}

Test(http, takes_a_body_and_leaves_it_alone)
{
    static char body[100000];
    char head[200];
    open_unix();
    int fd = connected(where);
    memset(body, 'x', sizeof body);
    snprintf(head, sizeof head, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
             sizeof body);
    send_all(fd, head, strlen(head));
    send_all(fd, body, sizeof body);
    cr_assert_eq(strncmp(received(fd), "HTTP/1.1 405", 12), 0);
    http_close(http);
}

Test(http, survives_whoever_does_not_speak_http)
{
    static char bytes[5000];
    unsigned seed = 7;
    open_unix();
    for (size_t round = 0; round < 100; round++) {
        size_t len = 1 + (size_t)rand_r(&seed) % sizeof bytes;
        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)rand_r(&seed);
        int fd = connected(where);
        (void)!send(fd, bytes, len, MSG_NOSIGNAL);
        turn();
        close(fd);
        turn();
    }
    cr_assert(answers("GET /healthz", "200", "mirrors\n"));
    http_close(http);
}

Test(http, serves_others_while_one_says_nothing)
{
    open_unix();
    int silent = connected(where), slow = connected(where);
    send_all(slow, "GET /met", 8);
    cr_assert(answers("GET /healthz", "200", "mirrors\n"));
    static const char rest[] = "rics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    send_all(slow, rest, sizeof rest - 1);
    cr_assert_not_null(strstr(received(slow), "a_metric 1\n"));
    close(silent);
    http_close(http);
}

Test(http, refuses_what_another_one_serves)
{
    struct http *first;
    open_unix();
    first = http;
    cr_assert_eq(open_at(where), EVBUS_EIO);
    cr_assert_not_null(strstr(why_not, "another bridge?"), "%s", why_not);
    http = first;
    cr_assert(answers("GET /healthz", "200", "mirrors\n"), "it was left alone");
    http_close(first);
    cr_assert_eq(open_at("127.0.0.1:0"), EVBUS_OK);
    first = http;
    cr_assert_eq(open_at(http_where(first)), EVBUS_EIO);
    http_close(first);
}

Test(http, refuses_what_another_one_serves_who_hangs)
{
    struct folder folder = folder_make();
    struct http_address address;
    snprintf(where, sizeof where, "unix:%s/metrics.sock", folder.path);
    cr_assert(http_address_read(where, &address, why_not));
    const struct sockaddr *name = (const struct sockaddr *)&address.socket;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(bind(listener, name, address.len) == 0 && listen(listener, 0) == 0);
    while (connect(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), name, address.len) == 0)
        ; /* until nobody more can wait there */
    cr_assert_eq(errno, EAGAIN);
    cr_assert_eq(open_at(where), EVBUS_EIO);
    cr_assert_eq(access(where + 5, F_OK), 0, "it was left alone");
}

static int be_killed(void *context)
{
    (void)context;
    if (open_at(where) != EVBUS_OK)
        return 1;
    kill(getpid(), SIGKILL);
    return 2;
}

Test(http, takes_the_place_of_one_that_was_killed)
{
    struct folder folder = folder_make();
    snprintf(where, sizeof where, "unix:%s/metrics.sock", folder.path);
    struct child child = child_start(be_killed, NULL);
    cr_assert_eq(child_join(&child), 128 + SIGKILL);
    cr_assert_eq(access(where + 5, F_OK), 0, "it has left its socket");
    cr_assert_eq(open_at(where), EVBUS_OK, "%s", why_not);
    cr_assert(answers("GET /healthz", "200", "mirrors\n"));
    http_close(http);
}

Test(http, removes_no_file_that_is_no_socket)
{
    struct folder folder = folder_make();
    char path[300];
    snprintf(path, sizeof path, "%s/file", folder.path);
    folder_put(path, 0, "x", 1);
    snprintf(where, sizeof where, "unix:%s", path);
    cr_assert_eq(open_at(where), EVBUS_EIO);
    cr_assert_eq(folder_len(path), 1);
    snprintf(where, sizeof where, "unix:%s/no/folder", folder.path);
    cr_assert_eq(open_at(where), EVBUS_EIO);
    cr_assert_not_null(strstr(why_not, "No such file"), "%s", why_not);
}

Test(http, removes_no_socket_that_has_taken_its_place)
{
    open_unix();
    struct http *first = http;
    cr_assert_eq(unlink(where + 5), 0);
    cr_assert_eq(open_at(where), EVBUS_OK, "%s", why_not);
    http_close(first);
    cr_assert(answers("GET /healthz", "200", "mirrors\n"));
    http_close(http);
}

Test(http, closes_all_that_it_has_opened)
{
    int before = folder_descriptors();
    open_unix();
    int fd = connected(where);
    turn();
    http_close(http);
    close(fd);
    cr_assert_eq(folder_descriptors(), before);
}
