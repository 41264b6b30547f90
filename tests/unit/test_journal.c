/* test_journal.c: from files only whole frames are given out, each at its own position, and what was lost is told.
 *
 * A small journal is written by hand: segments of 1024 cells, frames whose payload says where they stand. */
#include "journal.h"

#include "folder.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N(rows)      (sizeof(rows) / sizeof(rows)[0])
#define HEADER_BYTES 4096
#define SEGMENT      UINT64_C(1024) /* cells */
#define ALL          UINT64_MAX     /* until */

static struct folder folder;
static struct segment_place place;
static struct journal_reader reader;
static struct error err;

static void set_up(void)
{
    folder = folder_make();
    place = (struct segment_place){.log = "lomash.orders", .ring_cells = 64, .n_cells = SEGMENT};
    memcpy(place.uuid, "0123456789abcdef", 16);
    snprintf(place.folder, sizeof place.folder, "%s", folder.path);
    journal_reader_init(&reader, &place);
}

static void tear_down(void)
{
    journal_reader_close(&reader);
}

TestSuite(journal, .init = set_up, .fini = tear_down);

/* ---- writing ---- */

static struct segment made(uint64_t base, uint64_t prev_end)
{
    struct segment segment = SEGMENT_NONE;
    int rc = segment_create(&segment, &place, base, prev_end, "{}", 2, &err);
    cr_assert_eq(rc, EVBUS_OK, "%s", err.text);
    return segment;
}

/* The frame that stands at a position, of so many cells; to be freed. */
static uint64_t *frame_at(uint64_t pos, uint32_t n_cells)
{
    size_t len = (size_t)n_cells * CELL_BYTES - sizeof(struct frame_header) - sizeof(struct representation_header);
    char *payload = malloc(len);
    uint64_t *cells = malloc((size_t)n_cells * CELL_BYTES);
    cr_assert(payload != NULL && cells != NULL);
    for (size_t i = 0; i < len; i++)
        payload[i] = (char)('a' + (pos + i) % 26);
    struct frame frame = {
        .kind = FRAME_EVENT, .timestamp_ns = pos, .payload = payload, .payload_len = (uint32_t)len, .major = 1};
    frame_build(&frame, cells);
    free(payload);
    cells[offsetof(struct frame_header, position) / 8] = pos;
    frame_seal(cells);
    return cells;
}

static void put_frame(const struct segment *segment, uint64_t pos, uint32_t n_cells)
{
    uint64_t *cells = frame_at(pos, n_cells);
    cr_assert_eq(segment_write(segment, pos, cells, n_cells, &err), EVBUS_OK, "%s", err.text);
    free(cells);
}

/* A pad: its first cell, and zeros behind it. */
static void put_pad(const struct segment *segment, uint64_t pos, uint32_t n_cells)
{
    uint64_t *cells = calloc(n_cells, CELL_BYTES);
    cr_assert_not_null(cells);
    frame_seal_pad(FRAME_PAD, pos, n_cells, cells);
    cr_assert_eq(segment_write(segment, pos, cells, n_cells, &err), EVBUS_OK, "%s", err.text);
    free(cells);
}

/* Frames of so many cells each from first up to end. */
static void fill_with_frames(const struct segment *segment, uint64_t first, uint64_t end, uint32_t n_cells)
{
    for (uint64_t pos = first; pos < end; pos += n_cells)
        put_frame(segment, pos, n_cells);
}

/* ---- reading ---- */

struct seen {
    int what; /* enum journal_seen, or a code */
    uint64_t next;
};

/* What is given out is what stands there. */
static void expect_own(const uint64_t *frame, uint64_t pos, uint32_t n_cells)
{
    uint64_t *own = frame_at(pos, n_cells);
    cr_expect_eq(memcmp(frame, own, (size_t)n_cells * CELL_BYTES), 0, "other bytes at %" PRIu64, pos);
    free(own);
}

static struct seen look(uint64_t pos, uint64_t until)
{
    const uint64_t *frame = NULL;
    struct seen seen = {.next = 0};
    seen.what = journal_read(&reader, pos, until, &frame, &seen.next, &err);
    if (seen.what == JOURNAL_FRAME)
        expect_own(frame, pos, (uint32_t)(seen.next - pos));
    return seen;
}

static void expect_seen(uint64_t pos, uint64_t until, int what, uint64_t next, const char *label)
{
    struct seen seen = look(pos, until);
    cr_expect_eq(seen.what, what, "%s, at %" PRIu64 ": %d (%s)", label, pos, seen.what, seen.what < 0 ? err.text : "");
    if (seen.what == what && what != JOURNAL_END && what >= 0)
        cr_expect_eq(seen.next, next, "%s, at %" PRIu64 ": next is %" PRIu64, label, pos, seen.next);
}

/* ---- names ---- */

Test(journal, segments_are_listed_by_rising_position_and_nothing_else)
{
    static const uint64_t bases[] = {5 * SEGMENT, 0, 2 * SEGMENT, UINT64_C(1) << 40};
    static const char *const others[] = {"catalogue.json",
                                         "0000000000000400.idx",
                                         "000000000000400.seg",
                                         "00000000000004g0.seg",
                                         "0000000000000400.seg.AbCdEf.tmp",
                                         "0x00000000000400.seg",
                                         "+000000000000400.seg",
                                         " 000000000000400.seg"};
    uint64_t *found = NULL;
    size_t n = 0;
    for (size_t i = 0; i < N(bases); i++) {
        struct segment segment = made(bases[i], 0);
        segment_close(&segment);
    }
    for (size_t i = 0; i < N(others); i++) {
        char path[FILE_PATH_MAX];
        file_path(path, folder.path, others[i]);
        folder_put(path, 0, "", 0);
    }
    cr_assert_eq(journal_list(&place, &found, &n, &err), EVBUS_OK, "%s", err.text);
    cr_assert_eq(n, 4, "%zu", n);
    cr_expect(found[0] == 0 && found[1] == 2 * SEGMENT && found[2] == 5 * SEGMENT && found[3] == UINT64_C(1) << 40);
    free(found);
}

Test(journal, a_partition_without_a_folder_has_no_segments)
{
    uint64_t *found = &(uint64_t){0};
    size_t n = 77;
    file_path(place.folder, folder.path, "absent");
    cr_expect_eq(journal_list(&place, &found, &n, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(n, 0);
    cr_expect_null(found);
    expect_seen(0, ALL, JOURNAL_END, 0, "nothing");
}

/* ---- what stands there ---- */

Test(journal, frames_and_pads_are_read_one_after_the_other)
{
    struct segment segment = made(0, 0);
    put_frame(&segment, 0, 2);
    put_frame(&segment, 2, 5);
    put_pad(&segment, 7, 3);
    put_frame(&segment, 10, 2);
    put_pad(&segment, 12, 1);
    segment_close(&segment);
    expect_seen(0, 13, JOURNAL_FRAME, 2, "a frame");
    expect_seen(2, 13, JOURNAL_FRAME, 7, "a larger one");
    expect_seen(7, 13, JOURNAL_SKIP, 10, "a pad");
    expect_seen(10, 13, JOURNAL_FRAME, 12, "a frame behind it");
    expect_seen(12, 13, JOURNAL_SKIP, 13, "a pad of one cell");
    expect_seen(13, 13, JOURNAL_END, 0, "the end");
    expect_seen(2, 13, JOURNAL_FRAME, 7, "back again");
}

Test(journal, nothing_is_read_at_or_behind_its_end)
{
    struct segment segment = made(0, 0);
    put_frame(&segment, 0, 2);
    put_frame(&segment, 2, 2);
    segment_close(&segment);
    expect_seen(2, 2, JOURNAL_END, 0, "what is there, but not yet said to be");
    expect_seen(5, 2, JOURNAL_END, 0, "far behind it");
    expect_seen(2, 4, JOURNAL_FRAME, 4, "said to be there");
    expect_seen(4, ALL, JOURNAL_END, 0, "the file's end");
}

Test(journal, reading_goes_on_from_segment_to_segment)
{
    for (uint64_t base = 0; base < 3 * SEGMENT; base += SEGMENT) {
        struct segment segment = made(base, base);
        fill_with_frames(&segment, base, base + SEGMENT, 4);
        segment_close(&segment);
    }
    unsigned n = 0;
    for (uint64_t pos = 0; pos < 3 * SEGMENT; n++) {
        struct seen seen = look(pos, 3 * SEGMENT);
        cr_assert_eq(seen.what, JOURNAL_FRAME, "at %" PRIu64 ": %d", pos, seen.what);
        cr_assert_eq(seen.next, pos + 4);
        pos = seen.next;
    }
    cr_expect_eq(n, 3 * SEGMENT / 4);
}

/* The reader has looked into the file when the frame was half written. */
Test(journal, what_was_written_since_the_last_look_is_read_as_it_is_now)
{
    static const struct {
        const char *label;
        uint32_t n_half; /* cells of the frame that are there first */
        bool is_garbage; /* or zeros */
    } rows[] = {{"nothing", 0, false}, {"its first cells", 2, false}, {"a cell of something else", 1, true}};
    for (size_t i = 0; i < N(rows); i++) {
        folder_clear(&folder);
        journal_reader_close(&reader);
        struct segment segment = made(0, 0);
        put_frame(&segment, 0, 2);
        uint64_t *cells = frame_at(2, 4);
        uint64_t kept = cells[0];
        if (rows[i].is_garbage)
            cells[0] = 0;
        cr_assert_eq(segment_write(&segment, 2, cells, rows[i].n_half, &err), EVBUS_OK);
        cells[0] = kept;
        expect_seen(0, 2, JOURNAL_FRAME, 2, rows[i].label);
        cr_assert_eq(segment_write(&segment, 2, cells, 4, &err), EVBUS_OK);
        expect_seen(2, 6, JOURNAL_FRAME, 6, rows[i].label);
        put_frame(&segment, 6, 2);
        expect_seen(6, 8, JOURNAL_FRAME, 8, rows[i].label);
        free(cells);
        segment_close(&segment);
    }
}

/* A chunk is 1 MiB: 16384 cells. */
Test(journal, a_frame_is_whole_wherever_a_chunk_ends)
{
    place.ring_cells = 1 << 16;
    place.n_cells = 1 << 16;
    struct segment segment = made(0, 0);
    uint64_t pos = 0;
    for (uint32_t n_cells = 1000; pos + FRAME_CELLS_MAX < place.n_cells; n_cells = n_cells * 2 + 7) {
        uint32_t n = n_cells < FRAME_CELLS_MAX ? n_cells : FRAME_CELLS_MAX;
        put_frame(&segment, pos, n);
        pos += n;
    }
    put_frame(&segment, pos, FRAME_CELLS_MAX < place.n_cells - pos ? FRAME_CELLS_MAX : (uint32_t)(place.n_cells - pos));
    segment_close(&segment);
    for (uint64_t at = 0; at < place.n_cells;) {
        struct seen seen = look(at, place.n_cells);
        if (seen.what == JOURNAL_END)
            break;
        cr_assert_eq(seen.what, JOURNAL_FRAME, "at %" PRIu64 ": %d %s", at, seen.what, err.text);
        at = seen.next;
    }
}

/* ---- gaps ---- */

Test(journal, positions_that_a_restart_skipped_are_passed_over)
{
    struct segment segment = made(0, 0);
    fill_with_frames(&segment, 0, 12, 4);
    segment_close(&segment);
    segment = made(4 * SEGMENT, 12);
    put_frame(&segment, 4 * SEGMENT, 2);
    segment_close(&segment);
    expect_seen(8, ALL, JOURNAL_FRAME, 12, "the last before it");
    expect_seen(12, ALL, JOURNAL_SKIP, 4 * SEGMENT, "where the file ends");
    expect_seen(500, ALL, JOURNAL_SKIP, 4 * SEGMENT, "in the segment, behind its end");
    expect_seen(SEGMENT, ALL, JOURNAL_SKIP, 4 * SEGMENT, "a segment's base that is not there");
    expect_seen(3 * SEGMENT + 9, ALL, JOURNAL_SKIP, 4 * SEGMENT, "a position in no segment");
    expect_seen(4 * SEGMENT, ALL, JOURNAL_FRAME, 4 * SEGMENT + 2, "the first behind it");
}

/* The next segment says where the one before it ended: what lies below that was there once. */
Test(journal, what_is_lost_at_a_segments_end_is_damage_and_no_gap)
{
    struct segment segment = made(0, 0);
    fill_with_frames(&segment, 0, 12, 4);
    segment_close(&segment);
    segment = made(SEGMENT, SEGMENT);
    put_frame(&segment, SEGMENT, 2);
    segment_close(&segment);
    expect_seen(12, ALL, JOURNAL_DAMAGED, SEGMENT, "a file that was cut");
    cr_expect_not_null(strstr(err.text, "0000000000000000.seg"), "%s", err.text);
    cr_expect_not_null(strstr(err.text, "12"), "%s", err.text);
    expect_seen(SEGMENT, ALL, JOURNAL_FRAME, SEGMENT + 2, "behind it");
}

Test(journal, a_segment_that_is_lost_between_two_is_damage_and_no_gap)
{
    struct segment segment = made(0, 0);
    fill_with_frames(&segment, 0, SEGMENT, 4);
    segment_close(&segment);
    segment = made(2 * SEGMENT, 2 * SEGMENT);
    put_frame(&segment, 2 * SEGMENT, 2);
    segment_close(&segment);
    expect_seen(SEGMENT - 4, ALL, JOURNAL_FRAME, SEGMENT, "the last before it");
    expect_seen(SEGMENT, ALL, JOURNAL_DAMAGED, 2 * SEGMENT, "the lost one");
    cr_expect_not_null(strstr(err.text, "1024"), "%s", err.text);
    expect_seen(2 * SEGMENT, ALL, JOURNAL_FRAME, 2 * SEGMENT + 2, "behind it");
}

Test(journal, what_was_retired_is_gone_up_to_the_oldest_that_is_there)
{
    for (uint64_t base = 2 * SEGMENT; base < 4 * SEGMENT; base += SEGMENT) {
        struct segment segment = made(base, base);
        fill_with_frames(&segment, base, base + SEGMENT, 4);
        segment_close(&segment);
    }
    expect_seen(0, ALL, JOURNAL_GONE, 2 * SEGMENT, "the first position");
    expect_seen(SEGMENT + 5, ALL, JOURNAL_GONE, 2 * SEGMENT, "one in between");
    expect_seen(2 * SEGMENT, ALL, JOURNAL_FRAME, 2 * SEGMENT + 4, "the oldest");
}

Test(journal, a_segment_that_is_retired_while_it_is_read_is_read_to_its_end)
{
    char path[FILE_PATH_MAX];
    for (uint64_t base = 0; base < 2 * SEGMENT; base += SEGMENT) {
        struct segment segment = made(base, base);
        fill_with_frames(&segment, base, base + SEGMENT, 4);
        segment_close(&segment);
    }
    expect_seen(0, ALL, JOURNAL_FRAME, 4, "open");
    segment_path(&place, 0, path);
    cr_assert_eq(unlink(path), 0);
    for (uint64_t pos = 4; pos < 2 * SEGMENT; pos += 4)
        expect_seen(pos, ALL, JOURNAL_FRAME, pos + 4, "retired");
    expect_seen(0, ALL, JOURNAL_GONE, SEGMENT, "who comes now");
}

/* The catalogue's ring was larger or smaller in another life. */
Test(journal, segments_of_another_size_are_read_and_no_position_leads_back)
{
    static const uint64_t sizes[] = {SEGMENT / 2, SEGMENT, 2 * SEGMENT, 4 * SEGMENT};
    for (uint64_t base = 0; base < 3 * SEGMENT; base += SEGMENT) {
        struct segment segment = made(base, base);
        fill_with_frames(&segment, base, base + SEGMENT, 4);
        segment_close(&segment);
    }
    for (size_t i = 0; i < N(sizes); i++) {
        journal_reader_close(&reader);
        place.n_cells = sizes[i];
        for (uint64_t pos = 0; pos < 3 * SEGMENT; pos += 4)
            expect_seen(pos, 3 * SEGMENT, JOURNAL_FRAME, pos + 4, "in order");
        journal_reader_close(&reader);
        expect_seen(SEGMENT + SEGMENT / 2, 3 * SEGMENT, JOURNAL_FRAME, SEGMENT + SEGMENT / 2 + 4, "at once");
    }
}

Test(journal, a_segment_whose_header_is_damaged_is_named)
{
    char path[FILE_PATH_MAX];
    struct segment segment = made(0, 0);
    put_frame(&segment, 0, 2);
    segment_close(&segment);
    segment_path(&place, 0, path);
    folder_flip(path, 100, 1);
    struct seen seen = look(0, ALL);
    cr_expect_eq(seen.what, JOURNAL_DAMAGED, "%d", seen.what);
    cr_expect_not_null(strstr(err.text, path), "%s", err.text);
}

/* ---- damage ---- */

Test(journal, a_damaged_field_is_found_by_position_and_the_next_whole_frame_is_found)
{
    static const struct {
        const char *label;
        uint64_t at; /* byte of the frame at 4, which has 4 cells */
    } rows[] = {{"stamp", 0},    {"format", 8},        {"kind", 9},      {"flags", 10},         {"cells", 12},
                {"area", 14},    {"position", 16},     {"id", 24},       {"time", 40},          {"publisher", 48},
                {"topic", 52},   {"key's length", 54}, {"how many", 55}, {"key's hash", 56},    {"checksum", 60},
                {"version", 64}, {"a length", 68},     {"payload", 72},  {"its last byte", 255}};
    char path[FILE_PATH_MAX];
    struct segment segment = made(0, 0);
    fill_with_frames(&segment, 0, 16, 4);
    segment_close(&segment);
    segment_path(&place, 0, path);
    for (size_t i = 0; i < N(rows); i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            journal_reader_close(&reader);
            folder_flip(path, HEADER_BYTES + 4 * CELL_BYTES + rows[i].at, (uint8_t)(1u << bit));
            expect_seen(0, 16, JOURNAL_FRAME, 4, rows[i].label);
            expect_seen(4, 16, JOURNAL_DAMAGED, 8, rows[i].label);
            cr_expect_not_null(strstr(err.text, path), "%s: %s", rows[i].label, err.text);
            cr_expect_not_null(strstr(err.text, "at 4: no whole frame"), "%s: %s", rows[i].label, err.text);
            cr_expect_not_null(strstr(err.text, "the next is at 8"), "%s: %s", rows[i].label, err.text);
            expect_seen(8, 16, JOURNAL_FRAME, 12, rows[i].label);
            folder_flip(path, HEADER_BYTES + 4 * CELL_BYTES + rows[i].at, (uint8_t)(1u << bit));
        }
}

Test(journal, behind_damage_to_the_end_there_is_the_end)
{
    char path[FILE_PATH_MAX];
    struct segment segment = made(0, 0);
    fill_with_frames(&segment, 0, 12, 4);
    segment_close(&segment);
    segment_path(&place, 0, path);
    folder_flip(path, HEADER_BYTES + 8 * CELL_BYTES, 1);
    expect_seen(8, 12, JOURNAL_DAMAGED, 12, "the last frame");
    expect_seen(12, 12, JOURNAL_END, 0, "behind it");
}

Test(journal, a_whole_frame_of_another_position_is_none)
{
    struct segment segment = made(0, 0);
    uint64_t *cells = frame_at(400, 4);
    put_frame(&segment, 0, 4);
    cr_assert_eq(segment_write(&segment, 4, cells, 4, &err), EVBUS_OK);
    put_frame(&segment, 8, 4);
    segment_close(&segment);
    expect_seen(4, 12, JOURNAL_DAMAGED, 8, "written to the wrong place");
    expect_seen(2, 12, JOURNAL_DAMAGED, 8, "in the midst of a frame");
    free(cells);
}

/* More cells than a frame can have, and than a reader has memory for. */
Test(journal, a_frame_that_says_it_is_longer_than_any_is_damage)
{
    char path[FILE_PATH_MAX];
    place.ring_cells = 1 << 17;
    place.n_cells = 1 << 17;
    struct segment segment = made(0, 0);
    put_frame(&segment, 0, 4);
    put_frame(&segment, 4, 4);
    segment_close(&segment);
    segment_path(&place, 0, path);
    cr_assert_eq(truncate(path, HEADER_BYTES + (1 << 17) * CELL_BYTES), 0);
    for (unsigned first = 0; first <= 4; first += 4) {
        journal_reader_close(&reader);
        folder_put(path, HEADER_BYTES + first * CELL_BYTES + 12, &(uint16_t){UINT16_MAX}, 2);
        expect_seen(0, ALL, JOURNAL_DAMAGED, first == 0 ? 4 : place.n_cells, "65535 cells");
    }
}

/* ---- everything ---- */

/* Frames and pads of a small segment; what stands at each position. */
static const struct {
    uint64_t pos;
    uint32_t n_cells;
    bool is_pad;
} small[] = {{0, 2, false}, {2, 3, true}, {5, 4, false}, {9, 1, true}, {10, 2, false}, {12, 3, false}, {15, 1, true}};
#define SMALL_END UINT64_C(16)

static void put_small(void)
{
    struct segment segment = made(0, 0);
    for (size_t i = 0; i < N(small); i++) {
        if (small[i].is_pad)
            put_pad(&segment, small[i].pos, small[i].n_cells);
        else
            put_frame(&segment, small[i].pos, small[i].n_cells);
    }
    segment_close(&segment);
}

/* Of what stands at pos, or NULL. */
static const void *small_at(uint64_t pos, size_t *out_i)
{
    for (size_t i = 0; i < N(small); i++)
        if (small[i].pos == pos) {
            *out_i = i;
            return &small[i];
        }
    return NULL;
}

/* Reads all of it up to until; each frame that is given out is one of those written, whole. Those that are untouched are given out;
 * bit i of touched: what is small[i] may be lost. */
static void expect_only_own(uint64_t until, unsigned touched, const char *label)
{
    unsigned seen_frames = 0;
    journal_reader_close(&reader);
    for (uint64_t pos = 0; pos < until;) {
        size_t i = 0;
        struct seen seen = look(pos, until);
        if (seen.what == JOURNAL_END)
            break;
        cr_assert_geq(seen.what, 0, "%s: %d %s", label, seen.what, err.text);
        cr_assert_gt(seen.next, pos, "%s: at %" PRIu64 " nothing goes on", label, pos);
        if (seen.what == JOURNAL_FRAME) {
            cr_assert(small_at(pos, &i) != NULL && !small[i].is_pad && seen.next == pos + small[i].n_cells,
                      "%s: a frame at %" PRIu64 " that nobody wrote", label, pos);
            seen_frames |= 1u << i;
        }
        pos = seen.next;
    }
    for (size_t i = 0; i < N(small); i++)
        if (!small[i].is_pad && (touched & 1u << i) == 0)
            cr_expect(seen_frames & 1u << i, "%s: the frame at %" PRIu64 " is not given out", label, small[i].pos);
}

Test(journal, one_wrong_bit_anywhere_is_never_given_out_as_a_frame)
{
    char path[FILE_PATH_MAX];
    unsigned n_bits = trial_is_full() ? 8 : 1;
    put_small();
    segment_path(&place, 0, path);
    for (size_t i = 0; i < N(small); i++)
        for (uint64_t at = small[i].pos * CELL_BYTES; at < (small[i].pos + small[i].n_cells) * CELL_BYTES; at++)
            for (unsigned bit = 0; bit < n_bits; bit++) {
                char label[64];
                uint8_t bits = (uint8_t)(1u << (n_bits == 8 ? bit : at % 8));
                snprintf(label, sizeof label, "byte %u, bits %#x", (unsigned)at, bits);
                folder_flip(path, HEADER_BYTES + at, bits);
                expect_only_own(SMALL_END, 1u << i, label);
                folder_flip(path, HEADER_BYTES + at, bits);
            }
    expect_only_own(SMALL_END, 0, "all well");
}

Test(journal, a_file_that_was_cut_anywhere_gives_its_whole_frames)
{
    char path[FILE_PATH_MAX];
    put_small();
    segment_path(&place, 0, path);
    for (uint64_t len = SMALL_END * CELL_BYTES; len-- > 0;) {
        char label[64];
        unsigned touched = 0;
        for (size_t i = 0; i < N(small); i++)
            if ((small[i].pos + small[i].n_cells) * CELL_BYTES > len)
                touched |= 1u << i;
        snprintf(label, sizeof label, "%u bytes", (unsigned)len);
        cr_assert_eq(truncate(path, (off_t)(HEADER_BYTES + len)), 0);
        expect_only_own(SMALL_END, touched, label);
        expect_only_own(ALL, touched, label);
    }
}

Test(journal, any_bytes_are_read_without_a_crash_and_come_to_an_end)
{
    char path[FILE_PATH_MAX];
    uint64_t seed = trial_seed("journal/any_bytes_are_read_without_a_crash_and_come_to_an_end");
    uint64_t rounds = trial_count(2000, 200);
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t words[SMALL_END * CELL_WORDS];
        folder_clear(&folder);
        put_small();
        segment_path(&place, 0, path);
        uint64_t first = trial_random(&seed) % SMALL_END, n = 1 + trial_random(&seed) % (SMALL_END - first);
        for (uint64_t i = 0; i < n * CELL_WORDS; i++)
            words[i] = trial_random(&seed) % 3 == 0   ? FRAME_FILE_STAMP
                       : trial_random(&seed) % 4 == 0 ? first
                                                      : trial_random(&seed);
        folder_put(path, HEADER_BYTES + first * CELL_BYTES, words, (size_t)n * CELL_BYTES);
        unsigned touched = 0;
        for (size_t i = 0; i < N(small); i++)
            if (small[i].pos < first + n && small[i].pos + small[i].n_cells > first)
                touched |= 1u << i;
        char label[64];
        snprintf(label, sizeof label, "round %u", (unsigned)round);
        expect_only_own(SMALL_END, touched, label);
    }
}
