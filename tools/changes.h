/* changes.h: what a bus has gained by a catalogue. See changes.c. */
#ifndef EVBUS_TOOLS_CHANGES_H
#define EVBUS_TOOLS_CHANGES_H

#include "args.h"

#include <evbus/admin.h>

/* A bus as it was. */
struct changes {
    char *text; /* its catalogue */
    size_t len;
    char *groups; /* their names, each with a newline before and behind it */
};

/* Before the catalogue is applied. Returns 0, or the exit code after the message; changes_end() in both cases. */
int changes_begin(struct changes *changes, struct evbus *bus);

/* Prints what is new now, as lines or with --json as an object. Returns 0, or the exit code after the message. */
int changes_print(const struct changes *changes, const struct args *args, struct evbus *bus, const char *text,
                  size_t len);

void changes_end(struct changes *changes);

#endif
