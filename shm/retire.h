/* retire.h: a bus ends. See retire.c. */
#ifndef EVBUS_RETIRE_H
#define EVBUS_RETIRE_H

#include "clock.h"
#include "memory.h"

/* Looks whether the bus's objects still have their names. If not, nobody can open what we have, and somebody may make it anew: the
 * bus is retired, and whoever sleeps is woken. true: it was that just now. */
bool retire_check_names(struct memory *memory);

/* Is it retired? Once a second its names are looked at, too. now_ns: monotonic. */
void retire_look_again(struct memory *memory, uint64_t looked_ns, uint64_t now_ns);
static inline bool retire_is_gone(struct memory *memory, uint64_t now_ns)
{
    uint64_t looked_ns = atomic_load_explicit(&memory->looked_ns, memory_order_relaxed);
    if (now_ns > looked_ns && now_ns - looked_ns >= CLOCK_NS_PER_S)
        retire_look_again(memory, looked_ns, now_ns);
    return memory_is_retired(memory);
}

/* Marks the bus retired and unlinks its objects, also those of a half-made or foreign one. EVBUS_ENOBUS, EVBUS_EPERM. */
int retire_remove(const char *bus, struct error *err);

#endif
