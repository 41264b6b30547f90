/* http_address.c: where metrics and health are asked for: on this host alone.
 *
 * What is served names topics, groups and services, and nobody has to say who he is; so no other host shall reach it, nor any address that
 * another host might come to have. Whoever collects from afar has an agent here, or a proxy with TLS and a password.
 * Checked by tests/broker/test_http.c. */
#include "http_address.h"

#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MEND "write 127.0.0.1:9640, [::1]:9640 or unix:/run/evbus/metrics.sock"

static bool refuse(char *why, const char *what)
{
    (void)snprintf(why, CONFIG_PROBLEM_MAX, "%s; " MEND, what);
    return false;
}

static bool read_port(const char *text, uint16_t *out_port)
{
    uint32_t port = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    *out_port = (uint16_t)port;
    return port <= UINT16_MAX;
}

static bool read_unix(const char *path, struct http_address *out, char *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (*path != '/' || path[1] == '\0')
        return refuse(why, "names no socket by its whole path");
    if (strlen(path) >= sizeof address.sun_path)
        return refuse(why, "has a longer path than a socket may have, which is 107 bytes");
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    memcpy(&out->socket, &address, sizeof address);
    memcpy(out->path, address.sun_path, sizeof out->path);
    out->len = sizeof address;
    return true;
}

bool http_address_read(const char *text, struct http_address *out, char *why)
{
    struct http_address found;
    char host[64];
    uint16_t port = 0;
    memset(&found, 0, sizeof found);
    if (strncmp(text, "unix:", 5) == 0) {
        const char *path = text + 5;
        path += strncmp(path, "//", 2) == 0 ? 2 : 0; /* as broker has it */
        if (!read_unix(path, &found, why))
            return false;
        *out = found;
        return true;
    }
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof host || !read_port(colon + 1, &port))
        return refuse(why, "is no address with a port");
    (void)snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    size_t host_len = strlen(host);
    bool is_four = inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &four.sin_addr) == 1;
    if (!is_four && host_len > 2 && host[0] == '[' && host[host_len - 1] == ']') {
        host[host_len - 1] = '\0';
        if (inet_pton(AF_INET6, host + 1, &six.sin6_addr) == 1 && IN6_IS_ADDR_LOOPBACK(&six.sin6_addr)) {
            memcpy(&found.socket, &six, sizeof six);
            found.len = sizeof six;
            *out = found;
            return true;
        }
    }
    if (!is_four || ntohl(four.sin_addr.s_addr) >> 24 != 127)
        return refuse(why,
                      "is not an address of this host alone, and metrics name topics and services to whoever asks");
    memcpy(&found.socket, &four, sizeof four);
    found.len = sizeof four;
    *out = found;
    return true;
}
