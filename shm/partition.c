/* partition.c: one ring: append.
 *
 * Claim, write, commit; a claim that was cancelled (we were stopped for longer than a reader's patience) is made anew at a new
 * position: publish had not returned, so no order is broken. A full ring: wait for room until the deadline, in rounds of at
 * most 10 ms, since whoever could wake us may be stopped.
 * Checked by tests/crash/test_publish.c. */
#include "partition.h"

#include "clock.h"
#include "point.h"
#include "retire.h"

#include <inttypes.h>

static int full(struct ring *ring, uint64_t waited_ns, struct error *err)
{
    atomic_fetch_add_explicit(&ring->head->full, 1, memory_order_relaxed);
    uint64_t released = ring_released(ring);
    return error_set(err, EVBUS_EFULL,
                     "%s/%u is full: %" PRIu64 " of %" PRIu64
                     " cells are held by a group that is behind or absent, a reader that pins, or a claim at %" PRIu64
                     ", waited %" PRIu64 " ms; `evbus doctor` tells who",
                     ring->name, ring->partition, ring_tail(ring) - released, ring->capacity, released,
                     waited_ns / CLOCK_NS_PER_MS);
}

int partition_append(struct ring *ring, struct claim *claim, const uint64_t *frame, uint32_t n_cells,
                     struct partition_wait wait, uint64_t *out_pos, struct error *err)
{
    uint64_t start_ns = 0; /* 0: we have not waited yet */
    struct ring_blocked blocked = {0};
    for (;;) {
        int rc = ring_claim(ring, n_cells, claim, err);
        if (rc == EVBUS_OK && wait.has_points && (rc = point_pass(POINT_PUBLISH_CLAIMED, err)) != EVBUS_OK) {
            ring_abandon(claim);
            return rc;
        }
        if (rc == EVBUS_OK) {
            uint64_t pos = claim->pos;
            ring_write(claim, frame);
            if (wait.has_points)
                point_pass(POINT_PUBLISH_WRITTEN, NULL);
            rc = ring_commit(claim, err);
            if (wait.has_points)
                point_pass(POINT_PUBLISH_COMMITTED, NULL);
            if (rc == EVBUS_OK)
                *out_pos = pos;
        }
        if (rc != EVBUS_EFULL && rc != EVBUS_EAGAIN)
            return rc;
        if (rc == EVBUS_EAGAIN)
            continue;
        uint64_t now = wait.timeout_ns == 0 && start_ns == 0 ? 0 : clock_mono_ns();
        if (start_ns == 0)
            start_ns = now;
        if (wait.memory != NULL && retire_is_gone(wait.memory, now))
            return error_set(err, EVBUS_ESTALE, "the bus was removed while we waited for room in %s/%u: open again",
                             ring->name, ring->partition);
        if (now - start_ns >= wait.timeout_ns)
            return full(ring, now - start_ns, err);
        if (now - start_ns < wait.spin_ns)
            clock_relax();
        else
            ring_wait_for_room(ring, wait.timeout_ns - (now - start_ns), &blocked);
    }
}

void partition_wake(struct ring *ring, struct log_head *log, const struct topic_set *topics, uint64_t pos)
{
    doorbell_ring(log, ring->slots, topics);
    ring_make_room(ring, pos);
}
