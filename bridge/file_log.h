/* file_log.h: the log of a file broker. See file_log.c. */
#ifndef EVBUS_BRIDGE_FILE_LOG_H
#define EVBUS_BRIDGE_FILE_LOG_H

#include "backend.h"
#include "file_line.h"
#include "file_marks.h"

#define FILE_LOG_WHY 256

struct file_log {
    char folder[512];
    char path[544];
    char fault[FILE_LOG_WHY]; /* why it has to be closed; "": it has not */
    int fd;                   /* -1: it is not open */
    int bell;                 /* inotify: something has changed in the folder */
    bool is_synced;
    uint64_t made;    /* ns since 1970; which log of this name it is. 0: it does not say */
    uint64_t scanned; /* bytes; marks and ignored are as of there */
    void *marks;      /* file_marks.h */
    uint64_t look;
    uint64_t *ignored; /* offsets of batches that do not count, upwards */
    size_t n_ignored;
    uint64_t writer; /* by random: tells our lines from others' */
    uint64_t n_lines;
    bool is_found, is_joined; /* what became of the last of them */
    struct text buffer, line;
};

struct file_event {
    char stream[MARK_STREAM_SIZE];
    uint64_t position;
    uint64_t prev;
    size_t at, len; /* of its JSON object, in the batch's text */
};

struct file_batch {
    char log[MARK_STREAM_SIZE];
    uint32_t partition;
    uint64_t epoch;
    uint64_t incarnation;
    struct file_event *events;
    size_t n_events;
    struct text text;
};

/* Its folder is made where there is none: once, since one that is gone later has to come back with what is in it. */
void file_log_init(struct file_log *log, const char *folder);
void file_log_end(struct file_log *log);

/* Those that return false have set log->fault: close it, and try again later. */
bool file_log_open(struct file_log *log);
void file_log_close(struct file_log *log);
bool file_log_look(
    struct file_log
        *log); /* is it still the file of that name? Else that one is opened, and nothing of it is scanned */
bool file_log_scan(struct file_log *log, uint64_t most_bytes, bool *out_is_all); /* reads what is new */
bool file_log_sync(struct file_log *log);

/* Whole lines from an offset on that have been scanned, as many as are in a chunk; none: their len is 0. Until the next
 * call on the log. */
bool file_log_read(struct file_log *log, uint64_t from, struct slice *out_lines);
bool file_log_line(struct slice *inout_rest, struct slice *out_line);
bool file_log_ignores(const struct file_log *log, uint64_t offset); /* a batch there does not count */

struct file_mark *file_log_mark(struct file_log *log, const char *origin, uint32_t partition, const char *stream);

/* AWAY: fault. Else what is to be answered once it is synced; why: FILE_LOG_WHY bytes. */
enum backend_result file_log_append(struct file_log *log, const char *origin, const struct file_batch *batch,
                                    char *why);

#endif
