/* metrics.c: a bus in numbers, for Prometheus.
 *
 * One table for all who show it: a row is a metric, and says of what there is one sample each, which field it is of the structs in
 * admin.h, and how that becomes a number of the base unit: seconds, bytes, events. A position counts cells; 64 times that
 * is a counter of bytes, which jumps where a restart skipped cells, as a counter may. The text is the exposition format 0.0.4: HELP and TYPE once,
 * then all samples of the metric. They stand there without samples, too: so each text names all metrics that there are.
 *
 * A new field in a struct of numbers is a new row: tests/unit/test_metrics.c reads admin.h and misses it.
 * Checked by tests/unit/test_metrics.c and, with promtool, by tests/cli/test_prometheus.sh. */
#include "metrics.h"

#include "bus.h"
#include "clock.h"
#include "pending.h"
#include "stat.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

/* A field: its name and where it stands. */
#define BUS(field)       #field, offsetof(struct evbus_stat, field)
#define SERVICE(field)   #field, offsetof(struct metrics_service, field)
#define PARTITION(field) #field, offsetof(struct evbus_partition_stat, field)
#define GROUP(field)     #field, offsetof(struct evbus_group_stat, field)
#define PART(field)      #field, offsetof(struct evbus_group_part_stat, field)

/* clang-format off */
const struct metrics_row metrics_rows[] = {
    {METRICS_INFO, METRICS_GAUGE, "evbus_info", METRICS_CONSTANT, "uuid", 0,
     "1; which bus, and which version of evbus tells of it."},

    {METRICS_BUS, METRICS_GAUGE, "evbus_created_timestamp_seconds", METRICS_NS, BUS(created_ns),
     "When the bus was made, or came back from its folder."},
    {METRICS_BUS, METRICS_GAUGE, "evbus_incarnation", METRICS_U64, BUS(incarnation),
     "Its how-manieth life, of a bus that remembers; else 0."},
    {METRICS_BUS, METRICS_GAUGE, "evbus_memory_bytes", METRICS_U64, BUS(bytes),
     "Shared memory of the bus, all objects."},
    {METRICS_BUS, METRICS_GAUGE, "evbus_logs", METRICS_U32, BUS(n_logs),
     "Logs, the bus's own among them."},
    {METRICS_BUS, METRICS_GAUGE, "evbus_topics", METRICS_U32, BUS(n_topics),
     "Topics, the bus's own among them."},
    {METRICS_BUS, METRICS_GAUGE, "evbus_slots", METRICS_U32, BUS(n_slots),
     "Slots in use: threads that are attached, or dead and not buried yet."},
    {METRICS_BUS, METRICS_GAUGE, "evbus_slots_max", METRICS_U32, BUS(n_slots_max),
     "Slots that there are."},
    {METRICS_BUS, METRICS_GAUGE, "evbus_slots_retired", METRICS_U32, BUS(n_retired),
     "Slots that nobody can have any more: their threads died in a way that loses a robust mutex."},
    {METRICS_BUS, METRICS_GAUGE, "evbus_processes", METRICS_U32, BUS(n_processes),
     "Processes that are attached."},
    {METRICS_BUS, METRICS_GAUGE, "evbus_keeper_present", METRICS_IS_SET, BUS(keeper_slot),
     "1: some process keeps the bus; 0: nobody releases, buries and writes the journal."},
    {METRICS_BUS, METRICS_COUNTER, "evbus_burials_total", METRICS_U64, BUS(burials),
     "Dead threads that were cleaned up behind."},

    {METRICS_SERVICE, METRICS_GAUGE, "evbus_service_threads", METRICS_U32, SERVICE(n_threads),
     "Threads that are attached as this service."},
    {METRICS_SERVICE, METRICS_GAUGE, "evbus_service_dead_threads", METRICS_U32, SERVICE(n_dead),
     "Of them: dead and not buried yet."},
    {METRICS_SERVICE, METRICS_GAUGE, "evbus_service_cancelled_claims", METRICS_U64, SERVICE(cancels),
     "Claims that were taken from them since they were too slow; it falls when a thread leaves."},

    {METRICS_LOG, METRICS_GAUGE, "evbus_log_sleepers", METRICS_U32, PARTITION(n_sleepers),
     "Threads that sleep until an event comes, the keeper's and group members' among them."},

    {METRICS_PARTITION, METRICS_GAUGE, "evbus_partition_capacity_bytes", METRICS_CELLS, PARTITION(capacity),
     "Size of the ring."},
    {METRICS_PARTITION, METRICS_COUNTER, "evbus_partition_claimed_bytes_total", METRICS_CELLS, PARTITION(tail),
     "How far its producers have come; it jumps at a restart."},
    {METRICS_PARTITION, METRICS_COUNTER, "evbus_partition_released_bytes_total", METRICS_CELLS, PARTITION(released),
     "What of that may be overwritten; the claimed bytes less these are in use, up to three quarters of the ring in a healthy bus."},
    {METRICS_PARTITION, METRICS_GAUGE, "evbus_partition_pinned_bytes", METRICS_TO_TAIL, PARTITION(low),
     "From the first byte that a pin or group holds to the end."},
    {METRICS_PARTITION, METRICS_GAUGE, "evbus_partition_pins", METRICS_U32, PARTITION(n_pins),
     "Readers that pin."},
    {METRICS_PARTITION, METRICS_COUNTER, "evbus_partition_full_total", METRICS_U64, PARTITION(full),
     "Publishes that found the ring full and failed."},
    {METRICS_PARTITION, METRICS_COUNTER, "evbus_partition_cancelled_claims_total", METRICS_U64, PARTITION(cancels),
     "Claims taken from producers that were too slow."},
    {METRICS_PARTITION, METRICS_COUNTER, "evbus_partition_buried_claims_total", METRICS_U64, PARTITION(buried),
     "Claims of the dead that were cleared."},
    {METRICS_PARTITION, METRICS_COUNTER, "evbus_partition_fences_total", METRICS_U64, PARTITION(fences),
     "Cancelled claims whose cells were left out, since their producers were stopped."},
    {METRICS_PARTITION, METRICS_GAUGE, "evbus_partition_fenced_claims", METRICS_U32, PARTITION(n_fences),
     "Of them: whose producers are still stopped; 16 at most, the next one fills the ring."},

    {METRICS_JOURNAL, METRICS_COUNTER, "evbus_journal_written_bytes_total", METRICS_CELLS, PARTITION(journaled),
     "What of the claimed bytes stands in files; the others are in memory alone."},
    {METRICS_JOURNAL, METRICS_COUNTER, "evbus_journal_synced_bytes_total", METRICS_CELLS, PARTITION(synced),
     "What of the written bytes is on disk; a power cut would take the others."},
    {METRICS_JOURNAL, METRICS_COUNTER, "evbus_journal_retired_bytes_total", METRICS_CELLS, PARTITION(oldest),
     "What is kept no more: where the first file begins."},
    {METRICS_JOURNAL, METRICS_GAUGE, "evbus_journal_kept_bytes", METRICS_U64, PARTITION(kept_bytes),
     "Events in files."},
    {METRICS_JOURNAL, METRICS_COUNTER, "evbus_journal_syncs_total", METRICS_U64, PARTITION(syncs),
     "fdatasync(2)s that went well."},
    {METRICS_JOURNAL, METRICS_GAUGE, "evbus_journal_failed", METRICS_IS_SET, PARTITION(write_failed),
     "1: the last write or sync failed, and nothing is appended; evbus doctor tells why."},

    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_members", METRICS_U32, GROUP(n_members),
     "Living members."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_absent_seconds", METRICS_NS, GROUP(absent_ns),
     "Without a living member since; 0: it has one."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_partitions", METRICS_U32, GROUP(n_partitions),
     "Partitions that it reads."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_lag_events", METRICS_U64, GROUP(lag_events),
     "Events that it is to receive and has not come to; what waits behind a held key it has passed already."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_lag_estimated", METRICS_IS, GROUP(is_lag_estimated),
     "1: some of them were not counted, but taken to be as dense as what was: the group is further behind in a partition than 65,536 "
     "frames in memory or 4 MiB in files."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_lag_seconds", METRICS_NS, GROUP(oldest_ns),
     "Age of its oldest event that is not done, taken or not, by the event's timestamp; 0: all is done."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_lag_bytes", METRICS_CELLS, GROUP(lag),
     "From where it is to the end, other topics of its logs included."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_held_bytes", METRICS_U64, GROUP(held_bytes),
     "What is kept for it, in memory or files, until it has done it."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_pending_events", METRICS_U32, GROUP(n_pending),
     "Events that are taken and not done."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_running_events", METRICS_U32, GROUP(n_running),
     "Of them: in a handler."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_waiting_events", METRICS_U32, GROUP(n_waiting),
     "Of them: to be tried again."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_dead_events", METRICS_U32, GROUP(n_dead),
     "Of them: spent, their dead letters not published yet since the log of dead letters is full."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_parked_events", METRICS_U32, GROUP(n_parked),
     "Of them: dead letters behind which their keys wait until somebody replays or discards them."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_paused", METRICS_IS, GROUP(is_paused),
     "1: many different events have failed the same way; one at a time is tried, and none is charged."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_same_failures", METRICS_U32, GROUP(n_same_failures),
     "Different events that have failed the same way since one was done."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_paused_since_timestamp_seconds", METRICS_NS, GROUP(paused_since_ns),
     "When the pause began; 0: the group is not paused."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_next_probe_seconds", METRICS_NS, GROUP(next_probe_ns),
     "Until the next event is tried while the group is paused; 0: that is under way."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_pending_attempts_max", METRICS_U32, GROUP(attempts_max),
     "Of them: the most attempts that one has had."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_held_keys", METRICS_U32, GROUP(n_held_keys),
     "Keys whose event failed, and waits to be tried again or for its dead letter: their later events wait behind it."},
    {METRICS_GROUP, METRICS_GAUGE, "evbus_group_blocked_keys", METRICS_U32, GROUP(n_blocked_keys),
     "Keys of pending events behind which later ones wait already."},
    {METRICS_GROUP, METRICS_COUNTER, "evbus_group_done_events_total", METRICS_U64, GROUP(done),
     "Events acknowledged."},
    {METRICS_GROUP, METRICS_COUNTER, "evbus_group_redelivered_events_total", METRICS_U64, GROUP(redelivered),
     "Attempts beyond the first."},
    {METRICS_CAUSE, METRICS_COUNTER, "evbus_group_failed_attempts_total", METRICS_U64, GROUP(attempts_failed),
     "Attempts that ended badly, by cause; no_version and expired are events that no handler had."},
    {METRICS_GROUP, METRICS_COUNTER, "evbus_group_dead_letters_total", METRICS_U64, GROUP(dead_letters),
     "Dead letters published."},
    {METRICS_GROUP, METRICS_COUNTER, "evbus_group_takeovers_total", METRICS_U64, GROUP(takeovers),
     "Partitions taken from members that died, or hung for longer than a handler may take."},

    {METRICS_GROUP_PART, METRICS_GAUGE, "evbus_group_partition_lag_events", METRICS_U64, PART(lag_events),
     "evbus_group_lag_events, of one partition."},
    {METRICS_GROUP_PART, METRICS_GAUGE, "evbus_group_partition_lag_estimated", METRICS_IS, PART(is_lag_estimated),
     "evbus_group_lag_estimated, of one partition."},
    {METRICS_GROUP_PART, METRICS_GAUGE, "evbus_group_partition_lag_seconds", METRICS_NS, PART(oldest_ns),
     "evbus_group_lag_seconds, of one partition."},
    {METRICS_GROUP_PART, METRICS_GAUGE, "evbus_group_partition_pending_events", METRICS_U32, PART(n_pending),
     "evbus_group_pending_events, of one partition."},
};
/* clang-format on */
const size_t metrics_n_rows = sizeof metrics_rows / sizeof metrics_rows[0];

/* One group, its own copy. */
struct group_copy {
    struct evbus_group_stat stat;
    char name[SERVICE_BYTES];
    struct evbus_group_part_stat *parts; /* their logs' names are the memory's */
};

/* All that is shown, looked at once. */
struct view {
    struct evbus_stat stat;
    void *rows;
    struct metrics_service services[SLOTS_MAX];
    size_t n_services;
    struct group_copy groups[GROUPS_MAX];
    size_t n_groups;
};

static int keep_group(void *context, const struct evbus_group_stat *group)
{
    struct view *view = context;
    struct group_copy *copy = &view->groups[view->n_groups];
    copy->parts = malloc(group->n_parts * sizeof copy->parts[0] + 1);
    if (copy->parts == NULL)
        return error_no_memory(error_of_thread(), "%zu partitions of a group", group->n_parts);
    copy->stat = *group;
    memcpy(copy->parts, group->parts, group->n_parts * sizeof copy->parts[0]);
    snprintf(copy->name, sizeof copy->name, "%s", group->group);
    view->n_groups++;
    return EVBUS_OK;
}

static void count_services(struct view *view)
{
    for (uint32_t i = 0; i < view->stat.n_slots; i++) {
        const struct evbus_slot_stat *slot = &view->stat.slots[i];
        size_t at = 0;
        while (at < view->n_services && strcmp(view->services[at].service, slot->service) != 0)
            at++;
        struct metrics_service *service = &view->services[at];
        if (at == view->n_services)
            view->services[view->n_services++].service = slot->service;
        service->n_threads++;
        service->n_dead += slot->is_dead;
        service->cancels += slot->cancels;
    }
}

/* What has been written so far. */
struct text {
    char *at;
    size_t len;
    size_t cap;
    bool is_cut; /* no memory */
};

__attribute__((format(printf, 2, 3))) static void put(struct text *out, const char *format, ...)
{
    char piece[1024]; /* the longest is a help with its names */
    va_list args;
    va_start(args, format);
    int len = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    assert(len >= 0 && (size_t)len < sizeof piece);
    if (out->len + (size_t)len >= out->cap && !out->is_cut) {
        size_t cap = 2 * out->cap + 65536;
        char *more = realloc(out->at, cap);
        out->is_cut = more == NULL;
        out->at = more != NULL ? more : out->at;
        out->cap = more != NULL ? cap : out->cap;
    }
    if (out->is_cut)
        return;
    memcpy(out->at + out->len, piece, (size_t)len + 1);
    out->len += (size_t)len;
}

/* Names are plain; what else memory says is ASCII here, whatever stands there. */
static void put_label(struct text *out, char before, const char *name, const char *value)
{
    char escaped[2 * NAME_BYTES];
    size_t len = 0;
    for (; *value != '\0' && len + 2 < sizeof escaped; value++) {
        if (*value == '\n' || *value == '\\' || *value == '"')
            escaped[len++] = '\\';
        if (*value == '\n')
            escaped[len++] = 'n';
        else
            escaped[len++] = *value >= ' ' && *value <= '~' ? *value : '?';
    }
    escaped[len] = '\0';
    put(out, "%c%s=\"%s\"", before, name, escaped);
}

static void put_number_label(struct text *out, const char *name, uint32_t number)
{
    put(out, ",%s=\"%" PRIu32 "\"", name, number);
}

/* thing: the struct that the row is of; tail: the partition's. */
static void put_value(struct text *out, const struct metrics_row *row, const void *thing, uint64_t tail)
{
    const char *at = (const char *)thing + row->offset;
    uint64_t whole = 0;
    uint32_t half = 0;
    bool is = false;
    switch (row->kind) {
    case METRICS_U32:
    case METRICS_IS_SET:
        memcpy(&half, at, sizeof half);
        whole = row->kind == METRICS_U32 ? half : half != 0;
        break;
    case METRICS_IS:
        memcpy(&is, at, sizeof is);
        whole = is;
        break;
    case METRICS_CONSTANT:
        whole = 1;
        break;
    default:
        memcpy(&whole, at, sizeof whole);
    }
    if (row->kind == METRICS_TO_TAIL)
        whole = tail > whole ? tail - whole : 0;
    if (row->kind == METRICS_CELLS || row->kind == METRICS_TO_TAIL)
        whole *= CELL_BYTES;
    if (row->kind == METRICS_NS)
        put(out, "} %" PRIu64 ".%09" PRIu64 "\n", whole / CLOCK_NS_PER_S, whole % CLOCK_NS_PER_S);
    else
        put(out, "} %" PRIu64 "\n", whole);
}

static void begin(struct text *out, const struct view *view, const struct metrics_row *row)
{
    put(out, "%s", row->name);
    put_label(out, '{', "bus", view->stat.bus);
}

static void put_info(struct text *out, const struct view *view, const struct metrics_row *row)
{
    char uuid[37];
    uuid_unparse_lower(view->stat.uuid, uuid);
    begin(out, view, row);
    put_label(out, ',', "version", evbus_version());
    put_label(out, ',', "uuid", uuid);
    put_value(out, row, view, 0);
}

static void put_partitions(struct text *out, const struct view *view, const struct metrics_row *row)
{
    for (size_t i = 0; i < view->stat.n_partitions; i++) {
        const struct evbus_partition_stat *partition = &view->stat.partitions[i];
        if ((row->of == METRICS_LOG && partition->partition != 0) ||
            (row->of == METRICS_JOURNAL && !partition->has_journal))
            continue;
        begin(out, view, row);
        put_label(out, ',', "log", partition->log);
        if (row->of != METRICS_LOG)
            put_number_label(out, "partition", partition->partition);
        put_value(out, row, partition, partition->tail);
    }
}

static void put_group_parts(struct text *out, const struct view *view, const struct metrics_row *row,
                            const struct group_copy *group)
{
    for (size_t i = 0; i < group->stat.n_parts; i++) {
        begin(out, view, row);
        put_label(out, ',', "group", group->name);
        put_label(out, ',', "log", group->parts[i].log);
        put_number_label(out, "partition", group->parts[i].partition);
        put_value(out, row, &group->parts[i], 0);
    }
}

static void put_causes(struct text *out, const struct view *view, const struct metrics_row *row,
                       const struct group_copy *group)
{
    for (int i = CAUSE_FAILED; i < CAUSES; i++) {
        begin(out, view, row);
        put_label(out, ',', "group", group->name);
        put_label(out, ',', "cause", pending_cause_name((enum pending_cause)i));
        put_value(out, row, (const char *)&group->stat + (size_t)i * sizeof group->stat.attempts_failed[0], 0);
    }
}

static void put_samples(struct text *out, const struct view *view, const struct metrics_row *row)
{
    switch (row->of) {
    case METRICS_INFO:
        put_info(out, view, row);
        break;
    case METRICS_BUS:
        begin(out, view, row);
        put_value(out, row, &view->stat, 0);
        break;
    case METRICS_SERVICE:
        for (size_t i = 0; i < view->n_services; i++) {
            begin(out, view, row);
            put_label(out, ',', "service", view->services[i].service);
            put_value(out, row, &view->services[i], 0);
        }
        break;
    case METRICS_LOG:
    case METRICS_PARTITION:
    case METRICS_JOURNAL:
        put_partitions(out, view, row);
        break;
    case METRICS_GROUP:
        for (size_t i = 0; i < view->n_groups; i++) {
            begin(out, view, row);
            put_label(out, ',', "group", view->groups[i].name);
            put_value(out, row, &view->groups[i].stat, 0);
        }
        break;
    case METRICS_CAUSE:
        for (size_t i = 0; i < view->n_groups; i++)
            put_causes(out, view, row, &view->groups[i]);
        break;
    case METRICS_GROUP_PART:
        for (size_t i = 0; i < view->n_groups; i++)
            put_group_parts(out, view, row, &view->groups[i]);
        break;
    }
}

static int print(const struct view *view, struct text *out, struct error *err)
{
    static const char *const types[] = {[METRICS_GAUGE] = "gauge", [METRICS_COUNTER] = "counter"};
    for (size_t i = 0; i < metrics_n_rows; i++) {
        const struct metrics_row *row = &metrics_rows[i];
        put(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name, types[row->type]);
        put_samples(out, view, row);
    }
    return out->is_cut ? error_no_memory(err, "the metrics") : EVBUS_OK;
}

EVBUS_API int evbus_metrics(struct evbus *bus, int (*write)(void *context, const char *text, size_t len), void *context)
{
    struct error *err = error_of_thread();
    struct text text = {0};
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && write == NULL)
        rc = error_set(err, EVBUS_EINVAL, "write is NULL");
    struct view *view = rc == EVBUS_OK ? calloc(1, sizeof *view) : NULL;
    if (rc == EVBUS_OK && view == NULL)
        rc = error_no_memory(err, "the metrics");
    if (rc == EVBUS_OK)
        rc = evbus_groups(bus, keep_group, view); /* which maps new logs, too */
    if (rc == EVBUS_OK)
        rc = stat_collect(bus, &view->stat, &view->rows, err);
    if (rc == EVBUS_OK) {
        count_services(view);
        rc = print(view, &text, err);
    }
    for (size_t i = 0; view != NULL && i < view->n_groups; i++)
        free(view->groups[i].parts);
    if (view != NULL)
        free(view->rows);
    free(view);
    if (rc == EVBUS_OK)
        rc = write(context, text.at, text.len);
    free(text.at);
    return rc;
}
