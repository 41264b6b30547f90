/* test_survey.c: evbus_journal() names whatever is not as it was written, by file and position, and never what is.
 *
 * A small journal is made by a bus of the test's own: files of 4096 cells, the first four of test.a closed. */
#include "archive.h"
#include "await.h"
#include "frame.h"
#include "saved.h"
#include "shown.h"

#include <evbus/history.h>

#include <criterion/criterion.h>
#include <dirent.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N(rows)      (sizeof(rows) / sizeof(rows)[0])
#define HEADER_BYTES 4096
#define FILE_CELLS   UINT64_C(4096)
#define PLACE_BYTES  700 /* of a path */

/* --- a call of ours --------------------------------------------------------------------------------------------------- */

/* A byte of a file reads otherwise so many times, as one may that is just being written. */
static struct {
    char path[PLACE_BYTES]; /* "": none does */
    uint64_t at;
    unsigned n_times;
} torn;

ssize_t pread(int fd, void *bytes, size_t len, off_t offset)
{
    struct stat read, named;
    ssize_t n = (ssize_t)syscall(SYS_pread64, fd, bytes, len, offset);
    if (torn.path[0] == '\0' || n <= 0 || torn.n_times == 0 || torn.at < (uint64_t)offset ||
        torn.at >= (uint64_t)offset + (uint64_t)n)
        return n;
    if (fstat(fd, &read) == 0 && stat(torn.path, &named) == 0 && read.st_ino == named.st_ino) {
        ((unsigned char *)bytes)[torn.at - (uint64_t)offset] ^= 1;
        torn.n_times--;
    }
    return n;
}

static char
    unseen[300]; /* a name that a folder's listing leaves out once, as one may that is just being made; "": none */

struct dirent *readdir(DIR *dir)
{
    static struct dirent *(*next)(DIR *);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "readdir64");
    struct dirent *entry = next(dir);
    if (entry == NULL || unseen[0] == '\0' || strcmp(entry->d_name, unseen) != 0)
        return entry;
    unseen[0] = '\0';
    return next(dir);
}

/* --- what is shown ------------------------------------------------------------------------------------------------------ */

static struct shown survey(struct evbus_journal_options options, int expected)
{
    struct shown shown = {0};
    options.size = sizeof options;
    int rc = evbus_journal(&options, shown_keep, &shown);
    cr_assert_eq(rc, expected, "%d instead of %d: %s", rc, expected, evbus_message(NULL));
    return shown;
}

static void refused(struct evbus_journal_options options, int expected)
{
    struct shown shown = survey(options, expected);
    shown_forget(&shown);
}

static void expect_whole(struct evbus_journal_options options, const char *label)
{
    options.verify = true;
    struct shown shown = survey(options, EVBUS_OK);
    cr_expect_eq(shown.n_damaged, 0, "%s:%s", label, shown.text);
    shown_forget(&shown);
}

/* One damage alone, whose record begins so, and says this. */
static void expect_damage(const char *dir, const char *begin, const char *what, const char *label)
{
    struct shown shown = survey((struct evbus_journal_options){.dir = dir, .verify = true}, EVBUS_OK);
    cr_expect_eq(shown.n_damaged, 1, "%s: %u damages:%s", label, shown.n_damaged, shown.text);
    const char *line = strstr(shown.text, "\ndamaged ");
    cr_expect(line != NULL && strncmp(line + 1, begin, strlen(begin)) == 0, "%s: \"%s\" is not in:%s", label, begin,
              shown.text);
    cr_expect(line != NULL && strstr(line, what) != NULL, "%s: \"%s\" is not in:%s", label, what, shown.text);
    shown_forget(&shown);
}

/* --- a journal of the test's own ------------------------------------------------------------------------------------------ */

struct scene {
    struct archive archive;
    char dir[300]; /* the bus's */
    char log[330]; /* its folder of test.a/0 */
    unsigned n;    /* events on test.a.one */
};

static void publish_cells(struct scene *scene, struct writer *writer, uint64_t until)
{
    const struct ring *ring = archive_ring(scene->archive.bus, "test.a");
    for (; ring_tail(ring) < until; scene->n++) {
        cr_assert_eq(archive_publish(scene->archive.bus, "test.a.one", scene->n, 2000), EVBUS_OK, "%s",
                     evbus_message(scene->archive.bus));
        archive_look(writer);
    }
    while (ring_journaled(ring) < ring_tail(ring))
        archive_look(writer);
}

/* All is on disk, with its marks and the groups' states. */
static void finish(struct scene *scene, struct writer *writer)
{
    struct error err = {""};
    char *text;
    size_t len;
    writer_end(writer);
    cr_assert_eq(saved_snapshot(&scene->archive.bus->memory, &text, &len, &err), EVBUS_OK, "%s", err.text);
    cr_assert_eq(saved_write(&scene->archive.bus->memory, writer_term(writer), 1, text, len, &err), EVBUS_OK, "%s",
                 err.text);
    free(text);
}

static struct scene make_scene(void)
{
    struct scene scene = {.archive = archive_make((struct archive_options){.keeper = false})};
    snprintf(scene.dir, sizeof scene.dir, "%s/%.30s", scene.archive.folder.path, scene.archive.name);
    snprintf(scene.log, sizeof scene.log, "%s/test.a/0", scene.dir);
    struct writer *writer = archive_writer(scene.archive.bus, 1);
    publish_cells(&scene, writer, 4 * FILE_CELLS + 500);
    finish(&scene, writer);
    writer_close(writer);
    return scene;
}

static void end(struct scene *scene)
{
    evbus_close(scene->archive.bus);
    evbus_remove(scene->archive.name);
}

/* "<log folder>/<base>.seg" */
static void segment_of(const struct scene *scene, uint64_t base, char out[PLACE_BYTES])
{
    snprintf(out, PLACE_BYTES, "%.330s/%016" PRIx64 ".seg", scene->log, base);
}

/* The first frame in a file at or behind a position of it. */
static uint64_t frame_behind(const char *path, uint64_t base, uint64_t pos)
{
    for (FILE *file = fopen(path, "re");; pos++) {
        struct frame_header header;
        cr_assert(file != NULL && fseek(file, (long)(HEADER_BYTES + (pos - base) * CELL_BYTES), SEEK_SET) == 0);
        cr_assert_eq(fread(&header, sizeof header, 1, file), 1u, "no frame from there on");
        if (header.stamp == FRAME_FILE_STAMP && header.position == pos && header.kind == FRAME_EVENT) {
            fclose(file);
            return pos;
        }
    }
}

/* The one file in the bus's folder whose name begins so; the last by name. */
static void file_of(const struct scene *scene, const char *begin, char out[PLACE_BYTES])
{
    char found[300] = "";
    DIR *dir = opendir(scene->dir);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        if (strncmp(entry->d_name, begin, strlen(begin)) == 0 && strcmp(entry->d_name, found) > 0)
            snprintf(found, sizeof found, "%s", entry->d_name);
    cr_assert(dir != NULL && closedir(dir) == 0 && found[0] != '\0', "%s", begin);
    snprintf(out, PLACE_BYTES, "%.300s/%.290s", scene->dir, found);
}

/* --- tests ---------------------------------------------------------------------------------------------------------------- */

Test(survey, shows_all_files_of_a_whole_bus_and_each_event_in_them)
{
    struct scene scene = make_scene();
    struct shown shown = survey(
        (struct evbus_journal_options){.bus = scene.archive.name, .verify = true, .log = "test.a"}, EVBUS_OK);
    cr_expect_eq(shown.n_damaged, 0, "%s", shown.text);
    cr_expect_eq(shown.n_events, scene.n, "%" PRIu64 " events of %u", shown.n_events, scene.n);
    cr_expect_eq(shown.n_segments, 5u);
    shown_expect(&shown, "bus folder=%s uuid=", scene.dir);
    shown_expect(&shown, "partition log=test.a partition=0 files=5 first=0 last=%" PRIu64 " bytes=",
                 ring_tail(archive_ring(scene.archive.bus, "test.a")));
    shown_expect(&shown, " synced=%" PRIu64 "\n", ring_tail(archive_ring(scene.archive.bus, "test.a")));
    shown_expect(&shown, "segment log=test.a partition=0 position=4096 until=8192 file=%s/0000000000001000.seg ",
                 scene.log);
    shown_expect(&shown, " closed=0 ");
    shown_forget(&shown);
    shown = survey((struct evbus_journal_options){.bus = scene.archive.name, .verify = true}, EVBUS_OK);
    cr_expect_eq(shown.n_damaged, 0, "%s", shown.text);
    shown_expect(&shown, "catalogue file=%s/catalogue bytes=", scene.dir);
    shown_expect(&shown, "marks file=%s/marks.", scene.dir);
    shown_expect(&shown, "groups file=%s/groups.", scene.dir);
    shown_forget(&shown);
    end(&scene);
}

Test(survey, tells_as_much_when_the_memory_is_gone_and_of_a_copy)
{
    struct scene scene = make_scene();
    struct folder elsewhere = folder_make();
    char command[1024], copy[300];
    struct shown alive = survey((struct evbus_journal_options){.bus = scene.archive.name, .verify = true}, EVBUS_OK);
    evbus_close(scene.archive.bus);
    scene.archive.bus = NULL;
    archive_forget_memory(&scene.archive);
    struct shown gone = survey((struct evbus_journal_options){.bus = scene.archive.name, .verify = true}, EVBUS_OK);
    cr_expect_str_eq(gone.text, alive.text);
    snprintf(copy, sizeof copy, "%s/copy/", elsewhere.path);
    snprintf(command, sizeof command, "cp -a %s %s", scene.dir, copy);
    cr_assert_eq(system(command), 0);
    struct shown copied = survey((struct evbus_journal_options){.dir = copy, .verify = true}, EVBUS_OK);
    cr_expect_eq(copied.n, alive.n);
    cr_expect_eq(copied.n_events, alive.n_events);
    cr_expect_eq(copied.n_damaged, 0, "%s", copied.text);
    shown_expect(&copied, "bus folder=%s/copy uuid=", elsewhere.path);
    shown_forget(&alive);
    shown_forget(&gone);
    shown_forget(&copied);
    end(&scene);
}

Test(survey, names_the_file_and_the_position_of_each_flipped_byte)
{
    struct scene scene = make_scene();
    char closed[PLACE_BYTES], last[PLACE_BYTES], bus[PLACE_BYTES], catalogue[PLACE_BYTES], marks[PLACE_BYTES],
        groups[PLACE_BYTES], begin[2 * PLACE_BYTES];
    segment_of(&scene, FILE_CELLS, closed);
    segment_of(&scene, 4 * FILE_CELLS, last);
    file_of(&scene, "bus", bus);
    file_of(&scene, "catalogue", catalogue);
    file_of(&scene, "marks.", marks);
    file_of(&scene, "groups.", groups);
    uint64_t in_closed = frame_behind(closed, FILE_CELLS, FILE_CELLS + 100);
    uint64_t in_last = frame_behind(last, 4 * FILE_CELLS, 4 * FILE_CELLS + 300);
    uint64_t behind_closed = frame_behind(closed, FILE_CELLS, in_closed + 1);
    uint64_t behind_last = frame_behind(last, 4 * FILE_CELLS, in_last + 1);
    uint64_t tail = ring_tail(archive_ring(scene.archive.bus, "test.a"));
    const struct {
        const char *label;
        const char *path;
        uint64_t at;
        uint64_t pos; /* UINT64_MAX: of no log */
        uint64_t until;
        const char *what;
    } rows[] = {
        {"a slot of bus", bus, 512 + 20, UINT64_MAX, 0, "damaged"},
        {"the catalogue's text", catalogue, 300, UINT64_MAX, 0, "checksum"},
        {"the catalogue's first line", catalogue, 3, UINT64_MAX, 0, "first line"},
        {"the header of marks", marks, 40, UINT64_MAX, 0, " at 0: its header is damaged"},
        {"what marks never use", marks, 1000, UINT64_MAX, 0, " at 1000: no evbus wrote this byte"},
        {"a mark", marks, 4096 + 512 + 50, UINT64_MAX, 0, " at 4608: a damaged mark"},
        {"the groups' states", groups, 120, UINT64_MAX, 0, "checksum"},
        {"a segment's magic", closed, 3, FILE_CELLS, 2 * FILE_CELLS, "does not begin as a segment"},
        {"a segment's header", closed, 60, FILE_CELLS, 2 * FILE_CELLS, "its header is damaged"},
        {"the header's names", closed, 530, FILE_CELLS, 2 * FILE_CELLS, "its header is damaged"},
        {"a frame's header", closed, HEADER_BYTES + (in_closed - FILE_CELLS) * CELL_BYTES + 20, in_closed,
         behind_closed, "no whole frame"},
        {"a frame's stamp", closed, HEADER_BYTES + (in_closed - FILE_CELLS) * CELL_BYTES, in_closed, behind_closed,
         "no whole frame"},
        {"a payload", closed, HEADER_BYTES + (in_closed - FILE_CELLS) * CELL_BYTES + 700, in_closed, behind_closed,
         "no whole frame"},
        {"a payload in the last file", last, HEADER_BYTES + (in_last - 4 * FILE_CELLS) * CELL_BYTES + 700, in_last,
         behind_last, "no whole frame"},
        {"the last file's header", last, 60, 4 * FILE_CELLS, tail, "its header is damaged"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        char before[PLACE_BYTES];
        folder_flip(rows[i].path, rows[i].at, 0x40);
        if (rows[i].pos == UINT64_MAX)
            snprintf(before, sizeof before, "log=- partition=- position=- until=- ");
        else
            snprintf(before, sizeof before, "log=test.a partition=0 position=%" PRIu64 " until=%" PRIu64 " ",
                     rows[i].pos, rows[i].until);
        snprintf(begin, sizeof begin, "damaged %.200s", before);
        expect_damage(scene.dir, begin, rows[i].what, rows[i].label);
        expect_damage(scene.dir, begin, rows[i].path, rows[i].label);
        folder_flip(rows[i].path, rows[i].at, 0x40);
        expect_whole((struct evbus_journal_options){.dir = scene.dir}, rows[i].label);
    }
    end(&scene);
}

Test(survey, looks_again_at_what_looks_damaged_before_it_is_told)
{
    struct scene scene = make_scene();
    char closed[PLACE_BYTES], last[PLACE_BYTES], bus[PLACE_BYTES], marks[PLACE_BYTES];
    segment_of(&scene, FILE_CELLS, closed);
    segment_of(&scene, 4 * FILE_CELLS, last);
    file_of(&scene, "bus", bus);
    file_of(&scene, "marks.", marks);
    const struct {
        const char *label;
        const char *path;
        uint64_t at;
        unsigned n_times;
    } rows[] = {
        {"bus", bus, 512 + 20, 3},
        {"the header of marks", marks, 40, 3},
        {"a mark", marks, 4096 + 512 + 50, 3},
        {"a frame", closed, HEADER_BYTES + 200 * CELL_BYTES + 40, 1},
        {"a frame of the last file", last, HEADER_BYTES + 200 * CELL_BYTES + 40, 1},
    };
    for (size_t i = 0; i < N(rows); i++) {
        snprintf(torn.path, sizeof torn.path, "%s", rows[i].path);
        torn.at = rows[i].at;
        torn.n_times = rows[i].n_times;
        expect_whole((struct evbus_journal_options){.dir = scene.dir}, rows[i].label);
        cr_expect_eq(torn.n_times, 0, "%s was not read", rows[i].label);
    }
    torn.path[0] = '\0';
    end(&scene);
}

Test(survey, misses_no_file_that_was_made_while_it_listed_them)
{
    static const char *const names[] = {"0000000000000000.seg", "0000000000002000.seg"};
    struct scene scene = make_scene();
    for (size_t i = 0; i < N(names); i++) {
        snprintf(unseen, sizeof unseen, "%s", names[i]);
        struct shown shown = survey((struct evbus_journal_options){.dir = scene.dir, .verify = true, .log = "test.a"},
                                    EVBUS_OK);
        cr_expect_eq(shown.n_damaged, 0, "%s:%s", names[i], shown.text);
        cr_expect_str_eq(unseen, "", "%s was not listed", names[i]);
        cr_expect_eq(shown.n_events, scene.n, "%" PRIu64 " of %u", shown.n_events, scene.n);
        shown_forget(&shown);
    }
    end(&scene);
}

Test(survey, tells_the_byte_where_a_frame_is_damaged)
{
    struct scene scene = make_scene();
    char closed[PLACE_BYTES], at[64];
    segment_of(&scene, FILE_CELLS, closed);
    uint64_t pos = frame_behind(closed, FILE_CELLS, FILE_CELLS + 100);
    uint64_t byte = HEADER_BYTES + (pos - FILE_CELLS) * CELL_BYTES;
    folder_flip(closed, byte + 90, 1);
    snprintf(at, sizeof at, " at=%" PRIu64 " ", byte);
    expect_damage(scene.dir, "damaged log=test.a partition=0 ", at, "at");
    struct shown shown = survey((struct evbus_journal_options){.dir = scene.dir}, EVBUS_OK);
    cr_expect_eq(shown.n_damaged, 0, "frames are read where it is asked for:%s", shown.text);
    shown_forget(&shown);
    end(&scene);
}

Test(survey, tells_files_that_are_cut_or_lost_up_to_where_they_went)
{
    struct scene scene = make_scene();
    char closed[PLACE_BYTES], last[PLACE_BYTES], away[PLACE_BYTES], begin[2 * PLACE_BYTES];
    uint64_t tail = ring_tail(archive_ring(scene.archive.bus, "test.a"));
    segment_of(&scene, 2 * FILE_CELLS, closed);
    segment_of(&scene, 4 * FILE_CELLS, last);
    snprintf(away, sizeof away, "%s/away", scene.archive.folder.path);

    cr_assert_eq(rename(closed, away), 0);
    snprintf(begin, sizeof begin, "damaged log=test.a partition=0 position=8192 until=12288 file=%s", closed);
    expect_damage(scene.dir, begin, "the file is lost", "between");
    cr_assert_eq(rename(away, closed), 0);

    cr_assert_eq(rename(last, away), 0);
    snprintf(begin, sizeof begin, "damaged log=test.a partition=0 position=16384 until=%" PRIu64 " file=%s", tail,
             last);
    expect_damage(scene.dir, begin, "the file is lost", "the last");
    cr_assert_eq(rename(away, last), 0);

    uint64_t cut = frame_behind(last, 4 * FILE_CELLS, 4 * FILE_CELLS + 200);
    cr_assert_eq(truncate(last, (off_t)(HEADER_BYTES + (cut - 4 * FILE_CELLS) * CELL_BYTES + 70)), 0);
    snprintf(begin, sizeof begin, "damaged log=test.a partition=0 position=%" PRIu64 " until=%" PRIu64, cut, tail);
    expect_damage(scene.dir, begin, last, "the last, cut below what was synced");

    cut = frame_behind(closed, 2 * FILE_CELLS, 2 * FILE_CELLS + 200);
    cr_assert_eq(unlink(last), 0); /* else there were two */
    cr_assert_eq(truncate(closed, (off_t)(HEADER_BYTES + (cut - 2 * FILE_CELLS) * CELL_BYTES + 70)), 0);
    struct shown shown = survey((struct evbus_journal_options){.dir = scene.dir, .verify = true}, EVBUS_OK);
    shown_expect(&shown, "\ndamaged log=test.a partition=0 position=%" PRIu64 " until=12288 file=%s", cut, closed);
    cr_expect_eq(shown.n_damaged, 2, "%s", shown.text);
    shown_forget(&shown);
    end(&scene);
}

Test(survey, takes_all_files_of_a_partition_for_lost_where_marks_know_of_them)
{
    struct scene scene = make_scene();
    char away[PLACE_BYTES], begin[2 * PLACE_BYTES];
    snprintf(away, sizeof away, "%s/away", scene.archive.folder.path);
    cr_assert_eq(rename(scene.log, away), 0);
    snprintf(begin, sizeof begin, "damaged log=test.a partition=0 position=0 until=%" PRIu64 " file=%s at=- ",
             ring_tail(archive_ring(scene.archive.bus, "test.a")), scene.log);
    expect_damage(scene.dir, begin, "all of its files are lost", "no folder");
    cr_assert_eq(rename(away, scene.log), 0);
    end(&scene);
}

Test(survey, takes_what_is_torn_behind_the_last_whole_frame_for_no_damage)
{
    struct scene scene = make_scene();
    char last[PLACE_BYTES], begin[2 * PLACE_BYTES];
    struct writer *writer = archive_writer(scene.archive.bus, 2); /* whose marks know nothing of what it appends */
    uint64_t synced = ring_tail(archive_ring(scene.archive.bus, "test.a"));
    publish_cells(&scene, writer, synced + 100);
    segment_of(&scene, 4 * FILE_CELLS, last);
    uint64_t first = frame_behind(last, 4 * FILE_CELLS, synced);
    uint64_t second = frame_behind(last, 4 * FILE_CELLS, first + 1);
    uint64_t tail = ring_tail(archive_ring(scene.archive.bus, "test.a"));
    cr_assert(second > first && second < tail);
    expect_whole((struct evbus_journal_options){.dir = scene.dir}, "appended");

    folder_flip(last, HEADER_BYTES + (first - 4 * FILE_CELLS) * CELL_BYTES + 90, 1);
    snprintf(begin, sizeof begin, "damaged log=test.a partition=0 position=%" PRIu64 " until=%" PRIu64, first, second);
    expect_damage(scene.dir, begin, "no whole frame", "whole ones stand behind it");
    folder_flip(last, HEADER_BYTES + (first - 4 * FILE_CELLS) * CELL_BYTES + 90, 1);

    for (uint64_t len = folder_len(last) - 64 * 5; len > HEADER_BYTES + (synced - 4 * FILE_CELLS) * CELL_BYTES;
         len -= 97) {
        cr_assert_eq(truncate(last, (off_t)len), 0);
        expect_whole((struct evbus_journal_options){.dir = scene.dir}, "torn");
    }
    writer_close(writer);
    end(&scene);
}

Test(survey, finds_nothing_between_two_lives_of_a_bus)
{
    struct scene scene = make_scene();
    char last[PLACE_BYTES];
    segment_of(&scene, 4 * FILE_CELLS, last);
    folder_put(last, folder_len(last), "half a frame", 12); /* as a cut leaves it */
    for (unsigned life = 2; life < 5; life++) {
        evbus_close(scene.archive.bus);
        archive_forget_memory(&scene.archive);
        scene.archive.bus = archive_open(&scene.archive, false);
        cr_assert_not_null(scene.archive.bus, "%s", evbus_message(NULL));
        expect_whole((struct evbus_journal_options){.bus = scene.archive.name}, "nothing published yet");
        struct writer *writer = archive_writer(scene.archive.bus, 1);
        if (life != 3)
            publish_cells(&scene, writer, ring_tail(archive_ring(scene.archive.bus, "test.a")) + 5000);
        finish(&scene, writer);
        writer_close(writer);
        expect_whole((struct evbus_journal_options){.bus = scene.archive.name}, "another life");
    }
    struct shown shown = survey(
        (struct evbus_journal_options){.bus = scene.archive.name, .verify = true, .log = "test.a"}, EVBUS_OK);
    cr_expect_eq(shown.n_events, scene.n, "%" PRIu64 " of %u", shown.n_events, scene.n);
    shown_expect(&shown, " incarnation=4\n");
    shown_forget(&shown);
    end(&scene);
}

Test(survey, checks_what_is_left_where_the_file_bus_does_not_tell_which_it_is)
{
    struct scene scene = make_scene();
    char bus[PLACE_BYTES], closed[PLACE_BYTES];
    file_of(&scene, "bus", bus);
    segment_of(&scene, FILE_CELLS, closed);
    cr_assert_eq(truncate(bus, 0), 0);
    folder_flip(closed, HEADER_BYTES + 90, 1);
    struct shown shown = survey((struct evbus_journal_options){.dir = scene.dir, .verify = true}, EVBUS_OK);
    cr_expect_eq(shown.n_damaged, 2, "%s", shown.text);
    shown_expect(&shown, " incarnation=-\ndamaged log=- partition=- position=- until=- file=%s/bus ", scene.dir);
    shown_expect(&shown, "\ndamaged log=test.a partition=0 position=4096 until=");
    shown_forget(&shown);
    end(&scene);
}

Test(survey, refuses_by_name_what_is_no_buss_folder)
{
    struct folder folder = folder_make();
    char path[300];
    refused((struct evbus_journal_options){.dir = "/nowhere/at/all"}, EVBUS_ENOBUS);
    cr_expect_not_null(strstr(evbus_message(NULL), "/nowhere/at/all"), "%s", evbus_message(NULL));
    refused((struct evbus_journal_options){.dir = folder.path, .verify = true}, EVBUS_ENOBUS);
    cr_expect_not_null(strstr(evbus_message(NULL), folder.path), "%s", evbus_message(NULL));
    refused((struct evbus_journal_options){.bus = "test-no-such-bus"}, EVBUS_ENOBUS);
    cr_expect_not_null(strstr(evbus_message(NULL), "test-no-such-bus"), "%s", evbus_message(NULL));
    refused((struct evbus_journal_options){.bus = "No Bus!"}, EVBUS_EINVAL);
    refused((struct evbus_journal_options){.dir = ""}, EVBUS_EINVAL);
    snprintf(path, sizeof path, "%s/bus", folder.path);
    folder_put(path, 0, "somebody else's", 15);
    refused((struct evbus_journal_options){.dir = folder.path}, EVBUS_ECORRUPT);
    cr_expect_not_null(strstr(evbus_message(NULL), path), "%s", evbus_message(NULL));
    cr_expect_eq(evbus_journal(NULL, NULL, NULL), EVBUS_EINVAL);
}

Test(survey, tells_files_of_another_bus)
{
    struct scene scene = make_scene();
    char here[PLACE_BYTES], there[PLACE_BYTES], command[2 * PLACE_BYTES + 16], begin[2 * PLACE_BYTES];
    struct folder aside = folder_make();
    segment_of(&scene, 3 * FILE_CELLS, here);
    snprintf(there, sizeof there, "%s/other", aside.path);
    snprintf(command, sizeof command, "cp %s %s", here, there);
    cr_assert_eq(system(command), 0);
    end(&scene);
    scene = make_scene();
    segment_of(&scene, 3 * FILE_CELLS, here);
    snprintf(command, sizeof command, "cp %s %s", there, here);
    cr_assert_eq(system(command), 0);
    snprintf(begin, sizeof begin, "damaged log=test.a partition=0 position=12288 until=16384 file=%s", here);
    expect_damage(scene.dir, begin, "is of another bus", "a segment");
    segment_of(&scene, 2 * FILE_CELLS, there);
    snprintf(command, sizeof command, "cp %s %s", there, here);
    cr_assert_eq(system(command), 0);
    expect_damage(scene.dir, begin, "move it to where it belongs", "a segment of another place");
    end(&scene);
}

Test(survey, shows_what_was_put_aside)
{
    struct scene scene = make_scene();
    char path[PLACE_BYTES], groups[PLACE_BYTES];
    segment_of(&scene, 0, path);
    snprintf(path + strlen(path), sizeof path - strlen(path), ".damaged");
    folder_put(path, 0, "what it was", 11);
    snprintf(groups, sizeof groups, "%s/groups.00000001.000001.00000001.damaged", scene.dir);
    folder_put(groups, 0, "what", 4);
    struct shown shown = survey((struct evbus_journal_options){.dir = scene.dir, .verify = true}, EVBUS_OK);
    cr_expect_eq(shown.n_damaged, 0, "%s", shown.text);
    shown_expect(&shown, "\naside file=%s bytes=11 changed=", path);
    shown_expect(&shown, "\naside file=%s bytes=4 changed=", groups);
    shown_forget(&shown);
    end(&scene);
}

Test(survey, shows_what_is_asked_for)
{
    struct scene scene = make_scene();
    struct evbus_journal_options one = {.dir = scene.dir, .log = "test.a", .has_partition = true};
    struct shown shown = survey(one, EVBUS_OK);
    cr_expect_null(strstr(shown.text, "test.b"), "%s", shown.text);
    cr_expect_null(strstr(shown.text, "catalogue"), "%s", shown.text);
    cr_expect_eq(shown.n_segments, 5u);
    shown_forget(&shown);
    one.partition = 1;
    shown = survey(one, EVBUS_ENOTFOUND);
    shown_forget(&shown);
    shown = survey((struct evbus_journal_options){.dir = scene.dir, .log = "test.c"}, EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(evbus_message(NULL), "test.c"));
    shown_forget(&shown);
    end(&scene);
}

Test(survey, ends_where_it_is_told_to)
{
    struct scene scene = make_scene();
    char closed[PLACE_BYTES];
    segment_of(&scene, FILE_CELLS, closed);
    folder_flip(closed, HEADER_BYTES + 90, 1);
    struct shown all = survey((struct evbus_journal_options){.dir = scene.dir, .verify = true}, EVBUS_OK);
    for (unsigned n = 1; n <= all.n; n++) {
        struct shown shown = {.stop_after = n};
        struct evbus_journal_options options = {.dir = scene.dir, .verify = true};
        cr_expect_eq(evbus_journal(&options, shown_keep, &shown), 77, "after %u", n);
        cr_expect_eq(shown.n, n);
        shown_forget(&shown);
    }
    shown_forget(&all);
    end(&scene);
}

/* --- while it is in use ----------------------------------------------------------------------------------------------------- */

struct load {
    struct archive archive;
    _Atomic bool is_over;
    _Atomic unsigned n;
};

static void *publish_on(void *context)
{
    struct load *load = context;
    struct evbus *bus = archive_open(&load->archive, false);
    for (unsigned i = 0; bus != NULL && !atomic_load(&load->is_over); i++)
        atomic_fetch_add(&load->n, archive_publish(bus, "test.b.one", i, 100 + i % 1900) == EVBUS_OK);
    evbus_close(bus);
    return NULL;
}

/* Keepers come and go: each begins a term, with marks of its own, and appends from what was synced on. */
static void *keep_by_turns(void *context)
{
    struct load *load = context;
    while (!atomic_load(&load->is_over)) {
        struct evbus *bus = archive_open(&load->archive, true);
        unsigned before = atomic_load(&load->n);
        await_that(atomic_load(&load->n) > before + 1500 || atomic_load(&load->is_over));
        evbus_close(bus);
    }
    return NULL;
}

Test(survey, finds_no_damage_in_a_bus_that_is_written_at_full_speed, .timeout = 300)
{
    pthread_t publisher, keeper;
    struct load load = {.archive = archive_make(
                            (struct archive_options){.ring = "64KiB", .settings = "\"retention_bytes\":\"4MiB\","})};
    unsigned n_rounds = 0;
    cr_assert_eq(pthread_create(&publisher, NULL, publish_on, &load), 0);
    cr_assert_eq(pthread_create(&keeper, NULL, keep_by_turns, &load), 0);
    await_that(atomic_load(&load.n) > 1000);
    for (; n_rounds < 100; n_rounds++) {
        unsigned before = atomic_load(&load.n);
        await_that(atomic_load(&load.n) > before + 300);
        struct shown shown = survey((struct evbus_journal_options){.bus = load.archive.name, .verify = true}, EVBUS_OK);
        cr_expect_eq(shown.n_damaged, 0, "round %u:%s", n_rounds, shown.text);
        bool is_bad = shown.n_damaged > 0;
        shown_forget(&shown);
        if (is_bad)
            break;
    }
    atomic_store(&load.is_over, true);
    pthread_join(publisher, NULL);
    pthread_join(keeper, NULL);
    cr_log_info("%u events, %u rounds", atomic_load(&load.n), n_rounds);
    evbus_close(load.archive.bus);
    evbus_remove(load.archive.name);
}
