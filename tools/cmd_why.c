/* cmd_why.c: what became of an event: who published it, and how far each group is with it.
 *
 * How a record is printed: fields.c. Checked by tests/cli/test_history.sh. */
#include "commands.h"
#include "fields.h"

#include <evbus/history.h>

static const char usage[] = "why EVENTID";

static int run(const struct args *args)
{
    struct evbus *bus = NULL;
    uint8_t id[16];
    int exit_code = id_operand(args, usage, id);
    if (exit_code == EXIT_DONE)
        exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    int rc = evbus_why(bus, id, args->json ? fields_print_json : fields_print_line, NULL);
    exit_code = rc < 0 ? complain_of(rc, BLAME_COMMAND_LINE) : EXIT_DONE;
    evbus_close(bus);
    return exit_code;
}

const struct command command_why = {
    .name = "why",
    .summary = "tell what became of an event",
    .usage = usage,
    .text =
        "Prints where the event stands and who published it (service, host, process), and below it each group that\n"
        "receives its topic: waiting, held (an event of its key is not done yet), running, retrying, deferred (its\n"
        "handler has put it off), dying, dead, done, or before (the group began behind it); and each attempt that\n"
        "ended badly: when, by whom, how long it took, and\n"
        "why; crashed and timeout are attempts whose handler did not end. With --json one object a line. Exit 1: the\n"
        "event is not kept.",
    .examples = "evbus why 0197a4c2-31f4-7c3e-9f51-6f0d1b2a3c4d\n"
                "evbus why 0197a4c2-31f4-7c3e-9f51-6f0d1b2a3c4d --json | jq 'select(.record == \"group\") | .state'",
    .run = run,
};
