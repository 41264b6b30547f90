/* redis_url.h: where a Redis is, as the operator writes it. See redis_url.c. */
#ifndef EVBUS_BRIDGE_REDIS_URL_H
#define EVBUS_BRIDGE_REDIS_URL_H

#include <stdbool.h>
#include <stdint.h>

struct redis_url {
    bool is_tls;
    char path[108]; /* of a unix socket; "": host and port */
    char host[254]; /* a name or an address, without brackets */
    char port[6];
    char user[64]; /* "": none is said */
    uint32_t db;
};

/* redis://[USER@]HOST[:PORT][/DB], rediss:// (TLS), unix:///PATH[?db=N]. false: error (EVBUS_ERROR_MAX bytes) tells
 * what was found, and the mend */
bool redis_url_parse(const char *text, struct redis_url *out, char *error);

#endif
