/* image.h: the objects of a bus as files that are read, never mapped. See image.c. */
#ifndef EVBUS_IMAGE_H
#define EVBUS_IMAGE_H

#include "error.h"
#include "layout.h"

#define IMAGES_MAX (LOGS_MAX + 32) /* of one bus in one folder: more are left out */

/* One file, "evbus.<bus>.<part>". */
struct image {
    char file[256];
    const char *part; /* "control", or a log's name; into file */
    int fd;           /* -1: it could not be opened ... */
    int number;       /* ... for this errno */
    uint64_t len_bytes;
};

/* What has been read last, for who walks through a file. Zeroed: nothing. */
struct image_window {
    const struct image *of;
    uint64_t at;
    size_t len;
    unsigned char bytes[4096];
};

struct images {
    struct image *of; /* n of them, by name */
    size_t n;
    bool were_more;
};

/* Opens all files of a bus in a folder, for reading. EVBUS_OK (also when there are none); EVBUS_ENOBUS (no such folder);
 * EVBUS_EPERM, EVBUS_EIO (the folder); EVBUS_ENOSPC (memory). */
int images_open(struct images *out_images, const char *dir, const char *bus, struct error *err);
void images_close(struct images *images); /* fine on a zeroed one */

struct image *images_find(const struct images *images, const char *part); /* NULL: there is none */

/* Copies len bytes at a place of the file. Zeroes stand for what is not there or cannot be read; returns how many bytes at
 * the front are real. */
size_t image_read(const struct image *image, uint64_t at, void *out, size_t len);

/* The same for a few bytes, a window of the file at a time. true: all of them are real. */
bool image_look(const struct image *image, struct image_window *window, uint64_t at, void *out, size_t len);

#endif
