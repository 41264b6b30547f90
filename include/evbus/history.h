/* history.h: what was: find an event and what became of it, look at the journal's files, copy them, go back in them. For the CLI,
 * operators' tools and dashboards; a service needs none of it. Conventions (sizes, times, errors, threads) are those of evbus.h. */
#ifndef EVBUS_HISTORY_H
#define EVBUS_HISTORY_H

#include <evbus/admin.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Find an event by its id, in memory and in the journal's files, of all logs, dead letters too. The same id may have been published
 *  more than once. What is read is an index of each closed file (a few KiB; one that is missing is made), and of each partition the
 *  last file.
 *
 *  each     gets one after the other; what it is shown lives until it returns. A non-zero answer ends it and is returned
 *  Threads  any
 *  Returns  EVBUS_OK; EVBUS_ENOTFOUND (it is not kept: the message tells whether files could not be read); EVBUS_EINVAL; EVBUS_EIO;
 *           EVBUS_EPERM; EVBUS_ENOSPC (memory); EVBUS_ESTALE. Since 0.1. */
EVBUS_API int evbus_find(struct evbus *bus, const uint8_t id[16],
                         int (*each)(void *context, const struct evbus_delivery *event), void *context);

/** Tell what became of an event. One struct evbus_record after the other; `kind` says which fields it has:
 *
 *      event      where it stands and who published it: service, host, pid (none where its files are gone)
 *        group      a group that receives its topic, and how far it is with it, in `state`:
 *                     waiting   it has not been taken yet: `ahead` bytes of the partition stand before it
 *                     held      an event of the same key, at `behind`, is not done yet
 *                     running   in a handler of `member`, since `since`
 *                     retrying  to be tried again at `due`
 *                     dying     spent; its dead letter is still to be published
 *                     dead      it is a dead letter: `deadLetterId`, at `letter`
 *                     done      acknowledged
 *                     before    the group began behind it, or was moved there
 *          attempt    one that ended badly, as long as its note is kept: which, when, by whom, how long it took, why. Of a
 *                     handler whose process died, or that took too long: cause crashed or timeout
 *
 *  Returns  as evbus_find(). Since 0.1. */
EVBUS_API int evbus_why(struct evbus *bus, const uint8_t id[16],
                        int (*each)(void *context, const struct evbus_record *record), void *context);

#ifdef __cplusplus
}
#endif

#endif
