/* survey.c: what stands in the folder where a bus remembers, and what in it is not as it was written.
 *
 *     marks, then names, then headers, then frames: each was true when what is read behind it was written
 *
 *   reads    files, by those who know them (segment.c, journal.c, marks.c, saved.c, sealed.c); no lock, no slot, no store
 *   sure     up to where a file must be whole: where the next one says that it ended; of the last one `synced` of the marks, which were
 *            read first, so it lay on disk before we looked. Behind that whole frames end where a keeper writes just now, or where a
 *            cut tore them: no damage, unless whole ones stand behind it
 *   again    a frame that is just being written looks torn, and is whole when what stands behind it is. So damage is told only after
 *            the place was read anew, behind whatever made us think so; slots that are written in place, after a pause
 *   gone     files are retired oldest first, so one that is not there any more, with none before it, is no loss. A folder that is
 *            another bus's by now is no damage either
 * Checked by tests/unit/test_survey.c. */
#include <evbus/history.h>

#include "applied.h"
#include "bus.h"
#include "clock.h"
#include "journal.h"
#include "marks.h"
#include "record.h"
#include "saved.h"
#include "state.h"
#include "uuid7.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOOKS    5 /* at what is written in place, before it is damaged */
#define PAUSE_NS (20 * CLOCK_NS_PER_MS)
#define NOWHERE  UINT64_MAX

struct survey {
    struct evbus_journal_options options;
    struct record out;
    char folder[FILE_PATH_MAX];
    struct state_identity identity;
    struct mark *marks;
    size_t n_marks;
    struct error *err;
    int rc; /* what ends it all */
};

static bool is_over(const struct survey *it)
{
    return it->rc != EVBUS_OK || it->out.rc != 0;
}

/* --- damage ---------------------------------------------------------------------------------------------------------------- */

/* Where it is, as far as it can be told. */
struct damage {
    const char *log; /* NULL: of none */
    uint32_t partition;
    uint64_t pos, until; /* NOWHERE: it cannot be told */
    const char *path;
    uint64_t at; /* byte in that file; NOWHERE */
    const char *what;
};

static void record_place(struct record *out, const char *name, uint64_t pos)
{
    if (pos == NOWHERE)
        record_none(out, name);
    else
        record_position(out, name, pos);
}

/* Whose folder it is can have changed since we began. */
static bool is_still_there(struct survey *it)
{
    struct state_identity now;
    uint64_t damaged;
    int rc = state_look(it->folder, &now, &damaged, NULL);
    if (rc == EVBUS_ECORRUPT || (rc == EVBUS_OK && memcmp(now.uuid, it->identity.uuid, sizeof now.uuid) == 0))
        return true;
    it->rc = error_set(it->err, EVBUS_ESTALE, "%s: the bus was removed meanwhile", it->folder);
    return false;
}

static void tell(struct survey *it, const struct damage *damage)
{
    struct record *out = &it->out;
    if (is_over(it) || !is_still_there(it))
        return;
    record_begin(out, "damaged", damage->log != NULL ? 2 : 0);
    if (damage->log != NULL) {
        record_word(out, "log", damage->log);
        record_number(out, "partition", damage->partition);
    } else {
        record_none(out, "log");
        record_none(out, "partition");
    }
    record_place(out, "position", damage->pos);
    record_place(out, "until", damage->until);
    record_word(out, "file", damage->path);
    record_place(out, "at", damage->at);
    record_word(out, "what", damage->what);
    record_end(out);
}

/* What a file's reader said: damage, or a reason to end it all. */
static bool is_damage(int rc)
{
    return rc == EVBUS_ECORRUPT || rc == EVBUS_ECONFLICT || rc == EVBUS_EIO || rc == EVBUS_ELIMIT;
}

/* --- files of their own ------------------------------------------------------------------------------------------------------ */

struct names {
    char (*of)[NAME_MAX + 1];
    size_t n;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The names in a folder, rising; to be freed. */
static int list_names(const char *folder, struct names *out, struct error *err)
{
    struct names names = {NULL, 0};
    int rc = EVBUS_OK;
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return file_failed(err, folder, "cannot open it", errno);
    for (struct dirent *entry; (entry = file_next_name(dir, folder, &rc, err)) != NULL;) {
        void *more = entry->d_name[0] != '.' ? realloc(names.of, (names.n + 1) * sizeof *names.of) : NULL;
        if (entry->d_name[0] == '.')
            continue;
        if (more == NULL) {
            rc = error_no_memory(err, "the names in %s", folder);
            continue;
        }
        names.of = more;
        snprintf(names.of[names.n++], sizeof *names.of, "%s", entry->d_name);
    }
    closedir(dir);
    if (rc != EVBUS_OK) {
        free(names.of);
        return rc;
    }
    if (names.n > 1)
        qsort(names.of, names.n, sizeof *names.of, by_text);
    *out = names;
    return EVBUS_OK;
}

static int check_catalogue(const struct survey *it, struct error *err)
{
    struct applied applied = {.ids = NULL};
    int rc = applied_read(it->folder, it->identity.uuid, &applied, err);
    applied_free(&applied);
    return rc;
}

static int check_file(const struct survey *it, const char *kind, const char *path, uint64_t *out_at, struct error *err)
{
    *out_at = NOWHERE;
    if (strcmp(kind, "catalogue") == 0)
        return check_catalogue(it, err);
    if (strcmp(kind, "groups") == 0)
        return saved_check(path, it->identity.uuid, err);
    int rc = marks_check(path, it->identity.uuid, out_at, err);
    *out_at = rc == EVBUS_ECORRUPT ? *out_at : NOWHERE;
    return rc;
}

static void show_file(struct survey *it, const char *kind, const char *path)
{
    struct stat found;
    struct error why = {""};
    uint64_t at = NOWHERE;
    bool is_checked = it->options.verify && strcmp(kind, "aside") != 0;
    int rc = EVBUS_OK;
    for (unsigned looks = 0; is_checked && looks < LOOKS; looks++) {
        if (looks > 0)
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        if ((rc = check_file(it, kind, path, &at, &why)) == EVBUS_OK || rc == EVBUS_ENOTFOUND || rc == EVBUS_ENOSPC)
            break;
    }
    if (stat(path, &found) != 0 || rc == EVBUS_ENOTFOUND)
        return; /* another has taken its place */
    if (is_damage(rc)) {
        tell(it, &(struct damage){.pos = NOWHERE, .until = NOWHERE, .path = path, .at = at, .what = why.text});
    } else if (rc != EVBUS_OK) {
        *it->err = why;
        it->rc = rc;
    }
    if (is_over(it))
        return;
    struct record *out = &it->out;
    record_begin(out, kind, 0);
    record_word(out, "file", path);
    record_number(out, "bytes", (uint64_t)found.st_size);
    record_time(out, "changed", (uint64_t)found.st_mtim.tv_sec * CLOCK_NS_PER_S + (uint64_t)found.st_mtim.tv_nsec);
    if (is_checked)
        record_flag(out, "damaged", rc != EVBUS_OK);
    else
        record_none(out, "damaged");
    record_end(out);
}

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), end_len = strlen(end);
    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

static void show_files(struct survey *it)
{
    struct names names = {NULL, 0};
    if (!is_over(it))
        it->rc = list_names(it->folder, &names, it->err);
    for (size_t i = 0; i < names.n && !is_over(it); i++) {
        const char *name = names.of[i];
        char path[FILE_PATH_MAX];
        const char *kind = strcmp(name, "catalogue") == 0 ? "catalogue"
                           : marks_is(name)               ? "marks"
                           : saved_is(name)               ? "groups"
                           : ends_with(name, ".damaged")  ? "aside"
                                                          : NULL;
        file_path(path, it->folder, name);
        if (kind != NULL)
            show_file(it, kind, path);
    }
    free(names.of);
}

/* The marks of all files together; where they cannot be read, none, and why is told with the file. */
static void load_marks(struct survey *it)
{
    struct error why = {""};
    int rc = EVBUS_OK;
    for (unsigned looks = 0; looks < LOOKS && it->n_marks == 0; looks++) {
        if (looks > 0)
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        free(it->marks);
        it->marks = NULL;
        rc = marks_load(it->folder, it->identity.uuid, &it->marks, &it->n_marks, &why);
        if (rc != EVBUS_OK && !is_damage(rc)) {
            *it->err = why;
            it->rc = rc == EVBUS_ENOTFOUND && !is_still_there(it) ? it->rc : rc;
            return;
        }
    }
    if (rc == EVBUS_OK && it->n_marks == 0)
        tell(it, &(struct damage){.pos = NOWHERE,
                                  .until = NOWHERE,
                                  .path = it->folder,
                                  .at = NOWHERE,
                                  .what = "it has no marks.*, which tell what positions were in use: put them back "
                                          "from a backup"});
}

/* --- one partition ----------------------------------------------------------------------------------------------------------- */

/* One file of it, as its header has it. */
struct file {
    uint64_t base;
    uint64_t end;   /* as its length says, or the last whole frame in it */
    uint64_t limit; /* it has room up to here */
    uint64_t prev_end, created_ns, header_bytes, bytes;
    int rc; /* of its header */
    char what[sizeof(struct error)];
    uint64_t n_frames, n_events, n_gaps;
    bool is_damaged, is_retired;
};

struct part {
    struct segment_place place;
    const struct mark *mark; /* NULL: it has none */
    struct file *files;
    size_t n;
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void path_of(const struct part *part, const struct file *file, char out[FILE_PATH_MAX])
{
    segment_path(&part->place, file->base, out);
}

static struct file look_at_file(const struct part *part, uint64_t base)
{
    struct file file = {.base = base, .end = base, .limit = base};
    struct error why = {""};
    struct segment segment;
    struct stat found;
    char path[FILE_PATH_MAX];
    path_of(part, &file, path);
    file.rc = segment_open(&segment, &part->place, base, false, &why);
    memcpy(file.what, why.text, sizeof why.text);
    bool is_there = file.rc == EVBUS_OK ? fstat(segment.fd, &found) == 0 : stat(path, &found) == 0;
    file.bytes = is_there ? (uint64_t)found.st_size : 0;
    if (file.rc != EVBUS_OK)
        return file;
    file.limit = base + segment.n_cells;
    file.prev_end = segment.prev_end;
    file.created_ns = segment.created_ns;
    file.header_bytes = segment.header_bytes;
    if (file.bytes > segment.header_bytes)
        file.end = least(base + (file.bytes - segment.header_bytes) / CELL_BYTES, file.limit);
    segment_close(&segment);
    return file;
}

/* Its first file that is there now, NOWHERE: none. */
static int first_base(const struct part *part, uint64_t *out_base, struct error *err)
{
    uint64_t *bases;
    size_t n;
    int rc = journal_list(&part->place, &bases, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    *out_base = n > 0 ? bases[0] : NOWHERE;
    free(bases);
    return EVBUS_OK;
}

/* Its files, up to the last one that was there when we began. Who lists a folder may miss what is made meanwhile, and yet see what is
 * made behind that; what was there before is seen the second time. */
static int list_bases(const struct part *part, uint64_t **out_bases, size_t *out_n, struct error *err)
{
    uint64_t *bases;
    size_t n;
    int rc = journal_list(&part->place, &bases, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    uint64_t last = n > 0 ? bases[n - 1] : 0;
    bool is_any = n > 0;
    free(bases);
    if ((rc = journal_list(&part->place, &bases, &n, err)) != EVBUS_OK)
        return rc;
    while (n > 0 && (!is_any || bases[n - 1] > last))
        n--;
    *out_bases = bases;
    *out_n = n;
    return EVBUS_OK;
}

static int look_at_files(struct part *part, struct error *err)
{
    uint64_t *bases;
    size_t n;
    int rc = list_bases(part, &bases, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    part->files = calloc(n + 1, sizeof *part->files);
    if (part->files == NULL)
        rc = error_no_memory(err, "the names of files");
    for (size_t i = 0; rc == EVBUS_OK && i < n; i++) {
        struct file file = look_at_file(part, bases[i]);
        uint64_t first = 0;
        if (file.rc ==
            EVBUS_ENOTFOUND) { /* retired since, and those before it, too; else it is missed between its neighbours */
            if ((rc = first_base(part, &first, err)) == EVBUS_OK && first > file.base)
                part->n = 0;
        } else if (file.rc != EVBUS_OK && !is_damage(file.rc)) {
            rc = error_set(err, (enum evbus_code)file.rc, "%s", file.what);
        } else {
            part->files[part->n++] = file;
        }
    }
    free(bases);
    return rc;
}

static void tell_of_file(struct survey *it, const struct part *part, struct file *file, uint64_t pos, uint64_t until,
                         const char *what)
{
    char path[FILE_PATH_MAX];
    path_of(part, file, path);
    bool lies_in = file->rc == EVBUS_OK && pos < file->limit;
    file->is_damaged = file->is_damaged || lies_in || file->rc != EVBUS_OK;
    tell(it, &(struct damage){.log = part->place.log,
                              .partition = part->place.partition,
                              .pos = pos,
                              .until = until,
                              .path = path,
                              .at = lies_in                ? file->header_bytes + (pos - file->base) * CELL_BYTES
                                    : file->rc != EVBUS_OK ? 0
                                                           : NOWHERE,
                              .what = what});
}

/* Below which position a file must be whole. */
static uint64_t sure_until(const struct part *part, size_t at)
{
    const struct file *file = &part->files[at];
    const struct file *next = at + 1 < part->n ? file + 1 : NULL;
    uint64_t synced = part->mark != NULL ? part->mark->synced : 0;
    if (next == NULL)
        return least(synced, file->limit);
    if (next->rc == EVBUS_OK)
        return least(next->prev_end, file->limit);
    if (file->end == file->limit) /* where it ended is lost with the next one's header */
        return file->limit;
    return synced < file->limit ? synced : file->base;
}

static bool is_whole(int seen, const uint64_t *frame)
{
    return (seen == JOURNAL_FRAME || seen == JOURNAL_SKIP) &&
           frame != NULL; /* NULL: positions that a restart skipped */
}

/* A whole frame or pad at a position: its kind. Else 0, and *out_next is where the next whole one stands; NOWHERE: none does. */
static enum frame_kind read_at(struct journal_reader *reader, uint64_t pos, uint64_t limit, uint64_t *out_next,
                               bool *out_is_retired, struct error *err)
{
    const uint64_t *frame = NULL;
    uint64_t next = NOWHERE;
    int seen = journal_read(reader, pos, limit, &frame, &next, err);
    *out_next = next;
    if (is_whole(seen, frame))
        return (enum frame_kind)((const struct frame_header *)frame)->kind;
    *out_is_retired = seen == JOURNAL_GONE;
    if (seen == JOURNAL_END)
        error_set(err, EVBUS_ECORRUPT, "%s at %" PRIu64 ": its file ends there", reader->segment.path, pos);
    bool goes_on = seen == JOURNAL_DAMAGED && next > pos && next < limit;
    uint64_t behind;
    if (goes_on)
        seen = journal_read(reader, next, limit, &frame, &behind, NULL);
    if (!goes_on || !is_whole(seen, frame))
        *out_next = NOWHERE;
    return (enum frame_kind)0;
}

/* The same, of what stands there now. */
static enum frame_kind read_anew(struct journal_reader *reader, uint64_t pos, uint64_t limit, uint64_t *out_next,
                                 bool *out_is_retired, struct error *err)
{
    const struct segment_place *place = reader->place;
    journal_reader_close(reader);
    journal_reader_init(reader, place);
    return read_at(reader, pos, limit, out_next, out_is_retired, err);
}

static void count(struct file *file, enum frame_kind kind, uint64_t pos, uint64_t next)
{
    file->end = next;
    file->n_frames += kind != FRAME_PAD && kind != FRAME_GAP;
    file->n_events += kind == FRAME_EVENT || kind == FRAME_DEAD;
    file->n_gaps += kind == FRAME_GAP ? next - pos : 0;
}

static void verify_file(struct survey *it, struct part *part, size_t at)
{
    struct file *file = &part->files[at];
    struct segment_place place = part->place;
    struct journal_reader reader;
    struct error why = {""};
    uint64_t sure = sure_until(part, at);
    uint64_t limit = at + 1 < part->n ? least(file->limit, part->files[at + 1].base) : file->limit;
    uint64_t pos = file->base;
    place.n_cells = file->limit - file->base;
    journal_reader_init(&reader, &place);
    file->end = file->base;
    while (pos < limit && !is_over(it) && !file->is_retired) {
        uint64_t next;
        enum frame_kind kind = read_at(&reader, pos, limit, &next, &file->is_retired, &why);
        if (kind == 0) /* was it just being written? */
            kind = read_anew(&reader, pos, limit, &next, &file->is_retired, &why);
        if (kind == 0 && (next == NOWHERE || file->is_retired))
            break;
        if (kind == 0)
            tell_of_file(it, part, file, pos, next, why.text);
        else
            count(file, kind, pos, next);
        pos = next;
    }
    if (pos < sure && !file->is_retired)
        tell_of_file(it, part, file, pos, sure, why.text);
    journal_reader_close(&reader);
}

/* Files that should be there between this one and the next, or behind the last one. */
static void miss_files(struct survey *it, const struct part *part, size_t at)
{
    struct file *file = &part->files[at];
    const struct file *next = at + 1 < part->n ? file + 1 : NULL;
    uint64_t until = next != NULL         ? (next->rc == EVBUS_OK ? next->prev_end : 0)
                     : part->mark != NULL ? part->mark->synced
                                          : 0;
    char what[FILE_PATH_MAX + 128], path[FILE_PATH_MAX];
    if (file->rc != EVBUS_OK || until <= file->limit)
        return;
    segment_path(&part->place, file->limit, path);
    snprintf(what, sizeof what, "%s at %" PRIu64 ": the file is lost; what was written went to %" PRIu64, path,
             file->limit, until);
    tell(it, &(struct damage){.log = part->place.log,
                              .partition = part->place.partition,
                              .pos = file->limit,
                              .until = until,
                              .path = path,
                              .at = NOWHERE,
                              .what = what});
}

static void show_segment(struct survey *it, const struct part *part, size_t at)
{
    const struct file *file = &part->files[at];
    struct record *out = &it->out;
    char path[FILE_PATH_MAX];
    path_of(part, file, path);
    record_begin(out, "segment", 2);
    record_word(out, "log", part->place.log);
    record_number(out, "partition", part->place.partition);
    record_position(out, "position", file->base);
    record_place(out, "until", file->rc == EVBUS_OK ? file->end : NOWHERE);
    record_word(out, "file", path);
    record_number(out, "bytes", file->bytes);
    record_time(out, "created", file->created_ns);
    record_flag(out, "closed", at + 1 < part->n);
    if (it->options.verify && file->rc == EVBUS_OK) {
        record_number(out, "frames", file->n_frames);
        record_number(out, "events", file->n_events);
        record_number(out, "gaps", file->n_gaps);
    } else {
        record_none(out, "frames");
        record_none(out, "events");
        record_none(out, "gaps");
    }
    if (it->options.verify || file->rc != EVBUS_OK)
        record_flag(out, "damaged", file->is_damaged);
    else
        record_none(out, "damaged");
    record_end(out);
}

/* Nothing of a file can be found without its header. */
static void tell_header(struct survey *it, const struct part *part, size_t at)
{
    struct file *file = &part->files[at];
    const struct file *next = at + 1 < part->n ? file + 1 : NULL;
    uint64_t until = next != NULL         ? (next->rc == EVBUS_OK ? least(next->prev_end, next->base) : next->base)
                     : part->mark != NULL ? part->mark->synced
                                          : 0;
    tell_of_file(it, part, file, file->base, until > file->base ? until : NOWHERE, file->what);
}

static void show_aside(struct survey *it, const struct part *part)
{
    struct names names = {NULL, 0};
    int rc = list_names(part->place.folder, &names, it->err);
    if (rc != EVBUS_OK && rc != EVBUS_ENOTFOUND)
        it->rc = rc;
    for (size_t i = 0; i < names.n && !is_over(it); i++) {
        char path[FILE_PATH_MAX];
        file_path(path, part->place.folder, names.of[i]);
        if (ends_with(names.of[i], ".damaged"))
            show_file(it, "aside", path);
    }
    free(names.of);
}

static void show_part(struct survey *it, struct part *part)
{
    struct record *out = &it->out;
    uint64_t bytes = 0;
    if (is_over(it) || (it->rc = look_at_files(part, it->err)) != EVBUS_OK)
        return;
    for (size_t i = 0; i < part->n; i++)
        bytes += part->files[i].bytes;
    record_begin(out, "partition", 1);
    record_word(out, "log", part->place.log);
    record_number(out, "partition", part->place.partition);
    record_number(out, "files", part->n);
    record_place(out, "first", part->n > 0 ? part->files[0].base : NOWHERE);
    record_place(out, "last",
                 part->n > 0 && part->files[part->n - 1].rc == EVBUS_OK ? part->files[part->n - 1].end : NOWHERE);
    record_number(out, "bytes", bytes);
    record_time(out, "created", part->n > 0 ? part->files[0].created_ns : 0);
    record_place(out, "ceiling", part->mark != NULL ? part->mark->ceiling : NOWHERE);
    record_place(out, "synced", part->mark != NULL ? part->mark->synced : NOWHERE);
    record_end(out);
    for (size_t i = 0; i < part->n && !is_over(it); i++) {
        struct file *file = &part->files[i];
        if (file->rc != EVBUS_OK)
            tell_header(it, part, i);
        else if (it->options.verify)
            verify_file(it, part, i);
        if (!file->is_retired && !is_over(it))
            show_segment(it, part, i);
        if (it->options.verify && !file->is_retired && !is_over(it))
            miss_files(it, part, i);
    }
    if (it->options.verify && part->n == 0 && part->mark != NULL && part->mark->synced > 0)
        tell(it, &(struct damage){.log = part->place.log,
                                  .partition = part->place.partition,
                                  .pos = 0,
                                  .until = part->mark->synced,
                                  .path = part->place.folder,
                                  .at = NOWHERE,
                                  .what = "all of its files are lost"});
    if (!is_over(it))
        show_aside(it, part);
}

/* --- all of them ------------------------------------------------------------------------------------------------------------- */

struct parts {
    struct part *of;
    size_t n;
};

static bool is_wanted(const struct survey *it, const char *log, uint64_t partition)
{
    return (it->options.log == NULL || strcmp(it->options.log, log) == 0) &&
           (!it->options.has_partition || it->options.partition == partition);
}

static int add_part(const struct survey *it, struct parts *parts, const char *log, uint64_t partition,
                    struct error *err)
{
    char name[NAME_BYTES + 32];
    for (size_t i = 0; i < parts->n; i++)
        if (parts->of[i].place.partition == partition && strcmp(parts->of[i].place.log, log) == 0)
            return EVBUS_OK;
    if (!is_wanted(it, log, partition))
        return EVBUS_OK;
    struct part *more = realloc(parts->of, (parts->n + 1) * sizeof *more);
    if (more == NULL)
        return error_no_memory(err, "the names of partitions");
    parts->of = more;
    struct part *part = &parts->of[parts->n++];
    *part = (struct part){.place = {.partition = (uint32_t)partition, .ring_cells = 1, .n_cells = 1}};
    snprintf(part->place.log, sizeof part->place.log, "%s", log);
    snprintf(name, sizeof name, "%s/%" PRIu64, log, partition);
    file_path(part->place.folder, it->folder, name);
    memcpy(part->place.uuid, it->identity.uuid, sizeof part->place.uuid);
    part->mark = marks_find(it->marks, it->n_marks, log, (uint32_t)partition);
    return EVBUS_OK;
}

/* What has a folder of a log's and a partition's name. */
static int add_folders(const struct survey *it, struct parts *parts, const char *log, struct error *err)
{
    struct names names = {NULL, 0};
    char path[FILE_PATH_MAX];
    struct stat found;
    file_path(path, it->folder, log);
    if (strlen(log) >= NAME_BYTES || stat(path, &found) != 0 || !S_ISDIR(found.st_mode))
        return EVBUS_OK;
    int rc = list_names(path, &names, err);
    for (size_t i = 0; rc == EVBUS_OK && i < names.n; i++) {
        const char *name = names.of[i];
        size_t n_digits = strspn(name, "0123456789");
        bool is_number = n_digits > 0 && n_digits < 8 && name[n_digits] == '\0' && (name[0] != '0' || n_digits == 1);
        uint64_t partition = is_number ? strtoull(name, NULL, 10) : PARTITIONS_MAX;
        if (partition < PARTITIONS_MAX)
            rc = add_part(it, parts, log, partition, err);
    }
    free(names.of);
    return rc == EVBUS_ENOTFOUND ? EVBUS_OK : rc;
}

static int by_place(const void *a, const void *b)
{
    const struct part *left = a;
    const struct part *right = b;
    int names = strcmp(left->place.log, right->place.log);
    return names != 0 ? names : left->place.partition < right->place.partition ? -1 : 1;
}

static void show_parts(struct survey *it)
{
    struct names names = {NULL, 0};
    struct parts parts = {NULL, 0};
    const struct evbus_journal_options *options = &it->options;
    int rc = list_names(it->folder, &names, it->err);
    for (size_t i = 0; rc == EVBUS_OK && i < names.n; i++)
        rc = add_folders(it, &parts, names.of[i], it->err);
    for (size_t i = 0; rc == EVBUS_OK && i < it->n_marks; i++)
        rc = add_part(it, &parts, it->marks[i].log, it->marks[i].partition, it->err);
    if (rc == EVBUS_OK && parts.n == 0 && options->log != NULL)
        rc = error_set(it->err, EVBUS_ENOTFOUND, "%s has no log %s%s", it->folder, options->log,
                       options->has_partition ? " with such a partition" : "");
    else if (rc == EVBUS_OK && parts.n == 0 && options->has_partition)
        rc = error_set(it->err, EVBUS_ENOTFOUND, "%s has no partition %u", it->folder, options->partition);
    it->rc = rc;
    if (parts.n > 1)
        qsort(parts.of, parts.n, sizeof *parts.of, by_place);
    for (size_t i = 0; i < parts.n; i++) {
        show_part(it, &parts.of[i]);
        free(parts.of[i].files);
    }
    free(parts.of);
    free(names.of);
}

/* Which bus it is. Where the file `bus` does not tell, the catalogue does: what is left can still be checked. */
static void identify(struct survey *it)
{
    char path[FILE_PATH_MAX], catalogue[FILE_PATH_MAX];
    struct error why = {""};
    uint64_t damaged = NOWHERE;
    int rc = EVBUS_OK;
    file_path(path, it->folder, "bus");
    file_path(catalogue, it->folder, "catalogue");
    for (unsigned looks = 0; looks < LOOKS; looks++) {
        if (looks > 0)
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        rc = state_look(it->folder, &it->identity, &damaged, &why);
        if ((rc != EVBUS_OK || damaged == NOWHERE) && rc != EVBUS_ECORRUPT)
            break;
    }
    if (rc == EVBUS_ENOTFOUND) {
        it->rc = error_set(it->err, EVBUS_ENOBUS, "%s: no bus remembers there", it->folder);
    } else if (rc != EVBUS_OK && (rc != EVBUS_ECORRUPT || !sealed_whose(catalogue, "catalogue", it->identity.uuid))) {
        *it->err = why;
        it->rc = rc;
    } else {
        char uuid[37];
        uuid7_format(it->identity.uuid, uuid);
        record_begin(&it->out, "bus", 0);
        record_word(&it->out, "folder", it->folder);
        record_word(&it->out, "uuid", uuid);
        if (rc == EVBUS_OK)
            record_number(&it->out, "incarnation", it->identity.incarnation);
        else
            record_none(&it->out, "incarnation");
        record_end(&it->out);
    }
    if (rc == EVBUS_ECORRUPT && damaged == NOWHERE) /* it is empty */
        damaged = 0;
    if (!is_over(it) && damaged != NOWHERE) {
        if (rc == EVBUS_OK)
            error_set(&why, EVBUS_ECORRUPT, "%s at %" PRIu64 ": a damaged slot; the other one counts", path, damaged);
        tell(it, &(struct damage){.pos = NOWHERE, .until = NOWHERE, .path = path, .at = damaged, .what = why.text});
    }
}

static int find_folder(struct survey *it, const char *bus, struct error *err)
{
    const char *dir = it->options.dir;
    if (dir == NULL)
        return memory_folder(bus, it->folder) ? EVBUS_OK : state_folder(bus, it->folder, err);
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    if (len == 0 || len >= FILE_PATH_MAX - 256)
        return error_set(err, EVBUS_EINVAL, "options.dir has %zu bytes; 1 to %d are allowed", len, FILE_PATH_MAX - 257);
    snprintf(it->folder, sizeof it->folder, "%.*s", (int)len, dir);
    return EVBUS_OK;
}

EVBUS_API int evbus_journal(const struct evbus_journal_options *given,
                            int (*each)(void *context, const struct evbus_record *record), void *context)
{
    struct error *err = error_of_thread();
    struct survey *it = calloc(1, sizeof *it);
    int rc = EVBUS_OK;
    if (it == NULL)
        return error_no_memory(err, "a look at a journal");
    if (given != NULL)
        rc = bus_take_struct(&it->options, sizeof it->options, given, given->size, "struct evbus_journal_options", err);
    if (rc == EVBUS_OK && each == NULL)
        rc = error_set(err, EVBUS_EINVAL, "each is NULL");
    const char *bus = memory_bus_name(it->options.bus);
    it->err = err;
    it->out.each = each;
    it->out.context = context;
    if (rc == EVBUS_OK && it->options.dir == NULL)
        rc = memory_check_name(bus, err);
    if (rc == EVBUS_OK)
        rc = find_folder(it, bus, err);
    if (rc == EVBUS_OK) {
        identify(it);
        if (!is_over(it))
            load_marks(it);
        if (!is_over(it) && it->options.log == NULL && !it->options.has_partition)
            show_files(it);
        if (!is_over(it))
            show_parts(it);
        if (it->out.rc == 0 && it->rc == EVBUS_ENOTFOUND) /* perhaps since it is not there any more */
            is_still_there(it);
        rc = it->out.rc != 0 ? it->out.rc : it->rc;
    }
    free(it->marks);
    free(it);
    return rc;
}
