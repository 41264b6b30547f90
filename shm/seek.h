/* seek.h: a group goes back, or on, to another position. See seek.c. */
#ifndef EVBUS_SEEK_H
#define EVBUS_SEEK_H

#include "group.h"
#include "lease.h"

/* Where to. */
struct seek_plan {
    uint32_t group;
    enum evbus_from to;
    uint64_t value;  /* for EVBUS_FROM_POSITION; for EVBUS_FROM_TIME: ns since 1970 */
    const char *log; /* this one alone; NULL: all that the group reads */
    bool has_partition;
    uint32_t partition; /* of that log alone */
    bool force;         /* take leases from the living, skip what is not done */
};

/* One partition. */
struct seek_part {
    struct memory_log *log;
    uint32_t partition;
    uint64_t from;      /* the cursor as it was */
    uint64_t to;        /* as it is */
    uint64_t cells;     /* between them */
    uint32_t n_in_hand; /* events that were taken and not finished: let go of */
    uint32_t n_dropped; /* of those: before `to` */
    bool is_oldest;     /* the position is not kept any more: it is the oldest that is */
    uint32_t epoch;     /* of our lease; more than an epoch can be: none */
};

/* What would be moved: reads only. out_parts: to be freed. EVBUS_OK; EVBUS_ENOTFOUND (the group does not read that log); EVBUS_EINVAL
 * (no such partition, a position beyond the tail); EVBUS_EIO. */
int seek_look(struct memory *memory, const struct seek_plan *plan, struct seek_part **out_parts, size_t *out_n,
              struct error *err);

/* Moves it. By who has the admin's hold, with his slot. As seek_look(), and EVBUS_EBUSY: it has living members, or what is not done
 * would be skipped, and nothing was moved; or a lease was taken from us half way, and the message says how far it came. */
int seek_move(struct memory *memory, uint32_t slot, const struct seek_plan *plan, struct seek_part **out_parts,
              size_t *out_n, struct error *err);

#endif
