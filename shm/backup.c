/* backup.c: a copy of what a bus remembers, taken while all runs.
 *
 *   a pass   1. `catalogue` is read                                    2. the groups' states: a snapshot in memory
 *            3. of each partition: its tail is awaited on the disk     4. its files are copied, up to `synced`, oldest first
 *            5. `catalogue` is read again
 *            Again, for what has been added since, where 5 differs from 1, or where retention has taken what a group of 2 needed
 *   the end  marks: {ceiling, read now; synced, up to where we copied}, groups, `catalogue`, `bus`; sync, rename, sync
 *
 * Why that is enough. The snapshot comes before the journals [J3]: what a group has done lies below the tails of 3, and so does what
 * its handlers had published; 4 copies at least so much. `catalogue` is of after the journals: an id of a topic is on disk before a
 * frame has it, so no frame of the copy has an id that a topic of another name is given later. And it is of before the snapshot, too:
 * a group that it names was made before its text was written, so the snapshot has it, and it does not begin at the earliest event.
 * A log that is not in that text (it is just being added) is left out.
 * Only what lies below `synced` is copied: nothing writes there any more, whoever keeps, and a file that is made anew has the same
 * bytes there (writer.c). So all below the copy's own mark `synced` is in it, and nothing is above [J2]. Its ceiling is read last and
 * lies above all positions that it has: who comes back from it uses none of them again [J1].
 * Retention takes files oldest first. Where one goes before it was copied, what was copied before it goes from the copy, too: else
 * there would be a hole. That is all, unless a group of the snapshot still needed something there.
 * The copy's incarnation is one more than the bus's: so it never fits memory that is there, of this life, by mistake
 * (memory_open_state()); of later lives the ceilings tell (writer_open()).
 *
 * No lock is taken but the draft's, no word of the bus is written: producers, members, an apply and the keeper never wait for a backup, and
 * one that is stopped holds up nobody. Rules J1-J3. Checked by tests/unit/test_backup.c
 * and tests/crash/test_backup.c. */
#include <evbus/history.h>

#include "backup_draft.h"
#include "bus.h"
#include "catalogue.h"
#include "partition.h"
#include "saved.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PASSES_MAX  16
#define PIECE_BYTES (UINT64_C(4) << 20) /* between two calls of progress() */
#define DAMAGED     ".damaged"
#define STOPPED     1 /* no code */

/* One partition. */
struct part {
    struct ring *ring;
    struct segment_place place;
    struct segment_place to; /* of its copy */
    bool has_folder;
    uint64_t needed; /* no group of the snapshot needs what lies before */
    uint64_t copied; /* the copy has all that there is up to here, from some file's beginning on; 0: nothing */
    uint64_t until;  /* it shall have */
};

struct backup {
    struct evbus *bus;
    struct memory *memory;
    const struct evbus_backup_options *options;
    struct backup_draft draft;
    struct part *parts[LOGS_MAX]; /* NULL: it has no journal, or is not known yet */
    struct applied applied;
    char *groups; /* the snapshot */
    size_t groups_len;
    uint64_t done, all; /* bytes */
    int answer;         /* of progress() */
};

typedef int part_work(struct backup *backup, struct part *part, struct error *err);

static int each_part(struct backup *backup, part_work *work, struct error *err)
{
    int rc = EVBUS_OK;
    for (uint32_t l = 0; l < memory_n_logs(backup->memory); l++)
        for (uint32_t p = 0; rc == EVBUS_OK && backup->parts[l] != NULL && p < backup->memory->logs[l].n_partitions;
             p++)
            rc = work(backup, &backup->parts[l][p], err);
    return rc;
}

/* STOPPED: the caller wants no more of it. */
static int tell(struct backup *backup)
{
    uint64_t all = backup->all > backup->done ? backup->all : backup->done;
    if (backup->options->progress != NULL)
        backup->answer = backup->options->progress(backup->options->context, backup->done, all);
    return backup->answer == 0 ? EVBUS_OK : STOPPED;
}

static uint64_t oldest_of(const struct part *part)
{
    return RELEASED_POSITION(atomic_load_explicit(&part->ring->head->oldest, memory_order_acquire));
}

/* --- copying ------------------------------------------------------------------------------------------------------------------ */

static int make_folder(const struct backup *backup, struct part *part, struct error *err)
{
    char log[FILE_PATH_MAX];
    if (part->has_folder)
        return EVBUS_OK;
    file_path(log, backup->draft.path, part->ring->name);
    int rc = file_make_folder(log, backup->draft.mode, backup->draft.group, err);
    if (rc == EVBUS_OK)
        rc = file_make_folder(part->to.folder, backup->draft.mode, backup->draft.group, err);
    part->has_folder = rc == EVBUS_OK;
    return rc;
}

/* What was copied of a partition is of no use, as what comes behind it is not to be had any more. */
static int drop(struct part *part, struct error *err)
{
    if (!part->has_folder)
        return EVBUS_OK;
    part->has_folder = false;
    part->copied = 0;
    return state_remove_folder(part->to.folder, err);
}

/* Bytes [at, until) of a file, on disk on return. */
static int copy_bytes(struct backup *backup, int from, const char *from_path, const char *to_path, uint64_t at,
                      uint64_t until, struct error *err)
{
    int to;
    int rc = file_open(to_path, O_WRONLY | O_CREAT, &to, err);
    if (rc != EVBUS_OK)
        return rc;
    while (rc == EVBUS_OK && at < until) {
        uint64_t end = until - at > PIECE_BYTES ? at + PIECE_BYTES : until;
        rc = file_copy(from, from_path, to, to_path, at, end, err);
        if (rc != EVBUS_OK)
            break;
        backup->done += end - at;
        at = end;
        rc = tell(backup);
    }
    if (rc == EVBUS_OK)
        rc = file_sync(to, to_path, err);
    if (close(to) != 0 && rc == EVBUS_OK)
        rc = file_failed(err, to_path, "close", errno);
    return rc;
}

/* The file that begins at base, as far as it goes below part->until. *out_is_gone: it is not there any more. */
static int copy_segment(struct backup *backup, struct part *part, uint64_t base, bool *out_is_gone, struct error *err)
{
    char path[FILE_PATH_MAX], to_path[FILE_PATH_MAX];
    struct segment segment = SEGMENT_NONE;
    struct stat found;
    uint64_t at = 0, until = UINT64_MAX;
    segment_path(&part->place, base, path);
    segment_path(&part->to, base, to_path);
    int rc = segment_open(&segment, &part->place, base, false, err);
    if (rc == EVBUS_OK) {
        at = part->copied > base ? segment_offset(&segment, part->copied) : 0;
        until = segment_offset(&segment, part->until);
    } else if (rc == EVBUS_ECORRUPT || rc == EVBUS_ECONFLICT || rc == EVBUS_ELAYOUT) {
        segment = SEGMENT_NONE; /* no reader finds a cell in it, here or there: all of it, as it is */
        rc = file_open(path, O_RDONLY, &segment.fd, err);
    }
    *out_is_gone = rc == EVBUS_ENOTFOUND;
    if (rc != EVBUS_OK)
        return *out_is_gone ? EVBUS_OK : rc;
    if (fstat(segment.fd, &found) != 0)
        rc = file_failed(err, path, "fstat", errno);
    else if (until > (uint64_t)found.st_size) /* one of before a restart, or that was cut */
        until = (uint64_t)found.st_size;
    if (rc == EVBUS_OK)
        rc = make_folder(backup, part, err);
    if (rc == EVBUS_OK)
        rc = copy_bytes(backup, segment.fd, path, to_path, at, until, err);
    segment_close(&segment);
    return rc;
}

static int copy_part(struct backup *backup, struct part *part, struct error *err)
{
    uint64_t *bases;
    size_t n;
    part->until = ring_synced(part->ring); /* first: whatever file has the name by then has all below it */
    int rc = journal_list(&part->place, &bases, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    for (size_t i = 0; rc == EVBUS_OK && i < n && bases[i] < part->until; i++) {
        uint64_t end = i + 1 < n && bases[i + 1] < part->until ? bases[i + 1] : part->until;
        bool is_gone = false;
        if (end <= part->copied || (i + 1 < n && bases[i + 1] <= oldest_of(part)))
            continue;
        if (bases[i] > part->copied)
            rc = drop(part, err);
        if (rc == EVBUS_OK)
            rc = copy_segment(backup, part, bases[i], &is_gone, err);
        if (rc == EVBUS_OK && !is_gone)
            part->copied = end;
        else if (rc == EVBUS_OK && bases[i] >= oldest_of(part))
            rc = error_set(err, EVBUS_ENOTFOUND, "%s/%016" PRIx64 ".seg has gone while it was to be copied: try again",
                           part->place.folder, bases[i]);
    }
    free(bases);
    return rc;
}

/* What was put aside as damaged is evidence. */
static int copy_damaged(struct backup *backup, const char *from, const char *to, struct part *part, struct error *err)
{
    int rc = EVBUS_OK;
    DIR *dir = opendir(from);
    if (dir == NULL)
        return errno == ENOENT ? EVBUS_OK : file_failed(err, from, "cannot open it", errno);
    for (struct dirent *entry; (entry = file_next_name(dir, from, &rc, err)) != NULL;) {
        char path[FILE_PATH_MAX], to_path[FILE_PATH_MAX];
        struct stat found;
        int fd;
        if (!file_has_ending(entry->d_name, DAMAGED) || strlen(entry->d_name) > 128)
            continue;
        file_path(path, from, entry->d_name);
        file_path(to_path, to, entry->d_name);
        if ((rc = file_open(path, O_RDONLY | O_NONBLOCK, &fd, err)) != EVBUS_OK)
            continue;
        if (fstat(fd, &found) != 0)
            rc = file_failed(err, path, "fstat", errno);
        if (rc == EVBUS_OK && part != NULL && S_ISREG(found.st_mode))
            rc = make_folder(backup, part, err);
        if (rc == EVBUS_OK && S_ISREG(found.st_mode))
            rc = copy_bytes(backup, fd, path, to_path, 0, (uint64_t)found.st_size, err);
        close(fd);
    }
    closedir(dir);
    return rc;
}

static int finish_part(struct backup *backup, struct part *part, struct error *err)
{
    int rc = copy_damaged(backup, part->place.folder, part->to.folder, part, err);
    return rc == EVBUS_OK && part->has_folder ? file_sync_folder(part->to.folder, err) : rc;
}

/* --- a pass ------------------------------------------------------------------------------------------------------------------- */

static bool is_known(const struct catalogue *catalogue, const struct memory_log *log)
{
    for (size_t i = 0; i < catalogue->n_logs; i++)
        if (strcmp(catalogue->logs[i].name, log->name) == 0)
            return true;
    return memory_is_internal(log);
}

static int add_log(struct backup *backup, uint32_t l, struct error *err)
{
    struct memory_log *log = &backup->memory->logs[l];
    backup->parts[l] = calloc(log->n_partitions, sizeof *backup->parts[l]);
    if (backup->parts[l] == NULL)
        return error_no_memory(err, "the backup of %s", log->name);
    for (uint32_t p = 0; p < log->n_partitions; p++) {
        struct part *part = &backup->parts[l][p];
        char name[NAME_BYTES + 16];
        part->ring = &log->rings[p];
        partition_place(backup->memory, part->ring, &part->place);
        part->to = part->place;
        snprintf(name, sizeof name, "%s/%u", log->name, p);
        file_path(part->to.folder, backup->draft.path, name);
    }
    return EVBUS_OK;
}

/* Of all logs that the catalogue has. */
static int add_logs(struct backup *backup, struct error *err)
{
    struct catalogue *catalogue = NULL;
    int rc = catalogue_parse(backup->applied.text, backup->applied.len, &catalogue, err);
    if (rc == EVBUS_OK)
        rc = memory_map_new_logs(backup->memory, err);
    for (uint32_t l = 0; rc == EVBUS_OK && l < memory_n_logs(backup->memory); l++) {
        const struct memory_log *log = &backup->memory->logs[l];
        if (backup->parts[l] == NULL && log->rings[0].has_journal && is_known(catalogue, log))
            rc = add_log(backup, l, err);
    }
    catalogue_free(catalogue);
    return rc;
}

static int note_needed(struct backup *backup, struct part *part, struct error *err)
{
    (void)backup;
    (void)err;
    uint64_t oldest = oldest_of(part);
    part->needed = ring_needed_from(part->ring);
    if (part->needed < oldest)
        part->needed = oldest;
    return EVBUS_OK;
}

static int await_disk(struct backup *backup, struct part *part, struct error *err)
{
    uint64_t tail = ring_tail(part->ring);
    int rc = partition_await_disk(backup->memory, part->ring, tail, tail, false, err);
    if (rc != EVBUS_EIO)
        return rc;
    uint32_t failed = atomic_load_explicit(&part->ring->head->write_failed, memory_order_acquire);
    return error_set(err, rc,
                     "%s/%u is on disk up to %" PRIu64 ", and in memory up to %" PRIu64
                     ": a backup would lack the rest, and %s; `evbus doctor` tells more",
                     part->ring->name, part->ring->partition, ring_synced(part->ring), tail,
                     failed != 0 ? "the disk fails" : "nobody brings it there");
}

/* Has retention taken what a group of the snapshot needed? */
static int check_needed(struct backup *backup, struct part *part, struct error *err)
{
    (void)backup;
    (void)err;
    return oldest_of(part) > part->needed ? EVBUS_EAGAIN : EVBUS_OK;
}

static bool is_same(const struct applied *one, const struct applied *other)
{
    return one->len == other->len && memcmp(one->text, other->text, one->len) == 0 &&
           json_equal(one->ids, other->ids) != 0;
}

/* EVBUS_EAGAIN: another one is needed. */
static int pass(struct backup *backup, struct error *err)
{
    struct applied since = {.ids = NULL};
    applied_free(&backup->applied);
    free(backup->groups);
    backup->groups = NULL;
    int rc = applied_read(backup->draft.source, backup->memory->control->uuid, &backup->applied, err);
    if (rc == EVBUS_OK)
        rc = add_logs(backup, err);
    if (rc == EVBUS_OK)
        rc = each_part(backup, note_needed, err); /* before the snapshot: no group's low in it is lower */
    if (rc == EVBUS_OK)
        rc = saved_snapshot(backup->memory, &backup->groups, &backup->groups_len, err);
    if (rc == EVBUS_OK)
        rc = each_part(backup, await_disk, err);
    if (rc == EVBUS_OK)
        rc = each_part(backup, copy_part, err);
    if (rc == EVBUS_OK)
        rc = applied_read(backup->draft.source, backup->memory->control->uuid, &since, err);
    if (rc != EVBUS_OK)
        return rc;
    bool has_changed = !is_same(&backup->applied, &since);
    applied_free(&since);
    return has_changed ? EVBUS_EAGAIN : each_part(backup, check_needed, err);
}

static int measure(struct backup *backup, struct part *part, struct error *err)
{
    uint64_t *bases;
    size_t n;
    int rc = journal_list(&part->place, &bases, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    for (size_t i = 0; i < n; i++) {
        char path[FILE_PATH_MAX];
        struct stat found;
        segment_path(&part->place, bases[i], path);
        backup->all += stat(path, &found) == 0 ? (uint64_t)found.st_size : 0;
    }
    free(bases);
    return EVBUS_OK;
}

static int copy_journals(struct backup *backup, struct error *err)
{
    int rc = applied_read(backup->draft.source, backup->memory->control->uuid, &backup->applied, err);
    if (rc == EVBUS_OK)
        rc = add_logs(backup, err);
    if (rc == EVBUS_OK)
        rc = each_part(backup, measure, err);
    if (rc == EVBUS_OK)
        rc = tell(backup);
    for (unsigned n = 0; rc == EVBUS_OK; n++) {
        rc = pass(backup, err);
        if (rc != EVBUS_EAGAIN)
            break;
        rc = n + 1 < PASSES_MAX ? EVBUS_OK
                                : error_set(err, EVBUS_EBUSY,
                                            "bus %s: its catalogue changes, or old files go, faster than they are "
                                            "copied: try again, or keep its files for longer (retention)",
                                            backup->memory->bus);
    }
    return rc;
}

/* --- the end ------------------------------------------------------------------------------------------------------------------- */

/* How many partitions have a mark, at least: a ceiling only rises. */
static uint32_t count_marks(const struct backup *backup)
{
    uint32_t n = 0;
    for (uint32_t l = 0; l < memory_n_logs(backup->memory); l++)
        for (uint32_t p = 0; backup->parts[l] != NULL && p < backup->memory->logs[l].n_partitions; p++)
            n += TERM_POSITION(atomic_load_explicit(&backup->parts[l][p].ring->head->ceiling, memory_order_acquire)) !=
                 0;
    return n;
}

static int put_marks(struct backup *backup, struct term term, struct error *err)
{
    struct marks marks = MARKS_NONE;
    uint32_t index = 0;
    int rc = marks_create(&marks, backup->draft.path, backup->memory->control->uuid, term, count_marks(backup), err);
    for (uint32_t l = 0; l < memory_n_logs(backup->memory); l++)
        for (uint32_t p = 0; rc == EVBUS_OK && backup->parts[l] != NULL && p < backup->memory->logs[l].n_partitions;
             p++) {
            const struct part *part = &backup->parts[l][p];
            const struct ring_head *head = part->ring->head;
            struct mark mark = {.partition = p,
                                .ceiling = TERM_POSITION(atomic_load_explicit(&head->ceiling, memory_order_acquire)),
                                /* where this life has nothing yet: the end of the one before */
                                .synced = part->until == head->start ? head->prev_end : part->until};
            memcpy(mark.log, part->place.log, sizeof mark.log);
            if (mark.ceiling != 0) /* else nobody has used it yet */
                rc = marks_write(&marks, index++, &mark, false, err);
        }
    if (rc == EVBUS_OK)
        rc = file_sync(marks.fd, marks.path, err);
    marks_close(&marks);
    return rc;
}

static int put_rest(struct backup *backup, struct error *err)
{
    const uint8_t *uuid = backup->memory->control->uuid;
    struct state_identity identity = {.incarnation = backup->memory->control->incarnation + 1};
    struct term term = {.incarnation = identity.incarnation};
    memcpy(identity.uuid, uuid, sizeof identity.uuid);
    int rc = each_part(backup, finish_part, err);
    if (rc == EVBUS_OK)
        rc = copy_damaged(backup, backup->draft.source, backup->draft.path, NULL, err);
    if (rc == EVBUS_OK)
        rc = put_marks(backup, term, err);
    if (rc == EVBUS_OK)
        rc = saved_put(backup->draft.path, uuid, term, 1, backup->groups, backup->groups_len, err);
    if (rc == EVBUS_OK)
        rc = applied_write(backup->draft.path, uuid, &backup->applied, err);
    return rc == EVBUS_OK ? state_put(backup->draft.path, &identity, err) : rc;
}

static int run(struct backup *backup, struct error *err)
{
    const char *dir = backup->options->dir;
    if (dir == NULL || dir[0] == '\0')
        return error_set(err, EVBUS_EINVAL, "options.dir is missing: the folder in which the copy is to stand");
    if (!memory_remembers(backup->memory))
        return error_set(err, EVBUS_ENOTFOUND,
                         "no log of bus %s has a journal: there is nothing on disk that could be copied",
                         backup->memory->bus);
    int rc = backup_draft_make(&backup->draft, backup->memory->bus, backup->memory->state.folder, dir, err);
    if (rc == EVBUS_OK)
        rc = copy_journals(backup, err);
    if (rc == EVBUS_OK)
        rc = put_rest(backup, err);
    if (rc == EVBUS_OK)
        rc = bus_check(backup->bus, err); /* removed meanwhile: nobody knows what we found in its folder */
    if (rc == EVBUS_OK)
        rc = backup_draft_give_name(&backup->draft, err);
    if (rc == EVBUS_OK) {
        backup->all = backup->done;
        tell(backup); /* it is there, whatever the answer */
    }
    return rc;
}

static void end(struct backup *backup)
{
    backup_draft_end(&backup->draft);
    for (uint32_t l = 0; l < LOGS_MAX; l++)
        free(backup->parts[l]);
    applied_free(&backup->applied);
    free(backup->groups);
    free(backup);
}

EVBUS_API int evbus_backup(struct evbus *bus, const struct evbus_backup_options *given)
{
    struct error *err = error_of_thread();
    struct evbus_backup_options options = {0};
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && given == NULL)
        rc = error_set(err, EVBUS_EINVAL, "options is NULL");
    if (rc == EVBUS_OK)
        rc = bus_take_struct(&options, sizeof options, given, given->size, "struct evbus_backup_options", err);
    if (rc != EVBUS_OK)
        return rc;
    struct backup *backup = calloc(1, sizeof *backup);
    if (backup == NULL)
        return error_no_memory(err, "a backup");
    backup->bus = bus;
    backup->memory = &bus->memory;
    backup->options = &options;
    backup->draft.fd = -1;
    rc = run(backup, err);
    int answer = backup->answer;
    end(backup);
    if (rc == STOPPED)
        return answer;
    return rc == EVBUS_OK || bus_check(bus, NULL) == EVBUS_OK ? rc : bus_check(bus, err);
}
