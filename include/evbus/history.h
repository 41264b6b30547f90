/* history.h: what was: find an event and what became of it, look at the journal's files, copy them, go back in them. For the CLI,
 * operators' tools and dashboards; a service needs none of it. Conventions (sizes, times, errors, threads) are those of evbus.h. */
#ifndef EVBUS_HISTORY_H
#define EVBUS_HISTORY_H

#include <evbus/admin.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif

#endif
