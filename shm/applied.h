/* applied.h: the catalogue as it was applied, and the ids that its topics were given, on disk. See applied.c. */
#ifndef EVBUS_APPLIED_H
#define EVBUS_APPLIED_H

#include "sealed.h"

#include <jansson.h>

struct applied {
    json_t *ids; /* {"lomash.orders": ["lomash.orders.created", ...]}: a topic's id is its place, from 1 */
    char *text;  /* of the catalogue */
    size_t len;
};

/* Is there one in this folder? What is begun and not finished has none. */
bool applied_is_there(const char *folder);

int applied_write(const char *folder, const uint8_t uuid[16], const struct applied *applied, struct error *err);

/* To be freed. EVBUS_ENOTFOUND; or as sealed_read(). */
int applied_read(const char *folder, const uint8_t uuid[16], struct applied *out, struct error *err);

/* It is gone, on disk, too: nobody brings back a bus from this folder. Fine where it is not there. */
int applied_remove(const char *folder, struct error *err);

void applied_free(struct applied *applied); /* fine on a zeroed one */

#endif
