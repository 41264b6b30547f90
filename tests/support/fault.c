/* fault.c: the n-th system call of a child fails. See fault.h. */
#include "fault.h"

#include "child.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define END_MARK 0x656e646d61726bL /* an argument of getppid(), which has none: fault_end() */

#if FAULT_WORKS

#define ERRORS_MAX 5

/* The likely errors of a call. futex() is here by its waits: a wake does not fail. brk() is not: malloc() asks mmap() next. */
static const struct call {
    long number;
    const char *name;
    int errors[ERRORS_MAX]; /* 0: no more */
    bool is_made;           /* it has done its work when it fails */
} calls[] = {
    {SYS_openat, "openat", {EMFILE, ENFILE, ENOMEM, EACCES, ENOSPC}, false},
    {SYS_close, "close", {EINTR, EIO}, true},
    {SYS_fstat, "fstat", {ENOMEM}, false},
    {SYS_newfstatat, "newfstatat", {ENOMEM, EACCES}, false},
    {SYS_fchmod, "fchmod", {EPERM, EROFS, EIO}, false},
    {SYS_fchown, "fchown", {EPERM, EROFS, EIO}, false},
    {SYS_flock, "flock", {EINTR, ENOLCK, EAGAIN}, false},
    {SYS_fcntl, "fcntl", {EAGAIN, EACCES, EINTR, ENOLCK}, false},
    {SYS_ftruncate, "ftruncate", {ENOSPC, EINTR, EFBIG, EIO}, false},
    {SYS_fallocate, "fallocate", {ENOSPC, EINTR, EFBIG, EIO}, false},
    {SYS_unlink, "unlink", {EACCES, EBUSY, EIO, EROFS}, false},
    {SYS_getdents64, "getdents64", {EIO}, false},
    {SYS_read, "read", {EINTR, EIO}, false},
    {SYS_pread64, "pread64", {EINTR, EIO}, false},
    {SYS_statfs, "statfs", {EINTR, EIO, ENOSYS}, false},
    {SYS_write, "write", {EAGAIN, EINTR, EIO}, false},
    {SYS_pread64, "pread64", {EINTR, EIO, FAULT_SHORT}, false},
    {SYS_pwrite64, "pwrite64", {EINTR, EIO, ENOSPC, EDQUOT, FAULT_SHORT}, false},
    {SYS_fsync, "fsync", {EINTR, EIO, ENOSPC}, false},
    {SYS_fdatasync, "fdatasync", {EINTR, EIO, ENOSPC}, false},
    {SYS_rename, "rename", {EIO, ENOSPC, EACCES}, false},
    {SYS_link, "link", {EIO, ENOSPC, EACCES, EPERM}, false},
    {SYS_mkdir, "mkdir", {EIO, ENOSPC, EACCES, EROFS}, false},
    {SYS_chmod, "chmod", {EPERM, EROFS, EIO}, false},
    {SYS_chown, "chown", {EPERM, EROFS, EIO}, false},
    {SYS_rmdir, "rmdir", {EACCES, EBUSY, EIO}, false},
    {SYS_mmap, "mmap", {ENOMEM, EAGAIN, EPERM, ENODEV}, false},
    {SYS_mprotect, "mprotect", {ENOMEM}, false},
    {SYS_madvise, "madvise", {EINVAL, ENOMEM, EAGAIN}, false},
    {SYS_getrandom, "getrandom", {EINTR, ENOSYS, EAGAIN}, false},
    {SYS_eventfd2, "eventfd2", {EMFILE, ENFILE, ENODEV, ENOMEM}, false},
    {SYS_prctl, "prctl", {EINVAL}, false},
    {SYS_clone3, "clone3", {EAGAIN, ENOMEM, ENOSYS}, false},
    {SYS_clone, "clone", {EAGAIN, ENOMEM}, false},
    {SYS_clock_nanosleep, "clock_nanosleep", {EINTR}, false},
    {SYS_futex, "futex", {EINTR, EAGAIN, ETIMEDOUT}, false},
    {449, "futex_waitv", {ENOSYS, EINTR, EAGAIN, EPERM, ENOMEM}, false},
};

static unsigned n_errors(const struct call *call, const struct __ptrace_syscall_info *info)
{
    unsigned n = 0;
    while (n < ERRORS_MAX && call->errors[n] != 0)
        n++;
    if (call->number == SYS_flock)
        return (info->entry.args[1] & LOCK_NB) != 0 ? n : n - 1; /* who waits is not told to come again */
    if (call->number != SYS_futex)
        return n;
    int operation = (int)info->entry.args[1] & FUTEX_CMD_MASK;
    if (operation != FUTEX_WAIT && operation != FUTEX_WAIT_BITSET && operation != FUTEX_LOCK_PI)
        return 0;
    return info->entry.args[3] != 0 ? n : n - 1; /* without a limit none is over */
}

/* A call of the C library's, not of a sanitizer's runtime. The child's addresses are ours. */
static bool is_of_libc(uint64_t pc)
{
    Dl_info found;
    return dladdr((const void *)pc, &found) != 0 && strstr(found.dli_fname, "libc.so") != NULL;
}

static const struct call *call_of(const struct __ptrace_syscall_info *info)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if ((uint64_t)calls[i].number == info->entry.nr && n_errors(&calls[i], info) > 0 &&
            is_of_libc(info->instruction_pointer))
            return &calls[i];
    return NULL;
}

/* What the tracer knows. */
struct trace {
    struct fault *fault;
    pid_t child;
    uint64_t len; /* that the call was asked for */
    pid_t struck; /* thread in the call that fails; 0: it is still to come, or over */
    unsigned n_calls;
    bool is_over; /* let them run */
};

static void enter_call(struct trace *trace, pid_t thread, const struct __ptrace_syscall_info *info)
{
    struct fault *fault = trace->fault;
    if (info->entry.nr == SYS_getppid && info->entry.args[0] == END_MARK)
        trace->is_over = true;
    const struct call *call = call_of(info);
    if (trace->is_over || trace->struck != 0 || call == NULL || (thread != trace->child) != fault->of_others ||
        ++trace->n_calls != fault->nth)
        return;
    unsigned n = n_errors(
        call, info); /* the nth may be another call than last time: some are made once or twice, by chance */
    fault->call = call->name;
    fault->error = call->errors[fault->which_error < n ? fault->which_error : n - 1];
    fault->has_more_errors = fault->which_error + 1 < n;
    trace->struck = thread;
    trace->len = info->entry.args[2];
    if (fault->error == FAULT_SHORT)
        ptrace(PTRACE_POKEUSER, thread, offsetof(struct user_regs_struct, rdx), (long)(trace->len + 1) / 2);
    else if (!call->is_made)
        ptrace(PTRACE_POKEUSER, thread, offsetof(struct user_regs_struct, orig_rax), -1L);
}

static void leave_call(struct trace *trace, pid_t thread)
{
    if (thread != trace->struck)
        return;
    if (trace->fault->error == FAULT_SHORT)
        ptrace(PTRACE_POKEUSER, thread, offsetof(struct user_regs_struct, rdx), (long)trace->len);
    else
        ptrace(PTRACE_POKEUSER, thread, offsetof(struct user_regs_struct, rax), -(long)trace->fault->error);
    trace->fault->has_struck = true;
    trace->is_over = true;
}

/* A thread has stopped. */
static void go_on(struct trace *trace, pid_t thread, int status)
{
    int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) {
        struct __ptrace_syscall_info info = {0};
        ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info);
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
            enter_call(trace, thread, &info);
        else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
            leave_call(trace, thread);
        signal = 0;
    } else if (status >> 16 != 0 || (signal == SIGSTOP && thread != trace->child)) {
        signal = 0; /* a thread begins */
    }
    ptrace(trace->is_over ? PTRACE_DETACH : PTRACE_SYSCALL, thread, NULL, (long)signal);
}

int fault_run(struct fault *fault, int (*body)(void *context), void *context)
{
    struct child child = child_start(body, context);
    struct trace trace = {.fault = fault, .child = child.pid};
    int status = 0;
    fault->has_struck = fault->has_more_errors = false;
    cr_assert_eq(waitpid(child.pid, &status, 0), child.pid);
    if (WIFSTOPPED(status)) {
        ptrace(PTRACE_SETOPTIONS, child.pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
        ptrace(PTRACE_SYSCALL, child.pid, NULL, NULL);
        for (pid_t thread; (thread = waitpid(-1, &status, __WALL)) > 0;) {
            if (WIFSTOPPED(status))
                go_on(&trace, thread, status);
            else if (thread == child.pid)
                break;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void fault_begin(void)
{
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
}

void fault_end(void)
{
    syscall(SYS_getppid, END_MARK);
}

#else

int fault_run(struct fault *fault, int (*body)(void *context), void *context)
{
    (void)fault;
    (void)body;
    (void)context;
    return -1;
}

void fault_begin(void)
{
}

void fault_end(void)
{
}

#endif

unsigned fault_each(const struct fault_case *trial)
{
    unsigned n = 0;
    unsigned step = getenv("EVBUS_QUICK") != NULL ? 7 : 1;
    if (!FAULT_WORKS || getenv("EVBUS_SLOW") != NULL)
        return 0;
    for (struct fault fault = {.nth = 1};;) {
        trial->arrange(trial->context);
        int status = fault_run(&fault, trial->act, trial->context);
        if (!fault.has_struck)
            return n;
        n++;
        trial->check(trial->context, &fault, status);
        if (fault.has_more_errors) {
            fault.which_error++;
        } else {
            fault.which_error = 0;
            fault.nth += step;
        }
    }
}
