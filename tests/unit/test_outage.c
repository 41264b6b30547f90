/* test_outage.c: which failures pause a group, what ends that, and who tries one event meanwhile. Time is an argument here.
 * [guards OUTAGE] */
#include "outage.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

/* A group of its own, and two members that live: none of the slots is dead while its thread is not there at all. */
struct bed {
    struct outage *outage;
    struct slot *slots;
    struct member *members;
};

static struct bed bed_make(void)
{
    struct bed bed = {aligned_alloc(64, sizeof(struct outage)), aligned_alloc(64, 8 * sizeof(struct slot)),
                      calloc(MEMBERS_MAX, sizeof(struct member))};
    memset(bed.outage, 0, sizeof *bed.outage);
    memset(bed.slots, 0, 8 * sizeof(struct slot));
    atomic_store(&bed.members[3].owner, PIN_OWNER(17, 1));
    atomic_store(&bed.members[5].owner, PIN_OWNER(18, 2));
    return bed;
}

static void bed_end(struct bed *bed)
{
    free(bed->outage);
    free(bed->slots);
    free(bed->members);
}

static enum outage_verdict fails(struct bed *bed, uint64_t event, const char *error, uint32_t n_events)
{
    return outage_failed(bed->outage, &(struct outage_failure){.way = outage_way(CAUSE_FAILED, error),
                                                               .event = outage_event(0, 0, event),
                                                               .n_events = n_events,
                                                               .error = error,
                                                               .wall_ns = 7 * S});
}

static struct outage_prober prober_of(const struct bed *bed, uint32_t place)
{
    return (struct outage_prober){.slots = bed->slots,
                                  .members = bed->members,
                                  .place = place,
                                  .owner = atomic_load(&bed->members[place].owner),
                                  .limit_ns = 60 * S};
}

static uint64_t probes(const struct bed *bed, uint32_t place, uint64_t now_ns, uint64_t *out_due_ns)
{
    struct outage_prober prober = prober_of(bed, place);
    *out_due_ns = UINT64_MAX;
    return outage_probe(bed->outage, &prober, now_ns, out_due_ns);
}

static void pause_it(struct bed *bed)
{
    cr_assert_eq(fails(bed, 1, "down", 2), OUTAGE_CHARGE);
    cr_assert_eq(fails(bed, 2, "down", 2), OUTAGE_BEGUN);
}

Test(outage, texts_that_differ_in_numbers_alone_are_one_way)
{
    static const struct {
        const char *one, *other;
        bool is_one_way;
    } rows[] = {
        {"timeout after 31 ms", "timeout after 32 ms", true}, {"timeout after 9 ms", "timeout after 1000000 ms", true},
        {"no order 0198c6f2", "no order 7d1ea44b", true},     {"timeout", "timeout ", false},
        {"connection refused", "no such table", false},       {"", "x", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(outage_way(CAUSE_FAILED, rows[i].one) == outage_way(CAUSE_FAILED, rows[i].other),
                     rows[i].is_one_way, "%s, %s", rows[i].one, rows[i].other);
    cr_expect_neq(outage_way(CAUSE_FAILED, NULL), outage_way(CAUSE_TIMEOUT, NULL), "a cause is a way");
    cr_expect_eq(outage_way(CAUSE_FAILED, NULL), outage_way(CAUSE_FAILED, ""));
    char long_text[2000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    cr_expect_neq(outage_way(CAUSE_FAILED, long_text), 0u);
}

Test(outage, five_different_events_that_fail_the_same_way_pause_the_group)
{
    struct bed bed = bed_make();
    struct outage_view view;
    for (uint64_t i = 1; i <= 4; i++)
        for (int again = 0; again < 3; again++)
            cr_expect_eq(fails(&bed, i, "timeout after 31 ms", 5), OUTAGE_CHARGE, "event %" PRIu64, i);
    outage_look(bed.outage, &view);
    cr_expect(!view.is_paused && view.n_events == 4);
    cr_expect_eq(fails(&bed, 5, "timeout after 32 ms", 5), OUTAGE_BEGUN);
    cr_expect_eq(fails(&bed, 1, "timeout after 32 ms", 5), OUTAGE_PAUSED);
    cr_expect_eq(fails(&bed, 6, "something else", 5), OUTAGE_PAUSED);
    outage_look(bed.outage, &view);
    cr_expect(view.is_paused && view.n_events == 5);
    cr_expect_str_eq(view.text, "timeout after 32 ms");
    cr_expect_eq(view.since_ns, 7 * S);
    bed_end(&bed);
}

Test(outage, a_lone_event_never_does)
{
    struct bed bed = bed_make();
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(fails(&bed, 1, "bad", 2), OUTAGE_CHARGE);
    bed_end(&bed);
}

Test(outage, a_word_that_no_success_could_end_pauses_nobody)
{
    struct bed bed = bed_make();
    struct outage_view view;
    atomic_store(&bed.outage->streak, UINT64_C(1) << 31 | 77);
    outage_look(bed.outage, &view);
    cr_expect_not(view.is_paused);
    cr_expect_not(OUTAGE_IS_PAUSED(outage_streak(bed.outage)));
    cr_expect_eq(fails(&bed, 1, "down", 2), OUTAGE_CHARGE);
    cr_expect_eq(fails(&bed, 2, "down", 2), OUTAGE_BEGUN);
    cr_expect(outage_succeeded(bed.outage));
    bed_end(&bed);
}

Test(outage, a_success_between_or_another_way_begins_anew)
{
    struct bed bed = bed_make();
    for (uint64_t i = 1; i <= 4; i++)
        cr_expect_eq(fails(&bed, i, "down", 5), OUTAGE_CHARGE);
    cr_expect_not(outage_succeeded(bed.outage), "nothing was paused");
    for (uint64_t i = 5; i <= 8; i++)
        cr_expect_eq(fails(&bed, i, "down", 5), OUTAGE_CHARGE);
    for (uint64_t i = 9; i <= 12; i++)
        cr_expect_eq(fails(&bed, i, "broken", 5), OUTAGE_CHARGE);
    for (uint64_t i = 14; i <= 40; i++)
        cr_expect_eq(fails(&bed, i, i % 2 == 0 ? "down" : "broken", 5), OUTAGE_CHARGE, "by turns");
    cr_expect_eq(fails(&bed, 41, "down", 5), OUTAGE_CHARGE);
    bed_end(&bed);
}

Test(outage, a_success_ends_the_pause_and_the_next_one_is_another)
{
    struct bed bed = bed_make();
    struct outage_view view;
    for (int i = 0; i < 3; i++) {
        pause_it(&bed);
        cr_expect(outage_succeeded(bed.outage), "round %d", i);
        cr_expect_not(outage_succeeded(bed.outage));
        outage_look(bed.outage, &view);
        cr_expect(!view.is_paused && view.n_events == 0 && view.text[0] == '\0');
    }
    bed_end(&bed);
}

/* Killed when the last event was counted, before the group was paused. */
Test(outage, whoever_fails_next_pauses_what_the_killed_has_counted)
{
    static const uint64_t next[] = {1, 2, 9};
    for (size_t i = 0; i < sizeof next / sizeof next[0]; i++) {
        struct bed bed = bed_make();
        struct outage_view view;
        uint64_t streak;
        cr_assert_eq(fails(&bed, 1, "down", 2), OUTAGE_CHARGE);
        streak = atomic_load(&bed.outage->streak);
        cr_assert_eq(fails(&bed, 2, "down", 2), OUTAGE_BEGUN);
        atomic_store(&bed.outage->streak, streak);
        atomic_store(&bed.outage->text_number, 0);
        cr_expect_eq(fails(&bed, next[i], "down", 2), OUTAGE_BEGUN, "by event %" PRIu64, next[i]);
        atomic_store(&bed.outage->text_number, 0); /* killed behind that */
        outage_look(bed.outage, &view);
        cr_expect(view.is_paused && view.text[0] == '\0');
        cr_expect_eq(fails(&bed, 3, "still down", 2), OUTAGE_PAUSED);
        outage_look(bed.outage, &view);
        cr_expect_str_eq(view.text, "still down");
        bed_end(&bed);
    }
}

Test(outage, one_event_is_tried_at_a_time_later_and_later)
{
    struct bed bed = bed_make();
    uint64_t now = 1000 * S, due, longest = 0;
    unsigned n_new = 0;
    pause_it(&bed);
    for (int i = 0; i < 40; i++) {
        uint64_t probe = probes(&bed, 3, now, &due);
        cr_assert_neq(probe, 0u, "%d", i);
        n_new += outage_probe_is_new(probe);
        cr_expect_eq(probes(&bed, 5, now + S, &due), 0u, "one at a time");
        cr_expect_eq(probes(&bed, 3, now + S, &due), 0u, "its own member is no other");
        now += 2 * S;
        outage_probe_failed(bed.outage, probe, now);
        cr_expect_eq(probes(&bed, 5, now, &due), 0u);
        uint64_t wait = due - now;
        uint64_t wished = i < 5 ? S << i : 30 * S;
        cr_expect(wait >= wished / 5 * 4 && wait <= wished / 5 * 6 + 10 * MS, "wait %d is %" PRIu64 " ms", i,
                  wait / MS);
        longest = wait > longest ? wait : longest;
        cr_expect_eq(probes(&bed, 5, due - 10 * MS, &(uint64_t){0}), 0u);
        now = due;
    }
    cr_expect(n_new >= 10 && n_new <= 30, "%u of 40 are for what is new", n_new);
    cr_expect(longest <= 36 * S + 10 * MS);
    bed_end(&bed);
}

Test(outage, who_has_nothing_to_try_passes_it_on)
{
    struct bed bed = bed_make();
    uint64_t due;
    pause_it(&bed);
    uint64_t probe = probes(&bed, 3, S, &due);
    outage_probe_pass(bed.outage, probe, S);
    cr_expect_neq(probes(&bed, 5, S, &due), 0u);
    outage_probe_failed(bed.outage, probe, S); /* late: it is another's */
    cr_expect_eq(probes(&bed, 3, 2 * S, &due), 0u);
    bed_end(&bed);
}

Test(outage, the_probe_of_a_member_that_is_gone_is_anybodys)
{
    static const uint32_t owners[] = {0, PIN_OWNER(19, 1)};
    for (size_t i = 0; i < 2; i++) {
        struct bed bed = bed_make();
        uint64_t due;
        pause_it(&bed);
        cr_assert_neq(probes(&bed, 3, S, &due), 0u);
        cr_expect_eq(probes(&bed, 5, S, &due), 0u);
        atomic_store(&bed.members[3].owner, owners[i]);
        cr_expect_neq(probes(&bed, 5, S, &due), 0u);
        bed_end(&bed);
    }
}

Test(outage, a_probe_that_hangs_is_anybodys_when_its_time_is_over)
{
    struct bed bed = bed_make();
    uint64_t due;
    pause_it(&bed);
    cr_assert_neq(probes(&bed, 3, S, &due), 0u);
    cr_expect_eq(probes(&bed, 5, 2 * S, &due), 0u);
    cr_expect(due >= 61 * S && due <= 61 * S + 10 * MS);
    cr_expect_neq(probes(&bed, 5, due, &due), 0u);
    bed_end(&bed);
}

Test(outage, a_probe_of_another_pause_says_nothing_about_this_one)
{
    struct bed bed = bed_make();
    uint64_t due;
    pause_it(&bed);
    uint64_t probe = probes(&bed, 3, S, &due);
    cr_assert(outage_succeeded(bed.outage));
    pause_it(&bed);
    cr_expect_neq(probes(&bed, 5, S, &due), 0u, "free at once");
    outage_probe_failed(bed.outage, probe, S);
    cr_expect_eq(probes(&bed, 3, S, &due), 0u, "the old one has moved nothing");
    bed_end(&bed);
}

/* --- at the same time ------------------------------------------------------------------------------------------------- */

struct crowd {
    struct bed bed;
    pthread_barrier_t start;
    _Atomic unsigned n_charged, n_begun, n_started;
};

static void *fail_once(void *context)
{
    struct crowd *crowd = context;
    uint64_t event = atomic_fetch_add(&crowd->n_started, 1);
    pthread_barrier_wait(&crowd->start);
    enum outage_verdict verdict = fails(&crowd->bed, event, "down", 5);
    atomic_fetch_add(&crowd->n_charged, verdict == OUTAGE_CHARGE);
    atomic_fetch_add(&crowd->n_begun, verdict == OUTAGE_BEGUN);
    return NULL;
}

/* Fewer than four where the fifth pauses the group before one of them has its answer. */
Test(outage, of_many_that_fail_at_the_same_time_at_most_four_are_charged)
{
    enum { CROWD = 8 };
    for (int round = 0; round < 200; round++) {
        struct crowd crowd = {.bed = bed_make()};
        pthread_t threads[CROWD];
        pthread_barrier_init(&crowd.start, NULL, CROWD);
        for (int i = 0; i < CROWD; i++)
            cr_assert_eq(pthread_create(&threads[i], NULL, fail_once, &crowd), 0);
        for (int i = 0; i < CROWD; i++)
            pthread_join(threads[i], NULL);
        cr_assert_eq(atomic_load(&crowd.n_begun), 1u, "round %d", round);
        cr_assert_leq(atomic_load(&crowd.n_charged), 4u, "round %d", round);
        pthread_barrier_destroy(&crowd.start);
        bed_end(&crowd.bed);
    }
}
