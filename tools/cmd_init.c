/* cmd_init.c: make a bus of a catalogue.
 *
 * Every page is allocated now, so that a full /dev/shm shows here, to the operator, and not later as a SIGBUS in a
 * service. A bus that exists is never made anew: its events would be gone without a word. */
#include "commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "init [--catalogue FILE] [--mode 0660] [--group NAME]";

static int run(const struct args *args)
{
    char *file = NULL;
    size_t len = 0;
    const char *shown = args->catalogue != NULL ? args->catalogue : "the shipped catalogue";
    struct catalogue_size size;
    int exit_code = check_operands(args, 0, 0, usage);
    if (exit_code == EXIT_DONE && args->catalogue != NULL)
        exit_code = args_read_file(args->catalogue, CATALOGUE_FILE_BYTES_MAX, &file, &len);
    if (exit_code != EXIT_DONE)
        return exit_code;
    const char *text = file != NULL ? file : evbus_shipped_catalogue();
    if (file == NULL)
        len = strlen(text);
    exit_code = catalogue_measure(shown, text, len, &size);
    if (exit_code == EXIT_DONE) {
        int rc = evbus_init(&(struct evbus_init_options){.size = sizeof(struct evbus_init_options),
                                                         .bus = args->bus,
                                                         .catalogue = text,
                                                         .catalogue_len = len,
                                                         .mode = (unsigned)args->mode,
                                                         .group = args->group});
        if (rc != EVBUS_OK)
            exit_code = complain_of(rc, BLAME_COMMAND_LINE);
    }
    free(file);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (args->json) {
        (void)printf("{\"bus\":");
        print_json(args->bus, strlen(args->bus));
        (void)printf(",\"topics\":%zu,\"logs\":%zu,\"bytes\":%" PRIu64 "}\n", size.n_topics, size.n_logs, size.bytes);
    } else {
        (void)printf("made bus %s: %zu topics, %zu logs, %.1f MiB\n", args->bus, size.n_topics, size.n_logs,
                     mebibytes(size.bytes));
    }
    return EXIT_DONE;
}

static const struct arg_option options[] = {
    {"catalogue", 0, ARG_TEXT, offsetof(struct args, catalogue), "FILE", "who may publish what (- is standard input)"},
    {"mode", 0, ARG_MODE, offsetof(struct args, mode), "OCTAL", "who may open it, 0660 by default"},
    {"group", 0, ARG_TEXT, offsetof(struct args, group), "NAME", "the group that owns it, by name or number"},
    {0},
};

const struct command command_init = {
    .name = "init",
    .summary = "make a bus",
    .usage = usage,
    .text = "Without --catalogue: the shipped one, with the 17 topics of the architecture decision record. All of the\n"
            "memory is taken at once. A bus that exists already is left alone (exit 73).",
    .examples = "evbus init\nevbus init -b staging --catalogue staging.json --group services",
    .options = options,
    .run = run,
};
