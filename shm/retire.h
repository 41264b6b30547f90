/* retire.h: a bus ends. See retire.c. */
#ifndef EVBUS_RETIRE_H
#define EVBUS_RETIRE_H

#include "memory.h"

/* Looks whether the bus's objects still have their names. If not, nobody can open what we have, and somebody may make it anew: the
 * bus is retired, and whoever sleeps is woken. true: it was that just now. */
bool retire_check_names(struct memory *memory);

/* Is it retired? Once a second its names are looked at, too. now_ns: monotonic. */
bool retire_is_gone(struct memory *memory, uint64_t now_ns);

/* Marks the bus retired and unlinks its objects, also those of a half-made or foreign one. EVBUS_ENOBUS, EVBUS_EPERM. */
int retire_remove(const char *bus, struct error *err);

#endif
