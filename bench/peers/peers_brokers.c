/* peers_brokers.c: who remembers events, and hands each to a group that acknowledges it: evbus with its journal, Redis Streams, NATS JetStream.
 * See peers.c.
 *
 *   latency     half a round trip, blocking, told in W, bare futex wakes
 *   one by one  the sender waits until each event is the other's, and nobody listens
 *   pipelined   the same, as many under way as the other takes well (evbus: batches)
 *   end to end  pipelined, and a group that takes, handles and acknowledges each event
 *
 * 300 bytes. All are told in E, too: evbus's figure of the same kind in the same run, with ack disk for those who sync before they tell
 * ("always"). What each of them promises differs: peers_latency --guarantees. */
#include "peers.h"

enum { PEERS_MAX = 16, LEN = 300, LATENCY_N = 4000 };

static const struct kind {
    const char *name;
    enum peer_aim aim;
    bool is_put;
} kinds[] = {
    {"latency", PEER_ROUND_TRIP, false},
    {"one by one", PEER_SEND, false},
    {"pipelined", PEER_SEND, true},
    {"end to end", PEER_STREAM, true},
};

/* Half a second or so of each. */
static size_t events_of(const struct peer *peer, const struct kind *kind)
{
    if (!kind->is_put && peer->is_synced)
        return 2000;
    if (peer->is_ours)
        return 640000;
    return kind->is_put ? 64000 : 10000;
}

static int measure_latency(const struct peer *peer, const char *name, double wake, double *out_p50,
                           const struct placement *placement, const struct bench_options *options, struct table *table,
                           int run)
{
    struct samples *samples = samples_new(LATENCY_N / (options->quick ? 4u : 1u));
    if (samples == NULL)
        return fails("no memory for samples");
    int rc = peers_round_trip(peer, false, LEN, samples->cap, placement, samples);
    if (rc == 0) {
        samples_save(options->raw, samples, name, run);
        struct summary summary = samples_summary(samples);
        figure_add_summary(table_figure(table, name, UNIT_US, 'W'), &summary, wake);
        *out_p50 = summary.p50;
    }
    samples_free(samples);
    return rc;
}

static int measure_stream(const struct peer *peer, const struct kind *kind, const char *name, double *out_per_s,
                          const struct placement *placement, const struct bench_options *options, struct table *table,
                          int run)
{
    size_t n = events_of(peer, kind) / (options->quick ? 4 : 1);
    int rc = peers_stream(peer, kind->aim, kind->is_put, false, LEN, n, placement, out_per_s);
    if (rc != 0)
        return rc;
    figure_add(table_figure(table, name, UNIT_THOUSANDS_PER_S, 0), *out_per_s, 0, n);
    if (options->raw != NULL)
        fprintf(options->raw, "%s\trun %d\tevents/s\t%.1f\n", name, run + 1, *out_per_s);
    return 0;
}

/* ours: evbus's values, with and without a sync, found or told in. */
static int measure(const struct peer *peer, const struct kind *kind, double wake, double ours[2],
                   const struct placement *placement, const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX];
    double value = 0;
    snprintf(name, sizeof name, "%s, %s, %d B", peer->name, kind->name, LEN);
    int rc = kind->aim == PEER_ROUND_TRIP ? measure_latency(peer, name, wake, &value, placement, options, table, run)
                                          : measure_stream(peer, kind, name, &value, placement, options, table, run);
    if (rc == 0 && peer->is_ours)
        ours[peer->is_synced] = value;
    else if (rc == 0)
        figure_also(table_figure(table, name, UNIT_US, 0), 'E', ours[peer->is_synced]);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    const struct peer *peers[PEERS_MAX];
    size_t n = peers_choose(broker_peers, peers, PEERS_MAX);
    int rc = 0;
    for (int run = 0; run < options->n_runs && rc == 0; run++) {
        struct limits limits;
        rc = limits_measure(&limits, LIMITS_LATENCY, placement, options, table, run);
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            double ours[2] = {0};
            for (size_t i = 0; i < n && rc == 0; i++)
                rc = measure(peers[i], &kinds[k], limits.wake_ns, ours, placement, options, table, run);
        }
    }
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(argc, argv,
                             "Who remembers events and hands them to groups: evbus with its journal, and its peers?",
                             true, measure_all);
}
