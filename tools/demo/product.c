/* product.c: product-service takes what is ordered out of the stock. Two members share the work, and one database.
 *
 *     opening stock  what shall be left (unitsInStock) + all that will be ordered: so each product must end at
 *                    unitsInStock, and one lost or doubled order shows
 *     an order       all its lines and its processed row in one transaction (ledger_once())
 *
 * An order for what is not there can never be handled: EVBUS_REJECT, a dead letter at once. */
#include "ledger.h"
#include "orders.h"
#include "service.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static struct ledger ledger;
static sqlite3_stmt *take;

static bool open_stock(const uint64_t left[PRODUCTS_MAX], const struct orders *orders)
{
    uint64_t units[PRODUCTS_MAX];
    memcpy(units, left, sizeof units);
    for (size_t i = 0; i < orders->n; i++)
        for (size_t k = 0; k < orders->all[i].n_lines; k++)
            units[orders->all[i].lines[k].product] += orders->all[i].lines[k].quantity;
    sqlite3_stmt *insert = ledger_prepare(&ledger, "INSERT OR IGNORE INTO stock (product, units) VALUES (?1, ?2)");
    bool is_good = insert != NULL && sqlite3_exec(ledger.db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
    for (int product = 1; is_good && product < PRODUCTS_MAX; product++) {
        if (left[product] == UINT64_MAX)
            continue;
        is_good = sqlite3_bind_int(insert, 1, product) == SQLITE_OK &&
                  sqlite3_bind_int64(insert, 2, (sqlite3_int64)units[product]) == SQLITE_OK &&
                  sqlite3_step(insert) == SQLITE_DONE && sqlite3_reset(insert) == SQLITE_OK;
    }
    is_good = is_good && sqlite3_exec(ledger.db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    if (!is_good)
        complain("product-service: opening stock: %s", sqlite3_errmsg(ledger.db));
    return is_good;
}

static bool open_product(struct service *service)
{
    uint64_t left[PRODUCTS_MAX];
    struct orders orders = {0};
    bool is_good = ledger_open(&ledger, service, "product.db",
                               "CREATE TABLE IF NOT EXISTS stock ("
                               "  product INTEGER PRIMARY KEY, units INTEGER NOT NULL CHECK (units >= 0))") &&
                   products_read(service->data, left) && orders_read(service->data, &orders) &&
                   open_stock(left, &orders);
    orders_free(&orders);
    ledger.holds = &service->board->members[service->member].holds_database;
    take = is_good ? ledger_prepare(&ledger, "UPDATE stock SET units = units - ?2 WHERE product = ?1 AND units >= ?2")
                   : NULL;
    return take != NULL;
}

/* Takes each line's units. false: out_product is what was missing, 0 when the database failed. */
static bool take_lines(const json_t *lines, json_int_t *out_product)
{
    *out_product = 0;
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *line = json_array_get(lines, i);
        json_int_t product = json_integer_value(json_object_get(line, "productId"));
        json_int_t quantity = json_integer_value(json_object_get(line, "quantity"));
        if (sqlite3_bind_int64(take, 1, product) != SQLITE_OK || sqlite3_bind_int64(take, 2, quantity) != SQLITE_OK)
            return false;
        if (!ledger_change(&ledger, take)) {
            if (sqlite3_errcode(ledger.db) == SQLITE_OK || sqlite3_errcode(ledger.db) == SQLITE_DONE)
                *out_product = product;
            return false;
        }
    }
    return true;
}

static enum evbus_outcome take_order(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    json_int_t missing = 0;
    enum evbus_outcome outcome = EVBUS_DONE;
    json_t *order = json_loadb(event->payload, event->payload_len, 0, NULL);
    const json_t *lines = json_object_get(order, "lines");
    if (!json_is_array(lines)) {
        (void)snprintf(error, EVBUS_ERROR_MAX, "an order without lines");
        outcome = EVBUS_REJECT;
    } else if (!take_lines(lines, &missing) && missing == 0) {
        outcome = evbus_once_sqlite_failed(ledger.db, error);
    } else if (missing != 0) {
        (void)snprintf(error, EVBUS_ERROR_MAX, "product %lld: not so many are left", (long long)missing);
        outcome = EVBUS_REJECT;
    }
    json_decref(order);
    return outcome;
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    return ledger_once(&ledger, event, take_order, error);
}

static void close_product(void)
{
    ledger_close(&ledger);
}

const struct service_kind product_service = {
    .name = "product-service",
    .group = PRODUCT,
    .open = open_product,
    .handle = handle,
    .close = close_product,
};
