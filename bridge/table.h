/* table.h: from a key of 128 bits, which is a hash of what is meant, to a number. See table.c. */
#ifndef EVBUS_BRIDGE_TABLE_H
#define EVBUS_BRIDGE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_key {
    uint64_t low, high;
};

/* Zeroed: empty. */
struct table {
    struct table_row *rows; /* NULL: none */
    size_t n, room;
};

/* Of texts and bytes, one behind the other. */
struct table_key table_key(const void *bytes, size_t len);

/* The number of a key; NULL: it is not there. Lives until the next table_put(). */
uint64_t *table_get(const struct table *table, struct table_key key);

/* false: no memory, and nothing has changed. */
bool table_put(struct table *table, struct table_key key, uint64_t value);

void table_free(struct table *table);

#endif
