/* settings.h: typed values out of a JSON object, each message with the path. See settings.c. */
#ifndef EVBUS_SETTINGS_H
#define EVBUS_SETTINGS_H

#include <jansson.h>

#include "error.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define MS  UINT64_C(1000000)
#define S   (1000 * MS)
#define DAY (86400 * S)

/* Where the reader is: topics."lomash.orders.created".producers[1]. The caller moves it. */
struct settings {
    struct error *err;
    enum evbus_code code;   /* of what is wrong here */
    const char *section;    /* "topics" */
    const char *name, *key; /* NULL: not that deep */
    ptrdiff_t index;        /* -1: not in a list */
    char found[96];         /* behind settings_found() */
};

/* Text to jansson's tree. EVBUS_OK, s->code with line and column in the message, or EVBUS_ENOSPC (memory). */
int settings_load(const struct settings *s, const char *text, size_t len, json_t **out_root);

/* Goes to a key of an object; its value, NULL when it is absent. */
json_t *settings_go(struct settings *s, const json_t *object, const char *key);

/* Sets the message, the path before it. Always false, so that a check can end with it. */
__attribute__((format(printf, 2, 3))) bool settings_wrong(const struct settings *s, const char *format, ...);

/* A value as a message shows it: "disk", 17, null, an object. Lives until the next call. */
const char *settings_found(struct settings *s, const json_t *value);

/* Bytes of a text that fit a message, not cut within a letter: for "%.*s". */
int settings_short_len(const char *text);

#define SETTINGS_SIZE_MAX 32
const char *settings_size_text(uint64_t bytes, char buffer[SETTINGS_SIZE_MAX]); /* "240KiB"; returns buffer */

/* Is it an object with none but these keys? */
bool settings_keys(struct settings *s, json_t *object, const char *const *allowed, size_t n_allowed);

/* Each of these leaves *out as it is when the value is absent (NULL), and is false after settings_wrong(). */
bool settings_kind(struct settings *s, const json_t *value, bool is_right, const char *kind); /* "must be <kind>" */
bool settings_bool(struct settings *s, const json_t *value, bool *out);
bool settings_count(struct settings *s, const json_t *value, uint32_t min, uint32_t max, uint32_t *out);
bool settings_duration(struct settings *s, const json_t *value, uint64_t min_ns, uint64_t max_ns, const char *range,
                       uint64_t *out_ns);
bool settings_size(struct settings *s, const json_t *value, uint64_t min, uint64_t max, uint64_t *out_bytes);
bool settings_word(struct settings *s, const json_t *value, const char *no, const char *yes, bool *out_is_yes);

/* A list of different names, each checked, into the caller's array with room for all of the list. */
bool settings_names(struct settings *s, json_t *value, bool (*check)(struct settings *s, const char *name),
                    const char **out_names, size_t *out_n);

#endif
