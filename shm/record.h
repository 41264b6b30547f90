/* record.h: one struct evbus_record after the other, made field by field. See record.c. */
#ifndef EVBUS_RECORD_H
#define EVBUS_RECORD_H

#include "error.h"

#include <evbus/admin.h>

#define RECORD_FIELDS_MAX  32
#define RECORD_TEXTS_BYTES 4096
#define RECORD_SHOWN_MAX   256 /* bytes that record_bytes() shows */

struct record {
    int (*each)(void *context, const struct evbus_record *record);
    void *context;
    int rc; /* what each() answered: non-zero ends it all */
    const char *kind;
    unsigned depth;
    size_t n_fields;
    size_t texts_len;
    struct evbus_field fields[RECORD_FIELDS_MAX];
    char texts[RECORD_TEXTS_BYTES];
};

void record_begin(struct record *record, const char *kind, unsigned depth);

void record_none(struct record *record, const char *name);
void record_number(struct record *record, const char *name, uint64_t number);
void record_position(struct record *record, const char *name, uint64_t position);
void record_flag(struct record *record, const char *name, bool is_so);
void record_time(struct record *record, const char *name, uint64_t wall_ns); /* 0: none */
void record_hex(struct record *record, const char *name, uint64_t number);

/* Up to len bytes, or to the first NUL; bytes that make no UTF-8 become "?". Cut where a record has no room. */
void record_text(struct record *record, const char *name, const char *text, size_t len);
void record_word(struct record *record, const char *name, const char *text); /* a text of ours, to its NUL */

/* The first RECORD_SHOWN_MAX bytes as hexadecimal digits, and as letters, dots for what is none. */
void record_bytes(struct record *record, const char *hex_name, const char *text_name, const void *bytes, size_t len);

/* Gives it to each(), unless that has ended it all. */
void record_end(struct record *record);

/* A whole record: what is not as it should be. */
__attribute__((format(printf, 3, 4))) void record_differs(struct record *record, unsigned depth, const char *format,
                                                          ...);

#endif
