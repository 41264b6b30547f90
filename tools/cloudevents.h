/* cloudevents.h: our lines to CloudEvents 1.0 and back, nothing lost. See cloudevents.c. */
#ifndef EVBUS_TOOLS_CLOUDEVENTS_H
#define EVBUS_TOOLS_CLOUDEVENTS_H

#include "slices.h"

/* What came of a line; kept from line to line, all zero: none yet. */
struct converted {
    char *text; /* without a newline */
    size_t len;
    size_t cap;
    bool is_memory_short; /* ever */
    char fault[320];      /* what is wrong with it, and the mend */
};

/* An envelope, or what `tail --json --meta` prints, to a CloudEvent in structured JSON. false: it is none, see fault. */
bool cloudevents_to(struct slice line, struct converted *out);

/* And back. */
bool cloudevents_from(struct slice line, struct converted *out);

void converted_end(struct converted *converted);

#endif
