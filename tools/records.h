/* records.h: what the library tells record by record, as lines. See records.c. */
#ifndef EVBUS_TOOLS_RECORDS_H
#define EVBUS_TOOLS_RECORDS_H

#include <evbus/admin.h>

/* For people, and for programs. Both answer whether nobody reads standard output any more. */
int records_print_line(void *context, const struct evbus_record *record);
int records_print_object(void *context, const struct evbus_record *record);

#endif
