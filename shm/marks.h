/* marks.h: how far a partition's positions may be in use, and how far they are on disk. See marks.c. */
#ifndef EVBUS_MARKS_H
#define EVBUS_MARKS_H

#include "file.h"
#include "layout.h"

#define MARKS_STEP (UINT64_C(1) << 24) /* cells: how far a ceiling goes ahead */

struct mark {
    char log[NAME_BYTES];
    uint32_t partition;
    uint64_t ceiling; /* positions below it may be in use */
    uint64_t synced;  /* what lies below is on disk for sure */
};

/* The file of one keeper's term. */
struct marks {
    int fd; /* -1: none */
    char path[FILE_PATH_MAX];
    uint8_t uuid[16];
    uint64_t *counts; /* of each entry's writes */
};
#define MARKS_NONE ((struct marks){.fd = -1})

/* A term: {incarnation, how-manieth keeper in it}. */
struct term {
    uint64_t incarnation;
    uint32_t number;
};

/* Makes the file of this term, empty. n_entries: how many will be in it, on disk, before those of other terms are dropped; it may get
 * more. EVBUS_EDUPLICATE: it is there. */
int marks_create(struct marks *out_marks, const char *folder, const uint8_t uuid[16], struct term term,
                 uint32_t n_entries, struct error *err);

/* Writes an entry of it: 0, 1, 2, ...; with `sync` all of the file is on disk on return. */
int marks_write(struct marks *marks, uint32_t index, const struct mark *mark, bool sync, struct error *err);

/* All marks of all terms: of each partition the highest. To be freed. A slot that is damaged makes its entry's ceiling two steps
 * higher. EVBUS_ECORRUPT: an entry's slots both are, or a file has been cut. EVBUS_ECONFLICT: a file of another bus. */
int marks_load(const char *folder, const uint8_t uuid[16], struct mark **out_marks, size_t *out_n, struct error *err);

/* Is it the name of such a file? */
bool marks_is(const char *name);

/* Is every byte of this file as a keeper wrote it? EVBUS_ECORRUPT: *out_at is the first place that is not (a slot that is just being
 * written looks so, too). EVBUS_ENOTFOUND; EVBUS_ECONFLICT; EVBUS_ELAYOUT. */
int marks_check(const char *path, const uint8_t uuid[16], uint64_t *out_at, struct error *err);

/* The mark of a partition, or NULL. */
const struct mark *marks_find(const struct mark *marks, size_t n, const char *log, uint32_t partition);

/* Removes the files of all terms before this one, whose entries are all on disk. */
int marks_drop_others(const char *folder, struct term term, struct error *err);

void marks_close(struct marks *marks); /* fine on MARKS_NONE */

#endif
