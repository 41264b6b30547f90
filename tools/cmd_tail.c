/* cmd_tail.c: follow the bus, a line an event.
 *
 * A tail consumes nothing and holds nobody up. Read too slowly it is overtaken, and says how much it lost; with --pin
 * it is not overtaken: then the producers' rings fill, and they wait for us.
 *
 *     ask without waiting -> an event: print it
 *                         -> none: flush, then wait a slice; look at Ctrl-C, the deadline and a reader that hung up
 *
 * So a busy tail writes 64 KiB at a time, and an idle one holds no line back. The payload's bytes come out as they went
 * in (19.99 stays 19.99); only a raw CR or LF between its tokens becomes a blank, so that a line is an event. */
#include "commands.h"
#include "event.h"
#include "past.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "tail [PATTERN...] [--from earliest|latest|TIME] [--count N] [--timeout D]";

#define SLICE_NS    UINT64_C(100000000)
#define SAMPLES_MAX ((size_t)1000000)
#define CORRUPT_MAX \
    64 /* places in a row; when there are more, a ring's own positions are damaged, and nothing goes on */

/* Latencies: all of the first million, then a fair sample of all (a reservoir: the n-th replaces one with chance
 * max/n). */
struct samples {
    uint64_t *ns;
    size_t n;
    uint64_t n_seen;
    uint64_t random;
};

struct tail {
    const struct args *args;
    struct evbus *bus;
    struct evbus_reader *reader;
    struct event_printer printer;
    struct samples samples;
    struct past past; /* begun when the deadline has passed */
    uint64_t n_events;
};

/* --- latency ------------------------------------------------------------------------------------------------------ */

static void sample(struct samples *samples, uint64_t ns)
{
    ++samples->n_seen;
    if (samples->n < SAMPLES_MAX) {
        samples->ns[samples->n++] = ns;
        return;
    }
    samples->random ^= samples->random << 13;
    samples->random ^= samples->random >> 7;
    samples->random ^= samples->random << 17;
    uint64_t at = samples->random % samples->n_seen;
    if (at < SAMPLES_MAX)
        samples->ns[at] = ns;
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static double percentile_us(const struct samples *samples, size_t percent)
{
    size_t rank = (samples->n * percent + 99) / 100; /* 1..n */
    return (double)samples->ns[rank - 1] / 1000;
}

static void print_latency(struct samples *samples)
{
    if (samples->n == 0) {
        (void)complain(EXIT_DONE, "latency: no events");
        return;
    }
    qsort(samples->ns, samples->n, sizeof samples->ns[0], compare);
    output_flush();
    (void)fprintf(stderr, "latency p50 %.1f us p99 %.1f us (%" PRIu64 " events)\n", percentile_us(samples, 50),
                  percentile_us(samples, 99), samples->n_seen);
}

/* --- one event ---------------------------------------------------------------------------------------------------- */

static int print_event(struct tail *tail, const struct evbus_delivery *delivery)
{
    if (tail->args->latency) {
        uint64_t now = realtime_ns();
        sample(&tail->samples, now > delivery->timestamp_ns ? now - delivery->timestamp_ns : 0);
    }
    if (delivery->lost > 0)
        (void)complain(EXIT_DONE,
                       "lost %" PRIu64 " cells of %s/%" PRIu32 " before position %" PRIu64
                       ": overwritten before they were read, retired, or damaged",
                       delivery->lost, delivery->log, delivery->partition, delivery->position);
    ++tail->n_events;
    return event_print(&tail->printer, tail->args, delivery);
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the deadline has passed, what is there is still printed, so that `--from earliest --timeout 0` prints all of history; but
 * nothing that came later, or a busy bus would never let us go. */
static int follow(struct tail *tail)
{
    const struct args *args = tail->args;
    uint64_t deadline_ns = args->timeout_ns == ARG_ABSENT ? UINT64_MAX : monotonic_ns() + args->timeout_ns;
    bool is_late = false; /* the deadline has passed */
    struct evbus_delivery delivery = {.size = sizeof delivery};
    unsigned n_corrupt = 0; /* in a row */
    int exit_code = EXIT_DONE;
    while (tail->n_events < args->count && !past_is_over(&tail->past) && !is_stopping() && !output_is_closed()) {
        uint64_t now_ns = deadline_ns == UINT64_MAX ? 0 : monotonic_ns();
        if (now_ns >= deadline_ns && !is_late) {
            int begun = past_begin(&tail->past, tail->bus);
            if (begun != EXIT_DONE)
                return begun;
            is_late = true;
        }
        int rc = evbus_reader_next(tail->reader, &delivery, 0);
        if (is_late && rc == EVBUS_ETIMEOUT)
            break;
        if (rc == EVBUS_ETIMEOUT) {
            output_flush();
            if (output_has_hung_up())
                return exit_code;
            rc = evbus_reader_next(tail->reader, &delivery, earlier(SLICE_NS, deadline_ns - now_ns));
        }
        if (rc == EVBUS_OK) {
            n_corrupt = 0;
            int printed = is_late && !past_has(&tail->past, &delivery) ? EXIT_DONE : print_event(tail, &delivery);
            if (printed != EXIT_DONE)
                return printed;
        } else if (rc == EVBUS_ECORRUPT) {
            exit_code = complain_of(rc, BLAME_DATA); /* the next call goes on behind it */
            if (++n_corrupt > CORRUPT_MAX && is_late)
                break;
            if (n_corrupt > CORRUPT_MAX)
                (void)wait_for(-1, earlier(SLICE_NS, deadline_ns - now_ns));
        } else if (rc != EVBUS_ETIMEOUT) {
            return complain_of(rc, BLAME_COMMAND_LINE);
        }
    }
    bool has_missed_count = args->count != ARG_ABSENT && tail->n_events < args->count;
    bool was_ended = is_stopping() || output_is_closed();
    return exit_code == EXIT_DONE && has_missed_count && !was_ended ? EXIT_NO : exit_code;
}

static int run(const struct args *args)
{
    struct tail tail = {.args = args, .samples = {.random = 1 /* any but 0 */}};
    struct evbus_reader_options reader_options = {.size = sizeof reader_options,
                                                  .patterns = args->n_operands > 0 ? args->operands : NULL,
                                                  .n_patterns = args->n_operands,
                                                  .from = args->from.where,
                                                  .from_time_ns = args->from.time_ns,
                                                  .pin = args->pin};
    if (args->latency) {
        tail.samples.ns = malloc(SAMPLES_MAX * sizeof *tail.samples.ns);
        if (tail.samples.ns == NULL)
            return complain(EXIT_CANNOT_CREATE, "out of memory");
    }
    stop_on_signals();
    int exit_code = open_bus(args, EVBUS_KEEPER_VOLUNTEER, &tail.bus);
    if (exit_code == EXIT_DONE) {
        int rc = evbus_reader_open(&tail.reader, tail.bus, &reader_options);
        exit_code = rc == EVBUS_OK ? follow(&tail) : complain_of(rc, BLAME_COMMAND_LINE);
        if (rc == EVBUS_OK && args->latency)
            print_latency(&tail.samples);
    }
    evbus_reader_close(tail.reader);
    evbus_close(tail.bus);
    event_printer_end(&tail.printer);
    past_end(&tail.past);
    free(tail.samples.ns);
    return exit_code;
}

static const struct arg_option options[] = {
    {"from", 0, ARG_FROM, offsetof(struct args, from), "WHERE", "earliest, latest (the default) or an RFC 3339 time"},
    {"count", 0, ARG_COUNT, offsetof(struct args, count), "N", "end after N events"},
    {"timeout", 0, ARG_DURATION, offsetof(struct args, timeout_ns), "D", "end after D; with --count, exit 1 then"},
    {"latency", 0, ARG_FLAG, offsetof(struct args, latency), NULL, "at the end, how old the events were when read"},
    {"versions", 0, ARG_FLAG, offsetof(struct args, versions), NULL, "a line for each version of an event"},
    {"pin", 0, ARG_FLAG, offsetof(struct args, pin), NULL, "never be overtaken: producers wait for us"},
    {0},
};

const struct command command_tail = {
    .name = "tail",
    .summary = "follow what is published",
    .usage = usage,
    .text =
        "In a PATTERN * stands for one segment, a last ** for one or more; without one, all topics are followed. A\n"
        "line is time, topic, key (- when there is none) and payload; with --json the envelope; with --json --meta\n"
        "an object around it; of several versions of an event the lowest, or with --versions each. A tail consumes "
        "nothing. Ctrl-C ends it with exit 0.",
    .examples = "evbus tail\nevbus tail 'lomash.orders.*' 'lomash.content.**' --from earliest\n"
                "evbus tail --json --count 1 --timeout 5s lomash.payments.succeeded | jq .payload",
    .options = options,
    .run = run,
};
