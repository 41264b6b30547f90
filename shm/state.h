/* state.h: the folder in which a bus remembers. See state.c. */
#ifndef EVBUS_STATE_H
#define EVBUS_STATE_H

#include "file.h"

/* Which bus, and its how-manieth life: counted up whenever its memory is made from what the folder holds. */
struct state_identity {
    uint8_t uuid[16];
    uint64_t incarnation; /* from 1 */
};

struct state {
    char folder[FILE_PATH_MAX];
    void *_Atomic lock;    /* a page of the file `bus`, whose mapping keeps our lock; NULL: we have none */
    _Atomic uint32_t uses; /* threads that write there; STATE_LEFT: none may any more */
};

/* Where a bus of this name remembers, as this process sees it: $EVBUS_STATE_DIR/<bus>; else /var/lib/evbus/<bus> as root; else
 * $XDG_STATE_HOME/evbus/<bus>, or ~/.local/state/evbus/<bus>. */
int state_folder(const char *bus, char out_folder[FILE_PATH_MAX], struct error *err);

/* Makes the folder of a new bus, locked for its maker alone. EVBUS_EDUPLICATE: one of that name is there. mode: of its memory. */
int state_create(struct state *out_state, const char *folder, const struct state_identity *identity, mode_t mode,
                 gid_t group, struct error *err);

/* Opens it. alone: for who makes memory from it, EVBUS_EBUSY while anybody uses the bus; else for a member.
 * EVBUS_ENOTFOUND: there is none. */
int state_open(struct state *out_state, const char *folder, bool alone, struct state_identity *out_identity,
               struct error *err);

/* Which bus remembers there, for who only looks: without the lock. *out_damaged: where in the file `bus` a damaged slot begins (just
 * being written, it looks so, too), UINT64_MAX: none; set with EVBUS_OK and EVBUS_ECORRUPT. EVBUS_ENOTFOUND: there is none. */
int state_look(const char *folder, struct state_identity *out_identity, uint64_t *out_damaged, struct error *err);

/* Another life begins; on disk on return. */
int state_count_up(const struct state *state, struct state_identity *identity, struct error *err);

/* From being alone to being one of the members. */
int state_share(struct state *state, struct error *err);

/* May this process write there? */
bool state_is_writable(const struct state *state);

/* All that a bus remembers is gone; who uses it writes where nobody looks. Fine where there is none. */
int state_remove(const char *folder, struct error *err);

/* What a remove that was killed has left of buses that had this folder, and a maker who died before he had made `bus`. Nothing of a bus
 * that is there. */
void state_clear(const char *folder);

/* A thread begins to write there: until its state_used() nobody of this process lets go of the lock. false: it has been let go. */
bool state_use(struct state *state);
void state_used(struct state *state);

/* What remembers there was retired: the lock goes, so that it can be brought back, but not while a thread writes there: then the next
 * call does it. Any thread, more than once. */
void state_let_go(struct state *state);
/* A folder and all in it, by its path. */
int state_remove_folder(const char *folder, struct error *err);

/* The file that says which bus a folder is, of a copy that nobody uses yet; on disk on return. */
int state_put(const char *folder, const struct state_identity *identity, struct error *err);

void state_close(struct state *state);  /* fine on a zeroed one */
void state_forget(struct state *state); /* in a forked child, which has no mapping */

#endif
