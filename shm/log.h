/* log.h: one callback, levels, rate limit. See log.c. */
#ifndef EVBUS_LOG_H
#define EVBUS_LOG_H

#include <evbus/evbus.h>

#include <pthread.h>

/* What is told. Those that can repeat come at most once a minute each. */
enum log_event {
    LOG_KEEPER,
    LOG_BURIAL,
    LOG_CANCEL,
    LOG_FULL,
    LOG_RETIRED,
    LOG_CATALOGUE,
    LOG_CORRUPT,
    LOG_JOURNAL,
    LOG_GROUP,
    LOG_EVENTS
};

struct log {
    evbus_log_callback *callback; /* NULL: say nothing */
    void *context;
    enum evbus_level level;
    pthread_mutex_t mutex;        /* one line at a time */
    uint64_t next_ns[LOG_EVENTS]; /* before this time the event is only counted */
    uint64_t held_back[LOG_EVENTS];
};

void log_init(struct log *log, evbus_log_callback *callback, void *context, enum evbus_level level);

/* One line, "event=<name> <format...>". Any thread. */
__attribute__((format(printf, 4, 5))) void log_line(struct log *log, enum log_event event, enum evbus_level level,
                                                    const char *format, ...);

#endif
