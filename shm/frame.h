/* frame.h: event <-> cells; trusts no length. See frame.c. */
#ifndef EVBUS_FRAME_H
#define EVBUS_FRAME_H

#include "error.h"
#include "layout.h"

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
    const uint8_t *area;
    uint16_t area_len;
    uint16_t major;
    uint16_t minor;
    const void *payload; /* parsed: of the lowest version, which who knows of no other can read */
    uint32_t payload_len;
    const struct frame_version *more; /* built: further versions */
    const uint64_t *representations;  /* parsed: where they begin */
    uint8_t n_versions;               /* built: 0 or 1 + those in `more`; parsed: all, at least 1 */
};

/* Cells that it takes with one representation; 0: more than any ring has. */
uint32_t frame_cells(size_t key_len, size_t area_len, size_t payload_len);

/* Likewise, with all that it has. */
uint32_t frame_cells_of(const struct frame *frame);

/* All versions of a parsed frame, in its order. Returns how many. */
unsigned frame_versions(const struct frame *frame, struct frame_version out_versions[FRAME_VERSIONS_MAX]);

/* Writes frame_cells_of() cells to out. Stamp and position are left 0: ring_write() sets them. */
void frame_build(const struct frame *frame, uint64_t *out);

/* Reads a private copy, whose header's n_cells has been bounded by its ring. EVBUS_OK or EVBUS_ECORRUPT with a message about what does not fit. */
int frame_parse(const uint64_t *copy, struct frame *out_frame, struct error *err);

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
