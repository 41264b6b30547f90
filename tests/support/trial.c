/* trial.c: how much a random or exhaustive test does, and with which seed. */
#include "trial.h"

#include "sanitizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && strcmp(value, "1") == 0;
}

bool trial_is_slow(void)
{
    return HAS_SANITIZER || is_set("EVBUS_SLOW");
}

uint64_t trial_count(uint64_t full, uint64_t quick)
{
    if (is_set("EVBUS_QUICK"))
        return quick;
    if (!trial_is_slow())
        return full;
    return full / 5 > quick ? full / 5 : quick;
}

bool trial_is_soak(void)
{
    return is_set("EVBUS_SOAK");
}

uint64_t trial_ms(uint64_t full, uint64_t quick)
{
    return is_set("EVBUS_QUICK") ? quick : full;
}

bool trial_is_full(void)
{
    return !is_set("EVBUS_QUICK") && !trial_is_slow();
}

uint64_t trial_seed(const char *name)
{
    const char *given = getenv("EVBUS_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0)
                                  : ((uint64_t)now.tv_nsec << 20 ^ (uint64_t)now.tv_sec ^ (uint64_t)getpid()) % 1000000;
    fprintf(stderr, "seed %llu; again: EVBUS_SEED=%llu %s -j1 --filter '%s'\n", (unsigned long long)seed,
            (unsigned long long)seed, trial_program(), name);
    return seed;
}

const char *trial_program(void)
{
    static char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1); /* Criterion gives a test another name */
    path[len > 0 ? len : 0] = '\0';
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

uint64_t trial_only_step(void)
{
    const char *given = getenv("EVBUS_STEP");
    return given != NULL ? strtoull(given, NULL, 0) : 0;
}

uint64_t trial_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

uint64_t trial_quantile(uint64_t *numbers, uint64_t n, unsigned per_mille)
{
    if (n == 0)
        return 0;
    qsort(numbers, n, sizeof *numbers, compare);
    uint64_t at = (n * per_mille + 999) / 1000;
    return numbers[at == 0 ? 0 : at - 1];
}
