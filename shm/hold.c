/* hold.c: what one thread of all processes holds at a time: the keeper's seat, the right to change groups and
 * catalogue.
 *
 *     word = { number:22, slot:10 }        slot 0: nobody; the number counts the holders
 *
 *   take     read the word; nobody in it, or its slot is dead: CAS to {number + 1, mine}
 *   depose   CAS from {number, another} to {number + 1, mine}: for what may be taken from the living; see keeper.c
 *   leave    CAS from {number, mine} to nobody; by the holder before it gives its slot back, or by the slot's burial
 *
 * Why that is enough. Whose it is is a slot's, so its end is known by both witnesses (slot.c), also where the kernel
 * would not free a robust mutex [B2, B3]; such a mutex could never be had again. The word is read first, then whether
 * its slot is dead, then that word is replaced: the slot's next owner has another number [B6]. The number comes again
 * after four million holders, while one who asks is stopped: then, and only if the same slot has it again, two would
 * have it. Nobody sleeps on it for long: the kernel wakes nobody here when its holder dies. So who waits looks in
 * rounds, and asks the second witness about the holder [B9].
 * Checked by tests/unit/test_hold.c and tests/crash/test_deaths.c. */
#include "hold.h"

#include "futex.h"
#include "slot.h"

bool hold_take(_Atomic uint32_t *hold, const struct slot *slots, uint32_t slot)
{
    uint32_t word = atomic_load_explicit(hold, memory_order_acquire);
    const struct slot *holder = &slots[HOLD_SLOT(word)];
    if (HOLD_SLOT(word) != 0 && slot_is_used(holder) && !slot_is_dead(holder))
        return false;
    return atomic_compare_exchange_strong_explicit(hold, &word, HOLD_WORD(HOLD_NUMBER(word) + 1, slot),
                                                   memory_order_acq_rel, memory_order_relaxed);
}

bool hold_depose(_Atomic uint32_t *hold, uint32_t word, uint32_t slot)
{
    return atomic_compare_exchange_strong_explicit(hold, &word, HOLD_WORD(HOLD_NUMBER(word) + 1, slot),
                                                   memory_order_acq_rel, memory_order_relaxed);
}

void hold_leave(_Atomic uint32_t *hold, uint32_t slot)
{
    uint32_t word = atomic_load_explicit(hold, memory_order_relaxed);
    if (HOLD_SLOT(word) == slot && atomic_compare_exchange_strong_explicit(hold, &word, HOLD_WORD(HOLD_NUMBER(word), 0),
                                                                           memory_order_acq_rel, memory_order_relaxed))
        futex_wake(hold, 1);
}
