/* group_seek.h: `evbus group seek`. See group_seek.c. */
#ifndef EVBUS_TOOLS_GROUP_SEEK_H
#define EVBUS_TOOLS_GROUP_SEEK_H

#include "commands.h"

/* Moves the group that the second operand names. Returns the exit code. */
int group_seek(const struct args *args, struct evbus *bus);

#endif
