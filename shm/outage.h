/* outage.h: many different events of a group fail the same way: its fault, not theirs. See outage.c. */
#ifndef EVBUS_OUTAGE_H
#define EVBUS_OUTAGE_H

#include "pending.h"

#define OUTAGE_TEXT_MAX (OUTAGE_TEXT_BYTES - 1)

/* The word that decides. way 0: nothing has failed since the last success, and it does not pause: a word that says so is damaged, and no
 * success would end that. */
#define OUTAGE_WAY(streak)       ((uint32_t)((streak) >> 32))
#define OUTAGE_IS_PAUSED(streak) (((streak) >> 31 & 1) != 0 && OUTAGE_WAY(streak) != 0)
#define OUTAGE_NUMBER(streak)    ((uint32_t)(streak)&0x7fffffff)

static inline uint64_t outage_streak(const struct outage *outage)
{
    return atomic_load_explicit(&outage->streak, memory_order_relaxed); /* advice: each step that counts is a CAS */
}

/* In which way an attempt failed: two texts that differ in numbers alone are one. error may be NULL. Never 0. */
uint32_t outage_way(enum pending_cause cause, const char *error);

/* Which event: of one partition. */
uint64_t outage_event(uint32_t log, uint32_t partition, uint64_t pos);

struct outage_failure {
    uint32_t way;
    uint64_t event;
    uint32_t n_events; /* so many different ones pause the group, 2..OUTAGE_EVENTS_MAX */
    const char *error;
    uint64_t wall_ns;
};

enum outage_verdict {
    OUTAGE_CHARGE, /* the event's own fault, as far as we know */
    OUTAGE_PAUSED, /* not its fault: the group pauses */
    OUTAGE_BEGUN   /* likewise, from now on */
};
enum outage_verdict outage_failed(struct outage *outage, const struct outage_failure *failure);

/* An event was done. true: that has ended a pause. */
bool outage_end(struct outage *outage);
static inline bool outage_succeeded(struct outage *outage)
{
    return OUTAGE_WAY(outage_streak(outage)) != 0 && outage_end(outage);
}

/* Who asks for the probe. */
struct outage_prober {
    const struct slot *slots;
    const struct member *members; /* of its group */
    uint32_t place;               /* its own among them */
    uint32_t owner;               /* its word there */
    uint64_t limit_ns;            /* how long it may have it */
};

/* The one event that a paused group tries: 0: not now, *out_due_ns is lowered to when (monotonic); else ours, until it is ended. */
uint64_t outage_probe(struct outage *outage, const struct outage_prober *prober, uint64_t now_ns, uint64_t *out_due_ns);

/* Is an event that waits to be chosen, or one that nobody has tried yet? By chance: turns would go in step with those of partitions. */
bool outage_probe_is_new(uint64_t probe);

/* It has failed, or said nothing: the next one a while later. Or there was nothing to try: anybody's, at once. */
void outage_probe_failed(struct outage *outage, uint64_t probe, uint64_t now_ns);
void outage_probe_pass(struct outage *outage, uint64_t probe, uint64_t now_ns);

/* For who looks on. */
struct outage_view {
    bool is_paused;
    uint32_t n_events;
    uint64_t since_ns;            /* wall clock */
    uint64_t probe_ns;            /* monotonic: the next one; where one is under way: 0 */
    char text[OUTAGE_TEXT_BYTES]; /* UTF-8 that ends; "": its writer was killed */
};
void outage_look(const struct outage *outage, struct outage_view *out);

/* Of a group that is made: nothing has failed. */
void outage_clear(struct outage *outage);

#endif
