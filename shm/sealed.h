/* sealed.h: a file whose first line proves the rest. See sealed.c. */
#ifndef EVBUS_SEALED_H
#define EVBUS_SEALED_H

#include "file.h"

#include <jansson.h>

#define SEALED_BYTES_MAX (64u << 20)

/* All of a file is these bytes behind a first line of its own, or what it was before; on disk on return. what: one word. */
int sealed_write(const char *path, const char *what, const uint8_t uuid[16], const char *bytes, size_t len,
                 struct error *err);

/* A value as a text of one line, for such a file; to be freed. NULL: no memory. */
char *sealed_text(const json_t *value, size_t *out_len);

/* The bytes behind the first line, NUL-terminated, to be freed. EVBUS_ENOTFOUND; EVBUS_ECORRUPT; EVBUS_ECONFLICT: it is another
 * bus's; EVBUS_ELAYOUT: a newer evbus wrote it. */
int sealed_read(const char *path, const char *what, const uint8_t uuid[16], char **out_bytes, size_t *out_len,
                struct error *err);

/* Whose it says it is, whole or not. false: its first line is not what evbus writes there. */
bool sealed_whose(const char *path, const char *what, uint8_t out_uuid[16]);

#endif
