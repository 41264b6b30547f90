/* peer_redis.c: Redis Streams doing the bus's job, by hiredis over a Unix socket, with a redis-server of the benchmark's own.
 *
 *   send     XADD with the ten fields that evbus-bridge gives an event; returns with Redis's reply
 *   put      the same, BATCH in one write, at most UNDER_WAY without a reply. Requests lie there as Redis takes them: only payload and
 *            eventId are filled in
 *   stream   a consumer group: XREADGROUP of up to COUNT, each entry handled, then XACK of them all, sent off with the next XREADGROUP
 *   trip     XREAD BLOCK, without a group or acks: the quickest that Redis has
 *   files    none; an append only file synced every second, or before each reply. On the disk of the bus's journal */
#include "bare_redis.h"
#include "daemon.h"
#include "peers.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 64, UNDER_WAY = 256, COUNT = 256, BLOCK_MS = 10000, REQUEST_MAX = 2048, EVENT_ID_DIGITS = 12 };

struct stream {
    struct bare bare;
    const char *reads;
    char id[BARE_ID_SIZE]; /* of the last that was read */
    char request[REQUEST_MAX];
    size_t request_len, payload_at, event_id_at;
    char batch[BATCH * REQUEST_MAX];
    size_t batch_len;
    unsigned n_put;    /* in `batch` */
    unsigned n_open;   /* sent, without a reply */
    bool awaits_ack;   /* XACK is sent, without a reply */
    unsigned n_to_ack; /* of it */
};

static const char *topic(int to)
{
    return to == 0 ? "bench.pong.sent" : "bench.ping.sent";
}

static int begin(struct peer_job *job)
{
    struct redis *redis = calloc(1, sizeof *redis);
    if (redis == NULL)
        return fails("no memory");
    job->state = redis;
    return redis_start(redis, job->peer->variant);
}

static int end(struct peer_job *job)
{
    int rc = job->state != NULL ? redis_stop(job->state) : 0;
    free(job->state);
    return rc;
}

/* The XADD of any event of this length. */
static int prepare(struct stream *stream, const char *writes, size_t len)
{
    static char words[BARE_WORDS][BARE_WORD_MAX];
    const char *texts[BARE_WORDS];
    char *bytes = NULL;
    bare_words(writes, len, 1, words);
    for (size_t i = 0; i < BARE_WORDS; i++)
        texts[i] = words[i];
    int n = redisFormatCommandArgv(&bytes, BARE_WORDS, texts, NULL);
    if (n < 0 || n > REQUEST_MAX)
        return fails("Redis: no request of %d bytes", n);
    memcpy(stream->request, bytes, (size_t)n);
    redisFreeCommand(bytes);
    stream->request_len = (size_t)n;
    const char *payload = memmem(stream->request, stream->request_len, words[BARE_PAYLOAD], len);
    const char *event_id = memmem(stream->request, stream->request_len, words[4], strlen(words[4]));
    stream->payload_at = (size_t)(payload - stream->request);
    stream->event_id_at = (size_t)(event_id - stream->request) + strlen(words[4]) - EVENT_ID_DIGITS;
    return 0;
}

static int open_side(struct peer_side *side)
{
    const struct redis *redis = side->job->state;
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return fails("no memory");
    side->state = stream;
    stream->reads = topic(side->index);
    snprintf(stream->id, sizeof stream->id, "0-0");
    if (bare_connect(&stream->bare, redis->socket) != 0 || prepare(stream, topic(1 - side->index), side->job->len) != 0)
        return 1;
    redisReply *reply = bare_ask(&stream->bare, "XGROUP CREATE %s bench 0 MKSTREAM", stream->reads);
    freeReplyObject(reply);
    return reply != NULL ? 0 : 1;
}

/* --- who sends ---------------------------------------------------------------------------------------------------- */

/* Each is told where Redis has put it. */
static int take_replies(struct stream *stream, unsigned n)
{
    for (; n > 0; n--, stream->n_open--) {
        redisReply *reply = bare_reply(&stream->bare);
        bool is_there = reply != NULL && reply->type == REDIS_REPLY_STRING;
        freeReplyObject(reply);
        if (!is_there)
            return fails("Redis: an XADD without an id");
    }
    return 0;
}

static int send_batch(struct stream *stream)
{
    int rc = bare_send(&stream->bare, stream->batch, stream->batch_len);
    stream->n_open += stream->n_put;
    stream->batch_len = stream->n_put = 0;
    return rc;
}

static void add(struct stream *stream, const char *event, size_t len)
{
    char *at = stream->batch + stream->batch_len;
    memcpy(at, stream->request, stream->request_len);
    memcpy(at + stream->payload_at, event, len);
    memcpy(at + stream->event_id_at, event + 14 + DIGITS - EVENT_ID_DIGITS, EVENT_ID_DIGITS);
    stream->batch_len += stream->request_len;
    stream->n_put++;
}

static int put(struct peer_side *side, const void *event, size_t len)
{
    struct stream *stream = side->state;
    add(stream, event, len);
    if (stream->n_put < BATCH)
        return 0;
    if (send_batch(stream) != 0)
        return 1;
    return stream->n_open + BATCH > UNDER_WAY ? take_replies(stream, BATCH) : 0;
}

static int flush(struct peer_side *side)
{
    struct stream *stream = side->state;
    return send_batch(stream) != 0 ? 1 : take_replies(stream, stream->n_open);
}

static int send_one(struct peer_side *side, const void *event, size_t len)
{
    struct stream *stream = side->state;
    add(stream, event, len);
    return flush(side);
}

/* --- who receives ------------------------------------------------------------------------------------------------- */

static int ask_for_more(struct stream *stream, bool is_group, bool waits)
{
    char line[256], block[32] = "";
    if (waits)
        snprintf(block, sizeof block, " BLOCK %d", BLOCK_MS);
    int len = is_group ? snprintf(line, sizeof line, "XREADGROUP GROUP bench one COUNT %d%s STREAMS %s >\r\n", COUNT,
                                  block, stream->reads)
                       : snprintf(line, sizeof line, "XREAD COUNT %d%s STREAMS %s %s\r\n", COUNT, block, stream->reads,
                                  stream->id);
    return bare_send(&stream->bare, line, (size_t)len);
}

static int take_ack(struct stream *stream)
{
    if (!stream->awaits_ack)
        return 0;
    redisReply *reply = bare_reply(&stream->bare);
    bool is_done = reply != NULL && reply->type == REDIS_REPLY_INTEGER && reply->integer == stream->n_to_ack;
    freeReplyObject(reply);
    stream->awaits_ack = false;
    return is_done ? 0 : fails("Redis: not all that was handled is acknowledged");
}

static int send_ack(struct stream *stream, const redisReply *entries)
{
    static char line[COUNT * BARE_ID_SIZE];
    int len = snprintf(line, sizeof line, "XACK %s bench", stream->reads);
    for (size_t i = 0; i < entries->elements; i++)
        len += snprintf(line + len, sizeof line - (size_t)len, " %s", entries->element[i]->element[0]->str);
    memcpy(line + len, "\r\n", 2);
    stream->awaits_ack = true;
    stream->n_to_ack = (unsigned)entries->elements;
    return bare_send(&stream->bare, line, (size_t)len + 2);
}

static int take_entries(struct peer_side *side, const redisReply *entries, bool is_group)
{
    struct stream *stream = side->state;
    for (size_t i = 0; i < entries->elements; i++) {
        struct bare_entry entry = {.id = entries->element[i]->element[0]->str,
                                   .pairs = entries->element[i]->element[1]};
        const redisReply *payload = bare_field(&entry, "payload");
        if (payload == NULL)
            return fails("Redis: an entry without a payload");
        if (side->take(side, payload->str, payload->len) != 0)
            return 1;
        snprintf(stream->id, sizeof stream->id, "%s", entry.id);
    }
    return is_group ? send_ack(stream, entries) : 0;
}

static int receive(struct peer_side *side, bool waits)
{
    struct stream *stream = side->state;
    bool is_group = side->job->aim == PEER_STREAM;
    if (ask_for_more(stream, is_group, waits) != 0 || take_ack(stream) != 0)
        return 1;
    redisReply *reply = bare_reply(&stream->bare);
    int rc = reply == NULL ? 1 : PEER_NOTHING;
    if (reply != NULL && reply->type == REDIS_REPLY_ARRAY)
        rc = take_entries(side, reply->element[0]->element[1], is_group);
    else if (reply != NULL && waits)
        rc = fails("Redis: nothing comes any more");
    freeReplyObject(reply);
    return rc;
}

#define REDIS_PEER(NAME, FSYNC)                                                                             \
    .name = "Redis Streams, " NAME, .program = "redis-server", .package = "redis-tools, redis-server",      \
    .variant = FSYNC, .can_block = true, .has_helper = true, .begin = begin, .end = end, .open = open_side, \
    .send = send_one, .put = put, .flush = flush, .receive = receive

const struct peer peer_redis_off = {REDIS_PEER("appendonly off", NULL)};
const struct peer peer_redis_everysec = {REDIS_PEER("everysec", "everysec")};
const struct peer peer_redis_always = {REDIS_PEER("always", "always"), .is_synced = true};
