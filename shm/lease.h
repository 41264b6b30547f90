/* lease.h: which member has which partition of a group. See lease.c. */
#ifndef EVBUS_LEASE_H
#define EVBUS_LEASE_H

#include "pending.h"

/* Takes the lease if nobody has it, or the dead, or `from` (a holder whose handler takes too long; 0: nobody). All words have
 * our epoch then, and a seek that was begun is done. */
bool lease_take(struct group_part *part, const struct slot *slots, uint32_t slot, uint32_t from, uint16_t *out_epoch);

/* Gives it back: nothing of it may be in a handler. */
void lease_give(struct group_part *part, uint16_t epoch, uint32_t slot);

/* Is it still ours? */
static inline bool lease_is_held(const struct group_part *part, uint16_t epoch, uint32_t slot)
{
    return atomic_load_explicit(&part->lease, memory_order_acquire) == LEASE_WORD(epoch, slot);
}

static inline uint32_t lease_holder(const struct group_part *part)
{
    return LEASE_SLOT(atomic_load_explicit(&part->lease, memory_order_acquire));
}

/* What a takeover found in handlers, TAKEN, or beyond the cursor becomes what it now is; see lease.c. due_ns: when it may
 * run again, monotonic.
 * attempts_max: of the group. Returns how many were in a handler. */
unsigned lease_recover(struct group_part *part, uint16_t epoch, uint64_t due_ns, uint32_t attempts_max,
                       enum pending_cause cause);

#endif
