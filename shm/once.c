/* once.c: what evbus-sqlite and evbus-postgres share. See once.h. */
#include "once.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void tell(char *error, const char *format, va_list values)
{
    if (error == NULL)
        return;
    (void)vsnprintf(error, EVBUS_ERROR_MAX, format, values); /* what does not fit is cut */
    for (size_t len = strlen(error); len > 0 && error[len - 1] == '\n'; len--)
        error[len - 1] = '\0'; /* libpq's messages end so */
}

void once_tell(char *error, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    tell(error, format, values);
    va_end(values);
}

int once_fail(int code, char *error, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    tell(error, format, values);
    va_end(values);
    return code;
}

/* Nothing has happened, and the event has not been looked at: so it is not its fault. */
enum evbus_outcome once_not_begun(int rc)
{
    return rc == EVBUS_EDUPLICATE ? EVBUS_DONE : EVBUS_RELEASE;
}
