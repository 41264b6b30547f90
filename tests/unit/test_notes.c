/* test_notes.c: what happened to an event is read back, newest first, and what is gone or foreign is left out. */
#include "notes.h"

#include "bus.h"
#include "fixture.h"
#include "frame.h"
#include "partition.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const uint8_t event_id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static struct claim *own_claim(struct evbus *bus)
{
    struct bus_thread *thread;
    cr_assert_eq(bus_thread(bus, &thread, NULL), EVBUS_OK);
    return &thread->claim;
}

static struct note note_of(uint32_t attempt, const char *error)
{
    struct note note = {
        .attempt = attempt,
        .cause = CAUSE_FAILED,
        .at_ns = 1000000000 + attempt,
        .took_ns = 5000000 * (uint64_t)attempt,
        .slot = 7,
        .member = "mailer",
        .group = "mailers",
        .log = "test.orders",
        .partition = 3,
        .position = 4711,
    };
    snprintf(note.error, sizeof note.error, "%s", error);
    return note;
}

static uint64_t add(struct fixture *f, uint32_t attempt, const char *error, uint64_t before)
{
    struct note note = note_of(attempt, error);
    return notes_add(&f->bus->memory, own_claim(f->bus), &note, event_id, before);
}

Test(notes, the_chain_of_an_event_is_read_newest_first)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct note notes[5];
    uint64_t last = 0;
    static const char *const errors[] = {"", "no connection", "a \"quoted\" text"};
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t before = last;
        last = add(&f, i + 1, errors[i], before);
        cr_assert_gt(last, before);
    }
    cr_assert_eq(notes_read(&f.bus->memory, last, event_id, notes, 5), 3u);
    for (uint32_t i = 0; i < 3; i++) {
        struct note expected = note_of(3 - i, errors[2 - i]);
        cr_expect_eq(notes[i].attempt, expected.attempt);
        cr_expect_eq(notes[i].cause, expected.cause);
        cr_expect_eq(notes[i].at_ns, expected.at_ns);
        cr_expect_eq(notes[i].took_ns, expected.took_ns);
        cr_expect_eq(notes[i].slot, expected.slot);
        cr_expect_str_eq(notes[i].member, expected.member);
        cr_expect_str_eq(notes[i].group, expected.group);
        cr_expect_str_eq(notes[i].log, expected.log);
        cr_expect_eq(notes[i].partition, expected.partition);
        cr_expect_eq(notes[i].position, expected.position);
        cr_expect_str_eq(notes[i].error, expected.error);
    }
    cr_expect_eq(notes_read(&f.bus->memory, last, event_id, notes, 2), 2u, "no more than were asked for");
    cr_expect_eq(notes[1].attempt, 2u);
    cr_expect_eq(notes_read(&f.bus->memory, 0, event_id, notes, 5), 0u, "none");
    fixture_end(&f);
}

Test(notes, a_text_of_512_bytes_is_kept_whole)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    char longest[NOTES_TEXT_MAX + 1];
    struct note found;
    memset(longest, 'x', NOTES_TEXT_MAX);
    longest[NOTES_TEXT_MAX] = '\0';
    cr_assert_eq(notes_read(&f.bus->memory, add(&f, 1, longest, 0), event_id, &found, 1), 1u);
    cr_expect_str_eq(found.error, longest);
    fixture_end(&f);
}

Test(notes, a_note_is_a_frame_of_kind_NOTE_with_its_events_id)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    uint64_t pos = add(&f, 1, "why", 0) - 1;
    struct memory_log *log = memory_internal_log(&f.bus->memory, MEMORY_NOTES_LOG);
    struct frame_header header;
    cr_assert_eq(ring_copy_header(&log->rings[0], pos, &header), RING_COMMITTED);
    cr_expect_eq(header.kind, FRAME_NOTE);
    cr_expect_eq(header.topic, MEMORY_NOTES_TOPIC);
    cr_expect_arr_eq(header.id, event_id, 16);
    cr_expect_str_eq(log->head->name, "test.evbus");
    fixture_end(&f);
}

Test(notes, what_the_ring_has_overwritten_is_left_out)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    uint64_t first = add(&f, 1, "old", 0);
    cr_assert_neq(first, 0u);
    for (int i = 0; i < 200; i++)
        cr_assert_neq(add(&f, 9, "others'", 0), 0u, "a full ring makes room for notes");
    uint64_t last = add(&f, 2, "new", first);
    struct note notes[3];
    cr_assert_eq(notes_read(&f.bus->memory, last, event_id, notes, 3), 1u);
    cr_expect_str_eq(notes[0].error, "new");
    cr_expect_eq(notes_read(&f.bus->memory, first, event_id, notes, 3), 0u);
    fixture_end(&f);
}

/* Until they are replaced by later frames, cells of a lost note hold anything: never an older or another's note as if ours. */
Test(notes, a_chain_that_does_not_go_backwards_ends)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct note notes[4];
    uint64_t first = add(&f, 1, "one", 0);
    uint64_t loop = add(&f, 2, "two", UINT64_C(1) << 40);
    cr_expect_eq(notes_read(&f.bus->memory, loop, event_id, notes, 4), 1u, "it points ahead");
    cr_expect_eq(notes_read(&f.bus->memory, first + 1, event_id, notes, 4), 0u, "inside a frame");
    cr_expect_eq(notes_read(&f.bus->memory, loop + 1000, event_id, notes, 4), 0u, "beyond the tail");
    cr_expect_eq(notes_read(&f.bus->memory, UINT64_MAX, event_id, notes, 4), 0u, "damaged");
    fixture_end(&f);
}

Test(notes, another_events_note_is_none_of_its_own)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    static const uint8_t other[16] = {9};
    struct note note = note_of(1, "other");
    struct note found[2];
    uint64_t foreign = notes_add(&f.bus->memory, own_claim(f.bus), &note, other, 0);
    cr_expect_eq(notes_read(&f.bus->memory, foreign, event_id, found, 2), 0u);
    cr_expect_eq(notes_read(&f.bus->memory, foreign, other, found, 2), 1u);
    cr_expect_eq(notes_read(&f.bus->memory, add(&f, 2, "own", foreign), event_id, found, 2), 1u, "nor behind its own");
    fixture_end(&f);
}

Test(notes, a_frame_that_is_no_note_is_none)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory_log *log = memory_internal_log(&f.bus->memory, MEMORY_NOTES_LOG);
    uint64_t buffer[64 * CELL_WORDS];
    char payload[900];
    struct note notes[1];
    memset(payload, ' ', sizeof payload);
    static const struct {
        const char *label;
        enum frame_kind kind;
        uint32_t len;
    } rows[] = {
        {"an event", FRAME_EVENT, 200},
        {"a note that is cut", FRAME_NOTE, 8},
        {"a note that is too long", FRAME_NOTE, 850},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct frame frame = {
            .kind = rows[i].kind, .topic = 1, .major = 1, .payload = payload, .payload_len = rows[i].len};
        uint64_t pos;
        frame_build(&frame, buffer);
        cr_assert_eq(partition_append(&log->rings[0], own_claim(f.bus), buffer, frame_cells(0, 0, rows[i].len),
                                      &(struct partition_wait){0}, &pos, NULL),
                     EVBUS_OK);
        cr_expect_eq(notes_read(&f.bus->memory, pos + 1, event_id, notes, 1), 0u, "%s", rows[i].label);
    }
    fixture_end(&f);
}

Test(notes, without_room_the_note_before_stays_the_newest)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct memory_log *log = memory_internal_log(&f.bus->memory, MEMORY_NOTES_LOG);
    uint64_t first = add(&f, 1, "kept", 0);
    ring_pin(&log->rings[0], 0, 0); /* somebody reads them with a pin */
    atomic_store(&log->head->pin_owners[0], PIN_OWNER(1, 0));
    uint64_t last = first;
    for (int i = 0; i < 50; i++)
        last = add(&f, 2, "too many", first);
    cr_expect_eq(last, first, "a note is never worth an event");
    fixture_end(&f);
}
