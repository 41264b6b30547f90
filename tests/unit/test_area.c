/* test_area.c: what was put into a header area is found in it, and no length in one is trusted. */
#include "area.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct frame frame_of(const struct area *area)
{
    return (struct frame){.area = area->bytes, .area_len = (uint16_t)area->len};
}

static void expect_text(const struct frame *frame, enum area_tag tag, const char *text)
{
    const uint8_t *bytes = NULL;
    size_t len = 0;
    cr_assert(area_find(frame, tag, &bytes, &len), "tag %d", tag);
    cr_expect(len == strlen(text) && memcmp(bytes, text, len) == 0, "tag %d: %.*s", tag, (int)len, (const char *)bytes);
}

Test(area, finds_what_was_added)
{
    static struct area area;
    uint64_t expires = UINT64_C(1790000000123456789);
    cr_assert(area_add(&area, AREA_CORRELATION, "order 10248", 11));
    cr_assert(area_add(&area, AREA_EXPIRES, &expires, sizeof expires));
    cr_assert(area_add(&area, AREA_TRACESTATE, "", 0));
    struct frame frame = frame_of(&area);
    const uint8_t *bytes;
    size_t len;
    expect_text(&frame, AREA_CORRELATION, "order 10248");
    expect_text(&frame, AREA_TRACESTATE, "");
    cr_expect_eq(area_number(&frame, AREA_EXPIRES), expires);
    cr_expect_not(area_find(&frame, AREA_CAUSATION, &bytes, &len));
    cr_expect_eq(area_number(&frame, AREA_CORRELATION), 0, "11 bytes are no number");
}

Test(area, of_an_empty_one_nothing_is_found)
{
    static struct area area;
    struct frame frame = frame_of(&area);
    struct area_source source;
    cr_expect_eq(area_number(&frame, AREA_EXPIRES), 0);
    cr_expect_not(area_source(&frame, &source));
}

Test(area, takes_what_fits_and_no_byte_more)
{
    static struct area area;
    static uint8_t bytes[FRAME_AREA_MAX + 1];
    cr_expect_not(area_add(&area, AREA_EXTRA, bytes, FRAME_AREA_MAX - 3));
    cr_expect_not(area_add(&area, AREA_EXTRA, bytes, FRAME_AREA_MAX + 1));
    cr_expect_eq(area.len, 0);
    cr_expect(area_add(&area, AREA_EXTRA, bytes, FRAME_AREA_MAX - 4));
    cr_expect_not(area_add(&area, AREA_EXTRA, bytes, 0));
}

Test(area, passes_on_what_it_does_not_know)
{
    static struct area area, copy;
    area_add(&area, AREA_TRACEPARENT, "t", 1);
    area_add(&area, (enum area_tag)4711, "of a newer evbus", 16);
    area_add(&area, AREA_CAUSATION, "c", 1);
    struct frame frame = frame_of(&area);
    cr_assert(area_add_others(&copy, &frame, AREA_TRACEPARENT));
    struct frame passed = frame_of(&copy);
    const uint8_t *bytes;
    size_t len;
    cr_expect_not(area_find(&passed, AREA_TRACEPARENT, &bytes, &len));
    expect_text(&passed, (enum area_tag)4711, "of a newer evbus");
    expect_text(&passed, AREA_CAUSATION, "c");
}

Test(area, trusts_no_length)
{
    static struct area area;
    area_add(&area, AREA_CORRELATION, "first", 5);
    area_add(&area, AREA_CAUSATION, "second", 6);
    for (size_t cut = 0; cut <= area.len; cut++) { /* memory of exactly that size: a sanitizer sees a read behind it */
        uint8_t *bytes = malloc(cut + 1);
        cr_assert_not_null(bytes);
        memcpy(bytes + 1, area.bytes, cut);
        struct frame frame = {.area = bytes + 1, .area_len = (uint16_t)cut};
        const uint8_t *found;
        size_t len;
        cr_expect_eq(area_find(&frame, AREA_CORRELATION, &found, &len), cut >= 9, "%zu", cut);
        cr_expect_eq(area_find(&frame, AREA_CAUSATION, &found, &len), cut == area.len, "%zu", cut);
        free(bytes);
    }
    for (unsigned value = 0; value < 65536; value += 7) {
        struct frame frame = frame_of(&area);
        const uint8_t *found;
        size_t len;
        uint16_t length = (uint16_t)value;
        memcpy(area.bytes + 2, &length, sizeof length);
        if (area_find(&frame, AREA_CORRELATION, &found, &len))
            cr_expect(len == value && 4 + len <= area.len);
        area_find(&frame, AREA_CAUSATION, &found, &len);
    }
}

Test(area, a_source_comes_back_with_its_name_ended)
{
    static struct area area;
    struct area_source made = {.position = 123456, .partition = 2, .n_replays = 3}, got;
    memset(made.log, 'x', sizeof made.log);
    memcpy(made.letter, "0123456789abcdef", 16);
    area_add(&area, AREA_SOURCE, &made, sizeof made);
    struct frame frame = frame_of(&area);
    cr_assert(area_source(&frame, &got));
    cr_expect(got.position == 123456 && got.partition == 2 && got.n_replays == 3);
    cr_expect_eq(memcmp(got.letter, made.letter, 16), 0);
    cr_expect_eq(strlen(got.log), NAME_BYTES - 1);
}

Test(area, what_is_an_events_own_goes_with_it_and_nothing_else)
{
    static struct area area, own;
    struct area_source source = {.position = 1};
    struct area_death death = {.note = 5, .position = 6, .timestamp_ns = 7}, got;
    uint64_t letter = 9;
    char text[8];
    area_add(&area, AREA_SOURCE, &source, sizeof source);
    area_add(&area, AREA_CORRELATION, "corr", 4);
    area_add(&area, AREA_TOPIC, "a.b.c", 5);
    area_add(&area, AREA_DEATH, &death, sizeof death);
    area_add(&area, (enum area_tag)4711, "new", 3);
    area_add(&area, AREA_LETTER, &letter, sizeof letter);
    struct frame frame = frame_of(&area);
    cr_assert(area_death(&frame, &got));
    cr_expect_arr_eq(&got, &death, sizeof got);
    cr_assert(area_text(&frame, AREA_TOPIC, text, sizeof text));
    cr_expect_str_eq(text, "a.b.c");
    cr_expect_not(area_text(&frame, AREA_TOPIC, text, 5), "and a NUL does not fit");
    cr_expect_not(area_text(&frame, AREA_BROKER, text, sizeof text), "there is none");
    cr_assert(area_add_own(&own, &frame));
    static struct area expected;
    area_add(&expected, AREA_CORRELATION, "corr", 4);
    area_add(&expected, (enum area_tag)4711, "new", 3);
    cr_assert_eq(own.len, expected.len);
    cr_expect_arr_eq(own.bytes, expected.bytes, own.len, "also what we do not know");
    own.len = sizeof own.bytes - 9;
    cr_expect_not(area_add_own(&own, &frame));
    cr_expect_eq(own.len, sizeof own.bytes - 1, "what fits is there");
}
