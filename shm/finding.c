/* finding.c: what a doctor tells: what was found, and what mends it. */
#include "finding.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void finding_mend(struct visit *visit, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(visit->mend, sizeof visit->mend, format, args);
    va_end(args);
}

void finding_tell(struct visit *visit, enum evbus_severity severity, const char *format, ...)
{
    char what[800];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    struct evbus_finding finding = {.size = sizeof finding, .severity = severity, .what = what, .mend = visit->mend};
    if (severity > visit->worst)
        visit->worst = severity;
    visit->each(visit->context, &finding);
    visit->mend[0] = '\0';
}

void finding_append(char *text, size_t cap, const char *format, ...)
{
    size_t len = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + len, cap - len, format, args);
    va_end(args);
}
