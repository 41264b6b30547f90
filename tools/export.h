/* export.h: a catalogue as other tools read it. See export_typescript.c and export_asyncapi.c. */
#ifndef EVBUS_TOOLS_EXPORT_H
#define EVBUS_TOOLS_EXPORT_H

#include <stddef.h>

/* Prints the catalogue on standard output. Returns 0, or the exit code after the message. */
int export_typescript(const char *text, size_t len);
int export_asyncapi(const char *text, size_t len);

#endif
