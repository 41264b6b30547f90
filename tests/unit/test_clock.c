/* test_clock.c: points in time, deadlines that do not overflow, what is left of them. */
#include "clock.h"

#include <criterion/criterion.h>
#include <inttypes.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       CLOCK_NS_PER_S

static uint64_t of(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * S + (uint64_t)now.tv_nsec;
}

Test(clock, the_wall_clock_counts_ns_since_1970)
{
    uint64_t before = of(CLOCK_REALTIME);
    uint64_t now = clock_wall_ns();
    uint64_t after = of(CLOCK_REALTIME);
    cr_expect(before <= now && now <= after, "%" PRIu64 " <= %" PRIu64 " <= %" PRIu64, before, now, after);
    cr_expect_gt(now, UINT64_C(1700000000) * S);
}

Test(clock, the_monotonic_clock_never_steps_back)
{
    uint64_t before = of(CLOCK_MONOTONIC);
    uint64_t last = clock_mono_ns();
    cr_expect_geq(last, before);
    for (int i = 0; i < 100000; i++) {
        uint64_t now = clock_mono_ns();
        cr_assert_geq(now, last);
        last = now;
    }
    cr_expect_leq(last, of(CLOCK_MONOTONIC));
}

Test(clock, a_deadline_is_now_and_the_timeout_or_for_ever)
{
    static const struct {
        const char *label;
        uint64_t now, timeout, deadline;
    } rows[] = {
        {"at once", 5, 0, 5},
        {"a second", 5, S, 5 + S},
        {"the last that fits", 5, UINT64_MAX - 5, UINT64_MAX},
        {"one too many", 5, UINT64_MAX - 4, UINT64_MAX},
        {"for ever", 5, UINT64_MAX, UINT64_MAX},
        {"for ever, from the beginning", 0, UINT64_MAX, UINT64_MAX},
    };
    for (size_t i = 0; i < N(rows); i++)
        cr_expect_eq(clock_deadline(rows[i].now, rows[i].timeout), rows[i].deadline, "%s", rows[i].label);
}

Test(clock, what_is_left_is_never_negative_nor_beyond_its_cap)
{
    static const struct {
        const char *label;
        uint64_t deadline, now, cap;
        int64_t s, ns;
    } rows[] = {
        {"all of it", 5 * S + 7, S, 100 * S, 4, 7},
        {"the last ns", 8, 7, S, 0, 1},
        {"just over", 7, 7, S, 0, 0},
        {"long over", 7, 100 * S, S, 0, 0},
        {"a second less a ns", S - 1, 0, 10 * S, 0, 999999999},
        {"a second", S, 0, 10 * S, 1, 0},
        {"capped", 100 * S, 0, 250000000, 0, 250000000},
        {"for ever, capped", UINT64_MAX, 0, 250000000, 0, 250000000},
        {"for ever", UINT64_MAX, 0, UINT64_MAX, 18446744073, 709551615},
        {"a cap of nothing", 100 * S, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct timespec left = clock_left(rows[i].deadline, rows[i].now, rows[i].cap);
        cr_expect(left.tv_sec == rows[i].s && left.tv_nsec == rows[i].ns, "%s: %" PRId64 " s %" PRId64 " ns",
                  rows[i].label, (int64_t)left.tv_sec, (int64_t)left.tv_nsec);
    }
}
