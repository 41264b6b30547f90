/* topics.h: which topics are mirrored, and in which stream each of them stands. See topics.c. */
#ifndef EVBUS_BRIDGE_TOPICS_H
#define EVBUS_BRIDGE_TOPICS_H

#include "config.h"

#include <evbus/admin.h>

struct topics_one {
    char topic[128];
    char log[128];
};

/* Of the catalogue as it was when it was read. */
struct topics {
    struct topics_one *all;
    size_t n;
    char *text; /* the catalogue's */
};

/* Into one that was zeroed, or read before by the same config: as long as the catalogue is the same, that stays. EVBUS_OK; EVBUS_ENOSPC; as
 * evbus_catalogue_text(): then it stays, too. To be freed by topics_free(), also one that was zeroed. */
int topics_read(struct evbus *bus, const struct config *config, struct topics *inout);
void topics_free(struct topics *topics);

#endif
