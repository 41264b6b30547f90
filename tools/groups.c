/* groups.c: groups in numbers, as a table and as JSON.
 *
 * How to read it. ABSENT is how long the group has had no living member, HELD what is kept until it has done it. LAG is how far the group is behind its topics' producers, in cells of 64 bytes. PENDING are events
 * that are taken and not done: RUNNING in a handler, WAITING to be tried again, DEAD spent, their dead letters not yet
 * published since the log of dead letters is full. ATTEMPTS is the most that one of them has had, OLDEST the age of the
 * oldest event that is not done. LETTERS are the dead letters published, TAKEOVERS the partitions that were taken from
 * members that died, or hung for longer than a handler may take. */
#include "groups.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *groups_kind(const struct evbus_group_stat *group)
{
    return group->is_ephemeral ? "ephemeral" : group->is_ad_hoc ? "ad hoc" : "catalogue";
}

const char *groups_cause(int cause)
{
    static const char *const names[] = {"", "failed", "crashed", "timeout", "rejected", "no_version", "expired"};
    return cause > 0 && cause < (int)(sizeof names / sizeof names[0]) ? names[cause] : "";
}

void groups_format_age(uint64_t ns, char *out_text, size_t cap)
{
    uint64_t s = ns / 1000000000;
    if (s < 60)
        (void)snprintf(out_text, cap, "%" PRIu64 " s", s);
    else if (s < 3600)
        (void)snprintf(out_text, cap, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(out_text, cap, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
    else
        (void)snprintf(out_text, cap, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
}

void groups_print_pause(const struct evbus_group_stat *group)
{
    char since[32] = "-";
    if (group->paused_since_ns != 0)
        format_time(group->paused_since_ns, since);
    (void)printf("paused since %s, %" PRIu32 " events failed the same way: \"", since, group->n_same_failures);
    print_plain(group->paused_error, strlen(group->paused_error));
    if (group->next_probe_ns != 0)
        (void)printf("\"; next probe in %" PRIu64 " s\n", (group->next_probe_ns + 999999999) / 1000000000);
    else
        (void)printf("\"; one is tried now\n");
}

int groups_print_row(void *context, const struct evbus_group_stat *group)
{
    struct groups_table *table = context;
    char oldest[48] = "-";
    char absent[48] = "-";
    if (!table->has_rows)
        (void)printf("%s%-28s %-9s %7s %12s %9s %8s %7s %7s %7s %5s %8s %12s %10s %11s %7s %9s\n", table->above,
                     "GROUP", "KIND", "MEMBERS", "ABSENT", "HELD KIB", "LAG", "PENDING", "RUNNING", "WAITING", "DEAD",
                     "ATTEMPTS", "OLDEST", "DONE", "REDELIVERED", "LETTERS", "TAKEOVERS");
    table->has_rows = true;
    if (group->oldest_ns > 0)
        groups_format_age(group->oldest_ns, oldest, sizeof oldest);
    if (group->absent_ns > 0)
        groups_format_age(group->absent_ns, absent, sizeof absent);
    (void)printf("%-28s %-9s %7" PRIu32 " %12s %9" PRIu64 " %8" PRIu64 " %7" PRIu32 " %7" PRIu32 " %7" PRIu32
                 " %5" PRIu32 " %8" PRIu32 " %12s %10" PRIu64 " %11" PRIu64 " %7" PRIu64 " %9" PRIu64 "\n",
                 group->group, groups_kind(group), group->n_members, absent, group->held_bytes / 1024, group->lag,
                 group->n_pending, group->n_running, group->n_waiting, group->n_dead, group->attempts_max, oldest,
                 group->done, group->redelivered, group->dead_letters, group->takeovers);
    if (group->is_paused) {
        (void)printf("    ");
        groups_print_pause(group);
    }
    return 0;
}

static void print_members(const struct evbus_group_stat *group)
{
    (void)printf(",\"members\":[");
    for (uint32_t i = 0; i < group->n_members; ++i) {
        const struct evbus_slot_stat *member = &group->members[i];
        char since[32];
        format_time(member->since_ns, since);
        (void)printf("%s{\"service\":", i > 0 ? "," : "");
        print_json(member->service, strlen(member->service));
        (void)printf(",\"pid\":%" PRId32 ",\"tid\":%" PRId32 ",\"since\":\"%s\"}", member->pid, member->tid, since);
    }
    (void)printf("]");
}

void groups_print_json(const struct evbus_group_stat *group)
{
    (void)printf("{\"group\":");
    print_json(group->group, strlen(group->group));
    (void)printf(",\"kind\":\"%s\",\"partitions\":%" PRIu32 ",\"lag\":%" PRIu64 ",\"pending\":%" PRIu32
                 ",\"running\":%" PRIu32 ",\"waiting\":%" PRIu32 ",\"dead\":%" PRIu32 ",\"attempts\":%" PRIu32
                 ",\"oldestMs\":",
                 groups_kind(group), group->n_partitions, group->lag, group->n_pending, group->n_running,
                 group->n_waiting, group->n_dead, group->attempts_max);
    if (group->oldest_ns > 0)
        (void)printf("%" PRIu64, group->oldest_ns / 1000000);
    else
        (void)printf("null");
    (void)printf(",\"done\":%" PRIu64 ",\"redelivered\":%" PRIu64 ",\"deadLetters\":%" PRIu64 ",\"takeovers\":%" PRIu64
                 ",\"heldBytes\":%" PRIu64 ",\"absentMs\":%" PRIu64 ",\"causes\":{",
                 group->done, group->redelivered, group->dead_letters, group->takeovers, group->held_bytes,
                 group->absent_ns / 1000000);
    for (int i = EVBUS_CAUSE_FAILED; i <= EVBUS_CAUSE_EXPIRED; ++i)
        (void)printf("%s\"%s\":%" PRIu64, i > EVBUS_CAUSE_FAILED ? "," : "", groups_cause(i),
                     group->attempts_failed[i]);
    (void)printf("},\"paused\":");
    if (group->is_paused) {
        char since[32] = "";
        if (group->paused_since_ns != 0)
            format_time(group->paused_since_ns, since);
        (void)printf("{\"since\":\"%s\",\"events\":%" PRIu32 ",\"nextProbeMs\":%" PRIu64 ",\"error\":", since,
                     group->n_same_failures, group->next_probe_ns / 1000000);
        print_json(group->paused_error, strlen(group->paused_error));
        (void)printf("}");
    } else {
        (void)printf("null");
    }
    (void)printf(",\"topics\":[");
    for (size_t i = 0; i < group->n_topics; ++i) {
        (void)printf("%s", i > 0 ? "," : "");
        print_json(group->topics[i], strlen(group->topics[i]));
    }
    (void)printf("],\"accepts\":[");
    for (size_t i = 0; i < group->n_accepts; ++i)
        (void)printf("%s\"%s\"", i > 0 ? "," : "", group->accepts[i]);
    (void)printf("],\"lagEvents\":%" PRIu64 ",\"lagEstimated\":%s,\"heldKeys\":%" PRIu32 ",\"blockedKeys\":%" PRIu32
                 ",\"parked\":%" PRIu32,
                 group->lag_events, group->is_lag_estimated ? "true" : "false", group->n_held_keys,
                 group->n_blocked_keys, group->n_parked);
    print_members(group);
    (void)printf("}");
}
