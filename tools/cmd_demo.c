/* cmd_demo.c: start the demonstration, a program of its own.
 *
 * Whatever follows `evbus demo` is for it, options too; the bus and the service that stand before it travel in the environment.
 */
#include "beside.h"
#include "commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "demo [ARGUMENT...]";

static int run(const struct args *args)
{
    if (setenv("EVBUS_BUS", args->bus, 1) != 0 ||
        (args->service != NULL && setenv("EVBUS_SERVICE", args->service, 1) != 0))
        return complain(EXIT_IO, "evbus-demo: %s", strerror(errno));
    return beside_run("evbus-demo", "demo/evbus-demo", args->operands, args->n_operands);
}

const struct command command_demo = {
    .name = "demo",
    .summary = "show what a bus does, live",
    .usage = usage,
    .text = "Starts evbus-demo with all that follows: `evbus demo --help` is its own help, this one is\n"
            "`evbus --help demo`.",
    .examples = "evbus demo\nevbus demo --help",
    .passes_on = true,
    .run = run,
};
