/* values.c: what a value of a line says: which string, number, id, version, time it is.
 *
 * An id, a version and a time are what the library takes in an envelope, asked again here since the tool knows no more of the library
 * than a service does; tests/unit/test_cloudevents.c compares the two. */
#include "values.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

bool value_is_string(struct slice value)
{
    return value.at != NULL && *value.at == '"';
}

bool value_is_empty(struct slice value)
{
    return slice_is(value, "\"\"");
}

/* A string's text with a NUL; false: it is none, or longer, or has a NUL in it. */
bool value_text(struct slice value, char *out_text, size_t size)
{
    ssize_t len = slice_text(value, out_text, size - 1);
    if (len < 0 || memchr(out_text, '\0', (size_t)len) != NULL)
        return false;
    out_text[len] = '\0';
    return true;
}

/* Digits without a leading zero, n_max of them at most. */
bool value_is_number(const char *at, size_t len, size_t n_max)
{
    if (len == 0 || len > n_max || (*at == '0' && len > 1))
        return false;
    for (size_t i = 0; i < len; ++i)
        if (at[i] < '0' || at[i] > '9')
            return false;
    return true;
}

/* Of 32 bits with a sign, as CloudEvents has them. */
bool value_is_integer(struct slice value)
{
    bool is_negative = value.len > 0 && *value.at == '-';
    const char *at = value.at + is_negative;
    size_t len = value.len - is_negative;
    int64_t number = 0; /* by hand: no NUL stands behind a slice */
    if (!value_is_number(at, len, 10))
        return false;
    for (size_t i = 0; i < len; ++i)
        number = number * 10 + (at[i] - '0');
    return number <= INT64_C(2147483647) + is_negative;
}

bool value_is_uuid(struct slice value)
{
    char text[UUID_STR_LEN];
    uuid_t id;
    return value_text(value, text, sizeof text) && strlen(text) == UUID_STR_LEN - 1 && uuid_parse(text, id) == 0 &&
           !uuid_is_null(id);
}

/* MAJOR.MINOR or MAJOR, as an envelope has it. */
bool value_is_version(struct slice value)
{
    char text[16];
    if (!value_text(value, text, sizeof text))
        return false;
    size_t major_len = strcspn(text, ".");
    const char *minor = text[major_len] == '.' ? text + major_len + 1 : "0";
    return value_is_number(text, major_len, 5) && value_is_number(minor, strlen(minor), 5) && atoi(text) >= 1 &&
           atoi(text) <= UINT16_MAX && atoi(minor) <= UINT16_MAX;
}

/* --- times --------------------------------------------------------------------------------------------------------- */

/* "+02:00", "Z": seconds east of UTC. */
static bool offset_of(const char *text, int64_t *out_seconds)
{
    int hours, minutes, end = 0;
    *out_seconds = 0;
    if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0)
        return true;
    if ((*text != '+' && *text != '-') || strspn(text + 1, "0123456789") != 2 || text[3] != ':' ||
        strspn(text + 4, "0123456789") != 2 || sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &end) != 2 ||
        text[1 + end] != '\0' || hours > 23 || minutes > 59)
        return false;
    *out_seconds = (hours * 3600 + minutes * 60) * (*text == '-' ? -1 : 1);
    return true;
}

/* Envelopes have what 64 bits of ns since 1970 hold, but for 0: none. */
enum value_time value_time(struct slice value)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    char text[128];
    if (!value_text(value, text, sizeof text) || strlen(text) < sizeof shape)
        return VALUE_NO_TIME;
    for (size_t i = 0; shape[i] != '\0'; ++i)
        if (shape[i] == 'd' ? text[i] < '0' || text[i] > '9'
                            : text[i] != shape[i] && !(shape[i] == 'T' && text[i] == 't'))
            return VALUE_NO_TIME;
    struct tm said = {.tm_year = atoi(text) - 1900,
                      .tm_mon = atoi(text + 5) - 1,
                      .tm_mday = atoi(text + 8),
                      .tm_hour = atoi(text + 11),
                      .tm_min = atoi(text + 14),
                      .tm_sec = atoi(text + 17)};
    bool is_leap = said.tm_sec == 60;
    said.tm_sec -= is_leap;
    struct tm made = said;
    int64_t s = timegm(&made) + is_leap, east = 0;
    if (made.tm_year != said.tm_year || made.tm_mon != said.tm_mon || made.tm_mday != said.tm_mday ||
        made.tm_hour != said.tm_hour || made.tm_min != said.tm_min || made.tm_sec != said.tm_sec)
        return VALUE_NO_TIME; /* the 31st of February */
    const char *at = text + sizeof shape - 1;
    bool has_fraction = false;
    if (*at == '.') {
        size_t n = strspn(at + 1, "0123456789");
        if (n == 0)
            return VALUE_NO_TIME;
        has_fraction = strspn(at + 1, "0") < (n < 9 ? n : 9);
        at += 1 + n;
    }
    if (!offset_of(at, &east))
        return VALUE_NO_TIME;
    s -= east;
    bool is_ours = said.tm_year >= 1970 - 1900 && said.tm_year <= 2553 - 1900 && s >= 0 &&
                   s < INT64_C(18429292800) /* 2554 */ && (s > 0 || has_fraction) && !(is_leap && s % 86400 != 0);
    return is_ours ? VALUE_OUR_TIME : VALUE_ANOTHER_TIME;
}
