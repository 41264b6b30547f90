/* args_nearest.h: what somebody meant who mistyped it. The bridge has the same file: see bridge/meson.build. See args_nearest.c. */
#ifndef EVBUS_TOOLS_ARGS_NEAREST_H
#define EVBUS_TOOLS_ARGS_NEAREST_H

#include <stddef.h>

/* Of the candidates, the one that is nearly `word`; NULL when none is. Call it for each with the same *best. */
void args_nearest(const char *word, const char *candidate, const char **best, size_t *best_distance);

#endif
