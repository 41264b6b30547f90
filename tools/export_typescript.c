/* export_typescript.c: the types of a catalogue's events, for services in TypeScript.
 *
 *     DomainEvent<T>        the ADR's envelope, as it stands there
 *     OrdersCreated<T>      one for each topic: its segments behind the namespace; eventType is the topic's name
 *     TopicName             all of them
 *     EventByTopic<T>       from a topic's name to its type; AnyEvent<T> is one of them, told apart by eventType
 *
 * Two topics may give one name (a-b.c and a.b-c), and one may give a name of our own. Then the later one of the catalogue is
 * written with _ for a dot and $ for a dash, which no other can give: a topic that is added renames no type that is there.
 * All of it are types, so the text may be kept as .ts or as .d.ts.
 * Source: ADR 003, "Event Envelope Schema". Checked by tests/cli/test_export.sh and, with tsc, by tests/npm/run. */
#include "export.h"
#include "output.h"

#include <evbus/admin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const ours[] = {"DomainEvent", "TopicName", "EventByTopic", "AnyEvent"};

enum { TYPE_NAME_MAX = 128 }; /* with its NUL; a topic has at most 127 bytes */

struct types {
    char (*names)[TYPE_NAME_MAX]; /* of the topics, in the catalogue's order */
    size_t n;
    size_t at; /* the next one, where the topics are walked again */
};

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* What stands behind the namespace, each word with a capital letter; of a topic longer than any: its front. */
static void type_name(const char *topic, bool is_long, char out_name[TYPE_NAME_MAX])
{
    size_t len = 0;
    bool begins = true;
    for (const char *at = topic + strcspn(topic, ".") + 1; *at != '\0' && len + 1 < TYPE_NAME_MAX; ++at) {
        bool is_dot = *at == '.', separates = is_dot || *at == '-';
        if (separates && is_long)
            out_name[len++] = is_dot ? '_' : '$';
        else if (!separates)
            out_name[len++] = begins ? upper(*at) : *at;
        begins = is_long ? is_dot : separates;
    }
    out_name[len] = '\0';
}

static bool is_taken(const struct types *types, const char *name)
{
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; ++i)
        if (strcmp(ours[i], name) == 0)
            return true;
    for (size_t i = 0; i < types->n; ++i)
        if (strcmp(types->names[i], name) == 0)
            return true;
    return false;
}

static int name_type(void *context, const struct evbus_topic_info *info)
{
    struct types *types = context;
    char(*more)[TYPE_NAME_MAX] = realloc(types->names, (types->n + 1) * sizeof *more);
    if (more == NULL)
        return EVBUS_ENOSPC;
    types->names = more;
    type_name(info->topic, false, more[types->n]);
    if (is_taken(types, more[types->n]))
        type_name(info->topic, true, more[types->n]);
    ++types->n;
    return 0;
}

static void print_names(const char *before, const char *const *names, size_t n, const char *when_none)
{
    (void)printf("%s%s", before, n == 0 ? when_none : "");
    for (size_t i = 0; i < n; ++i)
        (void)printf("%s%s", i > 0 ? ", " : "", names[i]);
}

static int print_type(void *context, const struct evbus_topic_info *info)
{
    struct types *types = context;
    (void)printf("\n/**\n * `%s`\n *\n", info->topic);
    print_names(" * Published by: ", info->producers, info->n_producers, "(anyone)");
    print_names(".\n * Received by: ", info->groups, info->n_groups, "(internal)");
    (void)printf(".\n */\nexport type %s<T = unknown> = DomainEvent<T> & { eventType: \"%s\" };\n",
                 types->names[types->at++], info->topic);
    return 0;
}

static int print_topic(void *context, const struct evbus_topic_info *info)
{
    (void)context;
    (void)printf("\n  | \"%s\"", info->topic);
    return 0;
}

static int print_entry(void *context, const struct evbus_topic_info *info)
{
    struct types *types = context;
    (void)printf("  \"%s\": %s<T>;\n", info->topic, types->names[types->at++]);
    return 0;
}

static int print_all(struct types *types, const char *text, size_t len)
{
    int rc = evbus_catalogue_topics(text, len, name_type, types);
    if (rc != EVBUS_OK)
        return rc;
    (void)printf("// The events of a catalogue, by `evbus catalogue export --typescript`: not to be edited.\n"
                 "\n"
                 "/** The envelope of every event (ADR 003). */\n"
                 "export interface DomainEvent<T = unknown> {\n"
                 "  eventId: string;\n"
                 "  eventType: string;\n"
                 "  timestamp: string;\n"
                 "  version: string;\n"
                 "  payload: T;\n"
                 "}\n");
    rc = evbus_catalogue_topics(text, len, print_type, types);
    if (rc != EVBUS_OK)
        return rc;
    (void)printf("\n/** Every topic. */\nexport type TopicName =%s", types->n == 0 ? " never" : "");
    rc = evbus_catalogue_topics(text, len, print_topic, NULL);
    if (rc != EVBUS_OK)
        return rc;
    (void)printf(";\n\n/** The event of a topic: EventByTopic[\"...\"]. */\n"
                 "export interface EventByTopic<T = unknown> {\n");
    types->at = 0;
    rc = evbus_catalogue_topics(text, len, print_entry, types);
    if (rc != EVBUS_OK)
        return rc;
    (void)printf("}\n\n/** Any event; its eventType tells which. */\n"
                 "export type AnyEvent<T = unknown> = EventByTopic<T>[TopicName];\n");
    return EVBUS_OK;
}

int export_typescript(const char *text, size_t len)
{
    struct types types = {.names = NULL};
    int rc = print_all(&types, text, len);
    free(types.names);
    return rc == EVBUS_OK ? EXIT_DONE : complain_of(rc, BLAME_DATA);
}
