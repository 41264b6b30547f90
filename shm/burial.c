/* burial.c: what a dead thread held becomes free again.
 *
 *   who      dead = slot.tid set and the lock word's tid another: two loads, anyone. Anyone may PAD a dead slot's words
 *            (ring_pad_if_dead); only the undertaker, who got EOWNERDEAD from trylock, makes the slot free.
 *            Where the second witness alone says so (slot.c) the mutex is lost: then it is the keeper, who is alone, and the
 *            slot is retired. The keeper alone buries its own dead namesakes, too
 *   order    for each ring: help the tail on until word[tail] is of an older lap; words CLAIMED, CANCELLED -> PAD in
 *            released..tail; its fences. Then leases; pins; holds; sleeper bits; ring all doorbells; tid = 0; mutex
 *            consistent; it is ours or unlocked
 *
 * Why that is enough. The dead write no more, so a word that carries the slot changes only by us [keeps WHOLE]. A claim is
 * never beyond tail, for its claimant had loaded that tail, and after the tail is helped on none lies at it either: the walk
 * finds them all, and the slot is used again only after the last is PAD [keeps ONE-WRITER] [R1, R2; model slots.pml, -DNOHELP,
 * -DEARLY fail]. Fences come after the words, or a claim that is fenced just now would keep its fence for ever [R5, -DFENCEFIRST]. Each step may be done twice, so a dead undertaker is followed by the next. Nobody waits for a time to pass,
 * nor for an undertaker that is stopped: readers and producers PAD by themselves what blocks them [keeps PROGRESS] [B6].
 * All bells are rung since the dead may have been between its commit and its wake [D5] [keeps WOKEN].
 * Rules R1 R2 B1 B6 D5 D6. Checked by tests/model/slots.pml, dead.pml and tests/crash/test_burial.c. */
#include "burial.h"

#include "doorbell.h"
#include "fence.h"
#include "futex.h"
#include "hold.h"
#include "slot.h"

#include <limits.h>

static void help_tail_on(struct ring *ring)
{
    for (;;) {
        uint64_t tail = ring_tail(ring);
        uint64_t word = atomic_load_explicit(ring_word(ring, tail), memory_order_acquire);
        uint32_t n_cells = word_cells(word);
        if (word_lap(word) != ring_lap(ring, tail)) {
            if (ring_tail(ring) == tail)
                return;
            continue;
        }
        if (n_cells < 1 || ring_index(ring, tail) + n_cells > ring->capacity)
            return; /* damaged: producers refuse this ring, doctor tells */
        atomic_compare_exchange_strong_explicit(&ring->head->tail, &tail, tail + n_cells, memory_order_acq_rel,
                                                memory_order_relaxed);
    }
}

/* Its open claims become pads. */
static void bury_words(struct ring *ring, uint32_t slot)
{
    uint64_t tail = ring_tail(ring);
    uint64_t pos = ring_released(ring);
    while (pos < tail) {
        uint64_t word = atomic_load_explicit(ring_word(ring, pos), memory_order_acquire);
        uint32_t n_cells = word_cells(word);
        if (word_lap(word) != ring_lap(ring, pos) || n_cells < 1) {
            uint64_t released = ring_released(ring);
            if (released <= pos)
                return;     /* damaged */
            pos = released; /* overtaken: again from there */
            continue;
        }
        bool is_open = word_state(word) == WORD_CLAIMED || word_state(word) == WORD_CANCELLED;
        if (is_open && word_slot(word) == slot) {
            uint64_t pad = word_make(word_lap(word), WORD_PAD, 0, n_cells);
            if (!atomic_compare_exchange_strong_explicit(ring_word(ring, pos), &word, pad, memory_order_acq_rel,
                                                         memory_order_relaxed))
                continue; /* a reader has cancelled or buried it just now */
            atomic_fetch_add_explicit(&ring->head->buried, 1, memory_order_relaxed);
        }
        pos += n_cells;
    }
}

void burial_bury_ring(struct ring *ring, uint32_t slot)
{
    help_tail_on(ring);
    bury_words(ring, slot);
    fence_bury(ring, slot);
}

/* The owner may hand a pin on at this very moment: whoever changes the owner's word first has it. */
static void bury_pins(struct memory_log *log, uint32_t slot)
{
    for (uint32_t i = 0; i < PINS_MAX; i++) {
        uint32_t owner = atomic_load_explicit(&log->head->pin_owners[i], memory_order_acquire);
        if (PIN_SLOT(owner) == slot)
            burial_free_pin(log, i, owner);
    }
}

void burial_free_pin(struct memory_log *log, uint32_t index, uint32_t owner)
{
    uint32_t number = atomic_fetch_add_explicit(&log->head->pin_numbers, 1, memory_order_relaxed);
    if (!atomic_compare_exchange_strong_explicit(&log->head->pin_owners[index], &owner,
                                                 PIN_OWNER(number, PIN_SLOT(owner)), memory_order_acq_rel,
                                                 memory_order_relaxed))
        return;
    for (uint32_t p = 0; p < log->n_partitions; p++)
        ring_unpin(&log->rings[p], index);
    atomic_store_explicit(&log->head->pin_owners[index], 0, memory_order_release);
}

/* Its leases, and its membership. The words of a group and partition are the next holder's to mend. is_dead: that is a takeover;
 * else the thread gives them itself, at its end. */
static void bury_members(struct memory *memory, uint32_t slot, bool is_dead)
{
    for (uint32_t g = 0; g < GROUPS_MAX; g++) {
        struct group_entry *group = &memory->control->groups[g];
        if (atomic_load_explicit(&group->state, memory_order_acquire) == GROUP_FREE)
            continue;
        bool was_member = false;
        for (uint32_t i = 0; i < MEMBERS_MAX; i++) {
            uint32_t owner = atomic_load_explicit(&group->members[i].owner, memory_order_acquire);
            if (PIN_SLOT(owner) == slot)
                was_member = atomic_compare_exchange_strong_explicit(&group->members[i].owner, &owner, 0,
                                                                     memory_order_acq_rel, memory_order_relaxed) ||
                             was_member;
        }
        for (uint32_t l = 0; l < memory_n_logs(memory); l++)
            for (uint32_t p = 0; p < memory->logs[l].n_partitions; p++) {
                struct group_part *part = memory_part(&memory->logs[l], p, g);
                uint64_t word = atomic_load_explicit(&part->lease, memory_order_acquire);
                if (LEASE_SLOT(word) == slot &&
                    atomic_compare_exchange_strong_explicit(&part->lease, &word, LEASE_WORD(LEASE_EPOCH(word), 0),
                                                            memory_order_acq_rel, memory_order_relaxed) &&
                    is_dead)
                    atomic_fetch_add_explicit(&part->n_takeovers, 1, memory_order_relaxed);
            }
        if (was_member)
            atomic_fetch_add_explicit(&group->changes, 1, memory_order_release);
    }
}

/* Its leases, pins and holds, and its places among the sleepers. */
static void clear_logs(struct memory *memory, uint32_t slot, bool is_dead)
{
    bury_members(memory, slot, is_dead);
    hold_leave(&memory->control->seat, slot);
    hold_leave(&memory->control->admin, slot);
    hold_leave(&memory->control->settler, slot);
    for (uint32_t g = 0; g < GROUPS_MAX; g++)
        hold_leave(&memory->control->groups[g].leader, slot);
    for (uint32_t i = 0; i < memory_n_logs(memory); i++)
        bury_pins(&memory->logs[i], slot);
    for (uint32_t i = 0; i < memory_n_logs(memory); i++)
        doorbell_bury(memory->logs[i].head, slot);
}

static void ring_all_bells(struct memory *memory)
{
    for (int i = 1; i <= SLOTS_MAX; i++)
        if (slot_is_used(&memory->control->slots[i]))
            doorbell_ring_slot(&memory->control->slots[i]);
    for (uint32_t i = 0; i < memory_n_logs(memory); i++)
        for (uint32_t p = 0; p < memory->logs[i].n_partitions; p++)
            ring_wake_producers(&memory->logs[i].rings[p]);
}

/* Nobody else is at it, and its last owner is dead. false: a log that was added just now cannot be mapped. */
static bool clear(struct memory *memory, uint32_t slot)
{
    if (memory_map_new_logs(memory, NULL) != EVBUS_OK) /* an undertaker reaches all rings [R2] */
        return false;
    for (uint32_t i = 0; i < memory_n_logs(memory); i++)
        for (uint32_t p = 0; p < memory->logs[i].n_partitions; p++)
            burial_bury_ring(&memory->logs[i].rings[p], slot);
    clear_logs(memory, slot, true);
    ring_all_bells(memory);
    atomic_fetch_add_explicit(&memory->control->burials, 1, memory_order_relaxed);
    return true;
}

/* We hold its mutex. false: the slot stays dead for ever, which costs a slot and nothing else. */
static bool bury(struct memory *memory, uint32_t slot)
{
    if (!clear(memory, slot))
        return false;
    slot_buried(&memory->control->slots[slot]);
    return true;
}

int burial_take_slot(struct memory *memory, const char *service, uint32_t *out_slot, struct error *err)
{
    int rc = memory_map_new_logs(memory, err); /* before any is taken that must be buried */
    if (rc != EVBUS_OK)
        return rc;
    for (uint32_t i = 1; i <= SLOTS_MAX; i++) {
        struct slot *slot = &memory->control->slots[i];
        slots_reach(memory->control, i);
        enum slot_try got = slot_take(slot);
        if (got == SLOT_BUSY)
            continue;
        if (got == SLOT_DIED && !bury(memory, i)) {
            slot_lose(slot);
            continue;
        }
        slot_enter(slot, service, memory->witness.number);
        *out_slot = i;
        return EVBUS_OK;
    }
    return error_set(err, EVBUS_ELIMIT, "bus %s: all %d slots are taken; a slot is a thread: `evbus stat` lists them",
                     memory->bus, SLOTS_MAX);
}

void burial_leave_slot(struct memory *memory, uint32_t slot)
{
    clear_logs(memory, slot, false);
    slot_leave(&memory->control->slots[slot]);
}

/* And then it is free. How many that were. */
static unsigned bury_taken(struct memory *memory, uint32_t number)
{
    struct slot *slot = &memory->control->slots[number];
    if (!bury(memory, number)) {
        slot_lose(slot);
        return 0;
    }
    slot_leave(slot);
    return 1;
}

unsigned burial_sweep(struct memory *memory)
{
    unsigned n_buried = 0;
    if (memory_map_new_logs(memory, NULL) != EVBUS_OK) /* then others bury */
        return 0;
    for (uint32_t i = 1; i < slots_end(memory->control); i++) {
        struct slot *slot = &memory->control->slots[i];
        uint32_t lock = atomic_load_explicit(slot_lock_word(slot), memory_order_acquire);
        if (!slot_is_dead(slot) && (lock & SLOT_DIED_BIT) == 0) /* the second: it died before it said who it was */
            continue;
        enum slot_try got = slot_take(slot);
        if (got == SLOT_DIED)
            n_buried += bury_taken(memory, i);
        else if (got == SLOT_FREE)
            slot_leave(slot);
    }
    return n_buried;
}

/* --- the second witness ------------------------------------------------------------------------------------------------ */

static struct witness_asked ask(const struct memory *memory)
{
    char name[256];
    region_name(memory->bus, "control", name);
    return witness_ask(&memory->witness, &memory->control_region, name);
}

/* The number of a slot whose owner is not known to be gone; else 0. */
static uint64_t number_of(const struct slot *slot)
{
    return slot_is_used(slot) && !slot_is_gone(slot) ? atomic_load_explicit(&slot->witness, memory_order_acquire) : 0;
}

static void tell_gone(const struct memory *memory, uint64_t number)
{
    for (uint32_t i = 1; i <= SLOTS_MAX; i++)
        slot_tell_gone(&memory->control->slots[i], number);
}

void burial_ask_all(const struct memory *memory)
{
    uint64_t alive[SLOTS_MAX]; /* each process is asked about once */
    uint32_t n_alive = 0;
    struct witness_asked asked = ask(memory);
    for (uint32_t i = 1; i < slots_end(memory->control); i++) {
        uint64_t number = number_of(&memory->control->slots[i]);
        bool is_known = number == 0 || number == memory->witness.number;
        for (uint32_t j = 0; j < n_alive && !is_known; j++)
            is_known = alive[j] == number;
        if (is_known)
            continue;
        if (witness_says_gone(&asked, number))
            tell_gone(memory, number);
        else
            alive[n_alive++] = number;
    }
    witness_thank(&asked);
}

void burial_ask_one(const struct memory *memory, uint32_t slot)
{
    uint64_t number = number_of(&memory->control->slots[slot]);
    if (number == 0)
        return;
    struct witness_asked asked = ask(memory);
    if (witness_says_gone(&asked, number))
        tell_gone(memory, number);
    witness_thank(&asked);
}

void burial_find_end(const struct memory *memory)
{
    for (uint32_t i = SLOTS_MAX; i > 0 && i >= slots_end(memory->control); i--) {
        struct slot *slot = &memory->control->slots[i];
        if (slot_is_used(slot) || atomic_load_explicit(slot_lock_word(slot), memory_order_relaxed) != 0)
            slots_reach(memory->control, i);
    }
}

unsigned burial_bury_gone(struct memory *memory)
{
    unsigned n_buried = 0;
    for (uint32_t i = 1; i < slots_end(memory->control); i++) {
        struct slot *slot = &memory->control->slots[i];
        if (!slot_is_used(slot) || !slot_is_gone(slot))
            continue;
        if (slot_is_lost(slot) && clear(memory, i)) {
            slot_retire(slot);
            n_buried++;
        } else if (slot_take_gone(slot) == SLOT_DIED) {
            n_buried += bury_taken(memory, i);
        }
    }
    return n_buried;
}
