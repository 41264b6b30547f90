/* test_bridge_away.c: the broker goes away, comes back, forgets, refuses: services notice nothing, what has waited goes out in order, each event is there once,
 * and what was lost is there again. Everything is real, see host.h. What a backend makes of each of it is test_redis_away.c's and test_redis_append.c's.
 *
 *     away       killed, paused, slow, too slow, cut off, cut at any byte
 *     forgets    FLUSHALL with and without a bridge, a failover, a stream that was removed, evicted
 *     refuses    OOM, READONLY, LOADING, NOAUTH, NOPERM, NOSCRIPT, BUSY, WRONGTYPE
 *
 * Both hosts publish before, while and after something is wrong, and the fault lasts until their bridges have said its name: so it was there. */
#include "host.h"

#include "proxy.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

/* 200 events a second on each, until there would be no number left for the end. */
static void trickle(void)
{
    static uint64_t next_ms;
    if (await_now_ms() < next_ms || host_published(1) > HOST_EVENTS - 2000)
        return;
    next_ms = await_now_ms() + 10;
    host_publish(hosts[0], 2);
    host_publish(hosts[1], 2);
}

#define publish_until(expression) host_until((trickle(), (expression)))

static bool both_have_said(const char *text)
{
    return host_bridge_has_said(hosts[0], 0, text) && host_bridge_has_said(hosts[1], 0, text);
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

/* As start(), and each host has a proxy between. */
static void start_behind_proxies(struct proxy proxies[2], const char *settings)
{
    redis = redis_server_start(NULL);
    for (unsigned i = 0; i < 2; i++) {
        char dir[160];
        snprintf(dir, sizeof dir, "%s/p%u", redis.dir, i);
        cr_assert_eq(mkdir(dir, 0700), 0);
        proxies[i] = proxy_start(dir, redis.socket);
        hosts[i] = host_make(EVBUS_KEEPER_VOLUNTEER);
        host_bridge(hosts[i], 0, proxies[i].url, settings);
    }
    for (unsigned i = 0; i < 2; i++)
        host_await_bridge(hosts[i], 0);
}

static void end_proxies(struct proxy proxies[2])
{
    for (unsigned i = 0; i < 2; i++) {
        host_bridge_kill(hosts[i], 0);
        proxy_end(&proxies[i]);
    }
}

Test(bridge_away, a_slow_one_is_waited_for_and_gets_all, .timeout = 180)
{
    struct proxy proxies[2];
    start_behind_proxies(proxies, "reply_timeout=60s connect_timeout=60s");
    for (unsigned i = 0; i < 2; i++)
        proxy_delay(&proxies[i], 50);
    publish_both(300);
    host_settle(hosts, 2);
    for (unsigned i = 0; i < 2; i++) {
        host_expect(!host_bridge_has_said(hosts[i], 0, "the broker is away"));
        proxy_delay(&proxies[i], 0);
    }
    publish_both(50);
    expect_all();
    end_proxies(proxies);
}

Test(bridge_away, one_that_is_too_slow_is_asked_again_and_gets_all_once, .timeout = 180)
{
    struct proxy proxies[2];
    start_behind_proxies(proxies, "reply_timeout=200ms connect_timeout=200ms");
    for (unsigned i = 0; i < 2; i++)
        proxy_delay(&proxies[i], 300); /* what it is asked it does, and nobody waits for the answer */
    publish_until(both_have_said("it has not answered in reply_timeout"));
    for (unsigned i = 0; i < 2; i++)
        proxy_delay(&proxies[i], 0);
    publish_both(50);
    expect_all();
    end_proxies(proxies);
}

Test(bridge_away, a_host_that_is_cut_off_catches_up_and_the_other_does_not_wait, .timeout = 180)
{
    struct proxy proxies[2];
    start_behind_proxies(proxies, "reply_timeout=300ms wait_timeout=100ms");
    publish_both(50);
    proxy_swallow(&proxies[0], true);
    long long n = redis_server_number(&redis, "XLEN test.a.one");
    publish_until(host_bridge_has_said(hosts[0], 0, "the broker is away") &&
                  redis_server_number(&redis, "XLEN test.a.one") > n + 10);
    proxy_swallow(&proxies[0], false);
    publish_both(50);
    expect_all();
    end_proxies(proxies);
}

Test(bridge_away, a_connection_that_is_cut_at_any_byte_likewise, .timeout = 300)
{
    uint64_t seed = trial_seed("bridge_away/a_connection_that_is_cut_at_any_byte_likewise");
    struct proxy proxies[2];
    start_behind_proxies(proxies, "checkpoint=50ms");
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
    end_proxies(proxies);
}

/* --- it forgets -------------------------------------------------------------------------------------------------------------- */

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

/* Its marks stay, and say what is not there any more; whoever comes first makes it anew. */
Test(bridge_away, a_stream_that_was_removed_is_filled_again_by_both, .timeout = 180)
{
    start(NULL, "checkpoint=100ms");
    for (unsigned round = 0; round < 3; round++) {
        publish_both(70);
        cr_assert_str_eq(redis_server_ask(&redis, "DEL test.a.one"), "1");
        publish_both(70);
        host_settle(hosts, 2);
    }
    expect_all();
}

static long long evicted(void)
{
    long long n = 0;
    const char *found = strstr(redis_server_ask(&redis, "INFO stats"), "evicted_keys:");
    cr_assert(found != NULL && sscanf(found, "evicted_keys:%lld", &n) == 1);
    return n;
}

static long long used(void)
{
    long long n = 0;
    const char *found = strstr(redis_server_ask(&redis, "INFO memory"), "used_memory:");
    cr_assert(found != NULL && sscanf(found, "used_memory:%lld", &n) == 1);
    return n;
}

/* Streams go, or marks, or both. That the policy does so is told beforehand. */
Test(bridge_away, what_was_evicted_is_there_again, .timeout = 300)
{
    start("maxmemory 1gb\nmaxmemory-policy allkeys-random", "checkpoint=100ms");
    host_expect(both_have_said("maxmemory-policy is allkeys-random: Redis may throw streams away"));
    for (unsigned round = 0; round < trial_count(8, 3); round++) {
        long long before = evicted();
        publish_both(70);
        cr_assert_str_eq(redis_server_ask(&redis, "CONFIG SET maxmemory %lld", used() - 20000 * (1 + (long long)round)),
                         "OK");
        publish_until(evicted() > before);
        cr_assert_str_eq(redis_server_ask(&redis, "CONFIG SET maxmemory 1gb"), "OK");
        publish_both(70);
        host_settle(hosts, 2);
    }
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

/* It is there all the time, and another thing for a while. */
Test(bridge_away, a_stream_that_is_another_thing_for_a_while_goes_on_where_it_was, .timeout = 180)
{
    start(NULL, NULL);
    cr_assert_str_eq(redis_server_ask(&redis,
                                      "EVAL \"redis.call('RENAME', KEYS[1], KEYS[2]) redis.call('SET', KEYS[1], "
                                      "'taken')\" 2 test.a.two test.a.two.aside"),
                     "(nil)");
    publish_until(both_have_said("WRONGTYPE test.a.two"));
    cr_assert_str_eq(redis_server_ask(&redis, "RENAME test.a.two.aside test.a.two"), "OK");
    publish_both(50);
    expect_all();
}

Test(bridge_away, while_it_loads_events_wait_and_what_it_had_not_saved_is_there_again, .timeout = 180)
{
    start(NULL, "checkpoint=100ms");
    cr_assert_str_eq(redis_server_ask(&redis, "SAVE"), "OK");
    publish_both(100);
    redis_server_kill(&redis);
    redis_server_configure(&redis, "key-load-delay 100000\nloading-process-events-interval-bytes 1024");
    redis_server_launch(&redis);
    publish_until(both_have_said("LOADING "));
    cr_assert_str_eq(redis_server_ask(&redis, "CONFIG SET key-load-delay 0"), "OK");
    publish_both(50);
    expect_all();
}

Test(bridge_away, a_password_that_we_do_not_have_keeps_events_waiting, .timeout = 180)
{
    start(KEEPS, NULL);
    redis_server_stop(&redis);
    redis_server_configure(&redis, KEEPS "\nrequirepass secret");
    redis_server_again(&redis);
    publish_until(both_have_said("NOAUTH "));
    redis_server_stop(&redis);
    redis_server_configure(&redis, KEEPS);
    redis_server_again(&redis);
    publish_both(50);
    expect_all();
}

Test(bridge_away, a_right_that_is_taken_away_keeps_events_waiting, .timeout = 180)
{
    static const struct {
        const char *rules, *said;
    } rows[] = {
        {"-evalsha", "'evalsha'"},                  /* append */
        {"-xread", "'xread'"},                      /* read */
        {"-xadd", "The user executing the script"}, /* in the middle of the script */
        {"resetkeys ~evbus:*", "NOPERM this user has no permissions to access one of the keys"},
    };
    start("user bridge on nopass ~* &* +@all", "user=bridge");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_assert_str_eq(redis_server_ask(&redis, "ACL SETUSER bridge %s", rows[i].rules), "OK");
        publish_until(both_have_said(rows[i].said));
        cr_assert_str_eq(redis_server_ask(&redis, "ACL SETUSER bridge ~* +@all"), "OK");
        publish_both(20);
        host_settle(hosts, 2);
    }
    expect_all();
}

Test(bridge_away, scripts_that_are_flushed_are_loaded_again, .timeout = 180)
{
    start(NULL, NULL);
    for (unsigned round = 0; round < 20; round++) {
        publish_both(20);
        cr_assert_str_eq(redis_server_ask(&redis, "SCRIPT FLUSH"), "OK");
    }
    redis_server_ask(&redis, "SCRIPT FLUSH");
    publish_until(both_have_said("NOSCRIPT "));
    expect_all();
}

Test(bridge_away, a_script_of_others_that_does_not_end_keeps_events_waiting, .timeout = 180)
{
    start("busy-reply-threshold 50", NULL);
    for (unsigned round = 0; round < 2; round++) {
        struct child busy = redis_server_keep_busy(&redis);
        publish_until(strncmp(redis_server_ask(&redis, "PING"), "(error) BUSY", 12) == 0);
        publish_until(both_have_said("BUSY "));
        cr_assert_str_eq(redis_server_ask(&redis, "SCRIPT KILL"), "OK");
        cr_assert_eq(child_join(&busy), 0);
        publish_both(50);
    }
    expect_all();
}
