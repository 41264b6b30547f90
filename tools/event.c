/* event.c: an event as a line, for all who show events.
 *
 * The payload's bytes come out as they went in (19.99 stays 19.99); only a raw CR or LF between its tokens becomes a
 * blank, so that a line is an event. An event that a group receives has an attempt, one that is only looked at has not.
 */
#include "event.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int event_envelope(struct event_printer *printer, const struct evbus_delivery *delivery, const char **out_text,
                   size_t *out_len)
{
    size_t len = evbus_envelope_format(delivery, printer->envelope, printer->cap);
    if (len > printer->cap) {
        char *larger = realloc(printer->envelope, len * 2);
        if (larger == NULL)
            return complain(EXIT_CANNOT_CREATE, "out of memory");
        printer->envelope = larger;
        printer->cap = len * 2;
        len = evbus_envelope_format(delivery, printer->envelope, printer->cap);
    }
    *out_text = printer->envelope;
    *out_len = len;
    return EXIT_DONE;
}

static void print_json_text(const char *name, const char *text)
{
    if (text == NULL)
        return;
    (void)printf(",\"%s\":", name);
    print_json(text, strlen(text));
}

/* What is added here gets a row in cloudevents.c, which refuses what it does not know. */
static int print_json_event(struct event_printer *printer, bool meta, const struct evbus_delivery *delivery)
{
    const char *envelope = NULL;
    size_t len = 0;
    int exit_code = event_envelope(printer, delivery, &envelope, &len);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (!meta) {
        (void)fwrite(envelope, 1, len, stdout); /* output_flush() finds out */
        return EXIT_DONE;
    }
    (void)printf("{\"envelope\":");
    (void)fwrite(envelope, 1, len, stdout);
    (void)printf(",\"key\":");
    print_json(delivery->key, delivery->key_len);
    (void)printf(",\"log\":\"%s\",\"partition\":%" PRIu32 ",\"position\":\"%" PRIu64 "\",\"service\":", delivery->log,
                 delivery->partition, delivery->position);
    print_json(delivery->service, strlen(delivery->service));
    print_json_text("traceparent", delivery->traceparent);
    print_json_text("tracestate", delivery->tracestate);
    print_json_text("correlationId", delivery->correlation_id);
    print_json_text("causationId", delivery->causation_id);
    if (delivery->expires_at_ns != 0) {
        char when[32];
        format_time(delivery->expires_at_ns, when);
        (void)printf(",\"expiresAt\":\"%s\"", when);
    }
    for (size_t i = 0; delivery->n_versions > 1 && i < delivery->n_versions; ++i)
        (void)printf("%s%u.%u%s", i == 0 ? ",\"versions\":\"" : ",", delivery->versions[i].major,
                     delivery->versions[i].minor, i + 1 == delivery->n_versions ? "\"" : "");
    if (delivery->is_after_gap)
        (void)printf(",\"afterGap\":true");
    if (delivery->replayed > 0)
        (void)printf(",\"replayed\":%" PRIu32, delivery->replayed);
    if (delivery->attempt > 0)
        (void)printf(",\"attempt\":%" PRIu32 "}", delivery->attempt);
    else
        (void)printf(",\"lost\":%" PRIu64 "}", delivery->lost);
    return EXIT_DONE;
}

/* "1.0", or, where it is one of several, "1.0 of 1.0,2.0". */
static void print_version(const struct evbus_delivery *delivery)
{
    (void)printf("%u.%u ", delivery->version_major, delivery->version_minor);
    for (size_t i = 0; delivery->n_versions > 1 && i < delivery->n_versions; ++i)
        (void)printf("%s%u.%u%s", i == 0 ? "of " : ",", delivery->versions[i].major, delivery->versions[i].minor,
                     i + 1 == delivery->n_versions ? " " : "");
}

static void print_human_event(const struct args *args, const struct evbus_delivery *delivery)
{
    bool meta = args->meta;
    char when[32], id[37];
    format_time(delivery->timestamp_ns, when);
    if (meta) {
        format_id(delivery->id, id);
        (void)printf("%s/%" PRIu32 "@%" PRIu64 " %s ", delivery->log, delivery->partition, delivery->position, id);
        print_plain(delivery->service[0] != '\0' ? delivery->service : "-",
                    delivery->service[0] != '\0' ? strlen(delivery->service) : 1);
        (void)printf(" ");
        print_version(delivery);
        if (delivery->attempt > 0)
            (void)printf("attempt %" PRIu32 " ", delivery->attempt);
        if (delivery->traceparent != NULL)
            (void)printf("trace %s ", delivery->traceparent);
    }
    (void)printf("%s %s ", when, delivery->topic);
    if (delivery->key_len == 0)
        (void)printf("-");
    else
        print_plain(delivery->key, delivery->key_len);
    (void)printf(" ");
    if (args->versions && !meta)
        (void)printf("%u.%u ", delivery->version_major, delivery->version_minor);
    print_payload(delivery->payload, delivery->payload_len);
}

static int print_line(struct event_printer *printer, const struct args *args, const struct evbus_delivery *delivery)
{
    int exit_code = EXIT_DONE;
    if (args->json)
        exit_code = print_json_event(printer, args->meta, delivery);
    else
        print_human_event(args, delivery);
    if (exit_code == EXIT_DONE)
        (void)putchar('\n');
    return exit_code;
}

int event_print(struct event_printer *printer, const struct args *args, const struct evbus_delivery *delivery)
{
    int exit_code = EXIT_DONE;
    if (!args->versions)
        return print_line(printer, args, delivery);
    for (size_t i = 0; i < delivery->n_versions && exit_code == EXIT_DONE; ++i) {
        const struct evbus_version *version = &delivery->versions[i];
        struct evbus_delivery one = *delivery;
        one.version_major = version->major;
        one.version_minor = version->minor;
        one.payload = version->payload;
        one.payload_len = version->payload_len;
        exit_code = print_line(printer, args, &one);
    }
    return exit_code;
}

void event_printer_end(struct event_printer *printer)
{
    free(printer->envelope);
}
