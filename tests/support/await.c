/* await.c: wait for a condition under a generous deadline. */
#include "await.h"

#include <stdio.h>
#include <time.h>

uint64_t await_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#define GAP_US 10000 /* a longer one is not ours */

uint64_t await_awake_ms(struct await_watch *watch)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    uint64_t gap = watch->last_us != 0 ? us - watch->last_us : 0;
    watch->awake_us += gap < GAP_US ? gap : GAP_US;
    watch->last_us = us;
    return watch->awake_us / 1000;
}

uint64_t await_kept_waiting_ms(pid_t pid)
{
    char path[64];
    unsigned long long ran_ns;
    unsigned long long waited_ns = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu %llu", &ran_ns, &waited_ns) != 2)
        waited_ns = 0;
    fclose(file);
    return waited_ns / 1000000;
}

void await_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

bool await(bool (*condition)(void *context), void *context)
{
    return await_that(condition(context));
}
