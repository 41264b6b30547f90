/* test_segment.c: a name stands for a whole header of this bus's, and a position for one place in the file.
 *
 * What a header says is found by its offsets, as the format fixes them: other builds read these files.
 * [no tsan] Children are forked and traced. */
#include "segment.h"

#include "allocations.h"
#include "child.h"
#include "fault.h"
#include "folder.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N(rows)      (sizeof(rows) / sizeof(rows)[0])
#define HEADER_BYTES 4096
#define CRC_AT       508

static const char names[] = "{\"topics\":[\"lomash.orders.created\"]}";
#define NAMES_LEN (sizeof names - 1)

/* ---- calls of ours ---- */

static void (*before_link)(void); /* what another process does then */

int link(const char *from, const char *to)
{
    void (*act)(void) = before_link;
    before_link = NULL;
    if (act != NULL)
        act();
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* ---- the desk ---- */

static struct folder folder;
static struct segment_place place;
static char path[FILE_PATH_MAX]; /* of the segment at 1024 */
static struct error err;

static void set_up(void)
{
    folder = folder_make();
    place = (struct segment_place){.log = "lomash.orders", .partition = 3, .ring_cells = 64, .n_cells = 1024};
    memcpy(place.uuid, "0123456789abcdef", 16);
    snprintf(place.folder, sizeof place.folder, "%s", folder.path);
    segment_path(&place, 1024, path);
}

TestSuite(segment, .init = set_up);

static struct segment created(uint64_t base, uint64_t prev_end)
{
    struct segment segment = SEGMENT_NONE;
    int rc = segment_create(&segment, &place, base, prev_end, names, NAMES_LEN, &err);
    cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, err.text);
    return segment;
}

static int opened(void)
{
    struct segment segment = SEGMENT_NONE;
    int rc = segment_open(&segment, &place, 1024, false, &err);
    segment_close(&segment);
    return rc;
}

/* A value into the header, whose checksum is right again. */
static void put(uint64_t at, const void *value, size_t len)
{
    static uint8_t header[HEADER_BYTES];
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file);
    cr_assert_eq(fread(header, 1, sizeof header, file), sizeof header);
    fclose(file);
    memcpy(header + at, value, len);
    memset(header + CRC_AT, 0, 4);
    memcpy(header + CRC_AT, &(uint32_t){frame_crc(header, sizeof header)}, 4);
    folder_put(path, 0, header, sizeof header);
}

/* ---- sizes, names ---- */

Test(segment, it_has_16_rings_but_64_mib_at_most_and_a_ring_at_least)
{
    static const struct {
        const char *label;
        uint64_t ring, cells;
    } rows[] = {
        {"the smallest ring", RING_CELLS_MIN, 1024},       {"4 MiB", UINT64_C(1) << 16, UINT64_C(1) << 20},
        {"8 MiB", UINT64_C(1) << 17, UINT64_C(1) << 20},   {"64 MiB", UINT64_C(1) << 20, UINT64_C(1) << 20},
        {"128 MiB", UINT64_C(1) << 21, UINT64_C(1) << 21}, {"the largest ring", RING_CELLS_MAX, RING_CELLS_MAX},
    };
    for (size_t i = 0; i < N(rows); i++)
        cr_expect_eq(segment_cells(rows[i].ring), rows[i].cells, "%s: %zu", rows[i].label,
                     (size_t)segment_cells(rows[i].ring));
}

Test(segment, its_name_is_its_base_in_16_hex_digits)
{
    static const struct {
        uint64_t base;
        const char *path;
    } rows[] = {{0, "/j/0000000000000000.seg"},
                {0xabc00, "/j/00000000000abc00.seg"},
                {POSITION_LIMIT, "/j/0000ffffc0000000.seg"}};
    strcpy(place.folder, "/j");
    for (size_t i = 0; i < N(rows); i++) {
        segment_path(&place, rows[i].base, path);
        cr_expect_str_eq(path, rows[i].path);
    }
}

/* ---- make, open ---- */

Test(segment, what_was_made_is_opened_with_what_it_says)
{
    struct segment made = created(1024, 1000), segment;
    cr_assert_eq(segment_open(&segment, &place, 1024, false, &err), EVBUS_OK, "%s", err.text);
    cr_expect_str_eq(segment.path, path);
    cr_expect_eq(segment.base, 1024);
    cr_expect_eq(segment.prev_end, 1000);
    cr_expect_eq(segment.n_cells, 1024);
    cr_expect_eq(segment.header_bytes, HEADER_BYTES);
    cr_expect_eq(segment.created_ns, made.created_ns);
    cr_expect_gt(segment.created_ns, UINT64_C(1500000000000000000));
    cr_expect_eq(folder_len(path), HEADER_BYTES, "cells come later");
    cr_expect_eq(folder_count(&folder, ""), 1, "no draft is left");
    segment_close(&segment);
    segment_close(&segment);
    segment_close(&made);
}

Test(segment, who_opens_it_to_read_cannot_write_and_no_program_inherits_it)
{
    struct segment made = created(1024, 1024), segment;
    cr_assert_eq(segment_open(&segment, &place, 1024, false, &err), EVBUS_OK, "%s", err.text);
    uint64_t cell[CELL_WORDS] = {1};
    cr_expect_eq(segment_write(&segment, 1024, cell, 1, &err), EVBUS_EIO);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
    cr_expect_eq(segment_write(&made, 1024, cell, 1, &err), EVBUS_OK, "%s", err.text);
    cr_expect(fcntl(made.fd, F_GETFD) & FD_CLOEXEC);
    cr_expect(fcntl(segment.fd, F_GETFD) & FD_CLOEXEC);
    segment_close(&segment);
    segment_close(&made);
}

Test(segment, one_that_is_not_there_is_told)
{
    struct segment segment = {.base = 77, .fd = -1};
    cr_expect_eq(segment_open(&segment, &place, 1024, false, &err), EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
    cr_expect_eq(segment.base, 77, "the result is untouched on failure");
}

Test(segment, what_its_ids_mean_is_given_back)
{
    static const size_t lens[] = {0, 1, 3584, 3585, 100000, 1 << 20};
    char *text = malloc(1 << 20);
    cr_assert_not_null(text);
    memset(text, 'n', 1 << 20);
    for (size_t i = 0; i < N(lens); i++) {
        struct segment segment;
        char *got = NULL;
        size_t len = 0;
        folder_clear(&folder);
        cr_assert_eq(segment_create(&segment, &place, 1024, 0, text, lens[i], &err), EVBUS_OK, "%s", err.text);
        cr_expect_eq(segment.header_bytes % 4096, 0);
        cr_expect_geq(segment.header_bytes, 512 + lens[i]);
        cr_assert_eq(segment_names(&segment, &got, &len, &err), EVBUS_OK, "%s", err.text);
        cr_assert_eq(len, lens[i]);
        cr_expect_eq(memcmp(got, text, len), 0, "%zu bytes", lens[i]);
        free(got);
        segment_close(&segment);
    }
    free(text);
}

Test(segment, names_that_do_not_fit_are_refused)
{
    struct segment segment = SEGMENT_NONE;
    char *text = calloc(1, (1 << 20) + 1);
    cr_expect_eq(segment_create(&segment, &place, 1024, 0, text, (1 << 20) + 1, &err), EVBUS_ELIMIT);
    cr_expect_not_null(strstr(err.text, folder.path), "%s", err.text);
    cr_expect_eq(folder_count(&folder, ""), 0);
    free(text);
}

/* [J4] */
Test(segment, the_second_maker_takes_what_is_there)
{
    struct segment first = created(1024, 1000), second;
    uint64_t cell[CELL_WORDS] = {42};
    size_t n = 0;
    cr_assert_eq(segment_write(&first, 1024, cell, 1, &err), EVBUS_OK);
    cr_assert_eq(segment_create(&second, &place, 1024, 1024, "{}", 2, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(second.prev_end, 1000, "it is the first one's");
    cell[0] = 0;
    cr_expect_eq(segment_read(&second, 1024, cell, 1, &n, &err), EVBUS_OK);
    cr_expect_eq(n, 1);
    cr_expect_eq(cell[0], 42);
    segment_close(&first);
    segment_close(&second);
}

static struct segment of_another;

static void make_as_another(void)
{
    of_another = created(1024, 1000);
}

/* Both have looked and have a draft; two containers have a process 1 each. [J4] */
Test(segment, of_two_makers_at_once_one_wins_and_both_write_into_its_file)
{
    struct segment ours = SEGMENT_NONE;
    uint64_t cell[CELL_WORDS] = {42};
    size_t n = 0;
    before_link = make_as_another;
    cr_assert_eq(segment_create(&ours, &place, 1024, 1024, "{}", 2, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(ours.prev_end, 1000, "the other has won");
    cr_expect_eq(segment_write(&ours, 1024, cell, 1, &err), EVBUS_OK);
    cell[0] = 0;
    cr_expect_eq(segment_read(&of_another, 1024, cell, 1, &n, &err), EVBUS_OK);
    cr_expect_eq(cell[0], 42);
    cr_expect_eq(folder_count(&folder, ""), 1, "no draft is left");
    segment_close(&ours);
    segment_close(&of_another);
}

/* ---- what is not ours, or not whole ---- */

Test(segment, what_does_not_belong_there_is_told_and_not_used)
{
    static const struct {
        const char *label;
        uint64_t at;
        size_t len;
        uint64_t value;
        int code;
        const char *text;
    } rows[] = {
        {"another magic", 0, 8, 1, EVBUS_ECORRUPT, "does not begin as a segment"},
        {"a newer format", 8, 4, 2, EVBUS_ELAYOUT, "format 2"},
        {"a header shorter than its first part", 12, 4, 256, EVBUS_ECORRUPT, "impossible length"},
        {"a header of half a page", 12, 4, 6144, EVBUS_ECORRUPT, "impossible length"},
        {"a header without end", 12, 4, 0xfffff000, EVBUS_ECORRUPT, "impossible length"},
        {"a header beyond the file", 12, 4, 8192, EVBUS_ECORRUPT, "damaged"},
        {"another bus", 16, 8, 1, EVBUS_ECONFLICT, "another bus"},
        {"another position", 32, 8, 2048, EVBUS_ECONFLICT, "lomash.orders/3 at 800"},
        {"an end of the one before behind its base", 40, 8, 1025, EVBUS_ECORRUPT, "impossible positions"},
        {"no cells", 48, 8, 0, EVBUS_ECORRUPT, "impossible positions"},
        {"cells that its base is no multiple of", 48, 8, 2048, EVBUS_ECORRUPT, "impossible positions"},
        {"more cells than any ring", 48, 8, UINT64_C(1) << 40, EVBUS_ECORRUPT, "impossible positions"},
        {"another partition", 72, 4, 4, EVBUS_ECONFLICT, "lomash.orders/4"},
        {"names beyond the header", 76, 4, 3585, EVBUS_ECORRUPT, "impossible length"},
        {"another log", 80, 8, 0x2e646c726f77, EVBUS_ECONFLICT, "world."},
    };
    for (size_t i = 0; i < N(rows); i++) {
        folder_clear(&folder);
        struct segment segment = created(1024, 1024);
        segment_close(&segment);
        int before = folder_descriptors();
        put(rows[i].at, &rows[i].value, rows[i].len);
        int rc = opened();
        cr_expect_eq(rc, rows[i].code, "%s: %d %s", rows[i].label, rc, err.text);
        cr_expect_not_null(strstr(err.text, rows[i].text), "%s: %s", rows[i].label, err.text);
        cr_expect_not_null(strstr(err.text, path), "%s: %s", rows[i].label, err.text);
        cr_expect_eq(segment_create(&segment, &place, 1024, 1024, names, NAMES_LEN, &err), rc,
                     "%s: nor made anew over it", rows[i].label);
        cr_expect_eq(folder_descriptors(), before, "%s: a descriptor is left open", rows[i].label);
    }
}

Test(segment, one_wrong_bit_of_its_header_is_seen_wherever_it_is)
{
    struct segment segment = created(1024, 1000);
    segment_close(&segment);
    for (uint64_t at = 0; at < HEADER_BYTES; at++) {
        uint8_t bit = (uint8_t)(1u << at % 8);
        folder_flip(path, at, bit);
        int rc = opened();
        cr_expect(rc == EVBUS_ECORRUPT || (rc == EVBUS_ELAYOUT && at >= 8 && at < 12), "byte %zu: %d", (size_t)at, rc);
        cr_expect_not_null(strstr(err.text, path), "byte %zu: %s", (size_t)at, err.text);
        folder_flip(path, at, bit);
    }
    cr_expect_eq(opened(), EVBUS_OK);
}

Test(segment, a_header_that_was_cut_is_never_used)
{
    struct segment segment = created(1024, 1000);
    segment_close(&segment);
    for (int len = HEADER_BYTES - 1; len >= 0; len--) {
        cr_assert_eq(truncate(path, len), 0);
        int rc = opened();
        cr_expect_eq(rc, EVBUS_ECORRUPT, "%d bytes: %d", len, rc);
    }
}

/* The catalogue's ring had another size then. */
Test(segment, one_of_another_size_tells_its_own)
{
    struct segment segment = created(1024, 1024);
    segment_close(&segment);
    place.ring_cells = 32;
    place.n_cells = 512;
    cr_assert_eq(segment_open(&segment, &place, 1024, false, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(segment.n_cells, 1024);
    segment_close(&segment);
}

/* ---- cells ---- */

Test(segment, a_cell_stands_where_its_position_says)
{
    static const uint64_t positions[] = {1024, 1025, 1500, 2047};
    struct segment segment = created(1024, 1024);
    for (size_t i = 0; i < N(positions); i++) {
        uint64_t cell[CELL_WORDS] = {positions[i]}, got[CELL_WORDS] = {0};
        size_t n = 0;
        cr_expect_eq(segment_write(&segment, positions[i], cell, 1, &err), EVBUS_OK, "%s", err.text);
        cr_expect_eq(folder_len(path), HEADER_BYTES + (positions[i] - 1024 + 1) * CELL_BYTES);
        cr_expect_eq(segment_read(&segment, positions[i], got, 1, &n, &err), EVBUS_OK, "%s", err.text);
        cr_expect(n == 1 && got[0] == positions[i], "%zu", (size_t)positions[i]);
    }
    cr_expect_eq(segment_sync(&segment, &err), EVBUS_OK, "%s", err.text);
    segment_close(&segment);
}

Test(segment, only_whole_cells_are_read)
{
    struct segment segment = created(1024, 1024);
    uint64_t cells[4 * CELL_WORDS] = {0};
    cr_assert_eq(segment_write(&segment, 1024, cells, 4, &err), EVBUS_OK);
    for (int len = 4 * CELL_BYTES; len >= 0; len--) {
        size_t n = 77;
        cr_assert_eq(truncate(path, HEADER_BYTES + len), 0);
        cr_expect_eq(segment_read(&segment, 1024, cells, 4, &n, &err), EVBUS_OK);
        cr_expect_eq(n, (size_t)len / CELL_BYTES, "%d bytes: %zu cells", len, n);
    }
    segment_close(&segment);
}

/* ---- faults ---- */

Test(segment, without_memory_none_is_made_and_nothing_is_left_behind)
{
    if (!CAN_FAIL_ALLOCATIONS)
        cr_skip_test("needs allocations that fail");
    for (long nth = 1;; nth++) {
        struct segment segment = SEGMENT_NONE;
        folder_clear(&folder);
        int before = folder_descriptors();
        fail_allocation(nth);
        int rc = segment_create(&segment, &place, 1024, 1024, names, NAMES_LEN, &err);
        bool has_struck = fail_allocation(0);
        segment_close(&segment);
        cr_expect_eq(folder_count(&folder, ".tmp"), 0, "allocation %ld: a draft is left", nth);
        cr_expect_eq(folder_descriptors(), before, "allocation %ld: a descriptor is left open", nth);
        cr_assert_eq(rc, has_struck ? EVBUS_ENOSPC : EVBUS_OK, "allocation %ld: %d %s", nth, rc, err.text);
        if (!has_struck)
            return;
    }
}

/* What a child with a fault says. */
struct outcome {
    int rc;
    int n_descriptors; /* more than before */
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
    uint64_t cells[2 * CELL_WORDS] = {1, 2, 3};
    struct segment segment;
    int rc = segment_create(&segment, &place, 1024, 1000, names, NAMES_LEN, of_child);
    if (rc != EVBUS_OK)
        return rc;
    rc = segment_write(&segment, 1024, cells, 2, of_child);
    if (rc == EVBUS_OK)
        rc = segment_sync(&segment, of_child);
    segment_close(&segment);
    return rc;
}

static int act_make(void *context)
{
    int before = folder_descriptors();
    (void)context;
    outcome->err.text[0] = '\0';
    fault_begin();
    outcome->rc = make_and_write(&outcome->err);
    fault_end();
    outcome->n_descriptors = folder_descriptors() - before;
    return 0;
}

/* A draft stays only where its removal is what failed. */
static void check_made(void *context, const struct fault *fault, int status)
{
    (void)context;
    cr_expect_eq(status, 0, "%s %u: status %d", fault->call, fault->nth, status);
    cr_expect_eq(outcome->n_descriptors, 0, "%s %u: a descriptor is left open", fault->call, fault->nth);
    if (fault->error == FAULT_SHORT || fault->error == EINTR)
        cr_expect_eq(outcome->rc, EVBUS_OK, "%s %u: %s", fault->call, fault->nth, outcome->err.text);
    if (outcome->rc != EVBUS_OK)
        cr_expect_not_null(strstr(outcome->err.text, folder.path), "%s %u: \"%s\"", fault->call, fault->nth,
                           outcome->err.text);
    cr_expect_eq(folder_count(&folder, ".tmp"), strcmp(fault->call, "unlink") == 0 ? 1 : 0, "%s %u (%d): drafts",
                 fault->call, fault->nth, fault->error);
    int rc = opened();
    cr_expect(rc == EVBUS_OK || rc == EVBUS_ENOTFOUND, "%s %u: its name stands for no whole header: %s", fault->call,
              fault->nth, err.text);
    cr_expect_eq(make_and_write(&err), EVBUS_OK, "%s %u: nor the next time: %s", fault->call, fault->nth, err.text);
}

/* [J4] */
Test(segment, whatever_fails_its_name_stands_for_a_whole_header_or_is_not_there)
{
    outcome = child_shared(sizeof *outcome);
    if (fault_each(&(struct fault_case){arrange_nothing, act_make, check_made, NULL}) == 0)
        cr_skip_test("needs ptrace");
}

static int make_traced(void *context)
{
    struct error of_child;
    (void)context;
    fault_begin();
    return -make_and_write(&of_child);
}

/* [J4] [J5] */
Test(segment, whoever_is_killed_while_making_it_leaves_a_whole_header_or_none_and_the_next_goes_on)
{
    if (!FAULT_WORKS || getenv("EVBUS_SLOW") != NULL)
        cr_skip_test("needs ptrace");
    unsigned n = 1;
    for (bool was_killed = true; was_killed; n++) {
        folder_clear(&folder);
        was_killed = child_kill_at_call(make_traced, NULL, n);
        int rc = opened();
        cr_expect(rc == EVBUS_OK || (was_killed && rc == EVBUS_ENOTFOUND), "killed at call %u: %d %s", n, rc, err.text);
        cr_expect_eq(make_and_write(&err), EVBUS_OK, "killed at call %u: %s", n, err.text);
        cr_expect_eq(opened(), EVBUS_OK, "killed at call %u", n);
    }
    cr_expect_gt(n, 10, "%u calls: the test has lost its point", n);
}
