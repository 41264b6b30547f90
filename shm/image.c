/* image.c: the objects of a bus as files that are read, never mapped.
 *
 * For who must not trust and must not touch: what is damaged, half made, cut, of another build, or copied off a dead host. Opened
 * for reading, read by pread() into memory of our own. Why no mapping: a file that is cut while we look, or a hole in an object on
 * a full tmpfs, is a SIGBUS for whoever maps it, and looking at such a hole takes a page of that tmpfs; a read says how much there
 * was, and changes nothing. What has been read is private: it is bounded and used as it was checked, and a sanitizer knows its end.
 * A file may be longer than any bus, or be none: nothing is believed but what a read returns.
 * Checked by tests/unit/test_inspect.c. */
#include "image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct image *)a)->file, ((const struct image *)b)->file);
}

static void open_image(struct image *image, int dir_fd)
{
    struct stat found;
    image->fd = openat(dir_fd, image->file,
                       O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO is not waited for */
    image->number = image->fd < 0 ? errno : 0;
    if (image->fd < 0)
        return;
    if (fstat(image->fd, &found) == 0 && S_ISREG(found.st_mode)) {
        image->len_bytes = (uint64_t)found.st_size;
        return;
    }
    image->number = EINVAL; /* no file */
    close(image->fd);
    image->fd = -1;
}

int images_open(struct images *out_images, const char *dir, const char *bus, struct error *err)
{
    struct images images = {.of = calloc(IMAGES_MAX, sizeof *images.of)};
    char prefix[SERVICE_BYTES + 8];
    size_t prefix_len = (size_t)snprintf(prefix, sizeof prefix, "evbus.%.63s.", bus);
    if (images.of == NULL)
        return error_no_memory(err, "a look at %d files", IMAGES_MAX);
    DIR *folder = opendir(dir);
    if (folder == NULL) {
        int number = errno;
        free(images.of);
        return error_set(err,
                         number == ENOENT || number == ENOTDIR ? EVBUS_ENOBUS
                         : number == EACCES                    ? EVBUS_EPERM
                                                               : EVBUS_EIO,
                         "%s: %s%s", dir, strerror(number), error_mend(number));
    }
    errno = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL; errno = 0) {
        size_t len = strlen(entry->d_name);
        if (strncmp(entry->d_name, prefix, prefix_len) != 0 || len == prefix_len || len >= sizeof images.of->file)
            continue;
        if (images.n == IMAGES_MAX) {
            images.were_more = true;
            break;
        }
        struct image *image = &images.of[images.n++];
        memcpy(image->file, entry->d_name, len + 1);
        open_image(image, dirfd(folder));
    }
    int number = images.were_more ? 0 : errno;
    closedir(folder);
    if (number != 0) {
        images_close(&images);
        return error_set(err, EVBUS_EIO, "%s: cannot read it: %s%s", dir, strerror(number), error_mend(number));
    }
    qsort(images.of, images.n, sizeof *images.of, compare);
    for (size_t i = 0; i < images.n; i++)
        images.of[i].part = images.of[i].file + prefix_len;
    *out_images = images;
    return EVBUS_OK;
}

void images_close(struct images *images)
{
    for (size_t i = 0; i < images->n; i++)
        if (images->of[i].fd >= 0)
            close(images->of[i].fd);
    free(images->of);
    *images = (struct images){0};
}

struct image *images_find(const struct images *images, const char *part)
{
    for (size_t i = 0; i < images->n; i++)
        if (strcmp(images->of[i].part, part) == 0)
            return &images->of[i];
    return NULL;
}

size_t image_read(const struct image *image, uint64_t at, void *out, size_t len)
{
    size_t n = 0;
    while (image->fd >= 0 && n < len && at + n <= INT64_MAX) {
        ssize_t got = pread(image->fd, (char *)out + n, len - n, (off_t)(at + n));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    memset((char *)out + n, 0, len - n);
    return n;
}

bool image_look(const struct image *image, struct image_window *window, uint64_t at, void *out, size_t len)
{
    bool is_there = window->of == image && at >= window->at && at - window->at <= window->len &&
                    window->len - (at - window->at) >= len;
    if (!is_there) {
        window->of = image;
        window->at = at;
        window->len = image_read(image, at, window->bytes, sizeof window->bytes);
    }
    size_t from = (size_t)(at - window->at);
    size_t n = window->len - from < len ? window->len - from : len;
    memcpy(out, window->bytes + from, n);
    memset((char *)out + n, 0, len - n);
    return n == len;
}
