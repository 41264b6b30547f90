/* test_doorbell.c: who sleeps is woken by what he wants, by nothing else, and for sure. */
#include "doorbell.h"

#include "await.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])

/* A log of our own, and slots 1..SLOTS_MAX. */
struct hall {
    struct log_head *log;
    struct slot *slots;
};

static struct hall hall_make(void)
{
    struct hall hall = {aligned_alloc(64, sizeof(struct log_head)),
                        aligned_alloc(64, (SLOTS_MAX + 1) * sizeof(struct slot))};
    cr_assert(hall.log != NULL && hall.slots != NULL);
    memset(hall.log, 0, sizeof *hall.log);
    memset(hall.slots, 0, (SLOTS_MAX + 1) * sizeof(struct slot));
    strcpy(hall.log->name, "test.a");
    return hall;
}

static void hall_end(struct hall *hall)
{
    free(hall->log);
    free(hall->slots);
}

static struct topic_set topics_of(uint32_t first, uint32_t second)
{
    struct topic_set set = {{0}};
    topic_set_add(&set, first);
    if (second != 0)
        topic_set_add(&set, second);
    return set;
}

static uint32_t joined(struct hall *hall, uint32_t slot, uint32_t topic)
{
    struct error err = {""};
    struct topic_set wanted = topics_of(topic, 0);
    uint32_t place = UINT32_MAX;
    cr_assert_eq(doorbell_join(hall->log, slot, &place, &err), EVBUS_OK, "%s", err.text);
    doorbell_want(hall->log, place, &wanted);
    return place;
}

Test(doorbell, a_set_of_topics_holds_what_was_added)
{
    for (uint32_t added = 1; added <= TOPICS_MAX; added++) {
        struct topic_set set = topics_of(added, 0);
        for (uint32_t id = 1; id <= TOPICS_MAX; id++)
            cr_assert_eq(topic_set_has(&set, id), id == added, "added %u, asked for %u", added, id);
    }
}

Test(doorbell, any_number_as_a_topic_stays_within_the_set)
{
    static const uint32_t ids[] = {0, TOPICS_MAX + 1, 65535, UINT32_MAX};
    for (size_t i = 0; i < N(ids); i++) {
        struct {
            struct topic_set set;
            uint64_t guard;
        } held = {.guard = 77};
        topic_set_add(&held.set, ids[i]);
        cr_expect_eq(held.guard, 77, "%u", ids[i]);
        cr_expect(topic_set_has(&held.set, ids[i]), "%u", ids[i]);
    }
}

/* A bit belongs to one sleeper. [D3] */
Test(doorbell, places_are_for_one_each_until_there_is_none)
{
    struct hall hall = hall_make();
    struct error err = {""};
    bool is_given[SLEEPERS_MAX] = {false};
    uint32_t place = 4711;
    for (uint32_t i = 0; i < SLEEPERS_MAX; i++) {
        cr_assert_eq(doorbell_join(hall.log, 1 + i, &place, &err), EVBUS_OK, "%s", err.text);
        cr_assert(place < SLEEPERS_MAX && !is_given[place], "%u", place);
        is_given[place] = true;
    }
    place = 4711;
    cr_expect_eq(doorbell_join(hall.log, 600, &place, &err), EVBUS_ELIMIT);
    cr_expect_not_null(strstr(err.text, "test.a"), "%s", err.text);
    cr_expect_eq(place, 4711);
    doorbell_leave(hall.log, 300);
    cr_expect_eq(doorbell_join(hall.log, 600, &place, &err), EVBUS_OK);
    cr_expect_eq(place, 300);
    hall_end(&hall);
}

/* [guards WOKEN] */
Test(doorbell, who_sleeps_is_rung_for_what_he_wants_and_nobody_else)
{
    static const struct {
        const char *label;
        uint32_t wanted, rung_first, rung_second;
        bool sleeps, is_rung;
    } rows[] = {
        {"asleep, his topic", 5, 5, 0, true, true},  {"asleep, another's", 5, 6, 0, true, false},
        {"awake, his topic", 5, 5, 0, false, false}, {"one of two", 5, 9, 5, true, true},
        {"the last topic", 256, 256, 0, true, true}, {"the same bit of another word", 256, 64, 192, true, false},
        {"the first topic", 1, 1, 256, true, true},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct hall hall = hall_make();
        uint32_t place = joined(&hall, 7, rows[i].wanted);
        struct topic_set rung = topics_of(rows[i].rung_first, rows[i].rung_second);
        if (rows[i].sleeps)
            doorbell_set(hall.log, place);
        doorbell_ring(hall.log, hall.slots, &rung);
        cr_expect_eq(doorbell_read(&hall.slots[7]), rows[i].is_rung, "%s", rows[i].label);
        for (uint32_t slot = 0; slot <= SLOTS_MAX; slot++)
            cr_assert(slot == 7 || doorbell_read(&hall.slots[slot]) == 0, "%s: slot %u", rows[i].label, slot);
        hall_end(&hall);
    }
}

Test(doorbell, all_who_sleep_are_rung)
{
    struct hall hall = hall_make();
    struct topic_set rung = topics_of(3, 0);
    for (uint32_t slot = 1; slot <= SLEEPERS_MAX; slot++)
        doorbell_set(hall.log, joined(&hall, slot, 3));
    doorbell_ring(hall.log, hall.slots, &rung);
    for (uint32_t slot = 1; slot <= SLEEPERS_MAX; slot++)
        cr_assert_eq(doorbell_read(&hall.slots[slot]), 1, "slot %u", slot);
    hall_end(&hall);
}

/* A waker that is stopped takes nothing from the next one. [D4] [guards WOKEN] */
Test(doorbell, ringing_leaves_the_sleepers_bit)
{
    struct hall hall = hall_make();
    struct topic_set rung = topics_of(3, 0);
    uint32_t place = joined(&hall, 7, 3);
    doorbell_set(hall.log, place);
    doorbell_ring(hall.log, hall.slots, &rung);
    atomic_store(&hall.log->sleepers[place].rung, 0); /* as if it had been stopped right after the wake */
    doorbell_ring(hall.log, hall.slots, &rung);
    cr_expect_eq(doorbell_read(&hall.slots[7]), 2);
    doorbell_clear(hall.log, place);
    doorbell_ring(hall.log, hall.slots, &rung);
    cr_expect_eq(doorbell_read(&hall.slots[7]), 2);
    hall_end(&hall);
}

/* A sleeper that is stopped costs its producers one wake, not one each. [guards WOKEN] */
Test(doorbell, a_sleep_is_ended_by_one_wake_and_the_next_sleep_by_another)
{
    struct hall hall = hall_make();
    struct topic_set rung = topics_of(3, 0);
    uint32_t place = joined(&hall, 7, 3);
    doorbell_set(hall.log, place);
    for (int i = 0; i < 3; i++)
        doorbell_ring(hall.log, hall.slots, &rung);
    cr_expect_eq(doorbell_read(&hall.slots[7]), 1);
    doorbell_clear(hall.log, place);
    doorbell_set(hall.log, place);
    for (int i = 0; i < 3; i++)
        doorbell_ring(hall.log, hall.slots, &rung);
    cr_expect_eq(doorbell_read(&hall.slots[7]), 2);
    hall_end(&hall);
}

/* [D3] */
Test(doorbell, a_sleeper_sets_and_clears_no_bit_but_its_own)
{
    struct hall hall = hall_make();
    for (uint32_t i = 0; i < SLEEPERS_MAX / 64; i++)
        atomic_store(&hall.log->sleeping[i], UINT64_C(0xaaaaaaaaaaaaaaaa));
    for (uint32_t place = 0; place < SLEEPERS_MAX; place++) {
        bool was_set = place % 2 == 1;
        doorbell_clear(hall.log, place);
        doorbell_set(hall.log, place);
        cr_expect_eq(atomic_load(&hall.log->sleepers[place].sleeps), 1);
        if (!was_set)
            doorbell_clear(hall.log, place);
    }
    for (uint32_t i = 0; i < SLEEPERS_MAX / 64; i++)
        cr_expect_eq(atomic_load(&hall.log->sleeping[i]), UINT64_C(0xaaaaaaaaaaaaaaaa), "word %u", i);
    hall_end(&hall);
}

Test(doorbell, who_leaves_wants_nothing_and_sleeps_no_more)
{
    struct hall hall = hall_make();
    uint32_t place = joined(&hall, 7, 3);
    struct topic_set rung = topics_of(3, 0);
    doorbell_set(hall.log, place);
    doorbell_leave(hall.log, place);
    doorbell_ring(hall.log, hall.slots, &rung);
    cr_expect_eq(doorbell_read(&hall.slots[7]), 0);
    struct error err = {""};
    uint32_t again;
    cr_assert_eq(doorbell_join(hall.log, 8, &again, &err), EVBUS_OK);
    cr_expect_eq(again, place);
    doorbell_set(hall.log, place); /* before he has said what he wants */
    doorbell_ring(hall.log, hall.slots, &rung);
    cr_expect_eq(doorbell_read(&hall.slots[8]), 0, "the next one does not inherit the topics");
    hall_end(&hall);
}

Test(doorbell, a_wild_slot_number_rings_nobody)
{
    static const uint32_t slots[] = {0, SLOTS_MAX + 1, 65535, UINT32_MAX};
    for (size_t i = 0; i < N(slots); i++) {
        struct hall hall = hall_make();
        struct topic_set all;
        memset(&all, 0xff, sizeof all);
        uint32_t place = joined(&hall, 7, 3);
        doorbell_set(hall.log, place);
        atomic_store(&hall.log->sleepers[place].slot, slots[i]);
        doorbell_ring(hall.log, hall.slots, &all);
        for (uint32_t slot = 0; slot <= SLOTS_MAX; slot++)
            cr_assert_eq(doorbell_read(&hall.slots[slot]), 0, "%u: slot %u", slots[i], slot);
        hall_end(&hall);
    }
}

/* A bell that is rung before the sleep has another value, so the kernel does not put us to sleep. [D1] [guards WOKEN] */
Test(doorbell, a_bell_that_was_rung_meanwhile_lets_nobody_sleep)
{
    struct hall hall = hall_make();
    uint32_t seen = doorbell_read(&hall.slots[7]);
    doorbell_ring_slot(&hall.slots[7]);
    uint64_t start = await_now_ms();
    doorbell_sleep(&hall.slots[7], seen, (struct timespec){.tv_sec = 10});
    cr_expect_lt(await_now_ms() - start, 5000);
    hall_end(&hall);
}

/* [D6] */
Test(doorbell, burial_clears_what_a_slot_left_and_nothing_else)
{
    struct hall hall = hall_make();
    struct error err = {""};
    uint32_t others = joined(&hall, 8, 3), again;
    uint32_t first = joined(&hall, 7, 3), second = joined(&hall, 7, 4);
    doorbell_set(hall.log, others);
    doorbell_set(hall.log, first);
    doorbell_set(hall.log, second);
    doorbell_bury(hall.log, 7);
    doorbell_bury(hall.log, 7);
    cr_expect_eq(atomic_load(&hall.log->sleeping[0]), UINT64_C(1) << others);
    cr_expect_eq(atomic_load(&hall.log->sleepers[others].slot), 8);
    cr_expect_eq(doorbell_join(hall.log, 9, &again, &err), EVBUS_OK);
    cr_expect_eq(again, first, "its places are free");
    hall_end(&hall);
}

/* ---- a sleeper and a producer, as fast as they can ---- */

struct race {
    struct hall hall;
    uint32_t place;
    uint64_t rounds;
    _Atomic uint64_t published; /* plays the ring: n events are there */
    _Atomic uint64_t taken;
    uint64_t n_overslept;
};

/* The sleeper's side, as a reader does it. */
static void *take_all(void *context)
{
    struct race *race = context;
    struct slot *self = &race->hall.slots[7];
    for (uint64_t n = 1; n <= race->rounds; n++) {
        while (atomic_load_explicit(&race->published, memory_order_acquire) < n) {
            uint32_t bell = doorbell_read(self);
            doorbell_set(race->hall.log, race->place);
            atomic_thread_fence(memory_order_seq_cst);
            if (atomic_load_explicit(&race->published, memory_order_acquire) < n) {
                uint64_t start = await_now_ms();
                doorbell_sleep(self, bell, (struct timespec){.tv_sec = 5});
                race->n_overslept += await_now_ms() - start >= 5000;
            }
            doorbell_clear(race->hall.log, race->place);
        }
        atomic_store_explicit(&race->taken, n, memory_order_release);
    }
    return NULL;
}

/* [guards WOKEN] [D1] [D2] */
Test(doorbell, no_event_is_slept_through, .timeout = 60)
{
    struct race race = {.hall = hall_make(), .rounds = getenv("EVBUS_QUICK") != NULL ? 30000 : 300000};
    struct topic_set topics = topics_of(3, 0);
    race.place = joined(&race.hall, 7, 3);
    pthread_t sleeper;
    cr_assert_eq(pthread_create(&sleeper, NULL, take_all, &race), 0);
    uint64_t until = await_now_ms() + AWAIT_MS;
    for (uint64_t n = 0; n < race.rounds; n++) {
        uint64_t before = n;
        atomic_compare_exchange_strong(&race.published, &before, n + 1); /* the commit */
        doorbell_ring(race.hall.log, race.hall.slots, &topics);
        while (atomic_load_explicit(&race.taken, memory_order_acquire) <= n && await_now_ms() < until) {
        }
    }
    pthread_join(sleeper, NULL);
    cr_expect_eq(race.n_overslept, 0);
    hall_end(&race.hall);
}
