/* exec.c: a shell command as the handler of an event.
 *
 *     the envelope's line -> a file in memory -> standard input: no pipe that fills, whether CMD reads it or not
 *     CMD's standard error -> pipe -> ours, as it comes; its last line that is not blank is why the event failed
 *     CMD's standard output is ours; that of a filter (an upcaster) is a file in memory, read when it has ended
 *
 *   its answer   its exit code; of 79 (not now) its last line is how long: 30s. No such line: as 69
 *   its end      seen by its pidfd, not by the end of its standard error: what CMD left in the background may keep that
 *                open for ever.
 *   signals      CMD is in a process group of its own, so Ctrl-C on a terminal reaches only us: the running event is
 *                finished first. Asked a second time, or when that takes too long, we kill the group.
 *   our death    PR_SET_PDEATHSIG kills CMD's shell with us, also by kill -9: the next member starts the event anew,
 *                and two commands must not be at it. We may have died between fork and prctl: so the child looks for
 *                its parent behind it.
 *
 * Between fork and exec only what is safe in a signal handler is called: the library has threads.
 * Checked by tests/cli/test_groups.sh. */
#include "exec.h"
#include "args.h"
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define PRINTED_BYTES_MAX (4 << 20) /* of a filter; what the bus takes is less, and the library says it */

enum { VARIABLES = 11, EXIT_REJECT = 65, EXIT_RELEASE = 69, EXIT_DEFER = 79 };

/* The last line of what came so far. */
struct last_line {
    char text[EVBUS_ERROR_MAX + 1]; /* the line before */
    char open[EVBUS_ERROR_MAX + 1]; /* the line that has not ended yet; its first bytes */
    size_t open_len;
};

struct command {
    pid_t pid;
    int pid_fd;
    int stdin_fd;
    int stdout_fd; /* -1: ours */
    int stderr_fds[2];
    char *variables[VARIABLES];
    char **environment;
    struct last_line last;
};

/* --- the last line ------------------------------------------------------------------------------------------------ */

static void end_line(struct last_line *last)
{
    last->open[last->open_len] = '\0';
    if (last->open[strspn(last->open, " \t\r")] != '\0')
        memcpy(last->text, last->open, sizeof last->text);
    last->open_len = 0;
}

static void see(struct last_line *last, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; ++i)
        if (bytes[i] == '\n')
            end_line(last);
        else if (last->open_len < EVBUS_ERROR_MAX && bytes[i] != '\0')
            last->open[last->open_len++] = bytes[i];
}

/* How many bytes the UTF-8 character at `text` has; 0: it is none, or is cut off. */
static size_t character_len(const unsigned char *text)
{
    size_t len = text[0] < 0x80 ? 1 : text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
    if (text[0] > 0xf4 || (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    for (size_t i = 1; i < len; ++i)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/* What a dead letter holds is UTF-8: a byte that is none becomes "?", a character that is cut off at the end goes. */
static void make_utf8(char *text)
{
    unsigned char *at = (unsigned char *)text;
    while (*at != '\0') {
        size_t len = character_len(at), left = strlen((const char *)at);
        if (len == 0 && *at >= 0xc2 && left < 4 && strlen(text) == EVBUS_ERROR_MAX)
            *at = '\0';
        else if (len == 0)
            *at++ = '?';
        else
            at += len;
    }
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

static const char *text_or_none(const char *text)
{
    return text != NULL ? text : "";
}

static int make_variables(struct command *command, const struct evbus_delivery *event)
{
    char id[37];
    format_id(event->id, id);
    if (asprintf(&command->variables[0], "EVBUS_TOPIC=%s", event->topic) < 0 ||
        asprintf(&command->variables[1], "EVBUS_EVENT_ID=%s", id) < 0 ||
        asprintf(&command->variables[2], "EVBUS_KEY=%s", event->key) < 0 ||
        asprintf(&command->variables[3], "EVBUS_ATTEMPT=%u", event->attempt) < 0 ||
        asprintf(&command->variables[4], "EVBUS_CORRELATION_ID=%s", text_or_none(event->correlation_id)) < 0 ||
        asprintf(&command->variables[5], "EVBUS_CAUSATION_ID=%s", text_or_none(event->causation_id)) < 0 ||
        asprintf(&command->variables[6], "TRACEPARENT=%s", text_or_none(event->traceparent)) < 0 ||
        asprintf(&command->variables[7], "TRACESTATE=%s", text_or_none(event->tracestate)) < 0 ||
        asprintf(&command->variables[8], "EVBUS_AFTER_GAP=%d", event->is_after_gap) < 0 ||
        asprintf(&command->variables[9], "EVBUS_REPLAYED=%u", event->replayed) < 0)
        return ENOMEM;
    return 0;
}

/* Ours, and behind them the variables that are made. */
static int make_environment(struct command *command, uint16_t major, uint16_t minor)
{
    size_t n = 0, kept = 0;
    if (asprintf(&command->variables[VARIABLES - 1], "EVBUS_VERSION=%u.%u", major, minor) < 0)
        return ENOMEM;
    while (environ[n] != NULL)
        ++n;
    command->environment = calloc(n + VARIABLES + 1, sizeof *command->environment);
    if (command->environment == NULL)
        return ENOMEM;
    for (size_t i = 0; i < n; ++i) {
        bool is_ours = false;
        for (size_t v = 0; v < VARIABLES; ++v)
            is_ours = is_ours ||
                      (command->variables[v] != NULL &&
                       strncmp(environ[i], command->variables[v], strcspn(command->variables[v], "=") + 1) == 0);
        if (!is_ours)
            command->environment[kept++] = environ[i];
    }
    for (size_t v = 0; v < VARIABLES; ++v)
        if (command->variables[v] != NULL)
            command->environment[kept++] = command->variables[v];
    return 0;
}

static int make_stdin(struct command *command, const char *text, size_t len)
{
    command->stdin_fd = memfd_create("evbus-envelope", MFD_CLOEXEC);
    if (command->stdin_fd < 0)
        return errno;
    for (size_t written = 0; written <= len;) {
        ssize_t n = written < len ? write(command->stdin_fd, text + written, len - written)
                                  : write(command->stdin_fd, "\n", 1);
        if (n < 0)
            return errno;
        written += (size_t)n;
    }
    return lseek(command->stdin_fd, 0, SEEK_SET) < 0 ? errno : 0;
}

/* In the child. */
_Noreturn static void become(const struct command *command, const char *text, pid_t parent, const sigset_t *mask)
{
    static const char shell[] = "/bin/sh";
    const char *const words[] = {"sh", "-c", text, NULL};
    union {
        const char *const *given;
        char *const *taken; /* execve() changes none of them, but says so to nobody */
    } argv = {.given = words};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(EXIT_RELEASE);
    (void)setpgid(0, 0); /* the parent does it as well: whoever is first */
    (void)signal(SIGPIPE, SIG_DFL);
    if (dup2(command->stdin_fd, STDIN_FILENO) < 0 ||
        (command->stdout_fd >= 0 && dup2(command->stdout_fd, STDOUT_FILENO) < 0) ||
        dup2(command->stderr_fds[1], STDERR_FILENO) < 0 || sigprocmask(SIG_SETMASK, mask, NULL) != 0)
        _exit(EXIT_RELEASE);
    (void)execve(shell, argv.taken, command->environment);
    static const char message[] = "/bin/sh cannot be run\n";
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    (void)written; /* nowhere to say that standard error fails */
    _exit(EXIT_RELEASE);
}

/* 0 or an errno. */
static int start(struct command *command, const char *text, const sigset_t *mask)
{
    if (pipe2(command->stderr_fds, O_CLOEXEC) != 0 || fcntl(command->stderr_fds[0], F_SETFL, O_NONBLOCK) != 0)
        return errno;
    pid_t parent = getpid();
    command->pid = fork();
    if (command->pid < 0)
        return errno;
    if (command->pid == 0)
        become(command, text, parent, mask);
    (void)setpgid(command->pid, command->pid); /* fails when the child has been faster */
    (void)close(command->stderr_fds[1]);       /* only handed on */
    command->stderr_fds[1] = -1;
    command->pid_fd = (int)syscall(SYS_pidfd_open, command->pid, 0);
    return command->pid_fd < 0 ? errno : 0;
}

/* --- its end ------------------------------------------------------------------------------------------------------ */

/* Hands on what is there of its standard error; false: it is closed. */
static bool pass_on(struct command *command)
{
    char bytes[4096];
    ssize_t n = read(command->stderr_fds[0], bytes, sizeof bytes);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    see(&command->last, bytes, (size_t)n);
    for (ssize_t done = 0; done < n;) {
        ssize_t written = write(STDERR_FILENO, bytes + done, (size_t)(n - done));
        if (written < 0 && errno != EINTR)
            break; /* nowhere to say that standard error fails */
        done += written > 0 ? written : 0;
    }
    return true;
}

/* True: it has ended; false: we are asked to stop at once, or were asked to stop and it takes too long. */
static bool await_end(struct command *command, uint64_t stop_timeout_ns, const sigset_t *mask)
{
    struct pollfd fds[] = {{.fd = command->pid_fd, .events = POLLIN}, {.fd = command->stderr_fds[0], .events = POLLIN}};
    while (fds[0].revents == 0) {
        if (!wait_held(fds, 2, stop_timeout_ns, mask))
            return false;
        if (fds[1].revents != 0 && !pass_on(command))
            fds[1].fd = -1;
    }
    struct pollfd rest = {.fd = fds[1].fd, .events = POLLIN};
    for (int i = 0; i < 64 && poll(&rest, 1, 0) == 1 && pass_on(command); ++i)
        ; /* what it wrote last; a child of its own that writes on and on does not hold us */
    end_line(&command->last);
    return true;
}

static void judge(struct command *command, int status, struct exec_result *result)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result->outcome = code == 0              ? EVBUS_DONE
                      : code == EXIT_REJECT  ? EVBUS_REJECT
                      : code == EXIT_RELEASE ? EVBUS_RELEASE
                      : code == EXIT_DEFER   ? EVBUS_DEFER
                                             : EVBUS_RETRY;
    if (result->outcome == EVBUS_DONE)
        return;
    if (result->outcome == EVBUS_DEFER &&
        (!args_read_duration(command->last.text, &result->defer_ns) || result->defer_ns == 0)) {
        (void)complain(EXIT_DONE, "exit 79, but its last line \"%.80s\" is no duration, as in 30s: taken as 69",
                       command->last.text);
        result->defer_ns = 0;
    }
    result->is_missing = code == 126 || code == 127; /* the shell could not start it */
    make_utf8(command->last.text);
    if (command->last.text[0] != '\0')
        memcpy(result->error, command->last.text, sizeof result->error);
    else if (code >= 0)
        (void)snprintf(result->error, sizeof result->error, "exit %d", code);
    else
        (void)snprintf(result->error, sizeof result->error, "killed by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
}

static void clean_up(struct command *command)
{
    const int fds[] = {command->pid_fd, command->stdin_fd, command->stdout_fd, command->stderr_fds[0],
                       command->stderr_fds[1]};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; ++i)
        if (fds[i] >= 0)
            (void)close(fds[i]); /* nothing of ours is in them */
    for (size_t i = 0; i < VARIABLES; ++i)
        free(command->variables[i]);
    free(command->environment);
}

/* Starts it and waits for its end; `number` is why it cannot, if it is not 0. Returns as exec_command(). */
static int run_to_its_end(struct command *command, int number, const char *text, uint64_t stop_timeout_ns,
                          struct exec_result *out_result)
{
    int exit_code = EXIT_DONE, status = 0;
    sigset_t before;
    stop_signals_hold(&before);
    if (number == 0)
        number = start(command, text, &before);
    if (number != 0)
        exit_code = complain(EXIT_CANNOT_CREATE, "cannot run the command: %s", strerror(number));
    else if (!await_end(command, stop_timeout_ns, &before))
        exit_code = EXIT_TRY_AGAIN;
    if (exit_code != EXIT_DONE && command->pid > 0)
        (void)kill(-command->pid, SIGKILL);
    if (command->pid > 0)
        while (waitpid(command->pid, &status, 0) < 0 && errno == EINTR)
            ;
    if (exit_code == EXIT_DONE)
        judge(command, status, out_result);
    stop_signals_let_go(&before);
    return exit_code;
}

static const struct command none = {.pid = -1, .pid_fd = -1, .stdin_fd = -1, .stdout_fd = -1, .stderr_fds = {-1, -1}};

int exec_command(const char *text, const struct evbus_delivery *event, const char *envelope, size_t envelope_len,
                 uint64_t stop_timeout_ns, struct exec_result *out_result)
{
    struct command command = none;
    *out_result = (struct exec_result){.outcome = EVBUS_RELEASE};
    int number = make_variables(&command, event);
    if (number == 0)
        number = make_environment(&command, event->version_major, event->version_minor);
    if (number == 0)
        number = make_stdin(&command, envelope, envelope_len);
    int exit_code = run_to_its_end(&command, number, text, stop_timeout_ns, out_result);
    clean_up(&command);
    return exit_code;
}

/* All that it has printed. 0 or an errno. */
static int read_stdout(const struct command *command, char **out_text, size_t *out_len)
{
    off_t size = lseek(command->stdout_fd, 0, SEEK_END);
    char *text = size >= 0 && size < PRINTED_BYTES_MAX ? malloc((size_t)size + 1) : NULL;
    ssize_t n = 0;
    size_t len = 0;
    if (text == NULL)
        return size < 0 ? errno : size < PRINTED_BYTES_MAX ? ENOMEM : EFBIG;
    while (len < (size_t)size && (n = pread(command->stdout_fd, text + len, (size_t)size - len, (off_t)len)) > 0)
        len += (size_t)n;
    if (n < 0) {
        free(text);
        return errno;
    }
    text[len] = '\0';
    *out_text = text;
    *out_len = len;
    return 0;
}

int exec_filter(const char *text, const struct evbus_version *from, char **out_text, size_t *out_len,
                struct exec_result *out_result)
{
    struct command command = none;
    *out_result = (struct exec_result){.outcome = EVBUS_RELEASE};
    int number = make_environment(&command, from->major, from->minor);
    if (number == 0)
        number = make_stdin(&command, from->payload, from->payload_len);
    if (number == 0 && (command.stdout_fd = memfd_create("evbus-payload", MFD_CLOEXEC)) < 0)
        number = errno;
    int exit_code = run_to_its_end(&command, number, text, EXEC_STOP_TIMEOUT_NS, out_result);
    if (exit_code == EXIT_DONE && out_result->outcome == EVBUS_DONE &&
        (number = read_stdout(&command, out_text, out_len)) != 0) {
        out_result->outcome = number == EFBIG ? EVBUS_REJECT : EVBUS_RELEASE;
        (void)snprintf(out_result->error, sizeof out_result->error, "what it prints: %s", strerror(number));
    }
    clean_up(&command);
    return exit_code;
}
