/* file_line.c: one line of a file broker's log.
 *
 *     [{"log":"lomash.orders","origin":"4f0c...","partition":"2","incarnation":"1","epoch":"7","by":"9f-12"},  a batch
 *      {"stream":"lomash.orders.created","eventId":"0198...",...,"payload":{"total":19.99},...,"prev":"123400"},
 *      {"stream":"lomash.orders.cancelled",...}]
 *     {"stream":"lomash.orders.created","eventId":"0198...",...}                           of a foreign program
 *
 * A batch is a line, since a line is all there or is none: what was cut by a death is no JSON text, whatever is
 * appended behind it. Fields are members, as texts; payloads stand there as they are (a raw CR or LF between their
 * tokens as a blank; blanks around them are lost), so that jq shows them. Of a foreign entry a number or a boolean is
 * taken as the text that it is.
 *
 * Memory that is not there ends the process: whoever has to bear kill -9 at any point bears that. */
#include "file_line.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void text_reserve(struct text *text, size_t more)
{
    if (text->cap - text->len >= more)
        return;
    text->cap = (text->len + more) * 2;
    text->at = realloc(text->at, text->cap);
    if (text->at == NULL)
        abort();
}

void text_put(struct text *text, const char *bytes, size_t len)
{
    text_reserve(text, len);
    if (len > 0)
        memcpy(text->at + text->len, bytes, len);
    text->len += len;
}

void text_format(struct text *text, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof line)
        abort(); /* ids, names and numbers are shorter */
    text_put(text, line, (size_t)len);
}

/* --- out ---------------------------------------------------------------------------------------------------------- */

static void put_string(struct text *out, const char *bytes, size_t len)
{
    text_put(out, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c < ' ')
            text_format(out, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            text_format(out, "\\%c", c);
        else
            text_put(out, bytes + i, 1);
    }
    text_put(out, "\"", 1);
}

static bool is_payload(const char *name, size_t len)
{
    static const char payload[] = "payload";
    return len >= sizeof payload - 1 && memcmp(name, payload, sizeof payload - 1) == 0 &&
           (len == sizeof payload - 1 || name[sizeof payload - 1] == '.');
}

static void put_payload(struct text *out, const char *payload, size_t len)
{
    size_t begin = out->len;
    text_put(out, payload, len);
    for (char *at = out->at + begin, *end = out->at + out->len; at < end; at++)
        if (*at == '\n' || *at == '\r') /* between tokens: in a string they would be escaped */
            *at = ' ';
}

void line_put_entry(struct text *out, const char *stream, const struct entry *entry)
{
    text_put(out, "{\"stream\":", 10);
    put_string(out, stream, strlen(stream));
    for (size_t i = 0; i < entry->n; i++) {
        const struct entry_field *field = &entry->fields[i];
        text_put(out, ",", 1);
        put_string(out, field->name, field->name_len);
        text_put(out, ":", 1);
        if (is_payload(field->name, field->name_len))
            put_payload(out, field->value, field->value_len);
        else
            put_string(out, field->value, field->value_len);
    }
    text_put(out, "}", 1);
}

/* --- in ----------------------------------------------------------------------------------------------------------- */

bool line_is_whole(struct slice line)
{
    size_t at, depth;
    return line.len > 0 && slice_fault(line, &at, &depth) == NULL;
}

/* What stands between a string's quotes, as it stands there; where it is no string, the value. */
static struct slice bare(struct slice value)
{
    if (value.len >= 2 && *value.at == '"')
        return (struct slice){.at = value.at + 1, .len = value.len - 2};
    return value;
}

bool line_number(struct slice value, uint64_t *out_number)
{
    struct slice digits = bare(value);
    uint64_t number = 0;
    for (size_t i = 0; i < digits.len; i++)
        if (digits.at[i] < '0' || digits.at[i] > '9' || __builtin_mul_overflow(number, UINT64_C(10), &number) ||
            __builtin_add_overflow(number, (uint64_t)(digits.at[i] - '0'), &number))
            return false;
    *out_number = number;
    return digits.len > 0;
}

bool line_head(struct slice line, struct line_head *out)
{
    struct slice object, name, value;
    const char *at = NULL;
    uint64_t partition = UINT64_MAX;
    unsigned n = 0;
    *out = (struct line_head){.partition = 0};
    if (!slice_item(line, &at, &object))
        return false;
    for (at = NULL; slice_next(object, &at, &name, &value);) {
        if (slice_is(name, "\"origin\""))
            out->origin = bare(value);
        else if (slice_is(name, "\"by\""))
            out->by = bare(value);
        else if (!(slice_is(name, "\"partition\"") && line_number(value, &partition)) &&
                 !(slice_is(name, "\"epoch\"") && line_number(value, &out->epoch)) &&
                 !(slice_is(name, "\"incarnation\"") && line_number(value, &out->incarnation)))
            continue;
        n++;
    }
    out->partition = (uint32_t)partition;
    return n == 5 && partition <= UINT32_MAX;
}

bool line_entry(struct slice line, const char **at, struct slice *out_entry)
{
    if (*line.at != '[') {
        *out_entry = line;
        bool is_first = *at == NULL;
        *at = line.at;
        return is_first;
    }
    if (*at == NULL && !slice_item(line, at, out_entry)) /* the head */
        return false;
    return slice_item(line, at, out_entry);
}

bool line_place(struct slice entry, struct line_place *out)
{
    struct slice name, value;
    bool has_stream = false, has_position = false, has_prev = false;
    for (const char *at = NULL; slice_next(entry, &at, &name, &value);) {
        if (slice_is(name, "\"stream\"") && !has_stream) {
            out->stream = bare(value);
            has_stream = true;
        } else if (slice_is(name, "\"position\"")) {
            has_position = line_number(value, &out->position);
        } else if (slice_is(name, "\"prev\"")) {
            has_prev = line_number(value, &out->prev);
        }
    }
    return has_stream && has_position && has_prev;
}

bool line_is_of(struct slice entry, const char *stream)
{
    struct slice name, value;
    for (const char *at = NULL; slice_next(entry, &at, &name, &value);)
        if (slice_is(name, "\"stream\""))
            return slice_is(bare(value), stream);
    return false;
}

/* A string's text, or what stands there. */
static struct slice text_of(struct slice value, char **texts)
{
    ssize_t len = slice_text(value, *texts, value.len);
    if (len < 0)
        return value;
    struct slice text = {.at = *texts, .len = (size_t)len};
    *texts += len;
    return text;
}

size_t line_fields(struct slice entry, struct entry_field *out_fields, size_t cap, char **texts)
{
    struct slice name, value;
    bool has_stream = false;
    size_t n = 0;
    for (const char *at = NULL; n < cap && slice_next(entry, &at, &name, &value);) {
        if (slice_is(name, "\"stream\"") && !has_stream) {
            has_stream = true;
            continue;
        }
        name = text_of(name, texts);
        if (!is_payload(name.at, name.len))
            value = text_of(value, texts);
        out_fields[n++] = (struct entry_field){
            .name = name.at, .name_len = name.len, .value = value.at, .value_len = value.len};
    }
    return n;
}
