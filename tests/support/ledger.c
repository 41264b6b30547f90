/* ledger.c: what a group's members did with each event. See ledger.h.
 *
 * A member may be killed between any two lines: so each is written such that the next who gets the event finds either the old or
 * the new state, and what is in doubt is in favour of the bus only where its last holder is doomed. */
#include "ledger.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(struct ledger *ledger, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct ledger *ledger, const char *format, ...)
{
    char text[sizeof ledger->what];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (atomic_exchange(&ledger->failed, 1) == 0)
        memcpy(ledger->what, text, sizeof text);
    fprintf(stderr, "%s\n", text);
}

int ledger_publish(struct evbus *bus, uint32_t producer, uint32_t number, uint64_t timeout_ns)
{
    char payload[32];
    char key[8];
    int len = snprintf(payload, sizeof payload, "\"%u %u\"", producer, number);
    snprintf(key, sizeof key, "k%u", number % LEDGER_KEYS);
    return evbus_publish(bus,
                         &(struct evbus_event){.size = sizeof(struct evbus_event),
                                               .topic = "test.a.one",
                                               .key = key,
                                               .payload = payload,
                                               .payload_len = (size_t)len,
                                               .payload_is_checked = true,
                                               .timeout_ns = timeout_ns},
                         NULL);
}

static bool read_event(const struct evbus_delivery *event, uint32_t *out_producer, uint32_t *out_number)
{
    char *end;
    const char *payload = event->payload;
    *out_producer = (uint32_t)strtoul(payload + 1, &end, 10);
    *out_number = (uint32_t)strtoul(end, &end, 10);
    return strcmp(end, "\"") == 0 && *out_producer < LEDGER_PRODUCERS && *out_number < LEDGER_EVENTS;
}

unsigned ledger_enter(struct ledger *ledger, unsigned member, const struct evbus_delivery *event)
{
    uint32_t p;
    uint32_t n;
    if (!read_event(event, &p, &n)) {
        say(ledger, "not as it was published: %s", (const char *)event->payload);
        return 0;
    }
    uint32_t key = n % LEDGER_KEYS;
    uint64_t behind = ledger->behind[key];
    unsigned before = atomic_exchange(&ledger->hand[key], (uint16_t)member);
    unsigned starts = ledger->starts[p][n];
    unsigned holder = ledger->holder[p][n];
    char what[160];
    snprintf(what, sizeof what, "event %u of producer %u, key k%u, %s/%u@%" PRIu64 ", attempt %u, by member %u", n, p,
             key, event->log, event->partition, event->position, event->attempt, member);
    if (before != 0 && ledger->doomed[before] == 0)
        say(ledger, "%s: member %u, who lives, has one of this key in hand", what, before);
    else if (starts > 0 && (ledger->done[p][n] != 0 || (ledger->doomed[holder] == 0 && ledger->asked[p][n] == 0)))
        say(ledger, "%s: again, though member %u, who %s, %s", what, holder,
            ledger->doomed[holder] != 0 ? "is dead" : "lives",
            ledger->done[p][n] != 0 ? "had finished it" : "had it in hand");
    else if (starts > 0 && event->position + 1 != behind)
        say(ledger, "%s: again, behind a later one of its key at %" PRIu64, what, behind - 1);
    else if (starts == 0 &&
             (event->position + 1 < behind ||
              (ledger->last[p][key] != n + 1 && ledger->last[p][key] != (n >= LEDGER_KEYS ? n - LEDGER_KEYS + 1 : 0))))
        say(ledger, "%s: out of order: the key's last were at %" PRIu64 " and this producer's %u", what, behind - 1,
            ledger->last[p][key] - 1);
    else if (event->attempt < starts + 1 + ledger->uncounted[p][n])
        say(ledger, "%s: but %u handlers have begun, and %u attempts were cut off before", what, starts,
            ledger->uncounted[p][n]);
    if (ledger->failed != 0)
        return 0;
    unsigned more = event->attempt - (starts + 1) - ledger->uncounted[p][n];
    ledger->n_uncounted += more;
    ledger->uncounted[p][n] = (uint8_t)(ledger->uncounted[p][n] + more);
    ledger->holder[p][n] = (uint16_t)member;
    ledger->asked[p][n] = 0;
    ledger->behind[key] = event->position + 1;
    ledger->last[p][key] = n + 1;
    ledger->starts[p][n] = (uint8_t)(starts + 1);
    if (starts == 0)
        ledger->n_first++;
    else
        ledger->n_repeats++;
    ledger->handled[member]++;
    return starts + 1;
}

void ledger_leave(struct ledger *ledger, unsigned member, const struct evbus_delivery *event, bool asks)
{
    uint32_t p;
    uint32_t n;
    uint16_t mine = (uint16_t)member;
    if (!read_event(event, &p, &n))
        return;
    if (asks)
        ledger->asked[p][n] = 1;
    if (!atomic_compare_exchange_strong(&ledger->hand[n % LEDGER_KEYS], &mine, 0))
        say(ledger, "event %u of producer %u: member %u took its key while member %u had it in hand", n, p, mine,
            member);
}

void ledger_finished(struct ledger *ledger, const struct evbus_delivery *event, int rc)
{
    uint32_t p;
    uint32_t n;
    if (!read_event(event, &p, &n))
        return;
    if (rc != EVBUS_OK)
        say(ledger, "event %u of producer %u: its finish returned %d %s", n, p, rc, evbus_message(NULL));
    else if (ledger->asked[p][n] == 0)
        ledger->done[p][n] = 1;
}

uint64_t ledger_missing(const struct ledger *ledger, uint32_t n_each)
{
    uint64_t n_missing = 0;
    for (uint32_t p = 0; p < LEDGER_PRODUCERS; p++)
        for (uint32_t n = 0; n < n_each; n++)
            n_missing += ledger->starts[p][n] == 0;
    return n_missing;
}
