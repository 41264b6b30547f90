/* report.h: what a group's member leaves in writing: attempts that ended badly, events that it cannot read. See report.c. */
#ifndef EVBUS_REPORT_H
#define EVBUS_REPORT_H

#include "log.h"
#include "notes.h"

/* Whose it is, in one partition. */
struct report {
    struct memory *memory;
    struct log *log; /* NULL: say nothing */
    const char *group;
    const struct ring *ring;
    bool is_unread; /* we have told that files cannot be read */
};

/* One that ended badly. */
struct report_attempt {
    const struct pending *entry;
    const uint8_t *id; /* of its event */
    enum pending_cause cause;
    uint64_t took_ns;   /* 0: nobody knows */
    uint32_t slot;      /* whose it was */
    const char *member; /* its service */
    const char *error;  /* what its handler said, any bytes; NULL: nothing */
};

/* Publishes a note of it, by the thread that owns claim. last: position + 1 of the event's note before. Returns that of the newest. */
uint64_t report_attempt(const struct report *report, const struct report_attempt *attempt, struct claim *claim,
                        uint64_t last);

/* Is its newest note, at position + 1 `last`, of this attempt of this event already? */
bool report_has(const struct report *report, const struct pending *entry, const uint8_t *id, uint64_t last);

/* To the log of the handle: an event that the group will never get, as nobody else follows it into the files. */
void report_lost(const struct report *report, uint64_t pos, const char *what);

/* Likewise, once: files that cannot be read now, or can again. */
void report_unread(struct report *report, bool is_unread, const char *why);

#endif
