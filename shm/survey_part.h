/* survey_part.h: one partition's files in a bus's folder. See survey_part.c. */
#ifndef EVBUS_SURVEY_PART_H
#define EVBUS_SURVEY_PART_H

#include "segment.h"
#include "survey_tell.h"

/* Records of the partition, of each of its files, and of what in them is damaged. mark: NULL: it has none. */
void survey_part_show(struct survey *it, const struct segment_place *place, const struct mark *mark);

#endif
