/* clock.c: wall and monotonic time in ns. Both come from the vDSO: about 23 ns, no system call. A test may
 * freeze them. */
#include "clock.h"

#include <stdatomic.h>

/* Frozen by a test: time of the moment, and what has been added since; 0: real time. Of the process, as time is. */
static _Atomic uint64_t frozen_wall_ns;
static _Atomic uint64_t frozen_mono_ns;

static uint64_t read_clock(clockid_t id)
{
    struct timespec now = {0, 0};
    clock_gettime(id, &now); /* these clocks cannot fail */
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t clock_wall_ns(void)
{
    uint64_t frozen = atomic_load_explicit(&frozen_wall_ns, memory_order_relaxed);
    return frozen != 0 ? frozen : read_clock(CLOCK_REALTIME);
}

uint64_t clock_mono_ns(void)
{
    uint64_t frozen = atomic_load_explicit(&frozen_mono_ns, memory_order_relaxed);
    return frozen != 0 ? frozen : read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_real_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_coarse_ns(void)
{
    uint64_t frozen = atomic_load_explicit(&frozen_mono_ns, memory_order_relaxed);
    return frozen != 0 ? frozen : read_clock(CLOCK_MONOTONIC_COARSE);
}

void clock_freeze(void)
{
    if (atomic_load_explicit(&frozen_mono_ns, memory_order_relaxed) != 0)
        return;
    atomic_store_explicit(&frozen_wall_ns, read_clock(CLOCK_REALTIME), memory_order_relaxed);
    atomic_store_explicit(&frozen_mono_ns, read_clock(CLOCK_MONOTONIC), memory_order_relaxed);
}

void clock_advance(uint64_t ns)
{
    if (atomic_load_explicit(&frozen_mono_ns, memory_order_relaxed) == 0)
        return; /* real time needs no help */
    atomic_fetch_add_explicit(&frozen_wall_ns, ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&frozen_mono_ns, ns, memory_order_relaxed);
}

void clock_release(void)
{
    atomic_store_explicit(&frozen_wall_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&frozen_mono_ns, 0, memory_order_relaxed);
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
