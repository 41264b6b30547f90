/* redis_reply.c: what hiredis makes of the bytes that come, in memory that is used again.
 *
 *     reply    hiredis asks for each text and each array of it; by itself it takes two pieces of memory for a text, so forty for an entry of a stream, and
 *              gives each of them back: that was a third of what an entry cost that comes in
 *     chunks   here they are cut from chunks, one behind the other, and nothing is given back by itself. When whoever asked has seen
 *              the reply all of it is forgotten at once; one chunk stays for the next reply
 *     order    a connection's replies come one after the other, so there is one at a time: that which is made, or that which is shown. A
 *              connection that is lost in the midst of one leaves its beginning here: forgotten before the next one begins
 *
 * An array of more than elements_max ends the connection before memory is taken for it. Checked by tests/broker/test_redis_conn.c. */
#include "redis_reply.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)64 << 10) /* the first one; the next is twice as large ... */
#define KEPT_BYTES  ((size_t)1 << 20)  /* ... up to here, and no larger one is kept */

struct redis_chunk {
    struct redis_chunk *next;
    size_t used, cap;
    alignas(max_align_t) char bytes[];
};

/* NULL: no memory. */
static void *take(struct redis_replies *replies, size_t len)
{
    struct redis_chunk *chunk = replies->chunks;
    len = (len + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
    if (chunk == NULL || chunk->cap - chunk->used < len) {
        size_t cap = chunk == NULL ? CHUNK_BYTES : chunk->cap < KEPT_BYTES / 2 ? chunk->cap * 2 : KEPT_BYTES;
        cap = cap < len ? len : cap;
        struct redis_chunk *fresh = malloc(sizeof *fresh + cap);
        if (fresh == NULL)
            return NULL;
        *fresh = (struct redis_chunk){.next = chunk, .cap = cap};
        replies->chunks = chunk = fresh;
    }
    void *taken = chunk->bytes + chunk->used;
    chunk->used += len;
    return taken;
}

static redisReply *make(const redisReadTask *task)
{
    redisReply *reply = take(task->privdata, sizeof *reply);
    if (reply == NULL)
        return NULL;
    *reply = (redisReply){.type = task->type};
    if (task->parent != NULL)
        ((redisReply *)task->parent->obj)->element[task->idx] = reply;
    return reply;
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
    redisReply *reply = make(task);
    char *copy = reply != NULL && len < SIZE_MAX / 2 ? take(task->privdata, len + 1) : NULL;
    if (copy == NULL)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    reply->str = copy;
    reply->len = len;
    return reply;
}

static void *create_array(const redisReadTask *task,
#if HIREDIS_MAJOR >= 1
                          size_t n
#else
                          int n
#endif
)
{
    struct redis_replies *replies = task->privdata;
    if (n < 0 || (size_t)n > replies->elements_max) {
        replies->is_too_large = true;
        return NULL;
    }
    redisReply *reply = make(task);
    size_t len = (size_t)n * sizeof(redisReply *);
    if (reply == NULL || (n > 0 && (reply->element = take(replies, len)) == NULL))
        return NULL;
    if (n > 0)
        memset(reply->element, 0, len);
    reply->elements = (size_t)n;
    return reply;
}

static void *create_integer(const redisReadTask *task, long long number)
{
    redisReply *reply = make(task);
    if (reply != NULL)
        reply->integer = number;
    return reply;
}

/* Its task is of the text or the array that is not there. */
static void *create_nil(const redisReadTask *task)
{
    redisReply *reply = make(task);
    if (reply != NULL)
        reply->type = REDIS_REPLY_NIL;
    return reply;
}

#if HIREDIS_MAJOR >= 1 /* of RESP3, which we never ask for: no reply of ours */
static void *create_double(const redisReadTask *task, double number, char *text, size_t len)
{
    (void)task, (void)number, (void)text, (void)len;
    return NULL;
}

static void *create_bool(const redisReadTask *task, int truth)
{
    (void)task, (void)truth;
    return NULL;
}
#endif

static void leave(void *reply)
{
    (void)reply;
}

redisReader *redis_replies_reader(struct redis_replies *replies)
{
    redisReader *reader = redisReaderCreate();
    if (reader == NULL)
        return NULL;
    replies->functions = (redisReplyObjectFunctions)
    {
        .createString = create_string, .createArray = create_array, .createInteger = create_integer,
        .createNil = create_nil,
#if HIREDIS_MAJOR >= 1
        .createDouble = create_double, .createBool = create_bool,
#endif
        .freeObject = leave
    };
    replies->is_too_large = false;
    redis_replies_forget(replies);
    reader->fn = &replies->functions;
    reader->privdata = replies;
    reader->maxbuf =
        KEPT_BYTES; /* idle, it keeps so much: else it gives the buffer back after each reply of some size */
    return reader;
}

void redis_replies_forget(struct redis_replies *replies)
{
    struct redis_chunk *kept = replies->chunks;
    if (kept == NULL)
        return;
    if (kept->cap > KEPT_BYTES) {
        redis_replies_free(replies);
        return;
    }
    while (kept->next != NULL) {
        struct redis_chunk *next = kept->next->next;
        free(kept->next);
        kept->next = next;
    }
    kept->used = 0;
}

void redis_replies_free(struct redis_replies *replies)
{
    while (replies->chunks != NULL) {
        struct redis_chunk *next = replies->chunks->next;
        free(replies->chunks);
        replies->chunks = next;
    }
}
