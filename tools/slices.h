/* slices.h: a JSON text, and the members of its object or the items of its array, as they stand there. See slices.c. */
#ifndef EVBUS_TOOLS_SLICES_H
#define EVBUS_TOOLS_SLICES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Some bytes of a text; at NULL: none. */
struct slice {
    const char *at;
    size_t len;
};

enum {
    SLICE_DEPTH_MAX = 130
}; /* arrays and objects inside each other; a payload may have 128, a line of ours, or of the bridge's, 2 around it */

/* Is it one JSON text, in UTF-8? NULL, and how deep it is; or what is wrong, at byte *out_at of it. */
const char *slice_fault(struct slice text, size_t *out_at, size_t *out_depth);

/* The members of an object, whose text slice_fault() found good: in its order, names with their quotes, values without blanks
 * around them. *at begins as NULL; false: there is no further one, or it is no object. */
bool slice_next(struct slice object, const char **at, struct slice *out_name, struct slice *out_value);

/* The same with the items of an array. */
bool slice_item(struct slice array, const char **at, struct slice *out_value);

/* A string's text, without a NUL behind it: its length; -1: it is no string, or does not fit, or holds half of a surrogate pair. */
ssize_t slice_text(struct slice string, char *out_text, size_t cap);

bool slice_is(struct slice slice, const char *literal); /* byte for byte */

#endif
