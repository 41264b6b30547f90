/* redis.c: a Redis of the test's own. See redis.h. */
#include "redis.h"

#include "await.h"
#include "folder.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* One that nobody has now. Whoever takes it before our server does makes that end at once, and we choose again. */
/* Below those that the kernel gives out: nobody takes it before the server does, but by chance; and a Cluster's second port is 10,000 above. */
static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (unsigned i = 0; i < 100; i++) {
        uint16_t number = 0;
        cr_assert_eq(getrandom(&number, sizeof number, 0), (ssize_t)sizeof number);
        address.sin_port = htons((uint16_t)(20000 + number % 12000));
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool is_free = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
        if (is_free)
            break;
    }
    return ntohs(address.sin_port);
}

const char *redis_server_file(const struct redis_server *server, const char *name)
{
    static char path[2][200];
    static unsigned turn;
    char *out = path[turn++ % 2];
    snprintf(out, sizeof path[0], "%s/%s", server->dir, name);
    return out;
}

void redis_server_configure(const struct redis_server *server, const char *lines)
{
    FILE *file = fopen(redis_server_file(server, "redis.conf"), "we");
    cr_assert_not_null(file);
    fprintf(file, "dir %s\nunixsocket %s\nsave \"\"\ndaemonize no\nlogfile %s/log\nbind 127.0.0.1\n", server->dir,
            server->socket, server->dir);
    if (!server->is_tls)
        fprintf(file, "port %u\n", (unsigned)server->port);
    else
        fprintf(file,
                "port 0\ntls-port %u\ntls-ca-cert-file %s/ca.crt\ntls-cert-file %s/server.crt\ntls-key-file "
                "%s/server.key\n",
                (unsigned)server->port, server->dir, server->dir, server->dir);
    fprintf(file, "%s\n", lines != NULL ? lines : "");
    cr_assert_eq(fclose(file), 0);
}

static int be_server(void *context)
{
    const struct redis_server *server = context;
    char path[200];
    snprintf(path, sizeof path, "%s/redis.conf", server->dir);
    execlp("redis-server", "redis-server", path, server->is_sentinel ? "--sentinel" : (char *)NULL, (char *)NULL);
    return 127;
}

static redisContext *connect_to(const struct redis_server *server)
{
    redisContext *redis = redisConnectUnix(server->socket);
    if (redis != NULL && redis->err != 0) {
        redisFree(redis);
        return NULL;
    }
    return redis;
}

static bool answers(const struct redis_server *server)
{
    redisContext *redis = connect_to(server);
    if (redis == NULL)
        return false;
    redisReply *reply = redisCommand(redis, "PING");
    bool does = reply != NULL;
    freeReplyObject(reply);
    redisFree(redis);
    return does;
}

static void show_log(const struct redis_server *server)
{
    char line[300];
    FILE *file = fopen(redis_server_file(server, "log"), "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        fprintf(stderr, "redis: %s", line);
    if (file != NULL)
        fclose(file);
}

void redis_server_launch(struct redis_server *server)
{
    unlink(
        server
            ->socket); /* a killed one leaves it: it would refuse connections, which is another story than no socket */
    server->child = child_start(be_server, server);
}

static bool try_start(struct redis_server *server)
{
    bool is_running = true;
    redis_server_launch(server);
    bool does = await_that(answers(server) || !(is_running = child_is_running(&server->child)));
    return does && is_running;
}

void redis_server_again(struct redis_server *server)
{
    if (!try_start(server)) {
        show_log(server);
        cr_assert_fail("redis-server did not start again; is it installed? (Debian: redis-server)");
    }
}

static void make_folder(struct redis_server *server)
{
    struct folder folder = folder_make();
    snprintf(server->dir, sizeof server->dir, "%.100s", folder.path);
    snprintf(server->socket, sizeof server->socket, "%s/redis.sock", server->dir);
    snprintf(server->url, sizeof server->url, "unix://%s", server->socket);
}

static void start(struct redis_server *server, bool has_port, const char *lines)
{
    for (unsigned i = 0; i < 5; i++) {
        server->port = has_port ? free_port() : 0;
        redis_server_configure(server, lines);
        if (try_start(server))
            return;
    }
    show_log(server);
    cr_assert_fail("redis-server did not start; is it installed? (Debian: redis-server)");
}

struct redis_server redis_server_start(const char *lines)
{
    struct redis_server server = {0};
    make_folder(&server);
    start(&server, false, lines);
    return server;
}

struct redis_server redis_server_start_tcp(const char *lines)
{
    struct redis_server server = {0};
    make_folder(&server);
    start(&server, true, lines);
    return server;
}

/* It writes into its folder at any time: it must be gone before that is removed. */
static struct child sentinels[4];
static size_t n_sentinels;
static pid_t started_by;

static void end_sentinels(void)
{
    for (size_t i = 0; i < n_sentinels && started_by == getpid(); i++)
        if (child_is_running(&sentinels[i]))
            child_kill(&sentinels[i]);
}

struct redis_server redis_server_start_sentinel(const char *lines)
{
    struct redis_server server = {.is_sentinel = true};
    make_folder(&server);
    start(&server, true, lines);
    if (n_sentinels == 0) { /* behind folder.c's, so it comes before that at the end */
        started_by = getpid();
        atexit(end_sentinels);
    }
    cr_assert_lt(n_sentinels, sizeof sentinels / sizeof sentinels[0]);
    sentinels[n_sentinels++] = server.child;
    return server;
}

/* --- TLS ---------------------------------------------------------------------------------------------------------- */

static void make_certificate(const struct redis_server *server, const char *name, const char *ca, const char *more)
{
    char command[1200], signer[400] = "";
    if (ca != NULL)
        snprintf(signer, sizeof signer, "-CA %s/%s.crt -CAkey %s/%s.key", server->dir, ca, server->dir, ca);
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=evbus-%s "
             "-keyout %s/%s.key "
             "-out %s/%s.crt %s %s 2>%s/openssl.log",
             name, server->dir, name, server->dir, name, signer, more, server->dir);
    cr_assert_eq(system(command), 0, "%s", command);
}

struct redis_server redis_server_start_tls(bool needs_client)
{
    struct redis_server server = {.is_tls = true};
    make_folder(&server);
    make_certificate(&server, "ca", NULL, "");
    make_certificate(&server, "other-ca", NULL, "");
    make_certificate(&server, "server", "ca", "-addext subjectAltName=DNS:localhost,IP:127.0.0.1");
    make_certificate(&server, "client", "ca", "");
    start(&server, true, needs_client ? "tls-auth-clients yes" : "tls-auth-clients no");
    return server;
}

/* --- its life ----------------------------------------------------------------------------------------------------- */

void redis_server_kill(struct redis_server *server)
{
    child_kill(&server->child);
}

void redis_server_stop(struct redis_server *server)
{
    kill(server->child.pid, SIGTERM);
    cr_assert_eq(child_join(&server->child), 0, "redis-server did not end");
}

void redis_server_pause(struct redis_server *server)
{
    child_stop(&server->child);
}

void redis_server_continue(struct redis_server *server)
{
    child_continue(&server->child);
}

/* --- what it says ------------------------------------------------------------------------------------------------- */

static char answer[1 << 20];

static size_t print_reply(const redisReply *reply, size_t at)
{
    size_t cap = sizeof answer - at;
    int n = 0;
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        n = snprintf(answer + at, cap, "%lld", reply->integer);
        break;
    case REDIS_REPLY_NIL:
        n = snprintf(answer + at, cap, "(nil)");
        break;
    case REDIS_REPLY_ERROR:
        n = snprintf(answer + at, cap, "(error) %s", reply->str);
        break;
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < reply->elements; i++) {
            if (i > 0 && at < sizeof answer - 1)
                answer[at++] = ' ';
            at = print_reply(reply->element[i], at);
        }
        answer[at] = '\0';
        return at;
    default:
        n = snprintf(answer + at, cap, "%s", reply->str);
        break;
    }
    cr_assert_lt((size_t)n, cap, "an answer of more than a test wants to look at");
    return at + (size_t)n;
}

/* Into words: divided by blanks, or between double quotes. */
static int split(char *command, const char **words, int cap)
{
    int n = 0;
    for (char *at = command; *at != '\0';) {
        char end = ' ';
        if (*at == ' ') {
            at++;
            continue;
        }
        if (*at == '"') {
            end = '"';
            at++;
        }
        cr_assert_lt(n, cap);
        words[n++] = at;
        at = strchrnul(at, end);
        if (*at != '\0')
            *at++ = '\0';
    }
    return n;
}

static redisReply *run(const struct redis_server *server, const char *command)
{
    const char *words[64];
    char copy[2000];
    redisContext *redis = connect_to(server);
    cr_assert_not_null(redis, "no connection for %s", command);
    snprintf(copy, sizeof copy, "%s", command);
    redisReply *reply = redisCommandArgv(redis, split(copy, words, 64), words, NULL);
    cr_assert_not_null(reply, "%s: %s", command, redis->errstr);
    redisFree(redis);
    return reply;
}

const char *redis_server_ask(const struct redis_server *server, const char *format, ...)
{
    char command[2000];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    redisReply *reply = run(server, command);
    print_reply(reply, 0);
    freeReplyObject(reply);
    return answer;
}

long long redis_server_number(const struct redis_server *server, const char *format, ...)
{
    char command[2000];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    redisReply *reply = run(server, command);
    cr_assert_eq(reply->type, REDIS_REPLY_INTEGER, "%s: no number: %s", command, reply->str);
    long long number = reply->integer;
    freeReplyObject(reply);
    return number;
}

const char *redis_server_add_large(const struct redis_server *server, const char *stream, size_t payload_len)
{
    redisContext *redis = connect_to(server);
    cr_assert_not_null(redis);
    char *payload = malloc(payload_len);
    cr_assert_not_null(payload);
    memset(payload, 'x', payload_len);
    redisReply *reply = redisCommand(redis, "XADD %s * payload %b", stream, payload, payload_len);
    cr_assert_not_null(reply, "%s", redis->errstr);
    cr_assert_eq(reply->type, REDIS_REPLY_STRING, "%s", reply->str);
    print_reply(reply, 0);
    freeReplyObject(reply);
    redisFree(redis);
    free(payload);
    return answer;
}

const char *redis_server_fields(const struct redis_server *server, const char *stream, const char *field)
{
    char command[300];
    size_t at = 0;
    snprintf(command, sizeof command, "XRANGE %s - +", stream);
    redisReply *reply = run(server, command);
    cr_assert_eq(reply->type, REDIS_REPLY_ARRAY, "%s: %s", command, reply->str);
    answer[0] = '\0';
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *pairs = reply->element[i]->element[1];
        for (size_t k = 0; k + 1 < pairs->elements; k += 2)
            if (strcmp(pairs->element[k]->str, field) == 0)
                at += (size_t)snprintf(answer + at, sizeof answer - at, "%s%s", at > 0 ? " " : "",
                                       pairs->element[k + 1]->str);
    }
    freeReplyObject(reply);
    return answer;
}

static int be_busy(void *context)
{
    redisContext *redis = connect_to(context);
    redisReply *reply = redis != NULL ? redisCommand(redis, "EVAL %s 0", "while true do end") : NULL;
    return reply != NULL ? 0 : 1;
}

struct child redis_server_keep_busy(const struct redis_server *server)
{
    static struct redis_server copy;
    copy = *server;
    return child_start(be_busy, &copy);
}
