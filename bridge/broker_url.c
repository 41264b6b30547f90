/* broker_url.c: where the broker is, in one text.
 *
 *     redis://[USER@]HOST[:PORT][/DB]      TCP; HOST may be [::1]; port 6379, db 0
 *     rediss://...                         the same with TLS
 *     unix:///PATH                         a socket of this host
 *     file:DIR                             NDJSON files in a folder
 *
 * A password is not among it: a command line stands in ps, an environment in /proc, and a config file is read by more people than a
 * password should be. Who writes one anyway is told where it belongs, and is not shown it again in a log. What we do not know is
 * refused, as options behind a `?`: left out in silence, it would be found out in the night.
 * Checked by tests/broker/test_config.c. */
#include "broker_url.h"

#include "config_keys.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { REDIS_PORT = 6379, DB_MAX = 1000000, SOCKET_PATH_MAX = 107 };

__attribute__((format(printf, 2, 3))) static bool refuse(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, CONFIG_PROBLEM_MAX, format, args);
    va_end(args);
    return false;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool are_digits(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isdigit((unsigned char)text[i]))
            return false;
    return len > 0;
}

/* Decimal digits, and no more than `most`. */
static bool read_number(const char *text, size_t len, uint32_t most, uint32_t *out_number)
{
    uint64_t number = 0;
    if (!are_digits(text, len) || len > 9)
        return false;
    for (size_t i = 0; i < len; i++)
        number = number * 10 + (uint64_t)(text[i] - '0');
    *out_number = (uint32_t)number;
    return number <= most;
}

/* USER in front of the @. */
static bool read_user(const char *text, size_t len, struct broker_url *out, char *why)
{
    if (memchr(text, ':', len) != NULL)
        return refuse(
            why, "holds a password, which would stand in ps and in logs; write it into a file that only the bridge may "
                 "read, name that by password_file, and leave USER@ or nothing before the host");
    if (len == 0 || len >= sizeof out->user)
        return refuse(why, "has a user of %zu bytes before the @; 1 to %zu are allowed", len, sizeof out->user - 1);
    for (size_t i = 0; i < len; i++)
        if (!isgraph((unsigned char)text[i]) || strchr("%/?#@", text[i]) != NULL)
            return refuse(why, "has a user with other letters than a URL has; name the user by the key `user`");
    memcpy(out->user, text, len);
    return true;
}

static bool read_host(const char *text, size_t len, struct broker_url *out, char *why)
{
    if (len == 0)
        return refuse(why, "names no host; write e.g. redis://127.0.0.1:6379");
    if (len >= sizeof out->host)
        return refuse(why, "has a host of %zu bytes; at most %zu are allowed", len, sizeof out->host - 1);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && strchr(".-_:%", text[i]) == NULL)
            return refuse(
                why, "has a host with other letters than a-z 0-9 . - in it; write e.g. redis://redis.example.org:6379");
    memcpy(out->host, text, len);
    return true;
}

/* HOST[:PORT], [HOST][:PORT] */
static bool read_address(const char *text, size_t len, struct broker_url *out, char *why)
{
    const char *end = text + len, *port = NULL;
    out->port = REDIS_PORT;
    if (len > 0 && *text == '[') {
        const char *close = memchr(text, ']', len);
        if (close == NULL)
            return refuse(why, "has a [ without its ]; an IPv6 address is written redis://[::1]:6379");
        if (close + 1 < end && close[1] != ':')
            return refuse(why, "has something behind the ] that is no port; write redis://[::1]:6379");
        port = close + 1 < end ? close + 2 : NULL;
        if (!read_host(text + 1, (size_t)(close - text) - 1, out, why))
            return false;
    } else {
        const char *colon = memchr(text, ':', len);
        if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon) - 1) != NULL)
            return refuse(why,
                          "has a host with several colons; an IPv6 address stands in brackets, as redis://[::1]:6379");
        port = colon != NULL ? colon + 1 : NULL;
        if (!read_host(text, colon != NULL ? (size_t)(colon - text) : len, out, why))
            return false;
    }
    uint32_t number = REDIS_PORT;
    if (port != NULL && (!read_number(port, (size_t)(end - port), UINT16_MAX, &number) || number == 0))
        return refuse(why, "has a port that is none; 1 to 65535 are allowed, and without one it is %d", REDIS_PORT);
    out->port = (uint16_t)number;
    return true;
}

/* Behind the two slashes: [USER@]HOST[:PORT][/DB] */
static bool read_redis(const char *text, struct broker_url *out, char *why)
{
    const char *at = strrchr(text, '@'); /* a password may have one in it */
    if (at != NULL && !read_user(text, (size_t)(at - text), out, why))
        return false;
    const char *address = at != NULL ? at + 1 : text;
    size_t len = strcspn(address, "/?#");
    const char *rest = address + len;
    if (*rest == '/' && rest[1] != '\0' && !read_number(rest + 1, strlen(rest + 1), DB_MAX, &out->db))
        return refuse(why, "has a database that is no number; write e.g. redis://127.0.0.1:6379/1");
    if (*rest != '/' && *rest != '\0')
        return refuse(why, "has options behind a ? or #, which are not known here; each setting is a key of its own");
    return read_address(address, len, out, why);
}

bool broker_url_read(const char *text, struct broker_url *out, char *why)
{
    struct broker_url url;
    memset(&url, 0, sizeof url);
    if (starts_with(text, "redis://") || starts_with(text, "rediss://")) {
        url.is_tls = starts_with(text, "rediss://");
        if (!read_redis(strchr(text, ':') + 3, &url, why))
            return false;
    } else if (starts_with(text, "unix://")) {
        const char *path = text + strlen("unix://");
        if (*path != '/' || path[1] == '\0')
            return refuse(why, "names no socket by its whole path; write e.g. unix:///run/redis/redis.sock");
        if (strlen(path) > SOCKET_PATH_MAX)
            return refuse(why, "has a path of %zu bytes; a socket's has at most %d", strlen(path), SOCKET_PATH_MAX);
        if (strchr(path, '?') != NULL)
            return refuse(why, "has options behind a ?, which are not known here; each setting is a key of its own");
        (void)snprintf(url.path, sizeof url.path, "%.*s", SOCKET_PATH_MAX, path);
    } else if (starts_with(text, "file:")) {
        const char *path = text + strlen("file:");
        if (*path == '\0' || strlen(path) >= sizeof url.path)
            return refuse(why, "names no folder, or one of more than %zu bytes; write e.g. file:/var/lib/evbus/out",
                          sizeof url.path - 1);
        url.kind = BROKER_FILE;
        (void)snprintf(url.path, sizeof url.path, "%s", path);
    } else {
        return refuse(
            why,
            "is no broker that we know; write redis://HOST:PORT, rediss://HOST:PORT (TLS), unix:///PATH or file:DIR");
    }
    *out = url;
    return true;
}

const char *broker_kind_name(enum broker_kind kind)
{
    return kind == BROKER_FILE ? "file" : "redis";
}
