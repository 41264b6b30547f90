/* two_hosts.c: the second act's course. Two hosts, so to say: what they share is Redis, and nothing else.
 *
 *     checkout   a bus, product-service, evbus-bridge, order-payment-service    \
 *     office     a bus, customer-service, notification-service, evbus-bridge    / Redis
 *
 *     Redis starts              on a unix socket; then bridges and consumers
 *     orders are published      at the checkout, with their payments
 *     Redis is killed           behind a third of the orders
 *     ... and started again     behind two thirds: with what is on its disk
 *     the end                   the producer has ended, all has arrived; bridges and services are told to end; then what
 *                               stands on both buses and in Redis is read
 *
 * The services are those of the first act, and nothing in them knows of a second host. That each group lives on one host
 * alone is said by `here` in the two catalogues, which are the same but for that. What befell services in the first act
 * does not here: the cues for that are taken as given before they start.
 *
 * What is lost is no reason to wait for it: after a while we go on, and the table tells what is missing. */
#include "two_hosts.h"

#include "orders.h"

#include <evbus/mirror.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOST_NS (30 * NS_PER_S) /* what has not arrived after that will not */

static struct two_hosts two = {.arrived.is_brought_in = true};

/* --- looking on -------------------------------------------------------------------------------------------------- */

/* Is all of it known? Redis need not answer for that. Against the stream: nothing is seen to arrive that is not out yet. */
static bool look(struct demo *demo)
{
    bool is_good = records_read(&two.arrived, demo->other);
    (void)redis_look(&two.redis);
    return records_read(&two.published, demo) && is_good;
}

static struct moment moment(struct demo *demo)
{
    struct flow *flows = demo->other->board->flows[NOTIFICATION];
    (void)look(demo); /* has complained; then it is as it was */
    return (struct moment){
        .at_ns = monotonic_ns(),
        .published = two.published.n,
        .in_redis = two.redis.n_entries,
        .arrived = two.arrived.n,
        .mails = value(&demo->other->board->mails),
        .stock = flow_handled(&demo->board->flows[PRODUCT][ORDERS]),
        .n_publishes = atomic_load(&demo->board->publish.n),
        .n_confirmations = atomic_load(&flows[ORDERS].latency.n),
        .n_receipts = atomic_load(&flows[PAYMENTS].latency.n),
    };
}

static void draw(struct demo *demo)
{
    struct moment now = moment(demo);
    (void)printf("published %" PRIu64 "  in Redis %" PRIu64 " (%s)  at the office %" PRIu64 "  mails %" PRIu64,
                 now.published, now.in_redis, two.redis.context != NULL ? "up" : "down", now.arrived, now.mails);
}

static int see_bridge(void *context, const struct evbus_mirror_stat *stat)
{
    char *text = context;
    if (stat->is_led)
        (void)snprintf(text, 256, "%s", stat->text);
    return 0;
}

/* As `evbus bridge status` has it; "": no bridge leads. */
static void ask_bridge(struct demo *demo, char out_text[256])
{
    out_text[0] = '\0';
    if (evbus_mirrors(demo->bus, see_bridge, out_text) != EVBUS_OK)
        complain("%s", evbus_message(demo->bus));
}

/* --- conditions -------------------------------------------------------------------------------------------------- */

static bool redis_answers(struct demo *demo)
{
    (void)demo;
    return redis_look(&two.redis);
}

static bool all_are_there(struct demo *demo)
{
    char checkout[256];
    char office[256];
    ask_bridge(demo, checkout);
    ask_bridge(demo->other, office);
    return checkout[0] != '\0' && office[0] != '\0' && see_groups(demo) && see_groups(demo->other) &&
           demo->groups[PRODUCT].n_members == 1 && demo->other->groups[CUSTOMER].n_members == 1 &&
           demo->other->groups[NOTIFICATION].n_members == 1;
}

static bool a_third_is_out(struct demo *demo)
{
    return value(&demo->board->published[ORDERS]) >= two.n_orders / 3;
}

static bool two_thirds_are_out(struct demo *demo)
{
    return value(&demo->board->published[ORDERS]) >= two.n_orders * 2 / 3;
}

/* A bridge that has much to do, or little of the processor, hears of it a little later. */
static bool broker_is_missed(struct demo *demo)
{
    char text[256];
    ask_bridge(demo, text);
    return strstr(text, "away") != NULL;
}

static bool backlog_has_arrived(struct demo *demo)
{
    return look(demo) && two.arrived.n >= two.started.published;
}

static bool backlog_has_arrived_or_never_will(struct demo *demo)
{
    return backlog_has_arrived(demo) || producers_are_done(demo);
}

static bool all_has_arrived(struct demo *demo)
{
    return look(demo) && two.redis.n_entries >= two.published.n && two.arrived.n >= two.published.n &&
           nothing_is_left(demo);
}

static bool all_has_arrived_or_never_will(struct demo *demo)
{
    return all_has_arrived(demo) || monotonic_ns() > two.patience_ns;
}

static bool bridges_are_gone(struct demo *demo)
{
    return children_are_gone(demo, BRIDGE);
}

static bool redis_is_gone(struct demo *demo)
{
    return children_are_gone(demo, BROKER);
}

/* --- the course -------------------------------------------------------------------------------------------------- */

static bool is_there(const struct demo *demo, const char *program, const char *mend, char out_path[PATH_BYTES])
{
    if (program_find(demo, program, out_path))
        return true;
    complain("act 2 needs %s, which is neither beside evbus-demo nor in PATH; %s. Act 1 goes without: --act 1", program,
             mend);
    return false;
}

static bool is_possible(struct demo *demo)
{
    return is_there(demo, "redis-server", "Debian: apt-get install redis-server", two.redis.program) &&
           is_there(demo, "evbus-bridge", "build it, with libhiredis-dev, libmicrohttpd-dev and libssl-dev",
                    two.bridge);
}

static bool count_orders(struct demo *demo)
{
    struct orders orders;
    if (!orders_read(demo->data, &orders))
        return false;
    two.n_orders = orders.n;
    orders_free(&orders);
    return true;
}

/* What befalls services in the first act has befallen them. */
static void spare_services(struct demo *demo)
{
    atomic_store(&demo->board->restart_me, true);
    atomic_store(&demo->other->board->address_is_mended, true);
}

static bool start_redis(struct demo *demo)
{
    return redis_start(&two.redis, demo) && await(demo, redis_answers, "Redis answers");
}

/* No file of this machine says how. */
static bool start_bridge(struct demo *demo)
{
    const char *const arguments[] = {"evbus-bridge", "--config", "/dev/null",   "--bus",
                                     demo->bus_name, "--redis",  two.redis.url, NULL};
    return program_start(demo, BRIDGE, two.bridge, arguments, "bridge.log") != NULL;
}

static bool start_all(struct demo *demo)
{
    if (!start_redis(demo))
        return false;
    progress_say(demo, "Redis (%d) runs, on a unix socket; appendonly yes, appendfsync always",
                 (int)two.redis.child->pid);
    if (!start_bridge(demo) || !start_bridge(demo->other) || child_start(demo, &product_service, 0) == NULL ||
        child_start(demo->other, &customer_service, 0) == NULL ||
        child_start(demo->other, &notification_service, 0) == NULL ||
        !await(demo, all_are_there, "all groups have their members, and both buses their bridge"))
        return false;
    progress_say(demo, "checkout: product-service and evbus-bridge run");
    progress_say(demo, "office: customer-service, notification-service and evbus-bridge run");
    if (child_start(demo, &order_payment_service, 0) == NULL)
        return false;
    progress_say(demo, "checkout: order-payment-service publishes");
    return true;
}

static bool kill_redis(struct demo *demo)
{
    if (!await(demo, a_third_is_out, "a third of the orders is published"))
        return false;
    int pid = (int)two.redis.child->pid;
    two.killed = moment(demo);
    redis_kill(&two.redis);
    progress_say(demo,
                 "Redis (%d) killed with SIGKILL: %" PRIu64 " events published, %" PRIu64 " in Redis, %" PRIu64
                 " at the office, %" PRIu64 " mails",
                 pid, two.killed.published, two.killed.in_redis, two.killed.arrived, two.killed.mails);
    return true;
}

static bool start_redis_again(struct demo *demo)
{
    char text[256];
    if (!await(demo, two_thirds_are_out, "two thirds of the orders are published") ||
        !await(demo, broker_is_missed, "the bridge says that Redis is away"))
        return false;
    two.started = moment(demo);
    ask_bridge(demo, text);
    progress_say(demo, "evbus bridge status, checkout: %s", text);
    progress_say(demo,
                 "meanwhile %" PRIu64 " events published, %" PRIu64 " orders taken from stock at the checkout; %" PRIu64
                 " mails at the office",
                 two.started.published - two.killed.published, two.started.stock - two.killed.stock,
                 two.started.mails - two.killed.mails);
    if (!start_redis(demo))
        return false;
    progress_say(demo, "Redis (%d) started again, %.1f s later: it has %" PRIu64 " entries on its disk",
                 (int)two.redis.child->pid, (double)(monotonic_ns() - two.killed.at_ns) / (double)NS_PER_S,
                 two.redis.n_entries);
    uint64_t begun = monotonic_ns();
    if (!await(demo, backlog_has_arrived_or_never_will, "the backlog has arrived"))
        return false;
    if (backlog_has_arrived(demo))
        progress_say(demo, "all that was published meanwhile is at the office, after %.1f s",
                     (double)(monotonic_ns() - begun) / (double)NS_PER_S);
    return true;
}

/* Bridges first: they bring out and in what is under way. Redis last: it is read. */
static bool end_all(struct demo *demo)
{
    children_end(demo, BRIDGE);
    if (!await(demo, bridges_are_gone, "both bridges have ended") || !end_consumers(demo) || !look(demo) ||
        !redis_read(&two.redis, &two.in_redis) || !letters_read(demo) || !letters_read(demo->other))
        return false;
    children_end(demo, BROKER);
    return await(demo, redis_is_gone, "Redis has ended");
}

static bool conduct(struct demo *demo)
{
    spare_services(demo);
    if (!count_orders(demo) || !start_all(demo) || !kill_redis(demo) || !start_redis_again(demo) ||
        !await(demo, producers_are_done, "all is published"))
        return false;
    progress_say(demo, "all is published: %" PRIu64 " events", all_published(demo));
    two.patience_ns = monotonic_ns() + LOST_NS;
    if (!await(demo, all_has_arrived_or_never_will, "all has arrived"))
        return false;
    two.is_done = all_has_arrived(demo);
    progress_say(demo, "%s",
                 two.is_done ? "all has arrived, and no group has anything left"
                             : "NOT all has arrived; we wait no longer");
    return end_all(demo);
}

static void print_table(struct demo *demo)
{
    two_hosts_print(demo, &two);
}

static unsigned check(struct demo *demo)
{
    return two_hosts_check(demo, &two);
}

static void close_all(void)
{
    records_free(&two.published);
    records_free(&two.in_redis);
    records_free(&two.arrived);
    redis_close(&two.redis);
}

static const char *const checkout[] = {"order-payment-service", "product-service", NULL};
static const char *const office[] = {"customer-service", "notification-service", NULL};

const struct act second_act = {
    .title = "Act 2: two hosts, and the Redis between them",
    .hosts = {{.name = "checkout", .here = checkout}, {.name = "office", .here = office}},
    .n_hosts = 2,
    .n_partitions = 2,
    .is_possible = is_possible,
    .conduct = conduct,
    .draw = draw,
    .print_table = print_table,
    .check = check,
    .close = close_all,
};
