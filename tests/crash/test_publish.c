/* A publish that is stopped at each of its machine instructions, or killed behind its commit. Killed at any other: test_points.c. */
#include "await.h"
#include "child.h"
#include "fixture.h"
#include "load.h"
#include "sleeper.h"
#include "step.h"
#include "trial.h"

#include "bus.h"
#include "clock.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define VICTIM        1 /* producers, as load.h numbers them */
#define NEIGHBOUR     2
#define PAYLOAD_BYTES (46 + 8 * 8)

/* What parent and victim share outside the bus. */
struct notes {
    _Atomic uint64_t pos;     /* where the victim's event is going to stand, or a pad before it */
    _Atomic uint64_t n_steps; /* of a publish that was let through */
    _Atomic uint64_t claim;   /* of them, up to its claim */
    _Atomic int rc;           /* of the victim's publish */
    _Atomic int is_back;      /* it has returned */
    _Atomic uint64_t n_read;  /* by a sleeping reader */
    _Atomic int is_ready;
};

struct trial {
    struct fixture f;
    struct notes *notes;
    struct evbus_reader *reader;
    struct ring *ring;
    uint64_t n;         /* the step */
    uint64_t neighbour; /* number of the parent's last event */
    uint64_t victim;    /* number of the victim's event */
};

static struct trial make_trial(bool keeper)
{
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct trial trial = {
        .f = fixture_make((struct fixture_options){.ring = "4KiB", .keeper = keeper}),
        .notes = child_shared(sizeof(struct notes)),
    };
    struct evbus_reader_options options = {.size = sizeof options};
    cr_assert_eq(evbus_reader_open(&trial.reader, trial.f.bus, &options), EVBUS_OK);
    trial.ring = &trial.f.bus->memory.logs[0].rings[0];
    return trial;
}

/* The next number whose payload has this length: each publish then takes the same steps, and a ring of 64 cells has room. */
static uint64_t next_number(uint32_t producer, uint64_t number)
{
    char payload[LOAD_BYTES_MAX];
    do {
        number++;
    } while (load_make(payload, producer, number) != PAYLOAD_BYTES);
    return number;
}

/* --- the victim -------------------------------------------------------------------------------------------------------- */

static struct evbus *victims_bus; /* in its process */

static uint64_t word_at(const struct ring *ring, uint64_t pos)
{
    return atomic_load_explicit(&ring->words[ring_index(ring, pos)], memory_order_acquire);
}

static struct evbus *warm_up(struct trial *trial)
{
    struct evbus *bus = fixture_open(&trial->f, "victim", EVBUS_KEEPER_NEVER);
    for (int i = 0; i < 2; i++) /* its names, its memory, its random bytes */
        if (fixture_publish(bus, "warm", "\"up\"") != EVBUS_OK)
            _exit(98);
    trial->notes->pos = ring_tail(&bus->memory.logs[0].rings[0]);
    return bus;
}

/* Notes the step that claims. */
static bool note_claim(void *context, uint64_t n, uintptr_t pc)
{
    struct trial *trial = context;
    (void)pc;
    if (trial->notes->claim == 0 && word_lap(word_at(&victims_bus->memory.logs[0].rings[0], trial->notes->pos)) ==
                                        ring_lap(&victims_bus->memory.logs[0].rings[0], trial->notes->pos))
        trial->notes->claim = n;
    return true;
}

static int publish_to_step(void *context)
{
    struct trial *trial = context;
    struct evbus *bus = victims_bus = warm_up(trial);
    step_begin(trial->n != 0 ? step_kill : note_claim, trial->n != 0 ? (void *)&trial->n : trial);
    int rc = load_publish(bus, VICTIM, trial->victim, 0);
    trial->notes->n_steps = step_end();
    trial->notes->rc = rc;
    return rc == EVBUS_OK ? 0 : 97;
}

static int publish_with_stop(void *context)
{
    struct trial *trial = context;
    struct evbus *bus = warm_up(trial);
    struct step_ours ours = {.wanted = trial->n};
    step_begin(step_stop_in_ours, &ours);
    int rc = load_publish(bus, VICTIM, trial->victim, CLOCK_NS_PER_S);
    step_end();
    trial->notes->n_steps = ours.n;
    trial->notes->rc = rc;
    evbus_close(bus);
    return rc == EVBUS_OK ? 0 : 97;
}

/* --- the others -------------------------------------------------------------------------------------------------------- */

static void say_step(const struct trial *trial, const char *test)
{
    fprintf(stderr, "step %lu; again: EVBUS_STEP=%lu crash-publish -j1 --filter 'publish/%s'\n",
            (unsigned long)trial->n, (unsigned long)trial->n, test);
}

static bool publish_neighbour(struct trial *trial)
{
    trial->neighbour = next_number(NEIGHBOUR, trial->neighbour);
    int rc = load_publish(trial->f.bus, NEIGHBOUR, trial->neighbour, CLOCK_NS_PER_S);
    if (rc != EVBUS_OK)
        fprintf(stderr, "a neighbour's publish: %d %s\n", rc, evbus_message(trial->f.bus));
    return rc == EVBUS_OK;
}

/* Reads to the neighbour's last event. Returns how often the victim's was read before it; -1: something is wrong. */
static int read_to_neighbour(struct trial *trial)
{
    int n_victims = 0;
    for (;;) {
        struct evbus_delivery got = {.size = sizeof got};
        uint32_t producer;
        uint64_t number;
        int rc = evbus_reader_next(trial->reader, &got, CLOCK_NS_PER_S);
        if (rc != EVBUS_OK || got.lost != 0) {
            fprintf(stderr, "reader: %d %s, lost %lu\n", rc, evbus_message(trial->f.bus), (unsigned long)got.lost);
            return -1;
        }
        if (strcmp(got.key, "warm") == 0)
            continue;
        if (!load_read(&got, &producer, &number)) {
            fprintf(stderr, "torn at %lu: %.*s\n", (unsigned long)got.position, (int)got.payload_len,
                    (const char *)got.payload);
            return -1;
        }
        if (producer == VICTIM && number == trial->victim)
            n_victims++;
        if (producer == NEIGHBOUR && number == trial->neighbour)
            return n_victims;
    }
}

static bool fill_three_laps(struct trial *trial)
{
    uint64_t until = ring_tail(trial->ring) + 3 * trial->ring->capacity;
    while (ring_tail(trial->ring) < until)
        if (!publish_neighbour(trial) || read_to_neighbour(trial) != 0)
            return false;
    return true;
}

/* What the victim's word says: is its event on the bus? */
static bool is_committed(const struct trial *trial)
{
    uint64_t pos = trial->notes->pos;
    for (;;) {
        uint64_t word = word_at(trial->ring, pos);
        if (word_lap(word) != ring_lap(trial->ring, pos))
            return false;
        if (word_state(word) != WORD_PAD)
            return word_state(word) == WORD_COMMITTED;
        pos += word_cells(word);
    }
}

static uint32_t slots_in_use(struct trial *trial)
{
    evbus_close(fixture_open(&trial->f, "sweeper", EVBUS_KEEPER_NEVER)); /* attaching buries */
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(trial->f.bus, &stat), EVBUS_OK);
    return stat.n_slots;
}

/* One point. true: all is well. out_there: was the event there? */
static bool kill_at(struct trial *trial, uint64_t *out_ns, bool *out_there, bool *out_is_whole)
{
    trial->victim = next_number(VICTIM, trial->victim);
    struct child child = child_start(publish_to_step, trial);
    int status = child_join(&child);
    if (status != 128 + SIGKILL && status != 0) {
        fprintf(stderr, "the victim ended with %d\n", status);
        return false;
    }
    *out_is_whole = status == 0;
    bool there = is_committed(trial);
    uint64_t start = clock_mono_ns();
    if (!publish_neighbour(trial))
        return false;
    int n_victims = read_to_neighbour(trial);
    *out_ns = clock_mono_ns() - start;
    *out_there = there;
    if (n_victims != (there ? 1 : 0)) {
        fprintf(stderr, "the word says %s, the event was read %d times\n", there ? "committed" : "not committed",
                n_victims);
        return false;
    }
    if (*out_ns >= CLOCK_NS_PER_S) {
        fprintf(stderr, "the bus went on after %.1f ms\n", (double)*out_ns / 1e6);
        return false;
    }
    return fill_three_laps(trial);
}

/* --- the tests ------------------------------------------------------------------------------------------------------- */

/* The step after n: the next; with EVBUS_QUICK=1 or a sanitizer fewer, most of them where memory is shared. */
static uint64_t next_step(const struct trial *trial, uint64_t n)
{
    uint64_t claim = trial->notes->claim;
    if (trial_only_step() != 0)
        return UINT64_MAX;
    return n + (trial_is_full() ? 1 : n + 20 < claim ? claim / 10 + 1 : (trial->notes->n_steps - claim) / 40 + 1);
}

static void print_times(const char *what, uint64_t n_points, uint64_t n_steps, uint64_t *ns)
{
    uint64_t p50 = trial_quantile(ns, n_points, 500);
    uint64_t p99 = trial_quantile(ns, n_points, 990);
    fprintf(stderr, "%s: %lu points of %lu; the bus went on after p50 %.3f p99 %.3f max %.3f ms\n", what,
            (unsigned long)n_points, (unsigned long)n_steps, (double)p50 / 1e6, (double)p99 / 1e6,
            n_points != 0 ? (double)ns[n_points - 1] / 1e6 : 0);
}

static uint64_t times[100000];

/* A pinned or a plain reader. */
static void reopen_reader(struct trial *trial, bool pin)
{
    evbus_reader_close(trial->reader);
    struct evbus_reader_options options = {.size = sizeof options, .pin = pin};
    cr_assert_eq(evbus_reader_open(&trial->reader, trial->f.bus, &options), EVBUS_OK);
}

/* One point: the others go on while it is stopped, then its event comes, once. */
static bool stop_at(struct trial *trial, uint64_t *out_ns, bool *out_is_whole)
{
    int status = 0;
    trial->victim = next_number(VICTIM, trial->victim);
    struct child child = child_start(publish_with_stop, trial);
    if (!await_that(waitpid(child.pid, &status, WNOHANG | WUNTRACED) == child.pid)) {
        fprintf(stderr, "the victim neither stopped nor ended\n");
        child_kill(&child);
        return false;
    }
    bool is_stopped = WIFSTOPPED(status);
    *out_is_whole = !is_stopped;
    int n_victims = 0;
    uint64_t start = clock_mono_ns();
    for (int i = 0; i < 3 && n_victims >= 0; i++) {
        int n = publish_neighbour(trial) ? read_to_neighbour(trial) : -1;
        n_victims = n < 0 ? -1 : n_victims + n;
        if (i == 0)
            *out_ns = clock_mono_ns() - start;
    }
    if (is_stopped) {
        child_continue(&child);
        status = child_join(&child);
    } else {
        status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    if (n_victims < 0 || status != 0) {
        fprintf(stderr, "the victim ended with %d, its publish with %d\n", status, trial->notes->rc);
        return false;
    }
    int n = publish_neighbour(trial) ? read_to_neighbour(trial) : -1;
    if (n < 0 || n_victims + n != 1) {
        fprintf(stderr, "its event was read %d + %d times\n", n_victims, n);
        return false;
    }
    if (*out_ns >= CLOCK_NS_PER_S) {
        fprintf(stderr, "the bus went on after %.1f ms\n", (double)*out_ns / 1e6);
        return false;
    }
    return trial->n % 8 != 0 || fill_three_laps(trial);
}

Test(publish, stopped_at_any_instruction_costs_the_others_a_moment_and_comes_later, .timeout = 240)
{ /* [guards WHOLE] [guards PROGRESS] [guards ONE-WRITER] R10 */
    struct trial trial = make_trial(false);
    cr_assert(publish_neighbour(&trial) && read_to_neighbour(&trial) == 0);
    uint32_t baseline = slots_in_use(&trial);
    uint64_t ns;
    bool is_whole;
    bool there;
    cr_assert(kill_at(&trial, &ns, &there, &is_whole), "a publish that is let through");
    uint64_t n_all = trial.notes->n_steps;
    cr_assert(stop_at(&trial, &ns, &is_whole), "a publish that is let through");
    uint64_t n_steps = trial.notes->n_steps;
    trial.notes->claim = trial.notes->claim * n_steps / n_all; /* about: here only steps of our own count */
    uint64_t first = trial_only_step() != 0 ? trial_only_step() : 1;
    uint64_t n_points = 0;
    uint64_t deadline = await_now_ms() + trial_ms(60000, 8000);
    is_whole = false;
    for (trial.n = first; !is_whole && trial.n < 2 * n_steps && await_now_ms() < deadline;
         trial.n = next_step(&trial, trial.n)) {
        reopen_reader(&trial, trial.n % 2 == 0);
        bool good = stop_at(&trial, &ns, &is_whole);
        if (!good)
            say_step(&trial, "stopped_at_any_instruction_costs_the_others_a_moment_and_comes_later");
        cr_assert(good, "stopped at step %lu of our own", (unsigned long)trial.n);
        times[n_points++] = ns;
    }
    cr_assert_eq(slots_in_use(&trial), baseline, "slots leak");
    print_times("stopped", n_points, n_steps, times);
    evbus_reader_close(trial.reader);
    fixture_end(&trial.f);
}

Test(publish, a_producer_stopped_while_it_makes_room_costs_a_reader_nothing, .timeout = 60)
{ /* R6: three quarters of the ring stay readable */
    struct trial trial = make_trial(false);
    struct ring_head *head = trial.ring->head;
    uint64_t lag = 0; /* events that are published and not read */
    uint64_t next = 0;
    uint64_t until = ring_tail(trial.ring) + 5 * trial.ring->capacity;
    while (ring_tail(trial.ring) < until) {
        atomic_store(&head->release_turn, atomic_load(&head->released) + 1); /* as it took the turn, and stands there */
        cr_assert(publish_neighbour(&trial));
        if (++lag <= 2)
            continue;
        struct evbus_delivery got = {.size = sizeof got};
        uint32_t producer;
        uint64_t number;
        cr_assert_eq(evbus_reader_next(trial.reader, &got, CLOCK_NS_PER_S), EVBUS_OK);
        cr_assert(load_read(&got, &producer, &number));
        next = next_number(NEIGHBOUR, next);
        cr_assert(got.lost == 0 && number == next,
                  "event %lu, not %lu, was read, and %lu cells of %lu are lost, two events behind the tail",
                  (unsigned long)number, (unsigned long)next, (unsigned long)got.lost,
                  (unsigned long)trial.ring->capacity);
        lag--;
    }
    evbus_reader_close(trial.reader);
    fixture_end(&trial.f);
}

static int publish_and_stop_when_claimed(void *context)
{
    struct trial *trial = context;
    return sleeper_publish(warm_up(trial), VICTIM, trial->victim) == EVBUS_OK ? 0 : 97;
}

Test(publish, a_writer_that_was_stopped_for_laps_writes_into_no_cell_of_another, .timeout = 60)
{ /* [guards ONE-WRITER] [guards NEVER-TORN] */
    struct trial trial = make_trial(false);
    for (int round = 0; round < 20; round++) {
        int status = 0;
        trial.victim = next_number(VICTIM, trial.victim);
        struct child child = child_start(publish_and_stop_when_claimed, &trial);
        cr_assert(await_that(waitpid(child.pid, &status, WNOHANG | WUNTRACED) == child.pid));
        cr_assert(publish_neighbour(&trial) && read_to_neighbour(&trial) >= 0); /* it is cancelled now */
        uint64_t until = ring_tail(trial.ring) + 3 * trial.ring->capacity;
        while (ring_tail(trial.ring) < until) { /* without reading */
            trial.neighbour = next_number(NEIGHBOUR, trial.neighbour);
            cr_assert_eq(load_publish(trial.f.bus, NEIGHBOUR, trial.neighbour, CLOCK_NS_PER_S), EVBUS_OK, "%s",
                         evbus_message(trial.f.bus));
        }
        if (WIFSTOPPED(status)) { /* else its event came before a pad: it was let through */
            child_continue(&child);
            cr_assert_eq(child_join(&child), 0, "round %d: the victim's publish failed", round);
        }
        for (;;) {
            struct evbus_delivery got = {.size = sizeof got};
            uint32_t producer;
            uint64_t number;
            int rc = evbus_reader_next(trial.reader, &got, 1000000);
            if (rc == EVBUS_ETIMEOUT)
                break;
            cr_assert_eq(rc, EVBUS_OK, "round %d: %d %s", round, rc, evbus_message(trial.f.bus));
            cr_assert(strcmp(got.key, "warm") == 0 || load_read(&got, &producer, &number), "round %d: torn at %lu: %s",
                      round, (unsigned long)got.position, (const char *)got.payload);
        }
    }
    evbus_reader_close(trial.reader);
    fixture_end(&trial.f);
}

/* --- a sleeper ------------------------------------------------------------------------------------------------------- */

static int read_asleep(void *context)
{
    struct trial *trial = context;
    struct evbus *bus;
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    if (evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                 .bus = trial->f.name,
                                                 .keeper = EVBUS_KEEPER_NEVER,
                                                 .wait = EVBUS_WAIT_BLOCK}) != EVBUS_OK ||
        evbus_reader_open(&reader, bus, NULL) != EVBUS_OK)
        return 96;
    trial->notes->is_ready = 1;
    for (;;) {
        uint32_t producer;
        uint64_t number;
        int rc = evbus_reader_next(reader, &got, UINT64_MAX);
        if (rc != EVBUS_OK)
            return 95;
        if (load_read(&got, &producer, &number))
            trial->notes->n_read = (uint64_t)producer << 56 | number;
    }
}

static bool is_asleep(const struct trial *trial)
{
    return atomic_load_explicit(&trial->f.bus->memory.logs[0].head->sleeping[0], memory_order_relaxed) != 0;
}

Test(publish, killed_between_commit_and_wake_leaves_no_sleeper_behind, .timeout = 240)
{ /* [guards WOKEN] D5 */
    struct trial trial = make_trial(true);
    struct child sleeper = child_start(read_asleep, &trial);
    cr_assert(await_that(trial.notes->is_ready != 0));
    uint64_t ns;
    uint64_t n_points = 0;
    uint64_t first = 0;
    trial.victim = next_number(VICTIM, trial.victim);
    struct child whole = child_start(publish_to_step, &trial);
    cr_assert_eq(child_join(&whole), 0);
    uint64_t n_steps = trial.notes->n_steps;
    uint64_t only = trial_only_step();
    uint64_t deadline = await_now_ms() + trial_ms(15000, 3000);
    uint64_t step = trial_is_full() ? 1 : trial_is_slow() ? n_steps / 100 : 4;
    unsigned n_before = 0; /* points in a row that lay before the commit */
    for (trial.n = only != 0 ? only : n_steps + 200; trial.n > 0 && n_before < 20 && await_now_ms() < deadline;
         trial.n -= trial.n > step ? step : trial.n) { /* from the end on */
        cr_assert(await_that(is_asleep(&trial)), "the reader does not go to sleep");
        trial.victim = next_number(VICTIM, trial.victim);
        struct child child = child_start(publish_to_step, &trial);
        int status = child_join(&child);
        cr_assert(status == 128 + SIGKILL || status == 0, "the victim ended with %d", status);
        if (status == 0)
            continue;
        n_before = is_committed(&trial) ? 0 : n_before + 1;
        if (n_before > 0)
            continue;
        uint64_t start = clock_mono_ns();
        bool came = await_that(trial.notes->n_read == ((uint64_t)VICTIM << 56 | trial.victim));
        ns = clock_mono_ns() - start;
        if (!came || ns >= CLOCK_NS_PER_S)
            say_step(&trial, "killed_between_commit_and_wake_leaves_no_sleeper_behind");
        cr_assert(came && ns < CLOCK_NS_PER_S, "killed at step %lu, the sleeper read after %.1f ms",
                  (unsigned long)trial.n, (double)ns / 1e6);
        times[n_points++] = ns;
        first = trial.n;
        if (only != 0)
            break;
    }
    fprintf(stderr, "steps %lu..%lu: ", (unsigned long)first, (unsigned long)n_steps);
    print_times("killed after the commit, a reader asleep", n_points, n_steps, times);
    child_kill(&sleeper);
    evbus_reader_close(trial.reader);
    fixture_end(&trial.f);
}
