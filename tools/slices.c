/* slices.c: a JSON text, and the members of its object or the items of its array, as they stand there.
 *
 * What passes a value on must not read it: a parser that makes numbers of numbers gives back 1e2 as 100.0, and of two members of
 * one name only one. So a text is walked over once, by the grammar of RFC 8259, and values are slices of it: 19.99 stays 19.99,
 * blanks stay blanks. It is the library's own question (shm/json.c), asked again here since tools and bridge know no more of the library
 * than a service does; tests/fuzz/cloudevents.c compares the two on any bytes.
 *
 * Each *_end() takes where a thing begins and returns where it ended, or NULL with `wrong` and `what` set. */
#include "slices.h"

#include <string.h>

struct walk {
    const char *end; /* one behind the text */
    const char *wrong;
    const char *what;
    size_t depth; /* the deepest */
};

static const char *fail(struct walk *walk, const char *at, const char *what)
{
    walk->wrong = at;
    walk->what = what;
    return NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *blanks_end(const char *at, const struct walk *walk)
{
    while (at < walk->end && is_blank(*at))
        ++at;
    return at;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A character from U+0080 on: no overlong form, no surrogate, nothing beyond U+10FFFF. */
static const char *wide_end(const char *at, struct walk *walk)
{
    unsigned char lead = (unsigned char)*at;
    ptrdiff_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    unsigned char least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    bool is_good = lead >= 0xc2 && lead <= 0xf4 && walk->end - at >= len;
    for (ptrdiff_t i = 1; is_good && i < len; ++i) {
        unsigned char c = (unsigned char)at[i];
        is_good = c >= (i == 1 ? least : 0x80) && c <= (i == 1 ? most : 0xbf);
    }
    return is_good ? at + len : fail(walk, at, "invalid UTF-8 in a string");
}

/* Four hexadecimal digits; -1: they are none. */
static int hex4(const char *at, const char *end)
{
    int number = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; ++i) {
        int lower = at[i] | 0x20;
        if (is_digit(at[i]))
            number = number * 16 + (at[i] - '0');
        else if (lower >= 'a' && lower <= 'f')
            number = number * 16 + (lower - 'a' + 10);
        else
            return -1;
    }
    return number;
}

static const char *string_end(const char *at, struct walk *walk)
{
    const char *open = at++;
    while (at != NULL && at < walk->end && *at != '"') {
        if ((unsigned char)*at >= 0x80)
            at = wide_end(at, walk);
        else if ((unsigned char)*at < ' ')
            return fail(walk, at, "a raw control character in a string");
        else if (*at != '\\')
            ++at;
        else if (walk->end - at < 2 || memchr("\"\\/bfnrtu", at[1], 9) == NULL)
            return fail(walk, at, "an escape that JSON does not have");
        else if (at[1] == 'u' && hex4(at + 2, walk->end) < 0)
            return fail(walk, at, "a \\u without four hex digits");
        else
            at += at[1] == 'u' ? 6 : 2;
    }
    if (at == NULL)
        return NULL;
    return at < walk->end ? at + 1 : fail(walk, open, "a string without its closing quote");
}

static const char *digits_end(const char *at, struct walk *walk)
{
    if (at == walk->end || !is_digit(*at))
        return fail(walk, at, "no digit where a number needs one");
    while (at < walk->end && is_digit(*at))
        ++at;
    return at;
}

static const char *number_end(const char *at, struct walk *walk)
{
    at += *at == '-';
    const char *first = at;
    at = digits_end(at, walk);
    if (at != NULL && *first == '0' && at - first > 1)
        return fail(walk, first, "a number with a leading zero");
    if (at != NULL && at < walk->end && *at == '.')
        at = digits_end(at + 1, walk);
    if (at != NULL && at < walk->end && (*at == 'e' || *at == 'E')) {
        ++at;
        at += at < walk->end && (*at == '+' || *at == '-');
        at = digits_end(at, walk);
    }
    return at;
}

static const char *scalar_end(const char *at, struct walk *walk)
{
    static const char *const words[] = {"true", "false", "null"};
    if (*at == '"')
        return string_end(at, walk);
    if (*at == '-' || is_digit(*at))
        return number_end(at, walk);
    for (size_t i = 0; i < 3; ++i)
        if ((size_t)(walk->end - at) >= strlen(words[i]) && memcmp(at, words[i], strlen(words[i])) == 0)
            return at + strlen(words[i]);
    return fail(walk, at, "no value where one must begin");
}

/* A member's name, with its colon and the blanks around it. */
static const char *name_end(const char *at, struct walk *walk)
{
    at = blanks_end(at, walk);
    if (at == walk->end || *at != '"')
        return fail(walk, at, "no name in quotes where a member must begin");
    at = string_end(at, walk);
    if (at == NULL)
        return NULL;
    at = blanks_end(at, walk);
    return at < walk->end && *at == ':' ? blanks_end(at + 1, walk) : fail(walk, at, "no colon behind a member's name");
}

/* One value. What is open inside it is a row of the brackets that are due, not a call inside a call. */
static const char *value_end(const char *at, struct walk *walk)
{
    char due[SLICE_DEPTH_MAX];
    size_t depth = 0;
    while (at != NULL) {
        at = blanks_end(at, walk);
        if (at == walk->end)
            return fail(walk, at, "the end of the text where a value must begin");
        if (*at == '{' || *at == '[') {
            if (depth == SLICE_DEPTH_MAX)
                return fail(walk, at, "too many arrays and objects inside each other");
            due[depth++] = *at == '{' ? '}' : ']';
            walk->depth = depth > walk->depth ? depth : walk->depth;
            at = blanks_end(at + 1, walk);
            if (at == walk->end || *at != due[depth - 1]) { /* not empty */
                if (due[depth - 1] == '}')
                    at = name_end(at, walk);
                continue;
            }
        } else {
            at = scalar_end(at, walk);
        }
        for (; at != NULL && depth > 0; ++at, --depth) { /* all that closes here */
            at = blanks_end(at, walk);
            if (at == walk->end)
                return fail(walk, at, "the end of the text inside an array or object");
            if (*at != due[depth - 1])
                break;
        }
        if (at == NULL || depth == 0)
            return at;
        if (*at != ',')
            return fail(walk, at,
                        due[depth - 1] == '}' ? "no comma or } behind a member" : "no comma or ] behind a value");
        ++at;
        if (due[depth - 1] == '}')
            at = name_end(at, walk);
    }
    return NULL;
}

const char *slice_fault(struct slice text, size_t *out_at, size_t *out_depth)
{
    struct walk walk = {.end = text.at + text.len};
    const char *at = value_end(text.at, &walk);
    if (at != NULL)
        at = blanks_end(at, &walk);
    *out_depth = walk.depth;
    if (at == walk.end)
        return NULL;
    if (at != NULL)
        (void)fail(&walk, at, "something behind the value");
    *out_at = (size_t)(walk.wrong - text.at);
    return walk.what;
}

bool slice_next(struct slice object, const char **at, struct slice *out_name, struct slice *out_value)
{
    struct walk walk = {.end = object.at + object.len};
    const char *begin = blanks_end(*at == NULL ? object.at : *at, &walk);
    if (begin == walk.end || *begin != (*at == NULL ? '{' : ','))
        return false;
    const char *name = blanks_end(begin + 1, &walk);
    if (name == walk.end || *name != '"')
        return false; /* {} */
    const char *value = name_end(name, &walk);
    const char *end = value_end(value, &walk);
    *out_name = (struct slice){.at = name, .len = (size_t)(string_end(name, &walk) - name)};
    *out_value = (struct slice){.at = value, .len = (size_t)(end - value)};
    *at = end;
    return true;
}

bool slice_item(struct slice array, const char **at, struct slice *out_value)
{
    struct walk walk = {.end = array.at + array.len};
    const char *begin = blanks_end(*at == NULL ? array.at : *at, &walk);
    if (begin == walk.end || *begin != (*at == NULL ? '[' : ','))
        return false;
    const char *value = blanks_end(begin + 1, &walk);
    if (value == walk.end || *value == ']')
        return false; /* [] */
    const char *end = value_end(value, &walk);
    *out_value = (struct slice){.at = value, .len = (size_t)(end - value)};
    *at = end;
    return true;
}

/* The character of an escape, or of two that are a surrogate pair; moves *at behind it. -1: half of one. */
static int escaped(const char **at, const char *end)
{
    static const char letters[] = "bfnrt", controls[] = "\b\f\n\r\t";
    const char *from = *at;
    if (from[1] != 'u') {
        const char *letter = memchr(letters, from[1], sizeof letters - 1);
        *at += 2;
        return letter != NULL ? controls[letter - letters] : from[1];
    }
    int code = hex4(from + 2, end);
    *at += 6;
    if (code >= 0xd800 && code <= 0xdbff && end - *at >= 6 && from[6] == '\\' && from[7] == 'u') {
        int low = hex4(from + 8, end);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *at += 6;
            return 0x10000 + (code - 0xd800) * 0x400 + (low - 0xdc00);
        }
    }
    return code >= 0xd800 && code <= 0xdfff ? -1 : code;
}

static size_t put_utf8(int code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const int leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len - 1; i > 0; --i, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(leads[len] | code);
    return len;
}

ssize_t slice_text(struct slice string, char *out_text, size_t cap)
{
    if (string.at == NULL || string.len < 2 || *string.at != '"')
        return -1;
    size_t n = 0;
    for (const char *at = string.at + 1, *end = string.at + string.len - 1; at < end;) {
        char bytes[4] = {*at};
        size_t len = 1;
        if (*at == '\\') {
            int code = escaped(&at, end);
            if (code < 0)
                return -1;
            len = put_utf8(code, bytes);
        } else {
            ++at;
        }
        if (len > cap - n)
            return -1;
        memcpy(out_text + n, bytes, len);
        n += len;
    }
    return (ssize_t)n;
}

bool slice_is(struct slice slice, const char *literal)
{
    return slice.at != NULL && slice.len == strlen(literal) && memcmp(slice.at, literal, slice.len) == 0;
}
