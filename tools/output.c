/* output.c: what the tool says, how it waits, and how it ends.
 *
 *   who reads    standard output is for the next program, standard error for the person: results go to the one; errors,
 *                warnings, progress and summaries to the other.
 *   buffers      standard output is fully buffered. A terminal sees each line at once; a pipe sees everything before we
 *                wait (output_flush() stands in front of every wait), so no line is held back while nothing comes.
 *   closed       who closes our output has seen enough: SIGPIPE is ignored, EPIPE ends us quietly with 0. While we
 *                wait nothing is written and EPIPE cannot come, so every wait looks for the pipe's hang-up as well.
 *   descriptors  0, 1 and 2 are opened on /dev/null when the caller had closed them: else the next object that the
 *                library opens would get number 1, and our lines would go to shared memory.
 *   signals      the handler writes a byte to a pipe that wait_for() looks at: a signal between "shall I stop?" and the
 *                wait is not lost. A SIGINT that our parent told us to ignore (nohup) stays ignored.
 *
 * Checked by tests/cli/test_cli.sh. */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char stdout_buffer[1 << 16];
static bool stdout_is_closed;
static int stdout_errno; /* 0: every write went well */
static volatile sig_atomic_t stop_asked;
static int stop_pipe[2] = {-1, -1};

int exit_of(int code, enum blame blame)
{
    switch ((enum evbus_code)code) {
    case EVBUS_OK:
        return EXIT_DONE;
    case EVBUS_ENOTFOUND:
    case EVBUS_ETIMEOUT:
        return EXIT_NO;
    case EVBUS_EINVAL:
        return blame == BLAME_DATA ? EXIT_DATA : EXIT_USAGE;
    case EVBUS_ENOBUS:
    case EVBUS_ESTALE:
    case EVBUS_ELAYOUT:
        return EXIT_NO_BUS;
    case EVBUS_ENOSPC:
    case EVBUS_ELIMIT:
    case EVBUS_EDUPLICATE: /* from `init`: cannot create what is there */
    case EVBUS_ECONFLICT:
    case EVBUS_EEXHAUSTED:
        return EXIT_CANNOT_CREATE;
    case EVBUS_EIO:
        return EXIT_IO;
    case EVBUS_EFULL:
    case EVBUS_EAGAIN:
    case EVBUS_EPAUSED:
    case EVBUS_EBUSY: /* somebody else is making groups, or applies a catalogue */
        return EXIT_TRY_AGAIN;
    case EVBUS_EDENIED:
    case EVBUS_EPERM:
        return EXIT_DENIED;
    case EVBUS_ECATALOGUE:
    case EVBUS_ECONFIG:
        return EXIT_CATALOGUE;
    case EVBUS_ECORRUPT:
    case EVBUS_EFORKED:
    case EVBUS_EFENCED:
        break;
    }
    return EXIT_CORRUPT; /* the last two need a bug of ours */
}

int complain(int exit_code, const char *format, ...)
{
    char text[2048]; /* one write, so that lines of several processes do not mix */
    va_list values;
    va_start(values, format);
    int len = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    output_flush();
    (void)fprintf(stderr, "evbus: %s\n", len < 0 ? format : text); /* nowhere to say that stderr fails */
    return exit_code;
}

int complain_of(int code, enum blame blame)
{
    const char *message = evbus_message(NULL);
    return complain(exit_of(code, blame), "%s", message[0] != '\0' ? message : evbus_strerror(code));
}

void output_begin(void)
{
    for (int fd = 0; fd <= 2; ++fd)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd)
            _Exit(EXIT_IO);
    (void)signal(SIGPIPE, SIG_IGN); /* cannot fail: SIGPIPE is a signal */
    (void)setvbuf(stdout, stdout_buffer, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, sizeof stdout_buffer);
}

void output_flush(void)
{
    if (stdout_is_closed || fflush(stdout) == 0)
        return;
    stdout_errno = errno;
    stdout_is_closed = true;
}

bool output_is_closed(void)
{
    if (!stdout_is_closed && ferror(stdout))
        output_flush(); /* what could not be written is still there: trying again tells why */
    return stdout_is_closed;
}

bool output_has_hung_up(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = 0};
    if (poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0)
        stdout_is_closed = true;
    return stdout_is_closed;
}

bool output_is_written(void)
{
    bool has_failed = ferror(stdout) != 0;
    output_flush();
    return !has_failed && !output_is_closed();
}

int output_end(int exit_code)
{
    output_flush();
    if (stdout_errno != 0 && stdout_errno != EPIPE) {
        (void)fprintf(stderr, "evbus: standard output: %s\n", strerror(stdout_errno));
        return exit_code == EXIT_DONE ? EXIT_IO : exit_code;
    }
    return exit_code;
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

static void ask_to_stop(int signal_number)
{
    (void)signal_number;
    int kept = errno;
    stop_asked = stop_asked == 0 ? 1 : 2;
    ssize_t written = write(stop_pipe[1], "", 1);
    (void)written; /* full: then a byte is there already */
    errno = kept;
}

void stop_on_signals(void)
{
    if (stop_pipe[0] >= 0)
        return;
    if (pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return; /* then a signal kills us, as it does everyone */
    struct sigaction act = {.sa_handler = ask_to_stop}, before;
    (void)sigemptyset(&act.sa_mask);
    (void)sigaction(SIGTERM, &act, NULL);
    if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        (void)sigaction(SIGINT, &act, NULL);
}

bool is_stopping(void)
{
    return stop_asked != 0;
}

bool is_stopping_now(void)
{
    return stop_asked > 1;
}

void stop_signals_hold(sigset_t *out_before)
{
    sigset_t held;
    (void)sigemptyset(&held);
    (void)sigaddset(&held, SIGINT);
    (void)sigaddset(&held, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &held, out_before); /* cannot fail: SIG_BLOCK is a way to change a mask */
}

void stop_signals_let_go(const sigset_t *before)
{
    (void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

bool wait_held(struct pollfd *fds, size_t n_fds, uint64_t stop_timeout_ns, const sigset_t *before)
{
    static uint64_t stopping_since_ns; /* when we noticed it first */
    while (!is_stopping_now()) {
        struct timespec left, *timeout = NULL;
        if (is_stopping() && stop_timeout_ns != UINT64_MAX) {
            uint64_t now = monotonic_ns();
            stopping_since_ns = stopping_since_ns != 0 ? stopping_since_ns : now;
            if (now - stopping_since_ns >= stop_timeout_ns)
                return false;
            uint64_t ns = stop_timeout_ns - (now - stopping_since_ns);
            left = (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
            timeout = &left;
        }
        if (ppoll(fds, (nfds_t)n_fds, timeout, before) > 0)
            return true;
    }
    return false;
}

bool wait_for(int fd, uint64_t ns)
{
    struct pollfd fds[] = {
        {.fd = fd, .events = POLLIN},
        {.fd = stop_pipe[0], .events = POLLIN},
        {.fd = stdout_is_closed ? -1 : STDOUT_FILENO, .events = 0},
    };
    struct timespec timeout = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    if (is_stopping() || ppoll(fds, 3, &timeout, NULL) <= 0)
        return false;
    if ((fds[2].revents & (POLLERR | POLLHUP)) != 0)
        stdout_is_closed = true;
    return fds[0].revents != 0;
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now); /* cannot fail: both clocks exist */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t monotonic_ns(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

uint64_t realtime_ns(void)
{
    return now_ns(CLOCK_REALTIME);
}

/* --- text --------------------------------------------------------------------------------------------------------- */

void format_time(uint64_t ns, char out_text[32])
{
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm utc;
    char text[24] = "";
    if (gmtime_r(&seconds, &utc) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc) == 0)
        text[0] = '\0';
    (void)snprintf(out_text, 32, "%.19s.%03uZ", text, (unsigned)(ns / 1000000 % 1000));
}

void format_id(const uint8_t id[16], char out_text[37])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out_text++ = '-';
        *out_text++ = digits[id[i] >> 4];
        *out_text++ = digits[id[i] & 15];
    }
    *out_text = '\0';
}

const char *ack_name(enum evbus_ack ack)
{
    static const char *const names[] = {"log", "memory", "disk", "broker"};
    return (unsigned)ack < sizeof names / sizeof names[0] ? names[ack] : "unknown";
}

double mebibytes(uint64_t bytes)
{
    return (double)bytes / (1024 * 1024);
}

void print_json(const char *text, size_t len)
{
    putchar_unlocked('"');
    for (size_t i = 0; i < len; ++i) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            (void)printf("\\%c", c);
        else if (c < 0x20)
            (void)printf("\\u%04x", c);
        else
            putchar_unlocked(c);
    }
    putchar_unlocked('"');
}

void print_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; ++i) {
        unsigned char c = (unsigned char)text[i];
        bool is_c1 = c == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0; /* U+0080 to U+009F */
        if (c < 0x20 || c == 0x7f)
            (void)printf("\\x%02x", c);
        else if (is_c1)
            (void)printf("\\x%02x", (unsigned char)text[++i]);
        else
            putchar_unlocked(c);
    }
}

void print_payload(const char *text, size_t len)
{
    for (size_t i = 0; i < len; ++i)
        putchar_unlocked(text[i] == '\n' || text[i] == '\r' ? ' ' : text[i]);
}
