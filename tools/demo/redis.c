/* redis.c: a Redis of the demo's own: redis-server, in a folder of its own, on a unix socket there, on no port. One that
 * runs on this machine already is not touched, nor is its configuration read.
 *
 *     appendonly yes, appendfsync always   what it has confirmed is on its disk, so a SIGKILL takes nothing of that
 *     save ""                              no snapshots: the file is all there is
 *
 * Who asks it is an ordinary client (hiredis): it looks at the streams as any program of any language would see them.
 * An answer that does not come within a second means that it is away. */
#include "redis.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

static const enum topic streams[] = {ORDERS, PAYMENTS};
enum { N_STREAMS = sizeof streams / sizeof streams[0] };

/* --- its life ---------------------------------------------------------------------------------------------------- */

bool redis_start(struct redis *redis, struct demo *demo)
{
    char dir[PATH_BYTES];
    struct sockaddr_un address;
    int len = (int)(strrchr(demo->dir, '/') - demo->dir);
    (void)snprintf(dir, sizeof dir, "%.*s/redis", len, demo->dir); /* a host's folder is longer */
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        complain("%s: %s", dir, strerror(errno));
        return false;
    }
    if (!path_in(redis->socket, dir, "redis.sock") || strlen(redis->socket) >= sizeof address.sun_path) {
        complain("%s/redis.sock: the path of a socket has at most %zu bytes; set TMPDIR to a shorter one", dir,
                 sizeof address.sun_path - 1);
        return false;
    }
    (void)snprintf(redis->url, sizeof redis->url, "unix://%s", redis->socket);
    const char *const arguments[] = {"redis-server",
                                     "--port",
                                     "0",
                                     "--unixsocket",
                                     redis->socket,
                                     "--dir",
                                     dir,
                                     "--appendonly",
                                     "yes",
                                     "--appendfsync",
                                     "always",
                                     "--save",
                                     "",
                                     "--daemonize",
                                     "no",
                                     NULL};
    redis->demo = demo;
    redis->child = program_start(demo, BROKER, redis->program, arguments, "../redis/redis.log");
    return redis->child != NULL;
}

static void forget(struct redis *redis)
{
    if (redis->context != NULL)
        redisFree(redis->context);
    redis->context = NULL;
}

void redis_kill(struct redis *redis)
{
    child_kill(redis->child);
    forget(redis);
}

void redis_close(struct redis *redis)
{
    forget(redis);
}

/* --- what it says ------------------------------------------------------------------------------------------------ */

static bool is_connected(struct redis *redis)
{
    const struct timeval patience = {.tv_sec = 1};
    if (redis->context == NULL)
        redis->context = redisConnectUnixWithTimeout(redis->socket, patience);
    if (redis->context != NULL && redis->context->err == 0 && redisSetTimeout(redis->context, patience) == REDIS_OK)
        return true;
    forget(redis);
    return false;
}

/* An answer of this type; NULL: there is none, or it is of another type, as while Redis is loading. */
static redisReply *ask(struct redis *redis, int type, const char *command, const char *stream)
{
    const char *words[] = {command, stream, "-", "+"};
    redisReply *reply = NULL;
    if (is_connected(redis))
        reply = redisCommandArgv(redis->context, strcmp(command, "XRANGE") == 0 ? 4 : 2, words, NULL);
    if (reply != NULL && reply->type == type)
        return reply;
    if (reply == NULL)
        forget(redis);
    freeReplyObject(reply);
    return NULL;
}

bool redis_look(struct redis *redis)
{
    uint64_t n = 0;
    for (size_t i = 0; i < N_STREAMS; i++) {
        redisReply *reply = ask(redis, REDIS_REPLY_INTEGER, "XLEN", topic_names[streams[i]]);
        if (reply == NULL)
            return false;
        n += (uint64_t)reply->integer;
        freeReplyObject(reply);
    }
    redis->n_entries = n;
    return true;
}

/* The text of a field; "": it has none. */
static const char *field_of(const redisReply *fields, const char *name)
{
    for (size_t i = 0; i + 1 < fields->elements; i += 2)
        if (strcmp(fields->element[i]->str, name) == 0)
            return fields->element[i + 1]->str;
    return "";
}

static bool add_entry(struct records *records, enum topic topic, const redisReply *entry)
{
    const redisReply *fields = entry->element[1];
    struct record record = {.topic = topic,
                            .partition = (uint32_t)strtoul(field_of(fields, "partition"), NULL, 10),
                            .position = strtoull(field_of(fields, "position"), NULL, 10)};
    (void)snprintf(record.id, sizeof record.id, "%s", field_of(fields, "eventId"));
    return records_add(records, &record);
}

bool redis_read(struct redis *redis, struct records *records)
{
    bool is_good = true;
    for (size_t i = 0; is_good && i < N_STREAMS; i++) {
        redisReply *reply = ask(redis, REDIS_REPLY_ARRAY, "XRANGE", topic_names[streams[i]]);
        is_good = reply != NULL;
        for (size_t k = 0; is_good && k < reply->elements; k++)
            is_good = add_entry(records, streams[i], reply->element[k]);
        freeReplyObject(reply);
    }
    if (!is_good)
        complain("Redis: the streams cannot be read");
    return is_good;
}
