/* test_stat.c: a bus in numbers, each of which is right. [no tsan]: it forks. */
#include "await.h"
#include "bus.h"
#include "child.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define S UINT64_C(1000000000)

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * S + (uint64_t)now.tv_nsec;
}

static struct evbus_stat stat_of(struct evbus *bus)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(bus, &stat), EVBUS_OK, "%s", evbus_message(bus));
    return stat;
}

Test(stat, an_idle_bus_is_told_as_it_was_made)
{
    uint64_t before = wall_ns();
    struct fixture f = fixture_make((struct fixture_options){.partitions = 3});
    struct evbus_stat stat = stat_of(f.bus);
    cr_expect_eq(stat.size, sizeof stat);
    cr_expect_str_eq(stat.bus, f.name);
    cr_expect_eq(stat.uuid[6] >> 4, 4, "a uuid of version 4");
    cr_expect(before <= stat.created_ns && stat.created_ns <= wall_ns());
    cr_expect_eq(stat.n_logs, 5u, "the catalogue's and its own: dead letters, notes, replays");
    cr_expect_eq(stat.n_topics, 4u, "and the notes; dead letters and replays have none without a group");
    cr_expect_eq(stat.n_slots, 0u);
    cr_expect_eq(stat.n_processes, 0u);
    cr_expect_eq(stat.keeper_slot, 0u);
    cr_expect_eq(stat.burials, 0u);
    uint64_t bytes = 0;
    const char *text;
    size_t len;
    cr_assert_eq(evbus_catalogue_text(f.bus, &text, &len), EVBUS_OK);
    cr_assert_eq(evbus_catalogue_check(text, len, &bytes), EVBUS_OK);
    cr_expect_eq(stat.bytes, bytes);
    stat = stat_of(f.bus);
    cr_assert_eq(stat.n_partitions, 9u);
    static const char *const logs[] = {"test.a", "test.a",   "test.a",     "test.b",     "test.b",
                                       "test.b", "test.dlq", "test.evbus", "test.replay"};
    for (size_t i = 0; i < 9; i++) {
        const struct evbus_partition_stat *row = &stat.partitions[i];
        bool is_dlq = i == 6;
        cr_expect_eq(row->size, sizeof *row);
        cr_expect_str_eq(row->log, logs[i]);
        cr_expect_eq(row->partition, i < 6 ? i % 3 : 0);
        cr_expect_eq(row->capacity, 1024u);
        cr_expect(is_dlq || i == 8 ? row->tail == 0 : row->tail > 0, "%s: its names stand in front", logs[i]);
        cr_expect_eq(row->released, 0u);
        cr_expect_eq(row->low, is_dlq ? 0 : UINT64_MAX, "%s", logs[i]);
        cr_expect_eq(row->n_pins, is_dlq ? 1u : 0u, "%s: dead letters are kept", logs[i]);
        cr_expect_eq(row->n_sleepers, 0u);
        cr_expect_eq(row->full + row->cancels + row->buried, 0u);
    }
    fixture_end(&f);
}

Test(stat, tail_and_released_follow_what_is_published)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "1"};
    struct evbus_receipt receipt = {.size = sizeof receipt};
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(evbus_publish(f.bus, &event, &receipt), EVBUS_OK);
        struct evbus_partition_stat row = stat_of(f.bus).partitions[0];
        cr_assert_eq(row.tail, receipt.position + 2, "an event of two cells at %" PRIu64, receipt.position);
        cr_assert(row.released <= row.tail && row.tail - row.released <= row.capacity);
    }
    cr_expect_gt(stat_of(f.bus).partitions[0].released, 0u, "it has gone round");
    cr_expect_eq(stat_of(f.bus).partitions[1].released, 0u, "the other log has not");
    fixture_end(&f);
}

Test(stat, pins_and_their_least_position_are_told)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *readers[2];
    struct evbus_receipt receipts[2] = {{.size = sizeof receipts[0]}, {.size = sizeof receipts[0]}};
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "1"};
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_publish(f.bus, &event, NULL), EVBUS_OK);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(evbus_reader_open(&readers[i], f.bus, &(struct evbus_reader_options){.pin = true}), EVBUS_OK);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(evbus_publish(f.bus, &event, &receipts[i]), EVBUS_OK);
    struct evbus_partition_stat row = stat_of(f.bus).partitions[0];
    cr_expect_eq(row.n_pins, 2u);
    cr_expect_eq(row.low, receipts[0].position);
    cr_assert_eq(evbus_reader_next(readers[0], &got, 0), EVBUS_OK);
    cr_expect_eq(stat_of(f.bus).partitions[0].low, receipts[0].position, "the other still needs it");
    cr_assert_eq(evbus_reader_next(readers[1], &got, 0), EVBUS_OK);
    cr_expect_eq(stat_of(f.bus).partitions[0].low, receipts[1].position);
    evbus_reader_close(readers[1]);
    cr_expect_eq(stat_of(f.bus).partitions[0].n_pins, 1u);
    evbus_reader_close(readers[0]);
    cr_expect_eq(stat_of(f.bus).partitions[0].low, UINT64_MAX);
    fixture_end(&f);
}

struct sleeper_thread {
    struct evbus *bus;
    int rc;
};

static void *sleep_until_event(void *context)
{
    struct sleeper_thread *self = context;
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    self->rc = evbus_reader_open(&reader, self->bus, NULL);
    if (self->rc == EVBUS_OK) {
        self->rc = evbus_reader_next(reader, &got, 20 * S);
        evbus_reader_close(reader);
    }
    return NULL;
}

Test(stat, sleepers_are_counted)
{
    struct fixture f = fixture_make((struct fixture_options){.wait = EVBUS_WAIT_BLOCK});
    struct sleeper_thread sleepers[3];
    pthread_t threads[3];
    struct evbus_stat stat;
    for (int i = 0; i < 3; i++) {
        sleepers[i] = (struct sleeper_thread){.bus = f.bus};
        pthread_create(&threads[i], NULL, sleep_until_event, &sleepers[i]);
    }
    cr_expect(await_that((stat = stat_of(f.bus)).partitions[0].n_sleepers == 3 && stat.partitions[1].n_sleepers == 3));
    cr_expect_eq(stat.partitions[2].n_sleepers + stat.partitions[3].n_sleepers, 0u, "nobody asked for the bus's own");
    cr_expect_eq(stat.n_slots, 3u);
    cr_assert_eq(fixture_publish(f.bus, NULL, "1"), EVBUS_OK);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(sleepers[i].rc, EVBUS_OK);
    }
    cr_expect_eq(stat_of(f.bus).partitions[0].n_sleepers, 0u);
    fixture_end(&f);
}

struct attached {
    struct fixture f;
    _Atomic int *ready;
};

static int attach_and_wait(void *context)
{
    struct attached *attached = context;
    struct evbus *bus = fixture_open(&attached->f, "child", EVBUS_KEEPER_NEVER);
    if (fixture_publish(bus, NULL, "1") != EVBUS_OK)
        return 1;
    atomic_store(attached->ready, 1);
    await_that(atomic_load(attached->ready) == 2);
    return 0;
}

Test(stat, every_attached_thread_is_told_with_its_service_and_process)
{
    struct attached attached = {.f = fixture_make((struct fixture_options){0}), .ready = child_shared(sizeof(int))};
    uint64_t before = wall_ns();
    cr_assert_eq(fixture_publish(attached.f.bus, NULL, "1"), EVBUS_OK);
    struct child child = child_start(attach_and_wait, &attached);
    cr_assert(await_that(atomic_load(attached.ready) == 1));
    struct evbus_stat stat = stat_of(attached.f.bus);
    cr_assert_eq(stat.n_slots, 2u);
    cr_expect_eq(stat.n_processes, 2u);
    const struct evbus_slot_stat *ours = &stat.slots[0], *its = &stat.slots[1];
    cr_expect_eq(ours->size, sizeof *ours);
    cr_expect(1 <= ours->slot && ours->slot < its->slot && its->slot <= 1023);
    cr_expect_str_eq(ours->service, "tester");
    cr_expect_eq(ours->pid, getpid());
    cr_expect_eq(ours->tid, (int32_t)syscall(SYS_gettid));
    cr_expect_str_eq(its->service, "child");
    cr_expect_eq(its->pid, child.pid);
    cr_expect_eq(its->tid, child.pid);
    cr_expect(before <= its->since_ns && its->since_ns <= wall_ns());
    cr_expect_eq(its->cancels, 0u);
    cr_expect_not(its->is_dead);
    cr_expect_not(its->is_keeper);
    child_kill(&child);
    stat = stat_of(attached.f.bus);
    cr_assert_eq(stat.n_slots, 2u, "nobody has buried it: there is no keeper");
    cr_expect(stat.slots[1].is_dead);
    cr_expect_eq(stat.n_processes, 1u, "the dead are not attached");
    cr_expect_eq(stat.burials, 0u);
    struct evbus *keeper = fixture_open(&attached.f, "keeper", EVBUS_KEEPER_VOLUNTEER);
    cr_expect(await_that((stat = stat_of(attached.f.bus)).burials == 1 && stat.keeper_slot != 0));
    cr_expect_eq(stat.keeper_pid, getpid());
    cr_expect_str_eq(stat.keeper_service, "keeper");
    unsigned n_keepers = 0;
    for (uint32_t i = 0; i < stat.n_slots; i++) {
        cr_expect_not(stat.slots[i].is_dead);
        n_keepers += stat.slots[i].is_keeper;
        cr_expect_eq(stat.slots[i].is_keeper, stat.slots[i].slot == stat.keeper_slot);
    }
    cr_expect_eq(n_keepers, 1u);
    evbus_close(keeper);
    cr_expect_eq(stat_of(attached.f.bus).keeper_slot, 0u);
    fixture_end(&attached.f);
}

Test(stat, what_a_snapshot_gives_lives_until_the_next_call)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_stat first = stat_of(f.bus);
    cr_assert_eq(fixture_publish(f.bus, NULL, "1"), EVBUS_OK);
    cr_expect_eq(first.n_slots, 0u);
    cr_expect_str_eq(first.partitions[1].log, "test.b", "still there");
    struct evbus_stat second = stat_of(f.bus);
    cr_expect_eq(second.n_slots, 1u);
    cr_expect_str_eq(second.slots[0].service, "tester");
    fixture_end(&f);
}

Test(stat, an_older_callers_struct_is_written_as_far_as_it_goes)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_stat stat;
    memset(&stat, 0xaa, sizeof stat);
    stat.size = offsetof(struct evbus_stat, n_slots);
    cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
    cr_expect_eq(stat.n_topics, 4u);
    for (size_t i = offsetof(struct evbus_stat, n_slots); i < sizeof stat; i++)
        cr_assert_eq(((unsigned char *)&stat)[i], 0xaa, "byte %zu was written", i);
    stat.size = 0;
    cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
    cr_expect_eq(stat.n_partitions, 5u);
    fixture_end(&f);
}

Test(stat, what_is_wrong_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_stat stat = {.size = 5000};
    cr_expect_eq(evbus_stat(NULL, &stat), EVBUS_EINVAL);
    cr_expect_not_null(strstr(evbus_message(NULL), "the bus is NULL"));
    cr_expect_eq(evbus_stat(f.bus, NULL), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(NULL), "out_stat is NULL");
    cr_expect_eq(evbus_stat(f.bus, &stat), EVBUS_EINVAL);
    cr_expect_not_null(strstr(evbus_message(NULL), "size"));
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    stat.size = sizeof stat;
    cr_expect_eq(evbus_stat(f.bus, &stat), EVBUS_ESTALE);
    fixture_end(&f);
}
