/* area.c: a frame's header area: what an event says beside its envelope, in tagged fields.
 *
 *     | tag 2 | length 2 | bytes | tag | length | bytes | ...   nothing between them; little-endian
 *
 * Who reads skips the tags that he does not know, and who passes an event on takes the area as it is: so a field that a newer
 * evbus has put there stays. Most events have none. No length is trusted. Checked by tests/unit/test_area.c. */
#include "area.h"

#include <string.h>

#define HEAD_BYTES 4

bool area_add(struct area *area, enum area_tag tag, const void *bytes, size_t len)
{
    if (len > sizeof area->bytes || area->len + HEAD_BYTES + len > sizeof area->bytes)
        return false;
    uint16_t head[2] = {(uint16_t)tag, (uint16_t)len};
    memcpy(area->bytes + area->len, head, sizeof head);
    memcpy(area->bytes + area->len + HEAD_BYTES, bytes, len);
    area->len += HEAD_BYTES + len;
    return true;
}

/* The field at *inout_at, which goes behind it. false: there is none, or it does not end within the area. */
static bool next(const struct frame *frame, size_t *inout_at, uint16_t *out_tag, const uint8_t **out_bytes,
                 size_t *out_len)
{
    uint16_t head[2];
    size_t at = *inout_at + HEAD_BYTES;
    if (at > frame->area_len)
        return false;
    memcpy(head, frame->area + *inout_at, sizeof head);
    if (head[1] > frame->area_len - at)
        return false;
    *out_tag = head[0];
    *out_bytes = frame->area + at;
    *out_len = head[1];
    *inout_at = at + head[1];
    return true;
}

bool area_add_others(struct area *area, const struct frame *frame, enum area_tag tag)
{
    uint16_t found;
    const uint8_t *bytes;
    size_t len;
    for (size_t at = 0; next(frame, &at, &found, &bytes, &len);)
        if (found != tag && !area_add(area, (enum area_tag)found, bytes, len))
            return false;
    return true;
}

bool area_add_own(struct area *area, const struct frame *frame)
{
    uint16_t found;
    const uint8_t *bytes;
    size_t len;
    bool is_whole = true;
    for (size_t at = 0; next(frame, &at, &found, &bytes, &len);)
        if (found != AREA_SOURCE && found != AREA_TOPIC && found != AREA_DEATH && found != AREA_LETTER)
            is_whole = area_add(area, (enum area_tag)found, bytes, len) && is_whole;
    return is_whole;
}

bool area_find(const struct frame *frame, enum area_tag tag, const uint8_t **out_bytes, size_t *out_len)
{
    uint16_t found;
    for (size_t at = 0; next(frame, &at, &found, out_bytes, out_len);)
        if (found == tag)
            return true;
    return false;
}

uint64_t area_number(const struct frame *frame, enum area_tag tag)
{
    const uint8_t *bytes;
    size_t len;
    uint64_t number = 0;
    if (area_find(frame, tag, &bytes, &len) && len == sizeof number)
        memcpy(&number, bytes, sizeof number);
    return number;
}

bool area_text(const struct frame *frame, enum area_tag tag, char *out_text, size_t cap)
{
    const uint8_t *bytes;
    size_t len;
    if (!area_find(frame, tag, &bytes, &len) || len >= cap || memchr(bytes, '\0', len) != NULL)
        return false;
    memcpy(out_text, bytes, len);
    out_text[len] = '\0';
    return true;
}

bool area_death(const struct frame *frame, struct area_death *out_death)
{
    const uint8_t *bytes;
    size_t len;
    if (!area_find(frame, AREA_DEATH, &bytes, &len) || len != sizeof *out_death)
        return false;
    memcpy(out_death, bytes, sizeof *out_death);
    return true;
}

bool area_origin(const struct frame *frame, struct area_origin *out_origin)
{
    const uint8_t *bytes;
    size_t len;
    if (!area_find(frame, AREA_ORIGIN, &bytes, &len) || len != sizeof *out_origin)
        return false;
    memcpy(out_origin, bytes, sizeof *out_origin);
    return true;
}

bool area_source(const struct frame *frame, struct area_source *out_source)
{
    const uint8_t *bytes;
    size_t len;
    if (!area_find(frame, AREA_SOURCE, &bytes, &len) || len != sizeof *out_source)
        return false;
    memcpy(out_source, bytes, sizeof *out_source);
    out_source->log[NAME_BYTES - 1] = '\0';
    return true;
}
