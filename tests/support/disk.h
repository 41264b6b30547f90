/* disk.h: a disk that remembers in which order it was written, so that the power can be cut at any point of it.
 *
 * Between disk_begin() and disk_end() what this process does to files below a folder is recorded: writes, syncs, names made, moved and
 * taken away. disk_cut() then makes the folder as a cut after so many of these steps may leave it: what was synced is there; of
 * what was not, each sector and each name is there or not, as the dice say. */
#ifndef DISK_H
#define DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;

/* One recording at a time. */
struct disk *disk_begin(const char *folder);
void disk_end(struct disk *disk);
void disk_free(struct disk *disk);

/* From here on it is broken, or no more. While it is, each sync of a file fails, and what was written to that file before will not be
 * brought to disk by any later one: the kernel takes it for written. Only writing it again helps. */
void disk_break(struct disk *disk, bool is_broken);

/* How many syncs have failed. */
unsigned disk_failures(const struct disk *disk);

/* How many steps there are. While recording: how many there were until now. */
size_t disk_steps(const struct disk *disk);

enum disk_unsynced { DISK_LOST, DISK_KEPT, DISK_DICED };

/* Makes `folder`, which is empty, as it is after a cut behind n steps. sector: bytes that are written or not as one. */
void disk_cut(const struct disk *disk, size_t n, enum disk_unsynced unsynced, size_t sector, uint64_t seed,
              const char *folder);

/* What was done in step n, for a test that fails. */
void disk_tell(const struct disk *disk, size_t n, char out[256]);

#endif
