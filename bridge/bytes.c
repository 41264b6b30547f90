/* bytes.c: a buffer that grows at its end and is eaten from its front. See bytes.h.
 *
 * What was eaten is moved away only when room is needed, and memory is doubled: so a byte is copied a few times,
 * however it comes and goes. */
#include "bytes.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_BYTES ((size_t)1 << 20) /* an empty buffer keeps no more */

static bool make_room(struct bytes *bytes, size_t len)
{
    if (bytes->is_broken)
        return false;
    if (bytes->cap - bytes->end >= len)
        return true;
    size_t kept = bytes_len(bytes);
    if (bytes->start > 0 && bytes->start >= kept && bytes->cap - kept >= len) {
        memcpy(bytes->memory, bytes->memory + bytes->start, kept);
        bytes->start = 0;
        bytes->end = kept;
        return true;
    }
    size_t cap = bytes->cap > 0 ? bytes->cap : 256;
    while (cap - bytes->end < len) {
        if (cap > SIZE_MAX / 2) {
            bytes->is_broken = true;
            return false;
        }
        cap *= 2;
    }
    char *memory = realloc(bytes->memory, cap);
    if (memory == NULL) {
        bytes->is_broken = true;
        return false;
    }
    bytes->memory = memory;
    bytes->cap = cap;
    return true;
}

void bytes_add(struct bytes *bytes, const void *from, size_t len)
{
    if (len == 0 || !make_room(bytes, len))
        return;
    memcpy(bytes->memory + bytes->end, from, len);
    bytes->end += len;
}

char *bytes_room(struct bytes *bytes, size_t len)
{
    return make_room(bytes, len) ? bytes->memory + bytes->end : NULL;
}

void bytes_written(struct bytes *bytes, const char *end)
{
    bytes->end = (size_t)(end - bytes->memory);
}

void bytes_add_bytes(struct bytes *bytes, const struct bytes *from)
{
    bytes->is_broken = bytes->is_broken || from->is_broken;
    if (bytes_len(from) > 0)
        bytes_add(bytes, bytes_front(from), bytes_len(from));
}

void bytes_take(struct bytes *bytes, struct bytes *from)
{
    if (bytes_len(bytes) == 0 && !bytes->is_broken) {
        struct bytes empty = *bytes;
        *bytes = *from;
        *from = empty;
    } else {
        bytes_add_bytes(bytes, from);
    }
    bytes_clear(from);
}

void bytes_begin(struct bytes *bytes, size_t room)
{
    bytes_clear(bytes);
    if (make_room(bytes, 4 * room)) /* so that what is added first does not find that moving it away is enough */
        bytes->start = bytes->end = room;
}

void bytes_add_before(struct bytes *bytes, const struct bytes *from)
{
    size_t len = bytes_len(from);
    bytes->is_broken = bytes->is_broken || from->is_broken;
    if (bytes->start < len && make_room(bytes, len)) {
        memmove(bytes_front(bytes) + len, bytes_front(bytes), bytes_len(bytes));
        bytes->start += len;
        bytes->end += len;
    }
    if (bytes->is_broken || len == 0)
        return;
    bytes->start -= len;
    memcpy(bytes_front(bytes), bytes_front(from), len);
}

void bytes_print(struct bytes *bytes, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int len = vsnprintf(NULL, 0, format, list);
    va_end(list);
    if (len < 0 || !make_room(bytes, (size_t)len + 1)) {
        bytes->is_broken = true;
        return;
    }
    va_start(list, format);
    vsnprintf(bytes->memory + bytes->end, (size_t)len + 1, format, list);
    va_end(list);
    bytes->end += (size_t)len;
}

void bytes_eat(struct bytes *bytes, size_t len)
{
    bytes->start += len;
    if (bytes->start == bytes->end)
        bytes_clear(bytes);
}

void bytes_clear(struct bytes *bytes)
{
    bytes->start = 0;
    bytes->end = 0;
    bytes->is_broken = false;
    if (bytes->cap > KEPT_BYTES)
        bytes_free(bytes);
}

void bytes_free(struct bytes *bytes)
{
    free(bytes->memory);
    *bytes = (struct bytes){0};
}
