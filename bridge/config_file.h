/* config_file.h: the lines of an evbus.conf. See config_file.c. */
#ifndef EVBUS_BRIDGE_CONFIG_FILE_H
#define EVBUS_BRIDGE_CONFIG_FILE_H

#include <stddef.h>

#define CONFIG_VALUE_MAX 9000 /* bytes: more than the longest list of topics */

struct config_lines {
    void (*setting)(void *context, unsigned line, const char *key, const char *value);
    void (*problem)(void *context, unsigned line, const char *what);
    void *context;
};

/* Any bytes: each line is a setting, a problem, or nothing. */
void config_file_read(const char *text, size_t len, const struct config_lines *lines);

/* Puts quotes around a value that needs them. */
void config_file_quote(const char *value, char *out, size_t cap);

#endif
