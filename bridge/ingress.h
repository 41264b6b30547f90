/* ingress.h: what happened elsewhere comes in, once, in order. See ingress.c. */
#ifndef EVBUS_BRIDGE_INGRESS_H
#define EVBUS_BRIDGE_INGRESS_H

#include "backend.h"
#include "config.h"
#include "metrics.h"
#include "topics.h"

#include <evbus/mirror.h>

struct ingress;

/* origin: our bus's uuid. Nothing comes in until ingress_lead(). EVBUS_OK; EVBUS_ENOSPC. */
int ingress_open(struct ingress **out, struct evbus_mirror *mirror, const struct config *config,
                 const uint8_t origin[16], struct metrics *metrics);
void ingress_close(struct ingress *ingress);

/* The catalogue may have changed: streams that are new are read, too. */
int ingress_look(struct ingress *ingress, const struct topics *topics);

/* A checkpoint's word, before ingress_lead(): a stream was read up to this id; of a partition of another bus its events up to this position have come in. */
void ingress_recall(struct ingress *ingress, const char *stream, const char *id);
void ingress_recall_mark(struct ingress *ingress, const char *stream, const uint8_t bus[16], uint32_t partition,
                         uint64_t position);

/* For evbus_mirror_brought(), with the ingress as context: this has come in since that checkpoint. */
int ingress_has(void *ingress, const struct evbus_delivery *event);

/* All that it was told so has passed in its stream since. Until then streams and marks do not know of all that has come in. */
bool ingress_is_settled(const struct ingress *ingress);

/* We lead, and have been told all that has come in. */
void ingress_lead(struct ingress *ingress, struct backend *backend);
void ingress_stand_by(struct ingress *ingress);

/* For a checkpoint: what the two are to be told. */
void ingress_tell(struct ingress *ingress, void (*stream)(void *context, const char *stream, const char *id),
                  void (*mark)(void *context, const char *stream, const uint8_t bus[16], uint32_t partition,
                               uint64_t position),
                  void *context);

/* Which streams are read. */
void ingress_tell_names(struct ingress *ingress, void (*stream)(void *context, const char *stream), void *context);

/* Asks for more where something could not be taken. Lowers *inout_due_ns to when it wants to be called again. */
void ingress_pump(struct ingress *ingress, uint64_t now, uint64_t *inout_due_ns);

/* The bus has another leader. */
bool ingress_is_fenced(const struct ingress *ingress);

/* What the backend says. */
bool ingress_arrived(struct ingress *ingress, const char *stream, const struct backend_entry *entries, size_t n);
void ingress_reset(struct ingress *ingress, const char *stream, const char *id);

#endif
