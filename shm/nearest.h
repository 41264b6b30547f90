/* nearest.h: the name that was probably meant, for "did you mean". See nearest.c. */
#ifndef EVBUS_NEAREST_H
#define EVBUS_NEAREST_H

struct nearest {
    const char *wanted; /* what was written; set it before the first nearest_try() */
    const char *name;   /* the closest so far, NULL: nothing is close */
    unsigned distance;  /* letters to add, drop, change or swap between the two */
};

/* Is the candidate closer than all before it? Then it is kept (the pointer, not a copy). */
void nearest_try(struct nearest *nearest, const char *candidate);

/* "; did you mean \"producers\"?", or "" when nothing is close. buffer: NEAREST_TEXT_MAX bytes; returned. */
#define NEAREST_TEXT_MAX 160
const char *nearest_text(const struct nearest *nearest, char *buffer);

#endif
