/* groups.h: groups in numbers, as a table and as JSON. See groups.c. */
#ifndef EVBUS_TOOLS_GROUPS_H
#define EVBUS_TOOLS_GROUPS_H

#include <evbus/admin.h>

/* A table: the heading stands above the first row, so that no groups print nothing. */
struct groups_table {
    const char *above; /* printed before the heading */
    bool has_rows;
};

/* For evbus_groups(): a row; context is a struct groups_table. */
int groups_print_row(void *context, const struct evbus_group_stat *group);

/* One object, without a newline. */
void groups_print_json(const struct evbus_group_stat *group);

/* A line: why it pauses, and since when. */
void groups_print_pause(const struct evbus_group_stat *group);

/* "2 min 5 s" */
void groups_format_age(uint64_t ns, char *out_text, size_t cap);

/* Of an enum evbus_cause. */
const char *groups_cause(int cause);

/* of the catalogue, ad hoc or ephemeral. */
const char *groups_kind(const struct evbus_group_stat *group);

#endif
