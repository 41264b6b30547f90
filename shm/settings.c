/* settings.c: typed values out of a JSON object, each message with the path.
 *
 * What people write by hand is read strictly: an unknown key, a wrong type, a value out of range, a name written twice
 * are errors, because a setting that is skipped in silence is found out in the night. Every message is
 *
 *     topics."lomash.orders.created".producers[1]: must be a name; found 17
 *     path, as one would type it                 : the mend         ; what was found
 *
 * so the reader carries its place in struct settings and moves it as it goes: settings_go() sets the key, lists set the
 * index and take it back. Readers chain with && and stop at the first fault. Defaults need no code: an absent value is
 * NULL, and NULL leaves its target alone.
 *
 * Durations are "10ms" (ns us ms s m h d), sizes "240KiB" (Ki Mi Gi, with or without B) or a bare number of bytes.
 * "1MB" is refused: half of its readers mean 1,000,000. Checked by tests/unit/test_catalogue.c. */
#include "settings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "nearest.h"

enum { SHOWN_MAX = 60 };

static int syntax_error(const struct settings *s, const char *text, size_t at, const char *what)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        line += text[i] == '\n';
        column = text[i] == '\n' ? 1 : column + 1;
    }
    return error_set(s->err, s->code, "line %zu, column %zu: %s", line, column, what);
}

/* Of a text that json_check() has passed, jansson refuses names that stand twice, NULs, numbers out of range and lone
 * surrogates. Whatever else it says is about an allocation that failed, though it may call it an invalid token. */
static bool is_about_text(const json_error_t *fault)
{
    enum json_error_code code = json_error_code(fault);
    return code == json_error_duplicate_key || code == json_error_null_character ||
           code == json_error_null_byte_in_key || code == json_error_numeric_overflow ||
           strncmp(fault->text, "invalid Unicode", strlen("invalid Unicode")) == 0;
}

/* Reads twice: jansson 2.14 drops a letter of a long name when its token buffer cannot grow, and does not say so. */
int settings_load(const struct settings *s, const char *text, size_t len, json_t **out_root)
{
    struct json_fault json_fault;
    if (!json_check(text, len, &json_fault))
        return syntax_error(s, text, json_fault.at, json_fault.what);
    json_error_t fault = {.text = ""};
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
    if (root == NULL && is_about_text(&fault))
        return syntax_error(s, text, fault.position > 0 ? (size_t)fault.position - 1 : 0, fault.text);
    json_t *again = root != NULL ? json_loadb(text, len, JSON_DECODE_ANY, &fault) : NULL;
    bool is_whole = again != NULL && json_equal(root, again);
    json_decref(again);
    if (!is_whole) {
        json_decref(root);
        return error_no_memory(s->err, "the text of the catalogue");
    }
    *out_root = root;
    return EVBUS_OK;
}

json_t *settings_go(struct settings *s, const json_t *object, const char *key)
{
    s->key = key;
    return json_object_get(object, key);
}

/* ---- messages ---- */

bool settings_wrong(const struct settings *s, const char *format, ...)
{
    char path[256], index[24] = "", what[sizeof s->err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (s->index >= 0)
        snprintf(index, sizeof index, "[%td]", s->index);
    const char *quote = s->name != NULL ? "\"" : "", *name = s->name != NULL ? s->name : "";
    snprintf(path, sizeof path, "%s%s%s%.*s%s%s%s%s", s->section, s->name != NULL ? "." : "", quote,
             settings_short_len(name), name, quote, s->key != NULL ? "." : "", s->key != NULL ? s->key : "", index);
    error_set(s->err, s->code, "%s: %s", path, what);
    return false;
}

int settings_short_len(const char *text)
{
    size_t len = strlen(text), cut = len < SHOWN_MAX ? len : SHOWN_MAX;
    while (cut < len && cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80)
        cut--;
    return (int)cut;
}

const char *settings_found(struct settings *s, const json_t *value)
{
    const char *text = json_string_value(value);
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        snprintf(s->found, sizeof s->found, "\"%.*s\"", settings_short_len(text), text);
        return s->found;
    case JSON_INTEGER:
        snprintf(s->found, sizeof s->found, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return s->found;
    case JSON_REAL:
        return "a fraction";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        break;
    }
    return "null";
}

const char *settings_size_text(uint64_t bytes, char buffer[SETTINGS_SIZE_MAX])
{
    if (bytes % MIB == 0 && bytes != 0)
        snprintf(buffer, SETTINGS_SIZE_MAX, "%" PRIu64 "MiB", bytes / MIB);
    else if (bytes % KIB == 0 && bytes != 0)
        snprintf(buffer, SETTINGS_SIZE_MAX, "%" PRIu64 "KiB", bytes / KIB);
    else
        snprintf(buffer, SETTINGS_SIZE_MAX, "%" PRIu64 " bytes", bytes);
    return buffer;
}

/* ---- shapes ---- */

bool settings_kind(struct settings *s, const json_t *value, bool is_right, const char *kind)
{
    return value == NULL || is_right || settings_wrong(s, "must be %s; found %s", kind, settings_found(s, value));
}

bool settings_keys(struct settings *s, json_t *object, const char *const *allowed, size_t n_allowed)
{
    if (!settings_kind(s, object, json_is_object(object), "an object"))
        return false;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        struct nearest nearest = {.wanted = key};
        size_t i = 0;
        for (; i < n_allowed && strcmp(allowed[i], key) != 0; i++)
            nearest_try(&nearest, allowed[i]);
        char hint[NEAREST_TEXT_MAX];
        if (i == n_allowed)
            return settings_wrong(s, "unknown key \"%.*s\"%s", settings_short_len(key), key,
                                  nearest_text(&nearest, hint));
    }
    return true;
}

bool settings_names(struct settings *s, json_t *value, bool (*check)(struct settings *s, const char *name),
                    const char **out_names, size_t *out_n)
{
    if (!settings_kind(s, value, json_is_array(value), "a list of names"))
        return false;
    size_t n = json_array_size(value);
    for (size_t i = 0; i < n; i++) {
        const json_t *name = json_array_get(value, i);
        s->index = (ptrdiff_t)i;
        if (!settings_kind(s, name, json_is_string(name), "a name") || !check(s, json_string_value(name)))
            return false;
        out_names[i] = json_string_value(name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(out_names[k], out_names[i]) == 0)
                return settings_wrong(s, "\"%s\" stands there twice", out_names[i]);
    }
    s->index = -1;
    if (value != NULL)
        *out_n = n;
    return true;
}

/* ---- values ---- */

bool settings_bool(struct settings *s, const json_t *value, bool *out)
{
    if (json_is_boolean(value))
        *out = json_is_true(value);
    return settings_kind(s, value, json_is_boolean(value), "true or false");
}

bool settings_count(struct settings *s, const json_t *value, uint32_t min, uint32_t max, uint32_t *out)
{
    if (value == NULL)
        return true;
    json_int_t found = json_integer_value(value);
    if (!json_is_integer(value) || found < min || found > max)
        return settings_wrong(s, "must be a number, %" PRIu32 " to %" PRIu32 "; found %s", min, max,
                              settings_found(s, value));
    *out = (uint32_t)found;
    return true;
}

struct unit {
    const char *name;
    uint64_t factor;
};

/* A number and one of n units. What is too large becomes UINT64_MAX, which no range allows. */
static bool quantity(const char *text, const struct unit *units, size_t n_units, uint64_t *out)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *at - '0', &value))
            value = UINT64_MAX;
    size_t i = 0;
    while (i < n_units && strcmp(units[i].name, at) != 0)
        i++;
    if (at == text || i == n_units)
        return false;
    if (__builtin_mul_overflow(value, units[i].factor, out))
        *out = UINT64_MAX;
    return true;
}

bool settings_duration(struct settings *s, const json_t *value, uint64_t min_ns, uint64_t max_ns, const char *range,
                       uint64_t *out_ns)
{
    static const struct unit units[] = {{"ns", 1},     {"us", 1000},    {"ms", MS}, {"s", S},
                                        {"m", 60 * S}, {"h", 3600 * S}, {"d", DAY}};
    uint64_t ns;
    if (value == NULL)
        return true;
    if (!json_is_string(value) || !quantity(json_string_value(value), units, sizeof units / sizeof units[0], &ns))
        return settings_wrong(s, "must be a duration, as in \"10ms\", \"1s\" or \"7d\"; found %s",
                              settings_found(s, value));
    if (ns < min_ns || ns > max_ns)
        return settings_wrong(s, "must be %s; found %s", range, settings_found(s, value));
    *out_ns = ns;
    return true;
}

bool settings_size(struct settings *s, const json_t *value, uint64_t min, uint64_t max, uint64_t *out_bytes)
{
    static const struct unit units[] = {{"", 1},     {"B", 1},     {"Ki", KIB},        {"KiB", KIB},
                                        {"Mi", MIB}, {"MiB", MIB}, {"Gi", 1024 * MIB}, {"GiB", 1024 * MIB}};
    uint64_t bytes;
    if (value == NULL)
        return true;
    if (json_is_integer(value))
        bytes = (uint64_t)json_integer_value(value); /* negative: far too large */
    else if (!json_is_string(value) ||
             !quantity(json_string_value(value), units, sizeof units / sizeof units[0], &bytes))
        return settings_wrong(s, "must be a size, as in 65536, \"240KiB\" or \"1MiB\"; found %s",
                              settings_found(s, value));
    char from[SETTINGS_SIZE_MAX], to[SETTINGS_SIZE_MAX];
    if (bytes < min || bytes > max)
        return settings_wrong(s, "must be %s to %s; found %s", settings_size_text(min, from),
                              settings_size_text(max, to), settings_found(s, value));
    *out_bytes = bytes;
    return true;
}

bool settings_word(struct settings *s, const json_t *value, const char *no, const char *yes, bool *out_is_yes)
{
    const char *text = json_string_value(value);
    if (value == NULL)
        return true;
    if (text == NULL || (strcmp(text, no) != 0 && strcmp(text, yes) != 0))
        return settings_wrong(s, "must be \"%s\" or \"%s\"; found %s", no, yes, settings_found(s, value));
    *out_is_yes = strcmp(text, yes) == 0;
    return true;
}
