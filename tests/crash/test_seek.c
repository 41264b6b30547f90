/* A seek that is killed at any point, and one that comes upon a member, a snapshot or retention at any instruction. Of what the group
 * has not done nothing is lost from the target on, and of each key one comes after the other: as if the seek had not been, or all
 * of it. [guards ORDER] P11 P12 */
#include "archive.h"
#include "await.h"
#include "child.h"
#include "crew.h"
#include "saved.h"
#include "touch.h"
#include "trial.h"

#include "bus.h"
#include "clock.h"
#include "group.h"
#include "lease.h"

#include <criterion/criterion.h>
#include <evbus/history.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVENTS 15 /* of a trial; the last three are published behind what the member has seen */
#define KEYS   3
#define RETRY  "\"retry\":[\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\"]"

/* Where to: the first event of the trial, its middle, its end. */
enum target { TO_FIRST, TO_MIDDLE, TO_LATEST, TARGETS };
static const char *const target_names[] = {"back to the first", "back to the middle", "to the latest"};
static const unsigned first_of[] = {0, 6, EVENTS}; /* what comes then */

struct scene {
    const char *group;
    const struct archive *archive; /* NULL: the bus has no journal */
    struct fixture f;
    struct evbus *bus;
    uint64_t positions[EVENTS]; /* of this trial's events */
    unsigned base;              /* number of the first */
    enum target target;
    struct evbus_subscription *member; /* that lives, with events in hand */
    struct evbus_delivery in_hand[2];
    struct touch_point point;
    bool is_noted;
    struct scene_notes {
        struct touch_points points;
    } * notes;
};

static struct scene scene_make(const struct archive *archive)
{
    struct scene scene = {.group = archive != NULL ? "team" : "crew",
                          .archive = archive,
                          .notes = child_shared(sizeof(struct scene_notes))};
    if (archive == NULL) {
        scene.f = crew_bus((struct crew_options){.ring = "64KiB", .settings = RETRY});
        scene.bus = scene.f.bus;
    } else {
        scene.bus = archive->bus;
    }
    return scene;
}

static struct memory_log *log_of(const struct scene *scene)
{
    for (uint32_t l = 0; l < memory_n_logs(&scene->bus->memory); l++)
        if (strcmp(scene->bus->memory.logs[l].name, "test.a") == 0)
            return &scene->bus->memory.logs[l];
    cr_assert_fail("no log test.a");
    return NULL;
}

static struct group_part *part_of(const struct scene *scene)
{
    return memory_part(log_of(scene), 0, group_find(&scene->bus->memory, scene->group));
}

static void publish(struct scene *scene, unsigned from, unsigned until)
{
    for (unsigned i = from; i < until; i++) {
        char payload[32], key[8];
        struct evbus_receipt receipt = {.size = sizeof receipt};
        snprintf(payload, sizeof payload, "{\"seq\":%u}", scene->base + i);
        snprintf(key, sizeof key, "k%u", i % KEYS);
        cr_assert_eq(evbus_publish(scene->bus,
                                   &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                         .topic = "test.a.one",
                                                         .key = key,
                                                         .payload = payload,
                                                         .timeout_ns = CLOCK_NS_PER_S},
                                   &receipt),
                     EVBUS_OK, "%s", evbus_message(scene->bus));
        scene->positions[i] = receipt.position;
    }
}

static void take(struct evbus_subscription *sub, struct evbus_delivery *out)
{
    *out = (struct evbus_delivery){.size = sizeof *out};
    cr_assert_eq(evbus_receive(sub, out, AWAIT_MS * CLOCK_NS_PER_MS), EVBUS_OK);
}

/* A member that has one event of each key in hand, of which one is done and its follower in hand, and one is to be tried again. */
static void prepare(struct scene *scene)
{
    struct evbus_delivery events[KEYS];
    struct evbus_delivery none = {.size = sizeof none};
    publish(scene, 0, EVENTS - 3);
    scene->member = crew_join(scene->bus, scene->group, NULL, NULL);
    cr_assert_not_null(scene->member);
    for (int i = 0; i < KEYS; i++)
        take(scene->member, &events[i]);
    cr_assert_eq(evbus_finish(scene->member, &events[0], EVBUS_DONE, NULL), EVBUS_OK);
    take(scene->member, &scene->in_hand[0]);
    scene->in_hand[1] = events[2];
    cr_assert_eq(evbus_receive(scene->member, &none, 0), EVBUS_ETIMEOUT, "all others wait behind them");
    cr_assert_eq(evbus_finish(scene->member, &events[1], EVBUS_RETRY, "later"), EVBUS_OK);
    publish(scene, EVENTS - 3, EVENTS);
}

/* What the member has in hand goes back, or is not its own any more. */
static void let_go(struct scene *scene)
{
    evbus_finish(scene->member, &scene->in_hand[1], EVBUS_RELEASE, NULL);
    evbus_finish(scene->member, &scene->in_hand[0], EVBUS_RELEASE, NULL);
}

static int seek(struct scene *scene, struct evbus *bus)
{
    struct evbus_seek_options options = {.size = sizeof options,
                                         .group = scene->group,
                                         .from = scene->target == TO_LATEST ? EVBUS_FROM_LATEST : EVBUS_FROM_POSITION,
                                         .log = "test.a",
                                         .has_partition = true,
                                         .force = true};
    if (scene->target != TO_LATEST)
        options.from_position = scene->positions[first_of[scene->target]];
    return evbus_group_seek(bus, &options, NULL, NULL);
}

/* What a member is given from here on, until nothing is left: each once, of each key in turn, and these from `first` on or, where
 * `or_undone`, all but the first, as if no seek had been. NULL: so it is. */
static const char *comes(struct scene *scene, struct evbus_subscription *sub, unsigned first, bool or_undone)
{
    static char why[400];
    unsigned n = 0;
    unsigned least = EVENTS;
    unsigned next[KEYS] = {0};
    uint64_t until = await_now_ms() + AWAIT_MS;
    while (await_now_ms() < until) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, CLOCK_NS_PER_MS);
        if (rc == EVBUS_ETIMEOUT) {
            struct evbus_group_stat stat = crew_stat(scene->bus, scene->group);
            if (stat.n_pending == 0 && stat.lag == 0)
                break;
            continue;
        }
        unsigned i = rc == EVBUS_OK ? archive_seq(event.payload) - scene->base : 0;
        if (rc != EVBUS_OK || i >= EVENTS) {
            snprintf(why, sizeof why, "evbus_receive: %d, %s", rc, rc == EVBUS_OK ? "of another trial" : "failed");
            return why;
        }
        if (next[i % KEYS] != 0 && i != next[i % KEYS]) {
            snprintf(why, sizeof why, "%u comes where %u is due", i, next[i % KEYS]);
            return why;
        }
        next[i % KEYS] = i + KEYS;
        least = i < least ? i : least;
        n++;
        if (evbus_finish(sub, &event, EVBUS_DONE, NULL) != EVBUS_OK)
            return "what came cannot be finished";
    }
    bool is_sought = n == EVENTS - first && least == first;
    bool is_undone = or_undone && n == EVENTS - 1 && least == 1;
    for (unsigned key = 0; key < KEYS && n > 0; key++)
        is_sought = is_sought && next[key] >= EVENTS;
    if (is_sought || is_undone)
        return NULL;
    struct evbus_group_stat stat = crew_stat(scene->bus, scene->group);
    snprintf(why, sizeof why, "%u events come, the first is %u; %u are pending, lag %lu", n, least, stat.n_pending,
             (unsigned long)stat.lag);
    return why;
}

/* Producers in a full ring take all that nobody keeps: what is given out later must have been kept. */
static void make_room(const struct scene *scene)
{
    struct ring *ring = &log_of(scene)->rings[0];
    if (!ring->has_journal)
        ring_release(ring, ring->capacity);
}

/* The bus is ready for the next trial: the admin's hold can be had, all is done, nothing is pinned. */
static void settle(struct scene *scene)
{
    struct evbus_seek_options options = {.size = sizeof options, .group = scene->group};
    struct evbus_delivery none = {.size = sizeof none};
    if (scene->member != NULL)
        evbus_unsubscribe(scene->member);
    scene->member = NULL;
    int rc = evbus_group_seek(scene->bus, &options, NULL, NULL);
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(scene->bus));
    const struct ring *ring = &log_of(scene)->rings[0];
    uint64_t low = atomic_load(&ring->head->lows[group_low_index(group_find(&scene->bus->memory, scene->group))]);
    cr_assert_eq(LOW_BEHIND(low) - 1, ring_tail(ring), "something stays pinned");
    scene->base += EVENTS;
}

/* --- killed at any point ------------------------------------------------------------------------------------------------ */

static void kill_self(void *context)
{
    (void)context;
    kill(getpid(), SIGKILL);
}

static int be_seeker(void *context)
{
    struct scene *scene = context;
    struct bus_thread *thread;
    struct evbus *bus = scene->archive != NULL ? archive_open(scene->archive, false)
                                               : fixture_open(&scene->f, "seeker", EVBUS_KEEPER_NEVER);
    if (bus == NULL || bus_thread(bus, &thread, NULL) != EVBUS_OK)
        return 98;
    if (scene->is_noted)
        touch_note(&scene->notes->points, 0);
    else
        touch_at(scene->point, 0, kill_self, NULL);
    int rc = seek(scene, bus);
    touch_end();
    if (rc != EVBUS_OK)
        fprintf(stderr, "seeker: %d %s\n", rc, evbus_message(bus));
    evbus_close(bus);
    return rc == EVBUS_OK ? 0 : 97;
}

/* true: it was killed. */
static bool let_seek(struct scene *scene)
{
    struct child child = child_start(be_seeker, scene);
    int status = child_join(&child);
    cr_assert(status == 0 || (!scene->is_noted && status == 128 + SIGKILL), "the seeker ended with %d", status);
    return status != 0;
}

static void note_points(struct scene *scene)
{
    prepare(scene);
    scene->is_noted = true;
    let_seek(scene);
    scene->is_noted = false;
    const char *why = comes(scene, scene->member, first_of[scene->target], false);
    cr_assert_null(why, "%s, let through: %s", target_names[scene->target], why);
    settle(scene);
    cr_assert_gt(scene->notes->points.n, 200u, "it stamps twice and empties 64 words");
}

/* The member has events in hand, so who sees none sees the seek. */
static bool is_seen_as_done(const struct scene *scene)
{
    struct pending_view view;
    bool is_done = true;
    pending_look(part_of(scene), &view);
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        is_done = is_done && pending_unpack(view.words[i], view.cursor).state == PENDING_EMPTY;
    return is_done;
}

static uint32_t stride_of(uint32_t n, uint64_t full, uint64_t quick)
{
    return trial_is_full() ? 1 : n / (uint32_t)trial_count(full, quick) + 1;
}

Test(seek, killed_at_any_point_is_done_or_has_not_been, .timeout = 600)
{ /* [guards PROGRESS] */
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    struct scene scene = scene_make(NULL);
    for (scene.target = TO_FIRST; scene.target < TARGETS; scene.target++) {
        uint32_t n_killed = 0;
        uint32_t n_before = 0;
        note_points(&scene);
        uint32_t n = scene.notes->points.n;
        for (uint32_t i = 0; i < n; i += stride_of(n, 100, 30)) {
            scene.point = scene.notes->points.at[i];
            prepare(&scene);
            n_killed += let_seek(&scene);
            make_room(&scene);
            bool is_begun = is_seen_as_done(&scene);
            n_before += !is_begun;
            struct evbus_subscription *sub = scene.member;
            if (i % 2 == 0) { /* the next holder is another one */
                evbus_unsubscribe(scene.member);
                scene.member = NULL;
                sub = crew_join(scene.bus, scene.group, NULL, NULL);
            } else {
                let_go(&scene);
            }
            const char *why = comes(&scene, sub, first_of[scene.target], !is_begun);
            cr_assert_null(why, "%s, killed at point %u of %u, {%u, %u}%s: %s", target_names[scene.target], i, n,
                           scene.point.stores, scene.point.calls, is_begun ? ", begun" : "", why);
            if (i % 2 == 0)
                evbus_unsubscribe(sub);
            settle(&scene);
        }
        cr_assert_gt(n_killed, 0u);
        fprintf(stderr, "%s: %u points, killed %u times, %u of them before it was begun\n", target_names[scene.target],
                n, n_killed, n_before);
    }
    fixture_end(&scene.f);
}

/* What the keeper would have saved when the seek was killed is what a restart brings back. */
Test(seek, saved_when_it_was_killed_at_any_point_comes_back_as_done_or_not_been, .timeout = 600)
{ /* [guards DURABLE] J3 */
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    struct archive archive = archive_make((struct archive_options){.settings = RETRY ","});
    struct scene scene = scene_make(&archive);
    struct error err = {""};
    for (scene.target = TO_FIRST; scene.target < TARGETS; scene.target++) {
        note_points(&scene);
        uint32_t n = scene.notes->points.n;
        for (uint32_t i = 0; i < n; i += stride_of(n, 40, 12)) {
            char *text;
            size_t len;
            scene.point = scene.notes->points.at[i];
            prepare(&scene);
            struct writer *writer = archive_writer(archive.bus, 1);
            let_seek(&scene);
            bool is_begun = is_seen_as_done(&scene);
            cr_assert_eq(saved_snapshot(&archive.bus->memory, &text, &len, &err), EVBUS_OK, "%s", err.text);
            cr_assert_eq(writer_sync_all(writer), WRITER_WROTE);
            cr_assert_eq(saved_write(&archive.bus->memory, writer_term(writer), 1, text, len, &err), EVBUS_OK, "%s",
                         err.text);
            free(text);
            writer_close(writer);
            evbus_unsubscribe(scene.member);
            scene.member = NULL;
            evbus_close(archive.bus);
            archive_forget_memory(&archive);
            scene.bus = archive.bus = archive_open(&archive, false);
            cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
            cr_assert_eq(atomic_load(&part_of(&scene)->seek) >> 16, 0u, "a new life begins with a seek");
            struct evbus_subscription *sub = crew_join(scene.bus, scene.group, NULL, NULL);
            const char *why = comes(&scene, sub, first_of[scene.target], !is_begun);
            cr_assert_null(why, "%s, saved at point %u of %u, {%u, %u}%s: %s", target_names[scene.target], i, n,
                           scene.point.stores, scene.point.calls, is_begun ? ", begun" : "", why);
            evbus_unsubscribe(sub);
            settle(&scene);
        }
    }
    evbus_close(archive.bus);
    evbus_remove(archive.name);
}

/* --- upon others at any instruction ---------------------------------------------------------------------------------------- */

/* What comes between two instructions of our own, once. */
struct upon {
    struct scene *scene;
    struct evbus *bus; /* the seeker's */
    uint64_t at;       /* before which instruction */
    bool has_come;
    int rc;
    /* of a keeper that looks at a journal's files */
    struct ring *ring;
    uint64_t oldest;
    uint64_t until;
    bool looks_late;
    bool is_retired;
};

static bool seek_now(void *context, uint64_t n, uintptr_t pc)
{
    struct upon *upon = context;
    if (n < upon->at || !step_is_ours(pc))
        return true;
    upon->has_come = true;
    upon->rc = seek(upon->scene, upon->bus);
    return false;
}

/* What a member does when the seek comes. */
enum doing { JOINING, FINISHING, LEAVING, DOINGS };
static const char *const doing_names[] = {"takes its partition and an event", "finishes, and takes the next", "leaves"};

static void act(struct scene *scene, enum doing doing)
{
    struct evbus_delivery event = {.size = sizeof event};
    switch (doing) {
    case JOINING:
        if (evbus_receive(scene->member, &event, 0) == EVBUS_OK)
            evbus_finish(scene->member, &event, EVBUS_RELEASE, NULL); /* its own, or it is fenced */
        break;
    case FINISHING:
        evbus_finish(scene->member, &scene->in_hand[0], EVBUS_DONE, NULL);
        if (evbus_receive(scene->member, &event, 0) == EVBUS_OK)
            evbus_finish(scene->member, &event, EVBUS_RELEASE, NULL);
        break;
    default:
        evbus_unsubscribe(scene->member);
        scene->member = NULL;
    }
}

static uint64_t come_upon(struct scene *scene, struct evbus *bus, enum doing doing, uint64_t at, bool *out_came)
{
    struct upon upon = {.scene = scene, .bus = bus, .at = at};
    prepare(scene);
    if (doing == JOINING) { /* one that has nothing yet, and takes what another left */
        evbus_unsubscribe(scene->member);
        scene->member = crew_join(scene->bus, scene->group, NULL, NULL);
    }
    step_begin(seek_now, &upon);
    act(scene, doing);
    uint64_t n_steps = step_end();
    *out_came = upon.has_come;
    if (!upon.has_come)
        upon.rc = seek(scene, bus);
    make_room(scene);
    cr_assert_eq(upon.rc, EVBUS_OK, "%s, instruction %lu: %d %s", doing_names[doing], (unsigned long)at, upon.rc,
                 evbus_message(bus));
    if (scene->member != NULL && doing == FINISHING)
        let_go(scene);
    struct evbus_subscription *sub = scene->member;
    if (sub == NULL)
        sub = crew_join(scene->bus, scene->group, NULL, NULL);
    const char *why = comes(scene, sub, first_of[scene->target], false);
    cr_assert_null(why, "%s upon a member that %s, instruction %lu: %s", target_names[scene->target],
                   doing_names[doing], (unsigned long)at, why);
    if (sub != scene->member)
        evbus_unsubscribe(sub);
    settle(scene);
    return n_steps;
}

Test(seek, upon_a_member_at_any_instruction_brings_all_from_the_target_on_just_once, .timeout = 900)
{ /* [guards ONE-HOLDER] P3 */
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    struct scene scene = scene_make(NULL);
    struct evbus *bus = fixture_open(&scene.f, "seeker", EVBUS_KEEPER_NEVER);
    enum doing n_doings = trial_is_slow() ? LEAVING : DOINGS; /* a sanitizer's free() takes millions of steps there */
    for (enum doing doing = JOINING; doing < n_doings; doing++)
        for (scene.target = TO_FIRST; scene.target < TARGETS; scene.target++) {
            bool came = true;
            uint64_t n_steps = come_upon(&scene, bus, doing, UINT64_MAX, &came);
            uint64_t n_trials = trial_is_slow() ? 4 : trial_count(60, 10); /* each steps through all of it */
            uint64_t stride = trial_is_soak() ? 1 : n_steps / n_trials + 1;
            unsigned n = 0;
            for (uint64_t at = 1 + (uint64_t)scene.target * stride / TARGETS; at < n_steps; at += stride, n++)
                come_upon(&scene, bus, doing, at, &came);
            fprintf(stderr, "%s upon a member that %s: at %u of %lu instructions\n", target_names[scene.target],
                    doing_names[doing], n, (unsigned long)n_steps);
        }
    evbus_close(bus);
    fixture_end(&scene.f);
}

Test(seek, upon_a_snapshot_at_any_instruction_is_in_it_whole_or_not_at_all, .timeout = 300)
{
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    struct scene scene = scene_make(NULL);
    struct evbus *bus = fixture_open(&scene.f, "seeker", EVBUS_KEEPER_NEVER);
    static struct group_part kept;
    struct pending_view before, view;
    prepare(&scene);
    struct group_part *part = part_of(&scene);
    memcpy(&kept, part, sizeof kept);
    pending_look(part, &before);
    uint64_t stride = trial_is_full() ? 1 : 7;
    for (scene.target = TO_FIRST; scene.target < TARGETS; scene.target++) {
        struct upon upon = {.scene = &scene, .bus = bus, .has_come = true};
        unsigned n_before = 0;
        for (upon.at = 1; upon.has_come; upon.at += stride) {
            memcpy(part, &kept, sizeof kept);
            upon.has_come = false;
            upon.rc = EVBUS_OK;
            step_begin(seek_now, &upon);
            pending_look(part, &view);
            step_end();
            cr_assert_eq(upon.rc, EVBUS_OK, "%s", evbus_message(bus));
            if (memcmp(&view, &before, sizeof view) == 0) {
                n_before++;
                continue;
            }
            cr_assert_eq(view.cursor, pending_cursor(part), "%s, instruction %lu: of the middle",
                         target_names[scene.target], (unsigned long)upon.at);
            for (uint32_t i = 0; i < PENDING_MAX; i++)
                cr_assert_eq(pending_unpack(view.words[i], view.cursor).state, PENDING_EMPTY,
                             "%s, instruction %lu: entry %u of before, the cursor of behind",
                             target_names[scene.target], (unsigned long)upon.at, i);
        }
        cr_assert_gt(upon.at, 100u);
        cr_assert_gt(n_before, 0u);
    }
    memcpy(part, &kept, sizeof kept);
    scene.target = TO_LATEST;
    cr_assert_eq(seek(&scene, bus), EVBUS_OK);
    settle(&scene);
    evbus_close(bus);
    fixture_end(&scene.f);
}

/* A keeper that has looked at the lows before the seek, or looks in the midst of it, moves `oldest` on at any instruction. */
static bool retire_now(void *context, uint64_t n, uintptr_t pc)
{
    struct upon *upon = context;
    (void)pc;
    if (n < upon->at)
        return true;
    upon->has_come = true;
    if (upon->looks_late) {
        upon->oldest = atomic_load(&upon->ring->head->oldest);
        upon->until = ring_needed_from(upon->ring);
    }
    uint64_t word = upon->oldest;
    upon->is_retired = upon->until > RELEASED_POSITION(word) &&
                       atomic_compare_exchange_strong(&upon->ring->head->oldest, &word,
                                                      RELEASED(upon->until, RELEASED_GENERATION(word)));
    return false;
}

Test(seek, upon_retention_at_any_instruction_goes_on_at_what_is_kept, .timeout = 600)
{
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    struct archive archive = archive_make((struct archive_options){.settings = RETRY ","});
    struct scene scene = scene_make(&archive);
    struct upon upon = {.ring = archive_ring(archive.bus, "test.a")};
    unsigned n_retired[2] = {0};
    publish(&scene, 0, EVENTS);
    cr_assert_eq(
        evbus_group_seek(archive.bus, &(struct evbus_seek_options){.group = "team", .force = true}, NULL, NULL),
        EVBUS_OK);
    uint64_t tail = ring_tail(upon.ring);
    for (int late = 0; late < 2; late++) {
        upon.looks_late = late == 1;
        upon.has_come = true;
        for (upon.at = 1; upon.has_come && upon.at < 1500; upon.at += trial_is_full() ? 1 : 5) {
            upon.has_come = upon.is_retired = false;
            upon.oldest = atomic_load(&upon.ring->head->oldest);
            upon.until = ring_needed_from(upon.ring);
            cr_assert_eq(upon.until, tail);
            step_begin_at((uintptr_t)ring_pin, retire_now, &upon);
            cr_assert_eq(evbus_group_seek(archive.bus,
                                          &(struct evbus_seek_options){.group = "team", .from = EVBUS_FROM_EARLIEST},
                                          NULL, NULL),
                         EVBUS_OK, "%s", evbus_message(archive.bus));
            step_end();
            uint64_t cursor = pending_cursor(part_of(&scene));
            cr_assert_geq(cursor, ring_oldest(upon.ring), "instruction %lu: it goes on at %lu, kept is from %lu on",
                          (unsigned long)upon.at, (unsigned long)cursor, (unsigned long)ring_oldest(upon.ring));
            cr_assert(upon.is_retired == (cursor == tail), "instruction %lu", (unsigned long)upon.at);
            n_retired[late] += upon.is_retired;
            atomic_store(&upon.ring->head->oldest, RELEASED(0, RELEASED_GENERATION(upon.oldest) + 7));
            cr_assert_eq(
                evbus_group_seek(archive.bus, &(struct evbus_seek_options){.group = "team", .force = true}, NULL, NULL),
                EVBUS_OK);
        }
        cr_assert_gt(upon.at, 300u);
    }
    cr_assert(n_retired[0] > 0 && n_retired[1] > 0, "before the pin it may");
    evbus_close(archive.bus);
    evbus_remove(archive.name);
}
