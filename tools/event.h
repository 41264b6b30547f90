/* event.h: an event as a line, for all who show events. See event.c. */
#ifndef EVBUS_TOOLS_EVENT_H
#define EVBUS_TOOLS_EVENT_H

#include "args.h"

/* Room for an envelope, kept from event to event; all zero: none yet. */
struct event_printer {
    char *envelope;
    size_t cap;
};

/* The event's envelope; lives until the next call. Returns 0, or the exit code after the message. */
int event_envelope(struct event_printer *printer, const struct evbus_delivery *delivery, const char **out_text,
                   size_t *out_len);

/* A line on standard output: with --json the envelope, with --meta what is known beside it; with --versions one for each version. Returns 0, or the exit code
 * after the message. */
int event_print(struct event_printer *printer, const struct args *args, const struct evbus_delivery *delivery);

void event_printer_end(struct event_printer *printer);

#endif
