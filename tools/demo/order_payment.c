/* order_payment.c: order-payment-service takes 830 orders, and publishes what has happened.
 *
 *     orders.created      the order, as it stands in the file, byte for byte; and beside it, in the same event, as version 2.0,
 *                         which says amounts in pence: who has not asked for it goes on with 1.0
 *     payments.succeeded  the same order's payment; its amount is copied as text, so 440.00 stays 440.00
 *
 * Key is the orderId: all that happens to an order stays in its order, and different orders go side by side. It calls
 * nobody, waits for nobody, and does not know who listens: a dead notification-service costs a customer at the till
 * nothing.
 *
 *   taken        an order and its payment are noted together, then both are published (outbox.c)
 *   the kill     behind the publish of one order we give the conductor the cue and wait for its SIGKILL: the order is
 *                out and not noted as sent, its payment is noted and not out. The next life sends both */
#include "orders.h"
#include "outbox.h"
#include "service.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GAP_NS       (10 * NS_PER_MS) /* between two orders: slow enough to watch */
#define ORDER_KILLED "10768"

static struct outbox outbox;

/* Version 2.0 of an order; free() it. NULL: no memory. */
static char *order_in_pence(const struct order *order)
{
    json_t *lines = json_array();
    for (size_t i = 0; i < order->n_lines; i++)
        json_array_append_new(lines, json_pack("{s:i,s:i}", "productId", (int)order->lines[i].product, "quantity",
                                               (int)order->lines[i].quantity));
    json_t *root = json_pack("{s:s,s:{s:s,s:s,s:s},s:s,s:I,s:o}", "orderId", order->id, "customer", "id",
                             order->customer, "company", order->company, "contact", order->contact, "currency", "GBP",
                             "totalPence", (json_int_t)order->cents, "lines", lines);
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

/* out_is_new false: in a life before. */
static bool take_order(const struct order *order, bool *out_is_new)
{
    char payment[256];
    int len = snprintf(
        payment, sizeof payment,
        "{\"paymentId\":\"P%s\",\"orderId\":\"%s\",\"customerId\":\"%s\",\"amount\":%s,\"currency\":\"GBP\"}",
        order->id, order->id, order->customer, order->total);
    char *in_pence = order_in_pence(order);
    const struct note notes[] = {
        {.topic = ORDERS, .key = order->id, .payload = order->json, .len = order->json_len, .payload_2 = in_pence},
        {.topic = PAYMENTS, .key = order->id, .payload = payment, .len = (size_t)len},
    };
    bool is_good = in_pence != NULL && len > 0 && (size_t)len < sizeof payment &&
                   outbox_publish(&outbox, notes, 2, out_is_new);
    free(in_pence);
    return is_good;
}

static bool publish(struct service *service)
{
    struct orders orders = {0};
    bool is_good = outbox_open(&outbox, service, ORDER_KILLED) && orders_read(service->data, &orders);
    uint64_t due = monotonic_ns();
    for (size_t i = 0; is_good && i < orders.n; i++) {
        bool is_new = false;
        is_good = take_order(&orders.all[i], &is_new);
        if (is_new)
            sleep_until(due += GAP_NS);
    }
    orders_free(&orders);
    return is_good;
}

static void close_outbox(void)
{
    outbox_close(&outbox);
}

const struct service_kind order_payment_service = {
    .name = "order-payment-service",
    .group = N_GROUPS,
    .publish = publish,
    .close = close_outbox,
};
