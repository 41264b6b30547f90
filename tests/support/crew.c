/* crew.c: groups of a test, their members, and what is left of them. */
#include "crew.h"

#include "bus.h"
#include "group.h"
#include "pending.h"
#include "topic.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct fixture crew_bus(struct crew_options options)
{
    static char catalogue[1024];
    snprintf(catalogue, sizeof catalogue,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":%u,\"ring\":\"%s\"},"
             "\"topics\":{\"test.a.one\":{\"groups\":[\"crew\"%s]},\"test.a.two\":{\"groups\":[%s]}},"
             "\"groups\":{\"crew\":{%s}}}",
             options.partitions != 0 ? options.partitions : 1, options.ring, options.more != NULL ? options.more : "",
             options.others != NULL ? options.others : "", options.settings);
    return fixture_make((struct fixture_options){.catalogue = catalogue, .keeper = options.keeper});
}

struct evbus_subscription *crew_join(struct evbus *bus, const char *group, evbus_handler *handler, void *context)
{
    struct evbus_subscription *sub;
    struct evbus_subscribe_options options = {
        .size = sizeof options, .group = group, .handler = handler, .context = context};
    int rc = evbus_subscribe(&sub, bus, &options);
    if (rc != EVBUS_OK)
        fprintf(stderr, "evbus_subscribe: %d %s\n", rc, evbus_message(bus));
    return rc == EVBUS_OK ? sub : NULL;
}

static int see_group(void *context, const struct evbus_group_stat *group)
{
    struct evbus_group_stat *wanted = context;
    if (strcmp(group->group, wanted->group) != 0)
        return 0;
    *wanted = *group;
    return 1; /* found */
}

struct evbus_group_stat crew_stat(struct evbus *bus, const char *group)
{
    struct evbus_group_stat stat = {.group = group};
    evbus_groups(bus, see_group, &stat);
    return stat;
}

struct group_part *crew_part(struct evbus *bus, const char *group, uint32_t partition)
{
    return memory_part(&bus->memory.logs[0], partition, group_find(&bus->memory, group));
}

const char *crew_pins(struct evbus *bus, const char *group)
{
    static char text[200];
    uint32_t index = group_low_index(group_find(&bus->memory, group));
    for (uint32_t p = 0; p < bus->memory.logs[0].n_partitions; p++) {
        struct ring *ring = &bus->memory.logs[0].rings[p];
        uint64_t low = LOW_BEHIND(atomic_load(&ring->head->lows[index])) - 1;
        snprintf(text, sizeof text, "%s, partition %u: low %" PRIu64 ", cursor %" PRIu64 ", tail %" PRIu64, group, p,
                 low, pending_cursor(crew_part(bus, group, p)), ring_tail(ring));
        if (low != ring_tail(ring))
            return text;
    }
    return NULL;
}

struct evbus_reader *crew_letters(struct evbus *bus, const char *group)
{
    char topic[96];
    const char *pattern = topic;
    struct evbus_reader *reader;
    snprintf(topic, sizeof topic, "test.dlq.%s", group);
    int rc = evbus_reader_open(&reader, bus,
                               &(struct evbus_reader_options){
                                   .size = sizeof(struct evbus_reader_options), .patterns = &pattern, .n_patterns = 1});
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(bus));
    return reader;
}

uint32_t crew_slots(struct fixture *f)
{
    evbus_close(fixture_open(f, "sweeper", EVBUS_KEEPER_NEVER)); /* attaching buries */
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(f->bus, &stat), EVBUS_OK);
    return stat.n_slots;
}

void crew_key(uint32_t partition, char out_key[16])
{
    unsigned i = 0;
    do
        snprintf(out_key, 16, "k%u", i++);
    while (topic_partition(topic_key_hash(out_key, strlen(out_key), NULL), 2) != partition);
}
