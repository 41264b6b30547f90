/* egress.h: what is published here goes to the broker, once, in order. See egress.c. */
#ifndef EVBUS_BRIDGE_EGRESS_H
#define EVBUS_BRIDGE_EGRESS_H

#include "backend.h"
#include "config.h"
#include "metrics.h"
#include "topics.h"

#include <evbus/mirror.h>

struct egress;

/* Nothing goes out until egress_lead(). EVBUS_OK; EVBUS_ENOSPC; as evbus_mirror_parts(). */
int egress_open(struct egress **out, struct evbus_mirror *mirror, const struct config *config, struct metrics *metrics);
void egress_close(struct egress *egress);

/* We lead, with this epoch, and the broker is this: it is asked for the marks of all partitions. Again after each new leadership. */
void egress_lead(struct egress *egress, struct backend *backend, uint64_t epoch, uint64_t incarnation);
void egress_stand_by(struct egress *egress);

/* The catalogue may have changed: partitions and topics that are new go out, too. */
int egress_look(struct egress *egress, const struct topics *topics);

struct egress_place {
    const char *log;
    uint32_t partition;
    uint64_t at;    /* everything before it is out */
    uint64_t began; /* what stands before it was never to go out */
};

/* A checkpoint's word, before egress_lead(); and the last event of a topic before `at`. topic "": of the log's stream. */
void egress_recall(struct egress *egress, const struct egress_place *place);
void egress_recall_topic(struct egress *egress, const char *log, uint32_t partition, const char *topic, uint64_t last);

/* For a checkpoint: what egress_recall() and _topic() are to be told. */
void egress_tell(struct egress *egress, void (*place)(void *context, const struct egress_place *place),
                 void (*topic)(void *context, const struct egress_place *place, const char *topic, uint64_t last),
                 void *context);

/* Sends what there is, as far as may be under way. Lowers *inout_due_ns (monotonic) to when it wants to be called again. true: it would send more
 * if there were more: wait for evbus_mirror_fd(). Returns an error of the bus's in *out_rc, else EVBUS_OK. */
bool egress_pump(struct egress *egress, uint64_t now, uint64_t *inout_due_ns, int *out_rc);

/* How long, at least, the oldest event that is not out has waited: into the metrics. */
void egress_look_at_lag(struct egress *egress, uint64_t now);

/* Nothing of ours is under way, and nothing more is there. */
bool egress_is_idle(const struct egress *egress);

/* The broker has seen a later bridge of this bus, since the last egress_lead(). */
bool egress_is_fenced(const struct egress *egress);

/* What the backend says. */
void egress_state(struct egress *egress, bool is_here);
void egress_marks(struct egress *egress, const char *log, uint32_t partition, enum backend_result result,
                  const struct backend_mark *marks, size_t n, const char *why);
void egress_appended(struct egress *egress, uint64_t ticket, enum backend_result result, const char *why);

#endif
