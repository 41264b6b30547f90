/* test_log.c: changes of state are told as one line each, repetitions are counted and held back.
 *
 * Time is ours: clock_gettime() is defined here, so the library calls it. */
#include "log.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])

static struct {
    bool is_set;
    time_t s;
} mono;

int clock_gettime(clockid_t id, struct timespec *out)
{
    if (mono.is_set && id == CLOCK_MONOTONIC) {
        *out = (struct timespec){.tv_sec = mono.s};
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, id, out);
}

static void set_time(time_t s)
{
    mono.is_set = true;
    mono.s = s;
}

/* What the callback was told. */
struct told {
    int n;
    enum evbus_level level;
    char line[1024];
    int n_inside; /* threads in the callback at this moment */
    int n_at_once;
};

static void tell(void *context, enum evbus_level level, const char *line)
{
    struct told *told = context;
    told->n++;
    told->n_inside++;
    if (told->n_inside > 1)
        told->n_at_once++;
    told->level = level;
    snprintf(told->line, sizeof told->line, "%s", line);
    told->n_inside--;
}

static struct log log_to(struct told *told, enum evbus_level level)
{
    struct log log;
    log_init(&log, tell, told, level);
    return log;
}

Test(log, a_line_begins_with_the_name_of_its_event)
{
    static const char *const names[LOG_EVENTS] = {
        [LOG_KEEPER] = "keeper",   [LOG_BURIAL] = "burial",   [LOG_CANCEL] = "cancel",
        [LOG_FULL] = "full",       [LOG_RETIRED] = "retired", [LOG_CATALOGUE] = "catalogue",
        [LOG_CORRUPT] = "corrupt", [LOG_JOURNAL] = "journal", [LOG_GROUP] = "group",
    };
    for (int event = 0; event < LOG_EVENTS; event++) {
        struct told told = {0};
        struct log log = log_to(&told, EVBUS_LOG_DEBUG);
        log_line(&log, (enum log_event)event, EVBUS_LOG_WARNING, "log=%s partition=%d", "test.a", 3);
        char expected[128];
        snprintf(expected, sizeof expected, "event=%s log=test.a partition=3", names[event]);
        cr_expect_str_eq(told.line, expected);
        cr_expect_eq(told.level, EVBUS_LOG_WARNING);
    }
}

Test(log, what_is_less_serious_than_asked_for_is_not_told)
{
    static const struct {
        enum evbus_level asked, given;
        bool is_told;
    } rows[] = {
        {EVBUS_LOG_ERROR, EVBUS_LOG_ERROR, true},   {EVBUS_LOG_ERROR, EVBUS_LOG_WARNING, false},
        {EVBUS_LOG_ERROR, EVBUS_LOG_DEBUG, false},  {EVBUS_LOG_WARNING, EVBUS_LOG_ERROR, true},
        {EVBUS_LOG_WARNING, EVBUS_LOG_INFO, false}, {EVBUS_LOG_INFO, EVBUS_LOG_INFO, true},
        {EVBUS_LOG_INFO, EVBUS_LOG_DEBUG, false},   {EVBUS_LOG_DEBUG, EVBUS_LOG_DEBUG, true},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct told told = {0};
        struct log log = log_to(&told, rows[i].asked);
        log_line(&log, LOG_KEEPER, rows[i].given, "x=1");
        cr_expect_eq(told.n, rows[i].is_told, "asked for %d, given %d", rows[i].asked, rows[i].given);
    }
}

Test(log, without_a_callback_nothing_happens)
{
    struct log log;
    log_init(&log, NULL, NULL, EVBUS_LOG_DEBUG);
    for (int i = 0; i < 100; i++)
        log_line(&log, LOG_FULL, EVBUS_LOG_ERROR, "x=%d", i);
    cr_expect_eq(log.held_back[LOG_FULL], 0);
}

Test(log, what_repeats_is_told_at_once_and_then_once_a_minute_with_its_count)
{
    struct told told = {0};
    struct log log = log_to(&told, EVBUS_LOG_DEBUG);
    set_time(1000);
    log_line(&log, LOG_FULL, EVBUS_LOG_WARNING, "n=0");
    cr_expect_str_eq(told.line, "event=full n=0");
    for (int i = 1; i <= 59; i++) {
        set_time(1000 + i);
        log_line(&log, LOG_FULL, EVBUS_LOG_WARNING, "n=%d", i);
    }
    cr_expect_eq(told.n, 1);
    set_time(1060);
    log_line(&log, LOG_FULL, EVBUS_LOG_WARNING, "n=60");
    cr_expect_eq(told.n, 2);
    cr_expect_str_eq(told.line, "event=full n=60 held_back=59");
    set_time(1120);
    log_line(&log, LOG_FULL, EVBUS_LOG_WARNING, "n=120");
    cr_expect_str_eq(told.line, "event=full n=120", "nothing was held back since");
}

Test(log, one_event_that_repeats_holds_no_other_back)
{
    struct told told = {0};
    struct log log = log_to(&told, EVBUS_LOG_DEBUG);
    set_time(1000);
    for (int event = 0; event < LOG_EVENTS; event++)
        log_line(&log, (enum log_event)event, EVBUS_LOG_WARNING, "x=1");
    cr_expect_eq(told.n, LOG_EVENTS);
}

Test(log, changes_of_state_are_never_held_back)
{
    static const enum log_event events[] = {LOG_KEEPER, LOG_RETIRED, LOG_CATALOGUE};
    for (size_t i = 0; i < N(events); i++) {
        struct told told = {0};
        struct log log = log_to(&told, EVBUS_LOG_DEBUG);
        set_time(1000);
        for (int k = 0; k < 5; k++)
            log_line(&log, events[i], EVBUS_LOG_WARNING, "x=1");
        cr_expect_eq(told.n, 5, "event %d", events[i]);
    }
}

Test(log, a_line_that_is_too_long_is_cut)
{
    struct told told = {0};
    struct log log = log_to(&told, EVBUS_LOG_DEBUG);
    static char text[2000];
    memset(text, 'x', sizeof text - 1);
    set_time(1000);
    log_line(&log, LOG_FULL, EVBUS_LOG_WARNING, "%s", text);
    log_line(&log, LOG_FULL, EVBUS_LOG_WARNING, "%s", text);
    set_time(2000);
    log_line(&log, LOG_FULL, EVBUS_LOG_WARNING, "%s", text); /* now with a count, for which there is no room */
    cr_expect_eq(told.n, 2);
    cr_expect_eq(strlen(told.line), 639);
    cr_expect(strncmp(told.line, "event=full xxx", 14) == 0, "%s", told.line);
}

static void *tell_much(void *context)
{
    for (int i = 0; i < 2000; i++)
        log_line(context, LOG_KEEPER, EVBUS_LOG_INFO, "n=%d", i);
    return NULL;
}

Test(log, one_line_is_told_at_a_time)
{
    struct told told = {0};
    struct log log = log_to(&told, EVBUS_LOG_DEBUG);
    pthread_t threads[4];
    for (size_t i = 0; i < N(threads); i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, tell_much, &log), 0);
    for (size_t i = 0; i < N(threads); i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(told.n, 8000);
    cr_expect_eq(told.n_at_once, 0);
}
