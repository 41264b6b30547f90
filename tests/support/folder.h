/* folder.h: a folder of the test's own on disk, and what lies in it. */
#ifndef FOLDER_H
#define FOLDER_H

#include <stddef.h>
#include <stdint.h>

struct folder {
    char path[256];
};

/* Makes one below $TMPDIR or /tmp; ends the test where it cannot. It is removed with all in it when the test's process ends. */
struct folder folder_make(void);

/* All in it is gone. */
void folder_clear(const struct folder *folder);

/* How many files below it have a name that ends so; "": all. */
size_t folder_count(const struct folder *folder, const char *ending);

/* Bits of one byte of a file, turned over. */
void folder_flip(const char *path, uint64_t at, uint8_t bits);

/* Bytes into a file, which is made where it is not there. */
void folder_put(const char *path, uint64_t at, const void *bytes, size_t len);

/* Its length in bytes; 0: it is not there. */
size_t folder_len(const char *path);

/* Descriptors that this process has open. */
int folder_descriptors(void);

#endif
