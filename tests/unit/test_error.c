/* test_error.c: every code has its text, and a message is of one thread, cut and never overrun. */
#include "error.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])

Test(error, every_code_has_a_text_of_its_own)
{
    for (int code = EVBUS_OK; code >= EVBUS_EEXHAUSTED; code--) {
        const char *text = evbus_strerror(code);
        cr_assert_not_null(text, "%d", code);
        cr_expect_str_not_empty(text, "%d", code);
        cr_expect_str_neq(text, evbus_strerror(-1000), "%d has no text", code);
        for (int other = EVBUS_OK; other > code; other--)
            cr_expect_str_neq(text, evbus_strerror(other), "%d and %d", code, other);
    }
}

Test(error, what_the_system_refuses_comes_with_what_helps)
{
    static const struct {
        int number;
        const char *mend;
    } rows[] = {{ENOSPC, "--shm-size"}, {ENOMEM, "ulimit -v"}, {EMFILE, "ulimit -n"},   {ENFILE, "fs.file-max"},
                {EAGAIN, "ulimit -u"},  {EACCES, "run as"},    {EPERM, "run as"},       {EROFS, "remount"},
                {ENOSYS, "seccomp"},    {EIO, "try again"},    {12345678, "try again"}, {0, "try again"}};
    for (size_t i = 0; i < N(rows); i++) {
        cr_expect_not_null(strstr(error_mend(rows[i].number), rows[i].mend), "%d: %s", rows[i].number,
                           error_mend(rows[i].number));
        cr_expect_eq(strncmp(error_mend(rows[i].number), "; ", 2), 0, "it ends a message");
    }
    struct error err = {""};
    cr_expect_eq(error_no_memory(&err, "%d things", 3), EVBUS_ENOSPC);
    cr_expect_str_eq(err.text,
                     "no memory for 3 things; free memory, or raise the limit (ulimit -v; the cgroup's memory)");
}

Test(error, an_unknown_code_has_a_text_too)
{
    static const int codes[] = {1, 1000, -1000, EVBUS_EEXHAUSTED - 1};
    for (size_t i = 0; i < N(codes); i++)
        cr_expect_str_eq(evbus_strerror(codes[i]), "an unknown code", "%d", codes[i]);
}

/* No value of a code ever changes: services store and compare them. */
Test(error, the_codes_have_the_values_of_the_first_release)
{
    static const struct {
        const char *label;
        int code, value;
    } rows[] = {
        {"OK", EVBUS_OK, 0},
        {"ENOTFOUND", EVBUS_ENOTFOUND, -1},
        {"ETIMEOUT", EVBUS_ETIMEOUT, -2},
        {"EINVAL", EVBUS_EINVAL, -3},
        {"ENOBUS", EVBUS_ENOBUS, -4},
        {"ESTALE", EVBUS_ESTALE, -5},
        {"ELAYOUT", EVBUS_ELAYOUT, -6},
        {"ECORRUPT", EVBUS_ECORRUPT, -7},
        {"ENOSPC", EVBUS_ENOSPC, -8},
        {"ELIMIT", EVBUS_ELIMIT, -9},
        {"EIO", EVBUS_EIO, -10},
        {"EFULL", EVBUS_EFULL, -11},
        {"EAGAIN", EVBUS_EAGAIN, -12},
        {"EPAUSED", EVBUS_EPAUSED, -13},
        {"EDENIED", EVBUS_EDENIED, -14},
        {"EPERM", EVBUS_EPERM, -15},
        {"ECATALOGUE", EVBUS_ECATALOGUE, -16},
        {"ECONFIG", EVBUS_ECONFIG, -17},
        {"EBUSY", EVBUS_EBUSY, -18},
        {"EFORKED", EVBUS_EFORKED, -19},
        {"EFENCED", EVBUS_EFENCED, -20},
        {"EDUPLICATE", EVBUS_EDUPLICATE, -21},
        {"ECONFLICT", EVBUS_ECONFLICT, -22},
        {"EEXHAUSTED", EVBUS_EEXHAUSTED, -23},
    };
    for (size_t i = 0; i < N(rows); i++)
        cr_expect_eq(rows[i].code, rows[i].value, "%s", rows[i].label);
}

Test(error, setting_a_message_returns_the_code)
{
    struct error err = {""};
    cr_expect_eq(error_set(&err, EVBUS_EFULL, "%s/%u", "test.a", 3u), EVBUS_EFULL);
    cr_expect_str_eq(err.text, "test.a/3");
    cr_expect_eq(error_set(NULL, EVBUS_EFULL, "nobody asks"), EVBUS_EFULL);
    cr_expect_eq(error_prefix(NULL, EVBUS_EIO, "nobody asks"), EVBUS_EIO);
}

Test(error, a_message_may_contain_the_one_before_it)
{
    struct error err = {"the ring is torn"};
    error_set(&err, EVBUS_ECORRUPT, "at 7: %s; run it again", err.text);
    cr_expect_str_eq(err.text, "at 7: the ring is torn; run it again");
}

Test(error, a_prefix_stands_before_the_message_that_is_there)
{
    struct error err = {"no room"};
    cr_expect_eq(error_prefix(&err, EVBUS_ENOSPC, "%d bytes", 42), EVBUS_ENOSPC);
    cr_expect_str_eq(err.text, "42 bytes: no room");
    error_prefix(&err, EVBUS_ENOSPC, "events[%d]", 3);
    cr_expect_str_eq(err.text, "events[3]: 42 bytes: no room");
}

Test(error, a_message_that_is_too_long_is_cut)
{
    struct {
        struct error err;
        char guard[64];
    } held;
    static char text[2000];
    for (size_t len = 500; len < 530; len++) {
        memset(&held, 0x7f, sizeof held);
        memset(text, 'x', len);
        text[len] = '\0';
        error_set(&held.err, EVBUS_EINVAL, "%s", text);
        size_t most = sizeof held.err.text - 1;
        cr_expect_eq(strlen(held.err.text), len < most ? len : most, "%zu bytes", len);
        cr_expect_eq(held.guard[0], 0x7f, "%zu bytes", len);
    }
}

Test(error, a_prefix_and_a_message_that_are_too_long_together_are_cut)
{
    struct {
        struct error err;
        char guard[64];
    } held;
    static char prefix[700];
    for (size_t prefix_len = 0; prefix_len<sizeof prefix; prefix_len += prefix_len> 490 && prefix_len < 520 ? 1 : 35) {
        memset(&held, 0x7f, sizeof held);
        memset(held.err.text, 'm', sizeof held.err.text - 1);
        held.err.text[sizeof held.err.text - 1] = '\0';
        memset(prefix, 'p', prefix_len);
        prefix[prefix_len] = '\0';
        cr_expect_eq(error_prefix(&held.err, EVBUS_EINVAL, "%s", prefix), EVBUS_EINVAL);
        cr_expect_eq(strnlen(held.err.text, sizeof held.err.text) < sizeof held.err.text, true, "%zu", prefix_len);
        size_t n_p = strspn(held.err.text, "p");
        cr_expect_eq(n_p, prefix_len < 511 ? prefix_len : 511, "%zu: %zu", prefix_len, n_p);
        cr_expect_eq(held.guard[0], 0x7f, "%zu", prefix_len);
    }
}

static void *fail_elsewhere(void *context)
{
    (void)context;
    bool was_empty = evbus_message(NULL)[0] == '\0';
    error_set(error_of_thread(), EVBUS_EIO, "of the other thread");
    return was_empty ? error_of_thread() : NULL;
}

Test(error, a_message_belongs_to_its_thread)
{
    pthread_t thread;
    void *others = NULL;
    cr_expect_str_empty(evbus_message(NULL), "nothing has failed yet");
    error_set(error_of_thread(), EVBUS_EIO, "of this thread");
    cr_assert_eq(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    pthread_join(thread, &others);
    cr_expect_not_null(others, "a new thread starts without a message");
    cr_expect_neq(others, error_of_thread());
    cr_expect_str_eq(evbus_message(NULL), "of this thread");
}

Test(error, the_version_is_that_of_the_header)
{
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", EVBUS_VERSION_MAJOR, EVBUS_VERSION_MINOR, EVBUS_VERSION_PATCH);
    cr_expect_str_eq(evbus_version(), expected);
}
