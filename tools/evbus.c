/* evbus.c: the command line of an event bus. The table of commands, the options they share, and help.
 *
 *     main -> args_parse (global options) -> the command by name -> args_parse (its options) -> command->run() -> exit
 *
 * A command is a file cmd_<name>.c that ends in a struct command: name, help, table of options, run(). To add one,
 * write the file, name it in commands.h and in the table below; help, suggestions, completion and the check of options
 * follow from the struct. The tool includes <evbus/...> and nothing of the library's inside: what it cannot do with
 * that, no other program could do either. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command *const commands[] = {
    &command_init,    &command_rm,     &command_ls,     &command_pub,    &command_tail,
    &command_consume, &command_group,  &command_dlq,    &command_stat,   &command_catalogue,
    &command_convert, &command_find,   &command_why,    &command_doctor, &command_inspect,
    &command_journal, &command_backup, &command_bridge, &command_verify, &command_demo,
};
static const size_t n_commands = sizeof commands / sizeof commands[0];

static const struct arg_option global_options[] = {
    {"bus", 'b', ARG_TEXT, offsetof(struct args, bus), "NAME", "which bus; else $EVBUS_BUS, else lomash"},
    {"as", 0, ARG_TEXT, offsetof(struct args, service), "SERVICE", "who we are; else $EVBUS_SERVICE"},
    {"json", 0, ARG_FLAG, offsetof(struct args, json), NULL, "for programs: one JSON text a line"},
    {"meta", 0, ARG_FLAG, offsetof(struct args, meta), NULL, "tail: where each event stands, who published it"},
    {"help", 'h', ARG_FLAG, offsetof(struct args, help), NULL, "this text; evbus COMMAND --help for a command's"},
    {"version", 0, ARG_FLAG, offsetof(struct args, version), NULL, "the version of the library"},
    {0},
};

static void print_options(const struct arg_option *row)
{
    for (; row != NULL && row->name != NULL; ++row) {
        char left[64], letter[8] = "    ";
        if (row->help == NULL)
            continue;
        if (row->letter != 0)
            (void)snprintf(letter, sizeof letter, "-%c, ", row->letter);
        (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, row->value != NULL ? " " : "",
                       row->value != NULL ? row->value : "");
        (void)printf("  %-30s %s\n", left, row->help);
    }
}

static void print_lines(const char *before, const char *lines)
{
    while (*lines != '\0') {
        size_t len = strcspn(lines, "\n");
        (void)printf("%s%.*s\n", before, (int)len, lines);
        lines += len + (lines[len] == '\n');
    }
}

static void print_help(void)
{
    (void)printf("usage: evbus [OPTION...] COMMAND ...\n\n"
                 "An event bus in shared memory: make it, publish to it, follow it, look after it.\n\ncommands:\n");
    for (size_t i = 0; i < n_commands; ++i)
        (void)printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    (void)printf("\noptions, before or behind the command:\n");
    print_options(global_options);
    (void)printf("\nexamples:\n");
    print_lines("  ", "evbus init\n"
                      "evbus tail 'lomash.orders.*' &\n"
                      "evbus pub lomash.orders.created '{\"orderId\":\"10248\"}' --as order-payment-service\n"
                      "evbus consume notification-service --exec ./notify.sh\n"
                      "evbus stat --watch\n");
    (void)printf("\nexit codes: 0 done, 1 the answer is no, 2 command line, 65 data, 69 no bus, 70 corrupt,\n"
                 "            73 cannot create, 74 input or output, 75 try again, 77 denied, 78 catalogue\n");
}

static void print_command_help(const struct command *command)
{
    (void)printf("usage:\n");
    print_lines("  evbus ", command->usage);
    (void)printf("\n%s\n", command->summary);
    if (command->text[0] != '\0') {
        (void)printf("\n");
        print_lines("", command->text);
    }
    if (command->options != NULL) {
        (void)printf("\noptions:\n");
        print_options(command->options);
    }
    (void)printf("\noptions of every command:\n");
    print_options(global_options);
    (void)printf("\nexamples:\n");
    print_lines("  ", command->examples);
}

static const struct command *find_command(const char *name, int *out_exit_code)
{
    const char *best = NULL;
    size_t best_distance = 0;
    for (size_t i = 0; i < n_commands; ++i) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
        args_nearest(name, commands[i]->name, &best, &best_distance);
    }
    if (best != NULL)
        *out_exit_code = complain(EXIT_USAGE, "unknown command \"%s\"; did you mean %s?", name, best);
    else
        *out_exit_code = complain(EXIT_USAGE, "unknown command \"%s\"; evbus --help lists them", name);
    return NULL;
}

int open_bus(const struct args *args, enum evbus_keeper keeper, struct evbus **out_bus)
{
    int rc = evbus_open(out_bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                         .bus = args->bus,
                                                         .service = args->service,
                                                         .keeper = keeper});
    return rc == EVBUS_OK ? EXIT_DONE : complain_of(rc, BLAME_COMMAND_LINE);
}

int check_operands(const struct args *args, size_t least, size_t most, const char *usage)
{
    if (args->n_operands < least)
        return complain(EXIT_USAGE, "something is missing; usage: evbus %.*s", (int)strcspn(usage, "\n"), usage);
    if (args->n_operands > most)
        return complain(EXIT_USAGE, "\"%s\" is one too many; usage: evbus %.*s", args->operands[most],
                        (int)strcspn(usage, "\n"), usage);
    return EXIT_DONE;
}

int id_operand(const struct args *args, const char *usage, uint8_t out_id[16])
{
    int exit_code = check_operands(args, 1, 1, usage);
    if (exit_code != EXIT_DONE || args_read_uuid(args->operands[0], out_id))
        return exit_code;
    return complain(EXIT_USAGE, "\"%s\" is no eventId; it is a UUID, e.g. 0198c6f2-7d1e-7a44-9b5f-3e6a0c1d2b4f",
                    args->operands[0]);
}

/* The command, NULL where none is named, and its arguments. Returns 0, or the exit code after the message. */
static int parse(int argc, char **argv, const char **operands, struct args *out_args,
                 const struct command **out_command)
{
    args_init(out_args, operands);
    int at = 1;
    int exit_code = args_parse(out_args, NULL, global_options, true, argc, argv, &at);
    if (exit_code != EXIT_DONE)
        return exit_code;
    const struct command *command = NULL;
    if (at < argc) {
        command = find_command(argv[at++], &exit_code);
        if (command == NULL)
            return exit_code;
        for (; command->passes_on && at < argc; ++at)
            out_args->operands[out_args->n_operands++] = argv[at];
        exit_code = args_parse(out_args, command->options, global_options, false, argc, argv, &at);
        if (exit_code != EXIT_DONE)
            return exit_code;
    }
    args_complete(out_args);
    *out_command = command;
    return EXIT_DONE;
}

static int run(int argc, char **argv, const char **operands)
{
    struct args args;
    const struct command *command = NULL;
    int exit_code = parse(argc, argv, operands, &args, &command);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (args.version) {
        (void)printf("evbus %s\n", evbus_version());
        return EXIT_DONE;
    }
    if (args.help) {
        if (command != NULL)
            print_command_help(command);
        else
            print_help();
        return EXIT_DONE;
    }
    if (command == NULL)
        return complain(EXIT_USAGE, "which command? evbus --help lists them");
    return command->run(&args);
}

int main(int argc, char **argv)
{
    output_begin();
    const char **operands = calloc((size_t)argc + 1, sizeof *operands);
    int exit_code = operands == NULL ? complain(EXIT_CANNOT_CREATE, "out of memory") : run(argc, argv, operands);
    free(operands);
    return output_end(exit_code);
}
