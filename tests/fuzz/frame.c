/* frame.c: any cells are a frame whose every slice lies in them, or an error; parsed alone, and out of a ring as
 * readers do.
 *
 * Input: a byte of switches, then the frame's cells, filled up with zeroes. Stamp and position are put right, as no
 * fuzzer would guess them, unless a switch leaves them as they are. */
#include "frame.h"

#include "cursor.h"
#include "notes.h"

#include "fuzz.h"

enum { NO_STAMP = 1, AS_GIVEN = 2 /* stamp and position */, IS_PAD = 4, WORD_IS_LONGER = 8, LATER_LAP = 16 };

#define RING_CELLS 64u
#define CELLS_MAX  (RING_CELLS / 4)
#define SALT       UINT64_C(0x5a17ed0c0ffee123)

static void check_slices(const struct frame *frame, const uint64_t *cells, size_t n_cells)
{
    const char *begin = (const char *)cells, *end = begin + n_cells * CELL_BYTES;
    must(frame->key >= begin && frame->key_len <= end - frame->key, "a key outside");
    must((const char *)frame->area >= begin && frame->area_len <= end - (const char *)frame->area, "an area outside");
    must((const char *)frame->payload >= begin && frame->payload_len <= (size_t)(end - (const char *)frame->payload),
         "a payload outside");
    fuzz_read(frame->key, frame->key_len);
    fuzz_read(frame->area, frame->area_len);
    fuzz_read(frame->payload, frame->payload_len);
}

/* What it says can be built, and then says the same. */
static void build_again(const struct frame *frame)
{
    struct frame after;
    struct error err = {""};
    uint32_t n_cells = frame_cells(frame->key_len, frame->area_len, frame->payload_len);
    must(n_cells != 0, "it fits no ring");
    uint64_t *cells = malloc((size_t)n_cells * CELL_BYTES);
    must(cells != NULL, "no memory");
    frame_build(frame, cells);
    must(frame_parse(cells, &after, &err) == EVBUS_OK, "what we build: %s", err.text);
    check_slices(&after, cells, n_cells);
    must(after.kind == frame->kind && after.flags == frame->flags && memcmp(after.id, frame->id, 16) == 0 &&
             after.timestamp_ns == frame->timestamp_ns && after.publisher == frame->publisher &&
             after.topic == frame->topic && after.key_hash == frame->key_hash && after.major == frame->major &&
             after.minor == frame->minor,
         "a header that has changed");
    must(after.key_len == frame->key_len && memcmp(after.key, frame->key, frame->key_len) == 0 &&
             after.area_len == frame->area_len && memcmp(after.area, frame->area, frame->area_len) == 0 &&
             after.payload_len == frame->payload_len && memcmp(after.payload, frame->payload, frame->payload_len) == 0,
         "bytes that have changed");
    free(cells);
}

/* A private copy, whose length has been bounded. */
static void parse_alone(const uint8_t *data, size_t len)
{
    size_t n_cells = (len + CELL_BYTES - 1) / CELL_BYTES;
    struct frame frame;
    struct error err = {""};
    if (n_cells == 0)
        return;
    uint64_t *cells = calloc(n_cells, CELL_BYTES);
    must(cells != NULL, "no memory");
    memcpy(cells, data, len);
    struct frame_header *header = (struct frame_header *)(void *)cells;
    if (header->n_cells == 0 || header->n_cells > n_cells)
        header->n_cells = (uint16_t)n_cells;
    int rc = frame_parse(cells, &frame, &err);
    must(rc == EVBUS_OK || (rc == EVBUS_ECORRUPT && err.text[0] != '\0'), "%d %s", rc, err.text);
    if (rc == EVBUS_OK) {
        check_slices(&frame, cells, n_cells);
        build_again(&frame);
    }
    free(cells);
}

/* The same cells as a ring's first frame; what comes behind it is nothing. */
static void read_from_ring(unsigned switches, const uint8_t *data, size_t len)
{
    static struct slot slots[SLOTS_MAX + 1];
    void *at = aligned_alloc(64, ring_bytes(RING_CELLS));
    uint64_t *buffer = malloc(CELLS_MAX * CELL_BYTES);
    must(at != NULL && buffer != NULL, "no memory");
    memset(at, 0, ring_bytes(RING_CELLS));
    ring_make(at, SALT);
    struct ring ring;
    ring_view(&ring, at, RING_CELLS, slots, "test.a", 0);
    struct frame_header *header = (struct frame_header *)(uintptr_t)ring.cells;
    memcpy(header, data, len < CELLS_MAX * CELL_BYTES ? len : CELLS_MAX * CELL_BYTES);
    uint32_t n_cells = header->n_cells + ((switches & WORD_IS_LONGER) != 0 ? 1u : 0);
    if ((switches & AS_GIVEN) == 0) {
        header->position = 0;
        header->stamp = (switches & NO_STAMP) != 0 ? ring_pre(&ring, 0) : ring_stamp(&ring, 0);
    }
    atomic_store(&ring.words[0],
                 word_make((switches & LATER_LAP) != 0 ? 2 : 1, (switches & IS_PAD) != 0 ? WORD_PAD : WORD_COMMITTED, 1,
                           n_cells & FRAME_CELLS_MAX));
    atomic_store(&ring.head->tail, n_cells);

    struct topic_set all;
    memset(&all, 0xff, sizeof all);
    struct cursor cursor = {.ring = &ring, .wanted = &all, .pin = CURSOR_NO_PIN};
    enum cursor_found found = CURSOR_EVENT;
    for (int i = 0; i < 4 && found != CURSOR_NOTHING; i++) {
        struct frame frame;
        struct error err = {""};
        uint64_t wait_ns = UINT64_MAX;
        found = cursor_next(&cursor, buffer, true, &frame, &wait_ns, &err);
        must(found != CURSOR_CORRUPT || strncmp(err.text, "test.a/0 at ", 12) == 0, "it does not say where: %s",
             err.text);
        must(found != CURSOR_EVENT || i == 0, "a second event");
        if (found == CURSOR_EVENT)
            check_slices(&frame, buffer, CELLS_MAX);
    }

    struct memory_log log = {.name = "test.evbus", .rings = &ring, .n_partitions = 1};
    struct memory memory = {.logs = &log};
    atomic_store(&memory.n_logs, 1);
    struct note notes[3];
    uint8_t id[16];
    memcpy(id, header->id, sizeof id);
    uint32_t n = notes_read(&memory, 1, id, notes, 3);
    for (uint32_t i = 0; i < n; i++)
        must(strlen(notes[i].member) < sizeof notes[i].member && strlen(notes[i].error) <= NOTES_TEXT_MAX, "a note");
    free(at);
    free(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    parse_alone(data + 1, len - 1);
    read_from_ring(data[0], data + 1, len - 1);
    return 0;
}
