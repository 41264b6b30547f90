/* cmd_demo.c: start the demonstration, a program of its own.
 *
 * It stands beside this program when both are installed, in demo/ beside it in a build tree, else in PATH. Whatever
 * follows `evbus demo` is for it, options too; the bus and the service that stand before it travel in the environment.
 */
#include "commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "demo [ARGUMENT...]";

/* Beside the program that is running; returns when there is none. */
static void run_beside(const char *where, char **argv)
{
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 64);
    if (len <= 0)
        return;
    path[len] = '\0';
    char *slash = strrchr(path, '/');
    if (slash == NULL)
        return;
    (void)snprintf(slash + 1, 64, "%s", where);
    (void)execv(path, argv);
}

static int run(const struct args *args)
{
    union {
        const char **given;
        char **taken; /* exec changes none of them, but says so to nobody */
    } argv = {.given = calloc(args->n_operands + 2, sizeof(char *))};
    if (argv.given == NULL)
        return complain(EXIT_CANNOT_CREATE, "out of memory");
    argv.given[0] = "evbus-demo";
    if (args->n_operands > 0)
        memcpy(argv.given + 1, args->operands, args->n_operands * sizeof *args->operands);
    if (setenv("EVBUS_BUS", args->bus, 1) == 0 &&
        (args->service == NULL || setenv("EVBUS_SERVICE", args->service, 1) == 0)) {
        output_flush();
        run_beside("evbus-demo", argv.taken);
        run_beside("demo/evbus-demo", argv.taken);
        (void)execvp("evbus-demo", argv.taken);
    }
    int number = errno;
    free(argv.given);
    if (number == ENOENT)
        return complain(EXIT_NO, "evbus-demo is neither beside this program nor in PATH");
    return complain(EXIT_IO, "evbus-demo: %s", strerror(number));
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
