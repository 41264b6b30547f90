/* test_table.c: a number for each key, for as many as there are. */
#include "table.h"

#include <criterion/criterion.h>
#include <stdint.h>

static struct table_key key_of(uint64_t i)
{
    return table_key(&i, sizeof i);
}

Test(table, has_a_number_for_each_key_and_for_no_other)
{
    struct table table = {0};
    enum { N = 100000 };
    cr_expect_null(table_get(&table, key_of(0)));
    for (uint64_t i = 0; i < N; i++)
        cr_assert(table_put(&table, key_of(i), 3 * i));
    cr_expect_eq(table.n, (size_t)N);
    for (uint64_t i = 0; i < N; i++) {
        const uint64_t *found = table_get(&table, key_of(i));
        cr_assert_not_null(found, "%lu", (unsigned long)i);
        cr_assert_eq(*found, 3 * i);
    }
    for (uint64_t i = N; i < 2 * N; i++)
        cr_assert_null(table_get(&table, key_of(i)));
    table_free(&table);
}

Test(table, the_last_number_of_a_key_counts)
{
    struct table table = {0};
    cr_assert(table_put(&table, key_of(7), 1));
    cr_assert(table_put(&table, key_of(7), 2));
    cr_expect_eq(table.n, 1u);
    cr_expect_eq(*table_get(&table, key_of(7)), 2u);
    *table_get(&table, key_of(7)) = 5;
    cr_expect_eq(*table_get(&table, key_of(7)), 5u);
    table_free(&table);
    cr_expect_null(table_get(&table, key_of(7)));
}
