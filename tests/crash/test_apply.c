/* A catalogue that is applied while all runs, by a process that is killed half way. */
#include "await.h"
#include "child.h"
#include "fixture.h"
#include "memory_make.h"
#include "step.h"
#include "trial.h"

#include "burial.h"
#include "bus.h"
#include "clock.h"
#include "provide.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS_MAX 1000000 /* EVBUS_STEP is the number of the function * STEPS_MAX + step */

#define BEFORE                                                                                                 \
    "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":2,\"ring\":\"16KiB\"}," \
    "\"topics\":{\"test.a.one\":{\"groups\":[\"crew\"]}},\"groups\":{\"crew\":{\"retry\":[\"1ms\"]}}}"

/* A topic in a log that is there, one in a new log, a new group, other settings of an old one. */
#define AFTER                                                                                                  \
    "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":2,\"ring\":\"16KiB\"}," \
    "\"topics\":{\"test.a.one\":{\"groups\":[\"crew\"]},\"test.a.two\":{\"groups\":[\"crew\",\"late\"]},"      \
    "\"test.b.one\":{\"groups\":[\"crew\",\"late\"]}},\"groups\":{\"crew\":{\"retry\":[\"1ms\",\"1ms\"]}}}"

struct scene {
    struct fixture f; /* its handle and the members are as old as the bus: services that go on */
    struct evbus_subscription *crew;
    struct evbus *applier; /* in the victim: its own */
    uintptr_t from;        /* function at whose first call the stepping begins */
    uint64_t n;            /* step; 0: let through */
    struct scene_notes {
        _Atomic uint64_t n_steps;
        _Atomic int is_ready;
    } * notes;
};

static struct scene_notes *scene_notes;

static struct evbus_subscription *join(struct evbus *bus, const char *group)
{
    struct evbus_subscription *sub;
    int rc = evbus_subscribe(
        &sub, bus, &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options), .group = group});
    cr_assert_eq(rc, EVBUS_OK, "%s: %s", group, evbus_message(bus));
    return sub;
}

static struct scene make_scene(void)
{
    if (scene_notes == NULL)
        scene_notes = child_shared(sizeof *scene_notes);
    struct scene scene = {
        .f = fixture_make((struct fixture_options){.catalogue = BEFORE}),
        .notes = scene_notes,
    };
    scene.crew = join(scene.f.bus, "crew");
    return scene;
}

static void end_scene(struct scene *scene)
{
    evbus_unsubscribe(scene->crew);
    fixture_end(&scene->f);
}

static int publish(struct evbus *bus, const char *topic)
{
    return evbus_publish(
        bus,
        &(struct evbus_event){
            .size = sizeof(struct evbus_event), .topic = topic, .payload = "1", .timeout_ns = CLOCK_NS_PER_S},
        NULL);
}

/* The member gets one event, of this topic. */
static bool gets(struct evbus *bus, struct evbus_subscription *sub, const char *topic)
{
    struct evbus_delivery event = {.size = sizeof event};
    int rc = evbus_receive(sub, &event, AWAIT_MS * CLOCK_NS_PER_MS);
    bool is_right = rc == EVBUS_OK && strcmp(event.topic, topic) == 0;
    if (!is_right)
        fprintf(stderr, "waiting for %s: %d %s\n", topic, rc, rc == EVBUS_OK ? event.topic : evbus_message(bus));
    return is_right && evbus_finish(sub, &event, EVBUS_DONE, NULL) == EVBUS_OK;
}

/* --- the victim ----------------------------------------------------------------------------------------------------------- */

static int apply_traced(void *context)
{
    struct scene *scene = context;
    struct evbus *bus = fixture_open(&scene->f, "applier", EVBUS_KEEPER_NEVER);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    kill(getpid(), SIGSTOP);
    return evbus_catalogue_apply(bus, AFTER, 0, NULL) == EVBUS_OK ? 0 : 90;
}

static int apply_to_step(void *context)
{
    struct scene *scene = context;
    struct evbus *bus = fixture_open(&scene->f, "applier", EVBUS_KEEPER_NEVER);
    step_begin_at(scene->from, scene->n != 0 ? step_kill : step_count, &scene->n);
    int rc = evbus_catalogue_apply(bus, AFTER, 0, NULL);
    scene->notes->n_steps = step_end();
    return rc == EVBUS_OK ? 0 : 90;
}

static bool kill_at_step(struct scene *scene)
{
    struct child child = child_start(apply_to_step, scene);
    int status = child_join(&child);
    cr_assert(status == 0 || status == 128 + SIGKILL, "the applier ended with %d", status);
    return status != 0;
}

/* --- what must be then ---------------------------------------------------------------------------------------------------- */

/* Old services go on; who comes finds the old or the new catalogue; the next apply completes it. NULL: so it is. */
static const char *see(struct scene *scene)
{
    static const char *const topics[] = {"test.a.two", "test.b.one"};
    static char why[500];
    struct evbus *bus = scene->f.bus;
    struct evbus *fresh;
    const char *text;
    size_t len;
    uint32_t changes;
    int rc;
    if ((rc = publish(bus, "test.a.one")) != EVBUS_OK || !gets(bus, scene->crew, "test.a.one")) {
        snprintf(why, sizeof why, "an old service does not go on: %d %s", rc, evbus_message(bus));
        return why;
    }
    struct evbus_options options = {
        .size = sizeof options, .bus = scene->f.name, .service = "fresh", .keeper = EVBUS_KEEPER_NEVER};
    if ((rc = evbus_open(&fresh, &options)) != EVBUS_OK ||
        (rc = evbus_catalogue_text(fresh, &text, &len)) != EVBUS_OK) {
        snprintf(why, sizeof why, "nobody can open the bus: %d %s", rc, evbus_message(NULL));
        return why;
    }
    bool is_new = len == strlen(AFTER) && memcmp(text, AFTER, len) == 0;
    if (!is_new && (len != strlen(BEFORE) || memcmp(text, BEFORE, len) != 0)) {
        snprintf(why, sizeof why, "the catalogue is neither old nor new: %.*s", (int)len, text);
        return why;
    }
    int want = is_new ? EVBUS_OK : EVBUS_ENOTFOUND;
    bool misses = false;
    for (int topic = 0; topic < 2 && !misses; topic++) {
        rc = publish(topic == 0 ? bus : fresh, topics[topic]);
        misses = rc != want || (is_new && !gets(bus, scene->crew, topics[topic]));
    }
    if (rc != want) {
        snprintf(why, sizeof why, "the catalogue is %s, a publish on its new topic returned %d %s",
                 is_new ? "new" : "old", rc, evbus_message(bus));
        return why;
    }
    if (misses)
        return "the group misses what was published on a new topic";
    if ((rc = evbus_catalogue_apply(fresh, AFTER, 0, &changes)) != EVBUS_OK) {
        snprintf(why, sizeof why, "the next apply: %d %s", rc, evbus_message(fresh));
        return why;
    }
    struct evbus_subscription *late = join(bus, "late");
    bool is_good = true;
    for (int topic = 0; topic < 2 && is_good && !misses; topic++) {
        is_good = publish(topic == 0 ? fresh : bus, topics[topic]) == EVBUS_OK;
        misses = !is_good || !gets(bus, scene->crew, topics[topic]);
    }
    for (int i = is_new ? 0 : 2; i < 4 && !misses; i++) { /* it was there before the first publish that came through */
        struct evbus_delivery event = {.size = sizeof event};
        misses = evbus_receive(late, &event, AWAIT_MS * CLOCK_NS_PER_MS) != EVBUS_OK ||
                 evbus_finish(late, &event, EVBUS_DONE, NULL) != EVBUS_OK;
    }
    evbus_unsubscribe(late);
    evbus_close(fresh);
    return !is_good ? "a publish on a new topic failed"
           : misses ? "a group misses what is published on a new topic"
                    : NULL;
}

/* --- the tests ------------------------------------------------------------------------------------------------------------ */

Test(apply, let_through_it_reaches_services_that_are_older, .timeout = 60)
{
    struct scene scene = make_scene();
    cr_assert_eq(evbus_catalogue_apply(scene.f.bus, AFTER, 0, NULL), EVBUS_OK, "%s", evbus_message(scene.f.bus));
    const char *why = see(&scene);
    cr_assert_null(why, "%s", why);
    end_scene(&scene);
}

Test(apply, killed_at_any_system_call_leaves_the_old_catalogue_or_the_new, .timeout = 240)
{
    unsigned n = 0;
    bool was_killed = true;
    for (unsigned k = 1; was_killed; k += trial_is_full() ? 1 : 4) {
        struct scene scene = make_scene();
        was_killed = child_kill_at_call(apply_traced, &scene, k);
        const char *why = see(&scene);
        cr_assert_null(why, "killed at the %u-th side of a system call: %s", k, why);
        n += was_killed;
        end_scene(&scene);
    }
    fprintf(stderr, "%u moments before and after system calls\n", n);
}

static const struct {
    const char *name;
    uintptr_t address;
} begins[] = {
    /* the stepping begins there, and goes on to the end of the call */
    {"group_lock", (uintptr_t)group_lock},         {"memory_add_topic", (uintptr_t)memory_add_topic},
    {"memory_add_log", (uintptr_t)memory_add_log}, {"memory_publish_log", (uintptr_t)memory_publish_log},
    {"group_make", (uintptr_t)group_make},
};

/* One point: `n` steps behind the call of a function. true: it was killed there. */
static bool kill_behind(unsigned begin, uint64_t n, const char *name, uint64_t *out_steps)
{
    struct scene scene = make_scene();
    scene.from = begins[begin].address;
    scene.n = n;
    bool was_killed = kill_at_step(&scene);
    *out_steps = scene.notes->n_steps;
    const char *why = see(&scene);
    unsigned long again = (unsigned long)(begin * STEPS_MAX + n);
    if (why != NULL)
        fprintf(stderr, "step %lu; again: EVBUS_STEP=%lu crash-apply -j1 --filter '%s'\n", again, again, name);
    cr_assert_null(why, "killed %lu steps behind the call of %s: %s", (unsigned long)n, begins[begin].name, why);
    end_scene(&scene);
    return was_killed;
}

/* From a function on, the steps further and further apart; `back`: from the end of the call on, backwards. */
static void kill_from(unsigned begin, bool back, uint64_t budget_ms, uint64_t *random, const char *name)
{
    uint64_t n_points = 0;
    uint64_t whole = 0;
    uint64_t steps;
    if (back)
        cr_assert(!kill_behind(begin, 0, name, &whole));
    uint64_t deadline = await_now_ms() + budget_ms;
    uint64_t n = 1 + trial_random(random) % 8;
    for (bool was_killed = true; (was_killed || back) && (!back || n < whole) && await_now_ms() < deadline;
         n_points++) {
        was_killed = kill_behind(begin, back ? whole - n : n, name, &steps);
        n += 1 + n / (trial_is_full() ? 8 : 3) + trial_random(random) % 8;
    }
    fprintf(stderr, "%s %s on: %lu points, the last at step %lu\n", back ? "back from the end to" : "from",
            begins[begin].name, (unsigned long)n_points, (unsigned long)n);
}

Test(apply, killed_at_any_instruction_leaves_the_old_catalogue_or_the_new, .timeout = 240)
{
    static const char name[] = "apply/killed_at_any_instruction_leaves_the_old_catalogue_or_the_new";
    uint64_t n_begins = sizeof begins / sizeof begins[0];
    uint64_t steps;
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    if (trial_only_step() != 0) {
        kill_behind((unsigned)(trial_only_step() / STEPS_MAX), trial_only_step() % STEPS_MAX, name, &steps);
        return;
    }
    uint64_t random = trial_seed(name);
    for (unsigned i = 0; i < n_begins; i++)
        kill_from(i, false, trial_ms(7000, 500) / n_begins, &random, name);
    kill_from((unsigned)n_begins - 1, true, trial_ms(5000, 400), &random, name); /* there it writes the text */
}

/* --- who is stopped, or dead, while it is applied --------------------------------------------------------------------------- */

static int hold_an_event_of_the_new_log(void *context)
{
    struct scene *scene = context;
    struct evbus *bus = fixture_open(&scene->f, "victim", EVBUS_KEEPER_NEVER);
    struct evbus_delivery event = {.size = sizeof event};
    if (evbus_catalogue_apply(bus, AFTER, 0, NULL) != EVBUS_OK || publish(bus, "test.b.one") != EVBUS_OK ||
        evbus_receive(join(bus, "late"), &event, 5 * CLOCK_NS_PER_S) != EVBUS_OK)
        return 1;
    kill(getpid(), SIGKILL);
    return 1;
}

static int take_a_slot(void *context)
{
    struct scene *scene = context;
    struct evbus *bus = fixture_open(&scene->f, "next", EVBUS_KEEPER_NEVER);
    if (publish(bus, "test.a.one") != EVBUS_OK)
        return 1;
    scene->notes->is_ready = 1;
    for (;;)
        await_pause();
}

Test(apply, who_dies_with_a_new_logs_events_is_buried_by_those_who_have_not_heard_of_it, .timeout = 60)
{ /* [guards PROGRESS] R2 */
    struct scene scene = make_scene();
    struct evbus_delivery event = {.size = sizeof event};
    struct child victim = child_start(hold_an_event_of_the_new_log, &scene);
    cr_assert_eq(child_join(&victim), 128 + SIGKILL);
    cr_assert_eq(burial_sweep(&scene.f.bus->memory), 1);
    scene.notes->is_ready = 0;
    struct child next = child_start(take_a_slot, &scene); /* its slot lives again */
    cr_assert(await_that(scene.notes->is_ready != 0));
    struct evbus *fresh = fixture_open(&scene.f, "fresh", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *late = join(fresh, "late");
    int rc = evbus_receive(late, &event, AWAIT_MS * CLOCK_NS_PER_MS);
    cr_assert(rc == EVBUS_OK && strcmp(event.topic, "test.b.one") == 0, "%d %s", rc, evbus_message(fresh));
    evbus_unsubscribe(late);
    evbus_close(fresh);
    child_kill(&next);
    end_scene(&scene);
}

/* A member that is stopped at a step of its receive; then it takes what comes: one event of test.a.two. */
static int receive_with_stop(void *context)
{
    struct scene *scene = context;
    struct evbus *bus = fixture_open(&scene->f, "member", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub;
    struct evbus_subscribe_options options = {.size = sizeof options, .group = "crew"};
    struct evbus_delivery event = {.size = sizeof event};
    struct step_ours ours = {.wanted = scene->n};
    if (evbus_subscribe(&sub, bus, &options) != EVBUS_OK || evbus_receive(sub, &event, 0) != EVBUS_ETIMEOUT)
        return 1;
    step_begin(step_stop_in_ours, &ours);
    int rc = evbus_receive(sub, &event, 0);
    step_end();
    scene->notes->n_steps = ours.n;
    if (scene->n == 0)
        return rc == EVBUS_ETIMEOUT ? 0 : 1;
    if (rc == EVBUS_ETIMEOUT)
        rc = evbus_receive(sub, &event, 5 * CLOCK_NS_PER_S);
    if (rc != EVBUS_OK || strcmp(event.topic, "test.a.two") != 0)
        return 2;
    rc = evbus_finish(sub, &event, EVBUS_DONE, NULL);
    evbus_unsubscribe(sub);
    evbus_close(bus);
    return rc == EVBUS_OK ? 0 : 3;
}

Test(apply, a_member_stopped_at_any_instruction_of_its_receive_misses_nothing_of_a_new_topic, .timeout = 120)
{
    uint64_t n_steps = 0;
    unsigned n_points = 0;
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    uint64_t deadline = UINT64_MAX;
    for (uint64_t n = 0; (n == 0 || n < n_steps) && await_now_ms() < deadline;
         n += n == 0 ? 1 : n_steps / trial_count(120, 20) + 1) {
        int status = 0;
        struct scene scene = make_scene();
        evbus_unsubscribe(scene.crew);
        scene.crew = NULL;
        scene.n = n;
        struct child member = child_start(receive_with_stop, &scene);
        cr_assert(await_that(waitpid(member.pid, &status, WNOHANG | WUNTRACED) == member.pid));
        if (n == 0) {
            n_steps = scene.notes->n_steps;
            deadline = await_now_ms() + trial_ms(5000, 300);
        }
        if (WIFSTOPPED(status)) {
            cr_assert_eq(evbus_catalogue_apply(scene.f.bus, AFTER, 0, NULL), EVBUS_OK);
            cr_assert_eq(publish(scene.f.bus, "test.a.two"), EVBUS_OK);
            child_continue(&member);
            cr_assert_eq(child_join(&member), 0, "stopped at step %lu of %lu: it missed an event of the new topic",
                         (unsigned long)n, (unsigned long)n_steps);
            n_points++;
        }
        end_scene(&scene);
    }
    fprintf(stderr, "stopped while a topic was added: %u points of %lu steps\n", n_points, (unsigned long)n_steps);
}
