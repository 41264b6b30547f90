/* test_retention.c: old files of the journal go, and none that somebody still needs. */
#include "archive.h"
#include "clock.h"
#include "partition.h"
#include "retention.h"

#include <criterion/criterion.h>
#include <string.h>

#define DAY_NS (UINT64_C(86400) * CLOCK_NS_PER_S)

/* Five files of 256 KiB, on disk. */
static struct writer *fill(struct archive *archive, const char *topic, const char *log)
{
    struct writer *writer = archive_writer(archive->bus, 1);
    for (unsigned i = 0; ring_tail(archive_ring(archive->bus, log)) < 5 * 4096; i++) {
        cr_assert_eq(archive_publish(archive->bus, topic, i, 2000), EVBUS_OK, "%s", evbus_message(archive->bus));
        archive_look(writer);
    }
    cr_assert_eq(writer_sync_all(writer), WRITER_WROTE);
    return writer;
}

static size_t n_files(const struct archive *archive, const char *log)
{
    struct segment_place place;
    uint64_t *bases;
    size_t n;
    partition_place(&archive->bus->memory, archive_ring(archive->bus, log), &place);
    cr_assert_eq(journal_list(&place, &bases, &n, NULL), EVBUS_OK);
    free(bases);
    return n;
}

static void look(const struct archive *archive, const char *log, uint64_t wall_ns)
{
    struct error err = {""};
    for (uint32_t l = 0; l < memory_n_logs(&archive->bus->memory); l++)
        if (strcmp(archive->bus->memory.logs[l].name, log) == 0)
            cr_assert_eq(retention_look(&archive->bus->memory, &archive->bus->memory.logs[l], 0, wall_ns, &err),
                         EVBUS_OK, "%s", err.text);
}

static void end(struct archive *archive, struct writer *writer)
{
    writer_close(writer);
    evbus_close(archive->bus);
    evbus_remove(archive->name);
}

Test(retention, by_age_removes_whole_files_but_the_last)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = fill(&archive, "test.b.one", "test.b"); /* which no group reads */
    size_t n = n_files(&archive, "test.b");
    cr_assert_geq(n, 5);
    look(&archive, "test.b", clock_wall_ns() + 6 * DAY_NS);
    cr_expect_eq(n_files(&archive, "test.b"), n, "seven days");
    look(&archive, "test.b", clock_wall_ns() + 8 * DAY_NS);
    cr_expect_leq(n_files(&archive, "test.b"), 2, "the last is written to, the one before may still be in the ring");
    cr_expect_geq(ring_oldest(archive_ring(archive.bus, "test.b")), 4 * 4096);
    end(&archive, writer);
}

Test(retention, by_bytes_keeps_the_newest)
{
    struct archive archive = archive_make((struct archive_options){.settings = "\"retention_bytes\":\"600KiB\","});
    struct writer *writer = fill(&archive, "test.b.one", "test.b");
    look(&archive, "test.b", clock_wall_ns());
    cr_expect_eq(n_files(&archive, "test.b"), 3, "two whole ones and the last");
    end(&archive, writer);
}

Test(retention, removes_nothing_that_a_group_has_not_done)
{
    struct archive archive = archive_make((struct archive_options){.settings = "\"retention_bytes\":\"1KiB\","});
    struct writer *writer = fill(&archive, "test.a.one", "test.a");
    size_t n = n_files(&archive, "test.a");
    look(&archive, "test.a", clock_wall_ns() + 400 * DAY_NS);
    cr_expect_eq(n_files(&archive, "test.a"), n, "the group has been absent, and needs all of it");
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    unsigned seq = 0;
    for (uint64_t pos = 0; pos < 2 * 4096 + 100; seq++) {
        struct evbus_delivery event = {.size = sizeof event};
        cr_assert_eq(evbus_receive(sub, &event, 0), EVBUS_OK, "%s", evbus_message(archive.bus));
        pos = event.position;
        cr_assert_eq(archive_seq(event.payload), seq);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
    look(&archive, "test.a", clock_wall_ns());
    cr_expect_eq(n_files(&archive, "test.a"), n - 2);
    cr_expect_eq(ring_oldest(archive_ring(archive.bus, "test.a")), 2 * 4096);
    sub = archive_join(archive.bus, "team");
    struct evbus_delivery event = {.size = sizeof event};
    cr_assert_eq(evbus_receive(sub, &event, 0), EVBUS_OK);
    cr_expect_eq(archive_seq(event.payload), seq, "it goes on where it was");
    evbus_unsubscribe(sub);
    end(&archive, writer);
}

Test(retention, goes_on_where_somebody_died_between_the_word_and_the_files)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = fill(&archive, "test.b.one", "test.b");
    size_t n = n_files(&archive, "test.b");
    atomic_store(&archive_ring(archive.bus, "test.b")->head->oldest, RELEASED(2 * 4096, 0));
    look(&archive, "test.b", clock_wall_ns());
    cr_expect_eq(n_files(&archive, "test.b"), n - 2);
    end(&archive, writer);
}

Test(retention, takes_nothing_under_who_begins_to_need_it)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = fill(&archive, "test.b.one", "test.b");
    struct ring *ring = archive_ring(archive.bus, "test.b");
    size_t n = n_files(&archive, "test.b");
    cr_assert_eq(ring_pin(ring, PINS_MAX + 9, 0), 0); /* as a group that is made now */
    look(&archive, "test.b", clock_wall_ns() + 8 * DAY_NS);
    cr_expect_eq(n_files(&archive, "test.b"), n);
    ring_unpin(ring, PINS_MAX + 9);
    end(&archive, writer);
}
