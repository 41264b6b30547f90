/* segment.c: one file of a partition's journal.
 *
 *     <base position, 16 hex digits>.seg
 *     | header 512: whose, which positions, crc | what the ids mean: JSON | zeros to a page | cells, verbatim |
 *
 *   place    the cell of position p stands at header_bytes + (p - base) * 64: a position is found without a search, and the same
 *            bytes are written to the same place whoever writes them, and however often [J4, J5]
 *   make     a file of another name, whole and on disk; then link() gives it its name, and the folder is brought to disk. So a
 *            name stands for a whole header, and of two makers one wins: the other takes what is there [J4e]
 *   holes    a pad has a header of its own and zeros behind it: cells that are no frame's were lost
 *
 * A segment can be read alone, years later, on another host: its header says what its ids mean. Files are never recycled.
 * Rule J4. Checked by tests/unit/test_segment.c. */
#include "segment.h"

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT_MAGIC   UINT64_C(0x6765737375627665) /* "evbusseg" */
#define SEGMENT_VERSION 1
#define PAGE            4096
#define NAMES_BYTES_MAX (1 << 20)
#define CELLS_MOST      (UINT64_C(1) << 20) /* 64 MiB */

struct segment_header {
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes;
    uint8_t uuid[16];
    uint64_t base;
    uint64_t prev_end;
    uint64_t n_cells;
    uint64_t ring_cells;
    uint64_t created_ns;
    uint32_t partition;
    uint32_t names_len; /* bytes, behind this struct */
    char log[NAME_BYTES];
    uint8_t unused[300];
    uint32_t crc32c; /* of header_bytes bytes, with this field 0 */
};
static_assert(sizeof(struct segment_header) == 512, "format 1");

uint64_t segment_cells(uint64_t ring_cells)
{
    uint64_t n = ring_cells * 16 < CELLS_MOST ? ring_cells * 16 : CELLS_MOST;
    return n > ring_cells ? n : ring_cells;
}

void segment_path(const struct segment_place *place, uint64_t base, char out_path[FILE_PATH_MAX])
{
    snprintf(out_path, FILE_PATH_MAX, "%.*s/%016" PRIx64 ".seg", FILE_PATH_MAX - 32, place->folder, base);
}

uint64_t segment_offset(const struct segment *segment, uint64_t pos)
{
    return segment->header_bytes + (pos - segment->base) * CELL_BYTES;
}

/* --- making ----------------------------------------------------------------------------------------------------------- */

static int write_draft(const char *path, char out_draft[FILE_PATH_MAX], const struct segment_place *place,
                       uint64_t base, uint64_t prev_end, const char *names, size_t names_len, struct error *err)
{
    size_t len = (sizeof(struct segment_header) + names_len + PAGE - 1) / PAGE * PAGE;
    uint8_t *bytes = calloc(1, len);
    int fd;
    if (bytes == NULL)
        return error_no_memory(err, "a segment's header");
    struct segment_header *header = (struct segment_header *)bytes;
    *header = (struct segment_header){.magic = SEGMENT_MAGIC,
                                      .version = SEGMENT_VERSION,
                                      .header_bytes = (uint32_t)len,
                                      .base = base,
                                      .prev_end = prev_end,
                                      .n_cells = place->n_cells,
                                      .ring_cells = place->ring_cells,
                                      .created_ns = clock_wall_ns(),
                                      .partition = place->partition,
                                      .names_len = (uint32_t)names_len};
    memcpy(header->uuid, place->uuid, sizeof header->uuid);
    snprintf(header->log, sizeof header->log, "%s", place->log);
    memcpy(bytes + sizeof *header, names, names_len);
    header->crc32c = frame_crc(bytes, len);
    int rc = file_draft(path, out_draft, &fd, err);
    if (rc == EVBUS_OK) {
        rc = file_write(fd, out_draft, bytes, len, 0, err);
        if (rc == EVBUS_OK)
            rc = file_sync(fd, out_draft, err);
        close(fd);
        if (rc != EVBUS_OK)
            unlink(out_draft);
    }
    free(bytes);
    return rc;
}

int segment_create(struct segment *out_segment, const struct segment_place *place, uint64_t base, uint64_t prev_end,
                   const char *names, size_t names_len, struct error *err)
{
    char path[FILE_PATH_MAX];
    char draft[FILE_PATH_MAX];
    if (names_len > NAMES_BYTES_MAX)
        return error_set(err, EVBUS_ELIMIT, "%s: %zu bytes of names, at most %d fit", place->folder, names_len,
                         NAMES_BYTES_MAX);
    segment_path(place, base, path);
    if (access(path, F_OK) == 0) { /* whoever made it may not have brought its name to disk */
        int there = file_sync_folder(place->folder, err);
        return there == EVBUS_OK ? segment_open(out_segment, place, base, true, err) : there;
    }
    int rc = write_draft(path, draft, place, base, prev_end, names, names_len, err);
    if (rc != EVBUS_OK)
        return rc;
    if (link(draft, path) != 0 && errno != EEXIST)
        rc = file_failed(err, path, "cannot make it (link)", errno);
    unlink(draft);
    if (rc == EVBUS_OK)
        rc = file_sync_folder(place->folder, err);
    return rc == EVBUS_OK ? segment_open(out_segment, place, base, true, err) : rc;
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */

static int wrong(struct error *err, const char *path, const char *what)
{
    return error_set(err, EVBUS_ECORRUPT, "%s: %s; keep it, or put it back from a backup: the others are read", path,
                     what);
}

/* The header, and what is behind it up to the first cell; to be freed. */
static int read_header(int fd, const char *path, uint8_t **out_bytes, struct error *err)
{
    struct segment_header header;
    size_t n;
    int rc = file_read(fd, path, &header, sizeof header, 0, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    if (n < sizeof header || header.magic != SEGMENT_MAGIC)
        return wrong(err, path, "it does not begin as a segment of a journal");
    size_t len = header.header_bytes;
    if (len < sizeof header || len % PAGE != 0 || len > NAMES_BYTES_MAX + PAGE ||
        header.names_len > len - sizeof header)
        return wrong(err, path, "its header has an impossible length");
    uint8_t *bytes = malloc(len);
    if (bytes == NULL)
        return error_no_memory(err, "a segment's header");
    rc = file_read(fd, path, bytes, len, 0, &n, err);
    if (rc == EVBUS_OK) {
        struct segment_header *whole = (struct segment_header *)bytes;
        uint32_t crc = whole->crc32c;
        whole->crc32c = 0;
        if (n != len || frame_crc(bytes, len) != crc)
            rc = wrong(err, path, "its header is damaged (its checksum is another)");
        else if (whole->version > SEGMENT_VERSION)
            rc = error_set(err, EVBUS_ELAYOUT, "%s is of format %u, this build reads %u: use a newer evbus", path,
                           whole->version, SEGMENT_VERSION);
    }
    if (rc != EVBUS_OK) {
        free(bytes);
        return rc;
    }
    *out_bytes = bytes;
    return EVBUS_OK;
}

int segment_open(struct segment *out_segment, const struct segment_place *place, uint64_t base, bool for_writing,
                 struct error *err)
{
    struct segment segment = {.base = base};
    uint8_t *bytes = NULL;
    segment_path(place, base, segment.path);
    int rc = file_open(segment.path, for_writing ? O_RDWR : O_RDONLY, &segment.fd, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = read_header(segment.fd, segment.path, &bytes, err);
    if (rc == EVBUS_OK) {
        const struct segment_header *header = (const struct segment_header *)bytes;
        if (memcmp(header->uuid, place->uuid, sizeof header->uuid) != 0)
            rc = error_set(err, EVBUS_ECONFLICT, "%s is of another bus: move it away", segment.path);
        else if (header->base != base || header->partition != place->partition ||
                 strncmp(header->log, place->log, sizeof header->log) != 0)
            rc = error_set(err, EVBUS_ECONFLICT, "%s is of %.127s/%u at %" PRIx64 ": move it to where it belongs",
                           segment.path, header->log, header->partition, header->base);
        else if (header->n_cells == 0 || base % header->n_cells != 0 || header->prev_end > base ||
                 header->n_cells > RING_CELLS_MAX)
            rc = wrong(err, segment.path, "its header has impossible positions");
        segment.prev_end = header->prev_end;
        segment.n_cells = header->n_cells;
        segment.header_bytes = header->header_bytes;
        segment.created_ns = header->created_ns;
    }
    free(bytes);
    if (rc != EVBUS_OK) {
        close(segment.fd);
        return rc;
    }
    *out_segment = segment;
    return EVBUS_OK;
}

int segment_names(const struct segment *segment, char **out_text, size_t *out_len, struct error *err)
{
    uint8_t *bytes;
    int rc = read_header(segment->fd, segment->path, &bytes, err);
    if (rc != EVBUS_OK)
        return rc;
    size_t len = ((const struct segment_header *)bytes)->names_len;
    memmove(bytes, bytes + sizeof(struct segment_header), len);
    *out_text = (char *)bytes;
    *out_len = len;
    return EVBUS_OK;
}

/* --- cells ------------------------------------------------------------------------------------------------------------ */

int segment_write(const struct segment *segment, uint64_t pos, const uint64_t *cells, size_t n_cells, struct error *err)
{
    return file_write(segment->fd, segment->path, cells, n_cells * CELL_BYTES, segment_offset(segment, pos), err);
}

int segment_read(const struct segment *segment, uint64_t pos, uint64_t *cells, size_t n_cells, size_t *out_n_cells,
                 struct error *err)
{
    size_t len;
    int rc = file_read(segment->fd, segment->path, cells, n_cells * CELL_BYTES, segment_offset(segment, pos), &len,
                       err);
    if (rc == EVBUS_OK)
        *out_n_cells = len / CELL_BYTES;
    return rc;
}

void segment_begin_sync(const struct segment *segment, uint64_t pos, size_t n_cells)
{
    file_begin_sync(segment->fd, n_cells * CELL_BYTES, segment_offset(segment, pos));
}

int segment_sync(const struct segment *segment, struct error *err)
{
    return file_sync(segment->fd, segment->path, err);
}

int segment_draft(struct segment *out_draft, const struct segment *of, struct error *err)
{
    struct segment draft = *of;
    int rc = file_draft(of->path, draft.path, &draft.fd, err);
    if (rc == EVBUS_OK)
        *out_draft = draft;
    return rc;
}

int segment_copy(const struct segment *draft, const struct segment *of, uint64_t until, struct error *err)
{
    return file_copy(of->fd, of->path, draft->fd, draft->path, 0, segment_offset(of, until), err);
}

int segment_take_place(struct segment *draft, struct segment *segment, int rc, struct error *err)
{
    char folder[FILE_PATH_MAX];
    if (rc == EVBUS_OK)
        rc = segment_sync(draft, err);
    if (rc == EVBUS_OK && rename(draft->path, segment->path) != 0)
        rc = file_failed(err, segment->path, "cannot replace it", errno);
    if (rc != EVBUS_OK) {
        unlink(draft->path);
        segment_close(draft);
        return rc;
    }
    memcpy(draft->path, segment->path, sizeof draft->path);
    segment_close(segment);
    *segment = *draft;
    snprintf(folder, sizeof folder, "%s", segment->path);
    *strrchr(folder, '/') = '\0';
    return file_sync_folder(folder, err);
}

void segment_close(struct segment *segment)
{
    if (segment->fd >= 0)
        close(segment->fd);
    *segment = SEGMENT_NONE;
}
