/* redis_error.h: what a Redis' error means for us. See redis_error.c. */
#ifndef EVBUS_BRIDGE_REDIS_ERROR_H
#define EVBUS_BRIDGE_REDIS_ERROR_H

#include "backend.h"

struct redis_error {
    const char *name;           /* "READONLY" */
    enum backend_result result; /* of a batch that is answered so */
    bool is_elsewhere;          /* the master may be elsewhere by now, or this one is not ready: connect anew */
    const char *mend;           /* NULL: the broker's word says it */
};

/* Never NULL: what nobody knows is REFUSED. */
const struct redis_error *redis_error_find(const char *text);

/* The broker's word, and the mend, in EVBUS_ERROR_MAX bytes. Line numbers and hashes of scripts are left out: they
 * tell nobody anything. */
void redis_error_tell(const char *text, char *why);

#endif
