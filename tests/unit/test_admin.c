/* test_admin.c: buses are made, listed and removed, and catalogues tell what they say. [no tsan]: it forks. */
#include "await.h"
#include "bus.h"
#include "child.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MIB     (UINT64_C(1) << 20)

static const char small[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":2,"
                            "\"ring\":\"4KiB\"},\"topics\":{\"test.b.one\":{\"producers\":[\"shop\"]},"
                            "\"test.a.one\":{\"producers\":[\"shop\",\"billing\"],\"groups\":[\"mailer\"]}}}";

/* A name of this process's own; the bus is removed at the end in whatever way. */
static const char *own_name(void)
{
    static char name[64];
    snprintf(name, sizeof name, "test-%d-admin", (int)getpid());
    return name;
}

static void remove_own(void)
{
    evbus_remove(own_name());
}

TestSuite(admin, .init = remove_own, .fini = remove_own);

static int init(struct evbus_init_options options)
{
    options.size = sizeof options;
    if (options.bus == NULL)
        options.bus = own_name();
    if (options.catalogue == NULL)
        options.catalogue = small;
    return evbus_init(&options);
}

static void has(const char *label, const char *fragment)
{
    if (fragment != NULL)
        cr_expect_not_null(strstr(evbus_message(NULL), fragment), "%s: the message does not say \"%s\": %s", label,
                           fragment, evbus_message(NULL));
}

static struct stat stat_of(const char *part)
{
    char path[128];
    struct stat found = {0};
    snprintf(path, sizeof path, "/dev/shm/evbus.%s.%s", own_name(), part);
    cr_assert_eq(stat(path, &found), 0, "%s is not there", path);
    return found;
}

static bool is_there(const char *part)
{
    char path[128];
    snprintf(path, sizeof path, "/dev/shm/evbus.%s.%s", own_name(), part);
    return access(path, F_OK) == 0;
}

/* --- init ------------------------------------------------------------------------------------------------------------- */

Test(admin, a_bus_is_a_control_object_and_one_per_log_with_every_page_allocated)
{
    mode_t mask = umask(0077); /* it does not count */
    cr_assert_eq(init((struct evbus_init_options){0}), EVBUS_OK, "%s", evbus_message(NULL));
    umask(mask);
    static const char *const parts[] = {"control", "test.a", "test.b", "test.dlq", "test.evbus", "test.replay"};
    for (size_t i = 0; i < N(parts); i++) {
        struct stat found = stat_of(parts[i]);
        cr_expect_eq(found.st_mode & 07777, 0660u, "%s: mode %o", parts[i], found.st_mode);
        cr_expect_eq(found.st_gid, getegid(), "%s", parts[i]);
        cr_expect_geq((uint64_t)found.st_blocks * 512, (uint64_t)found.st_size, "%s: pages are missing", parts[i]);
    }
}

Test(admin, mode_and_group_are_as_asked)
{
    if (geteuid() != 0)
        cr_skip_test("only root may give away a file");
    static const struct {
        const char *label, *group;
        unsigned mode;
        gid_t expected;
    } rows[] = {{"a number", "65534", 0600, 65534}, {"a name", "daemon", 0666, 0}};
    for (size_t i = 0; i < N(rows); i++) {
        const struct group *named = getgrnam(rows[i].group);
        gid_t expected = rows[i].expected != 0 ? rows[i].expected : named != NULL ? named->gr_gid : 0;
        if (rows[i].expected == 0 && named == NULL)
            continue;
        cr_assert_eq(init((struct evbus_init_options){.mode = rows[i].mode, .group = rows[i].group}), EVBUS_OK,
                     "%s: %s", rows[i].label, evbus_message(NULL));
        cr_expect_eq(stat_of("control").st_mode & 07777, rows[i].mode, "%s", rows[i].label);
        cr_expect_eq(stat_of("test.a").st_mode & 07777, rows[i].mode, "%s", rows[i].label);
        cr_expect_eq(stat_of("test.dlq").st_mode & 07777, rows[i].mode, "%s", rows[i].label);
        cr_expect_eq(stat_of("control").st_gid, expected, "%s", rows[i].label);
        cr_expect_eq(stat_of("test.b").st_gid, expected, "%s", rows[i].label);
        cr_expect_eq(stat_of("test.evbus").st_gid, expected, "%s", rows[i].label);
        cr_assert_eq(evbus_remove(own_name()), EVBUS_OK);
    }
}

Test(admin, what_is_wrong_is_named_and_nothing_is_left_behind)
{
    static const struct {
        const char *label;
        struct evbus_init_options options;
        enum evbus_code code;
        const char *says[2];
    } rows[] = {
        {"a mode beyond permissions", {.mode = 01777}, EVBUS_EINVAL, {"options.mode", "01777"}},
        {"a group that is not there", {.group = "no-such-group"}, EVBUS_EINVAL, {"no group \"no-such-group\""}},
        {"an empty group", {.group = ""}, EVBUS_EINVAL, {"group"}},
        {"a name with a dot", {.bus = "a.b"}, EVBUS_EINVAL, {"a.b", "a-z 0-9 - _"}},
        {"a catalogue that is none", {.catalogue = "{}"}, EVBUS_ECATALOGUE, {"namespace"}},
        {"half a catalogue", {.catalogue = small, .catalogue_len = 40}, EVBUS_ECATALOGUE, {"line 1, column 41"}},
    };
    for (size_t i = 0; i < N(rows); i++) {
        int rc = init(rows[i].options);
        cr_expect_eq(rc, rows[i].code, "%s: %d", rows[i].label, rc);
        for (size_t k = 0; k < N(rows[i].says); k++)
            has(rows[i].label, rows[i].says[k]);
        cr_expect_not(is_there("control"), "%s", rows[i].label);
        cr_expect_not(is_there("test.a"), "%s", rows[i].label);
        cr_expect_not(is_there("test.dlq"), "%s", rows[i].label);
    }
    struct {
        struct evbus_init_options options;
        uint64_t more;
    } newer = {{.size = sizeof newer, .bus = own_name(), .catalogue = small}, 1};
    cr_expect_eq(evbus_init(&newer.options), EVBUS_EINVAL);
    has("newer", "newer library");
    newer.options.size = 5000;
    cr_expect_eq(evbus_init(&newer.options), EVBUS_EINVAL);
    has("size", "5000");
    cr_expect_not(is_there("control"));
}

Test(admin, a_catalogue_may_be_given_by_length_or_by_its_nul)
{
    char text[sizeof small + 8];
    memcpy(text, small, sizeof small - 1);
    memset(text + sizeof small - 1, 'x', 8);
    text[sizeof text - 1] = '\0';
    cr_expect_eq(init((struct evbus_init_options){.catalogue = text, .catalogue_len = sizeof small - 1}), EVBUS_OK,
                 "%s", evbus_message(NULL));
    cr_expect_eq(evbus_remove(own_name()), EVBUS_OK);
    cr_expect_eq(init((struct evbus_init_options){.catalogue = text}), EVBUS_ECATALOGUE);
}

Test(admin, what_is_there_is_not_made_again)
{
    cr_assert_eq(init((struct evbus_init_options){0}), EVBUS_OK);
    struct stat before = stat_of("control");
    cr_expect_eq(init((struct evbus_init_options){0}), EVBUS_EDUPLICATE);
    has("duplicate", own_name());
    has("duplicate", "evbus rm -b");
    cr_expect_eq(stat_of("control").st_ino, before.st_ino);
    cr_expect_eq(stat_of("test.a").st_nlink, 1u);
}

Test(admin, the_bus_may_be_named_by_the_environment)
{
    setenv("EVBUS_BUS", own_name(), 1);
    cr_assert_eq(evbus_init(&(struct evbus_init_options){.catalogue = small}), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect(is_there("control"));
    cr_expect_eq(evbus_remove(NULL), EVBUS_OK);
    cr_expect_not(is_there("control"));
}

Test(admin, the_shipped_catalogue_is_the_default_and_takes_less_than_60_mib)
{
    uint64_t expected = 0;
    const char *text;
    size_t len;
    struct evbus *bus;
    cr_assert_eq(evbus_catalogue_check(evbus_shipped_catalogue(), strlen(evbus_shipped_catalogue()), &expected),
                 EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_lt(expected, 60 * MIB, "%" PRIu64 " bytes", expected);
    int rc = evbus_init(&(struct evbus_init_options){.bus = own_name()});
    if (rc == EVBUS_ENOSPC)
        cr_skip_test("/dev/shm is too small here");
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.bus = own_name(), .keeper = EVBUS_KEEPER_NEVER}), EVBUS_OK);
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(bus, &stat), EVBUS_OK);
    cr_expect_eq(stat.bytes, expected, "%" PRIu64 " and %" PRIu64, stat.bytes, expected);
    struct catalogue *catalogue;
    cr_assert_eq(catalogue_parse(evbus_shipped_catalogue(), strlen(evbus_shipped_catalogue()), &catalogue, NULL),
                 EVBUS_OK);
    cr_expect_eq(catalogue->n_topics, 17u);
    cr_expect_eq(stat.n_topics, catalogue->n_topics + 2 * catalogue->n_groups + 1,
                 "its own, one of dead letters and one of replays for each group, and the notes: %u", stat.n_topics);
    cr_expect_eq(stat.n_logs, catalogue->n_logs + 3);
    catalogue_free(catalogue);
    cr_assert_eq(evbus_catalogue_text(bus, &text, &len), EVBUS_OK);
    cr_expect_eq(len, strlen(evbus_shipped_catalogue()));
    cr_expect_str_eq(text, evbus_shipped_catalogue());
    evbus_close(bus);
}

Test(admin, the_shipped_catalogue_is_the_one_in_share)
{
    const char *source = getenv("EVBUS_SOURCE");
    static const char here[] = __FILE__;
    char path[1024];
    if (source != NULL)
        snprintf(path, sizeof path, "%s/share/catalogue.json", source);
    else
        snprintf(path, sizeof path, "%.*s/../../share/catalogue.json", (int)(strrchr(here, '/') - here), here);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        cr_skip_test("share/catalogue.json is not found: set EVBUS_SOURCE");
    char *text = calloc(1, 1 << 17);
    size_t len = fread(text, 1, 1 << 17, file);
    fclose(file);
    cr_expect_eq(len, strlen(evbus_shipped_catalogue()));
    cr_expect_str_eq(text, evbus_shipped_catalogue());
    free(text);
}

Test(admin, its_first_frames_say_what_its_topic_ids_mean)
{
    struct evbus *bus;
    cr_assert_eq(init((struct evbus_init_options){0}), EVBUS_OK);
    cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.bus = own_name(), .keeper = EVBUS_KEEPER_NEVER}), EVBUS_OK);
    cr_assert_eq(memory_n_logs(&bus->memory), 5);
    for (uint32_t l = 0; l < 4; l++)
        for (uint32_t p = 0; p < bus->memory.logs[l].n_partitions; p++) {
            const struct ring *ring = &bus->memory.logs[l].rings[p];
            struct frame_header header;
            uint64_t word, buffer[CELL_WORDS * 8];
            if (ring_look(ring, 0, &word) != RING_COMMITTED) {
                cr_expect_fail("partition %u of %s: no frame is its first", p, bus->memory.logs[l].head->name);
                continue;
            }
            cr_assert_eq(ring_copy_header(ring, 0, &header), RING_COMMITTED);
            cr_expect_eq(header.kind, 3, "a NAMES frame");
            cr_assert_leq(header.n_cells, 8u);
            memcpy(buffer, &header, sizeof header);
            cr_assert_eq(ring_copy_rest(ring, 0, buffer), RING_COMMITTED);
            cr_expect_not_null(strstr((char *)buffer + 72, bus->memory.logs[l].head->topics[0]), "%s",
                               (char *)buffer + 72);
        }
    evbus_close(bus);
}

static int init_one_name(void *context)
{
    return -evbus_init(&(struct evbus_init_options){.bus = context, .catalogue = small});
}

Test(admin, of_many_who_make_the_same_bus_one_does)
{
    enum { MAKERS = 8 };
    for (int round = 0; round < 10; round++) {
        struct child makers[MAKERS];
        char name[64];
        unsigned n_made = 0;
        snprintf(name, sizeof name, "%s", own_name());
        for (int i = 0; i < MAKERS; i++)
            makers[i] = child_start(init_one_name, name);
        for (int i = 0; i < MAKERS; i++) {
            int status = child_join(&makers[i]);
            n_made += status == 0;
            cr_expect(status == 0 || status == -EVBUS_EDUPLICATE || status == -EVBUS_EBUSY, "a maker got -%d", status);
        }
        cr_assert_eq(n_made, 1u, "%u made it", n_made);
        struct evbus *bus;
        cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.bus = name}), EVBUS_OK, "%s", evbus_message(NULL));
        evbus_close(bus);
        cr_assert_eq(evbus_remove(name), EVBUS_OK);
    }
}

static unsigned count_objects(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/dev/shm");
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.';
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* In a namespace with a small /dev/shm of its own. */
static int init_without_room(void *context)
{
    (void)context;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=2m") != 0)
        return 77;
    if (evbus_init(&(struct evbus_init_options){.bus = "test-small"}) != EVBUS_ENOSPC)
        return 1;
    if (strstr(evbus_message(NULL), "make /dev/shm larger") == NULL)
        return 2;
    if (count_objects() != 0)
        return 3;
    return evbus_init(&(struct evbus_init_options){.bus = "test-small", .catalogue = small}) == EVBUS_OK ? 0 : 4;
}

Test(admin, a_bus_that_does_not_fit_leaves_nothing_behind) /* [R15] */
{
    struct child child = child_start(init_without_room, NULL);
    int status = child_join(&child);
    if (status == 77)
        cr_skip_test("no mount namespaces here");
    cr_expect_eq(status, 0, "%d", status);
}

/* --- remove ------------------------------------------------------------------------------------------------------------- */

Test(admin, remove_takes_all_of_a_bus_and_nothing_else)
{
    char other[80];
    snprintf(other, sizeof other, "%s2", own_name());
    cr_assert_eq(init((struct evbus_init_options){0}), EVBUS_OK);
    cr_assert_eq(init((struct evbus_init_options){.bus = other}), EVBUS_OK);
    cr_expect_eq(evbus_remove(own_name()), EVBUS_OK);
    cr_expect_not(is_there("control"));
    cr_expect_not(is_there("test.a"));
    cr_expect_not(is_there("test.b"));
    cr_expect_not(is_there("test.dlq"));
    cr_expect_not(is_there("test.evbus"));
    cr_expect_eq(evbus_remove(own_name()), EVBUS_ENOBUS);
    has("again", "no bus");
    has("again", own_name());
    cr_expect_eq(evbus_remove(other), EVBUS_OK, "a bus whose name begins alike: %s", evbus_message(NULL));
    cr_expect_eq(evbus_remove("../x"), EVBUS_EINVAL);
}

Test(admin, remove_clears_away_what_is_half_made_or_foreign)
{
    static const struct {
        const char *label;
        bool of_other_build, half_made, has_control;
    } rows[] = {{"of another build", true, false, true},
                {"half made", false, true, true},
                {"without its control object", false, false, false}};
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus *bus;
        char name[128];
        cr_assert_eq(init((struct evbus_init_options){0}), EVBUS_OK, "%s: %s", rows[i].label, evbus_message(NULL));
        cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.bus = own_name(), .keeper = EVBUS_KEEPER_NEVER}),
                     EVBUS_OK);
        bus->memory.control->fingerprint ^= rows[i].of_other_build;
        if (rows[i].half_made)
            atomic_store(&bus->memory.control->ready, 0);
        snprintf(name, sizeof name, "/evbus.%s.control", own_name());
        if (!rows[i].has_control)
            shm_unlink(name);
        evbus_close(bus);
        cr_expect_eq(evbus_remove(own_name()), EVBUS_OK, "%s: %s", rows[i].label, evbus_message(NULL));
        cr_expect_not(is_there("control"), "%s", rows[i].label);
        cr_expect_not(is_there("test.a"), "%s", rows[i].label);
        cr_expect_not(is_there("test.dlq"), "%s", rows[i].label);
    }
    char name[128];
    snprintf(name, sizeof name, "/evbus.%s.control", own_name());
    int fd = shm_open(name, O_RDWR | O_CREAT, 0600); /* nobody's: empty */
    close(fd);
    cr_expect_eq(evbus_remove(own_name()), EVBUS_OK, "an empty object: %s", evbus_message(NULL));
    cr_expect_not(is_there("control"));
}

Test(admin, a_half_made_bus_is_made_anew_by_the_next_init)
{
    struct evbus *bus;
    cr_assert_eq(init((struct evbus_init_options){0}), EVBUS_OK);
    cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.bus = own_name(), .keeper = EVBUS_KEEPER_NEVER}), EVBUS_OK);
    atomic_store(&bus->memory.control->ready, 0);
    evbus_close(bus);
    cr_expect_eq(init((struct evbus_init_options){0}), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(evbus_open(&bus, &(struct evbus_options){.bus = own_name()}), EVBUS_OK, "%s", evbus_message(NULL));
    evbus_close(bus);
}

static int remove_as_nobody(void *context)
{
    if (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
        return 77;
    return -evbus_remove(context);
}

Test(admin, who_does_not_own_it_cannot_remove_it)
{
    if (geteuid() != 0)
        cr_skip_test("only root can become somebody else");
    char name[64];
    snprintf(name, sizeof name, "%s", own_name());
    cr_assert_eq(init((struct evbus_init_options){0}), EVBUS_OK);
    struct child child = child_start(remove_as_nobody, name);
    int status = child_join(&child);
    if (status == 77)
        cr_skip_test("this root cannot become somebody else");
    cr_expect_eq(status, -EVBUS_EPERM, "-%d", status);
    struct evbus *bus;
    cr_expect_eq(evbus_open(&bus, &(struct evbus_options){.bus = name}), EVBUS_OK, "and it still lives: %s",
                 evbus_message(NULL));
    evbus_close(bus);
}

/* --- list ------------------------------------------------------------------------------------------------------------------ */

struct listing {
    char last[64];
    bool is_sorted;
    unsigned n, n_own;
    struct evbus_listed own;
    int answer; /* when our own bus comes */
};

static int collect(void *context, const struct evbus_listed *listed)
{
    struct listing *listing = context;
    listing->is_sorted = (listing->n == 0 || listing->is_sorted) && strcmp(listing->last, listed->bus) < 0;
    memcpy(listing->last, listed->bus, sizeof listing->last);
    listing->n++;
    if (strcmp(listed->bus, own_name()) != 0)
        return 0;
    listing->n_own++;
    listing->own = *listed;
    return listing->answer;
}

Test(admin, list_tells_every_bus_by_name)
{
    struct listing listing = {0};
    struct evbus *bus;
    cr_assert_eq(evbus_list(collect, &listing), EVBUS_OK);
    cr_expect_eq(listing.n_own, 0u);
    cr_assert_eq(init((struct evbus_init_options){0}), EVBUS_OK);
    memset(&listing, 0, sizeof listing);
    cr_assert_eq(evbus_list(collect, &listing), EVBUS_OK);
    cr_assert_eq(listing.n_own, 1u);
    cr_expect(listing.is_sorted);
    cr_expect_eq(listing.own.size, sizeof listing.own);
    cr_expect_eq(listing.own.state, EVBUS_OK);
    cr_expect_eq(listing.own.n_processes, 0u);
    cr_expect_gt(listing.own.created_ns, UINT64_C(1700000000) * 1000000000);
    uint64_t bytes = 0;
    cr_assert_eq(evbus_catalogue_check(small, strlen(small), &bytes), EVBUS_OK);
    cr_expect_eq(listing.own.bytes, bytes, "%" PRIu64 " and %" PRIu64, listing.own.bytes, bytes);

    cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.bus = own_name(), .service = "shop"}), EVBUS_OK);
    cr_assert_eq(evbus_publish(bus, &(struct evbus_event){.topic = "test.a.one", .payload = "1"}, NULL), EVBUS_OK);
    memset(&listing, 0, sizeof listing);
    cr_assert_eq(evbus_list(collect, &listing), EVBUS_OK);
    cr_expect_eq(listing.own.n_processes, 1u, "a process, however many threads");
    listing.answer = 4711;
    cr_expect_eq(evbus_list(collect, &listing), 4711, "an answer that is not 0 ends it and is returned");
    cr_expect_str_eq(listing.last, own_name());

    bus->memory.control->fingerprint ^= 1;
    memset(&listing, 0, sizeof listing);
    cr_assert_eq(evbus_list(collect, &listing), EVBUS_OK);
    cr_expect_eq(listing.own.state, EVBUS_ELAYOUT);
    cr_expect_eq(listing.own.bytes, bytes, "what it takes is known all the same");
    bus->memory.control->fingerprint ^= 1;
    bus->memory.control->magic ^= 1;
    memset(&listing, 0, sizeof listing);
    cr_assert_eq(evbus_list(collect, &listing), EVBUS_OK);
    cr_expect_eq(listing.own.state, EVBUS_ECORRUPT);
    bus->memory.control->magic ^= 1;
    evbus_close(bus);
}

/* --- catalogues --------------------------------------------------------------------------------------------------------------- */

Test(admin, check_tells_a_catalogue_from_what_is_none)
{
    static const struct {
        const char *label, *text, *says;
    } rows[] = {
        {"no JSON", "{", "line 1, column 2"},
        {"no object", "[]", "must be an object"},
        {"nothing", "", "line 1"},
        {"no topics", "{\"namespace\":\"test\"}", "topic"},
        {"a mistyped key", "{\"namespace\":\"test\",\"topcis\":{}}", "\"topcis\""},
        {"a ring of 3 KiB",
         "{\"namespace\":\"test\",\"tests\":true,\"defaults\":{\"ring\":\"3KiB\"},\"topics\":{\"test.a.one\":{}}}",
         "ring"},
        {"ack disk without a journal",
         "{\"namespace\":\"test\",\"open\":true,\"defaults\":{\"ack\":\"disk\",\"journal\":false},"
         "\"topics\":{\"test.a.one\":{}}}",
         "ack"},
    };
    uint64_t bytes = 4711;
    for (size_t i = 0; i < N(rows); i++) {
        cr_expect_eq(evbus_catalogue_check(rows[i].text, strlen(rows[i].text), &bytes), EVBUS_ECATALOGUE, "%s",
                     rows[i].label);
        has(rows[i].label, rows[i].says);
        cr_expect_eq(bytes, 4711u, "%s: untouched on failure", rows[i].label);
    }
    cr_expect_eq(evbus_catalogue_check(small, strlen(small), NULL), EVBUS_OK);
}

Test(admin, the_applied_text_is_told)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = small});
    const char *text = NULL;
    size_t len = 0;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(evbus_catalogue_text(f.bus, &text, &len), EVBUS_OK);
        cr_expect_eq(len, strlen(small));
        cr_expect_str_eq(text, small);
    }
    cr_expect_eq(evbus_catalogue_text(f.bus, &text, NULL), EVBUS_OK);
    cr_expect_eq(evbus_catalogue_text(NULL, &text, &len), EVBUS_EINVAL);
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    cr_expect_eq(evbus_catalogue_text(f.bus, &text, &len), EVBUS_ESTALE);
    fixture_end(&f);
}

static int write_topic(void *context, const struct evbus_topic_info *info)
{
    char *to = context;
    to += strlen(to);
    to += sprintf(to, "%s of %s, %u partitions, ack %d;", info->topic, info->log, info->n_partitions, (int)info->ack);
    for (size_t i = 0; i < info->n_producers; i++)
        to += sprintf(to, " >%s", info->producers[i]);
    for (size_t i = 0; i < info->n_groups; i++)
        to += sprintf(to, " <%s", info->groups[i]);
    sprintf(to, "\n");
    return info->size == sizeof *info ? 0 : 1;
}

/* Its log's keeping; the last topic's stays. */
static int note_keeping(void *context, const struct evbus_topic_info *info)
{
    sprintf(context, "%" PRIu64 " s, %" PRIu64 " bytes, journal %d, payloads of %zu", info->retention_ns / 1000000000,
            info->retention_bytes, info->has_journal, info->payload_max);
    return 0;
}

Test(admin, what_a_topics_log_keeps_is_told)
{
    static const struct {
        const char *label, *text, *told;
    } rows[] = {
        {"defaults", "{\"namespace\":\"a\",\"topics\":{\"a.b.c\":{\"producers\":[\"x\"]}}}",
         "604800 s, 0 bytes, journal 1, payloads of 245760"},
        {"all said",
         "{\"namespace\":\"a\",\"defaults\":{\"payload_max\":\"1KiB\"},\"topics\":{\"a.b.c\":{\"producers\":[\"x\"]}},"
         "\"logs\":{\"a.b\":{\"retention\":\"2d\",\"retention_bytes\":\"1GiB\"}}}",
         "172800 s, 1073741824 bytes, journal 1, payloads of 1024"},
        {"no journal",
         "{\"namespace\":\"a\",\"defaults\":{\"journal\":false},\"topics\":{\"a.b.c\":{\"producers\":[\"x\"]}}}",
         "604800 s, 0 bytes, journal 0, payloads of 245760"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char told[128] = "";
        cr_expect_eq(evbus_catalogue_topics(rows[i].text, strlen(rows[i].text), note_keeping, told), EVBUS_OK, "%s: %s",
                     rows[i].label, evbus_message(NULL));
        cr_expect_str_eq(told, rows[i].told, "%s", rows[i].label);
    }
}

static int stop_at_second(void *context, const struct evbus_topic_info *info)
{
    (void)info;
    return ++*(int *)context == 2 ? 99 : 0;
}

Test(admin, the_topics_of_a_catalogue_are_told_in_its_order)
{
    char text[1024] = "";
    int n = 0;
    cr_expect_eq(evbus_catalogue_topics(small, strlen(small), write_topic, text), EVBUS_OK);
    cr_expect_str_eq(text, "test.b.one of test.b, 2 partitions, ack 1; >shop\n"
                           "test.a.one of test.a, 2 partitions, ack 1; >shop >billing <mailer\n");
    const char *shipped = evbus_shipped_catalogue();
    cr_expect_eq(evbus_catalogue_topics(shipped, strlen(shipped), stop_at_second, &n), 99);
    cr_expect_eq(n, 2);
    cr_expect_eq(evbus_catalogue_topics("{", 1, stop_at_second, &n), EVBUS_ECATALOGUE);
    cr_expect_eq(n, 2, "nobody is called for what is no catalogue");
}
