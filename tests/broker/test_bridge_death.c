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

/* It is deposed after its patience, 10 s; in a full run it sleeps for a minute. */
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
    uint64_t until_ms = await_now_ms() + (trial_is_full() ? 60000 : 0);
    host_publish(hosts[0], 100);
    host_await_bridge(hosts[0], 1);
    host_settle(hosts, 2);
    while (await_now_ms() < until_ms)
        await_pause();
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

static bool is_room_left(unsigned n_hosts)
{
    for (unsigned i = 1; i <= n_hosts; i++)
        if (host_published(i) >= HOST_EVENTS - 1000)
            return false;
    return true;
}

static void publish_for_a_while(struct host *const *hosts, unsigned n_hosts, uint64_t *seed)
{
    uint64_t until_ms = await_now_ms() + trial_random(seed) % 150;
    do {
        host_publish(hosts[trial_random(seed) % n_hosts], 1 + (uint32_t)(trial_random(seed) % 10));
        for (unsigned i = 0; i < n_hosts; i++)
            host_look(hosts[i]);
        await_pause();
    } while (await_now_ms() < until_ms && is_room_left(n_hosts));
}

struct storm {
    const char *name;
    const char *broker;
    const char *settings;
    unsigned n_hosts;
    bool is_of_two;             /* bridges of each host */
    struct redis_server *redis; /* is hit as well; NULL: it is not */
};

/* Emptied; or killed, and there again when more has been published. */
static void hit_redis(const struct storm *storm, struct host *const *hosts, uint64_t *seed)
{
    if (trial_random(seed) % 2 == 0) {
        host_until(strcmp(redis_server_ask(storm->redis, "FLUSHALL"), "OK") == 0); /* it may still be loading */
        return;
    }
    redis_server_kill(storm->redis);
    publish_for_a_while(hosts, storm->n_hosts, seed);
    redis_server_again(storm->redis);
}

/* Kills at random, of bridges that lead, stand by, or have just begun; which are the keepers of their buses as well. */
static void rage(const struct storm *storm)
{
    struct host *hosts[HOST_COUNT];
    uint64_t seed = trial_seed(storm->name);
    uint64_t n_kills = trial_count(30, 8);
    for (unsigned i = 0; i < storm->n_hosts; i++) {
        hosts[i] = host_make(EVBUS_KEEPER_NEVER);
        for (unsigned b = 0; b < (storm->is_of_two ? 2u : 1u); b++)
            host_bridge(hosts[i], b, storm->broker, storm->settings);
    }
    for (uint64_t k = 0; k < n_kills; k++) {
        struct host *host = hosts[trial_random(&seed) % storm->n_hosts];
        unsigned bridge = storm->is_of_two ? trial_random(&seed) % 2 : 0;
        uint64_t hits = storm->redis != NULL ? trial_random(&seed) % 3 : 0;
        publish_for_a_while(hosts, storm->n_hosts, &seed);
        if (hits != 1)
            host_bridge_kill(host, bridge);
        if (hits != 0)
            hit_redis(storm, hosts, &seed);
        if (hits != 1)
            host_bridge(host, bridge, storm->broker, storm->settings);
    }
    host_settle(hosts, storm->n_hosts);
    host_settle(hosts, storm->n_hosts);
}

Test(bridge_death, bridges_that_are_killed_at_random_lose_nothing_and_bring_nothing_twice, .timeout = 300)
{
    struct redis_server redis = redis_server_start(NULL);
    rage(&(struct storm){.name = "bridge_death/bridges_that_are_killed_at_random_lose_nothing_and_bring_nothing_twice",
                         .broker = redis.url,
                         .settings = "checkpoint=50ms",
                         .n_hosts = 2});
    host_expect_redis(&redis, 2);
}

Test(bridge_death, nor_do_those_of_which_one_leads_and_one_stands_by, .timeout = 300)
{
    struct redis_server redis = redis_server_start(NULL);
    rage(&(struct storm){.name = "bridge_death/nor_do_those_of_which_one_leads_and_one_stands_by",
                         .broker = redis.url,
                         .settings = "checkpoint=100ms",
                         .n_hosts = 2,
                         .is_of_two = true});
    host_expect_redis(&redis, 2);
}

Test(bridge_death, nor_do_those_with_layout_log, .timeout = 300)
{
    struct redis_server redis = redis_server_start(NULL);
    rage(&(struct storm){.name = "bridge_death/nor_do_those_with_layout_log",
                         .broker = redis.url,
                         .settings = "layout=log",
                         .n_hosts = 3});
}

Test(bridge_death, nor_do_those_of_a_file, .timeout = 300)
{
    char url[300];
    snprintf(url, sizeof url, "file:%s/broker", host_folder());
    rage(&(struct storm){
        .name = "bridge_death/nor_do_those_of_a_file", .broker = url, .settings = "checkpoint=100ms", .n_hosts = 2});
}

/* Nothing is said of what stands in Redis then: a 7.0 that is killed in a write may do half of a batch once more, behind its second start (append.lua). */
Test(bridge_death, nor_do_those_whose_redis_is_killed_and_emptied_meanwhile, .timeout = 300)
{
    struct redis_server redis = redis_server_start("appendonly yes\nappendfsync always");
    rage(&(struct storm){.name = "bridge_death/nor_do_those_whose_redis_is_killed_and_emptied_meanwhile",
                         .broker = redis.url,
                         .settings = "checkpoint=50ms",
                         .n_hosts = 2,
                         .redis = &redis});
}

Test(bridge_death, nor_do_those_of_three_hosts_with_layout_log, .timeout = 300)
{
    struct redis_server redis = redis_server_start("appendonly yes\nappendfsync always");
    rage(&(struct storm){.name = "bridge_death/nor_do_those_of_three_hosts_with_layout_log",
                         .broker = redis.url,
                         .settings = "layout=log checkpoint=50ms",
                         .n_hosts = 3,
                         .redis = &redis});
}
