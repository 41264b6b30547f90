/* rig.c: backends in a test. See rig.h. */
#include "rig.h"

#include "conformance.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what is told ------------------------------------------------------------------------------------------------- */

static struct rig_bridge *serving(void *context)
{
    struct rig_bridge *bridge = context;
    cr_assert(bridge->is_serving, "a callback came from elsewhere than service()");
    return bridge;
}

static void told_state(void *context, bool is_here, const char *why)
{
    struct rig_bridge *bridge = serving(context);
    bridge->n_states += bridge->is_here != is_here;
    bridge->is_here = is_here;
    snprintf(bridge->why, sizeof bridge->why, "%s", why != NULL ? why : "");
    cr_assert(is_here || bridge->why[0] != '\0', "it is away, and nobody says why");
}

static void told_marks(void *context, const char *log, uint32_t partition, enum backend_result result,
                       const struct backend_mark *marks, size_t n, const char *why)
{
    struct rig_bridge *bridge = serving(context);
    cr_assert_str_eq(log, RIG_LOG);
    cr_assert_leq(n, sizeof bridge->marks / sizeof bridge->marks[0]);
    cr_assert(result == BACKEND_OK ? n > 0 : n == 0 && why != NULL && why[0] != '\0');
    bridge->n_marks_answers++;
    bridge->marks_result = result;
    bridge->marks_partition = partition;
    bridge->n_marks = n;
    for (size_t i = 0; i < n; i++) {
        struct rig_mark *mark = &bridge->marks[i];
        *mark = (struct rig_mark){
            .position = marks[i].position, .epoch = marks[i].epoch, .incarnation = marks[i].incarnation};
        snprintf(mark->topic, sizeof mark->topic, "%s", marks[i].topic != NULL ? marks[i].topic : "");
        snprintf(bridge->ends[i], sizeof bridge->ends[i], "%s", marks[i].end);
    }
}

static void told_appended(void *context, uint64_t ticket, enum backend_result result, const char *why)
{
    struct rig_bridge *bridge = serving(context);
    bridge->answers = realloc(bridge->answers, (bridge->n_answers + 1) * sizeof *bridge->answers);
    cr_assert_not_null(bridge->answers);
    struct rig_answer *answer = &bridge->answers[bridge->n_answers++];
    *answer = (struct rig_answer){.ticket = ticket, .result = result};
    snprintf(answer->why, sizeof answer->why, "%s", why != NULL ? why : "");
    cr_assert(result == BACKEND_OK || answer->why[0] != '\0', "result %d, and nobody says why", (int)result);
    struct rig_answer shown = *answer;
    if (bridge->on_answer != NULL)
        bridge->on_answer(bridge, &shown);
}

static struct rig_stream *stream_of(struct rig_bridge *bridge, const char *name)
{
    for (size_t i = 0; i < bridge->n_streams; i++)
        if (strcmp(bridge->streams[i].name, name) == 0)
            return &bridge->streams[i];
    cr_assert_fail("nobody listens to %s", name);
    return NULL;
}

static void show_origin(const uint8_t bus[16], char out_text[37])
{
    for (unsigned i = 0, at = 0; i < 16; i++)
        at += (unsigned)sprintf(out_text + at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bus[i]);
}

static void read_entry(const struct backend_entry *entry, struct rig_entry *out)
{
    struct entry_event *event = malloc(sizeof *event);
    char error[EVBUS_ERROR_MAX] = "";
    cr_assert_not_null(event);
    cr_assert_leq(strlen(entry->id), 63);
    *out = (struct rig_entry){.is_event = entry_read(entry->fields, entry->n_fields, event, error)};
    snprintf(out->id, sizeof out->id, "%s", entry->id);
    snprintf(out->error, sizeof out->error, "%.150s", error);
    if (out->is_event) {
        out->is_foreign = event->is_foreign;
        show_origin(event->origin.bus, out->origin);
        snprintf(out->topic, sizeof out->topic, "%s", event->topic);
        out->partition = event->origin.partition;
        out->position = event->origin.position;
        out->prev = event->prev;
        snprintf(out->payload, sizeof out->payload, "%.*s", (int)event->event.payload_len,
                 (const char *)event->event.payload);
    }
    free(event);
}

static bool told_arrived(void *context, const char *name, const struct backend_entry *entries, size_t n)
{
    struct rig_bridge *bridge = serving(context);
    struct rig_stream *stream = stream_of(bridge, name);
    stream->is_at_end = n == 0;
    if (n == 0) {
        stream->n_empty++;
        return true;
    }
    stream->n_arrived++;
    stream->most = n > stream->most ? n : stream->most;
    if (stream->is_refusing)
        return false;
    stream->entries = realloc(stream->entries, (stream->n + n) * sizeof *stream->entries);
    cr_assert_not_null(stream->entries);
    for (size_t i = 0; i < n; i++) {
        read_entry(&entries[i], &stream->entries[stream->n++]);
        if (bridge->on_entry != NULL)
            bridge->on_entry(bridge, &entries[i]);
    }
    if (stream->is_asking)
        broker_kind.class->more(bridge->backend, name);
    return true;
}

static void told_reset(void *context, const char *name, const char *id)
{
    struct rig_bridge *bridge = serving(context);
    cr_assert_not_null(id);
    stream_of(bridge, name)->n_resets++;
}

static void told_trimmed(void *context, const char *name, const struct backend_trimmed *trimmed)
{
    struct rig_bridge *bridge = serving(context);
    cr_assert_not_null(name);
    bridge->n_trimmed++;
    bridge->trimmed += trimmed->n;
    snprintf(bridge->kept_from, sizeof bridge->kept_from, "%s", trimmed->kept_from);
    snprintf(bridge->kept_for, sizeof bridge->kept_for, "%s", trimmed->kept_for);
    if (trimmed->dropped != NULL)
        snprintf(bridge->dropped, sizeof bridge->dropped, "%s", trimmed->dropped);
}

static const struct backend_callbacks callbacks = {
    .state = told_state,
    .marks = told_marks,
    .appended = told_appended,
    .arrived = told_arrived,
    .reset = told_reset,
    .trimmed = told_trimmed,
};

/* --- the rig ------------------------------------------------------------------------------------------------------ */

struct rig rig_make(enum config_layout layout)
{
    struct rig rig = {
        .config =
            {
                .bus = "lomash",
                .layout = layout,
                .out = true,
                .in = true,
                .batch_events = 256,
                .batch_bytes = 1 << 20,
                .batches = 3,
                .connect_timeout_ns = UINT64_C(5000000000),
                .reply_timeout_ns = UINT64_C(10000000000),
                .trim_age_ns = UINT64_C(3600000000000),
                .trim_interval_ns = UINT64_C(60000000000),
                .host_timeout_ns = UINT64_C(604800000000000),
            },
    };
    snprintf(rig.config.name, sizeof rig.config.name, "%s", broker_kind.class->name);
    rig.broker = broker_kind.make(&rig.config);
    return rig;
}

void rig_end(struct rig *rig)
{
    while (rig->n_bridges > 0)
        rig_close(rig->bridges[rig->n_bridges - 1]);
    broker_kind.end(rig->broker);
}

struct rig_bridge *rig_open_away(struct rig *rig, unsigned n)
{
    struct rig_bridge *bridge = calloc(1, sizeof *bridge);
    char error[EVBUS_ERROR_MAX] = "";
    cr_assert_not_null(bridge);
    cr_assert_lt(rig->n_bridges, RIG_BRIDGES);
    bridge->rig = rig;
    bridge->config = rig->config;
    snprintf(bridge->origin, sizeof bridge->origin, "4f0c2b7e-1c1d-4b52-9d3e-%012u", n);
    int rc = broker_kind.class->open(&bridge->backend, &bridge->config, bridge->origin, &callbacks, bridge, error);
    cr_assert_eq(rc, EVBUS_OK, "%s", error);
    cr_assert_eq(bridge->backend->class, broker_kind.class);
    rig->bridges[rig->n_bridges++] = bridge;
    return bridge;
}

struct rig_bridge *rig_open(struct rig *rig, unsigned n)
{
    struct rig_bridge *bridge = rig_open_away(rig, n);
    cr_assert(rig_until(rig, bridge->is_here), "it does not come: %s", bridge->why);
    return bridge;
}

void rig_close(struct rig_bridge *bridge)
{
    struct rig *rig = bridge->rig;
    size_t at = 0;
    while (rig->bridges[at] != bridge)
        at++;
    rig->bridges[at] = rig->bridges[--rig->n_bridges];
    broker_kind.class->close(bridge->backend);
    for (size_t i = 0; i < bridge->n_streams; i++)
        free(bridge->streams[i].entries);
    free(bridge->answers);
    free(bridge);
}

void rig_pump(struct rig *rig, uint64_t until_ms)
{
    enum { MOST = 16 };
    struct pollfd fds[RIG_BRIDGES * MOST];
    size_t n[RIG_BRIDGES], total = 0, at = 0, n_bridges = rig->n_bridges;
    int own_ms[RIG_BRIDGES];
    uint64_t begin_ms = await_now_ms();
    int timeout_ms = begin_ms < until_ms ? (int)(until_ms - begin_ms) : 0;
    for (size_t i = 0; i < n_bridges; i++) {
        own_ms[i] = -1;
        n[i] = broker_kind.class->fds(rig->bridges[i]->backend, fds + total, MOST, &own_ms[i]);
        timeout_ms = own_ms[i] >= 0 && own_ms[i] < timeout_ms ? own_ms[i] : timeout_ms;
        total += n[i];
    }
    cr_assert_geq(poll(fds, total, timeout_ms), 0);
    int waited_ms = (int)(await_now_ms() - begin_ms);
    for (size_t i = 0; i < n_bridges; at += n[i++]) {
        bool is_due = own_ms[i] >= 0 && own_ms[i] <= waited_ms; /* as if each were alone in its process */
        for (size_t k = 0; k < n[i]; k++)
            is_due = is_due || fds[at + k].revents != 0;
        if (!is_due)
            continue;
        rig->bridges[i]->is_serving = true;
        broker_kind.class->service(rig->bridges[i]->backend, fds + at, n[i]);
        rig->bridges[i]->is_serving = false;
    }
}

/* --- what is asked ------------------------------------------------------------------------------------------------ */

struct evbus_delivery rig_delivery(const struct rig_event *event, uint32_t partition, char text[64],
                                   struct evbus_version *version)
{
    int len = snprintf(text, 64, "{\"position\":%" PRIu64 "}", event->position);
    *version = (struct evbus_version){1, 0, text, (size_t)len};
    struct evbus_delivery delivery = {
        .size = sizeof delivery,
        .id = {1},
        .topic = event->topic,
        .service = "order-payment-service",
        .timestamp_ns = UINT64_C(1769938200123000000),
        .version_major = 1,
        .key = text,
        .key_len = (size_t)len,
        .payload = text,
        .payload_len = (size_t)len,
        .log = RIG_LOG,
        .partition = partition,
        .position = event->position,
        .versions = version,
        .n_versions = 1,
    };
    memcpy(delivery.id + 8, &event->position, sizeof event->position);
    memcpy(delivery.id + 4, &partition, sizeof partition);
    return delivery;
}

/* All that add() is shown is gone behind it: under a sanitizer whoever still looks there is caught. */
static bool add(struct rig_bridge *bridge, const struct rig_event *event, uint32_t partition)
{
    struct {
        struct evbus_delivery delivery;
        struct evbus_version version;
        char text[64];
        char topic[128];
        char log[128];
    } *shown = malloc(sizeof *shown);
    cr_assert_not_null(shown);
    shown->delivery = rig_delivery(event, partition, shown->text, &shown->version);
    snprintf(shown->topic, sizeof shown->topic, "%s", event->topic);
    snprintf(shown->log, sizeof shown->log, "%s", RIG_LOG);
    shown->delivery.topic = shown->topic;
    shown->delivery.log = shown->log;
    bool is_added = broker_kind.class->add(bridge->backend, &shown->delivery, event->prev);
    memset(shown, 0xee, sizeof *shown);
    free(shown);
    return is_added;
}

uint64_t rig_send(struct rig_bridge *bridge, uint32_t partition, struct rig_life life, const struct rig_event *events,
                  size_t n)
{
    cr_assert(broker_kind.class->begin(bridge->backend, RIG_LOG, partition, life.epoch, life.incarnation));
    for (size_t i = 0; i < n; i++)
        cr_assert(add(bridge, &events[i], partition), "event %zu does not fit", i);
    cr_assert(broker_kind.class->send(bridge->backend, ++bridge->n_tickets));
    return bridge->n_tickets;
}

static const struct rig_answer *answer_of(const struct rig_bridge *bridge, uint64_t ticket)
{
    for (size_t i = 0; i < bridge->n_answers; i++)
        if (bridge->answers[i].ticket == ticket)
            return &bridge->answers[i];
    return NULL;
}

enum backend_result rig_await(struct rig_bridge *bridge, uint64_t ticket)
{
    cr_assert(rig_until(bridge->rig, answer_of(bridge, ticket) != NULL), "no answer to %" PRIu64, ticket);
    return answer_of(bridge, ticket)->result;
}

enum backend_result rig_append(struct rig_bridge *bridge, uint32_t partition, struct rig_life life,
                               const struct rig_event *events, size_t n)
{
    return rig_await(bridge, rig_send(bridge, partition, life, events, n));
}

enum backend_result rig_ask(struct rig_bridge *bridge, uint32_t partition)
{
    static const char *const topics[] = {RIG_CREATED, RIG_CANCELLED};
    size_t before = bridge->n_marks_answers;
    cr_assert(broker_kind.class->ask(bridge->backend, RIG_LOG, partition, topics, 2));
    cr_assert(rig_until(bridge->rig, bridge->n_marks_answers > before), "no marks");
    cr_assert_eq(bridge->marks_partition, partition);
    return bridge->marks_result;
}

struct rig_stream *rig_listen_once(struct rig_bridge *bridge, const char *name, const char *id)
{
    cr_assert_lt(bridge->n_streams, RIG_STREAMS);
    struct rig_stream *stream = &bridge->streams[bridge->n_streams++];
    snprintf(stream->name, sizeof stream->name, "%s", name);
    cr_assert_eq(broker_kind.class->listen(bridge->backend, name, id), EVBUS_OK);
    return stream;
}

struct rig_stream *rig_listen(struct rig_bridge *bridge, const char *name, const char *id)
{
    struct rig_stream *stream = rig_listen_once(bridge, name, id);
    stream->is_asking = true;
    broker_kind.class->more(bridge->backend, name);
    return stream;
}

struct rig_bridge *rig_read_all(struct rig *rig, const char *name)
{
    struct rig_bridge *reader = rig_open(rig, 9);
    struct rig_stream *stream = rig_listen(reader, name, "");
    cr_assert(rig_until(rig, stream->n_empty > 0), "%s does not end", name);
    return reader;
}

/* --- what is there ------------------------------------------------------------------------------------------------ */

void rig_expect_entry(const struct rig_entry *entry, const struct rig_event *event, uint32_t partition)
{
    char payload[64];
    snprintf(payload, sizeof payload, "{\"position\":%" PRIu64 "}", event->position);
    cr_assert(entry->is_event, "%s: %s", entry->id, entry->error);
    cr_expect(!entry->is_foreign);
    cr_expect_str_eq(entry->topic, event->topic);
    cr_expect_eq(entry->partition, partition);
    cr_expect_eq(entry->position, event->position, "position %" PRIu64 " where %" PRIu64 " should be", entry->position,
                 event->position);
    cr_expect_eq(entry->prev, event->prev, "position %" PRIu64 ": prev %" PRIu64, entry->position, entry->prev);
    cr_expect_str_eq(entry->payload, payload);
}

void rig_expect_stream(struct rig *rig, const char *name, uint32_t partition, const struct rig_event *events, size_t n)
{
    struct rig_bridge *reader = rig_read_all(rig, name);
    const struct rig_stream *stream = &reader->streams[0];
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (rig->config.layout == CONFIG_LAYOUT_TOPIC && strcmp(events[i].topic, name) != 0)
            continue;
        cr_assert_lt(at, stream->n, "%s ends before position %" PRIu64, name, events[i].position);
        rig_expect_entry(&stream->entries[at++], &events[i], partition);
    }
    cr_assert_eq(stream->n, at, "%s has %zu entries more", name, stream->n - at);
    cr_expect_eq(broker_kind.count(rig->broker, name), at);
    rig_close(reader);
}
