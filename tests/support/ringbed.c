/* ringbed.c: a ring of our own memory, played step by step. */
#include "ringbed.h"

#include "slot.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define SALT UINT64_C(0x5a17ed0c0ffee123)

static void *zeroed(size_t len)
{
    void *memory = aligned_alloc(64, (len + 63) / 64 * 64);
    cr_assert_not_null(memory);
    return memset(memory, 0, len);
}

struct bed bed_of(uint64_t n_cells)
{
    struct bed bed = {.slots = zeroed((SLOTS_MAX + 1) * sizeof(struct slot)), .memory = zeroed(ring_bytes(n_cells))};
    ring_make(bed.memory, SALT);
    ring_view(&bed.ring, bed.memory, n_cells, bed.slots, "test.a", 3);
    return bed;
}

struct bed bed_make(void)
{
    return bed_of(CELLS);
}

void bed_end(struct bed *bed)
{
    free(bed->slots);
    free(bed->memory);
}

void bed_set_slot(struct bed *bed, uint32_t slot, bool is_alive)
{
    atomic_store((_Atomic uint32_t *)slot_lock_word(&bed->slots[slot]), is_alive ? TID + slot : 0);
    atomic_store(&bed->slots[slot].tid, (int32_t)(TID + slot));
}

uint64_t *bed_word(struct bed *bed, uint64_t pos)
{
    return (uint64_t *)&bed->ring.words[ring_index(&bed->ring, pos)];
}

uint64_t *bed_cells(struct bed *bed, uint64_t pos)
{
    return (uint64_t *)&bed->ring.cells[ring_index(&bed->ring, pos) * CELL_WORDS];
}

void bed_set_tail(struct bed *bed, uint64_t tail)
{
    atomic_store(&bed->ring.head->tail, tail);
}

void bed_set_released(struct bed *bed, uint64_t released)
{
    atomic_store(&bed->ring.head->released, RELEASED(released, 0));
}

/* ---- frames whose every byte follows from who made them and their number ---- */

uint64_t bed_mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t byte_words(uint32_t maker, uint64_t number, size_t i)
{
    return bed_mix(bed_mix((uint64_t)maker << 40 | number) + i);
}

void bed_fill(uint64_t *frame, uint32_t n_cells, uint32_t maker, uint64_t number)
{
    struct frame_header header = {.format = 1, .kind = 1, .n_cells = (uint16_t)n_cells};
    header.timestamp_ns = number;
    header.publisher = maker;
    header.key_hash = (uint32_t)bed_mix(number);
    memcpy(frame, &header, sizeof header);
    for (size_t i = CELL_WORDS; i < (size_t)n_cells * CELL_WORDS; i++)
        frame[i] = byte_words(maker, number, i);
}

uint32_t bed_fill_run(uint64_t *frames, const uint32_t *lengths, size_t n, uint32_t maker, uint64_t number)
{
    uint32_t n_cells = 0;
    for (size_t i = 0; i < n; n_cells += lengths[i++])
        bed_fill(frames + n_cells * (size_t)CELL_WORDS, lengths[i], maker, number + i);
    return n_cells;
}

/* Is every byte of this copy of the frame at pos from its maker? */
bool bed_is_whole(const uint64_t *frame, uint64_t pos)
{
    struct frame_header header;
    memcpy(&header, frame, sizeof header);
    if (header.position != pos || header.format != 1 || header.kind != 1 || header.flags != 0 ||
        header.key_hash != (uint32_t)bed_mix(header.timestamp_ns))
        return false;
    for (size_t i = CELL_WORDS; i < (size_t)header.n_cells * CELL_WORDS; i++)
        if (frame[i] != byte_words(header.publisher, header.timestamp_ns, i))
            return false;
    return true;
}

uint64_t bed_claim(struct bed *bed, struct claim *claim, uint32_t slot, uint32_t n_cells)
{
    struct error err = {""};
    *claim = (struct claim){.slot = slot};
    int rc = ring_claim(&bed->ring, n_cells, claim, &err);
    cr_assert_eq(rc, EVBUS_OK, "ring_claim: %d %s", rc, err.text);
    return claim->pos;
}

uint64_t bed_write(struct bed *bed, struct claim *claim, uint32_t slot, uint32_t n_cells, uint64_t number)
{
    uint64_t frame[CELLS * CELL_WORDS];
    uint64_t pos = bed_claim(bed, claim, slot, n_cells);
    bed_fill(frame, n_cells, slot, number);
    ring_write(claim, frame);
    return pos;
}

uint64_t bed_write_run(struct bed *bed, struct claim *claim, uint32_t slot, const uint32_t *lengths, size_t n,
                       uint64_t number)
{
    uint64_t frames[CELLS * CELL_WORDS];
    uint64_t pos = bed_claim(bed, claim, slot, bed_fill_run(frames, lengths, n, slot, number));
    claim->n_first = lengths[0];
    ring_write(claim, frames);
    return pos;
}

void bed_write_front(const struct claim *run, const uint64_t *frames, const uint32_t *lengths, size_t n)
{
    struct claim front = *run;
    front.n_cells = 0;
    for (size_t i = 0; i < n; i++)
        front.n_cells += lengths[i];
    if (n > 0)
        ring_write(&front, frames);
}

uint64_t bed_publish(struct bed *bed, uint32_t slot, uint32_t n_cells, uint64_t number)
{
    struct claim claim;
    struct error err = {""};
    uint64_t pos = bed_write(bed, &claim, slot, n_cells, number);
    cr_assert_eq(ring_commit(&claim, &err), EVBUS_OK, "%s", err.text);
    return pos;
}

enum ring_seen bed_look(struct bed *bed, uint64_t pos)
{
    uint64_t word;
    return ring_look(&bed->ring, pos, &word);
}

enum ring_seen bed_copy(struct bed *bed, uint64_t pos, uint64_t *frame)
{
    enum ring_seen seen = ring_copy_header(&bed->ring, pos, (struct frame_header *)frame);
    return seen == RING_COMMITTED ? ring_copy_rest(&bed->ring, pos, frame) : seen;
}
