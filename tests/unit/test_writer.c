/* test_writer.c: what is committed is appended to the journal, and brought to disk; terms; what fails. The test is the keeper: it calls
 * writer_look() itself. [no tsan] Children are forked and traced. */
#include "archive.h"
#include "await.h"
#include "clock.h"
#include "fault.h"
#include "partition.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_CELLS 4096 /* of rings of 16 KiB */

/* What stands in a ring's files at a position. */
static int see(const struct evbus *bus, const char *log, uint64_t pos, struct frame_header *out, uint64_t *out_next)
{
    struct segment_place place;
    struct journal_reader reader;
    const uint64_t *frame = NULL;
    struct error err = {""};
    partition_place(&bus->memory, archive_ring(bus, log), &place);
    journal_reader_init(&reader, &place);
    int seen = journal_read(&reader, pos, UINT64_MAX, &frame, out_next, &err);
    if (frame != NULL && seen >= 0 && seen <= JOURNAL_SKIP)
        memcpy(out, frame, sizeof *out);
    journal_reader_close(&reader);
    return seen;
}

/* All positions of a log below `until` are whole frames or pads, one behind the other. */
static void is_whole(const struct evbus *bus, const char *log, uint64_t until)
{
    struct frame_header header = {0};
    for (uint64_t pos = 0, next = 0; pos < until; pos = next) {
        int seen = see(bus, log, pos, &header, &next);
        cr_assert(seen == JOURNAL_FRAME || seen == JOURNAL_SKIP, "at %lu: %d", (unsigned long)pos, seen);
        cr_assert_eq(header.position, pos);
        cr_assert_eq((pos + header.n_cells - 1) / FILE_CELLS, pos / FILE_CELLS, "no frame lies in two files");
    }
}

static void end(struct archive *archive, struct writer *writer)
{
    writer_close(writer);
    evbus_close(archive->bus);
    evbus_remove(archive->name);
}

Test(writer, puts_committed_frames_at_their_positions_sealed)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", i, 100), EVBUS_OK);
    cr_expect_eq(ring_journaled(ring), 0);
    struct writer *writer = archive_writer(archive.bus, 1);
    cr_expect_eq(archive_look(writer), WRITER_WROTE);
    cr_expect_eq(ring_journaled(ring), ring_tail(ring));
    cr_expect_eq(ring_synced(ring), 0, "nobody waits for the disk yet");
    is_whole(archive.bus, "test.a", ring_tail(ring));
    cr_expect_eq(archive_look(writer), WRITER_IDLE);
    cr_expect_eq(writer_sync_all(writer), WRITER_WROTE);
    cr_expect_eq(ring_synced(ring), ring_tail(ring));
    end(&archive, writer);
}

Test(writer, fills_file_after_file_with_pads_where_a_frame_does_not_fit)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *writer = archive_writer(archive.bus, 1);
    for (unsigned i = 0; ring_tail(ring) < 3 * FILE_CELLS; i++) {
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", i, 1000 + i % 900), EVBUS_OK, "%s",
                     evbus_message(archive.bus));
        archive_look(writer);
    }
    is_whole(archive.bus, "test.a", ring_journaled(ring));
    cr_expect_geq(folder_count(&archive.folder, ".seg"), 4);
    cr_expect_geq(ring_synced(ring), 3 * FILE_CELLS - 256, "a file is synced before the next one is begun");
    end(&archive, writer);
}

Test(writer, writes_a_cancelled_claim_as_a_pad_and_goes_on_behind_it)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *writer = archive_writer(archive.bus, 1);
    struct bus_thread *thread;
    struct error err = {""};
    struct frame_header header = {0};
    uint64_t next;
    cr_assert_eq(bus_thread(archive.bus, &thread, &err), EVBUS_OK);
    archive_look(writer);
    struct claim claim = {.slot = thread->claim.slot};
    cr_assert_eq(ring_claim(ring, 3, &claim, &err), EVBUS_OK);
    cr_assert_eq(archive_publish(archive.bus, "test.a.one", 0, 100), EVBUS_OK);
    archive_look(writer);
    cr_expect_eq(ring_journaled(ring), claim.pos, "a claim may still become a frame");
    ring_cancel(ring, claim.pos, atomic_load(ring_word(ring, claim.pos)));
    archive_look(writer);
    cr_expect_eq(ring_journaled(ring), ring_tail(ring), "a cancelled one may not [R3]");
    cr_expect_eq(see(archive.bus, "test.a", claim.pos, &header, &next), JOURNAL_SKIP);
    cr_expect(header.kind == FRAME_PAD && header.n_cells == 3);
    ring_abandon(&claim);
    is_whole(archive.bus, "test.a", ring_tail(ring));
    end(&archive, writer);
}

Test(writer, writes_damaged_cells_as_a_gap)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct frame_header header = {0};
    uint64_t next;
    uint64_t pos = ring_tail(ring);
    cr_assert_eq(archive_publish(archive.bus, "test.a.one", 0, 100), EVBUS_OK);
    pos = pos < ring_tail(ring) - 3 ? ring_tail(ring) - 3 : pos; /* behind our NAMES frame */
    cr_assert_eq(archive_publish(archive.bus, "test.a.one", 1, 100), EVBUS_OK);
    atomic_store(ring_word(ring, pos), word_make(ring_lap(ring, pos), WORD_COMMITTED, 1, 0)); /* no length */
    struct writer *writer = archive_writer(archive.bus, 1);
    archive_look(writer);
    cr_expect_eq(ring_journaled(ring), ring_tail(ring));
    cr_expect_eq(see(archive.bus, "test.a", pos, &header, &next), JOURNAL_SKIP);
    cr_expect_eq(header.kind, FRAME_GAP);
    end(&archive, writer);
}

static void *publish_to_disk(void *context)
{
    struct evbus_event event = {
        .size = sizeof event, .topic = "test.a.one", .payload = "1", .ack = EVBUS_ACK_DISK, .timeout_ns = UINT64_MAX};
    cr_assert_eq(evbus_publish(context, &event, NULL), EVBUS_OK, "%s", evbus_message(context));
    return NULL;
}

Test(writer, tells_how_many_it_has_woken_who_waited_for_the_disk)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *writer = archive_writer(archive.bus, 1);
    unsigned n_woken = 0;
    for (int i = 0; i < 1000 && n_woken == 0; i++) { /* the disk may be faster than who is about to sleep */
        pthread_t publisher;
        cr_assert_eq(pthread_create(&publisher, NULL, publish_to_disk, archive.bus), 0);
        cr_assert(await_that(atomic_load(&ring->head->sync_wanted) != 0));
        while (archive_look(writer) != WRITER_WROTE || ring_synced(ring) < ring_tail(ring)) {
        }
        n_woken = writer_n_woken(writer);
        pthread_join(publisher, NULL);
    }
    cr_expect_eq(n_woken, 1u);
    archive_look(writer);
    cr_expect_eq(writer_n_woken(writer), 0u, "the last look woke nobody");
    end(&archive, writer);
}

/* --- terms ------------------------------------------------------------------------------------------------------------------ */

Test(writer, of_a_later_term_deposes_the_one_before)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *old = archive_writer(archive.bus, 1);
    archive_look(old);
    struct writer *new = archive_writer(archive.bus, 2);
    uint64_t before = ring_journaled(ring);
    cr_assert_eq(archive_publish(archive.bus, "test.a.one", 0, 100), EVBUS_OK);
    cr_expect_eq(archive_look(old), WRITER_DEPOSED);
    cr_expect_eq(ring_journaled(ring), before, "what the old one moves late stays where it is");
    cr_expect_eq(archive_look(new), WRITER_WROTE);
    cr_expect_eq(ring_journaled(ring), ring_tail(ring));
    is_whole(archive.bus, "test.a", ring_tail(ring));
    cr_expect_eq(folder_count(&archive.folder, ".000001"), 0, "the old term's marks are dropped");
    writer_close(old);
    end(&archive, new);
}

/* Publishes many laps of a ring of 256 cells, and has them written; by a clock that stands still, so that none is due to be synced. */
static unsigned publish_unsynced(const struct archive *archive, struct writer *writer)
{
    const struct ring *ring = archive_ring(archive->bus, "test.a");
    uint64_t now_ns = clock_mono_ns(), due_ns = UINT64_MAX;
    unsigned n = 0;
    for (; ring_tail(ring) < 2000; n++) {
        cr_assert_eq(archive_publish(archive->bus, "test.a.one", n, 1000), EVBUS_OK);
        writer_look(writer, now_ns, &due_ns);
    }
    return n;
}

Test(writer, begins_where_the_one_before_had_synced_and_writes_the_rest_again)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *old = archive_writer(archive.bus, 1);
    unsigned n = publish_unsynced(&archive, old); /* the ring has no more what is to be written again */
    cr_assert_lt(ring_synced(ring), ring_released(ring));
    struct writer *new = archive_writer(archive.bus, 2);
    cr_expect_eq(archive_look(new), WRITER_WROTE, "though nothing new was published");
    cr_expect_eq(writer_sync_all(new), WRITER_WROTE);
    cr_expect_eq(ring_synced(ring), ring_tail(ring));
    cr_expect_eq(atomic_load(&ring->head->not_synced), 0);
    is_whole(archive.bus, "test.a", ring_tail(ring));
    cr_expect_eq(archive_read(archive.bus, NULL), n);
    writer_close(old);
    end(&archive, new);
}

Test(writer, says_of_what_was_neither_synced_nor_kept_that_it_is_not_on_disk)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *old = archive_writer(archive.bus, 1);
    struct segment_place place;
    struct error err = {""};
    char path[FILE_PATH_MAX];
    publish_unsynced(&archive, old);
    partition_place(&archive.bus->memory, ring, &place);
    segment_path(&place, 0, path);
    folder_flip(path, 4096 + 64 * 100 + 80, 1); /* the disk has lost it: another byte stands there */
    struct writer *new = archive_writer(archive.bus, 2);
    cr_expect_eq(writer_sync_all(new), WRITER_WROTE);
    uint64_t lost = atomic_load(&ring->head->not_synced);
    cr_expect(lost > 90 && lost < 140, "%lu", (unsigned long)lost);
    cr_expect_eq(partition_await_disk(&archive.bus->memory, ring, lost - 1, lost, false, &err), EVBUS_EIO);
    cr_expect_eq(partition_await_disk(&archive.bus->memory, ring, lost, lost + 1, false, &err), EVBUS_OK, "%s",
                 err.text);
    is_whole(archive.bus, "test.a", ring_tail(ring));
    writer_close(old);
    end(&archive, new);
}

/* --- marks ------------------------------------------------------------------------------------------------------------------ */

Test(writer, has_a_mark_on_disk_before_a_position_is_used)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *writer = archive_writer(archive.bus, 1);
    struct mark *marks;
    size_t n;
    struct error err = {""};
    uint64_t ceiling = 600; /* as if most of a step were used up */
    atomic_store(&ring->head->ceiling, TERM_WORD(ceiling, 1));
    for (unsigned i = 0; i < 40 && archive_publish(archive.bus, "test.a.one", i, 1000) == EVBUS_OK; i++) {
        uint64_t now = TERM_POSITION(atomic_load(&ring->head->ceiling));
        cr_assert_leq(ring_released(ring) + ring->capacity, now);
        cr_assert_eq(marks_load(archive.bus->memory.state.folder, archive.bus->memory.control->uuid, &marks, &n, &err),
                     EVBUS_OK, "%s", err.text);
        cr_assert_geq(marks_find(marks, n, "test.a", 0)->ceiling, now);
        free(marks);
        archive_look(writer);
    }
    cr_expect_geq(TERM_POSITION(atomic_load(&ring->head->ceiling)), 600 + MARKS_STEP, "it is a step ahead");
    uint64_t used_up = ring_released(ring) + ring->capacity; /* and nobody raises it */
    atomic_store(&ring->head->ceiling, TERM_WORD(used_up, 1));
    cr_assert_gt(ring_journaled(ring), ring_released(ring));
    ring_release(ring, ring->capacity / 8);
    cr_expect_leq(ring_released(ring) + ring->capacity, used_up);
    end(&archive, writer);
}

/* A descriptor of this process on the file of this name becomes one that nobody can write to. */
static void spoil(const char *name)
{
    for (int fd = 3; fd < 100; fd++) {
        char link[64], path[600];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
        if (strstr(path, name) == NULL)
            continue;
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        cr_assert_eq(dup3(null, fd, O_CLOEXEC), fd);
        close(null);
        return;
    }
    cr_assert_fail("nobody has %s open", name);
}

/* Else the next life takes the log for one that nobody has used, or for damage. */
Test(writer, makes_no_file_of_a_new_log_before_its_mark_is_on_disk)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.b");
    struct writer *writer = archive_writer(archive.bus, 1);
    atomic_store(&ring->head->ceiling, TERM_WORD(0, 1)); /* as of a log that has just been added */
    cr_assert_eq(archive_publish(archive.bus, "test.b.one", 0, 100), EVBUS_OK);
    spoil("/marks.00000001.000001");
    archive_look(writer);
    cr_expect_eq(ring_journaled(ring), 0);
    cr_expect_neq(atomic_load(&ring->head->write_failed), 0);
    end(&archive, writer);
}

Test(writer, refuses_a_folder_that_is_older_than_the_memory)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *writer = NULL;
    struct error err = {""};
    atomic_store(&ring->head->ceiling, TERM_WORD(5 * MARKS_STEP, 0)); /* what a backup of before does not know */
    cr_expect_eq(writer_open(&writer, &archive.bus->memory, &archive.bus->log, 7, &err), EVBUS_ECONFLICT);
    cr_expect_not_null(strstr(err.text, "is older than the bus in memory: test.a/0"), "%s", err.text);
    cr_expect_not_null(strstr(err.text, "Put the right folder back"), "%s", err.text);
    cr_expect_eq(folder_count(&archive.folder, ".000007"), 0);
    end(&archive, NULL);
}

Test(writer, refuses_a_folder_that_has_lost_its_marks)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = NULL;
    struct error err = {""};
    char path[FILE_PATH_MAX];
    file_path(path, archive.bus->memory.state.folder, "marks.00000001.000000");
    cr_assert_eq(unlink(path), 0);
    cr_expect_eq(writer_open(&writer, &archive.bus->memory, &archive.bus->log, 7, &err), EVBUS_ECONFLICT);
    cr_expect_not_null(strstr(err.text, "has lost its marks"), "%s", err.text);
    end(&archive, NULL);
}

/* --- failures --------------------------------------------------------------------------------------------------------------- */

struct failing {
    struct archive archive;
    unsigned n;
    unsigned n_unacknowledged;
};

static void arrange(void *context)
{
    struct failing *failing = context;
    failing->archive = archive_make((struct archive_options){.settings = "\"ack\":\"disk\",\"visible\":\"memory\","});
}

/* What a keeper does, with one call that fails: then again, until all is well. In between nothing may count as synced that is not. */
static int act(void *context)
{
    struct failing *failing = context;
    struct evbus *bus = archive_open(&failing->archive, false);
    if (bus == NULL)
        return 90;
    struct writer *writer = NULL;
    struct ring *ring = archive_ring(bus, "test.a");
    struct bus_thread *thread;
    struct error err = {""};
    if (bus_thread(bus, &thread, &err) != EVBUS_OK)
        return 91;
    uint64_t frame[16 * CELL_WORDS];
    struct frame parts = {.kind = FRAME_EVENT, .topic = 1, .major = 1, .payload = "{\"seq\":0}", .payload_len = 9};
    frame_build(&parts, frame);
    fault_begin();
    for (unsigned round = 0; round < 40; round++) {
        uint64_t pos;
        uint64_t due_ns = UINT64_MAX;
        uint64_t now_ns = (round + 1) * UINT64_C(10) * CLOCK_NS_PER_S; /* pauses after a failure are over */
        if (round < 20 &&
            partition_append(ring, &thread->claim, frame, 2, &(struct partition_wait){0}, &pos, &err) != EVBUS_OK)
            return 92;
        if (writer == NULL && writer_open(&writer, &bus->memory, &bus->log, 1 + round, &err) != EVBUS_OK)
            continue;
        writer_look(writer, now_ns, &due_ns);
        if (writer_look(writer, now_ns + 1, &due_ns) == WRITER_DEPOSED)
            return 93;
        if (ring_synced(ring) > ring_journaled(ring) || ring_journaled(ring) > ring_tail(ring))
            return 94;
    }
    fault_end();
    if (writer == NULL || writer_sync_all(writer) != WRITER_WROTE)
        return 95;
    if (ring_synced(ring) != ring_tail(ring) || atomic_load(&ring->head->write_failed) != 0)
        return 96;
    writer_close(writer);
    evbus_close(bus);
    return 0;
}

static void check(void *context, const struct fault *fault, int status)
{
    struct failing *failing = context;
    struct ring *ring = archive_ring(failing->archive.bus, "test.a");
    cr_expect_eq(status, 0, "%s, call %u, error %d: ended with %d", fault->call, fault->nth, fault->error, status);
    is_whole(failing->archive.bus, "test.a", ring_tail(ring));
    evbus_close(failing->archive.bus);
    evbus_remove(failing->archive.name);
    folder_clear(&failing->archive.folder);
    failing->n++;
}

Test(writer, goes_on_after_any_call_that_fails_and_loses_nothing, .timeout = 280)
{
    struct failing failing = {.n = 0};
    struct fault_case trial = {arrange, act, check, &failing};
    unsigned n = fault_each(&trial);
    evbus_close(failing.archive.bus); /* of the last one, which had no fault left */
    evbus_remove(failing.archive.name);
    fprintf(stderr, "%u faults\n", n);
    if (FAULT_WORKS && getenv("EVBUS_SLOW") == NULL)
        cr_expect_gt(n, trial_count(200, 50));
}

Test(writer, that_was_elected_and_slept_does_not_take_the_files_from_a_later_one)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *late = NULL;
    struct error err = {""};
    struct writer *writer = archive_writer(archive.bus, 5);
    cr_expect_eq(writer_open(&late, &archive.bus->memory, &archive.bus->log, 4, &err), EVBUS_EFENCED, "%s", err.text);
    cr_assert_eq(archive_publish(archive.bus, "test.a.one", 0, 100), EVBUS_OK);
    cr_expect_eq(archive_look(writer), WRITER_WROTE);
    end(&archive, writer);
}

Test(writer, removes_the_drafts_of_those_before_so_that_none_of_them_ever_gets_a_name)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *old = archive_writer(archive.bus, 1);
    char path[FILE_PATH_MAX];
    cr_assert_eq(archive_publish(archive.bus, "test.a.one", 0, 100), EVBUS_OK);
    archive_look(old);
    file_path(path, archive.bus->memory.state.folder, "test.a/0/0000000000000000.seg.abcdef.tmp");
    folder_put(path, 0, "x", 1);
    struct writer *new = archive_writer(archive.bus, 2);
    cr_expect_eq(folder_count(&archive.folder, ".tmp"), 0);
    writer_close(old);
    end(&archive, new);
}

Test(writer, does_not_say_that_all_is_on_disk_while_a_claim_stands_before_what_was_committed)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *writer = archive_writer(archive.bus, 1);
    struct bus_thread *thread;
    struct error err = {""};
    cr_assert_eq(bus_thread(archive.bus, &thread, &err), EVBUS_OK);
    struct claim claim = {.slot = thread->claim.slot};
    cr_assert_eq(ring_claim(ring, 3, &claim, &err), EVBUS_OK);
    cr_assert_eq(archive_publish(archive.bus, "test.a.one", 0, 100), EVBUS_OK);
    cr_expect_eq(writer_sync_all(writer), WRITER_IDLE);
    ring_abandon(&claim);
    cr_expect_eq(writer_sync_all(writer), WRITER_WROTE);
    end(&archive, writer);
}

Test(writer, does_not_say_that_all_is_on_disk_where_it_cannot_make_a_file)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct writer *writer = archive_writer(archive.bus, 1);
    char path[FILE_PATH_MAX];
    file_path(path, archive.bus->memory.state.folder, "test.a");
    folder_put(path, 0, "x", 1); /* where its folder should be */
    cr_assert_eq(archive_publish(archive.bus, "test.a.one", 0, 100), EVBUS_OK);
    cr_expect_eq(writer_sync_all(writer), WRITER_IDLE);
    cr_expect_neq(atomic_load(&archive_ring(archive.bus, "test.a")->head->write_failed), 0);
    end(&archive, writer);
}

Test(writer, writes_a_gap_to_the_end_of_a_file_and_goes_on_in_the_next)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct ring *ring = archive_ring(archive.bus, "test.a");
    struct writer *writer = archive_writer(archive.bus, 1);
    unsigned n = 0;
    while (ring_tail(ring) < FILE_CELLS - 10) {
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", n++, 100), EVBUS_OK);
        archive_look(writer);
    }
    uint64_t from = ring_journaled(ring);
    while (ring_tail(ring) < FILE_CELLS + 10)
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", n++, 100), EVBUS_OK);
    for (uint64_t pos = from; pos < FILE_CELLS + 6; pos++)
        atomic_store(ring_word(ring, pos), word_make(ring_lap(ring, pos), WORD_COMMITTED, 1, 0));
    for (int i = 0; i < 5; i++)
        archive_look(writer);
    cr_expect_eq(ring_journaled(ring), ring_tail(ring));
    is_whole(archive.bus, "test.a", ring_tail(ring));
    end(&archive, writer);
}

Test(writer, looks_at_the_others_however_fast_the_producers_of_one_partition_are)
{
    struct archive archive = archive_make((struct archive_options){.ring = "8MiB"});
    struct writer *writer = archive_writer(archive.bus, 1);
    uint64_t due_ns = UINT64_MAX;
    for (unsigned i = 0; i < 1500; i++) /* 5 MiB */
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", i, 3500), EVBUS_OK);
    cr_assert_eq(writer_look(writer, 1000, &due_ns), WRITER_WROTE);
    cr_expect_lt(ring_journaled(archive_ring(archive.bus, "test.a")), ring_tail(archive_ring(archive.bus, "test.a")));
    cr_expect_eq(due_ns, 1000, "and comes back at once");
    end(&archive, writer);
}
