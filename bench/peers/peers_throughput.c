/* peers_throughput.c: how many events per second pass from one process to another: evbus beside those who do something like it. See peers.c.
 *
 * One sender, one receiver, 64 and 512 bytes; told in S, the bare stream of the same size, and in E: evbus in the same run, one call per event as
 * well. Who is full makes its sender wait: nothing is lost, by anybody.
 *
 *   spin   the receiver asks again and again; else it waits as the peer waits
 *   batch  evbus_publish_batch() of 32. Nobody else here has such a call
 *
 * What each of them promises differs: peers_latency --guarantees. */
#include "peers.h"

enum { PEERS_MAX = 16 };

#define N ((size_t)640000) /* of 64 bytes, half as many of 512 */

struct row {
    const struct peer *peer;
    bool spins, is_put;
    size_t len;
};

/* ours: evbus's events per second, found or told in. */
static int measure(const struct row *row, double stream, double *inout_ours, const struct placement *placement,
                   const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX];
    double per_s = 0;
    size_t n = N / (row->len == 64 ? 1 : 2) / (options->quick ? 4 : 1);
    snprintf(name, sizeof name, "%s%s%s, %zu B", row->peer->name, row->is_put ? " batch" : "",
             row->spins ? ", spin" : "", row->len);
    int rc = peers_stream(row->peer, PEER_STREAM, row->is_put, row->spins, row->len, n, placement, &per_s);
    if (rc != 0)
        return rc;
    struct figure *figure = table_figure(table, name, UNIT_MILLIONS_PER_S, 'S');
    figure_add(figure, per_s, stream, n);
    if (*inout_ours == 0)
        *inout_ours = per_s;
    else if (!row->peer->is_ours)
        figure_also(figure, 'E', *inout_ours);
    if (options->raw != NULL)
        fprintf(options->raw, "%s\trun %d\tevents/s\t%.1f\n", name, run + 1, per_s);
    return 0;
}

/* One way of waiting, one length. */
static int measure_peers(const struct peer *const *peers, size_t n, bool spins, size_t len, double stream,
                         const struct placement *placement, const struct bench_options *options, struct table *table,
                         int run)
{
    double ours = 0;
    int rc = 0;
    for (size_t i = 0; i < n; i++)
        for (int is_put = 0; is_put < (peers[i]->put != NULL ? 2 : 1) && rc == 0; is_put++) {
            struct row row = {peers[i], spins, is_put != 0, len};
            if (spins ? peers[i]->can_spin : peers[i]->can_block)
                rc = measure(&row, stream, &ours, placement, options, table, run);
        }
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    const struct peer *peers[PEERS_MAX];
    size_t n = peers_choose(ipc_peers, peers, PEERS_MAX);
    int rc = 0;
    for (int run = 0; run < options->n_runs && rc == 0; run++) {
        struct limits limits;
        rc = limits_measure(&limits, LIMITS_STREAM, placement, options, table, run);
        for (int spins = placement_is_enough(placement, 2); spins >= 0 && rc == 0; spins--) {
            rc = measure_peers(peers, n, spins != 0, 64, limits.stream_64, placement, options, table, run);
            if (rc == 0)
                rc = measure_peers(peers, n, spins != 0, 512, limits.stream_512, placement, options, table, run);
        }
    }
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(argc, argv,
                             "How many events per second from one process to another: evbus, and its peers?", false,
                             measure_all);
}
