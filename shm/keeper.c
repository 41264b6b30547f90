/* keeper.c: one thread of one attached process at a time keeps the bus.
 *
 *   who      whoever has the seat: seat.c
 *   does     a look every 10 ms while something was published in the last second:
 *              dead slots: bury, once a ms at most [B10]     claims that block: PAD the dead's, cancel after their patience [R4]
 *              processes: ask the second witness, every 250 ms; bury the lost, retire their slots [B2, B3, B4]
 *              sleepers that slept through two looks although something came: ring [D5]     room: release [R6, R7]
 *              the journal: append, sync, ceilings (writer.c); rung by who waits for the disk, or when it is behind; indexes when
 *              nothing was to be appended for a look's time, or four times a second (indexer.c); behind a sync that woke one alone it
 *              stays awake for its next event
 *            else it joins the sleepers of every log, for all topics, and sleeps on its bell, on the lock words of the others
 *            (a death wakes it) and on its stop word
 *   nobody   depends on it for more than speed: readers cancel and bury what blocks them, producers release what they
 *            need, sleeps end by themselves. But with a journal, producers need what it writes: a keeper that is stopped loses the
 *            seat [J4]
 *
 * D5, exactly: a sleeper is rung when its bit was set in the same sleep at the last look, and something that it wants has
 * become readable since then. It had looked before that, so it cannot have seen it. Who has just fallen asleep is judged at
 * the next look; so nobody is woken for what he has read already [keeps WOKEN].
 * Checked by tests/unit/test_keeper.c and tests/crash/. */
#include "keeper.h"

#include "burial.h"
#include "clock.h"
#include "cursor.h"
#include "futex.h"
#include "group.h"
#include "hold.h"
#include "indexer.h"
#include "retention.h"
#include "retire.h"
#include "saved.h"
#include "seat.h"
#include "slot.h"
#include "writer.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define LOOK_NS (10 * CLOCK_NS_PER_MS)
#define BUSY_NS CLOCK_NS_PER_S          /* without an event for so long the bus is idle */
#define IDLE_NS (250 * CLOCK_NS_PER_MS) /* the longest sleep */
#define BURY_NS CLOCK_NS_PER_MS         /* between two walks through the slots, where looks come faster */
#define INDEX_NS \
    (250 * CLOCK_NS_PER_MS) /* a piece of an index is made so often though there is always something to append */
#define SPIN_NS (20 * CLOCK_NS_PER_US)  /* at most, behind a sync; a wake is 4 to 8 us */
#define ASK_NS  (250 * CLOCK_NS_PER_MS) /* between two rounds of the second witness */
#define SEAT_NS (500 * CLOCK_NS_PER_MS) /* the longest sleep of a candidate */

#define GOOD_TERM_NS  (60 * CLOCK_NS_PER_S)  /* after so long in the seat it is as at first again */
#define SAVE_NS       CLOCK_NS_PER_S         /* between two looks at what the groups have done */
#define SAVE_AGAIN_NS (50 * CLOCK_NS_PER_MS) /* where a claim stood in the way of what must be on disk first */
#define RETAIN_NS     (5 * CLOCK_NS_PER_S)   /* between two looks at old files */
#define JOURNAL_NS    CLOCK_NS_PER_S         /* until a term is tried again that could not begin */

/* What the keeper knows of one log from its last look. */
struct kept_log {
    struct cursor *cursors;               /* one per partition; they follow the words, pin nothing */
    uint64_t sleeping[SLEEPERS_MAX / 64]; /* the bits */
    uint32_t sleeps[SLEEPERS_MAX];        /* of each place whose bit was set; of others nothing */
    uint32_t place;                       /* ours among the sleepers */
};

struct keeper {
    struct memory *memory;
    struct log *log;
    char service[SERVICE_BYTES];
    uint64_t spin_ns;
    pthread_t thread;
    _Atomic uint32_t stop; /* private futex */
    struct seat seat;
    struct kept_log *kept; /* LOGS_MAX places */
    bool has_told_retired;
    uint32_t n_logs;       /* that we keep: logs are added while all runs */
    uint64_t bury_ns;      /* when the dead are looked for next */
    uint64_t ask_ns;       /* when the second witness is asked next */
    bool is_late;          /* a later term keeps the files, though the seat is ours */
    struct writer *writer; /* NULL: the bus has no journal, or its folder fails */
    struct indexer indexer;
    uint64_t wrote_ns;   /* when something was appended or synced last */
    uint64_t indexed_ns; /* when a piece of an index was made last */
    bool has_told_writer;
    char *saved;      /* the groups' states as they are on disk; NULL: not of this term */
    uint64_t digest;  /* of those; read before them */
    uint32_t n_saved; /* how often, in this term */
    bool has_told_saving;
};

static bool is_stopped(const struct keeper *keeper)
{
    return atomic_load_explicit(&keeper->stop, memory_order_acquire) != 0;
}

/* A bus that remembers and was retired may come back from its folder: nobody writes there for the old one any more. */
static bool has_lost_bus(const struct keeper *keeper)
{
    return memory_remembers(keeper->memory) && memory_is_retired(keeper->memory);
}

/* --- one look ---------------------------------------------------------------------------------------------------- */

/* Follows one partition's words to the first that is not done. Adds the topics that became readable. */
static bool follow(struct keeper *keeper, struct cursor *cursor, bool want_topics, struct topic_set *topics)
{
    struct ring *ring = cursor->ring;
    uint64_t start = cursor_pos(cursor);
    uint64_t pos = start;
    for (;;) {
        uint64_t word;
        enum ring_seen seen = ring_look(ring, pos, &word);
        if (seen == RING_OVERTAKEN) {
            pos = ring_released(ring);
            if (pos > ring_tail(ring))
                break;       /* damaged: readers and producers tell */
            if (want_topics) /* which topics were there cannot be told any more: ring for all */
                memset(topics, 0xff, sizeof *topics);
        } else if (seen == RING_COMMITTED) {
            struct frame_header header;
            if (want_topics && ring_copy_header(ring, pos, &header) == RING_COMMITTED && header.topic >= 1)
                topic_set_add(topics, header.topic);
            pos += word_cells(word);
        } else if (seen == RING_SKIP) {
            pos += word_cells(word);
        } else if (seen == RING_CLAIMED) {
            uint64_t wait_ns = UINT64_MAX;
            enum ring_cleared cleared = ring_clear_claim(ring, pos, word, &cursor->blocked, &wait_ns);
            if (cleared == RING_BLOCKED)
                break;
            if (cleared == RING_CANCELLED)
                log_line(keeper->log, LOG_CANCEL, EVBUS_LOG_WARNING, "log=%s partition=%u position=%" PRIu64 " slot=%u",
                         ring->name, ring->partition, pos, word_slot(word));
        } else if (seen == RING_CORRUPT) {
            log_line(keeper->log, LOG_CORRUPT, EVBUS_LOG_ERROR, "log=%s partition=%u position=%" PRIu64, ring->name,
                     ring->partition, pos);
            uint64_t next = ring_resync(ring, pos);
            if (next <= pos)
                break;
            pos = next;
        } else {
            break;
        }
    }
    atomic_store_explicit(&cursor->pos, pos, memory_order_relaxed);
    return pos != start;
}

/* Rings the log's sleepers that slept through the last look and this one although one of these topics came [D5]. */
static void ring_overslept(struct keeper *keeper, struct log_head *head, struct kept_log *kept,
                           const struct topic_set *topics)
{
    for (uint32_t w = 0; w < SLEEPERS_MAX / 64; w++) {
        uint64_t before = kept->sleeping[w];
        kept->sleeping[w] = atomic_load_explicit(&head->sleeping[w], memory_order_acquire);
        for (uint64_t bits = kept->sleeping[w]; bits != 0; bits &= bits - 1) {
            uint32_t bit = (uint32_t)__builtin_ctzll(bits);
            uint32_t place = w * 64 + bit;
            struct sleeper *sleeper = &head->sleepers[place];
            uint32_t sleeps = atomic_load_explicit(&sleeper->sleeps, memory_order_relaxed);
            uint32_t slot = atomic_load_explicit(&sleeper->slot, memory_order_relaxed);
            bool slept_through = (before >> bit & 1) != 0 && kept->sleeps[place] == sleeps;
            bool wants = false;
            for (int i = 0; i < DOORBELL_TOPIC_WORDS; i++)
                wants = wants ||
                        (atomic_load_explicit(&sleeper->topics[i], memory_order_relaxed) & topics->bits[i]) != 0;
            if (slept_through && wants && slot >= 1 && slot <= SLOTS_MAX && slot != keeper->seat.slot)
                doorbell_ring_slot(&keeper->memory->control->slots[slot]);
            kept->sleeps[place] = sleeps;
        }
    }
}

/* The journal: its term begins, or goes on. false: somebody else keeps. */
static bool look_after_journal(struct keeper *keeper, uint64_t now, bool *inout_is_busy, uint64_t *out_due_ns)
{
    struct error err = {""};
    if (!memory_remembers(keeper->memory))
        return true;
    if (keeper->writer == NULL) {
        int rc = writer_open(&keeper->writer, keeper->memory, keeper->log, HOLD_NUMBER(keeper->seat.word), &err);
        if (rc == EVBUS_EFENCED)
            return false;
        if (rc != EVBUS_OK) {
            keeper->seat.stand_ns = now + JOURNAL_NS; /* somebody else may be able to */
            if (!keeper->has_told_writer)
                log_line(keeper->log, LOG_JOURNAL, EVBUS_LOG_ERROR, "state=none reason=\"%s\"", err.text);
            keeper->has_told_writer = true;
            return false;
        }
        keeper->has_told_writer = false;
    }
    enum writer_did did = writer_look(keeper->writer, now, out_due_ns);
    *inout_is_busy = *inout_is_busy || did == WRITER_WROTE;
    if (did == WRITER_WROTE)
        keeper->wrote_ns = now;
    else if (did == WRITER_IDLE && (now - keeper->wrote_ns >= LOOK_NS || now - keeper->indexed_ns >= INDEX_NS)) {
        indexer_look(&keeper->indexer, keeper->memory);
        keeper->indexed_ns = now;
    }
    return did != WRITER_DEPOSED;
}

/* A walk through the slots: not with each of the looks that publishers ring for, which may be thousands a second. */
static void bury(struct keeper *keeper, uint64_t now, uint64_t *out_due_ns)
{
    if (now < keeper->bury_ns) {
        if (keeper->bury_ns < *out_due_ns)
            *out_due_ns = keeper->bury_ns; /* a death may be what has woken us */
        return;
    }
    keeper->bury_ns = now + BURY_NS;
    if (now >= keeper->ask_ns) {
        keeper->ask_ns = now + ASK_NS;
        burial_ask_all(keeper->memory);
    }
    unsigned n_buried = burial_sweep(keeper->memory) + burial_bury_gone(keeper->memory);
    if (n_buried == 0)
        return;
    log_line(keeper->log, LOG_BURIAL, EVBUS_LOG_INFO, "threads=%u", n_buried);
    *out_due_ns = now; /* what stood behind their claims can be appended */
}

/* true: something was published since the last look. */
static bool look(struct keeper *keeper, uint64_t *out_due_ns)
{
    struct memory *memory = keeper->memory;
    bool is_busy = false;
    uint64_t now = clock_mono_ns();
    atomic_fetch_add_explicit(&memory->control->progress, 1, memory_order_relaxed);
    bool goes_on = look_after_journal(keeper, now, &is_busy, out_due_ns); /* first: somebody may wait for the disk */
    bury(keeper, now, out_due_ns);
    if (!goes_on) {
        keeper->is_late = true;
        return true;
    }
    for (uint32_t i = 0; i < keeper->n_logs; i++) {
        struct memory_log *log = &memory->logs[i];
        struct topic_set topics = {{0}};
        bool has_sleepers = false;
        for (int w = 0; w < SLEEPERS_MAX / 64; w++)
            has_sleepers = has_sleepers || atomic_load_explicit(&log->head->sleeping[w], memory_order_relaxed) != 0;
        for (uint32_t p = 0; p < log->n_partitions; p++) {
            struct ring *ring = &log->rings[p];
            is_busy = follow(keeper, &keeper->kept[i].cursors[p], has_sleepers, &topics) || is_busy;
            ring_make_room(ring, ring_tail(ring));
            if (atomic_load_explicit(&ring->head->space_wanted, memory_order_relaxed) != 0)
                ring_release(ring, ring->capacity / 8);
        }
        ring_overslept(keeper, log->head, &keeper->kept[i], &topics);
    }
    return is_busy;
}

/* --- sleeping ---------------------------------------------------------------------------------------------------- */

/* Lock words of the others, one thread per process first in line; a death ends the sleep. */
static size_t watch_others(struct keeper *keeper, struct futex_watch *watches, size_t max)
{
    size_t n = 0;
    struct slot *slots = keeper->memory->control->slots;
    for (uint32_t i = 1; i < slots_end(keeper->memory->control) && n < max; i++) {
        if (i == keeper->seat.slot || !slot_is_used(&slots[i]))
            continue;
        n += slot_watch_death(&slots[i], &watches[n]);
    }
    return n;
}

/* bell: as it was before the last look. due_ns: when we must look again. */
static void sleep_until_something(struct keeper *keeper, bool is_idle, uint32_t bell, uint64_t due_ns)
{
    struct memory *memory = keeper->memory;
    struct slot *self = &memory->control->slots[keeper->seat.slot];
    struct futex_watch watches[FUTEX_WATCHES_MAX];
    bool found = false;
    if (is_idle) {
        for (uint32_t i = 0; i < keeper->n_logs; i++)
            doorbell_set(memory->logs[i].head, keeper->kept[i].place);
        atomic_thread_fence(memory_order_seq_cst); /* edge DOORBELL, to: the keeper that sleeps */
        for (uint32_t i = 0; i < keeper->n_logs && !found; i++)
            for (uint32_t p = 0; p < memory->logs[i].n_partitions && !found; p++)
                found = cursor_is_ready(&keeper->kept[i].cursors[p]);
    }
    size_t n = watch_others(keeper, watches, FUTEX_WATCHES_MAX - 2);
    watches[n++] = (struct futex_watch){&keeper->stop, 0};
    watches[n++] = (struct futex_watch){&self->bell, bell};
    futex_wait_any(watches, n, clock_left(due_ns, clock_mono_ns(), is_idle && !found ? IDLE_NS : LOOK_NS));
    for (uint32_t i = 0; is_idle && i < keeper->n_logs; i++)
        doorbell_clear(memory->logs[i].head, keeper->kept[i].place);
}

/* Who waited for the disk alone, and has just been woken, may publish the next event at once: so we need no wake for it. Several would
 * lose by it: what is rung for first would be synced without what the others are about to publish. true: our bell was rung. */
static bool is_rung_soon(const struct keeper *keeper, uint32_t bell)
{
    const struct slot *self = &keeper->memory->control->slots[keeper->seat.slot];
    if (keeper->writer == NULL || writer_n_woken(keeper->writer) != 1)
        return false;
    uint64_t until = clock_deadline(clock_real_ns(), keeper->spin_ns);
    while (doorbell_read(self) == bell && !is_stopped(keeper) && clock_real_ns() < until)
        clock_relax();
    return doorbell_read(self) != bell;
}

/* One more log: a place among its sleepers, and a cursor per partition. */
static int keep_log(struct keeper *keeper, struct memory_log *log, struct error *err)
{
    struct kept_log *kept = &keeper->kept[log->index];
    struct topic_set all;
    memset(&all, 0xff, sizeof all);
    if (kept->cursors == NULL && (kept->cursors = calloc(log->n_partitions, sizeof *kept->cursors)) == NULL)
        return error_no_memory(err, "the keeper");
    int rc = doorbell_join(log->head, keeper->seat.slot, &kept->place, err);
    if (rc != EVBUS_OK)
        return rc;
    doorbell_want(log->head, kept->place, &all);
    for (uint32_t p = 0; p < log->n_partitions; p++) {
        kept->cursors[p] = (struct cursor){.ring = &log->rings[p], .pin = CURSOR_NO_PIN};
        atomic_store_explicit(&kept->cursors[p].pos, ring_released(&log->rings[p]), memory_order_relaxed);
    }
    return EVBUS_OK;
}

static int keep_logs(struct keeper *keeper, struct error *err)
{
    int rc = memory_map_new_logs(keeper->memory, err);
    while (rc == EVBUS_OK && keeper->n_logs < memory_n_logs(keeper->memory))
        if ((rc = keep_log(keeper, &keeper->memory->logs[keeper->n_logs], err)) == EVBUS_OK)
            keeper->n_logs++;
    return rc;
}

static void leave_logs(struct keeper *keeper)
{
    while (keeper->n_logs > 0) {
        keeper->n_logs--;
        doorbell_leave(keeper->memory->logs[keeper->n_logs].head, keeper->kept[keeper->n_logs].place);
    }
}

/* An ephemeral group whose last member was killed: let go of what it holds. */
static void end_orphans(struct keeper *keeper)
{
    struct memory *memory = keeper->memory;
    for (uint32_t g = 0; g < GROUPS_MAX; g++) {
        if (!group_is_orphan(memory, g) || group_lock(memory, keeper->seat.slot, false, NULL) != EVBUS_OK)
            continue;
        if (group_is_orphan(memory, g))
            group_remove(memory, g, NULL);
        group_unlock(memory, keeper->seat.slot);
    }
}

/* When a group had a member last, for who is told how long it has been absent. */
static void see_groups(const struct memory *memory)
{
    uint64_t now_ns = clock_wall_ns();
    for (uint32_t g = 0; g < GROUPS_MAX; g++) {
        uint32_t slots[MEMBERS_MAX];
        if (group_is_live(memory, g) && group_members(memory, g, slots) > 0)
            atomic_store_explicit(&memory->control->groups[g].seen_ns, now_ns, memory_order_relaxed);
    }
}

/* Old files go. */
static void retain(struct keeper *keeper, uint64_t now, uint64_t *next_ns)
{
    struct error err = {""};
    struct memory *memory = keeper->memory;
    if (now < *next_ns || keeper->writer == NULL)
        return;
    *next_ns = now + RETAIN_NS;
    for (uint32_t l = 0; l < keeper->n_logs; l++)
        for (uint32_t p = 0; memory->logs[l].rings[0].has_journal && p < memory->logs[l].n_partitions; p++)
            if (retention_look(memory, &memory->logs[l], p, clock_wall_ns(), &err) != EVBUS_OK)
                log_line(keeper->log, LOG_CORRUPT, EVBUS_LOG_WARNING, "log=%s partition=%u reason=\"retention: %s\"",
                         memory->logs[l].name, p, err.text);
}

/* Once a second: what need not be looked at more often. A name of the bus is gone: retire it for all [R16]. Others look, too, and
 * whoever did it, it is told once. */
static void check_names(struct keeper *keeper, uint64_t now, uint64_t *next_ns)
{
    if (now < *next_ns)
        return;
    *next_ns = now + CLOCK_NS_PER_S;
    struct memory *memory = keeper->memory;
    end_orphans(keeper);
    see_groups(memory);
    burial_find_end(memory);
    retire_check_names(memory);
    if (memory_is_retired(memory) && !keeper->has_told_retired)
        log_line(keeper->log, LOG_RETIRED, EVBUS_LOG_ERROR,
                 "bus=%s it was removed, or a name of it is gone from /dev/shm", memory->bus);
    keeper->has_told_retired = memory_is_retired(memory);
}

/* Once a second, and before we go: what the groups have done, where that has changed [J3]. false: it must be tried again. */
static bool save_groups(struct keeper *keeper)
{
    struct error err = {""};
    char *text;
    size_t len;
    if (keeper->writer == NULL)
        return true;
    uint64_t digest = saved_digest(keeper->memory);
    if ((keeper->saved != NULL && keeper->digest == digest) ||
        saved_snapshot(keeper->memory, &text, &len, &err) != EVBUS_OK)
        return true;
    bool is_same = keeper->saved != NULL && strcmp(keeper->saved, text) == 0;
    if (is_same)
        keeper->digest = digest;
    if (is_same || writer_sync_all(keeper->writer) != WRITER_WROTE ||
        saved_write(keeper->memory, writer_term(keeper->writer), keeper->n_saved + 1, text, len, &err) != EVBUS_OK) {
        if (!is_same && err.text[0] != '\0' && !keeper->has_told_saving)
            log_line(keeper->log, LOG_JOURNAL, EVBUS_LOG_ERROR, "state=groups_not_saved reason=\"%s\"", err.text);
        keeper->has_told_saving = keeper->has_told_saving || err.text[0] != '\0';
        free(text);
        return is_same;
    }
    keeper->has_told_saving = false;
    keeper->n_saved++;
    free(keeper->saved);
    keeper->saved = text;
    keeper->digest = digest;
    return true;
}

/* What the files can be told before we go. */
static void end_term(struct keeper *keeper)
{
    if (keeper->writer != NULL && seat_is_ours(&keeper->seat) && !keeper->is_late &&
        !memory_is_retired(keeper->memory)) {
        save_groups(keeper);
        writer_end(keeper->writer);
    }
    writer_close(keeper->writer);
    indexer_end(&keeper->indexer);
    free(keeper->saved);
    keeper->writer = NULL;
    keeper->saved = NULL;
    keeper->n_saved = 0;
}

static void keep(struct keeper *keeper)
{
    const struct slot *self = &keeper->memory->control->slots[keeper->seat.slot];
    uint64_t start = clock_mono_ns();
    uint64_t busy_until = 0;
    uint64_t check_ns = 0;
    uint64_t retain_ns = 0;
    uint64_t save_ns = 0;
    log_line(keeper->log, LOG_KEEPER, EVBUS_LOG_INFO, "state=elected slot=%u", keeper->seat.slot);
    keeper->is_late = false;
    while (!is_stopped(keeper) && seat_is_ours(&keeper->seat) && !has_lost_bus(keeper) && !keeper->is_late) {
        uint64_t due_ns = UINT64_MAX;
        uint32_t bell = doorbell_read(self);
        if (keeper->n_logs != atomic_load_explicit(&keeper->memory->control->n_logs, memory_order_acquire))
            keep_logs(keeper, NULL);
        bool is_busy = look(keeper, &due_ns);
        uint64_t now = clock_mono_ns();
        if (is_busy)
            busy_until = now + BUSY_NS;
        if (now - start >= GOOD_TERM_NS)
            keeper->seat.n_deposed = 0;
        check_names(keeper, now, &check_ns);
        retain(keeper, now, &retain_ns);
        if (now >= save_ns) {
            save_ns = now + (save_groups(keeper) ? SAVE_NS : SAVE_AGAIN_NS);
        }
        if (!is_rung_soon(keeper, bell))
            sleep_until_something(keeper, now >= busy_until, bell, due_ns);
    }
    if (!seat_is_ours(&keeper->seat))
        log_line(keeper->log, LOG_KEEPER, EVBUS_LOG_WARNING,
                 "state=deposed slot=%u reason=\"it was stopped, or its disk was too slow: another one keeps\"",
                 keeper->seat.slot);
    end_term(keeper);
}

/* --- the thread ---------------------------------------------------------------------------------------------------- */

static void *candidate(void *context)
{
    struct keeper *keeper = context;
    struct error err = {""};
    prctl(PR_SET_NAME, "evbus-keeper");
    if (burial_take_slot(keeper->memory, keeper->service, &keeper->seat.slot, &err) != EVBUS_OK) {
        log_line(keeper->log, LOG_KEEPER, EVBUS_LOG_WARNING, "state=none reason=\"%s\"", err.text);
        return NULL;
    }
    while (!is_stopped(keeper)) {
        if (has_lost_bus(keeper)) {
            struct futex_watch stop = {&keeper->stop, 0};
            state_let_go(&keeper->memory->state);
            futex_wait_any(&stop, 1, (struct timespec){.tv_nsec = SEAT_NS});
            continue;
        }
        if (!seat_try(&keeper->seat) && !seat_wait(&keeper->seat, &keeper->stop))
            continue;
        if (keep_logs(keeper, &err) == EVBUS_OK) {
            keep(keeper);
        } else {
            log_line(keeper->log, LOG_KEEPER, EVBUS_LOG_WARNING, "state=none reason=\"%s\"", err.text);
            struct futex_watch stop = {&keeper->stop, 0};
            futex_wait_any(&stop, 1, (struct timespec){.tv_sec = 1});
        }
        leave_logs(keeper);
        seat_leave(&keeper->seat);
    }
    burial_leave_slot(keeper->memory, keeper->seat.slot);
    return NULL;
}

static void free_keeper(struct keeper *keeper)
{
    for (uint32_t i = 0; keeper->kept != NULL && i < LOGS_MAX; i++)
        free(keeper->kept[i].cursors);
    free(keeper->kept);
    free(keeper);
}

int keeper_start(struct keeper **out_keeper, struct memory *memory, const char *service, uint64_t spin_ns,
                 struct log *log, struct error *err)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL)
        return error_no_memory(err, "the keeper");
    keeper->memory = memory;
    keeper->log = log;
    keeper->spin_ns = spin_ns < SPIN_NS ? spin_ns : SPIN_NS;
    keeper->seat = (struct seat){.memory = memory, .log = log};
    strncpy(keeper->service, service != NULL ? service : "", sizeof keeper->service - 1);
    if ((keeper->kept = calloc(LOGS_MAX, sizeof *keeper->kept)) == NULL) {
        free_keeper(keeper);
        return error_no_memory(err, "the keeper");
    }
    sigset_t all;
    sigset_t before;
    sigfillset(&all); /* signals are for the host's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(&keeper->thread, NULL, candidate, keeper);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (number != 0) {
        free_keeper(keeper);
        return error_set(err, EVBUS_EIO, "cannot start the thread evbus-keeper: %s%s", strerror(number),
                         error_mend(number));
    }
    *out_keeper = keeper;
    return EVBUS_OK;
}

void keeper_stop(struct keeper *keeper)
{
    if (keeper == NULL)
        return;
    atomic_store_explicit(&keeper->stop, 1, memory_order_release);
    futex_wake(&keeper->stop, 1);
    pthread_join(keeper->thread, NULL);
    free_keeper(keeper);
}
