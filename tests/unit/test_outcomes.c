/* test_outcomes.c: an outage is the group's fault, a bad event its own. Time stands still, and goes on by steps of the test. */
#include "clock.h"
#include "crew.h"
#include "pending.h"

#include <criterion/criterion.h>
#include <evbus/admin.h>
#include <evbus/testing.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

struct bed {
    struct fixture f;
    struct evbus_subscription *sub;
    unsigned n_published;
    unsigned n_received;
    uint32_t attempts_max;
};

static void join(struct bed *bed)
{
    cr_assert_eq(evbus_subscribe(&bed->sub, bed->f.bus,
                                 &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                   .group = "mailer"}),
                 EVBUS_OK);
}

static struct bed bed_make(const char *settings)
{
    char catalogue[600];
    snprintf(catalogue, sizeof catalogue,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":2,\"ring\":\"64KiB\"},"
             "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]}},\"groups\":{\"mailer\":{%s}}}",
             settings);
    struct bed bed = {.f = fixture_make((struct fixture_options){.catalogue = catalogue, .wait = EVBUS_WAIT_BLOCK})};
    evbus_test_clock_freeze();
    join(&bed);
    return bed;
}

static void bed_end(struct bed *bed)
{
    evbus_unsubscribe(bed->sub);
    evbus_test_clock_release();
    fixture_end(&bed->f);
}

/* Each of a key of its own. */
static void publish(struct bed *bed, const char *what)
{
    char key[16], payload[64];
    snprintf(key, sizeof key, "k%u", bed->n_published++);
    snprintf(payload, sizeof payload, "\"%s\"", what);
    cr_assert_eq(fixture_publish(bed->f.bus, key, payload), EVBUS_OK, "%s", evbus_message(bed->f.bus));
}

static bool receive(struct bed *bed, struct evbus_delivery *got)
{
    *got = (struct evbus_delivery){.size = sizeof *got};
    int rc = evbus_receive(bed->sub, got, 0);
    cr_assert(rc == EVBUS_OK || rc == EVBUS_ETIMEOUT, "%d, %s", rc, evbus_message(NULL));
    if (rc != EVBUS_OK)
        return false;
    bed->n_received++;
    bed->attempts_max = got->attempt > bed->attempts_max ? got->attempt : bed->attempts_max;
    return true;
}

static void finish(struct bed *bed, const struct evbus_delivery *got, enum evbus_outcome outcome, const char *error)
{
    cr_assert_eq(evbus_finish(bed->sub, got, outcome, error), EVBUS_OK, "%s", evbus_message(NULL));
}

static int keep(void *context, const struct evbus_group_stat *group)
{
    if (strcmp(group->group, "mailer") == 0)
        *(struct evbus_group_stat *)context = *group;
    return 0;
}

static struct evbus_group_stat stat_of(const struct bed *bed)
{
    struct evbus_group_stat stat = {0};
    cr_assert_eq(evbus_groups(bed->f.bus, keep, &stat), EVBUS_OK);
    return stat;
}

/* For so long: an event whose payload begins with "bad" fails with `error`, which says each time another number; others are done. */
static void handle_for(struct bed *bed, uint64_t ns, const char *error)
{
    uint64_t until = clock_mono_ns() + ns;
    for (struct evbus_delivery got; clock_mono_ns() < until;) {
        evbus_test_clock_advance(bed->f.bus, 250 * MS);
        while (receive(bed, &got)) { /* nothing is due where this ends */
            char text[64];
            snprintf(text, sizeof text, "%s %u", error, bed->n_received);
            bool is_bad = strncmp(got.payload, "\"bad", 4) == 0;
            finish(bed, &got, is_bad ? EVBUS_RETRY : EVBUS_DONE, text);
        }
    }
}

static void is_as_it_was(const struct bed *bed, uint64_t n_done, uint64_t n_failed, uint64_t n_letters, bool is_paused)
{
    struct evbus_group_stat stat = stat_of(bed);
    cr_expect_eq(stat.done, n_done, "%" PRIu64 " are done", stat.done);
    cr_expect_eq(stat.attempts_failed[EVBUS_CAUSE_FAILED], n_failed, "%" PRIu64 " attempts failed",
                 stat.attempts_failed[EVBUS_CAUSE_FAILED]);
    cr_expect_eq(stat.dead_letters, n_letters, "%" PRIu64 " dead letters", stat.dead_letters);
    cr_expect_eq(stat.is_paused, is_paused);
}

/* [guards OUTAGE] */
Test(outcomes, a_database_that_is_down_for_an_hour_makes_no_dead_letter)
{
    struct bed bed = bed_make("");
    for (int i = 0; i < 8; i++)
        publish(&bed, "bad");
    handle_for(&bed, 1800 * S, "connection refused:");
    for (int i = 0; i < 8; i++)
        publish(&bed, "bad");
    handle_for(&bed, 1800 * S, "connection refused:");
    is_as_it_was(&bed, 0, 4, 0, true);
    struct evbus_group_stat stat = stat_of(&bed);
    cr_expect_eq(stat.n_same_failures, 5u);
    cr_expect_eq(strncmp(stat.paused_error, "connection refused: ", 20), 0, "%s", stat.paused_error);
    cr_expect(stat.paused_since_ns != 0 && stat.paused_since_ns < clock_wall_ns());
    cr_expect(stat.next_probe_ns > 0 && stat.next_probe_ns <= 36 * S + 10 * MS);
    cr_expect(bed.n_received > 100 && bed.n_received < 200, "%u in an hour: one at a time, at last every 30 s",
              bed.n_received);
    struct evbus_delivery got;
    unsigned n = 0;
    evbus_test_clock_advance(bed.f.bus, 40 * S);
    for (int i = 0; i < 8; i++, evbus_test_clock_advance(bed.f.bus, 250 * MS))
        for (; receive(&bed, &got); n++)
            finish(&bed, &got, EVBUS_DONE, NULL);
    cr_expect_eq(n, 16u, "it is there again: all come within two seconds");
    cr_expect_leq(bed.attempts_max, 2u);
    is_as_it_was(&bed, 16, 4, 0, false);
    bed_end(&bed);
}

/* [guards OUTAGE] */
Test(outcomes, fewer_than_five_bad_events_are_dead_after_three_attempts_each)
{
    for (unsigned n = 1; n <= 4; n++) {
        struct bed bed = bed_make("");
        for (unsigned i = 0; i < n; i++)
            publish(&bed, "bad");
        handle_for(&bed, 60 * S, "no such order");
        cr_expect_eq(bed.n_received, 3 * n);
        is_as_it_was(&bed, 0, 3 * (uint64_t)n, n, false);
        bed_end(&bed);
    }
}

/* [guards OUTAGE] */
Test(outcomes, a_lone_bad_event_is_dead_after_exactly_three_attempts_whatever_else_comes)
{
    struct bed bed = bed_make("");
    for (int round = 0; round < 20; round++) {
        publish(&bed, "good");
        publish(&bed, "bad");
        publish(&bed, "good");
        handle_for(&bed, 14 * S, "no such order");
    }
    is_as_it_was(&bed, 40, 60, 20, false);
    bed_end(&bed);
}

Test(outcomes, different_errors_by_turns_are_no_outage)
{
    struct bed bed = bed_make("\"retry\":[]"); /* each attempt is the last */
    struct evbus_delivery got;
    for (int i = 0; i < 12; i++) {
        publish(&bed, "bad");
        cr_assert(receive(&bed, &got));
        finish(&bed, &got, EVBUS_RETRY, i % 2 == 0 ? "no such order" : "no such customer");
    }
    handle_for(&bed, S, "");
    is_as_it_was(&bed, 0, 12, 12, false);
    bed_end(&bed);
}

Test(outcomes, a_group_that_asks_for_no_guard_has_none)
{
    struct bed bed = bed_make("\"outage\":0");
    for (int i = 0; i < 10; i++)
        publish(&bed, "bad");
    handle_for(&bed, 60 * S, "down");
    is_as_it_was(&bed, 0, 30, 10, false);
    bed_end(&bed);
}

/* What never works must not be all that is tried. */
Test(outcomes, bad_events_that_are_taken_for_an_outage_hold_the_good_ones_up_for_seconds)
{
    struct bed bed = bed_make("");
    for (int i = 0; i < 6; i++)
        publish(&bed, "bad");
    handle_for(&bed, 10 * S, "no such order");
    cr_assert(stat_of(&bed).is_paused);
    for (int i = 0; i < 4; i++)
        publish(&bed, "good");
    handle_for(&bed, 300 * S, "no such order");
    cr_expect_eq(stat_of(&bed).done, 4u);
    bed_end(&bed);
}

/* Likewise among those that wait: the last of them has needed the database, and it is there again. */
Test(outcomes, of_those_that_wait_each_has_its_turn)
{
    struct bed bed = bed_make("");
    for (int i = 0; i < 6; i++)
        publish(&bed, "bad");
    publish(&bed, "bad: no database");
    handle_for(&bed, 20 * S, "failed");
    cr_assert(stat_of(&bed).is_paused);
    uint64_t until = clock_mono_ns() + 600 * S;
    bool is_done = false;
    for (struct evbus_delivery got; !is_done && clock_mono_ns() < until;
         evbus_test_clock_advance(bed.f.bus, 250 * MS)) {
        if (!receive(&bed, &got))
            continue;
        is_done = strstr(got.payload, "database") != NULL;
        finish(&bed, &got, is_done ? EVBUS_DONE : EVBUS_RETRY, "failed");
    }
    cr_expect(is_done);
    bed_end(&bed);
}

/* Whether one that waits or a new one is tried is chosen by chance, so: each time on a bus of its own. The new one only waits behind that
 * which waits; who had the partition took it from himself then, and what was in a handler came once more beside itself. */
Test(outcomes, what_comes_behind_an_event_that_waits_costs_nobody_his_partition)
{
    for (int i = 0; i < 8; i++) {
        struct bed bed = bed_make("\"outage\":2,\"retry\":[\"1s\"]");
        struct evbus_delivery got[3];
        static const char *const keys[] = {"k0", "k1", "k2"};
        uint64_t leases[2];
        for (int k = 0; k < 3; k++)
            publish(&bed, "x");
        for (int k = 0; k < 3; k++)
            cr_assert(receive(&bed, &got[k]));
        for (int k = 0; k < 2; k++)
            cr_assert_eq(evbus_finish(bed.sub, &got[k], EVBUS_RETRY, "down"), EVBUS_OK);
        for (uint32_t p = 0; p < 2; p++)
            leases[p] = atomic_load(&crew_part(bed.f.bus, "mailer", p)->lease);
        for (int k = 0; k < 3; k++)
            cr_assert_eq(fixture_publish(bed.f.bus, keys[k], "1"), EVBUS_OK);
        uint64_t position = got[2].position;
        uint32_t partition = got[2].partition;
        for (int k = 0; k < 4; k++) {
            struct evbus_delivery probe;
            if (receive(&bed, &probe)) {
                cr_expect(probe.position != position || probe.partition != partition, "it is in hand");
                cr_assert_eq(evbus_finish(bed.sub, &probe, EVBUS_RETRY, "down"), EVBUS_OK);
            }
            evbus_test_clock_advance(bed.f.bus, 2 * S);
        }
        for (uint32_t p = 0; p < 2; p++)
            cr_expect_eq(atomic_load(&crew_part(bed.f.bus, "mailer", p)->lease), leases[p], "partition %u", p);
        cr_assert_eq(evbus_finish(bed.sub, &got[2], EVBUS_DONE, NULL), EVBUS_OK, "%s", evbus_message(NULL));
        bed_end(&bed);
    }
}

/* What stood in the handler when its process died: it comes back alone (P7), also where one event at a time is tried. */
Test(outcomes, what_is_due_alone_goes_before_what_is_new_in_a_pause_too)
{
    for (int i = 0; i < 8; i++) {
        struct bed bed = bed_make("\"outage\":2,\"retry\":[\"1s\"]");
        struct evbus_delivery got[6], probe;
        unsigned n_alone[2] = {0}, n_probes = 0;
        for (int k = 0; k < 6; k++)
            publish(&bed, "old");
        for (int k = 0; k < 6; k++)
            cr_assert(receive(&bed, &got[k]));
        for (int k = 0; k < 6; k++)
            finish(&bed, &got[k], EVBUS_RETRY, "down");
        evbus_unsubscribe(bed.sub);
        for (uint32_t p = 0; p < 2; p++) {
            struct group_part *part = crew_part(bed.f.bus, "mailer", p);
            for (int k = 0; k < PENDING_MAX; k++)
                if (pending_load(part, (uint32_t)k, pending_cursor(part)).state == PENDING_WAIT) {
                    atomic_fetch_or(&part->side[k].note, 1);
                    n_alone[p]++;
                }
        }
        join(&bed);
        for (int k = 0; k < 6; k++)
            publish(&bed, "new");
        for (int k = 0; k < 4; k++) {
            evbus_test_clock_advance(bed.f.bus, 40 * S);
            if (!receive(&bed, &probe))
                continue;
            n_probes++;
            cr_expect(strcmp(probe.payload, "\"old\"") == 0 || n_alone[probe.partition] == 0, "%s of partition %u",
                      (const char *)probe.payload, probe.partition);
            finish(&bed, &probe, EVBUS_RETRY, "down");
        }
        cr_expect_gt(n_probes, 0u);
        bed_end(&bed);
    }
}

Test(outcomes, what_is_rejected_or_put_off_neither_counts_nor_ends_a_pause)
{
    struct bed bed = bed_make("");
    struct evbus_delivery got;
    for (int i = 0; i < 10; i++) {
        publish(&bed, "bad");
        cr_assert(receive(&bed, &got));
        finish(&bed, &got, EVBUS_REJECT, "the same");
    }
    handle_for(&bed, S, "");
    is_as_it_was(&bed, 0, 0, 10, false);
    cr_expect_eq(stat_of(&bed).attempts_failed[EVBUS_CAUSE_REJECTED], 10u);
    for (int i = 0; i < 5; i++)
        publish(&bed, "bad");
    handle_for(&bed, S, "down");
    cr_assert(stat_of(&bed).is_paused);
    for (int i = 0; i < 4; i++) {
        evbus_test_clock_advance(bed.f.bus, 40 * S);
        cr_assert(receive(&bed, &got), "%d", i);
        finish(&bed, &got, i == 0 ? EVBUS_RELEASE : i == 1 ? evbus_defer(&got, S) : EVBUS_REJECT, "by hand");
        cr_expect(stat_of(&bed).is_paused, "%d", i);
    }
    bed_end(&bed);
}

/* [P8] */
Test(outcomes, handlers_that_take_too_long_pause_it_and_a_finish_that_comes_too_late_finishes_no_later_run)
{
    struct bed bed = bed_make("\"handler_timeout\":\"1s\"");
    struct evbus_delivery late[6], got, again;
    for (int i = 0; i < 6; i++)
        publish(&bed, "slow");
    for (int i = 0; i < 6; i++)
        cr_assert(receive(&bed, &late[i]), "%d", i);
    evbus_test_clock_advance(bed.f.bus, 2 * S);
    bool is_probe = receive(&bed, &got);
    struct evbus_group_stat stat = stat_of(&bed);
    cr_expect(stat.is_paused);
    cr_expect_eq(stat.attempts_failed[EVBUS_CAUSE_TIMEOUT], 4u);
    for (int i = 0; i < 600 && (!is_probe || got.attempt != 1);
         i++) { /* until one comes whose attempt was taken back */
        if (is_probe)
            finish(&bed, &got, EVBUS_RELEASE, NULL);
        evbus_test_clock_advance(bed.f.bus, S);
        is_probe = receive(&bed, &got);
    }
    cr_assert(is_probe && got.attempt == 1);
    for (int i = 0; i < 6; i++)
        cr_expect_eq(evbus_finish(bed.sub, &late[i], EVBUS_DONE, NULL), EVBUS_EFENCED, "%d", i);
    cr_expect(stat_of(&bed).is_paused, "nothing was done");
    cr_expect_not(receive(&bed, &again), "one at a time");
    finish(&bed, &got, EVBUS_DONE, NULL);
    cr_expect_not(stat_of(&bed).is_paused);
    bed_end(&bed);
}

/* --- what is told ----------------------------------------------------------------------------------------------------- */

static char told[2048];

static void hear(void *context, enum evbus_level level, const char *line)
{
    (void)context;
    if (level <= EVBUS_LOG_WARNING && strncmp(line, "event=group ", 12) == 0)
        snprintf(told + strlen(told), sizeof told - strlen(told), "%s\n", line);
}

static void find(void *context, const struct evbus_finding *finding)
{
    bool *is_found = context;
    *is_found = *is_found || strstr(finding->what, "pauses since") != NULL;
}

Test(outcomes, a_pause_is_told_once_when_it_begins_and_when_it_ends)
{
    struct bed bed = bed_make("");
    struct evbus *bus;
    bool is_found = false;
    struct evbus_delivery got;
    evbus_unsubscribe(bed.sub);
    told[0] = '\0';
    cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                          .bus = bed.f.name,
                                                          .service = "listener",
                                                          .keeper = EVBUS_KEEPER_NEVER,
                                                          .wait = EVBUS_WAIT_BLOCK,
                                                          .log = hear,
                                                          .log_level = EVBUS_LOG_WARNING}),
                 EVBUS_OK);
    cr_assert_eq(evbus_subscribe(&bed.sub, bus,
                                 &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                   .group = "mailer"}),
                 EVBUS_OK);
    for (int i = 0; i < 7; i++)
        publish(&bed, "bad");
    handle_for(&bed, 100 * S, "say \"no\"\n");
    static const char begun[] = "event=group state=paused group=mailer events=5 reason=\"say  no   ";
    cr_expect_eq(strncmp(told, begun, sizeof begun - 1), 0, "%s", told);
    cr_expect_eq(strchr(told, '\n') - told, (ptrdiff_t)strlen(told) - 1, "once: %s", told);
    cr_expect_null(strchr(stat_of(&bed).paused_error, '\n'));
    evbus_doctor(bed.f.bus, find, &is_found);
    cr_expect(is_found, "the doctor tells it");
    evbus_test_clock_advance(bed.f.bus, 40 * S);
    cr_assert(receive(&bed, &got));
    finish(&bed, &got, EVBUS_DONE, NULL);
    cr_expect_not_null(strstr(told, "event=group state=resumed group=mailer\n"), "%s", told);
    evbus_unsubscribe(bed.sub);
    bed.sub = NULL;
    evbus_close(bus);
    bed_end(&bed);
}
