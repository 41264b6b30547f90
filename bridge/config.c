/* config.c: what the operator says, from four places into one struct of checked values.
 *
 *     default  <  file (evbus.conf)  <  environment (EVBUS_BRIDGE_<KEY>; EVBUS_BUS)  <  command line (--redis, --bus, --set)
 *
 *   read     each place from left to right; a value is checked where it stands, also when a later place has another one: a mistake does
 *            not begin to matter on the day on which somebody takes the other one away
 *   told     every problem, not only the first: where it stands, the key, what was found, the mend. Who has to mend a file does it once
 *   between  what several keys say together is looked at last, and only where each of them alone is fine
 *   password not a key. It is read out of its own file, at each reading, and is never printed; a file that every user of the host can
 *            read is refused, as is a password in the URL
 *
 * The whole config is read anew on SIGHUP, into a struct of its own: only when all of it is right, config_change() moves what may change into the
 * one that is in use. So a reload with a mistake in it changes nothing.
 * Checked by tests/broker/test_config.c, tests/cli/test_bridge_config.sh and tests/fuzz/config.c. */
#include "config.h"

#include "broker_url.h"
#include "config_file.h"
#include "config_keys.h"

#include <evbus/evbus.h>

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENVIRONMENT_PREFIX "EVBUS_BRIDGE_"

enum { FILE_MAX = 1 << 20 };

/* One reading. */
struct reader {
    const struct config_reading *reading;
    const char *path; /* of the file, for messages */
    struct config *config;
    struct config_origins *origins;
    size_t n_command_line; /* problems there */
    size_t n_elsewhere;
    unsigned lines[CONFIG_KEYS_MAX]; /* where the file sets a key */
    bool is_unreadable;
};

__attribute__((format(printf, 4, 5))) static void problem(struct reader *reader, enum config_place place,
                                                          const char *where, const char *format, ...)
{
    char what[CONFIG_PROBLEM_MAX], line[CONFIG_PROBLEM_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    int len = snprintf(line, sizeof line, "%s: %s", where, what);
    if (len >= (int)sizeof line)
        memcpy(line + sizeof line - 4, "...", 4);
    *(place == CONFIG_COMMAND_LINE ? &reader->n_command_line : &reader->n_elsewhere) += 1;
    reader->reading->tell(reader->reading->context, line);
}

/* A setting's place, in front of a message about it. */
static void write_where(const struct reader *reader, enum config_place place, unsigned line, const char *option,
                        char *out, size_t cap)
{
    switch (place) {
    case CONFIG_DEFAULT:
        (void)snprintf(out, cap, "config");
        return;
    case CONFIG_FILE:
        (void)snprintf(out, cap, "%s:%u", reader->path, line);
        return;
    case CONFIG_ENVIRONMENT:
        (void)snprintf(out, cap, "environment, %s", option);
        return;
    case CONFIG_COMMAND_LINE:
        (void)snprintf(out, cap, "command line, %s", option);
        return;
    }
}

/* --- one setting -------------------------------------------------------------------------------------------------- */

static void set(struct reader *reader, enum config_place place, unsigned line, const char *option, const char *name,
                const char *value)
{
    char where[700], why[CONFIG_PROBLEM_MAX] = "";
    const char *meant = NULL;
    write_where(reader, place, line, option, where, sizeof where);
    const struct config_key *key = config_key_find(name, &meant);
    if (key == NULL) {
        if (meant != NULL)
            problem(reader, place, where, "there is no key \"%s\"; did you mean %s?", name, meant);
        else
            problem(reader, place, where, "there is no key \"%s\"; evbus-bridge --print-config lists them", name);
        return;
    }
    size_t i = (size_t)(key - config_keys);
    if (place == CONFIG_FILE && reader->lines[i] != 0) {
        problem(reader, place, where, "%s is set in line %u already; take one of them out", name, reader->lines[i]);
        return;
    }
    if (place == CONFIG_FILE)
        reader->lines[i] = line;
    reader->origins->n[place]++;
    reader->origins->of[i].place = place;
    reader->origins->of[i].line = line;
    reader->origins->of[i].option = option;
    reader->origins->of[i].is_bad = !config_value_read(key, value, reader->config, why);
    if (reader->origins->of[i].is_bad)
        problem(reader, place, where, "%s: %s", name, why);
}

/* --- four places -------------------------------------------------------------------------------------------------- */

static void read_defaults(struct reader *reader)
{
    char why[CONFIG_PROBLEM_MAX];
    for (size_t i = 0; i < config_n_keys; i++) {
        bool is_fine = config_value_read(&config_keys[i], config_keys[i].initial, reader->config, why);
        assert(is_fine);
        (void)is_fine;
    }
}

static void take_line(void *context, unsigned line, const char *key, const char *value)
{
    set(context, CONFIG_FILE, line, NULL, key, value);
}

static void take_problem(void *context, unsigned line, const char *what)
{
    char where[700];
    write_where(context, CONFIG_FILE, line, NULL, where, sizeof where);
    problem(context, CONFIG_FILE, where, "%s", what);
}

/* Up to cap bytes of a descriptor; -1: errno. */
static ssize_t read_all(int fd, char *out, size_t cap)
{
    size_t len = 0;
    while (len < cap) {
        ssize_t n = read(fd, out + len, cap - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return (ssize_t)len;
}

static void read_text(struct reader *reader, const char *text, size_t len)
{
    (void)snprintf(reader->origins->path, sizeof reader->origins->path, "%s", reader->path);
    config_file_read(text, len,
                     &(struct config_lines){.setting = take_line, .problem = take_problem, .context = reader});
}

static void read_file(struct reader *reader)
{
    int fd = open(reader->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && reader->reading->path == NULL)
        return;
    reader->is_unreadable = true;
    char *text = malloc(FILE_MAX + 1);
    ssize_t len = fd >= 0 && text != NULL ? read_all(fd, text, FILE_MAX + 1) : -1;
    if (fd < 0 || text == NULL || len < 0)
        problem(reader, CONFIG_FILE, reader->path, "cannot be read: %s%s", strerror(errno),
                errno == ENOENT   ? "; write one (share/evbus/evbus.conf is an example), or leave --config out"
                : errno == EACCES ? "; let the bridge's user read it: chgrp evbus, chmod 640"
                                  : "");
    else if (len > FILE_MAX)
        problem(reader, CONFIG_FILE, reader->path, "is larger than 1 MiB; is it an evbus.conf?");
    else {
        reader->is_unreadable = false;
        read_text(reader, text, (size_t)len);
    }
    free(text);
    if (fd >= 0)
        (void)close(fd);
}

/* EVBUS_BRIDGE_BATCH_EVENTS=64: batch_events. */
static void read_variable(struct reader *reader, const char *variable)
{
    const char *equals = strchr(variable, '=');
    size_t prefix_len = strlen(ENVIRONMENT_PREFIX), name_len = equals != NULL ? (size_t)(equals - variable) : 0;
    char key[64], where[700];
    if (equals == NULL || name_len <= prefix_len || strncmp(variable, ENVIRONMENT_PREFIX, prefix_len) != 0)
        return;
    (void)snprintf(where, sizeof where, "environment, %.*s", (int)(name_len < 600 ? name_len : 600), variable);
    if (name_len - prefix_len >= sizeof key) {
        problem(reader, CONFIG_ENVIRONMENT, where, "no key is as long as this one; unset it");
        return;
    }
    size_t n = 0;
    for (const char *at = variable + prefix_len; at < equals; at++)
        key[n++] = (char)tolower((unsigned char)*at);
    key[n] = '\0';
    for (size_t i = 0; i < config_n_keys; i++) {
        if (strcmp(config_keys[i].name, key) != 0)
            continue;
        static char names[CONFIG_KEYS_MAX][sizeof ENVIRONMENT_PREFIX + sizeof key]; /* the same at each reading */
        (void)snprintf(names[i], sizeof names[i], "%.*s", (int)name_len, variable);
        set(reader, CONFIG_ENVIRONMENT, 0, names[i], key, equals + 1);
        return;
    }
    const char *meant = NULL;
    (void)config_key_find(key, &meant);
    char upper[64];
    for (n = 0; meant != NULL && meant[n] != '\0'; n++)
        upper[n] = (char)toupper((unsigned char)meant[n]);
    upper[n] = '\0';
    if (meant != NULL)
        problem(reader, CONFIG_ENVIRONMENT, where, "there is no key for it; did you mean " ENVIRONMENT_PREFIX "%s?",
                upper);
    else
        problem(reader, CONFIG_ENVIRONMENT, where, "there is no key for it; unset it");
}

static void read_environment(struct reader *reader)
{
    for (char *const *at = reader->reading->environment; at != NULL && *at != NULL; at++)
        if (strncmp(*at, "EVBUS_BUS=", 10) == 0 && (*at)[10] != '\0')
            set(reader, CONFIG_ENVIRONMENT, 0, "EVBUS_BUS", "bus", *at + 10);
    for (char *const *at = reader->reading->environment; at != NULL && *at != NULL; at++)
        read_variable(reader, *at);
}

static void read_command_line(struct reader *reader)
{
    for (size_t i = 0; i < reader->reading->n_settings; i++) {
        const struct config_setting *setting = &reader->reading->settings[i];
        set(reader, CONFIG_COMMAND_LINE, 0, setting->option, setting->key, setting->value);
    }
}

/* --- what keys say together --------------------------------------------------------------------------------------- */

static size_t index_of(const char *name)
{
    size_t i = 0;
    while (strcmp(config_keys[i].name, name) != 0)
        i++;
    return i;
}

static bool is_good(const struct reader *reader, const char *name)
{
    return !reader->origins->of[index_of(name)].is_bad;
}

/* A problem of a key that alone is fine. */
__attribute__((format(printf, 3, 4))) static void problem_of(struct reader *reader, const char *name,
                                                             const char *format, ...)
{
    char where[700], what[CONFIG_PROBLEM_MAX];
    size_t i = index_of(name);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    write_where(reader, reader->origins->of[i].place, reader->origins->of[i].line, reader->origins->of[i].option, where,
                sizeof where);
    problem(reader, reader->origins->of[i].place, where, "%s: %s", name, what);
}

/* A secret that others can read is none. Returns a descriptor, or -1 after the message. */
static int open_secret(struct reader *reader, const char *name, const char *path)
{
    struct stat found;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &found) != 0) {
        problem_of(reader, name, "%s cannot be read: %s%s", path, strerror(errno),
                   errno == EACCES ? "; let the bridge's user read it: chgrp evbus, chmod 640" : "");
    } else if (!S_ISREG(found.st_mode)) {
        problem_of(reader, name, "%s is no file", path);
    } else if ((found.st_mode & (S_IROTH | S_IWOTH)) != 0) {
        problem_of(reader, name, "%s has mode %04o, so every user of this host can %s it; chmod 640 %s", path,
                   found.st_mode & 07777, (found.st_mode & S_IROTH) != 0 ? "read" : "write", path);
    } else {
        return fd;
    }
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static void read_password(struct reader *reader)
{
    struct config *config = reader->config;
    char text[sizeof config->password + 1];
    int fd = open_secret(reader, "password_file", config->password_file);
    if (fd < 0)
        return;
    ssize_t len = read_all(fd, text, sizeof text);
    int failed = errno;
    (void)close(fd);
    if (len > 0 && text[len - 1] == '\n')
        len--;
    if (len < 0)
        problem_of(reader, "password_file", "%s cannot be read: %s", config->password_file, strerror(failed));
    else if (len == 0)
        problem_of(reader, "password_file", "%s is empty; write the password into it, with or without a newline",
                   config->password_file);
    else if ((size_t)len >= sizeof config->password)
        problem_of(reader, "password_file", "%s holds more than a password of %zu bytes", config->password_file,
                   sizeof config->password - 1);
    else {
        memcpy(config->password, text, (size_t)len);
        config->password_len = (size_t)len;
    }
    explicit_bzero(text, sizeof text);
}

static void check_readable(struct reader *reader, const char *name, const char *path)
{
    if (*path != '\0' && access(path, R_OK) != 0)
        problem_of(reader, name, "%s cannot be read: %s", path, strerror(errno));
}

static void check_tls(struct reader *reader, const struct broker_url *url)
{
    static const char *const names[] = {"tls_ca", "tls_cert", "tls_key", "tls_name"};
    const struct config *config = reader->config;
    const char *const values[] = {config->tls_ca, config->tls_cert, config->tls_key, config->tls_name};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (*values[i] != '\0' && !url->is_tls && is_good(reader, names[i]))
            problem_of(reader, names[i],
                       "is for TLS, which this broker is not asked for; write broker = rediss://..., or take it out");
    if (is_good(reader, "tls_ca"))
        check_readable(reader, "tls_ca", config->tls_ca);
    if (!is_good(reader, "tls_cert") || !is_good(reader, "tls_key"))
        return;
    check_readable(reader, "tls_cert", config->tls_cert);
    if ((*config->tls_cert == '\0') != (*config->tls_key == '\0'))
        problem_of(reader, *config->tls_cert != '\0' ? "tls_cert" : "tls_key",
                   "is set, %s is not; a certificate and its key go together",
                   *config->tls_cert != '\0' ? "tls_key" : "tls_cert");
    int fd = *config->tls_key != '\0' ? open_secret(reader, "tls_key", config->tls_key) : -1;
    if (fd >= 0)
        (void)close(fd);
}

static void check_broker(struct reader *reader)
{
    struct config *config = reader->config;
    struct broker_url url;
    char why[CONFIG_PROBLEM_MAX];
    if (!is_good(reader, "broker"))
        return;
    if (config->broker[0] == '\0') {
        problem_of(reader, "broker", "is not set; give --redis redis://HOST:PORT, or write broker = ... into %s",
                   reader->path);
        return;
    }
    bool is_url = broker_url_read(config->broker, &url, why);
    assert(is_url);
    (void)is_url;
    if (config->name[0] == '\0' && is_good(reader, "name"))
        (void)snprintf(config->name, sizeof config->name, "%s", broker_kind_name(url.kind));
    if (config->user[0] != '\0' && url.user[0] != '\0' && strcmp(config->user, url.user) != 0 &&
        is_good(reader, "user"))
        problem_of(reader, "user", "is \"%s\", and the broker's URL names \"%s\"; take one of them out", config->user,
                   url.user);
    if (config->user[0] == '\0' && url.user[0] != '\0' && is_good(reader, "user")) {
        memcpy(config->user, url.user, sizeof config->user);
        reader->origins->of[index_of("user")] = reader->origins->of[index_of("broker")];
    }
    if (url.kind == BROKER_FILE && config->user[0] != '\0')
        problem_of(reader, "user", "is set, and files have none; take it out");
    if (url.kind == BROKER_FILE && config->password_file[0] != '\0' && is_good(reader, "password_file"))
        problem_of(reader, "password_file", "is set, and files have none; take it out");
    check_tls(reader, &url);
}

static void check_together(struct reader *reader)
{
    struct config *config = reader->config;
    check_broker(reader);
    if (config->password_file[0] != '\0' && is_good(reader, "password_file"))
        read_password(reader);
    if (!config->out && !config->in && is_good(reader, "out") && is_good(reader, "in"))
        problem_of(reader, reader->origins->of[index_of("in")].place != CONFIG_DEFAULT ? "in" : "out",
                   "is no, as is the other way; then there is nothing to do: let out or in be yes");
    if (config->wait_replicas > 0 && config->wait_timeout_ns >= config->reply_timeout_ns &&
        is_good(reader, "wait_replicas") && is_good(reader, "wait_timeout") && is_good(reader, "reply_timeout"))
        problem_of(reader, "wait_timeout",
                   "is not shorter than reply_timeout, so a slow replica would look like a broker that is gone");
}

int config_read(const struct config_reading *reading, struct config *out, struct config_origins *out_origins)
{
    struct reader reader = {.reading = reading,
                            .path = reading->path != NULL ? reading->path : CONFIG_PATH,
                            .config = out,
                            .origins = out_origins};
    memset(out, 0, sizeof *out);
    memset(out_origins, 0, sizeof *out_origins);
    read_defaults(&reader);
    if (reading->text != NULL)
        read_text(&reader, reading->text, reading->text_len);
    else
        read_file(&reader);
    read_environment(&reader);
    read_command_line(&reader);
    if (!reader.is_unreadable)
        check_together(&reader);
    if (reader.is_unreadable)
        return EVBUS_EIO;
    return reader.n_elsewhere > 0 ? EVBUS_ECONFIG : reader.n_command_line > 0 ? EVBUS_EINVAL : EVBUS_OK;
}

/* --- and out again ------------------------------------------------------------------------------------------------ */

void config_print(const struct config *config, const struct config_origins *origins, FILE *out)
{
    char value[CONFIG_VALUE_MAX], quoted[2 * CONFIG_VALUE_MAX];
    (void)fprintf(out, "# evbus.conf(5), as evbus-bridge has read it. Behind each value: where it comes from.\n");
    for (size_t i = 0; i < config_n_keys; i++) {
        config_value_write(&config_keys[i], config, value, sizeof value);
        config_file_quote(value, quoted, sizeof quoted);
        (void)fprintf(out, "%s = %s    # ", config_keys[i].name, quoted);
        switch (origins->of[i].place) {
        case CONFIG_DEFAULT:
            (void)fprintf(out, "default\n");
            break;
        case CONFIG_FILE:
            (void)fprintf(out, "%s:%u\n", origins->path, origins->of[i].line);
            break;
        case CONFIG_ENVIRONMENT:
            (void)fprintf(out, "environment, %s\n", origins->of[i].option);
            break;
        case CONFIG_COMMAND_LINE:
            (void)fprintf(out, "command line, %s\n", origins->of[i].option);
            break;
        }
    }
    if (config->password_len > 0)
        (void)fprintf(out, "# the password of %zu bytes is not shown\n", config->password_len);
}

static void note(char *list, size_t cap, const char *name)
{
    size_t len = strlen(list);
    (void)snprintf(list + len, cap - len, "%s%s", len > 0 ? "," : "", name);
}

void config_change(struct config *config, const struct config *fresh, struct config_changes *out)
{
    struct config_changes changes;
    memset(&changes, 0, sizeof changes);
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];
        if (config_value_equals(key, config, fresh))
            continue;
        if (key->is_live) {
            config_value_copy(key, fresh, config);
            note(changes.taken, sizeof changes.taken, key->name);
        } else {
            note(changes.restart, sizeof changes.restart, key->name);
        }
    }
    changes.is_secret_new = memcmp(config->password, fresh->password, sizeof config->password) != 0;
    memcpy(config->password, fresh->password, sizeof config->password);
    config->password_len = fresh->password_len;
    *out = changes;
}

void config_wipe(struct config *config)
{
    explicit_bzero(config, sizeof *config);
}
