/* A member that is killed while it fails, pauses its group, probes or ends the pause: at any instruction of it, and as a whole member.
 * [guards OUTAGE] */
#include "await.h"
#include "bus.h"
#include "child.h"
#include "clock.h"
#include "fixture.h"
#include "group.h"
#include "outage.h"
#include "step.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <evbus/admin.h>
#include <evbus/testing.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

enum { EVENTS = 3 };

/* --- at any instruction ----------------------------------------------------------------------------------------------- */

struct life {
    struct outage *outage; /* shared */
    struct slot *slots;    /* of nobody: they live */
    struct member *members;
    uint64_t kill_at;
};

static enum outage_verdict fails(const struct life *life, uint64_t event)
{
    return outage_failed(life->outage, &(struct outage_failure){.way = outage_way(CAUSE_FAILED, "down"),
                                                                .event = outage_event(0, 0, event),
                                                                .n_events = EVENTS,
                                                                .error = "down",
                                                                .wall_ns = S});
}

static uint64_t probe(const struct life *life, uint32_t place, uint64_t now_ns)
{
    uint64_t due_ns = UINT64_MAX;
    struct outage_prober prober = {.slots = life->slots,
                                   .members = life->members,
                                   .place = place,
                                   .owner = atomic_load(&life->members[place].owner),
                                   .limit_ns = 60 * S};
    return outage_probe(life->outage, &prober, now_ns, &due_ns);
}

/* Three fail, so it pauses; two probes fail; one is done. */
static int live(void *context)
{
    struct life *life = context;
    step_begin(step_kill, &life->kill_at);
    for (uint64_t i = 1; i <= EVENTS; i++)
        fails(life, i);
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t ours = probe(life, 1, (100 + 10 * i) * S);
        fails(life, 1);
        outage_probe_failed(life->outage, ours, (101 + 10 * i) * S);
    }
    outage_succeeded(life->outage);
    step_end();
    return 0;
}

Test(outage, killed_at_any_instruction_leaves_a_group_that_pauses_probes_and_goes_on, .timeout = 240)
{
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    struct life life = {.outage = child_shared(sizeof(struct outage)),
                        .slots = child_shared(8 * sizeof(struct slot)),
                        .members = child_shared(MEMBERS_MAX * sizeof(struct member))};
    uint64_t stride = getenv("EVBUS_QUICK") != NULL ? 17 : trial_is_soak() ? 1 : 3;
    int status = -1;
    for (life.kill_at = 1; status != 0; life.kill_at += stride) {
        memset(life.outage, 0, sizeof *life.outage);
        atomic_store(&life.members[1].owner, PIN_OWNER(7, 1));
        atomic_store(&life.members[2].owner, PIN_OWNER(8, 2));
        struct child child = child_start(live, &life);
        status = child_join(&child);
        cr_assert(status == 0 || status == 128 + 9, "instruction %" PRIu64 ": status %d", life.kill_at, status);
        atomic_store(&life.members[1].owner, 0); /* buried */
        bool was_paused = OUTAGE_IS_PAUSED(outage_streak(life.outage));
        unsigned n_charged = 0;
        for (uint64_t i = 11; i <= 10 + EVENTS; i++)
            n_charged += fails(&life, i) == OUTAGE_CHARGE;
        cr_assert(OUTAGE_IS_PAUSED(outage_streak(life.outage)), "instruction %" PRIu64 ": it does not pause",
                  life.kill_at);
        cr_assert_lt(n_charged, (unsigned)EVENTS, "instruction %" PRIu64, life.kill_at);
        cr_assert(!was_paused || n_charged == 0, "instruction %" PRIu64 ": charged in a pause", life.kill_at);
        uint64_t ours = probe(&life, 2, 1000 * S);
        cr_assert_neq(ours, 0u, "instruction %" PRIu64 ": nobody can probe", life.kill_at);
        cr_assert_eq(probe(&life, 3, 1000 * S), 0u, "instruction %" PRIu64 ": two probe", life.kill_at);
        struct outage_view view;
        outage_look(life.outage, &view);
        cr_assert(view.is_paused && view.n_events >= 1 && view.n_events <= EVENTS);
        cr_assert(outage_succeeded(life.outage));
        cr_assert_not(OUTAGE_IS_PAUSED(outage_streak(life.outage)));
    }
    cr_assert_gt(life.kill_at, 300u, "it was not stepped");
}

/* --- as a member ---------------------------------------------------------------------------------------------------------- */

static const char catalogue[] =
    "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"64KiB\",\"retry\":["
    "\"10ms\",\"10ms\"]},"
    "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]}},\"groups\":{\"mailer\":{\"outage\":3}}}";

struct member_of {
    const char *bus;
    const char *point;
    unsigned n; /* the how-manieth time that it passes there is its last */
};

static enum evbus_outcome fail(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    (void)event;
    strcpy(error, "down");
    return EVBUS_RETRY;
}

/* Fails whatever it gets, and is killed where it is told. */
static int be_member(void *context)
{
    const struct member_of *of = context;
    struct evbus *bus;
    struct evbus_subscription *sub;
    struct evbus_options options = {.size = sizeof options, .bus = of->bus, .service = "mortal"};
    struct evbus_subscribe_options group = {.size = sizeof group, .group = "mailer", .handler = fail};
    if (evbus_open(&bus, &options) != EVBUS_OK || evbus_subscribe(&sub, bus, &group) != EVBUS_OK ||
        evbus_test_crash_at(of->point, of->n) != EVBUS_OK)
        return 1;
    for (int i = 0; i < 400; i++)
        evbus_run_once(sub, 50 * MS);
    return 2;
}

static int keep(void *context, const struct evbus_group_stat *group)
{
    *(struct evbus_group_stat *)context = *group;
    return 0;
}

Test(outage, the_probe_of_a_member_that_is_killed_goes_to_another, .timeout = 240)
{
    static const struct {
        const char *point;
        unsigned n;
    } rows[] = {
        {"group.running", 3},   /* the event that would have paused it */
        {"group.finishing", 3}, /* likewise */
        {"group.finished", 3},  /* paused */
        {"group.running", 4},   /* the first probe */
        {"group.finishing", 4}, {"group.finished", 4}, {"group.running", 5},
    };
    size_t n_rows = getenv("EVBUS_QUICK") != NULL ? 4 : sizeof rows / sizeof rows[0];
    for (size_t i = 0; i < n_rows; i++) {
        struct fixture f = fixture_make((struct fixture_options){.catalogue = catalogue});
        struct member_of of = {f.name, rows[i].point, rows[i].n};
        struct evbus_group_stat stat = {0};
        struct evbus_subscription *sub;
        char key[8];
        for (int k = 0; k < 6; k++) {
            snprintf(key, sizeof key, "k%d", k);
            cr_assert_eq(fixture_publish(f.bus, key, "\"x\""), EVBUS_OK);
        }
        struct child child = child_start(be_member, &of);
        int status = child_join(&child);
        cr_assert_eq(status, 128 + 9, "%s %u: status %d", of.point, of.n, status);
        cr_assert_eq(evbus_subscribe(&sub, f.bus,
                                     &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                       .group = "mailer"}),
                     EVBUS_OK);
        unsigned n_done = 0;
        for (struct evbus_delivery got = {.size = sizeof got}; n_done < 6; n_done++) {
            cr_assert_eq(evbus_receive(sub, &got, 20 * S), EVBUS_OK, "%s %u: after %u events: %s", of.point, of.n,
                         n_done, evbus_message(NULL));
            cr_expect_leq(got.attempt, 2u, "%s %u", of.point, of.n);
            cr_assert_eq(evbus_finish(sub, &got, EVBUS_DONE, NULL), EVBUS_OK);
        }
        evbus_groups(f.bus, keep, &stat);
        cr_expect(!stat.is_paused && stat.done == 6 && stat.dead_letters == 0 && stat.n_pending == 0, "%s %u", of.point,
                  of.n);
        uint64_t n_charged = stat.attempts_failed[EVBUS_CAUSE_FAILED] + stat.attempts_failed[EVBUS_CAUSE_CRASHED];
        cr_expect(n_charged >= 2 && n_charged <= 3, "%s %u: %" PRIu64, of.point, of.n, n_charged);
        evbus_unsubscribe(sub);
        fixture_end(&f);
    }
}
