/* A claim that its burial must find at the tail, and the dead of other PID namespaces. Killed and stopped: test_points.c. */
#include "await.h"
#include "child.h"
#include "fixture.h"

#include "burial.h"
#include "bus.h"
#include "doorbell.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the processes of a trial share outside the bus. */
struct notes {
    _Atomic uint64_t pos;  /* of the corpse's claim */
    _Atomic uint32_t slot; /* the corpse's */
};

struct trial {
    struct fixture f;
    struct notes *notes;
    struct evbus_reader *reader;
    uint32_t baseline;
};

/* --- the corpse ------------------------------------------------------------------------------------------------------ */

/* Dies with a claim, a place among the sleepers and a pin. */
static int die(void *context)
{
    struct trial *trial = context;
    struct error err;
    struct bus_thread *thread;
    struct evbus *bus = fixture_open(&trial->f, "corpse", EVBUS_KEEPER_NEVER);
    struct evbus_reader *reader;
    struct evbus_reader_options how = {.size = sizeof how, .pin = true};
    struct evbus_delivery got = {.size = sizeof got};
    struct ring *ring = &bus->memory.logs[0].rings[0];
    if (evbus_reader_open(&reader, bus, &how) != EVBUS_OK || bus_thread(bus, &thread, &err) != EVBUS_OK)
        return 90;
    while (thread->listener.places[0] == 0) /* until it has slept */
        if (evbus_reader_next(reader, &got, 1000000) != EVBUS_ETIMEOUT)
            return 92;
    if (ring_claim(ring, 3, &thread->claim, &err) != EVBUS_OK)
        return 93;
    doorbell_set(bus->memory.logs[0].head, thread->listener.places[0] - 1); /* as in its sleep */
    trial->notes->pos = thread->claim.pos;
    trial->notes->slot = thread->claim.slot;
    atomic_store(&ring->head->tail, thread->claim.pos); /* it has not moved it yet */
    kill(getpid(), SIGKILL);
    return 91;
}

/* --- the others ------------------------------------------------------------------------------------------------------ */

static uint32_t slots_in_use(struct trial *trial)
{
    evbus_close(fixture_open(&trial->f, "sweeper", EVBUS_KEEPER_NEVER)); /* attaching buries */
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(trial->f.bus, &stat), EVBUS_OK);
    return stat.n_slots;
}

static struct trial make_trial(void)
{
    struct trial trial = {
        .f = fixture_make((struct fixture_options){.ring = "4KiB"}),
        .notes = child_shared(sizeof(struct notes)),
    };
    struct evbus_reader_options options = {.size = sizeof options};
    cr_assert_eq(evbus_reader_open(&trial.reader, trial.f.bus, &options), EVBUS_OK);
    trial.baseline = slots_in_use(&trial);
    return trial;
}

/* Publishes an event and reads it. */
static bool goes_on(struct trial *trial)
{
    static uint64_t number;
    char payload[32];
    struct evbus_delivery got = {.size = sizeof got};
    snprintf(payload, sizeof payload, "%lu", (unsigned long)++number);
    int rc = fixture_publish(trial->f.bus, "k", payload);
    if (rc == EVBUS_OK)
        rc = evbus_reader_next(trial->reader, &got, UINT64_C(1000000000));
    if (rc != EVBUS_OK || strcmp(got.payload, payload) != 0)
        fprintf(stderr, "it does not go on: %d %s\n", rc, evbus_message(trial->f.bus));
    return rc == EVBUS_OK && strcmp(got.payload, payload) == 0;
}

static bool goes_on_for_three_laps(struct trial *trial)
{
    const struct ring *ring = &trial->f.bus->memory.logs[0].rings[0];
    uint64_t until = ring_tail(ring) + 3 * ring->capacity;
    while (ring_tail(ring) < until)
        if (!goes_on(trial))
            return false;
    return true;
}

static bool is_clean(struct trial *trial)
{
    const struct log_head *log = trial->f.bus->memory.logs[0].head;
    const struct ring *ring = &trial->f.bus->memory.logs[0].rings[0];
    uint32_t n = slots_in_use(trial);
    uint64_t word = atomic_load(&ring->words[ring_index(ring, trial->notes->pos)]);
    bool clean = n == trial->baseline && atomic_load(&log->sleeping[0]) == 0;
    if (word_lap(word) == ring_lap(ring, trial->notes->pos) && word_state(word) != WORD_PAD)
        clean = false;
    for (int i = 0; i < PINS_MAX; i++)
        clean = clean && atomic_load(&log->pin_owners[i]) == 0 && atomic_load(&ring->head->lows[i]) == 0;
    for (int i = 0; i < 8; i++) {
        uint32_t slot = atomic_load(&log->sleepers[i].slot);
        clean = clean && (slot == 0 || slot != trial->notes->slot);
    }
    if (!clean)
        fprintf(stderr, "%u slots in use, %u before; word %#lx, bits %#lx, pin %lu\n", n, trial->baseline,
                (unsigned long)word, (unsigned long)log->sleeping[0], (unsigned long)ring->head->lows[0]);
    return clean;
}

static bool make_corpse(struct trial *trial)
{
    struct child corpse = child_start(die, trial);
    int status = child_join(&corpse);
    if (status != 128 + SIGKILL)
        fprintf(stderr, "the corpse ended with %d\n", status);
    return status == 128 + SIGKILL;
}

/* --- the tests ------------------------------------------------------------------------------------------------------- */

Test(burial, finds_a_claim_that_lies_at_the_tail, .timeout = 60)
{ /* [guards ONE-WRITER] [guards PROGRESS] R1: nobody else has helped the tail on */
    struct trial trial = make_trial();
    for (int i = 0; i < 30; i++)
        cr_assert(make_corpse(&trial) && is_clean(&trial) && goes_on(&trial), "corpse %d", i);
    evbus_reader_close(trial.reader);
    fixture_end(&trial.f);
}

/* --- other PID namespaces -------------------------------------------------------------------------------------------- */

struct stranger {
    struct fixture *f;
    _Atomic int is_ready; /* -1: no namespace */
    _Atomic int must_go_on;
    _Atomic uint64_t n_published;
    bool claims;
    _Atomic int32_t tid;
};

/* Thread 1 of a PID namespace of its own. */
static void live_elsewhere(struct stranger *stranger)
{
    struct error err;
    struct bus_thread *thread;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct evbus *bus = fixture_open(stranger->f, "stranger", EVBUS_KEEPER_NEVER);
    if (fixture_publish(bus, "k", "\"from elsewhere\"") != EVBUS_OK || bus_thread(bus, &thread, &err) != EVBUS_OK)
        _exit(90);
    stranger->tid = (int32_t)gettid();
    if (stranger->claims && ring_claim(&bus->memory.logs[0].rings[0], 3, &thread->claim, &err) != EVBUS_OK)
        _exit(91);
    stranger->is_ready = 1;
    while (stranger->claims || stranger->must_go_on == 0)
        await_pause();
    for (int i = 0; i < 100; i++) {
        if (fixture_publish(bus, "k", "\"from elsewhere\"") != EVBUS_OK)
            _exit(92);
        stranger->n_published++;
    }
    _exit(0);
}

static int make_namespace(void *context)
{
    struct stranger *stranger = context;
    int status;
    if (unshare(CLONE_NEWPID) != 0) {
        stranger->is_ready = -1;
        return 0;
    }
    pid_t pid = fork();
    if (pid == 0)
        live_elsewhere(stranger);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 93;
}

static struct child start_stranger(struct stranger *stranger)
{
    struct child child = child_start(make_namespace, stranger);
    cr_assert(await_that(stranger->is_ready != 0), "the stranger does not start");
    if (stranger->is_ready < 0)
        cr_skip("no PID namespaces for us");
    return child;
}

Test(burial, finds_the_dead_of_another_pid_namespace, .timeout = 60)
{ /* B5 B10 */
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct trial trial = {.f = f, .notes = child_shared(sizeof(struct notes))};
    struct evbus_reader_options options = {.size = sizeof options, .pin = true};
    cr_assert_eq(evbus_reader_open(&trial.reader, f.bus, &options), EVBUS_OK);
    trial.baseline = slots_in_use(&trial);
    struct stranger *dying = child_shared(2 * sizeof *dying);
    struct stranger *living = dying + 1;
    dying->f = living->f = &f;
    dying->claims = true;
    struct child dier = start_stranger(dying);
    struct child liver = start_stranger(living);
    cr_assert(dying->tid == 1 && living->tid == 1, "two threads of the same number");
    child_kill(&dier); /* and its namespace with it */
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert(await_that(slots_in_use(&trial) == trial.baseline + 1), "the dead stranger is not buried");
    living->must_go_on = 1;
    struct evbus_delivery got = {.size = sizeof got};
    for (int n = 0; n < 102; n++)
        cr_assert_eq(evbus_reader_next(trial.reader, &got, UINT64_C(5000000000)), EVBUS_OK, "event %d: %s", n,
                     evbus_message(f.bus));
    cr_assert_eq(child_join(&liver), 0, "the living stranger published %lu", (unsigned long)living->n_published);
    cr_assert(goes_on_for_three_laps(&trial));
    cr_assert_eq(slots_in_use(&trial), trial.baseline);
    cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
    evbus_reader_close(trial.reader);
    fixture_end(&trial.f);
}
