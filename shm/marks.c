/* marks.c: how far a partition's positions may be in use, and how far they are on disk.
 *
 *     marks.<incarnation, 8 hex>.<keeper's number, 6 hex>
 *     | header 512 | to 4096 | entry 0: slot, slot | entry 1: slot, slot | ...    a slot is a sector with a checksum
 *
 *   ceiling  written and synced before any position below it may be used: `released` + capacity never passes it. A bus that lost
 *            its memory goes on AT it, so no position is ever used twice, whatever was not synced [J1]
 *   synced   a bad frame below it is rot, above it torn [J2]. It may lag, never run ahead
 *   slots    an entry's two are written in turns, so a torn write harms the one that nobody needs
 *   cut      a partition without a mark would begin as a new one does, at positions that are in use. So the header says how many
 *            marks there are at least before a file stands alone, and all files together must have as many; what an entry's first
 *            writes have filled must not be empty. A log that was added since has no files before it has a mark (writer.c)
 *   terms    each keeper writes a file of its own: one that was deposed and wakes writes where nobody looks. The ceiling's word in
 *            memory carries the keeper's number, so its late CAS fails, too. What is higher counts, of all files; a new keeper
 *            drops the others when its own is on disk [J4]
 * [keeps DURABLE] Rules J1 J2 J4. Checked by tests/unit/test_marks.c. */
#include "marks.h"

#include "frame.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MARKS_MAGIC   UINT64_C(0x6b72616d75627665) /* "evbumark" */
#define MARKS_VERSION 1
#define SLOT_BYTES    512
#define FIRST_ENTRY   4096
#define BYTES_MAX     (FIRST_ENTRY + (size_t)LOGS_MAX * PARTITIONS_MAX * 2 * SLOT_BYTES)

struct marks_slot {
    uint64_t magic;
    uint32_t version;
    uint32_t n_entries; /* in the header: at least, when it stands alone */
    uint8_t uuid[16];
    uint64_t count; /* 0: the file's header */
    struct mark mark;
    uint8_t unused_too[316];
    uint32_t crc32c; /* of the slot, with this field 0 */
};
static_assert(sizeof(struct marks_slot) == SLOT_BYTES, "a sector");

static uint32_t crc_of(struct marks_slot slot)
{
    slot.crc32c = 0;
    return frame_crc(&slot, sizeof slot);
}

static void term_name(struct term term, char out[64])
{
    snprintf(out, 64, "marks.%08" PRIx64 ".%06x", term.incarnation, term.number);
}

bool marks_is(const char *name)
{
    return strlen(name) == sizeof "marks.00000000.000000" - 1 && strncmp(name, "marks.", 6) == 0 && name[14] == '.' &&
           strspn(name + 6, "0123456789abcdef") == 8 && strspn(name + 15, "0123456789abcdef") == 6;
}

static uint64_t offset_of(uint32_t index, uint64_t count)
{
    return FIRST_ENTRY + ((uint64_t)index * 2 + count % 2) * SLOT_BYTES;
}

static int write_slot(const struct marks *marks, struct marks_slot slot, uint64_t offset, struct error *err)
{
    slot.magic = MARKS_MAGIC;
    slot.version = MARKS_VERSION;
    memcpy(slot.uuid, marks->uuid, sizeof slot.uuid);
    slot.crc32c = crc_of(slot);
    return file_write(marks->fd, marks->path, &slot, sizeof slot, offset, err);
}

int marks_create(struct marks *out_marks, const char *folder, const uint8_t uuid[16], struct term term,
                 uint32_t n_entries, struct error *err)
{
    struct marks marks = MARKS_NONE;
    char name[64];
    term_name(term, name);
    memcpy(marks.uuid, uuid, sizeof marks.uuid);
    file_path(marks.path, folder, name);
    marks.counts = calloc((size_t)LOGS_MAX * PARTITIONS_MAX, sizeof *marks.counts);
    if (marks.counts == NULL)
        return error_no_memory(err, "marks");
    if (access(marks.path, F_OK) == 0) {
        free(marks.counts);
        return error_set(err, EVBUS_EDUPLICATE, "%s is there already", marks.path);
    }
    int rc = file_open(marks.path, O_RDWR | O_CREAT | O_EXCL, &marks.fd, err);
    if (rc == EVBUS_OK)
        rc = write_slot(&marks, (struct marks_slot){.n_entries = n_entries}, 0, err);
    if (rc == EVBUS_OK)
        rc = file_sync(marks.fd, marks.path, err);
    if (rc == EVBUS_OK)
        rc = file_sync_folder(folder, err);
    if (rc != EVBUS_OK) {
        if (marks.fd >= 0)
            unlink(marks.path);
        marks_close(&marks);
        return rc;
    }
    *out_marks = marks;
    return EVBUS_OK;
}

int marks_write(struct marks *marks, uint32_t index, const struct mark *mark, bool sync, struct error *err)
{
    uint64_t count = marks->counts[index] + 1;
    int rc = write_slot(marks, (struct marks_slot){.count = count, .mark = *mark}, offset_of(index, count), err);
    if (rc == EVBUS_OK)
        marks->counts[index] = count;
    return rc == EVBUS_OK && sync ? file_sync(marks->fd, marks->path, err) : rc;
}

/* --- loading ------------------------------------------------------------------------------------------------------------ */

enum slot_is { SLOT_EMPTY, SLOT_GOOD, SLOT_DAMAGED };

static enum slot_is look_at(const struct marks_slot *slot, const uint8_t uuid[16])
{
    static const struct marks_slot zero;
    if (memcmp(slot, &zero, sizeof zero) == 0)
        return SLOT_EMPTY;
    return slot->magic == MARKS_MAGIC && slot->crc32c == crc_of(*slot) && memcmp(slot->uuid, uuid, 16) == 0 &&
                   slot->mark.log[NAME_BYTES - 1] == '\0' && slot->mark.partition < PARTITIONS_MAX
               ? SLOT_GOOD
               : SLOT_DAMAGED;
}

struct list {
    struct mark *marks;
    size_t n;
    uint32_t n_least;         /* that there must be */
    char says[FILE_PATH_MAX]; /* which file says so */
    bool is_changing;         /* a later keeper has dropped a file meanwhile */
};

static int add(struct list *list, const struct mark *mark, struct error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        struct mark *found = &list->marks[i];
        if (found->partition != mark->partition || strcmp(found->log, mark->log) != 0)
            continue;
        if (found->ceiling < mark->ceiling)
            found->ceiling = mark->ceiling;
        if (found->synced < mark->synced)
            found->synced = mark->synced;
        return EVBUS_OK;
    }
    struct mark *more = realloc(list->marks, (list->n + 1) * sizeof *more);
    if (more == NULL)
        return error_no_memory(err, "marks");
    list->marks = more;
    list->marks[list->n++] = *mark;
    return EVBUS_OK;
}

static int load_file(const char *path, const uint8_t uuid[16], struct list *list, struct error *err)
{
    char *bytes;
    size_t len;
    int rc = file_read_all(path, BYTES_MAX, &bytes, &len, err);
    if (rc == EVBUS_ENOTFOUND) { /* dropped just now: whoever did it had higher ones */
        list->is_changing = true;
        return EVBUS_OK;
    }
    if (rc != EVBUS_OK)
        return rc;
    const struct marks_slot *header = (const struct marks_slot *)(const void *)bytes;
    if (len >= sizeof *header && header->magic == MARKS_MAGIC && header->crc32c == crc_of(*header)) {
        if (header->version > MARKS_VERSION)
            rc = error_set(err, EVBUS_ELAYOUT, "%s is of format %u, this build reads %u: use a newer evbus", path,
                           header->version, MARKS_VERSION);
        else if (memcmp(header->uuid, uuid, 16) != 0)
            rc = error_set(err, EVBUS_ECONFLICT, "%s is of another bus: move it away", path);
        else if (list->n_least < header->n_entries) {
            list->n_least = header->n_entries;
            snprintf(list->says, sizeof list->says, "%s", path);
        }
    }
    for (size_t at = FIRST_ENTRY; rc == EVBUS_OK && at + 2 * SLOT_BYTES <= len + SLOT_BYTES; at += 2 * SLOT_BYTES) {
        struct marks_slot slots[2];
        memset(slots, 0, sizeof slots);
        memcpy(slots, bytes + at, len - at < sizeof slots ? len - at : sizeof slots);
        enum slot_is is[2] = {look_at(&slots[0], uuid), look_at(&slots[1], uuid)};
        if (is[0] != SLOT_GOOD && is[1] != SLOT_GOOD) {
            if (is[0] == SLOT_DAMAGED || is[1] == SLOT_DAMAGED)
                rc = error_set(err, EVBUS_ECORRUPT, "%s at %zu: a damaged mark", path, at);
            continue;
        }
        struct marks_slot *best =
            &slots[is[1] == SLOT_GOOD && (is[0] != SLOT_GOOD || slots[1].count > slots[0].count) ? 1 : 0];
        bool is_one_lost = best->count > 1 && (is[0] == SLOT_EMPTY || is[1] == SLOT_EMPTY);
        if (is_one_lost || is[0] == SLOT_DAMAGED ||
            is[1] == SLOT_DAMAGED) /* torn, or rot, or a cut, of the newer one: nobody can tell */
            best->mark.ceiling += 2 * MARKS_STEP;
        rc = add(list, &best->mark, err);
    }
    free(bytes);
    return rc;
}

int marks_load(const char *folder, const uint8_t uuid[16], struct mark **out_marks, size_t *out_n, struct error *err)
{
    struct list list = {.marks = NULL};
    int rc = EVBUS_OK;
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return file_failed(err, folder, "cannot open it", errno);
    for (struct dirent *entry; (entry = file_next_name(dir, folder, &rc, err)) != NULL;) {
        char path[FILE_PATH_MAX];
        if (!marks_is(entry->d_name))
            continue;
        file_path(path, folder, entry->d_name);
        rc = load_file(path, uuid, &list, err);
    }
    closedir(dir);
    if (rc == EVBUS_OK && list.n < list.n_least && !list.is_changing)
        rc = error_set(err, EVBUS_ECORRUPT,
                       "%s has been cut, or damaged: it tells of %zu partitions what positions were in use, and there "
                       "were %u: put it back from a backup",
                       list.says, list.n, list.n_least);
    if (rc != EVBUS_OK) {
        free(list.marks);
        return rc;
    }
    *out_marks = list.marks;
    *out_n = list.n;
    return EVBUS_OK;
}

static int tell_damage(const char *path, uint64_t at, const char *what, uint64_t *out_at, struct error *err)
{
    *out_at = at;
    return error_set(err, EVBUS_ECORRUPT, "%s at %" PRIu64 ": %s", path, at, what);
}

int marks_check(const char *path, const uint8_t uuid[16], uint64_t *out_at, struct error *err)
{
    struct list list = {.marks = NULL};
    char *bytes;
    size_t len;
    int rc = file_read_all(path, BYTES_MAX, &bytes, &len, err);
    *out_at = 0;
    if (rc != EVBUS_OK)
        return rc;
    const struct marks_slot *header = (const struct marks_slot *)(const void *)bytes;
    if (len < sizeof *header || header->magic != MARKS_MAGIC || header->crc32c != crc_of(*header))
        rc = tell_damage(path, 0, "its header is damaged", out_at, err);
    for (size_t at = sizeof *header; rc == EVBUS_OK && at < len && at < FIRST_ENTRY; at++)
        if (bytes[at] != 0)
            rc = tell_damage(path, at, "no evbus wrote this byte", out_at, err);
    for (size_t at = FIRST_ENTRY; rc == EVBUS_OK && at < len; at += SLOT_BYTES) {
        struct marks_slot slot;
        memset(&slot, 0, sizeof slot);
        memcpy(&slot, bytes + at, len - at < sizeof slot ? len - at : sizeof slot);
        if (look_at(&slot, header->uuid) == SLOT_DAMAGED)
            rc = tell_damage(path, at, "a damaged mark", out_at, err);
    }
    free(bytes);
    if (rc == EVBUS_OK)
        rc = load_file(path, uuid, &list, err);
    free(list.marks);
    return rc;
}

const struct mark *marks_find(const struct mark *marks, size_t n, const char *log, uint32_t partition)
{
    for (size_t i = 0; i < n; i++)
        if (marks[i].partition == partition && strcmp(marks[i].log, log) == 0)
            return &marks[i];
    return NULL;
}

int marks_drop_others(const char *folder, struct term term, struct error *err)
{
    char keep[64];
    int rc = EVBUS_OK;
    term_name(term, keep);
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return file_failed(err, folder, "cannot open it", errno);
    for (struct dirent *entry; (entry = file_next_name(dir, folder, &rc, err)) != NULL;) {
        char path[FILE_PATH_MAX];
        if (!marks_is(entry->d_name) || strcmp(entry->d_name, keep) >= 0) /* a later term's is not ours to drop */
            continue;
        file_path(path, folder, entry->d_name);
        if (unlink(path) != 0 && errno != ENOENT)
            rc = file_failed(err, path, "cannot remove it", errno);
    }
    closedir(dir);
    return rc;
}

void marks_close(struct marks *marks)
{
    if (marks->fd >= 0)
        close(marks->fd);
    free(marks->counts);
    *marks = MARKS_NONE;
}
