/* backend_redis.c: Redis Streams as the bridge's broker: two connections of one fate, and whether Redis is here or
 * away.
 *
 *     out   INFO, SCRIPT LOAD append | marks, batches, reports, trims       answered at once
 *     in    CLIENT ID                | XREAD BLOCK, checks of streams       answered when something comes
 *
 * Here means: both are ready. When either is lost, the other is dropped, too: what the bridge sees is one broker that
 * is here or away, all that is under way is answered AWAY, and then state() tells why, once for each change of the
 * answer to "why".
 *
 * What kind of Redis it is, INFO tells before anything is sent: too old, still loading, a replica, a Cluster with
 * layout=topic: not here, by name, and asked again as any that is away: a failover may move the master behind the
 * same name at any time. READONLY, LOADING and MASTERDOWN, whenever they come, do the same. A maxmemory-policy that
 * evicts streams is told, and gone on with.
 *
 * With sentinels (sentinel://) both are held at rest until redis_sentinel.c has found the master; after each loss, of
 * either, both are dropped and it is asked anew; and they are dropped where it names another one. Checked by
 * tests/broker/. */
#include "now.h"
#include "redis_backend.h"

#include "redis_error.h"
#include "redis_scripts.h"
#include "redis_sentinel.h"
#include "redis_tls.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void connected_out(void *context);
static void lost_out(void *context, const char *why);
static void connected_in(void *context);
static void lost_in(void *context, const char *why);

/* --- keys and scripts --------------------------------------------------------------------------------------------- */

void redis_stream_key(const struct redis_backend *redis, const char *stream, char *out)
{
    bool is_log = redis->config->layout == CONFIG_LAYOUT_LOG;
    snprintf(out, REDIS_KEY_SIZE, is_log ? "{%s}" : "%s", stream);
}

void redis_mark_key(const struct redis_backend *redis, const char *stream, uint32_t partition, char *out)
{
    snprintf(out, REDIS_KEY_SIZE, "evbus:{%s}:mark:%s:%u", stream, redis->origin, (unsigned)partition);
}

void redis_hosts_key(const char *stream, char *out)
{
    snprintf(out, REDIS_KEY_SIZE, "evbus:{%s}:hosts", stream);
}

void redis_format_eval(struct bytes *out, const char *script, size_t n_keys, size_t n_more)
{
    redis_format_array(out, 3 + n_more);
    redis_format_text(out, "EVAL", 4);
    redis_format_text(out, script, strlen(script));
    redis_format_number(out, n_keys);
}

static void script_loaded(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_backend *redis = context;
    (void)tag;
    if (reply != NULL && reply->type == REDIS_REPLY_STRING && reply->len == REDIS_SHA_LEN)
        memcpy(redis->append_sha, reply->str, REDIS_SHA_LEN + 1);
}

void redis_load_script(struct redis_backend *redis)
{
    const struct redis_request request = {.answer = script_loaded, .context = redis};
    redis_conn_command(redis->out, &request, 3, (const char *const[]){"SCRIPT", "LOAD", append_lua});
}

/* --- here or away ------------------------------------------------------------------------------------------------- */

void redis_tell_state(struct redis_backend *redis, bool is_here, const char *why)
{
    char text[EVBUS_ERROR_MAX];
    snprintf(text, sizeof text, "%s%s", is_here ? "+" : "-", why != NULL ? why : "");
    if (strcmp(text, redis->told) == 0)
        return;
    memcpy(redis->told, text, sizeof text);
    redis->callbacks.state(redis->context, is_here, why != NULL && why[0] != '\0' ? why : NULL);
}

static void look_whether_here(struct redis_backend *redis)
{
    if (redis->is_here || !redis_conn_is_ready(redis->out) || (redis->in != NULL && !redis_conn_is_ready(redis->in)))
        return;
    redis->is_here = true;
    redis_tell_state(redis, true, redis->warning);
    if (redis->is_here)
        redis_in_start(redis);
}

/* With sentinels: neither connects, or both do. */
static void hold(struct redis_backend *redis, bool is_held)
{
    redis_conn_hold(redis->out, is_held);
    if (redis->in != NULL)
        redis_conn_hold(redis->in, is_held);
}

static void lost(struct redis_backend *redis, struct redis_conn *other, const char *why)
{
    bool was_here = redis->is_here;
    redis->is_here = false;
    if ((was_here || redis->sentinel != NULL) && other != NULL)
        redis_conn_drop(other, why);
    if (redis->sentinel != NULL) {
        hold(redis, true);
        if (was_here)
            redis_sentinel_ask(redis->sentinel);
        else
            redis_sentinel_doubt(redis->sentinel);
    }
    redis_tell_state(redis, false, why);
}

static void lost_out(void *context, const char *why)
{
    struct redis_backend *redis = context;
    lost(redis, redis->in, why);
}

static void lost_in(void *context, const char *why)
{
    struct redis_backend *redis = context;
    redis_in_lost(redis, redis_conn_loss(redis->in));
    lost(redis, redis->out, why);
}

/* --- where it is ----------------------------------------------------------------------------------------------------- */

static void master_found(void *context, const struct broker_address *master)
{
    struct redis_backend *redis = context;
    char why[EVBUS_ERROR_MAX];
    if (strcmp(redis->url.host, master->host) != 0 || redis->url.port != master->port) {
        snprintf(why, sizeof why, "the master is %.100s:%u now", master->host, (unsigned)master->port);
        redis_conn_drop(redis->out, why); /* and with it the other */
        if (redis->in != NULL)
            redis_conn_drop(redis->in, why);
        memcpy(redis->url.host, master->host, sizeof redis->url.host);
        redis->url.port = master->port;
    }
    hold(redis, false);
}

/* As long as there is a master, nobody need know where it is. */
static void master_not_found(void *context, const char *why)
{
    struct redis_backend *redis = context;
    if (!redis->is_here)
        redis_tell_state(redis, false, why);
}

/* --- what kind of Redis it is ------------------------------------------------------------------------------------- */

/* The value of a line "name:value" of INFO, in cap bytes; "": there is none. */
static const char *info_value(const char *info, const char *name, char *out, size_t cap)
{
    size_t len = strlen(name);
    out[0] = '\0';
    for (const char *line = info; line != NULL && line[0] != '\0'; line = strchr(line, '\n')) {
        line += line[0] == '\n';
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            size_t value_len = strcspn(line + len + 1, "\r\n");
            snprintf(out, cap, "%.*s", (int)(value_len < cap ? value_len : cap - 1), line + len + 1);
            break;
        }
    }
    return out;
}

/* false: why not. */
static bool suits(struct redis_backend *redis, const char *info, char *why)
{
    char value[64];
    unsigned major = 0, minor = 0;
    redis->warning[0] = '\0';
    info_value(info, "redis_version", value, sizeof value);
    if (sscanf(value, "%u.%u", &major, &minor) == 2 && (major < 6 || (major == 6 && minor < 2))) {
        snprintf(why, EVBUS_ERROR_MAX, "this is Redis %s; the bridge needs 6.2 or later", value);
        return false;
    }
    if (strcmp(info_value(info, "loading", value, sizeof value), "1") == 0) {
        redis_error_tell("LOADING Redis is loading the dataset in memory", why);
        return false;
    }
    if (strcmp(info_value(info, "role", value, sizeof value), "slave") == 0) {
        redis_error_tell("READONLY it is a replica", why);
        return false;
    }
    if (strcmp(info_value(info, "cluster_enabled", value, sizeof value), "1") == 0 &&
        redis->config->layout == CONFIG_LAYOUT_TOPIC) {
        snprintf(why, EVBUS_ERROR_MAX,
                 "this is a Redis Cluster, where streams of one log may lie on different nodes, and no script writes "
                 "two at once; set layout = log");
        return false;
    }
    bool is_bounded = strcmp(info_value(info, "maxmemory", value, sizeof value), "0") != 0 && value[0] != '\0';
    if (is_bounded && strncmp(info_value(info, "maxmemory_policy", value, sizeof value), "allkeys", 7) == 0)
        snprintf(redis->warning, sizeof redis->warning,
                 "maxmemory-policy is %s: Redis may throw streams away that hosts have not read; set it to noeviction",
                 value);
    return true;
}

static void info_answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_backend *redis = context;
    char why[EVBUS_ERROR_MAX];
    (void)tag;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_error_tell(reply->str, why);
        redis_conn_drop(redis->out, why);
    } else if (reply->type != REDIS_REPLY_STRING) {
        redis_conn_drop(redis->out, "it has answered INFO with no text; is this a Redis?");
    } else if (!suits(redis, reply->str, why)) {
        redis_conn_drop(redis->out, why);
    }
}

static void first_script_loaded(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_backend *redis = context;
    char why[EVBUS_ERROR_MAX];
    if (reply == NULL)
        return;
    script_loaded(context, tag, reply);
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_error_tell(reply->str, why);
        redis_conn_drop(redis->out, why);
        return;
    }
    redis_conn_ready(redis->out);
    look_whether_here(redis);
}

static void connected_out(void *context)
{
    struct redis_backend *redis = context;
    redis_conn_command(redis->out, &(const struct redis_request){.answer = info_answered, .context = redis}, 1,
                       (const char *const[]){"INFO"});
    redis_conn_command(redis->out, &(const struct redis_request){.answer = first_script_loaded, .context = redis}, 3,
                       (const char *const[]){"SCRIPT", "LOAD", append_lua});
}

static void id_answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_backend *redis = context;
    char why[EVBUS_ERROR_MAX];
    (void)tag;
    if (reply == NULL)
        return;
    if (reply->type == REDIS_REPLY_INTEGER) {
        redis->reading.client_id = (uint64_t)reply->integer;
        redis_conn_ready(redis->in);
        look_whether_here(redis);
        return;
    }
    redis_error_tell(
        reply->type == REDIS_REPLY_ERROR ? reply->str : "CLIENT ID is answered by no number; is this a Redis?", why);
    redis_conn_drop(redis->in, why);
}

static void connected_in(void *context)
{
    struct redis_backend *redis = context;
    redis_conn_command(redis->in, &(const struct redis_request){.answer = id_answered, .context = redis}, 2,
                       (const char *const[]){"CLIENT", "ID"});
}

/* --- the class ---------------------------------------------------------------------------------------------------- */

static void be_told_state(void *context, bool is_here, const char *why)
{
    (void)context, (void)is_here, (void)why;
}

static void be_told_marks(void *context, const char *log, uint32_t partition, enum backend_result result,
                          const struct backend_mark *marks, size_t n, const char *why)
{
    (void)context, (void)log, (void)partition, (void)result, (void)marks, (void)n, (void)why;
}

static void be_told_appended(void *context, uint64_t ticket, enum backend_result result, const char *why)
{
    (void)context, (void)ticket, (void)result, (void)why;
}

static void redis_close(struct backend *backend)
{
    struct redis_backend *redis = redis_of(backend);
    if (redis == NULL)
        return;
    /* What is under way is answered, so that it is freed; the bridge hears nothing of it */
    redis->callbacks = (struct backend_callbacks){
        .state = be_told_state, .marks = be_told_marks, .appended = be_told_appended};
    if (redis->out != NULL)
        redis_conn_drop(redis->out, "closed");
    redis_conn_close(redis->out);
    redis_conn_close(redis->in);
    redis_sentinel_close(redis->sentinel);
    redis_tls_close(redis->tls);
    redis_out_free(redis);
    redis_in_free(redis);
    free(redis);
}

static bool open_tls(struct redis_backend *redis, char *error)
{
    const struct config *config = redis->config;
    const struct redis_tls_options options = {.ca = config->tls_ca,
                                              .cert = config->tls_cert,
                                              .key = config->tls_key,
                                              .name = config->tls_name[0] != '\0' ? config->tls_name : redis->url.host};
    redis->tls = redis_tls_open(&options, error);
    return redis->tls != NULL;
}

static struct redis_conn *open_conn(struct redis_backend *redis, const char *name,
                                    const struct redis_conn_callbacks *callbacks)
{
    const struct config *config = redis->config;
    const struct redis_conn_options options = {.url = &redis->url,
                                               .tls = redis->tls,
                                               .user = config->user,
                                               .password = config->password,
                                               .password_len = config->password_len,
                                               .name = name,
                                               .connect_timeout_ns = config->connect_timeout_ns,
                                               .reply_timeout_ns = config->reply_timeout_ns,
                                               .reply_max = REDIS_REPLY_MAX};
    return redis_conn_open(&options, callbacks, redis);
}

static bool open_sentinel(struct redis_backend *redis)
{
    static const struct redis_sentinel_callbacks of_sentinel = {.found = master_found, .failed = master_not_found};
    redis->sentinel = redis_sentinel_open(&redis->url, redis->config->connect_timeout_ns,
                                          redis->config->reply_timeout_ns, &of_sentinel, redis);
    if (redis->sentinel != NULL)
        hold(redis, true);
    return redis->sentinel != NULL;
}

static bool read_url(struct redis_backend *redis, char *error)
{
    char why[CONFIG_PROBLEM_MAX];
    if (broker_url_read(redis->config->broker, &redis->url, why) && redis->url.kind == BROKER_REDIS)
        return true;
    snprintf(error, EVBUS_ERROR_MAX, "broker %.480s", redis->url.kind == BROKER_REDIS ? why : "is no Redis");
    return false;
}

static int redis_open(struct backend **out, const struct config *config, const char *origin,
                      const struct backend_callbacks *callbacks, void *context, char *error)
{
    static const struct redis_conn_callbacks of_out = {.connected = connected_out, .lost = lost_out};
    static const struct redis_conn_callbacks of_in = {.connected = connected_in, .lost = lost_in};
    struct redis_backend *redis = calloc(1, sizeof *redis);
    int rc = EVBUS_ENOSPC;
    snprintf(error, EVBUS_ERROR_MAX, "no memory for the broker's connections");
    if (redis == NULL)
        return rc;
    redis->backend.class = &backend_redis;
    redis->config = config;
    redis->origin = origin;
    redis->callbacks = *callbacks;
    redis->context = context;
    rc = EVBUS_ECONFIG;
    if (!read_url(redis, error) || (redis->url.is_tls && !open_tls(redis, error)))
        goto fail;
    rc = EVBUS_ENOSPC;
    redis->out = open_conn(redis, "evbus-bridge-out", &of_out);
    redis->in = config->in ? open_conn(redis, "evbus-bridge-in", &of_in) : NULL;
    if (redis->out == NULL || (config->in && redis->in == NULL) ||
        (redis->url.n_sentinels > 0 && !open_sentinel(redis)))
        goto fail;
    *out = &redis->backend;
    return EVBUS_OK;
fail:
    redis_close(&redis->backend);
    return rc;
}

/* All that there are. */
static size_t conns_of(const struct redis_backend *redis, struct redis_conn *out[3])
{
    size_t n = 0;
    out[n++] = redis->out;
    if (redis->in != NULL)
        out[n++] = redis->in;
    if (redis->sentinel != NULL)
        out[n++] = redis_sentinel_conn(redis->sentinel);
    return n;
}

static size_t redis_fds(struct backend *backend, struct pollfd *fds, size_t cap, int *inout_timeout_ms)
{
    struct redis_backend *redis = redis_of(backend);
    uint64_t until_ns = UINT64_MAX;
    size_t n = 0;
    struct pollfd fd;
    struct redis_conn *conns[3];
    size_t n_conns = conns_of(redis, conns);
    for (size_t i = 0; i < n_conns; i++)
        if (redis_conn_poll(conns[i], &fd, &until_ns) && n < cap)
            fds[n++] = fd;
    if (redis->sentinel != NULL)
        redis_sentinel_until(redis->sentinel, &until_ns);
    redis_in_until(redis, &until_ns);
    if (until_ns == UINT64_MAX)
        return n;
    uint64_t now = now_ns();
    uint64_t left_ms = until_ns > now ? (until_ns - now + 999999) / 1000000 : 0;
    if (*inout_timeout_ms < 0 || left_ms < (uint64_t)*inout_timeout_ms)
        *inout_timeout_ms = (int)(left_ms < 3600000 ? left_ms : 3600000);
    return n;
}

static short revents_of(const struct redis_conn *conn, const struct pollfd *fds, size_t n)
{
    struct pollfd own;
    uint64_t until_ns = UINT64_MAX;
    if (!redis_conn_poll(conn, &own, &until_ns))
        return 0;
    for (size_t i = 0; i < n; i++)
        if (fds[i].fd == own.fd)
            return fds[i].revents;
    return 0;
}

static void redis_service(struct backend *backend, const struct pollfd *fds, size_t n)
{
    struct redis_backend *redis = redis_of(backend);
    const struct config *config = redis->config;
    struct redis_conn *conns[3];
    short revents[3];
    size_t n_conns = conns_of(redis, conns);
    for (size_t i = 0; i < n_conns; i++) { /* all before any may end, and its descriptor be another's */
        bool is_redis = i < (redis->in != NULL ? 2U : 1U);
        redis_conn_change(conns[i], is_redis ? config->password_len : 0, config->connect_timeout_ns,
                          config->reply_timeout_ns);
        revents[i] = revents_of(conns[i], fds, n);
    }
    redis_conn_service(redis->out, revents[0]);
    if (redis->in != NULL)
        redis_conn_service(redis->in, revents[1]);
    if (redis->sentinel != NULL)
        redis_sentinel_service(redis->sentinel, revents[n_conns - 1]);
    redis_in_go_on(redis);
}

const struct backend_class backend_redis = {
    .name = "redis",
    .open = redis_open,
    .close = redis_close,
    .fds = redis_fds,
    .service = redis_service,
    .ask = redis_ask,
    .begin = redis_begin,
    .add = redis_add,
    .send = redis_send,
    .listen = redis_listen,
    .more = redis_more,
    .id_compare = redis_id_compare,
    .report = redis_report,
    .trim = redis_trim,
};
