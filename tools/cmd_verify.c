/* cmd_verify.c: is what the broker has what the journal has?
 *
 * evbus-bridge --verify compares them: it alone has the broker's code, config and password. Whatever follows `evbus verify` is for it;
 * of what stands before it, the bus where one is named, and --json. Checked by tests/broker/test_verify.c. */
#include "beside.h"
#include "commands.h"

#include <stdlib.h>
#include <string.h>

static const char usage[] = "verify [OPTION...]";

static int run(const struct args *args)
{
    const char **arguments = calloc(args->n_operands + 4, sizeof *arguments);
    size_t n = 0;
    if (arguments == NULL)
        return complain(EXIT_CANNOT_CREATE, "out of memory");
    arguments[n++] = "--verify";
    if (args->is_bus_given) {
        arguments[n++] = "--bus";
        arguments[n++] = args->bus;
    }
    if (args->json)
        arguments[n++] = "--json";
    for (size_t i = 0; i < args->n_operands; i++)
        arguments[n++] = args->operands[i];
    int exit_code = beside_run("evbus-bridge", "../bridge/evbus-bridge", arguments, n);
    free(arguments);
    return exit_code;
}

const struct command command_verify = {
    .name = "verify",
    .summary = "compare the journal with what a bridge has brought to the broker",
    .usage = usage,
    .text =
        "Starts evbus-bridge --verify with all that follows: the options of the bridge that is to be checked (--redis "
        "URL,\n"
        "--config FILE, --set KEY=VALUE), --json and --timeout DURATION. Of each partition it prints how many events "
        "stand\n"
        "at the broker and in the journal and a hash of them, and where they differ, the first that does. It changes\n"
        "nothing, and works while bridges run and events flow. It exits 1 when something differs; `evbus verify "
        "--help`\n"
        "is the bridge's own help.",
    .examples = "evbus verify --redis redis://127.0.0.1:6379\nevbus -b lomash verify --config ./evbus.conf --json",
    .passes_on = true,
    .run = run,
};
