/* cmd_find.c: an event by its id, wherever it stands: in memory or in the journal, also when it was published years ago.
 * Checked by tests/cli/test_history.sh. */
#include "commands.h"
#include "event.h"

#include <evbus/history.h>

static const char usage[] = "find EVENTID [--versions]";

struct find {
    struct args args; /* as given, with all that is known of an event */
    struct event_printer printer;
    int exit_code;
};

static int show(void *context, const struct evbus_delivery *event)
{
    struct find *find = context;
    find->exit_code = event_print(&find->printer, &find->args, event);
    return find->exit_code != EXIT_DONE || output_is_closed();
}

static int run(const struct args *args)
{
    struct find find = {.args = *args};
    struct evbus *bus = NULL;
    uint8_t id[16];
    find.args.meta = true;
    int exit_code = id_operand(args, usage, id);
    if (exit_code == EXIT_DONE)
        exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    int rc = evbus_find(bus, id, show, &find);
    exit_code = rc < 0 ? complain_of(rc, BLAME_COMMAND_LINE) : find.exit_code;
    evbus_close(bus);
    event_printer_end(&find.printer);
    return exit_code;
}

static const struct arg_option options[] = {
    {"versions", 0, ARG_FLAG, offsetof(struct args, versions), NULL, "a line for each version of an event"},
    {0},
};

const struct command command_find = {
    .name = "find",
    .summary = "find an event by its id",
    .usage = usage,
    .text = "Looks in memory and in the journal, in all logs, dead letters too, and prints a line for each time that "
            "the id\n"
            "was published: LOG/PARTITION@POSITION, id, service, version, time, topic, key, payload; with --json an "
            "object\n"
            "as `evbus tail --json --meta` prints. Of several versions the lowest payload (1.0 of 1.0,2.0), or with\n"
            "--versions a line for each. Exit 1: it is not kept.",
    .examples = "evbus find 0197a4c2-31f4-7c3e-9f51-6f0d1b2a3c4d\n"
                "evbus find 0197a4c2-31f4-7c3e-9f51-6f0d1b2a3c4d --json | jq .envelope.payload",
    .options = options,
    .run = run,
};
