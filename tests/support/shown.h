/* shown.h: the records that a call shows, as a text to look into. */
#ifndef SHOWN_H
#define SHOWN_H

#include <evbus/admin.h>

/* Zeroed: nothing yet. To be forgotten. */
struct shown {
    char *text; /* "\n", then "kind name=value name=value\n" each */
    size_t len, cap;
    unsigned n;
    unsigned n_differs;  /* records of that kind, and texts of that name */
    unsigned n_damaged;  /* records of that kind */
    unsigned n_segments; /* likewise */
    uint64_t n_events;   /* in all fields of that name */
    unsigned stop_after; /* records: then 77 is answered; 0: never */
};

/* For the call: its context is a struct shown. Whatever is shown must be well made: sizes, depths, UTF-8. */
int shown_keep(void *context, const struct evbus_record *record);

/* The test fails where this stands nowhere in the text. */
__attribute__((format(printf, 2, 3))) void shown_expect(const struct shown *shown, const char *format, ...);

unsigned shown_count(const struct shown *shown, const char *fragment);
void shown_forget(struct shown *shown);

#endif
