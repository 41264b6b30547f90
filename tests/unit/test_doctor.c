/* test_doctor.c: what evbus_doctor() finds, and that it finds nothing where nothing is. [no tsan]: it forks. */
#include "await.h"
#include "bus.h"
#include "child.h"
#include "clock.h"
#include "fixture.h"
#include "group.h"
#include "hold.h"
#include "pending.h"
#include "slot.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct findings {
    unsigned n, n_of[3];
    char text[65536]; /* "severity what | mend\n" each */
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
    static struct findings findings;
    findings = (struct findings){0};
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

/* [B4] */
Test(doctor, slots_that_are_lost_are_worth_a_note)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct slot *slots = f.bus->memory.control->slots;
    atomic_store(&slots[900].retired, 1);
    atomic_store(&slots[901].retired, 1);
    struct findings findings = examine(f.bus, EVBUS_OK);
    says(&findings, "2 of 1023 slots are retired");
    for (int i = 1; i <= 930; i++)
        atomic_store(&slots[i].retired, 1);
    findings = examine(f.bus, EVBUS_ENOTFOUND);
    says(&findings, "930 of 1023 slots are taken");
    struct evbus_stat stat = {.size = sizeof stat};
    cr_expect_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
    cr_expect_eq(stat.n_retired, 930u);
    cr_expect_eq(stat.n_slots, 0u);
    fixture_end(&f);
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

/* --- threads that do not go on ------------------------------------------------------------------------------------------- */

/* What a child is and does until it is killed. */
struct duty {
    struct fixture f;
    enum { KEEPS, IS_MEMBER, CHANGES_GROUPS } what;
    _Atomic int *ready;
};

static int do_duty(void *context)
{
    struct duty *duty = context;
    struct evbus *bus = fixture_open(&duty->f, "dutiful",
                                     duty->what == KEEPS ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub;
    struct bus_thread *thread;
    struct evbus_delivery got = {.size = sizeof got};
    if (fixture_publish(bus, NULL, "1") != EVBUS_OK)
        return 1;
    if (duty->what == IS_MEMBER &&
        (evbus_subscribe(&sub, bus, &(struct evbus_subscribe_options){.group = "mailer"}) != EVBUS_OK ||
         evbus_receive(sub, &got, 10 * CLOCK_NS_PER_S) != EVBUS_OK))
        return 2;
    if (duty->what == CHANGES_GROUPS && (bus_thread(bus, &thread, NULL) != EVBUS_OK ||
                                         group_lock(&bus->memory, thread->claim.slot, true, NULL) != EVBUS_OK))
        return 3;
    if (duty->what == KEEPS && !await_that(hold_slot(&bus->memory.control->seat) != 0))
        return 4;
    atomic_store(duty->ready, 1);
    await_that(false);
    return 0;
}

static const char mailer_catalogue[] =
    "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":2,\"ring\":\"4KiB\"},"
    "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]},\"test.b.one\":{\"groups\":[\"mailer\"]}}}";

static struct child start_duty(struct duty *duty)
{
    duty->ready = child_shared(sizeof(int));
    struct child child = child_start(do_duty, duty);
    cr_assert(await_that(atomic_load(duty->ready) == 1));
    return child;
}

Test(doctor, a_stopped_keeper_is_named_as_such)
{
    struct duty duty = {.f = fixture_make((struct fixture_options){0}), .what = KEEPS};
    struct child child = start_duty(&duty);
    char who[64];
    examine(duty.f.bus, EVBUS_OK);
    child_stop(&child);
    struct findings findings = examine(duty.f.bus, EVBUS_ENOTFOUND);
    snprintf(who, sizeof who, "process %d (dutiful) is stopped; it is the keeper", (int)child.pid);
    says(&findings, who);
    snprintf(who, sizeof who, "kill -CONT %d; or end it: kill -KILL %d", (int)child.pid, (int)child.pid);
    says(&findings, who);
    child_kill(&child);
    fixture_end(&duty.f);
}

Test(doctor, a_stopped_member_is_named_with_the_partitions_that_it_holds)
{
    struct duty duty = {.f = fixture_make((struct fixture_options){.catalogue = mailer_catalogue}), .what = IS_MEMBER};
    struct child child = start_duty(&duty);
    examine(duty.f.bus, EVBUS_OK);
    child_stop(&child);
    struct findings findings = examine(duty.f.bus, EVBUS_ENOTFOUND);
    says(&findings,
         "(dutiful) is stopped; it holds 4 partitions of group mailer (test.a/0 test.a/1 test.b/0 test.b/1), where ");
    says(&findings, " cells or events wait, and made its last round 0 s ago");
    cr_expect_eq(findings.n_of[EVBUS_FINDING_PROBLEM], 1u, "%s", findings.text);
    struct group_entry *entry = &duty.f.bus->memory.control->groups[0];
    atomic_fetch_sub(&entry->members[0].progress_ns, 90 * CLOCK_NS_PER_S); /* it is long stopped */
    findings = examine(duty.f.bus, EVBUS_ENOTFOUND);
    says(&findings, "made its last round 9");
    cr_expect_null(strstr(findings.text, "has made no round"), "once is enough: %s", findings.text);
    child_kill(&child);
    fixture_end(&duty.f);
}

/* Its process's number is another one's here: nobody is told to kill that. */
Test(doctor, a_member_of_another_pid_namespace_that_makes_no_rounds_is_named_with_its_namespace)
{
    struct duty duty = {.f = fixture_make((struct fixture_options){.catalogue = mailer_catalogue}), .what = IS_MEMBER};
    struct child child = start_duty(&duty);
    struct memory *memory = &duty.f.bus->memory;
    char where[64];
    child_stop(&child);
    for (uint32_t i = 1; i <= SLOTS_MAX; i++)
        if (atomic_load(&memory->control->slots[i].pid) == child.pid) {
            uint64_t ns = atomic_fetch_add(&memory->control->slots[i].pid_ns, 1) + 1;
            snprintf(where, sizeof where, "pid:[%" PRIu64 "]", ns);
        }
    atomic_fetch_sub(&memory->control->groups[0].members[0].progress_ns, 90 * CLOCK_NS_PER_S);
    cr_assert_eq(fixture_publish(duty.f.bus, NULL, "1"), EVBUS_OK);
    struct findings findings = examine(duty.f.bus, EVBUS_ENOTFOUND);
    says(&findings, "has made no round for 9");
    says(&findings, where);
    cr_expect_null(strstr(findings.text, "kill"), "%s", findings.text);
    child_kill(&child);
    fixture_end(&duty.f);
}

Test(doctor, who_is_stopped_while_it_changes_groups_is_named)
{
    struct duty duty = {.f = fixture_make((struct fixture_options){0}), .what = CHANGES_GROUPS};
    struct child child = start_duty(&duty);
    examine(duty.f.bus, EVBUS_OK);
    child_stop(&child);
    struct findings findings = examine(duty.f.bus, EVBUS_ENOTFOUND);
    says(&findings, "(dutiful) is stopped; it is changing groups or the catalogue");
    child_kill(&child);
    fixture_end(&duty.f);
}

Test(doctor, who_is_held_by_a_debugger_is_named)
{
    struct attached attached = {.f = kept((struct fixture_options){0}), .ready = child_shared(sizeof(int))};
    struct child child = child_start(attach_and_wait, &attached);
    cr_assert(await_that(atomic_load(attached.ready) == 1));
    cr_assert_eq(ptrace(PTRACE_ATTACH, child.pid, NULL, NULL), 0);
    cr_assert_eq(waitpid(child.pid, NULL, __WALL), child.pid);
    struct findings findings = examine(attached.f.bus, EVBUS_ENOTFOUND);
    says(&findings, "(standing) is stopped by a debugger");
    says(&findings, "let its debugger go on or detach");
    cr_assert_eq(ptrace(PTRACE_DETACH, child.pid, NULL, NULL), 0);
    child_kill(&child);
    fixture_end(&attached.f);
}

static bool write_text(const char *dir, const char *file, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    FILE *to = fopen(path, "we");
    if (to == NULL)
        return false;
    bool written = fputs(text, to) >= 0;
    return fclose(to) == 0 && written;
}

Test(doctor, who_is_frozen_is_named)
{
    char dir[96];
    char pid[16];
    snprintf(dir, sizeof dir, "/sys/fs/cgroup/freezer/evbus-test-%d", (int)getpid());
    if (mkdir(dir, 0700) != 0)
        cr_skip_test("who_is_frozen_is_named: no freezer of cgroup v1 that we may use");
    struct attached attached = {.f = kept((struct fixture_options){0}), .ready = child_shared(sizeof(int))};
    struct child child = child_start(attach_and_wait, &attached);
    snprintf(pid, sizeof pid, "%d", (int)child.pid);
    cr_assert(await_that(atomic_load(attached.ready) == 1));
    cr_assert(write_text(dir, "cgroup.procs", pid));
    examine(attached.f.bus, EVBUS_OK);
    cr_assert(write_text(dir, "freezer.state", "FROZEN"));
    static struct findings findings;
    await_that((findings = (struct findings){0}, evbus_doctor(attached.f.bus, collect, &findings)) == EVBUS_ENOTFOUND);
    says(&findings, "(standing) is stopped by the cgroup freezer");
    says(&findings, "docker unpause");
    cr_expect(write_text(dir, "freezer.state", "THAWED"));
    child_kill(&child);
    cr_expect(await_that(rmdir(dir) == 0));
    fixture_end(&attached.f);
}

/* Its number is another thread's here. */
Test(doctor, a_thread_of_another_pid_namespace_is_not_looked_up_by_its_number)
{
    struct attached attached = {.f = kept((struct fixture_options){0}), .ready = child_shared(sizeof(int))};
    struct child child = child_start(attach_and_wait, &attached);
    cr_assert(await_that(atomic_load(attached.ready) == 1));
    child_stop(&child);
    struct slot *slots = attached.f.bus->memory.control->slots;
    examine(attached.f.bus, EVBUS_ENOTFOUND);
    for (uint32_t i = 1; i <= SLOTS_MAX; i++)
        if (atomic_load(&slots[i].pid) == child.pid)
            atomic_fetch_add(&slots[i].pid_ns, 1);
    examine(attached.f.bus, EVBUS_OK);
    child_kill(&child);
    fixture_end(&attached.f);
}

/* --- groups ---------------------------------------------------------------------------------------------------------------- */

static struct evbus_subscription *join(struct evbus *bus, const char *const *patterns, size_t n)
{
    struct evbus_subscription *sub = NULL;
    int rc = evbus_subscribe(
        &sub, bus, &(struct evbus_subscribe_options){.group = "mailer", .patterns = patterns, .n_patterns = n});
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(bus));
    return sub;
}

Test(doctor, a_group_that_nobody_takes_for_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = mailer_catalogue});
    struct findings findings = examine(f.bus, EVBUS_OK);
    cr_expect_eq(findings.n, 1u, "nothing waits, so only the keeper is missing: %s", findings.text);
    publish_some(f.bus, 1);
    findings = examine(f.bus, EVBUS_OK);
    /* an event's 2 cells, and 3 of its publisher's name */
    says(&findings, "0 group mailer has no living member, and 5 cells or events wait");
    says(&findings, " group rm mailer");
    struct evbus_subscription *sub = join(f.bus, NULL, 0);
    findings = examine(f.bus, EVBUS_OK);
    cr_expect_null(strstr(findings.text, "mailer"), "%s", findings.text);
    evbus_unsubscribe(sub);
    findings = examine(f.bus, EVBUS_ENOTFOUND);
    says(&findings, "1 group mailer has no living member any more, and 5 cells or events wait");
    says(&findings, "consume mailer");
    fixture_end(&f);
}

Test(doctor, a_log_that_no_member_takes_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = mailer_catalogue});
    static const char *const patterns[] = {"test.b.*"};
    struct evbus_subscription *sub = join(f.bus, patterns, 1);
    examine(f.bus, EVBUS_OK);
    publish_some(f.bus, 1);
    struct findings findings = examine(f.bus, EVBUS_ENOTFOUND);
    says(&findings, "1 group mailer: none of its 1 members takes log test.a, where 5 cells or events wait");
    says(&findings, "consume mailer");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(doctor, a_dead_member_takes_nothing)
{
    struct duty duty = {.f = fixture_make((struct fixture_options){.catalogue = mailer_catalogue}), .what = IS_MEMBER};
    static const char *const patterns[] = {"test.b.*"};
    struct child child = start_duty(&duty);
    struct evbus_subscription *sub = join(duty.f.bus, patterns, 1);
    examine(duty.f.bus, EVBUS_OK);
    child_kill(&child); /* nobody keeps the bus: it is not buried */
    struct findings findings = examine(duty.f.bus, EVBUS_ENOTFOUND);
    says(&findings, "(dutiful) is dead and not buried yet");
    says(&findings, "group mailer: none of its 1 members takes log test.a, where ");
    evbus_unsubscribe(sub);
    fixture_end(&duty.f);
}

Test(doctor, a_member_that_makes_no_rounds_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = mailer_catalogue});
    struct evbus_subscription *sub = join(f.bus, NULL, 0);
    struct evbus_delivery got = {.size = sizeof got};
    publish_some(f.bus, 1);
    cr_assert_eq(evbus_receive(sub, &got, 10 * CLOCK_NS_PER_S), EVBUS_OK);
    examine(f.bus, EVBUS_OK);
    struct member *member = &f.bus->memory.control->groups[0].members[0];
    atomic_fetch_sub(&member->progress_ns, 40 * CLOCK_NS_PER_S);
    struct findings findings = examine(f.bus, EVBUS_ENOTFOUND);
    char who[64];
    snprintf(who, sizeof who, "its member tester (process %d) has made no round for 4", (int)getpid());
    says(&findings, who);
    snprintf(who, sizeof who, "gdb -p %d", (int)getpid());
    says(&findings, who);
    cr_assert_eq(evbus_finish(sub, &got, EVBUS_DONE, NULL), EVBUS_OK);
    examine(f.bus, EVBUS_OK); /* nothing waits for it */
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(doctor, dead_letters_are_worth_a_note_and_those_that_are_not_written_a_warning)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = mailer_catalogue});
    struct evbus_subscription *sub = join(f.bus, NULL, 0);
    struct evbus_delivery got = {.size = sizeof got};
    publish_some(f.bus, 2);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(evbus_receive(sub, &got, 10 * CLOCK_NS_PER_S), EVBUS_OK);
        cr_assert_eq(evbus_finish(sub, &got, EVBUS_REJECT, "no"), EVBUS_OK);
    }
    struct findings findings = examine(f.bus,
                                       EVBUS_ENOTFOUND); /* the last one is not written before the member's next look */
    says(&findings, "1 group mailer: 1 spent events still wait for their dead letters to be written");
    evbus_receive(sub, &got, 0);
    findings = examine(f.bus, EVBUS_OK);
    says(&findings, "0 group mailer: 2 dead letters are open");
    says(&findings, "dlq ls --group mailer");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

/* --- places that run out ---------------------------------------------------------------------------------------------------- */

Test(doctor, places_that_run_out_are_named_before_they_have)
{
    static const struct {
        const char *label;
        uint32_t max;
        const char *says, *mend;
    } rows[] = {
        {"slots", SLOTS_MAX, " of 1023 slots are taken", "publish and read from fewer threads"},
        {"groups", GROUPS_MAX, " of 64 groups are there", "group rm GROUP"},
        {"members", MEMBERS_MAX, "group mailer: %u of 64 members are there", "group show mailer"},
        {"topics", TOPICS_MAX, "log test.a: %u of 256 topics are there", "another second segment"},
        {"sleepers", SLEEPERS_MAX, "log test.a: %u of 512 sleepers' places are taken", "read it from fewer threads"},
        {"pins", PINS_MAX, "log test.a: %u of 32 pins are taken", "close readers that pin"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fixture f = fixture_make((struct fixture_options){.catalogue = mailer_catalogue});
        publish_some(f.bus, 1); /* our slot, which all of them will name */
        struct control *control = f.bus->memory.control;
        struct log_head *head = f.bus->memory.logs[0].head;
        uint32_t few = rows[i].max * 9 / 10;
        for (uint32_t n = few; n <= few + 1; n++) {
            for (uint32_t k = 1; k <= n; k++) {
                int32_t tid = 77777;
                switch (i) {
                case 0:
                    memcpy(&control->slots[k].mutex, &tid, sizeof tid);
                    atomic_store(&control->slots[k].pid_ns, 0);
                    atomic_store(&control->slots[k].tid, tid);
                    break;
                case 1:
                    atomic_store(&control->groups[k - 1].state, GROUP_LIVE);
                    break;
                case 2:
                    atomic_store(&control->groups[0].members[k - 1].owner, PIN_OWNER(k, 1));
                    atomic_store(&control->groups[0].members[k - 1].logs, UINT64_MAX);
                    break;
                case 3:
                    atomic_store(&head->n_topics, n);
                    break;
                case 4:
                    atomic_store(&head->sleepers[k - 1].slot, 1);
                    break;
                case 5:
                    atomic_store(&head->pin_owners[k - 1], PIN_OWNER(k, 1));
                    break;
                }
            }
            struct findings findings = examine(f.bus, n > few ? EVBUS_ENOTFOUND : EVBUS_OK);
            char what[128];
            snprintf(what, sizeof what, rows[i].says, n);
            if (n > few) {
                cr_expect_eq(findings.n_of[EVBUS_FINDING_WARNING], 1u, "%s: %s", rows[i].label, findings.text);
                says(&findings, what);
                says(&findings, rows[i].mend);
            }
        }
        fixture_end(&f);
    }
}

Test(doctor, logs_that_run_out_are_named)
{
    static char text[8192];
    for (unsigned n = 54; n <= 55; n++) { /* and the bus's own three */
        size_t len = (size_t)snprintf(
            text, sizeof text,
            "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":1,"
            "\"ring\":\"4KiB\"},\"topics\":{");
        for (unsigned i = 0; i < n; i++)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s\"test.l%u.one\":{}", i > 0 ? "," : "", i);
        snprintf(text + len, sizeof text - len, "}}");
        struct fixture f = fixture_make((struct fixture_options){.catalogue = text});
        struct findings findings = examine(f.bus, n == 54 ? EVBUS_OK : EVBUS_ENOTFOUND);
        if (n == 55)
            says(&findings, "58 of 64 logs are there");
        fixture_end(&f);
    }
}

/* --- rings that are full ------------------------------------------------------------------------------------------------------ */

Test(doctor, who_fills_a_ring_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = mailer_catalogue});
    struct evbus_reader *reader;
    char who[96];
    cr_assert_eq(evbus_reader_open(&reader, f.bus, &(struct evbus_reader_options){.pin = true}), EVBUS_OK);
    int rc;
    do
        rc = evbus_publish(f.bus, &(struct evbus_event){.topic = "test.a.one", .key = "k", .payload = "1"}, NULL);
    while (rc == EVBUS_OK);
    cr_assert_eq(rc, EVBUS_EFULL);
    struct findings findings = examine(f.bus, EVBUS_ENOTFOUND);
    cr_expect_eq(findings.n_of[EVBUS_FINDING_PROBLEM], 2u, "%s", findings.text);
    says(&findings, "a reader that pins holds ");
    snprintf(who, sizeof who, "process %d, tester); it is full, producers get EVBUS_EFULL", (int)getpid());
    says(&findings, who);
    says(&findings, "group mailer, with 0 members, holds ");
    says(&findings, "of the ring; it is full, producers get EVBUS_EFULL");
    says(&findings, "consume mailer");
    evbus_reader_close(reader);
    fixture_end(&f);
}

static int claim_and_wait(void *context)
{
    struct attached *attached = context;
    struct evbus *bus = fixture_open(&attached->f, "claiming", EVBUS_KEEPER_NEVER);
    struct bus_thread *thread;
    if (bus_thread(bus, &thread, NULL) != EVBUS_OK ||
        ring_claim(&bus->memory.logs[0].rings[0], 2, &thread->claim, NULL) != EVBUS_OK)
        return 1;
    atomic_store(attached->ready, 1);
    await_that(false);
    return 0;
}

Test(doctor, a_stopped_claim_is_named_while_the_others_go_on)
{
    struct attached attached = {.f = kept((struct fixture_options){.ring = "4KiB"}),
                                .ready = child_shared(sizeof(int))};
    struct child child = child_start(claim_and_wait, &attached);
    char who[64];
    cr_assert(await_that(atomic_load(attached.ready) == 1));
    child_stop(&child);
    snprintf(who, sizeof who, "of process %d (claiming), ", (int)child.pid);
    struct findings findings = examine(attached.f.bus, EVBUS_ENOTFOUND);
    says(&findings, who);
    says(&findings, "waits for its writer");
    for (int i = 0; i < 100; i++)
        cr_assert_eq(fixture_publish(attached.f.bus, NULL, "1"), EVBUS_OK);
    findings = examine(attached.f.bus, EVBUS_ENOTFOUND);
    says(&findings, who);
    says(&findings, "is fenced off until its writer goes on");
    child_kill(&child);
    fixture_end(&attached.f);
}

/* --- its objects ---------------------------------------------------------------------------------------------------------------- */

Test(doctor, a_name_that_is_gone_is_a_problem)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    char name[256];
    region_name(f.name, "test.b", name);
    cr_assert_eq(shm_unlink(name), 0);
    struct findings findings = examine(f.bus, EVBUS_ENOTFOUND);
    cr_expect_eq(findings.n_of[EVBUS_FINDING_PROBLEM], 1u, "%s", findings.text);
    says(&findings, "test.b is gone from /dev/shm");
    region_name(f.name, "control", name);
    cr_assert_eq(shm_unlink(name), 0);
    findings = examine(f.bus, EVBUS_ENOTFOUND);
    cr_expect_eq(findings.n_of[EVBUS_FINDING_PROBLEM], 2u, "%s", findings.text);
    says(&findings, "its name is gone from /dev/shm");
    says(&findings, "end its services, then: evbus -b ");
    fixture_end(&f);
}

Test(doctor, a_damaged_catalogue_is_a_problem)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct control *control = f.bus->memory.control;
    char before = control->catalogue[1][20];
    control->catalogue[1][20] = '}';
    struct findings findings = examine(f.bus, EVBUS_ENOTFOUND);
    cr_expect_eq(findings.n_of[EVBUS_FINDING_PROBLEM], 1u, "%s", findings.text);
    says(&findings, "the catalogue in memory is damaged");
    says(&findings, "init --catalogue FILE");
    control->catalogue[1][20] = before;
    examine(f.bus, EVBUS_OK);
    atomic_store(&control->catalogue_len[1], 1 << 30);
    findings = examine(f.bus, EVBUS_ENOTFOUND);
    says(&findings, "the catalogue in memory is damaged");
    fixture_end(&f);
}

/* In a mount namespace of its own: 0: as it should be; else the number of what is not. */
static int fill_shm(void *context)
{
    struct fixture f;
    static struct findings findings;
    (void)context;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=8m") != 0)
        return 77;
    f = fixture_make((struct fixture_options){0});
    evbus_doctor(f.bus, collect, &findings);
    int wrong = strstr(findings.text, "KiB left") != NULL ? 1 : 0;
    int fd = shm_open("/filler", O_RDWR | O_CREAT, 0600);
    off_t len = 0;
    while (posix_fallocate(fd, len, 65536) == 0)
        len += 65536;
    findings = (struct findings){0};
    if (evbus_doctor(f.bus, collect, &findings) != EVBUS_OK) /* worth a note: the bus has what it needs */
        wrong = 2;
    if (strstr(findings.text, "of 8192 KiB left") == NULL || strstr(findings.text, "--shm-size") == NULL)
        wrong = 3;
    fixture_end(&f);
    return wrong;
}

Test(doctor, a_full_tmpfs_is_worth_a_note)
{
    struct child child = child_start(fill_shm, NULL);
    int status = child_join(&child);
    if (status == 77)
        cr_skip_test("a_full_tmpfs_is_worth_a_note: we may not mount a tmpfs of our own");
    cr_expect_eq(status, 0);
}

Test(doctor, a_clock_that_jumped_is_no_finding)
{
    struct fixture f = kept((struct fixture_options){.catalogue = mailer_catalogue});
    struct evbus_subscription *sub = join(f.bus, NULL, 0);
    static const int64_t years[] = {-1, 1, 100};
    struct control *control = f.bus->memory.control;
    uint64_t created = control->created_ns;
    for (size_t i = 0; i < sizeof years / sizeof years[0]; i++) {
        uint64_t jumped = created + (uint64_t)(years[i] * 365 * 86400) * CLOCK_NS_PER_S;
        control->created_ns = jumped;
        for (uint32_t k = 1; k <= SLOTS_MAX; k++)
            atomic_store(&control->slots[k].since_ns, jumped);
        struct evbus_event event = {.topic = "test.b.one", .payload = "1", .timestamp_ns = jumped};
        cr_assert_eq(evbus_publish(f.bus, &event, NULL), EVBUS_OK);
        struct findings findings = examine(f.bus, EVBUS_OK);
        cr_expect_eq(findings.n, 0u, "%s", findings.text);
    }
    evbus_unsubscribe(sub);
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
