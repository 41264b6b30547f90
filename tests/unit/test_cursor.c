/* test_cursor.c: reading on: from the ring into the journal's files and back, at the same positions. */
#include "archive.h"
#include "await.h"
#include "clock.h"
#include "group.h"
#include "lease.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct evbus_reader *reader_of(struct evbus *bus, enum evbus_from from)
{
    struct evbus_reader *reader = NULL;
    const char *pattern = "test.a.one";
    cr_assert_eq(evbus_reader_open(&reader, bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = &pattern,
                                                                  .n_patterns = 1,
                                                                  .from = from}),
                 EVBUS_OK, "%s", evbus_message(bus));
    return reader;
}

static void expect(struct evbus_reader *reader, unsigned seq)
{
    struct evbus_delivery delivery = {.size = sizeof delivery};
    cr_assert_eq(evbus_reader_next(reader, &delivery, 5 * CLOCK_NS_PER_S), EVBUS_OK, "%u: %s", seq,
                 evbus_message(NULL));
    cr_assert_eq(archive_seq(delivery.payload), seq);
    cr_assert_eq(delivery.lost, 0);
}

static int next_now(struct evbus_reader *reader)
{
    struct evbus_delivery delivery = {.size = sizeof delivery};
    return evbus_reader_next(reader, &delivery, 0);
}

static void publish(struct archive *archive, struct writer *writer, unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++) {
        cr_assert_eq(archive_publish(archive->bus, "test.a.one", i, 200 + i % 700), EVBUS_OK, "%s",
                     evbus_message(archive->bus));
        if (writer != NULL && i % 4 == 0)
            archive_look(writer);
    }
    if (writer != NULL)
        archive_look(writer);
}

static void end(struct archive *archive, struct writer *writer)
{
    writer_close(writer);
    evbus_close(archive->bus);
    evbus_remove(archive->name);
}

static char *path_of(const struct archive *archive, const char *name, char out[FILE_PATH_MAX])
{
    char file[128];
    snprintf(file, sizeof file, "test.a/0/%s", name);
    file_path(out, archive->bus->memory.state.folder, file);
    return out;
}

Test(cursor, that_is_overtaken_by_many_laps_reads_on_in_the_files_and_comes_back)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct evbus_reader *reader = reader_of(archive.bus, EVBUS_FROM_LATEST);
    unsigned n = 0, read = 0;
    for (int round = 0; round < 3; round++) {
        publish(&archive, writer, n, 400); /* about 12 laps */
        n += 400;
        for (; read < n; read++)
            expect(reader, read);
        publish(&archive, writer, n, 3);
        n += 3;
        for (; read < n; read++)
            expect(reader, read);
    }
    cr_expect_eq(evbus_reader_lost(reader), 0);
    cr_expect_eq(next_now(reader), EVBUS_ETIMEOUT);
    evbus_reader_close(reader);
    cr_expect_eq(archive_read(archive.bus, NULL), n, "who comes later reads all of it, too");
    end(&archive, writer);
}

Test(cursor, holds_no_descriptor_once_it_is_back_in_the_ring)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct evbus_reader *reader = reader_of(archive.bus, EVBUS_FROM_EARLIEST);
    publish(&archive, writer, 0, 400);
    int before = folder_descriptors();
    expect(reader, 0);
    cr_expect_eq(folder_descriptors(), before + 1);
    for (unsigned i = 1; i < 400; i++)
        expect(reader, i);
    cr_expect_eq(next_now(reader), EVBUS_ETIMEOUT);
    cr_expect_eq(folder_descriptors(), before);
    evbus_reader_close(reader);
    end(&archive, writer);
}

Test(cursor, of_a_log_that_shows_what_is_on_disk_sees_nothing_before)
{
    struct archive archive = archive_make((struct archive_options){.settings = "\"visible\":\"synced\","});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct ring *ring = archive_ring(archive.bus, "test.a");
    archive_look(writer);
    struct evbus_reader *reader = reader_of(archive.bus, EVBUS_FROM_EARLIEST);
    publish(&archive, NULL, 0, 3);
    cr_expect_eq(next_now(reader), EVBUS_ETIMEOUT, "it is in memory alone");
    atomic_store(&ring->head->journaled, TERM_WORD(ring_tail(ring), 1));
    cr_expect_eq(next_now(reader), EVBUS_ETIMEOUT, "it is in a file, not on disk");
    atomic_store(&ring->head->journaled, TERM_WORD(ring_synced(ring), 1));
    archive_look(writer);
    for (unsigned i = 0; i < 3; i++)
        expect(reader, i);
    publish(&archive, NULL, 3, 1); /* nothing stands before this one: it would be found by the short way */
    cr_expect_eq(next_now(reader), EVBUS_ETIMEOUT, "it is in memory alone, too");
    evbus_reader_close(reader);
    end(&archive, writer);
}

Test(cursor, tells_a_file_that_it_may_not_read_and_goes_on_when_it_may)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    char path[FILE_PATH_MAX], away[FILE_PATH_MAX + 8];
    publish(&archive, writer, 0, 100);
    snprintf(away, sizeof away, "%s.away", path_of(&archive, "0000000000000000.seg", path));
    cr_assert_eq(rename(path, away), 0);
    cr_assert_eq(mkdir(path, 0700), 0); /* what stands there can be opened, and not be read */
    struct evbus_reader *reader = reader_of(archive.bus, EVBUS_FROM_EARLIEST);
    clock_freeze();
    cr_expect_eq(next_now(reader), EVBUS_EIO);
    cr_expect_not_null(strstr(evbus_message(archive.bus), ".seg: cannot read it"), "%s", evbus_message(archive.bus));
    cr_expect_eq(next_now(reader), EVBUS_ETIMEOUT, "told once a second");
    clock_advance(CLOCK_NS_PER_S);
    cr_expect_eq(next_now(reader), EVBUS_EIO);
    cr_assert_eq(rmdir(path), 0);
    cr_assert_eq(rename(away, path), 0);
    clock_advance(CLOCK_NS_PER_S);
    for (unsigned i = 0; i < 100; i++)
        expect(reader, i);
    clock_release();
    evbus_reader_close(reader);
    end(&archive, writer);
}

Test(cursor, tells_damage_by_position_and_reads_the_rest)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    char path[FILE_PATH_MAX];
    publish(&archive, writer, 0, 400);
    folder_flip(path_of(&archive, "0000000000000000.seg", path), 4096 + 64 * 1000, 4);
    struct evbus_reader *reader = reader_of(archive.bus, EVBUS_FROM_EARLIEST);
    unsigned n_read = 0, n_told = 0;
    for (;;) {
        int rc = next_now(reader);
        if (rc == EVBUS_ETIMEOUT)
            break;
        n_read += rc == EVBUS_OK;
        n_told += rc == EVBUS_ECORRUPT;
        if (rc == EVBUS_ECORRUPT)
            cr_expect_not_null(strstr(evbus_message(archive.bus), "test.a/0 at "), "%s", evbus_message(archive.bus));
    }
    cr_expect_eq(n_told, 1);
    cr_expect_eq(n_read, 399);
    evbus_reader_close(reader);
    end(&archive, writer);
}

Test(cursor, counts_what_was_retired_as_lost)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    char path[FILE_PATH_MAX];
    struct evbus_reader *reader = reader_of(archive.bus, EVBUS_FROM_EARLIEST);
    publish(&archive, writer, 0, 900);
    cr_assert_eq(unlink(path_of(&archive, "0000000000000000.seg", path)), 0);
    struct evbus_delivery delivery = {.size = sizeof delivery};
    cr_assert_eq(evbus_reader_next(reader, &delivery, 0), EVBUS_OK, "%s", evbus_message(archive.bus));
    cr_expect(delivery.position >= 4096 && delivery.position < 4110);
    cr_expect_eq(delivery.lost, 4096);
    evbus_reader_close(reader);
    end(&archive, writer);
}

Test(cursor, from_a_time_begins_with_the_file_of_that_time)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct evbus_reader *reader = NULL;
    const char *pattern = "test.a.one";
    publish(&archive, writer, 0, 900);
    uint64_t then = clock_wall_ns();
    publish(&archive, writer, 900, 900);
    cr_assert_eq(evbus_reader_open(&reader, archive.bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = &pattern,
                                                                  .n_patterns = 1,
                                                                  .from = EVBUS_FROM_TIME,
                                                                  .from_time_ns = then}),
                 EVBUS_OK);
    for (unsigned i = 900; i < 1800; i++)
        expect(reader, i);
    evbus_reader_close(reader);
    end(&archive, writer);
}

/* --- groups ------------------------------------------------------------------------------------------------------------------ */

Test(cursor, of_a_group_that_was_absent_reads_all_of_it_and_holds_up_no_producer)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct evbus_delivery event;
    publish(&archive, writer, 0, 2000);
    cr_expect_eq(atomic_load(&archive_ring(archive.bus, "test.a")->head->full), 0);
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    for (unsigned i = 0; i < 2000; i++) {
        cr_assert_eq(archive_receive(sub, &event), i);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
    end(&archive, writer);
}

Test(cursor, of_a_group_finds_a_held_keys_events_across_the_border_of_files_and_ring)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    struct evbus_delivery event;
    publish(&archive, writer, 0, 5);
    clock_freeze();
    cr_assert_eq(archive_receive(sub, &event), 0);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_RETRY, "later"), EVBUS_OK); /* all have one key: it holds them */
    publish(&archive, writer, 5, 600);
    struct evbus_delivery none = {.size = sizeof none};
    cr_expect_eq(evbus_receive(sub, &none, 0), EVBUS_ETIMEOUT, "the key is held");
    cr_assert_gt(ring_released(archive_ring(archive.bus, "test.a")), 1000, "the first one has left the ring");
    clock_advance(2 * CLOCK_NS_PER_S);
    cr_assert_eq(archive_receive(sub, &event), 0);
    cr_expect_eq(event.attempt, 2);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    for (unsigned i = 1; i < 605; i++) {
        cr_assert_eq(archive_receive(sub, &event), i);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    clock_release();
    evbus_unsubscribe(sub);
    end(&archive, writer);
}

Test(cursor, of_a_group_takes_over_what_stands_in_files_alone)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    struct evbus_delivery event;
    publish(&archive, writer, 0, 5);
    cr_assert_eq(archive_receive(sub, &event), 0);
    publish(&archive, writer, 5, 600);
    evbus_unsubscribe(sub); /* releases what it had in hand */
    sub = archive_join(archive.bus, "team");
    for (unsigned i = 0; i < 605; i++) {
        cr_assert_eq(archive_receive(sub, &event), i);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
    end(&archive, writer);
}

Test(cursor, of_a_group_waits_for_a_file_that_cannot_be_read_and_drops_nothing)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    char path[FILE_PATH_MAX], away[FILE_PATH_MAX + 8];
    struct evbus_delivery event;
    publish(&archive, writer, 0, 100);
    snprintf(away, sizeof away, "%s.away", path_of(&archive, "0000000000000000.seg", path));
    cr_assert_eq(rename(path, away), 0);
    cr_assert_eq(mkdir(path, 0700), 0);
    clock_freeze();
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    struct evbus_delivery none = {.size = sizeof none};
    cr_expect_eq(evbus_receive(sub, &none, 0), EVBUS_ETIMEOUT);
    cr_assert_eq(rmdir(path), 0);
    cr_assert_eq(rename(away, path), 0);
    clock_advance(2 * CLOCK_NS_PER_S);
    for (unsigned i = 0; i < 100; i++) {
        cr_assert_eq(archive_receive(sub, &event), i);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    clock_release();
    evbus_unsubscribe(sub);
    end(&archive, writer);
}

Test(cursor, of_a_group_begins_where_it_is_asked_to_in_the_files_too)
{
    static const struct {
        const char *label;
        enum evbus_from from;
        unsigned first;
    } rows[] = {{"earliest", EVBUS_FROM_EARLIEST, 0},
                {"placed", EVBUS_FROM_POSITION, 450},
                {"timed", EVBUS_FROM_TIME, 450},
                {"latest", EVBUS_FROM_LATEST, 900}};
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    const char *pattern = "test.a.one";
    struct evbus_delivery event;
    publish(&archive, writer, 0, 450);
    uint64_t border = ring_tail(archive_ring(archive.bus, "test.a"));
    uint64_t border_ns = clock_wall_ns() + 1;
    cr_assert(await_that(clock_wall_ns() > border_ns));
    publish(&archive, writer, 450, 450);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct evbus_subscription *sub = NULL;
        cr_assert_eq(evbus_subscribe(&sub, archive.bus,
                                     &(struct evbus_subscribe_options){
                                         .size = sizeof(struct evbus_subscribe_options),
                                         .group = rows[i].label,
                                         .patterns = &pattern,
                                         .n_patterns = 1,
                                         .from = rows[i].from,
                                         .from_time_ns = rows[i].from == EVBUS_FROM_TIME ? border_ns : 0,
                                         .from_position = rows[i].from == EVBUS_FROM_POSITION ? border : 0}),
                     EVBUS_OK, "%s", evbus_message(archive.bus));
        if (rows[i].from == EVBUS_FROM_LATEST)
            publish(&archive, writer, 900, 1);
        cr_expect_eq(archive_receive(sub, &event), rows[i].first, "%s", rows[i].label);
        evbus_unsubscribe(sub);
    }
    end(&archive, writer);
}

Test(cursor, tells_a_file_whose_header_is_damaged_and_reads_the_others)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    char path[FILE_PATH_MAX];
    publish(&archive, writer, 0, 1500); /* several files */
    folder_flip(path_of(&archive, "0000000000001000.seg", path), 20, 1);
    struct evbus_reader *reader = reader_of(archive.bus, EVBUS_FROM_EARLIEST);
    unsigned n_read = 0, n_told = 0;
    for (int rc; (rc = next_now(reader)) != EVBUS_ETIMEOUT;) {
        n_read += rc == EVBUS_OK;
        n_told += rc == EVBUS_ECORRUPT;
    }
    cr_expect_eq(n_told, 1);
    cr_expect(n_read > 1000 && n_read < 1500, "%u", n_read);
    cr_expect_eq(evbus_reader_lost(reader), 4096);
    evbus_reader_close(reader);
    end(&archive, writer);
}

/* --- what cannot be read is told, and costs nothing meanwhile -------------------------------------------------------------- */

static char said[4][640];
static unsigned n_said;

static void keep_line(void *context, enum evbus_level level, const char *line)
{
    (void)context;
    (void)level;
    if (n_said < 4)
        snprintf(said[n_said], sizeof said[0], "%s", line);
    n_said++;
}

/* A handle whose log we read; it keeps nothing. */
static struct evbus *open_heard(const struct archive *archive)
{
    struct evbus *bus = NULL;
    n_said = 0;
    cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                          .bus = archive->name,
                                                          .service = "tester",
                                                          .keeper = EVBUS_KEEPER_NEVER,
                                                          .log = keep_line,
                                                          .log_level = EVBUS_LOG_WARNING}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    return bus;
}

/* The first file can be opened and not be read, until it is shown again. */
static void hide(const struct archive *archive, bool hidden)
{
    char path[FILE_PATH_MAX], away[FILE_PATH_MAX + 8];
    snprintf(away, sizeof away, "%s.away", path_of(archive, "0000000000000000.seg", path));
    cr_assert_eq(hidden ? rename(path, away) : rmdir(path), 0);
    cr_assert_eq(hidden ? mkdir(path, 0700) : rename(away, path), 0);
}

Test(cursor, of_a_descriptor_wakes_nobody_while_a_file_cannot_be_read)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct pollfd polled = {.events = POLLIN};
    publish(&archive, writer, 0, 100);
    hide(&archive, true);
    struct evbus_reader *reader = reader_of(archive.bus, EVBUS_FROM_EARLIEST);
    cr_assert_eq(evbus_fd(reader, &polled.fd), EVBUS_OK, "%s", evbus_message(archive.bus));
    clock_freeze();
    cr_assert_eq(next_now(reader), EVBUS_EIO);
    cr_expect(await_that(next_now(reader) == EVBUS_ETIMEOUT && poll(&polled, 1, 100) == 0),
              "it is readable all the time");
    clock_advance(CLOCK_NS_PER_S);
    cr_expect_eq(poll(&polled, 1, 5000), 1, "it is to be tried again");
    cr_expect_eq(next_now(reader), EVBUS_EIO);
    clock_release();
    evbus_reader_close(reader);
    end(&archive, writer);
}

Test(cursor, of_a_group_tells_what_is_damaged_by_position)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    char path[FILE_PATH_MAX];
    publish(&archive, writer, 0, 400);
    folder_flip(path_of(&archive, "0000000000000000.seg", path), 4096 + 64 * 1000, 4);
    struct evbus *bus = open_heard(&archive);
    struct evbus_subscription *sub = archive_join(bus, "team");
    struct evbus_delivery event;
    for (unsigned i = 0; i < 399; i++) {
        archive_receive(sub, &event);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    cr_expect_eq(n_said, 1, "%u lines", n_said);
    cr_expect_not_null(strstr(said[0], "event=corrupt group=team log=test.a partition=0 position="), "%s", said[0]);
    evbus_unsubscribe(sub);
    evbus_close(bus);
    end(&archive, writer);
}

Test(cursor, of_a_group_tells_an_event_that_was_to_be_tried_again_and_is_damaged)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct evbus *bus = open_heard(&archive);
    struct evbus_subscription *sub = archive_join(bus, "team");
    struct evbus_delivery event;
    char path[FILE_PATH_MAX], wanted[64];
    publish(&archive, writer, 0, 5);
    clock_freeze();
    cr_assert_eq(archive_receive(sub, &event), 0);
    uint64_t at = event.position;
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_RETRY, "later"), EVBUS_OK);
    publish(&archive, writer, 5, 600);
    cr_assert_gt(ring_released(archive_ring(archive.bus, "test.a")), at, "it has left the ring");
    folder_flip(path_of(&archive, "0000000000000000.seg", path), 4096 + 64 * at + 70, 4);
    clock_advance(2 * CLOCK_NS_PER_S);
    cr_assert_eq(archive_receive(sub, &event), 1, "its key goes on");
    snprintf(wanted, sizeof wanted, "position=%llu ", (unsigned long long)at);
    cr_expect_eq(n_said, 1, "%u lines", n_said);
    cr_expect_not_null(strstr(said[0], wanted), "%s", said[0]);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    clock_release();
    evbus_unsubscribe(sub);
    evbus_close(bus);
    end(&archive, writer);
}

Test(cursor, of_a_group_tells_once_that_a_file_cannot_be_read_and_once_that_it_can)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct evbus_delivery event = {.size = sizeof event};
    publish(&archive, writer, 0, 100);
    hide(&archive, true);
    struct evbus *bus = open_heard(&archive);
    clock_freeze();
    struct evbus_subscription *sub = archive_join(bus, "team");
    for (unsigned i = 0; i < 3; i++) {
        cr_expect_eq(evbus_receive(sub, &event, 0), EVBUS_ETIMEOUT);
        clock_advance(2 * CLOCK_NS_PER_S);
    }
    cr_expect_eq(n_said, 1, "%u lines", n_said);
    cr_expect_not_null(strstr(said[0], "state=unreadable group=team log=test.a partition=0 reason="), "%s", said[0]);
    hide(&archive, false);
    clock_advance(2 * CLOCK_NS_PER_S);
    cr_expect_eq(archive_receive(sub, &event), 0);
    cr_expect_eq(n_said, 2, "%u lines", n_said);
    cr_expect_not_null(strstr(said[1], "state=readable group=team log=test.a partition=0"), "%s", said[1]);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    clock_release();
    evbus_unsubscribe(sub);
    evbus_close(bus);
    end(&archive, writer);
}

Test(cursor, of_a_group_takes_a_lease_once_a_second_where_its_files_cannot_be_read) /* [P6] */
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    struct evbus_delivery event = {.size = sizeof event};
    publish(&archive, writer, 0, 5);
    cr_assert_eq(archive_receive(sub, &event), 0);
    publish(&archive, writer, 5, 600);
    evbus_unsubscribe(sub); /* what it had in hand stays, and stands in files alone */
    hide(&archive, true);
    clock_freeze();
    sub = archive_join(archive.bus, "team");
    struct group_part *part = memory_part(&archive.bus->memory.logs[0], 0, group_find(&archive.bus->memory, "team"));
    cr_expect_eq(evbus_receive(sub, &event, 0), EVBUS_ETIMEOUT);
    uint16_t epoch = LEASE_EPOCH(atomic_load(&part->lease));
    for (unsigned i = 0; i < 100; i++)
        cr_expect_eq(evbus_receive(sub, &event, 0), EVBUS_ETIMEOUT);
    cr_expect_eq(LEASE_EPOCH(atomic_load(&part->lease)), epoch, "there are only 65536 of them");
    hide(&archive, false);
    clock_advance(2 * CLOCK_NS_PER_S);
    cr_expect_eq(archive_receive(sub, &event), 0);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    clock_release();
    evbus_unsubscribe(sub);
    end(&archive, writer);
}
