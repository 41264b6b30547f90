/* redis_conn.c: one connection to a Redis, that nobody waits for.
 *
 *     REST ---> RESOLVE ---> CONNECT ---> HANDSHAKE ---> HELLO ---> CONNECTED ---> READY
 *      ^   time    | addresses   | each one      | TLS       | AUTH,    | what the owner   | used
 *      |           |             | by turns      |           | SELECT   | must know        |
 *      +-----------+-------------+---------------+-----------+----------+------------------+   lose(): why
 *
 * It tries for ever: again after 50 ms, doubled up to 5 s, each time a random part of the second half of it, so that
 * the bridges of many hosts do not come all at once; from 50 ms again once it was READY.
 *
 * Order.     Redis answers in the order of the questions, so what is expected is a queue; a question goes into it in
 *            the same step in which its bytes go into the buffer. lose() takes the whole queue away first, and then answers
 *            all of it by NULL: nothing is answered twice, or of another life.
 * Callbacks  may end the connection in which they are called; whoever goes on behind one looks whether it is still the
 *            same life.
 * Silence.   Where something is expected and nothing comes for reply_timeout, it is lost: a stopped Redis keeps its
 *            sockets open. What counts is that bytes come, or that a long question still goes out. Where nothing is
 *            expected, a PING every 10 s.
 * Caps.      hiredis reads replies, but has no limits: a reply of more than reply_max bytes, an array of more than a
 *            million, or what is no reply, ends the connection.
 *
 * Checked by tests/broker/test_redis_conn.c. */
#include "redis_conn.h"

#include "broker_url.h"
#include "now.h"
#include "redis_error.h"
#include "redis_reply.h"
#include "redis_resolve.h"
#include "redis_tls.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MS           UINT64_C(1000000)
#define DELAY_MIN_NS (50 * MS)
#define DELAY_MAX_NS (5000 * MS)
#define IDLE_NS      (10000 * MS)
#define READ_BYTES   65536
#define READS_MAX    16      /* in one service: others have their turn */
#define ARRAY_MAX    1000000 /* elements */

enum state { REST, RESOLVE, CONNECT, HANDSHAKE, HELLO, CONNECTED, READY };

struct redis_conn {
    struct redis_conn_options options;
    struct redis_conn_callbacks callbacks;
    void *context;
    enum state state;
    uint64_t life;     /* counts connections that were lost */
    uint64_t until_ns; /* REST: when to try; until CONNECTED: when to give up */
    uint64_t delay_ns; /* of the next REST */
    uint64_t alive_ns; /* when something came last, or a question was first there to be answered */
    struct redis_resolve *resolve;
    struct addrinfo *addresses;
    const struct addrinfo *address; /* that is tried */
    int fd;
    struct redis_tls_session *session; /* NULL: no TLS */
    bool is_held;                      /* it stays at REST */
    bool write_waits_for_read;
    bool has_more; /* to read, of which poll() does not know */
    redisReader *reader;
    struct redis_replies replies;
    size_t reply_bytes;       /* of the reply that is not whole yet */
    enum redis_loss loss;     /* how it will be lost */
    enum redis_loss was_lost; /* how it was lost last */
    struct bytes out;
    struct redis_request *expected; /* a ring */
    size_t expected_first, expected_n, expected_cap;
    unsigned hello_left;
};

/* --- what is expected --------------------------------------------------------------------------------------------- */

static bool expect(struct redis_conn *conn, const struct redis_request *request)
{
    if (conn->expected_n == conn->expected_cap) {
        size_t cap = conn->expected_cap > 0 ? conn->expected_cap * 2 : 64;
        struct redis_request *grown = calloc(cap, sizeof *grown);
        if (grown == NULL)
            return false;
        for (size_t i = 0; i < conn->expected_n; i++)
            grown[i] = conn->expected[(conn->expected_first + i) % conn->expected_cap];
        free(conn->expected);
        conn->expected = grown;
        conn->expected_cap = cap;
        conn->expected_first = 0;
    }
    if (conn->expected_n == 0)
        conn->alive_ns = now_ns();
    conn->expected[(conn->expected_first + conn->expected_n++) % conn->expected_cap] = *request;
    return true;
}

static struct redis_request take_expected(struct redis_conn *conn)
{
    struct redis_request first = conn->expected[conn->expected_first];
    conn->expected_first = (conn->expected_first + 1) % conn->expected_cap;
    conn->expected_n--;
    return first;
}

/* --- the end of a connection -------------------------------------------------------------------------------------- */

static uint64_t with_jitter(uint64_t delay_ns)
{
    uint32_t dice = 0;
    if (getrandom(&dice, sizeof dice, GRND_NONBLOCK) != (ssize_t)sizeof dice)
        dice = (uint32_t)now_ns();
    return delay_ns / 2 + delay_ns / 2 * dice / UINT32_MAX;
}

static void close_socket(struct redis_conn *conn)
{
    redis_tls_end(conn->session);
    conn->session = NULL;
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
}

static void take_down(struct redis_conn *conn)
{
    close_socket(conn);
    redis_resolve_end(conn->resolve);
    conn->resolve = NULL;
    if (conn->addresses != NULL)
        freeaddrinfo(conn->addresses);
    conn->addresses = NULL;
    conn->address = NULL;
    if (conn->reader != NULL)
        redisReaderFree(conn->reader);
    conn->reader = NULL;
    bytes_clear(&conn->out);
}

static void lose(struct redis_conn *conn, const char *why)
{
    struct redis_request *expected = conn->expected;
    size_t first = conn->expected_first, n = conn->expected_n, cap = conn->expected_cap;
    char text[EVBUS_ERROR_MAX];
    if (conn->state == REST)
        return;
    snprintf(text, sizeof text, "%s", why); /* it may lie in what goes away now */
    if (conn->state == READY)
        conn->delay_ns = DELAY_MIN_NS;
    take_down(conn);
    conn->state = REST;
    conn->life++;
    conn->until_ns = now_ns() + with_jitter(conn->delay_ns);
    conn->delay_ns = conn->delay_ns < DELAY_MAX_NS / 2 ? conn->delay_ns * 2 : DELAY_MAX_NS;
    conn->was_lost = conn->loss;
    conn->expected = NULL;
    conn->expected_first = conn->expected_n = conn->expected_cap = 0;
    for (size_t i = 0; i < n; i++) {
        const struct redis_request *request = &expected[(first + i) % cap];
        if (request->answer != NULL)
            request->answer(request->context, request->tag, NULL);
    }
    free(expected);
    conn->callbacks.lost(conn->context, text);
}

/* With the address before it, and what helps. */
static void lose_at(struct redis_conn *conn, const char *what, const char *mend)
{
    const struct broker_url *url = conn->options.url;
    char where[160], why[EVBUS_ERROR_MAX];
    if (url->path[0] != '\0')
        snprintf(where, sizeof where, "unix://%.107s", url->path);
    else
        snprintf(where, sizeof where, strchr(url->host, ':') != NULL ? "[%.100s]:%u" : "%.100s:%u", url->host,
                 (unsigned)url->port);
    snprintf(why, sizeof why, "%s: %.240s%s%.100s", where, what, mend != NULL ? "; " : "", mend != NULL ? mend : "");
    lose(conn, why);
}

/* --- connecting --------------------------------------------------------------------------------------------------- */

static void next_address(struct redis_conn *conn, const char *what, const char *mend);
static void begin_hello(struct redis_conn *conn);
static void go_on_shaking_hands(struct redis_conn *conn);

static void go_on(struct redis_conn *conn, enum state state)
{
    conn->state = state;
    conn->until_ns = now_ns() + conn->options.connect_timeout_ns;
}

static const char *mend_of(int number)
{
    switch (number) {
    case ECONNREFUSED:
        return "is Redis running there?";
    case ENOENT:
        return "there is no such socket; look at `unixsocket` in redis.conf";
    case EACCES:
        return "look at `unixsocketperm` in redis.conf and at our groups";
    default:
        return NULL;
    }
}

static void begin_handshake(struct redis_conn *conn)
{
    if (!conn->options.url->is_tls) {
        begin_hello(conn);
        return;
    }
    conn->session = redis_tls_start(conn->options.tls, conn->fd);
    if (conn->session == NULL) {
        lose_at(conn, "no memory for TLS", NULL);
        return;
    }
    go_on(conn, HANDSHAKE);
    go_on_shaking_hands(conn); /* it is for us to begin */
}

/* false: errno. */
static bool start_socket(struct redis_conn *conn, const struct sockaddr *address, socklen_t len)
{
    const int yes = 1, idle_s = 15, interval_s = 5, probes = 3;
    conn->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (conn->fd < 0)
        return false;
    if (address->sa_family != AF_UNIX) { /* none of it is needed to go on */
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        setsockopt(conn->fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
        setsockopt(conn->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
        setsockopt(conn->fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
        setsockopt(conn->fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    }
    if (connect(conn->fd, address, len) == 0) {
        begin_handshake(conn);
        return true;
    }
    if (errno != EINPROGRESS)
        return false;
    go_on(conn, CONNECT);
    return true;
}

static void start_unix(struct redis_conn *conn)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.107s", conn->options.url->path);
    if (!start_socket(conn, (const struct sockaddr *)&address, sizeof address))
        lose_at(conn, strerror(errno), mend_of(errno));
}

static void start_address(struct redis_conn *conn)
{
    if (!start_socket(conn, conn->address->ai_addr, conn->address->ai_addrlen))
        next_address(conn, strerror(errno), mend_of(errno));
}

/* This one was nothing; what is told is of the last. */
static void next_address(struct redis_conn *conn, const char *what, const char *mend)
{
    if (conn->address == NULL || conn->address->ai_next == NULL) {
        lose_at(conn, what, mend);
        return;
    }
    close_socket(conn);
    conn->address = conn->address->ai_next;
    start_address(conn);
}

static void start(struct redis_conn *conn)
{
    char port[8];
    conn->loss = REDIS_LOSS_OTHER;
    go_on(conn, RESOLVE);
    if (conn->options.url->path[0] != '\0') {
        start_unix(conn);
        return;
    }
    snprintf(port, sizeof port, "%u", (unsigned)conn->options.url->port);
    conn->resolve = redis_resolve_start(conn->options.url->host, port);
    if (conn->resolve == NULL)
        lose_at(conn, "no memory, descriptor or thread is left to ask for its address", NULL);
}

static void go_on_resolving(struct redis_conn *conn)
{
    int error = 0;
    if (!redis_resolve_take(conn->resolve, &conn->addresses, &error))
        return;
    if (error != 0) {
        lose_at(conn, gai_strerror(error), "does the host's name stand in DNS or /etc/hosts?");
        return;
    }
    conn->address = conn->addresses;
    start_address(conn);
}

static void go_on_connecting(struct redis_conn *conn)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0)
        begin_handshake(conn);
    else
        next_address(conn, strerror(error), mend_of(error));
}

static void go_on_shaking_hands(struct redis_conn *conn)
{
    char why[EVBUS_ERROR_MAX] = "";
    switch (redis_tls_handshake(conn->session, why)) {
    case REDIS_TLS_OK:
        begin_hello(conn);
        break;
    case REDIS_TLS_WAIT:
        break;
    case REDIS_TLS_END:
        next_address(conn, "it has ended the connection while TLS began", "is its port the one of `tls-port`?");
        break;
    case REDIS_TLS_FAILED:
        next_address(conn, why, NULL);
        break;
    }
}

/* --- being let in ------------------------------------------------------------------------------------------------- */

enum hello { HELLO_AUTH, HELLO_SELECT, HELLO_NAME };

static void hello_answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_conn *conn = context;
    char why[EVBUS_ERROR_MAX];
    if (reply == NULL)
        return;
    bool is_error = reply->type == REDIS_REPLY_ERROR;
    if (is_error && tag == HELLO_NAME &&
        (strncmp(reply->str, "NOPERM", 6) == 0 || strncmp(reply->str, "ERR unknown", 11) == 0))
        is_error = false; /* that we have a name is a courtesy */
    if (is_error && strncmp(reply->str, "ERR AUTH <password> called without", 34) == 0) {
        lose_at(conn, "it wants no password, and we have one", "take password_file away, or set requirepass there");
        return;
    }
    if (is_error) {
        redis_error_tell(reply->str, why);
        lose_at(conn, why, NULL);
        return;
    }
    if (--conn->hello_left > 0)
        return;
    conn->state = CONNECTED;
    conn->callbacks.connected(conn->context);
}

static struct redis_request hello(struct redis_conn *conn, enum hello what)
{
    conn->hello_left++;
    return (struct redis_request){.answer = hello_answered, .context = conn, .tag = what};
}

/* A user without a password may be one: `nopass`. */
static void say_who_we_are(struct redis_conn *conn)
{
    const struct redis_conn_options *options = &conn->options;
    const char *user = options->url->user[0] != '\0' ? options->url->user : options->user;
    struct bytes command = {0};
    if (user[0] == '\0' && options->password_len == 0)
        return;
    redis_format_array(&command, user[0] != '\0' ? 3 : 2);
    redis_format_text(&command, "AUTH", 4);
    if (user[0] != '\0')
        redis_format_text(&command, user, strlen(user));
    redis_format_text(&command, options->password, options->password_len);
    const struct redis_request request = hello(conn, HELLO_AUTH);
    redis_conn_send(conn, &request, &command);
    bytes_free(&command);
}

static void begin_hello(struct redis_conn *conn)
{
    const struct redis_conn_options *options = &conn->options;
    char db[16];
    go_on(conn, HELLO);
    conn->hello_left = 0;
    conn->reply_bytes = 0;
    conn->has_more = false;
    conn->write_waits_for_read = false;
    conn->reader = redis_replies_reader(&conn->replies);
    if (conn->reader == NULL) {
        lose_at(conn, "no memory", NULL);
        return;
    }
    say_who_we_are(conn);
    if (options->url->db != 0) {
        snprintf(db, sizeof db, "%u", (unsigned)options->url->db);
        const struct redis_request select = hello(conn, HELLO_SELECT);
        redis_conn_command(conn, &select, 2, (const char *const[]){"SELECT", db});
    }
    const struct redis_request name = hello(conn, HELLO_NAME);
    redis_conn_command(conn, &name, 3, (const char *const[]){"CLIENT", "SETNAME", options->name});
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

/* false: it is another life, or none. */
static bool give_out_replies(struct redis_conn *conn)
{
    uint64_t life = conn->life;
    for (;;) {
        void *reply = NULL;
        if (redisReaderGetReply(conn->reader, &reply) != REDIS_OK) {
            bool is_large = conn->replies.is_too_large;
            conn->loss = is_large ? REDIS_LOSS_TOO_LARGE : conn->loss;
            lose_at(conn, is_large ? "a reply has more elements than we take" : "what it says is no Redis' reply",
                    is_large ? NULL : "is this a Redis, and the right port?");
            return false;
        }
        if (reply == NULL)
            return true;
        conn->reply_bytes = conn->reader->len - conn->reader->pos;
        if (conn->expected_n == 0) {
            lose_at(conn, "it has answered what nobody asked", "is this a Redis, and the right port?");
            return false;
        }
        struct redis_request request = take_expected(conn);
        if (request.answer != NULL)
            request.answer(request.context, request.tag, reply);
        redis_replies_forget(&conn->replies);
        if (conn->life != life)
            return false;
    }
}

/* >0: bytes; 0: nothing now; -1: it was lost. */
static ssize_t read_some(struct redis_conn *conn, char *into, size_t cap)
{
    char why[EVBUS_ERROR_MAX] = "";
    size_t len = 0;
    enum redis_tls_result result = REDIS_TLS_OK;
    if (conn->session != NULL) {
        result = redis_tls_read(conn->session, into, cap, &len, why);
    } else {
        ssize_t n = recv(conn->fd, into, cap, 0);
        if (n == 0)
            result = REDIS_TLS_END;
        else if (n < 0)
            result = errno == EAGAIN || errno == EINTR ? REDIS_TLS_WAIT : REDIS_TLS_FAILED;
        else
            len = (size_t)n;
        if (result == REDIS_TLS_FAILED)
            snprintf(why, sizeof why, "%s", strerror(errno));
    }
    if (result == REDIS_TLS_OK)
        return (ssize_t)len;
    if (result == REDIS_TLS_WAIT)
        return 0;
    const char *mend = NULL;
    if (conn->state == HELLO)
        mend = conn->session == NULL ? "does it want TLS (rediss://)?" : "has it maxclients already?";
    lose_at(conn, result == REDIS_TLS_END ? "it has ended the connection" : why, mend);
    return -1;
}

static void read_replies(struct redis_conn *conn)
{
    char chunk[READ_BYTES];
    conn->has_more = false;
    conn->write_waits_for_read = false;
    for (unsigned i = 0; i < READS_MAX; i++) {
        ssize_t n = read_some(conn, chunk, sizeof chunk);
        if (n <= 0)
            return;
        conn->alive_ns = now_ns();
        conn->reply_bytes += (size_t)n;
        if (redisReaderFeed(conn->reader, chunk, (size_t)n) != REDIS_OK) {
            lose_at(conn, "no memory for its reply", NULL);
            return;
        }
        if (!give_out_replies(conn))
            return;
        if (conn->reply_bytes > conn->options.reply_max) {
            conn->loss = REDIS_LOSS_TOO_LARGE;
            lose_at(conn, "a reply is larger than we take", NULL);
            return;
        }
        if (conn->session == NULL && (size_t)n < sizeof chunk)
            return;
    }
    conn->has_more = true;
}

static void write_questions(struct redis_conn *conn)
{
    char why[EVBUS_ERROR_MAX] = "";
    if (conn->out.is_broken) {
        lose_at(conn, "no memory for what is to be sent", NULL);
        return;
    }
    while (bytes_len(&conn->out) > 0) {
        size_t len = 0;
        enum redis_tls_result result = REDIS_TLS_OK;
        if (conn->session != NULL) {
            result = redis_tls_write(conn->session, bytes_front(&conn->out), bytes_len(&conn->out), &len, why);
            conn->write_waits_for_read = result == REDIS_TLS_WAIT && !redis_tls_wants_write(conn->session);
        } else {
            ssize_t n = send(conn->fd, bytes_front(&conn->out), bytes_len(&conn->out), MSG_NOSIGNAL);
            if (n >= 0)
                len = (size_t)n;
            else
                result = errno == EAGAIN || errno == EINTR ? REDIS_TLS_WAIT
                         : errno == EPIPE                  ? REDIS_TLS_END
                                                           : REDIS_TLS_FAILED;
            if (result == REDIS_TLS_FAILED)
                snprintf(why, sizeof why, "%s", strerror(errno));
        }
        if (result == REDIS_TLS_WAIT)
            return;
        if (result != REDIS_TLS_OK) {
            lose_at(conn, result == REDIS_TLS_END ? "it has ended the connection" : why, NULL);
            return;
        }
        bytes_eat(&conn->out, len);
        if (bytes_len(&conn->out) > 0) /* it takes it in, and has not the whole question yet */
            conn->alive_ns = now_ns();
    }
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static bool has_begun(const struct redis_conn *conn)
{
    return conn->state == HELLO || conn->state == CONNECTED || conn->state == READY;
}

/* When silence is too long; UINT64_MAX: it may be silent. */
static uint64_t silent_until(const struct redis_conn *conn)
{
    if (conn->expected_n > 0)
        return conn->alive_ns + conn->options.reply_timeout_ns + conn->expected[conn->expected_first].patience_ns;
    return conn->state == READY ? conn->alive_ns + IDLE_NS : UINT64_MAX;
}

bool redis_conn_poll(const struct redis_conn *conn, struct pollfd *out, uint64_t *inout_until_ns)
{
    uint64_t until = UINT64_MAX;
    if (!has_begun(conn) && !(conn->state == REST && conn->is_held))
        until = conn->until_ns;
    if (has_begun(conn) && silent_until(conn) < until)
        until = silent_until(conn);
    if (conn->has_more && has_begun(conn))
        until = 0;
    if (until < *inout_until_ns)
        *inout_until_ns = until;
    *out = (struct pollfd){.fd = conn->fd};
    switch (conn->state) {
    case REST:
        return false;
    case RESOLVE:
        *out = (struct pollfd){.fd = redis_resolve_fd(conn->resolve), .events = POLLIN};
        return true;
    case CONNECT:
        out->events = POLLOUT;
        return true;
    case HANDSHAKE:
        out->events = redis_tls_wants_write(conn->session) ? POLLOUT : POLLIN;
        return true;
    case HELLO:
    case CONNECTED:
    case READY:
        break;
    }
    out->events = POLLIN;
    if ((bytes_len(&conn->out) > 0 && !conn->write_waits_for_read) || conn->out.is_broken ||
        (conn->session != NULL && redis_tls_wants_write(conn->session)))
        out->events |= POLLOUT;
    return true;
}

static void look_at_the_time(struct redis_conn *conn)
{
    uint64_t now = now_ns();
    if (conn->state == REST)
        return;
    if (conn->state == RESOLVE && now >= conn->until_ns) {
        lose_at(conn, "no name server has answered in connect_timeout", NULL);
        return;
    }
    if ((conn->state == CONNECT || conn->state == HANDSHAKE) && now >= conn->until_ns) {
        bool is_tls = conn->state == HANDSHAKE;
        next_address(conn, is_tls ? "TLS is not answered in connect_timeout" : "no answer in connect_timeout",
                     is_tls ? "is its port the one of `tls-port`?" : "is there a firewall between?");
        return;
    }
    if (!has_begun(conn) || now < silent_until(conn))
        return;
    if (conn->expected_n > 0) {
        conn->loss = REDIS_LOSS_SILENT;
        lose_at(conn, "it has not answered in reply_timeout", NULL);
    } else
        redis_conn_command(conn, &(const struct redis_request){0}, 1, (const char *const[]){"PING"});
}

void redis_conn_service(struct redis_conn *conn, short revents)
{
    uint64_t life = conn->life;
    switch (conn->state) {
    case REST:
        if (!conn->is_held && now_ns() >= conn->until_ns)
            start(conn);
        break;
    case RESOLVE:
        go_on_resolving(conn);
        break;
    case CONNECT:
        if (revents != 0)
            go_on_connecting(conn);
        break;
    case HANDSHAKE:
        if (revents != 0)
            go_on_shaking_hands(conn);
        break;
    case HELLO:
    case CONNECTED:
    case READY:
        if (conn->has_more || (revents & (POLLIN | POLLERR | POLLHUP)) != 0 || (conn->session != NULL && revents != 0))
            read_replies(conn);
        break;
    }
    if (conn->life == life && has_begun(conn))
        write_questions(conn);
    if (conn->life == life)
        look_at_the_time(conn);
}

/* --- what the owner calls ----------------------------------------------------------------------------------------- */

void redis_conn_change(struct redis_conn *conn, size_t password_len, uint64_t connect_timeout_ns,
                       uint64_t reply_timeout_ns)
{
    conn->options.password_len = password_len;
    conn->options.connect_timeout_ns = connect_timeout_ns;
    conn->options.reply_timeout_ns = reply_timeout_ns;
}

struct redis_conn *redis_conn_open(const struct redis_conn_options *options,
                                   const struct redis_conn_callbacks *callbacks, void *context)
{
    struct redis_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return NULL;
    conn->options = *options;
    conn->callbacks = *callbacks;
    conn->context = context;
    conn->replies.elements_max = ARRAY_MAX;
    conn->delay_ns = DELAY_MIN_NS;
    conn->fd = -1;
    return conn;
}

void redis_conn_close(struct redis_conn *conn)
{
    if (conn == NULL)
        return;
    take_down(conn);
    redis_replies_free(&conn->replies);
    bytes_free(&conn->out);
    free(conn->expected);
    free(conn);
}

bool redis_conn_is_connected(const struct redis_conn *conn)
{
    return conn->state == CONNECTED || conn->state == READY;
}

bool redis_conn_is_ready(const struct redis_conn *conn)
{
    return conn->state == READY;
}

void redis_conn_ready(struct redis_conn *conn)
{
    if (conn->state == CONNECTED)
        conn->state = READY;
}

void redis_conn_drop(struct redis_conn *conn, const char *why)
{
    lose(conn, why);
}

void redis_conn_hold(struct redis_conn *conn, bool is_held)
{
    conn->is_held = is_held;
}

enum redis_loss redis_conn_loss(const struct redis_conn *conn)
{
    return conn->was_lost;
}

bool redis_conn_send(struct redis_conn *conn, const struct redis_request *request, struct bytes *command)
{
    if (!has_begun(conn))
        return false;
    if (command->is_broken || !expect(conn, request)) {
        conn->out.is_broken = true; /* the next service() ends it, and answers all */
        return false;
    }
    bytes_take(&conn->out, command);
    return true;
}

bool redis_conn_command(struct redis_conn *conn, const struct redis_request *request, size_t n,
                        const char *const *texts)
{
    struct bytes command = {0};
    redis_format_array(&command, n);
    for (size_t i = 0; i < n; i++)
        redis_format_text(&command, texts[i], strlen(texts[i]));
    bool is_sent = redis_conn_send(conn, request, &command);
    bytes_free(&command);
    return is_sent;
}

void redis_conn_push(struct redis_conn *conn)
{
    if (conn->state != READY || conn->session != NULL || conn->out.is_broken || bytes_len(&conn->out) == 0)
        return;
    ssize_t n = send(conn->fd, bytes_front(&conn->out), bytes_len(&conn->out), MSG_NOSIGNAL);
    if (n > 0)
        bytes_eat(&conn->out, (size_t)n);
}

void redis_format_array(struct bytes *out, size_t n)
{
    bytes_print(out, "*%zu\r\n", n);
}

void redis_format_text(struct bytes *out, const char *text, size_t len)
{
    char *to = bytes_room(out, REDIS_TEXT_ROOM(len));
    if (to != NULL)
        bytes_written(out, redis_put_text(to, text, len));
}

void redis_format_number(struct bytes *out, uint64_t number)
{
    char text[DECIMAL_MAX];
    redis_format_text(out, text, (size_t)(decimal_put(text, number) - text));
}
