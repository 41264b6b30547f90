/* two_hosts_table.c: the second act's table and checks.
 *
 *     event   how many there are on the bus of the checkout, in Redis, and on the bus of the office; and how the latter two
 *             differ from the first, event by event (records.c)
 *     flow    what services did with them, as in the first act
 *     time    how long publishing took while Redis was up, while it was away, and when it was back; and from publish to
 *             handler. We show it and check nothing of it: how fast is a matter of the machine
 *
 * Checked are events against events, and stock, mails and points against the orders. */
#include "two_hosts.h"

#include "check.h"
#include "orders.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const enum topic topics[] = {ORDERS, PAYMENTS};
enum { N_ROWS = sizeof topics / sizeof topics[0] };

/* --- table ------------------------------------------------------------------------------------------------------- */

static void print_event(struct two_hosts *two, enum topic topic)
{
    struct difference redis;
    struct difference office;
    if (!records_compare(&two->published, &two->in_redis, topic, &redis) ||
        !records_compare(&two->published, &two->arrived, topic, &office))
        return;
    (void)printf("%-22s%10" PRIu64 "%10" PRIu64 "%10" PRIu64 "%9" PRIu64 "%7" PRIu64 "%9" PRIu64 "%14" PRIu64 "\n",
                 strchr(topic_names[topic], '.') + 1, records_count(&two->published, topic),
                 records_count(&two->in_redis, topic), records_count(&two->arrived, topic),
                 redis.missing + office.missing, redis.twice + office.twice, redis.foreign + office.foreign,
                 redis.out_of_order + office.out_of_order);
}

/* Those from one place to another of a list that one process has filled. */
static void print_part(const char *what, const struct samples *samples, uint32_t from, uint32_t to)
{
    static struct samples part; /* large */
    struct samples *list = &part;
    samples_between(samples, from, to, &part);
    table_print_times(what, &list, 1);
}

void two_hosts_print(struct demo *demo, struct two_hosts *two)
{
    struct samples *publish = &demo->board->publish;
    struct flow *mails = demo->other->board->flows[NOTIFICATION];
    struct samples *stock = &demo->board->flows[PRODUCT][ORDERS].latency;
    (void)printf("\n%-22s%10s%10s%10s%9s%7s%9s%14s\n", "event", "checkout", "Redis", "office", "missing", "twice",
                 "foreign", "out of order");
    for (size_t i = 0; i < N_ROWS; i++)
        print_event(two, topics[i]);
    (void)printf("\n%s", table_flow_head);
    table_print_flow(demo, ORDERS, PRODUCT, records_count(&two->published, ORDERS));
    for (size_t i = 0; i < N_ROWS; i++) {
        table_print_flow(demo->other, topics[i], CUSTOMER, records_count(&two->arrived, topics[i]));
        table_print_flow(demo->other, topics[i], NOTIFICATION, records_count(&two->arrived, topics[i]));
    }
    (void)printf("(product lives at the checkout, customer and notification at the office)\n\n%s", table_time_head);
    print_part("publish at the checkout, Redis up", publish, 0, two->killed.n_publishes);
    print_part("publish at the checkout, Redis away", publish, two->killed.n_publishes, two->started.n_publishes);
    print_part("publish at the checkout, Redis back", publish, two->started.n_publishes, UINT32_MAX);
    table_print_times("publish to handler, product", &stock, 1);
    print_part("orders to notification, before the kill", &mails[ORDERS].latency, 0, two->killed.n_confirmations);
    print_part("payments to notification, before the kill", &mails[PAYMENTS].latency, 0, two->killed.n_receipts);
    print_part("orders to notification, since then", &mails[ORDERS].latency, two->killed.n_confirmations, UINT32_MAX);
    print_part("payments to notification, since then", &mails[PAYMENTS].latency, two->killed.n_receipts, UINT32_MAX);
    (void)printf("(since then: the time in which there was no Redis is in it)\n\n");
}

/* --- checks ------------------------------------------------------------------------------------------------------ */

static unsigned check_place(const struct two_hosts *two, const struct records *found, const char *what)
{
    struct difference all = {0};
    bool holds = two->published.n != 0 && found->n_others == 0;
    for (size_t i = 0; i < N_ROWS; i++) {
        struct difference one = {0};
        holds = records_compare(&two->published, found, topics[i], &one) && holds;
        all.missing += one.missing;
        all.twice += one.twice;
        all.foreign += one.foreign;
        all.out_of_order += one.out_of_order;
    }
    return check_say(holds && all.missing + all.twice + all.foreign + all.out_of_order == 0,
                     "%s: %zu of %zu events; missing %" PRIu64 ", twice %" PRIu64 ", foreign %" PRIu64
                     ", out of order in a partition, so for a key, %" PRIu64,
                     what, found->n, two->published.n, all.missing, all.twice, all.foreign, all.out_of_order);
}

static unsigned check_published(const struct two_hosts *two, const struct orders *orders)
{
    uint64_t n_orders = records_count(&two->published, ORDERS);
    uint64_t n_payments = records_count(&two->published, PAYMENTS);
    return check_say(n_orders == orders->n && n_payments == orders->n && two->published.n_others == 0,
                     "checkout: %" PRIu64 " orders and %" PRIu64 " payments of %zu are published, and %" PRIu64
                     " came from elsewhere",
                     n_orders, n_payments, orders->n, two->published.n_others);
}

static unsigned check_outage(const struct two_hosts *two)
{
    uint64_t published = two->started.published - two->killed.published;
    uint64_t stock = two->started.stock - two->killed.stock;
    return check_say(published > 0 && stock > 0,
                     "away: while there was no Redis %" PRIu64 " events were published, and %" PRIu64
                     " orders handled at the checkout; no publish failed",
                     published, stock);
}

static unsigned check_left(const struct two_hosts *two)
{
    return check_say(two->is_done, "left: nothing for any group, on both buses");
}

static unsigned check_letters(struct demo *demo)
{
    size_t n = demo->n_letters + demo->other->n_letters;
    return check_say(n == 0, "dead letters: %zu, of services and of bridges, on both buses", n);
}

unsigned two_hosts_check(struct demo *demo, struct two_hosts *two)
{
    struct orders orders;
    if (!orders_read(demo->data, &orders))
        return 1;
    unsigned n = check_published(two, &orders) + check_place(two, &two->in_redis, "Redis") +
                 check_place(two, &two->arrived, "office") + check_mails(demo->other, &orders) +
                 check_accounts(demo->other, &orders) + check_stock(demo, &orders) + check_outage(two) +
                 check_left(two) + check_letters(demo);
    orders_free(&orders);
    return n;
}
