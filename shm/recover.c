/* recover.c: how a bus's folder begins, and how its memory comes back from it.
 *
 *   begin    `bus` (locked for the maker alone), marks: so that no position is used that they do not tell
 *   finish   `catalogue`: the folder is whole, and a bus's that can be brought back
 *   back     alone with the folder (lock); incarnation counted up, on disk; catalogue and ids; rings that begin at their ceilings,
 *            so that no position is used twice, whatever was not synced [J1]; new marks, on disk; groups as they were saved. Then
 *            `ready`. Read are the marks, the catalogue, the groups' states, and of each partition the last file from where it was
 *            synced on: a frame there that is not whole was torn by the cut, unless whole ones stand behind it
 *   anew     what is whole above the mark is written once more, from our copy, and synced, before anybody is told that it is there.
 *            The host may have lived on (memory removed by hand, a container's restart): then it may stand in the page cache alone,
 *            and where its fdatasync has failed the kernel takes it for written, so another one would not bring it to disk [J4c].
 *            In its place, not in another file: the bytes are the same, a power cut on the way takes nothing that was synced, a full
 *            disk does not stop it, and it costs what lies above the mark, not a whole file. Where it fails the bus is not brought
 *            back, and the next try writes once more. The files before the last one were synced before that was begun
 * A maker that dies in between leaves a folder without `catalogue` and with its lock free: the next one clears it away.
 * Who dies while it brings a bus back leaves memory that is not ready, and is followed by the next.
 * [keeps DURABLE] Rules J1-J3. Checked by tests/unit/test_recover.c and tests/crash/test_power.c. */
#include "recover.h"

#include "clock.h"
#include "memory_make.h"
#include "partition.h"
#include "provide.h"
#include "retire.h"
#include "saved.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a maker left that died. */
static void clear_half_made(const char *folder)
{
    struct state state;
    struct state_identity identity;
    state_clear(folder);
    if (applied_is_there(folder))
        return;
    int rc = state_open(&state, folder, true, &identity, NULL);
    if (rc == EVBUS_OK && !applied_is_there(folder))
        state_remove(folder, NULL);
    if (rc == EVBUS_OK)
        state_close(&state);
}

/* The marks of a life that begins, and the ceilings in memory: of term 0, which is nobody's. */
static int begin_marks(const struct memory *memory, struct error *err)
{
    const struct control *control = memory->control;
    struct marks marks = MARKS_NONE;
    uint32_t index = 0, n = 0;
    struct term term = {.incarnation = control->incarnation, .number = 0};
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        n += memory->logs[l].head->has_journal ? memory->logs[l].n_partitions : 0;
    int rc = marks_create(&marks, memory->state.folder, control->uuid, term, n, err);
    for (uint32_t l = 0; rc == EVBUS_OK && l < memory_n_logs(memory); l++) {
        const struct memory_log *log = &memory->logs[l];
        for (uint32_t p = 0; rc == EVBUS_OK && log->head->has_journal && p < log->n_partitions; p++) {
            struct ring_head *head = log->rings[p].head;
            struct mark mark = {.partition = p, .ceiling = head->start + MARKS_STEP, .synced = head->prev_end};
            memcpy(mark.log, log->name, sizeof mark.log);
            rc = marks_write(&marks, index++, &mark, false, err);
            atomic_store_explicit(&head->ceiling, TERM_WORD(mark.ceiling, 0), memory_order_relaxed);
        }
    }
    if (rc == EVBUS_OK)
        rc = file_sync(marks.fd, marks.path, err);
    marks_close(&marks);
    return rc;
}

int recover_begin(struct memory *memory, mode_t mode, gid_t group, struct error *err)
{
    struct control *control = memory->control;
    char folder[FILE_PATH_MAX];
    if (!memory_remembers(memory))
        return EVBUS_OK;
    struct state_identity identity = {.incarnation = control->incarnation};
    memcpy(identity.uuid, control->uuid, sizeof identity.uuid);
    int rc = state_folder(memory->bus, folder, err);
    if (rc != EVBUS_OK)
        return rc;
    clear_half_made(folder);
    if ((rc = state_create(&memory->state, folder, &identity, mode, group, err)) != EVBUS_OK)
        return rc;
    memcpy(control->folder, memory->state.folder, sizeof control->folder);
    return begin_marks(memory, err);
}

void recover_give_up(struct memory *memory)
{
    if (memory->state.lock == NULL)
        return;
    state_remove(memory->state.folder, NULL);
    state_close(&memory->state);
}

/* --- a bus comes back ------------------------------------------------------------------------------------------------------- */

/* Writes once more what was found whole at a position. Of a pad its first cell says all. */
static int write_anew(struct segment *file, const struct segment_place *place, uint64_t base, uint64_t pos,
                      const uint64_t *frame, bool is_pad, struct error *err)
{
    int rc = file->fd >= 0 ? EVBUS_OK : segment_open(file, place, base, true, err);
    return rc == EVBUS_OK
               ? segment_write(file, pos, frame, is_pad ? 1 : ((const struct frame_header *)frame)->n_cells, err)
               : rc;
}

/* Where what can be read of a partition's last file ends; up to there it is on disk then. What was synced is not looked at here: who
 * reads it checks it. */
static int find_end(const struct segment_place *place, uint64_t base, uint64_t synced, uint64_t *out_end,
                    uint64_t *inout_cells, struct error *err)
{
    struct journal_reader reader;
    struct segment anew = SEGMENT_NONE;
    int rc = EVBUS_OK;
    struct error why = {""};
    uint64_t pos = synced > base ? synced : base;
    uint64_t end = pos;
    journal_reader_init(&reader, place);
    uint64_t from = pos;
    int seen = JOURNAL_FRAME;
    while (rc == EVBUS_OK && pos - base < RING_CELLS_MAX) {
        const uint64_t *frame = NULL;
        uint64_t next;
        seen = journal_read(&reader, pos, UINT64_MAX, &frame, &next, &why);
        if (seen < 0 || seen == JOURNAL_END || seen == JOURNAL_GONE || next <= pos)
            break;
        if (seen != JOURNAL_DAMAGED) { /* torn, or rot with whole frames behind it */
            if (frame != NULL)
                rc = write_anew(&anew, place, base, pos, frame, seen == JOURNAL_SKIP, err);
            end = next;
        }
        pos = next;
    }
    journal_reader_close(&reader);
    if (rc == EVBUS_OK && anew.fd >= 0)
        rc = segment_sync(&anew, err);
    if (rc == EVBUS_OK && anew.fd >= 0) /* it may have taken another one's name (writer.c) */
        rc = file_sync_folder(place->folder, err);
    segment_close(&anew);
    if (rc != EVBUS_OK)
        return rc;
    if (seen == EVBUS_ECORRUPT) { /* its header: nothing of it can be read, but all of it may have been used */
        end = base + place->n_cells;
        seen = JOURNAL_END;
    }
    if (seen < 0) {
        *err = why;
        return seen;
    }
    *inout_cells += end - from;
    *out_end = end;
    return EVBUS_OK;
}

static int bring_back_ring(struct memory *memory, const struct ring *ring, const struct mark *marks, size_t n_marks,
                           uint64_t *inout_cells, struct error *err)
{
    struct segment_place place;
    struct ring_head *head = ring->head;
    const struct mark *mark = marks_find(marks, n_marks, ring->name, ring->partition);
    uint64_t ceiling = mark != NULL
                           ? mark->ceiling
                           : MARKS_STEP; /* a new log's first is written behind its first use, before its files */
    uint64_t end = mark != NULL ? mark->synced : 0;
    uint64_t *bases;
    size_t n;
    partition_place(memory, ring, &place);
    int rc = journal_list(&place, &bases, &n, err);
    if (rc == EVBUS_OK && n > 0 && mark == NULL) {
        free(bases);
        return error_set(err, EVBUS_ECORRUPT,
                         "%s has files, and the files marks.* in %s do not tell what positions of %s/%u were in use: "
                         "put them back from a backup",
                         place.folder, memory->state.folder, ring->name, ring->partition);
    }
    if (rc == EVBUS_OK && n > 0)
        rc = find_end(&place, bases[n - 1], end, &end, inout_cells, err);
    uint64_t oldest = rc == EVBUS_OK && n > 0 ? bases[0] : UINT64_MAX;
    if (rc != EVBUS_OK)
        return rc;
    free(bases);
    uint64_t start = ((end > ceiling ? end : ceiling) + place.n_cells - 1) & ~(place.n_cells - 1);
    if (start >= ring->limit)
        return error_set(err, EVBUS_EEXHAUSTED, "%s/%u has used up its positions: make a new bus", ring->name,
                         ring->partition);
    head->start = start;
    head->prev_end = end;
    atomic_store_explicit(&head->tail, start, memory_order_relaxed);
    atomic_store_explicit(&head->released, RELEASED(start, 0), memory_order_relaxed);
    atomic_store_explicit(&head->journaled, TERM_WORD(start, 0), memory_order_relaxed);
    atomic_store_explicit(&head->synced, TERM_WORD(start, 0), memory_order_relaxed);
    atomic_store_explicit(&head->oldest, RELEASED(oldest < start ? oldest : start, 0), memory_order_relaxed);
    return EVBUS_OK;
}

static int bring_back_rings(struct memory *memory, uint64_t *inout_cells, struct error *err)
{
    struct mark *marks = NULL;
    size_t n_marks = 0;
    int rc = marks_load(memory->state.folder, memory->control->uuid, &marks, &n_marks, err);
    if (rc == EVBUS_OK && n_marks == 0)
        rc = error_set(
            err, EVBUS_ECORRUPT,
            "%s has no mark in its files marks.*, which tell what positions were in use: put them back from a backup",
            memory->state.folder);
    for (uint32_t l = 0; rc == EVBUS_OK && l < memory_n_logs(memory); l++)
        for (uint32_t p = 0; rc == EVBUS_OK && memory->logs[l].rings[0].has_journal && p < memory->logs[l].n_partitions;
             p++)
            rc = bring_back_ring(memory, &memory->logs[l].rings[p], marks, n_marks, inout_cells, err);
    free(marks);
    return rc;
}

static void tell_damage(void *context, const char *what)
{
    log_line(context, LOG_JOURNAL, EVBUS_LOG_ERROR, "state=damaged reason=\"%s\"", what);
}

/* All that is in the folder becomes memory, which nobody uses yet. */
static int bring_back(struct memory *memory, const struct catalogue *catalogue, struct log *log, struct error *err)
{
    struct saved_report report = {0};
    uint64_t start_ns = clock_mono_ns();
    uint64_t n_cells = 0;
    int rc = bring_back_rings(memory, &n_cells, err);
    if (rc == EVBUS_OK)
        rc = begin_marks(memory, err);
    if (rc == EVBUS_OK) /* those of lives before are lower */
        rc = marks_drop_others(memory->state.folder, (struct term){.incarnation = memory->control->incarnation}, err);
    if (rc == EVBUS_OK)
        rc = saved_restore(memory, tell_damage, log, &report, err);
    if (rc == EVBUS_OK || rc == EVBUS_ENOTFOUND) /* who is not in the file misses nothing */
        rc = provide_groups(memory, catalogue, EVBUS_FROM_EARLIEST, NULL, err);
    if (rc == EVBUS_OK)
        log_line(log, LOG_JOURNAL, EVBUS_LOG_INFO,
                 "state=recovered bus=%s life=%" PRIu64 " groups=%u pending=%u dropped=%u scanned_bytes=%" PRIu64
                 " ms=%" PRIu64,
                 memory->bus, memory->control->incarnation, report.n_groups, report.n_pending, report.n_dropped,
                 n_cells * CELL_BYTES, (clock_mono_ns() - start_ns) / CLOCK_NS_PER_MS);
    return rc;
}

static int make_from(const char *bus, struct state *state, struct memory_before *before, struct log *log,
                     struct error *err)
{
    struct applied applied = {.ids = NULL};
    struct catalogue *catalogue = NULL;
    struct memory memory = {.control_region = REGION_NONE};
    struct stat folder;
    if (stat(state->folder, &folder) != 0)
        return file_failed(err, state->folder, "stat", errno);
    int rc = applied_read(state->folder, before->identity.uuid, &applied, err);
    if (rc == EVBUS_OK)
        rc = catalogue_parse(applied.text, applied.len, &catalogue, err);
    before->ids = applied.ids;
    if (rc == EVBUS_OK)
        rc = memory_create(&memory, bus, catalogue, applied.text, applied.len, folder.st_mode & 0666, folder.st_gid,
                           before, err);
    if (rc == EVBUS_OK) {
        snprintf(memory.control->folder, sizeof memory.control->folder, "%s", state->folder);
        memory.state = *state;
        *state = (struct state){.lock = NULL};
        rc = bring_back(&memory, catalogue, log, err);
        if (rc == EVBUS_OK)
            memory_ready(&memory);
        else
            memory_unmake(&memory); /* while the locks are ours */
        memory_close(&memory);
    }
    catalogue_free(catalogue);
    applied_free(&applied);
    return rc;
}

int recover_bus(const char *bus, struct log *log, struct error *err)
{
    char folder[FILE_PATH_MAX];
    struct state state = {.lock = NULL};
    struct memory_before before = {.ids = NULL};
    int rc = state_folder(bus, folder, err);
    if (rc != EVBUS_OK || !applied_is_there(folder))
        return rc != EVBUS_OK ? rc : EVBUS_ENOTFOUND;
    rc = state_open(&state, folder, true, &before.identity, err);
    if (rc == EVBUS_OK && !applied_is_there(folder)) { /* it was removed before we had the lock */
        state_close(&state);
        return EVBUS_ENOTFOUND;
    }
    if (rc == EVBUS_OK && memory_is_there(bus)) { /* somebody was faster: who makes it has the lock, as we have now */
        state_close(&state);
        return error_set(err, EVBUS_EBUSY, "bus %s has just been brought back: try again", bus);
    }
    if (rc == EVBUS_OK) /* names that are left of one that was retired */
        retire_remove(bus, NULL);
    if (rc == EVBUS_OK)
        rc = state_count_up(&state, &before.identity, err); /* before anything else: no two lives are one */
    if (rc == EVBUS_OK)
        rc = make_from(bus, &state, &before, log, err);
    state_close(&state);
    return rc == EVBUS_OK ? rc : error_prefix(err, rc, "bus %s cannot be brought back", bus);
}
