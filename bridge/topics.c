/* topics.c: which topics are mirrored, and in which stream each of them stands.
 *
 * What the catalogue has and the config's patterns fit, as the library's evbus_reader does it: `*` stands for one segment, a last `**`
 * for one or more. The library says which of them are mirrored (evbus_mirror_parts() has their logs); here they get names.
 * Checked by tests/broker/test_bridge.c. */
#include "topics.h"

#include <evbus/evbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Segment by segment. */
static bool fits(const char *pattern, const char *topic)
{
    for (;;) {
        size_t p = strcspn(pattern, ".");
        size_t t = strcspn(topic, ".");
        if (p == 2 && strncmp(pattern, "**", 2) == 0 && pattern[p] == '\0')
            return t > 0;
        bool is_any = p == 1 && pattern[0] == '*';
        if (t == 0 || (!is_any && (p != t || strncmp(pattern, topic, p) != 0)))
            return false;
        if (pattern[p] == '\0' || topic[t] == '\0')
            return pattern[p] == topic[t];
        pattern += p + 1;
        topic += t + 1;
    }
}

struct collect {
    const struct config *config;
    struct topics *out;
};

static int add(void *context, const struct evbus_topic_info *info)
{
    struct collect *collect = context;
    struct topics *out = collect->out;
    bool is_wanted = collect->config->n_topics == 0;
    for (size_t i = 0; i < collect->config->n_topics; i++)
        is_wanted = is_wanted || fits(collect->config->topics[i], info->topic);
    if (!is_wanted)
        return EVBUS_OK;
    struct topics_one *all = realloc(out->all, (out->n + 1) * sizeof *all);
    if (all == NULL)
        return EVBUS_ENOSPC;
    out->all = all;
    snprintf(all[out->n].topic, sizeof all->topic, "%s", info->topic);
    snprintf(all[out->n].log, sizeof all->log, "%s", info->log);
    out->n++;
    return EVBUS_OK;
}

int topics_read(struct evbus *bus, const struct config *config, struct topics *inout)
{
    struct topics topics = {0};
    struct collect collect = {.config = config, .out = &topics};
    const char *text;
    size_t len;
    int rc = evbus_catalogue_text(bus, &text, &len);
    if (rc == EVBUS_OK && inout->text != NULL && strcmp(inout->text, text) == 0)
        return EVBUS_OK; /* as each second: to parse it is 60 times as much */
    if (rc == EVBUS_OK)
        rc = evbus_catalogue_topics(text, len, add, &collect);
    if (rc == EVBUS_OK && (topics.text = strndup(text, len)) == NULL)
        rc = EVBUS_ENOSPC;
    if (rc != EVBUS_OK) {
        topics_free(&topics);
        return rc;
    }
    topics_free(inout);
    *inout = topics;
    return EVBUS_OK;
}

void topics_free(struct topics *topics)
{
    free(topics->all);
    free(topics->text);
    *topics = (struct topics){0};
}
