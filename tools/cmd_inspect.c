/* cmd_inspect.c: what stands in a bus, or in copies of its files: also what no other command can open.
 *
 * How a record is printed: fields.c. Checked by tests/cli/test_inspect.sh. */
#include "commands.h"
#include "fields.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "inspect [DIR] [--log LOG] [--partition N] [--group GROUP] [--words N|--all] [--frame POSITION]";

static int run(const struct args *args)
{
    struct evbus_inspect_options options = {
        .size = sizeof options,
        .bus = args->bus,
        .dir = args->n_operands > 0 ? args->operands[0] : NULL,
        .log = args->log,
        .group = args->group,
        .has_partition = args->partition != ARG_ABSENT,
        .partition = args->partition < UINT32_MAX ? (uint32_t)args->partition : UINT32_MAX,
        .words = UINT32_MAX,
        .has_frame = args->frame != ARG_ABSENT,
        .frame = args->frame,
    };
    int exit_code = check_operands(args, 0, 1, usage);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (!args->all && args->words == 0)
        return complain(EXIT_USAGE, "--words is 0; it is a number from 1 on");
    if (!args->all)
        options.words = args->words == ARG_ABSENT ? 0 : args->words < UINT32_MAX ? (uint32_t)args->words : UINT32_MAX;
    int rc = evbus_inspect(&options, args->json ? fields_print_json : fields_print_line, NULL);
    return rc >= 0 ? EXIT_DONE : complain_of(rc, BLAME_COMMAND_LINE);
}

static const struct arg_option options[] = {
    {"log", 0, ARG_TEXT, offsetof(struct args, log), "LOG", "only this log, and what groups have in it"},
    {"partition", 0, ARG_COUNT, offsetof(struct args, partition), "N", "only this partition of each log"},
    {"group", 0, ARG_TEXT, offsetof(struct args, group), "GROUP", "only this group"},
    {"words", 0, ARG_COUNT, offsetof(struct args, words), "N", "so many words at either end of a partition; else 4"},
    {"all", 0, ARG_FLAG, offsetof(struct args, all), NULL, "all words"},
    {"frame", 0, ARG_COUNT, offsetof(struct args, frame), "POSITION", "only the frame there: header, key, payload"},
    {0},
};

const struct command command_inspect = {
    .name = "inspect",
    .summary = "show what stands in a bus, or in copies of its files",
    .usage = usage,
    .text =
        "Reads the files of a bus in /dev/shm, or copies of them in DIR, and prints what stands there: also of a bus\n"
        "that is damaged, half made, removed or of another build, and of files that are cut. Takes no part in the\n"
        "bus and changes nothing. What is not as it should be begins with \"!\". Of a partition's words the first and\n"
        "last are printed, and all that are not sound committed frames. With --json one object a line. Payloads are\n"
        "printed with --frame only.",
    .examples = "evbus inspect\nevbus inspect --group notification-service\n"
                "evbus inspect --log lomash.orders --partition 0 --frame 8128\n"
                "cp /dev/shm/evbus.lomash.* saved/ && evbus inspect saved --json | jq 'select(.record == \"slot\")'",
    .options = options,
    .run = run,
};
