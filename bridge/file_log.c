/* file_log.c: the log of a file broker: one file, DIR/log.ndjson, that is only ever appended to.
 *
 *     {"evbus":"log","made":"1769938200123456789"}        the first line: since when there is this log
 *     [{head},{entry},{entry}]                            a batch: see file_line.c
 *     {entry}                                             of a foreign program
 *
 *   append   read what others have appended since; is the batch fenced, does it leave a gap, what of it is there
 *            already? Append the rest as one line, by one write(); read on to it. Its caller syncs, and answers.
 *   joins    A batch counts if at its place in the file its epoch is not older than its streams' marks and each
 *            stream's first `prev` is the mark. The marks are moved by the batches that count, and stand nowhere else:
 *            so every reader comes to the same marks.
 * Why that is enough. There is one order, the file's, since O_APPEND puts each write() behind the last. Whether a line
 * counts follows from what stands before it; so nobody needs a lock, and whoever is stopped between his reading and his
 * write() keeps nobody waiting: if another bridge of his bus was faster his line does not join, he reads that, and
 * looks again. These lines are the only ones that are there and do not count; it takes two bridges of one bus at once
 * to make them. A line that was cut, by a death or a full disk, is no JSON text and counts for nobody; what is appended
 * next begins with a newline, so it is a line of its own.
 *
 * What a reader sees may not be synced yet, as with Redis; what is answered is.
 *
 * Limits. Nothing is ever removed; who wants the disk back stops the bridges and moves the folder away, as FLUSHALL
 * would. A folder of this host: over NFS O_APPEND is not atomic, and nobody is woken. Each opener reads the whole log
 * once. A foreign program appends "\n{entry}\n" by one write() with O_APPEND: the first newline ends what a death has
 * left. Checked by tests/broker/test_file.c. */
#include "file_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES ((size_t)1 << 20) /* read at once; more where a line is longer */

static void *must(void *memory)
{
    if (memory == NULL)
        abort(); /* see file_line.c */
    return memory;
}

static bool fail(struct file_log *log, const char *what)
{
    snprintf(log->fault, sizeof log->fault, "%.150s: %s: %s", log->path, what, strerror(errno));
    return false;
}

static bool is_older(uint64_t incarnation, uint64_t epoch, const struct file_mark *mark)
{
    return incarnation != mark->incarnation ? incarnation < mark->incarnation : epoch < mark->epoch;
}

struct file_mark *file_log_mark(struct file_log *log, const char *origin, uint32_t partition, const char *stream)
{
    return must(file_marks_get(&log->marks, origin, strlen(origin), partition, stream, strlen(stream)));
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Whole lines from an offset on, as many as are in a chunk; none: out_lines->len is 0. false: fault. */
static bool read_lines(struct file_log *log, uint64_t from, uint64_t end, struct slice *out_lines)
{
    struct text *buffer = &log->buffer;
    *out_lines = (struct slice){.at = buffer->at};
    while (from < end) {
        size_t wanted = end - from < buffer->cap ? (size_t)(end - from) : buffer->cap;
        ssize_t len = pread(log->fd, buffer->at, wanted, (off_t)from);
        if (len < 0)
            return fail(log, "read");
        const char *last = memrchr(buffer->at, '\n', (size_t)len);
        if (last != NULL) {
            out_lines->len = (size_t)(last + 1 - buffer->at);
            return true;
        }
        if ((size_t)len < buffer->cap)
            return true;
        buffer->cap *= 2;
        buffer->at = must(realloc(buffer->at, buffer->cap));
        out_lines->at = buffer->at;
    }
    return true;
}

bool file_log_read(struct file_log *log, uint64_t from, struct slice *out_lines)
{
    return read_lines(log, from, log->scanned, out_lines);
}

bool file_log_line(struct slice *inout_rest, struct slice *out_line)
{
    if (inout_rest->len == 0)
        return false;
    const char *newline = memchr(inout_rest->at, '\n', inout_rest->len); /* the last byte is one */
    *out_line = (struct slice){.at = inout_rest->at, .len = (size_t)(newline - inout_rest->at)};
    inout_rest->at = newline + 1;
    inout_rest->len -= out_line->len + 1;
    return true;
}

/* Of an entry of a batch. NULL: no stream has such a name. */
static struct file_mark *mark_of(struct file_log *log, const struct line_head *head, struct slice stream)
{
    return file_marks_get(&log->marks, head->origin.at, head->origin.len, head->partition, stream.at, stream.len);
}

/* How far a stream is in the look that is under way. */
static uint64_t last_of(const struct file_log *log, const struct file_mark *mark)
{
    return mark->seen == log->look ? mark->last : mark->position;
}

static bool follows(const struct file_log *log, struct file_mark *mark, uint64_t position, uint64_t prev)
{
    if (prev != last_of(log, mark) || position <= prev)
        return false;
    mark->seen = log->look;
    mark->last = position;
    return true;
}

static bool joins(struct file_log *log, const struct line_head *head, struct slice line)
{
    struct slice entry;
    struct line_place place;
    bool is_empty = true;
    log->look++;
    for (const char *at = NULL; line_entry(line, &at, &entry); is_empty = false) {
        if (!line_place(entry, &place))
            return false;
        struct file_mark *mark = mark_of(log, head, place.stream);
        if (mark == NULL || is_older(head->incarnation, head->epoch, mark) ||
            !follows(log, mark, place.position, place.prev))
            return false;
    }
    return !is_empty;
}

static void move_marks(struct file_log *log, const struct line_head *head, struct slice line)
{
    struct slice entry;
    struct line_place place;
    for (const char *at = NULL; line_entry(line, &at, &entry);)
        if (line_place(entry, &place)) {
            struct file_mark *mark = mark_of(log, head, place.stream);
            mark->position = place.position;
            mark->epoch = head->epoch;
            mark->incarnation = head->incarnation;
        }
}

static void scan_line(struct file_log *log, struct slice line, uint64_t offset)
{
    struct line_head head;
    if (!line_is_whole(line) || *line.at != '[')
        return;
    bool is_joined = line_head(line, &head) && joins(log, &head, line);
    if (is_joined) {
        move_marks(log, &head, line);
    } else {
        log->ignored = must(realloc(log->ignored, (log->n_ignored + 1) * sizeof *log->ignored));
        log->ignored[log->n_ignored++] = offset;
    }
    char ours[64];
    snprintf(ours, sizeof ours, "%016" PRIx64 "-%" PRIu64, log->writer, log->n_lines);
    if (slice_is(head.by, ours)) {
        log->is_found = true;
        log->is_joined = is_joined;
    }
}

bool file_log_scan(struct file_log *log, uint64_t most_bytes, bool *out_is_all)
{
    struct stat found;
    if (fstat(log->fd, &found) != 0)
        return fail(log, "fstat");
    uint64_t size = (uint64_t)found.st_size, begin = log->scanned;
    struct slice lines, line;
    do {
        if (!read_lines(log, log->scanned, size, &lines))
            return false;
        for (struct slice rest = lines; file_log_line(&rest, &line);)
            scan_line(log, line, log->scanned + (uint64_t)(line.at - lines.at));
        log->scanned += lines.len;
        log->is_synced = log->is_synced && lines.len == 0;
    } while (lines.len > 0 && log->scanned - begin < most_bytes);
    *out_is_all = lines.len == 0;
    return true;
}

static bool scan_all(struct file_log *log)
{
    bool is_all;
    return file_log_scan(log, UINT64_MAX, &is_all);
}

static int compare_offsets(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

bool file_log_ignores(const struct file_log *log, uint64_t offset)
{
    return log->n_ignored > 0 && bsearch(&offset, log->ignored, log->n_ignored, sizeof offset, compare_offsets) != NULL;
}

/* --- being there, or not ------------------------------------------------------------------------------------------ */

void file_log_init(struct file_log *log, const char *folder)
{
    *log = (struct file_log){.fd = -1, .bell = -1};
    snprintf(log->folder, sizeof log->folder, "%s", folder);
    snprintf(log->path, sizeof log->path, "%s/log.ndjson", log->folder);
    log->buffer.cap = CHUNK_BYTES;
    log->buffer.at = must(malloc(log->buffer.cap));
    if (getrandom(&log->writer, sizeof log->writer, 0) != (ssize_t)sizeof log->writer)
        abort();                    /* so few bytes always come, once the kernel has started */
    (void)mkdir(log->folder, 0750); /* where that fails, opening it tells why */
}

void file_log_close(struct file_log *log)
{
    if (log->fd >= 0)
        close(log->fd);
    if (log->bell >= 0)
        close(log->bell);
    log->fd = log->bell = -1;
    log->scanned = log->made = 0;
    log->n_ignored = 0;
    file_marks_clear(&log->marks);
}

void file_log_end(struct file_log *log)
{
    file_log_close(log);
    free(log->buffer.at);
    free(log->line.at);
    free(log->ignored);
}

static bool sync_folder(struct file_log *log)
{
    int fd = open(log->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail(log, "its folder");
    bool is_synced = fsync(fd) == 0 || fail(log, "its folder: fsync");
    close(fd);
    return is_synced;
}

/* The first line says since when; a foreign program's log says nothing, which is 0. */
static bool read_made(struct file_log *log)
{
    struct slice lines, line, name, value;
    if (!read_lines(log, 0, CHUNK_BYTES, &lines))
        return false;
    if (file_log_line(&lines, &line) && line_is_whole(line))
        for (const char *at = NULL; slice_next(line, &at, &name, &value);)
            if (slice_is(name, "\"made\"") && !line_number(value, &log->made))
                log->made = 0;
    return true;
}

bool file_log_open(struct file_log *log)
{
    struct stat found;
    struct timespec now;
    log->fd = open(log->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (log->fd < 0)
        return fail(log, "open");
    log->bell = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (log->bell < 0 ||
        inotify_add_watch(log->bell, log->folder,
                          IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVE | IN_DELETE_SELF | IN_MOVE_SELF) < 0)
        return fail(log, "inotify");
    if (fstat(log->fd, &found) != 0)
        return fail(log, "fstat");
    if (found.st_size == 0) { /* two at once: the second line means nothing */
        clock_gettime(CLOCK_REALTIME, &now);
        char line[64];
        int len = snprintf(line, sizeof line, "{\"evbus\":\"log\",\"made\":\"%" PRIu64 "\"}\n",
                           (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
        ssize_t written = write(log->fd, line, (size_t)len);
        errno = written >= 0 ? ENOSPC : errno;
        if (written != len)
            return fail(log, "write");
        if (!sync_folder(log))
            return false;
    }
    log->is_synced = false;
    return read_made(log);
}

bool file_log_look(struct file_log *log)
{
    struct stat ours, named;
    if (fstat(log->fd, &ours) != 0)
        return fail(log, "fstat");
    bool is_named = stat(log->path, &named) == 0;
    if (!is_named && errno != ENOENT)
        return fail(log, "stat");
    if (is_named && named.st_ino == ours.st_ino && named.st_dev == ours.st_dev &&
        (uint64_t)ours.st_size >= log->scanned)
        return true;
    file_log_close(log);
    return file_log_open(log);
}

/* --- appending ---------------------------------------------------------------------------------------------------- */

static bool has_whole_end(const struct file_log *log)
{
    char last = '\n';
    off_t size = lseek(log->fd, 0, SEEK_END);
    return size <= 0 || (pread(log->fd, &last, 1, size - 1) == 1 && last == '\n');
}

/* May it be appended, and what of it: log->line, empty where all is there. */
static enum backend_result judge(struct file_log *log, const char *origin, const struct file_batch *batch, char *why)
{
    for (size_t i = 0; i < batch->n_events; i++) {
        const struct file_event *event = &batch->events[i];
        const struct file_mark *mark = file_log_mark(log, origin, batch->partition, event->stream);
        if (is_older(batch->incarnation, batch->epoch, mark)) {
            snprintf(why, FILE_LOG_WHY,
                     "%s, partition %" PRIu32 ": a bridge of epoch %" PRIu64 " in incarnation %" PRIu64
                     " has appended; this one's is %" PRIu64 " in %" PRIu64,
                     event->stream, batch->partition, mark->epoch, mark->incarnation, batch->epoch, batch->incarnation);
            return BACKEND_FENCED;
        }
    }
    bool is_all_there = true;
    log->look++;
    log->line.len = 0;
    text_format(&log->line,
                "\n[{\"log\":\"%s\",\"origin\":\"%s\",\"partition\":\"%" PRIu32 "\",\"incarnation\":\"%" PRIu64
                "\",\"epoch\":\"%" PRIu64 "\",\"by\":\"%016" PRIx64 "-%" PRIu64 "\"}",
                batch->log, origin, batch->partition, batch->incarnation, batch->epoch, log->writer, ++log->n_lines);
    for (size_t i = 0; i < batch->n_events; i++) {
        const struct file_event *event = &batch->events[i];
        struct file_mark *mark = file_log_mark(log, origin, batch->partition, event->stream);
        uint64_t last = last_of(log, mark);
        if (event->position <= last)
            continue;
        if (!follows(log, mark, event->position, event->prev)) {
            snprintf(why, FILE_LOG_WHY,
                     "%s, partition %" PRIu32 ": the mark is %" PRIu64 ", and position %" PRIu64 " follows %" PRIu64,
                     event->stream, batch->partition, last, event->position, event->prev);
            return BACKEND_GAP;
        }
        is_all_there = false;
        text_put(&log->line, ",", 1);
        text_put(&log->line, batch->text.at + event->at, event->len);
    }
    text_put(&log->line, "]\n", 2);
    if (is_all_there)
        log->line.len = 0;
    return BACKEND_OK;
}

/* By one write(): see the file's first comment. AWAY: fault. */
static enum backend_result write_line(struct file_log *log, char *why)
{
    size_t skip = has_whole_end(log) ? 1 : 0, len = log->line.len - skip;
    ssize_t written = write(log->fd, log->line.at + skip, len);
    log->is_synced = false;
    if (written == (ssize_t)len)
        return BACKEND_OK;
    if (written == (ssize_t)len - 1) { /* the next newline, whoever's, makes it a line */
        snprintf(log->fault, sizeof log->fault, "%.150s: a line without its newline was written", log->path);
        return BACKEND_AWAY;
    }
    snprintf(why, FILE_LOG_WHY, "%.150s: %s", log->path,
             written < 0 ? strerror(errno) : "the disk is full: a part of a line was written, and counts for nobody");
    return BACKEND_REFUSED;
}

enum backend_result file_log_append(struct file_log *log, const char *origin, const struct file_batch *batch, char *why)
{
    enum { TRIES = 100 }; /* more than one only where another bridge of our bus came between, which made progress */
    for (unsigned i = 0; i < TRIES; i++) {
        if (!scan_all(log))
            return BACKEND_AWAY;
        enum backend_result result = judge(log, origin, batch, why);
        if (result != BACKEND_OK || log->line.len == 0)
            return result;
        if (!line_is_whole((struct slice){.at = log->line.at, .len = log->line.len})) {
            snprintf(why, FILE_LOG_WHY,
                     "%s, partition %" PRIu32 ": a payload is no JSON, or too deep: it was published unchecked",
                     batch->log, batch->partition);
            return BACKEND_REFUSED;
        }
        log->is_found = log->is_joined = false;
        result = write_line(log, why);
        if (result != BACKEND_OK)
            return result;
        if (!scan_all(log))
            return BACKEND_AWAY;
        if (log->is_found && log->is_joined)
            return BACKEND_OK;
    }
    snprintf(log->fault, sizeof log->fault, "%.150s: what was written %d times is not there", log->path, TRIES);
    return BACKEND_AWAY;
}

bool file_log_sync(struct file_log *log)
{
    log->is_synced = log->is_synced || fdatasync(log->fd) == 0 || fail(log, "fdatasync");
    return log->is_synced;
}
