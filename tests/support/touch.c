/* touch.c: kill or stop a process where it has just changed a bus's shared memory, or made a system call. See touch.h.
 *
 * Everything is opened again before the action: the kernel marks a dead owner's mutex through the dead process's own mapping. */
#include "touch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define RANGES_MAX 32
#define OPEN_MAX   4 /* pages that one instruction writes to */
#define PAGE_BYTES 4096u
#define MAPS_BYTES 65536

static struct {
    uintptr_t from;
    uintptr_t to;
} ranges[RANGES_MAX];
static unsigned n_ranges;
static uintptr_t open_pages[OPEN_MAX];
static unsigned n_open;
static struct touch_point now;
static struct touch_point wanted;
static struct touch_points *noted; /* NULL: we are to act */
static touch_action *act;
static void *act_context;
static _Atomic int *opens;
static uint32_t opens_after;
static bool is_begun;
static bool is_call; /* the next instruction is a system call */
static _Atomic bool is_on;

/* Every object of a bus that is mapped. Runs in a signal handler. */
static void find_ranges(void)
{
    static char text[MAPS_BYTES];
    size_t len = 0;
    ssize_t got;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    while (len < sizeof text - 1 && (got = read(fd, text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)got;
    close(fd);
    text[len] = '\0';
    n_ranges = 0;
    for (char *line = text; line != NULL && *line != '\0' && n_ranges < RANGES_MAX;) {
        char *end = strchr(line, '\n');
        if (end != NULL)
            *end = '\0';
        if (strstr(line, " rw-s ") != NULL && strstr(line, "/dev/shm/evbus.") != NULL) {
            char *dash;
            ranges[n_ranges].from = strtoull(line, &dash, 16);
            ranges[n_ranges++].to = strtoull(dash + 1, NULL, 16);
        }
        line = end != NULL ? end + 1 : NULL;
    }
}

static void protect_all(int how)
{
    for (unsigned i = 0; i < n_ranges; i++)
        mprotect((void *)ranges[i].from, ranges[i].to - ranges[i].from, how);
}

static void leave(void)
{
    is_on = false;
    protect_all(PROT_READ | PROT_WRITE);
}

/* One more point. true: go on. */
static bool arrive(void)
{
    if (opens != NULL && now.stores >= opens_after)
        *opens = 1;
    if (noted != NULL) {
        if (noted->n < TOUCH_POINTS_MAX)
            noted->at[noted->n++] = now;
        return true;
    }
    /* where others make us go another way, the calls may not come: then before the next store is too late, after it is not */
    if (now.stores < wanted.stores || (now.stores == wanted.stores && now.calls < wanted.calls))
        return true;
    leave();
    act(act_context);
    return false;
}

static bool does_step(void)
{
    return noted != NULL || now.stores == wanted.stores; /* calls are to be found */
}

static bool on_step(void *context, uint64_t n, uintptr_t pc)
{
    (void)context;
    if (!is_on)
        return false;
    if (noted != NULL)
        noted->n_steps = n;
    bool goes_on = true;
    if (!is_begun) {
        is_begun = true;
        find_ranges();
        protect_all(PROT_READ);
        goes_on = arrive();
    } else if (n_open > 0) {
        while (n_open > 0)
            mprotect((void *)open_pages[--n_open], PAGE_BYTES, PROT_READ);
        now.stores++;
        now.calls = 0;
        goes_on = arrive();
    } else if (is_call) {
        now.calls++;
        goes_on = arrive();
    }
    is_call = memcmp((const void *)pc, "\x0f\x05", 2) == 0;
    return goes_on && does_step();
}

#if STEP_WORKS

static bool is_shared(uintptr_t at)
{
    for (unsigned i = 0; i < n_ranges; i++)
        if (at >= ranges[i].from && at < ranges[i].to)
            return true;
    return false;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *thread = context;
    uintptr_t page = (uintptr_t)info->si_addr & ~(uintptr_t)(PAGE_BYTES - 1);
    if (!is_shared(page) || n_open == OPEN_MAX) {
        signal(number, SIG_DFL); /* no fault of ours: it comes again, and ends us */
        return;
    }
    mprotect((void *)page, PAGE_BYTES, PROT_READ | PROT_WRITE);
    if (!is_on)
        return;
    open_pages[n_open++] = page;
    thread->uc_mcontext.gregs[REG_EFL] |= 0x100; /* one instruction, then on_step() */
}

static void begin(uintptr_t function)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, NULL);
    now = (struct touch_point){0};
    n_open = 0;
    is_begun = is_call = false;
    is_on = true;
    if (function != 0)
        step_begin_at(function, on_step, NULL);
    else
        step_begin(on_step, NULL);
}

#else

static void begin(uintptr_t function)
{
    (void)function;
    (void)on_step;
}

#endif

void touch_note(struct touch_points *points, uintptr_t function)
{
    noted = points;
    noted->n = 0;
    noted->n_steps = 0;
    begin(function);
}

void touch_at(struct touch_point point, uintptr_t function, touch_action *action, void *context)
{
    noted = NULL;
    wanted = point;
    act = action;
    act_context = context;
    begin(function);
}

void touch_opens(_Atomic int *gate, uint32_t stores)
{
    opens = gate;
    opens_after = stores;
}

bool touch_end(void)
{
    bool was_on = is_on;
    leave();
    opens = NULL;
    step_end();
    return !was_on;
}
