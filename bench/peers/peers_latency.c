/* peers_latency.c: half a round trip of an event between two processes: evbus beside those who do something like it. See peers.c.
 *
 *   spin   told in H, hops of a cache line, and in E: evbus's reader in the same run, the same payload
 *   block  told in W, bare futex wakes, and in E likewise
 *
 * 64 and 512 bytes. As many samples as in latency.c, or as many as 1.5 s give. What each of them promises differs: --guarantees. */
#include "peers.h"

#include <string.h>

enum { PEERS_MAX = 16, SPIN_N = 100000, BLOCK_N = 4000 };

static const size_t lens[] = {64, 512};
enum { N_LENS = sizeof lens / sizeof lens[0] };

static double limit_of(const struct limits *limits, bool spins)
{
    return spins ? limits->hop_ns : limits->wake_ns;
}

/* ours: evbus's p50, found or told in. */
static int measure(const struct peer *peer, bool spins, size_t len, double limit, double *inout_ours,
                   const struct placement *placement, const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX];
    size_t n = (spins ? SPIN_N : BLOCK_N) / (options->quick ? 4u : 1u);
    struct samples *samples = samples_new(n);
    if (samples == NULL)
        return fails("no memory for samples");
    snprintf(name, sizeof name, "%s, %s, %zu B", peer->name, spins ? "spin" : "block", len);
    int rc = peers_round_trip(peer, spins, len, n, placement, samples);
    if (rc == 0) {
        samples_save(options->raw, samples, name, run);
        struct summary summary = samples_summary(samples);
        struct figure *figure = table_figure(table, name, spins ? UNIT_NS : UNIT_US, spins ? 'H' : 'W');
        figure_add_summary(figure, &summary, limit);
        if (*inout_ours == 0)
            *inout_ours = summary.p50;
        else if (!peer->is_ours)
            figure_also(figure, 'E', *inout_ours);
    }
    samples_free(samples);
    return rc;
}

static int measure_way(const struct peer *const *peers, size_t n, bool spins, const struct limits *limits,
                       const struct placement *placement, const struct bench_options *options, struct table *table,
                       int run)
{
    double ours[N_LENS] = {0};
    int rc = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; l < N_LENS && rc == 0; l++)
            if (spins ? peers[i]->can_spin : peers[i]->can_block)
                rc = measure(peers[i], spins, lens[l], limit_of(limits, spins), &ours[l], placement, options, table,
                             run);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    const struct peer *peers[PEERS_MAX];
    size_t n = peers_choose(ipc_peers, peers, PEERS_MAX);
    int rc = 0;
    for (int run = 0; run < options->n_runs && rc == 0; run++) {
        struct limits limits;
        rc = limits_measure(&limits, LIMITS_LATENCY, placement, options, table, run);
        if (rc == 0 && placement_is_enough(placement, 2))
            rc = measure_way(peers, n, true, &limits, placement, options, table, run);
        if (rc == 0)
            rc = measure_way(peers, n, false, &limits, placement, options, table, run);
    }
    return rc;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--guarantees") == 0) {
        guarantees_print(stdout);
        return 0;
    }
    return own_bus_benchmark(argc, argv, "How long from one process to another: evbus, and its peers?", false,
                             measure_all);
}
