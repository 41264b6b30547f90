/* records.h: which events stand in a place, in its order: on a bus, in Redis. */
#ifndef DEMO_RECORDS_H
#define DEMO_RECORDS_H

#include "board.h"
#include "conductor.h"

/* An event, by what it is called and by where it was published. */
struct record {
    char id[37];
    enum topic topic;
    uint32_t partition; /* of its bus */
    uint64_t position;
};

struct records {
    bool is_brought_in; /* of a bus: those that its bridge has brought in, else those that were published there */
    uint64_t n_others;  /* the others there, of our topics */
    struct record *all;
    size_t n, cap;
    struct evbus_reader *reader; /* of a bus, as far as it was read */
};

/* How a place differs from the one where the events were published. */
struct difference {
    uint64_t missing;
    uint64_t twice;        /* each time beyond the first */
    uint64_t foreign;      /* nobody has published these */
    uint64_t out_of_order; /* behind one of the same partition that was published later; so among the events of a key */
};

/* false, as below: it has complained. */
bool records_add(struct records *records, const struct record *record);

/* Adds what a bus has more than at the last call. */
bool records_read(struct records *records, struct demo *demo);

/* Of one topic. */
uint64_t records_count(const struct records *records, enum topic topic);
bool records_compare(const struct records *published, const struct records *found, enum topic topic,
                     struct difference *out_difference);

void records_free(struct records *records);

#endif
