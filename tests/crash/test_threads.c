/* Threads that leave a publish, or the bus, in other ways than by return and evbus_close(). */
#include "await.h"
#include "child.h"
#include "fixture.h"
#include "load.h"
#include "step.h"
#include "trial.h"

#include "bus.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static const char *const topics[2] = {"test.a.one", "test.a.two"};

/* What a child says about its failure; the parent's assertion prints it. */
struct report {
    char text[400];
    uint64_t n_points;
    uint64_t n_inside; /* of them: the handler's own publish was refused */
};

static struct report *report;

__attribute__((format(printf, 2, 3))) static int fail(uint64_t step, const char *format, ...)
{
    va_list values;
    int len = snprintf(report->text, sizeof report->text, "step %lu (again: EVBUS_STEP=%lu): ", (unsigned long)step,
                       (unsigned long)step);
    va_start(values, format);
    vsnprintf(report->text + len, sizeof report->text - (size_t)len, format, values);
    va_end(values);
    return 1;
}

/* --- publish and read in the same thread ----------------------------------------------------------------------------- */

static struct evbus *bus;
static struct evbus_reader *reader;

static int publish(uint64_t number)
{
    char payload[32];
    snprintf(payload, sizeof payload, "\"%lu\"", (unsigned long)number);
    struct evbus_event event = {
        .size = sizeof event, .topic = topics[number % 2], .payload = payload, .timeout_ns = SECOND};
    return evbus_publish(bus, &event, NULL);
}

/* The next event's number, with the right topic and payload. 0: none in time, or it is not as it was published. */
static uint64_t read_number(void)
{
    struct evbus_delivery got = {.size = sizeof got};
    char again[32];
    if (evbus_reader_next(reader, &got, SECOND) != EVBUS_OK || got.lost != 0)
        return 0;
    uint64_t number = strtoull((const char *)got.payload + 1, NULL, 10);
    snprintf(again, sizeof again, "\"%lu\"", (unsigned long)number);
    return strcmp(again, got.payload) == 0 && strcmp(got.topic, topics[number % 2]) == 0 ? number : 0;
}

static bool open_here(const struct fixture *f)
{
    bus = fixture_open(f, "jumper", EVBUS_KEEPER_NEVER);
    return evbus_reader_open(&reader, bus, NULL) == EVBUS_OK && publish(1) == EVBUS_OK && read_number() == 1 &&
           publish(2) == EVBUS_OK && read_number() == 2;
}

/* A publish from a deeper frame, whose stack holds what was there before: nobody clears it. */
static __attribute__((noinline)) int publish_deeper(uint64_t number, size_t depth)
{
    volatile char untouched[64];
    untouched[0] = 0;
    if (depth > 0)
        return publish_deeper(number, depth - 1);
    return publish(number) + untouched[0];
}

static int in_child(int (*body)(void *context), struct fixture *f)
{
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    report = child_shared(sizeof *report);
    struct child child = child_start(body, f);
    return child_join(&child);
}

/* --- points ------------------------------------------------------------------------------------------------------------ */

static uint64_t n_ours; /* steps of our own text */

/* How many steps of our own a publish takes, and which of them opens its claim. */
struct length {
    uint64_t n_steps;
    uint64_t claim;
    const struct bus_thread *thread;
};

static bool count_ours(void *context, uint64_t n, uintptr_t pc)
{
    struct length *length = context;
    (void)n;
    n_ours += step_is_ours(pc);
    if (length->claim == 0 && length->thread->claim.ring != NULL)
        length->claim = n_ours;
    return true;
}

static bool measure(struct length *length, uint64_t number)
{
    struct bus_thread *thread;
    struct error err;
    *length = (struct length){0};
    if (bus_thread(bus, &thread, &err) != EVBUS_OK)
        return false;
    length->thread = thread;
    n_ours = 0;
    step_begin(count_ours, length);
    int rc = publish(number);
    step_end();
    length->n_steps = n_ours;
    return rc == EVBUS_OK && read_number() == number && length->claim != 0;
}

/* Points from the end on: all from a little before the claim (each thin_out-th), some before; until the time is over. */
struct points {
    struct length length;
    uint64_t thin_out;
    uint64_t until_ms;
    uint64_t at; /* 0: the end */
};

static struct points first_point(const struct length *length, uint64_t thin_out)
{
    thin_out *= trial_is_full() ? 1 : trial_is_slow() ? 40 : 8;
    return (struct points){*length, thin_out, await_now_ms() + trial_ms(9000, 1500),
                           trial_only_step() != 0 ? trial_only_step() : length->n_steps + 10};
}

static void next_point(struct points *points)
{
    uint64_t coarse = points->length.n_steps / 100 * points->thin_out;
    uint64_t step = points->at + 30 >= points->length.claim || coarse == 0 ? points->thin_out : coarse;
    if (trial_only_step() != 0 || await_now_ms() > points->until_ms)
        step = points->at;
    points->at -= step < points->at ? step : points->at;
}

/* --- longjmp --------------------------------------------------------------------------------------------------------- */

static sigjmp_buf outside;
static uint64_t jump_at; /* step of our own text */

static bool jump_out(void *context, uint64_t n, uintptr_t pc)
{
    (void)context;
    (void)n;
    if (step_is_ours(pc) && ++n_ours == jump_at)
        siglongjmp(outside, 1);
    return true;
}

/* One publish that is left at the jump_at-th step of our own (0: not at all). true: it was left. */
static bool leave_publish(uint64_t number, int *out_rc)
{
    n_ours = 0;
    if (sigsetjmp(outside, 1) != 0)
        return true;
    if (jump_at != 0)
        step_begin(jump_out, NULL);
    *out_rc = publish(number);
    step_end();
    return false;
}

/* The next publish: from the frame of the one that was left, or from deeper ones. */
static int publish_next(uint64_t number, bool is_deeper, size_t depth)
{
    int rc = EVBUS_OK;
    uint64_t at = jump_at;
    if (is_deeper)
        return publish_deeper(number, depth);
    jump_at = 0;
    leave_publish(number, &rc);
    jump_at = at;
    return rc;
}

static int jump_everywhere(struct fixture *f, bool is_deeper)
{
    if (!open_here(f))
        return fail(0, "the first publish");
    struct ring *ring = &bus->memory.logs[0].rings[0];
    uint64_t number = 10;
    struct length length;
    if (!measure(&length, ++number))
        return fail(0, "a publish that is let through");
    for (struct points points = first_point(&length, is_deeper ? 4 : 1); points.at != 0; next_point(&points)) {
        uint64_t at = points.at;
        for (size_t depth = 0; depth < (is_deeper ? 3 : 1); depth++) {
            int rc = EVBUS_OK;
            uint64_t left = ++number;
            jump_at = at;
            bool was_left = leave_publish(left, &rc);
            if (!was_left && rc != EVBUS_OK)
                return fail(at, "a publish that was let through: %d %s", rc, evbus_message(bus));
            uint64_t after = ++number;
            if ((rc = publish_next(after, is_deeper, depth * depth * 4)) != EVBUS_OK)
                return fail(at, "the next publish: %d %s", rc, evbus_message(bus));
            uint64_t seen = read_number();
            if (seen == left)
                seen = read_number();
            if (seen != after)
                return fail(at, "read %lu, not %lu: %s", (unsigned long)seen, (unsigned long)after, evbus_message(bus));
        }
        report->n_points++;
    }
    uint64_t tail = ring_tail(ring) + 3 * ring->capacity;
    while (ring_tail(ring) < tail)
        if (publish(++number) != EVBUS_OK || read_number() != number)
            return fail(0, "three laps later: %s", evbus_message(bus));
    evbus_reader_close(reader);
    evbus_close(bus);
    return 0;
}

static int jump_and_publish_there(void *context)
{
    return jump_everywhere(context, false);
}

static int jump_and_publish_deeper(void *context)
{
    return jump_everywhere(context, true);
}

Test(threads, a_publish_left_by_longjmp_at_any_instruction_is_settled_by_the_next, .timeout = 120)
{ /* [guards WHOLE] [guards PROGRESS] R11 */
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    int status = in_child(jump_and_publish_there, &f);
    cr_assert_eq(status, 0, "status %d: %s crash-threads -j1 --filter 'threads/*settled_by_the_next'", status,
                 report->text);
    fprintf(stderr, "longjmp out of a publish: %lu points\n", (unsigned long)report->n_points);
    fixture_end(&f);
}

Test(threads, a_publish_left_by_longjmp_is_settled_by_one_from_a_deeper_frame, .timeout = 120)
{ /* [guards PROGRESS] R11 */
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    int status = in_child(jump_and_publish_deeper, &f);
    cr_assert_eq(status, 0, "status %d: %s crash-threads -j1 --filter 'threads/*deeper_frame'", status, report->text);
    fixture_end(&f);
}

static int jump_and_reload(void *context)
{
    if (!open_here(context))
        return fail(0, "the first publish");
    uint64_t number = 10;
    bool was_left = true;
    uint64_t step = trial_is_full() ? 4 : 8; /* each is a publish in single steps */
    int rc;
    for (jump_at = 1; was_left && jump_at < 700; jump_at += step) /* where the topic is looked up */
        was_left = leave_publish(++number, &rc);
    struct control *control = bus->memory.control; /* as whoever applies a catalogue does */
    uint32_t next = atomic_load(&control->generation) + 1;
    memcpy(control->catalogue[next % 2], control->catalogue[1 - next % 2], CATALOGUE_BYTES);
    atomic_store(&control->catalogue_len[next % 2], atomic_load(&control->catalogue_len[1 - next % 2]));
    atomic_store(&control->generation, next);
    rc = publish(++number);
    return rc == EVBUS_OK ? 0 : fail(0, "a publish after a change of the catalogue: %d %s", rc, evbus_message(bus));
}

Test(threads, a_publish_left_by_longjmp_does_not_block_a_new_catalogue, .timeout = 60)
{ /* R11 */
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    int status = in_child(jump_and_reload, &f);
    cr_assert_eq(status, 0, "status %d (-1: it hangs): %s", status, report->text);
    fixture_end(&f);
}

/* --- publish in a signal handler --------------------------------------------------------------------------------------- */

static uint64_t interrupt_at;
static uint64_t inner_number;
static int inner_rc;
static bool was_interrupted;

static void interrupt(int number)
{
    (void)number;
    was_interrupted = true;
    inner_rc = publish(inner_number);
}

static bool publish_inside(void *context, uint64_t n, uintptr_t pc)
{
    (void)n;
    if (!step_is_ours(pc) || ++n_ours != interrupt_at)
        return true;
    if (context != NULL) /* on the other stack */
        raise(SIGUSR1);
    else
        interrupt(0);
    return false;
}

static int interrupt_everywhere(struct fixture *f, void *with_other_stack)
{
    if (!open_here(f))
        return fail(0, "the first publish");
    uint64_t number = 10;
    struct length length;
    if (!measure(&length, ++number))
        return fail(0, "a publish that is let through");
    for (struct points points = first_point(&length, with_other_stack != NULL ? 4 : 1); points.at != 0;
         next_point(&points)) {
        interrupt_at = points.at;
        uint64_t outer_number = ++number;
        inner_number = ++number;
        n_ours = 0;
        was_interrupted = false;
        inner_rc = EVBUS_EBUSY;
        step_begin(publish_inside, with_other_stack);
        int rc = publish(outer_number);
        step_end();
        if (rc != EVBUS_OK)
            return fail(interrupt_at, "the outer publish: %d %s", rc, evbus_message(bus));
        if (inner_rc != EVBUS_OK && inner_rc != EVBUS_EBUSY)
            return fail(interrupt_at, "the inner publish: %d %s", inner_rc, evbus_message(bus));
        int n_outer = 0;
        int n_inner = 0;
        for (int i = 0; i < 1 + (inner_rc == EVBUS_OK); i++) {
            uint64_t seen = read_number();
            n_outer += seen == outer_number;
            n_inner += seen == inner_number;
        }
        if (n_outer != 1 || n_inner != (inner_rc == EVBUS_OK))
            return fail(interrupt_at, "the inner publish: %d; the outer event was read %d times, the inner %d",
                        inner_rc, n_outer, n_inner);
        report->n_points += was_interrupted;
        report->n_inside += was_interrupted && inner_rc == EVBUS_EBUSY;
    }
    struct evbus_delivery got = {.size = sizeof got};
    if (evbus_reader_next(reader, &got, 0) != EVBUS_ETIMEOUT)
        return fail(0, "an event too many");
    return 0;
}

static int interrupt_here(void *context)
{
    return interrupt_everywhere(context, NULL);
}

#ifndef SS_AUTODISARM /* <linux/signal.h> has it, beside <signal.h> it does not compile */
#define SS_AUTODISARM (1u << 31)
#endif

static void use_other_stack(void *stack, size_t len, unsigned flags)
{
    stack_t other = {.ss_sp = stack, .ss_size = len, .ss_flags = (int)flags};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = interrupt;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    if (sigaltstack(&other, NULL) != 0)
        _exit(95);
    sigaction(SIGUSR1, &action, NULL);
}

/* A thread whose own stack and whose handlers' stack are neighbours, one or the other first. */
struct stacks {
    struct fixture *f;
    char *own;
    char *other;
    size_t len;
    unsigned flags;
    int rc;
};

static void *interrupt_on_stacks(void *context)
{
    struct stacks *stacks = context;
    use_other_stack(stacks->other, stacks->len, stacks->flags);
    stacks->rc = interrupt_everywhere(stacks->f, stacks);
    return NULL;
}

static int interrupt_on_other_stack(struct fixture *f, bool is_above, unsigned flags)
{
    size_t len = 1 << 20;
    char *both = mmap(NULL, 2 * len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct stacks stacks = {f, is_above ? both : both + len, is_above ? both + len : both, len, flags, 0};
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstack(&attr, stacks.own, len);
    if (pthread_create(&thread, &attr, interrupt_on_stacks, &stacks) != 0 || pthread_join(thread, NULL) != 0)
        return fail(0, "no thread");
    return stacks.rc;
}

static int interrupt_above(void *context)
{
    return interrupt_on_other_stack(context, true, 0);
}

static int interrupt_below(void *context)
{
    return interrupt_on_other_stack(context, false, 0);
}

static int interrupt_above_disarmed(void *context)
{
    return interrupt_on_other_stack(context, true, SS_AUTODISARM);
}

struct where {
    const char *name;
    int (*body)(void *context);
};

static void check_interrupted(const struct where *where)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    int status = in_child(where->body, &f);
    cr_assert_eq(status, 0, "%s, status %d: %s", where->name, status, report->text);
    fprintf(stderr, "publish inside a publish, %s: %lu points, %lu refused\n", where->name,
            (unsigned long)report->n_points, (unsigned long)report->n_inside);
    cr_assert_gt(report->n_inside, 0);
    fixture_end(&f);
}

Test(threads, a_handler_that_interrupts_a_publish_cannot_harm_it, .timeout = 120)
{ /* [guards ONE-WRITER] R11 */
    check_interrupted(&(struct where){"on the same stack", interrupt_here});
}

Test(threads, a_handler_on_a_stack_below_cannot_harm_a_publish, .timeout = 120)
{ /* [guards ONE-WRITER] R11 */
    check_interrupted(&(struct where){"on a stack below", interrupt_below});
}

Test(threads, a_handler_on_a_stack_above_cannot_harm_a_publish, .timeout = 120)
{ /* [guards ONE-WRITER] R11 */
    check_interrupted(&(struct where){"on a stack above", interrupt_above});
}

Test(threads, a_handler_on_a_stack_that_it_disarms_cannot_harm_a_publish, .timeout = 120)
{ /* [guards ONE-WRITER] R11: there sigaltstack() does not tell that we are on it */
    check_interrupted(&(struct where){"on a disarmed stack above", interrupt_above_disarmed});
}

/* --- threads that end ------------------------------------------------------------------------------------------------- */

static struct fixture *fixture_of_test;

static uint32_t slots_after_burial(struct fixture *f)
{
    evbus_close(fixture_open(f, "sweeper", EVBUS_KEEPER_NEVER)); /* attaching buries */
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(f->bus, &stat), EVBUS_OK);
    return stat.n_slots;
}

static uint32_t places_taken(struct fixture *f)
{
    uint32_t n = 0;
    for (uint32_t l = 0; l < f->bus->memory.n_logs; l++)
        for (int i = 0; i < SLEEPERS_MAX; i++)
            n += atomic_load(&f->bus->memory.logs[l].head->sleepers[i].slot) != 0;
    return n;
}

/* Beside the one that keeps dead letters for ever. */
static uint32_t pins_taken(struct fixture *f)
{
    struct evbus_stat stat = {.size = sizeof stat};
    uint32_t n = 0;
    cr_assert_eq(evbus_stat(f->bus, &stat), EVBUS_OK);
    for (size_t i = 0; i < stat.n_partitions; i++)
        n += stat.partitions[i].n_pins;
    cr_assert_gt(n, 0, "dead letters are not kept any more");
    return n - 1;
}

/* Uses all that a thread can have: a slot, a place among the sleepers, a pin. */
static bool use_everything(struct evbus *handle)
{
    struct evbus_reader *mine;
    struct evbus_reader_options options = {.size = sizeof options, .pin = true};
    struct evbus_delivery got = {.size = sizeof got};
    if (fixture_publish(handle, "k", "1") != EVBUS_OK || evbus_reader_open(&mine, handle, &options) != EVBUS_OK)
        return false;
    int rc;
    while ((rc = evbus_reader_next(mine, &got, 1000000)) == EVBUS_OK) {
    }
    return rc == EVBUS_ETIMEOUT; /* the reader stays open: its thread ends with it */
}

enum end { END_RETURN, END_PTHREAD_EXIT, END_SYS_EXIT, END_CANCEL, N_ENDS };
static const char *const end_names[N_ENDS] = {"return", "pthread_exit", "SYS_exit", "cancellation"};

struct ending {
    enum end how;
    _Atomic int is_ready; /* 1: used everything; 2: it could not */
    struct evbus *handle;
};

static void *thread_that_ends(void *context)
{
    struct ending *ending = context;
    int type;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
    ending->is_ready = use_everything(ending->handle) ? 1 : 2;
    switch (ending->how) {
    case END_PTHREAD_EXIT:
        pthread_exit(NULL);
    case END_SYS_EXIT:
        syscall(SYS_exit, 0);
        break;
    case END_CANCEL:
        for (;;)
            pause();
    default:
        break;
    }
    return NULL;
}

/* In a child of its own, which lives on: the thread's end alone must be enough. */
static int end_threads(void *context)
{
    struct ending *ending = context;
    ending->handle = fixture_open(fixture_of_test, "threads", EVBUS_KEEPER_NEVER);
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        ending->is_ready = 0;
        if (pthread_create(&thread, NULL, thread_that_ends, ending) != 0)
            return 90;
        if (!await_that(ending->is_ready != 0) || ending->is_ready != 1)
            return 91;
        if (ending->how == END_CANCEL)
            pthread_cancel(thread);
        if (ending->how == END_SYS_EXIT)
            pthread_detach(thread); /* nobody hears of its end but the kernel */
        else if (pthread_join(thread, NULL) != 0)
            return 92;
    }
    ending->is_ready = 3;
    for (;;)
        pause();
}

static void check_end(enum end how)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    fixture_of_test = &f;
    cr_assert_eq(fixture_publish(f.bus, "k", "1"), EVBUS_OK);
    uint32_t baseline = slots_after_burial(&f);
    struct ending *ending = child_shared(sizeof *ending);
    ending->how = how;
    struct child child = child_start(end_threads, ending);
    cr_assert(await_that(ending->is_ready == 3 || !child_is_running(&child)));
    cr_assert_eq(ending->is_ready, 3, "the child failed: %s", end_names[how]);
    cr_expect(await_that(slots_after_burial(&f) == baseline), "%s: %u slots in use, %u before", end_names[how],
              slots_after_burial(&f), baseline);
    cr_expect_eq(places_taken(&f), 0, "%s: %u places among the sleepers are not free again", end_names[how],
                 places_taken(&f));
    cr_expect_eq(pins_taken(&f), 0, "%s: %u pins are left", end_names[how], pins_taken(&f));
    child_kill(&child);
    fixture_end(&f);
}

Test(threads, one_that_returns_gives_back_all_it_had, .timeout = 60)
{
    check_end(END_RETURN);
}

Test(threads, one_that_calls_pthread_exit_gives_back_all_it_had, .timeout = 60)
{
    check_end(END_PTHREAD_EXIT);
}

Test(threads, one_that_ends_by_the_bare_system_call_is_buried, .timeout = 60)
{ /* B1 */
    check_end(END_SYS_EXIT);
}

Test(threads, one_that_is_cancelled_gives_back_all_it_had, .timeout = 60)
{
    check_end(END_CANCEL);
}

/* --- processes that end ------------------------------------------------------------------------------------------------ */

static int end_without_close(void *context)
{
    (void)context;
    struct evbus *handle = fixture_open(fixture_of_test, "leaver", EVBUS_KEEPER_VOLUNTEER);
    return use_everything(handle) ? 0 : 90;
}

/* fork() between two publishes and, in a thread, at any moment of them; the child ends in its own way. */
static int fork_in_the_middle(void *context)
{
    (void)context;
    struct evbus *handle = fixture_open(fixture_of_test, "forker", EVBUS_KEEPER_VOLUNTEER);
    if (!use_everything(handle))
        return 90;
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (fixture_publish(handle, "k", "1") != EVBUS_EFORKED)
                _exit(1);
            if (i % 2 == 0)
                evbus_close(handle);
            if (i % 4 < 2 && !trial_is_slow())
                exit(0); /* a sanitizer's exit() looks for leaks: there are, the parent's */
            _exit(0);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return 91;
        if (fixture_publish(handle, "k", "2") != EVBUS_OK)
            return 92;
    }
    return 0;
}

static bool fork_inside(void *context, uint64_t n, uintptr_t pc)
{
    (void)context;
    if (!step_is_ours(pc) || n % 8 != 0)
        return true;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    return true;
}

static int fork_inside_a_publish(void *context)
{
    (void)context;
    bus = fixture_open(fixture_of_test, "forker", EVBUS_KEEPER_NEVER);
    if (publish(1) != EVBUS_OK)
        return 90;
    step_begin(fork_inside, NULL);
    int rc = publish(2);
    step_end();
    return rc == EVBUS_OK && publish(3) == EVBUS_OK ? 0 : 91;
}

static int exec_without_close(void *context)
{
    (void)context;
    struct evbus *handle = fixture_open(fixture_of_test, "execer", EVBUS_KEEPER_VOLUNTEER);
    if (!use_everything(handle))
        return 90;
    execl("/bin/true", "true", (char *)NULL);
    return 91;
}

struct process_end {
    const char *name;
    int (*body)(void *context);
};

static void check_process(const struct process_end *end)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    fixture_of_test = &f;
    cr_assert_eq(fixture_publish(f.bus, "k", "1"), EVBUS_OK);
    uint32_t baseline = slots_after_burial(&f);
    for (int i = 0; i < 5; i++) {
        struct child child = child_start(end->body, NULL);
        int status = child_join(&child);
        cr_assert_eq(status, 0, "%s: status %d", end->name, status);
    }
    cr_assert_eq(slots_after_burial(&f), baseline, "%s: %u slots in use, %u before", end->name, slots_after_burial(&f),
                 baseline);
    cr_expect_eq(places_taken(&f), 0, "%s: %u places are left", end->name, places_taken(&f));
    cr_expect_eq(pins_taken(&f), 0, "%s: %u pins are left", end->name, pins_taken(&f));
    for (int i = 0; i < 200; i++)
        cr_assert_eq(fixture_publish(f.bus, "k", "\"three laps\""), EVBUS_OK, "%s: %s", end->name,
                     evbus_message(f.bus));
    fixture_end(&f);
}

Test(threads, a_process_that_ends_without_close_leaves_nothing_behind, .timeout = 60)
{
    check_process(&(struct process_end){"exit without close", end_without_close});
}

Test(threads, a_forked_child_has_no_part_in_its_parents_bus, .timeout = 60)
{ /* B8 */
    check_process(&(struct process_end){"fork between publishes", fork_in_the_middle});
}

Test(threads, a_fork_inside_a_publish_harms_neither, .timeout = 120)
{ /* B8 */
    if (!STEP_WORKS)
        cr_skip("x86-64 only");
    check_process(&(struct process_end){"fork inside a publish", fork_inside_a_publish});
}

Test(threads, a_process_that_executes_another_program_leaves_nothing_behind, .timeout = 60)
{
    check_process(&(struct process_end){"exec", exec_without_close});
}
