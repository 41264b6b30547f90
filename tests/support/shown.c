/* shown.c: the records that a call shows, as a text to look into. See shown.h. */
#include "shown.h"

#include "json.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static void add(struct shown *shown, const char *format, ...)
{
    va_list args;
    char piece[8192];
    va_start(args, format);
    int len = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    cr_assert(len >= 0 && (size_t)len < sizeof piece);
    if (shown->len + (size_t)len + 1 > shown->cap) {
        shown->cap = (shown->len + (size_t)len + 1) * 2;
        shown->text = realloc(shown->text, shown->cap);
        cr_assert_not_null(shown->text);
    }
    memcpy(shown->text + shown->len, piece, (size_t)len + 1);
    shown->len += (size_t)len;
}

int shown_keep(void *context, const struct evbus_record *record)
{
    struct shown *shown = context;
    cr_assert_eq(record->size, sizeof *record);
    cr_assert(record->depth <= 2 && record->n_fields >= 1);
    shown->n++;
    shown->n_differs += strcmp(record->kind, "differs") == 0;
    shown->n_damaged += strcmp(record->kind, "damaged") == 0;
    shown->n_segments += strcmp(record->kind, "segment") == 0;
    add(shown, "%s%s", shown->len == 0 ? "\n" : "", record->kind);
    for (size_t i = 0; i < record->n_fields; i++) {
        const struct evbus_field *field = &record->fields[i];
        switch (field->kind) {
        case EVBUS_FIELD_TEXT:
            cr_assert(json_is_utf8(field->text, strlen(field->text)), "%s of a %s", field->name, record->kind);
            add(shown, " %s=%s", field->name, field->text);
            shown->n_differs += strcmp(field->name, "differs") == 0;
            break;
        case EVBUS_FIELD_NONE:
            add(shown, " %s=-", field->name);
            break;
        case EVBUS_FIELD_HEX:
            add(shown, " %s=%#" PRIx64, field->name, field->number);
            break;
        default:
            add(shown, " %s=%" PRIu64, field->name, field->number);
        }
        if (strcmp(field->name, "events") == 0)
            shown->n_events += field->number;
    }
    add(shown, "\n");
    return shown->n == shown->stop_after ? 77 : 0;
}

void shown_expect(const struct shown *shown, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    cr_expect(shown->text != NULL && strstr(shown->text, line) != NULL, "nothing shows \"%s\" in:\n%s", line,
              shown->text != NULL ? shown->text : "");
}

unsigned shown_count(const struct shown *shown, const char *fragment)
{
    unsigned n = 0;
    for (const char *at = shown->text; at != NULL && (at = strstr(at, fragment)) != NULL; at++)
        n++;
    return n;
}

void shown_forget(struct shown *shown)
{
    free(shown->text);
    *shown = (struct shown){.text = NULL};
}
