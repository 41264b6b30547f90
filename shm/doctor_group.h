/* doctor_group.h: what is wrong with groups. See doctor_group.c. */
#ifndef EVBUS_DOCTOR_GROUP_H
#define EVBUS_DOCTOR_GROUP_H

#include "finding.h"

void doctor_examine_groups(struct visit *visit);

/* Behind a sentence about a thread that does not go on: what depends on it. */
void doctor_append_duties(const struct visit *visit, uint32_t slot, char *text, size_t cap);

#endif
