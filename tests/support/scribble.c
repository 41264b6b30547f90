/* scribble.c: damages what processes share. See scribble.h. */
#include "scribble.h"

#include "pending.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define CELLS   UINT64_C(64) /* of the smallest ring */
#define N(rows) (sizeof(rows) / sizeof(rows)[0])

struct scribble_ring scribble_ring_of(const struct ring *ring)
{
    return (struct scribble_ring){ring->head, ring->words, ring->cells, ring->capacity, ring_bytes(ring->capacity)};
}

uint64_t scribble_edge(uint64_t *seed, uint64_t near)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     CELLS - 1,
                                     CELLS,
                                     CELLS + 1,
                                     FRAME_CELLS_MAX,
                                     UINT16_MAX,
                                     INT32_MAX,
                                     UINT32_MAX,
                                     POSITION_LIMIT,
                                     (UINT64_C(1) << 47),
                                     (UINT64_C(1) << 48) - 1,
                                     (UINT64_C(1) << 48),
                                     INT64_MAX,
                                     (uint64_t)INT64_MIN,
                                     UINT64_MAX - 1,
                                     UINT64_MAX};
    switch (trial_random(seed) % 3) {
    case 0:
        return edges[trial_random(seed) % N(edges)];
    case 1:
        return near + trial_random(seed) % 41 - 20;
    default:
        return trial_random(seed) >> trial_random(seed) % 64;
    }
}

void scribble_on_ring(const struct scribble_ring *ring, uint64_t *seed)
{
    struct ring_head *head = ring->head;
    uint64_t tail = atomic_load(&head->tail);
    uint64_t index = trial_random(seed) % ring->n_cells;
    if (trial_random(seed) % 2 == 0) /* mostly where something stands */
        index = (tail - trial_random(seed) % 20) % ring->n_cells;
    uint64_t lap = tail / ring->n_cells + 1 + trial_random(seed) % 3 - 1;
    uint32_t len = (uint32_t)scribble_edge(seed, 2) & FRAME_CELLS_MAX;
    struct frame_header *header = (struct frame_header *)(void *)&ring->cells[index * CELL_WORDS];
    switch (trial_random(seed) % 14) {
    case 0:
        atomic_store(&ring->words[index], trial_random(seed));
        break;
    case 1:
    case 2:
        atomic_store(&ring->words[index], word_make(lap, (enum word_state)(trial_random(seed) % 4),
                                                    (uint32_t)scribble_edge(seed, 1) & SLOTS_MAX, len));
        break;
    case 3:
        atomic_store(&head->tail, scribble_edge(seed, tail));
        break;
    case 4:
        atomic_store(&head->released, trial_random(seed) % 2 == 0
                                          ? scribble_edge(seed, 0)
                                          : RELEASED(scribble_edge(seed, tail), trial_random(seed)));
        break;
    case 5:
        atomic_store(&head->lows[trial_random(seed) % LOWS_MAX], scribble_edge(seed, tail));
        atomic_store(&head->fences[trial_random(seed) % FENCES_MAX],
                     FENCE_ENTRY(scribble_edge(seed, index), scribble_edge(seed, len), scribble_edge(seed, 1),
                                 trial_random(seed)));
        atomic_store(&head->fenced, (uint32_t)(trial_random(seed) % 2));
        break;
    case 6:
        head->salt = trial_random(seed);
        break;
    case 7:
        header->n_cells = (uint16_t)scribble_edge(seed, 2);
        break;
    case 8:
        header->area_len = (uint16_t)scribble_edge(seed, 40);
        header->key_len = (uint8_t)scribble_edge(seed, 8);
        break;
    case 9:
        header->n_representations = (uint8_t)scribble_edge(seed, 1);
        header->topic = (uint16_t)scribble_edge(seed, 1);
        header->publisher = (uint32_t)scribble_edge(seed, 1);
        break;
    case 10:
        header->position = scribble_edge(seed, tail);
        break;
    case 11:
        header->stamp = trial_random(seed) % 2 == 0 ? trial_random(seed) : head->salt ^ scribble_edge(seed, 2 * tail);
        break;
    case 12: { /* a bit, anywhere */
        unsigned char *byte = (unsigned char *)head + trial_random(seed) % ring->n_bytes;
        *byte = (unsigned char)(*byte ^ 1u << trial_random(seed) % 8);
        break;
    }
    default: { /* a stretch, anywhere */
        size_t at = trial_random(seed) % ring->n_bytes;
        size_t len_bytes = trial_random(seed) % 200;
        for (size_t i = at; i < at + len_bytes && i < ring->n_bytes; i++)
            ((unsigned char *)head)[i] = trial_random(seed) % 4 == 0 ? 0xff : (unsigned char)trial_random(seed);
    }
    }
}

/* ---- a bus ---- */

/* A stretch of a region: 0xff, zeroes, or anything. */
static void stretch(void *base, size_t at, size_t end, uint64_t *seed)
{
    unsigned char *bytes = base;
    size_t len = 1 + trial_random(seed) % (trial_random(seed) % 4 == 0 ? 2000 : 40);
    uint64_t kind = trial_random(seed) % 3;
    for (size_t i = at; i < at + len && i < end; i++)
        bytes[i] = kind == 0 ? 0xff : kind == 1 ? 0 : (unsigned char)trial_random(seed);
}

static void put32(_Atomic uint32_t *field, uint64_t *seed, uint64_t near)
{
    atomic_store(field, (uint32_t)scribble_edge(seed, near));
}

static void put64(_Atomic uint64_t *field, uint64_t *seed, uint64_t near)
{
    atomic_store(field, scribble_edge(seed, near));
}

static void on_part(struct group_part *part, const struct ring *ring, uint64_t *seed)
{
    uint64_t tail = ring_tail(ring);
    uint32_t i = (uint32_t)(trial_random(seed) % PENDING_MAX);
    uint16_t epoch = LEASE_EPOCH(atomic_load(&part->lease));
    if (trial_random(seed) % 2 == 0)
        i %= 4; /* where something stands */
    switch (trial_random(seed) % 8) {
    case 0:
        atomic_store(&part->cursor, trial_random(seed));
        break;
    case 1:
        atomic_store(&part->cursor, CURSOR_WORD(scribble_edge(seed, tail), epoch));
        break;
    case 2:
        atomic_store(&part->lease, LEASE_WORD(epoch + trial_random(seed) % 3 - 1, trial_random(seed) & SLOTS_MAX));
        break;
    case 3:
        put64(&part->lease, seed, 0);
        break;
    case 4:
        atomic_store(&part->pending[i], trial_random(seed));
        break;
    case 5: {
        struct pending pending = {.pos = scribble_edge(seed, tail),
                                  .epoch = epoch,
                                  .attempts = (uint32_t)trial_random(seed) % 16,
                                  .state = (enum pending_state)(trial_random(seed) % 8),
                                  .followers = trial_random(seed) % 2 == 0};
        atomic_store(&part->pending[i], pending_pack(&pending));
        break;
    }
    case 6:
        put64(&part->side[i].time_ns, seed, 0);
        put64(&part->side[i].note, seed, tail << 16);
        break;
    default:
        stretch(part, trial_random(seed) % sizeof *part, sizeof *part, seed);
    }
}

static void on_log_head(struct log_head *head, uint64_t *seed)
{
    struct sleeper *sleeper = &head->sleepers[trial_random(seed) % (trial_random(seed) % 2 == 0 ? 8 : SLEEPERS_MAX)];
    switch (trial_random(seed) % 9) {
    case 0:
        put32(&head->n_topics, seed, 3);
        break;
    case 1:
        stretch(head->topics, trial_random(seed) % sizeof head->topics, sizeof head->topics, seed);
        break;
    case 2: /* names without an end */
        memset(head->topics[trial_random(seed) % 4], 'a', NAME_BYTES);
        memset(head->name, 'a', trial_random(seed) % 2 == 0 ? NAME_BYTES : 0);
        break;
    case 3:
        put64(&head->sleeping[trial_random(seed) % N(head->sleeping)], seed, 0);
        break;
    case 4:
        put32(&sleeper->slot, seed, 1);
        break;
    case 5:
        put32(&sleeper->sleeps, seed, 0);
        put32(&sleeper->rung, seed, 0);
        put64(&sleeper->topics[0], seed, 0);
        break;
    case 6:
        put32(&head->pin_owners[trial_random(seed) % PINS_MAX], seed, 1);
        put32(&head->pin_numbers, seed, 0);
        break;
    case 7:
        put64(&head->group_topics[trial_random(seed) % 4][trial_random(seed) % 4], seed, 1);
        break;
    default:
        stretch(head, trial_random(seed) % sizeof *head, sizeof *head, seed);
    }
}

static void on_slot(struct slot *slot, uint64_t *seed)
{
    switch (trial_random(seed) % 5) {
    case 0:
        atomic_store(&slot->tid, (int32_t)scribble_edge(seed, 0));
        break;
    case 1:
        atomic_store(&slot->pid, (int32_t)scribble_edge(seed, 1));
        put64(&slot->pid_ns, seed, 0);
        break;
    case 2:
        put32(&slot->bell, seed, 0);
        break;
    case 3:
        put32(&slot->cancels_in_row, seed, 6);
        put64(&slot->cancels, seed, 0);
        put64(&slot->since_ns, seed, 0);
        break;
    default: /* all but the mutex */
        stretch(slot, sizeof slot->mutex + trial_random(seed) % (sizeof *slot - sizeof slot->mutex), sizeof *slot,
                seed);
    }
}

static void on_group(struct group_entry *group, uint64_t *seed)
{
    struct member *member = &group->members[trial_random(seed) % 4];
    switch (trial_random(seed) % 6) {
    case 0:
        put32(&group->state, seed, GROUP_LIVE);
        break;
    case 1:
        group->flags = (uint32_t)scribble_edge(seed, 2);
        group->dlq_topic = (uint32_t)scribble_edge(seed, 1);
        group->replay_topic = (uint32_t)scribble_edge(seed, 1);
        break;
    case 2:
        put32(&group->changes, seed, 0);
        put32(&group->member_numbers, seed, 0);
        put32(&group->was_joined, seed, 0);
        break;
    case 3:
        memset(group->name, 'a' + (int)(trial_random(seed) % 3), sizeof group->name);
        break;
    case 4:
        put32(&member->owner, seed, 1);
        put64(&member->logs, seed, 0);
        put64(&member->progress_ns, seed, 0);
        break;
    default:
        stretch(group, trial_random(seed) % sizeof *group, sizeof *group, seed);
    }
}

static void on_control(struct control *control, uint64_t *seed)
{
    switch (trial_random(seed) % 16) {
    case 0:
        put32(&control->n_logs, seed, 4);
        break;
    case 1:
        put32(&control->generation, seed, 1);
        break;
    case 2:
        put32(&control->seat, seed, 1);
        put32(&control->admin, seed, 1);
        put32(&control->settler, seed, 1);
        put64(&control->witnesses, seed, 1);
        put32(&control->publishers, seed, 1);
        put64(&control->burials, seed, 0);
        put32(&control->slots_end, seed, 1);
        break;
    case 3:
        put32(&control->catalogue_len[trial_random(seed) % 2], seed, 200);
        break;
    case 4:
        stretch(control->catalogue, trial_random(seed) % 2 * CATALOGUE_BYTES + trial_random(seed) % 400,
                sizeof control->catalogue, seed);
        break;
    case 5:
        stretch(control->logs, trial_random(seed) % sizeof control->logs, sizeof control->logs, seed);
        break;
    case 6:
        stretch(control->publisher_names, trial_random(seed) % sizeof control->publisher_names,
                sizeof control->publisher_names, seed);
        break;
    case 7: /* magic, fingerprint, uuid ... retired: rarely, since then nobody gets any further */
        if (trial_random(seed) % 4 == 0)
            stretch(control, trial_random(seed) % offsetof(struct control, seat), offsetof(struct control, seat), seed);
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        on_group(&control->groups[trial_random(seed) % 3], seed);
        break;
    default:
        on_slot(&control->slots[1 + trial_random(seed) % (trial_random(seed) % 4 == 0 ? SLOTS_MAX : 20)], seed);
    }
}

void scribble_on_bus(const struct memory *memory, uint64_t *seed)
{
    const struct memory_log *log = &memory->logs[trial_random(seed) % memory_n_logs(memory)];
    uint32_t partition = (uint32_t)(trial_random(seed) % log->n_partitions);
    const struct ring *ring = &log->rings[partition];
    struct scribble_ring target = scribble_ring_of(ring);
    switch (trial_random(seed) % 8) {
    case 0:
    case 1:
        on_part(memory_part(log, partition, (uint32_t)(trial_random(seed) % 3)), ring, seed);
        break;
    case 2:
        on_log_head(log->head, seed);
        break;
    case 3:
    case 4:
        on_control(memory->control, seed);
        break;
    default:
        scribble_on_ring(&target, seed);
    }
}

/* ---- and mends it ---- */

struct scribble_copy {
    struct control *control;
    void *logs[LOGS_MAX];
};

static void *copy_of(const void *from, size_t len)
{
    void *copy = malloc(len);
    cr_assert_not_null(copy);
    return memcpy(copy, from, len);
}

struct scribble_copy *scribble_copy_make(const struct memory *memory)
{
    struct scribble_copy *copy = calloc(1, sizeof *copy);
    cr_assert_not_null(copy);
    copy->control = copy_of(memory->control, sizeof *memory->control);
    for (uint32_t i = 0; i < memory_n_logs(memory); i++)
        copy->logs[i] = copy_of(memory->logs[i].head, memory->logs[i].region.len_bytes);
    return copy;
}

/* From one field on to another. */
static void put_back(struct control *to, const struct control *from, size_t at, size_t end)
{
    memcpy((char *)to + at, (const char *)from + at, end - at);
}

void scribble_copy_back(const struct scribble_copy *copy, const struct memory *memory)
{
    struct control *control = memory->control;
    put_back(control, copy->control, 0, offsetof(struct control, seat));
    put_back(control, copy->control, offsetof(struct control, logs), offsetof(struct control, slots));
    put_back(control, copy->control, offsetof(struct control, publisher_names), sizeof *control);
    for (uint32_t i = 0; i < memory_n_logs(memory); i++)
        if (copy->logs[i] != NULL)
            memcpy(memory->logs[i].head, copy->logs[i], memory->logs[i].region.len_bytes);
}

void scribble_copy_free(struct scribble_copy *copy)
{
    free(copy->control);
    for (int i = 0; i < LOGS_MAX; i++)
        free(copy->logs[i]);
    free(copy);
}
