/* verify.h: is what stands at the broker what stands in the journal? See verify.c. */
#ifndef EVBUS_BRIDGE_VERIFY_H
#define EVBUS_BRIDGE_VERIFY_H

#include "compare.h"
#include "config.h"

struct verify_options {
    bool json;
    uint64_t timeout_ns; /* with a broker that says nothing */
};

/* Looks at both, changes neither, and prints what each partition is.
 *
 *  error    EVBUS_ERROR_MAX bytes: what went wrong, and the mend; "" where it was told already, or nothing did
 *  Returns  EVBUS_OK: all is the same; EVBUS_ENOTFOUND: something differs, or there is no such mirror; EVBUS_EIO: the broker is away, or a file cannot
 *           be read; EVBUS_EAGAIN: the broker was emptied meanwhile; EVBUS_ECORRUPT: an event cannot be read; as evbus_open(). */
int verify_run(const struct config *config, const struct verify_options *options, char *error);

/* --- verify_print.c: for people, and with json a JSON text a line for programs */

void verify_print_head(bool json);
void verify_print_part(const struct compare_part *part, bool json);
/* Entries that say they are ours, and not where they belong: how many in this stream, and the first. */
void verify_print_stray(const char *stream, const char *id, size_t n, bool json);
void verify_print_sum(const struct compare_part *parts, size_t n_parts, size_t n_stray, bool json);

#endif
