/* broker_url.h: where the broker is, in one text. See broker_url.c. */
#ifndef EVBUS_BRIDGE_BROKER_URL_H
#define EVBUS_BRIDGE_BROKER_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum broker_kind { BROKER_REDIS, BROKER_FILE };

#define BROKER_SENTINELS_MAX 8

struct broker_address {
    char host[256]; /* without brackets */
    uint16_t port;
};

struct broker_url {
    enum broker_kind kind;
    bool is_tls;
    char user[64];  /* "": none */
    char host[256]; /* without brackets; "": a unix socket, a folder, or the master that sentinels know */
    uint16_t port;
    uint32_t db;
    char path[512]; /* of a unix socket, absolute; of the folder */
    struct broker_address sentinels[BROKER_SENTINELS_MAX];
    size_t n_sentinels; /* 0: none is asked */
    char master[64];    /* as they call it */
};

/* false: why says what was found and the mend, in CONFIG_PROBLEM_MAX bytes, and no password. */
bool broker_url_read(const char *text, struct broker_url *out, char *why);

/* "redis", "file": a mirror's name, where none is given. */
const char *broker_kind_name(enum broker_kind kind);

#endif
