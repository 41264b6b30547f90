/* survey_tell.h: what a survey of a bus's folder tells. See survey_tell.c. */
#ifndef EVBUS_SURVEY_TELL_H
#define EVBUS_SURVEY_TELL_H

#include "marks.h"
#include "record.h"
#include "state.h"

#include <evbus/history.h>

#define SURVEY_NOWHERE UINT64_MAX

struct survey {
    struct evbus_journal_options options;
    struct record out;
    char folder[FILE_PATH_MAX];
    struct state_identity identity;
    struct mark *marks;
    size_t n_marks;
    struct error *err;
    int rc; /* what ends it all */
};

bool survey_is_over(const struct survey *it);

/* What is not as it was written, and where, as far as it can be told. */
struct survey_damage {
    const char *log; /* NULL: of none */
    uint32_t partition;
    uint64_t pos, until; /* SURVEY_NOWHERE: it cannot be told */
    const char *path;
    uint64_t at; /* byte in that file; SURVEY_NOWHERE */
    const char *what;
};

/* A record of it; unless the folder is another bus's by now. */
void survey_tell(struct survey *it, const struct survey_damage *damage);

/* Is the folder still this bus's? false: it->rc says so, too. */
bool survey_is_still_there(struct survey *it);

/* Does what a file's reader said mean damage? Else it is a reason to end it all. */
bool survey_is_damage(int rc);

/* A position, or none. */
void survey_place(struct record *out, const char *name, uint64_t pos);

#endif
