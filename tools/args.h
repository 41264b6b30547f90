/* args.h: from argv to one struct of checked values. See args.c. */
#ifndef EVBUS_TOOLS_ARGS_H
#define EVBUS_TOOLS_ARGS_H

#include "args_nearest.h"

#include <evbus/evbus.h>

#define ARG_ABSENT UINT64_MAX /* of a number or a duration that was not given */

/* Of an option that may be given again and again. */
#define ARG_TEXTS_MAX 16
struct arg_texts {
    const char *at[ARG_TEXTS_MAX];
    size_t n;
};

struct args {
    /* for every command */
    const char *bus;     /* --bus, else $EVBUS_BUS, else "lomash"; never NULL once parsed */
    bool is_bus_given;   /* by --bus */
    const char *service; /* --as; NULL: the library looks at $EVBUS_SERVICE */
    bool json;
    bool meta;
    bool help;
    bool version;

    /* for some; the others leave them alone */
    const char *catalogue;
    uint64_t mode;
    const char *group;
    bool from_stdin;
    bool disk;
    const char *key;
    const char *key_field;
    uint8_t id[16]; /* all zero: not given */
    uint64_t time_ns;
    uint16_t payload_version[2]; /* 0.0: not given */
    struct arg_texts also;       /* VERSION=PAYLOAD */
    bool versions;
    const char *accept;
    struct arg_texts upcasts; /* MAJOR=CMD */
    const char *traceparent;
    const char *tracestate;
    const char *correlation_id;
    const char *causation_id;
    uint64_t expires_in_ns; /* ARG_ABSENT: not given */
    uint64_t timeout_ns;
    uint64_t stop_timeout_ns;
    uint64_t count;
    struct {
        bool is_given;
        enum evbus_from where;
        uint64_t time_ns;
        uint64_t position;
    } from;
    struct {
        bool is_given;
        enum evbus_from where;
        uint64_t time_ns;
        uint64_t position; /* with log and partition */
        char log[128];
        uint32_t partition;
    } to;
    bool dry_run;
    bool force;
    bool latency;
    bool pin;
    bool watch;
    bool prometheus;
    bool names;
    const char *exec;
    bool ephemeral;
    bool yes;
    const char *log;
    uint64_t partition;
    uint64_t words;
    bool all;
    uint64_t frame;
    const char *dir;
    uint64_t to_ns; /* 0: not given */
    bool typescript;
    bool asyncapi;
    bool shipped;
    const char *format_from; /* convert: of what, to what */
    const char *format_to;
    const char *topic;
    const char *cause;
    const char *reason;
    bool all_letters;
    uint64_t rate; /* a second; 0: not given */

    const char **operands; /* what is no option, in order, without the command */
    size_t n_operands;
};

enum arg_kind {
    ARG_FLAG,
    ARG_TEXT,
    ARG_TEXTS,
    ARG_COUNT,
    ARG_DURATION,
    ARG_TIME,
    ARG_FROM,
    ARG_TO,
    ARG_UUID,
    ARG_VERSION,
    ARG_MODE,
    ARG_RATE
};

/* One row of a table of options; a row without a name ends the table. */
struct arg_option {
    const char *name; /* without the dashes */
    char letter;      /* 0: no short form */
    enum arg_kind kind;
    size_t offset;     /* in struct args */
    const char *value; /* what help calls the value */
    const char *help;  /* NULL: not shown */
};

void args_init(struct args *args, const char **operands);

/* Reads argv from *at on. Options are looked up in `own` (may be NULL), then in `global`. With only_options it stops in
 * front of the first operand; else operands are collected. Returns 0, or the exit code after it has said what is wrong.
 */
int args_parse(struct args *args, const struct arg_option *own, const struct arg_option *global, bool only_options,
               int argc, char **argv, int *at);

/* Fills in what the environment says for what was not given. */
void args_complete(struct args *args);

/* An eventId as it is written; either case. */
bool args_read_uuid(const char *text, uint8_t out_id[16]);

/* "30s", "250ms"; false: it is none. */
bool args_read_duration(const char *text, uint64_t *out_ns);

/* "2.0", "2", of len bytes: MAJOR from 1 on, no leading zeros. */
bool args_read_version(const char *text, size_t len, uint16_t out_version[2]);

/* The whole file ("-": standard input), NUL-terminated; to be freed. Returns 0, or the exit code after the message. */
int args_read_file(const char *path, size_t max_bytes, char **out_text, size_t *out_len);

#endif
