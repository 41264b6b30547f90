/* cmd_journal.c: what a bus remembers: its files, whether they are whole, and all events in them.
 *
 * ls and verify read a folder's files and nothing else: of a bus in use, of one that has lost its memory, of a copy. export reads
 * events as any reader does, so each comes once and whole, whether it stands in a file or in memory; what is damaged is told and
 * stepped over. It ends where each partition ended when it began.
 * Checked by tests/cli/test_journal.sh. */
#include "commands.h"
#include "event.h"
#include "fields.h"
#include "past.h"

#include <evbus/history.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "journal ls [--dir DIR]\njournal verify [--dir DIR]\n"
                            "journal export [PATTERN...] [--from earliest|TIME] [--to TIME]";

#define PROGRESS_NS UINT64_C(500000000)
#define WAIT_NS \
    UINT64_C(50000000) /* for a claim that stands before what is there: a reader clears it in a millisecond */
#define CORRUPT_MAX 64 /* places in a row; when there are more nothing goes on */

static struct evbus_journal_options options_of(const struct args *args)
{
    return (struct evbus_journal_options){
        .size = sizeof(struct evbus_journal_options), .bus = args->bus, .dir = args->dir};
}

static void print_text(const char *text)
{
    print_plain(text, strlen(text));
}

/* --- ls ----------------------------------------------------------------------------------------------------------- */

/* A position, or "-". */
static const char *position(const struct evbus_record *record, const char *name, char out[24])
{
    (void)snprintf(out, 24, fields_has(record, name) ? "%" PRIu64 : "-", fields_number(record, name));
    return out;
}

static void print_row(const struct evbus_record *record)
{
    char name[160], first[24], last[24], synced[24], oldest[32] = "-";
    (void)snprintf(name, sizeof name, "%s/%" PRIu64, fields_text(record, "log"), fields_number(record, "partition"));
    if (fields_has(record, "created"))
        format_time(fields_number(record, "created"), oldest);
    (void)printf("%-28s %6" PRIu64 " %14s %14s %14s %10.1f  %s\n", name, fields_number(record, "files"),
                 position(record, "first", first), position(record, "last", last), position(record, "synced", synced),
                 mebibytes(fields_number(record, "bytes")), oldest);
}

static int print_listed(void *context, const struct evbus_record *record)
{
    (void)context;
    if (strcmp(record->kind, "bus") == 0) {
        (void)printf("folder ");
        print_text(fields_text(record, "folder"));
        (void)printf("\nbus %s, life ", fields_text(record, "uuid"));
        fields_print_value(fields_find(record, "incarnation"));
        (void)printf("\n\n%-28s %6s %14s %14s %14s %10s  %s\n", "PARTITION", "FILES", "FROM", "TO", "SYNCED", "MIB",
                     "OLDEST");
    } else if (strcmp(record->kind, "partition") == 0) {
        print_row(record);
    } else if (strcmp(record->kind, "damaged") == 0) {
        (void)printf("! ");
        print_text(fields_text(record, "what"));
        (void)printf("\n");
    } else if (strcmp(record->kind, "aside") == 0) {
        (void)printf("! damaged, and kept: ");
        print_text(fields_text(record, "file"));
        (void)printf("\n");
    }
    return output_is_closed();
}

static int list(const struct args *args)
{
    struct evbus_journal_options options = options_of(args);
    int rc = evbus_journal(&options, args->json ? fields_print_json : print_listed, NULL);
    return rc == EVBUS_OK || output_is_closed() ? EXIT_DONE : complain_of(rc, BLAME_COMMAND_LINE);
}

/* --- verify ------------------------------------------------------------------------------------------------------- */

struct verdict {
    const struct args *args;
    uint64_t n_files, n_frames, n_events, n_bytes, n_damaged;
    uint64_t progress_ns; /* when to show it next; 0: never */
};

static void show_progress(struct verdict *verdict)
{
    uint64_t now = monotonic_ns();
    if (verdict->progress_ns == 0 || now < verdict->progress_ns)
        return;
    verdict->progress_ns = now + PROGRESS_NS;
    (void)fprintf(stderr, "\r%" PRIu64 " files, %" PRIu64 " frames, %.0f MiB read", verdict->n_files, verdict->n_frames,
                  mebibytes(verdict->n_bytes));
}

static void clear_progress(const struct verdict *verdict)
{
    if (verdict->progress_ns != 0)
        (void)fprintf(stderr, "\r\033[K");
}

static void print_damage(const struct evbus_record *record)
{
    if (fields_has(record, "log")) {
        print_text(fields_text(record, "log"));
        (void)printf("/%" PRIu64 "@%" PRIu64, fields_number(record, "partition"), fields_number(record, "position"));
        if (fields_has(record, "until"))
            (void)printf("..%" PRIu64, fields_number(record, "until"));
        (void)printf(" ");
    }
    print_text(fields_text(record, "what"));
    (void)printf("\n");
}

static int judge(void *context, const struct evbus_record *record)
{
    struct verdict *verdict = context;
    if (strcmp(record->kind, "damaged") == 0) {
        ++verdict->n_damaged;
        clear_progress(verdict);
        if (verdict->args->json)
            (void)fields_print_json(NULL, record);
        else
            print_damage(record);
    } else if (fields_find(record, "bytes") != NULL && strcmp(record->kind, "partition") != 0 &&
               strcmp(record->kind, "aside") != 0) {
        ++verdict->n_files;
        verdict->n_frames += fields_number(record, "frames");
        verdict->n_events += fields_number(record, "events");
        verdict->n_bytes += fields_number(record, "bytes");
    }
    show_progress(verdict);
    return is_stopping() || output_is_closed();
}

static int verify(const struct args *args)
{
    struct verdict verdict = {.args = args};
    struct evbus_journal_options options = options_of(args);
    options.verify = true;
    if (isatty(STDERR_FILENO))
        verdict.progress_ns = monotonic_ns() + PROGRESS_NS;
    stop_on_signals();
    int rc = evbus_journal(&options, judge, &verdict);
    clear_progress(&verdict);
    if (rc == 1) /* as judge() says: all has not been read */
        return EXIT_TRY_AGAIN;
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    if (args->json)
        (void)printf("{\"record\":\"verified\",\"files\":%" PRIu64 ",\"frames\":%" PRIu64 ",\"events\":%" PRIu64
                     ",\"bytes\":%" PRIu64 ",\"damaged\":%" PRIu64 "}\n",
                     verdict.n_files, verdict.n_frames, verdict.n_events, verdict.n_bytes, verdict.n_damaged);
    else
        (void)printf("%" PRIu64 " files, %" PRIu64 " frames, %" PRIu64 " bytes: ", verdict.n_files, verdict.n_frames,
                     verdict.n_bytes);
    if (!args->json && verdict.n_damaged == 0)
        (void)printf("all is whole\n");
    else if (!args->json)
        (void)printf("%" PRIu64 " damaged\n", verdict.n_damaged);
    return verdict.n_damaged == 0 ? EXIT_DONE : EXIT_NO;
}

/* --- export ------------------------------------------------------------------------------------------------------- */

struct export
{
    struct args args; /* ours, with --json */
    struct evbus *bus;
    struct evbus_reader *reader;
    struct event_printer printer;
    struct past past;
};

static int print_event(struct export *export, const struct evbus_delivery *delivery)
{
    if (delivery->lost > 0)
        (void)complain(EXIT_DONE,
                       "%" PRIu64 " cells of %s/%" PRIu32 " before position %" PRIu64
                       " are gone: they were retired meanwhile",
                       delivery->lost, delivery->log, delivery->partition, delivery->position);
    uint64_t to_ms = export->args.to_ns / 1000000; /* times are printed so: what is told of an event finds it again */
    if (!past_has(&export->past, delivery) || (to_ms != 0 && delivery->timestamp_ns / 1000000 > to_ms))
        return EXIT_DONE;
    return event_print(&export->printer, &export->args, delivery);
}

static int print_all(struct export *export)
{
    struct evbus_delivery delivery = {.size = sizeof delivery};
    unsigned n_corrupt = 0; /* in a row */
    int exit_code = EXIT_DONE;
    while (!past_is_over(&export->past) && n_corrupt <= CORRUPT_MAX && !output_is_closed()) {
        if (is_stopping())
            return EXIT_TRY_AGAIN;
        int rc = evbus_reader_next(export->reader, &delivery, 0);
        if (rc == EVBUS_ETIMEOUT)
            rc = evbus_reader_next(export->reader, &delivery, WAIT_NS);
        if (rc == EVBUS_ETIMEOUT)
            break;
        if (rc == EVBUS_OK) {
            n_corrupt = 0;
            int printed = print_event(export, &delivery);
            if (printed != EXIT_DONE)
                return printed;
        } else if (rc == EVBUS_ECORRUPT) {
            exit_code = complain_of(rc, BLAME_DATA); /* the next call goes on behind it */
            ++n_corrupt;
        } else {
            return complain_of(rc, BLAME_COMMAND_LINE);
        }
    }
    return exit_code;
}

static int export_events(const struct args *args)
{
    struct export export = {.args = *args};
    struct evbus_reader_options options = {.size = sizeof options,
                                           .patterns = args->n_operands > 1 ? args->operands + 1 : NULL,
                                           .n_patterns = args->n_operands - 1,
                                           .from = args->from.is_given ? args->from.where : EVBUS_FROM_EARLIEST,
                                           .from_time_ns = args->from.time_ns};
    if (options.from != EVBUS_FROM_EARLIEST && options.from != EVBUS_FROM_TIME)
        return complain(EXIT_USAGE, "--from: expected earliest or a time");
    if (args->dir != NULL)
        return complain(EXIT_USAGE, "--dir is for ls and verify: events are read from a bus");
    export.args.json = true;
    stop_on_signals();
    int exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &export.bus);
    if (exit_code == EXIT_DONE)
        exit_code = past_begin(&export.past, export.bus);
    if (exit_code == EXIT_DONE) {
        int rc = evbus_reader_open(&export.reader, export.bus, &options);
        exit_code = rc == EVBUS_OK ? print_all(&export) : complain_of(rc, BLAME_COMMAND_LINE);
    }
    evbus_reader_close(export.reader);
    evbus_close(export.bus);
    event_printer_end(&export.printer);
    past_end(&export.past);
    return exit_code;
}

/* --- the command -------------------------------------------------------------------------------------------------- */

static const struct verb {
    const char *name;
    int (*run)(const struct args *args);
    bool has_patterns;
} verbs[] = {{"ls", list, false}, {"verify", verify, false}, {"export", export_events, true}};

static int run(const struct args *args)
{
    const char *best = NULL;
    size_t best_distance = 0;
    if (args->n_operands == 0)
        return complain(EXIT_USAGE, "ls, verify or export? evbus journal --help tells them");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; ++i) {
        const struct verb *verb = &verbs[i];
        args_nearest(args->operands[0], verb->name, &best, &best_distance);
        if (strcmp(args->operands[0], verb->name) != 0)
            continue;
        if (!verb->has_patterns && args->n_operands > 1)
            return complain(EXIT_USAGE, "\"%s\" is one too many", args->operands[1]);
        if (!verb->has_patterns && (args->from.is_given || args->to_ns != 0))
            return complain(EXIT_USAGE, "--%s is for export", args->from.is_given ? "from" : "to");
        return verb->run(args);
    }
    if (best != NULL)
        return complain(EXIT_USAGE, "unknown command \"journal %s\"; did you mean journal %s?", args->operands[0],
                        best);
    return complain(EXIT_USAGE, "unknown command \"journal %s\"; there are ls, verify and export", args->operands[0]);
}

static const struct arg_option options[] = {
    {"dir", 0, ARG_TEXT, offsetof(struct args, dir), "DIR", "ls, verify: a bus's folder itself, e.g. a copy"},
    {"from", 0, ARG_FROM, offsetof(struct args, from), "WHERE", "export: earliest (the default) or an RFC 3339 time"},
    {"to", 0, ARG_TIME, offsetof(struct args, to_ns), "TIME", "export: no event that is younger"},
    {0},
};

const struct command command_journal = {
    .name = "journal",
    .summary = "look at what a bus remembers: list, verify, export",
    .usage = usage,
    .text =
        "ls shows what stands on disk of each partition: how many files, from which position to which, what is "
        "synced.\n"
        "verify reads all of it and prints a line for each place that is not as it was written, and counts at the\n"
        "end; exit 1 when there was one. Both read files alone: of a bus that is in use, of one whose memory is gone,\n"
        "of a copy (--dir). export prints the envelope of every event that is there now, a line each, as tail --json\n"
        "does, and ends; exit 70 when something damaged was stepped over. With --json ls and verify print one object\n"
        "a line.",
    .examples = "evbus journal ls\nevbus journal verify --dir /backup/lomash && echo whole\n"
                "evbus journal export 'lomash.orders.*' --from 2026-02-01T00:00:00Z > orders.ndjson",
    .options = options,
    .run = run,
};
