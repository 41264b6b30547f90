/* daemon.c: a redis-server, an evbus-bridge or another daemon of a benchmark's own.
 *
 *   start   fork, exec; what it says goes to a file, whose end is shown where something fails. It dies with whoever has started it, and so
 *           with the benchmark, however that ends
 *   stop    SIGTERM, or what the daemon takes for it, and it must end by itself with exit code 0: a bridge that has not drained fails the benchmark
 *   redis   one connection is tried until it is taken. Its file and its log are in a folder beside the bus's journal, so both are written to
 *           the same disk; `appendfsync` is the caller's, no snapshots, no rewrite of the file while something is measured
 *   bridge  the program that was built with us, or $BRIDGE; its own defaults, but for the ways that it goes. What it does is seen on the bus and
 *           in Redis, so nobody waits for it here
 *
 * CPU time is the kernel's clock of that process, in ns: user and system, of all threads. */
#include "daemon.h"

#include "measure.h"
#include "own_bus.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_US = 1000, WORDS_MAX = 48 };

/* --- any of them -------------------------------------------------------------------------------------------------- */

bool program_find(const char *name, char *out, size_t size)
{
    static const char daemons[] = "/usr/sbin";
    const char *path = getenv("PATH");
    for (const char *at = path != NULL ? path : daemons; at != NULL;) {
        size_t len = strcspn(at, ":");
        snprintf(out, size, "%.*s/%s", (int)len, at, name);
        if (access(out, X_OK) == 0)
            return true;
        at = at[len] != '\0' ? at + len + 1 : NULL;
    }
    snprintf(out, size, "%s/%s", daemons, name);
    return access(out, X_OK) == 0;
}

/* In the child. */
static _Noreturn void become(const char *const *words, int output, pid_t parent)
{
    char *copies[WORDS_MAX + 1] = {NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* ours waits for children_run() */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; i < WORDS_MAX && words[i] != NULL; i++)
        copies[i] = strdup(words[i]);
    if (getppid() == parent && dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0)
        execvp(copies[0], copies);
    dprintf(STDERR_FILENO, "%s: %s\n", words[0], strerror(errno));
    _exit(127);
}

static pid_t start(const char *const *words, int output)
{
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        become(words, output, parent);
    if (pid < 0)
        fails("fork: %s", strerror(errno));
    return pid;
}

int daemon_start(struct daemon *out, const char *const *words, const char *folder, const char *name)
{
    snprintf(out->log, sizeof out->log, "%.560s/%s.log", folder, name);
    int output = open(out->log, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (output < 0)
        return fails("%s: %s", out->log, strerror(errno));
    out->pid = start(words, output);
    close(output);
    return out->pid > 0 ? 0 : 1;
}

bool daemon_has_ended(struct daemon *daemon, int *out_status)
{
    if (waitpid(daemon->pid, out_status, WNOHANG) != daemon->pid)
        return false;
    daemon->pid = 0;
    return true;
}

int daemon_stop(struct daemon *daemon, const char *what)
{
    int status = 0, rc = 0;
    if (daemon->pid <= 0)
        return 0;
    kill(daemon->pid, daemon->end_signal != 0 ? daemon->end_signal : SIGTERM);
    for (uint64_t since = now_ns(); !daemon_has_ended(daemon, &status);) {
        if (now_ns() - since > 3 * PATIENCE_NS) {
            kill(daemon->pid, SIGKILL);
            waitpid(daemon->pid, &status, 0);
            daemon->pid = 0;
            break;
        }
        usleep(LOOK_US);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fails("%s did not end as it should: status %#x", what, (unsigned)status);
        rc = daemon_fails(daemon, what);
    }
    unlink(daemon->log);
    return rc;
}

uint64_t daemon_cpu_ns(const struct daemon *daemon)
{
    clockid_t clock;
    struct timespec now;
    if (clock_getcpuclockid(daemon->pid, &clock) != 0 || clock_gettime(clock, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int daemon_fails(const struct daemon *daemon, const char *what)
{
    char text[4096];
    int in = open(daemon->log, O_RDONLY | O_CLOEXEC);
    off_t size = in >= 0 ? lseek(in, 0, SEEK_END) : 0;
    off_t from = size > (off_t)sizeof text ? size - (off_t)sizeof text : 0;
    ssize_t n = in >= 0 ? pread(in, text, sizeof text, from) : 0;
    if (in >= 0)
        close(in);
    return fails("%s has said:\n%.*s", what, n > 0 ? (int)n : 0, text);
}

/* --- evbus-bridge ------------------------------------------------------------------------------------------------- */

/* As the build has it: bench/NAME beside bridge/evbus-bridge. */
static void find_bridge(char *out, size_t size)
{
    const char *given = getenv("BRIDGE");
    char self[512] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *name = n > 0 ? strrchr(self, '/') : NULL;
    if (name != NULL)
        *name = '\0';
    if (given != NULL)
        snprintf(out, size, "%s", given);
    else
        snprintf(out, size, "%s/../bridge/evbus-bridge", self);
}

int bridge_start(struct daemon *out, const char *bus, const char *socket, const char *folder, int is_out, int is_in)
{
    char program[600], url[128], name[128];
    find_bridge(program, sizeof program);
    snprintf(url, sizeof url, "unix://%s", socket);
    snprintf(name, sizeof name, "bridge-%.100s", bus);
    const char *const words[] = {program,
                                 "--config",
                                 "/dev/null",
                                 "--bus",
                                 bus,
                                 "--redis",
                                 url,
                                 "--set",
                                 is_out ? "out=yes" : "out=no",
                                 "--set",
                                 is_in ? "in=yes" : "in=no",
                                 NULL};
    if (access(program, X_OK) != 0)
        return fails("%s: %s; build evbus-bridge, or say by $BRIDGE where it is", program, strerror(errno));
    return daemon_start(out, words, folder, name);
}

int bridge_stop(struct daemon *bridge)
{
    return daemon_stop(bridge, "evbus-bridge");
}

/* --- redis-server ------------------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int flag, struct FTW *where)
{
    (void)status;
    (void)flag;
    (void)where;
    return remove(path);
}

int folder_remove(const char *folder)
{
    return folder[0] != '\0' ? nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS) : 0;
}

static void clear_away(struct redis *redis)
{
    folder_remove(redis->place);
    folder_remove(redis->folder);
    *redis = (struct redis){0};
}

static int make_places(struct redis *redis)
{
    const char *temporary = getenv("TMPDIR");
    char place[sizeof redis->place];
    snprintf(place, sizeof place, "%.40s/evbus-bench-XXXXXX", temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(place) == NULL)
        return fails("%s: %s", place, strerror(errno));
    memcpy(redis->place, place, sizeof place);
    snprintf(redis->socket, sizeof redis->socket, "%s/redis", redis->place);
    snprintf(redis->folder, sizeof redis->folder, "%s/redis", own_bus_folder());
    if (mkdir(redis->folder, 0700) == 0)
        return 0;
    fails("%s: %s", redis->folder, strerror(errno));
    redis->folder[0] = '\0';
    return 1;
}

static bool answers(const struct redis *redis)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", redis->socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char answer[8] = "";
    bool does = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
                write(fd, "PING\r\n", 6) == 6 && read(fd, answer, sizeof answer - 1) > 0 &&
                strncmp(answer, "+PONG", 5) == 0;
    if (fd >= 0)
        close(fd);
    return does;
}

int redis_start(struct redis *redis, const char *fsync)
{
    *redis = (struct redis){0};
    if (make_places(redis) != 0) {
        clear_away(redis);
        return 1;
    }
    const char *const words[] = {"redis-server",
                                 "--port",
                                 "0",
                                 "--unixsocket",
                                 redis->socket,
                                 "--save",
                                 "",
                                 "--appendonly",
                                 fsync != NULL ? "yes" : "no",
                                 "--appendfsync",
                                 fsync != NULL ? fsync : "no",
                                 "--auto-aof-rewrite-percentage",
                                 "0",
                                 "--dir",
                                 redis->folder,
                                 NULL};
    int rc = daemon_start(&redis->daemon, words, redis->folder, "redis"), status;
    for (uint64_t since = now_ns(); rc == 0 && !answers(redis); usleep(LOOK_US))
        if (daemon_has_ended(&redis->daemon, &status) || now_ns() - since > PATIENCE_NS)
            rc = daemon_fails(&redis->daemon, "redis-server (Debian: redis-server) does not answer; it");
    if (rc != 0)
        redis_stop(redis);
    return rc;
}

int redis_stop(struct redis *redis)
{
    int rc = daemon_stop(&redis->daemon, "redis-server");
    clear_away(redis);
    return rc;
}

/* "...: 123456.78 requests per second, p50=..." */
static double read_rate(const char *text)
{
    const char *end = strstr(text, " requests per second"), *at = end;
    if (end == NULL)
        return 0;
    while (at > text && strchr("0123456789.", at[-1]) != NULL)
        at--;
    return strtod(at, NULL);
}

int redis_benchmark(const struct redis *redis, size_t n, unsigned clients, unsigned pipeline, const char *const *words,
                    size_t n_words, double *out_per_s)
{
    static char text[1 << 20];
    char numbers[3][24];
    const char *all[WORDS_MAX] = {"redis-benchmark", "-s", redis->socket, "-n", numbers[0], "-c",
                                  numbers[1],        "-P", numbers[2],    "-q"};
    size_t at = 10, len = 0;
    int pipes[2], status = 0;
    snprintf(numbers[0], sizeof numbers[0], "%zu", n);
    snprintf(numbers[1], sizeof numbers[1], "%u", clients);
    snprintf(numbers[2], sizeof numbers[2], "%u", pipeline);
    for (size_t i = 0; i < n_words && at < WORDS_MAX - 1; i++)
        all[at++] = words[i];
    if (pipe2(pipes, O_CLOEXEC) != 0)
        return fails("pipe: %s", strerror(errno));
    pid_t pid = start(all, pipes[1]);
    close(pipes[1]);
    for (ssize_t got; pid > 0 && (got = read(pipes[0], text + len, sizeof text - 1 - len)) > 0;)
        len += (size_t)got;
    text[len] = '\0';
    close(pipes[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 1;
    *out_per_s = read_rate(text);
    return status == 0 && *out_per_s > 0
               ? 0
               : fails("redis-benchmark (Debian: redis-tools): status %#x: %s", (unsigned)status, text);
}
