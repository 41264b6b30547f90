/* commands.h: a command is one row in evbus.c's table and one file, cmd_<name>.c. */
#ifndef EVBUS_TOOLS_COMMANDS_H
#define EVBUS_TOOLS_COMMANDS_H

#include "args.h"
#include "output.h"

#include <evbus/admin.h>

struct command {
    const char *name;
    const char *summary;                 /* one line for `evbus --help` */
    const char *usage;                   /* what stands behind "evbus ", one form a line */
    const char *text;                    /* paragraphs for `evbus NAME --help`; "" when the summary says it all */
    const char *examples;                /* lines */
    const struct arg_option *options;    /* NULL: the global ones only */
    bool passes_on;                      /* what follows its name is not ours to read: all of it is operands */
    int (*run)(const struct args *args); /* returns the exit code */
};

extern const struct command command_init, command_rm, command_ls, command_pub, command_tail, command_consume,
    command_group, command_dlq, command_stat, command_catalogue, command_convert, command_find, command_why,
    command_doctor, command_inspect, command_journal, command_backup, command_bridge, command_verify, command_demo;

/* Opens the bus that args name. Only who publishes or stays stands for keeper: who just looks must not change what it
 * sees. Returns 0, or the exit code after the message. */
int open_bus(const struct args *args, enum evbus_keeper keeper, struct evbus **out_bus);

/* Complains when there are fewer than `least` or more than `most` operands. Returns 0 or the exit code. */
int check_operands(const struct args *args, size_t least, size_t most, const char *usage);

/* The one operand: an eventId. Returns 0 or the exit code. */
int id_operand(const struct args *args, const char *usage, uint8_t out_id[16]);

/* What a catalogue text holds. Returns 0, or the exit code after the message. */
struct catalogue_size {
    size_t n_topics;
    size_t n_logs;
    uint64_t bytes; /* of shared memory */
};
int catalogue_measure(const char *shown, const char *text, size_t len, struct catalogue_size *out_size);

#define CATALOGUE_FILE_BYTES_MAX ((size_t)1 << 20) /* more is certainly none; what is allowed, the library says */

#endif
