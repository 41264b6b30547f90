/* conductor.c: the first act's course: who is started when, who is hurt when, and how we know that it is over.
 *
 *     consumers start           until each group has its members
 *     producers start           orders and payments, bookings, a blog post
 *     notification-service      is killed inside a handler, is away for a while, is started again
 *     a member of product-service   is stopped for a while, and continued
 *     the host                  restarts: all are killed, the bus's memory is thrown away, all start again (restart.c)
 *     sitemap                   its group is added to the catalogue, then its process started; a second post
 *     the dead letter           is looked at, and replayed when what was wrong is mended (letters.c)
 *     the end                   producers have ended, no group has anything left; consumers are told to end
 *
 * Each step waits for a condition, all of them together for one deadline. Nobody else knows of the course: the
 * services just work. One thing is chosen with care: a member is not stopped while it holds the lock of its database,
 * for then SQLite, not the bus, would make the other wait. */
#include "conductor.h"

#include <evbus/admin.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS        (10 * NS_PER_MS)
#define AWAY_NS        (700 * NS_PER_MS) /* how long notification-service is away */
#define STOPPED_NS     (2 * NS_PER_S)    /* how long a member stands still */
#define ORDERS_TO_STOP 300

/* We look on, and never are its keeper: that is the services' matter, and dies with them. */
bool open_bus(struct demo *demo)
{
    if (evbus_open(&demo->bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                       .bus = demo->bus_name,
                                                       .service = "demo",
                                                       .keeper = EVBUS_KEEPER_NEVER}) == EVBUS_OK)
        return true;
    complain("%s", evbus_message(NULL));
    return false;
}

static int see_group(void *context, const struct evbus_group_stat *group)
{
    struct demo *demo = context;
    for (int i = 0; i < N_GROUPS; i++)
        if (strcmp(group->group, group_names[i]) == 0)
            demo->groups[i] = (struct group_state){.n_members = group->n_members,
                                                   .lag = group->lag,
                                                   .n_pending = group->n_pending,
                                                   .redelivered = group->redelivered,
                                                   .dead_letters = group->dead_letters};
    return 0;
}

bool see_groups(struct demo *demo)
{
    if (evbus_groups(demo->bus, see_group, demo) == EVBUS_OK)
        return true;
    complain("%s", evbus_message(demo->bus));
    return false;
}

/* Once more round: false ends the demo. */
static bool go_on(struct demo *demo)
{
    if (!children_look(demo))
        return false;
    progress_draw(demo);
    sleep_until(monotonic_ns() + LOOK_NS);
    return !demo_is_stopping;
}

static void complain_of_patience(struct demo *demo, const char *what)
{
    complain("gave up waiting until %s", what);
    for (; demo != NULL && see_groups(demo); demo = demo->other)
        for (int i = 0; i < N_GROUPS; i++)
            complain("bus %s: %s has %" PRIu32 " members, is %" PRIu64 " cells behind, and has %" PRIu32
                     " events in hand",
                     demo->bus_name, group_names[i], demo->groups[i].n_members, demo->groups[i].lag,
                     demo->groups[i].n_pending);
}

bool await(struct demo *demo, bool (*is_so)(struct demo *demo), const char *what)
{
    while (!is_so(demo)) {
        if (!go_on(demo))
            return false;
        if (monotonic_ns() > demo->deadline_ns) {
            complain_of_patience(demo, what);
            return false;
        }
    }
    return true;
}

static bool await_time(struct demo *demo, uint64_t ns)
{
    uint64_t until = monotonic_ns() + ns;
    while (monotonic_ns() < until)
        if (!go_on(demo))
            return false;
    return true;
}

/* --- conditions -------------------------------------------------------------------------------------------------- */

bool consumers_are_there(struct demo *demo)
{
    return see_groups(demo) && demo->groups[PRODUCT].n_members == N_MEMBERS && demo->groups[CUSTOMER].n_members == 1 &&
           demo->groups[NOTIFICATION].n_members == 1 && demo->groups[ANALYTICS].n_members == 1;
}

static bool is_to_be_killed(struct demo *demo)
{
    return atomic_load(&demo->board->kill_me);
}

static bool is_time_to_stop(struct demo *demo)
{
    return value(&demo->board->published[ORDERS]) >= ORDERS_TO_STOP && value(&demo->board->members[1].handled) > 0;
}

static bool first_post_is_out(struct demo *demo)
{
    return value(&demo->board->published[POSTS]) == 1;
}

static bool sitemap_is_there(struct demo *demo)
{
    return see_groups(demo) && demo->groups[SITEMAP].n_members == 1;
}

bool producers_are_done(struct demo *demo)
{
    return children_are_gone(demo, PRODUCER);
}

bool nothing_is_left(struct demo *demo)
{
    for (; demo != NULL; demo = demo->other) {
        if (!see_groups(demo))
            return false;
        for (int i = 0; i < N_GROUPS; i++)
            if (demo->groups[i].lag != 0 || demo->groups[i].n_pending != 0)
                return false;
    }
    return true;
}

static bool consumers_are_gone(struct demo *demo)
{
    return children_are_gone(demo, CONSUMER);
}

/* --- the course -------------------------------------------------------------------------------------------------- */

uint64_t all_published(struct demo *demo)
{
    uint64_t n = 0;
    for (int topic = 0; topic < N_TOPICS; topic++)
        n += value(&demo->board->published[topic]);
    return n;
}

static uint64_t handled_by_others(struct demo *demo)
{
    uint64_t n = 0;
    for (int group = CUSTOMER; group < N_GROUPS; group++)
        for (int topic = 0; topic < N_TOPICS; topic++)
            n += flow_handled(&demo->board->flows[group][topic]);
    return n;
}

static bool kill_inside_handler(struct demo *demo, struct child *child)
{
    if (!await(demo, is_to_be_killed, "notification-service is in the chosen handler"))
        return false;
    pid_t pid = child->pid;
    child_kill(child);
    progress_say(demo, "notification-service (%d) killed with SIGKILL inside a handler, between two mails", (int)pid);
    uint64_t before = all_published(demo);
    if (!await_time(demo, AWAY_NS))
        return false;
    struct child *again = child_start(demo, &notification_service, 0);
    if (again == NULL)
        return false;
    progress_say(demo, "notification-service (%d) started again; meanwhile %" PRIu64 " events were published",
                 (int)again->pid, all_published(demo) - before);
    return true;
}

/* Stopped, but not with its database locked. */
static bool stop_member(struct demo *demo, struct child *child)
{
    for (;;) {
        child_signal(child, SIGSTOP);
        if (!child_await_stop(child))
            return false;
        if (!atomic_load(&demo->board->members[child->member].holds_database))
            return true;
        child_signal(child, SIGCONT);
        if (!go_on(demo))
            return false;
    }
}

static bool stop_for_a_while(struct demo *demo, struct child *child)
{
    struct board *board = demo->board;
    if (!await(demo, is_time_to_stop, "orders have been handled") || !stop_member(demo, child))
        return false;
    progress_say(demo, "product-service, member %u of %d (%d) stopped with SIGSTOP", child->member + 1, N_MEMBERS,
                 (int)child->pid);
    uint64_t stopped = value(&board->members[1].handled);
    uint64_t beside = value(&board->members[0].handled);
    uint64_t published = all_published(demo);
    uint64_t others = handled_by_others(demo);
    bool is_good = await_time(demo, STOPPED_NS);
    demo->stopped_handled = value(&board->members[1].handled) - stopped;
    demo->beside_handled = value(&board->members[0].handled) - beside;
    demo->stopped_published = all_published(demo) - published;
    demo->stopped_others = handled_by_others(demo) - others;
    child_signal(child, SIGCONT);
    if (is_good)
        progress_say(demo,
                     "continued; meanwhile %" PRIu64 " events published, %" PRIu64 " handled by member 1, %" PRIu64
                     " by other groups",
                     demo->stopped_published, demo->beside_handled, demo->stopped_others);
    return is_good;
}

static bool add_sitemap(struct demo *demo)
{
    uint32_t n_changes = 0;
    if (!await(demo, first_post_is_out, "the first post is published"))
        return false;
    char *text = demo_catalogue(demo, true);
    if (text == NULL)
        return false;
    demo->posts_before = value(&demo->board->published[POSTS]);
    int rc = evbus_catalogue_apply(demo->bus, text, strlen(text), &n_changes);
    free(text);
    if (rc != EVBUS_OK) {
        complain("%s", evbus_message(demo->bus));
        return false;
    }
    progress_say(demo, "catalogue applied while all run: %" PRIu32 " group more, sitemap; no producer was touched",
                 n_changes);
    if (child_start(demo, &sitemap_service, 0) == NULL || !await(demo, sitemap_is_there, "sitemap is there"))
        return false;
    atomic_store(&demo->board->sitemap_runs, true);
    return true;
}

bool end_consumers(struct demo *demo)
{
    children_end(demo, CONSUMER);
    return await(demo, consumers_are_gone, "all services have ended");
}

static bool conduct(struct demo *demo)
{
    struct child *product = child_start(demo, &product_service, 0);
    struct child *stopped = child_start(demo, &product_service, 1);
    struct child *notification = child_start(demo, &notification_service, 0);
    if (product == NULL || stopped == NULL || notification == NULL || child_start(demo, &customer_service, 0) == NULL ||
        child_start(demo, &analytics_service, 0) == NULL ||
        !await(demo, consumers_are_there, "all groups have their members"))
        return false;
    progress_say(demo, "product-service (two of them), customer-, notification-, analytics-service run");
    if (child_start(demo, &order_payment_service, 0) == NULL || child_start(demo, &appointment_service, 0) == NULL ||
        child_start(demo, &content_service, 0) == NULL)
        return false;
    progress_say(demo, "order-payment-service, appointment-service, content-service publish");
    if (!kill_inside_handler(demo, notification) || !stop_for_a_while(demo, stopped) || !restart_host(demo) ||
        !add_sitemap(demo) || !await(demo, producers_are_done, "all is published"))
        return false;
    progress_say(demo, "all is published: %" PRIu64 " events", all_published(demo));
    if (!await(demo, nothing_is_left, "no group has anything left"))
        return false;
    progress_say(demo, "all groups have nothing left");
    if (!letters_read(demo) || !letters_replay(demo) || !await(demo, nothing_is_left, "the replay is handled"))
        return false;
    progress_say(demo, "its mail is out");
    return end_consumers(demo) && letters_read(demo);
}

const struct act first_act = {
    .title = "Act 1: one host, seven services",
    .n_hosts = 1,
    .n_partitions = 4,
    .n_bookings = N_BOOKINGS,
    .conduct = conduct,
    .draw = progress_of_services,
    .print_table = table_print,
    .check = check_all,
};
