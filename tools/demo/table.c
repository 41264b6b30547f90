/* table.c: what went where, and how fast. Counts are of the services themselves, dead letters of the bus.
 *
 * "again" is what the groups had done and the bus did not have on disk as done, up to a second of it, and what was
 * published twice: it comes again, and has no effect.
 *
 * "publish to handler" is from the event's timestamp to the begin of its first attempt, and of the one that is the first
 * once more since the restart cut it short: the seconds in which a member stood still or a service was away are in it,
 * and show in the p99 of the groups that we hurt. */
#include "conductor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char table_flow_head[] = "flow                                published  handled  again redelivered  dead\n";
const char table_time_head[] = "time                                            count         p50         p99\n";

static const struct {
    enum topic topic;
    enum group group;
} rows[] = {
    {ORDERS, PRODUCT},        {ORDERS, CUSTOMER},       {ORDERS, NOTIFICATION}, {ORDERS, ANALYTICS},
    {PAYMENTS, CUSTOMER},     {PAYMENTS, NOTIFICATION}, {PAYMENTS, ANALYTICS},  {BOOKINGS, CUSTOMER},
    {BOOKINGS, NOTIFICATION}, {BOOKINGS, ANALYTICS},    {POSTS, ANALYTICS},     {POSTS, SITEMAP},
};

void table_print_times(const char *what, struct samples *const *lists, size_t n)
{
    char p50[32];
    char p99[32];
    uint64_t n_times = 0;
    for (size_t i = 0; i < n; i++)
        n_times += atomic_load_explicit(&lists[i]->n, memory_order_relaxed);
    format_ns(percentile(lists, n, 50), p50);
    format_ns(percentile(lists, n, 99), p99);
    (void)printf("%-43s%10" PRIu64 "%12s%12s\n", what, n_times, p50, p99);
}

void table_print_flow(struct demo *demo, enum topic topic, enum group group, uint64_t n_published)
{
    char what[128];
    struct flow *flow = &demo->board->flows[group][topic];
    uint64_t n_dead = 0;
    for (size_t i = 0; i < demo->n_letters; i++)
        n_dead += demo->letters[i].group == group && demo->letters[i].topic == topic;
    (void)snprintf(what, sizeof what, "%s -> %.*s", strchr(topic_names[topic], '.') + 1,
                   (int)strcspn(group_names[group], "-"), group_names[group]);
    (void)printf("%-35s%10" PRIu64 "%9" PRIu64 "%7" PRIu64 "%12" PRIu64 "%6" PRIu64 "\n", what, n_published,
                 flow_handled(flow), value(&flow->again), value(&flow->redelivered), n_dead);
}

void table_print(struct demo *demo)
{
    struct samples *publish = &demo->board->publish;
    (void)printf("\n%s", table_flow_head);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t before = rows[i].group == SITEMAP ? demo->posts_before : 0;
        uint64_t n_published = value(&demo->board->published[rows[i].topic]);
        table_print_flow(demo, rows[i].topic, rows[i].group, n_published - before);
    }
    (void)printf("(again: came once more after the restart, and had no effect; sitemap: since its group was "
                 "added)\n\n%s",
                 table_time_head);
    table_print_times("publish (it wakes those that sleep)", &publish, 1);
    for (int group = 0; group < N_GROUPS; group++) {
        static const char *const notes[N_GROUPS] = {[PRODUCT] = " (stopped)", [NOTIFICATION] = " (killed)"};
        char what[128];
        struct samples *lists[N_TOPICS];
        for (int topic = 0; topic < N_TOPICS; topic++)
            lists[topic] = &demo->board->flows[group][topic].latency;
        (void)snprintf(what, sizeof what, "publish to handler, %.*s%s", (int)strcspn(group_names[group], "-"),
                       group_names[group], notes[group] != NULL ? notes[group] : "");
        table_print_times(what, lists, N_TOPICS);
    }
    (void)printf("(stopped, killed: the time in which it stood still or was away is in it)\n\n");
}
