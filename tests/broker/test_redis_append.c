/* test_redis_append.c: a batch is in Redis exactly once, whatever is cut where, and whatever Redis answers; and what
 * nobody needs any more goes.
 *
 * Against a real redis-server. The backend is spoken to as a bridge does (support/bridgehead.h); what is in Redis is
 * looked at by another connection. */
#include "bridgehead.h"
#include "proxy.h"
#include "redis.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOPIC  BRIDGEHEAD_TOPIC
#define SECOND BRIDGEHEAD_SECOND
#define MARK   BRIDGEHEAD_MARK

static const uint64_t first[] = {4, 8, 12};
static const uint64_t next[] = {16, 20};

static const char *positions(const struct redis_server *server, const char *stream)
{
    return redis_server_fields(server, stream, "position");
}

/* --- what is written ---------------------------------------------------------------------------------------------- */

Test(redis_append, an_entry_has_the_ten_fields_in_their_order)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 1, first), BACKEND_OK, "%s", head->append_why);
    const char *entry = redis_server_ask(&server, "XRANGE %s - +", TOPIC);
    cr_assert_not_null(strchr(entry, ' '));
    cr_assert_str_eq(strchr(entry, ' ') + 1, "eventId 04000000-0000-0000-0000-000000000000 eventType "
                                             "lomash.orders.created timestamp 2026-02-01T09:30:00.000Z "
                                             "version 1.0 payload {\"total\":19.99} key 10248 origin " BRIDGEHEAD_ORIGIN
                                             " partition 3 position 4 prev 0");
    cr_assert_str_eq(redis_server_ask(&server, "HMGET %s position epoch incarnation entries", MARK), "4 1 1 1");
    char id[64];
    snprintf(id, sizeof id, "%s", redis_server_ask(&server, "HGET %s entry", MARK));
    cr_assert_eq(strncmp(redis_server_ask(&server, "XRANGE %s - +", TOPIC), id, strlen(id)), 0, "%s", id);
    bridgehead_close(head);
}

Test(redis_append, further_fields_stand_behind_them)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    const struct evbus_version version = {.major = 1, .payload = "1", .payload_len = 1};
    const struct evbus_delivery event = {.topic = TOPIC,
                                         .versions = &version,
                                         .n_versions = 1,
                                         .timestamp_ns = 1,
                                         .key = "",
                                         .payload = "1",
                                         .payload_len = 1,
                                         .partition = 3,
                                         .position = 4,
                                         .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"};
    cr_assert(head->backend->class->begin(head->backend, BRIDGEHEAD_LOG, 3, 1, 1));
    cr_assert(head->backend->class->add(head->backend, &event, 0));
    cr_assert(head->backend->class->send(head->backend, 7));
    cr_assert(bridgehead_await(head, head->n_appended == 1));
    cr_assert_eq(head->result, BACKEND_OK, "%s", head->append_why);
    cr_assert_eq(head->ticket, 7);
    cr_assert_not_null(strstr(redis_server_ask(&server, "XRANGE %s - +", TOPIC),
                              " prev 0 traceparent 00-0af7651916cd43dd8448eb211c80319c-"));
    bridgehead_close(head);
}

/* What events have in common travels once, so each that has something else must not get what the one before it had. */
Test(redis_append, what_an_event_has_of_its_own_is_no_other_ones)
{
    static const char trace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    static const struct {
        uint16_t major;
        const char *traceparent, *correlation, *expected;
    } rows[] = {
        {1, NULL, NULL, " version 1.0 payload 1 key k origin " BRIDGEHEAD_ORIGIN " partition 3 position 4 prev 0"},
        {1, NULL, NULL, " version 1.0 payload 1 key k origin " BRIDGEHEAD_ORIGIN " partition 3 position 8 prev 4"},
        {1, trace, NULL, " position 12 prev 8 traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {1, trace, "c1",
         " prev 12 traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 correlationId c1"},
        {1, NULL, "c2", " position 20 prev 16 correlationId c2"},
        {1, NULL, "c3", " position 24 prev 20 correlationId c3"},
        {2, NULL, "c3",
         " version 2.0 payload 1 key k origin " BRIDGEHEAD_ORIGIN " partition 3 position 28 prev 24 correlationId c3"},
        {1, NULL, NULL, " version 1.0 payload 1 key k origin " BRIDGEHEAD_ORIGIN " partition 3 position 32 prev 28"},
    };
    enum { N = sizeof rows / sizeof rows[0] };
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    for (size_t end = 5; end <= N; end += N - 5) { /* the second time what is there ends within a run */
        cr_assert(head->backend->class->begin(head->backend, BRIDGEHEAD_LOG, 3, 1, 1));
        for (size_t i = 0; i < end; i++) {
            const struct evbus_version version = {.major = rows[i].major, .payload = "1", .payload_len = 1};
            const struct evbus_delivery event = {.topic = TOPIC,
                                                 .versions = &version,
                                                 .n_versions = 1,
                                                 .timestamp_ns = 1,
                                                 .key = "k",
                                                 .key_len = 1,
                                                 .payload = "1",
                                                 .payload_len = 1,
                                                 .partition = 3,
                                                 .position = 4 * (i + 1),
                                                 .traceparent = rows[i].traceparent,
                                                 .correlation_id = rows[i].correlation};
            cr_assert(head->backend->class->add(head->backend, &event, 4 * i));
        }
        cr_assert(head->backend->class->send(head->backend, end));
        cr_assert(bridgehead_await(head, head->ticket == end));
        cr_assert_eq(head->result, BACKEND_OK, "%s", head->append_why);
    }
    for (size_t i = 0; i < N; i++) {
        const char *entry = redis_server_ask(
            &server, "EVAL return(table.concat(redis.call('XRANGE','%s','-','+')[%zu][2],'\\32')) 0", TOPIC, i + 1);
        size_t len = strlen(entry), n = strlen(rows[i].expected);
        cr_assert(len > n && strcmp(entry + len - n, rows[i].expected) == 0, "%zu: %s", i, entry);
    }
    cr_assert_eq(redis_server_number(&server, "XLEN %s", TOPIC), N);
    bridgehead_close(head);
}

Test(redis_append, a_payload_is_any_bytes)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    head->config.in = true;
    cr_assert(head->backend->class->begin(head->backend, BRIDGEHEAD_LOG, 3, 1, 1));
    cr_assert(bridgehead_add(head, TOPIC, 0, 4, "a\0\r\n$5\r\nb\xff", 11));
    cr_assert(head->backend->class->send(head->backend, 4));
    cr_assert(bridgehead_await(head, head->n_appended == 1));
    cr_assert_eq(redis_server_number(&server, "EVAL return(#redis.call('XRANGE','%s','-','+')[1][2][10]) 0", TOPIC),
                 11);
    bridgehead_close(head);
}

Test(redis_append, layout_log_keeps_all_of_a_log_in_one_slot)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_make(server.url);
    head->config.layout = CONFIG_LAYOUT_LOG;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    cr_assert(head->backend->class->begin(head->backend, BRIDGEHEAD_LOG, 3, 1, 1));
    cr_assert(bridgehead_add(head, TOPIC, 0, 4, "1", 1));
    cr_assert(bridgehead_add(head, SECOND, 4, 8, "2", 1));
    cr_assert(head->backend->class->send(head->backend, 4));
    cr_assert(bridgehead_await(head, head->n_appended == 1));
    cr_assert_eq(head->result, BACKEND_OK, "%s", head->append_why);
    cr_assert_str_eq(redis_server_fields(&server, "{" BRIDGEHEAD_LOG "}", "eventType"), TOPIC " " SECOND);
    cr_assert_str_eq(redis_server_ask(&server, "HGET evbus:{" BRIDGEHEAD_LOG "}:mark:" BRIDGEHEAD_ORIGIN ":3 position"),
                     "8");
    cr_assert_eq(bridgehead_mark(head, TOPIC), 8);
    bridgehead_close(head);
}

Test(redis_append, another_database_is_another_database)
{
    struct redis_server server = redis_server_start(NULL);
    char url[220];
    snprintf(url, sizeof url, "%s?db=3", server.url);
    struct bridgehead *head = bridgehead_start(url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    cr_assert_str_eq(redis_server_ask(&server, "DBSIZE"), "0");
    cr_assert_not_null(strstr(redis_server_ask(&server, "INFO keyspace"), "db3:keys=2"));
    bridgehead_close(head);
}

/* --- joins, skips, fences ----------------------------------------------------------------------------------------- */

Test(redis_append, a_batch_that_is_repeated_changes_nothing)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    head->epoch = 2;
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12");
    cr_assert_str_eq(redis_server_ask(&server, "HMGET %s position epoch incarnation entries", MARK), "12 1 1 3");
    bridgehead_close(head);
}

Test(redis_append, what_is_there_is_left_out_and_the_rest_is_appended)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 2, first), BACKEND_OK);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12");
    cr_assert_eq(bridgehead_mark(head, TOPIC), 12);
    bridgehead_close(head);
}

Test(redis_append, a_batch_that_does_not_join_is_a_gap)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_GAP);
    cr_assert_str_eq(head->append_why, "EVBUS-GAP " TOPIC " 0");
    cr_assert_str_eq(redis_server_ask(&server, "DBSIZE"), "0", "a gap writes nothing");
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    cr_assert_eq(bridgehead_append(head, TOPIC, 8, 2, next), BACKEND_GAP);
    cr_assert_str_eq(head->append_why, "EVBUS-GAP " TOPIC " 12");
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_OK);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12 16 20");
    bridgehead_close(head);
}

Test(redis_append, an_older_bridge_is_fenced)
{
    static const struct {
        const char *label;
        uint64_t epoch, incarnation;
        enum backend_result result;
    } rows[] = {
        {"the same", 10, 2, BACKEND_OK},
        {"an older epoch, also where its text is greater", 9, 2, BACKEND_FENCED},
        {"an older incarnation, whatever its epoch", 99, 1, BACKEND_FENCED},
        {"a newer epoch", 11, 2, BACKEND_OK},
        {"a newer incarnation, whatever its epoch", 1, 3, BACKEND_OK},
        {"the one that was newer before", 11, 2, BACKEND_FENCED},
    };
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    uint64_t last = 4;
    head->epoch = 10;
    head->incarnation = 2;
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 1, &last), BACKEND_OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t position = last + 4;
        head->epoch = rows[i].epoch;
        head->incarnation = rows[i].incarnation;
        cr_assert_eq(bridgehead_append(head, TOPIC, last, 1, &position), rows[i].result, "%s: %s", rows[i].label,
                     head->append_why);
        if (rows[i].result == BACKEND_OK)
            last = position;
        else
            cr_assert(strncmp(head->append_why, "EVBUS-FENCED " TOPIC " ", strlen("EVBUS-FENCED " TOPIC " ")) == 0,
                      "%s", head->append_why);
    }
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12 16", "what was fenced is not there");
    bridgehead_close(head);
}

Test(redis_append, positions_are_no_doubles)
{
    static const uint64_t large[] = {9007199254740992, 9007199254740993, 9007199254740994, 18446744073709551615U};
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 1, large), BACKEND_OK);
    cr_assert_eq(bridgehead_append(head, TOPIC, large[1], 1, &large[2]), BACKEND_GAP, "2^53 is not 2^53 + 1");
    cr_assert_eq(bridgehead_append(head, TOPIC, large[0], 3, &large[1]), BACKEND_OK, "%s", head->append_why);
    cr_assert_str_eq(positions(&server, TOPIC),
                     "9007199254740992 9007199254740993 9007199254740994 18446744073709551615");
    cr_assert_eq(bridgehead_mark(head, TOPIC), large[3]);
    head->epoch = large[0];
    cr_assert_eq(bridgehead_append(head, SECOND, 0, 1, first), BACKEND_OK);
    head->epoch = large[1];
    cr_assert_eq(bridgehead_append(head, SECOND, 4, 1, &first[1]), BACKEND_OK);
    head->epoch = large[0];
    cr_assert_eq(bridgehead_append(head, SECOND, 8, 1, &first[2]), BACKEND_FENCED);
    bridgehead_close(head);
}

/* One batch: positions 4 and 12 of TOPIC, 8 of SECOND. */
static enum backend_result append_both(struct bridgehead *head, uint64_t prev_of_second)
{
    size_t before = head->n_appended;
    cr_assert(head->backend->class->begin(head->backend, BRIDGEHEAD_LOG, 3, head->epoch, head->incarnation));
    cr_assert(bridgehead_add(head, TOPIC, 0, 4, "1", 1));
    cr_assert(bridgehead_add(head, SECOND, prev_of_second, 8, "2", 1));
    cr_assert(bridgehead_add(head, TOPIC, 4, 12, "3", 1));
    cr_assert(head->backend->class->send(head->backend, 4));
    cr_assert(bridgehead_await(head, head->n_appended > before));
    return head->result;
}

Test(redis_append, a_batch_of_several_streams_is_one_step)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(append_both(head, 2), BACKEND_GAP);
    cr_assert_str_eq(head->append_why, "EVBUS-GAP " SECOND " 0");
    cr_assert_str_eq(redis_server_ask(&server, "DBSIZE"), "0", "a gap of one stream: nothing of the other");
    cr_assert_eq(append_both(head, 0), BACKEND_OK);
    cr_assert_str_eq(positions(&server, TOPIC), "4 12");
    cr_assert_str_eq(positions(&server, SECOND), "8");
    cr_assert_eq(bridgehead_mark(head, TOPIC), 12);
    cr_assert_eq(bridgehead_mark(head, SECOND), 8);
    bridgehead_close(head);
}

/* Its keys are longer than its events. */
Test(redis_append, a_batch_may_be_of_as_many_streams_as_it_has_room_for)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    char topic[64];
    for (uint64_t batch = 0; batch < 3; batch++) { /* the second and third are made in memory that was one's before */
        uint64_t n = 0, before = batch * 64;
        cr_assert(head->backend->class->begin(head->backend, BRIDGEHEAD_LOG, 3, 1, 1));
        do
            snprintf(topic, sizeof topic, TOPIC ".%" PRIu64, before + ++n);
        while (bridgehead_add(head, topic, 0, before + n, "1", 1));
        cr_assert_eq(n, 65);
        cr_assert(head->backend->class->send(head->backend, batch + 1));
        cr_assert(bridgehead_await(head, head->n_appended == batch + 1));
        cr_assert_eq(head->result, BACKEND_OK, "%s", head->append_why);
    }
    for (uint64_t position = 1; position <= 3 * 64; position++) {
        char text[24];
        snprintf(topic, sizeof topic, TOPIC ".%" PRIu64, position);
        snprintf(text, sizeof text, "%" PRIu64, position);
        cr_expect_str_eq(positions(&server, topic), text);
    }
    bridgehead_close(head);
}

Test(redis_append, batches_under_way_are_answered_in_order_and_what_follows_a_gap_is_one)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    const uint64_t more[] = {24};
    cr_assert(bridgehead_send(head, TOPIC, 0, 3, first));
    cr_assert(bridgehead_send(head, TOPIC, 12, 2, next));
    cr_assert(bridgehead_send(head, TOPIC, 21, 1, more));
    cr_assert(bridgehead_send(head, TOPIC, 20, 1, more));
    cr_assert(bridgehead_await(head, head->n_appended == 4));
    cr_assert_str_eq(head->results, "4:0 16:0 24:2 24:0 ");
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12 16 20 24");
    bridgehead_close(head);
}

Test(redis_append, a_batch_is_full_by_events_by_bytes_and_takes_one_event_of_any_size)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_make(server.url);
    const struct backend_class *class = &backend_redis;
    char *large = malloc(300000);
    memset(large, '1', 300000);
    head->config.batch_events = 3;
    head->config.batch_bytes = 10000;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here));
    cr_assert(class->begin(head->backend, BRIDGEHEAD_LOG, 3, 1, 1));
    for (uint64_t i = 1; i <= 3; i++)
        cr_assert(bridgehead_add(head, TOPIC, i - 1, i, "1", 1));
    cr_assert_not(bridgehead_add(head, TOPIC, 3, 4, "1", 1), "a fourth event");
    cr_assert(class->send(head->backend, 1));
    cr_assert(class->begin(head->backend, BRIDGEHEAD_LOG, 3, 1, 1));
    cr_assert(bridgehead_add(head, TOPIC, 3, 4, large, 300000));
    cr_assert_not(bridgehead_add(head, TOPIC, 4, 5, "1", 1), "more than batch_bytes");
    cr_assert(class->send(head->backend, 4));
    cr_assert(bridgehead_await(head, head->n_appended == 2));
    cr_assert_str_eq(head->results, "1:0 4:0 ");
    cr_assert_str_eq(positions(&server, TOPIC), "1 2 3 4");
    free(large);
    bridgehead_close(head);
}

/* --- cut after every byte ----------------------------------------------------------------------------------------- */

/* Not knowing what is there: all of it once more. */
static void repeat(struct bridgehead *head, const uint64_t *all, size_t n)
{
    do {
        cr_assert(bridgehead_await(head, head->is_here), "it does not come back: %s", head->why);
    } while (bridgehead_append(head, TOPIC, 0, n, all) != BACKEND_OK);
}

/* What a bridge does: asks for the mark, sends what it says is missing. */
static void finish(struct bridgehead *head, const uint64_t *all, size_t n)
{
    for (;;) {
        cr_assert(bridgehead_await(head, head->is_here), "it does not come back: %s", head->why);
        unsigned before = head->n_marks;
        if (!head->backend->class->ask(head->backend, BRIDGEHEAD_LOG, 3, (const char *const[]){TOPIC}, 1))
            continue;
        cr_assert(bridgehead_await(head, head->n_marks > before), "no answer to an ask");
        if (head->marks_result != BACKEND_OK)
            continue;
        size_t at = 0;
        while (at < n && all[at] <= head->marks[0].position)
            at++;
        if (at == n)
            return;
        size_t answered = head->n_appended;
        if (bridgehead_send(head, TOPIC, at > 0 ? all[at - 1] : 0, n - at, all + at))
            cr_assert(bridgehead_await(head, head->n_appended > answered), "no answer to a batch");
    }
}

/* Two batches under way, cut after n bytes in a direction; false: n was more than there were. */
static bool cut_after(const struct redis_server *server, struct proxy *proxy, struct bridgehead *head, bool is_reply,
                      uint64_t n)
{
    static const uint64_t all[] = {4, 8, 12};
    cr_assert_str_eq(redis_server_ask(server, "DEL %s %s", TOPIC, MARK), n > 0 ? "2" : "0");
    cr_assert(bridgehead_await(head, head->is_here));
    size_t before = head->n_appended;
    (is_reply ? proxy_cut_replies : proxy_cut_requests)(proxy, n);
    if (n == 0) /* it is cut before anything is said, and that is told without us */
        cr_assert(bridgehead_await(head, proxy_has_cut(proxy) && !head->is_here));
    else if (bridgehead_send(head, TOPIC, 0, 2, all) && bridgehead_send(head, TOPIC, 8, 1, all + 2))
        cr_assert(bridgehead_await(head, head->n_appended == before + 2), "both are answered, by what they are");
    bool has_cut = proxy_has_cut(proxy);
    (is_reply ? proxy_cut_replies : proxy_cut_requests)(proxy, UINT64_MAX);
    (n % 2 == 0 ? finish : repeat)(head, all, 3);
    cr_assert_str_eq(positions(server, TOPIC), "4 8 12", "cut after %" PRIu64 " bytes", n);
    return has_cut;
}

static void cut_everywhere(bool is_reply)
{
    struct redis_server server = redis_server_start(NULL);
    struct proxy proxy = proxy_start(server.dir, server.socket);
    struct bridgehead *head = bridgehead_start(proxy.url);
    uint64_t n = 0;
    while (cut_after(&server, &proxy, head, is_reply, n))
        n += is_reply || trial_is_full() ? 1 : 7; /* odd: every other one asks first */
    cr_assert_gt(n, is_reply ? 7 : 600, "two answers \":2\\r\\n:1\\r\\n\" have 8 bytes, two batches many");
    cr_log_info("%" PRIu64 " cuts", n);
    bridgehead_close(head);
    proxy_end(&proxy);
}

Test(redis_append, each_event_is_there_once_wherever_the_answer_is_cut)
{
    cut_everywhere(true);
}

Test(redis_append, each_event_is_there_once_wherever_the_question_is_cut, .timeout = 500)
{
    cut_everywhere(false);
}

/* --- what Redis refuses ------------------------------------------------------------------------------------------- */

Test(redis_append, a_key_of_another_type_is_told_by_name_and_nothing_is_written)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    redis_server_ask(&server, "SET %s 1", SECOND);
    cr_assert_eq(append_both(head, 0), BACKEND_REFUSED);
    cr_assert_str_eq(head->append_why, "WRONGTYPE " SECOND " is a string and no stream; RENAME or DEL that key");
    cr_assert_str_eq(redis_server_ask(&server, "KEYS *"), SECOND);
    redis_server_ask(&server, "DEL %s", SECOND);
    redis_server_ask(&server, "LPUSH %s 1", MARK);
    cr_assert_eq(append_both(head, 0), BACKEND_REFUSED);
    cr_assert_not_null(strstr(head->append_why, MARK), "%s", head->append_why);
    cr_assert_eq(strncmp(head->append_why, "WRONGTYPE", 9), 0, "%s", head->append_why);
    cr_assert_str_eq(redis_server_ask(&server, "KEYS *"), MARK);
    redis_server_ask(&server, "DEL %s", MARK);
    redis_server_ask(&server, "HSET %s position 1e3", MARK);
    cr_assert_eq(append_both(head, 0), BACKEND_REFUSED);
    cr_assert_not_null(strstr(head->append_why, "is damaged: \"1e3\" is no number"), "%s", head->append_why);
    cr_assert_str_eq(redis_server_ask(&server, "KEYS *"), MARK);
    redis_server_ask(&server, "DEL %s", MARK);
    cr_assert_eq(append_both(head, 0), BACKEND_OK, "%s", head->append_why);
    bridgehead_close(head);
}

Test(redis_append, a_script_that_was_flushed_is_loaded_again)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    redis_server_ask(&server, "SCRIPT FLUSH");
    cr_assert(bridgehead_send(head, TOPIC, 0, 3, first));
    cr_assert(bridgehead_send(head, TOPIC, 12, 2, next));
    cr_assert(bridgehead_await(head, head->n_appended == 2));
    cr_assert_str_eq(head->results, "4:3 16:3 ");
    cr_assert_eq(strncmp(head->append_why, "NOSCRIPT", 8), 0, "%s", head->append_why);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK, "%s", head->append_why);
    cr_assert_eq(head->n_states, 1, "it was here all the time");
    bridgehead_close(head);
}

Test(redis_append, a_full_memory_is_told_and_nothing_is_written)
{
    struct redis_server server = redis_server_start("maxmemory-policy noeviction");
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 2, first), BACKEND_OK);
    redis_server_ask(&server, "CONFIG SET maxmemory 1");
    cr_assert_eq(bridgehead_append(head, TOPIC, 8, 1, &first[2]), BACKEND_REFUSED);
    cr_assert_eq(strncmp(head->append_why, "OOM ", 4), 0, "%s", head->append_why);
    cr_assert_not_null(strstr(head->append_why, "; raise maxmemory"), "%s", head->append_why);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8");
    cr_assert_eq(bridgehead_mark(head, TOPIC), 8);
    redis_server_ask(&server, "CONFIG SET maxmemory 0");
    cr_assert_eq(bridgehead_append(head, TOPIC, 8, 1, &first[2]), BACKEND_OK, "%s", head->append_why);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12");
    bridgehead_close(head);
}

Test(redis_append, a_disk_that_fails_is_told_and_nothing_is_written)
{
    struct redis_server server = redis_server_start("save 3600 1\ndbfilename full");
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 2, first), BACKEND_OK);
    cr_assert_eq(mkdir(redis_server_file(&server, "full"), 0700), 0); /* no file gets that name now */
    redis_server_ask(&server, "BGSAVE");
    cr_assert(await_that(strstr(redis_server_ask(&server, "INFO persistence"), "rdb_last_bgsave_status:err") != NULL));
    cr_assert_eq(bridgehead_append(head, TOPIC, 8, 1, &first[2]), BACKEND_REFUSED);
    cr_assert_eq(strncmp(head->append_why, "MISCONF ", 8), 0, "%s", head->append_why);
    cr_assert_eq(rmdir(redis_server_file(&server, "full")), 0);
    redis_server_ask(&server, "BGSAVE");
    cr_assert(await_that(strstr(redis_server_ask(&server, "INFO persistence"), "rdb_last_bgsave_status:ok") != NULL));
    cr_assert_eq(bridgehead_append(head, TOPIC, 8, 1, &first[2]), BACKEND_OK, "%s", head->append_why);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12");
    bridgehead_close(head);
}

Test(redis_append, a_master_that_becomes_a_replica_is_left_until_it_is_one_again)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    redis_server_ask(&server, "REPLICAOF 127.0.0.1 1");
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_REFUSED);
    cr_assert_eq(strncmp(head->append_why, "READONLY ", 9), 0, "%s", head->append_why);
    cr_assert(bridgehead_await(head, !head->is_here));
    cr_assert_not_null(strstr(head->why, "the bridge needs the master"), "%s", head->why);
    redis_server_ask(&server, "REPLICAOF NO ONE");
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK, "%s", head->append_why);
    bridgehead_close(head);
}

Test(redis_append, a_script_of_others_that_does_not_end_is_told)
{
    struct redis_server server = redis_server_start("busy-reply-threshold 50");
    struct bridgehead *head = bridgehead_start(server.url);
    struct child busy = redis_server_keep_busy(&server);
    cr_assert(await_that(strstr(redis_server_ask(&server, "PING"), "BUSY") != NULL));
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_REFUSED);
    cr_assert_eq(strncmp(head->append_why, "BUSY ", 5), 0, "%s", head->append_why);
    cr_assert_str_eq(redis_server_ask(&server, "SCRIPT KILL"), "OK");
    cr_assert_eq(child_join(&busy), 0);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK, "%s", head->append_why);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12");
    bridgehead_close(head);
}

/* --- rights ------------------------------------------------------------------------------------------------------- */

/* The line that we ship, with a password. */
static void load_shipped_user(const struct redis_server *server)
{
    char path[400], line[1000], command[1200];
    const char *source = getenv("EVBUS_SOURCE");
    bool has_user = false;
    snprintf(path, sizeof path, "%s/share/evbus-bridge.acl", source != NULL ? source : ".");
    FILE *file = fopen(path, "re");
    cr_assert_not_null(file, "%s", path);
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *placeholder = strstr(line, ">PASSWORD");
        if (line[0] == '#' || line[0] == '\0')
            continue;
        cr_assert_eq(strncmp(line, "user evbus-bridge ", 18), 0, "%s", line);
        cr_assert_not_null(placeholder, "%s", line);
        snprintf(command, sizeof command, "ACL SETUSER evbus-bridge %.*s>secret%s", (int)(placeholder - line - 18),
                 line + 18, placeholder + 9);
        cr_assert_str_eq(redis_server_ask(server, "%s", command), "OK");
        has_user = true;
    }
    cr_assert(has_user, "%s has no user", path);
    fclose(file);
}

static struct bridgehead *make_as_user(const struct redis_server *server)
{
    struct bridgehead *head = bridgehead_make(server->url);
    snprintf(head->config.user, sizeof head->config.user, "evbus-bridge");
    snprintf(head->config.password, sizeof head->config.password, "secret");
    head->config.password_len = 6;
    head->config.in = true;
    head->config.trim_age_ns = 1;
    return head;
}

Test(redis_append, the_shipped_user_may_do_all_that_the_bridge_does_and_nothing_else)
{
    struct redis_server server = redis_server_start(NULL);
    load_shipped_user(&server);
    struct bridgehead *head = make_as_user(&server);
    bridgehead_open(head);
    const struct backend_class *class = head->backend->class;
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 0);
    cr_assert_eq(append_both(head, 0), BACKEND_OK, "%s", head->append_why);
    redis_server_ask(&server, "DEL %s", MARK);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 12, "also what is sought in the stream");
    cr_assert_eq(class->listen(head->backend, TOPIC, ""), EVBUS_OK);
    cr_assert_eq(class->listen(head->backend, SECOND, ""), EVBUS_OK);
    class->more(head->backend, TOPIC);
    cr_assert(bridgehead_await(head, head->n_arrived == 2), "%s", head->why);
    class->more(head->backend, SECOND);
    cr_assert(bridgehead_await(head, head->n_arrived == 3), "%s", head->why);
    class->report(head->backend, TOPIC, head->last_id);
    redis_server_ask(&server, "XGROUP CREATE %s mine 0", TOPIC);
    class->trim(head->backend, TOPIC);
    cr_assert(bridgehead_await(head, head->n_trimmed == 1), "%s", head->why);
    cr_assert_str_eq(head->kept_for, "group mine");
    cr_assert_str_eq(head->why, "", "nothing was refused");
    cr_assert_not_null(strstr(redis_server_ask(&server, "ACL DRYRUN evbus-bridge SET %s 1", TOPIC), "no permissions"));
    cr_assert_not_null(strstr(redis_server_ask(&server, "ACL DRYRUN evbus-bridge FLUSHALL"), "no permissions"));
    cr_assert_not_null(
        strstr(redis_server_ask(&server, "ACL DRYRUN evbus-bridge XADD another.stream * a b"), "no permissions"));
    bridgehead_close(head);
}

Test(redis_append, a_right_that_is_missing_is_told_and_nothing_is_written)
{
    static const struct {
        const char *label, *rule;
    } rows[] = {
        {"to append to the second stream", "resetkeys %R~" SECOND " ~" TOPIC " ~evbus:*"},
        {"to the second stream", "resetkeys ~" TOPIC " ~evbus:*"},
        {"to write marks", "resetkeys %R~evbus:* ~lomash.*"},
        {"to append", "-xadd"},
        {"to set marks", "-hset"},
        {"to look at marks", "-hmget"},
        {"to look at types", "-type"},
        {"to run the script", "-evalsha"},
    };
    struct redis_server server = redis_server_start(NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        redis_server_ask(&server, "FLUSHALL");
        redis_server_ask(&server, "ACL DELUSER evbus-bridge");
        load_shipped_user(&server);
        cr_assert_str_eq(redis_server_ask(&server, "ACL SETUSER evbus-bridge %s", rows[i].rule), "OK");
        struct bridgehead *head = make_as_user(&server);
        bridgehead_open(head);
        cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
        cr_assert_eq(append_both(head, 0), BACKEND_REFUSED, "%s", rows[i].label);
        cr_assert_not_null(strstr(head->append_why, "evbus-bridge.acl"), "%s: %s", rows[i].label, head->append_why);
        cr_assert_str_eq(positions(&server, TOPIC), "", "%s", rows[i].label);
        cr_assert_str_eq(positions(&server, SECOND), "", "%s", rows[i].label);
        load_shipped_user(&server);
        cr_assert_eq(append_both(head, 0), BACKEND_OK, "%s: %s", rows[i].label, head->append_why);
        cr_assert_str_eq(positions(&server, TOPIC), "4 12", "%s", rows[i].label);
        cr_assert_str_eq(positions(&server, SECOND), "8", "%s", rows[i].label);
        bridgehead_close(head);
    }
}

Test(redis_append, a_stream_without_ids_stops_the_batch_and_each_mark_says_what_its_stream_holds)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    redis_server_ask(&server, "XADD %s 18446744073709551615-18446744073709551615 position 1", SECOND);
    cr_assert_eq(append_both(head, 0), BACKEND_REFUSED);
    cr_assert_not_null(strstr(head->append_why, "exhausted the last possible ID"), "%s", head->append_why);
    cr_assert_str_eq(positions(&server, TOPIC), "4 12");
    cr_assert_eq(bridgehead_mark(head, TOPIC), 12);
    cr_assert_eq(bridgehead_mark(head, SECOND), 0);
    redis_server_ask(&server, "XADD full 18446744073709551615-18446744073709551614 position 1");
    cr_assert_eq(bridgehead_append(head, "full", 0, 3, first), BACKEND_REFUSED);
    cr_assert_eq(bridgehead_mark(head, "full"), 4, "one had room");
    redis_server_ask(&server, "DEL %s", SECOND);
    cr_assert_eq(append_both(head, 0), BACKEND_OK, "%s", head->append_why);
    cr_assert_str_eq(positions(&server, TOPIC), "4 12");
    cr_assert_str_eq(positions(&server, SECOND), "8");
    bridgehead_close(head);
}

/* --- what was lost ------------------------------------------------------------------------------------------------ */

Test(redis_append, a_redis_that_was_emptied_is_a_gap_and_has_no_mark)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    redis_server_ask(&server, "FLUSHALL");
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_GAP);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 0);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_OK);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12 16 20");
    bridgehead_close(head);
}

Test(redis_append, a_stream_that_was_removed_has_nothing_whatever_its_mark_says)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    redis_server_ask(&server, "DEL %s", TOPIC);
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_GAP);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 0);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12");
    bridgehead_close(head);
}

Test(redis_append, a_stream_that_others_began_anew_has_nothing_of_ours_whatever_its_mark_says)
{
    static const char *const anew[] = {"XADD " TOPIC " * a b", "XGROUP CREATE " TOPIC " mailers $ MKSTREAM"};
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    for (size_t i = 0; i < 2; i++) {
        redis_server_ask(&server, "FLUSHALL");
        cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
        redis_server_ask(&server, "DEL %s", TOPIC);
        cr_assert_null(strstr(redis_server_ask(&server, "%s", anew[i]), "(error)"));
        cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_GAP, "%zu", i);
        cr_assert_eq(bridgehead_mark(head, TOPIC), 0, "%zu", i);
        cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK, "%s", head->append_why);
        cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_OK, "%s", head->append_why);
        cr_assert_str_eq(positions(&server, TOPIC), "4 8 12 16 20");
    }
    bridgehead_close(head);
}

/* Removed and made anew in one millisecond, it would give the same ids to other entries. */
Test(redis_append, a_stream_begins_ahead_of_the_clock_and_goes_on_in_order)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    bool is_ahead = false;
    uint64_t until_ms = await_now_ms() + AWAIT_MS;
    while (!is_ahead && await_now_ms() < until_ms) { /* unless the millisecond is over before the time is asked for */
        unsigned long long s, us, ms;
        redis_server_ask(&server, "DEL " TOPIC);
        cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK, "%s", head->append_why);
        cr_assert_eq(sscanf(redis_server_ask(&server, "TIME"), "%llu %llu", &s, &us), 2);
        cr_assert_eq(sscanf(redis_server_ask(&server, "XRANGE " TOPIC " - + COUNT 1"), "%llu-0 ", &ms), 1);
        is_ahead = ms > s * 1000 + us / 1000;
    }
    cr_assert(is_ahead);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12");
    bridgehead_close(head);
}

/* What was trimmed once is no part of what a stream that was begun anew has lost. */
Test(redis_append, a_stream_begun_anew_behind_a_trim_and_trimmed_again_is_not_sent_again)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    cr_assert_eq(redis_server_number(&server, "XTRIM %s MAXLEN 0", TOPIC), 3);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 12);
    redis_server_ask(&server, "DEL %s", TOPIC);
    redis_server_ask(&server, "XADD %s * a b", TOPIC);
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_OK, "%s", head->append_why);
    cr_assert_eq(redis_server_number(&server, "XTRIM %s MAXLEN 0", TOPIC), 3);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 20);
    bridgehead_close(head);
}

Test(redis_append, an_id_of_the_far_future_does_not_hinder_a_stream_that_begins_anew)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    redis_server_ask(&server, "XADD %s 18446744073709551615-1 a b", TOPIC);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK, "%s", head->append_why);
    redis_server_ask(&server, "DEL %s", TOPIC);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 0);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK, "%s", head->append_why);
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12");
    bridgehead_close(head);
}

/* By others, and by hand: nothing of ours is there, and nothing of ours is lost. */
Test(redis_append, a_last_entry_of_ours_that_was_trimmed_or_deleted_is_not_sent_again)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    for (size_t i = 0; i < 3; i++) {
        redis_server_ask(&server, "FLUSHALL");
        cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
        char id[64];
        snprintf(id, sizeof id, "%s", redis_server_ask(&server, "HGET %s entry", MARK));
        if (i == 0)
            redis_server_ask(&server, "XADD %s MAXLEN 1 * a b", TOPIC);
        else if (i == 1)
            cr_assert_eq(redis_server_number(&server, "XTRIM %s MAXLEN 0", TOPIC), 3);
        else
            cr_assert_eq(redis_server_number(&server, "XDEL %s %s", TOPIC, id), 1);
        cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_GAP, "%zu: it is asked what has become of it",
                     i);
        cr_assert_eq(bridgehead_mark(head, TOPIC), 12, "%zu", i);
        cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_OK, "%s", head->append_why);
        cr_assert_str_eq(positions(&server, TOPIC), i == 2 ? "4 8 16 20" : "16 20");
    }
    bridgehead_close(head);
}

Test(redis_append, a_stream_that_was_trimmed_to_nothing_keeps_its_mark)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    redis_server_ask(&server, "XTRIM %s MAXLEN 0", TOPIC);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 12);
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_OK);
    cr_assert_str_eq(positions(&server, TOPIC), "16 20");
    bridgehead_close(head);
}

Test(redis_append, a_mark_that_was_evicted_is_found_again_in_the_stream)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_OK);
    for (unsigned i = 0; i < 250;
         i++) /* others' entries lie behind ours: another partition of ours, and a foreign program */
        redis_server_ask(&server, "XADD %s * origin %s partition %u position 99", TOPIC, BRIDGEHEAD_ORIGIN,
                         i % 2 == 0 ? 2U : 4U);
    redis_server_ask(&server, "DEL %s", MARK);
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_GAP);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 12);
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_OK, "%s", head->append_why);
    cr_assert_str_eq(redis_server_ask(&server, "HMGET %s position epoch incarnation entries", MARK), "20 1 1 3",
                     "the one that was found, and two");
    cr_assert_str_eq(redis_server_ask(&server, "XLEN %s", TOPIC), "255");
    bridgehead_close(head);
}

/* --- replicas ----------------------------------------------------------------------------------------------------- */

Test(redis_append, with_wait_replicas_a_batch_is_there_when_a_replica_has_it)
{
    struct redis_server server = redis_server_start_tcp("repl-diskless-sync-delay 0");
    struct redis_server replica = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_make(server.url);
    head->config.wait_replicas = 1;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here));
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 3, first), BACKEND_REFUSED, "there is no replica yet");
    cr_assert_not_null(strstr(head->append_why, "only 0 of 1 replicas"), "%s", head->append_why);
    redis_server_ask(&replica, "REPLICAOF 127.0.0.1 %u", (unsigned)server.port);
    cr_assert(await_that(strstr(redis_server_ask(&replica, "INFO replication"), "master_link_status:up") != NULL));
    cr_assert(bridgehead_await(head, bridgehead_append(head, TOPIC, 0, 3, first) == BACKEND_OK), "%s",
              head->append_why);
    cr_assert_str_eq(positions(&replica, TOPIC), "4 8 12", "it is there when it is told");
    redis_server_pause(&replica);
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_REFUSED);
    bridgehead_close(head);
    /* another bridge repeats it on a new connection: nothing new is written, and it is waited for all the same */
    head = bridgehead_make(server.url);
    head->config.wait_replicas = 1;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here));
    cr_assert_eq(bridgehead_append(head, TOPIC, 12, 2, next), BACKEND_REFUSED, "the replica does not have it");
    redis_server_continue(&replica);
    cr_assert(bridgehead_await(head, bridgehead_append(head, TOPIC, 12, 2, next) == BACKEND_OK), "%s",
              head->append_why);
    cr_assert_str_eq(positions(&replica, TOPIC), "4 8 12 16 20");
    cr_assert_str_eq(positions(&server, TOPIC), "4 8 12 16 20");
    bridgehead_close(head);
}

/* --- trim --------------------------------------------------------------------------------------------------------- */

/* Ids of 1-0 .. 9-0: old, whatever the clock says. */
static struct bridgehead *start_to_trim(const struct redis_server *server)
{
    struct bridgehead *head = bridgehead_make(server->url);
    head->config.trim_age_ns = UINT64_C(60000000000);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    for (unsigned i = 1; i <= 9; i++)
        redis_server_ask(server, "XADD %s %u-0 position %u", TOPIC, i, i);
    return head;
}

static void trim(struct bridgehead *head)
{
    unsigned before = head->n_trimmed;
    head->backend->class->trim(head->backend, TOPIC);
    cr_assert(bridgehead_await(head, head->n_trimmed > before), "%s", head->why);
}

Test(redis_append, what_is_older_than_the_age_goes_and_nothing_younger)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = start_to_trim(&server);
    redis_server_ask(&server, "XADD %s * position 10", TOPIC);
    trim(head);
    cr_assert_eq(head->trimmed.n, 9);
    cr_assert_str_eq(head->kept_for, "age");
    cr_assert_str_eq(positions(&server, TOPIC), "10");
    trim(head);
    cr_assert_eq(head->trimmed.n, 0);
    bridgehead_close(head);
}

Test(redis_append, what_a_host_has_not_done_with_stays)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = start_to_trim(&server);
    const char *hosts = "evbus:{" TOPIC "}:hosts";
    head->backend->class->report(head->backend, TOPIC, "7-0");
    redis_server_ask(&server, "HSET %s other \"4-0 99999999999999\"", hosts);
    trim(head);
    cr_assert_str_eq(head->kept_for, "host other");
    cr_assert_str_eq(head->kept_from, "4-1");
    cr_assert_str_eq(positions(&server, TOPIC), "5 6 7 8 9");
    redis_server_ask(&server, "HSET %s other \"9-0 99999999999999\"", hosts);
    trim(head);
    cr_assert_str_eq(head->kept_for, "host " BRIDGEHEAD_ORIGIN);
    cr_assert_str_eq(positions(&server, TOPIC), "8 9");
    head->backend->class->report(head->backend, TOPIC, "");
    redis_server_ask(&server, "XADD %s 9-5 position 10", TOPIC);
    trim(head);
    cr_assert_eq(head->trimmed.n, 0, "who has read nothing needs all");
    bridgehead_close(head);
}

Test(redis_append, a_host_that_is_silent_for_too_long_is_dropped_and_told)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = start_to_trim(&server);
    const char *hosts = "evbus:{" TOPIC "}:hosts";
    head->backend->class->report(head->backend, TOPIC, "7-0");
    redis_server_ask(&server, "HSET %s gone \"2-0 1000\"", hosts);
    trim(head);
    cr_assert_str_eq(head->dropped, "gone");
    cr_assert_str_eq(positions(&server, TOPIC), "8 9");
    cr_assert_str_eq(redis_server_ask(&server, "HKEYS %s", hosts), BRIDGEHEAD_ORIGIN);
    trim(head);
    cr_assert_str_eq(head->dropped, "", "it is told once");
    bridgehead_close(head);
}

Test(redis_append, what_a_foreign_group_has_not_read_or_not_acknowledged_stays)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = start_to_trim(&server);
    redis_server_ask(&server, "XGROUP CREATE %s slow 3-0", TOPIC);
    redis_server_ask(&server, "XGROUP CREATE %s fast 8-0", TOPIC);
    trim(head);
    cr_assert_str_eq(head->kept_for, "group slow");
    cr_assert_str_eq(positions(&server, TOPIC), "4 5 6 7 8 9");
    redis_server_ask(&server, "XREADGROUP GROUP slow me COUNT 3 STREAMS %s >", TOPIC);
    redis_server_ask(&server, "XACK %s slow 4-0", TOPIC);
    trim(head);
    cr_assert_str_eq(head->kept_from, "5-0", "5 and 6 are pending");
    cr_assert_str_eq(positions(&server, TOPIC), "5 6 7 8 9");
    redis_server_ask(&server, "XACK %s slow 5-0 6-0", TOPIC);
    trim(head);
    cr_assert_str_eq(positions(&server, TOPIC), "7 8 9");
    redis_server_ask(&server, "XGROUP DESTROY %s slow", TOPIC);
    trim(head);
    cr_assert_str_eq(head->kept_for, "group fast");
    cr_assert_str_eq(positions(&server, TOPIC), "9");
    bridgehead_close(head);
}

Test(redis_append, a_trim_that_is_refused_is_told)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = start_to_trim(&server);
    redis_server_ask(&server, "SET evbus:{%s}:hosts 1", TOPIC);
    head->backend->class->trim(head->backend, TOPIC);
    cr_assert(bridgehead_await(head, head->why[0] != '\0'));
    cr_assert_not_null(strstr(head->why, "is not trimmed: WRONGTYPE"), "%s", head->why);
    cr_assert(head->is_here);
    cr_assert_str_eq(positions(&server, TOPIC), "1 2 3 4 5 6 7 8 9");
    bridgehead_close(head);
}
