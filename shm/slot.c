/* slot.c: a thread's place on the bus: alive, or proven dead.
 *
 *   who      a thread that claims, sleeps, pins or keeps owns a slot by holding its robust mutex for life
 *   order    take: trylock; identity; witness; tid (release)   from here on words may carry this slot
 *            leave: every word, pin and bit of ours is clean; tid = 0 (release); unlock
 *            bury: EOWNERDEAD from trylock; all is made clean; tid = 0; consistent; unlock
 *
 * Why that is enough. Only the kernel says that a thread is dead: it clears the lock word of the robust mutexes that a
 * thread held. dead(slot) = tid set and the lock word's tid another [B6]. tid is stored after the lock and cleared after the
 * last word is clean, so a word that carries this slot and a dead(slot) seen AFTER that word was read mean: its writer is
 * dead [model dead.pml, -DDEADFIRST, -DTIDLATE, -DTIDEARLY fail]. Never a timeout, never a bare pid [keeps PROGRESS].
 *
 * The second witness, for what the kernel forgets to say [B2, B3]: the process's byte lock (witness.c).
 *   who      the owner stores its number `witness` in each of its slots, before tid. Whoever finds the byte free (the
 *            keeper asks every process four times a second; who waits for a hold asks its holder; who attaches asks
 *            all) stores that number in `gone`. Then dead(slot) is true for everybody, by loads
 *   retire   the keeper buries such a slot without its mutex (one at a time: it has the seat), then retired = 1, tid =
 *            0. The mutex stays locked for ever, so nobody is given the slot again
 * Why that is enough. `gone` is a number, not a flag: it says "the process of this number is gone", which is true for
 * ever. So there is no race with the slot's next owner: who was stopped between asking and storing kills nobody, for
 * the next owner's number is another one [model dead.pml, -DGONEFLAG fails], and it stands there before its tid
 * [-DWITNESSLATE fails]. It is stored by a CAS from what stood there before the slot's number was read, so that a late
 * one does not hide a later death. A slot is lost when tid, witness and gone are those of one owner and the lock word
 * is still its tid: the byte is freed after the kernel has walked its robust lists, so it will not be changed any more,
 * and no undertaker has that tid (slot_take) but the keeper, who is not at two things at once. Left over: a thread that
 * dies in such a way between lock and tid, or in a burial, costs a slot that is not told to be retired; what it had not
 * buried yet stays dead for everybody.
 *
 * NORMAL kind only, and never a trylock on a slot that somebody with our own tid (of another PID namespace) holds: glibc
 * and the kernel take equal tids for the same thread [B5]. A dead namesake's slot would look alive while we bury it, so it is left
 * to others; where there is nobody else the keeper takes it, once it is gone: then it stays dead for all.
 * Rules B1 B2 B3 B4 B5 B6 B7. Checked by tests/model/dead.pml, tests/unit/test_slot.c and tests/crash/test_burial.c. */
#include "slot.h"

#include "clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

bool slot_watch_death(struct slot *slot, struct futex_watch *out)
{
    _Atomic uint32_t *word = (_Atomic uint32_t *)(void *)&slot->mutex;
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    while ((seen & SLOT_TID_MASK) != 0 && (seen & SLOT_WAITERS) == 0 &&
           !atomic_compare_exchange_weak_explicit(word, &seen, seen | SLOT_WAITERS, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
    *out = (struct futex_watch){word, seen | SLOT_WAITERS};
    return (seen & SLOT_TID_MASK) != 0;
}

int slot_mutex_init(pthread_mutex_t *mutex, struct error *err)
{
    pthread_mutexattr_t attr;
    int number = pthread_mutexattr_init(&attr);
    if (number == 0) {
        number = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        if (number == 0)
            number = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        if (number == 0)
            number = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_NORMAL);
        if (number == 0)
            number = pthread_mutex_init(mutex, &attr);
        pthread_mutexattr_destroy(&attr);
    }
    if (number != 0)
        return error_set(err, EVBUS_EIO, "cannot make a robust process-shared mutex: %s", strerror(number));
    return EVBUS_OK;
}

static uint32_t own_tid(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

static uint64_t own_pid_namespace(void)
{
    struct stat found;
    return stat("/proc/self/ns/pid", &found) == 0 ? (uint64_t)found.st_ino : 0;
}

static bool is_alive(const struct slot *slot)
{
    return slot_is_used(slot) && !slot_is_dead(slot);
}

bool slot_is_first_of_process(const struct slot *slots, uint32_t number)
{
    int32_t pid = atomic_load_explicit(&slots[number].pid, memory_order_relaxed);
    uint64_t pid_ns = atomic_load_explicit(&slots[number].pid_ns, memory_order_relaxed);
    if (!is_alive(&slots[number]))
        return false;
    for (uint32_t i = 1; i < number; i++)
        if (is_alive(&slots[i]) && atomic_load_explicit(&slots[i].pid, memory_order_relaxed) == pid &&
            atomic_load_explicit(&slots[i].pid_ns, memory_order_relaxed) == pid_ns)
            return false;
    return true;
}

static enum slot_try take(struct slot *slot, bool is_keeper)
{
    uint32_t word = atomic_load_explicit(slot_lock_word(slot), memory_order_relaxed) & SLOT_TID_MASK;
    uint32_t tid = (uint32_t)atomic_load_explicit(&slot->tid, memory_order_relaxed);
    uint32_t self = own_tid();
    if (word == self || (tid == self && !(is_keeper && slot_is_gone(slot))))
        return SLOT_BUSY; /* ours through another handle, or a namesake of another PID namespace [B5] */
    switch (pthread_mutex_trylock(&slot->mutex)) {
    case 0:
        return SLOT_FREE;
    case EOWNERDEAD:
        return SLOT_DIED;
    default: /* EBUSY; ENOTRECOVERABLE (somebody unlocked it without burial): lost, but nobody waits for it */
        return SLOT_BUSY;
    }
}

enum slot_try slot_take(struct slot *slot)
{
    return take(slot, false);
}

enum slot_try slot_take_gone(struct slot *slot)
{
    return take(slot, true);
}

void slot_enter(struct slot *slot, const char *service, uint64_t witness)
{
    snprintf(slot->service, sizeof slot->service, "%s", service != NULL ? service : "");
    atomic_store_explicit(&slot->pid, (int32_t)getpid(), memory_order_relaxed);
    atomic_store_explicit(&slot->pid_ns, own_pid_namespace(), memory_order_relaxed);
    atomic_store_explicit(&slot->since_ns, clock_wall_ns(), memory_order_relaxed);
    atomic_store_explicit(&slot->cancels, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->cancels_in_row, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->witness, witness, memory_order_relaxed);
    atomic_store_explicit(&slot->tid, (int32_t)own_tid(), memory_order_release);
}

void slot_leave(struct slot *slot)
{
    atomic_store_explicit(&slot->tid, 0, memory_order_release);
    pthread_mutex_unlock(&slot->mutex);
}

void slot_buried(struct slot *slot)
{
    atomic_store_explicit(&slot->tid, 0, memory_order_release);
    pthread_mutex_consistent(&slot->mutex);
}

void slot_lose(struct slot *slot)
{
    pthread_mutex_unlock(&slot->mutex); /* without pthread_mutex_consistent(): ENOTRECOVERABLE for whoever tries */
}

void slot_tell_gone(struct slot *slot, uint64_t witness)
{
    uint64_t before = atomic_load_explicit(&slot->gone, memory_order_acquire); /* before we look whose the slot is */
    if (before != witness && atomic_load_explicit(&slot->witness, memory_order_acquire) == witness)
        atomic_compare_exchange_strong_explicit(&slot->gone, &before, witness, memory_order_acq_rel,
                                                memory_order_relaxed); /* edge GONE, from: whoever asked */
}

bool slot_is_lost(const struct slot *slot)
{
    uint32_t tid = (uint32_t)atomic_load_explicit(&slot->tid, memory_order_acquire);
    uint64_t witness = atomic_load_explicit(&slot->witness, memory_order_acquire);
    if (tid == 0 || !slot_is_gone(slot) ||
        (atomic_load_explicit(slot_lock_word(slot), memory_order_acquire) & SLOT_TID_MASK) != tid)
        return false;
    return (uint32_t)atomic_load_explicit(&slot->tid, memory_order_relaxed) == tid && /* all of it is of one owner */
           atomic_load_explicit(&slot->witness, memory_order_relaxed) == witness;
}

void slot_retire(struct slot *slot)
{
    atomic_store_explicit(&slot->retired, 1, memory_order_relaxed);
    atomic_store_explicit(&slot->tid, 0, memory_order_release);
}
