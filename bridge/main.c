/* main.c: evbus-bridge(8), from its command line to its loop.
 *
 *     descriptors 0..2 are open, SIGPIPE is nobody's
 *     command line   wrong: 2, with what was meant
 *     config         all problems told; wrong: 78 (2 where only the command line is). --check-config and --print-config end here
 *     signals        blocked before the library makes its first thread, so that the loop's descriptor gets them and no thread dies of them
 *     --verify       ends here: verify.c looks at bus and broker
 *     bus            not there: 69, or awaited for --wait
 *     loop           until SIGTERM; SIGHUP comes back here for the config
 *
 * Until the config is read, what is wrong is said as a person reads it ("evbus-bridge: ..."); from then on say.c has the word.
 * Checked by tests/cli/test_bridge_config.sh. */
#include "args_nearest.h"
#include "config_keys.h"
#include "loop.h"
#include "say.h"
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define SERVICE    "evbus-bridge"
#define WAIT_NS    UINT64_C(250000000)   /* between two looks for the bus */
#define TIMEOUT_NS UINT64_C(10000000000) /* of --verify */

/* Most are sysexits.h's, and those of evbus(1). */
enum {
    EXIT_DONE = 0,
    EXIT_NO = 1,
    EXIT_USAGE = 2,
    EXIT_NO_BUS = 69,
    EXIT_CORRUPT = 70,
    EXIT_CANNOT_CREATE = 73,
    EXIT_IO = 74,
    EXIT_TRY_AGAIN = 75,
    EXIT_DENIED = 77,
    EXIT_CONFIG = 78
};

enum { SETTINGS_MAX = 64 };

struct command_line {
    struct config_setting settings[SETTINGS_MAX];
    char keys[SETTINGS_MAX][64]; /* of --set KEY=VALUE */
    size_t n_settings;
    const char *path; /* NULL: the default */
    uint64_t wait_ns;
    bool check_config;
    bool print_config;
    bool verify;
    struct verify_options verify_options;
    bool help;
    bool version;
};

struct program {
    struct command_line line;
    struct config config; /* in use */
    struct config_origins origins;
    uint64_t n_reloads;
};

extern char **environ;

/* --- the command line --------------------------------------------------------------------------------------------- */

enum option_number {
    OPTION_REDIS,
    OPTION_CONFIG,
    OPTION_SET,
    OPTION_BUS,
    OPTION_WAIT,
    OPTION_CHECK,
    OPTION_PRINT,
    OPTION_VERIFY,
    OPTION_JSON,
    OPTION_TIMEOUT,
    OPTION_HELP,
    OPTION_VERSION
};

static const struct option {
    const char *name;
    char letter;
    const char *value; /* NULL: has none */
    const char *help;
} options[] = {
    [OPTION_REDIS] =
        {"redis", 0, "URL",
         "where Redis is: redis://[USER@]HOST[:PORT][/DB], rediss://..., unix:///PATH, sentinel://HOST,HOST/NAME"},
    [OPTION_CONFIG] = {"config", 'c', "FILE", "the config file; else " CONFIG_PATH ", if it is there"},
    [OPTION_SET] = {"set", 's', "KEY=VALUE", "one key of evbus.conf(5); may be given again and again"},
    [OPTION_BUS] = {"bus", 'b', "NAME", "which bus; else $EVBUS_BUS, else lomash"},
    [OPTION_WAIT] = {"wait", 'w', "DURATION", "how long to wait for a bus that is not there yet; else not at all"},
    [OPTION_CHECK] = {"check-config", 0, NULL, "say whether the config is right, and end"},
    [OPTION_PRINT] = {"print-config", 0, NULL, "print every key, its value and where it comes from, and end"},
    [OPTION_VERIFY] = {"verify", 0, NULL, "compare the journal with the broker, print what differs first, and end"},
    [OPTION_JSON] = {"json", 0, NULL, "of --verify: for programs, one JSON text a line"},
    [OPTION_TIMEOUT] = {"timeout", 0, "DURATION", "of --verify: how long to wait for a silent broker; else 10s"},
    [OPTION_HELP] = {"help", 'h', NULL, "this text"},
    [OPTION_VERSION] = {"version", 0, NULL, "the version"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

__attribute__((format(printf, 2, 3))) static int complain(int exit_code, const char *format, ...)
{
    va_list args;
    (void)fflush(stdout);
    (void)fputs("evbus-bridge: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    return exit_code;
}

static void print_help(void)
{
    (void)printf("usage: evbus-bridge --redis URL [OPTION...]\n"
                 "       evbus-bridge [--config FILE] [OPTION...]\n\n"
                 "Mirrors the topics of a bus to a broker, and what others have put there to the bus.\n\noptions:\n");
    for (size_t i = 0; i < N_OPTIONS; i++) {
        char left[40], letter[8] = "    ";
        if (options[i].letter != 0)
            (void)snprintf(letter, sizeof letter, "-%c, ", options[i].letter);
        (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, options[i].name, options[i].value != NULL ? " " : "",
                       options[i].value != NULL ? options[i].value : "");
        (void)printf("  %-26s %s\n", left, options[i].help);
    }
    (void)printf(
        "\nA key of evbus.conf(5) may also be set by the environment: EVBUS_BRIDGE_LINGER=5ms. The command "
        "line has the last\n"
        "word, then the environment, then the file.\n\nexamples:\n"
        "  evbus-bridge --redis redis://127.0.0.1:6379\n"
        "  evbus-bridge --redis rediss://redis.example.org --set password_file=/etc/evbus/redis.password\n"
        "  evbus-bridge --config ./evbus.conf --check-config\n"
        "  evbus-bridge --redis redis://127.0.0.1:6379 --verify\n\n"
        "exit codes: 0 done, 1 it differs, 2 command line, 69 no bus, 70 corrupt, 73 cannot create, 74 input or "
        "output, 75 try again, 77 denied, 78 config\n");
}

static int unknown_option(const char *name, size_t len)
{
    const char *best = NULL;
    size_t best_distance = 0;
    char word[64];
    (void)snprintf(word, sizeof word, "%.*s", (int)(len < 60 ? len : 60), name);
    for (size_t i = 0; i < N_OPTIONS; i++)
        args_nearest(word, options[i].name, &best, &best_distance);
    for (size_t i = 0; i < config_n_keys; i++)
        if (strcmp(config_keys[i].name, word) == 0)
            return complain(EXIT_USAGE, "--%s is no option; %s is a key: --set %s=VALUE", word, word, word);
    if (best != NULL)
        return complain(EXIT_USAGE, "there is no option --%s; did you mean --%s?", word, best);
    return complain(EXIT_USAGE, "there is no option --%s; evbus-bridge --help lists them", word);
}

static int add_setting(struct command_line *line, const char *option, const char *key, const char *value)
{
    if (line->n_settings == SETTINGS_MAX)
        return complain(EXIT_USAGE, "more than %d settings; write them into a file, and name it by --config",
                        SETTINGS_MAX);
    line->settings[line->n_settings++] = (struct config_setting){.option = option, .key = key, .value = value};
    return EXIT_DONE;
}

static int add_key(struct command_line *line, const char *text)
{
    const char *equals = strchr(text, '=');
    size_t len = equals != NULL ? (size_t)(equals - text) : 0;
    char *key = line->keys[line->n_settings < SETTINGS_MAX ? line->n_settings : 0];
    if (len == 0 || len >= sizeof line->keys[0])
        return complain(EXIT_USAGE, "--set takes KEY=VALUE, e.g. --set linger=5ms");
    if (line->n_settings < SETTINGS_MAX)
        (void)snprintf(key, sizeof line->keys[0], "%.*s", (int)len, text);
    return add_setting(line, "--set", key, equals + 1);
}

static int take_option(struct command_line *line, enum option_number number, const char *value)
{
    switch (number) {
    case OPTION_REDIS:
        return add_setting(line, "--redis", "broker", value);
    case OPTION_BUS:
        return add_setting(line, "--bus", "bus", value);
    case OPTION_SET:
        return add_key(line, value);
    case OPTION_CONFIG:
        line->path = value;
        return *value != '\0' ? EXIT_DONE : complain(EXIT_USAGE, "--config takes the name of a file");
    case OPTION_WAIT:
        return config_duration_read(value, &line->wait_ns)
                   ? EXIT_DONE
                   : complain(EXIT_USAGE, "--wait takes a duration, e.g. 30s or 5m; \"%s\" is none", value);
    case OPTION_CHECK:
        line->check_config = true;
        return EXIT_DONE;
    case OPTION_PRINT:
        line->print_config = true;
        return EXIT_DONE;
    case OPTION_VERIFY:
        line->verify = true;
        return EXIT_DONE;
    case OPTION_JSON:
        line->verify_options.json = true;
        return EXIT_DONE;
    case OPTION_TIMEOUT:
        return config_duration_read(value, &line->verify_options.timeout_ns)
                   ? EXIT_DONE
                   : complain(EXIT_USAGE, "--timeout takes a duration, e.g. 30s or 5m; \"%s\" is none", value);
    case OPTION_HELP:
        line->help = true;
        return EXIT_DONE;
    case OPTION_VERSION:
        line->version = true;
        return EXIT_DONE;
    }
    return EXIT_USAGE;
}

/* --name VALUE, --name=VALUE, -n VALUE, -nVALUE; *at is moved to what is read last. */
static int parse_option(struct command_line *line, int argc, char **argv, int *at)
{
    const char *word = argv[*at], *name = word + 1 + (word[1] == '-'), *value = NULL;
    bool is_long = word[1] == '-';
    size_t len = is_long ? strcspn(name, "=") : 1, i = 0;
    while (i < N_OPTIONS && !(is_long ? strlen(options[i].name) == len && strncmp(options[i].name, name, len) == 0
                                      : options[i].letter == *name))
        i++;
    if (i == N_OPTIONS && is_long)
        return unknown_option(name, len);
    if (i == N_OPTIONS)
        return complain(EXIT_USAGE, "there is no option -%c; evbus-bridge --help lists them", *name);
    if (name[len] != '\0')
        value = name + len + is_long;
    if (options[i].value == NULL && value != NULL)
        return complain(EXIT_USAGE, "--%s takes no value", options[i].name);
    if (options[i].value != NULL && value == NULL && *at + 1 < argc)
        value = argv[++*at];
    if (options[i].value != NULL && value == NULL)
        return complain(EXIT_USAGE, "--%s needs a value: --%s %s", options[i].name, options[i].name, options[i].value);
    return take_option(line, (enum option_number)i, value);
}

static int parse(struct command_line *line, int argc, char **argv)
{
    for (int at = 1; at < argc; at++) {
        if (argv[at][0] != '-' || argv[at][1] == '\0')
            return complain(EXIT_USAGE, "\"%s\" is no option; where Redis is, is told by --redis URL", argv[at]);
        if (strcmp(argv[at], "--") == 0)
            return at + 1 == argc
                       ? EXIT_DONE
                       : complain(EXIT_USAGE, "\"%s\" is one too many; there are options alone", argv[at + 1]);
        int exit_code = parse_option(line, argc, argv, &at);
        if (exit_code != EXIT_DONE)
            return exit_code;
    }
    return EXIT_DONE;
}

/* --- the config --------------------------------------------------------------------------------------------------- */

static void tell_person(void *context, const char *text)
{
    (void)context;
    (void)complain(0, "%s", text);
}

static void tell_log(void *context, const char *text)
{
    (void)context;
    say(EVBUS_LOG_ERROR, "the config is wrong", SAY(say_text("why", text)));
}

static int read_config(const struct command_line *line, void (*tell)(void *context, const char *problem),
                       struct config *out, struct config_origins *out_origins)
{
    struct config_reading reading = {.path = line->path,
                                     .environment = environ,
                                     .settings = line->settings,
                                     .n_settings = line->n_settings,
                                     .tell = tell};
    return config_read(&reading, out, out_origins);
}

static void print_checked(const struct program *program)
{
    const struct config *config = &program->config;
    const struct config_origins *origins = &program->origins;
    if (origins->path[0] != '\0')
        (void)printf("%s is right: %zu settings", origins->path, origins->n[CONFIG_FILE]);
    else
        (void)printf("the config is right, without a file (there is no " CONFIG_PATH ")");
    (void)printf("; %zu of the environment, %zu of the command line\n", origins->n[CONFIG_ENVIRONMENT],
                 origins->n[CONFIG_COMMAND_LINE]);
    (void)printf("bus %s, mirror %s, broker %s, %s; topics: ", config->bus, config->name, config->broker,
                 config->out && config->in ? "out and in"
                 : config->out             ? "out"
                                           : "in");
    for (size_t i = 0; i < config->n_topics; i++)
        (void)printf("%s%s", i == 0 ? "" : ", ", config->topics[i]);
    (void)printf("%s\n", config->n_topics == 0 ? "all" : "");
}

/* SIGHUP. */
static bool reload(void *context)
{
    struct program *program = context;
    struct config fresh;
    struct config_origins origins;
    struct config_changes changes;
    uint64_t number = ++program->n_reloads;
    if (read_config(&program->line, tell_log, &fresh, &origins) != EVBUS_OK) {
        say(EVBUS_LOG_ERROR, "the config is not reloaded, the old one stays",
            SAY(say_number("reload", number),
                say_text("config", program->line.path != NULL ? program->line.path : CONFIG_PATH)));
        config_wipe(&fresh);
        return false;
    }
    config_change(&program->config, &fresh, &changes);
    config_wipe(&fresh);
    say_begin(program->config.log_json, program->config.log_level);
    say(EVBUS_LOG_INFO, "the config is reloaded",
        SAY(say_number("reload", number), say_text("changed", changes.taken),
            say_text("password", changes.is_secret_new ? "new" : "same")));
    if (changes.restart[0] != '\0')
        say(EVBUS_LOG_WARNING, "a restart is needed for the rest of the new config",
            SAY(say_number("reload", number), say_text("keys", changes.restart)));
    return true;
}

/* --- the bus ------------------------------------------------------------------------------------------------------ */

static int exit_of(int code)
{
    switch (code) {
    case EVBUS_OK:
        return EXIT_DONE;
    case EVBUS_ENOTFOUND:
        return EXIT_NO;
    case EVBUS_EAGAIN:
        return EXIT_TRY_AGAIN;
    case EVBUS_ENOBUS:
    case EVBUS_ESTALE:
    case EVBUS_ELAYOUT:
        return EXIT_NO_BUS;
    case EVBUS_ECORRUPT:
        return EXIT_CORRUPT;
    case EVBUS_ENOSPC:
    case EVBUS_ELIMIT:
        return EXIT_CANNOT_CREATE;
    case EVBUS_EPERM:
    case EVBUS_EDENIED:
        return EXIT_DENIED;
    case EVBUS_EINVAL:
    case EVBUS_ECATALOGUE:
    case EVBUS_ECONFIG:
        return EXIT_CONFIG;
    default:
        return EXIT_IO;
    }
}

static uint64_t monotonic_ns(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail: it exists */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* true: somebody wants us to end. A SIGHUP is for later. */
static bool is_told_to_end(int signal_fd, uint64_t wait_ns)
{
    struct pollfd fd = {.fd = signal_fd, .events = POLLIN};
    struct signalfd_siginfo info;
    int n = poll(&fd, 1, (int)(wait_ns / 1000000));
    return n > 0 && read(signal_fd, &info, sizeof info) == (ssize_t)sizeof info && info.ssi_signo != SIGHUP;
}

/* Returns 0; or the exit code, after the message; 0 without a bus: we were told to end. */
static int open_bus(const struct program *program, struct notify *notify, int signal_fd, struct evbus **out_bus)
{
    uint64_t until_ns = monotonic_ns() + program->line.wait_ns;
    const char *bus = program->config.bus;
    bool is_told = false;
    for (;;) {
        int rc = evbus_open(out_bus,
                            &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                    .bus = bus,
                                                    .service = SERVICE,
                                                    .log = say_of_library,
                                                    .log_level = EVBUS_LOG_DEBUG}); /* say.c has its own level */
        if (rc == EVBUS_OK)
            return EXIT_DONE;
        bool may_come = rc == EVBUS_ENOBUS || rc == EVBUS_ESTALE;
        if (!may_come || monotonic_ns() >= until_ns) {
            say(EVBUS_LOG_ERROR, "the bus cannot be opened",
                SAY(say_text("bus", bus), say_text("why", evbus_message(NULL)),
                    say_text("mend", may_come ? "make it by `evbus init`, or let the bridge wait for it by --wait 1m"
                                              : "see evbus-bridge(8)")));
            return exit_of(rc);
        }
        if (!is_told)
            say(EVBUS_LOG_INFO, "waits for the bus",
                SAY(say_text("bus", bus), say_seconds("at_most", program->line.wait_ns)));
        is_told = true;
        notify_status(notify, "waits for the bus %s", bus);
        notify_starting(notify, 10 * UINT64_C(1000000000));
        if (is_told_to_end(signal_fd, WAIT_NS))
            return EXIT_DONE;
    }
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

static int verify(const struct program *program)
{
    char error[EVBUS_ERROR_MAX];
    int rc = verify_run(&program->config, &program->line.verify_options, error);
    return error[0] != '\0' ? complain(exit_of(rc), "%s", error) : exit_of(rc);
}

static int run(struct program *program)
{
    struct evbus *bus = NULL;
    struct notify notify;
    sigset_t ours;
    say_begin(program->config.log_json, program->config.log_level);
    (void)sigemptyset(&ours);
    (void)sigaddset(&ours, SIGTERM);
    (void)sigaddset(&ours, SIGINT);
    (void)sigaddset(&ours, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &ours, NULL); /* cannot fail: SIG_BLOCK is a way to change a mask */
    int signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signal_fd < 0)
        return complain(EXIT_IO, "signalfd: %s", strerror(errno));
    notify_open(&notify);
    say(EVBUS_LOG_INFO, "starting",
        SAY(say_text("version", evbus_version()), say_text("bus", program->config.bus),
            say_text("broker", program->config.broker), say_text("mirror", program->config.name),
            say_text("config", program->origins.path)));
    int exit_code = open_bus(program, &notify, signal_fd, &bus);
    if (bus != NULL)
        exit_code = loop_run(
            &program->config, bus,
            &(struct loop_options){.notify = &notify, .signal_fd = signal_fd, .reload = reload, .context = program});
    evbus_close(bus);
    say_end(); /* what is held is older */
    say(exit_code == EXIT_DONE ? EVBUS_LOG_INFO : EVBUS_LOG_ERROR, "ended",
        SAY(say_number("exit_code", (uint64_t)exit_code)));
    notify_close(&notify);
    (void)close(signal_fd);
    return exit_code;
}

static int start(struct program *program, int argc, char **argv)
{
    int exit_code = parse(&program->line, argc, argv);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (!program->line.verify && (program->line.verify_options.json || program->line.verify_options.timeout_ns != 0))
        return complain(EXIT_USAGE, "--%s is an option of --verify",
                        program->line.verify_options.json ? "json" : "timeout");
    if (program->line.verify_options.timeout_ns == 0)
        program->line.verify_options.timeout_ns = TIMEOUT_NS;
    if (program->line.help) {
        print_help();
        return EXIT_DONE;
    }
    if (program->line.version) {
        (void)printf("evbus-bridge %s\n", evbus_version());
        return EXIT_DONE;
    }
    int rc = read_config(&program->line, tell_person, &program->config, &program->origins);
    if (rc != EVBUS_OK)
        return rc == EVBUS_EINVAL ? EXIT_USAGE : EXIT_CONFIG;
    if (!program->line.print_config && !program->line.check_config)
        return program->line.verify ? verify(program) : run(program);
    if (program->line.print_config)
        config_print(&program->config, &program->origins, stdout); /* nothing else: it is an evbus.conf */
    else
        print_checked(program);
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    static struct program program; /* large */
    for (int fd = 0; fd <= 2; ++fd)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd)
            _Exit(EXIT_IO); /* else the next object that the library opens would get that number, and our lines */
    (void)signal(SIGPIPE, SIG_IGN); /* cannot fail: SIGPIPE is a signal */
    int exit_code = start(&program, argc, argv);
    config_wipe(&program.config);
    if (fflush(stdout) != 0 && errno != EPIPE && exit_code == EXIT_DONE)
        exit_code = complain(EXIT_IO, "standard output: %s", strerror(errno));
    return exit_code;
}
