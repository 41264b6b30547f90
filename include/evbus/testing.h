/* testing.h: the engine as test double. A bus of the test's own, time that stands still, and faults where they hurt: the same
 * code that runs in production, so what passes here holds there. For tests only: clock and faults are the process's. */
#ifndef EVBUS_TESTING_H
#define EVBUS_TESTING_H

#include <evbus/admin.h>
#include <evbus/evbus.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A bus of its own name, made of a catalogue (NULL: the shipped one), opened as `service`. Its rings may be as small as 4 KiB where
 *  the catalogue says "tests": true. Removed by evbus_test_close(), and when the process ends by exit().
 *  Returns as evbus_init() and evbus_open(); EVBUS_ELIMIT (64 of them in one process). Since 0.1. */
EVBUS_API int evbus_test_open(struct evbus **out_bus, const char *catalogue, const char *service);

/** The name of a handle's bus, for other processes and handles. Lives as long as the handle. */
EVBUS_API const char *evbus_test_name(const struct evbus *bus);

/** Closes and removes it. NULL is fine. */
EVBUS_API void evbus_test_close(struct evbus *bus);

/** From now on wall and monotonic time of this process stand still: waits of groups, patience, ids, timestamps, timeouts. */
EVBUS_API void evbus_test_clock_freeze(void);

/** Time goes on by so much at once, and whoever sleeps on the bus looks at it anew. */
EVBUS_API void evbus_test_clock_advance(struct evbus *bus, uint64_t ns);

/** Real time again. */
EVBUS_API void evbus_test_clock_release(void);

/** Kill this process (SIGKILL) the n-th time from now that it comes to a point; 0: not any more. The points:
 *
 *      publish.claimed    the cells are claimed, nothing is written     group.running    about to be handed to a handler
 *      publish.written    written, not committed                        group.finishing  handled, not acknowledged
 *      publish.committed  committed, nobody woken                       group.finished   acknowledged
 *      group.taken        an entry, the cursor has not moved            dead.published   the dead letter is there, its entry, too
 *
 *  Events of a batch that follow each other into the same partition are claimed, written and committed together, up to 32.
 *  Returns EVBUS_OK; EVBUS_ENOTFOUND (no such point). */
EVBUS_API int evbus_test_crash_at(const char *point, unsigned n);

/** Make the call that comes there the n-th time fail with this code (publish.claimed, dead.published do). */
EVBUS_API int evbus_test_fail_at(const char *point, unsigned n, enum evbus_code code);

/** Wait until a group has handled all that it has (lag 0, nothing pending). EVBUS_OK; EVBUS_ETIMEOUT; EVBUS_ENOTFOUND. In real
 *  time, whatever the clock says. */
EVBUS_API int evbus_test_await_handled(struct evbus *bus, const char *group, uint64_t timeout_ns);

#ifdef __cplusplus
}
#endif

#endif
