/* redis_tls.h: TLS on a non-blocking socket, with the other side's certificate checked, always. See redis_tls.c. */
#ifndef EVBUS_BRIDGE_REDIS_TLS_H
#define EVBUS_BRIDGE_REDIS_TLS_H

#include <stdbool.h>
#include <stddef.h>

struct redis_tls;         /* whom we trust, who we are: once per backend */
struct redis_tls_session; /* one connection */

struct redis_tls_options {
    const char *ca;         /* a file or a folder; "": the system's */
    const char *cert, *key; /* "": none */
    const char *name;       /* whose certificate it must be: a host's name or its address in digits */
};

/* NULL: error (EVBUS_ERROR_MAX bytes) tells which file, and why. */
struct redis_tls *redis_tls_open(const struct redis_tls_options *options, char *error);
void redis_tls_close(struct redis_tls *tls); /* NULL is fine */

/* NULL: no memory. The socket stays the caller's. */
struct redis_tls_session *redis_tls_start(struct redis_tls *tls, int fd);
void redis_tls_end(struct redis_tls_session *session); /* NULL is fine */

enum redis_tls_result { REDIS_TLS_OK, REDIS_TLS_WAIT, REDIS_TLS_END, REDIS_TLS_FAILED };

/* WAIT: for what redis_tls_wants_write() says. FAILED: why (EVBUS_ERROR_MAX bytes). */
enum redis_tls_result redis_tls_handshake(struct redis_tls_session *session, char *why);
enum redis_tls_result redis_tls_read(struct redis_tls_session *session, void *into, size_t cap, size_t *out_len,
                                     char *why);
enum redis_tls_result redis_tls_write(struct redis_tls_session *session, const void *from, size_t len, size_t *out_len,
                                      char *why);

/* The last call that said WAIT goes on when the socket can be written; else when it can be read. */
bool redis_tls_wants_write(const struct redis_tls_session *session);

#endif
