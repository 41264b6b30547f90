/* Groups whose members come and go, are killed and stopped at random; and how long a takeover takes. */
#include "await.h"
#include "child.h"
#include "crew.h"
#include "ledger.h"
#include "trial.h"

#include "bus.h"
#include "clock.h"
#include "lease.h"
#include "slot.h"
#include "topic.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GROUP "crew"

/* --- a storm -------------------------------------------------------------------------------------------------------------- */

#define MEMBERS  4
#define IN_HAND  3   /* events that a member has in hand at once, or handlers of it */
#define RETRY_AT 977 /* each so-manieth number is tried twice */

enum weather { CALM, COME_AND_GO, KILLED };

struct storm {
    struct fixture f;
    struct ledger *ledger;
    uint32_t n_each; /* events of each producer */
    enum weather weather;
    uint32_t producer; /* for the child that is started next */
    unsigned member;   /* likewise */
};

static int produce(void *context)
{
    struct storm *storm = context;
    struct evbus *bus = fixture_open(&storm->f, "producer", EVBUS_KEEPER_NEVER);
    for (uint32_t n = 0; n < storm->n_each; n++) {
        int rc = ledger_publish(storm->ledger, 1, bus, storm->producer, n, 20 * CLOCK_NS_PER_S);
        if (rc != EVBUS_OK) {
            fprintf(stderr, "producer %u, event %u: %d %s\n", storm->producer, n, rc, evbus_message(bus));
            return 1;
        }
    }
    evbus_close(bus);
    return 0;
}

/* What a handler does: nothing; where members are killed it takes its time now and then, or asks for another attempt. */
static bool work(const struct storm *storm, const struct evbus_delivery *event, unsigned starts)
{
    uint64_t random = event->position;
    if (storm->weather == CALM)
        return false;
    if (trial_random(&random) % 64 == 0)
        for (uint64_t until = clock_mono_ns() + 100 * CLOCK_NS_PER_US; clock_mono_ns() < until;)
            clock_relax();
    return starts == 1 && event->position % RETRY_AT == 0;
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct storm *storm = context;
    unsigned starts = ledger_enter(storm->ledger, storm->member, event);
    bool asks = work(storm, event, starts);
    (void)error;
    ledger_leave(storm->ledger, storm->member, event, asks ? EVBUS_RETRY : EVBUS_DONE);
    return asks ? EVBUS_RETRY : EVBUS_DONE;
}

static struct evbus_subscription *running; /* in a member that runs */
static volatile sig_atomic_t is_ending;

static void on_end(int number)
{
    (void)number;
    is_ending = 1;
    if (running != NULL)
        evbus_stop(running);
}

/* A loop of its own, with several events in hand. */
static int receive_many(struct storm *storm, struct evbus *bus, struct evbus_subscription *sub)
{
    struct evbus_delivery hand[IN_HAND];
    bool asks[IN_HAND];
    unsigned n = 0;
    for (;;) {
        hand[n].size = sizeof hand[n];
        int rc = evbus_receive(sub, &hand[n], n == 0 ? 20 * CLOCK_NS_PER_MS : 0);
        if (rc == EVBUS_OK) {
            unsigned starts = ledger_enter(storm->ledger, storm->member, &hand[n]);
            asks[n] = work(storm, &hand[n], starts);
            n++;
        } else if (rc != EVBUS_ETIMEOUT) {
            fprintf(stderr, "member %u: %d %s\n", storm->member, rc, evbus_message(bus));
            return 1;
        }
        if (n < IN_HAND && rc == EVBUS_OK)
            continue;
        for (unsigned i = 0; i < n; i++) {
            struct evbus_delivery event = hand[i];
            ledger_finish(storm->ledger, storm->member, sub, &event, asks[i] ? EVBUS_RETRY : EVBUS_DONE);
        }
        n = 0;
        if (is_ending)
            return 0;
    }
}

static int be_member(void *context)
{
    struct storm *storm = context;
    struct evbus *bus = fixture_open(&storm->f, "member",
                                     storm->member % 2 == 0 ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = crew_join(bus, GROUP, storm->member % 2 == 0 ? handle : NULL, storm);
    if (sub == NULL)
        return 1;
    running = sub;
    int rc = 0;
    if (storm->member % 2 != 0)
        rc = receive_many(storm, bus, sub);
    else if (is_ending == 0)
        rc = evbus_run(sub, &(struct evbus_run_options){.size = sizeof(struct evbus_run_options), .threads = IN_HAND});
    if (rc != 0)
        fprintf(stderr, "member %u ended with %d %s\n", storm->member, rc, evbus_message(bus));
    running = NULL;
    evbus_unsubscribe(sub);
    evbus_close(bus);
    return rc == 0 ? 0 : 1;
}

static struct child start_member(struct storm *storm, unsigned *inout_born)
{
    storm->member = ++*inout_born;
    return child_start(be_member, storm);
}

/* Sends one away, or kills it, and another comes; or stops one for a while. */
static void do_harm(struct storm *storm, struct child *members, unsigned *born_of, unsigned *inout_born,
                    uint64_t *random, unsigned *inout_kills, unsigned *inout_stops)
{
    unsigned victim = (unsigned)(trial_random(random) % MEMBERS);
    if (storm->weather == COME_AND_GO) {
        struct child leaver = members[victim];
        kill(leaver.pid, SIGTERM);
        members[victim] = start_member(storm, inout_born); /* while the other one is leaving */
        cr_assert_eq(child_join(&leaver), 0, "member %u failed", born_of[victim]);
        born_of[victim] = *inout_born;
        return;
    }
    if (trial_random(random) % 3 == 0) {
        child_stop(&members[victim]);
        for (uint64_t until = clock_mono_ns() + CLOCK_NS_PER_MS + trial_random(random) % (8 * CLOCK_NS_PER_MS);
             clock_mono_ns() < until;)
            await_pause();
        child_continue(&members[victim]);
        ++*inout_stops;
        return;
    }
    storm->ledger->doomed[born_of[victim]] = 1;
    child_kill(&members[victim]);
    members[victim] = start_member(storm, inout_born);
    born_of[victim] = *inout_born;
    ++*inout_kills;
}

static void storm_over(struct storm *storm, uint64_t seed)
{
    struct ledger *ledger = storm->ledger;
    struct child members[MEMBERS];
    struct child producers[LEDGER_PRODUCERS];
    unsigned born_of[MEMBERS];
    unsigned n_born = 0;
    unsigned n_kills = 0;
    unsigned n_stops = 0;
    uint64_t random = seed;
    uint64_t start = clock_mono_ns();
    ledger->doomed[0] = 1;   /* nobody */
    signal(SIGTERM, on_end); /* the members' */
    for (unsigned i = 0; i < MEMBERS; i++) {
        members[i] = start_member(storm, &n_born);
        born_of[i] = n_born;
    }
    for (uint32_t i = 0; i < LEDGER_PRODUCERS; i++) {
        storm->producer = i;
        producers[i] = child_start(produce, storm);
    }
    uint64_t n_seen = 0;
    uint64_t quiet_since = await_now_ms();
    while (ledger->n_first < (uint64_t)LEDGER_PRODUCERS * storm->n_each || ledger_missing(ledger, storm->n_each) > 0) {
        if (ledger->n_first >= (uint64_t)LEDGER_PRODUCERS * storm->n_each - LEDGER_MEMBERS &&
            ledger_missing(ledger, storm->n_each) == 0)
            break; /* the count is short by what was killed while it counted */
        if (storm->weather != CALM && n_born < LEDGER_MEMBERS - 1)
            do_harm(storm, members, born_of, &n_born, &random, &n_kills, &n_stops);
        for (uint64_t until = clock_mono_ns() + 2 * CLOCK_NS_PER_MS; clock_mono_ns() < until;)
            await_pause();
        if (ledger->n_first != n_seen)
            quiet_since = await_now_ms();
        n_seen = ledger->n_first;
        cr_assert_eq(ledger->failed, 0, "%s", ledger->what);
        struct evbus_group_stat stat = crew_stat(storm->f.bus, GROUP);
        cr_assert_lt(await_now_ms() - quiet_since, AWAIT_MS,
                     "no event for %d s; %lu are missing; %u members, lag %lu, %u pending: %u running, %u waiting, %u "
                     "dead",
                     AWAIT_MS / 1000, (unsigned long)ledger_missing(ledger, storm->n_each), stat.n_members,
                     (unsigned long)stat.lag, stat.n_pending, stat.n_running, stat.n_waiting, stat.n_dead);
    }
    uint64_t ms = (clock_mono_ns() - start) / CLOCK_NS_PER_MS;
    for (uint32_t i = 0; i < LEDGER_PRODUCERS; i++)
        cr_assert_eq(child_join(&producers[i]), 0, "producer %u failed", i);
    cr_assert(await_that(crew_stat(storm->f.bus, GROUP).n_pending == 0), "%u events are left pending",
              crew_stat(storm->f.bus, GROUP).n_pending);
    cr_assert_eq(ledger->failed, 0, "%s", ledger->what);
    fprintf(stderr, "%lu events in %lu ms, %u members, %u killed, %u stopped; %lu repeats, %lu uncounted starts; by",
            (unsigned long)storm->n_each * LEDGER_PRODUCERS, (unsigned long)ms, n_born, n_kills, n_stops,
            (unsigned long)ledger->n_repeats, (unsigned long)ledger->n_uncounted);
    for (unsigned i = 0; i < MEMBERS; i++)
        fprintf(stderr, " %lu", (unsigned long)ledger->handled[born_of[i]]);
    fprintf(stderr, "\n");
    for (unsigned i = 0; i < MEMBERS; i++)
        kill(members[i].pid, SIGTERM);
    for (unsigned i = 0; i < MEMBERS; i++)
        cr_assert_eq(child_join(&members[i]), 0, "member %u failed", born_of[i]);
    cr_assert_leq(ledger->n_uncounted, (uint64_t)n_kills * IN_HAND,
                  "more attempts were charged than handlers can have been about to begin at %u kills", n_kills);
}

static struct storm make_storm(enum weather weather)
{
    return (struct storm){
        .f = crew_bus((struct crew_options){
            .partitions = 4,
            .ring = "256KiB",
            .settings = "\"retry\":[\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\"]",
            .keeper = true}),
        .ledger = child_shared(sizeof(struct ledger)),
        .n_each = (uint32_t)(trial_count(1000000, 100000) / LEDGER_PRODUCERS),
        .weather = weather,
    };
}

Test(groups, four_members_handle_each_event_once_and_in_order_per_key, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] */
    struct storm storm = make_storm(CALM);
    storm_over(&storm, 0);
    struct evbus_group_stat stat = crew_stat(storm.f.bus, GROUP);
    cr_assert_eq(stat.done, (uint64_t)storm.n_each * LEDGER_PRODUCERS);
    cr_assert_eq(storm.ledger->n_repeats + stat.redelivered, 0, "%lu events were handled again, nobody died",
                 (unsigned long)storm.ledger->n_repeats);
    cr_assert_null(crew_pins(storm.f.bus, GROUP), "%s", crew_pins(storm.f.bus, GROUP));
    fixture_end(&storm.f);
}

Test(groups, members_that_come_and_go_hand_over_between_two_events, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] */
    struct storm storm = make_storm(COME_AND_GO);
    storm_over(&storm, trial_seed("groups/members_that_come_and_go_hand_over_between_two_events"));
    cr_assert_null(crew_pins(storm.f.bus, GROUP), "%s", crew_pins(storm.f.bus, GROUP));
    fixture_end(&storm.f);
}

Test(groups, members_that_are_killed_and_stopped_lose_nothing_and_repeat_only_what_they_had_in_hand, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] P1-P7 */
    struct storm storm = make_storm(KILLED);
    storm_over(
        &storm,
        trial_seed("groups/members_that_are_killed_and_stopped_lose_nothing_and_repeat_only_what_they_had_in_hand"));
    cr_assert_null(crew_pins(storm.f.bus, GROUP), "%s", crew_pins(storm.f.bus, GROUP));
    fixture_end(&storm.f);
}

/* --- how long a takeover takes -------------------------------------------------------------------------------------------- */

enum end { PROCESS_IDLE, PROCESS_IN_HAND, THREAD_IDLE, THREAD_IN_HAND };
static const char *const end_names[] = {"a process is killed while idle", "a process is killed in a handler",
                                        "a thread ends by SYS_exit while idle",
                                        "a thread ends by SYS_exit in a handler"};

struct takeover {
    struct fixture f;
    enum end end;
    char key[16]; /* of the victim's partition */
    struct takeover_notes {
        _Atomic uint64_t victim_has; /* number that it has in hand */
        _Atomic uint64_t begun;      /* by the survivor */
        _Atomic uint64_t begun_ns;
        _Atomic uint64_t ended_ns;
        _Atomic uint32_t survivor_slot;
        _Atomic uint32_t victim_slot;
        _Atomic int may_end;
    } * notes;
};

static bool is_thread(const struct takeover *takeover)
{
    return takeover->end == THREAD_IDLE || takeover->end == THREAD_IN_HAND;
}

static bool is_in_hand(const struct takeover *takeover)
{
    return takeover->end == PROCESS_IN_HAND || takeover->end == THREAD_IN_HAND;
}

static uint32_t own_slot(struct evbus *bus)
{
    struct bus_thread *thread;
    return bus_thread(bus, &thread, NULL) == EVBUS_OK ? thread->claim.slot : 0;
}

static int survive(void *context)
{
    struct takeover *takeover = context;
    struct evbus *bus = fixture_open(&takeover->f, "survivor", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = crew_join(bus, GROUP, NULL, NULL);
    if (sub == NULL)
        return 1;
    takeover->notes->survivor_slot = own_slot(bus);
    for (;;) {
        struct evbus_delivery event = {.size = sizeof event};
        if (evbus_receive(sub, &event, UINT64_MAX) != EVBUS_OK)
            return 1;
        takeover->notes->begun_ns = clock_mono_ns();
        takeover->notes->begun = strtoull(event.payload, NULL, 10);
        if (evbus_finish(sub, &event, EVBUS_DONE, NULL) != EVBUS_OK)
            return 1;
    }
}

static void *be_victim(void *context)
{
    struct takeover *takeover = context;
    struct evbus *bus = fixture_open(&takeover->f, "victim", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = crew_join(bus, GROUP, NULL, NULL);
    if (sub == NULL)
        _exit(1);
    takeover->notes->victim_slot = own_slot(bus);
    for (;;) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, takeover->notes->may_end != 0 ? 0 : 5 * CLOCK_NS_PER_MS);
        if (rc == EVBUS_OK)
            takeover->notes->victim_has = strtoull(event.payload, NULL, 10);
        while (rc == EVBUS_OK && takeover->notes->may_end == 0)
            await_pause();
        if (takeover->notes->may_end == 0)
            continue;
        takeover->notes->ended_ns = clock_mono_ns();
        syscall(SYS_exit, 0);
    }
}

static int run_victim(void *context)
{
    pthread_t thread;
    if (!is_thread(context))
        be_victim(context);
    if (pthread_create(&thread, NULL, be_victim, context) != 0)
        return 1;
    for (;;)
        await_pause(); /* the process lives on */
}

static bool victim_has_its_partition(const struct takeover *takeover)
{
    uint32_t holder = lease_holder(crew_part(takeover->f.bus, GROUP, 1));
    return takeover->notes->victim_slot != 0 && holder == takeover->notes->victim_slot;
}

/* The keeper has seen it, and sleeps on its lock word too: as with any member that is older than 10 ms. */
static bool victim_is_watched(const struct takeover *takeover)
{
    const struct slot *slots = takeover->f.bus->memory.control->slots;
    return (atomic_load(slot_lock_word(&slots[takeover->notes->victim_slot])) & SLOT_WAITERS) != 0;
}

static uint64_t take_over_once(struct takeover *takeover, uint64_t number)
{
    char payload[24];
    struct takeover_notes *notes = takeover->notes;
    snprintf(payload, sizeof payload, "%" PRIu64, number);
    notes->victim_slot = 0;
    notes->may_end = 0;
    struct child victim = child_start(run_victim, takeover);
    cr_assert(await_that(victim_has_its_partition(takeover)), "the victim does not get its share");
    if (is_in_hand(takeover)) {
        cr_assert_eq(fixture_publish(takeover->f.bus, takeover->key, payload), EVBUS_OK);
        cr_assert(await_that(notes->victim_has == number));
    }
    cr_assert(await_that(victim_is_watched(takeover)), "the keeper does not see a new member");
    notes->ended_ns = 0;
    if (is_thread(takeover)) {
        notes->may_end = 1;
        cr_assert(await_that(notes->ended_ns != 0));
    } else {
        notes->ended_ns = clock_mono_ns();
        child_kill(&victim);
    }
    if (!is_in_hand(takeover))
        cr_assert_eq(fixture_publish(takeover->f.bus, takeover->key, payload), EVBUS_OK);
    cr_assert(await_that(notes->begun == number), "nobody took over, %s", end_names[takeover->end]);
    uint64_t ns = notes->begun_ns - notes->ended_ns;
    if (is_thread(takeover))
        child_kill(&victim);
    return ns;
}

Test(groups, a_dead_members_partitions_go_to_another_at_once, .timeout = 240)
{ /* [guards PROGRESS] */
    static uint64_t times[1000];
    uint64_t number = 0;
    struct takeover takeover = {
        .f = crew_bus((struct crew_options){
            .partitions = 2, .ring = "64KiB", .settings = "\"retry\":[\"1ms\",\"1ms\"]", .keeper = true}),
        .notes = child_shared(sizeof(struct takeover_notes)),
    };
    crew_key(1, takeover.key);
    struct child survivor = child_start(survive, &takeover);
    cr_assert(await_that(takeover.notes->survivor_slot != 0 &&
                         lease_holder(crew_part(takeover.f.bus, GROUP, 1)) == takeover.notes->survivor_slot));
    for (takeover.end = PROCESS_IDLE; takeover.end <= THREAD_IN_HAND; takeover.end++) {
        uint64_t n = trial_count(is_thread(&takeover) ? 100 : 200, is_thread(&takeover) ? 10 : 30);
        for (uint64_t i = 0; i < n; i++)
            times[i] = take_over_once(&takeover, ++number);
        uint64_t p50 = trial_quantile(times, n, 500);
        uint64_t p99 = trial_quantile(times, n, 990);
        fprintf(stderr, "%s: another goes on after p50 %.2f p99 %.2f max %.2f ms, %lu times\n", end_names[takeover.end],
                (double)p50 / 1e6, (double)p99 / 1e6, (double)times[n - 1] / 1e6, (unsigned long)n);
        cr_assert_lt(times[n - 1], 2 * CLOCK_NS_PER_S, "%s: %.1f ms", end_names[takeover.end],
                     (double)times[n - 1] / 1e6);
    }
    child_kill(&survivor);
    fixture_end(&takeover.f);
}
