/* config_file.c: the lines of an evbus.conf.
 *
 *     # a comment, alone in its line or behind a blank
 *     linger = 5ms                  # behind a value, too
 *     tls_ca = "/etc/my # ca.pem"   in quotes when a blank and # are in it, or blanks at its ends; \" and \\ are " and \
 *
 * Each line stands for itself, so all that is wrong is told at once, by line, and a line that is wrong hides no other. Whatever the bytes
 * are: a NUL and a line too long are problems as well; what an editor of Windows adds (a mark in front, a carriage
 * return at each end) is not. Checked by tests/broker/test_config.c and tests/fuzz/config.c. */
#include "config_file.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { KEY_MAX = 64 };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_of_key(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && is_blank(*at))
        at++;
    return at;
}

/* In quotes. Returns what is wrong, or NULL. */
static const char *read_quoted(const char *at, const char *end, char *out)
{
    size_t n = 0;
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\') {
            at++;
            if (at == end || (*at != '"' && *at != '\\'))
                return "a \\ in quotes stands before \" or \\ alone; write \\\\ for one";
        }
        out[n++] = *at;
    }
    if (at == end)
        return "a \" without its end; write one behind the value";
    out[n] = '\0';
    at = skip_blanks(at + 1, end);
    return at == end || *at == '#'
               ? NULL
               : "something stands behind the closing \"; put the whole value into one pair of quotes";
}

static void read_bare(const char *at, const char *end, char *out)
{
    const char *stop = at;
    while (stop < end && !(*stop == '#' && (stop == at || is_blank(stop[-1]))))
        stop++;
    while (stop > at && is_blank(stop[-1]))
        stop--;
    memcpy(out, at, (size_t)(stop - at));
    out[stop - at] = '\0';
}

static const char *read_line(const char *at, const char *end, char key[KEY_MAX], char *value)
{
    const char *begin = at;
    while (at < end && is_of_key(*at))
        at++;
    size_t key_len = (size_t)(at - begin);
    at = skip_blanks(at, end);
    if (*begin == '[')
        return "there are no sections; write key = value alone";
    if (key_len == 0 || at == end || *at != '=')
        return "is neither a comment nor key = value; begin it with # or write key = value";
    if (key_len >= KEY_MAX)
        return "no key is as long as this one";
    memcpy(key, begin, key_len);
    key[key_len] = '\0';
    at = skip_blanks(at + 1, end);
    if (end - at > CONFIG_VALUE_MAX)
        return "is too long; a value has at most 9000 bytes";
    if (memchr(at, '\0', (size_t)(end - at)) != NULL)
        return "has a NUL byte in it; save the file as plain text in UTF-8";
    if (at < end && *at == '"')
        return read_quoted(at, end, value);
    if (at < end && *at == '\'')
        return "a value in single quotes; write \" or none";
    read_bare(at, end, value);
    return NULL;
}

void config_file_read(const char *text, size_t len, const struct config_lines *lines)
{
    const char *at = text, *end = text + len;
    char key[KEY_MAX], value[CONFIG_VALUE_MAX + 1];
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        at += 3;
    for (unsigned line = 1; at < end; line++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline != NULL ? newline : end;
        const char *next = newline != NULL ? newline + 1 : end;
        if (stop > at && stop[-1] == '\r')
            stop--;
        at = skip_blanks(at, stop);
        if (at < stop && *at != '#') {
            const char *what = read_line(at, stop, key, value);
            if (what != NULL)
                lines->problem(lines->context, line, what);
            else
                lines->setting(lines->context, line, key, value);
        }
        at = next;
    }
}

void config_file_quote(const char *value, char *out, size_t cap)
{
    size_t len = strlen(value), n = 0;
    bool is_bare = len > 0 && !is_blank(value[0]) && !is_blank(value[len - 1]) && strpbrk(value, "\"'\\#") == NULL;
    if (is_bare) {
        (void)snprintf(out, cap, "%s", value);
        return;
    }
    out[n++] = '"';
    for (; *value != '\0' && n + 4 < cap; value++) {
        if (*value == '"' || *value == '\\')
            out[n++] = '\\';
        out[n++] = *value;
    }
    out[n++] = '"';
    out[n] = '\0';
}
