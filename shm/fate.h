/* fate.h: what became of an event that groups gave up: its letters, and what was done about them. See fate.c. */
#ifndef EVBUS_FATE_H
#define EVBUS_FATE_H

#include "find.h"
#include "letters.h"
#include "record.h"

#define FATE_LETTERS_MAX ((size_t)64 * GROUPS_MAX)
#define FATE_DEATHS_MAX  256

/* One that was told: of which letter, in which replay. */
struct fate_death {
    size_t which;
    uint32_t n;
    uint64_t pos;
    uint64_t at_ns;
};

struct fate {
    struct memory *memory;
    struct find_id ids[FATE_LETTERS_MAX];
    size_t n_ids;
    struct fate_death deaths[FATE_DEATHS_MAX];
    size_t n_deaths;
    struct letters letters;
    struct error *err;
};

/* A letter that may be there; once for each id. */
void fate_want(struct fate *fate, const uint8_t id[16]);

/* Finds them all. *out_damaged as find_in(). */
int fate_look(struct fate *fate, bool *out_damaged);
void fate_end(struct fate *fate);

/* The letter of an id; NULL: there is none. And that of its death in this replay, 0: before all; NULL: it did not die there. */
const struct letters_row *fate_letter(const struct fate *fate, const uint8_t id[16]);
const struct fate_death *fate_death(const struct fate *fate, const uint8_t id[16], uint32_t n);

/* A record of kind `settled` for each thing that was done about it. */
int fate_show_settled(struct fate *fate, const uint8_t id[16], struct record *record);

#endif
