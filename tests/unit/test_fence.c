/* test_fence.c: cells of a sleeping writer are left out of each lap, step by step and in threads. Rule R5. */
#include "fence.h"

#include "ringbed.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define N(rows)  (sizeof(rows) / sizeof(rows)[0])
#define SLEEPER  9 /* slots */
#define SLEEPER2 10
#define OTHER    1

static struct bed bed_of_the_living(void)
{
    struct bed bed = bed_make();
    for (uint32_t slot = 1; slot < 40; slot++)
        bed_set_slot(&bed, slot, true);
    return bed;
}

static uint64_t entry_at(struct bed *bed, uint32_t index)
{
    return atomic_load(&bed->ring.head->fences[index]);
}

static unsigned count_fences(struct bed *bed)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < FENCES_MAX; i++)
        n += entry_at(bed, i) != 0;
    return n;
}

/* A claim that its writer sleeps on, cancelled. */
static uint64_t claim_and_sleep(struct bed *bed, struct claim *claim, uint32_t slot, uint32_t n_cells)
{
    uint64_t pos = bed_claim(bed, claim, slot, n_cells);
    ring_cancel(&bed->ring, pos, *bed_word(bed, pos));
    return pos;
}

static int try_publish(struct bed *bed, uint32_t n_cells, uint64_t *out_pos)
{
    struct claim claim = {.slot = OTHER};
    struct error err = {""};
    int rc = ring_claim(&bed->ring, n_cells, &claim, &err);
    *out_pos = claim.pos;
    return rc == EVBUS_OK ? ring_commit(&claim, &err) : rc;
}

static bool is_word(struct bed *bed, uint64_t pos, enum word_state state, uint32_t slot, uint32_t n_cells)
{
    return *bed_word(bed, pos) == word_make(ring_lap(&bed->ring, pos), state, slot, n_cells);
}

/* ---- one writer sleeps ---- */

/* [guards PROGRESS] [guards ONE-WRITER] [R5] */
Test(fence, others_publish_a_hundred_laps_past_a_sleeping_writer_and_never_into_its_cells)
{
    static const uint32_t lengths[] = {1, 2, 3, 5, 8, 16};
    for (size_t i = 0; i < N(lengths); i++) {
        struct bed bed = bed_of_the_living();
        struct claim sleeper;
        struct error err = {""};
        uint64_t state = i;
        bed_publish(&bed, OTHER, 7, 1);
        uint64_t pos = claim_and_sleep(&bed, &sleeper, SLEEPER, lengths[i]);
        while (ring_tail(&bed.ring) < 100 * CELLS) {
            uint32_t n_cells = 1 + (uint32_t)(trial_random(&state) % 16);
            uint64_t at;
            cr_assert_eq(try_publish(&bed, n_cells, &at), EVBUS_OK, "%u cells at %" PRIu64, n_cells, at);
            uint64_t start = ring_index(&bed.ring, at);
            cr_assert(start + n_cells <= pos || start >= pos + lengths[i],
                      "cells %" PRIu64 "+%u, the sleeper has %" PRIu64 "+%u", start, n_cells, pos, lengths[i]);
        }
        cr_expect_eq(atomic_load(&bed.ring.head->fences_ever), 1);
        cr_expect_eq(count_fences(&bed), 1);
        cr_expect_eq(ring_commit(&sleeper, &err), EVBUS_EAGAIN, "%s", err.text);
        cr_expect_null(sleeper.ring);
        cr_expect_eq(count_fences(&bed), 0, "the writer takes its fence away");
        cr_expect_eq(word_slot(*bed_word(&bed, pos)), 0, "and its name");
        bed_end(&bed);
    }
}

/* Words and cells, but for those of the run at the ring's start. */
static void copy_others(const struct bed *bed, uint32_t n_cells, uint64_t *out)
{
    size_t n_words = CELLS - n_cells;
    memcpy(out, (const void *)(bed->ring.words + n_cells), n_words * sizeof *out);
    memcpy(out + n_words, (const void *)(bed->ring.cells + n_cells * CELL_WORDS), n_words * CELL_BYTES);
}

/* [guards ONE-WRITER] [guards NEVER-TORN] [R5] [R20] */
Test(fence, a_run_that_is_written_laps_late_hits_nobody)
{
    static const uint32_t lengths[] = {2, 1, 4, 3};
    enum { RUN_CELLS = 10 };
    for (size_t n_before = 0; n_before <= N(lengths); n_before++) { /* its frames that were written in time */
        struct bed bed = bed_of_the_living();
        struct claim sleeper;
        struct error err = {""};
        uint64_t frames[CELLS * CELL_WORDS];
        uint64_t before[CELLS * (1 + CELL_WORDS)] = {0}, after[CELLS * (1 + CELL_WORDS)] = {0};
        bed_fill_run(frames, lengths, N(lengths), SLEEPER, 1);
        cr_assert_eq(bed_claim(&bed, &sleeper, SLEEPER, RUN_CELLS), 0);
        sleeper.n_first = lengths[0];
        bed_write_front(&sleeper, frames, lengths, n_before);
        ring_cancel(&bed.ring, 0, *bed_word(&bed, 0));
        for (uint64_t number = 1; ring_tail(&bed.ring) < 3 * CELLS + CELLS / 2; number++)
            bed_publish(&bed, OTHER, 1 + (uint32_t)number % 5, number);
        cr_assert_eq(count_fences(&bed), 1);
        copy_others(&bed, RUN_CELLS, before);
        uint64_t word = *bed_word(&bed, 0);
        cr_assert(is_word(&bed, 3 * CELLS, WORD_PAD, SLEEPER, RUN_CELLS));
        ring_write(&sleeper, frames);
        copy_others(&bed, RUN_CELLS, after);
        cr_expect_arr_eq(before, after, sizeof before, "%zu in time", n_before);
        cr_expect_eq(*bed_word(&bed, 0), word, "%zu in time", n_before);
        uint64_t pos = 3 * CELLS + RUN_CELLS;
        cr_expect_eq(bed_look(&bed, 3 * CELLS), RING_SKIP);
        for (uint64_t frame[CELLS * CELL_WORDS]; pos < ring_tail(&bed.ring); pos += word_cells(word)) {
            enum ring_seen seen = ring_look(&bed.ring, pos, &word);
            cr_assert(seen == RING_COMMITTED && bed_copy(&bed, pos, frame) == RING_COMMITTED &&
                          bed_is_whole(frame, pos),
                      "%zu in time: at %" PRIu64 ": %d", n_before, pos, seen);
        }
        cr_expect_eq(ring_commit(&sleeper, &err), EVBUS_EAGAIN, "%s", err.text);
        cr_expect_eq(count_fences(&bed), 0);
        for (uint64_t number = 1, at; ring_tail(&bed.ring) < 6 * CELLS; number++) {
            cr_assert_eq(try_publish(&bed, 1 + (uint32_t)number % 5, &at), EVBUS_OK, "%zu in time", n_before);
            cr_assert_eq(bed_look(&bed, at), RING_COMMITTED, "%zu in time: at %" PRIu64, n_before, at);
        }
        bed_end(&bed);
    }
}

/* [R5] */
Test(fence, pads_end_where_a_fence_starts_and_carry_its_slot_on_in_its_cells)
{
    struct bed bed = bed_of_the_living();
    struct claim sleeper;
    uint64_t at;
    bed_publish(&bed, OTHER, 4, 1);
    claim_and_sleep(&bed, &sleeper, SLEEPER, 3); /* cells 4..6 */
    for (int i = 0; i < 3; i++)
        bed_publish(&bed, OTHER, 16, 2);
    bed_publish(&bed, OTHER, 9, 3); /* up to the end */
    for (uint64_t lap = 1; lap < 4; lap++) {
        uint64_t start = lap * CELLS;
        cr_assert_eq(try_publish(&bed, 6, &at), EVBUS_OK);
        cr_expect_eq(at, start + 7);
        cr_expect(is_word(&bed, start, WORD_PAD, 0, 4), "%#" PRIx64, *bed_word(&bed, start));
        cr_expect(is_word(&bed, start + 4, WORD_PAD, SLEEPER, 3), "%#" PRIx64, *bed_word(&bed, start + 4));
        uint64_t word;
        cr_expect_eq(ring_look(&bed.ring, start + 4, &word), RING_SKIP, "readers step over it");
        while (ring_tail(&bed.ring) < (lap + 1) * CELLS) {
            uint64_t left = (lap + 1) * CELLS - ring_tail(&bed.ring);
            cr_assert_eq(try_publish(&bed, left < 16 ? (uint32_t)left : 16, &at), EVBUS_OK);
        }
    }
    bed_end(&bed);
}

/* [R5] */
Test(fence, a_frame_that_ends_just_before_it_or_starts_just_behind_it_is_none_of_its_business)
{
    struct bed bed = bed_of_the_living();
    struct claim sleeper;
    uint64_t at;
    bed_publish(&bed, OTHER, 4, 1);
    claim_and_sleep(&bed, &sleeper, SLEEPER, 3);
    for (int i = 0; i < 3; i++)
        bed_publish(&bed, OTHER, 16, 2);
    bed_publish(&bed, OTHER, 9, 3);
    cr_assert_eq(try_publish(&bed, 4, &at), EVBUS_OK);
    cr_expect_eq(at, CELLS);
    cr_assert_eq(try_publish(&bed, 1, &at), EVBUS_OK);
    cr_expect_eq(at, CELLS + 7);
    bed_end(&bed);
}

/* [R5] */
Test(fence, a_frame_that_fits_nowhere_beside_the_fences_waits_and_shorter_ones_go_on)
{
    struct bed bed = bed_of_the_living();
    struct claim sleepers[4];
    struct error err = {""};
    uint64_t at;
    for (uint32_t i = 0; i < 4; i++) { /* three cells of each sixteen are a sleeper's: twelve and three are free */
        claim_and_sleep(&bed, &sleepers[i], SLEEPER + i, 3);
        bed_publish(&bed, OTHER, 13, 1);
    }
    uint64_t tail = 0;
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(try_publish(&bed, 13, &at), EVBUS_OK);
        int rc = try_publish(&bed, 14, &at);
        cr_assert_eq(rc, EVBUS_EFULL, "%d", rc);
        tail = ring_tail(&bed.ring);
    }
    cr_expect_eq(try_publish(&bed, 14, &at), EVBUS_EFULL);
    cr_expect_eq(ring_tail(&bed.ring), tail, "it burns no positions");
    cr_expect_eq(ring_commit(&sleepers[1], &err), EVBUS_EAGAIN);
    cr_expect_eq(try_publish(&bed, 14, &at), EVBUS_OK, "until one of them is back");
    bed_end(&bed);
}

/* [R5] */
Test(fence, sixteen_writers_may_sleep_and_the_next_one_holds_the_ring)
{
    struct bed bed = bed_of_the_living();
    struct claim sleepers[FENCES_MAX + 1];
    struct error err = {""};
    uint64_t at;
    for (uint32_t i = 0; i < FENCES_MAX; i++)
        claim_and_sleep(&bed, &sleepers[i], SLEEPER + i, 2);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(try_publish(&bed, 4, &at), EVBUS_OK);
    cr_expect_eq(count_fences(&bed), FENCES_MAX);
    claim_and_sleep(&bed, &sleepers[FENCES_MAX], SLEEPER + FENCES_MAX, 2);
    int rc = EVBUS_OK;
    for (int i = 0; i < 100 && rc == EVBUS_OK; i++)
        rc = try_publish(&bed, 4, &at);
    cr_expect_eq(rc, EVBUS_EFULL);
    cr_expect_eq(ring_commit(&sleepers[3], &err), EVBUS_EAGAIN);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(try_publish(&bed, 4, &at), EVBUS_OK, "one entry is free again");
    bed_end(&bed);
}

/* ---- whose it is ---- */

/* [R5] */
Test(fence, burial_takes_away_what_the_dead_have)
{
    struct bed bed = bed_of_the_living();
    struct claim sleepers[2];
    uint64_t at;
    uint64_t first = claim_and_sleep(&bed, &sleepers[0], SLEEPER, 2);
    claim_and_sleep(&bed, &sleepers[1], SLEEPER2, 2);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(try_publish(&bed, 4, &at), EVBUS_OK);
    cr_assert_eq(count_fences(&bed), 2);
    fence_bury(&bed.ring, SLEEPER);
    cr_expect_eq(count_fences(&bed), 1);
    cr_expect_eq(word_slot(*bed_word(&bed, first)), 0);
    bed_end(&bed);
}

/* [R5] [B6] */
Test(fence, of_a_dead_writer_is_taken_away_by_whoever_meets_it)
{
    struct bed bed = bed_of_the_living();
    struct claim sleeper;
    uint64_t at;
    claim_and_sleep(&bed, &sleeper, SLEEPER, 16);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(try_publish(&bed, 4, &at), EVBUS_OK);
    cr_assert_eq(count_fences(&bed), 1);
    bed_set_slot(&bed, SLEEPER, false);
    for (int i = 0; i < 30; i++)
        cr_assert_eq(try_publish(&bed, 4, &at), EVBUS_OK);
    cr_expect_eq(count_fences(&bed), 0);
    bed_end(&bed);
}

/* Who fences dies between the entry and the word: the next takes the entry over. [R5] */
Test(fence, an_entry_that_its_maker_left_is_taken_over)
{
    struct bed bed = bed_of_the_living();
    struct claim sleeper;
    struct error err = {""};
    claim_and_sleep(&bed, &sleeper, SLEEPER, 2);
    uint64_t left = FENCE_ENTRY(0, 2, SLEEPER, 77);
    atomic_store(&bed.ring.head->fences[5], left);
    cr_assert(fence_put(&bed.ring, 0, *bed_word(&bed, 0)));
    cr_expect_eq(count_fences(&bed), 1);
    cr_expect_neq(entry_at(&bed, 5), left, "its maker, if it is only slow, cannot take it away any more");
    cr_expect(is_word(&bed, 0, WORD_PAD, SLEEPER, 2));
    cr_expect_eq(ring_commit(&sleeper, &err), EVBUS_EAGAIN);
    cr_expect_eq(count_fences(&bed), 0);
    bed_end(&bed);
}

/* The writer is back between the look of who fences and its entry. [R5] */
Test(fence, that_comes_too_late_leaves_nothing_behind)
{
    struct bed bed = bed_of_the_living();
    struct claim sleeper;
    struct error err = {""};
    claim_and_sleep(&bed, &sleeper, SLEEPER, 2);
    uint64_t seen = *bed_word(&bed, 0);
    cr_assert_eq(ring_commit(&sleeper, &err), EVBUS_EAGAIN);
    cr_expect(fence_put(&bed.ring, 0, seen));
    cr_expect_eq(count_fences(&bed), 0);
    cr_expect_eq(atomic_load(&bed.ring.head->fences_ever), 0, "and is not counted");
    bed_end(&bed);
}

/* Another has fenced the same claim between our entry and our CAS: the entry is the one that stands now, and stays. [R5] */
Test(fence, the_second_of_two_who_fence_the_same_claim_leaves_the_fence_standing)
{
    struct bed bed = bed_of_the_living();
    struct claim sleeper;
    claim_and_sleep(&bed, &sleeper, SLEEPER, 2);
    uint64_t seen = *bed_word(&bed, 0);
    cr_assert(fence_put(&bed.ring, 0, seen));
    cr_assert(fence_put(&bed.ring, 0, seen)); /* its CAS on the word fails */
    cr_expect_eq(count_fences(&bed), 1);
    cr_expect_eq(atomic_load(&bed.ring.head->fences_ever), 1);
    bed_end(&bed);
}

/* [R5] */
Test(fence, no_two_entries_are_alike)
{
    struct bed bed = bed_of_the_living();
    uint64_t before = 0;
    for (int i = 0; i < 1000; i++) {
        struct claim sleeper;
        struct error err = {""};
        while (ring_index(&bed.ring, ring_tail(&bed.ring)) != 0)
            bed_publish(&bed, OTHER, 1, 1);
        uint64_t pos = claim_and_sleep(&bed, &sleeper, SLEEPER, 2);
        cr_assert(fence_put(&bed.ring, pos, *bed_word(&bed, pos)));
        cr_assert_neq(entry_at(&bed, FENCES_MAX - 1), before, "a drop of the last one would drop this one");
        before = entry_at(&bed, FENCES_MAX - 1);
        cr_assert_neq(before, 0);
        cr_assert_eq(ring_commit(&sleeper, &err), EVBUS_EAGAIN);
    }
    bed_end(&bed);
}

/* ---- any bytes ---- */

/* Entries that nobody made are dropped, and claims never leave the ring. */
Test(fence, entries_that_no_evbus_wrote_lead_nowhere_bad)
{
    uint64_t state = trial_seed("fence/entries_that_no_evbus_wrote_lead_nowhere_bad");
    struct bed bed = bed_of_the_living();
    atomic_store(&bed.ring.head->fenced, 1);
    for (int round = 0; round < 20000; round++) {
        uint64_t entry = trial_random(&state);
        if (round % 3 == 0)
            entry = FENCE_ENTRY(trial_random(&state) % (2 * CELLS), trial_random(&state) % CELLS,
                                trial_random(&state) % 64, round);
        atomic_store(&bed.ring.head->fences[trial_random(&state) % FENCES_MAX], entry);
        uint64_t at;
        uint32_t n_cells = 1 + (uint32_t)(trial_random(&state) % 16);
        int rc = try_publish(&bed, n_cells, &at);
        cr_assert(rc == EVBUS_OK || rc == EVBUS_EFULL, "%d", rc);
        cr_assert(rc != EVBUS_OK || ring_index(&bed.ring, at) + n_cells <= CELLS);
    }
    bed_end(&bed);
}

/* ---- in threads ---- */

enum { RUN_MAX = 3 }; /* frames by one claim */

struct race {
    struct bed bed;
    uint64_t n_events; /* of each that sleeps; the others publish as long as one of them does */
    _Atomic int n_running;
    _Atomic int n_sleepers;
    _Atomic uint64_t n_failures;
};

struct producer {
    struct race *race;
    uint32_t slot;
    bool is_sleeper;
    uint64_t n_published;
    uint64_t n_slept;
};

/* Sleeps in the middle of many a claim until the ring has gone round, and then writes all the same. */
static void *publish_and_sleep(void *context)
{
    struct producer *self = context;
    struct ring *ring = &self->race->bed.ring;
    struct claim claim = {.slot = self->slot};
    struct error err = {""};
    uint64_t state = self->slot;
    uint64_t frames[CELLS * CELL_WORDS];
    uint64_t number = 0;
    while (self->is_sleeper ? number < self->race->n_events : atomic_load(&self->race->n_sleepers) > 0) {
        uint64_t drawn = bed_mix(self->slot * UINT64_C(1000003) + number);
        uint32_t lengths[RUN_MAX];
        size_t n = 1 + drawn % RUN_MAX;
        for (size_t i = 0; i < n; i++)
            lengths[i] = 1 + (uint32_t)(drawn >> (8 + 4 * i)) % 4;
        uint32_t n_cells = bed_fill_run(frames, lengths, n, self->slot, number);
        int rc = ring_claim(ring, n_cells, &claim, &err);
        if (rc == EVBUS_EFULL) {
            struct ring_blocked blocked = {0};
            ring_wait_for_room(ring, 1000000, &blocked);
            continue;
        }
        if (rc != EVBUS_OK) {
            atomic_fetch_add(&self->race->n_failures, 1);
            break;
        }
        if (self->is_sleeper && trial_random(&state) % 16 == 0) {
            uint64_t until = ring_tail(ring) + trial_random(&state) % (4 * ring->capacity);
            ring_cancel(ring, claim.pos, atomic_load(ring_word(ring, claim.pos)));
            while (ring_tail(ring) < until)
                ring_wait_for_room(ring, 10000, &(struct ring_blocked){0});
            self->n_slept++;
        }
        claim.n_first = lengths[0];
        ring_write(&claim, frames);
        rc = ring_commit(&claim, &err);
        if (rc == EVBUS_OK)
            number += n;
        else if (rc != EVBUS_EAGAIN) {
            fprintf(stderr, "slot %u: %s\n", self->slot, err.text);
            atomic_fetch_add(&self->race->n_failures, 1);
            break;
        }
    }
    self->n_published = number;
    atomic_fetch_sub(&self->race->n_sleepers, self->is_sleeper);
    atomic_fetch_sub(&self->race->n_running, 1);
    return NULL;
}

/* [guards ONE-WRITER] [guards WHOLE] [R5] */
Test(fence, every_frame_comes_once_and_whole_although_writers_sleep_for_laps, .timeout = 120)
{
    enum { PRODUCERS = 4 };
    struct race race = {.bed = bed_of(256), .n_events = trial_count(20000, 1000)};
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    struct ring *ring = &race.bed.ring;
    uint64_t next[PRODUCERS + 1] = {0};
    uint64_t n_read = 0;
    uint64_t n_slept = 0;
    uint64_t n_published = 0;
    uint64_t pos = ring_pin(ring, 0, 0);
    atomic_store(&race.n_running, PRODUCERS);
    atomic_store(&race.n_sleepers, 2);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        bed_set_slot(&race.bed, i + 1, true);
        producers[i] = (struct producer){.race = &race, .slot = i + 1, .is_sleeper = i < 2};
        cr_assert_eq(pthread_create(&threads[i], NULL, publish_and_sleep, &producers[i]), 0);
    }
    while (atomic_load(&race.n_running) > 0 || pos < ring_tail(ring)) {
        uint64_t word;
        uint64_t frame[CELLS * CELL_WORDS];
        enum ring_seen seen = ring_look(ring, pos, &word);
        if (seen == RING_CLAIMED || seen == RING_NOTHING) {
            ring_pin_move(ring, 0, pos, true);
            continue;
        }
        cr_assert(seen == RING_COMMITTED || seen == RING_SKIP, "at %" PRIu64 ": %d", pos, seen);
        if (seen == RING_COMMITTED) {
            cr_assert_eq(bed_copy(&race.bed, pos, frame), RING_COMMITTED);
            cr_assert(bed_is_whole(frame, pos), "torn at %" PRIu64, pos);
            const struct frame_header *header = (const struct frame_header *)frame;
            cr_assert_eq(header->timestamp_ns, next[header->publisher]++, "out of order at %" PRIu64, pos);
            n_read++;
        }
        pos += word_cells(word);
        ring_pin_move(ring, 0, pos, false);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i], NULL);
        n_slept += producers[i].n_slept;
        n_published += producers[i].n_published;
    }
    fprintf(stderr, "%" PRIu64 " events of four, %" PRIu64 " claims slept on, %" PRIu64 " fences\n", n_read, n_slept,
            atomic_load(&ring->head->fences_ever));
    cr_expect_eq(atomic_load(&race.n_failures), 0);
    cr_expect_eq(n_read, n_published);
    cr_expect_gt(atomic_load(&ring->head->fences_ever), 0);
    cr_expect_eq(count_fences(&race.bed), 0, "no fence outlives its writer");
    bed_end(&race.bed);
}
