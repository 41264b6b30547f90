/* keeper.c: one thread of one attached process at a time keeps the bus (no files yet).
 *
 *   who      whoever holds the seat (hold.c). Candidates sleep on it, on the lock word of its holder's slot
 *            (FUTEX_WAITERS set by hand, as the kernel then wakes one at its death) and on their own stop word, for
 *            half a second at most: the one that was woken may itself be stopped [B9]. Then they ask the second witness
 *            about the holder
 *   does     a look every 10 ms while something was published in the last second:
 *              dead slots: bury [B10]     claims that block: PAD the dead's, cancel after their patience [R4]
 *              processes: ask the second witness, every 250 ms; bury the lost, retire their slots [B2, B3, B4]
 *              sleepers that slept through two looks although something came: ring [D5]     room: release [R6, R7]
 *            else it joins the sleepers of every log, for all topics, and sleeps on its bell, on the lock words of the others
 *            (a death wakes it) and on its stop word
 *   nobody   depends on it for more than speed: readers cancel and bury what blocks them, producers release what they
 *            need, sleeps end by themselves
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
#include "retire.h"
#include "slot.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define LOOK_NS (10 * CLOCK_NS_PER_MS)
#define BUSY_NS CLOCK_NS_PER_S          /* without an event for so long the bus is idle */
#define IDLE_NS (250 * CLOCK_NS_PER_MS) /* the longest sleep */
#define ASK_NS  (250 * CLOCK_NS_PER_MS) /* between two rounds of the second witness */
#define SEAT_NS (500 * CLOCK_NS_PER_MS) /* the longest sleep of a candidate */

/* What the keeper knows of one log from its last look. */
struct kept_log {
    struct cursor *cursors;        /* one per partition; they follow the words, pin nothing */
    uint32_t sleeps[SLEEPERS_MAX]; /* of each place whose bit was set, else 0 */
    uint32_t place;                /* ours among the sleepers */
};

struct keeper {
    struct memory *memory;
    struct log *log;
    char service[SERVICE_BYTES];
    pthread_t thread;
    _Atomic uint32_t stop; /* private futex */
    uint32_t slot;
    struct kept_log *kept; /* LOGS_MAX places */
    bool has_told_retired;
    uint32_t n_logs; /* that we keep: logs are added while all runs */
    uint64_t ask_ns; /* when the second witness is asked next */
};

static bool is_stopped(const struct keeper *keeper)
{
    return atomic_load_explicit(&keeper->stop, memory_order_acquire) != 0;
}

static const _Atomic uint32_t *lock_word(const pthread_mutex_t *mutex)
{
    return (const _Atomic uint32_t *)(const void *)mutex;
}

/* Makes the kernel wake a sleeper on this lock word when its holder dies. Returns the word to sleep on; 0: nobody holds it. */
static uint32_t watch_lock(pthread_mutex_t *mutex)
{
    _Atomic uint32_t *word = (_Atomic uint32_t *)(void *)mutex;
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    while ((seen & SLOT_TID_MASK) != 0 && (seen & SLOT_WAITERS) == 0 &&
           !atomic_compare_exchange_weak_explicit(word, &seen, seen | SLOT_WAITERS, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
    return (seen & SLOT_TID_MASK) != 0 ? seen | SLOT_WAITERS : 0;
}

/* --- the seat ---------------------------------------------------------------------------------------------------- */

/* true: it is ours. A keeper has no state of its own to mend. */
static bool try_seat(struct keeper *keeper)
{
    struct control *control = keeper->memory->control;
    return hold_take(&control->seat, control->slots, keeper->slot);
}

static void leave_seat(struct keeper *keeper)
{
    hold_leave(&keeper->memory->control->seat, keeper->slot);
}

static void wait_for_seat(struct keeper *keeper)
{
    struct control *control = keeper->memory->control;
    uint32_t seat = atomic_load_explicit(&control->seat, memory_order_acquire);
    struct slot *holder = &control->slots[HOLD_SLOT(seat)];
    if (HOLD_SLOT(seat) == 0 || !slot_is_used(holder) || slot_is_dead(holder))
        return; /* it is free by now */
    struct futex_watch watches[3] = {{&control->seat, seat}, {lock_word(&holder->mutex), watch_lock(&holder->mutex)}};
    size_t n = watches[1].seen != 0 ? 2 : 1;
    watches[n++] = (struct futex_watch){&keeper->stop, 0};
    futex_wait_any(watches, n, (struct timespec){.tv_nsec = SEAT_NS});
    if (atomic_load_explicit(&control->seat, memory_order_acquire) == seat)
        burial_ask_one(keeper->memory, HOLD_SLOT(seat));
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
    for (uint32_t place = 0; place < SLEEPERS_MAX; place++) {
        uint64_t bits = atomic_load_explicit(&head->sleeping[place / 64], memory_order_acquire);
        struct sleeper *sleeper = &head->sleepers[place];
        uint32_t sleeps = 0;
        if ((bits >> (place % 64) & 1) != 0) {
            sleeps = atomic_load_explicit(&sleeper->sleeps, memory_order_relaxed);
            uint32_t slot = atomic_load_explicit(&sleeper->slot, memory_order_relaxed);
            bool slept_through = sleeps != 0 && kept->sleeps[place] == sleeps;
            bool wants = false;
            for (int i = 0; i < DOORBELL_TOPIC_WORDS; i++)
                wants = wants ||
                        (atomic_load_explicit(&sleeper->topics[i], memory_order_relaxed) & topics->bits[i]) != 0;
            if (slept_through && wants && slot >= 1 && slot <= SLOTS_MAX && slot != keeper->slot)
                doorbell_ring_slot(&keeper->memory->control->slots[slot]);
        } else if (bits == 0) {
            uint32_t skip = place | 63;
            memset(&kept->sleeps[place], 0, (skip - place + 1) * sizeof kept->sleeps[0]);
            place = skip;
            continue;
        }
        kept->sleeps[place] = sleeps;
    }
}

/* true: something was published since the last look. */
static bool look(struct keeper *keeper)
{
    struct memory *memory = keeper->memory;
    bool is_busy = false;
    uint64_t now = clock_mono_ns();
    if (now >= keeper->ask_ns) {
        keeper->ask_ns = now + ASK_NS;
        burial_ask_all(memory);
    }
    unsigned n_buried = burial_sweep(memory) + burial_bury_gone(memory);
    if (n_buried > 0)
        log_line(keeper->log, LOG_BURIAL, EVBUS_LOG_INFO, "threads=%u", n_buried);
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
    for (uint32_t i = 1; i <= SLOTS_MAX && n < max; i++) {
        if (i == keeper->slot || !slot_is_used(&slots[i]))
            continue;
        uint32_t seen = watch_lock(&slots[i].mutex);
        if (seen != 0)
            watches[n++] = (struct futex_watch){lock_word(&slots[i].mutex), seen};
    }
    return n;
}

static void sleep_until_something(struct keeper *keeper, bool is_idle)
{
    struct memory *memory = keeper->memory;
    struct slot *self = &memory->control->slots[keeper->slot];
    struct futex_watch watches[FUTEX_WATCHES_MAX];
    uint32_t bell = doorbell_read(self);
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
    futex_wait_any(watches, n, (struct timespec){.tv_nsec = (long)(is_idle && !found ? IDLE_NS : LOOK_NS)});
    for (uint32_t i = 0; is_idle && i < keeper->n_logs; i++)
        doorbell_clear(memory->logs[i].head, keeper->kept[i].place);
}

/* One more log: a place among its sleepers, and a cursor per partition. */
static int keep_log(struct keeper *keeper, struct memory_log *log, struct error *err)
{
    struct kept_log *kept = &keeper->kept[log->index];
    struct topic_set all;
    memset(&all, 0xff, sizeof all);
    if (kept->cursors == NULL && (kept->cursors = calloc(log->n_partitions, sizeof *kept->cursors)) == NULL)
        return error_no_memory(err, "the keeper");
    int rc = doorbell_join(log->head, keeper->slot, &kept->place, err);
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
        if (!group_is_orphan(memory, g) || group_lock(memory, keeper->slot, false, NULL) != EVBUS_OK)
            continue;
        if (group_is_orphan(memory, g))
            group_remove(memory, g, NULL);
        group_unlock(memory, keeper->slot);
    }
}

/* Once a second. A name of the bus is gone: retire it for all [R16]. Others look, too, and whoever did it, it is told once. */
static void check_names(struct keeper *keeper, uint64_t now, uint64_t *next_ns)
{
    if (now < *next_ns)
        return;
    *next_ns = now + CLOCK_NS_PER_S;
    struct memory *memory = keeper->memory;
    end_orphans(keeper);
    retire_check_names(memory);
    if (memory_is_retired(memory) && !keeper->has_told_retired)
        log_line(keeper->log, LOG_RETIRED, EVBUS_LOG_ERROR,
                 "bus=%s it was removed, or a name of it is gone from /dev/shm", memory->bus);
    keeper->has_told_retired = memory_is_retired(memory);
}

static void keep(struct keeper *keeper)
{
    uint64_t busy_until = 0;
    uint64_t check_ns = 0;
    log_line(keeper->log, LOG_KEEPER, EVBUS_LOG_INFO, "state=elected slot=%u", keeper->slot);
    while (!is_stopped(keeper)) {
        if (keeper->n_logs != atomic_load_explicit(&keeper->memory->control->n_logs, memory_order_acquire))
            keep_logs(keeper, NULL);
        bool is_busy = look(keeper);
        uint64_t now = clock_mono_ns();
        if (is_busy)
            busy_until = now + BUSY_NS;
        check_names(keeper, now, &check_ns);
        sleep_until_something(keeper, now >= busy_until);
    }
}

/* --- the thread ---------------------------------------------------------------------------------------------------- */

static void *candidate(void *context)
{
    struct keeper *keeper = context;
    struct error err = {""};
    prctl(PR_SET_NAME, "evbus-keeper");
    if (burial_take_slot(keeper->memory, keeper->service, &keeper->slot, &err) != EVBUS_OK) {
        log_line(keeper->log, LOG_KEEPER, EVBUS_LOG_WARNING, "state=none reason=\"%s\"", err.text);
        return NULL;
    }
    while (!is_stopped(keeper)) {
        if (!try_seat(keeper)) {
            wait_for_seat(keeper);
            continue;
        }
        if (keep_logs(keeper, &err) == EVBUS_OK) {
            keep(keeper);
        } else {
            log_line(keeper->log, LOG_KEEPER, EVBUS_LOG_WARNING, "state=none reason=\"%s\"", err.text);
            struct futex_watch stop = {&keeper->stop, 0};
            futex_wait_any(&stop, 1, (struct timespec){.tv_sec = 1});
        }
        leave_logs(keeper);
        leave_seat(keeper);
    }
    burial_leave_slot(keeper->memory, keeper->slot);
    return NULL;
}

static void free_keeper(struct keeper *keeper)
{
    for (uint32_t i = 0; keeper->kept != NULL && i < LOGS_MAX; i++)
        free(keeper->kept[i].cursors);
    free(keeper->kept);
    free(keeper);
}

int keeper_start(struct keeper **out_keeper, struct memory *memory, const char *service, struct log *log,
                 struct error *err)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL)
        return error_no_memory(err, "the keeper");
    keeper->memory = memory;
    keeper->log = log;
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
