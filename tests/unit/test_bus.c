/* test_bus.c: open and close, names and surroundings, fork, threads that come and go, buses that come and go.
 * [no tsan]: it forks. */
#include "await.h"
#include "bus.h"
#include "child.h"
#include "fixture.h"
#include "threads.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MS      UINT64_C(1000000)
#define S       UINT64_C(1000000000)

static void has(const char *label, const char *message, const char *fragment)
{
    if (fragment != NULL)
        cr_expect_not_null(strstr(message, fragment), "%s: the message does not say \"%s\": %s", label, fragment,
                           message);
}

static const struct evbus_event one = {.size = sizeof one, .topic = "test.a.one", .payload = "1"};

static struct evbus_stat stat_of(struct evbus *bus)
{
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(bus, &stat), EVBUS_OK, "%s", evbus_message(bus));
    return stat;
}

static unsigned count_fds(unsigned *out_without_cloexec)
{
    unsigned n = 0;
    *out_without_cloexec = 0;
    for (int fd = 3; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);
        n += flags >= 0;
        *out_without_cloexec += flags >= 0 && (flags & FD_CLOEXEC) == 0;
    }
    return n;
}

static unsigned count_mappings(void)
{
    unsigned n = 0;
    char line[512];
    FILE *file = fopen("/proc/self/maps", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        n += strstr(line, "/dev/shm/evbus.") != NULL;
    if (file != NULL)
        fclose(file);
    return n;
}

/* --- open ------------------------------------------------------------------------------------------------------------- */

Test(bus, a_bus_that_is_not_there_is_not_made)
{
    struct evbus *bus = (struct evbus *)&bus;
    cr_expect_eq(evbus_open(&bus, &(struct evbus_options){.bus = "test-no-such-bus"}), EVBUS_ENOBUS);
    has("ENOBUS", evbus_message(NULL), "no bus test-no-such-bus on this host");
    has("ENOBUS", evbus_message(NULL), "evbus -b test-no-such-bus init");
    cr_expect_eq((void *)bus, (void *)&bus, "the result was touched");
    cr_expect_neq(access("/dev/shm/evbus.test-no-such-bus.control", F_OK), 0);
}

#define LETTERS_63 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"

Test(bus, what_is_wrong_with_the_options_is_named)
{
    static const struct {
        const char *label;
        struct evbus_options options;
        const char *says[3];
    } rows[] = {
        {"a name in capitals", {.bus = "Lomash"}, {"bus \"Lomash\"", "a-z 0-9 - _"}},
        {"a name with a dot", {.bus = "a.b"}, {"bus \"a.b\"", "a-z 0-9 - _"}},
        {"a path", {.bus = "../control"}, {"bus \"../control\"", "a-z 0-9 - _"}},
        {"a name that begins with -", {.bus = "-b"}, {"\"-b\"", "begins with a letter or digit"}},
        {"a name of 64 bytes", {.bus = LETTERS_63 "f"}, {"1..63 bytes", "64"}},
        {"an empty name", {.bus = ""}, {"1..63"}},
        {"an empty service", {.service = ""}, {"options.service", "0 bytes", "1..63"}},
        {"a service of 64 bytes", {.service = LETTERS_63 "f"}, {"options.service", "64 bytes", "1..63"}},
        {"a service with a quote", {.service = "a\"b"}, {"options.service", "a\"b"}},
        {"a service with a blank", {.service = "a b"}, {"options.service", "a b"}},
        {"a wait that is none", {.wait = 3}, {"options.wait"}},
        {"a keeper that is none", {.keeper = 2}, {".keeper"}},
        {"a level that is none", {.log_level = 4}, {".log_level"}},
        {"a size of garbage", {.size = 5000}, {"size is 5000", "sizeof"}},
    };
    struct fixture f = fixture_make((struct fixture_options){0});
    setenv("EVBUS_BUS", f.name, 1);
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus *bus = (struct evbus *)&f;
        int rc = evbus_open(&bus, &rows[i].options);
        cr_expect_eq(rc, EVBUS_EINVAL, "%s: %d", rows[i].label, rc);
        cr_expect_eq((void *)bus, (void *)&f, "%s: the result was touched", rows[i].label);
        for (size_t k = 0; k < N(rows[i].says); k++)
            has(rows[i].label, evbus_message(NULL), rows[i].says[k]);
    }
    cr_expect_eq(evbus_open(NULL, NULL), EVBUS_EINVAL);
    has("out_bus", evbus_message(NULL), "out_bus is NULL");
    struct {
        struct evbus_options options;
        uint64_t more;
    } newer = {{.size = sizeof newer}, 1};
    struct evbus *bus;
    cr_expect_eq(evbus_open(&bus, &newer.options), EVBUS_EINVAL);
    has("newer", evbus_message(NULL), "newer library");
    newer.more = 0;
    cr_expect_eq(evbus_open(&bus, &newer.options), EVBUS_OK, "%s", evbus_message(NULL));
    evbus_close(bus);
    fixture_end(&f);
}

Test(bus, what_is_not_said_is_taken_from_the_environment)
{
    static const struct {
        const char *label, *bus, *service, *env_service, *expected;
    } rows[] = {
        {"both from the environment", NULL, NULL, "env-service", "env-service"},
        {"the service is said", NULL, "said", "env-service", "said"},
        {"the bus is said", "", NULL, "env-service", "env-service"},
        {"63 bytes", NULL, LETTERS_63, NULL, LETTERS_63},
    };
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus *bus;
        setenv("EVBUS_BUS", rows[i].bus == NULL ? f.name : "test-no-such-bus", 1);
        if (rows[i].env_service != NULL)
            setenv("EVBUS_SERVICE", rows[i].env_service, 1);
        else
            unsetenv("EVBUS_SERVICE");
        int rc = evbus_open(
            &bus, &(struct evbus_options){.bus = rows[i].bus == NULL ? NULL : f.name, .service = rows[i].service});
        cr_assert_eq(rc, EVBUS_OK, "%s: %s", rows[i].label, evbus_message(NULL));
        cr_assert_eq(evbus_publish(bus, &one, NULL), EVBUS_OK, "%s: %s", rows[i].label, evbus_message(bus));
        struct evbus_delivery got = {.size = sizeof got};
        cr_assert_eq(evbus_reader_next(reader, &got, S), EVBUS_OK);
        cr_expect_str_eq(got.service, rows[i].expected, "%s", rows[i].label);
        evbus_close(bus);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(bus, the_bus_is_lomash_when_nobody_says_another)
{
    struct evbus *bus;
    unsetenv("EVBUS_BUS");
    int rc = evbus_open(&bus, &(struct evbus_options){.keeper = EVBUS_KEEPER_NEVER});
    if (rc == EVBUS_OK) {
        cr_expect_str_eq(stat_of(bus).bus, "lomash");
        evbus_close(bus);
    } else {
        cr_expect_eq(rc, EVBUS_ENOBUS);
        has("default", evbus_message(NULL), "no bus lomash");
    }
}

Test(bus, closing_gives_everything_back)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    unsigned open_without, n_before = count_fds(&open_without), n_mappings = count_mappings();
    evbus_close(NULL); /* fine */
    for (int i = 0; i < 50; i++) {
        struct evbus *bus = fixture_open(&f, "again", i % 2 == 0 ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER);
        struct evbus_reader *reader;
        struct evbus_delivery got = {.size = sizeof got};
        int fd;
        cr_assert_eq(evbus_reader_open(&reader, bus, NULL), EVBUS_OK);
        if (i % 3 == 0)
            cr_assert_eq(evbus_fd(reader, &fd), EVBUS_OK, "%s", evbus_message(bus));
        cr_assert_eq(evbus_publish(bus, &one, NULL), EVBUS_OK, "%s", evbus_message(bus));
        cr_assert_eq(evbus_reader_next(reader, &got, S), EVBUS_OK);
        evbus_reader_close(reader);
        evbus_close(bus);
    }
    cr_expect_eq(count_fds(&open_without), n_before, "descriptors are left");
    cr_expect_eq(count_mappings(), n_mappings, "mappings are left");
    cr_expect_eq(stat_of(f.bus).n_slots, 0u, "slots are left");
    cr_expect(await_that(count_threads("evbus-keeper") + count_threads("evbus-fd") == 0), "threads are left");
    fixture_end(&f);
}

Test(bus, every_descriptor_is_closed_by_exec)
{
    unsigned before, after;
    count_fds(&before);
    struct fixture f = fixture_make((struct fixture_options){.keeper = true});
    struct evbus_reader *reader;
    int fd;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    cr_assert_eq(evbus_fd(reader, &fd), EVBUS_OK);
    cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK);
    cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    count_fds(&after);
    cr_expect_eq(after, before, "%u descriptors would be inherited", after - before);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(bus, two_handles_of_one_process_are_two)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus *other = fixture_open(&f, "other", EVBUS_KEEPER_NEVER);
    struct evbus_reader *readers[2];
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_open(&readers[0], f.bus, NULL), EVBUS_OK);
    cr_assert_eq(evbus_reader_open(&readers[1], other, NULL), EVBUS_OK);
    cr_expect_eq(stat_of(f.bus).n_slots, 2u, "a slot for each of this thread's handles");
    cr_expect_eq(stat_of(f.bus).n_processes, 1u);
    cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK);
    cr_assert_eq(evbus_publish(other, &one, NULL), EVBUS_OK);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(evbus_reader_next(readers[i], &got, 0), EVBUS_OK);
        cr_expect_str_eq(got.service, "tester");
        cr_assert_eq(evbus_reader_next(readers[i], &got, 0), EVBUS_OK);
        cr_expect_str_eq(got.service, "other");
    }
    evbus_reader_close(readers[1]);
    evbus_close(other);
    cr_expect_eq(stat_of(f.bus).n_slots, 1u);
    cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK, "the other's end is not ours");
    cr_assert_eq(evbus_reader_next(readers[0], &got, 0), EVBUS_OK);
    evbus_reader_close(readers[0]);
    fixture_end(&f);
}

Test(bus, handles_end_at_the_systems_limit_with_a_message)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    static struct evbus *handles[2000];
    size_t n = 0;
    int rc = EVBUS_OK;
    while (n < N(handles) &&
           (rc = evbus_open(&handles[n], &(struct evbus_options){.bus = f.name, .keeper = EVBUS_KEEPER_NEVER})) ==
               EVBUS_OK)
        n++;
    cr_expect_eq(rc, EVBUS_ELIMIT, "%zu handles, then %d", n, rc);
    has("limit", evbus_message(NULL), "close other handles");
    cr_assert_gt(n, 0u);
    evbus_close(handles[--n]);
    cr_expect_eq(evbus_open(&handles[n], &(struct evbus_options){.bus = f.name}), EVBUS_OK, "%s", evbus_message(NULL));
    n++;
    while (n > 0)
        evbus_close(handles[--n]);
    fixture_end(&f);
}

/* --- what stands in memory ---------------------------------------------------------------------------------------------- */

static int open_again(const struct fixture *f)
{
    struct evbus *bus = NULL;
    int rc = evbus_open(&bus, &(struct evbus_options){.bus = f->name, .keeper = EVBUS_KEEPER_NEVER});
    if (rc == EVBUS_OK)
        evbus_close(bus);
    return rc;
}

Test(bus, what_another_build_or_nobody_made_is_refused)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct control *control = f.bus->memory.control;
    struct log_head *log = f.bus->memory.logs[1].head;
    static const char *const again = "evbus rm";
    cr_assert_eq(open_again(&f), EVBUS_OK);

    control->fingerprint ^= 1;
    cr_expect_eq(open_again(&f), EVBUS_ELAYOUT);
    has("control of another build", evbus_message(NULL), "another build");
    has("control of another build", evbus_message(NULL), again);
    control->fingerprint ^= 1;

    log->fingerprint ^= 1;
    cr_expect_eq(open_again(&f), EVBUS_ELAYOUT);
    has("log of another build", evbus_message(NULL), "test.b");
    log->fingerprint ^= 1;

    control->magic ^= 1;
    cr_expect_eq(open_again(&f), EVBUS_ECORRUPT);
    has("no control object", evbus_message(NULL), f.name);
    control->magic ^= 1;

    log->magic ^= 1;
    cr_expect_eq(open_again(&f), EVBUS_ECORRUPT);
    has("no log", evbus_message(NULL), "test.b");
    log->magic ^= 1;

    log->uuid[3] ^= 1;
    cr_expect_eq(open_again(&f), EVBUS_ECORRUPT, "a log of another bus");
    log->uuid[3] ^= 1;

    log->n_cells = 3;
    cr_expect_eq(open_again(&f), EVBUS_ECORRUPT, "a ring of 3 cells");
    log->n_cells = UINT64_C(1) << 24;
    cr_expect_eq(open_again(&f), EVBUS_ECORRUPT, "a ring beyond its object");
    log->n_cells = 1024;

    log->n_partitions = 0;
    cr_expect_eq(open_again(&f), EVBUS_ECORRUPT, "no partition");
    log->n_partitions = 1;

    atomic_store(&control->n_logs, LOGS_MAX + 1);
    cr_expect_eq(open_again(&f), EVBUS_ECORRUPT, "too many logs");
    atomic_store(&control->n_logs, 4); /* with the bus's own */

    atomic_store(&control->catalogue_len[1], CATALOGUE_BYTES + 1);
    cr_expect_eq(open_again(&f), EVBUS_ECORRUPT, "a catalogue beyond its place");
    atomic_store(&control->catalogue_len[1], 1);
    cr_expect_eq(open_again(&f), EVBUS_ECATALOGUE, "half a catalogue");
    fixture_end(&f);
}

Test(bus, a_log_that_is_lost_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    char name[128];
    snprintf(name, sizeof name, "/evbus.%s.test.b", f.name);
    cr_assert_eq(shm_unlink(name), 0);
    cr_expect_eq(open_again(&f), EVBUS_ECORRUPT);
    has("lost", evbus_message(NULL), "lost its log test.b");
    fixture_end(&f);
}

Test(bus, a_bus_that_is_half_made_is_not_there_yet)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    atomic_store(&f.bus->memory.control->ready, 0);
    cr_expect_eq(open_again(&f), EVBUS_ENOBUS);
    has("half made", evbus_message(NULL), "half made");
    has("half made", evbus_message(NULL), "init");
    fixture_end(&f);
}

static int open_as_nobody(void *context)
{
    const struct fixture *f = context;
    struct evbus *bus;
    if (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
        return 77;
    int rc = evbus_open(&bus, &(struct evbus_options){.bus = f->name});
    if (rc != EVBUS_EPERM)
        return 1;
    return strstr(evbus_message(NULL), f->name) != NULL && strstr(evbus_message(NULL), "group") != NULL ? 0 : 2;
}

Test(bus, who_has_no_permission_is_told_so)
{
    if (geteuid() != 0)
        cr_skip_test("only root can become somebody else");
    struct fixture f = fixture_make((struct fixture_options){0});
    struct child child = child_start(open_as_nobody, &f);
    int status = child_join(&child);
    if (status == 77)
        cr_skip_test("this root cannot become somebody else");
    cr_expect_eq(status, 0, "%d", status);
    fixture_end(&f);
}

/* --- messages --------------------------------------------------------------------------------------------------------------- */

static void *read_message(void *context)
{
    char *out = context;
    snprintf(out, 256, "%s", evbus_message(NULL));
    return NULL;
}

Test(bus, a_message_is_its_threads_own)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    char of_other[256] = "not read";
    cr_expect_eq(evbus_publish(f.bus, NULL, NULL), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(f.bus), "event is NULL");
    pthread_t thread;
    pthread_create(&thread, NULL, read_message, of_other);
    pthread_join(thread, NULL);
    cr_expect_str_eq(of_other, "", "nothing has failed there");
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK);
    cr_expect_str_eq(evbus_message(f.bus), "event is NULL", "it lives until the next call that fails");
    fixture_end(&f);
}

struct told {
    _Atomic unsigned n_inside, n_keeper, n_full, n_others;
    _Atomic bool at_once, has_newline;
    enum evbus_level level;
};

static void on_line(void *context, enum evbus_level level, const char *line)
{
    struct told *told = context;
    if (atomic_fetch_add(&told->n_inside, 1) != 0)
        atomic_store(&told->at_once, true);
    if (strchr(line, '\n') != NULL)
        atomic_store(&told->has_newline, true);
    if (strncmp(line, "event=keeper ", 13) == 0 && level == EVBUS_LOG_INFO)
        atomic_fetch_add(&told->n_keeper, 1);
    else if (strncmp(line, "event=full log=test.a partition=0", 33) == 0 && level == EVBUS_LOG_WARNING)
        atomic_fetch_add(&told->n_full, 1);
    else
        atomic_fetch_add(&told->n_others, 1);
    atomic_fetch_sub(&told->n_inside, 1);
}

Test(bus, what_happens_is_told_at_the_level_that_was_asked_for)
{
    static const struct {
        const char *label;
        enum evbus_level level;
        unsigned n_keeper, n_full;
    } rows[] = {{"errors, the default", EVBUS_LOG_ERROR, 0, 0},
                {"warnings", EVBUS_LOG_WARNING, 0, 1},
                {"all", EVBUS_LOG_DEBUG, 1, 1}};
    for (size_t i = 0; i < N(rows); i++) {
        struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
        struct told told = {0};
        struct evbus *bus;
        struct evbus_reader *reader;
        cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.bus = f.name,
                                                              .service = "teller",
                                                              .log = on_line,
                                                              .log_context = &told,
                                                              .log_level = rows[i].level}),
                     EVBUS_OK);
        cr_assert(await_that(stat_of(bus).keeper_slot != 0));
        cr_assert_eq(evbus_reader_open(&reader, bus, &(struct evbus_reader_options){.pin = true}), EVBUS_OK);
        for (int k = 0; k < 100; k++)
            evbus_publish(bus, &one, NULL);
        if (rows[i].n_keeper > 0)
            cr_expect(await_that(atomic_load(&told.n_keeper) > 0), "%s", rows[i].label);
        evbus_reader_close(reader);
        evbus_close(bus);
        cr_expect_eq(told.n_keeper > 0, rows[i].n_keeper > 0, "%s: %u of the keeper", rows[i].label, told.n_keeper);
        cr_expect_eq(told.n_full, rows[i].n_full, "%s: %u of a full ring: what repeats comes once", rows[i].label,
                     told.n_full);
        cr_expect_eq(told.n_others, 0u, "%s", rows[i].label);
        cr_expect_not(told.at_once);
        cr_expect_not(told.has_newline);
        fixture_end(&f);
    }
}

/* --- the keeper --------------------------------------------------------------------------------------------------------------- */

Test(bus, a_keeper_stands_only_where_one_may)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    cr_expect_eq(count_threads("evbus-keeper"), 0u, "EVBUS_KEEPER_NEVER");
    cr_expect_eq(stat_of(f.bus).keeper_slot, 0u);
    struct evbus *first = fixture_open(&f, "first", EVBUS_KEEPER_VOLUNTEER);
    cr_assert(await_that(stat_of(f.bus).keeper_slot != 0));
    cr_expect(await_that(count_threads("evbus-keeper") == 1)); /* they name themselves when they begin */
    struct evbus *second = fixture_open(&f, "second", EVBUS_KEEPER_VOLUNTEER);
    cr_expect(await_that(count_threads("evbus-keeper") == 2));
    cr_expect_str_eq(stat_of(f.bus).keeper_service, "first");
    evbus_close(first);
    cr_assert(await_that(strcmp(stat_of(f.bus).keeper_service, "second") == 0), "nobody follows");
    cr_expect(await_that(count_threads("evbus-keeper") == 1)); /* a joined thread leaves /proc a moment later */
    evbus_close(second);
    cr_expect(await_that(count_threads("evbus-keeper") == 0));
    cr_expect_eq(stat_of(f.bus).keeper_slot, 0u);
    fixture_end(&f);
}

/* --- fork ------------------------------------------------------------------------------------------------------------------------ */

struct forked {
    struct fixture f;
    struct evbus_reader *reader, *pinned;
};

static void ignore_finding(void *context, const struct evbus_finding *finding)
{
    (void)context;
    (void)finding;
}

/* The number of the first call that does not answer EVBUS_EFORKED; 0: all do. */
static int call_all(struct forked *forked)
{
    struct evbus *bus = forked->f.bus;
    struct evbus_receipt receipt = {.size = sizeof receipt};
    struct evbus_delivery got = {.size = sizeof got};
    struct evbus_stat stat = {.size = sizeof stat};
    struct evbus_reader *reader;
    const char *text;
    size_t n;
    int fd;
    int rcs[] = {
        evbus_publish(bus, &one, &receipt),
        evbus_publish_batch(bus, &one, 1, &receipt, &n),
        evbus_publish_batch(bus, NULL, 0, NULL, NULL),
        evbus_reader_open(&reader, bus, NULL),
        evbus_reader_next(forked->reader, &got, 0),
        evbus_reader_next(forked->reader, &got, UINT64_MAX),
        evbus_reader_next(forked->pinned, &got, 0),
        evbus_fd(forked->reader, &fd),
        evbus_fd(forked->pinned, &fd),
        evbus_stat(bus, &stat),
        evbus_doctor(bus, ignore_finding, NULL),
        evbus_catalogue_text(bus, &text, &n),
    };
    for (size_t i = 0; i < N(rcs); i++)
        if (rcs[i] != EVBUS_EFORKED)
            return (int)i + 1;
    return strstr(evbus_message(bus), "open one after fork()") != NULL ? 0 : (int)N(rcs) + 1;
}

static int use_parents_handle(void *context)
{
    struct forked *forked = context;
    int wrong = call_all(forked);
    if (wrong != 0)
        return wrong;
    if (count_mappings() != 0)
        return 50;
    evbus_reader_close(forked->reader);
    evbus_reader_close(forked->pinned);
    evbus_close(forked->f.bus);
    struct evbus *own;
    if (evbus_open(&own, &(struct evbus_options){.bus = forked->f.name, .service = "child"}) != EVBUS_OK)
        return 51;
    if (evbus_publish(own, &one, NULL) != EVBUS_OK)
        return 52;
    evbus_close(own);
    return 0;
}

static int only_look(void *context)
{
    return call_all(context);
}

Test(bus, a_forked_child_cannot_use_its_parents_handle_and_opens_its_own) /* [B8] */
{
    struct forked forked = {.f = fixture_make((struct fixture_options){.keeper = true})};
    struct evbus_delivery got = {.size = sizeof got};
    int fd;
    cr_assert_eq(evbus_reader_open(&forked.reader, forked.f.bus, NULL), EVBUS_OK);
    cr_assert_eq(evbus_reader_open(&forked.pinned, forked.f.bus, &(struct evbus_reader_options){.pin = true}),
                 EVBUS_OK);
    cr_assert_eq(evbus_fd(forked.reader, &fd), EVBUS_OK);
    cr_assert_eq(evbus_publish(forked.f.bus, &one, NULL), EVBUS_OK);
    for (int i = 0; i < 3; i++) {
        struct child child = child_start(i == 1 ? only_look : use_parents_handle, &forked);
        int status = child_join(&child);
        cr_assert_eq(status, 0, "child %d: call %d", i, status);
    }
    cr_expect_eq(evbus_publish(forked.f.bus, &one, NULL), EVBUS_OK, "the parent goes on: %s",
                 evbus_message(forked.f.bus));
    cr_expect_eq(stat_of(forked.f.bus).partitions[0].n_pins, 1u, "the child's close is not the parent's");
    unsigned of_child = 0, of_parent = 0;
    while (evbus_reader_next(forked.reader, &got, 0) == EVBUS_OK) {
        of_child += strcmp(got.service, "child") == 0;
        of_parent += strcmp(got.service, "tester") == 0;
    }
    cr_expect_eq(of_child, 2u);
    cr_expect_eq(of_parent, 2u);
    evbus_reader_close(forked.reader);
    evbus_reader_close(forked.pinned);
    fixture_end(&forked.f);
}

Test(bus, a_child_by_the_bare_system_call_cannot_use_it_either) /* [B8] */
{
    struct forked forked = {.f = fixture_make((struct fixture_options){0})};
    cr_assert_eq(evbus_reader_open(&forked.reader, forked.f.bus, NULL), EVBUS_OK);
    cr_assert_eq(evbus_reader_open(&forked.pinned, forked.f.bus, &(struct evbus_reader_options){.pin = true}),
                 EVBUS_OK);
    struct child child = {.pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)};
    if (child.pid == 0)
        syscall(SYS_exit_group, call_all(&forked));
    cr_expect_eq(child_join(&child), 0);
    cr_expect_eq(evbus_publish(forked.f.bus, &one, NULL), EVBUS_OK);
    evbus_reader_close(forked.reader);
    evbus_reader_close(forked.pinned);
    fixture_end(&forked.f);
}

struct busy_thread {
    struct evbus *bus;
    _Atomic bool stop;
    _Atomic unsigned n;
    int rc;
};

/* A neighbour that is not running for a moment may make the ring full for as long. */
static const struct evbus_event patient = {
    .size = sizeof patient, .topic = "test.a.one", .payload = "1", .timeout_ns = 20 * S};

static void *publish_on(void *context)
{
    struct busy_thread *busy = context;
    while (!atomic_load(&busy->stop) && busy->rc == EVBUS_OK) {
        busy->rc = evbus_publish(busy->bus, &patient, NULL);
        atomic_fetch_add(&busy->n, 1);
    }
    return NULL;
}

static int open_publish_close(void *context)
{
    const struct fixture *f = context;
    struct evbus *own;
    evbus_close(f->bus);
    int rc = evbus_open(&own, &(struct evbus_options){.bus = f->name, .service = "child"});
    if (rc == EVBUS_OK)
        rc = evbus_publish(own, &patient, NULL);
    if (rc == EVBUS_OK)
        evbus_close(own);
    return -rc;
}

Test(bus, a_fork_while_other_threads_publish_harms_nobody)
{
    struct fixture f = fixture_make((struct fixture_options){.keeper = true});
    struct busy_thread busy[3];
    pthread_t threads[N(busy)];
    for (size_t i = 0; i < N(busy); i++) {
        busy[i] = (struct busy_thread){.bus = f.bus};
        pthread_create(&threads[i], NULL, publish_on, &busy[i]);
        cr_assert(await_that(atomic_load(&busy[i].n) > 0));
    }
    for (int i = 0; i < 20; i++) {
        struct child child = child_start(open_publish_close, &f);
        int status = child_join(&child);
        cr_assert_eq(status, 0, "child %d: %d", i, status);
    }
    for (size_t i = 0; i < N(busy); i++) {
        atomic_store(&busy[i].stop, true);
        pthread_join(threads[i], NULL);
        cr_expect_eq(busy[i].rc, EVBUS_OK);
    }
    fixture_end(&f);
}

/* --- threads --------------------------------------------------------------------------------------------------------------------- */

struct parked {
    struct evbus **handles;
    size_t n_handles;
    bool dies; /* by raw exit */
    _Atomic unsigned *n_ready;
    _Atomic bool *may_end;
    unsigned n_published, n_refused;
    int rc; /* of the last refusal */
    char message[256];
};

static void *publish_and_park(void *context)
{
    struct parked *self = context;
    for (size_t i = 0; i < self->n_handles; i++) {
        int rc = evbus_publish(self->handles[i], &one, NULL);
        self->n_published += rc == EVBUS_OK;
        if (rc != EVBUS_OK) {
            self->n_refused++;
            self->rc = rc;
            snprintf(self->message, sizeof self->message, "%s", evbus_message(NULL));
        }
    }
    atomic_fetch_add(self->n_ready, 1);
    await_that(atomic_load(self->may_end));
    if (self->dies)
        syscall(SYS_exit, 0);
    return NULL;
}

Test(bus, a_threads_end_gives_its_slot_back)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    _Atomic unsigned n_ready = 0;
    _Atomic bool may_end = false;
    struct parked parked[5];
    pthread_t threads[N(parked)];
    cr_assert_eq(stat_of(f.bus).n_slots, 0u, "an open handle is no slot");
    for (size_t i = 0; i < N(parked); i++) {
        parked[i] = (struct parked){.handles = &f.bus, .n_handles = 1, .n_ready = &n_ready, .may_end = &may_end};
        pthread_create(&threads[i], NULL, publish_and_park, &parked[i]);
    }
    cr_assert(await_that(atomic_load(&n_ready) == N(parked)));
    struct evbus_stat stat = stat_of(f.bus);
    cr_expect_eq(stat.n_slots, (uint32_t)N(parked));
    for (uint32_t i = 0; i < stat.n_slots; i++) {
        cr_expect_eq(stat.slots[i].pid, getpid());
        cr_expect_neq(stat.slots[i].tid, getpid());
        cr_expect_str_eq(stat.slots[i].service, "tester");
        cr_expect_not(stat.slots[i].is_dead);
    }
    atomic_store(&may_end, true);
    for (size_t i = 0; i < N(parked); i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(stat_of(f.bus).n_slots, 0u);
    cr_expect_eq(stat_of(f.bus).burials, 0u, "nobody died");
    fixture_end(&f);
}

/* In a child, since what such a thread had on the heap is lost. */
static int die_raw(void *context)
{
    const struct fixture *f = context;
    _Atomic unsigned n_ready = 0;
    _Atomic bool may_end = true;
    struct evbus *bus = fixture_open(f, "mortal", EVBUS_KEEPER_NEVER);
    struct parked parked = {.handles = &bus, .n_handles = 1, .dies = true, .n_ready = &n_ready, .may_end = &may_end};
    pthread_t thread;
    pthread_create(&thread, NULL, publish_and_park, &parked);
    pthread_join(thread, NULL);
    struct evbus_stat stat = {.size = sizeof stat};
    bool is_buried = await_that(evbus_stat(bus, &stat) == EVBUS_OK && stat.burials == 1);
    if (!is_buried || parked.n_published != 1)
        return 1;
    for (uint32_t i = 0; i < stat.n_slots; i++)
        if (strcmp(stat.slots[i].service, "mortal") == 0)
            return 2; /* its slot is still there */
    evbus_close(bus); /* one of its threads died on it: no crash */
    return 0;
}

Test(bus, a_thread_that_ends_without_cleaning_up_is_found_and_its_slot_is_freed) /* [B6] [B10] */
{
    struct fixture f = fixture_make((struct fixture_options){.keeper = true});
    struct child child = child_start(die_raw, &f);
    cr_expect_eq(child_join(&child), 0);
    fixture_end(&f);
}

Test(bus, it_may_be_closed_while_other_threads_hold_slots_that_end_later) /* [B7] */
{
    struct fixture f = fixture_make((struct fixture_options){0});
    for (int round = 0; round < 30; round++) {
        struct evbus *bus = fixture_open(&f, "short", round % 2 == 0 ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER);
        _Atomic unsigned n_ready = 0;
        _Atomic bool may_end = false;
        struct parked parked[4];
        pthread_t threads[N(parked)];
        for (size_t i = 0; i < N(parked); i++) {
            parked[i] = (struct parked){.handles = &bus, .n_handles = 1, .n_ready = &n_ready, .may_end = &may_end};
            pthread_create(&threads[i], NULL, publish_and_park, &parked[i]);
        }
        cr_assert(await_that(atomic_load(&n_ready) == N(parked)));
        evbus_close(bus);
        cr_expect_eq(stat_of(f.bus).n_slots, (uint32_t)N(parked), "only its owner gives a slot back");
        cr_expect_gt(count_mappings(), 0u);
        atomic_store(&may_end, true);
        for (size_t i = 0; i < N(parked); i++)
            pthread_join(threads[i], NULL);
        cr_assert_eq(stat_of(f.bus).n_slots, 0u);
    }
    cr_expect_eq(stat_of(f.bus).burials, 0u);
    cr_expect_eq(
        count_mappings(), 7u,
        "control, its witness, two logs and the bus's own three of the fixture's handle; the others are unmapped");
    fixture_end(&f);
}

Test(bus, the_1024th_slot_is_refused_until_one_is_given_back)
{
    enum { HANDLES = 33, THREADS = 31 };
    static_assert(HANDLES * THREADS == SLOTS_MAX, "they take all slots, and main has one already");
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus *handles[HANDLES], *more;
    struct evbus_reader *reader, *another;
    static struct parked parked[THREADS];
    pthread_t threads[THREADS];
    _Atomic unsigned n_ready = 0;
    _Atomic bool may_end = false;
    unsigned n_published = 0, n_refused = 0;
    int fd;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    for (int i = 0; i < HANDLES; i++)
        handles[i] = fixture_open(&f, "many", EVBUS_KEEPER_NEVER);
    for (int i = 0; i < THREADS; i++) {
        parked[i] = (struct parked){.handles = handles, .n_handles = HANDLES, .n_ready = &n_ready, .may_end = &may_end};
        pthread_create(&threads[i], NULL, publish_and_park, &parked[i]);
    }
    cr_assert(await_that(atomic_load(&n_ready) == THREADS));
    for (int i = 0; i < THREADS; i++) {
        n_published += parked[i].n_published;
        n_refused += parked[i].n_refused;
        if (parked[i].n_refused == 0)
            continue;
        cr_expect_eq(parked[i].rc, EVBUS_ELIMIT);
        has("ELIMIT", parked[i].message, "all 1023 slots are taken");
        has("ELIMIT", parked[i].message, "evbus stat");
    }
    cr_expect_eq(n_published, (unsigned)SLOTS_MAX - 1);
    cr_expect_eq(n_refused, 1u);
    cr_expect_eq(stat_of(f.bus).n_slots, (uint32_t)SLOTS_MAX);
    cr_expect_eq(stat_of(f.bus).n_processes, 1u);
    cr_expect_eq(evbus_fd(reader, &fd), EVBUS_ELIMIT);
    has("evbus_fd", evbus_message(f.bus), "all 1023 slots are taken");
    cr_expect_eq(evbus_reader_open(&another, handles[0], NULL), EVBUS_ELIMIT);
    cr_expect_eq(evbus_publish(handles[0], &one, NULL), EVBUS_ELIMIT);
    cr_expect_eq(evbus_open(&more, &(struct evbus_options){.bus = f.name}), EVBUS_OK, "to look at it: %s",
                 evbus_message(NULL));
    cr_expect_eq(stat_of(more).n_slots, (uint32_t)SLOTS_MAX);
    evbus_close(more);
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK, "who has a slot goes on");
    atomic_store(&may_end, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(stat_of(f.bus).n_slots, 1u);
    cr_expect_eq(evbus_publish(handles[0], &one, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_eq(evbus_fd(reader, &fd), EVBUS_OK, "%s", evbus_message(f.bus));
    evbus_reader_close(reader);
    for (int i = 0; i < HANDLES; i++)
        evbus_close(handles[i]);
    fixture_end(&f);
}

/* --- buses that come and go -------------------------------------------------------------------------------------------------------- */

Test(bus, a_bus_that_was_made_anew_is_stale_until_it_is_opened_again) /* [R16] */
{
    struct fixture f = fixture_make((struct fixture_options){0});
    cr_assert_eq(evbus_publish(f.bus, &one, NULL), EVBUS_OK);
    const char *text;
    size_t len;
    cr_assert_eq(evbus_catalogue_text(f.bus, &text, &len), EVBUS_OK);
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    cr_expect_eq(open_again(&f), EVBUS_ENOBUS);
    cr_assert_eq(evbus_init(&(struct evbus_init_options){.bus = f.name, .catalogue = text, .catalogue_len = len}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_ESTALE);
    has("ESTALE", evbus_message(f.bus), f.name);
    has("ESTALE", evbus_message(f.bus), "open again");
    struct evbus *anew = fixture_open(&f, "anew", EVBUS_KEEPER_NEVER);
    cr_expect_eq(evbus_publish(anew, &one, NULL), EVBUS_OK, "%s", evbus_message(anew));
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_ESTALE, "the old one stays stale");
    evbus_close(anew);
    fixture_end(&f);
}

Test(bus, a_bus_that_was_removed_by_hand_is_stale_within_seconds) /* [R16] */
{
    struct fixture f = fixture_make((struct fixture_options){.keeper = true});
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    char name[128];
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    cr_assert(await_that(stat_of(f.bus).keeper_slot != 0));
    snprintf(name, sizeof name, "/evbus.%s.control", f.name);
    cr_assert_eq(shm_unlink(name), 0);
    uint64_t before = await_now_ms();
    cr_expect_eq(evbus_reader_next(reader, &got, 20 * S), EVBUS_ESTALE);
    cr_expect_lt(await_now_ms() - before, 5000u, "it took %" PRIu64 " ms", await_now_ms() - before);
    cr_expect_eq(evbus_publish(f.bus, &one, NULL), EVBUS_ESTALE);
    evbus_reader_close(reader);
    evbus_close(f.bus);
    cr_expect_eq(evbus_remove(f.name), EVBUS_OK, "the logs are still there to be cleared away: %s",
                 evbus_message(NULL));
    f.bus = NULL;
    fixture_end(&f);
}
