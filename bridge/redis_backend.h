/* redis_backend.h: what the parts of backend_redis share.
 *
 *     backend_redis   two connections of one fate; what kind of Redis it is; here or away
 *     redis_sentinel  where the master is, if sentinels are to be asked
 *     redis_out       marks asked for; batches, appended by a script
 *     redis_in        streams read from our own ids
 *     redis_trim      reports of the hosts, and what goes */
#ifndef EVBUS_BRIDGE_REDIS_BACKEND_H
#define EVBUS_BRIDGE_REDIS_BACKEND_H

#include "backend.h"
#include "broker_url.h"
#include "config.h"
#include "redis_conn.h"

#define REDIS_NAME_SIZE 192                    /* of a topic or a log, with its NUL */
#define REDIS_KEY_SIZE  (REDIS_NAME_SIZE + 96) /* of a key that is made of one */
#define REDIS_REPLY_MAX ((size_t)64 << 20)
#define REDIS_SHA_LEN   40

/* Events of one stream, each the next one's prev, with the same type, version and further fields: see append.lua. */
struct redis_run {
    size_t n;      /* events; 0: there is none */
    size_t n_at;   /* where that number is to stand in `arguments` */
    size_t stream; /* which of the batch's, from 1 */
    uint64_t last; /* position */
    char topic[REDIS_NAME_SIZE];
    char version[16];
    size_t n_more;
    const char *more[ENTRY_FIELDS_MAX]; /* names of further fields, as entry.c has them */
};

/* One batch that is made. Its command is what stands in `arguments`; how many keys it has is known only when it is sent, and then they,
 * and the command's beginning, are put before them. */
struct redis_batch {
    bool is_open;
    uint32_t partition;
    uint64_t epoch, incarnation;
    char log[REDIS_NAME_SIZE];
    char (*streams)[REDIS_NAME_SIZE];
    size_t n_streams;
    struct bytes head; /* the command's beginning, and the keys, when it is sent */
    struct bytes keys; /* formatted */
    struct bytes arguments;
    struct redis_run run; /* the last one in it */
    struct entry entry;   /* the last event */
    size_t n_arguments;
    size_t n_events;
};

struct redis_id {
    uint64_t ms, seq;
};

struct redis_stream;

/* See redis_in.c. */
struct redis_in {
    struct redis_stream **streams;
    size_t n_streams;
    uint64_t client_id;         /* of the connection that reads */
    bool is_reading;            /* an XREAD is under way */
    bool is_waking;             /* a CLIENT UNBLOCK is */
    size_t n_checks;            /* under way */
    uint32_t count;             /* entries of a stream at once */
    unsigned alone;             /* so many reads of one stream alone */
    size_t turn;                /* whose turn it is to be read alone */
    struct redis_stream *giant; /* its next entry is larger than we take */
    unsigned n_failed;          /* reads in a row */
    uint64_t read_at_ns;        /* not before */
};

struct redis_backend {
    struct backend backend; /* first: what the bridge holds */
    const struct config *config;
    const char *origin;
    struct backend_callbacks callbacks;
    void *context;
    struct broker_url url;
    struct redis_sentinel *sentinel; /* NULL: none is asked; else `url` has the host and port that it told last */
    struct redis_tls *tls;
    struct redis_conn *out; /* scripts */
    struct redis_conn *in;  /* reads; NULL: the bridge brings nothing in */
    bool is_here;
    char told[EVBUS_ERROR_MAX];    /* what state() was told last */
    char warning[EVBUS_ERROR_MAX]; /* of this Redis; "": none */
    char append_sha[REDIS_SHA_LEN + 1];
    struct redis_batch batch;
    struct redis_in reading;
};

static inline struct redis_backend *redis_of(struct backend *backend)
{
    return (struct redis_backend *)backend;
}

/* To the bridge's state(), if it is another word than the last. */
void redis_tell_state(struct redis_backend *redis, bool is_here, const char *why);
/* The append script, once more. */
void redis_load_script(struct redis_backend *redis);

/* Keys of a stream (a topic, or with layout=log a log), in REDIS_KEY_SIZE bytes. */
void redis_stream_key(const struct redis_backend *redis, const char *stream, char *out);
void redis_mark_key(const struct redis_backend *redis, const char *stream, uint32_t partition, char *out);
void redis_hosts_key(const char *stream, char *out);

/* EVAL <script> <n_keys> ...: what is called seldom travels whole. The keys and arguments are added by the caller,
 * n_more of both. */
void redis_format_eval(struct bytes *out, const char *script, size_t n_keys, size_t n_more);

bool redis_ask(struct backend *backend, const char *log, uint32_t partition, const char *const *topics, size_t n);
bool redis_begin(struct backend *backend, const char *log, uint32_t partition, uint64_t epoch, uint64_t incarnation);
bool redis_add(struct backend *backend, const struct evbus_delivery *event, uint64_t prev);
bool redis_send(struct backend *backend, uint64_t ticket);
void redis_out_free(struct redis_backend *redis);

int redis_listen(struct backend *backend, const char *stream, const char *id);
void redis_more(struct backend *backend, const char *stream);
int redis_id_compare(const char *left, const char *right);
bool redis_id_parse(const char *text, struct redis_id *out); /* "": 0-0 */
void redis_in_start(struct redis_backend *redis);            /* it is here: all is looked at anew */
void redis_in_lost(struct redis_backend *redis, enum redis_loss loss);
void redis_in_go_on(struct redis_backend *redis); /* ask for what is wanted, if nothing is under way */
void redis_in_until(const struct redis_backend *redis, uint64_t *inout_until_ns);
void redis_in_free(struct redis_backend *redis);

void redis_report(struct backend *backend, const char *stream, const char *id);
void redis_trim(struct backend *backend, const char *stream);

#endif
