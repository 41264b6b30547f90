/* cmd_ls.c: the buses of this host.
 *
 * A bus that cannot be opened is listed too, with the reason: it takes memory, and `evbus rm` is its mend. */
#include "commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char usage[] = "ls";

struct listing {
    const struct args *args;
    size_t n_buses;
};

static const char *state_name(int state)
{
    switch (state) {
    case EVBUS_OK:
        return "ok";
    case EVBUS_ELAYOUT:
        return "of another build";
    case EVBUS_EPERM:
        return "not permitted";
    case EVBUS_ENOBUS:
        return "on disk"; /* it comes back with the first process that opens it */
    case EVBUS_ECORRUPT:
        return "corrupt";
    default:
        return evbus_strerror(state);
    }
}

static int print_bus(void *context, const struct evbus_listed *listed)
{
    struct listing *listing = context;
    char created[32] = "-";
    if (listed->created_ns != 0)
        format_time(listed->created_ns, created);
    if (listing->args->names) {
        (void)printf("%s\n", listed->bus);
    } else if (listing->args->json) {
        (void)printf("{\"bus\":");
        print_json(listed->bus, strlen(listed->bus));
        (void)printf(",\"state\":");
        print_json(state_name(listed->state), strlen(state_name(listed->state)));
        (void)printf(",\"bytes\":%" PRIu64 ",\"created\":", listed->bytes);
        if (listed->created_ns != 0)
            print_json(created, strlen(created));
        else
            (void)printf("null");
        (void)printf(",\"processes\":%" PRIu32 "}\n", listed->n_processes);
    } else {
        if (listing->n_buses == 0)
            (void)printf("%-20s %10s %9s  %-24s  %s\n", "BUS", "MIB", "PROCESSES", "CREATED", "STATE");
        (void)printf("%-20s %10.1f %9" PRIu32 "  %-24s  %s\n", listed->bus, mebibytes(listed->bytes),
                     listed->n_processes, created, state_name(listed->state));
    }
    ++listing->n_buses;
    return 0;
}

static int run(const struct args *args)
{
    struct listing listing = {.args = args};
    int exit_code = check_operands(args, 0, 0, usage);
    if (exit_code != EXIT_DONE)
        return exit_code;
    int rc = evbus_list(print_bus, &listing);
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    if (listing.n_buses == 0 && !args->json && !args->names)
        return complain(EXIT_DONE, "no bus on this host; evbus init makes one");
    return EXIT_DONE;
}

static const struct arg_option options[] = {
    {"names", 0, ARG_FLAG, offsetof(struct args, names), NULL, NULL}, /* for completion */
    {0},
};

const struct command command_ls = {
    .name = "ls",
    .summary = "list the buses of this host",
    .usage = usage,
    .text = "With --json one object a line.",
    .examples = "evbus ls\nevbus ls --json | jq -r .bus",
    .options = options,
    .run = run,
};
