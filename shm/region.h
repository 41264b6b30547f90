/* region.h: create, size, map and check a shared object. See region.c. */
#ifndef EVBUS_REGION_H
#define EVBUS_REGION_H

#include "error.h"

#include <sys/types.h>

struct region {
    void *base; /* NULL: not mapped */
    size_t len_bytes;
    int fd;       /* open only where the caller asked to keep it; else -1. Look whether it still is: region_has_fd() */
    dev_t device; /* which object it is: a name may be another's by now, a descriptor's number too */
    ino_t inode;
};

#define REGION_NONE ((struct region){.fd = -1})

/* The object's name, "/evbus.<bus>.<part>". part: "control" or a log's name. out_name: 256 bytes. */
void region_name(const char *bus, const char *part, char *out_name);

/* A new object, every page allocated (zero), with this mode and group, mapped. fd stays open in *out_region.
 * It is flocked until the fd is closed or unlocked, so that a half-made object of a dead maker can be told.
 * EVBUS_EDUPLICATE, EVBUS_ENOSPC (nothing is left behind), EVBUS_EPERM, EVBUS_EIO. */
int region_create(struct region *out_region, const char *name, size_t len_bytes, mode_t mode, gid_t group,
                  struct error *err);

/* Maps an existing object. fd stays open. EVBUS_ENOBUS, EVBUS_EPERM, EVBUS_ENOSPC, EVBUS_ECORRUPT (smaller than
 * len_bytes_min), EVBUS_EIO. */
int region_open(struct region *out_region, const char *name, size_t len_bytes_min, struct error *err);

/* Touch every page now, so that no page fault comes between a claim and its commit [R10]. */
void region_prefault(const struct region *region);

/* Is fd still the object's, not closed by somebody else and another file's by now? */
bool region_has_fd(const struct region *region);

/* The object once more, as another open file. EVBUS_ESTALE: the name is another object's; else as region_open(). */
int region_reopen(const struct region *region, const char *name, int *out_fd, struct error *err);

/* A descriptor of the object, for the caller to close: of fd's open file, or where that was closed, by the name. -1:
 * there is none. */
int region_descriptor(const struct region *region, const char *name);

/* Is the object's name gone (removed by hand, by a container's end)? */
bool region_is_unlinked(const struct region *region);

/* What this process finds under a name in /dev/shm: this object, nothing or another one, or it cannot tell. */
enum region_found { REGION_IS_THERE, REGION_IS_LOST, REGION_IS_HIDDEN };
enum region_found region_find(const struct region *region, const char *name);

void region_close(struct region *region); /* unmaps, closes; fine on REGION_NONE */

#endif
