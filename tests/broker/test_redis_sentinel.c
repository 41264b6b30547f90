/* test_redis_sentinel.c: the master is where the sentinels say: found by asking in turn, followed in a failover, and not believed where it is none. Real
 * sentinels, a real master and its replica; the whole bridges are host.h's. */
#include "bridgehead.h"
#include "host.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct redis_server servers[2]; /* the first begins as the master */
static struct redis_server sentinels[2];
static char url[200];

static struct redis_server start_sentinel(const struct redis_server *master)
{
    char lines[400];
    snprintf(lines, sizeof lines,
             "sentinel monitor mymaster 127.0.0.1 %u 1\nsentinel down-after-milliseconds mymaster 30000\n"
             "sentinel failover-timeout mymaster 10000",
             (unsigned)master->port);
    return redis_server_start_sentinel(lines);
}

/* 30 s: no failover but by the test's own doing, however busy the machine is. Nobody is at the first address that the URL names. */
static void start_all(void)
{
    char lines[200];
    servers[0] = redis_server_start_tcp("repl-diskless-sync-delay 0");
    snprintf(lines, sizeof lines, "repl-diskless-sync-delay 0\nreplicaof 127.0.0.1 %u", (unsigned)servers[0].port);
    servers[1] = redis_server_start_tcp(lines);
    cr_assert(await_that(strstr(redis_server_ask(&servers[1], "INFO replication"), "master_link_status:up") != NULL));
    for (unsigned i = 0; i < 2; i++)
        sentinels[i] = start_sentinel(&servers[0]);
    snprintf(url, sizeof url, "sentinel://127.0.0.1:1,127.0.0.1:%u,127.0.0.1:%u/mymaster", (unsigned)sentinels[0].port,
             (unsigned)sentinels[1].port);
}

/* Which of the two, as a sentinel says. */
static unsigned master_of(const struct redis_server *sentinel)
{
    unsigned port = 0;
    const char *answer = redis_server_ask(sentinel, "SENTINEL get-master-addr-by-name mymaster");
    cr_assert_eq(sscanf(answer, "127.0.0.1 %u", &port), 1, "%s", answer);
    return port == servers[1].port;
}

static const uint64_t first[] = {4, 8}, next[] = {12};

Test(redis_sentinel, they_are_asked_in_turn_and_the_master_is_found)
{
    start_all();
    struct bridgehead *head = bridgehead_start_reading(url);
    cr_assert_eq(bridgehead_append(head, BRIDGEHEAD_TOPIC, 0, 2, first), BACKEND_OK, "%s", head->append_why);
    cr_assert_eq(redis_server_number(&servers[0], "XLEN " BRIDGEHEAD_TOPIC), 2);
    cr_assert_not_null(strstr(head->whys, "sentinel 127.0.0.1:1: Connection refused"), "%s", head->whys);
    for (unsigned i = 0; i < 2; i++)
        redis_server_kill(&sentinels[i]);
    for (unsigned i = 0; i < 20; i++)
        bridgehead_pump(head);
    cr_assert_eq(bridgehead_append(head, BRIDGEHEAD_TOPIC, 8, 1, next), BACKEND_OK, "with none of them: %s",
                 head->whys);
    bridgehead_close(head);
}

Test(redis_sentinel, a_master_that_they_do_not_know_is_told)
{
    static const struct {
        const char *master, *told;
        bool is_redis; /* and no sentinel */
    } rows[] = {
        {"other", "it knows no master \"other\"; look at `sentinel monitor`", false},
        {"mymaster", "unknown command", true},
    };
    start_all();
    for (size_t i = 0; i < 2; i++) {
        snprintf(url, sizeof url, "sentinel://127.0.0.1:%u/%s",
                 (unsigned)(rows[i].is_redis ? servers[0].port : sentinels[0].port), rows[i].master);
        struct bridgehead *head = bridgehead_make(url);
        bridgehead_open(head);
        cr_assert(bridgehead_await(head, strstr(head->why, rows[i].told) != NULL), "%s", head->whys);
        cr_assert_not(head->is_here);
        bridgehead_close(head);
    }
}

Test(redis_sentinel, an_answer_that_is_stale_is_asked_for_again)
{
    start_all();
    struct redis_server stale = start_sentinel(&servers[1]);
    snprintf(url, sizeof url, "sentinel://127.0.0.1:%u/mymaster", (unsigned)stale.port);
    struct bridgehead *head = bridgehead_make(url);
    head->config.in = true;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, strstr(head->whys, "this is a replica; the bridge needs the master") != NULL),
              "%s", head->whys);
    cr_assert_not(head->is_here);
    cr_assert_str_eq(redis_server_ask(&stale, "SENTINEL REMOVE mymaster"), "OK");
    cr_assert_str_eq(redis_server_ask(&stale, "SENTINEL MONITOR mymaster 127.0.0.1 %u 1", (unsigned)servers[0].port),
                     "OK");
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    cr_assert_eq(bridgehead_append(head, BRIDGEHEAD_TOPIC, 0, 2, first), BACKEND_OK, "%s", head->append_why);
    bridgehead_close(head);
}

Test(redis_sentinel, one_whose_answer_stays_stale_is_left_for_the_next)
{
    start_all();
    struct redis_server stale = start_sentinel(&servers[1]);
    snprintf(url, sizeof url, "sentinel://127.0.0.1:%u,127.0.0.1:%u/mymaster", (unsigned)stale.port,
             (unsigned)sentinels[0].port);
    struct bridgehead *head = bridgehead_start_reading(url);
    cr_assert_not_null(strstr(head->whys, "this is a replica; the bridge needs the master"), "%s", head->whys);
    cr_assert_eq(bridgehead_append(head, BRIDGEHEAD_TOPIC, 0, 2, first), BACKEND_OK, "%s", head->append_why);
    bridgehead_close(head);
}

/* The one that was the master lives on, and is told later than we are. */
Test(redis_sentinel, another_master_is_gone_to_though_the_old_one_still_answers)
{
    start_all();
    struct bridgehead *head = bridgehead_start_reading(url);
    cr_assert_eq(bridgehead_append(head, BRIDGEHEAD_TOPIC, 0, 2, first), BACKEND_OK, "%s", head->append_why);
    cr_assert(await_that(redis_server_number(&servers[1], "XLEN " BRIDGEHEAD_TOPIC) == 2));
    for (unsigned i = 0; i < 2; i++) /* neither sees the other any more: they do as the test says */
        redis_server_ask(&sentinels[i], "SENTINEL REMOVE mymaster");
    redis_server_ask(&servers[1], "REPLICAOF NO ONE");
    for (unsigned i = 0; i < 2; i++)
        redis_server_ask(&sentinels[i], "SENTINEL MONITOR mymaster 127.0.0.1 %u 2", (unsigned)servers[1].port);
    cr_assert(bridgehead_await(head, strstr(head->whys, "the master is 127.0.0.1:") != NULL), "%s", head->whys);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    cr_assert_eq(bridgehead_append(head, BRIDGEHEAD_TOPIC, 8, 1, next), BACKEND_OK, "%s", head->append_why);
    cr_assert_eq(redis_server_number(&servers[0], "XLEN " BRIDGEHEAD_TOPIC), 2);
    cr_assert_eq(redis_server_number(&servers[1], "XLEN " BRIDGEHEAD_TOPIC), 3);
    bridgehead_close(head);
}

/* --- whole bridges ------------------------------------------------------------------------------------------------------------ */

static struct host *hosts[2];

static void start_hosts(void)
{
    start_all();
    for (unsigned i = 0; i < 2; i++) {
        hosts[i] = host_make(EVBUS_KEEPER_VOLUNTEER);
        host_bridge(hosts[i], 0, url, "checkpoint=100ms");
    }
    for (unsigned i = 0; i < 2; i++)
        host_publish(hosts[i], 100);
    host_settle(hosts, 2);
}

/* 200 events a second on each, until there would be no number left for the end. */
static void trickle(void)
{
    static uint64_t next_ms;
    if (await_now_ms() < next_ms || host_published(1) > HOST_EVENTS - 1000)
        return;
    next_ms = await_now_ms() + 10;
    host_publish(hosts[0], 2);
    host_publish(hosts[1], 2);
}

/* How many bridges it has. */
static unsigned n_bridges_of(const struct redis_server *server)
{
    unsigned n = 0;
    const char *at = redis_server_ask(server, "CLIENT LIST");
    while ((at = strstr(at, " name=evbus-bridge-out ")) != NULL) {
        at++;
        n++;
    }
    return n;
}

#define publish_until(expression) host_until((trickle(), (expression)))

Test(redis_sentinel, in_a_failover_each_event_is_on_each_bus_once_and_at_the_new_master, .timeout = 300)
{
    start_hosts();
    for (unsigned round = 0; round < trial_count(2, 1); round++) {
        unsigned was = master_of(&sentinels[0]);
        /* not before it knows a replica that is well */
        publish_until(strcmp(redis_server_ask(&sentinels[0], "SENTINEL FAILOVER mymaster"), "OK") == 0);
        publish_until(master_of(&sentinels[0]) != was && master_of(&sentinels[1]) != was);
        publish_until(n_bridges_of(&servers[!was]) == 2);
        host_settle(hosts, 2);
        host_expect_redis(&servers[!was], 2);
    }
}

Test(redis_sentinel, when_the_master_dies_likewise, .timeout = 300)
{
    start_hosts();
    /* else nobody may begin a failover */
    cr_assert(await_that(strstr(redis_server_ask(&sentinels[0], "SENTINEL REPLICAS mymaster"), "slave") != NULL));
    for (unsigned i = 0; i < 2; i++)
        cr_assert_str_eq(redis_server_ask(&sentinels[i], "SENTINEL SET mymaster down-after-milliseconds 300"), "OK");
    redis_server_kill(&servers[0]);
    publish_until(master_of(&sentinels[0]) == 1);
    host_settle(hosts, 2);
    host_settle(hosts, 2);
    host_expect_redis(&servers[1], 2);
}
