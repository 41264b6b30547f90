/* fields.c: what the library shows in records, for all who print them. See <evbus/admin.h>.
 *
 * A record is a line. For people: its kind, where it stands (LOG/PARTITION@POSITION, as everywhere), then name=value; what
 * belongs to the line above stands further to the right; what is not as it should be begins with "!". For programs: an object
 * with all of it. */
#include "fields.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const struct evbus_field *fields_find(const struct evbus_record *record, const char *name)
{
    for (size_t i = 0; i < record->n_fields; ++i)
        if (strcmp(record->fields[i].name, name) == 0)
            return &record->fields[i];
    return NULL;
}

uint64_t fields_number(const struct evbus_record *record, const char *name)
{
    const struct evbus_field *field = fields_find(record, name);
    return field != NULL ? field->number : 0;
}

const char *fields_text(const struct evbus_record *record, const char *name)
{
    const struct evbus_field *field = fields_find(record, name);
    return field != NULL && field->text != NULL ? field->text : "";
}

bool fields_has(const struct evbus_record *record, const char *name)
{
    const struct evbus_field *field = fields_find(record, name);
    return field != NULL && field->kind != EVBUS_FIELD_NONE;
}

/* As it is, where no blank, quote or "=" is in it; else in quotes. */
static void print_text(const char *text)
{
    bool is_plain = text[0] != '\0' && strcspn(text, " \t\"=") == strlen(text);
    (void)printf("%s", is_plain ? "" : "\"");
    for (;;) {
        size_t len = strcspn(text, "\"");
        print_plain(text, len);
        if (text[len] == '\0')
            break;
        (void)printf("\\\"");
        text += len + 1;
    }
    (void)printf("%s", is_plain ? "" : "\"");
}

void fields_print_value(const struct evbus_field *field)
{
    char time[32];
    switch (field->kind) {
    case EVBUS_FIELD_NONE:
        (void)printf("-");
        break;
    case EVBUS_FIELD_NUMBER:
    case EVBUS_FIELD_POSITION:
        (void)printf("%" PRIu64, field->number);
        break;
    case EVBUS_FIELD_FLAG:
        (void)printf("%s", field->number != 0 ? "yes" : "no");
        break;
    case EVBUS_FIELD_TIME:
        format_time(field->number, time);
        (void)printf("%s", time);
        break;
    case EVBUS_FIELD_HEX:
        (void)printf("%#" PRIx64, field->number);
        break;
    case EVBUS_FIELD_TEXT:
        print_text(field->text);
        break;
    }
}

/* LOG/PARTITION@POSITION, as far as the record has them. Returns how many of its fields that were. */
static size_t print_place(const struct evbus_record *record)
{
    static const char *const names[] = {"log", "partition", "position"};
    static const char *const before[] = {" ", "/", "@"};
    const struct evbus_field *log = fields_find(record, "log");
    size_t at = log != NULL ? (size_t)(log - record->fields) : 0;
    size_t n = 0;
    if (log == NULL || log->kind != EVBUS_FIELD_TEXT)
        return 0;
    for (; n < 3 && at + n < record->n_fields && strcmp(record->fields[at + n].name, names[n]) == 0; ++n) {
        (void)printf("%s", before[n]);
        if (n == 0)
            print_plain(log->text, strlen(log->text));
        else
            fields_print_value(&record->fields[at + n]);
    }
    return n;
}

int fields_print_line(void *context, const struct evbus_record *record)
{
    (void)context;
    (void)printf("%*s", (int)record->depth * 4, "");
    if (strcmp(record->kind, "differs") == 0 && record->n_fields == 1) {
        (void)printf("! ");
        print_plain(record->fields[0].text, strlen(record->fields[0].text));
        (void)printf("\n");
        return output_is_closed();
    }
    (void)printf("%s", record->kind);
    size_t n_placed = print_place(record);
    const struct evbus_field *placed = n_placed > 0 ? fields_find(record, "log") : NULL;
    for (const struct evbus_field *field = record->fields; field < record->fields + record->n_fields; ++field) {
        if (placed != NULL && field >= placed && field < placed + n_placed)
            continue;
        (void)printf(" %s=", field->name);
        fields_print_value(field);
    }
    (void)printf("\n");
    return output_is_closed();
}

int fields_print_json(void *context, const struct evbus_record *record)
{
    (void)context;
    (void)printf("{\"record\":\"%s\"", record->kind);
    for (const struct evbus_field *field = record->fields; field < record->fields + record->n_fields; ++field) {
        (void)printf(",\"%s\":", field->name);
        switch (field->kind) {
        case EVBUS_FIELD_NONE:
            (void)printf("null");
            break;
        case EVBUS_FIELD_NUMBER:
            (void)printf("%" PRIu64, field->number);
            break;
        case EVBUS_FIELD_FLAG:
            (void)printf("%s", field->number != 0 ? "true" : "false");
            break;
        case EVBUS_FIELD_TEXT:
            print_json(field->text, strlen(field->text));
            break;
        case EVBUS_FIELD_POSITION:
        case EVBUS_FIELD_TIME:
        case EVBUS_FIELD_HEX:
            (void)printf("\"");
            fields_print_value(field);
            (void)printf("\"");
            break;
        }
    }
    (void)printf("}\n");
    return output_is_closed();
}
