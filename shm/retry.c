/* retry.c: when an event is tried again: the catalogue's waits, +- 20 %, so that what failed together is not tried together.
 * Pure functions. Checked by tests/unit/test_retry.c. */
#include "retry.h"

#include "clock.h"

const struct retry retry_default = {
    .waits_ns = {CLOCK_NS_PER_S, 10 * CLOCK_NS_PER_S}, .n_waits = 2, .outage_events = 5};

uint32_t retry_attempts(const struct retry *retry)
{
    return retry->n_waits + 1;
}

uint64_t retry_wait_ns(const struct retry *retry, uint32_t attempts, uint32_t random)
{
    if (retry->n_waits == 0)
        return 0;
    uint32_t index = attempts == 0 ? 0 : attempts - 1;
    uint64_t wait = retry->waits_ns[index < retry->n_waits ? index : retry->n_waits - 1];
    uint64_t fifth = wait / 5;
    return wait - fifth + (uint64_t)((double)(2 * fifth) * ((double)random / 4294967296.0));
}

uint64_t retry_bound_ns(const struct retry *retry, bool is_deferred, uint64_t not_before_ns, uint64_t now_ns)
{
    uint64_t longest = 0;
    if (is_deferred)
        return not_before_ns > now_ns && not_before_ns - now_ns > RETRY_DEFER_MAX_NS ? now_ns : not_before_ns;
    for (uint32_t i = 0; i < retry->n_waits; i++)
        if (retry->waits_ns[i] > longest)
            longest = retry->waits_ns[i];
    return not_before_ns > now_ns && not_before_ns - now_ns > longest + longest / 4 ? now_ns : not_before_ns;
}
