/* export_asyncapi.c: a catalogue as an AsyncAPI 3.0 document, in JSON.
 *
 *     channels      one for each topic; x-log, x-partitions, x-ack, x-journal, x-retention, x-retentionBytes (where there is a
 *                   limit), x-payloadMax are its log's
 *     operations    SERVICE.send.TOPIC for each producer, GROUP.receive.TOPIC for each group. A topic of an open catalogue
 *                   that names no producer has no send: anyone may
 *     components    the ADR's envelope as JSON Schema, and a message for each topic: that, with its eventType. What a payload
 *                   is the catalogue does not know
 *
 * A bus has no address outside its host, so there are no servers. AsyncAPI wants a version, which a catalogue has not: it is
 * always 1.0.0. Members stand in the order in which they are made, topics in the catalogue's: two documents can be compared
 * line by line. Names hold a-z, 0-9, dots, dashes and underscores alone, so they need no escapes in references.
 * Source: AsyncAPI 3.0.0. Checked by tests/cli/test_export.sh and, with @asyncapi/parser, by tests/npm/run. */
#include "export.h"
#include "output.h"

#include <evbus/admin.h>

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct document {
    json_t *root; /* has all that follows */
    json_t *channels, *operations, *messages;
};

/* "400d", as a catalogue says it: in the largest unit that leaves nothing over. */
static void format_duration(uint64_t ns, char out_text[32])
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"d", UINT64_C(86400000000000)},
                 {"h", UINT64_C(3600000000000)},
                 {"m", UINT64_C(60000000000)},
                 {"s", UINT64_C(1000000000)},
                 {"ms", UINT64_C(1000000)},
                 {"us", UINT64_C(1000)},
                 {"ns", 1}};
    size_t i = 0;
    while (ns % units[i].ns != 0)
        ++i;
    (void)snprintf(out_text, 32, "%" PRIu64 "%s", ns / units[i].ns, units[i].name);
}

/* {"$ref": "#/..."} of a path and a topic in it. */
static json_t *reference(const char *before, const char *topic, const char *behind)
{
    return json_pack("{s:s+++}", "$ref", "#/", before, topic, behind);
}

static json_t *channel_of(const struct evbus_topic_info *info)
{
    char retention[32];
    format_duration(info->retention_ns, retention);
    json_t *channel = json_pack("{s:s, s:{s:o}, s:s, s:i, s:s, s:b, s:I}", "address", info->topic, "messages", "event",
                                reference("components/messages/", info->topic, ""), "x-log", info->log, "x-partitions",
                                (int)info->n_partitions, "x-ack", ack_name(info->ack), "x-journal",
                                (int)info->has_journal, "x-payloadMax", (json_int_t)info->payload_max);
    if (info->has_journal && json_object_set_new(channel, "x-retention", json_string(retention)) != 0)
        return NULL;
    if (info->has_journal && info->retention_bytes != 0 &&
        json_object_set_new(channel, "x-retentionBytes", json_integer((json_int_t)info->retention_bytes)) != 0)
        return NULL;
    return channel;
}

static json_t *message_of(const struct evbus_topic_info *info)
{
    return json_pack("{s:s, s:s, s:{s:[{s:s}, {s:{s:{s:s}}}]}}", "name", info->topic, "contentType", "application/json",
                     "payload", "allOf", "$ref", "#/components/schemas/DomainEvent", "properties", "eventType", "const",
                     info->topic);
}

/* Who does what with it, e.g. order-payment-service.send.lomash.orders.created. */
static bool add_operations(struct document *document, const struct evbus_topic_info *info, const char *action,
                           const char *role, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; ++i) {
        char id[256];
        (void)snprintf(id, sizeof id, "%s.%s.%s", names[i], action, info->topic);
        json_t *operation = json_pack("{s:s, s:o, s:[o], s:s}", "action", action, "channel",
                                      reference("channels/", info->topic, ""), "messages",
                                      reference("channels/", info->topic, "/messages/event"), role, names[i]);
        if (json_object_set_new(document->operations, id, operation) != 0)
            return false;
    }
    return true;
}

static int add_topic(void *context, const struct evbus_topic_info *info)
{
    struct document *document = context;
    bool is_done = json_object_set_new(document->channels, info->topic, channel_of(info)) == 0 &&
                   json_object_set_new(document->messages, info->topic, message_of(info)) == 0 &&
                   add_operations(document, info, "send", "x-service", info->producers, info->n_producers) &&
                   add_operations(document, info, "receive", "x-group", info->groups, info->n_groups);
    return is_done ? 0 : EVBUS_ENOSPC;
}

/* The ADR's envelope. What it does not name, it does not have. */
static json_t *envelope_schema(void)
{
    return json_pack("{s:s, s:s, s:[s,s,s,s,s], s:b, s:{s:{s:s, s:s}, s:{s:s}, s:{s:s, s:s}, s:{s:s, s:s}, s:{s:s}}}",
                     "type", "object", "description", "The envelope of every event (ADR 003).", "required", "eventId",
                     "eventType", "timestamp", "version", "payload", "additionalProperties", 0, "properties", "eventId",
                     "type", "string", "format", "uuid", "eventType", "type", "string", "timestamp", "type", "string",
                     "format", "date-time", "version", "type", "string", "pattern", "^[1-9][0-9]*\\.(0|[1-9][0-9]*)$",
                     "payload", "description", "One JSON value, as it was published.");
}

static json_t *skeleton(void)
{
    return json_pack("{s:s, s:{s:s, s:s, s:s}, s:s, s:{}, s:{}, s:{s:{}, s:{s:o}}}", "asyncapi", "3.0.0", "info",
                     "title", "Event catalogue", "version", "1.0.0", "description",
                     "Topics, who publishes and who receives, as the event bus enforces it.", "defaultContentType",
                     "application/json", "channels", "operations", "components", "messages", "schemas", "DomainEvent",
                     envelope_schema());
}

int export_asyncapi(const char *text, size_t len)
{
    struct document document = {.root = skeleton()};
    document.channels = json_object_get(document.root, "channels");
    document.operations = json_object_get(document.root, "operations");
    document.messages = json_object_get(json_object_get(document.root, "components"), "messages");
    int rc = document.root == NULL ? EVBUS_ENOSPC : evbus_catalogue_topics(text, len, add_topic, &document);
    bool is_memory_short = document.root == NULL || rc == EVBUS_ENOSPC;
    if (rc == EVBUS_OK)
        is_memory_short = json_dumpf(document.root, stdout, JSON_INDENT(2)) != 0 && output_is_written();
    if (rc == EVBUS_OK && !is_memory_short)
        (void)putchar('\n'); /* output_flush() finds out */
    json_decref(document.root);
    if (is_memory_short)
        return complain(EXIT_CANNOT_CREATE, "out of memory");
    return rc == EVBUS_OK ? EXIT_DONE : complain_of(rc, BLAME_DATA);
}
