/* witness.h: the second witness of a death: a byte that is locked as long as its process lives. See witness.c. */
#ifndef EVBUS_WITNESS_H
#define EVBUS_WITNESS_H

#include "region.h"

#include <stdatomic.h>
#include <stdbool.h>

/* This process's, one for each of its handles. */
struct witness {
    uint64_t number; /* never another's; 0: none */
    void *page;      /* the mapping that holds the lock */
};

/* Takes a number that nobody has had, and locks the byte of that offset in the object. numbers: the last one that was
 * given. EVBUS_EIO where byte locks do not work; EVBUS_ENOSPC, EVBUS_ESTALE, EVBUS_ECORRUPT. */
int witness_open(struct witness *out_witness, const struct region *region, const char *name, _Atomic uint64_t *numbers,
                 struct error *err);

/* From here on we are as dead: no slot of this handle may be ours any more. Fine on a zeroed one. */
void witness_close(struct witness *witness);

/* We are a forked child: the page is our parent's. */
void witness_forget(struct witness *witness);

/* Whom to ask. fd -1: nobody can be asked now. */
struct witness_asked {
    int fd;
    uint64_t own;
};
struct witness_asked witness_ask(const struct witness *own, const struct region *region, const char *name);
void witness_thank(struct witness_asked *asked);

/* true: no thread of the process that took this number will ever store anything again. false: it lives, or it cannot be
 * told. */
bool witness_says_gone(const struct witness_asked *asked, uint64_t number);

#endif
