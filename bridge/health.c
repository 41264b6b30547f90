/* health.c: is it well, and does it do its work?
 *
 *     /healthz   503 when a restart of this process would help: its bus was removed, or made anew. A broker that is away is no reason: a new
 *                process would wait for it as this one does, and what waits is safe in the bus.
 *     /readyz    503 while events do not get through: no broker, no bus, paused, stopping. Who stands by is ready.
 *
 * Each answer has its reason in one line, for whoever is called in the night. Pure functions. Checked by tests/broker/test_health.c. */
#include "health.h"

#include <inttypes.h>
#include <stdio.h>

bool health_is_alive(const struct health *health, uint64_t now_ns, char why[HEALTH_WHY_MAX])
{
    if (!health->is_bus_here) {
        (void)snprintf(why, HEALTH_WHY_MAX, "the bus is not there: %s", health->bus_why);
        return false;
    }
    char ready[HEALTH_WHY_MAX];
    (void)health_is_ready(health, now_ns, ready);
    (void)snprintf(why, HEALTH_WHY_MAX, "%s", ready);
    return true;
}

bool health_is_ready(const struct health *health, uint64_t now_ns, char why[HEALTH_WHY_MAX])
{
    uint64_t seconds = now_ns > health->broker_since_ns ? (now_ns - health->broker_since_ns) / 1000000000 : 0;
    if (health->is_stopping)
        (void)snprintf(why, HEALTH_WHY_MAX, "stopping");
    else if (!health->is_bus_here)
        (void)snprintf(why, HEALTH_WHY_MAX, "the bus is not there: %s", health->bus_why);
    else if (health->is_paused)
        (void)snprintf(why, HEALTH_WHY_MAX, "paused; go on with: evbus bridge resume");
    else if (!health->leads)
        (void)snprintf(why, HEALTH_WHY_MAX, "stands by, another bridge mirrors");
    else if (!health->is_broker_here)
        (void)snprintf(why, HEALTH_WHY_MAX, "the broker is away for %" PRIu64 " s: %s; events wait in the bus", seconds,
                       health->broker_why);
    else
        (void)snprintf(why, HEALTH_WHY_MAX, "mirrors; the broker is here for %" PRIu64 " s", seconds);
    return !health->is_stopping && health->is_bus_here && (health->is_broker_here || !health->leads) &&
           !health->is_paused;
}
