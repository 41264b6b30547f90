/* evbus_init and evbus_remove that are killed half way. */
#include "await.h"
#include "child.h"
#include "step.h"
#include "trial.h"

#include <evbus/admin.h>

#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static char bus_name[64];

static const char catalogue[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                                "\"defaults\":{\"partitions\":2,\"ring\":\"4KiB\"},"
                                "\"topics\":{\"test.a.one\":{},\"test.b.one\":{}}}";

static void name_bus(const char *test)
{
    snprintf(bus_name, sizeof bus_name, "test-%s-%d", test, (int)getpid());
    evbus_remove(bus_name);
}

static int init(void)
{
    return evbus_init(&(struct evbus_init_options){
        .size = sizeof(struct evbus_init_options), .bus = bus_name, .catalogue = catalogue});
}

static int do_init(void)
{
    return init();
}

static int do_remove(void)
{
    return evbus_remove(bus_name);
}

static unsigned n_objects(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/dev/shm");
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        n += strstr(entry->d_name, bus_name) != NULL;
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* --- killed at the k-th system call: before it is made, and after --------------------------------------------------------- */

static int traced(void *context)
{
    int (*body)(void) = *(int (**)(void))context;
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    kill(getpid(), SIGSTOP);
    return body() == EVBUS_OK ? 0 : 90;
}

static bool kill_at_call(int (*body)(void), unsigned k)
{
    return child_kill_at_call(traced, &body, k);
}

/* --- killed at the n-th instruction ---------------------------------------------------------------------------------- */

struct stepped {
    int (*body)(void);
    uint64_t n;
    _Atomic uint64_t n_steps;
};

static int step_through(void *context)
{
    struct stepped *stepped = context;
    step_begin(stepped->n != 0 ? step_kill : step_count, &stepped->n);
    int rc = stepped->body();
    stepped->n_steps = step_end();
    return rc == EVBUS_OK ? 0 : 90;
}

static bool kill_at_step(struct stepped *stepped)
{
    struct child child = child_start(step_through, stepped);
    int status = child_join(&child);
    cr_assert(status == 0 || status == 128 + SIGKILL, "step %lu: it ended with %d", (unsigned long)stepped->n, status);
    return status != 0;
}

/* --- what must be then ------------------------------------------------------------------------------------------------- */

static int open_and_publish(void)
{
    struct evbus *bus;
    int rc = evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                      .bus = bus_name,
                                                      .service = "tester",
                                                      .keeper = EVBUS_KEEPER_NEVER});
    if (rc != EVBUS_OK)
        return rc;
    static const char *const topics[] = {"test.a.one", "test.b.one"};
    for (int i = 0; i < 8 && rc == EVBUS_OK; i++)
        rc = evbus_publish(
            bus, &(struct evbus_event){.size = sizeof(struct evbus_event), .topic = topics[i % 2], .payload = "1"},
            NULL);
    evbus_close(bus);
    return rc;
}

static const char *check_half_made(void)
{
    static char text[300];
    int rc = open_and_publish();
    if (rc == EVBUS_OK) { /* it was ready already */
        rc = init();
        snprintf(text, sizeof text, "init of a bus that is ready: %d %s", rc, evbus_message(NULL));
        return rc == EVBUS_EDUPLICATE && evbus_remove(bus_name) == EVBUS_OK && n_objects() == 0 ? NULL : text;
    }
    if (rc != EVBUS_ENOBUS) {
        snprintf(text, sizeof text, "open of a half-made bus: %d %s", rc, evbus_message(NULL));
        return text;
    }
    if ((rc = init()) != EVBUS_OK || (rc = open_and_publish()) != EVBUS_OK) {
        snprintf(text, sizeof text, "the next init: %d %s", rc, evbus_message(NULL));
        return text;
    }
    if ((rc = evbus_remove(bus_name)) != EVBUS_OK || n_objects() != 0) {
        snprintf(text, sizeof text, "remove: %d %s; %u objects are left", rc, evbus_message(NULL), n_objects());
        return text;
    }
    return NULL;
}

static const char *check_half_removed(void)
{
    static char text[300];
    int rc = open_and_publish();
    if (rc != EVBUS_OK && rc != EVBUS_ESTALE && rc != EVBUS_ENOBUS) {
        snprintf(text, sizeof text, "open of a half-removed bus: %d %s", rc, evbus_message(NULL));
        return text;
    }
    rc = evbus_remove(bus_name);
    if ((rc != EVBUS_OK && rc != EVBUS_ENOBUS) || n_objects() != 0) {
        snprintf(text, sizeof text, "the next remove: %d %s; %u objects are left", rc, evbus_message(NULL),
                 n_objects());
        return text;
    }
    if ((rc = open_and_publish()) != EVBUS_ENOBUS || (rc = init()) != EVBUS_OK ||
        (rc = open_and_publish()) != EVBUS_OK || (rc = evbus_remove(bus_name)) != EVBUS_OK) {
        snprintf(text, sizeof text, "anew: %d %s", rc, evbus_message(NULL));
        return text;
    }
    return NULL;
}

/* --- the tests ------------------------------------------------------------------------------------------------------- */

Test(init, killed_at_any_system_call_is_cleared_away_by_the_next, .timeout = 120)
{ /* R15 R16 */
    name_bus("init-call");
    unsigned only = (unsigned)trial_only_step();
    unsigned n_bad = 0;
    unsigned k = only != 0 ? only : 1;
    for (; (only == 0 || k == only) && kill_at_call(do_init, k); k++) {
        const char *wrong = check_half_made();
        if (wrong == NULL)
            continue;
        fprintf(stderr, "killed at stop %u: %s; again: EVBUS_STEP=%u crash-init -j1 --filter 'init/*system_call*'\n", k,
                wrong, k);
        n_bad++;
        evbus_remove(bus_name);
    }
    cr_assert_eq(n_bad, 0, "%u points", n_bad);
    evbus_remove(bus_name);
    fprintf(stderr, "init killed before and after each system call: %u points\n", k - 1);
}

Test(init, killed_between_system_calls_is_cleared_away_by_the_next, .timeout = 120)
{ /* R15 R16 */
    if (!STEP_WORKS || trial_is_slow())
        cr_skip("x86-64 only, and not with a sanitizer: a million steps");
    name_bus("init-step");
    struct stepped *stepped = child_shared(sizeof *stepped);
    stepped->body = do_init;
    kill_at_step(stepped);
    cr_assert_eq(evbus_remove(bus_name), EVBUS_OK);
    uint64_t n_steps = stepped->n_steps;
    uint64_t stride = n_steps / trial_count(40, 6) + 1;
    uint64_t n_points = 0;
    uint64_t until = await_now_ms() + trial_ms(15000, 1500);
    for (stepped->n = trial_only_step() != 0 ? trial_only_step() : stride;
         await_now_ms() < until && kill_at_step(stepped); stepped->n += stride) {
        const char *wrong = check_half_made();
        cr_assert_null(wrong, "step %lu: %s; again: EVBUS_STEP=%lu crash-init -j1 --filter 'init/*between*'",
                       (unsigned long)stepped->n, wrong, (unsigned long)stepped->n);
        n_points++;
    }
    evbus_remove(bus_name);
    fprintf(stderr, "init killed: %lu points of %lu steps\n", (unsigned long)n_points, (unsigned long)n_steps);
}

Test(init, a_remove_that_is_killed_is_completed_by_the_next, .timeout = 120)
{ /* R16 */
    name_bus("remove");
    cr_assert_eq(init(), EVBUS_OK, "%s", evbus_message(NULL));
    unsigned k = trial_only_step() != 0 ? (unsigned)trial_only_step() : 1;
    for (; kill_at_call(do_remove, k); k++) {
        const char *wrong = check_half_removed();
        cr_assert_null(wrong, "killed at stop %u: %s; again: EVBUS_STEP=%u crash-init -j1 --filter 'init/a_remove*'", k,
                       wrong, k);
        cr_assert_eq(init(), EVBUS_OK, "%s", evbus_message(NULL));
    }
    fprintf(stderr, "remove killed before and after each system call: %u points\n", k - 1);
}

Test(init, of_a_half_removed_bus_says_so_or_works, .timeout = 120)
{ /* R16 */
    name_bus("init-removed");
    for (unsigned k = 1;; k++) {
        cr_assert_eq(init(), EVBUS_OK, "%s", evbus_message(NULL));
        bool was_killed = kill_at_call(do_remove, k);
        int rc = init();
        cr_assert(rc == EVBUS_OK || rc == EVBUS_EDUPLICATE, "killed at stop %u: init: %d %s", k, rc,
                  evbus_message(NULL));
        if (rc == EVBUS_OK)
            cr_assert_eq(open_and_publish(), EVBUS_OK, "%s", evbus_message(NULL));
        cr_assert_eq(evbus_remove(bus_name), EVBUS_OK, "%s", evbus_message(NULL));
        if (!was_killed)
            break;
    }
}
