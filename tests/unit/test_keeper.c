/* test_keeper.c: one thread at a time keeps the bus, does what nobody else does, and costs an idle bus nothing.
 *
 * [no tsan] Keepers are other processes. */
#include "keeper.h"

#include "await.h"
#include "burial.h"
#include "bus.h"
#include "child.h"
#include "doorbell.h"
#include "fixture.h"
#include "hold.h"
#include "partition.h"
#include "slot.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint32_t keeper_of(const struct fixture *f)
{
    return hold_slot(&f->bus->memory.control->seat);
}

static struct ring *ring_of(const struct fixture *f)
{
    return &f->bus->memory.logs[0].rings[0];
}

/* A bus without a keeper, and this thread's slot on it. */
struct desk {
    struct fixture f;
    uint32_t slot;
};

static struct desk desk_make(void)
{
    struct desk desk = {.f = fixture_make((struct fixture_options){.ring = "4KiB"})};
    struct error err = {""};
    cr_assert_eq(burial_take_slot(&desk.f.bus->memory, "tester", &desk.slot, &err), EVBUS_OK, "%s", err.text);
    return desk;
}

static void desk_end(struct desk *desk)
{
    if (!memory_is_retired(&desk->f.bus->memory))
        burial_leave_slot(&desk->f.bus->memory, desk->slot);
    fixture_end(&desk->f);
}

static struct keeper *started(struct desk *desk, struct log *log)
{
    struct keeper *keeper = NULL;
    struct error err = {""};
    cr_assert_eq(keeper_start(&keeper, &desk->f.bus->memory, "keeper", 0, log, &err), EVBUS_OK, "%s", err.text);
    cr_assert(await_that(keeper_of(&desk->f) != 0));
    return keeper;
}

/* Claims, writes and commits a frame of topic 1, and wakes nobody. */
static uint64_t append(struct desk *desk)
{
    uint64_t frame[2 * CELL_WORDS] = {0};
    struct frame_header header = {.format = 1, .kind = 1, .n_cells = 2, .topic = 1, .n_representations = 1};
    struct claim claim = {.slot = desk->slot};
    struct error err = {""};
    uint64_t pos;
    memcpy(frame, &header, sizeof header);
    int rc = partition_append(ring_of(&desk->f), &claim, frame, 2, &(struct partition_wait){0}, &pos, &err);
    cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, err.text);
    return pos;
}

static enum word_state state_at(const struct fixture *f, uint64_t pos)
{
    return word_state(atomic_load(&ring_of(f)->words[ring_index(ring_of(f), pos)]));
}

/* ---- the seat ---- */

Test(keeper, a_volunteer_is_elected)
{
    struct desk desk = desk_make();
    struct log log = {0};
    cr_assert_eq(keeper_of(&desk.f), 0, "nobody has volunteered");
    struct keeper *keeper = started(&desk, &log);
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(desk.f.bus, &stat), EVBUS_OK);
    cr_expect_eq(stat.keeper_slot, keeper_of(&desk.f));
    cr_expect_eq(stat.keeper_pid, getpid());
    cr_expect_str_eq(stat.keeper_service, "keeper");
    keeper_stop(keeper);
    cr_expect_eq(keeper_of(&desk.f), 0);
    keeper_stop(NULL);
    desk_end(&desk);
}

Test(keeper, it_ends_within_milliseconds_whatever_it_does)
{
    enum { IDLE, BUSY, WAITS_FOR_THE_SEAT };
    static const char *const labels[] = {"idle", "busy", "waiting for the seat"};
    struct desk desk = desk_make();
    struct log log = {0};
    for (int what = IDLE; what <= WAITS_FOR_THE_SEAT; what++) {
        struct keeper *holder = what == WAITS_FOR_THE_SEAT ? started(&desk, &log) : NULL;
        struct keeper *keeper = started(&desk, &log);
        uint64_t until = await_now_ms() + (what == IDLE ? 1200 : 50);
        while (await_now_ms() < until) {
            if (what == BUSY)
                append(&desk);
            await_pause();
        }
        uint64_t start = await_now_ms();
        keeper_stop(keeper);
        uint64_t took = await_now_ms() - start;
        cr_expect_lt(took, 500, "%s: %" PRIu64 " ms", labels[what], took);
        keeper_stop(holder);
    }
    desk_end(&desk);
}

/* A process that keeps the bus until it is killed. */
static int keep_until_killed(void *context)
{
    struct fixture *f = context;
    fixture_open(f, "other", EVBUS_KEEPER_VOLUNTEER);
    for (;;)
        pause();
    return 0;
}

/* Two volunteers, of whom the first keeps. Returns its slot. */
static uint32_t start_two(struct desk *desk, struct child *out_first, struct child *out_second)
{
    struct slot *slots = desk->f.bus->memory.control->slots;
    *out_first = child_start(keep_until_killed, &desk->f);
    cr_assert(await_that(keeper_of(&desk->f) != 0));
    uint32_t keeper = keeper_of(&desk->f);
    *out_second = child_start(keep_until_killed, &desk->f);
    cr_assert(await_that(slot_is_used(&slots[keeper + 1]) || slot_is_used(&slots[keeper + 2])));
    return keeper;
}

/* [guards PROGRESS] [B9] */
Test(keeper, when_its_process_is_killed_the_next_volunteer_takes_over)
{
    struct desk desk = desk_make();
    struct child first, second;
    uint32_t before = start_two(&desk, &first, &second);
    struct slot *slots = desk.f.bus->memory.control->slots;
    uint64_t start = await_now_ms();
    child_kill(&first);
    cr_expect(await_that(keeper_of(&desk.f) != before && keeper_of(&desk.f) != 0));
    uint64_t took = await_now_ms() - start;
    cr_expect_lt(took, 3000, "%" PRIu64 " ms", took);
    cr_expect(await_that(!slot_is_used(&slots[before])), "and it buries the first");
    child_kill(&second);
    desk_end(&desk);
}

/* The bit by which the kernel knows that somebody waits: as if the wake had come to a candidate who is frozen. */
static bool takes_waiters_away(_Atomic uint32_t *word)
{
    uint32_t before = atomic_fetch_and(word, ~SLOT_WAITERS);
    await_pause(); /* whoever is awake sets it again */
    return (before & SLOT_WAITERS) == 0 && (atomic_load(word) & SLOT_WAITERS) == 0;
}

Test(keeper, whose_death_wakes_nobody_is_followed_all_the_same, .timeout = 60)
{ /* [guards PROGRESS] B9 */
    struct desk desk = desk_make();
    struct child first, second;
    uint32_t before = start_two(&desk, &first, &second);
    struct slot *slots = desk.f.bus->memory.control->slots;
    _Atomic uint32_t *word = (_Atomic uint32_t *)(void *)&slots[before].mutex;
    cr_assert(await_that((atomic_load(word) & SLOT_WAITERS) != 0), "nobody waits for its death");
    cr_assert(await_that(takes_waiters_away(word)));
    child_kill(&first);
    cr_expect(await_that(keeper_of(&desk.f) != before && keeper_of(&desk.f) != 0), "the candidate sleeps on");
    child_kill(&second);
    desk_end(&desk);
}

Test(keeper, when_it_is_closed_the_next_volunteer_takes_over)
{
    struct desk desk = desk_make();
    struct log log = {0};
    struct keeper *first = started(&desk, &log);
    uint32_t before = keeper_of(&desk.f);
    struct child second = child_start(keep_until_killed, &desk.f);
    struct slot *slots = desk.f.bus->memory.control->slots;
    cr_assert(await_that(slot_is_used(&slots[before + 1]) || slot_is_used(&slots[before + 2])));
    cr_expect_eq(keeper_of(&desk.f), before, "one at a time");
    uint64_t start = await_now_ms();
    keeper_stop(first);
    cr_expect(await_that(keeper_of(&desk.f) != 0 && keeper_of(&desk.f) != before));
    cr_expect_lt(await_now_ms() - start, 3000);
    child_kill(&second);
    desk_end(&desk);
}

/* [guards PROGRESS] */
Test(keeper, a_stopped_one_holds_nobody)
{
    struct desk desk = desk_make();
    struct child keeper = child_start(keep_until_killed, &desk.f);
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert(await_that(keeper_of(&desk.f) != 0));
    child_stop(&keeper);
    cr_assert_eq(evbus_reader_open(&reader, desk.f.bus, NULL), EVBUS_OK);
    struct claim open = {.slot = desk.slot};
    struct error err = {""};
    cr_assert_eq(ring_claim(ring_of(&desk.f), 2, &open, &err), EVBUS_OK); /* and a claim that is never finished */
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(fixture_publish(desk.f.bus, NULL, "1"), EVBUS_OK, "%s", evbus_message(NULL));
        cr_assert_eq(evbus_reader_next(reader, &got, UINT64_C(5000000000)), EVBUS_OK, "%s", evbus_message(NULL));
    }
    ring_abandon(&open);
    evbus_reader_close(reader);
    child_kill(&keeper);
    desk_end(&desk);
}

/* ---- what it does ---- */

/* [R4] [guards PROGRESS] */
Test(keeper, it_cancels_a_claim_that_blocks_although_nobody_reads)
{
    struct desk desk = desk_make();
    struct log log = {0};
    struct keeper *keeper = started(&desk, &log);
    struct claim claim = {.slot = desk.slot};
    struct error err = {""};
    cr_assert_eq(ring_claim(ring_of(&desk.f), 2, &claim, &err), EVBUS_OK, "%s", err.text);
    uint64_t pos = claim.pos;
    append(&desk);
    cr_expect(await_that(state_at(&desk.f, pos) == WORD_CANCELLED));
    cr_expect_eq(atomic_load(&ring_of(&desk.f)->head->cancels), 1);
    cr_expect_eq(ring_commit(&claim, &err), EVBUS_EAGAIN);
    keeper_stop(keeper);
    desk_end(&desk);
}

struct shared {
    struct fixture *f;
    _Atomic uint64_t pos; /* of the claim, + 1 */
};

static int claim_until_killed(void *context)
{
    struct shared *shared = context;
    struct memory memory;
    struct error err = {""};
    struct claim claim = {0};
    if (memory_open(&memory, shared->f->name, &err) != EVBUS_OK ||
        burial_take_slot(&memory, "victim", &claim.slot, &err) != EVBUS_OK ||
        ring_claim(&memory.logs[0].rings[0], 2, &claim, &err) != EVBUS_OK)
        return 1;
    atomic_store(&shared->pos, claim.pos + 1);
    for (;;)
        pause();
    return 0;
}

/* [B10] [guards PROGRESS] */
Test(keeper, it_buries_who_was_killed_although_nobody_reads)
{
    struct desk desk = desk_make();
    struct log log = {0};
    struct shared *shared = child_shared(sizeof *shared);
    shared->f = &desk.f;
    struct child victim = child_start(claim_until_killed, shared);
    cr_assert(await_that(atomic_load(&shared->pos) != 0));
    struct keeper *keeper = started(&desk, &log);
    child_kill(&victim);
    cr_expect(await_that(state_at(&desk.f, atomic_load(&shared->pos) - 1) == WORD_PAD));
    cr_expect(await_that(atomic_load(&desk.f.bus->memory.control->burials) == 1));
    keeper_stop(keeper);
    desk_end(&desk);
}

/* A producer was stopped or killed between its commit and its wake. [D5] [guards WOKEN] */
Test(keeper, it_rings_who_sleeps_through_an_event)
{
    struct desk desk = desk_make();
    struct log log = {0};
    struct keeper *keeper = started(&desk, &log);
    struct memory *memory = &desk.f.bus->memory;
    struct error err = {""};
    struct topic_set first = {{0}}, second = {{0}};
    uint32_t place, other;
    topic_set_add(&first, 1);
    topic_set_add(&second, 2);
    cr_assert_eq(doorbell_join(memory->logs[0].head, desk.slot, &place, &err), EVBUS_OK);
    doorbell_want(memory->logs[0].head, place, &first);
    cr_assert_eq(doorbell_join(memory->logs[0].head, 1000, &other, &err), EVBUS_OK); /* of another topic */
    doorbell_want(memory->logs[0].head, other, &second);
    for (int i = 0; i < 2; i++) {
        uint32_t bell = doorbell_read(&memory->control->slots[desk.slot]);
        doorbell_set(memory->logs[0].head, place);
        doorbell_set(memory->logs[0].head, other);
        uint64_t looked = await_now_ms() + 600; /* by then it has seen us asleep */
        cr_assert(await_that(await_now_ms() >= looked));
        append(&desk);
        cr_expect(await_that(doorbell_read(&memory->control->slots[desk.slot]) != bell));
        cr_expect_eq(doorbell_read(&memory->control->slots[1000]), 0, "who wants another topic sleeps on");
        doorbell_clear(memory->logs[0].head, place);
        doorbell_clear(memory->logs[0].head, other);
    }
    doorbell_leave(memory->logs[0].head, other);
    doorbell_leave(memory->logs[0].head, place);
    keeper_stop(keeper);
    desk_end(&desk);
}

/* [R6] */
Test(keeper, it_makes_room_when_room_gets_scarce)
{
    struct desk desk = desk_make();
    struct log log = {0};
    struct keeper *keeper = started(&desk, &log);
    while (ring_tail(ring_of(&desk.f)) - ring_released(ring_of(&desk.f)) <= 56 && ring_tail(ring_of(&desk.f)) + 2 <= 64)
        append(&desk);
    cr_expect(await_that(ring_tail(ring_of(&desk.f)) - ring_released(ring_of(&desk.f)) < 56));
    keeper_stop(keeper);
    desk_end(&desk);
}

struct wait {
    struct evbus_reader *reader;
    _Atomic int rc; /* 1: still waiting */
};

static void *wait_for_ever(void *context)
{
    struct wait *wait = context;
    struct evbus_delivery got = {.size = sizeof got};
    atomic_store(&wait->rc, evbus_reader_next(wait->reader, &got, UINT64_MAX));
    return NULL;
}

static struct {
    _Atomic int n_corrupt;
    _Atomic int n_retired;
} told;

static void listen(void *context, enum evbus_level level, const char *line)
{
    (void)context;
    if (strstr(line, "event=corrupt") != NULL)
        atomic_fetch_add(&told.n_corrupt, 1);
    if (strstr(line, "event=retired") != NULL && level == EVBUS_LOG_ERROR)
        atomic_fetch_add(&told.n_retired, 1);
}

/* Removed by hand, by a container's end: nobody else would tell. [R16] */
Test(keeper, it_retires_a_bus_whose_name_is_gone)
{
    struct desk desk = desk_make();
    struct log log;
    struct wait wait = {.rc = 1};
    pthread_t thread;
    char name[256];
    log_init(&log, listen, NULL, EVBUS_LOG_DEBUG);
    struct keeper *keeper = started(&desk, &log);
    cr_assert_eq(evbus_reader_open(&wait.reader, desk.f.bus, NULL), EVBUS_OK);
    cr_assert_eq(pthread_create(&thread, NULL, wait_for_ever, &wait), 0);
    region_name(desk.f.name, "control", name);
    cr_assert_eq(shm_unlink(name), 0);
    cr_expect(await_that(memory_is_retired(&desk.f.bus->memory)));
    cr_expect(await_that(atomic_load(&wait.rc) != 1));
    cr_expect_eq(atomic_load(&wait.rc), EVBUS_ESTALE, "who waits is told");
    cr_expect(await_that(atomic_load(&told.n_retired) == 1));
    pthread_join(thread, NULL);
    keeper_stop(keeper);
    evbus_reader_close(wait.reader);
    desk_end(&desk);
}

Test(keeper, it_tells_damage_and_keeps_the_rest)
{
    struct desk desk = desk_make();
    struct log log;
    log_init(&log, listen, NULL, EVBUS_LOG_DEBUG);
    uint64_t pos = append(&desk);
    atomic_store(&ring_of(&desk.f)->words[ring_index(ring_of(&desk.f), pos)], UINT64_MAX);
    append(&desk);
    struct keeper *keeper = started(&desk, &log);
    struct claim claim = {.slot = desk.slot};
    struct error err = {""};
    cr_assert_eq(ring_claim(ring_of(&desk.f), 2, &claim, &err), EVBUS_OK, "%s", err.text);
    pos = claim.pos;
    cr_expect(await_that(atomic_load(&told.n_corrupt) != 0));
    cr_expect(await_that(state_at(&desk.f, pos) == WORD_CANCELLED), "what is behind the damage is kept");
    ring_abandon(&claim);
    keeper_stop(keeper);
    desk_end(&desk);
}

/* ---- what it costs ---- */

/* How often the thread evbus-keeper of this process has gone to sleep; -1: there is none. */
static long count_sleeps(void)
{
    long sleeps = -1;
    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL)
        return -1;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[300], line[256];
        bool is_keeper = false;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            continue;
        while (fgets(line, sizeof line, file) != NULL) {
            if (strcmp(line, "Name:\tevbus-keeper\n") == 0)
                is_keeper = true;
            if (is_keeper)
                sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps);
        }
        fclose(file);
    }
    closedir(dir);
    return sleeps;
}

/* The other idle buses, of which there are not as many. */
static void skip_if_quick(void)
{
    if (getenv("EVBUS_QUICK") != NULL)
        cr_skip_test("EVBUS_QUICK");
}

static void sit_through(uint64_t ms)
{
    uint64_t until = await_now_ms() + ms;
    cr_assert(await_that(await_now_ms() >= until));
}

Test(keeper, an_idle_bus_costs_a_few_looks_a_second)
{
    struct desk desk = desk_make();
    struct log log = {0};
    struct keeper *keeper = started(&desk, &log);
    struct child others[2] = {child_start(keep_until_killed, &desk.f), child_start(keep_until_killed, &desk.f)};
    append(&desk);
    sit_through(1200); /* it is busy for a second after the last event */
    long before = count_sleeps();
    cr_assert_geq(before, 0, "there is no thread evbus-keeper");
    sit_through(1000);
    long n = count_sleeps() - before;
    cr_expect(n >= 1 && n < 30, "%ld in a second", n); /* 20 where the kernel has no futex_waitv */
    for (int i = 0; i < 2; i++)
        child_kill(&others[i]);
    keeper_stop(keeper);
    desk_end(&desk);
}

/* A namesake, a mutex that is lost: what cannot be buried must not make it spin. */
Test(keeper, a_dead_slot_that_cannot_be_buried_costs_no_storm)
{
    skip_if_quick();
    struct desk desk = desk_make();
    struct log log = {0};
    struct keeper *keeper = started(&desk, &log);
    struct slot *slot = &desk.f.bus->memory.control->slots[500];
    slots_reach(desk.f.bus->memory.control, 500);
    atomic_store((_Atomic uint32_t *)slot_lock_word(slot), 1); /* held by somebody else */
    atomic_store(&slot->tid, 4711);                            /* ... than it says */
    sit_through(1200);
    long before = count_sleeps();
    sit_through(1000);
    long n = count_sleeps() - before;
    cr_expect_lt(n, 20, "%ld in a second", n);
    keeper_stop(keeper);
    desk_end(&desk);
}

Test(keeper, a_claim_of_the_living_costs_no_storm_once_it_is_cancelled)
{
    skip_if_quick();
    struct desk desk = desk_make();
    struct log log = {0};
    struct keeper *keeper = started(&desk, &log);
    struct claim claim = {.slot = desk.slot};
    struct error err = {""};
    cr_assert_eq(ring_claim(ring_of(&desk.f), 2, &claim, &err), EVBUS_OK, "%s", err.text);
    uint64_t pos = claim.pos;
    cr_assert(await_that(state_at(&desk.f, pos) == WORD_CANCELLED));
    sit_through(1200);
    long before = count_sleeps();
    sit_through(1000);
    long n = count_sleeps() - before;
    cr_expect_lt(n, 20, "%ld in a second", n);
    ring_abandon(&claim);
    keeper_stop(keeper);
    desk_end(&desk);
}
