/* peers_aeron.c: Aeron IPC, which is a library of Java: Aeron.java does what the loops of peers.c do, in two virtual machines, and its figures are
 * told here, beside evbus's of the same run. Without java or its jar ($AERON_JAR) it is left out, with a line and exit code 0.
 *
 *   trip    spinning, told in H and in E: evbus's reader
 *   stream  events per second, told in S and in E. Both as in peers_latency.c and peers_throughput.c, but that a virtual machine warms up for
 *           longer: 100,000 round trips, and as many events as are counted */
#include "daemon.h"
#include "peers.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TRIPS = 100000, EVENTS = 2000000, EVBUS_EVENTS = 640000 };

extern const struct peer peer_evbus;

struct machines {
    struct daemon sides[2];
    char folder[64];
};

static int start(struct machines *machines, int index, const struct placement *placement, size_t n_trips,
                 size_t n_events)
{
    char folder[128], cpu[16], trips[24], events[24];
    snprintf(folder, sizeof folder, "%s/driver", machines->folder);
    snprintf(cpu, sizeof cpu, "%d", placement->cpu[index]);
    snprintf(trips, sizeof trips, "%zu", n_trips);
    snprintf(events, sizeof events, "%zu", n_events);
    const char *const words[] = {"java",
                                 "--add-opens",
                                 "java.base/sun.nio.ch=ALL-UNNAMED",
                                 "-cp",
                                 getenv("AERON_JAR"),
                                 AERON_SOURCE,
                                 index == 0 ? "ping" : "pong",
                                 folder,
                                 cpu,
                                 trips,
                                 events,
                                 NULL};
    return daemon_start(&machines->sides[index], words, machines->folder, index == 0 ? "ping" : "pong");
}

/* Both end by themselves. */
static int await_end(struct machines *machines)
{
    int n_left = 2, status;
    for (uint64_t since = now_ns(); n_left > 0; usleep(1000)) {
        for (int i = 0; i < 2; i++) {
            if (machines->sides[i].pid <= 0 || !daemon_has_ended(&machines->sides[i], &status))
                continue;
            n_left--;
            if (status != 0)
                return daemon_fails(&machines->sides[i], "Aeron");
        }
        if (now_ns() - since > 6 * PATIENCE_NS)
            return daemon_fails(&machines->sides[1], "Aeron does not end; it");
    }
    return 0;
}

/* Behind "name len\t" in what a side has said. NULL: it has not. To be freed with *out_text. */
static const char *find(const struct daemon *side, const char *name, size_t len, char **out_text)
{
    char start[32];
    size_t cap = 0;
    FILE *in = fopen(side->log, "r");
    snprintf(start, sizeof start, "%s %zu\t", name, len);
    *out_text = NULL;
    ssize_t got = -1;
    while (in != NULL && (got = getline(out_text, &cap, in)) > 0 && strncmp(*out_text, start, strlen(start)) != 0)
        ;
    if (in != NULL)
        fclose(in);
    return got > 0 ? *out_text + strlen(start) : NULL;
}

static int tell_trips(const struct daemon *ping, size_t len, size_t n, double hop, double ours,
                      const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX], *text, *end;
    struct samples *samples = samples_new(n);
    const char *at = find(ping, "trip", len, &text);
    for (; samples != NULL && at != NULL && samples->n < n && *at != '\n'; at = end + 1)
        samples_add(samples, strtoull(at, &end, 10));
    free(text);
    if (samples == NULL || samples->n != n)
        return fails("Aeron: not all samples came");
    snprintf(name, sizeof name, "Aeron IPC, spin, %zu B", len);
    samples_save(options->raw, samples, name, run);
    struct summary summary = samples_summary(samples);
    struct figure *figure = table_figure(table, name, UNIT_NS, 'H');
    figure_add_summary(figure, &summary, hop);
    figure_also(figure, 'E', ours);
    samples_free(samples);
    return 0;
}

static int tell_stream(const struct daemon *pong, size_t len, size_t n, double stream, double ours,
                       const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX], *text;
    const char *at = find(pong, "stream", len, &text);
    double per_s = at != NULL ? strtod(at, NULL) : 0;
    free(text);
    if (per_s <= 0)
        return fails("Aeron: no events per second came");
    snprintf(name, sizeof name, "Aeron IPC, stream, %zu B", len);
    struct figure *figure = table_figure(table, name, UNIT_MILLIONS_PER_S, 'S');
    figure_add(figure, per_s, stream, n);
    figure_also(figure, 'E', ours);
    if (options->raw != NULL)
        fprintf(options->raw, "%s\trun %d\tevents/s\t%.1f\n", name, run + 1, per_s);
    return 0;
}

/* evbus, by the loops of peers.c. */
static int measure_ours(size_t len, size_t n_trips, size_t n_events, const struct placement *placement,
                        double *out_trip_ns, double *out_per_s)
{
    struct samples *samples = samples_new(n_trips);
    if (samples == NULL)
        return fails("no memory for samples");
    int rc = peers_round_trip(&peer_evbus, true, len, n_trips, placement, samples);
    if (rc == 0)
        *out_trip_ns = samples_summary(samples).p50;
    samples_free(samples);
    return rc != 0 ? rc : peers_stream(&peer_evbus, PEER_STREAM, false, true, len, n_events, placement, out_per_s);
}

static int run_machines(struct machines *machines, const struct placement *placement, size_t n_trips, size_t n_events)
{
    snprintf(machines->folder, sizeof machines->folder, "/dev/shm/evbus-bench-XXXXXX");
    if (mkdtemp(machines->folder) == NULL)
        return fails("%s: cannot make it", machines->folder);
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = start(machines, i, placement, n_trips, n_events);
    return rc == 0 ? await_end(machines) : rc;
}

static void clear_away(struct machines *machines)
{
    for (int i = 0; i < 2; i++)
        if (machines->sides[i].pid > 0) {
            machines->sides[i].end_signal = SIGKILL;
            daemon_stop(&machines->sides[i], "java");
        }
    folder_remove(machines->folder);
}

static int measure(const struct limits *limits, const struct placement *placement, const struct bench_options *options,
                   struct table *table, int run)
{
    static const size_t lens[] = {64, 512};
    const double streams[] = {limits->stream_64, limits->stream_512};
    size_t share = options->quick ? 4 : 1, n_trips = TRIPS / share, n_events = EVENTS / share;
    struct machines machines = {0};
    int rc = run_machines(&machines, placement, n_trips, n_events);
    for (size_t l = 0; l < 2 && rc == 0; l++) {
        double trip = 0, stream = 0;
        rc = measure_ours(lens[l], n_trips, EVBUS_EVENTS / share, placement, &trip, &stream);
        if (rc == 0)
            rc = tell_trips(&machines.sides[0], lens[l], n_trips, limits->hop_ns, trip, options, table, run);
        if (rc == 0)
            rc = tell_stream(&machines.sides[1], lens[l], n_events, streams[l], stream, options, table, run);
    }
    clear_away(&machines);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    for (int run = 0; run < options->n_runs && rc == 0; run++) {
        struct limits limits;
        rc = limits_measure(&limits, LIMITS_LATENCY | LIMITS_STREAM, placement, options, table, run);
        if (rc == 0)
            rc = measure(&limits, placement, options, table, run);
    }
    return rc;
}

static bool left_out(const char *why)
{
    fprintf(stderr, "left out: Aeron IPC: %s\n", why);
    return true;
}

/* It needs more than other programs of bench/ do. */
static bool is_left_out(void)
{
    char path[512];
    struct placement placement;
    const char *jar = getenv("AERON_JAR");
    placement_choose(&placement);
    if (!placement_is_enough(&placement, 2))
        return left_out("it spins, and there is one processor");
    if (!program_find("java", path, sizeof path))
        return left_out("there is no java (Debian: default-jdk-headless)");
    if (jar == NULL || access(jar, R_OK) != 0)
        return left_out("there is no $AERON_JAR (Maven: io.aeron:aeron-all:1.44.1)");
    return false;
}

int main(int argc, char **argv)
{
    if (is_left_out())
        return 0;
    return own_bus_benchmark(argc, argv, "How quick is Aeron IPC, beside evbus?", false, measure_all);
}
