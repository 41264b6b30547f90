/* args.c: from argv to one struct of checked values.
 *
 *     evbus  [global options]  COMMAND  [options of the command, global options, operands in any order]  [-- operands]
 *
 * Each command brings a table of options (struct arg_option); a row says how its value is read and where in struct args
 * it goes. The command's table is looked at first, so that pub's --version VERSION may stand beside the global
 * --version. Forms: --name VALUE, --name=VALUE, -n VALUE, -nVALUE. A minus with a digit behind it is an operand,
 * because -5 is JSON and no option is a digit. Nothing is abbreviated: a script that works today works when an option
 * is added.
 *
 * Every value is checked here, before a command does anything, so a mistyped command changes nothing and ends with 2.
 * The one thing not checked here is what only the bus knows: names of topics, services, buses. */
#include "args.h"
#include "output.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S    UINT64_C(1000000000)
#define END_OF_2553 INT64_C(18429292800) /* seconds since 1970; 64 bits of nanoseconds end in July 2554 */

void args_init(struct args *args, const char **operands)
{
    *args = (struct args){
        .timeout_ns = ARG_ABSENT,
        .stop_timeout_ns = ARG_ABSENT,
        .expires_in_ns = ARG_ABSENT,
        .count = ARG_ABSENT,
        .partition = ARG_ABSENT,
        .words = ARG_ABSENT,
        .frame = ARG_ABSENT,
        .operands = operands,
    };
}

void args_complete(struct args *args)
{
    args->is_bus_given = args->bus != NULL;
    if (args->bus == NULL)
        args->bus = getenv("EVBUS_BUS");
    if (args->bus == NULL || args->bus[0] == '\0')
        args->bus = "lomash";
}

/* --- values ------------------------------------------------------------------------------------------------------- */

/* Decimal digits from *text on, moving it behind them; false: none, or more than 64 bits. */
static bool read_digits(const char **text, uint64_t *out_number)
{
    uint64_t number = 0;
    if (!isdigit((unsigned char)**text))
        return false;
    for (; isdigit((unsigned char)**text); ++*text)
        if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
            __builtin_add_overflow(number, (uint64_t)(**text - '0'), &number))
            return false;
    *out_number = number;
    return true;
}

static bool read_count(const char *text, uint64_t *out_count)
{
    uint64_t count;
    if (!read_digits(&text, &count) || *text != '\0' || count == ARG_ABSENT)
        return false;
    *out_count = count;
    return true;
}

/* "50/s", "50": a second, from 1 on. */
static bool read_rate(const char *text, uint64_t *out_rate)
{
    uint64_t rate;
    if (!read_digits(&text, &rate) || (*text != '\0' && strcmp(text, "/s") != 0) || rate < 1 || rate > UINT32_MAX)
        return false;
    *out_rate = rate;
    return true;
}

bool args_read_duration(const char *text, uint64_t *out_ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"ns", 1},
                 {"us", 1000},
                 {"ms", 1000000},
                 {"s", NS_PER_S},
                 {"m", 60 * NS_PER_S},
                 {"h", 3600 * NS_PER_S},
                 {"d", 86400 * NS_PER_S}};
    uint64_t number, ns;
    if (!read_digits(&text, &number))
        return false;
    if (number == 0 && *text == '\0') {
        *out_ns = 0;
        return true;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; ++i)
        if (strcmp(text, units[i].name) == 0) {
            if (__builtin_mul_overflow(number, units[i].ns, &ns) || ns > INT64_MAX)
                return false;
            *out_ns = ns;
            return true;
        }
    return false;
}

/* "+02:00", "Z": seconds east of UTC. */
static bool read_offset(const char *text, int64_t *out_seconds)
{
    if ((*text == 'Z' || *text == 'z') && text[1] == '\0') {
        *out_seconds = 0;
        return true;
    }
    static const char shape[] = "+dd:dd";
    if (strlen(text) != strlen(shape))
        return false;
    for (size_t i = 1; shape[i] != '\0'; ++i)
        if (shape[i] == 'd' ? !isdigit((unsigned char)text[i]) : text[i] != shape[i])
            return false;
    int hours = (text[1] - '0') * 10 + text[2] - '0';
    int minutes = (text[4] - '0') * 10 + text[5] - '0';
    if ((*text != '+' && *text != '-') || hours > 23 || minutes > 59)
        return false;
    *out_seconds = (*text == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

/* RFC 3339: 2026-02-01T09:30:00[.123][Z|+02:00], from 1970 to 2553, as the library reads it in envelopes. */
static bool read_time(const char *text, uint64_t *out_ns)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    for (size_t i = 0; shape[i] != '\0'; ++i)
        if (shape[i] == 'd' ? !isdigit((unsigned char)text[i]) : toupper((unsigned char)text[i]) != shape[i])
            return false;
    struct tm said = {.tm_isdst = 0};
    said.tm_year = atoi(text) - 1900;
    said.tm_mon = atoi(text + 5) - 1;
    said.tm_mday = atoi(text + 8);
    said.tm_hour = atoi(text + 11);
    said.tm_min = atoi(text + 14);
    said.tm_sec = atoi(text + 17);
    bool is_leap = said.tm_sec == 60; /* the second after 59 */
    said.tm_sec -= is_leap;
    struct tm made = said;
    int64_t seconds = timegm(&made) + is_leap;
    if (said.tm_year < 1970 - 1900 || said.tm_year > 2553 - 1900 || made.tm_mon != said.tm_mon ||
        made.tm_mday != said.tm_mday || made.tm_hour != said.tm_hour || made.tm_min != said.tm_min ||
        made.tm_sec != said.tm_sec)
        return false; /* the 31st of February */
    text += strlen(shape);

    uint64_t fraction_ns = 0;
    if (*text == '.') {
        uint64_t place = NS_PER_S / 10;
        if (!isdigit((unsigned char)*++text))
            return false;
        for (; isdigit((unsigned char)*text); ++text, place /= 10)
            fraction_ns += (uint64_t)(*text - '0') * place;
    }
    int64_t east;
    if (!read_offset(text, &east))
        return false;
    seconds -= east;
    if (seconds < 0 || seconds >= END_OF_2553 || (is_leap && seconds % (24 * 60 * 60) != 0))
        return false; /* leap seconds end a day of UTC */
    *out_ns = (uint64_t)seconds * NS_PER_S + fraction_ns;
    return *out_ns != 0;
}

static bool read_position(const char *text, uint64_t *out_position)
{
    return *text != '\0' && read_digits(&text, out_position) && *text == '\0';
}

/* A receipt as `pub` prints it: lomash.orders/2@123456. */
static bool read_receipt(const char *text, struct args *args)
{
    size_t len = strcspn(text, "/@");
    uint64_t partition = 0;
    if (len == 0 || len >= sizeof args->to.log || text[len] != '/')
        return false;
    memcpy(args->to.log, text, len);
    args->to.log[len] = '\0';
    text += len + 1;
    if (!read_digits(&text, &partition) || partition > UINT32_MAX || *text != '@')
        return false;
    args->to.partition = (uint32_t)partition;
    return read_position(text + 1, &args->to.position);
}

/* 0 to 65535 without leading zeros, moving *text behind it. */
static bool read_part(const char **text, uint64_t *out_part)
{
    const char *begin = *text;
    return read_digits(text, out_part) && *out_part <= UINT16_MAX && (*begin != '0' || *text == begin + 1);
}

bool args_read_version(const char *text, size_t len, uint16_t out_version[2])
{
    const char *end = text + len; /* what stands there is no digit and no point */
    uint64_t major, minor = 0;
    if (!read_part(&text, &major) || (text < end && *text == '.' && (++text, !read_part(&text, &minor))) ||
        text != end || major < 1)
        return false;
    out_version[0] = (uint16_t)major;
    out_version[1] = (uint16_t)minor;
    return true;
}

static bool read_mode(const char *text, uint64_t *out_mode)
{
    uint64_t mode = 0;
    if (strlen(text) < 3 || strlen(text) > 4)
        return false;
    for (; *text >= '0' && *text <= '7'; ++text)
        mode = mode * 8 + (uint64_t)(*text - '0');
    if (*text != '\0' || mode == 0 || mode > 0777)
        return false;
    *out_mode = mode;
    return true;
}

/* 8-4-4-4-12 hexadecimal digits, not all of them 0: that means "make one". */
bool args_read_uuid(const char *text, uint8_t out_id[16])
{
    static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    uint8_t id[16] = {0}, any = 0;
    size_t n_digits = 0;
    if (strlen(text) != strlen(shape))
        return false;
    for (size_t i = 0; shape[i] != '\0'; ++i) {
        if (shape[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != shape[i])
            return false;
        if (shape[i] != 'x')
            continue;
        int c = tolower((unsigned char)text[i]), digit = c <= '9' ? c - '0' : c - 'a' + 10;
        id[n_digits / 2] = (uint8_t)(id[n_digits / 2] << 4 | digit);
        any |= (uint8_t)digit;
        ++n_digits;
    }
    if (any == 0)
        return false;
    memcpy(out_id, id, sizeof id);
    return true;
}

/* Puts the value where the option says. Returns 0, or 2 after the message. */
static int store(struct args *args, const struct arg_option *option, const char *value)
{
    char *field = (char *)args + option->offset;
    const char *expected = NULL;
    switch (option->kind) {
    case ARG_FLAG:
        *(bool *)field = true;
        break;
    case ARG_TEXT:
        *(const char **)field = value;
        break;
    case ARG_TEXTS: {
        struct arg_texts *texts = (void *)field;
        if (texts->n == ARG_TEXTS_MAX)
            return complain(EXIT_USAGE, "--%s: given more than %d times", option->name, ARG_TEXTS_MAX);
        texts->at[texts->n++] = value;
        break;
    }
    case ARG_COUNT:
        if (!read_count(value, (uint64_t *)(void *)field))
            expected = "a whole number";
        break;
    case ARG_DURATION:
        if (!args_read_duration(value, (uint64_t *)(void *)field))
            expected = "a duration: a whole number with ns, us, ms, s, m, h or d behind it, e.g. 500ms";
        break;
    case ARG_TIME:
        if (!read_time(value, (uint64_t *)(void *)field))
            expected = "a time as in RFC 3339, e.g. 2026-02-01T09:30:00Z";
        break;
    case ARG_FROM:
        args->from.is_given = true;
        args->from.where = EVBUS_FROM_LATEST;
        if (strcmp(value, "earliest") == 0) {
            args->from.where = EVBUS_FROM_EARLIEST;
        } else if (value[0] == '@') {
            args->from.where = EVBUS_FROM_POSITION;
            if (!read_position(value + 1, &args->from.position))
                expected = "a position as receipts tell it, e.g. @123456";
        } else if (strcmp(value, "latest") != 0) {
            args->from.where = EVBUS_FROM_TIME;
            if (!read_time(value, &args->from.time_ns))
                expected = "earliest, latest, @POSITION or a time as in RFC 3339, e.g. 2026-02-01T09:30:00Z";
        }
        break;
    case ARG_TO:
        args->to.is_given = true;
        args->to.where = EVBUS_FROM_LATEST;
        if (strcmp(value, "earliest") == 0) {
            args->to.where = EVBUS_FROM_EARLIEST;
        } else if (strchr(value, '@') != NULL) {
            args->to.where = EVBUS_FROM_POSITION;
            if (!read_receipt(value, args))
                expected = "a position as receipts tell it, e.g. lomash.orders/2@123456";
        } else if (strcmp(value, "latest") != 0) {
            args->to.where = EVBUS_FROM_TIME;
            if (!read_time(value, &args->to.time_ns))
                expected = "earliest, latest, LOG/PARTITION@POSITION or a time as in RFC 3339, e.g. "
                           "2026-02-01T09:30:00Z";
        }
        break;
    case ARG_UUID:
        if (!args_read_uuid(value, (uint8_t *)field))
            expected = "a UUID, e.g. 0198c6f2-7d1e-7a44-9b5f-3e6a0c1d2b4f";
        break;
    case ARG_VERSION:
        if (!args_read_version(value, strlen(value), (uint16_t *)(void *)field))
            expected = "MAJOR.MINOR from 1.0 to 65535.65535, e.g. 2.0";
        break;
    case ARG_MODE:
        if (!read_mode(value, (uint64_t *)(void *)field))
            expected = "permissions in octal, e.g. 0660";
        break;
    case ARG_RATE:
        if (!read_rate(value, (uint64_t *)(void *)field))
            expected = "how many a second, e.g. 50/s";
        break;
    }
    if (expected != NULL)
        return complain(EXIT_USAGE, "--%s \"%s\": expected %s", option->name, value, expected);
    return 0;
}

/* --- options ------------------------------------------------------------------------------------------------------ */

static const struct arg_option *find(const struct arg_option *table, const char *name, size_t name_len, char letter)
{
    for (; table != NULL && table->name != NULL; ++table)
        if (letter != 0 ? table->letter == letter
                        : strncmp(table->name, name, name_len) == 0 && table->name[name_len] == '\0')
            return table;
    return NULL;
}

static int unknown(const struct arg_option *own, const struct arg_option *global, const char *given, size_t given_len)
{
    const struct arg_option *tables[] = {own, global};
    const char *best = NULL;
    size_t best_distance = 0;
    char name[64] = "";
    if (given_len > 2 && given_len < sizeof name)
        memcpy(name, given + 2, given_len - 2);
    for (size_t t = 0; t < 2; ++t)
        for (const struct arg_option *row = tables[t]; row != NULL && row->name != NULL; ++row)
            if (row->help != NULL)
                args_nearest(name, row->name, &best, &best_distance);
    if (best != NULL)
        return complain(EXIT_USAGE, "unknown option %.*s; did you mean --%s?", (int)given_len, given, best);
    if (own == NULL)
        return complain(EXIT_USAGE, "unknown option %.*s; a command's options stand behind its name (evbus --help)",
                        (int)given_len, given);
    return complain(EXIT_USAGE, "unknown option %.*s; --help lists the options", (int)given_len, given);
}

static bool is_option(const char *text)
{
    return text[0] == '-' && text[1] != '\0' && !isdigit((unsigned char)text[1]);
}

int args_parse(struct args *args, const struct arg_option *own, const struct arg_option *global, bool only_options,
               int argc, char **argv, int *at)
{
    bool options_ended = false;
    while (*at < argc) {
        const char *given = argv[*at];
        if (options_ended || !is_option(given)) {
            if (only_options)
                return 0;
            args->operands[args->n_operands++] = given;
            ++*at;
            continue;
        }
        ++*at;
        if (strcmp(given, "--") == 0) {
            options_ended = true;
            continue;
        }
        bool is_long = given[1] == '-';
        size_t given_len = is_long ? strcspn(given, "=") : 2;
        size_t name_len = is_long ? given_len - 2 : 0;
        char letter = is_long ? '\0' : given[1];
        const struct arg_option *option = find(own, given + 2, name_len, letter);
        if (option == NULL)
            option = find(global, given + 2, name_len, letter);
        if (option == NULL)
            return unknown(own, global, given, given_len);

        const char *value = given[given_len] == '\0' ? NULL : given + given_len + (is_long ? 1 : 0);
        if (option->kind == ARG_FLAG && value != NULL)
            return complain(EXIT_USAGE, "--%s takes no value, but got \"%s\"", option->name, value);
        if (option->kind != ARG_FLAG && value == NULL) {
            if (*at == argc)
                return complain(EXIT_USAGE, "--%s needs a value: --%s %s", option->name, option->name, option->value);
            value = argv[(*at)++];
        }
        int exit_code = store(args, option, value);
        if (exit_code != 0)
            return exit_code;
    }
    return 0;
}

/* --- files -------------------------------------------------------------------------------------------------------- */

int args_read_file(const char *path, size_t max_bytes, char **out_text, size_t *out_len)
{
    bool is_stdin = strcmp(path, "-") == 0;
    const char *shown = is_stdin ? "standard input" : path;
    int exit_code = 0;
    size_t len = 0, cap = 0;
    char *text = NULL;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return complain(EXIT_IO, "%s: %s", shown, strerror(errno));
    for (;;) {
        if (cap - len < 2) {
            cap = cap == 0 ? 65536 : cap * 2;
            char *larger = realloc(text, cap);
            if (larger == NULL) {
                exit_code = complain(EXIT_CANNOT_CREATE, "%s: out of memory", shown);
                break;
            }
            text = larger;
        }
        ssize_t n = read(fd, text + len, cap - len - 1);
        if (n < 0 && errno == EINTR && !is_stopping())
            continue;
        if (n < 0) {
            exit_code = complain(EXIT_IO, "%s: %s", shown, strerror(errno));
            break;
        }
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > max_bytes) {
            exit_code = complain(EXIT_DATA, "%s: more than %zu bytes", shown, max_bytes);
            break;
        }
    }
    if (!is_stdin)
        (void)close(fd); /* it was only read */
    if (exit_code != 0) {
        free(text);
        return exit_code;
    }
    text[len] = '\0';
    *out_text = text;
    *out_len = len;
    return 0;
}
