/* version.h: the version of a payload's schema. See version.c. */
#ifndef EVBUS_VERSION_H
#define EVBUS_VERSION_H

#include "error.h"

/* "2.0" -> 2, 0; "1" -> 1, 0. 0..65535 each, no leading zeros, major >= 1. EVBUS_OK or EVBUS_EINVAL. */
int version_parse(const char *text, size_t len, uint16_t *out_major, uint16_t *out_minor, struct error *err);

#define VERSION_ACCEPTS_MAX 16
#define VERSION_TEXT_MAX    12 /* "65535.65535" */

struct version {
    uint16_t major;
    uint16_t minor;
};

/* One entry of what is accepted: these minors of a major. */
struct version_accept {
    uint16_t major;
    uint16_t minor_min;
    uint16_t minor_max;
};

/* All that a group accepts. n 0: it says nothing. */
struct version_accepts {
    struct version_accept list[VERSION_ACCEPTS_MAX];
    uint32_t n;
};

/* "1": any 1.x; "2.0": exactly that. As version_parse(). */
int version_accept_parse(const char *text, size_t len, struct version_accept *out, struct error *err);

/* As it was written; returns buffer. */
const char *version_accept_text(const struct version_accept *accept, char buffer[VERSION_TEXT_MAX]);

/* "1, 2.0"; cut where it does not fit. Returns buffer. */
const char *version_accepts_text(const struct version_accepts *accepts, char *buffer, size_t cap);

/* Which version a group gets, and what is to be made of it. */
struct version_choice {
    struct version from; /* of those that were published */
    uint16_t to_major;   /* to be raised to to_major.0; 0: given as it is */
};

/* can_raise: is there something that makes (major + 1).0 of any version of this major? NULL: never.
 * false: nothing fits. n_published >= 1. */
bool version_choose(const struct version_accepts *accepts, const struct version *published, unsigned n_published,
                    bool (*can_raise)(const void *context, uint16_t major), const void *context,
                    struct version_choice *out);

#endif
