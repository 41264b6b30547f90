/* provide.h: what a catalogue asks for is made. See provide.c. */
#ifndef EVBUS_PROVIDE_H
#define EVBUS_PROVIDE_H

#include "group.h"
#include "memory.h"

/* In each partition a NAMES frame for each of the log's topics from index `from` on, by the thread that owns `slot`. */
int provide_names(struct memory_log *log, uint32_t from, uint32_t slot, struct error *err);

/* The same for the topics of dead letters from index `from` on. */
int provide_dead_letter_names(struct memory *memory, uint32_t from, uint32_t slot, struct error *err);

/* How many topics of dead letters there are. */
uint32_t provide_n_dead_letter_topics(struct memory *memory);

/* Makes the catalogue's groups that are not there, and gives those that are the topics that they lack. Whoever is made starts at
 * `from`. inout_n (may be NULL): + 1 for each change. */
int provide_groups(struct memory *memory, const struct catalogue *catalogue, enum evbus_from from, uint32_t *inout_n,
                   struct error *err);

/* Does a group live on this host? */
bool provide_is_here(const struct catalogue *catalogue, const char *group);

#endif
