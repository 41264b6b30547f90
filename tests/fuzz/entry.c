/* entry.c: fields -> event -> fields. What was read is whole; written, it reads the same again; what was refused says
 * why.
 *
 * Input: a field a line, name=value. */
#include "entry.h"

#include "fuzz.h"

#define FIELDS_MAX 64
#define NS_PER_MS  UINT64_C(1000000)
#define ORIGIN     "4f0c2b7e-1c1d-4b52-9d3e-0123456789ab"

static size_t split(const char *text, size_t len, struct entry_field fields[FIELDS_MAX])
{
    size_t n = 0;
    for (const char *at = text, *end = text + len; at < end && n < FIELDS_MAX;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at));
        const char *name_end = equals != NULL ? equals : stop;
        const char *value = equals != NULL ? equals + 1 : stop;
        fields[n++] = (struct entry_field){at, (size_t)(name_end - at), value, (size_t)(stop - value)};
        at = stop + 1;
    }
    return n;
}

static bool is_higher(const struct evbus_version *a, const struct evbus_version *b)
{
    return a->major != b->major ? a->major > b->major : a->minor > b->minor;
}

/* As a reader of the bus gets it. */
static struct evbus_delivery deliver(const struct entry_event *read, struct evbus_version versions[EVBUS_VERSIONS_MAX])
{
    const struct evbus_event *event = &read->event;
    size_t n = 0;
    for (size_t i = 0; i <= event->n_more_versions; i++) {
        struct evbus_version version = {event->version_major, event->version_minor, event->payload, event->payload_len};
        if (i > 0)
            version = event->more_versions[i - 1];
        size_t k = n++;
        for (; k > 0 && is_higher(&versions[k - 1], &version); k--)
            versions[k] = versions[k - 1];
        versions[k] = version;
    }
    struct evbus_delivery delivery = {
        .topic = event->topic,
        .timestamp_ns = event->timestamp_ns,
        .key = event->key != NULL ? event->key : "",
        .key_len = event->key_len,
        .partition = read->is_foreign ? 3 : read->origin.partition,
        .position = read->is_foreign ? 77 : read->origin.position,
        .versions = versions,
        .n_versions = n,
        .traceparent = event->traceparent,
        .tracestate = event->tracestate,
        .correlation_id = event->correlation_id,
        .causation_id = event->causation_id,
        .expires_at_ns = event->expires_at_ns,
    };
    memcpy(delivery.id, event->id, sizeof delivery.id);
    return delivery;
}

static bool is_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static uint64_t cut(uint64_t ns)
{
    return ns == 0 ? 0 : ns < NS_PER_MS ? NS_PER_MS : ns / NS_PER_MS * NS_PER_MS;
}

static void read_again(const struct entry_event *before)
{
    static struct entry_event after;
    struct evbus_version versions[EVBUS_VERSIONS_MAX], again[EVBUS_VERSIONS_MAX];
    struct evbus_delivery was = deliver(before, versions);
    struct entry entry = {0};
    char error[EVBUS_ERROR_MAX] = "";
    entry_write(&was, ORIGIN, before->prev, &entry);
    must(entry_read(entry.fields, entry.n, &after, error), "read again: %s", error);
    must(!after.is_foreign && after.prev == before->prev, "another origin");
    struct evbus_delivery is = deliver(&after, again);
    must(memcmp(is.id, was.id, sizeof is.id) == 0 && strcmp(is.topic, was.topic) == 0 && is.key_len == was.key_len &&
             memcmp(is.key, was.key, is.key_len) == 0 && is.partition == was.partition && is.position == was.position,
         "another event");
    must(is.timestamp_ns == cut(was.timestamp_ns) && is.expires_at_ns == cut(was.expires_at_ns), "other times");
    must(is_same_text(is.traceparent, was.traceparent) && is_same_text(is.tracestate, was.tracestate) &&
             is_same_text(is.correlation_id, was.correlation_id) && is_same_text(is.causation_id, was.causation_id),
         "another trace");
    must(is.n_versions == was.n_versions, "%zu versions", is.n_versions);
    for (size_t i = 0; i < is.n_versions; i++)
        must(again[i].major == versions[i].major && again[i].minor == versions[i].minor &&
                 again[i].payload_len == versions[i].payload_len &&
                 memcmp(again[i].payload, versions[i].payload, again[i].payload_len) == 0,
             "version %zu is another", i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct entry_event read;
    char *text = fuzz_copy(data, len, false);
    struct entry_field fields[FIELDS_MAX];
    size_t n = split(text, len, fields);
    char error[EVBUS_ERROR_MAX];
    memset(error, 'x', sizeof error);
    if (entry_read(fields, n, &read, error)) {
        must(read.event.topic[0] != '\0' && read.event.payload_len > 0 && read.event.timestamp_ns != 0 &&
                 read.event.version_major != 0 && read.event.origin == &read.origin,
             "no event");
        read_again(&read);
    } else {
        must(memchr(error, '\0', sizeof error) != NULL && error[0] != '\0' && error[0] != 'x', "no reason");
        for (const char *at = error; *at != '\0'; at++)
            must(*at >= ' ' && *at <= '~', "a reason with a byte %02x", (unsigned char)*at);
    }
    free(text);
    return 0;
}
