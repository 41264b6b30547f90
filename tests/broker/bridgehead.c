/* bridgehead.c: a backend of a test's own, without a bus. See bridgehead.h. */
#include "bridgehead.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S UINT64_C(1000000000)

static void append_text(char *to, size_t cap, const char *text)
{
    size_t len = strlen(to);
    cr_assert_lt(len + strlen(text), cap, "more is told than a test wants to keep: %s", text);
    snprintf(to + len, cap - len, "%s", text);
}

static void on_state(void *context, bool is_here, const char *why)
{
    struct bridgehead *head = context;
    cr_assert(is_here || (why != NULL && why[0] != '\0'), "away, and nobody says why");
    head->is_here = is_here;
    head->n_states++;
    snprintf(head->why, sizeof head->why, "%s", why != NULL ? why : "");
    if (strlen(head->whys) + strlen(head->why) + 2 < sizeof head->whys) {
        append_text(head->whys, sizeof head->whys, head->why);
        append_text(head->whys, sizeof head->whys, "\n");
    }
}

static void on_marks(void *context, const char *log, uint32_t partition, enum backend_result result,
                     const struct backend_mark *marks, size_t n, const char *why)
{
    struct bridgehead *head = context;
    cr_assert_eq(strcmp(log, BRIDGEHEAD_LOG), 0);
    cr_assert_eq(partition, 3);
    cr_assert(result == BACKEND_OK || (n == 0 && why != NULL));
    cr_assert_leq(n, sizeof head->marks / sizeof head->marks[0]);
    for (size_t i = 0; i < n; i++) {
        head->marks[i] = marks[i];
        head->marks[i].topic = head->marks[i].end = NULL;
    }
    head->marks_result = result;
    snprintf(head->marks_why, sizeof head->marks_why, "%s", why != NULL ? why : "");
    head->n_marks++;
}

static void on_appended(void *context, uint64_t ticket, enum backend_result result, const char *why)
{
    struct bridgehead *head = context;
    char text[64];
    head->ticket = ticket;
    head->result = result;
    snprintf(head->append_why, sizeof head->append_why, "%s", why != NULL ? why : "");
    snprintf(text, sizeof text, "%" PRIu64 ":%d ", ticket, (int)result);
    if (strlen(head->results) + strlen(text) < sizeof head->results)
        append_text(head->results, sizeof head->results, text);
    head->n_appended++;
}

static bool on_arrived(void *context, const char *stream, const struct backend_entry *entries, size_t n)
{
    struct bridgehead *head = context;
    char text[600];
    if (n == 0)
        head->n_empty++;
    if (head->refuses && n > 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct entry_field *shown = NULL;
        for (size_t k = 0; k < entries[i].n_fields; k++) {
            const struct entry_field *field = &entries[i].fields[k];
            if (strcmp(field->name, "position") == 0 || (shown == NULL && strcmp(field->name, "payload") == 0))
                shown = field;
        }
        snprintf(text, sizeof text, "%s=%.*s ", stream,
                 shown != NULL ? (int)(shown->value_len < 100 ? shown->value_len : 100) : 6,
                 shown != NULL ? shown->value : "(none)");
        append_text(head->values, sizeof head->values, text);
        cr_assert(i == 0 || head->backend->class->id_compare(entries[i].id, head->last_id) > 0, "%s behind %s",
                  entries[i].id, head->last_id);
        snprintf(head->last_id, sizeof head->last_id, "%s", entries[i].id);
    }
    head->n_arrived += n;
    if (!head->is_lazy && n > 0)
        head->backend->class->more(head->backend, stream);
    return true;
}

static void on_reset(void *context, const char *stream, const char *id)
{
    struct bridgehead *head = context;
    char text[200];
    snprintf(text, sizeof text, "%s@%s ", stream, id);
    append_text(head->resets, sizeof head->resets, text);
}

static void on_trimmed(void *context, const char *stream, const struct backend_trimmed *trimmed)
{
    struct bridgehead *head = context;
    (void)stream;
    head->trimmed = *trimmed;
    snprintf(head->kept_from, sizeof head->kept_from, "%s", trimmed->kept_from);
    snprintf(head->kept_for, sizeof head->kept_for, "%s", trimmed->kept_for);
    snprintf(head->dropped, sizeof head->dropped, "%s", trimmed->dropped != NULL ? trimmed->dropped : "");
    head->n_trimmed++;
}

struct bridgehead *bridgehead_make(const char *broker)
{
    struct bridgehead *head = calloc(1, sizeof *head);
    cr_assert_not_null(head);
    snprintf(head->config.broker, sizeof head->config.broker, "%s", broker);
    head->config.out = true;
    head->config.batch_events = 100;
    head->config.batch_bytes = 1 << 20;
    head->config.connect_timeout_ns = 1 * S;
    head->config.reply_timeout_ns = 1 * S;
    head->config.wait_timeout_ns = S / 10;
    head->config.host_timeout_ns = 3600 * S;
    head->epoch = 1;
    head->incarnation = 1;
    return head;
}

void bridgehead_open(struct bridgehead *head)
{
    static const struct backend_callbacks callbacks = {.state = on_state,
                                                       .marks = on_marks,
                                                       .appended = on_appended,
                                                       .arrived = on_arrived,
                                                       .reset = on_reset,
                                                       .trimmed = on_trimmed};
    char error[EVBUS_ERROR_MAX];
    cr_assert_eq(backend_redis.open(&head->backend, &head->config, BRIDGEHEAD_ORIGIN, &callbacks, head, error),
                 EVBUS_OK, "%s", error);
}

void bridgehead_close(struct bridgehead *head)
{
    if (head->backend != NULL)
        head->backend->class->close(head->backend);
    free(head);
}

struct bridgehead *bridgehead_start(const char *broker)
{
    struct bridgehead *head = bridgehead_make(broker);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    return head;
}

struct bridgehead *bridgehead_start_reading(const char *broker)
{
    struct bridgehead *head = bridgehead_make(broker);
    head->config.in = true;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    return head;
}

void bridgehead_pump(struct bridgehead *head)
{
    struct pollfd fds[4];
    int timeout_ms = 1;
    size_t n = head->backend->class->fds(head->backend, fds, sizeof fds / sizeof fds[0], &timeout_ms);
    cr_assert_geq(poll(fds, (nfds_t)n, timeout_ms), 0);
    head->backend->class->service(head->backend, fds, n);
}

bool bridgehead_add(struct bridgehead *head, const char *topic, uint64_t prev, uint64_t position, const char *payload,
                    size_t len)
{
    const struct evbus_version version = {.major = 1, .payload = payload, .payload_len = len};
    struct evbus_delivery event = {.size = sizeof event,
                                   .versions = &version,
                                   .n_versions = 1,
                                   .topic = topic,
                                   .timestamp_ns = UINT64_C(1769938200000000000), /* 2026-02-01T09:30:00Z */
                                   .key = "10248",
                                   .key_len = 5,
                                   .payload = payload,
                                   .payload_len = len,
                                   .version_major = 1,
                                   .log = BRIDGEHEAD_LOG,
                                   .partition = 3,
                                   .position = position};
    memcpy(event.id, &position, sizeof position);
    return head->backend->class->add(head->backend, &event, prev);
}

bool bridgehead_send(struct bridgehead *head, const char *topic, uint64_t prev, size_t n, const uint64_t *positions)
{
    const struct backend_class *class = head->backend->class;
    if (!class->begin(head->backend, BRIDGEHEAD_LOG, 3, head->epoch, head->incarnation))
        return false;
    for (size_t i = 0; i < n; i++) {
        cr_assert(bridgehead_add(head, topic, prev, positions[i], "{\"total\":19.99}", 15));
        prev = positions[i];
    }
    return class->send(head->backend, positions[0]);
}

enum backend_result bridgehead_append(struct bridgehead *head, const char *topic, uint64_t prev, size_t n,
                                      const uint64_t *positions)
{
    size_t before = head->n_appended;
    cr_assert(bridgehead_send(head, topic, prev, n, positions), "it is away: %s", head->why);
    cr_assert(bridgehead_await(head, head->n_appended > before), "no answer");
    cr_assert_eq(head->ticket, positions[0]);
    return head->result;
}

uint64_t bridgehead_mark(struct bridgehead *head, const char *topic)
{
    unsigned before = head->n_marks;
    cr_assert(head->backend->class->ask(head->backend, BRIDGEHEAD_LOG, 3, &topic, 1), "it is away: %s", head->why);
    cr_assert(bridgehead_await(head, head->n_marks > before), "no answer");
    cr_assert_eq(head->marks_result, BACKEND_OK, "%s", head->marks_why);
    return head->marks[0].position;
}
