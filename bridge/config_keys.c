/* config_keys.c: which keys there are, and what may stand behind them.
 *
 * One table for all who read, print or change a config: a row says where the field is in struct config, of which kind its value is, in
 * which bounds, and what it is when nobody says anything. A new key is a field in config.h, a row here, and its place in share/evbus.conf
 * and in bridge/man/evbus.conf.5.scd; tests/cli/test_bridge_config.sh misses it where it is not.
 *
 * Values are read strictly. Durations need their unit (ns us ms s m h d): who reads `linger = 5` takes it for what he is used to. Sizes are
 * B, KiB, MiB, GiB; "1MB" is refused: half of its readers mean 1,000,000. A 0 needs no unit.
 * Checked by tests/broker/test_config.c, which has a good and a bad value for each row. */
#include "config_keys.h"

#include "args_nearest.h"
#include "broker_url.h"
#include "http_address.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_D (86400 * NS_PER_S)
#define KIB      UINT64_C(1024)

#define FIELD(field) .offset = offsetof(struct config, field), .size = sizeof(((struct config *)NULL)->field)

static const char *const layouts[] = {"topic", "log", NULL};
static const char *const starts[] = {"earliest", "latest", NULL};
static const char *const formats[] = {"logfmt", "json", NULL};
static const char *const levels[] = {"error", "warning", "info", "debug", NULL};

__attribute__((format(printf, 2, 3))) static bool refuse(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, CONFIG_PROBLEM_MAX, format, args);
    va_end(args);
    return false;
}

/* --- what a text may be ------------------------------------------------------------------------------------------- */

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool check_bus(const char *value, char *why)
{
    if (!is_lower_or_digit(*value) || value[strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-_")] != '\0')
        return refuse(why, "is no name of a bus; it is made of a-z 0-9 - _ and begins with a letter or digit");
    return true;
}

static bool check_name(const char *value, char *why)
{
    if (value[strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0')
        return refuse(why, "is no name of a mirror; it has 1 to 32 of a-z 0-9 -");
    return true;
}

static bool check_broker(const char *value, char *why)
{
    struct broker_url url;
    return broker_url_read(value, &url, why);
}

static bool check_user(const char *value, char *why)
{
    return strchr(value, ' ') == NULL || refuse(why, "has a blank in it, which no user of Redis has");
}

/* The daemon's folder is not the one in which somebody wrote the path. */
static bool check_path(const char *value, char *why)
{
    return *value == '/' || refuse(why, "does not begin with a /; write the whole path");
}

static bool check_host(const char *value, char *why)
{
    for (const char *at = value; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr(".-_:", *at) == NULL)
            return refuse(why, "is no name of a host; write the one that the server's certificate has");
    return true;
}

static bool check_metrics(const char *value, char *why)
{
    struct http_address address;
    return http_address_read(value, &address, why);
}

/* As the library has it: segments of a-z 0-9 -, each begins with a letter; * is one, ** at the end is one or more; 3 or 4 of them. */
static bool check_pattern(const char *value, size_t len, char *why)
{
    size_t n_segments = 0, at = 0;
    for (;;) {
        size_t n = 0;
        while (at + n < len && value[at + n] != '.')
            n++;
        const char *segment = value + at;
        bool is_last = at + n == len, is_open = n == 2 && memcmp(segment, "**", 2) == 0;
        bool is_plain = n > 0 && segment[0] >= 'a' && segment[0] <= 'z';
        for (size_t i = 0; i < n && is_plain; i++)
            is_plain = is_lower_or_digit(segment[i]) || segment[i] == '-';
        n_segments++;
        if (!is_plain && !(n == 1 && *segment == '*') && !(is_open && is_last))
            return refuse(
                why,
                "segment %zu of it is neither a word of a-z 0-9 - that begins with a letter, nor *, nor ** at the end",
                n_segments);
        if (is_last && (n_segments > 4 || (n_segments < 3 && !is_open)))
            return refuse(why,
                          "it has %zu segment%s; 3 or 4 are allowed, as in lomash.orders.created or lomash.orders.*",
                          n_segments, n_segments == 1 ? "" : "s");
        if (is_last)
            return true;
        at += n + 1;
    }
}

/* --- the keys ------------------------------------------------------------------------------------------------------ */

/* clang-format off */
const struct config_key config_keys[] = {
    {.name = "bus", FIELD(bus), .kind = CONFIG_TEXT, .check = check_bus, .initial = "lomash"},
    {.name = "broker", FIELD(broker), .kind = CONFIG_TEXT, .check = check_broker, .initial = ""},
    {.name = "name", FIELD(name), .kind = CONFIG_TEXT, .check = check_name, .initial = ""},
    {.name = "user", FIELD(user), .kind = CONFIG_TEXT, .check = check_user, .initial = "", .is_live = true},
    {.name = "password_file", FIELD(password_file), .kind = CONFIG_TEXT, .check = check_path, .initial = "", .is_live = true},
    {.name = "tls_ca", FIELD(tls_ca), .kind = CONFIG_TEXT, .check = check_path, .initial = ""},
    {.name = "tls_cert", FIELD(tls_cert), .kind = CONFIG_TEXT, .check = check_path, .initial = ""},
    {.name = "tls_key", FIELD(tls_key), .kind = CONFIG_TEXT, .check = check_path, .initial = ""},
    {.name = "tls_name", FIELD(tls_name), .kind = CONFIG_TEXT, .check = check_host, .initial = ""},
    {.name = "layout", FIELD(layout), .kind = CONFIG_CHOICE, .choices = layouts, .initial = "topic"},
    {.name = "topics", FIELD(topics), .kind = CONFIG_LIST, .initial = ""},
    {.name = "out", FIELD(out), .kind = CONFIG_FLAG, .initial = "yes"},
    {.name = "in", FIELD(in), .kind = CONFIG_FLAG, .initial = "yes"},
    {.name = "start", FIELD(start), .kind = CONFIG_CHOICE, .choices = starts, .initial = "earliest"},
    {.name = "batch_events", FIELD(batch_events), .kind = CONFIG_COUNT, .least = 1, .most = 1000, .initial = "128", .is_live = true},
    {.name = "batch_bytes", FIELD(batch_bytes), .kind = CONFIG_BYTES, .least = 4 * KIB, .most = 64 * KIB * KIB, .initial = "1MiB",
     .is_live = true},
    {.name = "linger", FIELD(linger_ns), .kind = CONFIG_DURATION, .least = 1000, .most = 10 * NS_PER_S, .is_zero_fine = true,
     .initial = "0s", .is_live = true},
    {.name = "batches", FIELD(batches), .kind = CONFIG_COUNT, .least = 1, .most = CONFIG_BATCHES_MAX, .initial = "4", .is_live = true},
    {.name = "wait_replicas", FIELD(wait_replicas), .kind = CONFIG_COUNT, .least = 0, .most = 16, .initial = "0", .is_live = true},
    {.name = "wait_timeout", FIELD(wait_timeout_ns), .kind = CONFIG_DURATION, .least = NS_PER_S / 1000, .most = 60 * NS_PER_S,
     .initial = "1s", .is_live = true},
    {.name = "connect_timeout", FIELD(connect_timeout_ns), .kind = CONFIG_DURATION, .least = NS_PER_S / 100, .most = 300 * NS_PER_S,
     .initial = "5s", .is_live = true},
    {.name = "reply_timeout", FIELD(reply_timeout_ns), .kind = CONFIG_DURATION, .least = NS_PER_S / 100, .most = 300 * NS_PER_S,
     .initial = "10s", .is_live = true},
    {.name = "trim_age", FIELD(trim_age_ns), .kind = CONFIG_DURATION, .least = NS_PER_S, .most = 3650 * NS_PER_D, .is_zero_fine = true,
     .initial = "1d", .is_live = true},
    {.name = "trim_interval", FIELD(trim_interval_ns), .kind = CONFIG_DURATION, .least = NS_PER_S / 10, .most = NS_PER_D,
     .initial = "1m", .is_live = true},
    {.name = "host_timeout", FIELD(host_timeout_ns), .kind = CONFIG_DURATION, .least = NS_PER_S, .most = 3650 * NS_PER_D,
     .initial = "7d", .is_live = true},
    {.name = "checkpoint", FIELD(checkpoint_ns), .kind = CONFIG_DURATION, .least = NS_PER_S / 100, .most = 60 * NS_PER_S,
     .initial = "1s", .is_live = true},
    {.name = "metrics", FIELD(metrics), .kind = CONFIG_TEXT, .check = check_metrics, .initial = ""},
    {.name = "log_format", FIELD(log_json), .kind = CONFIG_CHOICE, .choices = formats, .initial = "logfmt", .is_live = true},
    {.name = "log_level", FIELD(log_level), .kind = CONFIG_CHOICE, .choices = levels, .initial = "info", .is_live = true},
};
/* clang-format on */
const size_t config_n_keys = sizeof config_keys / sizeof config_keys[0];
static_assert(sizeof config_keys / sizeof config_keys[0] <= CONFIG_KEYS_MAX, "each key has its origin");

const struct config_key *config_key_find(const char *name, const char **out_meant)
{
    /* What others call it, and is not near. */
    static const char *const elsewhere[][2] = {
        {"redis", "broker"},
        {"url", "broker"},
        {"redis_url", "broker"},
        {"password", "password_file"},
        {"username", "user"},
        {"ca_file", "tls_ca"},
        {"cert_file", "tls_cert"},
        {"key_file", "tls_key"},
        {"maxlen", "trim_age"},
        {"retention", "trim_age"},
        {"batch_size", "batch_events"},
        {"prometheus", "metrics"},
    };
    const char *best = NULL;
    size_t best_distance = 0;
    for (size_t i = 0; i < config_n_keys; i++) {
        if (strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
        args_nearest(name, config_keys[i].name, &best, &best_distance);
    }
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++)
        if (strcmp(elsewhere[i][0], name) == 0)
            best = elsewhere[i][1];
    *out_meant = best;
    return NULL;
}

/* --- values ------------------------------------------------------------------------------------------------------- */

struct unit {
    const char *name;
    uint64_t size;
};

static const struct unit duration_units[] = {{"ns", 1},       {"us", 1000},         {"ms", 1000000},
                                             {"s", NS_PER_S}, {"m", 60 * NS_PER_S}, {"h", 3600 * NS_PER_S},
                                             {"d", NS_PER_D}};
static const struct unit size_units[] = {{"B", 1}, {"KiB", KIB}, {"MiB", KIB *KIB}, {"GiB", KIB *KIB *KIB}};
enum {
    N_DURATION_UNITS = sizeof duration_units / sizeof duration_units[0],
    N_SIZE_UNITS = sizeof size_units / sizeof size_units[0]
};

static bool read_digits(const char **text, uint64_t *out_number)
{
    uint64_t number = 0;
    const char *at = *text;
    for (; isdigit((unsigned char)*at); at++)
        if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
            return false;
    if (at == *text)
        return false;
    *text = at;
    *out_number = number;
    return true;
}

/* Digits and a unit, with or without a blank between; a 0 needs none. */
static bool read_measure(const char *text, const struct unit *units, size_t n_units, uint64_t *out_number)
{
    uint64_t number = 0;
    if (!read_digits(&text, &number))
        return false;
    text += *text == ' ';
    if (number == 0 && *text == '\0') {
        *out_number = 0;
        return true;
    }
    for (size_t i = 0; i < n_units; i++)
        if (strcmp(text, units[i].name) == 0)
            return !__builtin_mul_overflow(number, units[i].size, out_number);
    return false;
}

bool config_duration_read(const char *text, uint64_t *out_ns)
{
    uint64_t ns = 0;
    if (!read_measure(text, duration_units, N_DURATION_UNITS, &ns) || ns > INT64_MAX)
        return false;
    *out_ns = ns;
    return true;
}

/* In the greatest unit that leaves no rest. */
static void write_measure(uint64_t number, const struct unit *units, size_t n_units, const char *zero, char *out,
                          size_t cap)
{
    size_t at = n_units - 1;
    while (at > 0 && number % units[at].size != 0)
        at--;
    if (number == 0)
        (void)snprintf(out, cap, "%s", zero);
    else
        (void)snprintf(out, cap, "%" PRIu64 "%s", number / units[at].size, units[at].name);
}

static void write_number(const struct config_key *key, uint64_t number, char *out, size_t cap)
{
    if (key->kind == CONFIG_DURATION)
        write_measure(number, duration_units, N_DURATION_UNITS, "0s", out, cap);
    else if (key->kind == CONFIG_BYTES)
        write_measure(number, size_units, N_SIZE_UNITS, "0B", out, cap);
    else
        (void)snprintf(out, cap, "%" PRIu64, number);
}

void config_show(const char *text, char out[CONFIG_SHOWN_SIZE])
{
    const char *scheme = strstr(text, "://"), *at = strrchr(text, '@');
    const char *secret = scheme != NULL && at != NULL && at > scheme
                             ? memchr(scheme + 3, ':', (size_t)(at - scheme) - 3 + 1)
                             : NULL;
    if (secret == NULL || secret > at)
        secret = at = NULL;
    size_t n = 0, n_shown = 0;
    out[n++] = '"';
    for (; *text != '\0' && n_shown < 60; text++, n_shown++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c >= 0x7f)
            n += (size_t)snprintf(out + n, CONFIG_SHOWN_SIZE - n, "\\x%02x", c);
        else
            out[n++] = (char)c;
        if (secret != NULL && text == secret) {
            memcpy(out + n, "***", 3);
            n += 3;
            text = at - 1;
            secret = NULL;
        }
    }
    (void)snprintf(out + n, CONFIG_SHOWN_SIZE - n, "%s\"", *text != '\0' ? "..." : "");
}

/* The lists of names in messages: "a, b or c". */
static void write_choices(const char *const *choices, char *out, size_t cap)
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; choices[i] != NULL && len < cap; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s%s",
                                i == 0                   ? ""
                                : choices[i + 1] == NULL ? " or "
                                                         : ", ",
                                choices[i]);
}

static bool read_text(const struct config_key *key, const char *text, struct config *config, char *why)
{
    char shown[CONFIG_SHOWN_SIZE], what[CONFIG_PROBLEM_MAX - CONFIG_SHOWN_SIZE - 8], full[CONFIG_PROBLEM_MAX] = "";
    config_show(text, shown);
    if (strlen(text) >= key->size)
        return refuse(why, "%s has %zu bytes; at most %zu are allowed", shown, strlen(text), key->size - 1);
    if (*text != '\0' && key->check != NULL && !key->check(text, full)) {
        (void)snprintf(what, sizeof what, "%.*s", (int)sizeof what - 1, full);
        return refuse(why, "%s %s", shown, what);
    }
    char *field = (char *)config + key->offset;
    memset(field, 0, key->size);
    memcpy(field, text, strlen(text));
    return true;
}

static bool read_list(const char *text, struct config *config, char *why)
{
    char patterns[CONFIG_TOPICS_MAX][sizeof config->topics[0]];
    size_t n = 0;
    memset(patterns, 0, sizeof patterns);
    for (const char *at = text; *text != '\0';) {
        at += strspn(at, " \t");
        size_t len = strcspn(at, ","), kept = len;
        while (kept > 0 && (at[kept - 1] == ' ' || at[kept - 1] == '\t'))
            kept--;
        char item[sizeof patterns[0] + 1], shown[CONFIG_SHOWN_SIZE], what[CONFIG_PROBLEM_MAX] = "";
        (void)snprintf(item, sizeof item, "%.*s", (int)(kept < sizeof item ? kept : sizeof item - 1), at);
        config_show(item, shown);
        if (kept == 0)
            return refuse(why,
                          "has nothing between two commas, or at an end; write lomash.orders.*, lomash.payments.*");
        if (kept >= sizeof patterns[0])
            return refuse(why, "%s has %zu bytes; at most %zu are allowed", shown, kept, sizeof patterns[0] - 1);
        if (!check_pattern(at, kept, what))
            return refuse(why, "%s is no pattern of topics: %.300s", shown, what);
        if (n == CONFIG_TOPICS_MAX)
            return refuse(why, "has more than %d patterns; * stands for one segment, ** at the end for all that follow",
                          CONFIG_TOPICS_MAX);
        memcpy(patterns[n++], at, kept);
        at += len;
        if (*at == '\0')
            break;
        at++;
    }
    memcpy(config->topics, patterns, sizeof patterns);
    config->n_topics = n;
    return true;
}

static void store_number(const struct config_key *key, uint64_t number, struct config *config)
{
    char *field = (char *)config + key->offset;
    uint32_t small = (uint32_t)number;
    bool flag = number != 0;
    if (key->size == sizeof number)
        memcpy(field, &number, sizeof number);
    else if (key->size == sizeof small)
        memcpy(field, &small, sizeof small); /* enums and int are as large, and their numbers small */
    else
        memcpy(field, &flag, sizeof flag);
}

static uint64_t load_number(const struct config_key *key, const struct config *config)
{
    const char *field = (const char *)config + key->offset;
    uint64_t number = 0;
    uint32_t small = 0;
    bool flag = false;
    if (key->size == sizeof number)
        memcpy(&number, field, sizeof number);
    else if (key->size == sizeof small)
        memcpy(&small, field, sizeof small);
    else
        memcpy(&flag, field, sizeof flag);
    return key->size == sizeof number ? number : key->size == sizeof small ? small : flag;
}

static bool read_number(const struct config_key *key, const char *text, struct config *config, char *why)
{
    char shown[CONFIG_SHOWN_SIZE], least[32], most[32];
    const char *rest = text;
    uint64_t number = 0;
    config_show(text, shown);
    if (key->kind == CONFIG_COUNT && (!read_digits(&rest, &number) || *rest != '\0'))
        return refuse(why, "%s is no number; write digits alone", shown);
    if (key->kind == CONFIG_DURATION && !config_duration_read(text, &number))
        return refuse(why, "%s is no duration; write a number and ns, us, ms, s, m, h or d, e.g. 250ms", shown);
    if (key->kind == CONFIG_BYTES && !read_measure(text, size_units, N_SIZE_UNITS, &number))
        return refuse(why, "%s is no size; write a number and B, KiB, MiB or GiB, e.g. 256KiB", shown);
    if ((number < key->least || number > key->most) && !(number == 0 && key->is_zero_fine)) {
        write_number(key, key->least, least, sizeof least);
        write_number(key, key->most, most, sizeof most);
        return refuse(why, "%s is out of range; %s to %s are allowed%s", shown, least, most,
                      key->is_zero_fine ? ", and 0" : "");
    }
    store_number(key, number, config);
    return true;
}

static bool read_choice(const struct config_key *key, const char *text, struct config *config, char *why)
{
    char shown[CONFIG_SHOWN_SIZE], list[128];
    for (size_t i = 0; key->choices[i] != NULL; i++)
        if (strcmp(key->choices[i], text) == 0) {
            store_number(key, i, config);
            return true;
        }
    config_show(text, shown);
    write_choices(key->choices, list, sizeof list);
    return refuse(why, "%s is not known; write %s", shown, list);
}

static bool read_flag(const struct config_key *key, const char *text, struct config *config, char *why)
{
    static const char *const words[] = {"no", "yes", "off", "on", "false", "true", "0", "1"};
    char shown[CONFIG_SHOWN_SIZE];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i], text) == 0) {
            store_number(key, i % 2, config);
            return true;
        }
    config_show(text, shown);
    return refuse(why, "%s is neither yes nor no", shown);
}

bool config_value_read(const struct config_key *key, const char *text, struct config *config, char *why)
{
    char shown[CONFIG_SHOWN_SIZE];
    for (const char *at = text; *at != '\0'; at++)
        if (((unsigned char)*at < 0x20 && *at != '\t') || *at == 0x7f) {
            config_show(text, shown);
            return refuse(why, "%s has a control character in it; take it out", shown);
        }
    switch (key->kind) {
    case CONFIG_TEXT:
        return read_text(key, text, config, why);
    case CONFIG_LIST:
        return read_list(text, config, why);
    case CONFIG_FLAG:
        return read_flag(key, text, config, why);
    case CONFIG_CHOICE:
        return read_choice(key, text, config, why);
    case CONFIG_COUNT:
    case CONFIG_BYTES:
    case CONFIG_DURATION:
        return read_number(key, text, config, why);
    }
    return refuse(why, "is of no kind");
}

void config_value_write(const struct config_key *key, const struct config *config, char *out, size_t cap)
{
    switch (key->kind) {
    case CONFIG_TEXT:
        (void)snprintf(out, cap, "%s", (const char *)config + key->offset);
        return;
    case CONFIG_LIST: {
        size_t len = 0;
        out[0] = '\0';
        for (size_t i = 0; i < config->n_topics && len < cap; i++)
            len += (size_t)snprintf(out + len, cap - len, "%s%s", i == 0 ? "" : ", ", config->topics[i]);
        return;
    }
    case CONFIG_FLAG:
        (void)snprintf(out, cap, "%s", load_number(key, config) != 0 ? "yes" : "no");
        return;
    case CONFIG_CHOICE:
        (void)snprintf(out, cap, "%s", key->choices[load_number(key, config)]);
        return;
    case CONFIG_COUNT:
    case CONFIG_BYTES:
    case CONFIG_DURATION:
        write_number(key, load_number(key, config), out, cap);
        return;
    }
}

bool config_value_equals(const struct config_key *key, const struct config *left, const struct config *right)
{
    return memcmp((const char *)left + key->offset, (const char *)right + key->offset, key->size) == 0;
}

void config_value_copy(const struct config_key *key, const struct config *from, struct config *to)
{
    memcpy((char *)to + key->offset, (const char *)from + key->offset, key->size);
    if (key->kind == CONFIG_LIST)
        to->n_topics = from->n_topics;
}
