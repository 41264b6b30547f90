/* redis_out.c: how far Redis has us, and batches that a script appends. See append.lua, marks.lua.
 *
 * A batch is one EVALSHA; several are under way, and Redis answers in order. What was answered by an error has not
 * been done, so it is told what it means (redis_error.c) and may be sent again. NOSCRIPT: the script is loaded again
 * before the bridge is told, so it stands before whatever the bridge sends then.
 *
 * With wait_replicas a WAIT follows each batch on the same connection, and the batch is answered when that many
 * replicas have it; fewer in time: REFUSED. Sent again it appends nothing, and is waited for all the same: WAIT waits
 * for all that Redis had written when the command before it was done, whoever wrote it.
 *
 * Checked by tests/broker/test_redis_append.c. */
#include "decimal.h"
#include "redis_backend.h"
#include "redis_error.h"
#include "redis_scripts.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS_MAX 64   /* of a batch */
#define ROOM_BYTES  1024 /* for what stands before its arguments, where it is of a stream or two */

/* --- marks -------------------------------------------------------------------------------------------------------- */

/* An ask that is under way. */
struct question {
    struct redis_backend *redis;
    uint32_t partition;
    size_t n; /* of streams */
    bool has_topics;
    const char **topics; /* into texts */
    char *log;           /* into texts */
    char *texts;
};

static void question_free(struct question *question)
{
    if (question == NULL)
        return;
    free(question->topics);
    free(question->texts);
    free(question);
}

static struct question *question_make(struct redis_backend *redis, const char *log, uint32_t partition,
                                      const char *const *topics, size_t n)
{
    struct question *question = calloc(1, sizeof *question);
    size_t len = strlen(log) + 1;
    for (size_t i = 0; i < n; i++)
        len += strlen(topics[i]) + 1;
    if (question == NULL)
        return NULL;
    question->redis = redis;
    question->partition = partition;
    question->n = n;
    question->texts = malloc(len);
    question->topics = calloc(n > 0 ? n : 1, sizeof *question->topics);
    if (question->texts == NULL || question->topics == NULL) {
        question_free(question);
        return NULL;
    }
    char *to = question->texts;
    question->log = to;
    to = stpcpy(to, log) + 1;
    for (size_t i = 0; i < n; i++) {
        question->topics[i] = to;
        to = stpcpy(to, topics[i]) + 1;
    }
    return question;
}

static bool take_number(const struct redisReply *reply, uint64_t *out)
{
    char *end = NULL;
    if (reply->type != REDIS_REPLY_STRING || reply->len == 0 || reply->len > 20 ||
        strspn(reply->str, "0123456789") != reply->len)
        return false;
    *out = strtoull(reply->str, &end, 10);
    return true;
}

static bool take_marks(const struct question *question, const struct redisReply *reply, struct backend_mark *marks)
{
    struct redis_id end;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != question->n * 4)
        return false;
    for (size_t i = 0; i < question->n; i++) {
        struct redisReply **of = &reply->element[4 * i];
        marks[i].topic = question->has_topics ? question->topics[i] : NULL;
        if (!take_number(of[0], &marks[i].position) || !take_number(of[1], &marks[i].epoch) ||
            !take_number(of[2], &marks[i].incarnation) || of[3]->type != REDIS_REPLY_STRING ||
            !redis_id_parse(of[3]->str, &end))
            return false;
        marks[i].end = of[3]->str;
    }
    return true;
}

static void marks_answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct question *question = context;
    struct redis_backend *redis = question->redis;
    enum backend_result result = BACKEND_OK;
    char why[EVBUS_ERROR_MAX] = "";
    bool is_elsewhere = false;
    struct backend_mark *marks = calloc(question->n > 0 ? question->n : 1, sizeof *marks);
    (void)tag;
    if (reply == NULL) {
        result = BACKEND_AWAY;
        snprintf(why, sizeof why, "the connection was lost");
    } else if (reply->type == REDIS_REPLY_ERROR) {
        result = redis_error_find(reply->str)->result;
        is_elsewhere = redis_error_find(reply->str)->is_elsewhere;
        redis_error_tell(reply->str, why);
    } else if (marks == NULL || !take_marks(question, reply, marks)) {
        result = BACKEND_REFUSED;
        snprintf(why, sizeof why, "the marks evbus:{...}:mark:%s:%u of %s are no numbers; DEL them", redis->origin,
                 (unsigned)question->partition, question->log);
    }
    redis->callbacks.marks(redis->context, question->log, question->partition, result, marks,
                           result == BACKEND_OK ? question->n : 0, result == BACKEND_OK ? NULL : why);
    free(marks);
    question_free(question);
    if (is_elsewhere)
        redis_conn_drop(redis->out, why);
}

bool redis_ask(struct backend *backend, const char *log, uint32_t partition, const char *const *topics, size_t n)
{
    struct redis_backend *redis = redis_of(backend);
    bool is_log = redis->config->layout == CONFIG_LAYOUT_LOG;
    const char *const *streams = is_log ? &log : topics;
    size_t n_streams = is_log ? 1 : n;
    struct bytes command = {0};
    char key[REDIS_KEY_SIZE], number[16];
    if (!redis->is_here)
        return false;
    struct question *question = question_make(redis, log, partition, streams, n_streams);
    if (question == NULL)
        return false;
    question->has_topics = !is_log;
    redis_format_eval(&command, marks_lua, 2 * n_streams, 2 * n_streams + 2);
    for (size_t i = 0; i < n_streams; i++) {
        redis_stream_key(redis, streams[i], key);
        redis_format_text(&command, key, strlen(key));
        redis_mark_key(redis, streams[i], partition, key);
        redis_format_text(&command, key, strlen(key));
    }
    snprintf(number, sizeof number, "%u", (unsigned)partition);
    redis_format_text(&command, redis->origin, strlen(redis->origin));
    redis_format_text(&command, number, strlen(number));
    bool is_sent = redis_conn_send(
        redis->out, &(const struct redis_request){.answer = marks_answered, .context = question}, &command);
    bytes_free(&command);
    if (!is_sent)
        question_free(question);
    return is_sent;
}

/* --- a batch is made ---------------------------------------------------------------------------------------------- */

bool redis_begin(struct backend *backend, const char *log, uint32_t partition, uint64_t epoch, uint64_t incarnation)
{
    struct redis_backend *redis = redis_of(backend);
    struct redis_batch *batch = &redis->batch;
    if (!redis->is_here || strlen(log) >= sizeof batch->log)
        return false;
    if (batch->streams == NULL)
        batch->streams = calloc(STREAMS_MAX, sizeof *batch->streams);
    if (batch->streams == NULL)
        return false;
    bytes_clear(&batch->keys);
    bytes_begin(&batch->arguments, ROOM_BYTES);
    batch->n_streams = batch->n_arguments = batch->n_events = batch->run.n = 0;
    snprintf(batch->log, sizeof batch->log, "%s", log);
    batch->partition = partition;
    batch->epoch = epoch;
    batch->incarnation = incarnation;
    batch->is_open = true;
    redis_format_number(&batch->arguments, epoch);
    redis_format_number(&batch->arguments, incarnation);
    redis_format_text(&batch->arguments, redis->origin, strlen(redis->origin));
    redis_format_number(&batch->arguments, partition);
    batch->n_arguments = 4;
    return true;
}

/* Which of the batch's streams, from 1; 0: it has no room for another, or for its name. */
static size_t stream_of(struct redis_backend *redis, const char *name)
{
    struct redis_batch *batch = &redis->batch;
    char key[REDIS_KEY_SIZE];
    for (size_t i = batch->n_streams; i > 0; i--)
        if (strcmp(batch->streams[i - 1], name) == 0)
            return i;
    if (batch->n_streams == STREAMS_MAX || strlen(name) >= REDIS_NAME_SIZE)
        return 0;
    snprintf(batch->streams[batch->n_streams++], REDIS_NAME_SIZE, "%s", name);
    redis_stream_key(redis, name, key);
    redis_format_text(&batch->keys, key, strlen(key));
    redis_mark_key(redis, name, batch->partition, key);
    redis_format_text(&batch->keys, key, strlen(key));
    return batch->n_streams;
}

static void add_field(struct redis_batch *batch, const struct entry_field *field)
{
    redis_format_text(&batch->arguments, field->value, field->value_len);
    batch->n_arguments++;
}

static void add_number(struct redis_batch *batch, uint64_t number)
{
    redis_format_number(&batch->arguments, number);
    batch->n_arguments++;
}

/* Where the entry has them: see ENTRY_COMMON. */
enum { ID, TYPE, TIMESTAMP, VERSION, PAYLOAD, KEY, POSITION = 8 };

#define COUNT_DIGITS 4 /* of a run's events: batch_events is 1000 at most */

/* May the event stand in the run that is there? */
static bool goes_on(const struct redis_run *run, size_t stream, const struct entry *entry, uint64_t position,
                    uint64_t prev)
{
    if (run->n == 0 || run->stream != stream || run->last != prev || position <= prev ||
        run->n_more != entry->n - ENTRY_COMMON || strcmp(entry->fields[VERSION].value, run->version) != 0 ||
        strcmp(entry->fields[TYPE].value, run->topic) != 0)
        return false;
    for (size_t i = 0; i < run->n_more; i++)
        if (run->more[i] != entry->fields[ENTRY_COMMON + i].name)
            return false;
    return true;
}

/* How many they are is known now. */
static void end_run(struct redis_batch *batch)
{
    struct redis_run *run = &batch->run;
    if (run->n > 0 && !batch->arguments.is_broken)
        decimal_put_padded(bytes_front(&batch->arguments) + run->n_at, run->n, COUNT_DIGITS);
    run->n = 0;
}

static void begin_run(struct redis_batch *batch, size_t stream, const struct entry *entry, uint64_t prev)
{
    struct redis_run *run = &batch->run;
    end_run(batch);
    run->stream = stream;
    run->n_more = entry->n - ENTRY_COMMON;
    snprintf(run->topic, sizeof run->topic, "%s", entry->fields[TYPE].value);
    snprintf(run->version, sizeof run->version, "%s", entry->fields[VERSION].value);
    add_number(batch, stream);
    redis_format_text(&batch->arguments, "0000", COUNT_DIGITS);
    batch->n_arguments++;
    run->n_at = bytes_len(&batch->arguments) - strlen("\r\n") - COUNT_DIGITS;
    add_number(batch, prev);
    add_field(batch, &entry->fields[TYPE]);
    add_field(batch, &entry->fields[VERSION]);
    add_number(batch, run->n_more);
    for (size_t i = 0; i < run->n_more; i++) {
        const struct entry_field *field = &entry->fields[ENTRY_COMMON + i];
        run->more[i] = field->name;
        redis_format_text(&batch->arguments, field->name, field->name_len);
        batch->n_arguments++;
    }
}

/* Its own fields: the run has the rest in common. */
static void add_event(struct redis_batch *batch, const struct entry *entry)
{
    static const size_t travel[] = {ID, TIMESTAMP, PAYLOAD, KEY, POSITION};
    const size_t n_travel = sizeof travel / sizeof travel[0], n = n_travel + entry->n - ENTRY_COMMON;
    const struct entry_field *fields[ENTRY_FIELDS_MAX];
    size_t room = 0;
    for (size_t i = 0; i < n; i++) {
        fields[i] = &entry->fields[i < n_travel ? travel[i] : ENTRY_COMMON + i - n_travel];
        room += REDIS_TEXT_ROOM(fields[i]->value_len);
    }
    char *to = bytes_room(&batch->arguments, room);
    if (to == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        to = redis_put_text(to, fields[i]->value, fields[i]->value_len);
    bytes_written(&batch->arguments, to);
    batch->n_arguments += n;
}

bool redis_add(struct backend *backend, const struct evbus_delivery *event, uint64_t prev)
{
    struct redis_backend *redis = redis_of(backend);
    struct redis_batch *batch = &redis->batch;
    struct redis_run *run = &batch->run;
    const char *name = redis->config->layout == CONFIG_LAYOUT_LOG ? batch->log : event->topic;
    size_t len = event->payload_len;
    for (size_t i = 0; i < event->n_versions; i++)
        len += event->versions[i].payload_len;
    if (!batch->is_open)
        return false;
    if (batch->n_events > 0 && (batch->n_events >= redis->config->batch_events ||
                                bytes_len(&batch->arguments) + len > redis->config->batch_bytes))
        return false;
    size_t stream = stream_of(redis, name);
    if (stream == 0)
        return false;
    entry_write(event, redis->origin, prev, &batch->entry);
    if (!goes_on(run, stream, &batch->entry, event->position, prev))
        begin_run(batch, stream, &batch->entry, prev);
    add_event(batch, &batch->entry);
    run->n++;
    run->last = event->position;
    batch->n_events++;
    return true;
}

/* --- and sent ----------------------------------------------------------------------------------------------------- */

/* A batch under way; with wait_replicas two answers come. */
struct sent {
    struct redis_backend *redis;
    uint64_t ticket;
    unsigned n_left;
    bool is_told;
};

static void tell(struct sent *sent, enum backend_result result, const char *why)
{
    if (sent->is_told)
        return;
    sent->is_told = true;
    sent->redis->callbacks.appended(sent->redis->context, sent->ticket, result, why);
}

static void let_go(struct sent *sent)
{
    if (--sent->n_left == 0)
        free(sent);
}

static void append_answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct sent *sent = context;
    struct redis_backend *redis = sent->redis;
    char why[EVBUS_ERROR_MAX] = "";
    bool is_elsewhere = false;
    (void)tag;
    if (reply == NULL) {
        tell(sent, BACKEND_AWAY, "the connection was lost");
    } else if (reply->type == REDIS_REPLY_ERROR) {
        const struct redis_error *error = redis_error_find(reply->str);
        redis_error_tell(reply->str, why);
        is_elsewhere = error->is_elsewhere;
        if (strcmp(error->name, "NOSCRIPT") == 0)
            redis_load_script(redis);
        tell(sent, error->result, why);
    } else if (sent->n_left == 1) {
        tell(sent, BACKEND_OK, NULL);
    }
    let_go(sent);
    if (is_elsewhere)
        redis_conn_drop(redis->out, why);
}

static void wait_answered(void *context, uint64_t tag, const struct redisReply *reply)
{
    struct sent *sent = context;
    uint32_t wanted = sent->redis->config->wait_replicas;
    char why[EVBUS_ERROR_MAX];
    (void)tag;
    if (reply == NULL) {
        tell(sent, BACKEND_AWAY, "the connection was lost");
    } else if (reply->type == REDIS_REPLY_ERROR) {
        redis_error_tell(reply->str, why);
        tell(sent, BACKEND_REFUSED, why);
    } else if (reply->type != REDIS_REPLY_INTEGER || reply->integer < (long long)wanted) {
        snprintf(
            why, sizeof why,
            "only %lld of %u replicas (wait_replicas) have it in wait_timeout; it is in Redis, and is asked for again",
            reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0, (unsigned)wanted);
        tell(sent, BACKEND_REFUSED, why);
    } else {
        tell(sent, BACKEND_OK, NULL);
    }
    let_go(sent);
}

static void send_wait(struct redis_backend *redis, struct sent *sent)
{
    uint64_t timeout_ms = redis->config->wait_timeout_ns / 1000000;
    struct bytes command = {0};
    redis_format_array(&command, 3);
    redis_format_text(&command, "WAIT", 4);
    redis_format_number(&command, redis->config->wait_replicas);
    redis_format_number(&command, timeout_ms > 0 ? timeout_ms : 1); /* 0 would be for ever */
    sent->n_left++;
    if (!redis_conn_send(redis->out,
                         &(const struct redis_request){
                             .answer = wait_answered, .context = sent, .patience_ns = redis->config->wait_timeout_ns},
                         &command))
        sent->n_left--; /* the connection is at its end, and says so */
    bytes_free(&command);
}

bool redis_send(struct backend *backend, uint64_t ticket)
{
    struct redis_backend *redis = redis_of(backend);
    struct redis_batch *batch = &redis->batch;
    struct bytes *head = &batch->head;
    if (!batch->is_open || !redis->is_here)
        return false;
    batch->is_open = false;
    end_run(batch);
    struct sent *sent = calloc(1, sizeof *sent);
    if (sent == NULL)
        return false;
    *sent = (struct sent){.redis = redis, .ticket = ticket, .n_left = 1};
    bytes_clear(head);
    redis_format_array(head, 3 + 2 * batch->n_streams + batch->n_arguments);
    redis_format_text(head, "EVALSHA", 7);
    redis_format_text(head, redis->append_sha, strlen(redis->append_sha));
    redis_format_number(head, 2 * batch->n_streams);
    bytes_add_bytes(head, &batch->keys);
    bytes_add_before(&batch->arguments, head);
    bool is_sent = redis_conn_send(
        redis->out, &(const struct redis_request){.answer = append_answered, .context = sent}, &batch->arguments);
    if (!is_sent) {
        free(sent);
        return false;
    }
    if (redis->config->wait_replicas > 0)
        send_wait(redis, sent);
    redis_conn_push(redis->out);
    return true;
}

void redis_out_free(struct redis_backend *redis)
{
    bytes_free(&redis->batch.head);
    bytes_free(&redis->batch.keys);
    bytes_free(&redis->batch.arguments);
    free(redis->batch.streams);
}
