/* cmd_convert.c: events, one a line, in another form.
 *
 * A filter: it opens no bus, and writes what it has before it waits for more, so it may stand behind a `tail` that goes on. A line
 * that cannot be converted is named by its number on standard error and leaves no line behind; the others go on, and exit code 65
 * at the end tells. Nothing is sorted, joined or dropped: but for those, line n of the one is line n of the other, blank lines
 * left out.
 * The conversion is cloudevents.c. Checked by tests/cli/test_convert.sh. */
#include "cloudevents.h"
#include "commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "convert --to cloudevents\nconvert --from cloudevents";

#define LINE_BYTES_MAX ((size_t)8 << 20) /* a payload in base64 and what may stand beside it, with room */

struct filter {
    bool (*convert)(struct slice line, struct converted *out);
    struct converted converted;
    char *text; /* read, and not taken yet */
    size_t cap;
    size_t filled;
    bool is_dropping; /* up to the end of a line that is too long */
    uint64_t n_lines;
    uint64_t n_refused;
};

static void refuse(struct filter *filter, const char *what)
{
    ++filter->n_refused;
    (void)complain(EXIT_DATA, "line %" PRIu64 ": %s", filter->n_lines, what);
}

static bool is_blank(const char *line, size_t len)
{
    for (size_t i = 0; i < len; ++i)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* One line, without what ends it. Returns 0, or the exit code that ends the run. */
static int take_line(struct filter *filter, const char *line, size_t len)
{
    struct converted *converted = &filter->converted;
    ++filter->n_lines;
    if (filter->is_dropping) {
        filter->is_dropping = false;
        char what[64];
        (void)snprintf(what, sizeof what, "longer than %zu bytes", LINE_BYTES_MAX);
        refuse(filter, what);
        return EXIT_DONE;
    }
    if (is_blank(line, len))
        return EXIT_DONE;
    if (!filter->convert((struct slice){.at = line, .len = len}, converted)) {
        refuse(filter, converted->fault);
        return converted->is_memory_short ? EXIT_CANNOT_CREATE : EXIT_DONE;
    }
    (void)fwrite(converted->text, 1, converted->len, stdout); /* output_flush() finds out */
    (void)putchar('\n');
    return EXIT_DONE;
}

static int take_whole_lines(struct filter *filter)
{
    int exit_code = EXIT_DONE;
    char *line = filter->text, *behind = filter->text + filter->filled, *end;
    while (exit_code == EXIT_DONE && (end = memchr(line, '\n', (size_t)(behind - line))) != NULL) {
        exit_code = take_line(filter, line, (size_t)(end - line));
        line = end + 1;
    }
    filter->filled = (size_t)(behind - line);
    memmove(filter->text, line, filter->filled);
    return exit_code;
}

static int make_room(struct filter *filter)
{
    if (filter->is_dropping || (filter->filled == filter->cap && filter->cap >= LINE_BYTES_MAX)) {
        filter->is_dropping = true;
        filter->filled = 0;
    } else if (filter->filled == filter->cap) {
        size_t cap = filter->cap == 0 ? 1 << 16 : filter->cap * 2;
        char *larger = realloc(filter->text, cap + 1); /* the last line's end may be ours */
        if (larger == NULL)
            return complain(EXIT_CANNOT_CREATE, "out of memory");
        filter->text = larger;
        filter->cap = cap;
    }
    return EXIT_DONE;
}

static int take_all(struct filter *filter)
{
    for (;;) {
        int exit_code = make_room(filter);
        if (exit_code != EXIT_DONE)
            return exit_code;
        output_flush();
        if (output_is_closed())
            return EXIT_DONE;
        ssize_t n = read(STDIN_FILENO, filter->text + filter->filled, filter->cap - filter->filled);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            (void)wait_for(STDIN_FILENO, UINT64_C(1000000000));
            continue;
        }
        if (n < 0)
            return complain(EXIT_IO, "standard input: %s", strerror(errno));
        filter->filled += (size_t)n;
        if (n == 0 && (filter->filled > 0 || filter->is_dropping))
            filter->text[filter->filled++] = '\n'; /* the last line has no end */
        exit_code = take_whole_lines(filter);
        if (exit_code != EXIT_DONE || n == 0)
            return exit_code;
    }
}

static int run(const struct args *args)
{
    int exit_code = check_operands(args, 0, 0, usage);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if ((args->format_from == NULL) == (args->format_to == NULL))
        return complain(EXIT_USAGE, "convert what? give one of --to cloudevents and --from cloudevents");
    const char *format = args->format_to != NULL ? args->format_to : args->format_from;
    if (strcmp(format, "cloudevents") != 0)
        return complain(EXIT_USAGE, "--%s \"%s\": expected cloudevents", args->format_to != NULL ? "to" : "from",
                        format);
    struct filter filter = {.convert = args->format_to != NULL ? cloudevents_to : cloudevents_from};
    exit_code = take_all(&filter);
    free(filter.text);
    converted_end(&filter.converted);
    if (filter.n_refused > 0)
        (void)complain(EXIT_DATA, "%" PRIu64 " of %" PRIu64 " lines refused", filter.n_refused, filter.n_lines);
    return exit_code == EXIT_DONE && filter.n_refused > 0 ? EXIT_DATA : exit_code;
}

static const struct arg_option options[] = {
    {"to", 0, ARG_TEXT, offsetof(struct args, format_to), "cloudevents", "our lines to CloudEvents 1.0"},
    {"from", 0, ARG_TEXT, offsetof(struct args, format_from), "cloudevents", "and back"},
    {0},
};

const struct command command_convert = {
    .name = "convert",
    .summary = "events, one a line, to CloudEvents and back",
    .usage = usage,
    .text = "Reads standard input: envelopes, or what tail --json --meta prints; with --from CloudEvents 1.0 in "
            "structured\n"
            "JSON. Nothing is lost either way: payloads are kept byte for byte, and what only a CloudEvent has stands\n"
            "beside the envelope, in \"cloudEvents\". A line that is none is reported by its number, the others go on, "
            "and\n"
            "the exit code is 65 at the end. No bus is needed.",
    .examples = "evbus journal export --json | evbus convert --to cloudevents > events.ndjson\n"
                "evbus convert --from cloudevents < events.ndjson",
    .options = options,
    .run = run,
};
