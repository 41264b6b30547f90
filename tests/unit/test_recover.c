/* test_recover.c: a bus that has lost its memory comes back from its folder: positions, groups, who does it, what is refused.
 * [no tsan] Children are forked and traced. */
#include "archive.h"
#include "await.h"
#include "child.h"
#include "clock.h"
#include "fault.h"
#include "group.h"
#include "pending.h"
#include "retire.h"
#include "saved.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* All of it is on disk, and every handle closed. */
static void shut_down(struct archive *archive)
{
    static const char *const logs[] = {"test.a", "test.b", "test.dlq", "test.evbus", "test.replay"};
    for (size_t i = 0; i < sizeof logs / sizeof logs[0]; i++) {
        const struct ring *ring = archive_ring(archive->bus, logs[i]);
        cr_assert(await_that(ring_synced(ring) == ring_tail(ring)), "%s", logs[i]);
    }
    evbus_close(archive->bus);
    archive->bus = NULL;
}

static void come_back(struct archive *archive, bool keeper)
{
    archive_forget_memory(archive);
    archive->bus = archive_open(archive, keeper);
    cr_assert_not_null(archive->bus, "%s", evbus_message(NULL));
}

static void end(struct archive *archive)
{
    evbus_close(archive->bus);
    evbus_remove(archive->name);
}

static void shell(const char *format, const struct archive *archive)
{
    char command[2048];
    snprintf(command, sizeof command, format, archive->folder.path, archive->name, archive->folder.path, archive->name);
    cr_assert_eq(system(command), 0, "%s", command);
}

/* Its keeper ends behind n events that it has appended and not synced: what a life that begins has most to do with. */
static void leave_unsynced(struct archive *archive, unsigned n)
{
    clock_freeze();
    struct writer *writer = archive_writer(archive->bus, 1);
    for (unsigned i = 0; i < n; i++) {
        cr_assert_eq(archive_publish(archive->bus, "test.a.one", i, 300), EVBUS_OK, "%s", evbus_message(archive->bus));
        archive_look(writer);
        ring_release(archive_ring(archive->bus, "test.a"), 16);
    }
    cr_assert_lt(ring_synced(archive_ring(archive->bus, "test.a")), ring_tail(archive_ring(archive->bus, "test.a")));
    writer_close(writer);
    clock_release();
    evbus_close(archive->bus);
    archive->bus = NULL;
    shell("cp -a %s/%s %s/%s.as-left", archive);
}

static void as_left(struct archive *archive)
{
    archive_forget_memory(archive);
    shell("rm -rf %s/%s", archive);
    shell("d=%s/%s; cp -a $d.as-left $d", archive);
}

static void publish(struct archive *archive, const char *topic, unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++)
        cr_assert_eq(archive_publish(archive->bus, topic, i, 300), EVBUS_OK, "%s", evbus_message(archive->bus));
}

Test(recover, brings_back_every_event_and_uses_no_position_twice)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    uint64_t tail = 0;
    for (unsigned life = 0; life < 4; life++) {
        struct ring *ring = archive_ring(archive.bus, "test.a");
        cr_assert_geq(ring_tail(ring), tail, "life %u", life);
        publish(&archive, "test.a.one", life * 500, 500);
        tail = ring_tail(ring);
        cr_expect_eq(archive.bus->memory.control->incarnation, life + 1);
        shut_down(&archive);
        come_back(&archive, true);
    }
    uint64_t lost;
    cr_expect_eq(archive_read(archive.bus, &lost), 2000);
    cr_expect_eq(lost, 0);
    end(&archive);
}

Test(recover, resumes_groups_with_what_they_had_in_hand_and_how_often)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct evbus_delivery event;
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    publish(&archive, "test.a.one", 0, 10);
    cr_assert_eq(archive_receive(sub, &event), 0);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    cr_assert_eq(archive_receive(sub, &event), 1);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_RETRY, "not now"),
                 EVBUS_OK); /* of the one key: it holds back the rest */
    evbus_unsubscribe(sub);
    shut_down(&archive);
    come_back(&archive, true);
    sub = archive_join(archive.bus, "team");
    cr_expect_eq(archive_receive(sub, &event), 1, "what was done is not given again");
    const struct memory *memory = &archive.bus->memory;
    uint64_t n_failed = 0;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        for (uint32_t p = 0; p < memory->logs[l].n_partitions; p++)
            n_failed += atomic_load(
                &memory_part(&memory->logs[l], p, group_find(memory, "team"))->n_causes[CAUSE_FAILED]);
    cr_expect_eq(n_failed, 1u, "attempts that ended badly are counted on");
    cr_expect_eq(event.attempt, 2);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    for (unsigned i = 2; i < 10; i++) {
        cr_assert_eq(archive_receive(sub, &event), i);
        cr_expect_eq(event.attempt, 1);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
    end(&archive);
}

Test(recover, leaves_an_event_deferred_until_its_handler_has_said)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct evbus_delivery event;
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    publish(&archive, "test.a.one", 0, 2);
    cr_assert_eq(archive_receive(sub, &event), 0);
    cr_assert_eq(evbus_finish(sub, &event, evbus_defer(&event, 3600 * CLOCK_NS_PER_S), NULL), EVBUS_OK);
    evbus_unsubscribe(sub);
    shut_down(&archive);
    come_back(&archive, true);
    sub = archive_join(archive.bus, "team");
    clock_freeze();
    event = (struct evbus_delivery){.size = sizeof event};
    cr_expect_eq(evbus_receive(sub, &event, 0), EVBUS_ETIMEOUT, "the first comes too early, or the second before it");
    clock_advance(3500 * CLOCK_NS_PER_S);
    cr_expect_eq(evbus_receive(sub, &event, 0), EVBUS_ETIMEOUT, "still too early");
    clock_advance(101 * CLOCK_NS_PER_S);
    cr_expect_eq(archive_receive(sub, &event), 0);
    cr_expect_eq(event.attempt, 1);
    clock_release();
    evbus_unsubscribe(sub);
    end(&archive);
}

Test(recover, does_not_charge_what_was_in_a_handler_when_the_host_went_down)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct evbus_delivery event;
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    struct error err = {""};
    char *text;
    size_t len;
    publish(&archive, "test.a.one", 0, 3);
    cr_assert_eq(archive_receive(sub, &event), 0);
    cr_assert(
        await_that(ring_synced(archive_ring(archive.bus, "test.a")) == ring_tail(archive_ring(archive.bus, "test.a"))));
    cr_assert_eq(saved_snapshot(&archive.bus->memory, &text, &len, &err), EVBUS_OK);
    struct term late = {.incarnation = 1, .number = 0xffffff}; /* as of just before the cut */
    cr_assert_eq(saved_write(&archive.bus->memory, late, 1, text, len, &err), EVBUS_OK, "%s", err.text);
    free(text);
    evbus_unsubscribe(sub);
    shut_down(&archive);
    come_back(&archive, true);
    sub = archive_join(archive.bus, "team");
    cr_expect_eq(archive_receive(sub, &event), 0);
    cr_expect_eq(event.attempt, 1);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    cr_expect_eq(archive_receive(sub, &event), 1);
    evbus_unsubscribe(sub);
    end(&archive);
}

Test(recover, gives_a_group_that_no_file_tells_of_everything_that_is_kept)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct evbus_delivery event;
    publish(&archive, "test.a.one", 0, 5);
    shut_down(&archive);
    char command[600];
    snprintf(command, sizeof command, "rm %s/%s/groups.*", archive.folder.path, archive.name);
    cr_assert_eq(system(command), 0);
    come_back(&archive, true);
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    for (unsigned i = 0; i < 5; i++) {
        cr_assert_eq(archive_receive(sub, &event), i);
        cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
    end(&archive);
}

Test(recover, keeps_the_ids_of_topics_that_were_added_while_it_ran)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    static const char more[] =
        "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
        "\"defaults\":{\"partitions\":1,\"ring\":\"16KiB\",\"journal\":true},"
        "\"topics\":{\"test.a.zero\":{},\"test.a.one\":{\"groups\":[\"team\"]},\"test.b.one\":{},\"test.c.one\":{}}}";
    cr_assert_eq(evbus_catalogue_apply(archive.bus, more, 0, NULL), EVBUS_OK, "%s", evbus_message(archive.bus));
    publish(&archive, "test.a.zero", 77, 1);
    publish(&archive, "test.a.one", 0, 2);
    publish(&archive, "test.c.one", 0, 1);
    cr_assert(await_that(ring_journaled(archive_ring(archive.bus, "test.c")) > 0));
    shut_down(&archive);
    come_back(&archive, true);
    cr_expect_eq(archive_read(archive.bus, NULL), 2, "test.a.one is not taken for test.a.zero, which stands before it");
    publish(&archive, "test.c.one", 1, 1);
    end(&archive);
}

Test(recover, reads_the_marks_and_the_end_of_the_last_files_alone)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    publish(&archive, "test.a.one", 0, 8000); /* about 10 files of 256 KiB */
    size_t bytes = 0;
    cr_assert_geq(folder_count(&archive.folder, ".seg"), 10);
    shut_down(&archive);
    archive_forget_memory(&archive);
    char line[256];
    uint64_t before = 0, after = 0;
    for (int i = 0; i < 2; i++) {
        FILE *io = fopen("/proc/self/io", "r");
        cr_assert_not_null(io);
        cr_assert_not_null(fgets(line, sizeof line, io));
        fclose(io);
        cr_assert_eq(sscanf(line, "rchar: %" SCNu64, i == 0 ? &before : &after), 1, "%s", line);
        if (i == 0)
            archive.bus = archive_open(&archive, false);
    }
    cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
    bytes = after - before;
    fprintf(stderr, "%zu bytes read\n", bytes);
    cr_expect_lt(bytes, 256u * 1024,
                 "a file's cells and more: of each partition the last file at most, and that from its mark on");
    cr_expect_eq(archive_read(archive.bus, NULL), 8000);
    end(&archive);
}

/* --- who does it ------------------------------------------------------------------------------------------------------------- */

static int open_in_child(void *context)
{
    const struct archive *archive = context;
    struct evbus *bus = archive_open(archive, true);
    if (bus == NULL) {
        fprintf(stderr, "%s\n", evbus_message(NULL));
        return 1;
    }
    bool is_second = bus->memory.control->incarnation == 2;
    evbus_close(bus);
    return is_second ? 0 : 2;
}

Test(recover, is_done_by_one_of_many_who_come_at_the_same_time)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct child children[8];
    publish(&archive, "test.a.one", 0, 100);
    shut_down(&archive);
    archive_forget_memory(&archive);
    for (int i = 0; i < 8; i++)
        children[i] = child_start(open_in_child, &archive);
    for (int i = 0; i < 8; i++)
        cr_expect_eq(child_join(&children[i]), 0);
    archive.bus = archive_open(&archive, true);
    cr_expect_eq(archive_read(archive.bus, NULL), 100);
    end(&archive);
}

static int open_traced(void *context)
{
    struct archive *archive = context;
    fault_begin();
    struct evbus *bus = archive_open(archive, false);
    fault_end();
    evbus_close(bus);
    return bus != NULL ? 0 : 3;
}

Test(recover, is_done_by_the_next_where_somebody_dies_at_it, .timeout = 250)
{
    struct archive archive = archive_make((struct archive_options){.keeper = false});
    leave_unsynced(&archive, 100);
    unsigned n_killed = 0;
    unsigned step = getenv("EVBUS_QUICK") != NULL ? 17 : 1;
    for (unsigned k = 1; FAULT_WORKS && getenv("EVBUS_SLOW") == NULL; k += step) {
        as_left(&archive);
        if (!child_kill_at_call(open_traced, &archive, k))
            break;
        n_killed++;
        archive.bus = archive_open(&archive, false);
        cr_assert_not_null(archive.bus, "killed at call %u: %s", k, evbus_message(NULL));
        cr_assert_eq(archive_read(archive.bus, NULL), 100, "killed at call %u", k);
        evbus_close(archive.bus);
    }
    fprintf(stderr, "killed at %u calls\n", n_killed);
    if (FAULT_WORKS && getenv("EVBUS_SLOW") == NULL)
        cr_expect_gt(n_killed, 100 / step);
    archive.bus = NULL;
    end(&archive);
}

static void arrange(void *context)
{
    as_left(context);
}

static int open_once(void *context)
{
    fault_begin();
    struct evbus *bus = archive_open(context, false);
    fault_end();
    evbus_close(bus);
    return 0;
}

static void check(void *context, const struct fault *fault, int status)
{
    struct archive *archive = context;
    cr_expect_eq(status, 0, "%s, call %u, error %d: ended with %d", fault->call, fault->nth, fault->error, status);
    struct evbus *bus = archive_open(archive, false);
    cr_assert_not_null(bus, "after %s, call %u, error %d: %s", fault->call, fault->nth, fault->error,
                       evbus_message(NULL));
    cr_assert_eq(archive_read(bus, NULL), 20, "after %s, call %u, error %d", fault->call, fault->nth, fault->error);
    evbus_close(bus);
}

Test(recover, that_fails_at_any_call_is_done_by_the_next, .timeout = 280)
{
    struct archive archive = archive_make((struct archive_options){.keeper = false});
    leave_unsynced(&archive, 20);
    unsigned n = fault_each(&(struct fault_case){arrange, open_once, check, &archive});
    fprintf(stderr, "%u faults\n", n);
    end(&archive);
}

/* --- what is refused ----------------------------------------------------------------------------------------------------------- */

static void refuses(const struct archive *archive, enum evbus_code code, const char *text)
{
    struct evbus *bus = NULL;
    int rc = evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                      .bus = archive->name,
                                                      .service = "tester",
                                                      .keeper = EVBUS_KEEPER_NEVER});
    cr_expect_eq(rc, code, "%s: %s", evbus_strerror(rc), evbus_message(NULL));
    cr_expect_not_null(strstr(evbus_message(NULL), text), "it does not say \"%s\": %s", text, evbus_message(NULL));
}

Test(recover, of_a_bus_in_memory_whose_folder_is_gone_is_refused)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    shut_down(&archive);
    shell("mv %s/%s %s/%s.away", &archive);
    refuses(&archive, EVBUS_ECONFLICT, "where it remembers, is gone: put it back");
    shell("mv %s/%s.away %s/%s", &archive);
    archive.bus = archive_open(&archive, false);
    cr_expect_not_null(archive.bus, "%s", evbus_message(NULL));
    end(&archive);
}

Test(recover, of_a_bus_in_memory_over_another_ones_folder_is_refused)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    shut_down(&archive);
    shell("mv %s/%s %s/%s.away", &archive);
    char other[64];
    snprintf(other, sizeof other, "test-%d-other", (int)getpid());
    cr_assert_eq(evbus_init(&(struct evbus_init_options){.size = sizeof(struct evbus_init_options), .bus = other}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    char command[2048];
    snprintf(command, sizeof command, "cp -a %s/%s %s/%s", archive.folder.path, other, archive.folder.path,
             archive.name);
    cr_assert_eq(system(command), 0);
    refuses(&archive, EVBUS_ECONFLICT, "but another bus's: put the right one there");
    evbus_remove(other);
    archive.bus = NULL;
    end(&archive);
}

Test(recover, of_a_bus_in_memory_over_a_backup_of_another_life_is_refused)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    shut_down(&archive);
    shell("cp -a %s/%s %s/%s.backup", &archive);
    come_back(&archive, true);
    shut_down(&archive);
    char command[2048];
    snprintf(command, sizeof command, "rm -rf %s/%s; cp -a %s/%s.backup %s/%s", archive.folder.path, archive.name,
             archive.folder.path, archive.name, archive.folder.path, archive.name);
    cr_assert_eq(system(command), 0);
    refuses(&archive, EVBUS_ECONFLICT, "a backup was put there while the bus was in memory");
    archive_forget_memory(&archive);
    archive.bus = archive_open(&archive, true);
    cr_expect_not_null(archive.bus, "with the memory gone it goes on from the backup: %s", evbus_message(NULL));
    end(&archive);
}

/* What `evbus rm` removes is the journal, too: nobody is led to it who only has to open the bus. */
Test(recover, of_a_bus_in_memory_that_was_retired_is_what_its_message_says)
{
    struct archive archive = archive_make((struct archive_options){.keeper = false});
    struct memory memory;
    struct error err = {""};
    char folder[FILE_PATH_MAX], catalogue[FILE_PATH_MAX];
    snprintf(folder, sizeof folder, "%s/%s", archive.folder.path, archive.name);
    file_path(catalogue, folder, "catalogue");
    struct control *control = archive.bus->memory.control;
    uint32_t n_logs = atomic_load(&control->n_logs);
    atomic_store(&control->n_logs, LOGS_MAX + 1);
    cr_expect_eq(memory_open(&memory, archive.name, &err), EVBUS_ECORRUPT);
    cr_expect(strstr(err.text, " rm`") == NULL && strstr(err.text, "it comes back from its folder") != NULL, "%s",
              err.text);
    atomic_store(&control->n_logs, n_logs);
    atomic_store(&control->retired, 1);
    cr_expect_eq(memory_open(&memory, archive.name, &err), EVBUS_ESTALE);
    cr_expect(strstr(err.text, " rm`") == NULL && strstr(err.text, "comes back from") != NULL &&
                  strstr(err.text, folder) != NULL,
              "%s", err.text);
    cr_assert_eq(unlink(catalogue), 0);
    cr_expect_eq(memory_open(&memory, archive.name, &err), EVBUS_ESTALE);
    cr_expect_not_null(strstr(err.text, " rm`"), "nothing of it can come back: %s", err.text);
    end(&archive);
}

/* Each partition that has lost its mark would begin at positions that are in use. [J1] */
Test(recover, of_a_bus_whose_marks_were_cut_between_two_entries_is_refused)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    static const char more[] =
        "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
        "\"defaults\":{\"partitions\":1,\"ring\":\"16KiB\",\"journal\":true},"
        "\"topics\":{\"test.a.one\":{\"groups\":[\"team\"]},\"test.b.one\":{},\"test.c.one\":{}}}";
    publish(&archive, "test.a.one", 0, 5);
    const struct ring *first = archive_ring(archive.bus, "test.a");
    cr_assert(
        await_that(ring_synced(first) == ring_tail(first))); /* somebody keeps, so its file is made before this log */
    cr_assert_eq(evbus_catalogue_apply(archive.bus, more, 0, NULL), EVBUS_OK, "%s", evbus_message(archive.bus));
    publish(&archive, "test.c.one", 0, 5);
    const struct ring *added = archive_ring(archive.bus, "test.c");
    cr_assert(await_that(ring_synced(added) == ring_tail(added)));
    shut_down(&archive);
    shell("cp -a %s/%s %s/%s.as-left", &archive);
    for (unsigned n = 5; n-- > 0;) { /* of the five partitions with a journal */
        char command[1200];
        as_left(&archive);
        snprintf(command, sizeof command, "truncate -s %u %s/%s/marks.*", 4096 + n * 1024, archive.folder.path,
                 archive.name);
        cr_assert_eq(system(command), 0, "%s", command);
        refuses(&archive, EVBUS_ECORRUPT, archive.folder.path);
        refuses(&archive, EVBUS_ECORRUPT, "from a backup");
    }
    as_left(&archive);
    archive.bus = archive_open(&archive, true);
    cr_assert_not_null(archive.bus, "put back, it works: %s", evbus_message(NULL));
    cr_expect_eq(archive_read(archive.bus, NULL), 5);
    end(&archive);
}

Test(recover, of_a_bus_whose_names_were_taken_away_works_as_soon_as_its_handles_have_heard_it)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    publish(&archive, "test.a.one", 0, 10);
    archive_forget_memory(&archive);                    /* rm /dev/shm/evbus.*, while a handle is open */
    struct evbus *again = archive_open(&archive, true); /* waits until the old one has let go of the folder */
    cr_assert_not_null(again, "%s", evbus_message(NULL));
    cr_expect_eq(archive_publish(archive.bus, "test.a.one", 10, 100), EVBUS_ESTALE);
    cr_expect_eq(archive_read(again, NULL), 10);
    evbus_close(again);
    end(&archive);
}

Test(recover, leaves_nothing_of_a_bus_that_is_removed)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    publish(&archive, "test.a.one", 0, 10);
    evbus_close(archive.bus);
    cr_expect_eq(evbus_remove(archive.name), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(folder_count(&archive.folder, ""), 0);
    cr_expect_eq(evbus_remove(archive.name), EVBUS_ENOBUS);
}

static int remove_traced(void *context)
{
    struct archive *archive = context;
    fault_begin();
    int rc = evbus_remove(archive->name);
    fault_end();
    return rc == EVBUS_OK ? 0 : 3;
}

/* Names in the folder above, but for the copy. */
static unsigned count_left(const struct archive *archive)
{
    unsigned n = 0;
    DIR *dir = opendir(archive->folder.path);
    cr_assert_not_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.' && strstr(entry->d_name, ".as-left") == NULL;
    closedir(dir);
    return n;
}

Test(recover, finds_all_of_a_bus_or_none_where_somebody_dies_who_removes_it, .timeout = 250)
{
    struct archive archive = archive_make((struct archive_options){.keeper = false});
    leave_unsynced(&archive, 20);
    unsigned n_killed = 0, n_whole = 0, n_made = 0;
    unsigned step = getenv("EVBUS_QUICK") != NULL ? 17 : 1;
    for (unsigned k = 1; FAULT_WORKS && getenv("EVBUS_SLOW") == NULL; k += step) {
        as_left(&archive);
        struct evbus *bus = archive_open(&archive, false);
        cr_assert_not_null(bus, "%s", evbus_message(NULL));
        evbus_close(bus);
        bool was_killed = child_kill_at_call(remove_traced, &archive, k);
        n_killed += was_killed;
        bus = archive_open(&archive, false);
        n_whole += bus != NULL;
        if (bus != NULL) {
            cr_assert_eq(archive_read(bus, NULL), 20, "killed at call %u", k);
            evbus_close(bus);
        }
        struct evbus_init_options options = {.size = sizeof options, .bus = archive.name};
        if (bus == NULL && k % 2 == 1 && evbus_init(&options) == EVBUS_OK) { /* one way that what is left goes */
            n_made++;
            cr_expect_eq(count_left(&archive), 1, "killed at call %u, then made anew", k);
        }
        int rc = evbus_remove(archive.name); /* and the other one */
        cr_expect(rc == EVBUS_OK || (rc == EVBUS_ENOBUS && bus == NULL), "killed at call %u: %d", k, rc);
        cr_assert_eq(count_left(&archive), 0, "killed at call %u", k);
        bus = archive_open(&archive, false);
        cr_assert_null(bus, "killed at call %u, then removed", k);
        if (!was_killed)
            break;
    }
    fprintf(stderr, "killed at %u calls, %u left all of it, %u times it was made anew\n", n_killed, n_whole, n_made);
    end(&archive);
}

static struct archive *to_open; /* when the folder's lock is asked for: once */
static bool stays_open;
static struct child opener;

static int open_and_stay(void *context)
{
    struct evbus *bus = archive_open(context, true);
    if (bus != NULL && stays_open)
        pause();
    evbus_close(bus);
    return bus != NULL ? 0 : 1;
}

static bool is_brought_back(const struct archive *archive)
{
    return memory_is_there(archive->name);
}

int flock(int fd, int operation)
{
    char link[64], path[600];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = to_open != NULL ? readlink(link, path, sizeof path - 1) : 0;
    if (n > 4 && memcmp(path + n - 4, "/bus", 4) == 0) {
        struct archive *archive = to_open;
        to_open = NULL;
        opener = child_start(open_and_stay, archive);
        if (stays_open)
            cr_assert(await_that(is_brought_back(archive)));
        else
            cr_assert_eq(child_join(&opener), 0);
    }
    return (int)syscall(SYS_flock, fd, operation);
}

Test(recover, by_who_comes_while_a_bus_is_removed_does_not_outlive_that)
{
    for (int i = 0; i < 2; i++) {
        struct archive archive = archive_make((struct archive_options){.keeper = true});
        publish(&archive, "test.a.one", 0, 10);
        shut_down(&archive);
        stays_open = i == 1;
        to_open = &archive;
        cr_expect_eq(evbus_remove(archive.name), EVBUS_OK, "%s", evbus_message(NULL));
        cr_assert_null(to_open, "nobody came");
        cr_expect(!memory_is_there(archive.name), "%d: it is in memory, and its folder is gone", i);
        cr_expect_eq(count_left(&archive), 0, "%d", i);
        struct evbus *bus = NULL;
        cr_expect_eq(
            evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options), .bus = archive.name}),
            EVBUS_ENOBUS, "%d: %s", i, evbus_message(NULL));
        if (stays_open)
            child_kill(&opener);
        end(&archive);
    }
}

Test(recover, of_a_bus_on_disk_alone_is_not_needed_to_remove_it)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    evbus_close(archive.bus);
    archive_forget_memory(&archive);
    cr_expect_eq(
        evbus_init(&(struct evbus_init_options){.size = sizeof(struct evbus_init_options), .bus = archive.name}),
        EVBUS_EDUPLICATE);
    cr_expect_not_null(strstr(evbus_message(NULL), "a bus remembers in it. Opening that brings it back"), "%s",
                       evbus_message(NULL));
    cr_expect_eq(evbus_remove(archive.name), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(folder_count(&archive.folder, ""), 0);
}

Test(recover, of_a_bus_that_has_lost_one_of_its_names_works, .timeout = 60)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    char command[200];
    publish(&archive, "test.a.one", 0, 10);
    snprintf(command, sizeof command, "rm /dev/shm/evbus.%s.test.b", archive.name);
    cr_assert_eq(system(command), 0);
    unsigned n_tried = 10;
    while (archive_publish(archive.bus, "test.a.one", n_tried++, 100) == EVBUS_OK) {
    } /* until somebody has looked at the names; the last one may be there: it heard of it behind its commit */
    struct evbus *again = archive_open(&archive, true);
    cr_assert_not_null(again, "%s", evbus_message(NULL));
    cr_expect_leq(archive_read(again, NULL), n_tried);
    evbus_close(again);
    end(&archive);
}

Test(recover, tells_no_loss_of_a_partition_that_was_idle_for_a_life)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    uint64_t lost;
    publish(&archive, "test.a.one", 0, 10);
    for (int life = 0; life < 3; life++) {
        shut_down(&archive);
        come_back(&archive, true);
        const struct ring *ring = archive_ring(archive.bus, "test.b");
        publish(&archive, "test.b.one", 0, 1); /* so that somebody keeps */
        cr_assert(await_that(ring_synced(ring) == ring_tail(ring)));
    }
    cr_expect_eq(archive_read(archive.bus, &lost), 10);
    cr_expect_eq(lost, 0);
    end(&archive);
}

/* A name of it is gone, as another process has seen; and nobody has the folder's lock. */
static int open_alone(const struct archive *archive)
{
    char folder[FILE_PATH_MAX];
    struct state state;
    struct state_identity identity;
    struct error err = {""};
    file_path(folder, archive->folder.path, archive->name);
    int rc = state_open(&state, folder, true, &identity, &err);
    if (rc == EVBUS_OK)
        state_close(&state);
    return rc;
}

Test(recover, need_not_wait_for_a_handle_without_a_keeper_that_has_heard_it)
{
    struct archive archive = archive_make((struct archive_options){.keeper = false});
    archive_forget_memory(&archive);
    cr_assert(retire_check_names(&archive.bus->memory));
    cr_expect_eq(open_alone(&archive), EVBUS_EBUSY);
    cr_expect_eq(archive_publish(archive.bus, "test.a.one", 0, 100), EVBUS_ESTALE);
    cr_expect_eq(open_alone(&archive), EVBUS_OK, "it has let go");
    end(&archive);
}

static const struct archive *to_retire; /* while its catalogue is written: once */
static int while_written;

int rename(const char *from, const char *to)
{
    const struct archive *archive = to_retire;
    size_t len = strlen(to);
    if (archive != NULL && len > 10 && strcmp(to + len - 10, "/catalogue") == 0) {
        to_retire = NULL;
        archive_forget_memory(archive);
        cr_expect(retire_check_names(&archive->bus->memory));
        cr_expect_eq(bus_check_names(archive->bus, 0, NULL), EVBUS_ESTALE); /* as another thread of this handle */
        while_written = open_alone(archive);
    }
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

Test(recover, waits_for_who_writes_the_catalogue)
{
    struct archive archive = archive_make((struct archive_options){.keeper = false});
    static const char more[] =
        "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
        "\"defaults\":{\"partitions\":1,\"ring\":\"16KiB\",\"journal\":true},"
        "\"topics\":{\"test.a.one\":{\"groups\":[\"team\"]},\"test.b.one\":{},\"test.b.two\":{}}}";
    to_retire = &archive;
    evbus_catalogue_apply(archive.bus, more, 0, NULL);
    cr_assert_null(to_retire, "it was not written");
    cr_expect_eq(while_written, EVBUS_EBUSY, "somebody else could have brought the bus back: %d", while_written);
    cr_expect_eq(open_alone(&archive), EVBUS_OK, "it has let go when it has written");
    end(&archive);
}

static int find_state(void *context, const struct evbus_listed *listed)
{
    struct archive *archive = context;
    return strcmp(listed->bus, archive->name) == 0 ? 1000 - listed->state : 0;
}

Test(recover, of_a_bus_is_not_done_by_who_lists_it)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    cr_expect_eq(evbus_list(find_state, &archive), 1000);
    shut_down(&archive);
    archive_forget_memory(&archive);
    cr_expect_eq(evbus_list(find_state, &archive), 1000 - EVBUS_ENOBUS, "it is on disk");
    archive.bus = archive_open(&archive, false);
    cr_expect_eq(evbus_list(find_state, &archive), 1000);
    end(&archive);
}
