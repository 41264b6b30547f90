/* recover.h: how a bus's folder begins, and how its memory comes back from it. See recover.c. */
#ifndef EVBUS_RECOVER_H
#define EVBUS_RECOVER_H

#include "log.h"
#include "memory.h"

/* Makes the folder of a new bus that remembers, locked for its maker alone, with marks for all its positions; one that was left
 * half made is cleared first. Nothing to do where it does not remember. mode: of its memory. EVBUS_EDUPLICATE: a bus of that name
 * remembers already. */
int recover_begin(struct memory *memory, mode_t mode, gid_t group, struct error *err);

/* Makes a bus's memory from its folder, where it has lost it. EVBUS_ENOTFOUND: no bus of that name remembers. EVBUS_EBUSY: somebody has
 * its memory, or brings it back just now. Or what the files say. */
int recover_bus(const char *bus, struct log *log, struct error *err);

/* Removes what recover_begin() has made. */
void recover_give_up(struct memory *memory);

#endif
