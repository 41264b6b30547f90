/* test_ring.c: claim, write, commit, cancel, release, read, on a ring of our own memory, step by step and in threads.
 *
 * A slot's life is played by hand: alive is a lock word that carries its tid, dead is one that does not. Random tests print
 * their seed; EVBUS_SEED=<number> takes it back. EVBUS_QUICK makes them smaller. */
#include "ring.h"

#include "await.h"
#include "partition.h"
#include "ringbed.h"
#include "sanitizer.h"
#include "slot.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])

static void assert_word(struct bed *bed, uint64_t pos, enum word_state state, uint32_t slot, uint32_t n_cells)
{
    uint64_t word = *bed_word(bed, pos);
    cr_assert(word == word_make(ring_lap(&bed->ring, pos), state, slot, n_cells),
              "at %" PRIu64 ": lap %" PRIu64 ", state %d, slot %u, %u cells", pos, word_lap(word), word_state(word),
              word_slot(word), word_cells(word));
}

static uint64_t take_seed(void)
{
    const char *given = getenv("EVBUS_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)clock();
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static uint64_t draw(uint64_t *state)
{
    return bed_mix(*state += UINT64_C(0x9e3779b97f4a7c15));
}

/* ---- words and positions ---- */

/* [R13] */
Test(ring, a_word_gives_back_what_it_was_made_of)
{
    uint64_t seed = take_seed();
    const uint64_t lap_max = (UINT64_C(1) << WORD_LAP_BITS) - 1;
    for (int round = 0; round < 200000; round++) {
        bool at_edge = round % 4 == 0; /* every field 0 or full, by turns */
        uint64_t lap = at_edge ? (round & 4) != 0 ? lap_max : 0 : draw(&seed) & lap_max;
        uint32_t slot = at_edge ? (round & 8) != 0 ? SLOTS_MAX : 0 : (uint32_t)(draw(&seed) & SLOTS_MAX);
        uint32_t n_cells = at_edge ? (round & 16) != 0 ? FRAME_CELLS_MAX : 0 : (uint32_t)draw(&seed) & FRAME_CELLS_MAX;
        enum word_state state = (enum word_state)(round / 32 & 3);
        uint64_t word = word_make(lap, state, slot, n_cells);
        cr_assert(word_lap(word) == lap && word_state(word) == state && word_slot(word) == slot &&
                      word_cells(word) == n_cells,
                  "lap %" PRIu64 " state %d slot %u cells %u made %#" PRIx64, lap, state, slot, n_cells, word);
    }
}

/* With laps of 3 bits a cell inside a frame would look current after 8 laps: with ours each lap of it differs. [R13] */
Test(ring, words_of_different_laps_never_look_alike)
{
    static const uint64_t laps[] = {
        0, 1, 7, 8, 9, 16, 1 << 15, 1 << 25, (UINT64_C(1) << 37) - 2, (UINT64_C(1) << 37) - 1};
    for (size_t i = 0; i < N(laps); i++)
        for (size_t j = 0; j < N(laps); j++) {
            uint64_t left = word_make(laps[i], WORD_CANCELLED, SLOTS_MAX, FRAME_CELLS_MAX);
            uint64_t right = word_make(laps[j], WORD_CLAIMED, 0, 0);
            cr_assert_eq(word_lap(left) == word_lap(right), i == j, "laps %" PRIu64 " and %" PRIu64, laps[i], laps[j]);
        }
}

Test(ring, a_position_has_a_cell_a_lap_and_stamps_of_its_own)
{
    static const struct {
        const char *label;
        uint64_t n_cells, pos, index, lap;
    } rows[] = {
        {"the first", 64, 0, 0, 1},
        {"the last of the first lap", 64, 63, 63, 1},
        {"the first of the second lap", 64, 64, 0, 2},
        {"far away", 64, 64 * UINT64_C(1000003) + 17, 17, 1000004},
        {"in a large ring", 8192, 8192 * UINT64_C(5) + 4097, 4097, 6},
        {"the last that there is", 8192, POSITION_LIMIT, POSITION_LIMIT % 8192, POSITION_LIMIT / 8192 + 1},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_of(rows[i].n_cells);
        cr_expect_eq(ring_index(&bed.ring, rows[i].pos), rows[i].index, "%s", rows[i].label);
        cr_expect_eq(ring_lap(&bed.ring, rows[i].pos), rows[i].lap, "%s", rows[i].label);
        cr_expect_neq(ring_pre(&bed.ring, rows[i].pos), ring_stamp(&bed.ring, rows[i].pos), "%s", rows[i].label);
        cr_expect_neq(ring_stamp(&bed.ring, rows[i].pos), ring_pre(&bed.ring, rows[i].pos + 1), "%s", rows[i].label);
        bed_end(&bed);
    }
}

/* [R13] */
Test(ring, a_frame_takes_a_quarter_of_its_ring_at_most)
{
    static const struct {
        uint64_t n_cells;
        uint32_t frame_cells_max;
    } rows[] = {{64, 16}, {8192, 2048}, {1 << 17, FRAME_CELLS_MAX}, {1 << 18, FRAME_CELLS_MAX}};
    for (size_t i = 0; i < N(rows); i++) {
        struct ring_head head = {0};
        struct ring ring;
        ring_view(&ring, &head, rows[i].n_cells, NULL, "test.a", 0);
        cr_expect_eq(ring.frame_cells_max, rows[i].frame_cells_max, "%" PRIu64 " cells", rows[i].n_cells);
        cr_expect_eq(ring.capacity, rows[i].n_cells);
    }
}

/* ---- claim ---- */

Test(ring, a_claim_names_its_owner_and_length_and_moves_the_tail)
{
    struct bed bed = bed_make();
    struct claim claim;
    cr_assert_eq(bed_claim(&bed, &claim, 7, 3), 0);
    assert_word(&bed, 0, WORD_CLAIMED, 7, 3);
    cr_expect_eq(ring_tail(&bed.ring), 3);
    cr_expect_eq(bed_look(&bed, 0), RING_CLAIMED);
    cr_expect_eq(claim.ring, &bed.ring);
    bed_end(&bed);
}

Test(ring, what_was_committed_last_is_behind_what_was_claimed_first)
{
    struct bed bed = bed_make();
    struct claim first, second;
    struct error err = {""};
    bed_write(&bed, &first, 1, 2, 100);
    uint64_t behind = bed_write(&bed, &second, 2, 2, 200);
    cr_assert_eq(ring_commit(&second, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(bed_look(&bed, 0), RING_CLAIMED, "a reader waits for the first");
    cr_assert_eq(ring_commit(&first, &err), EVBUS_OK, "%s", err.text);
    uint64_t frame[CELLS * CELL_WORDS];
    cr_assert_eq(bed_copy(&bed, 0, frame), RING_COMMITTED);
    cr_expect(bed_is_whole(frame, 0));
    cr_assert_eq(bed_copy(&bed, behind, frame), RING_COMMITTED);
    cr_expect(bed_is_whole(frame, behind));
    bed_end(&bed);
}

Test(ring, a_frame_that_does_not_fit_before_the_end_stands_behind_a_pad)
{
    struct bed bed = bed_make();
    ring_pin(&bed.ring, 0, 30);
    for (uint64_t i = 0; i < 4; i++)
        bed_publish(&bed, 1, 15, i);
    uint64_t pos = bed_publish(&bed, 1, 5, 4);
    cr_expect_eq(pos, CELLS, "it starts the next lap");
    assert_word(&bed, 60, WORD_PAD, 0, 4);
    cr_expect_eq(bed_look(&bed, 60), RING_SKIP);
    bed_end(&bed);
}

Test(ring, a_frame_that_just_fits_before_the_end_needs_no_pad)
{
    struct bed bed = bed_make();
    for (uint64_t i = 0; i < 4; i++)
        cr_expect_eq(bed_publish(&bed, 1, 16, i), i * 16);
    cr_expect_eq(ring_tail(&bed.ring), CELLS);
    cr_expect_eq(bed_publish(&bed, 1, 16, 4), CELLS);
    bed_end(&bed);
}

/* [guards PROGRESS] [R1] */
Test(ring, a_claim_whose_owner_stopped_before_the_tail_is_stepped_over_for_it)
{
    struct bed bed = bed_make();
    *bed_word(&bed, 0) = word_make(1, WORD_CLAIMED, 9, 4); /* and the tail still says 0 */
    cr_expect_eq(bed_publish(&bed, 1, 2, 1), 4);
    cr_expect_eq(ring_tail(&bed.ring), 6);
    assert_word(&bed, 0, WORD_CLAIMED, 9, 4);
    bed_end(&bed);
}

/* [guards PROGRESS] [R1] */
Test(ring, a_whole_chain_of_claims_at_the_tail_is_stepped_over)
{
    struct bed bed = bed_make();
    for (uint64_t p = 0; p < 40; p += 10)
        *bed_word(&bed, p) = word_make(1, p % 20 == 0 ? WORD_COMMITTED : WORD_PAD, 9, 10);
    cr_expect_eq(bed_publish(&bed, 1, 2, 1), 40);
    bed_end(&bed);
}

Test(ring, a_word_of_an_impossible_length_at_the_tail_is_damage)
{
    static const struct {
        const char *label;
        uint64_t pos;
        uint32_t n_cells;
    } rows[] = {
        {"no cell", 0, 0},
        {"more than a quarter", 0, CELLS / 4 + 1},
        {"the whole ring", 0, CELLS},
        {"as much as a word can say", 0, FRAME_CELLS_MAX},
        {"across the end by one", CELLS - 2, 3},
        {"across the end by a quarter", CELLS - 1, 16},
    };
    for (size_t i = 0; i < N(rows); i++)
        for (int state = WORD_CLAIMED; state <= WORD_CANCELLED; state++) {
            struct bed bed = bed_make();
            struct error err = {""};
            struct claim claim = {.slot = 1};
            bed_set_tail(&bed, rows[i].pos);
            *bed_word(&bed, rows[i].pos) = word_make(1, (enum word_state)state, 9, rows[i].n_cells);
            cr_expect_eq(ring_claim(&bed.ring, 1, &claim, &err), EVBUS_ECORRUPT, "%s", rows[i].label);
            char where[64];
            snprintf(where, sizeof where, "test.a/3 at %" PRIu64 ":", rows[i].pos);
            cr_expect_not_null(strstr(err.text, where), "%s: %s", rows[i].label, err.text);
            cr_expect_null(claim.ring, "%s: nothing is claimed", rows[i].label);
            cr_expect_eq(bed_look(&bed, rows[i].pos), RING_CORRUPT, "%s", rows[i].label);
            bed_end(&bed);
        }
}

Test(ring, positions_that_cannot_be_are_damage_and_no_endless_loop)
{
    static const struct {
        const char *label;
        uint64_t tail, released, word_at_tail;
    } rows[] = {
        {"a gate beyond the tail", 10, 11, 0},
        {"a gate far beyond the tail", 0, (UINT64_C(1) << 48) - 1, 0},
        {"a word of a later lap at the tail", 10, 0, (uint64_t)5 << (64 - WORD_LAP_BITS) | 1},
        {"a tail beyond all positions", UINT64_MAX, 0, 0},
        {"a tail beyond all positions, and a gate with it", UINT64_C(1) << 63, (UINT64_C(1) << 48) - 1, 0},
        {"a tail behind the last position that a claim may reach", POSITION_LIMIT + FRAME_CELLS_MAX, 0, 0},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        struct error err = {""};
        struct claim claim = {.slot = 1};
        bed_set_tail(&bed, rows[i].tail);
        bed_set_released(&bed, rows[i].released);
        *bed_word(&bed, rows[i].tail) = rows[i].word_at_tail;
        cr_expect_eq(ring_claim(&bed.ring, 2, &claim, &err), EVBUS_ECORRUPT, "%s: %s", rows[i].label, err.text);
        cr_expect_not_null(strstr(err.text, "test.a/3 at "), "%s: %s", rows[i].label, err.text);
        cr_expect_null(claim.ring, "%s", rows[i].label);
        bed_end(&bed);
    }
}

/* [R13] */
Test(ring, the_last_position_is_used_and_the_one_behind_it_refused)
{
    static const struct {
        const char *label;
        uint64_t n_cells, limit;
    } rows[] = {
        {"the smallest ring ends with its laps", 64, ((UINT64_C(1) << WORD_LAP_BITS) - 2) * 64},
        {"the smallest of a catalogue ends with the positions", 8192, POSITION_LIMIT},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_of(rows[i].n_cells);
        struct error err = {""};
        struct claim claim = {.slot = 1};
        uint64_t limit = bed.ring.limit;
        cr_assert_leq(limit, POSITION_LIMIT);
        cr_assert_eq(limit, rows[i].limit, "%s: %" PRIu64, rows[i].label, limit);
        bed_set_tail(&bed, limit - 16);
        bed_set_released(&bed, limit - 16);
        cr_expect_eq(bed_publish(&bed, 1, 8, 1), limit - 16, "%s", rows[i].label);
        uint64_t last = bed_publish(&bed, 1, 8, 2);
        cr_expect_eq(last, limit - 8, "%s", rows[i].label);
        uint64_t frame[16 * CELL_WORDS];
        cr_expect_eq(bed_copy(&bed, last, frame), RING_COMMITTED, "%s: it can be read", rows[i].label);
        cr_expect(bed_is_whole(frame, last), "%s", rows[i].label);
        cr_expect_eq(ring_claim(&bed.ring, 1, &claim, &err), EVBUS_EEXHAUSTED, "%s: %s", rows[i].label, err.text);
        cr_expect_not_null(strstr(err.text, "test.a/3"), "%s", err.text);
        cr_expect(ring_release(&bed.ring, bed.ring.capacity), "%s: it can still be released", rows[i].label);
        cr_expect_eq(ring_released(&bed.ring), limit, "%s", rows[i].label);
        bed_end(&bed);
    }
}

Test(ring, a_lap_that_is_as_long_as_positions_last_fits_its_word)
{
    static const uint64_t capacities[] = {64, 128, 1024, 2048, 4096, 8192, RING_CELLS_MAX};
    for (size_t i = 0; i < N(capacities); i++) {
        struct ring_head head = {0};
        struct ring ring;
        ring_view(&ring, &head, capacities[i], NULL, "test.a", 0);
        uint64_t last = ring.limit + ring.frame_cells_max; /* no claim reaches beyond it */
        uint64_t lap = ring_lap(&ring, last);
        cr_expect_lt(lap, UINT64_C(1) << WORD_LAP_BITS, "%" PRIu64 " cells", capacities[i]);
        cr_expect_eq(word_lap(word_make(lap, WORD_CANCELLED, SLOTS_MAX, 1)), lap, "%" PRIu64 " cells", capacities[i]);
        cr_expect_lt(last, UINT64_C(1) << POSITION_BITS, "%" PRIu64 " cells", capacities[i]);
        cr_expect_eq(RELEASED_POSITION(RELEASED(last, 0xffff)), last, "%" PRIu64 " cells", capacities[i]);
    }
}

/* ---- write, commit, cancel ---- */

/* [guards WHOLE] */
Test(ring, nothing_is_committed_before_its_commit)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    uint64_t pos = bed_write(&bed, &claim, 7, 3, 1);
    cr_expect_not(ring_is_stamped(&bed.ring, pos));
    cr_expect_eq(bed_look(&bed, pos), RING_CLAIMED);
    cr_assert_eq(ring_commit(&claim, &err), EVBUS_OK, "%s", err.text);
    cr_expect(ring_is_stamped(&bed.ring, pos));
    cr_expect_eq(bed_look(&bed, pos), RING_COMMITTED);
    cr_expect_null(claim.ring, "the claim is over");
    assert_word(&bed, pos, WORD_COMMITTED, 7, 3);
    bed_end(&bed);
}

/* [guards WHOLE] [R17] */
Test(ring, a_cancelled_claim_is_refused_its_commit_and_becomes_a_pad)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    uint64_t pos = bed_write(&bed, &claim, 7, 3, 1);
    ring_cancel(&bed.ring, pos, *bed_word(&bed, pos));
    assert_word(&bed, pos, WORD_CANCELLED, 7, 3);
    cr_expect_eq(bed_look(&bed, pos), RING_SKIP);
    cr_assert_eq(ring_commit(&claim, &err), EVBUS_EAGAIN);
    assert_word(&bed, pos, WORD_PAD, 0, 3);
    cr_expect_not(ring_is_stamped(&bed.ring, pos));
    cr_expect_null(claim.ring);
    cr_expect_eq(atomic_load(&bed.ring.head->cancels), 1);
    cr_expect_eq(atomic_load(&bed.slots[7].cancels), 1);
    cr_expect_eq(bed_publish(&bed, 7, 3, 1), pos + 3, "it goes on at a new position");
    bed_end(&bed);
}

/* [guards WHOLE] [R17] */
Test(ring, a_cancel_that_comes_after_the_commit_changes_nothing)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    uint64_t pos = bed_write(&bed, &claim, 7, 3, 1);
    uint64_t seen = *bed_word(&bed, pos);
    cr_assert_eq(ring_commit(&claim, &err), EVBUS_OK, "%s", err.text);
    ring_cancel(&bed.ring, pos, seen);
    assert_word(&bed, pos, WORD_COMMITTED, 7, 3);
    cr_expect_eq(atomic_load(&bed.ring.head->cancels), 0);
    bed_end(&bed);
}

/* [guards ONE-WRITER] */
Test(ring, a_cancel_that_is_a_lap_late_hits_nobody)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    bed_write(&bed, &claim, 7, 16, 1);
    uint64_t seen = *bed_word(&bed, 0);
    cr_assert_eq(ring_commit(&claim, &err), EVBUS_OK, "%s", err.text);
    for (uint64_t i = 1; i < 4; i++)
        bed_publish(&bed, 7, 16, i);
    cr_assert_eq(bed_write(&bed, &claim, 7, 16, 4), CELLS);
    ring_cancel(&bed.ring, 0, seen);
    cr_expect_eq(ring_commit(&claim, &err), EVBUS_OK, "%s", err.text);
    bed_end(&bed);
}

Test(ring, a_claim_that_somebody_made_a_pad_is_made_again)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    uint64_t pos = bed_write(&bed, &claim, 7, 3, 1);
    *bed_word(&bed, pos) = word_make(1, WORD_PAD, 0, 3);
    cr_expect_eq(ring_commit(&claim, &err), EVBUS_EAGAIN, "%s", err.text);
    cr_expect_null(claim.ring);
    bed_end(&bed);
}

Test(ring, a_claim_whose_word_holds_something_else_is_damage)
{
    static const struct {
        const char *label;
        uint64_t lap;
        enum word_state state;
        uint32_t slot, n_cells;
    } rows[] = {
        {"another slot", 1, WORD_CLAIMED, 8, 3},        {"another length", 1, WORD_CLAIMED, 7, 4},
        {"another lap", 2, WORD_CLAIMED, 7, 3},         {"no lap", 0, WORD_CLAIMED, 7, 3},
        {"committed already", 1, WORD_COMMITTED, 7, 3}, {"another's cancel", 1, WORD_CANCELLED, 8, 3},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        struct claim claim;
        struct error err = {""};
        uint64_t pos = bed_write(&bed, &claim, 7, 3, 1);
        uint64_t changed = word_make(rows[i].lap, rows[i].state, rows[i].slot, rows[i].n_cells);
        *bed_word(&bed, pos) = changed;
        cr_expect_eq(ring_commit(&claim, &err), EVBUS_ECORRUPT, "%s", rows[i].label);
        cr_expect_not_null(strstr(err.text, "test.a/3 at 0"), "%s: %s", rows[i].label, err.text);
        cr_expect_eq(*bed_word(&bed, pos), changed, "%s: left as it was found", rows[i].label);
        cr_expect_null(claim.ring, "%s", rows[i].label);
        bed_end(&bed);
    }
}

/* [R10] */
Test(ring, patience_grows_with_length_and_doubles_for_each_cancel_in_a_row)
{
    static const struct {
        uint32_t n_cells, cancels;
        uint64_t ns;
    } rows[] = {
        {1, 0, 1001000},           {16, 0, 1016000},   {16, 1, 2032000},     {1, 2, 4004000},
        {1, 5, 32032000},          {1, 6, 64064000},   {1, 7, 64064000},     {1, 1000000, 64064000},
        {1, UINT32_MAX, 64064000}, {1000, 0, 2000000}, {32767, 0, 33767000},
    };
    struct bed bed = bed_make();
    for (size_t i = 0; i < N(rows); i++) {
        atomic_store(&bed.slots[5].cancels_in_row, rows[i].cancels);
        cr_expect_eq(ring_patience_ns(&bed.ring, word_make(1, WORD_CLAIMED, 5, rows[i].n_cells)), rows[i].ns,
                     "%u cells, %u cancels", rows[i].n_cells, rows[i].cancels);
    }
    bed_end(&bed);
}

/* [R10] */
Test(ring, cancels_in_a_row_are_counted_until_a_commit)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    for (uint32_t i = 1; i <= 3; i++) {
        uint64_t pos = bed_write(&bed, &claim, 7, 2, 1);
        ring_cancel(&bed.ring, pos, *bed_word(&bed, pos));
        cr_assert_eq(ring_commit(&claim, &err), EVBUS_EAGAIN);
        cr_expect_eq(atomic_load(&bed.slots[7].cancels_in_row), i);
    }
    bed_publish(&bed, 7, 2, 1);
    cr_expect_eq(atomic_load(&bed.slots[7].cancels_in_row), 0);
    cr_expect_eq(atomic_load(&bed.slots[7].cancels), 3);
    bed_end(&bed);
}

/* [R11] */
Test(ring, an_abandoned_claim_becomes_a_pad)
{
    struct bed bed = bed_make();
    struct claim claim;
    uint64_t pos = bed_claim(&bed, &claim, 7, 3);
    ring_abandon(&claim);
    assert_word(&bed, pos, WORD_PAD, 0, 3);
    cr_expect_null(claim.ring);
    ring_abandon(&claim);
    assert_word(&bed, pos, WORD_PAD, 0, 3);
    bed_end(&bed);
}

/* [R11] */
Test(ring, an_abandoned_claim_that_was_cancelled_becomes_a_pad_too)
{
    struct bed bed = bed_make();
    struct claim claim;
    uint64_t pos = bed_claim(&bed, &claim, 7, 3);
    ring_cancel(&bed.ring, pos, *bed_word(&bed, pos));
    ring_abandon(&claim);
    assert_word(&bed, pos, WORD_PAD, 0, 3);
    cr_expect(ring_release(&bed.ring, CELLS), "and it does not hold the ring's end");
    bed_end(&bed);
}

/* Left by a longjmp after the claim was noted and before its word was set, or after its commit. [R11] */
Test(ring, abandoning_what_was_never_claimed_or_is_committed_changes_nothing)
{
    struct bed bed = bed_make();
    uint64_t pos = bed_publish(&bed, 7, 3, 1);
    struct claim claim = {.ring = &bed.ring, .pos = pos, .n_cells = 3, .slot = 7};
    ring_abandon(&claim);
    assert_word(&bed, pos, WORD_COMMITTED, 7, 3);
    struct claim other;
    uint64_t others = bed_claim(&bed, &other, 8, 2);
    claim = (struct claim){.ring = &bed.ring, .pos = others, .n_cells = 2, .slot = 7};
    ring_abandon(&claim);
    assert_word(&bed, others, WORD_CLAIMED, 8, 2);
    claim = (struct claim){.ring = &bed.ring, .pos = ring_tail(&bed.ring), .n_cells = 2, .slot = 7};
    ring_abandon(&claim);
    cr_expect_eq(*bed_word(&bed, ring_tail(&bed.ring)), 0);
    bed_end(&bed);
}

/* ---- runs: several frames by one claim ---- */

enum { MAKER = 7 }; /* of runs: a slot */
static const uint32_t run_lengths[] = {3, 1, 5, 2};
#define RUN_FRAMES N(run_lengths)
#define RUN_CELLS  11

static void assert_frame(struct bed *bed, uint64_t pos, uint32_t n_cells, uint64_t number)
{
    uint64_t frame[CELLS * CELL_WORDS];
    assert_word(bed, pos, WORD_COMMITTED, MAKER, n_cells);
    cr_assert_eq(bed_look(bed, pos), RING_COMMITTED, "at %" PRIu64, pos);
    cr_assert(ring_is_stamped(&bed->ring, pos), "at %" PRIu64, pos);
    cr_assert_eq(bed_copy(bed, pos, frame), RING_COMMITTED, "at %" PRIu64, pos);
    cr_assert(bed_is_whole(frame, pos), "at %" PRIu64, pos);
    cr_assert_eq(((struct frame_header *)frame)->timestamp_ns, number, "at %" PRIu64, pos);
}

/* From pos to the tail, as a reader goes: each frame whole, the numbers growing. How many frames. */
static unsigned read_to_tail(struct bed *bed, uint64_t pos)
{
    unsigned n = 0;
    uint64_t word, before = 0, frame[CELLS * CELL_WORDS];
    enum ring_seen seen;
    for (; (seen = ring_look(&bed->ring, pos, &word)) != RING_NOTHING; pos += word_cells(word)) {
        cr_assert(seen == RING_COMMITTED || seen == RING_SKIP, "at %" PRIu64 ": %d", pos, seen);
        if (seen == RING_SKIP)
            continue;
        cr_assert_eq(bed_copy(bed, pos, frame), RING_COMMITTED, "at %" PRIu64, pos);
        cr_assert(bed_is_whole(frame, pos), "at %" PRIu64, pos);
        uint64_t number = ((struct frame_header *)frame)->timestamp_ns;
        cr_assert_gt(number, before, "at %" PRIu64, pos);
        before = number;
        n++;
    }
    cr_assert_eq(pos, ring_tail(&bed->ring));
    return n;
}

/* [guards WHOLE] [R20] */
Test(ring, a_run_is_not_there_before_its_commit_and_then_each_frame_of_it_is)
{
    struct bed bed = bed_make();
    uint64_t number = 1;
    while (ring_tail(&bed.ring) < 5 * CELLS) { /* where words and stamps of other lengths are left */
        uint32_t lengths[RUN_FRAMES];
        for (size_t i = 0; i < RUN_FRAMES; i++)
            lengths[i] = run_lengths[(i + number) % RUN_FRAMES];
        struct claim claim;
        struct error err = {""};
        uint64_t word, pos = bed_write_run(&bed, &claim, MAKER, lengths, RUN_FRAMES, number);
        cr_assert_eq(ring_look(&bed.ring, pos, &word), RING_CLAIMED);
        cr_expect_eq(word_cells(word), RUN_CELLS, "who comes stands before all of it");
        cr_expect_not(ring_is_stamped(&bed.ring, pos));
        cr_expect_eq(ring_tail(&bed.ring), pos + RUN_CELLS);
        cr_assert_eq(ring_commit(&claim, &err), EVBUS_OK, "%s", err.text);
        cr_expect_null(claim.ring, "the claim is over");
        for (size_t i = 0; i < RUN_FRAMES; pos += lengths[i++])
            assert_frame(&bed, pos, lengths[i], number++);
        cr_assert_eq(pos, ring_tail(&bed.ring));
        bed_publish(&bed, MAKER, 1 + (uint32_t)number % 16, number);
        number++;
    }
    cr_expect_geq(read_to_tail(&bed, ring_released(&bed.ring)), 8u);
    bed_end(&bed);
}

/* [guards WHOLE] [R17] [R20] */
Test(ring, a_cancelled_run_is_seen_by_nobody_and_becomes_one_pad)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    uint64_t word, pos = bed_write_run(&bed, &claim, MAKER, run_lengths, RUN_FRAMES, 1);
    ring_cancel(&bed.ring, pos, *bed_word(&bed, pos));
    cr_expect_eq(ring_look(&bed.ring, pos, &word), RING_SKIP);
    cr_expect_eq(word_cells(word), RUN_CELLS, "readers step over all of it");
    cr_expect_eq(read_to_tail(&bed, pos), 0);
    cr_assert_eq(ring_commit(&claim, &err), EVBUS_EAGAIN);
    assert_word(&bed, pos, WORD_PAD, 0, RUN_CELLS);
    cr_expect_null(claim.ring);
    cr_expect_not(ring_is_stamped(&bed.ring, pos));
    cr_expect_eq(atomic_load(&bed.ring.head->cancels), 1);
    cr_expect_eq(read_to_tail(&bed, pos), 0);
    cr_expect_eq(bed_publish(&bed, MAKER, 3, 9), pos + RUN_CELLS);
    cr_expect_eq(read_to_tail(&bed, pos), 1);
    cr_assert(ring_release(&bed.ring, 1));
    cr_expect_eq(ring_released(&bed.ring), pos + RUN_CELLS, "it does not hold the ring's end");
    for (uint64_t number = 10; ring_tail(&bed.ring) < 3 * CELLS; number++)
        bed_publish(&bed, MAKER, 2, number);
    cr_expect_geq(read_to_tail(&bed, ring_released(&bed.ring)), 16u, "nor is anything of it met in later laps");
    bed_end(&bed);
}

/* [guards ONE-WRITER] [R3] [R20] */
Test(ring, the_gate_does_not_pass_into_a_run_that_is_cancelled_before_its_writer_says_so)
{
    struct bed bed = bed_make();
    struct claim claim;
    bed_set_slot(&bed, MAKER, true);
    for (uint32_t i = 0; i < FENCES_MAX; i++) { /* no fence is left for it */
        uint64_t pos = bed_claim(&bed, &claim, MAKER + 1 + i, 1);
        bed_set_slot(&bed, MAKER + 1 + i, true);
        ring_cancel(&bed.ring, pos, *bed_word(&bed, pos));
    }
    uint64_t pos = bed_write_run(&bed, &claim, MAKER, run_lengths, RUN_FRAMES, 1);
    ring_cancel(&bed.ring, pos, *bed_word(&bed, pos));
    bed_publish(&bed, 1, 2, 9);
    ring_release(&bed.ring, CELLS);
    cr_expect_eq(ring_released(&bed.ring), pos);
    assert_word(&bed, pos, WORD_CANCELLED, MAKER, RUN_CELLS);
    ring_abandon(&claim);
    cr_assert(ring_release(&bed.ring, CELLS));
    cr_expect_eq(ring_released(&bed.ring), ring_tail(&bed.ring));
    bed_end(&bed);
}

/* [guards PROGRESS] [B6] [R20] */
Test(ring, a_run_of_a_dead_writer_becomes_one_pad)
{
    enum { READER, RELEASER, CANCELLED_BEFORE };
    static const struct {
        const char *label;
        int by;
    } rows[] = {{"by a reader", READER}, {"by who needs room", RELEASER}, {"cancelled before", CANCELLED_BEFORE}};
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        struct claim claim;
        uint64_t wait_ns = UINT64_MAX;
        bed_set_slot(&bed, MAKER, true);
        uint64_t pos = bed_write_run(&bed, &claim, MAKER, run_lengths, RUN_FRAMES, 1);
        if (rows[i].by == CANCELLED_BEFORE)
            ring_cancel(&bed.ring, pos, *bed_word(&bed, pos));
        bed_publish(&bed, 1, 2, 9);
        bed_set_slot(&bed, MAKER, false);
        if (rows[i].by == READER)
            cr_expect_eq(ring_clear_claim(&bed.ring, pos, *bed_word(&bed, pos), &(struct ring_blocked){0}, &wait_ns),
                         RING_BURIED);
        else
            cr_expect(ring_release(&bed.ring, 1), "%s", rows[i].label);
        assert_word(&bed, pos, WORD_PAD, 0, RUN_CELLS);
        cr_expect_eq(read_to_tail(&bed, pos + RUN_CELLS), 1, "%s", rows[i].label);
        ring_release(&bed.ring, CELLS);
        cr_expect_eq(ring_released(&bed.ring), ring_tail(&bed.ring), "%s", rows[i].label);
        bed_end(&bed);
    }
}

/* [R11] [R20] */
Test(ring, an_abandoned_run_becomes_one_pad_however_much_of_it_is_written)
{
    for (size_t n_written = 0; n_written <= RUN_FRAMES; n_written++) {
        struct bed bed = bed_make();
        struct claim claim;
        uint64_t frames[CELLS * CELL_WORDS];
        bed_fill_run(frames, run_lengths, RUN_FRAMES, MAKER, 1);
        uint64_t pos = bed_claim(&bed, &claim, MAKER, RUN_CELLS);
        claim.n_first = run_lengths[0];
        bed_write_front(&claim, frames, run_lengths, n_written);
        ring_abandon(&claim);
        assert_word(&bed, pos, WORD_PAD, 0, RUN_CELLS);
        cr_expect_null(claim.ring);
        cr_expect_eq(read_to_tail(&bed, pos), 0, "%zu frames written", n_written);
        bed_end(&bed);
    }
}

/* [R20] */
Test(ring, a_run_that_does_not_fit_before_the_end_stands_behind_a_pad_as_a_whole)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    ring_pin(&bed.ring, 0, 30);
    for (uint64_t i = 0; i < 4; i++)
        bed_publish(&bed, 1, 15, i);
    uint64_t pos = bed_write_run(&bed, &claim, MAKER, run_lengths, RUN_FRAMES, 10);
    cr_expect_eq(pos, CELLS);
    assert_word(&bed, 60, WORD_PAD, 0, 4);
    cr_assert_eq(ring_commit(&claim, &err), EVBUS_OK, "%s", err.text);
    for (uint64_t i = 0; i < RUN_FRAMES; pos += run_lengths[i++])
        assert_frame(&bed, pos, run_lengths[i], 10 + i);
    bed_end(&bed);
}

/* ---- stamps ---- */

/* [R19] */
Test(ring, a_stamp_is_set_where_its_own_mark_stands_and_nowhere_else)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    uint64_t pos = bed_write(&bed, &claim, 7, 2, 1);
    cr_assert_eq(*bed_cells(&bed, pos), ring_pre(&bed.ring, pos));
    uint64_t of_next_lap = ring_pre(&bed.ring, pos + CELLS); /* the cell is in use again when the stamp comes */
    *bed_cells(&bed, pos) = of_next_lap;
    cr_assert_eq(ring_commit(&claim, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(*bed_cells(&bed, pos), of_next_lap, "a late stamp wrote into a cell that is another's");
    bed_end(&bed);
}

/* [R19] */
Test(ring, a_committed_frame_without_a_stamp_is_read)
{
    struct bed bed = bed_make();
    struct claim claim;
    uint64_t pos = bed_write(&bed, &claim, 7, 4, 1);
    *bed_word(&bed, pos) = word_make(1, WORD_COMMITTED, 7, 4); /* and there its writer died */
    cr_expect_not(ring_is_stamped(&bed.ring, pos));
    cr_expect_eq(bed_look(&bed, pos), RING_COMMITTED);
    uint64_t frame[CELLS * CELL_WORDS];
    cr_assert_eq(bed_copy(&bed, pos, frame), RING_COMMITTED);
    cr_expect(bed_is_whole(frame, pos));
    bed_end(&bed);
}

/* [R19] */
Test(ring, a_cancelled_frame_never_looks_committed)
{
    struct bed bed = bed_make();
    struct claim claim;
    struct error err = {""};
    uint64_t pos = bed_write(&bed, &claim, 7, 4, 1);
    ring_cancel(&bed.ring, pos, *bed_word(&bed, pos));
    cr_expect_not(ring_is_stamped(&bed.ring, pos));
    cr_assert_eq(ring_commit(&claim, &err), EVBUS_EAGAIN);
    cr_expect_not(ring_is_stamped(&bed.ring, pos));
    bed_end(&bed);
}

/* [R19] */
Test(ring, a_stamp_is_of_one_lap_and_of_one_ring)
{
    struct bed bed = bed_make();
    for (uint64_t i = 0; i < 4; i++)
        bed_publish(&bed, 7, 16, i);
    cr_expect(ring_is_stamped(&bed.ring, 0));
    cr_expect_not(ring_is_stamped(&bed.ring, CELLS));
    cr_expect_not(ring_is_stamped(&bed.ring, CELLS * UINT64_C(1000)));
    bed.ring.salt++;
    cr_expect_not(ring_is_stamped(&bed.ring, 0));
    bed_end(&bed);
}

/* ---- read ---- */

/* [R12] */
Test(ring, a_position_that_is_no_frames_start_is_told)
{
    struct bed bed = bed_make();
    bed_publish(&bed, 7, 4, 1);
    cr_expect_eq(bed_look(&bed, 0), RING_COMMITTED);
    for (uint64_t pos = 1; pos < 4; pos++)
        cr_expect_eq(bed_look(&bed, pos), RING_CORRUPT, "inside of a frame: %" PRIu64, pos);
    cr_expect_eq(bed_look(&bed, 4), RING_NOTHING, "the tail");
    cr_expect_eq(bed_look(&bed, 30), RING_CORRUPT, "beyond the tail");
    bed_end(&bed);
}

Test(ring, a_claim_by_nobody_is_damage)
{
    struct bed bed = bed_make();
    bed_set_tail(&bed, 2);
    *bed_word(&bed, 0) = word_make(1, WORD_CLAIMED, 0, 2);
    cr_expect_eq(bed_look(&bed, 0), RING_CORRUPT);
    bed_end(&bed);
}

/* [guards NEVER-TORN] [R14] */
Test(ring, what_was_released_during_the_copy_is_not_given_out)
{
    struct bed bed = bed_make();
    uint64_t frame[CELLS * CELL_WORDS];
    bed_publish(&bed, 7, 4, 1);
    cr_assert_eq(bed_copy(&bed, 0, frame), RING_COMMITTED);
    bed_set_released(&bed, 4);
    cr_expect_eq(ring_copy_rest(&bed.ring, 0, frame), RING_OVERTAKEN);
    cr_expect_eq(ring_copy_header(&bed.ring, 0, (struct frame_header *)frame), RING_OVERTAKEN);
    cr_expect_eq(bed_look(&bed, 0), RING_OVERTAKEN);
    bed_end(&bed);
}

Test(ring, a_header_that_is_not_of_its_place_is_damage)
{
    static const struct {
        const char *label;
        uint64_t position;
        uint16_t n_cells;
    } rows[] = {
        {"of the lap before", 0, 4},        {"of another cell", CELLS + 1, 4},   {"no cells", CELLS, 0},
        {"more than a quarter", CELLS, 17}, {"far too many", CELLS, UINT16_MAX}, {"a wild position", UINT64_MAX, 4},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        for (uint64_t k = 0; k < 4; k++)
            bed_publish(&bed, 7, 16, k);
        cr_assert_eq(bed_publish(&bed, 7, 4, 4), CELLS);
        struct frame_header *header = (struct frame_header *)bed_cells(&bed, CELLS);
        header->position = rows[i].position;
        header->n_cells = rows[i].n_cells;
        struct frame_header got = {.crc32c = 77};
        cr_expect_eq(ring_copy_header(&bed.ring, CELLS, &got), RING_CORRUPT, "%s", rows[i].label);
        bed_end(&bed);
    }
}

/* Frames of all lengths; whole, in order, none across the end, the gaps between them are pads. [guards WHOLE] */
Test(ring, frames_of_all_lengths_are_read_back_over_many_laps)
{
    struct bed bed = bed_make();
    uint64_t seed = take_seed();
    uint64_t frame[CELLS * CELL_WORDS];
    uint64_t at = ring_pin(&bed.ring, 0, 0);
    for (uint64_t number = 0; number < 20000; number++) {
        uint64_t pos = bed_publish(&bed, 1 + (uint32_t)(number % 9), 1 + (uint32_t)(draw(&seed) % 16), number);
        while (at != pos) {
            uint64_t word;
            cr_assert_eq(ring_look(&bed.ring, at, &word), RING_SKIP, "frame %" PRIu64 " at %" PRIu64, number, at);
            cr_assert_eq(word_state(word), WORD_PAD);
            at += word_cells(word);
            cr_assert_eq(ring_index(&bed.ring, at), 0, "a pad that does not end with the lap");
        }
        cr_assert(ring_is_stamped(&bed.ring, at));
        cr_assert_eq(bed_copy(&bed, at, frame), RING_COMMITTED, "frame %" PRIu64 " at %" PRIu64, number, at);
        cr_assert(bed_is_whole(frame, at), "frame %" PRIu64 " at %" PRIu64, number, at);
        uint32_t n_cells = ((struct frame_header *)frame)->n_cells;
        cr_assert_leq(ring_index(&bed.ring, at) + n_cells, CELLS, "a frame across the end");
        at += n_cells;
        ring_pin_move(&bed.ring, 0, at, false);
    }
    cr_expect_eq(ring_tail(&bed.ring), at);
    bed_end(&bed);
}

/* ---- released ---- */

/* [guards ONE-WRITER] [R3] */
Test(ring, the_gate_stops_before_what_a_living_writer_owns_and_passes_the_rest)
{
    enum { UNKNOWN, ALIVE, DEAD };
    static const struct {
        const char *label;
        enum word_state state;
        int life;
        bool passes;
        bool is_buried;
    } rows[] = {
        {"a committed frame", WORD_COMMITTED, ALIVE, true, false},
        {"a committed frame of the dead", WORD_COMMITTED, DEAD, true, false},
        {"a pad", WORD_PAD, UNKNOWN, true, false},
        {"a claim of the living", WORD_CLAIMED, ALIVE, false, false},
        {"a cancelled claim of the living, which is fenced", WORD_CANCELLED, ALIVE, true, false},
        {"a claim of a slot that says nothing", WORD_CLAIMED, UNKNOWN, false, false},
        {"a claim of the dead", WORD_CLAIMED, DEAD, true, true},
        {"a cancelled claim of the dead", WORD_CANCELLED, DEAD, true, true},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        if (rows[i].life != UNKNOWN)
            bed_set_slot(&bed, 9, rows[i].life == ALIVE);
        bed_publish(&bed, 1, 4, 1);
        struct claim claim;
        cr_assert_eq(bed_write(&bed, &claim, 9, 4, 2), 4);
        *bed_word(&bed, 4) = word_make(1, rows[i].state, rows[i].state == WORD_PAD ? 0 : 9, 4);
        bed_publish(&bed, 1, 4, 3);
        ring_release(&bed.ring, CELLS);
        cr_expect_eq(ring_released(&bed.ring), rows[i].passes ? 12 : 4, "%s: %" PRIu64, rows[i].label,
                     ring_released(&bed.ring));
        cr_expect_eq(atomic_load(&bed.ring.head->buried), rows[i].is_buried, "%s", rows[i].label);
        if (rows[i].is_buried)
            assert_word(&bed, 4, WORD_PAD, 0, 4);
        cr_expect_not(ring_release(&bed.ring, CELLS) && rows[i].passes, "%s: nothing is left to do", rows[i].label);
        bed_end(&bed);
    }
}

/* A claim of the living holds the whole ring in the end, but never longer than it is held. [guards ONE-WRITER] */
Test(ring, a_claim_that_is_never_committed_fills_the_ring_until_it_is_cancelled)
{
    struct bed bed = bed_make();
    struct error err = {""};
    struct claim stopped, claim = {.slot = 1};
    bed_set_slot(&bed, 9, true);
    bed_claim(&bed, &stopped, 9, 2);
    int rc;
    while ((rc = ring_claim(&bed.ring, 2, &claim, &err)) == EVBUS_OK)
        cr_assert_eq(ring_commit(&claim, &err), EVBUS_OK);
    cr_expect_eq(rc, EVBUS_EFULL);
    cr_expect_eq(ring_tail(&bed.ring), CELLS);
    cr_expect_eq(ring_released(&bed.ring), 0);
    ring_cancel(&bed.ring, 0, *bed_word(&bed, 0));
    cr_expect_eq(ring_claim(&bed.ring, 2, &claim, &err), EVBUS_OK);
    cr_expect_eq(claim.pos, CELLS + 2, "cancelled cells are still its writer's");
    cr_expect_eq(ring_commit(&stopped, &err), EVBUS_EAGAIN);
    bed_end(&bed);
}

Test(ring, a_pin_fills_the_ring_and_its_end_frees_it)
{
    struct bed bed = bed_make();
    struct error err = {""};
    struct claim claim = {.slot = 1};
    cr_assert_eq(ring_pin(&bed.ring, 31, 0), 0);
    for (uint64_t i = 0; i < 4; i++)
        bed_publish(&bed, 1, 16, i);
    cr_expect_eq(ring_claim(&bed.ring, 1, &claim, &err), EVBUS_EFULL);
    cr_expect_null(claim.ring);
    cr_expect_str_empty(err.text, "a full ring is told by whoever waited, not by each look");
    ring_pin_move(&bed.ring, 31, 20, false);
    cr_expect_eq(ring_claim(&bed.ring, 16, &claim, &err), EVBUS_OK, "16 of the 20 are whole frames");
    cr_expect_eq(ring_released(&bed.ring), 16);
    ring_abandon(&claim);
    ring_unpin(&bed.ring, 31);
    cr_expect(ring_release(&bed.ring, CELLS));
    cr_expect_eq(ring_released(&bed.ring), CELLS + 16);
    bed_end(&bed);
}

/* [R6] */
Test(ring, released_moves_in_steps_and_only_when_room_gets_scarce)
{
    struct bed bed = bed_make();
    for (uint64_t i = 0; i < 6; i++) {
        uint64_t pos = bed_publish(&bed, 1, 8, i);
        ring_make_room(&bed.ring, pos);
        cr_assert_eq(ring_released(&bed.ring), 0, "three quarters stay readable, %" PRIu64 " cells are used", pos + 8);
    }
    for (uint64_t i = 6; i < 40; i++) {
        uint64_t pos = bed_publish(&bed, 1, 8, i);
        ring_make_room(&bed.ring, pos);
        cr_assert_eq(ring_released(&bed.ring), pos - 40, "one step behind a frame at %" PRIu64, pos);
    }
    bed_end(&bed);
}

/* Whoever took the turn and died costs nothing: the ring is released by who needs room. [R6] [guards PROGRESS] */
Test(ring, a_turn_that_is_never_finished_holds_nobody)
{
    struct bed bed = bed_make();
    atomic_store(&bed.ring.head->release_turn, atomic_load(&bed.ring.head->released) + 1);
    for (uint64_t i = 0; i < 40; i++) {
        uint64_t pos = bed_publish(&bed, 1, 8, i);
        ring_make_room(&bed.ring, pos);
    }
    bed_end(&bed);
}

Test(ring, a_step_ends_with_a_whole_frame)
{
    struct bed bed = bed_make();
    for (uint64_t i = 0; i < 6; i++)
        bed_publish(&bed, 1, 10, i);
    cr_expect(ring_release(&bed.ring, 25));
    cr_expect_eq(ring_released(&bed.ring), 30);
    cr_expect(ring_release(&bed.ring, 1), "a frame may be longer than a step");
    cr_expect_eq(ring_released(&bed.ring), 40);
    cr_expect(ring_release(&bed.ring, 20));
    cr_expect_eq(ring_released(&bed.ring), 60);
    cr_expect_not(ring_release(&bed.ring, CELLS), "nothing is left");
    bed_end(&bed);
}

/* Nobody waits for the dead, not even for their burial. [guards PROGRESS] [B6] */
Test(ring, a_pin_of_the_dead_holds_nothing)
{
    enum { NOBODY, ALIVE, DEAD };
    static const struct {
        const char *label;
        int owner;
        uint64_t released;
    } rows[] = {
        {"of a living thread", ALIVE, 16}, {"of a dead one", DEAD, 32}, {"of nobody: not wiped yet", NOBODY, 32}};
    for (size_t i = 0; i < N(rows); i++) {
        _Atomic uint32_t owners[PINS_MAX] = {0};
        struct bed bed = bed_make();
        bed.ring.pin_owners = owners;
        atomic_store(&owners[6], PIN_OWNER(1, 0));
        bed_set_slot(&bed, 9, rows[i].owner == ALIVE);
        atomic_store(&owners[5], rows[i].owner != NOBODY ? PIN_OWNER(UINT32_MAX, 9) : 0);
        for (uint64_t k = 0; k < 3; k++)
            bed_publish(&bed, 1, 16, k);
        ring_pin(&bed.ring, 5, 16);
        ring_pin(&bed.ring, 6, 32); /* and this one's owner says nothing */
        ring_release(&bed.ring, CELLS);
        cr_expect_eq(ring_released(&bed.ring), rows[i].released, "%s: %" PRIu64, rows[i].label,
                     ring_released(&bed.ring));
        bed_end(&bed);
    }
}

Test(ring, who_is_overtaken_goes_on_at_the_oldest_and_in_a_row_half_way_to_the_newest)
{
    static const struct {
        const char *label;
        uint64_t released, tail, next;
        unsigned n_in_row;
    } rows[] = {
        {"once", 8, 48, 8, 1},
        {"twice: a frame's start", 8, 48, 32, 2},
        {"in an empty ring", 48, 48, 48, 9},
        {"a gate beyond the tail", 56, 48, 56, 9},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        for (uint64_t k = 0; k < 6; k++)
            bed_publish(&bed, 1, 8, k);
        bed_set_released(&bed, rows[i].released);
        bed_set_tail(&bed, rows[i].tail);
        cr_expect_eq(ring_behind_overtaken(&bed.ring, rows[i].n_in_row), rows[i].next, "%s", rows[i].label);
        bed_end(&bed);
    }
}

/* Whoever read the pins before ours loses its CAS. [R8] */
Test(ring, a_release_that_began_before_a_pin_is_lost)
{
    struct bed bed = bed_make();
    for (uint64_t i = 0; i < 3; i++)
        bed_publish(&bed, 1, 16, i);
    uint64_t before = atomic_load(&bed.ring.head->released); /* the releaser: reads the gate, then no pin, then stops */
    cr_assert_eq(ring_pin(&bed.ring, 4, 16), 16);
    cr_expect_not(
        atomic_compare_exchange_strong(&bed.ring.head->released, &before, RELEASED(48, RELEASED_GENERATION(before))),
        "what was just pinned has been released");
    ring_release(&bed.ring, CELLS);
    cr_expect_eq(ring_released(&bed.ring), 16, "and from now on it sees the pin");
    bed_end(&bed);
}

/* A release that was done in between is seen: the pin starts behind it. [R8] */
Test(ring, a_pin_starts_where_something_is_left)
{
    static const struct {
        const char *label;
        uint64_t wish, start;
    } rows[] = {{"from the oldest", 0, 16}, {"just what is left", 16, 16}, {"later", 32, 32}, {"the tail", 48, 48}};
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        for (uint64_t k = 0; k < 3; k++)
            bed_publish(&bed, 1, 16, k);
        cr_assert(ring_release(&bed.ring, 16));
        cr_expect_eq(ring_pin(&bed.ring, 0, rows[i].wish), rows[i].start, "%s", rows[i].label);
        cr_expect_eq(atomic_load(&bed.ring.head->lows[0]), rows[i].start + 1, "%s", rows[i].label);
        ring_release(&bed.ring, CELLS);
        cr_expect_eq(ring_released(&bed.ring), rows[i].start, "%s", rows[i].label);
        bed_end(&bed);
    }
}

/* [R8] */
Test(ring, the_generation_of_pins_wraps_without_touching_the_position)
{
    struct bed bed = bed_make();
    atomic_store(&bed.ring.head->released, RELEASED(7, 0xffff));
    bed_set_tail(&bed, 7);
    cr_expect_eq(ring_pin(&bed.ring, 0, 0), 7);
    cr_expect_eq(atomic_load(&bed.ring.head->released), RELEASED(7, 0));
    bed_end(&bed);
}

Test(ring, the_least_pin_holds)
{
    struct bed bed = bed_make();
    for (uint64_t i = 0; i < 6; i++)
        bed_publish(&bed, 1, 8, i);
    for (uint32_t i = 0; i < PINS_MAX; i++)
        ring_pin(&bed.ring, i, 48 - i % 5 * 8);
    ring_release(&bed.ring, CELLS);
    cr_expect_eq(ring_released(&bed.ring), 16);
    for (uint32_t i = 0; i < PINS_MAX; i++)
        if (i % 5 == 4)
            ring_unpin(&bed.ring, i);
    ring_release(&bed.ring, CELLS);
    cr_expect_eq(ring_released(&bed.ring), 24);
    bed_end(&bed);
}

/* [R7] */
Test(ring, who_waits_for_room_is_woken_by_whoever_makes_it)
{
    enum { RELEASE, UNPIN, PIN_IDLE, PIN_EIGHTH, PIN_A_LITTLE };
    static const struct {
        const char *label;
        int act;
        bool wakes;
    } rows[] = {
        {"a release", RELEASE, true},
        {"the end of a pin", UNPIN, true},
        {"a reader that is idle", PIN_IDLE, true},
        {"a reader that has read an eighth", PIN_EIGHTH, true},
        {"a reader that has read a little", PIN_A_LITTLE, false},
    };
    for (size_t i = 0; i < N(rows); i++)
        for (uint32_t is_wanted = 0; is_wanted < 2; is_wanted++) {
            struct bed bed = bed_make();
            for (uint64_t k = 0; k < 4; k++)
                bed_publish(&bed, 1, 16, k);
            ring_pin(&bed.ring, 0, rows[i].act == RELEASE ? 16 : 0);
            atomic_store(&bed.ring.head->space_wanted, is_wanted);
            if (rows[i].act == RELEASE)
                ring_release(&bed.ring, CELLS);
            else if (rows[i].act == UNPIN)
                ring_unpin(&bed.ring, 0);
            else
                ring_pin_move(&bed.ring, 0, rows[i].act == PIN_EIGHTH ? 16 : 1, rows[i].act == PIN_IDLE);
            cr_expect_eq(atomic_load(&bed.ring.head->space), rows[i].wakes && is_wanted, "%s, wanted %u", rows[i].label,
                         is_wanted);
            cr_expect_eq(atomic_load(&bed.ring.head->space_wanted), is_wanted && !rows[i].wakes, "%s", rows[i].label);
            bed_end(&bed);
        }
}

static void *wait_for_room(void *context)
{
    struct ring *ring = context;
    ring_wait_for_room(ring, UINT64_C(3600) * 1000000000, &(struct ring_blocked){0});
    return NULL;
}

Test(ring, a_wait_for_room_ends_by_itself)
{
    struct bed bed = bed_make();
    ring_pin(&bed.ring, 0, 0);
    for (uint64_t i = 0; i < 4; i++)
        bed_publish(&bed, 1, 16, i);
    uint64_t start = await_now_ms();
    wait_for_room(&bed.ring); /* whoever could wake us may be stopped */
    cr_expect_lt(await_now_ms() - start, 2000);
    ring_unpin(&bed.ring, 0);
    wait_for_room(&bed.ring);
    cr_expect_eq(ring_released(&bed.ring), 16, "it releases for itself, a step");
    bed_end(&bed);
}

static _Atomic bool has_waited_enough;

static void *wait_for_room_again_and_again(void *context)
{
    while (!atomic_load(&has_waited_enough))
        wait_for_room(context);
    return NULL;
}

/* [R7] */
Test(ring, who_makes_room_wakes_who_sleeps_for_it)
{
    struct bed bed = bed_make();
    pthread_t thread;
    ring_pin(&bed.ring, 0, 0);
    for (uint64_t i = 0; i < 4; i++)
        bed_publish(&bed, 1, 16, i);
    cr_assert_eq(pthread_create(&thread, NULL, wait_for_room_again_and_again, &bed.ring), 0);
    cr_expect(await_that(ring_wake_producers(&bed.ring) == 1), "it is only ever woken by its own round");
    atomic_store(&has_waited_enough, true);
    pthread_join(thread, NULL);
    bed_end(&bed);
}

/* ---- after damage ---- */

Test(ring, reading_goes_on_at_the_next_whole_frame)
{
    enum { WORD_OF_FIRST, HEADER_OF_FIRST, WORD_OF_TWO, WORDS_OF_ALL, OVERTAKEN };
    static const struct {
        const char *label;
        int damage;
        uint64_t from, next;
    } rows[] = {
        {"one word", WORD_OF_FIRST, 8, 16}, {"one header", HEADER_OF_FIRST, 8, 16},  {"two words", WORD_OF_TWO, 8, 24},
        {"all words", WORDS_OF_ALL, 8, 48}, {"a place inside of a frame", -1, 3, 8}, {"the tail", -1, 48, 48},
        {"beyond the tail", -1, 50, 50},    {"what was released", OVERTAKEN, 3, 32},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        for (uint64_t k = 0; k < 6; k++)
            bed_publish(&bed, 1, 8, k);
        if (rows[i].damage == WORD_OF_FIRST || rows[i].damage == WORD_OF_TWO)
            *bed_word(&bed, 8) = word_make(1, WORD_COMMITTED, 1, 0);
        if (rows[i].damage == WORD_OF_TWO)
            *bed_word(&bed, 16) = UINT64_MAX;
        if (rows[i].damage == HEADER_OF_FIRST)
            memset(bed_cells(&bed, 8), 0xee, CELL_BYTES);
        if (rows[i].damage == WORDS_OF_ALL)
            for (uint64_t p = 8; p < CELLS; p++)
                *bed_word(&bed, p) = 0;
        if (rows[i].damage == OVERTAKEN)
            bed_set_released(&bed, 32);
        cr_expect_eq(ring_resync(&bed.ring, rows[i].from), rows[i].next, "%s: %" PRIu64, rows[i].label,
                     ring_resync(&bed.ring, rows[i].from));
        bed_end(&bed);
    }
}

/* One more would be 0, and from there to the tail it is far. */
Test(ring, reading_on_from_the_highest_number_ends, .timeout = 10)
{
    struct bed bed = bed_make();
    bed_set_tail(&bed, POSITION_LIMIT);
    bed_set_released(&bed, POSITION_LIMIT - CELLS);
    cr_expect_eq(ring_resync(&bed.ring, UINT64_MAX), UINT64_MAX);
    cr_expect_eq(ring_resync(&bed.ring, POSITION_LIMIT), POSITION_LIMIT);
    bed_end(&bed);
}

Test(ring, where_the_rings_own_positions_are_damaged_a_reader_stands_still)
{
    static const struct {
        const char *label;
        uint64_t tail, released;
    } rows[] = {
        {"a wild tail", UINT64_MAX, 0},
        {"a tail beyond the ring", CELLS + 1, 0},
        {"a gate beyond the tail", 48, 49},
        {"a tail that went back", 8, 32},
        {"both wild", UINT64_MAX, (UINT64_C(1) << 48) - 1},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        for (uint64_t k = 0; k < 6; k++)
            bed_publish(&bed, 1, 8, k);
        bed_set_tail(&bed, rows[i].tail);
        bed_set_released(&bed, rows[i].released);
        cr_expect_eq(ring_resync(&bed.ring, 8), 8, "%s", rows[i].label);
        bed_end(&bed);
    }
}

/* ---- threads ---- */

enum { PRODUCERS = 4, FRAME_MAX = 16, RUN_MAX = 5 }; /* cells, frames */

struct race {
    struct bed bed;
    uint64_t per_producer;
    _Atomic uint32_t n_running;  /* producers */
    _Atomic uint32_t n_failures; /* of producers */
};

struct producer {
    struct race *race;
    uint32_t slot;
};

struct reader {
    struct race *race;
    bool has_pin;
    uint64_t n_read;
    uint64_t n_lost;   /* cells */
    uint64_t n_torn;   /* frames that are not whole */
    uint64_t n_wrong;  /* frames out of their producer's order, or missing though pinned */
    uint64_t n_damage; /* what should never be seen */
};

static void *produce(void *context)
{
    struct producer *self = context;
    struct race *race = self->race;
    struct claim claim = {.slot = self->slot};
    uint64_t frames[FRAME_MAX * CELL_WORDS];
    size_t n;
    for (uint64_t number = 0; number < race->per_producer; number += n) {
        struct error err = {""};
        uint64_t drawn = bed_mix(number + self->slot);
        uint32_t lengths[RUN_MAX];
        for (n = 0; n < 1 + drawn % RUN_MAX && number + n < race->per_producer; n++)
            lengths[n] = 1 + (uint32_t)(drawn >> (8 + 4 * n)) % 3;
        if (drawn % 7 == 0) {
            n = 1;
            lengths[0] = 1 + (uint32_t)(drawn >> 8) % FRAME_MAX;
        }
        uint32_t n_cells = bed_fill_run(frames, lengths, n, self->slot, number);
        uint64_t pos;
        struct partition_wait wait = {.timeout_ns = UINT64_C(60000000000), .spin_ns = 0};
        int rc = partition_append(&race->bed.ring, &claim, frames, n_cells, &wait, &pos, &err);
        if (rc == EVBUS_EAGAIN && n > 1) {
            n = 1;
            rc = partition_append(&race->bed.ring, &claim, frames, lengths[0], &wait, &pos, &err);
        }
        if (rc != EVBUS_OK) {
            fprintf(stderr, "producer %u: %s\n", self->slot, err.text);
            atomic_fetch_add(&race->n_failures, 1);
            break;
        }
        ring_make_room(&race->bed.ring, pos);
    }
    atomic_fetch_sub(&race->n_running, 1);
    return NULL;
}

static void check_frame(struct reader *self, const uint64_t *frame, uint64_t pos, uint64_t next[PRODUCERS + 1])
{
    struct frame_header header;
    memcpy(&header, frame, sizeof header);
    if (!bed_is_whole(frame, pos) || header.publisher < 1 || header.publisher > PRODUCERS) {
        self->n_torn++;
        return;
    }
    self->n_read++;
    bool is_right = self->has_pin ? header.timestamp_ns == next[header.publisher]
                                  : header.timestamp_ns >= next[header.publisher];
    self->n_wrong += !is_right;
    next[header.publisher] = header.timestamp_ns + 1;
}

static void *read_all(void *context)
{
    struct reader *self = context;
    struct race *race = self->race;
    struct ring *ring = &race->bed.ring;
    uint64_t next[PRODUCERS + 1] = {0};
    uint64_t frame[FRAME_MAX * CELL_WORDS];
    uint64_t pos = 0;
    for (;;) {
        bool is_over = atomic_load(&race->n_running) == 0;
        uint64_t word;
        enum ring_seen seen = ring_is_stamped(ring, pos) ? RING_COMMITTED : ring_look(ring, pos, &word);
        if (seen == RING_COMMITTED) {
            seen = ring_copy_header(ring, pos, (struct frame_header *)frame);
            if (seen == RING_COMMITTED)
                seen = ring_copy_rest(ring, pos, frame);
            if (seen == RING_COMMITTED) {
                check_frame(self, frame, pos, next);
                pos += ((struct frame_header *)frame)->n_cells;
                if (self->has_pin)
                    ring_pin_move(ring, 0, pos, false);
                continue;
            }
        }
        if (seen == RING_SKIP) {
            pos += word_cells(word);
            if (self->has_pin)
                ring_pin_move(ring, 0, pos, false);
        } else if (seen == RING_OVERTAKEN) {
            uint64_t released = ring_released(ring);
            self->n_lost += released - pos;
            pos = released;
        } else if (seen == RING_CORRUPT) {
            self->n_damage++;
            break;
        } else if (is_over && seen == RING_NOTHING) {
            break;
        } else if (seen == RING_NOTHING && self->has_pin) {
            ring_pin_move(ring, 0, pos, true);
        }
    }
    if (self->has_pin)
        ring_unpin(ring, 0);
    return NULL;
}

/* One reader pins and must see everything in order; the other is overtaken and must see nothing but whole frames. */
static void race_once(uint64_t n_cells, uint64_t per_producer)
{
    struct race race = {.bed = bed_of(n_cells), .per_producer = per_producer};
    atomic_store(&race.n_running, PRODUCERS);
    struct producer producers[PRODUCERS];
    struct reader readers[2] = {{.race = &race, .has_pin = true}, {.race = &race}};
    pthread_t threads[PRODUCERS + 2];
    ring_pin(&race.bed.ring, 0, 0);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        bed_set_slot(&race.bed, i + 1, true);
        producers[i] = (struct producer){&race, i + 1};
        cr_assert_eq(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[PRODUCERS + i], NULL, read_all, &readers[i]), 0);
    for (int i = 0; i < PRODUCERS + 2; i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(atomic_load(&race.n_failures), 0);
    for (int i = 0; i < 2; i++) {
        const char *who = readers[i].has_pin ? "the one that pins" : "the other";
        cr_expect_eq(readers[i].n_torn, 0, "%s: %" PRIu64 " frames are not whole", who, readers[i].n_torn);
        cr_expect_eq(readers[i].n_wrong, 0, "%s: %" PRIu64 " frames are out of order", who, readers[i].n_wrong);
        cr_expect_eq(readers[i].n_damage, 0, "%s saw what nobody wrote", who);
    }
    cr_expect_eq(readers[0].n_read, PRODUCERS * per_producer, "%" PRIu64 " read", readers[0].n_read);
    cr_expect_eq(readers[0].n_lost, 0);
    cr_expect(readers[1].n_read > 0);
    bed_end(&race.bed);
}

static uint64_t scaled(uint64_t n)
{
    return HAS_TSAN ? n / 10 : getenv("EVBUS_QUICK") != NULL ? n / 8 : n;
}

/* [guards WHOLE] [guards ONE-WRITER] [guards NEVER-TORN] */
Test(ring, four_producers_and_two_readers_in_a_ring_of_64_cells, .timeout = 120)
{
    race_once(64, scaled(50000));
}

/* [guards WHOLE] [guards ONE-WRITER] [guards NEVER-TORN] */
Test(ring, four_producers_and_two_readers_in_a_ring_of_1024_cells, .timeout = 120)
{
    race_once(1024, scaled(200000));
}

/* A canceller that has no patience at all: producers lose claim after claim, and yet each frame comes once and whole. */
static void *cancel_all(void *context)
{
    struct race *race = context;
    struct ring *ring = &race->bed.ring;
    uint64_t n = 0;
    while (atomic_load(&race->n_running) != 0) {
        uint64_t tail = ring_tail(ring);
        uint64_t released = ring_released(ring);
        for (uint64_t p = released; p < tail;) {
            uint64_t word;
            enum ring_seen seen = ring_look(ring, p, &word);
            if (seen != RING_CLAIMED && seen != RING_COMMITTED && seen != RING_SKIP)
                break;
            if (seen == RING_CLAIMED && n++ % 3 == 0)
                ring_cancel(ring, p, word);
            p += word_cells(word);
        }
    }
    return NULL;
}

/* [guards WHOLE] [R17] */
Test(ring, each_frame_comes_once_although_many_claims_are_cancelled, .timeout = 120)
{
    struct race race = {.bed = bed_of(256), .per_producer = scaled(40000)};
    atomic_store(&race.n_running, PRODUCERS);
    struct producer producers[PRODUCERS];
    struct reader reader = {.race = &race, .has_pin = true};
    pthread_t threads[PRODUCERS + 2];
    ring_pin(&race.bed.ring, 0, 0);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        bed_set_slot(&race.bed, i + 1, true);
        producers[i] = (struct producer){&race, i + 1};
        cr_assert_eq(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    cr_assert_eq(pthread_create(&threads[PRODUCERS], NULL, read_all, &reader), 0);
    cr_assert_eq(pthread_create(&threads[PRODUCERS + 1], NULL, cancel_all, &race), 0);
    for (int i = 0; i < PRODUCERS + 2; i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(atomic_load(&race.n_failures), 0);
    cr_expect_eq(reader.n_torn, 0, "%" PRIu64 " frames are not whole", reader.n_torn);
    cr_expect_eq(reader.n_wrong, 0, "%" PRIu64 " frames are out of order", reader.n_wrong);
    cr_expect_eq(reader.n_damage, 0);
    cr_expect_eq(reader.n_read, PRODUCERS * race.per_producer, "%" PRIu64 " read", reader.n_read);
    bed_end(&race.bed);
}
