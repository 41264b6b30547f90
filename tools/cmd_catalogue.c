/* cmd_catalogue.c: check a catalogue before it is used; show one as people read it, or export it as other tools do; apply
 * one while all runs.
 *
 * The text is parsed by the library alone; here its topics are only counted and laid out. The table is walked twice:
 * once for the widths of its columns, once to print. */
#include "changes.h"
#include "commands.h"
#include "export.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "catalogue check FILE\ncatalogue show [FILE]\ncatalogue apply FILE\n"
                            "catalogue export --typescript|--asyncapi [FILE|--shipped]";

enum { LOGS_MAX = 256 }; /* distinct logs that are counted; a catalogue has fewer */

struct measure {
    size_t n_topics;
    size_t n_logs;
    char *logs[LOGS_MAX];
};

static int measure_topic(void *context, const struct evbus_topic_info *info)
{
    struct measure *measure = context;
    ++measure->n_topics;
    for (size_t i = 0; i < measure->n_logs; ++i)
        if (strcmp(measure->logs[i], info->log) == 0)
            return 0;
    if (measure->n_logs == LOGS_MAX)
        return 0;
    measure->logs[measure->n_logs] = strdup(info->log);
    if (measure->logs[measure->n_logs] == NULL)
        return EVBUS_ENOSPC;
    ++measure->n_logs;
    return 0;
}

int catalogue_measure(const char *shown, const char *text, size_t len, struct catalogue_size *out_size)
{
    struct measure measure = {0};
    uint64_t bytes = 0;
    int rc = evbus_catalogue_check(text, len, &bytes);
    if (rc == EVBUS_OK)
        rc = evbus_catalogue_topics(text, len, measure_topic, &measure);
    for (size_t i = 0; i < measure.n_logs; ++i)
        free(measure.logs[i]);
    if (rc != EVBUS_OK)
        return complain(exit_of(rc, BLAME_DATA), "%s: %s", strcmp(shown, "-") == 0 ? "standard input" : shown,
                        evbus_message(NULL));
    *out_size = (struct catalogue_size){.n_topics = measure.n_topics, .n_logs = measure.n_logs, .bytes = bytes};
    return EXIT_DONE;
}

static int check(const struct args *args, const char *path)
{
    char *text;
    size_t len;
    struct catalogue_size size;
    int exit_code = args_read_file(path, CATALOGUE_FILE_BYTES_MAX, &text, &len);
    if (exit_code != EXIT_DONE)
        return exit_code;
    exit_code = catalogue_measure(path, text, len, &size);
    free(text);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (args->json)
        (void)printf("{\"topics\":%zu,\"logs\":%zu,\"bytes\":%" PRIu64 "}\n", size.n_topics, size.n_logs, size.bytes);
    else
        (void)printf("%s: ok, %zu topics, %zu logs, %.1f MiB\n", path, size.n_topics, size.n_logs,
                     mebibytes(size.bytes));
    return EXIT_DONE;
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

struct table {
    size_t topic_width;
    size_t producers_width;
};

static size_t width_of(const char *const *names, size_t n)
{
    size_t width = 0;
    for (size_t i = 0; i < n; ++i)
        width += strlen(names[i]) + (i > 0 ? 2 : 0);
    return width;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int widen(void *context, const struct evbus_topic_info *info)
{
    struct table *table = context;
    table->topic_width = larger(table->topic_width, strlen(info->topic));
    table->producers_width = larger(table->producers_width, width_of(info->producers, info->n_producers));
    return 0;
}

static void print_names(const char *const *names, size_t n, const char *when_none)
{
    if (n == 0)
        (void)printf("%s", when_none);
    for (size_t i = 0; i < n; ++i)
        (void)printf("%s%s", i > 0 ? ", " : "", names[i]);
}

static int print_row(void *context, const struct evbus_topic_info *info)
{
    const struct table *table = context;
    size_t producers = info->n_producers == 0 ? strlen("(anyone)") : width_of(info->producers, info->n_producers);
    (void)printf("%-*s  ", (int)table->topic_width, info->topic);
    print_names(info->producers, info->n_producers, "(anyone)");
    (void)printf("%*s", (int)(larger(table->producers_width, producers) - producers) + 2, "");
    print_names(info->groups, info->n_groups, "(internal)");
    (void)printf("\n");
    return 0;
}

static int print_name(void *context, const struct evbus_topic_info *info)
{
    (void)context;
    (void)printf("%s\n", info->topic);
    return 0;
}

static int print_catalogue(const struct args *args, const char *text, size_t len)
{
    if (args->typescript)
        return export_typescript(text, len);
    if (args->asyncapi)
        return export_asyncapi(text, len);
    struct table table = {.topic_width = strlen("TOPIC"), .producers_width = strlen("PRODUCERS")};
    int rc;
    if (args->names) {
        rc = evbus_catalogue_topics(text, len, print_name, NULL);
    } else if (args->json) {
        rc = evbus_catalogue_check(text, len, NULL);
        if (rc == EVBUS_OK) {
            (void)fwrite(text, 1, len, stdout); /* output_flush() finds out */
            (void)printf("%s", len > 0 && text[len - 1] == '\n' ? "" : "\n");
        }
    } else {
        rc = evbus_catalogue_topics(text, len, widen, &table);
        if (rc == EVBUS_OK) {
            (void)printf("%-*s  %-*s  CONSUMERS\n", (int)table.topic_width, "TOPIC", (int)table.producers_width,
                         "PRODUCERS");
            rc = evbus_catalogue_topics(text, len, print_row, &table);
        }
    }
    return rc == EVBUS_OK ? EXIT_DONE : complain_of(rc, BLAME_DATA);
}

static int show_file(const struct args *args, const char *path)
{
    char *text;
    size_t len;
    int exit_code = args_read_file(path, CATALOGUE_FILE_BYTES_MAX, &text, &len);
    if (exit_code != EXIT_DONE)
        return exit_code;
    exit_code = print_catalogue(args, text, len);
    free(text);
    return exit_code;
}

static int show_bus(const struct args *args)
{
    struct evbus *bus;
    const char *text;
    size_t len;
    int exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    int rc = evbus_catalogue_text(bus, &text, &len);
    exit_code = rc == EVBUS_OK ? print_catalogue(args, text, len) : complain_of(rc, BLAME_COMMAND_LINE);
    evbus_close(bus);
    return exit_code;
}

/* --- apply -------------------------------------------------------------------------------------------------------- */

static int apply_text(const struct args *args, const char *path, const char *text, size_t len)
{
    struct evbus *bus;
    struct changes changes;
    int exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    exit_code = changes_begin(&changes, bus);
    if (exit_code == EXIT_DONE) {
        int rc = evbus_catalogue_apply(bus, text, len, NULL);
        exit_code = rc == EVBUS_OK ? changes_print(&changes, args, bus, text, len)
                                   : complain(exit_of(rc, BLAME_DATA), "%s: %s",
                                              strcmp(path, "-") == 0 ? "standard input" : path, evbus_message(NULL));
    }
    changes_end(&changes);
    evbus_close(bus);
    return exit_code;
}

static int apply(const struct args *args, const char *path)
{
    char *text;
    size_t len;
    struct catalogue_size size;
    int exit_code = args_read_file(path, CATALOGUE_FILE_BYTES_MAX, &text, &len);
    if (exit_code != EXIT_DONE)
        return exit_code;
    exit_code = catalogue_measure(path, text, len, &size); /* an empty text is one that is wrong */
    if (exit_code == EXIT_DONE)
        exit_code = apply_text(args, path, text, len);
    free(text);
    return exit_code;
}

/* What show prints, in another form. */
static int export(const struct args *args)
{
    if (args->typescript == args->asyncapi)
        return complain(EXIT_USAGE, "export as what? give one of --typescript and --asyncapi");
    if (args->shipped && args->n_operands == 2)
        return complain(EXIT_USAGE, "--shipped and \"%s\": give one of them", args->operands[1]);
    if (args->shipped)
        return print_catalogue(args, evbus_shipped_catalogue(), strlen(evbus_shipped_catalogue()));
    return args->n_operands == 2 ? show_file(args, args->operands[1]) : show_bus(args);
}

static int run(const struct args *args)
{
    int exit_code = check_operands(args, 1, 2, usage);
    if (exit_code != EXIT_DONE)
        return exit_code;
    const char *verb = args->operands[0], *best = NULL;
    size_t best_distance = 0;
    if (strcmp(verb, "export") == 0)
        return export(args);
    if (args->typescript || args->asyncapi || args->shipped)
        return complain(EXIT_USAGE, "--%s: only catalogue export has it",
                        args->typescript ? "typescript"
                        : args->asyncapi ? "asyncapi"
                                         : "shipped");
    if (strcmp(verb, "show") == 0)
        return args->n_operands == 2 ? show_file(args, args->operands[1]) : show_bus(args);
    if (strcmp(verb, "check") == 0) {
        if (args->n_operands != 2)
            return complain(EXIT_USAGE, "which FILE? usage: evbus catalogue check FILE");
        return check(args, args->operands[1]);
    }
    if (strcmp(verb, "apply") == 0) {
        if (args->n_operands != 2)
            return complain(EXIT_USAGE, "which FILE? usage: evbus catalogue apply FILE");
        return apply(args, args->operands[1]);
    }
    args_nearest(verb, "check", &best, &best_distance);
    args_nearest(verb, "apply", &best, &best_distance);
    args_nearest(verb, "show", &best, &best_distance);
    args_nearest(verb, "export", &best, &best_distance);
    if (best != NULL)
        return complain(EXIT_USAGE, "unknown command \"catalogue %s\"; did you mean catalogue %s?", verb, best);
    return complain(EXIT_USAGE, "unknown command \"catalogue %s\"; there are check, show, apply and export", verb);
}

static const struct arg_option options[] = {
    {"names", 0, ARG_FLAG, offsetof(struct args, names), NULL, NULL}, /* for completion */
    {"typescript", 0, ARG_FLAG, offsetof(struct args, typescript), NULL, "export: types of the events"},
    {"asyncapi", 0, ARG_FLAG, offsetof(struct args, asyncapi), NULL, "export: an AsyncAPI 3.0 document, as JSON"},
    {"shipped", 0, ARG_FLAG, offsetof(struct args, shipped), NULL, "export: the catalogue that comes with evbus"},
    {0},
};

const struct command command_catalogue = {
    .name = "catalogue",
    .summary = "check, show, apply or export who may publish, who receives",
    .usage = usage,
    .text =
        "check says whether a bus can be made of FILE, and how much memory it takes (exit 78: it cannot, and why).\n"
        "show prints topics, producers and consumers of FILE, else of the bus; with --json the text itself. A FILE\n"
        "named - is standard input. apply gives the bus what FILE has more: topics, groups, producers, logs; retries "
        "and\n"
        "timeouts change. Services see it at their next call, no publish waits for it. All of it or nothing: what a\n"
        "bus cannot change is refused by name (exit 78). It may be repeated. export prints the catalogue of FILE, else "
        "of the bus, as other\n"
        "tools read it: the ADR's DomainEvent<T> and a type per topic; or channels, messages, who sends and receives.",
    .examples = "evbus catalogue check catalogue.json\nevbus catalogue show\n"
                "evbus catalogue show --json > catalogue.json\nevbus catalogue apply catalogue.json\n"
                "evbus catalogue export --typescript > events.ts\nevbus catalogue export --asyncapi > asyncapi.json",
    .options = options,
    .run = run,
};
