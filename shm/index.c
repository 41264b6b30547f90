/* index.c: which frames of a closed segment have which id.
 *
 *     <base position, 16 hex digits>.idx
 *     | header, a page: of which segment, entries, first and last key, crc | blocks of a page: crc, n, keys rising, cells |
 *
 *   made     by the keeper when it has nothing else to do, a piece a look; by whoever looks for an id where there is none
 *   found    the keys of a UUIDv7 rise with time, so most segments are passed over by what the header says; else a binary search over
 *            whole blocks, each checked: a block that is damaged makes the index one that is not there
 *   trusted  for where to look, never for what stands there: whoever finds a cell reads the frame and compares all of its id
 *
 * An index can be lost and made again at any time: what it says stands in the segment. It belongs to one segment, by its bus, base
 * and the time when that was begun. Checked by tests/unit/test_index.c. */
#include "index.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX_MAGIC   UINT64_C(0x7864697375627665) /* "evbusidx" */
#define INDEX_VERSION 1
#define BLOCK_BYTES   4096
#define BLOCK_ENTRIES 340

struct index_header {
    uint64_t magic;
    uint32_t version;
    uint32_t unused;
    uint8_t uuid[16];
    uint64_t base;
    uint64_t created_ns; /* of the segment */
    uint64_t n_entries;
    uint64_t first_key;
    uint64_t last_key;
    uint8_t unused2[BLOCK_BYTES - 76];
    uint32_t crc32c; /* of the page, with this field 0 */
};
static_assert(sizeof(struct index_header) == BLOCK_BYTES, "format 1");

struct index_block {
    uint32_t crc32c; /* of the page, with this field 0 */
    uint32_t n;
    uint64_t keys[BLOCK_ENTRIES];
    uint32_t cells[BLOCK_ENTRIES];
    uint64_t unused;
};
static_assert(sizeof(struct index_block) == BLOCK_BYTES, "format 1");

void index_path(const struct segment_place *place, uint64_t base, char out_path[FILE_PATH_MAX])
{
    snprintf(out_path, FILE_PATH_MAX, "%.*s/%016" PRIx64 ".idx", FILE_PATH_MAX - 32, place->folder, base);
}

void index_publisher_id(uint32_t publisher, uint8_t out_id[16])
{
    memset(out_id, 0, 16); /* no UUID: it has no version */
    memcpy(out_id, "\0pub", 4);
    memcpy(out_id + 4, &publisher, sizeof publisher);
}

/* Big-endian, so that keys rise as the times in ids do. */
static uint64_t key_of(const uint8_t id[16])
{
    uint64_t key;
    memcpy(&key, id, sizeof key);
    return __builtin_bswap64(key);
}

/* --- making ---------------------------------------------------------------------------------------------------------------- */

int index_begin(struct index_draft *out_draft, const struct segment_place *place, uint64_t base, struct error *err)
{
    struct index_draft *draft = out_draft;
    *draft = (struct index_draft){.place = *place, .segment = SEGMENT_NONE, .pos = base};
    journal_reader_init(&draft->reader, &draft->place);
    return segment_open(&draft->segment, place, base, false, err);
}

static int add(struct index_draft *draft, const struct frame_header *header, struct error *err)
{
    uint8_t id[16];
    memcpy(id, header->id, sizeof id);
    if (header->kind == FRAME_NAMES && header->publisher != 0)
        index_publisher_id(header->publisher, id);
    else if (header->kind == FRAME_NAMES || header->kind == FRAME_GAP)
        return EVBUS_OK;
    if (draft->n == draft->room) {
        size_t room = draft->room == 0 ? 1024 : 2 * draft->room;
        struct index_entry *more = realloc(draft->entries, room * sizeof *more);
        if (more == NULL)
            return error_no_memory(err, "an index of events");
        draft->entries = more;
        draft->room = room;
    }
    draft->entries[draft->n++] = (struct index_entry){.key = key_of(id),
                                                      .cell = (uint32_t)(draft->pos - draft->segment.base)};
    return EVBUS_OK;
}

static int by_key(const void *a, const void *b)
{
    const struct index_entry *left = a, *right = b;
    if (left->key != right->key)
        return left->key < right->key ? -1 : 1;
    return left->cell < right->cell ? -1 : left->cell > right->cell;
}

int index_go_on(struct index_draft *draft, uint64_t n_cells, struct error *err)
{
    uint64_t end = draft->segment.base + draft->segment.n_cells;
    uint64_t until = end - draft->pos > n_cells ? draft->pos + n_cells : end;
    while (draft->pos < until) {
        const uint64_t *frame;
        uint64_t next = 0;
        struct error why;
        int seen = journal_read(&draft->reader, draft->pos, end, &frame, &next, &why);
        if (seen < 0) {
            *err = why;
            return seen;
        }
        int rc = seen == JOURNAL_FRAME ? add(draft, (const struct frame_header *)frame, err) : EVBUS_OK;
        if (rc != EVBUS_OK)
            return rc;
        draft->pos = seen == JOURNAL_END || next <= draft->pos || next > end ? end
                                                                             : next; /* cells are lost: so are ids */
    }
    if (draft->pos < end)
        return false;
    journal_reader_close(&draft->reader);
    if (draft->n > 1)
        qsort(draft->entries, draft->n, sizeof *draft->entries, by_key);
    return true;
}

void index_end(struct index_draft *draft)
{
    if (draft->place.n_cells == 0)
        return;
    journal_reader_close(&draft->reader);
    segment_close(&draft->segment);
    free(draft->entries);
    *draft = (struct index_draft){.segment = SEGMENT_NONE};
}

int index_save(const struct index_draft *draft, struct error *err)
{
    char path[FILE_PATH_MAX];
    size_t n_blocks = (draft->n + BLOCK_ENTRIES - 1) / BLOCK_ENTRIES;
    size_t len = (1 + n_blocks) * BLOCK_BYTES;
    uint8_t *bytes = calloc(1, len);
    if (bytes == NULL)
        return error_no_memory(err, "an index of events");
    struct index_header *header = (struct index_header *)bytes;
    *header = (struct index_header){.magic = INDEX_MAGIC,
                                    .version = INDEX_VERSION,
                                    .base = draft->segment.base,
                                    .created_ns = draft->segment.created_ns,
                                    .n_entries = draft->n,
                                    .first_key = draft->n > 0 ? draft->entries[0].key : 0,
                                    .last_key = draft->n > 0 ? draft->entries[draft->n - 1].key : 0};
    memcpy(header->uuid, draft->place.uuid, sizeof header->uuid);
    header->crc32c = frame_crc(header, sizeof *header);
    for (size_t b = 0; b < n_blocks; b++) {
        struct index_block *block = (struct index_block *)(bytes + (1 + b) * BLOCK_BYTES);
        const struct index_entry *from = draft->entries + b * BLOCK_ENTRIES;
        size_t left = draft->n - b * BLOCK_ENTRIES;
        block->n = (uint32_t)(left < BLOCK_ENTRIES ? left : BLOCK_ENTRIES);
        for (uint32_t i = 0; i < block->n; i++) {
            block->keys[i] = from[i].key;
            block->cells[i] = from[i].cell;
        }
        block->crc32c = frame_crc(block, sizeof *block);
    }
    index_path(&draft->place, draft->segment.base, path);
    int rc = file_replace(path, bytes, len, err);
    free(bytes);
    return rc;
}

/* --- finding --------------------------------------------------------------------------------------------------------------- */

struct open_index {
    int fd;
    char path[FILE_PATH_MAX];
    uint64_t n_blocks;
    bool may_have; /* what the header says of the key */
};

/* false: there is none, or it is damaged, or another segment's. */
static bool open_index(struct open_index *index, const struct segment_place *place, const struct segment *segment,
                       uint64_t key)
{
    struct index_header header;
    size_t n;
    index_path(place, segment->base, index->path);
    if (file_open(index->path, O_RDONLY, &index->fd, NULL) != EVBUS_OK)
        return false;
    bool is_whole = file_read(index->fd, index->path, &header, sizeof header, 0, &n, NULL) == EVBUS_OK &&
                    n == sizeof header && header.magic == INDEX_MAGIC && header.version == INDEX_VERSION;
    uint32_t crc = header.crc32c;
    header.crc32c = 0;
    if (!is_whole || frame_crc(&header, sizeof header) != crc || header.base != segment->base ||
        header.created_ns != segment->created_ns || memcmp(header.uuid, place->uuid, sizeof header.uuid) != 0) {
        close(index->fd);
        return false;
    }
    index->n_blocks = (header.n_entries + BLOCK_ENTRIES - 1) / BLOCK_ENTRIES;
    index->may_have = header.n_entries > 0 && header.first_key <= key && key <= header.last_key;
    return true;
}

static bool read_block(const struct open_index *index, uint64_t b, struct index_block *out)
{
    size_t n;
    if (file_read(index->fd, index->path, out, sizeof *out, (1 + b) * BLOCK_BYTES, &n, NULL) != EVBUS_OK ||
        n != sizeof *out)
        return false;
    uint32_t crc = out->crc32c;
    out->crc32c = 0;
    return frame_crc(out, sizeof *out) == crc && out->n >= 1 && out->n <= BLOCK_ENTRIES;
}

/* The cells of a key, rising; to be freed. false: the index is damaged, or there is no memory. */
static bool cells_of(const struct open_index *index, uint64_t key, uint32_t **out_cells, size_t *out_n)
{
    struct index_block block;
    uint64_t low = 0, high = index->may_have ? index->n_blocks : 0;
    uint64_t until = high;
    *out_cells = NULL;
    *out_n = 0;
    while (low < high) { /* the first block whose last key is not less */
        uint64_t middle = low + (high - low) / 2;
        if (!read_block(index, middle, &block))
            return false;
        if (block.keys[block.n - 1] < key)
            low = middle + 1;
        else
            high = middle;
    }
    for (bool more = true; more && low < until; low++) {
        if (!read_block(index, low, &block))
            goto fail;
        for (uint32_t i = 0; i < block.n; i++) {
            more = block.keys[i] <= key;
            if (block.keys[i] != key)
                continue;
            uint32_t *cells = realloc(*out_cells, (*out_n + 1) * sizeof *cells);
            if (cells == NULL)
                goto fail;
            *out_cells = cells;
            cells[(*out_n)++] = block.cells[i];
        }
    }
    return true;
fail:
    free(*out_cells);
    return false;
}

/* There is no index: make one. */
static int make(const struct segment_place *place, const struct segment *segment, uint64_t key, uint32_t **out_cells,
                size_t *out_n, struct error *err)
{
    struct index_draft draft;
    uint32_t *cells = NULL;
    size_t n = 0;
    int rc = index_begin(&draft, place, segment->base, err);
    if (rc != EVBUS_OK)
        return rc;
    rc = index_go_on(&draft, UINT64_MAX, err);
    if (rc >= 0)
        index_save(&draft, NULL); /* who may not write there makes it each time */
    for (size_t i = 0; rc >= 0 && i < draft.n; i++)
        n += draft.entries[i].key == key;
    if (rc >= 0 && n > 0 && (cells = calloc(n, sizeof *cells)) == NULL)
        rc = error_no_memory(err, "an index of events");
    for (size_t i = 0, at = 0; rc >= 0 && at < n; i++)
        if (draft.entries[i].key == key)
            cells[at++] = draft.entries[i].cell;
    index_end(&draft);
    *out_cells = cells;
    *out_n = n;
    return rc < 0 ? rc : EVBUS_OK;
}

int index_find(const struct segment_place *place, const struct segment *segment, const uint8_t id[16],
               int (*each)(void *context, uint64_t pos), void *context, struct error *err)
{
    struct open_index index;
    uint32_t *cells = NULL;
    size_t n = 0;
    uint64_t key = key_of(id);
    bool is_there = open_index(&index, place, segment, key);
    if (is_there) {
        is_there = cells_of(&index, key, &cells, &n);
        close(index.fd);
    }
    int rc = is_there ? EVBUS_OK : make(place, segment, key, &cells, &n, err);
    for (size_t i = 0; i < n && rc == EVBUS_OK; i++)
        rc = each(context, segment->base + cells[i]);
    free(cells);
    return rc;
}
