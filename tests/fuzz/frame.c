/* frame.c: any cells are a frame whose every slice lies in them, or an error; parsed alone, and out of a ring as
 * readers do.
 *
 * Input: a byte of switches, then the frame's cells, filled up with zeroes. Stamp and position are put right, as no
 * fuzzer would guess them, unless a switch leaves them as they are. */
#include "frame.h"

#include "area.h"
#include "cursor.h"
#include "delivery.h"
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

/* Fields are found in the area, or not; another area takes what is well-formed of it. */
static void read_area(const struct frame *frame)
{
    static struct area copy;
    for (int tag = 0; tag < 12; tag++) {
        const uint8_t *bytes;
        size_t len;
        if (area_find(frame, (enum area_tag)tag, &bytes, &len)) {
            must(bytes >= frame->area && len <= (size_t)(frame->area + frame->area_len - bytes), "a field outside");
            fuzz_read(bytes, len);
        }
    }
    copy.len = 0;
    if (area_add_others(&copy, frame, AREA_SOURCE))
        must(copy.len <= frame->area_len, "an area that has grown");
}

/* What a reader is shown: it writes a NUL behind each payload, so the copy has a cell more. */
static void show(const uint64_t *cells, size_t n_cells)
{
    static struct delivery_texts texts;
    struct evbus_delivery delivery = {.size = sizeof delivery};
    struct frame frame;
    uint64_t *copy = calloc(n_cells * CELL_BYTES + 1, 1);
    must(copy != NULL, "no memory");
    memcpy(copy, cells, n_cells * CELL_BYTES);
    must(frame_parse(copy, &frame, NULL) == EVBUS_OK, "it was a frame");
    delivery_fill(&frame, &texts, &delivery);
    for (size_t i = 0; i < delivery.n_versions; i++)
        must(strlen(delivery.versions[i].payload) <= delivery.versions[i].payload_len, "no NUL behind a payload");
    must(delivery.traceparent == NULL || strlen(delivery.traceparent) >= TRACE_PARENT_LEN,
         "a traceparent that is none");
    free(copy);
}

/* What it says can be built, and then says the same. */
static void build_again(const struct frame *frame)
{
    struct frame after;
    struct error err = {""};
    struct frame_version versions[FRAME_VERSIONS_MAX], more[FRAME_VERSIONS_MAX - 1];
    struct frame again = *frame;
    unsigned n = frame_versions(frame, versions), n_more = 0;
    for (unsigned i = 0; i < n; i++) {
        fuzz_read(versions[i].payload, versions[i].len);
        if (versions[i].payload != frame->payload)
            more[n_more++] = versions[i];
    }
    must(n_more + 1 == n, "the payload is none of its versions");
    again.more = more;
    uint32_t n_cells = frame_cells_of(&again);
    must(n_cells != 0, "it fits no ring");
    uint64_t *cells = malloc((size_t)n_cells * CELL_BYTES);
    must(cells != NULL, "no memory");
    frame_build(&again, cells);
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
        read_area(&frame);
        show(cells, n_cells);
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
