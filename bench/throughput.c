/* throughput.c: how many events per second pass from producers to one consumer, or to a group?
 *
 *   stream   as stream.c has it: 1 or 2 producers to a reader, or to a group of 1 or 2 members, on one topic of one partition; or of N_PARTITIONS,
 *            which 2 members share. Told in S, the bare stream of the same event size
 *   publish  one call per event;  batch: evbus_publish_batch() of STREAM_BATCH
 *   keys     the producer gives N_KEYS keys by turns: always with groups but where it says "no keys", and once with a reader to compare with
 *   cost     the plain cost of publish() in a process that is alone with the bus: nobody reads, nobody sleeps, so the ring never stays
 *            full. ns per call, in H: what it costs to have spoken to nobody
 *   ready    the caller gives id and time and says that the payload is JSON;  stamped: the library gives id and time;  full: it checks the
 *            payload, too
 *
 * Where processes outnumber processors the figure says "crowded".
 *
 * Not measured: several readers, handlers that fail or do anything, a member's threads, payloads of mixed sizes. No time
 * fails this program; an event that is lost, repeated, misplaced, changed, or handled twice does. */
#include "limits.h"
#include "stream.h"

enum { N_KEYS = 1000 };

struct cost {
    const struct placement *placement;
    struct variant variant;
    size_t n;
    uint64_t took_ns; /* for all events but the first tenth */
    _Atomic uint64_t n_full;
};

static int cost_role(void *shared, int index)
{
    struct cost *cost = shared;
    static struct payload payload;
    struct evbus *bus = own_bus_open(EVBUS_WAIT_SPIN);
    if (bus == NULL)
        return 1;
    payload_make(&payload, cost->variant.payload_len, 0);
    struct evbus_event event = event_make(&cost->variant, "bench.ping.sent", payload.text);
    placement_pin(cost->placement, index);
    uint64_t since = 0;
    for (size_t i = 1; i <= cost->n; i++) {
        payload_next(&payload);
        event_next(&event, &cost->variant);
        if (stream_publish(bus, false, &event, 1, &cost->n_full) != 0)
            return 1;
        if (i == cost->n / 10)
            since = now_ns();
    }
    cost->took_ns = now_ns() - since;
    evbus_close(bus);
    return 0;
}

static int measure_cost(const struct variant *variant, size_t n, const struct placement *placement, double *out_ns)
{
    struct cost *cost = shared_new(sizeof *cost);
    if (cost == NULL)
        return fails("no memory");
    cost->placement = placement;
    cost->variant = *variant;
    cost->n = n;
    int rc = children_run(1, cost_role, cost);
    *out_ns = (double)cost->took_ns / (double)(n - n / 10);
    shared_free(cost, sizeof *cost);
    return rc;
}

/* What is measured, line by line of the table. No producer: the cost of publish(), alone. */
static const struct stream streams[] = {
    {.variant = {64, READY}},
    {.variant = {64, STAMPED}},
    {.variant = {64, FULL}},
    {.variant = {512, READY}},
    {.variant = {512, FULL}},
    {.n_producers = 1, .variant = {64, READY}},
    {.n_producers = 1, .variant = {64, STAMPED}},
    {.n_producers = 1, .variant = {64, FULL}},
    {.n_producers = 1, .variant = {512, READY}},
    {.n_producers = 1, .variant = {512, FULL}},
    {.n_producers = 1, .is_batch = true, .variant = {64, READY}},
    {.n_producers = 1, .is_batch = true, .variant = {512, READY}},
    {.n_producers = 2, .variant = {64, READY}},
    {.n_producers = 2, .variant = {512, READY}},
    {.n_producers = 2, .is_batch = true, .variant = {64, READY}},
    {.n_producers = 2, .is_batch = true, .variant = {512, READY}},
    {.n_producers = 1, .n_keys = N_KEYS, .variant = {64, READY}},
    {.n_producers = 1, .n_keys = N_KEYS, .variant = {512, READY}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .variant = {64, READY}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .variant = {64, STAMPED}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .is_batch = true, .variant = {64, READY}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .is_batch = true, .variant = {512, READY}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .n_keys = N_KEYS, .variant = {64, READY}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .n_keys = N_KEYS, .variant = {64, FULL}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .n_keys = N_KEYS, .variant = {512, READY}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .n_keys = N_KEYS, .variant = {512, FULL}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .n_keys = N_KEYS, .is_spread = true, .variant = {64, READY}},
    {.n_producers = 1, .n_groups = 1, .n_members = 1, .n_keys = N_KEYS, .is_spread = true, .variant = {512, READY}},
    {.n_producers = 1, .n_groups = 1, .n_members = 2, .n_keys = N_KEYS, .is_spread = true, .variant = {64, READY}},
    {.n_producers = 1, .n_groups = 1, .n_members = 2, .n_keys = N_KEYS, .is_spread = true, .variant = {512, READY}},
};

static void name_figure(char *name, size_t cap, const struct stream *stream)
{
    const char *envelope = envelope_name(stream->variant.envelope), *crowded = stream->is_crowded ? " (crowded)" : "";
    if (stream->n_producers == 0)
        snprintf(name, cap, "cost of publish, %zu B, %s", stream->variant.payload_len, envelope);
    else if (stream->n_groups != 0)
        snprintf(name, cap, "evbus group%s, %u member%s%s, %d partition%s%s, %zu B, %s",
                 stream->is_batch ? ", batch" : "", stream->n_members, stream->n_members == 1 ? "" : "s", crowded,
                 stream->is_spread ? N_PARTITIONS : 1, stream->is_spread ? "s" : "",
                 stream->n_keys == 0 ? ", no keys" : "", stream->variant.payload_len, envelope);
    else
        snprintf(name, cap, "evbus %s%s, %u producer%s%s, %zu B, %s", stream->is_batch ? "batch" : "publish",
                 stream->n_keys != 0 ? " of keys" : "", stream->n_producers, stream->n_producers == 1 ? "" : "s",
                 crowded, stream->variant.payload_len, envelope);
}

static int measure(const struct stream *given, const struct limits *limits, const struct placement *placement,
                   const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX];
    struct stream stream = *given;
    double value = 0;
    uint64_t n_full = 0;
    bool is_cost = stream.n_producers == 0, is_small = stream.variant.payload_len == PAYLOAD_MIN;
    size_t n_all = (is_small ? 640000u : 320000u) / (options->quick ? 4 : 1);
    stream.is_crowded = !is_cost && !placement_is_enough(placement, stream_n_processes(&stream));
    name_figure(name, sizeof name, &stream);

    int rc = is_cost ? measure_cost(&stream.variant, n_all, placement, &value)
                     : stream_run(&stream, n_all, placement, &value, &n_full);
    if (rc != 0)
        return rc;
    if (is_cost)
        figure_add(table_figure(table, name, UNIT_NS, 'H'), value, limits->hop_ns, n_all);
    else
        figure_add(table_figure(table, name, UNIT_MILLIONS_PER_S, 'S'), value,
                   is_small ? limits->stream_64 : limits->stream_512, n_all);
    if (options->raw != NULL)
        fprintf(options->raw, "%s\trun %d\t%s\t%.1f\tring found full %llu times\n", name, run + 1,
                is_cost ? "ns per call" : "events/s", value, (unsigned long long)n_full);
    return 0;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    for (int run = options->first_run; run < options->first_run + options->n_runs && rc == 0; run++) {
        struct limits limits;
        rc = limits_measure(&limits, LIMITS_STREAM, placement, options, table, run);
        for (size_t k = 0; k < sizeof streams / sizeof streams[0] && rc == 0; k++)
            rc = measure(&streams[k], &limits, placement, options, table, run);
    }
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(argc, argv,
                             "How many events per second pass from producers to one consumer, or to a group?", false,
                             measure_all);
}
