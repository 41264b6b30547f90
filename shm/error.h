/* error.h: code -> text, and the message of this thread's last failure.
 *
 * A function that fails says so once, at the place that knows what was found:
 *     return error_set(err, EVBUS_EINVAL, "topic \"%s\" has %u segments; 3 or 4 are allowed", name, n);
 * and the code travels up as it is. The message names the thing, what was found, and the mend. */
#ifndef EVBUS_ERROR_H
#define EVBUS_ERROR_H

#include <evbus/evbus.h>

struct error {
    char text[512]; /* NUL-terminated UTF-8; cut, never overrun */
};

/* Writes the message (err may be NULL) and returns code. */
__attribute__((format(printf, 3, 4))) int error_set(struct error *err, enum evbus_code code, const char *format, ...);

/* Puts "<prefix>: " before the message that is there. Returns code. */
__attribute__((format(printf, 3, 4))) int error_prefix(struct error *err, int code, const char *format, ...);

/* EVBUS_ENOSPC: no memory for that, and what helps. */
__attribute__((format(printf, 2, 3))) int error_no_memory(struct error *err, const char *format, ...);

/* What helps against an errno, as the end of a message: "; ...". */
const char *error_mend(int number);

/* This thread's message, as evbus_message() gives it out. Never NULL. */
struct error *error_of_thread(void);

#endif
