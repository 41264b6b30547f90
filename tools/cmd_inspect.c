/* cmd_inspect.c: what stands in a bus, or in copies of its files: also what no other command can open.
 *
 * A record is a line. For people: its kind, where it stands (LOG/PARTITION@POSITION, as everywhere), then name=value; what
 * belongs to the line above stands further to the right; what is not as it should be begins with "!". For programs: an object
 * with all of it.
 * Checked by tests/cli/test_inspect.sh. */
#include "commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "inspect [DIR] [--log LOG] [--partition N] [--group GROUP] [--words N|--all] [--frame POSITION]";

static const struct evbus_field *find(const struct evbus_record *record, const char *name)
{
    for (size_t i = 0; i < record->n_fields; ++i)
        if (strcmp(record->fields[i].name, name) == 0)
            return &record->fields[i];
    return NULL;
}

/* --- for people --------------------------------------------------------------------------------------------------- */

/* As it is, where no blank, quote or "=" is in it; else in quotes. */
static void print_text(const char *text)
{
    bool is_plain = text[0] != '\0' && strcspn(text, " \t\"=") == strlen(text);
    (void)printf("%s", is_plain ? "" : "\"");
    for (;;) {
        size_t len = strcspn(text, "\"");
        print_plain(text, len);
        if (text[len] == '\0')
            break;
        (void)printf("\\\"");
        text += len + 1;
    }
    (void)printf("%s", is_plain ? "" : "\"");
}

static void print_value(const struct evbus_field *field)
{
    char time[32];
    switch (field->kind) {
    case EVBUS_FIELD_NONE:
        (void)printf("-");
        break;
    case EVBUS_FIELD_NUMBER:
    case EVBUS_FIELD_POSITION:
        (void)printf("%" PRIu64, field->number);
        break;
    case EVBUS_FIELD_FLAG:
        (void)printf("%s", field->number != 0 ? "yes" : "no");
        break;
    case EVBUS_FIELD_TIME:
        format_time(field->number, time);
        (void)printf("%s", time);
        break;
    case EVBUS_FIELD_HEX:
        (void)printf("%#" PRIx64, field->number);
        break;
    case EVBUS_FIELD_TEXT:
        print_text(field->text);
        break;
    }
}

/* LOG/PARTITION@POSITION, as far as the record has them. Returns how many of its fields that were. */
static size_t print_place(const struct evbus_record *record)
{
    static const char *const names[] = {"log", "partition", "position"};
    static const char *const before[] = {" ", "/", "@"};
    const struct evbus_field *log = find(record, "log");
    size_t at = log != NULL ? (size_t)(log - record->fields) : 0;
    size_t n = 0;
    if (log == NULL || log->kind != EVBUS_FIELD_TEXT)
        return 0;
    for (; n < 3 && at + n < record->n_fields && strcmp(record->fields[at + n].name, names[n]) == 0; ++n) {
        (void)printf("%s", before[n]);
        if (n == 0)
            print_plain(log->text, strlen(log->text));
        else
            print_value(&record->fields[at + n]);
    }
    return n;
}

static int print_line(void *context, const struct evbus_record *record)
{
    (void)context;
    (void)printf("%*s", (int)record->depth * 4, "");
    if (strcmp(record->kind, "differs") == 0 && record->n_fields == 1) {
        (void)printf("! ");
        print_plain(record->fields[0].text, strlen(record->fields[0].text));
        (void)printf("\n");
        return output_is_closed();
    }
    (void)printf("%s", record->kind);
    size_t n_placed = print_place(record);
    const struct evbus_field *placed = n_placed > 0 ? find(record, "log") : NULL;
    for (const struct evbus_field *field = record->fields; field < record->fields + record->n_fields; ++field) {
        if (placed != NULL && field >= placed && field < placed + n_placed)
            continue;
        (void)printf(" %s=", field->name);
        print_value(field);
    }
    (void)printf("\n");
    return output_is_closed();
}

/* --- for programs ------------------------------------------------------------------------------------------------- */

static int print_object(void *context, const struct evbus_record *record)
{
    (void)context;
    (void)printf("{\"record\":\"%s\"", record->kind);
    for (const struct evbus_field *field = record->fields; field < record->fields + record->n_fields; ++field) {
        (void)printf(",\"%s\":", field->name);
        switch (field->kind) {
        case EVBUS_FIELD_NONE:
            (void)printf("null");
            break;
        case EVBUS_FIELD_NUMBER:
            (void)printf("%" PRIu64, field->number);
            break;
        case EVBUS_FIELD_FLAG:
            (void)printf("%s", field->number != 0 ? "true" : "false");
            break;
        case EVBUS_FIELD_TEXT:
            print_json(field->text, strlen(field->text));
            break;
        case EVBUS_FIELD_POSITION:
        case EVBUS_FIELD_TIME:
        case EVBUS_FIELD_HEX:
            (void)printf("\"");
            print_value(field);
            (void)printf("\"");
            break;
        }
    }
    (void)printf("}\n");
    return output_is_closed();
}

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
    int rc = evbus_inspect(&options, args->json ? print_object : print_line, NULL);
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
