/* values.h: what a value of a line says. See values.c. */
#ifndef EVBUS_TOOLS_VALUES_H
#define EVBUS_TOOLS_VALUES_H

#include "slices.h"

bool value_is_string(struct slice value);
bool value_is_empty(struct slice value); /* a string, written "" */

/* A string's text with a NUL; false: it is none, or longer, or has a NUL in it. */
bool value_text(struct slice value, char *out_text, size_t size);

/* Digits without a leading zero, n_max of them at most. */
bool value_is_number(const char *at, size_t len, size_t n_max);

bool value_is_integer(struct slice value); /* a number of 32 bits with a sign, as CloudEvents has them */
bool value_is_uuid(struct slice value);    /* not the nil one */
bool value_is_version(struct slice value); /* MAJOR.MINOR or MAJOR, as an envelope has it */

enum value_time { VALUE_NO_TIME, VALUE_ANOTHER_TIME, VALUE_OUR_TIME };

/* No RFC 3339; one that no envelope can say (those have what 64 bits of ns since 1970 hold, but for 0: none); one that it can. */
enum value_time value_time(struct slice value);

#endif
