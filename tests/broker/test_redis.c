/* test_redis.c: Redis Streams as a broker: the suite of all brokers. What is Redis' alone is in test_redis_*.c. */
#include "conformance.h"

#include "redis.h"

#include <criterion/criterion.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_log; /* of this test, which is a process of its own: with layout=log a stream's key is in braces */

static void *make(struct config *config)
{
    struct redis_server *server = malloc(sizeof *server);
    cr_assert_not_null(server);
    *server = redis_server_start("appendonly yes\nappendfsync always\n");
    snprintf(config->broker, sizeof config->broker, "%s", server->url);
    is_log = config->layout == CONFIG_LAYOUT_LOG;
    return server;
}

static void end(void *server)
{
    redis_server_kill(server);
    free(server);
}

static void take_away(void *server)
{
    redis_server_kill(server);
}

static void bring_back(void *server)
{
    redis_server_again(server);
}

static long long now_ms(const struct redis_server *server)
{
    long long s, us;
    cr_assert_eq(sscanf(redis_server_ask(server, "TIME"), "%lld %lld", &s, &us), 2);
    return s * 1000 + us / 1000;
}

static void empty(void *server)
{
    cr_assert_str_eq(redis_server_ask(server, "FLUSHALL"), "OK");
    for (long long ms = now_ms(server); now_ms(server) == ms;) { /* ids of this millisecond may be given once more */
    }
}

static void append(void *context, const char *stream, const struct entry_field *fields, size_t n)
{
    const struct redis_server *server = context;
    const char *argv[64] = {"XADD", stream, "*"};
    size_t lens[64] = {4, strlen(stream), 1};
    int argc = 3;
    for (size_t i = 0; i < n; i++) {
        argv[argc] = fields[i].name;
        lens[argc++] = fields[i].name_len;
        argv[argc] = fields[i].value;
        lens[argc++] = fields[i].value_len;
    }
    redisContext *redis = redisConnectUnix(server->socket);
    cr_assert(redis != NULL && redis->err == 0);
    redisReply *reply = redisCommandArgv(redis, argc, argv, lens);
    cr_assert(reply != NULL && reply->type == REDIS_REPLY_STRING, "%s", reply != NULL ? reply->str : "no answer");
    freeReplyObject(reply);
    redisFree(redis);
}

static size_t count(void *server, const char *stream)
{
    return (size_t)redis_server_number(server, is_log ? "XLEN {%s}" : "XLEN %s", stream);
}

const struct broker_kind broker_kind = {
    .class = &backend_redis,
    .has_trim = true,
    .make = make,
    .end = end,
    .kill = take_away,
    .restart = bring_back,
    .empty = empty,
    .append = append,
    .count = count,
};
