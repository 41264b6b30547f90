/* town.c: processes that publish and consume as long as a test runs. See town.h. */
#include "town.h"

#include "await.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GROUP   "crew"
#define IN_HAND 3 /* events that a member has at once */

/* What the threads of a citizen share. */
struct life {
    const struct citizen *citizen;
    struct evbus *bus;
    _Atomic int rc;
};

struct town *town_make(unsigned partitions, const char *ring)
{
    char catalogue[512];
    struct town *town = child_shared(sizeof *town);
    snprintf(catalogue, sizeof catalogue,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":%u,\"ring\":\"%s\"},"
             "\"topics\":{\"test.a.one\":{\"groups\":[\"" GROUP "\"]},\"test.a.two\":{}},"
             "\"groups\":{\"" GROUP "\":{\"retry\":[\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\"]}}}",
             partitions, ring != NULL ? ring : "256KiB");
    town->f = fixture_make((struct fixture_options){.catalogue = catalogue});
    town->ledger = child_shared(sizeof *town->ledger);
    town->ledger->doomed[0] = 1; /* nobody */
    town->pace = 1;
    return town;
}

static void fail(struct life *life, const char *what, int rc)
{
    struct town *town = life->citizen->town;
    if (atomic_exchange(&town->failed, rc) == 0)
        snprintf(town->what, sizeof town->what, "producer %u, member %u: %s: %d %s", life->citizen->producer,
                 life->citizen->member, what, rc, evbus_message(life->bus));
    life->rc = 1;
}

static void *produce(void *context)
{
    struct life *life = context;
    struct town *town = life->citizen->town;
    uint32_t producer = life->citizen->producer;
    town->tid[producer] = (int)syscall(SYS_gettid);
    for (uint32_t n = 0; n < LEDGER_EVENTS && town->stop == 0; n++) {
        int rc = ledger_publish(town->ledger, 1, life->bus, producer - 1, n, AWAIT_MS * UINT64_C(1000000));
        if (rc != EVBUS_OK) {
            fail(life, "evbus_publish", rc);
            break;
        }
        town->acked[producer] = n + 1;
        for (unsigned i = 0; i < town->pace; i++)
            await_pause();
    }
    town->has_ended[producer] = 1;
    return NULL;
}

/* Those in hand are done. */
static void finish_all(struct life *life, struct evbus_subscription *sub, struct evbus_delivery *hand, unsigned n)
{
    struct town *town = life->citizen->town;
    unsigned member = life->citizen->member;
    for (unsigned i = 0; i < n; i++) {
        struct evbus_delivery event = hand[i];
        ledger_leave(town->ledger, member, &event, false);
        int rc = evbus_finish(sub, &event, EVBUS_DONE, NULL);
        ledger_finished(town->ledger, &event, rc);
        if (rc != EVBUS_OK)
            fail(life, "evbus_finish", rc);
    }
    town->n_in_hand[member] = 0;
}

static void *consume(void *context)
{
    struct life *life = context;
    struct town *town = life->citizen->town;
    unsigned member = life->citizen->member;
    struct evbus_subscription *sub;
    struct evbus_delivery hand[IN_HAND];
    unsigned n = 0;
    town->member_tid[member] = (int)syscall(SYS_gettid);
    int rc = evbus_subscribe(
        &sub, life->bus,
        &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options), .group = GROUP});
    if (rc != EVBUS_OK) {
        fail(life, "evbus_subscribe", rc);
        return NULL;
    }
    while (town->over == 0 && town->failed == 0) {
        hand[n].size = sizeof hand[n];
        rc = evbus_receive(sub, &hand[n], n == 0 ? 20000000 : 0);
        if (rc != EVBUS_OK && rc != EVBUS_ETIMEOUT)
            fail(life, "evbus_receive", rc);
        if (rc == EVBUS_OK) {
            ledger_enter(town->ledger, member, &hand[n]);
            town->n_in_hand[member] = ++n;
        }
        if (rc == EVBUS_OK && n < IN_HAND)
            continue;
        finish_all(life, sub, hand, n);
        n = 0;
    }
    finish_all(life, sub, hand, n); /* else they are given to one who has not been told yet that the town is over */
    evbus_unsubscribe(sub);
    return NULL;
}

int town_live_on(const struct citizen *citizen, struct evbus *bus)
{
    struct life life = {.citizen = citizen, .bus = bus};
    pthread_t producer, member;
    if (citizen->producer != 0 && pthread_create(&producer, NULL, produce, &life) != 0)
        return 2;
    if (citizen->member != 0 && pthread_create(&member, NULL, consume, &life) != 0)
        return 2;
    if (citizen->producer != 0)
        pthread_join(producer, NULL);
    if (citizen->member != 0)
        pthread_join(member, NULL);
    while (citizen->stays && citizen->town->over == 0)
        await_pause();
    return life.rc;
}

int town_live(const struct citizen *citizen)
{
    struct evbus *bus = fixture_open(&citizen->town->f, citizen->member != 0 ? "member" : "producer",
                                     citizen->keeper ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER);
    int rc = town_live_on(citizen, bus);
    evbus_close(bus);
    return rc;
}

static int live(void *context)
{
    return town_live(context);
}

struct child town_bear(const struct citizen *citizen)
{
    struct citizen born = *citizen;
    return child_start(live, &born);
}

void town_doom(const struct citizen *citizen)
{
    citizen->town->is_gone[citizen->producer] = 1;
    citizen->town->ledger->doomed[citizen->member] = 1;
}

struct evbus_stat town_stat(struct town *town)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(town->f.bus, &stat), EVBUS_OK);
    return stat;
}

static void check_record(const struct town *town, const char *after)
{
    cr_assert_eq(town->failed, 0, "after %s: %s", after, town->what);
    cr_assert_eq(town->ledger->failed, 0, "after %s: %s", after, town->ledger->what);
}

/* The first event of those up to `acked` that no handler has begun; else 0. */
static uint32_t missing_of(const struct town *town, uint32_t producer, uint32_t acked)
{
    for (uint32_t n = 0; n < acked; n++)
        if (town->ledger->starts[producer - 1][n] == 0)
            return n + 1;
    return 0;
}

void town_goes_on(struct town *town, const char *after)
{
    uint64_t start = await_now_ms();
    uint32_t acked[LEDGER_PRODUCERS + 1];
    for (uint32_t p = 1; p <= LEDGER_PRODUCERS; p++)
        acked[p] = town->acked[p];
    for (uint32_t p = 1; p <= LEDGER_PRODUCERS; p++) {
        cr_assert(await_that(missing_of(town, p, acked[p]) == 0 || town->failed != 0),
                  "after %s: producer %u's event %u is in nobody's hands (%u are acknowledged)", after, p,
                  missing_of(town, p, acked[p]) - 1, acked[p]);
        if (town->tid[p] != 0)
            cr_assert(await_that(town->is_gone[p] != 0 || town->stop != 0 || town->failed != 0 ||
                                 town->acked[p] >= acked[p] + 20),
                      "after %s: producer %u stands at %u", after, p, town->acked[p]);
    }
    check_record(town, after);
    fprintf(stderr, "%s: all go on after %lu ms\n", after, (unsigned long)(await_now_ms() - start));
}

static int see_pending(void *context, const struct evbus_group_stat *group)
{
    if (strcmp(group->group, GROUP) == 0)
        *(uint32_t *)context = group->n_pending;
    return 0;
}

static uint32_t n_pending(struct town *town)
{
    uint32_t n = 0;
    evbus_groups(town->f.bus, see_pending, &n);
    return n;
}

void town_end(struct town *town, struct child *children, unsigned n_children)
{
    uint64_t n_events = 0;
    town->stop = 1;
    for (uint32_t p = 1; p <= LEDGER_PRODUCERS; p++) {
        cr_assert(await_that(town->tid[p] == 0 || town->has_ended[p] != 0 || town->is_gone[p] != 0),
                  "producer %u does not end", p);
        cr_assert(await_that(missing_of(town, p, town->acked[p]) == 0 || town->failed != 0),
                  "producer %u: event %u of %u is lost", p, missing_of(town, p, town->acked[p]) - 1, town->acked[p]);
        n_events += town->acked[p];
    }
    cr_assert(await_that(n_pending(town) == 0 || town->failed != 0), "%u events are left pending", n_pending(town));
    check_record(town, "the end");
    town->over = 1;
    for (unsigned i = 0; i < n_children; i++) {
        int status = child_join(&children[i]);
        cr_assert_eq(status, 0, "child %u ended with %d: %s", i, status, town->what);
    }
    for (uint32_t p = 1; p <= LEDGER_PRODUCERS; p++)
        cr_assert_eq(missing_of(town, p, town->acked[p]), 0u, "producer %u", p);
    check_record(town, "the end");
    fprintf(stderr, "%lu events, %lu given again; lost 0, out of order 0\n", (unsigned long)n_events,
            (unsigned long)town->ledger->n_repeats);
    fixture_end(&town->f);
}
