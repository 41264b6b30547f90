/* http_address.h: where metrics and health are asked for: on this host alone. See http_address.c. */
#ifndef EVBUS_BRIDGE_HTTP_ADDRESS_H
#define EVBUS_BRIDGE_HTTP_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct http_address {
    struct sockaddr_storage socket;
    socklen_t len;
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path]; /* "": not a unix socket */
};

/* "127.0.0.1:9640", "[::1]:9640", "localhost:9640", "unix:/PATH". Port 0: any that is free. false: why, in CONFIG_PROBLEM_MAX bytes. */
bool http_address_read(const char *text, struct http_address *out, char *why);

#endif
