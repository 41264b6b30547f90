/* partition.c: one ring and its journal: append, read what the ring has no more.
 *
 * Claim, write, commit; a claim that was cancelled (we were stopped for longer than a reader's patience) is made anew at a new
 * position: publish had not returned, so no order is broken. A full ring: wait for room until the deadline, in rounds of at
 * most 10 ms, since whoever could wake us may be stopped. A run of frames goes the same way, but for the waiting: its frames do that [R20].
 * Checked by tests/crash/test_publish.c. */
#include "partition.h"

#include "clock.h"
#include "futex.h"
#include "hold.h"
#include "point.h"
#include "retire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long a publish waits for the disk. It never waits for a consumer there, and never for ever. */
#define DISK_SLOW_NS   (10 * CLOCK_NS_PER_S)
#define BROKER_SLOW_NS (10 * CLOCK_NS_PER_S)
#define DISK_FAILED_NS CLOCK_NS_PER_S /* when the last write has failed */
#define DISK_ROUND_NS  (50 * CLOCK_NS_PER_MS)
#define DISK_RUNG_NS   (2 * CLOCK_NS_PER_MS)  /* the first, where we have not rung for it ourselves */
#define BEHIND_NS      (20 * CLOCK_NS_PER_MS) /* grace for the journal's writer, also without a timeout */

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

static void ring_keeper(struct memory *memory)
{
    uint32_t slot = hold_slot(&memory->control->seat);
    if (slot >= 1 && slot <= SLOTS_MAX)
        doorbell_ring_slot(&memory->control->slots[slot]);
}

/* Is the ring full of what is committed, and only not written yet? */
static bool is_writer_behind(const struct ring *ring)
{
    return ring->has_journal && atomic_load_explicit(&ring->head->write_failed, memory_order_relaxed) == 0 &&
           ring_tail(ring) - ring_journaled(ring) > ring->capacity / 4;
}

/* Behind the claim: who takes over changes the word first and then looks for claims of ours. So either we see the word, or our claim
 * is seen, and cancelled; then we come here again. */
static bool holds(const struct partition_fence *fence)
{
    atomic_thread_fence(memory_order_seq_cst); /* edge FENCE, from: our claim */
    return atomic_load_explicit(fence->word, memory_order_relaxed) == fence->value;
}

/* What an append has waited for room. */
struct waited {
    uint64_t start_ns; /* 0: not yet */
    struct ring_blocked blocked;
};

/* EVBUS_EAGAIN: claim again. */
static int wait_for_room(struct ring *ring, const struct partition_wait *wait, struct waited *waited, struct error *err)
{
    uint64_t now = wait->timeout_ns == 0 && waited->start_ns == 0 && !ring->has_journal ? 0 : clock_mono_ns();
    if (waited->start_ns == 0)
        waited->start_ns = now;
    if (wait->memory != NULL && retire_is_gone(wait->memory, now))
        return error_set(err, EVBUS_ESTALE, "the bus was removed while we waited for room in %s/%u: open again",
                         ring->name, ring->partition);
    bool is_behind = wait->memory != NULL && is_writer_behind(ring);
    uint64_t timeout_ns = is_behind && wait->timeout_ns < BEHIND_NS ? BEHIND_NS : wait->timeout_ns;
    if (now - waited->start_ns >= timeout_ns)
        return full(ring, now - waited->start_ns, err);
    if (is_behind)
        ring_keeper(wait->memory);
    if (now - waited->start_ns < wait->spin_ns)
        clock_relax();
    else
        ring_wait_for_room(ring, timeout_ns - (now - waited->start_ns), &waited->blocked);
    return EVBUS_EAGAIN;
}

int partition_try(struct ring *ring, struct claim *claim, const uint64_t *frames, uint32_t n_cells,
                  const struct partition_wait *wait, uint64_t *out_pos, struct error *err)
{
    bool has_points = wait->has_points && point_is_any();
    int rc = ring_claim(ring, n_cells, claim, err);
    if (rc != EVBUS_OK)
        return rc == EVBUS_EFULL ? PARTITION_FULL : rc;
    if (has_points && (rc = point_pass(POINT_PUBLISH_CLAIMED, err)) != EVBUS_OK) {
        ring_abandon(claim);
        return rc;
    }
    uint64_t pos = claim->pos;
    claim->n_first = ((const struct frame_header *)frames)->n_cells;
    ring_write(claim, frames);
    if (has_points)
        point_pass(POINT_PUBLISH_WRITTEN, NULL);
    if (wait->fence != NULL && !holds(wait->fence)) {
        ring_abandon(claim);
        return error_set(err, EVBUS_EFENCED, "%s/%u: another one has taken over", ring->name, ring->partition);
    }
    rc = ring_commit(claim, err);
    if (has_points)
        point_pass(POINT_PUBLISH_COMMITTED, NULL);
    if (rc == EVBUS_OK)
        *out_pos = pos;
    return rc == EVBUS_EAGAIN ? PARTITION_CANCELLED : rc;
}

int partition_append_on(int tried, struct ring *ring, struct claim *claim, const uint64_t *frames, uint32_t n_cells,
                        const struct partition_wait *wait, uint64_t *out_pos, struct error *err)
{
    struct waited waited = {0};
    while (tried == PARTITION_FULL || tried == PARTITION_CANCELLED) {
        int rc = EVBUS_EAGAIN;
        if (tried == PARTITION_FULL && ((const struct frame_header *)frames)->n_cells != n_cells)
            return rc;
        if (tried == PARTITION_FULL && (rc = wait_for_room(ring, wait, &waited, err)) != EVBUS_EAGAIN)
            return rc;
        tried = partition_try(ring, claim, frames, n_cells, wait, out_pos, err);
    }
    return tried;
}

void partition_hurry(struct memory *memory, struct ring *ring, uint64_t pos)
{
    uint64_t journaled = ring_journaled(ring);
    uint64_t hurried = atomic_load_explicit(&ring->head->hurried, memory_order_relaxed);
    if (pos > journaled + ring->capacity / 4 && hurried != journaled + 1 &&
        atomic_compare_exchange_strong_explicit(&ring->head->hurried, &hurried, journaled + 1, memory_order_relaxed,
                                                memory_order_relaxed)) /* one of us, once a step of it */
        ring_keeper(memory);
}

static void note_woken(struct memory_log *log, uint32_t woken)
{
    if (atomic_load_explicit(&log->woken, memory_order_relaxed) != woken) /* other threads read its line */
        atomic_store_explicit(&log->woken, woken, memory_order_relaxed);
}

void partition_expect_now(const struct memory_log *log, const struct ring *ring, uint32_t woken)
{
    ring_expect(ring);
    doorbell_expect(log->head, ring->slots, woken);
}

void partition_ring(struct memory *memory, struct memory_log *log, const struct topic_set *topics)
{
    if (log->rings[0].is_visible_synced) /* its readers are woken when it is on disk */
        ring_keeper(memory);
    else
        note_woken(log, doorbell_ring(log->head, log->rings[0].slots, topics));
}

void partition_ring_one(struct memory *memory, struct memory_log *log, uint32_t topic)
{
    struct topic_set topics = {{0}};
    topic_set_add(&topics, topic);
    partition_ring(memory, log, &topics);
}

static int not_on_disk(const struct ring *ring, uint64_t pos, const char *why, uint64_t waited_ns, struct error *err)
{
    return error_set(err, EVBUS_EIO,
                     "%s/%u at %" PRIu64 ": the event is in memory, but not known to be on disk after %" PRIu64
                     " ms: %s. It may be delivered; publish it again with the same id, and `evbus doctor` tells more",
                     ring->name, ring->partition, pos, waited_ns / CLOCK_NS_PER_MS, why);
}

int partition_await_disk(struct memory *memory, struct ring *ring, uint64_t pos, uint64_t end, bool is_rung,
                         struct error *err)
{
    struct ring_head *head = ring->head;
    uint64_t start_ns = clock_mono_ns();
    for (;;) {
        uint32_t seen = atomic_load_explicit(&head->sync, memory_order_acquire);
        atomic_store_explicit(&head->sync_wanted, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst); /* edge SYNC, to: who waits for it */
        if (ring_synced(ring) >= end)
            return pos < atomic_load_explicit(&head->not_synced, memory_order_acquire)
                       ? not_on_disk(ring, pos, "the disk failed while it was written", clock_mono_ns() - start_ns, err)
                       : EVBUS_OK;
        uint64_t now = clock_mono_ns();
        uint32_t failed = atomic_load_explicit(&head->write_failed, memory_order_acquire);
        if (retire_is_gone(memory, now))
            return error_set(err, EVBUS_ESTALE, "the bus was removed while we waited for the disk in %s/%u: open again",
                             ring->name, ring->partition);
        if (failed != 0 && now - start_ns >= DISK_FAILED_NS)
            return not_on_disk(ring, pos, evbus_strerror(-(int)failed), now - start_ns, err);
        if (now - start_ns >= DISK_SLOW_NS)
            return not_on_disk(ring, pos,
                               hold_slot(&memory->control->seat) != 0 ? "the disk is slow, or the keeper stopped"
                                                                      : "no process that may keep the bus is attached",
                               now - start_ns, err);
        if (!is_rung) /* once is enough: rung while it syncs, it would look again for nothing while we publish the next */
            ring_keeper(memory);
        uint64_t round_ns = is_rung ? DISK_RUNG_NS : DISK_ROUND_NS;
        is_rung = false;
        futex_wait(&head->sync, seen, clock_left(round_ns, 0, round_ns));
    }
}

int partition_await_broker(struct memory *memory, struct ring *ring, uint64_t pos, uint64_t timeout_ns,
                           struct error *err)
{
    struct ring_head *head = ring->head;
    uint64_t start_ns = clock_mono_ns();
    uint64_t patience_ns = timeout_ns > BROKER_SLOW_NS ? timeout_ns : BROKER_SLOW_NS;
    for (;;) {
        uint32_t seen = atomic_load_explicit(&head->mirror, memory_order_acquire);
        atomic_store_explicit(&head->mirror_wanted, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst); /* edge MIRROR, to: who waits for it */
        if (atomic_load_explicit(&head->mirrored, memory_order_acquire) > pos)
            return EVBUS_OK;
        uint64_t now = clock_mono_ns();
        if (retire_is_gone(memory, now))
            return error_set(err, EVBUS_ESTALE,
                             "the bus was removed while we waited for the broker in %s/%u: open again", ring->name,
                             ring->partition);
        if (now - start_ns >= patience_ns)
            return error_set(err, EVBUS_EIO,
                             "%s/%u at %" PRIu64 ": the event is on the bus, and not known to be at the broker after "
                             "%" PRIu64
                             " ms: it goes there as soon as it can; `evbus bridge status` tells why it is not",
                             ring->name, ring->partition, pos, (now - start_ns) / CLOCK_NS_PER_MS);
        futex_wait(&head->mirror, seen, clock_left(DISK_ROUND_NS, 0, DISK_ROUND_NS));
    }
}

void partition_place(const struct memory *memory, const struct ring *ring, struct segment_place *out_place)
{
    char name[NAME_BYTES + 16];
    *out_place = (struct segment_place){
        .partition = ring->partition, .ring_cells = ring->capacity, .n_cells = segment_cells(ring->capacity)};
    snprintf(name, sizeof name, "%s/%u", ring->name, ring->partition);
    file_path(out_place->folder, memory->state.folder, name);
    memcpy(out_place->uuid, memory->control->uuid, sizeof out_place->uuid);
    snprintf(out_place->log, sizeof out_place->log, "%s", ring->name);
}

int partition_past_open(struct partition_past **out_past, const struct memory *memory, const struct ring *ring,
                        struct error *err)
{
    struct partition_past *past = malloc(sizeof *past);
    if (past == NULL)
        return error_no_memory(err, "reading the journal");
    past->ring = ring;
    partition_place(memory, ring, &past->place);
    journal_reader_init(&past->reader, &past->place);
    *out_past = past;
    return EVBUS_OK;
}

void partition_past_close(struct partition_past *past)
{
    if (past != NULL)
        journal_reader_close(&past->reader);
    free(past);
}

int partition_past_read(struct partition_past *past, uint64_t pos, const uint64_t **out_frame, uint64_t *out_next,
                        struct error *err)
{
    const struct ring_head *head = past->ring->head;
    uint64_t until = past->ring->is_visible_synced ? ring_synced(past->ring) : ring_journaled(past->ring);
    if (pos >= head->prev_end && pos < head->start) { /* what a restart skipped */
        *out_next = head->start;
        return JOURNAL_SKIP;
    }
    if (pos < head->start)
        until = head->prev_end;
    int seen = journal_read(&past->reader, pos, until, out_frame, out_next, err);
    if (seen != JOURNAL_END || pos >= until)
        return seen;
    *out_next = pos < head->start ? head->start : ring_released(past->ring);
    if (*out_next <= pos)
        return seen;
    error_set(err, EVBUS_ECORRUPT,
              "%s/%u at %" PRIu64 ": its file ends there, and was written up to %" PRIu64 ": it has been cut",
              past->ring->name, past->ring->partition, pos, until);
    return JOURNAL_DAMAGED;
}

static int fetch_past(struct partition_past *past, uint64_t pos, uint64_t *buffer, uint64_t *out_next,
                      struct error *err)
{
    const uint64_t *frame;
    int seen = partition_past_read(past, pos, &frame, out_next, err);
    switch (seen) {
    case JOURNAL_FRAME:
        if (((const struct frame_header *)frame)->n_cells > past->ring->frame_cells_max)
            return PARTITION_LOST; /* of a life with larger rings */
        memcpy(buffer, frame, ((const struct frame_header *)frame)->n_cells * (size_t)CELL_BYTES);
        return PARTITION_FRAME;
    case JOURNAL_SKIP:
        return PARTITION_SKIP;
    case JOURNAL_END:
        return PARTITION_NOTHING;
    case JOURNAL_GONE:
    case JOURNAL_DAMAGED:
        return PARTITION_LOST;
    default:
        return seen;
    }
}

int partition_fetch(struct partition_past **inout_past, const struct memory *memory, const struct ring *ring,
                    uint64_t pos, uint64_t *buffer, uint64_t *out_next, struct error *err)
{
    uint64_t word;
    enum ring_seen seen = ring_look(ring, pos, &word);
    if (seen == RING_COMMITTED)
        seen = ring_copy_header(ring, pos, (struct frame_header *)buffer);
    if (seen == RING_COMMITTED)
        seen = ring_copy_rest(ring, pos, buffer);
    switch (seen) {
    case RING_COMMITTED:
        *out_next = pos + ((const struct frame_header *)buffer)->n_cells;
        return PARTITION_FRAME;
    case RING_SKIP:
        *out_next = pos + word_cells(word);
        return PARTITION_SKIP;
    case RING_CORRUPT:
        *out_next = ring_resync(ring, pos);
        return *out_next > pos ? PARTITION_LOST : PARTITION_NOTHING;
    case RING_OVERTAKEN:
        break;
    default:
        return PARTITION_NOTHING;
    }
    *out_next = ring_released(ring);
    if (!ring->has_journal)
        return PARTITION_LOST;
    int rc = *inout_past != NULL ? EVBUS_OK : partition_past_open(inout_past, memory, ring, err);
    return rc == EVBUS_OK ? fetch_past(*inout_past, pos, buffer, out_next, err) : rc;
}

/* The base of the last file that was begun before a time, where that is beyond pos. */
static int skip_files(const struct memory *memory, const struct ring *ring, uint64_t time_ns, uint64_t *inout_pos,
                      struct error *err)
{
    struct segment_place place;
    uint64_t *bases;
    size_t n;
    partition_place(memory, ring, &place);
    int rc = journal_list(&place, &bases, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    for (size_t i = n; i-- > 1;) { /* the first one is where we start anyway */
        struct segment segment;
        if (bases[i] <= *inout_pos || segment_open(&segment, &place, bases[i], false, NULL) != EVBUS_OK)
            continue;
        bool is_before = segment.created_ns < time_ns;
        segment_close(&segment);
        if (is_before) {
            *inout_pos = bases[i];
            break;
        }
    }
    free(bases);
    return EVBUS_OK;
}

int partition_first(const struct memory *memory, const struct ring *ring, uint64_t pos, uint64_t time_ns,
                    uint64_t position, uint64_t *out_pos, struct error *err)
{
    struct partition_past *past = NULL;
    uint64_t *buffer = malloc((size_t)ring->frame_cells_max * CELL_BYTES);
    int rc = buffer != NULL ? EVBUS_OK : error_no_memory(err, "a frame");
    if (rc == EVBUS_OK && ring->has_journal && position != UINT64_MAX) {
        uint64_t base = position - position % segment_cells(ring->capacity); /* it may point into a frame */
        pos = base > pos ? base : pos;
    } else if (rc == EVBUS_OK && ring->has_journal) {
        rc = skip_files(memory, ring, time_ns, &pos, err);
    }
    while (rc >= 0 && pos < position) {
        uint64_t next;
        rc = partition_fetch(&past, memory, ring, pos, buffer, &next, err);
        const struct frame_header *header = (const struct frame_header *)buffer;
        if (rc < 0 || rc == PARTITION_NOTHING ||
            (rc == PARTITION_FRAME && header->kind == FRAME_EVENT && header->timestamp_ns >= time_ns))
            break;
        pos = next;
    }
    partition_past_close(past);
    free(buffer);
    *out_pos = pos;
    return rc < 0 ? rc : EVBUS_OK;
}
