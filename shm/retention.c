/* retention.c: old files of the journal go, whole ones, oldest first.
 *
 *     a file may go when   all of it is on disk, released from the ring, and below whatever a group or a pin still needs;
 *                          and the next one was begun longer ago than the log's retention, or the log's files have more bytes
 *                          than it allows
 *   order    read `oldest`, then the lows, then CAS `oldest` forward, then unlink what lies below it
 *
 * Why that is enough. Whoever begins to need something stores its low, then changes `oldest`, then looks at it again (ring_pin): so
 * either we see the low, or our CAS fails [P11; model pin.pml]. A reader that has a file open reads it to its end. Killed between CAS
 * and unlink: the next one finds files below `oldest`, and removes them. A keeper that was deposed does no harm: what lies below
 * `oldest` is nobody's [J4f].
 * Checked by tests/unit/test_retention.c. */
#include "retention.h"

#include "index.h"
#include "partition.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t bytes_of(const struct segment_place *place, uint64_t base)
{
    char path[FILE_PATH_MAX];
    struct stat found;
    segment_path(place, base, path);
    return stat(path, &found) == 0 ? (uint64_t)found.st_size : 0;
}

static bool is_of_another_bus(const struct segment_place *place, uint64_t base)
{
    struct segment segment;
    int rc = segment_open(&segment, place, base, false, NULL);
    if (rc == EVBUS_OK)
        segment_close(&segment);
    return rc == EVBUS_ECONFLICT;
}

/* When the file was begun, ns since 1970; UINT64_MAX: it cannot be told. */
static uint64_t begun_ns(const struct segment_place *place, uint64_t base)
{
    struct segment segment;
    if (segment_open(&segment, place, base, false, NULL) != EVBUS_OK)
        return UINT64_MAX;
    uint64_t created_ns = segment.created_ns;
    segment_close(&segment);
    return created_ns;
}

/* Where the first file begins that is kept, of those whose bases these are. */
static uint64_t first_kept(const struct segment_place *place, const struct log_head *head, const uint64_t *bases,
                           size_t n, uint64_t until, uint64_t wall_ns)
{
    uint64_t retention_ns = atomic_load_explicit(&head->retention_ns, memory_order_relaxed);
    uint64_t bytes_max = atomic_load_explicit(&head->retention_bytes, memory_order_relaxed);
    uint64_t bytes = 0;
    for (size_t i = 0; bytes_max != 0 && i < n; i++)
        bytes += bytes_of(place, bases[i]);
    size_t i = 0;
    for (; i + 1 < n && bases[i + 1] <= until; i++) { /* the last one is written to */
        bool is_too_much = bytes_max != 0 && bytes > bytes_max / head->n_partitions;
        uint64_t end_ns = is_too_much ? 0 : begun_ns(place, bases[i + 1]);
        if (!is_too_much && (end_ns > wall_ns || wall_ns - end_ns < retention_ns))
            break;
        bytes -= bytes_max != 0 ? bytes_of(place, bases[i]) : 0;
    }
    return bases[i];
}

int retention_look(const struct memory *memory, struct memory_log *log, uint32_t partition, uint64_t wall_ns,
                   struct error *err)
{
    struct ring *ring = &log->rings[partition];
    struct segment_place place;
    uint64_t *bases;
    size_t n;
    partition_place(memory, ring, &place);
    uint64_t oldest = atomic_load_explicit(&ring->head->oldest, memory_order_acquire); /* before the lows [P11] */
    uint64_t until = ring_needed_from(ring);
    uint64_t synced = ring_synced(ring);
    uint64_t released = ring_released(ring);
    until = until < synced ? until : synced;
    until = until < released ? until : released;
    int rc = memory_is_retired(memory) ? EVBUS_ESTALE : journal_list(&place, &bases, &n, err);
    if (rc == EVBUS_ESTALE)
        return EVBUS_OK; /* another bus of its name may have its folder by now */
    if (rc != EVBUS_OK || n == 0) {
        free(rc == EVBUS_OK ? bases : NULL);
        return rc;
    }
    uint64_t kept = first_kept(&place, log->head, bases, n, until, wall_ns);
    if (kept > RELEASED_POSITION(oldest) &&
        !atomic_compare_exchange_strong_explicit(&ring->head->oldest, &oldest,
                                                 RELEASED(kept, RELEASED_GENERATION(oldest)), memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        free(bases); /* somebody begins to need something: next time */
        return EVBUS_OK;
    }
    kept = RELEASED_POSITION(atomic_load_explicit(&ring->head->oldest, memory_order_acquire));
    for (size_t i = 0; i + 1 < n && bases[i + 1] <= kept && rc == EVBUS_OK; i++) {
        char path[FILE_PATH_MAX];
        if (is_of_another_bus(&place, bases[i]))
            continue;
        index_path(&place, bases[i], path);
        unlink(path); /* it may have none */
        segment_path(&place, bases[i], path);
        if (unlink(path) != 0 && errno != ENOENT)
            rc = file_failed(err, path, "cannot remove it", errno);
    }
    free(bases);
    return rc;
}
