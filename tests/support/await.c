/* await.c: wait for a condition under a generous deadline. */
#include "await.h"

#include <time.h>

uint64_t await_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void await_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

bool await(bool (*condition)(void *context), void *context)
{
    return await_that(condition(context));
}
