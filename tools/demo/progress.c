/* progress.c: what the demo says while it runs.
 *
 *   a terminal   a line per thing that happens, and below them one that is drawn anew five times a second
 *   elsewhere    the lines alone: a log of a build is no place for cursor movements */
#include "conductor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DRAW_EVERY_NS (200 * NS_PER_MS)

static uint64_t handled(struct demo *demo, enum group group)
{
    uint64_t n = 0;
    for (int topic = 0; topic < N_TOPICS; topic++)
        n += flow_handled(&demo->board->flows[group][topic]);
    return n;
}

void progress_say(struct demo *demo, const char *format, ...)
{
    va_list values;
    (void)printf("%s%5.1f s  ", demo->is_terminal ? "\r\033[K" : "",
                 (double)(monotonic_ns() - demo->begun_ns) / (double)NS_PER_S);
    va_start(values, format);
    (void)vprintf(format, values);
    va_end(values);
    (void)putchar('\n');
    (void)fflush(stdout);
    demo->drawn_ns = 0;
}

void progress_of_services(struct demo *demo)
{
    (void)printf("orders %" PRIu64 "  stock %" PRIu64 "  accounts %" PRIu64 "  mails %" PRIu64 "  counted %" PRIu64,
                 value(&demo->board->published[ORDERS]), handled(demo, PRODUCT), handled(demo, CUSTOMER),
                 value(&demo->board->mails), handled(demo, ANALYTICS));
}

void progress_draw(struct demo *demo)
{
    uint64_t now = monotonic_ns();
    if (!demo->is_terminal || demo->board == NULL || now - demo->drawn_ns < DRAW_EVERY_NS)
        return;
    demo->drawn_ns = now;
    (void)printf("\r\033[K%5.1f s  ", (double)(now - demo->begun_ns) / (double)NS_PER_S);
    demo->act->draw(demo);
    (void)fflush(stdout);
}

void progress_end(struct demo *demo)
{
    if (demo->is_terminal)
        (void)printf("\r\033[K");
    (void)fflush(stdout);
}

void format_ns(uint64_t ns, char out_text[32])
{
    double value = (double)ns;
    const char *unit = "ns";
    if (ns >= NS_PER_S) {
        value /= 1e9;
        unit = "s";
    } else if (ns >= NS_PER_MS) {
        value /= 1e6;
        unit = "ms";
    } else if (ns >= 1000) {
        value /= 1e3;
        unit = "us";
    }
    (void)snprintf(out_text, 32, value < 10 && ns >= 1000 ? "%.1f %s" : "%.0f %s", value, unit);
}
