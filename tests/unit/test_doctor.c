/* test_doctor.c: what evbus_doctor() finds, and that it finds nothing where nothing is. [no tsan]: it forks. */
#include "await.h"
#include "bus.h"
#include "child.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct findings {
    unsigned n, n_of[3];
    char text[8192]; /* "severity what | mend\n" each */
};

static void collect(void *context, const struct evbus_finding *finding)
{
    struct findings *findings = context;
    size_t len = strlen(findings->text);
    findings->n++;
    if (finding->severity <= EVBUS_FINDING_PROBLEM && finding->size == sizeof *finding)
        findings->n_of[finding->severity]++;
    snprintf(findings->text + len, sizeof findings->text - len, "%d %s | %s\n", (int)finding->severity, finding->what,
             finding->mend);
}

static struct findings examine(struct evbus *bus, int expected)
{
    struct findings findings = {0};
    int rc = evbus_doctor(bus, collect, &findings);
    cr_expect_eq(rc, expected, "%d: %s", rc, findings.text);
    if (expected == EVBUS_OK)
        cr_expect_eq(findings.n_of[1] + findings.n_of[2], 0u, "%s", findings.text);
    else
        cr_expect_gt(findings.n_of[1] + findings.n_of[2], 0u, "%s", findings.text);
    return findings;
}

static void says(const struct findings *findings, const char *fragment)
{
    cr_expect_not_null(strstr(findings->text, fragment), "nothing says \"%s\":\n%s", fragment, findings->text);
}

/* With a keeper that is in its seat. */
static struct fixture kept(struct fixture_options options)
{
    struct evbus_stat stat = {.size = sizeof stat};
    options.keeper = true;
    struct fixture f = fixture_make(options);
    cr_assert(await_that(evbus_stat(f.bus, &stat) == EVBUS_OK && stat.keeper_slot != 0));
    return f;
}

static void publish_some(struct evbus *bus, int n)
{
    for (int i = 0; i < n; i++)
        cr_assert_eq(fixture_publish(bus, NULL, "1"), EVBUS_OK, "%s", evbus_message(bus));
}

Test(doctor, a_clean_bus_has_nothing)
{
    struct fixture f = kept((struct fixture_options){.ring = "4KiB", .partitions = 2});
    struct evbus_reader *reader;
    struct findings findings = examine(f.bus, EVBUS_OK);
    cr_expect_eq(findings.n, 0u, "%s", findings.text);
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    publish_some(f.bus, 200); /* some laps */
    findings = examine(f.bus, EVBUS_OK);
    cr_expect_eq(findings.n, 0u, "%s", findings.text);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(doctor, a_missing_keeper_is_worth_a_note)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct findings findings = examine(f.bus, EVBUS_OK);
    cr_expect_eq(findings.n_of[EVBUS_FINDING_NOTE], 1u);
    says(&findings, "no keeper");
    says(&findings, "EVBUS_KEEPER_NEVER");
    fixture_end(&f);
}

struct attached {
    struct fixture f;
    _Atomic int *ready;
};

static int attach_and_wait(void *context)
{
    struct attached *attached = context;
    struct evbus *bus = fixture_open(&attached->f, "standing", EVBUS_KEEPER_NEVER);
    if (fixture_publish(bus, NULL, "1") != EVBUS_OK)
        return 1;
    atomic_store(attached->ready, 1);
    await_that(false);
    return 0;
}

Test(doctor, a_stopped_thread_is_a_problem_until_it_goes_on)
{
    struct attached attached = {.f = kept((struct fixture_options){0}), .ready = child_shared(sizeof(int))};
    struct child child = child_start(attach_and_wait, &attached);
    char who[64];
    cr_assert(await_that(atomic_load(attached.ready) == 1));
    examine(attached.f.bus, EVBUS_OK);
    child_stop(&child);
    struct findings findings = examine(attached.f.bus, EVBUS_ENOTFOUND);
    cr_expect_eq(findings.n_of[EVBUS_FINDING_PROBLEM], 1u, "%s", findings.text);
    snprintf(who, sizeof who, "process %d (standing) is stopped", (int)child.pid);
    says(&findings, who);
    says(&findings, "kill -CONT");
    child_continue(&child);
    struct findings again = {0};
    cr_expect(await_that((again = (struct findings){0}, evbus_doctor(attached.f.bus, collect, &again)) == EVBUS_OK),
              "%s", again.text);
    child_kill(&child);
    fixture_end(&attached.f);
}

Test(doctor, a_dead_thread_that_nobody_has_buried_is_a_warning)
{
    struct attached attached = {.f = fixture_make((struct fixture_options){0}), .ready = child_shared(sizeof(int))};
    struct child child = child_start(attach_and_wait, &attached);
    char who[64];
    cr_assert(await_that(atomic_load(attached.ready) == 1));
    child_kill(&child);
    struct findings findings = examine(attached.f.bus, EVBUS_ENOTFOUND);
    cr_expect_eq(findings.n_of[EVBUS_FINDING_WARNING], 1u, "%s", findings.text);
    snprintf(who, sizeof who, "process %d (standing) is dead", (int)child.pid);
    says(&findings, who);
    struct evbus *sweeper = fixture_open(&attached.f, "sweeper", EVBUS_KEEPER_NEVER); /* who opens buries */
    examine(attached.f.bus, EVBUS_OK);
    evbus_close(sweeper);
    fixture_end(&attached.f);
}

Test(doctor, a_reader_that_holds_a_ring_nearly_full_is_a_warning)
{
    struct fixture f = kept((struct fixture_options){.ring = "4KiB"});
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_open(&reader, f.bus, &(struct evbus_reader_options){.pin = true}), EVBUS_OK);
    publish_some(f.bus, 10);
    examine(f.bus, EVBUS_OK);
    publish_some(f.bus, 15); /* 50 of 64 cells and more */
    struct findings findings = examine(f.bus, EVBUS_ENOTFOUND);
    cr_expect_eq(findings.n_of[EVBUS_FINDING_WARNING], 1u, "%s", findings.text);
    says(&findings, "test.a/0");
    struct evbus_stat stat = {.size = sizeof stat};
    char holds[64];
    cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
    const struct evbus_partition_stat *row = &stat.partitions[0];
    cr_expect_geq(row->tail - row->low, 50u);
    snprintf(holds, sizeof holds, "a reader that pins holds %u%% of the ring",
             (unsigned)((row->tail - row->low) * 100 / row->capacity));
    says(&findings, holds);
    says(&findings, "read on, or close it");
    while (evbus_reader_next(reader, &got, 0) == EVBUS_OK) {
    }
    examine(f.bus, EVBUS_OK);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(doctor, words_and_headers_that_no_evbus_wrote_are_problems)
{
    static const struct {
        const char *label, *says;
        enum { WORD_LENGTH, WORD_LAP, WORD_STATE, HEADER_POSITION, HEADER_LENGTH, TAIL, TAIL_BEHIND, RELEASED_TO } what;
    } rows[] = {
        {"a length across the end", "no evbus wrote this word", WORD_LENGTH},
        {"a lap that is not yet", "no evbus wrote this word", WORD_LAP},
        {"a claim of nobody", "no evbus wrote this word", WORD_STATE},
        {"another position", "no evbus wrote this header", HEADER_POSITION},
        {"another length", "no evbus wrote this header", HEADER_LENGTH},
        {"a tail from nowhere", "do not fit a ring of 64 cells", TAIL},
        {"a tail behind released", "do not fit a ring of 64 cells", TAIL_BEHIND},
        {"released beyond the tail", "do not fit a ring of 64 cells", RELEASED_TO},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"}); /* no keeper: nobody moves on */
        publish_some(f.bus, 8);
        examine(f.bus, EVBUS_OK);
        struct ring *ring = &f.bus->memory.logs[0].rings[0];
        _Atomic uint64_t *word = &ring->words[0];
        struct frame_header *header = (struct frame_header *)(void *)ring->cells;
        uint64_t lap = ring_lap(ring, 0);
        switch (rows[i].what) {
        case WORD_LENGTH:
            atomic_store(word, word_make(lap, WORD_COMMITTED, 1, 99));
            break;
        case WORD_LAP:
            atomic_store(word, word_make(lap + 1, WORD_COMMITTED, 1, 2));
            break;
        case WORD_STATE:
            atomic_store(word, word_make(lap, WORD_CLAIMED, 0, 2));
            break;
        case HEADER_POSITION:
            header->position = 7;
            break;
        case HEADER_LENGTH:
            header->n_cells = (uint16_t)(header->n_cells + 1);
            break;
        case TAIL:
            atomic_fetch_add(&ring->head->tail, 1000);
            break;
        case TAIL_BEHIND:
            atomic_store(&ring->head->released, RELEASED(64, 1));
            break;
        case RELEASED_TO:
            atomic_store(&ring->head->released, RELEASED(UINT64_C(1) << 40, 1));
            break;
        }
        struct findings findings = examine(f.bus, EVBUS_ENOTFOUND);
        cr_expect_eq(findings.n_of[EVBUS_FINDING_PROBLEM], 1u, "%s: %s", rows[i].label, findings.text);
        says(&findings, rows[i].says);
        says(&findings, "test.a/0");
        says(&findings, "make the bus anew");
        fixture_end(&f);
    }
}

Test(doctor, positions_that_run_out_are_a_warning)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct ring *ring = &f.bus->memory.logs[1].rings[0];
    uint64_t far = ring->limit / 100 * 95 / 64 * 64;
    atomic_store(&ring->head->released, RELEASED(far, 1));
    atomic_store(&ring->head->tail, far);
    struct findings findings = examine(f.bus, EVBUS_ENOTFOUND);
    says(&findings, "test.b/0 has used 9");
    says(&findings, "make a new bus");
    fixture_end(&f);
}

Test(doctor, it_reads_only)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    publish_some(f.bus, 20);
    const struct memory_log *log = &f.bus->memory.logs[0];
    static unsigned char before[1 << 20];
    cr_assert_leq(log->region.len_bytes, sizeof before);
    memcpy(before, log->region.base, log->region.len_bytes);
    examine(f.bus, EVBUS_OK);
    cr_expect_eq(memcmp(before, log->region.base, log->region.len_bytes), 0);
    fixture_end(&f);
}

Test(doctor, what_is_wrong_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct findings findings = {0};
    cr_expect_eq(evbus_doctor(NULL, collect, &findings), EVBUS_EINVAL);
    cr_expect_not_null(strstr(evbus_message(NULL), "the bus is NULL"));
    cr_expect_eq(evbus_doctor(f.bus, NULL, NULL), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(NULL), "each is NULL");
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    cr_expect_eq(evbus_doctor(f.bus, collect, &findings), EVBUS_ESTALE);
    cr_expect_eq(findings.n, 0u);
    fixture_end(&f);
}
