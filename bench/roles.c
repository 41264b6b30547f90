/* roles.c: who runs where. A benchmark's roles are processes of their own, each pinned to a processor of its own.
 *
 *   placement  the first usable processor, then those that are closest to all before: another core, the same L3. On
 *              one processor, or where pinning is refused, the line above the table says so and all goes on.
 *   children   forked before anything of the bus is opened, so each has a handle of its own, as a service has. They
 *              meet at a barrier and hand samples back in memory that both sides had before the fork.
 *   the end    a child dies with its parent (PDEATHSIG); when one child fails the others are killed. The parent
 *              measures nothing: signals are blocked and taken with sigtimedwait, so it can always clear away.
 *
 * Roles pin themselves after they have opened the bus: the keeper's thread inherits no pinning, it runs where it may. */
#include "roles.h"

#include "measure.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILDREN_MAX 12

/* Is `other` in the list ("0-3,8") that this file of /sys shows for cpu? -1: no such file. */
static int is_in_list(int cpu, const char *file, int other)
{
    char path[128], text[1024];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/%s", cpu, file);
    FILE *in = fopen(path, "r");
    bool was_read = in != NULL && fgets(text, sizeof text, in) != NULL;
    if (in != NULL)
        fclose(in);
    if (!was_read)
        return -1;
    for (char *at = text; *at >= '0' && *at <= '9';) {
        long first = strtol(at, &at, 10), last = *at == '-' ? strtol(at + 1, &at, 10) : first;
        if (other >= first && other <= last)
            return 1;
        at += *at == ',';
    }
    return 0;
}

static int are_siblings(int a, int b)
{
    return is_in_list(a, "topology/thread_siblings_list", b);
}

static int share_l3(int a, int b)
{
    return is_in_list(a, "cache/index3/shared_cpu_list", b);
}

/* The greater, the closer two processors are without sharing a core. */
static int fitness(int a, int b)
{
    return (are_siblings(a, b) == 1 ? 0 : 2) + (share_l3(a, b) == 1);
}

void placement_choose(struct placement *placement)
{
    cpu_set_t usable;
    *placement = (struct placement){0};
    if (sched_getaffinity(0, sizeof usable, &usable) != 0)
        CPU_ZERO(&usable);
    placement->n_cpus = CPU_COUNT(&usable);
    while (placement->n < BENCH_CPUS_MAX && placement->n < placement->n_cpus) {
        int best = -1, best_fitness = -1;
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            bool is_free = CPU_ISSET((size_t)cpu, &usable);
            int worst = 3;
            for (int i = 0; i < placement->n; i++) {
                is_free = is_free && placement->cpu[i] != cpu;
                int with = is_free ? fitness(placement->cpu[i], cpu) : 0;
                worst = with < worst ? with : worst;
            }
            if (is_free && worst > best_fitness)
                best = cpu, best_fitness = worst;
        }
        placement->cpu[placement->n++] = best;
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    if (placement->n > 0)
        CPU_SET((size_t)placement->cpu[0], &one);
    placement->can_pin = placement->n > 0 && sched_setaffinity(0, sizeof one, &one) == 0;
    if (placement->can_pin)
        sched_setaffinity(0, sizeof usable, &usable);

    char *at = placement->text, *end = at + sizeof placement->text;
    at += snprintf(at, (size_t)(end - at), "cpus");
    for (int i = 0; i < placement->n; i++)
        at += snprintf(at, (size_t)(end - at), " %d", placement->cpu[i]);
    if (placement->n < 2) {
        snprintf(at, (size_t)(end - at), ": ONE processor; what spins is left out, the rest shares it");
        return;
    }
    int siblings = are_siblings(placement->cpu[0], placement->cpu[1]),
        l3 = share_l3(placement->cpu[0], placement->cpu[1]);
    snprintf(at, (size_t)(end - at), " of %d usable (the first two %s, %s), %s", placement->n_cpus,
             siblings < 0 ? "of unknown kin"
             : siblings   ? "SMT SIBLINGS"
                          : "are different cores",
             l3 < 0 ? "L3 unknown"
             : l3   ? "one L3"
                    : "L3 NOT shared",
             placement->can_pin ? "pinned" : "NOT PINNED: refused");
}

bool placement_is_enough(const struct placement *placement, int n_roles)
{
    return placement->n >= n_roles;
}

void placement_pin(const struct placement *placement, int role)
{
    cpu_set_t one;
    if (!placement->can_pin || role >= placement->n)
        return;
    CPU_ZERO(&one);
    CPU_SET((size_t)placement->cpu[role], &one);
    sched_setaffinity(0, sizeof one, &one); /* it worked a moment ago; if not, the figures show it */
}

void machine_print(FILE *to, const struct placement *placement, const char *prefix, const char *version)
{
    struct utsname kernel;
    char line[256], model[128] = "unknown";
    FILE *in = fopen("/proc/cpuinfo", "r");
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        if (sscanf(line, "model name : %127[^\n]", model) == 1)
            break;
    if (in != NULL)
        fclose(in);
    if (uname(&kernel) != 0)
        memset(&kernel, 0, sizeof kernel);
    const char *commit = getenv("EVBUS_BENCH_COMMIT");
#ifdef __clang__
    const char *compiler = "";
#else
    const char *compiler = "gcc ";
#endif
#ifdef __OPTIMIZE__
    const char *build = "optimised";
#else
    const char *build = "NOT OPTIMISED";
#endif
    fprintf(to, "%smachine    %s, %ld processors, %s\n", prefix, model, sysconf(_SC_NPROCESSORS_ONLN), kernel.machine);
    fprintf(to, "%skernel     %s %s\n", prefix, kernel.sysname, kernel.release);
    fprintf(to, "%sbuild      evbus %s, %s%s, %s\n", prefix, version, compiler, __VERSION__, build);
    fprintf(to, "%scommit     %s\n", prefix, commit != NULL ? commit : "not given (EVBUS_BENCH_COMMIT)");
    fprintf(to, "%splacement  %s\n", prefix, placement->text);
}

void *shared_new(size_t len_bytes)
{
    void *shared = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return shared == MAP_FAILED ? NULL : shared;
}

void shared_free(void *shared, size_t len_bytes)
{
    if (shared != NULL)
        munmap(shared, len_bytes);
}

void barrier_wait(struct barrier *barrier, uint32_t n_roles)
{
    atomic_fetch_add_explicit(&barrier->n_ready, 1, memory_order_acq_rel);
    while (atomic_load_explicit(&barrier->n_ready, memory_order_acquire) < n_roles)
        sched_yield(); /* who dies before it gets here takes us along: children_run() */
}

static void awaited_signals(sigset_t *out_set)
{
    sigemptyset(out_set);
    sigaddset(out_set, SIGCHLD);
    sigaddset(out_set, SIGINT);
    sigaddset(out_set, SIGTERM);
    sigaddset(out_set, SIGHUP);
}

void children_prepare(void)
{
    sigset_t set;
    awaited_signals(&set);
    signal(SIGCHLD, SIG_DFL); /* ignored, children would leave no exit code */
    sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Takes the exit of whoever has ended. Returns false when one of them failed. */
static bool reap(pid_t *pids, int n, int *out_n_left)
{
    bool all_well = true;
    *out_n_left = 0;
    for (int i = 0; i < n; i++) {
        int status = 0;
        if (pids[i] > 0 && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
            all_well = all_well && WIFEXITED(status) && WEXITSTATUS(status) == 0;
            if (WIFSIGNALED(status))
                fails("a measuring process died of signal %d", WTERMSIG(status));
            pids[i] = 0;
        }
        *out_n_left += pids[i] > 0;
    }
    return all_well;
}

int children_run(int n, int (*role)(void *shared, int index), void *shared)
{
    sigset_t set;
    pid_t pids[CHILDREN_MAX] = {0}, parent = getpid();
    int n_left = 0, rc = 0;
    awaited_signals(&set);
    fflush(NULL); /* or every child would have our unwritten lines too */
    for (int i = 0; i < n && rc == 0; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            sigprocmask(SIG_UNBLOCK, &set, NULL);
            _exit(getppid() != parent ? 1 : role(shared, i)); /* it may have died before the prctl */
        }
        if (pids[i] < 0)
            rc = fails("fork: %s", strerror(errno));
    }
    while (rc == 0) {
        rc = reap(pids, n, &n_left) ? 0 : 1;
        if (rc != 0 || n_left == 0)
            break;
        int sig = sigtimedwait(&set, NULL, &(struct timespec){.tv_sec = 1});
        if (sig > 0 && sig != SIGCHLD)
            rc = 128 + sig;
    }
    for (int i = 0; i < n; i++)
        if (pids[i] > 0) {
            kill(pids[i], SIGKILL);
            waitpid(pids[i], NULL, 0);
        }
    return rc;
}
