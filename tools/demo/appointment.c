/* appointment.c: appointment-service publishes bookings of the showroom: one for each of the first 60 customers.
 *
 * The payload is made by jansson, since names of people and companies hold what JSON must escape. Key is the
 * bookingId. */
#include "orders.h"
#include "outbox.h"
#include "service.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GAP_NS (120 * NS_PER_MS)

static struct outbox outbox;

/* out_is_new false: in a life before. */
static bool take_booking(const struct order *order, unsigned number, bool *out_is_new)
{
    char id[ID_BYTES];
    (void)snprintf(id, sizeof id, "B%03u", number % 1000);
    json_t *booking = json_pack("{ss ss ss ss ss si}", "bookingId", id, "customerId", order->customer, "company",
                                order->company, "contact", order->contact, "what", "kitchen consultation", "minutes",
                                60);
    char *text = booking != NULL ? json_dumps(booking, JSON_COMPACT) : NULL;
    bool is_good = text != NULL;
    if (is_good)
        is_good = outbox_publish(
            &outbox, &(struct note){.topic = BOOKINGS, .key = id, .payload = text, .len = strlen(text)}, 1, out_is_new);
    free(text);
    json_decref(booking);
    return is_good;
}

static bool publish(struct service *service)
{
    struct orders orders = {0};
    size_t first[N_BOOKINGS];
    bool is_good = outbox_open(&outbox, service, NULL) && orders_read(service->data, &orders);
    size_t n = is_good ? customers_of(&orders, first, N_BOOKINGS) : 0;
    uint64_t due = monotonic_ns();
    for (size_t i = 0; is_good && i < n; i++) {
        bool is_new = false;
        is_good = take_booking(&orders.all[first[i]], (unsigned)i + 1, &is_new);
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

const struct service_kind appointment_service = {
    .name = "appointment-service",
    .group = N_GROUPS,
    .publish = publish,
    .close = close_outbox,
};
