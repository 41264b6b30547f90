/* operation.c: what is killed and stopped at each of its points: one row each.
 *
 * warm_up() goes as far as the operation's first instruction, act() is the operation. With another actor beside it what it wants may
 * not be there (the partition is the other's, the ring is full): then it does what it can. */
#include "operation.h"

#include "burial.h"
#include "bus.h"
#include "clock.h"
#include "crew.h"
#include "keeper.h"
#include "topics.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* --- producers -------------------------------------------------------------------------------------------------------------- */

static bool publish_once(struct actor *actor)
{
    scene_publish(actor->scene, actor->bus, actor->producer, actor->patience_ns);
    return true;
}

static bool publish_batch(struct actor *actor)
{
    scene_publish_batch(actor->scene, actor->bus, actor->producer, actor->patience_ns);
    return true;
}

static bool open_only(struct actor *actor)
{
    (void)actor;
    return true;
}

static bool attach(struct actor *actor)
{
    struct evbus *bus = fixture_open(&actor->scene->f, "newcomer", EVBUS_KEEPER_NEVER);
    struct bus_thread *thread;
    int rc = bus_thread(bus, &thread, NULL); /* with a slot of its own */
    evbus_close(bus);
    return rc == EVBUS_OK;
}

/* --- members ---------------------------------------------------------------------------------------------------------------- */

static bool join(struct actor *actor)
{
    actor->sub = crew_join(actor->bus, "crew", NULL, NULL);
    return actor->sub != NULL;
}

/* Has the partition, if nobody else has it, and n events in hand. */
static bool join_and_take(struct actor *actor, unsigned n)
{
    if (!join(actor))
        return false;
    if (scene_take(actor, actor->patience_ns))
        scene_finish(actor, 0, EVBUS_DONE);
    while (actor->n_hands < n)
        if (!scene_take(actor, actor->patience_ns))
            break;
    return true;
}

static bool take_nothing_yet(struct actor *actor)
{
    return join_and_take(actor, 0);
}

static bool take_first(struct actor *actor)
{
    return join_and_take(actor, 1);
}

/* One of each key, so that those behind them wait. */
static bool take_all_keys(struct actor *actor)
{
    bool is_good = join_and_take(actor, SCENE_KEYS);
    scene_take(actor, 0);
    return is_good;
}

/* The same, and those behind them are still to be skipped. */
static bool take_all_keys_only(struct actor *actor)
{
    return join_and_take(actor, SCENE_KEYS);
}

static bool skip(struct actor *actor)
{
    scene_take(actor, 0);
    return true;
}

static bool take_one(struct actor *actor)
{
    scene_take(actor, actor->patience_ns);
    return true;
}

static bool finish_one(struct actor *actor)
{
    if (actor->n_hands == 0)
        return take_one(actor);
    return scene_finish(actor, 0, EVBUS_DONE);
}

static bool finish_and_take(struct actor *actor, enum evbus_outcome outcome, uint64_t timeout_ns)
{
    bool is_good = actor->n_hands == 0 || scene_finish(actor, 0, outcome);
    scene_take(actor, timeout_ns);
    return is_good;
}

static bool finish_with_follower(struct actor *actor)
{
    return finish_and_take(actor, EVBUS_DONE, 0);
}

static bool retry(struct actor *actor)
{
    return finish_and_take(actor, EVBUS_RETRY, 5 * CLOCK_NS_PER_MS);
}

static bool release(struct actor *actor)
{
    return finish_and_take(actor, EVBUS_RELEASE, 5 * CLOCK_NS_PER_MS);
}

static bool reject(struct actor *actor)
{
    return finish_and_take(actor, EVBUS_REJECT, 0);
}

#define CHAINED 2 /* events of a chain, which the last one ends */

static unsigned n_chained;

/* The one before is finished by now. */
static enum evbus_outcome handle_chained(void *context, const struct evbus_delivery *event, char *error)
{
    struct actor *actor = context;
    (void)error;
    if (n_chained++ > 0)
        ledger_finished(scene_ledger(actor), &actor->hands[0], EVBUS_OK);
    ledger_enter(scene_ledger(actor), actor->member, event);
    actor->hands[0] = *event;
    ledger_leave(scene_ledger(actor), actor->member, event, EVBUS_DONE);
    if (n_chained == CHAINED)
        evbus_stop(actor->sub);
    return EVBUS_DONE;
}

static bool join_to_run(struct actor *actor)
{
    actor->sub = crew_join(actor->bus, "crew", handle_chained, actor);
    return actor->sub != NULL && scene_take(actor, actor->patience_ns) && scene_finish(actor, 0, EVBUS_DONE);
}

static bool run(struct actor *actor)
{
    bool is_good = evbus_run(actor->sub, NULL) == EVBUS_OK;
    ledger_finished(scene_ledger(actor), &actor->hands[0], EVBUS_OK);
    return is_good;
}

static bool inherit_from_corpse(struct actor *actor)
{
    return (actor->finds_corpse || scene_make_corpse(actor, false)) && join(actor);
}

static bool take_over(struct actor *actor)
{
    if (scene_take(actor, actor->patience_ns))
        scene_finish(actor, 0, EVBUS_DONE);
    scene_take(actor, actor->patience_ns);
    return true;
}

/* --- who clears away ---------------------------------------------------------------------------------------------------------- */

static bool find_corpse(struct actor *actor)
{
    return actor->finds_corpse || scene_make_corpse(actor, true);
}

static bool bury(struct actor *actor)
{
    burial_sweep(&actor->bus->memory);
    return true;
}

static bool open_reader(struct actor *actor)
{
    struct evbus_reader_options options = {.size = sizeof options, .from = EVBUS_FROM_EARLIEST};
    return evbus_reader_open(&actor->reader, actor->bus, &options) == EVBUS_OK;
}

/* Also one that lies at the tail. */
static bool has_claim(const struct ring *ring)
{
    uint64_t pos = ring_released(ring);
    uint64_t word;
    while (word_lap(word = atomic_load(ring_word(ring, pos))) == ring_lap(ring, pos)) {
        if (word_state(word) == WORD_CLAIMED)
            return true;
        pos += word_cells(word);
    }
    return false;
}

static bool read_all(struct actor *actor)
{
    struct evbus_delivery got = {.size = sizeof got};
    uint64_t until = clock_mono_ns() + CLOCK_NS_PER_S;
    while ((evbus_reader_next(actor->reader, &got, CLOCK_NS_PER_MS) == EVBUS_OK ||
            has_claim(&actor->bus->memory.logs[0].rings[0])) &&
           clock_mono_ns() < until) {
    }
    return true;
}

/* Its thread is watched; see prctl() in the tests that do it. */
static bool keep(struct actor *actor)
{
    struct keeper *keeper;
    struct error err;
    if (keeper_start(&keeper, &actor->bus->memory, "keeper", 0, &actor->bus->log, &err) != EVBUS_OK)
        return false;
    uint64_t until = clock_mono_ns() + 10 * CLOCK_NS_PER_S; /* each instruction is a step */
    while (has_claim(&actor->bus->memory.logs[0].rings[0]) && clock_mono_ns() < until)
        clock_relax();
    for (until = clock_mono_ns() + 2 * CLOCK_NS_PER_MS; clock_mono_ns() < until;)
        clock_relax(); /* what it does behind its cancel */
    touch_end();
    keeper_stop(keeper);
    return true;
}

static bool make_room(struct actor *actor)
{
    struct ring *ring = &actor->bus->memory.logs[0].rings[0];
    ring_release(ring, ring->capacity);
    return true;
}

const struct operation operations[] = {
    {.name = "publish", .warm_up = publish_once, .act = publish_once},
    {.name = "publish a batch", .warm_up = publish_batch, .act = publish_batch},
    {.name = "take", .warm_up = take_nothing_yet, .act = take_one},
    {.name = "finish", .warm_up = take_first, .act = finish_one},
    {.name = "finish, with a follower", .warm_up = take_all_keys, .act = finish_with_follower},
    {.name = "run", .warm_up = join_to_run, .act = run},
    {.name = "skip behind a held key", .warm_up = take_all_keys_only, .act = skip},
    {.name = "retry", .warm_up = take_first, .act = retry},
    {.name = "release", .warm_up = take_first, .act = release},
    {.name = "reject, with its dead letter", .fills = true, .warm_up = take_first, .act = reject},
    {.name = "take-over", .is_corpse = true, .warm_up = inherit_from_corpse, .act = take_over},
    {.name = "burial", .is_corpse = true, .warm_up = find_corpse, .act = bury},
    {.name = "cancel by a reader",
     .has_claim = true,
     .waits_for_store = true,
     .starts_at = (uintptr_t)ring_clear_claim,
     .warm_up = open_reader,
     .act = read_all},
    {.name = "cancel by a keeper",
     .has_claim = true,
     .waits_for_store = true,
     .starts_at = (uintptr_t)ring_clear_claim,
     .warm_up = open_only,
     .act = keep},
    {.name = "fence", .has_claim = true, .is_first = true, .warm_up = open_only, .act = make_room},
    {.name = "attach", .starts_at = (uintptr_t)topics_open, .warm_up = open_only, .act = attach},
};
const unsigned n_operations = sizeof operations / sizeof operations[0];

const struct operation *operation_find(const char *name)
{
    for (unsigned i = 0; i < n_operations; i++)
        if (strcmp(operations[i].name, name) == 0)
            return &operations[i];
    cr_assert_fail("no operation %s", name);
    return NULL;
}
