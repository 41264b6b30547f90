/* test_health.c: who asks whether the bridge is well hears whether a restart would help, whether events get through, and why. */
#include "health.h"

#include <criterion/criterion.h>
#include <string.h>

#define S UINT64_C(1000000000)

static const struct row {
    const char *label;
    struct health health;
    bool is_alive, is_ready;
    const char *alive_why, *ready_why;
} rows[] = {
    {"mirrors",
     {.is_bus_here = true, .is_broker_here = true, .leads = true, .broker_since_ns = 90 * S},
     true,
     true,
     "mirrors; the broker is here for 10 s",
     "mirrors; the broker is here for 10 s"},
    {"stands by", {.is_bus_here = true, .broker_since_ns = 90 * S}, true, true, "stands by", "stands by"},
    {"no broker",
     {.is_bus_here = true, .leads = true, .broker_since_ns = 40 * S, .broker_why = "connection refused"},
     true,
     false,
     "away for 60 s: connection refused",
     "away for 60 s: connection refused"},
    {"no bus",
     {.is_broker_here = true, .bus_why = "it was removed"},
     false,
     false,
     "the bus is not there: it was removed",
     "it was removed"},
    {"paused",
     {.is_bus_here = true, .is_broker_here = true, .is_paused = true},
     true,
     false,
     "paused",
     "evbus bridge resume"},
    {"stopping",
     {.is_bus_here = true, .is_broker_here = true, .leads = true, .is_stopping = true},
     true,
     false,
     "stopping",
     "stopping"},
    {"the clock's first second",
     {.is_bus_here = true, .leads = true, .broker_since_ns = 200 * S, .broker_why = "x"},
     true,
     false,
     "for 0 s",
     "for 0 s"},
};

Test(health, says_whether_a_restart_helps_and_whether_events_get_through)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char why[HEALTH_WHY_MAX];
        cr_expect_eq(health_is_alive(&rows[i].health, 100 * S, why), rows[i].is_alive, "%s", rows[i].label);
        cr_expect_not_null(strstr(why, rows[i].alive_why), "%s: %s", rows[i].label, why);
        cr_expect_eq(health_is_ready(&rows[i].health, 100 * S, why), rows[i].is_ready, "%s", rows[i].label);
        cr_expect_not_null(strstr(why, rows[i].ready_why), "%s: %s", rows[i].label, why);
    }
}
