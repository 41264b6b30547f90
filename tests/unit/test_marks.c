/* test_marks.c: a ceiling never comes back lower than it was said to be on disk, whatever was torn.
 *
 * Slots are damaged at their offsets, as the format fixes them: an entry's first write goes to its slot 1, the next to slot 0.
 * [no tsan] Children are forked and traced. */
#include "marks.h"

#include "allocations.h"
#include "child.h"
#include "fault.h"
#include "folder.h"
#include "frame.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N(rows)            (sizeof(rows) / sizeof(rows)[0])
#define SLOT_BYTES         512
#define SLOT(entry, which) (4096 + ((uint64_t)(entry)*2 + (which)) * SLOT_BYTES)
#define CRC_AT             508

static const uint8_t uuid[16] = "0123456789abcde";
static const struct term first = {.incarnation = 1, .number = 1};

static struct folder folder;
static char path[FILE_PATH_MAX]; /* of the first term */
static struct error err;

static void set_up(void)
{
    folder = folder_make();
    file_path(path, folder.path, "marks.00000001.000001");
}

TestSuite(marks, .init = set_up);

static struct mark mark_of(const char *log, uint32_t partition, uint64_t ceiling, uint64_t synced)
{
    struct mark mark = {.partition = partition, .ceiling = ceiling, .synced = synced};
    snprintf(mark.log, sizeof mark.log, "%s", log);
    return mark;
}

static struct marks created_for(struct term term, uint32_t n_entries)
{
    struct marks marks = MARKS_NONE;
    int rc = marks_create(&marks, folder.path, uuid, term, n_entries, &err);
    cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, err.text);
    return marks;
}

static struct marks created(struct term term)
{
    return created_for(term, 0);
}

static void write_mark(struct marks *marks, uint32_t index, uint64_t ceiling, uint64_t synced)
{
    struct mark mark = mark_of(index == 0 ? "lomash.orders" : "lomash.payments", index, ceiling, synced);
    cr_assert_eq(marks_write(marks, index, &mark, true, &err), EVBUS_OK, "%s", err.text);
}

/* The mark that all files together tell of entry 0's partition (index 0) or entry 1's; ceiling 0: none. *out_rc: of the load. */
static struct mark told(uint32_t index, int *out_rc)
{
    struct mark *marks = NULL, found = {.ceiling = 0};
    size_t n = 0;
    *out_rc = marks_load(folder.path, uuid, &marks, &n, &err);
    const struct mark *mark = marks_find(marks, n, index == 0 ? "lomash.orders" : "lomash.payments", index);
    if (mark != NULL)
        found = *mark;
    free(marks);
    return found;
}

static void expect_mark(uint32_t index, uint64_t ceiling, uint64_t synced, const char *label)
{
    int rc;
    struct mark mark = told(index, &rc);
    cr_expect_eq(rc, EVBUS_OK, "%s: %d %s", label, rc, err.text);
    cr_expect_eq(mark.ceiling, ceiling, "%s: ceiling %zu", label, (size_t)mark.ceiling);
    cr_expect_eq(mark.synced, synced, "%s: synced %zu", label, (size_t)mark.synced);
}

static void expect_code(int code, const char *text, const char *label)
{
    int rc;
    told(0, &rc);
    cr_expect_eq(rc, code, "%s: %d %s", label, rc, err.text);
    cr_expect_not_null(strstr(err.text, path), "%s: %s", label, err.text);
    cr_expect_not_null(strstr(err.text, text), "%s: %s", label, err.text);
}

/* A value into a slot, whose checksum is right again. */
static void put(uint64_t slot_at, uint64_t at, const void *value, size_t len)
{
    static uint8_t slot[SLOT_BYTES];
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file);
    cr_assert_eq(fseek(file, (long)slot_at, SEEK_SET), 0);
    cr_assert_eq(fread(slot, 1, sizeof slot, file), sizeof slot);
    fclose(file);
    memcpy(slot + at, value, len);
    memset(slot + CRC_AT, 0, 4);
    memcpy(slot + CRC_AT, &(uint32_t){frame_crc(slot, sizeof slot)}, 4);
    folder_put(path, slot_at, slot, sizeof slot);
}

/* ---- there and back ---- */

Test(marks, what_was_written_last_is_told)
{
    struct marks marks = created(first);
    for (uint64_t i = 1; i < 6; i++) {
        write_mark(&marks, 0, i * MARKS_STEP, i * 10);
        write_mark(&marks, 1, i * MARKS_STEP + 1, i * 10 + 1);
        expect_mark(0, i * MARKS_STEP, i * 10, "entry 0");
        expect_mark(1, i * MARKS_STEP + 1, i * 10 + 1, "entry 1");
    }
    marks_close(&marks);
    marks_close(&marks); /* fine twice */
}

Test(marks, slots_are_written_in_turns)
{
    struct marks marks = created(first);
    for (unsigned i = 0; i < 4; i++) {
        uint8_t before[2 * SLOT_BYTES] = {0}, after[2 * SLOT_BYTES] = {0};
        for (int look = 0; look < 2; look++) {
            FILE *file = fopen(path, "rb");
            cr_assert_not_null(file);
            cr_assert_eq(fseek(file, (long)SLOT(0, 0), SEEK_SET), 0);
            size_t n = fread(look == 0 ? before : after, 1, sizeof before, file);
            cr_assert(n == sizeof before || i + (unsigned)look == 0, "write %u: %zu bytes", i, n);
            fclose(file);
            if (look == 0)
                write_mark(&marks, 0, (i + 1) * MARKS_STEP, 0);
        }
        unsigned kept = i % 2 == 0 ? 0 : 1; /* the slot that this write leaves alone */
        cr_expect_eq(memcmp(before + kept * SLOT_BYTES, after + kept * SLOT_BYTES, SLOT_BYTES), 0, "write %u", i);
        cr_expect_neq(memcmp(before, after, sizeof before), 0, "write %u", i);
    }
    marks_close(&marks);
}

Test(marks, a_folder_without_any_tells_none)
{
    struct marks marks;
    expect_mark(0, 0, 0, "no file");
    marks = created(first);
    expect_mark(0, 0, 0, "a file without entries");
    cr_expect_eq(truncate(path, 0), 0);
    expect_mark(0, 0, 0, "a file whose making was cut off");
    marks_close(&marks);
}

Test(marks, a_partition_is_found_by_log_and_number)
{
    const struct mark marks[] = {mark_of("a.b", 0, 1, 0), mark_of("a.b", 1, 2, 0), mark_of("a.c", 0, 3, 0)};
    static const struct {
        const char *log;
        uint32_t partition;
        uint64_t ceiling; /* 0: none */
    } rows[] = {{"a.b", 0, 1}, {"a.b", 1, 2}, {"a.c", 0, 3}, {"a.c", 1, 0}, {"a", 0, 0}, {"a.bb", 0, 0}};
    for (size_t i = 0; i < N(rows); i++) {
        const struct mark *found = marks_find(marks, N(marks), rows[i].log, rows[i].partition);
        cr_expect_eq(found != NULL ? found->ceiling : 0, rows[i].ceiling, "%s/%u", rows[i].log, rows[i].partition);
    }
    cr_expect_null(marks_find(NULL, 0, "a.b", 0));
}

Test(marks, the_last_of_all_entries_has_its_place)
{
    struct marks marks = created(first);
    struct mark mark = mark_of("lomash.orders", 0, 77, 7);
    cr_assert_eq(marks_write(&marks, LOGS_MAX * PARTITIONS_MAX - 1, &mark, true, &err), EVBUS_OK, "%s", err.text);
    expect_mark(0, 77, 7, "behind a hole of entries that were never written");
    marks_close(&marks);
}

Test(marks, a_file_of_a_term_is_made_once)
{
    struct marks marks = created(first), second = MARKS_NONE;
    write_mark(&marks, 0, 5, 4);
    cr_expect_eq(marks_create(&second, folder.path, uuid, first, 0, &err), EVBUS_EDUPLICATE);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
    cr_expect_eq(second.fd, -1);
    expect_mark(0, 5, 4, "the first is as it was");
    marks_close(&marks);
}

/* ---- torn, rotten ---- */

/* Entry 0 has ceilings of 1 and 2 steps, in slots 1 and 0; entry 1 likewise. */
static void write_twice(void)
{
    struct marks marks = created_for(first, 2);
    for (uint64_t i = 1; i <= 2; i++) {
        write_mark(&marks, 0, i * MARKS_STEP, i);
        write_mark(&marks, 1, i * MARKS_STEP, i);
    }
    marks_close(&marks);
}

/* Nobody can tell a torn write from rot of what was on disk, and that was at most one step higher. [J1] */
Test(marks, with_a_damaged_slot_the_ceiling_is_two_steps_higher)
{
    static const struct {
        const char *label;
        unsigned slot;
        uint64_t ceiling, synced;
    } rows[] = {{"the newer one", 0, 3 * MARKS_STEP, 1}, {"the older one", 1, 4 * MARKS_STEP, 2}};
    write_twice();
    for (size_t i = 0; i < N(rows); i++)
        for (uint64_t at = 0; at < SLOT_BYTES; at++) {
            char label[64];
            uint8_t bit = (uint8_t)(1u << at % 8);
            snprintf(label, sizeof label, "%s, byte %u", rows[i].label, (unsigned)at);
            folder_flip(path, SLOT(0, rows[i].slot) + at, bit);
            expect_mark(0, rows[i].ceiling, rows[i].synced, label);
            expect_mark(1, 2 * MARKS_STEP, 2, "the other entry is as it was");
            folder_flip(path, SLOT(0, rows[i].slot) + at, bit);
        }
    expect_mark(0, 2 * MARKS_STEP, 2, "all well");
}

Test(marks, with_both_slots_damaged_none_is_told)
{
    write_twice();
    folder_flip(path, SLOT(1, 0) + 9, 1);
    folder_flip(path, SLOT(1, 1) + 9, 1);
    expect_code(EVBUS_ECORRUPT, "a damaged mark", "both");
}

Test(marks, an_entry_whose_only_slot_is_damaged_is_told_not_passed_over)
{
    struct marks marks = created(first);
    write_mark(&marks, 0, MARKS_STEP, 1);
    marks_close(&marks);
    folder_flip(path, SLOT(0, 1) + 9, 1);
    expect_code(EVBUS_ECORRUPT, "a damaged mark", "its only one");
}

/* Never lower than what was on disk, or a code: also where it is cut between two slots, or two entries. [J1] */
Test(marks, a_file_that_was_cut_never_tells_a_lower_ceiling)
{
    struct marks marks = created_for(first, 2);
    for (uint64_t i = 1; i <= 3; i++) { /* the third is in slot 1: the last of the file */
        write_mark(&marks, 1, i * MARKS_STEP, i);
        write_mark(&marks, 0, i * MARKS_STEP, i);
    }
    marks_close(&marks);
    for (long len = (long)SLOT(1, 2) - 1; len >= SLOT_BYTES; len--) {
        char label[64];
        snprintf(label, sizeof label, "%ld bytes", len);
        cr_assert_eq(truncate(path, len), 0);
        int rc;
        struct mark mark = told(1, &rc);
        if (len < (long)SLOT(1, 1)) {
            expect_code(EVBUS_ECORRUPT, "put it back from a backup", label);
        } else {
            expect_mark(0, 3 * MARKS_STEP, 3, label);
            cr_expect_geq(mark.ceiling, 3 * MARKS_STEP, "%s: ceiling %zu", label, (size_t)mark.ceiling);
        }
    }
}

/* Else a keeper that died at it would take the bus with it: the file of the one before is still there. */
Test(marks, a_file_whose_maker_died_before_its_entries_takes_nothing_away)
{
    write_twice();
    struct marks marks = created_for((struct term){.incarnation = 1, .number = 2}, 2);
    marks_close(&marks);
    expect_mark(0, 2 * MARKS_STEP, 2, "entry 0");
    expect_mark(1, 2 * MARKS_STEP, 2, "entry 1");
}

Test(marks, an_entry_whose_other_slot_has_become_zero_is_taken_for_damaged)
{
    static const uint8_t zero[SLOT_BYTES];
    write_twice();
    folder_put(path, SLOT(0, 1), zero, sizeof zero);
    expect_mark(0, 4 * MARKS_STEP, 2, "the older one");
    expect_mark(1, 2 * MARKS_STEP, 2, "the other entry is as it was");
}

Test(marks, a_damaged_header_hides_no_entry)
{
    write_twice();
    for (uint64_t at = 0; at < SLOT_BYTES; at++) {
        folder_flip(path, at, 0x10);
        expect_mark(0, 2 * MARKS_STEP, 2, "header");
        folder_flip(path, at, 0x10);
    }
}

Test(marks, what_is_not_this_buss_is_told)
{
    static const struct {
        const char *label;
        uint64_t at;
        size_t len;
        uint64_t value;
        int code;
        const char *text;
    } rows[] = {
        {"a newer format", 8, 4, 2, EVBUS_ELAYOUT, "format 2"},
        {"another bus", 16, 8, 1, EVBUS_ECONFLICT, "another bus"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        folder_clear(&folder);
        write_twice();
        put(0, rows[i].at, &rows[i].value, rows[i].len);
        expect_code(rows[i].code, rows[i].text, rows[i].label);
    }
}

/* ---- terms ---- */

/* A deposed keeper writes on, into its own file. [J4] */
Test(marks, of_two_terms_the_higher_mark_counts)
{
    static const struct {
        const char *label;
        struct term later;
    } rows[] = {
        {"a later keeper", {1, 2}},
        {"a keeper of a later life", {2, 1}},
        {"the last keeper that a name has room for", {1, 0xffffff}},
    };
    for (size_t i = 0; i < N(rows); i++) {
        folder_clear(&folder);
        struct marks old = created(first), new = created(rows[i].later);
        write_mark(&old, 0, 5 * MARKS_STEP, 50);
        write_mark(&new, 0, 4 * MARKS_STEP, 60);
        expect_mark(0, 5 * MARKS_STEP, 60, rows[i].label);
        write_mark(&new, 0, 6 * MARKS_STEP, 70);
        expect_mark(0, 6 * MARKS_STEP, 70, rows[i].label);
        write_mark(&old, 1, MARKS_STEP, 1);
        expect_mark(1, MARKS_STEP, 1, "what only the old one has");
        marks_close(&old);
        marks_close(&new);
    }
}

Test(marks, only_those_of_earlier_terms_are_dropped)
{
    static const struct {
        struct term term;
        bool is_kept;
    } rows[] = {{{1, 1}, false}, {{1, 0xffffff}, false}, {{2, 4}, false},        {{2, 5}, true},
                {{2, 6}, true},  {{3, 1}, true},         {{0xffffffff, 1}, true}};
    char other[FILE_PATH_MAX];
    for (size_t i = 0; i < N(rows); i++) {
        struct marks marks = created(rows[i].term);
        marks_close(&marks);
    }
    file_path(other, folder.path, "catalogue.json");
    folder_put(other, 0, "{}", 2);
    cr_expect_eq(marks_drop_others(folder.path, (struct term){2, 5}, &err), EVBUS_OK, "%s", err.text);
    for (size_t i = 0; i < N(rows); i++) {
        struct marks marks = MARKS_NONE;
        int rc = marks_create(&marks, folder.path, uuid, rows[i].term, 0, &err);
        cr_expect_eq(rc, rows[i].is_kept ? EVBUS_EDUPLICATE : EVBUS_OK, "{%zu, %u}", (size_t)rows[i].term.incarnation,
                     rows[i].term.number);
        marks_close(&marks);
    }
    cr_expect_eq(folder_count(&folder, "catalogue.json"), 1);
}

Test(marks, a_folder_that_is_not_there_is_told)
{
    struct marks marks = MARKS_NONE;
    struct mark *loaded = NULL;
    size_t n = 77;
    char absent[FILE_PATH_MAX];
    file_path(absent, folder.path, "absent");
    cr_expect_eq(marks_create(&marks, absent, uuid, first, 0, &err), EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(err.text, absent), "%s", err.text);
    cr_expect_eq(marks_load(absent, uuid, &loaded, &n, &err), EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(err.text, absent), "%s", err.text);
    cr_expect_eq(n, 77, "the result is untouched on failure");
    cr_expect_eq(marks_drop_others(absent, first, &err), EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(err.text, absent), "%s", err.text);
}

/* ---- faults ---- */

Test(marks, without_memory_none_are_made_or_told)
{
    if (!CAN_FAIL_ALLOCATIONS)
        cr_skip_test("needs allocations that fail");
    for (long nth = 1;; nth++) {
        struct marks marks = MARKS_NONE;
        folder_clear(&folder);
        int before = folder_descriptors();
        fail_allocation(nth);
        int rc = marks_create(&marks, folder.path, uuid, first, 0, &err);
        bool has_struck = fail_allocation(0);
        marks_close(&marks);
        cr_assert_eq(rc, has_struck ? EVBUS_ENOSPC : EVBUS_OK, "allocation %ld: %d %s", nth, rc, err.text);
        cr_expect_eq(folder_count(&folder, ""), has_struck ? 0 : 1, "allocation %ld", nth);
        cr_expect_eq(folder_descriptors(), before, "allocation %ld", nth);
        if (!has_struck)
            break;
    }
    folder_clear(&folder);
    write_twice();
    for (long nth = 1;; nth++) {
        struct mark *loaded = NULL;
        size_t n = 0;
        int before = folder_descriptors();
        fail_allocation(nth);
        int rc = marks_load(folder.path, uuid, &loaded, &n, &err);
        bool has_struck = fail_allocation(0);
        free(loaded);
        cr_expect_eq(folder_descriptors(), before, "allocation %ld", nth);
        cr_assert_eq(rc == EVBUS_OK, !has_struck, "allocation %ld: %d %s", nth, rc, err.text);
        if (!has_struck)
            break;
    }
}

/* What a child with a fault says. */
struct outcome {
    int rc;
    int n_descriptors;  /* more than before */
    bool was_made;      /* the file */
    uint64_t n_written; /* marks that are on disk for sure */
    struct error err;
};
static struct outcome *outcome;

static void arrange_nothing(void *context)
{
    (void)context;
    folder_clear(&folder);
}

static int make_and_write(struct error *of_child)
{
    struct marks marks = MARKS_NONE;
    int rc = marks_create(&marks, folder.path, uuid, first, 0, of_child);
    outcome->was_made = rc == EVBUS_OK;
    for (uint64_t i = 1; rc == EVBUS_OK && i <= 3; i++) {
        struct mark mark = mark_of("lomash.orders", 0, i * MARKS_STEP, i);
        rc = marks_write(&marks, 0, &mark, true, of_child);
        if (rc == EVBUS_OK)
            outcome->n_written = i;
    }
    marks_close(&marks);
    return rc;
}

static int act_write(void *context)
{
    int before = folder_descriptors();
    (void)context;
    memset(outcome, 0, sizeof *outcome);
    fault_begin();
    outcome->rc = make_and_write(&outcome->err);
    fault_end();
    outcome->n_descriptors = folder_descriptors() - before;
    return 0;
}

static void check_written(void *context, const struct fault *fault, int status)
{
    int rc;
    (void)context;
    cr_expect_eq(status, 0, "%s %u: status %d", fault->call, fault->nth, status);
    cr_expect_eq(outcome->n_descriptors, 0, "%s %u: a descriptor is left open", fault->call, fault->nth);
    if (fault->error == FAULT_SHORT || fault->error == EINTR)
        cr_expect_eq(outcome->rc, EVBUS_OK, "%s %u: %s", fault->call, fault->nth, outcome->err.text);
    if (outcome->rc != EVBUS_OK)
        cr_expect_not_null(strstr(outcome->err.text, folder.path), "%s %u: \"%s\"", fault->call, fault->nth,
                           outcome->err.text);
    cr_expect_eq(folder_count(&folder, ""), outcome->was_made ? 1 : 0, "%s %u", fault->call, fault->nth);
    struct mark mark = told(0, &rc);
    cr_expect_eq(rc, EVBUS_OK, "%s %u: %s", fault->call, fault->nth, err.text);
    cr_expect_geq(mark.ceiling, outcome->n_written * MARKS_STEP, "%s %u: ceiling %zu", fault->call, fault->nth,
                  (size_t)mark.ceiling);
}

/* [J1] */
Test(marks, whatever_fails_the_ceiling_is_not_below_what_was_said_to_be_on_disk)
{
    outcome = child_shared(sizeof *outcome);
    if (fault_each(&(struct fault_case){arrange_nothing, act_write, check_written, NULL}) == 0)
        cr_skip_test("needs ptrace");
}

static int write_traced(void *context)
{
    struct error of_child;
    (void)context;
    memset(outcome, 0, sizeof *outcome);
    fault_begin();
    return -make_and_write(&of_child);
}

/* [J1] */
Test(marks, whoever_is_killed_leaves_no_ceiling_below_what_it_had_on_disk)
{
    if (!FAULT_WORKS || getenv("EVBUS_SLOW") != NULL)
        cr_skip_test("needs ptrace");
    outcome = child_shared(sizeof *outcome);
    unsigned n = 1;
    for (bool was_killed = true; was_killed; n++) {
        int rc;
        folder_clear(&folder);
        was_killed = child_kill_at_call(write_traced, NULL, n);
        struct mark mark = told(0, &rc);
        cr_expect_eq(rc, EVBUS_OK, "killed at call %u: %s", n, err.text);
        cr_expect_geq(mark.ceiling, outcome->n_written * MARKS_STEP, "killed at call %u: ceiling %zu", n,
                      (size_t)mark.ceiling);
    }
    cr_expect_gt(n, 10, "%u calls: the test has lost its point", n);
    cr_expect_eq(outcome->n_written, 3);
}

Test(marks, takes_no_folder_or_copy_for_one_of_its_files)
{
    int rc;
    char other[FILE_PATH_MAX];
    struct marks marks = created(first);
    write_mark(&marks, 0, 1000, 0);
    file_path(other, folder.path, "marks.evbus"); /* the folder of a log */
    cr_assert_eq(mkdir(other, 0700), 0);
    file_path(other, folder.path, "marks.00000009.000001.bak");
    folder_put(other, 0, "x", 1);
    cr_expect_eq(told(0, &rc).ceiling, 1000);
    cr_expect_eq(rc, EVBUS_OK, "%s", err.text);
    cr_expect_eq(marks_drop_others(folder.path, (struct term){.incarnation = 99}, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(access(other, F_OK), 0);
    marks_close(&marks);
}
