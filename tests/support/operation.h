/* operation.h: what is killed and stopped at each of its points: one row each. */
#ifndef OPERATION_H
#define OPERATION_H

#include "scene.h"

extern const struct operation operations[];
extern const unsigned n_operations;

/* By name; it must be there. */
const struct operation *operation_find(const char *name);

#endif
