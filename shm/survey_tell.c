/* survey_tell.c: what a survey of a bus's folder tells: damage, as records. Checked by tests/unit/test_survey.c. */
#include "survey_tell.h"

#include <string.h>

bool survey_is_over(const struct survey *it)
{
    return it->rc != EVBUS_OK || it->out.rc != 0;
}

void survey_place(struct record *out, const char *name, uint64_t pos)
{
    if (pos == SURVEY_NOWHERE)
        record_none(out, name);
    else
        record_position(out, name, pos);
}

/* Whose folder it is can have changed since we began. */
bool survey_is_still_there(struct survey *it)
{
    struct state_identity now;
    uint64_t damaged;
    int rc = state_look(it->folder, &now, &damaged, NULL);
    if (rc == EVBUS_ECORRUPT || (rc == EVBUS_OK && memcmp(now.uuid, it->identity.uuid, sizeof now.uuid) == 0))
        return true;
    it->rc = error_set(it->err, EVBUS_ESTALE, "%s: the bus was removed meanwhile", it->folder);
    return false;
}

void survey_tell(struct survey *it, const struct survey_damage *damage)
{
    struct record *out = &it->out;
    if (survey_is_over(it) || !survey_is_still_there(it))
        return;
    record_begin(out, "damaged", damage->log != NULL ? 2 : 0);
    if (damage->log != NULL) {
        record_word(out, "log", damage->log);
        record_number(out, "partition", damage->partition);
    } else {
        record_none(out, "log");
        record_none(out, "partition");
    }
    survey_place(out, "position", damage->pos);
    survey_place(out, "until", damage->until);
    record_word(out, "file", damage->path);
    survey_place(out, "at", damage->at);
    record_word(out, "what", damage->what);
    record_end(out);
}

/* What a file's reader said: damage, or a reason to end it all. */
bool survey_is_damage(int rc)
{
    return rc == EVBUS_ECORRUPT || rc == EVBUS_ECONFLICT || rc == EVBUS_EIO || rc == EVBUS_ELIMIT;
}
