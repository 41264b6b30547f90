/* pending.c: events of a group and partition that are taken and not finished, each one 64-bit word.
 *
 *     EMPTY -> RUN -> EMPTY                     the usual way: three CASes, the cursor's among them
 *     EMPTY -> RUN p -> RUN p' -> ... -> EMPTY  the chain: p is finished and p' taken by one CAS, then the cursor: two for each event
 *     EMPTY -> TAKEN -> DEAD                    no handler may get it
 *                       RUN -> WAIT -> RUN ...  to be tried again
 *                       RUN -> DEAD -> EMPTY    spent or rejected: the dead letter is published in between
 *                              DEAD -> PARKED -> WAIT, EMPTY    or its key waits until the letter is replayed or discarded
 *         finish with followers: -> SCAN -> WAIT at the next event of the key (the same word moves on), or EMPTY
 *
 *   who      the lease's holder stores RUN or TAKEN, then moves the cursor, skips, scans; whoever handles CASes its own word on
 *   order    taking: key hash, word RUN or TAKEN, cursor, whether the word was EMPTY or said that another event runs. Skipping: followers
 *            bit of the entry that holds the key, cursor
 *
 * Why that is enough. Every store is a CAS that carries the lease's epoch: who was fenced changes nothing any more [P3]. The
 * word before the cursor: after a crash between them the entry lies at or beyond the cursor and is simply taken again; the
 * other order would lose it [P4]. A chain is no other thing: in one step the event that ran is finished and the word stands for the next,
 * which lies at or beyond the cursor until that has moved; and as the word it replaces said that nobody waits, nobody is forgotten. The
 * followers bit is in the word, and before the cursor: so no finish can miss that somebody
 * waits behind it [P1, P2]. low reads the cursor first: an event is either before what was read, or its entry is seen [P5].
 * Who looks at all of it reads the word `seek` before and behind: a seek changes it twice, under two epochs, so one that is the
 * same saw no step of any. One that is set stands for what the seek will have made [P12].
 * [keeps ORDER] Rules P1-P6 P12. Checked by tests/model/pending.pml and tests/unit/test_pending.c. */
#include "pending.h"

const char *pending_cause_name(enum pending_cause cause)
{
    static const char *const names[CAUSES] = {"", "failed", "crashed", "timeout", "rejected", "no_version", "expired"};
    return (unsigned)cause < CAUSES ? names[cause] : "failed";
}

uint64_t pending_low(const struct group_part *part)
{
    uint64_t cursor = pending_cursor(part); /* first [P5] */
    uint64_t low = cursor;
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending pending = pending_load(part, i, cursor);
        if (pending.state != PENDING_EMPTY && pending.pos < low)
            low = pending.pos;
    }
    return low;
}

void pending_look(const struct group_part *part, struct pending_view *out)
{
    uint64_t before;
    uint64_t behind = atomic_load_explicit(&part->seek, memory_order_acquire);
    do {
        before = behind;
        out->cursor = pending_cursor(part); /* before the words [P5] */
        out->start = pending_start(part);
        for (uint32_t i = 0; i < PENDING_MAX; i++) /* acquire: whose step we see, his `seek` we see, too */
            out->words[i] = atomic_load_explicit(&part->pending[i], memory_order_acquire);
        behind = atomic_load_explicit(&part->seek, memory_order_acquire);
    } while (behind != before);
    if (!SEEK_IS_SET(behind))
        return;
    *out = (struct pending_view){.cursor = SEEK_TARGET(behind), .start = SEEK_TARGET(behind)};
}
