/* say.h: what the bridge tells its operator, on standard error. See say.c. */
#ifndef EVBUS_BRIDGE_SAY_H
#define EVBUS_BRIDGE_SAY_H

#include <evbus/evbus.h>

/* A name and its value; a row without a name ends them. */
struct say_field {
    const char *name; /* of a-z 0-9 _ . */
    const char *text; /* NULL: the number */
    size_t len;
    double number;
    int decimals; /* of the number */
};

static inline struct say_field say_bytes(const char *name, const char *bytes, size_t len)
{
    return (struct say_field){.name = name, .text = bytes, .len = len};
}

static inline struct say_field say_text(const char *name, const char *text)
{
    return say_bytes(name, text, __builtin_strlen(text));
}

static inline struct say_field say_number(const char *name, uint64_t number)
{
    return (struct say_field){.name = name, .number = (double)number};
}

/* With milliseconds. */
static inline struct say_field say_seconds(const char *name, uint64_t ns)
{
    return (struct say_field){.name = name, .number = (double)ns / 1e9, .decimals = 3};
}

#define SAY(...) ((const struct say_field[]){__VA_ARGS__, {.name = NULL}})
#define SAY_NONE ((const struct say_field *)NULL)

/* From here on so. May be called again. */
void say_begin(bool is_json, int level);

/* One line. message: a constant, a few words; fields: SAY(say_text("broker", url), ...) or SAY_NONE. The same message about the same thing, which is
 * its first field, is told at once, and then at most once a minute, as it is by then, with how often it was not. What an operator has asked
 * for has a number in front that no other has. Any thread. */
void say(enum evbus_level level, const char *message, const struct say_field *fields);

/* For evbus_options.log: what the library has to say, its fields as ours. */
void say_of_library(void *context, enum evbus_level level, const char *line);

/* What was held back and is due now is told. Returns in how many ms the next is; -1: nothing waits. */
int say_due(void);

/* All that was held back is told. */
void say_end(void);

/* --- for tests: a line is made by pure functions */

#define SAY_LINE_MAX 4096 /* bytes: what a pipe takes in one piece */

struct say_look {
    bool is_json;
    bool is_journal; /* systemd's: a priority, and no time of our own */
};

/* A line with its newline; returns its length. What does not fit is cut, in a value, and said to be by the field `cut`. */
size_t say_line(const struct say_look *look, uint64_t time_ns, enum evbus_level level, const char *message,
                const struct say_field *fields, uint64_t n_repeated, char out[SAY_LINE_MAX]);

/* From now on this is the time, and this takes the lines; NULL: real ones again. */
void say_test(uint64_t (*now_ns)(void), void (*write)(const char *line, size_t len));

#endif
