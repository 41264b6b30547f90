/* memory_make.h: the objects of a bus are made, and added to. See memory_make.c. */
#ifndef EVBUS_MEMORY_MAKE_H
#define EVBUS_MEMORY_MAKE_H

#include "memory.h"

/* The shared memory that a catalogue's bus takes, bytes. */
uint64_t memory_bytes(const struct catalogue *catalogue);

/* What a bus was before its memory was lost. */
struct memory_before {
    struct state_identity identity;
    json_t *ids; /* of its topics; see applied.h */
};

/* Makes all objects of a bus and maps them. The bus is not ready yet: see memory_ready(). before: of a bus that is brought back
 * (recover.c); NULL: it is a new one, whose first life begins if it remembers. */
int memory_create(struct memory *out_memory, const char *bus, const struct catalogue *catalogue, const char *text,
                  size_t text_len, mode_t mode, gid_t group, const struct memory_before *before, struct error *err);

/* Takes the names of a bus away that is not ready yet. */
void memory_unmake(const struct memory *memory);

/* From here on others may open it. */
void memory_ready(struct memory *memory);

/* For who applies a catalogue, one at a time: makes a log that nobody knows yet, gives it topics, makes it known. A topic's
 * id is on disk before it can be used; EVBUS_ELIMIT (no message): TOPICS_MAX of them. */
int memory_add_log(struct memory *memory, const struct catalogue_log *wanted, struct memory_log **out_log,
                   struct error *err);
int memory_add_topic(struct memory *memory, struct memory_log *log, const char *topic, uint32_t *out_id,
                     struct error *err);
void memory_publish_log(struct memory *memory);

/* The ids that topics have, and the catalogue as it is, are on disk; of a bus that remembers. EVBUS_ESTALE: another life of it
 * may have begun there. */
int memory_save_applied(struct memory *memory, const char *text, size_t len, struct error *err);

/* How long, and how much of it, a log's journal is kept. */
void memory_keep_for(struct log_head *head, const struct catalogue_log *wanted);

#endif
