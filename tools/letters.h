/* letters.h: a dead letter as text. See letters.c. */
#ifndef EVBUS_TOOLS_LETTERS_H
#define EVBUS_TOOLS_LETTERS_H

#include <evbus/admin.h>

/* A line for people; all that is known, for people; an object on a line; the letter itself, on a line. All return 0. */
int letters_print_line(const struct evbus_dead_letter *letter);
int letters_print_all(const struct evbus_dead_letter *letter);
int letters_print_json(const struct evbus_dead_letter *letter);
int letters_print_text(const struct evbus_dead_letter *letter);

/* What was done about it. */
void letters_print_done(const struct evbus_dead_letter *letter, const char *what);
void letters_print_done_json(const struct evbus_dead_letter *letter, const char *what);

#endif
