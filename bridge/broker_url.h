/* broker_url.h: where the broker is, in one text. See broker_url.c. */
#ifndef EVBUS_BRIDGE_BROKER_URL_H
#define EVBUS_BRIDGE_BROKER_URL_H

#include <stdbool.h>
#include <stdint.h>

enum broker_kind { BROKER_REDIS, BROKER_FILE };

struct broker_url {
    enum broker_kind kind;
    bool is_tls;
    char user[64];  /* "": none */
    char host[256]; /* without brackets; "": a unix socket, or a folder */
    uint16_t port;
    uint32_t db;
    char path[512]; /* of a unix socket, absolute; of the folder */
};

/* false: why says what was found and the mend, in CONFIG_PROBLEM_MAX bytes, and no password. */
bool broker_url_read(const char *text, struct broker_url *out, char *why);

/* "redis", "file": a mirror's name, where none is given. */
const char *broker_kind_name(enum broker_kind kind);

#endif
