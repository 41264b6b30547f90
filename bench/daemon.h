/* daemon.h: a redis-server, an evbus-bridge or another daemon of a benchmark's own. See daemon.c. */
#ifndef BENCH_DAEMON_H
#define BENCH_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* All zero: none. */
struct daemon {
    pid_t pid;
    int end_signal; /* 0: SIGTERM */
    char log[640];  /* what it says: shown where something fails */
};

/* In PATH, or where daemons are: /usr/sbin. */
bool program_find(const char *name, char *out, size_t size);

/* words: the program and its arguments, NULL behind them. The log lies in `folder`. 0 or 1 */
int daemon_start(struct daemon *out, const char *const *words, const char *folder, const char *name);
int daemon_stop(struct daemon *daemon, const char *what);        /* 0: it has ended as it should, or there is none */
bool daemon_has_ended(struct daemon *daemon, int *out_status);   /* by itself */
int folder_remove(const char *folder);                           /* with all that is in it; "": nothing. As remove() */
uint64_t daemon_cpu_ns(const struct daemon *daemon);             /* of all its threads; 0: it is gone */
int daemon_fails(const struct daemon *daemon, const char *what); /* prints its last lines, returns 1 */

/* Waits until `bus`, of this process's user, is mirrored to and from the Redis at `socket`, or one way only. is_out, is_in: which
 * ways. The log lies in `folder`. 0 or 1. */
int bridge_start(struct daemon *out, const char *bus, const char *socket, const char *folder, int is_out, int is_in);
int bridge_stop(struct daemon *bridge); /* 0: it has ended as it should */

struct redis {
    struct daemon daemon;
    char folder[600]; /* its files, on the disk of the bus's */
    char place[64];   /* its socket's folder: paths of sockets are short */
    char socket[80];
};

/* fsync: no, everysec, always; NULL: it keeps nothing in files. Answers once this returns 0; else all is cleared away. */
int redis_start(struct redis *out, const char *fsync);
int redis_stop(struct redis *redis);

/* Runs redis-benchmark: n requests of these words, `clients` connections with `pipeline` under way on each. */
int redis_benchmark(const struct redis *redis, size_t n, unsigned clients, unsigned pipeline, const char *const *words,
                    size_t n_words, double *out_per_s);

#endif
