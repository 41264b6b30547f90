/* checkpoint.h: how far out and in are, kept in the bus for whoever leads next. See checkpoint.c. */
#ifndef EVBUS_BRIDGE_CHECKPOINT_H
#define EVBUS_BRIDGE_CHECKPOINT_H

#include "egress.h"
#include "ingress.h"

struct checkpoint;

/* Who wants to hear how far out is: a place for each partition, then the last event of each of its topics. */
struct checkpoint_out {
    void (*place)(void *context, const struct egress_place *place);
    void (*topic)(void *context, const struct egress_place *place, const char *topic, uint64_t last);
    void *context;
};

/* Either may be NULL: nothing goes that way. EVBUS_OK; EVBUS_ENOSPC. */
int checkpoint_open(struct checkpoint **out, struct evbus_mirror *mirror, struct egress *egress,
                    struct ingress *ingress, uint64_t interval_ns);
void checkpoint_close(struct checkpoint *checkpoint);

/* We lead now: what the leader before us has kept, and what has come in since, is told to egress and ingress. EVBUS_OK, also where nothing was
 * kept; as evbus_mirror_load() and _brought(); EVBUS_ECORRUPT: what was kept is none. */
int checkpoint_recall(struct checkpoint *checkpoint);

/* Takes the next one when it is time to, and keeps it as soon as what it tells of is on disk. is_last: now, however short a time ago the last one
 * was. Lowers *inout_due_ns to when it wants to be called again. is_kept: called when one is kept: reports to the broker may go. EVBUS_OK;
 * EVBUS_EFENCED; what cannot be kept now is tried again. */
int checkpoint_pump(struct checkpoint *checkpoint, uint64_t now, bool is_last, uint64_t *inout_due_ns,
                    void (*is_kept)(void *context, const char *stream, const char *id), void *context);

/* How far each stream was read, as the last checkpoint says that was kept: what the broker may be told. "": not at all. */
void checkpoint_tell_streams(const struct checkpoint *checkpoint,
                             void (*stream)(void *context, const char *stream, const char *id), void *context);

/* For who only looks, and is no part of the mirror: what the last checkpoint says that was kept on this topic, the mirror's own. EVBUS_OK, also where
 * none was; as evbus_reader_open() and _next(); EVBUS_ECORRUPT: it is none. */
int checkpoint_look(struct evbus *bus, const char *topic, struct checkpoint_out *out);

/* Is one taken and not kept yet? */
bool checkpoint_is_due(const struct checkpoint *checkpoint);

#endif
