/* test_inspect.c: evbus_inspect() shows what stands there, of whatever stands there, and changes nothing. [no tsan]: it forks.
 * A random test prints its seed; EVBUS_SEED=n repeats it. */
#include "await.h"
#include "bus.h"
#include "child.h"
#include "fixture.h"
#include "group.h"
#include "json.h"
#include "pending.h"
#include "shown.h"
#include "slot.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define SOON    UINT64_C(10000000000)

/* --- what is shown --------------------------------------------------------------------------------------------------- */

static struct shown inspect(const char *bus, struct evbus_inspect_options options, int expected)
{
    struct shown shown = {0};
    options.size = sizeof options;
    options.bus = bus;
    int rc = evbus_inspect(&options, shown_keep, &shown);
    cr_assert_eq(rc, expected, "%d: %s", rc, evbus_message(NULL));
    return shown;
}

/* --- copies ------------------------------------------------------------------------------------------------------------ */

#define FILES_MAX 8

/* The files of a bus, in memory and in a folder of their own (on a tmpfs: a disk is written to when a file is cut). */
struct copies {
    char dir[64];
    unsigned n;
    struct copy {
        char name[128];
        size_t len;
        unsigned char *bytes; /* as copied */
    } of[FILES_MAX];
};

static char dir_to_remove[64];

static void remove_dir(void)
{
    char path[256];
    DIR *dir = dir_to_remove[0] != '\0' ? opendir(dir_to_remove) : NULL;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "%s/%.120s", dir_to_remove, entry->d_name);
        unlink(path);
    }
    if (dir != NULL)
        closedir(dir);
    rmdir(dir_to_remove);
    dir_to_remove[0] = '\0';
}

static unsigned char *read_file(const char *path, size_t *out_len)
{
    struct stat found;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(fd >= 0 && fstat(fd, &found) == 0, "%s", path);
    unsigned char *bytes = malloc((size_t)found.st_size + 1);
    cr_assert_not_null(bytes);
    cr_assert_eq(read(fd, bytes, (size_t)found.st_size), found.st_size);
    close(fd);
    *out_len = (size_t)found.st_size;
    return bytes;
}

static void write_copy(const struct copies *copies, const struct copy *copy, const void *bytes, size_t len)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", copies->dir, copy->name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert(fd >= 0 && write(fd, bytes, len) == (ssize_t)len, "%s", path);
    close(fd);
}

static struct copies copy_bus(const char *bus)
{
    struct copies copies = {.dir = "/dev/shm/evbus-inspect-XXXXXX"};
    char prefix[96];
    snprintf(prefix, sizeof prefix, "evbus.%s.", bus);
    cr_assert_not_null(mkdtemp(copies.dir));
    strcpy(dir_to_remove, copies.dir);
    atexit(remove_dir);
    DIR *dir = opendir("/dev/shm");
    cr_assert_not_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[256];
        struct copy *copy = &copies.of[copies.n];
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        cr_assert_lt(copies.n++, (unsigned)FILES_MAX);
        snprintf(copy->name, sizeof copy->name, "%.127s", entry->d_name);
        snprintf(path, sizeof path, "/dev/shm/%s", copy->name);
        copy->bytes = read_file(path, &copy->len);
        write_copy(&copies, copy, copy->bytes, copy->len);
    }
    closedir(dir);
    return copies;
}

static struct copy *copy_of(struct copies *copies, const char *part)
{
    for (unsigned i = 0; i < copies->n; i++)
        if (strcmp(strchr(strchr(copies->of[i].name, '.') + 1, '.') + 1, part) == 0)
            return &copies->of[i];
    cr_assert_fail("no copy of %s", part);
    return NULL;
}

static void forget_copies(struct copies *copies)
{
    for (unsigned i = 0; i < copies->n; i++)
        free(copies->of[i].bytes);
    remove_dir();
}

/* --- a scene ------------------------------------------------------------------------------------------------------------ */

/* A group with a member that has one event in hand, one that failed once, and one that waits behind it; a claim of a thread that
 * was killed, a claim of a living one; a reader that pins. Nobody keeps the bus. */
struct scene {
    struct fixture f;
    struct evbus_subscription *sub;
    struct evbus_reader *reader;
    struct evbus_delivery in_hand;
    uint64_t in_hand_pos, failed_pos, dead_claim, own_claim;
    uint32_t dead_slot;
    int32_t dead_pid;
};

struct claimed {
    struct fixture f;
    _Atomic uint64_t pos;
    _Atomic uint32_t slot;
};

static uint64_t claim_two(struct evbus *bus, uint32_t *out_slot)
{
    struct bus_thread *thread;
    struct error err = {""};
    cr_assert(bus_thread(bus, &thread, &err) == EVBUS_OK);
    cr_assert(ring_claim(&bus->memory.logs[0].rings[0], 2, &thread->claim, &err) == EVBUS_OK);
    *out_slot = thread->claim.slot;
    return thread->claim.pos;
}

static int claim_and_die(void *context)
{
    struct claimed *claimed = context;
    struct evbus *bus = fixture_open(&claimed->f, "doomed", EVBUS_KEEPER_NEVER);
    uint32_t slot;
    atomic_store(&claimed->pos, claim_two(bus, &slot));
    atomic_store(&claimed->slot, slot);
    return 42;
}

static struct scene scene_make(void)
{
    static const char catalogue[] =
        "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"4KiB\"},"
        "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]},\"test.b.one\":{}}}";
    struct scene scene = {.f = fixture_make((struct fixture_options){.catalogue = catalogue})};
    struct evbus *bus = scene.f.bus;
    cr_assert_eq(
        evbus_reader_open(&scene.reader, bus, &(struct evbus_reader_options){.from = EVBUS_FROM_EARLIEST, .pin = true}),
        EVBUS_OK);
    cr_assert_eq(evbus_subscribe(&scene.sub, bus, &(struct evbus_subscribe_options){.group = "mailer"}), EVBUS_OK);
    cr_assert_eq(fixture_publish(bus, "a", "{\"first\":1}"), EVBUS_OK);
    cr_assert_eq(fixture_publish(bus, "a", "{\"second\":2}"), EVBUS_OK);
    cr_assert_eq(fixture_publish(bus, "b", "{\"third\":3}"), EVBUS_OK);
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_receive(scene.sub, &got, SOON), EVBUS_OK);
    scene.failed_pos = got.position;
    cr_assert_eq(evbus_finish(scene.sub, &got, EVBUS_RETRY, "no"), EVBUS_OK);
    scene.in_hand.size = sizeof scene.in_hand;
    cr_assert_eq(evbus_receive(scene.sub, &scene.in_hand, SOON), EVBUS_OK);
    scene.in_hand_pos = scene.in_hand.position;
    struct claimed *claimed = child_shared(sizeof *claimed);
    claimed->f = scene.f;
    struct child child = child_start(claim_and_die, claimed);
    scene.dead_pid = child.pid;
    cr_assert_eq(child_join(&child), 42);
    scene.dead_claim = atomic_load(&claimed->pos);
    scene.dead_slot = atomic_load(&claimed->slot);
    uint32_t slot;
    scene.own_claim = claim_two(bus, &slot);
    return scene;
}

static void scene_end(struct scene *scene)
{
    struct bus_thread *thread;
    cr_assert_eq(bus_thread(scene->f.bus, &thread, NULL), EVBUS_OK);
    ring_abandon(&thread->claim);
    evbus_unsubscribe(scene->sub);
    evbus_reader_close(scene->reader);
    fixture_end(&scene->f);
}

/* --- what stands there is shown ------------------------------------------------------------------------------------------ */

Test(inspect, a_known_scene_is_shown_as_it_is)
{
    struct scene scene = scene_make();
    struct shown shown = inspect(scene.f.name, (struct evbus_inspect_options){0}, EVBUS_OK);
    const struct memory *memory = &scene.f.bus->memory;
    const struct control *control = memory->control;
    const struct ring *ring = &memory->logs[0].rings[0];
    uint32_t slot = group_members(memory, 0, (uint32_t[MEMBERS_MAX]){0}) == 1
                        ? PIN_SLOT(atomic_load(&control->groups[0].members[0].owner))
                        : 0;
    int pid = (int)getpid();
    cr_expect_eq(shown.n_differs, 0u, "%s", shown.text);
    shown_expect(&shown, "\nbus bus=%s folder=/dev/shm uuid=", scene.f.name);
    shown_expect(&shown,
                 " created=%" PRIu64 " layout=%#" PRIx64
                 " ready=1 retired=0 generation=1 logs=5 publishers=2 burials=0 "
                 "slots_end=%u keeper=0 admin=0 settler=0 ",
                 control->created_ns, LAYOUT_FINGERPRINT, slots_end(control));
    shown_expect(&shown, "\nslot slot=%u service=doomed pid=%d thread=dead tid=%d ", scene.dead_slot, scene.dead_pid,
                 scene.dead_pid);
    shown_expect(&shown, "\nslot slot=%u service=tester pid=%d thread=alive ", slot, pid);
    shown_expect(&shown, "\nlog log=test.a file=evbus.%s.test.a bytes=%zu partitions=1 cells=64\n", scene.f.name,
                 memory->logs[0].region.len_bytes);
    shown_expect(&shown, "\ntopic log=test.a id=1 topic=test.a.one groups=mailer\n");
    shown_expect(&shown, "\npartition log=test.a partition=0 cells=64 tail=%" PRIu64 " released=0 ", ring_tail(ring));
    shown_expect(&shown, " used=%" PRIu64 " full=0 cancels=0 buried=0 fences=0 waited_for=0\n", ring_tail(ring));
    shown_expect(&shown, "\nlow log=test.a partition=0 position=0 behind=%" PRIu64 " pin=0 slot=%u service=tester",
                 ring_tail(ring), slot);
    shown_expect(&shown, "\nlow log=test.dlq partition=0 position=0 behind=");
    shown_expect(&shown, " pin=0 for_ever=1\n");
    shown_expect(&shown,
                 "\nword log=test.a partition=0 position=%" PRIu64
                 " state=claimed cells=2 slot=%u service=doomed pid=%d "
                 "thread=dead\n",
                 scene.dead_claim, scene.dead_slot, scene.dead_pid);
    shown_expect(&shown,
                 "\nword log=test.a partition=0 position=%" PRIu64
                 " state=claimed cells=2 slot=%u service=tester pid=%d "
                 "thread=alive\n",
                 scene.own_claim, slot, pid);
    shown_expect(&shown,
                 "\nword log=test.a partition=0 position=%" PRIu64
                 " state=committed cells=2 publisher=1 published_by=tester "
                 "kind=event topic=test.a.one timestamp=",
                 scene.in_hand_pos);
    shown_expect(&shown, "\ngroup group=mailer number=0 state=live made_by=catalogue was_joined=1 ");
    shown_expect(&shown, "\nmember group=mailer place=0 slot=%u service=tester pid=%d thread=alive ", slot, pid);
    shown_expect(&shown, "\nlease group=mailer log=test.a partition=0 cursor=%" PRIu64 " behind=", scene.dead_claim);
    shown_expect(&shown,
                 " low=%" PRIu64
                 " epoch=2 slot=%u service=tester pid=%d thread=alive done=0 redelivered=0 dead_letters=0 "
                 "takeovers=0 failed=1 crashed=0 timeout=0 rejected=0 no_version=0 expired=0\n",
                 scene.failed_pos, slot, pid);
    shown_expect(&shown,
                 "\npending group=mailer log=test.a partition=0 position=%" PRIu64 " state=run attempts=1 followers=0 ",
                 scene.in_hand_pos);
    shown_expect(
        &shown, "\npending group=mailer log=test.a partition=0 position=%" PRIu64 " state=wait attempts=1 followers=1 ",
        scene.failed_pos);
    shown_expect(&shown, " cause=failed alone=0 note=");
    cr_expect_eq(shown_count(&shown, "\npending "), 2u);
    cr_expect_eq(shown_count(&shown, "\nslot "), 2u);
    cr_expect_eq(shown_count(&shown, "\nmember "), 1u);
    cr_expect_eq(shown_count(&shown, "\npartition "), 5u);
    cr_expect_eq(shown_count(&shown, "\nlease "), 2u, "and of its replays");
    shown_forget(&shown);
    scene_end(&scene);
}

Test(inspect, cells_that_are_fenced_off_are_shown_with_whose_they_are)
{
    struct scene scene = scene_make();
    atomic_store(&scene.f.bus->memory.logs[0].rings[0].head->fences[3], FENCE_ENTRY(5, 2, scene.dead_slot, 1));
    struct shown shown = inspect(scene.f.name, (struct evbus_inspect_options){0}, EVBUS_OK);
    shown_expect(&shown, "\nfence log=test.a partition=0 cell=5 cells=2 slot=%u service=doomed pid=%d ",
                 scene.dead_slot, scene.dead_pid);
    shown_forget(&shown);
    scene_end(&scene);
}

/* Each word that the ring's own functions see, in their order, and none else. */
Test(inspect, all_words_are_shown_where_all_are_asked_for)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    for (int i = 0; i < 50; i++)
        cr_assert_eq(fixture_publish(f.bus, i % 3 == 0 ? "key" : NULL,
                                     i % 2 == 0 ? "1"
                                                : "{\"a\":[1,2,3,4,5,6,7,8,9,0],\"b\":"
                                                  "\"ccccccccccccccccccccccccc\"}"),
                     EVBUS_OK);
    const struct ring *ring = &f.bus->memory.logs[0].rings[0];
    struct shown shown = inspect(f.name, (struct evbus_inspect_options){.log = "test.a", .words = UINT32_MAX},
                                 EVBUS_OK);
    const char *at = shown.text;
    unsigned n = 0;
    for (uint64_t pos = ring_released(ring); pos < ring_tail(ring); n++) {
        static const char *const states[] = {"claimed", "committed", "pad", "cancelled"};
        uint64_t word = atomic_load(&ring->words[ring_index(ring, pos)]);
        char line[128];
        snprintf(line, sizeof line, "\nword log=test.a partition=0 position=%" PRIu64 " state=%s cells=%u", pos,
                 states[word_state(word)], word_cells(word));
        at = strstr(at, line);
        cr_assert_not_null(at, "not, or not in this order: %s\n%s", line, shown.text);
        at++;
        pos += word_cells(word);
    }
    cr_expect_gt(n, 16u);
    cr_expect_eq(shown_count(&shown, "\nword "), n);
    cr_expect_eq(shown_count(&shown, "state=pad"), 1u, "the ring's end, where the frame did not fit");
    cr_expect_eq(shown_count(&shown, "\nleft_out "), 0u);
    cr_expect_eq(shown.n_differs, 0u);
    shown_forget(&shown);
    shown = inspect(f.name, (struct evbus_inspect_options){.log = "test.a", .words = 3}, EVBUS_OK);
    cr_expect(shown_count(&shown, "\nword ") >= 6 && shown_count(&shown, "\nword ") <= 7,
              "3 at either end, and a pad:\n%s", shown.text);
    cr_expect_eq(shown_count(&shown, "state=pad"), 1u);
    unsigned n_out = 0;
    for (at = shown.text; (at = strstr(at, " frames=")) != NULL; at++)
        n_out += (unsigned)strtoul(at + strlen(" frames="), NULL, 10);
    cr_expect_eq(n_out + shown_count(&shown, "\nword "), n, "shown and left out make all:\n%s", shown.text);
    shown_forget(&shown);
    fixture_end(&f);
}

Test(inspect, a_frame_is_shown_with_its_key_and_the_front_of_its_payload)
{
    struct scene scene = scene_make();
    struct evbus_inspect_options options = {.has_frame = true, .frame = scene.in_hand_pos};
    struct shown shown = inspect(scene.f.name, options, EVBUS_OK);
    shown_expect(&shown, "\nframe log=test.a partition=0 position=%" PRIu64 " word=", scene.in_hand_pos);
    shown_expect(&shown,
                 " stamped=committed own_position=%" PRIu64 " format=1 kind=event flags=0 cells=2 topic_id=1 "
                 "topic=test.a.one publisher=1 published_by=tester id=",
                 scene.in_hand_pos);
    shown_expect(&shown,
                 " key_hex=62 key=b version_major=1 version_minor=0 payload_len=11 payload_hex=7b227468697264223a337d "
                 "payload={\"third\":3}\n");
    cr_expect_eq(shown_count(&shown, "\nframe "), 1u);
    cr_expect_eq(shown_count(&shown, "\nword "), 0u, "nothing else");
    shown_forget(&shown);
    options.frame = 5000;
    shown = inspect(scene.f.name, options, EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(evbus_message(NULL), "nothing of position 5000"));
    shown_forget(&shown);
    scene_end(&scene);
}

Test(inspect, a_long_payload_is_cut_and_its_length_is_told)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "64KiB"});
    static char payload[4002];
    memset(payload, 'x', sizeof payload - 1);
    payload[0] = payload[sizeof payload - 2] = '"';
    struct evbus_receipt receipt = {.size = sizeof receipt};
    cr_assert_eq(evbus_publish(f.bus, &(struct evbus_event){.topic = "test.a.one", .payload = payload}, &receipt),
                 EVBUS_OK);
    struct shown shown = inspect(
        f.name, (struct evbus_inspect_options){.has_frame = true, .frame = receipt.position, .log = "test.a"},
        EVBUS_OK);
    shown_expect(&shown, " payload_len=4001 ");
    shown_expect(&shown, "=\"xxxxx");
    cr_expect_lt(shown.len, 2000u);
    shown_forget(&shown);
    fixture_end(&f);
}

Test(inspect, what_is_asked_for_is_shown_and_nothing_else)
{
    struct scene scene = scene_make();
    static const struct {
        const char *label;
        struct evbus_inspect_options options;
        unsigned n_slots, n_partitions, n_leases;
        bool has_words, has_group;
    } rows[] = {
        {"all", {0}, 2, 5, 2, true, true},
        {"a log", {.log = "test.a"}, 0, 1, 1, true, true},
        {"a log without a group's", {.log = "test.b"}, 0, 1, 0, true, true},
        {"a group", {.group = "mailer"}, 0, 0, 2, false, true},
        {"a partition", {.has_partition = true}, 0, 5, 2, true, true},
        {"a group in a log", {.group = "mailer", .log = "test.b"}, 0, 0, 0, false, true},
        {"a group in a partition", {.group = "mailer", .has_partition = true}, 0, 0, 2, false, true},
        {"a group in a partition that is none",
         {.group = "mailer", .has_partition = true, .partition = 3},
         0,
         0,
         0,
         false,
         true},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct shown shown = inspect(scene.f.name, rows[i].options, EVBUS_OK);
        cr_expect_eq(shown_count(&shown, "\nbus "), 1u, "%s", rows[i].label);
        cr_expect_eq(shown_count(&shown, "\nslot "), rows[i].n_slots, "%s", rows[i].label);
        cr_expect_eq(shown_count(&shown, "\npartition "), rows[i].n_partitions, "%s", rows[i].label);
        cr_expect_eq(shown_count(&shown, "\nlease "), rows[i].n_leases, "%s: %s", rows[i].label, shown.text);
        cr_expect_eq(shown_count(&shown, "\nword ") > 0, rows[i].has_words, "%s", rows[i].label);
        cr_expect_eq(shown_count(&shown, "\ngroup ") > 0, rows[i].has_group, "%s", rows[i].label);
        shown_forget(&shown);
    }
    scene_end(&scene);
}

Test(inspect, what_is_not_there_or_makes_no_sense_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    static const struct {
        const char *label;
        struct evbus_inspect_options options;
        int code;
        const char *says;
    } rows[] = {
        {"a log", {.log = "test.z"}, EVBUS_ENOTFOUND, "has no log test.z"},
        {"a group", {.group = "nobody"}, EVBUS_ENOTFOUND, "has no group nobody"},
        {"a partition", {.has_partition = true, .partition = 9}, EVBUS_ENOTFOUND, "has no partition 9"},
        {"a folder", {.dir = "/nowhere"}, EVBUS_ENOBUS, "/nowhere: No such file"},
        {"a folder without it", {.dir = "/proc/self"}, EVBUS_ENOBUS, "in /proc/self"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct shown shown = inspect(f.name, rows[i].options, rows[i].code);
        cr_expect_not_null(strstr(evbus_message(NULL), rows[i].says), "%s: %s", rows[i].label, evbus_message(NULL));
        shown_forget(&shown);
    }
    struct shown shown = {0};
    cr_expect_eq(evbus_inspect(NULL, NULL, NULL), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(NULL), "each is NULL");
    cr_expect_eq(evbus_inspect(&(struct evbus_inspect_options){.bus = "../x"}, shown_keep, &shown), EVBUS_EINVAL);
    cr_expect_eq(evbus_inspect(&(struct evbus_inspect_options){.size = 5000}, shown_keep, &shown), EVBUS_EINVAL);
    cr_expect_eq(evbus_inspect(&(struct evbus_inspect_options){.bus = "no-such-bus"}, shown_keep, &shown),
                 EVBUS_ENOBUS);
    cr_expect_eq(shown.n, 0u);
    fixture_end(&f);
}

Test(inspect, whoever_has_seen_enough_ends_it)
{
    struct scene scene = scene_make();
    struct shown all = inspect(scene.f.name, (struct evbus_inspect_options){0}, EVBUS_OK);
    for (unsigned n = 1; n <= all.n; n++) {
        struct shown shown = {.stop_after = n};
        cr_assert_eq(evbus_inspect(&(struct evbus_inspect_options){.bus = scene.f.name}, shown_keep, &shown), 77,
                     "after %u", n);
        cr_assert_eq(shown.n, n);
        shown_forget(&shown);
    }
    shown_forget(&all);
    scene_end(&scene);
}

/* --- it touches nothing --------------------------------------------------------------------------------------------------- */

Test(inspect, not_a_byte_of_the_bus_changes)
{
    struct scene scene = scene_make();
    struct copies before = copy_bus(scene.f.name);
    struct shown shown = inspect(scene.f.name, (struct evbus_inspect_options){.words = UINT32_MAX}, EVBUS_OK);
    shown_forget(&shown);
    shown = inspect(scene.f.name, (struct evbus_inspect_options){.has_frame = true, .frame = scene.in_hand_pos},
                    EVBUS_OK);
    for (unsigned i = 0; i < before.n; i++) {
        char path[256];
        size_t len;
        snprintf(path, sizeof path, "/dev/shm/%s", before.of[i].name);
        unsigned char *after = read_file(path, &len);
        cr_expect(len == before.of[i].len && memcmp(after, before.of[i].bytes, len) == 0, "%s", before.of[i].name);
        free(after);
    }
    shown_forget(&shown);
    forget_copies(&before);
    scene_end(&scene);
}

/* An object that was sized and never filled: a mapping would take its pages when it is looked at. */
Test(inspect, looking_takes_no_memory_of_the_tmpfs)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    char path[256];
    struct stat before, after;
    snprintf(path, sizeof path, "/evbus.%s.test.c", f.name);
    int fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    cr_assert(fd >= 0 && ftruncate(fd, 1 << 20) == 0 && fstat(fd, &before) == 0);
    struct shown shown = inspect(f.name, (struct evbus_inspect_options){0}, EVBUS_OK);
    shown_expect(&shown, "\ndiffers what=test.c: it does not begin as a log does");
    shown_expect(&shown, "\ndiffers what=test.c: the control object does not name it");
    cr_assert_eq(fstat(fd, &after), 0);
    cr_expect_eq(after.st_blocks, before.st_blocks);
    close(fd);
    shown_forget(&shown);
    fixture_end(&f);
}

/* --- copies, and what is not whole ----------------------------------------------------------------------------------------- */

Test(inspect, copies_in_a_folder_show_the_same)
{
    struct scene scene = scene_make();
    struct copies copies = copy_bus(scene.f.name);
    struct shown live = inspect(scene.f.name, (struct evbus_inspect_options){.words = UINT32_MAX}, EVBUS_OK);
    scene_end(&scene); /* nothing of it is left in /dev/shm */
    struct shown copied = inspect(scene.f.name, (struct evbus_inspect_options){.dir = copies.dir, .words = UINT32_MAX},
                                  EVBUS_OK);
    const char *live_rest = strchr(live.text + 1, '\n'); /* behind the line that names the folder */
    const char *copied_rest = strchr(copied.text + 1, '\n');
    cr_assert(live_rest != NULL && copied_rest != NULL);
    cr_expect_str_eq(copied_rest, live_rest);
    shown_expect(&copied, " folder=%s ", copies.dir);
    shown_forget(&live);
    shown_forget(&copied);
    forget_copies(&copies);
}

Test(inspect, what_differs_is_told_and_the_rest_is_shown)
{
    struct scene scene = scene_make();
    struct copies copies = copy_bus(scene.f.name);
    scene_end(&scene);
    struct copy *control = copy_of(&copies, "control");
    struct copy *log = copy_of(&copies, "test.a");
    uint64_t ring = sizeof(struct log_head);
    static const uint64_t noise = UINT64_C(0x6e6f697365212121);
    const struct {
        const char *label;
        struct copy *copy;
        size_t at;
        uint64_t value;
        unsigned len;
        const char *says, *shows;
    } rows[] = {
        {"half made", control, offsetof(struct control, ready), 0, 4, "it is half made", "\nslot "},
        {"retired", control, offsetof(struct control, retired), 1, 4, "it is retired", "\nslot "},
        {"too many logs", control, offsetof(struct control, n_logs), 77, 4, "77 logs", "\nslot "},
        {"another fingerprint of control's", control, offsetof(struct control, fingerprint), noise, 8, "its layout is",
         "\nslot "},
        {"another magic of control's", control, offsetof(struct control, magic), noise, 8,
         "does not begin as a control object", "\nslot "},
        {"another name", control, offsetof(struct control, bus), noise, 8, "it says that its bus is", "\nslot "},
        {"another uuid", control, offsetof(struct control, uuid), noise, 8, "test.a: it is of another bus", "\nword "},
        {"a log's fingerprint", log, offsetof(struct log_head, fingerprint), noise, 8, "test.a: its layout is",
         "\nword log=test.a"},
        {"a log's magic", log, offsetof(struct log_head, magic), noise, 8, "test.a: it does not begin",
         "\nword log=test.a"},
        {"a log's name", log, offsetof(struct log_head, name), noise, 8, "test.a: it says that its name is",
         "\nword log=test.a"},
        {"its cells", log, offsetof(struct log_head, n_cells), 63, 8, "1 partitions of 63 cells", "\nword log=test.a"},
        {"its partitions", log, offsetof(struct log_head, n_partitions), 0, 4, "0 partitions of 64 cells",
         "\nword log=test.a"},
        {"its topics", log, offsetof(struct log_head, n_topics), 999, 4, "it has 999 topics", "\nword log=test.a"},
        {"its tail", log, ring + offsetof(struct ring_head, tail), 7777, 8, "do not fit a ring of 64 cells",
         "position=0 state=committed"},
        {"its released", log, ring + offsetof(struct ring_head, released), UINT64_C(7777) << 16, 8,
         "do not fit a ring of 64 cells", "position=0 state=committed"},
        {"a word", log, ring + sizeof(struct ring_head) + 0, noise, 8, "no evbus wrote these words",
         "\nword log=test.a"},
        {"a header", log, ring + sizeof(struct ring_head) + 64 * 8 + offsetof(struct frame_header, position), noise, 8,
         "no evbus wrote its header", "\nword log=test.a"},
        {"an epoch", log, ring + sizeof(struct ring_head) + 64 * 72, 0, 2, "a takeover was cut short", "\nlease "},
        {"a seek", log, ring + sizeof(struct ring_head) + 64 * 72 + offsetof(struct group_part, seek),
         UINT64_C(7) << 16, 8, "a seek to 6 was cut short", "\nlease "},
    };
    for (size_t i = 0; i < N(rows); i++) {
        unsigned char *bytes = malloc(rows[i].copy->len);
        cr_assert_not_null(bytes);
        memcpy(bytes, rows[i].copy->bytes, rows[i].copy->len);
        memcpy(bytes + rows[i].at, &rows[i].value, rows[i].len);
        write_copy(&copies, rows[i].copy, bytes, rows[i].copy->len);
        struct shown shown = inspect(scene.f.name, (struct evbus_inspect_options){.dir = copies.dir}, EVBUS_OK);
        cr_expect_geq(shown.n_differs, 1u, "%s", rows[i].label);
        shown_expect(&shown, "%s", rows[i].says);
        shown_expect(&shown, "%s", rows[i].shows);
        shown_forget(&shown);
        free(bytes);
        write_copy(&copies, rows[i].copy, rows[i].copy->bytes, rows[i].copy->len);
    }
    forget_copies(&copies);
}

Test(inspect, a_length_that_leads_beyond_the_ring_is_damage)
{
    struct scene scene = scene_make();
    struct copies copies = copy_bus(scene.f.name);
    scene_end(&scene);
    struct copy *log = copy_of(&copies, "test.a");
    unsigned char *bytes = malloc(log->len);
    cr_assert_not_null(bytes);
    static const struct {
        const char *label;
        uint64_t pos, len;
        const char *says;
    } rows[] = {
        {"a pad up to the end", 56, 8, " position=56 state=pad cells=8\n"},
        {"a pad beyond the end", 56, 9, " position=56 state=none cells=8 word="},
        {"a quarter", 0, 16, " position=0 state=pad cells=16\n"},
        {"more than a quarter", 0, 17, " position=0 state=none cells="},
        {"nothing", 0, 0, " position=0 state=none cells="},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct ring_head *head = (struct ring_head *)(void *)(bytes + sizeof(struct log_head));
        memcpy(bytes, log->bytes, log->len);
        uint64_t tail = rows[i].pos + 8;
        uint64_t released = rows[i].pos << 16;
        uint64_t word = word_make(1, WORD_PAD, 0, (uint32_t)rows[i].len);
        memcpy((char *)head + offsetof(struct ring_head, tail), &tail, 8);
        memcpy((char *)head + offsetof(struct ring_head, released), &released, 8);
        memcpy((char *)(head + 1) + rows[i].pos * 8, &word, 8);
        write_copy(&copies, log, bytes, log->len);
        struct shown shown = inspect(scene.f.name, (struct evbus_inspect_options){.dir = copies.dir}, EVBUS_OK);
        shown_expect(&shown, "%s", rows[i].says);
        shown_forget(&shown);
    }
    free(bytes);
    forget_copies(&copies);
}

Test(inspect, of_another_build_only_the_heads_are_shown)
{
    struct scene scene = scene_make();
    struct copies copies = copy_bus(scene.f.name);
    scene_end(&scene);
    for (unsigned i = 0; i < copies.n; i++) {
        uint64_t fingerprint = UINT64_C(0xf0e1d2c3b4a59687);
        memcpy(copies.of[i].bytes + offsetof(struct control, fingerprint), &fingerprint,
               8); /* the same place in both */
        write_copy(&copies, &copies.of[i], copies.of[i].bytes, copies.of[i].len);
    }
    struct shown shown = inspect(scene.f.name, (struct evbus_inspect_options){.dir = copies.dir}, EVBUS_OK);
    shown_expect(&shown, "\ndiffers what=another build of evbus made it: its layout is 0xf0e1d2c3b4a59687, this is ");
    shown_expect(&shown, "\nlog log=test.a file=evbus.%s.test.a bytes=%zu partitions=1 cells=64\n", scene.f.name,
                 copy_of(&copies, "test.a")->len);
    cr_expect_eq(shown_count(&shown, "\nslot ") + shown_count(&shown, "\nword ") + shown_count(&shown, "\ngroup "), 0u,
                 "%s", shown.text);
    shown_forget(&shown);
    forget_copies(&copies);
}

Test(inspect, files_that_are_missing_are_named_and_the_rest_is_shown)
{
    struct scene scene = scene_make();
    struct copies copies = copy_bus(scene.f.name);
    scene_end(&scene);
    for (unsigned i = 0; i < copies.n; i++) {
        char path[256];
        const char *part = strchr(strchr(copies.of[i].name, '.') + 1, '.') + 1;
        bool is_control = strcmp(part, "control") == 0;
        snprintf(path, sizeof path, "%s/%s", copies.dir, copies.of[i].name);
        cr_assert_eq(unlink(path), 0);
        struct shown shown = inspect(scene.f.name, (struct evbus_inspect_options){.dir = copies.dir}, EVBUS_OK);
        if (is_control)
            shown_expect(&shown, "\ndiffers what=its control object is not there");
        else
            shown_expect(&shown, "\ndiffers what=its log %s is not there", part);
        cr_expect_geq(shown_count(&shown, "\nword log="), 3u);
        cr_expect_eq(shown_count(&shown, "\nslot "), is_control ? 0u : 2u);
        cr_expect_eq(shown_count(&shown, "\nlease "),
                     strcmp(part, "test.a") == 0 || strcmp(part, "test.replay") == 0 ? 1u : 2u);
        shown_forget(&shown);
        write_copy(&copies, &copies.of[i], copies.of[i].bytes, copies.of[i].len);
    }
    forget_copies(&copies);
}

Test(inspect, what_is_no_file_is_named)
{
    struct scene scene = scene_make();
    struct copies copies = copy_bus(scene.f.name);
    scene_end(&scene);
    char path[256];
    snprintf(path, sizeof path, "%s/evbus.%s.test.pipe", copies.dir, scene.f.name);
    cr_assert_eq(mkfifo(path, 0600), 0); /* whoever opens it for reading and waits, waits for ever */
    struct shown shown = inspect(scene.f.name, (struct evbus_inspect_options){.dir = copies.dir}, EVBUS_OK);
    shown_expect(&shown, "\ndiffers what=evbus.%s.test.pipe: ", scene.f.name);
    cr_expect_eq(shown.n_differs, 1u);
    shown_forget(&shown);
    forget_copies(&copies);
}

/* --- whatever stands there ------------------------------------------------------------------------------------------------- */

/* Each line of such a kind stands in the other, too, but for groups that cannot be told. */
static void is_part_of(const struct shown *part, const struct shown *whole, const char *kind)
{
    for (const char *at = part->text; (at = strstr(at, kind)) != NULL; at++) {
        char line[1024];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at + 1, "\n") + 2, at);
        if (strstr(line, " groups=-\n") != NULL)
            *strstr(line, " groups=-\n") = '\0';
        cr_assert_not_null(strstr(whole->text, line), "not in the whole:%s", line);
    }
}

/* Cut at each page, and at some odd places: nothing is told that is not there, and that it is cut is told. */
Test(inspect, files_that_are_cut_anywhere_are_shown_as_far_as_they_go, .timeout = 200)
{
    struct scene scene = scene_make();
    struct copies copies = copy_bus(scene.f.name);
    scene_end(&scene);
    unsigned n = 0;
    struct shown whole = inspect(scene.f.name, (struct evbus_inspect_options){.dir = copies.dir}, EVBUS_OK);
    for (unsigned i = 0; i < copies.n; i++) {
        const struct copy *copy = &copies.of[i];
        bool is_control = strstr(copy->name, ".control") != NULL;
        for (size_t len = 0; len < copy->len; len += len % 4096 == 0 ? 1 + n % 4095 : 4096 - len % 4096, n++) {
            write_copy(&copies, copy, copy->bytes, len);
            struct shown shown = inspect(scene.f.name, (struct evbus_inspect_options){.dir = copies.dir}, EVBUS_OK);
            cr_assert_geq(shown.n_differs, 1u, "%s of %zu bytes: %s", copy->name, len, shown.text);
            cr_assert_leq(shown_count(&shown, "\ngroup "), 1u, "%s of %zu bytes: %s", copy->name, len, shown.text);
            is_part_of(&shown, &whole, "\nslot ");
            is_part_of(&shown, &whole, is_control ? "\nword log=test.b " : "\ntopic ");
            is_part_of(&shown, &whole, "\npartition ");
            is_part_of(&shown, &whole, is_control ? "\npartition " : "\nsleeper ");
            is_part_of(&shown, &whole, is_control ? "\npartition " : "\nlow ");
            is_part_of(&shown, &whole, is_control ? "\npartition " : "\nlease ");
            is_part_of(&shown, &whole, is_control ? "\npartition " : "\npending ");
            shown_forget(&shown);
        }
        write_copy(&copies, copy, copy->bytes, copy->len);
    }
    cr_log_info("%u cuts", n);
    cr_expect_gt(n, 500u);
    shown_forget(&whole);
    forget_copies(&copies);
}

/* Something near what is sane, or at an end, or nothing of the kind. */
static uint64_t any_number(uint64_t *seed)
{
    static const uint64_t ends[] = {0, 1, 63, 64, 65, 1023, 1024, UINT32_MAX, POSITION_LIMIT, INT64_MAX, UINT64_MAX};
    switch (trial_random(seed) % 4) {
    case 0:
        return ends[trial_random(seed) % N(ends)];
    case 1:
        return trial_random(seed) % 200;
    case 2:
        return trial_random(seed) % 200 << trial_random(seed) % 64;
    default:
        return trial_random(seed);
    }
}

/* Numbers in the fields of a file, or noise over a stretch of it, or all of it noise. */
static void scribble(unsigned char *bytes, size_t len, uint64_t *seed)
{
    uint64_t how = trial_random(seed) % 20;
    for (size_t i = 0; how == 0 && i + 8 <= len; i += 8) {
        uint64_t number = trial_random(seed);
        memcpy(bytes + i, &number, 8);
    }
    for (uint64_t n = 1 + trial_random(seed) % 40; how != 0 && n > 0; n--) {
        size_t room = trial_random(seed) % 2 == 0 && len > 1024 ? 1024 : len; /* often in its head ... */
        size_t at = trial_random(seed) % room / 8 * 8;
        if (trial_random(seed) % 2 == 0 && len > sizeof(struct log_head) + 8192) /* ... or in its ring's */
            at = sizeof(struct log_head) + trial_random(seed) % 8192 / 8 * 8;
        uint64_t number = any_number(seed);
        for (uint64_t k = trial_random(seed) % 8 == 0 ? trial_random(seed) % 200 : 1; k > 0 && at + 8 <= len;
             k--, at += 8)
            memcpy(bytes + at, &number, 8);
    }
}

Test(inspect, any_bytes_are_shown_without_a_crash, .timeout = 200)
{
    struct scene scene = scene_make();
    struct copies copies = copy_bus(scene.f.name);
    scene_end(&scene);
    uint64_t seed = trial_seed("inspect/any_bytes_are_shown_without_a_crash");
    uint64_t n = trial_count(3000, 300);
    uint64_t n_told = 0;
    for (uint64_t round = 0; round < n; round++) {
        unsigned i = (unsigned)(trial_random(&seed) % copies.n);
        const struct copy *copy = &copies.of[i];
        unsigned char *bytes = malloc(copy->len);
        cr_assert_not_null(bytes);
        memcpy(bytes, copy->bytes, copy->len);
        scribble(bytes, copy->len, &seed);
        write_copy(&copies, copy, bytes, trial_random(&seed) % 4 == 0 ? trial_random(&seed) % copy->len : copy->len);
        struct evbus_inspect_options options = {
            .size = sizeof options,
            .bus = scene.f.name,
            .dir = copies.dir,
            .words = trial_random(&seed) % 2 == 0 ? UINT32_MAX : 0,
            .has_frame = trial_random(&seed) % 3 == 0,
            .frame = trial_random(&seed) % 2 == 0 ? trial_random(&seed) % 64 : any_number(&seed),
        };
        struct shown shown = {0};
        int rc = evbus_inspect(&options, shown_keep, &shown);
        cr_assert(rc == EVBUS_OK || (rc == EVBUS_ENOTFOUND && options.has_frame), "round %" PRIu64 ": %d %s", round, rc,
                  evbus_message(NULL));
        n_told += shown.n_differs > 0;
        shown_forget(&shown);
        free(bytes);
        if (trial_random(&seed) % 3 != 0) /* else its damage stays for the next rounds */
            write_copy(&copies, copy, copy->bytes, copy->len);
    }
    cr_expect_gt(n_told, n / 3, "damage is told");
    forget_copies(&copies);
}

/* A bus that lives: many write while it is looked at. */
static int publish_until_told(void *context)
{
    struct claimed *told = context;
    struct evbus *bus = fixture_open(&told->f, "busy", EVBUS_KEEPER_NEVER);
    while (atomic_load(&told->pos) == 0) {
        fixture_publish(bus, NULL, "{\"n\":1}");
        atomic_fetch_add(&told->slot, 1);
    }
    return 0;
}

Test(inspect, a_bus_that_is_written_to_is_shown_without_a_crash, .timeout = 100)
{
    struct claimed *told = child_shared(sizeof *told);
    told->f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct child child = child_start(publish_until_told, told);
    cr_assert(await_that(atomic_load(&told->slot) > 100));
    for (uint64_t i = trial_count(300, 50); i > 0; i--) {
        struct shown shown = inspect(told->f.name, (struct evbus_inspect_options){.words = UINT32_MAX}, EVBUS_OK);
        cr_assert_geq(shown_count(&shown, "\npartition "), 4u);
        shown_forget(&shown);
    }
    atomic_store(&told->pos, 1);
    cr_expect_eq(child_join(&child), 0);
    fixture_end(&told->f);
}
