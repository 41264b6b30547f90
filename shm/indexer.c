/* indexer.c: indexes of files that are finished, made by the keeper when it has nothing else to do.
 *
 *   which     those of this life of the bus, oldest first, that have none: whoever kept before has made some
 *   finished  whatever lies in front of the file of `synced`: the writer brings a file to disk before it begins the next one
 *   piece     1 MiB of a file with each look, so that who waits for the disk waits no millisecond longer
 *
 * Who is stopped here and deposed does no harm: an index says which segment it is of, and can be made again at any time (index.c).
 * Checked by tests/unit/test_history.c. */
#include "indexer.h"

#include "partition.h"

#include <stdlib.h>
#include <unistd.h>

#define PIECE_CELLS (UINT64_C(1) << 14)

/* Of the file in which a position of this life lies. */
static uint64_t base_of(const struct ring *ring, uint64_t pos)
{
    return pos & ~(segment_cells(ring->capacity) - 1);
}

static void add_log(struct indexer *indexer, struct memory_log *log)
{
    uint64_t *next = log->rings[0].has_journal ? calloc(log->n_partitions, sizeof *next) : NULL;
    for (uint32_t p = 0; next != NULL && p < log->n_partitions; p++)
        next[p] = log->rings[p].head->start;
    indexer->next[log->index] = next;
}

/* A file that is finished. false: there is none. */
static bool find(struct indexer *indexer, struct memory *memory, struct segment_place *out_place)
{
    for (; indexer->n_logs < memory_n_logs(memory); indexer->n_logs++)
        add_log(indexer, &memory->logs[indexer->n_logs]);
    for (uint32_t l = 0; l < indexer->n_logs; l++)
        for (uint32_t p = 0; indexer->next[l] != NULL && p < memory->logs[l].n_partitions; p++) {
            const struct ring *ring = &memory->logs[l].rings[p];
            uint64_t oldest = ring_oldest(ring); /* what lies before is not there any more */
            if (indexer->next[l][p] < oldest)
                indexer->next[l][p] = base_of(ring, oldest);
            if (indexer->next[l][p] >= base_of(ring, ring_synced(ring)))
                continue;
            partition_place(memory, ring, out_place);
            indexer->log = l;
            indexer->partition = p;
            return true;
        }
    return false;
}

void indexer_look(struct indexer *indexer, struct memory *memory)
{
    struct segment_place place;
    char path[FILE_PATH_MAX];
    int rc = EVBUS_OK;
    bool is_begun = indexer->draft.place.n_cells != 0;
    if (memory_is_retired(memory) || (!is_begun && !find(indexer, memory, &place)))
        return;
    uint64_t *next = &indexer->next[indexer->log][indexer->partition];
    if (!is_begun) {
        index_path(&place, *next, path);
        rc = access(path, F_OK) == 0 ? EVBUS_EDUPLICATE : index_begin(&indexer->draft, &place, *next, NULL);
    }
    if (rc == EVBUS_OK && (rc = index_go_on(&indexer->draft, PIECE_CELLS, NULL)) == false)
        return;
    if (rc > 0)
        index_save(&indexer->draft, NULL);
    *next += is_begun ? indexer->draft.place.n_cells : place.n_cells;
    index_end(&indexer->draft);
}

void indexer_end(struct indexer *indexer)
{
    index_end(&indexer->draft);
    for (uint32_t l = 0; l < indexer->n_logs; l++)
        free(indexer->next[l]);
    *indexer = (struct indexer){.n_logs = 0};
}
