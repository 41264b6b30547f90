/* cmd_pub.c: publish one payload, or one per line of standard input.
 *
 *   one     the receipt on standard output says where the event stands
 *   lines   a line that cannot be published (no JSON, too long, no key) is named by its number on standard error; the
 *           others go on: one bad record must not hold up 829 good ones; exit 65 at the end tells. What concerns every
 *           line (no such topic, not our topic, a ring that stays full, the bus removed) ends the run at once.
 *
 * The bytes of a payload are not touched: what ends a line (LF, CR LF) is no part of it, all else is. Blank lines are
 * skipped. A full ring is waited for in slices, so that Ctrl-C is heard while we wait; a refused publish left nothing
 * behind, so asking again is the same as having waited on. */
#include "commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "pub TOPIC PAYLOAD [--also VERSION=PAYLOAD]...\npub TOPIC -\npub TOPIC --stdin";

#define TIMEOUT_DEFAULT_NS UINT64_C(5000000000)
#define TIMEOUT_SLICE_NS   UINT64_C(500000000)
#define PROGRESS_NS        UINT64_C(500000000)
#define PAYLOAD_BYTES_MAX  ((size_t)4 << 20) /* what we hold; what the bus takes is less, and the library says it */
#define KEY_BYTES_MAX      255

struct publisher {
    const struct args *args;
    struct evbus *bus;
    const char *topic;
    struct evbus_version also[EVBUS_VERSIONS_MAX - 1];
    size_t n_also;
    uint64_t timeout_ns;
    uint64_t n_published;
    uint64_t n_refused;
    uint64_t n_lines;
    uint64_t started_ns;
    uint64_t progress_ns; /* when to show it next; 0: never */
};

/* Says why an event (of that line; 0: the only one) was not published. The library's message about a full ring knows the
 * last slice of our wait only. Returns the exit code. */
static int refuse(const struct publisher *publisher, int rc, uint64_t line)
{
    char where[48] = "", waited[48] = "";
    if (line != 0)
        (void)snprintf(where, sizeof where, "line %" PRIu64 ": ", line);
    if (rc == EVBUS_EFULL && publisher->timeout_ns > TIMEOUT_SLICE_NS && !is_stopping())
        (void)snprintf(waited, sizeof waited, " (%.1f s in all)", (double)publisher->timeout_ns / 1e9);
    return complain(exit_of(rc, BLAME_DATA), "%s%s%s", where, evbus_message(NULL), waited);
}

static int is_our_topic(void *context, const struct evbus_topic_info *info)
{
    const struct publisher *publisher = context;
    return strcmp(info->topic, publisher->topic) == 0;
}

/* Was it the payload that the library refused, or the topic? The message is for people; the catalogue knows. */
static enum blame blame_of(struct publisher *publisher)
{
    const char *text;
    size_t len;
    bool is_topic_known = evbus_catalogue_text(publisher->bus, &text, &len) != EVBUS_OK ||
                          evbus_catalogue_topics(text, len, is_our_topic, publisher) != EVBUS_OK;
    return is_topic_known ? BLAME_DATA : BLAME_COMMAND_LINE;
}

/* What we are called from: `evbus consume --exec` says it to its commands, and tracers' programs use the first two names. */
static void take_cause(const struct args *args, struct evbus_delivery *cause, struct evbus_event *event)
{
    const char *id = getenv("EVBUS_EVENT_ID");
    cause->traceparent = getenv("TRACEPARENT");
    cause->tracestate = getenv("TRACESTATE");
    cause->correlation_id = getenv("EVBUS_CORRELATION_ID");
    event->traceparent = args->traceparent;
    event->tracestate = args->tracestate;
    event->correlation_id = args->correlation_id;
    event->causation_id = args->causation_id;
    if (id != NULL && !args_read_uuid(id, cause->id))
        memset(cause->id, 0, sizeof cause->id);
    event->cause = cause;
}

static int publish(struct publisher *publisher, const char *payload, size_t len, struct evbus_receipt *out_receipt)
{
    const struct args *args = publisher->args;
    char key[KEY_BYTES_MAX + 1];
    struct evbus_event event = {.size = sizeof event,
                                .topic = publisher->topic,
                                .payload = payload,
                                .payload_len = len,
                                .key = args->key,
                                .timestamp_ns = args->time_ns,
                                .ack = args->disk ? EVBUS_ACK_DISK : EVBUS_ACK_LOG,
                                .version_major = args->payload_version[0],
                                .version_minor = args->payload_version[1],
                                .more_versions = publisher->also,
                                .n_more_versions = publisher->n_also};
    struct evbus_delivery cause = {.size = sizeof cause};
    take_cause(args, &cause, &event);
    if (args->expires_in_ns != ARG_ABSENT)
        event.expires_at_ns = realtime_ns() + args->expires_in_ns;
    memcpy(event.id, args->id, sizeof event.id);
    if (args->key_field != NULL) {
        int rc = evbus_key_of_member(payload, len, args->key_field, key, &event.key_len);
        if (rc != EVBUS_OK)
            return rc;
        event.key = key;
    }
    *out_receipt = (struct evbus_receipt){.size = sizeof *out_receipt};
    uint64_t left_ns = publisher->timeout_ns;
    for (;;) {
        event.timeout_ns = left_ns < TIMEOUT_SLICE_NS ? left_ns : TIMEOUT_SLICE_NS;
        int rc = evbus_publish(publisher->bus, &event, out_receipt);
        left_ns -= event.timeout_ns;
        if (rc != EVBUS_EFULL || left_ns == 0 || is_stopping())
            return rc;
    }
}

static void print_receipt(const struct args *args, const struct evbus_receipt *receipt)
{
    char id[37];
    format_id(receipt->id, id);
    if (args->json)
        (void)printf("{\"eventId\":\"%s\",\"log\":\"%s\",\"partition\":%" PRIu32 ",\"position\":\"%" PRIu64
                     "\",\"ack\":\"%s\"}\n",
                     id, receipt->log, receipt->partition, receipt->position, ack_name(receipt->ack));
    else
        (void)printf("%s/%" PRIu32 "@%" PRIu64 " %s\n", receipt->log, receipt->partition, receipt->position, id);
}

static int publish_one(struct publisher *publisher)
{
    const char *payload = publisher->args->operands[1];
    char *from_stdin = NULL;
    size_t len = strlen(payload);
    struct evbus_receipt receipt;
    if (strcmp(payload, "-") == 0) {
        int exit_code = args_read_file("-", PAYLOAD_BYTES_MAX, &from_stdin, &len);
        if (exit_code != EXIT_DONE)
            return exit_code;
        payload = from_stdin;
    }
    stop_on_signals();
    int rc = publish(publisher, payload, len, &receipt);
    free(from_stdin);
    if (rc == EVBUS_OK) {
        print_receipt(publisher->args, &receipt);
        return EXIT_DONE;
    }
    int exit_code = refuse(publisher, rc, 0);
    return rc == EVBUS_EINVAL ? exit_of(rc, blame_of(publisher)) : exit_code;
}

/* --- lines -------------------------------------------------------------------------------------------------------- */

static void show_progress(struct publisher *publisher)
{
    uint64_t now = monotonic_ns();
    if (publisher->progress_ns == 0 || now < publisher->progress_ns)
        return;
    publisher->progress_ns = now + PROGRESS_NS;
    (void)fprintf(stderr, "\r%" PRIu64 " published, %" PRIu64 " refused", publisher->n_published, publisher->n_refused);
}

static void clear_progress(const struct publisher *publisher)
{
    if (publisher->progress_ns != 0)
        (void)fprintf(stderr, "\r\033[K");
}

/* One line, without what ends it and with a NUL behind it. Returns the exit code that ends the run, or EXIT_DONE. */
static int take_line(struct publisher *publisher, char *line, size_t len)
{
    struct evbus_receipt receipt;
    ++publisher->n_lines;
    if (len > 0 && line[len - 1] == '\r')
        --len;
    line[len] = '\0';
    if (strspn(line, " \t\r") == len)
        return EXIT_DONE;
    int rc = publish(publisher, line, len, &receipt);
    if (rc == EVBUS_OK) {
        ++publisher->n_published;
    } else {
        clear_progress(publisher);
        ++publisher->n_refused;
        int exit_code = refuse(publisher, rc, publisher->n_lines);
        if (rc != EVBUS_EINVAL)
            return exit_code;
        if (publisher->n_published == 0 && blame_of(publisher) == BLAME_COMMAND_LINE)
            return EXIT_USAGE;
    }
    show_progress(publisher);
    return EXIT_DONE;
}

/* What has been read of standard input and not been taken yet. A line that is too long to hold is dropped up to its end. */
struct lines {
    char *text; /* cap + 1 bytes */
    size_t cap;
    size_t filled;
    bool is_dropping;
};

static void refuse_long_line(struct publisher *publisher)
{
    ++publisher->n_lines;
    ++publisher->n_refused;
    clear_progress(publisher);
    (void)complain(EXIT_DATA, "line %" PRIu64 ": longer than %zu bytes", publisher->n_lines, PAYLOAD_BYTES_MAX);
}

static int take_whole_lines(struct publisher *publisher, struct lines *lines)
{
    int exit_code = EXIT_DONE;
    char *line = lines->text, *behind = lines->text + lines->filled, *end;
    while (exit_code == EXIT_DONE && !is_stopping() && (end = memchr(line, '\n', (size_t)(behind - line))) != NULL) {
        if (lines->is_dropping)
            refuse_long_line(publisher);
        else
            exit_code = take_line(publisher, line, (size_t)(end - line));
        lines->is_dropping = false;
        line = end + 1;
    }
    lines->filled = (size_t)(behind - line);
    memmove(lines->text, line, lines->filled);
    return exit_code;
}

static int make_room(struct lines *lines)
{
    if (lines->is_dropping || (lines->filled == lines->cap && lines->cap >= PAYLOAD_BYTES_MAX)) {
        lines->is_dropping = true;
        lines->filled = 0;
    } else if (lines->filled == lines->cap) {
        size_t cap = lines->cap == 0 ? 1 << 16 : lines->cap * 2;
        char *larger = realloc(lines->text, cap + 1);
        if (larger == NULL)
            return complain(EXIT_CANNOT_CREATE, "out of memory");
        lines->text = larger;
        lines->cap = cap;
    }
    return EXIT_DONE;
}

static int take_lines(struct publisher *publisher, struct lines *lines)
{
    for (;;) {
        int exit_code = make_room(lines);
        if (exit_code != EXIT_DONE)
            return exit_code;
        while (!wait_for(STDIN_FILENO, PROGRESS_NS)) {
            if (is_stopping())
                return EXIT_DONE;
            show_progress(publisher);
        }
        ssize_t n = read(STDIN_FILENO, lines->text + lines->filled, lines->cap - lines->filled);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return complain(EXIT_IO, "standard input: %s", strerror(errno));
        lines->filled += (size_t)n;
        if (n == 0 && (lines->filled > 0 || lines->is_dropping))
            lines->text[lines->filled++] = '\n'; /* the last line has no end */
        exit_code = take_whole_lines(publisher, lines);
        if (exit_code != EXIT_DONE || n == 0 || is_stopping())
            return exit_code;
    }
}

static int publish_lines(struct publisher *publisher)
{
    stop_on_signals();
    publisher->started_ns = monotonic_ns();
    publisher->progress_ns = isatty(STDERR_FILENO) ? publisher->started_ns + PROGRESS_NS : 0;
    struct lines lines = {0};
    int exit_code = take_lines(publisher, &lines);
    free(lines.text);
    double seconds = (double)(monotonic_ns() - publisher->started_ns) / 1e9;
    clear_progress(publisher);
    if (exit_code == EXIT_DONE && is_stopping())
        exit_code = complain(EXIT_TRY_AGAIN, "interrupted behind line %" PRIu64 "; later lines were not published",
                             publisher->n_lines);
    if (publisher->args->json)
        (void)printf("{\"published\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"seconds\":%.6f}\n", publisher->n_published,
                     publisher->n_refused, seconds);
    else
        (void)fprintf(stderr, "published %" PRIu64 " events in %.2f s, %" PRIu64 " refused\n", publisher->n_published,
                      seconds, publisher->n_refused);
    return exit_code == EXIT_DONE && publisher->n_refused > 0 ? EXIT_DATA : exit_code;
}

static int check_args(const struct args *args)
{
    static const uint8_t no_id[16];
    if (args->n_operands == 0)
        return complain(EXIT_USAGE, "which TOPIC? e.g. evbus pub lomash.orders.created '{\"orderId\":\"10248\"}'");
    if (args->n_operands == 1 && !args->from_stdin)
        return complain(EXIT_USAGE, "PAYLOAD is missing: give a JSON text, - to read one from standard input, or "
                                    "--stdin for one per line");
    int exit_code = check_operands(args, 1, args->from_stdin ? 1 : 2, usage);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (args->key != NULL && args->key_field != NULL)
        return complain(EXIT_USAGE, "--key and --key-field: give one of them");
    if (args->key != NULL && strlen(args->key) > KEY_BYTES_MAX)
        return complain(EXIT_USAGE, "--key: %zu bytes; at most %d are allowed", strlen(args->key), KEY_BYTES_MAX);
    if (args->from_stdin && args->also.n > 0)
        return complain(EXIT_USAGE, "--also is a version of one event; it cannot be given with --stdin");
    if (args->from_stdin && memcmp(args->id, no_id, sizeof no_id) != 0)
        return complain(EXIT_USAGE, "--id names one event; it cannot be given with --stdin");
    return EXIT_DONE;
}

/* "2.0={...}". Returns 0, or 2 after the message. */
static int take_also(struct publisher *publisher)
{
    const struct arg_texts *also = &publisher->args->also;
    if (also->n > EVBUS_VERSIONS_MAX - 1)
        return complain(EXIT_USAGE, "--also: %zu versions beside the first; at most %d are allowed", also->n,
                        EVBUS_VERSIONS_MAX - 1);
    for (size_t i = 0; i < also->n; ++i) {
        const char *payload = strchr(also->at[i], '=');
        uint16_t version[2];
        if (payload == NULL || !args_read_version(also->at[i], (size_t)(payload - also->at[i]), version))
            return complain(EXIT_USAGE, "--also \"%.100s\": expected VERSION=PAYLOAD, e.g. 2.0='{\"orderId\":10248}'",
                            also->at[i]);
        publisher->also[publisher->n_also++] = (struct evbus_version){
            .major = version[0], .minor = version[1], .payload = payload + 1};
    }
    return EXIT_DONE;
}

static int run(const struct args *args)
{
    int exit_code = check_args(args);
    if (exit_code != EXIT_DONE)
        return exit_code;
    struct publisher publisher = {.args = args,
                                  .topic = args->operands[0],
                                  .timeout_ns = args->timeout_ns == ARG_ABSENT ? TIMEOUT_DEFAULT_NS : args->timeout_ns};
    exit_code = take_also(&publisher);
    if (exit_code == EXIT_DONE)
        exit_code = open_bus(args, EVBUS_KEEPER_VOLUNTEER, &publisher.bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    exit_code = args->from_stdin ? publish_lines(&publisher) : publish_one(&publisher);
    evbus_close(publisher.bus);
    return exit_code;
}

static const struct arg_option options[] = {
    {"stdin", 0, ARG_FLAG, offsetof(struct args, from_stdin), NULL, "one payload per line of standard input"},
    {"key", 0, ARG_TEXT, offsetof(struct args, key), "KEY", "order holds among events of one key"},
    {"key-field", 0, ARG_TEXT, offsetof(struct args, key_field), "NAME", "the key is this member of the payload"},
    {"id", 0, ARG_UUID, offsetof(struct args, id), "UUID", "the eventId; else a new one is made"},
    {"time", 0, ARG_TIME, offsetof(struct args, time_ns), "RFC3339", "the timestamp; else now"},
    {"version", 0, ARG_VERSION, offsetof(struct args, payload_version), "VERSION", "of the payload; else 1.0"},
    {"expires", 0, ARG_DURATION, offsetof(struct args, expires_in_ns), "D", "not handled by then: a dead letter"},
    {"traceparent", 0, ARG_TEXT, offsetof(struct args, traceparent), "W3C",
     "the trace it belongs to; else $TRACEPARENT"},
    {"tracestate", 0, ARG_TEXT, offsetof(struct args, tracestate), "W3C", "likewise; else $TRACESTATE"},
    {"correlation-id", 0, ARG_TEXT, offsetof(struct args, correlation_id), "ID", "of the chain that it belongs to"},
    {"causation-id", 0, ARG_TEXT, offsetof(struct args, causation_id), "ID", "what it follows from"},
    {"also", 0, ARG_TEXTS, offsetof(struct args, also), "VERSION=PAYLOAD", "the same event in a further version"},
    {"disk", 0, ARG_FLAG, offsetof(struct args, disk), NULL, "wait until it is on disk, whatever its log's ack is"},
    {"timeout", 0, ARG_DURATION, offsetof(struct args, timeout_ns), "D", "how long a full ring may keep us; else 5s"},
    {0},
};

const struct command command_pub = {
    .name = "pub",
    .summary = "publish events",
    .usage = usage,
    .text =
        "PAYLOAD is one JSON text and is kept byte for byte. The receipt is LOG/PARTITION@POSITION and the eventId.\n"
        "With --also the event has several versions, and each group gets the one that it accepts.\n"
        "With --stdin a line that cannot be published is reported by its number, the others go on, and the exit\n"
        "code is 65 at the end. A service must be named (--as): the catalogue says who may publish what.",
    .examples =
        "evbus pub lomash.orders.created '{\"orderId\":\"10248\"}' --as order-payment-service\n"
        "evbus pub lomash.orders.created '{\"total\":\"440.00\"}' --also 2.0='{\"total\":440.00}' --as "
        "order-payment-service\n"
        "evbus pub lomash.orders.created --stdin --key-field orderId --as order-payment-service < orders.ndjson",
    .options = options,
    .run = run,
};
