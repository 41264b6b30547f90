/* deadletters.h: letters as their callers see them, and which of them are meant. See deadletters.c. */
#ifndef EVBUS_DEADLETTERS_H
#define EVBUS_DEADLETTERS_H

#include "bus.h"
#include "delivery.h"
#include "letter.h"
#include "letters.h"

#include <evbus/admin.h>

#define DEADLETTERS_REPLAYS_MAX 3 /* more only by force */

/* Who looks: all letters, and the one that is looked at. */
struct deadletters {
    struct memory *memory;
    struct memory_log *log;
    struct evbus_dead_letters_filter filter;
    struct letters letters;
    struct partition_past *past;
    uint64_t *buffer; /* the letter's frame */
    uint64_t *cells;  /* its event's */
    struct frame frame;
    struct letter letter;
    struct letter_attempt attempts[LETTER_ATTEMPTS_MAX];
    struct evbus_dead_letter_attempt shown_attempts[LETTER_ATTEMPTS_MAX];
    struct settled settled;
    struct delivery_texts texts;
    char service[SERVICE_BYTES];
    struct evbus_delivery event;
    struct evbus_dead_letter shown;
};

/* given may be NULL. What is read is as it is now. */
int deadletters_begin(struct deadletters **out_look, struct evbus *bus, const struct evbus_dead_letters_filter *given,
                      struct error *err);
void deadletters_end(struct deadletters *look); /* NULL is fine */

/* Is this letter meant? Then look->shown is it, and look->letter, until the next one. A code where it cannot be read now. */
int deadletters_look(struct deadletters *look, const struct letters_row *row, bool *out_is_meant, struct error *err);

#endif
