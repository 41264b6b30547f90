/* fence.c: the cells of a writer that sleeps are left out of each lap, so that one stopped producer does not fill its
 * partition [R5].
 *
 *   put     whoever needs room meets the CANCELLED word of a living writer at `released`:
 *             1  the entry {cell, length, slot, nonce}: the one that names this cell and slot already is taken over, else
 *                a free place, else one that is over                                    CAS, edge FENCE, from
 *             2  CAS word: CANCELLED -> PAD that keeps the slot; then `released` passes it
 *             3  lost 2, and the writer has said PAD itself: the entry is over, drop it
 *   claim   loads `released`, THEN the entries (edge FENCE, to). What would overlap a fence becomes a pad that ends where it
 *           starts; at its first cell a pad of just its cells that keeps its slot: so the word there is its writer's lap after lap
 *   end     the writer wakes, finds its commit and its CANCELLED -> PAD refused: CAS the pad's slot to nobody (release: it has
 *           written its last byte there); then drops its entries
 *   over    is an entry whose cell's word is not CANCELLED or PAD with its slot and length. Anybody drops it
 *   death   burial, after the words, and whoever meets a dead writer's fence do what the writer would have done
 *
 * Why that is enough. `released` passes the word only after 2, so after 1: who has loaded a `released` beyond the claim sees the
 * entry, and who has not cannot claim its cells. Until the writer says so the word is its own, whatever the lap, for pads at
 * that cell carry it on by the CAS that claims them: no living fence looks over [keeps ONE-WRITER]. Whoever is killed or
 * stopped between 1 and 2 leaves an entry and a CANCELLED word: the next takes the entry over and goes on; between 2 and 3
 * an entry that is over. The nonce lets a late drop, or a late 3, hit no entry but the one it has seen.
 * Nobody waits for the writer, but for a frame that fits nowhere beside the fences, or when all 16 are in use [keeps PROGRESS].
 * Rule R5. Checked by tests/model/slots.pml, tests/unit/test_fence.c and tests/crash/test_fences.c. */
#include "fence.h"

#include "slot.h"

static uint64_t word_of_nobody(uint64_t word)
{
    return word_make(word_lap(word), WORD_PAD, 0, word_cells(word));
}

static bool is_writers(uint64_t word, uint64_t entry)
{
    return word_slot(word) == FENCE_SLOT(entry) && word_cells(word) == FENCE_CELLS(entry) &&
           (word_state(word) == WORD_PAD || word_state(word) == WORD_CANCELLED);
}

/* Does the entry stand? false: it does not any more, or it is another by now. */
static bool stands(struct ring *ring, uint32_t index, uint64_t entry)
{
    _Atomic uint64_t *at = ring_word(ring, FENCE_CELL(entry));
    uint64_t word = atomic_load_explicit(at, memory_order_acquire); /* edge FENCED, to: who may write there again */
    if (is_writers(word, entry) && FENCE_SLOT(entry) != 0) {
        if (word_state(word) == WORD_CANCELLED || !slot_is_dead(&ring->slots[FENCE_SLOT(entry)]))
            return true;
        atomic_compare_exchange_strong_explicit(at, &word, word_of_nobody(word), memory_order_acq_rel,
                                                memory_order_relaxed); /* the word was read before its death [B6] */
        return false;
    }
    atomic_compare_exchange_strong_explicit(&ring->head->fences[index], &entry, 0, memory_order_acq_rel,
                                            memory_order_relaxed);
    return false;
}

static uint64_t load_entry(const struct ring *ring, uint32_t index)
{
    return atomic_load_explicit(&ring->head->fences[index], memory_order_acquire); /* edge FENCE, to: who claims */
}

/* Where an entry for this cell and slot goes; *out_before stands there now. FENCES_MAX: nowhere. */
static uint32_t find_place(struct ring *ring, uint64_t cell, uint32_t slot, uint64_t *out_before)
{
    uint32_t place = FENCES_MAX;
    *out_before = 0;
    for (uint32_t i = 0; i < FENCES_MAX; i++) {
        uint64_t entry = load_entry(ring, i);
        if (entry != 0 && FENCE_CELL(entry) == cell && FENCE_SLOT(entry) == slot) {
            *out_before = entry;
            return i;
        }
        if (entry == 0 || !stands(ring, i, entry))
            place = i;
    }
    return place;
}

bool fence_put(struct ring *ring, uint64_t pos, uint64_t word)
{
    struct ring_head *head = ring->head;
    uint64_t cell = ring_index(ring, pos);
    uint64_t nonce = atomic_fetch_add_explicit(&head->fence_nonce, 1, memory_order_relaxed);
    uint64_t entry = FENCE_ENTRY(cell, word_cells(word), word_slot(word), nonce);
    uint64_t before;
    uint32_t place;
    atomic_store_explicit(&head->fenced, 1, memory_order_relaxed);
    do {
        place = find_place(ring, cell, word_slot(word), &before);
        if (place == FENCES_MAX)
            return false;
    } while (!atomic_compare_exchange_strong_explicit(&head->fences[place], &before, entry, memory_order_acq_rel,
                                                      memory_order_relaxed));
    uint64_t pad = word_make(word_lap(word), WORD_PAD, word_slot(word), word_cells(word));
    if (atomic_compare_exchange_strong_explicit(ring_word(ring, pos), &word, pad, memory_order_acq_rel,
                                                memory_order_relaxed)) /* edge FENCE, from: the entry */
        atomic_fetch_add_explicit(&head->fences_ever, 1, memory_order_relaxed);
    else
        stands(ring, place, entry);
    return true;
}

bool fence_meet(struct ring *ring, uint64_t pos, uint32_t *n_cells, uint32_t *out_slot)
{
    uint64_t start = ring_index(ring, pos);
    bool is_met = false;
    for (uint32_t i = 0; i < FENCES_MAX; i++) {
        uint64_t entry = load_entry(ring, i);
        uint64_t cell = FENCE_CELL(entry);
        uint64_t end = cell + FENCE_CELLS(entry);
        if (entry == 0 || cell >= start + *n_cells || end <= start)
            continue;
        if (!stands(ring, i, entry)) {
            i--; /* another may have taken its place */
            continue;
        }
        is_met = true;
        *out_slot = cell == start ? FENCE_SLOT(entry) : 0;
        *n_cells = (uint32_t)(cell > start ? cell - start : end - start);
    }
    return is_met;
}

bool fence_leaves_room(struct ring *ring, uint32_t n_cells)
{
    for (uint64_t from = 0; from < ring->capacity;) {
        uint64_t first = ring->capacity, end = ring->capacity; /* the first fence behind `from` */
        for (uint32_t i = 0; i < FENCES_MAX; i++) {
            uint64_t entry = load_entry(ring, i);
            uint64_t cell = FENCE_CELL(entry);
            if (entry != 0 && cell < first && cell + FENCE_CELLS(entry) > from && stands(ring, i, entry)) {
                first = cell;
                end = cell + FENCE_CELLS(entry);
            }
        }
        if (first >= from + n_cells)
            return true;
        from = end;
    }
    return false;
}

void fence_end(struct ring *ring, uint64_t pos, uint32_t slot)
{
    uint64_t cell = ring_index(ring, pos);
    _Atomic uint64_t *at = ring_word(ring, cell);
    uint64_t word = atomic_load_explicit(at, memory_order_relaxed);
    while (
        word_state(word) == WORD_PAD && word_slot(word) == slot &&
        !atomic_compare_exchange_weak_explicit(at, &word, word_of_nobody(word), memory_order_acq_rel,
                                               memory_order_relaxed)) { /* edge FENCED, from: the writer's last byte */
    }
    for (uint32_t i = 0; i < FENCES_MAX; i++) {
        uint64_t entry = load_entry(ring, i);
        if (FENCE_CELL(entry) == cell && FENCE_SLOT(entry) == slot)
            atomic_compare_exchange_strong_explicit(&ring->head->fences[i], &entry, 0, memory_order_acq_rel,
                                                    memory_order_relaxed);
    }
}

void fence_bury(struct ring *ring, uint32_t slot)
{
    for (uint32_t i = 0; i < FENCES_MAX; i++) {
        uint64_t entry = load_entry(ring, i);
        if (entry != 0 && FENCE_SLOT(entry) == slot)
            fence_end(ring, FENCE_CELL(entry), slot);
    }
}
