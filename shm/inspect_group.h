/* inspect_group.h: what groups have. See inspect_group.c. */
#ifndef EVBUS_INSPECT_GROUP_H
#define EVBUS_INSPECT_GROUP_H

#include "remains.h"

/* One group, its members, its leases and what is pending, in these logs and partitions (`partition` UINT32_MAX: in all). */
void inspect_group(struct remains *remains, uint32_t group, const struct remains_log *logs, size_t n_logs,
                   uint32_t partition, struct record *out);

#endif
