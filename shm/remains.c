/* remains.c: a bus as its files have it, whole or not.
 *
 * The control object and a log's head are copied whole, words, headers and a group's places piece by piece: from then on nothing
 * changes under who looks. A number is bounded, or only shown; a name ends with its array.
 * Which build? A bus is made by one: when any of its objects has our fingerprint, all is read as we lay it out, and another
 * fingerprint is damage. When none has and one is set, only the heads are ours to read: they have not moved so far.
 * How large is a log? Its head says it; when that is no possible size, the file's length says it.
 * Checked by tests/unit/test_inspect.c. */
#include "remains.h"

#include "ring.h"
#include "slot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Has any of its objects our fingerprint, or has none any? */
static bool is_ours(const struct remains *remains)
{
    bool has_other = false;
    for (size_t i = 0; i < remains->images.n; i++) {
        const struct image *file = &remains->images.of[i];
        size_t at = file == remains->file ? offsetof(struct control, fingerprint)
                                          : offsetof(struct log_head, fingerprint);
        uint64_t fingerprint;
        image_read(file, at, &fingerprint, sizeof fingerprint);
        if (fingerprint == LAYOUT_FINGERPRINT)
            return true;
        has_other = has_other || fingerprint != 0;
    }
    return !has_other;
}

static int refuse(const struct images *images, const char *dir, const char *bus, struct error *err)
{
    for (size_t i = 0; i < images->n; i++)
        if (images->of[i].fd >= 0)
            return EVBUS_OK;
    if (images->n == 0)
        return error_set(err, EVBUS_ENOBUS, "there is no file of a bus %s in %s", bus, dir);
    int number = images->of[0].number;
    return error_set(err, number == EACCES || number == EPERM ? EVBUS_EPERM : EVBUS_EIO,
                     "%s/%s: %s; nothing of bus %s can be read", dir, images->of[0].file, strerror(number), bus);
}

int remains_open(struct remains *out_remains, const char *dir, const char *bus, struct error *err)
{
    struct remains remains = {.control = aligned_alloc(alignof(struct control), sizeof(struct control))};
    int rc = remains.control != NULL ? images_open(&remains.images, dir, bus, err)
                                     : error_no_memory(err, "a look at a bus");
    if (rc == EVBUS_OK)
        rc = refuse(&remains.images, dir, bus, err);
    if (rc != EVBUS_OK) {
        remains_close(&remains);
        return rc;
    }
    remains.file = images_find(&remains.images, "control");
    memset(remains.control, 0, sizeof *remains.control);
    if (remains.file != NULL)
        remains.control_len = image_read(remains.file, 0, remains.control, sizeof *remains.control);
    remains.is_ours = is_ours(&remains);
    *out_remains = remains;
    return EVBUS_OK;
}

void remains_close(struct remains *remains)
{
    images_close(&remains->images);
    free(remains->control);
    remains->control = NULL;
}

bool remains_has(const struct remains *remains, size_t behind)
{
    return behind <= remains->control_len;
}

/* --- logs ---------------------------------------------------------------------------------------------------------- */

static bool are_cells(uint64_t n_cells)
{
    return n_cells >= RING_CELLS_MIN && n_cells <= RING_CELLS_MAX && (n_cells & (n_cells - 1)) == 0;
}

static bool are_partitions(uint32_t n)
{
    return n >= 1 && n <= PARTITIONS_MAX;
}

static uint64_t stride(uint64_t n_cells)
{
    return ring_bytes(n_cells) + GROUPS_MAX * sizeof(struct group_part);
}

uint64_t remains_log_bytes(uint64_t n_cells, uint32_t n_partitions)
{
    return sizeof(struct log_head) + n_partitions * stride(n_cells);
}

/* What the head says, as far as it is possible; what is not, so that the file's length comes out. */
static void measure(struct remains_log *log)
{
    uint64_t n_cells = log->head->n_cells;
    uint32_t n_partitions = log->head->n_partitions;
    bool has_cells = are_cells(n_cells);
    bool has_partitions = are_partitions(n_partitions);
    if (has_cells && has_partitions) { /* a file that is shorter is cut */
        log->n_cells = n_cells;
        log->n_partitions = n_partitions;
        return;
    }
    for (uint64_t c = RING_CELLS_MIN; c <= RING_CELLS_MAX; c *= 2)
        for (uint32_t p = 1; p <= PARTITIONS_MAX; p++)
            if ((!has_cells || c == n_cells) && (!has_partitions || p == n_partitions) &&
                remains_log_bytes(c, p) == log->file->len_bytes) {
                log->n_cells = c;
                log->n_partitions = p;
                return;
            }
}

bool remains_open_log(const struct remains *remains, const struct image *file, uint32_t index,
                      struct remains_log *out_log)
{
    struct remains_log log = {.file = file, .index = index};
    log.head = aligned_alloc(alignof(struct log_head), sizeof *log.head);
    if (log.head != NULL)
        log.head_len = image_read(file, 0, log.head, sizeof *log.head);
    if (log.head_len >= offsetof(struct log_head, name) && remains->is_ours)
        measure(&log);
    *out_log = log;
    return log.head_len > 0;
}

void remains_close_log(struct remains_log *log)
{
    free(log->head);
    log->head = NULL;
}

const char *remains_topic(const struct remains_log *log, uint32_t id)
{
    return id >= 1 && id <= TOPICS_MAX && log->head_len >= offsetof(struct log_head, topics) + id * (size_t)NAME_BYTES
               ? log->head->topics[id - 1]
               : NULL;
}

struct remains_ring remains_ring(struct remains *remains, const struct remains_log *log, uint32_t partition)
{
    struct remains_ring ring = {.of = remains,
                                .log = log,
                                .partition = partition,
                                .at = sizeof(struct log_head) + partition * stride(log->n_cells)};
    ring.is_there = image_read(log->file, ring.at, &ring.head, sizeof ring.head) == sizeof ring.head;
    ring.tail = remains_u64(&ring.head.tail);
    ring.released = RELEASED_POSITION(remains_u64(&ring.head.released));
    return ring;
}

bool remains_part(const struct remains_ring *ring, uint32_t group, struct group_part *out_part)
{
    uint64_t at = ring->at + ring_bytes(ring->log->n_cells) + group * sizeof *out_part;
    return image_read(ring->log->file, at, out_part, sizeof *out_part) == sizeof *out_part;
}

bool remains_reads(const struct remains_log *log, uint32_t group, uint32_t topic)
{
    uint64_t any = 0;
    if (topic != 0)
        return (remains_u64(&log->head->group_topics[group][(topic - 1) / 64]) >> ((topic - 1) % 64) & 1) != 0;
    for (int i = 0; i < TOPICS_MAX / 64; i++)
        any |= remains_u64(&log->head->group_topics[group][i]);
    return any != 0;
}

/* --- who is who ---------------------------------------------------------------------------------------------------- */

const struct slot *remains_slot(const struct remains *remains, uint32_t number)
{
    return number <= SLOTS_MAX &&
                   remains_has(remains, offsetof(struct control, slots) + (number + 1) * sizeof(struct slot))
               ? &remains->control->slots[number]
               : NULL;
}

const char *remains_slot_state(const struct slot *slot)
{
    uint32_t lock = remains_u32(slot_lock_word(slot));
    if (slot_is_used(slot))
        return slot_is_dead(slot) ? "dead" : "alive";
    return (lock & SLOT_DIED_BIT) != 0 ? "died entering" : (lock & SLOT_TID_MASK) != 0 ? "entering" : "free";
}

void remains_tell_who(const struct remains *remains, struct record *record, uint32_t number)
{
    const struct slot *slot = remains_slot(remains, number);
    record_number(record, "slot", number);
    if (number == 0 || slot == NULL)
        return;
    record_text(record, "service", slot->service, sizeof slot->service);
    record_number(record, "pid", (uint32_t)atomic_load_explicit(&slot->pid, memory_order_relaxed));
    record_word(record, "thread", remains_slot_state(slot));
}

void remains_group_name(const struct remains *remains, uint32_t group, char out_name[SERVICE_BYTES])
{
    out_name[0] = '\0';
    if (!remains_has(remains, offsetof(struct control, groups) + (group + 1) * sizeof(struct group_entry)))
        return;
    memcpy(out_name, remains->control->groups[group].name, SERVICE_BYTES);
    out_name[SERVICE_BYTES - 1] = '\0';
}
