/* step.c: do something at a thread's n-th machine instruction. See step.h. */
#include "step.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

extern const char __executable_start[], etext[]; /* the linker's */

static step_callback *callback;
static void *callback_context;
static uint64_t n_steps;

bool step_is_ours(uintptr_t pc)
{
    return pc >= (uintptr_t)__executable_start && pc < (uintptr_t)etext;
}

#if STEP_WORKS

#define TRAP_FLAG  0x100u
#define INT3       0xccu
#define PAGE_BYTES 4096u

static unsigned char *breakpoint; /* where the stepping is to begin; NULL: it has */
static unsigned char under_breakpoint;

static void on_trap(int number, siginfo_t *info, void *context)
{
    ucontext_t *thread = context;
    (void)number;
    (void)info;
    if (breakpoint != NULL) {
        *breakpoint = under_breakpoint;
        thread->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)breakpoint;
        thread->uc_mcontext.gregs[REG_EFL] |= (greg_t)TRAP_FLAG;
        breakpoint = NULL;
        return;
    }
    n_steps++;
    if (!callback(callback_context, n_steps, (uintptr_t)thread->uc_mcontext.gregs[REG_RIP]))
        thread->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

static void catch_traps(step_callback *at, void *context)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO | SA_NODEFER; /* a callback may jump out */
    sigaddset(&action.sa_mask, SIGUSR1);       /* one that it raises comes right after it, as if at the instruction */
    sigaction(SIGTRAP, &action, NULL);
    callback = at;
    callback_context = context;
    n_steps = 0;
}

void step_begin(step_callback *at, void *context)
{
    catch_traps(at, context);
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | TRAP_FLAG);
}

static void catch_by(void (*handler)(int number, siginfo_t *info, void *context))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, NULL);
}

/* Where that fails there are no steps, which the caller sees. */
static void break_at(uintptr_t pc)
{
    void *page = (void *)(pc & ~(uintptr_t)(PAGE_BYTES - 1));
    if (mprotect(page, PAGE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        return;
    breakpoint = (unsigned char *)pc;
    under_breakpoint = *breakpoint;
    *breakpoint = INT3;
}

void step_begin_at(uintptr_t function, step_callback *at, void *context)
{
    catch_traps(at, context);
    break_at(function);
}

static struct step_path *noted;

/* One instruction of ours is stepped; of what it calls elsewhere only the way back to us is waited for. */
static void on_note(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    if (info->si_code == SI_KERNEL && registers[REG_RIP] == (greg_t)(uintptr_t)breakpoint + 1) {
        *breakpoint = under_breakpoint;
        registers[REG_RIP]--;
    }
    uintptr_t pc = (uintptr_t)registers[REG_RIP];
    uintptr_t back = *(const uintptr_t *)(uintptr_t)registers[REG_RSP];
    registers[REG_EFL] |= (greg_t)TRAP_FLAG;
    if (step_is_ours(pc) && pc != (uintptr_t)step_end) {
        if (noted->n++ < STEP_PATH_MAX)
            noted->at[noted->n - 1] = (uint32_t)(pc - (uintptr_t)__executable_start);
        return;
    }
    if (pc == (uintptr_t)step_end || step_is_ours(back))
        registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    if (pc != (uintptr_t)step_end && step_is_ours(back))
        break_at(back);
}

void step_note(struct step_path *path, uintptr_t function)
{
    noted = path;
    path->n = 0;
    catch_by(on_note);
    break_at(function);
}

static pid_t killed_thread;
static uint32_t visits_left;

/* The breakpoint, or the step behind it, after which it is set again. */
static void on_visit(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    if (info->si_code == SI_KERNEL && registers[REG_RIP] == (greg_t)(uintptr_t)breakpoint + 1) {
        if (gettid() == killed_thread && --visits_left == 0)
            kill(getpid(), SIGKILL);
        *breakpoint = under_breakpoint;
        registers[REG_RIP]--;
        registers[REG_EFL] |= (greg_t)TRAP_FLAG;
    } else {
        *breakpoint = INT3;
        registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    }
}

void step_kill_at(const struct step_path *path, uint32_t i)
{
    catch_by(on_visit);
    killed_thread = gettid();
    visits_left = 0;
    for (uint32_t k = 0; k <= i; k++)
        visits_left += path->at[k] == path->at[i];
    break_at((uintptr_t)__executable_start + path->at[i]);
}

uint64_t step_end(void)
{
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~(unsigned long long)TRAP_FLAG);
    return n_steps;
}

#else

void step_begin(step_callback *at, void *context)
{
    callback = at;
    callback_context = context;
}

void step_begin_at(uintptr_t function, step_callback *at, void *context)
{
    (void)function;
    step_begin(at, context);
}

void step_note(struct step_path *path, uintptr_t function)
{
    (void)path;
    (void)function;
}

void step_kill_at(const struct step_path *path, uint32_t i)
{
    (void)path;
    (void)i;
}

uint64_t step_end(void)
{
    return n_steps;
}

#endif

bool step_kill(void *context, uint64_t n, uintptr_t pc)
{
    (void)pc;
    if (n == *(const uint64_t *)context)
        kill(getpid(), SIGKILL);
    return true;
}

bool step_count(void *context, uint64_t n, uintptr_t pc)
{
    (void)context;
    (void)n;
    (void)pc;
    return true;
}

bool step_stop_in_ours(void *context, uint64_t n, uintptr_t pc)
{
    struct step_ours *ours = context;
    (void)n;
    if (step_is_ours(pc))
        ours->n++;
    if (ours->n != ours->wanted || ours->wanted == 0)
        return true;
    kill(getpid(), SIGSTOP);
    return false;
}
