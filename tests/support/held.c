/* held.c: what a process and a bus hold, counted. */
#include "held.h"

#include "await.h"
#include "slot.h"
#include "threads.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

static const char *const names[HELD_THINGS] = {"descriptors", "mappings", "threads", "objects", "slots",
                                               "sleepers",    "pins",     "members", "leases",  "groups"};

static unsigned n_entries(const char *path, const char *prefix)
{
    unsigned n = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    if (dir != NULL)
        closedir(dir);
    return n;
}

static unsigned n_mappings(const char *bus)
{
    unsigned n = 0;
    char line[512], name[128];
    FILE *maps = fopen("/proc/self/maps", "re");
    snprintf(name, sizeof name, "/dev/shm/evbus.%s.", bus);
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        n += strstr(line, name) != NULL;
    if (maps != NULL)
        fclose(maps);
    return n;
}

static void look_at_bus(const struct memory *memory, struct held *out)
{
    for (int i = 1; i <= SLOTS_MAX; i++)
        out->n[HELD_SLOTS] += slot_is_used(&memory->control->slots[i]) ||
                              (atomic_load(slot_lock_word(&memory->control->slots[i])) & SLOT_TID_MASK) != 0;
    for (int g = 0; g < GROUPS_MAX; g++) {
        out->n[HELD_GROUPS] += atomic_load(&memory->control->groups[g].state) != GROUP_FREE;
        for (int m = 0; m < MEMBERS_MAX; m++)
            out->n[HELD_MEMBERS] += atomic_load(&memory->control->groups[g].members[m].owner) != 0;
    }
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        struct log_head *head = memory->logs[l].head;
        for (int i = 0; i < SLEEPERS_MAX; i++)
            out->n[HELD_SLEEPERS] += atomic_load(&head->sleepers[i].slot) != 0;
        for (int i = 0; i < PINS_MAX; i++)
            out->n[HELD_PINS] += atomic_load(&head->pin_owners[i]) != 0;
        for (uint32_t p = 0; p < memory->logs[l].n_partitions; p++)
            for (uint32_t g = 0; g < GROUPS_MAX; g++)
                out->n[HELD_LEASES] += LEASE_SLOT(atomic_load(&memory_part(&memory->logs[l], p, g)->lease)) != 0;
    }
}

struct held held_look(const char *bus, const struct memory *observer, unsigned n_threads)
{
    struct held held = {{0}};
    char prefix[80];
    snprintf(prefix, sizeof prefix, "evbus.%s.", bus);
    if (n_threads != 0)
        await_that(count_threads(NULL) == n_threads); /* one that was joined may show for a moment */
    held.n[HELD_DESCRIPTORS] = n_entries("/proc/self/fd", "");
    held.n[HELD_MAPPINGS] = n_mappings(bus);
    held.n[HELD_THREADS] = count_threads(NULL);
    held.n[HELD_OBJECTS] = n_entries("/dev/shm", prefix);
    if (observer != NULL)
        look_at_bus(observer, &held);
    return held;
}

bool held_is_same(const struct held *before, const struct held *after, char out_text[HELD_TEXT_BYTES])
{
    for (int i = 0; i < HELD_THINGS; i++)
        if (before->n[i] != after->n[i]) {
            snprintf(out_text, HELD_TEXT_BYTES, "%s: %u before, %u after", names[i], before->n[i], after->n[i]);
            return false;
        }
    return true;
}
