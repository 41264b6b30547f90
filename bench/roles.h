/* roles.h: who runs where: processors, processes, and where they meet. See roles.c. */
#ifndef BENCH_ROLES_H
#define BENCH_ROLES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BENCH_CPUS_MAX 3

/* Which processor each role gets: cores of their own that share a last-level cache, if there are any. */
struct placement {
    int n_cpus; /* that this process may use */
    int n;      /* chosen, in cpu[] */
    int cpu[BENCH_CPUS_MAX];
    bool can_pin;
    char text[160];
};

void placement_choose(struct placement *placement);
bool placement_is_enough(const struct placement *placement, int n_roles); /* a processor for each? */
void placement_pin(const struct placement *placement, int role);          /* the calling thread; as well as it goes */

/* The lines above a table: machine, kernel, build, commit, placement. Each starts with `prefix`. */
void machine_print(FILE *to, const struct placement *placement, const char *prefix, const char *version);

/* Roles run in processes of their own and meet in memory that both had before the fork. */
struct barrier {
    _Atomic uint32_t n_ready;
};

void *shared_new(size_t len_bytes); /* zeroed; NULL: no memory */
void shared_free(void *shared, size_t len_bytes);
void barrier_wait(struct barrier *barrier, uint32_t n_roles);

void children_prepare(void); /* once, before anything that must be cleared away: signals wait from here on */

/* Runs role(shared, 0 .. n-1), a process each. 0 when all return 0; 1 when one failed; 128 + the signal that ended us.
 * The others are killed then. A child dies with its parent. */
int children_run(int n, int (*role)(void *shared, int index), void *shared);

#endif
