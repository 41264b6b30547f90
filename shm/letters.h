/* letters.h: which dead letters there are, and which of them are open. See letters.c. */
#ifndef EVBUS_LETTERS_H
#define EVBUS_LETTERS_H

#include "partition.h"
#include "settled.h"

#define LETTERS_NONE UINT64_MAX

/* All that is known of one id. */
struct letters_row {
    uint8_t id[16];
    uint64_t pos;      /* of the newest letter */
    uint64_t opened;   /* of the first one since it was settled last */
    uint64_t settled;  /* of the newest resolution; LETTERS_NONE: there is none */
    uint64_t at_ns;    /* of the newest letter */
    uint64_t note;     /* area_death, of the newest letter */
    uint64_t entry;    /* likewise */
    uint64_t position; /* where the event stands, by which replays are ordered */
    uint32_t log;      /* likewise: its index; UINT32_MAX: the bus has no such log */
    uint32_t partition;
    uint32_t n_dead;    /* replays that it had had when it died last */
    uint32_t n_replays; /* that it has had */
    uint32_t n_settled; /* of those: on the record */
    uint16_t topic;     /* of its dead letters */
    bool is_open;
    bool is_discarded;
};

struct letters {
    struct letters_row *rows; /* in the order of their first letters */
    size_t n;
    uint64_t end; /* the log was read up to here */
    size_t cap;
    uint32_t *places; /* of the rows by id, + 1; a power of two of them */
    size_t n_places;
};

/* Does a claim stand in the way at pos? It is cleared after its patience, as readers do: whoever made it may be dead, and no keeper
 * there. */
bool letters_clear_way(struct ring *ring, uint64_t pos, struct ring_blocked *blocked);

/* Calls each() with every whole frame of a partition from `from` on up to its tail, as it is now. Claims that stand in the way are
 * cleared as readers do, so nothing that is committed is left out; what is damaged or gone is. buffer: room for the largest frame. */
int letters_walk(struct memory *memory, struct ring *ring, uint64_t from, uint64_t *buffer,
                 int (*each)(void *context, uint64_t pos, const uint64_t *frame), void *context, uint64_t *out_end,
                 struct error *err);

/* Reads the log of dead letters, all that is kept of it. To be freed. EVBUS_OK; EVBUS_ECORRUPT; EVBUS_EIO; EVBUS_ENOSPC (memory). */
int letters_read(struct memory *memory, struct letters *out, struct error *err);
void letters_free(struct letters *letters);

/* NULL: there is none. */
struct letters_row *letters_find(const struct letters *letters, const uint8_t id[16]);

/* What a frame of that log says, in its order; for who has one in hand. */
int letters_note(struct letters *letters, const struct memory *memory, uint64_t pos, const uint64_t *frame,
                 struct error *err);

#endif
