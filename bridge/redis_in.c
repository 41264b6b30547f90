/* redis_in.c: streams read behind ids of our own. No group of Redis': how far we are stands in the bus, beside what
 * was brought in.
 *
 *     XREAD COUNT c BLOCK 1000 STREAMS <those that are wanted> <their ids>
 *
 * One at a time: its answer is given out, and the next is asked.
 *
 * A stream is wanted from more() until something of it was given out. What could not be taken is not kept here: it is
 * read again. more() for a stream that the XREAD under way has not asked for: CLIENT UNBLOCK, by the other
 * connection. It may come before the XREAD: then it is repeated.
 *
 * Is it the same stream? Asked by resume.lua for each, when Redis has come back and after ten seconds without an
 * entry, with the ids that were read last, and ever fewer of those before: a failover may have lost some of them, or
 * many where they come fast, and a new stream begins again. If so: reset(), and on behind what is still the same; of what
 * is read twice then the bus has the marks. A stream that cannot be read (it is no stream, there is no right
 * to, a script of somebody's runs) is left out, told, and looked at again after 100 ms, doubled up to ten seconds: it
 * stops no other.
 *
 * How much at once? c is halved when an answer was large, doubled when it was small. An answer that is larger than we
 * take, or that Redis could not put together in reply_timeout, has ended the connection: a quarter, then one stream
 * at a time, one entry at a time; and an entry that alone is too large is given out without its fields, so that the
 * bridge can say so and go on.
 *
 * Checked by tests/broker/test_redis_away.c. */
#include "now.h"
#include "redis_backend.h"
#include "redis_error.h"
#include "redis_scripts.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS           UINT64_C(1000000)
#define BLOCK_MS     1000
#define COUNT_FIRST  16 /* nobody knows yet how large entries are */
#define COUNT_MAX    256
#define LARGE_BYTES  ((size_t)16 << 20)
#define SMALL_BYTES  ((size_t)4 << 20)
#define CHECK_NS     (10000 * MS)
#define MENDED_NS    (100 * MS)
#define REMEMBERED   128 /* ids: a failover loses the last ones, rarely more */
#define SPARSE       32  /* of those before them every 128th, and every 4096th */
#define ID_TEXT_SIZE 44  /* two numbers, a dash, a NUL */

enum standing { UNCHECKED, GOOD, BROKEN };

/* An id may be given twice, by either side of a failover: so a bit of the entry, too. */
struct read_entry {
    struct redis_id id;
    char tail[16];   /* of its first field's value: of the eventId, mostly */
    size_t tail_len; /* 0: unknown */
};

struct redis_stream {
    char name[REDIS_NAME_SIZE];
    char key[REDIS_KEY_SIZE];
    struct redis_backend *redis;
    struct redis_id last;
    struct read_entry read[REMEMBERED]; /* rings of those before */
    struct read_entry sparse[2][SPARSE];
    size_t n_read;
    enum standing standing;
    uint64_t n_listens; /* an answer of another listen() is none */
    bool is_wanted;
    bool is_asked;      /* in the XREAD that is under way */
    bool is_told_empty; /* since it was wanted */
    uint64_t check_at_ns;
    unsigned n_broken; /* checks in a row */
};

/* --- ids ---------------------------------------------------------------------------------------------------------- */

/* Decimal digits, at least one. NULL: there is none, or they are too many. */
static const char *read_digits(const char *at, uint64_t *out)
{
    const char *begin = at;
    uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
            return NULL;
    *out = number;
    return at > begin ? at : NULL;
}

/* Every entry's comes here several times. */
bool redis_id_parse(const char *text, struct redis_id *out)
{
    struct redis_id id = {0};
    if (text[0] != '\0') {
        const char *at = read_digits(text, &id.ms);
        if (at == NULL || *at != '-' || (at = read_digits(at + 1, &id.seq)) == NULL || *at != '\0')
            return false;
    }
    *out = id;
    return true;
}

static int compare(struct redis_id left, struct redis_id right)
{
    if (left.ms != right.ms)
        return left.ms < right.ms ? -1 : 1;
    return left.seq < right.seq ? -1 : left.seq > right.seq;
}

int redis_id_compare(const char *left, const char *right)
{
    struct redis_id of_left = {0}, of_right = {0};
    redis_id_parse(left, &of_left);
    redis_id_parse(right, &of_right);
    return compare(of_left, of_right);
}

static void print_id(struct redis_id id, char *out)
{
    snprintf(out, ID_TEXT_SIZE, "%" PRIu64 "-%" PRIu64, id.ms, id.seq);
}

static void add_id(struct bytes *command, struct redis_id id)
{
    char text[ID_TEXT_SIZE];
    print_id(id, text);
    redis_format_text(command, text, strlen(text));
}

/* first: its first field; NULL: unknown. */
static void remember(struct redis_stream *stream, struct redis_id id, const struct entry_field *first)
{
    struct read_entry entry = {.id = id};
    size_t n = stream->n_read++;
    if (first != NULL) {
        entry.tail_len = first->value_len < sizeof entry.tail ? first->value_len : sizeof entry.tail;
        memcpy(entry.tail, first->value + first->value_len - entry.tail_len, entry.tail_len);
    }
    stream->read[n % REMEMBERED] = entry;
    for (size_t i = 0, step = REMEMBERED; i < 2; i++, step *= SPARSE)
        if (n % step == 0)
            stream->sparse[i][n / step % SPARSE] = entry;
    stream->last = id;
}

/* The newest first. */
static size_t recall(const struct redis_stream *stream, struct read_entry out[REMEMBERED + 2 * SPARSE])
{
    size_t n = 0, newest = stream->n_read - 1; /* there is always one: listen() */
    for (size_t i = 0; i < REMEMBERED && i < stream->n_read; i++)
        out[n++] = stream->read[(newest - i) % REMEMBERED];
    for (size_t i = 0, step = REMEMBERED; i < 2; i++, step *= SPARSE)
        for (size_t k = 0; k < SPARSE && k <= newest / step; k++)
            out[n++] = stream->sparse[i][(newest / step - k) % SPARSE];
    return n;
}

/* --- is it the same stream? --------------------------------------------------------------------------------------- */

static void tell_broken(struct redis_stream *stream, const char *error)
{
    char why[EVBUS_ERROR_MAX], word[EVBUS_ERROR_MAX];
    redis_error_tell(error, word);
    snprintf(why, sizeof why, "stream %.100s is not read: %.380s", stream->key, word);
    redis_tell_state(stream->redis, true, why);
}

static void check_answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_stream *stream = context;
    struct redis_backend *redis = stream->redis;
    struct redis_id id;
    if (reply == NULL)
        return;
    redis->reading.n_checks--;
    if (tag != stream->n_listens)
        return;
    stream->check_at_ns = now_ns() + CHECK_NS;
    if (reply->type == REDIS_REPLY_ERROR) {
        bool is_elsewhere = redis_error_find(reply->str)->is_elsewhere;
        stream->standing = BROKEN;
        if (stream->n_broken < 7)
            stream->check_at_ns = now_ns() + (MENDED_NS << stream->n_broken++);
        tell_broken(stream, reply->str);
        if (is_elsewhere)
            redis_conn_drop(redis->in, reply->str);
        return;
    }
    if (reply->type != REDIS_REPLY_STRING || !redis_id_parse(reply->str, &id)) {
        redis_conn_drop(redis->in, "a check of a stream is answered by no id; is this a Redis?");
        return;
    }
    if (stream->standing == BROKEN)
        redis_tell_state(redis, true, redis->warning);
    stream->standing = GOOD;
    stream->n_broken = 0;
    if (compare(id, stream->last) >= 0)
        return;
    stream->n_read = 0;
    remember(stream, id, NULL);
    redis->callbacks.reset(redis->context, stream->name, id.ms == 0 && id.seq == 0 ? "" : reply->str);
}

static void check(struct redis_stream *stream)
{
    struct redis_backend *redis = stream->redis;
    struct bytes command = {0};
    struct read_entry entries[REMEMBERED + 2 * SPARSE];
    size_t n = recall(stream, entries);
    redis_format_eval(&command, resume_lua, 1, 1 + 2 * n);
    redis_format_text(&command, stream->key, strlen(stream->key));
    for (size_t i = 0; i < n; i++) {
        add_id(&command, entries[i].id);
        redis_format_text(&command, entries[i].tail, entries[i].tail_len);
    }
    if (redis_conn_send(
            redis->in,
            &(const struct redis_request){.answer = check_answered, .context = stream, .tag = stream->n_listens},
            &command))
        redis->reading.n_checks++;
    bytes_free(&command);
}

/* --- what an XREAD brings ----------------------------------------------------------------------------------------- */

static void tell_empty(struct redis_stream *stream)
{
    struct redis_backend *redis = stream->redis;
    if (!stream->is_wanted || stream->is_told_empty)
        return;
    stream->is_told_empty = true;
    redis->callbacks.arrived(redis->context, stream->name, NULL, 0);
}

static bool is_text(const struct redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING;
}

/* Is it [id, [name, value, ...]]? */
static bool is_entry(const struct redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || !is_text(reply->element[0]) ||
        reply->element[0]->len >= ID_TEXT_SIZE || reply->element[1]->type != REDIS_REPLY_ARRAY ||
        reply->element[1]->elements % 2 != 0)
        return false;
    for (size_t i = 0; i < reply->element[1]->elements; i++)
        if (!is_text(reply->element[1]->element[i]))
            return false;
    struct redis_id id;
    return redis_id_parse(reply->element[0]->str, &id);
}

static size_t count_fields(const struct redisReply *entries)
{
    size_t n = 0;
    for (size_t i = 0; i < entries->elements; i++) {
        if (!is_entry(entries->element[i]))
            return SIZE_MAX;
        n += entries->element[i]->element[1]->elements / 2;
    }
    return n;
}

static size_t point_at(const struct redisReply *entries, struct backend_entry *out, struct entry_field *fields)
{
    size_t bytes = 0;
    for (size_t i = 0; i < entries->elements; i++) {
        const struct redisReply *pairs = entries->element[i]->element[1];
        out[i] = (struct backend_entry){
            .id = entries->element[i]->element[0]->str, .fields = fields, .n_fields = pairs->elements / 2};
        for (size_t k = 0; k < pairs->elements; k += 2) {
            *fields++ = (struct entry_field){.name = pairs->element[k]->str,
                                             .name_len = pairs->element[k]->len,
                                             .value = pairs->element[k + 1]->str,
                                             .value_len = pairs->element[k + 1]->len};
            bytes += pairs->element[k]->len + pairs->element[k + 1]->len;
        }
    }
    return bytes;
}

/* More than none, in order. What is taken lies behind us. false: there is no memory. */
static bool give_out(struct redis_stream *stream, const struct redisReply *entries, size_t n_fields,
                     size_t *inout_bytes)
{
    struct redis_backend *redis = stream->redis;
    struct backend_entry *out = calloc(entries->elements, sizeof *out);
    struct entry_field *fields = calloc(n_fields > 0 ? n_fields : 1, sizeof *fields);
    if (out == NULL || fields == NULL) {
        free(out);
        free(fields);
        return false;
    }
    *inout_bytes += point_at(entries, out, fields);
    stream->is_wanted = false;
    stream->is_told_empty = false;
    stream->check_at_ns = now_ns() + CHECK_NS;
    if (redis->callbacks.arrived(redis->context, stream->name, out, entries->elements))
        for (size_t i = 0; i < entries->elements; i++) {
            struct redis_id id = {0};
            redis_id_parse(out[i].id, &id);
            remember(stream, id, out[i].n_fields > 0 ? out[i].fields : NULL);
        }
    free(out);
    free(fields);
    return true;
}

static struct redis_stream *find_key(const struct redis_in *in, const struct redisReply *key)
{
    for (size_t i = 0; i < in->n_streams; i++)
        if (is_text(key) && strlen(in->streams[i]->key) == key->len &&
            memcmp(in->streams[i]->key, key->str, key->len) == 0)
            return in->streams[i];
    return NULL;
}

/* [[key, [entry, ...]], ...]. false: it is something else, or there is no memory. */
static bool give_out_all(struct redis_backend *redis, const struct redisReply *reply)
{
    struct redis_in *in = &redis->reading;
    size_t bytes = 0;
    for (size_t i = 0; i < reply->elements; i++) {
        const struct redisReply *pair = reply->element[i];
        if (pair->type != REDIS_REPLY_ARRAY || pair->elements != 2 || pair->element[1]->type != REDIS_REPLY_ARRAY)
            return false;
        struct redis_stream *stream = find_key(in, pair->element[0]);
        size_t n_fields = count_fields(pair->element[1]);
        if (stream == NULL || n_fields == SIZE_MAX)
            return false;
        bool is_current = stream->is_asked; /* else: it was set to another id meanwhile */
        stream->is_asked = false;
        if (is_current && pair->element[1]->elements > 0 && !give_out(stream, pair->element[1], n_fields, &bytes))
            return false;
        if (!redis->is_here)
            return true;
    }
    if (bytes > LARGE_BYTES && in->count > 1)
        in->count /= 2;
    else if (bytes < SMALL_BYTES && in->count < COUNT_MAX && in->alone == 0)
        in->count *= 2;
    return true;
}

static void read_failed(struct redis_backend *redis, const char *error)
{
    struct redis_in *in = &redis->reading;
    for (size_t i = 0; i < in->n_streams; i++)
        if (in->streams[i]->is_asked) {
            in->streams[i]->standing = UNCHECKED; /* which of them is it? */
            tell_broken(in->streams[i], error);
        }
    unsigned doubled = in->n_failed < 7 ? in->n_failed++ : 7;
    in->read_at_ns = now_ns() + (50 * MS << doubled);
    if (redis_error_find(error)->is_elsewhere)
        redis_conn_drop(redis->in, error);
}

static void read_answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_backend *redis = context;
    struct redis_in *in = &redis->reading;
    (void)tag;
    if (reply == NULL)
        return;
    in->is_reading = false;
    if (reply->type == REDIS_REPLY_ERROR) {
        read_failed(redis, reply->str);
    } else if (reply->type == REDIS_REPLY_ARRAY) {
        if (in->n_failed > 0)
            redis_tell_state(redis, true, redis->warning);
        in->n_failed = 0;
        if (!give_out_all(redis, reply))
            redis_conn_drop(redis->in, "what XREAD brings is no entries, or there is no memory for them");
    } else if (reply->type != REDIS_REPLY_NIL) {
        redis_conn_drop(redis->in, "what XREAD brings is no entries; is this a Redis?");
    }
    for (size_t i = 0; i < in->n_streams && redis->is_here; i++)
        if (in->streams[i]->is_asked) {
            in->streams[i]->is_asked = false;
            if (reply->type != REDIS_REPLY_ERROR)
                tell_empty(in->streams[i]);
        }
    redis_in_go_on(redis);
}

/* --- an entry that is larger than we take ------------------------------------------------------------------------- */

static void giant_answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_stream *stream = context;
    struct redis_backend *redis = stream->redis;
    struct redis_id id = {0};
    if (reply == NULL)
        return;
    redis->reading.n_checks--;
    if (tag == stream->n_listens && reply->type == REDIS_REPLY_STRING && redis_id_parse(reply->str, &id)) {
        const struct backend_entry entry = {.id = reply->str};
        stream->is_wanted = false;
        stream->is_told_empty = false;
        if (redis->callbacks.arrived(redis->context, stream->name, &entry, 1))
            remember(stream, id, NULL);
    }
    redis_in_go_on(redis);
}

static void skip_giant(struct redis_stream *stream)
{
    static const char script[] = "local entries = redis.pcall('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1)\n"
                                 "if entries.err then return entries end\n"
                                 "return entries[1] and entries[1][1]";
    struct redis_backend *redis = stream->redis;
    struct bytes command = {0};
    redis_format_eval(&command, script, 1, 2);
    redis_format_text(&command, stream->key, strlen(stream->key));
    add_id(&command, stream->last);
    if (redis_conn_send(
            redis->in,
            &(const struct redis_request){.answer = giant_answered, .context = stream, .tag = stream->n_listens},
            &command))
        redis->reading.n_checks++;
    bytes_free(&command);
}

/* --- what is asked next ------------------------------------------------------------------------------------------- */

static bool is_readable(const struct redis_stream *stream)
{
    return stream->is_wanted && stream->standing == GOOD;
}

/* All that are wanted; or the next by turns alone. How many */
static size_t choose(struct redis_in *in)
{
    size_t n = 0;
    for (size_t i = 0; i < in->n_streams; i++) {
        struct redis_stream *stream = in->streams[(in->turn + i) % in->n_streams];
        stream->is_asked = is_readable(stream) && (in->alone == 0 || n == 0);
        if (stream->is_asked && in->alone > 0)
            in->turn = (in->turn + i + 1) % in->n_streams;
        n += stream->is_asked;
        if (n > 0 && in->alone > 0)
            break;
    }
    return n;
}

static void read_streams(struct redis_backend *redis)
{
    struct redis_in *in = &redis->reading;
    struct bytes command = {0};
    struct redis_request request = {.answer = read_answered, .context = redis};
    size_t n = choose(in);
    if (n == 0)
        return;
    bool is_alone = in->alone > 0;
    redis_format_array(&command, (is_alone ? 4 : 6) + 2 * n);
    redis_format_text(&command, "XREAD", 5);
    redis_format_text(&command, "COUNT", 5);
    redis_format_number(&command, in->count);
    if (is_alone) {
        in->alone--;
    } else {
        redis_format_text(&command, "BLOCK", 5);
        redis_format_number(&command, BLOCK_MS);
        request.patience_ns = BLOCK_MS * MS;
    }
    redis_format_text(&command, "STREAMS", 7);
    for (size_t i = 0; i < in->n_streams; i++)
        if (in->streams[i]->is_asked)
            redis_format_text(&command, in->streams[i]->key, strlen(in->streams[i]->key));
    for (size_t i = 0; i < in->n_streams; i++)
        if (in->streams[i]->is_asked)
            add_id(&command, in->streams[i]->last);
    in->is_reading = redis_conn_send(redis->in, &request, &command);
    bytes_free(&command);
}

void redis_in_go_on(struct redis_backend *redis)
{
    struct redis_in *in = &redis->reading;
    uint64_t now = now_ns();
    if (redis->in == NULL || !redis->is_here || in->is_reading || in->n_checks > 0 || now < in->read_at_ns)
        return;
    if (in->giant != NULL) {
        struct redis_stream *giant = in->giant;
        if (!is_readable(giant) && giant->standing == GOOD)
            return; /* when it is wanted again */
        if (is_readable(giant)) {
            in->giant = NULL;
            skip_giant(giant);
            return;
        }
    }
    for (size_t i = 0; i < in->n_streams; i++)
        if (in->streams[i]->standing == UNCHECKED || now >= in->streams[i]->check_at_ns)
            check(in->streams[i]);
    if (in->n_checks == 0)
        read_streams(redis);
}

/* --- wake the XREAD ----------------------------------------------------------------------------------------------- */

static void wake(struct redis_backend *redis);

/* One that is to be looked at first waits for the end of the XREAD as well. */
static bool is_missing_any(const struct redis_in *in)
{
    for (size_t i = 0; i < in->n_streams; i++)
        if (in->streams[i]->is_wanted && in->streams[i]->standing != BROKEN && !in->streams[i]->is_asked)
            return true;
    return false;
}

static void woken(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct redis_backend *redis = context;
    (void)tag;
    redis->reading.is_waking = false;
    if (reply != NULL && reply->type == REDIS_REPLY_INTEGER && reply->integer == 0)
        wake(redis); /* it was not there yet, or is answered by now */
}

static void wake(struct redis_backend *redis)
{
    struct redis_in *in = &redis->reading;
    char id[24];
    if (!redis->is_here || !in->is_reading || in->is_waking || !is_missing_any(in))
        return;
    snprintf(id, sizeof id, "%" PRIu64, in->client_id);
    in->is_waking = redis_conn_command(redis->out, &(const struct redis_request){.answer = woken, .context = redis}, 3,
                                       (const char *const[]){"CLIENT", "UNBLOCK", id});
}

/* --- what the bridge calls ---------------------------------------------------------------------------------------- */

static struct redis_stream *find(const struct redis_in *in, const char *name)
{
    for (size_t i = 0; i < in->n_streams; i++)
        if (strcmp(in->streams[i]->name, name) == 0)
            return in->streams[i];
    return NULL;
}

int redis_listen(struct backend *backend, const char *name, const char *id)
{
    struct redis_backend *redis = redis_of(backend);
    struct redis_in *in = &redis->reading;
    struct redis_id last;
    if (redis->in == NULL || strlen(name) >= REDIS_NAME_SIZE || !redis_id_parse(id, &last))
        return EVBUS_EINVAL;
    struct redis_stream *stream = find(in, name);
    if (stream == NULL) {
        struct redis_stream **streams = realloc(in->streams, (in->n_streams + 1) * sizeof *streams);
        if (streams == NULL)
            return EVBUS_ENOSPC;
        in->streams = streams;
        stream = calloc(1, sizeof *stream);
        if (stream == NULL)
            return EVBUS_ENOSPC;
        snprintf(stream->name, sizeof stream->name, "%s", name);
        redis_stream_key(redis, name, stream->key);
        stream->redis = redis;
        in->streams[in->n_streams++] = stream;
    }
    stream->n_listens++;
    stream->is_asked = false;
    stream->is_wanted = false;
    stream->is_told_empty = false;
    stream->standing = UNCHECKED;
    if (in->giant == stream)
        in->giant = NULL;
    stream->n_read = 0;
    remember(stream, last, NULL);
    return EVBUS_OK;
}

void redis_more(struct backend *backend, const char *name)
{
    struct redis_backend *redis = redis_of(backend);
    struct redis_stream *stream = find(&redis->reading, name);
    if (stream == NULL)
        return;
    stream->is_wanted = true;
    stream->is_told_empty = false;
    wake(redis);
}

void redis_in_start(struct redis_backend *redis)
{
    struct redis_in *in = &redis->reading;
    in->is_reading = false;
    in->is_waking = false;
    in->n_checks = 0;
    in->n_failed = 0;
    in->read_at_ns = 0;
    if (in->count == 0)
        in->count = COUNT_FIRST;
    for (size_t i = 0; i < in->n_streams; i++) {
        in->streams[i]->is_asked = false;
        in->streams[i]->standing = UNCHECKED;
    }
    redis_in_go_on(redis);
}

void redis_in_lost(struct redis_backend *redis, enum redis_loss loss)
{
    struct redis_in *in = &redis->reading;
    if (loss == REDIS_LOSS_OTHER || !in->is_reading)
        return;
    struct redis_stream *asked = NULL;
    size_t n_asked = 0;
    for (size_t i = 0; i < in->n_streams; i++)
        if (in->streams[i]->is_asked) {
            asked = in->streams[i];
            n_asked++;
        }
    if (in->count > 1)
        in->count = in->count / 4 > 0 ? in->count / 4 : 1;
    else if (n_asked > 1)
        in->alone = (unsigned)(2 * in->n_streams);
    else if (loss == REDIS_LOSS_TOO_LARGE)
        in->giant = asked;
}

void redis_in_until(const struct redis_backend *redis, uint64_t *inout_until_ns)
{
    const struct redis_in *in = &redis->reading;
    if (!redis->is_here || in->is_reading || in->n_checks > 0 || in->n_streams == 0)
        return;
    uint64_t until_ns = UINT64_MAX;
    for (size_t i = 0; i < in->n_streams; i++) {
        const struct redis_stream *stream = in->streams[i];
        uint64_t at_ns = is_readable(stream) || stream->standing == UNCHECKED ? in->read_at_ns : stream->check_at_ns;
        if (at_ns < until_ns)
            until_ns = at_ns;
    }
    if (until_ns < in->read_at_ns)
        until_ns = in->read_at_ns;
    if (until_ns < *inout_until_ns)
        *inout_until_ns = until_ns;
}

void redis_in_free(struct redis_backend *redis)
{
    for (size_t i = 0; i < redis->reading.n_streams; i++)
        free(redis->reading.streams[i]);
    free(redis->reading.streams);
}
