/* stat.c: a bus in numbers. Each number is read by itself while others write: right, but not of one moment.
 * Checked by tests/unit/test_stat.c. */
#include "stat.h"

#include "bus.h"
#include "group.h"
#include "hold.h"
#include "slot.h"

#include <stdlib.h>
#include <string.h>

/* What evbus_stat() gives out, in one piece that the next call frees. */
struct rows {
    size_t n_partitions;
    size_t n_slots;
    struct evbus_slot_stat slots[SLOTS_MAX];
    struct evbus_partition_stat partitions[];
};

static uint32_t count_sleepers(const struct log_head *head)
{
    uint32_t n = 0;
    for (int i = 0; i < SLEEPERS_MAX / 64; i++)
        n += (uint32_t)__builtin_popcountll(atomic_load_explicit(&head->sleeping[i], memory_order_relaxed));
    return n;
}

static void fill_partition(const struct memory_log *log, uint32_t p, struct evbus_partition_stat *out)
{
    const struct ring *ring = &log->rings[p];
    *out = (struct evbus_partition_stat){
        .size = sizeof *out,
        .log = log->name,
        .partition = p,
        .capacity = ring->capacity,
        .released = ring_released(ring), /* before the tail, so that it is not beyond it */
        .tail = ring_tail(ring),
        .low = UINT64_MAX,
        .n_sleepers = count_sleepers(log->head),
        .full = atomic_load_explicit(&ring->head->full, memory_order_relaxed),
        .cancels = atomic_load_explicit(&ring->head->cancels, memory_order_relaxed),
        .buried = atomic_load_explicit(&ring->head->buried, memory_order_relaxed),
        .fences = atomic_load_explicit(&ring->head->fences_ever, memory_order_relaxed),
    };
    if (ring->has_journal) {
        out->has_journal = true;
        out->is_visible_synced = ring->is_visible_synced;
        out->oldest = RELEASED_POSITION(atomic_load_explicit(&ring->head->oldest, memory_order_relaxed));
        out->synced = ring_synced(ring); /* before `journaled`, so that it is not beyond it */
        out->journaled = ring_journaled(ring);
        out->kept_bytes = ring_cells_between(ring, out->oldest, out->journaled) * CELL_BYTES;
        out->syncs = atomic_load_explicit(&ring->head->syncs, memory_order_relaxed);
        out->write_failed = -(int)atomic_load_explicit(&ring->head->write_failed, memory_order_relaxed);
    }
    for (int i = 0; i < FENCES_MAX; i++)
        out->n_fences += atomic_load_explicit(&ring->head->fences[i], memory_order_relaxed) != 0;
    for (int i = 0; i < LOWS_MAX; i++) {
        uint64_t low = LOW_BEHIND(atomic_load_explicit(&ring->head->lows[i], memory_order_relaxed));
        if (low == 0)
            continue;
        out->n_pins += i < PINS_MAX;
        if (low - 1 < out->low)
            out->low = low - 1;
    }
}

bool stat_fill_slot(const struct control *control, uint32_t number, struct evbus_slot_stat *out)
{
    const struct slot *slot = &control->slots[number];
    int32_t tid = atomic_load_explicit(&slot->tid, memory_order_acquire);
    if (tid == 0)
        return false;
    *out = (struct evbus_slot_stat){
        .size = sizeof *out,
        .slot = number,
        .pid = atomic_load_explicit(&slot->pid, memory_order_relaxed),
        .tid = tid,
        .since_ns = atomic_load_explicit(&slot->since_ns, memory_order_relaxed),
        .cancels = atomic_load_explicit(&slot->cancels, memory_order_relaxed),
        .is_dead = slot_is_dead(slot),
        .is_keeper = hold_slot(&control->seat) == number,
    };
    memcpy(out->service, slot->service, sizeof out->service - 1);
    return true;
}

static void fill_slots(const struct control *control, struct rows *rows, struct evbus_stat *out)
{
    for (uint32_t i = 1; i <= SLOTS_MAX; i++) {
        struct evbus_slot_stat *slot = &rows->slots[rows->n_slots];
        out->n_retired += atomic_load_explicit(&control->slots[i].retired, memory_order_relaxed) != 0;
        if (!stat_fill_slot(control, i, slot))
            continue;
        out->n_processes += slot_is_first_of_process(control->slots, i);
        if (slot->is_keeper) {
            out->keeper_slot = i;
            out->keeper_pid = slot->pid;
            memcpy(out->keeper_service, slot->service, sizeof out->keeper_service);
        }
        rows->n_slots++;
    }
}

static uint64_t count_takeovers(const struct memory *memory)
{
    uint64_t n = 0;
    for (uint32_t g = 0; g < GROUPS_MAX; g++)
        for (uint32_t l = 0; group_is_live(memory, g) && l < memory_n_logs(memory); l++)
            for (uint32_t p = 0; p < memory->logs[l].n_partitions; p++)
                n += atomic_load_explicit(&memory_part(&memory->logs[l], p, g)->n_takeovers, memory_order_relaxed);
    return n;
}

int stat_collect(struct evbus *bus, struct evbus_stat *out_stat, void **out_rows, struct error *err)
{
    const struct memory *memory = &bus->memory;
    size_t n_partitions = 0;
    uint32_t n_logs = memory_n_logs(memory);
    for (uint32_t i = 0; i < n_logs; i++)
        n_partitions += memory->logs[i].n_partitions;
    struct rows *rows = calloc(1, sizeof *rows + n_partitions * sizeof rows->partitions[0]);
    if (rows == NULL)
        return error_no_memory(err, "%zu partitions", n_partitions);
    *out_stat = (struct evbus_stat){
        .size = sizeof *out_stat,
        .bus = memory->bus,
        .created_ns = memory->control->created_ns,
        .bytes = memory->control_region.len_bytes,
        .n_logs = n_logs,
        .burials = atomic_load_explicit(&memory->control->burials, memory_order_relaxed),
        .takeovers = count_takeovers(memory),
        .n_slots_max = SLOTS_MAX,
        .incarnation = memory->control->incarnation,
    };
    memcpy(out_stat->uuid, memory->control->uuid, sizeof out_stat->uuid);
    for (uint32_t i = 0; i < n_logs; i++) {
        const struct memory_log *log = &memory->logs[i];
        out_stat->bytes += log->region.len_bytes;
        out_stat->n_topics += atomic_load_explicit(&log->head->n_topics, memory_order_relaxed);
        for (uint32_t p = 0; p < log->n_partitions; p++)
            fill_partition(log, p, &rows->partitions[rows->n_partitions++]);
    }
    fill_slots(memory->control, rows, out_stat);
    out_stat->partitions = rows->partitions;
    out_stat->n_partitions = rows->n_partitions;
    out_stat->slots = rows->slots;
    out_stat->n_slots = (uint32_t)rows->n_slots;
    *out_rows = rows;
    return EVBUS_OK;
}

EVBUS_API int evbus_stat(struct evbus *bus, struct evbus_stat *out_stat)
{
    struct error *err = error_of_thread();
    struct evbus_stat stat;
    void *rows;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && (out_stat == NULL || out_stat->size > 4096))
        rc = error_set(err, EVBUS_EINVAL,
                       out_stat == NULL ? "out_stat is NULL" : "stat.size must be sizeof the struct, or 0");
    if (rc == EVBUS_OK)
        rc = stat_collect(bus, &stat, &rows, err);
    if (rc != EVBUS_OK)
        return rc;
    stat.size = out_stat->size;
    size_t size = out_stat->size != 0 ? out_stat->size : sizeof stat;
    memcpy(out_stat, &stat, size < sizeof stat ? size : sizeof stat);
    pthread_mutex_lock(&bus->admin_mutex);
    free(bus->stat_rows);
    bus->stat_rows = rows;
    pthread_mutex_unlock(&bus->admin_mutex);
    return EVBUS_OK;
}
