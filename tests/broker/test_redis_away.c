/* test_redis_away.c: streams are read on from where we are, whatever Redis has become meanwhile: killed, stopped,
 * emptied, failed over; and what cannot be read stops nothing else. */
#include "bridgehead.h"
#include "proxy.h"
#include "redis.h"
#include "redis_backend.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOPIC  BRIDGEHEAD_TOPIC
#define SECOND BRIDGEHEAD_SECOND

static void listen_to(struct bridgehead *head, const char *stream, const char *id)
{
    cr_assert_eq(head->backend->class->listen(head->backend, stream, id), EVBUS_OK);
    head->backend->class->more(head->backend, stream);
}

/* An entry of a foreign program; its id. */
static void put(const struct redis_server *server, const char *stream, const char *id, const char *payload)
{
    const char *answer = redis_server_ask(server, "XADD %s %s payload %s", stream, id, payload);
    cr_assert_null(strstr(answer, "(error)"), "%s", answer);
}

Test(redis_away, an_id_is_two_numbers_of_64_bits_and_nothing_else)
{
    static const char *const none[] = {"1",
                                       "1-",
                                       "-1",
                                       "1--1",
                                       "1-1-1",
                                       "1-1 ",
                                       " 1-1",
                                       "1-1\n",
                                       "+1-1",
                                       "1-+1",
                                       "a-1",
                                       "18446744073709551616-0",
                                       "0-18446744073709551616"};
    struct redis_id id = {.ms = 7, .seq = 7};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        cr_expect_not(redis_id_parse(none[i], &id), "\"%s\"", none[i]);
    cr_assert(id.ms == 7 && id.seq == 7, "what is none leaves it as it was");
    cr_assert(redis_id_parse("18446744073709551615-18446744073709551615", &id));
    cr_assert(id.ms == UINT64_MAX && id.seq == UINT64_MAX);
    cr_assert(redis_id_parse("1700000000000-12", &id));
    cr_assert(id.ms == UINT64_C(1700000000000) && id.seq == 12);
    cr_assert(redis_id_parse("", &id));
    cr_assert(id.ms == 0 && id.seq == 0, "the beginning");
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

Test(redis_away, a_stream_is_read_from_its_beginning_and_then_as_it_grows)
{
    struct redis_server server = redis_server_start(NULL);
    put(&server, TOPIC, "*", "a");
    put(&server, TOPIC, "*", "b");
    struct bridgehead *head = bridgehead_start_reading(server.url);
    listen_to(head, TOPIC, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 2), "%s", head->why);
    put(&server, TOPIC, "*", "c");
    cr_assert(bridgehead_await(head, head->n_arrived == 3));
    cr_assert_str_eq(head->values, TOPIC "=a " TOPIC "=b " TOPIC "=c ");
    bridgehead_close(head);
}

Test(redis_away, a_stream_is_read_behind_an_id)
{
    struct redis_server server = redis_server_start(NULL);
    put(&server, TOPIC, "5-0", "a");
    put(&server, TOPIC, "5-1", "b");
    put(&server, TOPIC, "6-0", "c");
    struct bridgehead *head = bridgehead_start_reading(server.url);
    listen_to(head, TOPIC, "5-0");
    cr_assert(bridgehead_await(head, head->n_arrived == 2));
    cr_assert_str_eq(head->values, TOPIC "=b " TOPIC "=c ");
    cr_assert_str_eq(head->last_id, "6-0");
    cr_assert_str_eq(head->resets, "");
    bridgehead_close(head);
}

Test(redis_away, nothing_is_given_out_before_more_and_then_once)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    head->is_lazy = true;
    put(&server, TOPIC, "*", "a");
    cr_assert_eq(head->backend->class->listen(head->backend, TOPIC, ""), EVBUS_OK);
    listen_to(head, SECOND, "");
    put(&server, SECOND, "*", "x");
    cr_assert(bridgehead_await(head, head->n_arrived == 1));
    cr_assert_str_eq(head->values, SECOND "=x ", "more() was said of one");
    head->backend->class->more(head->backend, TOPIC);
    cr_assert(bridgehead_await(head, head->n_arrived == 2));
    put(&server, TOPIC, "*", "b");
    head->backend->class->more(head->backend, SECOND);
    put(&server, SECOND, "*", "y");
    cr_assert(bridgehead_await(head, head->n_arrived == 3));
    cr_assert_str_eq(head->values, SECOND "=x " TOPIC "=a " SECOND "=y ");
    bridgehead_close(head);
}

Test(redis_away, what_was_not_taken_comes_again)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    put(&server, TOPIC, "*", "a");
    put(&server, TOPIC, "*", "b");
    head->refuses = true;
    listen_to(head, TOPIC, "");
    listen_to(head, SECOND, "");
    cr_assert(bridgehead_await(head, head->n_empty == 1), "SECOND is empty; TOPIC was shown, and not taken");
    cr_assert_eq(head->n_arrived, 0);
    head->refuses = false;
    head->backend->class->more(head->backend, TOPIC);
    cr_assert(bridgehead_await(head, head->n_arrived == 2));
    cr_assert_str_eq(head->values, TOPIC "=a " TOPIC "=b ");
    bridgehead_close(head);
}

Test(redis_away, that_nothing_is_there_is_told_once_and_what_comes_then_is_given_out)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    listen_to(head, TOPIC, "");
    cr_assert(bridgehead_await(head, head->n_empty == 1));
    listen_to(head, SECOND, ""); /* its turn to be empty comes behind another look at both */
    cr_assert(bridgehead_await(head, head->n_empty == 2));
    put(&server, TOPIC, "*", "a");
    cr_assert(bridgehead_await(head, head->n_arrived == 1), "without another more()");
    bridgehead_close(head);
}

Test(redis_away, a_stream_that_is_wanted_now_does_not_wait_for_another_to_speak)
{
    struct redis_server server = redis_server_start("latency-tracking no");
    struct bridgehead *head = bridgehead_start_reading(server.url);
    put(&server, SECOND, "*", "x");
    listen_to(head, TOPIC, "");
    cr_assert_eq(head->backend->class->listen(head->backend, SECOND, ""), EVBUS_OK);
    cr_assert(bridgehead_await(head, head->n_empty >= 1));
    cr_assert(bridgehead_await(head, strstr(redis_server_ask(&server, "CLIENT LIST"), "cmd=xread") != NULL));
    head->backend->class->more(head->backend, SECOND);
    cr_assert(bridgehead_await(head, head->n_arrived == 1));
    cr_assert_not_null(strstr(redis_server_ask(&server, "INFO commandstats"), "cmdstat_client|unblock"),
                       "it was woken");
    bridgehead_close(head);
}

Test(redis_away, a_long_stream_comes_in_pieces_in_order)
{
    struct redis_server server = redis_server_start(NULL);
    cr_assert_eq(redis_server_number(
                     &server,
                     "EVAL \"for i = 1, 3000 do redis.call('XADD', KEYS[1], '*', 'position', i) end return 1\" 1 %s",
                     TOPIC),
                 1);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    listen_to(head, TOPIC, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 3000), "%zu", head->n_arrived);
    const char *at = head->values;
    for (unsigned i = 1; i <= 3000; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s=%u ", TOPIC, i);
        cr_assert_eq(strncmp(at, text, strlen(text)), 0, "%.40s, not %s", at, text);
        at += strlen(text);
    }
    bridgehead_close(head);
}

Test(redis_away, with_layout_log_a_stream_is_a_log)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_make(server.url);
    head->config.in = true;
    head->config.layout = CONFIG_LAYOUT_LOG;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here));
    listen_to(head, BRIDGEHEAD_LOG, "");
    put(&server, "{" BRIDGEHEAD_LOG "}", "*", "a");
    cr_assert(bridgehead_await(head, head->n_arrived == 1));
    cr_assert_str_eq(head->values, BRIDGEHEAD_LOG "=a ");
    bridgehead_close(head);
}

Test(redis_away, ids_compare_as_numbers)
{
    static const struct {
        const char *left, *right;
        int sign;
    } rows[] = {
        {"", "", 0},           {"", "0-0", 0},
        {"", "0-1", -1},       {"9-0", "10-0", -1},
        {"10-9", "10-10", -1}, {"1-0", "0-999", 1},
        {"5-5", "5-5", 0},     {"18446744073709551615-1", "18446744073709551615-0", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int found = backend_redis.id_compare(rows[i].left, rows[i].right);
        cr_assert_eq((found > 0) - (found < 0), rows[i].sign, "%s, %s", rows[i].left, rows[i].right);
    }
}

Test(redis_away, an_id_that_is_none_is_refused)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    static const char *const ids[] = {"5", "5-", "-5", "a-b", "5-0 ", "5-0-0", "$"};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        cr_assert_eq(head->backend->class->listen(head->backend, TOPIC, ids[i]), EVBUS_EINVAL, "%s", ids[i]);
    bridgehead_close(head);
}

/* --- what cannot be read ------------------------------------------------------------------------------------------ */

Test(redis_away, a_key_that_is_no_stream_stops_no_other_and_is_read_when_it_is_one)
{
    struct redis_server server = redis_server_start(NULL);
    redis_server_ask(&server, "SET %s 1", SECOND);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    listen_to(head, TOPIC, "");
    listen_to(head, SECOND, "");
    put(&server, TOPIC, "*", "a");
    cr_assert(bridgehead_await(head, head->n_arrived == 1 && head->why[0] != '\0'), "%s", head->whys);
    cr_assert(head->is_here);
    cr_assert_not_null(strstr(head->whys, "stream " SECOND " is not read: WRONGTYPE"), "%s", head->whys);
    put(&server, TOPIC, "*", "b");
    cr_assert(bridgehead_await(head, head->n_arrived == 2));
    redis_server_ask(&server, "DEL %s", SECOND);
    put(&server, SECOND, "*", "x");
    cr_assert(bridgehead_await(head, head->n_arrived == 3), "%s", head->whys);
    cr_assert_str_eq(head->why, "", "that it can be read now is told");
    bridgehead_close(head);
}

Test(redis_away, a_key_that_becomes_another_thing_while_it_is_read_stops_no_other)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    put(&server, TOPIC, "*", "a");
    put(&server, SECOND, "*", "x");
    listen_to(head, TOPIC, "");
    listen_to(head, SECOND, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 2));
    redis_server_ask(&server, "SET %s 1", SECOND);
    cr_assert(bridgehead_await(head, strstr(head->whys, "stream " SECOND " is not read: WRONGTYPE") != NULL), "%s",
              head->whys);
    put(&server, TOPIC, "*", "b");
    cr_assert(bridgehead_await(head, head->n_arrived == 3));
    cr_assert_eq(head->n_states > 0 && head->is_here, true);
    bridgehead_close(head);
}

Test(redis_away, without_the_right_to_read_it_is_told_and_tried_again)
{
    struct redis_server server = redis_server_start("user someone on nopass +@all -xread ~*");
    struct bridgehead *head = bridgehead_make(server.url);
    head->config.in = true;
    snprintf(head->config.user, sizeof head->config.user, "someone");
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    listen_to(head, TOPIC, "");
    put(&server, TOPIC, "*", "a");
    cr_assert(bridgehead_await(head, strstr(head->why, "is not read: NOPERM") != NULL), "%s", head->whys);
    redis_server_ask(&server, "ACL SETUSER someone +xread");
    cr_assert(bridgehead_await(head, head->n_arrived == 1), "%s", head->whys);
    cr_assert_str_eq(head->why, "");
    bridgehead_close(head);
}

Test(redis_away, an_entry_that_is_larger_than_we_take_is_shown_without_its_fields, .timeout = 300)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_make(server.url);
    head->config.in = true;
    head->config.reply_timeout_ns = UINT64_C(15000000000);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here));
    for (unsigned i = 0; i < 5; i++)
        put(&server, TOPIC, "*", "a");
    redis_server_add_large(&server, TOPIC, (size_t)65 << 20);
    put(&server, TOPIC, "*", "b");
    put(&server, SECOND, "*", "x");
    listen_to(head, TOPIC, "");
    listen_to(head, SECOND, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 8), "%s\n%s", head->values, head->whys);
    cr_assert_not_null(strstr(head->values, TOPIC "=a " TOPIC "=(none) "), "%s", head->values);
    cr_assert_not_null(strstr(head->values, TOPIC "=b "), "%s", head->values);
    cr_assert_not_null(strstr(head->whys, "a reply is larger than we take"), "%s", head->whys);
    put(&server, TOPIC, "*", "c");
    cr_assert(bridgehead_await(head, head->n_arrived == 9));
    bridgehead_close(head);
}

Test(redis_away, many_large_entries_are_read_fewer_at_a_time, .timeout = 300)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_make(server.url);
    head->config.in = true;
    head->config.reply_timeout_ns = UINT64_C(15000000000); /* large answers take their time, on a busy machine more */
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here));
    for (unsigned i = 0; i < 8; i++) {
        redis_server_add_large(&server, TOPIC, (size_t)10 << 20);
        redis_server_add_large(&server, SECOND, (size_t)20 << 20);
    }
    listen_to(head, TOPIC, "");
    listen_to(head, SECOND, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 16), "%zu\n%s", head->n_arrived, head->whys);
    cr_assert_null(strstr(head->values, "(none)"), "each of them is small enough");
    cr_assert_not_null(strstr(head->whys, "a reply is larger than we take"), "%s", head->whys);
    bridgehead_close(head);
}

/* --- away and back ------------------------------------------------------------------------------------------------ */

/* The last 60 bytes of what it has written: a write that was killed. */
static void cut_its_file(const struct redis_server *server)
{
    char path[300];
    struct stat stat;
    snprintf(path, sizeof path, "%s/appendonlydir/appendonly.aof.1.incr.aof", server->dir);
    cr_assert_eq(lstat(path, &stat), 0, "%s", path);
    cr_assert_eq(truncate(path, stat.st_size - 60), 0);
}

/* Redis 7.0 keeps the first half of a script in its file then, and does it after all when it is started once more. */
Test(redis_away, half_a_batch_that_comes_back_hides_nothing)
{
    struct redis_server server = redis_server_start("appendonly yes\nappendfsync always");
    struct bridgehead *head = bridgehead_start(server.url);
    const uint64_t first[] = {4}, batch[] = {8, 12, 16};
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 1, first), BACKEND_OK);
    cr_assert_eq(bridgehead_append(head, TOPIC, 4, 3, batch), BACKEND_OK);
    redis_server_kill(&server);
    cut_its_file(&server);
    redis_server_again(&server);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 4, "the second batch is not there");
    redis_server_ask(&server, "EVAL %s 0", "redis.call('SET','x','1')redis.call('SET','y','1')");
    redis_server_kill(&server);
    cr_assert(bridgehead_await(head, !head->is_here));
    redis_server_again(&server);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    uint64_t mark = bridgehead_mark(head, TOPIC);
    cr_assert_eq(mark, 4, "the mark says %" PRIu64 " of a batch that is not there as a whole", mark);
    cr_assert_eq(bridgehead_append(head, TOPIC, 4, 3, batch), BACKEND_OK, "%s", head->append_why);
    const char *there = redis_server_fields(&server, TOPIC, "position");
    for (size_t i = 0; i < 3; i++) {
        char position[8];
        snprintf(position, sizeof position, "%" PRIu64, batch[i]);
        cr_expect_not_null(strstr(there, position), "%s is not there: %s", position, there);
    }
    bridgehead_close(head);
}

Test(redis_away, killed_and_started_again_it_goes_on_where_it_was)
{
    struct redis_server server = redis_server_start("appendonly yes\nappendfsync always");
    struct bridgehead *head = bridgehead_start_reading(server.url);
    const uint64_t positions[] = {4, 8}, more[] = {12};
    listen_to(head, TOPIC, "");
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 2, positions), BACKEND_OK);
    cr_assert(bridgehead_await(head, head->n_arrived == 2));
    redis_server_kill(&server);
    cr_assert(bridgehead_await(head, !head->is_here));
    cr_assert_not(head->backend->class->ask(head->backend, BRIDGEHEAD_LOG, 3, (const char *const[]){TOPIC}, 1),
                  "it is away");
    cr_assert_not(bridgehead_send(head, TOPIC, 8, 1, more), "it is away");
    redis_server_again(&server);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 8);
    cr_assert_eq(bridgehead_append(head, TOPIC, 8, 1, more), BACKEND_OK, "%s", head->append_why);
    cr_assert(bridgehead_await(head, head->n_arrived == 3));
    cr_assert_str_eq(head->values, TOPIC "=4 " TOPIC "=8 " TOPIC "=12 ");
    cr_assert_str_eq(head->resets, "");
    bridgehead_close(head);
}

Test(redis_away, all_that_is_under_way_is_answered_away_then_the_state_is_told)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start(server.url);
    const uint64_t positions[] = {4}, more[] = {8};
    redis_server_pause(&server);
    cr_assert(bridgehead_send(head, TOPIC, 0, 1, positions));
    cr_assert(bridgehead_send(head, TOPIC, 4, 1, more));
    cr_assert(head->backend->class->ask(head->backend, BRIDGEHEAD_LOG, 3, (const char *const[]){TOPIC}, 1));
    for (unsigned i = 0; i < 5; i++)
        bridgehead_pump(head);
    redis_server_kill(&server);
    cr_assert(bridgehead_await(head, head->n_appended == 2 && head->n_marks == 1 && !head->is_here));
    cr_assert_str_eq(head->results, "4:4 8:4 ");
    cr_assert_eq(head->marks_result, BACKEND_AWAY);
    bridgehead_close(head);
}

Test(redis_away, each_entry_arrives_once_wherever_the_answer_is_cut, .timeout = 500)
{
    struct redis_server server = redis_server_start(NULL);
    struct proxy proxy = proxy_start(server.dir, server.socket);
    struct bridgehead *head = bridgehead_start_reading(proxy.url);
    listen_to(head, TOPIC, "");
    cr_assert(bridgehead_await(head, head->n_empty == 1));
    bool has_cut = true;
    uint64_t n;
    for (n = 1; has_cut && n < 1000; n++) {
        head->values[0] = '\0';
        head->n_arrived = 0;
        cr_assert(bridgehead_await(head, head->is_here));
        cr_assert(
            await_that((bridgehead_pump(head), strstr(redis_server_ask(&server, "CLIENT LIST"), "cmd=xread") != NULL)));
        proxy_cut_replies(&proxy, n);
        redis_server_ask(&server,
                         "EVAL \"redis.call('XADD', KEYS[1], '*', 'payload', 'a') redis.call('XADD', KEYS[1], '*', "
                         "'payload', 'b')\" 1 %s",
                         TOPIC);
        cr_assert(bridgehead_await(head, head->n_arrived == 2), "cut after %" PRIu64 " bytes: %s", n, head->whys);
        cr_assert_str_eq(head->values, TOPIC "=a " TOPIC "=b ", "cut after %" PRIu64 " bytes", n);
        has_cut = proxy_has_cut(&proxy);
        proxy_cut_replies(&proxy, UINT64_MAX);
    }
    cr_assert_gt(n, 120, "two entries have more bytes than %" PRIu64, n);
    cr_assert_str_eq(head->resets, "");
    bridgehead_close(head);
    proxy_end(&proxy);
}

/* --- another stream than before ----------------------------------------------------------------------------------- */

Test(redis_away, a_redis_that_was_emptied_is_read_from_the_beginning)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    put(&server, TOPIC, "99999999999999-0", "a"); /* ahead of the clock: new ids will be lower */
    listen_to(head, TOPIC, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 1));
    redis_server_ask(&server, "CLIENT KILL TYPE normal SKIPME yes");
    redis_server_ask(&server, "FLUSHALL");
    put(&server, TOPIC, "*", "b");
    head->last_id[0] = '\0';
    cr_assert(bridgehead_await(head, head->n_arrived == 2), "%s", head->whys);
    cr_assert_str_eq(head->resets, TOPIC "@ ");
    cr_assert_str_eq(head->values, TOPIC "=a " TOPIC "=b ");
    bridgehead_close(head);
}

Test(redis_away, a_stream_that_is_another_is_seen_without_a_reconnect, .timeout = 60)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    put(&server, TOPIC, "99999999999999-0", "a");
    listen_to(head, TOPIC, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 1));
    redis_server_ask(&server, "DEL %s", TOPIC);
    put(&server, TOPIC, "*", "b");
    head->last_id[0] = '\0';
    cr_assert(bridgehead_await(head, head->n_arrived == 2), "it looks every ten seconds where nothing comes");
    cr_assert_str_eq(head->resets, TOPIC "@ ");
    bridgehead_close(head);
}

Test(redis_away, after_a_failover_that_lost_the_last_entries_it_goes_on_behind_those_that_are_left)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    put(&server, TOPIC, "5-0", "a");
    put(&server, TOPIC, "6-0", "b");
    put(&server, TOPIC, "7-0", "lost");
    put(&server, TOPIC, "8-0", "lost");
    listen_to(head, TOPIC, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 4));
    redis_server_ask(&server, "CLIENT KILL TYPE normal SKIPME yes");
    /* as the replica has it, which became the master: without the last two, and with newer entries, of lower ids and
     * of higher ones */
    redis_server_ask(&server, "DEL %s", TOPIC);
    put(&server, TOPIC, "5-0", "a");
    put(&server, TOPIC, "6-0", "b");
    put(&server, TOPIC, "7-5", "c");
    put(&server, TOPIC, "9-0", "d");
    head->values[0] = '\0';
    head->last_id[0] = '\0';
    cr_assert(bridgehead_await(head, strstr(head->values, "=d ") != NULL), "%s", head->values);
    cr_assert_str_eq(head->resets, TOPIC "@6-0 ");
    cr_assert_str_eq(head->values, TOPIC "=c " TOPIC "=d ");
    bridgehead_close(head);
}

/* Others are there before us, and have gone on beyond what we have read. */
Test(redis_away, after_a_failover_that_lost_hundreds_nothing_new_is_passed_over)
{
    static const char add[] = "EVAL \"for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], i .. '-0', 'position', i) end "
                              "return 1\" 1 " TOPIC " %u";
    static const unsigned kept[] = {590, 300, 0};
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        redis_server_ask(&server, "DEL " TOPIC);
        redis_server_ask(&server, add, 600U);
        head->n_arrived = 0;
        head->values[0] = head->resets[0] = '\0';
        listen_to(head, TOPIC, "");
        cr_assert(bridgehead_await(head, head->n_arrived == 600), "%zu", head->n_arrived);
        redis_server_ask(&server, "CLIENT KILL TYPE normal SKIPME yes");
        redis_server_ask(&server, "DEL " TOPIC);
        if (kept[i] > 0)
            redis_server_ask(&server, add, kept[i]);
        else
            put(&server, TOPIC, "10-5", "another");
        char id[32];
        snprintf(id, sizeof id, "%u-7", kept[i] > 0 ? kept[i] : 10);
        put(&server, TOPIC, id, "c");
        put(&server, TOPIC, "700-0", "d");
        head->values[0] = head->last_id[0] = '\0';
        head->n_arrived = 0;
        cr_assert(bridgehead_await(head, strstr(head->values, "=c " TOPIC "=d ") != NULL), "%u: %s", kept[i],
                  head->values);
        cr_assert_leq(head->n_arrived, 2 + 128, "so many at most are read twice");
        if (kept[i] == 590)
            cr_assert_str_eq(head->resets, TOPIC "@590-0 ");
    }
    bridgehead_close(head);
}

/* Entries are given ids on both sides, in the same milliseconds. */
Test(redis_away, an_id_of_ours_that_another_entry_has_is_none_of_ours)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    put(&server, TOPIC, "5-0", "a");
    put(&server, TOPIC, "6-0", "b");
    put(&server, TOPIC, "7-0", "lost");
    put(&server, TOPIC, "8-0", "lost");
    listen_to(head, TOPIC, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 4));
    redis_server_ask(&server, "CLIENT KILL TYPE normal SKIPME yes");
    redis_server_ask(&server, "DEL %s", TOPIC);
    put(&server, TOPIC, "5-0", "a");
    put(&server, TOPIC, "6-5", "c");
    put(&server, TOPIC, "8-0", "d");
    head->values[0] = '\0';
    head->last_id[0] = '\0';
    cr_assert(bridgehead_await(head, strstr(head->values, "=d ") != NULL), "%s", head->values);
    cr_assert_str_eq(head->resets, TOPIC "@5-0 ");
    cr_assert_str_eq(head->values, TOPIC "=c " TOPIC "=d ");
    bridgehead_close(head);
}

Test(redis_away, a_last_entry_that_was_deleted_by_hand_is_no_other_stream)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    put(&server, TOPIC, "5-0", "a");
    put(&server, TOPIC, "6-0", "b");
    listen_to(head, TOPIC, "5-0");
    cr_assert(bridgehead_await(head, head->n_arrived == 1));
    listen_to(head, TOPIC, "6-0"); /* as a bridge that has just begun: it knows no other */
    redis_server_ask(&server, "XDEL " TOPIC " 6-0");
    redis_server_ask(&server, "CLIENT KILL TYPE normal SKIPME yes");
    cr_assert(bridgehead_await(head, !head->is_here));
    cr_assert(bridgehead_await(head, head->is_here));
    put(&server, TOPIC, "7-0", "c");
    cr_assert(bridgehead_await(head, head->n_arrived == 2));
    cr_assert_str_eq(head->resets, "");
    bridgehead_close(head);
}

Test(redis_away, a_stream_that_was_trimmed_is_no_other_stream)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_start_reading(server.url);
    put(&server, TOPIC, "5-0", "a");
    put(&server, TOPIC, "6-0", "b");
    listen_to(head, TOPIC, "");
    cr_assert(bridgehead_await(head, head->n_arrived == 2));
    redis_server_ask(&server, "XTRIM %s MAXLEN 0", TOPIC);
    redis_server_ask(&server, "CLIENT KILL TYPE normal SKIPME yes");
    cr_assert(bridgehead_await(head, !head->is_here));
    cr_assert(bridgehead_await(head, head->is_here));
    put(&server, TOPIC, "7-0", "c");
    cr_assert(bridgehead_await(head, head->n_arrived == 3));
    cr_assert_str_eq(head->resets, "");
    bridgehead_close(head);
}

/* A real one: a replica that was cut off becomes the master. */
Test(redis_away, a_replica_that_lacks_the_tail_is_refilled_and_nothing_is_there_twice)
{
    struct redis_server master = redis_server_start_tcp("repl-diskless-sync-delay 0");
    struct redis_server replica = redis_server_start("replica-read-only yes\nrepl-timeout 60");
    struct proxy proxy = proxy_start(replica.dir, master.socket); /* the name under which the bridge knows the master */
    struct bridgehead *head = bridgehead_start_reading(proxy.url);
    const uint64_t positions[] = {4, 8, 12, 16, 20};
    redis_server_ask(&replica, "REPLICAOF 127.0.0.1 %u", (unsigned)master.port);
    cr_assert(await_that(strstr(redis_server_ask(&replica, "INFO replication"), "master_link_status:up") != NULL));
    listen_to(head, TOPIC, "");
    cr_assert_eq(bridgehead_append(head, TOPIC, 0, 2, positions), BACKEND_OK);
    cr_assert(await_that(strcmp(redis_server_fields(&replica, TOPIC, "position"), "4 8") == 0));
    redis_server_pause(&replica);
    cr_assert_str_eq(redis_server_ask(&master, "CLIENT KILL TYPE replica"), "1"); /* what comes now it never gets */
    cr_assert_eq(bridgehead_append(head, TOPIC, 8, 2, positions + 2), BACKEND_OK);
    cr_assert(bridgehead_await(head, head->n_arrived == 4));
    redis_server_kill(&master);
    cr_assert(bridgehead_await(head, !head->is_here));
    proxy_end(&proxy);
    unlink(strchr(proxy.url, '/') + 2);
    redis_server_continue(&replica);
    redis_server_ask(&replica, "REPLICAOF NO ONE");
    cr_assert_str_eq(redis_server_fields(&replica, TOPIC, "position"), "4 8", "the tail is lost");
    struct proxy again = proxy_start(replica.dir, replica.socket);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    cr_assert_eq(bridgehead_append(head, TOPIC, 16, 1, positions + 4), BACKEND_GAP);
    cr_assert_eq(bridgehead_mark(head, TOPIC), 8);
    cr_assert_eq(bridgehead_append(head, TOPIC, 8, 3, positions + 2), BACKEND_OK, "%s", head->append_why);
    cr_assert_str_eq(redis_server_fields(&replica, TOPIC, "position"), "4 8 12 16 20");
    head->last_id[0] = '\0';
    cr_assert(bridgehead_await(head, strstr(head->values, "=20 ") != NULL), "%s", head->values);
    bridgehead_close(head);
    proxy_end(&again);
}
