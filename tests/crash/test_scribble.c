/* Everything mapped is scribbled on while all roles run. Nothing crashes, hangs or reads out of bounds; damage is told,
 * with its place, or read over; and a bus that is made anew afterwards works.
 *
 * One process scribbles; in others run producers, readers, members, keepers, who makes groups and applies catalogues,
 * and the command line. What each is in, and since when, stands in memory outside the bus, where the test watches it.
 * A failure prints its seed; EVBUS_SEED=<number> scribbles the same, though what it hits is up to the scheduler.
 * R18: one bus is one trust domain. Its checks are for accidents, which are told or read over; the robust mutexes are
 * left alone, as nothing protects from who writes into those (see support/scribble.h).
 * tests/unit/test_corrupt.c does it to one ring in one process, where a sanitizer sees the ring's own bounds. */
#include "await.h"
#include "bus.h"
#include "child.h"
#include "fixture.h"
#include "scribble.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a child, where Criterion's own do not come through. */
#define MUST(condition)                                                             \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            _exit(EXIT_FAILURE);                                                    \
        }                                                                           \
    } while (0)

#define MS           UINT64_C(1000000)
#define N(rows)      (sizeof(rows) / sizeof(rows)[0])
#define ROLES        9
#define CALLS_BEHIND 12 /* calls of all roles between two scribbles, or 5 ms */
#define MEND_EVERY   12 /* scribbles, about, so that there is something to damage */

#define CATALOGUE_OF(more)                                                                                             \
    "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"                                                            \
    "\"defaults\":{\"partitions\":2,\"ring\":\"4KiB\",\"retry\":[\"1ms\"],\"handler_timeout\":\"500ms\"},"             \
    "\"topics\":{\"test.a.one\":{\"groups\":[\"g\"]},\"test.a.two\":{\"groups\":[\"g\",\"h\"]},\"test.b.one\":{}" more \
    "}}"

/* What a role is doing. */
struct role {
    _Atomic uint64_t n_calls;
    _Atomic uint64_t since_ms; /* its call began; 0: it is in none */
    const char *_Atomic call;
    _Atomic uint64_t n_failed; /* calls that told an error */
    _Atomic uint64_t n_placed; /* of these: damage, with log, partition and position */
    _Atomic uint64_t n_events; /* it has published, read or handled */
};

struct notes {
    struct role roles[ROLES];
    _Atomic uint64_t n_scribbles;
    _Atomic int stop;
};

/* One child. */
struct job {
    const struct fixture *f;
    struct notes *notes;
    struct role *role;
    uint64_t seed;
};

/* ---- calls ---- */

static unsigned n_read;

static void read_text(const char *text)
{
    n_read += (unsigned)strlen(text);
}

/* An ECORRUPT says what is damaged: a partition, at a position; a log; or the bus. */
static bool says_where(const struct job *job, const char *message)
{
    const char *name = strstr(message, "test."), *slash = name != NULL ? strchr(name, '/') : NULL;
    unsigned partition;
    unsigned long long position;
    if (slash != NULL && sscanf(slash, "/%u at %llu", &partition, &position) == 2) {
        job->role->n_placed++;
        return true;
    }
    return name != NULL || strstr(message, job->f->name) != NULL;
}

static void enter(const struct job *job, const char *call)
{
    job->role->call = call;
    job->role->since_ms = await_now_ms();
}

/* Any code of the library will do, if it comes with its message. */
static int leave(const struct job *job, int rc)
{
    const char *message = evbus_message(NULL);
    job->role->since_ms = 0;
    job->role->n_calls++;
    if (rc == EVBUS_OK)
        return rc;
    job->role->n_failed++;
    if (rc > 0 || rc < EVBUS_EEXHAUSTED || (rc == EVBUS_ECORRUPT && !says_where(job, message)) || message[0] == '\0') {
        fprintf(stderr, "%s: %d %s\n", job->role->call, rc, message);
        _exit(98);
    }
    return rc;
}

#define CALL(job, call)      (enter(job, #call), leave(job, call))
#define CALL_VOID(job, call) (enter(job, #call), (call), (void)leave(job, EVBUS_OK))

static bool goes_on(const struct job *job)
{
    return job->notes->stop == 0;
}

static uint64_t draw(struct job *job)
{
    return trial_random(&job->seed);
}

/* NULL: not now. */
static struct evbus *open_bus(struct job *job, enum evbus_keeper keeper)
{
    struct evbus *bus = NULL;
    struct evbus_options options = {
        .size = sizeof options, .bus = job->f->name, .service = "scribbled", .keeper = keeper};
    if (CALL(job, evbus_open(&bus, &options)) != EVBUS_OK)
        await_pause();
    return bus;
}

static void read_delivery(const struct evbus_delivery *got)
{
    for (size_t i = 0; i <= got->payload_len; i++) /* and the NUL behind it */
        n_read += ((const unsigned char *)got->payload)[i];
    MUST(strlen(got->key) == strnlen(got->key, got->key_len));
    read_text(got->topic);
    read_text(got->service);
    read_text(got->log);
}

/* ---- roles ---- */

static int produce(void *context)
{
    struct job *job = context;
    static const char *const topics[] = {"test.a.one", "test.a.two", "test.b.one"};
    static const char *const payloads[] = {"1", "[1,2,3,4,5,6,7,8]",
                                           "{\"a\":\"0123456789012345678901234567890123456789\"}"};
    while (goes_on(job)) {
        struct evbus *bus = open_bus(job, EVBUS_KEEPER_NEVER);
        for (int i = 0; bus != NULL && i < 60 && goes_on(job); i++) {
            char key[8];
            struct evbus_event event = {.size = sizeof event,
                                        .topic = topics[draw(job) % N(topics)],
                                        .key = key,
                                        .payload = payloads[draw(job) % N(payloads)],
                                        .timeout_ns = draw(job) % 2 * MS};
            snprintf(key, sizeof key, "k%u", (unsigned)(draw(job) % 5));
            if (i % 8 == 0)
                job->role->n_events += CALL(job, evbus_publish_batch(bus, &event, 1, NULL, NULL)) == EVBUS_OK;
            else
                job->role->n_events += CALL(job, evbus_publish(bus, &event, NULL)) == EVBUS_OK;
        }
        CALL_VOID(job, evbus_close(bus));
    }
    return 0;
}

static int read_on(void *context)
{
    struct job *job = context;
    while (goes_on(job)) {
        struct evbus *bus = open_bus(job, EVBUS_KEEPER_NEVER);
        struct evbus_reader *reader = NULL;
        int fd;
        struct evbus_reader_options options = {.size = sizeof options,
                                               .from = draw(job) % 2 == 0 ? EVBUS_FROM_EARLIEST : EVBUS_FROM_LATEST,
                                               .pin = draw(job) % 3 == 0};
        if (bus != NULL && CALL(job, evbus_reader_open(&reader, bus, &options)) != EVBUS_OK)
            reader = NULL;
        if (reader != NULL && draw(job) % 4 == 0)
            CALL(job, evbus_fd(reader, &fd));
        for (int i = 0; reader != NULL && i < 60 && goes_on(job); i++) {
            struct evbus_delivery got = {.size = sizeof got};
            if (CALL(job, evbus_reader_next(reader, &got, draw(job) % 3 * MS)) != EVBUS_OK)
                continue;
            read_delivery(&got);
            job->role->n_events++;
        }
        CALL_VOID(job, evbus_reader_close(reader));
        CALL_VOID(job, evbus_close(bus));
    }
    return 0;
}

static int receive(void *context)
{
    struct job *job = context;
    static const enum evbus_outcome outcomes[] = {EVBUS_DONE, EVBUS_DONE, EVBUS_RETRY, EVBUS_REJECT, EVBUS_RELEASE};
    while (goes_on(job)) {
        struct evbus *bus = open_bus(job, EVBUS_KEEPER_NEVER);
        struct evbus_subscription *sub = NULL;
        struct evbus_subscribe_options options = {.size = sizeof options, .group = draw(job) % 4 == 0 ? "h" : "g"};
        if (bus != NULL && CALL(job, evbus_subscribe(&sub, bus, &options)) != EVBUS_OK)
            sub = NULL;
        for (int i = 0; sub != NULL && i < 60 && goes_on(job); i++) {
            struct evbus_delivery got = {.size = sizeof got};
            int rc = CALL(job, evbus_receive(sub, &got, draw(job) % 3 * MS));
            if (rc == EVBUS_ENOTFOUND)
                break;
            if (rc != EVBUS_OK)
                continue;
            read_delivery(&got);
            CALL(job, evbus_finish(sub, &got, outcomes[draw(job) % N(outcomes)], "no \xff reason"));
            job->role->n_events++;
        }
        CALL_VOID(job, evbus_unsubscribe(sub));
        CALL_VOID(job, evbus_close(bus));
    }
    return 0;
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct role *role = context;
    read_delivery(event);
    strcpy(error, "again");
    return role->n_events++ % 3 == 0 ? EVBUS_RETRY : EVBUS_DONE;
}

struct run {
    struct job *job;
    struct evbus_subscription *sub;
    unsigned threads;
};

static void *run(void *context)
{
    struct run *run = context;
    struct evbus_run_options options = {.size = sizeof options, .threads = run->threads};
    CALL(run->job, evbus_run(run->sub, &options));
    return NULL;
}

/* evbus_run() ends when it is told to: its call, and so its deadline, begins anew with evbus_stop(). */
static int run_and_stop(void *context)
{
    struct job *job = context;
    for (unsigned round = 0; goes_on(job); round++) {
        struct evbus *bus = open_bus(job, EVBUS_KEEPER_NEVER);
        struct evbus_subscription *sub = NULL;
        struct evbus_subscribe_options options = {
            .size = sizeof options, .group = "g", .handler = handle, .context = job->role};
        if (bus != NULL && CALL(job, evbus_subscribe(&sub, bus, &options)) != EVBUS_OK)
            sub = NULL;
        if (sub != NULL) {
            struct run running = {job, sub, 1 + round % 3};
            pthread_t thread;
            uint64_t scribbles = job->notes->n_scribbles;
            MUST(pthread_create(&thread, NULL, run, &running) == 0);
            await_that(job->notes->n_scribbles > scribbles + 5 || !goes_on(job));
            enter(job, "evbus_stop(sub)");
            evbus_stop(sub);
            pthread_join(thread, NULL);
        }
        CALL_VOID(job, evbus_unsubscribe(sub));
        CALL_VOID(job, evbus_close(bus));
    }
    return 0;
}

static void ignore(void *context, const struct evbus_finding *finding)
{
    (void)context;
    read_text(finding->what);
    read_text(finding->mend);
}

static int look_at_group(void *context, const struct evbus_group_stat *group)
{
    (void)context;
    read_text(group->group);
    for (size_t i = 0; i < group->n_topics; i++)
        read_text(group->topics[i]);
    for (size_t i = 0; i < group->n_members; i++)
        read_text(group->members[i].service);
    return EVBUS_OK;
}

static int look_at_text(void *context, const char *text, size_t len)
{
    (void)context;
    for (size_t i = 0; i < len; i++)
        if ((text[i] < ' ' && text[i] != '\n') || text[i] > '~')
            abort(); /* whatever stands in memory */
    return EVBUS_OK;
}

static void look(struct job *job, struct evbus *bus)
{
    struct evbus_stat stat = {.size = sizeof stat};
    const char *text;
    size_t len;
    if (CALL(job, evbus_stat(bus, &stat)) == EVBUS_OK)
        for (size_t i = 0; i < stat.n_partitions; i++)
            read_text(stat.partitions[i].log);
    CALL(job, evbus_doctor(bus, ignore, NULL));
    CALL(job, evbus_groups(bus, look_at_group, NULL));
    CALL(job, evbus_metrics(bus, look_at_text, NULL));
    CALL(job, evbus_catalogue_text(bus, &text, &len));
}

/* A keeper that stays for a while, and looks. */
static int keep(void *context)
{
    struct job *job = context;
    while (goes_on(job)) {
        struct evbus *bus = open_bus(job, EVBUS_KEEPER_VOLUNTEER);
        for (int i = 0; bus != NULL && i < 10 && goes_on(job); i++) {
            uint64_t scribbles = job->notes->n_scribbles;
            await_that(job->notes->n_scribbles > scribbles + 2 || !goes_on(job));
            look(job, bus);
        }
        CALL_VOID(job, evbus_close(bus));
    }
    return 0;
}

static int administer(void *context)
{
    struct job *job = context;
    static const char plain[] = CATALOGUE_OF("");
    static const char with_more[] = CATALOGUE_OF(",\"test.b.two\":{\"groups\":[\"h\",\"i\"]}");
    static const char *const patterns[] = {"test.a.**"};
    while (goes_on(job)) {
        struct evbus *bus = open_bus(job, EVBUS_KEEPER_NEVER);
        struct evbus_group_options options = {
            .size = sizeof options, .group = "j", .patterns = patterns, .n_patterns = 1, .from = draw(job) % 2};
        for (int i = 0; bus != NULL && i < 10 && goes_on(job); i++) {
            const char *text = draw(job) % 2 == 0 ? plain : with_more;
            CALL(job, evbus_catalogue_apply(bus, text, strlen(text), NULL));
            CALL(job, evbus_group_add(bus, &options));
            CALL(job, evbus_group_remove(bus, draw(job) % 4 == 0 ? "h" : "j"));
        }
        CALL_VOID(job, evbus_close(bus));
    }
    return 0;
}

/* ---- the command line ---- */

/* Runs it to its end; its exit code, or 128 + the signal that ended it. What it said on standard error is in `said`. */
static int evbus_command(const char *const *argv, int said)
{
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(said, STDERR_FILENO);
        setenv("ASAN_OPTIONS", "exitcode=99", 1);
        setenv("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1:exitcode=99", 1);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct typed {
    const char *const *argv;
    int said;
};

static int type_one(void *context)
{
    const struct typed *typed = context;
    return evbus_command(typed->argv, typed->said);
}

static void show(int said)
{
    char text[4096];
    ssize_t n = pread(said, text, sizeof text, 0);
    fprintf(stderr, "%.*s\n", n > 0 ? (int)n : 0, text);
}

static int type(void *context)
{
    struct job *job = context;
    static const char *const lines[][8] = {
        {"stat"},
        {"stat", "--json"},
        {"inspect"},
        {"inspect", "--json"},
        {"doctor"},
        {"doctor", "--json"},
        {"ls"},
        {"group", "ls", "--json"},
        {"group", "show", "g"},
        {"catalogue", "show"},
        {"tail", "test.**", "--from", "earliest", "--timeout", "5ms", "--meta", "--json"},
        {"tail", "--timeout", "5ms", "--count", "3", "--latency"},
        {"consume", "g", "--timeout", "5ms"},
        {"pub", "test.a.one", "1", "--key", "k1", "--timeout", "5ms"},
    };
    static const int may_be[] = {0, 1, 2, 65, 69, 70, 73, 74, 75, 77, 78};
    const char *program = getenv("EVBUS");
    int said = memfd_create("stderr", MFD_CLOEXEC);
    MUST(program != NULL && said >= 0);
    while (goes_on(job)) {
        const char *const *line = lines[draw(job) % N(lines)];
        const char *argv[16] = {program, "-b", job->f->name, "--as", "typist"};
        bool is_known = false;
        for (size_t i = 0; i < 8 && line[i] != NULL; i++)
            argv[5 + i] = line[i];
        MUST(ftruncate(said, 0) == 0 && lseek(said, 0, SEEK_SET) == 0);
        enter(job, line[0]);
        int code = evbus_command(argv, said);
        for (size_t i = 0; i < N(may_be); i++)
            is_known = is_known || code == may_be[i];
        if (!is_known) {
            fprintf(stderr, "evbus %s %s ... ended with %d:\n", line[0], line[1] != NULL ? line[1] : "", code);
            show(said);
            return 97;
        }
        job->role->since_ms = 0;
        job->role->n_calls++;
        job->role->n_failed += code != 0;
    }
    return 0;
}

/* ---- the scribbler ---- */

static uint64_t count_calls(const struct notes *notes)
{
    uint64_t n = 0;
    for (int i = 0; i < ROLES; i++)
        n += notes->roles[i].n_calls;
    return n;
}

static uint64_t n_wanted(void)
{
    const char *soak = getenv("EVBUS_SOAK");
    return soak != NULL && strcmp(soak, "1") == 0 ? 200000 : trial_count(16000, 300);
}

static int scribble(void *context)
{
    struct job *job = context;
    struct memory memory;
    struct error err = {""};
    if (memory_open(&memory, job->f->name, &err) != EVBUS_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    struct scribble_copy *copy = scribble_copy_make(&memory);
    uint64_t n = n_wanted();
    for (uint64_t i = 1; i <= n && goes_on(job); i++) {
        scribble_on_bus(&memory, &job->seed);
        job->notes->n_scribbles = i;
        uint64_t calls = count_calls(job->notes), until = await_now_ms() + 5;
        while (count_calls(job->notes) < calls + CALLS_BEHIND && await_now_ms() < until)
            await_pause();
        if (trial_random(&job->seed) % MEND_EVERY ==
            0) /* laps, positions, words of long ago: worse than any scribble for who is in a call */
            scribble_copy_back(copy, &memory);
    }
    scribble_copy_free(copy);
    memory_close(&memory);
    return 0;
}

/* ---- the test ---- */

static const struct {
    const char *name;
    int (*body)(void *context);
} roles[ROLES] = {{"producer", produce}, {"producer", produce},         {"reader", read_on},
                  {"member", receive},   {"member", receive},           {"running member", run_and_stop},
                  {"keeper", keep},      {"administrator", administer}, {"command line", type}};

/* Until the scribbler has ended: everybody lives, and no call takes too long. "": fine. */
static void watch(struct child *scribbler, struct child *children, const struct notes *notes, char out_what[256])
{
    int status;
    out_what[0] = '\0';
    while (waitpid(scribbler->pid, &status, WNOHANG) == 0) {
        for (int i = 0; i < ROLES; i++) {
            const struct role *role = &notes->roles[i];
            uint64_t since_ms = role->since_ms, now_ms = await_now_ms();
            if (waitpid(children[i].pid, &status, WNOHANG) != 0) {
                children[i].pid = 0;
                snprintf(out_what, 256, "a %s ended with %#x in %s", roles[i].name, (unsigned)status, role->call);
            } else if (since_ms != 0 && now_ms > since_ms + AWAIT_MS && role->since_ms == since_ms &&
                       strncmp(role->call, "evbus_run(", 10) != 0) {
                snprintf(out_what, 256, "a %s is in %s for %u ms", roles[i].name, role->call,
                         (unsigned)(now_ms - since_ms));
                kill(children[i].pid, SIGABRT);
            }
        }
        if (out_what[0] != '\0') {
            child_kill(scribbler);
            return;
        }
        await_pause();
    }
}

/* `evbus rm`, `evbus init`, and an event from one end to the other. */
static void make_anew(const struct fixture *f)
{
    const char *program = getenv("EVBUS");
    int said = memfd_create("stderr", MFD_CLOEXEC);
    char path[] = "/dev/shm/scribble-catalogue-XXXXXX";
    int file = mkstemp(path);
    static const char text[] = CATALOGUE_OF("");
    cr_assert(program != NULL && said >= 0 && file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    int removed = evbus_command((const char *[]){program, "-b", f->name, "rm", NULL}, said);
    int made = evbus_command((const char *[]){program, "-b", f->name, "init", "--catalogue", path, NULL}, said);
    close(file);
    unlink(path);
    if (removed != 0 || made != 0)
        show(said);
    cr_assert_eq(removed, 0, "evbus rm: %d", removed);
    cr_assert_eq(made, 0, "evbus init: %d", made);
    struct evbus *bus = fixture_open(f, "after", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub;
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(fixture_publish(bus, "k", "\"works\""), EVBUS_OK, "%s", evbus_message(bus));
    cr_assert_eq(evbus_subscribe(&sub, bus, &(struct evbus_subscribe_options){.group = "g"}), EVBUS_OK);
    cr_assert_eq(evbus_receive(sub, &got, 5000 * MS), EVBUS_OK, "%s", evbus_message(bus));
    cr_assert_str_eq(got.payload, "\"works\"");
    cr_assert_eq(evbus_finish(sub, &got, EVBUS_DONE, NULL), EVBUS_OK);
    evbus_unsubscribe(sub);
    evbus_close(bus);
    close(said);
}

/* A ring whose own positions are damaged says so with each call: nothing goes on behind that. */
Test(scribble, a_tail_ends_in_time_though_a_ring_stands_still)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    struct ring_head *head = f.bus->memory.logs[0].rings[0].head;
    int said = memfd_create("stderr", MFD_CLOEXEC);
    const char *argv[] = {getenv("EVBUS"), "-b", f.name, "tail", "--from", "earliest", "--timeout", "10ms", NULL};
    atomic_store(&head->released, UINT64_MAX);
    atomic_store(&head->tail, UINT64_C(1) << 47);
    struct typed typed = {argv, said};
    struct child typist = child_start(type_one, &typed);
    cr_expect_eq(child_join(&typist), 70);
    fixture_end(&f);
}

/* R18 */
Test(scribble, nobody_crashes_or_hangs_whatever_is_written_into_a_bus, .timeout = 3000)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = CATALOGUE_OF("")});
    struct notes *notes = child_shared(sizeof *notes);
    struct child children[ROLES], scribbler;
    struct job jobs[ROLES + 1];
    uint64_t seed = trial_seed("scribble/nobody_crashes_or_hangs_whatever_is_written_into_a_bus");
    char what[256], late[256] = "";
    for (int i = 0; i < 12; i++)
        cr_assert_eq(fixture_publish(f.bus, i % 2 == 0 ? "key" : NULL, "{\"a\":[1,2,3]}"), EVBUS_OK);
    evbus_close(f.bus);
    f.bus = NULL;
    for (int i = 0; i < ROLES; i++) {
        jobs[i] = (struct job){&f, notes, &notes->roles[i], seed + (uint64_t)i + 1};
        children[i] = child_start(roles[i].body, &jobs[i]);
    }
    jobs[ROLES] = (struct job){&f, notes, NULL, seed};
    scribbler = child_start(scribble, &jobs[ROLES]);
    watch(&scribbler, children, notes, what);
    notes->stop = 1;
    uint64_t n_placed = 0;
    for (int i = 0; i < ROLES; i++) {
        const struct role *role = &notes->roles[i];
        int code = children[i].pid != 0 ? child_join(&children[i]) : 0;
        if (code != 0)
            snprintf(late, sizeof late, "a %s ended with %d in %s", roles[i].name, code, role->call);
        n_placed += role->n_placed;
        fprintf(stderr, "%-14s %8llu calls, %7llu told an error, %6llu events\n", roles[i].name,
                (unsigned long long)role->n_calls, (unsigned long long)role->n_failed,
                (unsigned long long)role->n_events);
    }
    fprintf(stderr, "%llu scribbles; damage was told %llu times with log, partition and position\n",
            (unsigned long long)notes->n_scribbles, (unsigned long long)n_placed);
    cr_assert_str_empty(what, "after %llu scribbles: %s", (unsigned long long)notes->n_scribbles, what);
    cr_assert_str_empty(late, "when all was over: %s", late);
    cr_assert_gt(n_placed, 0, "no damage was told");
    make_anew(&f);
    fixture_end(&f);
}
