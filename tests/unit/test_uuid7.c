/* test_uuid7.c: ids grow, never repeat (least of all in a forked child), and say so when the kernel gives no
 * randomness.
 *
 * getrandom() and madvise() are defined here, so the library calls ours: they count, fail at the wish of a test, and
 * else pass the call on to the kernel. */
#include "uuid7.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS   UINT64_C(1000000)
#define NOON (UINT64_C(1795600800000) * MS) /* some moment in 2026 */

static struct faults {
    _Atomic int n_getrandom; /* calls so far, of all threads */
    int getrandom_fails;     /* the call with this number fails with getrandom_errno; 0: none */
    int getrandom_errno;
    size_t getrandom_cap; /* bytes given at once; 0: all */
    bool is_numbered;     /* instead of random bytes the 32-bit numbers 1, 2, 3 ... */
    uint32_t number;
    int madvise_errno; /* 0: it works */
} faults;

ssize_t getrandom(void *buffer, size_t length, unsigned flags)
{
    if (++faults.n_getrandom == faults.getrandom_fails) {
        errno = faults.getrandom_errno;
        return -1;
    }
    if (faults.getrandom_cap != 0 && length > faults.getrandom_cap)
        length = faults.getrandom_cap;
    if (!faults.is_numbered)
        return (ssize_t)syscall(SYS_getrandom, buffer, length, flags);
    for (size_t at = 0; at + 4 <= length; at += 4) {
        faults.number++;
        memcpy((uint8_t *)buffer + at, &faults.number, 4);
    }
    return (ssize_t)length;
}

int madvise(void *addr, size_t length, int advice)
{
    if (faults.madvise_errno != 0) {
        errno = faults.madvise_errno;
        return -1;
    }
    return (int)syscall(SYS_madvise, addr, length, advice);
}

static uint64_t ms_of(const uint8_t id[16])
{
    uint64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id[i];
    return ms;
}

static void make(struct uuid7_state *state, uint64_t wall_ns, uint8_t out_id[16])
{
    struct error err = {.text = ""};
    int rc = uuid7_make(state, wall_ns, out_id, &err);
    if (rc != EVBUS_OK)
        cr_assert_fail("uuid7_make returned %d: %s", rc, err.text);
}

static int compare_ids(const void *left, const void *right)
{
    return memcmp(left, right, 16);
}

Test(uuid7, carries_time_version_and_variant)
{
    static const struct row {
        const char *label;
        uint64_t wall_ns, ms;
    } rows[] = {
        {"the epoch", 0, 0},
        {"one ns before the first ms", MS - 1, 0},
        {"the first ms", MS, 1},
        {"2026", NOON + 999999, NOON / MS},
        {"the last ns there is", UINT64_MAX, UINT64_MAX / MS},
    };
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
        struct uuid7_state state = {0};
        uint8_t id[16];
        make(&state, row->wall_ns, id);
        cr_expect_eq(ms_of(id), row->ms, "%s: %" PRIu64, row->label, ms_of(id));
        cr_expect_eq(id[6] >> 4, 7, "%s: version %d", row->label, id[6] >> 4);
        cr_expect_eq(id[8] >> 6, 2, "%s: variant %d", row->label, id[8] >> 6);
        uuid7_close(&state);
    }
}

Test(uuid7, ids_of_one_millisecond_grow)
{
    struct uuid7_state state = {0};
    uint8_t last[16], next[16];
    make(&state, NOON, last);
    for (int i = 0; i < 100000; i++) {
        make(&state, NOON, next);
        if (memcmp(next, last, 16) <= 0 || ms_of(next) != NOON / MS)
            cr_assert_fail("id %d does not follow its predecessor", i);
        memcpy(last, next, 16);
    }
    uuid7_close(&state);
}

Test(uuid7, grows_while_the_clock_is_behind_and_follows_it_when_it_caught_up)
{
    static const struct row {
        const char *label;
        uint64_t wall_ns, ms;
    } rows[] = {
        {"start", NOON, NOON / MS},
        {"a ms back", NOON - MS, NOON / MS},
        {"an hour back", NOON - 3600000 * MS, NOON / MS},
        {"back to the epoch", 0, NOON / MS},
        {"caught up", NOON, NOON / MS},
        {"a ms on", NOON + MS, NOON / MS + 1},
        {"back again", NOON, NOON / MS + 1},
        {"a day on", NOON + 86400000 * MS, NOON / MS + 86400000},
    };
    struct uuid7_state state = {0};
    uint8_t last[16] = {0}, next[16];
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
        make(&state, row->wall_ns, next);
        cr_expect(memcmp(next, last, 16) > 0, "%s: the id is not greater than the one before", row->label);
        cr_expect_eq(ms_of(next), row->ms, "%s: %" PRIu64 ", not %" PRIu64, row->label, ms_of(next), row->ms);
        memcpy(last, next, 16);
    }
    uuid7_close(&state);
}

Test(uuid7, a_full_counter_goes_on_in_the_next_millisecond)
{
    struct uuid7_state state = {0};
    uint8_t before[16], full[16], after[16];
    make(&state, NOON, before);
    state.pool->counter = (UINT64_C(1) << 42) - 2;
    make(&state, NOON, full);
    make(&state, NOON, after);
    cr_expect(memcmp(full, before, 16) > 0 && memcmp(after, full, 16) > 0, "the ids must grow");
    cr_expect_eq(ms_of(full), NOON / MS);
    cr_expect_eq(ms_of(after), NOON / MS + 1);
    cr_expect_eq(full[6], 0x7f, "all ones in the counter leave the version alone");
    cr_expect_eq(full[8], 0xbf, "all ones in the counter leave the variant alone");
    uuid7_close(&state);
}

Test(uuid7, a_new_millisecond_leaves_half_of_the_counter_free)
{
    struct uuid7_state state = {0};
    uint8_t id[16];
    for (uint64_t i = 0; i < 1000; i++) {
        make(&state, NOON + i * MS, id);
        if ((id[6] & 0x08) != 0 && state.pool->counter != UINT64_C(1) << 41)
            cr_assert_fail("id %" PRIu64 " begins in the upper half", i);
    }
    uuid7_close(&state);
}

Test(uuid7, a_fresh_state_draws_its_counter_even_when_the_clock_says_0)
{
    struct uuid7_state left = {0}, right = {0};
    uint8_t left_id[16], right_id[16];
    make(&left, 0, left_id);
    make(&right, 0, right_id);
    cr_expect_neq(memcmp(left_id + 6, right_id + 6, 6), 0, "both begin with the same counter");
    uuid7_close(&left);
    uuid7_close(&right);
}

static long call_fork(void)
{
    return fork();
}

static long call_fork_without_handlers(void)
{
    return _Fork();
}

static long call_clone(void)
{
    return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

enum { N_FORKED = 200 };

/* The child's ids, then the parent's, made from copies of the same state at the same time. */
static void fork_and_make(long (*fork_call)(void), struct uuid7_state *state, uint8_t (*ids)[16])
{
    long child = fork_call();
    cr_assert_geq(child, 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int i = 0; i < N_FORKED; i++)
            if (uuid7_make(state, NOON, ids[i], NULL) != EVBUS_OK)
                _exit(1);
        _exit(0);
    }
    for (int i = 0; i < N_FORKED; i++)
        make(state, NOON, ids[N_FORKED + i]);
    int status;
    cr_assert_eq(waitpid((pid_t)child, &status, 0), (pid_t)child);
    cr_assert_eq(status, 0, "the child could not make its ids: %x", (unsigned)status);
}

Test(uuid7, a_forked_child_never_repeats_its_parent)
{
    static const struct row {
        const char *label;
        long (*fork_call)(void);
    } rows[] = {{"fork", call_fork}, {"_Fork", call_fork_without_handlers}, {"clone", call_clone}};
    uint8_t(*ids)[16] = mmap(NULL, (size_t)2 * N_FORKED * 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                             0);
    cr_assert_neq((void *)ids, MAP_FAILED);
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
        struct uuid7_state state = {0};
        uint8_t id[16];
        make(&state, NOON, id);
        fork_and_make(row->fork_call, &state, ids);
        int n_same_tails = 0; /* the tails must differ too: nothing of the pool is shared. One may be chance. */
        for (int i = 0; i < N_FORKED; i++)
            n_same_tails += memcmp(ids[i] + 12, ids[N_FORKED + i] + 12, 4) == 0;
        cr_expect_leq(n_same_tails, 1, "%s: parent and child used the same random bytes", row->label);
        qsort(ids, (size_t)2 * N_FORKED, 16, compare_ids);
        for (int i = 1; i < 2 * N_FORKED; i++)
            if (memcmp(ids[i - 1], ids[i], 16) == 0)
                cr_assert_fail("%s: parent and child made the same id", row->label);
        uuid7_close(&state);
    }
}

enum { N_THREADS = 4, N_PER_THREAD = 20000 };

static void *make_many(void *ids)
{
    struct uuid7_state state = {0};
    for (int i = 0; i < N_PER_THREAD; i++)
        if (uuid7_make(&state, NOON, (uint8_t *)ids + i * 16, NULL) != EVBUS_OK)
            return "failed";
    uuid7_close(&state);
    return NULL;
}

Test(uuid7, threads_with_states_of_their_own_never_meet)
{
    uint8_t *ids = malloc((size_t)N_THREADS * N_PER_THREAD * 16);
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, make_many, ids + (size_t)i * N_PER_THREAD * 16), 0);
    for (int i = 0; i < N_THREADS; i++) {
        void *result;
        cr_assert_eq(pthread_join(threads[i], &result), 0);
        cr_assert_null(result);
    }
    qsort(ids, (size_t)N_THREADS * N_PER_THREAD, 16, compare_ids);
    for (size_t i = 1; i < (size_t)N_THREADS * N_PER_THREAD; i++)
        if (memcmp(ids + i * 16, ids + (i - 1) * 16, 16) == 0)
            cr_assert_fail("the same id twice");
    free(ids);
}

Test(uuid7, many_ids_cost_one_system_call)
{
    struct uuid7_state state = {0};
    uint8_t id[16];
    faults.n_getrandom = 0;
    for (int i = 0; i < 6000; i++)
        make(&state, NOON, id);
    cr_expect_leq(faults.n_getrandom, 100, "%d calls of getrandom", faults.n_getrandom);
    uuid7_close(&state);
}

Test(uuid7, no_random_byte_is_used_twice)
{
    struct uuid7_state state = {0};
    faults.is_numbered = true;
    static bool is_seen[100000];
    for (uint64_t i = 0; i < 10000; i++) {
        uint8_t id[16];
        uint32_t tail;
        make(&state, NOON + i / 3 * MS, id); /* three of a millisecond: with a seed and without */
        memcpy(&tail, id + 12, 4);
        tail = __builtin_bswap32(tail); /* ids are big-endian */
        if (tail == 0 || tail >= 100000 || is_seen[tail])
            cr_assert_fail("id %" PRIu64 ": bytes %" PRIu32 " for the second time, or none that were drawn", i, tail);
        is_seen[tail] = true;
    }
    uuid7_close(&state);
}

Test(uuid7, an_interrupted_or_short_getrandom_is_called_again)
{
    static const struct row {
        const char *label;
        int fails;
        size_t cap;
    } rows[] = {{"EINTR at once", 1, 0}, {"EINTR in between", 3, 100}, {"7 bytes at a time", 0, 7}};
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
        struct uuid7_state state = {0};
        uint8_t id[16];
        faults = (struct faults){.getrandom_fails = row->fails, .getrandom_errno = EINTR, .getrandom_cap = row->cap};
        cr_expect_eq(uuid7_make(&state, NOON, id, NULL), EVBUS_OK, "%s", row->label);
        cr_expect_gt(faults.n_getrandom, 1, "%s", row->label);
        uint64_t last_bytes;
        memcpy(&last_bytes, state.pool->random + sizeof state.pool->random - 20, 8);
        cr_expect_neq(last_bytes, 0, "%s: the pool must be filled to its end", row->label);
        uuid7_close(&state);
    }
}

Test(uuid7, without_randomness_there_is_no_id_and_the_next_try_may_work)
{
    for (int n = 1; n <= 3; n++) { /* the n-th call fails */
        struct uuid7_state state = {0};
        struct error err = {.text = ""};
        uint8_t last[16] = {0}, id[16], untouched[16];
        faults = (struct faults){.getrandom_fails = n, .getrandom_errno = ENOSYS};
        int rc = EVBUS_OK;
        for (int i = 0; i < 1000 && rc == EVBUS_OK; i++) {
            memset(id, 0xaa, 16);
            rc = uuid7_make(&state, NOON, id, &err);
            if (rc == EVBUS_OK)
                memcpy(last, id, 16);
        }
        memset(untouched, 0xaa, 16);
        cr_expect_eq(rc, EVBUS_EIO, "call %d: %d", n, rc);
        cr_expect_arr_eq(id, untouched, 16, "call %d: out_id was touched", n);
        cr_expect_not_null(strstr(err.text, "getrandom"), "call %d: %s", n, err.text);
        cr_expect_eq(uuid7_make(&state, NOON, id, &err), EVBUS_OK, "call %d: the next try", n);
        cr_expect(memcmp(id, last, 16) > 0, "call %d: the next id must be greater", n);
        uuid7_close(&state);
    }
}

Test(uuid7, without_a_page_that_forks_wipe_there_is_no_id)
{
    struct uuid7_state state = {0};
    struct error err = {.text = ""};
    uint8_t id[16];
    faults.madvise_errno = EINVAL;
    cr_expect_eq(uuid7_make(&state, NOON, id, &err), EVBUS_EIO);
    cr_expect_not_null(strstr(err.text, "MADV_WIPEONFORK"), "%s", err.text);
    faults.madvise_errno = 0;
    cr_expect_eq(uuid7_make(&state, NOON, id, &err), EVBUS_OK, "the state stayed fresh");
    uuid7_close(&state);
}

Test(uuid7, without_memory_there_is_no_id)
{
    struct uuid7_state state = {0};
    struct error err = {.text = ""};
    struct rlimit normal, none;
    uint8_t id[16];
    cr_assert_eq(getrlimit(RLIMIT_AS, &normal), 0);
    none = normal;
    none.rlim_cur = 1;
    cr_assert_eq(setrlimit(RLIMIT_AS, &none), 0);
    int rc = uuid7_make(&state, NOON, id, &err);
    cr_assert_eq(setrlimit(RLIMIT_AS, &normal), 0);
    cr_expect_eq(rc, EVBUS_ENOSPC);
    cr_expect_not_null(strstr(err.text, "memory"), "%s", err.text);
}

Test(uuid7, close_leaves_a_fresh_state)
{
    struct uuid7_state state = {0};
    uint8_t id[16];
    uuid7_close(&state);
    make(&state, NOON, id);
    uuid7_close(&state);
    uuid7_close(&state);
    make(&state, NOON - MS, id);
    cr_expect_eq(ms_of(id), NOON / MS - 1, "nothing of the old state is left");
    uuid7_close(&state);
}

Test(uuid7, any_uuid_is_read_and_written_in_lower_case)
{
    static const struct row {
        const char *label, *text, *out;
    } rows[] = {
        {"version 7", "019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2", "019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2"},
        {"version 4", "f81d4fae-7dec-41d0-a765-00a0c91e6bf6", "f81d4fae-7dec-41d0-a765-00a0c91e6bf6"},
        {"upper case", "019A1B2C-3D4E-7F50-8A6B-7C8D9E0FA1B2", "019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2"},
        {"both cases", "019a1B2c-3D4e-7F50-8a6b-7C8d9e0fA1b2", "019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2"},
        {"nil", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"},
        {"max", "ffffffff-ffff-ffff-ffff-ffffffffffff", "ffffffff-ffff-ffff-ffff-ffffffffffff"},
    };
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
        uint8_t id[16];
        char text[37];
        cr_expect(uuid7_parse(row->text, strlen(row->text), id), "%s: refused", row->label);
        uuid7_format(id, text);
        cr_expect_str_eq(text, row->out, "%s: %s", row->label, text);
    }
}

Test(uuid7, what_is_no_uuid_is_refused)
{
#define TEXT(literal) literal, sizeof(literal) - 1
    static const struct row {
        const char *label, *text;
        size_t len;
    } rows[] = {
        {"empty", TEXT("")},
        {"braces", TEXT("{019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2}")},
        {"braces that fit", TEXT("{019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1}")},
        {"urn", TEXT("urn:uuid:019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2")},
        {"no dashes", TEXT("019a1b2c3d4e7f508a6b7c8d9e0fa1b2")},
        {"a dash moved", TEXT("019a1b2c3-d4e-7f50-8a6b-7c8d9e0fa1b2")},
        {"one short", TEXT("019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b")},
        {"one long", TEXT("019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b22")},
        {"a newline behind", TEXT("019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2\n")},
        {"a blank first", TEXT(" 19a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2")},
        {"a sign", TEXT("+19a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2")},
        {"0x", TEXT("0x9a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b2")},
        {"no hex digit", TEXT("019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1bg")},
        {"a NUL", TEXT("019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1b\0")},
        {"not ASCII", TEXT("019a1b2c-3d4e-7f50-8a6b-7c8d9e0fa1\xc3\xa9")},
    };
#undef TEXT
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
        uint8_t id[16], untouched[16];
        memset(id, 0xaa, 16);
        memset(untouched, 0xaa, 16);
        char *exact = malloc(row->len + 1); /* a sanitizer sees a read behind the text */
        memcpy(exact + 1, row->text, row->len);
        cr_expect_not(uuid7_parse(exact + 1, row->len, id), "%s: accepted", row->label);
        cr_expect_arr_eq(id, untouched, 16, "%s: out_id was touched", row->label);
        free(exact);
    }
}
