/* Eight processes under load, of which any is killed or stopped at any time: producers, members of two groups, a reader; all but
 * some are candidates for the keeper's seat, and whoever attaches or is blocked is an undertaker. Up to four are stopped at once.
 *
 * Handlers finish, retry, release and reject. What all of them did stands in ledgers outside the bus; now and then there is a lull
 * without faults, in which everything that was acknowledged before must come to its end. A living process that does not get on
 * for a second, though nobody has touched it and the machine had a processor for all of them, is wedged. One call in so many goes in slow motion, stepped instruction by
 * instruction, or hardly a fault would meet anybody between claim and commit. */
#include "await.h"
#include "child.h"
#include "crew.h"
#include "ledger.h"
#include "step.h"
#include "trial.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define GROUPS       2
#define HANDS        3  /* events that a member has in hand, or handlers of it */
#define STOPPED_MAX  4  /* at once */
#define SEGMENTS     10 /* a lull after each */
#define ATTEMPTS_MAX 3
#define WEDGED_MS    1000
#define FOR_EVER_MS  60000                          /* by the wall clock, however busy the machine is */
#define HELD_EVERY   8                              /* events of which one takes its handler a moment */
#define SLOW_EVERY   (trial_is_slow() ? 2048 : 256) /* publishes, of which one goes in slow motion */
#define SLOW_LOOPS   2048                           /* of a member, likewise */
#define PACE_EVERY   8                              /* events between two pauses of a producer */

enum kind { PRODUCER, RECEIVER, RUNNER, READER };

static const struct {
    enum kind kind;
    unsigned of; /* producer's number, or group */
    enum evbus_keeper keeper;
} roles[] = {
    {PRODUCER, 0, EVBUS_KEEPER_NEVER}, {PRODUCER, 1, EVBUS_KEEPER_VOLUNTEER}, {PRODUCER, 2, EVBUS_KEEPER_NEVER},
    {RECEIVER, 0, EVBUS_KEEPER_NEVER}, {RUNNER, 0, EVBUS_KEEPER_VOLUNTEER},   {RECEIVER, 1, EVBUS_KEEPER_VOLUNTEER},
    {RUNNER, 1, EVBUS_KEEPER_NEVER},   {READER, 0, EVBUS_KEEPER_VOLUNTEER},
};
#define PROCESSES (sizeof roles / sizeof roles[0])
#define PRODUCERS 3
static const char *const kind_names[] = {"producer", "member that receives", "member that runs", "reader"};
static const char *const groups[GROUPS] = {"crew", "other"};

struct shared {
    struct ledger ledgers[GROUPS];
    _Atomic uint32_t next[PRODUCERS];
    _Atomic uint64_t n_steps[PROCESSES]; /* of a process, whichever has the role */
    _Atomic int is_over;                 /* producers end */
    _Atomic int failed;                  /* a call that must not fail has */
    uint32_t n_members;                  /* ever born */
};

struct process {
    struct child child;
    uint32_t member;
    uint64_t continue_ns; /* 0: it is not stopped */
    uint64_t kept_ms;     /* await_kept_waiting_ms() at the last look */
    uint64_t seen_steps;
    uint64_t since_ms; /* awake; the last step, or fault */
};

struct storm {
    struct fixture f;
    struct shared *shared;
    struct process processes[PROCESSES];
    struct evbus_reader *letters[GROUPS];
    uint32_t settled[GROUPS][PRODUCERS];
    struct await_watch watch;
    uint64_t looked_ms; /* by it; the last look at who was kept waiting */
    uint64_t fair_ms;
    uint64_t random;
    uint64_t wedged;
    unsigned n_kills;
    unsigned n_member_kills;
    unsigned n_stops;
    unsigned n_stopped;
    unsigned most_stopped;
    unsigned role; /* of the child that is started next */
    uint32_t member;
};

/* --- what the processes do ------------------------------------------------------------------------------------------------ */

static int fail(struct storm *storm, const char *what, int rc, struct evbus *bus)
{
    fprintf(stderr, "%s: %s: %d %s\n", kind_names[roles[storm->role].kind], what, rc, evbus_message(bus));
    storm->shared->failed = 1;
    return 1;
}

static int produce(struct storm *storm, struct evbus *bus)
{
    struct shared *shared = storm->shared;
    uint32_t producer = roles[storm->role].of;
    while (shared->is_over == 0) {
        uint32_t number = shared->next[producer];
        if (number < LEDGER_EVENTS) {
            shared->next[producer] = number + 1;
            bool is_slow = number % SLOW_EVERY == 0;
            if (is_slow)
                step_begin(step_count, NULL);
            int rc = ledger_publish(shared->ledgers, GROUPS, bus, producer, number, 5 * CLOCK_NS_PER_S);
            if (is_slow)
                step_end();
            if (rc != EVBUS_OK)
                return fail(storm, "publish", rc, bus);
        }
        shared->n_steps[storm->role]++;
        if (number % PACE_EVERY == 0)
            for (uint64_t until = clock_mono_ns() + 7 * CLOCK_NS_PER_MS; clock_mono_ns() < until;)
                await_pause();
    }
    return 0;
}

/* Some are always bad, some only at first; some take a moment, in which the handler's process may die. */
static enum evbus_outcome work(const struct evbus_delivery *event, unsigned starts)
{
    uint64_t number = strtoull(strchr(event->payload, ' '), NULL, 10);
    if (number % HELD_EVERY == 0)
        for (uint64_t until = clock_mono_ns() + CLOCK_NS_PER_MS; clock_mono_ns() < until;)
            await_pause();
    if (number % 997 == 5)
        return EVBUS_RETRY;
    if (number % 1009 == 7)
        return EVBUS_REJECT;
    if (starts == 1 && number % 53 == 2)
        return EVBUS_RETRY;
    return starts == 1 && number % 59 == 3 ? EVBUS_RELEASE : EVBUS_DONE;
}

static int receive(struct storm *storm, struct evbus *bus, struct evbus_subscription *sub)
{
    struct ledger *ledger = &storm->shared->ledgers[roles[storm->role].of];
    struct evbus_delivery hands[HANDS];
    enum evbus_outcome outcomes[HANDS];
    unsigned n = 0;
    for (unsigned k = 1;; k++) {
        bool is_slow = k % SLOW_LOOPS == 0;
        if (is_slow)
            step_begin(step_count, NULL);
        hands[n] = (struct evbus_delivery){.size = sizeof hands[n]};
        int rc = evbus_receive(sub, &hands[n], n == 0 ? 20 * CLOCK_NS_PER_MS : 0);
        if (rc != EVBUS_OK && rc != EVBUS_ETIMEOUT)
            return fail(storm, "receive", rc, bus);
        if (rc == EVBUS_OK) {
            unsigned starts = ledger_enter(ledger, storm->member, &hands[n]);
            outcomes[n] = work(&hands[n], starts);
            if (++n < HANDS) {
                step_end();
                continue;
            }
        }
        for (unsigned i = 0; i < n; i++)
            if ((rc = ledger_finish(ledger, storm->member, sub, &hands[i], outcomes[i])) != EVBUS_OK)
                return fail(storm, "finish", rc, bus);
        step_end();
        n = 0;
        storm->shared->n_steps[storm->role]++;
    }
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct storm *storm = context;
    struct ledger *ledger = &storm->shared->ledgers[roles[storm->role].of];
    enum evbus_outcome outcome = work(event, ledger_enter(ledger, storm->member, event));
    ledger_leave(ledger, storm->member, event, outcome);
    strcpy(error, outcome != EVBUS_DONE ? "so it is" : "");
    return outcome;
}

static int read_on(struct storm *storm, struct evbus *bus)
{
    struct evbus_reader *reader;
    struct evbus_reader_options options = {.size = sizeof options};
    if (evbus_reader_open(&reader, bus, &options) != EVBUS_OK)
        return fail(storm, "reader", 0, bus);
    for (;; storm->shared->n_steps[storm->role]++) {
        struct evbus_delivery got = {.size = sizeof got};
        int rc = evbus_reader_next(reader, &got, 20 * CLOCK_NS_PER_MS);
        if (rc != EVBUS_OK && rc != EVBUS_ETIMEOUT)
            return fail(storm, "read", rc, bus);
    }
}

static int live(void *context)
{
    struct storm *storm = context;
    enum kind kind = roles[storm->role].kind;
    struct evbus *bus = fixture_open(&storm->f, kind == PRODUCER ? "producer" : "member", roles[storm->role].keeper);
    if (kind == PRODUCER)
        return produce(storm, bus);
    if (kind == READER)
        return read_on(storm, bus);
    struct evbus_subscription *sub = crew_join(bus, groups[roles[storm->role].of], kind == RUNNER ? handle : NULL,
                                               storm);
    if (sub == NULL)
        return fail(storm, "subscribe", 0, bus);
    if (kind == RECEIVER)
        return receive(storm, bus, sub);
    int rc = evbus_run(sub, &(struct evbus_run_options){.size = sizeof(struct evbus_run_options), .threads = HANDS});
    return fail(storm, "run", rc, bus);
}

/* --- time ------------------------------------------------------------------------------------------------------------------ */

#define FAIR_EVERY_MS 20

/* Time less that for which one of them was ready and had no processor: on a busy machine a second is longer. */
static uint64_t fair_ms(struct storm *storm)
{
    uint64_t now_ms = await_awake_ms(&storm->watch);
    uint64_t most_ms = 0;
    if (now_ms - storm->looked_ms < FAIR_EVERY_MS)
        return storm->fair_ms;
    for (unsigned i = 0; i < PROCESSES; i++) {
        struct process *process = &storm->processes[i];
        uint64_t kept_ms = process->child.pid != 0 ? await_kept_waiting_ms(process->child.pid) : 0;
        if (kept_ms > process->kept_ms && kept_ms - process->kept_ms > most_ms)
            most_ms = kept_ms - process->kept_ms;
        process->kept_ms = kept_ms;
    }
    if (most_ms < now_ms - storm->looked_ms)
        storm->fair_ms += now_ms - storm->looked_ms - most_ms;
    storm->looked_ms = now_ms;
    return storm->fair_ms;
}

/* --- what becomes of them ------------------------------------------------------------------------------------------------- */

static bool is_member(unsigned role)
{
    return roles[role].kind == RECEIVER || roles[role].kind == RUNNER;
}

static void bear(struct storm *storm, unsigned role)
{
    struct process *process = &storm->processes[role];
    storm->role = role;
    storm->member = is_member(role) ? ++storm->shared->n_members : 0;
    process->child = child_start(live, storm);
    process->member = storm->member;
    process->continue_ns = 0;
    process->kept_ms = 0;
    process->since_ms = fair_ms(storm);
}

static void end(struct storm *storm, unsigned role)
{
    struct process *process = &storm->processes[role];
    if (is_member(role))
        storm->shared->ledgers[roles[role].of].doomed[process->member] = 1;
    storm->n_stopped -= process->continue_ns != 0;
    child_kill(&process->child);
}

/* 1 ms to 2 s, each octave as often as the others. */
static uint64_t stop_ns(uint64_t *random)
{
    uint64_t octave = CLOCK_NS_PER_MS << trial_random(random) % 11;
    uint64_t ns = octave + trial_random(random) % octave;
    return ns < 2 * CLOCK_NS_PER_S ? ns : 2 * CLOCK_NS_PER_S;
}

static void kill_one(struct storm *storm)
{
    unsigned role = (unsigned)(trial_random(&storm->random) % PROCESSES);
    storm->n_kills++;
    storm->n_member_kills += is_member(role);
    end(storm, role);
    bear(storm, role);
}

/* false: four are stopped already. */
static bool stop_one(struct storm *storm)
{
    struct process *process;
    if (storm->n_stopped == STOPPED_MAX)
        return false;
    do
        process = &storm->processes[trial_random(&storm->random) % PROCESSES];
    while (process->continue_ns != 0);
    child_stop(&process->child);
    process->continue_ns = clock_mono_ns() + stop_ns(&storm->random);
    storm->n_stops++;
    if (++storm->n_stopped > storm->most_stopped)
        storm->most_stopped = storm->n_stopped;
    return true;
}

static void continue_those_due(struct storm *storm)
{
    uint64_t now = clock_mono_ns();
    for (unsigned i = 0; i < PROCESSES; i++) {
        struct process *process = &storm->processes[i];
        if (process->continue_ns == 0 || process->continue_ns > now)
            continue;
        child_continue(&process->child);
        process->continue_ns = 0;
        process->since_ms = fair_ms(storm);
        storm->n_stopped--;
    }
}

/* --- what must be --------------------------------------------------------------------------------------------------------- */

static uint64_t wedged_ms(void)
{
    return WEDGED_MS * (trial_is_slow() ? 10 : 1);
}

static void say_wedged(struct storm *storm, const char *who)
{
    storm->wedged++;
    fprintf(stderr, "wedged: %s\n", who);
    for (int g = 0; g < GROUPS; g++) {
        struct evbus_group_stat stat = crew_stat(storm->f.bus, groups[g]);
        fprintf(stderr, "  group %s: lag %lu, %u pending: %u running, %u waiting, %u dead; %u members\n", groups[g],
                (unsigned long)stat.lag, stat.n_pending, stat.n_running, stat.n_waiting, stat.n_dead, stat.n_members);
    }
}

/* Who is alive, and not stopped, gets on; but for a member that runs, of which we only see what its group gets done. */
static void look_at_processes(struct storm *storm)
{
    uint64_t now_ms = fair_ms(storm);
    for (unsigned i = 0; i < PROCESSES; i++) {
        struct process *process = &storm->processes[i];
        uint64_t n_steps = storm->shared->n_steps[i];
        if (n_steps != process->seen_steps || process->continue_ns != 0 || roles[i].kind == RUNNER) {
            process->seen_steps = n_steps;
            process->since_ms = now_ms;
        } else if (now_ms - process->since_ms > wedged_ms()) {
            char who[100];
            snprintf(who, sizeof who, "a %s, role %u, process %d", kind_names[roles[i].kind], i, process->child.pid);
            say_wedged(storm, who);
            process->since_ms = now_ms;
        }
    }
}

static void read_letters(struct storm *storm)
{
    for (int g = 0; g < GROUPS; g++) {
        struct evbus_delivery letter = {.size = sizeof letter};
        while (evbus_reader_next(storm->letters[g], &letter, 0) == EVBUS_OK)
            ledger_letter(&storm->shared->ledgers[g], &letter);
    }
}

static bool is_bad(const struct storm *storm)
{
    return storm->wedged != 0 || storm->shared->failed != 0 || storm->shared->ledgers[0].failed != 0 ||
           storm->shared->ledgers[1].failed != 0;
}

/* Events below these that are still to come to their end. */
static uint64_t count_open(struct storm *storm, unsigned group, const uint32_t next[PRODUCERS])
{
    uint64_t n_open = 0;
    const struct ledger *ledger = &storm->shared->ledgers[group];
    for (uint32_t p = 0; p < PRODUCERS; p++) {
        uint32_t *from = &storm->settled[group][p];
        while (*from < next[p] && ledger_open(ledger, p, *from, *from + 1) == 0)
            ++*from;
        n_open += ledger_open(ledger, p, *from, next[p]);
    }
    return n_open;
}

/* Nobody is stopped or killed: all that was acknowledged comes to its end, and each second there is less left. */
static void lull(struct storm *storm)
{
    uint32_t next[PRODUCERS];
    while (storm->n_stopped > 0) {
        continue_those_due(storm);
        look_at_processes(storm);
        await_pause();
    }
    memcpy(next, (const void *)storm->shared->next, sizeof next);
    uint64_t before[GROUPS] = {UINT64_MAX, UINT64_MAX};
    uint64_t since_ms[GROUPS] = {0};
    uint64_t wall_ms[GROUPS] = {0};
    uint64_t left[GROUPS];
    do {
        uint64_t now_ms = fair_ms(storm);
        read_letters(storm);
        for (unsigned g = 0; g < GROUPS; g++) {
            left[g] = count_open(storm, g, next);
            if (left[g] < before[g]) {
                before[g] = left[g];
                since_ms[g] = now_ms;
                wall_ms[g] = await_now_ms();
            }
            if (left[g] > 0 && (now_ms - since_ms[g] > wedged_ms() || await_now_ms() - wall_ms[g] > FOR_EVER_MS)) {
                char who[100];
                snprintf(who, sizeof who, "group %s, %lu events", groups[g], (unsigned long)left[g]);
                say_wedged(storm, who);
            }
        }
        look_at_processes(storm);
        await_pause();
    } while ((left[0] > 0 || left[1] > 0) && !is_bad(storm));
}

static void rage(struct storm *storm, unsigned n_kills, unsigned n_stops)
{
    uint64_t next_ns = clock_mono_ns();
    while ((n_kills > 0 || n_stops > 0) && !is_bad(storm)) {
        continue_those_due(storm);
        look_at_processes(storm);
        read_letters(storm);
        if (clock_mono_ns() < next_ns) {
            await_pause();
            continue;
        }
        bool is_kill = trial_random(&storm->random) % (n_kills + n_stops) < n_kills;
        if (is_kill) {
            kill_one(storm);
            n_kills--;
        } else {
            n_stops -= stop_one(storm);
        }
        next_ns += CLOCK_NS_PER_MS * (2 + trial_random(&storm->random) % 48);
    }
}

/* Producers end, everything that is on the bus is handled. */
static uint64_t calm_down(struct storm *storm)
{
    storm->shared->is_over = 1;
    for (unsigned i = 0; i < PROCESSES; i++)
        if (roles[i].kind == PRODUCER)
            cr_expect_eq(child_join(&storm->processes[i].child), 0, "producer %u failed", roles[i].of);
    for (unsigned g = 0; g < GROUPS; g++) {
        bool is_done = await_that(crew_stat(storm->f.bus, groups[g]).n_pending == 0 &&
                                  crew_pins(storm->f.bus, groups[g]) == NULL);
        if (!is_done)
            say_wedged(storm, "something is left");
    }
    read_letters(storm);
    uint64_t lost = 0;
    for (unsigned g = 0; g < GROUPS; g++)
        for (uint32_t p = 0; p < PRODUCERS; p++)
            lost += ledger_open(&storm->shared->ledgers[g], p, 0, storm->shared->next[p]);
    return lost;
}

/* Handlers that died in their work. */
static uint64_t cut_off(const struct storm *storm)
{
    return storm->shared->ledgers[0].n_cut_off + storm->shared->ledgers[1].n_cut_off;
}

static void print_storm(struct storm *storm, uint64_t ms)
{
    struct evbus_stat stat = {.size = sizeof stat};
    uint64_t cancels = 0;
    uint64_t fences = 0;
    evbus_stat(storm->f.bus, &stat);
    for (size_t i = 0; i < stat.n_partitions; i++) {
        cancels += stat.partitions[i].cancels;
        fences += stat.partitions[i].fences;
    }
    fprintf(stderr,
            "%u killed, %u stopped, at most %u at once, in %.1f s; %lu burials, %lu cancels, %lu fences; repeats %lu + "
            "%lu, dead letters %lu + %lu (%lu twice), attempts cut off in their handlers %lu, "
            "before them %lu + %lu\n",
            storm->n_kills, storm->n_stops, storm->most_stopped, (double)ms / 1e3, (unsigned long)stat.burials,
            (unsigned long)cancels, (unsigned long)fences, (unsigned long)storm->shared->ledgers[0].n_repeats,
            (unsigned long)storm->shared->ledgers[1].n_repeats, (unsigned long)storm->shared->ledgers[0].n_letters,
            (unsigned long)storm->shared->ledgers[1].n_letters,
            (unsigned long)(storm->shared->ledgers[0].n_letters_twice + storm->shared->ledgers[1].n_letters_twice),
            (unsigned long)cut_off(storm), (unsigned long)storm->shared->ledgers[0].n_uncounted,
            (unsigned long)storm->shared->ledgers[1].n_uncounted);
}

static void storm_once(uint64_t seed, unsigned n_kills, unsigned n_stops)
{
    struct storm storm = {
        .f = crew_bus(
            (struct crew_options){.more = ",\"other\"",
                                  .partitions = 4,
                                  .ring = "2MiB",
                                  .settings = "\"retry\":[\"1ms\",\"1ms\"]},\"other\":{\"retry\":[\"1ms\",\"1ms\"]"}),
        .shared = child_shared(sizeof(struct shared)),
        .random = seed,
    };
    uint64_t start = await_now_ms();
    for (int g = 0; g < GROUPS; g++) {
        storm.letters[g] = crew_letters(storm.f.bus, groups[g]);
        storm.shared->ledgers[g].attempts_max = ATTEMPTS_MAX;
    }
    uint32_t baseline = crew_slots(&storm.f);
    for (unsigned i = 0; i < PROCESSES; i++)
        bear(&storm, i);
    for (unsigned i = 0; i < SEGMENTS && !is_bad(&storm); i++) {
        rage(&storm, n_kills / SEGMENTS, n_stops / SEGMENTS);
        lull(&storm);
    }
    bool was_bad = is_bad(&storm);
    uint64_t lost = was_bad ? 0 : calm_down(&storm);
    for (unsigned i = 0; i < PROCESSES; i++)
        if (was_bad || roles[i].kind != PRODUCER)
            child_kill(&storm.processes[i].child);
    print_storm(&storm, await_now_ms() - start);
    bool is_good = ledger_print(storm.shared->ledgers, GROUPS, lost, storm.wedged);
    cr_assert(is_good && !was_bad && !is_bad(&storm));
    uint64_t n_uncounted = storm.shared->ledgers[0].n_uncounted + storm.shared->ledgers[1].n_uncounted;
    cr_assert_gt(cut_off(&storm), storm.n_member_kills / 20, "the storm met hardly a handler at work");
    cr_assert_leq(n_uncounted, cut_off(&storm) / 4 + 10,
                  "more attempts were charged than can have been about to begin");
    cr_assert_gt(storm.most_stopped, trial_is_full() ? 3u : 0u);
    cr_assert_eq(crew_slots(&storm.f), baseline, "slots leak");
    for (int g = 0; g < GROUPS; g++)
        evbus_reader_close(storm.letters[g]);
    fixture_end(&storm.f);
    munmap(storm.shared, sizeof *storm.shared);
}

Test(storm_groups, eight_processes_are_killed_and_stopped_and_nothing_is_lost_or_wedged, .timeout = 20000)
{ /* [guards WHOLE] [guards ONE-WRITER] [guards PROGRESS] [guards ORDER] [guards ONE-HOLDER] [guards WOKEN] B10 P7 P9 */
    uint64_t seed = trial_seed("storm_groups/eight_processes_are_killed_and_stopped_and_nothing_is_lost_or_wedged");
    unsigned n_rounds = trial_is_soak() ? 50 : 1; /* 100,000 kills and 20,000 stops, or a fiftieth */
    unsigned n_kills = (unsigned)trial_count(2000, 100);
    unsigned n_stops = (unsigned)trial_count(trial_is_soak() ? 400 : 500, 50);
    for (unsigned i = 0; i < n_rounds; i++)
        storm_once(seed + i, n_kills, n_stops);
}
