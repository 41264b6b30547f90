/* past.c: where what there is now ends, for who prints it and then ends.
 *
 * Each partition has an end, taken once; what stands behind it came later. That a reader has nothing more says that all of it
 * is read; where producers are as fast as we are it never says so. Then it is over when something came from behind each end,
 * or when so much came from behind some that the others must have been asked often enough: a reader takes partitions by turns,
 * at most 16 events of one. */
#include "past.h"
#include "output.h"

#include <stdlib.h>
#include <string.h>

#define TURN_EVENTS 16
#define TURN_CELLS  32 /* a turn goes on by so many at least: an event has two */

struct past_partition {
    char log[128];
    uint32_t partition;
    bool is_over;
    uint64_t end;
};

int past_begin(struct past *past, struct evbus *bus)
{
    struct evbus_stat stat = {.size = sizeof stat};
    uint64_t cells_most = 0;
    int rc = evbus_stat(bus, &stat);
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    *past = (struct past){.partitions = calloc(stat.n_partitions + 1, sizeof *past->partitions)};
    if (past->partitions == NULL)
        return complain(EXIT_CANNOT_CREATE, "out of memory");
    for (size_t i = 0; i < stat.n_partitions; ++i) {
        const struct evbus_partition_stat *from = &stat.partitions[i];
        struct past_partition *to = &past->partitions[past->n++];
        uint64_t begin = from->has_journal ? from->oldest : from->released;
        strncpy(to->log, from->log, sizeof to->log - 1);
        to->partition = from->partition;
        to->end = from->has_journal && from->is_visible_synced && from->synced < from->tail ? from->synced : from->tail;
        to->is_over = to->end <= begin;
        past->n_open += !to->is_over;
        if (!to->is_over && to->end - begin > cells_most)
            cells_most = to->end - begin;
    }
    past->n_proof = past->n * TURN_EVENTS * (cells_most / TURN_CELLS + 2);
    return EXIT_DONE;
}

static struct past_partition *find(struct past *past, const struct evbus_delivery *delivery)
{
    for (size_t i = 0; i < past->n; ++i) {
        struct past_partition *found = &past->partitions[(past->last + i) % past->n];
        if (found->partition != delivery->partition || strcmp(found->log, delivery->log) != 0)
            continue;
        past->last = (past->last + i) % past->n;
        return found;
    }
    return NULL; /* of a log that is newer */
}

bool past_has(struct past *past, const struct evbus_delivery *delivery)
{
    struct past_partition *partition = find(past, delivery);
    if (partition != NULL && delivery->position < partition->end)
        return true;
    if (partition != NULL && !partition->is_over) {
        partition->is_over = true;
        --past->n_open;
    }
    ++past->n_later;
    return false;
}

bool past_is_over(const struct past *past)
{
    return past->partitions != NULL && (past->n_open == 0 || past->n_later > past->n_proof);
}

void past_end(struct past *past)
{
    free(past->partitions);
    *past = (struct past){.partitions = NULL};
}
