/* area.h: a frame's header area: what an event says beside its envelope, in tagged fields. See area.c. */
#ifndef EVBUS_AREA_H
#define EVBUS_AREA_H

#include "frame.h"

enum area_tag {                       /* as stored: never another meaning */
                AREA_TRACEPARENT = 1, /* text */
                AREA_TRACESTATE = 2,  /* text */
                AREA_CORRELATION = 3, /* text */
                AREA_CAUSATION = 4,   /* text */
                AREA_EXPIRES = 5,     /* 8 bytes: ns since 1970 */
                AREA_SOURCE =
                    6, /* struct area_source: the event that a dead letter, its resolution or a replay is about */
                AREA_ORIGIN = 7, /* reserved for what a bridge brings in */
                AREA_BROKER = 8, /* likewise */
                AREA_EXTRA = 9   /* reserved for members of an envelope that are not ours */
};

/* Where an event stands, or stood. */
struct area_source {
    uint64_t position;
    uint8_t letter[16]; /* deadLetterId */
    uint32_t partition;
    uint32_t n_replays; /* of it, this one included */
    char log[NAME_BYTES];
};
static_assert(sizeof(struct area_source) == 32 + NAME_BYTES, "format 1: nothing stands between its fields");

/* One that grows. */
struct area {
    size_t len;
    uint8_t bytes[FRAME_AREA_MAX];
};

/* false: it does not fit any more. */
bool area_add(struct area *area, enum area_tag tag, const void *bytes, size_t len);

/* All of a frame's but those of one tag, also what we do not know; false: it does not fit. */
bool area_add_others(struct area *area, const struct frame *frame, enum area_tag tag);

/* The first field of a tag; false: there is none, or what stands there is no area. */
bool area_find(const struct frame *frame, enum area_tag tag, const uint8_t **out_bytes, size_t *out_len);

/* Likewise, its value: 0, where there is none. */
uint64_t area_number(const struct frame *frame, enum area_tag tag);
bool area_source(const struct frame *frame, struct area_source *out_source);

#endif
