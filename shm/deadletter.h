/* deadletter.h: the record of an event that a group could not handle. See deadletter.c. */
#ifndef EVBUS_DEADLETTER_H
#define EVBUS_DEADLETTER_H

#include "frame.h"
#include "memory.h"
#include "pending.h"

/* What a dead letter is made of. */
struct deadletter {
    uint32_t topic_id; /* of the group's dead letters */
    const char *group_name;
    const char *topic;
    const char *log;
    uint32_t partition;
    uint64_t position;
    uint32_t n_replays; /* that it has had: then log, partition and position are where it stood before all of them */
    uint64_t entry;     /* position of the entry that died: `position`, or its last replay's */
    enum pending_cause cause;
    uint64_t note; /* position + 1 of its newest note */
    const struct frame *event;
    /* No event of ours, but an entry at a broker: where it stands there; log and position only say then which letter it is. NULL: an event */
    const char *stream;
    const char *stream_entry;
};

/* The id of a dead letter: UUIDv8 of (bus, group, log, partition, position), so that one that is published again after a crash is
 * recognised. */
void deadletter_id(const struct memory *memory, const struct deadletter *letter, uint8_t out_id[16]);

/* The header area of a dead letter and of what is told about it later: AREA_SOURCE and, unless it is "", AREA_TOPIC. */
struct area;
void deadletter_area(const struct deadletter *letter, const uint8_t id[16], struct area *out);

/* Publishes it on <namespace>.dlq.<group>, as JSON. EVBUS_OK; EVBUS_EFULL; EVBUS_ENOSPC; EVBUS_EINVAL (it fits no frame of that
 * log); EVBUS_ECORRUPT. */
int deadletter_publish(struct memory *memory, struct claim *claim, const struct deadletter *letter, struct error *err);

#endif
