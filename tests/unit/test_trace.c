/* test_trace.c: what is a traceparent and tracestate, and what is none. */
#include "trace.h"

#include <evbus/evbus.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define N(rows)  (sizeof(rows) / sizeof(rows)[0])
#define TRACE_ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define GOOD     "00-" TRACE_ID "-00f067aa0ba902b7-01"

Test(trace, knows_a_traceparent)
{
    static const struct {
        const char *label;
        const char *text;
        const char *fault; /* NULL: none */
    } rows[] = {
        {"the standard's example", GOOD, NULL},
        {"not sampled", "00-" TRACE_ID "-00f067aa0ba902b7-00", NULL},
        {"flags of a later level", "00-" TRACE_ID "-00f067aa0ba902b7-ff", NULL},
        {"a later version", "cc-" TRACE_ID "-00f067aa0ba902b7-01", NULL},
        {"a later version that has more", "cc-" TRACE_ID "-00f067aa0ba902b7-01-what-else", NULL},
        {"empty", "", "too short"},
        {"cut", "00-" TRACE_ID "-00f067aa0ba902b7-0", "too short"},
        {"version 00 that has more", GOOD "-01", "version 00"},
        {"a later version that runs on", "cc-" TRACE_ID "-00f067aa0ba902b7-01x", "no -"},
        {"version ff", "ff-" TRACE_ID "-00f067aa0ba902b7-01", "version"},
        {"upper case", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "trace id"},
        {"no trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "trace id"},
        {"no span", "00-" TRACE_ID "-0000000000000000-01", "span id"},
        {"no hex in the span", "00-" TRACE_ID "-00f067aa0ba902bg-01", "span id"},
        {"no hex in the flags", "00-" TRACE_ID "-00f067aa0ba902b7-0x", "flags"},
        {"blanks for dashes", "00 " TRACE_ID " 00f067aa0ba902b7 01", "joined"},
        {"a newline behind it", "cc-" TRACE_ID "-00f067aa0ba902b7-01-\n", "printable"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct error err = {""};
        int rc = trace_check_parent(rows[i].text, strlen(rows[i].text), &err);
        cr_expect_eq(rc, rows[i].fault == NULL ? EVBUS_OK : EVBUS_EINVAL, "%s: %s", rows[i].label, err.text);
        cr_expect(rows[i].fault == NULL || strstr(err.text, rows[i].fault) != NULL, "%s: %s", rows[i].label, err.text);
    }
}

Test(trace, knows_a_tracestate)
{
    char longest[600] = "";
    char many[600] = "";
    for (int i = 0; i < 33; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "%sk%d=v", i > 0 ? "," : "", i);
    memset(longest, 'a', 513);
    memcpy(longest, "k=", 2);
    const struct {
        const char *label;
        const char *text;
        const char *fault;
    } rows[] = {
        {"empty", "", NULL},
        {"one", "congo=t61rcWkgMzE", NULL},
        {"two, with blanks", "rojo=00f067aa0ba902b7 ,\tcongo=t61rcWkgMzE", NULL},
        {"of a tenant", "1a-_*/@vendor=x y", NULL},
        {"an empty member", "a=1,,b=2", NULL},
        {"no =", "congo", "congo"},
        {"an empty value", "a=1,congo=", "congo="},
        {"an empty key", "=x", "=x"},
        {"an upper case key", "Congo=x", "Congo"},
        {"a key that begins with a digit", "1a=x", "1a"},
        {"two @", "a@b@c=x", "a@b@c"},
        {"a = in the value", "a=b=c", "a=b=c"},
        {"a newline in the value", "a=b\nc", "a=b"},
        {"33 members", many, "33 members"},
        {"513 bytes", longest, "513 bytes"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct error err = {""};
        int rc = trace_check_state(rows[i].text, strlen(rows[i].text), &err);
        cr_expect_eq(rc, rows[i].fault == NULL ? EVBUS_OK : EVBUS_EINVAL, "%s: %s", rows[i].label, err.text);
        cr_expect(rows[i].fault == NULL || strstr(err.text, rows[i].fault) != NULL, "%s: %s", rows[i].label, err.text);
    }
}

Test(trace, a_child_is_of_the_same_trace)
{
    char child[TRACE_PARENT_LEN + 1];
    trace_child("cc-" TRACE_ID "-00f067aa0ba902b7-03-what-else", UINT64_C(0xabc), child);
    cr_expect_str_eq(child, "00-" TRACE_ID "-0000000000000abc-03");
    cr_expect_eq(trace_check_parent(child, strlen(child), NULL), EVBUS_OK);
}
