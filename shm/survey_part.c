/* survey_part.c: one partition's files in a bus's folder, and what in them is not as it was written.
 *
 *   sure     up to where a file must be whole: where the next one says that it ended; of the last one `synced` of the marks, which were
 *            read first, so it lay on disk before we looked. Behind that whole frames end where a keeper writes just now, or where a
 *            cut tore them: no damage, unless whole ones stand behind it
 *   again    a frame that is just being written looks torn, and is whole when what stands behind it is. So damage is told only after
 *            the place was read anew, behind whatever made us think so
 *   names    are read twice: who lists a folder may miss what is made meanwhile
 *   gone     files are retired oldest first, so one that is not there any more, with none before it, is no loss
 * Checked by tests/unit/test_survey.c. */
#include "survey_part.h"

#include "journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

/* Its first file that is there now, SURVEY_NOWHERE: none. */
static int first_base(const struct part *part, uint64_t *out_base, struct error *err)
{
    uint64_t *bases;
    size_t n;
    int rc = journal_list(&part->place, &bases, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    *out_base = n > 0 ? bases[0] : SURVEY_NOWHERE;
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
        } else if (file.rc != EVBUS_OK && !survey_is_damage(file.rc)) {
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
    survey_tell(it, &(struct survey_damage){.log = part->place.log,
                                            .partition = part->place.partition,
                                            .pos = pos,
                                            .until = until,
                                            .path = path,
                                            .at = lies_in ? file->header_bytes + (pos - file->base) * CELL_BYTES
                                                  : file->rc != EVBUS_OK ? 0
                                                                         : SURVEY_NOWHERE,
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

/* A whole frame or pad at a position: its kind. Else 0, and *out_next is where the next whole one stands; SURVEY_NOWHERE: none does. */
static enum frame_kind read_at(struct journal_reader *reader, uint64_t pos, uint64_t limit, uint64_t *out_next,
                               bool *out_is_retired, struct error *err)
{
    const uint64_t *frame = NULL;
    uint64_t next = SURVEY_NOWHERE;
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
        *out_next = SURVEY_NOWHERE;
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
    while (pos < limit && !survey_is_over(it) && !file->is_retired) {
        uint64_t next;
        enum frame_kind kind = read_at(&reader, pos, limit, &next, &file->is_retired, &why);
        if (kind == 0) /* was it just being written? */
            kind = read_anew(&reader, pos, limit, &next, &file->is_retired, &why);
        if (kind == 0 && (next == SURVEY_NOWHERE || file->is_retired))
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
    survey_tell(it, &(struct survey_damage){.log = part->place.log,
                                            .partition = part->place.partition,
                                            .pos = file->limit,
                                            .until = until,
                                            .path = path,
                                            .at = SURVEY_NOWHERE,
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
    survey_place(out, "until", file->rc == EVBUS_OK ? file->end : SURVEY_NOWHERE);
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
    tell_of_file(it, part, file, file->base, until > file->base ? until : SURVEY_NOWHERE, file->what);
}

static void show(struct survey *it, struct part *part)
{
    struct record *out = &it->out;
    uint64_t bytes = 0;
    if (survey_is_over(it) || (it->rc = look_at_files(part, it->err)) != EVBUS_OK)
        return;
    for (size_t i = 0; i < part->n; i++)
        bytes += part->files[i].bytes;
    record_begin(out, "partition", 1);
    record_word(out, "log", part->place.log);
    record_number(out, "partition", part->place.partition);
    record_number(out, "files", part->n);
    survey_place(out, "first", part->n > 0 ? part->files[0].base : SURVEY_NOWHERE);
    survey_place(out, "last",
                 part->n > 0 && part->files[part->n - 1].rc == EVBUS_OK ? part->files[part->n - 1].end
                                                                        : SURVEY_NOWHERE);
    record_number(out, "bytes", bytes);
    record_time(out, "created", part->n > 0 ? part->files[0].created_ns : 0);
    survey_place(out, "ceiling", part->mark != NULL ? part->mark->ceiling : SURVEY_NOWHERE);
    survey_place(out, "synced", part->mark != NULL ? part->mark->synced : SURVEY_NOWHERE);
    record_end(out);
    for (size_t i = 0; i < part->n && !survey_is_over(it); i++) {
        struct file *file = &part->files[i];
        if (file->rc != EVBUS_OK)
            tell_header(it, part, i);
        else if (it->options.verify)
            verify_file(it, part, i);
        if (!file->is_retired && !survey_is_over(it))
            show_segment(it, part, i);
        if (it->options.verify && !file->is_retired && !survey_is_over(it))
            miss_files(it, part, i);
    }
    if (it->options.verify && part->n == 0 && part->mark != NULL && part->mark->synced > 0)
        survey_tell(it, &(struct survey_damage){.log = part->place.log,
                                                .partition = part->place.partition,
                                                .pos = 0,
                                                .until = part->mark->synced,
                                                .path = part->place.folder,
                                                .at = SURVEY_NOWHERE,
                                                .what = "all of its files are lost"});
}

void survey_part_show(struct survey *it, const struct segment_place *place, const struct mark *mark)
{
    struct part part = {.place = *place, .mark = mark};
    show(it, &part);
    free(part.files);
}
