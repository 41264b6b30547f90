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

#define PAYLOAD_BYTES 128
#define GIVEN_BACK    (EVBUS_RELEASE + 2) /* `meant`: by EVBUS_RELEASE, and that has taken place */

static void say(struct ledger *ledger, enum ledger_wrong wrong, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct ledger *ledger, enum ledger_wrong wrong, const char *format, ...)
{
    char text[sizeof ledger->what];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    atomic_fetch_add(&ledger->wrong[wrong], 1);
    if (atomic_exchange(&ledger->failed, 1) != 0)
        return;
    memcpy(ledger->what, text, sizeof text);
    fprintf(stderr, "%s\n", text);
}

/* "<producer> <number> <up to 7 x 8 letters that these two make>" */
static size_t make_payload(char out[PAYLOAD_BYTES], uint32_t producer, uint32_t number)
{
    uint64_t word = ((uint64_t)producer << 32 | (number + 1)) * UINT64_C(0x9e3779b97f4a7c15);
    size_t len = (size_t)snprintf(out, PAYLOAD_BYTES, "\"%u %u ", producer, number);
    for (uint64_t left = word >> 61; left > 0; left--, len += 8) {
        word = (word ^ word >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
        uint64_t letters = (word & UINT64_C(0x0f0f0f0f0f0f0f0f)) + UINT64_C(0x4141414141414141);
        memcpy(out + len, &letters, 8);
    }
    memcpy(out + len, "\"", 2);
    return len + 1;
}

static uint32_t key_of(const struct ledger *ledger, uint32_t number)
{
    return number % (ledger->keys != 0 ? ledger->keys : LEDGER_KEYS);
}

/* What an event points to. */
struct content {
    char payload[PAYLOAD_BYTES];
    char key[16];
};

static struct evbus_event make_event(struct content *out, const struct ledger *ledgers, uint32_t producer,
                                     uint32_t number, uint64_t timeout_ns)
{
    snprintf(out->key, sizeof out->key, "k%u", key_of(ledgers, number));
    return (struct evbus_event){.size = sizeof(struct evbus_event),
                                .topic = "test.a.one",
                                .key = out->key,
                                .payload = out->payload,
                                .payload_len = make_payload(out->payload, producer, number),
                                .payload_is_checked = true,
                                .timeout_ns = timeout_ns};
}

/* 1: begun; 2: acknowledged. */
static void set_sent(struct ledger *ledgers, unsigned n, uint32_t producer, uint32_t number, uint8_t sent)
{
    for (unsigned i = 0; i < n; i++)
        ledgers[i].sent[producer][number] = sent;
}

int ledger_publish(struct ledger *ledgers, unsigned n, struct evbus *bus, uint32_t producer, uint32_t number,
                   uint64_t timeout_ns)
{
    struct content content;
    struct evbus_event event = make_event(&content, ledgers, producer, number, timeout_ns);
    set_sent(ledgers, n, producer, number, 1);
    int rc = evbus_publish(bus, &event, NULL);
    if (rc == EVBUS_OK)
        set_sent(ledgers, n, producer, number, 2);
    return rc;
}

int ledger_publish_batch(struct ledger *ledgers, unsigned n, struct evbus *bus, uint32_t producer, uint32_t first,
                         uint64_t timeout_ns)
{
    struct content contents[LEDGER_BATCH];
    struct evbus_event events[LEDGER_BATCH];
    size_t n_published;
    for (uint32_t k = 0; k < LEDGER_BATCH; k++) {
        events[k] = make_event(&contents[k], ledgers, producer, first + k, timeout_ns);
        set_sent(ledgers, n, producer, first + k, 1);
    }
    int rc = evbus_publish_batch(bus, events, LEDGER_BATCH, NULL, &n_published);
    for (uint32_t k = 0; k < n_published; k++)
        set_sent(ledgers, n, producer, first + k, 2);
    return rc;
}

/* len bytes at payload are an event's. */
static bool read_payload(const char *payload, size_t len, uint32_t *out_producer, uint32_t *out_number)
{
    char again[PAYLOAD_BYTES];
    char *end;
    if (len < 1)
        return false;
    *out_producer = (uint32_t)strtoul(payload + 1, &end, 10);
    *out_number = (uint32_t)strtoul(end, &end, 10);
    return *out_producer < LEDGER_PRODUCERS && *out_number < LEDGER_EVENTS &&
           make_payload(again, *out_producer, *out_number) == len && memcmp(again, payload, len) == 0;
}

static bool read_event(const struct evbus_delivery *event, uint32_t *out_producer, uint32_t *out_number)
{
    return read_payload(event->payload, event->payload_len, out_producer, out_number);
}

/* Was each event of the key between the last one that was begun and this one never acknowledged? */
static bool is_next(const struct ledger *ledger, uint32_t p, uint32_t n)
{
    uint32_t key = key_of(ledger, n);
    uint32_t last = ledger->last[p][key]; /* + 1 */
    uint32_t step = ledger->keys != 0 ? ledger->keys : LEDGER_KEYS;
    if (last == n + 1)
        return true;
    for (uint32_t m = last == 0 ? key : last - 1 + step; m != n; m += step)
        if (m > n || ledger->sent[p][m] == 2)
            return false;
    return true;
}

/* A release that was cut off, or is not entered yet, did take place. */
static void give_back(struct ledger *ledger, uint32_t p, uint32_t n)
{
    uint8_t meant = EVBUS_RELEASE + 1;
    if (atomic_compare_exchange_strong(&ledger->meant[p][n], &meant, GIVEN_BACK))
        ledger->released[p][n]++;
}

unsigned ledger_enter(struct ledger *ledger, unsigned member, const struct evbus_delivery *event)
{
    uint32_t p;
    uint32_t n;
    char what[160];
    if (!read_event(event, &p, &n)) {
        say(ledger, LEDGER_TORN, "not as it was published: %s/%u@%" PRIu64 ": %s", event->log, event->partition,
            event->position, (const char *)event->payload);
        return 0;
    }
    uint32_t key = key_of(ledger, n);
    uint64_t behind = ledger->behind[key];
    unsigned before = atomic_exchange(&ledger->hand[key], (uint16_t)member);
    unsigned starts = ledger->starts[p][n];
    unsigned holder = ledger->holder[p][n];
    bool is_dead = ledger->doomed[holder] != 0;
    unsigned meant = ledger->meant[p][n];
    bool is_asked = meant == EVBUS_RETRY + 1 || meant == EVBUS_RELEASE + 1 || meant == GIVEN_BACK;
    if (event->attempt + 1 == starts + 1 + ledger->uncounted[p][n] - ledger->released[p][n])
        give_back(ledger, p, n);
    unsigned expected = starts + 1 + ledger->uncounted[p][n] - ledger->released[p][n];
    unsigned more = event->attempt - expected; /* huge when there are less */
    bool has_crashed = ledger->crashed[p][n] != 0 || (starts > 0 && is_dead) || more > 0;
    snprintf(what, sizeof what, "event %u of producer %u, key k%u, %s/%u@%" PRIu64 ", attempt %u, by member %u", n, p,
             key, event->log, event->partition, event->position, event->attempt, member);
    int failed = ledger->failed;
    if (ledger->sent[p][n] == 0)
        say(ledger, LEDGER_TORN, "%s: nobody has published it", what);
    else if (before != 0 && ledger->doomed[before] == 0)
        say(ledger, LEDGER_TWO, "%s: member %u, who lives, has one of this key in hand", what, before);
    else if (ledger->over[p][n] != 0 || (starts > 0 && !is_dead && !is_asked))
        say(ledger, LEDGER_AGAIN, "%s: again, though member %u, who %s, %s", what, holder,
            is_dead ? "is dead" : "lives", ledger->over[p][n] != 0 ? "had finished it" : "had it in hand");
    else if (starts > 0 && event->position + 1 != behind)
        say(ledger, LEDGER_DISORDER, "%s: again, behind a later one of its key at %" PRIu64, what, behind - 1);
    else if (starts == 0 && (event->position + 1 < behind || !is_next(ledger, p, n)))
        say(ledger, LEDGER_DISORDER, "%s: out of order: the key's last were at %" PRIu64 " and this producer's %u",
            what, behind - 1, ledger->last[p][key] - 1);
    else if (event->attempt < expected)
        say(ledger, LEDGER_ATTEMPTS, "%s: but %u handlers have begun, and %u attempts were cut off before", what,
            starts, ledger->uncounted[p][n]);
    else if (ledger->attempts_max != 0 && event->attempt > ledger->attempts_max && !has_crashed)
        say(ledger, LEDGER_ATTEMPTS, "%s: after %u it must be dead", what, ledger->attempts_max);
    if (failed == 0 && ledger->failed != 0)
        return 0;
    ledger->n_uncounted += more;
    ledger->uncounted[p][n] = (uint8_t)(ledger->uncounted[p][n] + more);
    ledger->crashed[p][n] = has_crashed;
    ledger->holder[p][n] = (uint16_t)member;
    ledger->meant[p][n] = 0;
    ledger->behind[key] = event->position + 1;
    ledger->last[p][key] = n + 1;
    ledger->starts[p][n] = (uint8_t)(starts + 1);
    if (starts == 0)
        ledger->n_first++;
    else
        ledger->n_repeats++;
    if (starts > 0 && is_dead && !is_asked)
        ledger->n_cut_off++;
    ledger->handled[member]++;
    return starts + 1;
}

void ledger_leave(struct ledger *ledger, unsigned member, const struct evbus_delivery *event,
                  enum evbus_outcome outcome)
{
    uint32_t p;
    uint32_t n;
    uint16_t mine = (uint16_t)member;
    if (!read_event(event, &p, &n))
        return;
    ledger->meant[p][n] = (uint8_t)(outcome + 1);
    if (!atomic_compare_exchange_strong(&ledger->hand[key_of(ledger, n)], &mine, 0))
        say(ledger, LEDGER_TWO, "event %u of producer %u: member %u took its key while member %u had it in hand", n, p,
            mine, member);
}

void ledger_finished(struct ledger *ledger, const struct evbus_delivery *event, int rc)
{
    uint32_t p;
    uint32_t n;
    if (!read_event(event, &p, &n))
        return;
    unsigned meant = ledger->meant[p][n];
    bool is_spent = meant == EVBUS_RETRY + 1 && ledger->attempts_max != 0 && event->attempt >= ledger->attempts_max;
    if (rc != EVBUS_OK)
        say(ledger, LEDGER_TWO, "event %u of producer %u: its finish returned %d %s", n, p, rc, evbus_message(NULL));
    else if (meant == EVBUS_DONE + 1 || meant == EVBUS_REJECT + 1 || is_spent)
        ledger->over[p][n] = (uint8_t)meant;
    else
        give_back(ledger, p, n);
}

int ledger_finish(struct ledger *ledger, unsigned member, struct evbus_subscription *sub,
                  const struct evbus_delivery *event, enum evbus_outcome outcome)
{
    ledger_leave(ledger, member, event, outcome);
    int rc = evbus_finish(sub, event, outcome, outcome == EVBUS_DONE ? NULL : "so it is");
    ledger_finished(ledger, event, rc);
    return rc;
}

void ledger_letter(struct ledger *ledger, const struct evbus_delivery *letter)
{
    uint32_t p;
    uint32_t n;
    const char *text = letter->payload;
    const char *event = strstr(text, "\"event\":");
    const char *payload = event != NULL ? strstr(event, "\"payload\":\"") : NULL;
    const char *end = payload != NULL ? strchr(payload + 11, '"') : NULL;
    if (end == NULL || !read_payload(payload + 10, (size_t)(end + 1 - (payload + 10)), &p, &n)) {
        say(ledger, LEDGER_TORN, "a dead letter's event is not as it was published: %s", text);
        return;
    }
    unsigned meant = ledger->meant[p][n];
    unsigned attempts = (unsigned)(ledger->starts[p][n] + ledger->uncounted[p][n] - ledger->released[p][n]);
    const char *cause = strstr(text, "\"cause\":\""); /* the letter's own stands before its attempts' */
    bool is_crashed = cause != NULL && strncmp(cause + 9, "crashed\"", 8) == 0;
    bool is_spent = cause != NULL && strncmp(cause + 9, "failed\"", 7) == 0;
    bool is_right = meant == EVBUS_REJECT + 1;
    if (is_crashed) /* before a handler had begun, perhaps: then its holder is not entered */
        is_right = ledger->doomed[ledger->holder[p][n]] != 0 || attempts < ledger->attempts_max;
    else if (is_spent)
        is_right = meant == EVBUS_RETRY + 1 &&
                   (ledger->crashed[p][n] != 0 ? attempts >= ledger->attempts_max : attempts == ledger->attempts_max);
    uint32_t id;
    memcpy(&id, letter->id, sizeof id);
    if (!is_right)
        say(ledger, LEDGER_ATTEMPTS, "event %u of producer %u is dead after %u attempts, and its handler said %u: %s",
            n, p, attempts, meant, text);
    if (ledger->letters[p][n] != 0 && ledger->letter[p][n] != id)
        say(ledger, LEDGER_AGAIN, "event %u of producer %u has dead letters of two ids", n, p);
    ledger->letter[p][n] = id;
    ledger->over[p][n] = EVBUS_REJECT + 1;
    if (ledger->letters[p][n]++ == 0)
        ledger->n_letters++;
    else
        ledger->n_letters_twice++;
}

uint64_t ledger_open(const struct ledger *ledger, uint32_t producer, uint32_t from, uint32_t to)
{
    uint64_t n_open = 0;
    for (uint32_t n = from; n < to; n++) {
        bool is_dead = ledger->over[producer][n] != 0 && ledger->over[producer][n] != EVBUS_DONE + 1;
        bool is_handled = ledger->over[producer][n] == EVBUS_DONE + 1 || ledger->meant[producer][n] == EVBUS_DONE + 1;
        n_open += ledger->sent[producer][n] == 2 && !is_handled && !(is_dead && ledger->letters[producer][n] != 0);
    }
    return n_open;
}

uint64_t ledger_missing(const struct ledger *ledger, uint32_t n_each)
{
    uint64_t n_missing = 0;
    for (uint32_t p = 0; p < LEDGER_PRODUCERS; p++)
        for (uint32_t n = 0; n < n_each; n++)
            n_missing += ledger->starts[p][n] == 0;
    return n_missing;
}

bool ledger_print(const struct ledger *ledgers, unsigned n, uint64_t lost, uint64_t wedged)
{
    static const char *const names[LEDGER_WRONGS] = {
        "acknowledged events lost", "torn or foreign bytes",         "out of order per key",
        "in the hands of two",      "begun again though it is over", "attempts miscounted",
    };
    uint64_t sum = lost + wedged;
    for (int wrong = 0; wrong < LEDGER_WRONGS; wrong++) {
        uint64_t count = wrong == LEDGER_LOST ? lost : 0;
        for (unsigned i = 0; i < n; i++)
            count += ledgers[i].wrong[wrong];
        sum += wrong == LEDGER_LOST ? 0 : count;
        fprintf(stderr, "    %-32s %lu\n", names[wrong], (unsigned long)count);
    }
    fprintf(stderr, "    %-32s %lu\n", "wedged", (unsigned long)wedged);
    return sum == 0;
}
