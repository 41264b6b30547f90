/* saved.h: what the groups have done, on disk. See saved.c. */
#ifndef EVBUS_SAVED_H
#define EVBUS_SAVED_H

#include "group.h"
#include "marks.h"

/* What all groups of a bus that remembers have done, as a text; to be freed. */
int saved_snapshot(const struct memory *memory, char **out_text, size_t *out_len, struct error *err);

/* Another number whenever that text would be another one: read before it, for far less. */
uint64_t saved_digest(const struct memory *memory);

/* Puts it on disk as the n-th of this term; what it replaces goes, but the one before. All journals must have been synced since the
 * snapshot [J3]. */
int saved_write(const struct memory *memory, struct term term, uint32_t n, const char *text, size_t len,
                struct error *err);

/* Is it the name of such a file? And is this one whole? As sealed_read(). */
bool saved_is(const char *name);
int saved_check(const char *path, const uint8_t uuid[16], struct error *err);
/* The same text into any folder, as the n-th of a term. */
int saved_put(const char *folder, const uint8_t uuid[16], struct term term, uint32_t n, const char *text, size_t len,
              struct error *err);

/* How a restart went. */
struct saved_report {
    uint32_t n_groups;
    uint32_t n_pending; /* events that are in hand again */
    uint32_t n_dropped; /* events that were in hand and are not there any more */
};

/* Makes the groups as the newest whole file has them, on a bus that nobody uses yet. A file that is damaged is renamed and told through
 * `each`, and the one before it is used. EVBUS_ENOTFOUND: there is none. */
int saved_restore(struct memory *memory, void (*each)(void *context, const char *what), void *context,
                  struct saved_report *out, struct error *err);

#endif
