/* futex.h: sleep until a word of shared memory changes, and wake who sleeps on it. See futex.c. */
#ifndef EVBUS_FUTEX_H
#define EVBUS_FUTEX_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* One word of several to sleep on. */
struct futex_watch {
    const _Atomic uint32_t *word;
    uint32_t seen; /* sleep only while it has this value */
};

#define FUTEX_WATCHES_MAX 128

/* Sleeps while *word == seen, at most for `timeout`. Returns for any reason: look again. */
void futex_wait(const _Atomic uint32_t *word, uint32_t seen, struct timespec timeout);

/* Sleeps while all of up to FUTEX_WATCHES_MAX words have their seen values. On kernels before 5.16 the last one alone is
 * watched, for 50 ms at most. */
void futex_wait_any(const struct futex_watch *watches, size_t n, struct timespec timeout);

/* Wakes up to n sleepers on the word, in whichever process. How many there were. */
unsigned futex_wake(const _Atomic uint32_t *word, int n);

#endif
