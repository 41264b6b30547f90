/* test_pending.c: a word holds an entry whole, only who has its epoch steps it, and low misses nothing. */
#include "pending.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])

#define HALF (UINT64_C(1) << 39) /* of what 40 bits can tell apart */

static bool is_same(const struct pending *a, const struct pending *b)
{
    return a->pos == b->pos && a->epoch == b->epoch && a->attempts == b->attempts && a->state == b->state &&
           a->followers == b->followers;
}

static struct group_part *part_make(uint64_t cursor, uint16_t epoch)
{
    struct group_part *part = aligned_alloc(64, sizeof *part);
    cr_assert_not_null(part);
    memset(part, 0, sizeof *part);
    atomic_store(&part->cursor, CURSOR_WORD(cursor, epoch));
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        atomic_store(&part->pending[i], pending_pack(&(struct pending){.epoch = epoch}));
    return part;
}

static void put(struct group_part *part, uint32_t i, struct pending pending)
{
    atomic_store(&part->pending[i], pending_pack(&pending));
}

Test(pending, every_field_comes_back_from_the_word)
{
    static const uint64_t positions[] = {1, 2, 63, 64, 4096, 1000000};
    static const uint16_t epochs[] = {0, 1, 0x7fff, 0x8000, 0xffff};
    for (size_t p = 0; p < N(positions); p++)
        for (size_t e = 0; e < N(epochs); e++)
            for (uint32_t attempts = 0; attempts <= PENDING_ATTEMPTS_MAX; attempts++)
                for (int state = PENDING_TAKEN; state <= PENDING_DEAD; state++)
                    for (int followers = 0; followers <= 1; followers++) {
                        struct pending in = {positions[p], epochs[e], attempts, (enum pending_state)state, followers};
                        struct pending out = pending_unpack(pending_pack(&in), 2000000);
                        cr_assert(is_same(&in, &out), "position %" PRIu64 " epoch %u attempts %u state %d", in.pos,
                                  in.epoch, in.attempts, state);
                    }
}

Test(pending, a_zeroed_word_is_empty)
{
    struct pending none = pending_unpack(0, 12345);
    cr_expect_eq(none.state, PENDING_EMPTY);
    cr_expect_eq(none.pos, 0u);
    cr_expect_eq(none.epoch, 0u);
    cr_expect_eq(pending_pack(&(struct pending){.pos = 77, .epoch = 3}), UINT64_C(3) << 8, "an empty one has no place");
}

/* [P6] */
Test(pending, forty_bits_of_a_position_are_made_whole_by_the_cursor)
{
    static const struct {
        const char *label;
        uint64_t cursor;
        int64_t apart; /* of the entry from it */
    } rows[] = {
        {"at the cursor", 1000, 0},
        {"just behind it", 1000, -1},
        {"just ahead", 1000, 1},
        {"far behind", (UINT64_C(1) << 40) + 5, -(int64_t)(HALF - 1)},
        {"far ahead", 5, HALF - 1},
        {"across 2^40, behind", UINT64_C(1) << 40, -1},
        {"across 2^40, ahead", (UINT64_C(1) << 40) - 1, 1},
        {"across 2^40 by many cells", (UINT64_C(1) << 40) + 100, -5000},
        {"across 2^41", (UINT64_C(1) << 41) + 2, -3},
        {"on a multiple of 2^40", (UINT64_C(7) << 40) + 64, -64},
        {"near the end of positions", POSITION_LIMIT, -70000},
        {"ahead there", POSITION_LIMIT - 64, 64},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct pending in = {.pos = rows[i].cursor + (uint64_t)rows[i].apart, .epoch = 9, .state = PENDING_WAIT};
        struct pending out = pending_unpack(pending_pack(&in), rows[i].cursor);
        cr_expect_eq(out.pos, in.pos, "%s: %" PRIu64 " for %" PRIu64, rows[i].label, out.pos, in.pos);
    }
}

Test(pending, any_position_within_reach_of_the_entry_makes_it_whole)
{
    struct pending in = {.pos = (UINT64_C(3) << 40) - 10, .epoch = 1, .state = PENDING_RUN, .attempts = 1};
    uint64_t word = pending_pack(&in);
    for (int bit = 0; bit < 39; bit++) {
        cr_expect_eq(pending_unpack(word, in.pos + (UINT64_C(1) << bit)).pos, in.pos, "%d", bit);
        cr_expect_eq(pending_unpack(word, in.pos - (UINT64_C(1) << bit)).pos, in.pos, "-%d", bit);
    }
}

Test(pending, more_attempts_than_fit_count_as_the_most)
{
    struct pending many = {.pos = 8, .epoch = 0xffff, .attempts = 16, .state = PENDING_SOLO, .followers = true};
    struct pending out = pending_unpack(pending_pack(&many), 100);
    cr_expect_eq(out.attempts, (uint32_t)PENDING_ATTEMPTS_MAX);
    cr_expect_eq(out.epoch, 0xffff, "no bit runs over into its neighbour");
    cr_expect_eq(out.pos, 8u);
    cr_expect_eq(out.state, PENDING_SOLO);
}

Test(pending, a_step_is_taken_once_and_from_exactly_what_was_seen)
{
    struct group_part *part = part_make(100, 4);
    struct pending taken = {.pos = 50, .epoch = 4, .state = PENDING_TAKEN};
    struct pending running = {.pos = 50, .epoch = 4, .attempts = 1, .state = PENDING_RUN};
    put(part, 3, taken);
    cr_expect(pending_step(part, 3, &taken, &running));
    cr_expect_not(pending_step(part, 3, &taken, &running), "it is no longer TAKEN");
    struct pending found = pending_load(part, 3, 100);
    cr_expect(is_same(&found, &running));
    struct pending others[] = {running, running, running, running, running};
    others[0].epoch = 5;
    others[1].attempts = 2;
    others[2].state = PENDING_SOLO;
    others[3].followers = true;
    others[4].pos = 51;
    for (size_t i = 0; i < N(others); i++)
        cr_expect_not(pending_step(part, 3, &others[i], &taken), "%zu", i);
    found = pending_load(part, 3, 100);
    cr_expect(is_same(&found, &running), "a step that failed changes nothing");
    free(part);
}

/* [guards ONE-HOLDER] [P3] */
Test(pending, who_has_another_epoch_steps_nothing_and_moves_no_cursor)
{
    struct group_part *part = part_make(100, 7);
    struct pending now = {.pos = 50, .epoch = 7, .attempts = 1, .state = PENDING_RUN};
    struct pending empty = {.epoch = 7};
    put(part, 0, now);
    for (uint32_t epoch = 0; epoch <= 0xffff; epoch++) {
        struct pending old = now;
        struct pending old_empty = empty;
        old.epoch = old_empty.epoch = (uint16_t)epoch;
        if (epoch == 7)
            continue;
        cr_assert_not(pending_step(part, 0, &old, &old_empty), "%u", epoch);
        cr_assert_not(pending_step(part, 1, &old_empty, &old), "an empty word, too: %u", epoch);
        cr_assert_not(pending_move_cursor(part, (uint16_t)epoch, 100, 110), "%u", epoch);
    }
    cr_expect_eq(pending_cursor(part), 100u);
    cr_expect(pending_move_cursor(part, 7, 100, 110));
    cr_expect_eq(pending_cursor(part), 110u);
    cr_expect_not(pending_move_cursor(part, 7, 100, 120), "it stands elsewhere");
    cr_expect_eq(CURSOR_EPOCH(atomic_load(&part->cursor)), 7);
    free(part);
}

Test(pending, low_is_the_least_of_the_cursor_and_all_that_is_not_empty)
{
    struct group_part *part = part_make(1000, 2);
    cr_expect_eq(pending_low(part), 1000u, "nothing is pending");
    for (int state = PENDING_TAKEN; state <= PENDING_DEAD; state++) {
        put(part, 63, (struct pending){.pos = 400 + (uint64_t)state, .epoch = 2, .state = (enum pending_state)state});
        cr_expect_eq(pending_low(part), 400u + (uint64_t)state, "state %d", state);
    }
    put(part, 0, (struct pending){.pos = 900, .epoch = 2, .state = PENDING_WAIT});
    put(part, 31, (struct pending){.pos = 64, .epoch = 1, .state = PENDING_RUN});
    cr_expect_eq(pending_low(part), 64u, "whatever its epoch");
    put(part, 31, (struct pending){.epoch = 2});
    put(part, 63, (struct pending){.epoch = 2});
    cr_expect_eq(pending_low(part), 900u);
    put(part, 0, (struct pending){.pos = 1200, .epoch = 2, .state = PENDING_TAKEN});
    cr_expect_eq(pending_low(part), 1000u, "an entry beyond the cursor is not taken yet");
    free(part);
}

/* [P5] What low must not miss: between its loads an entry is stored, then the cursor moves over it. Reading the cursor first,
 * either the old cursor or the entry is seen. A cursor's step needs an entry before it, so whatever low says stays needed. */
struct racing {
    struct group_part *part;
    _Atomic uint64_t least; /* the least position that is not done, stored before it grows */
    _Atomic bool stop;
};

static void *take_and_finish(void *context)
{
    struct racing *racing = context;
    uint64_t cursor = 64;
    while (!atomic_load_explicit(&racing->stop, memory_order_relaxed)) {
        for (uint32_t i = 0; i < 8; i++) {
            struct pending empty = {.epoch = 1};
            struct pending taken = {.pos = cursor, .epoch = 1, .state = PENDING_TAKEN};
            pending_step(racing->part, (i * 7 + (uint32_t)cursor) % PENDING_MAX, &empty, &taken);
            pending_move_cursor(racing->part, 1, cursor, cursor + 2);
            cursor += 2;
        }
        uint64_t first = cursor - 16;
        for (uint64_t pos = first; pos < cursor; pos += 2)
            for (uint32_t i = 0; i < PENDING_MAX; i++) {
                struct pending found = pending_load(racing->part, i, cursor);
                struct pending empty = {.epoch = 1};
                if (found.state == PENDING_EMPTY || found.pos != pos)
                    continue;
                atomic_store_explicit(&racing->least, pos + 2, memory_order_seq_cst);
                pending_step(racing->part, i, &found, &empty);
            }
    }
    return NULL;
}

Test(pending, low_never_passes_what_is_taken_meanwhile)
{
    struct racing racing = {.part = part_make(64, 1)};
    pthread_t thread;
    atomic_store(&racing.least, 64);
    cr_assert_eq(pthread_create(&thread, NULL, take_and_finish, &racing), 0);
    uint64_t most = 0;
    unsigned n_moves = 0;
    for (unsigned i = 0; i < 200000 && n_moves < 1000; i++) {
        uint64_t low = pending_low(racing.part);
        uint64_t least = atomic_load(&racing.least); /* afterwards: it has only grown */
        cr_assert_leq(low, least, "low %" PRIu64 " where %" PRIu64 " was not done", low, least);
        n_moves += low > most;
        most = low > most ? low : most;
    }
    atomic_store(&racing.stop, true);
    pthread_join(thread, NULL);
    free(racing.part);
}

Test(pending, a_note_keeps_its_place_cause_and_whether_the_entry_runs_alone)
{
    for (int cause = CAUSE_NONE; cause <= CAUSE_REJECTED; cause++)
        for (int solo = 0; solo <= 1; solo++) {
            uint64_t note = NOTE(POSITION_LIMIT, cause, solo);
            cr_expect_eq(NOTE_POSITION(note), POSITION_LIMIT);
            cr_expect_eq(NOTE_CAUSE(note), (enum pending_cause)cause);
            cr_expect_eq(NOTE_IS_SOLO(note), solo != 0);
        }
    cr_expect_str_eq(pending_cause_name(CAUSE_CRASHED), "crashed");
    cr_expect_str_eq(pending_cause_name(CAUSE_TIMEOUT), "timeout");
    cr_expect_str_eq(pending_cause_name(CAUSE_REJECTED), "rejected");
    cr_expect_str_eq(pending_cause_name((enum pending_cause)99), "failed", "a damaged one");
}
