/* survey.c: what stands in the folder where a bus remembers, and what in it is not as it was written.
 *
 *     marks, then names, then headers, then frames: each was true when what is read behind it was written
 *
 *   reads    files, by those who know them (segment.c, journal.c, marks.c, saved.c, sealed.c); no lock, no slot, no store
 *   again    slots that are written in place look damaged while they are: they are looked at again, after a pause, before it is told
 *   gone     a folder that is another bus's by now is no damage
 * One partition: survey_part.c. Checked by tests/unit/test_survey.c. */
#include <evbus/history.h>

#include "applied.h"
#include "bus.h"
#include "clock.h"
#include "saved.h"
#include "survey_part.h"
#include "uuid7.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOOKS    5 /* at what is written in place, before it is damaged */
#define PAUSE_NS (20 * CLOCK_NS_PER_MS)

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
    *out_at = SURVEY_NOWHERE;
    if (strcmp(kind, "catalogue") == 0)
        return check_catalogue(it, err);
    if (strcmp(kind, "groups") == 0)
        return saved_check(path, it->identity.uuid, err);
    int rc = marks_check(path, it->identity.uuid, out_at, err);
    *out_at = rc == EVBUS_ECORRUPT ? *out_at : SURVEY_NOWHERE;
    return rc;
}

static void show_file(struct survey *it, const char *kind, const char *path)
{
    struct stat found;
    struct error why = {""};
    uint64_t at = SURVEY_NOWHERE;
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
    if (survey_is_damage(rc)) {
        survey_tell(it, &(struct survey_damage){
                            .pos = SURVEY_NOWHERE, .until = SURVEY_NOWHERE, .path = path, .at = at, .what = why.text});
    } else if (rc != EVBUS_OK) {
        *it->err = why;
        it->rc = rc;
    }
    if (survey_is_over(it))
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

static void show_files(struct survey *it)
{
    struct names names = {NULL, 0};
    if (!survey_is_over(it))
        it->rc = list_names(it->folder, &names, it->err);
    for (size_t i = 0; i < names.n && !survey_is_over(it); i++) {
        const char *name = names.of[i];
        char path[FILE_PATH_MAX];
        const char *kind = strcmp(name, "catalogue") == 0      ? "catalogue"
                           : marks_is(name)                    ? "marks"
                           : saved_is(name)                    ? "groups"
                           : file_has_ending(name, ".damaged") ? "aside"
                                                               : NULL;
        file_path(path, it->folder, name);
        if (kind != NULL)
            show_file(it, kind, path);
    }
    free(names.of);
}

/* What a keeper found damaged, and kept. */
static void show_aside(struct survey *it, const char *folder)
{
    struct names names = {NULL, 0};
    int rc = list_names(folder, &names, it->err);
    if (rc != EVBUS_OK && rc != EVBUS_ENOTFOUND)
        it->rc = rc;
    for (size_t i = 0; i < names.n && !survey_is_over(it); i++) {
        char path[FILE_PATH_MAX];
        file_path(path, folder, names.of[i]);
        if (file_has_ending(names.of[i], ".damaged"))
            show_file(it, "aside", path);
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
        if (rc != EVBUS_OK && !survey_is_damage(rc)) {
            *it->err = why;
            it->rc = rc == EVBUS_ENOTFOUND && !survey_is_still_there(it) ? it->rc : rc;
            return;
        }
    }
    if (rc == EVBUS_OK && it->n_marks == 0)
        survey_tell(it, &(struct survey_damage){
                            .pos = SURVEY_NOWHERE,
                            .until = SURVEY_NOWHERE,
                            .path = it->folder,
                            .at = SURVEY_NOWHERE,
                            .what = "it has no marks.*, which tell what positions were in use: put them back "
                                    "from a backup"});
}

/* --- all of them ------------------------------------------------------------------------------------------------------------- */

struct part {
    struct segment_place place;
    const struct mark *mark; /* NULL: it has none */
};

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
        if (!survey_is_over(it))
            survey_part_show(it, &parts.of[i].place, parts.of[i].mark);
        if (!survey_is_over(it))
            show_aside(it, parts.of[i].place.folder);
    }
    free(parts.of);
    free(names.of);
}

/* Which bus it is. Where the file `bus` does not tell, the catalogue does: what is left can still be checked. */
static void identify(struct survey *it)
{
    char path[FILE_PATH_MAX], catalogue[FILE_PATH_MAX];
    struct error why = {""};
    uint64_t damaged = SURVEY_NOWHERE;
    int rc = EVBUS_OK;
    file_path(path, it->folder, "bus");
    file_path(catalogue, it->folder, "catalogue");
    for (unsigned looks = 0; looks < LOOKS; looks++) {
        if (looks > 0)
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        rc = state_look(it->folder, &it->identity, &damaged, &why);
        if ((rc != EVBUS_OK || damaged == SURVEY_NOWHERE) && rc != EVBUS_ECORRUPT)
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
    if (rc == EVBUS_ECORRUPT && damaged == SURVEY_NOWHERE) /* it is empty */
        damaged = 0;
    if (!survey_is_over(it) && damaged != SURVEY_NOWHERE) {
        if (rc == EVBUS_OK)
            error_set(&why, EVBUS_ECORRUPT, "%s at %" PRIu64 ": a damaged slot; the other one counts", path, damaged);
        survey_tell(it,
                    &(struct survey_damage){
                        .pos = SURVEY_NOWHERE, .until = SURVEY_NOWHERE, .path = path, .at = damaged, .what = why.text});
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
        if (!survey_is_over(it))
            load_marks(it);
        if (!survey_is_over(it) && it->options.log == NULL && !it->options.has_partition)
            show_files(it);
        if (!survey_is_over(it))
            show_parts(it);
        if (it->out.rc == 0 && it->rc == EVBUS_ENOTFOUND) /* perhaps since it is not there any more */
            survey_is_still_there(it);
        rc = it->out.rc != 0 ? it->out.rc : it->rc;
    }
    free(it->marks);
    free(it);
    return rc;
}
