/* clock.h: wall and monotonic time in ns. */
#ifndef EVBUS_CLOCK_H
#define EVBUS_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_S  UINT64_C(1000000000)
#define CLOCK_NS_PER_MS UINT64_C(1000000)
#define CLOCK_NS_PER_US UINT64_C(1000)

/* ns since 1970, UTC. May step back. */
uint64_t clock_wall_ns(void);

/* ns since boot. Never steps back; the same for all processes of a time namespace. */
uint64_t clock_mono_ns(void);

/* The same, also while a test's clock stands still: for who waits for another process. */
uint64_t clock_real_ns(void);

/* As clock_mono_ns(), of the last tick: up to 10 ms behind, for 5 ns. */
uint64_t clock_coarse_ns(void);

/* now + timeout, UINT64_MAX where that is beyond it ("for ever"). */
uint64_t clock_deadline(uint64_t now_ns, uint64_t timeout_ns);

/* What is left until a deadline, at most cap_ns, as a timespec. */
struct timespec clock_left(uint64_t deadline_ns, uint64_t now_ns, uint64_t cap_ns);

/* For tests: time stands still; goes on by so much at once (only where it is frozen); is real again. */
void clock_freeze(void);
void clock_advance(uint64_t ns);
void clock_release(void);

/* Tell the processor that we poll. */
static inline void clock_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif
