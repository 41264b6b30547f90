/* children.c: the services' processes: started, watched, hurt, and gone before we are.
 *
 *   start    fork and exec of our own program: a process of its own, which shares nothing with us but bus and folder
 *   parent   PR_SET_PDEATHSIG: the kernel kills them with us, however we end; getppid() tells when we were faster
 *   watch    an end that nobody has ordered is a failure of the demo, at once and by name */
#include "conductor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct child *child_start(struct demo *demo, const struct service_kind *kind, unsigned member)
{
    char number[16];
    const char *arguments[] = {demo->program,  "--service", kind->name, "--member", number,     "--bus",
                               demo->bus_name, "--dir",     demo->dir,  "--data",   demo->data, NULL};
    pid_t parent = getpid();
    struct child *child = demo->n_children < CHILDREN_MAX ? &demo->children[demo->n_children] : NULL;
    (void)snprintf(number, sizeof number, "%u", member);
    pid_t pid = child != NULL ? fork() : -1;
    if (pid == 0) { /* between fork and exec: system calls only */
        union {
            const char **in;
            char *const *out; /* execv() promises not to write to them */
        } argv = {.in = arguments};
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent)
            (void)execv(demo->program, argv.out);
        _exit(127);
    }
    if (pid < 0) {
        complain("cannot start %s: %s", kind->name, strerror(errno));
        return NULL;
    }
    *child = (struct child){.kind = kind, .member = member, .pid = pid, .is_to_end = kind->handle == NULL};
    demo->n_children++;
    return child;
}

static bool look(struct child *child)
{
    int status = 0;
    if (child->pid == 0 || waitpid(child->pid, &status, WNOHANG) != child->pid)
        return true;
    child->pid = 0;
    if (child->is_to_end && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS)
        return true;
    if (WIFSIGNALED(status))
        complain("%s was killed by signal %d", child->kind->name, WTERMSIG(status));
    else
        complain("%s ended with exit code %d", child->kind->name, WEXITSTATUS(status));
    return false;
}

bool children_look(struct demo *demo)
{
    bool is_good = true;
    for (size_t i = 0; i < demo->n_children; i++)
        is_good = look(&demo->children[i]) && is_good;
    return is_good;
}

void child_signal(struct child *child, int signal_number)
{
    if (child->pid != 0)
        (void)kill(child->pid, signal_number); /* ours and not waited for: it is there */
}

bool child_await_stop(struct child *child)
{
    int status = 0;
    return child->pid != 0 && waitpid(child->pid, &status, WUNTRACED) == child->pid && WIFSTOPPED(status);
}

void child_kill(struct child *child)
{
    if (child->pid == 0)
        return;
    (void)kill(child->pid, SIGKILL);
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    child->pid = 0;
}

unsigned children_kill(struct demo *demo)
{
    unsigned n = 0;
    for (size_t i = 0; i < demo->n_children; i++) {
        n += demo->children[i].pid != 0;
        child_signal(&demo->children[i], SIGKILL);
    }
    for (size_t i = 0; i < demo->n_children; i++)
        child_kill(&demo->children[i]);
    return n;
}

bool children_are_gone(const struct demo *demo, bool handling)
{
    for (size_t i = 0; i < demo->n_children; i++)
        if (demo->children[i].pid != 0 && (demo->children[i].kind->handle != NULL) == handling)
            return false;
    return true;
}
