/* say.c: what the bridge tells its operator, on standard error.
 *
 *     time=2026-02-01T09:30:00.123Z level=warning msg="the broker is away" broker=redis://10.0.0.5:6379 why="connection refused"
 *     {"time":"2026-02-01T09:30:00.123Z","level":"warning","msg":"the broker is away","broker":"redis://10.0.0.5:6379", ...}
 *     <4>level=warning msg="the broker is away" ...                where standard error is systemd's journal, which knows the time
 *
 *   a line   for each change of state, not for each attempt. What repeats (the same message about the same thing) is told when it begins; then,
 *            for a minute, only counted. When the minute is over the last of them is told as it was, with `repeated`: so whoever reads the end
 *            of a log of a broker that comes and goes sees how it is, not how it was a minute ago.
 *   escapes  a value in quotes is a JSON string in both looks, so one function writes both, and any bytes may be in it: what is no UTF-8
 *            becomes U+FFFD; controls, C1 too, are \u00xx, so no event's key can move a terminal's cursor or begin a line of its own
 *   whole    a line is one write() of at most 4,096 bytes: a pipe does not mix it with anybody else's. Too much is cut in a value
 *   threads  the library's keeper thread says things too; a mutex
 * A program has one standard error, so its state is the file's. Checked by tests/broker/test_say.c. */
#include "say.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define QUIET_NS UINT64_C(60000000000)

enum { REPEATS_MAX = 64, FIELDS_MAX = 24, NAME_MAX_BYTES = 32, TAIL_MAX = 64 };

/* What was said less than a minute ago. */
struct repeat {
    const char *message; /* NULL: free */
    uint64_t thing;      /* hash of its first field */
    uint64_t until_ns;   /* quiet */
    uint64_t n;          /* not told since */
    enum evbus_level level;
    uint64_t said_ns;        /* the last of these */
    char line[SAY_LINE_MAX]; /* it */
    size_t len;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct say_look look;
static int level_max = EVBUS_LOG_INFO;
static struct repeat repeats[REPEATS_MAX];

static uint64_t now_of(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now); /* cannot fail: both clocks exist */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t monotonic_ns(void)
{
    return now_of(CLOCK_MONOTONIC);
}

static void write_stderr(const char *line, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, line, len);
        if (n <= 0)
            return; /* nobody listens: to whom could that be told? */
        line += n;
        len -= (size_t)n;
    }
}

static uint64_t (*clock_ns)(void) = monotonic_ns;
static void (*write_line)(const char *line, size_t len) = write_stderr;

/* --- a line ------------------------------------------------------------------------------------------------------- */

struct line {
    char *at;
    size_t len;
    bool is_cut;
};

static size_t room(const struct line *out)
{
    return SAY_LINE_MAX - TAIL_MAX - out->len;
}

static void put(struct line *out, const char *text, size_t len)
{
    if (len > SAY_LINE_MAX - out->len)
        len = SAY_LINE_MAX - out->len;
    memcpy(out->at + out->len, text, len);
    out->len += len;
}

static void put_text(struct line *out, const char *text)
{
    put(out, text, strlen(text));
}

/* Bytes of the UTF-8 character at the beginning; 0: it is none. */
static size_t utf8_len(const unsigned char *at, size_t left)
{
    size_t len = *at < 0x80                  ? 1
                 : *at >= 0xc2 && *at < 0xe0 ? 2
                 : *at >= 0xe0 && *at < 0xf0 ? 3
                 : *at >= 0xf0 && *at < 0xf5 ? 4
                                             : 0;
    if (len == 0 || len > left)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool is_overlong = (*at == 0xe0 && at[1] < 0xa0) || (*at == 0xf0 && at[1] < 0x90);
    bool is_beyond = (*at == 0xed && at[1] >= 0xa0) || (*at == 0xf4 && at[1] >= 0x90);
    return is_overlong || is_beyond ? 0 : len;
}

/* One character of a JSON string; returns how many bytes of `at` it was. */
static size_t escape(const unsigned char *at, size_t left, char out[8], size_t *out_len)
{
    size_t len = utf8_len(at, left);
    unsigned code = len == 1 ? *at : len == 2 ? (unsigned)(*at & 0x1f) << 6 | (at[1] & 0x3f) : 0x100;
    if (len == 0)
        *out_len = (size_t)snprintf(out, 8, "\\ufffd");
    else if (code == '"' || code == '\\')
        *out_len = (size_t)snprintf(out, 8, "\\%c", (char)code);
    else if (code == '\n' || code == '\t' || code == '\r')
        *out_len = (size_t)snprintf(out, 8, "\\%c", code == '\n' ? 'n' : code == '\t' ? 't' : 'r');
    else if (code < 0x20 || (code >= 0x7f && code < 0xa0))
        *out_len = (size_t)snprintf(out, 8, "\\u%04x", code);
    else
        memcpy(out, at, *out_len = len);
    return len == 0 ? 1 : len;
}

static void put_string(struct line *out, const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + len;
    put_text(out, "\"");
    while (at < end) {
        char piece[8];
        size_t piece_len = 0, n = escape(at, (size_t)(end - at), piece, &piece_len);
        if (piece_len + 1 > room(out)) {
            out->is_cut = true;
            break;
        }
        put(out, piece, piece_len);
        at += n;
    }
    put_text(out, "\"");
}

/* May logfmt have it without quotes? */
static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return len > 0;
}

static void put_field(struct line *out, const struct say_look *as, const struct say_field *field)
{
    char number[48];
    size_t name_len = strlen(field->name), value_len = field->text != NULL ? field->len : sizeof number;
    bool is_first = out->len == 0 || out->at[out->len - 1] == '{' || out->at[out->len - 1] == '>';
    if (name_len + 64 > room(out)) {
        out->is_cut = true;
        return;
    }
    if (!is_first)
        put_text(out, as->is_json ? "," : " ");
    if (as->is_json)
        put_text(out, "\"");
    put(out, field->name, name_len);
    put_text(out, as->is_json ? "\":" : "=");
    if (field->text == NULL) {
        (void)snprintf(number, sizeof number, "%.*f", field->decimals, field->number);
        put_text(out, number);
    } else if (!as->is_json && value_len < room(out) && is_plain(field->text, value_len)) {
        put(out, field->text, value_len);
    } else {
        put_string(out, field->text, value_len);
    }
}

static void format_time(uint64_t ns, char out_text[40])
{
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm utc;
    char text[24] = "";
    if (gmtime_r(&seconds, &utc) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc) == 0)
        text[0] = '\0';
    (void)snprintf(out_text, 40, "%.19s.%03uZ", text, (unsigned)(ns / 1000000 % 1000));
}

size_t say_line(const struct say_look *as, uint64_t time_ns, enum evbus_level level, const char *message,
                const struct say_field *fields, uint64_t n_repeated, char out_line[SAY_LINE_MAX])
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    static const char *const priorities[] = {"<3>", "<4>", "<6>", "<7>"}; /* syslog's */
    struct line out = {.at = out_line};
    char text[40];
    unsigned at = (unsigned)level <= EVBUS_LOG_DEBUG ? (unsigned)level : EVBUS_LOG_DEBUG;
    if (as->is_journal)
        put_text(&out, priorities[at]);
    if (as->is_json)
        put_text(&out, "{");
    format_time(time_ns, text);
    struct say_field time = say_text("time", text), of_level = say_text("level", names[at]),
                     of_message = say_text("msg", message);
    if (!as->is_journal)
        put_field(&out, as, &time);
    put_field(&out, as, &of_level);
    put_field(&out, as, &of_message);
    for (; fields != NULL && fields->name != NULL; fields++)
        put_field(&out, as, fields);
    if (n_repeated > 0) {
        (void)snprintf(text, sizeof text, as->is_json ? ",\"repeated\":%" PRIu64 : " repeated=%" PRIu64, n_repeated);
        put_text(&out, text);
    }
    if (out.is_cut)
        put_text(&out, as->is_json ? ",\"cut\":true" : " cut=true");
    put_text(&out, as->is_json ? "}\n" : "\n");
    return out.len;
}

/* --- and whether it is told --------------------------------------------------------------------------------------- */

static uint64_t hash_of(const struct say_field *field)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    if (field == NULL || field->name == NULL)
        return hash;
    const char *bytes = field->text != NULL ? field->text : (const char *)&field->number;
    size_t len = field->text != NULL ? field->len : sizeof field->number;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(1099511628211);
    return hash;
}

/* The last of those that were not told, as it was. Quiet for another minute: it repeats. */
static void tell_held(struct repeat *repeat, uint64_t now)
{
    if (repeat->n == 0)
        return;
    write_line(repeat->line, repeat->len);
    repeat->n = 0;
    repeat->until_ns = now + QUIET_NS;
}

static struct repeat *find(const char *message, uint64_t thing)
{
    for (size_t i = 0; i < REPEATS_MAX; i++)
        if (repeats[i].message != NULL && repeats[i].thing == thing && strcmp(repeats[i].message, message) == 0)
            return &repeats[i];
    return NULL;
}

/* A free place; where there is none, that which is over first: what it held is told. */
static struct repeat *make(const char *message, uint64_t thing, uint64_t now)
{
    struct repeat *oldest = &repeats[0];
    for (size_t i = 0; i < REPEATS_MAX && oldest->message != NULL; i++)
        if (repeats[i].message == NULL || repeats[i].until_ns < oldest->until_ns)
            oldest = &repeats[i];
    tell_held(oldest, now);
    oldest->message = message;
    oldest->thing = thing;
    oldest->n = 0;
    return oldest;
}

void say(enum evbus_level level, const char *message, const struct say_field *fields)
{
    if ((int)level > level_max)
        return;
    (void)pthread_mutex_lock(&mutex);
    uint64_t now = clock_ns(), time = now_of(CLOCK_REALTIME), thing = hash_of(fields);
    struct repeat *repeat = find(message, thing);
    if (repeat != NULL && now < repeat->until_ns) {
        repeat->n++;
        repeat->said_ns = now;
        repeat->len = say_line(&look, time, level, message, fields, repeat->n, repeat->line);
    } else {
        char line[SAY_LINE_MAX];
        if (repeat == NULL)
            repeat = make(message, thing, now);
        uint64_t n_held = repeat->n;
        repeat->n = 0;
        repeat->until_ns = now + QUIET_NS;
        write_line(line, say_line(&look, time, level, message, fields, n_held, line));
    }
    (void)pthread_mutex_unlock(&mutex);
}

/* Of those that are held, and due at that time, the one that was said first. */
static struct repeat *first_held(uint64_t due_ns)
{
    struct repeat *first = NULL;
    for (size_t i = 0; i < REPEATS_MAX; i++)
        if (repeats[i].message != NULL && repeats[i].n > 0 && due_ns >= repeats[i].until_ns &&
            (first == NULL || repeats[i].said_ns < first->said_ns))
            first = &repeats[i];
    return first;
}

int say_due(void)
{
    (void)pthread_mutex_lock(&mutex);
    uint64_t now = clock_ns(), next = UINT64_MAX;
    for (struct repeat *held; (held = first_held(now)) != NULL;)
        tell_held(held, now);
    for (size_t i = 0; i < REPEATS_MAX; i++) {
        struct repeat *repeat = &repeats[i];
        if (repeat->message == NULL)
            continue;
        if (now >= repeat->until_ns && repeat->n == 0)
            repeat->message = NULL;
        if (repeat->message != NULL && repeat->n > 0 && repeat->until_ns < next)
            next = repeat->until_ns;
    }
    (void)pthread_mutex_unlock(&mutex);
    return next == UINT64_MAX ? -1 : (int)((next - now) / 1000000 + 1);
}

void say_end(void)
{
    (void)pthread_mutex_lock(&mutex);
    for (struct repeat *held; (held = first_held(UINT64_MAX)) != NULL;)
        tell_held(held, clock_ns());
    (void)pthread_mutex_unlock(&mutex);
}

/* Is standard error the journal's? systemd says by which inode to know it. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device = 0, inode = 0;
    struct stat found;
    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &found) == 0 &&
           found.st_dev == (dev_t)device && found.st_ino == (ino_t)inode;
}

void say_begin(bool is_json, int level)
{
    (void)pthread_mutex_lock(&mutex);
    look = (struct say_look){.is_json = is_json, .is_journal = is_journal()};
    level_max = level;
    (void)pthread_mutex_unlock(&mutex);
}

void say_test(uint64_t (*now_ns)(void), void (*write)(const char *line, size_t len))
{
    clock_ns = now_ns != NULL ? now_ns : monotonic_ns;
    write_line = write != NULL ? write : write_stderr;
}

/* --- the library's lines ------------------------------------------------------------------------------------------ */

/* Does a field begin here? Returns the length of its name; 0: no. */
static size_t field_name_len(const char *at)
{
    size_t len = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && len < NAME_MAX_BYTES && at[len] == '=' ? len : 0;
}

/* One name=value or name="value". Quotes in the library's texts are not escaped, so a value ends with the quote behind which the line ends,
 * or another field begins. false: there is none. */
static bool take_pair(const char **inout_at, char name[NAME_MAX_BYTES], struct say_field *out)
{
    const char *at = *inout_at + strspn(*inout_at, " ");
    size_t name_len = field_name_len(at);
    if (name_len == 0)
        return false;
    (void)snprintf(name, NAME_MAX_BYTES, "%.*s", (int)name_len, at);
    const char *begin = at + name_len + 1, *end = begin + strcspn(begin, " "), *next = end;
    if (*begin == '"') {
        begin++;
        end = begin + strcspn(begin, "\"");
        while (*end != '\0' && end[1] != '\0' && !(end[1] == ' ' && field_name_len(end + 2) > 0))
            end += 1 + strcspn(end + 1, "\"");
        next = end + (*end == '"');
    }
    *out = say_bytes(name, begin, (size_t)(end - begin));
    *inout_at = next;
    return true;
}

/* event=keeper state=elected slot=12: field by field; what is none is the field `text`. The library has counted what repeats. */
void say_of_library(void *context, enum evbus_level level, const char *line)
{
    char names[FIELDS_MAX][NAME_MAX_BYTES], made[SAY_LINE_MAX];
    struct say_field fields[FIELDS_MAX + 2];
    size_t n = 0;
    (void)context;
    while (n < FIELDS_MAX && take_pair(&line, names[n], &fields[n]))
        n++;
    line += strspn(line, " ");
    if (*line != '\0')
        fields[n++] = say_text("text", line);
    fields[n] = (struct say_field){.name = NULL};
    (void)pthread_mutex_lock(&mutex);
    if ((int)level <= level_max)
        write_line(made, say_line(&look, now_of(CLOCK_REALTIME), level, "the bus", fields, 0, made));
    (void)pthread_mutex_unlock(&mutex);
}
