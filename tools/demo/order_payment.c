/* order_payment.c: order-payment-service takes 830 orders, and publishes what has happened.
 *
 *     orders.created      the order, as it stands in the file, byte for byte
 *     payments.succeeded  the same order's payment; its amount is copied as text, so 440.00 stays 440.00
 *
 * Key is the orderId: all that happens to an order stays in its order, and different orders go side by side. It calls
 * nobody, waits for nobody, and does not know who listens: a dead notification-service costs a customer at the till
 * nothing. */
#include "orders.h"
#include "service.h"

#include <stdio.h>
#include <string.h>

#define GAP_NS (10 * NS_PER_MS) /* between two orders: slow enough to watch */

static bool publish_payment(struct service *service, const struct order *order)
{
    char payment[256];
    int len = snprintf(
        payment, sizeof payment,
        "{\"paymentId\":\"P%s\",\"orderId\":\"%s\",\"customerId\":\"%s\",\"amount\":%s,\"currency\":\"GBP\"}",
        order->id, order->id, order->customer, order->total);
    return len > 0 && (size_t)len < sizeof payment &&
           service_publish(service, PAYMENTS, order->id, payment, (size_t)len);
}

static bool publish(struct service *service)
{
    struct orders orders;
    bool is_good = orders_read(service->data, &orders);
    uint64_t begun = monotonic_ns();
    for (size_t i = 0; is_good && i < orders.n; i++) {
        const struct order *order = &orders.all[i];
        sleep_until(begun + i * GAP_NS);
        is_good = service_publish(service, ORDERS, order->id, order->json, order->json_len) &&
                  publish_payment(service, order);
    }
    orders_free(&orders);
    return is_good;
}

const struct service_kind order_payment_service = {
    .name = "order-payment-service",
    .group = N_GROUPS,
    .publish = publish,
};
