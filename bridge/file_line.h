/* file_line.h: one line of a file broker's log. See file_line.c. */
#ifndef EVBUS_BRIDGE_FILE_LINE_H
#define EVBUS_BRIDGE_FILE_LINE_H

#include "entry.h"

#include "../tools/slices.h"

#include <stdint.h>

/* Bytes that grow. */
struct text {
    char *at;
    size_t len;
    size_t cap;
};

void text_put(struct text *text, const char *bytes, size_t len);
__attribute__((format(printf, 2, 3))) void text_format(struct text *text, const char *format, ...);

/* Of what bridge and partition a batch is. Texts are slices of the line, without quotes. */
struct line_head {
    struct slice origin;
    uint32_t partition;
    uint64_t epoch;
    uint64_t incarnation;
    struct slice by; /* who wrote the line, and the how-manieth of his it is: no two lines say the same */
};

/* Where an entry stands. */
struct line_place {
    struct slice stream; /* without quotes */
    uint64_t position;
    uint64_t prev;
};

/* An entry as a JSON object. */
void line_put_entry(struct text *out, const char *stream, const struct entry *entry);

/* Is it a line at all: one JSON text? What follows is to be asked of such alone. */
bool line_is_whole(struct slice line);

bool line_head(struct slice line, struct line_head *out); /* false: it is no batch */

/* The entries of a line: of a batch in its order; or the line itself, where a foreign program wrote it. *at begins as
 * NULL. */
bool line_entry(struct slice line, const char **at, struct slice *out_entry);

bool line_place(struct slice entry, struct line_place *out); /* false: it is no entry of a batch */
bool line_is_of(struct slice entry, const char *stream);

/* An entry's fields, the stream apart: at most cap of them. Values stand in the entry, or as *texts, which has room for
 * as many bytes as the entry and is moved on. How many */
size_t line_fields(struct slice entry, struct entry_field *out_fields, size_t cap, char **texts);

/* A number's digits, in quotes or not. */
bool line_number(struct slice value, uint64_t *out_number);

#endif
