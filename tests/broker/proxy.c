/* proxy.c: between a bridge and its Redis. See proxy.h.
 *
 * One process, one loop. A direction of a connection is a buffer: it is read when it is empty, and written when its
 * time has come; so bytes are counted one by one, and a cut is exact: what lies before it has been written, what lies
 * behind it never is. */
#include "proxy.h"

#include "await.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16
#define CHUNK_BYTES     65536

enum { REQUESTS, REPLIES };

struct proxy_control {
    _Atomic uint64_t passed[2];
    _Atomic uint64_t left[2]; /* until the cut; UINT64_MAX: there is none */
    _Atomic uint64_t n_cuts;
    _Atomic uint64_t delay_ms;
    _Atomic bool does_swallow;
};

struct flow {
    char bytes[CHUNK_BYTES];
    size_t start, end;
    uint64_t due_ms;
    bool is_ended; /* its source has said all */
};

struct connection {
    int fds[2]; /* the bridge's, the server's */
    struct flow flows[2];
};

static struct connection connections[CONNECTIONS_MAX];
static int listener;
static char to_path[108];

static bool connect_through(int from)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int to = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", to_path);
    if (to < 0 || connect(to, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (to >= 0)
            close(to);
        return false;
    }
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (connections[i].fds[0] < 0) {
            memset(connections[i].flows, 0, sizeof connections[i].flows);
            connections[i].fds[0] = from;
            connections[i].fds[1] = to;
            return true;
        }
    close(to);
    return false;
}

static void end_connection(struct connection *connection)
{
    for (size_t i = 0; i < 2 && connection->fds[i] >= 0; i++) {
        close(connection->fds[i]);
        connection->fds[i] = -1;
    }
}

/* Told before it is done: whoever sees an end may say where the next one is to be. */
static void cut_all(struct proxy_control *control)
{
    atomic_store(&control->left[REQUESTS], UINT64_MAX);
    atomic_store(&control->left[REPLIES], UINT64_MAX);
    atomic_fetch_add(&control->n_cuts, 1);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        end_connection(&connections[i]);
}

static void take_in(struct proxy_control *control, struct flow *flow, int from)
{
    ssize_t n = recv(from, flow->bytes, sizeof flow->bytes, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        flow->is_ended = true;
    if (n <= 0)
        return;
    flow->start = 0;
    flow->end = (size_t)n;
    flow->due_ms = await_now_ms() + atomic_load(&control->delay_ms);
}

/* false: a cut. */
static bool pass_on(struct proxy_control *control, struct flow *flow, int to, int direction)
{
    uint64_t left = atomic_load(&control->left[direction]);
    size_t len = flow->end - flow->start;
    if (left < len)
        len = (size_t)left;
    ssize_t n = len > 0 ? send(to, flow->bytes + flow->start, len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            flow->is_ended = true;
            flow->start = flow->end = 0;
        }
        return true;
    }
    flow->start += (size_t)n;
    atomic_fetch_add(&control->passed[direction], (uint64_t)n);
    if (left == UINT64_MAX)
        return true;
    /* unless the test has just said another */
    return !atomic_compare_exchange_strong(&control->left[direction], &left, left - (uint64_t)n) || left > (uint64_t)n;
}

static void serve(struct proxy_control *control, struct connection *connection)
{
    for (int direction = REQUESTS; direction <= REPLIES; direction++) {
        struct flow *flow = &connection->flows[direction];
        if (connection->fds[0] < 0)
            return;
        if (flow->start == flow->end && !flow->is_ended)
            take_in(control, flow, connection->fds[direction == REQUESTS ? 0 : 1]);
        if (flow->start < flow->end && await_now_ms() >= flow->due_ms &&
            !pass_on(control, flow, connection->fds[direction == REQUESTS ? 1 : 0], direction)) {
            cut_all(control);
            return;
        }
        if (flow->is_ended && flow->start == flow->end)
            end_connection(connection);
    }
}

static void wait_for_any(struct proxy_control *control)
{
    struct pollfd fds[1 + 2 * CONNECTIONS_MAX] = {{.fd = listener, .events = POLLIN}};
    nfds_t n = 1;
    bool does_swallow = atomic_load(&control->does_swallow);
    for (size_t i = 0; i < CONNECTIONS_MAX && !does_swallow; i++)
        for (int direction = REQUESTS; direction <= REPLIES; direction++) {
            const struct flow *flow = &connections[i].flows[direction];
            bool is_empty = flow->start == flow->end;
            if (connections[i].fds[0] < 0 || (!is_empty && await_now_ms() < flow->due_ms))
                continue;
            int from = direction == REQUESTS ? 0 : 1;
            fds[n++] = (struct pollfd){.fd = connections[i].fds[is_empty ? from : 1 - from],
                                       .events = is_empty ? POLLIN : POLLOUT};
        }
    poll(fds, n, 1); /* what is due, and what the test says, is looked at each millisecond */
}

static int be_proxy(void *context)
{
    struct proxy_control *control = context;
    for (;;) {
        wait_for_any(control);
        int from = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (from >= 0 && !connect_through(from))
            close(from);
        if (atomic_load(&control->does_swallow))
            continue;
        if (atomic_load(&control->left[REPLIES]) == 0 || atomic_load(&control->left[REQUESTS]) == 0)
            cut_all(control);
        for (size_t i = 0; i < CONNECTIONS_MAX; i++)
            if (connections[i].fds[0] >= 0)
                serve(control, &connections[i]);
    }
    return 0;
}

struct proxy proxy_start(const char *dir, const char *to)
{
    struct proxy proxy = {.control = child_shared(sizeof *proxy.control)};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/proxy.sock", dir);
    snprintf(proxy.url, sizeof proxy.url, "unix://%s", address.sun_path);
    snprintf(to_path, sizeof to_path, "%s", to);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_geq(listener, 0);
    cr_assert_eq(bind(listener, (const struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(listener, 16), 0);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        connections[i].fds[0] = connections[i].fds[1] = -1;
    atomic_store(&proxy.control->left[REQUESTS], UINT64_MAX);
    atomic_store(&proxy.control->left[REPLIES], UINT64_MAX);
    proxy.child = child_start(be_proxy, proxy.control);
    close(listener);
    return proxy;
}

void proxy_end(struct proxy *proxy)
{
    child_kill(&proxy->child);
}

void proxy_cut_replies(struct proxy *proxy, uint64_t n)
{
    atomic_store(&proxy->control->n_cuts, 0);
    atomic_store(&proxy->control->left[REPLIES], n);
}

void proxy_cut_requests(struct proxy *proxy, uint64_t n)
{
    atomic_store(&proxy->control->n_cuts, 0);
    atomic_store(&proxy->control->left[REQUESTS], n);
}

bool proxy_has_cut(const struct proxy *proxy)
{
    return atomic_load(&proxy->control->n_cuts) > 0;
}

uint64_t proxy_replies(const struct proxy *proxy)
{
    return atomic_load(&proxy->control->passed[REPLIES]);
}

uint64_t proxy_requests(const struct proxy *proxy)
{
    return atomic_load(&proxy->control->passed[REQUESTS]);
}

void proxy_delay(struct proxy *proxy, uint64_t ms)
{
    atomic_store(&proxy->control->delay_ms, ms);
}

void proxy_swallow(struct proxy *proxy, bool does)
{
    atomic_store(&proxy->control->does_swallow, does);
}
