/* entry.h: an event as fields with names, as every broker has it: the ADR's five first. See entry.c. */
#ifndef EVBUS_BRIDGE_ENTRY_H
#define EVBUS_BRIDGE_ENTRY_H

#include <evbus/evbus.h>

#define ENTRY_FIELDS_MAX 48
#define ENTRY_COMMON \
    10 /* always there, in this order: eventId eventType timestamp version payload key origin partition position prev */
#define ENTRY_ORIGIN 6 /* which of them */

/* Neither name nor value ends with a NUL that counts. */
struct entry_field {
    const char *name;
    size_t name_len;
    const char *value;
    size_t value_len;
};

/* Values point into the event, into `origin`, or into `texts`; names are constants: one name is one pointer. */
struct entry {
    uint64_t second_behind; /* 1 + the second since 1970 that `second` says, mostly the next event's, too; 0: none */
    char second[sizeof "2026-02-01T09:30:00."];
    size_t n;
    struct entry_field fields[ENTRY_FIELDS_MAX];
    char texts[512];
};

/* An event of this bus, all its versions. origin: the bus's uuid as text. prev: the position of the event before it in
 * the same stream and partition; 0: there is none that we know. *out lives as long as the event and origin do, and is
 * not to be copied; before its first event second_behind is 0. */
void entry_write(const struct evbus_delivery *event, const char *origin, uint64_t prev, struct entry *out);

/* What a stream's entry says, ready for evbus_mirror_bring(). Texts, the origin and further versions lie in here, so it
 * is not to be copied; payloads lie where the fields have them. */
struct entry_event {
    struct evbus_event event; /* event.origin is &origin below, whose broker_id is the caller's to set */
    struct evbus_origin origin;
    bool is_foreign; /* no evbus wrote it: it says no origin. origin.bus is all zero then */
    uint64_t prev;   /* 0: it says none */
    struct evbus_version more[EVBUS_VERSIONS_MAX - 1];
    char topic[128];
    char key[256];
    char traceparent[EVBUS_TRACEPARENT_SIZE];
    char tracestate[513];
    char correlation_id[256];
    char causation_id[256];
};

/* Reads fields back, in any order. Needed are eventId, eventType, timestamp and payload; a missing version is 1.0;
 * fields that it does not know are left out.
 *
 *  error    EVBUS_ERROR_MAX bytes: which field, what was found, and the mend; printable ASCII
 *  Returns  false: it is no event; *out is of no use then. True says nothing of what the bus checks of every event:
 *           that payloads are JSON, texts UTF-8, the topic one of the catalogue, the trace W3C's. */
bool entry_read(const struct entry_field *fields, size_t n, struct entry_event *out, char *error);

#endif
