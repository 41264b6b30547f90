/* arguments.c: any command line is understood whole or refused with exit code 2, before anything is done; and a value
 * means what it means to the library.
 *
 * Input: the arguments behind "evbus", a line each. No command runs. */
int evbus_main(int argc, char **argv);
#define main evbus_main
#include "evbus.c"
#undef main

#include "envelope.h"
#include "uuid7.h"
#include "version.h"

#include "fuzz.h"

enum { ARGUMENTS_MAX = 32 };

/* One option of a kind. */
static const struct arg_option kinds[] = {
    {"count", 0, ARG_COUNT, offsetof(struct args, count), "N", ""},
    {"mode", 0, ARG_MODE, offsetof(struct args, mode), "N", ""},
    {"timeout", 0, ARG_DURATION, offsetof(struct args, timeout_ns), "D", ""},
    {"from", 0, ARG_FROM, offsetof(struct args, from), "WHERE", ""},
    {"to", 0, ARG_TO, offsetof(struct args, to), "WHERE", ""},
    {"time", 0, ARG_TIME, offsetof(struct args, time_ns), "T", ""},
    {"id", 0, ARG_UUID, offsetof(struct args, id), "UUID", ""},
    {"version", 0, ARG_VERSION, offsetof(struct args, payload_version), "V", ""},
    {0},
};

/* Does an option of that kind take this value? */
static bool takes(const char *option, char *value, struct args *out_args)
{
    const char *operands[2] = {NULL, NULL};
    char name[32];
    int at = 0;
    snprintf(name, sizeof name, "--%s", option);
    args_init(out_args, operands);
    int exit_code = args_parse(out_args, kinds, NULL, false, 2, (char *[]){name, value, NULL}, &at);
    must(exit_code == 0 || exit_code == EXIT_USAGE, "--%s %s: exit code %d", option, value, exit_code);
    return exit_code == 0;
}

/* Time, id and version are those of envelopes. */
static void compare_value(char *value)
{
    struct args args;
    size_t len = strlen(value);
    uint64_t ns = 0;
    uint8_t id[16] = {0};
    uint16_t major = 0, minor = 0;
    static const uint8_t nil[16];
    bool is_time = envelope_time_parse(value, len, &ns, NULL) == EVBUS_OK && ns != 0;
    bool is_id = uuid7_parse(value, len, id) && memcmp(id, nil, sizeof nil) != 0;
    bool is_version = version_parse(value, len, &major, &minor, NULL) == EVBUS_OK;
    must(takes("time", value, &args) == is_time && (!is_time || args.time_ns == ns), "--time %s", value);
    must(takes("id", value, &args) == is_id && (!is_id || memcmp(args.id, id, sizeof id) == 0), "--id %s", value);
    must(takes("version", value, &args) == is_version &&
             (!is_version || (args.payload_version[0] == major && args.payload_version[1] == minor)),
         "--version %s", value);
    must(!takes("count", value, &args) || args.count != ARG_ABSENT, "--count %s", value);
    must(!takes("timeout", value, &args) || args.timeout_ns <= INT64_MAX, "--timeout %s", value);
    must(!takes("mode", value, &args) || (args.mode != 0 && args.mode <= 0777), "--mode %s", value);
    must(!takes("from", value, &args) || args.from.is_given, "--from %s", value);
    must(!takes("to", value, &args) || (args.to.is_given && strlen(args.to.log) < sizeof args.to.log), "--to %s",
         value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *argv[ARGUMENTS_MAX + 2] = {strdup("evbus")};
    const char *operands[ARGUMENTS_MAX + 2];
    int argc = 1;
    char *text = fuzz_copy(data, len, true);
    for (const char *at = text; *at != '\0' && argc <= ARGUMENTS_MAX;) {
        size_t line_len = strcspn(at, "\n");
        argv[argc++] = fuzz_copy(at, line_len, true);
        at += line_len + (at[line_len] == '\n');
    }
    for (int i = 1; i < argc; i++)
        compare_value(argv[i]);
    struct args args;
    const struct command *command = NULL;
    int exit_code = parse(argc, argv, operands, &args, &command);
    must(exit_code == EXIT_DONE || exit_code == EXIT_USAGE, "exit code %d", exit_code);
    if (exit_code == EXIT_DONE) {
        must(args.bus != NULL && args.bus[0] != '\0', "no bus");
        must(args.n_operands < (size_t)argc, "%zu operands of %d arguments", args.n_operands, argc);
        must(command != NULL || args.n_operands == 0, "operands without a command");
        for (size_t i = 0; i < args.n_operands; i++)
            fuzz_read(args.operands[i], strlen(args.operands[i]) + 1);
        if (command != NULL)
            (void)check_operands(&args, 1, 2, command->usage);
        if (args.help && command != NULL)
            print_command_help(command);
    }
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    free(text);
    return 0;
}
