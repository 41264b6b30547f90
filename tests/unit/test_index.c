/* test_index.c: an index finds each frame of its segment by id, says nothing that is not so, and is made anew where it is damaged. */
#include "index.h"

#include "folder.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CELLS    UINT64_C(8192) /* of a segment */
#define N_EVENTS 2000u

static struct folder folder;
static struct segment_place place;
static struct error err;

/* The id of the i-th event: rising in time as UUIDv7 does, or with the same front as another. */
static void id_of(uint32_t i, uint8_t out[16])
{
    memset(out, 0, 16);
    out[3] = (uint8_t)((i / 2) >> 8); /* two share their first 8 bytes */
    out[4] = (uint8_t)(i / 2);
    out[6] = 0x70;
    out[15] = (uint8_t)i;
}

static uint32_t put(const struct segment *segment, uint64_t pos, struct frame frame)
{
    uint64_t cells[4 * CELL_WORDS] = {0};
    frame.payload = "\"a payload that takes a second cell\"";
    frame.payload_len = (uint32_t)strlen(frame.payload);
    frame.major = 1;
    frame_build(&frame, cells);
    cells[offsetof(struct frame_header, position) / 8] = pos;
    frame_seal(cells);
    uint32_t n_cells = frame_cells(0, 0, frame.payload_len);
    cr_assert_eq(segment_write(segment, pos, cells, n_cells, &err), EVBUS_OK, "%s", err.text);
    return n_cells;
}

/* A segment of events, one of whose publishers says who it is. */
static struct segment make_segment(uint64_t base, uint32_t n)
{
    struct segment segment = SEGMENT_NONE;
    if (folder.path[0] == '\0')
        folder = folder_make();
    folder_clear(&folder);
    place = (struct segment_place){.log = "lomash.orders", .ring_cells = CELLS, .n_cells = CELLS};
    memcpy(place.uuid, "0123456789abcdef", 16);
    snprintf(place.folder, sizeof place.folder, "%s", folder.path);
    cr_assert_eq(segment_create(&segment, &place, base, base, "{}", 2, &err), EVBUS_OK, "%s", err.text);
    uint64_t pos = base;
    pos += put(&segment, pos, (struct frame){.kind = FRAME_NAMES, .publisher = 77});
    for (uint32_t i = 0; i < n; i++) {
        struct frame frame = {.kind = i % 7 == 0 ? FRAME_NOTE : FRAME_EVENT, .publisher = 77};
        id_of(n - 1 - i, frame.id);
        pos += put(&segment, pos, frame);
    }
    return segment;
}

struct found {
    uint64_t pos[8];
    size_t n;
};

static int keep(void *context, uint64_t pos)
{
    struct found *found = context;
    cr_assert_lt(found->n, 8u);
    found->pos[found->n++] = pos;
    return EVBUS_OK;
}

static size_t find(const struct segment *segment, const uint8_t id[16], struct found *out)
{
    *out = (struct found){.n = 0};
    cr_assert_eq(index_find(&place, segment, id, keep, out, &err), EVBUS_OK, "%s", err.text);
    return out->n;
}

/* Is every event found where it stands, and nothing else? */
static void expect_all(const struct segment *segment, uint32_t n, const char *label)
{
    struct found found;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t id[16];
        id_of(i, id);
        uint64_t pos = segment->base + 2 + 2 * (uint64_t)(n - 1 - i);
        size_t n_same = (i ^ 1) < n ? 2 : 1;
        cr_assert_eq(find(segment, id, &found), n_same, "%s: event %u: %zu places", label, i, found.n);
        cr_assert(found.pos[0] == pos || (n_same == 2 && found.pos[1] == pos), "%s: event %u", label, i);
    }
    uint8_t none[16] = {0xff};
    cr_expect_eq(find(segment, none, &found), 0u, "%s", label);
    id_of(n + 2, none);
    cr_expect_eq(find(segment, none, &found), 0u, "%s", label);
    index_publisher_id(77, none);
    cr_expect_eq(find(segment, none, &found), 1u, "%s: its publisher", label);
    cr_expect_eq(found.pos[0], segment->base, "%s", label);
    index_publisher_id(78, none);
    cr_expect_eq(find(segment, none, &found), 0u, "%s: another one", label);
}

static char *path_of(uint64_t base)
{
    static char path[FILE_PATH_MAX];
    index_path(&place, base, path);
    return path;
}

Test(index, finds_each_frame_by_its_id)
{
    static const uint32_t rows[] = {0, 1, 2, 339, 340, 341, 680, N_EVENTS};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char label[32];
        snprintf(label, sizeof label, "%u events", rows[i]);
        struct segment segment = make_segment(3 * CELLS, rows[i]);
        cr_expect_neq(access(path_of(segment.base), F_OK), 0);
        expect_all(&segment, rows[i], label);
        cr_expect_eq(access(path_of(segment.base), F_OK), 0, "it has been put there");
        segment_close(&segment);
    }
}

Test(index, is_made_piece_by_piece)
{
    struct index_draft draft;
    struct segment segment = make_segment(0, N_EVENTS);
    unsigned n = 0;
    cr_assert_eq(index_begin(&draft, &place, 0, &err), EVBUS_OK, "%s", err.text);
    int rc;
    while ((rc = index_go_on(&draft, 1000, &err)) == 0)
        n++;
    cr_expect_eq(rc, 1, "%s", err.text);
    cr_expect_geq(n, 3u);
    cr_expect_eq(draft.n, N_EVENTS + 1u);
    cr_assert_eq(index_save(&draft, &err), EVBUS_OK, "%s", err.text);
    index_end(&draft);
    uint64_t len = folder_len(path_of(0));
    expect_all(&segment, N_EVENTS, "saved");
    cr_expect_eq(folder_len(path_of(0)), len);
    segment_close(&segment);
}

Test(index, that_is_damaged_anywhere_is_made_anew)
{
    struct segment segment = make_segment(0, 400);
    expect_all(&segment, 400, "whole");
    uint64_t len = folder_len(path_of(0));
    for (uint64_t at = 0; at < len; at += at < 80 ? 1 : 61) {
        char label[32];
        snprintf(label, sizeof label, "flipped at %llu", (unsigned long long)at);
        folder_flip(path_of(0), at, 3);
        expect_all(&segment, 400, label);
    }
    for (uint64_t at = 0; at < len; at += 997) {
        cr_assert_eq(truncate(path_of(0), (off_t)at), 0);
        expect_all(&segment, 400, "cut");
    }
    segment_close(&segment);
}

Test(index, of_another_segment_is_none)
{
    struct segment segment = make_segment(0, 10);
    struct found found;
    uint8_t id[16];
    expect_all(&segment, 10, "own");
    struct segment other = SEGMENT_NONE;
    char from[FILE_PATH_MAX];
    snprintf(from, sizeof from, "%s", path_of(0));
    cr_assert_eq(segment_create(&other, &place, CELLS, CELLS, "{}", 2, &err), EVBUS_OK);
    cr_assert_eq(rename(from, path_of(CELLS)), 0);
    id_of(3, id);
    cr_expect_eq(find(&other, id, &found), 0u, "it says that there are events, and there are none");
    segment_close(&other);
    segment_close(&segment);
}

Test(index, is_made_in_memory_where_nothing_can_be_written)
{
    struct segment segment = make_segment(0, 10);
    cr_assert_eq(mkdir(path_of(0), 0700), 0, "so that no file of its name can be put there");
    expect_all(&segment, 10, "in memory");
    segment_close(&segment);
}

Test(index, leaves_out_what_is_damaged_in_the_segment)
{
    struct segment segment = make_segment(0, 10);
    struct found found;
    uint8_t id[16];
    folder_flip(segment.path, segment.header_bytes + 64 * 8 + 30, 1); /* the fourth event */
    id_of(0, id);
    cr_expect_eq(find(&segment, id, &found), 2u, "what stands behind it is found");
    id_of(9 - 3, id);
    cr_expect_eq(find(&segment, id, &found), 1u, "its neighbour of the same front alone");
    segment_close(&segment);
}

Test(index, of_a_segment_that_is_gone_leaves_no_descriptor_open_or_shut)
{
    struct index_draft draft;
    struct segment segment = make_segment(0, 10);
    int n = folder_descriptors();
    cr_expect_eq(index_begin(&draft, &place, CELLS, &err), EVBUS_ENOTFOUND);
    index_end(&draft);
    cr_expect_eq(folder_descriptors(), n);
    cr_assert_eq(index_begin(&draft, &place, 0, &err), EVBUS_OK);
    cr_assert_eq(index_go_on(&draft, UINT64_MAX, &err), 1);
    index_end(&draft);
    cr_expect_eq(folder_descriptors(), n);
    segment_close(&segment);
}
