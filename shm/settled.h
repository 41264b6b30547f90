/* settled.h: what was done about a dead letter, by whom and when. See settled.c. */
#ifndef EVBUS_SETTLED_H
#define EVBUS_SETTLED_H

#include "deadletter.h"

#define SETTLED_REASON_MAX 512 /* bytes */

enum settled_what { SETTLED_REPLAYED, SETTLED_DISCARDED };

/* One resolution. */
struct settled {
    enum settled_what what;
    uint32_t n;      /* how often it has been replayed, this time included */
    uint64_t letter; /* position of the dead letter that it is of */
    uint64_t at_ns;
    char service[SERVICE_BYTES]; /* who did it; "": a handle of nobody */
    char user[64];
    char host[65];
    int64_t pid;
    int64_t uid;
    char reason[SETTLED_REASON_MAX + 1];
};

/* Fills in who we are, and the time. */
void settled_by_us(const char *service, struct settled *out);

/* Publishes it on the group's topic of dead letters, by the thread that owns claim. of: what the dead letter says of its event; its key is
 * event's. out_pos: where it stands. EVBUS_OK; EVBUS_EFULL; EVBUS_ECORRUPT. */
int settled_publish(struct memory *memory, struct claim *claim, const struct deadletter *of, const uint8_t id[16],
                    const struct settled *settled, uint64_t *out_pos, uint64_t *out_end, struct error *err);

/* false: it is no resolution, or not whole. */
bool settled_parse(const struct frame *frame, struct settled *out);

/* What all need who decide whether it counts: how often it had been replayed, and of which letter it is. */
bool settled_counts(const struct frame *frame, enum settled_what *out_what, uint32_t *out_n, uint64_t *out_letter);

#endif
