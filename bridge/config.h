/* config.h: what the operator says. See config.c. */
#ifndef EVBUS_BRIDGE_CONFIG_H
#define EVBUS_BRIDGE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_TOPICS_MAX  64
#define CONFIG_BATCHES_MAX 64
#define CONFIG_KEYS_MAX    32   /* at least as many as there are */
#define CONFIG_PROBLEM_MAX 1024 /* bytes of what is told of one */

enum config_layout { CONFIG_LAYOUT_TOPIC, CONFIG_LAYOUT_LOG };
enum config_start { CONFIG_START_EARLIEST, CONFIG_START_LATEST };

/* Every field stands in evbus.conf(5) under its name, without the unit that ends it; texts are never NULL, "" is not set. All zero first, so
 * that two of the same content are the same bytes. */
struct config {
    char bus[64];
    char broker
        [512]; /* redis://[USER@]HOST[:PORT][/DB], rediss://..., unix:///PATH, sentinel://..., file:DIR: see broker_url.h */
    char name[33]; /* of the mirror: its group is bridge-<name>; default: the broker's kind */
    char user[64]; /* "": that of the URL, if it has one; it never has another one */
    char password_file[512];
    char password[512];  /* of the file, read by config_read(); never printed */
    size_t password_len; /* it may hold any bytes; a NUL stands behind it */
    char tls_ca[512];    /* a file, or a folder; "": the system's */
    char tls_cert[512], tls_key[512];
    char tls_name[256]; /* "": the host of the URL */
    enum config_layout layout;
    char topics[CONFIG_TOPICS_MAX][128]; /* patterns; none: all */
    size_t n_topics;
    bool out, in; /* mirror to the broker; from it */
    enum config_start
        start; /* where out begins, in a bus that was never mirrored, or a broker that has nothing of ours */
    uint32_t batch_events; /* at most so many in one batch */
    uint64_t batch_bytes;
    uint64_t linger_ns;     /* how long a batch waits to be filled; 0: not at all */
    uint32_t batches;       /* under way at once, in all */
    uint32_t wait_replicas; /* ack BROKER: so many of Redis' replicas have it */
    uint64_t wait_timeout_ns;
    uint64_t connect_timeout_ns, reply_timeout_ns;
    uint64_t trim_age_ns; /* nothing younger is trimmed; 0: nothing is trimmed at all */
    uint64_t trim_interval_ns;
    uint64_t host_timeout_ns; /* a host that reports nothing for so long is not waited for */
    uint64_t checkpoint_ns;   /* how often what has come in is put on the record */
    char metrics[256];        /* 127.0.0.1:9640, unix:/PATH; "": none */
    bool log_json;            /* the key is log_format */
    int log_level;            /* 0 error .. 3 debug, as enum evbus_level */
};

/* Who says it; the later have the last word. */
enum config_place { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_COMMAND_LINE };

/* Where each value comes from, in the order of the keys. */
struct config_origins {
    char path[512]; /* of the file; "": none was read */
    size_t n[4];    /* settings, by enum config_place */
    struct {
        enum config_place place;
        unsigned line;      /* in the file */
        const char *option; /* of the command line; the variable of the environment. Lives as long as what was read */
        bool is_bad;        /* what was said last is no such value */
    } of[CONFIG_KEYS_MAX];
};

/* One setting of the command line. */
struct config_setting {
    const char *option; /* as the operator typed it: "--redis" */
    const char *key;
    const char *value;
};

struct config_reading {
    const char *path; /* NULL: CONFIG_PATH, which need not be there */
    const char *text; /* not NULL: what stands in the file, which is not looked at */
    size_t text_len;
    char *const *environment; /* NULL: none */
    const struct config_setting *settings;
    size_t n_settings;
    void (*tell)(void *context,
                 const char *problem); /* each one, at most CONFIG_PROBLEM_MAX bytes, without a newline */
    void *context;
};

/* All of it, checked. EVBUS_OK; EVBUS_EINVAL: wrong is what the command line says; EVBUS_ECONFIG: (also) what stands elsewhere; EVBUS_EIO: the
 * file, which is there, cannot be read. Each problem has been told then, and *out is not to be used. */
int config_read(const struct config_reading *reading, struct config *out, struct config_origins *out_origins);

/* Every key with its value, as an evbus.conf, and where it comes from. What is secret is not in it. */
void config_print(const struct config *config, const struct config_origins *origins, FILE *out);

/* What is on top of the other one: names of keys, by commas. */
struct config_changes {
    char taken[512];    /* "": none */
    char restart[512];  /* they need one: left as they were */
    bool is_secret_new; /* the password is another one */
};
/* Into the config that is in use goes what may change while the bridge runs. */
void config_change(struct config *config, const struct config *fresh, struct config_changes *out);

/* What is no value any more is wiped. */
void config_wipe(struct config *config);

#endif
