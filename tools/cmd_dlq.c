/* cmd_dlq.c: dead letters: look at them, replay them to their group, discard them.
 *
 * Looking consumes nothing. What changes something wants to be told which letters: a mistyped command must not replay all of them.
 * How a letter is printed: letters.c. Checked by tests/cli/test_dlq.sh. */
#include "commands.h"
#include "letters.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char usage[] = "dlq ls [WHICH...] [--all]\ndlq show ID\ndlq replay WHICH... [--dry-run] [--rate N/s] "
                            "[--max N] [--force] [--timeout D] [--reason TEXT]\n"
                            "dlq discard WHICH... [--dry-run] [--max N] [--reason TEXT]\ndlq export [WHICH...] [--all]";

static bool has_id(const struct args *args)
{
    static const uint8_t none[16];
    return memcmp(args->id, none, sizeof none) != 0;
}

static struct evbus_dead_letters_filter filter_of(const struct args *args)
{
    struct evbus_dead_letters_filter filter = {
        .size = sizeof filter,
        .group = args->group,
        .topic = args->topic,
        .cause = args->cause,
        .from_ns = args->time_ns,
        .to_ns = args->to_ns,
        .key = args->key,
        .has_id = has_id(args),
        .with_settled = args->all,
    };
    memcpy(filter.id, args->id, sizeof filter.id);
    return filter;
}

/* --- look --------------------------------------------------------------------------------------------------------- */

/* Prints each letter, until nobody reads on. */
struct look {
    int (*print)(const struct evbus_dead_letter *letter);
    uint64_t n;
};

static int look_at(void *context, const struct evbus_dead_letter *letter)
{
    struct look *look = context;
    ++look->n;
    return look->print(letter) != 0 || output_is_closed() || is_stopping() ? 1 : 0;
}

static int see_group(void *context, const struct evbus_group_stat *group)
{
    return strcmp(group->group, context) == 0;
}

/* Nothing was found: is there such a group, and was an id meant that there is not? A mistyped name must not look like good news. */
static int check_found_none(const struct args *args, struct evbus *bus)
{
    char name[64] = "", id[37];
    if (args->group != NULL)
        (void)snprintf(name, sizeof name, "%s", args->group);
    if (args->group != NULL && evbus_groups(bus, see_group, name) == EVBUS_OK)
        return complain(EXIT_NO, "there is no group %s, nor a dead letter of one; `evbus group ls` lists them",
                        args->group);
    if (has_id(args)) {
        format_id(args->id, id);
        return complain(EXIT_NO, "no such dead letter has or is %s; `evbus dlq ls --all` lists them", id);
    }
    return EXIT_DONE;
}

static int look(const struct args *args, const struct evbus_dead_letters_filter *filter, struct look *look)
{
    struct evbus *bus = NULL;
    int exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    int rc = evbus_dead_letters(bus, filter, look_at, look);
    if (rc < 0)
        exit_code = complain_of(rc, BLAME_COMMAND_LINE);
    else if (look->n == 0)
        exit_code = check_found_none(args, bus);
    evbus_close(bus);
    return exit_code;
}

static int list(const struct args *args)
{
    struct evbus_dead_letters_filter filter = filter_of(args);
    struct look each = {.print = args->json ? letters_print_json : letters_print_line};
    int exit_code = look(args, &filter, &each);
    if (exit_code == EXIT_DONE && each.n == 0 && !args->json)
        return complain(EXIT_DONE, "no dead letters%s", args->all ? "" : " that are open; --all shows the others, too");
    return exit_code;
}

static int export_letters(const struct args *args)
{
    struct evbus_dead_letters_filter filter = filter_of(args);
    struct look each = {.print = letters_print_text};
    return look(args, &filter, &each);
}

static int show(const struct args *args)
{
    struct evbus_dead_letters_filter filter = {.size = sizeof filter, .has_id = true, .with_settled = true};
    struct look each = {.print = args->json ? letters_print_json : letters_print_all};
    if (!args_read_uuid(args->operands[1], filter.id))
        return complain(EXIT_USAGE, "\"%s\" is no eventId or deadLetterId: expected a UUID", args->operands[1]);
    int exit_code = look(args, &filter, &each);
    if (exit_code == EXIT_DONE && each.n == 0)
        return complain(EXIT_NO, "no dead letter has or is %s; `evbus dlq ls --all` lists them", args->operands[1]);
    return exit_code;
}

/* --- replay, discard ---------------------------------------------------------------------------------------------- */

struct settling {
    const struct args *args;
    bool is_replay;
};

static int settled_one(void *context, const struct evbus_dead_letter *letter)
{
    const struct settling *settling = context;
    const struct args *args = settling->args;
    const char *what = letter->skipped != NULL ? "skipped"
                       : !settling->is_replay  ? (args->dry_run ? "would discard" : "discarded")
                       : args->dry_run         ? "would replay"
                                               : "replayed";
    if (args->json)
        letters_print_done_json(letter, what);
    else
        letters_print_done(letter, what);
    output_flush(); /* who watches a slow one sees how far it is */
    return output_has_hung_up() ? 1 : 0;
}

static bool should_stop(void *context)
{
    (void)context;
    return is_stopping();
}

static void print_result(const struct settling *settling, const struct evbus_settle_result *result)
{
    const struct args *args = settling->args;
    if (args->json) {
        (void)printf("{\"%s\":%" PRIu64 ",\"skipped\":%" PRIu64 ",\"completed\":%" PRIu64 ",\"stopped\":%s}\n",
                     settling->is_replay ? "replayed" : "discarded", result->n_done, result->n_skipped,
                     result->n_completed, result->is_stopped ? "true" : "false");
        return;
    }
    (void)printf("%s%s %" PRIu64 " dead letters", args->dry_run ? "would have " : "",
                 settling->is_replay ? "replayed" : "discarded", result->n_done);
    if (result->n_skipped > 0)
        (void)printf(", skipped %" PRIu64, result->n_skipped);
    if (result->n_completed > 0)
        (void)printf(", %" PRIu64 " that an earlier run had replayed %s put on the record", result->n_completed,
                     args->dry_run ? "would be" : "are now");
    (void)printf("%s\n", result->is_stopped ? "; more may be left" : "");
}

static int settle(const struct args *args, bool is_replay)
{
    struct evbus *bus = NULL;
    struct settling settling = {args, is_replay};
    struct evbus_dead_letters_filter filter = filter_of(args);
    struct evbus_settle_result result = {.size = sizeof result};
    bool is_told = args->group != NULL || args->topic != NULL || args->cause != NULL || args->time_ns != 0 ||
                   args->to_ns != 0 || args->key != NULL || has_id(args);
    if (!is_told && !args->all_letters)
        return complain(EXIT_USAGE, "which letters? --group, --topic, --cause, --from, --to, --key or --id tells, or "
                                    "--all-letters");
    if (args->count == 0)
        return complain(EXIT_USAGE, "--max 0: nothing would be done; left out, there is no limit");
    if (is_told && args->all_letters)
        return complain(EXIT_USAGE, "--all-letters and a choice of letters exclude each other");
    filter.with_settled = false;
    int exit_code = open_bus(args, args->dry_run ? EVBUS_KEEPER_NEVER : EVBUS_KEEPER_VOLUNTEER, &bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    stop_on_signals();
    struct evbus_settle_options options = {
        .size = sizeof options,
        .filter = &filter,
        .dry_run = args->dry_run,
        .force = args->force,
        .max = args->count != ARG_ABSENT ? args->count : 0,
        .rate = (uint32_t)args->rate,
        .timeout_ns = args->timeout_ns != ARG_ABSENT ? args->timeout_ns : UINT64_MAX,
        .reason = args->reason,
        .stop = should_stop,
    };
    int rc = (is_replay ? evbus_dead_letters_replay : evbus_dead_letters_discard)(bus, &options, settled_one, &settling,
                                                                                  &result);
    if (rc < 0)
        exit_code = complain_of(rc, BLAME_COMMAND_LINE);
    if (rc == EVBUS_OK || result.n_done > 0)
        print_result(&settling, &result);
    if (rc == EVBUS_OK && is_stopping())
        exit_code = complain(EXIT_TRY_AGAIN, "interrupted: say it again, and it goes on with what is left");
    else if (rc == EVBUS_OK && result.n_done + result.n_completed == 0) {
        (void)(result.n_skipped == 0 ? check_found_none(args, bus) : EXIT_NO);
        exit_code = EXIT_NO;
    }
    evbus_close(bus);
    return exit_code;
}

static int replay(const struct args *args)
{
    return settle(args, true);
}

static int discard(const struct args *args)
{
    return settle(args, false);
}

/* --- which of them ------------------------------------------------------------------------------------------------ */

static const struct verb {
    const char *name;
    size_t n_operands; /* with the verb */
    int (*run)(const struct args *args);
} verbs[] = {
    {"ls", 1, list}, {"show", 2, show}, {"replay", 1, replay}, {"discard", 1, discard}, {"export", 1, export_letters}};

static int check_options(const struct args *args, const struct verb *verb)
{
    bool settles = verb->run == replay || verb->run == discard;
    const struct {
        const char *name;
        bool is_given, is_allowed;
    } rows[] = {
        {"--dry-run", args->dry_run, settles},
        {"--max", args->count != ARG_ABSENT, settles},
        {"--reason", args->reason != NULL, settles},
        {"--all-letters", args->all_letters, settles},
        {"--rate", args->rate != 0, verb->run == replay},
        {"--force", args->force, verb->run == replay},
        {"--timeout", args->timeout_ns != ARG_ABSENT, verb->run == replay},
        {"--all", args->all, verb->run == list || verb->run == export_letters},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; ++i)
        if (rows[i].is_given && !rows[i].is_allowed)
            return complain(EXIT_USAGE, "%s says nothing to dlq %s; evbus dlq --help tells what does", rows[i].name,
                            verb->name);
    return EXIT_DONE;
}

static int run(const struct args *args)
{
    const char *best = NULL;
    size_t best_distance = 0;
    if (args->n_operands == 0)
        return complain(EXIT_USAGE, "ls, show, replay, discard or export? evbus dlq --help tells them");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; ++i) {
        const struct verb *verb = &verbs[i];
        args_nearest(args->operands[0], verb->name, &best, &best_distance);
        if (strcmp(args->operands[0], verb->name) != 0)
            continue;
        if (args->n_operands < verb->n_operands)
            return complain(EXIT_USAGE, "which letter? usage: evbus dlq show ID");
        if (args->n_operands > verb->n_operands)
            return complain(EXIT_USAGE, "\"%s\" is one too many", args->operands[verb->n_operands]);
        int exit_code = check_options(args, verb);
        return exit_code == EXIT_DONE ? verb->run(args) : exit_code;
    }
    if (best != NULL)
        return complain(EXIT_USAGE, "unknown command \"dlq %s\"; did you mean dlq %s?", args->operands[0], best);
    return complain(EXIT_USAGE, "unknown command \"dlq %s\"; there are ls, show, replay, discard and export",
                    args->operands[0]);
}

static const struct arg_option options[] = {
    {"group", 0, ARG_TEXT, offsetof(struct args, group), "GROUP", "which: those of this group"},
    {"topic", 0, ARG_TEXT, offsetof(struct args, topic), "PATTERN", "which: events of these topics"},
    {"cause", 0, ARG_TEXT, offsetof(struct args, cause), "CAUSE",
     "which: failed, crashed, timeout, rejected, no_version or expired"},
    {"from", 0, ARG_TIME, offsetof(struct args, time_ns), "TIME", "which: given up at or after an RFC 3339 time"},
    {"to", 0, ARG_TIME, offsetof(struct args, to_ns), "TIME", "which: given up before it"},
    {"key", 0, ARG_TEXT, offsetof(struct args, key), "KEY", "which: events of this key"},
    {"id", 0, ARG_UUID, offsetof(struct args, id), "ID", "which: the one of this eventId or deadLetterId"},
    {"all", 0, ARG_FLAG, offsetof(struct args, all), NULL, "ls, export: also those replayed or discarded"},
    {"all-letters", 0, ARG_FLAG, offsetof(struct args, all_letters), NULL, "replay, discard: all that are open"},
    {"dry-run", 0, ARG_FLAG, offsetof(struct args, dry_run), NULL, "replay, discard: only tell what would be"},
    {"rate", 0, ARG_RATE, offsetof(struct args, rate), "N/s", "replay: at most N a second"},
    {"max", 0, ARG_COUNT, offsetof(struct args, count), "N", "replay, discard: at most N"},
    {"force", 0, ARG_FLAG, offsetof(struct args, force), NULL, "replay: also what was replayed 3 times"},
    {"timeout", 0, ARG_DURATION, offsetof(struct args, timeout_ns), "D",
     "replay: how long to wait for room; else until there is some"},
    {"reason", 0, ARG_TEXT, offsetof(struct args, reason), "TEXT", "replay, discard: why, for the record"},
    {0},
};

const struct command command_dlq = {
    .name = "dlq",
    .summary = "look at dead letters, replay or discard them",
    .usage = usage,
    .text =
        "WHICH: --group G, --topic PATTERN, --cause C, --from TIME, --to TIME, --key K, --id ID.\n"
        "A dead letter is an event that its group gave up: after three attempts, at once where a handler rejected it.\n"
        "ls prints a line for each, show all that is known of one, its attempts and what was done about it; export "
        "the\n"
        "letters as they stand in lomash.dlq.GROUP. Looking consumes nothing.\n"
        "replay gives letters to the group that gave them up, and to no other: the same event, fresh attempts, in "
        "order\n"
        "per key. What was replayed 3 times is skipped unless --force says so. Interrupted or killed, say it again: "
        "what\n"
        "is replayed is not replayed twice. discard only notes that nothing is to be done. Both put who, when and why "
        "on\n"
        "the record (show, evbus why), one at a time does it (exit 75), and exit 1 says that nothing was done.",
    .examples = "evbus dlq ls --group notification-service\nevbus dlq show 0197a4c2-31f4-8c3e-9f51-6f0d1b2a3c4d\n"
                "evbus dlq replay --group notification-service --cause timeout --dry-run\n"
                "evbus dlq replay --group notification-service --rate 50/s\n"
                "evbus dlq discard --key 10248 --reason 'the order was cancelled by hand'\n"
                "evbus dlq export --all > letters.ndjson",
    .options = options,
    .run = run,
};
