/* orders.h: the demo's data: 830 orders and 77 products of Northwind, and money as integers. */
#ifndef DEMO_ORDERS_H
#define DEMO_ORDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRODUCTS_MAX 128 /* ids are 1..77 */
#define ID_BYTES     16

struct order_line {
    unsigned product;
    unsigned quantity;
};

struct order {
    char *json; /* the line as it stands in the file */
    size_t json_len;
    char id[ID_BYTES];       /* letters and digits, so is customer */
    char customer[ID_BYTES]; /* who has ordered */
    char *company;
    char *contact;
    char total[24]; /* as it stands in json */
    uint64_t cents;
    struct order_line *lines;
    size_t n_lines;
};

struct orders {
    struct order *all;
    size_t n;
};

bool orders_read(const char *data, struct orders *out_orders); /* false: it has complained */
void orders_free(struct orders *orders);

/* Units that shall be left of each product, by id; UINT64_MAX: no such product. */
bool products_read(const char *data, uint64_t out_units[PRODUCTS_MAX]);

/* The customers, in the order of their first order: the index of that order in the list. At most max of them. */
size_t customers_of(const struct orders *orders, size_t *out_first, size_t max);

/* "440.00" -> 44000. Money never is a double here. */
bool cents_of(const char *text, uint64_t *out_cents);

#endif
