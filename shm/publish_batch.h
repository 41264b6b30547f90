/* publish_batch.h: what mirror.c needs of publish_batch.c. */
#ifndef EVBUS_PUBLISH_BATCH_H
#define EVBUS_PUBLISH_BATCH_H

#include "bus.h"
#include "partition.h"

/* As evbus_publish_batch(), of events that were published elsewhere, as long as the fence holds; nobody waits for the disk. */
int publish_brought(struct evbus *bus, const struct evbus_event *events, size_t n, const struct partition_fence *fence,
                    size_t *out_brought);

#endif
