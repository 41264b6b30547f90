/* test_corrupt.c: any bytes in a ring are an error that is told, or are read over: no crash, no hang, no silence.
 *
 * First on a ring of our own, in memory of exactly its size, so that a sanitizer sees any step out of it; then through the
 * calls of a service on a real bus. Mutexes of slots are left alone: whoever writes into those owns the process [R18].
 * Random tests print their seed and, where they fail, the round; EVBUS_SEED=<number> takes it back. */
#include "burial.h"
#include "bus.h"
#include "clock.h"
#include "cursor.h"
#include "fixture.h"
#include "partition.h"
#include "provide.h"
#include "scribble.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define CELLS   UINT64_C(64)
#define SALT    UINT64_C(0x5a17ed0c0ffee123)
#define MS      UINT64_C(1000000)

/* ---- chance ---- */

static uint64_t take_seed(void)
{
    const char *given = getenv("EVBUS_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)clock();
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static int rounds(int n)
{
    return getenv("EVBUS_QUICK") != NULL ? n / 8 : n;
}

/* ---- a ring of our own ---- */

struct bed {
    struct slot *slots;
    struct ring ring;
    void *memory;
    void *good; /* a copy of it, to repair it with */
    uint64_t *buffer;
    struct topic_set wanted;
    unsigned sum; /* of all bytes that were given out: they have been read */
};

static int append(struct bed *bed, const char *payload, uint64_t *out_pos, struct error *err)
{
    uint64_t bytes[16 * CELL_WORDS];
    struct claim claim = {.slot = 1};
    struct frame frame = {.kind = FRAME_EVENT, .topic = 1, .key = "k", .key_len = 1, .major = 1};
    frame.payload = payload;
    frame.payload_len = (uint32_t)strlen(payload);
    frame_build(&frame, bytes);
    int rc = partition_append(&bed->ring, &claim, bytes, frame_cells(1, 0, frame.payload_len),
                              &(struct partition_wait){0}, out_pos, err);
    cr_assert_null(claim.ring);
    return rc;
}

static struct bed bed_make(void)
{
    size_t n_bytes = ring_bytes(CELLS);
    struct bed bed = {.slots = aligned_alloc(64, (SLOTS_MAX + 1) * sizeof(struct slot)),
                      .memory = aligned_alloc(64, n_bytes),
                      .good = malloc(n_bytes)};
    cr_assert(bed.slots != NULL && bed.memory != NULL && bed.good != NULL);
    memset(bed.slots, 0, (SLOTS_MAX + 1) * sizeof(struct slot));
    memset(bed.memory, 0, n_bytes);
    ring_make(bed.memory, SALT);
    ring_view(&bed.ring, bed.memory, CELLS, bed.slots, "test.a", 3);
    bed.buffer = malloc((size_t)bed.ring.frame_cells_max * CELL_BYTES);
    cr_assert_not_null(bed.buffer);
    topic_set_add(&bed.wanted, 1);
    static const char *const payloads[] = {
        "1", "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24]", "{}",
        "\"0123456789012345678901234567890123456789012345678901234567890123456789\""};
    for (size_t i = 0; i < 100; i++) { /* some laps, and then a ring that is half full */
        struct error err = {""};
        uint64_t pos;
        cr_assert_eq(append(&bed, payloads[i % N(payloads)], &pos, &err), EVBUS_OK, "%s", err.text);
        if (i == 85)
            ring_pin(&bed.ring, 0, ring_tail(&bed.ring));
    }
    ring_release(&bed.ring, CELLS);
    ring_unpin(&bed.ring, 0);
    memcpy(bed.good, bed.memory, n_bytes);
    return bed;
}

static void bed_repair(struct bed *bed)
{
    memcpy(bed->memory, bed->good, ring_bytes(CELLS));
}

static void bed_end(struct bed *bed)
{
    free(bed->slots);
    free(bed->memory);
    free(bed->good);
    free(bed->buffer);
}

static struct cursor cursor_at(struct bed *bed, uint64_t pos)
{
    struct cursor cursor = {.ring = &bed->ring, .wanted = &bed->wanted, .pin = CURSOR_NO_PIN};
    atomic_store(&cursor.pos, pos);
    return cursor;
}

/* Reads until nothing is left or it stands still. Returns how many events came; -1 - events: and damage was told. */
static int read_all(struct bed *bed, struct cursor *cursor, const char *what)
{
    int n_events = 0;
    bool is_told = false;
    for (int i = 0; i < 400; i++) {
        struct frame frame;
        struct error err = {""};
        uint64_t wait_ns = UINT64_MAX;
        uint64_t before = cursor_pos(cursor);
        switch (cursor_next(cursor, bed->buffer, true, &frame, &wait_ns, &err)) {
        case CURSOR_EVENT: {
            const char *end = (const char *)bed->buffer + (size_t)bed->ring.frame_cells_max * CELL_BYTES;
            cr_assert(frame.payload_len <= (size_t)(end - (const char *)frame.payload), "%s: a payload of %u bytes",
                      what, frame.payload_len);
            for (size_t k = 0; k < frame.payload_len; k++)
                bed->sum += ((const unsigned char *)frame.payload)[k];
            for (size_t k = 0; k < frame.key_len; k++)
                bed->sum += (unsigned char)frame.key[k];
            n_events++;
            break;
        }
        case CURSOR_FAILED:
        case CURSOR_CORRUPT: {
            char where[64];
            snprintf(where, sizeof where, "test.a/3 at %" PRIu64 ":", before);
            cr_assert(strncmp(err.text, "test.a/3 at ", 12) == 0, "%s: the message does not say where: %s", what,
                      err.text);
            is_told = true;
            if (cursor_pos(cursor) == before)
                return -1 - n_events;
            break;
        }
        case CURSOR_NOTHING:
            if (wait_ns == UINT64_MAX)
                return is_told ? -1 - n_events : n_events;
            cursor->blocked.since_ns = 1; /* its patience is over */
            break;
        }
    }
    cr_assert_fail("%s: it is read without an end", what);
    return 0;
}

/* A reader, a producer, a keeper and an undertaker at a damaged ring. */
static void live_with_it(struct bed *bed, uint64_t *seed, const char *what)
{
    struct error err = {""};
    uint64_t pos = 0;
    uint64_t starts[] = {ring_released(&bed->ring), ring_tail(&bed->ring), trial_random(seed) % 500,
                         scribble_edge(seed, 200)};
    for (size_t i = 0; i < N(starts); i++) {
        struct cursor cursor = cursor_at(bed, starts[i]);
        read_all(bed, &cursor, what);
    }
    for (int i = 0; i < 3; i++) {
        int rc = append(bed, "[1]", &pos, &err);
        cr_assert(rc == EVBUS_OK || rc == EVBUS_EFULL || rc == EVBUS_ECORRUPT || rc == EVBUS_EEXHAUSTED, "%s: %d %s",
                  what, rc, err.text);
        cr_assert(rc == EVBUS_OK || strncmp(err.text, "test.a/3 ", 9) == 0, "%s: %s", what, err.text);
    }
    ring_make_room(&bed->ring, pos);
    ring_release(&bed->ring, CELLS / 8);
    burial_bury_ring(&bed->ring, (uint32_t)trial_random(seed) & SLOTS_MAX);
    ring_pin_move(&bed->ring, 3, ring_pin(&bed->ring, 3, scribble_edge(seed, 200)), true);
    ring_unpin(&bed->ring, 3);
    ring_resync(&bed->ring, scribble_edge(seed, 200));
}

Test(corrupt, any_damage_to_a_ring_is_told_or_read_over, .timeout = 120)
{
    struct bed bed = bed_make();
    uint64_t seed = take_seed();
    struct scribble_ring target = scribble_ring_of(&bed.ring);
    int n = rounds(20000);
    for (int round = 0; round < n; round++) {
        char what[64];
        snprintf(what, sizeof what, "round %d", round);
        bed_repair(&bed);
        for (uint64_t i = 0; i < 1 + trial_random(&seed) % 4; i++)
            scribble_on_ring(&target, &seed);
        live_with_it(&bed, &seed, what);
    }
    bed_end(&bed);
}

/* Never repaired: damage upon damage. */
Test(corrupt, damage_upon_damage_is_told_or_read_over, .timeout = 120)
{
    struct bed bed = bed_make();
    uint64_t seed = take_seed();
    struct scribble_ring target = scribble_ring_of(&bed.ring);
    int n = rounds(20000);
    for (int round = 0; round < n; round++) {
        char what[64];
        snprintf(what, sizeof what, "round %d", round);
        if (round % 50 == 0)
            bed_repair(&bed);
        scribble_on_ring(&target, &seed);
        live_with_it(&bed, &seed, what);
    }
    bed_end(&bed);
}

Test(corrupt, a_ring_of_nothing_but_noise_is_told_or_read_over, .timeout = 120)
{
    struct bed bed = bed_make();
    uint64_t seed = take_seed();
    int n = rounds(4000);
    for (int round = 0; round < n; round++) {
        char what[64];
        snprintf(what, sizeof what, "round %d", round);
        uint64_t *at = bed.memory;
        for (size_t i = 0; i < ring_bytes(CELLS) / 8; i++)
            at[i] = round % 4 == 0 ? 0 : round % 4 == 1 ? UINT64_MAX : trial_random(&seed) >> trial_random(&seed) % 64;
        live_with_it(&bed, &seed, what);
    }
    bed_end(&bed);
}

/* ---- each field, each edge ---- */

enum field { TAIL, RELEASED_WORD, SALT_WORD, SPACE, SPACE_WANTED, TURN, PIN_0, PIN_LAST, WORD, WORD_OF_NEXT };

static void set_field(struct bed *bed, enum field field, uint64_t value)
{
    struct ring_head *head = bed->ring.head;
    uint64_t released = ring_released(&bed->ring), tail = ring_tail(&bed->ring);
    switch (field) {
    case TAIL:
        atomic_store(&head->tail, value);
        break;
    case RELEASED_WORD:
        atomic_store(&head->released, value);
        break;
    case SALT_WORD:
        head->salt = value;
        break;
    case SPACE:
        atomic_store(&head->space, (uint32_t)value);
        break;
    case SPACE_WANTED:
        atomic_store(&head->space_wanted, (uint32_t)value);
        break;
    case TURN:
        atomic_store(&head->release_turn, value);
        break;
    case PIN_0:
        atomic_store(&head->lows[0], value);
        break;
    case PIN_LAST:
        atomic_store(&head->lows[PINS_MAX - 1], value);
        break;
    case WORD:
        atomic_store(&bed->ring.words[ring_index(&bed->ring, released)], value);
        break;
    case WORD_OF_NEXT:
        atomic_store(&bed->ring.words[ring_index(&bed->ring, tail)], value);
        break;
    }
}

Test(corrupt, every_field_of_a_ring_may_hold_anything)
{
    static const char *const labels[] = {
        "tail",         "released",      "salt",         "space",           "space_wanted",
        "release_turn", "the first pin", "the last pin", "the oldest word", "the word at the tail"};
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      15,
                                      16,
                                      17,
                                      63,
                                      64,
                                      65,
                                      127,
                                      128,
                                      INT32_MAX,
                                      UINT32_MAX,
                                      (UINT64_C(1) << 32),
                                      POSITION_LIMIT,
                                      (UINT64_C(1) << 48) - 1,
                                      UINT64_C(1) << 48,
                                      INT64_MAX - 1,
                                      INT64_MAX,
                                      (uint64_t)INT64_MIN,
                                      UINT64_MAX - 1,
                                      UINT64_MAX};
    struct bed bed = bed_make();
    uint64_t seed = 1;
    for (int field = TAIL; field <= WORD_OF_NEXT; field++)
        for (size_t i = 0; i < N(values); i++)
            for (uint32_t shift = 0; shift < 64; shift += 16) { /* within each part of the field */
                char what[128];
                snprintf(what, sizeof what, "%s = %#" PRIx64, labels[field], values[i] << shift);
                bed_repair(&bed);
                set_field(&bed, (enum field)field, values[i] << shift);
                live_with_it(&bed, &seed, what);
            }
    bed_end(&bed);
}

Test(corrupt, every_byte_of_a_header_may_hold_anything)
{
    static const unsigned char values[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
    struct bed bed = bed_make();
    for (size_t at = 0; at < CELL_BYTES + 32; at++)
        for (size_t i = 0; i < N(values); i++) {
            char what[128];
            snprintf(what, sizeof what, "byte %zu = %#x", at, values[i]);
            bed_repair(&bed);
            uint64_t released = ring_released(&bed.ring);
            ((unsigned char *)&bed.ring.cells[ring_index(&bed.ring, released) * CELL_WORDS])[at] = values[i];
            struct cursor cursor = cursor_at(&bed, released);
            read_all(&bed, &cursor, what);
        }
    bed_end(&bed);
}

/* What a reader must say, and that it goes on behind it where something whole is left. */
Test(corrupt, a_reader_tells_damage_and_goes_on)
{
    enum { NO_LAP, NEXT_LAP, NO_CELLS, TOO_LONG, ACROSS, NOBODYS_CLAIM, POSITION, HEADER_CELLS, FORMAT, PAYLOAD_LEN };
    static const struct {
        const char *label;
        int damage;
    } rows[] = {
        {"a word of no lap", NO_LAP},
        {"a word of the next lap", NEXT_LAP},
        {"a word of no cells", NO_CELLS},
        {"a word of too many", TOO_LONG},
        {"a word across the end", ACROSS},
        {"a claim by nobody", NOBODYS_CLAIM},
        {"a header of another position", POSITION},
        {"a header of too many cells", HEADER_CELLS},
        {"a header of another format", FORMAT},
        {"a payload that does not fit", PAYLOAD_LEN},
    };
    struct bed bed = bed_make();
    struct cursor whole = cursor_at(&bed, ring_released(&bed.ring));
    int n_whole = read_all(&bed, &whole, "undamaged");
    cr_assert_geq(n_whole, 5);
    for (size_t i = 0; i < N(rows); i++) {
        bed_repair(&bed);
        uint64_t pos = ring_released(&bed.ring);
        uint64_t lap = ring_lap(&bed.ring, pos);
        struct frame_header *header = (struct frame_header *)(void *)&bed.ring.cells[ring_index(&bed.ring, pos) * 8];
        uint32_t payload_len = UINT32_MAX;
        uint64_t word = 0;
        bool is_word = true;
        switch (rows[i].damage) {
        case NO_LAP:
            break;
        case NEXT_LAP:
            word = word_make(lap + 1, WORD_COMMITTED, 1, 2);
            break;
        case NO_CELLS:
            word = word_make(lap, WORD_COMMITTED, 1, 0);
            break;
        case TOO_LONG:
            word = word_make(lap, WORD_COMMITTED, 1, bed.ring.frame_cells_max + 1);
            break;
        case ACROSS:
            word = word_make(lap, WORD_PAD, 0, FRAME_CELLS_MAX);
            break;
        case NOBODYS_CLAIM:
            word = word_make(lap, WORD_CLAIMED, 0, 2);
            break;
        case POSITION:
            header->position++;
            is_word = false;
            break;
        case HEADER_CELLS:
            header->n_cells = UINT16_MAX;
            is_word = false;
            break;
        case FORMAT:
            header->format++;
            is_word = false;
            break;
        case PAYLOAD_LEN:
            memcpy((char *)header + CELL_BYTES + 8 + 4, &payload_len, 4);
            is_word = false;
            break;
        }
        if (is_word) { /* the stamp alone would do */
            header->stamp = 0;
            atomic_store(&bed.ring.words[ring_index(&bed.ring, pos)], word);
        }
        struct cursor cursor = cursor_at(&bed, pos);
        int n = read_all(&bed, &cursor, rows[i].label);
        cr_expect_eq(n, -1 - (n_whole - 1), "%s: told %d, and %d of %d events", rows[i].label, n < 0,
                     n < 0 ? -1 - n : n, n_whole);
    }
    bed_end(&bed);
}

/* A reader must not walk away to where nothing will ever be. */
Test(corrupt, a_gate_beyond_the_tail_is_told)
{
    static const uint64_t beyond[] = {1, 2, CELLS, CELLS * 100, UINT64_C(1) << 40};
    struct bed bed = bed_make();
    for (size_t i = 0; i < N(beyond); i++) {
        bed_repair(&bed);
        uint64_t pos = ring_released(&bed.ring);
        atomic_store(&bed.ring.head->released, RELEASED(ring_tail(&bed.ring) + beyond[i], 0));
        struct cursor cursor = cursor_at(&bed, pos);
        cr_expect_lt(read_all(&bed, &cursor, "a gate beyond the tail"), 0, "%" PRIu64 " cells beyond: silence",
                     beyond[i]);
    }
    bed_end(&bed);
}

/* Whoever has read a frame stands before the tail, or at it; else what is published next stands where he has been. */
Test(corrupt, a_reader_beyond_the_tail_is_told, .timeout = 10)
{
    enum { TAIL_WENT_BACK, HEADER_TOO_LONG };
    static const struct {
        const char *label;
        int damage;
    } rows[] = {{"a tail that went back", TAIL_WENT_BACK}, {"a last frame that says it is longer", HEADER_TOO_LONG}};
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        struct error err = {""};
        uint64_t last = 0, pos;
        for (int k = 0; k < 2; k++)
            cr_assert_eq(append(&bed, "[1]", &last, &err), EVBUS_OK, "%s", err.text);
        struct cursor cursor = cursor_at(&bed, last);
        if (rows[i].damage == HEADER_TOO_LONG)
            ((struct frame_header *)(void *)&bed.ring.cells[ring_index(&bed.ring, last) * CELL_WORDS])->n_cells = 16;
        int n = read_all(&bed, &cursor, rows[i].label);
        if (rows[i].damage == TAIL_WENT_BACK)
            atomic_store(&bed.ring.head->tail, last - 1);
        if (append(&bed, "[2]", &pos, &err) == EVBUS_OK)
            cr_expect(n < 0 || read_all(&bed, &cursor, rows[i].label) != 0,
                      "%s: what was published at %" PRIu64 " is not heard, and nothing is told", rows[i].label, pos);
        bed_end(&bed);
    }
}

/* ---- a bus, by the calls of a service ---- */

/* The first place where a ring differs from what it was. */
static const char *describe(const struct scribble_ring *target, const void *good)
{
    static char text[160];
    const unsigned char *now = (const unsigned char *)target->head, *before = good;
    size_t at = 0;
    while (at < target->n_bytes && now[at] == before[at])
        at++;
    size_t words_at = sizeof(struct ring_head), cells_at = words_at + target->n_cells * sizeof(uint64_t);
    uint64_t was = 0, is = 0;
    if (at < target->n_bytes) {
        memcpy(&was, before + at / 8 * 8, 8);
        memcpy(&is, now + at / 8 * 8, 8);
    }
    snprintf(text, sizeof text, "%s %zu, byte %zu, from %#" PRIx64 " to %#" PRIx64,
             at < words_at   ? "head"
             : at < cells_at ? "word"
                             : "cell",
             at < words_at   ? at
             : at < cells_at ? (at - words_at) / 8
                             : (at - cells_at) / CELL_BYTES,
             at < cells_at ? at % 8 : (at - cells_at) % CELL_BYTES, was, is);
    return text;
}

static void ignore(void *context, const struct evbus_finding *finding)
{
    unsigned *n = context;
    *n += (unsigned)(strlen(finding->what) + strlen(finding->mend)) > 0;
}

static unsigned n_bytes_read;

/* Reads until nothing comes any more; true: damage was told. *out_has_marker: the payload came. */
static bool drain(struct evbus_reader *reader, uint64_t timeout_ns, const char *marker, bool *out_has_marker, int round)
{
    bool is_told = false;
    int n_quiet = 0;
    for (int i = 0; i < 400 && n_quiet < (timeout_ns != 0 ? 3 : 1); i++) {
        struct evbus_delivery got = {.size = sizeof got};
        int rc = evbus_reader_next(reader, &got, timeout_ns);
        cr_assert(rc == EVBUS_OK || rc == EVBUS_ETIMEOUT || rc == EVBUS_ECORRUPT, "round %d: %d %s", round, rc,
                  evbus_message(NULL));
        if (rc == EVBUS_OK) {
            cr_assert_eq(strlen(got.key), got.key_len > 0 ? strlen(got.key) : 0);
            for (size_t k = 0; k <= got.payload_len; k++) /* and the NUL behind it */
                n_bytes_read += ((const unsigned char *)got.payload)[k];
            n_bytes_read += (unsigned)(strlen(got.topic) + strlen(got.service) + strlen(got.log));
            if (got.payload_len == strlen(marker) && memcmp(got.payload, marker, got.payload_len) == 0)
                *out_has_marker = true;
        } else if (rc == EVBUS_ECORRUPT) {
            cr_assert(strncmp(evbus_message(NULL), "test.a/0 at ", 12) == 0, "round %d: %s", round,
                      evbus_message(NULL));
            if (is_told && i > 100)
                return true; /* it stands still, and says so each time */
            is_told = true;
        } else {
            n_quiet++;
        }
    }
    return is_told;
}

static void assert_bounded(uint64_t start_ns, int round, const char *what)
{
    uint64_t took = clock_mono_ns() - start_ns;
    cr_assert_lt(took, 5000 * MS, "round %d: %s took %" PRIu64 " ms", round, what, took / MS);
}

/* Whatever stands in the ring: each call returns, with what its page promises; and whoever publishes with success is heard by
 * a reader that was told of no damage. */
static void scribble_on_a_bus(int n, uint64_t timeout_ns, bool tests_silence)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct memory_log *log = &f.bus->memory.logs[0];
    struct scribble_ring target = scribble_ring_of(&log->rings[0]);
    uint64_t seed = take_seed();
    struct evbus_delivery got = {.size = sizeof got};
    struct evbus_reader *before;
    cr_assert_eq(evbus_reader_open(&before, f.bus, NULL), EVBUS_OK);
    evbus_reader_next(before, &got, 2 * MS); /* takes its place among the sleepers */
    evbus_reader_close(before);
    for (int i = 0; i < 40; i++)
        cr_assert_eq(fixture_publish(f.bus, i % 2 == 0 ? "key" : NULL, "{\"a\":[1,2,3]}"), EVBUS_OK);
    void *good = malloc(log->region.len_bytes);
    cr_assert_not_null(good);
    memcpy(good, log->region.base, log->region.len_bytes);
    for (int round = 0; round < n; round++) {
        struct evbus_reader *after;
        struct evbus_stat stat = {.size = sizeof stat};
        char marker[32];
        bool has_marker = false, is_there = false;
        unsigned n_findings = 0;
        snprintf(marker, sizeof marker, "%d", 1000000 + round);
        memcpy(log->region.base, good, log->region.len_bytes);
        struct evbus_reader_options options = {.from = round % 2 == 0 ? EVBUS_FROM_EARLIEST : EVBUS_FROM_LATEST,
                                               .pin = !tests_silence && round % 5 == 0};
        cr_assert_eq(evbus_reader_open(&before, f.bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
        for (uint64_t i = 0; i < (tests_silence ? 1 : 1 + trial_random(&seed) % 3); i++)
            scribble_on_ring(&target, &seed);
        char change[160];
        strcpy(change,
               describe(&target, (const char *)good + ((const char *)target.head - (const char *)log->region.base)));
        uint64_t start = clock_mono_ns();
        bool is_told = drain(before, timeout_ns, marker, &has_marker, round);
        struct evbus_event event = {.topic = "test.a.one", .payload = marker};
        int rc = evbus_publish(f.bus, &event, NULL);
        cr_assert(rc == EVBUS_OK || rc == EVBUS_EFULL || rc == EVBUS_ECORRUPT || rc == EVBUS_EEXHAUSTED,
                  "round %d: %d %s", round, rc, evbus_message(NULL));
        is_told = drain(before, timeout_ns, marker, &has_marker, round) || is_told;
        assert_bounded(start, round, "reading");
        if (tests_silence && rc == EVBUS_OK)
            cr_expect(has_marker || is_told, "round %d: an event was published and never heard, nor damage told: %s",
                      round, change);
        options = (struct evbus_reader_options){.from = EVBUS_FROM_EARLIEST};
        cr_assert_eq(evbus_reader_open(&after, f.bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
        drain(after, 0, marker, &is_there, round);
        cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK, "round %d: %s", round, evbus_message(NULL));
        rc = evbus_doctor(f.bus, ignore, &n_findings);
        cr_assert(rc == EVBUS_OK || rc == EVBUS_ENOTFOUND, "round %d: %d", round, rc);
        cr_assert(rc == EVBUS_OK || n_findings > 0);
        evbus_reader_close(after);
        evbus_reader_close(before);
        assert_bounded(start, round, "the round");
    }
    memcpy(log->region.base, good, log->region.len_bytes);
    free(good);
    fixture_end(&f);
}

Test(corrupt, every_call_returns_whatever_stands_in_the_ring, .timeout = 120)
{
    scribble_on_a_bus(rounds(4000), 0, false);
}

/* One thing is wrong: either damage is told, or what is published afterwards is read. */
Test(corrupt, damage_never_makes_a_reader_deaf_in_silence, .timeout = 120)
{
    scribble_on_a_bus(rounds(800), MS, true);
}

/* What stands before the rings: names, sleepers, owners of pins. */
Test(corrupt, every_call_returns_whatever_stands_in_the_head_of_a_log, .timeout = 120)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct memory_log *log = &f.bus->memory.logs[0];
    uint64_t seed = take_seed();
    void *good = malloc(log->region.len_bytes);
    cr_assert_not_null(good);
    cr_assert_eq(fixture_publish(f.bus, NULL, "1"), EVBUS_OK);
    memcpy(good, log->region.base, log->region.len_bytes);
    int n = rounds(1500);
    for (int round = 0; round < n; round++) {
        struct evbus_reader *reader;
        struct evbus_delivery got = {.size = sizeof got};
        struct evbus_stat stat = {.size = sizeof stat};
        struct evbus_event event = {.topic = "test.a.one", .payload = "1"};
        unsigned n_findings = 0;
        memcpy(log->region.base, good, log->region.len_bytes);
        size_t from = offsetof(struct log_head, n_partitions); /* what stands before it was looked at by open */
        for (uint64_t i = 0; i < 1 + trial_random(&seed) % 6; i++) {
            size_t at = from + trial_random(&seed) % (sizeof *log->head - from);
            if (trial_random(&seed) % 3 == 0)
                at = offsetof(struct log_head, sleeping) + trial_random(&seed) % (sizeof log->head->sleeping);
            if (trial_random(&seed) % 5 == 0)
                at = offsetof(struct log_head, n_topics) + trial_random(&seed) % 4;
            for (size_t k = at; k < at + trial_random(&seed) % 300 && k < sizeof *log->head; k++)
                ((unsigned char *)log->head)[k] = trial_random(&seed) % 2 == 0 ? 0xff
                                                                               : (unsigned char)trial_random(&seed);
        }
        uint64_t start = clock_mono_ns();
        int rc = evbus_reader_open(&reader, f.bus, &(struct evbus_reader_options){.from = EVBUS_FROM_EARLIEST});
        cr_assert(rc == EVBUS_OK || rc == EVBUS_ECORRUPT, "round %d: %d %s", round, rc, evbus_message(NULL));
        if (rc == EVBUS_OK) {
            for (int i = 0; i < 20 && rc != EVBUS_ETIMEOUT; i++)
                rc = evbus_reader_next(reader, &got, i % 4 == 3 ? MS / 10 : 0);
            evbus_reader_close(reader);
        }
        rc = evbus_publish(f.bus, &event, NULL);
        cr_assert(rc == EVBUS_OK || rc == EVBUS_ECORRUPT || rc == EVBUS_ENOTFOUND || rc == EVBUS_EFULL,
                  "round %d: %d %s", round, rc, evbus_message(NULL));
        cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
        evbus_doctor(f.bus, ignore, &n_findings);
        assert_bounded(start, round, "the round");
    }
    memcpy(log->region.base, good, log->region.len_bytes);
    free(good);
    fixture_end(&f);
}

/* ---- names ---- */

/* What a log is was settled when it was opened: nobody waits for a disk because a bit has turned since. */
Test(corrupt, a_log_keeps_its_ack_level_whatever_stands_in_memory)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    memset(&f.bus->memory.logs[0].head->n_partitions, 0xff,
           offsetof(struct log_head, name) - offsetof(struct log_head, n_partitions));
    uint64_t start = clock_mono_ns();
    cr_assert_eq(fixture_publish(f.bus, NULL, "1"), EVBUS_OK, "%s", evbus_message(NULL));
    assert_bounded(start, 0, "publishing");
    fixture_end(&f);
}

/* Names that are given out, or printed, are never read from where they may have lost their end. */
Test(corrupt, a_log_keeps_its_name_whatever_stands_in_memory)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct memory_log *log = &f.bus->memory.logs[0];
    struct evbus_event event = {.topic = "test.a.one", .payload = "1"};
    struct evbus_receipt receipt = {.size = sizeof receipt};
    struct evbus_delivery got = {.size = sizeof got};
    struct evbus_stat stat = {.size = sizeof stat};
    const char *const patterns[] = {"test.a.*"};
    struct evbus_reader_options options = {.patterns = patterns, .n_patterns = 1, .from = EVBUS_FROM_EARLIEST};
    struct evbus_reader *reader;
    memset(log->head->name, 'x', sizeof log->head->name);
    cr_assert_eq(evbus_publish(f.bus, &event, &receipt), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_str_eq(receipt.log, "test.a");
    cr_assert_eq(evbus_reader_open(&reader, f.bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_str_eq(got.log, "test.a");
    cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
    cr_expect_str_eq(stat.partitions[0].log, "test.a");
    log->rings[0].head->salt++; /* no stamp is right, so the words decide; and this one is no evbus's */
    atomic_store(&log->rings[0].words[ring_index(&log->rings[0], ring_tail(&log->rings[0]))], UINT64_MAX);
    cr_assert_eq(evbus_reader_next(reader, &got, MS), EVBUS_ECORRUPT);
    cr_expect(strncmp(evbus_message(NULL), "test.a/0 at ", 12) == 0, "%s", evbus_message(NULL));
    evbus_reader_close(reader);
    fixture_end(&f);
}

static int check_group(void *context, const struct evbus_group_stat *group)
{
    cr_expect_lt(strlen(group->group), SERVICE_BYTES);
    for (size_t i = 0; i < group->n_topics; i++)
        cr_expect_lt(strlen(group->topics[i]), NAME_BYTES, "topic %zu: %zu bytes", i, strlen(group->topics[i]));
    *(size_t *)context += group->n_topics;
    return EVBUS_OK;
}

Test(corrupt, a_group_shows_names_that_end)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    const char *const patterns[] = {"test.a.*"};
    struct evbus_group_options options = {.group = "g", .patterns = patterns, .n_patterns = 1};
    size_t n_topics = 0;
    cr_assert_eq(evbus_group_add(f.bus, &options), EVBUS_OK, "%s", evbus_message(NULL));
    memset(f.bus->memory.logs[0].head->topics, 'x', sizeof f.bus->memory.logs[0].head->topics);
    memset(f.bus->memory.control->groups[0].name, 'x', SERVICE_BYTES);
    cr_assert_eq(evbus_groups(f.bus, check_group, &n_topics), EVBUS_OK);
    cr_expect_eq(n_topics, 2);
    fixture_end(&f);
}

/* A bus's administrator writes topics' names into its rings: as many as there can be, each as long as it can be. */
Test(corrupt, topics_that_cannot_be_are_not_written_about)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct memory_log *log = &f.bus->memory.logs[0];
    struct error err = {""};
    atomic_store(&log->head->n_topics, TOPICS_MAX + 1);
    cr_expect_eq(provide_names(log, TOPICS_MAX, 1, &err), EVBUS_ECORRUPT, "%s", err.text);
    cr_expect(strstr(err.text, "test.a") != NULL, "it does not say where: %s", err.text);
    atomic_store(&log->head->n_topics, UINT32_MAX);
    cr_expect_eq(provide_names(log, 0, 1, &err), EVBUS_ECORRUPT, "%s", err.text);
    atomic_store(&log->head->n_topics, 2);
    memset(log->head->topics, 'x', sizeof log->head->topics);
    cr_expect_eq(provide_names(log, 0, 1, &err), EVBUS_OK, "%s", err.text);
    fixture_end(&f);
}
