/* log.c: what changes state is told to the user's callback as key=value, one line at a time.
 *
 * Whatever can repeat (cancels, full rings, damage, burials) is told at once when it begins, then at most once a minute,
 * with the number of those that were held back. The mutex is private: no other process waits for a slow callback. */
#include "log.h"

#include "clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[LOG_EVENTS] = {
    [LOG_KEEPER] = "keeper",   [LOG_BURIAL] = "burial",   [LOG_CANCEL] = "cancel",
    [LOG_FULL] = "full",       [LOG_RETIRED] = "retired", [LOG_CATALOGUE] = "catalogue",
    [LOG_CORRUPT] = "corrupt", [LOG_JOURNAL] = "journal", [LOG_GROUP] = "group",
};

void log_init(struct log *log, evbus_log_callback *callback, void *context, enum evbus_level level)
{
    memset(log, 0, sizeof *log);
    log->callback = callback;
    log->context = context;
    log->level = level;
    pthread_mutex_init(&log->mutex, NULL);
}

void log_line(struct log *log, enum log_event event, enum evbus_level level, const char *format, ...)
{
    if (log->callback == NULL || level > log->level)
        return;
    pthread_mutex_lock(&log->mutex);
    uint64_t now = clock_mono_ns();
    if (now < log->next_ns[event]) {
        log->held_back[event]++;
    } else {
        char line[640];
        int n = snprintf(line, sizeof line, "event=%s ", names[event]);
        va_list args;
        va_start(args, format);
        n += vsnprintf(line + n, sizeof line - (size_t)n, format, args);
        va_end(args);
        if (log->held_back[event] > 0 && (size_t)n < sizeof line)
            snprintf(line + n, sizeof line - (size_t)n, " held_back=%" PRIu64, log->held_back[event]);
        bool repeats = event != LOG_KEEPER && event != LOG_RETIRED && event != LOG_CATALOGUE && event != LOG_JOURNAL &&
                       event != LOG_GROUP;
        log->next_ns[event] = repeats ? now + 60 * CLOCK_NS_PER_S : 0;
        log->held_back[event] = 0;
        log->callback(log->context, level, line);
    }
    pthread_mutex_unlock(&log->mutex);
}
