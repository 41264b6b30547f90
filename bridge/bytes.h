/* bytes.h: a buffer that grows at its end and is eaten from its front. */
#ifndef EVBUS_BRIDGE_BYTES_H
#define EVBUS_BRIDGE_BYTES_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed: empty. Whoever adds need not look each time: what could not be added makes it broken, for whoever sends. */
struct bytes {
    char *memory;
    size_t start; /* what lies before it has been eaten */
    size_t end;
    size_t cap;
    bool is_broken; /* there was no memory: it is not what it should be */
};

void bytes_add(struct bytes *bytes, const void *from, size_t len);
char *bytes_room(struct bytes *bytes, size_t len); /* for at least so many behind its end; NULL: it is broken now */
void bytes_written(struct bytes *bytes, const char *end); /* they have been, up to there */
void bytes_add_bytes(struct bytes *bytes, const struct bytes *from);
__attribute__((format(printf, 2, 3))) void bytes_print(struct bytes *bytes, const char *format, ...);

static inline char *bytes_front(const struct bytes *bytes)
{
    return bytes->memory + bytes->start;
}

static inline size_t bytes_len(const struct bytes *bytes)
{
    return bytes->end - bytes->start;
}

void bytes_eat(struct bytes *bytes, size_t len);
void bytes_clear(struct bytes *bytes); /* empty, and whole again; what was large is given back */
void bytes_free(struct bytes *bytes);

#endif
