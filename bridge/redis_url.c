/* redis_url.c: where a Redis is, as the operator writes it.
 *
 *     redis://[USER@]HOST[:PORT][/DB]     rediss:// the same by TLS     unix:///PATH[?db=N]
 *
 * What is not understood is refused, by what was found and what it should be: a bridge that starts on half an URL
 * writes to another Redis. There is no place for a password: whoever lists processes would read it. Checked by
 * tests/broker/test_redis_conn.c. */
#include "redis_url.h"

#include <ctype.h>
#include <evbus/evbus.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORM "redis://[USER@]HOST[:PORT][/DB], rediss:// (TLS) or unix:///PATH[?db=N]"

__attribute__((format(printf, 2, 3))) static bool wrong(char *error, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(error, EVBUS_ERROR_MAX, format, list);
    va_end(list);
    return false;
}

/* A number without sign and blanks that is no greater than `most`. */
static bool number(const char *text, size_t len, uint32_t most, uint32_t *out)
{
    uint64_t value = 0;
    if (len == 0 || len > 9)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (value > most)
        return false;
    *out = (uint32_t)value;
    return true;
}

/* %XX into bytes; no NUL. */
static bool decode(const char *text, size_t len, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char byte = text[i];
        if (byte == '%') {
            char hex[3] = {0};
            if (i + 2 >= len || !isxdigit((unsigned char)text[i + 1]) || !isxdigit((unsigned char)text[i + 2]))
                return false;
            memcpy(hex, text + i + 1, 2);
            byte = (char)strtoul(hex, NULL, 16);
            i += 2;
        }
        if (byte == '\0' || n + 1 >= cap)
            return false;
        out[n++] = byte;
    }
    out[n] = '\0';
    return true;
}

static bool parse_db(const char *text, const char *from, struct redis_url *url, char *error)
{
    if (number(from, strlen(from), 65535, &url->db))
        return true;
    return wrong(error, "broker \"%.200s\": \"%.100s\" is no database; it is a number, most often 0", text, from);
}

static bool parse_unix(const char *text, const char *path, struct redis_url *url, char *error)
{
    const char *question = strchr(path, '?');
    size_t len = question != NULL ? (size_t)(question - path) : strlen(path);
    if (path[0] != '/' || len < 2)
        return wrong(error, "broker \"%.200s\": the path must begin with /; write unix:///run/redis/redis.sock", text);
    if (len >= sizeof url->path)
        return wrong(error, "broker \"%.200s\": the path has %zu bytes; a unix socket's has at most %zu", text, len,
                     sizeof url->path - 1);
    memcpy(url->path, path, len);
    if (question == NULL)
        return true;
    if (strncmp(question, "?db=", 4) != 0)
        return wrong(error, "broker \"%.200s\": \"%.100s\" is not known; only ?db=N is", text, question);
    return parse_db(text, question + 4, url, error);
}

static bool parse_user(const char *text, const char *from, size_t len, struct redis_url *url, char *error)
{
    if (memchr(from, ':', len) != NULL)
        return wrong(error,
                     "broker: a password has no place in the URL, where all can read it; write it into a file, and set "
                     "password_file");
    if (len == 0 || !decode(from, len, url->user, sizeof url->user))
        return wrong(
            error, "broker \"%.200s\": the user before the @ must have 1 to %zu bytes; %%XX stands for any byte but 0",
            text, sizeof url->user - 1);
    return true;
}

static bool parse_host(const char *text, const char *from, size_t len, struct redis_url *url, char *error)
{
    const char *end = from + len;
    const char *host = from, *colon;
    if (len > 0 && from[0] == '[') {
        const char *bracket = memchr(from, ']', len);
        if (bracket == NULL)
            return wrong(error, "broker \"%.200s\": the [ of an IPv6 address is not closed by ]", text);
        host = from + 1;
        len = (size_t)(bracket - host);
        colon = bracket + 1;
        if (colon != end && *colon != ':')
            return wrong(error, "broker \"%.200s\": \"%.*s\" stands behind ]; only :PORT may", text, (int)(end - colon),
                         colon);
    } else {
        colon = memchr(from, ':', len);
        if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon - 1)) != NULL)
            return wrong(error, "broker \"%.200s\": an IPv6 address is written in brackets: [::1]:6379", text);
        if (colon == NULL)
            colon = end;
        len = (size_t)(colon - from);
    }
    if (len == 0 || len >= sizeof url->host)
        return wrong(error, "broker \"%.200s\": the host has %zu bytes; it must have 1 to %zu", text, len,
                     sizeof url->host - 1);
    memcpy(url->host, host, len);
    uint32_t port = 6379;
    if (colon != end && (!number(colon + 1, (size_t)(end - colon - 1), 65535, &port) || port == 0))
        return wrong(error, "broker \"%.200s\": \"%.*s\" is no port; it is a number from 1 to 65535", text,
                     (int)(end - colon - 1), colon + 1);
    snprintf(url->port, sizeof url->port, "%u", (unsigned)(port & 0xffff));
    return true;
}

bool redis_url_parse(const char *text, struct redis_url *out, char *error)
{
    struct redis_url url = {0};
    const char *rest;
    if (strncmp(text, "unix://", 7) == 0) {
        if (!parse_unix(text, text + 7, &url, error))
            return false;
        *out = url;
        return true;
    }
    if (strncmp(text, "redis://", 8) == 0)
        rest = text + 8;
    else if (strncmp(text, "rediss://", 9) == 0)
        rest = text + 9;
    else
        return wrong(error, "broker \"%.200s\": this is no Redis' address; write " FORM, text);
    url.is_tls = text[5] == 's';
    size_t len = strcspn(rest, "/?#");
    const char *tail = rest + len;
    const char *at = memchr(rest, '@', len);
    if (at != NULL && !parse_user(text, rest, (size_t)(at - rest), &url, error))
        return false;
    const char *host = at != NULL ? at + 1 : rest;
    if (!parse_host(text, host, (size_t)(tail - host), &url, error))
        return false;
    if (tail[0] == '/' && tail[1] != '\0' && !parse_db(text, tail + 1, &url, error))
        return false;
    if (tail[0] == '?' || tail[0] == '#')
        return wrong(error, "broker \"%.200s\": \"%.100s\" is not known; write " FORM, text, tail);
    *out = url;
    return true;
}
