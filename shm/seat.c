/* seat.c: who keeps the bus: one candidate of all that are attached.
 *
 *   who      whoever holds the seat (hold.c). Candidates sleep on it, on the lock word of its holder's slot
 *            (FUTEX_WAITERS set by hand, as the kernel then wakes one at its death) and on their own stop word, for
 *            half a second at most: the one that was woken may itself be stopped [B9]. Then they ask the second witness
 *            about the holder, and look at the bus's names themselves; but not while it counts its looks, as then it lives and does so
 *   stopped  with a journal, producers need what the keeper writes: it counts its looks, and a candidate that sees work and no
 *            progress for a second (doubled each time) takes the seat from it [J4]. Nothing that it does when it wakes does harm: see
 *            writer.c
 *   may      who may not write the bus's folder does not stand for keeper [J7]
 * Checked by tests/unit/test_keeper.c and tests/crash/test_journal.c. */
#include "seat.h"

#include "burial.h"
#include "clock.h"
#include "futex.h"
#include "hold.h"
#include "retire.h"
#include "slot.h"

#include <inttypes.h>

#define SEAT_NS        (500 * CLOCK_NS_PER_MS) /* the longest sleep of a candidate */
#define PATIENCE_NS    CLOCK_NS_PER_S /* with a keeper that has work and makes no progress; doubled each time [J4] */
#define PATIENCE_SHIFT 6

/* May this process keep? */
static bool may_stand(const struct seat *seat)
{
    return !memory_remembers(seat->memory) ||
           (clock_mono_ns() >= seat->stand_ns && state_is_writable(&seat->memory->state)); /* [J7] */
}

bool seat_is_ours(const struct seat *seat)
{
    return atomic_load_explicit(&seat->memory->control->seat, memory_order_acquire) == seat->word;
}

/* By somebody alive? */
static bool is_held(const struct control *control, uint32_t word)
{
    const struct slot *holder = &control->slots[HOLD_SLOT(word)];
    return HOLD_SLOT(word) != 0 && slot_is_used(holder) && !slot_is_dead(holder);
}

bool seat_try(struct seat *seat)
{
    struct control *control = seat->memory->control;
    if (is_held(control, atomic_load_explicit(&control->seat, memory_order_acquire)) || /* as mostly: no system call */
        !may_stand(seat) || !hold_take(&control->seat, control->slots, seat->slot))
        return false;
    seat->word = atomic_load_explicit(&control->seat, memory_order_acquire);
    return HOLD_SLOT(seat->word) == seat->slot; /* else it has been taken from us already */
}

void seat_leave(struct seat *seat)
{
    if (seat_is_ours(seat))
        hold_leave(&seat->memory->control->seat, seat->slot);
}

/* Is there anything that waits for the keeper's files? */
static bool has_work(const struct memory *memory)
{
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        for (uint32_t p = 0; p < memory->logs[l].n_partitions; p++) {
            const struct ring *ring = &memory->logs[l].rings[p];
            uint64_t journaled = ring_journaled(ring);
            if (ring->has_journal && (ring_tail(ring) > journaled || ring_synced(ring) < journaled))
                return true;
        }
    return false;
}

/* A keeper that is stopped, by whatever stops a process, is deposed. */
static bool depose(struct seat *seat, uint32_t word)
{
    struct memory *memory = seat->memory;
    struct control *control = memory->control;
    uint32_t progress = atomic_load_explicit(&control->progress, memory_order_acquire);
    uint64_t now = clock_mono_ns();
    if (word != seat->seen_word || progress != seat->seen_progress || !has_work(memory)) {
        seat->seen_word = word;
        seat->seen_progress = progress;
        seat->seen_ns = now;
        return false;
    }
    uint64_t patience = PATIENCE_NS << (seat->n_deposed < PATIENCE_SHIFT ? seat->n_deposed : PATIENCE_SHIFT);
    if (now - seat->seen_ns < patience || !may_stand(seat) || !hold_depose(&control->seat, word, seat->slot))
        return false;
    seat->n_deposed++;
    seat->word = HOLD_WORD(HOLD_NUMBER(word) + 1, seat->slot);
    log_line(seat->log, LOG_KEEPER, EVBUS_LOG_WARNING, "state=deposed slot=%u waited_ms=%" PRIu64, HOLD_SLOT(word),
             (now - seat->seen_ns) / CLOCK_NS_PER_MS);
    return true;
}

bool seat_wait(struct seat *seat, const _Atomic uint32_t *stop)
{
    struct control *control = seat->memory->control;
    uint32_t word = atomic_load_explicit(&control->seat, memory_order_acquire);
    bool has_holder = is_held(control, word);
    if (!has_holder && may_stand(seat))
        return false; /* it is free by now */
    uint32_t progress = atomic_load_explicit(&control->progress, memory_order_relaxed);
    struct futex_watch watches[3] = {{&control->seat, word}};
    size_t n = has_holder && slot_watch_death(&control->slots[HOLD_SLOT(word)], &watches[1]) ? 2 : 1;
    watches[n++] = (struct futex_watch){stop, 0};
    futex_wait_any(watches, n, (struct timespec){.tv_nsec = SEAT_NS});
    bool goes_on = atomic_load_explicit(&control->progress, memory_order_relaxed) != progress;
    if (memory_remembers(seat->memory) && !goes_on) /* its keeper may be stopped, and its names gone */
        retire_is_gone(seat->memory, clock_mono_ns());
    if (!has_holder || atomic_load_explicit(&control->seat, memory_order_acquire) != word)
        return false;
    if (!goes_on)
        burial_ask_one(seat->memory, HOLD_SLOT(word));
    return memory_remembers(seat->memory) && depose(seat, word);
}
