/* loop.c: what the bridge does until it is told to end.
 *
 *     READY=1, then by turns:  signals | the bridge | http | the watchdog | what say.c has held back
 *     SIGTERM, SIGINT          STOPPING=1; what there is goes out, for 10 s at most; end
 *     SIGHUP                   RELOADING=1, reload, READY=1
 *
 * One thread, one poll(). */
#include "loop.h"

#include "bridge.h"
#include "health.h"
#include "http.h"
#include "metrics.h"
#include "say.h"

#include <evbus/admin.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_FINE = 0, EXIT_NO_BUS = 69, EXIT_CANNOT_CREATE = 73, LOOK_MS = 1000, DRAIN_MS = 10000, FDS_MAX = 16 };

struct loop {
    const struct config *config;
    const struct loop_options *options;
    struct evbus *bus;
    struct bridge *bridge;
    struct http *http; /* NULL: none */
    struct metrics metrics;
    struct health health;
    bool is_stopping;
    uint64_t drain_ns; /* until then at most */
    int exit_code;
};

static uint64_t now_of(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now); /* cannot fail: both clocks exist */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- pages -------------------------------------------------------------------------------------------------------- */

static int serve_metrics(void *context, int (*write)(void *write_context, const char *text, size_t len),
                         void *write_context)
{
    struct loop *loop = context;
    return metrics_write(&loop->metrics, loop->config->bus, loop->config->name, loop->config->name, loop->bus, write,
                         write_context);
}

static bool is_alive(void *context, char why[HEALTH_WHY_MAX])
{
    struct loop *loop = context;
    return health_is_alive(&loop->health, now_of(CLOCK_MONOTONIC), why);
}

static bool is_ready(void *context, char why[HEALTH_WHY_MAX])
{
    struct loop *loop = context;
    return health_is_ready(&loop->health, now_of(CLOCK_MONOTONIC), why);
}

static int open_http(struct loop *loop)
{
    char why[HTTP_WHY_MAX] = "";
    struct http_pages pages = {.metrics = serve_metrics, .is_alive = is_alive, .is_ready = is_ready, .context = loop};
    if (loop->config->metrics[0] == '\0')
        return EXIT_FINE;
    if (http_open(&loop->http, loop->config->metrics, &pages, why) != EVBUS_OK) {
        say(EVBUS_LOG_ERROR, "metrics cannot be served", SAY(say_text("why", why)));
        return EXIT_CANNOT_CREATE;
    }
    say(EVBUS_LOG_INFO, "serves metrics and health", SAY(say_text("at", http_where(loop->http))));
    return EXIT_FINE;
}

/* --- turns -------------------------------------------------------------------------------------------------------- */

static void tell_status(struct loop *loop)
{
    char why[HEALTH_WHY_MAX];
    (void)health_is_ready(&loop->health, now_of(CLOCK_MONOTONIC), why);
    notify_status(loop->options->notify, "%s", why);
}

static void reload(struct loop *loop)
{
    notify_reloading(loop->options->notify);
    bool is_taken = loop->options->reload(loop->options->context);
    *(is_taken ? &loop->metrics.reloads : &loop->metrics.reload_failures) += 1;
    notify_ready(loop->options->notify);
}

static void take_signals(struct loop *loop)
{
    struct signalfd_siginfo info;
    while (read(loop->options->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            reload(loop);
        } else if (!loop->is_stopping) {
            loop->is_stopping = loop->health.is_stopping = true;
            loop->drain_ns = now_of(CLOCK_MONOTONIC) + DRAIN_MS * UINT64_C(1000000);
            notify_stopping(loop->options->notify);
            say(EVBUS_LOG_INFO, "stopping", SAY(say_text("signal", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT")));
        }
    }
}

/* The sooner of two waits, of which -1 is none. */
static int sooner(int left_ms, int right_ms)
{
    return left_ms < 0 ? right_ms : right_ms < 0 || left_ms < right_ms ? left_ms : right_ms;
}

static void turn(struct loop *loop)
{
    struct pollfd fds[FDS_MAX] = {
        {.fd = loop->options->signal_fd, .events = POLLIN},
        {.fd = loop->http != NULL ? http_fd(loop->http) : -1, .events = POLLIN},
    };
    int timeout_ms = sooner(LOOK_MS, notify_watchdog(loop->options->notify, now_of(CLOCK_MONOTONIC)));
    timeout_ms = sooner(timeout_ms, say_due());
    if (loop->http != NULL)
        timeout_ms = sooner(timeout_ms, http_timeout_ms(loop->http));
    size_t n_bridge = bridge_fds(loop->bridge, fds + 2, FDS_MAX - 2, &timeout_ms);
    int n = poll(fds, 2 + n_bridge, timeout_ms);
    if (n > 0 && fds[0].revents != 0)
        take_signals(loop);
    if (bridge_service(loop->bridge, fds + 2, n_bridge) != EVBUS_OK) {
        loop->exit_code = EXIT_NO_BUS; /* whoever starts us anew waits for the next one */
        return;
    }
    if (loop->http != NULL)
        http_service(loop->http);
    tell_status(loop);
}

/* What was published before we were told to stop is out, or cannot go out now: it will, when somebody leads again. */
static bool is_over(struct loop *loop)
{
    if (loop->exit_code != EXIT_FINE)
        return true;
    if (!loop->is_stopping)
        return false;
    bool is_drained = bridge_is_drained(loop->bridge);
    if (!is_drained && now_of(CLOCK_MONOTONIC) < loop->drain_ns)
        return false;
    say(is_drained ? EVBUS_LOG_INFO : EVBUS_LOG_WARNING, is_drained ? "stopped" : "stopped before all was out",
        SAY_NONE);
    return true;
}

int loop_run(const struct config *config, struct evbus *bus, const struct loop_options *options)
{
    struct loop loop = {.config = config, .options = options, .bus = bus};
    loop.metrics.started_ns = now_of(CLOCK_REALTIME);
    loop.health.broker_since_ns = now_of(CLOCK_MONOTONIC);
    loop.health.is_bus_here = true;
    loop.metrics.bus_here = 1;
    (void)snprintf(loop.health.broker_why, sizeof loop.health.broker_why, "not asked yet");
    loop.exit_code = open_http(&loop);
    if (loop.exit_code == EXIT_FINE && bridge_open(&loop.bridge, bus, config, &loop.metrics, &loop.health) != EVBUS_OK)
        loop.exit_code = EXIT_NO_BUS;
    if (loop.exit_code == EXIT_FINE)
        notify_ready(options->notify);
    while (!is_over(&loop))
        turn(&loop);
    bridge_close(loop.bridge);
    http_close(loop.http);
    return loop.exit_code;
}
