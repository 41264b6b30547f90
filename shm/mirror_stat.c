/* mirror_stat.c: the mirrors of a bus in numbers, and whether they are to go on, for operators.
 *
 * All of it stands in the bus: so it is told whether a bridge runs or not. `paused` has one writer at a time, an operator, and the
 * leader reads it at each turn: a bit that is late costs a turn.
 * Checked by tests/unit/test_mirror.c, tests/cli/test_bridge.sh. */
#include "bus.h"
#include "group.h"
#include "hold.h"
#include "json.h"
#include "partition.h"
#include "pending.h"
#include "reader.h"
#include "slot.h"

#include <evbus/mirror.h>
#include <stdlib.h>
#include <string.h>

static const char *name_of(const struct group_entry *entry)
{
    return entry->name + strlen("bridge-");
}

/* What stands in shared memory may be anything: one line of UTF-8, or nothing. */
static void copy_told(const struct group_entry *entry, char out[MIRROR_TEXT_BYTES])
{
    uint64_t words[MIRROR_TEXT_BYTES / 8];
    for (int i = 0; i < MIRROR_TEXT_BYTES / 8; i++)
        words[i] = atomic_load_explicit(&entry->told[i], memory_order_relaxed);
    memcpy(out, words, MIRROR_TEXT_BYTES);
    out[MIRROR_TEXT_BYTES - 1] = '\0';
    size_t len = strlen(out);
    while (len > 0 && !json_is_utf8(out, len))
        len--;
    out[len] = '\0';
    for (char *at = out; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
}

/* Its partitions; how many. out NULL: they are counted alone. */
static size_t stat_parts(const struct memory *memory, uint32_t group, struct evbus_mirror_part *out, uint64_t *out_told)
{
    size_t n = 0;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        const struct memory_log *log = &memory->logs[l];
        struct topic_set topics = group_topics(log, group);
        for (uint32_t p = 0; p < log->n_partitions && !memory_is_internal(log) && !topic_set_is_empty(&topics);
             p++, n++) {
            const struct ring *ring = &log->rings[p];
            if (out == NULL)
                continue;
            out_told[n] = atomic_load_explicit(&ring->head->mirrored, memory_order_relaxed);
            out[n] = (struct evbus_mirror_part){
                .size = sizeof *out,
                .log = log->name,
                .partition = p,
                .held = pending_cursor(memory_part(log, p, group)),
                .oldest = ring_oldest(ring),
                .next = READER_PARKED,
                .tail = ring_tail(ring),
                .synced = ring->has_journal ? ring_synced(ring) : ring_tail(ring),
            };
        }
    }
    return n;
}

static int stat_one(const struct memory *memory, uint32_t group,
                    int (*each)(void *context, const struct evbus_mirror_stat *stat), void *context, struct error *err)
{
    const struct group_entry *entry = &memory->control->groups[group];
    uint32_t slots[MEMBERS_MAX];
    uint32_t n_members = group_members(memory, group, slots);
    uint32_t leader = hold_slot(&entry->leader);
    const struct slot *slot = &memory->control->slots[leader];
    bool is_led = leader != 0 && slot_is_used(slot) && !slot_is_dead(slot);
    uint32_t n_leaders = is_led ? 1 : 0;
    char service[SERVICE_BYTES] = "";
    char text[MIRROR_TEXT_BYTES];
    size_t n = stat_parts(memory, group, NULL, NULL);
    struct evbus_mirror_part *parts = calloc(n + 1, sizeof *parts);
    uint64_t *told = calloc(n + 1, sizeof *told);
    int rc = parts != NULL && told != NULL ? EVBUS_OK : error_no_memory(err, "the partitions of a mirror");
    copy_told(entry, text);
    if (is_led)
        memcpy(service, slot->service, sizeof service - 1);
    if (rc == EVBUS_OK) {
        stat_parts(memory, group, parts, told);
        struct evbus_mirror_stat stat = {
            .size = sizeof stat,
            .name = name_of(entry),
            .is_led = is_led,
            .is_paused = atomic_load_explicit(&entry->paused, memory_order_relaxed) != 0,
            .service = service,
            .pid = is_led ? atomic_load_explicit(&slot->pid, memory_order_relaxed) : 0,
            .n_others = n_members > n_leaders ? n_members - n_leaders : 0,
            .text = is_led ? text : "",
            .parts = parts,
            .told = told,
            .n_parts = n,
        };
        rc = each(context, &stat);
    }
    free(parts);
    free(told);
    return rc;
}

static bool is_mirror(const struct memory *memory, uint32_t group)
{
    const struct group_entry *entry = &memory->control->groups[group];
    return group_is_live(memory, group) && (entry->flags & GROUP_MIRROR) != 0 &&
           strncmp(entry->name, "bridge-", strlen("bridge-")) == 0;
}

EVBUS_API int evbus_mirrors(struct evbus *bus, int (*each)(void *context, const struct evbus_mirror_stat *stat),
                            void *context)
{
    struct error *err = error_of_thread();
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK)
        rc = memory_map_new_logs(&bus->memory, err);
    for (uint32_t g = 0; g < GROUPS_MAX && rc == EVBUS_OK; g++)
        if (is_mirror(&bus->memory, g))
            rc = stat_one(&bus->memory, g, each, context, err);
    return rc;
}

EVBUS_API int evbus_mirror_pause(struct evbus *bus, const char *name, bool is_paused)
{
    struct error *err = error_of_thread();
    int rc = bus_check(bus, err);
    for (uint32_t g = 0; g < GROUPS_MAX && rc == EVBUS_OK; g++) {
        struct group_entry *entry = &bus->memory.control->groups[g];
        if (is_mirror(&bus->memory, g) && (name == NULL || strcmp(name_of(entry), name) == 0)) {
            atomic_store_explicit(&entry->paused, is_paused, memory_order_relaxed);
            return EVBUS_OK;
        }
    }
    return rc != EVBUS_OK ? rc
                          : error_set(err, EVBUS_ENOTFOUND, "bus %s has no mirror%s%.40s: no bridge has run on it yet",
                                      bus->memory.bus, name != NULL ? " " : "", name != NULL ? name : "");
}
