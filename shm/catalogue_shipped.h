/* catalogue_shipped.h: the text of share/catalogue.json. The build writes catalogue_shipped.c with tools/embed.py. */
#ifndef EVBUS_CATALOGUE_SHIPPED_H
#define EVBUS_CATALOGUE_SHIPPED_H

extern const char catalogue_shipped[]; /* NUL-terminated */

#endif
