/* letter.h: one dead letter, taken apart; and the event in it, as it was. See letter.c. */
#ifndef EVBUS_LETTER_H
#define EVBUS_LETTER_H

#include "area.h"
#include "frame.h"
#include "pending.h"

#define LETTER_ATTEMPTS_MAX PENDING_ATTEMPTS_MAX
#define LETTER_CELLS_MAX    (FRAME_CELLS_MAX + 1) /* room for a frame, and a byte behind it (delivery.h) */

/* Payloads and attempts lie in the frame that it was read from. */
struct letter {
    uint8_t id[16];
    uint64_t at_ns;
    char group[SERVICE_BYTES];
    char topic[NAME_BYTES];
    char log[NAME_BYTES]; /* where the event stands */
    uint32_t partition;
    uint64_t position;
    char stream
        [NAME_BYTES]; /* no event of ours: where it stands at a broker, and then log and position are made up; "": it is one */
    char entry[64];
    char cause[16];
    uint32_t n_replays;
    char error[EVBUS_ERROR_MAX + 1]; /* why no handler could get it; "" */
    const char *attempts;            /* a JSON array */
    size_t attempts_len;
    struct frame event;
    struct frame_version more[FRAME_VERSIONS_MAX - 1];
    struct area area; /* the event's own, to which a replay adds its own */
};

/* One that ended badly. */
struct letter_attempt {
    uint32_t n;
    uint64_t at_ns;
    uint64_t ms;
    char member[SERVICE_BYTES];
    char cause[16];
    char error[EVBUS_ERROR_MAX + 1];
};

/* frame: parsed, of kind DEAD; its memory is the letter's from here on. EVBUS_OK or EVBUS_ECORRUPT with what is missing. */
int letter_parse(const struct frame *frame, struct letter *out, struct error *err);

/* Its attempts, the first first; at most LETTER_ATTEMPTS_MAX. Returns how many. */
size_t letter_attempts(const struct letter *letter, struct letter_attempt out[LETTER_ATTEMPTS_MAX]);

#endif
