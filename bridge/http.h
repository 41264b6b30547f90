/* http.h: GET /metrics, /healthz, /readyz. See http.c. */
#ifndef EVBUS_BRIDGE_HTTP_H
#define EVBUS_BRIDGE_HTTP_H

#include "health.h"

#include <stddef.h>

struct http;

/* What is served; asked from within http_service(). */
struct http_pages {
    /* Gives the text to write(), and returns what that does, or another negative number */
    int (*metrics)(void *context, int (*write)(void *write_context, const char *text, size_t len), void *write_context);
    bool (*is_alive)(void *context, char why[HEALTH_WHY_MAX]);
    bool (*is_ready)(void *context, char why[HEALTH_WHY_MAX]);
    void *context;
};

#define HTTP_WHY_MAX 512

/* Listens at an address as http_address_read() takes it. pages: copied. EVBUS_OK; EVBUS_EIO, and why says what is wrong and the mend. */
int http_open(struct http **out, const char *address, const struct http_pages *pages, char why[HTTP_WHY_MAX]);
void http_close(struct http *http);

/* Where it listens, the port that was free among it: "127.0.0.1:40123". */
const char *http_where(const struct http *http);

/* A descriptor for poll(): readable when http_service() has something to do; and after how many ms it has, anyway; -1: never. */
int http_fd(const struct http *http);
int http_timeout_ms(const struct http *http);

/* Does what can be done at once. */
void http_service(struct http *http);

#endif
