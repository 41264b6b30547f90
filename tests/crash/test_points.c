/* Each operation is killed at each point at which it has changed shared memory or made a system call, while two others publish and
 * consume; and an undertaker of an undertaker; and pairs: one killed while another is stopped, or has been killed, at a point of
 * its own. On a bus of one log, one partition and 64 cells. What must be then is the same for all: scene.h. */
#include "crew.h"
#include "operation.h"
#include "trial.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEEP_EVERY  16  /* trials */
#define RENEW_EVERY 400 /* trials: a scene's ledgers end */
#define ROUNDS      4   /* the ring's end, its gate and its neighbours are elsewhere each time */
#define STRIDE      64  /* instructions between two stops of one run */
#define MORE_POINTS 40  /* where others make an operation go another way than when its points were noted */

/* The keeper's thread blocks all signals; here it is watched, so those of touch.c come through. */
int prctl(int option, ...)
{
    va_list args;
    unsigned long values[4];
    va_start(args, option);
    for (int i = 0; i < 4; i++)
        values[i] = va_arg(args, unsigned long);
    va_end(args);
    if (option == PR_SET_NAME) {
        sigset_t ours;
        sigemptyset(&ours);
        sigaddset(&ours, SIGSEGV);
        sigaddset(&ours, SIGTRAP);
        pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
    }
    return (int)syscall(SYS_prctl, option, values[0], values[1], values[2], values[3]);
}

static struct scene scene;

static void renew(unsigned every)
{
    if (scene.shared != NULL && scene.n_trials < every)
        return;
    if (scene.shared != NULL)
        scene_end(&scene);
    scene = scene_make();
}

/* The points of an operation, as they are when nobody is in its way. */
static void note_points(const struct operation *operation, struct touch_points *out)
{
    bool came;
    renew(operation->fills ? 1 : RENEW_EVERY); /* a log of dead letters that is this small holds four */
    struct actor *actor = &scene.shared->actors[0];
    scene_hold(&scene);
    scene_start(&scene, actor, operation, NOTED, (struct touch_point){0});
    cr_assert(scene_let(&scene, actor, &came), "%s, let through", operation->name);
    *out = actor->points;
    cr_assert_gt(out->n, 1, "%s does nothing", operation->name);
    cr_assert(scene_settle(&scene, !operation->fills), "%s, let through", operation->name);
}

/* Points beyond those that were noted: after further stores. */
static struct touch_point point_of(const struct touch_points *points, uint32_t i)
{
    if (i < points->n)
        return points->at[i];
    return (struct touch_point){points->at[points->n - 1].stores + 1 + i - points->n, 0};
}

static bool kill_at(const struct operation *operation, struct touch_point point, bool *out_came)
{
    renew(operation->fills ? 1 : RENEW_EVERY);
    scene_hold(&scene);
    scene_start(&scene, &scene.shared->actors[0], operation, KILLED, point);
    return scene_let(&scene, &scene.shared->actors[0], out_came) &&
           scene_settle(&scene, !operation->fills && scene.n_trials % DEEP_EVERY == 0);
}

static void count_points(const struct touch_points *points, uint32_t *out_stores, uint32_t *out_calls)
{
    *out_stores = *out_calls = 0;
    for (uint32_t i = 1; i < points->n; i++) {
        *out_stores += points->at[i].calls == 0;
        *out_calls += points->at[i].calls != 0;
    }
}

/* Kills at each point; returns at how many it came to it. */
static uint32_t kill_round(const struct operation *operation, const struct touch_points *points, uint64_t *inout_ns)
{
    bool came = true;
    uint32_t n_killed = 0;
    uint32_t stride = trial_is_full() ? 1 : points->n / (uint32_t)trial_count(60, 12) + 1;
    uint32_t i = trial_only_step() != 0 ? (uint32_t)trial_only_step() - 1 : 0;
    for (; (i < points->n || came) && i < points->n + MORE_POINTS; i += stride) {
        struct touch_point point = point_of(points, i);
        bool is_good = kill_at(operation, point, &came);
        if (!is_good) {
            scene_print(&scene);
            fprintf(stderr, "again: EVBUS_STEP=%u %s -j1 --filter 'points/%s'\n", i + 1, trial_program(),
                    criterion_current_test->name);
        }
        cr_assert(is_good, "%s: killed at point %u of %u: %u stores, then %u system calls", operation->name, i + 1,
                  points->n, point.stores, point.calls);
        n_killed += came;
        *inout_ns = scene.slowest_ns > *inout_ns ? scene.slowest_ns : *inout_ns;
        if (trial_only_step() != 0)
            break;
    }
    return n_killed;
}

static void kill_at_all(const char *name)
{
    static struct touch_points points, again;
    const struct operation *operation = operation_find(name);
    uint32_t n_stores, n_calls;
    uint32_t n_killed = 0;
    uint64_t slowest_ns = 0;
    note_points(operation, &points);
    count_points(&points, &n_stores, &n_calls);
    unsigned n_rounds = operation->fills || !trial_is_full() ? 1 : ROUNDS;
    for (unsigned round = 0; round < n_rounds; round++)
        n_killed += kill_round(operation, &points, &slowest_ns);
    if (!operation->fills)
        cr_assert(scene_settle(&scene, true) && scene_print(&scene));
    cr_assert_gt(n_killed, 0u, "%s: nobody was killed", name);
    /* A publish that is stepped through on a busy machine is cancelled, and says it again: a third of the shortest way there is. The last
     * ones of those may be another way's */
    for (int i = 0; i < 50 && trial_is_full() && n_killed < points.n / 3 * n_rounds && trial_only_step() == 0; i++) {
        note_points(operation, &again);
        points = again.n < points.n ? again : points;
    }
    if (trial_is_full() && trial_only_step() == 0)
        cr_assert_geq(n_killed, points.n / 3 * n_rounds, "%s: only %u killed", name, n_killed);
    fprintf(stderr,
            "%s: %u points: %u stores, %u system calls, of %lu instructions; killed %u times in %u rounds; all went on "
            "after %.1f ms at most\n",
            name, points.n, n_stores, n_calls, (unsigned long)points.n_steps, n_killed, n_rounds,
            (double)slowest_ns / 1e6);
    scene_end(&scene);
}

Test(points, publish_killed_at_any_is_there_whole_or_not_at_all, .timeout = 240)
{ /* [guards WHOLE] [guards PROGRESS] R1 R2 B6 */
    kill_at_all("publish");
}

Test(points, publish_of_a_batch_killed_at_any_is_there_up_to_an_event_and_whole, .timeout = 240)
{ /* [guards WHOLE] [guards ORDER] [guards PROGRESS] R20 */
    kill_at_all("publish a batch");
}

Test(points, take_killed_at_any_loses_nothing_and_counts_what_ran, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P4 P5 P7 */
    kill_at_all("take");
}

Test(points, finish_killed_at_any_is_done_or_comes_again, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P1 */
    kill_at_all("finish");
}

Test(points, follower_killed_at_any_is_found_by_the_next, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P1 P2 */
    kill_at_all("finish, with a follower");
}

Test(points, run_killed_at_any_has_finished_each_once_or_comes_again, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P3 P4 P5: one finish takes the next event along */
    kill_at_all("run");
}

Test(points, skip_killed_at_any_leaves_the_skipped_findable, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P2 */
    kill_at_all("skip behind a held key");
}

Test(points, retry_killed_at_any_comes_again, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P7 */
    kill_at_all("retry");
}

Test(points, release_killed_at_any_charges_no_more_than_what_ran, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P7 */
    kill_at_all("release");
}

Test(points, reject_killed_at_any_has_its_dead_letter, .timeout = 240)
{ /* [guards ORDER] [guards PROGRESS] P10 */
    kill_at_all("reject, with its dead letter");
}

Test(points, takeover_killed_at_any_is_made_by_the_next, .timeout = 240)
{ /* [guards ONE-HOLDER] [guards PROGRESS] P3 P4 P7 */
    kill_at_all("take-over");
}

Test(points, burial_killed_at_any_is_made_by_the_next, .timeout = 240)
{ /* [guards PROGRESS] [guards ONE-WRITER] R2 B1 D6 */
    kill_at_all("burial");
}

Test(points, cancel_killed_at_any_is_made_by_the_next, .timeout = 240)
{ /* [guards PROGRESS] [guards ONE-WRITER] R10 */
    kill_at_all("cancel by a reader");
}

Test(points, keepers_cancel_killed_at_any_is_made_by_the_next, .timeout = 240)
{ /* [guards PROGRESS] [guards ONE-WRITER] R4 */
    kill_at_all("cancel by a keeper");
}

Test(points, fence_killed_at_any_is_made_by_the_next, .timeout = 240)
{ /* [guards PROGRESS] [guards ONE-WRITER] R5 */
    kill_at_all("fence");
}

Test(points, attach_killed_at_any_leaves_nothing, .timeout = 240)
{ /* [guards PROGRESS] B10 */
    kill_at_all("attach");
}

/* --- stopped -------------------------------------------------------------------------------------------------------------- */

static void hold_up_at_all(const char *name)
{
    const struct operation *operation = operation_find(name);
    uint32_t n_stops = 0;
    uint32_t n_ours = 0;
    uint64_t only = trial_only_step();
    uint32_t step = trial_is_full() ? 1 : STRIDE / (uint32_t)trial_count(20, 4);
    for (uint32_t offset = (uint32_t)(only != 0 ? only - 1 : 0); offset < STRIDE; offset += step) {
        renew(RENEW_EVERY);
        struct actor *actor = &scene.shared->actors[0];
        scene_hold(&scene);
        actor->offset = offset;
        actor->stride = STRIDE;
        scene_start(&scene, actor, operation, HELD_UP, (struct touch_point){0});
        bool is_good = scene_let_held_up(&scene, actor) && scene_settle(&scene, scene.n_trials % DEEP_EVERY == 0);
        if (!is_good)
            fprintf(stderr, "again: EVBUS_STEP=%u %s -j1 --filter 'points/%s'\n", offset + 1, trial_program(),
                    criterion_current_test->name);
        cr_assert(is_good, "%s: stopped at each instruction %u + k * %u", name, offset, STRIDE);
        n_stops += actor->n_stops;
        n_ours = actor->n_ours > n_ours ? actor->n_ours : n_ours;
        if (only != 0)
            break;
    }
    cr_assert(scene_settle(&scene, true) && scene_print(&scene));
    cr_assert_gt(n_stops, 0u);
    if (trial_is_full() && only == 0)
        cr_assert_geq(n_stops, n_ours / 2, "%s: stopped %u times, it has %u instructions", name, n_stops, n_ours);
    fprintf(stderr, "%s: stopped %u times, at all of up to %u instructions of our own text\n", name, n_stops, n_ours);
    scene_end(&scene);
}

Test(points, take_stopped_at_every_instruction_comes_to_its_end, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] [guards PROGRESS] P4 P9 */
    hold_up_at_all("take");
}

Test(points, finish_stopped_at_every_instruction_comes_to_its_end, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] [guards PROGRESS] P1 P9 */
    hold_up_at_all("finish");
}

Test(points, run_stopped_at_every_instruction_comes_to_its_end, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] [guards PROGRESS] P4 P9 */
    hold_up_at_all("run");
}

Test(points, follower_is_found_though_its_finder_is_stopped_at_every_instruction, .timeout = 240)
{ /* [guards ORDER] [guards ONE-HOLDER] [guards PROGRESS] P1 P2 P9 */
    hold_up_at_all("finish, with a follower");
}

/* While an undertaker is stopped others attach, and take over what it has not buried yet. */
static bool stop_undertaker(struct touch_point point, bool *out_came)
{
    renew(RENEW_EVERY);
    struct actor *actor = &scene.shared->actors[0];
    actor->finds_corpse = false;
    scene_hold(&scene);
    scene_start(&scene, actor, operation_find("burial"), STOPPED, point);
    bool is_good = scene_let(&scene, actor, out_came);
    crew_slots(&scene.f); /* a newcomer */
    is_good = is_good && scene_settle(&scene, false);
    return scene_continue(actor) && is_good && scene_settle(&scene, scene.n_trials % DEEP_EVERY == 0);
}

Test(points, undertaker_stopped_at_any_holds_nobody, .timeout = 240)
{ /* [guards PROGRESS] [guards ONE-HOLDER] B6 */
    static struct touch_points points;
    bool came = true;
    uint32_t stride = trial_is_full() ? 1 : 10;
    note_points(operation_find("burial"), &points);
    for (uint32_t i = trial_only_step() != 0 ? (uint32_t)trial_only_step() - 1 : 0;
         (i < points.n || came) && i < points.n + MORE_POINTS; i += stride) {
        cr_assert(stop_undertaker(point_of(&points, i), &came),
                  "stopped at point %u of %u; again: EVBUS_STEP=%u %s -j1 --filter 'points/undertaker_stopped*'", i + 1,
                  points.n, i + 1, trial_program());
        if (trial_only_step() != 0)
            break;
    }
    cr_assert(scene_settle(&scene, true) && scene_print(&scene));
    fprintf(stderr, "burial stopped at %u points; all went on after %.1f ms at most\n", points.n,
            (double)scene.slowest_ns / 1e6);
    scene_end(&scene);
}

/* --- two of them ---------------------------------------------------------------------------------------------------------- */

/* The first undertaker is killed at one point; the second, who buries it and what it buried, at another. */
static bool bury_undertaker(struct touch_point first, struct touch_point second, bool *out_came)
{
    const struct operation *burial = operation_find("burial");
    struct actor *next = &scene.shared->actors[1];
    bool came;
    renew(RENEW_EVERY);
    scene_hold(&scene);
    next = &scene.shared->actors[1];
    next->finds_corpse = true; /* and is attached before: attaching buries */
    scene_start(&scene, next, burial, KILLED, second);
    scene_start(&scene, &scene.shared->actors[0], burial, KILLED, first);
    return scene_let(&scene, &scene.shared->actors[0], &came) && scene_let(&scene, next, out_came) &&
           scene_settle(&scene, scene.n_trials % DEEP_EVERY == 0);
}

Test(points, undertaker_of_an_undertaker_killed_at_any_is_followed_by_the_next, .timeout = 600)
{ /* [guards PROGRESS] [guards ONE-WRITER] R2 B1 B6 */
    static struct touch_points points;
    const char *name = "points/undertaker_of_an_undertaker_killed_at_any_is_followed_by_the_next";
    uint64_t random = trial_seed(name);
    uint64_t n_trials = 0;
    note_points(operation_find("burial"), &points);
    uint32_t n_each = trial_is_soak() ? points.n : 2;
    uint32_t stride = trial_is_full() ? 1 : points.n / (uint32_t)trial_count(40, 8) + 1;
    bool came = true;
    for (uint32_t j = 0; (j < points.n || came) && j < 2 * points.n; j += stride)
        for (uint32_t k = 0; k < n_each; k++) {
            uint32_t i = trial_is_soak() ? k : (uint32_t)(trial_random(&random) % points.n);
            bool is_good = bury_undertaker(point_of(&points, i), point_of(&points, j), &came);
            if (!is_good)
                scene_print(&scene);
            cr_assert(is_good, "the first is killed at point %u, the second at %u", i + 1, j + 1);
            n_trials++;
        }
    cr_assert(scene_settle(&scene, true) && scene_print(&scene));
    fprintf(stderr, "undertaker of an undertaker: %lu pairs of %u points each\n", (unsigned long)n_trials, points.n);
    scene_end(&scene);
}

static const char *const paired[] = {"publish",
                                     "take",
                                     "finish",
                                     "finish, with a follower",
                                     "skip behind a held key",
                                     "take-over",
                                     "burial",
                                     "cancel by a reader",
                                     "cancel by a keeper",
                                     "fence",
                                     "retry"};
#define N_PAIRED (sizeof paired / sizeof paired[0])

/* Which is started first: who needs the groups out of the way, and last who makes a corpse, which attaching buries. */
static int rank(const struct operation *operation)
{
    return operation->is_first ? 0 : operation->is_corpse ? 2 : 1;
}

struct pair {
    const struct operation *operations[2]; /* [1] is at its point first */
    struct touch_point points[2];
    enum fate fate;    /* of [1] */
    bool is_continued; /* [1], stopped, is not killed in the end */
};

static bool try_pair(const struct pair *pair, bool *out_came)
{
    bool came[2];
    renew(RENEW_EVERY);
    struct actor *actors = scene.shared->actors;
    int first = rank(pair->operations[1]) < rank(pair->operations[0]) ? 1 : 0;
    scene_hold(&scene);
    for (int i = 0; i < 2; i++) {
        int k = i == 0 ? first : 1 - first;
        actors[k].producer = k == 0 ? ACTOR : PARTNER;
        actors[k].patience_ns = 10 * CLOCK_NS_PER_MS;
        actors[k].finds_corpse = i == 1 && pair->operations[first]->is_corpse;
        scene_start(&scene, &actors[k], pair->operations[k], k == 0 ? KILLED : pair->fate, pair->points[k]);
    }
    bool is_good = scene_let(&scene, &actors[1], &came[1]) && scene_let(&scene, &actors[0], &came[0]);
    *out_came = is_good && came[0] && came[1];
    if (!is_good || !pair->is_continued)
        scene_kill(&actors[1]);
    return is_good && scene_continue(&actors[1]) && scene_settle(&scene, scene.n_trials % DEEP_EVERY == 0);
}

Test(points, pairs_killed_and_stopped_at_any_lose_nothing_and_hold_nobody, .timeout = 3600)
{ /* [guards WHOLE] [guards ONE-WRITER] [guards PROGRESS] [guards ORDER] [guards ONE-HOLDER] */
    static struct touch_points points[N_PAIRED];
    const char *name = "points/pairs_killed_and_stopped_at_any_lose_nothing_and_hold_nobody";
    uint64_t seed = trial_seed(name);
    uint64_t n = trial_is_soak() ? 10000 : trial_count(1500, 100);
    uint64_t n_both = 0;
    uint64_t slowest_ns = 0;
    for (size_t i = 0; i < N_PAIRED; i++) {
        note_points(operation_find(paired[i]), &points[i]);
        fprintf(stderr, "%s: %u points\n", paired[i], points[i].n);
    }
    uint64_t k = trial_only_step() != 0 ? trial_only_step() - 1 : 0;
    for (; k < n; k++) {
        uint64_t random = seed + k * UINT64_C(0x1000003);
        size_t which[2];
        struct pair pair;
        bool came;
        for (int i = 0; i < 2; i++) {
            which[i] = trial_random(&random) % N_PAIRED;
            pair.operations[i] = operation_find(paired[which[i]]);
            pair.points[i] = points[which[i]].at[trial_random(&random) % points[which[i]].n];
        }
        pair.fate = trial_random(&random) % 2 == 0 ? KILLED : STOPPED;
        pair.is_continued = trial_random(&random) % 2 == 0;
        bool is_good = try_pair(&pair, &came);
        if (!is_good) {
            scene_print(&scene);
            fprintf(stderr, "again: EVBUS_SEED=%lu EVBUS_STEP=%lu %s -j1 --filter '%s'\n", (unsigned long)seed,
                    (unsigned long)k + 1, trial_program(), name);
        }
        cr_assert(is_good, "pair %lu: %s killed at {%u, %u} while %s is %s at {%u, %u}", (unsigned long)k + 1,
                  paired[which[0]], pair.points[0].stores, pair.points[0].calls, paired[which[1]],
                  pair.fate == STOPPED ? "stopped" : "dead", pair.points[1].stores, pair.points[1].calls);
        n_both += came;
        slowest_ns = scene.slowest_ns > slowest_ns ? scene.slowest_ns : slowest_ns;
        if (trial_only_step() != 0)
            break;
    }
    cr_assert(scene_settle(&scene, true) && scene_print(&scene));
    if (trial_only_step() == 0)
        cr_assert_gt(n_both, n / 10, "of %lu pairs only %lu met", (unsigned long)n, (unsigned long)n_both);
    fprintf(stderr, "%lu pairs, in %lu both came to their points; all went on after %.1f ms at most\n",
            (unsigned long)n, (unsigned long)n_both, (double)slowest_ns / 1e6);
    scene_end(&scene);
}
