/* redis.h: a Redis of the test's own: a real redis-server, in a folder of its own, on a unix socket there. It dies
 * with the test. */
#ifndef REDIS_H
#define REDIS_H

#include "child.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redis_server {
    char dir[128];
    char socket[160];
    char url[200]; /* unix://... */
    uint16_t port; /* of TCP, on loopback; 0: none */
    bool is_tls;   /* that port speaks TLS */
    bool is_sentinel;
    struct child child;
};

/* Starts one and waits until it answers, whatever it answers. lines: of redis.conf, beside ours; NULL: none. Fails
 * the test where that is impossible. */
struct redis_server redis_server_start(const char *lines);
/* Also on a port of 127.0.0.1. */
struct redis_server redis_server_start_tcp(const char *lines);
/* Its port speaks TLS, with a certificate for localhost and 127.0.0.1 by redis_server_file("ca.crt"); needs_client:
 * it asks for client.crt. */
struct redis_server redis_server_start_tls(bool needs_client);

/* A sentinel, which has a port; lines: what it monitors; it writes into its own redis.conf. */
struct redis_server redis_server_start_sentinel(const char *lines);

void redis_server_kill(struct redis_server *server); /* SIGKILL */
void redis_server_stop(struct redis_server *server); /* as SHUTDOWN does: what it keeps is on its disk */
void redis_server_again(
    struct redis_server *server); /* after either: the same folder, socket and port. Waits until it answers */
void redis_server_launch(struct redis_server *server); /* the same, without waiting */
void redis_server_configure(const struct redis_server *server,
                            const char *lines);       /* in place of those before, when it starts again */
void redis_server_pause(struct redis_server *server); /* SIGSTOP */
void redis_server_continue(struct redis_server *server);

/* A file of its folder; static. */
const char *redis_server_file(const struct redis_server *server, const char *name);

/* One command, words divided by blanks or in double quotes, on a connection of its own. Its answer as a line: a text,
 * a number, "(nil)", "(error) ...", or all of an array's elements divided by blanks. Static. */
__attribute__((format(printf, 2, 3))) const char *redis_server_ask(const struct redis_server *server,
                                                                   const char *format, ...);
__attribute__((format(printf, 2, 3))) long long redis_server_number(const struct redis_server *server,
                                                                    const char *format, ...);

/* An event that a foreign program appends, its id; static. With a payload of so many bytes. */
const char *redis_server_add_large(const struct redis_server *server, const char *stream, size_t payload_len);

/* The values of one field of all entries of a stream, in order, divided by blanks. Static. */
const char *redis_server_fields(const struct redis_server *server, const char *stream, const char *field);

/* Another process keeps it busy by a script that does not end, until SCRIPT KILL. */
struct child redis_server_keep_busy(const struct redis_server *server);

#endif
