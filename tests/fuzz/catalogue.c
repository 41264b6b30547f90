/* catalogue.c: any text -> a catalogue that keeps every promise of catalogue.h, or a message.
 *
 * Input: the text. */
#include "catalogue.h"

#include "topic.h"

#include "fuzz.h"

static void check_name(const char *name, size_t max)
{
    size_t len = strlen(name);
    must(len >= 1 && len <= max, "a name of %zu bytes", len);
}

static void check_names(const char **names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        check_name(names[i], CATALOGUE_SERVICE_MAX);
        for (size_t k = 0; k < i; k++)
            must(strcmp(names[i], names[k]) != 0, "%s stands there twice", names[i]);
    }
}

static void check_log(const struct catalogue *catalogue, size_t index)
{
    const struct catalogue_log *log = &catalogue->logs[index];
    size_t n_topics = 0;
    check_name(log->name, CATALOGUE_NAME_MAX);
    must(log->n_partitions >= 1 && log->n_partitions <= CATALOGUE_PARTITIONS_MAX, "%u partitions", log->n_partitions);
    must(log->ring_bytes >= 4096 && log->ring_bytes <= UINT64_C(1) << 30 &&
             (log->ring_bytes & (log->ring_bytes - 1)) == 0,
         "a ring of %llu bytes", (unsigned long long)log->ring_bytes);
    must(catalogue->payload_max + 328 <= log->ring_bytes / 4, "a payload that fits no frame of %s", log->name);
    must(log->ack == EVBUS_ACK_MEMORY || log->ack == EVBUS_ACK_DISK || log->ack == EVBUS_ACK_BROKER, "ack %d",
         log->ack);
    must(log->journal || (log->ack != EVBUS_ACK_DISK && !log->visible_synced), "a promise that nothing keeps");
    for (size_t i = 0; i < catalogue->n_topics; i++)
        n_topics += catalogue->topics[i].log == index;
    must(n_topics == log->n_topics && n_topics >= 1 && n_topics <= CATALOGUE_TOPICS_MAX, "%zu topics", n_topics);
}

static void check_topic(const struct catalogue *catalogue, size_t index)
{
    const struct catalogue_topic *topic = &catalogue->topics[index];
    char log[CATALOGUE_NAME_MAX + 1];
    size_t len = strlen(catalogue->name_space);
    must(topic_check(topic->name, NULL) == EVBUS_OK, "topic %s", topic->name);
    must(strncmp(topic->name, catalogue->name_space, len) == 0 && topic->name[len] == '.', "topic %s", topic->name);
    topic_log(topic->name, log);
    must(topic->log < catalogue->n_logs && strcmp(catalogue->logs[topic->log].name, log) == 0, "topic %s", topic->name);
    must(catalogue_find_topic(catalogue, topic->name) == (ptrdiff_t)index, "topic %s is found elsewhere", topic->name);
    check_names(topic->producers, topic->n_producers);
    check_names(topic->groups, topic->n_groups);
    must(topic->n_producers > 0 || catalogue->open, "nobody may publish on %s", topic->name);
    for (size_t i = 0; i < topic->n_producers; i++)
        must(catalogue_may_publish(catalogue, topic, topic->producers[i]), "%s may not", topic->producers[i]);
    must(catalogue_may_publish(catalogue, topic, "?") == catalogue->open, "who is nobody");
    for (size_t i = 0; i < topic->n_groups; i++) {
        size_t k = 0;
        while (k < catalogue->n_groups && strcmp(catalogue->groups[k].name, topic->groups[i]) != 0)
            k++;
        must(k < catalogue->n_groups, "%s has no settings", topic->groups[i]);
    }
}

static void check_group(const struct catalogue_group *group)
{
    check_name(group->name, CATALOGUE_SERVICE_MAX);
    must(group->n_retry <= sizeof group->retry_ns / sizeof group->retry_ns[0], "%u waits", group->n_retry);
    for (uint32_t i = 0; i < group->n_retry; i++)
        must(group->retry_ns[i] >= 1000000 && group->retry_ns[i] <= UINT64_C(7) * 86400 * 1000000000, "a wait");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_copy(data, len, false);
    struct catalogue *catalogue = NULL;
    struct error err = {""};
    int rc = catalogue_parse(text, len, &catalogue, &err);
    free(text); /* it points nowhere into the text */
    if (rc != EVBUS_OK) {
        must(rc == EVBUS_ECATALOGUE && err.text[0] != '\0' && catalogue == NULL, "%d %s", rc, err.text);
        return 0;
    }
    must(catalogue->n_topics >= 1 && catalogue->n_logs >= 1 && catalogue->n_logs <= CATALOGUE_LOGS_MAX, "%zu logs",
         catalogue->n_logs);
    check_name(catalogue->name_space, CATALOGUE_SERVICE_MAX);
    check_names(catalogue->here, catalogue->n_here);
    for (size_t i = 0; i < catalogue->n_logs; i++)
        check_log(catalogue, i);
    for (size_t i = 0; i < catalogue->n_topics; i++)
        check_topic(catalogue, i);
    for (size_t i = 0; i < catalogue->n_groups; i++)
        check_group(&catalogue->groups[i]);
    catalogue_free(catalogue);
    return 0;
}
