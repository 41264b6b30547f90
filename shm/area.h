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
                AREA_ORIGIN = 7, /* struct area_origin: where what a bridge has brought in was published */
                AREA_BROKER = 8, /* text: what the broker calls it */
                AREA_EXTRA = 9,  /* reserved for members of an envelope that are not ours */
                AREA_TOPIC = 10, /* text: the topic of AREA_SOURCE's event */
                AREA_DEATH = 11, /* struct area_death: of a dead letter */
                AREA_LETTER =
                    12 /* 8 bytes: of a replay and a resolution, the position of the dead letter that it is of */
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

/* Where an event of another bus stands there. bus all zero: it was put into the broker by a program that is no evbus. */
struct area_origin {
    uint8_t bus[16];
    uint64_t position;
    uint32_t partition;
    uint32_t unused;
};
static_assert(sizeof(struct area_origin) == 32, "format 1: nothing stands between its fields");

/* What a dead letter's text does not say. */
struct area_death {
    uint64_t
        note; /* position + 1 of the last attempt's note; 0: none. Of one death there is one, however often it is told */
    uint64_t position;     /* of the entry that died: the event's own, or, where it had been replayed, its replay's */
    uint64_t timestamp_ns; /* of the event */
};
static_assert(sizeof(struct area_death) == 24, "format 1: nothing stands between its fields");

/* One that grows. */
struct area {
    size_t len;
    uint8_t bytes[FRAME_AREA_MAX];
};

/* false: it does not fit any more. */
bool area_add(struct area *area, enum area_tag tag, const void *bytes, size_t len);

/* All of a frame's but those of one tag, also what we do not know; false: it does not fit. */
bool area_add_others(struct area *area, const struct frame *frame, enum area_tag tag);

/* All of a frame's that are an event's own: also what we do not know, but not what tells of a dead letter or replay. What does not fit is
 * left out, and false. */
bool area_add_own(struct area *area, const struct frame *frame);

/* The first field of a tag; false: there is none, or what stands there is no area. */
bool area_find(const struct frame *frame, enum area_tag tag, const uint8_t **out_bytes, size_t *out_len);

/* Likewise, its value: 0, where there is none. */
uint64_t area_number(const struct frame *frame, enum area_tag tag);
bool area_source(const struct frame *frame, struct area_source *out_source);
bool area_death(const struct frame *frame, struct area_death *out_death);
bool area_origin(const struct frame *frame, struct area_origin *out_origin);

/* A text, with its NUL in cap bytes; false: there is none, it does not fit, or it holds a NUL. */
bool area_text(const struct frame *frame, enum area_tag tag, char *out_text, size_t cap);

#endif
