/* test_frame.c: what is built is parsed back, and no length in a frame is trusted.
 *
 * Frames are parsed from memory of exactly their size, so that a sanitizer sees any read behind them. Random tests print
 * their seed; EVBUS_SEED=<number> takes it back. */
#include "frame.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])

static uint64_t take_seed(void)
{
    const char *given = getenv("EVBUS_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)clock();
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static uint64_t draw(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* A frame of these lengths, its bytes drawn, built into memory of exactly its size; to be freed. */
static uint64_t *built(struct frame *frame, size_t key_len, size_t area_len, size_t payload_len, uint64_t *seed)
{
    static char key[FRAME_KEY_MAX];
    static uint8_t area[UINT16_MAX];
    static char payload[FRAME_CELLS_MAX * CELL_BYTES];
    for (size_t i = 0; i < key_len; i++)
        key[i] = (char)draw(seed);
    for (size_t i = 0; i < area_len; i++)
        area[i] = (uint8_t)draw(seed);
    for (size_t i = 0; i < payload_len; i++)
        payload[i] = (char)draw(seed);
    *frame = (struct frame){
        .kind = FRAME_EVENT,
        .flags = (uint16_t)draw(seed),
        .timestamp_ns = draw(seed),
        .publisher = (uint32_t)draw(seed),
        .topic = (uint16_t)draw(seed),
        .key_hash = (uint32_t)draw(seed),
        .key = key_len != 0 ? key : NULL,
        .key_len = (uint8_t)key_len,
        .area = area_len != 0 ? area : NULL,
        .area_len = (uint16_t)area_len,
        .major = (uint16_t)draw(seed),
        .minor = (uint16_t)draw(seed),
        .payload = payload,
        .payload_len = (uint32_t)payload_len,
    };
    for (size_t i = 0; i < sizeof frame->id; i++)
        frame->id[i] = (uint8_t)draw(seed);
    size_t n_bytes = (size_t)frame_cells(key_len, area_len, payload_len) * CELL_BYTES;
    uint64_t *out = malloc(n_bytes);
    cr_assert_not_null(out);
    memset(out, 0xdd, n_bytes);
    frame_build(frame, out);
    return out;
}

static bool is_same(const struct frame *left, const struct frame *right)
{
    return left->kind == right->kind && left->flags == right->flags && left->timestamp_ns == right->timestamp_ns &&
           left->publisher == right->publisher && left->topic == right->topic && left->key_hash == right->key_hash &&
           left->major == right->major && left->minor == right->minor && left->key_len == right->key_len &&
           left->area_len == right->area_len && left->payload_len == right->payload_len &&
           memcmp(left->id, right->id, sizeof left->id) == 0 &&
           (left->key_len == 0 || memcmp(left->key, right->key, left->key_len) == 0) &&
           (left->area_len == 0 || memcmp(left->area, right->area, left->area_len) == 0) &&
           (left->payload_len == 0 || memcmp(left->payload, right->payload, left->payload_len) == 0);
}

/* ---- lengths ---- */

Test(frame, its_parts_are_rounded_up_and_fill_whole_cells)
{
    static const struct {
        const char *label;
        size_t key_len, area_len, payload_len;
        uint32_t n_cells;
    } rows[] = {
        {"the smallest", 0, 0, 1, 2},
        {"no payload at all", 0, 0, 0, 2},
        {"a small event", 8, 0, 48, 2},
        {"one byte of payload more", 8, 0, 49, 3},
        {"one byte of key more", 9, 0, 48, 3},
        {"without a key", 0, 0, 56, 2},
        {"without a key, one more", 0, 0, 57, 3},
        {"a header area of one byte", 8, 1, 40, 2},
        {"the longest key", 255, 0, 1, 6},
        {"the longest payload of a publish", 255, 0, 245760, 3846},
        {"the most that a word can say", 0, 0, (size_t)FRAME_CELLS_MAX * 64 - 72, FRAME_CELLS_MAX},
        {"one byte more than that", 0, 0, (size_t)FRAME_CELLS_MAX * 64 - 71, 0},
        {"far more", 0, 0, SIZE_MAX, 0},
        {"as much as a uint32 says", 0, 0, UINT32_MAX, 0},
        {"nearly all of the address space", 255, FRAME_AREA_MAX, SIZE_MAX - 7, 0},
    };
    for (size_t i = 0; i < N(rows); i++)
        cr_expect_eq(frame_cells(rows[i].key_len, rows[i].area_len, rows[i].payload_len), rows[i].n_cells, "%s: %u",
                     rows[i].label, frame_cells(rows[i].key_len, rows[i].area_len, rows[i].payload_len));
}

/* ---- there and back ---- */

Test(frame, what_is_built_is_parsed_back)
{
    static const size_t key_lens[] = {0, 1, 7, 8, 9, 254, 255};
    static const size_t area_lens[] = {0, 1, 8, 63, FRAME_AREA_MAX};
    static const size_t payload_lens[] = {0, 1, 7, 8, 40, 47, 48, 49, 55, 56, 57, 64, 1000, 245760};
    uint64_t seed = take_seed();
    for (size_t k = 0; k < N(key_lens); k++)
        for (size_t a = 0; a < N(area_lens); a++)
            for (size_t p = 0; p < N(payload_lens); p++) {
                struct frame made, got;
                struct error err = {""};
                uint64_t *bytes = built(&made, key_lens[k], area_lens[a], payload_lens[p], &seed);
                int rc = frame_parse(bytes, &got, &err);
                cr_assert_eq(rc, EVBUS_OK, "key %zu area %zu payload %zu: %s", key_lens[k], area_lens[a],
                             payload_lens[p], err.text);
                cr_assert(is_same(&made, &got), "key %zu area %zu payload %zu", key_lens[k], area_lens[a],
                          payload_lens[p]);
                free(bytes);
            }
}

Test(frame, any_event_is_parsed_back)
{
    uint64_t seed = take_seed();
    for (int round = 0; round < 3000; round++) {
        struct frame made, got;
        struct error err = {""};
        size_t key_len = draw(&seed) % 256, area_len = draw(&seed) % 300, payload_len = draw(&seed) % 2000;
        uint64_t *bytes = built(&made, key_len, area_len, payload_len, &seed);
        cr_assert_eq(frame_parse(bytes, &got, &err), EVBUS_OK, "round %d: %s", round, err.text);
        cr_assert(is_same(&made, &got), "round %d: key %zu area %zu payload %zu", round, key_len, area_len,
                  payload_len);
        free(bytes);
    }
}

/* The same bytes stand in the ring and in the journal, whoever writes them. */
Test(frame, its_bytes_depend_on_the_event_alone)
{
    for (size_t len = 0; len < 200; len++) {
        uint64_t same = 7, again = 7;
        struct frame first, second;
        uint64_t *left = built(&first, len % 20, len % 11, len, &same);
        uint64_t *right = built(&second, len % 20, len % 11, len, &again);
        size_t n_bytes = (size_t)frame_cells(len % 20, len % 11, len) * CELL_BYTES;
        memset(right, 0x11, n_bytes);
        frame_build(&second, right);
        cr_assert_arr_eq(left, right, n_bytes, "payload %zu", len);
        free(left);
        free(right);
    }
}

Test(frame, its_paddings_are_zero)
{
    struct frame frame = {
        .kind = FRAME_EVENT, .key = "abc", .key_len = 3, .major = 1, .payload = "[]", .payload_len = 2};
    unsigned char bytes[2 * CELL_BYTES];
    uint64_t out[2 * CELL_WORDS];
    memset(out, 0xff, sizeof out);
    frame_build(&frame, out);
    memcpy(bytes, out, sizeof bytes);
    for (size_t i = 64 + 3; i < 64 + 8; i++)
        cr_expect_eq(bytes[i], 0, "behind the key: byte %zu", i);
    for (size_t i = 64 + 8 + 8 + 2; i < sizeof bytes; i++)
        cr_expect_eq(bytes[i], 0, "behind the payload: byte %zu", i);
    cr_expect_eq(out[0], 0, "the stamp is set by the ring");
    cr_expect_eq(out[2], 0, "the position is set by the ring");
}

/* The format of section 1: other builds, and files, rely on these places. */
Test(frame, a_small_event_stands_in_two_cells_as_the_format_says)
{
    struct frame frame = {.kind = FRAME_EVENT,
                          .flags = 0x0201,
                          .timestamp_ns = UINT64_C(0x0807060504030201),
                          .publisher = 0x14131211,
                          .topic = 0x2221,
                          .key_hash = 0x34333231,
                          .key = "order-42",
                          .key_len = 8,
                          .major = 2,
                          .minor = 5,
                          .payload = "{\"a\":1}",
                          .payload_len = 7};
    memset(frame.id, 0xab, sizeof frame.id);
    uint64_t out[2 * CELL_WORDS];
    unsigned char bytes[2 * CELL_BYTES];
    frame_build(&frame, out);
    memcpy(bytes, out, sizeof bytes);
    static const struct {
        const char *label;
        size_t at, len;
        const char *bytes;
    } rows[] = {
        {"format, kind", 8, 2, "\x01\x01"},
        {"flags", 10, 2, "\x01\x02"},
        {"cells", 12, 2, "\x02\x00"},
        {"header area", 14, 2, "\x00\x00"},
        {"id", 24, 2, "\xab\xab"},
        {"time", 40, 8, "\x01\x02\x03\x04\x05\x06\x07\x08"},
        {"publisher", 48, 4, "\x11\x12\x13\x14"},
        {"topic", 52, 2, "\x21\x22"},
        {"key's length", 54, 1, "\x08"},
        {"representations", 55, 1, "\x01"},
        {"key's hash", 56, 4, "\x31\x32\x33\x34"},
        {"checksum", 60, 4, "\x00\x00\x00\x00"},
        {"key", 64, 8, "order-42"},
        {"version", 72, 4, "\x02\x00\x05\x00"},
        {"payload's length", 76, 4, "\x07\0\0\0"},
        {"payload", 80, 8, "{\"a\":1}\0"},
    };
    for (size_t i = 0; i < N(rows); i++)
        cr_expect_arr_eq(bytes + rows[i].at, rows[i].bytes, rows[i].len, "%s", rows[i].label);
}

/* ---- several representations ---- */

struct version {
    uint16_t major, minor;
    const char *payload;
};

/* A frame of these, in this order; to be freed. */
static uint64_t *with_versions(const struct version *versions, size_t n)
{
    char bytes[4096] = {0};
    size_t at = sizeof(struct frame_header);
    for (size_t i = 0; i < n; i++) {
        struct representation_header head = {versions[i].major, versions[i].minor,
                                             (uint32_t)strlen(versions[i].payload)};
        memcpy(bytes + at, &head, sizeof head);
        memcpy(bytes + at + sizeof head, versions[i].payload, head.len);
        at += sizeof head + (head.len + 7) / 8 * 8;
    }
    size_t n_cells = (at + CELL_BYTES - 1) / CELL_BYTES;
    struct frame_header header = {
        .format = FRAME_FORMAT, .kind = FRAME_EVENT, .n_cells = (uint16_t)n_cells, .n_representations = (uint8_t)n};
    memcpy(bytes, &header, sizeof header);
    uint64_t *out = malloc(n_cells * CELL_BYTES);
    cr_assert_not_null(out);
    return memcpy(out, bytes, n_cells * CELL_BYTES);
}

Test(frame, of_several_representations_the_lowest_version_is_given)
{
    static const struct {
        const char *label;
        struct version versions[3];
        size_t n;
        const char *lowest;
    } rows[] = {
        {"one", {{1, 0, "a"}}, 1, "a"},
        {"the first", {{1, 0, "a"}, {2, 0, "b"}}, 2, "a"},
        {"the last", {{2, 0, "b"}, {1, 9, "a"}}, 2, "a"},
        {"by the minor", {{1, 10, "aa"}, {1, 2, "b"}, {1, 9, "ccc"}}, 3, "b"},
        {"version 0.0", {{0, 0, "z"}}, 1, "z"},
        {"twice the same: the first", {{1, 0, "a"}, {1, 0, "b"}}, 2, "a"},
        {"an empty one that is lower", {{65535, 65535, "a"}, {1, 0, ""}}, 2, ""},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct frame got;
        struct error err = {""};
        uint64_t *bytes = with_versions(rows[i].versions, rows[i].n);
        cr_assert_eq(frame_parse(bytes, &got, &err), EVBUS_OK, "%s: %s", rows[i].label, err.text);
        cr_expect(got.payload_len == strlen(rows[i].lowest) &&
                      memcmp(got.payload, rows[i].lowest, got.payload_len) == 0,
                  "%s: %.*s", rows[i].label, (int)got.payload_len, (const char *)got.payload);
        free(bytes);
    }
}

Test(frame, all_versions_come_back_as_they_were_built)
{
    static const char *const payloads[] = {"1", "\"eight by\"", "[]", "{\"a\":\"12345678\"}", "0",
                                           "7", "88888888",     "9"};
    for (unsigned n = 1; n <= FRAME_VERSIONS_MAX; n++) {
        struct frame_version more[FRAME_VERSIONS_MAX - 1], got[FRAME_VERSIONS_MAX];
        struct frame parsed;
        struct error err = {""};
        for (unsigned i = 1; i < n; i++)
            more[i - 1] = (struct frame_version){(uint16_t)(i + 1), 3, (uint32_t)strlen(payloads[i]), payloads[i]};
        struct frame made = {.kind = FRAME_EVENT,
                             .key = "key",
                             .key_len = 3,
                             .major = 1,
                             .payload = payloads[0],
                             .payload_len = (uint32_t)strlen(payloads[0]),
                             .more = more,
                             .n_versions = (uint8_t)n};
        uint64_t *bytes = malloc((size_t)frame_cells_of(&made) * CELL_BYTES);
        cr_assert_not_null(bytes);
        frame_build(&made, bytes);
        cr_assert_eq(frame_parse(bytes, &parsed, &err), EVBUS_OK, "%u: %s", n, err.text);
        cr_assert_eq(frame_versions(&parsed, got), n);
        for (unsigned i = 0; i < n; i++)
            cr_expect(got[i].major == i + 1 && got[i].minor == (i == 0 ? 0 : 3) && got[i].len == strlen(payloads[i]) &&
                          memcmp(got[i].payload, payloads[i], got[i].len) == 0,
                      "%u of %u", i, n);
        free(bytes);
    }
}

/* ---- nothing is trusted ---- */

Test(frame, a_length_that_does_not_fit_is_refused_by_name)
{
    static const struct {
        const char *label;
        size_t at;      /* byte of the frame */
        size_t n_bytes; /* of the value */
        uint32_t value;
        const char *text; /* in the message */
    } rows[] = {
        {"another format", 8, 1, 2, "format 2"},
        {"no format", 8, 1, 0, "format 0"},
        {"no cells", 12, 2, 0, "0 cells"},
        {"a header area to the end", 14, 2, 56, "representation 1 of 1"},
        {"a header area beyond the end", 14, 2, 57, "header area of 57"},
        {"the longest header area", 14, 2, 65535, "header area of 65535"},
        {"a key to the end", 54, 1, 64, "representation 1 of 1"},
        {"a key beyond the end", 54, 1, 65, "key of 65"},
        {"the longest key", 54, 1, 255, "key of 255"},
        {"no representation", 55, 1, 0, "without a payload"},
        {"a representation more than fits", 55, 1, 4, "representation 4 of 4"},
        {"one representation too many", 55, 1, 9, "9 representations"},
        {"far too many representations", 55, 1, 255, "255 representations"},
        {"a payload one byte too long", 76, 4, 49, "payload of 49 bytes where 48"},
        {"a payload of 2 GiB", 76, 4, UINT32_C(1) << 31, "payload of 2147483648"},
        {"the longest payload", 76, 4, UINT32_MAX, "payload of 4294967295"},
        {"a payload whose rounding overflows", 76, 4, UINT32_MAX - 6, "payload of 4294967289"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        uint64_t seed = 1;
        struct frame made;
        struct frame got = {.publisher = 12345};
        struct error err = {""};
        uint64_t *bytes = built(&made, 8, 0, 32, &seed);
        memcpy((char *)bytes + rows[i].at, &rows[i].value, rows[i].n_bytes);
        cr_expect_eq(frame_parse(bytes, &got, &err), EVBUS_ECORRUPT, "%s", rows[i].label);
        cr_expect_not_null(strstr(err.text, rows[i].text), "%s: %s", rows[i].label, err.text);
        cr_expect_eq(got.publisher, 12345, "%s: the result is untouched on failure", rows[i].label);
        free(bytes);
    }
}

Test(frame, a_frame_that_was_cut_is_refused)
{
    uint64_t seed = take_seed();
    for (size_t payload_len = 100; payload_len < 900; payload_len += 37) {
        struct frame made, got;
        struct error err = {""};
        uint64_t *whole = built(&made, 20, 30, payload_len, &seed);
        uint16_t n_cells = (uint16_t)frame_cells(20, 30, payload_len);
        for (uint16_t cells = 1; cells < n_cells; cells++) {
            uint64_t *cut = malloc((size_t)cells * CELL_BYTES);
            cr_assert_not_null(cut);
            memcpy(cut, whole, (size_t)cells * CELL_BYTES);
            memcpy((char *)cut + offsetof(struct frame_header, n_cells), &cells, sizeof cells);
            cr_assert_eq(frame_parse(cut, &got, &err), EVBUS_ECORRUPT, "%u of %u cells", cells, n_cells);
            free(cut);
        }
        free(whole);
    }
}

static bool lies_inside(const void *part, size_t len, const uint64_t *frame, size_t n_bytes)
{
    uintptr_t start = (uintptr_t)frame, at = (uintptr_t)part;
    return len == 0 || (at >= start && at <= start + n_bytes && len <= start + n_bytes - at);
}

/* The sum of the bytes of all parts: reads them all, for the sanitizer. */
static unsigned touch(const struct frame *frame)
{
    unsigned sum = 0;
    for (size_t i = 0; i < frame->key_len; i++)
        sum += (unsigned char)frame->key[i];
    for (size_t i = 0; i < frame->area_len; i++)
        sum += frame->area[i];
    for (size_t i = 0; i < frame->payload_len; i++)
        sum += ((const unsigned char *)frame->payload)[i];
    return sum;
}

Test(frame, any_bytes_are_parsed_or_refused_within_their_frame)
{
    uint64_t seed = take_seed();
    int n_parsed = 0;
    volatile unsigned sum = 0; /* every byte that it names is read: a sanitizer would tell */
    int rounds = getenv("EVBUS_QUICK") != NULL ? 30000 : 200000;
    for (int round = 0; round < rounds; round++) {
        uint16_t n_cells = (uint16_t)(1 + draw(&seed) % 6);
        size_t n_bytes = (size_t)n_cells * CELL_BYTES;
        uint64_t *bytes = malloc(n_bytes);
        cr_assert_not_null(bytes);
        for (size_t i = 0; i < n_bytes / 8; i++)
            bytes[i] = draw(&seed) % 3 == 0 ? draw(&seed) % 64 : draw(&seed);
        struct frame_header header;
        memcpy(&header, bytes, sizeof header);
        header.n_cells = n_cells; /* its ring has bounded it */
        if (round % 8 != 0)
            header.format = FRAME_FORMAT;
        if (round % 4 != 0) { /* mostly small, so that parsing gets far */
            header.key_len %= 40;
            header.area_len %= 40;
            header.n_representations %= 5;
        }
        memcpy(bytes, &header, sizeof header);
        struct frame got;
        struct error err = {""};
        int rc = frame_parse(bytes, &got, &err);
        cr_assert(rc == EVBUS_OK || rc == EVBUS_ECORRUPT, "round %d: %d", round, rc);
        cr_assert(rc == EVBUS_OK || err.text[0] != '\0', "round %d: refused without a word", round);
        if (rc == EVBUS_OK) {
            n_parsed++;
            cr_assert(lies_inside(got.key, got.key_len, bytes, n_bytes), "round %d: key", round);
            cr_assert(lies_inside(got.area, got.area_len, bytes, n_bytes), "round %d: header area", round);
            cr_assert(lies_inside(got.payload, got.payload_len, bytes, n_bytes), "round %d: payload", round);
            sum += touch(&got);
        }
        free(bytes);
    }
    cr_expect_gt(n_parsed, rounds / 100, "only %d of %d were parsed: the test has lost its point", n_parsed, rounds);
    (void)sum;
}

/* One byte of a good frame changed: read on, or refused, never beyond. */
Test(frame, one_wrong_byte_is_never_followed_out_of_the_frame)
{
    uint64_t seed = take_seed();
    volatile unsigned sum = 0; /* every byte that it names is read: a sanitizer would tell */
    for (size_t payload_len = 0; payload_len < 130; payload_len += 13) {
        struct frame made, got;
        struct error err = {""};
        uint64_t *bytes = built(&made, 5, 10, payload_len, &seed);
        size_t n_bytes = (size_t)frame_cells(5, 10, payload_len) * CELL_BYTES;
        for (size_t at = 0; at < n_bytes; at++) {
            if (at == 12 || at == 13) /* the number of cells is bounded by the ring */
                continue;
            unsigned char *byte = (unsigned char *)bytes + at;
            unsigned char good = *byte;
            for (unsigned bit = 0; bit < 8; bit++) {
                *byte = (unsigned char)(good ^ 1u << bit);
                int rc = frame_parse(bytes, &got, &err);
                cr_assert(rc == EVBUS_OK || rc == EVBUS_ECORRUPT, "byte %zu bit %u: %d", at, bit, rc);
                if (rc == EVBUS_OK)
                    sum += touch(&got);
            }
            *byte = good;
        }
        free(bytes);
    }
    (void)sum;
}

/* ---- in files ---- */

Test(frame, its_checksum_is_crc32c)
{
    static const struct {
        const char *label;
        char bytes[48];
        size_t len;
        uint32_t crc;
    } rows[] = {
        {"the check value of the catalogues of CRCs", "123456789", 9, 0xe3069283},
        {"nothing", "", 0, 0},
        {"one byte", "a", 1, 0xc1d04330},
        {"32 zeros (RFC 3720)", "", 32, 0x8a9136aa},
        {"32 ones (RFC 3720)",
         "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
         "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
         32, 0x62a8ab43},
    };
    for (size_t i = 0; i < N(rows); i++)
        cr_expect_eq(frame_crc(rows[i].bytes, rows[i].len), rows[i].crc, "%s: %08x", rows[i].label,
                     frame_crc(rows[i].bytes, rows[i].len));
}

/* A frame as it stands in a file at a position; to be freed. */
static uint64_t *sealed(uint64_t pos, size_t payload_len, uint32_t *out_n_cells)
{
    uint64_t seed = 3;
    struct frame frame;
    uint64_t *cells = built(&frame, 5, 10, payload_len, &seed);
    cells[offsetof(struct frame_header, position) / 8] = pos;
    frame_seal(cells);
    *out_n_cells = frame_cells(5, 10, payload_len);
    return cells;
}

Test(frame, what_is_sealed_is_whole_at_its_position_alone)
{
    for (size_t payload_len = 0; payload_len < 700; payload_len += 61) {
        uint32_t n_cells;
        uint64_t *cells = sealed(77, payload_len, &n_cells);
        cr_expect_eq(frame_sealed_cells(cells, n_cells, 77), n_cells, "payload %zu", payload_len);
        cr_expect_eq(frame_sealed_cells(cells, n_cells, 78), 0, "at another position");
        for (uint32_t n = 0; n < n_cells; n++)
            cr_expect_eq(frame_sealed_cells(cells, n, 77), 0, "%u of %u cells", n, n_cells);
        free(cells);
    }
}

/* Twin keepers write the same bytes. [J5] */
Test(frame, sealing_changes_only_stamp_and_checksum_and_may_be_done_twice)
{
    uint32_t n_cells;
    uint64_t seed = 3;
    struct frame frame;
    uint64_t *plain = built(&frame, 5, 10, 100, &seed);
    uint64_t *cells = sealed(77, 100, &n_cells);
    uint64_t *again = malloc((size_t)n_cells * CELL_BYTES);
    cr_assert_not_null(again);
    memcpy(again, cells, (size_t)n_cells * CELL_BYTES);
    frame_seal(again);
    cr_expect_arr_eq(again, cells, (size_t)n_cells * CELL_BYTES);
    plain[offsetof(struct frame_header, position) / 8] = 77;
    plain[0] = cells[0];
    memcpy((char *)plain + offsetof(struct frame_header, crc32c), (char *)cells + offsetof(struct frame_header, crc32c),
           4);
    cr_expect_arr_eq(plain, cells, (size_t)n_cells * CELL_BYTES);
    cr_expect_eq(memcmp(cells, "evbusfrm", 8), 0, "the stamp in files");
    free(plain);
    free(cells);
    free(again);
}

Test(frame, one_wrong_bit_of_a_sealed_frame_is_seen)
{
    uint32_t n_cells;
    uint64_t *cells = sealed(77, 150, &n_cells);
    unsigned char *bytes = (unsigned char *)cells;
    for (size_t at = 0; at < (size_t)n_cells * CELL_BYTES; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[at] ^= (unsigned char)(1u << bit);
            cr_assert_eq(frame_sealed_cells(cells, n_cells, 77), 0, "byte %zu bit %u", at, bit);
            bytes[at] ^= (unsigned char)(1u << bit);
        }
    free(cells);
}

Test(frame, a_pad_is_whole_by_its_first_cell_alone)
{
    static const struct {
        const char *label;
        enum frame_kind kind;
        uint32_t n_cells;
    } rows[] = {{"one cell", FRAME_PAD, 1},
                {"many", FRAME_PAD, 1000},
                {"the most", FRAME_PAD, UINT16_MAX},
                {"a gap", FRAME_GAP, 64}};
    for (size_t i = 0; i < N(rows); i++) {
        uint64_t cell[CELL_WORDS];
        unsigned char *bytes = (unsigned char *)cell;
        memset(cell, 0xee, sizeof cell);
        frame_seal_pad(rows[i].kind, 99, rows[i].n_cells, cell);
        cr_expect_eq(frame_sealed_cells(cell, 1, 99), rows[i].n_cells, "%s", rows[i].label);
        cr_expect_eq(frame_sealed_cells(cell, 0, 99), 0, "%s", rows[i].label);
        cr_expect_eq(frame_sealed_cells(cell, 1, 98), 0, "%s", rows[i].label);
        for (size_t at = 0; at < CELL_BYTES; at++)
            for (unsigned bit = 0; bit < 8; bit++) {
                bytes[at] ^= (unsigned char)(1u << bit);
                cr_assert_eq(frame_sealed_cells(cell, 1, 99), 0, "%s: byte %zu bit %u", rows[i].label, at, bit);
                bytes[at] ^= (unsigned char)(1u << bit);
            }
    }
}

Test(frame, what_was_sealed_is_parsed_as_before)
{
    uint64_t seed = 9;
    struct frame made, got;
    struct error err = {""};
    uint64_t *cells = built(&made, 5, 10, 100, &seed);
    frame_seal(cells);
    cr_assert_eq(frame_parse(cells, &got, &err), EVBUS_OK, "%s", err.text);
    cr_expect(is_same(&made, &got));
    free(cells);
}
