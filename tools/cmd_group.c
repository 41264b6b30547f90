/* cmd_group.c: look at groups, make one, move one (group_seek.c), forget one.
 *
 * A group is a claim on memory: what it has not done is kept for it, members or none. So `rm` says first what it would
 * throw away; a script says --yes, and a script that does not is refused instead of asked.
 * Checked by tests/cli/test_groups.sh. */
#include "commands.h"
#include "group_seek.h"
#include "groups.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "group ls\ngroup show GROUP\ngroup add GROUP PATTERN... [--from earliest|latest|TIME|@POSITION]\n"
    "group rm GROUP [--yes]\n"
    "group seek GROUP --to earliest|latest|TIME|LOG/PARTITION@POSITION [--dry-run] [--force]";

/* Looks for one group: what to do when it is found, and what came of it. */
struct search {
    const char *name;
    void (*show)(const struct args *args, const struct evbus_group_stat *group);
    const struct args *args;
    bool is_found;
    uint64_t lag;
    uint32_t n_pending;
    uint32_t n_members;
};

static int look_at(void *context, const struct evbus_group_stat *group)
{
    struct search *search = context;
    if (strcmp(group->group, search->name) != 0)
        return 0;
    search->is_found = true;
    search->lag = group->lag;
    search->n_pending = group->n_pending;
    search->n_members = group->n_members;
    if (search->show != NULL)
        search->show(search->args, group);
    return 0;
}

/* Returns EXIT_DONE, or the exit code after the message. */
static int find(struct evbus *bus, struct search *search)
{
    int rc = evbus_groups(bus, look_at, search);
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    if (!search->is_found)
        return complain(EXIT_NO, "there is no group %s; `evbus group ls` lists them", search->name);
    return EXIT_DONE;
}

/* --- ls, show ----------------------------------------------------------------------------------------------------- */

static int print_name(void *context, const struct evbus_group_stat *group)
{
    (void)context;
    (void)printf("%s\n", group->group);
    return 0;
}

static int print_json_line(void *context, const struct evbus_group_stat *group)
{
    (void)context;
    groups_print_json(group);
    (void)printf("\n");
    return 0;
}

static int list(const struct args *args, struct evbus *bus)
{
    struct groups_table table = {.above = ""};
    int rc = evbus_groups(bus, args->names ? print_name : args->json ? print_json_line : groups_print_row, &table);
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    if (!table.has_rows && !args->names && !args->json)
        return complain(EXIT_DONE, "no groups on bus %s; evbus group add makes one", args->bus);
    return EXIT_DONE;
}

static void print_number(const char *name, uint64_t number, const char *what)
{
    (void)printf("%-12s %" PRIu64 " %s\n", name, number, what);
}

static void print_notes(const struct evbus_group_stat *group)
{
    (void)printf(
        "\n%s: what the group has not done is kept for it, whether it has members or not. With a journal\n"
        "that costs disk alone; where the catalogue says \"journal\": false, an absent group fills its logs, and then\n"
        "producers get EVBUS_EFULL (exit 75).\n",
        group->n_members == 0 ? "nobody is a member" : "note");
    if (group->n_members == 0)
        (void)printf("`evbus consume %s` works it off, `evbus group rm %s` forgets it.\n", group->group, group->group);
    (void)printf("dead letters: evbus dlq ls --group %s. Without a journal their log releases only what has been\n"
                 "replayed or discarded: when it is full, spent events stay pending (dead) and hold back the later "
                 "ones of their "
                 "keys.\n",
                 group->group);
}

static void show_group(const struct args *args, const struct evbus_group_stat *group)
{
    char oldest[48] = "-";
    if (args->json) {
        (void)print_json_line(NULL, group);
        return;
    }
    if (group->oldest_ns > 0)
        groups_format_age(group->oldest_ns, oldest, sizeof oldest);
    (void)printf("%-12s %s (%s)\n", "group", group->group, groups_kind(group));
    if (group->absent_ns > 0) {
        char absent[48];
        groups_format_age(group->absent_ns, absent, sizeof absent);
        (void)printf("%-12s %s without a member\n", "absent", absent);
    }
    if (group->is_paused)
        groups_print_pause(group);
    print_number("held", group->held_bytes / 1024, "KiB kept until the group has done them");
    print_number("lag", group->lag, "cells of 64 bytes not yet taken");
    print_number("pending", group->n_pending, "events taken and not done, of those:");
    print_number("  running", group->n_running, "in a handler");
    print_number("  waiting", group->n_waiting, "to be tried again");
    print_number("  dead", group->n_dead, "spent, their dead letters not yet published");
    print_number("  parked", group->n_parked, "dead letters behind which their keys wait: evbus dlq");
    print_number("  attempts", group->attempts_max, "at most");
    (void)printf("%-12s %s\n", "oldest", oldest);
    print_number("done", group->done, "events");
    print_number("redelivered", group->redelivered, "attempts beyond the first");
    print_number("failed", group->attempts_failed[EVBUS_CAUSE_FAILED], "attempts that their handlers called failed");
    print_number("  crashed", group->attempts_failed[EVBUS_CAUSE_CRASHED], "whose processes died");
    print_number("  timeout", group->attempts_failed[EVBUS_CAUSE_TIMEOUT], "that took too long");
    print_number("  rejected", group->attempts_failed[EVBUS_CAUSE_REJECTED], "that can never work");
    print_number("  no_version", group->attempts_failed[EVBUS_CAUSE_NO_VERSION],
                 "events of no version that it accepts");
    print_number("  expired", group->attempts_failed[EVBUS_CAUSE_EXPIRED], "events whose time was over");
    print_number("letters", group->dead_letters, "dead letters published");
    print_number("takeovers", group->takeovers, "partitions taken from members that died or hung");
    (void)printf("\ntopics, in %" PRIu32 " partitions:\n", group->n_partitions);
    for (size_t i = 0; i < group->n_topics; ++i)
        (void)printf("    %s\n", group->topics[i]);
    (void)printf("\naccepts:");
    for (size_t i = 0; i < group->n_accepts; ++i)
        (void)printf("%s %s", i > 0 ? "," : "", group->accepts[i]);
    (void)printf("%s\n", group->n_accepts == 0 ? " the lowest version of an event" : "");
    (void)printf("\nmembers:%s\n", group->n_members == 0 ? " none" : "");
    for (uint32_t i = 0; i < group->n_members; ++i) {
        const struct evbus_slot_stat *member = &group->members[i];
        char since[32];
        format_time(member->since_ns, since);
        (void)printf("    ");
        print_plain(member->service[0] != '\0' ? member->service : "-",
                    member->service[0] != '\0' ? strlen(member->service) : 1);
        (void)printf(" (pid %" PRId32 ", thread %" PRId32 "), since %s\n", member->pid, member->tid, since);
    }
    print_notes(group);
}

static int show(const struct args *args, struct evbus *bus)
{
    struct search search = {.name = args->operands[1], .show = show_group, .args = args};
    return find(bus, &search);
}

/* --- add, rm ------------------------------------------------------------------------------------------------------ */

static int add(const struct args *args, struct evbus *bus)
{
    int rc = evbus_group_add(bus, &(struct evbus_group_options){.size = sizeof(struct evbus_group_options),
                                                                .group = args->operands[1],
                                                                .patterns = args->operands + 2,
                                                                .n_patterns = args->n_operands - 2,
                                                                .from = args->from.where,
                                                                .from_time_ns = args->from.time_ns,
                                                                .from_position = args->from.position});
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    (void)printf(args->json ? "{\"made\":\"%s\"}\n" : "made group %s\n", args->operands[1]);
    return EXIT_DONE;
}

/* "y" or "yes". */
static bool is_yes(void)
{
    char answer[16] = "";
    if (fgets(answer, sizeof answer, stdin) == NULL)
        return false;
    answer[strcspn(answer, "\n")] = '\0';
    return strcmp(answer, "y") == 0 || strcmp(answer, "Y") == 0 || strcmp(answer, "yes") == 0;
}

static int remove_group(const struct args *args, struct evbus *bus)
{
    struct search search = {.name = args->operands[1]};
    char held[128];
    int exit_code = find(bus, &search);
    if (exit_code != EXIT_DONE)
        return exit_code;
    (void)snprintf(held, sizeof held,
                   "%" PRIu32 " events in hand, %" PRIu64 " cells of events not yet taken, %" PRIu32 " members",
                   search.n_pending, search.lag, search.n_members);
    if (!args->yes && !isatty(STDIN_FILENO))
        return complain(EXIT_USAGE, "group %s has %s; to forget it from a script, say --yes", search.name, held);
    if (!args->yes) {
        (void)fprintf(stderr, "group %s has %s. Forget it? [y/N] ", search.name, held);
        if (!is_yes())
            return EXIT_NO;
    }
    int rc = evbus_group_remove(bus, search.name);
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    if (args->json)
        (void)printf("{\"removed\":\"%s\",\"pending\":%" PRIu32 ",\"lag\":%" PRIu64 "}\n", search.name,
                     search.n_pending, search.lag);
    else
        (void)printf("removed group %s: %s\n", search.name, held);
    return EXIT_DONE;
}

/* --- which of them ------------------------------------------------------------------------------------------------ */

static const struct verb {
    const char *name;
    const char *missing; /* what to ask when there are too few operands */
    size_t least;        /* operands, with the verb */
    size_t most;
    int (*run)(const struct args *args, struct evbus *bus);
} verbs[] = {
    {"ls", "", 1, 1, list},
    {"show", "which GROUP? usage: evbus group show GROUP", 2, 2, show},
    {"add", "which GROUP, of which topics? usage: evbus group add GROUP PATTERN...", 3, SIZE_MAX, add},
    {"rm", "which GROUP? usage: evbus group rm GROUP", 2, 2, remove_group},
    {"seek", "which GROUP, where to? usage: evbus group seek GROUP --to WHERE", 2, 2, group_seek},
};

static int run(const struct args *args)
{
    const char *best = NULL;
    size_t best_distance = 0;
    struct evbus *bus;
    if (args->n_operands == 0)
        return complain(EXIT_USAGE, "ls, show, add, rm or seek? evbus group --help tells them");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; ++i) {
        const struct verb *verb = &verbs[i];
        args_nearest(args->operands[0], verb->name, &best, &best_distance);
        if (strcmp(args->operands[0], verb->name) != 0)
            continue;
        if (args->n_operands < verb->least)
            return complain(EXIT_USAGE, "%s", verb->missing);
        if (args->n_operands > verb->most)
            return complain(EXIT_USAGE, "\"%s\" is one too many", args->operands[verb->most]);
        int exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &bus);
        if (exit_code != EXIT_DONE)
            return exit_code;
        exit_code = verb->run(args, bus);
        evbus_close(bus);
        return exit_code;
    }
    if (best != NULL)
        return complain(EXIT_USAGE, "unknown command \"group %s\"; did you mean group %s?", args->operands[0], best);
    return complain(EXIT_USAGE, "unknown command \"group %s\"; there are ls, show, add, rm and seek",
                    args->operands[0]);
}

static const struct arg_option options[] = {
    {"from", 0, ARG_FROM, offsetof(struct args, from), "WHERE",
     "add: earliest, latest (the default) or an RFC 3339 time"},
    {"to", 0, ARG_TO, offsetof(struct args, to), "WHERE",
     "seek: earliest, latest, an RFC 3339 time, or LOG/PARTITION@POSITION"},
    {"dry-run", 0, ARG_FLAG, offsetof(struct args, dry_run), NULL, "seek: change nothing, print what would move"},
    {"force", 0, ARG_FLAG, offsetof(struct args, force), NULL,
     "seek: though members live, or what is not done is skipped"},
    {"yes", 'y', ARG_FLAG, offsetof(struct args, yes), NULL, "rm: do not ask"},
    {"names", 0, ARG_FLAG, offsetof(struct args, names), NULL, NULL}, /* for completion */
    {0},
};

const struct command command_group = {
    .name = "group",
    .summary = "look at consumer groups, make, move or forget one",
    .usage = usage,
    .text =
        "ls and show tell how far groups are behind (in cells of 64 bytes), what they have in hand, what was tried\n"
        "again, how many dead letters there are; show also topics and members. With --json one object a line. add\n"
        "makes a group that no catalogue has; from then on events are kept for it. rm forgets a group and all it has\n"
        "not done: it asks, or wants --yes where there is no terminal (exit 2; 1 when the answer was no).\n"
        "seek moves a group: back, and events come again, or on, and they are skipped. It is refused (exit 75) while "
        "a\n"
        "member lives, and where what is not done would be skipped; --force does it, --dry-run only tells.\n"
        "An absent group costs disk alone; where \"journal\" is false it fills its logs: EVBUS_EFULL (exit 75). The\n"
        "log of dead letters releases nothing but what evbus dlq has replayed or discarded.",
    .examples = "evbus group ls\nevbus group show notification-service --json | jq .lag\n"
                "evbus group add audit 'lomash.orders.*' --from earliest\nevbus group rm audit --yes\n"
                "evbus group seek audit --to 2026-02-01T09:30:00Z --dry-run\n"
                "evbus group seek audit --to lomash.orders/2@123456",
    .options = options,
    .run = run,
};
