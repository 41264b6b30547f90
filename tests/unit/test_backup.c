/* test_backup.c: a copy of what a bus remembers: that it is whole and consistent, whatever goes on meanwhile, and what is refused.
 * Kills and failures: tests/crash/test_backup.c. */
#include "archive.h"
#include "await.h"
#include "clock.h"
#include "marks.h"
#include "partition.h"
#include "retention.h"

#include <evbus/history.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static struct archive make(struct archive_options options, struct folder *out_copies)
{
    static struct folder copies;
    struct archive archive = archive_make(options);
    if (copies.path[0] == '\0')
        copies = folder_make();
    folder_clear(&copies);
    *out_copies = copies;
    return archive;
}

static void end(struct archive *archive)
{
    evbus_close(archive->bus);
    evbus_remove(archive->name);
}

static int backup(struct evbus *bus, const char *dir, int (*progress)(void *context, uint64_t done, uint64_t all),
                  void *context)
{
    return evbus_backup(
        bus, &(struct evbus_backup_options){
                 .size = sizeof(struct evbus_backup_options), .dir = dir, .progress = progress, .context = context});
}

static void taken(struct evbus *bus, const struct folder *copies)
{
    cr_assert_eq(backup(bus, copies->path, NULL, NULL), EVBUS_OK, "%s", evbus_message(bus));
}

/* The memory is gone, and the bus comes back from its copy. */
static void come_back_from(struct archive *archive, const struct folder *copies)
{
    evbus_close(archive->bus);
    archive_forget_memory(archive);
    setenv("EVBUS_STATE_DIR", copies->path, 1);
    archive->bus = archive_open(archive, true);
    cr_assert_not_null(archive->bus, "%s", evbus_message(NULL));
}

static void publish(struct archive *archive, const char *topic, unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++)
        cr_assert_eq(archive_publish(archive->bus, topic, i, 300), EVBUS_OK, "%s", evbus_message(archive->bus));
}

/* Handles n events, which must come as seq `from` and so on. */
static void handle(struct evbus *bus, unsigned from, unsigned n)
{
    struct evbus_subscription *sub = archive_join(bus, "team");
    for (unsigned i = from; i < from + n; i++) {
        struct evbus_delivery event = {.size = sizeof event};
        cr_assert_eq(evbus_receive(sub, &event, 10 * CLOCK_NS_PER_S), EVBUS_OK, "%s", evbus_message(bus));
        cr_assert_eq(archive_seq(event.payload), i);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
}

static struct memory_log *log_of(struct evbus *bus, const char *name)
{
    for (uint32_t l = 0; l < memory_n_logs(&bus->memory); l++)
        if (strcmp(bus->memory.logs[l].name, name) == 0)
            return &bus->memory.logs[l];
    cr_assert_fail("no log %s", name);
    return NULL;
}

static bool is_there(const char *format, const struct folder *copies, const struct archive *archive)
{
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, format, copies->path, archive->name);
    return access(path, F_OK) == 0;
}

/* --- what comes back ------------------------------------------------------------------------------------------------------------ */

Test(backup, brings_back_every_event_and_each_group_where_it_was)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    uint64_t lost;
    publish(&archive, "test.a.one", 0, 3000); /* several files */
    handle(archive.bus, 0, 100);
    taken(archive.bus, &copies);
    publish(&archive, "test.a.one", 3000, 100); /* these are not in it */
    come_back_from(&archive, &copies);
    cr_expect_eq(archive_read(archive.bus, &lost), 3000);
    cr_expect_eq(lost, 0);
    handle(archive.bus, 100, 2900);
    publish(&archive, "test.a.one", 3000, 10);
    handle(archive.bus, 3000, 10);
    end(&archive);
}

Test(backup, of_a_bus_that_was_restarted_has_its_lives_before_too)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    uint64_t lost;
    for (unsigned life = 0; life < 3; life++) {
        publish(&archive, "test.a.one", life * 700, 700);
        evbus_close(archive.bus);
        archive_forget_memory(&archive);
        archive.bus = archive_open(&archive, true);
        cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
    }
    taken(archive.bus, &copies); /* nothing was published in this life */
    come_back_from(&archive, &copies);
    cr_expect_eq(archive_read(archive.bus, &lost), 2100);
    cr_expect_eq(lost, 0);
    publish(&archive, "test.a.one", 2100, 1);
    cr_expect_eq(archive_read(archive.bus, &lost), 2101);
    cr_expect_eq(lost, 0, "where the lives meet nothing is missing");
    handle(archive.bus, 0, 2101);
    end(&archive);
}

Test(backup, goes_on_at_positions_that_nobody_has_used)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    struct evbus_receipt receipt = {.size = sizeof receipt};
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "{\"seq\":100}", .key = "k"};
    publish(&archive, "test.a.one", 0, 100);
    taken(archive.bus, &copies);
    uint64_t ceiling = TERM_POSITION(atomic_load(&archive_ring(archive.bus, "test.a")->head->ceiling));
    publish(&archive, "test.a.one", 100, 1000);
    come_back_from(&archive, &copies);
    cr_assert_eq(evbus_publish(archive.bus, &event, &receipt), EVBUS_OK);
    cr_expect_geq(receipt.position, ceiling);
    cr_expect_eq(archive_read(archive.bus, NULL), 101);
    end(&archive);
}

Test(backup, may_be_taken_of_what_came_back_from_one)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    struct folder again;
    snprintf(again.path, sizeof again.path, "%.240s/again", copies.path);
    publish(&archive, "test.a.one", 0, 100);
    taken(archive.bus, &copies);
    come_back_from(&archive, &copies);
    publish(&archive, "test.a.one", 100, 100);
    cr_assert_eq(backup(archive.bus, again.path, NULL, NULL), EVBUS_OK, "%s", evbus_message(archive.bus));
    come_back_from(&archive, &again);
    cr_expect_eq(archive_read(archive.bus, NULL), 200);
    end(&archive);
}

Test(backup, has_mode_and_group_of_the_buss_folder_and_nothing_but_what_is_needed)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    char path[FILE_PATH_MAX];
    struct stat own, copy;
    publish(&archive, "test.a.one", 0, 10);
    taken(archive.bus, &copies);
    cr_assert_eq(stat(archive.bus->memory.state.folder, &own), 0);
    snprintf(path, sizeof path, "%s/%s", copies.path, archive.name);
    cr_assert_eq(stat(path, &copy), 0);
    cr_expect_eq(own.st_mode, copy.st_mode, "%o", copy.st_mode);
    cr_expect_eq(own.st_gid, copy.st_gid);
    snprintf(path, sizeof path, "%s/%s/bus", copies.path, archive.name);
    cr_assert_eq(stat(path, &copy), 0);
    cr_expect_eq(copy.st_mode & 0777, own.st_mode & 0666);
    snprintf(path, sizeof path, "%s/%s/test.a/0", copies.path, archive.name);
    cr_assert_eq(stat(path, &copy), 0);
    cr_expect_eq(copy.st_mode, own.st_mode, "%o", copy.st_mode);
    cr_expect_eq(folder_count(&copies, ".tmp"), 0);
    cr_expect_eq(folder_count(&copies, "catalogue"), 1);
    end(&archive);
}

Test(backup, keeps_what_was_put_aside_as_damaged)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    char path[FILE_PATH_MAX];
    publish(&archive, "test.a.one", 0, 10);
    const struct ring *ring = archive_ring(archive.bus, "test.a");
    cr_assert(await_that(ring_synced(ring) == ring_tail(ring)));
    snprintf(path, sizeof path, "%s/%s/test.a/0/0000000000ff0000.seg.damaged", archive.folder.path, archive.name);
    folder_put(path, 0, "what", 4);
    snprintf(path, sizeof path, "%s/%s/groups.00000001.000001.00000001.damaged", archive.folder.path, archive.name);
    folder_put(path, 0, "it", 2);
    snprintf(path, sizeof path, "%s/%s/test.a/0/0000000000000000.seg.abcdef.tmp", archive.folder.path, archive.name);
    folder_put(path, 0, "no", 2);
    taken(archive.bus, &copies);
    cr_expect_eq(folder_count(&copies, ".damaged"), 2);
    cr_expect_eq(folder_count(&copies, ".tmp"), 0, "drafts of keepers are nobody's");
    come_back_from(&archive, &copies);
    cr_expect_eq(archive_read(archive.bus, NULL), 10);
    end(&archive);
}

Test(backup, copies_rot_as_it_is_and_its_readers_are_told)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    char path[FILE_PATH_MAX];
    struct evbus_reader *reader = NULL;
    unsigned n = 0, n_told = 0;
    publish(&archive, "test.b.one", 0, 3000);
    const struct ring *ring = archive_ring(archive.bus, "test.b");
    cr_assert(await_that(ring_synced(ring) == ring_tail(ring)));
    snprintf(path, sizeof path, "%s/%s/test.b/0/0000000000000000.seg", archive.folder.path, archive.name);
    folder_flip(path, 20000, 1);
    snprintf(path, sizeof path, "%s/%s/test.b/0/0000000000001000.seg", archive.folder.path, archive.name);
    folder_flip(path, 40, 1); /* its header: none of its cells can be found */
    taken(archive.bus, &copies);
    come_back_from(&archive, &copies);
    const char *pattern = "test.b.one";
    cr_assert_eq(evbus_reader_open(&reader, archive.bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = &pattern,
                                                                  .n_patterns = 1,
                                                                  .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK);
    for (int rc = EVBUS_OK; rc != EVBUS_ETIMEOUT;) {
        struct evbus_delivery delivery = {.size = sizeof delivery};
        rc = evbus_reader_next(reader, &delivery, 0);
        n += rc == EVBUS_OK;
        n_told += rc == EVBUS_ECORRUPT;
    }
    evbus_reader_close(reader);
    cr_expect_eq(n_told, 2);
    cr_expect_gt(n, 1500);
    cr_expect_lt(n, 2999);
    end(&archive);
}

/* --- while all runs ------------------------------------------------------------------------------------------------------------- */

#define SEQS_MAX 20000

/* Producer k publishes seqs on test.a.one with key pk; the member publishes the same key and seq on test.b.one before it says done. */
struct storm {
    struct archive archive;
    _Atomic unsigned acked[2];
    _Atomic unsigned done[2];
    _Atomic bool is_over;
    const char *failed;
};

struct producer {
    struct storm *storm;
    unsigned k;
};

static int send(struct evbus *bus, const char *topic, unsigned k, unsigned seq, enum evbus_ack ack)
{
    char payload[300], key[4];
    memset(payload, ' ', sizeof payload);
    payload[snprintf(payload, sizeof payload, "{\"seq\":%u}", seq)] = ' ';
    payload[sizeof payload - 1] = '\0';
    snprintf(key, sizeof key, "p%u", k);
    return evbus_publish(bus,
                         &(struct evbus_event){.size = sizeof(struct evbus_event),
                                               .topic = topic,
                                               .payload = payload,
                                               .key = key,
                                               .ack = ack,
                                               .timeout_ns = 10 * CLOCK_NS_PER_S},
                         NULL);
}

static void *produce(void *context)
{
    struct producer *self = context;
    struct storm *storm = self->storm;
    for (unsigned seq = 0; seq < SEQS_MAX && !atomic_load(&storm->is_over); seq++) {
        if (send(storm->archive.bus, "test.a.one", self->k, seq, self->k == 1 ? EVBUS_ACK_DISK : EVBUS_ACK_LOG) !=
            EVBUS_OK)
            storm->failed = "a publish";
        atomic_store(&storm->acked[self->k], seq + 1);
    }
    return NULL;
}

static void *work(void *context)
{
    struct storm *storm = context;
    struct evbus *bus = storm->archive.bus;
    struct evbus_subscription *sub = NULL;
    if (evbus_subscribe(&sub, bus,
                        &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                          .group = "team"}) != EVBUS_OK) {
        storm->failed = "the member";
        return NULL;
    }
    while (!atomic_load(&storm->is_over)) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, CLOCK_NS_PER_S / 100);
        if (rc == EVBUS_ETIMEOUT)
            continue;
        unsigned k = rc == EVBUS_OK && event.key[1] == '1';
        unsigned seq = rc == EVBUS_OK ? archive_seq(event.payload) : 0;
        if (rc != EVBUS_OK || send(bus, "test.b.one", k, seq, EVBUS_ACK_LOG) != EVBUS_OK ||
            evbus_finish(sub, &event, EVBUS_DONE, NULL) != EVBUS_OK)
            storm->failed = "an event in the member's hand";
        atomic_store(&storm->done[k], seq + 1);
    }
    evbus_unsubscribe(sub);
    return NULL;
}

/* The seqs of a topic's two keys: each rises from 0 on by one; where `may_repeat`, it may go back. Positions rise. */
static void read_all(struct evbus *bus, const char *topic, bool may_repeat, unsigned out_n[2])
{
    struct evbus_reader *reader = NULL;
    uint64_t last = 0;
    bool is_first = true;
    out_n[0] = out_n[1] = 0;
    cr_assert_eq(evbus_reader_open(&reader, bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = &topic,
                                                                  .n_patterns = 1,
                                                                  .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK, "%s", evbus_message(bus));
    for (;;) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_reader_next(reader, &event, 0);
        if (rc == EVBUS_ETIMEOUT)
            break;
        cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(bus));
        unsigned k = event.key[1] == '1';
        unsigned seq = archive_seq(event.payload);
        cr_assert(is_first || event.position > last);
        cr_assert(seq == out_n[k] || (may_repeat && seq < out_n[k]), "%s: %u comes behind %u", topic, seq, out_n[k]);
        out_n[k] = seq == out_n[k] ? seq + 1 : out_n[k];
        last = event.position;
        is_first = false;
    }
    cr_assert_eq(evbus_reader_lost(reader), 0);
    evbus_reader_close(reader);
}

/* What the group is given now: of each key the first seq, then one after the other up to n. out_first: n where nothing comes. */
static void drain(struct evbus *bus, const unsigned n[2], unsigned out_first[2])
{
    struct evbus_subscription *sub = archive_join(bus, "team");
    unsigned next[2] = {UINT32_MAX, UINT32_MAX};
    out_first[0] = n[0];
    out_first[1] = n[1];
    for (;;) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_receive(sub, &event, CLOCK_NS_PER_S / 5);
        if (rc == EVBUS_ETIMEOUT)
            break;
        cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(bus));
        unsigned k = event.key[1] == '1';
        unsigned seq = archive_seq(event.payload);
        if (next[k] == UINT32_MAX)
            out_first[k] = seq;
        else
            cr_assert_eq(seq, next[k]);
        next[k] = seq + 1;
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
    for (unsigned k = 0; k < 2; k++)
        cr_assert(next[k] == n[k] || (next[k] == UINT32_MAX && out_first[k] == n[k]),
                  "the group ends at %u, the log at %u", next[k], n[k]);
}

/* The last file of a log ends where the mark says that all is on disk: nobody had cut it there, and nothing is torn. */
static void ends_at_its_mark(const struct archive *archive, const struct folder *copies, const char *log)
{
    struct segment_place place;
    struct segment segment;
    struct mark *marks;
    uint64_t *bases;
    size_t n_marks, n;
    char folder[FILE_PATH_MAX];
    partition_place(&archive->bus->memory, archive_ring(archive->bus, log), &place);
    snprintf(folder, sizeof folder, "%s/%s", copies->path, archive->name);
    snprintf(place.folder, sizeof place.folder, "%.300s/%.100s/0", folder, log);
    cr_assert_eq(marks_load(folder, place.uuid, &marks, &n_marks, NULL), EVBUS_OK);
    const struct mark *mark = marks_find(marks, n_marks, log, 0);
    cr_assert_not_null(mark);
    cr_assert_eq(journal_list(&place, &bases, &n, NULL), EVBUS_OK);
    if (n > 0) {
        cr_assert_eq(segment_open(&segment, &place, bases[n - 1], false, NULL), EVBUS_OK);
        cr_expect_eq(folder_len(segment.path), segment_offset(&segment, mark->synced), "%s", segment.path);
        segment_close(&segment);
    }
    cr_expect_geq(mark->ceiling, mark->synced);
    free(bases);
    free(marks);
}

static void storm_once(unsigned round)
{
    static struct storm storm;
    static const char *const rings[] = {"64KiB", "16KiB", "1MiB"};
    struct folder copies;
    storm = (struct storm){.failed = NULL};
    storm.archive = make((struct archive_options){.ring = rings[round % 3], .keeper = true}, &copies);
    struct producer producers[2] = {{&storm, 0}, {&storm, 1}};
    pthread_t threads[3];
    for (unsigned k = 0; k < 2; k++)
        cr_assert_eq(pthread_create(&threads[k], NULL, produce, &producers[k]), 0);
    cr_assert_eq(pthread_create(&threads[2], NULL, work, &storm), 0);
    cr_assert(await_that(atomic_load(&storm.acked[0]) > round * 200 && atomic_load(&storm.done[0]) > round * 50));
    unsigned acked[2], done[2], done_since[2], n[2], n_outputs[2], first[2];
    for (unsigned k = 0; k < 2; k++) {
        acked[k] = atomic_load(&storm.acked[k]);
        done[k] = atomic_load(&storm.done[k]);
    }
    int rc = backup(storm.archive.bus, copies.path, NULL, NULL);
    for (unsigned k = 0; k < 2; k++)
        done_since[k] = atomic_load(&storm.done[k]) + 1; /* it may be done, and we not told */
    atomic_store(&storm.is_over, true);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(storm.archive.bus));
    cr_assert_null(storm.failed, "%s failed", storm.failed);
    ends_at_its_mark(&storm.archive, &copies, "test.a");
    ends_at_its_mark(&storm.archive, &copies, "test.b");
    come_back_from(&storm.archive, &copies);
    read_all(storm.archive.bus, "test.a.one", false, n);
    read_all(storm.archive.bus, "test.b.one", true, n_outputs);
    drain(storm.archive.bus, n, first);
    for (unsigned k = 0; k < 2; k++) {
        cr_expect_geq(n[k], acked[k], "round %u, key %u: acknowledged before it began, and not there", round, k);
        cr_expect_geq(first[k], done[k], "round %u, key %u: done before it began, and given again", round, k);
        cr_expect_leq(first[k], done_since[k], "round %u, key %u: counts as done and was not", round, k);
        cr_expect_geq(n_outputs[k], first[k], "round %u, key %u: counts as done, without its output", round, k);
    }
    fprintf(stderr, "round %u: %u and %u events, done %u and %u\n", round, n[0], n[1], first[0], first[1]);
    end(&storm.archive);
}

Test(backup, is_consistent_while_producers_and_a_group_go_on, .timeout = 280)
{
    unsigned n_rounds = getenv("EVBUS_QUICK") != NULL ? 5 : 20;
    for (unsigned round = 0; round < n_rounds; round++)
        storm_once(round);
}

/* What happens at the n-th call of progress(). */
struct meanwhile {
    struct archive *archive;
    unsigned at;
    void (*act)(struct archive *archive);
    unsigned n_calls;
    int answer;
    uint64_t done, all;
};

static int on_progress(void *context, uint64_t done, uint64_t all)
{
    struct meanwhile *meanwhile = context;
    cr_assert_geq(done, meanwhile->done);
    cr_assert_leq(done, all);
    meanwhile->done = done;
    meanwhile->all = all;
    if (++meanwhile->n_calls != meanwhile->at)
        return 0;
    if (meanwhile->act != NULL)
        meanwhile->act(meanwhile->archive);
    return meanwhile->answer;
}

Test(backup, tells_how_far_it_is_and_at_the_end_that_it_has_all)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    struct meanwhile meanwhile = {.archive = &archive};
    publish(&archive, "test.a.one", 0, 3000);
    cr_assert_eq(backup(archive.bus, copies.path, on_progress, &meanwhile), EVBUS_OK);
    cr_expect_gt(meanwhile.n_calls, 5, "%u", meanwhile.n_calls);
    cr_expect_gt(meanwhile.done, 3000 * 300);
    cr_expect_eq(meanwhile.done, meanwhile.all);
    end(&archive);
}

Test(backup, that_its_caller_ends_leaves_nothing)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    publish(&archive, "test.a.one", 0, 3000);
    const struct ring *ring = archive_ring(archive.bus, "test.a");
    cr_assert(await_that(ring_synced(ring) == ring_tail(ring)));
    int fds = folder_descriptors();
    static const int answers[] = {7, EVBUS_EAGAIN, EVBUS_ENOTFOUND, -1000};
    for (unsigned i = 0; i < 4; i++) {
        struct meanwhile meanwhile = {.archive = &archive, .at = 1 + i, .answer = answers[i]};
        cr_expect_eq(backup(archive.bus, copies.path, on_progress, &meanwhile), answers[i]);
        cr_expect_eq(folder_count(&copies, ""), 0);
        cr_expect(!is_there("%s/%s", &copies, &archive));
    }
    cr_expect_eq(folder_descriptors(), fds);
    taken(archive.bus, &copies);
    end(&archive);
}

static void retire(struct archive *archive, const char *name)
{
    struct error err = {""};
    struct memory_log *log = log_of(archive->bus, name);
    cr_assert(await_that(ring_synced(&log->rings[0]) == ring_tail(&log->rings[0])));
    atomic_store(&log->head->retention_bytes, 1);
    cr_assert(await_that(!ring_release(&log->rings[0], log->rings[0].capacity)));
    cr_assert_eq(retention_look(&archive->bus->memory, log, 0, clock_wall_ns(), &err), EVBUS_OK, "%s", err.text);
}

static size_t n_segments(const char *folder, const struct archive *archive, const char *log)
{
    struct folder of_log;
    snprintf(of_log.path, sizeof of_log.path, "%.100s/%.60s/%.60s", folder, archive->name, log);
    return folder_count(&of_log, ".seg");
}

static void retire_b(struct archive *archive)
{
    retire(archive, "test.b");
    cr_assert_leq(n_segments(archive->folder.path, archive, "test.b"), 2);
}

Test(backup, has_no_hole_where_old_files_go_meanwhile)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    publish(&archive, "test.b.one", 0, 5000);
    for (unsigned at = 1; at < 8; at++) { /* before the first file, between any two */
        struct meanwhile meanwhile = {.archive = &archive, .at = at, .act = retire_b};
        struct evbus_reader *reader = NULL;
        const char *pattern = "test.b.one";
        unsigned last = 0, n = 0;
        cr_assert_eq(backup(archive.bus, copies.path, on_progress, &meanwhile), EVBUS_OK, "%s",
                     evbus_message(archive.bus));
        cr_assert_geq(meanwhile.n_calls, at);
        setenv("EVBUS_STATE_DIR", copies.path, 1);
        evbus_close(archive.bus);
        archive_forget_memory(&archive);
        archive.bus = archive_open(&archive, true);
        cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
        cr_assert_eq(evbus_reader_open(&reader, archive.bus,
                                       &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                      .patterns = &pattern,
                                                                      .n_patterns = 1,
                                                                      .from = EVBUS_FROM_EARLIEST}),
                     EVBUS_OK);
        for (;; n++) {
            struct evbus_delivery event = {.size = sizeof event};
            int rc = evbus_reader_next(reader, &event, 0);
            if (rc == EVBUS_ETIMEOUT)
                break;
            cr_assert_eq(rc, EVBUS_OK, "at call %u: %s", at, evbus_message(archive.bus));
            cr_assert(n == 0 || archive_seq(event.payload) == last + 1, "at call %u: %u comes behind %u", at,
                      archive_seq(event.payload), last);
            last = archive_seq(event.payload);
        }
        cr_expect_eq(evbus_reader_lost(reader), 0);
        cr_expect_eq(last, 4999);
        evbus_reader_close(reader);
        end(&archive);
        archive = make((struct archive_options){.keeper = true}, &copies);
        publish(&archive, "test.b.one", 0, 5000);
    }
    end(&archive);
}

static void finish_and_retire_a(struct archive *archive)
{
    handle(archive->bus, 0, 3000);
    retire(archive, "test.a");
    cr_assert_leq(n_segments(archive->folder.path, archive, "test.a"), 2);
}

Test(backup, begins_again_where_a_group_had_still_needed_what_went)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    struct meanwhile meanwhile = {.archive = &archive, .at = 3, .act = finish_and_retire_a};
    struct evbus_delivery event = {.size = sizeof event};
    publish(&archive, "test.a.one", 0, 3000);
    cr_assert_eq(backup(archive.bus, copies.path, on_progress, &meanwhile), EVBUS_OK, "%s", evbus_message(archive.bus));
    cr_assert_geq(meanwhile.n_calls, 3);
    come_back_from(&archive, &copies);
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    cr_expect_eq(evbus_receive(sub, &event, CLOCK_NS_PER_S / 5), EVBUS_ETIMEOUT,
                 "seq %u: the group had done all that is not there any more", archive_seq(event.payload));
    evbus_unsubscribe(sub);
    end(&archive);
}

static const char with_more[] =
    "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
    "\"defaults\":{\"partitions\":1,\"ring\":\"16KiB\",\"journal\":true},"
    "\"topics\":{\"test.a.zero\":{},\"test.a.one\":{\"groups\":[\"team\",\"late\"]},\"test.b.one\":{},"
    "\"test.c.one\":{}}}";

static void apply_more(struct archive *archive)
{
    cr_assert_eq(evbus_catalogue_apply(archive->bus, with_more, 0, NULL), EVBUS_OK, "%s", evbus_message(archive->bus));
    publish(archive, "test.a.zero", 77, 1);
    publish(archive, "test.c.one", 0, 5);
    publish(archive, "test.a.one", 1000, 1);
    const struct ring *a = archive_ring(archive->bus, "test.a"), *c = archive_ring(archive->bus, "test.c");
    cr_assert(await_that(ring_synced(a) == ring_tail(a) && ring_synced(c) == ring_tail(c)));
}

Test(backup, is_of_one_catalogue_where_another_is_applied_meanwhile)
{
    for (unsigned at = 1; at < 6; at++) {
        struct folder copies;
        struct archive archive = make((struct archive_options){.keeper = true}, &copies);
        struct meanwhile meanwhile = {.archive = &archive, .at = at, .act = apply_more};
        struct evbus_delivery event = {.size = sizeof event};
        publish(&archive, "test.a.one", 0, 1000);
        cr_assert_eq(backup(archive.bus, copies.path, on_progress, &meanwhile), EVBUS_OK, "%s",
                     evbus_message(archive.bus));
        cr_assert_geq(meanwhile.n_calls, at);
        come_back_from(&archive, &copies);
        cr_expect_eq(archive_read(archive.bus, NULL), 1001, "at call %u: test.a.zero is not taken for test.a.one", at);
        struct ring *c = archive_ring(archive.bus, "test.c");
        cr_expect_gt(c->head->prev_end, 10, "at call %u: events of the new log", at);
        struct evbus_subscription *sub = archive_join(archive.bus, "late");
        cr_assert_eq(evbus_receive(sub, &event, 10 * CLOCK_NS_PER_S), EVBUS_OK);
        cr_expect_eq(archive_seq(event.payload), 1000, "at call %u: it was made behind 999, and is given %u", at,
                     archive_seq(event.payload));
        evbus_unsubscribe(sub);
        end(&archive);
    }
}

static void remove_bus(struct archive *archive)
{
    cr_assert_eq(evbus_remove(archive->name), EVBUS_OK);
}

Test(backup, of_a_bus_that_is_removed_meanwhile_is_none)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    publish(&archive, "test.a.one", 0, 3000);
    struct meanwhile meanwhile = {.archive = &archive, .at = 3, .act = remove_bus};
    cr_expect_eq(backup(archive.bus, copies.path, on_progress, &meanwhile), EVBUS_ESTALE, "%s",
                 evbus_message(archive.bus));
    cr_expect_eq(folder_count(&copies, ""), 0);
    end(&archive);
}

/* --- in the place of the bus's own folder ------------------------------------------------------------------------------------------ */

/* The bus's own folder goes away, its copy takes the place. */
static void put_in_place(struct archive *archive, const struct folder *copies)
{
    char own[FILE_PATH_MAX], away[FILE_PATH_MAX], copy[FILE_PATH_MAX];
    snprintf(own, sizeof own, "%s/%s", archive->folder.path, archive->name);
    snprintf(away, sizeof away, "%s/away", archive->folder.path);
    snprintf(copy, sizeof copy, "%s/%s", copies->path, archive->name);
    cr_assert_eq(rename(own, away), 0);
    cr_assert_eq(rename(copy, own), 0, "%s", strerror(errno));
}

Test(backup, in_place_of_the_folder_of_a_bus_that_is_in_memory_is_refused)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    publish(&archive, "test.a.one", 0, 10);
    taken(archive.bus, &copies); /* the ceilings have not moved since */
    publish(&archive, "test.a.one", 10, 10);
    evbus_close(archive.bus);
    put_in_place(&archive, &copies);
    archive.bus = archive_open(&archive, true);
    cr_expect_null(archive.bus);
    cr_expect_not_null(strstr(evbus_message(NULL), "a backup was put there while the bus was in memory"), "%s",
                       evbus_message(NULL));
    archive_forget_memory(&archive);
    archive.bus = archive_open(&archive, true);
    cr_assert_not_null(archive.bus, "with its memory gone it goes on from there: %s", evbus_message(NULL));
    cr_expect_eq(archive_read(archive.bus, NULL), 10);
    end(&archive);
}

Test(backup, of_a_life_before_in_place_of_the_folder_of_a_bus_that_is_in_memory_is_refused_to_its_keeper)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    struct writer *writer = NULL;
    struct error err = {""};
    publish(&archive, "test.a.one", 0, 10);
    taken(archive.bus, &copies);
    evbus_close(archive.bus);
    archive_forget_memory(&archive);
    archive.bus = archive_open(&archive, true); /* the next life, of the number that the copy has */
    cr_assert_not_null(archive.bus);
    publish(&archive, "test.a.one", 10, 10);
    evbus_close(archive.bus);
    put_in_place(&archive, &copies);
    archive.bus = archive_open(&archive, false);
    cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
    cr_expect_eq(writer_open(&writer, &archive.bus->memory, &archive.bus->log, 100, &err), EVBUS_ECONFLICT);
    cr_expect_not_null(strstr(err.text, "is older than the bus in memory"), "%s", err.text);
    end(&archive);
}

/* --- what is refused ---------------------------------------------------------------------------------------------------------------- */

static void refuses(struct evbus *bus, const char *dir, enum evbus_code code, const char *text)
{
    int rc = backup(bus, dir, NULL, NULL);
    cr_expect_eq(rc, code, "%s: %s", evbus_strerror(rc), evbus_message(bus));
    cr_expect_not_null(strstr(evbus_message(bus), text), "it does not say \"%s\": %s", text, evbus_message(bus));
}

Test(backup, refuses_to_write_over_one)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    taken(archive.bus, &copies);
    size_t n = folder_count(&copies, "");
    refuses(archive.bus, copies.path, EVBUS_EDUPLICATE, "is there: a backup is never written over");
    refuses(archive.bus, archive.folder.path, EVBUS_EDUPLICATE, "is there: a backup is never written over");
    cr_expect_eq(folder_count(&copies, ""), n);
    end(&archive);
}

static void take_the_name(struct archive *archive)
{
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s.copies/%s/bus", archive->folder.path, archive->name);
    *strrchr(path, '/') = '\0';
    cr_assert_eq(mkdir(path, 0700), 0, "%s", strerror(errno));
    strcat(path, "/bus");
    folder_put(path, 0, "mine", 4);
}

Test(backup, refuses_to_write_over_one_that_was_faster)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    struct meanwhile meanwhile = {.archive = &archive, .at = 2, .act = take_the_name};
    struct folder beside;
    snprintf(beside.path, sizeof beside.path, "%.240s.copies", archive.folder.path);
    publish(&archive, "test.a.one", 0, 10);
    cr_expect_eq(backup(archive.bus, beside.path, on_progress, &meanwhile), EVBUS_EDUPLICATE, "%s",
                 evbus_message(archive.bus));
    cr_expect_eq(folder_count(&beside, ""), 1, "what the other one has made");
    folder_clear(&beside);
    rmdir(beside.path);
    end(&archive);
}

Test(backup, refuses_the_buss_own_folder_by_whatever_name)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    char dir[FILE_PATH_MAX], link[FILE_PATH_MAX];
    snprintf(dir, sizeof dir, "%s/%s", archive.folder.path, archive.name);
    refuses(archive.bus, dir, EVBUS_EINVAL, "which is to be copied: name a folder elsewhere");
    snprintf(dir, sizeof dir, "%s/%s/new/newer/", archive.folder.path, archive.name);
    refuses(archive.bus, dir, EVBUS_EINVAL, "which is to be copied: name a folder elsewhere");
    snprintf(dir, sizeof dir, "%s/%s", archive.folder.path, archive.name);
    snprintf(link, sizeof link, "%s/link", copies.path);
    cr_assert_eq(symlink(dir, link), 0);
    refuses(archive.bus, link, EVBUS_EINVAL, "which is to be copied: name a folder elsewhere");
    snprintf(dir, sizeof dir, "%s/%s/new", archive.folder.path, archive.name);
    cr_expect_neq(access(dir, F_OK), 0, "%s was made", dir);
    snprintf(dir, sizeof dir, "%s/%s/%s", archive.folder.path, archive.name, archive.name);
    cr_expect_neq(access(dir, F_OK), 0, "%s was made", dir);
    end(&archive);
}

Test(backup, refuses_what_no_folder_can_be)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    char path[FILE_PATH_MAX];
    char *longest = calloc(1, 400);
    snprintf(path, sizeof path, "%s/file", copies.path);
    folder_put(path, 0, "x", 1);
    refuses(archive.bus, path, EVBUS_EIO, "must be a folder");
    snprintf(path, sizeof path, "%s/file/below", copies.path);
    refuses(archive.bus, path, EVBUS_EIO, "Not a directory");
    refuses(archive.bus, NULL, EVBUS_EINVAL, "options.dir is missing");
    refuses(archive.bus, "", EVBUS_EINVAL, "options.dir is missing");
    memset(longest, 'x', 399);
    refuses(archive.bus, longest, EVBUS_EINVAL, "at most");
    free(longest);
    cr_expect_eq(evbus_backup(archive.bus, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_backup(NULL, NULL), EVBUS_EINVAL);
    end(&archive);
}

Test(backup, of_a_bus_that_remembers_nothing_is_refused)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.settings = "\"retry\":[\"1s\"],", .keeper = true}, &copies);
    static const char catalogue[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                                    "\"defaults\":{\"partitions\":1,\"ring\":\"16KiB\",\"journal\":false},"
                                    "\"topics\":{\"test.a.one\":{}}}";
    struct evbus *bus = NULL;
    char name[80];
    snprintf(name, sizeof name, "%.60s-none", archive.name);
    cr_assert_eq(evbus_init(&(struct evbus_init_options){
                     .size = sizeof(struct evbus_init_options), .bus = name, .catalogue = catalogue}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options), .bus = name}),
                 EVBUS_OK);
    refuses(bus, copies.path, EVBUS_ENOTFOUND, "has a journal: there is nothing on disk");
    evbus_close(bus);
    evbus_remove(name);
    end(&archive);
}

Test(backup, of_what_is_in_memory_alone_is_refused_while_the_keepers_disk_fails)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = false}, &copies);
    publish(&archive, "test.a.one", 0, 1);
    atomic_store(&archive_ring(archive.bus, "test.a")->head->write_failed, (uint32_t)-EVBUS_EIO);
    refuses(archive.bus, copies.path, EVBUS_EIO, "a backup would lack the rest, and the disk fails");
    cr_expect_eq(folder_count(&copies, ""), 0);
    end(&archive);
}

/* --- what others left --------------------------------------------------------------------------------------------------------------- */

Test(backup, clears_away_what_dead_ones_left_and_nothing_else)
{
    struct folder copies;
    struct archive archive = make((struct archive_options){.keeper = true}, &copies);
    static const char *const left[] = {"tmp-abcdef", "tmp-living", "tmp-longer-name", "tmp-short"};
    char path[FILE_PATH_MAX];
    int fd = -1;
    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s.%s", copies.path, archive.name, left[i]);
        cr_assert_eq(mkdir(path, 0700), 0);
        if (i == 1) {
            fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            cr_assert_eq(flock(fd, LOCK_EX), 0);
        }
        snprintf(path, sizeof path, "%s/%s.%s/catalogue", copies.path, archive.name, left[i]);
        folder_put(path, 0, "x", 1);
    }
    snprintf(path, sizeof path, "%s/%s-other.tmp-abcdef", copies.path, archive.name);
    cr_assert_eq(mkdir(path, 0700), 0);
    taken(archive.bus, &copies);
    cr_expect(!is_there("%s/%s.tmp-abcdef", &copies, &archive));
    cr_expect(is_there("%s/%s.tmp-living", &copies, &archive));
    cr_expect(is_there("%s/%s.tmp-longer-name", &copies, &archive));
    cr_expect(is_there("%s/%s.tmp-short", &copies, &archive));
    cr_expect(is_there("%s/%s-other.tmp-abcdef", &copies, &archive));
    close(fd);
    end(&archive);
}
