/* trace.c: W3C Trace Context (level 1), as an event carries it.
 *
 *     traceparent   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *                   version - trace id - id of the span that sent it - flags
 *     tracestate    key=value, key=value ...: of vendors, passed on as it is
 *
 * What is malformed is refused where it enters the bus, so whoever reads it may use it. A later version than 00 may have more
 * behind the flags: it is kept, and what continues it is of version 00, as the standard asks. Pure functions.
 * Checked by tests/unit/test_trace.c. */
#include "trace.h"

#include <evbus/evbus.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool is_hex(const char *at, size_t n, bool *out_is_zero)
{
    bool is_zero = true;
    for (size_t i = 0; i < n; i++) {
        if (!((at[i] >= '0' && at[i] <= '9') || (at[i] >= 'a' && at[i] <= 'f')))
            return false;
        is_zero = is_zero && at[i] == '0';
    }
    *out_is_zero = is_zero;
    return true;
}

static const char *fault_of(const char *text, size_t len)
{
    bool is_zero;
    if (len < TRACE_PARENT_LEN)
        return "it is too short";
    if (len > TRACE_PARENT_MAX)
        return "it is too long";
    if (text[2] != '-' || text[35] != '-' || text[52] != '-')
        return "its fields are not joined by -";
    if (!is_hex(text, 2, &is_zero) || strncmp(text, "ff", 2) == 0)
        return "its version is none";
    if (len > TRACE_PARENT_LEN && is_zero)
        return "version 00 ends behind the flags";
    if (len > TRACE_PARENT_LEN && text[TRACE_PARENT_LEN] != '-')
        return "behind the flags stands no -";
    if (!is_hex(text + 3, 32, &is_zero) || is_zero)
        return "its trace id must be 32 of 0-9 a-f, not all 0";
    if (!is_hex(text + 36, 16, &is_zero) || is_zero)
        return "its span id must be 16 of 0-9 a-f, not all 0";
    if (!is_hex(text + 53, 2, &is_zero))
        return "its flags must be 2 of 0-9 a-f";
    for (size_t i = TRACE_PARENT_LEN; i < len; i++)
        if (text[i] < 0x21 || text[i] > 0x7e)
            return "it holds a byte that is not printable";
    return NULL;
}

int trace_check_parent(const char *text, size_t len, struct error *err)
{
    const char *fault = fault_of(text, len);
    if (fault == NULL)
        return EVBUS_OK;
    return error_set(err, EVBUS_EINVAL,
                     "traceparent \"%.*s\": %s; as in 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                     len < 80 ? (int)len : 80, text, fault);
}

/* a-z 0-9 _ - * / and one @ between two such parts; begins with a letter or, before an @, a digit */
static bool is_key(const char *at, size_t len)
{
    const char *tenant = memchr(at, '@', len);
    size_t first = tenant != NULL ? (size_t)(tenant - at) : len;
    if (len == 0 || len > 256 || (tenant != NULL && (first == 0 || first > 241 || len - first - 1 > 14)))
        return false;
    if (!((at[0] >= 'a' && at[0] <= 'z') || (tenant != NULL && at[0] >= '0' && at[0] <= '9')))
        return false;
    if (tenant != NULL && !(first + 1 < len && at[first + 1] >= 'a' && at[first + 1] <= 'z'))
        return false;
    for (size_t i = 0; i < len; i++)
        if (i != first && (at[i] == '\0' || strchr("abcdefghijklmnopqrstuvwxyz0123456789_-*/", at[i]) == NULL))
            return false;
    return true;
}

static bool is_value(const char *at, size_t len)
{
    if (len == 0 || len > 256 || at[len - 1] == ' ')
        return false;
    for (size_t i = 0; i < len; i++)
        if (at[i] < 0x20 || at[i] > 0x7e || at[i] == ',' || at[i] == '=')
            return false;
    return true;
}

int trace_check_state(const char *text, size_t len, struct error *err)
{
    unsigned n = 0;
    if (len > TRACE_STATE_MAX)
        return error_set(err, EVBUS_EINVAL, "tracestate has %zu bytes; at most %d are kept", len, TRACE_STATE_MAX);
    for (const char *at = text, *end = text + len; at <= end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *next = comma != NULL ? comma : end;
        const char *from = at, *to = next;
        while (from < to && (*from == ' ' || *from == '\t'))
            from++;
        while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
            to--;
        const char *equals = memchr(from, '=', (size_t)(to - from));
        bool is_empty = from == to; /* which is allowed */
        if (!is_empty && (equals == NULL || !is_key(from, (size_t)(equals - from)) ||
                          !is_value(equals + 1, (size_t)(to - equals - 1))))
            return error_set(err, EVBUS_EINVAL, "tracestate: \"%.*s\" is no member key=value",
                             to - from < 80 ? (int)(to - from) : 80, from);
        n += !is_empty;
        at = next + 1;
    }
    if (n > TRACE_STATE_MEMBERS)
        return error_set(err, EVBUS_EINVAL, "tracestate has %u members; at most %d are allowed", n,
                         TRACE_STATE_MEMBERS);
    return EVBUS_OK;
}

void trace_child(const char *parent, uint64_t span, char out_text[TRACE_PARENT_LEN + 1])
{
    snprintf(out_text, TRACE_PARENT_LEN + 1, "00-%.32s-%016" PRIx64 "-%.2s", parent + 3, span, parent + 53);
}
