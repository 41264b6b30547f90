/* test_config.c: what the operator says is read strictly, from four places, and all that is wrong is told. */
#include "config.h"

#include "broker_url.h"
#include "config_file.h"
#include "config_keys.h"
#include "folder.h"

#include <criterion/criterion.h>
#include <evbus/evbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       UINT64_C(1000000000)
#define BROKER  "broker = redis://127.0.0.1\n"

/* What was told, a line each. */
struct told {
    char text[20000];
    size_t n;
};

static void keep(void *context, const char *problem)
{
    struct told *told = context;
    size_t len = strlen(told->text);
    cr_assert_lt(strlen(problem), CONFIG_PROBLEM_MAX);
    cr_assert_null(strchr(problem, '\n'), "%s", problem);
    snprintf(told->text + len, sizeof told->text - len, "%s\n", problem);
    told->n++;
}

static struct config config;
static struct config_origins origins;
static struct told told;

/* A config of these; the file's name is "test.conf". */
static int read_all(const char *text, char *const *environment, const struct config_setting *settings,
                    size_t n_settings)
{
    memset(&told, 0, sizeof told);
    return config_read(&(struct config_reading){.path = "test.conf",
                                                .text = text,
                                                .text_len = strlen(text),
                                                .environment = environment,
                                                .settings = settings,
                                                .n_settings = n_settings,
                                                .tell = keep,
                                                .context = &told},
                       &config, &origins);
}

static int read_text(const char *text)
{
    return read_all(text, NULL, NULL, 0);
}

static void is_fine(const char *text)
{
    cr_assert_eq(read_text(text), EVBUS_OK, "%s\n%s", text, told.text);
    cr_assert_eq(told.n, 0);
}

/* Exactly one problem, which says all of these. */
static void is_refused(const char *text, const char *const *sayings)
{
    cr_assert_eq(read_text(text), EVBUS_ECONFIG, "%s\n%s", text, told.text);
    cr_assert_eq(told.n, 1, "%s\n%s", text, told.text);
    for (; *sayings != NULL; sayings++)
        cr_assert_not_null(strstr(told.text, *sayings), "%s\nsays not \"%s\" but: %s", text, *sayings, told.text);
}
#define IS_REFUSED(text, ...) is_refused(text, (const char *const[]){__VA_ARGS__, NULL})

/* --- each key ------------------------------------------------------------------------------------------------------ */

/* One of each key, and what it comes back as; one that is none, and the mend. */
static const struct row {
    const char *key, *good, *back, *bad, *mend;
} rows[] = {
    {"bus", "shop_2", "shop_2", "Shop", "a-z 0-9 - _"},
    {"broker", "redis://cache@10.0.0.5:6380/2", "redis://cache@10.0.0.5:6380/2", "http://x", "write redis://HOST:PORT"},
    {"name", "redis-2", "redis-2", "a.b", "1 to 32"},
    {"user", "bridge", "bridge", "a b", "blank"},
    {"password_file", "/", NULL, "secret", "whole path"}, /* good: see below */
    {"tls_ca", "/etc", NULL, "ca.pem", "whole path"},
    {"tls_cert", "/etc/hostname", NULL, "c.pem", "whole path"},
    {"tls_key", "/etc/hostname", NULL, "k.pem", "whole path"},
    {"tls_name", "redis.example.org", NULL, "a b", "the server's certificate"},
    {"layout", "log", "log", "stream", "topic or log"},
    {"topics", "lomash.orders.*,lomash.**", "lomash.orders.*, lomash.**", "lomash.orders.created, ,a.b.c",
     "between two commas"},
    {"out", "no", "no", "maybe", "neither yes nor no"},
    {"in", "off", "no", "2", "neither yes nor no"},
    {"start", "latest", "latest", "now", "earliest or latest"},
    {"batch_events", "1000", "1000", "1001", "1 to 1000"},
    {"batch_bytes", "2048KiB", "2MiB", "1MB", "KiB, MiB or GiB"},
    {"linger", "1500us", "1500us", "5", "250ms"},
    {"batches", "64", "64", "-1", "digits alone"},
    {"wait_replicas", "2", "2", "17", "0 to 16"},
    {"wait_timeout", "2000 ms", "2s", "0", "1ms to 1m"},
    {"connect_timeout", "300s", "5m", "301s", "10ms to 5m"},
    {"reply_timeout", "20s", "20s", "1day", "no duration"},
    {"trim_age", "0", "0s", "999ms", "1s to 3650d are allowed, and 0"},
    {"trim_interval", "60m", "1h", "0", "100ms to 1d"},
    {"host_timeout", "168h", "7d", "99999999999999999999d", "no duration"},
    {"checkpoint", "10ms", "10ms", "9ms", "10ms to 1m"},
    {"metrics", "127.0.0.1:9640", "127.0.0.1:9640", "10.0.0.5:9640", "of this host alone"},
    {"log_format", "json", "json", "xml", "logfmt or json"},
    {"log_level", "debug", "debug", "trace", "error, warning, info or debug"},
};

Test(config, has_a_good_and_a_bad_value_for_each_key)
{
    cr_assert_eq(N(rows), config_n_keys, "a new key is a new row");
    for (size_t i = 0; i < N(rows); i++) {
        char text[300], value[400], line[64];
        cr_assert_str_eq(rows[i].key, config_keys[i].name, "rows stand in the order of the keys");
        const char *first = strcmp(rows[i].key, "broker") != 0 ? BROKER : "# nothing\n";
        snprintf(line, sizeof line, "test.conf:2: %s: ", rows[i].key);
        if (rows[i].back != NULL) {
            snprintf(text, sizeof text, "%s%s = %s\n", first, rows[i].key, rows[i].good);
            is_fine(text);
            config_value_write(&config_keys[i], &config, value, sizeof value);
            cr_assert_str_eq(value, rows[i].back, "%s", text);
            cr_assert_eq(origins.of[i].place, CONFIG_FILE);
            cr_assert_eq(origins.of[i].line, 2);
        }
        snprintf(text, sizeof text, "%s%s = %s\n", first, rows[i].key, rows[i].bad);
        IS_REFUSED(text, line, config_keys[i].kind != CONFIG_LIST ? rows[i].bad : "", rows[i].mend);
    }
}

Test(config, has_defaults_that_work_with_a_broker_alone)
{
    is_fine(BROKER);
    cr_assert_str_eq(config.bus, "lomash");
    cr_assert_str_eq(config.name, "redis");
    cr_assert(config.out && config.in && !config.log_json);
    cr_assert_eq(config.n_topics, 0);
    cr_assert_eq(config.batch_bytes, 1 << 20);
    cr_assert_eq(config.host_timeout_ns, 7 * 86400 * S);
    cr_assert_eq(config.log_level, EVBUS_LOG_INFO);
    cr_assert_str_eq(config.metrics, "");
    is_fine("broker = file:/tmp\n");
    cr_assert_str_eq(config.name, "file");
}

Test(config, takes_no_value_that_is_longer_than_its_field)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        char text[12000], value[10001];
        if (config_keys[i].kind != CONFIG_TEXT)
            continue;
        memset(value, 'a', sizeof value - 1);
        value[config_keys[i].size] = '\0';
        snprintf(text, sizeof text, "%s%s = %s\n", i != 1 ? BROKER : "#\n", config_keys[i].name, value);
        IS_REFUSED(text, "test.conf:2: ", config_keys[i].name, "at most");
    }
    char text[12000];
    size_t len = (size_t)snprintf(text, sizeof text, BROKER "topics = ");
    for (size_t i = 0; i < CONFIG_TOPICS_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%slomash.a%zu.**", i == 0 ? "" : ", ", i);
    is_fine(text);
    cr_assert_eq(config.n_topics, CONFIG_TOPICS_MAX);
    cr_assert_str_eq(config.topics[63], "lomash.a63.**");
    snprintf(text + len, sizeof text - len, ", lomash.orders.*");
    IS_REFUSED(text, "more than 64 patterns");
}

Test(config, knows_patterns_of_topics_as_the_library_does)
{
    static const struct {
        const char *pattern;
        bool is_fine;
    } patterns[] = {{"lomash.orders.created", true},
                    {"*.*.*", true},
                    {"lomash.a.b.c", true},
                    {"**", true},
                    {"lomash.**", true},
                    {"a.b.c.**", true},
                    {"lomash.orders", false},
                    {"a.b.c.d.e", false},
                    {"a.**.b", false},
                    {"a..b", false},
                    {"a.b.", false},
                    {"a.b.C", false},
                    {"a.b.1c", false},
                    {"a.b.c*", false},
                    {"a b.c.d", false},
                    {"a.b.c.d.**", false},
                    {".a.b", false},
                    {"a.b.***", false},
                    {"a.b.c-1", true}};
    for (size_t i = 0; i < N(patterns); i++) {
        char text[100];
        snprintf(text, sizeof text, BROKER "topics = %s\n", patterns[i].pattern);
        cr_expect_eq(read_text(text) == EVBUS_OK, patterns[i].is_fine, "%s: %s", patterns[i].pattern, told.text);
    }
}

/* --- lines --------------------------------------------------------------------------------------------------------- */

Test(config, reads_lines_as_people_write_them)
{
    is_fine("\xef\xbb\xbf# a mark of Windows in front\r\n"
            "\r\n  broker=redis://h\t # behind a tab and a blank\r\n"
            "tls_name\t=\t\"\"\n"
            "user = \"a\\\"b\\\\#\" # quotes\n"
            "metrics = \"unix:/tmp/a b # c\"\n"
            "topics =\n"
            "   # the end has no newline\n"
            "password_file =\n"
            "name = x");
    cr_assert_str_eq(config.user, "a\"b\\#");
    cr_assert_str_eq(config.metrics, "unix:/tmp/a b # c");
    cr_assert_str_eq(config.name, "x");
}

Test(config, refuses_lines_that_are_no_setting)
{
    static const struct {
        const char *line, *saying;
    } lines[] = {
        {"[bridge]", "no sections"},
        {"linger", "neither a comment nor key = value"},
        {"= 5", "neither a comment nor key = value"},
        {"linger : 5ms", "neither a comment nor key = value"},
        {"name = \"x", "without its end"},
        {"name = \"x\" y", "behind the closing"},
        {"name = \"\\n\"", "write \\\\"},
        {"name = 'x'", "single quotes"},
        {"name = x\x01", "control character"},
        {"name = \"x\x1b[31m\"", "control character"},
        {"batch-events = 5", "did you mean batch_events?"},
        {"batchevents = 5", "did you mean batch_events?"},
        {"BROKER = x", "there is no key \"BROKER\""},
        {"password = hunter2", "did you mean password_file?"},
        {"redis = redis://h", "did you mean broker?"},
        {"maxlen = 1000", "did you mean trim_age?"},
        {"colour = red", "--print-config lists them"},
    };
    for (size_t i = 0; i < N(lines); i++) {
        char text[200];
        snprintf(text, sizeof text, BROKER "\n%s\n", lines[i].line);
        IS_REFUSED(text, "test.conf:3: ", lines[i].saying);
    }
    IS_REFUSED(BROKER "name = a\nlinger = 5ms\nname = b\n", "test.conf:4: name is set in line 2 already");
    cr_assert_null(strstr(told.text, "hunter2"));
}

Test(config, refuses_bytes_that_are_no_text)
{
    static const char text[] = BROKER "name = a\0b\n";
    memset(&told, 0, sizeof told);
    int rc = config_read(
        &(struct config_reading){
            .path = "test.conf", .text = text, .text_len = sizeof text - 1, .tell = keep, .context = &told},
        &config, &origins);
    cr_assert_eq(rc, EVBUS_ECONFIG);
    cr_assert_not_null(strstr(told.text, "test.conf:2: has a NUL byte"), "%s", told.text);
}

Test(config, tells_all_that_is_wrong_at_once)
{
    static const char *const sayings[] = {"test.conf:1: broker: ",
                                          "test.conf:2: linger: ",
                                          "test.conf:4: there is no key \"colour\"",
                                          "test.conf:5: ",
                                          "environment, EVBUS_BRIDGE_BATCHES: batches: ",
                                          "command line, --set: log_level: "};
    char *environment[] = {"EVBUS_BRIDGE_BATCHES=many", NULL};
    struct config_setting settings[] = {{"--set", "log_level", "loud"}};
    cr_assert_eq(read_all("broker = nowhere\nlinger = 5\nbatches = 2\ncolour = red\n[x]\n", environment, settings, 1),
                 EVBUS_ECONFIG);
    for (size_t i = 0; i < N(sayings); i++)
        cr_assert_not_null(strstr(told.text, sayings[i]), "says not \"%s\" but:\n%s", sayings[i], told.text);
    cr_assert_eq(told.n, N(sayings), "%s", told.text);
}

/* --- places -------------------------------------------------------------------------------------------------------- */

Test(config, lets_the_command_line_have_the_last_word_then_the_environment_then_the_file)
{
    char *environment[] = {"PATH=/bin",
                           "EVBUS_BUS=of-all",
                           "EVBUS_BRIDGE_BUS=of-bridge",
                           "EVBUS_BRIDGE_BATCHES=3",
                           "EVBUS_BRIDGE_NAME=env",
                           "EVBUS_BRIDGE=no-prefix",
                           NULL};
    struct config_setting settings[] = {{"--redis", "broker", "redis://line"}, {"--set", "name", "line"}};
    cr_assert_eq(read_all("broker = redis://file\nbus = file\nname = file\nbatches = 2\nbatch_events = 9\n",
                          environment, settings, 2),
                 EVBUS_OK, "%s", told.text);
    cr_assert_str_eq(config.broker, "redis://line");
    cr_assert_str_eq(config.name, "line");
    cr_assert_str_eq(config.bus, "of-bridge");
    cr_assert_eq(config.batches, 3);
    cr_assert_eq(config.batch_events, 9);
    cr_assert_eq(origins.n[CONFIG_FILE], 5);
    cr_assert_eq(origins.n[CONFIG_ENVIRONMENT], 4);
    cr_assert_eq(origins.n[CONFIG_COMMAND_LINE], 2);
    cr_assert_eq(read_all(BROKER, (char *[]){"EVBUS_BUS=of-all", NULL}, NULL, 0), EVBUS_OK);
    cr_assert_str_eq(config.bus, "of-all");
    cr_assert_eq(read_all(BROKER, (char *[]){"EVBUS_BUS=", NULL}, NULL, 0), EVBUS_OK);
    cr_assert_str_eq(config.bus, "lomash");
}

Test(config, tells_a_mistake_also_where_a_later_place_has_the_last_word)
{
    struct config_setting settings[] = {{"--set", "linger", "5ms"}};
    cr_assert_eq(read_all(BROKER "linger = 5\n", NULL, settings, 1), EVBUS_ECONFIG);
    cr_assert_not_null(strstr(told.text, "test.conf:2: linger"));
}

Test(config, tells_apart_whether_only_the_command_line_is_wrong)
{
    struct config_setting settings[] = {{"--set", "lingre", "5ms"}};
    cr_assert_eq(read_all(BROKER, NULL, settings, 1), EVBUS_EINVAL);
    cr_assert_not_null(strstr(told.text, "command line, --set: there is no key \"lingre\"; did you mean linger?"), "%s",
                       told.text);
    settings[0] = (struct config_setting){"--set", "tls_ca", "/a\nname = x"};
    cr_assert_eq(read_all(BROKER, NULL, settings, 1), EVBUS_EINVAL);
    cr_assert_not_null(strstr(told.text, "command line, --set: tls_ca: \"/a\\x0aname = x\" has a control character"),
                       "%s", told.text);
    cr_assert_eq(read_all(BROKER, (char *[]){"EVBUS_BRIDGE_LINGRE=5ms", NULL}, NULL, 0), EVBUS_ECONFIG);
    cr_assert_not_null(strstr(told.text, "did you mean EVBUS_BRIDGE_LINGER?"), "%s", told.text);
}

/* --- what keys say together ---------------------------------------------------------------------------------------- */

Test(config, looks_at_what_keys_say_together)
{
    IS_REFUSED("name = x\n", "broker: is not set", "--redis redis://HOST:PORT");
    IS_REFUSED("broker = redis://a@h\nuser = b\n", "test.conf:2: user: ", "names \"a\"");
    IS_REFUSED(BROKER "tls_name = h\n", "test.conf:2: tls_name: ", "rediss://");
    IS_REFUSED("broker = rediss://h\ntls_cert = /etc/hostname\n", "test.conf:2: tls_cert: ", "go together");
    IS_REFUSED("broker = rediss://h\ntls_ca = /nowhere/ca.pem\n",
               "test.conf:2: tls_ca: /nowhere/ca.pem cannot be read");
    IS_REFUSED(BROKER "in = no\nout = no\n", "nothing to do");
    IS_REFUSED("broker = file:/tmp\nuser = x\n", "test.conf:2: user: ", "files have none");
    IS_REFUSED(BROKER "wait_replicas = 1\nreply_timeout = 1s\n", "wait_timeout: is not shorter than reply_timeout");
    is_fine(BROKER "reply_timeout = 1s\n");
    is_fine("broker = redis://a@h\nuser = a\n");
    is_fine("broker = redis://a@h\n");
    cr_assert_str_eq(config.user, "a");
}

/* --- URLs ---------------------------------------------------------------------------------------------------------- */

Test(config, reads_urls)
{
    static const struct {
        const char *text;
        struct broker_url url;
    } urls[] = {
        {"redis://h", {.host = "h", .port = 6379}},
        {"redis://h/", {.host = "h", .port = 6379}},
        {"redis://u@h.example:1/15", {.user = "u", .host = "h.example", .port = 1, .db = 15}},
        {"rediss://[::1]", {.is_tls = true, .host = "::1", .port = 6379}},
        {"rediss://u@[fe80::1]:65535/0", {.is_tls = true, .user = "u", .host = "fe80::1", .port = 65535}},
        {"unix:///run/redis.sock", {.path = "/run/redis.sock"}},
        {"unix:///run/redis.sock?db=3", {.path = "/run/redis.sock", .db = 3}},
        {"sentinel://s/m", {.sentinels = {{"s", 26379}}, .n_sentinels = 1, .master = "m"}},
        {"sentinel://u@10.0.0.1,[::1]:7,s3.example:8/my-Master_1.x?db=15",
         {.user = "u",
          .sentinels = {{"10.0.0.1", 26379}, {"::1", 7}, {"s3.example", 8}},
          .n_sentinels = 3,
          .master = "my-Master_1.x",
          .db = 15}},
        {"file:out", {.kind = BROKER_FILE, .path = "out"}},
        {"file:/var/out", {.kind = BROKER_FILE, .path = "/var/out"}},
    };
    static const struct {
        const char *text, *told;
    } wrong[] = {
        {"", "is no broker that we know"},
        {"localhost:6379", "is no broker that we know"},
        {"http://localhost", "is no broker that we know"},
        {"redis:", "is no broker that we know"},
        {"redis:/localhost", "is no broker that we know"},
        {"REDIS://h", "is no broker that we know"},
        {"redis://", "names no host"},
        {"redis://:6379", "names no host"},
        {"redis://h:0", "has a port that is none"},
        {"redis://h:65536", "has a port that is none"},
        {"redis://h:6379x", "has a port that is none"},
        {"redis://h:-1", "has a port that is none"},
        {"redis://h:", "has a port that is none"},
        {"redis://h/x", "has a database that is no number"},
        {"redis://h/0/1", "has a database that is no number"},
        {"redis://h/99999999999", "has a database that is no number"},
        {"redis://h/99999999", "has a database that is no number"},
        {"redis://h?db=1", "options behind a ?"},
        {"redis://h#1", "options behind a ?"},
        {"redis://::1", "[::1]:6379"},
        {"redis://::1:6379", "[::1]:6379"},
        {"redis://[::1", "a [ without its ]"},
        {"redis://[::1]6379", "behind the ]"},
        {"redis://@h", "a user of 0 bytes"},
        {"redis://u%40d@h", "name the user by the key `user`"},
        {"redis://a@b@h", "other letters than a URL has"},
        {"redis://a b", "other letters than"},
        {"unix://run/x", "names no socket"},
        {"unix://", "names no socket"},
        {"unix:///", "names no socket"},
        {"unix:///?db=1", "names no socket"},
        {"unix:///x?db=", "db=N with a number"},
        {"unix:///x?db=1x", "db=N with a number"},
        {"unix:///x?x=1", "db=N with a number"},
        {"unix:///"
         "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
         "8",
         "has a path of 110 bytes"},
        {"sentinel://", "names no master"},
        {"sentinel://s", "names no master"},
        {"sentinel://s/", "names no master"},
        {"sentinel://s/?db=1", "names no master"},
        {"sentinel://s?db=1", "names no master"},
        {"sentinel:///m", "names no host"},
        {"sentinel://s,/m", "names no host"},
        {"sentinel://,s/m", "names no host"},
        {"sentinel://s:x/m", "has a port that is none"},
        {"sentinel://s/m/1", "other letters than a-z A-Z"},
        {"sentinel://s/m?tls=yes", "db=N with a number"},
        {"sentinel://u:p@s/m", "password_file"},
        {"sentinel://1,2,3,4,5,6,7,8,9/m", "more than 8 sentinels"},
        {"file:", "names no folder"},
    };
    struct broker_url url;
    char why[CONFIG_PROBLEM_MAX];
    for (size_t i = 0; i < N(urls); i++) {
        cr_assert(broker_url_read(urls[i].text, &url, why), "%s: %s", urls[i].text, why);
        cr_assert_eq(memcmp(&url, &urls[i].url, sizeof url), 0, "%s", urls[i].text);
    }
    for (size_t i = 0; i < N(wrong); i++) {
        why[0] = '\0';
        struct broker_url before = url;
        cr_assert_not(broker_url_read(wrong[i].text, &url, why), "%s", wrong[i].text);
        cr_assert_not_null(strstr(why, wrong[i].told), "%s: %s", wrong[i].text, why);
        cr_assert_eq(memcmp(&url, &before, sizeof url), 0, "untouched on failure: %s", wrong[i].text);
    }
}

Test(config, refuses_a_password_in_the_url_and_never_shows_it)
{
    static const char *const urls[] = {"redis://u:hunter2@h", "redis://:hunter2@h:6379", "rediss://u:hunter2/@h/1",
                                       "redis://u:hun:ter2@x@h", "http://u:hunter2@h"};
    for (size_t i = 0; i < N(urls); i++) {
        char text[200];
        snprintf(text, sizeof text, "broker = %s\n", urls[i]);
        IS_REFUSED(text, "test.conf:1: broker: ", i < 4 ? "password_file" : "no broker", ":***@");
        cr_assert_null(strstr(told.text, "hun"), "%s", told.text);
    }
}

/* --- passwords ----------------------------------------------------------------------------------------------------- */

static struct folder folder;
static char secret[400];

static void write_secret(const char *bytes, size_t len, mode_t mode)
{
    if (folder.path[0] == '\0')
        folder = folder_make();
    snprintf(secret, sizeof secret, "%s/secret", folder.path);
    unlink(secret);
    FILE *file = fopen(secret, "we");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, len, file), len);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(chmod(secret, mode), 0);
}

static const char *with_secret(void)
{
    static char text[600];
    snprintf(text, sizeof text, BROKER "password_file = %s\n", secret);
    return text;
}

Test(config, reads_a_password_of_any_bytes_without_its_newline)
{
    static const char bytes[] = "a\0b\xff\n c\r\n";
    char all[600];
    write_secret(bytes, sizeof bytes - 1, 0640);
    is_fine(with_secret());
    cr_assert_eq(config.password_len, sizeof bytes - 2);
    cr_assert_eq(memcmp(config.password, bytes, sizeof bytes - 2), 0);
    cr_assert_eq(config.password[config.password_len], '\0');
    memset(all, 'x', sizeof all);
    write_secret(all, sizeof config.password - 1, 0400);
    is_fine(with_secret());
    cr_assert_eq(config.password_len, sizeof config.password - 1);
    write_secret(all, sizeof config.password, 0400);
    IS_REFUSED(with_secret(), "more than a password");
    write_secret("\n", 1, 0400);
    IS_REFUSED(with_secret(), "is empty");
}

Test(config, refuses_a_password_that_everybody_can_read)
{
    write_secret("x", 1, 0644);
    IS_REFUSED(with_secret(), "test.conf:2: password_file: ", "mode 0644", "read it", "chmod 640");
    write_secret("x", 1, 0642);
    IS_REFUSED(with_secret(), "write it");
    snprintf(secret, sizeof secret, "%s", folder.path);
    IS_REFUSED(with_secret(), "is no file");
    snprintf(secret, sizeof secret, "%s/nothing", folder.path);
    IS_REFUSED(with_secret(), "No such file");
    write_secret("x", 1, 0604);
    char text[600];
    snprintf(text, sizeof text, "broker = rediss://h\ntls_cert = /etc/hostname\ntls_key = %s\n", secret);
    IS_REFUSED(text, "test.conf:3: tls_key: ", "mode 0604");
}

/* --- out again ----------------------------------------------------------------------------------------------------- */

static char *printed(void)
{
    char *text = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);
    config_print(&config, &origins, file);
    cr_assert_eq(fclose(file), 0);
    return text;
}

Test(config, prints_what_reads_back_as_the_same_and_no_secret)
{
    struct config before;
    write_secret("hunter2", 7, 0600);
    char text[2000];
    snprintf(text, sizeof text,
             "broker = redis://h\nmetrics = \"unix:/tmp/a b\\\\ # \\\"c\"\ntopics = a.b.*, c.**\nlinger = "
             "1500us\nlog_format = json\nout = no\n"
             "user = u#1\npassword_file = %s\nbatch_bytes = 4097B\n",
             secret);
    is_fine(text);
    before = config;
    char *first = printed();
    cr_assert_null(strstr(first, "hunter2"));
    cr_assert_not_null(strstr(first, "linger = 1500us    # test.conf:4\n"), "%s", first);
    cr_assert_not_null(strstr(first, "# the password of 7 bytes is not shown\n"));
    is_fine(first);
    cr_assert_eq(memcmp(&before, &config, sizeof config), 0, "%s", first);
    free(first);
}

Test(config, takes_over_what_may_change_and_names_the_rest)
{
    static struct config running;
    struct config_changes changes;
    write_secret("one", 3, 0600);
    is_fine(with_secret());
    running = config;
    char text[700];
    write_secret("longer", 6, 0600);
    snprintf(text, sizeof text,
             "broker = redis://other\npassword_file = %s\nlinger = 7ms\nlog_level = debug\ntopics = a.b.c\n", secret);
    is_fine(text);
    config_change(&running, &config, &changes);
    cr_assert_str_eq(changes.taken, "linger,log_level");
    cr_assert_str_eq(changes.restart, "broker,topics");
    cr_assert(changes.is_secret_new);
    cr_assert_eq(running.linger_ns, 7 * S / 1000);
    cr_assert_eq(running.log_level, EVBUS_LOG_DEBUG);
    cr_assert_str_eq(running.broker, "redis://127.0.0.1");
    cr_assert_eq(running.n_topics, 0);
    cr_assert_str_eq(running.password, "longer");
    cr_assert_eq(running.password_len, 6);
    config_change(&running, &running, &changes);
    cr_assert_str_eq(changes.taken, "");
    cr_assert_str_eq(changes.restart, "");
    cr_assert_not(changes.is_secret_new);
    config_wipe(&running);
    static const struct config nothing;
    cr_assert_eq(memcmp(&running, &nothing, sizeof running), 0);
}

Test(config, says_that_a_file_cannot_be_read)
{
    struct config_reading reading = {.path = "/nowhere/evbus.conf", .tell = keep, .context = &told};
    memset(&told, 0, sizeof told);
    cr_assert_eq(config_read(&reading, &config, &origins), EVBUS_EIO);
    cr_assert_eq(told.n, 1, "%s", told.text);
    cr_assert_not_null(strstr(told.text, "/nowhere/evbus.conf: cannot be read: No such file"), "%s", told.text);
    reading.path = "/";
    memset(&told, 0, sizeof told);
    cr_assert_eq(config_read(&reading, &config, &origins), EVBUS_EIO);
    cr_assert_eq(told.n, 1, "%s", told.text);
}
