/* scene.c: a small bus under load, on which operations are killed or stopped. See scene.h. */
#include "scene.h"

#include "await.h"
#include "bus.h"
#include "clock.h"
#include "crew.h"
#include "doorbell.h"
#include "slot.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define IN_FLIGHT    6 /* events of the neighbour that crew has not handled: the ring never fills by it alone */
#define CORPSE_CELLS 3
#define SETTINGS     "\"retry\":[\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\"]"

static const char *const groups[SCENE_GROUPS] = {"crew", "other"};

/* --- the neighbours ------------------------------------------------------------------------------------------------------ */

/* Moves *inout_from to the first number that is still open. */
static uint32_t in_flight(const struct ledger *ledger, uint32_t producer, uint32_t *inout_from, uint32_t next)
{
    while (*inout_from < next && ledger_open(ledger, producer, *inout_from, *inout_from + 1) == 0)
        ++*inout_from;
    return next - *inout_from;
}

static int publish_on(void *context)
{
    struct scene *scene = context;
    struct scene_shared *shared = scene->shared;
    struct evbus *bus = fixture_open(&scene->f, "neighbour", EVBUS_KEEPER_NEVER);
    uint32_t from = 0;
    for (;;) {
        uint32_t number = shared->next[NEIGHBOUR];
        if (shared->gate == 0 || in_flight(&shared->ledgers[CREW], NEIGHBOUR, &from, number) >= IN_FLIGHT ||
            number >= LEDGER_EVENTS) {
            shared->is_idle[0] = 1;
            await_pause();
            continue;
        }
        shared->is_idle[0] = 0;
        int rc = ledger_publish(shared->ledgers, SCENE_GROUPS, bus, NEIGHBOUR, number, 50 * CLOCK_NS_PER_MS);
        shared->n_calls[0]++;
        if (rc != EVBUS_OK && rc != EVBUS_EFULL) {
            fprintf(stderr, "the neighbour's publish: %d %s\n", rc, evbus_message(bus));
            return 1;
        }
        if (rc != EVBUS_OK)
            continue; /* crew may be stopped */
        shared->next[NEIGHBOUR] = number + 1;
        shared->n_done[0]++;
    }
}

static int consume_on(void *context)
{
    struct scene *scene = context;
    struct scene_shared *shared = scene->shared;
    struct evbus *bus = fixture_open(&scene->f, "consumer", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = crew_join(bus, groups[OTHER], NULL, NULL);
    if (sub == NULL)
        return 1;
    for (;;) {
        struct evbus_delivery event = {.size = sizeof event};
        if (shared->gate == 0 && shared->is_consuming == 0) {
            shared->is_idle[1] = 1;
            await_pause();
            continue;
        }
        shared->is_idle[1] = 0;
        int rc = evbus_receive(sub, &event, 2 * CLOCK_NS_PER_MS);
        shared->n_calls[1]++;
        if (rc == EVBUS_ETIMEOUT)
            continue;
        if (rc == EVBUS_OK) {
            ledger_enter(&shared->ledgers[OTHER], 1, &event);
            rc = ledger_finish(&shared->ledgers[OTHER], 1, sub, &event, EVBUS_DONE);
        }
        if (rc != EVBUS_OK) {
            fprintf(stderr, "the consumer: %d %s\n", rc, evbus_message(bus));
            return 1;
        }
        shared->n_done[1]++;
    }
}

struct scene scene_make(void)
{
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only: steps need the trap flag");
    struct scene scene = {
        .f = crew_bus((struct crew_options){.more = ",\"other\"", .ring = "4KiB", .settings = SETTINGS}),
        .shared = child_shared(sizeof(struct scene_shared)),
    };
    for (int i = 0; i < SCENE_GROUPS; i++)
        scene.shared->ledgers[i].keys = SCENE_KEYS;
    scene.heir = ++scene.shared->n_members;
    scene.letters = crew_letters(scene.f.bus, groups[CREW]);
    static struct scene kept; /* the neighbours' */
    kept = scene;
    scene.neighbours[0] = child_start(publish_on, &kept);
    scene.neighbours[1] = child_start(consume_on, &kept);
    scene.shared->gate = 1;
    cr_assert(await_that(scene.shared->n_done[0] > 0 && scene.shared->n_done[1] > 0), "the neighbours do nothing");
    cr_assert(scene_publish(&scene, scene.f.bus, TESTER, CLOCK_NS_PER_S)); /* takes our slot */
    scene.baseline = crew_slots(&scene.f);
    return scene;
}

void scene_end(struct scene *scene)
{
    child_kill(&scene->neighbours[0]);
    child_kill(&scene->neighbours[1]);
    evbus_reader_close(scene->letters);
    fixture_end(&scene->f);
    munmap(scene->shared, sizeof *scene->shared);
}

static bool are_idle(const struct scene *scene)
{
    return scene->shared->is_idle[0] != 0 && scene->shared->is_idle[1] != 0;
}

static void close_gate(struct scene *scene)
{
    scene->shared->gate = 0;
    scene->shared->is_idle[0] = scene->shared->is_idle[1] = 0;
    cr_assert(await_that(are_idle(scene)), "the neighbours do not come to rest");
}

void scene_hold(struct scene *scene)
{
    uint32_t from = scene->settled[NEIGHBOUR];
    scene->shared->gate = 1;
    cr_assert(await_that(in_flight(&scene->shared->ledgers[CREW], NEIGHBOUR, &from, scene->shared->next[NEIGHBOUR]) >=
                         IN_FLIGHT),
              "the neighbour does not publish");
    close_gate(scene);
}

void scene_go(struct scene *scene)
{
    scene->shared->gate = 1;
}

/* --- actors ---------------------------------------------------------------------------------------------------------------- */

struct ledger *scene_ledger(struct actor *actor)
{
    return &actor->scene->shared->ledgers[CREW];
}

static bool is_published(struct evbus *bus, uint32_t producer, int rc)
{
    if (rc != EVBUS_OK && rc != EVBUS_EFULL)
        fprintf(stderr, "producer %u: %d %s\n", producer, rc, evbus_message(bus));
    return rc == EVBUS_OK;
}

bool scene_publish(struct scene *scene, struct evbus *bus, uint32_t producer, uint64_t timeout_ns)
{
    uint32_t number = scene->shared->next[producer]++;
    return is_published(bus, producer,
                        ledger_publish(scene->shared->ledgers, SCENE_GROUPS, bus, producer, number, timeout_ns));
}

bool scene_publish_batch(struct scene *scene, struct evbus *bus, uint32_t producer, uint64_t timeout_ns)
{
    uint32_t first = atomic_fetch_add(&scene->shared->next[producer], LEDGER_BATCH);
    return is_published(bus, producer,
                        ledger_publish_batch(scene->shared->ledgers, SCENE_GROUPS, bus, producer, first, timeout_ns));
}

bool scene_take(struct actor *actor, uint64_t timeout_ns)
{
    struct evbus_delivery *event = &actor->hands[actor->n_hands];
    if (actor->n_hands == SCENE_HANDS)
        return false;
    *event = (struct evbus_delivery){.size = sizeof *event};
    int rc = evbus_receive(actor->sub, event, timeout_ns);
    if (rc != EVBUS_OK) {
        if (rc != EVBUS_ETIMEOUT)
            fprintf(stderr, "receive: %d %s\n", rc, evbus_message(actor->bus));
        return false;
    }
    ledger_enter(scene_ledger(actor), actor->member, event);
    actor->n_hands++;
    return true;
}

bool scene_finish(struct actor *actor, unsigned n, enum evbus_outcome outcome)
{
    if (n >= actor->n_hands)
        return false;
    struct evbus_delivery event = actor->hands[n];
    actor->n_hands--;
    memmove(&actor->hands[n], &actor->hands[n + 1], (actor->n_hands - n) * sizeof event);
    return ledger_finish(scene_ledger(actor), actor->member, actor->sub, &event, outcome) == EVBUS_OK;
}

static void meet_fate(void *context)
{
    struct actor *actor = context;
    actor->has_come = 1;
    scene_ledger(actor)->doomed[actor->member] = actor->fate == KILLED;
    kill(getpid(), actor->fate == KILLED ? SIGKILL : SIGSTOP);
}

static bool hold_up(void *context, uint64_t n, uintptr_t pc)
{
    struct actor *actor = context;
    (void)n;
    if (!step_is_ours(pc) || actor->n_ours++ % actor->stride != actor->offset)
        return true;
    actor->n_stops++;
    kill(getpid(), SIGSTOP);
    return true;
}

static int play(void *context)
{
    struct actor *actor = context;
    const struct operation *operation = actor->operation;
    struct error err;
    struct bus_thread *thread;
    actor->bus = fixture_open(&actor->scene->f, "actor", EVBUS_KEEPER_NEVER);
    if (bus_thread(actor->bus, &thread, &err) != EVBUS_OK || !operation->warm_up(actor))
        return 98;
    actor->is_ready = 1;
    while (actor->may_go == 0)
        await_pause();
    touch_opens(&actor->scene->shared->gate, operation->waits_for_store ? 1 : 0);
    if (actor->fate == NOTED)
        touch_note(&actor->points, operation->starts_at);
    else if (actor->fate == KILLED || actor->fate == STOPPED)
        touch_at(actor->point, operation->starts_at, meet_fate, actor);
    else
        actor->scene->shared->gate = 1;
    if (actor->fate == HELD_UP)
        step_begin(hold_up, actor);
    bool is_good = operation->act(actor);
    if (actor->fate == HELD_UP)
        step_end();
    else
        touch_end();
    actor->scene->shared->gate = 1;
    while (is_good && actor->n_hands > 0)
        is_good = scene_finish(actor, 0, EVBUS_DONE);
    if (actor->reader != NULL)
        evbus_reader_close(actor->reader);
    evbus_unsubscribe(actor->sub);
    evbus_close(actor->bus);
    return is_good ? 0 : 97;
}

/* A producer that stops in its claim, and publishes when it is let go on. */
static bool stop_when_claimed(void *context, uint64_t n, uintptr_t pc)
{
    const struct bus_thread *thread = context;
    const struct ring *ring = thread->claim.ring;
    (void)n;
    (void)pc;
    if (ring == NULL)
        return true;
    uint64_t word = atomic_load(ring_word(ring, thread->claim.pos));
    if (word_lap(word) != ring_lap(ring, thread->claim.pos) || word_state(word) != WORD_CLAIMED ||
        word_slot(word) != thread->claim.slot)
        return true;
    kill(getpid(), SIGSTOP);
    return false;
}

static int claim_and_stop(void *context)
{
    struct scene *scene = context;
    struct error err;
    struct bus_thread *thread;
    struct evbus *bus = fixture_open(&scene->f, "claimer", EVBUS_KEEPER_NEVER);
    if (bus_thread(bus, &thread, &err) != EVBUS_OK)
        return 98;
    step_begin(stop_when_claimed, thread);
    bool is_good = scene_publish(scene, bus, CLAIMER, 10 * CLOCK_NS_PER_S);
    step_end();
    evbus_close(bus);
    return is_good ? 0 : 97;
}

static bool await_stop(struct child *child, int *out_status)
{
    return await_that(waitpid(child->pid, out_status, WNOHANG | WUNTRACED) == child->pid);
}

bool scene_let(struct scene *scene, struct actor *actor, bool *out_came)
{
    int status = 0;
    (void)scene;
    actor->may_go = 1;
    if (!await_stop(&actor->child, &status)) {
        fprintf(stderr, "%s neither ends nor stops\n", actor->operation->name);
        scene_kill(actor);
        return false;
    }
    *out_came = actor->has_come != 0;
    scene_go(scene);
    if (WIFSTOPPED(status) && actor->fate == STOPPED && *out_came)
        return true;
    actor->child.pid = 0;
    bool is_good = (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                   (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && actor->fate == KILLED && *out_came);
    if (!is_good)
        fprintf(stderr, "%s ended with %#x\n", actor->operation->name, (unsigned)status);
    return is_good;
}

bool scene_let_held_up(struct scene *scene, struct actor *actor)
{
    int status = 0;
    actor->may_go = 1;
    while (await_stop(&actor->child, &status) && WIFSTOPPED(status)) {
        uint64_t before[2] = {scene->shared->n_calls[0], scene->shared->n_calls[1]};
        scene_go(scene);
        /* Their calls return. The publisher may have as much in flight as it wants to: the stopped one's group is behind. */
        if (!await_that((scene->shared->n_calls[0] > before[0] || scene->shared->is_idle[0] != 0) &&
                        scene->shared->n_calls[1] > before[1])) {
            fprintf(stderr, "while %s is stopped its neighbours stand still\n", actor->operation->name);
            return false;
        }
        child_continue(&actor->child);
    }
    actor->child.pid = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fprintf(stderr, "%s, held up, ended with %#x\n", actor->operation->name, (unsigned)status);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool scene_continue(struct actor *actor)
{
    if (actor->child.pid == 0)
        return true;
    child_continue(&actor->child);
    int status = child_join(&actor->child);
    actor->child.pid = 0;
    if (status != 0)
        fprintf(stderr, "%s, stopped and continued, ended with %d\n", actor->operation->name, status);
    return status == 0;
}

void scene_kill(struct actor *actor)
{
    if (actor->child.pid == 0)
        return;
    scene_ledger(actor)->doomed[actor->member] = 1;
    child_kill(&actor->child);
    actor->child.pid = 0;
}

/* --- a corpse -------------------------------------------------------------------------------------------------------------- */

struct corpse {
    struct actor *actor;
    bool with_claims;
    uint32_t member;
    struct evbus *bus;
    _Atomic unsigned n_claims;
};

/* A thread with a claim; every second one's was cancelled. */
static void *claim(void *context)
{
    struct corpse *corpse = context;
    struct error err;
    struct bus_thread *thread;
    struct ring *ring = &corpse->bus->memory.logs[0].rings[0];
    if (bus_thread(corpse->bus, &thread, &err) != EVBUS_OK ||
        ring_claim(ring, CORPSE_CELLS, &thread->claim, &err) != EVBUS_OK)
        _exit(96);
    if (corpse->n_claims++ % 2 == 0)
        ring_cancel(ring, thread->claim.pos, atomic_load(ring_word(ring, thread->claim.pos)));
    for (;;)
        pause();
}

static int die(void *context)
{
    struct corpse *corpse = context;
    struct scene *scene = corpse->actor->scene;
    struct actor self = {.scene = scene, .member = corpse->member};
    struct error err;
    struct bus_thread *thread;
    struct evbus_reader *reader;
    struct evbus_reader_options pinned = {.size = sizeof pinned, .pin = true};
    struct evbus_delivery got = {.size = sizeof got};
    self.bus = corpse->bus = fixture_open(&scene->f, "corpse", EVBUS_KEEPER_NEVER);
    self.sub = crew_join(self.bus, groups[CREW], NULL, NULL);
    if (self.sub == NULL || bus_thread(self.bus, &thread, &err) != EVBUS_OK)
        return 95;
    if (scene_take(&self, corpse->actor->patience_ns))
        scene_take(&self, corpse->actor->patience_ns);
    if (corpse->with_claims) {
        if (evbus_reader_open(&reader, self.bus, &pinned) != EVBUS_OK)
            return 94;
        while (thread->listener.places[0] == 0) /* until it has slept */
            if (evbus_reader_next(reader, &got, CLOCK_NS_PER_MS) != EVBUS_ETIMEOUT)
                break;
        if (thread->listener.places[0] != 0)
            doorbell_set(self.bus->memory.logs[0].head, thread->listener.places[0] - 1); /* as in its sleep */
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            if (pthread_create(&threads[i], NULL, claim, corpse) != 0)
                return 93;
        if (!await_that(corpse->n_claims == 2))
            return 92;
    }
    scene_ledger(corpse->actor)->doomed[self.member] = 1;
    kill(getpid(), SIGKILL);
    return 91;
}

bool scene_make_corpse(struct actor *actor, bool with_claims)
{
    struct corpse corpse = {.actor = actor, .with_claims = with_claims, .member = ++actor->scene->shared->n_members};
    struct child child = child_start(die, &corpse);
    int status = child_join(&child);
    if (status != 128 + SIGKILL)
        fprintf(stderr, "the corpse ended with %d\n", status);
    return status == 128 + SIGKILL;
}

/* --- what must be then ------------------------------------------------------------------------------------------------------ */

static void read_letters(struct scene *scene)
{
    for (;;) {
        struct evbus_delivery letter = {.size = sizeof letter};
        if (evbus_reader_next(scene->letters, &letter, 0) != EVBUS_OK)
            return;
        ledger_letter(&scene->shared->ledgers[CREW], &letter);
    }
}

/* Everything that was acknowledged before we came is over. */
static bool is_settled(struct scene *scene, const uint32_t next[PRODUCERS])
{
    for (uint32_t p = 0; p < PRODUCERS; p++) {
        while (scene->settled[p] < next[p] &&
               ledger_open(&scene->shared->ledgers[CREW], p, scene->settled[p], scene->settled[p] + 1) == 0)
            scene->settled[p]++;
        if (scene->settled[p] < next[p])
            return false;
    }
    return true;
}

static bool is_empty(struct scene *scene, const char *group)
{
    struct evbus_group_stat stat = crew_stat(scene->f.bus, group);
    return stat.lag == 0 && stat.n_pending == 0;
}

/* For how long the machine let the neighbours and us wait. */
static uint64_t kept_waiting_ms(const struct scene *scene)
{
    return await_kept_waiting_ms(scene->neighbours[0].pid) + await_kept_waiting_ms(scene->neighbours[1].pid) +
           await_kept_waiting_ms(getpid());
}

/* We are a member until all is handled: with the gate open what was there before, else everything. */
static bool inherit(struct scene *scene, bool everything)
{
    struct scene_shared *shared = scene->shared;
    struct await_watch watch = {0};
    uint32_t next[PRODUCERS];
    uint64_t before[2] = {shared->n_done[0], shared->n_done[1]};
    uint64_t start = clock_mono_ns();
    uint64_t kept_ms = kept_waiting_ms(scene);
    bool is_going = everything;
    memcpy(next, (const void *)shared->next, sizeof next);
    struct evbus_subscription *sub = crew_join(scene->f.bus, groups[CREW], NULL, NULL);
    bool is_good = sub != NULL;
    while (is_good) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, CLOCK_NS_PER_MS);
        if (rc == EVBUS_OK) {
            ledger_enter(&shared->ledgers[CREW], scene->heir, &event);
            rc = ledger_finish(&shared->ledgers[CREW], scene->heir, sub, &event, EVBUS_DONE);
        }
        is_good = rc == EVBUS_OK || rc == EVBUS_ETIMEOUT;
        if (!is_good)
            fprintf(stderr, "the heir: %d %s\n", rc, evbus_message(scene->f.bus));
        read_letters(scene);
        if (!is_going && shared->n_done[0] >= before[0] + 2 && shared->n_done[1] >= before[1] + 2) {
            uint64_t ns = clock_mono_ns() - start;
            scene->slowest_ns = ns > scene->slowest_ns ? ns : scene->slowest_ns;
            is_going = true;
        }
        if (is_going && is_settled(scene, next) &&
            (!everything || (is_empty(scene, groups[CREW]) && is_empty(scene, groups[OTHER]))))
            break;
        uint64_t limit_ms = SCENE_MS * (trial_is_slow() ? 10 : 1);
        if (await_awake_ms(&watch) < limit_ms ||
            await_awake_ms(&watch) < limit_ms + 2 * (kept_waiting_ms(scene) - kept_ms))
            continue;
        struct evbus_group_stat stat = crew_stat(scene->f.bus, groups[CREW]);
        fprintf(stderr,
                "wedged: the neighbours have done %lu and %lu; crew: lag %lu, %u pending: %u running, %u waiting, %u "
                "dead, %u members\n",
                (unsigned long)(shared->n_done[0] - before[0]), (unsigned long)(shared->n_done[1] - before[1]),
                (unsigned long)stat.lag, stat.n_pending, stat.n_running, stat.n_waiting, stat.n_dead, stat.n_members);
        scene->wedged++;
        is_good = false;
    }
    evbus_unsubscribe(sub);
    return is_good;
}

/* The neighbours publish nothing meanwhile. */
static bool drain(struct scene *scene)
{
    scene->shared->is_consuming = 1;
    bool is_good = inherit(scene, true);
    scene->shared->is_consuming = 0;
    scene->shared->is_idle[1] = 0;
    return await_that(are_idle(scene)) && is_good;
}

/* first: at `released`, cancelled, and the groups have passed it. */
static void make_claim(struct scene *scene, bool first)
{
    int status;
    struct ring *ring = &scene->f.bus->memory.logs[0].rings[0];
    if (first)
        cr_assert(drain(scene));
    while (first && ring_release(ring, ring->capacity)) {
    }
    uint64_t pos = ring_tail(ring);
    scene->claimer = child_start(claim_and_stop, scene);
    cr_assert(await_stop(&scene->claimer, &status) && WIFSTOPPED(status), "the claimer does not stop");
    for (uint64_t word; first && word_lap(word = atomic_load(ring_word(ring, pos))) == ring_lap(ring, pos);
         pos += word_cells(word)) /* it lies at the tail */
        if (word_state(word) == WORD_CLAIMED)
            ring_cancel(ring, pos, word);
    if (first)
        cr_assert(scene_publish(scene, scene->f.bus, TESTER, CLOCK_NS_PER_S) && drain(scene));
}

void scene_start(struct scene *scene, struct actor *actor, const struct operation *operation, enum fate fate,
                 struct touch_point point)
{
    actor->scene = scene;
    actor->operation = operation;
    actor->fate = fate;
    actor->point = point;
    actor->member = ++scene->shared->n_members;
    actor->is_ready = actor->may_go = actor->has_come = 0;
    actor->bus = NULL;
    actor->sub = NULL;
    actor->reader = NULL;
    actor->n_hands = 0;
    actor->n_ours = actor->n_stops = 0;
    if (actor->producer == 0)
        actor->producer = ACTOR;
    if (actor->patience_ns == 0)
        actor->patience_ns = CLOCK_NS_PER_S;
    if (operation->has_claim && scene->claimer.pid == 0)
        make_claim(scene, operation->is_first);
    actor->child = child_start(play, actor);
    cr_assert(await_that(actor->is_ready != 0 || !child_is_running(&actor->child)) && actor->is_ready != 0,
              "%s is not warmed up", operation->name);
}

/* No word between released and tail is anybody's. */
static bool has_no_claims(struct scene *scene)
{
    const struct ring *ring = &scene->f.bus->memory.logs[0].rings[0];
    for (uint64_t pos = ring_released(ring); pos < ring_tail(ring);) {
        uint64_t word = atomic_load(ring_word(ring, pos));
        if (word_lap(word) != ring_lap(ring, pos) || word_state(word) == WORD_CLAIMED ||
            word_state(word) == WORD_CANCELLED) {
            fprintf(stderr, "the word at %" PRIu64 " is %#" PRIx64 "\n", pos, word);
            return false;
        }
        pos += word_cells(word);
    }
    return true;
}

static bool is_clean(struct scene *scene)
{
    close_gate(scene);
    uint32_t slots = crew_slots(&scene->f);
    bool is_good = drain(scene) && has_no_claims(scene);
    scene->shared->is_consuming = 1; /* and tells its low */
    for (int i = 0; is_good && i < SCENE_GROUPS; i++) {
        is_good = await_that(crew_pins(scene->f.bus, groups[i]) == NULL);
        if (!is_good)
            fprintf(stderr, "something is pinned: %s\n", crew_pins(scene->f.bus, groups[i]));
    }
    const struct log_head *log = scene->f.bus->memory.logs[0].head;
    for (int i = 0; is_good && i < PINS_MAX; i++)
        is_good = atomic_load(&log->pin_owners[i]) == 0;
    for (int i = 0; is_good && i < SLEEPERS_MAX; i++) { /* the neighbours' places alone */
        uint32_t slot = atomic_load(&log->sleepers[i].slot);
        is_good = slot == 0 || slot_is_used(&scene->f.bus->memory.control->slots[slot]);
        if (!is_good)
            fprintf(stderr, "place %d among the sleepers is slot %u's, which nobody has\n", i, slot);
    }
    scene->shared->is_consuming = 0;
    if (slots != scene->baseline)
        fprintf(stderr, "%u slots in use, %u before\n", slots, scene->baseline);
    return is_good && slots == scene->baseline;
}

bool scene_settle(struct scene *scene, bool deep)
{
    bool is_good = true;
    if (scene->claimer.pid != 0) {
        child_continue(&scene->claimer);
        int status = child_join(&scene->claimer);
        scene->claimer.pid = 0;
        is_good = status == 0;
        if (!is_good)
            fprintf(stderr, "the producer that was stopped in its claim ended with %d\n", status);
    }
    scene_go(scene);
    scene->n_trials++;
    is_good = is_good && inherit(scene, false);
    struct ledger *ledger = &scene->shared->ledgers[CREW];
    if (ledger->n_uncounted > scene->shared->n_members) {
        fprintf(stderr, "%lu attempts were charged to whom no handler began\n", (unsigned long)ledger->n_uncounted);
        is_good = false;
    }
    is_good = is_good && ledger->failed == 0 && scene->shared->ledgers[OTHER].failed == 0;
    return is_good && (!deep || is_clean(scene));
}

bool scene_print(struct scene *scene)
{
    uint64_t lost = 0;
    for (uint32_t p = 0; p < PRODUCERS; p++)
        for (int i = 0; i < SCENE_GROUPS; i++)
            lost += ledger_open(&scene->shared->ledgers[i], p, 0, scene->shared->next[p]);
    return ledger_print(scene->shared->ledgers, SCENE_GROUPS, lost, scene->wedged);
}
