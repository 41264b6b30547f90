/* health.h: is it well, and does it do its work? See health.c. */
#ifndef EVBUS_BRIDGE_HEALTH_H
#define EVBUS_BRIDGE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#define HEALTH_WHY_MAX 400 /* bytes */

/* Kept by the loop. */
struct health {
    bool is_stopping;
    bool is_bus_here;
    bool is_broker_here;
    bool leads;
    bool is_paused;
    uint64_t broker_since_ns; /* monotonic: here, or away, since */
    char bus_why[256];        /* not here: what the library says */
    char broker_why[256];     /* not here: what the backend says */
};

/* Would a restart of this process help? false: yes. why: one line without a newline, either way. */
bool health_is_alive(const struct health *health, uint64_t now_ns, char why[HEALTH_WHY_MAX]);

/* Do events get through, here or (while we stand by) elsewhere? */
bool health_is_ready(const struct health *health, uint64_t now_ns, char why[HEALTH_WHY_MAX]);

#endif
