/* order_payment.c: order-payment-service takes 830 orders, and publishes what has happened.
 *
 *     orders.created      the order, as it stands in the file, byte for byte
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

#include <stdio.h>
#include <string.h>

#define GAP_NS       (10 * NS_PER_MS) /* between two orders: slow enough to watch */
#define ORDER_KILLED "10768"

static struct outbox outbox;

/* out_is_new false: in a life before. */
static bool take_order(const struct order *order, bool *out_is_new)
{
    char payment[256];
    int len = snprintf(
        payment, sizeof payment,
        "{\"paymentId\":\"P%s\",\"orderId\":\"%s\",\"customerId\":\"%s\",\"amount\":%s,\"currency\":\"GBP\"}",
        order->id, order->id, order->customer, order->total);
    const struct note notes[] = {
        {.topic = ORDERS, .key = order->id, .payload = order->json, .len = order->json_len},
        {.topic = PAYMENTS, .key = order->id, .payload = payment, .len = (size_t)len},
    };
    return len > 0 && (size_t)len < sizeof payment && outbox_publish(&outbox, notes, 2, out_is_new);
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
