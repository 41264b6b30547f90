/* test_lease.c: a partition of a group has one holder, and what a holder left is what its successor finds. */
#include "lease.h"

#include "slot.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])

enum { ME = 1, OTHER = 2, DEAD = 3, GONE = 4 }; /* alive, alive, dead, never taken */
enum { ATTEMPTS = 3 };
#define NOW UINT64_C(1000000000000)

struct bed {
    struct group_part *part;
    struct slot *slots;
};

static void live(struct slot *slot)
{
    int tid = (int)syscall(SYS_gettid);
    memcpy(&slot->mutex, &tid, sizeof tid); /* as the kernel sees who holds it */
    atomic_store(&slot->tid, tid);
}

static struct bed bed_make(uint64_t cursor)
{
    struct bed bed = {aligned_alloc(64, sizeof(struct group_part)), aligned_alloc(64, 8 * sizeof(struct slot))};
    cr_assert(bed.part != NULL && bed.slots != NULL);
    memset(bed.part, 0, sizeof *bed.part);
    memset(bed.slots, 0, 8 * sizeof(struct slot));
    live(&bed.slots[ME]);
    live(&bed.slots[OTHER]);
    live(&bed.slots[DEAD]);
    memset(&bed.slots[DEAD].mutex, 0, 4);
    atomic_store(&bed.part->cursor, CURSOR_WORD(cursor, 0));
    cr_assert(slot_is_dead(&bed.slots[DEAD]) && !slot_is_dead(&bed.slots[OTHER]));
    return bed;
}

static void bed_end(struct bed *bed)
{
    free(bed->part);
    free(bed->slots);
}

static void put(struct bed *bed, uint32_t i, struct pending pending)
{
    atomic_store(&bed->part->pending[i], pending_pack(&pending));
}

static struct pending get(const struct bed *bed, uint32_t i)
{
    return pending_load(bed->part, i, pending_cursor(bed->part));
}

/* [guards ONE-HOLDER] */
Test(lease, it_is_taken_from_nobody_the_dead_and_whom_the_caller_names)
{
    static const struct {
        const char *label;
        uint32_t holder;
        uint32_t from;
        bool is_taken;
    } rows[] = {
        {"free", 0, 0, true},
        {"free, from somebody", 0, OTHER, true},
        {"the dead's", DEAD, 0, true},
        {"the dead's, from another", DEAD, OTHER, true},
        {"a living one's", OTHER, 0, false},
        {"a living one's, from another", OTHER, GONE, false},
        {"a hung one's, named", OTHER, OTHER, true},
        {"a slot that nobody has", GONE, 0, false},
        {"our own", ME, 0, false},
        {"our own, given up", ME, ME, true},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make(640);
        uint16_t epoch = 0xaaaa;
        uint64_t before = LEASE_WORD(41, rows[i].holder);
        atomic_store(&bed.part->lease, before);
        cr_expect_eq(lease_take(bed.part, bed.slots, ME, rows[i].from, &epoch), rows[i].is_taken, "%s", rows[i].label);
        if (rows[i].is_taken) {
            cr_expect_eq(epoch, 42, "%s", rows[i].label);
            cr_expect(lease_is_held(bed.part, 42, ME), "%s", rows[i].label);
            cr_expect_eq(lease_holder(bed.part), (uint32_t)ME, "%s", rows[i].label);
            cr_expect_eq(atomic_load(&bed.part->n_takeovers), rows[i].holder == OTHER || rows[i].holder == DEAD, "%s",
                         rows[i].label);
        } else {
            cr_expect_eq(epoch, 0xaaaa, "%s: untouched", rows[i].label);
            cr_expect_eq(atomic_load(&bed.part->lease), before, "%s", rows[i].label);
            cr_expect_eq(atomic_load(&bed.part->n_takeovers), 0u, "%s", rows[i].label);
            cr_expect_eq(CURSOR_EPOCH(atomic_load(&bed.part->cursor)), 0, "%s: nothing is stamped", rows[i].label);
        }
        bed_end(&bed);
    }
}

/* [P3] */
Test(lease, taking_stamps_the_cursor_and_all_words_and_changes_nothing_else_of_them)
{
    struct bed bed = bed_make(640);
    for (uint32_t i = 1; i < PENDING_MAX; i++) /* word 0 stays empty */
        put(&bed, i,
            (struct pending){.pos = 640 - i,
                             .epoch = (uint16_t)i,
                             .attempts = i % 16,
                             .state = (enum pending_state)(1 + i % 6),
                             .followers = i % 2 == 0});
    atomic_store(&bed.part->lease, LEASE_WORD(0xffff, 0));
    uint16_t epoch;
    cr_assert(lease_take(bed.part, bed.slots, ME, 0, &epoch));
    cr_expect_eq(epoch, 0, "epochs go on after the last");
    cr_expect_eq(atomic_load(&bed.part->cursor), CURSOR_WORD(640, 0));
    cr_expect_eq(atomic_load(&bed.part->pending[0]), 0u);
    for (uint32_t i = 1; i < PENDING_MAX; i++) {
        struct pending found = get(&bed, i);
        cr_expect(found.epoch == 0 && found.pos == 640 - i && found.attempts == i % 16 &&
                      found.state == (enum pending_state)(1 + i % 6) && found.followers == (i % 2 == 0),
                  "%u", i);
    }
    bed_end(&bed);
}

Test(lease, giving_frees_only_what_is_held_with_that_epoch)
{
    struct bed bed = bed_make(0);
    uint16_t epoch;
    cr_assert(lease_take(bed.part, bed.slots, ME, 0, &epoch));
    lease_give(bed.part, (uint16_t)(epoch + 1), ME);
    lease_give(bed.part, epoch, OTHER);
    cr_expect(lease_is_held(bed.part, epoch, ME), "neither was its holder");
    lease_give(bed.part, epoch, ME);
    cr_expect_eq(lease_holder(bed.part), 0u);
    cr_expect_not(lease_is_held(bed.part, epoch, ME));
    uint16_t next;
    cr_assert(lease_take(bed.part, bed.slots, OTHER, 0, &next));
    cr_expect_eq(next, epoch + 1, "a lease that was given back has another epoch next");
    lease_give(bed.part, epoch, ME);
    cr_expect(lease_is_held(bed.part, next, OTHER), "late, from the last holder");
    bed_end(&bed);
}

/* [P4] [P7] */
Test(lease, each_state_that_a_holder_leaves_becomes_what_its_successor_needs)
{
    static const struct {
        const char *label;
        struct pending before;
        struct pending after; /* epoch apart */
        bool solo;
        bool is_timed; /* may run at once */
        bool has_cause;
    } rows[] = {
        {"empty", {.state = PENDING_EMPTY}, {.state = PENDING_EMPTY}, false, false, false},
        {"at the cursor: the crash came before it moved",
         {.pos = 640, .state = PENDING_TAKEN},
         {.state = PENDING_EMPTY},
         false,
         false,
         false},
        {"beyond the cursor", {.pos = 700, .state = PENDING_TAKEN}, {.state = PENDING_EMPTY}, false, false, false},
        {"beyond, with followers that nobody skipped",
         {.pos = 700, .state = PENDING_TAKEN, .followers = true},
         {.state = PENDING_EMPTY},
         false,
         false,
         false},
        {"TAKEN was in no handler: uncharged",
         {.pos = 600, .state = PENDING_TAKEN},
         {.pos = 600, .state = PENDING_WAIT},
         false,
         true,
         false},
        {"TAKEN with followers keeps them",
         {.pos = 600, .state = PENDING_TAKEN, .followers = true},
         {.pos = 600, .state = PENDING_WAIT, .followers = true},
         false,
         true,
         false},
        {"RUN was in a handler: charged, alone next",
         {.pos = 600, .attempts = 1, .state = PENDING_RUN},
         {.pos = 600, .attempts = 1, .state = PENDING_WAIT},
         true,
         true,
         true},
        {"RUN with all attempts begun is no proof: alone next",
         {.pos = 600, .attempts = 3, .state = PENDING_RUN, .followers = true},
         {.pos = 600, .attempts = 3, .state = PENDING_WAIT, .followers = true},
         true,
         true,
         true},
        {"SOLO with attempts left",
         {.pos = 600, .attempts = 2, .state = PENDING_SOLO},
         {.pos = 600, .attempts = 2, .state = PENDING_WAIT},
         true,
         true,
         true},
        {"SOLO and spent",
         {.pos = 600, .attempts = 3, .state = PENDING_SOLO, .followers = true},
         {.pos = 600, .attempts = 3, .state = PENDING_DEAD, .followers = true},
         false,
         false,
         true},
        {"WAIT goes on waiting",
         {.pos = 600, .attempts = 2, .state = PENDING_WAIT, .followers = true},
         {.pos = 600, .attempts = 2, .state = PENDING_WAIT, .followers = true},
         false,
         false,
         false},
        {"SCAN is still to be scanned",
         {.pos = 600, .attempts = 1, .state = PENDING_SCAN, .followers = true},
         {.pos = 600, .attempts = 1, .state = PENDING_SCAN, .followers = true},
         false,
         false,
         false},
        {"DEAD is still to be published",
         {.pos = 600, .attempts = 3, .state = PENDING_DEAD, .followers = true},
         {.pos = 600, .attempts = 3, .state = PENDING_DEAD, .followers = true},
         false,
         false,
         false},
    };
    struct bed bed = bed_make(640);
    for (uint32_t i = 0; i < N(rows); i++) {
        put(&bed, i, rows[i].before);
        atomic_store(&bed.part->side[i].note, NOTE(77, CAUSE_FAILED, false));
        atomic_store(&bed.part->side[i].time_ns, NOW + 5);
    }
    uint16_t epoch;
    atomic_store(&bed.part->lease, LEASE_WORD(8, DEAD));
    cr_assert(lease_take(bed.part, bed.slots, ME, 0, &epoch));
    cr_expect_eq(lease_recover(bed.part, epoch, NOW, ATTEMPTS, CAUSE_CRASHED), 4u, "two RUN, two SOLO");
    for (uint32_t i = 0; i < N(rows); i++) {
        struct pending found = get(&bed, i);
        uint64_t note = atomic_load(&bed.part->side[i].note);
        cr_expect(found.epoch == epoch && found.pos == rows[i].after.pos && found.state == rows[i].after.state &&
                      found.attempts == rows[i].after.attempts && found.followers == rows[i].after.followers,
                  "%s: at %" PRIu64 ", state %d, %u attempts", rows[i].label, found.pos, (int)found.state,
                  found.attempts);
        cr_expect_eq(NOTE_IS_SOLO(note), rows[i].solo, "%s: alone", rows[i].label);
        cr_expect_eq(NOTE_CAUSE(note), rows[i].has_cause ? CAUSE_CRASHED : CAUSE_FAILED, "%s: cause", rows[i].label);
        cr_expect_eq(NOTE_POSITION(note), 77u, "%s: its notes stay", rows[i].label);
        if (found.state == PENDING_WAIT)
            cr_expect_eq(atomic_load(&bed.part->side[i].time_ns), rows[i].is_timed ? NOW : NOW + 5, "%s: due",
                         rows[i].label);
    }
    cr_expect_eq(lease_recover(bed.part, epoch, NOW, ATTEMPTS, CAUSE_CRASHED), 0u, "twice is as good as once");
    bed_end(&bed);
}

Test(lease, a_hung_holder_is_told_from_a_crashed_one)
{
    struct bed bed = bed_make(640);
    uint16_t epoch;
    put(&bed, 5, (struct pending){.pos = 10, .attempts = 1, .state = PENDING_RUN});
    cr_assert(lease_take(bed.part, bed.slots, ME, OTHER, &epoch));
    cr_expect_eq(lease_recover(bed.part, epoch, NOW, ATTEMPTS, CAUSE_TIMEOUT), 1u);
    cr_expect_eq(NOTE_CAUSE(atomic_load(&bed.part->side[5].note)), CAUSE_TIMEOUT);
    bed_end(&bed);
}

/* [guards ONE-HOLDER] [P3] */
Test(lease, nothing_that_a_zombie_stores_counts_after_the_takeover)
{
    struct bed bed = bed_make(640);
    uint16_t old;
    uint16_t now;
    cr_assert(lease_take(bed.part, bed.slots, OTHER, 0, &old));
    struct pending empty = {.epoch = old};
    struct pending taken = {.pos = 640, .epoch = old, .state = PENDING_TAKEN};
    struct pending running = {.pos = 600, .epoch = old, .attempts = 1, .state = PENDING_RUN};
    put(&bed, 1, running);
    cr_assert(lease_take(bed.part, bed.slots, ME, OTHER, &now));
    cr_assert_eq(lease_recover(bed.part, now, NOW, ATTEMPTS, CAUSE_TIMEOUT), 1u);
    cr_expect_not(pending_step(bed.part, 0, &empty, &taken), "taking");
    cr_expect_not(pending_move_cursor(bed.part, old, 640, 650), "moving on");
    cr_expect_not(pending_step(bed.part, 1, &running, &empty), "finishing");
    cr_expect_eq(lease_recover(bed.part, old, NOW, ATTEMPTS, CAUSE_CRASHED), 0u, "mending");
    lease_give(bed.part, old, OTHER);
    cr_expect(lease_is_held(bed.part, now, ME), "giving back");
    cr_expect_eq(get(&bed, 1).state, PENDING_WAIT);
    cr_expect_eq(get(&bed, 0).state, PENDING_EMPTY);
    cr_expect_eq(pending_cursor(bed.part), 640u);
    bed_end(&bed);
}

/* [P3] [P4] The old holder stores TAKEN after the cursor is stamped and before its word is: it lies at or beyond the cursor. */
Test(lease, an_entry_that_slips_in_between_the_stamps_is_dropped)
{
    struct bed bed = bed_make(640);
    put(&bed, 2, (struct pending){.pos = 640, .epoch = 0, .state = PENDING_TAKEN});
    uint16_t epoch;
    cr_assert(lease_take(bed.part, bed.slots, ME, 0, &epoch));
    cr_expect_eq(lease_recover(bed.part, epoch, NOW, ATTEMPTS, CAUSE_CRASHED), 0u);
    cr_expect_eq(get(&bed, 2).state, PENDING_EMPTY);
    cr_expect_eq(pending_low(bed.part), 640u);
    bed_end(&bed);
}
