/* A member that is killed between begin and ack, at each instruction of our text and at each system call, its own and the libraries':
 * another one takes over, and the effect is there exactly once, for each of two groups that share the database. [guards ONCE]
 *
 * Where it is killed at an instruction of ours is found by going that way once, step by step; then each trial runs at full speed up to
 * its instruction. System calls are counted by ptrace, and each has two points: before and behind it. */
#include "await.h"
#include "child.h"
#include "crew.h"
#include "folder.h"
#include "step.h"
#include "trial.h"
#ifdef HAS_POSTGRES
#include "postgres.h"
#endif

#include "clock.h"

#include <criterion/criterion.h>
#include <evbus/once.h>
#ifdef HAS_POSTGRES
#include <libpq-fe.h>
#endif
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#define WORK "UPDATE effect SET n = n + 1 WHERE consumer_group = "

/* --- two databases ------------------------------------------------------------------------------------------------------ */

/* One group's place at a database: its connection, and what its work does. */
struct place {
    const char *group;
    sqlite3 *sqlite;
#ifdef HAS_POSTGRES
    PGconn *postgres;
#endif
};

static struct {
    struct fixture f;
    char where[300]; /* the file, or what libpq needs */
    bool is_postgres;
    struct place here;                 /* the test's own connection, for both groups */
    struct evbus_subscription *others; /* the other group's member, which lives */
    unsigned n_events;
    unsigned n_behind; /* killed when the effect was there */
    /* how the next child ends */
    enum { NOTED, KILLED_AT_INSTRUCTION, KILLED_AT_CALL } how;
    uint32_t instruction;
    struct step_path *path;
} scene;

static bool sqlite_run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

#ifdef HAS_POSTGRES
static bool postgres_run(PGconn *db, const char *sql)
{
    PGresult *result = PQexec(db, sql);
    bool is_good = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    return is_good;
}
#endif

static bool run(const struct place *place, const char *sql)
{
#ifdef HAS_POSTGRES
    if (scene.is_postgres)
        return postgres_run(place->postgres, sql);
#endif
    return sqlite_run(place->sqlite, sql);
}

static bool place_open(struct place *place)
{
#ifdef HAS_POSTGRES
    if (scene.is_postgres) {
        place->postgres = PQconnectdb(scene.where);
        return PQstatus(place->postgres) == CONNECTION_OK;
    }
#endif
    return sqlite3_open(scene.where, &place->sqlite) == SQLITE_OK &&
           sqlite3_busy_timeout(place->sqlite, 20000) == SQLITE_OK &&
           sqlite_run(place->sqlite, "PRAGMA synchronous = FULL");
}

static enum evbus_outcome work(void *context, const struct evbus_delivery *event, char *error)
{
    const struct place *place = context;
    (void)event;
    (void)error;
    return run(place, strcmp(place->group, "crew") == 0 ? WORK "'crew'" : WORK "'other'") ? EVBUS_DONE : EVBUS_RELEASE;
}

static enum evbus_outcome once(struct place *place, const struct evbus_delivery *event, char *error)
{
#ifdef HAS_POSTGRES
    if (scene.is_postgres)
        return evbus_once_postgres(place->postgres, place->group, event, work, place, error);
#endif
    return evbus_once_sqlite(place->sqlite, place->group, event, work, place, error);
}

/* Where that begins. */
static uintptr_t begin(void)
{
#ifdef HAS_POSTGRES
    if (scene.is_postgres)
        return (uintptr_t)evbus_once_postgres;
#endif
    return (uintptr_t)evbus_once_sqlite;
}

static unsigned number(const char *sql)
{
    unsigned n;
#ifdef HAS_POSTGRES
    if (scene.is_postgres) {
        PGresult *result = PQexec(scene.here.postgres, sql);
        cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(scene.here.postgres));
        n = (unsigned)strtoul(PQgetvalue(result, 0, 0), NULL, 10);
        PQclear(result);
        return n;
    }
#endif
    sqlite3_stmt *row;
    cr_assert_eq(sqlite3_prepare_v2(scene.here.sqlite, sql, -1, &row, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(row), SQLITE_ROW);
    n = (unsigned)sqlite3_column_int(row, 0);
    sqlite3_finalize(row);
    return n;
}

/* --- the scene ---------------------------------------------------------------------------------------------------------- */

static void arrange(const char *where, bool is_postgres)
{
    char error[EVBUS_ERROR_MAX] = "";
    snprintf(scene.where, sizeof scene.where, "%s", where);
    scene.is_postgres = is_postgres;
    scene.path = child_shared(sizeof *scene.path);
    scene.f = crew_bus((struct crew_options){
        .more = ",\"other\"", .ring = "64KiB", .settings = "\"retry\":[\"1ms\",\"1ms\",\"1ms\"]"});
    cr_assert(place_open(&scene.here), "no database");
    int rc = EVBUS_OK;
#ifdef HAS_POSTGRES
    if (is_postgres)
        rc = evbus_once_postgres_prepare(scene.here.postgres, error);
#endif
    if (!is_postgres)
        rc = evbus_once_sqlite_prepare(scene.here.sqlite, error);
    cr_assert_eq(rc, EVBUS_OK, "%s", error);
    cr_assert(run(&scene.here, "CREATE TABLE effect (consumer_group text PRIMARY KEY, n integer)"));
    cr_assert(run(&scene.here, "INSERT INTO effect VALUES ('crew', 0), ('other', 0)"));
    scene.others = crew_join(scene.f.bus, "other", NULL, NULL);
    cr_assert_not_null(scene.others);
}

static void end(void)
{
    evbus_unsubscribe(scene.others);
    fixture_end(&scene.f);
    sqlite3_close(scene.here.sqlite);
#ifdef HAS_POSTGRES
    if (scene.is_postgres)
        PQfinish(scene.here.postgres);
#endif
}

/* A member of the group handles what there is to handle; how many attempts the event has had. */
static uint32_t handle(struct evbus_subscription *sub, const char *group)
{
    struct evbus_delivery event = {.size = sizeof event};
    char error[EVBUS_ERROR_MAX] = "";
    scene.here.group = group;
    int rc = evbus_receive(sub, &event, 0);
    if (rc == EVBUS_ETIMEOUT) {
        struct evbus_group_stat stat = crew_stat(scene.f.bus, group);
        if (stat.lag == 0 && stat.n_pending == 0)
            return 0; /* done already */
        rc = evbus_receive(sub, &event, AWAIT_MS * CLOCK_NS_PER_MS);
    }
    cr_assert_eq(rc, EVBUS_OK, "%s gets nothing", group);
    uint32_t attempt = event.attempt;
    cr_assert_eq(once(&scene.here, &event, error), EVBUS_DONE, "%s: %s", group, error);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    return attempt;
}

/* The member that is killed. What it needs is made before; between begin and ack there is nothing else. */
static int be_member(void *context)
{
    struct place place = {.group = "crew"};
    struct evbus_delivery event = {.size = sizeof event};
    char error[EVBUS_ERROR_MAX] = "";
    (void)context;
    struct evbus *bus = fixture_open(&scene.f, "member", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *sub = crew_join(bus, place.group, NULL, NULL);
    if (sub == NULL || !place_open(&place) || evbus_receive(sub, &event, AWAIT_MS * CLOCK_NS_PER_MS) != EVBUS_OK)
        return 98;
    if (scene.how == NOTED)
        step_note(scene.path, begin());
    else if (scene.how == KILLED_AT_INSTRUCTION)
        step_kill_at(scene.path, scene.instruction);
    else if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0)
        return 97;
    enum evbus_outcome outcome = once(&place, &event, error);
    int rc = evbus_finish(sub, &event, outcome, error);
    step_end();
    if (outcome != EVBUS_DONE || rc != EVBUS_OK)
        fprintf(stderr, "member: outcome %d %s, finish %d\n", (int)outcome, error, rc);
    return outcome == EVBUS_DONE && rc == EVBUS_OK ? 0 : 96;
}

/* Before the child: one more event. Every second time the other group is first. */
static void begin_trial(void)
{
    cr_assert_eq(fixture_publish(scene.f.bus, NULL, "{}"), EVBUS_OK, "%s", evbus_message(scene.f.bus));
    scene.n_events++;
    if (scene.n_events % 2 == 0)
        handle(scene.others, "other");
}

/* Behind it: another member takes over, and each group has had one effect of each event. */
static void end_trial(const char *what, uint32_t at)
{
    scene.n_behind += number("SELECT n FROM effect WHERE consumer_group = 'crew'") == scene.n_events;
    struct evbus_subscription *sub = crew_join(scene.f.bus, "crew", NULL, NULL);
    uint32_t attempt = handle(sub, "crew");
    evbus_unsubscribe(sub);
    if (scene.n_events % 2 != 0)
        handle(scene.others, "other");
    cr_assert_leq(attempt, 2u, "%s %u", what, at);
    unsigned crew = number("SELECT n FROM effect WHERE consumer_group = 'crew'");
    unsigned other = number("SELECT n FROM effect WHERE consumer_group = 'other'");
    unsigned rows = number("SELECT count(*) FROM evbus_processed_event");
    cr_assert(crew == scene.n_events && other == scene.n_events && rows == 2 * scene.n_events,
              "killed at %s %u: of %u events crew has %u effects, other %u, and there are %u rows", what, at,
              scene.n_events, crew, other, rows);
    struct evbus_group_stat stat = crew_stat(scene.f.bus, "crew");
    cr_assert(stat.lag == 0 && stat.n_pending == 0, "%s %u: the event is not done", what, at);
}

/* --- the points --------------------------------------------------------------------------------------------------------- */

/* Once without a child before, for then the linker has bound what is called, here and so in all children. */
static void note_path(void)
{
    begin_trial();
    end_trial("nothing", 0);
    scene.how = NOTED;
    int status = 128 + SIGTRAP; /* its lease thread, which blocks all signals, has come in between */
    for (int again = 0; again < 10 && status == 128 + SIGTRAP; again++) {
        begin_trial();
        struct child child = child_start(be_member, NULL);
        status = child_join(&child);
        end_trial("no instruction", 0);
    }
    cr_assert_eq(status, 0);
    cr_assert_lt(scene.path->n, STEP_PATH_MAX);
    cr_assert_gt(scene.path->n, 300u, "it begins, inserts, works, commits and acknowledges");
    scene.n_behind = 0;
}

/* Each so-manieth; all of them unless in a hurry. */
static void kill_at_instructions(void)
{
    note_path();
    uint32_t n_killed = 0, n = 0, stride = trial_is_full() ? 1 : trial_is_slow() ? 11 : 5;
    uint64_t start = await_now_ms();
    scene.how = KILLED_AT_INSTRUCTION;
    for (uint32_t i = 0; i < scene.path->n; i += stride, n++) {
        scene.instruction = i;
        int status = 0;
        for (int again = 0; again < 10 && status != 128 + SIGKILL; again++) {
            begin_trial();
            struct child child = child_start(be_member, NULL);
            status = child_join(&child);
            end_trial("instruction", i);
        }
        /* SIGTRAP: its lease thread has come there first */
        cr_assert(status == 0 || status == 128 + SIGKILL || status == 128 + SIGTRAP,
                  "instruction %u: the member ended with %d", i, status);
        n_killed += status == 128 + SIGKILL;
    }
    fprintf(stderr, "killed at %u of %u instructions, %u times behind the commit, in %lu ms\n", n_killed, scene.path->n,
            scene.n_behind, (unsigned long)(await_now_ms() - start));
    cr_expect_geq(n_killed, n - n / 20, "it goes another way");
    cr_expect(scene.n_behind > 0 && scene.n_behind < n_killed);
}

static void kill_at_calls(void)
{
    uint64_t start = await_now_ms();
    unsigned n_killed = 0;
    scene.how = KILLED_AT_CALL;
    for (unsigned k = 1;; k++) {
        begin_trial();
        bool is_killed = child_kill_at_call(be_member, NULL, k);
        end_trial("call", k);
        if (!is_killed)
            break;
        n_killed++;
    }
    fprintf(stderr, "killed before and behind each of %u calls, %u times behind the commit, in %lu ms\n", n_killed / 2,
            scene.n_behind, (unsigned long)(await_now_ms() - start));
    cr_expect_geq(n_killed, 20u);
    cr_expect(scene.n_behind > 0 && scene.n_behind < n_killed);
}

static void with_sqlite(const char *mode, void (*body)(void))
{
    char where[300], text[80];
    setenv("TMPDIR", "/dev/shm", 1); /* it is synced some thousand times */
    struct folder folder = folder_make();
    snprintf(where, sizeof where, "%s/once.db", folder.path);
    snprintf(text, sizeof text, "PRAGMA journal_mode = %s", mode);
    sqlite3 *db;
    cr_assert_eq(sqlite3_open(where, &db), SQLITE_OK);
    cr_assert(sqlite_run(db, text));
    sqlite3_close(db);
    arrange(where, false);
    body();
    end();
}

Test(once, with_sqlite_has_one_effect_wherever_in_our_text_its_member_is_killed, .timeout = 600)
{
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    with_sqlite("WAL", kill_at_instructions);
}

Test(once, with_sqlite_has_one_effect_at_whichever_system_call_its_member_is_killed, .timeout = 300)
{
    with_sqlite("WAL", kill_at_calls);
}

Test(once, with_sqlites_rollback_journal_too, .timeout = 300)
{
    with_sqlite("DELETE", kill_at_calls);
}

#ifdef HAS_POSTGRES

static void arrange_postgres(void)
{
    char where[300], sql[80];
    snprintf(where, sizeof where, "%s options='-c search_path=test_%d -c client_min_messages=error'", postgres_url(),
             getpid());
    PGconn *db = PQconnectdb(where);
    snprintf(sql, sizeof sql, "CREATE SCHEMA test_%d", getpid());
    cr_assert(postgres_run(db, sql), "%s", PQerrorMessage(db));
    PQfinish(db);
    arrange(where, true);
}

Test(once, with_postgresql_has_one_effect_wherever_in_our_text_its_member_is_killed, .timeout = 600)
{
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    arrange_postgres();
    kill_at_instructions();
    end();
}

Test(once, with_postgresql_has_one_effect_at_whichever_system_call_its_member_is_killed, .timeout = 300)
{
    arrange_postgres();
    kill_at_calls();
    end();
}

#endif
