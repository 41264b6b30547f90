/* config_keys.h: which keys there are, and what may stand behind them. See config_keys.c. */
#ifndef EVBUS_BRIDGE_CONFIG_KEYS_H
#define EVBUS_BRIDGE_CONFIG_KEYS_H

#include "config.h"

enum config_kind {
    CONFIG_TEXT,
    CONFIG_LIST,     /* of topics */
    CONFIG_FLAG,     /* yes, no */
    CONFIG_CHOICE,   /* of names: enum, int or bool */
    CONFIG_COUNT,    /* uint32_t */
    CONFIG_BYTES,    /* uint64_t */
    CONFIG_DURATION, /* uint64_t, ns */
};

/* Looks at a text. false: why says what is wrong and the mend, in CONFIG_PROBLEM_MAX bytes. */
typedef bool config_check(const char *value, char *why);

struct config_key {
    const char *name;
    enum config_kind kind;
    size_t offset;     /* in struct config */
    size_t size;       /* there */
    bool is_live;      /* it may change while the bridge runs */
    bool is_zero_fine; /* below `least`: off */
    uint64_t least, most;
    const char *const *choices; /* of a CHOICE, in the order of its numbers; NULL ends them */
    config_check *check;        /* of a TEXT that is set */
    const char *initial;        /* the default, as one writes it */
};

extern const struct config_key config_keys[];
extern const size_t config_n_keys;

/* The key of that name; NULL: there is none, and *out_meant may be one that was meant, or NULL. */
const struct config_key *config_key_find(const char *name, const char **out_meant);

/* A value as one writes it, into its field. false: why, as of config_check, and nothing is changed. */
bool config_value_read(const struct config_key *key, const char *text, struct config *config, char *why);
/* The other way round; without quotes. */
void config_value_write(const struct config_key *key, const struct config *config, char *out, size_t cap);
/* Is it the same in both? */
bool config_value_equals(const struct config_key *key, const struct config *left, const struct config *right);
void config_value_copy(const struct config_key *key, const struct config *from, struct config *to);

/* "30s", "250ms" */
bool config_duration_read(const char *text, uint64_t *out_ns);

/* At most 60 bytes of what somebody wrote, printable, in quotes; passwords of URLs are not. */
#define CONFIG_SHOWN_SIZE 260
void config_show(const char *text, char out[CONFIG_SHOWN_SIZE]);

#endif
