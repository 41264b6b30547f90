/* child.c: other processes of a test. */
#include "child.h"

#include "await.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

struct child child_start(int (*body)(void *context), void *context)
{
    struct child child = {.pid = fork()};
    cr_assert_geq(child.pid, 0, "fork failed");
    if (child.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(body(context));
    }
    return child;
}

int child_join(struct child *child)
{
    int status = 0;
    pid_t ended = 0;
    if (!await_that((ended = waitpid(child->pid, &status, WNOHANG)) != 0)) {
        child_kill(child);
        return -1;
    }
    if (ended < 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void child_kill(struct child *child)
{
    kill(child->pid, SIGKILL);
    waitpid(child->pid, NULL, 0);
}

void child_stop(struct child *child)
{
    kill(child->pid, SIGSTOP);
    waitpid(child->pid, NULL, WUNTRACED);
}

void child_continue(struct child *child)
{
    kill(child->pid, SIGCONT);
}

bool child_is_running(struct child *child)
{
    return waitpid(child->pid, NULL, WNOHANG) == 0;
}

bool child_kill_at_call(int (*body)(void *context), void *context, unsigned k)
{
    struct child child = child_start(body, context);
    int status = 0;
    cr_assert_eq(waitpid(child.pid, &status, 0), child.pid);
    cr_assert(WIFSTOPPED(status), "no ptrace: status %#x", (unsigned)status);
    for (unsigned i = 0; i < k; i++) {
        cr_assert_eq(ptrace(PTRACE_SYSCALL, child.pid, NULL, NULL), 0);
        cr_assert_eq(waitpid(child.pid, &status, 0), child.pid);
        if (WIFEXITED(status)) {
            cr_assert_eq(WEXITSTATUS(status), 0);
            return false;
        }
    }
    child_kill(&child);
    return true;
}

void child_execute(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it is each thread's own */
    execl("/bin/sleep", "sleep", "1000", (char *)NULL);
}

void *child_shared(size_t len)
{
    void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(memory, MAP_FAILED, "mmap failed");
    return memory;
}
