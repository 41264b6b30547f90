/* Producers that are stopped in the middle of a claim for as long as the test runs, and those who fence their cells off killed or
 * stopped at each of their instructions. Rule R5. */
#include "await.h"
#include "child.h"
#include "fixture.h"
#include "load.h"
#include "sleeper.h"
#include "step.h"
#include "trial.h"

#include "bus.h"
#include "clock.h"
#include "fence.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLEEPER     1 /* producers, as load.h numbers them */
#define OTHER       2
#define CLAIM_CELLS 5

struct notes {
    _Atomic uint64_t pos; /* where the sleeper's claim is going to stand */
    _Atomic uint64_t n_steps;
    _Atomic int rc;
};

struct trial {
    struct fixture f;
    struct notes *notes;
    struct evbus_reader *reader;
    struct ring *ring;
    uint64_t n;      /* who fences is killed or stopped at this step; 0: not at all */
    uint64_t number; /* of the others' last event */
    uint64_t n_sleepers_events;
};

static struct trial make_trial(bool keeper)
{
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct trial trial = {
        .f = fixture_make((struct fixture_options){.ring = "4KiB", .keeper = keeper}),
        .notes = child_shared(sizeof(struct notes)),
    };
    cr_assert_eq(evbus_reader_open(&trial.reader, trial.f.bus, NULL), EVBUS_OK);
    trial.ring = &trial.f.bus->memory.logs[0].rings[0];
    return trial;
}

static void end_trial(struct trial *trial)
{
    evbus_reader_close(trial->reader);
    fixture_end(&trial->f);
}

/* --- the others ------------------------------------------------------------------------------------------------------ */

static bool read_what_is_there(struct trial *trial)
{
    for (;;) {
        struct evbus_delivery got = {.size = sizeof got};
        uint32_t producer;
        uint64_t number;
        int rc = evbus_reader_next(trial->reader, &got, 0);
        if (rc == EVBUS_ETIMEOUT)
            return true;
        if (rc != EVBUS_OK || (strcmp(got.key, "warm") != 0 && !load_read(&got, &producer, &number))) {
            fprintf(stderr, "reader: %d %s, at %lu\n", rc, evbus_message(trial->f.bus), (unsigned long)got.position);
            return false;
        }
        trial->n_sleepers_events += strcmp(got.key, "warm") != 0 && producer == SLEEPER;
    }
}

static bool publish_one(struct trial *trial)
{
    int rc = load_publish(trial->f.bus, OTHER, ++trial->number, CLOCK_NS_PER_S);
    if (rc != EVBUS_OK)
        fprintf(stderr, "a publish of another: %d %s\n", rc, evbus_message(trial->f.bus));
    return rc == EVBUS_OK && read_what_is_there(trial);
}

static bool publish_laps(struct trial *trial, unsigned n_laps)
{
    uint64_t until = ring_tail(trial->ring) + n_laps * trial->ring->capacity;
    while (ring_tail(trial->ring) < until)
        if (!publish_one(trial))
            return false;
    return true;
}

static unsigned count_fences(const struct trial *trial)
{
    unsigned n = 0;
    for (int i = 0; i < FENCES_MAX; i++)
        n += atomic_load(&trial->ring->head->fences[i]) != 0;
    return n;
}

/* --- a producer that is stopped in its publish ----------------------------------------------------------------------- */

static int publish_and_sleep(void *context)
{
    struct trial *trial = context;
    struct evbus *bus = fixture_open(&trial->f, "sleeper", EVBUS_KEEPER_NEVER);
    const struct ring *ring = &bus->memory.logs[0].rings[0];
    do /* until there is room for its event before the ring's end: a pad would not be its claim */
        if (fixture_publish(bus, "warm", "\"up\"") != EVBUS_OK)
            return 98;
    while (ring_index(ring, ring_tail(ring)) > ring->capacity / 2);
    int rc = sleeper_publish(bus, SLEEPER, 1);
    evbus_close(bus);
    return rc == EVBUS_OK ? 0 : 97;
}

static void await_stop(struct child *child)
{
    int status = 0;
    cr_assert(await_that(waitpid(child->pid, &status, WNOHANG | WUNTRACED) == child->pid));
    cr_assert(WIFSTOPPED(status), "it ended with %#x", (unsigned)status);
}

static uint64_t publish_times(struct trial *trial, unsigned n_laps, uint64_t *out_p50)
{
    static uint64_t times[100000];
    uint64_t n = 0;
    uint64_t until = ring_tail(trial->ring) + n_laps * trial->ring->capacity;
    while (ring_tail(trial->ring) < until) {
        uint64_t start = clock_mono_ns();
        cr_assert_eq(load_publish(trial->f.bus, OTHER, ++trial->number, CLOCK_NS_PER_S), EVBUS_OK, "%s",
                     evbus_message(trial->f.bus));
        if (n < 100000)
            times[n++] = clock_mono_ns() - start;
        cr_assert(read_what_is_there(trial));
    }
    *out_p50 = trial_quantile(times, n, 500);
    return trial_quantile(times, n, 990);
}

static struct evbus_partition_stat stat_of(struct trial *trial)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(trial->f.bus, &stat), EVBUS_OK);
    return stat.partitions[0];
}

struct heard {
    char text[1024];
    char mend[512];
};

static void hear(void *context, const struct evbus_finding *finding)
{
    struct heard *heard = context;
    if (strstr(finding->what, "fenced off") == NULL || strstr(finding->what, "(sleeper)") == NULL)
        return;
    snprintf(heard->text, sizeof heard->text, "%s", finding->what);
    snprintf(heard->mend, sizeof heard->mend, "%s", finding->mend);
}

Test(fences, a_producer_stopped_in_its_claim_costs_nobody_anything_for_a_hundred_laps, .timeout = 120)
{ /* [guards PROGRESS] [guards ONE-WRITER] R5 */
    struct trial trial = make_trial(true);
    uint64_t p50_before, p50, p99_before = publish_times(&trial, 100, &p50_before);
    struct child sleeper = child_start(publish_and_sleep, &trial);
    await_stop(&sleeper);
    cr_assert(publish_laps(&trial, 2)); /* it is cancelled, and fenced */
    uint64_t p99 = publish_times(&trial, 100, &p50);
    struct evbus_partition_stat stat = stat_of(&trial);
    cr_expect_eq(stat.fences, 1);
    cr_expect_eq(stat.n_fences, 1);
    cr_expect_geq(stat.cancels, 1);
    struct heard heard = {"", ""};
    evbus_doctor(trial.f.bus, hear, &heard);
    char pid[32];
    snprintf(pid, sizeof pid, "process %d ", (int)sleeper.pid);
    cr_expect_not_null(strstr(heard.text, pid), "doctor: \"%s\"", heard.text);
    cr_expect_not_null(strstr(heard.mend, "kill -CONT"), "doctor: \"%s\"", heard.mend);
    cr_expect_eq(trial.n_sleepers_events, 0);
    child_continue(&sleeper);
    cr_expect_eq(child_join(&sleeper), 0);
    cr_assert(publish_laps(&trial, 2));
    cr_expect_eq(trial.n_sleepers_events, 1, "its event comes when it goes on, once");
    stat = stat_of(&trial);
    cr_expect_eq(stat.fences, 1);
    cr_expect_eq(stat.n_fences, 0);
    fprintf(stderr, "publish: p50 %lu p99 %lu ns before, p50 %lu p99 %lu ns beside a fence\n",
            (unsigned long)p50_before, (unsigned long)p99_before, (unsigned long)p50, (unsigned long)p99);
    end_trial(&trial);
}

Test(fences, a_producer_that_is_killed_in_its_fence_leaves_none, .timeout = 60)
{ /* R2 R5 */
    struct trial trial = make_trial(false);
    struct child sleeper = child_start(publish_and_sleep, &trial);
    await_stop(&sleeper);
    cr_assert(publish_laps(&trial, 3));
    cr_assert_eq(count_fences(&trial), 1);
    child_kill(&sleeper);
    evbus_close(fixture_open(&trial.f, "sweeper", EVBUS_KEEPER_NEVER)); /* attaching buries */
    cr_expect_eq(count_fences(&trial), 0);
    cr_assert(publish_laps(&trial, 3));
    cr_expect_eq(trial.n_sleepers_events, 0);
    end_trial(&trial);
}

Test(fences, a_keeper_and_a_producer_that_are_stopped_at_once_block_nobody, .timeout = 60)
{ /* [guards PROGRESS] who waits for room cancels by itself */
    struct trial trial = make_trial(false);
    evbus_reader_close(trial.reader);
    struct child sleeper = child_start(publish_and_sleep, &trial);
    await_stop(&sleeper);
    uint64_t until = ring_tail(trial.ring) + 10 * trial.ring->capacity; /* nobody keeps and nobody reads */
    while (ring_tail(trial.ring) < until)
        cr_assert_eq(load_publish(trial.f.bus, OTHER, ++trial.number, 2 * CLOCK_NS_PER_S), EVBUS_OK, "%s",
                     evbus_message(trial.f.bus));
    child_continue(&sleeper);
    cr_expect_eq(child_join(&sleeper), 0);
    fixture_end(&trial.f);
}

/* --- who fences is killed or stopped --------------------------------------------------------------------------------- */

/* Claims, stops, writes all its cells when it goes on, and is refused. */
static int claim_and_sleep(void *context)
{
    struct trial *trial = context;
    struct error err;
    struct bus_thread *thread;
    uint64_t frame[CLAIM_CELLS * CELL_WORDS];
    struct evbus *bus = fixture_open(&trial->f, "sleeper", EVBUS_KEEPER_NEVER);
    memset(frame, 0xa5, sizeof frame);
    if (bus_thread(bus, &thread, &err) != EVBUS_OK ||
        ring_claim(&bus->memory.logs[0].rings[0], CLAIM_CELLS, &thread->claim, &err) != EVBUS_OK)
        return 93;
    trial->notes->pos = thread->claim.pos;
    kill(getpid(), SIGSTOP);
    ring_write(&thread->claim, frame);
    int rc = ring_commit(&thread->claim, &err);
    trial->notes->rc = rc;
    evbus_close(bus);
    return rc == EVBUS_EAGAIN ? 0 : 94;
}

static int fence_to_step(void *context)
{
    struct trial *trial = context;
    struct evbus *bus = fixture_open(&trial->f, "fencer", EVBUS_KEEPER_NEVER);
    struct ring *ring = &bus->memory.logs[0].rings[0];
    step_begin(trial->n != 0 ? step_kill : step_count, &trial->n);
    bool has_moved = ring_release(ring, ring->capacity);
    trial->notes->n_steps = step_end();
    return has_moved ? 0 : 95;
}

static int fence_with_stop(void *context)
{
    struct trial *trial = context;
    struct evbus *bus = fixture_open(&trial->f, "fencer", EVBUS_KEEPER_NEVER);
    struct ring *ring = &bus->memory.logs[0].rings[0];
    struct step_ours ours = {.wanted = trial->n};
    step_begin(step_stop_in_ours, &ours);
    ring_release(ring, ring->capacity);
    step_end();
    trial->notes->n_steps = ours.n;
    return 0;
}

/* A claim at the front of the ring whose writer sleeps, cancelled and not fenced; nothing else is in the ring. */
static struct child start_sleeper(struct trial *trial)
{
    while (ring_release(trial->ring, trial->ring->capacity)) {
    }
    struct child child = child_start(claim_and_sleep, trial);
    await_stop(&child);
    uint64_t pos = trial->notes->pos;
    ring_cancel(trial->ring, pos, atomic_load(ring_word(trial->ring, pos)));
    cr_assert(publish_one(trial) && publish_one(trial));
    return child;
}

static bool end_sleeper(struct trial *trial, struct child *sleeper)
{
    child_continue(sleeper);
    int status = child_join(sleeper);
    if (status != 0)
        fprintf(stderr, "the sleeper ended with %d, its commit with %d\n", status, trial->notes->rc);
    return status == 0;
}

/* Everything that the dead have left is gone once a lap or two have passed. */
static bool is_clean(struct trial *trial)
{
    if (!publish_laps(trial, 2))
        return false;
    if (count_fences(trial) != 0)
        fprintf(stderr, "%u entries are left\n", count_fences(trial));
    return count_fences(trial) == 0;
}

static bool kill_at(struct trial *trial, bool *out_is_whole)
{
    struct child sleeper = start_sleeper(trial);
    struct child fencer = child_start(fence_to_step, trial);
    int status = child_join(&fencer);
    *out_is_whole = status == 0;
    if (status != 0 && status != 128 + SIGKILL) {
        fprintf(stderr, "who fences ended with %d\n", status);
        return false;
    }
    return publish_laps(trial, 2) && end_sleeper(trial, &sleeper) && is_clean(trial);
}

static bool stop_at(struct trial *trial, bool *out_is_whole)
{
    int status = 0;
    struct child sleeper = start_sleeper(trial);
    struct child fencer = child_start(fence_with_stop, trial);
    if (!await_that(waitpid(fencer.pid, &status, WNOHANG | WUNTRACED) == fencer.pid))
        return false;
    *out_is_whole = !WIFSTOPPED(status);
    if (!publish_laps(trial, 2)) /* another fences it */
        return false;
    if (trial->n % 2 == 0) { /* the sleeper goes on first, and the next one sleeps in its place, with its slot */
        if (!end_sleeper(trial, &sleeper))
            return false;
        sleeper = start_sleeper(trial);
        if (!publish_laps(trial, 2))
            return false;
    }
    if (!*out_is_whole) {
        child_continue(&fencer);
        status = child_join(&fencer);
        if (status != 0)
            return false;
    }
    return publish_laps(trial, 2) && end_sleeper(trial, &sleeper) && is_clean(trial);
}

/* A writer that finds itself fenced: its way back. */
static int come_back_to_step(void *context)
{
    struct trial *trial = context;
    struct error err;
    struct bus_thread *thread;
    struct evbus *bus = fixture_open(&trial->f, "sleeper", EVBUS_KEEPER_NEVER);
    struct ring *ring = &bus->memory.logs[0].rings[0];
    if (bus_thread(bus, &thread, &err) != EVBUS_OK || ring_claim(ring, CLAIM_CELLS, &thread->claim, &err) != EVBUS_OK)
        return 93;
    uint64_t pos = thread->claim.pos;
    ring_cancel(ring, pos, atomic_load(ring_word(ring, pos)));
    fence_put(ring, pos, atomic_load(ring_word(ring, pos)));
    step_begin(trial->n != 0 ? step_kill : step_count, &trial->n);
    int rc = ring_commit(&thread->claim, &err);
    trial->notes->n_steps = step_end();
    evbus_close(bus);
    return rc == EVBUS_EAGAIN ? 0 : 94;
}

static bool kill_on_the_way_back(struct trial *trial, bool *out_is_whole)
{
    struct child sleeper = child_start(come_back_to_step, trial);
    int status = child_join(&sleeper);
    *out_is_whole = status == 0;
    if ((status != 0 && status != 128 + SIGKILL) || !publish_laps(trial, 2))
        return false;
    evbus_close(fixture_open(&trial->f, "sweeper", EVBUS_KEEPER_NEVER)); /* attaching buries */
    return is_clean(trial);
}

static void at_any_instruction(bool (*at)(struct trial *, bool *), const char *what)
{
    struct trial trial = make_trial(false);
    bool is_whole = false;
    uint64_t n_points = 0;
    cr_assert(publish_laps(&trial, 1));
    cr_assert(at(&trial, &is_whole) && is_whole, "one that is let through");
    uint64_t n_steps = trial.notes->n_steps;
    is_whole = false;
    for (trial.n = trial_only_step() != 0 ? trial_only_step() : 1; !is_whole && trial.n <= 2 * n_steps;
         trial.n += trial_is_full() ? 1 : 1 + n_steps / 40) {
        bool good = at(&trial, &is_whole);
        if (!good)
            fprintf(stderr, "again: EVBUS_STEP=%lu crash-fences -j1 --filter 'fences/*%s*'\n", (unsigned long)trial.n,
                    what);
        cr_assert(good, "%s at step %lu", what, (unsigned long)trial.n);
        n_points++;
        if (trial_only_step() != 0)
            break;
    }
    fprintf(stderr, "%s: %lu points of %lu\n", what, (unsigned long)n_points, (unsigned long)n_steps);
    end_trial(&trial);
}

Test(fences, killed_at_any_instruction_are_made_by_the_next, .timeout = 240)
{ /* [guards ONE-WRITER] [guards PROGRESS] R5 */
    at_any_instruction(kill_at, "killed_at");
}

Test(fences, stopped_at_any_instruction_take_no_later_one_away, .timeout = 240)
{ /* [guards ONE-WRITER] [guards PROGRESS] R5 */
    at_any_instruction(stop_at, "stopped_at");
}

Test(fences, end_though_their_writer_is_killed_at_any_instruction_of_its_way_back, .timeout = 240)
{ /* [guards ONE-WRITER] [guards PROGRESS] R2 R5 */
    at_any_instruction(kill_on_the_way_back, "way_back");
}
