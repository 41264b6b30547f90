/* cmd_stat.c: how a bus is doing, once or every second.
 *
 * How to read it. TAIL is how far the partition's producers have come, in cells of 64 bytes. FREE is what they can
 * claim without anybody making room: it falls to a quarter in a healthy bus, since room is made in steps; 0 with FULL
 * rising means that a group or a pin holds them up. CANCELS counts claims that readers did not wait for, BURIED those of dead
 * threads. stat does not stand for keeper, so "nobody" is the truth about the others. */
#include "commands.h"
#include "groups.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "stat [--watch] [--prometheus]";

#define WATCH_NS UINT64_C(1000000000)
#define LONG_NS  (3600 * UINT64_C(1000000000)) /* as the doctor has it */

static uint64_t free_cells(const struct evbus_partition_stat *partition)
{
    uint64_t used = partition->tail > partition->released ? partition->tail - partition->released : 0;
    return used < partition->capacity ? partition->capacity - used : 0;
}

/* --- for people --------------------------------------------------------------------------------------------------- */

static void print_service_row(const struct evbus_stat *stat, size_t first)
{
    const char *service = stat->slots[first].service;
    uint32_t n_threads = 0, n_processes = 0, n_dead = 0;
    uint64_t cancels = 0;
    for (size_t i = 0; i < stat->n_slots; ++i) {
        const struct evbus_slot_stat *slot = &stat->slots[i];
        if (strcmp(slot->service, service) != 0)
            continue;
        if (i < first)
            return; /* its row is printed already */
        bool is_new = true;
        for (size_t j = first; j < i; ++j)
            is_new = is_new && (stat->slots[j].pid != slot->pid || strcmp(stat->slots[j].service, service) != 0);
        ++n_threads;
        n_processes += is_new;
        n_dead += slot->is_dead;
        cancels += slot->cancels;
    }
    (void)printf("%-28s %8" PRIu32 " %10" PRIu32 " %8" PRIu32 " %8" PRIu64 "\n", service[0] != '\0' ? service : "-",
                 n_threads, n_processes, n_dead, cancels);
}

/* What is kept on disk. AHEAD is what is in memory alone, UNSYNCED what would be lost by a power cut, in cells of 64 bytes. */
static void print_journal(const struct evbus_stat *stat)
{
    bool has_rows = false;
    for (size_t i = 0; i < stat->n_partitions; ++i) {
        const struct evbus_partition_stat *p = &stat->partitions[i];
        char name[160];
        if (!p->has_journal)
            continue;
        if (!has_rows)
            (void)printf("\n%-28s %14s %14s %8s %8s %10s %s\n", "JOURNAL", "OLDEST", "SYNCED", "UNSYNCED", "AHEAD",
                         "MIB", "STATE");
        has_rows = true;
        (void)snprintf(name, sizeof name, "%s/%" PRIu32, p->log, p->partition);
        (void)printf("%-28s %14" PRIu64 " %14" PRIu64 " %8" PRIu64 " %8" PRIu64 " %10.1f %s\n", name, p->oldest,
                     p->synced, p->journaled > p->synced ? p->journaled - p->synced : 0,
                     p->tail > p->journaled ? p->tail - p->journaled : 0, mebibytes(p->kept_bytes),
                     p->write_failed != EVBUS_OK ? evbus_strerror(p->write_failed) : "ok");
    }
}

/* A group that has been away for long costs disk for as long as it is. */
static int warn_of_absence(void *context, const struct evbus_group_stat *group)
{
    char absent[48];
    (void)context;
    if (group->absent_ns < LONG_NS || group->held_bytes == 0)
        return 0;
    groups_format_age(group->absent_ns, absent, sizeof absent);
    (void)printf("warning: group %s has had no member for %s, and %.1f MiB are kept for it\n", group->group, absent,
                 mebibytes(group->held_bytes));
    return 0;
}

static int print_human(struct evbus *bus, const struct evbus_stat *stat)
{
    struct groups_table groups = {.above = "\n"};
    char age[48];
    uint64_t now_ns = realtime_ns();
    groups_format_age(now_ns > stat->created_ns ? now_ns - stat->created_ns : 0, age, sizeof age);
    (void)printf("bus %s, up %s, %.1f MiB, %" PRIu32 " topics in %" PRIu32 " logs\n", stat->bus, age,
                 mebibytes(stat->bytes), stat->n_topics, stat->n_logs);
    if (stat->keeper_slot == 0)
        (void)printf("keeper nobody");
    else
        (void)printf("keeper %s (pid %" PRId32 ")", stat->keeper_service[0] != '\0' ? stat->keeper_service : "-",
                     stat->keeper_pid);
    (void)printf("; %" PRIu32 " processes, %" PRIu32 " threads attached; %" PRIu64 " dead threads buried, %" PRIu64
                 " partitions taken over\n\n",
                 stat->n_processes, stat->n_slots, stat->burials, stat->takeovers);

    (void)printf("%-28s %10s %14s %6s %8s %8s %8s %8s %8s %5s\n", "PARTITION", "CELLS", "TAIL", "FREE", "FULL",
                 "CANCELS", "FENCES", "BURIED", "SLEEPERS", "PINS");
    for (size_t i = 0; i < stat->n_partitions; ++i) {
        const struct evbus_partition_stat *p = &stat->partitions[i];
        char name[160];
        (void)snprintf(name, sizeof name, "%s/%" PRIu32, p->log, p->partition);
        (void)printf("%-28s %10" PRIu64 " %14" PRIu64 " %5.0f%% %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64
                     " %8" PRIu32 " %5" PRIu32 "\n",
                     name, p->capacity, p->tail,
                     p->capacity > 0 ? 100.0 * (double)free_cells(p) / (double)p->capacity : 0.0, p->full, p->cancels,
                     p->fences, p->buried, p->n_sleepers, p->n_pins);
    }
    print_journal(stat);
    int rc = evbus_groups(bus, groups_print_row, &groups);
    if (rc == EVBUS_OK)
        rc = evbus_groups(bus, warn_of_absence, NULL);
    if (stat->n_slots > 0)
        (void)printf("\n%-28s %8s %10s %8s %8s\n", "SERVICE", "THREADS", "PROCESSES", "DEAD", "CANCELS");
    for (size_t i = 0; i < stat->n_slots; ++i)
        print_service_row(stat, i);
    if (stat->n_retired > 0)
        (void)printf("%" PRIu32 " slots are retired: their threads died in a way that loses them\n", stat->n_retired);
    return rc;
}

/* --- for programs ------------------------------------------------------------------------------------------------- */

static const char *truth(bool is_so)
{
    return is_so ? "true" : "false";
}

static void print_text(const char *before, const char *text)
{
    (void)printf("%s", before);
    print_json(text, strlen(text));
}

static void print_json_partition(const struct evbus_partition_stat *p)
{
    print_text("{\"log\":", p->log);
    (void)printf(",\"partition\":%" PRIu32 ",\"capacity\":%" PRIu64 ",\"tail\":\"%" PRIu64 "\",\"released\":\"%" PRIu64
                 "\",\"low\":",
                 p->partition, p->capacity, p->tail, p->released);
    if (p->low == UINT64_MAX)
        (void)printf("null");
    else
        (void)printf("\"%" PRIu64 "\"", p->low);
    (void)printf(",\"free\":%" PRIu64 ",\"full\":%" PRIu64 ",\"cancels\":%" PRIu64 ",\"buried\":%" PRIu64
                 ",\"fences\":%" PRIu64 ",\"fenced\":%" PRIu32 ",\"sleepers\":%" PRIu32 ",\"pins\":%" PRIu32
                 ",\"journal\":",
                 free_cells(p), p->full, p->cancels, p->buried, p->fences, p->n_fences, p->n_sleepers, p->n_pins);
    if (p->has_journal)
        (void)printf("{\"oldest\":\"%" PRIu64 "\",\"journaled\":\"%" PRIu64 "\",\"synced\":\"%" PRIu64
                     "\",\"keptBytes\":%" PRIu64 ",\"visible\":\"%s\",\"failed\":%s}}",
                     p->oldest, p->journaled, p->synced, p->kept_bytes, p->is_visible_synced ? "synced" : "memory",
                     truth(p->write_failed != EVBUS_OK));
    else
        (void)printf("null}");
}

static void print_json_thread(const struct evbus_slot_stat *slot)
{
    char since[32];
    format_time(slot->since_ns, since);
    (void)printf("{\"slot\":%" PRIu32, slot->slot);
    print_text(",\"service\":", slot->service);
    (void)printf(",\"pid\":%" PRId32 ",\"tid\":%" PRId32 ",\"since\":\"%s\",\"cancels\":%" PRIu64
                 ",\"dead\":%s,\"keeper\":%s}",
                 slot->pid, slot->tid, since, slot->cancels, truth(slot->is_dead), truth(slot->is_keeper));
}

static int print_json_group(void *context, const struct evbus_group_stat *group)
{
    bool *is_first = context;
    (void)printf("%s", *is_first ? "" : ",");
    *is_first = false;
    groups_print_json(group);
    return 0;
}

static int print_json_object(struct evbus *bus, const struct evbus_stat *stat)
{
    bool is_first = true;
    char uuid[37], created[32];
    format_id(stat->uuid, uuid);
    format_time(stat->created_ns, created);
    print_text("{\"bus\":", stat->bus);
    (void)printf(",\"uuid\":\"%s\",\"created\":\"%s\",\"bytes\":%" PRIu64 ",\"logs\":%" PRIu32 ",\"topics\":%" PRIu32
                 ",\"processes\":%" PRIu32 ",\"burials\":%" PRIu64 ",\"takeovers\":%" PRIu64 ",\"keeper\":",
                 uuid, created, stat->bytes, stat->n_logs, stat->n_topics, stat->n_processes, stat->burials,
                 stat->takeovers);
    if (stat->keeper_slot == 0) {
        (void)printf("null");
    } else {
        (void)printf("{\"slot\":%" PRIu32 ",\"pid\":%" PRId32, stat->keeper_slot, stat->keeper_pid);
        print_text(",\"service\":", stat->keeper_service);
        (void)printf("}");
    }
    (void)printf(",\"partitions\":[");
    for (size_t i = 0; i < stat->n_partitions; ++i) {
        (void)printf("%s", i > 0 ? "," : "");
        print_json_partition(&stat->partitions[i]);
    }
    (void)printf("],\"threads\":[");
    for (size_t i = 0; i < stat->n_slots; ++i) {
        (void)printf("%s", i > 0 ? "," : "");
        print_json_thread(&stat->slots[i]);
    }
    (void)printf("],\"retired\":%" PRIu32 ",\"groups\":[", stat->n_retired);
    int rc = evbus_groups(bus, print_json_group, &is_first);
    (void)printf("]}\n");
    return rc;
}

static int print_metrics(void *context, const char *text, size_t len)
{
    (void)context;
    (void)fwrite(text, 1, len, stdout);
    return EVBUS_OK;
}

/* --- once, or every second ---------------------------------------------------------------------------------------- */

static int print_stat(const struct args *args, struct evbus *bus, bool redraws)
{
    struct evbus_stat stat = {.size = sizeof stat};
    int rc = evbus_stat(bus, &stat);
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    if (redraws)
        (void)printf("\033[H\033[J");
    rc = args->json ? print_json_object(bus, &stat) : print_human(bus, &stat);
    return rc == EVBUS_OK ? EXIT_DONE : complain_of(rc, BLAME_COMMAND_LINE);
}

static int watch(const struct args *args, struct evbus *bus)
{
    bool redraws = isatty(STDOUT_FILENO) && !args->json;
    stop_on_signals();
    for (;;) {
        int exit_code = print_stat(args, bus, redraws);
        output_flush();
        if (exit_code != EXIT_DONE)
            return exit_code;
        (void)wait_for(-1, WATCH_NS);
        if (is_stopping() || output_is_closed())
            return EXIT_DONE;
        if (!redraws && !args->json)
            (void)printf("\n");
    }
}

static int run(const struct args *args)
{
    struct evbus *bus;
    int exit_code = check_operands(args, 0, 0, usage);
    if (exit_code == EXIT_DONE && args->prometheus && (args->watch || args->json))
        exit_code = complain(EXIT_USAGE, "--prometheus prints a text of its own, once: without --%s",
                             args->watch ? "watch" : "json");
    if (exit_code == EXIT_DONE)
        exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (args->prometheus) {
        int rc = evbus_metrics(bus, print_metrics, NULL);
        exit_code = rc == EVBUS_OK ? EXIT_DONE : complain_of(rc, BLAME_COMMAND_LINE);
    } else {
        exit_code = args->watch ? watch(args, bus) : print_stat(args, bus, false);
    }
    evbus_close(bus);
    return exit_code;
}

static const struct arg_option options[] = {
    {"watch", 'w', ARG_FLAG, offsetof(struct args, watch), NULL, "again every second, until Ctrl-C"},
    {"prometheus", 0, ARG_FLAG, offsetof(struct args, prometheus), NULL,
     "all counters, in Prometheus' text format; evbus-alerts.yml has rules for them"},
    {0},
};

const struct command command_stat = {
    .name = "stat",
    .summary = "show how a bus is doing",
    .usage = usage,
    .text =
        "For each partition: its cells (64 bytes), how far producers have come, what they can claim at once, how\n"
        "often they found it full, claims cancelled, fenced off (their writers are stopped) and buried, sleepers and\n"
        "pins. For each group: how far it is behind (cells), what it has in hand, its oldest event that is not done, "
        "what was tried again, its dead\n"
        "letters. Then the threads that are attached, by service. With --json one object (with --watch one a\n"
        "second, each on a line). For the journal of each partition: what is kept on disk, what a power cut would "
        "take,\n"
        "and whether it can be written.",
    .examples = "evbus stat\nevbus stat --watch -b staging\nevbus stat --json | jq '.partitions[] | select(.full > "
                "0)'\nevbus stat --prometheus",
    .options = options,
    .run = run,
};
