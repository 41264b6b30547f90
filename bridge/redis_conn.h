/* redis_conn.h: one connection to a Redis, that nobody waits for. See redis_conn.c. */
#ifndef EVBUS_BRIDGE_REDIS_CONN_H
#define EVBUS_BRIDGE_REDIS_CONN_H

#include "bytes.h"
#include "decimal.h"

#include <poll.h>
#include <stdint.h>

struct broker_url;
struct redis_conn;
struct redis_tls;
struct redisReply;

/* All of it lives as long as the connection. */
struct redis_conn_options {
    const struct broker_url *url; /* where it is, may change while it rests */
    struct redis_tls *tls;        /* for rediss:// */
    const char *user;             /* "": the default one */
    const char *password;         /* any bytes */
    size_t password_len;          /* 0: none */
    const char *name;             /* as CLIENT LIST shows it */
    uint64_t connect_timeout_ns;  /* until it has let us in */
    uint64_t reply_timeout_ns;
    size_t reply_max; /* bytes of one reply: what is larger is not taken in */
};

/* reply NULL: the connection was lost, and nobody knows whether it was done. Lives until it returns. */
typedef void redis_answer(void *context, uint64_t tag, const struct redisReply *reply);

struct redis_request {
    redis_answer *answer; /* NULL: nobody cares */
    void *context;
    uint64_t tag;
    uint64_t patience_ns; /* beyond reply_timeout: it is a command that waits */
};

/* Both from within redis_conn_service(), _drop(). */
struct redis_conn_callbacks {
    /* It has let us in. Ask what must be known, then say redis_conn_ready(), or redis_conn_drop() */
    void (*connected)(void *context);
    /* It is gone, or could not be reached: told each time; it is tried again, for ever. All that was asked has been
     * answered by NULL */
    void (*lost)(void *context, const char *why);
};

/* What an operator may change while it runs. */
void redis_conn_change(struct redis_conn *conn, size_t password_len, uint64_t connect_timeout_ns,
                       uint64_t reply_timeout_ns);

/* NULL: no memory. It begins to connect with the first redis_conn_service(). */
struct redis_conn *redis_conn_open(const struct redis_conn_options *options,
                                   const struct redis_conn_callbacks *callbacks, void *context);
void redis_conn_close(struct redis_conn *conn); /* answers nothing any more. NULL is fine */

/* What to wait for; false: nothing but the time. Lowers *inout_until_ns (CLOCK_MONOTONIC; UINT64_MAX: for ever). */
bool redis_conn_poll(const struct redis_conn *conn, struct pollfd *out, uint64_t *inout_until_ns);
void redis_conn_service(struct redis_conn *conn, short revents);

bool redis_conn_is_connected(const struct redis_conn *conn); /* from connected() until lost() */
bool redis_conn_is_ready(const struct redis_conn *conn);     /* from redis_conn_ready() on */
void redis_conn_ready(struct redis_conn *conn);
/* End it, and connect anew. From within a callback alone, of whichever connection. */
void redis_conn_drop(struct redis_conn *conn, const char *why);
/* How it was lost last. */
enum redis_loss {
    REDIS_LOSS_OTHER,
    REDIS_LOSS_TOO_LARGE /* a reply, for reply_max */,
    REDIS_LOSS_SILENT /* for reply_timeout */
};
enum redis_loss redis_conn_loss(const struct redis_conn *conn);

/* While it is held it does not connect anew, once it is lost. */
void redis_conn_hold(struct redis_conn *conn, bool is_held);

/* Takes what is in the command: it is empty then. false: it is not connected: nothing was sent or taken, nothing will be answered. */
bool redis_conn_send(struct redis_conn *conn, const struct redis_request *request, struct bytes *command);
bool redis_conn_command(struct redis_conn *conn, const struct redis_request *request, size_t n,
                        const char *const *texts);
/* What was sent goes out as far as the socket takes it, without a round of poll() first. Of what goes wrong, service() tells. */
void redis_conn_push(struct redis_conn *conn);

/* A command is an array of texts. */
void redis_format_array(struct bytes *out, size_t n);
void redis_format_text(struct bytes *out, const char *text, size_t len);
void redis_format_number(struct bytes *out, uint64_t number);

#define REDIS_TEXT_ROOM(len) ((len) + DECIMAL_MAX + sizeof "$\r\n\r\n")

/* A text, where there is room for it. Returns the end. */
static inline char *redis_put_text(char *to, const char *text, size_t len)
{
    *to++ = '$';
    to = decimal_put(to, len);
    memcpy(to, "\r\n", 2); /* gcc calls mempcpy() for two bytes, too */
    to += 2;
    if (len > 0)
        memcpy(to, text, len);
    to += len;
    memcpy(to, "\r\n", 2);
    return to + 2;
}

#endif
