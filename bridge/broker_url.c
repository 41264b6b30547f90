/* broker_url.c: where the broker is, in one text.
 *
 *     redis://[USER@]HOST[:PORT][/DB]      TCP; HOST may be [::1]; port 6379, db 0
 *     rediss://...                         the same with TLS
 *     unix:///PATH[?db=N]                  a socket of this host
 *     sentinel://[USER@]HOST[:PORT][,HOST[:PORT]...]/NAME[?db=N]
 *                                          the master that these sentinels, port 26379, know by that name
 *     file:DIR                             NDJSON files in a folder
 *
 * A password is not among it: a command line stands in ps, an environment in /proc, and a config file is read by more people than a
 * password should be. Who writes one anyway is told where it belongs, and is not shown it again in a log. What we do not know is
 * refused, as other options behind a `?`: left out in silence, it would be found out in the night; and a bridge that starts on half an URL
 * writes to another Redis.
 * Checked by tests/broker/test_config.c. */
#include "broker_url.h"

#include "config_keys.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { REDIS_PORT = 6379, SENTINEL_PORT = 26379, DB_MAX = 1000000, SOCKET_PATH_MAX = 107 };

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

static bool read_host(const char *text, size_t len, struct broker_address *out, char *why)
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
static bool read_address(const char *text, size_t len, uint16_t port_default, struct broker_address *out, char *why)
{
    const char *end = text + len, *port = NULL;
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
    uint32_t number = port_default;
    if (port != NULL && (!read_number(port, (size_t)(end - port), UINT16_MAX, &number) || number == 0))
        return refuse(why, "has a port that is none; 1 to 65535 are allowed, and without one it is %d", port_default);
    out->port = (uint16_t)number;
    return true;
}

/* What stands behind the last @; NULL: why */
static const char *behind_user(const char *text, struct broker_url *out, char *why)
{
    const char *at = strrchr(text, '@'); /* a password may have one in it */
    if (at != NULL && !read_user(text, (size_t)(at - text), out, why))
        return NULL;
    return at != NULL ? at + 1 : text;
}

/* Behind the two slashes: [USER@]HOST[:PORT][/DB] */
static bool read_redis(const char *text, struct broker_url *out, char *why)
{
    struct broker_address address = {0};
    const char *from = behind_user(text, out, why);
    if (from == NULL)
        return false;
    size_t len = strcspn(from, "/?#");
    const char *rest = from + len;
    if (*rest == '/' && rest[1] != '\0' && !read_number(rest + 1, strlen(rest + 1), DB_MAX, &out->db))
        return refuse(why, "has a database that is no number; write e.g. redis://127.0.0.1:6379/1");
    if (*rest != '/' && *rest != '\0')
        return refuse(why, "has options behind a ? or #, which are not known here; each setting is a key of its own");
    if (!read_address(from, len, REDIS_PORT, &address, why))
        return false;
    memcpy(out->host, address.host, sizeof out->host);
    out->port = address.port;
    return true;
}

/* ?db=N, or nothing. */
static bool read_options(const char *text, struct broker_url *out, char *why)
{
    if (*text == '\0' || (starts_with(text, "?db=") && read_number(text + 4, strlen(text + 4), DB_MAX, &out->db)))
        return true;
    return refuse(why,
                  "has behind its ? something else than db=N with a number; each other setting is a key of its own");
}

static bool read_unix(const char *path, struct broker_url *out, char *why)
{
    size_t len = strcspn(path, "?");
    if (*path != '/' || len < 2)
        return refuse(why, "names no socket by its whole path; write e.g. unix:///run/redis/redis.sock");
    if (len > SOCKET_PATH_MAX)
        return refuse(why, "has a path of %zu bytes; a socket's has at most %d", len, SOCKET_PATH_MAX);
    memcpy(out->path, path, len);
    return read_options(path + len, out, why);
}

/* Behind the two slashes: [USER@]HOST[:PORT][,HOST[:PORT]...]/NAME[?db=N] */
static bool read_sentinels(const char *text, struct broker_url *out, char *why)
{
    const char *from = behind_user(text, out, why);
    if (from == NULL)
        return false;
    const char *slash = from + strcspn(from, "/?#"), *name = slash + 1;
    size_t name_len = *slash == '/' ? strcspn(name, "?") : 0;
    if (name_len == 0 || name_len >= sizeof out->master)
        return refuse(why,
                      "names no master of 1 to %zu bytes; write e.g. sentinel://10.0.0.1,10.0.0.2,10.0.0.3/mymaster",
                      sizeof out->master - 1);
    for (size_t i = 0; i < name_len; i++)
        if (!isalnum((unsigned char)name[i]) && strchr(".-_", name[i]) == NULL)
            return refuse(why, "has a master with other letters than a-z A-Z 0-9 . - _, which no sentinel has");
    memcpy(out->master, name, name_len);
    for (const char *end; from <= slash; from = end + 1) {
        end = memchr(from, ',', (size_t)(slash - from));
        end = end != NULL ? end : slash;
        if (out->n_sentinels == BROKER_SENTINELS_MAX)
            return refuse(why, "names more than %d sentinels", BROKER_SENTINELS_MAX);
        if (!read_address(from, (size_t)(end - from), SENTINEL_PORT, &out->sentinels[out->n_sentinels++], why))
            return false;
    }
    return read_options(name + name_len, out, why);
}

bool broker_url_read(const char *text, struct broker_url *out, char *why)
{
    struct broker_url url;
    memset(&url, 0, sizeof url);
    if (starts_with(text, "redis://") || starts_with(text, "rediss://")) {
        url.is_tls = starts_with(text, "rediss://");
        if (!read_redis(strchr(text, ':') + 3, &url, why))
            return false;
    } else if (starts_with(text, "sentinel://")) {
        if (!read_sentinels(text + strlen("sentinel://"), &url, why))
            return false;
    } else if (starts_with(text, "unix://")) {
        if (!read_unix(text + strlen("unix://"), &url, why))
            return false;
    } else if (starts_with(text, "file:")) {
        const char *path = text + strlen("file:");
        if (*path == '\0' || strlen(path) >= sizeof url.path)
            return refuse(why, "names no folder, or one of more than %zu bytes; write e.g. file:/var/lib/evbus/out",
                          sizeof url.path - 1);
        url.kind = BROKER_FILE;
        (void)snprintf(url.path, sizeof url.path, "%s", path);
    } else {
        return refuse(why,
                      "is no broker that we know; write redis://HOST:PORT, rediss://HOST:PORT (TLS), unix:///PATH, "
                      "sentinel://HOST,HOST/NAME or file:DIR");
    }
    *out = url;
    return true;
}

const char *broker_kind_name(enum broker_kind kind)
{
    return kind == BROKER_FILE ? "file" : "redis";
}
