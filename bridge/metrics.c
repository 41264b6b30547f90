/* metrics.c: the bridge in numbers, for Prometheus.
 *
 * One table, as the library has one for the bus: a row is a metric, and says which field of struct metrics it is, in which unit, and what it
 * means; names end in the base unit. The bus's own metrics follow in the same text: so a host is one scrape, and what the bridge is behind
 * by stands beside what the bus has. Names of the two differ in evbus_bridge_.
 *
 * Times go into fixed buckets, from 100 us (a Redis on this host) to 10 s (reply_timeout): so those of all hosts can be added up.
 * Checked by tests/broker/test_metrics.c and, with promtool, by tests/cli/test_bridge_config.sh. */
#include "metrics.h"

#include <evbus/admin.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "evbus_bridge_"
#define US     UINT64_C(1000)
#define MS     UINT64_C(1000000)

static const uint64_t bounds_ns[METRICS_BUCKETS - 1] = {
    100 * US, 250 * US, 500 * US, 1 * MS,   2500 * US, 5 * MS,    10 * MS,    25 * MS,
    50 * MS,  100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 10000 * MS,
};

#define FIELD(field) #field, offsetof(struct metrics, field)

/* clang-format off */
const struct metrics_row metrics_table[] = {
    {METRICS_GAUGE, METRICS_NS, "start_timestamp_seconds", FIELD(started_ns),
     "When this process began."},
    {METRICS_GAUGE, METRICS_FLAG, "bus_present", FIELD(bus_here),
     "1: the bus is there; 0: it was removed, or made anew."},
    {METRICS_GAUGE, METRICS_FLAG, "connected", FIELD(connected),
     "1: there is a broker that answers; else events wait in the bus."},
    {METRICS_GAUGE, METRICS_FLAG, "leader", FIELD(leader),
     "1: this process mirrors; 0: it stands by, as another one of this bus does."},
    {METRICS_GAUGE, METRICS_FLAG, "paused", FIELD(paused),
     "1: somebody has paused it."},
    {METRICS_GAUGE, METRICS_ONE, "epoch", FIELD(epoch),
     "Of our leadership, higher than all before; 0: there was none yet."},
    {METRICS_COUNTER, METRICS_ONE, "connects_total", FIELD(connects),
     "Connections to the broker that came up; all but the first are reconnects."},
    {METRICS_COUNTER, METRICS_ONE, "connect_failures_total", FIELD(connect_failures),
     "Connections to the broker that did not come up."},
    {METRICS_COUNTER, METRICS_ONE, "config_reloads_total", FIELD(reloads),
     "Times that a new config was taken."},
    {METRICS_COUNTER, METRICS_ONE, "config_reload_failures_total", FIELD(reload_failures),
     "Times that a new config was wrong, and the old one kept."},
    {METRICS_COUNTER, METRICS_ONE, "checkpoints_total", FIELD(checkpoints),
     "Times that it was put on the record what has come in."},

    {METRICS_COUNTER, METRICS_ONE, "out_events_total", FIELD(out_events),
     "Events that the broker has said it has."},
    {METRICS_COUNTER, METRICS_BYTES, "out_bytes_total", FIELD(out_bytes),
     "Payloads of these."},
    {METRICS_COUNTER, METRICS_ONE, "out_batches_total", FIELD(out_batches),
     "Batches that it has."},
    {METRICS_GAUGE, METRICS_ONE, "out_batches_under_way", FIELD(out_under_way),
     "Batches that it has not answered yet."},
    {METRICS_GAUGE, METRICS_NS, "out_lag_seconds", FIELD(out_lag_ns),
     "How long, at least, the oldest event that is not at the broker yet has waited; 0: all is there. evbus_group_lag_events of group bridge-NAME tells how much."},
    {METRICS_COUNTER, METRICS_ONE, "out_gaps_total", FIELD(out_gaps),
     "Times that the broker had lost our last entries, as by a failover, or was emptied."},
    {METRICS_COUNTER, METRICS_ONE, "out_refilled_events_total", FIELD(out_refilled_events),
     "Events sent once more for that."},
    {METRICS_COUNTER, METRICS_ONE, "out_fenced_batches_total", FIELD(out_fenced),
     "Batches that the broker refused since another bridge of this bus leads."},
    {METRICS_COUNTER, METRICS_ONE, "out_refused_batches_total", FIELD(out_refused),
     "Batches that the broker refused for another reason (memory, rights, a replica); the log tells it."},
    {METRICS_COUNTER, METRICS_CELLS, "out_lost_bytes_total", FIELD(out_lost_cells),
     "What was gone from the bus before it could be read; 0 unless files were damaged."},
    {METRICS_HISTOGRAM, METRICS_NS, "append_seconds", FIELD(append),
     "From sending a batch to the broker's answer."},

    {METRICS_COUNTER, METRICS_ONE, "in_events_total", FIELD(in_events),
     "Events from the broker that were published on the bus."},
    {METRICS_COUNTER, METRICS_BYTES, "in_bytes_total", FIELD(in_bytes),
     "Payloads of these."},
    {METRICS_COUNTER, METRICS_ONE, "in_own_entries_total", FIELD(in_own),
     "Entries that came from this bus, and were left out."},
    {METRICS_COUNTER, METRICS_ONE, "in_repeated_entries_total", FIELD(in_repeated),
     "Entries that the bus has already, and were left out."},
    {METRICS_COUNTER, METRICS_ONE, "in_rejected_entries_total", FIELD(in_rejected),
     "Entries that are no event, or one that the bus refuses: dead letters of the mirror's group."},
    {METRICS_COUNTER, METRICS_ONE, "in_stream_resets_total", FIELD(in_resets),
     "Streams of the broker that began anew."},
    {METRICS_COUNTER, METRICS_ONE, "in_gaps_total", FIELD(in_gaps),
     "Times that events of another bus were missing, and a stream was read from its beginning for them."},
    {METRICS_HISTOGRAM, METRICS_NS, "bring_seconds", FIELD(bring),
     "From an entry's arrival here to its publication on the bus."},

    {METRICS_COUNTER, METRICS_ONE, "trims_total", FIELD(trims),
     "Times that a stream was looked at for what nobody needs any more."},
    {METRICS_COUNTER, METRICS_ONE, "trimmed_entries_total", FIELD(trimmed_entries),
     "Entries that went by that."},
    {METRICS_COUNTER, METRICS_ONE, "dropped_hosts_total", FIELD(dropped_hosts),
     "Hosts that were gone for longer than host_timeout, and are not waited for any more."},
};
/* clang-format on */
const size_t metrics_n = sizeof metrics_table / sizeof metrics_table[0];

void metrics_time(struct metrics_times *times, uint64_t ns)
{
    size_t i = 0;
    while (i < METRICS_BUCKETS - 1 && ns > bounds_ns[i])
        i++;
    times->n[i]++;
    times->sum_ns += ns;
}

/* --- the text ----------------------------------------------------------------------------------------------------- */

struct text {
    char *at;
    size_t len;
    size_t cap;
    bool is_cut; /* no memory */
};

static void put_bytes(struct text *out, const char *bytes, size_t len)
{
    if (out->len + len > out->cap && !out->is_cut) {
        size_t cap = 2 * out->cap + len + 16384;
        char *more = realloc(out->at, cap);
        out->is_cut = more == NULL;
        out->at = more != NULL ? more : out->at;
        out->cap = more != NULL ? cap : out->cap;
    }
    if (out->is_cut)
        return;
    memcpy(out->at + out->len, bytes, len);
    out->len += len;
}

__attribute__((format(printf, 2, 3))) static void put(struct text *out, const char *format, ...)
{
    char piece[1024]; /* the longest is a help with its names */
    va_list args;
    va_start(args, format);
    int len = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    put_bytes(out, piece, len < (int)sizeof piece ? (size_t)len : sizeof piece - 1);
}

static void put_number(struct text *out, enum metrics_unit unit, uint64_t number)
{
    switch (unit) {
    case METRICS_NS:
        put(out, "%" PRIu64 ".%09" PRIu64, number / 1000000000, number % 1000000000);
        return;
    case METRICS_FLAG:
        put(out, "%d", number != 0);
        return;
    case METRICS_CELLS:
        put(out, "%" PRIu64, 64 * number); /* bytes of a cell */
        return;
    case METRICS_ONE:
    case METRICS_BYTES:
        put(out, "%" PRIu64, number);
        return;
    }
}

static void put_times(struct text *out, const char *name, const char *labels, const struct metrics_times *times)
{
    uint64_t n = 0;
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        n += times->n[i];
        if (i < METRICS_BUCKETS - 1)
            put(out, PREFIX "%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", name, labels, (double)bounds_ns[i] / 1e9, n);
        else
            put(out, PREFIX "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", name, labels, n);
    }
    put(out, PREFIX "%s_sum{%s} ", name, labels);
    put_number(out, METRICS_NS, times->sum_ns);
    put(out, "\n" PREFIX "%s_count{%s} %" PRIu64 "\n", name, labels, n);
}

static void put_row(struct text *out, const struct metrics_row *row, const char *labels, const struct metrics *metrics)
{
    static const char *const kinds[] = {"gauge", "counter", "histogram"};
    const char *field = (const char *)metrics + row->offset;
    put(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", row->name, row->help, row->name, kinds[row->kind]);
    if (row->kind == METRICS_HISTOGRAM) {
        struct metrics_times times;
        memcpy(&times, field, sizeof times);
        put_times(out, row->name, labels, &times);
        return;
    }
    uint64_t number = 0;
    memcpy(&number, field, sizeof number);
    put(out, PREFIX "%s{%s} ", row->name, labels);
    put_number(out, row->unit, number);
    put(out, "\n");
}

static int keep_text(void *context, const char *text, size_t len)
{
    put_bytes(context, text, len);
    return EVBUS_OK;
}

/* bus, mirror and backend are names of a-z 0-9 - _, as config.c and backends have them: nothing in them is to be escaped. */
int metrics_write(const struct metrics *metrics, const char *bus_name, const char *mirror, const char *backend,
                  struct evbus *bus, int (*write)(void *context, const char *text, size_t len), void *context)
{
    struct text out = {0};
    char labels[200];
    (void)snprintf(labels, sizeof labels, "bus=\"%s\",mirror=\"%s\"", bus_name, mirror);
    put(&out,
        "# HELP " PREFIX "info 1; which broker it mirrors to, and its version.\n# TYPE " PREFIX "info gauge\n" PREFIX
        "info{%s,backend=\"%s\",version=\"%s\"} 1\n",
        labels, backend, evbus_version());
    for (size_t i = 0; i < metrics_n; i++)
        put_row(&out, &metrics_table[i], labels, metrics);
    int rc = bus != NULL ? evbus_metrics(bus, keep_text, &out) : EVBUS_OK;
    (void)rc; /* a bus that is gone has no numbers; bus_present says so */
    rc = out.is_cut ? EVBUS_ENOSPC : write(context, out.at, out.len);
    free(out.at);
    return rc;
}
