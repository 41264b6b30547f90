/* keeper.h: one thread of one attached process at a time keeps the bus. See keeper.c. */
#ifndef EVBUS_KEEPER_H
#define EVBUS_KEEPER_H

#include "log.h"
#include "memory.h"

struct keeper;

/* Starts this process's candidate, the thread `evbus-keeper`. memory and log must outlive it. spin_ns: how long it
 * stays awake, 20 us at most, for the next event of who waited for the disk alone. */
int keeper_start(struct keeper **out_keeper, struct memory *memory, const char *service, uint64_t spin_ns,
                 struct log *log, struct error *err);

/* Ends it within milliseconds; another process's candidate takes over. NULL is fine. */
void keeper_stop(struct keeper *keeper);

#endif
