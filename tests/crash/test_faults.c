/* test_faults.c: whatever the operating system refuses, the call says so, leaves nothing behind, and works when it is asked again.
 *
 * Each operation of the API is done in a child: first with all well, then with one allocation or one system call that fails, for
 * every one that it makes, and every error that is likely there; then again with all well. What the process and the bus hold is
 * counted before and after. A failure prints operation, number and call; EVBUS_STEP=<number> does only that one. */
#include "allocations.h"
#include "await.h"
#include "bus.h"
#include "child.h"
#include "fault.h"
#include "fixture.h"
#include "held.h"
#include "hold.h"
#include "memory.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <urcu/urcu-bp.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MS      UINT64_C(1000000)

static const char catalogue[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                                "\"defaults\":{\"partitions\":2,\"ring\":\"8KiB\",\"retry\":[\"1ms\"]},"
                                "\"topics\":{\"test.a.one\":{\"groups\":[\"team\"]},\"test.b.one\":{}}}";
static const char larger[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                             "\"defaults\":{\"partitions\":2,\"ring\":\"8KiB\",\"retry\":[\"1ms\"]},"
                             "\"topics\":{\"test.a.one\":{\"groups\":[\"team\"]},\"test.b.one\":{},\"test.b.two\":{},"
                             "\"test.c.one\":{\"groups\":[\"crew\"]}}}";

/* --- operations ------------------------------------------------------------------------------------------------------------- */

/* What an operation works on. */
struct desk {
    char bus[72];
    struct evbus *handle;
    struct evbus_reader *reader;
    struct evbus_subscription *sub;
    struct evbus_delivery event;
    unsigned n_handled; /* by evbus_run() */
};

static int init(struct desk *desk)
{
    return evbus_init(&(struct evbus_init_options){.bus = desk->bus, .catalogue = catalogue});
}

static int remove_bus(struct desk *desk)
{
    return evbus_remove(desk->bus);
}

static int open_as(struct desk *desk, enum evbus_keeper keeper)
{
    return evbus_open(
        &desk->handle,
        &(struct evbus_options){.bus = desk->bus, .service = "tester", .keeper = keeper, .wait = EVBUS_WAIT_BLOCK});
}

static int open_plain(struct desk *desk)
{
    return open_as(desk, EVBUS_KEEPER_NEVER);
}

/* Until the keeper has all that it needs, or does without for now. */
static int open_with_keeper(struct desk *desk)
{
    int rc = open_as(desk, EVBUS_KEEPER_VOLUNTEER);
    uint64_t until = await_now_ms() + 200;
    while (rc == EVBUS_OK && hold_slot(&desk->handle->memory.control->seat) == 0 && await_now_ms() < until)
        await_pause();
    return rc;
}

static void close_all(struct desk *desk)
{
    evbus_reader_close(desk->reader);
    evbus_unsubscribe(desk->sub);
    evbus_close(desk->handle);
    desk->reader = NULL;
    desk->sub = NULL;
    desk->handle = NULL;
}

static int publish(struct desk *desk) /* for readers: no group wants it */
{
    return evbus_publish(desk->handle, &(struct evbus_event){.topic = "test.b.one", .payload = "{\"n\":1}"}, NULL);
}

static int publish_to_team(struct desk *desk)
{
    return fixture_publish(desk->handle, "key", "{\"n\":1}");
}

static int open_reader(struct desk *desk)
{
    return evbus_reader_open(
        &desk->reader, desk->handle,
        &(struct evbus_reader_options){.patterns = (const char *const[]){"test.**"}, .n_patterns = 1, .pin = true});
}

static int read_one(struct desk *desk)
{
    desk->event.size = sizeof desk->event;
    return evbus_reader_next(desk->reader, &desk->event, 0);
}

static int read_nothing(struct desk *desk)
{
    desk->event.size = sizeof desk->event;
    int rc = evbus_reader_next(desk->reader, &desk->event, 2 * MS);
    return rc == EVBUS_ETIMEOUT ? EVBUS_OK : rc;
}

static int descriptor(struct desk *desk)
{
    int fd;
    return evbus_fd(desk->reader, &fd);
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct desk *desk = context;
    (void)error;
    desk->n_handled++;
    if (event->attempt < 2 && event->payload_len > 7) /* {"n":12} */
        return EVBUS_RETRY;
    evbus_stop(desk->sub);
    return EVBUS_DONE;
}

static int subscribe(struct desk *desk)
{
    return evbus_subscribe(&desk->sub, desk->handle,
                           &(struct evbus_subscribe_options){.group = "team", .handler = handle, .context = desk});
}

static int subscribe_ad_hoc(struct desk *desk)
{
    return evbus_subscribe(
        &desk->sub, desk->handle,
        &(struct evbus_subscribe_options){
            .group = "guests", .patterns = (const char *const[]){"test.a.*"}, .n_patterns = 1, .ephemeral = true});
}

static int receive(struct desk *desk)
{
    desk->event.size = sizeof desk->event;
    return evbus_receive(desk->sub, &desk->event, 5000 * MS);
}

static int receive_nothing(struct desk *desk)
{
    desk->event.size = sizeof desk->event;
    int rc = evbus_receive(desk->sub, &desk->event, 2 * MS);
    return rc == EVBUS_ETIMEOUT ? EVBUS_OK : rc;
}

static int finish(struct desk *desk)
{
    return evbus_finish(desk->sub, &desk->event, EVBUS_DONE, NULL);
}

static int reject(struct desk *desk)
{
    return evbus_finish(desk->sub, &desk->event, EVBUS_REJECT, "no such customer");
}

static int run_group(struct desk *desk)
{
    if (desk->n_handled > 0 && publish_to_team(desk) != EVBUS_OK) /* the first one was, before it failed */
        return EVBUS_EFULL;
    return evbus_run(desk->sub, &(struct evbus_run_options){.threads = 3});
}

static int apply(struct desk *desk)
{
    return evbus_catalogue_apply(desk->handle, larger, 0, NULL);
}

/* By somebody else: our handle hears of it with its next publish. */
static int apply_elsewhere(struct desk *desk)
{
    struct desk other = {.n_handled = 0};
    memcpy(other.bus, desk->bus, sizeof other.bus);
    int rc = open_plain(&other);
    if (rc == EVBUS_OK)
        rc = apply(&other);
    close_all(&other);
    return rc;
}

static int publish_there(struct desk *desk)
{
    return evbus_publish(desk->handle, &(struct evbus_event){.topic = "test.c.one", .payload = "1"}, NULL);
}

static int catalogue_text(struct desk *desk)
{
    const char *text;
    return evbus_catalogue_text(desk->handle, &text, NULL);
}

static int stat_bus(struct desk *desk)
{
    struct evbus_stat stat = {.size = sizeof stat};
    return evbus_stat(desk->handle, &stat);
}

static void see_finding(void *context, const struct evbus_finding *finding)
{
    (void)context;
    (void)finding;
}

static int doctor(struct desk *desk)
{
    int rc = evbus_doctor(desk->handle, see_finding, NULL);
    return rc == EVBUS_ENOTFOUND ? EVBUS_OK : rc;
}

static int see_record(void *context, const struct evbus_record *record)
{
    (void)context;
    (void)record;
    return 0;
}

static int inspect(struct desk *desk)
{
    return evbus_inspect(&(struct evbus_inspect_options){.bus = desk->bus}, see_record, NULL);
}

static int publish_batch(struct desk *desk)
{
    struct evbus_event events[3];
    for (size_t i = 0; i < N(events); i++)
        events[i] = (struct evbus_event){.topic = "test.a.one", .payload = "{\"n\":1}"};
    return evbus_publish_batch(desk->handle, events, N(events), NULL, NULL);
}

static int see_group(void *context, const struct evbus_group_stat *group)
{
    (void)context;
    (void)group;
    return 0;
}

static int groups(struct desk *desk)
{
    return evbus_groups(desk->handle, see_group, NULL);
}

static int see_text(void *context, const char *text, size_t len)
{
    (void)context;
    return len > 0 && text[len - 1] == '\n' ? EVBUS_OK : EVBUS_ECORRUPT;
}

static int metrics(struct desk *desk)
{
    return evbus_metrics(desk->handle, see_text, NULL);
}

static int add_group(struct desk *desk)
{
    return evbus_group_add(desk->handle, &(struct evbus_group_options){.group = "guests",
                                                                       .patterns = (const char *const[]){"test.**"},
                                                                       .n_patterns = 1});
}

static int remove_group(struct desk *desk)
{
    return evbus_group_remove(desk->handle, "guests");
}

static int see_listed(void *context, const struct evbus_listed *listed)
{
    (void)context;
    (void)listed;
    return 0;
}

static int list(struct desk *desk)
{
    (void)desk;
    return evbus_list(see_listed, NULL);
}

static int close_handle(struct desk *desk)
{
    close_all(desk);
    return EVBUS_OK;
}

typedef int act(struct desk *desk);

#define ACTS_MAX 6

/* before, then run with a fault, then after. All of it leaves nothing behind but the bus. */
static const struct operation {
    const char *name;
    act *before[ACTS_MAX];
    act *run;
    act *after[ACTS_MAX];
    bool has_threads; /* it begins some */
    bool has_own_bus; /* before and after make and remove it */
    bool is_partial;  /* what it has done before it fails stays done */
    bool once;        /* when it has gone wrong, it is over all the same */
} operations[] = {
    {.name = "evbus_init", .run = init, .after = {remove_bus}, .has_own_bus = true},
    {.name = "evbus_remove", .before = {init}, .run = remove_bus, .has_own_bus = true, .is_partial = true},
    {.name = "evbus_open", .run = open_plain},
    {.name = "evbus_open with a keeper", .run = open_with_keeper, .has_threads = true},
    {.name = "evbus_close", .before = {open_with_keeper, publish}, .run = close_handle, .once = true},
    {.name = "the first evbus_publish of a thread", .before = {open_plain}, .run = publish},
    {.name = "evbus_reader_open", .before = {open_plain}, .run = open_reader},
    {.name = "evbus_reader_next", .before = {open_plain, open_reader, publish}, .run = read_one},
    {.name = "evbus_reader_next that sleeps", .before = {open_plain, open_reader}, .run = read_nothing},
    {.name = "evbus_fd", .before = {open_plain, open_reader}, .run = descriptor, .has_threads = true},
    {.name = "evbus_subscribe", .before = {open_plain}, .run = subscribe},
    {.name = "evbus_subscribe to a new group", .before = {open_plain}, .run = subscribe_ad_hoc},
    {.name = "evbus_receive", .before = {open_plain, subscribe, publish_to_team}, .run = receive, .after = {finish}},
    {.name = "evbus_receive that sleeps", .before = {open_plain, subscribe}, .run = receive_nothing},
    {.name = "evbus_finish", .before = {open_plain, subscribe, publish_to_team, receive}, .run = finish, .once = true},
    {.name = "evbus_finish with a reject",
     .before = {init, open_plain, subscribe, publish_to_team, receive},
     .run = reject,
     .after = {receive_nothing, remove_bus},
     .has_own_bus = true,
     .once = true},
    {.name = "a dead letter",
     .before = {init, open_plain, subscribe, publish_to_team, receive, reject},
     .run = receive_nothing,
     .after = {remove_bus},
     .has_own_bus = true},
    {.name = "evbus_run with threads",
     .before = {open_plain, subscribe, publish_to_team},
     .run = run_group,
     .has_threads = true},
    {.name = "evbus_catalogue_apply",
     .before = {init, open_plain},
     .run = apply,
     .after = {remove_bus},
     .has_own_bus = true},
    {.name = "evbus_publish on a new log",
     .before = {init, open_plain, publish, apply_elsewhere},
     .run = publish_there,
     .after = {remove_bus},
     .has_own_bus = true,
     .is_partial = true},
    {.name = "evbus_catalogue_text", .before = {open_plain}, .run = catalogue_text},
    {.name = "evbus_stat", .before = {open_plain}, .run = stat_bus},
    {.name = "evbus_doctor", .before = {open_plain, publish}, .run = doctor},
    {.name = "evbus_groups", .before = {open_plain, subscribe}, .run = groups},
    {.name = "evbus_metrics", .before = {open_plain, subscribe}, .run = metrics},
    {.name = "evbus_group_add", .before = {open_plain}, .run = add_group, .after = {remove_group}},
    {.name = "evbus_group_remove", .before = {open_plain, add_group}, .run = remove_group},
    {.name = "evbus_list", .run = list},
    {.name = "evbus_inspect", .before = {open_plain, publish}, .run = inspect},
    {.name = "evbus_publish_batch", .before = {open_plain, publish}, .run = publish_batch},
};

/* --- one trial ---------------------------------------------------------------------------------------------------------------- */

/* Of a child and its parent. */
struct report {
    const struct operation *operation;
    char bus[72];
    struct held before; /* the call that fails */
    long step;
    bool is_traced;
    int code; /* of the call that failed */
    char text[1024];
};

static int wrong(struct report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int wrong(struct report *report, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(report->text, sizeof report->text, format, args);
    va_end(args);
    return 1;
}

/* What may come of a system that refuses. */
static bool is_expected(int code)
{
    switch ((enum evbus_code)code) {
    case EVBUS_OK:
    case EVBUS_ENOSPC:
    case EVBUS_EIO:
    case EVBUS_EPERM:
    case EVBUS_EBUSY:
        return true;
    default:
        return false;
    }
}

/* Does it end with something that can be done? */
static bool has_mend(const char *message)
{
    static const char *const mends[] = {"try again", "raise ",  "make /dev/shm", "close ", "run as",
                                        "evbus -b",  "remount", "seccomp",       "kernel"};
    for (size_t i = 0; i < N(mends); i++)
        if (strstr(message, mends[i]) != NULL)
            return true;
    return false;
}

static int do_all(struct report *report, struct desk *desk, act *const *acts)
{
    for (size_t i = 0; i < ACTS_MAX && acts[i] != NULL; i++) {
        if (acts[i] == remove_bus)
            close_all(desk);
        int rc = acts[i](desk);
        if (rc != EVBUS_OK)
            return wrong(report, "with all well, step %zu: %d %s", i, rc, evbus_message(NULL));
    }
    return 0;
}

static int end(struct report *report, struct desk *desk)
{
    int failed = do_all(report, desk, report->operation->after);
    close_all(desk);
    return failed;
}

static int compare(struct report *report, const struct held *before, const struct held *after)
{
    char difference[HELD_TEXT_BYTES];
    return held_is_same(before, after, difference) ? 0 : wrong(report, "%s", difference);
}

/* The call has ended with rc, in whatever way. */
static int settle(struct report *report, struct desk *desk, const struct memory *observer, int rc, bool has_struck)
{
    const char *message = evbus_message(NULL);
    report->code = rc;
    if (getenv("EVBUS_SHOW") != NULL && rc != EVBUS_OK)
        fprintf(stderr, "%d %s\n", rc, message);
    if (!is_expected(rc))
        return wrong(report, "it answers %d (%s): %s", rc, evbus_strerror(rc), message);
    if (rc != EVBUS_OK && !has_struck)
        return wrong(report, "with all well: %d %s", rc, message);
    if (rc != EVBUS_OK && !has_mend(message))
        return wrong(report, "it answers %d with no mend: \"%s\"", rc, message);
    if (rc != EVBUS_OK && !report->operation->once) {
        struct held after = held_look(report->bus, observer, report->before.n[HELD_THREADS]);
        after.n[HELD_SLOTS] = report->before.n[HELD_SLOTS]; /* they are the thread's, until it ends or closes */
        after.n[HELD_SLEEPERS] = report->before.n[HELD_SLEEPERS];
        after.n[HELD_LEASES] = report->before.n[HELD_LEASES]; /* the member's, until it leaves */
        if (report->operation->is_partial) {
            after.n[HELD_OBJECTS] = report->before.n[HELD_OBJECTS];
            after.n[HELD_MAPPINGS] = report->before.n[HELD_MAPPINGS];
        }
        if (compare(report, &report->before, &after) != 0)
            return 1;
        if ((rc = report->operation->run(desk)) != EVBUS_OK)
            return wrong(report, "again, with all well: %d %s", rc, evbus_message(NULL));
    }
    return 0;
}

/* The whole operation, n-th allocation (0: none) or a system call (is_traced) failing. *out_struck: it has come to that. */
static int whole(struct report *report, const struct memory *observer, long n, bool *out_struck)
{
    const struct operation *operation = report->operation;
    struct desk desk = {.n_handled = 0};
    snprintf(desk.bus, sizeof desk.bus, "%s", report->bus);
    long unfreed = n_unfreed;
    struct held before = held_look(report->bus, observer, 1);
    if (do_all(report, &desk, operation->before) != 0)
        return 1;
    report->before = held_look(report->bus, observer, 0);
    if (report->is_traced)
        fault_begin();
    else
        fail_allocation(n);
    int rc = operation->run(&desk);
    *out_struck = report->is_traced || fail_allocation(0);
    if (report->is_traced)
        fault_end();
    if (settle(report, &desk, observer, rc, *out_struck) != 0 || end(report, &desk) != 0)
        return 1;
    struct held after = held_look(report->bus, observer, 1);
    if (compare(report, &before, &after) != 0)
        return 1;
    if (!report->is_traced && n > 0 && n_unfreed != unfreed)
        return wrong(report, "%ld allocations are not freed", n_unfreed - unfreed);
    return 0;
}

/* Without a bus of its own: the one that is there. */
static int observe(struct report *report, struct memory *out_observer)
{
    struct error err = {""};
    if (report->operation->has_own_bus || memory_open(out_observer, report->bus, &err) == EVBUS_OK)
        return 0;
    return wrong(report, "no observer: %s", err.text);
}

static int fail_a_call(void *context)
{
    struct report *report = context;
    struct memory observer = {.control_region = REGION_NONE};
    bool struck;
    alarm(60);
    urcu_bp_read_lock(); /* liburcu aborts the process where it cannot map its one page: see topics_enter_thread() */
    urcu_bp_read_unlock();
    if (observe(report, &observer) != 0)
        return 1;
    return whole(report, observer.control != NULL ? &observer : NULL, 0, &struck);
}

/* --- all of them -------------------------------------------------------------------------------------------------------------- */

static struct report *new_report(const struct operation *operation, const struct fixture *fixture)
{
    struct report *report = child_shared(sizeof *report);
    report->operation = operation;
    snprintf(report->bus, sizeof report->bus, "%s%s", fixture->name, operation->has_own_bus ? "-own" : "");
    return report;
}

/* A /dev/shm of our own, if we may: others' buses come and go in the host's. */
static struct fixture make_bus(void)
{
    fixture_own_shm("64m");
    struct fixture fixture = fixture_make((struct fixture_options){.catalogue = catalogue});
    evbus_close(fixture.bus); /* children have handles of their own */
    fixture.bus = NULL;
    return fixture;
}

/* By number: a test is another process. */
static struct criterion_test_params all_operations(void)
{
    static size_t numbers[N(operations)];
    for (size_t i = 0; i < N(numbers); i++)
        numbers[i] = i;
    return cr_make_param_array(size_t, numbers, N(numbers));
}

ParameterizedTestParameters(faults, each_system_call)
{
    return all_operations();
}

static void fail_each_call(const struct operation *operation, const struct fixture *fixture, bool of_others)
{
    unsigned n_calls = 0, n_trials = 0, n_refused = 0;
    struct report *report = new_report(operation, fixture);
    report->is_traced = true;
    uint64_t only = trial_only_step();
    for (struct fault fault = {.nth = only != 0 ? (unsigned)only : 1, .of_others = of_others};;) {
        int status = fault_run(&fault, fail_a_call, report);
        if (status != 0 && fault.has_struck)
            cr_assert_fail("%s: EVBUS_STEP=%u%s: %s fails with %s: it ended with %d, %s", operation->name, fault.nth,
                           of_others ? " of its threads" : "", fault.call, strerror(fault.error), status, report->text);
        cr_assert_eq(status, 0, "%s: with all well: it ended with %d, %s", operation->name, status, report->text);
        if (!fault.has_struck)
            break;
        n_trials++;
        n_refused += report->code != EVBUS_OK;
        n_calls += fault.which_error == 0;
        if (fault.has_more_errors) {
            fault.which_error++;
            continue;
        }
        if (only != 0)
            break;
        fault.which_error = 0;
        fault.nth++;
    }
    fprintf(stderr, "%s: %u system calls%s, %u errors, %u of them told\n", operation->name, n_calls,
            of_others ? " of its threads" : "", n_trials, n_refused);
}

ParameterizedTest(size_t *number, faults, each_system_call, .timeout = 600)
{
    const struct operation *operation = &operations[*number];
    if (!FAULT_WORKS)
        cr_skip_test("system calls are made to fail on x86-64 only");
    struct fixture fixture = make_bus();
    fail_each_call(operation, &fixture, false);
    if (operation->has_threads)
        fail_each_call(operation, &fixture, true);
    fixture_end(&fixture);
}

ParameterizedTestParameters(faults, each_allocation)
{
    return all_operations();
}

static int fail_allocations(void *context)
{
    struct report *report = context;
    struct memory observer = {.control_region = REGION_NONE};
    bool struck = true;
    alarm(60);
    if (observe(report, &observer) != 0)
        return 1;
    const struct memory *seen = observer.control != NULL ? &observer : NULL;
    for (int i = 0; i < 2; i++) /* what is made once in a process is there then */
        if (whole(report, seen, 0, &struck) != 0)
            return 1;
    struck = true;
    long n = trial_only_step() != 0 ? (long)trial_only_step() : 1;
    unsigned n_refused = 0;
    for (; struck; n++) {
        alarm(60);
        report->step = n;
        if (whole(report, seen, n, &struck) != 0)
            return 1;
        n_refused += report->code != EVBUS_OK;
    }
    fprintf(stderr, "%s: %ld allocations, %u of them told\n", report->operation->name, n - 2, n_refused);
    return 0;
}

ParameterizedTest(size_t *number, faults, each_allocation, .timeout = 600)
{
    const struct operation *operation = &operations[*number];
    struct fixture fixture = make_bus();
    struct report *report = new_report(operation, &fixture);
    struct child child = child_start(fail_allocations, report);
    int status = child_join(&child);
    cr_assert_eq(status, 0, "%s: EVBUS_STEP=%ld: it ended with %d, %s", operation->name, report->step, status,
                 report->text);
    fixture_end(&fixture);
}
