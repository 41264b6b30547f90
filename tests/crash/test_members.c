/* Members that are stopped at each instruction, and members that are slow, with or without a handler's timeout. */
#include "await.h"
#include "child.h"
#include "crew.h"
#include "step.h"
#include "trial.h"

#include "clock.h"
#include "layout.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GROUP "crew"

/* --- what a member does ------------------------------------------------------------------------------ */

#define EVENTS_MAX 3
#define STEPS_MAX  1000000 /* of one call: EVBUS_STEP is call * STEPS_MAX + step */
#define RETRIES    "\"retry\":[\"1ms\",\"1ms\",\"1ms\",\"1ms\",\"1ms\"]"

/* What a member does with a point's events, which are made of keys a and b: 1 is a's first, 2 a's second, 3 b's. */
enum script { HAS_FOLLOWERS, REJECTS, TAKES_WHAT_COMES };

static const char *const script_keys[] = {[HAS_FOLLOWERS] = "aab", [REJECTS] = "aa", [TAKES_WHAT_COMES] = "aab"};

/* Of one point, outside the bus; by event. */
struct deeds {
    _Atomic unsigned started[EVENTS_MAX + 1];   /* handlers of the victim and its predecessor */
    _Atomic unsigned released[EVENTS_MAX + 1];  /* of those: finished by EVBUS_RELEASE */
    _Atomic unsigned finishing[EVENTS_MAX + 1]; /* outcome + 1 of a finish that has not returned; 0: there is none */
    _Atomic unsigned finished[EVENTS_MAX + 1];  /* outcome + 1 of the last that returned EVBUS_OK */
    _Atomic unsigned fenced[EVENTS_MAX + 1];    /* finishes that returned EVBUS_EFENCED */
    _Atomic int receives;                       /* it is inside evbus_receive() */
    _Atomic int bad;
    _Atomic unsigned n_calls; /* of evbus_receive() and evbus_finish() */
    _Atomic uint64_t n_steps; /* of the one that was stepped */
};

struct victim {
    struct fixture f;
    struct deeds *deeds;
    enum script script;
    unsigned call;  /* which of its calls is stepped, from 1 on */
    uint64_t n;     /* the step of our own text where it is stopped; 0: it is let through */
    uint64_t point; /* counts, so that events of other points are told apart */
    uint64_t positions[EVENTS_MAX + 1];
    struct evbus_reader *letters;
    char keys[2][16]; /* a and b */
};

static unsigned n_events(const struct victim *victim)
{
    return (unsigned)strlen(script_keys[victim->script]);
}

static bool publish_events(struct victim *victim)
{
    memset(victim->deeds, 0, sizeof *victim->deeds);
    victim->point++;
    for (unsigned e = 1; e <= n_events(victim); e++) {
        const char *key = victim->keys[script_keys[victim->script][e - 1] - 'a'];
        char payload[48];
        struct evbus_receipt receipt = {.size = sizeof receipt};
        snprintf(payload, sizeof payload, "\"%u of %" PRIu64 "\"", e, victim->point);
        int rc = evbus_publish(victim->f.bus,
                               &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                     .topic = "test.a.one",
                                                     .key = key,
                                                     .payload = payload,
                                                     .timeout_ns = CLOCK_NS_PER_S},
                               &receipt);
        if (rc != EVBUS_OK) {
            fprintf(stderr, "publish: %d %s\n", rc, evbus_message(victim->f.bus));
            return false;
        }
        victim->positions[e] = receipt.position;
    }
    return true;
}

/* 0: of another point. */
static unsigned event_number(const struct victim *victim, const struct evbus_delivery *event)
{
    char *end;
    unsigned e = (unsigned)strtoul((const char *)event->payload + 1, &end, 10);
    return strtoull(end + 4, NULL, 10) == victim->point && e <= EVENTS_MAX ? e : 0;
}

/* How many attempts may the next handler see? */
static bool attempt_is_right(const struct deeds *deeds, unsigned e, unsigned attempt)
{
    unsigned most = 1 + deeds->started[e] - deeds->released[e];
    unsigned least = most - (deeds->finishing[e] == EVBUS_RELEASE + 1);
    return attempt >= least && attempt <= most + (deeds->receives != 0);
}

static struct step_ours ours; /* in the victim */

static void begin_call(struct victim *victim)
{
    if (++victim->deeds->n_calls != victim->call)
        return;
    ours = (struct step_ours){.wanted = victim->n};
    step_begin(step_stop_in_ours, &ours);
}

static void end_call(struct victim *victim)
{
    if (victim->deeds->n_calls != victim->call)
        return;
    step_end();
    victim->deeds->n_steps = ours.n;
}

static int take_one(struct victim *victim, struct evbus_subscription *sub, struct evbus_delivery *event,
                    uint64_t timeout_ns)
{
    struct deeds *deeds = victim->deeds;
    event->size = sizeof *event;
    begin_call(victim);
    deeds->receives = 1;
    int rc = evbus_receive(sub, event, timeout_ns);
    unsigned e = rc == EVBUS_OK ? event_number(victim, event) : 0;
    if (rc == EVBUS_OK && (e == 0 || event->attempt != 1 + deeds->started[e] - deeds->released[e])) {
        fprintf(stderr, "the victim got %s, attempt %u\n", (const char *)event->payload, event->attempt);
        deeds->bad = 1;
    }
    if (rc == EVBUS_OK)
        deeds->started[e]++;
    else if (rc != EVBUS_ETIMEOUT)
        fprintf(stderr, "the victim's receive: %d %s\n", rc, evbus_message(NULL));
    deeds->receives = 0;
    end_call(victim);
    return rc;
}

static bool finish_one(struct victim *victim, struct evbus_subscription *sub, const struct evbus_delivery *event,
                       enum evbus_outcome outcome)
{
    struct deeds *deeds = victim->deeds;
    unsigned e = event_number(victim, event);
    begin_call(victim);
    deeds->finishing[e] = (unsigned)outcome + 1;
    int rc = evbus_finish(sub, event, outcome, outcome == EVBUS_DONE ? NULL : "so it is");
    if (rc == EVBUS_EFENCED)
        deeds->fenced[e]++;
    else if (rc != EVBUS_OK)
        fprintf(stderr, "the victim's finish: %d %s\n", rc, evbus_message(NULL));
    if (rc == EVBUS_OK && outcome == EVBUS_RELEASE)
        deeds->released[e]++;
    if (rc == EVBUS_OK)
        deeds->finished[e] = (unsigned)outcome + 1;
    deeds->finishing[e] = 0;
    end_call(victim);
    return rc == EVBUS_OK || rc == EVBUS_EFENCED;
}

static bool do_one(struct victim *victim, struct evbus_subscription *sub, enum evbus_outcome outcome)
{
    struct evbus_delivery event;
    return take_one(victim, sub, &event, 5 * CLOCK_NS_PER_S) == EVBUS_OK && finish_one(victim, sub, &event, outcome);
}

static bool act(struct victim *victim, struct evbus_subscription *sub)
{
    struct evbus_delivery a;
    struct evbus_delivery b;
    switch (victim->script) {
    case HAS_FOLLOWERS:
        return take_one(victim, sub, &a, 5 * CLOCK_NS_PER_S) == EVBUS_OK &&
               take_one(victim, sub, &b, 5 * CLOCK_NS_PER_S) == EVBUS_OK && finish_one(victim, sub, &a, EVBUS_DONE) &&
               do_one(victim, sub, EVBUS_DONE) && finish_one(victim, sub, &b, EVBUS_DONE);
    case REJECTS:
        return do_one(victim, sub, EVBUS_REJECT) && do_one(victim, sub, EVBUS_DONE);
    case TAKES_WHAT_COMES:
        while (take_one(victim, sub, &a, 30 * CLOCK_NS_PER_MS) == EVBUS_OK)
            if (!finish_one(victim, sub, &a, EVBUS_DONE))
                return false;
    }
    return true;
}

static int do_act(void *context)
{
    struct victim *victim = context;
    struct evbus *bus = fixture_open(&victim->f, "victim", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = crew_join(bus, GROUP, NULL, NULL);
    if (sub == NULL)
        return 98;
    victim->deeds->n_calls = 0;
    bool is_good = act(victim, sub);
    return is_good && victim->deeds->bad == 0 ? 0 : 97;
}

/* --- what must be then */

static bool is_over(const struct deeds *deeds, unsigned e)
{
    return deeds->finished[e] == EVBUS_DONE + 1 || deeds->finished[e] == EVBUS_REJECT + 1;
}

static bool may_be_over(const struct deeds *deeds, unsigned e)
{
    return is_over(deeds, e) || deeds->finishing[e] == EVBUS_DONE + 1 || deeds->finishing[e] == EVBUS_REJECT + 1;
}

/* Another member handles what is left. out_handled: how often it got each event. */
static bool handle_the_rest(struct victim *victim, unsigned out_handled[EVENTS_MAX + 1])
{
    struct deeds *deeds = victim->deeds;
    uint64_t quiet_since = await_now_ms();
    struct evbus_subscription *sub = crew_join(victim->f.bus, GROUP, NULL, NULL);
    if (sub == NULL)
        return false;
    for (bool is_good = true; is_good;) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, CLOCK_NS_PER_MS);
        if (rc == EVBUS_ETIMEOUT) {
            struct evbus_group_stat stat = crew_stat(victim->f.bus, GROUP);
            bool is_missing = false;
            for (unsigned e = 1; e <= n_events(victim); e++)
                is_missing = is_missing || (out_handled[e] == 0 && !may_be_over(deeds, e));
            if (!is_missing && stat.n_pending == 0 && stat.lag == 0)
                break;
            is_good = await_now_ms() - quiet_since < AWAIT_MS;
            if (!is_good)
                fprintf(stderr, "not all comes: lag %lu, %u pending, %u running, %u waiting, %u dead, %u members\n",
                        (unsigned long)stat.lag, stat.n_pending, stat.n_running, stat.n_waiting, stat.n_dead,
                        stat.n_members);
            continue;
        }
        unsigned e = rc == EVBUS_OK ? event_number(victim, &event) : 0;
        const char *what = e == 0                                                    ? "of another point"
                           : out_handled[e] > 0                                      ? "a second time"
                           : is_over(deeds, e)                                       ? "that was finished"
                           : !attempt_is_right(deeds, e, event.attempt)              ? "with a wrong attempt"
                           : e == 2 && out_handled[1] == 0 && !may_be_over(deeds, 1) ? "before the first of its key"
                                                                                     : NULL;
        if (what != NULL)
            fprintf(stderr, "receive: %d: event %u %s: %s, attempt %u, %u handlers had begun\n", rc, e, what,
                    rc == EVBUS_OK ? (const char *)event.payload : evbus_message(victim->f.bus), event.attempt,
                    deeds->started[e]);
        out_handled[e]++;
        is_good = what == NULL && evbus_finish(sub, &event, EVBUS_DONE, NULL) == EVBUS_OK;
        quiet_since = await_now_ms();
        if (!is_good)
            break;
    }
    struct evbus_group_stat stat = crew_stat(victim->f.bus, GROUP);
    evbus_unsubscribe(sub);
    if (stat.n_pending != 0 || stat.lag != 0)
        return false;
    if (crew_pins(victim->f.bus, GROUP) != NULL)
        fprintf(stderr, "something is pinned: %s\n", crew_pins(victim->f.bus, GROUP));
    return crew_pins(victim->f.bus, GROUP) == NULL;
}

/* The dead letters that came: of the first event, if it is not handled by somebody else; all with one id. */
static bool letters_are_right(struct victim *victim, const unsigned handled[EVENTS_MAX + 1], uint64_t *inout_twice)
{
    const struct deeds *deeds = victim->deeds;
    unsigned n = 0;
    uint8_t id[16] = {0};
    char position[40];
    snprintf(position, sizeof position, "\"position\":\"%" PRIu64 "\"", victim->positions[1]);
    for (;;) {
        struct evbus_delivery letter = {.size = sizeof letter};
        if (evbus_reader_next(victim->letters, &letter, 0) != EVBUS_OK)
            break;
        bool is_same = n == 0 || memcmp(id, letter.id, sizeof id) == 0;
        memcpy(id, letter.id, sizeof id);
        n++;
        if (is_same && strstr(letter.payload, position) != NULL &&
            strstr(letter.payload, "\"cause\":\"rejected\"") != NULL)
            continue;
        fprintf(stderr, "dead letter %u: %s\n", n, (const char *)letter.payload);
        return false;
    }
    *inout_twice += n > 1;
    bool is_dead = deeds->finished[1] == EVBUS_REJECT + 1 || deeds->finishing[1] == EVBUS_REJECT + 1;
    bool is_right = is_dead && handled[1] == 0 ? n > 0 : n == 0;
    if (!is_right)
        fprintf(stderr, "%u dead letters; the event was rejected: %d, handled after that: %u\n", n, is_dead,
                handled[1]);
    return is_right;
}

/* --- stopped -------------------------------------------------------------------------------------------------------------- */

/* Runs the victim to its stop. true: it stopped; false: it has ended, well. */
static bool run_to_stop(struct victim *victim, struct child *out_child)
{
    int status = 0;
    *out_child = child_start(do_act, victim);
    cr_assert(await_that(waitpid(out_child->pid, &status, WNOHANG | WUNTRACED) == out_child->pid),
              "the victim neither stopped nor ended");
    cr_assert(WIFSTOPPED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0), "the victim ended with %#x",
              (unsigned)status);
    return WIFSTOPPED(status);
}

/* The other group gets an event. Returns after how long. */
static uint64_t other_group_goes_on(struct victim *victim, struct evbus_subscription *other)
{
    struct evbus_delivery event = {.size = sizeof event};
    uint64_t start = clock_mono_ns();
    int rc = evbus_publish(
        victim->f.bus,
        &(struct evbus_event){
            .size = sizeof(struct evbus_event), .topic = "test.a.two", .payload = "2", .timeout_ns = CLOCK_NS_PER_S},
        NULL);
    cr_assert_eq(rc, EVBUS_OK, "a producer: %d %s", rc, evbus_message(victim->f.bus));
    rc = evbus_receive(other, &event, AWAIT_MS * CLOCK_NS_PER_MS);
    cr_assert_eq(rc, EVBUS_OK, "the other group: %d %s", rc, evbus_message(victim->f.bus));
    uint64_t ns = clock_mono_ns() - start;
    cr_assert_eq(evbus_finish(other, &event, EVBUS_DONE, NULL), EVBUS_OK);
    return ns;
}

static void say_stop(const struct victim *victim, const char *name)
{
    unsigned long again = (unsigned long)(victim->call * STEPS_MAX + victim->n);
    fprintf(stderr, "stopped at step %lu; again: EVBUS_STEP=%lu crash-members -j1 --filter 'members/%s'\n", again,
            again, name);
}

/* How many calls the script makes, and steps of our own text each. */
static unsigned count_calls(struct victim *victim, uint64_t *out_steps, unsigned max)
{
    unsigned n_calls = max;
    victim->n = 0;
    for (victim->call = 1; victim->call <= n_calls; victim->call++) {
        struct child child;
        cr_assert(publish_events(victim));
        cr_assert(!run_to_stop(victim, &child));
        n_calls = victim->deeds->n_calls < max ? victim->deeds->n_calls : max;
        out_steps[victim->call] = victim->deeds->n_steps;
    }
    return n_calls;
}

Test(members, a_member_stopped_at_any_instruction_costs_other_groups_and_producers_nothing, .timeout = 240)
{ /* [guards PROGRESS] */
    static uint64_t times[10000];
    static const enum script acts[] = {HAS_FOLLOWERS, REJECTS};
    uint64_t n = 0;
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    for (int i = 0; i < 2; i++) {
        uint64_t steps[32];
        struct child child;
        struct victim victim = {
            .f = crew_bus((struct crew_options){.others = "\"other\"", .ring = "1MiB", .settings = RETRIES}),
            .deeds = child_shared(sizeof(struct deeds)),
            .script = acts[i],
            .keys = {"a", "b"},
        };
        struct evbus_subscription *other = crew_join(victim.f.bus, "other", NULL, NULL);
        cr_assert_not_null(other);
        unsigned n_calls = count_calls(&victim, steps, trial_is_slow() ? 4 : 31);
        victim.letters = crew_letters(victim.f.bus, GROUP);
        for (victim.call = 1; victim.call <= n_calls; victim.call++) {
            uint64_t deadline = await_now_ms() + trial_ms(3000, 200) / n_calls;
            uint64_t stride = steps[victim.call] / trial_count(60, 8) + 1;
            for (victim.n = 1; victim.n < steps[victim.call] && await_now_ms() < deadline; victim.n += stride) {
                unsigned handled[EVENTS_MAX + 1] = {0};
                uint64_t twice = 0;
                cr_assert(publish_events(&victim));
                bool is_stopped = run_to_stop(&victim, &child);
                times[n++] = other_group_goes_on(&victim, other);
                if (is_stopped) {
                    child_continue(&child);
                    cr_assert_eq(child_join(&child), 0, "call %u, step %lu: the victim failed", victim.call,
                                 (unsigned long)victim.n);
                }
                cr_assert(handle_the_rest(&victim, handled) && letters_are_right(&victim, handled, &twice),
                          "call %u, step %lu", victim.call, (unsigned long)victim.n);
                cr_assert_eq(handled[1] + handled[2] + handled[3], 0, "it had handled them all");
                cr_assert_lt(times[n - 1], 2 * CLOCK_NS_PER_S);
            }
        }
        evbus_unsubscribe(other);
        evbus_reader_close(victim.letters);
        fixture_end(&victim.f);
    }
    uint64_t p50 = trial_quantile(times, n, 500);
    uint64_t p99 = trial_quantile(times, n, 990);
    fprintf(stderr, "stopped: %lu points; another group had its next event after p50 %.3f p99 %.3f max %.3f ms\n",
            (unsigned long)n, (double)p50 / 1e6, (double)p99 / 1e6, (double)times[n - 1] / 1e6);
}

Test(members, a_member_stopped_beyond_the_handler_timeout_is_fenced_and_another_goes_on, .timeout = 240)
{ /* [guards ONE-HOLDER] P3 P8 */
    static const char name[] = "a_member_stopped_beyond_the_handler_timeout_is_fenced_and_another_goes_on";
    uint64_t steps[32];
    struct child child;
    unsigned n_fenced = 0;
    unsigned n_stopped = 0;
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct victim victim = {
        .f = crew_bus((struct crew_options){
            .partitions = 1, .ring = "64KiB", .settings = RETRIES ",\"handler_timeout\":\"20ms\""}),
        .deeds = child_shared(sizeof(struct deeds)),
        .script = TAKES_WHAT_COMES,
        .keys = {"a", "b"},
    };
    uint64_t random = trial_seed("members/a_member_stopped_beyond_the_handler_timeout_is_fenced_and_another_goes_on");
    unsigned n_calls = count_calls(&victim, steps, 5);
    for (uint64_t i = 0; i < trial_count(9, 1); i++) {
        unsigned handled[EVENTS_MAX + 1] = {0};
        victim.call = i == 0 ? 2 : 1 + (unsigned)(trial_random(&random) % n_calls);
        victim.n = i == 0 ? 1 : 1 + trial_random(&random) % steps[victim.call];
        if (trial_only_step() != 0) {
            victim.call = (unsigned)(trial_only_step() / STEPS_MAX);
            victim.n = trial_only_step() % STEPS_MAX;
        }
        cr_assert(publish_events(&victim));
        if (!run_to_stop(&victim, &child))
            continue;
        n_stopped++;
        bool is_good = handle_the_rest(&victim, handled);
        child_continue(&child);
        int status = child_join(&child);
        if (!is_good || status != 0)
            say_stop(&victim, name);
        cr_assert(is_good && status == 0, "the victim ended with %d", status);
        for (unsigned e = 1; e <= n_events(&victim); e++) {
            n_fenced += victim.deeds->fenced[e];
            if (handled[e] + is_over(victim.deeds, e) != 1)
                say_stop(&victim, name);
            cr_assert_eq(handled[e] + is_over(victim.deeds, e), 1,
                         "event %u: finished by the victim: %d, handled by another: %u", e, is_over(victim.deeds, e),
                         handled[e]);
        }
        if (i == 0)
            cr_assert_eq(n_fenced, 1, "a late finish must be told that it is");
    }
    fprintf(stderr, "stopped beyond the handler timeout: %u points, %u late finishes were fenced\n", n_stopped,
            n_fenced);
    fixture_end(&victim.f);
}

Test(members, a_member_that_counted_before_another_came_takes_nothing_from_it, .timeout = 240)
{ /* [guards ONE-HOLDER] */
    static const char name[] = "a_member_that_counted_before_another_came_takes_nothing_from_it";
    uint64_t steps[2];
    struct child child;
    unsigned n_points = 0;
    unsigned n_in_hand = 0;
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct victim victim = {
        .f = crew_bus((struct crew_options){.partitions = 2, .ring = "64KiB", .settings = RETRIES}),
        .deeds = child_shared(sizeof(struct deeds)),
        .script = TAKES_WHAT_COMES,
    };
    crew_key(0, victim.keys[0]);
    crew_key(1, victim.keys[1]);
    count_calls(&victim, steps, 1);
    uint64_t stride = steps[1] / trial_count(60, 12) + 1;
    uint64_t deadline = await_now_ms() + trial_ms(5000, 400);
    victim.call = 1;
    for (victim.n = 1; victim.n < steps[1] && await_now_ms() < deadline; victim.n += stride) {
        unsigned handled[EVENTS_MAX + 1] = {0};
        if (trial_only_step() != 0)
            victim.n = trial_only_step() % STEPS_MAX;
        cr_assert(publish_events(&victim));
        if (!run_to_stop(&victim, &child))
            break;
        n_points++;
        struct evbus_subscription *sub = crew_join(victim.f.bus, GROUP, NULL, NULL);
        struct evbus_delivery event = {.size = sizeof event};
        bool has_one = evbus_receive(sub, &event, 2 * CLOCK_NS_PER_MS) == EVBUS_OK;
        unsigned e = has_one ? event_number(&victim, &event) : 0;
        child_continue(&child);
        int status = child_join(&child);
        int rc = has_one ? evbus_finish(sub, &event, EVBUS_DONE, NULL) : EVBUS_OK;
        handled[e] = has_one;
        n_in_hand += has_one;
        if (status != 0 || rc != EVBUS_OK || (has_one && victim.deeds->started[e] != 0))
            say_stop(&victim, name);
        cr_assert_eq(status, 0, "the victim ended with %d", status);
        cr_assert(rc == EVBUS_OK && (!has_one || victim.deeds->started[e] == 0),
                  "event %u was in the hands of a living member: its finish returned %d, another handled it %u times",
                  e, rc, victim.deeds->started[e]);
        evbus_unsubscribe(sub);
        if (has_one) /* as the victim's own */
            victim.deeds->finished[e] = EVBUS_DONE + 1;
        memset(handled, 0, sizeof handled);
        cr_assert(handle_the_rest(&victim, handled));
        if (trial_only_step() != 0)
            break;
    }
    fprintf(stderr, "stopped while it counted: %u points, at %u another had an event in hand\n", n_points, n_in_hand);
    fixture_end(&victim.f);
}

/* --- slow, but in time ---------------------------------------------------------------------------------------------------- */

#define SLOW_EVENTS 64 /* as many as a member handles between two looks at the others */

struct slow {
    struct fixture f;
    _Atomic int *n_handled; /* shared */
};

static int handle_slowly(void *context)
{
    struct slow *slow = context;
    struct evbus *bus = fixture_open(&slow->f, "slow", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = crew_join(bus, GROUP, NULL, NULL);
    for (int i = 0; sub != NULL && i < SLOW_EVENTS; i++) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, 5 * CLOCK_NS_PER_S);
        if (rc == EVBUS_OK) {
            for (uint64_t until = clock_mono_ns() + 22 * CLOCK_NS_PER_MS; clock_mono_ns() < until;)
                await_pause();
            rc = evbus_finish(sub, &event, EVBUS_DONE, NULL);
        }
        if (rc != EVBUS_OK) {
            fprintf(stderr, "event %d: %d %s\n", i, rc, evbus_message(bus));
            return 1;
        }
        ++*slow->n_handled;
    }
    evbus_unsubscribe(sub);
    evbus_close(bus);
    return sub == NULL;
}

Test(members, a_member_whose_handlers_are_all_in_time_is_not_taken_for_hung, .timeout = 60)
{ /* [guards ONE-HOLDER] P8 */
    struct slow slow = {
        .f = crew_bus((struct crew_options){
            .partitions = 1, .ring = "64KiB", .settings = RETRIES ",\"handler_timeout\":\"100ms\""}),
        .n_handled = child_shared(sizeof *slow.n_handled),
    };
    for (int i = 0; i < SLOW_EVENTS; i++)
        cr_assert_eq(fixture_publish(slow.f.bus, "a", "1"), EVBUS_OK);
    struct child child = child_start(handle_slowly, &slow);
    cr_assert(await_that(*slow.n_handled > 0));
    struct evbus_subscription *sub = crew_join(slow.f.bus, GROUP, NULL, NULL); /* waits in the second place */
    struct evbus_delivery event = {.size = sizeof event};
    while (*slow.n_handled < SLOW_EVENTS && child_is_running(&child))
        cr_assert_neq(evbus_receive(sub, &event, 5 * CLOCK_NS_PER_MS), EVBUS_OK,
                      "after %d events of 22 ms each a member was taken for hung", *slow.n_handled);
    evbus_unsubscribe(sub);
    cr_assert_eq(*slow.n_handled, SLOW_EVENTS);
    child_join(&child);
    fixture_end(&slow.f);
}
