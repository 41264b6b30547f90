/* envelope.h: JSON <-> event, strict, the payload kept verbatim. See envelope.c. */
#ifndef EVBUS_ENVELOPE_H
#define EVBUS_ENVELOPE_H

#include "error.h"

/* RFC 3339 to ns since 1970; offsets accepted, fractions to 9 digits (further ones cut), years 1970..2553, a leap
 * second (23:59:60 UTC) is the second after. EVBUS_EINVAL with a message otherwise. */
int envelope_time_parse(const char *text, size_t len, uint64_t *out_ns, struct error *err);

/* "2026-02-01T09:30:00.123Z", UTC, milliseconds, truncated. */
void envelope_time_format(uint64_t ns, char out_text[32]);

/* The fields of a parsed envelope: slices of its text, nothing is copied. */
struct envelope {
    uint8_t id[16]; /* all zero: the text has none */
    char topic[128];
    uint64_t timestamp_ns; /* 0: the text has none */
    uint16_t version_major, version_minor;
    const char *payload; /* slice of the text, verbatim */
    size_t payload_len;
};

/* One JSON object with the ADR's five fields; eventId, timestamp and version may be missing (zero, 0, 1.0), so the nil
 * UUID and 1970 itself are refused. Any other member is an error that names it, with a suggestion when it looks like
 * one of the five; so is a member that stands there twice. EVBUS_OK or EVBUS_EINVAL. */
int envelope_parse(const char *text, size_t len, struct envelope *out_envelope, struct error *err);

/* evbus_envelope_format() of evbus.h is defined in envelope.c. */

#endif
