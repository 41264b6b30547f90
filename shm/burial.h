/* burial.h: what a dead thread held becomes free again. See burial.c. */
#ifndef EVBUS_BURIAL_H
#define EVBUS_BURIAL_H

#include "memory.h"

/* A slot for the calling thread, entered under this service's name; a dead thread's is buried first. EVBUS_OK; EVBUS_ELIMIT. */
int burial_take_slot(struct memory *memory, const char *service, uint32_t *out_slot, struct error *err);

/* Gives back the calling thread's slot with its pins and places; its claim must be settled. */
void burial_leave_slot(struct memory *memory, uint32_t slot);

/* Frees a pin that belongs to exactly this owner; nothing if it has been handed on. */
void burial_free_pin(struct memory_log *log, uint32_t index, uint32_t owner);

/* Buries whoever is dead. Returns how many. Any thread; the slots are looked at by two loads each. */
unsigned burial_sweep(struct memory *memory);

/* Asks the second witness about every process that has a slot; a system call or two each. Who is gone is dead for
 * everybody then. */
void burial_ask_all(const struct memory *memory);

/* About the process of one slot; nothing if nobody has it. */
void burial_ask_one(const struct memory *memory, uint32_t slot);

/* Raises slots_end, where it is damaged, to what is in use. */
void burial_find_end(const struct memory *memory);

/* Buries the gone that burial_sweep() cannot: those whose mutex is lost, whose slots are retired, and the calling thread's
 * namesakes. Returns how many. The keeper alone: nobody else may be at it. */
unsigned burial_bury_gone(struct memory *memory);

/* The partition's words, pins and bits of a slot whose mutex is held by us: for tests of the single steps. */
void burial_bury_ring(struct ring *ring, uint32_t slot);

#endif
