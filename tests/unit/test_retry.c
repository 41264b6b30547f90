/* test_retry.c: when an event is tried again. */
#include "retry.h"

#include <criterion/criterion.h>
#include <inttypes.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MS      UINT64_C(1000000)
#define S       UINT64_C(1000000000)

Test(retry, the_default_is_three_attempts_after_one_and_ten_seconds)
{
    cr_expect_eq(retry_attempts(&retry_default), 3u);
    cr_expect_eq(retry_default.waits_ns[0], S);
    cr_expect_eq(retry_default.waits_ns[1], 10 * S);
    cr_expect_eq(retry_default.handler_timeout_ns, 0u);
}

Test(retry, there_is_an_attempt_more_than_there_are_waits)
{
    for (uint32_t n = 0; n <= 14; n++)
        cr_expect_eq(retry_attempts(&(struct retry){.n_waits = n}), n + 1);
}

Test(retry, the_wait_after_an_attempt_is_the_catalogues_within_a_fifth)
{
    static const struct retry retry = {.waits_ns = {10 * MS, 100 * MS, S}, .n_waits = 3};
    static const struct {
        const char *label;
        uint32_t attempts;
        uint64_t wait_ns;
    } rows[] = {
        {"none yet", 0, 10 * MS},  {"the first", 1, 10 * MS}, {"the second", 2, 100 * MS},        {"the third", 3, S},
        {"beyond the last", 4, S}, {"the most", 15, S},       {"a damaged count", UINT32_MAX, S},
    };
    static const uint32_t randoms[] = {0, 1, 0x40000000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    for (size_t i = 0; i < N(rows); i++) {
        uint64_t before = 0;
        for (size_t r = 0; r < N(randoms); r++) {
            uint64_t wait = retry_wait_ns(&retry, rows[i].attempts, randoms[r]);
            cr_expect(wait >= rows[i].wait_ns * 4 / 5 && wait <= rows[i].wait_ns * 6 / 5, "%s, %#x: %" PRIu64,
                      rows[i].label, randoms[r], wait);
            cr_expect_geq(wait, before, "%s: more chance, more wait", rows[i].label);
            before = wait;
        }
        cr_expect_eq(retry_wait_ns(&retry, rows[i].attempts, 0), rows[i].wait_ns * 4 / 5, "%s", rows[i].label);
        cr_expect_gt(retry_wait_ns(&retry, rows[i].attempts, UINT32_MAX), rows[i].wait_ns * 119 / 100, "%s",
                     rows[i].label);
    }
}

Test(retry, the_shortest_and_the_longest_wait_of_a_catalogue_do_not_overflow)
{
    struct retry retry = {.waits_ns = {MS, 7 * 86400 * S}, .n_waits = 2};
    cr_expect(retry_wait_ns(&retry, 1, 0) >= MS * 4 / 5 && retry_wait_ns(&retry, 1, UINT32_MAX) <= MS * 6 / 5);
    cr_expect(retry_wait_ns(&retry, 2, UINT32_MAX) <= 7 * 86400 * S / 5 * 6);
    cr_expect(retry_wait_ns(&retry, 2, 0) >= 7 * 86400 * S / 5 * 4);
}

Test(retry, without_waits_there_is_none)
{
    cr_expect_eq(retry_wait_ns(&(struct retry){0}, 1, UINT32_MAX), 0u);
    cr_expect_eq(retry_wait_ns(&(struct retry){0}, 0, 0), 0u);
}

Test(retry, a_stored_time_further_away_than_the_longest_wait_is_now)
{
    static const struct retry retry = {.waits_ns = {100 * MS, 20 * MS}, .n_waits = 2};
    uint64_t now = 1000 * S;
    cr_expect_eq(retry_bound_ns(&retry, false, now - S, now), now - S, "past");
    cr_expect_eq(retry_bound_ns(&retry, false, now, now), now);
    cr_expect_eq(retry_bound_ns(&retry, false, 0, now), 0u);
    for (uint32_t attempts = 0; attempts < 4; attempts++) {
        uint64_t due = now + retry_wait_ns(&retry, attempts, UINT32_MAX);
        cr_expect_eq(retry_bound_ns(&retry, false, due, now), due, "what we stored ourselves is believed: %u",
                     attempts);
    }
    cr_expect_eq(retry_bound_ns(&retry, false, now + S, now), now, "another boot's");
    cr_expect_eq(retry_bound_ns(&retry, false, UINT64_MAX, now), now, "scribbled on");
    cr_expect_eq(retry_bound_ns(&(struct retry){0}, false, now + 1, now), now, "no waits at all");
}

Test(retry, a_time_that_a_handler_has_named_is_believed_up_to_seven_days)
{
    static const struct retry retry = {.waits_ns = {100 * MS}, .n_waits = 1};
    uint64_t now = 1000 * S;
    uint64_t week = 7 * 86400 * S;
    cr_expect_eq(retry_bound_ns(&retry, true, now - S, now), now - S, "past");
    cr_expect_eq(retry_bound_ns(&retry, true, now + 3600 * S, now), now + 3600 * S);
    cr_expect_eq(retry_bound_ns(&retry, true, now + week, now), now + week);
    cr_expect_eq(retry_bound_ns(&retry, true, now + week + 1, now), now, "another boot's");
    cr_expect_eq(retry_bound_ns(&retry, true, UINT64_MAX, now), now, "scribbled on");
}
