/* memory.h: the objects of a bus: mapped, checked, looked up. See memory.c. */
#ifndef EVBUS_MEMORY_H
#define EVBUS_MEMORY_H

#include "applied.h"
#include "catalogue.h"
#include "region.h"
#include "ring.h"
#include "state.h"
#include "witness.h"

/* One log as this process sees it. */
struct memory_log {
    char name[NAME_BYTES]; /* checked; what the head says can change at any time */
    struct region region;
    struct log_head *head;
    struct ring *rings;
    struct group_part *parts; /* of partition 0: see memory_part() */
    uint32_t n_partitions;
    size_t part_stride; /* bytes from one partition to the next */
    enum evbus_ack ack; /* what a publish waits for, at least */
    uint32_t index;     /* in struct memory */
    _Atomic bool prefaulted;
    _Atomic uint32_t woken; /* by our last publish here, as doorbell_ring() tells it; a hint */
};

/* A bus as this process sees it. */
struct memory {
    char bus[SERVICE_BYTES];
    struct region control_region; /* its fd stays open: to see whether the name is gone, and to ask witnesses */
    struct witness witness;       /* ours */
    struct control *control;
    struct memory_log *logs;    /* LOGS_MAX places */
    _Atomic uint32_t n_logs;    /* that are mapped; logs are only ever added */
    _Atomic uint64_t looked_ns; /* at its names, last */
    struct state state;         /* of a bus that remembers */
};

/* Has any log of it a journal? */
static inline bool memory_remembers(const struct memory *memory)
{
    return memory->control->incarnation != 0;
}

static inline uint32_t memory_n_logs(const struct memory *memory)
{
    return atomic_load_explicit(&memory->n_logs, memory_order_acquire);
}

/* The bus's own logs stand behind the catalogue's: dead letters, notes, and what is replayed out of the dead letters. */
#define MEMORY_DLQ_LOG     "dlq"
#define MEMORY_NOTES_LOG   "evbus"
#define MEMORY_REPLAY_LOG  "replay"
#define MEMORY_NOTES_TOPIC 1 /* id of <namespace>.evbus.notes */

/* The log <namespace>.dlq, .evbus or .replay; NULL: damaged. */
struct memory_log *memory_internal_log(struct memory *memory, const char *segment);

/* Where a topic lives: its log's index and its id there. false: nowhere on this bus. */
bool memory_find_topic(const struct memory *memory, const char *topic, uint32_t *out_log, uint32_t *out_id);

/* The name of a publisher, as long as it is in memory; else "". */
void memory_publisher_name(const struct memory *memory, uint32_t publisher, char out_service[SERVICE_BYTES]);

/* Is it one of them? */
bool memory_is_internal(const struct memory_log *log);

/* The bus that a caller means: NULL: $EVBUS_BUS, and where that is unset or empty, "lomash". */
const char *memory_bus_name(const char *given);

/* Is it a bus's name: 1..63 of a-z 0-9 - _, the first a letter or digit? EVBUS_OK or EVBUS_EINVAL. */
int memory_check_name(const char *bus, struct error *err);

/* Opens the folder of a bus that remembers, which must be this bus's, of this life. */
int memory_open_state(struct memory *memory, struct error *err);

/* Is there a bus of this name in memory, made, and not removed or being made? */
bool memory_is_there(const char *bus);

/* Where the bus of this name says that it remembers. false: there is none in memory, or it does not. */
bool memory_folder(const char *bus, char out_folder[FILE_PATH_MAX]);

/* Maps an existing bus. EVBUS_ENOBUS, EVBUS_ELAYOUT, EVBUS_EPERM, EVBUS_ESTALE, EVBUS_ECORRUPT, EVBUS_ENOSPC. */
int memory_open(struct memory *out_memory, const char *bus, struct error *err);

/* Maps what has been added since. EVBUS_OK: memory_n_logs() is as many as there are. Any thread. */
int memory_map_new_logs(struct memory *memory, struct error *err);

/* For who makes or maps: the bytes of a partition, and of a log's object; places for all the logs that a bus can have; what is kept of one that is mapped and
 * whole; has the control object of this name never become ready, and is its maker dead? With clear its name is taken away. */
uint64_t memory_partition_bytes(uint64_t n_cells);
uint64_t memory_log_bytes(uint64_t n_cells, uint32_t n_partitions);
int memory_prepare_logs(struct memory *memory, struct error *err);
int memory_view_log(struct memory *memory, uint32_t index, const char *name, uint64_t n_cells, uint32_t n_partitions,
                    struct error *err);
bool memory_is_half_made(const char *name, bool clear);

/* Unmaps. Fine on a zeroed one. */
void memory_close(struct memory *memory);

/* Touches every page of a log, once per process. */
void memory_prefault_now(struct memory_log *log);
static inline void memory_prefault(struct memory_log *log)
{
    if (!atomic_load_explicit(&log->prefaulted, memory_order_relaxed))
        memory_prefault_now(log);
}

/* A group's state in one partition. */
static inline struct group_part *memory_part(const struct memory_log *log, uint32_t partition, uint32_t group)
{
    return (struct group_part *)((char *)log->parts + partition * log->part_stride) + group;
}

static inline bool memory_is_retired(const struct memory *memory)
{
    return atomic_load_explicit(&memory->control->retired, memory_order_acquire) != 0;
}

#endif
