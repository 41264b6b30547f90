/* retire.c: a bus ends: by `evbus rm`, or since its names in /dev/shm were taken away.
 *
 *   remove   retired = 1 for those who have it mapped; whoever sleeps is woken; logs unlinked; control last, so that a remove
 *            that is killed is done again by the next one
 *   names    may be taken away by hand (rm, a container's end). Whoever uses the bus looks at them once a second, since the
 *            keeper may be stopped or nobody: one that is gone retires the bus for all
 *
 * Why that is enough. Nobody can open a bus whose name is gone, and somebody may make another of that name: two rings that both
 * sides take for one. `retired` is set before the new one can be made, and a publish looks at it once more after its commit
 * (publish.h): what is acknowledged was there before [R16].
 * Rule R16. Checked by tests/unit/test_memory.c and tests/crash/test_names.c. */
#include "retire.h"

#include "clock.h"
#include "doorbell.h"
#include "slot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

/* Whoever has it mapped shall see it now. */
static void retire(struct control *control)
{
    atomic_store_explicit(&control->retired, 1, memory_order_release);
    for (int i = 1; i <= SLOTS_MAX; i++)
        if (slot_is_used(&control->slots[i]))
            doorbell_ring_slot(&control->slots[i]);
}

bool retire_check_names(struct memory *memory)
{
    char name[256];
    if (memory_is_retired(memory))
        return false;
    bool is_gone = region_is_unlinked(&memory->control_region);
    region_name(memory->bus, "control", name);
    /* A log's name only where we see the host's /dev/shm: after chroot() we do not. */
    if (!is_gone && region_find(&memory->control_region, name) == REGION_IS_THERE)
        for (uint32_t i = 0; i < memory_n_logs(memory) && !is_gone; i++) {
            region_name(memory->bus, memory->logs[i].name, name);
            is_gone = region_find(&memory->logs[i].region, name) == REGION_IS_LOST;
        }
    if (is_gone)
        retire(memory->control);
    return is_gone;
}

void retire_look_again(struct memory *memory, uint64_t looked_ns, uint64_t now_ns)
{
    if (atomic_compare_exchange_strong_explicit(&memory->looked_ns, &looked_ns, now_ns, memory_order_relaxed,
                                                memory_order_relaxed)) /* one thread does */
        retire_check_names(memory);
}

/* Marks whatever stands under this name as retired, if it is a control object at all. */
static void retire_named(const char *name)
{
    struct region region;
    if (region_open(&region, name, offsetof(struct control, seat), NULL) != EVBUS_OK)
        return;
    struct control *control = region.base;
    if (control->magic == CONTROL_MAGIC && control->fingerprint == LAYOUT_FINGERPRINT &&
        region.len_bytes >= sizeof *control)
        retire(control);
    region_close(&region);
}

/* Logs first, control last: a remove that is killed is done again by the next. */
static int remove_objects(const char *bus, const char *name, struct error *err)
{
    char prefix[SERVICE_BYTES + 8];
    int prefix_len = snprintf(prefix, sizeof prefix, "evbus.%s.", bus);
    DIR *dir = opendir("/dev/shm");
    if (dir == NULL)
        return error_set(err, EVBUS_EIO, "/dev/shm: %s%s", strerror(errno), error_mend(errno));
    unsigned n_removed = 0;
    int number = 0;
    for (struct dirent *entry; errno = 0, (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, prefix, (size_t)prefix_len) != 0 || strcmp(entry->d_name, name + 1) == 0)
            continue;
        char path[300];
        snprintf(path, sizeof path, "/%s", entry->d_name);
        if (shm_unlink(path) == 0)
            n_removed++;
        else if (errno != ENOENT)
            number = errno;
    }
    if (errno != 0) /* what was not seen is not removed: the control object stays, so that it can be said again */
        number = errno;
    closedir(dir);
    if (number == 0 && shm_unlink(name) == 0)
        n_removed++;
    else if (number == 0 && errno != ENOENT)
        number = errno;
    if (number != 0)
        return error_set(err, number == EACCES || number == EPERM || number == EROFS ? EVBUS_EPERM : EVBUS_EIO,
                         "bus %s: cannot remove all of it from /dev/shm: %s%s", bus, strerror(number),
                         error_mend(number));
    if (n_removed == 0)
        return error_set(err, EVBUS_ENOBUS, "there is no bus %s on this host", bus);
    return EVBUS_OK;
}

int retire_remove(const char *bus, struct error *err)
{
    int rc = memory_check_name(bus, err);
    if (rc != EVBUS_OK)
        return rc;
    char name[256];
    region_name(bus, "control", name);
    int lock = shm_open(name, O_RDWR, 0); /* a maker holds it until its bus is ready */
    if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) != 0) {
        close(lock);
        return error_set(err, EVBUS_EBUSY, "bus %s is just being made or removed by somebody else: try again", bus);
    }
    retire_named(name);
    rc = remove_objects(bus, name, err);
    if (lock >= 0)
        close(lock);
    return rc;
}
