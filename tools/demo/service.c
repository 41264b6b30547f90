/* service.c: the frame of every service: open the bus, be a member of the group, run until told to end.
 *
 *     open       its database
 *     publish    what it has to say; a service that only publishes ends then
 *     subscribe  evbus_run() calls the handler, event by event
 *     SIGTERM    evbus_stop(): what is in the handler is finished, then the group is left
 *
 * This is all that a service needs from the bus. It knows no other service: not who publishes what it gets, nor who
 * gets what it publishes. Around its handler we count and take the time, for the table at the end. */
#include "service.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KILL_PATIENCE_NS (10 * NS_PER_S)

static const struct service_kind *const kinds[] = {
    &order_payment_service, &appointment_service,  &content_service,   &product_service,
    &customer_service,      &notification_service, &analytics_service, &sitemap_service,
};

/* For the signal handler. */
static struct evbus_subscription *_Atomic subscription;
static atomic_bool is_told_to_end;

const struct service_kind *service_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

/* --- ground ------------------------------------------------------------------------------------------------------ */

void complain(const char *format, ...)
{
    char text[1024]; /* one write, so that lines of several processes do not mix */
    va_list values;
    va_start(values, format);
    (void)vsnprintf(text, sizeof text, format, values);
    va_end(values);
    (void)fprintf(stderr, "%sevbus-demo: %s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", text);
}

bool path_in(char out_path[PATH_BYTES], const char *dir, const char *name)
{
    int len = snprintf(out_path, PATH_BYTES, "%s/%s", dir, name);
    return len > 0 && len < PATH_BYTES;
}

void format_id(const uint8_t id[16], char out_text[37])
{
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out_text++ = '-';
        (void)snprintf(out_text, 3, "%02x", id[i]);
        out_text += 2;
    }
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now); /* cannot fail: both clocks exist */
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t wall_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

void sleep_until(uint64_t monotonic)
{
    struct timespec until = {.tv_sec = (time_t)(monotonic / NS_PER_S), .tv_nsec = (long)(monotonic % NS_PER_S)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL); /* a signal ends it: our callers look again */
}

/* --- handle ------------------------------------------------------------------------------------------------------- */

void service_wait_to_be_killed(_Atomic bool *cue)
{
    uint64_t until = monotonic_ns() + KILL_PATIENCE_NS;
    if (atomic_exchange(cue, true))
        return; /* it was in the life before */
    while (monotonic_ns() < until)
        sleep_until(until);
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct service *service = context;
    uint64_t now = wall_ns();
    enum topic topic = topic_of(event->topic);
    if (topic == N_TOPICS)
        return EVBUS_DONE; /* a topic that nobody publishes in this demo */
    struct flow *flow = &service->board->flows[service->kind->group][topic];
    bool is_done = flow_has(flow, event->id);
    if (!is_done && event->attempt > 1)
        count(&flow->redelivered);
    else if (!is_done && event->replayed == 0)
        sample(&flow->latency, now > event->timestamp_ns ? now - event->timestamp_ns : 0);
    enum evbus_outcome outcome = service->kind->handle(service, event, error);
    if (outcome == EVBUS_DONE) {
        if (!flow_add(flow, event->id))
            count(&flow->again);
        if (service->kind->group == PRODUCT)
            count(&service->board->members[service->member].handled);
    }
    return outcome;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static void end(int signal_number)
{
    (void)signal_number;
    atomic_store(&is_told_to_end, true);
    struct evbus_subscription *running = atomic_load(&subscription);
    if (running != NULL)
        evbus_stop(running);
}

static bool run(struct service *service)
{
    struct evbus_subscription *own = NULL;
    struct evbus_subscribe_options options = {.size = sizeof options,
                                              .handler = handle,
                                              .context = service,
                                              .accepts = service->kind->accepts,
                                              .n_accepts = service->kind->n_accepts};
    int rc = evbus_subscribe(&own, service->bus, &options);
    if (rc == EVBUS_OK) {
        atomic_store(&subscription, own);
        if (atomic_load(&is_told_to_end)) /* before there was something to stop */
            evbus_stop(own);
        rc = evbus_run(own, NULL);
        atomic_store(&subscription, NULL);
    }
    if (rc != EVBUS_OK)
        complain("%s: %s", service->kind->name, evbus_message(service->bus));
    evbus_unsubscribe(own);
    return rc == EVBUS_OK;
}

/* Whoever brings the bus back from its journal is told so, as an operator would be. */
static void hear(void *context, enum evbus_level level, const char *line)
{
    struct service *service = context;
    (void)level;
    if (strstr(line, "state=recovered ") != NULL)
        service->has_brought_back = true;
}

static bool open_bus(struct service *service)
{
    uint64_t begun = monotonic_ns();
    int rc = evbus_open(&service->bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                               .bus = service->bus_name,
                                                               .service = service->kind->name,
                                                               .log = hear,
                                                               .log_context = service,
                                                               .log_level = EVBUS_LOG_INFO});
    if (rc != EVBUS_OK)
        complain("%s: %s", service->kind->name, evbus_message(NULL));
    if (service->has_brought_back) {
        atomic_store(&service->board->back_pid, (uint32_t)getpid());
        atomic_store(&service->board->back_ns, monotonic_ns() - begun);
    }
    return rc == EVBUS_OK;
}

int service_main(struct service *service)
{
    const struct service_kind *kind = service->kind;
    struct sigaction act = {.sa_handler = end};
    (void)sigemptyset(&act.sa_mask);
    (void)sigaction(SIGTERM, &act, NULL); /* cannot fail: both are signals that may be handled */
    (void)signal(SIGINT, SIG_IGN);        /* Ctrl-C goes to all; the conductor cleans up */
    service->board = board_open(service->dir);
    bool is_good = service->board != NULL && open_bus(service) && (kind->open == NULL || kind->open(service));
    if (is_good && kind->publish != NULL)
        is_good = kind->publish(service);
    if (is_good && kind->handle != NULL)
        is_good = run(service);
    if (kind->close != NULL)
        kind->close();
    evbus_close(service->bus);
    board_close(service->board);
    return is_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
