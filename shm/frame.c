/* frame.c: event <-> cells; trusts no length.
 *
 *     | header 64 | key, to 8 | header area, to 8 | major minor len | payload, to 8 | ...   to a whole cell
 *
 * The same bytes stand in the ring and in the journal, so they depend on the event alone: paddings are zero. A small event
 * (key of up to 8 bytes, payload of up to 48) takes 2 cells.
 * A frame is parsed from a private copy only: what was checked once cannot change any more. Every length is bounded by what is
 * left of the frame.
 * Of several versions the lowest is the one that is given to who says nothing of versions: so a second one that is published
 * beside the first changes nothing for whoever has not asked for it.
 * In a file the crc32c is over the whole frame, of a pad over its first cell, with the stamp as it stands there and the crc 0: so
 * a frame says by itself that it is whole, and where it belongs. Checked by tests/unit/test_frame.c. */
#include "frame.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <isa-l/crc.h>
#include <string.h>

void frame_build(const struct frame *frame, uint64_t *out)
{
    frame_put(frame, frame_cells_of(frame), out);
}

/* The lowest version of those that were parsed. */
struct lowest {
    struct representation_header header;
    const char *payload; /* NULL: of none yet */
};

static bool is_lower(const struct representation_header *one, const struct representation_header *other)
{
    return one->major != other->major ? one->major < other->major : one->minor < other->minor;
}

/* Representation i, which begins at byte *inout_at; moved to where the next one begins. */
static int parse_version(const struct frame_header *header, unsigned i, size_t *inout_at, struct lowest *inout_lowest,
                         struct error *err)
{
    struct representation_header representation;
    const char *bytes = (const char *)header;
    size_t end = (size_t)header->n_cells * CELL_BYTES;
    size_t at = *inout_at;
    if (end - at < sizeof representation)
        return error_set(err, EVBUS_ECORRUPT, "a frame of %u cells that ends in its representation %u of %u",
                         header->n_cells, i + 1, header->n_representations);
    memcpy(&representation, bytes + at, sizeof representation);
    at += sizeof representation;
    if (representation.len > end - at)
        return error_set(err, EVBUS_ECORRUPT, "a payload of %u bytes where %zu are left", representation.len, end - at);
    if (inout_lowest->payload == NULL || is_lower(&representation, &inout_lowest->header))
        *inout_lowest = (struct lowest){representation, bytes + at};
    at += frame_to8(representation.len);
    *inout_at = at < end ? at : end;
    return EVBUS_OK;
}

int frame_parse_slowly(const uint64_t *copy, struct frame *out_frame, struct error *err)
{
    const struct frame_header *header = (const struct frame_header *)copy;
    size_t end = (size_t)header->n_cells * CELL_BYTES;
    if (header->format != FRAME_FORMAT)
        return error_set(err, EVBUS_ECORRUPT, "frame format %u, this build reads %u", header->format, FRAME_FORMAT);
    size_t at = frame_versions_at(header);
    if (at > end)
        return error_set(err, EVBUS_ECORRUPT, "a frame of %u cells with a key of %u and a header area of %u bytes",
                         header->n_cells, header->key_len, header->area_len);
    if (header->n_representations == 0)
        return error_set(err, EVBUS_ECORRUPT, "a frame without a payload");
    if (header->n_representations > FRAME_VERSIONS_MAX)
        return error_set(err, EVBUS_ECORRUPT, "a frame of %u cells with %u representations, at most %d are allowed",
                         header->n_cells, header->n_representations, FRAME_VERSIONS_MAX);
    struct lowest lowest = {.payload = NULL};
    for (unsigned i = 0; i < header->n_representations; i++) {
        int rc = parse_version(header, i, &at, &lowest, err);
        if (rc != EVBUS_OK)
            return rc;
    }
    frame_take_apart(copy, &lowest.header, lowest.payload, out_frame);
    return EVBUS_OK;
}

unsigned frame_versions(const struct frame *frame, struct frame_version out_versions[FRAME_VERSIONS_MAX])
{
    const uint64_t *at = frame->representations; /* what follows was bounded by frame_parse() */
    for (unsigned i = 0; i < frame->n_versions; i++) {
        struct representation_header representation;
        memcpy(&representation, at++, sizeof representation);
        out_versions[i] = (struct frame_version){
            .major = representation.major, .minor = representation.minor, .len = representation.len, .payload = at};
        at += frame_to8(representation.len) / 8;
    }
    return frame->n_versions;
}

#if defined(__x86_64__)
__attribute__((target("avx"), noinline)) static void clear_upper_halves(void)
{
    _mm256_zeroupper();
}
#endif

/* ISA-L's code for AVX-512 leaves the upper parts of the vector registers in use: from then on each instruction of SSE, which is what this
 * library and its caller are compiled to, waits for whoever has written its register last. */
static uint32_t crc_on(uint32_t crc, const void *bytes, size_t len)
{
    crc = crc32_iscsi((unsigned char *)(uintptr_t)bytes, (int)len, crc);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx"))
        clear_upper_halves();
#endif
    return crc;
}

uint32_t frame_crc(const void *bytes, size_t len)
{
    return ~crc_on(~0u, bytes, len);
}

/* Of cells whose crc32c is 0. */
static uint32_t crc_of(const uint64_t *cells, uint32_t n_cells)
{
    const struct frame_header *header = (const struct frame_header *)cells;
    bool is_hollow = header->kind == FRAME_PAD || header->kind == FRAME_GAP;
    return frame_crc(cells, (is_hollow ? 1 : (size_t)n_cells) * CELL_BYTES);
}

void frame_seal(uint64_t *copy)
{
    struct frame_header *header = (struct frame_header *)copy;
    header->stamp = FRAME_FILE_STAMP;
    header->crc32c = 0;
    header->crc32c = crc_of(copy, header->n_cells);
}

void frame_seal_pad(enum frame_kind kind, uint64_t pos, uint32_t n_cells, uint64_t out[CELL_WORDS])
{
    struct frame_header header = {
        .format = FRAME_FORMAT, .kind = (uint8_t)kind, .n_cells = (uint16_t)n_cells, .position = pos};
    memcpy(out, &header, sizeof header);
    frame_seal(out);
}

uint32_t frame_sealed_cells(const uint64_t *cells, size_t n_cells, uint64_t pos)
{
    struct frame_header header;
    uint64_t first[CELL_WORDS];
    if (n_cells == 0)
        return 0;
    memcpy(&header, cells, sizeof header);
    if (header.stamp != FRAME_FILE_STAMP || header.position != pos || header.n_cells == 0)
        return 0;
    uint32_t found = header.crc32c;
    header.crc32c = 0;
    memcpy(first, &header, sizeof first);
    bool is_hollow = header.kind == FRAME_PAD || header.kind == FRAME_GAP;
    uint32_t crc = crc_on(~0u, first, sizeof first);
    if (!is_hollow && header.n_cells > n_cells)
        return 0;
    if (!is_hollow)
        crc = crc_on(crc, cells + CELL_WORDS, (header.n_cells - 1u) * CELL_BYTES);
    return ~crc == found ? header.n_cells : 0;
}
