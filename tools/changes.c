/* changes.c: what a bus has gained by a catalogue.
 *
 * Groups are compared as the bus has them: one that was forgotten comes back, and no text tells that. The rest is in the
 * texts, which are walked topic by topic: for each topic of the one, the other is walked for its namesake. That is
 * quadratic, and a catalogue is small. Who applies another catalogue between our look and our apply may find his changes
 * among ours; only what is printed is concerned. */
#include "changes.h"
#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- as it was ---------------------------------------------------------------------------------------------------- */

static int add_group(void *context, const struct evbus_group_stat *group)
{
    struct changes *changes = context;
    char *longer;
    if (asprintf(&longer, "%s%s\n", changes->groups, group->group) < 0)
        return EVBUS_ENOSPC;
    free(changes->groups);
    changes->groups = longer;
    return 0;
}

int changes_begin(struct changes *changes, struct evbus *bus)
{
    const char *text;
    *changes = (struct changes){0};
    int rc = evbus_catalogue_text(bus, &text, &changes->len);
    if (rc == EVBUS_OK) {
        changes->text = strndup(text, changes->len);
        changes->groups = strdup("\n");
        if (changes->text == NULL || changes->groups == NULL)
            return complain(EXIT_CANNOT_CREATE, "out of memory");
        rc = evbus_groups(bus, add_group, changes);
    }
    return rc == EVBUS_OK ? EXIT_DONE : complain_of(rc, BLAME_COMMAND_LINE);
}

void changes_end(struct changes *changes)
{
    free(changes->text);
    free(changes->groups);
}

/* --- as it is ----------------------------------------------------------------------------------------------------- */

struct comparison {
    const struct args *args;
    const struct changes *before;
    const char *other; /* the catalogue that is looked into */
    size_t other_len;
    const char *what; /* "added" or "removed" */
    size_t n_changes;
    const struct evbus_topic_info *topic; /* of the one, while the other is walked */
    bool is_found;
};

/* A topic, a name of a topic, or (no topic) a group. */
static void print_change(struct comparison *comparison, const char *kind, const char *name, const char *topic)
{
    if (comparison->args->json) {
        (void)printf("%s{\"change\":\"%s\",\"kind\":\"%s\"", comparison->n_changes > 0 ? "," : "", comparison->what,
                     kind);
        if (topic != NULL) {
            (void)printf(",\"topic\":");
            print_json(topic, strlen(topic));
        }
        if (name != NULL) {
            (void)printf(",\"name\":");
            print_json(name, strlen(name));
        }
        (void)printf("}");
    } else {
        (void)printf("%s %s %s%s%s\n", comparison->what, kind, name != NULL ? name : "",
                     name != NULL && topic != NULL ? " of " : "", topic != NULL ? topic : "");
    }
    ++comparison->n_changes;
}

static int compare_group(void *context, const struct evbus_group_stat *group)
{
    struct comparison *comparison = context;
    char line[256];
    (void)snprintf(line, sizeof line, "\n%s\n", group->group);
    if (strstr(comparison->before->groups, line) == NULL)
        print_change(comparison, "group", group->group, NULL);
    return 0;
}

/* The names of the one that the other has not. */
static void compare_names(struct comparison *comparison, const char *kind, const char *const *names, size_t n_names,
                          const char *const *others, size_t n_others)
{
    for (size_t i = 0; i < n_names; ++i) {
        bool is_there = false;
        for (size_t j = 0; j < n_others; ++j)
            is_there = is_there || strcmp(names[i], others[j]) == 0;
        if (!is_there)
            print_change(comparison, kind, names[i], comparison->topic->topic);
    }
}

static int compare_with(void *context, const struct evbus_topic_info *other)
{
    struct comparison *comparison = context;
    const struct evbus_topic_info *topic = comparison->topic;
    if (strcmp(topic->topic, other->topic) != 0)
        return 0;
    comparison->is_found = true;
    compare_names(comparison, "producer", topic->producers, topic->n_producers, other->producers, other->n_producers);
    compare_names(comparison, "group", topic->groups, topic->n_groups, other->groups, other->n_groups);
    return 0;
}

static int compare_topic(void *context, const struct evbus_topic_info *topic)
{
    struct comparison *comparison = context;
    comparison->topic = topic;
    comparison->is_found = false;
    int rc = evbus_catalogue_topics(comparison->other, comparison->other_len, compare_with, comparison);
    if (rc != EVBUS_OK || comparison->is_found)
        return rc;
    print_change(comparison, "topic", NULL, topic->topic);
    compare_names(comparison, "producer", topic->producers, topic->n_producers, NULL, 0);
    compare_names(comparison, "group", topic->groups, topic->n_groups, NULL, 0);
    return 0;
}

int changes_print(const struct changes *changes, const struct args *args, struct evbus *bus, const char *text,
                  size_t len)
{
    struct comparison comparison = {
        .args = args, .before = changes, .other = changes->text, .other_len = changes->len, .what = "added"};
    if (args->json)
        (void)printf("{\"changes\":[");
    int rc = evbus_groups(bus, compare_group, &comparison);
    if (rc == EVBUS_OK)
        rc = evbus_catalogue_topics(text, len, compare_topic, &comparison);
    if (rc == EVBUS_OK) {
        comparison.other = text;
        comparison.other_len = len;
        comparison.what = "removed";
        rc = evbus_catalogue_topics(changes->text, changes->len, compare_topic, &comparison);
    }
    if (args->json)
        (void)printf("]}\n");
    else if (rc == EVBUS_OK && comparison.n_changes == 0)
        (void)printf("applied: no new topics, groups or producers\n");
    return rc == EVBUS_OK ? EXIT_DONE : complain_of(rc, BLAME_DATA);
}
