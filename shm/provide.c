/* provide.c: what a catalogue asks for is made: names in its logs, groups. At init, at an apply, and when a bus comes back.
 *
 * Everything here may be done twice: what is there already stays as it is. Checked by tests/unit/test_apply.c, test_admin.c. */
#include "provide.h"

#include "clock.h"
#include "frame.h"
#include "partition.h"

#include <stdio.h>
#include <string.h>

int provide_names(struct memory_log *log, uint32_t from, uint32_t slot, struct error *err)
{
    uint64_t buffer[16 * CELL_WORDS];
    struct claim claim = {.slot = slot};
    int rc = EVBUS_OK;
    uint32_t n = atomic_load_explicit(&log->head->n_topics, memory_order_relaxed);
    if (n > TOPICS_MAX)
        return error_set(err, EVBUS_ECORRUPT, "log %s says it has %u topics; run `evbus doctor`", log->name, n);
    for (uint32_t t = from; t < n; t++) {
        char text[256];
        int len = snprintf(text, sizeof text, "{\"topic\":{\"id\":%u,\"name\":\"%.127s\"}}", t + 1,
                           log->head->topics[t]);
        struct frame frame = {
            .kind = FRAME_NAMES,
            .timestamp_ns = clock_wall_ns(),
            .topic = (uint16_t)(t + 1),
            .major = 1,
            .payload = text,
            .payload_len = (uint32_t)len,
        };
        uint32_t n_cells = frame_cells(0, 0, frame.payload_len);
        frame_build(&frame, buffer);
        for (uint32_t p = 0; p < log->n_partitions && rc == EVBUS_OK; p++) {
            uint64_t pos;
            rc = partition_append(&log->rings[p], &claim, buffer, n_cells, &(struct partition_wait){0}, &pos, err);
        }
    }
    return rc;
}

uint32_t provide_n_dead_letter_topics(struct memory *memory)
{
    const struct memory_log *dlq = memory_internal_log(memory, MEMORY_DLQ_LOG);
    return dlq != NULL ? atomic_load_explicit(&dlq->head->n_topics, memory_order_acquire) : 0;
}

int provide_dead_letter_names(struct memory *memory, uint32_t from, uint32_t slot, struct error *err)
{
    struct memory_log *dlq = memory_internal_log(memory, MEMORY_DLQ_LOG);
    int rc = dlq != NULL ? provide_names(dlq, from, slot, err) : EVBUS_OK;
    return rc == EVBUS_EFULL ? EVBUS_OK : rc; /* its readers know the name from memory */
}

/* Does a group live on this host? */
bool provide_is_here(const struct catalogue *catalogue, const char *group)
{
    for (size_t i = 0; i < catalogue->n_here; i++)
        if (strcmp(catalogue->here[i], "*") == 0 || strcmp(catalogue->here[i], group) == 0)
            return true;
    return catalogue->n_here == 0;
}

/* The topics of the catalogue that a group receives, by log. */
static void wanted_by(const struct memory *memory, const struct catalogue *catalogue, const char *group,
                      struct topic_set out_wanted[LOGS_MAX])
{
    memset(out_wanted, 0, LOGS_MAX * sizeof *out_wanted);
    for (size_t t = 0; t < catalogue->n_topics; t++) {
        const struct catalogue_topic *topic = &catalogue->topics[t];
        for (size_t g = 0; g < topic->n_groups; g++) {
            uint32_t log;
            uint32_t id;
            if (strcmp(topic->groups[g], group) == 0 && memory_find_topic(memory, topic->name, &log, &id))
                topic_set_add(&out_wanted[log], id);
        }
    }
}

int provide_groups(struct memory *memory, const struct catalogue *catalogue, enum evbus_from from, uint32_t *inout_n,
                   struct error *err)
{
    struct topic_set wanted[LOGS_MAX];
    int rc = EVBUS_OK;
    for (size_t i = 0; i < catalogue->n_groups && rc == EVBUS_OK; i++) {
        struct group_plan plan = {
            .name = catalogue->groups[i].name,
            .wanted = wanted,
            .n_logs = memory_n_logs(memory),
            .from = from,
        };
        if (!provide_is_here(catalogue, plan.name))
            continue;
        wanted_by(memory, catalogue, plan.name, wanted);
        uint32_t group = group_find(memory, plan.name);
        uint32_t n = 1;
        if (group == GROUP_NONE)
            rc = group_make(memory, &plan, &group, err);
        else
            n = group_add_topics(memory, group, wanted, plan.n_logs, EVBUS_FROM_LATEST);
        if (inout_n != NULL)
            *inout_n += n;
    }
    return rc;
}
