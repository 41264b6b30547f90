/* version.h: the version of a payload's schema. See version.c. */
#ifndef EVBUS_VERSION_H
#define EVBUS_VERSION_H

#include "error.h"

/* "2.0" -> 2, 0; "1" -> 1, 0. 0..65535 each, no leading zeros, major >= 1. EVBUS_OK or EVBUS_EINVAL. */
int version_parse(const char *text, size_t len, uint16_t *out_major, uint16_t *out_minor, struct error *err);

#endif
