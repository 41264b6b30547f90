/* json.c: is this exactly one JSON text?
 *
 * A payload is kept byte for byte, so nobody needs its tree: we walk over the bytes once, build nothing, and say yes,
 * or where and why not. A broken payload must fail at its publisher, not in the services behind it.
 *
 *   value_end    one value of any kind. Nesting is a row of the closing brackets that are due, closers[depth], instead
 *                of recursion: a hostile payload costs 128 bytes of stack, not all of it. A round of the loop is:
 *                    a value begins   a scalar, or a container: if it is not empty, the next round is inside
 *                    a value ended    close all that closes here; then a comma must lead to the next value
 *   string_end   jumps over plain bytes, then looks at the one that is not: quote, escape, UTF-8 sequence, control
 *   plain_end    the jump, and where the time goes: 16 bytes at once with SSE2, else 8 in a 64-bit word. As signed
 *                numbers the bytes from 0x80 on are negative, so one "less than a blank" finds control characters
 *                and UTF-8 alike. The last bytes go one by one: we never read outside the text.
 *
 * RFC 8259 to the letter: any value at the top, duplicate names, lone \ud800 escapes and DEL are fine. Refused beyond
 * its grammar: a byte order mark, invalid UTF-8 (no two readers shall see different texts), more than 128 levels.
 * A raw NUL is nowhere in the grammar, so it needs no rule of its own.
 *
 * Each function takes where a thing begins and returns where it ended, or NULL after fail(). Checked by
 * tests/unit/test_json.c against a slow checker written from the grammar, with SSE2 and without. */
#include "json.h"

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(JSON_PORTABLE)
#include <emmintrin.h>
#endif

struct walk {
    const uint8_t *end;   /* one behind the text */
    size_t depth_max;     /* of value_end() */
    const uint8_t *wrong; /* set by fail() */
    const char *what;
};

static const uint8_t *fail(struct walk *walk, const uint8_t *at, const char *what)
{
    walk->wrong = at;
    walk->what = what;
    return NULL;
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static const uint8_t *blanks_end(const uint8_t *pos, const uint8_t *end)
{
    while (pos < end && (*pos == ' ' || *pos == '\n' || *pos == '\r' || *pos == '\t'))
        pos++;
    return pos;
}

/* The first byte that a string may not simply hold: a quote, a backslash, a control character or one from 0x80 on. */
static const uint8_t *plain_end(const uint8_t *pos, const uint8_t *end)
{
#if defined(__SSE2__) && !defined(JSON_PORTABLE)
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), blank = _mm_set1_epi8(' ');
    for (; end - pos >= 16; pos += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)pos);
        __m128i found = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
        int mask = _mm_movemask_epi8(_mm_or_si128(found, _mm_cmplt_epi8(bytes, blank)));
        if (mask != 0)
            return pos + __builtin_ctz((unsigned)mask);
    }
#else
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    for (; end - pos >= 8; pos += 8) {
        uint64_t bytes;
        memcpy(&bytes, pos, sizeof bytes);
        uint64_t quotes = bytes ^ ones * '"', backslashes = bytes ^ ones * '\\'; /* a find is now a zero byte */
        /* A subtraction that borrows sets a byte's top bit; so does a byte from 0x80 on by itself. A borrow may also
         * mark the byte behind a find, so this tells that there is one, and the loop below tells where. */
        if (((bytes | (bytes - ones * ' ') | (quotes - ones) | (backslashes - ones)) & tops) != 0)
            break;
    }
#endif
    while (pos < end && *pos >= ' ' && *pos < 0x80 && *pos != '"' && *pos != '\\')
        pos++;
    return pos;
}

/* The bytes from 0x80 on, one sequence after the other: table 3-7 of the Unicode standard. */
static const uint8_t *utf8_end(const uint8_t *pos, struct walk *walk)
{
    while (pos < walk->end && *pos >= 0x80) {
        uint8_t lead = *pos;
        ptrdiff_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;  /* below: overlong */
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf; /* above: a surrogate, beyond U+10FFFF */
        if (lead < 0xc2 || lead > 0xf4 || walk->end - pos < len || pos[1] < low || pos[1] > high ||
            (len > 2 && (pos[2] & 0xc0) != 0x80) || (len > 3 && (pos[3] & 0xc0) != 0x80))
            return fail(walk, pos, "invalid UTF-8 in a string");
        pos += len;
    }
    return pos;
}

/* The number of the four hex digits, or -1. */
static int hex4(const uint8_t *pos, const uint8_t *end)
{
    if (end - pos < 4)
        return -1;
    int number = 0;
    for (int i = 0; i < 4; i++) {
        int lower = pos[i] | 0x20;
        if (is_digit(pos[i]))
            number = number * 16 + (pos[i] - '0');
        else if (lower >= 'a' && lower <= 'f')
            number = number * 16 + (lower - 'a' + 10);
        else
            return -1;
    }
    return number;
}

/* pos is at the opening quote. */
static const uint8_t *string_end(const uint8_t *pos, struct walk *walk)
{
    const uint8_t *open = pos++;
    for (;;) {
        pos = plain_end(pos, walk->end);
        if (pos == walk->end)
            return fail(walk, open, "a string without its closing quote");
        if (*pos == '"')
            return pos + 1;
        if (*pos >= 0x80) {
            pos = utf8_end(pos, walk);
            if (pos == NULL)
                return NULL;
        } else if (*pos < ' ') {
            return fail(walk, pos, "a raw control character in a string");
        } else if (walk->end - pos < 2 || memchr("\"\\/bfnrtu", pos[1], 9) == NULL) {
            return fail(walk, pos, "an escape that JSON does not have");
        } else if (pos[1] != 'u') {
            pos += 2;
        } else if (hex4(pos + 2, walk->end) >= 0) {
            pos += 6;
        } else {
            return fail(walk, pos, "a \\u without four hex digits");
        }
    }
}

/* One digit or more. */
static const uint8_t *digits_end(const uint8_t *pos, struct walk *walk)
{
    if (pos == walk->end || !is_digit(*pos))
        return fail(walk, pos, "no digit where a number needs one");
    while (pos < walk->end && is_digit(*pos))
        pos++;
    return pos;
}

/* pos is at a minus or a digit. */
static const uint8_t *number_end(const uint8_t *pos, struct walk *walk)
{
    if (*pos == '-')
        pos++;
    const uint8_t *first = pos;
    pos = digits_end(pos, walk);
    if (pos != NULL && *first == '0' && pos - first > 1)
        return fail(walk, first, "a number with a leading zero");
    if (pos != NULL && pos < walk->end && *pos == '.')
        pos = digits_end(pos + 1, walk);
    if (pos != NULL && pos < walk->end && (*pos | 0x20) == 'e') {
        pos++;
        if (pos < walk->end && (*pos == '+' || *pos == '-'))
            pos++;
        pos = digits_end(pos, walk);
    }
    return pos;
}

static const uint8_t *word_end(const uint8_t *pos, struct walk *walk, const char *word, ptrdiff_t len)
{
    if (walk->end - pos < len || memcmp(pos, word, (size_t)len) != 0)
        return fail(walk, pos, "a word that is not true, false or null");
    return pos + len;
}

/* A member's name with its colon, and the blanks before and between them. */
static const uint8_t *name_end(const uint8_t *pos, struct walk *walk)
{
    pos = blanks_end(pos, walk->end);
    if (pos == walk->end || *pos != '"')
        return fail(walk, pos, "no name in quotes where a member must begin");
    pos = string_end(pos, walk);
    if (pos == NULL)
        return NULL;
    pos = blanks_end(pos, walk->end);
    if (pos == walk->end || *pos != ':')
        return fail(walk, pos, "no colon behind a member's name");
    return pos + 1;
}

/* One whole value; pos may be at blanks before it. */
static const uint8_t *value_end(const uint8_t *pos, struct walk *walk)
{
    uint8_t closers[JSON_DEPTH_MAX + JSON_WRAP_MAX]; /* the brackets that must close, innermost last */
    size_t depth = 0;
    while (pos != NULL) {
        pos = blanks_end(pos, walk->end);
        if (pos == walk->end)
            return fail(walk, pos, "the end of the text where a value must begin");
        uint8_t first = *pos;
        if (first == '"') {
            pos = string_end(pos, walk);
        } else if (is_digit(first) || first == '-') {
            pos = number_end(pos, walk);
        } else if (first == '{' || first == '[') {
            if (depth == walk->depth_max)
                return fail(walk, pos, "more than 128 arrays and objects inside each other");
            closers[depth++] = first == '{' ? '}' : ']';
            pos = blanks_end(pos + 1, walk->end);
            if (pos == walk->end || *pos != closers[depth - 1]) { /* not empty: on to its first value */
                if (first == '{')
                    pos = name_end(pos, walk);
                continue;
            }
        } else if (first == 't') {
            pos = word_end(pos, walk, "true", 4);
        } else if (first == 'f') {
            pos = word_end(pos, walk, "false", 5);
        } else if (first == 'n') {
            pos = word_end(pos, walk, "null", 4);
        } else {
            return fail(walk, pos, "no value where one must begin");
        }
        if (pos == NULL)
            return NULL;

        while (depth > 0) {
            pos = blanks_end(pos, walk->end);
            if (pos == walk->end)
                return fail(walk, pos, "the end of the text inside an array or object");
            if (*pos != closers[depth - 1])
                break;
            pos++;
            depth--;
        }
        if (depth == 0)
            return pos;
        if (*pos != ',')
            return fail(walk, pos,
                        closers[depth - 1] == '}' ? "no comma or } behind a member" : "no comma or ] behind a value");
        pos++;
        if (closers[depth - 1] == '}')
            pos = name_end(pos, walk);
    }
    return NULL;
}

static bool check(const void *text, size_t len_bytes, size_t depth_max, struct json_fault *out_fault)
{
    static const uint8_t nothing[1]; /* so that an empty text may come with NULL */
    const uint8_t *start = len_bytes > 0 ? text : nothing;
    struct walk walk = {.end = start + len_bytes, .depth_max = depth_max};
    const uint8_t *pos = NULL;
    if (len_bytes >= 3 && memcmp(start, "\xef\xbb\xbf", 3) == 0)
        fail(&walk, start, "a byte order mark");
    else
        pos = value_end(start, &walk);
    if (pos != NULL) {
        pos = blanks_end(pos, walk.end);
        if (pos == walk.end)
            return true;
        fail(&walk, pos, "something behind the value");
    }
    if (out_fault != NULL)
        *out_fault = (struct json_fault){.at = (size_t)(walk.wrong - start), .what = walk.what};
    return false;
}

bool json_check(const void *text, size_t len_bytes, struct json_fault *out_fault)
{
    return check(text, len_bytes, JSON_DEPTH_MAX, out_fault);
}

bool json_check_wrapped(const void *text, size_t len_bytes)
{
    return check(text, len_bytes, JSON_DEPTH_MAX + JSON_WRAP_MAX, NULL);
}

/* Any length, without a loop over single bytes: a text shorter than a word is read by two halves that overlap. */
static bool is_ascii(const uint8_t *text, size_t len)
{
    uint64_t bits = 0, last;
    if (len >= 8) {
        for (size_t at = 0; at < len - 8; at += 8) {
            memcpy(&last, text + at, 8);
            bits |= last;
        }
        memcpy(&last, text + len - 8, 8);
        bits |= last;
    } else if (len >= 4) {
        uint32_t first, second;
        memcpy(&first, text, 4);
        memcpy(&second, text + len - 4, 4);
        bits = first | second;
    } else if (len > 0) {
        bits = text[0] | text[len / 2] | text[len - 1];
    }
    return (bits & 0x8080808080808080u) == 0;
}

bool json_is_utf8(const void *text, size_t len_bytes)
{
    if (is_ascii(text, len_bytes))
        return true;
    const uint8_t *pos = text;
    struct walk walk = {.end = pos + len_bytes};
    while (pos != NULL && pos < walk.end) {
        for (uint64_t bytes; walk.end - pos >= 8; pos += 8) {
            memcpy(&bytes, pos, sizeof bytes);
            if ((bytes & 0x8080808080808080u) != 0)
                break;
        }
        while (pos < walk.end && *pos < 0x80)
            pos++;
        pos = utf8_end(pos, &walk);
    }
    return pos != NULL;
}

/* Decodes what stands at pos inside a checked string: an escape (or two, of a surrogate pair) or one byte. Returns the
 * number of bytes in out_bytes, 0 for a lone surrogate; moves *pos behind it. */
static size_t decode(const uint8_t **pos, const uint8_t *end, uint8_t out_bytes[4])
{
    static const char letters[] = "bfnrt", controls[] = "\b\f\n\r\t";
    const uint8_t *at = *pos;
    if (*at != '\\') {
        out_bytes[0] = *at;
        *pos = at + 1;
        return 1;
    }
    if (at[1] != 'u') {
        const char *letter = memchr(letters, at[1], sizeof letters - 1);
        out_bytes[0] = letter != NULL ? (uint8_t)controls[letter - letters] : at[1];
        *pos = at + 2;
        return 1;
    }
    int code = hex4(at + 2, end);
    at += 6;
    if (code >= 0xd800 && code <= 0xdbff && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
        int low = hex4(at + 2, end);
        if (low >= 0xdc00 && low <= 0xdfff) {
            code = 0x10000 + (code - 0xd800) * 0x400 + (low - 0xdc00);
            at += 6;
        }
    }
    *pos = at;
    if (code >= 0xd800 && code <= 0xdfff)
        return 0;
    if (code < 0x80) {
        out_bytes[0] = (uint8_t)code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len - 1; i > 0; i--, code >>= 6)
        out_bytes[i] = (uint8_t)(0x80 | (code & 0x3f));
    out_bytes[0] = (uint8_t)(leads[len] | code);
    return len;
}

/* Does the checked string open..end (behind its closing quote) decode to this name? */
static bool is_named(const uint8_t *open, const uint8_t *end, const char *name)
{
    const uint8_t *pos = open + 1;
    size_t left = strlen(name);
    end--;
    while (pos < end) {
        uint8_t bytes[4];
        size_t len = decode(&pos, end, bytes);
        if (len == 0 || len > left || memcmp(bytes, name, len) != 0)
            return false;
        name += len;
        left -= len;
    }
    return left == 0;
}

bool json_members(const char *text, size_t len, const char *const *names, size_t n, struct json_slice *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (struct json_slice){.at = NULL};
    if (len == 0)
        return false;
    struct walk walk = {.end = (const uint8_t *)text + len, .depth_max = JSON_DEPTH_MAX + JSON_WRAP_MAX};
    const uint8_t *pos = blanks_end((const uint8_t *)text, walk.end);
    if (pos == walk.end || *pos != '{')
        return false;
    do {
        const uint8_t *open = blanks_end(pos + 1, walk.end);
        const uint8_t *value = name_end(open, &walk);
        if (value == NULL) /* {} */
            break;
        value = blanks_end(value, walk.end);
        pos = value_end(value, &walk);
        if (pos == NULL)
            return false;
        const uint8_t *close = string_end(open, &walk);
        for (size_t i = 0; i < n; i++)
            if (is_named(open, close, names[i]))
                out[i] = (struct json_slice){(const char *)value, (size_t)(pos - value)};
        pos = blanks_end(pos, walk.end);
    } while (pos < walk.end && *pos == ',');
    return true;
}

bool json_member(const char *text, size_t len, const char *name, const char **out_value, size_t *out_len)
{
    struct json_slice found;
    if (!json_members(text, len, &name, 1, &found) || found.at == NULL)
        return false;
    *out_value = found.at;
    *out_len = found.len;
    return true;
}

ptrdiff_t json_string_decode(const char *slice, size_t len, char *out, size_t cap)
{
    if (len < 2 || *slice != '"')
        return -1;
    const uint8_t *pos = (const uint8_t *)slice;
    struct walk walk = {.end = pos + len};
    if (string_end(pos, &walk) != walk.end)
        return -1;
    size_t n = 0;
    for (pos++; pos < walk.end - 1;) {
        uint8_t bytes[4];
        size_t n_new = decode(&pos, walk.end - 1, bytes);
        if (n_new == 0 || n_new > cap - n)
            return -1;
        memcpy(out + n, bytes, n_new);
        n += n_new;
    }
    return (ptrdiff_t)n;
}
