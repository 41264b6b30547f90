/* Dead letters are replayed while all goes on: 10,000 of them while events flow on the same keys and whoever takes part is killed at any
 * time; a few of them by a run that is killed at each point. Each is handled once in effect, by the group that gave it up alone, in
 * order per key; nothing is replayed twice, and each has one entry on the record. P10 P13 */
#include "await.h"
#include "child.h"
#include "crew.h"
#include "touch.h"
#include "trial.h"

#include "area.h"
#include "bus.h"
#include "clock.h"
#include "letters.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- what the logs say ------------------------------------------------------------------------------------------------------- */

static unsigned seq_of(const char *payload)
{
    const char *at = strstr(payload, "\"seq\":");
    return at != NULL ? (unsigned)strtoul(at + 6, NULL, 10) : UINT32_MAX;
}

/* How often each event was replayed, by its number from `base` on. */
struct count {
    unsigned base, n;
    unsigned *replays;
};

static int count_replay(void *context, uint64_t pos, const uint64_t *cells)
{
    struct count *count = context;
    struct frame frame;
    (void)pos;
    if (frame_parse(cells, &frame, NULL) != EVBUS_OK || frame.kind != FRAME_EVENT || (frame.flags & FRAME_REPLAY) == 0)
        return EVBUS_OK;
    unsigned i = seq_of(frame.payload) - count->base;
    if (i < count->n)
        count->replays[i]++;
    return EVBUS_OK;
}

static void walk(struct evbus *bus, const char *log, uint64_t from,
                 int (*each)(void *context, uint64_t pos, const uint64_t *cells), void *context)
{
    struct error err = {""};
    struct ring *ring = &memory_internal_log(&bus->memory, log)->rings[0];
    uint64_t *buffer = malloc(((size_t)FRAME_CELLS_MAX + 1) * CELL_BYTES);
    uint64_t end;
    int rc = letters_walk(&bus->memory, ring, from > ring_oldest(ring) ? from : ring_oldest(ring), buffer, each,
                          context, &end, &err);
    cr_assert_eq(rc, EVBUS_OK, "%s", err.text);
    free(buffer);
}

static int count_settled(void *context, uint64_t pos, const uint64_t *cells)
{
    unsigned *n = context;
    (void)pos;
    *n += ((const struct frame_header *)cells)->kind == FRAME_SETTLED;
    return EVBUS_OK;
}

static unsigned n_settled(struct evbus *bus, uint64_t from)
{
    unsigned n = 0;
    walk(bus, MEMORY_DLQ_LOG, from, count_settled, &n);
    return n;
}

static uint64_t letters_end(struct evbus *bus)
{
    return ring_tail(&memory_internal_log(&bus->memory, MEMORY_DLQ_LOG)->rings[0]);
}

static int count_letter(void *context, const struct evbus_dead_letter *letter)
{
    unsigned *n = context;
    (void)letter;
    ++*n;
    return 0;
}

static unsigned n_open(struct evbus *bus)
{
    unsigned n = 0;
    cr_assert_eq(evbus_dead_letters(bus, NULL, count_letter, &n), EVBUS_OK, "%s", evbus_message(bus));
    return n;
}

static void publish(struct evbus *bus, unsigned seq, unsigned key)
{
    char payload[48], key_text[16];
    snprintf(payload, sizeof payload, "{\"seq\":%u}", seq);
    snprintf(key_text, sizeof key_text, "k%u", key);
    int rc = evbus_publish(bus,
                           &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                 .topic = "test.a.one",
                                                 .key = key_text,
                                                 .payload = payload,
                                                 .timeout_ns = 60 * CLOCK_NS_PER_S},
                           NULL);
    cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, evbus_message(bus));
}

/* --- killed at any point ------------------------------------------------------------------------------------------------------- */

#define FEW \
    3 /* letters of a trial: of two keys; of three, where they are parked, as none gets past another of its key */

struct scene {
    struct fixture f;
    struct evbus_subscription *member;
    unsigned base; /* number of the trial's first event */
    bool discards;
    bool parks;
    struct touch_point point;
    bool is_noted;
    struct touch_points *points;
};

static void prepare(struct scene *scene)
{
    struct evbus_delivery got = {.size = sizeof got};
    for (unsigned i = 0; i < FEW; i++) {
        publish(scene->f.bus, scene->base + i, scene->parks ? i : i % 2);
        cr_assert_eq(evbus_receive(scene->member, &got, AWAIT_MS * CLOCK_NS_PER_MS), EVBUS_OK);
        cr_assert_eq(evbus_finish(scene->member, &got, EVBUS_REJECT, "no"), EVBUS_OK);
    }
    cr_assert_eq(evbus_receive(scene->member, &got, 0), EVBUS_ETIMEOUT);
    cr_assert_eq(n_open(scene->f.bus), FEW);
}

static int settle(const struct scene *scene, struct evbus *bus, struct evbus_settle_result *result)
{
    struct evbus_settle_options options = {.size = sizeof options, .timeout_ns = 10 * CLOCK_NS_PER_S};
    return (scene->discards ? evbus_dead_letters_discard : evbus_dead_letters_replay)(bus, &options, NULL, NULL,
                                                                                      result);
}

static void kill_self(void *context)
{
    (void)context;
    kill(getpid(), SIGKILL);
}

static int be_operator(void *context)
{
    struct scene *scene = context;
    struct bus_thread *thread;
    struct evbus *bus = fixture_open(&scene->f, "operator", EVBUS_KEEPER_NEVER);
    if (bus_thread(bus, &thread, NULL) != EVBUS_OK)
        return 98;
    if (scene->is_noted)
        touch_note(scene->points, (uintptr_t)letters_read);
    else
        touch_at(scene->point, (uintptr_t)letters_read, kill_self, NULL);
    int rc = settle(scene, bus, NULL);
    touch_end();
    if (rc != EVBUS_OK)
        fprintf(stderr, "operator: %d %s\n", rc, evbus_message(bus));
    evbus_close(bus);
    return rc == EVBUS_OK ? 0 : 97;
}

/* true: it was killed. */
static bool let_operate(struct scene *scene)
{
    struct child child = child_start(be_operator, scene);
    int status = child_join(&child);
    cr_assert(status == 0 || (!scene->is_noted && status == 128 + SIGKILL), "the operator ended with %d", status);
    return status != 0;
}

/* What the member is given: each once, of each key in turn. */
static const char *comes(struct scene *scene)
{
    static char why[200];
    unsigned n = 0;
    unsigned n_keys = scene->parks ? FEW : 2;
    unsigned next[FEW] = {0, 1, 2};
    struct evbus_delivery got = {.size = sizeof got};
    uint64_t until = await_now_ms() + AWAIT_MS;
    while (await_now_ms() < until) {
        if (evbus_receive(scene->member, &got, CLOCK_NS_PER_MS) != EVBUS_OK) {
            struct evbus_group_stat stat = crew_stat(scene->f.bus, "crew");
            if (stat.n_pending == 0 && stat.lag == 0)
                break;
            continue;
        }
        unsigned i = seq_of(got.payload) - scene->base;
        if (got.replayed != 1 || i >= FEW || i != next[i % n_keys]) {
            snprintf(why, sizeof why, "event %u comes, %u times replayed, where %u is due", i, got.replayed,
                     next[i % n_keys]);
            return why;
        }
        next[i % n_keys] += n_keys;
        n++;
        if (evbus_finish(scene->member, &got, EVBUS_DONE, NULL) != EVBUS_OK)
            return "what came cannot be finished";
    }
    if (n == (scene->discards ? 0 : FEW))
        return NULL;
    snprintf(why, sizeof why, "%u events come", n);
    return why;
}

static const char *ended(struct scene *scene, uint64_t before)
{
    static char why[200];
    struct evbus_settle_result result = {.size = sizeof result};
    int rc = settle(scene, scene->f.bus, &result);
    if (rc != EVBUS_OK)
        return evbus_message(scene->f.bus);
    const char *wrong = comes(scene);
    if (wrong != NULL)
        return wrong;
    unsigned settled = n_settled(scene->f.bus, before);
    if (settled == FEW && n_open(scene->f.bus) == 0)
        return NULL;
    snprintf(why, sizeof why, "%u resolutions, %u open", settled, n_open(scene->f.bus));
    return why;
}

/* Each time at others: opening a bus costs more than all of the rest. EVBUS_SOAK=1 tries them all. */
static void kill_at_points(const char *name, bool discards, bool parks)
{
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    if (trial_is_slow()) /* a step at a time through a sanitizer's allocator takes minutes: it is the plain build's to do */
        cr_skip_test("not under a sanitizer");
    const char *settings = parks ? "\"retry\":[\"1ms\"],\"on_dead\":\"park\"" : "\"retry\":[\"1ms\"]";
    struct scene scene = {.f = crew_bus((struct crew_options){.ring = "64KiB", .settings = settings}),
                          .discards = discards,
                          .parks = parks,
                          .points = child_shared(sizeof(struct touch_points))};
    scene.member = crew_join(scene.f.bus, "crew", NULL, NULL);
    cr_assert_not_null(scene.member);
    prepare(&scene);
    scene.is_noted = true;
    let_operate(&scene);
    scene.is_noted = false;
    const char *why = comes(&scene);
    cr_assert_null(why, "let through: %s", why);
    uint32_t n = scene.points->n, n_killed = 0, n_before = 0;
    uint32_t stride = trial_is_soak() ? 1 : n / (uint32_t)trial_count(60, 4) + 1;
    uint64_t seed = trial_seed(name);
    cr_assert_gt(n, 50u);
    for (uint32_t i = (uint32_t)(trial_random(&seed) % stride); i < n; i += stride) {
        scene.base += FEW;
        scene.point = scene.points->at[i];
        prepare(&scene);
        uint64_t before = letters_end(scene.f.bus);
        n_killed += let_operate(&scene);
        n_before += n_open(scene.f.bus) == FEW;
        if (i % 2 == 0) { /* and what is replayed by then is handled before somebody completes it */
            struct evbus_delivery got = {.size = sizeof got};
            unsigned first = 0;
            cr_assert(evbus_receive(scene.member, &got, 0) != EVBUS_OK || (first = 1) == 1);
            if (first == 1)
                cr_assert_eq(evbus_finish(scene.member, &got, EVBUS_RELEASE, NULL), EVBUS_OK);
        }
        why = ended(&scene, before);
        cr_assert_null(why, "killed at point %u of %u, {%u, %u}: %s", i, n, scene.point.stores, scene.point.calls, why);
    }
    cr_assert_gt(n_killed, 0u);
    fprintf(stderr, "%u points, killed %u times, %u of them before anything was on the record\n", n, n_killed,
            n_before);
    evbus_unsubscribe(scene.member);
    fixture_end(&scene.f);
}

Test(replay, killed_at_any_point_is_ended_by_the_next_and_nothing_is_replayed_twice, .timeout = 600)
{ /* [guards ORDER] */
    kill_at_points("replay/killed_at_any_point_is_ended_by_the_next_and_nothing_is_replayed_twice", false, false);
}

Test(replay, a_discard_killed_at_any_point_is_ended_by_the_next, .timeout = 600)
{
    kill_at_points("replay/a_discard_killed_at_any_point_is_ended_by_the_next", true, false);
}

Test(replay, of_what_is_parked_killed_at_any_point_is_ended_by_the_next, .timeout = 600)
{ /* P14 [guards ORDER] */
    kill_at_points("replay/of_what_is_parked_killed_at_any_point_is_ended_by_the_next", false, true);
    kill_at_points("replay/of_what_is_parked_killed_at_any_point_is_ended_by_the_next", true, true);
}

/* --- ten thousand --------------------------------------------------------------------------------------------------------------- */

#define KEYS       16
#define MEMBERS    3
#define EVENTS_MAX 20000 /* letters, and as many that flow meanwhile */

struct shared {
    unsigned n_letters;
    unsigned n_events;
    _Atomic unsigned n_produced;
    _Atomic uint32_t applied[EVENTS_MAX];  /* the effect: once for each event, however often it is delivered */
    _Atomic uint32_t seen[EVENTS_MAX];     /* deliveries of replays */
    _Atomic uint32_t by_other[EVENTS_MAX]; /* deliveries to the group that handled all of them at once */
    _Atomic uint32_t last[2][KEYS];        /* + 1: of events that flow, of replays */
    _Atomic unsigned n_replays_to_other;
    _Atomic unsigned n_out_of_order;
    _Atomic unsigned n_replayed_twice;
    _Atomic unsigned n_applied[2];
    _Atomic unsigned n_failed;
    _Atomic unsigned n_ended; /* runs that came to their end */
};

struct flow {
    struct fixture f;
    struct shared *shared;
    uint32_t rate;
};

static unsigned key_of(const struct evbus_delivery *event)
{
    return (unsigned)strtoul(event->key + 1, NULL, 10) % KEYS;
}

/* A handler as it should be: what an event does is done once, by its id; here its number stands for it. */
static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct shared *shared = context;
    unsigned seq = seq_of(event->payload);
    bool is_replay = event->replayed != 0;
    if (seq < shared->n_letters && !is_replay) {
        strcpy(error, "it does not like this one");
        return EVBUS_REJECT;
    }
    if (event->replayed > 1)
        shared->n_replayed_twice++;
    if (is_replay)
        shared->seen[seq]++;
    if (seq % 16 == 3) /* long enough to be killed in */
        await_pause();
    if (shared->applied[seq] != 0)
        return EVBUS_DONE;
    _Atomic uint32_t *last = &shared->last[is_replay][key_of(event)];
    if (*last > seq + 1) /* the same one, where who handled it died behind it */
        shared->n_out_of_order++;
    *last = seq + 1;
    uint32_t not_yet = 0;
    if (atomic_compare_exchange_strong(&shared->applied[seq], &not_yet, 1))
        shared->n_applied[is_replay]++;
    return EVBUS_DONE;
}

static enum evbus_outcome handle_at_once(void *context, const struct evbus_delivery *event, char *error)
{
    struct shared *shared = context;
    (void)error;
    shared->by_other[seq_of(event->payload)]++;
    shared->n_replays_to_other += event->replayed != 0;
    return EVBUS_DONE;
}

static int be_member_of(struct flow *flow, const char *group, evbus_handler *handler)
{
    struct evbus *bus = fixture_open(&flow->f, "member", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = crew_join(bus, group, handler, flow->shared);
    if (sub == NULL || evbus_run(sub, NULL) != EVBUS_OK)
        flow->shared->n_failed++;
    return 1;
}

static int be_member(void *context)
{
    return be_member_of(context, "crew", handle);
}

static int be_other(void *context)
{
    return be_member_of(context, "other", handle_at_once);
}

static int be_replayer(void *context)
{
    struct flow *flow = context;
    struct evbus *bus = fixture_open(&flow->f, "operator", EVBUS_KEEPER_NEVER);
    struct evbus_settle_options options = {.size = sizeof options, .timeout_ns = UINT64_MAX, .rate = flow->rate};
    struct evbus_settle_result result = {.size = sizeof result};
    int rc = evbus_dead_letters_replay(bus, &options, NULL, NULL, &result);
    if (rc != EVBUS_OK) {
        fprintf(stderr, "replay: %d %s\n", rc, evbus_message(bus));
        flow->shared->n_failed++;
    }
    flow->shared->n_ended++;
    evbus_close(bus);
    return 0;
}

/* Events flow for as long as it is replayed. */
static int be_producer(void *context)
{
    struct flow *flow = context;
    struct shared *shared = flow->shared;
    struct evbus *bus = fixture_open(&flow->f, "producer", EVBUS_KEEPER_NEVER);
    for (unsigned seq = shared->n_letters; seq < shared->n_events; seq++) {
        publish(bus, seq, seq % KEYS);
        shared->n_produced++;
        if (seq % 4 == 0)
            for (unsigned i = 0; i < 4 && shared->n_ended == 0; i++)
                await_pause();
    }
    evbus_close(bus);
    return 0;
}

static bool is_done(const struct shared *shared)
{
    return shared->n_applied[1] == shared->n_letters && shared->n_applied[0] == shared->n_events - shared->n_letters;
}

static void make_letters(struct flow *flow)
{
    struct shared *shared = flow->shared;
    struct evbus_subscription *sub = crew_join(flow->f.bus, "crew", handle, shared);
    cr_assert_not_null(sub);
    for (unsigned i = 0; i < shared->n_letters; i++) {
        publish(flow->f.bus, i, i % KEYS);
        cr_assert_eq(evbus_run_once(sub, AWAIT_MS * CLOCK_NS_PER_MS), EVBUS_OK);
    }
    evbus_run_once(sub, 0);
    evbus_unsubscribe(sub);
    cr_assert_eq(n_open(flow->f.bus), shared->n_letters);
}

static void check(struct flow *flow)
{
    struct shared *shared = flow->shared;
    unsigned *replays = calloc(shared->n_letters, sizeof *replays);
    struct count count = {.n = shared->n_letters, .replays = replays};
    walk(flow->f.bus, MEMORY_REPLAY_LOG, 0, count_replay, &count);
    for (unsigned i = 0; i < shared->n_events; i++) {
        cr_assert_eq(shared->applied[i], 1u, "event %u", i);
        cr_assert_eq(shared->by_other[i], 1u, "event %u, by the other group", i);
        if (i < shared->n_letters)
            cr_assert(shared->seen[i] >= 1 && replays[i] == 1, "letter %u: seen %u times, replayed %u times", i,
                      shared->seen[i], replays[i]);
    }
    free(replays);
    cr_expect_eq(shared->n_replays_to_other, 0u);
    cr_expect_eq(shared->n_out_of_order, 0u);
    cr_expect_eq(shared->n_replayed_twice, 0u);
    cr_expect_eq(shared->n_failed, 0u);
    cr_expect_eq(n_open(flow->f.bus), 0u);
    cr_expect_eq(n_settled(flow->f.bus, 0), shared->n_letters, "each is on the record once");
    cr_expect_eq(crew_stat(flow->f.bus, "crew").dead_letters, shared->n_letters, "no other has died");
}

/* Who is to run, is started again when it was killed, and is killed now and then. */
static void storm(struct flow *flow, uint64_t seed, unsigned *out_kills, unsigned *out_runs)
{
    struct shared *shared = flow->shared;
    struct child members[MEMBERS], replayer = child_start(be_replayer, flow);
    struct child other = child_start(be_other, flow), producer = child_start(be_producer, flow);
    uint64_t until = await_now_ms() + 3 * AWAIT_MS;
    for (unsigned i = 0; i < MEMBERS; i++)
        members[i] = child_start(be_member, flow);
    while (!is_done(shared) && shared->n_failed == 0 && await_now_ms() < until) {
        uint64_t pause_ms = await_now_ms() + 5 + trial_random(&seed) % 40;
        while (await_now_ms() < pause_ms && !is_done(shared))
            await_pause();
        unsigned which = (unsigned)(trial_random(&seed) % (MEMBERS + 1));
        if (which < MEMBERS) {
            child_kill(&members[which]);
            members[which] = child_start(be_member, flow);
            ++*out_kills;
        } else if (shared->n_ended == 0) {
            child_kill(&replayer);
            *out_kills += shared->n_ended == 0;
            ++*out_runs;
            replayer = child_start(be_replayer, flow);
        }
    }
    if (shared->n_applied[1] == shared->n_letters) /* all has been replayed: it ends by itself */
        cr_expect_eq(child_join(&replayer), 0);
    else
        child_kill(&replayer);
    child_join(&producer);
    for (unsigned i = 0; i < MEMBERS; i++)
        child_kill(&members[i]);
    cr_assert(await_that(crew_stat(flow->f.bus, "other").lag == 0 && crew_stat(flow->f.bus, "other").n_pending == 0));
    child_kill(&other);
}

static void replay_under_fire(const char *name, bool journal, unsigned n_letters)
{
    char catalogue[600];
    uint64_t seed = trial_seed(name);
    struct flow flow = {.shared = child_shared(sizeof(struct shared)), .rate = trial_is_slow() ? 500 : 2500};
    unsigned n_kills = 0, n_runs = 1;
    snprintf(catalogue, sizeof catalogue,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":2,\"ring\":\"%s\"%s},"
             "\"topics\":{\"test.a.one\":{\"groups\":[\"crew\",\"other\"]}},"
             "\"groups\":{\"crew\":{\"retry\":[\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\"]}}}",
             journal ? "1MiB" : "16MiB", journal ? ",\"journal\":true" : "");
    flow.f = fixture_make((struct fixture_options){.catalogue = catalogue, .keeper = journal});
    flow.shared->n_letters = n_letters;
    flow.shared->n_events = 2 * n_letters;
    make_letters(&flow);
    uint64_t before = await_now_ms();
    storm(&flow, seed, &n_kills, &n_runs);
    cr_assert(is_done(flow.shared), "%u of %u replays, %u of %u events; %u failures", flow.shared->n_applied[1],
              n_letters, flow.shared->n_applied[0], n_letters, flow.shared->n_failed);
    check(&flow);
    fprintf(stderr, "%u letters in %" PRIu64 " ms, %u runs, %u kills\n", n_letters, await_now_ms() - before, n_runs,
            n_kills);
    fixture_end(&flow.f);
}

Test(replay, ten_thousand_while_events_flow_and_members_are_killed, .timeout = 600)
{ /* [guards ORDER] */
    replay_under_fire("replay/ten_thousand_while_events_flow_and_members_are_killed", false,
                      (unsigned)trial_count(10000, 1500));
}

Test(replay, with_a_journal_too, .timeout = 600)
{
    replay_under_fire("replay/with_a_journal_too", true, (unsigned)trial_count(2000, 500));
}
