/* redis_trim.c: how far this host is, told to Redis; and what nobody needs any more goes. See report.lua, trim.lua.
 *
 * Neither is answered for to anybody: what is lost with a connection is said again at its time. A trim that Redis
 * refuses is told as a word of the state. */
#include "redis_backend.h"
#include "redis_error.h"
#include "redis_scripts.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

/* A report or a trim that is under way. */
struct errand {
    struct redis_backend *redis;
    bool is_trim;
    char stream[REDIS_NAME_SIZE];
};

static void tell_refused(const struct errand *errand, const struct redisReply *reply)
{
    char why[EVBUS_ERROR_MAX], word[EVBUS_ERROR_MAX];
    redis_error_tell(reply->str, word);
    snprintf(why, sizeof why, "stream %.100s is not %s: %.380s", errand->stream,
             errand->is_trim ? "trimmed" : "reported on", word);
    redis_tell_state(errand->redis, true, why);
}

static void tell_trimmed(const struct errand *errand, const struct redisReply *reply)
{
    const struct redis_backend *redis = errand->redis;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 4 || reply->element[0]->type != REDIS_REPLY_INTEGER ||
        reply->element[1]->type != REDIS_REPLY_STRING || reply->element[2]->type != REDIS_REPLY_STRING ||
        reply->element[3]->type != REDIS_REPLY_STRING)
        return;
    const struct backend_trimmed trimmed = {.n = (uint64_t)reply->element[0]->integer,
                                            .kept_from = reply->element[1]->str,
                                            .kept_for = reply->element[2]->str,
                                            .dropped = reply->element[3]->len > 0 ? reply->element[3]->str : NULL};
    redis->callbacks.trimmed(redis->context, errand->stream, &trimmed);
}

static void answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct errand *errand = context;
    struct redis_backend *redis = errand->redis;
    (void)tag;
    bool is_error = reply != NULL && reply->type == REDIS_REPLY_ERROR;
    if (is_error)
        tell_refused(errand, reply);
    else if (reply != NULL && errand->is_trim)
        tell_trimmed(errand, reply);
    free(errand);
    if (is_error && redis_error_find(reply->str)->is_elsewhere)
        redis_conn_drop(redis->out, reply->str);
}

/* Frees the command. */
static void send_errand(struct redis_backend *redis, const char *stream, bool is_trim, struct bytes *command)
{
    struct errand *errand = calloc(1, sizeof *errand);
    if (errand != NULL) {
        *errand = (struct errand){.redis = redis, .is_trim = is_trim};
        snprintf(errand->stream, sizeof errand->stream, "%s", stream);
        if (!redis_conn_send(redis->out, &(const struct redis_request){.answer = answered, .context = errand}, command))
            free(errand);
    }
    bytes_free(command);
}

void redis_report(struct backend *backend, const char *stream, const char *id)
{
    struct redis_backend *redis = redis_of(backend);
    struct bytes command = {0};
    char key[REDIS_KEY_SIZE];
    if (!redis->is_here)
        return;
    if (id[0] == '\0')
        id = "0-0";
    redis_hosts_key(stream, key);
    redis_format_eval(&command, report_lua, 1, 3);
    redis_format_text(&command, key, strlen(key));
    redis_format_text(&command, redis->origin, strlen(redis->origin));
    redis_format_text(&command, id, strlen(id));
    send_errand(redis, stream, false, &command);
}

void redis_trim(struct backend *backend, const char *stream)
{
    struct redis_backend *redis = redis_of(backend);
    struct bytes command = {0};
    char key[REDIS_KEY_SIZE];
    if (!redis->is_here || redis->config->trim_age_ns == 0)
        return;
    redis_format_eval(&command, trim_lua, 2, 4);
    redis_stream_key(redis, stream, key);
    redis_format_text(&command, key, strlen(key));
    redis_hosts_key(stream, key);
    redis_format_text(&command, key, strlen(key));
    redis_format_number(&command, redis->config->trim_age_ns / MS);
    redis_format_number(&command, redis->config->host_timeout_ns / MS);
    send_errand(redis, stream, true, &command);
}
