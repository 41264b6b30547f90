/* hold.h: what one thread of all processes holds at a time, until it lets go or is dead. See hold.c. */
#ifndef EVBUS_HOLD_H
#define EVBUS_HOLD_H

#include "layout.h"

#include <stdbool.h>

/* Takes it where nobody has it, or a dead one. */
bool hold_take(_Atomic uint32_t *hold, const struct slot *slots, uint32_t slot);

/* Takes it from a living holder that has stopped, where it still has this life of it. */
bool hold_depose(_Atomic uint32_t *hold, uint32_t word, uint32_t slot);

/* Lets go; wakes one who sleeps on the word. */
void hold_leave(_Atomic uint32_t *hold, uint32_t slot);

/* The slot that has it; 0: nobody. */
static inline uint32_t hold_slot(const _Atomic uint32_t *hold)
{
    return HOLD_SLOT(atomic_load_explicit(hold, memory_order_acquire));
}

#endif
