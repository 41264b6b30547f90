/* test_bridge_gap.c: events that stand in a stream under ids that a bridge has read already: their partition's next entry tells of them, and they come in, once,
 * in order; and what is really not there is looked for once.
 *
 * A redis-server, a bus and its bridge are real. The streams' entries, those of two other buses and of a foreign program, are put there by a script with ids as
 * the test wants them: a stream that is emptied and filled again within a millisecond, without a race for that millisecond. */
#include "host.h"

#include "trial.h"

#include <evbus/admin.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SEEN_MAX 4096

static struct redis_server redis;
static struct host *host;
static struct evbus_reader *reader;
static char
    seen[SEEN_MAX]
        [24]; /* "a16" for each that came in, in order; a foreign program's: "f1"; of a bus with a number: "2001/16" */
static unsigned n_seen;

static void make(void)
{
    redis = redis_server_start(NULL);
    host = host_make(EVBUS_KEEPER_VOLUNTEER);
    n_seen = 0;
    cr_assert_eq(evbus_reader_open(&reader, host->bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = host_topics,
                                                                  .n_patterns = HOST_TOPICS,
                                                                  .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK, "%s", evbus_message(NULL));
}

static void start_at(const char *broker, const char *settings)
{
    char more[400];
    snprintf(more, sizeof more, "metrics=unix:%s/metrics.sock %s", host_folder(), settings);
    host_bridge(host, 0, broker, more);
}

static void start(const char *settings)
{
    start_at(redis.url, settings);
}

/* Entries in one step, of which a bridge sees all or none: `make_rows` fills `rows` with {id, bus a..z or a number, position, prev}, and where it is not the
 * stream's and not the position, topic and payload. Bus f: a foreign program. is_anew: the stream is emptied first. */
static void put_made(const char *stream, bool is_anew, const char *make_rows)
{
    const char *answer = redis_server_ask(
        &redis,
        "EVAL \"local rows = {} %s if %d == 1 then redis.call('DEL', '%s') end for _, e in ipairs(rows) do "
        "local b = tonumber(e[2]) or e[2]:byte() "
        "local f = {'eventId', ('0198c0de-0000-7000-8000-%%06d%%06d'):format(b, e[3]), 'eventType', e[5] or '%s', "
        "'timestamp', '2026-02-01T09:30:00.000Z', 'version', '1.0', 'payload', e[6] or tostring(e[3]), 'key', 'k'} "
        "if e[2] ~= 'f' then for _, v in ipairs({'origin', ('0198c0de-0000-4000-8000-%%012d'):format(b), 'partition', "
        "'1', 'position', tostring(e[3]), 'prev', tostring(e[4])}) do table.insert(f, v) end end "
        "redis.call('XADD', '%s', e[1], unpack(f)) end return 'done'\" 0",
        make_rows, is_anew, stream, stream, stream);
    cr_assert_str_eq(answer, "done");
}

static void put(const char *stream, bool is_anew, const char *rows)
{
    char make_rows[1000];
    snprintf(make_rows, sizeof make_rows, "rows = {%s}", rows);
    put_made(stream, is_anew, make_rows);
}

static void look(void)
{
    struct evbus_delivery event = {.size = sizeof event};
    while (evbus_reader_next(reader, &event, 0) == EVBUS_OK) {
        unsigned bus = 'f';
        if (event.origin == NULL)
            continue;
        if (event.origin->bus[0] != 0) { /* the uuid ends with it, in decimal */
            char digits[8];
            snprintf(digits, sizeof digits, "%x%02x", event.origin->bus[14], event.origin->bus[15]);
            sscanf(digits, "%u", &bus);
        }
        cr_assert_lt(n_seen, SEEN_MAX - 1);
        if (bus < 128)
            snprintf(seen[n_seen++], sizeof seen[0], "%c%.*s", (char)bus, (int)event.payload_len,
                     (const char *)event.payload);
        else
            snprintf(seen[n_seen++], sizeof seen[0], "%u/%.*s", bus, (int)event.payload_len,
                     (const char *)event.payload);
        event = (struct evbus_delivery){.size = sizeof event};
    }
}

static const char *all_seen(unsigned from)
{
    static char text[4000];
    size_t at = 0;
    text[0] = '\0';
    for (unsigned i = from; i < n_seen && at < sizeof text - 30; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i > from ? " " : "", seen[i]);
    return text;
}

/* From the n-th on just these have come in, in this order. */
static void expect(unsigned from, const char *what)
{
    unsigned n = 1;
    for (const char *at = what; *at != '\0'; at++)
        n += *at == ' ';
    uint64_t until_ms = await_now_ms() + HOST_MS;
    while (look(), n_seen < from + n && await_now_ms() < until_ms)
        await_pause();
    if (strcmp(all_seen(from), what) != 0)
        host_fail("there came %s, and not %s", all_seen(from), what);
}

/* A number of the bridge's, as Prometheus would read it. */
static unsigned metric(const char *name)
{
    static char text[1 << 17];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static const char request[] = "GET /metrics HTTP/1.0\r\n\r\n";
    size_t len = 0;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/metrics.sock", host_folder());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    host_until(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    cr_assert_eq(write(fd, request, sizeof request - 1), (ssize_t)sizeof request - 1);
    for (ssize_t n; len < sizeof text - 1 && (n = read(fd, text + len, sizeof text - 1 - len)) > 0;)
        len += (size_t)n;
    close(fd);
    text[len] = '\0';
    char start[100];
    snprintf(start, sizeof start, "\n%s{", name);
    const char *line = strstr(text, start);
    if (line == NULL)
        host_fail("no metric %s in %s", name, text);
    const char *value = strchr(line, '}');
    unsigned number = 0;
    cr_assert_eq(sscanf(value, "} %u", &number), 1, "%.200s", line);
    return number;
}

#define GAPS "evbus_bridge_in_gaps_total"

Test(bridge_gap, what_was_put_in_under_ids_that_were_read_comes_in_once_and_in_order, .timeout = 120)
{
    make();
    start("checkpoint=50ms");
    put("test.b.one", true, "{'5-1','a',10,0},{'5-2','f',1},{'5-3','b',7,0},{'5-4','a',14,10}");
    expect(0, "a10 f1 b7 a14");
    /* emptied, and filled again: a16, b9 and c3 have ids that were read */
    put("test.b.one", true,
        "{'4-1','a',10,0},{'4-2','b',7,0},{'4-3','a',14,10},{'5-1','a',16,14},{'5-2','f',1},{'5-3','b',9,7},{'5-4','c',"
        "3,0},{'5-5','a',18,16},{'5-6','b',11,9},{'5-7','f',2},{'5-8','c',5,3}");
    expect(4, "a16 b9 c3 a18 b11 f2 c5");
    cr_assert_eq(metric(GAPS), 1, "it was read for them %u times", metric(GAPS));
    put("test.b.one", false, "{'5-9','a',20,18}");
    expect(11, "a20");
    host_expect(host_bridge_end(host, 0) == 0);
    start("checkpoint=50ms");
    put("test.b.one", false, "{'5-10','a',22,20},{'5-11','b',13,11},{'5-12','c',7,5}");
    expect(12, "a22 b13 c7");
    cr_assert_eq(metric(GAPS), 0);
}

Test(bridge_gap, a_hole_that_stays_one_is_looked_for_once, .timeout = 120)
{
    make();
    start("checkpoint=50ms");
    put("test.b.one", true, "{'5-1','a',10,0}");
    expect(0, "a10");
    put("test.b.one", false, "{'5-2','a',14,12}"); /* somebody has removed 12 */
    expect(1, "a14");
    cr_assert_eq(metric(GAPS), 1);
    put("test.b.one", false, "{'5-3','a',16,14},{'5-4','b',30,28},{'5-5','b',32,30},{'5-6','a',18,16}");
    expect(2, "a16 b30 b32 a18"); /* of b the front was trimmed */
    cr_assert_eq(metric(GAPS), 2);
    put("test.b.one", false, "{'5-7','a',24,22},{'5-8','b',40,32},{'5-9','a',26,24}");
    expect(6, "a24 b40 a26");
    cr_assert_eq(metric(GAPS), 3);
    host_expect(host_bridge_end(host, 0) == 0); /* what was believed is believed by the next, too */
    start("checkpoint=50ms");
    put("test.b.one", false, "{'5-10','a',28,26},{'5-11','b',42,40}");
    expect(9, "a28 b42");
    cr_assert_eq(metric(GAPS), 0);
}

/* Somebody has removed every other event: that does not cost a reading each. */
Test(bridge_gap, many_holes_are_believed_after_some_readings, .timeout = 120)
{
    make();
    start("checkpoint=50ms");
    put_made("test.b.one", true, "for i = 1, 500 do rows[i] = {'5-' .. i, 'a', 4 * i, 4 * i - 2} end");
    host_until((look(), n_seen == 500));
    cr_assert_leq(metric(GAPS), 16);
    put("test.b.one", false, "{'6-1','a',2002,2000},{'6-2','f',1}");
    host_until((look(), n_seen == 502));
    cr_assert_str_eq(seen[499], "a2000");
    cr_assert_str_eq(all_seen(500), "a2002 f1");
}

Test(bridge_gap, a_host_that_comes_late_reads_a_trimmed_stream_once, .timeout = 120)
{
    make();
    put("test.b.one", true, "{'5-1','a',1010,1008},{'5-2','a',1014,1010},{'5-3','f',1},{'5-4','a',1016,1014}");
    start("checkpoint=50ms");
    expect(0, "a1010 a1014 f1 a1016");
    cr_assert_eq(metric(GAPS), 1);
}

/* Its ids are never given twice, but there are holes. */
Test(bridge_gap, a_file_is_read_anew_for_a_hole_as_well, .timeout = 120)
{
    static const unsigned rows[][2] = {{10, 0}, {14, 12}, {16, 14}}; /* position, prev */
    char url[300], path[320];
    make();
    snprintf(url, sizeof url, "file:%s/broker", host_folder());
    mkdir(url + 5, 0700);
    snprintf(path, sizeof path, "%s/log.ndjson", url + 5);
    FILE *file = fopen(path, "we");
    cr_assert_not_null(file);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        fprintf(file,
                "{\"stream\":\"test.b.one\",\"eventId\":\"0198c0de-0000-7000-8000-%012u\",\"eventType\":\"test.b.one\","
                "\"timestamp\":\"2026-02-01T09:30:00.000Z\",\"payload\":%u,\"origin\":\"0198c0de-0000-4000-8000-"
                "000000000097\",\"partition\":1,\"position\":%u,\"prev\":%u}\n",
                rows[i][0], rows[i][0], rows[i][0], rows[i][1]);
    cr_assert_eq(fclose(file), 0);
    start_at(url, "checkpoint=50ms");
    expect(0, "a10 a14 a16");
    cr_assert_eq(metric(GAPS), 1);
}

Test(bridge_gap, with_layout_log_it_is_the_logs_and_topics_of_it_leave_no_gap, .timeout = 120)
{
    make();
    start("checkpoint=50ms layout=log");
    put("{test.a}", true,
        "{'5-1','a',10,0,'test.a.one'},{'5-2','a',12,10,'test.a.two'},{'5-3','a',14,12,'test.a.one'}");
    expect(0, "a10 a12 a14");
    cr_assert_eq(metric(GAPS), 0);
    put("{test.a}", true,
        "{'4-1','a',10,0,'test.a.one'},{'4-2','a',12,10,'test.a.two'},{'4-3','a',14,12,'test.a.one'},{'5-1','a',16,14,"
        "'test.a.two'},{'5-2','a',18,16,'test.a.one'},{'5-4','a',20,18,'test.a.two'}");
    expect(3, "a16 a18 a20");
    cr_assert_eq(metric(GAPS), 1);
}

Test(bridge_gap, an_event_that_the_bus_refuses_leaves_no_gap, .timeout = 120)
{
    make();
    start("checkpoint=50ms");
    put("test.b.one", true,
        "{'5-1','a',10,0},{'5-2','a',12,10,'test.b.one','{]'},{'5-3','a',14,12},{'5-4','a',16,14,'test.b.one','{]'}");
    expect(0, "a10 a14");
    host_until(metric("evbus_bridge_in_rejected_entries_total") == 2);
    cr_assert_eq(metric(GAPS), 0);
    host_expect(host_bridge_end(host, 0) == 0); /* its checkpoint knows that 16 was dealt with */
    start("checkpoint=50ms");
    put("test.b.one", false, "{'5-5','a',18,16}");
    expect(2, "a18");
    cr_assert_eq(metric(GAPS), 0);
    cr_assert_eq(metric("evbus_bridge_in_rejected_entries_total"), 0);
}

/* Hundreds that were read, then hundreds under their ids; killed or cut off when some of these have come, checkpoint or not. */
Test(bridge_gap, who_is_killed_or_cut_off_while_it_looks_for_them_leaves_nothing_out, .timeout = 240)
{
    uint64_t seed = trial_seed("bridge_gap/who_is_killed_or_cut_off_while_it_looks_for_them_leaves_nothing_out");
    char settings[40], expected[24];
    make();
    start("checkpoint=50ms");
    put("test.b.one", true, "{'5-0','f',1},{'5-1','a',1,0}");
    expect(0, "f1 a1");
    unsigned last = 1; /* of a */
    for (unsigned round = 0; round < trial_count(8, 3); round++) {
        /* all again from the first on, at lower ids, so that the new ones stand at or before what was read: 5-<last>. That is there as well, and
         * those of the rounds before: the stream passes for the same. One behind them tells */
        unsigned next = last + 300;
        unsigned until = 1 + last + (unsigned)(trial_random(&seed) % 300);
        char chain[1000];
        if (round % 2 == 1) { /* one that knows nothing but a checkpoint */
            host_await_bridge(host, 0);
            host_expect(host_bridge_end(host, 0) == 0);
            start("checkpoint=50ms");
        }
        snprintf(chain, sizeof chain,
                 "for p = 1, %u do rows[p] = {'4-' .. p, 'a', p, p - 1} end rows[%u] = {'5-0', 'f', 1} "
                 "for p = 1, %u, 300 do table.insert(rows, {'5-' .. p, 'a', p, p - 1}) end",
                 next - 1, next, next);
        put_made("test.b.one", true, chain);
        host_until((look(), n_seen >= until));
        if (trial_random(&seed) % 3 == 0) {
            redis_server_ask(&redis, "CLIENT KILL TYPE normal"); /* it goes on by itself */
        } else {
            host_bridge_kill(host, 0);
            snprintf(settings, sizeof settings, "checkpoint=%ums", trial_random(&seed) % 2 == 0 ? 10u : 60000u);
            start(settings);
        }
        last = next;
        host_until((look(), n_seen >= 1 + last));
    }
    put("test.b.one", false, "{'6-1','f',2}");
    host_until((look(), n_seen >= last + 2));
    for (unsigned p = 1; p <= last; p++) {
        snprintf(expected, sizeof expected, "a%u", p);
        if (strcmp(seen[p], expected) != 0)
            host_fail("in the place of %s there came %s", expected, seen[p]);
    }
    cr_assert_str_eq(seen[last + 1], "f2");
    cr_assert_eq(n_seen, last + 2);
}

/* A checkpoint has room for 2000 marks. */
Test(bridge_gap, where_not_all_marks_are_told_nothing_comes_twice, .timeout = 120)
{
    make();
    start("checkpoint=50ms");
    put_made("test.b.one", true, "for b = 1001, 3100 do rows[b - 1000] = {'5-' .. b, b, 10, 0} end");
    host_until((look(), n_seen == 2100));
    host_expect(host_bridge_end(host, 0) == 0);
    start("checkpoint=50ms");
    put("test.b.one", false, "{'6-1',1001,14,12}"); /* of which nothing was told: no gap, it may have had 12 */
    expect(2100, "1001/14");
    cr_assert_eq(metric(GAPS), 0);
    put("test.b.one", false, "{'6-2',3100,14,12},{'6-3',1001,16,14},{'6-4',3100,16,14}");
    expect(2101, "3100/14 1001/16 3100/16");
    cr_assert_eq(metric(GAPS), 1);
}
