/* trace.h: W3C Trace Context, as an event carries it. See trace.c. */
#ifndef EVBUS_TRACE_H
#define EVBUS_TRACE_H

#include "error.h"

#include <stdint.h>

#define TRACE_PARENT_LEN    55  /* of version 00; later ones may be longer, and are kept */
#define TRACE_PARENT_MAX    255 /* bytes that we keep */
#define TRACE_STATE_MAX     512
#define TRACE_STATE_MEMBERS 32
#define TRACE_ID_MAX        255 /* of a correlationId, causationId */

/* Is it a traceparent: "00-<32 hex>-<16 hex>-<2 hex>", lower case, ids not zero; or one of a later version? EVBUS_OK or
 * EVBUS_EINVAL with a message that says what is wrong. */
int trace_check_parent(const char *text, size_t len, struct error *err);

/* Is it a tracestate: at most 32 members key=value, at most 512 bytes? EVBUS_OK or EVBUS_EINVAL. */
int trace_check_state(const char *text, size_t len, struct error *err);

/* A traceparent of the same trace, with another span: version 00, the same trace and flags. parent has been checked. span: not 0. */
void trace_child(const char *parent, uint64_t span, char out_text[TRACE_PARENT_LEN + 1]);

#endif
