/* test_partition.c: append waits for room as long as it is told, and claims again what was taken from it. */
#include "partition.h"

#include "await.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define CELLS   64
#define MS      UINT64_C(1000000)

struct bed {
    struct slot *slots;
    struct log_head *log;
    struct ring ring;
};

static struct bed bed_make(void)
{
    struct bed bed = {
        aligned_alloc(64, (SLOTS_MAX + 1) * sizeof(struct slot)), aligned_alloc(64, sizeof(struct log_head)), {0}};
    void *memory = aligned_alloc(64, ring_bytes(CELLS));
    cr_assert(bed.slots != NULL && bed.log != NULL && memory != NULL);
    memset(bed.slots, 0, (SLOTS_MAX + 1) * sizeof(struct slot));
    memset(bed.log, 0, sizeof *bed.log);
    memset(memory, 0, ring_bytes(CELLS));
    ring_make(memory, UINT64_C(0x1234567890abcdef));
    ring_view(&bed.ring, memory, CELLS, bed.slots, "test.a", 2);
    return bed;
}

static void bed_end(struct bed *bed)
{
    free(bed->ring.head);
    free(bed->log);
    free(bed->slots);
}

static uint32_t put_frames(uint64_t *frames, const uint32_t *lengths, size_t n)
{
    uint32_t n_cells = 0;
    for (size_t i = 0; i < n; n_cells += lengths[i++]) {
        struct frame_header header = {.format = 1, .kind = 1, .n_cells = (uint16_t)lengths[i]};
        memcpy(frames + n_cells * (size_t)CELL_WORDS, &header, sizeof header);
    }
    return n_cells;
}

static int append_run(struct bed *bed, const uint32_t *lengths, size_t n, struct partition_wait wait, uint64_t *out_pos,
                      struct error *err)
{
    uint64_t frames[CELLS * CELL_WORDS] = {0};
    struct claim claim = {.slot = 1};
    uint32_t n_cells = put_frames(frames, lengths, n);
    int rc = partition_append(&bed->ring, &claim, frames, n_cells, &wait, out_pos, err);
    cr_assert_null(claim.ring, "no claim is left open");
    return rc;
}

static int append(struct bed *bed, uint32_t n_cells, struct partition_wait wait, uint64_t *out_pos, struct error *err)
{
    return append_run(bed, &n_cells, 1, wait, out_pos, err);
}

static void fill(struct bed *bed)
{
    struct error err = {""};
    uint64_t pos;
    ring_pin(&bed->ring, 0, 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(append(bed, 16, (struct partition_wait){0}, &pos, &err), EVBUS_OK, "%s", err.text);
}

Test(partition, append_tells_where_the_frame_stands)
{
    struct bed bed = bed_make();
    struct error err = {""};
    uint64_t word;
    for (uint64_t i = 0; i < 5; i++) {
        uint64_t pos = 4711;
        cr_assert_eq(append(&bed, 3, (struct partition_wait){0}, &pos, &err), EVBUS_OK, "%s", err.text);
        cr_expect_eq(pos, i * 3);
        cr_expect_eq(ring_look(&bed.ring, pos, &word), RING_COMMITTED);
    }
    bed_end(&bed);
}

Test(partition, without_a_timeout_a_full_ring_is_told_at_once)
{
    struct bed bed = bed_make();
    struct error err = {""};
    uint64_t pos = 4711;
    fill(&bed);
    uint64_t start = await_now_ms();
    cr_expect_eq(append(&bed, 1, (struct partition_wait){0}, &pos, &err), EVBUS_EFULL);
    cr_expect_lt(await_now_ms() - start, 1000);
    cr_expect_eq(pos, 4711, "the result is untouched on failure");
    cr_expect_not_null(strstr(err.text, "test.a/2 is full: 64 of 64 cells"), "%s", err.text);
    cr_expect_eq(atomic_load(&bed.ring.head->full), 1);
    cr_expect_eq(ring_tail(&bed.ring), 64, "nothing was published");
    bed_end(&bed);
}

/* Its frames may have the room one by one, and wait for it. [R20] */
Test(partition, a_run_that_finds_no_room_is_told_at_once_and_is_no_refusal_yet)
{
    static const uint32_t lengths[] = {1, 2};
    struct bed bed = bed_make();
    struct error err = {""};
    uint64_t pos = 4711;
    fill(&bed);
    cr_expect_eq(append_run(&bed, lengths, 2, (struct partition_wait){.timeout_ns = 1000 * MS}, &pos, &err),
                 EVBUS_EAGAIN);
    cr_expect_eq(pos, 4711, "the result is untouched on failure");
    cr_expect_str_eq(err.text, "");
    cr_expect_eq(atomic_load(&bed.ring.head->full), 0);
    cr_expect_eq(ring_tail(&bed.ring), 64, "nothing was published");
    bed_end(&bed);
}

Test(partition, a_timeout_is_waited_for_and_not_much_longer)
{
    static const struct {
        const char *label;
        struct partition_wait wait;
    } rows[] = {
        {"asleep", {.timeout_ns = 60 * MS}},
        {"spinning", {.timeout_ns = 60 * MS, .spin_ns = UINT64_MAX}},
        {"first the one, then the other", {.timeout_ns = 60 * MS, .spin_ns = 5 * MS}},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        struct error err = {""};
        uint64_t pos;
        fill(&bed);
        uint64_t start = await_now_ms();
        cr_expect_eq(append(&bed, 1, rows[i].wait, &pos, &err), EVBUS_EFULL, "%s", rows[i].label);
        uint64_t took = await_now_ms() - start;
        cr_expect(took >= 59 && took < 3000, "%s: %d ms", rows[i].label, (int)took);
        cr_expect_eq(atomic_load(&bed.ring.head->full), 1, "%s: counted once, however often it looked", rows[i].label);
        bed_end(&bed);
    }
}

static void *unpin_when_wanted(void *context)
{
    struct bed *bed = context;
    uint64_t until = await_now_ms() + AWAIT_MS;
    while (atomic_load(&bed->ring.head->space_wanted) == 0 && await_now_ms() < until)
        await_pause();
    ring_unpin(&bed->ring, 0);
    return NULL;
}

/* [R7] */
Test(partition, who_waits_goes_on_when_there_is_room)
{
    struct bed bed = bed_make();
    struct error err = {""};
    pthread_t thread;
    uint64_t pos;
    fill(&bed);
    cr_assert_eq(pthread_create(&thread, NULL, unpin_when_wanted, &bed), 0);
    cr_expect_eq(append(&bed, 1, (struct partition_wait){.timeout_ns = UINT64_MAX}, &pos, &err), EVBUS_OK, "%s",
                 err.text);
    cr_expect_eq(pos, 64);
    pthread_join(thread, NULL);
    bed_end(&bed);
}

/* Frames of 16 cells whose second half is on a page that is not there: who copies them into a claim is interrupted in the middle of it, and
 * the claim is taken from it. Once: any other fault ends the test. */
static struct {
    struct ring *ring;
    char *page;
} trap;

static void trap_sprung(int signal)
{
    (void)signal;
    uint64_t word, tail = ring_tail(trap.ring);
    mprotect(trap.page, CELL_BYTES, PROT_READ | PROT_WRITE);
    for (uint64_t p = ring_released(trap.ring); p < tail; p += word_cells(word))
        if (ring_look(trap.ring, p, &word) == RING_CLAIMED)
            ring_cancel(trap.ring, p, word);
}

static void trap_make(struct ring *ring)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(pages, MAP_FAILED);
    trap.ring = ring;
    trap.page = pages + page_bytes;
}

static int trap_append(const uint32_t *lengths, size_t n, uint64_t *out_pos, struct error *err)
{
    uint64_t *frames = (uint64_t *)(void *)(trap.page - 8 * CELL_BYTES);
    struct claim claim = {.slot = 1};
    struct sigaction once = {.sa_handler = trap_sprung};
    once.sa_flags = (int)SA_RESETHAND;
    cr_assert_eq(put_frames(frames, lengths, n), 16);
    cr_assert_eq(mprotect(trap.page, CELL_BYTES, PROT_NONE), 0);
    cr_assert_eq(sigaction(SIGSEGV, &once, NULL), 0);
    int rc = partition_append(trap.ring, &claim, frames, 16, &(struct partition_wait){0}, out_pos, err);
    cr_assert_null(claim.ring, "no claim is left open");
    return rc;
}

/* [guards WHOLE] [R20] */
Test(partition, what_was_cancelled_is_published_at_a_new_position_as_a_whole)
{
    static const struct {
        const char *label;
        uint32_t lengths[4];
        size_t n;
    } rows[] = {
        {"a frame", {16}, 1},
        {"a run", {4, 1, 8, 3}, 4},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        trap_make(&bed.ring);
        for (uint64_t round = 0; round < 20; round++) {
            struct error err = {""};
            uint64_t pos, word;
            cr_assert_eq(trap_append(rows[i].lengths, rows[i].n, &pos, &err), EVBUS_OK, "%s: %s", rows[i].label,
                         err.text);
            cr_assert_eq(atomic_load(&bed.slots[1].cancels), round + 1, "%s", rows[i].label);
            cr_assert_eq(ring_look(&bed.ring, round * 32, &word), RING_SKIP, "%s: where it stood first", rows[i].label);
            cr_assert_eq(pos, round * 32 + 16, "%s", rows[i].label);
            for (size_t k = 0; k < rows[i].n; pos += rows[i].lengths[k++]) {
                cr_assert_eq(ring_look(&bed.ring, pos, &word), RING_COMMITTED, "%s: frame %zu", rows[i].label, k);
                cr_assert_eq(word_cells(word), rows[i].lengths[k], "%s: frame %zu", rows[i].label, k);
            }
            cr_assert_eq(ring_tail(&bed.ring), pos, "%s", rows[i].label);
        }
        bed_end(&bed);
    }
}

Test(partition, what_no_waiting_mends_is_told_at_once)
{
    static const struct {
        const char *label;
        uint64_t tail, released;
        int code;
    } rows[] = {
        {"the positions are used up", ((UINT64_C(1) << WORD_LAP_BITS) - 2) * CELLS,
         ((UINT64_C(1) << WORD_LAP_BITS) - 2) * CELLS, EVBUS_EEXHAUSTED},
        {"a gate beyond the tail", 5, 6, EVBUS_ECORRUPT},
        {"a wild tail", UINT64_MAX, 0, EVBUS_ECORRUPT},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct bed bed = bed_make();
        struct error err = {""};
        uint64_t pos;
        atomic_store(&bed.ring.head->tail, rows[i].tail);
        atomic_store(&bed.ring.head->released, RELEASED(rows[i].released, 0));
        cr_expect_eq(append(&bed, 2, (struct partition_wait){.timeout_ns = UINT64_MAX}, &pos, &err), rows[i].code,
                     "%s: %s", rows[i].label, err.text);
        bed_end(&bed);
    }
}

Test(partition, waking_rings_who_wants_it_and_makes_room)
{
    struct bed bed = bed_make();
    struct error err = {""};
    struct topic_set topics = {{0}};
    uint32_t place;
    uint64_t pos = 0;
    topic_set_add(&topics, 3);
    cr_assert_eq(doorbell_join(bed.log, 9, &place, &err), EVBUS_OK);
    doorbell_want(bed.log, place, &topics);
    doorbell_set(bed.log, place);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(append(&bed, 16, (struct partition_wait){0}, &pos, &err), EVBUS_OK);
    cr_expect_eq(doorbell_read(&bed.slots[9]), 0, "append alone wakes nobody");
    struct memory_log log = {.head = bed.log, .rings = &bed.ring};
    partition_wake(NULL, &log, &bed.ring, 3, pos);
    cr_expect_eq(doorbell_read(&bed.slots[9]), 1);
    cr_expect_eq(log.woken, (place + 1) << 16 | 9, "the next publish asks for his lines");
    partition_expect(&log, &bed.ring);
    cr_expect_eq(doorbell_read(&bed.slots[9]), 1);
    cr_expect_eq(ring_released(&bed.ring), 16, "a step ends with a whole frame");
    cr_assert_eq(append(&bed, 1, (struct partition_wait){0}, &pos, &err), EVBUS_OK, "%s", err.text);
    partition_wake(NULL, &log, &bed.ring, 3, pos);
    cr_expect_eq(log.woken, 0, "this one had nobody to wake");
    bed_end(&bed);
}
