/* journal.c: a partition's segments: find, read, retire.
 *
 *   find     the segment of a position begins at the position rounded down to a segment's size: it is opened, not searched for.
 *            Where none does, it may be from a life in which the ring had another size: then the names tell
 *   read     in pieces of 1 MiB into private memory; each frame is checked there (its position, its crc32c) and given out from
 *            there. Where none is whole, the next one is looked for, cell by cell: it says its own position
 *   gaps     a segment says where the one before it ended: what lies between was skipped by a restart. What lies before that and
 *            is not there was lost [J2]
 *
 * A file grows while it is read, so nobody reads further than `journaled`, or than the file had cells when it was found whole. A
 * segment that was retired meanwhile is read to its end through the open descriptor. Checked by tests/unit/test_journal.c. */
#include "journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK_CELLS (UINT64_C(1) << 14) /* 1 MiB */

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;
    return *left < *right ? -1 : *left > *right;
}

int journal_list(const struct segment_place *place, uint64_t **out_bases, size_t *out_n, struct error *err)
{
    uint64_t *bases = NULL;
    size_t n = 0;
    DIR *dir = opendir(place->folder);
    if (dir == NULL && errno != ENOENT)
        return file_failed(err, place->folder, "cannot open it", errno);
    int rc = EVBUS_OK;
    for (struct dirent *entry; dir != NULL && (entry = file_next_name(dir, place->folder, &rc, err)) != NULL;) {
        if (strspn(entry->d_name, "0123456789abcdef") != 16 || strcmp(entry->d_name + 16, ".seg") != 0)
            continue;
        uint64_t base = strtoull(entry->d_name, NULL, 16);
        if (base > POSITION_LIMIT) /* nobody's */
            continue;
        uint64_t *more = realloc(bases, (n + 1) * sizeof *bases);
        if (more == NULL) {
            rc = error_no_memory(err, "the names of segments");
            continue;
        }
        bases = more;
        bases[n++] = base;
    }
    if (dir != NULL)
        closedir(dir);
    if (rc != EVBUS_OK) {
        free(bases);
        return rc;
    }
    if (n > 1)
        qsort(bases, n, sizeof *bases, compare);
    *out_bases = bases;
    *out_n = n;
    return EVBUS_OK;
}

void journal_reader_init(struct journal_reader *reader, const struct segment_place *place)
{
    *reader = (struct journal_reader){.place = place, .segment = SEGMENT_NONE};
}

void journal_reader_close(struct journal_reader *reader)
{
    segment_close(&reader->segment);
    free(reader->chunk);
    reader->chunk = NULL;
    reader->chunk_cells = 0;
}

static bool lies_in(const struct segment *segment, uint64_t pos)
{
    return segment->fd >= 0 && pos >= segment->base && pos - segment->base < segment->n_cells;
}

/* The names of segments around a position. */
struct around {
    uint64_t before; /* base of the last that begins at or before it */
    uint64_t behind; /* of the first behind it */
    bool has_before;
    bool has_behind;
};

static int look_around(const struct segment_place *place, uint64_t pos, struct around *out, struct error *err)
{
    struct around around = {.has_before = false};
    uint64_t *bases;
    size_t n;
    int rc = journal_list(place, &bases, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    for (size_t i = 0; i < n && !around.has_behind; i++) {
        around.has_behind = bases[i] > pos;
        around.has_before = around.has_before || !around.has_behind;
        *(around.has_behind ? &around.behind : &around.before) = bases[i];
    }
    free(bases);
    *out = around;
    return EVBUS_OK;
}

/* No file has this position. Were cells there once? The segment behind it says where the one before it ended. */
static int pass_over(const struct segment_place *place, uint64_t pos, const struct around *around, uint64_t *out_next,
                     struct error *err)
{
    char path[FILE_PATH_MAX];
    struct segment behind;
    if (!around->has_behind)
        return JOURNAL_END;
    *out_next = around->behind;
    if (!around->has_before)
        return JOURNAL_GONE;
    if (segment_open(&behind, place, around->behind, false, NULL) != EVBUS_OK)
        return JOURNAL_SKIP; /* its own reader is told why */
    uint64_t prev_end = behind.prev_end;
    segment_close(&behind);
    if (prev_end <= pos)
        return JOURNAL_SKIP;
    segment_path(place, pos & ~(place->n_cells - 1), path);
    error_set(err, EVBUS_ECORRUPT,
              "%s at %" PRIu64 ": the file is lost, or was cut: it went to %" PRIu64 "; the next is at %" PRIu64, path,
              pos, prev_end, around->behind);
    return JOURNAL_DAMAGED;
}

/* The segment that begins at base becomes the reader's, if it has the position. EVBUS_ENOTFOUND: it has not, or is not there. */
static int open_with(struct journal_reader *reader, uint64_t base, uint64_t pos, struct error *err)
{
    struct segment next;
    int rc = segment_open(&next, reader->place, base, false, err);
    if (rc != EVBUS_OK)
        return rc;
    if (!lies_in(&next, pos)) {
        segment_close(&next);
        return EVBUS_ENOTFOUND;
    }
    segment_close(&reader->segment);
    reader->segment = next;
    reader->chunk_cells = 0;
    return EVBUS_OK;
}

/* The segment of a position is open, or is not there (JOURNAL_...), or cannot be read (a code). JOURNAL_FRAME: it is open. */
static int open_at(struct journal_reader *reader, uint64_t pos, uint64_t until, uint64_t *out_next, struct error *err)
{
    struct around around;
    if (lies_in(&reader->segment, pos))
        return JOURNAL_FRAME;
    int rc = open_with(reader, pos & ~(reader->place->n_cells - 1), pos, err);
    if (rc == EVBUS_OK)
        return JOURNAL_FRAME;
    if (rc == EVBUS_ECORRUPT) { /* its header: nothing in it can be found */
        if ((rc = look_around(reader->place, pos, &around, err)) != EVBUS_OK)
            return rc;
        *out_next = around.has_behind ? around.behind : (pos | (reader->place->n_cells - 1)) + 1;
        *out_next = *out_next < until ? *out_next : until;
        return open_with(reader, pos & ~(reader->place->n_cells - 1), pos, err) == EVBUS_OK ? JOURNAL_FRAME
                                                                                            : JOURNAL_DAMAGED;
    }
    if (rc != EVBUS_ENOTFOUND)
        return rc;
    rc = look_around(reader->place, pos, &around, err);
    if (rc != EVBUS_OK)
        return rc;
    if (around.has_before && open_with(reader, around.before, pos, NULL) == EVBUS_OK)
        return JOURNAL_FRAME;
    return pass_over(reader->place, pos, &around, out_next, err);
}

/* The chunk holds n cells from pos on, or all that are there below until. What is behind that may just be written: it would be
 * remembered half written. */
static int fill(struct journal_reader *reader, uint64_t pos, size_t n_cells, uint64_t until, struct error *err)
{
    uint64_t end = reader->segment.base + reader->segment.n_cells;
    uint64_t left = (until < end ? until : end) - pos;
    if (pos >= reader->chunk_pos && pos + n_cells <= reader->chunk_pos + reader->chunk_cells)
        return EVBUS_OK;
    size_t wanted = n_cells > CHUNK_CELLS ? n_cells : CHUNK_CELLS;
    if (reader->chunk == NULL && (reader->chunk = malloc((CHUNK_CELLS + FRAME_CELLS_MAX) * CELL_BYTES)) == NULL)
        return error_no_memory(err, "reading the journal");
    reader->chunk_cells = 0;
    reader->chunk_pos = pos;
    return segment_read(&reader->segment, pos, reader->chunk, wanted < left ? wanted : left, &reader->chunk_cells, err);
}

/* How many cells must be there to tell whether what begins here is whole: of a frame all, of a pad, or of what is neither, one. What it
 * says is not checked yet, so it asks for no more than the chunk has room for. */
static size_t cells_to_check(const struct frame_header *header)
{
    bool is_hollow = header->kind == FRAME_PAD || header->kind == FRAME_GAP;
    return header->stamp != FRAME_FILE_STAMP || is_hollow || header->n_cells > FRAME_CELLS_MAX ? 1 : header->n_cells;
}

/* The first position from pos on where a whole frame or pad stands, below `until`, in this segment; else `until`, or its end. */
static int resync(struct journal_reader *reader, uint64_t pos, uint64_t until, uint64_t *out_next, struct error *err)
{
    uint64_t end = reader->segment.base + reader->segment.n_cells;
    if (until < end)
        end = until;
    for (; pos < end; pos++) {
        int rc = fill(reader, pos, 1, until, err);
        if (rc != EVBUS_OK)
            return rc;
        if (reader->chunk_cells == 0)
            break; /* the file ends here */
        const struct frame_header *header = (const struct frame_header *)(reader->chunk +
                                                                          (pos - reader->chunk_pos) * CELL_WORDS);
        if (header->stamp != FRAME_FILE_STAMP || header->position != pos)
            continue;
        if ((rc = fill(reader, pos, cells_to_check(header), until, err)) != EVBUS_OK)
            return rc;
        if (frame_sealed_cells(reader->chunk + (pos - reader->chunk_pos) * CELL_WORDS,
                               reader->chunk_cells - (pos - reader->chunk_pos), pos) != 0)
            break;
    }
    *out_next = pos;
    return EVBUS_OK;
}

/* Another file has the segment's name by now: a keeper's whose disk had failed (writer.c). */
static bool is_replaced(const struct segment *segment)
{
    struct stat ours, named;
    return segment->fd >= 0 && fstat(segment->fd, &ours) == 0 && stat(segment->path, &named) == 0 &&
           (ours.st_ino != named.st_ino || ours.st_dev != named.st_dev);
}

static int read_open(struct journal_reader *reader, uint64_t pos, uint64_t until, const uint64_t **out_frame,
                     uint64_t *out_next, struct error *err)
{
    if (pos >= until)
        return JOURNAL_END;
    int rc = open_at(reader, pos, until, out_next, err);
    if (rc != JOURNAL_FRAME)
        return rc;
    if ((rc = fill(reader, pos, 1, until, err)) != EVBUS_OK)
        return rc;
    size_t at = pos - reader->chunk_pos;
    if (reader->chunk_cells <= at) { /* the file ends: what comes next says whether for good */
        struct around around;
        rc = look_around(reader->place, pos, &around, err);
        around.has_before = true; /* retired by now or not: it is open */
        return rc == EVBUS_OK ? pass_over(reader->place, pos, &around, out_next, err) : rc;
    }
    const struct frame_header *header = (const struct frame_header *)(reader->chunk + at * CELL_WORDS);
    bool is_frame = header->kind != FRAME_PAD && header->kind != FRAME_GAP;
    if ((rc = fill(reader, pos, cells_to_check(header), until, err)) != EVBUS_OK)
        return rc;
    at = pos - reader->chunk_pos;
    uint32_t n_cells = frame_sealed_cells(reader->chunk + at * CELL_WORDS, reader->chunk_cells - at, pos);
    if (n_cells == 0) {
        rc = resync(reader, pos + 1, until, out_next, err);
        if (rc != EVBUS_OK)
            return rc;
        error_set(err, EVBUS_ECORRUPT, "%s at %" PRIu64 ": no whole frame stands there; the next is at %" PRIu64,
                  reader->segment.path, pos, *out_next);
        return JOURNAL_DAMAGED;
    }
    *out_next = pos + n_cells;
    *out_frame = reader->chunk + at * CELL_WORDS;
    return is_frame ? JOURNAL_FRAME : JOURNAL_SKIP;
}

int journal_read(struct journal_reader *reader, uint64_t pos, uint64_t until, const uint64_t **out_frame,
                 uint64_t *out_next, struct error *err)
{
    int seen = read_open(reader, pos, until, out_frame, out_next, err);
    if (seen == JOURNAL_FRAME || seen == JOURNAL_SKIP || pos >= until || !is_replaced(&reader->segment))
        return seen;
    segment_close(&reader->segment);
    return read_open(reader, pos, until, out_frame, out_next, err);
}
