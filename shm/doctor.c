/* doctor.c: examines a bus and tells what an operator should know, and what mends it, as a command where there is one. It reads
 * only, and everything by the same functions that readers and producers trust.
 *
 * A note is worth knowing: nothing is wrong, and a health check passes. A warning becomes a problem when nobody looks. A problem
 * holds somebody up now. The wall clock says nothing here: it may jump. Checked by tests/unit/test_doctor.c. */
#include <evbus/admin.h>

#include "bus.h"
#include "catalogue.h"
#include "doctor_group.h"
#include "doctor_journal.h"
#include "finding.h"
#include "group.h"
#include "hold.h"
#include "proc.h"
#include "slot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static void mend_anew(struct visit *visit)
{
    const char *bus = visit->bus->memory.bus;
    finding_mend(visit, "some process writes where it must not; make the bus anew: evbus -b %s rm && evbus -b %s init",
                 bus, bus);
}

/* --- its objects --------------------------------------------------------------------------------------------------------- */

static void examine_objects(struct visit *visit)
{
    const struct memory *memory = &visit->bus->memory;
    struct statvfs shm;
    if (region_is_unlinked(&memory->control_region)) {
        finding_mend(visit, "end its services, then: evbus -b %s init", memory->bus);
        finding_tell(
            visit, EVBUS_FINDING_PROBLEM,
            "bus %s: its name is gone from /dev/shm; who is attached is told EVBUS_ESTALE, who comes finds no bus",
            memory->bus);
    }
    for (uint32_t i = 0; i < memory_n_logs(memory); i++) {
        char name[256];
        char path[280];
        struct stat found;
        region_name(memory->bus, memory->logs[i].name, name);
        snprintf(path, sizeof path, "/dev/shm%s", name);
        if (stat(path, &found) == 0 || errno != ENOENT)
            continue;
        finding_mend(visit, "end its services, then: evbus -b %s rm && evbus -b %s init", memory->bus, memory->bus);
        finding_tell(visit, EVBUS_FINDING_PROBLEM,
                     "%s is gone from /dev/shm: who is attached goes on, nobody else can attach", path);
    }
    if (statvfs("/dev/shm", &shm) == 0 && shm.f_blocks > 0 && shm.f_bavail < shm.f_blocks / 16) {
        finding_mend(visit, "mount -o remount,size=SIZE /dev/shm; of a container: docker run --shm-size=SIZE");
        finding_tell(visit, EVBUS_FINDING_NOTE,
                     "/dev/shm has %" PRIu64 " of %" PRIu64
                     " KiB left: a bus that is there needs no more, a new one or a new log does",
                     (uint64_t)shm.f_bavail * shm.f_frsize / 1024, (uint64_t)shm.f_blocks * shm.f_frsize / 1024);
    }
}

static void examine_catalogue(struct visit *visit)
{
    const struct memory *memory = &visit->bus->memory;
    struct error err = {""};
    struct catalogue *catalogue = NULL;
    char *text = NULL;
    size_t len;
    uint32_t generation;
    int rc = topics_copy_text(memory, &text, &len, &generation, &err);
    if (rc == EVBUS_OK)
        rc = catalogue_parse(text, len, &catalogue, &err);
    catalogue_free(catalogue);
    free(text);
    if (rc == EVBUS_OK || rc == EVBUS_ENOSPC)
        return;
    finding_mend(visit, "make the bus anew: evbus -b %s rm && evbus -b %s init --catalogue FILE", memory->bus,
                 memory->bus);
    finding_tell(
        visit, EVBUS_FINDING_PROBLEM,
        "the catalogue in memory is damaged: who is attached goes on with what it has read, nobody else can attach "
        "(%s)",
        err.text);
}

/* --- threads ---------------------------------------------------------------------------------------------------------- */

static void examine_slot(struct visit *visit, uint32_t i)
{
    const struct slot *slot = &visit->bus->memory.control->slots[i];
    char service[SERVICE_BYTES] = "";
    char duties[500] = "";
    memcpy(service, slot->service, sizeof service - 1);
    int32_t pid = atomic_load_explicit(&slot->pid, memory_order_relaxed);
    int32_t tid = atomic_load_explicit(&slot->tid, memory_order_relaxed);
    if (slot_is_dead(slot)) {
        finding_mend(
            visit,
            "the keeper buries it within 50 ms; if this stays, no keeper is attached: start one of its services");
        finding_tell(visit, EVBUS_FINDING_WARNING, "slot %u: thread %d of process %d (%s) is dead and not buried yet",
                     i, tid, pid, service);
        return;
    }
    enum proc_halt halt = proc_look(slot);
    if (halt == PROC_GOES_ON)
        return;
    doctor_append_duties(visit, i, duties, sizeof duties);
    if (halt == PROC_STOPPED)
        finding_mend(visit, "continue it: kill -CONT %d; or end it: kill -KILL %d", pid, pid);
    else if (halt == PROC_TRACED)
        finding_mend(visit, "let its debugger go on or detach, or end it: kill -KILL %d", pid);
    else
        finding_mend(visit, "thaw it (docker unpause, systemctl thaw), or end it: kill -KILL %d", pid);
    finding_tell(visit, EVBUS_FINDING_PROBLEM, "slot %u: thread %d of process %d (%s) is stopped%s%s", i, tid, pid,
                 service, proc_by(halt), duties);
}

static void examine_slots(struct visit *visit)
{
    const struct control *control = visit->bus->memory.control;
    uint32_t n_used = 0;
    uint32_t n_retired = 0;
    for (uint32_t i = 1; i <= SLOTS_MAX; i++) {
        n_retired += atomic_load_explicit(&control->slots[i].retired, memory_order_relaxed) != 0;
        if (!slot_is_used(&control->slots[i]))
            continue;
        n_used++;
        examine_slot(visit, i);
    }
    if (finding_is_scarce(n_used + n_retired, SLOTS_MAX)) {
        finding_mend(visit, "publish and read from fewer threads; evbus -b %s stat lists who has them",
                     visit->bus->memory.bus);
        finding_tell(visit, EVBUS_FINDING_WARNING, "%u of %d slots are taken", n_used + n_retired, SLOTS_MAX);
    }
    if (n_retired > 0) {
        finding_mend(visit, "nothing waits for them; a new bus has them again: evbus -b %s rm && evbus -b %s init",
                     visit->bus->memory.bus, visit->bus->memory.bus);
        finding_tell(visit, EVBUS_FINDING_NOTE,
                     "%u of %d slots are retired: their threads died by exec of another thread or by process_mrelease",
                     n_retired, SLOTS_MAX);
    }
}

static void examine_keeper(struct visit *visit)
{
    const struct control *control = visit->bus->memory.control;
    if (hold_slot(&control->seat) != 0)
        return;
    finding_mend(
        visit,
        "any attached service that does not set EVBUS_KEEPER_NEVER becomes it; for now: evbus -b %s tail >/dev/null",
        visit->bus->memory.bus);
    finding_tell(visit, EVBUS_FINDING_NOTE, "there is no keeper at the moment");
}

/* --- logs ------------------------------------------------------------------------------------------------------------- */

static void examine_places(struct visit *visit, const struct memory_log *log)
{
    const char *bus = visit->bus->memory.bus;
    uint32_t n_topics = atomic_load_explicit(&log->head->n_topics, memory_order_relaxed);
    uint32_t n_sleepers = 0;
    uint32_t n_pins = 0;
    for (uint32_t i = 0; i < SLEEPERS_MAX; i++)
        n_sleepers += atomic_load_explicit(&log->head->sleepers[i].slot, memory_order_relaxed) != 0;
    for (uint32_t i = 0; i < PINS_MAX; i++)
        n_pins += atomic_load_explicit(&log->head->pin_owners[i], memory_order_relaxed) != 0;
    if (finding_is_scarce(n_topics, TOPICS_MAX)) {
        if (memory_is_internal(log))
            finding_mend(visit, "a group's is never another's; make a new bus: evbus -b %s rm && evbus -b %s init", bus,
                         bus);
        else
            finding_mend(visit, "give new topics another second segment; evbus -b %s catalogue show lists them", bus);
        finding_tell(visit, EVBUS_FINDING_WARNING, "log %.127s: %u of %d topics are there", log->name, n_topics,
                     TOPICS_MAX);
    }
    if (finding_is_scarce(n_sleepers, SLEEPERS_MAX)) {
        finding_mend(visit, "read it from fewer threads; evbus -b %s inspect --log %.127s lists them", bus, log->name);
        finding_tell(visit, EVBUS_FINDING_WARNING, "log %.127s: %u of %d sleepers' places are taken", log->name,
                     n_sleepers, SLEEPERS_MAX);
    }
    if (finding_is_scarce(n_pins, PINS_MAX)) {
        finding_mend(visit, "close readers that pin; evbus -b %s inspect --log %.127s lists them", bus, log->name);
        finding_tell(visit, EVBUS_FINDING_WARNING, "log %.127s: %u of %d pins are taken", log->name, n_pins, PINS_MAX);
    }
}

/* A claim whose writer does not come back. */
static void tell_claim(struct visit *visit, const struct ring *ring, uint64_t place, uint32_t number, const char *what)
{
    const struct slot *slot = &ring->slots[number];
    char service[SERVICE_BYTES] = "";
    memcpy(service, slot->service, sizeof service - 1);
    int32_t pid = atomic_load_explicit(&slot->pid, memory_order_relaxed);
    if (slot_is_dead(slot))
        finding_mend(visit, "who is blocked by it clears it, and the keeper: start one of its services");
    else if (!proc_is_here(slot))
        finding_mend(visit,
                     "the others go on past it; continue or end that process in its own PID namespace, pid:[%" PRIu64
                     "]: lsns -t pid lists them",
                     atomic_load_explicit(&slot->pid_ns, memory_order_relaxed));
    else
        finding_mend(visit, "the others go on past it; continue that process: kill -CONT %d; or end it: kill -KILL %d",
                     pid, pid);
    finding_tell(visit, EVBUS_FINDING_WARNING,
                 "%.127s/%u at %" PRIu64 ": a claim of thread %d of process %d (%s), slot %u, %s", ring->name,
                 ring->partition, place, atomic_load_explicit(&slot->tid, memory_order_relaxed), pid, service, number,
                 what);
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
    if (n < FENCES_MAX)
        return;
    finding_mend(visit, "continue or end the stopped processes");
    finding_tell(visit, EVBUS_FINDING_PROBLEM,
                 "%.127s/%u: all %d fences are in use; one more stopped producer fills the partition", ring->name,
                 ring->partition, FENCES_MAX);
}

static void examine_front(struct visit *visit, const struct ring *ring, uint64_t released, uint64_t tail)
{
    uint64_t pos = released;
    while (pos < tail) {
        uint64_t word;
        enum ring_seen seen = ring_look(ring, pos, &word);
        if (seen == RING_CORRUPT) {
            mend_anew(visit);
            finding_tell(visit, EVBUS_FINDING_PROBLEM,
                         "%.127s/%u at %" PRIu64 ": no evbus wrote this word (%#" PRIx64 ")", ring->name,
                         ring->partition, pos, word);
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
                mend_anew(visit);
                finding_tell(visit, EVBUS_FINDING_PROBLEM, "%.127s/%u at %" PRIu64 ": no evbus wrote this header",
                             ring->name, ring->partition, pos);
                return;
            }
        } else if (word_state(word) == WORD_CLAIMED || word_state(word) == WORD_CANCELLED) {
            const struct slot *slot = &ring->slots[word_slot(word)];
            if (slot_is_dead(slot) || proc_look(slot) != PROC_GOES_ON || word_state(word) == WORD_CANCELLED)
                tell_claim(visit, ring, pos, word_slot(word), "waits for its writer");
        }
        pos += word_cells(word);
    }
}

/* A reader that pins, "" where it cannot be told. */
static void append_reader(const struct ring *ring, uint32_t index, char *text, size_t cap)
{
    uint32_t number = PIN_SLOT(atomic_load_explicit(&ring->pin_owners[index], memory_order_relaxed));
    const struct slot *slot = &ring->slots[number];
    if (number != 0 && slot_is_used(slot))
        finding_append(text, cap, " (slot %u, process %d, %.63s)", number,
                       atomic_load_explicit(&slot->pid, memory_order_relaxed), slot->service);
}

/* Somebody holds more than half of a ring. */
static void examine_low(struct visit *visit, const struct ring *ring, uint32_t index, uint64_t held)
{
    const struct memory *memory = &visit->bus->memory;
    unsigned percent = (unsigned)(held * 100 / ring->capacity);
    bool is_full = held > ring->capacity / 8 * 7;
    enum evbus_severity severity = is_full ? EVBUS_FINDING_PROBLEM : EVBUS_FINDING_WARNING;
    const char *then = is_full ? "it is full, producers get EVBUS_EFULL" : "when it is full, producers get EVBUS_EFULL";
    char who[160] = "";
    if (index < PINS_MAX && PIN_SLOT(atomic_load_explicit(&ring->pin_owners[index], memory_order_relaxed)) == 0) {
        finding_mend(visit,
                     "nothing of it is released without a journal; make a bus with one, or with larger rings: "
                     "evbus -b %s rm && evbus -b %s init --catalogue FILE",
                     memory->bus, memory->bus);
        finding_tell(visit, severity,
                     "%.127s/%u: the log of dead letters is %u%% full; when it is, spent events wait where they are",
                     ring->name, ring->partition, percent);
    } else if (index < PINS_MAX) {
        append_reader(ring, index, who, sizeof who);
        finding_mend(
            visit, "that reader is slow or stopped: read on, or close it; evbus -b %s inspect --log %.127s lists pins",
            memory->bus, ring->name);
        finding_tell(visit, severity, "%.127s/%u: a reader that pins holds %u%% of the ring%s; %s", ring->name,
                     ring->partition, percent, who, then);
    } else {
        uint32_t slots[MEMBERS_MAX];
        uint32_t group = index - PINS_MAX;
        const char *name = memory->control->groups[group].name;
        uint32_t n = group_members(memory, group, slots);
        if (n == 0)
            finding_mend(visit,
                         "start a member: evbus -b %s consume %.63s; or forget the group and what it has not handled: "
                         "evbus -b %s group rm %.63s",
                         memory->bus, name, memory->bus, name);
        else
            finding_mend(
                visit,
                "its members are slow, stopped, or wait for an event to be tried again: evbus -b %s group show %.63s",
                memory->bus, name);
        finding_tell(visit, severity, "%.127s/%u: group %.63s, with %u members, holds %u%% of the ring; %s", ring->name,
                     ring->partition, name, n, percent, then);
    }
}

static void examine_partition(struct visit *visit, const struct ring *ring)
{
    uint64_t released = ring_released(ring);
    uint64_t tail = ring_tail(ring);
    if (tail > ring->limit + FRAME_CELLS_MAX || released > tail || tail - released > ring->capacity) {
        mend_anew(visit);
        finding_tell(visit, EVBUS_FINDING_PROBLEM,
                     "%.127s/%u: tail %" PRIu64 " and released %" PRIu64 " do not fit a ring of %" PRIu64 " cells",
                     ring->name, ring->partition, tail, released, ring->capacity);
        return;
    }
    if (tail > ring->limit / 10 * 9) {
        finding_mend(visit, "make a new bus before they end: evbus -b %s rm && evbus -b %s init",
                     visit->bus->memory.bus, visit->bus->memory.bus);
        finding_tell(visit, EVBUS_FINDING_WARNING, "%.127s/%u has used %" PRIu64 "%% of its positions", ring->name,
                     ring->partition, tail / (ring->limit / 100));
    }
    for (uint32_t i = 0; i < LOWS_MAX; i++) {
        uint64_t behind = LOW_BEHIND(atomic_load_explicit(&ring->head->lows[i], memory_order_relaxed));
        if (!ring->has_journal && behind != 0 && behind - 1 < tail && tail - (behind - 1) > ring->capacity / 2)
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
    examine_objects(&visit);
    examine_catalogue(&visit);
    examine_keeper(&visit);
    examine_slots(&visit);
    doctor_examine_groups(&visit);
    doctor_examine_journal(&visit);
    if (finding_is_scarce(memory_n_logs(&bus->memory), LOGS_MAX)) {
        finding_mend(&visit, "give new topics a second segment that is there; evbus -b %s catalogue show lists them",
                     bus->memory.bus);
        finding_tell(&visit, EVBUS_FINDING_WARNING, "%u of %d logs are there", memory_n_logs(&bus->memory), LOGS_MAX);
    }
    for (uint32_t i = 0; i < memory_n_logs(&bus->memory); i++) {
        examine_places(&visit, &bus->memory.logs[i]);
        for (uint32_t p = 0; p < bus->memory.logs[i].n_partitions; p++)
            examine_partition(&visit, &bus->memory.logs[i].rings[p]);
    }
    if (visit.worst > EVBUS_FINDING_NOTE)
        return error_set(err, EVBUS_ENOTFOUND, "something was found");
    return EVBUS_OK;
}
