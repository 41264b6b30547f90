/* test_burial.c: what a dead thread held becomes free again, step by step and as a whole.
 *
 * [no tsan] The dead are other processes. */
#include "burial.h"

#include "await.h"
#include "bus.h"
#include "child.h"
#include "doorbell.h"
#include "fixture.h"
#include "hold.h"
#include "partition.h"
#include "slot.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define CELLS   64
#define DEAD    9 /* a slot */
#define OTHER   8

/* ---- one ring ---- */

struct bed {
    struct slot *slots;
    struct ring ring;
};

static struct bed bed_make(void)
{
    struct bed bed = {.slots = aligned_alloc(64, (SLOTS_MAX + 1) * sizeof(struct slot))};
    void *memory = aligned_alloc(64, ring_bytes(CELLS));
    cr_assert(bed.slots != NULL && memory != NULL);
    memset(bed.slots, 0, (SLOTS_MAX + 1) * sizeof(struct slot));
    memset(memory, 0, ring_bytes(CELLS));
    ring_make(memory, UINT64_C(0x1234567890abcdef));
    ring_view(&bed.ring, memory, CELLS, bed.slots, "test.a", 0);
    return bed;
}

static void bed_end(struct bed *bed)
{
    free(bed->ring.head);
    free(bed->slots);
}

static void set_word(struct bed *bed, uint64_t pos, enum word_state state, uint32_t slot, uint32_t n_cells)
{
    atomic_store(&bed->ring.words[ring_index(&bed->ring, pos)],
                 word_make(ring_lap(&bed->ring, pos), state, slot, n_cells));
}

static bool is_word(struct bed *bed, uint64_t pos, enum word_state state, uint32_t slot, uint32_t n_cells)
{
    return atomic_load(&bed->ring.words[ring_index(&bed->ring, pos)]) ==
           word_make(ring_lap(&bed->ring, pos), state, slot, n_cells);
}

/* [guards ONE-WRITER] [guards PROGRESS] [R2] */
Test(burial, the_open_words_of_the_dead_become_pads_and_nothing_else_changes)
{
    static const struct {
        const char *label;
        enum word_state state;
        uint32_t slot;
        bool becomes_pad;
    } rows[] = {
        {"its claim", WORD_CLAIMED, DEAD, true},
        {"its cancelled claim", WORD_CANCELLED, DEAD, true},
        {"its committed frame", WORD_COMMITTED, DEAD, false},
        {"a pad", WORD_PAD, 0, false},
        {"another's claim", WORD_CLAIMED, OTHER, false},
        {"another's cancelled claim", WORD_CANCELLED, OTHER, false},
        {"another's frame", WORD_COMMITTED, OTHER, false},
    };
    for (uint64_t start = 0; start < 3 * CELLS; start += 3 * CELLS / 2) /* the second: across the end of a lap */
        for (size_t i = 0; i < N(rows); i++) {
            struct bed bed = bed_make();
            atomic_store(&bed.ring.head->tail, start + 48);
            atomic_store(&bed.ring.head->released, RELEASED(start, 0));
            for (uint64_t p = start; p < start + 48; p += 8)
                set_word(&bed, p, WORD_COMMITTED, OTHER, 8);
            set_word(&bed, start + 24, rows[i].state, rows[i].slot, 8);
            burial_bury_ring(&bed.ring, DEAD);
            burial_bury_ring(&bed.ring, DEAD); /* each step may be done twice */
            cr_expect(rows[i].becomes_pad ? is_word(&bed, start + 24, WORD_PAD, 0, 8)
                                          : is_word(&bed, start + 24, rows[i].state, rows[i].slot, 8),
                      "%s", rows[i].label);
            cr_expect_eq(atomic_load(&bed.ring.head->buried), rows[i].becomes_pad, "%s", rows[i].label);
            cr_expect_eq(ring_tail(&bed.ring), start + 48, "%s", rows[i].label);
            cr_expect_eq(ring_released(&bed.ring), start, "%s", rows[i].label);
            bed_end(&bed);
        }
}

/* [guards WHOLE] [R2] [R20] */
Test(burial, a_run_of_the_dead_becomes_one_pad)
{
    struct bed bed = bed_make();
    atomic_store(&bed.ring.head->tail, 48);
    set_word(&bed, 0, WORD_COMMITTED, OTHER, 8);
    set_word(&bed, 8, WORD_CLAIMED, DEAD, 16);
    set_word(&bed, 12, WORD_COMMITTED, DEAD, 6); /* frames of it that are written and not committed */
    set_word(&bed, 18, WORD_COMMITTED, DEAD, 6);
    set_word(&bed, 24, WORD_CLAIMED, DEAD, 8);
    set_word(&bed, 32, WORD_COMMITTED, OTHER, 16);
    burial_bury_ring(&bed.ring, DEAD);
    cr_expect(is_word(&bed, 8, WORD_PAD, 0, 16));
    cr_expect(is_word(&bed, 24, WORD_PAD, 0, 8));
    cr_expect_eq(atomic_load(&bed.ring.head->buried), 2);
    bed_end(&bed);
}

/* [guards ONE-WRITER] [R1] */
Test(burial, a_claim_at_the_tail_is_found_by_helping_the_tail_on_first)
{
    static const struct {
        const char *label;
        uint64_t tail;
        enum word_state state;
        uint64_t n_before; /* claims of others that stand at the tail before it */
    } rows[] = {
        {"the first of the ring", 0, WORD_CLAIMED, 0},  {"cancelled already", 0, WORD_CANCELLED, 0},
        {"behind another's", 16, WORD_CLAIMED, 1},      {"behind two others'", 16, WORD_CLAIMED, 2},
        {"in a later lap", 5 * CELLS, WORD_CLAIMED, 1}, {"to the end of a lap", 5 * CELLS - 8, WORD_CLAIMED, 0},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        uint64_t at = rows[i].tail + 8 * rows[i].n_before;
        atomic_store(&bed.ring.head->tail, rows[i].tail);
        atomic_store(&bed.ring.head->released, RELEASED(rows[i].tail, 0));
        for (uint64_t p = rows[i].tail; p < at; p += 8)
            set_word(&bed, p, WORD_CLAIMED, OTHER, 8);
        set_word(&bed, at, rows[i].state, DEAD, 8);
        burial_bury_ring(&bed.ring, DEAD);
        cr_expect(is_word(&bed, at, WORD_PAD, 0, 8), "%s", rows[i].label);
        cr_expect_eq(ring_tail(&bed.ring), at + 8, "%s: the tail is at %" PRIu64, rows[i].label, ring_tail(&bed.ring));
        bed_end(&bed);
    }
}

Test(burial, all_that_the_dead_left_is_found)
{
    struct bed bed = bed_make();
    atomic_store(&bed.ring.head->tail, CELLS);
    for (uint64_t p = 0; p < CELLS; p++)
        set_word(&bed, p, p % 3 == 0 ? WORD_CLAIMED : WORD_CANCELLED, p % 2 == 0 ? DEAD : OTHER, 1);
    burial_bury_ring(&bed.ring, DEAD);
    for (uint64_t p = 0; p < CELLS; p++)
        cr_expect(p % 2 == 0 ? is_word(&bed, p, WORD_PAD, 0, 1)
                             : is_word(&bed, p, p % 3 == 0 ? WORD_CLAIMED : WORD_CANCELLED, OTHER, 1),
                  "%" PRIu64, p);
    cr_expect_eq(atomic_load(&bed.ring.head->buried), CELLS / 2);
    bed_end(&bed);
}

/* Words of an older lap stand in cells that are inside of a frame now: the dead's old claims are not buried again. */
Test(burial, words_of_other_laps_are_left_alone)
{
    struct bed bed = bed_make();
    uint64_t start = 7 * CELLS;
    atomic_store(&bed.ring.head->tail, start + 16);
    atomic_store(&bed.ring.head->released, RELEASED(start, 0));
    set_word(&bed, start, WORD_COMMITTED, OTHER, 16);
    uint64_t old = word_make(7, WORD_CLAIMED, DEAD, 4);
    for (uint64_t p = 1; p < CELLS; p++)
        atomic_store(&bed.ring.words[p], old);
    burial_bury_ring(&bed.ring, DEAD);
    for (uint64_t p = 1; p < CELLS; p++)
        cr_expect_eq(atomic_load(&bed.ring.words[p]), old, "%" PRIu64, p);
    bed_end(&bed);
}

Test(burial, a_damaged_ring_ends_the_walk_and_never_hangs_it)
{
    static const struct {
        const char *label;
        uint64_t tail, released, at, word;
    } rows[] = {
        {"a length of nothing", 32, 0, 8, (uint64_t)1 << 27},
        {"a length beyond the end", 64, 0, 56, (uint64_t)1 << 27 | 32767},
        {"a word of no lap", 32, 0, 8, 0},
        {"a word of a later lap", 32, 0, 8, UINT64_MAX},
        {"a length of nothing at the tail", 32, 0, 32, (uint64_t)1 << 27},
        {"a length beyond the end at the tail", 32, 0, 32, (uint64_t)1 << 27 | 33},
        {"a wild tail", UINT64_MAX, 0, 8, 0},
        {"a wild gate", 32, (UINT64_C(1) << 48) - 1, 8, 0},
        {"both wild", UINT64_MAX, (UINT64_C(1) << 48) - 1, 63, UINT64_MAX},
        {"a tail that went back", 0, 32, 8, 0},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        for (uint64_t p = 0; p < 32; p += 8)
            set_word(&bed, p, WORD_COMMITTED, OTHER, 8);
        atomic_store(&bed.ring.head->tail, rows[i].tail);
        atomic_store(&bed.ring.head->released, RELEASED(rows[i].released, 0));
        atomic_store(&bed.ring.words[rows[i].at], rows[i].word);
        burial_bury_ring(&bed.ring, DEAD); /* the test's timeout is the check */
        cr_expect_eq(atomic_load(&bed.ring.head->buried), 0, "%s", rows[i].label);
        bed_end(&bed);
    }
}

/* ---- a whole bus ---- */

/* What a child does before it is killed, and tells its parent. */
struct shared {
    struct fixture *f;
    bool leaves_word_at_tail; /* as if killed between claim and tail */
    bool says_nothing;        /* takes a slot, and does not enter it */
    bool executes;            /* then another program, in a thread that is not the leader */
    _Atomic uint32_t slot;
    _Atomic uint64_t pos;
};

static int hold_everything(void *context)
{
    struct shared *shared = context;
    struct memory memory;
    struct error err = {""};
    uint32_t slot, place;
    struct topic_set topics = {{1}};
    if (memory_open(&memory, shared->f->name, &err) != EVBUS_OK)
        return 1;
    struct ring *ring = &memory.logs[0].rings[0];
    if (shared->says_nothing) {
        for (slot = 1;; slot++) {
            slots_reach(memory.control, slot);
            if (slot_take(&memory.control->slots[slot]) == SLOT_FREE)
                break;
        }
        atomic_store(&shared->slot, slot);
        for (;;)
            pause();
    }
    if (burial_take_slot(&memory, "victim", &slot, &err) != EVBUS_OK ||
        doorbell_join(memory.logs[0].head, slot, &place, &err) != EVBUS_OK)
        return 2;
    doorbell_want(memory.logs[0].head, place, &topics);
    doorbell_set(memory.logs[0].head, place);
    atomic_store(&memory.logs[0].head->pin_owners[5], PIN_OWNER(7, slot));
    struct claim claim = {.slot = slot};
    if (ring_claim(ring, 3, &claim, &err) != EVBUS_OK)
        return 3;
    ring_pin(ring, 5, 0);
    atomic_store(&shared->pos, claim.pos);
    if (shared->leaves_word_at_tail)
        atomic_store(&ring->head->tail, claim.pos);
    hold_take(&memory.control->seat, memory.control->slots, slot);
    hold_take(&memory.control->admin, memory.control->slots, slot);
    atomic_store(&shared->slot, slot);
    if (shared->executes)
        child_execute();
    for (;;)
        pause();
    return 0;
}

static void *hold_everything_here(void *context)
{
    hold_everything(context);
    return NULL;
}

static int hold_everything_in_a_thread(void *context)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, hold_everything_here, context) != 0 || pthread_join(thread, NULL) != 0;
}

static struct child started(struct shared *shared)
{
    struct child child = child_start(shared->executes ? hold_everything_in_a_thread : hold_everything, shared);
    cr_assert(await_that(atomic_load(&shared->slot) != 0 || !child_is_running(&child)));
    cr_assert_neq(atomic_load(&shared->slot), 0, "the child has ended");
    return child;
}

static struct shared *shared_make(struct fixture *f)
{
    struct shared *shared = child_shared(sizeof *shared);
    shared->f = f;
    return shared;
}

/* [guards PROGRESS] [R1] [R2] [D5] [D6] */
Test(burial, a_killed_threads_claims_pins_and_bits_are_cleared_and_all_bells_rung)
{
    for (int at_tail = 0; at_tail < 2; at_tail++) {
        struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
        struct memory *memory = &f.bus->memory;
        struct ring *ring = &memory->logs[0].rings[0];
        struct shared *shared = shared_make(&f);
        shared->leaves_word_at_tail = at_tail == 1;
        cr_assert_eq(fixture_publish(f.bus, NULL, "1"), EVBUS_OK); /* our own slot, whose bell we listen to */
        struct child child = started(shared);
        uint32_t slot = atomic_load(&shared->slot);
        uint64_t pos = atomic_load(&shared->pos), word;
        cr_assert_eq(burial_sweep(memory), 0, "it is alive");
        uint32_t own = 0, bell = 0;
        for (uint32_t i = 1; i <= SLOTS_MAX; i++)
            if (slot_is_used(&memory->control->slots[i]) && i != slot)
                own = i;
        cr_assert_neq(own, 0);
        bell = doorbell_read(&memory->control->slots[own]);
        uint64_t burials = atomic_load(&memory->control->burials);
        child_kill(&child);
        cr_assert(await_that(slot_is_dead(&memory->control->slots[slot])));
        cr_expect_eq(burial_sweep(memory), 1);
        cr_expect_eq(ring_look(ring, pos, &word), RING_SKIP);
        cr_expect_eq(word_state(word), WORD_PAD);
        cr_expect_eq(ring_tail(ring), pos + 3);
        cr_expect_eq(hold_slot(&memory->control->seat) + hold_slot(&memory->control->admin), 0u);
        cr_expect_eq(atomic_load(&ring->head->lows[5]), 0);
        cr_expect_eq(atomic_load(&memory->logs[0].head->pin_owners[5]), 0);
        for (uint32_t i = 0; i < SLEEPERS_MAX; i++)
            cr_assert_neq(atomic_load(&memory->logs[0].head->sleepers[i].slot), slot);
        for (uint32_t i = 0; i < SLEEPERS_MAX / 64; i++)
            cr_expect_eq(atomic_load(&memory->logs[0].head->sleeping[i]), 0);
        cr_expect_neq(doorbell_read(&memory->control->slots[own]), bell);
        cr_expect_eq(atomic_load(&memory->control->burials), burials + 1);
        cr_expect_not(slot_is_used(&memory->control->slots[slot]));
        cr_expect_eq(burial_sweep(memory), 0, "nobody is buried twice");
        fixture_end(&f);
    }
}

/* [guards PROGRESS] [B2] [B4] */
Test(burial, of_a_thread_whose_death_the_kernel_does_not_tell_all_is_cleared_and_its_slot_retired)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct memory *memory = &f.bus->memory;
    struct ring *ring = &memory->logs[0].rings[0];
    struct shared *shared = shared_make(&f);
    shared->executes = true;
    struct child child = started(shared);
    uint32_t slot = atomic_load(&shared->slot);
    struct slot *lost = &memory->control->slots[slot];
    uint64_t pos = atomic_load(&shared->pos), word;
    char name[256];
    region_name(memory->bus, "control", name);
    struct witness_asked asked = witness_ask(&memory->witness, &memory->control_region, name);
    cr_assert(await_that(witness_says_gone(&asked, atomic_load(&lost->witness))));
    witness_thank(&asked);
    cr_assert(child_is_running(&child));
    cr_expect_not(slot_is_dead(lost), "if the kernel tells this death by now, this test has lost its point");
    cr_expect_eq(burial_sweep(memory) + burial_bury_gone(memory), 0u, "nobody has asked yet");
    burial_ask_one(memory, slot);
    cr_expect(slot_is_dead(lost));
    atomic_store(&lost->gone, 0);
    burial_ask_all(memory);
    cr_expect(slot_is_dead(lost));
    cr_expect_eq(ring_look(ring, pos, &word), RING_CLAIMED);
    cr_expect(ring_pad_if_dead(ring, pos, word), "anybody clears what blocks him");
    cr_expect_eq(burial_sweep(memory), 0u, "not without its mutex, except by the one that is the keeper");
    uint64_t burials = atomic_load(&memory->control->burials);
    cr_expect_eq(burial_bury_gone(memory), 1u);
    cr_expect_eq(atomic_load(&memory->control->burials), burials + 1);
    cr_expect_eq(atomic_load(&ring->head->lows[5]), 0u);
    cr_expect_eq(atomic_load(&memory->logs[0].head->pin_owners[5]), 0u);
    cr_expect_eq(atomic_load(&memory->logs[0].head->sleeping[0]), 0u);
    cr_expect_eq(hold_slot(&memory->control->seat), 0u);
    cr_expect_eq(hold_slot(&memory->control->admin), 0u);
    cr_expect_eq(burial_sweep(memory) + burial_bury_gone(memory), 0u, "once");
    cr_expect_eq(atomic_load(&lost->retired), 1u);
    uint32_t taken;
    for (int i = 0; i < 3; i++) {
        struct error err = {""};
        cr_assert_eq(burial_take_slot(memory, "next", &taken, &err), EVBUS_OK);
        cr_expect_neq(taken, slot, "nobody is given it again");
        burial_leave_slot(memory, taken);
    }
    child_kill(&child);
    fixture_end(&f);
}

/* Never a timeout. [guards ONE-WRITER] */
Test(burial, a_stopped_thread_is_not_buried)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct shared *shared = shared_make(&f);
    struct child child = started(shared);
    uint64_t word;
    child_stop(&child);
    cr_expect_eq(burial_sweep(&f.bus->memory), 0);
    cr_expect_eq(ring_look(&f.bus->memory.logs[0].rings[0], atomic_load(&shared->pos), &word), RING_CLAIMED);
    child_kill(&child);
    fixture_end(&f);
}

Test(burial, who_died_before_it_said_who_it_is_gives_its_slot_back)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct shared *shared = shared_make(&f);
    struct memory *memory = &f.bus->memory;
    shared->says_nothing = true;
    struct child child = started(shared);
    struct slot *slot = &memory->control->slots[atomic_load(&shared->slot)];
    child_kill(&child);
    cr_assert(await_that((atomic_load(slot_lock_word(slot)) & SLOT_DIED_BIT) != 0));
    cr_expect_eq(burial_sweep(memory), 1);
    cr_expect_eq(slot_take(slot), SLOT_FREE);
    slot_leave(slot);
    fixture_end(&f);
}

/* [guards ONE-WRITER] [R2] */
Test(burial, a_dead_threads_slot_is_used_again_only_when_its_words_are_clean)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct shared *shared = shared_make(&f);
    struct memory *memory = &f.bus->memory;
    struct error err = {""};
    struct child child = started(shared);
    uint32_t slot = atomic_load(&shared->slot), got;
    uint64_t word;
    child_kill(&child);
    cr_assert(await_that(slot_is_dead(&memory->control->slots[slot])));
    cr_assert_eq(burial_take_slot(memory, "heir", &got, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(got, slot, "the first that can be had");
    cr_expect_eq(ring_look(&memory->logs[0].rings[0], atomic_load(&shared->pos), &word), RING_SKIP);
    cr_expect_eq(word_state(word), WORD_PAD);
    cr_expect_str_eq(memory->control->slots[got].service, "heir");
    cr_expect_not(slot_is_dead(&memory->control->slots[got]));
    burial_leave_slot(memory, got);
    cr_expect_not(slot_is_used(&memory->control->slots[got]));
    fixture_end(&f);
}

Test(burial, when_all_slots_are_taken_it_is_told)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct memory *memory = &f.bus->memory;
    struct error err = {""};
    uint32_t got = 4711;
    for (uint32_t i = 1; i <= SLOTS_MAX; i++) /* each is somebody's of another PID namespace */
        atomic_store((_Atomic uint32_t *)slot_lock_word(&memory->control->slots[i]), 1);
    cr_expect_eq(burial_take_slot(memory, "late", &got, &err), EVBUS_ELIMIT);
    cr_expect_eq(got, 4711);
    cr_expect_not_null(strstr(err.text, "1023 slots"), "%s", err.text);
    fixture_end(&f);
}

Test(burial, the_dead_are_looked_for_as_far_as_anybody_ever_was)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct memory *memory = &f.bus->memory;
    struct error err = {""};
    uint32_t first = 0, second = 0;
    uint32_t before = slots_end(memory->control);
    cr_assert_eq(burial_take_slot(memory, "first", &first, &err), EVBUS_OK, "%s", err.text);
    cr_assert_eq(burial_take_slot(memory, "second", &second, &err), EVBUS_OK, "%s", err.text);
    cr_expect_leq(before, second);
    cr_expect_eq(slots_end(memory->control), second + 1);
    burial_leave_slot(memory, second);
    burial_leave_slot(memory, first);
    cr_assert_eq(burial_take_slot(memory, "third", &first, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(slots_end(memory->control), second + 1, "who died in the second's may not be buried yet");
    atomic_store(&memory->control->slots_end, UINT32_MAX);
    cr_expect_eq(slots_end(memory->control), SLOTS_MAX + 1, "damaged");
    atomic_store(&memory->control->slots_end, 0);
    burial_find_end(memory);
    cr_expect_eq(slots_end(memory->control), first + 1, "as far as anybody is");
    burial_leave_slot(memory, first);
    atomic_store(&memory->control->slots_end, 0);
    burial_find_end(memory);
    cr_expect_eq(slots_end(memory->control), 0, "nobody is there");
    fixture_end(&f);
}

Test(burial, a_bus_where_nobody_died_costs_no_burial)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB", .partitions = 4});
    cr_assert_eq(fixture_publish(f.bus, NULL, "1"), EVBUS_OK);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(burial_sweep(&f.bus->memory), 0);
    cr_expect_eq(atomic_load(&f.bus->memory.control->burials), 0);
    fixture_end(&f);
}
