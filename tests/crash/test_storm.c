/* Many producers in many processes, killed and stopped at random, against one reader that checks every byte. */
#include "await.h"
#include "child.h"
#include "fixture.h"
#include "load.h"
#include "trial.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PRODUCERS  8
#define PARTITIONS 4
#define BATCH_MAX  24
#define FAULTS_MAX 500
#define IDS_MAX    (PRODUCERS + FAULTS_MAX + 1) /* each producer that is born has a number of its own, from 1 on */
#define GAP_MS     50                           /* a fault's effect is looked for so long */

/* What the processes of a storm share outside the bus. */
struct notes {
    _Atomic uint64_t acked[IDS_MAX]; /* by producer: its last number that evbus_publish() has acknowledged */
    _Atomic int failed;              /* some producer's publish returned this */
    _Atomic uint64_t n_wanted;       /* each producer publishes so many, then ends; 0: until `stop` */
    _Atomic int stop;
    _Atomic int done; /* all producers have ended */
    _Atomic uint32_t n_born;
    _Atomic uint32_t n_faults;
    _Atomic uint64_t fault_ns[FAULTS_MAX];
    _Atomic int is_kill[FAULTS_MAX];
};

struct storm {
    struct fixture f;
    struct notes *notes;
    unsigned n_faults;
    uint64_t seed;
    bool is_paced; /* the producers leave each processor some room */
};

/* --- producers ------------------------------------------------------------------------------------------------------- */

/* How many a producer publishes by one call, from this number on: every other one batches. */
static uint64_t at_once(uint32_t id, uint64_t number)
{
    return id % 2 == 0 ? 1 : 1 + number % BATCH_MAX;
}

static int publish_batch(struct evbus *bus, uint32_t id, uint64_t number, uint64_t n, uint64_t timeout_ns)
{
    static struct load loads[BATCH_MAX];
    struct evbus_event events[BATCH_MAX];
    for (uint64_t i = 0; i < n; i++)
        events[i] = load_event(&loads[i], id, number + i, timeout_ns);
    return evbus_publish_batch(bus, events, n, NULL, NULL);
}

static void produce(struct storm *storm, uint32_t id)
{
    struct notes *notes = storm->notes;
    struct evbus *bus = fixture_open(&storm->f, "producer", id % 2 == 0 ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER);
    uint64_t n;
    for (uint64_t number = 1; notes->n_wanted != 0 ? number <= notes->n_wanted : notes->stop == 0; number += n) {
        n = at_once(id, number);
        if (notes->n_wanted != 0 && n > notes->n_wanted - number + 1)
            n = notes->n_wanted - number + 1;
        int rc = n == 1 ? load_publish(bus, id, number, 5 * CLOCK_NS_PER_S)
                        : publish_batch(bus, id, number, n, 5 * CLOCK_NS_PER_S);
        if (rc != EVBUS_OK) {
            fprintf(stderr, "producer %u, event %lu: %d %s\n", id, (unsigned long)number, rc, evbus_message(bus));
            notes->failed = rc;
            _exit(1);
        }
        atomic_store_explicit(&notes->acked[id], number + n - 1, memory_order_release);
        if (storm->is_paced && number / 16 != (number + n) / 16)
            await_pause();
    }
    evbus_close(bus);
    _exit(0);
}

static pid_t bear(struct storm *storm)
{
    uint32_t id = ++storm->notes->n_born;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        produce(storm, id);
    }
    return pid;
}

/* How long a producer is stopped: 0.2 to 8 ms, each octave as often as the others. */
static uint64_t stop_ns(uint64_t *random)
{
    uint64_t octave = UINT64_C(200000) << trial_random(random) % 6;
    uint64_t ns = octave + trial_random(random) % octave;
    return ns < 8000000 ? ns : 8000000;
}

static void pause_until(uint64_t until_ns)
{
    while (clock_mono_ns() < until_ns)
        await_pause();
}

/* A child: bears the producers, kills and stops them, ends them. */
static int rage(void *context)
{
    struct storm *storm = context;
    struct notes *notes = storm->notes;
    pid_t pids[PRODUCERS];
    uint64_t continue_ns[PRODUCERS] = {0}; /* 0: it is not stopped */
    uint64_t random = storm->seed;
    uint64_t next_ns = clock_mono_ns() + 100 * CLOCK_NS_PER_MS;
    for (int i = 0; i < PRODUCERS; i++)
        pids[i] = bear(storm);
    for (unsigned n = 0; n < storm->n_faults && notes->failed == 0;) {
        uint64_t now = clock_mono_ns();
        uint64_t until = next_ns;
        int n_stopped = 0;
        for (int i = 0; i < PRODUCERS; i++) {
            if (continue_ns[i] != 0 && continue_ns[i] <= now) {
                kill(pids[i], SIGCONT);
                continue_ns[i] = 0;
            }
            if (continue_ns[i] != 0) {
                n_stopped++;
                until = continue_ns[i] < until ? continue_ns[i] : until;
            }
        }
        if (now < next_ns) {
            pause_until(until);
            continue;
        }
        int victim = (int)(trial_random(&random) % PRODUCERS);
        bool is_kill = trial_random(&random) % 2 == 0;
        if (!is_kill && (n_stopped >= 2 || continue_ns[victim] != 0))
            is_kill = true;
        notes->is_kill[n] = is_kill;
        notes->fault_ns[n] = clock_mono_ns();
        notes->n_faults = ++n;
        if (is_kill) {
            kill(pids[victim], SIGKILL);
            waitpid(pids[victim], NULL, 0);
            continue_ns[victim] = 0;
            pids[victim] = bear(storm);
        } else {
            kill(pids[victim], SIGSTOP);
            continue_ns[victim] = clock_mono_ns() + stop_ns(&random);
        }
        next_ns = clock_mono_ns() + (2 + trial_random(&random) % 16) * CLOCK_NS_PER_MS;
    }
    int n_bad = 0;
    for (int i = 0; i < PRODUCERS; i++)
        kill(pids[i], SIGCONT);
    notes->stop = 1;
    for (int i = 0; i < PRODUCERS; i++) {
        int status;
        n_bad += waitpid(pids[i], &status, 0) != pids[i] || status != 0;
    }
    notes->done = 1;
    return n_bad;
}

/* --- the reader ------------------------------------------------------------------------------------------------------ */

/* What was read so far. */
struct ledger {
    uint64_t n_events;
    uint64_t n_of[IDS_MAX];
    uint64_t last_of[IDS_MAX];
    uint64_t last_in[IDS_MAX][PARTITIONS];
    uint64_t lost_before[IDS_MAX][PARTITIONS]; /* `lost` of that partition when last_in was set */
    uint64_t next[PARTITIONS];                 /* position behind the last event */
    uint64_t lost[PARTITIONS];                 /* cells */
    uint64_t read[PARTITIONS];                 /* cells */
};

/* The longest time without an event from each fault on. */
struct gaps {
    uint64_t ns[FAULTS_MAX];
    uint32_t first; /* fault that is still looked at */
    uint64_t last_event_ns;
};

static void look_at_gaps(struct gaps *gaps, const struct notes *notes)
{
    uint64_t now = clock_mono_ns();
    uint32_t n = notes->n_faults;
    for (uint32_t i = gaps->first; i < n; i++) {
        uint64_t fault_ns = notes->fault_ns[i];
        uint64_t until = fault_ns + GAP_MS * CLOCK_NS_PER_MS;
        uint64_t from = gaps->last_event_ns > fault_ns ? gaps->last_event_ns : fault_ns;
        if (i + 1 < n && notes->fault_ns[i + 1] < until) /* what begins after the next fault is that one's */
            until = notes->fault_ns[i + 1];
        if (from > until) {
            gaps->first = i == gaps->first ? i + 1 : gaps->first;
            continue;
        }
        if (now > from && now - from > gaps->ns[i])
            gaps->ns[i] = now - from;
    }
    gaps->last_event_ns = now;
}

static const char *where(const struct evbus_delivery *got)
{
    static char text[200];
    snprintf(text, sizeof text, "%s/%u@%lu, lost %lu, %zu bytes: %.60s", got->log, got->partition,
             (unsigned long)got->position, (unsigned long)got->lost, got->payload_len, (const char *)got->payload);
    return text;
}

/* Enters an event. Whole, of a producer that was born, in order per producer and partition, so not twice either. */
static void enter(struct ledger *ledger, const struct evbus_delivery *got, const struct notes *notes)
{
    uint32_t id;
    uint64_t number;
    uint32_t p = got->partition;
    cr_assert(load_read(got, &id, &number), "not as it was published: %s", where(got));
    cr_assert(id >= 1 && id <= notes->n_born && p < PARTITIONS, "of nobody: %s", where(got));
    cr_assert_gt(number, ledger->last_in[id][p], "producer %u: event %lu comes after %lu: %s", id,
                 (unsigned long)number, (unsigned long)ledger->last_in[id][p], where(got));
    cr_assert_geq(got->position, ledger->next[p] + got->lost, "positions do not add up: expected %lu: %s",
                  (unsigned long)ledger->next[p], where(got));
    ledger->next[p] = got->position + load_cells(got);
    ledger->read[p] += load_cells(got);
    ledger->lost[p] += got->lost;
    ledger->last_in[id][p] = number;
    ledger->lost_before[id][p] = ledger->lost[p];
    ledger->n_of[id]++;
    ledger->n_events++;
    if (number > ledger->last_of[id])
        ledger->last_of[id] = number;
}

static struct ledger ledger;
static struct gaps gaps;

static struct evbus_reader *open_reader(struct storm *storm, bool pin)
{
    struct evbus_reader *reader;
    const char *pattern = "test.a.*";
    struct evbus_reader_options options = {
        .size = sizeof options, .patterns = &pattern, .n_patterns = 1, .pin = pin, .from = EVBUS_FROM_EARLIEST};
    cr_assert_eq(evbus_reader_open(&reader, storm->f.bus, &options), EVBUS_OK, "%s", evbus_message(storm->f.bus));
    return reader;
}

static struct storm make_storm(const char *ring, unsigned n_faults, uint64_t seed)
{
    struct storm storm = {
        .f = fixture_make((struct fixture_options){.partitions = PARTITIONS, .ring = ring}),
        .notes = child_shared(sizeof(struct notes)),
        .n_faults = n_faults,
        .seed = seed,
    };
    setpriority(PRIO_PROCESS, 0,
                -20); /* we measure the bus, not the scheduler; where we may not, the gaps are longer */
    return storm;
}

/* Reads until the producers have ended and nothing is left. */
static void read_all(struct storm *storm, struct evbus_reader *reader)
{
    struct evbus_delivery got = {.size = sizeof got};
    uint64_t quiet_since = await_now_ms();
    for (;;) {
        bool was_done = storm->notes->done != 0;
        int rc = evbus_reader_next(reader, &got, 20 * CLOCK_NS_PER_MS);
        if (rc == EVBUS_ETIMEOUT && was_done)
            return;
        cr_assert_eq(storm->notes->failed, 0, "a publish returned %d; %lu events read", storm->notes->failed,
                     (unsigned long)ledger.n_events);
        if (rc == EVBUS_ETIMEOUT) {
            cr_assert_lt(await_now_ms() - quiet_since, 15000, "no event for 15 s; %lu read",
                         (unsigned long)ledger.n_events);
            continue;
        }
        cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, evbus_message(storm->f.bus));
        enter(&ledger, &got, storm->notes);
        if (storm->n_faults != 0)
            look_at_gaps(&gaps, storm->notes);
        quiet_since = await_now_ms();
    }
}

/* Each acknowledged event was read; the last one that a killed producer was at, perhaps. */
static void check_complete(const struct storm *storm)
{
    for (uint32_t id = 1; id <= storm->notes->n_born; id++) {
        uint64_t acked = storm->notes->acked[id];
        cr_assert(ledger.last_of[id] >= acked && ledger.last_of[id] - acked <= at_once(id, acked + 1),
                  "producer %u was acknowledged up to %lu, read up to %lu", id, (unsigned long)acked,
                  (unsigned long)ledger.last_of[id]);
        cr_assert_eq(ledger.n_of[id], ledger.last_of[id], "producer %u: %lu of %lu events read", id,
                     (unsigned long)ledger.n_of[id], (unsigned long)ledger.last_of[id]);
    }
    for (int p = 0; p < PARTITIONS; p++)
        cr_assert_eq(ledger.lost[p], 0, "a pinned reader lost %lu cells of partition %d", (unsigned long)ledger.lost[p],
                     p);
}

static void print_gaps(const char *what, int kills, const struct notes *notes)
{
    static uint64_t sorted[FAULTS_MAX];
    uint64_t n = 0;
    uint64_t n_quick = 0;
    for (uint32_t i = 0; i < notes->n_faults; i++)
        if (kills < 0 || notes->is_kill[i] == kills) {
            n_quick += gaps.ns[i] < 10 * CLOCK_NS_PER_MS;
            sorted[n++] = gaps.ns[i];
        }
    if (n == 0)
        return;
    uint64_t p50 = trial_quantile(sorted, n, 500);
    uint64_t p99 = trial_quantile(sorted, n, 990);
    fprintf(stderr, "gap after %s: p50 %.2f p99 %.2f max %.2f ms, %lu of %lu under 10 ms%s\n", what, (double)p50 / 1e6,
            (double)p99 / 1e6, (double)sorted[n - 1] / 1e6, (unsigned long)n_quick, (unsigned long)n,
            kills >= 0                ? ""
            : n_quick * 100 >= n * 99 ? ": held for 99 %"
                                      : ": NOT held for 99 %");
}

/* --- the tests ------------------------------------------------------------------------------------------------------- */

Test(storm, eight_processes_publish_and_each_event_is_read_once_whole_in_order, .timeout = 240)
{ /* [guards WHOLE] [guards ONE-WRITER] [guards NEVER-TORN] */
    struct storm storm = make_storm("256KiB", 0, 0);
    storm.notes->n_wanted = trial_count(1000000, 100000) / PRODUCERS;
    struct evbus_reader *reader = open_reader(&storm, true);
    uint64_t start = await_now_ms();
    struct child controller = child_start(rage,
                                          &storm); /* before we have a second thread: a sanitizer's allocator may be
                                                            locked by it at the fork, for ever */
    struct evbus *keeper = fixture_open(&storm.f, "keeper", EVBUS_KEEPER_VOLUNTEER);
    read_all(&storm, reader);
    uint64_t ms = await_now_ms() - start;
    cr_assert_eq(child_join(&controller), 0, "a producer failed");
    check_complete(&storm);
    cr_assert_eq(ledger.n_events, storm.notes->n_wanted * PRODUCERS);
    fprintf(stderr, "%lu events of %d processes in %lu ms\n", (unsigned long)ledger.n_events, PRODUCERS,
            (unsigned long)ms);
    evbus_reader_close(reader);
    evbus_close(keeper);
    fixture_end(&storm.f);
}

static void storm_with_faults(unsigned n_faults, bool is_paced, const char *name)
{
    struct storm storm = make_storm("1MiB", n_faults, trial_seed(name));
    storm.is_paced = is_paced;
    struct evbus_reader *reader = open_reader(&storm, true);
    struct child controller = child_start(rage,
                                          &storm); /* before we have a second thread: a sanitizer's allocator may be
                                                            locked by it at the fork, for ever */
    struct evbus *keeper = fixture_open(&storm.f, "keeper", EVBUS_KEEPER_VOLUNTEER);
    read_all(&storm, reader);
    cr_assert_eq(child_join(&controller), 0, "a producer failed");
    check_complete(&storm);
    fprintf(stderr, "%s: %lu events of %u processes, %u faults\n", is_paced ? "paced" : "as fast as they can",
            (unsigned long)ledger.n_events, storm.notes->n_born, storm.notes->n_faults);
    print_gaps("SIGKILL", 1, storm.notes);
    print_gaps("SIGSTOP", 0, storm.notes);
    print_gaps("a fault", -1, storm.notes);
    for (uint32_t i = 0; i < storm.notes->n_faults; i++)
        cr_assert_lt(gaps.ns[i], 2 * CLOCK_NS_PER_S, "%.1f ms without an event after fault %u (%s)",
                     (double)gaps.ns[i] / 1e6, i, storm.notes->is_kill[i] != 0 ? "SIGKILL" : "SIGSTOP");
    evbus_reader_close(reader);
    evbus_close(keeper);
    fixture_end(&storm.f);
}

Test(storm, nothing_acknowledged_is_lost_or_torn_while_producers_are_killed_and_stopped, .timeout = 240)
{ /* [guards WHOLE] [guards ONE-WRITER] [guards NEVER-TORN] [guards PROGRESS] */
    storm_with_faults((unsigned)trial_count(400, 40), true,
                      "storm/nothing_acknowledged_is_lost_or_torn_while_producers_are_killed_and_stopped");
}

Test(storm, a_ring_that_is_full_all_the_time_survives_the_same, .timeout = 240)
{ /* [guards WHOLE] [guards ONE-WRITER] [guards NEVER-TORN] [guards PROGRESS] */
    storm_with_faults((unsigned)trial_count(100, 10), false,
                      "storm/a_ring_that_is_full_all_the_time_survives_the_same");
}

/* A reader that is too slow: it stands still now and then. */
static void read_slowly(struct storm *storm, struct evbus_reader *reader)
{
    struct evbus_delivery got = {.size = sizeof got};
    uint64_t quiet_since = await_now_ms();
    for (uint64_t n = 1;; n++) {
        bool was_done = storm->notes->done != 0;
        int rc = evbus_reader_next(reader, &got, 20 * CLOCK_NS_PER_MS);
        if (rc == EVBUS_ETIMEOUT && was_done)
            return;
        if (rc == EVBUS_ETIMEOUT) {
            cr_assert_lt(await_now_ms() - quiet_since, 15000, "no event for 15 s");
            continue;
        }
        cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, evbus_message(storm->f.bus));
        uint32_t id;
        uint64_t number;
        uint32_t p = got.partition;
        cr_assert(load_read(&got, &id, &number) && id < IDS_MAX, "not as it was published: %s", where(&got));
        bool is_first_of_partition = ledger.next[p] == 0;
        uint64_t before = ledger.last_in[id][p];
        uint64_t lost_before = ledger.lost_before[id][p];
        if (is_first_of_partition)
            ledger.next[p] = got.position - got.lost;
        enter(&ledger, &got, storm->notes);
        if (before != 0 && lost_before == ledger.lost[p])
            for (uint64_t skipped = before + 1; skipped < number; skipped++) /* keys repeat: one of 7 is of this key */
                cr_assert_neq(skipped % 7, number % 7, "producer %u: event %lu is missing, but nothing was lost: %s",
                              id, (unsigned long)skipped, where(&got));
        if (n % 5000 == 0)
            pause_until(clock_mono_ns() + 3 * CLOCK_NS_PER_MS);
        quiet_since = await_now_ms();
    }
}

Test(storm, a_reader_that_is_overtaken_never_sees_a_wrong_byte_and_knows_what_it_lost, .timeout = 240)
{ /* [guards NEVER-TORN] */
    struct storm storm = make_storm(
        "64KiB", (unsigned)trial_count(100, 20),
        trial_seed("storm/a_reader_that_is_overtaken_never_sees_a_wrong_byte_and_knows_what_it_lost"));
    struct evbus_reader *reader = open_reader(&storm, false);
    struct child controller = child_start(rage,
                                          &storm); /* before we have a second thread: a sanitizer's allocator may be
                                                            locked by it at the fork, for ever */
    struct evbus *keeper = fixture_open(&storm.f, "keeper", EVBUS_KEEPER_VOLUNTEER);
    read_slowly(&storm, reader);
    cr_assert_eq(child_join(&controller), 0, "a producer failed");
    uint64_t lost = 0;
    uint64_t read = 0;
    uint64_t tails = 0;
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(storm.f.bus, &stat), EVBUS_OK);
    for (size_t i = 0; i < stat.n_partitions; i++)
        if (strcmp(stat.partitions[i].log, "test.a") == 0) {
            uint32_t p = stat.partitions[i].partition;
            lost += ledger.lost[p];
            read += ledger.read[p];
            tails += stat.partitions[i].tail;
            cr_assert_leq(ledger.lost[p] + ledger.read[p], stat.partitions[i].tail, "partition %u", p);
        }
    cr_assert_leq(lost, evbus_reader_lost(reader));
    fprintf(stderr, "%lu events read; cells: %lu read + %lu lost of %lu, the rest pads and names\n",
            (unsigned long)ledger.n_events, (unsigned long)read, (unsigned long)lost, (unsigned long)tails);
    cr_assert_gt(lost, 0, "the reader was never overtaken: nothing was tested");
    evbus_reader_close(reader);
    evbus_close(keeper);
    fixture_end(&storm.f);
}
