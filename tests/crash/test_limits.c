/* test_limits.c: what runs out, or may not be written, in the world as it is: a small /dev/shm, a read-only one, a
 * read-only root, no place left in the bus, somebody else's bus or one of another layout, rlimits. Each answers
 * with a code and a message that names the thing and the mend, leaves nothing behind, and works again when the
 * cause is gone.
 *
 * A test's body is a child in a mount namespace of its own; the test's program itself needs a /dev/shm that it may
 * write. Made errors of single calls are in test_faults.c. [R15] [R18] */
#include "child.h"
#include "fixture.h"

#include "bus.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define CANNOT  77
#define NOBODY  65534

#define HEAD      "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"8KiB\"},"
#define CATALOGUE HEAD "\"topics\":{\"test.a.one\":{\"groups\":[\"team\"]},\"test.b.one\":{}}}"

static const struct evbus_init_options small = {.bus = "small", .catalogue = CATALOGUE};

/* In a child: says what is wrong, and ends it. */
#define must(condition)                                                                              \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            fprintf(stderr, "%s:%d: %s; %s\n", __FILE__, __LINE__, #condition, evbus_message(NULL)); \
            _exit(1);                                                                                \
        }                                                                                            \
    } while (0)

/* Is it this code, with a message that has each of these words? */
static bool is(int rc, int wanted, const char *thing, const char *mend)
{
    const char *text = evbus_message(NULL);
    if (rc == wanted && strstr(text, thing) != NULL && strstr(text, mend) != NULL)
        return true;
    fprintf(stderr, "%d, not %d with \"%s\" and \"%s\": %s\n", rc, wanted, thing, mend, text);
    return false;
}

/* The program as typed: its exit code, and what it says. */
static bool cli(int wanted, const char *arguments, const char *word)
{
    char command[512];
    char text[8192];
    if (getenv("EVBUS") == NULL || access(getenv("EVBUS"), X_OK) != 0) {
        fprintf(stderr, "%s cannot be run by user %d\n", getenv("EVBUS") != NULL ? getenv("EVBUS") : "$EVBUS",
                geteuid());
        return geteuid() == NOBODY; /* a build folder may be closed to him */
    }
    snprintf(command, sizeof command, "$EVBUS %s 2>&1", arguments);
    FILE *pipe = popen(command, "r");
    must(pipe != NULL);
    size_t len = fread(text, 1, sizeof text - 1, pipe);
    text[len] = '\0';
    int status = pclose(pipe);
    if (WIFEXITED(status) && WEXITSTATUS(status) == wanted && strstr(text, word) != NULL)
        return true;
    fprintf(stderr, "evbus %s: status %#x, not exit code %d with \"%s\": %s\n", arguments, (unsigned)status, wanted,
            word, text);
    return false;
}

static unsigned count_names(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/dev/shm");
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        n += strncmp(entry->d_name, "evbus.", 6) == 0;
    if (dir != NULL)
        closedir(dir);
    return n;
}

static bool has_nothing(void)
{
    struct statvfs stat;
    return count_names() == 0 && statvfs("/dev/shm", &stat) == 0 && stat.f_bfree == stat.f_blocks;
}

static int try_open(const char *name)
{
    struct evbus *bus;
    int rc = evbus_open(&bus, &(struct evbus_options){.bus = name, .service = "tester"});
    if (rc == EVBUS_OK)
        evbus_close(bus);
    return rc;
}

/* A publish, a reader and a member. */
static bool works(const char *name, const char *service, const char *topic, const char *group)
{
    struct evbus *bus;
    struct evbus_reader *reader;
    struct evbus_subscription *sub;
    struct evbus_delivery got = {.size = sizeof got};
    must(evbus_open(&bus, &(struct evbus_options){.bus = name, .service = service}) == EVBUS_OK);
    must(evbus_reader_open(&reader, bus, NULL) == EVBUS_OK);
    must(evbus_subscribe(&sub, bus, &(struct evbus_subscribe_options){.group = group}) == EVBUS_OK);
    must(evbus_publish(bus, &(struct evbus_event){.topic = topic, .payload = "\"as ever\""}, NULL) == EVBUS_OK);
    must(evbus_reader_next(reader, &got, UINT64_C(10000000000)) == EVBUS_OK && strcmp(got.payload, "\"as ever\"") == 0);
    must(evbus_receive(sub, &got, UINT64_C(10000000000)) == EVBUS_OK && strcmp(got.payload, "\"as ever\"") == 0);
    must(evbus_finish(sub, &got, EVBUS_DONE, NULL) == EVBUS_OK);
    evbus_unsubscribe(sub);
    evbus_reader_close(reader);
    evbus_close(bus);
    return true;
}

static bool remount(const char *folder, unsigned long flags, const char *size)
{
    return mount("tmpfs", folder, "tmpfs", MS_REMOUNT | flags, size) == 0;
}

static bool become_nobody(void)
{
    return setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0;
}

static void run(int (*body)(void *context), void *context)
{
    struct child child = child_start(body, context);
    int status = child_join(&child);
    if (status == CANNOT)
        cr_skip_test("needs root, for a mount namespace of its own or to become somebody else");
    cr_expect_eq(status, 0, "it ended with %d", status);
}

/* --- /dev/shm ---------------------------------------------------------------------------------------------------- */

static int fill_shm(void *context)
{
    static const struct evbus_init_options shipped = {.bus = "shop"}, second = {.bus = "second"};
    char needed[32];
    uint64_t bytes;
    (void)context;
    if (!fixture_own_shm("1m"))
        return CANNOT;
    must(evbus_catalogue_check(evbus_shipped_catalogue(), strlen(evbus_shipped_catalogue()), &bytes) == EVBUS_OK);
    snprintf(needed, sizeof needed, "%" PRIu64 " bytes", bytes);
    must(is(evbus_init(&shipped), EVBUS_ENOSPC, needed, "--shm-size") && has_nothing());
    must(cli(73, "-b shop init", needed) && cli(73, "-b shop init", "make /dev/shm larger") && has_nothing());
    must(is(try_open("shop"), EVBUS_ENOBUS, "no bus shop", "evbus -b shop init"));
    must(remount("/dev/shm", 0, "size=2m"));
    must(evbus_init(&small) == EVBUS_OK && works("small", "tester", "test.a.one", "team")); /* this one fits */
    must(evbus_remove("small") == EVBUS_OK && has_nothing());

    must(remount("/dev/shm", 0, "size=64m")); /* docker's */
    must(cli(0, "-b shop init", "") &&
         works("shop", "order-payment-service", "lomash.orders.created", "product-service"));
    unsigned n_names = count_names();
    must(is(evbus_init(&second), EVBUS_ENOSPC, needed, "--shm-size") && count_names() == n_names);
    must(cli(73, "-b second init", "--shm-size") && count_names() == n_names);
    must(works("shop", "order-payment-service", "lomash.orders.created", "product-service"));
    must(evbus_remove("shop") == EVBUS_OK && has_nothing());
    must(evbus_init(&second) == EVBUS_OK && evbus_remove("second") == EVBUS_OK);
    return 0;
}

Test(limits, the_shipped_bus_does_not_fit_into_1_mib_and_fits_once_into_64, .timeout = 60) /* [R15] */
{
    run(fill_shm, NULL);
}

static int write_nothing(void *context)
{
    (void)context;
    if (!fixture_own_shm("64m"))
        return CANNOT;
    must(evbus_init(&small) == EVBUS_OK);
    unsigned n_names = count_names();
    must(remount("/dev/shm", MS_RDONLY, NULL));
    const struct evbus_init_options other = {.bus = "other", .catalogue = CATALOGUE};
    must(is(evbus_init(&other), EVBUS_EPERM, "/dev/shm/evbus.other.control", "remount it writable"));
    must(is(try_open("small"), EVBUS_EPERM, "/dev/shm/evbus.small.control", "remount it writable"));
    must(is(evbus_remove("small"), EVBUS_EPERM, "bus small", "remount it writable"));
    must(cli(77, "-b other init", "remount it writable") && cli(77, "-b small stat", "remount it writable"));
    must(cli(77, "-b small rm", "remount it writable"));
    must(cli(0, "-b small inspect", "bus=small")); /* reads only */
    must(count_names() == n_names);
    must(remount("/dev/shm", 0, NULL));
    must(works("small", "tester", "test.a.one", "team") && evbus_init(&other) == EVBUS_OK);
    must(evbus_remove("small") == EVBUS_OK && evbus_remove("other") == EVBUS_OK && has_nothing());
    return 0;
}

Test(limits, a_read_only_dev_shm_is_told_by_name, .timeout = 60)
{
    run(write_nothing, NULL);
}

static int write_only_shm(void *context)
{
    (void)context;
    if (!fixture_own_shm("64m"))
        return CANNOT;
    must(mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &(struct mount_attr){.attr_set = MOUNT_ATTR_RDONLY},
                       sizeof(struct mount_attr)) == 0);
    must(mount_setattr(AT_FDCWD, "/dev/shm", 0, &(struct mount_attr){.attr_clr = MOUNT_ATTR_RDONLY},
                       sizeof(struct mount_attr)) == 0);
    must(open("/tmp/written", O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS);
    must(evbus_init(&small) == EVBUS_OK && works("small", "tester", "test.a.one", "team"));
    must(cli(0, "-b small pub --as tester test.a.one 1", "") && cli(0, "-b small stat", "small") &&
         cli(1, "-b small doctor", "no living member"));
    must(cli(0, "-b small inspect", "bus=small") && cli(0, "-b small rm", "") && has_nothing());
    must(cli(77, "-b shop init", "Read-only file system") && has_nothing()); /* it remembers: where? */
    must(setenv("EVBUS_STATE_DIR", "/dev/shm/state", 1) == 0);
    must(cli(0, "-b shop init", "") &&
         works("shop", "order-payment-service", "lomash.orders.created", "notification-service"));
    must(cli(0, "-b shop rm", "") && rmdir("/dev/shm/state") == 0 && has_nothing());
    return 0;
}

Test(limits, on_a_read_only_root_everything_works_that_needs_no_folder, .timeout = 60)
{
    run(write_only_shm, NULL);
}

/* --- places of the bus ------------------------------------------------------------------------------------------- */

struct bench {
    struct fixture f;
    void *taken[SLOTS_MAX + 1];
};

static const char *group_of(char name[16], unsigned n)
{
    snprintf(name, 16, "group-%u", n);
    return name;
}

static const char *const one_topic[] = {"test.a.one"};

static int add_group(struct bench *bench, unsigned n)
{
    char name[16];
    return evbus_group_add(bench->f.bus, &(struct evbus_group_options){
                                             .group = group_of(name, n), .patterns = one_topic, .n_patterns = 1});
}

static void forget_group(struct bench *bench, unsigned n)
{
    char name[16];
    evbus_group_remove(bench->f.bus, group_of(name, n));
}

static int join_as(struct bench *bench, unsigned n, struct evbus_subscribe_options options)
{
    return evbus_subscribe((struct evbus_subscription **)&bench->taken[n], bench->f.bus, &options);
}

static int join_own_group(struct bench *bench, unsigned n)
{
    char name[16];
    return join_as(bench, n,
                   (struct evbus_subscribe_options){
                       .group = group_of(name, n), .patterns = one_topic, .n_patterns = 1, .ephemeral = true});
}

static int join_team(struct bench *bench, unsigned n)
{
    return join_as(bench, n, (struct evbus_subscribe_options){.group = "team"});
}

static void leave(struct bench *bench, unsigned n)
{
    evbus_unsubscribe(bench->taken[n]);
}

static const struct limit {
    const char *name;
    unsigned n; /* that are free */
    int (*take)(struct bench *bench, unsigned n);
    void (*give_back)(struct bench *bench, unsigned n);
    const char *full, *mend;
} limits[] = {
    {"groups that are added", GROUPS_MAX - 1, add_group, forget_group, "64 groups", "evbus group ls"},
    {"groups that members make", GROUPS_MAX - 1, join_own_group, leave, "64 groups", "evbus group ls"},
    {"members", MEMBERS_MAX, join_team, leave, "group team has 64 members", "evbus group show team"},
};

static struct evbus_stat stat_of(struct evbus *bus)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(bus, &stat), EVBUS_OK);
    return stat;
}

static int count_group(void *context, const struct evbus_group_stat *group)
{
    *(unsigned *)context += 1000 + group->n_members;
    return 0;
}

static unsigned count_places(struct evbus *bus)
{
    unsigned n = 0;
    cr_assert_eq(evbus_groups(bus, count_group, &n), EVBUS_OK);
    return n;
}

Test(limits, each_place_that_is_taken_is_named_and_used_again_when_given_back)
{
    for (size_t i = 0; i < N(limits); i++) {
        const struct limit *limit = &limits[i];
        static struct bench bench;
        bench.f = fixture_make((struct fixture_options){.catalogue = CATALOGUE});
        for (unsigned n = 0; n < limit->n; n++)
            cr_assert_eq(limit->take(&bench, n), EVBUS_OK, "%s: %u: %s", limit->name, n, evbus_message(NULL));
        unsigned n_places = count_places(bench.f.bus), n_slots = stat_of(bench.f.bus).n_slots;
        uint32_t n_topics = stat_of(bench.f.bus).n_topics;
        for (int times = 0; times < 3; times++)
            cr_expect(is(limit->take(&bench, limit->n), EVBUS_ELIMIT, limit->full, limit->mend), "%s", limit->name);
        cr_expect_eq(count_places(bench.f.bus), n_places, "%s: a refusal leaves something behind", limit->name);
        cr_expect_eq(stat_of(bench.f.bus).n_slots, n_slots, "%s", limit->name);
        cr_expect_eq(stat_of(bench.f.bus).n_topics, n_topics, "%s", limit->name);
        limit->give_back(&bench, 7);
        cr_expect_eq(limit->take(&bench, limit->n), EVBUS_OK, "%s: %s", limit->name, evbus_message(NULL));
        cr_expect_eq(count_places(bench.f.bus), n_places, "%s", limit->name);
        cr_expect(is(limit->take(&bench, 7), EVBUS_ELIMIT, limit->full, limit->mend), "%s", limit->name);
        for (unsigned n = 0; n <= limit->n; n++)
            if (n != 7)
                limit->give_back(&bench, n);
        fixture_end(&bench.f);
    }
}

/* A catalogue of n topics in one log, whose last one n_groups groups receive. */
static const char *many(unsigned n_topics, unsigned n_groups)
{
    static char text[65536];
    size_t at = (size_t)snprintf(text, sizeof text,
                                 HEAD "\"logs\":{\"test.a\":{\"ring\":\"128KiB\"}},\"topics\":{\"test.b.one\":{},"
                                      "\"test.a.one\":{\"groups\":[\"team\"");
    for (unsigned i = 0; i < n_groups; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, ",\"more-%u\"", i);
    at += (size_t)snprintf(text + at, sizeof text - at, "]}");
    for (unsigned i = 1; i < n_topics; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, ",\"test.a.t%u\":{}", i);
    snprintf(text + at, sizeof text - at, "}}");
    return text;
}

Test(limits, a_log_has_256_topics)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = many(1, 0)});
    uint32_t before = stat_of(f.bus).n_topics;
    uint32_t n;
    int rc = evbus_catalogue_apply(f.bus, many(TOPICS_MAX + 1, 0), 0, &n);
    cr_expect(is(rc, EVBUS_ECATALOGUE, "test.a", "256 topics"));
    cr_expect_eq(stat_of(f.bus).n_topics, before, "none of them is made");
    cr_assert_eq(evbus_catalogue_apply(f.bus, many(TOPICS_MAX, 0), 0, &n), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(stat_of(f.bus).n_topics, before + TOPICS_MAX - 1);
    const struct evbus_event last = {.topic = "test.a.t255", .payload = "1"};
    cr_expect_eq(evbus_publish(f.bus, &last, NULL), EVBUS_OK, "%s", evbus_message(NULL));
    fixture_end(&f);
}

/* Groups of other hosts take no place. */
Test(limits, a_catalogue_of_more_groups_than_fit_is_applied_where_few_of_them_live)
{
    char text[65536 + 32];
    uint32_t n;
    snprintf(text, sizeof text, "{\"here\":[\"team\"],%s", many(1, GROUPS_MAX + 1) + 1);
    struct fixture f = fixture_make((struct fixture_options){.catalogue = text});
    snprintf(text, sizeof text, "{\"here\":[\"team\"],%s", many(2, GROUPS_MAX + 1) + 1);
    cr_expect_eq(evbus_catalogue_apply(f.bus, text, 0, &n), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect(
        is(evbus_catalogue_apply(f.bus, many(2, GROUPS_MAX), 0, &n), EVBUS_ELIMIT, "65 groups", "evbus group ls"));
    fixture_end(&f);
}

/* A group that is gone has left its topic in the log of dead letters, which has 256. */
Test(limits, a_bus_has_had_256_groups_names)
{
    struct bench bench = {.f = fixture_make((struct fixture_options){.catalogue = many(1, 0)})};
    struct evbus *bus = bench.f.bus;
    uint32_t changes;
    for (unsigned n = 0; n < TOPICS_MAX - 1; n++) { /* one is the team's */
        cr_assert_eq(add_group(&bench, n), EVBUS_OK, "%u: %s", n, evbus_message(NULL));
        forget_group(&bench, n);
    }
    unsigned n_places = count_places(bus);
    uint32_t n_topics = stat_of(bus).n_topics;
    cr_expect(is(add_group(&bench, 999), EVBUS_ELIMIT, "256 groups' topics", "make a new bus"));
    cr_expect(is(join_own_group(&bench, 999), EVBUS_ELIMIT, "256 groups' topics", "make a new bus"));
    int rc = evbus_catalogue_apply(bus, many(5, 1), 0, &changes);
    cr_expect(is(rc, EVBUS_ELIMIT, "256 groups' topics", "make a new bus"));
    cr_expect_eq(count_places(bus), n_places);
    cr_expect_eq(stat_of(bus).n_topics, n_topics, "a catalogue is applied whole or not at all");
    cr_expect_eq(add_group(&bench, 17), EVBUS_OK, "a name that it has had: %s", evbus_message(NULL));
    cr_expect_eq(evbus_catalogue_apply(bus, many(5, 0), 0, &changes), EVBUS_OK, "%s", evbus_message(NULL));
    fixture_end(&bench.f);
}

/* --- somebody else's, of another layout, half made --------------------------------------------------------------- */

static int listed_as(void *context, const struct evbus_listed *listed)
{
    *(int *)context = listed->state;
    return 0;
}

static int as_nobody(void *context)
{
    const struct evbus_init_options same = {.bus = "small", .catalogue = CATALOGUE},
                                    own = {.bus = "own", .catalogue = CATALOGUE};
    int state = EVBUS_OK;
    (void)context;
    must(become_nobody());
    must(is(evbus_init(&same), EVBUS_EDUPLICATE, "bus small", "evbus rm"));
    must(is(try_open("small"), EVBUS_EPERM, "evbus.small.control", "run as"));
    must(is(evbus_remove("small"), EVBUS_EPERM, "bus small", "run as"));
    must(evbus_list(listed_as, &state) == EVBUS_OK && state == EVBUS_EPERM);
    must(cli(77, "-b small stat", "run as") && cli(77, "-b small rm", "run as") && cli(73, "-b small init", "exists"));
    must(evbus_init(&own) == EVBUS_OK && works("own", "tester", "test.a.one", "team"));
    must(evbus_remove("own") == EVBUS_OK);
    return 0;
}

static int of_somebody_else(void *context)
{
    (void)context;
    if (!fixture_own_shm("64m"))
        return CANNOT;
    must(chmod("/dev/shm", 01777) == 0 && evbus_init(&small) == EVBUS_OK);
    unsigned n_names = count_names();
    struct child child = child_start(as_nobody, NULL);
    must(child_join(&child) == 0 && count_names() == n_names);
    must(works("small", "tester", "test.a.one", "team"));
    must(evbus_remove("small") == EVBUS_OK && has_nothing());
    return 0;
}

Test(limits, a_bus_of_another_user_is_left_alone, .timeout = 60) /* [R18] */
{
    run(of_somebody_else, NULL);
}

static const struct damage {
    const char *name, *part;
    long at;     /* where 8 bytes are written; -1: nowhere */
    uint64_t is; /* xor */
    long len;    /* cut to; 0: not */
    int code;
    const char *thing, *mend;
    int exit_code;
    bool init_mends;
} damages[] = {
    {"an older layout", "control", offsetof(struct control, fingerprint), 1, 0, EVBUS_ELAYOUT, "another build",
     "evbus rm", 69, false},
    {"an older layout, shorter", "control", offsetof(struct control, fingerprint), 1, 65536, EVBUS_ELAYOUT,
     "another build", "evbus rm", 69, false},
    {"a log of an older layout", "test.a", offsetof(struct log_head, fingerprint), 1, 0, EVBUS_ELAYOUT, "test.a",
     "evbus rm", 69, false},
    {"half made", "control", offsetof(struct control, ready), 1, 0, EVBUS_ENOBUS, "half made", "init", 69, true},
    {"begun", "control", -1, 0, 1, EVBUS_ENOBUS, "half made", "init", 69, true},
};

static int damage_all(void *context)
{
    (void)context;
    if (!fixture_own_shm("64m"))
        return CANNOT;
    for (size_t i = 0; i < 2 * N(damages); i++) {
        const struct damage *damage = &damages[i / 2];
        bool by_init = i % 2 == 1 && damage->init_mends;
        char path[128];
        uint64_t word;
        must(evbus_init(&small) == EVBUS_OK);
        snprintf(path, sizeof path, "/dev/shm/evbus.small.%s", damage->part);
        int fd = open(path, O_RDWR);
        must(damage->at < 0 || pread(fd, &word, sizeof word, damage->at) == sizeof word);
        word ^= damage->is;
        must(damage->at < 0 || pwrite(fd, &word, sizeof word, damage->at) == sizeof word);
        must(damage->len == 0 || ftruncate(fd, damage->len) == 0);
        close(fd);
        fprintf(stderr, "%s\n", damage->name);
        must(is(try_open("small"), damage->code, damage->thing, damage->mend));
        must(cli(damage->exit_code, "-b small stat", damage->mend));
        if (!damage->init_mends)
            must(is(evbus_init(&small), EVBUS_EDUPLICATE, "exists already", "evbus rm"));
        if (!by_init)
            must(cli(0, "-b small rm", ""));
        must(by_init || has_nothing());
        must(evbus_init(&small) == EVBUS_OK && works("small", "tester", "test.a.one", "team"));
        must(evbus_remove("small") == EVBUS_OK && has_nothing());
    }
    return 0;
}

Test(limits, a_bus_of_an_older_layout_or_half_made_is_removed_and_made_anew, .timeout = 60)
{
    run(damage_all, NULL);
}

/* --- rlimits ----------------------------------------------------------------------------------------------------- */

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    (void)event;
    (void)error;
    evbus_stop(*(struct evbus_subscription **)context);
    return EVBUS_DONE;
}

static int init_one(void)
{
    int rc = evbus_init(&small);
    if (rc == EVBUS_OK)
        evbus_remove("small");
    return rc;
}

static int open_one(void)
{
    return try_open("open");
}

static struct evbus *opened;

static int give_descriptor(void)
{
    struct evbus_reader *reader;
    int fd;
    int rc = evbus_reader_open(&reader, opened, NULL);
    if (rc == EVBUS_OK) {
        rc = evbus_fd(reader, &fd);
        evbus_reader_close(reader);
    }
    return rc;
}

static int run_threads(void)
{
    struct evbus_subscription *sub;
    int rc = evbus_subscribe(&sub, opened,
                             &(struct evbus_subscribe_options){.group = "team", .handler = handle, .context = &sub});
    if (rc != EVBUS_OK)
        return rc;
    rc = evbus_publish(opened, &(struct evbus_event){.topic = "test.a.one", .payload = "1"}, NULL);
    must(rc == EVBUS_OK || rc == EVBUS_EFULL || rc == EVBUS_ENOSPC);
    rc = evbus_run(sub, &(struct evbus_run_options){.threads = 3});
    evbus_unsubscribe(sub);
    return rc;
}

static const struct shortage {
    const char *name;
    enum __rlimit_resource resource; /* glibc's type of RLIMIT_... */
    int (*act)(void);
    bool of_nobody; /* root is not bound */
    uint64_t step;  /* the limit grows by it from what is used, until it is enough; 0: from none to all */
    const char *mends[2];
} shortages[] = {
    {"descriptors for init", RLIMIT_NOFILE, init_one, false, 1, {"ulimit -n", "ulimit -n"}},
    {"descriptors for open", RLIMIT_NOFILE, open_one, false, 1, {"ulimit -n", "ulimit -n"}},
    {"descriptors for a descriptor", RLIMIT_NOFILE, give_descriptor, false, 1, {"ulimit -n", "ulimit -n"}},
    {"memory for init", RLIMIT_AS, init_one, false, 65536, {"ulimit -v", "ulimit -u"}},
    {"memory for open", RLIMIT_AS, open_one, false, 65536, {"ulimit -v", "ulimit -u"}},
    {"memory for threads", RLIMIT_AS, run_threads, false, 65536, {"ulimit -v", "ulimit -u"}},
    {"threads for the keeper", RLIMIT_NPROC, open_one, true, 0, {"ulimit -u", "ulimit -u"}},
    {"threads for a descriptor", RLIMIT_NPROC, give_descriptor, true, 0, {"ulimit -u", "ulimit -u"}},
    {"threads for handlers", RLIMIT_NPROC, run_threads, true, 0, {"ulimit -u", "ulimit -u"}},
};

static uint64_t used(enum __rlimit_resource resource)
{
    unsigned long pages = 0;
    if (resource == RLIMIT_NPROC)
        return 0;
    if (resource == RLIMIT_NOFILE) {
        int next = dup(0);
        close(next);
        return (uint64_t)next;
    }
    FILE *file = fopen("/proc/self/statm", "r");
    must(file != NULL && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    return pages * 4096;
}

static int run_short(void *context)
{
    const struct shortage *shortage = context;
    const struct evbus_init_options open = {.bus = "open", .catalogue = CATALOGUE};
    struct rlimit all, limit;
    unsigned n_refused = 0;
    if (!fixture_own_shm("64m") || chmod("/dev/shm", 01777) != 0 || (shortage->of_nobody && !become_nobody()))
        return CANNOT;
    alarm(60);
    must(evbus_init(&open) == EVBUS_OK);
    must(evbus_open(&opened, &(struct evbus_options){
                                 .bus = "open", .service = "tester", .keeper = EVBUS_KEEPER_NEVER}) == EVBUS_OK);
    must(evbus_publish(opened, &(struct evbus_event){.topic = "test.a.one", .payload = "1"}, NULL) == EVBUS_OK);
    must(getrlimit(shortage->resource, &all) == 0);
    unsigned n_names = count_names();
    limit = (struct rlimit){.rlim_cur = used(shortage->resource), .rlim_max = all.rlim_max};
    for (int rc = EVBUS_ENOSPC; rc != EVBUS_OK;) {
        must(setrlimit(shortage->resource, &limit) == 0);
        rc = shortage->act();
        must(setrlimit(shortage->resource, &all) == 0);
        const char *text = evbus_message(NULL);
        n_refused += rc != EVBUS_OK;
        if (rc != EVBUS_OK)
            must((rc == EVBUS_ENOSPC || rc == EVBUS_EIO) &&
                 (strstr(text, shortage->mends[0]) != NULL || strstr(text, shortage->mends[1]) != NULL));
        must(count_names() == n_names);
        if (shortage->step == 0)
            break;
        limit.rlim_cur += shortage->step;
    }
    must(n_refused > 0 && shortage->act() == EVBUS_OK); /* works again */
    evbus_close(opened);
    must(evbus_remove("open") == EVBUS_OK && has_nothing());
    fprintf(stderr, "%s: refused %u times\n", shortage->name, n_refused);
    return 0;
}

static void run_each(enum __rlimit_resource resource)
{
    for (size_t i = 0; i < N(shortages); i++)
        if (shortages[i].resource == resource)
            run(run_short, (void *)(uintptr_t)&shortages[i]);
}

Test(limits, no_descriptor_is_left, .timeout = 60)
{
    run_each(RLIMIT_NOFILE);
}

Test(limits, no_address_space_is_left, .timeout = 60)
{
    if (used(RLIMIT_AS) > UINT64_C(1) << 40)
        cr_skip_test("a sanitizer has terabytes of address space: it cannot work under RLIMIT_AS");
    run_each(RLIMIT_AS);
}

Test(limits, no_thread_is_left, .timeout = 60)
{
    run_each(RLIMIT_NPROC);
}
