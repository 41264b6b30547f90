/* test_disk.c: a disk that is full, cannot be written, or loses its power: real file systems, in a mount namespace of the test's own.
 * Needs root; power loss needs ext4 on a loop device. [guards DURABLE] */
#include "archive.h"
#include "await.h"
#include "child.h"
#include "clock.h"

#include <evbus/history.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANNOT 77

/* In a child: what is not true ends it, told. */
#define must(condition)                                                                                 \
    do {                                                                                                \
        if (!(condition)) {                                                                             \
            fprintf(stderr, "%s:%d: %s; %s; %s\n", __FILE__, __LINE__, #condition, evbus_message(NULL), \
                    strerror(errno));                                                                   \
            _exit(1);                                                                                   \
        }                                                                                               \
    } while (0)

static struct folder folder;
static char name[64]; /* of the bus */

static void run(int (*body)(void *context))
{
    folder = folder_make();
    snprintf(name, sizeof name, "test-%d-disk", (int)getpid());
    struct child child = child_start(body, NULL);
    int status = child_join(&child);
    if (status == CANNOT)
        cr_skip_test("needs root and a mount namespace of its own; power loss: ext4 and a loop device, too");
    cr_expect_eq(status, 0, "it ended with %d", status);
}

static bool own_mounts(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static const char catalogue[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                                "\"defaults\":{\"partitions\":1,\"ring\":\"16KiB\",\"journal\":true},"
                                "\"topics\":{\"test.a.one\":{\"groups\":[\"team\"]},\"test.b.one\":{}}}";

static char lines[8][700]; /* what the log said of the journal */
static unsigned n_lines;

static void hear(void *context, enum evbus_level level, const char *line)
{
    (void)context;
    (void)level;
    if (strncmp(line, "event=journal", 13) == 0 && strstr(line, "log=test.a") != NULL && n_lines < 8)
        snprintf(lines[n_lines++], sizeof lines[0], "%s", line);
}

static struct evbus *made(void)
{
    struct evbus *bus = NULL;
    must(setenv("EVBUS_STATE_DIR", folder.path, 1) == 0);
    must(evbus_init(&(struct evbus_init_options){
             .size = sizeof(struct evbus_init_options), .bus = name, .catalogue = catalogue}) == EVBUS_OK);
    must(evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                  .bus = name,
                                                  .service = "tester",
                                                  .log = hear,
                                                  .log_level = EVBUS_LOG_WARNING}) == EVBUS_OK);
    return bus;
}

static int publish(struct evbus *bus, unsigned seq, enum evbus_ack ack, uint64_t timeout_ns)
{
    char payload[1100];
    memset(payload, ' ', sizeof payload);
    payload[snprintf(payload, sizeof payload, "{\"seq\":%u}", seq)] = ' ';
    payload[sizeof payload - 1] = '\0';
    return evbus_publish(bus,
                         &(struct evbus_event){.size = sizeof(struct evbus_event),
                                               .topic = "test.a.one",
                                               .payload = payload,
                                               .key = "k",
                                               .ack = ack,
                                               .timeout_ns = timeout_ns},
                         NULL);
}

static unsigned count_all(struct evbus *bus)
{
    struct evbus_reader *reader = NULL;
    unsigned n = 0;
    must(evbus_reader_open(&reader, bus,
                           &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                          .from = EVBUS_FROM_EARLIEST}) == EVBUS_OK);
    for (;; n++) {
        struct evbus_delivery delivery = {.size = sizeof delivery};
        int rc = evbus_reader_next(reader, &delivery, 0);
        if (rc == EVBUS_ETIMEOUT)
            break;
        must(rc == EVBUS_OK && archive_seq(delivery.payload) == n);
    }
    must(evbus_reader_lost(reader) == 0);
    evbus_reader_close(reader);
    return n;
}

/* The disk refuses (by `refuse`), then gives in (by `give_in`): rings fill, nothing is lost, all goes on by itself. */
static int through_trouble(bool (*refuse)(void), bool (*give_in)(void), const char *reason)
{
    struct evbus *bus = made();
    unsigned n = 0;
    for (; n < 20; n++)
        must(publish(bus, n, EVBUS_ACK_DISK, CLOCK_NS_PER_S) == EVBUS_OK);
    must(refuse());
    int rc;
    while ((rc = publish(bus, n, EVBUS_ACK_LOG, CLOCK_NS_PER_S / 5)) == EVBUS_OK)
        must(++n < 20000);
    must(rc == EVBUS_EFULL);
    must(await_that(n_lines > 0));
    must(strstr(lines[0], "state=failed") != NULL && strstr(lines[0], reason) != NULL);
    must(publish(bus, n, EVBUS_ACK_LOG, 0) == EVBUS_EFULL); /* and it does not hang */
    must(give_in());
    must(await_that((rc = publish(bus, n, EVBUS_ACK_DISK, CLOCK_NS_PER_S)) != EVBUS_EFULL));
    must(rc == EVBUS_OK);
    n++;
    must(await_that(n_lines > 1) &&
         strstr(lines[1], "state=writing") != NULL); /* told once when it begins, once when it is over */
    must(count_all(bus) == n);
    evbus_close(bus);
    must(evbus_remove(name) == EVBUS_OK);
    return 0;
}

static bool fill(void)
{
    char path[300];
    static char zeros[4096];
    snprintf(path, sizeof path, "%s/filler", folder.path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    while (write(fd, zeros, sizeof zeros) > 0) {
    }
    close(fd);
    return fd >= 0;
}

static bool empty(void)
{
    char path[300];
    snprintf(path, sizeof path, "%s/filler", folder.path);
    return unlink(path) == 0;
}

static int on_a_full_disk(void *context)
{
    (void)context;
    if (!own_mounts() || mount("tmpfs", folder.path, "tmpfs", 0, "size=2m") != 0)
        return CANNOT;
    return through_trouble(fill, empty, "No space left on device; free space there");
}

Test(disk, that_is_full_fills_the_rings_and_all_goes_on_by_itself, .timeout = 100)
{
    run(on_a_full_disk);
}

/* The bus is on a disk that has room, its copies are to go to one that has none. */
static int copy_to_a_full_disk(void *context)
{
    (void)context;
    char copies[300];
    snprintf(copies, sizeof copies, "%s/copies", folder.path);
    struct evbus_backup_options options = {.size = sizeof options, .dir = copies};
    if (!own_mounts() || mkdir(copies, 0755) != 0 || mount("tmpfs", copies, "tmpfs", 0, "size=1m") != 0)
        return CANNOT;
    struct evbus *bus = made();
    for (unsigned n = 0; n < 1500; n++)
        must(publish(bus, n, EVBUS_ACK_LOG, 5 * CLOCK_NS_PER_S) == EVBUS_OK);
    must(evbus_backup(bus, &options) == EVBUS_ENOSPC);
    must(strstr(evbus_message(bus), "No space left on device") != NULL);
    must(strstr(evbus_message(bus), copies) != NULL && strstr(evbus_message(bus), ".seg") != NULL);
    struct folder of_copies;
    snprintf(of_copies.path, sizeof of_copies.path, "%.250s", copies);
    must(folder_count(&of_copies, "") == 0);
    must(umount(copies) == 0 && mount("tmpfs", copies, "tmpfs", 0, "size=32m") == 0);
    must(evbus_backup(bus, &options) == EVBUS_OK);
    must(mount(NULL, copies, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0);
    snprintf(copies, sizeof copies, "%s/copies/more", folder.path);
    must(evbus_backup(bus, &options) == EVBUS_EPERM);
    must(strstr(evbus_message(bus), copies) != NULL);
    evbus_close(bus);
    must(evbus_remove(name) == EVBUS_OK);
    return 0;
}

Test(disk, that_is_full_has_nothing_of_a_backup_and_its_message_names_the_file, .timeout = 100)
{
    run(copy_to_a_full_disk);
}

static bool make_read_only(void)
{
    return mount(NULL, folder.path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0;
}

static bool make_writable(void)
{
    return mount(NULL, folder.path, NULL, MS_BIND | MS_REMOUNT, NULL) == 0;
}

static int on_a_read_only_disk(void *context)
{
    (void)context;
    if (!own_mounts() || mount("tmpfs", folder.path, "tmpfs", 0, "size=16m") != 0)
        return CANNOT;
    struct evbus *bus = made();
    unsigned n = 0;
    for (; n < 20; n++)
        must(publish(bus, n, EVBUS_ACK_DISK, CLOCK_NS_PER_S) == EVBUS_OK);
    evbus_close(bus);
    must(make_read_only());
    must(evbus_open(&bus,
                    &(struct evbus_options){
                        .size = sizeof(struct evbus_options), .bus = name, .service = "tester", .log = hear}) ==
         EVBUS_OK);
    must(publish(bus, n, EVBUS_ACK_LOG, 0) == EVBUS_OK); /* memory takes it; nobody may keep the bus [J7] */
    n++;
    must(make_writable());
    must(publish(bus, n, EVBUS_ACK_DISK, CLOCK_NS_PER_S) == EVBUS_OK);
    must(count_all(bus) == n + 1);
    evbus_close(bus);
    must(evbus_remove(name) == EVBUS_OK);
    return 0;
}

Test(disk, that_is_read_only_has_no_keeper_until_it_can_be_written, .timeout = 100)
{
    run(on_a_read_only_disk);
}

/* --- power loss ------------------------------------------------------------------------------------------------------------------ */

static bool shell(const char *format)
{
    char command[2000];
    snprintf(command, sizeof command, format, folder.path, folder.path, folder.path, folder.path);
    return system(command) == 0;
}

static int publish_until_the_disk_is_gone(void *context)
{
    unsigned *n_acknowledged = context;
    struct evbus *bus = NULL;
    must(evbus_open(&bus, &(struct evbus_options){
                              .size = sizeof(struct evbus_options), .bus = name, .service = "tester"}) == EVBUS_OK);
    for (unsigned seq = 0;; seq++) {
        if (publish(bus, seq, EVBUS_ACK_DISK, CLOCK_NS_PER_S) != EVBUS_OK)
            break;
        __atomic_store_n(n_acknowledged, seq + 1, __ATOMIC_RELEASE);
    }
    for (;;)
        await_pause(); /* it is killed, as by the cut */
}

static int on_a_disk_that_loses_its_power(void *context)
{
    (void)context;
    unsigned *n_acknowledged = child_shared(sizeof *n_acknowledged);
    if (!own_mounts() || !shell("truncate -s 64M %s.img && mkfs.ext4 -q -F %s.img 2>/dev/null"))
        return CANNOT;
    if (!shell("mount -o loop %s.img %s 2>/dev/null")) {
        shell("rm -f %s.img");
        return CANNOT;
    }
    for (unsigned round = 0; round < 5; round++) {
        must(setenv("EVBUS_STATE_DIR", folder.path, 1) == 0);
        *n_acknowledged = 0;
        must(evbus_init(&(struct evbus_init_options){
                 .size = sizeof(struct evbus_init_options), .bus = name, .catalogue = catalogue}) == EVBUS_OK);
        struct child child = child_start(publish_until_the_disk_is_gone, n_acknowledged);
        must(await_that(__atomic_load_n(n_acknowledged, __ATOMIC_ACQUIRE) >= 100 + 77 * round));
        int fd = open(folder.path, O_RDONLY | O_DIRECTORY);
        uint32_t no_flush = 2;
        /* What is acknowledged behind the cut nobody could have seen: an fdatasync that is under way may still say that all is well,
         * since an aborted journal ends its transaction without writing it. */
        unsigned n_seen = __atomic_load_n(n_acknowledged, __ATOMIC_ACQUIRE);
        must(ioctl(fd, _IOR('X', 125, uint32_t), &no_flush) == 0); /* ext4: shut down, the log is not flushed */
        close(fd);
        child_kill(&child);
        struct archive lost = {.folder = folder};
        memcpy(lost.name, name, sizeof lost.name);
        archive_forget_memory(&lost);
        must(shell("umount %s && mount -o loop %s.img %s"));
        struct evbus *bus = NULL;
        must(evbus_open(&bus, &(struct evbus_options){
                                  .size = sizeof(struct evbus_options), .bus = name, .service = "tester"}) == EVBUS_OK);
        unsigned n = count_all(bus);
        fprintf(stderr, "acknowledged %u, there are %u\n", n_seen, n);
        must(n >= n_seen);
        evbus_close(bus);
        must(evbus_remove(name) == EVBUS_OK);
    }
    must(shell("umount %s && rm -f %s.img"));
    return 0;
}

Test(disk, that_loses_its_power_has_all_that_was_acknowledged, .timeout = 100)
{
    run(on_a_disk_that_loses_its_power);
}
