/* cmd_rm.c: remove a bus, and what was in it.
 *
 * The library marks the bus retired before it takes the names away, so that whoever has it mapped is told (ESTALE)
 * instead of publishing into memory that nobody else will ever open. */
#include "commands.h"

#include <stdio.h>
#include <string.h>

static const char usage[] = "rm";

static int run(const struct args *args)
{
    int exit_code = check_operands(args, 0, 0, usage);
    if (exit_code != EXIT_DONE)
        return exit_code;
    int rc = evbus_remove(args->bus);
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    if (args->json) {
        (void)printf("{\"removed\":");
        print_json(args->bus, strlen(args->bus));
        (void)printf("}\n");
    } else {
        (void)printf("removed bus %s\n", args->bus);
    }
    return EXIT_DONE;
}

const struct command command_rm = {
    .name = "rm",
    .summary = "remove a bus",
    .usage = usage,
    .text = "The events that are in its memory are gone. Processes that have it open are told so (ESTALE). It also\n"
            "clears away what a half-made bus, or a bus of another build, has left.",
    .examples = "evbus rm -b staging",
    .run = run,
};
