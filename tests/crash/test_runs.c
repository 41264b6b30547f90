/* A batch that is killed at a point of one of its runs, stopped in the middle of one, or left by longjmp: a reader and a group see whole
 * runs, each event once and in order. Rule R20. */
#include "await.h"
#include "child.h"
#include "crew.h"
#include "load.h"
#include "step.h"
#include "trial.h"

#include "bus.h"
#include "clock.h"
#include "point.h"

#include <criterion/criterion.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define VICTIM      1 /* producers, as load.h numbers them */
#define NEIGHBOUR   2
#define COUNT       40 /* of a batch: some runs, in less than a ring */
#define PATIENCE_NS (20 * CLOCK_NS_PER_S)

/* What parent and victim share outside the bus. */
struct notes {
    _Atomic uint64_t pos;      /* where the victim's batch begins, or a pad before it */
    _Atomic uint64_t n_points; /* at which it was left */
};

struct trial {
    struct fixture f;
    struct notes *notes;
    struct evbus_reader *reader; /* pins */
    struct evbus_subscription *sub;
    struct ring *ring;
    const char *point; /* where the victim is killed, the n-th time */
    unsigned n;
    uint64_t neighbour; /* number of its last event */
    uint64_t victim;    /* number of the batch's first event */
};

static struct trial make_trial(void)
{
    struct trial trial = {.f = crew_bus((struct crew_options){.ring = "32KiB", .settings = ""}),
                          .notes = child_shared(sizeof(struct notes)),
                          .victim = 1};
    struct evbus_reader_options options = {.size = sizeof options, .pin = true};
    cr_assert_eq(evbus_reader_open(&trial.reader, trial.f.bus, &options), EVBUS_OK);
    trial.sub = crew_join(trial.f.bus, "crew", NULL, NULL);
    cr_assert_not_null(trial.sub);
    trial.ring = &trial.f.bus->memory.logs[0].rings[0];
    return trial;
}

static void end_trial(struct trial *trial)
{
    evbus_unsubscribe(trial->sub);
    evbus_reader_close(trial->reader);
    fixture_end(&trial->f);
}

/* --- the victim ------------------------------------------------------------------------------------------------------- */

static int publish_batch(struct evbus *bus, uint64_t first, size_t n)
{
    static struct load loads[COUNT];
    struct evbus_event events[COUNT];
    size_t n_published;
    for (size_t i = 0; i < n; i++)
        events[i] = load_event(&loads[i], VICTIM, first + i, PATIENCE_NS);
    int rc = evbus_publish_batch(bus, events, n, NULL, &n_published);
    return rc == EVBUS_OK && n_published != n ? 1 : rc;
}

static struct evbus *warm_up(struct trial *trial)
{
    struct evbus *bus = fixture_open(&trial->f, "victim", EVBUS_KEEPER_NEVER);
    if (load_publish(bus, NEIGHBOUR, 0, PATIENCE_NS) != EVBUS_OK) /* its names */
        _exit(98);
    trial->notes->pos = ring_tail(&bus->memory.logs[0].rings[0]);
    return bus;
}

static int publish_to_point(void *context)
{
    struct trial *trial = context;
    struct evbus *bus = warm_up(trial);
    point_arm(trial->point, trial->n, EVBUS_OK);
    return publish_batch(bus, trial->victim, COUNT) == EVBUS_OK ? 0 : 97;
}

/* A run of which so many frames behind the first have their words. */
struct front {
    const struct claim *claim;
    uint64_t n_frames;
};

static bool stop_behind_front(void *context, uint64_t n, uintptr_t pc)
{
    const struct front *front = context;
    const struct claim *claim = front->claim;
    uint64_t n_frames = 0;
    (void)n;
    (void)pc;
    if (claim->ring == NULL)
        return false;
    for (uint64_t pos = claim->pos + 1; pos < claim->pos + claim->n_cells; pos++)
        n_frames += word_lap(atomic_load(ring_word(claim->ring, pos))) == ring_lap(claim->ring, pos);
    if (n_frames < front->n_frames)
        return true;
    kill(getpid(), SIGSTOP);
    return false;
}

static int publish_with_stop(void *context)
{
    struct trial *trial = context;
    struct bus_thread *thread;
    struct error err;
    struct evbus *bus = warm_up(trial);
    if (bus_thread(bus, &thread, &err) != EVBUS_OK)
        return 96;
    struct front front = {&thread->claim, trial->n};
    step_begin_at((uintptr_t)ring_write, stop_behind_front, &front);
    int rc = publish_batch(bus, trial->victim, COUNT);
    step_end();
    evbus_close(bus);
    return rc == EVBUS_OK ? 0 : 97;
}

/* --- the others ------------------------------------------------------------------------------------------------------- */

static void publish_neighbour(struct trial *trial)
{
    cr_assert_eq(load_publish(trial->f.bus, NEIGHBOUR, ++trial->neighbour, PATIENCE_NS), EVBUS_OK, "%s",
                 evbus_message(trial->f.bus));
}

/* true: the neighbour's last event. Of the victim's the next one must be its n-th. */
static bool take(const struct trial *trial, const struct evbus_delivery *got, const char *who, uint64_t *inout_n)
{
    uint32_t producer;
    uint64_t number;
    cr_assert_eq(got->lost, 0, "%s", who);
    cr_assert(load_read(got, &producer, &number), "%s: torn at %lu", who, (unsigned long)got->position);
    if (producer == NEIGHBOUR)
        return number == trial->neighbour;
    cr_assert_eq(number, trial->victim + *inout_n, "%s: event %lu of the batch, not %lu", who,
                 (unsigned long)(number - trial->victim), (unsigned long)*inout_n);
    ++*inout_n;
    return false;
}

/* Publishes one, and reads to it. How many of the victim's came before it, to the reader and to the group alike: they are those from
 * the n_before-th on. */
static uint64_t go_on(struct trial *trial, uint64_t n_before)
{
    uint64_t n_read = n_before, n_received = n_before;
    bool is_there = false;
    publish_neighbour(trial);
    while (!is_there) {
        struct evbus_delivery got = {.size = sizeof got};
        cr_assert_eq(evbus_reader_next(trial->reader, &got, PATIENCE_NS), EVBUS_OK, "%s", evbus_message(trial->f.bus));
        is_there = take(trial, &got, "a reader", &n_read);
    }
    for (is_there = false; !is_there;) {
        struct evbus_delivery got = {.size = sizeof got};
        cr_assert_eq(evbus_receive(trial->sub, &got, PATIENCE_NS), EVBUS_OK, "%s", evbus_message(trial->f.bus));
        is_there = take(trial, &got, "a group", &n_received);
        cr_assert_eq(evbus_finish(trial->sub, &got, EVBUS_DONE, NULL), EVBUS_OK);
    }
    cr_assert_eq(n_read, n_received);
    return n_read - n_before;
}

static void go_on_for_laps(struct trial *trial, unsigned n_laps)
{
    uint64_t until = ring_tail(trial->ring) + n_laps * trial->ring->capacity;
    while (ring_tail(trial->ring) < until)
        cr_assert_eq(go_on(trial, 0), 0u);
}

/* --- killed ----------------------------------------------------------------------------------------------------------- */

static uint64_t word_at(const struct ring *ring, uint64_t pos)
{
    return atomic_load(ring_word(ring, pos));
}

/* Events of the victim that are committed; *out_pos: behind them. */
static uint64_t count_committed(const struct trial *trial, uint64_t *out_pos)
{
    uint64_t n = 0, pos = trial->notes->pos, word;
    for (; word_lap(word = word_at(trial->ring, pos)) == ring_lap(trial->ring, pos); pos += word_cells(word)) {
        if (word_state(word) == WORD_CLAIMED)
            break;
        n += word_state(word) == WORD_COMMITTED;
    }
    *out_pos = pos;
    return n;
}

/* Frames of a run that is written and not committed. */
static unsigned count_written(const struct ring *ring, uint64_t pos, uint32_t n_cells)
{
    struct frame_header header;
    unsigned n = 1;
    cr_assert_eq(ring_copy_header(ring, pos, &header), RING_COMMITTED, "its first frame");
    for (uint64_t at = pos + header.n_cells; at < pos + n_cells; at += word_cells(word_at(ring, at)), n++)
        cr_assert(word_state(word_at(ring, at)) == WORD_COMMITTED && ring_is_stamped(ring, at), "at %lu",
                  (unsigned long)at);
    return n;
}

Test(runs, killed_at_any_point_of_any_of_its_runs_a_batch_is_there_up_to_that_run, .timeout = 120)
{ /* [guards WHOLE] [guards PROGRESS] R20 B6 */
    static const char *const points[] = {"publish.claimed", "publish.written", "publish.committed"};
    struct trial trial = make_trial();
    for (size_t i = 0; i < 3; i++) {
        unsigned longest = 0; /* run that is written, in events */
        int status = 128 + SIGKILL;
        trial.point = points[i];
        for (trial.n = 1; status != 0; trial.n++, trial.victim += COUNT) {
            struct child child = child_start(publish_to_point, &trial);
            status = child_join(&child);
            cr_assert(status == 0 || status == 128 + SIGKILL, "%s, %u: %d", trial.point, trial.n, status);
            uint64_t pos;
            uint64_t n_committed = count_committed(&trial, &pos);
            uint32_t n_cells = (uint32_t)(ring_tail(trial.ring) - pos);
            if (status != 0 && i < 2) {
                cr_assert_eq(word_cells(word_at(trial.ring, pos)), n_cells, "%s, %u: one claim", trial.point, trial.n);
                cr_assert_leq(n_cells, trial.ring->capacity / 8, "of an eighth of the ring at most");
                unsigned n_written = i == 1 ? count_written(trial.ring, pos, n_cells) : 0;
                longest = n_written > longest ? n_written : longest;
            } else {
                cr_assert_eq(n_cells, 0u, "%s, %u", trial.point, trial.n);
            }
            cr_assert_eq(go_on(&trial, 0), n_committed, "%s, %u", trial.point, trial.n);
            cr_assert(status != 0 || n_committed == COUNT);
        }
        cr_assert(i != 1 || longest > 2, "the longest run has %u events", longest);
        cr_assert_lt(trial.n, COUNT / 2u, "there are no runs");
        go_on_for_laps(&trial, 2);
    }
    end_trial(&trial);
}

/* --- stopped ---------------------------------------------------------------------------------------------------------- */

Test(runs, stopped_with_any_part_of_a_run_written_a_batch_is_stepped_over_and_comes_whole, .timeout = 120)
{ /* [guards WHOLE] [guards ORDER] [guards PROGRESS] [guards ONE-WRITER] R5 R17 R20 */
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct trial trial = make_trial();
    bool is_stopped = true;
    for (trial.n = 0; is_stopped; trial.n += (unsigned)trial_count(1, 3), trial.victim += COUNT) {
        int status = 0;
        struct child child = child_start(publish_with_stop, &trial);
        cr_assert(await_that(waitpid(child.pid, &status, WNOHANG | WUNTRACED) == child.pid));
        is_stopped = WIFSTOPPED(status);
        cr_assert(is_stopped || (WIFEXITED(status) && WEXITSTATUS(status) == 0), "%u: %#x", trial.n, (unsigned)status);
        if (is_stopped) {
            cr_assert_eq(go_on(&trial, 0), 0u, "%u: an event of a run that is not committed", trial.n);
            if (trial.n % 2 == 0)
                go_on_for_laps(&trial, 3);
            child_continue(&child);
            cr_assert_eq(child_join(&child), 0, "%u", trial.n);
        }
        cr_assert_eq(go_on(&trial, 0), (uint64_t)COUNT, "%u", trial.n);
    }
    cr_assert_gt(trial.n, 3u, "no run was stopped in its middle");
    go_on_for_laps(&trial, 3);
    end_trial(&trial);
}

/* --- left by longjmp -------------------------------------------------------------------------------------------------- */

static sigjmp_buf outside;

static bool jump_out(void *context, uint64_t n, uintptr_t pc)
{
    (void)pc;
    if (n == *(const uint64_t *)context)
        siglongjmp(outside, 1);
    return true;
}

enum { SHORT = 5 }; /* events: one run, but at the end of a lap */

/* true: it was left. */
static bool leave_batch(struct evbus *bus, uint64_t first, uint64_t at)
{
    if (sigsetjmp(outside, 1) != 0)
        return true;
    step_begin_at((uintptr_t)ring_claim, jump_out, &at);
    publish_batch(bus, first, SHORT);
    step_end();
    return false;
}

static int leave_everywhere(void *context)
{
    struct trial *trial = context;
    struct evbus *bus = fixture_open(&trial->f, "jumper", EVBUS_KEEPER_NEVER);
    struct evbus_reader *reader;
    if (evbus_reader_open(&reader, bus, NULL) != EVBUS_OK || load_publish(bus, NEIGHBOUR, 0, 0) != EVBUS_OK)
        return 98;
    bool was_left = true;
    uint64_t step = trial_is_full() ? 7 : trial_is_slow() ? 301 : 51;
    for (uint64_t at = 1; was_left; at += step, trial->notes->n_points++) {
        uint64_t first = at * SHORT, n = 0, number = 0;
        uint32_t producer = VICTIM;
        const struct ring *ring = &bus->memory.logs[0].rings[0];
        while (ring_index(ring, ring_tail(ring)) > ring->capacity / 2)
            if (load_publish(bus, NEIGHBOUR, 0, PATIENCE_NS) != EVBUS_OK)
                return 97;
        was_left = leave_batch(bus, first, at);
        if (load_publish(bus, NEIGHBOUR, at, PATIENCE_NS) != EVBUS_OK)
            return 97;
        while (producer != NEIGHBOUR || number != at) {
            struct evbus_delivery got = {.size = sizeof got};
            if (evbus_reader_next(reader, &got, PATIENCE_NS) != EVBUS_OK || !load_read(&got, &producer, &number))
                return 96;
            if (producer == VICTIM && number != first + n++)
                return 95;
        }
        if (n != SHORT && (n != 0 || !was_left))
            return 94;
    }
    evbus_reader_close(reader);
    evbus_close(bus);
    return 0;
}

Test(runs, left_by_longjmp_at_any_instruction_a_run_is_there_whole_or_not_at_all, .timeout = 120)
{ /* [guards WHOLE] [guards PROGRESS] R11 R20 */
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct trial trial = {.f = fixture_make((struct fixture_options){0}), .notes = child_shared(sizeof(struct notes))};
    struct child child = child_start(leave_everywhere, &trial);
    int status = child_join(&child);
    cr_expect_eq(status, 0, "%d, behind %lu points", status, (unsigned long)trial.notes->n_points);
    cr_expect_gt(trial.notes->n_points, 10u);
    fprintf(stderr, "longjmp out of a batch: %lu points\n", (unsigned long)trial.notes->n_points);
    fixture_end(&trial.f);
}
