/* remains.h: a bus as its files have it, whole or not: measured, bounded, and who is who. See remains.c. */
#ifndef EVBUS_REMAINS_H
#define EVBUS_REMAINS_H

#include "image.h"
#include "record.h"

struct remains {
    struct images images;
    const struct image *file; /* of the control object; NULL: it is not there */
    struct control *control;  /* our copy; zeroes for what is not there */
    size_t control_len;       /* bytes of it that are real */
    bool is_ours;             /* laid out as by this build, as far as it can be told */
    struct image_window words, cells;
};

/* One log. */
struct remains_log {
    const struct image *file;
    struct log_head *head; /* our copy; zeroes for what is not there */
    size_t head_len;       /* bytes of it that are real */
    uint64_t n_cells;      /* a possible number ... */
    uint32_t n_partitions; /* ... or 0: it cannot be told */
    uint32_t index;        /* as members count logs; LOGS_MAX: the control object does not name it */
};

/* One ring of it. */
struct remains_ring {
    struct remains *of;
    const struct remains_log *log;
    uint32_t partition;
    bool is_there;
    uint64_t at; /* in the file */
    struct ring_head head;
    uint64_t tail, released;
};

/* Reads what there is in a folder. EVBUS_OK; EVBUS_ENOBUS; EVBUS_EPERM; EVBUS_EIO; EVBUS_ENOSPC. */
int remains_open(struct remains *out_remains, const char *dir, const char *bus, struct error *err);
void remains_close(struct remains *remains);

/* Does the control object reach to this place? */
bool remains_has(const struct remains *remains, size_t behind);

/* A log's head; it says how large the log is, or, when that cannot be, the file's length does. false: nothing of it can be read,
 * for want of the file or of memory. To be ended in any case. */
bool remains_open_log(const struct remains *remains, const struct image *file, uint32_t index,
                      struct remains_log *out_log);
void remains_close_log(struct remains_log *log);

/* Bytes of a log of this size. */
uint64_t remains_log_bytes(uint64_t n_cells, uint32_t n_partitions);

/* Its name (NAME_BYTES, or to a NUL), or NULL: it is not there. */
const char *remains_topic(const struct remains_log *log, uint32_t id);

struct remains_ring remains_ring(struct remains *remains, const struct remains_log *log, uint32_t partition);

/* What a group has in a ring. false: the file ends before it. */
bool remains_part(const struct remains_ring *ring, uint32_t group, struct group_part *out_part);

/* NULL: it is not there. */
const struct slot *remains_slot(const struct remains *remains, uint32_t number);

/* "alive", "dead", ... by its lock word as it stands there: of a copy, when it was made. */
const char *remains_slot_state(const struct slot *slot);

/* The fields slot, service, pid and thread of a record. */
void remains_tell_who(const struct remains *remains, struct record *record, uint32_t slot);

/* Up to SERVICE_BYTES bytes; "": it cannot be told. */
void remains_group_name(const struct remains *remains, uint32_t group, char out_name[SERVICE_BYTES]);

bool remains_reads(const struct remains_log *log, uint32_t group, uint32_t topic); /* topic 0: any */

/* Private copies are read as plainly as shared memory is: the types are the same. */
static inline uint64_t remains_u64(const _Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static inline uint32_t remains_u32(const _Atomic uint32_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

#endif
