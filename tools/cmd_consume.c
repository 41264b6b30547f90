/* cmd_consume.c: be a member of a group, from the command line.
 *
 *     receive -> print the event's line, flush            -> written: acknowledge; not written: give it back, and end
 *             -> --exec: run CMD, wait for its end        -> finish by its exit code
 *             -> nothing came: a signal, the deadline, a reader that hung up? and again
 *
 * An event is acknowledged behind its line: in the pipe, the file, on the terminal. A reader that dies before it has
 * read its pipe loses what is in it; who must not lose that takes --exec.
 * The first SIGINT or SIGTERM: what is in hand is finished, then we leave; the second, or a CMD that takes longer than
 * --stop-timeout then: it is given back, no attempt charged, and we leave at once. While an event is in hand the signals are held (output.h), so no line is cut in two.
 * Checked by tests/cli/test_groups.sh. */
#include "commands.h"
#include "event.h"
#include "exec.h"
#include "upcast.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "consume GROUP [PATTERN...] [--exec CMD [--stop-timeout D]] [--count N] [--timeout D]\n"
                            "consume GROUP PATTERN... [--from earliest|latest|TIME|@POSITION] [--ephemeral] ...\n"
                            "consume GROUP --accept VERSION[,VERSION...] [--upcast MAJOR=CMD]...";

#define SLICE_NS UINT64_C(100000000)

struct consumer {
    const struct args *args;
    struct evbus *bus;
    struct evbus_subscription *subscription;
    struct event_printer printer;
    uint64_t n_events;
    const char *accepts[ARG_TEXTS_MAX];
    size_t n_accepts;
    char accept_text[256]; /* that they point into */
    struct upcasts upcasts;
};

/* --- one event ---------------------------------------------------------------------------------------------------- */

/* Prints the event's line; `written` says whether it is out. Returns EXIT_DONE or the exit code. */
static int print_line(struct consumer *consumer, const struct evbus_delivery *event, bool *out_written)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    sigset_t before;
    stop_signals_hold(&before);
    int exit_code = wait_held(&out, 1, UINT64_MAX, &before) ? event_print(&consumer->printer, consumer->args, event)
                                                            : EXIT_TRY_AGAIN;
    *out_written = exit_code == EXIT_DONE && output_is_written();
    stop_signals_let_go(&before);
    return exit_code;
}

static uint64_t stop_timeout_ns(const struct args *args)
{
    return args->stop_timeout_ns != ARG_ABSENT ? args->stop_timeout_ns : EXEC_STOP_TIMEOUT_NS;
}

static int run_command(struct consumer *consumer, const struct evbus_delivery *event, struct exec_result *out_result)
{
    const char *envelope;
    size_t len;
    int exit_code = event_envelope(&consumer->printer, event, &envelope, &len);
    if (exit_code == EXIT_DONE)
        exit_code = exec_command(consumer->args->exec, event, envelope, len, stop_timeout_ns(consumer->args),
                                 out_result);
    return exit_code;
}

static int handle(struct consumer *consumer, const struct evbus_delivery *event)
{
    struct exec_result result = {.outcome = EVBUS_RELEASE};
    int exit_code;
    if (consumer->args->exec != NULL) {
        exit_code = run_command(consumer, event, &result);
    } else {
        bool is_written;
        exit_code = print_line(consumer, event, &is_written);
        if (is_written)
            result.outcome = EVBUS_DONE;
    }
    if (result.outcome == EVBUS_DEFER && result.defer_ns != 0)
        (void)evbus_defer(event, result.defer_ns);
    int rc = evbus_finish(consumer->subscription, event, result.outcome, result.error[0] != '\0' ? result.error : NULL);
    if (rc == EVBUS_EFENCED)
        (void)complain(EXIT_DONE, "%s", evbus_message(NULL)); /* it is another member's now: we go on */
    else if (rc != EVBUS_OK && exit_code == EXIT_DONE)
        exit_code = complain_of(rc, BLAME_COMMAND_LINE);
    if (exit_code == EXIT_DONE && (consumer->args->exec != NULL || result.outcome == EVBUS_DONE))
        ++consumer->n_events;
    return exit_code;
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

/* Does nobody read any more what we print? */
static bool is_unread(const struct consumer *consumer, bool look)
{
    return consumer->args->exec == NULL && (look ? output_has_hung_up() : output_is_closed());
}

/* How long to wait for the next event; *out_is_last: when none comes, that was all. --timeout 0 takes what is there,
 * another timeout ends whatever is there. */
static bool may_go_on(const struct args *args, uint64_t deadline_ns, uint64_t *out_wait_ns, bool *out_is_last)
{
    uint64_t now_ns = monotonic_ns();
    bool drains = args->timeout_ns == 0;
    if (now_ns >= deadline_ns && !drains)
        return false;
    *out_wait_ns = drains ? 0 : deadline_ns - now_ns < SLICE_NS ? deadline_ns - now_ns : SLICE_NS;
    *out_is_last = drains;
    return true;
}

static int consume(struct consumer *consumer)
{
    const struct args *args = consumer->args;
    uint64_t deadline_ns = args->timeout_ns == ARG_ABSENT ? UINT64_MAX : monotonic_ns() + args->timeout_ns;
    struct evbus_delivery event = {.size = sizeof event};
    int exit_code = EXIT_DONE;
    uint64_t wait_ns;
    bool is_last, is_idle = false;
    while (exit_code == EXIT_DONE && consumer->n_events < args->count && !is_stopping() &&
           !is_unread(consumer, is_idle) && may_go_on(args, deadline_ns, &wait_ns, &is_last)) {
        int rc = evbus_receive(consumer->subscription, &event, wait_ns);
        is_idle = rc == EVBUS_ETIMEOUT;
        exit_code = upcasts_exit_code(&consumer->upcasts);
        if (exit_code != EXIT_DONE) /* what has come meanwhile is given back as we leave */
            break;
        if (rc == EVBUS_OK)
            exit_code = handle(consumer, &event);
        else if (rc != EVBUS_ETIMEOUT)
            exit_code = complain_of(rc, BLAME_COMMAND_LINE);
        else if (is_last)
            break;
    }
    bool has_missed_count = args->count != ARG_ABSENT && consumer->n_events < args->count;
    bool was_ended = is_stopping() || is_unread(consumer, false);
    return exit_code == EXIT_DONE && has_missed_count && !was_ended ? EXIT_NO : exit_code;
}

static int check(const struct args *args)
{
    if (args->n_operands == 0)
        return complain(EXIT_USAGE, "which GROUP? `evbus group ls` lists them");
    if (args->n_operands == 1 && (args->from.is_given || args->ephemeral))
        return complain(EXIT_USAGE, "--%s is for a group that is made here: say of which topics (PATTERN)",
                        args->ephemeral ? "ephemeral" : "from");
    if (args->exec != NULL && args->exec[strspn(args->exec, " \t\n")] == '\0')
        return complain(EXIT_USAGE, "--exec: which command?");
    return EXIT_DONE;
}

/* "1,2.0": what a version is, the library says. */
static int split_accept(struct consumer *consumer, const char *given)
{
    size_t len = strlen(given);
    if (len >= sizeof consumer->accept_text)
        return complain(EXIT_USAGE, "--accept: %zu bytes; at most %zu are allowed", len,
                        sizeof consumer->accept_text - 1);
    memcpy(consumer->accept_text, given, len + 1);
    for (char *at = consumer->accept_text, *next; at != NULL; at = next) {
        if ((next = strchr(at, ',')) != NULL)
            *next++ = '\0';
        if (consumer->n_accepts == ARG_TEXTS_MAX)
            return complain(EXIT_USAGE, "--accept: at most %d versions are allowed", ARG_TEXTS_MAX);
        consumer->accepts[consumer->n_accepts++] = at;
    }
    return EXIT_DONE;
}

/* Who consumes without a name of its own goes by its group's, in `stat` and in dead letters. */
static void name_service(struct args *args)
{
    const char *service = args->service != NULL ? args->service : getenv("EVBUS_SERVICE");
    const char *group = args->operands[0];
    size_t len = strlen(group);
    if ((service == NULL || service[0] == '\0') && len < 64 &&
        strspn(group, "abcdefghijklmnopqrstuvwxyz0123456789-_") == len)
        args->service = group; /* else the group's name is refused, and that is what should be said */
}

static int run(const struct args *args)
{
    struct consumer consumer = {.args = args};
    struct args named = *args;
    int exit_code = check(args);
    if (exit_code == EXIT_DONE)
        exit_code = upcasts_make(&args->upcasts, &consumer.upcasts);
    if (exit_code == EXIT_DONE && args->accept != NULL)
        exit_code = split_accept(&consumer, args->accept);
    if (exit_code != EXIT_DONE)
        return exit_code;
    name_service(&named);
    stop_on_signals();
    exit_code = open_bus(&named, EVBUS_KEEPER_VOLUNTEER, &consumer.bus);
    if (exit_code == EXIT_DONE) {
        struct evbus_subscribe_options options = {.size = sizeof options,
                                                  .group = args->operands[0],
                                                  .patterns = args->n_operands > 1 ? args->operands + 1 : NULL,
                                                  .n_patterns = args->n_operands - 1,
                                                  .from = args->from.where,
                                                  .from_time_ns = args->from.time_ns,
                                                  .from_position = args->from.position,
                                                  .ephemeral = args->ephemeral,
                                                  .accepts = consumer.accepts,
                                                  .n_accepts = consumer.n_accepts,
                                                  .upcasters = consumer.upcasts.upcasters,
                                                  .n_upcasters = consumer.upcasts.n};
        int rc = evbus_subscribe(&consumer.subscription, consumer.bus, &options);
        exit_code = rc == EVBUS_OK ? consume(&consumer) : complain_of(rc, BLAME_COMMAND_LINE);
    }
    evbus_unsubscribe(consumer.subscription);
    evbus_close(consumer.bus);
    event_printer_end(&consumer.printer);
    return exit_code;
}

static const struct arg_option options[] = {
    {"exec", 0, ARG_TEXT, offsetof(struct args, exec), "CMD", "a shell command that handles each event"},
    {"count", 0, ARG_COUNT, offsetof(struct args, count), "N", "end after N events"},
    {"timeout", 0, ARG_DURATION, offsetof(struct args, timeout_ns), "D", "end after D; with --count, exit 1 then"},
    {"stop-timeout", 0, ARG_DURATION, offsetof(struct args, stop_timeout_ns), "D",
     "how long a running CMD may take when we are asked to stop (25s)"},
    {"from", 0, ARG_FROM, offsetof(struct args, from), "WHERE",
     "where a new group starts: latest (default), earliest, time"},
    {"ephemeral", 0, ARG_FLAG, offsetof(struct args, ephemeral), NULL, "a new group ends with its last member"},
    {"accept", 0, ARG_TEXT, offsetof(struct args, accept), "VERSIONS",
     "of payloads, e.g. 1,2.0; else as the catalogue says"},
    {"upcast", 0, ARG_TEXTS, offsetof(struct args, upcasts), "MAJOR=CMD",
     "a filter: a payload of MAJOR in, of the next out"},
    {0},
};

const struct command command_consume = {
    .name = "consume",
    .summary = "receive as a member of a group, and acknowledge",
    .usage = usage,
    .text =
        "Each event of the group's topics goes to one of its members, in order per key, again until it is done. An\n"
        "event is acknowledged when its line (as of tail) is written, or by how CMD ends. CMD is run by /bin/sh with\n"
        "the envelope on standard input and EVBUS_TOPIC, EVBUS_EVENT_ID, EVBUS_KEY, EVBUS_VERSION and EVBUS_ATTEMPT. "
        "Its exit code\n"
        "says: 0 done; 65 can never work: a dead letter now; 69 not the event's fault: again, no attempt charged;\n"
        "79 not now: likewise, after the time in the last line of its standard error (30s); 75, any other, a signal:\n"
        "failed, again after the group's wait, at last a dead letter, of which that line is kept as the reason.\n"
        "PATTERNs with the name of no group make one of these topics. With a group that is there they limit this\n"
        "member to logs in which they cover all of the group's topics.\n"
        "--accept says which versions this member takes: 1 is any 1.x, 2.0 exactly that; it gets the highest that "
        "fits.\n"
        "Where none fits the --upcast commands are a chain from the highest below: a payload on standard input, its\n"
        "version in EVBUS_VERSION, that of the next major version on standard output. Where there is none, or one "
        "ends\n"
        "with another exit code than 0 (69: not the event's fault), the event is a dead letter, no_version.\n"
        "SIGTERM or Ctrl-C: finish the running event, then leave; a second time, or when CMD takes longer than\n"
        "--stop-timeout: give it back, leave at once.",
    .examples = "evbus consume notification-service\n"
                "evbus consume analytics-service --exec './count.sh' --as analytics-service\n"
                "evbus consume audit 'lomash.orders.*' --from earliest --json >> orders.ndjson\n"
                "evbus consume peek 'lomash.**' --ephemeral --count 1 --timeout 5s\n"
                "evbus consume mailer --accept 2 --upcast 1='jq -c \".total=(.total|tonumber)\"' --exec ./mail.sh",
    .options = options,
    .run = run,
};
