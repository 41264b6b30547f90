/* test_say.c: lines for an operator: a time, a level, what has happened; whatever the bytes; not more of them than anybody reads. [tsan] */
#include "say.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       UINT64_C(1000000000)

static const struct say_look logfmt = {0}, json = {.is_json = true}, journal = {.is_journal = true};

static const char *line_of(const struct say_look *look, const struct say_field *fields)
{
    static char line[SAY_LINE_MAX + 1];
    size_t len = say_line(look, 1769938200 * S + 123456789, EVBUS_LOG_WARNING, "the broker is away", fields, 0, line);
    cr_assert_leq(len, SAY_LINE_MAX);
    cr_assert_eq(line[len - 1], '\n');
    line[len] = '\0';
    cr_assert_eq(strchr(line, '\n'), line + len - 1, "it is one line: %s", line);
    return line;
}

Test(say, writes_logfmt_json_and_what_the_journal_takes)
{
    const struct say_field fields[] = {say_text("broker", "redis://h"),
                                       say_text("why", "connection \"refused\""),
                                       say_number("n", 18),
                                       say_seconds("waits", 1500000000),
                                       say_text("empty", ""),
                                       {.name = NULL}};
    cr_assert_str_eq(line_of(&logfmt, fields),
                     "time=2026-02-01T09:30:00.123Z level=warning msg=\"the broker is away\" broker=redis://h "
                     "why=\"connection \\\"refused\\\"\" n=18 waits=1.500 empty=\"\"\n");
    cr_assert_str_eq(
        line_of(&json, fields),
        "{\"time\":\"2026-02-01T09:30:00.123Z\",\"level\":\"warning\",\"msg\":\"the broker is away\","
        "\"broker\":\"redis://h\",\"why\":\"connection \\\"refused\\\"\",\"n\":18,\"waits\":1.500,\"empty\":\"\"}\n");
    cr_assert_str_eq(line_of(&journal, SAY_NONE), "<4>level=warning msg=\"the broker is away\"\n");
}

Test(say, escapes_what_no_terminal_should_see)
{
    static const struct {
        const char *bytes, *escaped;
    } rows[] = {
        {"a=b", "\"a=b\""},
        {"a\\b", "\"a\\\\b\""},
        {"\x1b[31m\r\n\t", "\"\\u001b[31m\\r\\n\\t\""},
        {"\x7f", "\"\\u007f\""},
        {"\xc2\x9b", "\"\\u009b\""},                   /* C1: a terminal's CSI */
        {"\xc3\xa4", "\"\xc3\xa4\""},                  /* an umlaut */
        {"\xf0\x9f\x90\x8e", "\"\xf0\x9f\x90\x8e\""},  /* four bytes */
        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},            /* overlong */
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""}, /* a surrogate */
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"\xc3", "\"\\ufffd\""},
    };
    for (size_t i = 0; i < N(rows); i++) {
        char wanted[100];
        snprintf(wanted, sizeof wanted, " key=%s\n", rows[i].escaped);
        const char *line = line_of(&logfmt, SAY(say_text("key", rows[i].bytes)));
        cr_expect_str_eq(strstr(line, " key="), wanted, "%zu", i);
    }
}

/* Any bytes, of any length: JSON that jansson takes, with the value, or a beginning of it and "cut". */
Test(say, writes_json_of_any_bytes)
{
    unsigned seed = 1;
    for (size_t round = 0; round < 3000; round++) {
        static char bytes[6000];
        size_t len = (size_t)rand_r(&seed) % (round % 10 == 0 ? sizeof bytes : 200);
        bool is_text = round % 3 == 0;
        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)(is_text ? ' ' + rand_r(&seed) % 95 : rand_r(&seed) % 256);
        const char *line = line_of(&json,
                                   SAY(say_number("n", round), say_bytes("value", bytes, len), say_text("last", "x")));
        json_error_t error;
        json_t *root = json_loads(line, JSON_ALLOW_NUL, &error);
        cr_assert_not_null(root, "%s: %s", error.text, line);
        const json_t *value = json_object_get(root, "value");
        cr_assert(json_is_string(value));
        bool is_cut = json_is_true(json_object_get(root, "cut"));
        cr_assert_eq(is_cut, json_object_get(root, "last") == NULL || (is_text && json_string_length(value) < len),
                     "%s", line);
        if (is_text)
            cr_assert(memcmp(json_string_value(value), bytes, json_string_length(value)) == 0 &&
                      (is_cut || json_string_length(value) == len));
        cr_assert(is_cut || json_object_get(root, "last") != NULL);
        json_decref(root);
        (void)line_of(&logfmt, SAY(say_bytes("value", bytes, len)));
    }
}

/* --- what repeats -------------------------------------------------------------------------------------------------- */

static uint64_t now_ns;
static char written[20000];
static size_t n_written;

static uint64_t now(void)
{
    return now_ns;
}

static void keep(const char *line, size_t len)
{
    size_t end = strlen(written);
    cr_assert_lt(end + len, sizeof written);
    memcpy(written + end, line, len);
    written[end + len] = '\0';
    n_written++;
}

static void begin(void)
{
    now_ns = 1000 * S;
    say_test(now, keep);
    say_begin(false, EVBUS_LOG_INFO);
}

/* The lines so far, and from here on no more. */
static bool said(size_t n, const char *text)
{
    bool is_so = n_written == n && strstr(written, text) != NULL;
    if (!is_so)
        fprintf(stderr, "%zu lines, not %zu with %s:\n%s", n_written, n, text, written);
    n_written = 0;
    written[0] = '\0';
    return is_so;
}

Test(say, tells_what_repeats_at_once_and_then_once_a_minute_with_its_count)
{
    begin();
    for (uint64_t i = 0; i < 100; i++)
        say(EVBUS_LOG_WARNING, "refused", SAY(say_text("stream", "a"), say_number("i", i)));
    cr_assert(said(1, "i=0\n"));
    say(EVBUS_LOG_WARNING, "refused", SAY(say_text("stream", "b")));
    cr_assert(said(1, "stream=b\n"), "another thing");
    say(EVBUS_LOG_WARNING, "accepted", SAY(say_text("stream", "a")));
    cr_assert(said(1, "msg=accepted stream=a\n"), "another message");
    cr_assert_eq(say_due(), 60001);
    now_ns += 60 * S;
    cr_assert_eq(say_due(), -1);
    cr_assert(said(1, "stream=a i=99 repeated=99\n"));
    say(EVBUS_LOG_WARNING, "refused", SAY(say_text("stream", "a"), say_number("i", 100)));
    cr_assert_eq(n_written, 0, "a line a minute, also when it goes on");
    now_ns += 61 * S;
    say(EVBUS_LOG_WARNING, "refused", SAY(say_text("stream", "a"), say_number("i", 101)));
    cr_assert(said(1, "i=101 repeated=1\n"));
    now_ns += 61 * S;
    cr_assert_eq(say_due(), -1);
    cr_assert_eq(n_written, 0);
    say(EVBUS_LOG_WARNING, "refused", SAY(say_text("stream", "a"), say_number("i", 102)));
    cr_assert(said(1, "i=102\n"));
}

Test(say, ends_with_how_it_is_when_something_comes_and_goes)
{
    begin();
    for (int i = 0; i < 5; i++) {
        say(EVBUS_LOG_WARNING, "away", SAY(say_text("broker", "h")));
        now_ns += S;
        say(EVBUS_LOG_INFO, "here", SAY(say_text("broker", "h")));
        now_ns += S;
    }
    cr_assert(said(2, "msg=here"));
    now_ns += 60 * S;
    (void)say_due();
    const char *away = strstr(written, "msg=away"), *here = strstr(written, "msg=here");
    cr_assert(away != NULL && here != NULL && away < here, "%s", written);
    cr_assert(said(2, "repeated=4\n"));
}

Test(say, tells_at_its_end_what_it_held_back)
{
    begin();
    say(EVBUS_LOG_ERROR, "x", SAY_NONE);
    say(EVBUS_LOG_ERROR, "x", SAY_NONE);
    say_end();
    cr_assert(said(2, "repeated=1\n"));
}

Test(say, holds_back_many_things_at_once_and_loses_none)
{
    begin();
    for (uint64_t round = 0; round < 2; round++)
        for (uint64_t i = 0; i < 100; i++)
            say(EVBUS_LOG_ERROR, "x", SAY(say_number("i", i)));
    say_end();
    for (uint64_t i = 0; i < 100; i++) {
        char text[20];
        snprintf(text, sizeof text, " i=%d", (int)i);
        cr_assert_not_null(strstr(written, text), "%s", text);
    }
}

Test(say, leaves_out_what_is_less_serious_than_asked)
{
    begin();
    say(EVBUS_LOG_DEBUG, "x", SAY_NONE);
    cr_assert_eq(n_written, 0);
    say_begin(true, EVBUS_LOG_DEBUG);
    say(EVBUS_LOG_DEBUG, "x", SAY_NONE);
    cr_assert(said(1, "\"level\":\"debug\",\"msg\":\"x\"}\n"));
}

Test(say, takes_the_library_s_fields_apart)
{
    static const struct {
        const char *line, *wanted;
    } rows[] = {
        {"event=keeper state=elected slot=12", "msg=\"the bus\" event=keeper state=elected slot=12\n"},
        {"event=journal state=none reason=\"bus \"x\": no room\" held_back=3",
         "event=journal state=none reason=\"bus \\\"x\\\": no room\" held_back=3\n"},
        {"reason=\"bus \"x\" is gone\"", "reason=\"bus \\\"x\\\" is gone\"\n"},
        {"event=journal reason=\"open", "event=journal reason=open\n"},
        {"no fields at all", "text=\"no fields at all\"\n"},
        {"a=1 b", "a=1 text=b\n"},
        {"a=", "a=\"\"\n"},
        {"", "msg=\"the bus\"\n"},
    };
    begin();
    for (size_t i = 0; i < N(rows); i++) {
        say_of_library(NULL, EVBUS_LOG_ERROR, rows[i].line);
        cr_assert(said(1, rows[i].wanted), "%s", rows[i].line);
    }
    say_of_library(NULL, EVBUS_LOG_DEBUG, "a=1");
    cr_assert_eq(n_written, 0);
}

/* --- threads ------------------------------------------------------------------------------------------------------- */

static void *talk(void *context)
{
    for (uint64_t i = 0; i < 500; i++) {
        say(EVBUS_LOG_ERROR, "x", SAY(say_text("who", context), say_number("i", i)));
        say_of_library(NULL, EVBUS_LOG_DEBUG, "a=1");
        (void)say_due();
    }
    return NULL;
}

Test(say, may_be_called_by_several_threads)
{
    pthread_t threads[4];
    static const char *const names[] = {"a", "b", "c", "d"};
    begin();
    for (size_t i = 0; i < N(threads); i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, talk, (void *)(uintptr_t)names[i]), 0);
    for (size_t i = 0; i < N(threads); i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    cr_assert_eq(n_written, N(threads));
    say_end();
    cr_assert_eq(n_written, 2 * N(threads));
    for (const char *at = written; *at != '\0'; at = strchr(at, '\n') + 1)
        cr_assert_eq(strncmp(at, "time=", 5), 0, "a whole line: %s", at);
}
