/* doctor.c: examines a bus and tells what an operator should know. It reads only, and everything by the same functions
 * that readers and producers trust. Checked by tests/unit/test_doctor.c. */
#include <evbus/admin.h>

#include "bus.h"
#include "clock.h"
#include "group.h"
#include "slot.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct visit {
    struct evbus *bus;
    void (*each)(void *context, const struct evbus_finding *finding);
    void *context;
    enum evbus_severity worst;
};

__attribute__((format(printf, 4, 5))) static void tell(struct visit *visit, enum evbus_severity severity,
                                                       const char *mend, const char *format, ...)
{
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    struct evbus_finding finding = {.size = sizeof finding, .severity = severity, .what = what, .mend = mend};
    if (severity > visit->worst)
        visit->worst = severity;
    visit->each(visit->context, &finding);
}

/* The state letter of a thread of our own PID namespace, e.g. 'T' stopped; 0: cannot be told. */
static char thread_state(const struct slot *slot)
{
    char path[64];
    char text[256];
    int32_t pid = atomic_load_explicit(&slot->pid, memory_order_relaxed);
    int32_t tid = atomic_load_explicit(&slot->tid, memory_order_relaxed);
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    const char *end = strrchr(text, ')'); /* the name in parentheses may hold anything */
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

static void examine_slots(struct visit *visit)
{
    const struct control *control = visit->bus->memory.control;
    uint32_t n_used = 0;
    for (uint32_t i = 1; i <= SLOTS_MAX; i++) {
        const struct slot *slot = &control->slots[i];
        if (!slot_is_used(slot))
            continue;
        n_used++;
        char service[SERVICE_BYTES] = "";
        memcpy(service, slot->service, sizeof service - 1);
        int32_t pid = atomic_load_explicit(&slot->pid, memory_order_relaxed);
        int32_t tid = atomic_load_explicit(&slot->tid, memory_order_relaxed);
        char state = thread_state(slot);
        if (slot_is_dead(slot))
            tell(visit, EVBUS_FINDING_WARNING,
                 "the keeper buries it within 50 ms; if this stays, no keeper is attached",
                 "slot %u: thread %d of process %d (%s) is dead and not buried yet", i, tid, pid, service);
        else if (state == 'T' || state == 't')
            tell(visit, EVBUS_FINDING_PROBLEM, "continue it (kill -CONT) or end it (kill -KILL)",
                 "slot %u: thread %d of process %d (%s) is stopped%s", i, tid, pid, service,
                 state == 't' ? " by a debugger" : "");
    }
    if (n_used > SLOTS_MAX * 9 / 10)
        tell(visit, EVBUS_FINDING_WARNING, "publish from fewer threads", "%u of %d slots are taken", n_used, SLOTS_MAX);
}

static void examine_keeper(struct visit *visit)
{
    const struct control *control = visit->bus->memory.control;
    uint32_t keeper = atomic_load_explicit(&control->keeper_slot, memory_order_relaxed);
    if (keeper == 0 || keeper > SLOTS_MAX)
        tell(visit, EVBUS_FINDING_NOTE, "any attached service that does not set EVBUS_KEEPER_NEVER becomes it",
             "there is no keeper at the moment");
}

/* A claim whose writer does not come back. */
static void tell_claim(struct visit *visit, const struct ring *ring, uint64_t place, uint32_t number, const char *what)
{
    const struct slot *slot = &ring->slots[number];
    char service[SERVICE_BYTES] = "";
    memcpy(service, slot->service, sizeof service - 1);
    tell(visit, EVBUS_FINDING_WARNING,
         "the others go on past it; continue that process (kill -CONT) or end it (kill -KILL)",
         "%s/%u at %" PRIu64 ": a claim of thread %d of process %d (%s), slot %u, %s", ring->name, ring->partition,
         place, atomic_load_explicit(&slot->tid, memory_order_relaxed),
         atomic_load_explicit(&slot->pid, memory_order_relaxed), service, number, what);
}

/* Cells that are left out of each lap [R5]. */
static void examine_fences(struct visit *visit, const struct ring *ring)
{
    unsigned n = 0;
    for (int i = 0; i < FENCES_MAX; i++) {
        uint64_t entry = atomic_load_explicit(&ring->head->fences[i], memory_order_acquire);
        if (entry == 0)
            continue;
        n++;
        tell_claim(visit, ring, FENCE_CELL(entry), FENCE_SLOT(entry), "is fenced off until its writer goes on");
    }
    if (n == FENCES_MAX)
        tell(visit, EVBUS_FINDING_PROBLEM, "continue or end the stopped processes",
             "%s/%u: all %d fences are in use; one more stopped producer fills the partition", ring->name,
             ring->partition, FENCES_MAX);
}

static void examine_front(struct visit *visit, const struct ring *ring, uint64_t released, uint64_t tail)
{
    uint64_t pos = released;
    while (pos < tail) {
        uint64_t word;
        enum ring_seen seen = ring_look(ring, pos, &word);
        if (seen == RING_CORRUPT) {
            tell(visit, EVBUS_FINDING_PROBLEM,
                 "some process writes where it must not; make the bus anew (evbus rm, evbus init)",
                 "%s/%u at %" PRIu64 ": no evbus wrote this word (%#" PRIx64 ")", ring->name, ring->partition, pos,
                 word);
            return;
        }
        if (seen == RING_NOTHING || seen == RING_OVERTAKEN)
            return; /* it moved on while we looked */
        if (seen == RING_COMMITTED) {
            struct frame_header header;
            enum ring_seen copied = ring_copy_header(ring, pos, &header);
            if (copied == RING_OVERTAKEN)
                return;
            if (copied == RING_CORRUPT || header.n_cells != word_cells(word)) {
                tell(visit, EVBUS_FINDING_PROBLEM,
                     "some process writes where it must not; make the bus anew (evbus rm, evbus init)",
                     "%s/%u at %" PRIu64 ": no evbus wrote this header", ring->name, ring->partition, pos);
                return;
            }
        } else if (word_state(word) == WORD_CLAIMED || word_state(word) == WORD_CANCELLED) {
            const struct slot *slot = &ring->slots[word_slot(word)];
            if (slot_is_dead(slot) || thread_state(slot) == 'T' || word_state(word) == WORD_CANCELLED)
                tell_claim(visit, ring, pos, word_slot(word), "waits for its writer");
        }
        pos += word_cells(word);
    }
}

/* Somebody holds more than half of a ring. */
static void examine_low(struct visit *visit, const struct ring *ring, uint32_t index, uint64_t held)
{
    const struct memory *memory = &visit->bus->memory;
    unsigned percent = (unsigned)(held * 100 / ring->capacity);
    if (index < PINS_MAX && PIN_SLOT(atomic_load_explicit(&ring->pin_owners[index], memory_order_relaxed)) == 0) {
        tell(visit, EVBUS_FINDING_WARNING,
             "nothing of it is released before there is a journal; when it is full, spent events wait where they are",
             "%s/%u: the log of dead letters is %u%% full", ring->name, ring->partition, percent);
    } else if (index < PINS_MAX) {
        tell(visit, EVBUS_FINDING_WARNING, "that reader is slow or stopped: read on, or close it",
             "%s/%u: a reader that pins holds %u%% of the ring; when it is full, producers get EVBUS_EFULL", ring->name,
             ring->partition, percent);
    } else {
        uint32_t slots[MEMBERS_MAX];
        uint32_t group = index - PINS_MAX;
        char name[SERVICE_BYTES] = "";
        memcpy(name, memory->control->groups[group].name, sizeof name - 1);
        uint32_t n = group_members(memory, group, slots);
        tell(visit, EVBUS_FINDING_WARNING,
             n == 0 ? "start a member; or forget the group and what it has not handled: evbus group rm"
                    : "its members are slow, stopped, or wait for an event to be tried again: evbus group show",
             "%s/%u: group %s, with %u members, holds %u%% of the ring; when it is full, producers get EVBUS_EFULL",
             ring->name, ring->partition, name, n, percent);
    }
}

static void examine_partition(struct visit *visit, const struct ring *ring)
{
    uint64_t released = ring_released(ring);
    uint64_t tail = ring_tail(ring);
    if (tail > ring->limit + FRAME_CELLS_MAX || released > tail || tail - released > ring->capacity) {
        tell(visit, EVBUS_FINDING_PROBLEM,
             "some process writes where it must not; make the bus anew (evbus rm, evbus init)",
             "%s/%u: tail %" PRIu64 " and released %" PRIu64 " do not fit a ring of %" PRIu64 " cells", ring->name,
             ring->partition, tail, released, ring->capacity);
        return;
    }
    if (tail > ring->limit / 10 * 9)
        tell(visit, EVBUS_FINDING_WARNING, "make a new bus before they end",
             "%s/%u has used %" PRIu64 "%% of its positions", ring->name, ring->partition, tail / (ring->limit / 100));
    for (uint32_t i = 0; i < LOWS_MAX; i++) {
        uint64_t behind = LOW_BEHIND(atomic_load_explicit(&ring->head->lows[i], memory_order_relaxed));
        if (behind != 0 && behind - 1 < tail && tail - (behind - 1) > ring->capacity / 2)
            examine_low(visit, ring, i, tail - (behind - 1));
    }
    examine_fences(visit, ring);
    examine_front(visit, ring, released, tail);
}

EVBUS_API int evbus_doctor(struct evbus *bus, void (*each)(void *context, const struct evbus_finding *finding),
                           void *context)
{
    struct error *err = error_of_thread();
    struct visit visit = {.bus = bus, .each = each, .context = context, .worst = EVBUS_FINDING_NOTE};
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && each == NULL)
        rc = error_set(err, EVBUS_EINVAL, "each is NULL");
    if (rc != EVBUS_OK)
        return rc;
    examine_keeper(&visit);
    examine_slots(&visit);
    for (uint32_t i = 0; i < memory_n_logs(&bus->memory); i++)
        for (uint32_t p = 0; p < bus->memory.logs[i].n_partitions; p++)
            examine_partition(&visit, &bus->memory.logs[i].rings[p]);
    if (visit.worst > EVBUS_FINDING_NOTE)
        return error_set(err, EVBUS_ENOTFOUND, "something was found");
    return EVBUS_OK;
}
