/* outage.c: many different events of a group fail the same way: its fault, not theirs.
 *
 *     streak   {way:32, is paused:1, number:31}: how attempts have failed since the last success, and the how-manieth streak it is
 *     events   {number:31, event:33} each: the different events that have failed in it, in the order in which they did
 *     probe    {not before, 10 ms:38, step:5, is held:1, member's place:6, its number:7, streak:7}: who tries one event, or when
 *
 *   who      failed: whoever ends an attempt so. ended: whoever is done with an event. probe: the lease thread of any member
 *   order    failed: streak is of this way (CAS, number + 1); the event into the first of `events` that is not of this streak (CAS);
 *            when the last of them is full: streak paused (CAS); since, text and, last, text_number
 *            done: streak {0, not paused, number + 1} (CAS)
 *            probe: CAS it from free, from a holder that is gone, or whose time is over; CAS it on when it has failed
 *
 * Why that is enough. Each step is one CAS of one word, and `streak` decides alone: its next number makes all of `events` and `probe`
 * another streak's at once, so there is nothing to clear, and whoever is killed between two steps leaves what he has counted. He may
 * have filled the last of `events` and not paused: whoever fails next finds it full, also an event that is counted already. Who is
 * late puts an old number into `events`: that counts as empty. since and text are for people; nobody decides by them.
 * A pause ends by any success, not by the probe's alone. A probe that is killed leaves its member's place with another owner, or a
 * dead slot: it is free at once; one that hangs has it as long as its limit.
 * [keeps OUTAGE] Checked by tests/unit/test_outage.c, tests/unit/test_groups_property.c, tests/crash/test_outage.c. */
#include "outage.h"

#include "clock.h"
#include "json.h"
#include "slot.h"

#include <ctype.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define STREAK(way, number) ((uint64_t)(way) << 32 | ((number)&0x7fffffff))
#define PAUSED              (UINT64_C(1) << 31)

#define EVENT_BITS       33
#define EVENT(n, event)  ((uint64_t)(n) << EVENT_BITS | ((event) & ((UINT64_C(1) << EVENT_BITS) - 1)))
#define EVENT_NUMBER(at) ((uint32_t)((at) >> EVENT_BITS))

#define TICK_NS     (10 * CLOCK_NS_PER_MS)
#define STEPS_MAX   31
#define FIRST_NS    CLOCK_NS_PER_S
#define LONGEST_NS  (30 * CLOCK_NS_PER_S)
#define STREAK_MASK UINT64_C(0x7f)

/* --- ways and events -------------------------------------------------------------------------------------------------- */

uint32_t outage_way(enum pending_cause cause, const char *error)
{
    char text[512];
    size_t len = 0;
    for (const char *at = error != NULL ? error : ""; *at != '\0' && len < sizeof text;) {
        size_t n = 0;
        bool has_digit = false;
        while (isalnum((unsigned char)at[n])) {
            has_digit = has_digit || isdigit((unsigned char)at[n]) != 0;
            n++;
        }
        if (has_digit) { /* a number, an address, an id */
            text[len++] = '#';
        } else {
            n += n == 0;
            for (size_t i = 0; i < n && len < sizeof text; i++)
                text[len++] = at[i];
        }
        at += n;
    }
    uint32_t way = (uint32_t)XXH3_64bits_withSeed(text, len, (uint64_t)cause);
    return way != 0 ? way : 1;
}

uint64_t outage_event(uint32_t log, uint32_t partition, uint64_t pos)
{
    const uint64_t place[] = {(uint64_t)log << 32 | partition, pos};
    return XXH3_64bits(place, sizeof place);
}

/* --- streaks ------------------------------------------------------------------------------------------------------------ */

static void keep_text(struct outage *outage, uint64_t streak, const struct outage_failure *failure)
{
    uint64_t words[OUTAGE_TEXT_BYTES / 8] = {0};
    if (failure->error != NULL)
        memcpy(words, failure->error, strnlen(failure->error, OUTAGE_TEXT_MAX));
    atomic_store_explicit(&outage->since_ns, failure->wall_ns, memory_order_relaxed);
    for (size_t i = 0; i < OUTAGE_TEXT_BYTES / 8; i++)
        atomic_store_explicit(&outage->text[i], words[i], memory_order_relaxed);
    atomic_store_explicit(&outage->text_number, OUTAGE_NUMBER(streak), memory_order_release);
}

/* Into the first of `events` that is not of this streak. true: they are full. */
static bool count_event(struct outage *outage, uint64_t streak, const struct outage_failure *failure)
{
    uint32_t number = OUTAGE_NUMBER(streak);
    uint64_t event = EVENT(number, failure->event);
    for (uint32_t i = 0; i < failure->n_events;) {
        uint64_t seen = atomic_load_explicit(&outage->events[i], memory_order_acquire);
        if (seen == event)
            break;
        if (EVENT_NUMBER(seen) == number)
            i++;
        else if (atomic_compare_exchange_strong_explicit(&outage->events[i], &seen, event, memory_order_acq_rel,
                                                         memory_order_relaxed))
            break;
    }
    uint64_t last = atomic_load_explicit(&outage->events[failure->n_events - 1], memory_order_acquire);
    return EVENT_NUMBER(last) == number;
}

enum outage_verdict outage_failed(struct outage *outage, const struct outage_failure *failure)
{
    uint64_t streak = atomic_load_explicit(&outage->streak, memory_order_acquire);
    for (;;) {
        if (OUTAGE_IS_PAUSED(streak)) {
            if (atomic_load_explicit(&outage->text_number, memory_order_relaxed) != OUTAGE_NUMBER(streak))
                keep_text(outage, streak, failure); /* who paused was killed */
            return OUTAGE_PAUSED;
        }
        if (OUTAGE_WAY(streak) != failure->way) {
            uint64_t ours = STREAK(failure->way, OUTAGE_NUMBER(streak) + 1);
            if (atomic_compare_exchange_strong_explicit(&outage->streak, &streak, ours, memory_order_acq_rel,
                                                        memory_order_acquire))
                streak = ours;
            continue;
        }
        if (!count_event(outage, streak, failure)) {
            uint64_t now = atomic_load_explicit(&outage->streak, memory_order_acquire);
            if (now == streak)
                return OUTAGE_CHARGE;
            streak = now; /* we have counted for one that is over */
            if (OUTAGE_WAY(now) == 0)
                return OUTAGE_CHARGE; /* by a success: it came behind us */
            continue;
        }
        if (atomic_compare_exchange_strong_explicit(&outage->streak, &streak, streak | PAUSED, memory_order_acq_rel,
                                                    memory_order_acquire)) {
            keep_text(outage, streak, failure);
            return OUTAGE_BEGUN;
        }
    }
}

bool outage_end(struct outage *outage)
{
    uint64_t streak = atomic_load_explicit(&outage->streak, memory_order_acquire);
    while (OUTAGE_WAY(streak) != 0)
        if (atomic_compare_exchange_strong_explicit(&outage->streak, &streak, STREAK(0, OUTAGE_NUMBER(streak) + 1),
                                                    memory_order_acq_rel, memory_order_acquire))
            return OUTAGE_IS_PAUSED(streak);
    return false;
}

void outage_clear(struct outage *outage)
{
    uint64_t streak = atomic_load_explicit(&outage->streak, memory_order_relaxed);
    atomic_store_explicit(&outage->streak, STREAK(0, OUTAGE_NUMBER(streak) + 1), memory_order_release);
}

/* --- probes -------------------------------------------------------------------------------------------------------------- */

struct probe {
    uint64_t at; /* free: not before; held: until then */
    uint32_t step;
    bool is_held;
    uint32_t place;
    uint32_t owner;  /* low bits of the number of its owner's word */
    uint32_t streak; /* low bits of its number */
};

static struct probe probe_unpack(uint64_t word)
{
    return (struct probe){.at = word >> 26,
                          .step = (uint32_t)(word >> 21) & STEPS_MAX,
                          .is_held = (word >> 20 & 1) != 0,
                          .place = (uint32_t)(word >> 14) & 63,
                          .owner = (uint32_t)(word >> 7) & 127,
                          .streak = (uint32_t)(word & STREAK_MASK)};
}

static uint64_t probe_pack(const struct probe *probe)
{
    return probe->at << 26 | (uint64_t)probe->step << 21 | (uint64_t)probe->is_held << 20 |
           (uint64_t)probe->place << 14 | (uint64_t)probe->owner << 7 | probe->streak;
}
static_assert(MEMBERS_MAX <= 64, "a place is six bits");

/* As it stands for this streak: of another one's, free at once. */
static struct probe probe_of(uint64_t word, uint64_t streak)
{
    struct probe probe = probe_unpack(word);
    if (probe.streak != (OUTAGE_NUMBER(streak) & STREAK_MASK))
        probe = (struct probe){.streak = OUTAGE_NUMBER(streak) & STREAK_MASK};
    return probe;
}

static uint32_t owner_bits(uint32_t owner)
{
    return owner >> WORD_SLOT_BITS & 127;
}

/* Its member has left, or is dead. */
static bool is_gone(const struct probe *probe, const struct outage_prober *prober)
{
    uint32_t owner = atomic_load_explicit(&prober->members[probe->place].owner, memory_order_acquire);
    return owner == 0 || owner_bits(owner) != probe->owner || slot_is_dead(&prober->slots[PIN_SLOT(owner)]);
}

uint64_t outage_probe(struct outage *outage, const struct outage_prober *prober, uint64_t now_ns, uint64_t *out_due_ns)
{
    uint64_t streak = atomic_load_explicit(&outage->streak, memory_order_acquire);
    uint64_t word = atomic_load_explicit(&outage->probe, memory_order_acquire);
    struct probe probe = probe_of(word, streak);
    uint64_t at_ns = probe.at * TICK_NS;
    if (at_ns > now_ns && !(probe.is_held && is_gone(&probe, prober))) {
        *out_due_ns = at_ns < *out_due_ns ? at_ns : *out_due_ns;
        return 0;
    }
    probe.is_held = true;
    probe.place = prober->place;
    probe.owner = owner_bits(prober->owner);
    probe.at = (now_ns + prober->limit_ns) / TICK_NS + 1;
    uint64_t ours = probe_pack(&probe);
    return atomic_compare_exchange_strong_explicit(&outage->probe, &word, ours, memory_order_acq_rel,
                                                   memory_order_relaxed)
               ? ours
               : 0;
}

bool outage_probe_is_new(uint64_t probe)
{
    return (probe * UINT64_C(0x9e3779b97f4a7c15)) >> 63 != 0;
}

static void move_probe(struct outage *outage, uint64_t word, const struct probe *to)
{
    atomic_compare_exchange_strong_explicit(&outage->probe, &word, probe_pack(to), memory_order_acq_rel,
                                            memory_order_relaxed);
}

void outage_probe_failed(struct outage *outage, uint64_t word, uint64_t now_ns)
{
    struct probe next = probe_unpack(word);
    uint64_t wait_ns = next.step < 5 ? FIRST_NS << next.step : LONGEST_NS;
    uint64_t jitter = wait_ns / 5 * 2 / 1024 * (now_ns * UINT64_C(0x9e3779b97f4a7c15) >> 54); /* of 1024 */
    next.at = (now_ns + wait_ns - wait_ns / 5 + jitter) / TICK_NS + 1;
    next.step = next.step < STEPS_MAX ? next.step + 1 : STEPS_MAX - 1;
    next.is_held = false;
    move_probe(outage, word, &next);
}

void outage_probe_pass(struct outage *outage, uint64_t word, uint64_t now_ns)
{
    struct probe next = probe_unpack(word);
    next.at = now_ns / TICK_NS;
    next.is_held = false;
    move_probe(outage, word, &next);
}

/* --- who looks on ---------------------------------------------------------------------------------------------------------- */

void outage_look(const struct outage *outage, struct outage_view *out)
{
    uint64_t streak = atomic_load_explicit(&outage->streak, memory_order_acquire);
    *out = (struct outage_view){.is_paused = OUTAGE_IS_PAUSED(streak)};
    for (uint32_t i = 0; i < OUTAGE_EVENTS_MAX && OUTAGE_WAY(streak) != 0; i++)
        out->n_events += EVENT_NUMBER(atomic_load_explicit(&outage->events[i], memory_order_relaxed)) ==
                         OUTAGE_NUMBER(streak);
    if (!out->is_paused)
        return;
    struct probe probe = probe_of(atomic_load_explicit(&outage->probe, memory_order_relaxed), streak);
    out->probe_ns = probe.is_held ? 0 : probe.at * TICK_NS;
    if (atomic_load_explicit(&outage->text_number, memory_order_acquire) != OUTAGE_NUMBER(streak))
        return;
    uint64_t words[OUTAGE_TEXT_BYTES / 8];
    for (size_t i = 0; i < OUTAGE_TEXT_BYTES / 8; i++)
        words[i] = atomic_load_explicit(&outage->text[i], memory_order_relaxed);
    out->since_ns = atomic_load_explicit(&outage->since_ns, memory_order_relaxed);
    memcpy(out->text, words, OUTAGE_TEXT_MAX);
    size_t len = strlen(out->text);
    if (len == OUTAGE_TEXT_MAX) /* cut off, perhaps in a character */
        for (int i = 0; i < 3 && !json_is_utf8(out->text, len); i++)
            out->text[--len] = '\0';
    bool is_utf8 = json_is_utf8(out->text, len);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)out->text[i] < 0x20 || out->text[i] == 0x7f || (!is_utf8 && (out->text[i] & 0x80) != 0))
            out->text[i] = '?';
}
