/* test_bridge.c: buses, bridges and a broker together: what is published on one bus is on each of the others and at the broker, once, in order, as it was.
 *
 * Everything is real: evbus-bridge processes, buses with journals, a redis-server. Events are numbered, and compared byte for byte wherever they are
 * seen (host.h). Brokers that go away are test_bridge_away.c's, bridges that are killed test_bridge_death.c's. */
#include "host.h"

#include "folder.h"
#include "proxy.h"
#include "trial.h"

#include <evbus/admin.h>
#include <evbus/mirror.h>

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define S UINT64_C(1000000000)

static struct host_tally at_redis;

static const char *file_broker(void)
{
    static char url[300];
    snprintf(url, sizeof url, "file:%s/broker", host_folder());
    mkdir(url + 5, 0700);
    return url;
}

/* Buses of which each has all, and each event once. */
static void exchange(const char *broker, const char *settings, unsigned n)
{
    struct host *hosts[HOST_COUNT];
    for (unsigned i = 0; i < n; i++)
        hosts[i] = host_make(EVBUS_KEEPER_VOLUNTEER);
    host_publish(hosts[0], 50); /* before there is a bridge */
    for (unsigned i = 0; i < n; i++)
        host_bridge(hosts[i], 0, broker, settings);
    for (unsigned round = 0; round < 20; round++)
        for (unsigned i = 0; i < n; i++)
            host_publish(hosts[i], 1 + (round * 7 + i) % 40);
    host_settle(hosts, n);
    host_settle(hosts, n);
    for (unsigned i = 0; i < n; i++)
        host_expect(host_bridge_end(hosts[i], 0) == 0);
    for (unsigned i = 0; i < n; i++)
        host_look(hosts[i]);
}

Test(bridge, two_buses_have_what_either_publishes_once_and_in_order, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    exchange(redis.url, NULL, 2);
    host_expect_redis(&redis, 2);
}

Test(bridge, three_buses_make_no_loop, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    exchange(redis.url, "checkpoint=50ms", 3);
    host_expect_redis(&redis, 3);
}

Test(bridge, with_layout_log_a_stream_is_a_log, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    exchange(redis.url, "layout=log", 2);
    host_expect(redis_server_number(&redis, "XLEN {test.a}") + redis_server_number(&redis, "XLEN {test.b}") ==
                (long long)host_published(1) + host_published(2));
    host_expect(redis_server_number(&redis, "EXISTS test.a.one test.a.two test.b.one") == 0);
}

Test(bridge, a_file_is_a_broker_like_any_other, .timeout = 180)
{
    host_folder();
    exchange(file_broker(), NULL, 2);
}

Test(bridge, batches_of_one_event_and_of_many_are_the_same, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    exchange(redis.url, "batch_events=1 batches=64 linger=1ms", 2);
    host_expect_redis(&redis, 2);
}

/* --- as it was --------------------------------------------------------------------------------------------------------------- */

static struct evbus_reader *read_from_now(const struct host *host, const char *topic)
{
    struct evbus_reader *reader = NULL;
    cr_assert_eq(evbus_reader_open(&reader, host->bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = &topic,
                                                                  .n_patterns = 1,
                                                                  .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK);
    return reader;
}

static struct evbus_delivery next_of(struct evbus_reader *reader)
{
    struct evbus_delivery event = {.size = sizeof event};
    if (evbus_reader_next(reader, &event, HOST_MS * UINT64_C(1000000)) != EVBUS_OK)
        host_fail("no event comes: %s", evbus_message(NULL));
    return event;
}

Test(bridge, an_event_comes_as_it_was_published, .timeout = 120)
{
    static const char payload[] =
        " { \"total\" : 19.990, \"note\" : \"gr\\u00fc\xc3\x9f\\n\", \"big\":12345678901234567890 }\t";
    struct redis_server redis = redis_server_start(NULL);
    struct host *hosts[] = {host_make(EVBUS_KEEPER_VOLUNTEER), host_make(EVBUS_KEEPER_VOLUNTEER)};
    struct evbus_version more[] = {{.major = 2, .minor = 1, .payload = "{\"v\":2.10}"},
                                   {.major = 3, .minor = 0, .payload = "[3]"}};
    struct evbus_receipt receipt = {.size = sizeof receipt};
    struct evbus_event event = {.size = sizeof event,
                                .topic = "test.a.two",
                                .payload = payload,
                                .key = "k\x01 \xc3\xbc",
                                .timestamp_ns = UINT64_C(1769938200123000000),
                                .version_major = 1,
                                .version_minor = 4,
                                .more_versions = more,
                                .n_more_versions = 2,
                                .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                .tracestate = "vendor=value",
                                .correlation_id = "order 10248",
                                .causation_id = "because",
                                .expires_at_ns = UINT64_C(4102444800000000000)};
    cr_assert_eq(evbus_publish(hosts[0]->bus, &event, &receipt), EVBUS_OK, "%s", evbus_message(NULL));
    host_bridge(hosts[0], 0, redis.url, NULL);
    host_bridge(hosts[1], 0, redis.url, NULL);
    struct evbus_delivery came = next_of(read_from_now(hosts[1], "test.a.two"));
    cr_assert_arr_eq(came.id, receipt.id, 16);
    cr_assert_eq(came.timestamp_ns, event.timestamp_ns);
    cr_assert_str_eq(came.key, event.key);
    cr_assert_eq(came.n_versions, 3);
    cr_assert_eq(came.versions[0].major * 100 + came.versions[0].minor, 104);
    cr_assert_eq(came.versions[0].payload_len, sizeof payload - 1);
    cr_assert_arr_eq(came.versions[0].payload, payload, sizeof payload - 1);
    cr_assert_eq(came.versions[1].major * 100 + came.versions[1].minor, 201);
    cr_assert_eq(came.versions[1].payload_len, 10);
    cr_assert_arr_eq(came.versions[1].payload, "{\"v\":2.10}", 10);
    cr_assert_eq(came.versions[2].payload_len, 3);
    cr_assert_arr_eq(came.versions[2].payload, "[3]", 3);
    cr_assert_str_eq(came.traceparent, event.traceparent);
    cr_assert_str_eq(came.tracestate, event.tracestate);
    cr_assert_str_eq(came.correlation_id, event.correlation_id);
    cr_assert_str_eq(came.causation_id, event.causation_id);
    cr_assert_eq(came.expires_at_ns, event.expires_at_ns);
    cr_assert_not_null(came.origin);
    cr_assert_eq(came.origin->position, receipt.position);
    cr_assert_eq(came.origin->partition, receipt.partition);
    cr_assert_not_null(came.origin->broker_id);
}

/* --- foreign programs -------------------------------------------------------------------------------------------------------- */

#define FIVE "eventId %s eventType test.b.one timestamp 2026-02-01T09:30:00.000Z version 1.0 payload %s"

/* Each of them says where its entry stands. */
static int count_letter(void *context, const struct evbus_dead_letter *letter)
{
    unsigned *n = context;
    if (strcmp(letter->group, "bridge-redis") == 0 && strcmp(letter->cause, "rejected") == 0)
        ++*n;
    cr_assert_str_eq(letter->topic, "test.b.one");
    cr_assert_str_eq(letter->stream, "test.b.one");
    cr_assert_str_eq(letter->log, "");
    char quoted[80];
    snprintf(quoted, sizeof quoted, "\"id\":\"%s\"", letter->entry);
    cr_assert_not_null(strstr(letter->event->payload, quoted), "%s: %s", quoted, (const char *)letter->event->payload);
    return EVBUS_OK;
}

static int expect_refused(void *context, const struct evbus_dead_letter *letter)
{
    (void)context;
    cr_assert_not_null(letter->skipped);
    cr_assert_not_null(strstr(letter->skipped, "XADD it anew"), "%s", letter->skipped);
    return EVBUS_OK;
}

static unsigned n_letters(struct host *host)
{
    unsigned n = 0;
    cr_assert_eq(evbus_dead_letters(
                     host->bus, &(struct evbus_dead_letters_filter){.size = sizeof(struct evbus_dead_letters_filter)},
                     count_letter, &n),
                 EVBUS_OK, "%s", evbus_message(NULL));
    return n;
}

Test(bridge, what_a_foreign_program_appends_comes_in_once_and_what_is_no_event_is_a_dead_letter, .timeout = 120)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *host = host_make(EVBUS_KEEPER_VOLUNTEER);
    struct evbus_reader *reader = read_from_now(host, "test.b.one");
    redis_server_ask(&redis, "XADD test.b.one * " FIVE, "0198c0de-0000-7000-8000-000000000001", "{}");
    host_bridge(host, 0, redis.url, "checkpoint=50ms");
    struct evbus_delivery came = next_of(reader);
    cr_assert_eq(came.id[15], 1);
    cr_assert_eq(came.timestamp_ns, UINT64_C(1769938200000000000));
    cr_assert_eq(came.payload_len, 2);
    cr_assert_not_null(came.origin);
    cr_assert_eq(came.origin->bus[0] | came.origin->bus[15], 0);
    /* no eventId; no JSON; another stream's; no event at all */
    redis_server_ask(&redis, "XADD test.b.one * eventType test.b.one timestamp 2026-02-01T09:30:00.000Z payload {}");
    redis_server_ask(&redis, "XADD test.b.one * " FIVE, "0198c0de-0000-7000-8000-000000000002", "{]");
    redis_server_ask(&redis,
                     "XADD test.b.one * eventId 0198c0de-0000-7000-8000-000000000003 eventType test.a.one timestamp "
                     "2026-02-01T09:30:00.000Z payload {}");
    redis_server_ask(&redis, "XADD test.b.one * x y");
    redis_server_ask(&redis, "XADD test.b.one * " FIVE, "0198c0de-0000-7000-8000-000000000004", "[4]");
    cr_assert_eq(next_of(reader).id[15], 4);
    cr_assert_eq(n_letters(host), 4);
    host_bridge_kill(host, 0);
    host_bridge(host, 0, redis.url, "checkpoint=50ms");
    redis_server_ask(&redis, "XADD test.b.one * " FIVE, "0198c0de-0000-7000-8000-000000000005", "[5]");
    cr_assert_eq(next_of(reader).id[15], 5, "what came before comes again");
    cr_assert_eq(n_letters(host), 4);
    cr_assert_eq(redis_server_number(&redis, "XLEN test.b.one"), 7, "it was sent back");
    struct evbus_settle_result result = {.size = sizeof result};
    cr_assert_eq(evbus_dead_letters_replay(host->bus, NULL, expect_refused, NULL, &result), EVBUS_OK);
    cr_assert_eq(result.n_done * 10 + result.n_skipped, 4);
    cr_assert_eq(evbus_dead_letters_discard(host->bus, NULL, NULL, NULL, &result), EVBUS_OK);
    cr_assert_eq(result.n_done, 4);
    cr_assert_eq(n_letters(host), 0);
}

/* An entry of 30,000 empty fields with empty names: more than Lua can say. */
static void add_empty_fields(const struct redis_server *redis)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char reply[2] = "";
    cr_assert_lt(strlen(redis->socket), sizeof address.sun_path);
    memcpy(address.sun_path, redis->socket, strlen(redis->socket) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    FILE *out = fdopen(fd, "r+");
    cr_assert_not_null(out);
    fprintf(out, "*60003\r\n$4\r\nXADD\r\n$10\r\ntest.b.one\r\n$1\r\n*\r\n");
    for (unsigned i = 0; i < 60000; i++)
        fprintf(out, "$0\r\n\r\n");
    fflush(out);
    cr_assert_eq(read(fd, reply, 1), 1);
    cr_assert_eq(reply[0], '$');
    fclose(out);
}

/* What a dead letter shows of an entry is bounded by its size as JSON, and by the rings. */
Test(bridge, an_entry_of_any_shape_becomes_a_dead_letter_and_the_stream_goes_on, .timeout = 120)
{
    static const char *const shapes[] = {
        "local f = {} for i = 1, 7000 do f[i] = '\\1' end redis.call('XADD', 'test.b.one', '*', unpack(f))",
        "redis.call('XADD', 'test.b.one', '*', 'x', ('\\1'):rep(27000))",
        "redis.call('XADD', 'test.b.one', '*', ('x'):rep(150000), ('\\255'):rep(1000000))",
    };
    struct redis_server redis = redis_server_start(NULL);
    struct host *host = host_make(EVBUS_KEEPER_VOLUNTEER);
    struct evbus_reader *reader = read_from_now(host, "test.b.one");
    host_bridge(host, 0, redis.url, "checkpoint=50ms");
    for (unsigned i = 0; i <= sizeof shapes / sizeof shapes[0]; i++) {
        if (i < sizeof shapes / sizeof shapes[0])
            cr_assert_str_eq(redis_server_ask(&redis, "EVAL \"%s return 'done'\" 0", shapes[i]), "done");
        else
            add_empty_fields(&redis);
        redis_server_ask(&redis, "XADD test.b.one * " FIVE, "0198c0de-0000-7000-8000-000000000001", "1");
        cr_assert_eq(next_of(reader).id[15], 1, "%u", i);
        cr_assert_eq(n_letters(host), i + 1, "%u", i);
    }
}

/* --- while all runs ---------------------------------------------------------------------------------------------------------- */

Test(bridge, a_topic_that_a_catalogue_adds_goes_out_and_comes_in_without_a_restart, .timeout = 120)
{
    static const char more[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                               "\"defaults\":{\"partitions\":2,\"ring\":\"1MiB\",\"journal\":true},"
                               "\"topics\":{\"test.a.one\":{},\"test.a.two\":{},\"test.b.one\":{},\"test.a.new\":{},"
                               "\"test.c.new\":{}}}";
    static const char *const fresh[] = {"test.a.new", "test.c.new"};
    struct redis_server redis = redis_server_start(NULL);
    struct host *hosts[] = {host_make(EVBUS_KEEPER_VOLUNTEER), host_make(EVBUS_KEEPER_VOLUNTEER)};
    host_bridge(hosts[0], 0, redis.url, NULL);
    host_bridge(hosts[1], 0, redis.url, NULL);
    host_publish(hosts[0], 30);
    host_settle(hosts, 2);
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(evbus_catalogue_apply(hosts[i]->bus, more, sizeof more - 1, NULL), EVBUS_OK, "%s",
                     evbus_message(NULL));
    for (unsigned t = 0; t < 2; t++) {
        struct evbus_event event = {
            .size = sizeof event, .topic = fresh[t], .payload = "\"new\"", .key = "k", .timeout_ns = 5 * S};
        struct evbus_reader *reader = read_from_now(hosts[1], fresh[t]);
        cr_assert_eq(evbus_publish(hosts[0]->bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
        cr_assert_str_eq(next_of(reader).payload, "\"new\"");
        cr_assert_eq(redis_server_number(&redis, "XLEN %s", fresh[t]), 1);
    }
    host_publish(hosts[1], 30);
    host_settle(hosts, 2);
}

Test(bridge, told_to_end_it_drains_first, .timeout = 120)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *host = host_make(EVBUS_KEEPER_VOLUNTEER);
    host_bridge(host, 0, redis.url, NULL);
    host_await_bridge(host, 0);
    for (unsigned i = 0; i < 3; i++) {
        host_publish(host, 500);
        host_expect(host_bridge_end(host, 0) == 0);
        host_expect_redis(&redis, 1);
        host_bridge(host, 0, redis.url, NULL);
        host_await_bridge(host, 0);
    }
}

/* A dead letter is written once more where its entry was not. */
Test(bridge, told_to_end_it_keeps_a_checkpoint_of_all_that_has_come, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *host = host_make(EVBUS_KEEPER_VOLUNTEER);
    struct evbus_reader *reader = read_from_now(host, "test.b.one");
    for (unsigned i = 1; i <= trial_count(20, 5); i++) {
        char id[40];
        host_bridge(host, 0, redis.url, "checkpoint=10ms");
        snprintf(id, sizeof id, "0198c0de-0000-7000-8000-%012u", i);
        redis_server_ask(&redis, "XADD test.b.one * " FIVE, id, "{}");
        next_of(reader);
        host_expect(!host_bridge_has_said(host, 0, "an entry is no event"));
        redis_server_ask(&redis, "XADD test.b.one * x y");
        host_until(host_bridge_has_said(host, 0, "an entry is no event"));
        host_expect(host_bridge_end(host, 0) == 0);
    }
    evbus_reader_close(reader);
}

Test(bridge, a_bus_whose_memory_is_lost_goes_on, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *hosts[] = {host_make(EVBUS_KEEPER_VOLUNTEER), host_make(EVBUS_KEEPER_VOLUNTEER)};
    for (unsigned i = 0; i < 2; i++)
        host_bridge(hosts[i], 0, redis.url, "checkpoint=200ms");
    for (unsigned round = 0; round < 3; round++) {
        host_publish(hosts[0], 100);
        host_publish(hosts[1], 100);
        host_settle(hosts, 2);
        host_bridge_kill(hosts[0], 0);
        host_publish(hosts[1], 50); /* while it is gone */
        host_forget_memory(hosts[0]);
        host_publish(hosts[0], 50);
        host_bridge(hosts[0], 0, redis.url, "checkpoint=200ms");
        host_settle(hosts, 2);
    }
    host_expect_redis(&redis, 2);
}

/* --- operators --------------------------------------------------------------------------------------------------------------- */

static int publish_broker(struct host *host, uint64_t timeout_ns, enum evbus_ack *out_ack)
{
    struct evbus_receipt receipt = {.size = sizeof receipt};
    int rc = evbus_publish(host->bus,
                           &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                 .topic = "test.a.one",
                                                 .payload = "\"ack\"",
                                                 .key = "k",
                                                 .ack = EVBUS_ACK_BROKER,
                                                 .timeout_ns = timeout_ns},
                           &receipt);
    *out_ack = receipt.ack;
    return rc;
}

Test(bridge, what_is_acknowledged_by_the_broker_is_there, .timeout = 120)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *host = host_make(EVBUS_KEEPER_VOLUNTEER);
    enum evbus_ack ack;
    host_bridge(host, 0, redis.url, NULL);
    host_await_bridge(host, 0);
    for (unsigned i = 1; i <= 50; i++) {
        int rc = publish_broker(host, HOST_MS * UINT64_C(1000000), &ack);
        if (rc != EVBUS_OK)
            host_fail("%d %s", rc, evbus_message(NULL));
        cr_assert_eq(ack, EVBUS_ACK_BROKER);
        cr_assert_eq(redis_server_number(&redis, "XLEN test.a.one"), i);
    }
}

Test(bridge, paused_it_takes_nothing_out_or_in_and_goes_on_when_it_is_told, .timeout = 120)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *hosts[] = {host_make(EVBUS_KEEPER_VOLUNTEER), host_make(EVBUS_KEEPER_VOLUNTEER)};
    enum evbus_ack ack = EVBUS_ACK_LOG;
    for (unsigned i = 0; i < 2; i++)
        host_bridge(hosts[i], 0, redis.url, NULL);
    host_settle(hosts, 2);
    redis_server_pause(&redis);
    host_publish(hosts[0], 500); /* it is stopped in the middle of it: Redis has not answered */
    cr_assert_eq(evbus_mirror_pause(hosts[0]->bus, "redis", true), EVBUS_OK);
    host_until(host_bridge_has_said(hosts[0], 0, "paused"));
    redis_server_continue(&redis);
    uint32_t n = host_published(1);
    host_publish(hosts[0], 50);
    host_publish(hosts[1], 50);
    cr_assert_eq(publish_broker(hosts[0], S / 10, &ack), EVBUS_EIO);
    host_look_at_redis(&at_redis, &redis);
    for (uint32_t seq = n; seq < host_published(1); seq++)
        host_expect(!at_redis.has[1][seq]);
    host_look(hosts[0]);
    host_expect(hosts[0]->seen.n[2] == host_published(2) - 50);
    cr_assert_eq(evbus_mirror_pause(hosts[0]->bus, NULL, false), EVBUS_OK);
    host_settle(hosts, 2);
    host_expect_redis(&redis, 2);
}

/* Of one bridge, which serves its metrics there. */
static double metric_at(const char *path, const char *name)
{
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    static char text[1 << 18];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = 0;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)sizeof request - 1)
        host_fail("nobody serves metrics at %s", path);
    for (ssize_t n; (n = recv(fd, text + len, sizeof text - 1 - len, 0)) > 0;)
        len += (size_t)n;
    close(fd);
    text[len] = '\0';
    const char *line = strstr(text, name);
    while (line != NULL && line[strlen(name)] != '{')
        line = strstr(line + 1, name);
    const char *value = line != NULL ? strstr(line, "} ") : NULL;
    if (value == NULL)
        host_fail("there is no metric %s in: %s", name, text);
    return strtod(value + 2, NULL);
}

Test(bridge, its_lag_is_the_oldest_events_though_others_come_all_the_time, .timeout = 120)
{
    struct redis_server redis = redis_server_start(NULL);
    struct proxy proxy = proxy_start(redis.dir, redis.socket);
    struct host *host = host_make(EVBUS_KEEPER_VOLUNTEER);
    char path[300], settings[400];
    double lag = 0, before = 0;
    uint64_t next_ms = 0;
    snprintf(path, sizeof path, "%s/metrics.sock", host_folder());
    snprintf(settings, sizeof settings, "reply_timeout=60s metrics=unix:%s", path);
    host_bridge(host, 0, proxy.url, settings);
    host_await_bridge(host, 0);
    proxy_delay(&proxy, 200); /* there and back it is longer than it takes to look at the lag again */
    do {
        before = lag;
        uint64_t until_ms = await_now_ms() + 20;
        while (await_now_ms() < until_ms) {
            if (await_now_ms() >= next_ms && host_published(1) < HOST_EVENTS - 100) {
                host_publish(host, 1);
                next_ms = await_now_ms() + 10;
            }
            await_pause();
        }
        lag = metric_at(path, "evbus_bridge_out_lag_seconds");
        if (host_published(1) >= HOST_EVENTS - 100)
            host_fail("there was never less of it than before: %f s", lag);
    } while (lag >= before);
    proxy_delay(&proxy, 0);
    host_until(metric_at(path, "evbus_bridge_out_lag_seconds") <= 0);
    host_expect_redis(&redis, 1);
    host_bridge_kill(host, 0);
    proxy_end(&proxy);
}
