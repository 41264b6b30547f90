/* orders.c: reads the demo's data, one JSON object a line.
 *
 *   names, numbers of pieces   by jansson
 *   money                      from the text of the number, by evbus_key_of_member(): jansson makes 440.00 a double
 *   ids                        letters and digits only: they become parts of file names and of JSON text as they are */
#include "orders.h"

#include "service.h"

#include <evbus/evbus.h>

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cents_of(const char *text, uint64_t *out_cents)
{
    uint64_t cents = 0;
    size_t n_whole = strspn(text, "0123456789");
    if (n_whole < 1 || n_whole > 12 || text[n_whole] != '.' || strspn(text + n_whole + 1, "0123456789") != 2 ||
        text[n_whole + 3] != '\0')
        return false;
    for (; *text != '\0'; text++)
        if (*text != '.')
            cents = cents * 10 + (uint64_t)(*text - '0');
    *out_cents = cents;
    return true;
}

static bool take_id(const json_t *object, const char *name, char out_id[ID_BYTES])
{
    const char *text = json_string_value(json_object_get(object, name));
    size_t len = text != NULL ? strlen(text) : 0;
    if (len < 1 || len >= ID_BYTES)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]))
            return false;
    memcpy(out_id, text, len + 1);
    return true;
}

static char *copy_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? strdup(text) : NULL;
}

static bool take_lines(const json_t *lines, struct order *order)
{
    order->n_lines = json_array_size(lines);
    order->lines = order->n_lines != 0 ? calloc(order->n_lines, sizeof *order->lines) : NULL;
    for (size_t i = 0; order->lines != NULL && i < order->n_lines; i++) {
        const json_t *line = json_array_get(lines, i);
        json_int_t product = json_integer_value(json_object_get(line, "productId"));
        json_int_t quantity = json_integer_value(json_object_get(line, "quantity"));
        if (product < 1 || product >= PRODUCTS_MAX || quantity < 1 || quantity > 1000000)
            return false;
        order->lines[i] = (struct order_line){.product = (unsigned)product, .quantity = (unsigned)quantity};
    }
    return order->lines != NULL;
}

static bool take_order(const json_t *object, struct order *order)
{
    char total[256];
    size_t len;
    if (!take_id(object, "orderId", order->id) || !take_id(object, "customerId", order->customer))
        return false;
    order->company = copy_of(object, "company");
    order->contact = copy_of(object, "contact");
    if (order->company == NULL || order->contact == NULL ||
        evbus_key_of_member(order->json, order->json_len, "total", total, &len) != EVBUS_OK ||
        len >= sizeof order->total || !cents_of(total, &order->cents))
        return false;
    memcpy(order->total, total, len + 1);
    return take_lines(json_object_get(object, "lines"), order);
}

/* Hands each line of a file to each(), parsed. */
static bool read_lines(const char *data, const char *name,
                       bool (*each)(void *context, const char *line, const json_t *), void *context)
{
    char path[PATH_BYTES];
    char *line = NULL;
    size_t cap = 0;
    size_t n = 0;
    ssize_t len;
    bool is_good = true;
    FILE *file = path_in(path, data, name) ? fopen(path, "re") : NULL;
    if (file == NULL) {
        complain("%s/%s: %s", data, name, strerror(errno));
        return false;
    }
    while (is_good && (len = getline(&line, &cap, file)) > 0) {
        line[strcspn(line, "\n")] = '\0';
        json_t *object = json_loads(line, 0, NULL);
        n++;
        is_good = object != NULL && each(context, line, object);
        json_decref(object);
    }
    if (!is_good)
        complain("%s line %zu: this is not what it was when we were written", path, n);
    else if (n == 0 || ferror(file))
        complain("%s: nothing could be read", path);
    is_good = is_good && n > 0 && !ferror(file);
    free(line);
    (void)fclose(file);
    return is_good;
}

static bool add_order(void *context, const char *line, const json_t *object)
{
    struct orders *orders = context;
    struct order *more = realloc(orders->all, (orders->n + 1) * sizeof *more);
    if (more == NULL)
        return false;
    orders->all = more;
    struct order *order = &orders->all[orders->n++];
    *order = (struct order){.json = strdup(line), .json_len = strlen(line)};
    return order->json != NULL && take_order(object, order);
}

bool orders_read(const char *data, struct orders *out_orders)
{
    *out_orders = (struct orders){0};
    if (read_lines(data, "northwind-orders.ndjson", add_order, out_orders))
        return true;
    orders_free(out_orders);
    return false;
}

void orders_free(struct orders *orders)
{
    for (size_t i = 0; i < orders->n; i++) {
        free(orders->all[i].json);
        free(orders->all[i].company);
        free(orders->all[i].contact);
        free(orders->all[i].lines);
    }
    free(orders->all);
    *orders = (struct orders){0};
}

static bool add_product(void *context, const char *line, const json_t *object)
{
    uint64_t *units = context;
    json_int_t id = json_integer_value(json_object_get(object, "productId"));
    const json_t *left = json_object_get(object, "unitsInStock");
    (void)line;
    if (id < 1 || id >= PRODUCTS_MAX || !json_is_integer(left) || json_integer_value(left) < 0)
        return false;
    units[id] = (uint64_t)json_integer_value(left);
    return true;
}

bool products_read(const char *data, uint64_t out_units[PRODUCTS_MAX])
{
    for (size_t i = 0; i < PRODUCTS_MAX; i++)
        out_units[i] = UINT64_MAX;
    return read_lines(data, "northwind-products.ndjson", add_product, out_units);
}

size_t customers_of(const struct orders *orders, size_t *out_first, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < orders->n && n < max; i++) {
        size_t k = 0;
        while (k < n && strcmp(orders->all[out_first[k]].customer, orders->all[i].customer) != 0)
            k++;
        if (k == n)
            out_first[n++] = i;
    }
    return n;
}
