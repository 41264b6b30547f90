/* test_group.c: who wants which topics, from where: made, found, joined, left, removed, made again.
 * [no tsan] ThreadSanitizer does not know that a dead owner's mutex is taken over. */
#include "group.h"

#include "bus.h"
#include "child.h"
#include "fixture.h"
#include "lease.h"
#include "pending.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define ADMIN   1000 /* a slot that nobody has: whose hold the next one may take */

static uint32_t n_cells_before_full(struct evbus *bus)
{
    uint32_t n = 0;
    while (n < 10000 && evbus_publish(bus, &(struct evbus_event){.topic = "test.a.one", .payload = "1"}, NULL) == 0)
        n++;
    return n;
}

static struct topic_set topics_of(uint32_t first, uint32_t second)
{
    struct topic_set set = {{0}};
    topic_set_add(&set, first);
    if (second != 0)
        topic_set_add(&set, second);
    return set;
}

/* A group of topic 1 of log 0 (test.a.one). */
static int try_make(struct memory *memory, const char *name, enum evbus_from from, uint64_t position, uint32_t *out,
                    struct error *err)
{
    struct topic_set wanted = topics_of(1, 0);
    struct group_plan plan = {
        .name = name, .flags = GROUP_AD_HOC, .wanted = &wanted, .n_logs = 1, .from = from, .position = position};
    cr_assert_eq(group_lock(memory, ADMIN, true, err), EVBUS_OK);
    int rc = group_make(memory, &plan, out, err);
    group_unlock(memory, ADMIN);
    return rc;
}

static uint32_t make(struct memory *memory, const char *name)
{
    struct error err = {""};
    uint32_t group;
    cr_assert_eq(try_make(memory, name, EVBUS_FROM_LATEST, 0, &group, &err), EVBUS_OK, "%s", err.text);
    return group;
}

static void remove_it(struct memory *memory, uint32_t group)
{
    struct error err = {""};
    cr_assert_eq(group_lock(memory, ADMIN, true, &err), EVBUS_OK);
    cr_assert_eq(group_remove(memory, group, &err), EVBUS_OK, "%s", err.text);
    group_unlock(memory, ADMIN);
}

static uint64_t low(const struct memory *memory, uint32_t group)
{
    return LOW_BEHIND(atomic_load(&memory->logs[0].rings[0].head->lows[group_low_index(group)]));
}

Test(group, it_is_found_by_its_whole_name_until_it_is_removed)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory *memory = &f.bus->memory;
    cr_expect_eq(group_find(memory, "mailer"), GROUP_NONE);
    uint32_t mailer = make(memory, "mailer");
    uint32_t audit = make(memory, "audit");
    cr_expect_neq(mailer, audit);
    cr_expect_eq(group_find(memory, "mailer"), mailer);
    cr_expect_eq(group_find(memory, "audit"), audit);
    cr_expect_eq(group_find(memory, "mail"), GROUP_NONE);
    cr_expect_eq(group_find(memory, "mailer2"), GROUP_NONE);
    cr_expect(group_is_live(memory, mailer));
    struct topic_set topics = group_topics(&memory->logs[0], mailer);
    cr_expect(topic_set_has(&topics, 1) && !topic_set_has(&topics, 2));
    topics = group_topics(&memory->logs[1], mailer);
    cr_expect_not(topic_set_has(&topics, 1), "it does not read test.b");
    remove_it(memory, mailer);
    cr_expect_eq(group_find(memory, "mailer"), GROUP_NONE);
    cr_expect_not(group_is_live(memory, mailer));
    cr_expect_eq(group_find(memory, "audit"), audit);
    topics = group_topics(&memory->logs[0], mailer);
    cr_expect_not(topic_set_has(&topics, 1));
    struct error err = {""};
    cr_expect_eq(group_remove(memory, mailer, &err), EVBUS_ENOTFOUND);
    fixture_end(&f);
}

Test(group, a_name_of_63_bytes_is_whole)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    char longest[64];
    memset(longest, 'g', 63);
    longest[63] = '\0';
    uint32_t group = make(&f.bus->memory, longest);
    cr_expect_eq(group_find(&f.bus->memory, longest), group);
    longest[62] = '\0';
    cr_expect_eq(group_find(&f.bus->memory, longest), GROUP_NONE);
    fixture_end(&f);
}

Test(group, one_that_is_there_is_not_made_twice)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct error err = {""};
    uint32_t again = GROUP_NONE;
    uint32_t group = make(&f.bus->memory, "mailer");
    cr_expect_eq(try_make(&f.bus->memory, "mailer", EVBUS_FROM_LATEST, 0, &again, &err), EVBUS_EDUPLICATE);
    cr_expect_eq(again, group);
    cr_expect_not_null(strstr(err.text, "mailer"));
    fixture_end(&f);
}

Test(group, a_bus_has_64_and_a_place_that_was_freed_is_used_again)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory *memory = &f.bus->memory;
    struct error err = {""};
    uint32_t group;
    char name[16];
    for (int i = 0; i < GROUPS_MAX; i++) {
        snprintf(name, sizeof name, "group-%d", i);
        make(memory, name);
    }
    cr_expect_eq(try_make(memory, "one-more", EVBUS_FROM_LATEST, 0, &group, &err), EVBUS_ELIMIT);
    cr_expect_not_null(strstr(err.text, "64"), "%s", err.text);
    uint32_t freed = group_find(memory, "group-17");
    remove_it(memory, freed);
    cr_expect_eq(make(memory, "one-more"), freed);
    for (int i = 0; i < GROUPS_MAX; i++) {
        snprintf(name, sizeof name, "group-%d", i);
        cr_expect_eq(group_find(memory, name) == GROUP_NONE, i == 17, "%s", name);
    }
    fixture_end(&f);
}

/* [guards ORDER] [P11] */
Test(group, what_it_still_needs_is_not_overwritten_until_it_is_removed)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    n_cells_before_full(f.bus); /* nobody needs it: it never gets full */
    uint32_t group = make(&f.bus->memory, "mailer");
    uint64_t start = low(&f.bus->memory, group) - 1;
    uint32_t n = n_cells_before_full(f.bus);
    cr_expect_lt(n, 64u, "%u events in 64 cells", n);
    cr_expect_leq(ring_released(&f.bus->memory.logs[0].rings[0]), start);
    cr_expect_eq(low(&f.bus->memory, group) - 1, start);
    remove_it(&f.bus->memory, group);
    cr_expect_eq(low(&f.bus->memory, group), 0u);
    cr_expect_eq(n_cells_before_full(f.bus), 10000u, "its log is free of it");
    fixture_end(&f);
}

Test(group, it_starts_where_it_is_asked_to)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory *memory = &f.bus->memory;
    uint64_t positions[4];
    for (uint64_t i = 0; i < 4; i++) {
        struct evbus_receipt receipt = {.size = sizeof receipt};
        struct evbus_event event = {.topic = "test.a.one", .payload = "1", .timestamp_ns = 100 * (i + 1)};
        cr_assert_eq(evbus_publish(f.bus, &event, &receipt), EVBUS_OK);
        positions[i] = receipt.position;
    }
    uint64_t tail = ring_tail(&memory->logs[0].rings[0]);
    const struct {
        const char *label;
        enum evbus_from from;
        uint64_t position;
        uint64_t expected;
    } rows[] = {
        {"latest", EVBUS_FROM_LATEST, 0, tail},
        {"latest, whatever the position", EVBUS_FROM_LATEST, 7, tail},
        {"earliest", EVBUS_FROM_EARLIEST, 0, 0},
        {"a position", EVBUS_FROM_POSITION, positions[2], positions[2]},
        {"a position beyond the tail", EVBUS_FROM_POSITION, tail + 1000, tail},
        {"before all times", EVBUS_FROM_TIME, 0, positions[0]},
        {"an event's time", EVBUS_FROM_TIME, 200, positions[1]},
        {"between two", EVBUS_FROM_TIME, 201, positions[2]},
        {"after all", EVBUS_FROM_TIME, 500, tail},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct error err = {""};
        uint32_t group;
        cr_assert_eq(try_make(memory, "mailer", rows[i].from, rows[i].position, &group, &err), EVBUS_OK);
        uint64_t cursor = pending_cursor(memory_part(&memory->logs[0], 0, group));
        cr_expect_eq(cursor, rows[i].expected, "%s: %" PRIu64 " for %" PRIu64, rows[i].label, cursor, rows[i].expected);
        cr_expect_eq(low(memory, group), cursor + 1, "%s: its low", rows[i].label);
        remove_it(memory, group);
    }
    fixture_end(&f);
}

/* [guards ONE-HOLDER] [P3] */
Test(group, one_made_again_in_the_same_place_has_fenced_who_held_the_last)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory *memory = &f.bus->memory;
    struct ring *ring = &memory->logs[0].rings[0];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(fixture_publish(f.bus, "k", "1"), EVBUS_OK);
    uint32_t group = make(memory, "mailer");
    struct group_part *part = memory_part(&memory->logs[0], 0, group);
    uint64_t cursor = pending_cursor(part);
    uint16_t epoch;
    cr_assert(lease_take(part, memory->control->slots, 5, 0, &epoch));
    ring_stamp_low(ring, group_low_index(group), epoch);
    struct pending running = {.pos = cursor - 2, .epoch = epoch, .attempts = 1, .state = PENDING_RUN};
    struct pending empty = {.epoch = epoch};
    cr_assert(pending_step(part, 9, &empty, &running));
    atomic_store(&part->n_done, 3);
    remove_it(memory, group);
    ring_move_low(ring, group_low_index(group), epoch, 1, true);
    cr_expect_eq(low(memory, group), 0u, "a zombie pins nothing for a group that is gone");
    cr_assert_eq(make(memory, "mailer"), group);
    cr_expect_not(lease_is_held(part, epoch, 5));
    cr_expect_eq(lease_holder(part), 0u);
    cr_expect_not(pending_step(part, 9, &running, &empty), "finishing");
    cr_expect_not(pending_step(part, 0, &empty, &running), "taking");
    cr_expect_not(pending_move_cursor(part, epoch, cursor, cursor + 2), "moving on");
    uint64_t before = low(memory, group);
    ring_move_low(ring, group_low_index(group), epoch, cursor + 2, true);
    cr_expect_eq(low(memory, group), before, "letting go");
    lease_give(part, epoch, 5);
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        cr_expect_eq(pending_load(part, i, cursor).state, PENDING_EMPTY, "%u", i);
    cr_expect_eq(atomic_load(&part->n_done), 0u, "it counts from the beginning");
    uint16_t next;
    cr_assert(lease_take(part, memory->control->slots, 6, 0, &next));
    cr_expect_neq(next, epoch);
    fixture_end(&f);
}

Test(group, topics_that_it_lacks_are_added_and_counted_once)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory *memory = &f.bus->memory;
    uint32_t group = make(memory, "mailer");
    for (int i = 0; i < 4; i++)
        cr_assert_eq(evbus_publish(f.bus, &(struct evbus_event){.topic = "test.b.one", .payload = "1"}, NULL), 0);
    struct topic_set wanted[2] = {topics_of(1, 0), {{0}}};
    uint32_t changes = group_changes(memory, group);
    cr_expect_eq(group_add_topics(memory, group, wanted, 2, EVBUS_FROM_LATEST), 0u, "it has them");
    cr_expect_eq(group_changes(memory, group), changes);
    uint64_t cursor = pending_cursor(memory_part(&memory->logs[0], 0, group));
    wanted[0] = topics_of(2, 0);
    wanted[1] = topics_of(1, 0);
    cr_expect_eq(group_add_topics(memory, group, wanted, 2, EVBUS_FROM_LATEST), 1u);
    cr_expect_neq(group_changes(memory, group), changes, "its members hear it");
    struct topic_set topics = group_topics(&memory->logs[0], group);
    cr_expect(topic_set_has(&topics, 1) && topic_set_has(&topics, 2));
    cr_expect_eq(pending_cursor(memory_part(&memory->logs[0], 0, group)), cursor, "where it was it stays");
    cr_expect_eq(pending_cursor(memory_part(&memory->logs[1], 0, group)), ring_tail(&memory->logs[1].rings[0]),
                 "a log that is new to it: from the latest on");
    cr_expect_neq(atomic_load(&memory->logs[1].rings[0].head->lows[group_low_index(group)]), 0u);
    cr_expect_eq(group_add_topics(memory, group, wanted, 2, EVBUS_FROM_LATEST), 0u);
    fixture_end(&f);
}

/* --- the maker dies ------------------------------------------------------------------------------------------------------ */

static int die_making(void *context)
{
    struct evbus *bus = fixture_open(context, "maker", EVBUS_KEEPER_NEVER);
    struct topic_set wanted = topics_of(1, 2);
    struct group_plan plan = {.name = "half", .wanted = &wanted, .n_logs = 1};
    uint32_t group;
    struct bus_thread *thread;
    if (bus_thread(bus, &thread, NULL) != EVBUS_OK ||
        group_lock(&bus->memory, thread->claim.slot, true, NULL) != EVBUS_OK ||
        group_make(&bus->memory, &plan, &group, NULL) != EVBUS_OK)
        return 1;
    atomic_store(&bus->memory.control->groups[group].state, GROUP_MAKING); /* as right before the end */
    return 0;                                                              /* with the hold */
}

Test(group, what_a_dead_maker_left_is_cleared_by_the_next)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct memory *memory = &f.bus->memory;
    uint32_t other = make(memory, "other");
    struct child maker = child_start(die_making, &f);
    cr_assert_eq(child_join(&maker), 0);
    cr_expect_eq(group_find(memory, "half"), GROUP_NONE, "it was never live");
    uint32_t half = other + 1;
    cr_expect_eq(atomic_load(&memory->control->groups[half].state), (uint32_t)GROUP_MAKING);
    struct error err = {""};
    cr_assert_eq(group_lock(memory, ADMIN, true, &err), EVBUS_OK, "%s", err.text);
    group_unlock(memory, ADMIN);
    cr_expect_eq(atomic_load(&memory->control->groups[half].state), (uint32_t)GROUP_FREE);
    cr_expect_eq(low(memory, half), 0u, "it pins nothing");
    struct topic_set topics = group_topics(&memory->logs[0], half);
    cr_expect_not(topic_set_has(&topics, 1) || topic_set_has(&topics, 2));
    cr_expect(group_is_live(memory, other), "the others stay");
    cr_expect_eq(make(memory, "half"), half);
    cr_assert_eq(group_lock(memory, ADMIN, true, &err), EVBUS_OK, "it was let go of");
    group_unlock(memory, ADMIN);
    fixture_end(&f);
}

/* --- members --------------------------------------------------------------------------------------------------------------- */

Test(group, members_join_and_leave_in_their_order)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory *memory = &f.bus->memory;
    uint32_t group = make(memory, "mailer");
    uint32_t slots[MEMBERS_MAX];
    uint32_t members[3];
    uint32_t owners[3];
    struct error err = {""};
    cr_expect_eq(group_members(memory, group, slots), 0u);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t changes = group_changes(memory, group);
        cr_assert_eq(group_join(memory, group, 11 + i, UINT64_MAX, &members[i], &owners[i], &err), EVBUS_OK, "%s",
                     err.text);
        cr_expect_neq(group_changes(memory, group), changes);
    }
    cr_assert_eq(group_members(memory, group, slots), 3u);
    cr_expect(slots[0] == 11 && slots[1] == 12 && slots[2] == 13);
    group_leave(memory, group, members[1], owners[0]);
    cr_expect_eq(group_members(memory, group, slots), 3u, "only he himself leaves");
    group_leave(memory, group, members[1], owners[1]);
    group_leave(memory, group, members[1], owners[1]);
    cr_assert_eq(group_members(memory, group, slots), 2u);
    cr_expect(slots[0] == 11 && slots[1] == 13);
    uint32_t again;
    uint32_t owner;
    cr_assert_eq(group_join(memory, group, 14, 1, &again, &owner, &err), EVBUS_OK);
    cr_expect_eq(again, members[1], "a place that is free");
    cr_expect_eq(atomic_load(&memory->control->groups[group].members[again].logs), 1u);
    fixture_end(&f);
}

Test(group, it_has_64_members_at_most)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory *memory = &f.bus->memory;
    uint32_t group = make(memory, "mailer");
    uint32_t slots[MEMBERS_MAX];
    uint32_t member;
    uint32_t owner;
    struct error err = {""};
    for (uint32_t i = 0; i < MEMBERS_MAX; i++)
        cr_assert_eq(group_join(memory, group, 100 + i, UINT64_MAX, &member, &owner, &err), EVBUS_OK);
    cr_expect_eq(group_join(memory, group, 900, UINT64_MAX, &member, &owner, &err), EVBUS_ELIMIT);
    cr_expect_not_null(strstr(err.text, "mailer"), "%s", err.text);
    cr_expect_eq(group_members(memory, group, slots), (uint32_t)MEMBERS_MAX);
    fixture_end(&f);
}

Test(group, nobody_joins_one_that_is_gone)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory *memory = &f.bus->memory;
    struct error err = {""};
    uint32_t member;
    uint32_t owner;
    uint32_t group = make(memory, "mailer");
    cr_assert_eq(group_join(memory, group, 5, UINT64_MAX, &member, &owner, &err), EVBUS_OK);
    uint32_t changes = group_changes(memory, group);
    remove_it(memory, group);
    cr_expect_neq(group_changes(memory, group), changes, "its members hear it");
    cr_expect_eq(group_join(memory, group, 5, UINT64_MAX, &member, &owner, &err), EVBUS_ENOTFOUND);
    uint32_t slots[MEMBERS_MAX];
    make(memory, "mailer");
    cr_expect_eq(group_members(memory, group, slots), 0u, "members of the last one are none of the next");
    fixture_end(&f);
}

static int join_and_die(void *context)
{
    struct evbus *bus = fixture_open(context, "member", EVBUS_KEEPER_NEVER);
    struct bus_thread *thread;
    uint32_t member;
    uint32_t owner;
    if (bus_thread(bus, &thread, NULL) != EVBUS_OK)
        return 1;
    return group_join(&bus->memory, group_find(&bus->memory, "mailer"), thread->claim.slot, UINT64_MAX, &member, &owner,
                      NULL);
}

Test(group, the_dead_are_no_members)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    uint32_t group = make(&f.bus->memory, "mailer");
    uint32_t slots[MEMBERS_MAX];
    struct child member = child_start(join_and_die, &f);
    cr_assert_eq(child_join(&member), 0);
    cr_expect_eq(group_members(&f.bus->memory, group, slots), 0u, "nobody has buried him, and he does not count");
    fixture_end(&f);
}

/* The same thread may be a member of a group that was removed, and of the one that was made again in its place. */
Test(group, who_leaves_late_leaves_nobody_elses_place)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct memory *memory = &f.bus->memory;
    struct error err = {""};
    uint32_t members[2];
    uint32_t owners[2];
    uint32_t slots[MEMBERS_MAX];
    uint32_t group = make(memory, "mailer");
    cr_assert_eq(group_join(memory, group, 5, UINT64_MAX, &members[0], &owners[0], &err), EVBUS_OK);
    remove_it(memory, group);
    cr_assert_eq(make(memory, "mailer"), group);
    cr_assert_eq(group_join(memory, group, 5, UINT64_MAX, &members[1], &owners[1], &err), EVBUS_OK);
    cr_expect_eq(members[0], members[1]);
    cr_expect_neq(owners[0], owners[1]);
    group_leave(memory, group, members[0], owners[0]);
    cr_expect_eq(group_members(memory, group, slots), 1u);
    group_leave(memory, group, members[1], owners[1]);
    cr_expect_eq(group_members(memory, group, slots), 0u);
    fixture_end(&f);
}
