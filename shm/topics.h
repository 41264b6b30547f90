/* topics.h: the topics of a bus, looked up by every publish. See topics.c. */
#ifndef EVBUS_TOPICS_H
#define EVBUS_TOPICS_H

#include "memory.h"
#include "retry.h"

struct topics;

/* Where a topic lives, for one publish. */
struct topics_place {
    struct memory_log *log;
    uint16_t id;        /* in its log */
    size_t payload_max; /* bytes */
};

/* The place that a thread found last: most publish the same topic again. Zeroed: none. */
struct topics_recent {
    uint32_t generation; /* 0: what follows is not valid */
    bool is_reading;     /* inside a look-up, under RCU */
    char name[NAME_BYTES];
    struct topics_place place;
};

/* The thread has left a look-up by longjmp: end it, or nobody could ever wait for its readers again. */
void topics_abandon(struct topics_recent *recent);

/* Reads the bus's catalogue. service may be NULL. EVBUS_OK; EVBUS_ECATALOGUE; EVBUS_ENOSPC; EVBUS_ECORRUPT. */
int topics_open(struct topics **out_topics, struct memory *memory, const char *service, struct error *err);
void topics_close(struct topics *topics);

/* Before a thread's first look-up. EVBUS_ENOSPC. */
int topics_enter_thread(struct error *err);

/* May our service publish on it, and where does it go? A newer catalogue is read first. Any thread; `recent` is its own.
 * recent NULL: what was published elsewhere may go to any topic, and nothing is remembered. EVBUS_OK; EVBUS_ENOTFOUND; EVBUS_EDENIED. */
int topics_find(struct topics *topics, const char *topic, struct topics_recent *recent, struct topics_place *out_place,
                struct error *err);

/* How a group tries again: as the catalogue has it, or the default. */
struct retry topics_retry(struct topics *topics, const char *group);

/* Which versions a group accepts, as the catalogue has it, and the most bytes of a payload. */
struct version_accepts topics_accepts(struct topics *topics, const char *group, size_t *out_payload_max);

/* The catalogue's text, copied whole, to be freed. */
int topics_copy_text(const struct memory *memory, char **out_text, size_t *out_len, uint32_t *out_generation,
                     struct error *err);

#endif
