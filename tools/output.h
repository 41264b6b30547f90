/* output.h: what the tool says, how it waits, and how it ends. See output.c. */
#ifndef EVBUS_TOOLS_OUTPUT_H
#define EVBUS_TOOLS_OUTPUT_H

#include <evbus/evbus.h>

#include <signal.h>

/* Exit codes that scripts rely on; most numbers are those of sysexits.h. */
enum {
    EXIT_DONE = 0,
    EXIT_NO = 1,             /* the answer is no: not found, count not reached, doctor found something */
    EXIT_USAGE = 2,          /* the command line is wrong */
    EXIT_DATA = 65,          /* the data is wrong */
    EXIT_NO_BUS = 69,        /* no bus, or not this one any more */
    EXIT_CORRUPT = 70,       /* shared memory, or we ourselves */
    EXIT_CANNOT_CREATE = 73, /* no room, or it is there already */
    EXIT_IO = 74,
    EXIT_TRY_AGAIN = 75,
    EXIT_DENIED = 77,
    EXIT_CATALOGUE = 78
};

/* Where did what the library refused come from? EVBUS_EINVAL is 2 or 65 by this. */
enum blame { BLAME_COMMAND_LINE, BLAME_DATA };

/* The exit code for one of the library's. */
int exit_of(int code, enum blame blame);

/* "evbus: <message>" on standard error; standard output is flushed before, so that the two keep their order on a
 * terminal. complain() returns exit_code; complain_of() says what the library said about its last failure. */
__attribute__((format(printf, 2, 3))) int complain(int exit_code, const char *format, ...);
int complain_of(int code, enum blame blame);

/* First and last thing in main(): safe descriptors, no SIGPIPE; the last bytes written, and the exit code that results.
 */
void output_begin(void);
int output_end(int exit_code);

/* Nobody reads standard output any more: end quietly. The second one looks (a system call), the first remembers. */
bool output_is_closed(void);
bool output_has_hung_up(void);

/* Has all that was printed so far been written? Flushes. */
bool output_is_written(void);

/* Flushes what has been printed. */
void output_flush(void);

/* From this call on SIGINT and SIGTERM ask us to stop, instead of killing us; asked a second time: at once. */
void stop_on_signals(void);
bool is_stopping(void);
bool is_stopping_now(void);

/* For who has something in hand that a signal must not cut in two: between hold and let go the two signals are taken by
 * wait_held() alone, which sleeps until one of fds is ready (true), or we are asked to stop at once, or were asked to stop so long ago
 * (UINT64_MAX: however long; false). */
struct pollfd;
void stop_signals_hold(sigset_t *out_before);
void stop_signals_let_go(const sigset_t *before);
bool wait_held(struct pollfd *fds, size_t n_fds, uint64_t stop_timeout_ns, const sigset_t *before);

/* Waits until fd (-1: none) is readable, or ns have passed, or we are asked to stop, or standard output hangs up.
 * True: fd is readable. */
bool wait_for(int fd, uint64_t ns);

uint64_t monotonic_ns(void);
uint64_t realtime_ns(void);

/* "2026-02-01T09:30:00.123Z" */
void format_time(uint64_t ns, char out_text[32]);

/* An eventId, lower case. */
void format_id(const uint8_t id[16], char out_text[37]);

/* memory, disk or broker. */
const char *ack_name(enum evbus_ack ack);

double mebibytes(uint64_t bytes);

/* On standard output: a JSON string with its quotes; text for a terminal, in which no byte is a control character; a
 * payload on one line, its raw CR and LF blanks. */
void print_json(const char *text, size_t len);
void print_plain(const char *text, size_t len);
void print_payload(const char *text, size_t len);

#endif
