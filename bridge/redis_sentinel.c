/* redis_sentinel.c: where the master is, as sentinels know it.
 *
 *     connect to one of them  -->  SENTINEL get-master-addr-by-name NAME  -->  found()
 *          ^                             ^   each second, and when asked          |
 *          | lost, or it does not know it:                                        |
 *          +-- the next one              +----------------------------------------+
 *
 * One connection, to one sentinel, as any other (redis_conn.c): nobody waits for it, and it tries for ever. It is kept, and
 * asked again each second: behind a failover the old master may live on for ten seconds or more before a sentinel tells
 * it that it is none any more, and what is appended there meanwhile is lost; so who is connected must hear of it. Only
 * an answer makes the connection READY: with sentinels that know nothing of the master the tries become rarer, too.
 *
 * What a sentinel says may be stale: it was cut off, or the failover goes on just now. Whoever connects there finds a
 * replica, or nobody, and asks again; so the answer is a hint, and whether it is the master that one tells itself (backend_redis.c).
 *
 * Sentinels are asked without a password and without TLS. Checked by tests/broker/test_redis_sentinel.c. */
#include "redis_sentinel.h"

#include "now.h"
#include "redis_conn.h"
#include "redis_error.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_AGAIN_NS UINT64_C(1000000000)
#define REPLY_MAX    65536

struct redis_sentinel {
    const struct broker_url *sought;
    struct broker_url url; /* of the sentinel whose turn it is */
    size_t turn;
    struct redis_conn *conn;
    struct redis_sentinel_callbacks callbacks;
    void *context;
    bool is_asking;
    bool is_doubted; /* its connection is ended by us: that is no news */
    uint64_t ask_at_ns;
};

static void take_turn(struct redis_sentinel *sentinel)
{
    const struct broker_address *one = &sentinel->sought->sentinels[sentinel->turn % sentinel->sought->n_sentinels];
    memcpy(sentinel->url.host, one->host, sizeof sentinel->url.host);
    sentinel->url.port = one->port;
}

/* [host, port]. false: it is something else. */
static bool take_address(const struct redisReply *reply, struct broker_address *out)
{
    unsigned port;
    char end;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
        return false;
    const struct redisReply *host = reply->element[0], *number = reply->element[1];
    if (host->type != REDIS_REPLY_STRING || number->type != REDIS_REPLY_STRING || host->len == 0 ||
        host->len >= sizeof out->host || strlen(host->str) != host->len || number->len > 5 ||
        sscanf(number->str, "%u%c", &port, &end) != 1 || port == 0 || port > UINT16_MAX)
        return false;
    memcpy(out->host, host->str, host->len + 1);
    out->port = (uint16_t)port;
    return true;
}

static void answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_sentinel *sentinel = context;
    struct broker_address master = {0};
    char why[EVBUS_ERROR_MAX], text[EVBUS_ERROR_MAX];
    (void)tag;
    sentinel->is_asking = false;
    sentinel->ask_at_ns = now_ns() + ASK_AGAIN_NS;
    if (reply == NULL)
        return;
    if (take_address(reply, &master)) {
        redis_conn_ready(sentinel->conn);
        sentinel->callbacks.found(sentinel->context, &master);
        return;
    }
    if (reply->type == REDIS_REPLY_ERROR)
        redis_error_tell(reply->str, why);
    else if (reply->type == REDIS_REPLY_NIL)
        snprintf(why, sizeof why, "it knows no master \"%s\"; look at `sentinel monitor` in its config",
                 sentinel->sought->master);
    else
        snprintf(why, sizeof why, "it answers with no address; is this a sentinel?");
    snprintf(text, sizeof text, "%.100s:%u: %.380s", sentinel->url.host, (unsigned)sentinel->url.port, why);
    redis_conn_drop(sentinel->conn, text);
}

static void ask(struct redis_sentinel *sentinel)
{
    const char *const texts[] = {"SENTINEL", "get-master-addr-by-name", sentinel->sought->master};
    if (!sentinel->is_asking && redis_conn_is_connected(sentinel->conn))
        sentinel->is_asking = redis_conn_command(
            sentinel->conn, &(const struct redis_request){.answer = answered, .context = sentinel}, 3, texts);
}

static void connected(void *context)
{
    ask(context);
}

static void lost(void *context, const char *why)
{
    struct redis_sentinel *sentinel = context;
    char text[EVBUS_ERROR_MAX];
    snprintf(text, sizeof text, "sentinel %.490s", why);
    sentinel->is_asking = false;
    sentinel->turn++;
    take_turn(sentinel);
    if (!sentinel->is_doubted)
        sentinel->callbacks.failed(sentinel->context, text);
    sentinel->is_doubted = false;
}

struct redis_sentinel *redis_sentinel_open(const struct broker_url *url, uint64_t connect_timeout_ns,
                                           uint64_t reply_timeout_ns, const struct redis_sentinel_callbacks *callbacks,
                                           void *context)
{
    static const struct redis_conn_callbacks of_conn = {.connected = connected, .lost = lost};
    struct redis_sentinel *sentinel = calloc(1, sizeof *sentinel);
    if (sentinel == NULL)
        return NULL;
    sentinel->sought = url;
    sentinel->callbacks = *callbacks;
    sentinel->context = context;
    take_turn(sentinel);
    const struct redis_conn_options options = {.url = &sentinel->url,
                                               .user = "",
                                               .password = "",
                                               .name = "evbus-bridge",
                                               .connect_timeout_ns = connect_timeout_ns,
                                               .reply_timeout_ns = reply_timeout_ns,
                                               .reply_max = REPLY_MAX};
    sentinel->conn = redis_conn_open(&options, &of_conn, sentinel);
    if (sentinel->conn == NULL) {
        free(sentinel);
        return NULL;
    }
    return sentinel;
}

void redis_sentinel_close(struct redis_sentinel *sentinel)
{
    if (sentinel == NULL)
        return;
    redis_conn_close(sentinel->conn);
    free(sentinel);
}

void redis_sentinel_ask(struct redis_sentinel *sentinel)
{
    sentinel->ask_at_ns = 0;
}

void redis_sentinel_doubt(struct redis_sentinel *sentinel)
{
    sentinel->ask_at_ns = 0;
    if (sentinel->sought->n_sentinels < 2 || !redis_conn_is_connected(sentinel->conn))
        return;
    sentinel->is_doubted = true;
    redis_conn_drop(sentinel->conn, "where it leads is no master");
}

struct redis_conn *redis_sentinel_conn(const struct redis_sentinel *sentinel)
{
    return sentinel->conn;
}

void redis_sentinel_until(const struct redis_sentinel *sentinel, uint64_t *inout_until_ns)
{
    if (redis_conn_is_connected(sentinel->conn) && !sentinel->is_asking && sentinel->ask_at_ns < *inout_until_ns)
        *inout_until_ns = sentinel->ask_at_ns;
}

void redis_sentinel_service(struct redis_sentinel *sentinel, short revents)
{
    redis_conn_service(sentinel->conn, revents);
    if (now_ns() < sentinel->ask_at_ns || sentinel->is_asking)
        return;
    ask(sentinel);
}
