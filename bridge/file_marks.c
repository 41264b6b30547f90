/* file_marks.c: a tree of marks by "origin/partition/stream". A file of its own: <search.h> has a struct entry, too. */
#include "file_marks.h"

#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORIGIN_MAX 36 /* a UUID */

static int compare(const void *left, const void *right)
{
    return strcmp(((const struct file_mark *)left)->name, ((const struct file_mark *)right)->name);
}

struct file_mark *file_marks_get(void **marks, const char *origin, size_t origin_len, uint32_t partition,
                                 const char *stream, size_t stream_len)
{
    struct file_mark wanted = {0};
    if (origin_len > ORIGIN_MAX || stream_len >= MARK_STREAM_SIZE)
        return NULL;
    snprintf(wanted.name, sizeof wanted.name, "%.*s/%" PRIu32 "/%.*s", (int)origin_len, origin, partition,
             (int)stream_len, stream);
    struct file_mark **found = tsearch(&wanted, marks, compare);
    if (found == NULL)
        abort(); /* no memory: see file_line.c */
    if (*found == &wanted) {
        *found = malloc(sizeof wanted);
        if (*found == NULL)
            abort();
        **found = wanted;
    }
    return *found;
}

void file_marks_clear(void **marks)
{
    tdestroy(*marks, free);
    *marks = NULL;
}
