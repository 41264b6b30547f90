/* table.c: from a key of 128 bits, which is a hash of what is meant, to a number.
 *
 * Open addressing, half full at most; nothing is ever taken out. Two keys are the same thing: that two things have one key is less likely
 * than that memory flips a bit. Checked by tests/broker/test_table.c. */
#include "table.h"

#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct table_row {
    struct table_key key; /* both 0: empty */
    uint64_t value;
};

struct table_key table_key(const void *bytes, size_t len)
{
    XXH128_hash_t hash = XXH3_128bits(bytes, len);
    return (struct table_key){.low = hash.low64 | 1, .high = hash.high64}; /* never both 0 */
}

static struct table_row *row_of(struct table_row *rows, size_t room, struct table_key key)
{
    size_t i = (size_t)(key.high & (room - 1));
    while (rows[i].key.low != 0 && (rows[i].key.low != key.low || rows[i].key.high != key.high))
        i = (i + 1) & (room - 1);
    return &rows[i];
}

uint64_t *table_get(const struct table *table, struct table_key key)
{
    if (table->rows == NULL)
        return NULL;
    struct table_row *row = row_of(table->rows, table->room, key);
    return row->key.low != 0 ? &row->value : NULL;
}

static bool grow(struct table *table)
{
    size_t room = table->room != 0 ? 2 * table->room : 64;
    struct table_row *rows = calloc(room, sizeof *rows);
    if (rows == NULL)
        return false;
    for (size_t i = 0; i < table->room; i++)
        if (table->rows[i].key.low != 0)
            *row_of(rows, room, table->rows[i].key) = table->rows[i];
    free(table->rows);
    table->rows = rows;
    table->room = room;
    return true;
}

bool table_put(struct table *table, struct table_key key, uint64_t value)
{
    if (2 * (table->n + 1) > table->room && !grow(table))
        return false;
    struct table_row *row = row_of(table->rows, table->room, key);
    table->n += row->key.low == 0;
    *row = (struct table_row){.key = key, .value = value};
    return true;
}

void table_free(struct table *table)
{
    free(table->rows);
    *table = (struct table){0};
}
