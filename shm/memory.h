/* memory.h: the objects of a bus: made, mapped, checked, removed. See memory.c. */
#ifndef EVBUS_MEMORY_H
#define EVBUS_MEMORY_H

#include "catalogue.h"
#include "region.h"
#include "ring.h"

/* One log as this process sees it. */
struct memory_log {
    struct region region;
    struct log_head *head;
    struct ring *rings;
    uint32_t n_partitions;
    uint32_t index; /* in struct memory */
    _Atomic bool prefaulted;
};

/* A bus as this process sees it. */
struct memory {
    char bus[SERVICE_BYTES];
    struct region control_region; /* its fd stays open: to see whether the name is gone */
    struct control *control;
    struct memory_log *logs;
    uint32_t n_logs;
};

/* The shared memory that a catalogue's bus takes, bytes. */
uint64_t memory_bytes(const struct catalogue *catalogue);

/* The bus that a caller means: NULL: $EVBUS_BUS, and where that is unset or empty, "lomash". */
const char *memory_bus_name(const char *given);

/* Is it a bus's name: 1..63 of a-z 0-9 - _, the first a letter or digit? EVBUS_OK or EVBUS_EINVAL. */
int memory_check_name(const char *bus, struct error *err);

/* Makes all objects of a new bus and maps them. The bus is not ready yet: see memory_ready(). */
int memory_create(struct memory *out_memory, const char *bus, const struct catalogue *catalogue, const char *text,
                  size_t text_len, mode_t mode, gid_t group, struct error *err);

/* From here on others may open it. */
void memory_ready(struct memory *memory);

/* Maps an existing bus. EVBUS_ENOBUS, EVBUS_ELAYOUT, EVBUS_EPERM, EVBUS_ESTALE, EVBUS_ECORRUPT, EVBUS_ENOSPC. */
int memory_open(struct memory *out_memory, const char *bus, struct error *err);

/* Unmaps. Fine on a zeroed one. */
void memory_close(struct memory *memory);

/* Marks the bus retired and unlinks its objects, also those of a half-made or foreign one. EVBUS_ENOBUS, EVBUS_EPERM. */
int memory_remove(const char *bus, struct error *err);

/* Touches every page of a log, once per process. */
void memory_prefault_now(struct memory_log *log);
static inline void memory_prefault(struct memory_log *log)
{
    if (!atomic_load_explicit(&log->prefaulted, memory_order_relaxed))
        memory_prefault_now(log);
}

static inline bool memory_is_retired(const struct memory *memory)
{
    return atomic_load_explicit(&memory->control->retired, memory_order_acquire) != 0;
}

#endif
