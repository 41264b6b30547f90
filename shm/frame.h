/* frame.h: event <-> cells; trusts no length. See frame.c. */
#ifndef EVBUS_FRAME_H
#define EVBUS_FRAME_H

#include "error.h"
#include "layout.h"

#include <string.h>

#define FRAME_FORMAT       1
#define FRAME_KEY_MAX      255  /* bytes */
#define FRAME_AREA_MAX     4096 /* bytes */
#define FRAME_VERSIONS_MAX 8    /* of one event */

enum frame_kind { /* as stored */
                  FRAME_EVENT = 1,
                  FRAME_PAD = 2,     /* in the journal only: in a ring the word says it */
                  FRAME_NAMES = 3,   /* what an id means */
                  FRAME_GAP = 4,     /* positions that a restart skipped */
                  FRAME_DEAD = 5,    /* a dead letter */
                  FRAME_SETTLED = 6, /* its resolution */
                  FRAME_NOTE = 7     /* attempts, takeovers, operators' acts */
};

enum { FRAME_AFTER_GAP = 1, FRAME_REPLAY = 2 }; /* flags */

/* A payload and the version of its schema. */
struct frame_version {
    uint16_t major;
    uint16_t minor;
    uint32_t len; /* bytes */
    const void *payload;
};

/* What a frame says. Pointers: the caller's when it is built, into the frame when it is parsed. */
struct frame {
    enum frame_kind kind;
    uint16_t flags;
    uint8_t id[16];
    uint64_t timestamp_ns;
    uint32_t publisher;
    uint16_t topic;
    uint32_t key_hash;
    const char *key;
    uint8_t key_len;
    uint8_t n_versions; /* built: 0 or 1 + those in `more`; parsed: all, at least 1 */
    uint16_t area_len;
    const uint8_t *area;
    const void *payload; /* parsed: of the lowest version, which who knows of no other can read */
    /* as in struct representation_header: one word, that is written at once, and read so */
    alignas(8) uint16_t major;
    uint16_t minor;
    uint32_t payload_len;
    const struct frame_version *more; /* built: further versions */
    const uint64_t *representations;  /* parsed: where they begin */
};

static inline size_t frame_to8(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

/* Cells that it takes with one representation; 0: more than any ring has. */
static inline uint32_t frame_cells(size_t key_len, size_t area_len, size_t payload_len)
{
    if (payload_len > (size_t)FRAME_CELLS_MAX * CELL_BYTES)
        return 0;
    size_t n_bytes = sizeof(struct frame_header) + frame_to8(key_len) + frame_to8(area_len) +
                     sizeof(struct representation_header) + frame_to8(payload_len);
    size_t n_cells = (n_bytes + CELL_BYTES - 1) / CELL_BYTES;
    return n_cells <= FRAME_CELLS_MAX ? (uint32_t)n_cells : 0;
}

/* Likewise, with all that it has. */
static inline uint32_t frame_cells_of(const struct frame *frame)
{
    size_t more_len = 0; /* with their headers, to 8: as if the first payload were so much longer */
    for (unsigned i = 1; i < frame->n_versions; i++)
        more_len += sizeof(struct representation_header) + frame_to8(frame->more[i - 1].len);
    return frame_cells(frame->key_len, frame->area_len, frame_to8(frame->payload_len) + more_len);
}

/* All versions of a parsed frame, in its order. Returns how many. */
unsigned frame_versions(const struct frame *frame, struct frame_version out_versions[FRAME_VERSIONS_MAX]);

/* Writes frame_cells_of() cells to out. Stamp and position are left 0: ring_write() sets them. */
void frame_build(const struct frame *frame, uint64_t *out);

/* Copies len bytes and zeroes the padding behind them; returns where the next part starts. */
static inline uint64_t *frame_put_bytes(uint64_t *to, const void *from, size_t len)
{
    if (len == 0)
        return to;
    to[(len - 1) / 8] = 0;
    memcpy(to, from, len);
    return to + (len + 7) / 8;
}

static inline uint64_t *frame_put_version(uint64_t *to, uint16_t major, uint16_t minor, const void *payload,
                                          uint32_t len)
{
    *to++ = major | (uint64_t)minor << 16 | (uint64_t)len << 32;
    return frame_put_bytes(to, payload, len);
}

/* As frame_build(), inline, for who knows n_cells = frame_cells_of(frame): a publish, which so makes no struct of its event first. */
static inline void frame_put(const struct frame *frame, uint32_t n_cells, uint64_t *out)
{
    uint64_t n_versions = frame->n_versions > 1 ? frame->n_versions : 1;
    uint64_t *end = out + (size_t)n_cells * CELL_WORDS;
    /* The header as 8 words (see struct frame_header): it is read as words at once, and a read of what has just been written
     * in smaller pieces stalls the processor. */
    out[0] = 0;
    out[1] = FRAME_FORMAT | (uint64_t)(uint8_t)frame->kind << 8 | (uint64_t)frame->flags << 16 |
             (uint64_t)n_cells << 32 | (uint64_t)frame->area_len << 48;
    out[2] = 0;
    memcpy(&out[3], frame->id, sizeof frame->id);
    out[5] = frame->timestamp_ns;
    out[6] = frame->publisher | (uint64_t)frame->topic << 32 | (uint64_t)frame->key_len << 48 | n_versions << 56;
    out[7] = frame->key_hash;
    memset(end - CELL_WORDS, 0, CELL_BYTES); /* what its parts leave of its last cell, which is never its first */
    uint64_t *to = frame_put_bytes(out + CELL_WORDS, frame->key, frame->key_len);
    to = frame_put_bytes(to, frame->area, frame->area_len);
    to = frame_put_version(to, frame->major, frame->minor, frame->payload, frame->payload_len);
    for (unsigned i = 1; i < n_versions; i++)
        to = frame_put_version(to, frame->more[i - 1].major, frame->more[i - 1].minor, frame->more[i - 1].payload,
                               frame->more[i - 1].len);
}

/* The byte at which its first representation begins, if its lengths are right. */
static inline size_t frame_versions_at(const struct frame_header *header)
{
    return sizeof *header + frame_to8(header->key_len) + frame_to8(header->area_len);
}

/* Of a copy whose lengths fit. lowest: of its versions, with its payload. Field by field: a copy of the whole would wait for each of its
 * stores. */
static inline void frame_take_apart(const uint64_t *copy, const struct representation_header *lowest,
                                    const char *payload, struct frame *out_frame)
{
    const struct frame_header *header = (const struct frame_header *)copy;
    const char *key = (const char *)(header + 1);
    out_frame->kind = (enum frame_kind)header->kind;
    out_frame->flags = header->flags;
    memcpy(out_frame->id, header->id, sizeof out_frame->id);
    out_frame->timestamp_ns = header->timestamp_ns;
    out_frame->publisher = header->publisher;
    out_frame->topic = header->topic;
    out_frame->key_hash = header->key_hash;
    out_frame->key = key;
    out_frame->key_len = header->key_len;
    out_frame->area = (const uint8_t *)key + frame_to8(header->key_len);
    out_frame->area_len = header->area_len;
    out_frame->more = NULL;
    out_frame->representations = copy + frame_versions_at(header) / 8;
    out_frame->n_versions = header->n_representations;
    out_frame->major = lowest->major;
    out_frame->minor = lowest->minor;
    out_frame->payload = payload;
    out_frame->payload_len = lowest->len;
}

/* frame_parse(), of all that there is. */
int frame_parse_slowly(const uint64_t *copy, struct frame *out_frame, struct error *err);

/* Reads a private copy, whose header's n_cells has been bounded by its ring. EVBUS_OK or EVBUS_ECORRUPT with a message about what does not
 * fit. Inline for what is there nearly always: a frame of one version, that fits. */
static inline int frame_parse(const uint64_t *copy, struct frame *out_frame, struct error *err)
{
    const struct frame_header *header = (const struct frame_header *)copy;
    struct representation_header only;
    size_t end = (size_t)header->n_cells * CELL_BYTES;
    size_t payload_at = frame_versions_at(header) + sizeof only;
    if (header->format != FRAME_FORMAT || header->n_representations != 1 || payload_at > end)
        return frame_parse_slowly(copy, out_frame, err);
    memcpy(&only, copy + payload_at / 8 - 1, sizeof only);
    if (only.len > end - payload_at)
        return frame_parse_slowly(copy, out_frame, err);
    frame_take_apart(copy, &only, (const char *)copy + payload_at, out_frame);
    return EVBUS_OK;
}

/* --- in files ------------------------------------------------------------------------------------------------------- */

#define FRAME_FILE_STAMP UINT64_C(0x6d72667375627665) /* "evbusfrm" */

/* CRC32C (Castagnoli) of any bytes. */
uint32_t frame_crc(const void *bytes, size_t len);

/* A private copy of a ring's frame becomes what stands in a file: the same bytes but for stamp and crc32c. */
void frame_seal(uint64_t *copy);

/* What stands in a file for cells that hold no event: the first cell of a pad or gap; the others are zero. */
void frame_seal_pad(enum frame_kind kind, uint64_t pos, uint32_t n_cells, uint64_t out[CELL_WORDS]);

/* Does a whole frame of this position stand at the front of these n_cells cells of a file? Its length, or 0. */
uint32_t frame_sealed_cells(const uint64_t *cells, size_t n_cells, uint64_t pos);

#endif
