/* bridge.h: a bus, a mirror of it, a broker, and what goes between them. See bridge.c. */
#ifndef EVBUS_BRIDGE_BRIDGE_H
#define EVBUS_BRIDGE_BRIDGE_H

#include "backend.h"
#include "config.h"
#include "health.h"
#include "metrics.h"

struct bridge;

/* What stands before the config's broker. */
const struct backend_class *bridge_backend_class(const struct config *config);

/* All of it outlives the bridge; config may change by what may change while it runs. EVBUS_OK; as evbus_mirror_open(), what was wrong has been
 * said. */
int bridge_open(struct bridge **out, struct evbus *bus, const struct config *config, struct metrics *metrics,
                struct health *health);
void bridge_close(struct bridge *bridge);

/* To be waited for: up to `cap` descriptors, and no longer than *inout_timeout_ms. How many. */
size_t bridge_fds(struct bridge *bridge, struct pollfd *fds, size_t cap, int *inout_timeout_ms);

/* What poll() said of them, and what is due. EVBUS_OK; EVBUS_ESTALE and others: the bus is gone, or cannot be used any more: it has been said. */
int bridge_service(struct bridge *bridge, const struct pollfd *fds, size_t n);

/* It is to end: what there is goes out, the last checkpoint is kept. true: that is done, or there is nothing that could be done about it. */
bool bridge_is_drained(struct bridge *bridge);

#endif
