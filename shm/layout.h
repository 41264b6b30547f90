/* layout.h: every byte that two processes share. Types and static_asserts, no code.
 *
 *     /evbus.<bus>.control            /evbus.<bus>.<log>, one per log
 *     +--------------------------+    +----------------------------------------------------------+
 *     | struct control           |    | struct log_head: topics, sleepers, owners of pins        |
 *     |   who and what, retired  |    +----------------------------------------------------------+
 *     |   keeper's seat, numbers |    | partition 0: struct ring_head | words 8 B each | cells 64 |
 *     |   names of the logs      |    | partition 1: ...                                         |
 *     |   slots 1..1023          |    +----------------------------------------------------------+
 *     |   publishers' names      |
 *     |   catalogue text         |
 *     +--------------------------+
 *
 * Each field names its writers. Fields of different writers lie on lines of their own. LAYOUT_FINGERPRINT, a hash of all
 * offsets and limits, stands in every object: builds that differ refuse each other (EVBUS_ELAYOUT).
 *
 *     word = { lap:37, state:2, slot:10, length:15 }, most significant first, one per cell, beside the cells
 *
 * A word governs the frame that starts at its cell in that lap, or, until it is COMMITTED, the run of frames; lap of p is p / capacity + 1,
 * so that a zero word is of no lap. A cell inside a frame keeps the word of an older lap, and that means "not claimed yet" [R12, R13]. Inside
 * a run that was cancelled, or whose writer died, frames may have COMMITTED words, which nobody comes to [R20]. */
#ifndef EVBUS_LAYOUT_H
#define EVBUS_LAYOUT_H

#include <assert.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_VERSION 7 /* counts what offsets cannot show: a field that changes its meaning */

#define CELL_BYTES     64
#define CELL_WORDS     8 /* of 8 bytes */
#define SLOTS_MAX      1023
#define LOGS_MAX       64
#define PARTITIONS_MAX 64
#define TOPICS_MAX     256                     /* in one log */
#define SLEEPERS_MAX   512                     /* in one log: a bit each in one cache line [D3] */
#define PINS_MAX       32                      /* readers that pin, in one log */
#define GROUPS_MAX     64                      /* of one bus */
#define LOWS_MAX       (PINS_MAX + GROUPS_MAX) /* positions that `released` respects, in one partition */
#define MEMBERS_MAX    64                      /* of one group */
static_assert(LOGS_MAX <= 64, "a member's logs are bits of a word");
#define PENDING_MAX     64  /* of one group and partition: taken and not finished */
#define FENCES_MAX      16  /* in one partition */
#define NAME_BYTES      128 /* of a topic or log, with its NUL */
#define SERVICE_BYTES   64  /* of a bus, service or group, with its NUL */
#define PUBLISHERS_MAX  1024
#define CATALOGUE_BYTES 65536
#define FOLDER_BYTES    512 /* a path, with its NUL */

/* The word. */
#define WORD_LEN_BITS   15
#define WORD_SLOT_BITS  10
#define WORD_STATE_BITS 2
#define WORD_LAP_BITS   37
static_assert(WORD_LEN_BITS + WORD_SLOT_BITS + WORD_STATE_BITS + WORD_LAP_BITS == 64, "a word is 64 bits");
static_assert(SLOTS_MAX < 1 << WORD_SLOT_BITS, "slot 0 is nobody");
#define FRAME_CELLS_MAX ((1u << WORD_LEN_BITS) - 1)

/* Positions count cells. 48 bits, never reused; the last 2^30 are refused, so that no addition below overflows them. */
#define POSITION_BITS  48
#define POSITION_LIMIT ((UINT64_C(1) << POSITION_BITS) - (UINT64_C(1) << 30))
#define RING_CELLS_MIN 64                  /* 4 KiB: tests. A catalogue asks for 512 KiB and more. */
#define RING_CELLS_MAX (UINT64_C(1) << 24) /* 1 GiB */
/* The smallest ring of a real catalogue ends its positions before its laps wrap; smaller ones end earlier (ring.c). */
static_assert(POSITION_LIMIT / (512 * 1024 / CELL_BYTES) + 1 < UINT64_C(1) << WORD_LAP_BITS,
              "laps end after positions");

/* A thread's place. The mutex is robust, process-shared, of kind NORMAL [B5], and held for life by its owner. */
struct slot {
    /* its first int is the owner's tid: set by glibc, cleared by glibc or, at the owner's death, by the kernel */
    alignas(64) pthread_mutex_t mutex;
    _Atomic int32_t tid;     /* owner: set once it holds the mutex, cleared when all is clean [B6] */
    _Atomic int32_t pid;     /* owner: in its own PID namespace */
    _Atomic uint64_t pid_ns; /* owner: inode of its PID namespace */
    /* wakers: + 1, then futex wake; the owner sleeps on it */
    alignas(64) _Atomic uint32_t bell;
    /* owner: its claims that were cancelled since its last commit [R10] */
    alignas(64) _Atomic uint32_t cancels_in_row;
    _Atomic uint32_t retired;  /* its undertaker, when the mutex is lost: 1 for ever [B4] */
    _Atomic uint64_t cancels;  /* owner: ever, in this life of the slot */
    _Atomic uint64_t since_ns; /* owner: wall clock at attach */
    _Atomic uint64_t witness;  /* owner, before tid: the number of its process's byte lock [B4] */
    _Atomic uint64_t gone;     /* whoever found that byte free (CAS): the number [GONE] */
    /* owner: before tid */
    alignas(64) char service[SERVICE_BYTES];
};
static_assert(sizeof(pthread_mutex_t) == 40 || sizeof(pthread_mutex_t) == 48, "glibc on x86-64 or arm64");
static_assert(sizeof(struct slot) == 256, "four lines a slot");

/* One thread that may sleep on a log. */
struct sleeper {
    /* its thread: CAS 0 -> slot; back to 0 by it or its burial */
    alignas(64) _Atomic uint32_t slot;
    _Atomic uint32_t sleeps;                  /* its thread: + 1 before it sets its bit */
    _Atomic uint32_t rung;                    /* wakers, after the wake: the sleep that they have ended */
    _Atomic uint64_t topics[TOPICS_MAX / 64]; /* its thread: which topic ids may wake it */
};

/* One publisher's name; a ring by id. id is stored last; a reader looks at it before and after. */
struct publisher {
    _Atomic uint32_t id;
    _Atomic uint32_t unused;
    _Atomic uint64_t service[SERVICE_BYTES / 8];
};

/* A group's member: the thread that holds its leases. */
struct member {
    _Atomic uint32_t owner; /* CAS 0 -> {number:22, slot:10}; back to 0 by it or its burial */
    _Atomic uint32_t unused;
    _Atomic uint64_t logs;        /* its thread, before the group's `changes`: which logs it takes, a bit each */
    _Atomic uint64_t progress_ns; /* its thread: monotonic time of its last round */
};

#define OUTAGE_EVENTS_MAX 16 /* different events that fail the same way */
#define OUTAGE_TEXT_BYTES 256

/* What a group's failures have in common: who writes what in which order says outage.c. A line that is read with each event, and
 * written by failures alone. */
struct outage {
    alignas(64) _Atomic uint64_t streak; /* who fails, is done (CAS): decides whether the group pauses */
    _Atomic uint64_t probe;              /* lease threads (CAS): who tries one event meanwhile */
    _Atomic uint64_t since_ns;           /* who paused it, behind `streak`: wall clock */
    _Atomic uint32_t text_number;        /* likewise, last: of which streak these are */
    alignas(64) _Atomic uint64_t events[OUTAGE_EVENTS_MAX]; /* who fails (CAS) */
    _Atomic uint64_t text[OUTAGE_TEXT_BYTES / 8];           /* as since_ns: a handler's bytes */
};

#define MIRROR_TEXT_BYTES 256 /* with its NUL */

enum { GROUP_FREE = 0, GROUP_MAKING = 1, GROUP_LIVE = 2 };
enum { GROUP_AD_HOC = 1, GROUP_EPHEMERAL = 2, GROUP_MIRROR = 4 };

/* One group of the bus. Its number is its index, in every log. */
struct group_entry {
    alignas(64) _Atomic uint32_t state; /* under `admin`: GROUP_... */
    uint32_t flags;                     /* under `admin`, while GROUP_MAKING */
    _Atomic uint32_t changes;           /* whoever joins, leaves, buries: + 1 */
    _Atomic uint32_t member_numbers;    /* members: + 1; goes on over a place's lives */
    _Atomic uint32_t was_joined;        /* its first member: 1 */
    _Atomic uint64_t seen_ns;           /* its maker, then the keeper: wall clock when it had a living member last */
    uint32_t dlq_topic;                 /* as flags: id of its topic in the log of dead letters */
    uint32_t replay_topic;              /* as flags: id of its topic in the log of replays */
    _Atomic uint32_t leader;   /* of a mirror: who leads it (CAS, HOLD_WORD); goes on over a place's lives [FENCE] */
    _Atomic uint32_t progress; /* its leader: + 1 with each round */
    _Atomic uint32_t paused;   /* operators: 1: nothing goes out or in */
    char name[SERVICE_BYTES];  /* as flags */
    _Atomic uint64_t told[MIRROR_TEXT_BYTES / 8]; /* its leader: how it is, for people */
    struct outage outage;
    struct member members[MEMBERS_MAX];
};

/* Taken and not finished: what the word has no room for. Written by the lease's holder; never trusted after a takeover [P3]. */
struct pending_side {
    _Atomic uint64_t key;     /* hash of its event's: for who cannot read that any more, to find what waits behind it */
    _Atomic uint64_t time_ns; /* monotonic; WAIT: not before. RUN, SOLO: since */
    _Atomic uint64_t note;    /* {position of its last NOTE + 1:48, cause:8, is deferred:1, is solo:1} */
};

/* One group's state in one partition. Every store to cursor, seek, start and pending is a CAS that carries the lease's epoch [P3]. */
struct group_part {
    /* holder: {position:48, epoch:16}: everything before it has been taken, skipped, or is another group's */
    alignas(64) _Atomic uint64_t cursor;
    _Atomic uint64_t lease;                         /* {epoch:16, slot:10}: members (CAS), burial */
    _Atomic uint64_t n_done, n_redelivered, n_dead; /* counters */
    _Atomic uint64_t n_takeovers;                   /* likewise: leases that were taken, not given */
    /* who seeks, with the lease: {position + 1:48, epoch:16}: where the cursor is to go before all else; 0: it stays [P12] */
    _Atomic uint64_t seek;
    _Atomic uint64_t start; /* as cursor: where the group began here, or was moved to last */
    /* {position:40, epoch:16, attempts:4, state:3, followers:1} */
    alignas(64) _Atomic uint64_t pending[PENDING_MAX];
    struct pending_side side[PENDING_MAX];
    _Atomic uint64_t taker[SERVICE_BYTES / 8]; /* who takes the lease: its service, for whoever finds it dead */
    /* whoever ends one, behind its word: attempts that ended badly, and events that no handler got, by enum pending_cause */
    alignas(64) _Atomic uint64_t n_causes[8];
};
#define LEASE_SLOT(word)        ((uint32_t)((word)&0x3ff))
#define LEASE_EPOCH(word)       ((uint16_t)((word) >> 10))
#define LEASE_WORD(epoch, slot) ((uint64_t)(uint16_t)(epoch) << 10 | (slot))
static_assert(sizeof(struct group_part) == 192 + PENDING_MAX * 32, "a group and partition: 2240 bytes");
static_assert(offsetof(struct group_part, seek) == 48, "the holder's words lie on one line");
static_assert(offsetof(struct group_part, pending) == 64, "and the entries behind it");

/* What one thread at a time holds: {number:22, slot:10}; slot 0: nobody. */
#define HOLD_SLOT(word)         ((word) & ((1u << WORD_SLOT_BITS) - 1))
#define HOLD_NUMBER(word)       ((uint32_t)(word) >> WORD_SLOT_BITS)
#define HOLD_WORD(number, slot) ((uint32_t)(number) << WORD_SLOT_BITS | (slot))

struct control {
    /* written once, before `ready` */
    uint64_t magic;
    uint64_t fingerprint;
    uint8_t uuid[16];
    uint64_t created_ns;
    uint64_t bytes;       /* of this object */
    uint64_t incarnation; /* of a bus that remembers: its how-manieth life; 0: no log of it has a journal */
    char bus[SERVICE_BYTES];
    /* read by every publish, written hardly ever; ready: evbus_init, last */
    alignas(64) _Atomic uint32_t ready;
    _Atomic uint32_t retired;    /* evbus_remove; the keeper when the name is gone [R16] */
    _Atomic uint32_t generation; /* of the catalogue: whoever applies one */
    _Atomic uint32_t n_logs;     /* likewise; logs are only ever added */
    /* the keeper's thread has it: HOLD_WORD (CAS), see hold.c [B9] */
    alignas(64) _Atomic uint32_t seat;
    _Atomic uint32_t progress; /* the keeper: + 1 with each look: who waits sees whether it is stopped [J4] */
    /* likewise, whoever makes or removes a group, or applies a catalogue */
    alignas(64) _Atomic uint32_t admin;
    _Atomic uint32_t settler; /* likewise, whoever replays or discards dead letters [P13] */
    /* openers: + 1; the last id that was given */
    alignas(64) _Atomic uint32_t publishers;
    _Atomic uint64_t burials;   /* undertakers: + 1 */
    _Atomic uint64_t witnesses; /* whoever attaches: + 1; the last number that was given [B4] */
    _Atomic uint32_t slots_end; /* who tries to take a slot, before (CAS): behind all that anybody may have had */
    /* evbus_init, before n_logs */
    alignas(64) char logs[LOGS_MAX][NAME_BYTES];
    char folder[FOLDER_BYTES];        /* likewise: where a bus with an incarnation remembers */
    struct slot slots[SLOTS_MAX + 1]; /* slots[0] is nobody's */
    struct publisher publisher_names[PUBLISHERS_MAX];
    struct group_entry groups[GROUPS_MAX];
    /* whoever applies one, before generation: its last bit says which text is the catalogue, the other is written. Readers
     * copy it and look at the generation again */
    alignas(64) _Atomic uint32_t catalogue_len[2];
    char catalogue[2][CATALOGUE_BYTES];
};

struct log_head {
    /* written once, before the control object is ready */
    uint64_t magic;
    uint64_t fingerprint;
    uint8_t uuid[16]; /* of the bus */
    uint64_t bytes;   /* of this object */
    uint64_t n_cells; /* of each ring: a power of two */
    uint32_t n_partitions;
    uint8_t has_journal;
    uint8_t is_visible_synced; /* readers see what is on disk, not before [J6] */
    uint8_t ack;               /* enum evbus_ack: what a publish waits for, at least */
    char name[NAME_BYTES];
    /* whoever applies a catalogue: how long files of the journal are kept, ns, and how many bytes of them in all; 0: any */
    alignas(64) _Atomic uint64_t retention_ns;
    _Atomic uint64_t retention_bytes;
    /* whoever applies a catalogue; topic ids are 1..n_topics, id i stands at i - 1, before n_topics */
    alignas(64) _Atomic uint32_t n_topics;
    char topics[TOPICS_MAX][NAME_BYTES];
    /* each bit by its sleeper or its burial [D4] */
    alignas(64) _Atomic uint64_t sleeping[SLEEPERS_MAX / 64];
    struct sleeper sleepers[SLEEPERS_MAX];
    /* pinning threads: CAS 0 -> {number:22, slot:10}; back to 0 by them or their burial */
    alignas(64) _Atomic uint32_t pin_owners[PINS_MAX];
    _Atomic uint32_t pin_numbers; /* likewise: + 1, so that a pin taken again is another one */
    /* topic ids that a group receives: whoever makes it, before it is live; none: it does not read this log */
    alignas(64) _Atomic uint64_t group_topics[GROUPS_MAX][TOPICS_MAX / 64];
};
static_assert(SLEEPERS_MAX / 8 == 64, "one cache line of bits");

#define PIN_SLOT(owner)         ((owner) & ((1u << WORD_SLOT_BITS) - 1))
#define PIN_OWNER(number, slot) ((uint32_t)(number) << WORD_SLOT_BITS | (slot))

/* {position:48, generation:16} [R8] */
#define RELEASED_POSITION(word)        ((word) >> 16)
#define RELEASED_GENERATION(word)      ((uint16_t)(word))
#define RELEASED(position, generation) ((uint64_t)(position) << 16 | (uint16_t)(generation))

/* {position:48, term:16}: the keeper's, of that term; it moves forward only */
#define TERM_POSITION(word)         ((word) >> 16)
#define TERM_NUMBER(word)           ((uint16_t)(word))
#define TERM_WORD(position, number) ((uint64_t)(position) << 16 | (uint16_t)(number))

/* {tag:16, position + 1:48}; a group's tag is its lease's epoch, so that a fenced holder's late store fails */
#define LOW_WORD(tag, position) ((uint64_t)(uint16_t)(tag) << POSITION_BITS | ((position) + 1))
#define LOW_TAG(word)           ((uint16_t)((word) >> POSITION_BITS))
#define LOW_BEHIND(word)        ((word) & ((UINT64_C(1) << POSITION_BITS) - 1)) /* position + 1; 0: none */

/* {cell:24, length:15, slot:10, nonce:15}: no two entries are alike, so that whoever drops one drops no later one. 0: none */
#define FENCE_NONCE_BITS 15
#define FENCE_ENTRY(cell, n_cells, slot, nonce)                                                          \
    ((uint64_t)(cell) << (WORD_LEN_BITS + WORD_SLOT_BITS + FENCE_NONCE_BITS) |                           \
     (uint64_t)(n_cells) << (WORD_SLOT_BITS + FENCE_NONCE_BITS) | (uint64_t)(slot) << FENCE_NONCE_BITS | \
     ((uint64_t)(nonce) & ((1u << FENCE_NONCE_BITS) - 1)))
#define FENCE_CELL(entry)  ((entry) >> (WORD_LEN_BITS + WORD_SLOT_BITS + FENCE_NONCE_BITS))
#define FENCE_CELLS(entry) ((uint32_t)((entry) >> (WORD_SLOT_BITS + FENCE_NONCE_BITS)) & FRAME_CELLS_MAX)
#define FENCE_SLOT(entry)  ((uint32_t)((entry) >> FENCE_NONCE_BITS) & ((1u << WORD_SLOT_BITS) - 1))
static_assert(RING_CELLS_MAX <= UINT64_C(1) << (64 - WORD_LEN_BITS - WORD_SLOT_BITS - FENCE_NONCE_BITS),
              "24 bits a cell");

struct ring_head {
    /* all producers (CAS): cells claimed so far [TAIL] */
    alignas(64) _Atomic uint64_t tail;
    /* who needs room, and the keeper (CAS): what lies below may be overwritten [GATE] */
    alignas(64) _Atomic uint64_t released;
    uint64_t salt;           /* written once: what makes this ring's stamps its own [R19] */
    _Atomic uint32_t fenced; /* who fences: 1 before the first entry; claims look at `fences` from then on */
    /* futex; whoever moves `released`: + 1 where somebody waits [R7] */
    alignas(64) _Atomic uint32_t space;
    _Atomic uint32_t space_wanted; /* producers in a full ring: 1, again each round; whoever moves `released`: 0 */
    _Atomic uint64_t release_turn; /* producers: which step of `released` somebody is working on */
    /* counters, see struct evbus_partition_stat */
    alignas(64) _Atomic uint64_t full;
    _Atomic uint64_t cancels;
    _Atomic uint64_t buried;
    _Atomic uint64_t fences_ever; /* who fences: + 1 */
    _Atomic uint64_t fence_nonce; /* likewise, before each try */
    /* cells that are left out of each lap: FENCE_ENTRY. Who needs room (CAS), the writer they belong to, its burial [R5] */
    alignas(64) _Atomic uint64_t fences[FENCES_MAX];
    /* least position that somebody needs: LOW_WORD. Of readers that pin (owner of the log's pin), then of groups (maker,
     * then the lease's holder) [PIN] */
    alignas(64) _Atomic uint64_t lows[LOWS_MAX];
    /* Of a log with a journal. The keeper (CAS, TERM_WORD): what lies below stands in files; is on disk; may be in use [J1] */
    alignas(64) _Atomic uint64_t journaled;
    _Atomic uint64_t synced;
    _Atomic uint64_t ceiling;
    _Atomic uint64_t
        oldest;     /* RELEASED: the keeper, when it retires a segment: what lies below is not there any more [P11] */
    uint64_t start; /* written once: where this life of the bus begins */
    uint64_t prev_end;      /* likewise: where the cells of the one before end; start, where there was none */
    _Atomic uint64_t syncs; /* the keeper: + 1 with each that went well */
    _Atomic uint64_t
        hurried;           /* who publishes: `journaled` + 1 as it was when the keeper was rung last for being behind */
    _Atomic uint32_t sync; /* futex; the keeper, when `synced` has moved: + 1 */
    _Atomic uint32_t sync_wanted;  /* who waits for it: 1, again each round; the keeper: 0 */
    _Atomic uint32_t write_failed; /* the keeper: the code of its last write or sync, positive; 0: it went well */
    _Atomic uint64_t
        not_synced; /* the keeper, before `synced`: what was lost by a failed sync lies below. 0: nothing */
    /* leaders of mirrors (CAS, forward): what lies below is at a broker; then futex, + 1, where somebody waits */
    alignas(64) _Atomic uint64_t mirrored;
    _Atomic uint32_t mirror;
    _Atomic uint32_t mirror_wanted; /* who waits for it: 1, again each round; a leader: 0 */
};
static_assert(offsetof(struct ring_head, released) == 64, "the gate's line is not the producers' line");
static_assert(offsetof(struct ring_head, lows) == 384, "readers' lows lie apart");

/* A frame's first cell. Section 1 of the format; the same bytes stand in the journal. Little-endian. */
struct frame_header {
    uint64_t stamp; /* PRE(position), then STAMP(position): see ring.c. In files: "evbusfrm" */
    uint8_t format; /* FRAME_FORMAT */
    uint8_t kind;   /* enum frame_kind */
    uint16_t flags;
    uint16_t n_cells;
    uint16_t area_len; /* header area, bytes */
    uint64_t position;
    uint8_t id[16];
    uint64_t timestamp_ns; /* CLOCK_REALTIME */
    uint32_t publisher;
    uint16_t topic; /* id in its log */
    uint8_t key_len;
    uint8_t n_representations;
    uint32_t key_hash; /* low half of XXH3-64; the high half chose the partition */
    uint32_t crc32c;   /* 0 in the ring */
};
static_assert(offsetof(struct frame_header, format) == 8, "format 1");
static_assert(offsetof(struct frame_header, kind) == 9, "format 1");
static_assert(offsetof(struct frame_header, flags) == 10, "format 1");
static_assert(offsetof(struct frame_header, n_cells) == 12, "format 1");
static_assert(offsetof(struct frame_header, area_len) == 14, "format 1");
static_assert(offsetof(struct frame_header, position) == 16, "format 1");
static_assert(offsetof(struct frame_header, id) == 24, "format 1");
static_assert(offsetof(struct frame_header, timestamp_ns) == 40, "format 1");
static_assert(offsetof(struct frame_header, publisher) == 48, "format 1");
static_assert(offsetof(struct frame_header, topic) == 52, "format 1");
static_assert(offsetof(struct frame_header, key_len) == 54, "format 1");
static_assert(offsetof(struct frame_header, n_representations) == 55, "format 1");
static_assert(offsetof(struct frame_header, key_hash) == 56, "format 1");
static_assert(offsetof(struct frame_header, crc32c) == 60, "format 1");
static_assert(sizeof(struct frame_header) == CELL_BYTES, "format 1");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are little-endian");

struct representation_header {
    uint16_t major;
    uint16_t minor;
    uint32_t len; /* bytes that follow, then up to 7 of padding */
};
static_assert(sizeof(struct representation_header) == 8, "format 1");

#define CONTROL_MAGIC UINT64_C(0x6c72746373756265) /* "ebusctrl" */
#define LOG_MAGIC     UINT64_C(0x21676f6c73756265) /* "ebuslog!" */

#define LAYOUT_MIX(hash, value)       (((hash) ^ (uint64_t)(value)) * UINT64_C(0x100000001b3))
#define LAYOUT_MIX4(hash, a, b, c, d) LAYOUT_MIX(LAYOUT_MIX(LAYOUT_MIX(LAYOUT_MIX(hash, a), b), c), d)
#define LAYOUT_LIMITS                                                                                       \
    LAYOUT_MIX4(LAYOUT_MIX4(UINT64_C(0xcbf29ce484222325), LAYOUT_VERSION, SLOTS_MAX, LOGS_MAX, TOPICS_MAX), \
                SLEEPERS_MAX, PINS_MAX, sizeof(struct slot), sizeof(struct sleeper))
#define LAYOUT_CONTROL                                                                              \
    LAYOUT_MIX4(LAYOUT_MIX4(LAYOUT_LIMITS, sizeof(struct control), offsetof(struct control, ready), \
                            offsetof(struct control, seat), offsetof(struct control, logs)),        \
                offsetof(struct control, slots), offsetof(struct control, publisher_names),         \
                offsetof(struct control, catalogue), offsetof(struct slot, bell))
#define LAYOUT_FINGERPRINT                                                                                \
    LAYOUT_MIX4(LAYOUT_MIX4(LAYOUT_CONTROL, sizeof(struct log_head), offsetof(struct log_head, sleeping), \
                            offsetof(struct log_head, pin_owners), sizeof(struct ring_head)),             \
                offsetof(struct ring_head, space), offsetof(struct ring_head, fences),                    \
                offsetof(struct ring_head, lows) + sizeof(struct group_part), offsetof(struct ring_head, journaled))

#endif
