/* test_bridge_death.c: bridges that are killed, stopped, and woken: each event is once on each bus and once at the broker, in order per host and key,
 * whoever leads. Everything is real, see host.h. EVBUS_SEED repeats a storm. */
#include "host.h"

#include "trial.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(bridge_death, the_leader_is_killed_and_the_one_that_stands_by_goes_on, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *hosts[] = {host_make(EVBUS_KEEPER_VOLUNTEER), host_make(EVBUS_KEEPER_VOLUNTEER)};
    host_bridge(hosts[1], 0, redis.url, NULL);
    host_bridge(hosts[0], 0, redis.url, NULL);
    host_await_bridge(hosts[0], 0);
    host_bridge(hosts[0], 1, redis.url, NULL);
    host_until(host_bridge_has_said(hosts[0], 1, "stands by"));
    for (unsigned round = 0; round < 4; round++) {
        unsigned leader = round % 2;
        host_publish(hosts[0], 200);
        host_publish(hosts[1], 200);
        host_bridge_kill(hosts[0], leader);
        host_publish(hosts[0], 50);
        host_publish(hosts[1], 50);
        host_await_bridge(hosts[0], 1 - leader);
        host_bridge(hosts[0], leader, redis.url, NULL);
        host_until(host_bridge_has_said(hosts[0], leader, "stands by"));
    }
    host_settle(hosts, 2);
    host_expect_redis(&redis, 2);
}

/* It is deposed after its patience, 10 s. */
Test(bridge_death, a_leader_that_is_stopped_is_fenced_when_it_wakes, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *hosts[] = {host_make(EVBUS_KEEPER_VOLUNTEER), host_make(EVBUS_KEEPER_VOLUNTEER)};
    host_bridge(hosts[1], 0, redis.url, NULL);
    host_bridge(hosts[0], 0, redis.url, NULL);
    host_await_bridge(hosts[0], 0);
    host_bridge(hosts[0], 1, redis.url, NULL);
    host_until(host_bridge_has_said(hosts[0], 1, "stands by"));
    host_publish(hosts[0], 500); /* it is stopped in the middle of it */
    host_publish(hosts[1], 500);
    child_stop(&hosts[0]->bridges[0]);
    host_publish(hosts[0], 100);
    host_await_bridge(hosts[0], 1);
    host_settle(hosts, 2);
    child_continue(&hosts[0]->bridges[0]);
    host_until(host_bridge_has_said(hosts[0], 0, "leads no more"));
    host_publish(hosts[0], 100);
    host_publish(hosts[1], 100);
    host_settle(hosts, 2);
    host_bridge_kill(hosts[0], 1);
    host_publish(hosts[0], 100);
    host_publish(hosts[1], 100);
    host_settle(hosts, 2);
    host_expect_redis(&redis, 2);
}

/* Kills at random, of bridges that lead, stand by, or have just begun; which are the keepers of their buses as well. */
static void storm(const char *name, const char *broker, const char *settings, unsigned n_hosts, bool is_of_two)
{
    struct host *hosts[HOST_COUNT];
    uint64_t seed = trial_seed(name);
    uint64_t n_kills = trial_count(30, 8);
    for (unsigned i = 0; i < n_hosts; i++) {
        hosts[i] = host_make(EVBUS_KEEPER_NEVER);
        for (unsigned b = 0; b < (is_of_two ? 2u : 1u); b++)
            host_bridge(hosts[i], b, broker, settings);
    }
    for (uint64_t k = 0; k < n_kills; k++) {
        struct host *host = hosts[trial_random(&seed) % n_hosts];
        unsigned bridge = is_of_two ? trial_random(&seed) % 2 : 0;
        uint64_t until_ms = await_now_ms() + trial_random(&seed) % 150;
        do {
            host_publish(hosts[trial_random(&seed) % n_hosts], 1 + (uint32_t)(trial_random(&seed) % 10));
            for (unsigned i = 0; i < n_hosts; i++)
                host_look(hosts[i]);
            await_pause();
        } while (await_now_ms() < until_ms && host_published(host->number) < HOST_EVENTS - 1000);
        host_bridge_kill(host, bridge);
        host_bridge(host, bridge, broker, settings);
    }
    host_settle(hosts, n_hosts);
    host_settle(hosts, n_hosts);
}

Test(bridge_death, bridges_that_are_killed_at_random_lose_nothing_and_bring_nothing_twice, .timeout = 300)
{
    struct redis_server redis = redis_server_start(NULL);
    storm("bridge_death/bridges_that_are_killed_at_random_lose_nothing_and_bring_nothing_twice", redis.url,
          "checkpoint=50ms", 2, false);
    host_expect_redis(&redis, 2);
}

Test(bridge_death, nor_do_those_of_which_one_leads_and_one_stands_by, .timeout = 300)
{
    struct redis_server redis = redis_server_start(NULL);
    storm("bridge_death/nor_do_those_of_which_one_leads_and_one_stands_by", redis.url, "checkpoint=100ms", 2, true);
    host_expect_redis(&redis, 2);
}

Test(bridge_death, nor_do_those_with_layout_log, .timeout = 300)
{
    struct redis_server redis = redis_server_start(NULL);
    storm("bridge_death/nor_do_those_with_layout_log", redis.url, "layout=log", 3, false);
}

Test(bridge_death, nor_do_those_of_a_file, .timeout = 300)
{
    char url[300];
    snprintf(url, sizeof url, "file:%s/broker", host_folder());
    storm("bridge_death/nor_do_those_of_a_file", url, "checkpoint=100ms", 2, false);
}
