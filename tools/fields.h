/* fields.h: what the library shows in records, for all who print them. See fields.c. */
#ifndef EVBUS_TOOLS_FIELDS_H
#define EVBUS_TOOLS_FIELDS_H

#include <evbus/admin.h>

/* A field by name; NULL: it has none. And what is in it; 0 or "": there is none, or it cannot be told. */
const struct evbus_field *fields_find(const struct evbus_record *record, const char *name);
uint64_t fields_number(const struct evbus_record *record, const char *name);
const char *fields_text(const struct evbus_record *record, const char *name);
bool fields_has(const struct evbus_record *record, const char *name); /* it can be told */

/* For people: a value as it stands behind "name=". */
void fields_print_value(const struct evbus_field *field);

/* A line for people, and one for programs: an object. Not 0: nobody reads on. */
int fields_print_line(void *context, const struct evbus_record *record);
int fields_print_json(void *context, const struct evbus_record *record);

#endif
