/* bare_redis.c: a client of Redis that does nothing but send, receive and compare: what a bridge cannot be better than.
 *
 *   prepare   all requests lie in memory as Redis takes them, before time begins: the client formats nothing. An event has the ten
 *             fields that evbus-bridge gives it, as many bytes in each, an id, a key, a position of its own
 *
 *                 script   EVALSHA append.lua, BARE_BATCH events: exactly once, fenced, joined: what the bridge sends
 *                 multi    MULTI, XADD x BARE_BATCH, HSET of the mark, EXEC: atomic; neither fenced nor joined, and sent twice it is there twice
 *                 xadd     as many XADDs: each by itself
 *
 *   run       BARE_UNDER_WAY batches may be unanswered, as the bridge has it; what the socket does not take at once does not keep it from
 *             replies. They are read by hiredis, and none may be an error: nothing is counted that Redis has refused
 *   read      XREAD, the reply by hiredis, each entry given out. The next is asked when the last was looked at: its id is needed for it
 *
 * One socket, one thread. */
#include "bare_redis.h"

#include "redis_scripts.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ORIGIN "0198c0de-0000-7000-8000-00000000bbbb" /* a bus that nobody else is */

enum { N_KEYS = 1000, CELLS_OF_EVENT = 7, N_FIELDS = 10 };

void bare_key(uint64_t seq, char out[BARE_KEY_LEN + 1])
{
    snprintf(out, BARE_KEY_LEN + 1, "a%03u", (unsigned)(seq % N_KEYS));
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static bool add(struct bare_requests *to, const char *bytes, size_t len)
{
    if (to->cap - to->len < len) {
        size_t cap = (to->cap + len) * 2;
        char *grown = realloc(to->bytes, cap);
        if (grown == NULL)
            return false;
        to->bytes = grown;
        to->cap = cap;
    }
    memcpy(to->bytes + to->len, bytes, len);
    to->len += len;
    return true;
}

static bool add_array(struct bare_requests *to, size_t n)
{
    char head[32];
    return add(to, head, (size_t)snprintf(head, sizeof head, "*%zu\r\n", n));
}

static bool add_text(struct bare_requests *to, const char *text)
{
    char head[32];
    size_t len = strlen(text);
    return add(to, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", len)) && add(to, text, len) &&
           add(to, "\r\n", 2);
}

static bool add_texts(struct bare_requests *to, const char *const *texts, size_t n)
{
    bool is_added = true;
    for (size_t i = 0; i < n && is_added; i++)
        is_added = add_text(to, texts[i]);
    return is_added;
}

void bare_words(const char *stream, size_t payload_len, uint64_t seq, char words[BARE_WORDS][BARE_WORD_MAX])
{
    static const char *const names[N_FIELDS] = {"eventId", "eventType", "timestamp", "version",  "payload",
                                                "key",     "origin",    "partition", "position", "prev"};
    struct payload payload;
    payload_make(&payload, payload_len, 0);
    payload_set_number(&payload, seq);
    snprintf(words[0], BARE_WORD_MAX, "XADD");
    snprintf(words[1], BARE_WORD_MAX, "%s", stream);
    snprintf(words[2], BARE_WORD_MAX, "*");
    for (size_t i = 0; i < N_FIELDS; i++)
        snprintf(words[3 + 2 * i], BARE_WORD_MAX, "%s", names[i]);
    snprintf(words[4], BARE_WORD_MAX, "0198c0de-%04x-7000-8000-%012" PRIx64, (unsigned)(seq & 0xffff), seq);
    snprintf(words[6], BARE_WORD_MAX, "%s", stream);
    snprintf(words[8], BARE_WORD_MAX, "2026-02-01T09:%02u:%02u.%03uZ", (unsigned)(seq / 60000 % 60),
             (unsigned)(seq / 1000 % 60), (unsigned)(seq % 1000));
    snprintf(words[10], BARE_WORD_MAX, "1.0");
    snprintf(words[BARE_PAYLOAD], BARE_WORD_MAX, "%.*s", (int)payload.len, payload.text);
    bare_key(seq, words[14]);
    snprintf(words[16], BARE_WORD_MAX, ORIGIN);
    snprintf(words[18], BARE_WORD_MAX, "0");
    snprintf(words[20], BARE_WORD_MAX, "%" PRIu64, seq * CELLS_OF_EVENT);
    snprintf(words[22], BARE_WORD_MAX, "%" PRIu64, (seq - 1) * CELLS_OF_EVENT);
}

static bool add_event(struct bare_requests *to, enum bare_way way, char words[BARE_WORDS][BARE_WORD_MAX])
{
    /* Those that append.lua wants of each event: the rest is the batch's, which is one run, and names it has itself. */
    static const unsigned travel[] = {4, 8, 12, 14, 20};
    const char *texts[BARE_WORDS];
    size_t n = 0;
    if (way == BARE_SCRIPT) {
        for (size_t i = 0; i < sizeof travel / sizeof travel[0]; i++)
            texts[n++] = words[travel[i]];
        return add_texts(to, texts, n);
    }
    for (; n < BARE_WORDS; n++)
        texts[n] = words[n];
    return add_array(to, n) && add_texts(to, texts, n);
}

static bool begin_batch(struct bare_requests *to, enum bare_way way, const char *stream, const char *mark,
                        const char *sha, char first[BARE_WORDS][BARE_WORD_MAX], size_t n)
{
    char count[24];
    if (way == BARE_XADD)
        return true;
    if (way == BARE_MULTI)
        return add_array(to, 1) && add_text(to, "MULTI");
    snprintf(count, sizeof count, "%zu", n);
    const char *const texts[] = {"EVALSHA", sha, "2",   stream,    mark,     "1",       "1", ORIGIN,
                                 "0",       "1", count, first[22], first[6], first[10], "0"};
    size_t n_texts = sizeof texts / sizeof texts[0];
    return add_array(to, n_texts + 5 * n) && add_texts(to, texts, n_texts);
}

static bool end_batch(struct bare_requests *to, enum bare_way way, const char *mark, const char *position)
{
    const char *const texts[] = {"HSET", mark, "position", position, "epoch", "1", "incarnation", "1"};
    size_t n_texts = sizeof texts / sizeof texts[0];
    if (way == BARE_MULTI &&
        !(add_array(to, n_texts) && add_texts(to, texts, n_texts) && add_array(to, 1) && add_text(to, "EXEC")))
        return false;
    to->ends[to->n++] = to->len;
    return true;
}

static unsigned replies_of(enum bare_way way, size_t n)
{
    return way == BARE_SCRIPT ? 1 : way == BARE_MULTI ? (unsigned)n + 3 : (unsigned)n;
}

bool bare_prepare(struct bare_requests *out, enum bare_way way, const char *stream, const char *script_sha,
                  size_t payload_len, uint64_t first, size_t n)
{
    char mark[256], words[BARE_WORDS][BARE_WORD_MAX];
    *out = (struct bare_requests){0};
    out->ends = calloc(n / BARE_BATCH + 1, sizeof *out->ends);
    if (out->ends == NULL)
        return false;
    snprintf(mark, sizeof mark, "evbus:{%s}:mark:" ORIGIN ":0", stream);
    for (size_t done = 0; done < n;) {
        size_t n_batch = n - done < BARE_BATCH ? n - done : BARE_BATCH;
        bare_words(stream, payload_len, first + done, words);
        if (!begin_batch(out, way, stream, mark, script_sha, words, n_batch))
            return false;
        for (size_t i = 0; i < n_batch; i++) {
            bare_words(stream, payload_len, first + done + i, words);
            if (!add_event(out, way, words))
                return false;
        }
        if (!end_batch(out, way, mark, words[20]))
            return false;
        done += n_batch;
        out->n_replies_last = replies_of(way, n_batch);
    }
    out->n_replies = replies_of(way, BARE_BATCH);
    return true;
}

void bare_forget(struct bare_requests *requests)
{
    free(requests->bytes);
    free(requests->ends);
    *requests = (struct bare_requests){0};
}

/* --- a connection ------------------------------------------------------------------------------------------------- */

int bare_connect(struct bare *out, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    out->reader = redisReaderCreate();
    out->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (out->reader == NULL || out->fd < 0 || connect(out->fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return fails("%s: %s", path, strerror(errno));
    return 0;
}

void bare_close(struct bare *bare)
{
    redisReaderFree(bare->reader);
    close(bare->fd);
}

int bare_send(const struct bare *bare, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(bare->fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0)
            return fails("Redis takes nothing: %s", strerror(errno));
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

/* What has come, whole: *out; NULL: there is none. 0 or 1 */
static int next_reply(const struct bare *bare, redisReply **out)
{
    void *reply = NULL;
    *out = NULL;
    if (redisReaderGetReply(bare->reader, &reply) != REDIS_OK)
        return fails("Redis: %s", bare->reader->errstr);
    if (reply != NULL && ((redisReply *)reply)->type == REDIS_REPLY_ERROR) {
        fails("Redis refuses: %s", ((redisReply *)reply)->str);
        freeReplyObject(reply);
        return 1;
    }
    *out = reply;
    return 0;
}

/* Waits until something comes. 0 or 1 */
static int feed(const struct bare *bare)
{
    static char chunk[65536];
    ssize_t n = recv(bare->fd, chunk, sizeof chunk, 0);
    if (n <= 0 || redisReaderFeed(bare->reader, chunk, (size_t)n) != REDIS_OK)
        return fails("Redis has ended the connection: %s", n < 0 ? strerror(errno) : "");
    return 0;
}

redisReply *bare_reply(const struct bare *bare)
{
    redisReply *reply = NULL;
    while (next_reply(bare, &reply) == 0 && reply == NULL)
        if (feed(bare) != 0)
            return NULL;
    return reply;
}

redisReply *bare_ask(const struct bare *bare, const char *format, ...)
{
    char *bytes = NULL;
    va_list args;
    va_start(args, format);
    int len = redisvFormatCommand(&bytes, format, args);
    va_end(args);
    if (len < 0) {
        fails("no memory");
        return NULL;
    }
    int rc = bare_send(bare, bytes, (size_t)len);
    redisFreeCommand(bytes);
    return rc == 0 ? bare_reply(bare) : NULL;
}

int bare_load_script(const struct bare *bare, char out_sha[41])
{
    redisReply *reply = bare_ask(bare, "SCRIPT LOAD %s", append_lua);
    if (reply == NULL)
        return 1;
    snprintf(out_sha, 41, "%s", reply->str);
    freeReplyObject(reply);
    return 0;
}

/* In a transaction none may be an error either. */
static bool is_done(const redisReply *reply)
{
    bool is_good = true;
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
        is_good = is_good && reply->element[i]->type != REDIS_REPLY_ERROR;
    return is_good;
}

/* All that have come. 0 or 1 */
static int take_replies(const struct bare *bare, uint64_t *inout_n)
{
    redisReply *reply;
    int rc;
    while ((rc = next_reply(bare, &reply)) == 0 && reply != NULL) {
        bool is_good = is_done(reply);
        freeReplyObject(reply);
        if (!is_good)
            return fails("Redis has not done all of a transaction");
        ++*inout_n;
    }
    return rc;
}

/* As far as the socket takes it. */
static int push(const struct bare *bare, const struct bare_requests *requests, size_t until, size_t *inout_at)
{
    while (*inout_at < until) {
        ssize_t n = send(bare->fd, requests->bytes + *inout_at, until - *inout_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            return fails("Redis takes nothing: %s", strerror(errno));
        *inout_at += (size_t)n;
    }
    return 0;
}

int bare_run(const struct bare *bare, const struct bare_requests *requests)
{
    uint64_t n_replies = 0, n_all = (requests->n - 1) * requests->n_replies + requests->n_replies_last;
    size_t at = 0;
    while (n_replies < n_all) {
        size_t until = n_replies / requests->n_replies + BARE_UNDER_WAY;
        until = requests->ends[(until < requests->n ? until : requests->n) - 1];
        struct pollfd fd = {.fd = bare->fd, .events = POLLIN};
        if (push(bare, requests, until, &at) != 0)
            return 1;
        if (at < until)
            fd.events |= POLLOUT;
        if (poll(&fd, 1, -1) < 0 && errno != EINTR)
            return fails("poll: %s", strerror(errno));
        if ((fd.revents & (POLLIN | POLLHUP | POLLERR)) != 0 &&
            (feed(bare) != 0 || take_replies(bare, &n_replies) != 0))
            return 1;
    }
    return 0;
}

/* --- what a stream has -------------------------------------------------------------------------------------------- */

const redisReply *bare_field(const struct bare_entry *entry, const char *name)
{
    for (size_t i = 0; i + 1 < entry->pairs->elements; i += 2)
        if (strcmp(entry->pairs->element[i]->str, name) == 0)
            return entry->pairs->element[i + 1];
    return NULL;
}

int bare_read(const struct bare *bare, const char *stream, unsigned count, unsigned block_ms, char id[BARE_ID_SIZE],
              int (*each)(void *context, const struct bare_entry *entry), void *context)
{
    redisReply *reply = block_ms > 0
                            ? bare_ask(bare, "XREAD COUNT %u BLOCK %u STREAMS %s %s", count, block_ms, stream, id)
                            : bare_ask(bare, "XREAD COUNT %u STREAMS %s %s", count, stream, id);
    int rc = 0;
    if (reply == NULL)
        return 1;
    if (reply->type == REDIS_REPLY_NIL) {
        freeReplyObject(reply);
        return BARE_NOTHING;
    }
    const redisReply *entries = reply->element[0]->element[1];
    for (size_t i = 0; i < entries->elements && rc == 0; i++) {
        struct bare_entry entry = {.id = entries->element[i]->element[0]->str,
                                   .pairs = entries->element[i]->element[1]};
        rc = each(context, &entry);
        snprintf(id, BARE_ID_SIZE, "%s", entry.id);
    }
    freeReplyObject(reply);
    return rc;
}
