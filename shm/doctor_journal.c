/* doctor_journal.c: what is wrong with a bus's journal: its folder, a disk that fails or is full, nobody who writes.
 * Checked by tests/unit/test_doctor.c. */
#include "doctor_journal.h"

#include "bus.h"
#include "hold.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define SCARCE 16 /* a disk with less than this part of it left */

static void examine_folder(struct visit *visit)
{
    const struct memory *memory = &visit->bus->memory;
    const char *folder = memory->control->folder;
    struct statvfs disk;
    if (statvfs(folder, &disk) != 0) {
        finding_mend(visit, "put it back; or end the bus's services and: evbus -b %s rm && evbus -b %s init",
                     memory->bus, memory->bus);
        finding_tell(visit, EVBUS_FINDING_PROBLEM, "%.511s, where the bus remembers: %s", folder, strerror(errno));
        return;
    }
    uint64_t left = (uint64_t)disk.f_bavail * disk.f_frsize / (1024 * 1024);
    uint64_t all = (uint64_t)disk.f_blocks * disk.f_frsize / (1024 * 1024);
    if (disk.f_bavail < disk.f_blocks / SCARCE) {
        finding_mend(visit, "free space there, or shorten the catalogue's retention: evbus -b %s catalogue apply FILE",
                     memory->bus);
        finding_tell(visit, EVBUS_FINDING_WARNING,
                     "%.511s: its disk has %" PRIu64 " of %" PRIu64
                     " MiB left; when it is full, rings fill and producers get EVBUS_EFULL",
                     folder, left, all);
    }
    if (!state_is_writable(&memory->state)) {
        finding_mend(visit, "run doctor as who runs the services, or: evbus -b %s init with their --group",
                     memory->bus);
        finding_tell(visit, EVBUS_FINDING_NOTE, "%.511s: this user may not write there, so it cannot keep the bus",
                     folder);
    }
}

static void examine_writing(struct visit *visit, const struct ring *ring)
{
    const char *bus = visit->bus->memory.bus;
    uint32_t failed = atomic_load_explicit(&ring->head->write_failed, memory_order_acquire);
    uint64_t journaled = ring_journaled(ring);
    uint64_t tail = ring_tail(ring);
    uint64_t behind = tail > journaled ? tail - journaled : 0;
    if (failed != 0) {
        finding_mend(visit, "see to that disk; the keeper tries again by itself, and its log tells the file");
        finding_tell(visit, EVBUS_FINDING_PROBLEM,
                     "%.127s/%u: its files cannot be written (%s): %" PRIu64
                     " cells are in memory alone, and a publish that waits for the disk fails",
                     ring->name, ring->partition, evbus_strerror(-(int)failed), behind);
    } else if (behind > 0 && hold_slot(&visit->bus->memory.control->seat) == 0) {
        finding_mend(visit,
                     "start one of its services, as a user who may write the bus's folder; for now: evbus -b %s "
                     "tail >/dev/null",
                     bus);
        finding_tell(visit, EVBUS_FINDING_WARNING,
                     "%.127s/%u: %" PRIu64 " cells are in memory alone, and nobody keeps the bus", ring->name,
                     ring->partition, behind);
    }
}

void doctor_examine_journal(struct visit *visit)
{
    const struct memory *memory = &visit->bus->memory;
    if (!memory_remembers(memory))
        return;
    examine_folder(visit);
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        for (uint32_t p = 0; memory->logs[l].rings[0].has_journal && p < memory->logs[l].n_partitions; p++)
            examine_writing(visit, &memory->logs[l].rings[p]);
}
