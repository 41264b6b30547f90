/* bytes.h: a buffer that grows at its end and is eaten from its front. See bytes.c. */
#ifndef EVBUS_BRIDGE_BYTES_H
#define EVBUS_BRIDGE_BYTES_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed: empty. Whoever adds need not look each time: what could not be added makes it broken, for whoever sends. */
struct bytes {
    char *memory;
    size_t start; /* what lies before it has been eaten, or is left free by bytes_begin() */
    size_t end;
    size_t cap;
    bool is_broken; /* there was no memory: it is not what it should be */
};

void bytes_add(struct bytes *bytes, const void *from, size_t len);
char *bytes_room(struct bytes *bytes, size_t len); /* for at least so many behind its end; NULL: it is broken now */
void bytes_written(struct bytes *bytes, const char *end); /* they have been, up to there */
void bytes_add_bytes(struct bytes *bytes, const struct bytes *from);
/* All of it, which is empty then. Behind nothing no byte is copied: the memory changes hands. */
void bytes_take(struct bytes *bytes, struct bytes *from);
__attribute__((format(printf, 2, 3))) void bytes_print(struct bytes *bytes, const char *format, ...);

static inline char *bytes_front(const struct bytes *bytes)
{
    return bytes->memory + bytes->start;
}

static inline size_t bytes_len(const struct bytes *bytes)
{
    return bytes->end - bytes->start;
}

/* Empty, with room before its front for so many bytes that are known only when the others are there. */
void bytes_begin(struct bytes *bytes, size_t room);
void bytes_add_before(struct bytes *bytes, const struct bytes *from); /* for what finds no room all the rest is moved */

void bytes_eat(struct bytes *bytes, size_t len);
void bytes_clear(struct bytes *bytes); /* empty, and whole again; what was large is given back */
void bytes_free(struct bytes *bytes);

#endif
