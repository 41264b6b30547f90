/* admin.h: make, remove, list, measure and examine buses. For the CLI, the bridge and dashboards; a service needs none
 * of it. Conventions (sizes, times, errors, threads) are those of evbus.h. */
#ifndef EVBUS_ADMIN_H
#define EVBUS_ADMIN_H

#include <evbus/evbus.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evbus_init_options {
    size_t size;
    const char *bus;       /**< 1..63 of a-z 0-9 - _ ; NULL: $EVBUS_BUS, else "lomash" */
    const char *catalogue; /**< JSON text; NULL: the shipped one (the ADR's 17 topics) */
    size_t catalogue_len;  /**< bytes; 0: NUL-terminated */
    unsigned mode;         /**< permissions of the shared objects; 0: 0660 */
    const char *group;     /**< group name or number that owns them; NULL: ours */
};

/** Make a bus: /dev/shm/evbus.<bus>.control and one object per log, every page of them allocated. One that has logs with a journal
 *  remembers in a folder, $EVBUS_STATE_DIR/<bus>; else /var/lib/evbus/<bus> as root, else $XDG_STATE_HOME/evbus/<bus>, or
 *  ~/.local/state/evbus/<bus>: from there evbus_open() brings it back when its memory is gone.
 *  Returns EVBUS_OK; EVBUS_EDUPLICATE (it exists, in memory or in its folder); EVBUS_ECATALOGUE; EVBUS_ENOSPC (nothing is left behind); EVBUS_EINVAL;
 *  EVBUS_EPERM. Since 0.1. */
EVBUS_API int evbus_init(const struct evbus_init_options *options);

/** Remove a bus: it is marked retired first, so that whoever still has it mapped gets EVBUS_ESTALE. What was in it is
 *  gone, and with it the folder where it remembers. Also clears away what a half-made or foreign-layout bus left. Returns EVBUS_OK; EVBUS_ENOBUS; EVBUS_EPERM. */
EVBUS_API int evbus_remove(const char *bus);

struct evbus_listed {
    size_t size;
    char bus[64];
    int state; /**< EVBUS_OK, or why it cannot be opened: EVBUS_ELAYOUT, EVBUS_EPERM, EVBUS_ECORRUPT ...; EVBUS_ENOBUS: its
                     *   memory is gone, and who opens it brings it back from its folder */
    uint64_t bytes; /**< of shared memory, all objects */
    uint64_t created_ns;
    uint32_t n_processes; /**< attached now */
};

/** Calls each() for every bus of this host, by name; a non-zero answer ends it and is returned. */
EVBUS_API int evbus_list(int (*each)(void *context, const struct evbus_listed *listed), void *context);

/** The shipped catalogue: static JSON text. */
EVBUS_API const char *evbus_shipped_catalogue(void);

/** Is this text a catalogue that a bus can be made of? EVBUS_OK or EVBUS_ECATALOGUE; the message tells where and what.
 *  out_bytes (may be NULL): the shared memory that its bus takes. */
EVBUS_API int evbus_catalogue_check(const char *text, size_t len, uint64_t *out_bytes);

/** The catalogue that the bus runs on, as it was applied. Lives until the next call on this handle from any thread. */
EVBUS_API int evbus_catalogue_text(struct evbus *bus, const char **out_text, size_t *out_len);

/** What one topic allows and is for. */
struct evbus_topic_info {
    size_t size;
    const char *topic;
    const char *log;
    uint32_t n_partitions;
    enum evbus_ack ack;
    const char *const *producers;
    size_t n_producers;
    const char *const *groups;
    size_t n_groups;
    uint64_t retention_ns;    /**< of its log */
    uint64_t retention_bytes; /**< of its log; 0: no limit */
    bool has_journal;         /**< its log has one */
    size_t payload_max;       /**< bytes that a payload may have */
};

/** Calls each() for every topic of a catalogue text, in its order; a non-zero answer ends it and is returned. */
EVBUS_API int evbus_catalogue_topics(const char *text, size_t len,
                                     int (*each)(void *context, const struct evbus_topic_info *info), void *context);

struct evbus_partition_stat {
    size_t size;
    const char *log;
    uint32_t partition;
    uint64_t capacity; /**< cells of 64 bytes */
    uint64_t tail;     /**< cells claimed so far */
    uint64_t released; /**< cells that may be overwritten */
    uint64_t low;      /**< the least position that a pin holds; UINT64_MAX: no pin */
    uint32_t n_pins;
    uint32_t n_sleepers;    /**< of its log */
    uint64_t full;          /**< publishes that found it full */
    uint64_t cancels;       /**< claims taken from writers that were too slow */
    uint64_t buried;        /**< claims of the dead that were cleared */
    uint64_t fences;        /**< cancelled claims whose cells were left out, since their writers slept */
    uint32_t n_fences;      /**< of them: whose writers still sleep, 16 at most; the next one fills the ring */
    bool has_journal;       /**< the fields below say something only where it has */
    bool is_visible_synced; /**< readers see what is on disk, not before */
    uint64_t oldest;        /**< the first position that is kept */
    uint64_t journaled;     /**< what lies below stands in files */
    uint64_t synced;        /**< what lies below is on disk */
    uint64_t kept_bytes;    /**< of events in files */
    uint64_t syncs;         /**< fdatasyncs that went well, in this life of the bus */
    int write_failed; /**< enum evbus_code of the last write or sync, when it failed: then nothing is appended; EVBUS_OK */
};

/** A thread that is attached. */
struct evbus_slot_stat {
    size_t size;
    uint32_t slot; /**< 1..1023 */
    char service[64];
    int32_t pid; /**< in its own PID namespace */
    int32_t tid;
    uint64_t since_ns;
    uint64_t cancels; /**< of its claims, ever */
    bool is_dead;     /**< and not buried yet */
    bool is_keeper;
};

struct evbus_stat {
    size_t size;
    const char *bus;
    uint8_t uuid[16];
    uint64_t created_ns;
    uint64_t bytes; /**< of shared memory, all objects */
    uint32_t n_logs;
    uint32_t n_topics;
    uint32_t n_slots;     /**< in use */
    uint32_t n_processes; /**< attached now */
    uint32_t keeper_slot; /**< 0: nobody */
    int32_t keeper_pid;
    char keeper_service[64];
    uint64_t burials; /**< dead threads cleaned up behind */
    const struct evbus_partition_stat *partitions;
    size_t n_partitions;
    const struct evbus_slot_stat *slots; /**< n_slots of them */
    uint64_t takeovers;                  /**< of all groups that there are; see struct evbus_group_stat */
    uint32_t
        n_retired; /**< slots that nobody can have any more: their threads died in a way that loses a robust mutex */
    uint32_t n_slots_max; /**< that there are; those in use and the retired are of them */
    uint64_t incarnation; /**< its how-manieth life, of a bus that remembers; else 0 */
};

/** A snapshot; the numbers are each right, but not of one moment. Pointers live until the next call on this handle. */
EVBUS_API int evbus_stat(struct evbus *bus, struct evbus_stat *out_stat);

/* One group in one partition. */
struct evbus_group_part_stat {
    size_t size;
    const char *log;
    uint32_t partition;
    uint32_t n_pending;    /**< as in struct evbus_group_stat, and so the others */
    uint64_t lag_events;   /**< see there */
    bool is_lag_estimated; /**< see there */
    uint64_t oldest_ns;
};
/** Why an attempt ended badly, or an event became a dead letter without one. */
enum evbus_cause {
    EVBUS_CAUSE_FAILED = 1,     /**< its handler said so */
    EVBUS_CAUSE_CRASHED = 2,    /**< its process died */
    EVBUS_CAUSE_TIMEOUT = 3,    /**< it took longer than the group's handler_timeout */
    EVBUS_CAUSE_REJECTED = 4,   /**< its handler said that it can never work */
    EVBUS_CAUSE_NO_VERSION = 5, /**< the group accepts none of its versions: no handler had it */
    EVBUS_CAUSE_EXPIRED = 6     /**< its time was over before a handler had it */
};
#define EVBUS_CAUSES 8 /**< places for them; those that no cause has are 0 */

/* One group. */
struct evbus_group_stat {
    size_t size;
    const char *group;
    bool is_ad_hoc;     /**< not of the catalogue */
    bool is_ephemeral;  /**< ends with its last member */
    uint32_t n_members; /**< living */
    uint32_t n_partitions;
    uint64_t lag;       /**< cells that are committed or claimed and not taken, over all its partitions */
    uint32_t n_pending; /**< events that are taken and not finished */
    uint32_t n_running; /**< of those: in a handler */
    uint32_t n_waiting; /**< of those: to be tried again */
    uint32_t n_dead; /**< of those: spent, their dead letters still to be published (the log of dead letters is full) */
    uint32_t attempts_max; /**< of those: the most attempts that one has had */
    uint64_t oldest_ns;    /**< age of the oldest event that is not done, by its timestamp; 0: there is none */
    /** Events acknowledged. Of evbus_run() up to 15 are counted a handler later; a member that is killed leaves them out */
    uint64_t done;
    uint64_t redelivered;      /**< attempts beyond the first */
    uint64_t dead_letters;     /**< published */
    const char *const *topics; /**< that it receives */
    size_t n_topics;
    const struct evbus_slot_stat *members; /**< n_members of them */
    uint64_t takeovers;  /**< partitions taken from members that died, or hung for longer than a handler may take */
    uint64_t held_bytes; /**< of events that are kept, in memory or files, until the group has done them */
    uint64_t absent_ns;  /**< without a living member since; 0: it has one */
    /** Events that it is to receive and has not come to, over all its partitions. What waits behind a held key it has passed: see
     *  n_blocked_keys, oldest_ns */
    uint64_t lag_events;
    /** Some of them were not counted, but taken to be as dense as what was: of a partition, what lies behind 65,536
     *  frames in memory, or 4 MiB in files. */
    bool is_lag_estimated;
    /** Keys whose event failed, and waits to be tried again or for its dead letter: later ones wait behind it. */
    uint32_t n_held_keys;
    uint32_t n_blocked_keys;                   /**< of events in hand, behind which later ones wait already */
    const struct evbus_group_part_stat *parts; /**< its partitions, by log */
    size_t n_parts;
    uint64_t
        attempts_failed[EVBUS_CAUSES]; /**< attempts that ended badly, by enum evbus_cause; of the last two: events */
    uint32_t n_parked; /**< events in hand that are dead letters, behind which their keys wait ("on_dead": "park") */
    const char *const *accepts; /**< versions of payloads, as the catalogue says: "1", "2.0" */
    size_t n_accepts;           /**< 0: it says nothing, and gives the lowest */
    bool
        is_paused; /**< many different events have failed the same way (catalogue: outage): one at a time is tried, uncharged */
    uint32_t n_same_failures; /**< different events that have failed the same way since one was done */
    uint64_t paused_since_ns; /**< wall clock; 0: not paused */
    uint64_t next_probe_ns;   /**< until one is tried next; 0: it is under way */
    char paused_error[256];   /**< what one of them said; UTF-8, on one line */
};

/** Calls each() for every group, by name; a non-zero answer ends it and is returned. What it is shown lives until it returns. */
EVBUS_API int evbus_groups(struct evbus *bus, int (*each)(void *context, const struct evbus_group_stat *group),
                           void *context);

/** All of evbus_stat() and evbus_groups() as a text for Prometheus: its exposition format 0.0.4, with HELP and TYPE of each
 *  metric that there is. For the CLI, and for whoever serves it by HTTP as "text/plain; version=0.0.4". Names stay; newer
 *  versions may have more.
 *
 *  write    gets the whole text, in one call; what it is shown lives until it returns. Its answer is returned
 *  Threads  any, several at once on one handle
 *  Returns  what write() returned; EVBUS_ENOSPC (memory); EVBUS_EINVAL; EVBUS_ESTALE. Since 0.1. */
EVBUS_API int evbus_metrics(struct evbus *bus, int (*write)(void *context, const char *text, size_t len),
                            void *context);

struct evbus_group_options {
    size_t size;
    const char *group;
    const char *const *patterns; /**< its topics */
    size_t n_patterns;
    enum evbus_from from;
    uint64_t from_time_ns;  /**< for EVBUS_FROM_TIME */
    uint64_t from_position; /**< for EVBUS_FROM_POSITION */
};

/** Make an ad hoc group: from now on its logs keep events for it, whether it has members or not. EVBUS_OK; EVBUS_EDUPLICATE;
 *  EVBUS_EINVAL; EVBUS_ENOTFOUND (a pattern fits no topic); EVBUS_ELIMIT (64 groups); EVBUS_EBUSY. */
EVBUS_API int evbus_group_add(struct evbus *bus, const struct evbus_group_options *options);

/** Forget a group and everything it has not handled; its logs are free of it, its members get EVBUS_ENOTFOUND. A group of the
 *  catalogue comes back, empty, when a catalogue that has it is applied. EVBUS_OK; EVBUS_ENOTFOUND; EVBUS_EBUSY. */
EVBUS_API int evbus_group_remove(struct evbus *bus, const char *group);

/** Apply a catalogue while all runs: topics, logs, groups, producers are added; retries and timeouts change. Services see it at
 *  their next call, and no publish waits for it. Either all of it or nothing; after a kill it may be repeated. What a bus cannot
 *  change (partitions, ring, namespace; topics or groups that are gone) is refused by name.
 *
 *  out_changes  may be NULL: how many topics, groups and logs were added
 *  Returns      EVBUS_OK; EVBUS_ECATALOGUE; EVBUS_ENOSPC; EVBUS_ELIMIT; EVBUS_EBUSY (somebody else is at it); EVBUS_ESTALE. */
EVBUS_API int evbus_catalogue_apply(struct evbus *bus, const char *text, size_t len, uint32_t *out_changes);

enum evbus_severity { EVBUS_FINDING_NOTE = 0, EVBUS_FINDING_WARNING = 1, EVBUS_FINDING_PROBLEM = 2 };

struct evbus_finding {
    size_t size;
    enum evbus_severity severity;
    const char *what; /**< one sentence: the thing and what was found */
    const char *mend; /**< one sentence, or "" */
};

/** Examine the bus: dead, stopped and frozen threads and what depends on them, claims that block, full partitions and who fills
 *  them, groups that nobody takes for, dead letters, places that run out, a missing keeper, names that are gone, words, headers and
 *  a catalogue that no evbus wrote. Reads only. Calls each() per finding; EVBUS_OK when nothing worse than a note was
 *  found, else EVBUS_ENOTFOUND. */
EVBUS_API int evbus_doctor(struct evbus *bus, void (*each)(void *context, const struct evbus_finding *finding),
                           void *context);

/* --- dead letters ----------------------------------------------------------------------------------------------------- */

enum evbus_dead_letter_state {
    EVBUS_LETTER_OPEN = 1,        /**< nothing has been done about it since its group gave up */
    EVBUS_LETTER_QUARANTINED = 2, /**< likewise, and it has been replayed 3 times: again only by force */
    EVBUS_LETTER_REPLAYED = 3,
    EVBUS_LETTER_DISCARDED = 4
};

struct evbus_dead_letter_attempt {
    uint32_t n;
    uint64_t at_ns;
    uint64_t ms; /**< how long it took, to a tick of the kernel (10 ms at most); 0 where nobody knows (crashed) */
    const char *member;
    const char *cause;
    const char *error; /**< what its handler said, or "" */
};

/** An event that a group could not handle. */
struct evbus_dead_letter {
    size_t size;
    uint8_t id[16]; /**< deadLetterId: the same each time that this group gives up this event */
    enum evbus_dead_letter_state state;
    const char *group;
    const char *topic; /**< where the event was published; log, partition, position: where it stands */
    const char *log;
    uint32_t partition;
    uint64_t position;
    const char *cause;                                /**< failed, crashed, timeout, rejected, no_version, expired */
    uint64_t at_ns;                                   /**< when the group gave it up, last */
    uint64_t letter_position;                         /**< of the letter in <namespace>.dlq */
    uint32_t n_replays;                               /**< that it has had */
    const struct evbus_dead_letter_attempt *attempts; /**< that are kept, of the last death, the first first */
    size_t n_attempts;
    const struct evbus_delivery *event; /**< as it was published, all its versions byte for byte */
    const char *json;                   /**< the letter's text as it stands in its log; a NUL stands behind it */
    size_t json_len;
    /* The newest resolution, also of a letter that is open again; settled_ns 0: none is known */
    uint64_t settled_ns;
    const char *settled_service; /**< of the handle; "" : nobody's */
    const char *settled_user;
    const char *settled_host;
    int64_t settled_pid;
    const char *settled_reason; /**< "" where none was given */
    const char *skipped;        /**< of a replay or discard: why nothing was done; NULL: it was done, or would be */
    const char *error;          /**< why no handler could get it (no_version); "": its attempts tell */
    /* Of what a bridge could not bring in, as it is no event: where it stands at the broker. Then log is "", partition and position are 0 */
    const char *stream; /**< NULL: it is an event of this bus */
    const char *entry;  /**< what the broker calls it */
};

/** Which letters. Zeroes: all that are open, quarantined ones too. */
struct evbus_dead_letters_filter {
    size_t size;
    const char *group;
    const char *topic; /**< a pattern */
    const char *cause; /**< as it is called in a letter */
    uint64_t from_ns;  /**< given up at or after it */
    uint64_t to_ns;    /**< given up before it; 0: any time */
    const char *key;
    bool has_id;
    uint8_t id[16];    /**< an eventId or a deadLetterId */
    bool with_settled; /**< also those that have been replayed or discarded, as long as they are kept */
    enum evbus_dead_letter_state state; /**< this one alone; 0: any */
};

/** Look at dead letters, in the order in which their events were given up first. Consumes nothing. The log of dead letters is read
 *  once, which takes about 130 bytes of memory for each letter that is kept: 130 MB for a million.
 *
 *  filter   NULL: all that are open
 *  each     gets one after the other; what it is shown lives until it returns. A non-zero answer ends it and is returned
 *  Threads  any
 *  Returns  EVBUS_OK; EVBUS_EINVAL (the filter); EVBUS_EIO; EVBUS_ENOSPC (memory); EVBUS_ESTALE; EVBUS_EFORKED. Since 0.1. */
EVBUS_API int evbus_dead_letters(struct evbus *bus, const struct evbus_dead_letters_filter *filter,
                                 int (*each)(void *context, const struct evbus_dead_letter *letter), void *context);

struct evbus_settle_options {
    size_t size;
    const struct evbus_dead_letters_filter *filter; /**< NULL: all that are open */
    bool dry_run;                                   /**< change nothing, show what would be */
    bool force;                                     /**< replay quarantined ones, too */
    uint64_t max;                                   /**< at most so many; 0: all */
    uint32_t rate;                                  /**< replays a second at most; 0: as fast as there is room */
    uint64_t timeout_ns;         /**< how long a full log of replays may keep us; 0: not at all; UINT64_MAX: for ever */
    const char *reason;          /**< goes on the record; at most 512 bytes of UTF-8. NULL: none */
    bool (*stop)(void *context); /**< may be NULL: asked between two letters and while we wait; true ends it there */
};

/** What a replay or discard has done. */
struct evbus_settle_result {
    size_t size;
    uint64_t n_done;      /**< replayed or discarded; in a dry run: that would be */
    uint64_t n_skipped;   /**< that fit the filter and were left, see `skipped` */
    uint64_t n_completed; /**< replays of a run that was killed, now put on the record */
    bool is_stopped;      /**< by `stop`, or `max` was reached: more may be left */
};

/** Replay dead letters: each goes to the group that gave it up, and to no other, with its eventId, timestamp, key and payloads as they
 *  were. Its handler sees the topic where it was published, attempt 1, `replayed` n; log, partition and position are those of the replay
 *  (in <namespace>.replay). Letters of one key go in the order of their events' positions, and are handled in that order; of events of
 *  that key that are published meanwhile nothing is said. Who did it, when, for which letter goes on the record.
 *
 *  One at a time replays or discards. Killed at any point a run may simply be repeated: what is replayed is not replayed again.
 *  A letter whose event is given up once more is open again; one that has been replayed 3 times only by force. One of a `stream` is skipped.
 *
 *  each     may be NULL: gets each letter when its replay is on the bus, and each that was skipped; a non-zero answer ends it there and is
 *           returned. On disk, and on the record, are all when the call returns
 *  result   out, may be NULL; set whatever is returned
 *  Threads  any; not from a handler of the group
 *  Returns  EVBUS_OK, also where nothing fits; EVBUS_EBUSY (somebody replays or discards: the message says who); EVBUS_EFULL (the log of
 *           replays stayed full); EVBUS_EINVAL; EVBUS_EIO (the disk; repeat it when it works again); EVBUS_ENOSPC (memory);
 *           EVBUS_ESTALE; EVBUS_EFORKED. Since 0.1. */
EVBUS_API int evbus_dead_letters_replay(struct evbus *bus, const struct evbus_settle_options *options,
                                        int (*each)(void *context, const struct evbus_dead_letter *letter),
                                        void *context, struct evbus_settle_result *result);

/** Put on the record that nothing is to be done about dead letters any more. Their text stays until it is old. force and rate say
 *  nothing here. Otherwise as evbus_dead_letters_replay(). Since 0.1. */
EVBUS_API int evbus_dead_letters_discard(struct evbus *bus, const struct evbus_settle_options *options,
                                         int (*each)(void *context, const struct evbus_dead_letter *letter),
                                         void *context, struct evbus_settle_result *result);

/** How a field of a record is meant. */
enum evbus_field_kind {
    EVBUS_FIELD_NONE = 0,     /**< cannot be told */
    EVBUS_FIELD_NUMBER = 1,   /**< number */
    EVBUS_FIELD_POSITION = 2, /**< number; up to 64 bits, so as a string where numbers are doubles */
    EVBUS_FIELD_FLAG = 3,     /**< number: 0 or 1 */
    EVBUS_FIELD_TIME = 4,     /**< number: ns since 1970 */
    EVBUS_FIELD_HEX = 5,      /**< number, to be shown in hexadecimal */
    EVBUS_FIELD_TEXT = 6      /**< text: valid UTF-8, but any character, also control characters */
};

struct evbus_field {
    const char *name;
    enum evbus_field_kind kind;
    uint64_t number;
    const char *text; /**< for EVBUS_FIELD_TEXT, else NULL */
};

/** One thing that stands in a bus. `kind` says what, and so which fields it has, always in the same order; there may be more of
 *  both in newer versions.
 *
 *      bus        who and what, its keeper, who holds its locks
 *      differs    what is not as it should be, in a sentence: `what`
 *      slot       a thread: its service, process, is it alive or dead by its lock word
 *      log        one object, and below it:
 *        topic      its id, and the groups that receive it
 *        sleeper    a thread that reads here, and whether it is asleep
 *        partition  tail, released, counters, and below it:
 *          low        what holds `released` back: a pin, a group
 *          fence      cells that are left out of each lap, and whose they are
 *          word       a claim, frame or pad: position, state, whose, cells; left_out: words that are not shown
 *          frame      (where one is asked for) its header, its key and the front of its payload
 *      group      its kind, and below it:
 *        member     a thread that holds leases
 *        lease      of one partition: cursor, epoch, holder, low, counters, and below it:
 *          pending    an event that was taken and is not finished
 */
struct evbus_record {
    size_t size;
    const char *kind;
    unsigned depth; /**< 0..2, as above */
    const struct evbus_field *fields;
    size_t n_fields;
};

struct evbus_inspect_options {
    size_t size;
    const char *bus; /**< NULL: $EVBUS_BUS, else "lomash" */
    const char *dir; /**< folder with copies of evbus.<bus>.control and evbus.<bus>.<log>; NULL: /dev/shm */
    /* What is shown. Zeroes: everything */
    const char *log;    /**< this log and what groups have in it */
    const char *group;  /**< this group and what it has */
    bool has_partition; /**< `partition` is set */
    uint32_t partition; /**< this partition of each log */
    uint32_t words; /**< how many are shown at either end of a partition, 0: 4; UINT32_MAX: all. Whatever is not a sound
                              committed frame is shown in any case */
    bool has_frame; /**< `frame` is set */
    uint64_t frame; /**< show nothing but the frame at this position */
};

/** Show what stands in a bus, as it stands there: also one that evbus_open() refuses (damaged, half made, removed, of another
 *  build), also from files copied off a dead host, also when they are cut. Opens the files for reading, reads them, and does
 *  nothing else: no slot, no lock, no mapping. Every number is bounded before it is used. While others write, each number is right
 *  but not of one moment.
 *
 *  each     gets one record after the other; what it is shown lives until it returns. A non-zero answer ends it and is returned
 *  Returns  EVBUS_OK, whatever state the bus is in; EVBUS_ENOBUS (no file of such a bus in that folder); EVBUS_ENOTFOUND (no such
 *           log, group, partition, frame); EVBUS_EPERM; EVBUS_EIO; EVBUS_ENOSPC (memory); EVBUS_EINVAL. Since 0.1. */
EVBUS_API int evbus_inspect(const struct evbus_inspect_options *options,
                            int (*each)(void *context, const struct evbus_record *record), void *context);

#ifdef __cplusplus
}
#endif

#endif
