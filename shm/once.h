/* once.h: what evbus-sqlite and evbus-postgres share: each has a copy, and neither has anything else of libevbus. */
#ifndef EVBUS_ONCE_INSIDE_H
#define EVBUS_ONCE_INSIDE_H

#include <evbus/once.h>

#define ONCE_IN_TRANSACTION                                                                                            \
    "the connection is in a transaction already, or busy: give evbus_once_*() one of its own, and end what was begun " \
    "on it"
#define ONCE_MISSING "an argument is missing, or an age is 0"
#define ONCE_ENDED                                                                                                  \
    "the handler said done, and the transaction of its event was over: it must not commit or roll back by itself, " \
    "and "                                                                                                          \
    "not say done where a statement has failed"
#define ONCE_PRUNE_BATCH 1000u /* rows in one transaction: some ms for which others wait */

/* Into a handler's error text, which may be NULL; line ends at its end are left out. */
void once_tell(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, and returns the code. */
int once_fail(int code, char *error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* What becomes of an event for which begin has answered this, and not EVBUS_OK. */
enum evbus_outcome once_not_begun(int rc);

#endif
