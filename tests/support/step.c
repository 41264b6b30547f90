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

void step_begin_at(uintptr_t function, step_callback *at, void *context)
{
    catch_traps(at, context);
    void *page = (void *)(function & ~(uintptr_t)(PAGE_BYTES - 1));
    if (mprotect(page, PAGE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        return; /* then there are no steps, which the caller sees */
    breakpoint = (unsigned char *)function;
    under_breakpoint = *breakpoint;
    *breakpoint = INT3;
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
