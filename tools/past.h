/* past.h: where what there is now ends, for who prints it and then ends. See past.c. */
#ifndef EVBUS_TOOLS_PAST_H
#define EVBUS_TOOLS_PAST_H

#include <evbus/admin.h>

struct past_partition;

/* All zero: not begun. */
struct past {
    struct past_partition *partitions;
    size_t n;
    size_t last;      /* the one that was asked for last */
    size_t n_open;    /* of those: from which more may come */
    uint64_t n_later; /* events that were no part of it, and how many of them prove that nothing more comes */
    uint64_t n_proof;
};

/* From now on: what readers can see now. Returns 0, or the exit code after the message. */
int past_begin(struct past *past, struct evbus *bus);

/* Was this event there when we began? */
bool past_has(struct past *past, const struct evbus_delivery *delivery);

/* Nothing more of it comes. false where that cannot be told: then the reader tells, that has nothing. */
bool past_is_over(const struct past *past);

void past_end(struct past *past);

#endif
