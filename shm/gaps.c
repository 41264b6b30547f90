/* gaps.c: the dead letters of a group that nobody has settled, by key; for the group's members.
 *
 * Later events of a dead letter's key are told that one before them is missing (afterGap), or wait behind it (parked). Which keys
 * these are nobody writes down: it follows from the log of dead letters, which each member that takes events reads, once from its
 * front and then on; what counts as open is letters.c's to say. A letter is published before its entry's word moves on, so whoever runs
 * the next event of the key finds it here.
 *
 * Who cannot read the letters now (no memory, no file) goes on without: events come without the mark, and those that are parked stay
 * so. Of letters that were settled the log need keep nothing; so one that is not there any more is not open. Checked by tests/unit/test_gaps.c. */
#include "gaps.h"

#include <stdlib.h>

static uint64_t key_of(uint32_t log, uint32_t partition, uint32_t key_hash)
{
    return (uint64_t)log << 40 | (uint64_t)partition << 32 | key_hash;
}

/* The key's place, or the free one where it would stand. There is a free one. */
static struct gaps_key *key_at(const struct gaps *gaps, uint64_t key)
{
    uint64_t hash = key * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = (size_t)(hash ^ hash >> 32);; i++) {
        struct gaps_key *found = &gaps->keys[i & (gaps->n_places - 1)];
        if (found->key == key + 1 || found->key == 0)
            return found;
    }
}

/* Room for one key more; those that have no letter any more are dropped where it grows. */
static bool make_room(struct gaps *gaps)
{
    struct gaps before = *gaps;
    if (gaps->n_keys + 1 <= gaps->n_places / 2)
        return true;
    gaps->n_keys = 0;
    for (size_t i = 0; i < before.n_places; i++)
        gaps->n_keys += before.keys[i].n != 0;
    gaps->n_places = 64;
    while (gaps->n_places < (gaps->n_keys + 1) * 4)
        gaps->n_places *= 2;
    gaps->keys = calloc(gaps->n_places, sizeof *gaps->keys);
    if (gaps->keys == NULL) {
        *gaps = before;
        return false;
    }
    for (size_t i = 0; i < before.n_places; i++)
        if (before.keys[i].n != 0)
            *key_at(gaps, before.keys[i].key - 1) = before.keys[i];
    free(before.keys);
    return true;
}

/* There is room for a key. false: no memory. */
static bool note(struct gaps *gaps, uint64_t pos, const uint64_t *cells)
{
    const struct frame_header *header = (const struct frame_header *)cells;
    if (header->topic != gaps->topic || (header->kind != FRAME_DEAD && header->kind != FRAME_SETTLED))
        return true;
    const struct letters_row *row = letters_find(&gaps->letters, header->id);
    bool was_open = row != NULL && row->is_open;
    if (letters_note(&gaps->letters, gaps->memory, pos, cells, NULL) != EVBUS_OK)
        return false;
    row = letters_find(&gaps->letters, header->id);
    if (row == NULL || row->is_open == was_open || row->log >= LOGS_MAX)
        return true;
    struct gaps_key *key = key_at(gaps, key_of(row->log, row->partition, header->key_hash));
    if (key->key == 0 && !row->is_open)
        return true;
    gaps->n_keys += key->key == 0;
    key->key = key_of(row->log, row->partition, header->key_hash) + 1;
    if (row->is_open)
        key->n++;
    else if (key->n > 0)
        key->n--;
    return true;
}

/* What is not kept any more was settled, and its resolution may have gone before we came to it: from the front again. */
static void begin(struct gaps *gaps)
{
    letters_free(&gaps->letters);
    free(gaps->keys);
    gaps->keys = NULL;
    gaps->n_keys = gaps->n_places = 0;
    gaps->letters.end = ring_oldest(gaps->ring);
    gaps->is_begun = true;
}

bool gaps_follow(struct gaps *gaps)
{
    const struct ring *ring = gaps->ring;
    if (gaps->buffer == NULL)
        gaps->buffer = malloc((size_t)ring->frame_cells_max * CELL_BYTES);
    if (gaps->buffer == NULL)
        return false;
    if (!gaps->is_begun)
        begin(gaps);
    for (uint64_t tail = ring_tail(ring); gaps->letters.end < tail;) {
        uint64_t pos = gaps->letters.end, next = pos;
        int found = partition_fetch(&gaps->past, gaps->memory, ring, pos, gaps->buffer, &next, NULL);
        if (found == PARTITION_LOST && pos < ring_oldest(ring)) {
            begin(gaps);
            continue;
        }
        if (found == PARTITION_NOTHING)
            letters_clear_way(gaps->ring, pos, &gaps->blocked);
        if (found < 0 || found == PARTITION_NOTHING || next <= pos || !make_room(gaps) ||
            (found == PARTITION_FRAME && !note(gaps, pos, gaps->buffer)))
            return false;
        gaps->letters.end = next;
    }
    partition_past_close(gaps->past); /* files are needed at the beginning alone */
    gaps->past = NULL;
    return true;
}

void gaps_close(struct gaps *gaps)
{
    partition_past_close(gaps->past);
    letters_free(&gaps->letters);
    free(gaps->buffer);
    free(gaps->keys);
    *gaps = (struct gaps){.memory = gaps->memory, .ring = gaps->ring, .topic = gaps->topic};
}

bool gaps_has(const struct gaps *gaps, uint32_t log, uint32_t partition, uint32_t key_hash)
{
    return !gaps_is_empty(gaps) && key_at(gaps, key_of(log, partition, key_hash))->n != 0;
}
