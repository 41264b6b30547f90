/* writer.h: the keeper's files: what is committed in the rings is appended to the journal, and brought to disk. See writer.c. */
#ifndef EVBUS_WRITER_H
#define EVBUS_WRITER_H

#include "log.h"
#include "marks.h"
#include "memory.h"

struct writer;

/* Begins the term of the keeper whose number in the seat is this: whoever kept before can move no position any more.
 * EVBUS_EFENCED: somebody was elected since. EVBUS_ECONFLICT:
 * the folder is older than the memory. Or what the files say; then it is tried again later. */
int writer_open(struct writer **out_writer, struct memory *memory, struct log *log, uint32_t number, struct error *err);

enum writer_did {
    WRITER_IDLE,   /* nothing was to be done */
    WRITER_WROTE,  /* something was appended, or synced */
    WRITER_DEPOSED /* somebody else keeps: let go */
};

/* One look at all partitions: append what is committed, sync where somebody waits for it or it is due, keep the ceilings ahead. What
 * fails is told once, and tried again with growing pauses; *out_due_ns is lowered to when something is due (monotonic). */
enum writer_did writer_look(struct writer *writer, uint64_t now_ns, uint64_t *out_due_ns);

/* All that is committed is on disk, as far as the disk allows. WRITER_DEPOSED, or WRITER_WROTE when it is; WRITER_IDLE: not
 * all of it, as a claim stands in the way, or a file cannot be written. */
enum writer_did writer_sync_all(struct writer *writer);

/* The same, and the marks say so: whoever brings the bus back has nothing to look for. */
void writer_end(struct writer *writer);

/* How many slept whom the last look has woken, as what they waited for is on disk. */
unsigned writer_n_woken(const struct writer *writer);

/* The term whose files it writes. */
struct term writer_term(const struct writer *writer);

void writer_close(struct writer *writer); /* NULL is fine */

#endif
