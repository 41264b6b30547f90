/* children.c: the processes of services and programs: started, watched, hurt, and gone before we are.
 *
 *   start    fork and exec of our own program: a process of its own, which shares nothing with us but bus and folder
 *   program  of somebody else: out of our process group, or Ctrl-C would end it before we do (our services do not
 *            listen to that signal)
 *   parent   PR_SET_PDEATHSIG: the kernel kills them with us, however we end; getppid() tells when we were faster
 *   watch    an end that nobody has ordered is a failure of the demo, at once and by name */
#include "conductor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child, between fork and exec: system calls only. */
static void become(const char *path, const char *const *arguments, pid_t parent, int log)
{
    union {
        const char *const *in;
        char *const *out; /* execv() promises not to write to them */
    } argv = {.in = arguments};
    bool is_ready = prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
    if (log >= 0)
        is_ready = is_ready && setpgid(0, 0) == 0 && dup2(log, STDOUT_FILENO) >= 0 && dup2(log, STDERR_FILENO) >= 0;
    if (is_ready)
        (void)execv(path, argv.out);
    _exit(127);
}

static struct child *start(struct demo *demo, const struct child *as, const char *path, const char *const *arguments,
                           int log)
{
    pid_t parent = getpid();
    struct child *child = demo->n_children < CHILDREN_MAX ? &demo->children[demo->n_children] : NULL;
    pid_t pid = child != NULL ? fork() : -1;
    if (pid == 0)
        become(path, arguments, parent, log);
    if (pid < 0) {
        complain("cannot start %s: %s", as->name, strerror(errno));
        return NULL;
    }
    *child = *as;
    child->pid = pid;
    demo->n_children++;
    return child;
}

struct child *child_start(struct demo *demo, const struct service_kind *kind, unsigned member)
{
    char number[16];
    const char *arguments[] = {demo->program,  "--service", kind->name, "--member", number,     "--bus",
                               demo->bus_name, "--dir",     demo->dir,  "--data",   demo->data, NULL};
    struct child as = {.name = kind->name,
                       .role = kind->handle != NULL ? CONSUMER : PRODUCER,
                       .kind = kind,
                       .member = member,
                       .is_to_end = kind->handle == NULL};
    (void)snprintf(number, sizeof number, "%u", member);
    return start(demo, &as, demo->program, arguments, -1);
}

struct child *program_start(struct demo *demo, enum role role, const char *path, const char *const *arguments,
                            const char *log)
{
    struct child as = {.name = arguments[0], .role = role};
    int fd = path_in(as.log, demo->dir, log) ? open(as.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0) {
        complain("%s/%s: %s", demo->dir, log, strerror(errno));
        return NULL;
    }
    struct child *child = start(demo, &as, path, arguments, fd);
    (void)close(fd);
    return child;
}

static bool is_program(const char *dir, size_t len, const char *name, char out_path[PATH_BYTES])
{
    int n = snprintf(out_path, PATH_BYTES, "%.*s/%s", (int)len, dir, name);
    return len > 0 && n > 0 && n < PATH_BYTES && access(out_path, X_OK) == 0;
}

bool program_find(const struct demo *demo, const char *name, char out_path[PATH_BYTES])
{
    char built[PATH_BYTES];
    const char *slash = strrchr(demo->program, '/');
    size_t len = slash != NULL ? (size_t)(slash - demo->program) : 0;
    const char *path = getenv("PATH");
    (void)snprintf(built, sizeof built, "../bridge/%.64s", name);
    if (is_program(demo->program, len, name, out_path) || is_program(demo->program, len, built, out_path))
        return true;
    for (; path != NULL; path = path[len] == ':' ? path + len + 1 : NULL) {
        len = strcspn(path, ":");
        if (is_program(path, len, name, out_path))
            return true;
    }
    return false;
}

/* Its folder will be gone before somebody could look there. */
static void show_log(const struct child *child)
{
    char line[600] = "";
    FILE *file = child->kind == NULL ? fopen(child->log, "re") : NULL;
    if (file == NULL)
        return;
    if (fseek(file, -2000, SEEK_END) == 0)
        (void)fgets(line, sizeof line, file); /* of that line we do not have the beginning */
    while (fgets(line, sizeof line, file) != NULL)
        complain("%s says: %.*s", child->name, (int)strcspn(line, "\n"), line);
    (void)fclose(file);
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
        complain("%s was killed by signal %d", child->name, WTERMSIG(status));
    else
        complain("%s ended with exit code %d", child->name, WEXITSTATUS(status));
    show_log(child);
    return false;
}

bool children_look(struct demo *demo)
{
    bool is_good = true;
    for (; demo != NULL; demo = demo->other)
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
    for (struct demo *host = demo; host != NULL; host = host->other)
        for (size_t i = 0; i < host->n_children; i++) {
            n += host->children[i].pid != 0;
            child_signal(&host->children[i], SIGKILL);
        }
    for (struct demo *host = demo; host != NULL; host = host->other)
        for (size_t i = 0; i < host->n_children; i++)
            child_kill(&host->children[i]);
    return n;
}

void children_end(struct demo *demo, enum role role)
{
    for (; demo != NULL; demo = demo->other)
        for (size_t i = 0; i < demo->n_children; i++)
            if (demo->children[i].role == role) {
                demo->children[i].is_to_end = true;
                child_signal(&demo->children[i], SIGTERM);
            }
}

bool children_are_gone(const struct demo *demo, enum role role)
{
    for (; demo != NULL; demo = demo->other)
        for (size_t i = 0; i < demo->n_children; i++)
            if (demo->children[i].pid != 0 && demo->children[i].role == role)
                return false;
    return true;
}
