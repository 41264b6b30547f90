/* indexer.h: indexes of files that are finished, made by the keeper when it has nothing else to do. See indexer.c. */
#ifndef EVBUS_INDEXER_H
#define EVBUS_INDEXER_H

#include "index.h"
#include "memory.h"

struct indexer {
    uint64_t *next
        [LOGS_MAX]; /* of each partition: base of the first file that is not indexed; of a log without a journal NULL */
    uint32_t n_logs;
    struct index_draft draft; /* zeroed: none is being made */
    uint32_t log, partition;  /* whose it is */
};

/* A piece of an index, if any file of this life of the bus is finished and has none. Files of lives before are left to who looks for an id
 * in them, and so is whatever fails. Zeroed at first. */
void indexer_look(struct indexer *indexer, struct memory *memory);

void indexer_end(struct indexer *indexer); /* and it is zeroed again */

#endif
