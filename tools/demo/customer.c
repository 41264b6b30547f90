/* customer.c: customer-service keeps an account per customer: orders, bookings, and points for what was paid.
 *
 *     payments.succeeded  a point for each whole pound, reckoned in pence from the text of the amount
 *     orders.created, bookings.created   one more
 *
 * The payment may come before its order: between topics no order is promised (ADR 003, "Ordering"). So whichever is
 * first opens the account, and every change is a sum: it does not matter who is first. */
#include "ledger.h"
#include "orders.h"
#include "service.h"

#include <stdio.h>
#include <string.h>

static struct ledger ledger;
static sqlite3_stmt *add;

static bool open_customer(struct service *service)
{
    if (!ledger_open(&ledger, service, "customer.db",
                     "CREATE TABLE IF NOT EXISTS account (customer TEXT PRIMARY KEY, orders INTEGER NOT NULL,"
                     "  bookings INTEGER NOT NULL, points INTEGER NOT NULL)"))
        return false;
    add = ledger_prepare(&ledger, "INSERT INTO account (customer, orders, bookings, points) VALUES (?1, ?2, ?3, ?4)"
                                  "  ON CONFLICT (customer) DO UPDATE SET orders = orders + excluded.orders,"
                                  "  bookings = bookings + excluded.bookings, points = points + excluded.points");
    return add != NULL;
}

static bool bind(const char *customer, int orders, int bookings, uint64_t points)
{
    return sqlite3_bind_text(add, 1, customer, -1, SQLITE_TRANSIENT) == SQLITE_OK &&
           sqlite3_bind_int(add, 2, orders) == SQLITE_OK && sqlite3_bind_int(add, 3, bookings) == SQLITE_OK &&
           sqlite3_bind_int64(add, 4, (sqlite3_int64)points) == SQLITE_OK;
}

static enum evbus_outcome add_to_account(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    char customer[256];
    char amount[256];
    size_t len;
    uint64_t pence = 0;
    enum topic topic = topic_of(event->topic);
    bool is_payment = topic == PAYMENTS;
    if (evbus_key_of_member(event->payload, event->payload_len, "customerId", customer, &len) != EVBUS_OK ||
        (is_payment && (evbus_key_of_member(event->payload, event->payload_len, "amount", amount, &len) != EVBUS_OK ||
                        !cents_of(amount, &pence)))) {
        (void)snprintf(error, EVBUS_ERROR_MAX, "no customerId, or no amount with two decimals");
        return EVBUS_REJECT;
    }
    bool is_good = bind(customer, topic == ORDERS, topic == BOOKINGS, pence / 100) && ledger_change(&ledger, add);
    return is_good ? EVBUS_DONE : evbus_once_sqlite_failed(ledger.db, error);
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    return ledger_once(&ledger, event, add_to_account, error);
}

static void close_customer(void)
{
    ledger_close(&ledger);
}

const struct service_kind customer_service = {
    .name = "customer-service",
    .group = CUSTOMER,
    .open = open_customer,
    .handle = handle,
    .close = close_customer,
};
