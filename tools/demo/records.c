/* records.c: what stands on the bus of the checkout, in Redis, and on the bus of the back office; and is it the same?
 *
 *     of a bus     by a reader, which consumes nothing; what a bridge has brought in says where it was published
 *     of Redis     redis.c
 *     the same     each id once, none missing, none that nobody has published; and in each partition of the bus where
 *                  they were published, the positions rise: that is the order of publishing. A key is always in the same
 *                  partition, so its events are in order, too
 *
 * Ids are compared in sorted copies, walked side by side; the order is looked at as it was found. */
#include "records.h"

#include "service.h"

#include <stdlib.h>
#include <string.h>

#define PARTITIONS_MAX 64 /* the catalogue's have 4 */

bool records_add(struct records *records, const struct record *record)
{
    if (records->n == records->cap) {
        size_t cap = records->cap * 2 + 1024;
        struct record *more = realloc(records->all, cap * sizeof *more);
        if (more == NULL) {
            complain("no memory for %zu records", cap);
            return false;
        }
        records->all = more;
        records->cap = cap;
    }
    records->all[records->n++] = *record;
    return true;
}

static bool add_event(struct records *records, const struct evbus_delivery *event)
{
    struct record record = {.topic = topic_of(event->topic),
                            .partition = event->origin != NULL ? event->origin->partition : event->partition,
                            .position = event->origin != NULL ? event->origin->position : event->position};
    format_id(event->id, record.id);
    if (record.topic == N_TOPICS)
        return true;
    if ((event->origin != NULL) == records->is_brought_in)
        return records_add(records, &record);
    records->n_others++;
    return true;
}

bool records_read(struct records *records, struct demo *demo)
{
    struct evbus_delivery event = {.size = sizeof event};
    int rc = EVBUS_OK;
    if (records->reader == NULL)
        rc = evbus_reader_open(
            &records->reader, demo->bus,
            &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options), .from = EVBUS_FROM_EARLIEST});
    while (rc == EVBUS_OK && (rc = evbus_reader_next(records->reader, &event, 0)) == EVBUS_OK)
        if (!add_event(records, &event))
            return false;
    if (rc != EVBUS_ETIMEOUT)
        complain("bus %s: %s", demo->bus_name, evbus_message(demo->bus));
    return rc == EVBUS_ETIMEOUT;
}

uint64_t records_count(const struct records *records, enum topic topic)
{
    uint64_t n = 0;
    for (size_t i = 0; i < records->n; i++)
        n += records->all[i].topic == topic;
    return n;
}

void records_free(struct records *records)
{
    evbus_reader_close(records->reader);
    free(records->all);
    *records = (struct records){0};
}

/* --- compared ---------------------------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    const struct record *left = a;
    const struct record *right = b;
    return strcmp(left->id, right->id);
}

/* Those of a topic, sorted; free() them. NULL: it has complained. */
static struct record *sorted(const struct records *records, enum topic topic, size_t *out_n)
{
    struct record *some = malloc((records->n + 1) * sizeof *some);
    size_t n = 0;
    if (some == NULL) {
        complain("no memory for %zu records", records->n);
        return NULL;
    }
    for (size_t i = 0; i < records->n; i++)
        if (records->all[i].topic == topic)
            some[n++] = records->all[i];
    qsort(some, n, sizeof *some, by_id);
    *out_n = n;
    return some;
}

static void walk(const struct record *published, size_t n_published, const struct record *found, size_t n_found,
                 struct difference *difference)
{
    size_t p = 0;
    for (size_t f = 0; f < n_found; f++) {
        if (f > 0 && by_id(&found[f], &found[f - 1]) == 0) {
            difference->twice++;
            continue;
        }
        for (; p < n_published && by_id(&published[p], &found[f]) < 0; p++)
            difference->missing++;
        if (p < n_published && by_id(&published[p], &found[f]) == 0)
            p++;
        else
            difference->foreign++;
    }
    difference->missing += n_published - p;
}

static uint64_t count_out_of_order(const struct records *records, enum topic topic)
{
    uint64_t last[PARTITIONS_MAX] = {0};
    uint64_t n = 0;
    for (size_t i = 0; i < records->n; i++) {
        const struct record *record = &records->all[i];
        if (record->topic != topic)
            continue;
        uint64_t *before = &last[record->partition % PARTITIONS_MAX];
        n += record->position < *before;
        *before = record->position;
    }
    return n;
}

bool records_compare(const struct records *published, const struct records *found, enum topic topic,
                     struct difference *out_difference)
{
    size_t n_published = 0;
    size_t n_found = 0;
    struct record *left = sorted(published, topic, &n_published);
    struct record *right = sorted(found, topic, &n_found);
    bool is_good = left != NULL && right != NULL;
    *out_difference = (struct difference){.out_of_order = count_out_of_order(found, topic)};
    if (is_good)
        walk(left, n_published, right, n_found, out_difference);
    free(left);
    free(right);
    return is_good;
}
