/* beside.h: another program of ours, in place of this one. See beside.c. */
#ifndef EVBUS_TOOLS_BESIDE_H
#define EVBUS_TOOLS_BESIDE_H

#include <stddef.h>

/* Goes on as that program with these arguments. in_build: where a build tree has it, from this program's folder. Returns only where that is impossible:
 * the exit code, after the message. */
int beside_run(const char *program, const char *in_build, const char *const *arguments, size_t n);

#endif
