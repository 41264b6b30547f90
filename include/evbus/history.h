/* history.h: what was: find an event and what became of it, look at the journal's files, copy them, go back in them. For the CLI,
 * operators' tools and dashboards; a service needs none of it. Conventions (sizes, times, errors, threads) are those of evbus.h. */
#ifndef EVBUS_HISTORY_H
#define EVBUS_HISTORY_H

#include <evbus/admin.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Find an event by its id, in memory and in the journal's files, of all logs, dead letters too. The same id may have been published
 *  more than once (evbus_why() tells of the first 64). What is read is an index of each closed file (a few KiB; one that is
 *  missing is made), and of each partition the last file.
 *
 *  each     gets one after the other; what it is shown lives until it returns. A non-zero answer ends it and is returned
 *  Threads  any
 *  Returns  EVBUS_OK; EVBUS_ENOTFOUND (it is not kept: the message tells whether files could not be read); EVBUS_EINVAL; EVBUS_EIO;
 *           EVBUS_EPERM; EVBUS_ENOSPC (memory); EVBUS_ESTALE. Since 0.1. */
EVBUS_API int evbus_find(struct evbus *bus, const uint8_t id[16],
                         int (*each)(void *context, const struct evbus_delivery *event), void *context);

/** Tell what became of an event. One struct evbus_record after the other; `kind` says which fields it has:
 *
 *      event      where it stands, in which versions ("1.0,2.0"), and who published it: service, host, pid (none where its files are gone)
 *        group      a group that receives its topic, and how far it is with it, in `state`:
 *                     waiting   it has not been taken yet: `ahead` bytes of the partition stand before it
 *                     held      an event of the same key, at `behind`, is not done yet
 *                     running   in a handler of `member`, since `since`
 *                     retrying  to be tried again at `due`
 *                     deferred  its handler has put it off until `due`
 *                     dying     spent; its dead letter is still to be published
 *                     parked    its dead letter `deadLetterId` is published, and its key waits until that is replayed and it is done, or
 *                               discarded
 *                     dead      it is a dead letter: `deadLetterId`, at `letter`
 *                     replayed, discarded   that is what was done about its letter
 *                     done      acknowledged
 *                     before    the group began behind it, or was moved there
 *          attempt    one that ended badly, as long as its note is kept: which, when, by whom, how long it took, why. Of a
 *                     handler whose process died, or that took too long: cause crashed or timeout
 *          settled    what was done about its dead letter, each time: `what` (replayed, discarded), `n`: replays by then, when, by whom
 *                     (service, user, host, pid), `reason`, `letter`: the position of the letter
 *      replay     of the event, out of a dead letter: its `n`, `deadLetterId`, and as `event`; below it the group that gets it
 *
 *  Returns  as evbus_find(). Since 0.1. */
EVBUS_API int evbus_why(struct evbus *bus, const uint8_t id[16],
                        int (*each)(void *context, const struct evbus_record *record), void *context);

struct evbus_journal_options {
    size_t size;
    const char *bus; /**< NULL: $EVBUS_BUS, else "lomash" */
    const char *dir; /**< a bus's folder itself, e.g. a copy or a backup; NULL: the one where the bus remembers */
    bool
        verify; /**< read every frame and every byte that says of itself whether it is whole; else names, sizes, headers */
    const char *log;    /**< this log alone; NULL: all, and what belongs to none */
    bool has_partition; /**< `partition` is set */
    uint32_t partition; /**< this partition of each log */
};

/** Show what stands in the folder where a bus remembers: its files, how far they go, and what in them is damaged. Opens them for
 *  reading and does nothing else: no slot, no lock. So it may be called while the bus is in use, when its memory is gone, and on a
 *  copy. Records (struct evbus_record) are:
 *
 *      bus          folder, uuid, incarnation (its how-manieth life)
 *      catalogue    a file: `file`, `bytes`, `changed`, `damaged`
 *      marks        likewise: how far positions are in use and on disk
 *      groups       likewise: what the groups have done
 *      aside        likewise: what a keeper found damaged, and kept under another name
 *      partition    log, partition, `files`; `first` and `last`: its positions; bytes; `created` of its first file; `ceiling`, `synced`: as
 *                   the marks have them
 *        segment    a file of it: `position`, `until`: from where to where; bytes, created, `closed`: the next one is begun; with
 *                   verify also frames, events, `gaps`: cells of which it was written that they are lost, and `until` is where the last whole
 *                   frame ends. `damaged`: cannot be told without verify, unless its header is
 *        damaged    what is not as it was written, in a sentence: `what`; `file`; of a log also its partition, `position` and `until`;
 *                   `at`: the byte in the file, where it can be told. Stands before the segment that it is in
 *
 *  What stands behind the last whole frame of a partition is being written, or was torn when the power went, and is no damage: unless
 *  the marks say that it was on disk. While the bus is in use, what looks damaged is looked at again before it is told.
 *
 *  each     gets one record after the other; what it is shown lives until it returns. A non-zero answer ends it and is returned
 *  Returns  EVBUS_OK, also where damage was found; EVBUS_ENOBUS (no bus remembers there); EVBUS_ENOTFOUND (no such log, partition);
 *           EVBUS_ESTALE (it was removed meanwhile); EVBUS_ECORRUPT (nothing there tells which bus it is); EVBUS_ELAYOUT (a newer evbus
 *           wrote it); EVBUS_EPERM; EVBUS_EIO; EVBUS_ENOSPC (memory); EVBUS_EINVAL. Since 0.1. */
EVBUS_API int evbus_journal(const struct evbus_journal_options *options,
                            int (*each)(void *context, const struct evbus_record *record), void *context);

struct evbus_backup_options {
    size_t size;
    const char *dir; /**< where the copy goes: DIR/<bus>. It is made where it is not there */
    /** How far it is; may be NULL. In the calling thread, about every 4 MiB; bytes_all may grow meanwhile. A non-zero answer ends
     *  the backup, which leaves nothing, and is returned. */
    int (*progress)(void *context, uint64_t bytes_done, uint64_t bytes_all);
    void *context;
};

/** Copy what a bus remembers to DIR/<bus>, while all runs: nobody waits for it. With EVBUS_STATE_DIR=DIR, and its memory gone, the
 *  bus comes back from there. In the copy is whatever was published before the call, in logs with a journal, and of each group what it
 *  had done by then, or a little later; never an event as done that is not there itself, or without what its handler published.
 *  Bytes that are rotten are copied as they are.
 *
 *  The copy has its name when all of it is on disk: whoever finds DIR/<bus> finds it whole. What a backup that was killed has left
 *  (DIR/<bus>.tmp-*) is removed by the next one. The handle stays open until the call returns; other threads may use it.
 *  Threads  any.
 *  Returns  EVBUS_OK; EVBUS_EDUPLICATE (DIR/<bus> is there: a backup is never written over); EVBUS_EINVAL (DIR lies in the bus's own
 *           folder); EVBUS_ENOTFOUND (no log has a journal); EVBUS_ENOSPC, EVBUS_EPERM, EVBUS_EIO (the message names the file;
 *           nothing is left behind); EVBUS_EIO, too, where events are in memory that the keeper cannot bring to disk; EVBUS_EBUSY
 *           (the catalogue changes, or old files go, faster than it copies); EVBUS_ESTALE; EVBUS_EFORKED. Since 0.1. */
EVBUS_API int evbus_backup(struct evbus *bus, const struct evbus_backup_options *options);

/** Where a group is to go on. */
struct evbus_seek_options {
    size_t size;
    const char *group;
    enum evbus_from from;   /**< LATEST: what is published from now on; EARLIEST: the oldest that is kept */
    uint64_t from_time_ns;  /**< for EVBUS_FROM_TIME: the first event that is not older; what has none: its tail */
    uint64_t from_position; /**< for EVBUS_FROM_POSITION: the first event at or behind it; needs log and partition */
    const char *log;        /**< this log alone; NULL: all logs of the group */
    bool has_partition;     /**< `partition` is set */
    uint32_t partition;     /**< this partition of `log` alone */
    bool dry_run;           /**< change nothing, show what would be */
    bool force;             /**< also while members live, and where events that are not done are skipped */
};

enum evbus_seek_way {
    EVBUS_SEEK_STAYS = 0, /**< it is there already */
    EVBUS_SEEK_SKIPS = 1, /**< forward: what lies between is never given to the group */
    EVBUS_SEEK_AGAIN = 2  /**< back: what lies between comes again, done or not */
};

/** What became of one partition, or would. */
struct evbus_seek_part {
    size_t size;
    const char *log;
    uint32_t partition;
    uint64_t from_position; /**< of the next event that the group would have taken */
    uint64_t to_position;
    enum evbus_seek_way way;
    uint64_t cells;     /**< of 64 bytes, between the two: of all topics of the log */
    uint32_t n_in_hand; /**< events that were taken and not finished: let go of, those from to_position on come again */
    uint32_t n_dropped; /**< of those: before to_position; they never come, nor what waited behind them for its key */
    bool is_oldest;     /**< from_position is not kept any more; it goes on at the oldest that is */
};

/** A group goes on at another position: back, and events come again in order per key, done or not; forward, and they are skipped.
 *  Events in hand are let go of. Refused while the group has a living member, and where what is not done would be skipped, unless
 *  `force` is set. Then members are fenced and go on from the new position by themselves; an event that is in a handler at that
 *  moment is finished by nobody (evbus_finish() says EVBUS_EFENCED): it may come again, and while that handler still runs.
 *
 *  Each partition moves as a whole, whoever is killed: it is where it was, or where it is to be, and nothing from there on is lost.
 *  Of several some may have moved then: repeat it. As all that groups do it is on disk within a second or two.
 *
 *  each     may be NULL: called for each partition, when all have been moved; a non-zero answer ends the calls and is returned
 *  Threads  any; not from a handler of the group
 *  Returns  EVBUS_OK; EVBUS_EBUSY (refused, nothing was moved: the message says who lives or how much would be skipped; or somebody
 *           else changes groups); EVBUS_ENOTFOUND (no such group, or it does not read that log); EVBUS_EINVAL (no such partition; a
 *           position beyond the tail, which the message tells); EVBUS_EIO (the journal cannot be read). Since 0.1. */
EVBUS_API int evbus_group_seek(struct evbus *bus, const struct evbus_seek_options *options,
                               int (*each)(void *context, const struct evbus_seek_part *part), void *context);

#ifdef __cplusplus
}
#endif

#endif
