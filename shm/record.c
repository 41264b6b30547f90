/* record.c: one struct evbus_record after the other, made field by field.
 *
 * What is shown comes from memory that anybody may have written: a text ends with its array, and is valid UTF-8 whatever stood
 * there, so that whoever prints JSON prints JSON. Control characters stay: how to show them is for who prints.
 * Checked by tests/unit/test_inspect.c. */
#include "record.h"

#include "json.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void record_begin(struct record *record, const char *kind, unsigned depth)
{
    record->kind = kind;
    record->depth = depth;
    record->n_fields = 0;
    record->texts_len = 0;
}

static void add(struct record *record, const char *name, enum evbus_field_kind kind, uint64_t number, const char *text)
{
    assert(record->n_fields < RECORD_FIELDS_MAX);
    record->fields[record->n_fields++] = (struct evbus_field){
        .name = name, .kind = kind, .number = number, .text = text};
}

void record_none(struct record *record, const char *name)
{
    add(record, name, EVBUS_FIELD_NONE, 0, NULL);
}

void record_number(struct record *record, const char *name, uint64_t number)
{
    add(record, name, EVBUS_FIELD_NUMBER, number, NULL);
}

void record_position(struct record *record, const char *name, uint64_t position)
{
    add(record, name, EVBUS_FIELD_POSITION, position, NULL);
}

void record_flag(struct record *record, const char *name, bool is_so)
{
    add(record, name, EVBUS_FIELD_FLAG, is_so, NULL);
}

void record_time(struct record *record, const char *name, uint64_t wall_ns)
{
    add(record, name, wall_ns != 0 ? EVBUS_FIELD_TIME : EVBUS_FIELD_NONE, wall_ns, NULL);
}

void record_hex(struct record *record, const char *name, uint64_t number)
{
    add(record, name, EVBUS_FIELD_HEX, number, NULL);
}

void record_text(struct record *record, const char *name, const char *text, size_t len)
{
    char *to = record->texts + record->texts_len;
    size_t room = sizeof record->texts - record->texts_len;
    if (room == 0) {
        record_none(record, name);
        return;
    }
    len = strnlen(text, len < room - 1 ? len : room - 1);
    bool is_utf8 = json_is_utf8(text, len);
    for (size_t i = 0; i < len; i++)
        to[i] = (char)(is_utf8 || (unsigned char)text[i] < 0x80 ? text[i] : '?');
    to[len] = '\0';
    record->texts_len += len + 1;
    add(record, name, EVBUS_FIELD_TEXT, 0, to);
}

void record_word(struct record *record, const char *name, const char *text)
{
    record_text(record, name, text, strlen(text));
}

void record_bytes(struct record *record, const char *hex_name, const char *text_name, const void *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *from = bytes;
    char shown[2 * RECORD_SHOWN_MAX] = "";
    if (len > RECORD_SHOWN_MAX)
        len = RECORD_SHOWN_MAX;
    for (size_t i = 0; i < len; i++) {
        shown[2 * i] = digits[from[i] >> 4];
        shown[2 * i + 1] = digits[from[i] & 15];
    }
    record_text(record, hex_name, shown, 2 * len);
    for (size_t i = 0; i < len; i++)
        shown[i] = (char)(from[i] >= 0x20 && from[i] < 0x7f ? from[i] : '.');
    record_text(record, text_name, shown, len);
}

void record_end(struct record *record)
{
    struct evbus_record shown = {
        .size = sizeof shown,
        .kind = record->kind,
        .depth = record->depth,
        .fields = record->fields,
        .n_fields = record->n_fields,
    };
    if (record->rc == 0)
        record->rc = record->each(record->context, &shown);
}

void record_differs(struct record *record, unsigned depth, const char *format, ...)
{
    char what[600];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    record_begin(record, "differs", depth);
    record_text(record, "what", what, sizeof what);
    record_end(record);
}
