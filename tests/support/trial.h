/* trial.h: how much a random or exhaustive test does, and with which seed. */
#ifndef TRIAL_H
#define TRIAL_H

#include <stdbool.h>
#include <stdint.h>

/* `full`; `quick` with EVBUS_QUICK=1; in between where everything is slow (a sanitizer, EVBUS_SLOW=1). */
uint64_t trial_count(uint64_t full, uint64_t quick);

/* EVBUS_SOAK=1: are the large numbers wanted? */
bool trial_is_soak(void);

/* How long an exhaustive test may take: `full`, or `quick` with EVBUS_QUICK=1. */
uint64_t trial_ms(uint64_t full, uint64_t quick);

/* Is every point of an exhaustive test to be tried: no EVBUS_QUICK=1, and nothing is slow? */
bool trial_is_full(void);

/* Is everything slow: a sanitizer, EVBUS_SLOW=1? */
bool trial_is_slow(void);

/* EVBUS_SEED, else a new one. Prints it with the command that repeats the test. name: "storm/a_sentence". */
uint64_t trial_seed(const char *name);

/* The name of the test program. */
const char *trial_program(void);

/* EVBUS_STEP: the one step to try; 0: all of them. */
uint64_t trial_only_step(void);

/* The next number of a sequence (splitmix64). */
uint64_t trial_random(uint64_t *state);

/* Sorts, and returns what `per_mille` of the numbers are not above. 0 when there are none. */
uint64_t trial_quantile(uint64_t *numbers, uint64_t n, unsigned per_mille);

#endif
