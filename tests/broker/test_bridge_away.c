/* test_bridge_away.c: the broker goes away, comes back, forgets, refuses: services notice nothing, what has waited goes out in order, each event is there once,
 * and what was lost is there again. Everything is real, see host.h. What a backend makes of each of it is test_redis_away.c's and test_redis_append.c's. */
#include "host.h"

#include "proxy.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What it has ever said that it has, it has after a kill as well. */
#define KEEPS "appendonly yes\nappendfsync always"

static struct redis_server redis;
static struct host *hosts[2];

/* Two hosts, whose events have gone both ways. */
static void start(const char *lines, const char *settings)
{
    redis = redis_server_start(lines);
    for (unsigned i = 0; i < 2; i++) {
        hosts[i] = host_make(EVBUS_KEEPER_VOLUNTEER);
        host_bridge(hosts[i], 0, redis.url, settings);
    }
    host_publish(hosts[0], 100);
    host_publish(hosts[1], 100);
    host_settle(hosts, 2);
}

static void publish_both(uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 10) {
        host_publish(hosts[0], 10);
        host_publish(hosts[1], 10);
    }
}

/* All is everywhere, once. */
static void expect_all(void)
{
    host_settle(hosts, 2);
    host_settle(hosts, 2);
    host_expect_redis(&redis, 2);
}

Test(bridge_away, killed_and_started_again_redis_has_all_of_it_once, .timeout = 180)
{
    start(KEEPS, "checkpoint=100ms");
    for (unsigned round = 0; round < trial_count(6, 2); round++) {
        publish_both(100);
        redis_server_kill(&redis);
        publish_both(200);
        redis_server_again(&redis);
        publish_both(50);
    }
    expect_all();
}

Test(bridge_away, paused_and_continued_likewise, .timeout = 180)
{
    start(NULL, "reply_timeout=300ms wait_timeout=100ms");
    for (unsigned round = 0; round < 2; round++) {
        publish_both(50);
        redis_server_pause(&redis);
        publish_both(200);
        host_until(host_bridge_has_said(hosts[0], 0, "the broker is away")); /* patience is at its end */
        redis_server_continue(&redis);
        publish_both(50);
    }
    expect_all();
}

Test(bridge_away, a_connection_that_is_cut_at_any_byte_likewise, .timeout = 300)
{
    uint64_t seed = trial_seed("bridge_away/a_connection_that_is_cut_at_any_byte_likewise");
    redis = redis_server_start(NULL);
    struct proxy proxies[2];
    for (unsigned i = 0; i < 2; i++) {
        char dir[160];
        snprintf(dir, sizeof dir, "%s/p%u", redis.dir, i);
        char command[200];
        snprintf(command, sizeof command, "mkdir -p %s", dir);
        cr_assert_eq(system(command), 0);
        proxies[i] = proxy_start(dir, redis.socket);
        hosts[i] = host_make(EVBUS_KEEPER_VOLUNTEER);
        host_bridge(hosts[i], 0, proxies[i].url, "checkpoint=50ms");
    }
    for (unsigned i = 0; i < 2; i++)
        host_await_bridge(hosts[i], 0);
    for (unsigned round = 0; round < trial_count(20, 6); round++) {
        struct proxy *proxy = &proxies[trial_random(&seed) % 2];
        uint64_t n = trial_random(&seed) % 20000;
        if (trial_random(&seed) % 2 == 0)
            proxy_cut_replies(proxy, n);
        else
            proxy_cut_requests(proxy, n);
        host_until((publish_both(10), host_look(hosts[0]), host_look(hosts[1]), proxy_has_cut(proxy)) ||
                   host_published(1) > HOST_EVENTS - 200);
    }
    expect_all();
    for (unsigned i = 0; i < 2; i++) {
        host_bridge_kill(hosts[i], 0);
        proxy_end(&proxies[i]);
    }
}

Test(bridge_away, emptied_it_is_filled_again_in_order, .timeout = 180)
{
    start(NULL, "checkpoint=100ms");
    for (unsigned round = 0; round < 3; round++) {
        publish_both(100);
        cr_assert_str_eq(redis_server_ask(&redis, "FLUSHALL"), "OK");
        publish_both(100);
        host_settle(hosts, 2);
    }
    expect_all();
}

Test(bridge_away, emptied_while_no_bridge_runs_likewise, .timeout = 180)
{
    start(NULL, "checkpoint=100ms");
    for (unsigned i = 0; i < 2; i++)
        host_bridge_kill(hosts[i], 0);
    cr_assert_str_eq(redis_server_ask(&redis, "FLUSHALL"), "OK");
    publish_both(100);
    for (unsigned i = 0; i < 2; i++)
        host_bridge(hosts[i], 0, redis.url, NULL);
    expect_all();
}

static void copy_data(const char *from, const char *to)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf %s/%s && cp -r %s/%s %s/%s", redis.dir, to, redis.dir, from, redis.dir,
             to);
    cr_assert_eq(system(command), 0, "%s", command);
}

Test(bridge_away, what_a_failover_has_lost_is_there_again, .timeout = 180)
{
    start(KEEPS, "checkpoint=100ms");
    for (unsigned round = 0; round < 3; round++) {
        host_settle(hosts, 2);
        redis_server_stop(&redis);
        copy_data("appendonlydir", "kept");
        redis_server_again(&redis);
        publish_both(200);
        host_settle(hosts, 2); /* all have it */
        redis_server_kill(&redis);
        copy_data("kept", "appendonlydir"); /* as a replica that has not heard of it */
        publish_both(50);
        redis_server_again(&redis);
        publish_both(50);
        host_settle(hosts, 2);
    }
    expect_all();
}

/* --- refused ----------------------------------------------------------------------------------------------------------------- */

Test(bridge_away, a_full_memory_keeps_events_waiting_and_then_they_go, .timeout = 180)
{
    start("maxmemory-policy noeviction", NULL);
    cr_assert_str_eq(redis_server_ask(&redis, "CONFIG SET maxmemory 1"), "OK");
    publish_both(200);
    host_until(host_bridge_has_said(hosts[0], 0, "OOM"));
    cr_assert_str_eq(redis_server_ask(&redis, "CONFIG SET maxmemory 0"), "OK");
    expect_all();
}

Test(bridge_away, a_redis_that_has_become_a_replica_keeps_events_waiting, .timeout = 180)
{
    start(NULL, NULL);
    struct redis_server other = redis_server_start_tcp(NULL);
    cr_assert_str_eq(redis_server_ask(&redis, "CONFIG SET replica-serve-stale-data yes"), "OK");
    cr_assert_str_eq(redis_server_ask(&redis, "REPLICAOF 127.0.0.1 1"), "OK"); /* of nobody: it keeps what it has */
    publish_both(200);
    host_until(host_bridge_has_said(hosts[0], 0, "replica") || host_bridge_has_said(hosts[0], 0, "READONLY"));
    cr_assert_str_eq(redis_server_ask(&redis, "REPLICAOF NO ONE"), "OK");
    expect_all();
    redis_server_kill(&other);
}

Test(bridge_away, a_key_that_is_no_stream_stops_its_own_log_alone, .timeout = 180)
{
    redis = redis_server_start(NULL);
    cr_assert_str_eq(redis_server_ask(&redis, "SET test.b.one taken"), "OK");
    for (unsigned i = 0; i < 2; i++) {
        hosts[i] = host_make(EVBUS_KEEPER_VOLUNTEER);
        host_bridge(hosts[i], 0, redis.url, NULL);
    }
    publish_both(140);
    host_until(host_bridge_has_said(hosts[0], 0, "test.b.one"));
    /* keys 2 and 5 are test.b.one's: the other five of seven have come */
    host_until((host_look(hosts[1]), hosts[1]->seen.n[1] == 100));
    cr_assert_str_eq(redis_server_ask(&redis, "DEL test.b.one"), "1");
    expect_all();
}
