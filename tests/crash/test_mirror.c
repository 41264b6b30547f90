/* A mirror's leader is stopped, or killed, at each of its instructions while it brings an event in; another one takes over. */
#include "await.h"
#include "child.h"
#include "fixture.h"
#include "step.h"
#include "trial.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <evbus/mirror.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct notes {
    _Atomic uint64_t n_steps;
    _Atomic int rc;
    _Atomic uint64_t n_brought;
};

struct trial {
    struct fixture f;
    struct notes *notes;
    struct evbus_mirror *mirror; /* the test's own, which takes over */
    uint64_t n;                  /* the step; 0: none */
    uint64_t position;           /* of the event, at its origin */
    bool is_killed;
};

static struct evbus_mirror *open_mirror(struct evbus *bus)
{
    struct evbus_mirror *mirror = NULL;
    evbus_mirror_open(&mirror, bus,
                      &(struct evbus_mirror_options){.size = sizeof(struct evbus_mirror_options),
                                                     .name = "redis",
                                                     .from = EVBUS_FROM_EARLIEST,
                                                     .patience_ns = CLOCK_NS_PER_MS});
    return mirror;
}

static int bring(struct evbus_mirror *mirror, uint64_t position, size_t *out_n)
{
    struct evbus_origin origin = {.bus = {7}, .position = position};
    return evbus_mirror_bring(mirror,
                              &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                    .topic = "test.a.one",
                                                    .payload = "\"from elsewhere\"",
                                                    .origin = &origin},
                              1, out_n);
}

static int pass_over(void *context, const struct evbus_delivery *event)
{
    (void)context;
    (void)event;
    return 0;
}

static int read_part(void *context, const struct evbus_mirror_part *part)
{
    return evbus_mirror_brought(context, part->log, part->partition, part->held, pass_over, NULL);
}

static int lead_and_bring(void *context)
{
    struct trial *trial = context;
    struct evbus *bus = fixture_open(&trial->f, "first", EVBUS_KEEPER_NEVER);
    struct evbus_mirror *mirror = open_mirror(bus);
    size_t n = 0;
    if (mirror == NULL || !await_that(evbus_mirror_lead(mirror, NULL) == EVBUS_OK) ||
        evbus_mirror_parts(mirror, read_part, mirror) != EVBUS_OK)
        return 93;
    struct step_ours ours = {.wanted = trial->is_killed ? 0 : trial->n};
    if (trial->is_killed)
        step_begin(step_kill, &trial->n);
    else
        step_begin(step_stop_in_ours, &ours);
    int rc = bring(mirror, trial->position, &n);
    trial->notes->n_steps = trial->is_killed ? step_end() : (step_end(), ours.n);
    trial->notes->rc = rc;
    trial->notes->n_brought = n;
    evbus_mirror_close(mirror);
    evbus_close(bus);
    return 0;
}

struct count {
    uint64_t position;
    unsigned n;
};

static int count_one(void *context, const struct evbus_delivery *event)
{
    struct count *count = context;
    count->n += event->origin->position == count->position;
    return 0;
}

/* All of it is out: it need not be kept. */
static int advance(void *context, const struct evbus_mirror_part *part)
{
    return evbus_mirror_advance(context, part->log, part->partition, part->tail);
}

static unsigned count_brought(struct trial *trial)
{
    struct count count = {.position = trial->position};
    for (uint32_t p = 0; p < 2; p++)
        if (evbus_mirror_brought(trial->mirror, "test.a", p, 0, count_one, &count) != EVBUS_OK ||
            evbus_mirror_brought(trial->mirror, "test.b", p, 0, count_one, &count) != EVBUS_OK)
            return 1000;
    return count.n;
}

/* out_is_whole: it came to its end before the step. */
static bool take_over_at(struct trial *trial, bool *out_is_whole)
{
    int status = 0;
    size_t n;
    trial->position++;
    trial->notes->rc = -1000;
    struct child first = child_start(lead_and_bring, trial);
    if (!await_that(waitpid(first.pid, &status, WNOHANG | WUNTRACED) == first.pid))
        return false;
    *out_is_whole = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        fprintf(stderr, "the first one ended with %d\n", WEXITSTATUS(status));
        return false;
    }
    if (!await_that(evbus_mirror_lead(trial->mirror, NULL) == EVBUS_OK)) {
        fprintf(stderr, "it leads not: %s\n", evbus_message(NULL));
        return false;
    }
    unsigned n_before = count_brought(trial);
    if (n_before == 0 && bring(trial->mirror, trial->position, &n) != EVBUS_OK) {
        fprintf(stderr, "%s\n", evbus_message(NULL));
        return false;
    }
    if (WIFSTOPPED(status)) {
        child_continue(&first);
        status = child_join(&first);
        bool was_in = trial->notes->rc == EVBUS_OK && trial->notes->n_brought == 1;
        if (status != 0 || (!was_in && trial->notes->rc != EVBUS_EFENCED) || (was_in && n_before != 1)) {
            fprintf(stderr,
                    "the first one woke, and ended with %d; it was told %d, %lu were brought in, %u were seen\n",
                    status, trial->notes->rc, (unsigned long)trial->notes->n_brought, n_before);
            return false;
        }
    }
    unsigned n_after = count_brought(trial);
    if (n_after != 1)
        fprintf(stderr, "it is there %u times, %u when the second took over\n", n_after, n_before);
    if (evbus_mirror_parts(trial->mirror, advance, trial->mirror) != EVBUS_OK)
        return false;
    evbus_mirror_close(trial->mirror); /* the next first one leads */
    trial->mirror = open_mirror(trial->f.bus);
    return n_after == 1 && trial->mirror != NULL;
}

static void at_any_instruction(bool is_killed, const char *what)
{
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    struct trial trial = {.f = fixture_make((struct fixture_options){.partitions = 2}),
                          .notes = child_shared(sizeof(struct notes)),
                          .is_killed = is_killed};
    bool is_whole = false;
    uint64_t n_points = 0;
    trial.mirror = open_mirror(trial.f.bus);
    cr_assert_not_null(trial.mirror, "%s", evbus_message(NULL));
    trial.n = UINT64_MAX;
    cr_assert(take_over_at(&trial, &is_whole) && is_whole, "one that is let through");
    uint64_t n_steps = trial.notes->n_steps;
    cr_assert_gt(n_steps, 100u);
    is_whole = false;
    uint64_t stride = trial_is_full() ? 1 + n_steps / 400 : 1 + n_steps / 60;
    for (trial.n = trial_only_step() != 0 ? trial_only_step() : 1; !is_whole && trial.n <= 2 * n_steps;
         trial.n += stride) {
        bool good = take_over_at(&trial, &is_whole);
        if (!good)
            fprintf(stderr, "again: EVBUS_STEP=%lu crash-mirror -j1 --filter 'mirror/*%s*'\n", (unsigned long)trial.n,
                    what);
        cr_assert(good, "%s at step %lu", what, (unsigned long)trial.n);
        n_points++;
        if (trial_only_step() != 0)
            break;
    }
    fprintf(stderr, "%s: %lu points of %lu\n", what, (unsigned long)n_points, (unsigned long)n_steps);
    evbus_mirror_close(trial.mirror);
    fixture_end(&trial.f);
}

Test(mirror, what_a_leader_that_is_stopped_at_any_instruction_brings_in_is_there_once, .timeout = 300)
{ /* [guards FENCE] */
    at_any_instruction(false, "stopped_at");
}

Test(mirror, what_a_leader_that_is_killed_at_any_instruction_brings_in_is_there_once, .timeout = 300)
{ /* [guards FENCE] */
    at_any_instruction(true, "killed_at");
}
