/* file_marks.h: how far each stream of a file broker has each partition of each bus. See file_marks.c. */
#ifndef EVBUS_BRIDGE_FILE_MARKS_H
#define EVBUS_BRIDGE_FILE_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MARK_STREAM_SIZE 128 /* a stream's name, with its NUL */

struct file_mark {
    uint64_t position; /* 0: it has none */
    uint64_t epoch;
    uint64_t incarnation;
    uint64_t seen; /* file_log.c's: in which of its looks last, and the position it would have behind that */
    uint64_t last;
    char name[MARK_STREAM_SIZE + 64];
};

/* Made where there is none. NULL: no bus or stream has such a name. *marks begins as NULL. */
struct file_mark *file_marks_get(void **marks, const char *origin, size_t origin_len, uint32_t partition,
                                 const char *stream, size_t stream_len);
void file_marks_clear(void **marks);

#endif
