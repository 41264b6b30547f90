/* appointment.c: appointment-service publishes bookings of the showroom: one for each of the first 60 customers.
 *
 * The payload is made by jansson, since names of people and companies hold what JSON must escape. Key is the
 * bookingId. */
#include "orders.h"
#include "service.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GAP_NS (120 * NS_PER_MS)

static bool publish_booking(struct service *service, const struct order *order, unsigned number)
{
    char id[ID_BYTES];
    (void)snprintf(id, sizeof id, "B%03u", number % 1000);
    json_t *booking = json_pack("{ss ss ss ss ss si}", "bookingId", id, "customerId", order->customer, "company",
                                order->company, "contact", order->contact, "what", "kitchen consultation", "minutes",
                                60);
    char *text = booking != NULL ? json_dumps(booking, JSON_COMPACT) : NULL;
    bool is_good = text != NULL && service_publish(service, BOOKINGS, id, text, strlen(text));
    free(text);
    json_decref(booking);
    return is_good;
}

static bool publish(struct service *service)
{
    struct orders orders;
    size_t first[N_BOOKINGS];
    bool is_good = orders_read(service->data, &orders);
    size_t n = is_good ? customers_of(&orders, first, N_BOOKINGS) : 0;
    uint64_t begun = monotonic_ns();
    for (size_t i = 0; is_good && i < n; i++) {
        sleep_until(begun + i * GAP_NS);
        is_good = publish_booking(service, &orders.all[first[i]], (unsigned)i + 1);
    }
    orders_free(&orders);
    return is_good;
}

const struct service_kind appointment_service = {
    .name = "appointment-service",
    .group = N_GROUPS,
    .publish = publish,
};
