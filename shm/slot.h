/* slot.h: a thread's place on the bus: alive, or proven dead. See slot.c. */
#ifndef EVBUS_SLOT_H
#define EVBUS_SLOT_H

#include "error.h"
#include "futex.h"
#include "layout.h"

/* The kernel's word on who holds a robust mutex: the first int of glibc's pthread_mutex_t. */
static inline const _Atomic uint32_t *slot_lock_word(const struct slot *slot)
{
    return (const _Atomic uint32_t *)(const void *)&slot->mutex;
}

#define SLOT_TID_MASK 0x3fffffffu /* FUTEX_TID_MASK */
#define SLOT_DIED_BIT 0x40000000u /* FUTEX_OWNER_DIED */
#define SLOT_WAITERS  0x80000000u /* FUTEX_WAITERS */

/* Dead by the second witness: the byte of the process that has it was found free. */
static inline bool slot_is_gone(const struct slot *slot)
{
    uint64_t witness = atomic_load_explicit(&slot->witness, memory_order_acquire);
    return witness != 0 && atomic_load_explicit(&slot->gone, memory_order_acquire) == witness; /* edge GONE, to: all */
}

/* Dead, by loads alone, no system call: somebody had it, and does not hold its mutex any more, or is gone. */
static inline bool slot_is_dead(const struct slot *slot)
{
    uint32_t tid = (uint32_t)atomic_load_explicit(&slot->tid, memory_order_acquire);
    if (tid == 0)
        return false;
    return (atomic_load_explicit(slot_lock_word(slot), memory_order_acquire) & SLOT_TID_MASK) != tid ||
           slot_is_gone(slot);
}

static inline bool slot_is_used(const struct slot *slot)
{
    return atomic_load_explicit(&slot->tid, memory_order_acquire) != 0;
}

/* Nobody has ever had this slot or one behind it: what looks for the dead again and again ends there. It only rises, by a CAS before the
 * lock is tried, so who dies with the lock is before it; who sees it late sees it at the next look. Damaged, it is mended by burial_find_end(). */
static inline uint32_t slots_end(const struct control *control)
{
    uint32_t end = atomic_load_explicit(&control->slots_end, memory_order_relaxed);
    return end <= SLOTS_MAX ? end : SLOTS_MAX + 1;
}

/* Before slot_take() of one that may be behind it. */
static inline void slots_reach(struct control *control, uint32_t number)
{
    uint32_t end = atomic_load_explicit(&control->slots_end, memory_order_relaxed);
    while (end <= number && !atomic_compare_exchange_weak_explicit(&control->slots_end, &end, number + 1,
                                                                   memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* Is it alive, and of all living slots of its process the one with the least number? For counting processes. */
bool slot_is_first_of_process(const struct slot *slots, uint32_t number);

/* Makes the kernel wake one sleeper on its lock word when its owner dies. false: nobody owns it; else *out is what to sleep on. */
bool slot_watch_death(struct slot *slot, struct futex_watch *out);

/* A robust, process-shared mutex of kind NORMAL. */
int slot_mutex_init(pthread_mutex_t *mutex, struct error *err);

/* How a try to take a robust mutex ended. */
enum slot_try { SLOT_FREE, SLOT_BUSY, SLOT_DIED };

/* Tries to take a slot. SLOT_FREE: it is ours. SLOT_DIED: it is ours, and its last owner left what must be buried first.
 * SLOT_BUSY: not ours. */
enum slot_try slot_take(struct slot *slot);

/* The same by the keeper alone: also from a dead owner with our own tid, once it is gone. */
enum slot_try slot_take_gone(struct slot *slot);

/* Who we are; from here on we may claim. Its mutex is ours. witness: our process's number. */
void slot_enter(struct slot *slot, const char *service, uint64_t witness);

/* Nothing of ours is left in the rings: give it back. By its owner only. */
void slot_leave(struct slot *slot);

/* Ours from a dead owner, and it cannot be buried: nobody shall have it again, and it stays dead. */
void slot_lose(struct slot *slot);

/* Ours from a dead owner, and all is buried: now it is as a free one that we hold. */
void slot_buried(struct slot *slot);

/* The process of this number is gone, and the slot is its: say so to everybody. */
void slot_tell_gone(struct slot *slot, uint64_t witness);

/* Is its owner gone, and the mutex still that owner's: nobody will ever get it? */
bool slot_is_lost(const struct slot *slot);

/* It is lost, and all is buried. */
void slot_retire(struct slot *slot);

#endif
