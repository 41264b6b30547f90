/* json.h: is this exactly one JSON text? The lesson is in json.c. */
#ifndef EVBUS_JSON_H
#define EVBUS_JSON_H

#include <stdbool.h>
#include <stddef.h>

enum { JSON_DEPTH_MAX = 128 }; /* arrays and objects inside each other */
enum { JSON_WRAP_MAX = 3 };    /* around such a text in one of ours: a letter's object, its array, its element */

struct json_fault {
    size_t at;        /* byte offset of what is wrong */
    const char *what; /* static text, e.g. "a raw control character in a string" */
};

/* Is the text one RFC 8259 value, with blanks around it at most? out_fault may be NULL; untouched on success. */
bool json_check(const void *text, size_t len_bytes, struct json_fault *out_fault);

/* Likewise, of a text of ours that holds such texts: it may be deeper by what stands around them. */
bool json_check_wrapped(const void *text, size_t len_bytes);

/* Is it valid UTF-8 (no overlong forms, no surrogates, nothing beyond U+10FFFF)? Any bytes below 0x80 are. */
bool json_is_utf8(const void *text, size_t len_bytes);

/* The top-level object's member `name` (compared after decoding escapes; with duplicates the last wins): the raw slice
 * of its value. The text must have passed json_check or json_check_wrapped. false: the text is no object or has no such member. */
bool json_member(const char *text, size_t len, const char *name, const char **out_value, size_t *out_len);

/* The same for n names at once, by one walk. out: n of them; NULL where it has none. false: the text is no object. */
struct json_slice {
    const char *at;
    size_t len;
};
bool json_members(const char *text, size_t len, const char *const *names, size_t n, struct json_slice *out);

/* Decodes a string slice (with its quotes) to UTF-8, without a NUL behind it. Returns the number of bytes, or -1 when
 * they do not fit cap, when the slice is no string or holds a lone surrogate; out may then be half written. */
ptrdiff_t json_string_decode(const char *slice, size_t len, char *out, size_t cap);

#endif
