/* retention.h: old files of the journal go. See retention.c. */
#ifndef EVBUS_RETENTION_H
#define EVBUS_RETENTION_H

#include "memory.h"

/* Removes what a partition keeps no longer. wall_ns: now, ns since 1970. What cannot be removed is tried again next time.
 * EVBUS_OK, or what the files say. */
int retention_look(const struct memory *memory, struct memory_log *log, uint32_t partition, uint64_t wall_ns,
                   struct error *err);

#endif
