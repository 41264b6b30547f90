/* test_file.c: a file as a broker: the suite of all brokers (conformance.c), and what a file alone can suffer. */
#include "conformance.h"

#include "child.h"
#include "folder.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file_line.h"

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define CLASS   (broker_kind.class)

/* --- a file as a broker ------------------------------------------------------------------------------------------- */

struct file_broker {
    struct folder above;
    char folder[300];
    char gone[300]; /* where it is while it is not there */
    char log[320];
};

static void *make(struct config *config)
{
    struct file_broker *broker = malloc(sizeof *broker);
    cr_assert_not_null(broker);
    broker->above = folder_make();
    snprintf(broker->folder, sizeof broker->folder, "%s/broker", broker->above.path);
    snprintf(broker->gone, sizeof broker->gone, "%s/gone", broker->above.path);
    snprintf(broker->log, sizeof broker->log, "%s/log.ndjson", broker->folder);
    cr_assert_eq(mkdir(broker->folder, 0700), 0);
    snprintf(config->broker, sizeof config->broker, "file:%s", broker->folder);
    return broker;
}

static void end(void *context)
{
    struct file_broker *broker = context;
    folder_clear(&broker->above);
    free(broker);
}

static void take_away(void *context)
{
    struct file_broker *broker = context;
    cr_assert_eq(rename(broker->folder, broker->gone), 0);
    folder_put(broker->folder, 0, "no folder", 9); /* or who opens it now makes one */
}

static void bring_back(void *context)
{
    struct file_broker *broker = context;
    cr_assert_eq(unlink(broker->folder), 0);
    cr_assert_eq(rename(broker->gone, broker->folder), 0);
}

static void empty(void *context)
{
    struct file_broker *broker = context;
    cr_assert_eq(unlink(broker->log), 0);
}

static void put_string(struct text *out, const char *bytes, size_t len)
{
    text_put(out, "\"", 1);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)bytes[i] < ' ' || bytes[i] == '"' || bytes[i] == '\\')
            text_format(out, "\\u%04x", (unsigned char)bytes[i]);
        else
            text_put(out, bytes + i, 1);
    text_put(out, "\"", 1);
}

static void put_line(const char *path, const char *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static void append(void *context, const char *stream, const struct entry_field *fields, size_t n)
{
    const struct file_broker *broker = context;
    struct text line = {0};
    text_format(&line, "\n{\"stream\":\"%s\"", stream);
    for (size_t i = 0; i < n; i++) {
        text_put(&line, ",", 1);
        put_string(&line, fields[i].name, fields[i].name_len);
        text_put(&line, ":", 1);
        if (fields[i].name_len == 7 && memcmp(fields[i].name, "payload", 7) == 0)
            text_put(&line, fields[i].value, fields[i].value_len);
        else
            put_string(&line, fields[i].value, fields[i].value_len);
    }
    text_put(&line, "}\n", 2);
    put_line(broker->log, line.at, line.len);
    free(line.at);
}

/* As who knows the format: grep -o. A file of which no line was cut, and no two bridges of one bus ever raced. */
static size_t count(void *context, const char *stream)
{
    const struct file_broker *broker = context;
    char wanted[160];
    size_t n = 0, len = folder_len(broker->log);
    char *text = calloc(1, len + 1);
    FILE *file = fopen(broker->log, "re");
    if (file != NULL) {
        cr_assert_eq(fread(text, 1, len, file), len);
        fclose(file);
    }
    snprintf(wanted, sizeof wanted, "{\"stream\":\"%s\"", stream);
    for (const char *at = text; (at = strstr(at, wanted)) != NULL; at++)
        n += at == text || at[-1] == ',' || at[-1] == '\n';
    free(text);
    return n;
}

const struct broker_kind broker_kind = {
    .class = &backend_file,
    .has_trim = false,
    .make = make,
    .end = end,
    .kill = take_away,
    .restart = bring_back,
    .empty = empty,
    .append = append,
    .count = count,
};

/* --- deaths ------------------------------------------------------------------------------------------------------- */

static const struct rig_event five[] = {
    {RIG_CREATED, 10, 0}, {RIG_CANCELLED, 20, 0}, {RIG_CREATED, 30, 10}, {RIG_CREATED, 40, 30}, {RIG_CANCELLED, 50, 20},
};

static const struct {
    size_t from, n;
    uint64_t created, cancelled; /* the marks behind it */
} batches[] = {{0, 2, 10, 20}, {2, 2, 40, 20}, {4, 1, 40, 50}};

/* A bridge in a child, which must not assert. */
struct life {
    const struct config *config;
    uint64_t epoch;
    const struct rig_event *events; /* which all are to be there in the end */
    size_t n;
    unsigned *n_done; /* batches, shared with the parent */

    bool is_here, is_marked, is_fenced;
    unsigned n_answers, n_good;
    uint64_t marks[2];
};

static void life_state(void *context, bool is_here, const char *why)
{
    (void)why;
    ((struct life *)context)->is_here = is_here;
}

static void life_marks(void *context, const char *log, uint32_t partition, enum backend_result result,
                       const struct backend_mark *marks, size_t n, const char *why)
{
    struct life *life = context;
    (void)log;
    (void)partition;
    (void)why;
    for (size_t i = 0; i < n && i < 2; i++)
        life->marks[i] = marks[i].position;
    life->is_marked = result == BACKEND_OK;
}

static void life_appended(void *context, uint64_t ticket, enum backend_result result, const char *why)
{
    struct life *life = context;
    (void)ticket;
    (void)why;
    life->n_answers++;
    life->n_good += result == BACKEND_OK;
    life->is_fenced = life->is_fenced || result == BACKEND_FENCED;
    if (life->n_done != NULL && result == BACKEND_OK)
        __atomic_add_fetch(life->n_done, 1, __ATOMIC_SEQ_CST);
}

static const struct backend_callbacks life_callbacks = {
    .state = life_state, .marks = life_marks, .appended = life_appended};

static void live_until(struct backend *backend, const bool *is_so, const unsigned *count, unsigned wanted)
{
    while (is_so != NULL ? !*is_so : *count < wanted) {
        struct pollfd fd;
        int timeout_ms = 1000;
        size_t n = CLASS->fds(backend, &fd, 1, &timeout_ms);
        (void)poll(&fd, n, timeout_ms);
        CLASS->service(backend, &fd, n);
    }
}

static bool send(struct backend *backend, const struct life *life, const struct rig_event *events, size_t n)
{
    if (!CLASS->begin(backend, RIG_LOG, 0, life->epoch, 1))
        return false;
    for (size_t i = 0; i < n; i++) {
        char text[64];
        struct evbus_version version;
        struct evbus_delivery delivery = rig_delivery(&events[i], 0, text, &version);
        if (!CLASS->add(backend, &delivery, events[i].prev))
            return false;
    }
    return CLASS->send(backend, 1);
}

static const char origin[] = "4f0c2b7e-1c1d-4b52-9d3e-000000000001"; /* as of rig_open(, 1) */

static int append_three_batches(void *context)
{
    struct life *life = context;
    struct backend *backend;
    char error[EVBUS_ERROR_MAX];
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0 ||
        CLASS->open(&backend, life->config, origin, &life_callbacks, life, error) != EVBUS_OK)
        return 1;
    live_until(backend, &life->is_here, NULL, 0);
    for (unsigned i = 0; i < N(batches); i++) {
        if (!send(backend, life, five + batches[i].from, batches[i].n))
            return 1;
        if (i > 0) /* two are under way at once */
            live_until(backend, NULL, &life->n_answers, i + 1);
    }
    CLASS->close(backend);
    return life->n_good == N(batches) ? 0 : 1;
}

Test(file, a_bridge_that_is_killed_at_any_system_call_leaves_whole_batches)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    unsigned *n_done = child_shared(sizeof *n_done), k = 1, n_seen[N(batches) + 1] = {0};
    for (bool is_killed = true; is_killed; k++) {
        struct life life = {.config = &rig.config, .epoch = 1, .n_done = n_done};
        (void)unlink(((struct file_broker *)rig.broker)->log);
        *n_done = 0;
        is_killed = child_kill_at_call(append_three_batches, &life, k);
        struct rig_bridge *bridge = rig_open(&rig, 1);
        cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
        unsigned there = N(batches);
        while (there > 0 && (bridge->marks[0].position != batches[there - 1].created ||
                             bridge->marks[1].position != batches[there - 1].cancelled))
            there--;
        cr_assert(there > 0 || (bridge->marks[0].position == 0 && bridge->marks[1].position == 0),
                  "killed at %u: half a batch is there", k);
        cr_assert_geq(there, *n_done, "killed at %u: what was answered is not there", k);
        n_seen[there]++;
        cr_assert_eq(rig_append(bridge, 0, (struct rig_life){2, 1}, five, N(five)), BACKEND_OK);
        rig_expect_stream(&rig, RIG_CREATED, 0, five, N(five));
        rig_expect_stream(&rig, RIG_CANCELLED, 0, five, N(five));
        rig_close(bridge);
    }
    cr_expect(n_seen[0] > 0 && n_seen[1] > 0 && n_seen[3] > 0, "killed at %u calls: %u %u %u %u", k, n_seen[0],
              n_seen[1], n_seen[2], n_seen[3]);
    rig_end(&rig);
}

/* Its n_good is the parent's to read. */
static int append_three_batches_and_tell(void *context)
{
    struct life *life = context;
    (void)append_three_batches(life);
    return (int)life->n_good;
}

Test(file, a_bridge_that_is_stopped_at_any_system_call_and_woken_later_is_fenced)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    unsigned n_late = 0;
    bool is_over = false;
    for (unsigned k = 1; !is_over; k++) {
        struct life life = {.config = &rig.config, .epoch = 1};
        int status = 0;
        (void)unlink(((struct file_broker *)rig.broker)->log);
        struct child child = child_start(append_three_batches_and_tell, &life);
        cr_assert(waitpid(child.pid, &status, 0) == child.pid && WIFSTOPPED(status));
        for (unsigned i = 0; i < k && !is_over; i++) {
            cr_assert_eq(ptrace(PTRACE_SYSCALL, child.pid, NULL, NULL), 0);
            cr_assert_eq(waitpid(child.pid, &status, 0), child.pid);
            is_over = WIFEXITED(status);
        }
        if (is_over)
            break;
        struct rig_bridge *bridge = rig_open(&rig, 1); /* it takes over, while the other stands still */
        cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
        unsigned there = 0;
        while (there < N(batches) && bridge->marks[0].position >= batches[there].created &&
               bridge->marks[1].position >= batches[there].cancelled)
            there++;
        cr_assert_eq(rig_append(bridge, 0, (struct rig_life){2, 1}, five, N(five)), BACKEND_OK);
        static const struct rig_event own[] = {{RIG_CREATED, 60, 40},
                                               {RIG_CANCELLED, 70, 50}}; /* fences both streams */
        cr_assert_eq(rig_append(bridge, 0, (struct rig_life){2, 1}, own, N(own)), BACKEND_OK);
        cr_assert_eq(ptrace(PTRACE_DETACH, child.pid, NULL, NULL), 0);
        int n_good = child_join(&child);
        cr_assert(n_good >= 0 && n_good <= (int)there, "stopped at %u: %d batches appended, of which %u were there", k,
                  n_good, there);
        rig_close(bridge);
        bridge = rig_open(&rig, 2);
        struct rig_stream *streams[] = {rig_listen(bridge, RIG_CREATED, ""), rig_listen(bridge, RIG_CANCELLED, "")};
        cr_assert(rig_until(&rig, streams[0]->n_empty > 0 && streams[1]->n_empty > 0));
        cr_assert(streams[0]->n == 4 && streams[1]->n == 3, "stopped at %u: %zu, %zu", k, streams[0]->n, streams[1]->n);
        n_late += broker_kind.count(rig.broker, RIG_CREATED) + broker_kind.count(rig.broker, RIG_CANCELLED) > 7;
        rig_close(bridge);
    }
    cr_expect_gt(n_late, 0, "none of them has written a line that does not count");
    rig_end(&rig);
}

/* The log, to be freed. */
static char *read_log(const struct file_broker *broker, size_t *out_len)
{
    *out_len = folder_len(broker->log);
    char *bytes = malloc(*out_len + 1);
    FILE *file = fopen(broker->log, "re");
    cr_assert(bytes != NULL && file != NULL);
    cr_assert_eq(fread(bytes, 1, *out_len, file), *out_len);
    fclose(file);
    bytes[*out_len] = '\0';
    return bytes;
}

/* Another file, as after a death: nobody has it open. */
static void write_log(const struct file_broker *broker, const char *bytes, size_t len)
{
    (void)unlink(broker->log);
    if (len > 0)
        put_line(broker->log, bytes, len);
}

Test(file, a_line_that_was_cut_anywhere_counts_for_nobody)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct file_broker *broker = rig.broker;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    size_t before, len;
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 2), BACKEND_OK);
    before = folder_len(broker->log);
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five + 2, 3), BACKEND_OK);
    rig_close(bridge);
    char *whole = read_log(broker, &len);
    uint64_t step = trial_is_full() ? 3 : 17;
    for (size_t cut = before; cut < len; cut += cut + 20 < len ? step : 1) {
        write_log(broker, whole, cut);
        bridge = rig_open(&rig, 1);
        cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
        cr_assert(bridge->marks[0].position == 10 && bridge->marks[1].position == 20, "cut at %zu of %zu", cut, len);
        if (cut % 2 == 0) /* a foreign program is the next */
            append(broker, RIG_REFUNDED, (const struct entry_field[]){{"eventId", 7, "x", 1}}, 1);
        cr_assert_eq(rig_append(bridge, 0, (struct rig_life){2, 1}, five, N(five)), BACKEND_OK);
        struct rig_bridge *reader = rig_open(&rig, 2);
        struct rig_stream *created = rig_listen(reader, RIG_CREATED, "");
        struct rig_stream *cancelled = rig_listen(reader, RIG_CANCELLED, "");
        struct rig_stream *refunded = rig_listen(reader, RIG_REFUNDED, "");
        cr_assert(rig_until(&rig, created->n_empty > 0 && cancelled->n_empty > 0 && refunded->n_empty > 0));
        cr_assert(created->n == 3 && cancelled->n == 2 && refunded->n == (cut % 2 == 0),
                  "cut at %zu of %zu: %zu %zu %zu", cut, len, created->n, cancelled->n, refunded->n);
        rig_close(reader);
        rig_close(bridge);
    }
    free(whole);
    rig_end(&rig);
}

Test(file, a_full_disk_refuses_a_batch_and_it_may_be_sent_again)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct file_broker *broker = rig.broker;
    struct rlimit limit, free_limit;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &free_limit), 0);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 2), BACKEND_OK);
    size_t before = folder_len(broker->log), n_refused = 0, n_away = 0;
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five + 2, 3), BACKEND_OK);
    size_t len = folder_len(broker->log) - before;
    uint64_t mark[] = {40, 50};
    uint64_t step = trial_is_full() ? 1 : 5;
    for (size_t room = 0; room < len; room += room + 4 < len ? step : 1) {
        const struct rig_event next[] = {{RIG_CREATED, mark[1] + 10, mark[0]},
                                         {RIG_CANCELLED, mark[1] + 20, mark[1]},
                                         {RIG_CREATED, mark[1] + 30, mark[1] + 10}};
        limit = free_limit;
        limit.rlim_cur = folder_len(broker->log) + room;
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        enum backend_result result = rig_append(bridge, 0, RIG_FIRST, next, 3);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &free_limit), 0);
        cr_assert(result == BACKEND_REFUSED || result == BACKEND_AWAY || room > 300, "room for %zu: %d", room,
                  (int)result);
        n_refused += result == BACKEND_REFUSED;
        if (result == BACKEND_REFUSED) { /* nothing was done, whoever writes next */
            put_line(broker->log, "\n", 1);
            cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
            cr_assert(bridge->marks[0].position == mark[0] && bridge->marks[1].position == mark[1], "room for %zu",
                      room);
        }
        n_away += result == BACKEND_AWAY;
        cr_assert(rig_until(&rig, bridge->is_here));
        cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, next, 3), BACKEND_OK);
        mark[0] = mark[1] + 30;
        mark[1] += 20;
    }
    cr_expect_gt(n_refused, len / step / 2);
    cr_expect_gt(n_away, 0, "never was all but the newline written");
    struct rig_bridge *reader = rig_read_all(&rig, RIG_CREATED);
    uint64_t last = 0;
    for (size_t i = 0; i < reader->streams[0].n; i++) {
        cr_assert_eq(reader->streams[0].entries[i].prev, last);
        last = reader->streams[0].entries[i].position;
    }
    cr_expect_eq(last, mark[0]);
    rig_end(&rig);
}

/* --- two bridges of one bus at once ------------------------------------------------------------------------------- */

Test(file, a_batch_that_came_too_late_counts_for_nobody)
{
    static const char *const late[] = {
        /* somebody who was stopped between his look and his write: what he has has been there meanwhile */
        "[{\"log\":\"lomash.orders\",\"origin\":\"4f0c2b7e-1c1d-4b52-9d3e-000000000001\",\"partition\":\"0\","
        "\"incarnation\":\"1\","
        "\"epoch\":\"2\",\"by\":\"x-1\"},{\"stream\":\"" RIG_CREATED "\",\"position\":\"10\",\"prev\":\"0\"}]\n",
        /* ... of an older epoch */
        "[{\"log\":\"lomash.orders\",\"origin\":\"4f0c2b7e-1c1d-4b52-9d3e-000000000001\",\"partition\":\"0\","
        "\"incarnation\":\"1\","
        "\"epoch\":\"1\",\"by\":\"x-2\"},{\"stream\":\"" RIG_CREATED "\",\"position\":\"60\",\"prev\":\"40\"}]\n",
        /* ... with a gap, behind what would join */
        "[{\"log\":\"lomash.orders\",\"origin\":\"4f0c2b7e-1c1d-4b52-9d3e-000000000001\",\"partition\":\"0\","
        "\"incarnation\":\"1\","
        "\"epoch\":\"2\",\"by\":\"x-3\"},{\"stream\":\"" RIG_CANCELLED "\",\"position\":\"60\",\"prev\":\"50\"},"
        "{\"stream\":\"" RIG_CREATED "\",\"position\":\"70\",\"prev\":\"60\"}]\n",
    };
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct file_broker *broker = rig.broker;
    struct rig_bridge *bridge = rig_open(&rig, 1), *reader = rig_open(&rig, 2);
    struct rig_stream *created = rig_listen(reader, RIG_CREATED, ""),
                      *cancelled = rig_listen(reader, RIG_CANCELLED, "");
    cr_assert_eq(rig_append(bridge, 0, (struct rig_life){2, 1}, five, N(five)), BACKEND_OK);
    for (size_t i = 0; i < N(late); i++)
        put_line(broker->log, late[i], strlen(late[i]));
    static const struct rig_event next[] = {{RIG_CREATED, 60, 40}, {RIG_CANCELLED, 80, 50}};
    cr_assert_eq(rig_append(bridge, 0, (struct rig_life){2, 1}, next, 2), BACKEND_OK);
    cr_assert(rig_until(&rig, created->n >= 4 && cancelled->n >= 3));
    rig_close(reader);
    for (unsigned again = 0; again < 2; again++) {
        reader = rig_read_all(&rig, again == 0 ? RIG_CREATED : RIG_CANCELLED);
        cr_expect_eq(reader->streams[0].n, again == 0 ? 4 : 3, "%zu", reader->streams[0].n);
        cr_expect_eq(reader->streams[0].entries[reader->streams[0].n - 1].position, again == 0 ? 60 : 80);
        cr_assert_eq(rig_ask(reader, 0), BACKEND_OK);
        rig_close(reader);
    }
    rig_end(&rig);
}

/* Appends until all is there, or it is fenced by a later one. */
static int race(void *context)
{
    struct life *life = context;
    struct backend *backend;
    char error[EVBUS_ERROR_MAX];
    uint64_t state = life->epoch * 7919;
    static const char *const topics[] = {RIG_CREATED, RIG_CANCELLED};
    if (CLASS->open(&backend, life->config, origin, &life_callbacks, life, error) != EVBUS_OK)
        return 1;
    for (;;) {
        live_until(backend, &life->is_here, NULL, 0);
        life->is_marked = false;
        if (!CLASS->ask(backend, RIG_LOG, 0, topics, 2))
            continue;
        live_until(backend, &life->is_marked, NULL, 0);
        size_t from = 0;
        while (
            from < life->n &&
            life->events[from].position <=
                life->marks[life->events[from].topic != topics[0] && strcmp(life->events[from].topic, topics[0]) != 0])
            from++;
        if (from == life->n || life->is_fenced)
            return life->is_fenced ? 3 : 0;
        unsigned n_sent = 0, n_answers = life->n_answers;
        for (size_t len; n_sent < 4 && from < life->n; from += len, n_sent++) {
            len = 1 + trial_random(&state) % 6;
            len = len < life->n - from ? len : life->n - from;
            if (!send(backend, life, life->events + from, len))
                break;
        }
        live_until(backend, NULL, &life->n_answers, n_answers + n_sent);
    }
}

Test(file, bridges_that_race_and_die_leave_each_event_once_and_in_order)
{
    enum { EVENTS = 3000, AT_ONCE = 3 };
    uint64_t state = trial_seed("file/bridges_that_race_and_die_leave_each_event_once_and_in_order");
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    static struct rig_event events[EVENTS];
    uint64_t last[2] = {0};
    size_t n = trial_count(EVENTS, 500);
    for (size_t i = 0; i < n; i++) {
        size_t topic = trial_random(&state) % 2;
        events[i] = (struct rig_event){topic == 0 ? RIG_CREATED : RIG_CANCELLED, i + 1, last[topic]};
        last[topic] = i + 1;
    }
    unsigned *n_done = child_shared(sizeof *n_done), n_killed = 0, n_fenced = 0;
    uint64_t epoch = 0;
    struct life lives[AT_ONCE];
    struct child children[AT_ONCE];
    bool is_over[AT_ONCE] = {false};
    for (unsigned i = 0; i < AT_ONCE; i++) {
        lives[i] = (struct life){.config = &rig.config, .epoch = ++epoch, .events = events, .n = n, .n_done = n_done};
        children[i] = child_start(race, &lives[i]);
    }
    for (unsigned turn = 0; turn < 40; turn++) { /* one dies, another takes its place, while batches come in */
        unsigned i = (unsigned)(trial_random(&state) % AT_ONCE), before = __atomic_load_n(n_done, __ATOMIC_SEQ_CST);
        unsigned wanted = before + (unsigned)(trial_random(&state) % 12);
        (void)await_that(__atomic_load_n(n_done, __ATOMIC_SEQ_CST) >= wanted || !child_is_running(&children[i]));
        if (kill(children[i].pid, 0) != 0) { /* fenced, or done: it has been waited for */
            n_fenced++;
        } else {
            child_kill(&children[i]);
            n_killed++;
        }
        lives[i] = (struct life){.config = &rig.config, .epoch = ++epoch, .events = events, .n = n, .n_done = n_done};
        children[i] = child_start(race, &lives[i]);
    }
    for (unsigned i = 0; i < AT_ONCE; i++) {
        int status = child_join(&children[i]);
        is_over[i] = status == 0;
        cr_assert(status == 0 || status == 3, "%d", status);
    }
    cr_assert(is_over[0] || is_over[1] || is_over[2], "the latest of them is fenced by none");
    cr_expect_gt(n_killed, 0);
    struct rig_bridge *reader = rig_open(&rig, 2);
    struct rig_stream *streams[] = {rig_listen(reader, RIG_CREATED, ""), rig_listen(reader, RIG_CANCELLED, "")};
    cr_assert(rig_until(&rig, streams[0]->n_empty > 0 && streams[1]->n_empty > 0));
    for (size_t i = 0, at[2] = {0}; i < n; i++) {
        unsigned topic = strcmp(events[i].topic, RIG_CREATED) != 0;
        cr_assert_lt(at[topic], streams[topic]->n);
        rig_expect_entry(&streams[topic]->entries[at[topic]++], &events[i], 0);
        if (i == n - 1)
            cr_assert_eq(at[0] + at[1], streams[0]->n + streams[1]->n);
    }
    rig_end(&rig);
}

/* --- what others write, and take away ----------------------------------------------------------------------------- */

Test(file, what_is_no_line_of_the_format_is_passed_over)
{
    static const char *const lines[] = {
        "\n",
        "\n\n\n",
        "   \n",
        "x\n",
        "{\n",
        "}\n",
        "[]\n",
        "{}\n",
        "[{}]\n",
        "[1,2]\n",
        "\"\"\n",
        "null\n",
        "\xff\xfe\n",
        "{\"stream\":1}\n",
        "{\"stream\":\"\"}\n",
        "{\"stream\":\"" RIG_CANCELLED "\"\n",
        "{\"a\":\"" RIG_CREATED "\"}\n",
        "[{\"stream\":\"" RIG_CREATED "\"}]\n",
        "[{\"origin\":\"x\",\"partition\":\"0\",\"incarnation\":\"1\",\"epoch\":\"1\",\"by\":\"x\"}]\n",
        "[{\"origin\":\"x\",\"partition\":\"4294967296\",\"incarnation\":\"1\",\"epoch\":\"1\",\"by\":\"x\"},1]\n",
        "[{\"origin\":\"x\",\"partition\":\"0\",\"incarnation\":\"1\",\"epoch\":\"1\",\"by\":\"x\"},{\"stream\":"
        "\"" RIG_CREATED "\"}]\n",
        "[{\"origin\":\"x\",\"partition\":\"0\",\"incarnation\":\"1\",\"epoch\":\"99999999999999999999\",\"by\":\"x\"},"
        "{\"stream\":\"" RIG_CREATED "\",\"position\":\"1\",\"prev\":\"0\"}]\n",
    };
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct file_broker *broker = rig.broker;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 2), BACKEND_OK);
    for (size_t i = 0; i < N(lines); i++)
        put_line(broker->log, lines[i], strlen(lines[i]));
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n >= 3));
    struct rig_bridge *reader = rig_read_all(&rig, RIG_CREATED);
    cr_assert(stream->n == 3 && reader->streams[0].n == 3, "%zu, %zu", stream->n, reader->streams[0].n);
    for (size_t i = 0, at = 0; i < N(five); i++)
        if (strcmp(five[i].topic, RIG_CREATED) == 0)
            rig_expect_entry(&stream->entries[at++], &five[i], 0);
    rig_end(&rig);
}

Test(file, a_foreign_line_may_have_blanks_numbers_and_escapes)
{
    static const char line[] =
        "\r\n { \"payload\" : [ 1.10 ] , \"version\" : 2.10, \"str\\u0065am\":\"x\", \"key\":42,"
        "\"stream\" : \"" RIG_CREATED "\",\"eventType\":\"" RIG_CREATED "\",\"timestamp\":"
        "\"2026-02-01T09:30:00\\u005a\",\"event\\u0049d\":\"0198c0de-0000-7000-8000-0123456789ab\" } \r\n";
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct file_broker *broker = rig.broker;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    put_line(broker->log, line, sizeof line - 1);
    cr_assert(rig_until(&rig, stream->n == 1));
    cr_assert(stream->entries[0].is_event && stream->entries[0].is_foreign, "%s", stream->entries[0].error);
    cr_expect_str_eq(stream->entries[0].payload, "[ 1.10 ]");
    rig_end(&rig);
}

Test(file, a_log_that_was_made_anew_is_known_as_another)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    char old[64];
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 4), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3));
    snprintf(old, sizeof old, "%s", stream->entries[0].id);
    broker_kind.empty(rig.broker);
    cr_assert(rig_until(&rig, stream->n_resets == 1), "it is woken by the file's end");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 6));
    cr_expect_gt(CLASS->id_compare(stream->entries[3].id, stream->entries[2].id), 0, "%s is not above %s",
                 stream->entries[3].id, stream->entries[2].id);
    cr_expect_eq(stream->n_resets, 1);
    struct rig_bridge *later = rig_open(&rig, 1);
    struct rig_stream *again = rig_listen(later, RIG_CREATED, old);
    cr_assert(rig_until(&rig, again->n == 3), "all of the new one, behind an id of the old");
    cr_expect_eq(again->n_resets, 1);
    rig_end(&rig);
}

Test(file, a_log_that_another_has_taken_the_place_of_is_known_as_another)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct file_broker *broker = rig.broker;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 4), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3));
    size_t len;
    char *log = read_log(broker, &len), other[340];
    snprintf(other, sizeof other, "%s.other", broker->log);
    put_line(other, "{\"evbus\":\"log\",\"made\":\"18446744073709551615\"}\n", 47);
    put_line(other, log, len); /* it is longer than ours */
    put_line(other, log, len);
    cr_assert_eq(rename(other, broker->log), 0);
    cr_assert(rig_until(&rig, stream->n_resets == 1));
    cr_assert(rig_until(&rig, stream->n == 6));
    cr_expect_gt(CLASS->id_compare(stream->entries[3].id, stream->entries[2].id), 0);
    free(log);
    rig_end(&rig);
}

Test(file, a_log_that_was_cut_short_is_read_from_its_beginning)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct file_broker *broker = rig.broker;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 2), BACKEND_OK);
    size_t len = folder_len(broker->log);
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3));
    cr_assert_eq(truncate(broker->log, (off_t)len), 0); /* a restored backup */
    cr_assert(rig_until(&rig, stream->n_resets == 1));
    cr_assert(rig_until(&rig, stream->n == 4), "what is there comes again; marks of the bus that reads know it");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five + 4, 1), BACKEND_OK, "of cancelled nothing was lost");
    cr_expect_eq(rig_append(bridge, 0, RIG_FIRST, five + 3, 1), BACKEND_GAP);
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    rig_expect_stream(&rig, RIG_CREATED, 0, five, N(five));
    rig_end(&rig);
}

Test(file, a_payload_that_is_no_json_is_refused_and_nothing_is_appended)
{
    static const char *const payloads[] = {"{", "1,2", "}]\n[{", "\xff", "", "\"\n\""};
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct file_broker *broker = rig.broker;
    size_t len = folder_len(broker->log);
    for (size_t i = 0; i < N(payloads); i++) {
        char text[64];
        struct evbus_version version;
        struct evbus_delivery event = rig_delivery(&five[0], 0, text, &version);
        version.payload = payloads[i];
        version.payload_len = strlen(payloads[i]);
        cr_assert(CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
        cr_assert(CLASS->add(bridge->backend, &event, 0));
        cr_assert(CLASS->send(bridge->backend, i + 1));
        bool is_blanked = strchr(payloads[i], '"') != NULL; /* a raw newline in a string has become a blank there */
        cr_expect_eq(rig_await(bridge, i + 1), is_blanked ? BACKEND_OK : BACKEND_REFUSED, "%s", payloads[i]);
        cr_expect(is_blanked || folder_len(broker->log) == len);
    }
    rig_end(&rig);
}

Test(file, lines_may_be_longer_than_what_is_read_at_once)
{
    enum { EVENTS = 24, BYTES = 200 * 1024 };
    static char large[BYTES + 1];
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    rig.config.batch_bytes = 64 << 20;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    memset(large, 'x', BYTES);
    large[0] = large[BYTES - 1] = '"';
    cr_assert(CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
    for (uint64_t i = 0; i < EVENTS; i++) {
        char text[64];
        struct evbus_version version;
        struct rig_event event = {RIG_CREATED, i + 1, i};
        struct evbus_delivery delivery = rig_delivery(&event, 0, text, &version);
        version.payload = large;
        version.payload_len = BYTES;
        cr_assert(CLASS->add(bridge->backend, &delivery, i));
    }
    cr_assert(CLASS->send(bridge->backend, 1));
    cr_assert_eq(rig_await(bridge, 1), BACKEND_OK);
    struct rig_bridge *reader = rig_read_all(&rig, RIG_CREATED);
    cr_assert_eq(reader->streams[0].n, EVENTS);
    for (uint64_t i = 0; i < EVENTS; i++)
        cr_expect(reader->streams[0].entries[i].position == i + 1 && reader->streams[0].entries[i].prev == i);
    rig_end(&rig);
}

Test(file, any_bytes_are_borne)
{
    uint64_t state = trial_seed("file/any_bytes_are_borne");
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct file_broker *broker = rig.broker;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    size_t len;
    for (size_t i = 0; i < N(five); i++)
        cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, &five[i], 1), BACKEND_OK);
    rig_close(bridge);
    char *good = read_log(broker, &len), *bad = malloc(len);
    static const char syntax[] = "{}[]\",:\\\n 0123456789eu\xff";
    cr_assert_not_null(bad);
    for (uint64_t round = 0; round < trial_count(200, 40); round++) {
        memcpy(bad, good, len);
        for (uint64_t n = 1 + trial_random(&state) % 8; n > 0; n--)
            bad[trial_random(&state) % len] = syntax[trial_random(&state) % (sizeof syntax - 1)];
        write_log(broker, bad, len);
        bridge = rig_open(&rig, 1);
        rig_listen(bridge, RIG_CREATED, "");
        rig_listen(bridge, RIG_CANCELLED, "");
        cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
        cr_assert(rig_until(&rig, bridge->streams[0].n_empty > 0 && bridge->streams[1].n_empty > 0));
        uint64_t created = bridge->marks[0].position;
        struct rig_event next = {RIG_CREATED, created + 5, created}; /* whatever is there: it goes on */
        if (created < UINT32_MAX)
            cr_assert_neq(rig_append(bridge, 0, (struct rig_life){UINT64_MAX, UINT64_MAX}, &next, 1), BACKEND_GAP);
        rig_close(bridge);
    }
    free(good);
    free(bad);
    rig_end(&rig);
}

Test(file, a_broker_that_names_no_folder_is_refused)
{
    static const char *const brokers[] = {"file:", "redis://x", ""};
    for (size_t i = 0; i < N(brokers); i++) {
        struct config config = {.batch_events = 1};
        struct backend *backend = NULL;
        char error[EVBUS_ERROR_MAX] = "";
        snprintf(config.broker, sizeof config.broker, "%s", brokers[i]);
        cr_expect_eq(CLASS->open(&backend, &config, origin, &life_callbacks, NULL, error), EVBUS_EINVAL);
        cr_expect(backend == NULL && strstr(error, "write file:FOLDER") != NULL, "%s", error);
    }
}
