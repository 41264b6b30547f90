/* Groups whose members are killed and stopped: at random, and at each machine instruction. */
#include "await.h"
#include "child.h"
#include "fixture.h"
#include "ledger.h"
#include "step.h"
#include "trial.h"

#include "bus.h"
#include "clock.h"
#include "group.h"
#include "lease.h"
#include "pending.h"
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
#include <sys/wait.h>
#include <unistd.h>

#define GROUP "crew"

/* Log test.a; topic test.a.one is crew's, which has these settings; test.a.two is that of `others`, e.g. "\"other\"". */
static struct fixture make_bus_for(const char *others, unsigned partitions, const char *ring, const char *settings,
                                   bool keeper)
{
    static char catalogue[1024];
    snprintf(catalogue, sizeof catalogue,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":%u,\"ring\":\"%s\"},"
             "\"topics\":{\"test.a.one\":{\"groups\":[\"crew\"]},\"test.a.two\":{\"groups\":[%s]}},"
             "\"groups\":{\"crew\":{%s}}}",
             partitions, ring, others, settings);
    return fixture_make((struct fixture_options){.catalogue = catalogue, .keeper = keeper});
}

static struct fixture make_bus(unsigned partitions, const char *ring, const char *settings, bool keeper)
{
    return make_bus_for("", partitions, ring, settings, keeper);
}

static struct evbus_subscription *join_group(struct evbus *bus, const char *group, evbus_handler *handler,
                                             void *context)
{
    struct evbus_subscription *sub;
    struct evbus_subscribe_options options = {
        .size = sizeof options, .group = group, .handler = handler, .context = context};
    int rc = evbus_subscribe(&sub, bus, &options);
    if (rc != EVBUS_OK)
        fprintf(stderr, "evbus_subscribe: %d %s\n", rc, evbus_message(bus));
    return rc == EVBUS_OK ? sub : NULL;
}

static struct evbus_subscription *join(struct evbus *bus, evbus_handler *handler, void *context)
{
    return join_group(bus, GROUP, handler, context);
}

static int see_group(void *context, const struct evbus_group_stat *group)
{
    if (strcmp(group->group, GROUP) == 0)
        *(struct evbus_group_stat *)context = *group;
    return 0;
}

static struct evbus_group_stat group_stat(struct evbus *bus)
{
    struct evbus_group_stat stat = {0};
    evbus_groups(bus, see_group, &stat);
    return stat;
}

static struct group_part *part_of(struct evbus *bus, uint32_t partition)
{
    return memory_part(&bus->memory.logs[0], partition, group_find(&bus->memory, GROUP));
}

/* Nothing is pinned once all is handled: the group's low is the tail. NULL: so it is. */
static const char *see_pins(struct evbus *bus)
{
    static char text[200];
    uint32_t group = group_find(&bus->memory, GROUP);
    for (uint32_t p = 0; p < bus->memory.logs[0].n_partitions; p++) {
        struct ring *ring = &bus->memory.logs[0].rings[p];
        uint64_t low = LOW_BEHIND(atomic_load(&ring->head->lows[group_low_index(group)])) - 1;
        snprintf(text, sizeof text, "partition %u: low %" PRIu64 ", cursor %" PRIu64 ", tail %" PRIu64, p, low,
                 pending_cursor(part_of(bus, p)), ring_tail(ring));
        if (low != ring_tail(ring))
            return text;
    }
    return NULL;
}

/* A key of this one of two partitions. */
static void key_for(uint32_t partition, char out_key[16])
{
    unsigned i = 0;
    do
        snprintf(out_key, 16, "k%u", i++);
    while (topic_partition(topic_key_hash(out_key, strlen(out_key), NULL), 2) != partition);
}

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
        int rc = ledger_publish(bus, storm->producer, n, 20 * CLOCK_NS_PER_S);
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
    ledger_leave(storm->ledger, storm->member, event, asks);
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
            ledger_leave(storm->ledger, storm->member, &event, asks[i]);
            rc = evbus_finish(sub, &event, asks[i] ? EVBUS_RETRY : EVBUS_DONE, asks[i] ? "once more" : NULL);
            ledger_finished(storm->ledger, &event, rc);
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
    struct evbus_subscription *sub = join(bus, storm->member % 2 == 0 ? handle : NULL, storm);
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
        struct evbus_group_stat stat = group_stat(storm->f.bus);
        cr_assert_lt(await_now_ms() - quiet_since, AWAIT_MS,
                     "no event for %d s; %lu are missing; %u members, lag %lu, %u pending: %u running, %u waiting, %u "
                     "dead",
                     AWAIT_MS / 1000, (unsigned long)ledger_missing(ledger, storm->n_each), stat.n_members,
                     (unsigned long)stat.lag, stat.n_pending, stat.n_running, stat.n_waiting, stat.n_dead);
    }
    uint64_t ms = (clock_mono_ns() - start) / CLOCK_NS_PER_MS;
    for (uint32_t i = 0; i < LEDGER_PRODUCERS; i++)
        cr_assert_eq(child_join(&producers[i]), 0, "producer %u failed", i);
    cr_assert(await_that(group_stat(storm->f.bus).n_pending == 0), "%u events are left pending",
              group_stat(storm->f.bus).n_pending);
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
        .f = make_bus(4, "256KiB", "\"retry\":[\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\"]", true),
        .ledger = child_shared(sizeof(struct ledger)),
        .n_each = (uint32_t)(trial_count(1000000, 100000) / LEDGER_PRODUCERS),
        .weather = weather,
    };
}

Test(groups, four_members_handle_each_event_once_and_in_order_per_key, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] */
    struct storm storm = make_storm(CALM);
    storm_over(&storm, 0);
    struct evbus_group_stat stat = group_stat(storm.f.bus);
    cr_assert_eq(stat.done, (uint64_t)storm.n_each * LEDGER_PRODUCERS);
    cr_assert_eq(storm.ledger->n_repeats + stat.redelivered, 0, "%lu events were handled again, nobody died",
                 (unsigned long)storm.ledger->n_repeats);
    cr_assert_null(see_pins(storm.f.bus), "%s", see_pins(storm.f.bus));
    fixture_end(&storm.f);
}

Test(groups, members_that_come_and_go_hand_over_between_two_events, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] */
    struct storm storm = make_storm(COME_AND_GO);
    storm_over(&storm, trial_seed("groups/members_that_come_and_go_hand_over_between_two_events"));
    cr_assert_null(see_pins(storm.f.bus), "%s", see_pins(storm.f.bus));
    fixture_end(&storm.f);
}

Test(groups, members_that_are_killed_and_stopped_lose_nothing_and_repeat_only_what_they_had_in_hand, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] P1-P7 */
    struct storm storm = make_storm(KILLED);
    storm_over(
        &storm,
        trial_seed("groups/members_that_are_killed_and_stopped_lose_nothing_and_repeat_only_what_they_had_in_hand"));
    cr_assert_null(see_pins(storm.f.bus), "%s", see_pins(storm.f.bus));
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
    struct evbus_subscription *sub = join(bus, NULL, NULL);
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
    struct evbus_subscription *sub = join(bus, NULL, NULL);
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
    uint32_t holder = lease_holder(part_of(takeover->f.bus, 1));
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
        .f = make_bus(2, "64KiB", "\"retry\":[\"1ms\",\"1ms\"]", true),
        .notes = child_shared(sizeof(struct takeover_notes)),
    };
    key_for(1, takeover.key);
    struct child survivor = child_start(survive, &takeover);
    cr_assert(await_that(takeover.notes->survivor_slot != 0 &&
                         lease_holder(part_of(takeover.f.bus, 1)) == takeover.notes->survivor_slot));
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

/* --- killed, or stopped, at each instruction ------------------------------------------------------------------------------ */

#define EVENTS_MAX 3
#define STEPS_MAX  1000000 /* of one call: EVBUS_STEP is call * STEPS_MAX + step */
#define RETRIES    "\"retry\":[\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\"]"

/* What a member does with a point's events, which are made of keys a and b: 1 is a's first, 2 a's second, 3 b's. */
enum script { DOES_IT, HAS_FOLLOWERS, TRIES_AGAIN, REJECTS, TAKES_OVER, TAKES_WHAT_COMES, N_SCRIPTS };

static const struct {
    const char *what;
    const char *keys;
} scripts[N_SCRIPTS] = {
    [DOES_IT] = {"take and finish", "ab"},
    [HAS_FOLLOWERS] = {"take and finish with a follower", "aab"},
    [TRIES_AGAIN] = {"retry and release", "aa"},
    [REJECTS] = {"reject, with its dead letter", "aa"},
    [TAKES_OVER] = {"take over from the dead", "aab"},
    [TAKES_WHAT_COMES] = {"take what comes", "aab"},
};

/* Of one point, outside the bus; by event. */
struct deeds {
    _Atomic unsigned started[EVENTS_MAX + 1];   /* handlers of the victim and its predecessor */
    _Atomic unsigned released[EVENTS_MAX + 1];  /* of those: finished by EVBUS_RELEASE */
    _Atomic unsigned finishing[EVENTS_MAX + 1]; /* outcome + 1 of a finish that has not returned; 0: there is none */
    _Atomic unsigned finished[EVENTS_MAX + 1];  /* outcome + 1 of the last that returned EVBUS_OK */
    _Atomic unsigned fenced[EVENTS_MAX + 1];    /* finishes that returned EVBUS_EFENCED */
    _Atomic int receives;                       /* it is inside evbus_receive() */
    _Atomic int bad;
    _Atomic unsigned n_calls; /* of evbus_receive() and evbus_finish() */
    _Atomic uint64_t n_steps; /* of the one that was stepped */
};

struct victim {
    struct fixture f;
    struct deeds *deeds;
    enum script script;
    unsigned call;  /* which of its calls is stepped, from 1 on */
    bool stops;     /* it is stopped there, not killed; only steps of our own text count */
    uint64_t n;     /* the step; 0: it is let through */
    uint64_t point; /* counts, so that events of other points are told apart */
    uint64_t positions[EVENTS_MAX + 1];
    struct evbus_reader *letters;
    char keys[2][16]; /* a and b */
};

static unsigned n_events(const struct victim *victim)
{
    return (unsigned)strlen(scripts[victim->script].keys);
}

static bool publish_events(struct victim *victim)
{
    memset(victim->deeds, 0, sizeof *victim->deeds);
    victim->point++;
    for (unsigned e = 1; e <= n_events(victim); e++) {
        const char *key = victim->keys[scripts[victim->script].keys[e - 1] - 'a'];
        char payload[48];
        struct evbus_receipt receipt = {.size = sizeof receipt};
        snprintf(payload, sizeof payload, "\"%u of %" PRIu64 "\"", e, victim->point);
        int rc = evbus_publish(victim->f.bus,
                               &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                     .topic = "test.a.one",
                                                     .key = key,
                                                     .payload = payload,
                                                     .timeout_ns = CLOCK_NS_PER_S},
                               &receipt);
        if (rc != EVBUS_OK) {
            fprintf(stderr, "publish: %d %s\n", rc, evbus_message(victim->f.bus));
            return false;
        }
        victim->positions[e] = receipt.position;
    }
    return true;
}

/* 0: of another point. */
static unsigned event_number(const struct victim *victim, const struct evbus_delivery *event)
{
    char *end;
    unsigned e = (unsigned)strtoul((const char *)event->payload + 1, &end, 10);
    return strtoull(end + 4, NULL, 10) == victim->point && e <= EVENTS_MAX ? e : 0;
}

/* How many attempts may the next handler see? */
static bool attempt_is_right(const struct deeds *deeds, unsigned e, unsigned attempt)
{
    unsigned most = 1 + deeds->started[e] - deeds->released[e];
    unsigned least = most - (deeds->finishing[e] == EVBUS_RELEASE + 1);
    return attempt >= least && attempt <= most + (deeds->receives != 0);
}

static struct step_ours ours; /* in the victim */

static void begin_call(struct victim *victim)
{
    if (++victim->deeds->n_calls != victim->call)
        return;
    ours = (struct step_ours){.wanted = victim->n};
    if (victim->stops)
        step_begin(step_stop_in_ours, &ours);
    else
        step_begin(victim->n != 0 ? step_kill : step_count, &victim->n);
}

static void end_call(struct victim *victim)
{
    if (victim->deeds->n_calls != victim->call)
        return;
    uint64_t n_steps = step_end();
    victim->deeds->n_steps = victim->stops ? ours.n : n_steps;
}

static int take_one(struct victim *victim, struct evbus_subscription *sub, struct evbus_delivery *event,
                    uint64_t timeout_ns)
{
    struct deeds *deeds = victim->deeds;
    event->size = sizeof *event;
    begin_call(victim);
    deeds->receives = 1;
    int rc = evbus_receive(sub, event, timeout_ns);
    unsigned e = rc == EVBUS_OK ? event_number(victim, event) : 0;
    if (rc == EVBUS_OK && (e == 0 || event->attempt != 1 + deeds->started[e] - deeds->released[e])) {
        fprintf(stderr, "the victim got %s, attempt %u\n", (const char *)event->payload, event->attempt);
        deeds->bad = 1;
    }
    if (rc == EVBUS_OK)
        deeds->started[e]++;
    else if (rc != EVBUS_ETIMEOUT)
        fprintf(stderr, "the victim's receive: %d %s\n", rc, evbus_message(NULL));
    deeds->receives = 0;
    end_call(victim);
    return rc;
}

static bool finish_one(struct victim *victim, struct evbus_subscription *sub, const struct evbus_delivery *event,
                       enum evbus_outcome outcome)
{
    struct deeds *deeds = victim->deeds;
    unsigned e = event_number(victim, event);
    begin_call(victim);
    deeds->finishing[e] = (unsigned)outcome + 1;
    int rc = evbus_finish(sub, event, outcome, outcome == EVBUS_DONE ? NULL : "so it is");
    if (rc == EVBUS_EFENCED)
        deeds->fenced[e]++;
    else if (rc != EVBUS_OK)
        fprintf(stderr, "the victim's finish: %d %s\n", rc, evbus_message(NULL));
    if (rc == EVBUS_OK && outcome == EVBUS_RELEASE)
        deeds->released[e]++;
    if (rc == EVBUS_OK)
        deeds->finished[e] = (unsigned)outcome + 1;
    deeds->finishing[e] = 0;
    end_call(victim);
    return rc == EVBUS_OK || rc == EVBUS_EFENCED;
}

static bool do_one(struct victim *victim, struct evbus_subscription *sub, enum evbus_outcome outcome)
{
    struct evbus_delivery event;
    return take_one(victim, sub, &event, 5 * CLOCK_NS_PER_S) == EVBUS_OK && finish_one(victim, sub, &event, outcome);
}

static bool act(struct victim *victim, struct evbus_subscription *sub)
{
    struct evbus_delivery a;
    struct evbus_delivery b;
    switch (victim->script) {
    case HAS_FOLLOWERS:
        return take_one(victim, sub, &a, 5 * CLOCK_NS_PER_S) == EVBUS_OK &&
               take_one(victim, sub, &b, 5 * CLOCK_NS_PER_S) == EVBUS_OK && finish_one(victim, sub, &a, EVBUS_DONE) &&
               do_one(victim, sub, EVBUS_DONE) && finish_one(victim, sub, &b, EVBUS_DONE);
    case TRIES_AGAIN:
        return do_one(victim, sub, EVBUS_RETRY) && do_one(victim, sub, EVBUS_RELEASE) &&
               do_one(victim, sub, EVBUS_DONE) && do_one(victim, sub, EVBUS_DONE);
    case REJECTS:
        return do_one(victim, sub, EVBUS_REJECT) && do_one(victim, sub, EVBUS_DONE);
    case TAKES_OVER:
        return do_one(victim, sub, EVBUS_DONE) && do_one(victim, sub, EVBUS_DONE) && do_one(victim, sub, EVBUS_DONE);
    case TAKES_WHAT_COMES:
        while (take_one(victim, sub, &a, 30 * CLOCK_NS_PER_MS) == EVBUS_OK)
            if (!finish_one(victim, sub, &a, EVBUS_DONE))
                return false;
        return true;
    default:
        return do_one(victim, sub, EVBUS_DONE) && do_one(victim, sub, EVBUS_DONE);
    }
}

/* Takes two of three, and dies. */
static int die_with_two_in_hand(void *context)
{
    struct victim *victim = context;
    victim->call = 0; /* in this process */
    struct evbus *bus = fixture_open(&victim->f, "predecessor", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = join(bus, NULL, NULL);
    struct evbus_delivery event;
    if (sub == NULL || take_one(victim, sub, &event, 5 * CLOCK_NS_PER_S) != EVBUS_OK ||
        take_one(victim, sub, &event, 5 * CLOCK_NS_PER_S) != EVBUS_OK)
        return 1;
    kill(getpid(), SIGKILL);
    return 1;
}

static int do_act(void *context)
{
    struct victim *victim = context;
    struct evbus *bus = fixture_open(&victim->f, "victim", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = join(bus, NULL, NULL);
    if (sub == NULL)
        return 98;
    victim->deeds->n_calls = 0;
    bool is_good = act(victim, sub);
    return is_good && victim->deeds->bad == 0 ? 0 : 97;
}

/* --- what must be then */

static bool is_over(const struct deeds *deeds, unsigned e)
{
    return deeds->finished[e] == EVBUS_DONE + 1 || deeds->finished[e] == EVBUS_REJECT + 1;
}

static bool may_be_over(const struct deeds *deeds, unsigned e)
{
    return is_over(deeds, e) || deeds->finishing[e] == EVBUS_DONE + 1 || deeds->finishing[e] == EVBUS_REJECT + 1;
}

/* Another member handles what is left. out_handled: how often it got each event. */
static bool handle_the_rest(struct victim *victim, unsigned out_handled[EVENTS_MAX + 1])
{
    struct deeds *deeds = victim->deeds;
    uint64_t quiet_since = await_now_ms();
    struct evbus_subscription *sub = join(victim->f.bus, NULL, NULL);
    if (sub == NULL)
        return false;
    for (bool is_good = true; is_good;) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, CLOCK_NS_PER_MS);
        if (rc == EVBUS_ETIMEOUT) {
            struct evbus_group_stat stat = group_stat(victim->f.bus);
            bool is_missing = false;
            for (unsigned e = 1; e <= n_events(victim); e++)
                is_missing = is_missing || (out_handled[e] == 0 && !may_be_over(deeds, e));
            if (!is_missing && stat.n_pending == 0 && stat.lag == 0)
                break;
            is_good = await_now_ms() - quiet_since < AWAIT_MS;
            if (!is_good)
                fprintf(stderr, "not all comes: lag %lu, %u pending, %u running, %u waiting, %u dead, %u members\n",
                        (unsigned long)stat.lag, stat.n_pending, stat.n_running, stat.n_waiting, stat.n_dead,
                        stat.n_members);
            continue;
        }
        unsigned e = rc == EVBUS_OK ? event_number(victim, &event) : 0;
        const char *what = e == 0                                                    ? "of another point"
                           : out_handled[e] > 0                                      ? "a second time"
                           : is_over(deeds, e)                                       ? "that was finished"
                           : !attempt_is_right(deeds, e, event.attempt)              ? "with a wrong attempt"
                           : e == 2 && out_handled[1] == 0 && !may_be_over(deeds, 1) ? "before the first of its key"
                                                                                     : NULL;
        if (what != NULL)
            fprintf(stderr, "receive: %d: event %u %s: %s, attempt %u, %u handlers had begun\n", rc, e, what,
                    rc == EVBUS_OK ? (const char *)event.payload : evbus_message(victim->f.bus), event.attempt,
                    deeds->started[e]);
        out_handled[e]++;
        is_good = what == NULL && evbus_finish(sub, &event, EVBUS_DONE, NULL) == EVBUS_OK;
        quiet_since = await_now_ms();
        if (!is_good)
            break;
    }
    struct evbus_group_stat stat = group_stat(victim->f.bus);
    evbus_unsubscribe(sub);
    if (stat.n_pending != 0 || stat.lag != 0)
        return false;
    if (see_pins(victim->f.bus) != NULL)
        fprintf(stderr, "something is pinned: %s\n", see_pins(victim->f.bus));
    return see_pins(victim->f.bus) == NULL;
}

/* The dead letters that came: of the first event, if it is not handled by somebody else; all with one id. */
static bool letters_are_right(struct victim *victim, const unsigned handled[EVENTS_MAX + 1], uint64_t *inout_twice)
{
    const struct deeds *deeds = victim->deeds;
    unsigned n = 0;
    uint8_t id[16] = {0};
    char position[40];
    snprintf(position, sizeof position, "\"position\":\"%" PRIu64 "\"", victim->positions[1]);
    for (;;) {
        struct evbus_delivery letter = {.size = sizeof letter};
        if (evbus_reader_next(victim->letters, &letter, 0) != EVBUS_OK)
            break;
        bool is_same = n == 0 || memcmp(id, letter.id, sizeof id) == 0;
        memcpy(id, letter.id, sizeof id);
        n++;
        if (is_same && strstr(letter.payload, position) != NULL &&
            strstr(letter.payload, "\"cause\":\"rejected\"") != NULL)
            continue;
        fprintf(stderr, "dead letter %u: %s\n", n, (const char *)letter.payload);
        return false;
    }
    *inout_twice += n > 1;
    bool is_dead = deeds->finished[1] == EVBUS_REJECT + 1 || deeds->finishing[1] == EVBUS_REJECT + 1;
    bool is_right = is_dead && handled[1] == 0 ? n > 0 : n == 0;
    if (!is_right)
        fprintf(stderr, "%u dead letters; the event was rejected: %d, handled after that: %u\n", n, is_dead,
                handled[1]);
    return is_right;
}

struct tally {
    uint64_t n_points;
    uint64_t n_steps;
    uint64_t n_letters_twice;
    uint64_t rest_ns;
};

/* One point. true: all is well. */
static bool kill_at(struct victim *victim, struct tally *tally, bool *out_is_whole)
{
    unsigned handled[EVENTS_MAX + 1] = {0};
    if (!publish_events(victim))
        return false;
    if (victim->script == TAKES_OVER) {
        struct child predecessor = child_start(die_with_two_in_hand, victim);
        if (child_join(&predecessor) != 128 + SIGKILL)
            return false;
    }
    struct child child = child_start(do_act, victim);
    int status = child_join(&child);
    *out_is_whole = status == 0;
    if ((status != 128 + SIGKILL && status != 0) || victim->deeds->bad != 0) {
        fprintf(stderr, "the victim ended with %d\n", status);
        return false;
    }
    uint64_t start = clock_mono_ns();
    bool is_good = handle_the_rest(victim, handled) && letters_are_right(victim, handled, &tally->n_letters_twice);
    tally->rest_ns += clock_mono_ns() - start;
    tally->n_points++;
    return is_good;
}

static struct evbus_reader *open_letters(struct evbus *bus)
{
    static const char *const pattern = "test.dlq." GROUP;
    struct evbus_reader *reader;
    int rc = evbus_reader_open(&reader, bus,
                               &(struct evbus_reader_options){
                                   .size = sizeof(struct evbus_reader_options), .patterns = &pattern, .n_patterns = 1});
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(bus));
    return reader;
}

static uint32_t slots_in_use(struct fixture *f)
{
    evbus_close(fixture_open(f, "sweeper", EVBUS_KEEPER_NEVER)); /* attaching buries */
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(f->bus, &stat), EVBUS_OK);
    return stat.n_slots;
}

static void kill_at_all(enum script script, uint64_t budget_ms, const char *name)
{
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct victim victim = {
        .f = make_bus(1, script == REJECTS ? "1MiB" : "64KiB", RETRIES, false),
        .deeds = child_shared(sizeof(struct deeds)),
        .script = script,
        .keys = {"a", "b"},
    };
    struct tally tally = {0};
    bool is_whole;
    victim.letters = open_letters(victim.f.bus);
    uint64_t random = trial_only_step() != 0 ? 0 : trial_seed(name);
    cr_assert(kill_at(&victim, &tally, &is_whole) && is_whole, "a member that is let through");
    uint32_t baseline = slots_in_use(&victim.f);
    unsigned n_calls = victim.deeds->n_calls;
    for (victim.call = 1; victim.call <= n_calls; victim.call++) {
        uint64_t n_steps = 0;
        uint64_t stride = 1;
        if (!trial_is_slow()) { /* else each step costs so much that they lie further and further apart */
            uint64_t start = clock_mono_ns();
            victim.n = 0;
            cr_assert(kill_at(&victim, &tally, &is_whole) && is_whole);
            uint64_t whole_ns = clock_mono_ns() - start;
            n_steps = victim.deeds->n_steps;
            stride = n_steps / (budget_ms * CLOCK_NS_PER_MS / n_calls * 3 / 2 / whole_ns + 1) + 1;
        }
        uint64_t deadline = await_now_ms() + budget_ms * 3 / 2 / n_calls;
        victim.n = trial_only_step() != 0 ? trial_only_step() % STEPS_MAX : 1 + trial_random(&random) % stride;
        if (trial_only_step() != 0 && trial_only_step() / STEPS_MAX != victim.call)
            continue;
        for (is_whole = false; !is_whole && await_now_ms() < deadline;
             victim.n += trial_is_slow() ? 1 + victim.n / 2 : stride) {
            bool is_good = kill_at(&victim, &tally, &is_whole);
            unsigned long again = (unsigned long)(victim.call * STEPS_MAX + victim.n);
            if (!is_good)
                fprintf(stderr, "step %lu; again: EVBUS_STEP=%lu crash-groups -j1 --filter '%s'\n", again, again, name);
            cr_assert(is_good, "%s: killed at step %lu of %lu of call %u of %u", scripts[script].what,
                      (unsigned long)victim.n, (unsigned long)n_steps, victim.call, n_calls);
            if (trial_only_step() != 0)
                break;
        }
        tally.n_steps += n_steps;
    }
    cr_assert_eq(slots_in_use(&victim.f), baseline, "slots leak");
    fprintf(stderr,
            "%s: %lu points of %lu steps (0: not counted); the rest took %.2f ms each; %lu dead letters came twice\n",
            scripts[script].what, (unsigned long)tally.n_points, (unsigned long)tally.n_steps,
            (double)tally.rest_ns / 1e6 / (double)tally.n_points, (unsigned long)tally.n_letters_twice);
    evbus_reader_close(victim.letters);
    fixture_end(&victim.f);
}

Test(groups, killed_at_any_instruction_of_take_and_finish, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P1 P2 P4 P5 P7 */
    kill_at_all(DOES_IT, trial_ms(5000, 150), "groups/killed_at_any_instruction_of_take_and_finish");
}

Test(groups, killed_at_any_instruction_with_a_follower, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P1 P2 */
    kill_at_all(HAS_FOLLOWERS, trial_ms(6000, 150), "groups/killed_at_any_instruction_with_a_follower");
}

Test(groups, killed_at_any_instruction_of_retry_and_release, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P7 */
    kill_at_all(TRIES_AGAIN, trial_ms(5000, 150), "groups/killed_at_any_instruction_of_retry_and_release");
}

Test(groups, killed_at_any_instruction_of_a_reject_and_its_dead_letter, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P10 */
    kill_at_all(REJECTS, trial_ms(6000, 150), "groups/killed_at_any_instruction_of_a_reject_and_its_dead_letter");
}

Test(groups, killed_at_any_instruction_of_a_takeover, .timeout = 240)
{ /* [guards ONE-HOLDER] [guards PROGRESS] P3 P4 P7 */
    kill_at_all(TAKES_OVER, trial_ms(6000, 150), "groups/killed_at_any_instruction_of_a_takeover");
}

/* --- stopped -------------------------------------------------------------------------------------------------------------- */

/* Runs the victim to its stop. true: it stopped; false: it has ended, well. */
static bool run_to_stop(struct victim *victim, struct child *out_child)
{
    int status = 0;
    *out_child = child_start(do_act, victim);
    cr_assert(await_that(waitpid(out_child->pid, &status, WNOHANG | WUNTRACED) == out_child->pid),
              "the victim neither stopped nor ended");
    cr_assert(WIFSTOPPED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0), "the victim ended with %#x",
              (unsigned)status);
    return WIFSTOPPED(status);
}

/* The other group gets an event. Returns after how long. */
static uint64_t other_group_goes_on(struct victim *victim, struct evbus_subscription *other)
{
    struct evbus_delivery event = {.size = sizeof event};
    uint64_t start = clock_mono_ns();
    int rc = evbus_publish(
        victim->f.bus,
        &(struct evbus_event){
            .size = sizeof(struct evbus_event), .topic = "test.a.two", .payload = "2", .timeout_ns = CLOCK_NS_PER_S},
        NULL);
    cr_assert_eq(rc, EVBUS_OK, "a producer: %d %s", rc, evbus_message(victim->f.bus));
    rc = evbus_receive(other, &event, AWAIT_MS * CLOCK_NS_PER_MS);
    cr_assert_eq(rc, EVBUS_OK, "the other group: %d %s", rc, evbus_message(victim->f.bus));
    uint64_t ns = clock_mono_ns() - start;
    cr_assert_eq(evbus_finish(other, &event, EVBUS_DONE, NULL), EVBUS_OK);
    return ns;
}

static void say_stop(const struct victim *victim, const char *name)
{
    unsigned long again = (unsigned long)(victim->call * STEPS_MAX + victim->n);
    fprintf(stderr, "stopped at step %lu; again: EVBUS_STEP=%lu crash-groups -j1 --filter 'groups/%s'\n", again, again,
            name);
}

/* How many calls the script makes, and steps of our own text each. */
static unsigned count_calls(struct victim *victim, uint64_t *out_steps, unsigned max)
{
    unsigned n_calls = max;
    victim->n = 0;
    for (victim->call = 1; victim->call <= n_calls; victim->call++) {
        struct child child;
        cr_assert(publish_events(victim));
        cr_assert(!run_to_stop(victim, &child));
        n_calls = victim->deeds->n_calls < max ? victim->deeds->n_calls : max;
        out_steps[victim->call] = victim->deeds->n_steps;
    }
    return n_calls;
}

Test(groups, a_member_stopped_at_any_instruction_costs_other_groups_and_producers_nothing, .timeout = 240)
{ /* [guards PROGRESS] */
    static uint64_t times[10000];
    static const enum script acts[] = {HAS_FOLLOWERS, REJECTS};
    uint64_t n = 0;
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    for (int i = 0; i < 2; i++) {
        uint64_t steps[32];
        struct child child;
        struct victim victim = {
            .f = make_bus_for("\"other\"", 1, "1MiB", RETRIES, false),
            .deeds = child_shared(sizeof(struct deeds)),
            .script = acts[i],
            .keys = {"a", "b"},
            .stops = true,
        };
        struct evbus_subscription *other = join_group(victim.f.bus, "other", NULL, NULL);
        cr_assert_not_null(other);
        unsigned n_calls = count_calls(&victim, steps, trial_is_slow() ? 4 : 31);
        victim.letters = open_letters(victim.f.bus);
        for (victim.call = 1; victim.call <= n_calls; victim.call++) {
            uint64_t deadline = await_now_ms() + trial_ms(3000, 200) / n_calls;
            uint64_t stride = steps[victim.call] / trial_count(60, 8) + 1;
            for (victim.n = 1; victim.n < steps[victim.call] && await_now_ms() < deadline; victim.n += stride) {
                unsigned handled[EVENTS_MAX + 1] = {0};
                uint64_t twice = 0;
                cr_assert(publish_events(&victim));
                bool is_stopped = run_to_stop(&victim, &child);
                times[n++] = other_group_goes_on(&victim, other);
                if (is_stopped) {
                    child_continue(&child);
                    cr_assert_eq(child_join(&child), 0, "call %u, step %lu: the victim failed", victim.call,
                                 (unsigned long)victim.n);
                }
                cr_assert(handle_the_rest(&victim, handled) && letters_are_right(&victim, handled, &twice),
                          "call %u, step %lu", victim.call, (unsigned long)victim.n);
                cr_assert_eq(handled[1] + handled[2] + handled[3], 0, "it had handled them all");
                cr_assert_lt(times[n - 1], 2 * CLOCK_NS_PER_S);
            }
        }
        evbus_unsubscribe(other);
        evbus_reader_close(victim.letters);
        fixture_end(&victim.f);
    }
    uint64_t p50 = trial_quantile(times, n, 500);
    uint64_t p99 = trial_quantile(times, n, 990);
    fprintf(stderr, "stopped: %lu points; another group had its next event after p50 %.3f p99 %.3f max %.3f ms\n",
            (unsigned long)n, (double)p50 / 1e6, (double)p99 / 1e6, (double)times[n - 1] / 1e6);
}

Test(groups, a_member_stopped_beyond_the_handler_timeout_is_fenced_and_another_goes_on, .timeout = 240)
{ /* [guards ONE-HOLDER] P3 P8 */
    static const char name[] = "a_member_stopped_beyond_the_handler_timeout_is_fenced_and_another_goes_on";
    uint64_t steps[32];
    struct child child;
    unsigned n_fenced = 0;
    unsigned n_stopped = 0;
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct victim victim = {
        .f = make_bus(1, "64KiB", RETRIES ",\"handler_timeout\":\"20ms\"", false),
        .deeds = child_shared(sizeof(struct deeds)),
        .script = TAKES_WHAT_COMES,
        .keys = {"a", "b"},
        .stops = true,
    };
    uint64_t random = trial_seed("groups/a_member_stopped_beyond_the_handler_timeout_is_fenced_and_another_goes_on");
    unsigned n_calls = count_calls(&victim, steps, 5);
    for (uint64_t i = 0; i < trial_count(9, 1); i++) {
        unsigned handled[EVENTS_MAX + 1] = {0};
        victim.call = i == 0 ? 2 : 1 + (unsigned)(trial_random(&random) % n_calls);
        victim.n = i == 0 ? 1 : 1 + trial_random(&random) % steps[victim.call];
        if (trial_only_step() != 0) {
            victim.call = (unsigned)(trial_only_step() / STEPS_MAX);
            victim.n = trial_only_step() % STEPS_MAX;
        }
        cr_assert(publish_events(&victim));
        if (!run_to_stop(&victim, &child))
            continue;
        n_stopped++;
        bool is_good = handle_the_rest(&victim, handled);
        child_continue(&child);
        int status = child_join(&child);
        if (!is_good || status != 0)
            say_stop(&victim, name);
        cr_assert(is_good && status == 0, "the victim ended with %d", status);
        for (unsigned e = 1; e <= n_events(&victim); e++) {
            n_fenced += victim.deeds->fenced[e];
            if (handled[e] + is_over(victim.deeds, e) != 1)
                say_stop(&victim, name);
            cr_assert_eq(handled[e] + is_over(victim.deeds, e), 1,
                         "event %u: finished by the victim: %d, handled by another: %u", e, is_over(victim.deeds, e),
                         handled[e]);
        }
        if (i == 0)
            cr_assert_eq(n_fenced, 1, "a late finish must be told that it is");
    }
    fprintf(stderr, "stopped beyond the handler timeout: %u points, %u late finishes were fenced\n", n_stopped,
            n_fenced);
    fixture_end(&victim.f);
}

Test(groups, a_member_that_counted_before_another_came_takes_nothing_from_it, .timeout = 240)
{ /* [guards ONE-HOLDER] */
    static const char name[] = "a_member_that_counted_before_another_came_takes_nothing_from_it";
    uint64_t steps[2];
    struct child child;
    unsigned n_points = 0;
    unsigned n_in_hand = 0;
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct victim victim = {
        .f = make_bus(2, "64KiB", RETRIES, false),
        .deeds = child_shared(sizeof(struct deeds)),
        .script = TAKES_WHAT_COMES,
        .stops = true,
    };
    key_for(0, victim.keys[0]);
    key_for(1, victim.keys[1]);
    count_calls(&victim, steps, 1);
    uint64_t stride = steps[1] / trial_count(60, 12) + 1;
    uint64_t deadline = await_now_ms() + trial_ms(5000, 400);
    victim.call = 1;
    for (victim.n = 1; victim.n < steps[1] && await_now_ms() < deadline; victim.n += stride) {
        unsigned handled[EVENTS_MAX + 1] = {0};
        if (trial_only_step() != 0)
            victim.n = trial_only_step() % STEPS_MAX;
        cr_assert(publish_events(&victim));
        if (!run_to_stop(&victim, &child))
            break;
        n_points++;
        struct evbus_subscription *sub = join(victim.f.bus, NULL, NULL);
        struct evbus_delivery event = {.size = sizeof event};
        bool has_one = evbus_receive(sub, &event, 2 * CLOCK_NS_PER_MS) == EVBUS_OK;
        unsigned e = has_one ? event_number(&victim, &event) : 0;
        child_continue(&child);
        int status = child_join(&child);
        int rc = has_one ? evbus_finish(sub, &event, EVBUS_DONE, NULL) : EVBUS_OK;
        handled[e] = has_one;
        n_in_hand += has_one;
        if (status != 0 || rc != EVBUS_OK || (has_one && victim.deeds->started[e] != 0))
            say_stop(&victim, name);
        cr_assert_eq(status, 0, "the victim ended with %d", status);
        cr_assert(rc == EVBUS_OK && (!has_one || victim.deeds->started[e] == 0),
                  "event %u was in the hands of a living member: its finish returned %d, another handled it %u times",
                  e, rc, victim.deeds->started[e]);
        evbus_unsubscribe(sub);
        if (has_one) /* as the victim's own */
            victim.deeds->finished[e] = EVBUS_DONE + 1;
        memset(handled, 0, sizeof handled);
        cr_assert(handle_the_rest(&victim, handled));
        if (trial_only_step() != 0)
            break;
    }
    fprintf(stderr, "stopped while it counted: %u points, at %u another had an event in hand\n", n_points, n_in_hand);
    fixture_end(&victim.f);
}

/* --- slow, but in time ---------------------------------------------------------------------------------------------------- */

#define SLOW_EVENTS 64 /* as many as a member handles between two looks at the others */

struct slow {
    struct fixture f;
    _Atomic int *n_handled; /* shared */
};

static int handle_slowly(void *context)
{
    struct slow *slow = context;
    struct evbus *bus = fixture_open(&slow->f, "slow", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = join(bus, NULL, NULL);
    for (int i = 0; sub != NULL && i < SLOW_EVENTS; i++) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, 5 * CLOCK_NS_PER_S);
        if (rc == EVBUS_OK) {
            for (uint64_t until = clock_mono_ns() + 22 * CLOCK_NS_PER_MS; clock_mono_ns() < until;)
                await_pause();
            rc = evbus_finish(sub, &event, EVBUS_DONE, NULL);
        }
        if (rc != EVBUS_OK) {
            fprintf(stderr, "event %d: %d %s\n", i, rc, evbus_message(bus));
            return 1;
        }
        ++*slow->n_handled;
    }
    evbus_unsubscribe(sub);
    evbus_close(bus);
    return sub == NULL;
}

Test(groups, a_member_whose_handlers_are_all_in_time_is_not_taken_for_hung, .timeout = 60)
{ /* [guards ONE-HOLDER] P8 */
    struct slow slow = {
        .f = make_bus(1, "64KiB", RETRIES ",\"handler_timeout\":\"100ms\"", false),
        .n_handled = child_shared(sizeof *slow.n_handled),
    };
    for (int i = 0; i < SLOW_EVENTS; i++)
        cr_assert_eq(fixture_publish(slow.f.bus, "a", "1"), EVBUS_OK);
    struct child child = child_start(handle_slowly, &slow);
    cr_assert(await_that(*slow.n_handled > 0));
    struct evbus_subscription *sub = join(slow.f.bus, NULL, NULL); /* waits in the second place */
    struct evbus_delivery event = {.size = sizeof event};
    while (*slow.n_handled < SLOW_EVENTS && child_is_running(&child))
        cr_assert_neq(evbus_receive(sub, &event, 5 * CLOCK_NS_PER_MS), EVBUS_OK,
                      "after %d events of 22 ms each a member was taken for hung", *slow.n_handled);
    evbus_unsubscribe(sub);
    cr_assert_eq(*slow.n_handled, SLOW_EVENTS);
    child_join(&child);
    fixture_end(&slow.f);
}
