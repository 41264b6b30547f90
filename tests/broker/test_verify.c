/* test_verify.c: evbus verify tells what the broker and the journal have, and of each kind of difference the first, by name.
 *
 * All is real: buses with journals, evbus-bridge processes, a redis-server, `evbus verify` as a program; what it prints with --json is what is looked at.
 * A difference is made by what any client of Redis can do, and undone by a copy of the streams and marks as they were. */
#include "host.h"

#include "folder.h"
#include "proxy.h"
#include "trial.h"

#include <compare.h>
#include <evbus/admin.h>
#include <evbus/mirror.h>

#include <criterion/criterion.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define S          UINT64_C(1000000000)
#define N(rows)    (sizeof(rows) / sizeof(rows)[0])
#define EVENTS     120
#define PART       1 /* of test.a: the one that is tampered with */
#define WORDS_MAX  40
#define EXIT_AWAY  74
#define KEYS_SAVED 32

/* --- evbus verify ---------------------------------------------------------------------------------------------------- */

struct verdict {
    int exit_code;
    json_t *lines; /* of standard output, each a JSON text; array. Lives as long as the test */
    char said[2000];
};

struct verify_start {
    const char *words[WORDS_MAX];
    char out[300];
};

static const char *evbus_program(void)
{
    static char path[4096];
    const char *given = getenv("EVBUS");
    if (given != NULL)
        return given;
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 64);
    path[len > 0 ? len : 0] = '\0';
    char *name = strrchr(path, '/');
    (void)snprintf(name != NULL ? name : path, 64, "/../tools/evbus");
    return path;
}

static int be_verify(void *context)
{
    const struct verify_start *start = context;
    char err[320];
    (void)snprintf(err, sizeof err, "%s.err", start->out);
    int out_fd = open(start->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err_fd = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out_fd < 0 || err_fd < 0 || dup2(out_fd, 1) < 0 || dup2(err_fd, 2) < 0)
        return 126;
    execv(start->words[0], (char *const *)(uintptr_t)start->words);
    return 127;
}

/* settings: of --set, divided by blanks; NULL: none. */
static struct child start_verify(struct verify_start *start, const struct host *host, const char *broker,
                                 const char *settings, const char *timeout)
{
    static unsigned n;
    static char copy[1000];
    size_t i = 0;
    *start = (struct verify_start){0};
    (void)snprintf(start->out, sizeof start->out, "%s/verify-%u", host_folder(), n++);
    const char *const first[] = {evbus_program(), "-b",   host->name,  "--json", "verify",
                                 "--redis",       broker, "--timeout", timeout};
    for (; i < N(first); i++)
        start->words[i] = first[i];
    (void)snprintf(copy, sizeof copy, "%s", settings != NULL ? settings : "");
    for (char *word = strtok(copy, " "); word != NULL && i + 2 < WORDS_MAX; word = strtok(NULL, " ")) {
        start->words[i++] = "--set";
        start->words[i++] = word;
    }
    return child_start(be_verify, start);
}

static struct verdict verdict_of(const struct verify_start *start, int exit_code)
{
    static json_t *all;
    struct verdict verdict = {.exit_code = exit_code, .lines = json_array()};
    char path[320], line[4000];
    FILE *out = fopen(start->out, "re");
    all = all != NULL ? all : json_array();
    json_array_append_new(all, verdict.lines);
    cr_assert_not_null(out);
    while (fgets(line, sizeof line, out) != NULL) {
        json_t *object = json_loads(line, 0, NULL);
        cr_assert_not_null(object, "no JSON text: %s", line);
        json_array_append_new(verdict.lines, object);
    }
    fclose(out);
    (void)snprintf(path, sizeof path, "%s.err", start->out);
    FILE *err = fopen(path, "re");
    cr_assert_not_null(err);
    verdict.said[fread(verdict.said, 1, sizeof verdict.said - 1, err)] = '\0';
    fclose(err);
    return verdict;
}

static struct verdict verify(const struct host *host, const char *broker, const char *settings)
{
    struct verify_start start;
    struct child child = start_verify(&start, host, broker, settings, "60s");
    return verdict_of(&start, child_join(&child));
}

static const char *text_of(const struct verdict *verdict)
{
    static char text[8000];
    char *lines = json_dumps(verdict->lines, JSON_INDENT(1));
    (void)snprintf(text, sizeof text, "exit code %d, %s\n%s", verdict->exit_code, verdict->said, lines);
    free(lines);
    return text;
}

static json_t *line_of(const struct verdict *verdict, const char *log, unsigned partition)
{
    for (size_t i = 0; i < json_array_size(verdict->lines); i++) {
        json_t *line = json_array_get(verdict->lines, i);
        const char *name = json_string_value(json_object_get(line, "log"));
        if (name != NULL && strcmp(name, log) == 0 &&
            json_integer_value(json_object_get(line, "partition")) == (json_int_t)partition)
            return line;
    }
    host_fail("nothing is said of %s/%u: %s", log, partition, text_of(verdict));
}

/* Over all partitions. */
static json_int_t sum_of(const struct verdict *verdict, const char *side, const char *name)
{
    json_int_t sum = 0;
    for (size_t i = 0; i < json_array_size(verdict->lines); i++) {
        const json_t *line = json_array_get(verdict->lines, i);
        sum += json_integer_value(json_object_get(side != NULL ? json_object_get(line, side) : line, name));
    }
    return sum;
}

static void expect_same(const struct verdict *verdict, json_int_t n)
{
    host_expect(verdict->exit_code == 0 || (host_fail("%s", text_of(verdict)), false));
    if (sum_of(verdict, "broker", "events") != n || sum_of(verdict, "journal", "events") != n)
        host_fail("not %lld events: %s", (long long)n, text_of(verdict));
    host_expect(json_array_size(verdict->lines) == 4); /* two logs of two partitions */
    for (size_t i = 0; i < json_array_size(verdict->lines); i++) {
        const json_t *line = json_array_get(verdict->lines, i);
        const json_t *here = json_object_get(line, "journal"), *there = json_object_get(line, "broker");
        host_expect(json_is_true(json_object_get(line, "same")));
        host_expect(json_object_get(line, "difference") == NULL);
        host_expect(json_equal(here, there));
        host_expect(strspn(json_string_value(json_object_get(here, "hash")), "0123456789abcdef") == 16);
        host_expect(json_integer_value(json_object_get(here, "events")) > 0 || n == 0);
    }
}

/* --- what is the same ------------------------------------------------------------------------------------------------ */

static const char *file_broker(void)
{
    static char url[300];
    (void)snprintf(url, sizeof url, "file:%s/broker", host_folder());
    mkdir(url + 5, 0700);
    return url;
}

static int look_whether_held(void *context, const struct evbus_mirror_stat *stat)
{
    (void)context;
    for (size_t i = 0; i < stat->n_parts; i++)
        if (stat->parts[i].held != stat->parts[i].tail)
            return 1;
    return EVBUS_OK;
}

/* All is out, and the bridge has it on the record; then it ends. */
static void end_bridge(struct host *host)
{
    host_until(evbus_mirrors(host->bus, look_whether_held, NULL) == EVBUS_OK);
    host_expect(host_bridge_end(host, 0) == 0);
}

static bool is_running(const struct child *child)
{
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

/* As full as an event can be, with blanks that a broker by lines does not keep. */
static void publish_full(struct host *host)
{
    const struct evbus_version more[] = {{.major = 2, .minor = 1, .payload = "\r\n{\"v\":\r\n2.10}\n"}};
    const struct evbus_event event = {.size = sizeof event,
                                      .topic = "test.b.one",
                                      .payload = " { \"total\" :\r 19.990, \"gr\\u00fc\xc3\x9f\\n\":1 }\t",
                                      .key = "k\x01 \xc3\xbc",
                                      .more_versions = more,
                                      .n_more_versions = 1,
                                      .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                      .tracestate = "vendor=value",
                                      .correlation_id = "order 10248",
                                      .causation_id = "because",
                                      .expires_at_ns = UINT64_C(4102444800000000000),
                                      .timeout_ns = 20 * S};
    cr_assert_eq(evbus_publish(host->bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
}

static void same(const char *broker, const char *settings)
{
    struct host *hosts[] = {host_make(EVBUS_KEEPER_VOLUNTEER), host_make(EVBUS_KEEPER_VOLUNTEER)};
    for (unsigned i = 0; i < 2; i++)
        host_bridge(hosts[i], 0, broker, settings);
    host_publish(hosts[0], EVENTS);
    host_publish(hosts[1], 30);
    publish_full(hosts[0]);
    host_settle(hosts, 2);
    json_int_t n = (json_int_t)host_published(1) + 1;
    struct verdict runs = verify(hosts[0], broker, settings); /* while its bridge runs */
    if (runs.exit_code != 0 || sum_of(&runs, "broker", "events") + sum_of(&runs, NULL, "behind") != n)
        host_fail("%s", text_of(&runs));
    for (unsigned i = 0; i < 2; i++)
        host_expect(host_bridge_end(hosts[i], 0) == 0);
    struct verdict ended = verify(hosts[0], broker, settings);
    expect_same(&ended, n);
    host_expect(sum_of(&ended, NULL, "behind") == 0 && sum_of(&ended, NULL, "trimmed") == 0);
    struct verdict other = verify(hosts[1], broker, settings);
    expect_same(&other, (json_int_t)host_published(2));
    host_publish(hosts[0], 20);
    struct verdict behind = verify(hosts[0], broker, settings);
    expect_same(&behind, n);
    host_expect(sum_of(&behind, NULL, "behind") == 20);
}

Test(verify, what_a_bridge_has_brought_to_redis_is_the_same, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    same(redis.url, "checkpoint=50ms");
}

Test(verify, with_layout_log_too, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    same(redis.url, "layout=log checkpoint=50ms");
}

Test(verify, what_a_file_has_is_the_same_but_for_blanks_that_it_does_not_keep, .timeout = 180)
{
    host_folder();
    same(file_broker(), "checkpoint=50ms");
}

Test(verify, in_a_file_by_log_too, .timeout = 180)
{
    host_folder();
    same(file_broker(), "layout=log checkpoint=50ms");
}

/* --- what is not ------------------------------------------------------------------------------------------------------ */

/* One bus whose events are in one Redis; no bridge runs. */
struct scene {
    struct redis_server redis;
    struct host *host;
    redisContext *client;
    const char *settings;
    bool is_by_log;
    const char *stream; /* with what is tampered with; it has topics one, or one and two */
    char mark[200];     /* of PART there */
    char saved[KEYS_SAVED][200];
    size_t n_saved;
    redisReply *entries;    /* of the stream, as they were */
    size_t of_part[EVENTS]; /* which of them are of PART */
    size_t n;
};

static redisReply *ask(struct scene *scene, int n, const char *const *words, const size_t *lens)
{
    redisReply *reply = redisCommandArgv(scene->client, n, (const char **)(uintptr_t)words, lens);
    if (reply == NULL || reply->type == REDIS_REPLY_ERROR)
        host_fail("%s: %s", words[0], reply != NULL ? reply->str : scene->client->errstr);
    return reply;
}

static const redisReply *field_of(const redisReply *entry, const char *name)
{
    const redisReply *fields = entry->element[1];
    for (size_t i = 0; i + 1 < fields->elements; i += 2)
        if (strcmp(fields->element[i]->str, name) == 0)
            return fields->element[i + 1];
    host_fail("an entry has no %s", name);
}

/* Streams and marks, and nothing else, under other names. */
static void save(struct scene *scene)
{
    redisReply *keys = ask(scene, 2, (const char *[]){"KEYS", "*"}, NULL);
    for (size_t i = 0; i < keys->elements; i++) {
        if (strstr(keys->element[i]->str, ":hosts") != NULL)
            continue;
        cr_assert_lt(scene->n_saved, KEYS_SAVED);
        (void)snprintf(scene->saved[scene->n_saved], sizeof scene->saved[0], "%s", keys->element[i]->str);
        char copy[220];
        (void)snprintf(copy, sizeof copy, "saved:%s", keys->element[i]->str);
        freeReplyObject(ask(scene, 3, (const char *[]){"COPY", keys->element[i]->str, copy}, NULL));
        scene->n_saved++;
    }
    freeReplyObject(keys);
}

static void restore(struct scene *scene)
{
    for (size_t i = 0; i < scene->n_saved; i++) {
        char copy[220];
        (void)snprintf(copy, sizeof copy, "saved:%s", scene->saved[i]);
        freeReplyObject(ask(scene, 4, (const char *[]){"COPY", copy, scene->saved[i], "REPLACE"}, NULL));
    }
}

static void open_scene(struct scene *scene, const char *layout, const char *settings)
{
    *scene = (struct scene){.redis = redis_server_start(NULL), .settings = settings};
    scene->is_by_log = strcmp(layout, "log") == 0;
    scene->stream = scene->is_by_log ? "{test.a}" : "test.a.one";
    scene->host = host_make(EVBUS_KEEPER_VOLUNTEER);
    host_bridge(scene->host, 0, scene->redis.url, settings);
    host_await_bridge(scene->host, 0);
    host_publish(scene->host, EVENTS);
    end_bridge(scene->host);
    scene->client = redisConnectUnix(scene->redis.socket);
    cr_assert(scene->client != NULL && scene->client->err == 0);
    scene->entries = ask(scene, 4, (const char *[]){"XRANGE", scene->stream, "-", "+"}, NULL);
    for (size_t i = 0; i < scene->entries->elements; i++)
        if (atoi(field_of(scene->entries->element[i], "partition")->str) == PART)
            scene->of_part[scene->n++] = i;
    cr_assert_gt(scene->n, 12);
    (void)snprintf(scene->mark, sizeof scene->mark, "evbus:{%s}:mark:%s:%d",
                   scene->is_by_log ? "test.a" : scene->stream, field_of(scene->entries->element[0], "origin")->str,
                   PART);
    save(scene);
    struct verdict verdict = verify(scene->host, scene->redis.url, settings);
    expect_same(&verdict, EVENTS);
}

static void close_scene(struct scene *scene)
{
    freeReplyObject(scene->entries);
    redisFree(scene->client);
}

/* The k-th of PART. */
static const redisReply *entry_at(const struct scene *scene, size_t k)
{
    return scene->entries->element[scene->of_part[k]];
}

static const char *position_at(const struct scene *scene, size_t k)
{
    return field_of(entry_at(scene, k), "position")->str;
}

struct change {
    const char *field; /* it gets this value; NULL: none does */
    const char *value; /* NULL: it is left out */
    bool is_added;     /* it is one more */
};

/* Its id; static. id "*": the next one. */
static const char *append(struct scene *scene, const char *stream, const char *id, const redisReply *entry,
                          const struct change *change)
{
    static char given[64];
    const redisReply *fields = entry->element[1];
    const char *words[80] = {"XADD", stream, id};
    size_t lens[80] = {4, strlen(stream), strlen(id)};
    int n = 3;
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        bool is_it = change != NULL && !change->is_added && strcmp(fields->element[i]->str, change->field) == 0;
        if (is_it && change->value == NULL)
            continue;
        words[n] = fields->element[i]->str;
        lens[n++] = fields->element[i]->len;
        words[n] = is_it ? change->value : fields->element[i + 1]->str;
        lens[n++] = is_it ? strlen(change->value) : fields->element[i + 1]->len;
    }
    if (change != NULL && change->is_added) {
        words[n] = change->field;
        lens[n++] = strlen(change->field);
        words[n] = change->value;
        lens[n++] = strlen(change->value);
    }
    redisReply *reply = ask(scene, n, words, lens);
    (void)snprintf(given, sizeof given, "%s", reply->str);
    freeReplyObject(reply);
    return given;
}

/* All entries anew, in this order: `later` of PART stands behind the one that follows it, where it is no SIZE_MAX; `changed` is. Ids are n-0. */
static void write_anew(struct scene *scene, size_t later, size_t changed, const struct change *change)
{
    size_t swapped = later != SIZE_MAX ? scene->of_part[later] : SIZE_MAX;
    size_t with = later != SIZE_MAX ? scene->of_part[later + 1] : SIZE_MAX;
    freeReplyObject(ask(scene, 2, (const char *[]){"DEL", scene->stream}, NULL));
    for (size_t i = 0; i < scene->entries->elements; i++) {
        char id[32];
        size_t from = i == swapped ? with : i == with ? swapped : i;
        (void)snprintf(id, sizeof id, "%zu-0", i + 1);
        append(scene, scene->stream, id, scene->entries->element[from],
               changed != SIZE_MAX && from == scene->of_part[changed] ? change : NULL);
    }
}

struct expected {
    const char *what, *field; /* NULL: none is told */
    const char *position;
    const char *event_id; /* NULL: whichever */
    const char *stream;
    const char *ids[2]; /* NULL: none; "": whichever */
    json_int_t more;    /* entries at the broker, than there should be */
};

static bool is_text(const json_t *object, const char *name, const char *text)
{
    const char *value = json_string_value(json_object_get(object, name));
    return text == NULL ? value == NULL : value != NULL && strcmp(value, text) == 0;
}

static void expect_difference(struct scene *scene, const char *label, const struct expected *expected)
{
    struct verdict verdict = verify(scene->host, scene->redis.url, scene->settings);
    const json_t *line = line_of(&verdict, "test.a", PART);
    const json_t *difference = json_object_get(line, "difference");
    const json_t *ids = json_object_get(difference, "entries");
    size_t n_ids = expected->ids[1] != NULL ? 2 : expected->ids[0] != NULL ? 1 : 0;
    bool is_as_expected = verdict.exit_code == 1 && json_is_false(json_object_get(line, "same")) &&
                          is_text(difference, "what", expected->what) &&
                          is_text(difference, "field", expected->field) &&
                          is_text(difference, "position", expected->position) &&
                          is_text(difference, "stream", expected->stream) &&
                          (expected->event_id == NULL || is_text(difference, "eventId", expected->event_id)) &&
                          json_array_size(ids) == n_ids &&
                          sum_of(&verdict, "broker", "events") == EVENTS + expected->more;
    for (size_t i = 0; i < n_ids; i++)
        is_as_expected = is_as_expected && (expected->ids[i][0] == '\0' ||
                                            strcmp(json_string_value(json_array_get(ids, i)), expected->ids[i]) == 0);
    const char *there = json_string_value(json_object_get(json_object_get(line, "broker"), "hash"));
    const char *here = json_string_value(json_object_get(json_object_get(line, "journal"), "hash"));
    if (!is_as_expected || strcmp(there, here) == 0)
        host_fail("%s, layout by %s: at %s of stream %s: %s", label, scene->is_by_log ? "log" : "topic",
                  expected->position, expected->stream, text_of(&verdict));
    /* what is not tampered with is the same: what a row does to one partition touches no other */
    host_expect(json_is_true(json_object_get(line_of(&verdict, "test.a", 1 - PART), "same")));
    host_expect(json_is_true(json_object_get(line_of(&verdict, "test.b", 0), "same")));
    restore(scene);
}

static void differ_in_entries(struct scene *scene)
{
    const redisReply *fifth = entry_at(scene, 4);
    const char *id = fifth->element[0]->str, *event_id = field_of(fifth, "eventId")->str;
    const char *name = scene->is_by_log ? "test.a" : scene->stream; /* as bridges call the stream */
    char there_too[64];

    freeReplyObject(ask(scene, 3, (const char *[]){"XDEL", scene->stream, id}, NULL));
    expect_difference(
        scene, "deleted",
        &(struct expected){
            .what = "missing", .position = position_at(scene, 4), .event_id = event_id, .stream = name, .more = -1});

    const redisReply *last = entry_at(scene, scene->n - 1);
    freeReplyObject(ask(scene, 3, (const char *[]){"XDEL", scene->stream, last->element[0]->str}, NULL));
    expect_difference(scene, "the last deleted",
                      &(struct expected){.what = "missing",
                                         .position = position_at(scene, scene->n - 1),
                                         .event_id = field_of(last, "eventId")->str,
                                         .stream = name,
                                         .more = -1});

    (void)snprintf(there_too, sizeof there_too, "%s", append(scene, scene->stream, "*", fifth, NULL));
    expect_difference(scene, "appended twice",
                      &(struct expected){.what = "twice",
                                         .position = position_at(scene, 4),
                                         .event_id = event_id,
                                         .stream = name,
                                         .ids = {id, there_too},
                                         .more = 1});

    /* behind all events; between two: each takes two cells at least; far beyond all */
    static const size_t behind[] = {SIZE_MAX, 4};
    for (size_t i = 0; i < N(behind); i++) {
        char forged[32];
        size_t k = behind[i] != SIZE_MAX ? behind[i] : scene->n - 1;
        (void)snprintf(forged, sizeof forged, "%llu", strtoull(position_at(scene, k), NULL, 10) + 1);
        (void)snprintf(there_too, sizeof there_too, "%s",
                       append(scene, scene->stream, "*", fifth, &(struct change){"position", forged, false}));
        expect_difference(scene, "forged",
                          &(struct expected){.what = "unknown",
                                             .position = forged,
                                             .event_id = event_id,
                                             .stream = name,
                                             .ids = {there_too},
                                             .more = 1});
    }
    append(scene, scene->stream, "*", fifth, &(struct change){"position", "281474976710000", false});
    expect_difference(
        scene, "forged, far beyond",
        &(struct expected){.what = "unknown", .position = "281474976710000", .stream = name, .ids = {""}, .more = 1});

    write_anew(scene, 4, SIZE_MAX, NULL);
    expect_difference(
        scene, "swapped",
        &(struct expected){
            .what = "order", .position = position_at(scene, 4), .event_id = event_id, .stream = name, .ids = {""}});
}

static void differ_in_fields(struct scene *scene)
{
    static const struct {
        struct change change;
        const char *what, *field;
    } rows[] = {
        {{"payload", "{\"total\":0}", false}, "differs", "payload"},
        {{"payload", NULL, false}, "differs", "payload"},
        {{"eventId", "0198c0de-0000-7000-8000-0123456789ab", false}, "differs", "eventId"},
        {{"eventType", "test.a.other", false}, "differs", "eventType"},
        {{"timestamp", "2026-02-01T09:30:00.000Z", false}, "differs", "timestamp"},
        {{"version", "1.1", false}, "differs", "version"},
        {{"key", "k9", false}, "differs", "key"},
        {{"key", NULL, false}, "differs", "key"},
        {{"prev", "1", false}, "differs", "prev"},
        {{"prev", NULL, false}, "differs", "prev"},
        {{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true}, "differs", "traceparent"},
        {{"payload.2", "{}", true}, "differs", "payload.2"},
        {{"note", "", true}, "differs", "note"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        bool is_id = strcmp(rows[i].field, "eventId") == 0;
        write_anew(scene, SIZE_MAX, 6, &rows[i].change);
        expect_difference(scene, rows[i].field,
                          &(struct expected){.what = rows[i].what,
                                             .field = rows[i].field,
                                             .position = position_at(scene, 6),
                                             .event_id = is_id ? NULL : field_of(entry_at(scene, 6), "eventId")->str,
                                             .stream = scene->is_by_log ? "test.a" : scene->stream,
                                             .ids = {""}});
    }
}

static void differ_in_marks(struct scene *scene)
{
    const char *name = scene->is_by_log ? "test.a" : scene->stream;
    freeReplyObject(
        ask(scene, 4, (const char *[]){"HSET", scene->mark, "position", position_at(scene, scene->n - 3)}, NULL));
    expect_difference(scene, "the mark set back",
                      &(struct expected){.what = "beyond",
                                         .position = position_at(scene, scene->n - 2),
                                         .event_id = field_of(entry_at(scene, scene->n - 2), "eventId")->str,
                                         .stream = name,
                                         .ids = {entry_at(scene, scene->n - 2)->element[0]->str}});
}

/* The bridge has noted how far it was: so what is gone with its mark is known. */
static void differ_by_what_is_lost(struct scene *scene)
{
    freeReplyObject(ask(scene, 2, (const char *[]){"DEL", scene->stream}, NULL));
    struct verdict verdict = verify(scene->host, scene->redis.url, scene->settings);
    const json_t *line = line_of(&verdict, "test.a", PART);
    if (verdict.exit_code != 1 || !is_text(json_object_get(line, "difference"), "what", "lost") ||
        !is_text(json_object_get(line, "difference"), "position", position_at(scene, 0)) ||
        sum_of(&verdict, "journal", "events") != EVENTS ||
        sum_of(&verdict, "broker", "events") != (json_int_t)(EVENTS - scene->entries->elements))
        host_fail("a stream deleted: %s", text_of(&verdict));
    restore(scene);
}

static void say_no_place(struct scene *scene)
{
    static const struct change rows[] = {
        {"position", NULL, false},  {"position", "12x", false},
        {"position", "0", false},   {"position", "281474976710656", false},
        {"partition", NULL, false}, {"partition", "7", false},
    };
    for (size_t i = 0; i < N(rows); i++) {
        const char *id = append(scene, scene->stream, "*", entry_at(scene, 3), &rows[i]);
        struct verdict verdict = verify(scene->host, scene->redis.url, scene->settings);
        const json_t *line = json_array_get(verdict.lines, json_array_size(verdict.lines) - 1);
        if (verdict.exit_code != 1 || json_array_size(verdict.lines) != 5 || !is_text(line, "entry", id) ||
            json_integer_value(json_object_get(line, "stray")) != 1)
            host_fail("%s %s: %s", rows[i].field, rows[i].value != NULL ? rows[i].value : "left out",
                      text_of(&verdict));
        restore(scene);
    }
}

static void be_the_same_all_the_same(struct scene *scene)
{
    /* a foreign program's, another bus's, one that comes behind: none is ours to compare */
    redis_server_ask(&scene->redis, "XADD %s * eventId 0198c0de-0000-7000-8000-0123456789ab payload {}", scene->stream);
    append(scene, scene->stream, "*", entry_at(scene, 3),
           &(struct change){"origin", "0198c0de-0000-7000-8000-0123456789ab", false});
    append(scene, scene->stream, "*", entry_at(scene, 3), &(struct change){"origin", NULL, false});
    struct verdict verdict = verify(scene->host, scene->redis.url, scene->settings);
    expect_same(&verdict, EVENTS);
    restore(scene);
    /* trimmed, by one and by all */
    redis_server_ask(&scene->redis, "XTRIM %s MAXLEN %zu", scene->stream, scene->entries->elements - 7);
    verdict = verify(scene->host, scene->redis.url, scene->settings);
    expect_same(&verdict, EVENTS - 7);
    host_expect(sum_of(&verdict, NULL, "trimmed") == 7);
    redis_server_ask(&scene->redis, "XTRIM %s MAXLEN 0", scene->stream);
    verdict = verify(scene->host, scene->redis.url, scene->settings);
    host_expect(verdict.exit_code == 0 || (host_fail("%s", text_of(&verdict)), false));
    host_expect(sum_of(&verdict, NULL, "trimmed") == (json_int_t)scene->entries->elements);
    host_expect(sum_of(&verdict, "broker", "events") + (json_int_t)scene->entries->elements == EVENTS);
    restore(scene);
    /* a mark that is gone is found again, as a bridge does */
    redis_server_ask(&scene->redis, "DEL %s", scene->mark);
    verdict = verify(scene->host, scene->redis.url, scene->settings);
    expect_same(&verdict, EVENTS);
    restore(scene);
}

static void differ_in_all_ways(const char *layout, const char *settings)
{
    struct scene scene;
    open_scene(&scene, layout, settings);
    differ_in_entries(&scene);
    differ_in_fields(&scene);
    differ_in_marks(&scene);
    differ_by_what_is_lost(&scene);
    say_no_place(&scene);
    be_the_same_all_the_same(&scene);
    close_scene(&scene);
}

Test(verify, each_difference_is_told_by_its_name_and_its_place, .timeout = 180)
{
    differ_in_all_ways("topic", "checkpoint=50ms");
}

Test(verify, and_so_it_is_with_layout_log, .timeout = 180)
{
    differ_in_all_ways("log", "layout=log checkpoint=50ms");
}

Test(verify, an_event_in_another_topics_stream_differs_by_its_stream, .timeout = 180)
{
    struct scene scene;
    open_scene(&scene, "topic", "checkpoint=50ms");
    const redisReply *moved = entry_at(&scene, 4);
    freeReplyObject(ask(&scene, 3, (const char *[]){"XDEL", scene.stream, moved->element[0]->str}, NULL));
    append(&scene, "test.a.two", "*", moved, NULL);
    expect_difference(&scene, "moved",
                      &(struct expected){.what = "differs",
                                         .field = "stream",
                                         .position = position_at(&scene, 4),
                                         .event_id = field_of(moved, "eventId")->str,
                                         .stream = "test.a.one",
                                         .ids = {""}});
    close_scene(&scene);
}

/* --- while all runs --------------------------------------------------------------------------------------------------- */

Test(verify, what_is_published_meanwhile_is_no_difference, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *host = host_make(EVBUS_KEEPER_VOLUNTEER);
    host_bridge(host, 0, redis.url, "checkpoint=50ms");
    host_await_bridge(host, 0);
    uint64_t n = 0;
    for (unsigned i = 0; i < trial_count(10, 4); i++) {
        struct verify_start start;
        struct child child = start_verify(&start, host, redis.url, NULL, "60s");
        while (is_running(&child)) {
            char key[8];
            (void)snprintf(key, sizeof key, "k%u", (unsigned)(n % HOST_KEYS));
            const struct evbus_event event = {.size = sizeof event,
                                              .topic = host_topics[n % HOST_TOPICS],
                                              .payload = "{\"total\":19.99}",
                                              .key = key,
                                              .timeout_ns = 20 * S};
            cr_assert_eq(evbus_publish(host->bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
            n++;
            await_pause(); /* else the bridge would have much to do when we end */
        }
        struct verdict verdict = verdict_of(&start, child_join(&child));
        if (verdict.exit_code != 0)
            host_fail("the %uth, of %llu events: %s", i + 1, (unsigned long long)n, text_of(&verdict));
    }
    end_bridge(host);
    struct verdict verdict = verify(host, redis.url,
                                    "in=false"); /* as a bridge that only sends: we read all the same */
    expect_same(&verdict, (json_int_t)n);
}

/* Through a proxy that takes its time: when the first entries have come, all but the last five of each stream go. */
static struct verdict verify_overtaken(struct scene *scene, struct proxy *proxy)
{
    enum { FIRST_BYTES = 12000, KEPT = 5 }; /* what comes before entries is less, and the first of them are more */
    struct verify_start start;
    uint64_t n_bytes = proxy_replies(proxy);
    struct child child = start_verify(&start, scene->host, proxy->url, scene->settings, "60s");
    host_until(proxy_replies(proxy) - n_bytes > FIRST_BYTES || !is_running(&child));
    for (unsigned t = 0; t < HOST_TOPICS; t++)
        redis_server_ask(&scene->redis, "XTRIM %s MAXLEN %d", host_topics[t], KEPT);
    return verdict_of(&start, child_join(&child));
}

Test(verify, a_trim_that_overtakes_the_reading_is_no_difference_and_hides_none, .timeout = 180)
{
    struct scene scene;
    open_scene(&scene, "topic", "checkpoint=50ms");
    struct proxy proxy = proxy_start(host_folder(), scene.redis.socket);
    proxy_delay(&proxy, 100);
    struct verdict verdict = verify_overtaken(&scene, &proxy);
    if (verdict.exit_code != 0 || sum_of(&verdict, "broker", "events") + sum_of(&verdict, NULL, "trimmed") != EVENTS)
        host_fail("%s", text_of(&verdict));
    restore(&scene);
    const redisReply *deleted = scene.entries->element[scene.entries->elements - 2];
    freeReplyObject(ask(&scene, 3, (const char *[]){"XDEL", scene.stream, deleted->element[0]->str}, NULL));
    verdict = verify_overtaken(&scene, &proxy);
    const json_t *line = line_of(&verdict, "test.a", (unsigned)atoi(field_of(deleted, "partition")->str));
    if (verdict.exit_code != 1 || !is_text(json_object_get(line, "difference"), "what", "missing") ||
        !is_text(json_object_get(line, "difference"), "position", field_of(deleted, "position")->str))
        host_fail("%s", text_of(&verdict));
    proxy_end(&proxy);
    close_scene(&scene);
}

Test(verify, what_the_bus_does_not_keep_any_more_is_not_compared, .timeout = 180)
{
    /* a log in memory alone: its ring is soon overwritten */
    static const char more[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                               "\"defaults\":{\"partitions\":2,\"ring\":\"1MiB\",\"journal\":true},"
                               "\"topics\":{\"test.a.one\":{},\"test.a.two\":{},\"test.b.one\":{},\"test.m.one\":{}},"
                               "\"logs\":{\"test.m\":{\"partitions\":1,\"ring\":\"64KiB\",\"journal\":false}}}";
    enum { MANY = 3000 };
    struct redis_server redis = redis_server_start(NULL);
    struct host *host = host_make(EVBUS_KEEPER_VOLUNTEER);
    cr_assert_eq(evbus_catalogue_apply(host->bus, more, sizeof more - 1, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    host_bridge(host, 0, redis.url, "checkpoint=50ms");
    host_await_bridge(host, 0);
    for (unsigned i = 0; i < MANY; i++) {
        const struct evbus_event event = {.size = sizeof event,
                                          .topic = "test.m.one",
                                          .payload = "{\"total\":19.99}",
                                          .key = "k",
                                          .timeout_ns = HOST_MS * UINT64_C(1000000)};
        cr_assert_eq(evbus_publish(host->bus, &event, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    }
    end_bridge(host);
    struct verdict verdict = verify(host, redis.url, NULL);
    json_int_t n_there = sum_of(&verdict, "broker", "events"), n_retired = sum_of(&verdict, NULL, "retired");
    if (verdict.exit_code != 0 || n_there + n_retired != MANY || n_there == 0 || n_retired == 0)
        host_fail("%s", text_of(&verdict));
    /* what stands where the bus has something is looked at all the same */
    char origin[37];
    (void)snprintf(origin, sizeof origin, "%s", redis_server_fields(&redis, "test.m.one", "origin"));
    redis_server_ask(&redis, "XADD test.m.one * origin %s partition 0 position 281474976710000", origin);
    verdict = verify(host, redis.url, NULL);
    if (verdict.exit_code != 1 ||
        !is_text(json_object_get(line_of(&verdict, "test.m", 0), "difference"), "what", "unknown"))
        host_fail("%s", text_of(&verdict));
}

/* --- what does not answer --------------------------------------------------------------------------------------------- */

static void expect_refused(const struct host *host, const char *broker, const char *settings, const char *timeout,
                           int exit_code, const char *text)
{
    struct verify_start start;
    struct child child = start_verify(&start, host, broker, settings, timeout);
    struct verdict verdict = verdict_of(&start, child_join(&child));
    if (verdict.exit_code != exit_code || strstr(verdict.said, text) == NULL || json_array_size(verdict.lines) != 0)
        host_fail("not %d, \"%s\": %s", exit_code, text, text_of(&verdict));
}

Test(verify, a_broker_that_says_nothing_is_told_and_not_waited_for_for_ever, .timeout = 180)
{
    struct redis_server redis = redis_server_start(NULL);
    struct host *host = host_make(EVBUS_KEEPER_VOLUNTEER);
    expect_refused(host, redis.url, NULL, "60s", 1, "has no mirror redis: no bridge of this config has run on it yet");
    host_bridge(host, 0, redis.url, "checkpoint=50ms");
    host_await_bridge(host, 0);
    host_publish(host, 50);
    end_bridge(host);
    expect_refused(host, redis.url, "name=other", "60s", 1, "has no mirror other");
    expect_refused(host, redis.url, "nam=other", "60s", 2, "did you mean");
    expect_refused(host, redis.url, NULL, "soon", 2, "--timeout takes a duration");
    expect_refused(host, redis.url, "topics=test.z.*", "60s", 1, "is mirrored");
    redis_server_pause(&redis); /* it takes connections, and is silent */
    expect_refused(host, redis.url, NULL, "300ms", EXIT_AWAY, "says nothing");
    redis_server_continue(&redis);
    redis_server_ask(&redis, "SET evbus:{test.a.one}:mark:x y");
    redis_server_ask(&redis, "DEL test.a.one");
    redis_server_ask(&redis, "SET test.a.one nonsense");
    expect_refused(host, redis.url, NULL, "60s", EXIT_AWAY, "does not tell its marks");
    redis_server_ask(&redis, "DEL test.a.one");
    redis_server_stop(&redis);
    expect_refused(host, redis.url, NULL, "300ms", EXIT_AWAY, "--timeout waits longer");
    /* it comes back in time */
    struct verify_start start;
    struct child child = start_verify(&start, host, redis.url, NULL, "60s");
    redis_server_again(&redis);
    struct verdict verdict = verdict_of(&start, child_join(&child));
    if (verdict.exit_code != 1 || sum_of(&verdict, "journal", "events") != 50) /* a stream was deleted */
        host_fail("%s", text_of(&verdict));
}

/* --- one partition, as a journal with holes has it --------------------------------------------------------------------- */

#define ORIGIN "4f0c0de0-0000-4000-8000-0123456789ab"

static struct evbus_delivery event_at(uint64_t position, uint64_t lost, struct evbus_version *version)
{
    *version = (struct evbus_version){.major = 1, .payload = "{}", .payload_len = 2};
    struct evbus_delivery event = {.size = sizeof event,
                                   .topic = "test.a.one",
                                   .timestamp_ns = UINT64_C(1769938200000000000),
                                   .key = "",
                                   .log = "test.a",
                                   .position = position,
                                   .lost = lost,
                                   .versions = version,
                                   .n_versions = 1};
    return event;
}

struct hole {
    const char *label;
    uint64_t began, oldest;
    uint64_t there[6]; /* entries' positions; 0 ends them */
    uint64_t here[6];  /* events' */
    uint64_t foreign;  /* this one was brought in from elsewhere */
    uint64_t lost;     /* before this event the journal has lost something */
    enum compare_what what;
    uint64_t position;
    uint64_t n, n_retired, n_trimmed, n_behind; /* n: entries that are compared */
};

static void expect_hole(const struct hole *row)
{
    struct compare_part part = {.log = "test.a", .began = row->began, .oldest = row->oldest, .out = 60, .tail = 100};
    struct compare_lane lane = {.mark = 50, .end = "9"};
    struct evbus_version version;
    for (size_t i = 0; i < N(row->there) && row->there[i] != 0; i++) {
        struct entry entry = {0};
        struct evbus_delivery event = event_at(row->there[i], 0, &version);
        entry_write(&event, ORIGIN, i > 0 ? row->there[i - 1] : 0, &entry);
        struct backend_entry shown = {.id = "1", .fields = entry.fields, .n_fields = entry.n};
        cr_assert(compare_entry(&part, &lane, "test.a.one", &shown, row->there[i], i > 0 ? row->there[i - 1] : 0));
    }
    compare_begin(&part);
    for (size_t i = 0; i < N(row->here) && row->here[i] != 0; i++) {
        struct evbus_delivery event = event_at(row->here[i], row->here[i] == row->lost, &version);
        if (row->here[i] == row->foreign)
            compare_pass(&part, row->here[i], row->here[i] == row->lost);
        else
            cr_assert(compare_event(&part, &lane, "test.a.one", ORIGIN, &event));
    }
    compare_end(&part);
    cr_expect_str_eq(compare_name(part.first.what), compare_name(row->what), "%s: %s", row->label,
                     compare_name(part.first.what));
    cr_expect_eq(part.first.position, row->position, "%s: at %llu", row->label,
                 (unsigned long long)part.first.position);
    cr_expect(part.there.n == row->n && part.n_retired == row->n_retired && part.n_trimmed == row->n_trimmed &&
                  part.n_behind == row->n_behind,
              "%s: %llu compared, %llu retired, %llu trimmed, %llu behind", row->label,
              (unsigned long long)part.there.n, (unsigned long long)part.n_retired, (unsigned long long)part.n_trimmed,
              (unsigned long long)part.n_behind);
    compare_forget(&part);
}

Test(compare, of_what_the_journal_does_not_have_it_says_only_what_it_knows)
{
    static const struct hole rows[] = {
        {.label = "all", .there = {10, 20, 50}, .here = {10, 20, 50}, .n = 3},
        {.label = "nothing", .n = 0},
        {.label = "lost in the middle",
         .there = {10, 20, 30, 50},
         .here = {10, 50},
         .lost = 50,
         .n = 2,
         .n_retired = 2},
        {.label = "lost at the beginning", .there = {10, 20, 50}, .here = {20, 50}, .lost = 20, .n = 2, .n_retired = 1},
        {.label = "lost before one that came in",
         .there = {10, 20, 50},
         .here = {10, 30, 50},
         .foreign = 30,
         .lost = 30,
         .n = 2,
         .n_retired = 1},
        {.label = "lost, and unknown behind it",
         .there = {10, 20, 40, 50},
         .here = {10, 30, 50},
         .foreign = 30,
         .lost = 30,
         .what = COMPARE_UNKNOWN,
         .position = 40,
         .n = 3,
         .n_retired = 1},
        {.label = "retired", .oldest = 15, .there = {10, 20, 50}, .here = {20, 50}, .n = 2, .n_retired = 1},
        {.label = "retired while it was read",
         .oldest = 15,
         .there = {10, 20, 50},
         .here = {10, 20, 50},
         .n = 2,
         .n_retired = 1},
        {.label = "one that came in, as ours",
         .there = {10, 20, 50},
         .here = {10, 20, 50},
         .foreign = 20,
         .what = COMPARE_UNKNOWN,
         .position = 20,
         .n = 3},
        {.label = "before all began", .began = 25, .there = {10, 50}, .here = {10, 20, 50}, .n = 2},
        {.label = "behind where all began",
         .began = 25,
         .there = {10, 50},
         .here = {10, 20, 30, 50},
         .what = COMPARE_MISSING,
         .position = 30,
         .n = 2},
        {.label = "trimmed", .there = {30, 50}, .here = {10, 20, 30, 50}, .n = 2, .n_trimmed = 2},
        {.label = "passed by, and behind", .there = {50}, .here = {50, 55, 60, 70}, .n = 1, .n_behind = 2},
        {.label = "the first of two", /* differences */
         .there = {10, 30, 30, 45, 50},
         .here = {10, 20, 30, 50},
         .what = COMPARE_MISSING,
         .position = 20,
         .n = 5},
    };
    for (size_t i = 0; i < N(rows); i++)
        expect_hole(&rows[i]);
}
